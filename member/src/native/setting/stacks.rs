//! Stacks of CloudFormation.

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static CLOUDFORMATION: Service =
    Service::of("cloudformation", Protocol::Query { version: "2010-05-15", item: ".member" });
static DESCRIBE: Operation = CLOUDFORMATION.operation("DescribeStacks");
static UPDATE: Operation = Operation { token: Some("ClientRequestToken"), ..CLOUDFORMATION.operation("UpdateStack") };

fn listed<'a>(stack: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    stack[list].as_array().into_iter().flatten()
}

/// Stacks tell a topic what becomes of them. A stack is updated with the template and the parameters that it has, and only
/// where that can change nothing else.
pub(super) static STACK_NOTIFICATIONS: Setting = Setting {
    name: "stack_notifications",
    missing: &[],
    changes: &[&UPDATE],
    // CloudFormation has no error code for a stack that is not there: only the message tells.
    next: |subject, answers| {
        let input = json!({ "StackName": subject.arn.to_string() });
        answers.is_empty().then(|| Ask {
            operation: &DESCRIBE,
            input,
            none: Some(("ValidationError", "does not exist")),
        })
    },
    state: |_, answers| {
        let stack = answers.first()?.pointer("/Stacks/0").filter(|stack| stack["StackStatus"] != "DELETE_COMPLETE")?;
        let status = stack["StackStatus"].as_str().unwrap_or_default();
        let names = listed(stack, "Parameters").map(|one| &one["ParameterKey"]);
        Some(json!({
            "NotificationARNs": listed(stack, "NotificationARNs").collect::<Vec<_>>(),
            "Parameters": names.collect::<Vec<_>>(),
            "Capabilities": listed(stack, "Capabilities").collect::<Vec<_>>(),
            "IsBusy": status.ends_with("_IN_PROGRESS"),
            "IsFailed": status.ends_with("_FAILED") || status == "ROLLBACK_COMPLETE",
            "IsNested": !at(stack, "/ParentId").is_null(),
            "ReadsAnew": listed(stack, "Parameters").any(|one| !one["ResolvedValue"].is_null()),
        }))
    },
    fix: |subject, now| {
        if now["IsBusy"] == true {
            return Err(NativeError::Refused("the stack is being changed; ask again when it is done"));
        }
        if listed(now, "NotificationARNs").next().is_some() {
            return Ok(vec![]);
        }
        if now["IsNested"] == true {
            return Err(NativeError::Refused("the stack is nested; what it tells whom is said by the stack around it"));
        }
        if now["IsFailed"] == true {
            return Err(NativeError::Refused("the stack's last change failed; mend or delete it first"));
        }
        // Both may give another template or other values than those that the stack has.
        let expands = listed(now, "Capabilities").any(|one| one == "CAPABILITY_AUTO_EXPAND");
        if expands || now["ReadsAnew"] == true {
            return Err(NativeError::Refused(
                "the stack uses a macro, or parameters of Systems Manager, so an update could change its resources, too; add the topic when you update it next: --notification-arns TOPIC",
            ));
        }
        let (partition, region) = (subject.arn.partition(), &subject.region);
        let Some(account) = subject.arn.account() else {
            return Err(NativeError::Refused("the ARN names no stack of an account"));
        };
        let topic = format!("arn:{partition}:sns:{region}:{account}:{}", subject.text("TopicName")?);
        Ok(vec![updated(subject, now, &json!([topic]))])
    },
    undo: |subject, now, before| -> Planned { Ok(vec![updated(subject, now, &before["NotificationARNs"])]) },
};

fn updated(subject: &Subject, now: &Value, topics: &Value) -> (&'static Operation, Value) {
    let same = |name: &Value| json!({ "ParameterKey": name, "UsePreviousValue": true });
    let mut input = json!({
        "StackName": subject.arn.to_string(),
        "UsePreviousTemplate": true,
        "NotificationARNs": topics,
    });
    let parameters: Vec<Value> = listed(now, "Parameters").map(same).collect();
    // To say that there are none is to take away those that there are.
    if !parameters.is_empty() {
        input["Parameters"] = parameters.into();
    }
    if listed(now, "Capabilities").next().is_some() {
        input["Capabilities"] = now["Capabilities"].clone();
    }
    (&UPDATE, input)
}
