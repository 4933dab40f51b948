#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

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
        // What Redress reads of it is what it reads of GuardDuty's.
        let whole = json!({
            "version": "0", "id": "e", "source": event["source"], "detail-type": event["detail-type"],
            "account": event["account"], "region": event["region"], "time": "2026-03-01T09:00:00Z", "resources": [],
            "detail": event["detail"],
        });
        let read = redress_common::finding::parse(whole.to_string().as_bytes()).unwrap();
        let redress_common::finding::Inbound::Findings(found) = read else { unreachable!() };
        assert!(found.iter().all(|one| one.as_ref().is_ok_and(|finding| finding.sample)), "{found:?}");
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

#[tokio::test]
async fn a_type_that_is_none_and_a_detector_that_is_not_there_are_refused() {
    let (service, aws) = (GuardDuty::default(), aws());
    let named = json!({ "findingTypes": ["Backdoor:EC2/Nothing"] });
    let wrong = ask(&service, &aws, "CreateSampleFindings", "/detector/d-1/findings/create", named).await.unwrap_err();
    assert_eq!(wrong.code, "BadRequestException");
    let other = ask(&service, &aws, "CreateSampleFindings", "/detector/d-2/findings/create", json!({})).await;
    assert!(other.is_err() && aws.events().is_empty());
}
