//! `bucket_settings`: a bucket keeps versions, logs access, tells of its events, or has a rule for the life of its objects.
//!
//! What a control asks for is added to what is there, and nothing that is there is replaced. Access logs and events need
//! a place to go to: a log bucket (`log_bucket`) and a topic of Redress's own, made once for an account and Region
//! when they are first needed. They are no part of a bucket's state: other buckets use them, and an undo leaves them.

use std::sync::Mutex;

use async_trait::async_trait;
use aws_sdk_s3::types;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bucket_lifecycle::{self, Lifecycle};
use super::log_bucket::{Found, LogBucket};
use super::policy_text::{Policy, texts};
use super::{Clients, Declared, Native, NativeError, parameter, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "bucket_settings",
    reads: &[
        "s3:GetBucketLogging",
        "s3:GetBucketNotification",
        "s3:GetBucketPolicy",
        "s3:GetBucketVersioning",
        "s3:GetLifecycleConfiguration",
        "sns:GetTopicAttributes",
    ],
    changes: &[
        "s3:CreateBucket",
        "s3:PutBucketLogging",
        "s3:PutBucketNotification",
        "s3:PutBucketPolicy",
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
        "sns:CreateTopic",
    ],
    make: |clients, request| Ok(Box::new(BucketSettings::new(clients, request)?)),
};

const TOPIC: &str = "redress-bucket-events";

/// The function on one bucket.
#[derive(Debug)]
struct BucketSettings {
    s3: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
    here: Here,
    setting: Setting,
    /// What there is of the log bucket, or whether the topic is there, as the last look found it.
    helper: Mutex<Found>,
}

#[derive(Debug)]
struct Here {
    bucket: String,
    account: String,
    region: String,
    partition: String,
}

impl Here {
    fn log_bucket(&self) -> LogBucket {
        LogBucket::access_logs(&self.account, &self.region, &self.partition)
    }

    fn topic(&self) -> String {
        format!("arn:{}:sns:{}:{}:{TOPIC}", self.partition, self.region, self.account)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Setting {
    Versioning,
    Logging,
    /// To be told of these events.
    Notifications(Vec<String>),
    /// A rule of the lifecycle that is in force; these days for uploads that nobody completes.
    Lifecycle(i32),
}

impl BucketSettings {
    /// Parameter `Setting`: `Versioning`, `Logging`, `Notifications` (with `Events`), or `Lifecycle` (with `Days`).
    fn new(clients: &Clients, request: &RemediateRequest) -> Result<Self, NativeError> {
        const SETTING: &str = "`Versioning`, `Logging`, `Notifications` or `Lifecycle`";
        const EVENTS: &str = "a list of S3 event types";
        const DAYS: &str = "a whole number of days, at least 1";
        let parameters = &request.parameters;
        let setting = match parameter(parameters, "Setting", SETTING)?.as_str() {
            Some("Versioning") => Setting::Versioning,
            Some("Logging") => Setting::Logging,
            Some("Notifications") => {
                let events: Vec<String> =
                    texts(parameter(parameters, "Events", EVENTS)?).into_iter().map(str::to_owned).collect();
                if events.is_empty() || !events.iter().all(|event| event.starts_with("s3:")) {
                    return Err(NativeError::Parameter { name: "Events".to_owned(), expected: EVENTS });
                }
                Setting::Notifications(events)
            }
            Some("Lifecycle") => {
                let days =
                    super::number(parameter(parameters, "Days", DAYS)?).and_then(|days| i32::try_from(days).ok());
                let days = days.filter(|days| *days > 0);
                let missing = || NativeError::Parameter { name: "Days".to_owned(), expected: DAYS };
                Setting::Lifecycle(days.ok_or_else(missing)?)
            }
            _ => return Err(NativeError::Parameter { name: "Setting".to_owned(), expected: SETTING }),
        };
        let here = Here {
            bucket: request.job.resource_name.clone(),
            account: request.account_id.to_string(),
            region: request.region.to_string(),
            partition: request.job.resource_arn.partition().to_string(),
        };
        Ok(Self { s3: clients.s3.clone(), sns: clients.sns.clone(), here, setting, helper: Mutex::default() })
    }

    fn found(&self, helper: Found) {
        if let Ok(mut found) = self.helper.lock() {
            *found = helper;
        }
    }

    fn helper(&self) -> Found {
        self.helper.lock().map(|found| found.clone()).unwrap_or_default()
    }

    fn on_bucket(&self, operation: &str, what: &str, value: &Value) -> Result<Call, NativeError> {
        let Here { bucket, account, .. } = &self.here;
        planned(&DECLARED, "s3", operation, &json!({ "Bucket": bucket, "ExpectedBucketOwner": account, what: value }))
    }

    async fn versioning(&self) -> Result<Option<State>, NativeError> {
        let call = self.s3.get_bucket_versioning().bucket(&self.here.bucket).expected_bucket_owner(&self.here.account);
        match call.send().await.map_err(|error| AwsFailure::of("GetBucketVersioning", &error)) {
            Err(failure) if failure.code() == Some(MISSING) => Ok(None),
            answer => {
                let on = answer?.status == Some(types::BucketVersioningStatus::Enabled);
                Ok(Some(State::Versioning { status: if on { "Enabled" } else { "Suspended" }.to_owned() }))
            }
        }
    }

    async fn logging(&self) -> Result<Option<State>, NativeError> {
        let call = self.s3.get_bucket_logging().bucket(&self.here.bucket).expected_bucket_owner(&self.here.account);
        let answer = match call.send().await.map_err(|error| AwsFailure::of("GetBucketLogging", &error)) {
            Err(failure) if failure.code() == Some(MISSING) => return Ok(None),
            answer => answer?,
        };
        let enabled = answer
            .logging_enabled
            .map(|enabled| LogTarget { target_bucket: enabled.target_bucket, target_prefix: enabled.target_prefix });
        if enabled.is_none() {
            let call = self.s3.get_bucket_policy().bucket(self.here.log_bucket().name);
            let policy = call.expected_bucket_owner(&self.here.account).send().await;
            self.found(match policy.map_err(|error| AwsFailure::of("GetBucketPolicy", &error)) {
                Ok(answer) => Found { exists: true, policy: answer.policy },
                Err(failure) if failure.code() == Some("NoSuchBucketPolicy") => Found { exists: true, policy: None },
                Err(failure) if failure.code() == Some(MISSING) => Found::default(),
                Err(failure) => return Err(failure.into()),
            });
        }
        Ok(Some(State::Logging { enabled }))
    }

    async fn notifications(&self) -> Result<Option<State>, NativeError> {
        let call = self.s3.get_bucket_notification_configuration().bucket(&self.here.bucket);
        let call = call.expected_bucket_owner(&self.here.account);
        let operation = "GetBucketNotificationConfiguration";
        let answer = match call.send().await.map_err(|error| AwsFailure::of(operation, &error)) {
            Err(failure) if failure.code() == Some(MISSING) => return Ok(None),
            answer => answer?,
        };
        let mut destinations: Vec<Destination> = Vec::new();
        destinations.extend(
            answer
                .topic_configurations()
                .iter()
                .map(|one| Destination::of(one.id(), one.topic_arn(), one.events(), one.filter())),
        );
        destinations.extend(
            answer
                .queue_configurations()
                .iter()
                .map(|one| Destination::of(one.id(), one.queue_arn(), one.events(), one.filter())),
        );
        destinations.extend(
            answer
                .lambda_function_configurations()
                .iter()
                .map(|one| Destination::of(one.id(), one.lambda_function_arn(), one.events(), one.filter())),
        );
        destinations.sort();
        if destinations.is_empty() {
            let topic = self.sns.get_topic_attributes().topic_arn(self.here.topic());
            match topic.send().await.map_err(|error| AwsFailure::of("GetTopicAttributes", &error)) {
                Ok(_) => self.found(Found { exists: true, policy: None }),
                Err(failure) if matches!(failure.code(), Some("NotFound" | "NotFoundException")) => {
                    self.found(Found::default());
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let event_bridge = answer.event_bridge_configuration().is_some();
        Ok(Some(State::Notifications { destinations, event_bridge }))
    }

    async fn lifecycle(&self) -> Result<Option<State>, NativeError> {
        let found = bucket_lifecycle::read(&self.s3, &self.here.bucket, &self.here.account).await;
        match found {
            Err(NativeError::Aws(failure)) if failure.code() == Some(MISSING) => Ok(None),
            found => Ok(Some(State::Lifecycle(found?))),
        }
    }

    fn log_bucket_ready(&self) -> Result<Vec<Call>, NativeError> {
        let bucket = self.here.log_bucket();
        let calls = bucket.ready(&self.helper(), &bucket.for_buckets())?;
        calls.iter().map(|(operation, parameters)| planned(&DECLARED, "s3", operation, parameters)).collect()
    }

    fn make_topic(&self) -> Result<Call, NativeError> {
        let statement = json!({
            "Sid": "BucketEvents", "Effect": "Allow", "Principal": { "Service": "s3.amazonaws.com" },
            "Action": "sns:Publish", "Resource": self.here.topic(),
            "Condition": { "StringEquals": { "aws:SourceAccount": self.here.account } },
        });
        let policy = Policy::of(&statement.to_string());
        planned(&DECLARED, "sns", "CreateTopic", &json!({ "Name": TOPIC, "Attributes": { "Policy": policy } }))
    }

    /// The calls that turn the one state into the other; only ones that this function itself led to.
    fn put(&self, state: &State) -> Result<Call, NativeError> {
        match state {
            State::Versioning { status } => {
                self.on_bucket("PutBucketVersioning", "VersioningConfiguration", &json!({ "Status": status }))
            }
            State::Logging { enabled } => {
                let status = enabled.as_ref().map_or(json!({}), |enabled| json!({ "LoggingEnabled": enabled }));
                self.on_bucket("PutBucketLogging", "BucketLoggingStatus", &status)
            }
            State::Notifications { destinations, event_bridge } => {
                let mut configuration = json!({});
                if !destinations.is_empty() {
                    let topic = |one: &Destination| json!({ "Id": one.id, "TopicArn": one.arn, "Events": one.events });
                    configuration["TopicConfigurations"] = destinations.iter().map(topic).collect();
                }
                if *event_bridge {
                    configuration["EventBridgeConfiguration"] = json!({});
                }
                self.on_bucket("PutBucketNotificationConfiguration", "NotificationConfiguration", &configuration)
            }
            State::Lifecycle(lifecycle) => {
                let Here { bucket, account, .. } = &self.here;
                let (operation, input) = lifecycle.put(bucket, account)?;
                planned(&DECLARED, "s3", operation, &input)
            }
        }
    }
}

const MISSING: &str = "NoSuchBucket";

#[async_trait]
impl Native for BucketSettings {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let state = match &self.setting {
            Setting::Versioning => self.versioning().await?,
            Setting::Logging => self.logging().await?,
            Setting::Notifications(_) => self.notifications().await?,
            Setting::Lifecycle(_) => self.lifecycle().await?,
        };
        state.map(|state| Ok(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? })).transpose()
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let mut calls = Vec::new();
        match (&self.setting, state) {
            (Setting::Versioning, State::Versioning { status }) if status != "Enabled" => {
                calls.push(self.put(&State::Versioning { status: "Enabled".to_owned() })?);
            }
            (Setting::Logging, State::Logging { enabled: None }) => {
                let log_bucket = self.here.log_bucket();
                if self.here.bucket == log_bucket.name {
                    return Err(NativeError::Refused(
                        "this bucket holds the access logs: logging its own access into it would never end; exempt it",
                    ));
                }
                calls.extend(self.log_bucket_ready()?);
                let target_prefix = format!("{}/", self.here.bucket);
                let enabled = Some(LogTarget { target_bucket: log_bucket.name, target_prefix });
                calls.push(self.put(&State::Logging { enabled })?);
            }
            (Setting::Notifications(events), State::Notifications { destinations, event_bridge })
                if destinations.is_empty() =>
            {
                if !self.helper().exists {
                    calls.push(self.make_topic()?);
                }
                let own = Destination {
                    id: "redress".to_owned(),
                    arn: self.here.topic(),
                    events: events.clone(),
                    filter: Vec::new(),
                };
                calls.push(self.put(&State::Notifications { destinations: vec![own], event_bridge })?);
            }
            (Setting::Lifecycle(days), State::Lifecycle(lifecycle)) if !lifecycle.is_in_force() => {
                calls.push(self.put(&State::Lifecycle(lifecycle.with_a_rule(*days)))?);
            }
            _ => {}
        }
        Ok(Change(calls))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let calls = if now == before { Vec::new() } else { vec![self.put(&before)?] };
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        let (bucket, owner) = (given("Bucket"), given("ExpectedBucketOwner"));
        let form = |_| NativeError::Form { what: "a call", native: DECLARED.name };
        match call.operation.as_str() {
            "PutBucketVersioning" => {
                let status = call.parameters["VersioningConfiguration"]["Status"].as_str().unwrap_or_default();
                let configuration = types::VersioningConfiguration::builder().status(status.into()).build();
                let call = self.s3.put_bucket_versioning().bucket(bucket).expected_bucket_owner(owner);
                let call = call.versioning_configuration(configuration);
                call.send().await.map_err(|error| AwsFailure::of("PutBucketVersioning", &error))?;
            }
            "CreateBucket" => {
                let place = call.parameters["CreateBucketConfiguration"]["LocationConstraint"].as_str();
                let place = place
                    .map(|place| types::CreateBucketConfiguration::builder().location_constraint(place.into()).build());
                let call = self.s3.create_bucket().bucket(bucket).set_create_bucket_configuration(place);
                call.send().await.map_err(|error| AwsFailure::of("CreateBucket", &error))?;
            }
            "PutBucketPolicy" => {
                let call = self.s3.put_bucket_policy().bucket(bucket).expected_bucket_owner(owner);
                let call = call.policy(given("Policy"));
                call.send().await.map_err(|error| AwsFailure::of("PutBucketPolicy", &error))?;
            }
            "PutBucketLogging" => {
                let wanted = &call.parameters["BucketLoggingStatus"]["LoggingEnabled"];
                let target: Option<LogTarget> = Option::deserialize(wanted).map_err(form)?;
                let enabled = target
                    .map(|target| {
                        let builder = types::LoggingEnabled::builder().target_bucket(target.target_bucket);
                        builder.target_prefix(target.target_prefix).build()
                    })
                    .transpose()
                    .map_err(|_| NativeError::Form { what: "a call", native: DECLARED.name })?;
                let status = types::BucketLoggingStatus::builder().set_logging_enabled(enabled).build();
                let call = self.s3.put_bucket_logging().bucket(bucket).expected_bucket_owner(owner);
                let call = call.bucket_logging_status(status);
                call.send().await.map_err(|error| AwsFailure::of("PutBucketLogging", &error))?;
            }
            "CreateTopic" => {
                let policy = call.parameters["Attributes"]["Policy"].as_str().unwrap_or_default();
                let call = self.sns.create_topic().name(given("Name")).attributes("Policy", policy);
                call.send().await.map_err(|error| AwsFailure::of("CreateTopic", &error))?;
            }
            "PutBucketNotificationConfiguration" => {
                let wanted = &call.parameters["NotificationConfiguration"];
                let mut configuration = types::NotificationConfiguration::builder();
                for topic in wanted["TopicConfigurations"].as_array().into_iter().flatten() {
                    let mut builder = types::TopicConfiguration::builder()
                        .id(topic["Id"].as_str().unwrap_or_default())
                        .topic_arn(topic["TopicArn"].as_str().unwrap_or_default());
                    for event in texts(&topic["Events"]) {
                        builder = builder.events(event.into());
                    }
                    let built = builder.build();
                    let built = built.map_err(|_| NativeError::Form { what: "a call", native: DECLARED.name })?;
                    configuration = configuration.topic_configurations(built);
                }
                if wanted.get("EventBridgeConfiguration").is_some() {
                    let empty = types::EventBridgeConfiguration::builder().build();
                    configuration = configuration.event_bridge_configuration(empty);
                }
                let call = self.s3.put_bucket_notification_configuration().bucket(bucket);
                let call = call.expected_bucket_owner(owner).notification_configuration(configuration.build());
                let operation = "PutBucketNotificationConfiguration";
                call.send().await.map_err(|error| AwsFailure::of(operation, &error))?;
            }
            "DeleteBucketLifecycle" | "PutBucketLifecycleConfiguration" => {
                bucket_lifecycle::call(&self.s3, call).await?;
            }
            _ => return Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
        Ok(())
    }
}

/// The image's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum State {
    #[serde(rename_all = "PascalCase")]
    Versioning {
        /// `Enabled` or `Suspended`. A bucket that never kept versions counts as suspended: S3 knows no way back further.
        status: String,
    },
    #[serde(rename_all = "PascalCase")]
    Notifications {
        /// Topics, queues and functions, sorted.
        destinations: Vec<Destination>,
        event_bridge: bool,
    },
    Logging {
        #[serde(rename = "LoggingEnabled")]
        enabled: Option<LogTarget>,
    },
    Lifecycle(Lifecycle),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LogTarget {
    target_bucket: String,
    target_prefix: String,
}

/// Where events go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destination {
    id: String,
    arn: String,
    events: Vec<String>,
    /// `prefix=a`, `suffix=b`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    filter: Vec<String>,
}

impl Destination {
    fn of(
        id: Option<&str>,
        arn: &str,
        events: &[types::Event],
        filter: Option<&types::NotificationConfigurationFilter>,
    ) -> Self {
        let rules = filter.and_then(|filter| filter.key()).map(types::S3KeyFilter::filter_rules).unwrap_or_default();
        let rule = |rule: &types::FilterRule| {
            let name = rule.name().map(types::FilterRuleName::as_str).unwrap_or_default();
            format!("{name}={}", rule.value().unwrap_or_default())
        };
        let mut events: Vec<String> = events.iter().map(|event| event.as_str().to_owned()).collect();
        events.sort();
        Self {
            id: id.unwrap_or_default().to_owned(),
            arn: arn.to_owned(),
            events,
            filter: rules.iter().map(rule).collect(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{FakeAws, job};

    fn native(bucket: &str, parameters: Value) -> BucketSettings {
        let request = RemediateRequest {
            job: job(&format!("arn:aws:s3:::{bucket}")),
            native: DECLARED.name.to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            parameters: serde_json::from_value(parameters).unwrap(),
            copy: None,
        };
        BucketSettings::new(&Clients::new(&FakeAws::default().config()), &request).unwrap()
    }

    fn image(state: Value) -> Image {
        Image { present: true, state }
    }

    fn operations(change: &Change) -> Vec<&str> {
        change.0.iter().map(|call| call.operation.as_str()).collect()
    }

    #[test]
    fn the_log_bucket_is_made_once_and_never_logs_into_itself() {
        let logging = native("photos", json!({ "Setting": "Logging" }));
        let off = image(json!({ "LoggingEnabled": null }));
        let change = logging.plan(&off).unwrap();
        assert_eq!(operations(&change), ["CreateBucket", "PutBucketPolicy", "PutBucketLogging"]);
        assert_eq!(change.0[0].parameters["CreateBucketConfiguration"]["LocationConstraint"], "eu-central-1");
        let policy = change.0[1].parameters["Policy"].as_str().unwrap().to_owned();
        logging.found(Found { exists: true, policy: Some(policy) });
        assert_eq!(operations(&logging.plan(&off).unwrap()), ["PutBucketLogging"]);
        // It was made for the logs of load balancers.
        logging.found(Found { exists: true, policy: None });
        assert_eq!(operations(&logging.plan(&off).unwrap()), ["PutBucketPolicy", "PutBucketLogging"]);

        let itself = native("redress-access-logs-111122223333-eu-central-1", json!({ "Setting": "Logging" }));
        assert!(matches!(itself.plan(&off), Err(NativeError::Refused(_))));
        let elsewhere = json!({ "LoggingEnabled": { "TargetBucket": "theirs", "TargetPrefix": "" } });
        assert!(logging.compliant(&image(elsewhere.clone())));
        let undo = logging.plan_restore(&image(elsewhere), &off).unwrap();
        assert_eq!(undo.0[0].parameters["BucketLoggingStatus"], json!({}));
    }

    #[test]
    fn a_topic_is_added_only_where_nobody_is_told_and_the_event_bus_stays() {
        let events = json!({ "Setting": "Notifications", "Events": ["s3:ObjectRemoved:*"] });
        let native = native("photos", events);
        let bus_only = image(json!({ "Destinations": [], "EventBridge": true }));
        let change = native.plan(&bus_only).unwrap();
        assert_eq!(operations(&change), ["CreateTopic", "PutBucketNotificationConfiguration"]);
        assert_eq!(change.0[1].parameters["NotificationConfiguration"]["EventBridgeConfiguration"], json!({}));
        let told =
            json!({ "Id": "x", "Arn": "arn:aws:sqs:eu-central-1:111122223333:q", "Events": ["s3:ObjectCreated:*"] });
        let told = image(json!({ "Destinations": [told], "EventBridge": false }));
        assert!(native.compliant(&told));
        let undo = native.plan_restore(&told, &bus_only).unwrap();
        assert_eq!(undo.0[0].parameters["NotificationConfiguration"], json!({ "EventBridgeConfiguration": {} }));
    }

    #[test]
    fn a_state_is_read_back_as_what_it_was() {
        for state in [
            json!({ "Status": "Suspended" }),
            json!({ "LoggingEnabled": null }),
            json!({ "LoggingEnabled": { "TargetBucket": "b", "TargetPrefix": "p" } }),
            json!({ "Destinations": [], "EventBridge": false }),
            json!({ "Rules": [], "TransitionDefaultMinimumObjectSize": null }),
            json!({ "Rules": [{ "ID": "a", "Status": "Disabled", "Filter": { "Prefix": "" }, "Expiration": { "Days": 3 } }],
                "TransitionDefaultMinimumObjectSize": "varies_by_storage_class" }),
        ] {
            let typed: State = serde_json::from_value(state.clone()).unwrap();
            assert_eq!(serde_json::to_value(&typed).unwrap(), state);
        }
    }

    #[tokio::test]
    async fn a_bucket_that_never_kept_versions_counts_as_suspended() {
        let aws = FakeAws::default();
        aws.answer("GET", 200, "<VersioningConfiguration/>");
        let mut native = native("photos", json!({ "Setting": "Versioning" }));
        native.s3 = Clients::new(&aws.config()).s3;
        let image = native.inspect().await.unwrap().unwrap();
        assert_eq!(image.state, json!({ "Status": "Suspended" }));
        assert_eq!(operations(&native.plan(&image).unwrap()), ["PutBucketVersioning"]);
    }
}
