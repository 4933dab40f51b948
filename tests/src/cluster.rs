//! Clusters of EKS with workloads in them, whom they let in, and what they were asked: for the tests of containment and
//! for its measurement (`benches/containment.rs`).
//!
//! It makes clusters and reads what they note. It decides nothing, and knows no playbook's answer.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::sync::Arc;

use redress_common::arn::Arn;
use redress_common::eks::{EntryName, PodName};
use redress_common::names;
use redress_lab::services::eks::{Cluster, Seen};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ask::Target;
use crate::incident::call;
use crate::world::{World, root};

/// The namespace of the workloads.
pub const NAMESPACE: &str = "shop";
/// The group of Kubernetes that the shipped rights are for.
pub const GROUP: &str = "redress-contain";

/// A namespace with two pods of a node, one of which is the intruder's.
pub const WORKLOADS: &str = "\
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1, labels: {kubernetes.io/os: linux}}, spec: {providerID: 'aws:///a/i-1'}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web}}, spec: {nodeName: node-1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: api-1, namespace: shop, labels: {app: api}}, spec: {nodeName: node-1}}";

/// What is shipped for a cluster.
#[must_use]
pub fn rbac() -> String {
    std::fs::read_to_string(root().join("ssm-documents/playbooks/kubernetes/eks-rbac.yaml")).unwrap()
}

/// A cluster of an account that everybody reaches; its name is new.
pub async fn cluster(world: &World, account: &str) -> (String, Arc<Cluster>) {
    let name = format!("prod-{}", Uuid::new_v4().simple());
    let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
    let role = json!({ "RoleName": name, "AssumeRolePolicyDocument": trust });
    let role = call(world, account, "iam", "CreateRole", role).await["Role"]["Arn"].clone();
    let subnets = call(world, account, "ec2", "DescribeSubnets", json!({})).await["Subnets"].clone();
    let made = json!({
        "name": name, "roleArn": role, "accessConfig": { "authenticationMode": "API" },
        "resourcesVpcConfig": {
            "subnetIds": [subnets[0]["SubnetId"], subnets[1]["SubnetId"]], "endpointPublicAccess": true,
            "endpointPrivateAccess": false, "publicAccessCidrs": ["0.0.0.0/0"],
        },
    });
    call(world, account, "eks", "CreateCluster", made).await;
    let inside = world.bed.eks.cluster(account, world.region(), &name).unwrap();
    inside.apply(WORKLOADS).unwrap();
    (name, inside)
}

/// Lets the role of the function in, as `eks-rbac.yaml` says.
pub async fn let_in(world: &World, account: &str, cluster: &str) {
    let role = format!("arn:aws:iam::{account}:role/{}", names::contain_role("Compute"));
    entry(world, account, cluster, &role).await;
}

/// An access entry of a principal in the group of the shipped rights; what EKS says of it.
async fn entry(world: &World, account: &str, cluster: &str, principal: &str) -> Value {
    let asked = json!({ "clusterName": cluster, "principalArn": principal, "kubernetesGroups": [GROUP] });
    call(world, account, "eks", "CreateAccessEntry", asked).await["accessEntry"].clone()
}

/// The cluster itself.
#[must_use]
pub fn cluster_target(world: &World, account: &str, cluster: &str) -> Target {
    Target {
        account: account.to_owned(),
        control: "Contain.EKSCluster".to_owned(),
        arn: format!("arn:aws:eks:{}:{account}:cluster/{cluster}", world.region()),
    }
}

/// A pod of the workloads.
#[must_use]
pub fn pod_target(world: &World, account: &str, cluster: &str, pod: &str) -> Target {
    let target = cluster_target(world, account, cluster);
    let arn = PodName::arn(&target.arn.parse().unwrap(), NAMESPACE, pod).unwrap().to_string();
    Target { control: "Contain.EKSPod".to_owned(), arn, ..target }
}

/// A pod of a new cluster that knows Redress.
pub async fn pod(world: &World, account: &str) -> Target {
    let (name, inside) = cluster(world, account).await;
    inside.apply(&rbac()).unwrap();
    let_in(world, account, &name).await;
    pod_target(world, account, &name, "web-1")
}

/// The access entry of a role in a new cluster that knows Redress: the target of a playbook that ends its access.
pub async fn principal(world: &World, account: &str) -> Target {
    let (name, inside) = cluster(world, account).await;
    inside.apply(&rbac()).unwrap();
    let_in(world, account, &name).await;
    let who = format!("arn:aws:iam::{account}:role/deploy-{}", Uuid::new_v4().simple());
    entry(world, account, &name, &who).await;
    access_target(world, account, &name, &who)
}

/// The access of a principal, which it has by whatever entry there is.
#[must_use]
pub fn access_target(world: &World, account: &str, cluster: &str, principal: &str) -> Target {
    let target = cluster_target(world, account, cluster);
    let arn = EntryName::arn(&target.arn.parse().unwrap(), &principal.parse().unwrap()).unwrap().to_string();
    Target { control: "Contain.EKSPrincipal".to_owned(), arn, ..target }
}

/// What the cluster of a pod was asked so far, in order.
#[must_use]
pub fn seen(world: &World, pod: &Target) -> Vec<Seen> {
    let arn: Arn = pod.arn.parse().unwrap();
    let name = PodName::of(&arn).unwrap().cluster;
    world.bed.eks.cluster(&pod.account, world.region(), name).unwrap().seen()
}

/// Requests to a cluster, as `verb resource`.
#[must_use]
pub fn said(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| format!("{} {}", seen.verb, seen.resource)).collect()
}
