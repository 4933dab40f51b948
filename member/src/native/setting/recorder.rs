//! AWS Config in one Region: its recorder, and where it delivers.

use serde_json::{Value, json};

use super::super::log_bucket::LogBucket;
use super::super::{NativeError, boolean};
use super::{Ask, BESIDE, Planned, Setting, Subject, at, sdk};
use crate::wire::{Operation, Protocol, Service};

static CONFIG: Service = Service::of("config", Protocol::Json { target: "StarlingDoveService", version: "1.1" });
static RECORDERS: Operation = CONFIG.operation("DescribeConfigurationRecorders");
static STATUS: Operation = CONFIG.operation("DescribeConfigurationRecorderStatus");
static CHANNELS: Operation = CONFIG.operation("DescribeDeliveryChannels");
static PUT_RECORDER: Operation =
    Operation { awaits: &["InvalidRoleException"], ..CONFIG.operation("PutConfigurationRecorder") };
static PUT_CHANNEL: Operation =
    Operation { awaits: &["InsufficientDeliveryPolicyException"], ..CONFIG.operation("PutDeliveryChannel") };
static START: Operation = CONFIG.operation("StartConfigurationRecorder");
static STOP: Operation = CONFIG.operation("StopConfigurationRecorder");
static DELETE_CHANNEL: Operation = CONFIG.operation("DeleteDeliveryChannel");
static DELETE_RECORDER: Operation = CONFIG.operation("DeleteConfigurationRecorder");

/// What Config itself calls a recorder and a channel that nobody named.
const NAME: &str = "default";
const ROLE: &str = "AWSServiceRoleForConfig";

/// Everything is recorded, with Config's own role. Only what is missing is made; a recorder or a channel that is there is
/// never replaced.
pub(super) static CONFIG_RECORDER: Setting = Setting {
    name: "config_recorder",
    missing: &[],
    changes: &[
        &sdk::CREATE_BUCKET,
        &sdk::CREATE_SERVICE_LINKED_ROLE,
        &sdk::PUT_BUCKET_POLICY,
        &PUT_RECORDER,
        &PUT_CHANNEL,
        &START,
        &STOP,
        &DELETE_CHANNEL,
        &DELETE_RECORDER,
    ],
    next: |subject, answers| match answers {
        [] => Some(Ask::of(&RECORDERS, json!({}))),
        [_] => Some(Ask::of(&STATUS, json!({}))),
        [_, _] => Some(Ask::of(&CHANNELS, json!({}))),
        [recorders, _, channels] => {
            let lacks = recorder(recorders).is_null() || channel(channels).is_null();
            lacks.then(|| sdk::ask_for(&bucket(subject), &subject.account()))
        }
        [_, _, _, _] => {
            let input = json!({ "RoleName": ROLE });
            Some(Ask { operation: &sdk::GET_ROLE, input, none: Some(("NoSuchEntity", "")) })
        }
        _ => None,
    },
    state: |_, answers| {
        let [recorders, status, channels, beside @ ..] = answers else { return None };
        let recorder = recorder(recorders);
        let statuses = at(status, "/ConfigurationRecordersStatus").as_array().into_iter().flatten();
        let recording = statuses.filter(|one| one["name"] == recorder["name"]).any(|one| one["recording"] == true);
        Some(json!({
            "Recorder": recorder,
            "Recording": recording,
            "Channel": channel(channels),
            BESIDE: { "Bucket": beside.first(), "Role": beside.get(1).is_some_and(|role| !role.is_null()) },
        }))
    },
    fix: config_recorder,
    undo: |_, now, before| {
        let mut left = now.clone();
        let mut calls = Vec::new();
        let name = &now["Recorder"]["name"];
        if now["Recording"] == true && before["Recording"] == false {
            calls.push((&STOP, json!({ "ConfigurationRecorderName": name })));
            left["Recording"] = json!(false);
        }
        if !now["Channel"].is_null() && before["Channel"].is_null() {
            calls.push((&DELETE_CHANNEL, json!({ "DeliveryChannelName": now["Channel"]["name"] })));
            left["Channel"] = Value::Null;
        }
        if !now["Recorder"].is_null() && before["Recorder"].is_null() {
            calls.push((&DELETE_RECORDER, json!({ "ConfigurationRecorderName": name })));
            left["Recorder"] = Value::Null;
        }
        let same = ["Recorder", "Recording", "Channel"].iter().all(|part| left[*part] == before[*part]);
        if same { Ok(calls) } else { Err(CHANGED) }
    },
};

const CHANGED: NativeError = NativeError::Refused(
    "the recorder or its delivery channel is not what Redress made; nothing was changed. Compare both with the pre-image, \
     and take away by hand what should go",
);

/// The account's own recorder: services may have theirs beside it.
fn recorder(answer: &Value) -> &Value {
    let mut all = at(answer, "/ConfigurationRecorders").as_array().into_iter().flatten();
    all.find(|one| one["servicePrincipal"].is_null()).unwrap_or(&Value::Null)
}

fn channel(answer: &Value) -> &Value {
    at(answer, "/DeliveryChannels/0")
}

fn bucket(subject: &Subject) -> LogBucket {
    let partition = subject.arn.partition().to_string();
    LogBucket::config(&subject.account(), subject.region.as_str(), &partition)
}

fn role_arn(subject: &Subject) -> String {
    let (partition, account) = (subject.arn.partition(), subject.account());
    format!("arn:{partition}:iam::{account}:role/aws-service-role/config.amazonaws.com/{ROLE}")
}

fn config_recorder(subject: &Subject, now: &Value) -> Planned {
    let (recorder, channel) = (&now["Recorder"], &now["Channel"]);
    if !recorder.is_null() {
        if recorder["roleARN"] != json!(role_arn(subject)) {
            return Err(NativeError::NotNow(format!(
                "recorder `{}` uses another role than `{ROLE}`, and is not replaced. 1. Find out whether that role is used \
                 on purpose; then set the parameter includeConfigServiceLinkedRoleCheck of the control to false. 2. \
                 Otherwise choose the service-linked role in the settings of AWS Config",
                text(&recorder["name"])
            )));
        }
        if at(recorder, "/recordingGroup/allSupported") != &json!(true) {
            return Err(NativeError::NotNow(format!(
                "recorder `{}` records some types of resources only, and is not replaced. 1. Look for the types that are \
                 missing in the finding's status reasons. 2. Add them in the settings of AWS Config, or record all",
                text(&recorder["name"])
            )));
        }
    }
    let mut calls = Vec::new();
    let mut name = json!(NAME);
    if recorder.is_null() {
        if at(now, "/Beside/Role") != &json!(true) {
            calls.push((&sdk::CREATE_SERVICE_LINKED_ROLE, json!({ "AWSServiceName": "config.amazonaws.com" })));
        }
        let asked = subject.parameters.get("IncludeGlobalResourceTypes").and_then(boolean);
        let global = asked.ok_or_else(|| NativeError::Parameter {
            name: "IncludeGlobalResourceTypes".to_owned(),
            expected: "true or false",
        })?;
        let group = json!({ "allSupported": true, "includeGlobalResourceTypes": global });
        let own = json!({ "name": NAME, "roleARN": role_arn(subject), "recordingGroup": group });
        calls.push((&PUT_RECORDER, json!({ "ConfigurationRecorder": own })));
    } else {
        name = recorder["name"].clone();
    }
    if channel.is_null() {
        let bucket = bucket(subject);
        calls.extend(sdk::ready(&bucket, at(now, "/Beside/Bucket"), &bucket.for_config())?);
        let own = json!({ "name": NAME, "s3BucketName": bucket.name });
        calls.push((&PUT_CHANNEL, json!({ "DeliveryChannel": own })));
    }
    if now["Recording"] != true {
        calls.push((&START, json!({ "ConfigurationRecorderName": name })));
    }
    Ok(calls)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
