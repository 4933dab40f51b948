//! EKS as far as moto lacks it: who has access to a cluster, and a Kubernetes API behind each cluster's endpoint.
//!
//! What a cluster is otherwise, moto holds: its answers are completed here. A cluster's API is an HTTPS server of its own on
//! loopback, with an authority of its own; it lets in whom an access entry lets in, and to what the entry's policies or the
//! cluster's own RBAC allow ([`endpoint`]). It answers whatever the cluster's endpoint is set to: the lab has no networks.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::ids::Region;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::service::{Aws, AwsError, Caller, Request, Service};

mod access;
mod endpoint;
mod objects;
mod rbac;

use access::{Access, AccessError, User};
use objects::{Asked, Objects};

const ANSWERED: [&str; 8] = [
    "AssociateAccessPolicy",
    "CreateAccessEntry",
    "DeleteAccessEntry",
    "DescribeAccessEntry",
    "DisassociateAccessPolicy",
    "ListAccessEntries",
    "ListAssociatedAccessPolicies",
    "UpdateAccessEntry",
];

/// The service.
#[derive(Default)]
pub struct Eks {
    clusters: Mutex<BTreeMap<Key, Serving>>,
}

/// Account, Region and name.
type Key = (String, String, String);

/// A cluster and its server, which ends with it.
struct Serving {
    cluster: Arc<Cluster>,
    server: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What is behind a cluster's endpoint.
pub struct Cluster {
    name: String,
    endpoint: String,
    /// The authority that vouches for the endpoint: PEM, in base64.
    authority: String,
    access: Mutex<Access>,
    objects: Mutex<Objects>,
    seen: Mutex<Vec<Seen>>,
}

/// A request that somebody made to a cluster's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it arrived.
    pub at: Timestamp,
    /// From arrival to answer, in microseconds.
    pub micros: u64,
    /// By Kubernetes' name; empty for somebody who was not let in.
    pub user: String,
    /// `get`, `patch`, …
    pub verb: &'static str,
    /// The API group; empty for the core one.
    pub group: &'static str,
    /// `pods`
    pub resource: &'static str,
    /// HTTP status.
    pub status: u16,
}

impl Cluster {
    /// What `kubectl apply` does by a person who may do everything: each document of a manifest is made, or put in the place
    /// of what has its name.
    ///
    /// # Errors
    /// With what is wrong with a document.
    pub fn apply(&self, manifest: &str) -> Result<(), String> {
        for document in manifest.split("\n---") {
            let object: Value = serde_saphyr::from_str(document).map_err(|error| error.to_string())?;
            locked(&self.objects).apply(object)?;
        }
        Ok(())
    }

    /// The object of a path such as `/api/v1/nodes/node-1`.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Value> {
        locked(&self.objects).get(path).cloned()
    }

    /// Takes an object away; whether there was one.
    pub fn remove(&self, path: &str) -> bool {
        locked(&self.objects).remove(path).is_some()
    }

    /// Whether the API would do this for a caller of AWS with a good token.
    #[must_use]
    pub fn lets(&self, caller: &Caller, method: &str, path: &str) -> bool {
        let (Some(asked), Some(user)) = (Asked::of(method, path), locked(&self.access).user(caller)) else {
            return false;
        };
        allows(&locked(&self.objects), &user, &asked)
    }

    /// Every request to the API so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.seen).clone()
    }
}

impl Eks {
    /// A cluster that was made, or was described once.
    #[must_use]
    pub fn cluster(&self, account: &str, region: &str, name: &str) -> Option<Arc<Cluster>> {
        let key = (account.to_owned(), region.to_owned(), name.to_owned());
        locked(&self.clusters).get(&key).map(|serving| serving.cluster.clone())
    }

    fn known(&self, request: &Request, name: &str) -> Result<Arc<Cluster>, AwsError> {
        let found = self.cluster(&request.caller.account, &request.region, name);
        found.ok_or_else(|| not_found(format!("No cluster found for name: {name}.")))
    }

    /// The cluster of that name, whose server is started when it is new.
    async fn serving(&self, request: &Request, name: &str, aws: Arc<dyn Aws>) -> io::Result<Arc<Cluster>> {
        if let Some(cluster) = self.cluster(&request.caller.account, &request.region, name) {
            return Ok(cluster);
        }
        let (listener, authority) = endpoint::listen().await?;
        let cluster = Arc::new(Cluster {
            name: name.to_owned(),
            endpoint: format!("https://{}", listener.address()?),
            authority,
            access: Mutex::default(),
            objects: Mutex::default(),
            seen: Mutex::default(),
        });
        let key = (request.caller.account.clone(), request.region.clone(), name.to_owned());
        // Of two who describe it at once the first one's is kept.
        let mut clusters = locked(&self.clusters);
        let serving = clusters.entry(key).or_insert_with(|| {
            let server = tokio::spawn(endpoint::serve(listener, cluster.clone(), aws));
            Serving { cluster, server }
        });
        Ok(serving.cluster.clone())
    }
}

#[async_trait]
impl Service for Eks {
    fn name(&self) -> &'static str {
        "eks"
    }

    fn answers(&self, operation: &str) -> bool {
        ANSWERED.contains(&operation)
    }

    fn resources(&self, request: &Request) -> Vec<String> {
        let partition =
            Region::from_str(&request.region).map_or(Partition::Aws, |region| Partition::of_region(&region));
        let begin = format!("arn:{}:eks:{}:{}", partition.as_str(), request.region, request.caller.account);
        let Some(Path { cluster, principal, .. }) = Path::of(&request.path) else { return Vec::new() };
        match principal {
            None => vec![format!("{begin}:cluster/{cluster}")],
            Some(principal) => vec![format!("{begin}:{}", access::resource(cluster, principal))],
        }
    }

    async fn handle(&self, request: Request, _aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        let unknown = || AwsError::new("InvalidParameterException", "the path names no cluster");
        let Path { cluster: name, principal, policy } = Path::of(&request.path).ok_or_else(unknown)?;
        let cluster = self.known(&request, name)?;
        let begin = self.resources(&request).pop().unwrap_or_default();
        let mut access = locked(&cluster.access);
        let (principal, body) = (principal.unwrap_or_default(), &request.body);
        let now = Timestamp::now().as_second();
        let told = match request.operation.as_str() {
            "CreateAccessEntry" => access.create(name, &begin, body, now),
            "DescribeAccessEntry" => access.describe(principal),
            "UpdateAccessEntry" => access.update(principal, body, now),
            "DeleteAccessEntry" => access.delete(principal),
            "ListAccessEntries" => Ok(access.list()),
            "AssociateAccessPolicy" => access.associate(principal, body, now),
            "DisassociateAccessPolicy" => access.disassociate(principal, policy.unwrap_or_default()),
            _ => access.policies(principal),
        };
        told.map_err(AwsError::from)
    }

    fn completes(&self, operation: &str) -> bool {
        matches!(operation, "CreateCluster" | "DeleteCluster" | "DescribeCluster")
    }

    async fn complete(&self, request: Request, answer: &mut Value, aws: Arc<dyn Aws>) -> Result<(), AwsError> {
        let Some(name) = answer["cluster"]["name"].as_str().map(str::to_owned) else { return Ok(()) };
        if request.operation == "DeleteCluster" {
            let key = (request.caller.account.clone(), request.region.clone(), name);
            locked(&self.clusters).remove(&key);
            return Ok(());
        }
        let cluster = self.serving(&request, &name, aws).await.map_err(|error| AwsError {
            status: 500,
            code: "ServerException".to_owned(),
            message: format!("the lab could not start an API for cluster {name}: {error}"),
        })?;
        let mut access = locked(&cluster.access);
        if request.operation == "CreateCluster" {
            access.begin(&request.body["accessConfig"]);
        }
        answer["cluster"]["endpoint"] = json!(cluster.endpoint);
        answer["cluster"]["certificateAuthority"] = json!({ "data": cluster.authority });
        answer["cluster"]["accessConfig"] = json!({ "authenticationMode": access.mode() });
        Ok(())
    }
}

/// What the path of a request about access names. It is decoded: principals and policies hold slashes.
#[derive(Debug, PartialEq, Eq)]
struct Path<'a> {
    cluster: &'a str,
    principal: Option<&'a str>,
    policy: Option<&'a str>,
}

impl<'a> Path<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let (cluster, rest) = path.strip_prefix("/clusters/")?.split_once("/access-entries")?;
        let (principal, policy) = match rest.split_once("/access-policies") {
            Some((principal, policy)) => (principal, policy),
            None => (rest, ""),
        };
        let named = |part: &'a str| Some(part.trim_start_matches('/')).filter(|part| !part.is_empty());
        Some(Self { cluster, principal: named(principal), policy: named(policy) })
    }
}

/// Whether an access policy of EKS's or the cluster's own RBAC allows it.
fn allows(objects: &Objects, user: &User, asked: &Asked<'_>) -> bool {
    let wanted = asked.wanted();
    user.is_allowed(&wanted) || rbac::allows(objects, user, &wanted)
}

fn not_found(message: String) -> AwsError {
    AwsError { status: 404, code: "ResourceNotFoundException".to_owned(), message }
}

impl From<AccessError> for AwsError {
    fn from(error: AccessError) -> Self {
        let message = error.to_string();
        match error {
            AccessError::Missing(_) | AccessError::NotAssociated { .. } => not_found(message),
            AccessError::Exists(_) => Self { status: 409, code: "ResourceInUseException".to_owned(), message },
            AccessError::ByConfigMap | AccessError::NotStandard => Self::new("InvalidRequestException", message),
            AccessError::Parameter(_) => Self::new("InvalidParameterException", message),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
