//! A server on this machine that answers as the API of a Kubernetes cluster does, over TLS, and what is asked of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_smithy_types::base64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::*;
use crate::testing::FakeAws;

// Of this test alone: an authority, and a certificate of 127.0.0.1 and its key. Good from 2020 to 2120.
const AUTHORITY: &str = "MIIBXDCCAQOgAwIBAgIBATAKBggqhkjOPQQDAjAVMRMwEQYDVQQDDAprdWJlcm5ldGVzMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAVMRMwEQYDVQQDDAprdWJlcm5ldGVzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEonNgKeNJS60DdLSKHKUjrAAg5eYrdVpMHcBiUydiJ+/a1Kzm/GcFtxOfaMhbkUrx/qCgvO7Aw4/eNiQ5gzDC8aNCMEAwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAgQwHQYDVR0OBBYEFJX5d00V33jO1cRcaXKpQsrV0vknMAoGCCqGSM49BAMCA0cAMEQCIArlFVk9hRUB0Ee0gNkIpn4JtnYIoiHI5Yg1Ema4nDAMAiAp2jzvaMVsDGdUctYqCV1chcYIVNNROKnpoQn4kneusw==";
const CERTIFICATE: &str = "MIIBnjCCAUSgAwIBAgIBAjAKBggqhkjOPQQDAjAVMRMwEQYDVQQDDAprdWJlcm5ldGVzMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAZMRcwFQYDVQQDDA5rdWJlLWFwaXNlcnZlcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCw6kntl9sNguuNPJbb8Qm5IriU5dfW5HmnERuMYR+BLOmFHBPZL5+Ox/IcmlTm+m7W9hJeaj9bXX7fNeMjcHj6jfzB9MBsGA1UdEQQUMBKHBH8AAAGCCmt1YmVybmV0ZXMwCQYDVR0TBAIwADATBgNVHSUEDDAKBggrBgEFBQcDATAdBgNVHQ4EFgQUbAwDbdfWEicWfQ3m1bsPOlnnb0MwHwYDVR0jBBgwFoAUlfl3TRXfeM7VxFxpcqlCytXS+ScwCgYIKoZIzj0EAwIDSAAwRQIgRt/kscU3wM60DICSdUlthGzpUF7+eN5M9zLinL+dHxcCIQCI/9QpKLcIln52KzPUQpcLUTO4TSWxyh+CgXq2Xb3xxw==";
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEdJyNkre7adGEdbO/jpVn1xDpoy/2I0CY939w6qvu7ChRANCAAQsOpJ7ZfbDYLrjTyW2/EJuSK4lOXX1uR5pxEbjGEfgSzphRwT2S+fjsfyHJpU5vpu1vYSXmo/W11+3zXjI3B4+";

fn pem(der: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
}

/// A cluster with its objects by path.
#[derive(Debug, Clone, Default)]
pub(in crate::playbook) struct Cluster {
    pub(in crate::playbook) endpoint: String,
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// With pod `web-1` of namespace `shop` on node `node-1`.
    pub(in crate::playbook) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = Self { endpoint: format!("https://{}", listener.local_addr().unwrap()), ..Self::default() };
        let labels = json!({ "app": "web", "pod-template-hash": "5d9c" });
        let pod = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "web-1", "namespace": "shop",
            "labels": labels }, "spec": { "nodeName": "node-1" } });
        cluster.put("/api/v1/namespaces/shop/pods/web-1", pod);
        let node = json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": "node-1" }, "spec": {} });
        cluster.put("/api/v1/nodes/node-1", node);
        let certificate = CertificateDer::from(base64::decode(CERTIFICATE).unwrap());
        let key = PrivatePkcs8KeyDer::from(base64::decode(KEY).unwrap());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        let (serving, acceptor) = (cluster.clone(), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (serving, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Some((head, body)) = request(&mut stream).await else { return };
                    let (status, answer) = serving.answer(&head, &body);
                    let answer = answer.to_string();
                    let head = format!(
                        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        answer.len()
                    );
                    let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        cluster
    }

    /// As EKS describes it.
    pub(in crate::playbook) fn described(&self) -> Value {
        let data = base64::encode(pem(AUTHORITY));
        json!({ "name": "prod", "status": "ACTIVE", "endpoint": self.endpoint, "certificateAuthority": { "data": data } })
    }

    pub(in crate::playbook) fn put(&self, path: &str, object: Value) {
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    pub(in crate::playbook) fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    pub(in crate::playbook) fn remove(&self, path: &str) {
        self.objects.lock().unwrap().remove(path);
    }

    /// What was asked that changes something.
    pub(in crate::playbook) fn changes(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().filter(|line| !line.starts_with("GET")).cloned().collect()
    }

    fn answer(&self, head: &str, body: &str) -> (u16, Value) {
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        self.seen.lock().unwrap().push(format!("{method} {path}"));
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
            line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        if !header("authorization").starts_with("Bearer k8s-aws-v1.") {
            return status(401, "Unauthorized", "Unauthorized");
        }
        if path.contains("/unknown-caller") {
            return status(401, "Unauthorized", "Unauthorized");
        }
        if path.contains("/forbidden") {
            let message = "nodes \"forbidden\" is forbidden: User \"redress\" cannot get resource \"nodes\"";
            return status(403, "Forbidden", message);
        }
        let mut objects = self.objects.lock().unwrap();
        let given: Value = serde_json::from_str(body).unwrap_or_default();
        match method {
            "GET" => match objects.get(path) {
                Some(object) => (200, object.clone()),
                None => status(404, "NotFound", "not found"),
            },
            "PATCH" if header("content-type") == MERGE => {
                let Some(object) = objects.get_mut(path) else { return status(404, "NotFound", "not found") };
                let spec = object["spec"].as_object_mut().unwrap();
                for (name, value) in given["spec"].as_object().unwrap() {
                    if value.is_null() {
                        spec.remove(name)
                    } else {
                        spec.insert(name.clone(), value.clone())
                    };
                }
                (200, object.clone())
            }
            "POST" => {
                let path = format!("{path}/{}", given["metadata"]["name"].as_str().unwrap());
                if objects.contains_key(&path) {
                    return status(409, "AlreadyExists", "already exists");
                }
                objects.insert(path, given.clone());
                (201, given)
            }
            "DELETE" => match objects.remove(path) {
                Some(_) => (200, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })),
                None => status(404, "NotFound", "not found"),
            },
            _ => status(415, "UnsupportedMediaType", "unsupported"),
        }
    }
}

fn status(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code });
    (code, status)
}

/// One request: its head, and its body.
async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(String, String)> {
    let mut read = Vec::new();
    loop {
        let mut part = [0; 4096];
        let size = stream.read(&mut part).await.ok()?;
        read.extend_from_slice(&part[..size]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if size == 0 {
            return None;
        }
    }
}

fn pod(name: &str) -> Pod {
    Pod { namespace: "shop".to_owned(), name: name.to_owned() }
}

async fn api(cluster: &Cluster) -> Api {
    Api::of(&FakeAws::default().config(), &cluster.described()).await.unwrap()
}

#[tokio::test]
async fn a_pod_is_cut_off_and_its_node_cordoned_and_both_are_undone() {
    let cluster = Cluster::start().await;
    let api = api(&cluster).await;
    let web = pod("web-1");
    let found = api.pod(&web).await.unwrap().unwrap();
    assert_eq!((found.node.as_str(), found.on_host), ("node-1", false));
    assert_eq!(api.policy(&web).await.unwrap(), None);
    assert_eq!(api.is_cordoned("node-1").await.unwrap(), Some(false));

    api.cut_off(&web, &found.labels, &found.node).await.unwrap();
    api.cut_off(&web, &found.labels, &found.node).await.unwrap();
    let written =
        cluster.get("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/redress-contain-web-1").unwrap();
    assert_eq!(written["spec"]["podSelector"]["matchLabels"], json!({ "app": "web", "pod-template-hash": "5d9c" }));
    assert_eq!(written["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert!(written["spec"]["ingress"].is_null() && written["spec"]["egress"].is_null(), "nothing is allowed");
    let read = api.policy(&web).await.unwrap().unwrap();
    assert_eq!((read.ours, read.node.as_str()), (true, "node-1"));

    api.cordon("node-1", true).await.unwrap();
    assert_eq!(api.is_cordoned("node-1").await.unwrap(), Some(true));
    api.cordon("node-1", false).await.unwrap();
    assert_eq!(cluster.get("/api/v1/nodes/node-1").unwrap()["spec"], json!({}), "as it was, field by field");
    api.let_go(&web).await.unwrap();
    api.let_go(&web).await.unwrap();
    assert_eq!(api.policy(&web).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_missing_and_what_is_refused_are_told_apart() {
    let cluster = Cluster::start().await;
    let api = api(&cluster).await;
    assert_eq!(api.pod(&pod("gone")).await.unwrap(), None);
    assert_eq!(api.is_cordoned("gone").await.unwrap(), None);
    let error = api.is_cordoned("forbidden").await.unwrap_err();
    let NativeError::Aws(failure) = &error else { unreachable!("{error}") };
    assert_eq!(failure.code(), Some("Forbidden"));
    assert!(error.to_string().contains("cannot get resource") && !error.to_string().contains("k8s-aws"), "{error}");
    let error = api.is_cordoned("unknown-caller").await.unwrap_err().to_string();
    assert!(error.contains("access entry in group redress-contain") && error.contains("eks-rbac.yaml"), "{error}");
}

#[tokio::test]
async fn a_server_that_another_authority_vouches_for_is_not_spoken_to() {
    let cluster = Cluster::start().await;
    let mut described = cluster.described();
    described["certificateAuthority"]["data"] = json!(base64::encode(pem(CERTIFICATE)));
    let api = Api::of(&FakeAws::default().config(), &described).await.unwrap();
    assert!(api.is_cordoned("node-1").await.is_err());
    assert!(cluster.seen.lock().unwrap().is_empty(), "the token was sent to nobody");
    for (field, value) in [("/endpoint", json!("http://x")), ("/certificateAuthority/data", json!("AAAA"))] {
        let mut described = cluster.described();
        *described.pointer_mut(field).unwrap() = value;
        assert!(Api::of(&FakeAws::default().config(), &described).await.is_err(), "{field}");
    }
}

#[tokio::test]
async fn a_policy_that_lets_something_through_is_not_ours() {
    let cluster = Cluster::start().await;
    let api = api(&cluster).await;
    let path = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/redress-contain-web-1";
    api.cut_off(&pod("web-1"), &json!({ "app": "web" }), "node-1").await.unwrap();
    let ours = cluster.get(path).unwrap();
    for (pointer, value) in
        [("/spec/policyTypes", json!(["Ingress"])), ("/spec/egress", json!([{}])), ("/metadata/labels", json!({}))]
    {
        let mut theirs = ours.clone();
        match theirs.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => theirs["spec"]["egress"] = value,
        }
        cluster.put(path, theirs);
        assert!(!api.policy(&pod("web-1")).await.unwrap().unwrap().ours, "{pointer}");
    }
}

#[tokio::test]
async fn the_token_is_a_signed_question_for_this_cluster_only() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let token = token(&FakeAws::default().config(), "prod", now).await.unwrap();
    let encoded = token.strip_prefix("k8s-aws-v1.").unwrap();
    assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{token}");
    let padded = format!("{}{}", encoded.replace('-', "+").replace('_', "/"), "=".repeat((4 - encoded.len() % 4) % 4));
    let url = String::from_utf8(base64::decode(padded).unwrap()).unwrap();
    let start = "https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256";
    assert!(url.starts_with(start), "{url}");
    for part in ["X-Amz-Expires=60", "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id", "X-Amz-Date=2026", "X-Amz-Signature="] {
        assert!(url.contains(part), "{part}: {url}");
    }
    let other = super::token(&FakeAws::default().config(), "test", now).await.unwrap();
    assert_ne!(other, token);
}

#[test]
fn names_that_kubernetes_does_not_know_go_into_no_path() {
    assert!(pod("web-1.x").is_sound());
    for wrong in ["", "../nodes", "a/b", "a?b", "a b", &"x".repeat(240)] {
        assert!(!pod(wrong).is_sound(), "{wrong}");
    }
}
