#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::services::fake::FakeAws;
use crate::services::ssm::Ssm;

fn plan() -> Plan {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Plan::of(root, &["payments", "web"], Arc::new(|_| ())).unwrap()
}

/// CloudFormation that creates every resource of the plan's templates. A nested stack is called `physical-` and its logical id.
fn cloud(operation: &str, asked: &Value, status: &str, plan: &Plan) -> Result<Value, AwsError> {
    let name = asked["StackName"].as_str().unwrap_or_default();
    Ok(match operation {
        "DescribeStacks" => {
            let given = [
                ("OrganizationId", "o-abcdefghij"),
                ("MemberAccountIds", "222222222222,333333333333"),
                ("CheckpointLockDays", "400"),
                ("CheckpointLockMode", "GOVERNANCE"),
            ];
            let given = given.map(|(key, value)| json!({ "ParameterKey": key, "ParameterValue": value }));
            json!({ "Stacks": [{ "StackName": name, "StackStatus": status, "Parameters": given }] })
        }
        "GetTemplate" => {
            let file = format!("{}.yaml", name.trim_start_matches("physical-").to_lowercase());
            json!({ "TemplateBody": plan.administrator_nested[&file].text })
        }
        "DescribeStackEvents" => json!({ "StackEvents": [
            { "LogicalResourceId": "Key", "ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": "no more keys" } ] }),
        "DescribeStackResources" => {
            let nested = plan.administrator_nested.values();
            let sources = [&plan.administrator_stack, &plan.member_stack, &plan.member_roles].into_iter().chain(nested);
            let resources = sources.flat_map(|source| source.template.resources()).map(|(id, kind, _)| {
                json!({ "LogicalResourceId": id, "PhysicalResourceId": format!("physical-{id}"), "ResourceType": kind })
            });
            json!({ "StackResources": resources.collect::<Vec<_>>() })
        }
        _ => json!({}),
    })
}

#[tokio::test]
async fn every_account_gets_its_stacks_runbooks_and_rules() {
    let plan = plan();
    let there = plan.clone();
    let aws = Arc::new(FakeAws::new(move |service, operation, asked| match (service, operation) {
        ("organizations", _) => Ok(json!({ "Organization": { "Id": "o-abcdefghij" } })),
        ("cloudformation", _) => cloud(operation, asked, "CREATE_COMPLETE", &there),
        _ => Ok(json!({})),
    }));
    let ssm = Ssm::default();
    let organisation = organisation(aws.clone(), &ssm, &plan).await.unwrap();
    assert_eq!(organisation.id, "o-abcdefghij");

    let calls = aws.calls();
    let count = |account: &str, operation: &str| {
        calls.iter().filter(|(who, what, _)| who == account && what == operation).count()
    };
    let member = organisation.members[1].id.as_str();
    assert_eq!(count(organisation.administrator.id.as_str(), "cloudformation:CreateStack"), 1);
    assert_eq!(count(organisation.administrator.id.as_str(), "securityhub:CreateActionTarget"), names::ACTIONS.len());
    let made = calls
        .iter()
        .find(|(_, what, asked)| what == "cloudformation:CreateStack" && asked["StackName"] == "redress-administrator");
    let rules = json!({ "ParameterKey": "AutomationRules", "ParameterValue": "Enabled" });
    assert!(made.unwrap().2["Parameters"].as_array().unwrap().contains(&rules), "the stack has Security Hub's rules");
    assert_eq!(count(member, "cloudformation:CreateStack"), 2);
    assert_eq!(count(member, "config:PutConfigRule"), CONFIG_RULES.len());
    for control in plan
        .catalogue
        .0
        .iter()
        .filter(|(_, entry)| entry.guidance.is_empty() && entry.direct.is_none())
        .map(|(control, _)| control)
    {
        let name = redress_common::names::control_document(control);
        assert!(ssm.has_document(member, "us-east-1", &name), "{name}");
    }
    assert!(ssm.has_document(member, "us-east-1", redress_common::names::CONTROL_DOCUMENT));
}

#[tokio::test]
async fn what_the_emulator_leaves_out_is_added_from_the_template() {
    let plan = plan();
    let there = plan.clone();
    let aws = Arc::new(FakeAws::new(move |service, operation, asked| match (service, operation) {
        ("organizations", _) => Ok(json!({ "Organization": { "Id": "o-abcdefghij" } })),
        ("cloudformation", _) => cloud(operation, asked, "CREATE_COMPLETE", &there),
        _ => Ok(json!({})),
    }));
    organisation(aws.clone(), &Ssm::default(), &plan).await.unwrap();
    let calls = aws.calls();
    let parameters = |operation: &str| {
        calls.iter().find(|(_, what, _)| what == operation).unwrap_or_else(|| panic!("no {operation}")).2.clone()
    };

    let policy: Value = serde_json::from_str(parameters("events:PutPermission")["Policy"].as_str().unwrap()).unwrap();
    assert_eq!(policy["Statement"][0]["Condition"]["StringEquals"]["aws:PrincipalOrgID"], "o-abcdefghij");
    assert_eq!(policy["Statement"][1]["Principal"]["AWS"], json!(["222222222222", "333333333333"]));
    let append_only = parameters("dynamodb:PutResourcePolicy");
    assert!(append_only["Policy"].as_str().unwrap().contains("dynamodb:UpdateItem"));
    assert_eq!(parameters("dynamodb:UpdateTimeToLive")["TimeToLiveSpecification"]["AttributeName"], "ExpiresAt");
    let is_ours = |(_, what, given): &&(String, String, Value)| {
        what == "s3:PutBucketEncryption" && given["Bucket"] == "physical-EvidenceBucket"
    };
    let encryption = &calls.iter().find(is_ours).unwrap().2;
    let default = &encryption["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"];
    assert!(default["KMSMasterKeyID"].as_str().unwrap().ends_with(":key/physical-Key"));
}

#[tokio::test]
async fn a_stack_that_fails_says_which_resource_and_why() {
    let plan = plan();
    let there = plan.clone();
    let aws = Arc::new(FakeAws::new(move |service, operation, asked| match service {
        "cloudformation" => cloud(operation, asked, "ROLLBACK_COMPLETE", &there),
        _ => Ok(json!({})),
    }));
    let error = organisation(aws, &Ssm::default(), &plan).await.unwrap_err().to_string();
    assert!(error.contains("ROLLBACK_COMPLETE") && error.contains("Key: no more keys"), "{error}");
}

#[tokio::test]
async fn a_refused_call_names_the_operation_and_the_account() {
    let refused = AtomicBool::new(false);
    let aws = Arc::new(FakeAws::new(move |service, operation, _| match (service, operation) {
        ("s3", "CreateBucket") if !refused.swap(true, Ordering::Relaxed) => {
            Err(AwsError::new("BucketAlreadyExists", "taken"))
        }
        _ => Ok(json!({})),
    }));
    let error = organisation(aws, &Ssm::default(), &plan()).await.unwrap_err().to_string();
    assert!(error.starts_with("s3:CreateBucket in account 111111111111"), "{error}");
}

#[test]
fn every_config_rule_of_a_member_reports_a_control_of_the_catalogue() {
    let plan = plan();
    for rule in CONFIG_RULES {
        let check = redress_common::finding::Check::ConfigRule(rule.name.to_owned());
        assert!(plan.catalogue.resolve(&check).is_some(), "{}", rule.name);
    }
}
