//! What is logged, and for how long.

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::wire::{Operation, Protocol, Service};

static LOGS: Service = Service::of("logs", Protocol::Json { target: "Logs_20140328", version: "1.1" });
pub(super) static DESCRIBE_LOG_GROUPS: Operation = LOGS.operation("DescribeLogGroups");
pub(super) static PUT_RETENTION: Operation = LOGS.operation("PutRetentionPolicy");
pub(super) static CREATE_LOG_GROUP: Operation = LOGS.operation("CreateLogGroup");
pub(super) static DELETE_LOG_GROUP: Operation = LOGS.operation("DeleteLogGroup");

/// The group of this very name: `CloudWatch` lists by prefix, in order, so that the name itself comes first.
pub(super) fn group<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    at(answer, "/logGroups").as_array()?.iter().find(|group| group["logGroupName"] == name)
}

/// Log events are kept long enough. A group that keeps them for ever, or for longer, is left alone.
pub(super) static LOG_GROUP_RETENTION: Setting = Setting {
    name: "log_group_retention",
    missing: &[],
    changes: &[&PUT_RETENTION],
    next: |subject, answers| {
        Ask::once(answers, &DESCRIBE_LOG_GROUPS, json!({ "logGroupNamePrefix": log_group(subject) }))
    },
    state: |subject, answers| {
        group(answers.first()?, log_group(subject)).map(|group| json!({ "RetentionInDays": group["retentionInDays"] }))
    },
    fix: |subject, now| {
        let wanted = subject.number("RetentionInDays")?;
        let enough = now["RetentionInDays"].as_i64().is_none_or(|days| days >= wanted);
        Ok(if enough { vec![] } else { vec![kept_for(subject, &json!(wanted))] })
    },
    undo: |subject, _, before| Ok(vec![kept_for(subject, &before["RetentionInDays"])]),
};

/// Config's ARNs of log groups end in `:*`.
fn log_group(subject: &Subject) -> &str {
    subject.name.trim_end_matches(":*")
}

fn kept_for(subject: &Subject, days: &Value) -> (&'static Operation, Value) {
    (&PUT_RETENTION, json!({ "logGroupName": log_group(subject), "retentionInDays": days }))
}

static STATES: Service = Service {
    name: "stepfunctions",
    signing: "states",
    host: "states",
    protocol: Protocol::Json { target: "AWSStepFunctions", version: "1.0" },
};
static DESCRIBE_STATE_MACHINE: Operation = STATES.operation("DescribeStateMachine");
static UPDATE_STATE_MACHINE: Operation = STATES.operation("UpdateStateMachine");

/// State machines log. The log group is made when it is not there; an undo deletes it then.
pub(super) static STATE_MACHINE_LOGGING: Setting = Setting {
    name: "state_machine_logging",
    missing: &["StateMachineDoesNotExist"],
    changes: &[&CREATE_LOG_GROUP, &DELETE_LOG_GROUP, &UPDATE_STATE_MACHINE],
    next: |subject, answers| match answers {
        [] => Some(Ask::of(&DESCRIBE_STATE_MACHINE, json!({ "stateMachineArn": subject.arn.to_string() }))),
        [_] => Some(Ask::of(&DESCRIBE_LOG_GROUPS, json!({ "logGroupNamePrefix": states_group(subject) }))),
        _ => None,
    },
    state: |subject, answers| {
        let [machine, groups] = answers else { return None };
        let there = group(groups, &states_group(subject)).is_some();
        Some(json!({ "loggingConfiguration": at(machine, "/loggingConfiguration"), "LogGroup": there }))
    },
    fix: state_machine_logging,
    undo: |subject, now, before| {
        let mut logging = before["loggingConfiguration"].clone();
        if logging.is_null() {
            logging = json!({ "level": "OFF", "includeExecutionData": false });
        }
        let made = now["LogGroup"] == true && before["LogGroup"] == false;
        let delete = made.then(|| (&DELETE_LOG_GROUP, json!({ "logGroupName": states_group(subject) })));
        Ok([(&UPDATE_STATE_MACHINE, logged(subject, &logging))].into_iter().chain(delete).collect())
    },
};

/// The ARN of a log group, for its streams.
pub(super) fn log_group_arn(subject: &Subject, group: &str) -> String {
    let (partition, account) = (subject.arn.partition(), subject.account());
    format!("arn:{partition}:logs:{}:{account}:log-group:{group}:*", subject.region)
}

fn is_silent(logging: &Value) -> bool {
    logging["level"].as_str().is_none_or(|level| level == "OFF")
}

fn states_group(subject: &Subject) -> String {
    format!("/aws/vendedlogs/states/{}-Logs", subject.name)
}

fn logged(subject: &Subject, logging: &Value) -> Value {
    json!({ "stateMachineArn": subject.arn.to_string(), "loggingConfiguration": logging })
}

fn state_machine_logging(subject: &Subject, now: &Value) -> Planned {
    if !is_silent(&now["loggingConfiguration"]) {
        return Ok(vec![]);
    }
    let group = states_group(subject);
    let arn = log_group_arn(subject, &group);
    let logging = json!({
        "level": subject.text("Level")?,
        "includeExecutionData": false,
        "destinations": [{ "cloudWatchLogsLogGroup": { "logGroupArn": arn } }],
    });
    let make = (now["LogGroup"] == false).then(|| (&CREATE_LOG_GROUP, json!({ "logGroupName": group })));
    Ok(make.into_iter().chain([(&UPDATE_STATE_MACHINE, logged(subject, &logging))]).collect())
}
