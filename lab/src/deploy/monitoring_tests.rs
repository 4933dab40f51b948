//! The alarms and dashboards against the stack that they watch: nothing is left out, and nothing waits for what nobody writes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redress_common::metrics;
use serde_json::{Value, json};

use crate::template::Template;
use crate::template::shipped::{MEMBER, MONITORING, administrator};

fn of_kind<'a>(template: &'a Template, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let found: Vec<_> = template
        .resources()
        .filter(|(_, given, _)| *given == kind)
        .map(|(id, _, properties)| (id, properties))
        .collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

/// A series: namespace, metric, and its dimensions as one text.
type Series = (String, String, String);

fn series(of: &Value) -> Series {
    let text = |field: &str| of[field].as_str().unwrap_or_else(|| panic!("no {field} in {of}")).to_owned();
    let dimensions = of["Dimensions"].as_array().unwrap().iter().map(|one| {
        let value = &one["Value"];
        let value =
            value.as_str().or_else(|| value["Fn::Sub"].as_str()).map_or_else(|| value.to_string(), str::to_owned);
        format!("{}={value}", one["Name"].as_str().unwrap())
    });
    let mut dimensions: Vec<String> = dimensions.collect();
    dimensions.sort();
    (text("Namespace"), text("MetricName"), dimensions.join(","))
}

/// What an alarm looks at.
fn watched(alarm: &Value) -> Vec<Series> {
    match alarm["Metrics"].as_array() {
        Some(parts) => parts
            .iter()
            .filter(|part| part["MetricStat"].is_object())
            .map(|part| series(&part["MetricStat"]["Metric"]))
            .collect(),
        None => vec![series(alarm)],
    }
}

struct Alarms(BTreeMap<String, Value>);

impl Alarms {
    fn of(template: &Template) -> Self {
        let alarms = of_kind(template, "AWS::CloudWatch::Alarm");
        Self(
            alarms
                .into_iter()
                .map(|(_, alarm)| (alarm["AlarmName"].as_str().unwrap().to_owned(), alarm.clone()))
                .collect(),
        )
    }

    /// The alarms over a series.
    fn over(&self, namespace: &str, metric: &str, dimensions: &str) -> Vec<&Value> {
        let wanted = (namespace.to_owned(), metric.to_owned(), dimensions.to_owned());
        let found: Vec<_> = self.0.values().filter(|alarm| watched(alarm).contains(&wanted)).collect();
        assert!(!found.is_empty(), "no alarm over {wanted:?}");
        found
    }
}

fn name<'a>(properties: &'a Value, field: &str) -> &'a str {
    properties[field].as_str().unwrap()
}

#[test]
fn everything_of_the_administrator_stack_has_its_alarms() {
    let (stack, monitoring) = (administrator(), Template::parse(MONITORING).unwrap());
    let alarms = Alarms::of(&monitoring);
    for (_, function) in of_kind(&stack, "AWS::Lambda::Function") {
        let (name, timeout) = (name(function, "FunctionName"), function["Timeout"].as_u64().unwrap());
        let by_name = format!("FunctionName={name}");
        for metric in ["Errors", "Throttles", "Invocations"] {
            alarms.over("AWS/Lambda", metric, &by_name);
        }
        let duration = alarms.over("AWS/Lambda", "Duration", &by_name);
        assert_eq!(duration[0]["Threshold"], json!(timeout * 800), "{name} is near its time-out at 80 %");
        assert_eq!(alarms.0[&format!("{name}-error-rate")]["EvaluationPeriods"], 2);
    }
    for (id, queue) in of_kind(&stack, "AWS::SQS::Queue") {
        let by_name = format!("QueueName={}", name(queue, "QueueName"));
        let metric = if queue["RedrivePolicy"].is_object() {
            "ApproximateAgeOfOldestMessage"
        } else {
            "ApproximateNumberOfMessagesVisible"
        };
        assert_eq!(alarms.over("AWS/SQS", metric, &by_name).len(), 1, "{id}");
    }
    for (_, table) in of_kind(&stack, "AWS::DynamoDB::Table") {
        let name = name(table, "TableName");
        let indexes = table["GlobalSecondaryIndexes"].as_array().into_iter().flatten();
        let by_index = indexes
            .map(|index| format!("GlobalSecondaryIndexName={},TableName={name}", index["IndexName"].as_str().unwrap()));
        for dimensions in by_index.chain([format!("TableName={name}")]) {
            for metric in ["ReadThrottleEvents", "WriteThrottleEvents"] {
                let alarm = alarms.over("AWS/DynamoDB", metric, &dimensions)[0];
                assert_eq!(
                    (&alarm["Threshold"], &alarm["Metrics"][1]["MetricStat"]["Period"]),
                    (&json!(10), &json!(60))
                );
            }
        }
    }
    for (_, machine) in of_kind(&stack, "AWS::StepFunctions::StateMachine") {
        let arn = format!(
            "StateMachineArn=arn:${{AWS::Partition}}:states:${{AWS::Region}}:${{AWS::AccountId}}:stateMachine:{}",
            name(machine, "StateMachineName")
        );
        let failed = alarms.over("AWS/States", "ExecutionsFailed", &arn);
        assert!(failed.iter().any(|alarm| alarm["Threshold"] == 3), "more than three in five minutes");
        alarms.over("AWS/States", "ExecutionsTimedOut", &arn);
    }
    for (_, rule) in of_kind(&stack, "AWS::Events::Rule") {
        let bus = if rule["EventBusName"].is_null() { "" } else { "EventBusName=redress-hub," };
        let dimensions = format!("{bus}RuleName={}", name(rule, "Name"));
        alarms.over("AWS/Events", "FailedInvocations", &dimensions);
        alarms.over("AWS/Events", "InvocationsFailedToBeSentToDlq", &dimensions);
    }
    for (_, topic) in of_kind(&stack, "AWS::SNS::Topic") {
        alarms.over("AWS/SNS", "NumberOfNotificationsFailed", &format!("TopicName={}", name(topic, "TopicName")));
    }
    // Who may enter a member account tells when it could not.
    for (_, role) in of_kind(&stack, "AWS::IAM::Role") {
        let enters = role["Policies"].to_string().contains(":role/SecurityRemediationCrossAccountRole");
        if let Some(function) = name(role, "RoleName").strip_prefix("Redress-").filter(|_| enters) {
            let function = format!("Function=redress-{}", function.to_lowercase());
            alarms.over(metrics::NAMESPACE, metrics::ASSUME_ROLE_FAILURES.name, &function);
        }
    }
}

#[test]
fn every_alarm_tells_somebody_what_to_do_and_counts_for_the_health() {
    let monitoring = Template::parse(MONITORING).unwrap();
    let page = include_str!("../../../docs/monitoring.md");
    let (_, health) = of_kind(&monitoring, "AWS::CloudWatch::CompositeAlarm")[0];
    assert_eq!(health["AlarmName"], "redress-health");
    let rule = health["AlarmRule"].to_string();
    let functions: Vec<&str> = redress_functions();
    let alarms = of_kind(&monitoring, "AWS::CloudWatch::Alarm");
    for (id, alarm) in &alarms {
        let name = name(alarm, "AlarmName");
        assert!(name.starts_with("redress-"), "the topic's policy lets no other in: {name}");
        assert!(rule.contains(&format!("${{{id}}}")), "{id} does not count for the health");
        let says = alarm["AlarmDescription"].as_str().unwrap();
        assert!(says.ends_with("See docs/monitoring.md") && says.len() <= 1024, "{name}: {says}");
        assert!(!alarm["AlarmActions"].is_null(), "{name} tells nobody");
        let kind = functions.iter().find_map(|function| name.strip_prefix(&format!("{function}-")));
        let of_kind = kind.is_some_and(|kind| page.contains(&format!("`redress-<function>-{kind}`")));
        assert!(of_kind || page.contains(&format!("`{name}`")), "docs/monitoring.md does not speak of {name}");
    }
    assert!(alarms.len() <= 100, "an alarm over more than a hundred is refused");
    assert!(rule.len() < 10_240);
}

fn redress_functions() -> Vec<&'static str> {
    use redress_common::names::{
        API_FUNCTION, CHECKPOINT_FUNCTION, COMPLETION_FUNCTION, NOTIFIER_FUNCTION, ORCHESTRATOR_FUNCTION,
        RECONCILER_FUNCTION, WORKFLOW_FUNCTION,
    };
    let own = [API_FUNCTION, COMPLETION_FUNCTION, NOTIFIER_FUNCTION, ORCHESTRATOR_FUNCTION];
    own.into_iter().chain([CHECKPOINT_FUNCTION, RECONCILER_FUNCTION, WORKFLOW_FUNCTION]).collect()
}

/// Metrics of ours, with the set of their dimensions.
fn ours(namespace: &str, metric: &str, dimensions: &[&str]) {
    if namespace != metrics::NAMESPACE {
        assert!(namespace.starts_with("AWS/"), "{namespace} is nobody's");
        return;
    }
    let dimensions: BTreeSet<&str> = dimensions.iter().copied().collect();
    let found = metrics::ALL.iter().find(|one| one.name == metric).unwrap_or_else(|| panic!("nobody writes {metric}"));
    let by: Vec<BTreeSet<&str>> = found.dimensions.iter().map(|set| set.iter().copied().collect()).collect();
    assert!(by.contains(&dimensions), "{metric} is not kept by {dimensions:?}");
}

#[test]
fn no_alarm_and_no_dashboard_waits_for_a_metric_that_nobody_writes() {
    let monitoring = Template::parse(MONITORING).unwrap();
    for alarm in Alarms::of(&monitoring).0.values() {
        for (namespace, metric, dimensions) in watched(alarm) {
            let names: Vec<&str> = dimensions.split(',').map(|one| one.split('=').next().unwrap()).collect();
            ours(&namespace, &metric, &names);
        }
    }
    let dashboards = of_kind(&monitoring, "AWS::CloudWatch::Dashboard");
    let mut searches = 0;
    for (_, dashboard) in &dashboards {
        let body: Value = serde_json::from_str(dashboard["DashboardBody"]["Fn::Sub"].as_str().unwrap()).unwrap();
        for widget in body["widgets"].as_array().unwrap() {
            for row in widget["properties"]["metrics"].as_array().into_iter().flatten() {
                let parts = row.as_array().unwrap();
                if parts[0].is_string() {
                    let texts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
                    let dimensions: Vec<&str> = texts[2..].iter().step_by(2).copied().collect();
                    ours(texts[0], texts[1], &dimensions);
                    continue;
                }
                for search in parts[0]["expression"].as_str().unwrap().split("SEARCH('{").skip(1) {
                    let (schema, rest) = search.split_once('}').unwrap();
                    let metric = rest.split("MetricName=\"").nth(1).unwrap().split('"').next().unwrap();
                    let schema: Vec<&str> = schema.split(',').collect();
                    ours(schema[0], metric, &schema[1..]);
                    searches += 1;
                }
            }
        }
    }
    assert_eq!(dashboards.len(), 3);
    assert!(searches > 10, "searches are no longer found in the dashboards");
}

#[test]
fn what_a_member_can_tell_of_itself_has_an_alarm_there() {
    let alarms = Alarms::of(&Template::parse(MEMBER).unwrap());
    for function in ["Remediate", "Destroy"] {
        let told = alarms.over("AWS/Lambda", "Duration", &format!(r#"FunctionName={{"Ref":"{function}"}}"#));
        assert_eq!(told[0]["Threshold"], 240_000, "{function}: more than four of its five minutes");
    }
    assert_eq!(watched(&alarms.0["redress-evidence-size"])[0].1, "BucketSizeBytes");
    let page = include_str!("../../../docs/monitoring.md");
    for (name, alarm) in &alarms.0 {
        assert!(page.contains(&format!("`{name}`")), "docs/monitoring.md does not speak of {name}");
        assert!(alarm["AlarmDescription"].as_str().unwrap().ends_with("See docs/monitoring.md"), "{name}");
    }
}

#[test]
fn the_committed_template_is_what_the_tables_give() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let committed = std::fs::read_to_string(root.join(redress_runbooks::monitoring::TEMPLATE)).unwrap();
    assert_eq!(committed, redress_runbooks::monitoring::template().unwrap(), "run `cargo xtask generate`");
}
