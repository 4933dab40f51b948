//! What may be sent to an instance before it is isolated: the stack's one document, and nothing where none is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "other tests use the rest of it")]
mod support;

use redress_common::command_document::ALLOWED_PATTERN;
use redress_runbooks::trust;
use serde_json::{Value, json};
use support::root;

const MEMBER: &str = "stacksets/member-stack.yaml";
const REGION: &str = "stacksets/member-region.yaml";
const ROLES: &str = "stacksets/member-roles.yaml";
const PARAMETER: &str = "MemoryCaptureDocument";

fn template(path: &str) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    trust::template(path, &text).unwrap()
}

/// Whether an action of Systems Manager's commands is granted in there.
fn commands(value: &Value) -> bool {
    let text = value.to_string();
    text.contains("ssm:SendCommand") || text.contains("ssm:GetCommandInvocation")
}

#[test]
fn the_parameter_goes_to_the_function_of_instances_and_to_no_other() {
    for path in [MEMBER, REGION] {
        let template = template(path);
        let parameter = &template["Parameters"][PARAMETER];
        let said = (&parameter["Default"], &parameter["AllowedPattern"]);
        assert_eq!(said, (&json!(""), &json!(ALLOWED_PATTERN)), "{path}");
        let resources = template["Resources"].as_object().unwrap();
        let variable = |one: &Value| one["Properties"]["Environment"]["Variables"]["MEMORY_CAPTURE_DOCUMENT"].clone();
        let has: Vec<&str> =
            resources.iter().filter(|(_, one)| !variable(one).is_null()).map(|(id, _)| id.as_str()).collect();
        assert_eq!(has, ["ContainEC2"], "{path}");
        assert_eq!(variable(&resources["ContainEC2"]), json!({ "Ref": PARAMETER }), "{path}");
    }
}

#[test]
fn a_command_may_be_sent_only_where_a_document_is_named_and_only_that_one() {
    let template = template(MEMBER);
    let named = json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": PARAMETER }, ""] }] });
    assert_eq!(template["Conditions"]["CapturesMemory"], named);
    let mut resources = template["Resources"].clone();
    let role = resources.as_object_mut().unwrap().remove("ContainEC2Role").unwrap();
    assert!(!commands(&resources), "no other role may");
    let statements = role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].as_array().unwrap().iter();
    let (given, always): (Vec<&Value>, Vec<&Value>) = statements.partition(|one| one.get("Fn::If").is_some());
    assert!(!always.iter().any(|one| commands(one)), "{always:#?}");
    let choices: Vec<&Value> = given.iter().map(|one| &one["Fn::If"]).collect();
    for choice in &choices {
        assert_eq!((&choice[0], &choice[2]), (&json!("CapturesMemory"), &json!({ "Ref": "AWS::NoValue" })));
    }
    let arn = |text: &str| json!({ "Fn::Sub": text });
    let sent = json!({
        "Sid": "MemoryCapture", "Effect": "Allow", "Action": ["ssm:SendCommand"], "Resource": [
            arn("arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:instance/*"),
            arn("arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:document/${MemoryCaptureDocument}"),
        ],
    });
    let read = json!({
        "Sid": "MemoryCaptured", "Effect": "Allow", "Action": ["ssm:GetCommandInvocation"], "Resource": "*",
    });
    assert_eq!(choices.iter().map(|choice| &choice[1]).collect::<Vec<_>>(), [&sent, &read]);
}

#[test]
fn where_the_playbooks_file_names_no_document_its_policy_lets_none_be_sent() {
    assert!(!commands(&template(ROLES)));
}
