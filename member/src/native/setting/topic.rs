//! Topics of SNS: whether what became of messages is logged.

use serde_json::{Map, Value, json};

use super::{Ask, Planned, Setting, Subject, at, sdk};
use crate::wire::Operation;

/// The kinds of endpoints that SNS logs deliveries to.
const PROTOCOLS: [&str; 5] = ["Application", "Firehose", "HTTP", "Lambda", "SQS"];
const SUCCESS: &str = "SuccessFeedbackRoleArn";
const RATE: &str = "SuccessFeedbackSampleRate";
const FAILURE: &str = "FailureFeedbackRoleArn";

/// What became of messages is logged, for every kind of endpoint. What is set of it stays.
pub(super) static DELIVERY_STATUS: Setting = Setting {
    name: "topic_delivery_status",
    missing: &["NotFound", "NotFoundException"],
    changes: &[&sdk::SET_TOPIC_ATTRIBUTES],
    next: |subject, answers| {
        Ask::once(answers, &sdk::GET_TOPIC_ATTRIBUTES, json!({ "TopicArn": subject.arn.to_string() }))
    },
    state: |_, answers| Some(json!({ "Logging": logging(answers.first()?) })),
    fix: delivery_status,
    undo: |subject, now, before| {
        let (now, before) = (&now["Logging"], &before["Logging"]);
        let changed = attributes().filter(|name| now[name] != before[name]);
        // A role is taken away by an empty one; without a role no rate means anything.
        let nothing = |name: &str| json!(if name.ends_with(RATE) { "0" } else { "" });
        Ok(changed
            .map(|name| {
                let value = if before[&name].is_null() { nothing(&name) } else { before[&name].clone() };
                set(subject, &name, &value)
            })
            .collect())
    },
};

fn attributes() -> impl Iterator<Item = String> {
    PROTOCOLS.iter().flat_map(|protocol| [SUCCESS, RATE, FAILURE].map(|what| format!("{protocol}{what}")))
}

/// What is set of the attributes. A rate of 0 is that of a topic without one.
fn logging(topic: &Value) -> Value {
    let all = at(topic, "/Attributes");
    let is_set = |name: &String| {
        all[name].as_str().is_some_and(|value| !(value.is_empty() || name.ends_with(RATE) && value == "0"))
    };
    let found: Map<String, Value> =
        attributes().filter(is_set).map(|name| (name.clone(), all[&name].clone())).collect();
    Value::Object(found)
}

/// The attributes that must be set. Who logs successes has chosen how many.
fn lacking(logging: &Value) -> Vec<String> {
    PROTOCOLS
        .iter()
        .flat_map(|protocol| {
            let [success, rate, failure] = [SUCCESS, RATE, FAILURE].map(|what| format!("{protocol}{what}"));
            let lacks = |name: &String| logging[name].is_null();
            let mut names = Vec::new();
            if lacks(&success) {
                names.push(success);
                names.extend(Some(rate).filter(lacks));
            }
            names.extend(Some(failure).filter(lacks));
            names
        })
        .collect()
}

fn set(subject: &Subject, name: &str, value: &Value) -> (&'static Operation, Value) {
    let input = json!({ "TopicArn": subject.arn.to_string(), "AttributeName": name, "AttributeValue": value });
    (&sdk::SET_TOPIC_ATTRIBUTES, input)
}

fn delivery_status(subject: &Subject, now: &Value) -> Planned {
    let names = lacking(&now["Logging"]);
    // A share of nothing is no log, but what failed is logged all the same.
    let rate = subject.number("SuccessSampleRate")?;
    let names: Vec<String> = names.into_iter().filter(|name| rate > 0 || !name.ends_with(RATE)).collect();
    if names.is_empty() {
        return Ok(vec![]);
    }
    let role = subject.role()?;
    let value = |name: &str| if name.ends_with(RATE) { json!(rate.to_string()) } else { json!(role) };
    Ok(names.iter().map(|name| set(subject, name, &value(name))).collect())
}
