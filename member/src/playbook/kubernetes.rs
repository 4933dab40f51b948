//! The Kubernetes API of a cluster of EKS, as far as a compromised pod needs it: read the pod, cordon its node, cut it off by
//! a network policy. Nothing else is asked, and the cluster's own rights (`ssm-documents/playbooks/kubernetes/eks-rbac.yaml`) allow
//! nothing else.
//!
//! Who asks is told by a token: a request to STS, signed and not sent, which EKS sends to learn the role. It lasts for
//! minutes, goes to this cluster only (its name is signed), and is in no error and no log. The cluster is known by its own
//! certificate authority, and no other is trusted.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use redress_common::aws::config::http_client_trusting;
use redress_common::aws::failure::AwsFailure;
use redress_common::names;
use serde_json::{Value, json};

use crate::native::NativeError;
use crate::wire::encoded;

/// What EKS's tokens begin with.
const PREFIX: &str = "k8s-aws-v1.";
/// For how long a token says that it is good; EKS allows fifteen minutes.
const LASTS: Duration = Duration::from_secs(60);
const MERGE: &str = "application/merge-patch+json";
/// What our policies are known by, and where they say what they are for.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const US: &str = "redress";
const NODE: &str = "redress/node";
/// What the name of a policy begins with; the pod's follows.
const POLICY: &str = "redress-contain-";
/// Kubernetes takes names of so many characters.
const LONGEST: usize = 253;

const FORM: NativeError = NativeError::Form { what: "an answer of the cluster", native: "contain_eks_cluster" };

/// A pod of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Pod {
    fn policies(&self) -> String {
        format!("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", encoded(&self.namespace))
    }

    fn policy_name(&self) -> String {
        format!("{POLICY}{}", self.name)
    }

    fn policy(&self) -> String {
        format!("{}/{}", self.policies(), encoded(&self.policy_name()))
    }

    /// Whether both are names that Kubernetes takes, and there is room for that of the policy.
    pub(super) fn is_sound(&self) -> bool {
        let sound =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        sound(&self.namespace) && sound(&self.name) && self.policy_name().len() <= LONGEST
    }
}

/// What is read of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) labels: Value,
    pub(super) node: String,
    /// It has its node's network, which no network policy meets.
    pub(super) on_host: bool,
}

/// What is read of the policy that has our name for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// Whether we wrote it, and it cuts off.
    pub(super) ours: bool,
    /// The node of the pod, when it was written: the pod may be gone.
    pub(super) node: String,
    pub(super) labels: Value,
}

/// The API of one cluster.
#[derive(Debug)]
pub(super) struct Api {
    endpoint: String,
    authority: Vec<u8>,
    token: String,
    config: SdkConfig,
}

impl Api {
    /// Of the cluster that EKS described.
    ///
    /// # Errors
    /// When EKS does not tell where it is, or there are no credentials.
    pub(super) async fn of(config: &SdkConfig, cluster: &Value) -> Result<Self, NativeError> {
        let text = |pointer: &str| cluster.pointer(pointer).and_then(Value::as_str);
        let endpoint = text("/endpoint").filter(|endpoint| endpoint.starts_with("https://")).ok_or(FORM)?.to_owned();
        let authority = text("/certificateAuthority/data").and_then(|data| base64::decode(data).ok()).ok_or(FORM)?;
        if !authority.starts_with(b"-----BEGIN CERTIFICATE-----") {
            return Err(FORM);
        }
        let token = token(config, text("/name").ok_or(FORM)?, SystemTime::now()).await.ok_or_else(|| {
            NativeError::NotNow("no token for the cluster could be made: there are no credentials".to_owned())
        })?;
        Ok(Self { endpoint, authority, token, config: config.clone() })
    }

    /// The pod, when there is one.
    pub(super) async fn pod(&self, pod: &Pod) -> Result<Option<Found>, NativeError> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", encoded(&pod.namespace), encoded(&pod.name));
        let Some(answer) = self.get("GetPod", path).await? else { return Ok(None) };
        let node = answer.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().to_owned();
        let labels = answer.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
        Ok(Some(Found { labels, node, on_host: answer.pointer("/spec/hostNetwork") == Some(&json!(true)) }))
    }

    /// The policy of our name, when there is one.
    pub(super) async fn policy(&self, pod: &Pod) -> Result<Option<Policy>, NativeError> {
        let Some(answer) = self.get("GetNetworkPolicy", pod.policy()).await? else { return Ok(None) };
        let spec = &answer["spec"];
        let labels = spec.pointer("/podSelector/matchLabels").cloned().unwrap_or_else(|| json!({}));
        let allows = |name: &str| spec[name].as_array().is_some_and(|rules| !rules.is_empty());
        let types = spec["policyTypes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let cuts_off = ["Egress", "Ingress"].iter().all(|kind| types.contains(&json!(kind)));
        let metadata = &answer["metadata"];
        Ok(Some(Policy {
            ours: metadata["labels"][MANAGED_BY] == US && cuts_off && !allows("ingress") && !allows("egress"),
            node: metadata["annotations"][NODE].as_str().unwrap_or_default().to_owned(),
            labels,
        }))
    }

    /// Whether the node takes no more pods; `None` when there is no such node.
    pub(super) async fn is_cordoned(&self, node: &str) -> Result<Option<bool>, NativeError> {
        let answer = self.get("GetNode", format!("/api/v1/nodes/{}", encoded(node))).await?;
        Ok(answer.map(|node| node.pointer("/spec/unschedulable") == Some(&json!(true))))
    }

    /// Has a node take no more pods, or take them again.
    pub(super) async fn cordon(&self, node: &str, cordoned: bool) -> Result<(), NativeError> {
        let value = if cordoned { json!(true) } else { Value::Null };
        let patch = json!({ "spec": { "unschedulable": value } });
        let path = format!("/api/v1/nodes/{}", encoded(node));
        self.send("PatchNode", "PATCH", path, Some((MERGE, patch))).await.map(drop).map_err(told)
    }

    /// Lets nothing in to the pods with these labels and nothing out of them.
    pub(super) async fn cut_off(&self, pod: &Pod, labels: &Value, node: &str) -> Result<(), NativeError> {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {
                "name": pod.policy_name(),
                "namespace": pod.namespace,
                "labels": { MANAGED_BY: US },
                "annotations": { NODE: node },
            },
            "spec": { "podSelector": { "matchLabels": labels }, "policyTypes": ["Ingress", "Egress"] },
        });
        let sent = self.send("CreateNetworkPolicy", "POST", pod.policies(), Some(("application/json", policy))).await;
        match sent {
            // A run that was cut off made it; whether it is ours is seen by whoever reads it back.
            Err(failure) if failure.code() == Some("AlreadyExists") => Ok(()),
            sent => sent.map(drop).map_err(told),
        }
    }

    /// Removes the policy that cuts the pod off.
    pub(super) async fn let_go(&self, pod: &Pod) -> Result<(), NativeError> {
        match self.send("DeleteNetworkPolicy", "DELETE", pod.policy(), None).await {
            Err(failure) if failure.code() == Some("NotFound") => Ok(()),
            sent => sent.map(drop).map_err(told),
        }
    }

    async fn get(&self, operation: &'static str, path: String) -> Result<Option<Value>, NativeError> {
        match self.send(operation, "GET", path, None).await {
            Err(failure) if failure.code() == Some("NotFound") => Ok(None),
            answer => answer.map(Some).map_err(told),
        }
    }

    async fn send(
        &self,
        operation: &'static str,
        method: &'static str,
        path: String,
        body: Option<(&'static str, Value)>,
    ) -> Result<Value, AwsFailure> {
        let mut request = HttpRequest::new(SdkBody::empty());
        if let Some((kind, body)) = body {
            *request.body_mut() = SdkBody::from(body.to_string());
            request.headers_mut().insert("content-type", kind);
        }
        request.headers_mut().insert("accept", "application/json");
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token));
        let written = request.set_method(method).is_ok() && request.set_uri(path).is_ok();
        let client = http_client_trusting(&self.authority).filter(|_| written);
        let Some(client) = client else {
            return Err(AwsFailure::refused(operation, "NotSent", "the request could not be built"));
        };
        let mut call = Operation::builder()
            .service_name("kubernetes")
            .operation_name(operation)
            .endpoint_url(&self.endpoint)
            .no_auth()
            .http_client(client)
            .standard_retry(&self.config.retry_config().cloned().unwrap_or_else(RetryConfig::standard))
            .timeout_config(self.config.timeout_config().cloned().unwrap_or_else(TimeoutConfig::disabled));
        if let Some(sleep) = self.config.sleep_impl() {
            call = call.sleep_impl(sleep);
        }
        let call =
            call.serializer(|request: HttpRequest| Ok(request)).deserializer::<_, ErrorMetadata>(understood).build();
        call.invoke(request).await.map_err(|error| AwsFailure::of(operation, &error))
    }
}

/// What failed, and what to do where the cluster does not know who asks.
fn told(failure: AwsFailure) -> NativeError {
    match failure.code() {
        Some("Unauthorized") => NativeError::NotNow(format!(
            "the cluster does not let the function's role in ({failure}): apply kubernetes/eks-rbac.yaml to it, and give \
             role {} an access entry in group redress-contain, as that file says",
            names::contain_role("Compute")
        )),
        _ => NativeError::Aws(failure),
    }
}

/// What Kubernetes says: an object, or a `Status` with a reason.
fn understood(response: &HttpResponse) -> Result<Value, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    let parsed: Result<Value, _> = serde_json::from_slice(body);
    if response.status().is_success() {
        return parsed.map_err(OrchestratorError::other);
    }
    let status = parsed.unwrap_or_default();
    let reason = status["reason"].as_str().filter(|reason| !reason.is_empty()).map(str::to_owned);
    let reason = reason.unwrap_or_else(|| format!("Status{}", response.status().as_u16()));
    let metadata = ErrorMetadata::builder().code(reason);
    let metadata = match status["message"].as_str() {
        Some(message) => metadata.message(message),
        None => metadata,
    };
    Err(OrchestratorError::operation(metadata.build()))
}

/// The token by which EKS knows the function's role: a signed request to STS's `GetCallerIdentity`, in base64.
async fn token(config: &SdkConfig, cluster: &str, now: SystemTime) -> Option<String> {
    let region = config.region()?.as_ref();
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = format!("https://sts.{region}.{suffix}/?Action=GetCallerIdentity&Version=2011-06-15");
    let identity = config.credentials_provider()?.provide_credentials().await.ok()?.into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LASTS);
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now)
        .settings(settings)
        .build()
        .ok()?;
    let headers = [("x-k8s-aws-id", cluster)];
    let signable = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(&[])).ok()?;
    let (instructions, _) = sign(signable, &parameters.into()).ok()?.into_parts();
    let signed = instructions.params().iter().map(|(name, value)| format!("&{}={}", encoded(name), encoded(value)));
    let url: String = std::iter::once(url).chain(signed).collect();
    let safe = |c| match c {
        '+' => Some('-'),
        '/' => Some('_'),
        '=' => None,
        c => Some(c),
    };
    Some(format!("{PREFIX}{}", base64::encode(url).chars().filter_map(safe).collect::<String>()))
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
pub(super) mod tests;
