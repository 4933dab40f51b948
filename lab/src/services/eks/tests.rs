//! The service as the gateway calls it, and a cluster's API over its real endpoint, as far as nobody's signature is needed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::service::Credentials;
use crate::services::fake::request;

const ACCOUNT: &str = "111122223333";
const ROLE: &str = "arn:aws:iam::111122223333:role/deploy";

/// Knows one token: the caller's name for the cluster's.
struct Signers;

#[async_trait]
impl Aws for Signers {
    async fn session(&self, _: &str, _: &str, _: &str) -> Result<Credentials, AwsError> {
        Err(AwsError::new("Unexpected", "session"))
    }

    async fn call(&self, _: &Credentials, _: &str, _: &str, _: &str, _: Value) -> Result<Value, AwsError> {
        Err(AwsError::new("Unexpected", "call"))
    }

    async fn authorise(&self, _: &Caller, _: &str, _: &str, _: Value) -> Result<(), AwsError> {
        Ok(())
    }

    async fn token_signer(&self, token: &str, cluster: &str) -> Result<Caller, AwsError> {
        let name = token.strip_suffix(cluster).ok_or_else(|| AwsError::new("Unauthorized", "another cluster's"))?;
        Ok(Caller {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{}/s", name.trim_end_matches('@')),
        })
    }

    async fn emit(&self, _: &str, _: &str, _: &str, _: &str, _: Vec<String>, _: Value) {}
}

async fn made(eks: &Eks, config: Value) -> Value {
    let mut answer = json!({ "cluster": { "name": "prod", "status": "ACTIVE", "endpoint": "https://moto" } });
    let asked = request("eks", ACCOUNT, "CreateCluster", json!({ "name": "prod", "accessConfig": config }));
    eks.complete(asked, &mut answer, Arc::new(Signers)).await.unwrap();
    answer["cluster"].take()
}

async fn on_entry(eks: &Eks, operation: &str, path: &str, body: Value) -> Result<Value, AwsError> {
    let mut asked = request("eks", ACCOUNT, operation, body);
    path.clone_into(&mut asked.path);
    eks.handle(asked, Arc::new(Signers)).await
}

/// One request, by a client that trusts the authority which EKS tells.
async fn ask(cluster: &Value, authority: &Value, token: &str, line: &str) -> io::Result<String> {
    let pem = BASE64.decode(authority["certificateAuthority"]["data"].as_str().unwrap()).unwrap();
    let pem = String::from_utf8(pem).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(BASE64.decode(der).unwrap())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = cluster["endpoint"].as_str().unwrap().strip_prefix("https://").unwrap();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn whom_an_entry_lets_in_is_asked_by_its_cluster_and_nobody_else() {
    let eks = Eks::default();
    let cluster = made(&eks, json!({ "authenticationMode": "API" })).await;
    let entries = "/clusters/prod/access-entries";
    let entry = json!({ "principalArn": ROLE, "kubernetesGroups": ["nodes"] });
    let told = on_entry(&eks, "CreateAccessEntry", entries, entry).await.unwrap();
    let arn = told["accessEntry"]["accessEntryArn"].as_str().unwrap();
    assert!(arn.contains(":access-entry/prod/role/111122223333/deploy/"), "{arn}");
    let manifest = "{apiVersion: v1, kind: Node, metadata: {name: node-1}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: nodes}, rules: [{apiGroups: [''], resources: [nodes], verbs: [get]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: nodes}, roleRef: {kind: ClusterRole, name: nodes}, subjects: [{kind: Group, name: nodes}]}";
    let inside = eks.cluster(ACCOUNT, "us-east-1", "prod").unwrap();
    inside.apply(manifest).unwrap();
    let began = Timestamp::now();
    for (token, line, wanted) in [
        ("deploy@prod", "GET /api/v1/nodes/node-1", "HTTP/1.1 200"),
        ("deploy@prod", "GET /api/v1/nodes/gone", "HTTP/1.1 404"),
        ("deploy@prod", "GET /api/v1/nodes", "HTTP/1.1 403"),
        ("deploy@test", "GET /api/v1/nodes/node-1", "HTTP/1.1 401"),
        ("other@prod", "GET /api/v1/nodes/node-1", "HTTP/1.1 401"),
    ] {
        let answer = ask(&cluster, &cluster, token, line).await.unwrap();
        assert!(answer.starts_with(wanted), "{token} {line}: {answer}");
        assert!(answer.contains(r#""apiVersion":"v1""#), "an object, or a Status: {answer}");
    }
    let noted = inside.seen();
    assert!(noted.is_sorted_by_key(|seen| seen.at) && noted.iter().all(|seen| seen.at >= began), "{noted:?}");
    let seen: Vec<(&str, u16)> = noted.iter().map(|seen| (seen.verb, seen.status)).collect();
    assert_eq!(seen, [("get", 200), ("get", 404), ("list", 403), ("get", 401), ("get", 401)]);

    let of_it = format!("{entries}/{ROLE}");
    on_entry(&eks, "DeleteAccessEntry", &of_it, Value::Null).await.unwrap();
    let answer = ask(&cluster, &cluster, "deploy@prod", "GET /api/v1/nodes/node-1").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn each_cluster_has_an_authority_of_its_own_and_ends_with_its_server() {
    let (eks, others) = (Eks::default(), Eks::default());
    let (one, other) = (made(&eks, json!({})).await, made(&others, json!({})).await);
    assert!(ask(&one, &other, "x", "GET /api/v1/nodes/node-1").await.is_err(), "another's authority is not trusted");
    assert_eq!(one["accessConfig"]["authenticationMode"], "CONFIG_MAP");
    let refused =
        on_entry(&eks, "DescribeAccessEntry", &format!("/clusters/prod/access-entries/{ROLE}"), Value::Null).await;
    assert_eq!(refused.unwrap_err().code, "InvalidRequestException");
    let mut answer = json!({ "cluster": { "name": "prod" } });
    let gone = request("eks", ACCOUNT, "DeleteCluster", Value::Null);
    eks.complete(gone, &mut answer, Arc::new(Signers)).await.unwrap();
    assert!(eks.cluster(ACCOUNT, "us-east-1", "prod").is_none());
}

#[test]
fn a_path_names_cluster_principal_and_policy_with_their_slashes() {
    let policy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";
    let whole = format!("/clusters/prod/access-entries/{ROLE}/access-policies/{policy}");
    assert_eq!(Path::of(&whole), Some(Path { cluster: "prod", principal: Some(ROLE), policy: Some(policy) }));
    let all = Path { cluster: "prod", principal: None, policy: None };
    assert_eq!(Path::of("/clusters/prod/access-entries"), Some(all));
    assert_eq!(Path::of("/clusters/prod"), None);
}
