//! `cloudwatch_alarm`: what CloudTrail logs of one kind of event raises an alarm that tells somebody.
//!
//! Security Hub asks for a metric filter with an exact pattern on the log group of the account's multi-Region trail,
//! and an alarm on its metric with a topic to tell. What is missing of these is made, under names of Redress; what
//! is there is used as it is and never written over, so that an undo takes away exactly what was made. CloudWatch.1
//! to .14 are this one function with different patterns. It makes no trail: where there is none that will do, it
//! says what to do about that.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_cloudtrail::types::{AdvancedEventSelector, AdvancedFieldSelector, EventSelector, ReadWriteType, Trail};
use aws_sdk_cloudwatchlogs::types::MetricTransformation;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use redress_common::ids::{AccountId, Region};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Clients, Declared, Native, NativeError, Parameters, parameter, planned, typed, untyped};
use crate::alarms::Alarms;

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "cloudwatch_alarm",
    reads: &[
        "cloudtrail:DescribeTrails",
        "cloudtrail:GetEventSelectors",
        "cloudtrail:GetTrailStatus",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:DescribeAlarmsForMetric",
        "logs:DescribeMetricFilters",
        "sns:GetTopicAttributes",
    ],
    changes: &[
        "cloudwatch:DeleteAlarms",
        "cloudwatch:PutMetricAlarm",
        "logs:DeleteMetricFilter",
        "logs:PutMetricFilter",
        "sns:CreateTopic",
        "sns:DeleteTopic",
    ],
    make: |clients, request| Ok(Box::new(EventAlarm::new(clients, request)?)),
};

/// The function on one account, in one Region.
#[derive(Debug)]
pub struct EventAlarm {
    alarms: Alarms,
    cloudtrail: aws_sdk_cloudtrail::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    sns: aws_sdk_sns::Client,
    wanted: Wanted,
}

/// What is asked for, and where.
#[derive(Debug)]
struct Wanted {
    pattern: String,
    metric: Metric,
    account: AccountId,
    region: Region,
    /// Of the topic, the filter and the alarm that are made.
    name: String,
    topic: String,
}

impl EventAlarm {
    /// Parameters `FilterPattern`, and `Namespace` and `MetricName` of the metric that a filter of ours counts in.
    ///
    /// # Errors
    /// When they are missing or out of CloudWatch's bounds.
    pub fn new(clients: &Clients, request: &RemediateRequest) -> Result<Self, NativeError> {
        let (job, region, account) = (&request.job, &request.region, &request.account_id);
        // A topic's name has no dots.
        let name = format!("Redress-{}", job.control.as_str().replace('.', "-"));
        let topic = format!("arn:{}:sns:{region}:{account}:{name}", job.resource_arn.partition());
        let (account, region) = (account.clone(), region.clone());
        let (pattern, metric) = asked(&request.parameters)?;
        Ok(Self {
            alarms: clients.alarms.clone(),
            cloudtrail: clients.cloudtrail.clone(),
            logs: clients.logs.clone(),
            sns: clients.sns.clone(),
            wanted: Wanted { pattern, metric, account, region, name, topic },
        })
    }

    /// The log group of a trail of all Regions, or what keeps there from being one.
    async fn log_group(&self) -> Result<Result<String, Lack>, NativeError> {
        let answer = self.cloudtrail.describe_trails().include_shadow_trails(true).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeTrails", &error))?;
        let mut trails: Vec<&Trail> = answer.trail_list().iter().collect();
        trails.sort_by_key(|trail| trail.trail_arn());
        let mut nearest = Lack::NoTrail;
        for trail in trails {
            let lack = match self.wanted.log_group_of(trail) {
                Ok(_) if !self.is_logging(trail).await? => Lack::NotLogging { trail: name_of(trail) },
                Ok(_) if !self.logs_enough(trail).await? => Lack::TooFewEvents { trail: name_of(trail) },
                Ok(group) => return Ok(Ok(group)),
                Err(lack) => lack,
            };
            nearest = nearest.max(lack);
        }
        Ok(Err(nearest))
    }

    async fn is_logging(&self, trail: &Trail) -> Result<bool, NativeError> {
        let status = self.cloudtrail.get_trail_status().set_name(trail.trail_arn().map(str::to_owned)).send().await;
        let status = status.map_err(|error| AwsFailure::of("GetTrailStatus", &error))?;
        Ok(status.is_logging() == Some(true))
    }

    /// Whether it logs the events that are looked for. A trail whose selectors nobody has chosen logs all of management.
    async fn logs_enough(&self, trail: &Trail) -> Result<bool, NativeError> {
        if trail.has_custom_event_selectors() != Some(true) {
            return Ok(true);
        }
        let selectors = self.cloudtrail.get_event_selectors().set_trail_name(trail.trail_arn().map(str::to_owned));
        let selectors = selectors.send().await.map_err(|error| AwsFailure::of("GetEventSelectors", &error))?;
        Ok(self.wanted.is_let_through(selectors.event_selectors(), selectors.advanced_event_selectors()))
    }

    /// The filters that look for the pattern, and the one that has our name; `None` when the log group is gone.
    async fn filters(&self, group: &str) -> Result<Option<Vec<Filter>>, NativeError> {
        let mut pages = self.logs.describe_metric_filters().log_group_name(group).into_paginator().send();
        let mut filters = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page.map_err(|error| AwsFailure::of("DescribeMetricFilters", &error)) {
                Err(failure) if failure.code() == Some("ResourceNotFoundException") => return Ok(None),
                page => page?,
            };
            let found = page.metric_filters().iter().map(Filter::of);
            filters.extend(found.filter(|filter| self.wanted.looks_for_it(filter) || filter.name == self.wanted.name));
        }
        filters.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(filters))
    }

    /// The alarms on the metrics of these filters, and the one that has our name.
    async fn alarms(&self, filters: &[Filter]) -> Result<Vec<Alarm>, NativeError> {
        let ours = self.alarms.call("DescribeAlarms", &json!({ "AlarmNames": [self.wanted.name] })).await?;
        let mut alarms = listed(&ours)?;
        let metrics: BTreeSet<&Metric> = filters
            .iter()
            .filter(|filter| self.wanted.looks_for_it(filter))
            .flat_map(|filter| &filter.metrics)
            .collect();
        for metric in metrics {
            let asked = untyped(metric, "a metric", DECLARED.name)?;
            alarms.extend(listed(&self.alarms.call("DescribeAlarmsForMetric", &asked).await?)?);
        }
        alarms.sort_by(|one, other| one.alarm_name.cmp(&other.alarm_name));
        alarms.dedup();
        Ok(alarms)
    }

    async fn has_topic(&self) -> Result<bool, NativeError> {
        let answer = self.sns.get_topic_attributes().topic_arn(&self.wanted.topic).send().await;
        match answer.map_err(|error| AwsFailure::of("GetTopicAttributes", &error)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.code() == Some("NotFound") => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}

#[async_trait]
impl Native for EventAlarm {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let topic = self.has_topic().await?;
        let state = match self.log_group().await? {
            Err(lack) => State { lack: Some(lack), topic, ..State::default() },
            Ok(log_group) => match self.filters(&log_group).await? {
                None => State { lack: Some(Lack::GroupGone { log_group }), topic, ..State::default() },
                Some(filters) => {
                    let alarms = self.alarms(&filters).await?;
                    State { log_group: Some(log_group), lack: None, filters, alarms, topic }
                }
            },
        };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        self.wanted.plan(&State::of(now)?)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        self.wanted.plan_restore(State::of(now)?, &State::of(before)?)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let parameters = &call.parameters;
        match call.operation.as_str() {
            "PutMetricAlarm" => drop(self.alarms.call("PutMetricAlarm", parameters).await?),
            "DeleteAlarms" => drop(self.alarms.call("DeleteAlarms", parameters).await?),
            "PutMetricFilter" => {
                let put: PutMetricFilter = typed(parameters, "a call", DECLARED.name)?;
                let counted = put.metric_transformations.into_iter().map(|counted| {
                    MetricTransformation::builder()
                        .metric_name(counted.metric_name)
                        .metric_namespace(counted.metric_namespace)
                        .metric_value(counted.metric_value)
                        .default_value(f64::from(counted.default_value))
                        .build()
                });
                let counted: Result<Vec<_>, _> = counted.collect();
                let counted = counted.map_err(|_| NativeError::Form { what: "a call", native: DECLARED.name })?;
                self.logs
                    .put_metric_filter()
                    .log_group_name(put.log_group_name)
                    .filter_name(put.filter_name)
                    .filter_pattern(put.filter_pattern)
                    .set_metric_transformations(Some(counted))
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("PutMetricFilter", &error))?;
            }
            "DeleteMetricFilter" => {
                let delete: DeleteMetricFilter = typed(parameters, "a call", DECLARED.name)?;
                let delete = self
                    .logs
                    .delete_metric_filter()
                    .log_group_name(delete.log_group_name)
                    .filter_name(delete.filter_name);
                delete.send().await.map_err(|error| AwsFailure::of("DeleteMetricFilter", &error))?;
            }
            "CreateTopic" => {
                let create: CreateTopic = typed(parameters, "a call", DECLARED.name)?;
                let create = self.sns.create_topic().name(create.name);
                create.send().await.map_err(|error| AwsFailure::of("CreateTopic", &error))?;
            }
            "DeleteTopic" => {
                let delete: DeleteTopic = typed(parameters, "a call", DECLARED.name)?;
                let delete = self.sns.delete_topic().topic_arn(delete.topic_arn);
                delete.send().await.map_err(|error| AwsFailure::of("DeleteTopic", &error))?;
            }
            _ => return Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
        Ok(())
    }
}

impl Wanted {
    /// The log group of a trail, when it can be filtered here.
    fn log_group_of(&self, trail: &Trail) -> Result<String, Lack> {
        if trail.is_multi_region_trail() != Some(true) {
            return Err(Lack::NoTrail);
        }
        let own = trail.trail_arn().and_then(|arn| arn.parse::<Arn>().ok());
        if let Some(owner) = own.as_ref().and_then(Arn::account).filter(|owner| **owner != self.account) {
            return Err(Lack::OtherAccount { account: owner.to_string() });
        }
        if let Some(home) = trail.home_region().filter(|home| *home != self.region.as_str()) {
            return Err(Lack::OtherRegion { region: home.to_owned() });
        }
        let group = trail.cloud_watch_logs_log_group_arn().and_then(|arn| arn.parse::<Arn>().ok());
        // A log group's ARN ends in `:*`, for its streams.
        let name =
            group.as_ref().and_then(|arn| Some(arn.resource().strip_prefix("log-group:")?.trim_end_matches(":*")));
        match (name, group.as_ref().and_then(Arn::account)) {
            (Some(group), Some(owner)) if *owner == self.account => Ok(group.to_owned()),
            (Some(_), Some(owner)) => Err(Lack::OtherAccount { account: owner.to_string() }),
            _ => Err(Lack::NoLogGroup { trail: name_of(trail) }),
        }
    }

    /// Whether selectors let all management events through, read and write, but for sources that the pattern does not name:
    /// what Security Hub asks of a trail.
    fn is_let_through(&self, basic: &[EventSelector], advanced: &[AdvancedEventSelector]) -> bool {
        let excludes = |sources: &[String]| sources.iter().any(|source| self.pattern.contains(source.as_str()));
        let basic = basic.iter().any(|one| {
            one.include_management_events() != Some(false)
                && one.read_write_type().is_none_or(|kind| *kind == ReadWriteType::All)
                && !excludes(one.exclude_management_event_sources())
        });
        let advanced = advanced.iter().any(|one| {
            let fields = one.field_selectors();
            let is_harmless = |field: &AdvancedFieldSelector| match field.field() {
                "eventCategory" => true,
                "eventSource" => {
                    let chosen = [field.equals(), field.starts_with(), field.ends_with()];
                    let others = [field.not_starts_with(), field.not_ends_with()];
                    chosen.iter().chain(&others).all(|values| values.is_empty()) && !excludes(field.not_equals())
                }
                _ => false,
            };
            let is_management =
                |field: &AdvancedFieldSelector| field.field() == "eventCategory" && field.equals() == ["Management"];
            fields.iter().any(is_management) && fields.iter().all(is_harmless)
        });
        basic || advanced
    }

    /// Whether a filter has the pattern, spaces aside, and a metric that an alarm can watch.
    fn looks_for_it(&self, filter: &Filter) -> bool {
        dense(&filter.pattern) == dense(&self.pattern) && !filter.metrics.is_empty()
    }

    fn plan(&self, now: &State) -> Result<Change, NativeError> {
        let group = match (&now.lack, &now.log_group) {
            (Some(lack), _) => return Err(NativeError::NotNow(lack.steps())),
            (None, Some(group)) => group,
            (None, None) => return Err(NativeError::Form { what: "the state", native: DECLARED.name }),
        };
        let mut watched =
            now.filters.iter().filter(|filter| self.looks_for_it(filter)).flat_map(|filter| &filter.metrics);
        if watched.clone().any(|metric| now.alarms.iter().any(|alarm| alarm.tells_of(metric))) {
            return Ok(Change::default());
        }
        if now.alarms.iter().any(|alarm| alarm.alarm_name == self.name) {
            return Err(self.taken("alarm"));
        }
        let mut change = Vec::new();
        if !now.topic {
            change.push(planned(&DECLARED, "sns", "CreateTopic", &CreateTopic { name: self.name.clone() })?);
        }
        let metric = match watched.next() {
            Some(metric) => metric,
            None if now.filters.iter().any(|filter| filter.name == self.name) => {
                return Err(self.taken("metric filter"));
            }
            None => {
                change.push(planned(&DECLARED, "logs", "PutMetricFilter", &self.filter(group))?);
                &self.metric
            }
        };
        change.push(planned(&DECLARED, "cloudwatch", "PutMetricAlarm", &self.alarm(metric))?);
        Ok(Change(change))
    }

    fn plan_restore(&self, mut now: State, before: &State) -> Result<Change, NativeError> {
        let mut change = Vec::new();
        let ours = |alarm: &Alarm| alarm.alarm_name == self.name;
        if now.alarms.iter().any(ours) && !before.alarms.iter().any(ours) {
            change.push(planned(&DECLARED, "cloudwatch", "DeleteAlarms", &json!({ "AlarmNames": [self.name] }))?);
            now.alarms.retain(|alarm| !ours(alarm));
        }
        let ours = |filter: &Filter| filter.name == self.name;
        if let Some(group) = &now.log_group
            && now.filters.iter().any(ours)
            && !before.filters.iter().any(ours)
        {
            let delete = DeleteMetricFilter { log_group_name: group.clone(), filter_name: self.name.clone() };
            change.push(planned(&DECLARED, "logs", "DeleteMetricFilter", &delete)?);
            now.filters.retain(|filter| !ours(filter));
        }
        if now.topic && !before.topic {
            change.push(planned(&DECLARED, "sns", "DeleteTopic", &DeleteTopic { topic_arn: self.topic.clone() })?);
            now.topic = false;
        }
        if now == *before {
            Ok(Change(change))
        } else {
            Err(NativeError::Refused(
                "something else than what Redress made is not as it was; nothing was changed. Compare the trail, its \
                 log group's metric filters and their alarms with the pre-image, and take away by hand what should go",
            ))
        }
    }

    fn filter(&self, group: &str) -> PutMetricFilter {
        PutMetricFilter {
            log_group_name: group.to_owned(),
            filter_name: self.name.clone(),
            filter_pattern: self.pattern.clone(),
            metric_transformations: vec![Counted {
                metric_name: self.metric.metric_name.clone(),
                metric_namespace: self.metric.namespace.clone(),
                metric_value: "1".to_owned(),
                default_value: 0,
            }],
        }
    }

    /// As Security Hub documents it: one event in five minutes is enough.
    fn alarm(&self, metric: &Metric) -> Value {
        json!({
            "AlarmName": self.name,
            "AlarmDescription": "Made by Redress. Somebody is told when the metric filter of CloudTrail's log group counts an event.",
            "AlarmActions": [self.topic],
            "Namespace": metric.namespace,
            "MetricName": metric.metric_name,
            "Statistic": "Sum",
            "Period": 300,
            "EvaluationPeriods": 1,
            "Threshold": 1,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
        })
    }

    fn taken(&self, what: &str) -> NativeError {
        let name = &self.name;
        NativeError::NotNow(format!(
            "there is a {what} `{name}` already, and it does not do what this control asks for; it is not written over. \
             Repair or remove it, then remediate again"
        ))
    }
}

/// Why nothing can be filtered, from the least near to the nearest to what is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all_fields = "PascalCase")]
enum Lack {
    NoTrail,
    OtherAccount { account: String },
    OtherRegion { region: String },
    NoLogGroup { trail: String },
    NotLogging { trail: String },
    TooFewEvents { trail: String },
    GroupGone { log_group: String },
}

impl Lack {
    /// What is missing, and what a person does about it.
    fn steps(&self) -> String {
        match self {
            Self::NoTrail => "the account has no CloudTrail trail of all Regions, so there is no log to watch. 1. Make one \
                              (CloudTrail, Create trail, or an organization trail), with CloudWatch Logs enabled. 2. When \
                              its log group receives events, remediate again"
                .to_owned(),
            Self::OtherAccount { account } => format!(
                "the trail of all Regions, or its log group, belongs to account {account}, and can be watched only there. \
                 1. Remediate this control in account {account}. 2. Suppress the finding here, or make a trail of this \
                 account's own with CloudWatch Logs enabled"
            ),
            Self::OtherRegion { region } => format!(
                "the trail of all Regions is at home in {region}, and its log group can be watched only there. \
                 Remediate this control in {region}"
            ),
            Self::NoLogGroup { trail } => format!(
                "trail `{trail}` sends nothing to CloudWatch Logs. 1. Open it in CloudTrail, and edit CloudWatch Logs: \
                 enable it, with a log group and a role. 2. When the log group receives events, remediate again"
            ),
            Self::NotLogging { trail } => format!(
                "trail `{trail}` is turned off, so there is nothing to watch. 1. Find out why, then start it \
                 (CloudTrail, the trail, Start logging). 2. Remediate again"
            ),
            Self::TooFewEvents { trail } => format!(
                "trail `{trail}` does not log all the management events that this control watches for. 1. Open it in \
                 CloudTrail, and edit its management events: read and write, and none excluded. 2. Remediate again"
            ),
            Self::GroupGone { log_group } => format!(
                "log group `{log_group}`, to which the trail sends, does not exist. 1. Edit CloudWatch Logs of the trail, \
                 and let it make the log group. 2. Remediate again"
            ),
        }
    }
}

/// What of the account this control is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lack: Option<Lack>,
    filters: Vec<Filter>,
    alarms: Vec<Alarm>,
    /// Whether there is a topic that has our name.
    topic: bool,
}

impl State {
    fn of(image: &Image) -> Result<Self, NativeError> {
        typed(&image.state, "the state", DECLARED.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Metric {
    namespace: String,
    metric_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Filter {
    name: String,
    pattern: String,
    /// Those without dimensions: an alarm on one with dimensions needs their values.
    metrics: Vec<Metric>,
}

impl Filter {
    fn of(filter: &aws_sdk_cloudwatchlogs::types::MetricFilter) -> Self {
        let metrics = filter.metric_transformations().iter();
        let plain = metrics.filter(|metric| metric.dimensions().is_none_or(|dimensions| dimensions.is_empty()));
        Self {
            name: filter.filter_name().unwrap_or_default().to_owned(),
            pattern: filter.filter_pattern().unwrap_or_default().to_owned(),
            metrics: plain
                .map(|metric| Metric {
                    namespace: metric.metric_namespace().to_owned(),
                    metric_name: metric.metric_name().to_owned(),
                })
                .collect(),
        }
    }
}

/// What somebody can change of an alarm, as CloudWatch tells it; not its state, which changes by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Alarm {
    alarm_name: String,
    #[serde(default)]
    actions_enabled: bool,
    #[serde(default)]
    alarm_actions: Vec<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    metric_name: Option<String>,
    #[serde(default)]
    statistic: Option<String>,
    #[serde(default)]
    period: Option<u32>,
    #[serde(default)]
    evaluation_periods: Option<u32>,
    #[serde(default)]
    threshold: Option<f64>,
    #[serde(default)]
    comparison_operator: Option<String>,
    #[serde(default)]
    treat_missing_data: Option<String>,
}

impl Alarm {
    /// Whether a topic hears of this metric.
    fn tells_of(&self, metric: &Metric) -> bool {
        let watched = (self.namespace.as_deref(), self.metric_name.as_deref());
        let topic = |action: &String| action.parse::<Arn>().is_ok_and(|arn| arn.service() == "sns");
        watched == (Some(&metric.namespace), Some(&metric.metric_name))
            && self.actions_enabled
            && self.alarm_actions.iter().any(topic)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct CreateTopic {
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DeleteTopic {
    topic_arn: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutMetricFilter {
    log_group_name: String,
    filter_name: String,
    filter_pattern: String,
    metric_transformations: Vec<Counted>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Counted {
    metric_name: String,
    metric_namespace: String,
    metric_value: String,
    default_value: u8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteMetricFilter {
    log_group_name: String,
    filter_name: String,
}

fn name_of(trail: &Trail) -> String {
    trail.name().unwrap_or_default().to_owned()
}

fn listed(answer: &Value) -> Result<Vec<Alarm>, NativeError> {
    typed(answer.get("MetricAlarms").unwrap_or(&Value::Array(Vec::new())), "an answer", DECLARED.name)
}

/// A pattern without the spaces that mean nothing.
fn dense(pattern: &str) -> String {
    let mut quoted = false;
    pattern
        .chars()
        .filter(|c| {
            quoted ^= *c == '"';
            quoted || !c.is_whitespace()
        })
        .collect()
}

fn asked(parameters: &Parameters) -> Result<(String, Metric), NativeError> {
    let text = |name: &str, most: usize, without: &[char], expected| {
        let text = parameter(parameters, name, expected)?.as_str().map(str::trim).unwrap_or_default();
        if text.is_empty() || text.chars().count() > most || text.contains(without) {
            return Err(NativeError::Parameter { name: name.to_owned(), expected });
        }
        Ok(text.to_owned())
    };
    let pattern = text("FilterPattern", 1024, &[], "a filter pattern of at most 1024 characters")?;
    let expected = "a metric's name or namespace of at most 255 characters, without `:`, `*` and `$`";
    let (namespace, metric_name) =
        (text("Namespace", 255, &[':', '*', '$'], expected)?, text("MetricName", 255, &[':', '*', '$'], expected)?);
    Ok((pattern, Metric { namespace, metric_name }))
}

#[cfg(test)]
#[path = "cloudwatch_alarm_tests.rs"]
mod tests;
