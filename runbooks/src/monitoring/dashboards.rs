//! The three dashboards: how remediations go, how the administrator account does, how the members do.
//!
//! Every number is a metric of AWS's, one of `redress_common::metrics`, or read from the lines that the completion function
//! writes them in: what only a dashboard asks (the kind of a resource, who asked) is no dimension, which would cost by the month.

use redress_common::metrics::{self, Metric};
use redress_common::names;
use redress_common::state::State;
use serde_json::{Value, json};

use super::alarms::Alarm;
use super::{FUNCTIONS, HEALTH, QUEUES, TABLES};

/// Of CloudWatch's grid.
const COLUMNS: u32 = 24;
const HEIGHT: u32 = 6;

/// A widget and its width.
struct Widget(u32, Value);

/// Logical id, name and body of each.
pub(super) fn all(alarms: &[Alarm]) -> [(&'static str, &'static str, Value); 3] {
    [
        ("OverviewDashboard", "redress-overview", body(overview(alarms))),
        ("AdministratorDashboard", "redress-administrator", body(administrator())),
        ("MembersDashboard", "redress-members", body(members())),
    ]
}

/// Side by side as far as there is room, then in the next row.
fn body(widgets: Vec<Widget>) -> Value {
    let (mut x, mut y) = (0, 0);
    let mut placed = Vec::new();
    for Widget(width, mut widget) in widgets {
        if x + width > COLUMNS {
            (x, y) = (0, y + HEIGHT);
        }
        for (name, value) in [("x", x), ("y", y), ("width", width), ("height", HEIGHT)] {
            widget[name] = json!(value);
        }
        x += width;
        placed.push(widget);
    }
    json!({ "widgets": placed })
}

/// A graph. `more` are further properties.
fn graph(width: u32, title: &str, metrics: Value, more: Value) -> Widget {
    let mut properties = json!({
        "title": title, "region": "${AWS::Region}", "view": "timeSeries", "stat": "Sum", "period": 300, "metrics": metrics,
    });
    if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), more) {
        all.extend(more);
    }
    Widget(width, json!({ "type": "metric", "properties": properties }))
}

/// One number over the last while, such as `-P7D`.
fn number(width: u32, title: &str, start: &str, metrics: Value) -> Widget {
    let more = json!({ "view": "singleValue", "start": start, "setPeriodToTimeRange": true });
    graph(width, title, metrics, more)
}

/// What the completion function's lines say of remediations that ended.
fn said(width: u32, title: &str, view: &str, query: &str) -> Widget {
    let query = format!(
        "SOURCE '/aws/lambda/{}' | filter ispresent({}) | {query}",
        names::COMPLETION_FUNCTION,
        metrics::REMEDIATIONS.name
    );
    Widget(
        width,
        json!({
            "type": "log",
            "properties": { "title": title, "region": "${AWS::Region}", "view": view, "query": query },
        }),
    )
}

/// Every series of a metric of ours by one set of its dimensions, narrowed by `only`.
fn search(metric: &Metric, by: &[&str], only: &str, statistic: &str) -> String {
    let schema = format!("{{{},{}}}", metrics::NAMESPACE, by.join(","));
    format!("SEARCH('{schema} MetricName=\"{}\"{only}', '{statistic}')", metric.name)
}

/// An expression as the only row. Without a label every series has its own.
fn expression(text: &str, label: &str) -> Value {
    json!([row(text, label)])
}

fn row(text: &str, label: &str) -> Value {
    if label.is_empty() { json!([{ "expression": text }]) } else { json!([{ "expression": text, "label": label }]) }
}

fn ended(metric: &Metric, state: State) -> Value {
    json!([metrics::NAMESPACE, metric.name, "Status", state.as_str()])
}

fn overview(alarms: &[Alarm]) -> Vec<Widget> {
    let arn =
        |name: &str| format!("arn:${{AWS::Partition}}:cloudwatch:${{AWS::Region}}:${{AWS::AccountId}}:alarm:{name}");
    let names = std::iter::once(HEALTH).chain(alarms.iter().map(|alarm| alarm.name.as_str()));
    let states = json!({ "title": "Alarms", "alarms": names.map(arn).collect::<Vec<_>>() });
    let total = format!("SUM({})", search(&metrics::REMEDIATIONS, &["Status"], "", "Sum"));
    let total = |title, start| number(4, title, start, expression(&total, "remediations"));
    let hidden = |state, id: &str| {
        let mut series = ended(&metrics::REMEDIATIONS, state);
        if let Some(parts) = series.as_array_mut() {
            parts.push(json!({ "id": id, "visible": false }));
        }
        series
    };
    let rate = json!([
        row("100 * FILL(verified, 0) / SUM([verified, failed, unverified])", "% verified"),
        hidden(State::Verified, "verified"),
        hidden(State::Failed, "failed"),
        hidden(State::Unverified, "unverified"),
    ]);
    let accounts = search(&metrics::REMEDIATIONS, &["AccountId", "Status"], " Status=\"Verified\"", "Sum");
    let busiest = json!({ "view": "bar", "setPeriodToTimeRange": true });
    let mut average = ended(&metrics::DURATION, State::Verified);
    let mut slowest = average.clone();
    for (series, statistic) in [(&mut average, "Average"), (&mut slowest, "p90")] {
        if let Some(parts) = series.as_array_mut() {
            parts.push(json!({ "stat": statistic, "label": statistic }));
        }
    }
    let each = |metric: &Metric| expression(&search(metric, &[metric.dimension()], "", "Sum"), "");
    vec![
        Widget(24, json!({ "type": "alarm", "properties": states })),
        total("Remediations, 24 hours", "-P1D"),
        total("Remediations, 7 days", "-P7D"),
        total("Remediations, 30 days", "-P30D"),
        graph(
            12,
            "Success rate, % of what was changed",
            rate,
            json!({ "period": 3600, "yAxis": { "left": { "min": 0, "max": 100 } } }),
        ),
        said(
            8,
            "Top 5 kinds of resources",
            "bar",
            "stats count(*) as remediations by ResourceType | sort remediations desc | limit 5",
        ),
        graph(
            8,
            "Top 5 accounts, verified",
            expression(&format!("SLICE(SORT({accounts}, SUM, DESC), 0, 5)"), ""),
            busiest,
        ),
        said(8, "Asked by a person, or by a rule", "pie", "stats count(*) as remediations by RemediationType"),
        graph(12, "Time from claim to verified, milliseconds", json!([average, slowest]), json!({})),
        graph(
            12,
            "How remediations ended",
            expression(&search(&metrics::REMEDIATIONS, &["Status"], "", "Sum"), ""),
            json!({}),
        ),
        graph(8, "Decided otherwise than to start, by reason", each(&metrics::DECISIONS), json!({})),
        graph(8, "Breakers opened", each(&metrics::BREAKERS_OPENED), json!({})),
        graph(8, "Made good by the reconciler", each(&metrics::REPAIRS), json!({})),
    ]
}

fn administrator() -> Vec<Widget> {
    let functions = |metric: &str, statistic: &str| -> Value {
        let row = |name: &str| json!(["AWS/Lambda", metric, "FunctionName", name, { "stat": statistic }]);
        FUNCTIONS.iter().map(|function| row(function.name)).collect()
    };
    let machine = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:";
    let executions =
        ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"]
            .map(|metric| {
                json!(["AWS/States", metric, "StateMachineArn", format!("{machine}{}", names::WORKFLOW_STATE_MACHINE)])
            });
    let tables = |metrics: [&'static str; 2]| -> Value {
        let of = |metric: &'static str| {
            TABLES.iter().map(move |table| json!(["AWS/DynamoDB", metric, "TableName", table.name]))
        };
        metrics.into_iter().flat_map(of).collect()
    };
    let rules = |metric: &str| {
        let hub = format!(
            "SEARCH('{{AWS/Events,EventBusName,RuleName}} EventBusName=\"{}\" MetricName=\"{metric}\"', 'Sum')",
            names::HUB_BUS
        );
        let own = names::DEFAULT_BUS_RULES.map(|rule| json!(["AWS/Events", metric, "RuleName", rule]));
        Value::Array(std::iter::once(row(&hub, "")).chain(own).collect())
    };
    let messages = ["NumberOfMessagesPublished", "NumberOfNotificationsDelivered", "NumberOfNotificationsFailed"]
        .map(|metric| json!(["AWS/SNS", metric, "TopicName", names::NOTIFICATIONS_TOPIC]));
    let queues = |metric: &str| -> Value {
        QUEUES.iter().map(|queue| json!(["AWS/SQS", metric, "QueueName", queue.name, { "stat": "Maximum" }])).collect()
    };
    let by_destination = |metric: &Metric| expression(&search(metric, &["Destination"], "", "Sum"), "");
    let refused = search(&metrics::ASSUME_ROLE_FAILURES, &["AccountId"], "", "Sum");
    let runs = json!([[metrics::NAMESPACE, metrics::RECONCILER_RUNS.name, "Function", names::RECONCILER_FUNCTION]]);
    let signed = [&metrics::CHECKPOINTS, &metrics::CHAINS_GONE_BACK]
        .map(|metric| json!([metrics::NAMESPACE, metric.name, "Function", names::CHECKPOINT_FUNCTION]));
    let signed = json!(signed);
    vec![
        graph(8, "Functions: invocations", functions("Invocations", "Sum"), json!({})),
        graph(8, "Functions: errors", functions("Errors", "Sum"), json!({})),
        graph(8, "Functions: longest run, milliseconds", functions("Duration", "Maximum"), json!({})),
        graph(8, "Functions: throttles", functions("Throttles", "Sum"), json!({})),
        graph(8, "Approvals and long remediations", json!(executions), json!({})),
        graph(4, "Runs of the reconciler", runs, json!({ "period": 900 })),
        graph(4, "Checkpoints of the ledger", signed, json!({ "period": 900 })),
        graph(
            12,
            "Tables: capacity used",
            tables(["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"]),
            json!({}),
        ),
        graph(12, "Tables: throttles", tables(["ReadThrottleEvents", "WriteThrottleEvents"]), json!({ "period": 60 })),
        graph(12, "Rules: events matched", rules("TriggeredRules"), json!({})),
        graph(12, "Rules: deliveries that failed", rules("FailedInvocations"), json!({})),
        graph(8, "Messages to people", json!(messages), json!({})),
        graph(8, "Queues: messages that wait", queues("ApproximateNumberOfMessagesVisible"), json!({})),
        graph(8, "Queues: age of the oldest, seconds", queues("ApproximateAgeOfOldestMessage"), json!({})),
        graph(8, "Messages that reached their destination", by_destination(&metrics::DELIVERIES), json!({})),
        graph(8, "Messages that did not, or not yet", by_destination(&metrics::DELIVERY_FAILURES), json!({})),
        graph(8, "Accounts that could not be entered", expression(&refused, ""), json!({})),
    ]
}

/// What members' own metrics say is seen here when their accounts are linked to this one; what we write of them, always.
fn members() -> Vec<Widget> {
    let linked = "Every graph whose title ends in `(linked)` needs CloudWatch cross-account observability: this account as the \
                  monitoring account, and the members linked to it (docs/monitoring.md). Without it those graphs are empty.";
    let ours = |metric: &Metric, only: &str| search(metric, &["AccountId", "Status"], only, "Sum");
    let failed = [State::Failed, State::Unverified]
        .map(|state| row(&ours(&metrics::REMEDIATIONS, &format!(" Status=\"{}\"", state.as_str())), state.as_str()));
    let by_account = |metric: &Metric| expression(&search(metric, &["AccountId"], "", "Sum"), "");
    let theirs = |metric: &str, statistic: &str| {
        let search = format!(
            "SEARCH('{{AWS/Lambda,FunctionName}} FunctionName=\"{}\" MetricName=\"{metric}\"', '{statistic}')",
            names::REMEDIATE_FUNCTION
        );
        expression(&search, "${!PROP('AccountLabel')}")
    };
    // Words of a name are looked for; a name in quotes would have to be the whole.
    let size =
        "SEARCH('{AWS/S3,BucketName,StorageType} security remediation logs MetricName=\"BucketSizeBytes\"', 'Average')";
    let keys = "SEARCH('{AWS/Usage,Class,Resource,Service,Type} Service=\"KMS\" MetricName=\"CallCount\"', 'Sum')";
    vec![
        Widget(24, json!({ "type": "text", "properties": { "markdown": linked } })),
        graph(12, "Remediations by account", expression(&ours(&metrics::REMEDIATIONS, ""), ""), json!({})),
        graph(12, "Failed and unverified, by account", json!(failed), json!({})),
        graph(
            8,
            "Runs of the control runbook that Redress did not start",
            by_account(&metrics::UNCLAIMED_EXECUTIONS),
            json!({}),
        ),
        graph(8, "Runs that were overtaken", by_account(&metrics::OVERTAKEN_EXECUTIONS), json!({})),
        graph(8, "Outcomes that came late", by_account(&metrics::LATE_OUTCOMES), json!({})),
        graph(8, "redress-remediate: invocations (linked)", theirs("Invocations", "Sum"), json!({})),
        graph(8, "redress-remediate: errors (linked)", theirs("Errors", "Sum"), json!({})),
        graph(8, "redress-remediate: longest run, milliseconds (linked)", theirs("Duration", "Maximum"), json!({})),
        graph(
            8,
            "Evidence buckets: bytes (linked)",
            expression(size, "${!PROP('Dim.BucketName')}"),
            json!({ "period": 86400 }),
        ),
        graph(
            8,
            "Evidence buckets: growth in a day (linked)",
            expression(&format!("DIFF({size})"), ""),
            json!({ "period": 86400 }),
        ),
        graph(8, "KMS requests (linked)", expression(keys, ""), json!({})),
    ]
}
