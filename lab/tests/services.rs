//! Every family of resource services answers through the gateway: each row of `services.yaml` makes something,
//! changes it and reads it back with a role that may do everything, so that a missing route, action or resource is seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use redress_lab::record::Verdict;
use redress_lab::service::Credentials;
use redress_lab::{Lab, LabOptions};
use serde::Deserialize;
use serde_json::{Value, json};

const ACCOUNT: &str = "222222222222";
const REGION: &str = "us-east-1";

/// One call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// `service:Operation`, by botocore's names.
    call: String,
    /// Its parameters; a text `$name/a/0` is that part of the answer that was kept as `name`.
    #[serde(default)]
    with: Value,
    /// The answer's name.
    keep: Option<String>,
    /// What the answer says, by JSON pointers.
    #[serde(default)]
    says: BTreeMap<String, Value>,
    /// The resource that the caller must be allowed to act on, where it is worth a look.
    on: Option<String>,
}

async fn lab() -> Lab {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    Lab::start(LabOptions::new(root)).await.unwrap()
}

fn filled(value: &Value, kept: &BTreeMap<String, Value>) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('$').and_then(|rest| rest.split_once('/')) {
            Some((name, pointer)) if kept.contains_key(name) => {
                kept[name].pointer(&format!("/{pointer}")).unwrap_or_else(|| panic!("{text}: {}", kept[name])).clone()
            }
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| filled(item, kept)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), filled(field, kept)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// A session of a new role with these permissions.
async fn session(lab: &Lab, name: &str, statements: Value) -> Credentials {
    let root = Credentials::root(ACCOUNT);
    let call = async |operation, parameters| lab.aws().call(&root, REGION, "iam", operation, parameters).await.unwrap();
    let trust = json!({ "Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": "ssm.amazonaws.com" } } });
    let role = call("CreateRole", json!({ "RoleName": name, "AssumeRolePolicyDocument": trust.to_string() })).await;
    let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    call("PutRolePolicy", json!({ "RoleName": name, "PolicyName": "p", "PolicyDocument": policy })).await;
    lab.aws().session(role["Role"]["Arn"].as_str().unwrap(), "s", "ssm.amazonaws.com").await.unwrap()
}

/// What came of a call: `ok`, or the error's code.
async fn outcome(lab: &Lab, who: &Credentials, call: &str, parameters: Value) -> String {
    let (service, operation) = call.split_once(':').unwrap();
    let answer = lab.aws().call(who, REGION, service, operation, parameters).await;
    answer.map_or_else(|error| error.code, |_| "ok".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_change_the_resource_that_its_policy_names_and_no_other() {
    let lab = lab().await;
    let root = Credentials::root(ACCOUNT);
    let statements = json!([
        { "Effect": "Allow", "Action": ["rds:ModifyDBInstance", "rds:DescribeDBInstances"], "Resource": format!("arn:aws:rds:{REGION}:{ACCOUNT}:db:mine") },
        { "Effect": "Allow", "Action": ["elasticfilesystem:DescribeFileSystems", "ec2:DescribeVpcs"], "Resource": "*" },
        { "Effect": "Allow", "Action": "apigateway:GET", "Resource": format!("arn:aws:apigateway:{REGION}::/restapis/*/stages/prod") },
        { "Effect": "Allow", "Action": "s3:GetAccountPublicAccessBlock", "Resource": "*" },
        { "Effect": "Allow", "Action": "ssm:GetServiceSetting", "Resource": format!("arn:aws:ssm:{REGION}:{ACCOUNT}:servicesetting/ssm/documents/console/public-sharing-permission") },
        { "Effect": "Allow", "Action": ["iam:CreateInstanceProfile", "iam:AddRoleToInstanceProfile"], "Resource": format!("arn:aws:iam::{ACCOUNT}:instance-profile/mine") },
        { "Effect": "Allow", "Action": "iam:PassRole", "Resource": "*" },
    ]);
    let role = session(&lab, "Narrow", statements).await;
    for name in ["mine", "other"] {
        let database = json!({ "DBInstanceIdentifier": name, "DBInstanceClass": "db.t3.micro", "Engine": "postgres",
            "AllocatedStorage": 20, "MasterUsername": "u", "MasterUserPassword": "pppppppp" });
        assert_eq!(outcome(&lab, &root, "rds:CreateDBInstance", database).await, "ok");
    }
    for (call, parameters, expected) in [
        ("rds:ModifyDBInstance", json!({ "DBInstanceIdentifier": "mine", "DeletionProtection": true }), "ok"),
        (
            "rds:ModifyDBInstance",
            json!({ "DBInstanceIdentifier": "other", "DeletionProtection": true }),
            "AccessDenied",
        ),
        ("rds:DescribeDBInstances", json!({ "DBInstanceIdentifier": "mine" }), "ok"),
        ("rds:DescribeDBInstances", json!({}), "AccessDenied"),
        ("efs:DescribeFileSystems", json!({}), "ok"),
        ("efs:CreateFileSystem", json!({ "CreationToken": "t" }), "AccessDeniedException"),
        ("redshift:DescribeClusters", json!({}), "AccessDenied"),
        ("guardduty:ListDetectors", json!({}), "AccessDeniedException"),
        ("apigateway:GetStage", json!({ "restApiId": "a", "stageName": "prod" }), "NotFoundException"),
        ("apigateway:GetStage", json!({ "restApiId": "a", "stageName": "test" }), "AccessDeniedException"),
        ("s3control:GetPublicAccessBlock", json!({ "AccountId": ACCOUNT }), "NoSuchPublicAccessBlockConfiguration"),
        ("s3control:DeletePublicAccessBlock", json!({ "AccountId": ACCOUNT }), "AccessDenied"),
        ("ec2:DescribeVpcs", json!({}), "ok"),
        ("ec2:DeleteVpc", json!({ "VpcId": "vpc-1" }), "UnauthorizedOperation"),
        ("ssm:GetServiceSetting", json!({ "SettingId": "/ssm/documents/console/public-sharing-permission" }), "ok"),
        (
            "ssm:GetServiceSetting",
            json!({ "SettingId": "/ssm/managed-instance/default-ec2-instance-management-role" }),
            "AccessDeniedException",
        ),
        ("iam:CreateInstanceProfile", json!({ "InstanceProfileName": "other" }), "AccessDenied"),
        ("iam:CreateInstanceProfile", json!({ "InstanceProfileName": "mine" }), "ok"),
        ("iam:AddRoleToInstanceProfile", json!({ "InstanceProfileName": "mine", "RoleName": "Narrow" }), "ok"),
        // None of its parameters says what is deleted.
        ("efs:DeleteMountTarget", json!({ "MountTargetId": "fsmt-12345678" }), "LabCannotTell"),
    ] {
        assert_eq!(outcome(&lab, &role, call, parameters).await, expected, "{call}");
    }
    let calls = lab.record().calls();
    let denied: Vec<_> =
        calls.iter().filter(|call| call.verdict == Verdict::Deny && call.operation == "ModifyDBInstance").collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].checks[0].resource, format!("arn:aws:rds:{REGION}:{ACCOUNT}:db:other"));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_of_services_makes_changes_and_tells_the_truth() {
    let families: BTreeMap<String, Vec<Step>> = serde_saphyr::from_str(include_str!("services.yaml")).unwrap();
    let lab = lab().await;
    let everything = json!([{ "Effect": "Allow", "Action": "*", "Resource": "*" }]);
    let role = session(&lab, "Everything", everything).await;
    let mut wrong = Vec::new();
    for (family, steps) in &families {
        let mut kept = BTreeMap::new();
        for Step { call, with, keep, says, on } in steps {
            let (service, operation) = call.split_once(':').unwrap();
            let parameters = if with.is_null() { json!({}) } else { filled(with, &kept) };
            let answer = match lab.aws().call(&role, REGION, service, operation, parameters).await {
                Ok(answer) => answer,
                Err(error) => {
                    wrong.push(format!("{family}: {call}: {error}"));
                    // The rest would only tell the same.
                    break;
                }
            };
            for (pointer, expected) in says {
                let said = answer.pointer(pointer).unwrap_or(&Value::Null);
                if said != expected {
                    wrong.push(format!("{family}: {call}: {pointer} is {said}, not {expected}"));
                }
            }
            let calls = lab.record().calls();
            let noted = calls.iter().rev().find(|noted| noted.operation == operation);
            let checks = noted.filter(|noted| noted.verdict == Verdict::Allow).map_or(&[][..], |noted| &noted.checks);
            let checked: Vec<&str> = checks.iter().map(|check| check.resource.as_str()).collect();
            if checked.is_empty() || on.as_ref().is_some_and(|on| !checked.contains(&on.as_str())) {
                wrong.push(format!("{family}: {call} was authorised on {checked:?}, not {on:?}"));
            }
            if let Some(name) = keep {
                kept.insert(name.clone(), answer);
            }
        }
    }
    lab.stop().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
