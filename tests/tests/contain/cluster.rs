//! A cluster of EKS and its Kubernetes API: a compromised pod is cut off, a compromised principal loses its access, and both
//! are given back.

use redress_common::contract::{ContainRequest, ContainResponse, Job, RemediateRequest};
use redress_common::ids::RemediationId;
use redress_lab::service::Caller;
use redress_lab::services::eks::Cluster;
use redress_tests::cluster::{
    GROUP, NAMESPACE, WORKLOADS, access_target, cluster, cluster_target, let_in, pod_target, rbac, said,
};

use super::*;

const NODE: &str = "/api/v1/nodes/node-1";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";

/// The network policy of a pod, and what its node is like but for its version.
fn state(cluster: &Cluster, pod: &str) -> (Option<Value>, Value) {
    let mut node = cluster.object(NODE).unwrap();
    node["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    (cluster.object(&format!("{POLICIES}/redress-contain-{pod}")), node)
}

/// The pods of the namespace that a network policy is for.
fn selected(cluster: &Cluster, policy: &Value) -> Vec<&'static str> {
    let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
    let is_selected = |name: &&str| {
        let pod = cluster.object(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}")).unwrap();
        wanted.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value)
    };
    ["web-1", "api-1"].into_iter().filter(is_selected).collect()
}

/// Each verb that the shipped rights list, with its resource.
const SHIPPED: [&str; 6] =
    ["get pods", "get nodes", "patch nodes", "get networkpolicies", "create networkpolicies", "delete networkpolicies"];

/// The shipped rights without one verb.
fn without(right: &str) -> String {
    let (verb, resource) = right.split_once(' ').unwrap();
    let (before, rest) = rbac().split_once(&format!("resources: [{resource}]\n    verbs: [")).map(owned).unwrap();
    let (verbs, after) = rest.split_once(']').map(owned).unwrap();
    let left: Vec<&str> = verbs.split(", ").filter(|one| *one != verb).collect();
    assert_eq!(left.len() + 1, verbs.split(", ").count(), "{right} is not shipped");
    format!("{before}resources: [{resource}]\n    verbs: [{}]{after}", left.join(", "))
}

fn owned((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

/// What the orchestrator asks of the function, and undoes when there is a source.
async fn asked(world: &World, target: &Target, parameters: Value, source: Option<&Job>) -> (Job, ContainResponse) {
    let id = RemediationId::of_rejected(Uuid::new_v4().as_bytes());
    let job = Job {
        remediation_id: id,
        control: target.control.parse().unwrap(),
        resource_arn: target.arn.parse().unwrap(),
        resource_name: target.arn.split_once('/').unwrap().1.to_owned(),
        mode: if source.is_some() { Mode::Restore } else { Mode::Apply },
        fence: "1".to_owned(),
        evidence_key: names::evidence_key(id, Timestamp::now()),
        source_evidence_key: source.map(|source| source.evidence_key.clone()).unwrap_or_default(),
        plan_sha256: String::new(),
    };
    let request = RemediateRequest {
        job: job.clone(),
        native: "contain_eks_cluster".to_owned(),
        account_id: target.account.parse().unwrap(),
        region: world.region().parse().unwrap(),
        parameters: serde_json::from_value(parameters).unwrap(),
        copy: None,
    };
    let payload = json!(ContainRequest { request, recall: false }).to_string();
    let invoke = json!({ "FunctionName": names::contain_function("Compute"), "Payload": payload });
    let answer = call(world, &target.account, "lambda", "Invoke", invoke).await;
    let told = answer["Payload"].as_str().unwrap();
    (job, serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}")))
}

fn outcome(response: &ContainResponse) -> (&'static str, &str) {
    (response.outcome.map_or("", Outcome::as_str), &response.error)
}

#[test]
fn a_pod_is_cut_off_and_its_node_cordoned_until_it_is_given_back() {
    in_turn(async |world| {
        let account = world.member("cluster");
        let told = Notifications::new();
        told.subscribe(world).await;
        let (name, inside) = cluster(world, &account).await;
        inside.apply(&rbac()).unwrap();
        let before = state(&inside, "web-1");
        assert_eq!(before.0, None);

        // Nobody let Redress in: it says how, and has done nothing.
        let stranger = pod_target(world, &account, &name, "api-1");
        world.send_raw(&finding(world, &stranger, "Execution:Runtime/ReverseShell", 8.0).to_string()).await;
        let failed = done(world, &stranger, "Failed").await;
        assert!(failed.error().contains("access entry in group redress-contain"), "{}", failed.error());
        assert!(inside.seen().iter().all(|seen| seen.status == 401 && seen.user.is_empty()), "{:?}", inside.seen());
        assert_eq!(state(&inside, "api-1"), before, "no policy, and its node as it was");
        let_in(world, &account, &name).await;

        let target = pod_target(world, &account, &name, "web-1");
        let (mark, first) = (world.bed.lab.record().mark(), inside.seen().len());
        let event = finding(world, &target, "CryptoCurrency:Runtime/BitcoinTool.B", 8.0);
        world.send_raw(&event.to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.states(), ["Planned", "Claimed", "Applied", "Verified"]);
        assert_eq!((contained.outcome(), contained.error()), ("Verified", ""));
        let (policy, node) = state(&inside, "web-1");
        let policy = policy.unwrap();
        assert_eq!(selected(&inside, &policy), ["web-1"], "the pod, and no other: {policy:#}");
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert!(policy["spec"]["ingress"].is_null() && policy["spec"]["egress"].is_null(), "nothing is let through");
        assert_eq!(node["spec"]["unschedulable"], true);
        assert_eq!(told.when(world, &target.arn, "Success").await.len(), 1, "people were told, once");
        quiet(world).await;
        figures(world, "EKS pod", "Compute", mark, "DescribeCluster");
        println!("  of its cluster: {}", said(&inside.seen()[first..]).join(", "));
        assert!(inside.seen()[first..].iter().all(|seen| seen.user.contains("assumed-role/Redress-Contain-Compute/")));

        // What GuardDuty says of it again is no news.
        let (again, seen) = (world.bed.lab.record().mark(), inside.seen().len());
        for message in [event.clone(), updated(&event)] {
            world.send_raw(&message.to_string()).await;
        }
        quiet(world).await;
        assert!(calls_of(world, &names::contain_role("Compute"), again).is_empty());
        assert_eq!(inside.seen().len(), seen);

        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        assert_eq!(state(&inside, "web-1"), before);
        let (evidence, back) = (world.evidence(&account, &contained).await, world.evidence(&account, &undone).await);
        assert_eq!(Some(evidence.before.pre_image), back.after);

        // Nothing that was asked of the cluster was refused, and each right that is shipped was used.
        let used = &inside.seen()[first..];
        assert!(used.iter().all(|seen| matches!(seen.status, 200 | 201 | 404)), "{used:?}");
        let used = said(used);
        let unused: Vec<&str> = SHIPPED.into_iter().filter(|right| !used.iter().any(|one| one == right)).collect();
        println!("  rights that are shipped and were not used: {unused:?}");
        assert_eq!(unused, [""; 0]);
        assert!(used.iter().all(|one| SHIPPED.contains(&one.as_str())), "{used:?}");
        verified(world, &account).await;
    });
}

#[test]
fn each_right_in_the_cluster_that_is_shipped_is_needed() {
    in_turn(async |world| {
        let account = world.member("cluster");
        let (name, inside) = cluster(world, &account).await;
        let_in(world, &account, &name).await;
        let target = pod_target(world, &account, &name, "web-1");
        let before = state(&inside, "web-1");
        for right in SHIPPED {
            let (verb, resource) = right.split_once(' ').unwrap();
            let missing = format!("cannot {verb} resource \"{resource}\"");
            // An undo needs what contains to have been done.
            let contained = if right.starts_with("delete") {
                inside.apply(&rbac()).unwrap();
                Some(asked(world, &target, json!({}), None).await)
            } else {
                None
            };
            inside.apply(&without(right)).unwrap();
            let (_, failed) = asked(world, &target, json!({}), contained.as_ref().map(|(job, _)| job)).await;
            let (end, error) = outcome(&failed);
            assert_eq!(end, "Failed", "{right}: {error}");
            assert!(error.contains(&missing), "{right}: {error}");
            assert!(!error.contains("k8s-aws-v1"), "no token is told: {error}");
            // Cut off comes first: a node that cannot be cordoned leaves the pod cut off.
            let is_cut_off = matches!(right, "patch nodes" | "delete networkpolicies");
            assert_eq!(state(&inside, "web-1").0.is_some(), is_cut_off, "{right}");
            inside.remove(&format!("{POLICIES}/redress-contain-web-1"));
            inside.apply(WORKLOADS).unwrap();
        }
        assert_eq!(state(&inside, "web-1"), before);
    });
}

#[test]
fn a_principals_tokens_are_worth_nothing_until_its_access_is_given_back() {
    in_turn(async |world| {
        let account = world.member("cluster");
        let (name, inside) = cluster(world, &account).await;
        let principal = format!("arn:aws:iam::{account}:role/team/deploy-{}", Uuid::new_v4().simple());
        let eks = async |operation: &str, mut asked: Value| {
            asked["clusterName"] = json!(name);
            asked["principalArn"] = json!(principal);
            call(world, &account, "eks", operation, asked).await
        };
        eks("CreateAccessEntry", json!({ "kubernetesGroups": [GROUP] })).await;
        let scope = json!({ "type": "namespace", "namespaces": [NAMESPACE] });
        eks("AssociateAccessPolicy", json!({ "policyArn": VIEW, "accessScope": scope })).await;
        inside.apply(&rbac()).unwrap();
        let access = async || {
            let entry = eks("DescribeAccessEntry", json!({})).await["accessEntry"]["kubernetesGroups"].clone();
            let policies = eks("ListAssociatedAccessPolicies", json!({})).await["associatedAccessPolicies"].clone();
            let policies = policies.as_array().unwrap().iter();
            let policies: Vec<Value> =
                policies.map(|one| json!([one["policyArn"], one["accessScope"]["namespaces"]])).collect();
            (entry, policies)
        };
        let session = principal.replace(":iam:", ":sts:").replace(":role/team/", ":assumed-role/");
        let intruder = Caller { account: account.clone(), arn: format!("{session}/jo") };
        let may = || {
            [("GET", format!("/api/v1/namespaces/{NAMESPACE}/pods")), ("PATCH", NODE.to_owned())]
                .map(|(method, path)| inside.lets(&intruder, method, &path))
        };
        let before = access().await;
        assert_eq!((before.1.len(), may()), (1, [true, true]));

        // GuardDuty names the role without its path, and says nothing of its entry.
        let target = access_target(world, &account, &name, &principal);
        let mark = world.bed.lab.record().mark();
        let event = finding(world, &target, "CredentialAccess:Kubernetes/TorIPCaller", 8.0);
        world.send_raw(&event.to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!((contained.outcome(), contained.error()), ("Verified", ""));
        assert_eq!(access().await, (json!([]), Vec::new()));
        assert_eq!(may(), [false, false], "its tokens are good, and allow nothing");
        quiet(world).await;
        figures(world, "EKS principal", "Compute", mark, "DisassociateAccessPolicy");
        let again = world.bed.lab.record().mark();
        for message in [event.clone(), updated(&event)] {
            world.send_raw(&message.to_string()).await;
        }
        quiet(world).await;
        assert!(calls_of(world, &names::contain_role("Compute"), again).is_empty());
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        assert_eq!((access().await, may()), (before.clone(), [true, true]));
        let (evidence, back) = (world.evidence(&account, &contained).await, world.evidence(&account, &undone).await);
        assert_eq!(Some(evidence.before.pre_image), back.after);

        // A person names the entry as EKS does, and the claim is the same.
        let told = eks("DescribeAccessEntry", json!({})).await["accessEntry"]["accessEntryArn"].clone();
        let asked = ["contain", told.as_str().unwrap(), "--reason", "INC-4711", "--wait", "--json"];
        redress(world, &asked).await;
        assert_eq!((access().await, may()), ((json!([]), Vec::new()), [false, false]));
        let records = world.ledger_about(&target.arn).await;
        let ends: Vec<&Value> = records.iter().filter(|record| record["ExecutionStatus"] == "Verified").collect();
        assert_eq!(ends.len(), 2, "{records:#?}");
        let last = ends.iter().find(|record| record["RemediationId"] != json!(contained.id)).unwrap();
        let undo = ["undo", last["RemediationId"].as_str().unwrap(), "--reason", "false alarm", "--wait", "--json"];
        redress(world, &undo).await;
        assert_eq!((access().await, may()), (before, [true, true]));
        assert!(world.denied().iter().all(|call| !call.principal.contains("Redress-Contain")), "{:#?}", world.denied());

        // Who comes in by no entry is told of, and nobody is touched: neither the others nor the endpoint.
        let stranger = access_target(world, &account, &name, &principal.replace("/deploy-", "/unknown-"));
        let changes = world.bed.lab.record().mark();
        world.send_raw(&finding(world, &stranger, "Impact:Kubernetes/MaliciousIPCaller", 8.0).to_string()).await;
        let failed = done(world, &stranger, "Failed").await;
        assert!(failed.error().contains("`aws-auth` ConfigMap"), "{}", failed.error());
        assert_eq!(world.changes_since(&account, changes), [""; 0]);

        // With the endpoint, every right of the playbooks is used.
        let target = cluster_target(world, &account, &name);
        let endpoint = async |world: &World| {
            let described = call(world, &account, "eks", "DescribeCluster", json!({ "name": name })).await;
            let config = described["cluster"]["resourcesVpcConfig"].clone();
            ["endpointPublicAccess", "endpointPrivateAccess", "publicAccessCidrs"].map(|field| config[field].clone())
        };
        let open = endpoint(world).await;
        assert_eq!(open[0], true);
        world.send_raw(&finding(world, &target, "CredentialAccess:Kubernetes/TorIPCaller", 8.0).to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!((contained.outcome(), contained.error()), ("Verified", ""));
        assert_eq!(endpoint(world).await[..2], [json!(false), json!(true)]);
        quiet(world).await;
        figures(world, "EKS cluster's endpoint", "Compute", mark, "UpdateClusterConfig");
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        assert_eq!(endpoint(world).await, open);
        let unused = unused_of(world, &account, &names::contain_role("Compute"), mark).await;
        let unused: Vec<&String> = unused.iter().filter(|line| line.starts_with("eks:")).collect();
        assert!(unused.is_empty(), "granted and used by nothing: {unused:?}");
    });
}
