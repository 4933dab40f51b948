#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use redress_common::finding::{Finding, Inbound, parse};

use super::*;
use crate::services::fake::{FakeAws, request};

const ACCOUNT: &str = "111122223333";

fn aws() -> Arc<FakeAws> {
    Arc::new(FakeAws::new(|_, operation, asked| match (operation, asked["DetectorId"].as_str()) {
        ("GetDetector", Some("d-1")) => Ok(json!({ "Status": "ENABLED" })),
        _ => Err(AwsError::new("BadRequestException", "no such detector")),
    }))
}

async fn ask(
    service: &GuardDuty,
    aws: &Arc<FakeAws>,
    operation: &str,
    path: &str,
    body: Value,
) -> Result<Value, AwsError> {
    let mut asked = request("guardduty", ACCOUNT, operation, body);
    asked.path = path.to_owned();
    assert_eq!(service.resources(&asked).len(), 1);
    service.handle(asked, aws.clone()).await
}

/// What Redress reads of an event, which is what it reads of GuardDuty's own.
fn read(event: &Value) -> Vec<Finding> {
    let whole = json!({
        "version": "0", "id": "e", "source": event["source"], "detail-type": event["detail-type"],
        "account": event["account"], "region": event["region"], "time": "2026-03-01T09:00:00Z", "resources": [],
        "detail": event["detail"],
    });
    let Inbound::Findings(found) = parse(whole.to_string().as_bytes()).unwrap() else { unreachable!() };
    found.into_iter().map(Result::unwrap).collect()
}

/// The kinds of resource that Redress takes the samples of some types for.
async fn kinds(types: &[&str]) -> Vec<String> {
    let (service, aws) = (GuardDuty::default(), aws());
    let named = json!({ "findingTypes": types });
    ask(&service, &aws, "CreateSampleFindings", "/detector/d-1/findings/create", named).await.unwrap();
    aws.events().iter().flat_map(read).map(|finding| finding.resource.kind).collect()
}

#[tokio::test]
async fn a_sample_of_each_type_is_told_and_told_again_as_the_same_finding() {
    let (service, aws) = (GuardDuty::default(), aws());
    let create = "/detector/d-1/findings/create";
    ask(&service, &aws, "CreateSampleFindings", create, json!({})).await.unwrap();
    let all = aws.events();
    let types: BTreeSet<&str> = all.iter().map(|event| event["detail"]["type"].as_str().unwrap()).collect();
    assert_eq!((all.len(), types.len()), (TYPES.len(), TYPES.len()));
    for event in &all {
        assert_eq!((&event["source"], &event["detail-type"]), (&json!("aws.guardduty"), &json!("GuardDuty Finding")));
        let found = read(event);
        assert!(!found.is_empty() && found.iter().all(|finding| finding.sample), "{found:?}");
    }

    let named = json!({ "findingTypes": ["Backdoor:EC2/C&CActivity.B"] });
    ask(&service, &aws, "CreateSampleFindings", create, named).await.unwrap();
    let again = aws.events();
    let before = all.iter().find(|event| event["detail"]["id"] == again[0]["detail"]["id"]).unwrap();
    assert_eq!((again.len(), &again[0]["detail"]["service"]["count"]), (1, &json!(2)));
    assert_eq!(again[0]["detail"]["createdAt"], before["detail"]["createdAt"]);

    let id = again[0]["detail"]["id"].clone();
    let listed = ask(&service, &aws, "ListFindings", "/detector/d-1/findings", json!({})).await.unwrap();
    assert!(listed["findingIds"].as_array().unwrap().contains(&id));
    let one = json!({ "findingIds": [id] });
    ask(&service, &aws, "ArchiveFindings", "/detector/d-1/findings/archive", one.clone()).await.unwrap();
    let got = ask(&service, &aws, "GetFindings", "/detector/d-1/findings/get", one).await.unwrap();
    assert_eq!(got["findings"][0]["service"]["archived"], true);
}

/// Their types begin as those of instances do.
#[tokio::test]
async fn malware_in_a_backup_is_no_instances_and_in_a_cluster_is_the_clusters() {
    let backups = [
        "Execution:EC2/MaliciousFile!AMI",
        "Execution:EC2/MaliciousFile!RecoveryPoint",
        "Execution:EC2/MaliciousFile!Snapshot",
        "Execution:S3/MaliciousFile!RecoveryPoint",
    ];
    assert_eq!(kinds(&backups).await, ["AWS::::Account"; 4]);
    assert_eq!(kinds(&["Execution:EC2/MaliciousFile"]).await, ["AWS::EC2::Instance"]);
    assert_eq!(kinds(&["Execution:ECS/MaliciousFile"]).await, ["AWS::ECS::Cluster"]);
    assert_eq!(kinds(&["AttackSequence:ECS/CompromisedCluster"]).await, ["AWS::::Account", "AWS::ECS::Cluster"]);
}

#[test]
fn only_a_sequence_is_critical() {
    for kind in TYPES {
        let is_sequence = kind.name.starts_with("AttackSequence:");
        assert_eq!(kind.severity >= 9.0, is_sequence, "{}", kind.name);
        assert_eq!(matches!(kind.on, types::On::Sequence(_)), is_sequence, "{}", kind.name);
    }
}

#[tokio::test]
async fn a_type_that_is_none_or_retired_and_a_detector_that_is_not_there_are_refused() {
    let (service, aws) = (GuardDuty::default(), aws());
    // AWS retired two of them on 29 May 2026.
    for kind in [
        "Backdoor:EC2/Nothing",
        "Persistence:Kubernetes/ContainerWithSensitiveMount",
        "PrivilegeEscalation:Kubernetes/PrivilegedContainer",
    ] {
        let create = "/detector/d-1/findings/create";
        let named = json!({ "findingTypes": [kind] });
        let wrong = ask(&service, &aws, "CreateSampleFindings", create, named).await.unwrap_err();
        assert_eq!(wrong.code, "BadRequestException", "{kind}");
    }
    let other = ask(&service, &aws, "CreateSampleFindings", "/detector/d-2/findings/create", json!({})).await;
    assert!(other.is_err() && aws.events().is_empty());
}
