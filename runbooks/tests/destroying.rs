//! What may destroy, and what must not be able to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use redress_common::catalogue::Risk;
use redress_common::names;
use redress_runbooks::control::{Body, Control};
use redress_runbooks::{compile_all, iam, write};
use serde_json::{Value, json};
use support::{controls, root};

/// The actions that nobody can undo at the end of an incident, and the controls that may make them.
const ALLOWED: [(&str, &[&str]); 2] = [
    // EC2.4: an instance that has been stopped for long, after an image of it.
    ("ec2:TerminateInstances", &["Destroy.EC2Instance", "EC2.4"]),
    ("iam:DeleteAccessKey", &["Destroy.IAMUserKeys"]),
];

fn all() -> Vec<Control> {
    write::load_all(&root()).unwrap()
}

fn actions(statements: &[Value]) -> BTreeSet<String> {
    let all = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    all.map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_these_files_ask_for_the_right_to_destroy() {
    let mut asking: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for control in all() {
        let asked = iam::actions(&control);
        for (action, _) in ALLOWED.iter().filter(|(action, _)| asked.contains_key(*action)) {
            assert!(!control.direct, "{} is a playbook", control.id);
            asking.entry(action).or_default().insert(control.id.to_string());
        }
    }
    let allowed = ALLOWED.map(|(action, ids)| (action, ids.iter().map(ToString::to_string).collect()));
    assert_eq!(asking, allowed.into_iter().collect());
}

#[test]
fn no_runbooks_role_and_no_playbooks_role_has_it() {
    let all = all();
    let of_families = iam::family_statements(&all);
    for (role, statements) in &of_families {
        let held = actions(statements);
        assert!(ALLOWED.iter().all(|(action, _)| !held.contains(*action)), "{role}");
    }
    for (family, statements) in iam::contain_statements(&all) {
        let held = actions(&statements);
        assert!(ALLOWED.iter().all(|(action, _)| !held.contains(*action)), "{family}");
    }
    // It is the function's, whose runbooks have a role of their own: to invoke it, and to see snapshots and images.
    let own = actions(&of_families["Redress-Remediate-Destroy"]);
    assert_eq!(own, ["ec2:DescribeImages", "ec2:DescribeSnapshots", "lambda:InvokeFunction"].map(str::to_owned).into());
    let native = actions(&iam::native_statements(&all));
    assert!(ALLOWED.iter().all(|(action, _)| !native.contains(*action)), "the function of all other native controls");
    let destroying = actions(&iam::destroy_statements(&all));
    assert!(ALLOWED.iter().all(|(action, _)| destroying.contains(*action)));
}

#[test]
fn the_function_that_destroys_does_the_controls_that_ask_for_the_right_and_no_other() {
    let of_function: BTreeSet<String> = controls()
        .iter()
        .filter(|control| names::destroys(&control.id))
        .map(|control| control.id.to_string())
        .collect();
    let asking: BTreeSet<String> = ALLOWED.iter().flat_map(|(_, ids)| ids.iter()).map(|id| (*id).to_owned()).collect();
    assert_eq!(of_function, asking);
    // What it has beside: to look, and what comes before the end. Nothing that another control needs alone.
    let all = all();
    let destroying = actions(&iam::destroy_statements(&all));
    let own: BTreeSet<String> = all
        .iter()
        .filter(|control| asking.contains(control.id.as_str()))
        .flat_map(|control| iam::actions(control).into_keys())
        .collect();
    assert_eq!(destroying, own);
}

#[test]
fn only_the_runbooks_of_what_destroys_invoke_its_function_and_they_invoke_no_other() {
    let all = all();
    let arn = |name: &str| json!({ "Fn::Sub": format!("arn:${{AWS::Partition}}:lambda:*:${{AWS::AccountId}}:function:{name}") });
    for (role, statements) in iam::family_statements(&all) {
        let invoking =
            statements.iter().filter(|one| one["Action"].as_array().unwrap().contains(&json!("lambda:InvokeFunction")));
        let invoked: Vec<Value> = invoking.flat_map(|one| one["Resource"].as_array().unwrap().clone()).collect();
        let may_destroy = invoked.contains(&arn(names::DESTROY_FUNCTION));
        assert_eq!(may_destroy, role == "Redress-Remediate-Destroy", "{role}: {invoked:?}");
        assert!(!may_destroy || invoked.len() == 1, "{role}: {invoked:?}");
    }
    let generated = compile_all(&all).unwrap();
    let mut destroying = BTreeSet::new();
    for (name, document) in &generated.documents {
        let steps = document["mainSteps"].as_array().unwrap().iter();
        let named: BTreeSet<&str> = steps.filter_map(|step| step["inputs"]["FunctionName"].as_str()).collect();
        if named.contains(names::DESTROY_FUNCTION) {
            assert_eq!(named.len(), 1, "{name}: {named:?}");
            let role = document["parameters"]["AutomationAssumeRole"]["allowedPattern"].as_str().unwrap();
            assert!(role.ends_with(":role/Redress-Remediate-Destroy$"), "{name}: {role}");
            destroying.insert(name.as_str());
        }
    }
    assert_eq!(destroying, ["Redress-Destroy.EC2Instance", "Redress-Destroy.IAMUserKeys", "Redress-EC2.4"].into());
}

#[test]
fn its_rights_are_attached_to_its_role_alone() {
    let generated = compile_all(&all()).unwrap();
    let template: Value = serde_saphyr::from_str(&generated.roles_template).unwrap();
    let mut roles = BTreeSet::new();
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let properties = &resource["Properties"];
        let Some(policy) = properties.get("PolicyDocument") else { continue };
        let held = actions(policy["Statement"].as_array().unwrap());
        if ALLOWED.iter().any(|(action, _)| held.contains(*action)) {
            roles.extend(properties["Roles"].as_array().unwrap().iter().map(ToString::to_string));
            assert!(properties["ManagedPolicyName"].as_str().unwrap().starts_with(names::DESTROY_POLICY), "{name}");
        }
    }
    assert_eq!(roles, [json!(names::DESTROY_ROLE).to_string()].into());
}

#[test]
fn no_template_that_is_written_by_hand_gives_it() {
    let generated = compile_all(&all()).unwrap();
    let generated = write::files(&generated).unwrap();
    let mut read = 0;
    for folder in ["stacksets", "stacksets/administrator"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if !path.ends_with(".yaml") || generated.contains_key(&path) {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(ALLOWED.iter().all(|(action, _)| !text.contains(action)), "{path}");
            read += 1;
        }
    }
    assert!(read > 4, "{read}");
}

#[test]
fn what_destroys_is_reported_by_nobody_and_is_never_put_back_by_itself() {
    let family: Vec<Control> = controls().into_iter().filter(|one| one.id.family() == names::DESTROY).collect();
    assert_eq!(family.len(), 2);
    for control in family {
        let sources = &control.sources;
        let reported = [&sources.security_hub, &sources.config, &sources.guardduty, &sources.legacy];
        assert!(reported.iter().all(|list| list.is_empty()), "{}", control.id);
        assert_eq!(control.risk, Risk::Destructive, "{}", control.id);
        assert!(control.undo.starts_with("None."), "{}", control.id);
        assert!(matches!(control.body, Body::Native(_)) && !control.direct, "{}", control.id);
        assert!(control.workflow.is_none_or(|workflow| !workflow.roll_back), "{}", control.id);
    }
}

#[test]
fn an_instance_is_terminated_after_ssm_saw_its_snapshots_complete() {
    let generated = compile_all(&all()).unwrap();
    let document = &generated.documents["Redress-Destroy.EC2Instance"];
    let steps = document["mainSteps"].as_array().unwrap();
    let waits: Vec<&Value> = steps.iter().filter(|step| step["action"] == "aws:waitForAwsResourceProperty").collect();
    assert_eq!(waits.len(), 3);
    for wait in waits {
        assert_eq!(wait["inputs"]["DesiredValues"], json!(["completed"]));
        assert_eq!((&wait["timeoutSeconds"], &wait["onFailure"]), (&json!(7200), &json!("step:DiscardCopies")));
    }
}
