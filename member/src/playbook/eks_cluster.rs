//! `contain_eks_cluster`: of a cluster, as its resource says ([`redress_common::eks`]), a pod, a principal's access or the API's
//! public endpoint.
//!
//! - a pod: its node takes no more pods, and a network policy lets nothing in to the pods with the same labels and nothing out
//!   of them. Needs the Kubernetes API ([`super::kubernetes`]), so it leaves the endpoint open.
//! - an access entry: it loses its groups and its access policies, so that the principal's tokens allow nothing. An IAM policy
//!   cannot do that: a token is a signed `GetCallerIdentity`, which no policy denies.
//! - the cluster: the public endpoint is closed, or limited to `PublicAccessCidrs`; the private one is open, for the nodes.
//!
//! The pod may be gone before it is let go: its node is written down in the policy.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redress_common::arn::Arn;
use redress_common::containable;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use redress_common::eks::{self, EntryName, PodName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kubernetes::{Api, Pod};
use crate::native::{Declared, Native, NativeError, planned, typed, untyped};
use crate::wire::{Operation, Protocol, Service, Wire};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_eks_cluster",
    reads: &[
        "eks:DescribeAccessEntry",
        "eks:DescribeCluster",
        "eks:ListAccessEntries",
        "eks:ListAssociatedAccessPolicies",
    ],
    changes: &[
        "eks:AssociateAccessPolicy",
        "eks:DisassociateAccessPolicy",
        "eks:UpdateAccessEntry",
        "eks:UpdateClusterConfig",
    ],
    make: |clients, request| Ok(Box::new(ContainCluster::new(clients.wire.clone(), request)?)),
};

static EKS: Service = Service { name: "eks", signing: "eks", host: "eks", protocol: Protocol::Rest };
static DESCRIBE: Operation = EKS.at("DescribeCluster", "GET", "/clusters/{Name}");
static UPDATE: Operation = EKS.at("UpdateClusterConfig", "POST", "/clusters/{Name}/update-config");
const ENTRY: &str = "/clusters/{Name}/access-entries/{PrincipalArn}";
const ENTRIES: &str = "/clusters/{Name}/access-entries";
static LIST_ENTRIES: Operation = EKS.at("ListAccessEntries", "GET", ENTRIES);
static MORE_ENTRIES: Operation =
    EKS.at("ListAccessEntries", "GET", "/clusters/{Name}/access-entries?nextToken={NextToken}");
static DESCRIBE_ENTRY: Operation = EKS.at("DescribeAccessEntry", "GET", ENTRY);
static UPDATE_ENTRY: Operation = EKS.at("UpdateAccessEntry", "POST", ENTRY);
const POLICIES: &str = "/clusters/{Name}/access-entries/{PrincipalArn}/access-policies";
static LIST_POLICIES: Operation = EKS.at("ListAssociatedAccessPolicies", "GET", POLICIES);
static ASSOCIATE: Operation = EKS.at("AssociateAccessPolicy", "POST", POLICIES);
static DISASSOCIATE: Operation = EKS.at(
    "DisassociateAccessPolicy",
    "DELETE",
    "/clusters/{Name}/access-entries/{PrincipalArn}/access-policies/{PolicyArn}",
);

/// EKS tells a hundred entries a page.
const PAGES: usize = 50;
const MISSING: &str = "ResourceNotFoundException";
/// EKS is at another change of the cluster.
const BUSY: &str = "ResourceInUseException";
/// How long a call waits for EKS, of the 40 seconds that the function has: who invoked it waits, too.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(5) };

/// The playbook on one cluster.
#[derive(Debug)]
struct ContainCluster {
    wire: Wire,
    cluster: String,
    scope: Scope,
    until: Instant,
    /// What the last look found of the pod, which may be gone by the next one.
    pod: Mutex<Seen>,
}

/// What of the cluster is contained.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Endpoint {
        cidrs: Vec<String>,
    },
    /// The access entry with this ARN.
    Access(Arn),
    Workload(Pod),
}

#[derive(Debug, Clone, Default)]
struct Seen {
    node: String,
    labels: Value,
    on_host: bool,
}

impl Scope {
    fn of(request: &RemediateRequest) -> Result<Self, NativeError> {
        let wrong = |name: &str, expected| Err(NativeError::Parameter { name: name.to_owned(), expected });
        let arn = &request.job.resource_arn;
        if let Some(PodName { namespace, pod, .. }) = PodName::of(arn) {
            let pod = Pod { namespace: namespace.to_owned(), name: pod.to_owned() };
            if !pod.is_sound() {
                return wrong("ResourceArn", "that of a pod whose name leaves room for that of its network policy");
            }
            return Ok(Self::Workload(pod));
        }
        if EntryName::of(arn).is_some() {
            return containable::refusal(arn)
                .map_or_else(|| Ok(Self::Access(arn.clone())), |reason| Err(NativeError::Refused(reason)));
        }
        if !arn.resource().starts_with("cluster/") {
            return wrong("ResourceArn", "that of a cluster, of a pod or of the access entry of a user or role");
        }
        let cidrs = match request.parameters.get("PublicAccessCidrs") {
            None => Some(Vec::new()),
            Some(given) => given.as_array().and_then(|cidrs| cidrs.iter().map(cidr).collect()),
        };
        let Some(mut cidrs) = cidrs else {
            return wrong("PublicAccessCidrs", "a list of networks such as `203.0.113.0/24`, none of them `0.0.0.0/0`");
        };
        cidrs.sort();
        Ok(Self::Endpoint { cidrs })
    }
}

/// A network, and not the whole world.
fn cidr(given: &Value) -> Option<String> {
    let text = given.as_str()?;
    let (address, bits) = text.split_once('/')?;
    let address: std::net::IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.parse().is_ok_and(|bits: u8| (1..=most).contains(&bits)).then(|| text.to_owned())
}

impl ContainCluster {
    fn new(wire: Wire, request: &RemediateRequest) -> Result<Self, NativeError> {
        Ok(Self {
            wire,
            cluster: eks::cluster_of(&request.job.resource_arn)
                .and_then(|cluster| cluster.resource().strip_prefix("cluster/").map(str::to_owned))
                .unwrap_or_else(|| request.job.resource_name.clone()),
            scope: Scope::of(request)?,
            until: Instant::now() + PATIENCE,
            pod: Mutex::default(),
        })
    }

    async fn describe(&self) -> Result<Option<Value>, NativeError> {
        match self.wire.call(&DESCRIBE, &json!({ "Name": self.cluster })).await {
            Err(failure) if failure.code() == Some(MISSING) => Ok(None),
            answer => Ok(Some(answer?["cluster"].take())),
        }
    }

    async fn there(&self) -> Result<Value, NativeError> {
        let found = self.describe().await?;
        found.ok_or_else(|| NativeError::NotNow(format!("cluster {} is not there any more", self.cluster)))
    }

    async fn access(&self, cluster: &Value, arn: &Arn) -> Result<Access, NativeError> {
        let form = || NativeError::Form { what: "the resource", native: DECLARED.name };
        let names = EntryName::of(arn).ok_or_else(form)?;
        let by_entries = cluster["accessConfig"]["authenticationMode"] != "CONFIG_MAP";
        let found = if by_entries { self.entry(&names, names.principal(arn.partition())).await? } else { None };
        let Some((principal, entry)) = found else {
            return Err(NativeError::NotNow(format!(
                "{} {} has no access entry in cluster {}; it may come in by the `aws-auth` ConfigMap: remove it there, or close the \
                 cluster's endpoint by `redress contain` of the cluster",
                names.kind, names.name, self.cluster
            )));
        };
        let with = json!({ "Name": self.cluster, "PrincipalArn": principal });
        let answer = self.wire.call(&LIST_POLICIES, &with).await?;
        if answer["nextToken"].is_string() {
            return Err(NativeError::Form { what: "an access entry of so many policies", native: DECLARED.name });
        }
        let policies = answer["associatedAccessPolicies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut policies: Vec<AccessPolicy> = policies.iter().filter_map(AccessPolicy::of).collect();
        policies.sort_by(|one, other| one.policy_arn.cmp(&other.policy_arn));
        let groups = entry["kubernetesGroups"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut groups: Vec<String> = groups.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        groups.sort();
        let kind = entry["type"].as_str().unwrap_or("STANDARD").to_owned();
        Ok(Access { principal_arn: principal, kind, groups, policies })
    }

    /// The entry of a principal, and the principal's ARN: this one or, since it may have a path that nobody told, the one of the
    /// list that is called so.
    async fn entry(&self, names: &EntryName<'_>, plain: String) -> Result<Option<(String, Value)>, NativeError> {
        if let Some(entry) = self.describe_entry(&plain).await? {
            return Ok(Some((plain, entry)));
        }
        let is_its = |principal: &&str| principal.parse().is_ok_and(|arn| names.is_of(&arn));
        let mut token = Value::Null;
        for _ in 0..PAGES {
            let operation = if token.is_null() { &LIST_ENTRIES } else { &MORE_ENTRIES };
            let mut page = self.wire.call(operation, &json!({ "Name": self.cluster, "NextToken": token })).await?;
            let entries = page["accessEntries"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(principal) = entries.iter().filter_map(Value::as_str).find(is_its).map(str::to_owned) {
                return Ok(self.describe_entry(&principal).await?.map(|entry| (principal, entry)));
            }
            token = page["nextToken"].take();
            if token.is_null() {
                return Ok(None);
            }
        }
        Err(NativeError::Form { what: "a cluster of so many access entries", native: DECLARED.name })
    }

    async fn describe_entry(&self, principal: &str) -> Result<Option<Value>, NativeError> {
        let with = json!({ "Name": self.cluster, "PrincipalArn": principal });
        match self.wire.call(&DESCRIBE_ENTRY, &with).await {
            Err(failure) if failure.code() == Some(MISSING) => Ok(None),
            answer => Ok(Some(answer?["accessEntry"].take())),
        }
    }

    async fn workload(&self, cluster: &Value, pod: &Pod) -> Result<Option<Workload>, NativeError> {
        let api = Api::of(self.wire.config(), cluster).await?;
        let policy = api.policy(pod).await?;
        let mut seen = self.seen();
        match &policy {
            Some(policy) if policy.ours => seen.node.clone_from(&policy.node),
            _ => match api.pod(pod).await? {
                Some(found) => seen = Seen { node: found.node, labels: found.labels, on_host: found.on_host },
                // It is gone since; nobody else knew its node.
                None if seen.node.is_empty() => return Ok(None),
                None => {}
            },
        }
        if seen.node.is_empty() {
            return Err(NativeError::NotNow(format!("pod {} is on no node yet", pod.name)));
        }
        let cordoned = api.is_cordoned(&seen.node).await?;
        let workload = Workload {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            node: seen.node.clone(),
            cordoned,
            cut_off: policy.map(|policy| CutOff { ours: policy.ours, labels: policy.labels }),
        };
        if let Ok(mut last) = self.pod.lock() {
            *last = seen;
        }
        Ok(Some(workload))
    }

    fn seen(&self) -> Seen {
        self.pod.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    fn set_endpoint(&self, wanted: &Endpoint) -> Result<Call, NativeError> {
        let mut config = json!({
            "endpointPublicAccess": wanted.public,
            "endpointPrivateAccess": wanted.private,
        });
        if wanted.public {
            config["publicAccessCidrs"] = json!(wanted.cidrs);
        }
        planned(&DECLARED, "eks", "UpdateClusterConfig", &json!({ "Name": self.cluster, "ResourcesVpcConfig": config }))
    }

    fn on_entry(&self, operation: &str, principal: &str, more: &[(&str, Value)]) -> Result<Call, NativeError> {
        let mut with = json!({ "Name": self.cluster, "PrincipalArn": principal });
        for (name, value) in more {
            with[*name] = value.clone();
        }
        planned(&DECLARED, "eks", operation, &with)
    }

    /// The calls that make an access entry what it is to be.
    fn set_access(&self, now: &Access, wanted: &Access) -> Result<Vec<Call>, NativeError> {
        let principal = &now.principal_arn;
        let mut calls = Vec::new();
        if now.groups != wanted.groups {
            calls.push(self.on_entry("UpdateAccessEntry", principal, &[("KubernetesGroups", json!(wanted.groups))])?);
        }
        for policy in
            now.policies.iter().filter(|policy| wanted.policies.iter().all(|one| one.policy_arn != policy.policy_arn))
        {
            calls.push(self.on_entry(
                "DisassociateAccessPolicy",
                principal,
                &[("PolicyArn", json!(policy.policy_arn))],
            )?);
        }
        for policy in wanted.policies.iter().filter(|policy| !now.policies.contains(policy)) {
            let more = [("PolicyArn", json!(policy.policy_arn)), ("AccessScope", policy.access_scope.clone())];
            calls.push(self.on_entry("AssociateAccessPolicy", principal, &more)?);
        }
        Ok(calls)
    }

    fn on_cluster(&self, operation: &str, with: &Value) -> Result<Call, NativeError> {
        planned(&DECLARED, "kubernetes", operation, with)
    }

    fn contain_workload(&self, pod: &Pod, now: &Workload) -> Result<Vec<Call>, NativeError> {
        let seen = self.seen();
        let mut calls = Vec::new();
        match &now.cut_off {
            Some(found) if found.ours => {}
            Some(_) => {
                return Err(NativeError::Refused(
                    "the namespace has a network policy with our name for the pod that Redress did not write; look at it, \
                     remove it, and ask again",
                ));
            }
            None if seen.on_host => {
                return Err(NativeError::Refused(
                    "the pod uses the network of its node, which no network policy meets: contain the node's instance",
                ));
            }
            None if seen.labels.as_object().is_none_or(serde_json::Map::is_empty) => {
                return Err(NativeError::Refused(
                    "the pod has no labels, and a network policy without any would cut off its whole namespace: give it one, \
                     and ask again",
                ));
            }
            None => calls.push(self.on_cluster(
                "CreateNetworkPolicy",
                &json!({ "Namespace": pod.namespace, "Pod": pod.name, "Node": now.node, "Labels": seen.labels }),
            )?),
        }
        if now.cordoned == Some(false) {
            calls.push(self.on_cluster("CordonNode", &json!({ "Node": now.node }))?);
        }
        Ok(calls)
    }

    /// Asks for a change of the cluster once, and waits until EKS has made it.
    async fn update(&self, input: &Value) -> Result<(), NativeError> {
        let wanted = Endpoint::of(&json!({ "resourcesVpcConfig": input["ResourcesVpcConfig"] }));
        let mut asked = false;
        loop {
            let cluster = self.there().await?;
            let status = cluster["status"].as_str().unwrap_or("in an unknown state");
            let at_it = status == "UPDATING";
            if !at_it && Endpoint::of(&cluster) == wanted {
                return Ok(());
            }
            if !at_it && !asked {
                match self.wire.call(&UPDATE, input).await {
                    Err(failure) if failure.code() == Some(BUSY) => {}
                    answer => {
                        answer?;
                        asked = true;
                    }
                }
            }
            if Instant::now() + PAUSE > self.until {
                return Err(NativeError::Underway(format!(
                    "cluster {} is {status}, and its endpoint is not yet as was asked",
                    self.cluster
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes a call of the Kubernetes API.
    async fn tell_cluster(&self, pod: &Pod, call: &Call) -> Result<(), NativeError> {
        let api = Api::of(self.wire.config(), &self.there().await?).await?;
        let node = call.parameters["Node"].as_str().unwrap_or_default();
        match call.operation.as_str() {
            "CreateNetworkPolicy" => api.cut_off(pod, &call.parameters["Labels"], node).await,
            "DeleteNetworkPolicy" => api.let_go(pod).await,
            "CordonNode" => api.cordon(node, true).await,
            "UncordonNode" => api.cordon(node, false).await,
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

#[async_trait]
impl Native for ContainCluster {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(cluster) = self.describe().await? else { return Ok(None) };
        let state = match &self.scope {
            Scope::Endpoint { .. } => State::Endpoint(Endpoint::of(&cluster)),
            Scope::Access(arn) => State::Access(self.access(&cluster, arn).await?),
            Scope::Workload(pod) => match self.workload(&cluster, pod).await? {
                Some(workload) => State::Workload(workload),
                None => return Ok(None),
            },
        };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        match (&self.scope, &state) {
            (Scope::Endpoint { cidrs }, State::Endpoint(now)) => {
                let wanted = Endpoint { public: !cidrs.is_empty(), private: true, cidrs: cidrs.clone() };
                let narrow = !now.public || (now.cidrs == wanted.cidrs && wanted.public && now.private);
                let call = if narrow { None } else { Some(self.set_endpoint(&wanted)?) };
                Ok(Change(call.into_iter().collect()))
            }
            (Scope::Access(_), State::Access(now)) => {
                if now.kind != "STANDARD" {
                    return Err(NativeError::Refused(
                        "the access entry is one of nodes, which EKS keeps for itself: contain the nodes' instances",
                    ));
                }
                let wanted = Access { groups: Vec::new(), policies: Vec::new(), ..now.clone() };
                self.set_access(now, &wanted).map(Change)
            }
            (Scope::Workload(pod), State::Workload(now)) => self.contain_workload(pod, now).map(Change),
            _ => Err(NativeError::Form { what: "the state", native: DECLARED.name }),
        }
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        match (&self.scope, &now, &before) {
            (Scope::Endpoint { .. }, State::Endpoint(now), State::Endpoint(before)) => {
                let call = if now == before { None } else { Some(self.set_endpoint(before)?) };
                Ok(Change(call.into_iter().collect()))
            }
            (Scope::Access(_), State::Access(now), State::Access(before)) => self.set_access(now, before).map(Change),
            (Scope::Workload(pod), State::Workload(now), State::Workload(before)) => {
                let mut calls = Vec::new();
                if now.cordoned == Some(true) && before.cordoned == Some(false) {
                    calls.push(self.on_cluster("UncordonNode", &json!({ "Node": before.node }))?);
                }
                if now.cut_off.as_ref().is_some_and(|found| found.ours) && before.cut_off.is_none() {
                    let with = json!({ "Namespace": pod.namespace, "Pod": pod.name });
                    calls.push(self.on_cluster("DeleteNetworkPolicy", &with)?);
                }
                Ok(Change(calls))
            }
            _ => Err(NativeError::Form { what: "the state", native: DECLARED.name }),
        }
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let form = || NativeError::Form { what: "a call", native: DECLARED.name };
        let operation = match (call.service.as_str(), call.operation.as_str()) {
            ("eks", "UpdateClusterConfig") => return self.update(&call.parameters).await,
            ("eks", "UpdateAccessEntry") => &UPDATE_ENTRY,
            ("eks", "AssociateAccessPolicy") => &ASSOCIATE,
            ("eks", "DisassociateAccessPolicy") => &DISASSOCIATE,
            ("kubernetes", _) => {
                let Scope::Workload(pod) = &self.scope else { return Err(form()) };
                return self.tell_cluster(pod, call).await;
            }
            _ => return Err(form()),
        };
        Ok(self.wire.call(operation, &call.parameters).await.map(drop)?)
    }

    /// Each call may be made again: it sets what it says.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let read = |image: &Image| typed::<State>(&image.state, "the state", DECLARED.name);
        match (read(now), read(before)) {
            (Ok(State::Access(now)), Ok(State::Access(before))) => {
                now.kind == before.kind
                    && (now.groups.is_empty() || now.groups == before.groups)
                    && now.policies.iter().all(|policy| before.policies.contains(policy))
            }
            (Ok(State::Workload(now)), Ok(State::Workload(before))) => {
                now.node == before.node && now.cut_off.as_ref().is_none_or(|found| found.ours)
            }
            _ => false,
        }
    }
}

/// The image's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Endpoint(Endpoint),
    Access(Access),
    Workload(Workload),
}

/// Who reaches the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Endpoint {
    public: bool,
    private: bool,
    /// None where it is not public: they count for nothing then.
    cidrs: Vec<String>,
}

impl Endpoint {
    fn of(cluster: &Value) -> Self {
        let config = &cluster["resourcesVpcConfig"];
        let public = config["endpointPublicAccess"] == true;
        let cidrs = config["publicAccessCidrs"].as_array().filter(|_| public).map(Vec::as_slice).unwrap_or_default();
        let mut cidrs: Vec<String> = cidrs.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        cidrs.sort();
        Self { public, private: config["endpointPrivateAccess"] == true, cidrs }
    }
}

/// What an IAM principal may do in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Access {
    principal_arn: String,
    kind: String,
    groups: Vec<String>,
    policies: Vec<AccessPolicy>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct AccessPolicy {
    policy_arn: String,
    /// As EKS writes it.
    access_scope: Value,
}

impl AccessPolicy {
    fn of(answer: &Value) -> Option<Self> {
        let mut scope = answer["accessScope"].clone();
        // EKS tells a list of none of a scope that may have none.
        if let Some(scope) = scope.as_object_mut().filter(|scope| scope.get("namespaces") == Some(&json!([]))) {
            scope.remove("namespaces");
        }
        Some(Self { policy_arn: answer["policyArn"].as_str()?.to_owned(), access_scope: scope })
    }
}

/// A pod's containment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Workload {
    namespace: String,
    pod: String,
    node: String,
    /// `None` when the node is gone.
    cordoned: Option<bool>,
    cut_off: Option<CutOff>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct CutOff {
    ours: bool,
    labels: Value,
}

#[cfg(test)]
#[path = "eks_cluster_tests.rs"]
mod tests;
