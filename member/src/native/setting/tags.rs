//! Tags, by the API of the service whose resource it is: narrower than the tagging API, which asks both.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static DYNAMODB: Service = Service::of("dynamodb", Protocol::Json { target: "DynamoDB_20120810", version: "1.0" });
static LIST_TABLE: Operation = DYNAMODB.operation("ListTagsOfResource");
static TAG_TABLE: Operation = DYNAMODB.operation("TagResource");
static UNTAG_TABLE: Operation = DYNAMODB.operation("UntagResource");

static GUARDDUTY: Service = Service::of("guardduty", Protocol::Rest);
static LIST_DETECTOR: Operation = GUARDDUTY.at("ListTagsForResource", "GET", "/tags/{ResourceArn}");
static TAG_DETECTOR: Operation = GUARDDUTY.at("TagResource", "POST", "/tags/{ResourceArn}");
static UNTAG_DETECTOR: Operation = GUARDDUTY.at("UntagResource", "DELETE", "/tags/{ResourceArn}?tagKeys={TagKeys}");

type Tags = BTreeMap<String, String>;

/// The keys that must be there, and what a missing one gets.
fn required(subject: &Subject) -> Result<Vec<&str>, NativeError> {
    const KEYS: &str = "a list of 1 to 50 tag keys that do not start with `aws:`";
    let wrong = || NativeError::Parameter { name: "Keys".to_owned(), expected: KEYS };
    let keys = subject.parameters.get("Keys").and_then(Value::as_array).ok_or_else(wrong)?;
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).filter(|key| !key.starts_with("aws:")).collect();
    if keys.is_empty() { Err(wrong()) } else { Ok(keys) }
}

/// Of the tags only those that are required: others are neither stored nor taken for drift.
fn kept(subject: &Subject, tags: impl Iterator<Item = (String, String)>) -> Option<Value> {
    let keys = required(subject).ok()?;
    let tags: Tags = tags.filter(|(key, _)| keys.contains(&key.as_str())).collect();
    Some(json!({ "Tags": tags }))
}

fn of(state: &Value) -> Tags {
    let tags = state["Tags"].as_object().into_iter().flatten();
    tags.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn missing(subject: &Subject, now: &Value) -> Result<Tags, NativeError> {
    let now = of(now);
    let value = subject.text("Value")?;
    let keys = required(subject)?.into_iter().filter(|key| !now.contains_key(*key));
    Ok(keys.map(|key| (key.to_owned(), value.to_owned())).collect())
}

/// What an undo takes away, and what it gives back.
fn back(now: &Value, before: &Value) -> (Vec<String>, Tags) {
    let (now, before) = (of(now), of(before));
    let added = now.keys().filter(|key| !before.contains_key(*key)).cloned().collect();
    (added, before.into_iter().filter(|(key, value)| now.get(key) != Some(value)).collect())
}

fn calls(tag: (&'static Operation, Value), untag: (&'static Operation, Value), adds: bool, takes: bool) -> Planned {
    Ok(takes.then_some(untag).into_iter().chain(adds.then_some(tag)).collect())
}

fn on_table(subject: &Subject, added: &[String], tags: &Tags) -> Planned {
    let arn = subject.arn.to_string();
    let list: Vec<Value> = tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    let tag = (&TAG_TABLE, json!({ "ResourceArn": arn, "Tags": list }));
    let untag = (&UNTAG_TABLE, json!({ "ResourceArn": arn, "TagKeys": added }));
    calls(tag, untag, !tags.is_empty(), !added.is_empty())
}

/// Tables carry the required tags. The value of one that is there is never changed.
pub(super) static TABLE_TAGS: Setting = Setting {
    name: "dynamodb_tags",
    missing: &["ResourceNotFoundException"],
    changes: &[&TAG_TABLE, &UNTAG_TABLE],
    next: |subject, answers| {
        let mut input = json!({ "ResourceArn": subject.arn.to_string() });
        if let Some(last) = answers.last() {
            input["NextToken"] = last["NextToken"].as_str()?.into();
        }
        Some(Ask::of(&LIST_TABLE, input))
    },
    state: |subject, answers| {
        let tags = answers.iter().flat_map(|page| at(page, "/Tags").as_array().into_iter().flatten());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        kept(subject, tags.map(|tag| (text(&tag["Key"]), text(&tag["Value"]))))
    },
    fix: |subject, now| on_table(subject, &[], &missing(subject, now)?),
    undo: |subject, now, before| {
        let (added, lost) = back(now, before);
        on_table(subject, &added, &lost)
    },
};

fn on_detector(subject: &Subject, added: &[String], tags: &Tags) -> Planned {
    let arn = subject.arn.to_string();
    let tag = (&TAG_DETECTOR, json!({ "ResourceArn": arn, "Tags": tags }));
    let untag = (&UNTAG_DETECTOR, json!({ "ResourceArn": arn, "TagKeys": added }));
    calls(tag, untag, !tags.is_empty(), !added.is_empty())
}

/// The same of GuardDuty's detectors and filters.
pub(super) static DETECTOR_TAGS: Setting = Setting {
    name: "guardduty_tags",
    // GuardDuty says so of a detector that is not there.
    missing: &["BadRequestException", "ResourceNotFoundException"],
    changes: &[&TAG_DETECTOR, &UNTAG_DETECTOR],
    next: |subject, answers| Ask::once(answers, &LIST_DETECTOR, json!({ "ResourceArn": subject.arn.to_string() })),
    state: |subject, answers| {
        let tags = answers.first()?["tags"].as_object().into_iter().flatten();
        kept(subject, tags.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())))
    },
    fix: |subject, now| on_detector(subject, &[], &missing(subject, now)?),
    undo: |subject, now, before| {
        let (added, lost) = back(now, before);
        on_detector(subject, &added, &lost)
    },
};
