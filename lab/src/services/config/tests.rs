#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::services::fake::{FakeAws, request};

const ACCOUNT: &str = "222222222222";
const RULE: &str = "securityhub-s3-bucket-level-public-access-prohibited-1a2b3c4d";

struct Bed {
    config: Config,
    hub: Arc<SecurityHub>,
    aws: Arc<FakeAws>,
    blocked: Arc<AtomicBool>,
    there: Arc<AtomicBool>,
}

impl Bed {
    /// An account with one bucket, which is public until `blocked`.
    async fn new() -> Self {
        let (blocked, there) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let (is_blocked, is_there) = (blocked.clone(), there.clone());
        let aws = FakeAws::new(move |service, operation, _| match (service, operation) {
            ("s3", "ListBuckets") if is_there.load(Ordering::Relaxed) => Ok(json!({ "Buckets": [{ "Name": "b" }] })),
            ("s3", "ListBuckets") => Ok(json!({ "Buckets": [] })),
            ("s3", "GetPublicAccessBlock") if is_blocked.load(Ordering::Relaxed) => {
                Ok(json!({ "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": true } }))
            }
            ("s3", "GetPublicAccessBlock") => Err(AwsError::new("NoSuchPublicAccessBlockConfiguration", "none")),
            ("s3", "GetBucketTagging") => Err(AwsError::new("AccessDenied", "no")),
            _ => Err(AwsError::new("Unexpected", format!("{service}:{operation}"))),
        });
        let hub = Arc::new(SecurityHub::default());
        let bed = Self { config: Config::new(hub.clone()), hub, aws: Arc::new(aws), blocked, there };
        bed.hub.handle(request("securityhub", ACCOUNT, "EnableSecurityHub", json!({})), bed.aws.clone()).await.unwrap();
        bed.put(RULE, "S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED").await;
        bed
    }

    async fn put(&self, name: &str, identifier: &str) {
        let rule = json!({ "ConfigRuleName": name, "Source": { "Owner": "AWS", "SourceIdentifier": identifier } });
        self.call("PutConfigRule", json!({ "ConfigRule": rule })).await.unwrap();
    }

    async fn call(&self, operation: &str, body: Value) -> Result<Value, AwsError> {
        self.config.handle(request("config", ACCOUNT, operation, body), self.aws.clone()).await
    }

    async fn evaluate(&self) -> Vec<Value> {
        self.call("StartConfigRulesEvaluation", json!({ "ConfigRuleNames": [RULE] })).await.unwrap();
        self.aws.events()
    }
}

#[tokio::test]
async fn config_tells_of_transitions_only_and_security_hub_hears_of_them() {
    let bed = Bed::new().await;
    let events = bed.evaluate().await;
    let kinds: Vec<&str> = events.iter().map(|event| event["detail-type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Config Rules Compliance Change", "Security Hub Findings - Imported"]);
    let detail = &events[0]["detail"];
    assert_eq!(detail["newEvaluationResult"]["complianceType"], "NON_COMPLIANT");
    assert!(detail.get("oldEvaluationResult").is_none());
    assert!(bed.evaluate().await.is_empty(), "nothing changed");

    bed.blocked.store(true, Ordering::Relaxed);
    let events = bed.evaluate().await;
    let detail = &events[0]["detail"];
    assert_eq!(detail["newEvaluationResult"]["complianceType"], "COMPLIANT");
    assert_eq!(detail["oldEvaluationResult"]["complianceType"], "NON_COMPLIANT");
    assert_eq!(events[1]["detail"]["findings"][0]["Compliance"]["Status"], "PASSED");

    bed.there.store(false, Ordering::Relaxed);
    let events = bed.evaluate().await;
    assert_eq!(events[0]["detail"]["newEvaluationResult"]["complianceType"], "NOT_APPLICABLE");
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn the_two_reports_of_one_evaluation_are_one_generation_of_one_resource() {
    let bed = Bed::new().await;
    let mut findings = Vec::new();
    for mut event in bed.evaluate().await {
        for (name, value) in [("version", "0"), ("id", "6f1c"), ("time", "2026-01-01T00:00:00Z")] {
            event[name] = value.into();
        }
        match redress_common::finding::parse(event.to_string().as_bytes()).unwrap() {
            redress_common::finding::Inbound::Findings(parsed) => {
                findings.extend(parsed.into_iter().map(Result::unwrap))
            }
            other => panic!("{other:?}"),
        }
    }
    let [config, hub] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(config.resource.arn, hub.resource.arn);
    assert_eq!(config.generation, hub.generation);
}

#[tokio::test]
async fn compliance_can_be_asked_by_rule_and_by_resource() {
    let bed = Bed::new().await;
    let compliance = async || {
        bed.call("DescribeComplianceByConfigRule", json!({})).await.unwrap()["ComplianceByConfigRules"][0].clone()
    };
    assert_eq!(compliance().await["Compliance"]["ComplianceType"], "INSUFFICIENT_DATA");
    bed.evaluate().await;
    assert_eq!(compliance().await["Compliance"]["ComplianceContributorCount"]["CappedCount"], 1);
    let details = bed.call("GetComplianceDetailsByConfigRule", json!({ "ConfigRuleName": RULE })).await.unwrap();
    let result = &details["EvaluationResults"][0];
    assert_eq!(result["EvaluationResultIdentifier"]["EvaluationResultQualifier"]["ResourceId"], "b");
    assert_eq!(result["ComplianceType"], "NON_COMPLIANT");
}

#[tokio::test]
async fn a_rule_that_cannot_read_its_resources_reports_an_error_and_no_verdict() {
    let bed = Bed::new().await;
    bed.put("required-tags", "REQUIRED_TAGS").await;
    bed.call("StartConfigRulesEvaluation", json!({ "ConfigRuleNames": ["required-tags"] })).await.unwrap();
    assert!(bed.aws.events().is_empty());
    let status =
        bed.call("DescribeConfigRuleEvaluationStatus", json!({ "ConfigRuleNames": ["required-tags"] })).await.unwrap();
    assert_eq!(status["ConfigRulesEvaluationStatus"][0]["LastErrorCode"], "AccessDenied");
}

#[tokio::test]
async fn a_custom_rule_takes_the_verdicts_that_it_is_given() {
    let bed = Bed::new().await;
    let rule = json!({ "ConfigRuleName": "mine", "Source": { "Owner": "CUSTOM_LAMBDA", "SourceIdentifier": "arn:x" } });
    bed.call("PutConfigRule", json!({ "ConfigRule": rule })).await.unwrap();
    let evaluation = json!({ "ComplianceResourceType": "AWS::S3::Bucket", "ComplianceResourceId": "b", "ComplianceType": "NON_COMPLIANT" });
    for expected in [1, 0] {
        bed.call("PutEvaluations", json!({ "ResultToken": "mine", "Evaluations": [evaluation] })).await.unwrap();
        assert_eq!(bed.aws.events().len(), expected);
    }
}

#[tokio::test]
async fn rules_that_are_not_there_or_not_known_are_refused() {
    let bed = Bed::new().await;
    let unknown = json!({ "ConfigRuleName": "x", "Source": { "Owner": "AWS", "SourceIdentifier": "NO_SUCH_RULE" } });
    assert_eq!(
        bed.call("PutConfigRule", json!({ "ConfigRule": unknown })).await.unwrap_err().code,
        "InvalidParameterValueException"
    );
    assert_eq!(
        bed.call("DeleteConfigRule", json!({ "ConfigRuleName": "x" })).await.unwrap_err().code,
        "NoSuchConfigRuleException"
    );
    bed.call("DeleteConfigRule", json!({ "ConfigRuleName": RULE })).await.unwrap();
    assert_eq!(bed.call("DescribeConfigRules", json!({})).await.unwrap()["ConfigRules"], json!([]));
}
