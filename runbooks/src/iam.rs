//! Which IAM actions a control's calls need, on which resources. No wildcards in actions; `*` as a resource only
//! where IAM knows no narrower one.
//!
//! Resources are written for `Fn::Sub`: the partition and the account are filled where the stack is made.

use std::collections::{BTreeMap, BTreeSet};

use redress_common::names;
use serde_json::{Value, json};

use crate::control::{Body, Call, Control};

/// Services whose IAM prefix is not their SDK name.
const PREFIXES: [(&str, &str); 9] = [
    ("apigatewayv2", "apigateway"),
    ("efs", "elasticfilesystem"),
    ("elb", "elasticloadbalancing"),
    ("elbv2", "elasticloadbalancing"),
    ("emr", "elasticmapreduce"),
    ("opensearch", "es"),
    ("resourcegroupstaggingapi", "tag"),
    ("s3control", "s3"),
    ("stepfunctions", "states"),
];

/// Operations whose IAM action has another name, by service and operation.
const RENAMED: [(&str, &str, &str); 9] = [
    ("s3", "DeleteBucketEncryption", "s3:PutEncryptionConfiguration"),
    ("s3", "GetBucketEncryption", "s3:GetEncryptionConfiguration"),
    ("s3", "PutBucketEncryption", "s3:PutEncryptionConfiguration"),
    ("s3", "GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock"),
    ("s3", "PutPublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    ("s3", "DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    ("s3control", "GetPublicAccessBlock", "s3:GetAccountPublicAccessBlock"),
    ("s3control", "PutPublicAccessBlock", "s3:PutAccountPublicAccessBlock"),
    ("s3control", "DeletePublicAccessBlock", "s3:PutAccountPublicAccessBlock"),
];

/// The HTTP methods that stand for actions in API Gateway's policies, by how an operation's name starts.
const API_GATEWAY: [(&str, &str); 4] = [("Get", "GET"), ("Update", "PATCH"), ("Create", "POST"), ("Delete", "DELETE")];

/// Actions that IAM cannot limit to a resource.
const WITHOUT_RESOURCE: [&str; 3] =
    ["ec2:GetEbsEncryptionByDefault", "ec2:EnableEbsEncryptionByDefault", "ec2:DisableEbsEncryptionByDefault"];

/// What is granted: actions by the set of resources that they are granted on.
pub type Grants = BTreeMap<BTreeSet<String>, BTreeSet<String>>;

/// The actions that a control's own calls need, each with its resources.
#[must_use]
pub fn actions(control: &Control) -> BTreeMap<String, BTreeSet<String>> {
    match &control.body {
        Body::Api(api) => {
            let calls = [&api.inspect.call]
                .into_iter()
                .chain(&api.apply)
                .chain(&api.restore.present)
                .chain(&api.restore.absent);
            let on = |action: &str| -> BTreeSet<String> {
                if WITHOUT_RESOURCE.contains(&action) || control.resource.is_account() {
                    BTreeSet::from(["*".to_owned()])
                } else {
                    control.resource.arns.iter().map(|pattern| resource(pattern)).collect()
                }
            };
            let own = calls.map(action).map(|action| (action.clone(), on(&action)));
            let said = api.grants.iter().map(|(action, resources)| {
                (action.clone(), resources.iter().map(|pattern| resource(pattern)).collect())
            });
            own.chain(said).collect()
        }
        Body::Native(native) => native
            .calls
            .iter()
            .map(|(action, resources)| (action.clone(), resources.iter().map(|pattern| resource(pattern)).collect()))
            .collect(),
        Body::Guidance(_) => BTreeMap::new(),
    }
}

/// The IAM action of a call.
fn action(call: &Call) -> String {
    let renamed =
        RENAMED.iter().find(|(service, operation, _)| *service == call.service && *operation == call.operation);
    if let Some((_, _, action)) = renamed {
        return (*action).to_owned();
    }
    let prefix = PREFIXES.iter().find(|(service, _)| *service == call.service);
    let prefix = prefix.map_or(call.service.as_str(), |(_, prefix)| prefix);
    let verb = API_GATEWAY.iter().find(|(start, _)| prefix == "apigateway" && call.operation.starts_with(start));
    let operation = verb.map_or(call.operation.as_str(), |(_, verb)| verb);
    format!("{prefix}:{operation}")
}

/// A pattern of a control file, for `Fn::Sub`.
fn resource(pattern: &str) -> String {
    let parts: Vec<&str> = pattern.splitn(6, ':').collect();
    let [_, _, service, region, account, name] = parts.as_slice() else { return pattern.to_owned() };
    let account = if *account == "*" { "${AWS::AccountId}" } else { account };
    let name = name.replace("{path}", "*").replace("{}", "*");
    format!("arn:${{AWS::Partition}}:{service}:{region}:{account}:{name}")
}

fn add(grants: &mut BTreeMap<String, BTreeSet<String>>, action: &str, resources: &[String]) {
    grants.entry(action.to_owned()).or_default().extend(resources.iter().cloned());
}

fn function(name: &str) -> String {
    format!("arn:${{AWS::Partition}}:lambda:*:${{AWS::AccountId}}:function:{name}")
}

fn ssm(resource: &str) -> String {
    format!("arn:${{AWS::Partition}}:ssm:*:${{AWS::AccountId}}:{resource}")
}

/// The policy statements of the execution role of each service family.
#[must_use]
pub fn family_statements(controls: &[Control]) -> BTreeMap<String, Vec<Value>> {
    let mut families: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let is_done = |control: &&Control| !control.direct && !matches!(control.body, Body::Guidance(_));
    for control in controls.iter().filter(is_done) {
        let grants = families.entry(names::family_role(&control.id)).or_default();
        match &control.body {
            Body::Api(_) => {
                for (action, resources) in actions(control) {
                    grants.entry(action).or_default().extend(resources);
                }
                add(grants, "lambda:InvokeFunction", &[function(names::RECORDER_FUNCTION)]);
                // IAM knows no resource for it.
                add(grants, "ssm:DescribeAutomationStepExecutions", &["*".to_owned()]);
            }
            Body::Native(native) => {
                add(grants, "lambda:InvokeFunction", &[function(names::native_function(&control.id))]);
                // What SSM waits for has an id that nobody knows beforehand.
                for copied in &native.copies {
                    add(grants, &action(&copied.call), &["*".to_owned()]);
                }
            }
            Body::Guidance(_) => {}
        }
    }
    families.into_iter().map(|(role, grants)| (role, statements(grants))).collect()
}

/// The policy statements of the Lambda role that runs the native controls, but for those that destroy.
#[must_use]
pub fn native_statements(controls: &[Control]) -> Vec<Value> {
    called(controls.iter().filter(|control| !control.direct && !names::destroys(&control.id)))
}

/// The policy statements of the Lambda role that runs the native controls that destroy.
#[must_use]
pub fn destroy_statements(controls: &[Control]) -> Vec<Value> {
    called(controls.iter().filter(|control| !control.direct && names::destroys(&control.id)))
}

/// The policy statements of the Lambda roles that run the playbooks, by family.
#[must_use]
pub fn contain_statements(controls: &[Control]) -> BTreeMap<&'static str, Vec<Value>> {
    let family = |control: &Control| control.resource.types.first().and_then(|kind| names::contain_family(kind));
    let of = |name: &'static str| {
        let own: Vec<&Control> =
            controls.iter().filter(|control| control.direct && family(control) == Some(name)).collect();
        (!own.is_empty()).then(|| (name, called(own.into_iter())))
    };
    names::CONTAIN.iter().filter_map(|(name, _)| of(name)).collect()
}

/// What native functions call.
fn called<'a>(controls: impl Iterator<Item = &'a Control>) -> Vec<Value> {
    let mut by_condition: BTreeMap<&BTreeMap<String, String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let always = BTreeMap::new();
    for control in controls {
        let Body::Native(native) = &control.body else { continue };
        for (action, resources) in actions(control) {
            let condition = native.only.get(&action).unwrap_or(&always);
            by_condition.entry(condition).or_default().entry(action).or_default().extend(resources);
        }
    }
    let limited = |(condition, grants): (&BTreeMap<String, String>, _)| {
        let mut statements = statements(grants);
        if !condition.is_empty() {
            statements.iter_mut().for_each(|statement| statement["Condition"] = written(condition));
        }
        statements
    };
    by_condition.into_iter().flat_map(limited).collect()
}

/// A condition of a control file, as a policy writes it.
fn written(condition: &BTreeMap<String, String>) -> Value {
    let mut operators: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for (key, value) in condition {
        let (operator, value) = match value.starts_with("arn:*:") {
            // To IAM this key is a text.
            true if key == "iam:PermissionsBoundary" => ("StringEquals", json!({ "Fn::Sub": resource(value) })),
            true => ("ArnEquals", json!({ "Fn::Sub": resource(value) })),
            // The one service of those that has another name in China.
            false if value == "ec2.amazonaws.com" => ("StringEquals", json!({ "Fn::Sub": "ec2.${AWS::URLSuffix}" })),
            false => ("StringEquals", json!(value)),
        };
        operators.entry(operator).or_default().insert(key, value);
    }
    json!(operators)
}

/// The policy statements of the control runbook's role, which passes these roles to the runbooks that it starts.
pub fn control_statements<'a>(passed: impl IntoIterator<Item = &'a String>) -> Vec<Value> {
    let arn =
        |role: &String| json!({ "Fn::Sub": format!("arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/{role}") });
    let mut grants = BTreeMap::new();
    let mut add = |action: &str, resources: &[String]| add(&mut grants, action, resources);
    add("ssm:DescribeDocument", &[ssm("document/Redress-*")]);
    add("ssm:StartAutomationExecution", &[ssm("automation-definition/Redress-*:*"), ssm("document/Redress-*")]);
    add("ssm:GetAutomationExecution", &[ssm("automation-execution/*")]);
    add(
        "s3:GetObject",
        &["arn:${AWS::Partition}:s3:::security-remediation-logs-${AWS::AccountId}-${AWS::Region}/year=*".to_owned()],
    );
    let mut statements = statements(grants);
    statements.push(json!({
        "Effect": "Allow",
        "Action": ["iam:PassRole"],
        "Resource": passed.into_iter().map(arn).collect::<Vec<_>>(),
        "Condition": { "StringEquals": { "iam:PassedToService": "ssm.amazonaws.com" } },
    }));
    statements
}

/// One statement for each set of resources.
fn statements(grants: BTreeMap<String, BTreeSet<String>>) -> Vec<Value> {
    let mut by_resources: Grants = BTreeMap::new();
    for (action, resources) in grants {
        by_resources.entry(resources).or_default().insert(action);
    }
    let sub =
        |resource: &String| if resource.contains("${") { json!({ "Fn::Sub": resource }) } else { json!(resource) };
    by_resources
        .into_iter()
        .map(|(resources, actions)| {
            json!({ "Effect": "Allow", "Action": actions, "Resource": resources.iter().map(sub).collect::<Vec<_>>() })
        })
        .collect()
}
