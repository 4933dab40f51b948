//! The settings: controls that read a field which AWS may leave out, or that must keep what lies beside the field.
//!
//! A setting is data and pure functions over AWS's own JSON: which reading call comes next, what of the answers is the
//! state, which calls change it, which put it back. What sends them is [`crate::wire`], or for S3, IAM and SNS `sdk`; the
//! sequence is [`crate::remediate`]'s. A new setting is a `static` in one of the files below and a line in [`SETTINGS`].

use std::collections::BTreeMap;
use std::sync::Mutex as Shared;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use redress_common::ids::Region;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Native, NativeError, number};
use crate::remediate::PACE;
use crate::wire::{Operation, Protocol, Until, Wire};

mod account;
mod api_stage;
mod balancer;
mod builds;
mod caches;
mod capacity;
mod certificates;
mod contact;
mod containers;
mod documents;
mod ec2;
mod instances;
mod logging;
mod network;
mod parameter_group;
mod rds;
mod recorder;
mod redshift;
mod scaling;
mod sdk;
mod secrets;
mod stacks;
mod tags;
mod topic;
mod trail;
mod unused;

pub(super) use ec2::EC2;
pub(super) use secrets::SECRETS;

/// Every setting.
pub static SETTINGS: [&Setting; 49] = [
    &account::GUARDDUTY_DETECTOR,
    &account::MACIE_SESSION,
    &api_stage::CACHE_ENCRYPTION,
    &api_stage::EXECUTION_LOGGING,
    &api_stage::TRACING,
    &balancer::ACCESS_LOGS,
    &balancer::LISTENER_REDIRECT,
    &builds::BUILD_CREDENTIALS,
    &caches::CACHE_BACKUPS,
    &capacity::TABLE_SCALING,
    &certificates::CERTIFICATE_RENEWAL,
    &contact::SECURITY_CONTACT,
    &containers::BUILD_PRIVILEGED_MODE,
    &containers::CLUSTER_AUDIT_LOG,
    &containers::CLUSTER_INSIGHTS,
    &containers::READONLY_FILESYSTEMS,
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
    &network::SUBNET_ADDRESSES,
    &network::VPC_FLOW_LOGS,
    &parameter_group::POSTGRES_TLS,
    &parameter_group::REDSHIFT_TLS,
    &rds::ENHANCED_MONITORING,
    &rds::LOG_EXPORTS,
    &rds::SNAPSHOT_SHARING,
    &recorder::CONFIG_RECORDER,
    &redshift::AUDIT_LOGGING,
    &scaling::GROUP_HEALTH_CHECK,
    &scaling::LAUNCH_PUBLIC_ADDRESS,
    &scaling::LAUNCH_TOKENS,
    &secrets::SECRET_ROTATION,
    &secrets::UNUSED_SECRET,
    &stacks::STACK_NOTIFICATIONS,
    &tags::DETECTOR_TAGS,
    &tags::TABLE_TAGS,
    &topic::DELIVERY_STATUS,
    &trail::ACCOUNT_TRAIL,
    &trail::TRAIL_ENCRYPTION,
    &trail::TRAIL_LOG_GROUP,
    &unused::UNUSED_ADDRESS,
    &unused::UNUSED_NETWORK_ACL,
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
    /// What of the answers is the state; `None` when there is no such resource. What is under [`BESIDE`] is for the plan
    /// only.
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
    now: Timestamp,
}

impl Subject {
    fn text(&self, name: &str) -> Result<&str, NativeError> {
        let found = self.parameters.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected: "a text that is not empty" })
    }

    fn account(&self) -> String {
        self.arn.account().map(ToString::to_string).unwrap_or_default()
    }

    /// The ARN of the account's role that parameter `RoleName` names. The member's stack makes it.
    fn role(&self) -> Result<String, NativeError> {
        let name = self.text("RoleName")?;
        Ok(format!("arn:{}:iam::{}:role/{name}", self.arn.partition(), self.account()))
    }

    fn number(&self, name: &str) -> Result<i64, NativeError> {
        let found = self.parameters.get(name).and_then(number);
        found.ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected: "a whole number" })
    }
}

/// Services that take minutes to show a change.
const SLOW: [&str; 3] = ["elasticache", "rds", "redshift"];

/// How long to wait between read-backs of theirs: less than three minutes in all, of the five that the function has.
const PATIENT: [Duration; 8] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(10),
    Duration::from_secs(25),
    Duration::from_secs(30),
    Duration::from_secs(30),
    Duration::from_secs(30),
    Duration::from_secs(30),
];

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
    /// What AWS answered to the calls before, the newest where several say the same: a later one may need what was made.
    answered: Mutex<Value>,
    /// What AWS answered when the resource was read last.
    seen: Mutex<Value>,
    /// What the last look found beside the resource.
    beside: Shared<Value>,
    /// How long what was just made may take to be seen.
    patience: [Duration; 4],
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
            now: Timestamp::now(),
        };
        let token = request.job.remediation_id.to_string();
        let (answered, seen, beside) = (Mutex::default(), Mutex::default(), Shared::default());
        let patience = [2, 4, 8, 16].map(Duration::from_secs);
        Self { setting, subject, wire, answered, seen, beside, patience, token }
    }

    async fn send(&self, operation: &'static Operation, input: &Value) -> Result<Value, NativeError> {
        if !matches!(operation.service.protocol, Protocol::Sdk) {
            return Ok(self.wire.call(operation, input).await?);
        }
        let Some(answer) = sdk::call(self.wire.config(), operation, input).await else {
            return Err(NativeError::Form { what: "a call", native: self.setting.name });
        };
        Ok(answer?)
    }

    /// Calls, and waits for what was just made and is not seen yet, or must be gone first.
    async fn patiently(&self, operation: &'static Operation, input: &Value) -> Result<Value, NativeError> {
        let pauses =
            if STILL_USED.contains(&operation.name) { vec![GONE_PAUSE; TRIES] } else { self.patience.to_vec() };
        for pause in pauses {
            match self.send(operation, input).await {
                Err(NativeError::Aws(failure))
                    if failure.code().is_some_and(|code| operation.awaits.contains(&code)) =>
                {
                    tokio::time::sleep(pause).await;
                }
                answer => return answer,
            }
        }
        self.send(operation, input).await
    }

    /// Waits until AWS is done with what an operation began.
    async fn done(&self, until: &Until, input: &Value, answered: &Value) -> Result<(), NativeError> {
        let input = (until.input)(input, answered);
        for _ in 0..ASKED {
            let now = self.wire.call(until.ask, &input).await?;
            let state = at(&now, until.state).as_str().unwrap_or_default();
            if state == until.done {
                return Ok(());
            }
            if !until.at_it.contains(&state) {
                return Err(NativeError::NotNow(format!(
                    "AWS began it, and it is {state}: {}",
                    at(&now, until.errors)
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(NativeError::NotNow(
            "AWS began it, and was not done after four minutes; look at it before you ask again".to_owned(),
        ))
    }

    /// Waits until the resource is no longer busy; when it stays so, whoever verifies the change will say it.
    async fn settled(&self) -> Result<(), NativeError> {
        for tries in 0..TRIES {
            if !matches!(self.inspect().await?, Some(image) if image.state["IsBusy"] == true) {
                break;
            }
            tokio::time::sleep(GONE_PAUSE.min(Duration::from_secs(1 << tries.min(4)))).await;
        }
        Ok(())
    }

    /// The state as the setting reads it: with what is beside.
    fn whole(&self, state: &Value) -> Value {
        let mut state = state.clone();
        if let (Value::Object(map), Ok(beside)) = (&mut state, self.beside.lock())
            && !beside.is_null()
        {
            map.insert(BESIDE.to_owned(), beside.clone());
        }
        state
    }
}

/// What a plan needs to know and that is no part of the resource: a bucket or a role that others use, too, or what changes by
/// itself. It is not in the image: another may make it meanwhile, and an undo leaves it.
const BESIDE: &str = "Beside";
/// How often AWS is asked whether it is done, and how long after each time: less than the five minutes that a function has.
const ASKED: u32 = 48;
const PAUSE: Duration = Duration::from_secs(5);
/// Operations after which a resource says `IsBusy` for a while.
const TAKES_LONG: [&str; 1] = ["UpdateStack"];
/// Operations that are refused until AWS has removed what was deleted before.
const STILL_USED: [&str; 1] = ["DeleteSecurityGroup"];
/// How often, and after how long, such a call is made again: for less time than the function has.
const TRIES: usize = 18;
const GONE_PAUSE: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(10) };

#[async_trait]
impl Native for OnResource {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let mut answers = Vec::new();
        while let Some(ask) = (self.setting.next)(&self.subject, &answers) {
            match self.send(ask.operation, &ask.input).await {
                Ok(answer) => answers.push(answer),
                Err(NativeError::Aws(failure)) if ask.says_none(&failure) => answers.push(Value::Null),
                Err(NativeError::Aws(failure))
                    if failure.code().is_some_and(|code| self.setting.missing.contains(&code)) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let state = (self.setting.state)(&self.subject, &answers);
        *self.seen.lock().await = answers.into();
        let Some(mut state) = state else { return Ok(None) };
        let found = state.as_object_mut().and_then(|map| map.remove(BESIDE)).unwrap_or_default();
        if let Ok(mut beside) = self.beside.lock() {
            *beside = found;
        }
        Ok(Some(Image { present: true, state }))
    }

    fn pace(&self) -> &'static [Duration] {
        let is_slow = |operation: &&'static Operation| SLOW.contains(&operation.service.name);
        if self.setting.changes.iter().any(is_slow) { &PATIENT } else { &PACE }
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        (self.setting.fix)(&self.subject, &self.whole(&now.state)).map(change)
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
        let answer = self.patiently(operation, &input).await?;
        // EC2 answers with success where it did nothing, or only a part.
        if let Some(undone) = answer.pointer("/unsuccessful/0") {
            let said = |field: &str| at(undone, field).as_str().unwrap_or("no reason").to_owned();
            let (code, message) = (said("/error/code"), said("/error/message"));
            return Err(NativeError::NotNow(format!("`{}` did not do it: {code}: {message}", operation.name)));
        }
        let done = match &operation.until {
            Some(until) => self.done(until, &input, &answer).await,
            None => Ok(()),
        };
        match (&mut *answered, answer) {
            (Value::Object(known), Value::Object(new)) => known.extend(new),
            (known, new) if known.is_null() => *known = new,
            _ => {}
        }
        drop(answered);
        if TAKES_LONG.contains(&operation.name) {
            self.settled().await?;
        }
        done
    }
}

/// A value that the answers to the calls before hold: the pointer to it, after this.
const OF_ANSWER: &str = "answer:";

/// A value that was read and is not to be written down, for it may be secret: the pointer to it in the list of answers.
const OF_SEEN: &str = "seen:";

/// The parameters with what the calls before made, and with what was read.
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

/// The items of a list whose items AWS names: one is an object, several are a list ([`crate::wire`]).
fn items<'a>(of: &'a Value, list: &str, item: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let found = &of[list][item];
    let several = found.as_array().map(Vec::as_slice);
    let one = (several.is_none() && !found.is_null()).then_some(found);
    several.unwrap_or_default().iter().chain(one)
}

#[cfg(test)]
#[path = "setting/logs_tests.rs"]
mod logs_tests;
#[cfg(test)]
#[path = "setting_tests.rs"]
mod tests;
