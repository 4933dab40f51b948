//! EKS's answers as it gives them, a cluster that answers over TLS, and a state to which planned calls are applied.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::kubernetes::tests::Cluster;
use super::*;
use crate::testing::{FakeAws, request};

const CLUSTER: &str = "arn:aws:eks:eu-central-1:111122223333:cluster/prod";
const ENTRY: &str = "arn:aws:eks:eu-central-1:111122223333:access-entry/prod/role/111122223333/deploy";
const POD: &str = "arn:aws:eks:eu-central-1:111122223333:pod/prod/shop/web-1";
const ROLE: &str = "arn:aws:iam::111122223333:role/deploy";

fn native(aws: &FakeAws, parameters: Value) -> Result<ContainCluster, NativeError> {
    ContainCluster::new(Wire::new(aws.config()), &request(DECLARED.name, CLUSTER, parameters))
}

fn of(aws: &FakeAws, arn: &str) -> Result<ContainCluster, NativeError> {
    ContainCluster::new(Wire::new(aws.config()), &request(DECLARED.name, arn, json!({})))
}

fn cluster(aws: &FakeAws, status: &str, public: bool, private: bool, cidrs: &[&str]) {
    let config = json!({ "endpointPublicAccess": public, "endpointPrivateAccess": private, "publicAccessCidrs": cidrs,
        "subnetIds": ["subnet-1"], "vpcId": "vpc-1" });
    let cluster = json!({ "cluster": { "name": "prod", "status": status, "resourcesVpcConfig": config } });
    aws.answer("GET", 200, &cluster.to_string());
}

fn said(change: &Change) -> Vec<&str> {
    change.0.iter().map(|call| call.operation.as_str()).collect()
}

/// What EKS and the cluster do with the calls.
fn applied(image: &Image, change: &Change) -> Image {
    let mut state = image.state.clone();
    for call in &change.0 {
        let given = &call.parameters;
        match call.operation.as_str() {
            "UpdateClusterConfig" => {
                state =
                    json!({ "Endpoint": Endpoint::of(&json!({ "resourcesVpcConfig": given["ResourcesVpcConfig"] })) });
            }
            "UpdateAccessEntry" => state["Access"]["Groups"] = given["KubernetesGroups"].clone(),
            "DisassociateAccessPolicy" => {
                state["Access"]["Policies"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|one| one["PolicyArn"] != given["PolicyArn"]);
            }
            "AssociateAccessPolicy" => {
                let policies = state["Access"]["Policies"].as_array_mut().unwrap();
                policies.retain(|one| one["PolicyArn"] != given["PolicyArn"]);
                policies.push(json!({ "PolicyArn": given["PolicyArn"], "AccessScope": given["AccessScope"] }));
                policies.sort_by_key(|one| one["PolicyArn"].to_string());
            }
            "CreateNetworkPolicy" => state["Workload"]["CutOff"] = json!({ "Ours": true, "Labels": given["Labels"] }),
            "DeleteNetworkPolicy" => state["Workload"]["CutOff"] = Value::Null,
            "CordonNode" => state["Workload"]["Cordoned"] = json!(true),
            "UncordonNode" => state["Workload"]["Cordoned"] = json!(false),
            other => unreachable!("{other}"),
        }
    }
    Image { present: true, state }
}

#[test]
fn the_arn_says_what_of_the_cluster_is_meant() {
    let aws = FakeAws::default();
    let workload = Scope::Workload(Pod { namespace: "shop".to_owned(), name: "web-1".to_owned() });
    for (arn, scope) in [
        (CLUSTER, Scope::Endpoint { cidrs: Vec::new() }),
        (POD, workload),
        (ENTRY, Scope::Access(ENTRY.parse().unwrap())),
    ] {
        let found = of(&aws, arn).unwrap();
        assert_eq!((found.cluster.as_str(), found.scope), ("prod", scope), "{arn}");
    }
    let long = POD.replace("web-1", &"a".repeat(250));
    for arn in [&long, "arn:aws:eks:eu-central-1:111122223333:nodegroup/prod/x/y", &ENTRY.replace("role", "group")] {
        assert!(matches!(of(&aws, arn), Err(NativeError::Parameter { name, .. }) if name == "ResourceArn"), "{arn}");
    }
    let own = ENTRY.replace("deploy", "Redress-Contain-Compute");
    assert!(matches!(of(&aws, &own), Err(NativeError::Refused(_))));
}

#[tokio::test]
async fn the_public_endpoint_is_closed_when_eks_has_got_the_time() {
    let aws = FakeAws::default();
    cluster(&aws, "ACTIVE", true, false, &["0.0.0.0/0"]);
    let native = native(&aws, json!({})).unwrap();
    let before = native.inspect().await.unwrap().unwrap();
    assert_eq!(before.state, json!({ "Endpoint": { "Public": true, "Private": false, "Cidrs": ["0.0.0.0/0"] } }));
    let change = native.plan(&before).unwrap();
    let wanted = json!({ "Name": "prod",
        "ResourcesVpcConfig": { "endpointPublicAccess": false, "endpointPrivateAccess": true } });
    assert_eq!(change.0[0].parameters, wanted);

    cluster(&aws, "UPDATING", true, false, &["0.0.0.0/0"]);
    cluster(&aws, "ACTIVE", true, false, &["0.0.0.0/0"]);
    aws.answer("POST", 409, r#"{"__type":"ResourceInUseException","message":"an update is in progress"}"#);
    cluster(&aws, "ACTIVE", true, false, &["0.0.0.0/0"]);
    aws.answer("POST", 200, r#"{"update":{"id":"u-1","status":"InProgress"}}"#);
    cluster(&aws, "UPDATING", false, true, &[]);
    cluster(&aws, "ACTIVE", false, true, &[]);
    native.call(&change.0[0]).await.unwrap();
    let posts: Vec<_> = aws.seen().into_iter().filter(|seen| seen.name == "POST").collect();
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[1].path, "/clusters/prod/update-config");
    let body = json!({ "resourcesVpcConfig": { "endpointPublicAccess": false, "endpointPrivateAccess": true } });
    assert_eq!(serde_json::from_slice::<Value>(&posts[1].body).unwrap(), body);

    let undo = native.plan_restore(&applied(&before, &change), &before).unwrap();
    assert_eq!(undo.0[0].parameters["ResourcesVpcConfig"]["publicAccessCidrs"], json!(["0.0.0.0/0"]));
    assert_eq!(undo.0[0].parameters["ResourcesVpcConfig"]["endpointPrivateAccess"], false);
}

#[tokio::test]
async fn an_update_that_lasts_goes_on_later() {
    let aws = FakeAws::default();
    let mut native = native(&aws, json!({})).unwrap();
    native.until = Instant::now();
    cluster(&aws, "UPDATING", true, false, &["0.0.0.0/0"]);
    let call = native.set_endpoint(&Endpoint { public: false, private: true, cidrs: Vec::new() }).unwrap();
    assert!(matches!(native.call(&call).await, Err(NativeError::Underway(_))));
}

#[test]
fn a_private_or_narrow_endpoint_is_left_alone() {
    let image = |public: bool, cidrs: Value| Image {
        present: true,
        state: json!({ "Endpoint": { "Public": public, "Private": true, "Cidrs": cidrs } }),
    };
    let aws = FakeAws::default();
    let closing = native(&aws, json!({ "PublicAccessCidrs": [] })).unwrap();
    assert!(closing.compliant(&image(false, json!([]))));
    let narrowing = native(&aws, json!({ "PublicAccessCidrs": ["203.0.113.0/24"] })).unwrap();
    assert!(narrowing.compliant(&image(true, json!(["203.0.113.0/24"]))));
    assert!(narrowing.compliant(&image(false, json!([]))), "it is not opened");
    let change = narrowing.plan(&image(true, json!(["0.0.0.0/0"]))).unwrap();
    assert_eq!(change.0[0].parameters["ResourcesVpcConfig"]["publicAccessCidrs"], json!(["203.0.113.0/24"]));
}

fn entry(aws: &FakeAws, kind: &str, groups: &[&str], policies: &Value) {
    aws.answer("GET", 200, r#"{"cluster":{"name":"prod","status":"ACTIVE"}}"#);
    let entry = json!({ "accessEntry": { "clusterName": "prod", "principalArn": ROLE, "kubernetesGroups": groups,
        "type": kind, "username": "u" } });
    aws.answer("GET", 200, &entry.to_string());
    aws.answer("GET", 200, &json!({ "clusterName": "prod", "associatedAccessPolicies": policies }).to_string());
}

#[tokio::test]
async fn a_principal_loses_its_groups_and_policies_and_gets_them_back() {
    let aws = FakeAws::default();
    let admin = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSAdminPolicy";
    let edit = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy";
    entry(
        &aws,
        "STANDARD",
        &["ops"],
        &json!([
            { "policyArn": edit, "accessScope": { "type": "namespace", "namespaces": ["shop"] }, "associatedAt": 1.0 },
            { "policyArn": admin, "accessScope": { "type": "cluster", "namespaces": [] } },
        ]),
    );
    let native = of(&aws, ENTRY).unwrap();
    let before = native.inspect().await.unwrap().unwrap();
    let path = "/clusters/prod/access-entries/arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fdeploy";
    assert_eq!(aws.seen()[1].path, path);
    let change = native.plan(&before).unwrap();
    assert_eq!(said(&change), ["UpdateAccessEntry", "DisassociateAccessPolicy", "DisassociateAccessPolicy"]);
    aws.answer("POST", 200, "{}");
    aws.answer("DELETE", 200, "{}");
    native.call(&change.0[0]).await.unwrap();
    assert_eq!(String::from_utf8(aws.seen().pop().unwrap().body).unwrap(), r#"{"kubernetesGroups":[]}"#);
    native.call(&change.0[1]).await.unwrap();
    let gone = format!("{path}/access-policies/{}", admin.replace(':', "%3A").replace('/', "%2F"));
    assert_eq!(aws.seen().pop().unwrap().path, gone);

    let after = applied(&before, &change);
    assert!(native.compliant(&after) && native.half_way(&after, &before));
    let undo = native.plan_restore(&after, &before).unwrap();
    assert_eq!(said(&undo), ["UpdateAccessEntry", "AssociateAccessPolicy", "AssociateAccessPolicy"]);
    assert_eq!(undo.0[1].parameters["AccessScope"], json!({ "type": "cluster" }));
    aws.answer("POST", 200, "{}");
    native.call(&undo.0[2]).await.unwrap();
    let body = json!({ "policyArn": edit, "accessScope": { "type": "namespace", "namespaces": ["shop"] } });
    assert_eq!(serde_json::from_slice::<Value>(&aws.seen().pop().unwrap().body).unwrap(), body);
}

#[tokio::test]
async fn entries_of_nodes_and_principals_without_one_are_refused() {
    let aws = FakeAws::default();
    entry(&aws, "EC2_LINUX", &["system:nodes"], &json!([]));
    let native = of(&aws, ENTRY).unwrap();
    let nodes = native.inspect().await.unwrap().unwrap();
    assert!(matches!(native.plan(&nodes), Err(NativeError::Refused(_))));
    aws.answer("GET", 200, r#"{"cluster":{"name":"prod"}}"#);
    aws.answer("GET", 404, r#"{"__type":"ResourceNotFoundException","message":"none"}"#);
    aws.answer("GET", 200, r#"{"accessEntries":["arn:aws:iam::111122223333:role/deploy2"]}"#);
    assert!(matches!(native.inspect().await, Err(NativeError::NotNow(_))));
    // A cluster that knows no entries is not asked for one.
    let asked = aws.seen().len();
    aws.answer("GET", 200, r#"{"cluster":{"name":"prod","accessConfig":{"authenticationMode":"CONFIG_MAP"}}}"#);
    assert!(matches!(native.inspect().await, Err(NativeError::NotNow(_))));
    assert_eq!(aws.seen().len(), asked + 1);
    aws.answer("GET", 404, r#"{"__type":"ResourceNotFoundException","message":"No cluster found"}"#);
    assert_eq!(native.inspect().await.unwrap(), None);
}

/// A finding names a role without its path.
#[tokio::test]
async fn the_entry_of_a_role_with_a_path_is_found_on_whatever_page_it_is() {
    let aws = FakeAws::default();
    let (cluster, entry) = (r#"{"cluster":{"name":"prod"}}"#, ROLE.replace("deploy", "team/deploy"));
    aws.answer("GET", 200, cluster);
    aws.answer("GET", 404, r#"{"__type":"ResourceNotFoundException","message":"none"}"#);
    aws.answer("GET", 200, r#"{"accessEntries":["arn:aws:iam::444455556666:role/deploy"],"nextToken":"a/b="}"#);
    aws.answer("GET", 200, &json!({ "accessEntries": [entry] }).to_string());
    aws.answer("GET", 200, r#"{"accessEntry":{"type":"STANDARD","kubernetesGroups":["ops"]}}"#);
    aws.answer("GET", 200, r#"{"associatedAccessPolicies":[]}"#);
    let native = of(&aws, ENTRY).unwrap();
    let before = native.inspect().await.unwrap().unwrap();
    assert_eq!(before.state["Access"]["PrincipalArn"], json!(entry));
    let paths: Vec<String> = aws.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths[2..4], ["/clusters/prod/access-entries", "/clusters/prod/access-entries?nextToken=a%2Fb%3D"]);
    let change = native.plan(&before).unwrap();
    assert_eq!((said(&change), &change.0[0].parameters["PrincipalArn"]), (vec!["UpdateAccessEntry"], &json!(entry)));
}

const POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/redress-contain-web-1";

async fn on_pod() -> (FakeAws, Cluster, ContainCluster) {
    let (aws, cluster) = (FakeAws::default(), Cluster::start().await);
    let native = of(&aws, POD).unwrap();
    (aws, cluster, native)
}

fn describe(aws: &FakeAws, cluster: &Cluster) {
    aws.answer("GET", 200, &json!({ "cluster": cluster.described() }).to_string());
}

/// Makes the calls of a change.
async fn make(aws: &FakeAws, cluster: &Cluster, native: &ContainCluster, change: &Change) {
    for call in &change.0 {
        describe(aws, cluster);
        native.call(call).await.unwrap();
    }
}

#[tokio::test]
async fn a_pod_is_contained_and_let_go_even_when_it_is_gone_by_then() {
    let (aws, cluster, native) = on_pod().await;
    describe(&aws, &cluster);
    let before = native.inspect().await.unwrap().unwrap();
    let wanted = json!({ "Namespace": "shop", "Pod": "web-1", "Node": "node-1", "Cordoned": false, "CutOff": null });
    assert_eq!(before.state, json!({ "Workload": wanted }));
    let change = native.plan(&before).unwrap();
    assert_eq!(said(&change), ["CreateNetworkPolicy", "CordonNode"]);
    make(&aws, &cluster, &native, &change).await;
    describe(&aws, &cluster);
    let after = native.inspect().await.unwrap().unwrap();
    assert_eq!(after, applied(&before, &change));
    assert!(native.compliant(&after));

    // Another run lets it go; the pod was replaced meanwhile.
    cluster.remove("/api/v1/namespaces/shop/pods/web-1");
    let native = of(&aws, POD).unwrap();
    describe(&aws, &cluster);
    let now = native.inspect().await.unwrap().unwrap();
    assert_eq!(now, after, "that the pod is gone is no drift");
    let undo = native.plan_restore(&now, &before).unwrap();
    assert_eq!(said(&undo), ["UncordonNode", "DeleteNetworkPolicy"]);
    make(&aws, &cluster, &native, &undo).await;
    describe(&aws, &cluster);
    assert_eq!(native.inspect().await.unwrap().unwrap(), before);
    assert_eq!(cluster.get(POLICY), None);
    assert_eq!(cluster.changes().len(), 4, "{:?}", cluster.changes());
}

#[tokio::test]
async fn a_node_that_was_cordoned_before_stays_so() {
    let (aws, cluster, native) = on_pod().await;
    cluster.put("/api/v1/nodes/node-1", json!({ "metadata": { "name": "node-1" }, "spec": { "unschedulable": true } }));
    describe(&aws, &cluster);
    let before = native.inspect().await.unwrap().unwrap();
    let change = native.plan(&before).unwrap();
    assert_eq!(said(&change), ["CreateNetworkPolicy"]);
    let undo = native.plan_restore(&applied(&before, &change), &before).unwrap();
    assert_eq!(said(&undo), ["DeleteNetworkPolicy"]);
}

#[tokio::test]
async fn what_a_policy_would_not_meet_or_would_meet_too_much_of_is_refused() {
    for spoil in [
        json!({ "metadata": { "labels": {} }, "spec": { "nodeName": "node-1" } }),
        json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "nodeName": "node-1", "hostNetwork": true } }),
    ] {
        let (aws, cluster, native) = on_pod().await;
        cluster.put("/api/v1/namespaces/shop/pods/web-1", spoil.clone());
        describe(&aws, &cluster);
        let now = native.inspect().await.unwrap().unwrap();
        assert!(matches!(native.plan(&now), Err(NativeError::Refused(_))), "{spoil}");
    }
    let (aws, cluster, native) = on_pod().await;
    cluster
        .put(POLICY, json!({ "metadata": { "name": "x" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } }));
    describe(&aws, &cluster);
    let now = native.inspect().await.unwrap().unwrap();
    assert!(matches!(native.plan(&now), Err(NativeError::Refused(_))), "somebody else's policy");
    cluster.remove(POLICY);
    cluster.put("/api/v1/namespaces/shop/pods/web-1", json!({ "metadata": {}, "spec": {} }));
    describe(&aws, &cluster);
    assert!(matches!(native.inspect().await, Err(NativeError::NotNow(_))), "it is on no node");
}

#[test]
fn parameters_are_believed_only_when_they_are_sound() {
    for wrong in [
        json!({ "PublicAccessCidrs": ["0.0.0.0/0"] }),
        json!({ "PublicAccessCidrs": ["203.0.113.7"] }),
        json!({ "PublicAccessCidrs": "203.0.113.0/24" }),
    ] {
        assert!(native(&FakeAws::default(), wrong.clone()).is_err(), "{wrong}");
    }
}

fn any_endpoint() -> impl Strategy<Value = Image> {
    let cidrs = proptest::collection::btree_set("10\\.[0-9]{1,2}\\.0\\.0/16", 1..3);
    (any::<bool>(), any::<bool>(), cidrs).prop_map(|(public, private, cidrs)| {
        // EKS has one of the two.
        let (private, cidrs) = (private || !public, if public { json!(cidrs) } else { json!([]) });
        Image { present: true, state: json!({ "Endpoint": { "Public": public, "Private": private, "Cidrs": cidrs } }) }
    })
}

fn any_access() -> impl Strategy<Value = Image> {
    let policies =
        proptest::collection::btree_map("arn:p/[a-d]", prop_oneof![Just("cluster"), Just("namespace")], 0..4);
    let groups = proptest::collection::btree_set("[a-c]", 0..3);
    (groups, policies).prop_map(|(groups, policies)| {
        let one = |(arn, kind): (&String, &&str)| json!({ "PolicyArn": arn, "AccessScope": { "type": kind } });
        let policies: Vec<Value> = policies.iter().map(one).collect();
        let access = json!({ "PrincipalArn": ROLE, "Kind": "STANDARD", "Groups": groups, "Policies": policies });
        Image { present: true, state: json!({ "Access": access }) }
    })
}

fn any_workload() -> impl Strategy<Value = Image> {
    let cordoned = prop_oneof![Just(None::<bool>), Just(Some(true)), Just(Some(false))];
    (cordoned, any::<bool>()).prop_map(|(cordoned, cut)| {
        let cut = if cut { json!({ "Ours": true, "Labels": { "a": "b" } }) } else { Value::Null };
        let workload =
            json!({ "Namespace": "shop", "Pod": "web-1", "Node": "node-1", "Cordoned": cordoned, "CutOff": cut });
        Image { present: true, state: json!({ "Workload": workload }) }
    })
}

proptest! {
    #[test]
    fn contained_twice_is_once_and_let_go_is_as_before(
        endpoint in any_endpoint(), access in any_access(), workload in any_workload(), narrow in any::<bool>(),
    ) {
        let cidrs = if narrow { json!(["203.0.113.0/24"]) } else { json!([]) };
        let aws = FakeAws::default();
        for (before, native) in [
            (endpoint, native(&aws, json!({ "PublicAccessCidrs": cidrs }))),
            (access, of(&aws, ENTRY)),
            (workload, of(&aws, POD)),
        ] {
            let native = native.unwrap();
            *native.pod.lock().unwrap() = Seen { labels: json!({ "a": "b" }), ..Seen::default() };
            let after = applied(&before, &native.plan(&before).unwrap());
            prop_assert!(native.compliant(&after), "{:?}", after);
            prop_assert_eq!(applied(&after, &native.plan_restore(&after, &before).unwrap()), before);
        }
    }
}
