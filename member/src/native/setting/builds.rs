//! What builds are given to know.

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static CODEBUILD: Service = Service::of("codebuild", Protocol::Json { target: "CodeBuild_20161006", version: "1.1" });
static BATCH_GET_PROJECTS: Operation = CODEBUILD.operation("BatchGetProjects");
static UPDATE_PROJECT: Operation = CODEBUILD.operation("UpdateProject");

static SSM: Service = Service::of("ssm", Protocol::Json { target: "AmazonSSM", version: "1.1" });
static GET_PARAMETER: Operation = SSM.operation("GetParameter");
static PUT_PARAMETER: Operation = SSM.operation("PutParameter");
static DELETE_PARAMETER: Operation = SSM.operation("DeleteParameter");
static ADD_TAGS: Operation = SSM.operation("AddTagsToResource");

static IAM: Service = Service::of("iam", Protocol::Query { version: "2010-05-08", item: ".member" });
static LIST_ATTACHED: Operation = IAM.operation("ListAttachedRolePolicies");
static ATTACH: Operation = IAM.operation("AttachRolePolicy");
static DETACH: Operation = IAM.operation("DetachRolePolicy");

/// The variables that hold the keys of a user of AWS, in the order in which their parameters are read.
const CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
/// Of the project: where in what was read its variables are.
const VARIABLES: &str = "/environment/environmentVariables";
/// The answers that come before the pages of the role's policies.
const PARAMETERS: std::ops::Range<usize> = 1..3;

/// The tag that says whose a parameter is; the policy of the member's stack goes by it.
const READER: &str = "redress-reader";

/// The parameter that a variable's value moves to. The project's name is in it, so that none is used by two.
fn parameter(subject: &Subject, variable: &str) -> String {
    format!("/CodeBuild/redress/{}/{variable}", subject.name)
}

fn project(answers: &[Value]) -> Option<&Value> {
    answers.first()?.pointer("/projects/0")
}

/// The name of a role.
fn name(role: &Value) -> Option<&str> {
    role.as_str()?.rsplit('/').next()
}

fn policy(subject: &Subject) -> Option<String> {
    let name = subject.text("PolicyName").ok()?;
    Some(format!("arn:{}:iam::{}:policy/{name}", subject.arn.partition(), subject.arn.account()?))
}

/// The project's role and the policy, for IAM.
fn of_role(subject: &Subject, now: &Value) -> Value {
    json!({ "RoleName": name(&now["Role"]), "PolicyArn": policy(subject) })
}

fn is_plain(variable: &Value) -> bool {
    variable["type"].is_null() || variable["type"] == "PLAINTEXT"
}

fn variables(state: &Value) -> &[Value] {
    at(state, VARIABLES).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Keys of users are no plain text in a project's environment. Values never leave this function but for AWS: the state, the
/// plan and so the evidence say where in the answers they are, not what they are.
pub(super) static BUILD_CREDENTIALS: Setting = Setting {
    name: "codebuild_credentials",
    missing: &[],
    changes: &[&ADD_TAGS, &ATTACH, &DELETE_PARAMETER, &DETACH, &PUT_PARAMETER, &UPDATE_PROJECT],
    next: |subject, answers| {
        let Some(index) = answers.len().checked_sub(1) else {
            return Some(Ask::of(&BATCH_GET_PROJECTS, json!({ "names": [subject.name] })));
        };
        let project = project(answers)?;
        if let Some(variable) = CREDENTIALS.get(index) {
            let input = json!({ "Name": parameter(subject, variable), "WithDecryption": true });
            let none = Some(("ParameterNotFound", ""));
            return Some(Ask { operation: &GET_PARAMETER, input, none });
        }
        let mut input = json!({ "RoleName": name(&project["serviceRole"])? });
        if let Some(page) = answers.get(PARAMETERS.end..).and_then(<[Value]>::last) {
            input["Marker"] = at(page, "/Marker").as_str()?.into();
        }
        Some(Ask::of(&LIST_ATTACHED, input))
    },
    state: |subject, answers| {
        let project = project(answers)?;
        let mut environment = project["environment"].clone();
        let list = environment.get_mut("environmentVariables").and_then(Value::as_array_mut);
        for variable in list.into_iter().flatten().filter(|variable| is_plain(variable)) {
            variable["value"] = json!("(not recorded)");
        }
        let there: Vec<bool> = answers.get(PARAMETERS)?.iter().map(|answer| !answer.is_null()).collect();
        let pages = answers.get(PARAMETERS.end..).unwrap_or_default();
        let mut held = pages.iter().flat_map(|page| at(page, "/AttachedPolicies").as_array().into_iter().flatten());
        let policy = policy(subject)?;
        Some(json!({
            "environment": environment,
            "Role": project["serviceRole"],
            "RoleReads": held.any(|one| one["PolicyArn"] == policy),
            "Parameters": there,
        }))
    },
    fix: moved_away,
    undo: |subject, now, before| {
        let mut calls = vec![(&UPDATE_PROJECT, json!({ "name": subject.name, "environment": put_back(now, before) }))];
        for (index, variable) in CREDENTIALS.iter().enumerate() {
            let made = now["Parameters"][index] == true && before["Parameters"][index] == false;
            calls.extend(made.then(|| (&DELETE_PARAMETER, json!({ "Name": parameter(subject, variable) }))));
        }
        let attached = now["RoleReads"] == true && before["RoleReads"] == false;
        calls.extend(attached.then(|| (&DETACH, of_role(subject, now))));
        Ok(calls)
    },
};

/// The place of a value in what was read.
fn seen(index: usize) -> Value {
    json!(format!("seen:/0/projects/0{VARIABLES}/{index}/value"))
}

fn moved_away(subject: &Subject, now: &Value) -> Planned {
    let is_bad = |variable: &Value| is_plain(variable) && CREDENTIALS.iter().any(|name| variable["name"] == *name);
    if !variables(now).iter().any(is_bad) {
        return Ok(vec![]);
    }
    if now["Role"].is_null() {
        return Err(NativeError::Refused("the project has no service role that could read a parameter"));
    }
    let mut environment = now["environment"].clone();
    let mut calls = vec![];
    let list = environment.get_mut("environmentVariables").and_then(Value::as_array_mut);
    for (index, variable) in list.into_iter().flatten().enumerate() {
        let name = CREDENTIALS.iter().position(|name| variable["name"] == *name);
        match name.filter(|_| is_plain(variable)) {
            Some(place) => {
                let parameter = parameter(subject, CREDENTIALS[place]);
                let mut input = json!({ "Name": parameter, "Type": "SecureString", "Value": seen(index) });
                // The policy lets a role read what is tagged with its ARN.
                let tags = json!([{ "Key": READER, "Value": now["Role"] }]);
                if now["Parameters"][place] == true {
                    // What an earlier try left is written over. AWS takes tags with a new one only.
                    input["Overwrite"] = json!(true);
                    calls.push((&PUT_PARAMETER, input));
                    let input = json!({ "ResourceType": "Parameter", "ResourceId": parameter, "Tags": tags });
                    calls.push((&ADD_TAGS, input));
                } else {
                    input["Tags"] = tags;
                    calls.push((&PUT_PARAMETER, input));
                }
                variable["value"] = json!(parameter);
                variable["type"] = json!("PARAMETER_STORE");
            }
            None if is_plain(variable) => variable["value"] = seen(index),
            None => {}
        }
    }
    if now["RoleReads"] == false {
        calls.push((&ATTACH, of_role(subject, now)));
    }
    calls.push((&UPDATE_PROJECT, json!({ "name": subject.name, "environment": environment })));
    Ok(calls)
}

/// The environment as it was: values of the credentials from their parameters, all others as they are now.
fn put_back(now: &Value, before: &Value) -> Value {
    let mut environment = before["environment"].clone();
    let list = environment.get_mut("environmentVariables").and_then(Value::as_array_mut);
    for variable in list.into_iter().flatten().filter(|variable| is_plain(variable)) {
        let now = variables(now).iter().position(|one| one["name"] == variable["name"]);
        let moved = CREDENTIALS.iter().position(|name| variable["name"] == *name);
        variable["value"] = match (moved, now) {
            (Some(place), _) => json!(format!("seen:/{}/Parameter/Value", PARAMETERS.start + place)),
            (None, Some(index)) => seen(index),
            (None, None) => Value::Null,
        };
    }
    environment
}
