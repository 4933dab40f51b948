//! EventBridge: buses, rules and targets as deployed; hops between accounts, retries, dead-letter queues.
//!
//! Rules live in the base emulator; matching and delivery happen here. A target is reached only if its own
//! policy lets `events.amazonaws.com` in, or the rule's role may do it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::authority::PolicyQuestion;
use crate::lambda::{Functions, InvocationType};
use crate::record::Delivery;
use crate::service::{AwsError, Caller};
use crate::shared::{Arn, Shared};

pub mod pattern;
mod schedule;

const PRINCIPAL: &str = "events.amazonaws.com";
/// AWS retries for a day; the lab three times.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];
/// An event that came from another bus may go to one more, not further.
const MOST_HOPS: u8 = 2;
const LARGEST_ENTRIES: usize = 10;
const STALE: Duration = Duration::from_secs(2);

/// Errors that another attempt would not mend.
const FINAL: [&str; 10] = [
    "AccessDenied",
    "AccessDeniedException",
    "AWS.SimpleQueueService.NonExistentQueue",
    "InvalidParameterValueException",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
    "TooManyHops",
    "UnsupportedTarget",
];

/// The event buses of every account.
pub(crate) struct Events {
    shared: Arc<Shared>,
    functions: Arc<Functions>,
    rules: Mutex<HashMap<Bus, Known>>,
}

/// One bus of one account and Region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bus {
    account: String,
    region: String,
    name: String,
}

/// A bus's rules as of a generation.
struct Known {
    read: Instant,
    generation: u64,
    rules: Arc<Vec<Rule>>,
}

struct Rule {
    arn: String,
    pattern: Value,
    targets: Vec<Value>,
}

impl Events {
    pub(crate) fn new(shared: Arc<Shared>, functions: Arc<Functions>) -> Self {
        Self { shared, functions, rules: Mutex::default() }
    }

    /// `PutEvents`; the caller has been authorised for every bus it names.
    pub(crate) async fn put(self: &Arc<Self>, caller: &Caller, region: &str, body: &Value) -> Result<Value, AwsError> {
        let entries = body["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        if entries.is_empty() || entries.len() > LARGEST_ENTRIES {
            let message = format!(
                "1 validation error detected: Value at 'entries' failed to satisfy constraint: 1 to {LARGEST_ENTRIES} entries"
            );
            return Err(AwsError::new("ValidationException", message));
        }
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            results.push(match self.accept(caller, region, entry).await {
                Ok(id) => json!({ "EventId": id }),
                Err(error) => json!({ "ErrorCode": error.code, "ErrorMessage": error.message }),
            });
        }
        let failed = results.iter().filter(|result| result.get("ErrorCode").is_some()).count();
        Ok(json!({ "FailedEntryCount": failed, "Entries": results }))
    }

    /// An event of AWS's own, on the default bus.
    pub(crate) fn emit(
        self: &Arc<Self>,
        account: &str,
        region: &str,
        source: &str,
        detail_type: &str,
        resources: Vec<String>,
        detail: Value,
    ) {
        let id = uuid::Uuid::new_v4().to_string();
        let event = event(&id, account, region, source, detail_type, &json!(resources), detail);
        self.arrive(
            Bus { account: account.to_owned(), region: region.to_owned(), name: "default".to_owned() },
            event,
            0,
        );
    }

    async fn accept(self: &Arc<Self>, caller: &Caller, region: &str, entry: &Value) -> Result<String, AwsError> {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let (source, detail_type) = (text("Source"), text("DetailType"));
        if source.is_empty() || detail_type.is_empty() {
            return Err(AwsError::new(
                "InvalidArgument",
                "Parameter Source or DetailType is not valid. Reason: it is a required argument.",
            ));
        }
        if source.starts_with("aws.") {
            return Err(AwsError::new("NotAuthorizedForSourceException", "Not authorized for the source."));
        }
        let detail: Value = serde_json::from_str(text("Detail"))
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| AwsError::new("MalformedDetail", "Detail is malformed."))?;
        let bus = Bus::named(text("EventBusName"), &caller.account, region)?;
        if bus.account != caller.account {
            self.check_bus_policy(&bus, &caller.arn, json!({ "events:eventBusInvocation": "false" })).await?;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let event = event(&id, &caller.account, region, source, detail_type, &entry["Resources"], detail);
        self.arrive(bus, event, 0);
        Ok(id)
    }

    /// An event is on a bus: match and deliver, without making its sender wait.
    fn arrive(self: &Arc<Self>, bus: Bus, event: Value, hops: u8) {
        let events = self.clone();
        tokio::spawn(async move {
            let rules = match events.rules(&bus).await {
                Ok(rules) => rules,
                Err(error) => {
                    tracing::warn!(?bus, %error, "the rules of a bus cannot be read; its event is lost");
                    return;
                }
            };
            for rule in rules.iter().filter(|rule| pattern::matches(&rule.pattern, &event)) {
                for target in &rule.targets {
                    let (events, rule_arn, target, event) =
                        (events.clone(), rule.arn.clone(), target.clone(), event.clone());
                    tokio::spawn(async move { events.deliver(&rule_arn, &target, &event, hops).await });
                }
            }
        });
    }

    async fn deliver(self: Arc<Self>, rule_arn: &str, target: &Value, event: &Value, hops: u8) {
        let allowed = target["RetryPolicy"]["MaximumRetryAttempts"].as_u64().unwrap_or(u64::MAX);
        let mut pauses = PAUSES.into_iter().take(usize::try_from(allowed).unwrap_or(usize::MAX));
        let mut attempts = 0;
        let failure = loop {
            attempts += 1;
            match self.send(rule_arn, target, event, hops).await {
                Ok(()) => break None,
                Err(error) if FINAL.contains(&error.code.as_str()) => break Some((error, None)),
                Err(error) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => break Some((error, Some("MaximumRetryAttempts"))),
                },
            }
        };
        let copies = self.shared.deliveries.copies(target["Arn"].as_str().unwrap_or_default());
        for _ in 0..if failure.is_none() { copies } else { 0 } {
            if let Err(error) = self.send(rule_arn, target, event, hops).await {
                tracing::warn!(rule_arn, %error, "a copy of an event was not delivered");
            }
        }
        let mut dead_lettered = false;
        if let Some((error, exhausted)) = &failure {
            tracing::warn!(rule_arn, target = target["Arn"].as_str(), %error, "an event was not delivered");
            if let Some(queue) = target["DeadLetterConfig"]["Arn"].as_str() {
                let letter = DeadLetter { rule_arn, target, error, exhausted: *exhausted, attempts };
                match self.bury(queue, &letter, event).await {
                    Ok(()) => dead_lettered = true,
                    Err(error) => tracing::warn!(queue, %error, "a dead letter is lost"),
                }
            }
        }
        self.shared.record.add_delivery(Delivery {
            at: Timestamp::now(),
            event_id: event["id"].as_str().unwrap_or_default().to_owned(),
            detail_type: event["detail-type"].as_str().unwrap_or_default().to_owned(),
            rule_arn: rule_arn.to_owned(),
            target_arn: target["Arn"].as_str().unwrap_or_default().to_owned(),
            attempts,
            error: failure.map(|(error, _)| error.to_string()),
            dead_lettered,
        });
    }

    async fn send(self: &Arc<Self>, rule_arn: &str, target: &Value, event: &Value, hops: u8) -> Result<(), AwsError> {
        let arn_text = target["Arn"].as_str().unwrap_or_default();
        let arn = Arn::parse(arn_text)
            .ok_or_else(|| AwsError::new("UnsupportedTarget", format!("not an ARN: {arn_text}")))?;
        match arn.service {
            "events" => self.hop(rule_arn, target, arn_text, &arn, event, hops).await,
            "sqs" => {
                let queue_url = self.queue_url(&arn).await?;
                self.check_queue_policy(rule_arn, arn_text, &arn, &queue_url).await?;
                let mut parameters = json!({ "QueueUrl": queue_url, "MessageBody": input(target, event) });
                if let Some(group) = target["SqsParameters"]["MessageGroupId"].as_str() {
                    parameters["MessageGroupId"] = json!(group);
                    parameters["MessageDeduplicationId"] = event["id"].clone();
                }
                self.look(&arn, "sqs", "SendMessage", parameters).await
            }
            "sns" => {
                let attributes = self.ask(&arn, "sns", "GetTopicAttributes", json!({ "TopicArn": arn_text })).await?;
                self.check_target_policy(
                    rule_arn,
                    attributes["Attributes"]["Policy"].as_str(),
                    "sns:Publish",
                    arn_text,
                )
                .await?;
                self.look(&arn, "sns", "Publish", json!({ "TopicArn": arn_text, "Message": input(target, event) }))
                    .await
            }
            "lambda" => {
                let policy = self.ask(&arn, "lambda", "GetPolicy", json!({ "FunctionName": arn_text })).await.ok();
                let policy = policy.as_ref().and_then(|answer| answer["Policy"].as_str());
                self.check_target_policy(rule_arn, policy, "lambda:InvokeFunction", arn_text).await?;
                self.functions.invoke(arn_text, InvocationType::Event, input(target, event).into()).await.map(|_| ())
            }
            "logs" => self.log(&arn, &input(target, event)).await,
            other => Err(AwsError::new("UnsupportedTarget", format!("the lab does not deliver events to {other}"))),
        }
    }

    /// From bus to bus, also across accounts: the role may put events, and the other bus lets it in.
    async fn hop(
        self: &Arc<Self>,
        rule_arn: &str,
        target: &Value,
        arn_text: &str,
        arn: &Arn<'_>,
        event: &Value,
        hops: u8,
    ) -> Result<(), AwsError> {
        if hops >= MOST_HOPS {
            return Err(AwsError::new("TooManyHops", "an event that came from another bus twice is not sent on"));
        }
        let from = Arn::parse(rule_arn).map_or("", |rule| rule.account);
        let bus = Bus::named(arn_text, arn.account, arn.region)?;
        // What tells a rule from a client's PutEvents, in policies.
        let by_rule =
            json!({ "events:eventBusInvocation": "true", "aws:SourceArn": rule_arn, "aws:SourceAccount": from });
        let caller = match target["RoleArn"].as_str() {
            Some(role_arn) => {
                let session = self.shared.authority.session(role_arn, "events", PRINCIPAL, Some(rule_arn)).await?;
                let caller = self.shared.authority.caller(&session.access_key_id).await?;
                self.shared.authority.check(&caller.arn, "events:PutEvents", arn_text, by_rule.clone()).await?;
                Some(caller)
            }
            None if from == bus.account => None,
            None => {
                return Err(AwsError::new(
                    "AccessDenied",
                    "a rule needs a role to send events to another account's bus",
                ));
            }
        };
        if let Some(caller) = caller.filter(|_| from != bus.account) {
            self.check_bus_policy(&bus, &caller.arn, by_rule).await?;
        }
        self.exists(&bus).await?;
        self.arrive(bus, event.clone(), hops + 1);
        Ok(())
    }

    async fn bury(&self, queue_arn: &str, letter: &DeadLetter<'_>, event: &Value) -> Result<(), AwsError> {
        let arn =
            Arn::parse(queue_arn).ok_or_else(|| AwsError::new("InvalidParameterValueException", "not a queue ARN"))?;
        let queue_url = self.queue_url(&arn).await?;
        self.check_queue_policy(letter.rule_arn, queue_arn, &arn, &queue_url).await?;
        let text =
            |value: &str| json!({ "DataType": "String", "StringValue": if value.is_empty() { "-" } else { value } });
        let mut attributes = json!({
            "RULE_ARN": text(letter.rule_arn),
            "TARGET_ARN": text(letter.target["Arn"].as_str().unwrap_or_default()),
            "ERROR_CODE": text(&letter.error.code),
            "ERROR_MESSAGE": text(&letter.error.message),
            "RETRY_ATTEMPTS": json!({ "DataType": "Number", "StringValue": (letter.attempts - 1).to_string() }),
        });
        if let Some(condition) = letter.exhausted {
            attributes["EXHAUSTED_RETRY_CONDITION"] = text(condition);
        }
        let parameters =
            json!({ "QueueUrl": queue_url, "MessageBody": event.to_string(), "MessageAttributes": attributes });
        self.look(&arn, "sqs", "SendMessage", parameters).await
    }

    async fn log(&self, arn: &Arn<'_>, message: &str) -> Result<(), AwsError> {
        let group = arn.resource.trim_start_matches("log-group:").trim_end_matches(":*");
        let stream = uuid::Uuid::new_v4().to_string();
        self.look(arn, "logs", "CreateLogStream", json!({ "logGroupName": group, "logStreamName": stream })).await?;
        let entry = json!([{ "timestamp": Timestamp::now().as_millisecond(), "message": message }]);
        self.look(
            arn,
            "logs",
            "PutLogEvents",
            json!({ "logGroupName": group, "logStreamName": stream, "logEvents": entry }),
        )
        .await
    }

    async fn queue_url(&self, arn: &Arn<'_>) -> Result<String, AwsError> {
        let asked = json!({ "QueueName": arn.resource, "QueueOwnerAWSAccountId": arn.account });
        let found = self.ask(arn, "sqs", "GetQueueUrl", asked).await?;
        Ok(found["QueueUrl"].as_str().unwrap_or_default().to_owned())
    }

    async fn check_queue_policy(
        &self,
        rule_arn: &str,
        arn_text: &str,
        arn: &Arn<'_>,
        queue_url: &str,
    ) -> Result<(), AwsError> {
        let found = self
            .ask(arn, "sqs", "GetQueueAttributes", json!({ "QueueUrl": queue_url, "AttributeNames": ["Policy"] }))
            .await?;
        self.check_target_policy(rule_arn, found["Attributes"]["Policy"].as_str(), "sqs:SendMessage", arn_text).await
    }

    async fn check_target_policy(
        &self,
        rule_arn: &str,
        policy: Option<&str>,
        action: &str,
        resource: &str,
    ) -> Result<(), AwsError> {
        let account = Arn::parse(rule_arn).map_or("", |rule| rule.account);
        let context = json!({ "aws:SourceArn": rule_arn, "aws:SourceAccount": account });
        let question = PolicyQuestion {
            policy: policy.unwrap_or("{}"),
            caller_arn: "*",
            service_principal: Some(PRINCIPAL),
            action,
            resource,
            context,
        };
        self.shared.authority.check_policy(question).await.map_err(|_| AwsError {
            status: 403,
            code: "AccessDenied".to_owned(),
            message: format!("the policy of {resource} does not let {PRINCIPAL} do {action} for {rule_arn}"),
        })
    }

    async fn check_bus_policy(&self, bus: &Bus, caller_arn: &str, context: Value) -> Result<(), AwsError> {
        let described = self.exists(bus).await?;
        let resource = described["Arn"].as_str().unwrap_or_default();
        let question = PolicyQuestion {
            policy: described["Policy"].as_str().unwrap_or("{}"),
            caller_arn,
            service_principal: None,
            action: "events:PutEvents",
            resource,
            context,
        };
        self.shared.authority.check_policy(question).await
    }

    async fn exists(&self, bus: &Bus) -> Result<Value, AwsError> {
        self.shared
            .authority
            .look(&bus.account, &bus.region, "events", "DescribeEventBus", json!({ "Name": bus.name }))
            .await
    }

    async fn rules(&self, bus: &Bus) -> Result<Arc<Vec<Rule>>, AwsError> {
        let generation = self.shared.generation();
        if let Some(known) = self.rules.lock().unwrap_or_else(PoisonError::into_inner).get(bus)
            && known.generation == generation
            && known.read.elapsed() < STALE
        {
            return Ok(known.rules.clone());
        }
        let authority = &self.shared.authority;
        let look = |operation: &'static str, parameters: Value| {
            authority.look(&bus.account, &bus.region, "events", operation, parameters)
        };
        let listed = look("ListRules", json!({ "EventBusName": bus.name })).await?;
        let mut rules = Vec::new();
        for rule in listed["Rules"].as_array().into_iter().flatten() {
            let Some(text) = rule["EventPattern"].as_str() else { continue };
            let Ok(pattern) = serde_json::from_str(text) else { continue };
            if rule["State"] != "ENABLED" {
                continue;
            }
            let mut targets =
                look("ListTargetsByRule", json!({ "Rule": rule["Name"], "EventBusName": bus.name })).await?;
            let Value::Array(targets) = targets["Targets"].take() else { continue };
            rules.push(Rule { arn: rule["Arn"].as_str().unwrap_or_default().to_owned(), pattern, targets });
        }
        let rules = Arc::new(rules);
        let known = Known { read: Instant::now(), generation, rules: rules.clone() };
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).insert(bus.clone(), known);
        Ok(rules)
    }

    async fn ask(&self, arn: &Arn<'_>, service: &str, operation: &str, parameters: Value) -> Result<Value, AwsError> {
        self.shared.authority.look(arn.account, arn.region, service, operation, parameters).await
    }

    async fn look(&self, arn: &Arn<'_>, service: &str, operation: &str, parameters: Value) -> Result<(), AwsError> {
        self.ask(arn, service, operation, parameters).await.map(|_| ())
    }
}

/// What a dead letter says of its event.
struct DeadLetter<'a> {
    rule_arn: &'a str,
    target: &'a Value,
    error: &'a AwsError,
    exhausted: Option<&'static str>,
    attempts: u32,
}

impl Bus {
    /// A bus by name or ARN; no name is the default bus.
    fn named(reference: &str, account: &str, region: &str) -> Result<Self, AwsError> {
        let bus = |account: &str, region: &str, name: &str| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            name: name.to_owned(),
        };
        match Arn::parse(reference) {
            None if reference.is_empty() => Ok(bus(account, region, "default")),
            None => Ok(bus(account, region, reference)),
            Some(arn) => match arn.resource.strip_prefix("event-bus/") {
                Some(name) => Ok(bus(arn.account, arn.region, name)),
                None => Err(AwsError::new("UnsupportedTarget", format!("not an event bus: {reference}"))),
            },
        }
    }
}

fn event(
    id: &str,
    account: &str,
    region: &str,
    source: &str,
    detail_type: &str,
    resources: &Value,
    detail: Value,
) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "version": "0", "id": id, "detail-type": detail_type, "source": source, "account": account, "time": now,
        "region": region, "resources": if resources.is_array() { resources.clone() } else { json!([]) }, "detail": detail,
    })
}

/// What a target is given: the event, a part of it, or a constant.
fn input(target: &Value, event: &Value) -> String {
    if let Some(constant) = target["Input"].as_str() {
        return constant.to_owned();
    }
    if let Some(path) = target["InputPath"].as_str() {
        return at(event, path).to_string();
    }
    let Some(template) = target["InputTransformer"]["InputTemplate"].as_str() else { return event.to_string() };
    let paths = &target["InputTransformer"]["InputPathsMap"];
    let (mut filled, mut rest, mut quoted) = (String::with_capacity(template.len()), template, false);
    while let Some(character) = rest.chars().next() {
        let hole = rest.strip_prefix('<').and_then(|inside| inside.split_once('>'));
        if let Some((path, after)) = hole.and_then(|(name, after)| Some((paths[name].as_str()?, after))) {
            let value = at(event, path);
            // Between quotes a string goes in as text, elsewhere as a JSON value.
            let json = value.to_string();
            filled.push_str(&match (quoted, value) {
                (false, _) => json,
                (true, Value::String(_)) => json.get(1..json.len() - 1).unwrap_or_default().to_owned(),
                (true, _) => json.replace('"', ""),
            });
            rest = after;
            continue;
        }
        quoted ^= character == '"' && !filled.ends_with('\\');
        filled.push(character);
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
    }
    filled
}

/// `$.detail.findings[0].Id`.
fn at<'a>(event: &'a Value, path: &str) -> &'a Value {
    let steps = path.trim_start_matches('$').split(['.', '[', ']']).filter(|step| !step.is_empty());
    steps.fold(event, |value, step| match step.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[step],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_given_the_event_a_part_or_a_constant() {
        let event = json!({ "detail": { "name": "x\"y", "list": [{ "id": 7 }] } });
        assert_eq!(input(&json!({}), &event), event.to_string());
        assert_eq!(input(&json!({ "Input": "{}" }), &event), "{}");
        assert_eq!(input(&json!({ "InputPath": "$.detail.list[0].id" }), &event), "7");
        let transformer = json!({ "InputTransformer": {
            "InputPathsMap": { "n": "$.detail.name", "i": "$.detail.list[0].id" },
            "InputTemplate": r#"{"name": <n>, "text": "no. <i> of <n>"}"#,
        }});
        assert_eq!(input(&transformer, &event), r#"{"name": "x\"y", "text": "no. 7 of x\"y"}"#);
    }

    #[test]
    fn a_bus_is_named_by_name_by_arn_or_not_at_all() {
        let named = |reference: &str| {
            Bus::named(reference, "1", "r").map(|bus| format!("{}/{}/{}", bus.account, bus.region, bus.name))
        };
        assert_eq!(named("").as_deref(), Ok("1/r/default"));
        assert_eq!(named("redress-hub").as_deref(), Ok("1/r/redress-hub"));
        assert_eq!(named("arn:aws:events:eu-west-1:2:event-bus/redress-hub").as_deref(), Ok("2/eu-west-1/redress-hub"));
        assert!(named("arn:aws:sqs:eu-west-1:2:queue").is_err());
    }
}
