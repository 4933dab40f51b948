//! The alarms: what each waits for, when it rings, and what it says.

use redress_common::metrics::{self, Metric};
use redress_common::names;
use serde_json::{Value, json};

use super::{ENTERING, FUNCTIONS, Function, QUEUES, Queue, SILENT, TABLES, Table, Watch, state_machine, topic};

/// A metric of AWS's or of our own, of one thing.
pub(super) struct Series {
    namespace: &'static str,
    metric: &'static str,
    dimensions: Vec<(&'static str, Value)>,
    statistic: &'static str,
}

/// What an alarm looks at.
enum Watched {
    /// One series.
    One(Series),
    /// An expression over several, by their ids in it.
    Math(&'static str, Vec<(String, Series)>),
}

/// An alarm.
pub(super) struct Alarm {
    /// Logical id.
    pub(super) id: String,
    /// Its name in CloudWatch.
    pub(super) name: String,
    /// Told to `CriticalTopicArn` too.
    critical: bool,
    says: String,
    watched: Watched,
    /// Of one period.
    seconds: u32,
    /// So many in a row.
    periods: u32,
    threshold: Value,
    /// It rings below the threshold, and when nothing is said at all.
    below: bool,
}

/// All series of an expression, those that said nothing left out.
const SUM: &str = "SUM(METRICS())";
const FIVE_MINUTES: u32 = 300;
/// A function that takes this share of its time-out is near it, as milliseconds of a second.
const NEAR_TIMEOUT: u32 = 800;

/// Every alarm.
pub(super) fn all() -> Vec<Alarm> {
    let mut all: Vec<Alarm> = QUEUES.iter().map(queue).collect();
    all.extend(FUNCTIONS.iter().flat_map(function));
    all.extend(TABLES.iter().map(table));
    all.extend(workflow());
    all.extend(rules());
    all.extend(ours());
    all
}

impl Alarm {
    /// One that rings above zero within five minutes.
    fn any(id: &str, name: &str, says: &str, watched: Watched) -> Self {
        Self {
            id: format!("{id}Alarm"),
            name: name.to_owned(),
            critical: false,
            says: says.to_owned(),
            watched,
            seconds: FIVE_MINUTES,
            periods: 1,
            threshold: json!(0),
            below: false,
        }
    }

    fn above(self, threshold: impl Into<Value>) -> Self {
        Self { threshold: threshold.into(), ..self }
    }

    fn during(self, seconds: u32, periods: u32) -> Self {
        Self { seconds, periods, ..self }
    }

    fn critical(self) -> Self {
        Self { critical: true, ..self }
    }

    /// The resource of the template.
    pub(super) fn resource(&self) -> Value {
        let mut properties = json!({
            "AlarmName": self.name,
            "AlarmDescription": format!("{}. See docs/monitoring.md", self.says),
        });
        match &self.watched {
            Watched::One(series) => {
                properties["Namespace"] = json!(series.namespace);
                properties["MetricName"] = json!(series.metric);
                properties["Dimensions"] = series.dimensions();
                properties["Statistic"] = json!(series.statistic);
                properties["Period"] = json!(self.seconds);
            }
            Watched::Math(expression, of) => {
                let result =
                    json!({ "Id": "result", "Expression": expression, "Label": self.name, "ReturnData": true });
                let series = of.iter().map(|(id, series)| series.in_expression(id, self.seconds));
                properties["Metrics"] = std::iter::once(result).chain(series).collect();
            }
        }
        properties["EvaluationPeriods"] = json!(self.periods);
        properties["Threshold"] = self.threshold.clone();
        let comparison = if self.below { "LessThanThreshold" } else { "GreaterThanThreshold" };
        properties["ComparisonOperator"] = json!(comparison);
        properties["TreatMissingData"] = json!(if self.below { "breaching" } else { "notBreaching" });
        properties["AlarmActions"] = if self.critical {
            json!({ "Fn::If": ["HasCriticalTopic", [topic(), { "Ref": "CriticalTopicArn" }], [topic()]] })
        } else {
            json!([topic()])
        };
        json!({ "Type": "AWS::CloudWatch::Alarm", "Properties": properties })
    }
}

impl Series {
    fn sum(namespace: &'static str, metric: &'static str, dimensions: Vec<(&'static str, Value)>) -> Self {
        Self { namespace, metric, dimensions, statistic: "Sum" }
    }

    fn most(self) -> Self {
        Self { statistic: "Maximum", ..self }
    }

    /// What a function writes of itself, by its name.
    fn own(metric: &Metric, function: &'static str) -> Self {
        Self::sum(metrics::NAMESPACE, metric.name, vec![("Function", function.into())])
    }

    fn lambda(metric: &'static str, function: &Function) -> Self {
        Self::sum("AWS/Lambda", metric, vec![("FunctionName", function.name.into())])
    }

    fn dimensions(&self) -> Value {
        self.dimensions.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect()
    }

    fn in_expression(&self, id: &str, seconds: u32) -> Value {
        json!({
            "Id": id,
            "MetricStat": {
                "Metric": { "Namespace": self.namespace, "MetricName": self.metric, "Dimensions": self.dimensions() },
                "Period": seconds,
                "Stat": self.statistic,
            },
            "ReturnData": false,
        })
    }
}

/// The sum of these.
fn sum(series: impl IntoIterator<Item = Series>) -> Watched {
    Watched::Math(SUM, (1..).zip(series).map(|(nth, series)| (format!("m{nth}"), series)).collect())
}

fn queue(queue: &Queue) -> Alarm {
    let (metric, threshold, periods) = match queue.watch {
        Watch::Empty => ("ApproximateNumberOfMessagesVisible", 0, 1),
        Watch::Age => ("ApproximateAgeOfOldestMessage", 900, 2),
    };
    let series = Series::sum("AWS/SQS", metric, vec![("QueueName", queue.name.into())]).most();
    Alarm::any(queue.id, queue.alarm, queue.says, Watched::One(series)).above(threshold).during(FIVE_MINUTES, periods)
}

fn function(function: &Function) -> [Alarm; 5] {
    let Function { id, name, seconds, meanwhile } = function;
    let one = |metric| Watched::One(Series::lambda(metric, function));
    let alarm = |what: &str, kind: &str, says: String, watched| {
        Alarm::any(&format!("{id}{what}"), &format!("{name}-{kind}"), &says, watched)
    };
    let both = ["Errors", "Invocations"].map(|metric| (metric.to_lowercase(), Series::lambda(metric, function)));
    let rate = Watched::Math("IF(invocations > 0, 100 * errors / invocations, 0)", both.into());
    let duration = Watched::One(Series::lambda("Duration", function).most());
    [
        alarm("Errors", "errors", format!("{name} failed. Its log says why. {meanwhile}"), one("Errors")),
        alarm(
            "Throttles",
            "throttles",
            format!("{name} was throttled. Is the account short of concurrency?"),
            one("Throttles"),
        ),
        alarm(
            "ErrorRate",
            "error-rate",
            format!("More than 5 % of the runs of {name} fail, for ten minutes. Its log says why. {meanwhile}"),
            rate,
        )
        .above(5)
        .during(FIVE_MINUTES, 2)
        .critical(),
        alarm(
            "Duration",
            "duration",
            format!("A run of {name} took more than 80 % of its {seconds} seconds. Its log says what was slow; one more is cut off"),
            duration,
        )
        .above(seconds * NEAR_TIMEOUT),
        alarm(
            "Spike",
            "spike",
            format!(
                "{name} runs far more often than is usual. Is it a storm of findings, or a loop? \"redress audit list\" shows what; \
                 \"redress off\" stops everything"
            ),
            one("Invocations"),
        )
        .above(json!({ "Ref": "SpikeInvocations" })),
    ]
}

fn table(table: &Table) -> Alarm {
    let of_table = || vec![("TableName", table.name.into())];
    let of_index =
        |index: &&'static str| vec![("TableName", table.name.into()), ("GlobalSecondaryIndexName", (*index).into())];
    let throttles = |dimensions: Vec<(&'static str, Value)>| {
        ["ReadThrottleEvents", "WriteThrottleEvents"]
            .map(|metric| Series::sum("AWS/DynamoDB", metric, dimensions.clone()))
    };
    let all = std::iter::once(of_table()).chain(table.indexes.iter().map(of_index)).flat_map(throttles);
    let says = format!(
        "Table {} or one of its indexes was throttled more than ten times within a minute. What failed is tried again; when it \
         goes on, look for a hot key or the account's limit",
        table.name
    );
    Alarm::any(&format!("{}Throttled", table.id), table.alarm, &says, sum(all)).above(10).during(60, 1).critical()
}

fn workflow() -> [Alarm; 3] {
    let series = |metric| Series::sum("AWS/States", metric, vec![("StateMachineArn", state_machine())]);
    let all = ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"].map(series);
    [
        Alarm::any(
            "WorkflowFailed",
            "redress-workflow-failed",
            "An approval or a long remediation failed. Its execution says where",
            Watched::One(series("ExecutionsFailed")),
        ),
        Alarm::any(
            "WorkflowTimedOut",
            "redress-workflow-timed-out",
            "An approval or a long remediation did not end in time. Its execution says where",
            Watched::One(series("ExecutionsTimedOut")),
        ),
        Alarm::any(
            "WorkflowManyFailed",
            "redress-workflow-many-failed",
            "More than three approvals or long remediations failed within five minutes: the cause is common to them. Compare \
             where their executions ended, then the log of redress-workflow",
            sum(all),
        )
        .above(3)
        .critical(),
    ]
}

fn rules() -> [Alarm; 4] {
    let hub = |metric| {
        names::HUB_RULES.map(|rule| {
            Series::sum("AWS/Events", metric, vec![("EventBusName", names::HUB_BUS.into()), ("RuleName", rule.into())])
        })
    };
    let own = |metric| {
        names::DEFAULT_BUS_RULES.map(|rule| Series::sum("AWS/Events", metric, vec![("RuleName", rule.into())]))
    };
    let (failed, lost) = ("FailedInvocations", "InvocationsFailedToBeSentToDlq");
    [
        Alarm::any(
            "HubRulesFailed",
            "redress-hub-rules-failed",
            "Events of bus redress-hub could not be delivered. They are in the dead-letter queue of their rule, with the reason",
            sum(hub(failed)),
        )
        .critical(),
        Alarm::any(
            "HubRulesLost",
            "redress-hub-rules-lost",
            "Events of bus redress-hub were lost: not even a dead-letter queue took them. Look at the queues' policies; the \
             reconciler brings what Security Hub and AWS Config still know",
            sum(hub(lost)),
        )
        .critical(),
        Alarm::any(
            "OwnRulesFailed",
            "redress-own-rules-failed",
            "Rule redress-forward-findings, redress-reconcile or redress-checkpoint could not deliver. Their events are in \
             redress-findings-dlq, redress-reconciler-dlq and redress-checkpoint-dlq, with the reason",
            sum(own(failed)),
        )
        .critical(),
        Alarm::any(
            "OwnRulesLost",
            "redress-own-rules-lost",
            "Events of rule redress-forward-findings, redress-reconcile or redress-checkpoint were lost: not even a dead-letter \
             queue took them. Look at the queues' policies",
            sum(own(lost)),
        )
        .critical(),
    ]
}

fn ours() -> [Alarm; 7] {
    let entering = ENTERING.map(|function| Series::own(&metrics::ASSUME_ROLE_FAILURES, function));
    let publishing = FUNCTIONS.iter().filter(|function| !SILENT.contains(&function.name));
    let publishing = publishing.map(|function| Series::own(&metrics::PUBLISH_FAILURES, function.name));
    let own = |metric| Series::own(metric, names::NOTIFIER_FUNCTION);
    let told =
        [("failed".to_owned(), own(&metrics::DELIVERY_FAILURES)), ("delivered".to_owned(), own(&metrics::DELIVERIES))];
    let topic = |metric| Series::sum("AWS/SNS", metric, vec![("TopicName", names::NOTIFICATIONS_TOPIC.into())]);
    let delivered = [
        ("failed".to_owned(), topic("NumberOfNotificationsFailed")),
        ("delivered".to_owned(), topic("NumberOfNotificationsDelivered")),
    ];
    let runs = Series::own(&metrics::RECONCILER_RUNS, names::RECONCILER_FUNCTION);
    let signing = |metric| Watched::One(Series::own(metric, names::CHECKPOINT_FUNCTION));
    [
        Alarm::any(
            "AssumeRole",
            "redress-assume-role",
            "A member account could not be entered: nothing is repaired there. Dashboard redress-administrator shows which; is its \
             stack deployed, with this account's id and the same ExternalId?",
            sum(entering),
        )
        .critical(),
        Alarm::any(
            "Publish",
            "redress-publish-failed",
            "SNS did not take a message to people. The reconciler sends it again. Look at the policies of the topic and of its key",
            sum(publishing),
        ),
        Alarm::any(
            "Notifications",
            "redress-notifications-failed",
            "More than 1 % of the messages to people were not delivered. Look at the topic's subscriptions",
            Watched::Math("100 * failed / SUM([failed, delivered])", delivered.into()),
        )
        .above(1),
        Alarm::any(
            "Deliveries",
            "redress-deliveries-failed",
            "More than 1 % of the messages to chats, pagers and ticket systems did not arrive, for a quarter of an hour. The log of \
             redress-notifier says where and why; what may pass is tried again",
            Watched::Math("100 * failed / SUM([failed, delivered])", told.into()),
        )
        .above(1)
        .during(FIVE_MINUTES, 3),
        Alarm {
            below: true,
            ..Alarm::any(
                "ReconcilerHeartbeat",
                "redress-reconciler-heartbeat",
                "The reconciler has not run to its end for an hour. Its rule is redress-reconcile, and its log says how far it came",
                Watched::One(runs),
            )
            .above(1)
            .during(1800, 2)
            .critical()
        },
        Alarm::any(
            "ChainsGoneBack",
            "redress-chains-gone-back",
            "A chain of the ledger ends before, or otherwise than, the checkpoint before said: it was rewritten or cut off. The \
             log of redress-checkpoint says which. \"redress audit verify\" shows where; CloudTrail shows who wrote to RedressState \
             and RedressAuditLog",
            signing(&metrics::CHAINS_GONE_BACK),
        )
        .critical(),
        Alarm {
            below: true,
            ..Alarm::any(
                "CheckpointHeartbeat",
                "redress-checkpoint-heartbeat",
                "No checkpoint of the ledger was made for an hour: what is written since can be rewritten unseen. Its rule is \
                 redress-checkpoint, and its log says why",
                signing(&metrics::CHECKPOINTS),
            )
            .above(1)
            .during(1800, 2)
            .critical()
        },
    ]
}
