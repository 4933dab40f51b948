//! `stacksets/administrator/monitoring.yaml`: the alarms over what `administrator-stack.yaml` creates, the one alarm over all
//! of them, and the dashboards.
//!
//! What is watched is a table here. That nothing of the stack is missing in it, and that no alarm waits for a metric which
//! nobody writes, is tested in `lab/src/deploy/monitoring_tests.rs`. What people do about an alarm is in `docs/monitoring.md`.

mod alarms;
mod dashboards;

use redress_common::names;
use serde_json::{Map, Value, json};

use crate::compile::CompileError;
use crate::template::yaml;
use alarms::Alarm;

/// The template, below the repository's root.
pub const TEMPLATE: &str = "stacksets/administrator/monitoring.yaml";

const HEAD: &str =
    "# Generated from the tables in runbooks/src/monitoring.rs by `cargo xtask generate`. Do not edit.\n";

/// A function.
struct Function {
    /// The start of its alarms' logical ids.
    id: &'static str,
    name: &'static str,
    /// Its time-out, in seconds.
    seconds: u32,
    /// What happens while it fails.
    meanwhile: &'static str,
}

const FUNCTIONS: [Function; 7] = [
    Function {
        id: "Orchestrator",
        name: names::ORCHESTRATOR_FUNCTION,
        seconds: 60,
        meanwhile: "Findings stay in their queue and are tried again, five times",
    },
    Function {
        id: "Completion",
        name: names::COMPLETION_FUNCTION,
        seconds: 60,
        meanwhile: "Outcomes stay in their queue and are tried again, five times",
    },
    Function {
        id: "Workflow",
        name: names::WORKFLOW_FUNCTION,
        seconds: 60,
        meanwhile: "The state machine tries its step again",
    },
    Function {
        id: "Api",
        name: names::API_FUNCTION,
        seconds: 60,
        meanwhile: "Operators are told that their request failed",
    },
    Function {
        id: "Reconciler",
        name: names::RECONCILER_FUNCTION,
        seconds: 300,
        meanwhile: "What is stuck or was missed waits for the next run",
    },
    Function {
        id: "Checkpoint",
        name: names::CHECKPOINT_FUNCTION,
        seconds: 60,
        meanwhile: "What the ledger's chains end with is not signed; the next run tries again",
    },
    Function {
        id: "Notifier",
        name: names::NOTIFIER_FUNCTION,
        seconds: 60,
        meanwhile: "Messages to chats, pagers and ticket systems stay in their queue and are tried again",
    },
];

/// A queue that should be empty, or emptied.
struct Queue {
    id: &'static str,
    name: &'static str,
    /// The alarm's name.
    alarm: &'static str,
    watch: Watch,
    says: &'static str,
}

enum Watch {
    /// Nothing should be in it.
    Empty,
    /// Nothing should wait in it for long.
    Age,
}

const QUEUES: [Queue; 9] = [
    Queue {
        id: "FindingsDeadLetters",
        name: names::FINDINGS_DLQ,
        alarm: "redress-findings-dlq",
        watch: Watch::Empty,
        says: "Findings that could not be handled. See \"redress dlq list\"",
    },
    Queue {
        id: "CompletionsDeadLetters",
        name: names::COMPLETIONS_DLQ,
        alarm: "redress-completions-dlq",
        watch: Watch::Empty,
        says: "Outcomes that could not be recorded. See \"redress dlq list\"",
    },
    Queue {
        id: "Parked",
        name: names::PARKED_QUEUE,
        alarm: "redress-parked",
        watch: Watch::Empty,
        says: "Messages that were redriven too often. See \"redress dlq list\"",
    },
    Queue {
        id: "ReconcilerDeadLetters",
        name: names::RECONCILER_DLQ,
        alarm: "redress-reconciler-dlq",
        watch: Watch::Empty,
        says: "Runs of the reconciler that failed three times. Its log says why",
    },
    Queue {
        id: "CheckpointDeadLetters",
        name: names::CHECKPOINT_DLQ,
        alarm: "redress-checkpoint-dlq",
        watch: Watch::Empty,
        says: "Runs of redress-checkpoint that failed three times. Its log says why",
    },
    Queue {
        id: "FindingsAge",
        name: names::FINDINGS_QUEUE,
        alarm: "redress-findings-age",
        watch: Watch::Age,
        says: "The oldest finding waits for a quarter of an hour and longer. Is redress-orchestrator throttled or failing?",
    },
    Queue {
        id: "CompletionsAge",
        name: names::COMPLETIONS_QUEUE,
        alarm: "redress-completions-age",
        watch: Watch::Age,
        says: "The oldest outcome waits for a quarter of an hour and longer. Is redress-completion throttled or failing?",
    },
    Queue {
        id: "NotificationsDeadLetters",
        name: names::NOTIFICATIONS_DLQ,
        alarm: "redress-notifications-dlq",
        watch: Watch::Empty,
        says: "Messages that a chat, a pager or a ticket system refused. Each says which, and why",
    },
    Queue {
        id: "NotificationsAge",
        name: names::NOTIFICATIONS_QUEUE,
        alarm: "redress-notifications-age",
        watch: Watch::Age,
        says: "The oldest message to a chat, a pager or a ticket system waits for a quarter of an hour and longer. Dashboard \
               redress-administrator shows which destination fails",
    },
];

/// A table and its indexes, which are throttled for themselves.
struct Table {
    id: &'static str,
    name: &'static str,
    alarm: &'static str,
    indexes: &'static [&'static str],
}

const TABLES: [Table; 3] = [
    Table {
        id: "AuditTable",
        name: names::AUDIT_TABLE,
        alarm: "redress-audit-throttled",
        indexes: &["AccountId-Timestamp-index", "ResourceId-Timestamp-index"],
    },
    Table {
        id: "StateTable",
        name: names::STATE_TABLE,
        alarm: "redress-state-throttled",
        indexes: &["Open-LeaseUntil-index"],
    },
    Table { id: "BacklogTable", name: names::BACKLOG_TABLE, alarm: "redress-backlog-throttled", indexes: &[] },
];

/// Functions that tell people nothing through the topic: the notifier hears of it, and who signs the ledger does
/// nothing else.
const SILENT: [&str; 2] = [names::NOTIFIER_FUNCTION, names::CHECKPOINT_FUNCTION];

/// Functions that enter member accounts.
const ENTERING: [&str; 4] =
    [names::ORCHESTRATOR_FUNCTION, names::COMPLETION_FUNCTION, names::WORKFLOW_FUNCTION, names::RECONCILER_FUNCTION];

/// The alarm over all alarms.
const HEALTH: &str = "redress-health";

fn state_machine() -> Value {
    let name = names::WORKFLOW_STATE_MACHINE;
    sub(&format!("arn:${{AWS::Partition}}:states:${{AWS::Region}}:${{AWS::AccountId}}:stateMachine:{name}"))
}

fn sub(text: &str) -> Value {
    json!({ "Fn::Sub": text })
}

/// `stacksets/administrator/monitoring.yaml`.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn template() -> Result<String, CompileError> {
    let alarms = alarms::all();
    let mut resources: Map<String, Value> = alarms.iter().map(|alarm| (alarm.id.clone(), alarm.resource())).collect();
    resources.insert("Health".to_owned(), health(&alarms));
    for (id, name, body) in dashboards::all(&alarms) {
        // JSON of no `Value` fails; of one that did, CloudWatch would say so.
        let body = serde_json::to_string_pretty(&body).unwrap_or_default();
        let dashboard = json!({ "DashboardName": name, "DashboardBody": sub(&body) });
        resources.insert(id.to_owned(), json!({ "Type": "AWS::CloudWatch::Dashboard", "Properties": dashboard }));
    }
    let topic = json!({
        "Type": "String",
        "Description": "Where alarms are told. Empty for the topic of data.yaml.",
        "Default": "",
        "AllowedPattern": "^$|^arn:[a-z-]+:sns:.+$",
    });
    let critical = json!({
        "Type": "String",
        "Description": "A second topic that hears of critical alarms only, such as one that calls people. Empty for none.",
        "Default": "",
        "AllowedPattern": "^$|^arn:[a-z-]+:sns:.+$",
    });
    let spike = json!({
        "Type": "Number",
        "Description": "More invocations of one function within five minutes are told. See docs/monitoring.md for how to choose it.",
        "Default": 1000,
        "MinValue": 1,
    });
    let given = |parameter: &str| json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": parameter }, ""] }] });
    let template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Redress, administrator account: alarms and dashboards. Nested in administrator-stack.yaml.",
        "Metadata": { "AWS::CloudFormation::Interface": { "ParameterGroups": [
            { "Label": { "default": "Who is told" }, "Parameters": ["TopicArn", "CriticalTopicArn"] },
            { "Label": { "default": "Thresholds" }, "Parameters": ["SpikeInvocations"] },
        ] } },
        "Parameters": { "TopicArn": topic, "CriticalTopicArn": critical, "SpikeInvocations": spike },
        "Conditions": { "HasTopic": given("TopicArn"), "HasCriticalTopic": given("CriticalTopicArn") },
        "Resources": resources,
        "Outputs": { "HealthAlarmName": {
            "Description": "In ALARM while any other alarm is",
            "Value": { "Ref": "Health" },
        } },
    });
    Ok(format!("{HEAD}{}", yaml("administrator/monitoring.yaml", &template)?))
}

/// The topic that alarms are told to.
fn topic() -> Value {
    let name = names::NOTIFICATIONS_TOPIC;
    let ours = format!("arn:${{AWS::Partition}}:sns:${{AWS::Region}}:${{AWS::AccountId}}:{name}");
    json!({ "Fn::If": ["HasTopic", { "Ref": "TopicArn" }, sub(&ours)] })
}

fn health(alarms: &[Alarm]) -> Value {
    let rings: Vec<Value> = alarms.iter().map(|alarm| sub(&format!("ALARM(\"${{{}}}\")", alarm.id))).collect();
    json!({
        "Type": "AWS::CloudWatch::CompositeAlarm",
        "Properties": {
            "AlarmName": HEALTH,
            "AlarmDescription": "Some alarm of Redress rings: dashboard redress-overview shows which. It says OK when the last one \
                                 has ended. See docs/monitoring.md",
            "AlarmRule": { "Fn::Join": [" OR ", rings] },
            "AlarmActions": [topic()],
            "OKActions": [topic()],
        },
    })
}
