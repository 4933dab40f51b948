//! The linter finds planted faults, and says where they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use redress_runbooks::lint::lint_named;
use redress_runbooks::{compile_all, lint};
use serde_json::{Value, json};

fn sound() -> Value {
    compile_all(&support::controls()).unwrap().documents.remove("Redress-S3.8").unwrap()
}

/// The index of a step.
fn at(document: &Value, name: &str) -> usize {
    document["mainSteps"].as_array().unwrap().iter().position(|step| step["name"] == name).unwrap()
}

/// Plant a fault, and expect exactly these words among what the linter says.
fn planted(plant: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut document = sound();
    plant(&mut document);
    let faults = lint_named("Redress-S3.8", &document).expect_err("the fault was not found");
    let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(said.iter().all(|line| line.starts_with("document `Redress-S3.8`")), "{said:?}");
    for words in expected {
        assert!(said.iter().any(|line| line.contains(words)), "`{words}` is not in {said:#?}");
    }
}

fn plant_in(step: &'static str, field: &'static str, value: Value, expected: &[&str]) {
    planted(
        |document| {
            let index = at(document, step);
            document["mainSteps"][index][field] = value;
        },
        expected,
    );
}

#[test]
fn a_sound_document_has_no_faults() {
    assert_eq!(lint(&sound()), Ok(()));
}

#[test]
fn a_script_is_refused() {
    plant_in(
        "Apply",
        "action",
        json!("aws:executeScript"),
        &["step `Apply`, field `action`: aws:executeScript is not allowed"],
    );
}

#[test]
fn an_unknown_action_is_refused() {
    plant_in("Apply", "action", json!("aws:runCommand"), &["step `Apply`, field `action`"]);
}

#[test]
fn a_bad_or_repeated_step_name_is_refused() {
    plant_in("Apply", "name", json!("a-b"), &["field `name`: is not 3 to 128"]);
    plant_in("Apply", "name", json!("ReadBack"), &["step `ReadBack`, field `name`: is the name of another step"]);
}

#[test]
fn a_target_that_is_no_step_is_refused_wherever_it_stands() {
    plant_in("Apply", "nextStep", json!("Nowhere"), &["step `Apply`, field `nextStep`: goes to `Nowhere`"]);
    plant_in("Apply", "onFailure", json!("step:Nowhere"), &["step `Apply`, field `onFailure`: goes to `Nowhere`"]);
    plant_in("Apply", "onFailure", json!("Retry"), &["step `Apply`, field `onFailure`: `Retry` is none of"]);
    planted(
        |document| {
            let index = at(document, "DecideApply");
            document["mainSteps"][index]["inputs"]["Choices"][1]["NextStep"] = json!("Nowhere");
        },
        &["step `DecideApply`, field `inputs.Choices[1].NextStep`: goes to `Nowhere`"],
    );
    planted(
        |document| {
            let index = at(document, "DecideApply");
            document["mainSteps"][index]["inputs"]["Default"] = json!("Nowhere");
        },
        &["step `DecideApply`, field `inputs.Default`"],
    );
}

#[test]
fn a_step_that_nothing_leads_to_is_refused() {
    plant_in(
        "JudgeResult",
        "inputs",
        json!({ "Choices": [
        { "Variable": "{{ ReadBack.BlockPublicAcls }}", "BooleanEquals": true, "NextStep": "RecordResult" },
    ], "Default": "RecordResult" }),
        &["step `RecordUnverified`, field `name`: is reached from no other step"],
    );
}

#[test]
fn a_circle_is_refused() {
    plant_in("ReadBack", "nextStep", json!("VerifyRemediation"), &["can be reached from itself"]);
}

#[test]
fn a_last_step_that_does_not_end_is_refused() {
    planted(
        |document| {
            let steps = document["mainSteps"].as_array_mut().unwrap();
            steps.last_mut().unwrap().as_object_mut().unwrap().remove("isEnd");
        },
        &["field `isEnd`: is missing"],
    );
}

#[test]
fn a_missing_input_is_refused() {
    plant_in(
        "LoadPreImage",
        "inputs",
        json!({ "InputPayload": {} }),
        &["step `LoadPreImage`, field `inputs.FunctionName`: is missing"],
    );
    plant_in("Apply", "inputs", json!({ "Service": "s3" }), &["step `Apply`, field `inputs.Api`: is missing"]);
}

#[test]
fn a_reference_that_nothing_answers_is_refused() {
    let inputs = |reference: &str| json!({ "Service": "s3", "Api": "PutPublicAccessBlock", "Bucket": reference });
    plant_in(
        "Apply",
        "inputs",
        inputs("{{ Bucket }}"),
        &["step `Apply`, field `inputs`: refers to `Bucket`, which is no parameter"],
    );
    plant_in("Apply", "inputs", inputs("{{ Nowhere.Name }}"), &["there is no step `Nowhere`"]);
    plant_in("Apply", "inputs", inputs("{{ CreateBackupIfRequired.Nothing }}"), &["has no output `Nothing`"]);
    plant_in(
        "Apply",
        "inputs",
        inputs("{{ variable:Nothing }}"),
        &["variable `variable:Nothing`, which is not declared"],
    );
    plant_in("Apply", "inputs", inputs("{{ global:HOME }}"), &["refers to `global:HOME`"]);
    plant_in(
        "Apply",
        "inputs",
        inputs("{{ ReadBack.BlockPublicAcls }}"),
        &["step `ReadBack` may not have succeeded by then"],
    );
    plant_in(
        "RecordUnread",
        "inputs",
        json!({
            "FunctionName": "redress-recorder", "InputPayload": { "State": "{{ ReadBack.Configuration }}" },
        }),
        &[
            "step `RecordUnread`, field `inputs`: refers to `ReadBack.Configuration`, but step `ReadBack` may not have succeeded",
        ],
    );
}

#[test]
fn a_wrong_type_selector_or_condition_is_refused() {
    plant_in(
        "ReadBack",
        "outputs",
        json!([{ "Name": "A", "Selector": "$.A", "Type": "Bool" }]),
        &["field `outputs.A.Type`"],
    );
    plant_in(
        "ReadBack",
        "outputs",
        json!([{ "Name": "A", "Selector": "A", "Type": "Boolean" }]),
        &["field `outputs.A.Selector`"],
    );
    plant_in(
        "JudgeResult",
        "inputs",
        json!({ "Choices": [{ "Variable": "{{ Mode }}", "Equals": "x", "NextStep": "RecordResult" }], "Default": "RecordUnverified" }),
        &["field `inputs.Choices[0].Equals`: is no operator"],
    );
    plant_in(
        "JudgeResult",
        "inputs",
        json!({ "Choices": [{ "Variable": "{{ Mode }}", "NextStep": "RecordResult" }], "Default": "RecordUnverified" }),
        &["must be one Variable with one operator"],
    );
    plant_in("VerifyRemediation", "outputs", json!([]), &["lets no outputs be selected"]);
}

#[test]
fn declarations_must_be_typed_bounded_and_fit_their_default() {
    planted(|document| document["parameters"]["Fence"]["type"] = json!("Text"), &["field `parameters.Fence.type`"]);
    planted(|document| document["parameters"]["Mode"]["default"] = json!("Delete"), &["none of its allowedValues"]);
    planted(|document| document["variables"]["Present"]["default"] = json!("false"), &["is no Boolean"]);
    planted(
        |document| {
            document["parameters"]["Fence"].as_object_mut().unwrap().remove("allowedPattern");
        },
        &["field `parameters.Fence`: has neither allowedPattern nor allowedValues"],
    );
}

#[test]
fn an_unknown_field_a_wrong_version_and_too_large_a_document_are_refused() {
    planted(|document| document["steps"] = json!([]), &["field `steps`: is no field of an Automation document"]);
    planted(|document| document["schemaVersion"] = json!("2.2"), &["field `schemaVersion`"]);
    planted(|document| document["description"] = json!("x".repeat(70_000)), &["SSM takes 65536"]);
    planted(
        |document| document["outputs"] = json!(["Apply.Nothing"]),
        &["field `outputs`: `Apply.Nothing` is no output"],
    );
    plant_in("Apply", "onSuccess", json!("x"), &["step `Apply`, field `onSuccess`"]);
    plant_in("LoadPreImage", "timeoutSeconds", json!(600), &["more than the 300"]);
}

#[test]
fn anything_at_all_is_answered_and_never_a_panic() {
    for hostile in [
        json!(null),
        json!([]),
        json!({}),
        json!({ "mainSteps": [1, {}, { "name": 3 }] }),
        json!({ "mainSteps": [{ "name": "abc", "action": "aws:branch", "inputs": { "Choices": [null] } }] }),
    ] {
        assert!(lint(&hostile).is_err(), "{hostile}");
    }
}
