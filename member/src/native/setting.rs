//! The settings: controls that read a field which AWS may leave out, or that must keep what lies beside the field.
//!
//! A setting is data and pure functions over AWS's own JSON: which reading call comes next, what of the answers is the
//! state, which calls change it, which put it back. What sends them is [`crate::wire`]; the sequence is
//! [`crate::remediate`]'s. A new setting is a `static` in one of the files below and a line in [`SETTINGS`].

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use redress_common::ids::Region;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Native, NativeError, number};
use crate::wire::{Operation, Wire};

mod account;
mod api_stage;
mod builds;
mod certificates;
mod containers;
mod documents;
mod ec2;
mod instances;
mod logging;
mod network;
mod scaling;
mod secrets;
mod stacks;
mod tags;
mod trail;

/// Every setting.
pub static SETTINGS: [&Setting; 28] = [
    &account::GUARDDUTY_DETECTOR,
    &account::MACIE_SESSION,
    &api_stage::CACHE_ENCRYPTION,
    &api_stage::EXECUTION_LOGGING,
    &api_stage::TRACING,
    &builds::BUILD_CREDENTIALS,
    &certificates::CERTIFICATE_RENEWAL,
    &containers::BUILD_PRIVILEGED_MODE,
    &containers::CLUSTER_INSIGHTS,
    &containers::REPOSITORY_IMMUTABILITY,
    &documents::DOCUMENT_SHARING,
    &ec2::PUBLIC_SNAPSHOTS,
    &ec2::SNAPSHOT_SHARING,
    &ec2::TEMPLATE_PUBLIC_ADDRESS,
    &ec2::TEMPLATE_TOKENS,
    &instances::INSTANCE_MANAGEMENT,
    &logging::LOG_GROUP_RETENTION,
    &logging::STATE_MACHINE_LOGGING,
    &network::EC2_ENDPOINT,
    &network::VPC_FLOW_LOGS,
    &scaling::GROUP_HEALTH_CHECK,
    &scaling::LAUNCH_PUBLIC_ADDRESS,
    &scaling::LAUNCH_TOKENS,
    &secrets::SECRET_ROTATION,
    &stacks::STACK_NOTIFICATIONS,
    &tags::DETECTOR_TAGS,
    &tags::TABLE_TAGS,
    &trail::TRAIL_ENCRYPTION,
];

/// One setting: how it is read, fixed and put back.
#[derive(Debug)]
pub struct Setting {
    /// Its name, as control files write it.
    pub name: &'static str,
    /// The error codes of a resource that is not there.
    missing: &'static [&'static str],
    /// The operations that change it.
    changes: &'static [&'static Operation],
    /// The reading call after those that were answered so far.
    next: fn(&Subject, &[Value]) -> Option<Ask>,
    /// What of the answers is the state; `None` when there is no such resource.
    state: fn(&Subject, &[Value]) -> Option<Value>,
    /// The calls that make it comply; none when it does.
    fix: fn(&Subject, &Value) -> Planned,
    /// The calls that turn the first state into the second.
    undo: fn(&Subject, &Value, &Value) -> Planned,
}

type Planned = Result<Vec<(&'static Operation, Value)>, NativeError>;

/// A reading call.
#[derive(Debug)]
struct Ask {
    operation: &'static Operation,
    input: Value,
    /// The error code, and what its message contains, with which AWS says that there is nothing: answered as `null`.
    none: Option<(&'static str, &'static str)>,
}

impl Ask {
    const fn of(operation: &'static Operation, input: Value) -> Self {
        Self { operation, input, none: None }
    }

    /// The first and only call of a setting.
    fn once(answers: &[Value], operation: &'static Operation, input: Value) -> Option<Self> {
        answers.is_empty().then(|| Self::of(operation, input))
    }

    fn says_none(&self, failure: &AwsFailure) -> bool {
        self.none.is_some_and(|(code, message)| failure.code() == Some(code) && failure.to_string().contains(message))
    }
}

/// The resource that a setting is of, and what the control file says.
#[derive(Debug)]
struct Subject {
    name: String,
    arn: Arn,
    region: Region,
    parameters: BTreeMap<String, Value>,
}

impl Subject {
    fn text(&self, name: &str) -> Result<&str, NativeError> {
        let found = self.parameters.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected: "a text that is not empty" })
    }

    fn number(&self, name: &str) -> Result<i64, NativeError> {
        let found = self.parameters.get(name).and_then(number);
        found.ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected: "a whole number" })
    }
}

/// A setting by its name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.into_iter().find(|setting| setting.name == name)
}

/// A setting of one resource.
#[derive(Debug)]
pub struct OnResource {
    setting: &'static Setting,
    subject: Subject,
    wire: Wire,
    /// What AWS answered to the call before: a later one may need what was made by it.
    answered: Mutex<Value>,
    /// What AWS answered when the resource was read last.
    seen: Mutex<Value>,
    /// The remediation: a call that is made twice counts once.
    token: String,
}

impl OnResource {
    /// Of the resource that a request names.
    #[must_use]
    pub fn new(setting: &'static Setting, wire: Wire, request: &RemediateRequest) -> Self {
        let subject = Subject {
            name: request.job.resource_name.clone(),
            arn: request.job.resource_arn.clone(),
            region: request.region.clone(),
            parameters: request.parameters.clone(),
        };
        let token = request.job.remediation_id.to_string();
        Self { setting, subject, wire, answered: Mutex::default(), seen: Mutex::default(), token }
    }
}

#[async_trait]
impl Native for OnResource {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let mut answers = Vec::new();
        while let Some(ask) = (self.setting.next)(&self.subject, &answers) {
            match self.wire.call(ask.operation, &ask.input).await {
                Ok(answer) => answers.push(answer),
                Err(failure) if ask.says_none(&failure) => answers.push(Value::Null),
                Err(failure) if failure.code().is_some_and(|code| self.setting.missing.contains(&code)) => {
                    return Ok(None);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let state = (self.setting.state)(&self.subject, &answers);
        *self.seen.lock().await = answers.into();
        Ok(state.map(|state| Image { present: true, state }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        (self.setting.fix)(&self.subject, &now.state).map(change)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        (self.setting.undo)(&self.subject, &now.state, &before.state).map(change)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let known = |operation: &&&'static Operation| {
            operation.name == call.operation && operation.service.name == call.service
        };
        let Some(operation) = self.setting.changes.iter().find(known) else {
            return Err(NativeError::Form { what: "a call", native: self.setting.name });
        };
        let mut answered = self.answered.lock().await;
        let mut input = with_answers(&call.parameters, &answered, &*self.seen.lock().await);
        if let Some(token) = operation.token {
            input[token] = json!(self.token);
        }
        *answered = self.patiently(operation, &input).await?;
        // EC2 answers with success where it did nothing, or only a part.
        if let Some(undone) = answered.pointer("/unsuccessful/0") {
            let said = |field: &str| at(undone, field).as_str().unwrap_or("no reason").to_owned();
            let (code, message) = (said("/error/code"), said("/error/message"));
            return Err(NativeError::NotNow(format!("`{}` did not do it: {code}: {message}", operation.name)));
        }
        drop(answered);
        if TAKES_LONG.contains(&operation.name) {
            self.settled().await?;
        }
        Ok(())
    }
}

impl OnResource {
    /// Calls, and waits for what must be gone first.
    async fn patiently(&self, operation: &'static Operation, input: &Value) -> Result<Value, AwsFailure> {
        let waits = STILL_USED.iter().find(|(name, _)| *name == operation.name).map(|(_, code)| *code);
        for _ in 0..TRIES {
            match self.wire.call(operation, input).await {
                Err(failure) if waits.is_some() && failure.code() == waits => tokio::time::sleep(PAUSE).await,
                answer => return answer,
            }
        }
        self.wire.call(operation, input).await
    }

    /// Waits until the resource is no longer busy; when it stays so, whoever verifies the change will say it.
    async fn settled(&self) -> Result<(), NativeError> {
        for tries in 0..TRIES {
            if !matches!(self.inspect().await?, Some(image) if image.state["IsBusy"] == true) {
                break;
            }
            tokio::time::sleep(PAUSE.min(Duration::from_secs(1 << tries.min(4)))).await;
        }
        Ok(())
    }
}

/// Operations after which a resource says `IsBusy` for a while.
const TAKES_LONG: [&str; 1] = ["UpdateStack"];

/// Operations that are refused until AWS has removed what was deleted before, and the error code of that.
const STILL_USED: [(&str, &str); 1] = [("DeleteSecurityGroup", "DependencyViolation")];
/// How often, and after how long, such a call is made again: for less time than the function has.
const TRIES: u32 = 18;
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(10) };

/// A value that the answer to the call before holds: the pointer to it, after this.
const OF_ANSWER: &str = "answer:";

/// A value that was read and is not to be written down, for it may be secret: the pointer to it in the list of answers.
const OF_SEEN: &str = "seen:";

/// The parameters with what the call before made, and with what was read.
fn with_answers(value: &Value, answered: &Value, seen: &Value) -> Value {
    match value {
        Value::String(text) => match (text.strip_prefix(OF_ANSWER), text.strip_prefix(OF_SEEN)) {
            (Some(pointer), _) => at(answered, pointer).clone(),
            (_, Some(pointer)) => at(seen, pointer).clone(),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| with_answers(item, answered, seen)).collect(),
        Value::Object(map) => {
            map.iter().map(|(name, item)| (name.clone(), with_answers(item, answered, seen))).collect()
        }
        other => other.clone(),
    }
}

fn change(calls: Vec<(&'static Operation, Value)>) -> Change {
    let call = |(operation, parameters): (&'static Operation, Value)| Call {
        service: operation.service.name.to_owned(),
        operation: operation.name.to_owned(),
        parameters,
    };
    Change(calls.into_iter().map(call).collect())
}

/// What is at a JSON pointer; `null` when there is nothing.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

#[cfg(test)]
#[path = "setting_tests.rs"]
mod tests;
