//! The native controls: those whose change takes more thought than a list of calls.
//!
//! Each function is a file: pure planning over typed state, and thin I/O over its one client. What they share
//! is the [`Native`] trait; the sequence in which its verbs are used is in [`crate::remediate`].

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use redress_common::aws::evidence::EvidenceWriter;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, CopyStep, Image, Job, Mode, RemediateRequest, RemediateResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::place::Place;
use crate::remediate::{self, RemediateError};

pub mod ec2_open_port;
pub mod ec2_unencrypted_volume;
pub mod iam_password_policy;
pub mod required_tags;

use ec2_open_port::OpenPort;
use ec2_unencrypted_volume::UnencryptedVolume;
use iam_password_policy::PasswordPolicy;
use required_tags::RequiredTags;

/// Why a native function cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// AWS refused, or did not do the whole of a call.
    #[error(transparent)]
    Aws(#[from] AwsFailure),
    /// There is no such function.
    #[error("there is no native function `{name}`; the control file names one of {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A parameter of the control is missing or out of bounds.
    #[error("parameter `{name}` must be {expected}")]
    Parameter {
        /// Its name.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A state or a call is not what this function writes.
    #[error("{what} is not of the form that `{native}` writes")]
    Form {
        /// What.
        what: &'static str,
        /// The function.
        native: &'static str,
    },
    /// The change cannot be made without breaking a rule of Redress.
    #[error("{0}")]
    Refused(&'static str),
    /// It cannot be done as things stand.
    #[error("{0}")]
    NotNow(String),
}

/// A native control on one resource.
pub trait Native: Send + Sync {
    /// Reads the resource; `None` when there is no such resource.
    fn inspect(&self) -> impl Future<Output = Result<Option<Image>, NativeError>> + Send;

    /// The exact calls that make it compliant; none when it is. Pure.
    ///
    /// # Errors
    /// When the state is not understood, or no safe change exists.
    fn plan(&self, now: &Image) -> Result<Change, NativeError>;

    /// The exact calls that turn `now` into `before`. Pure.
    ///
    /// # Errors
    /// When a state is not understood, or no safe change exists.
    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError>;

    /// Makes one of the planned calls.
    fn call(&self, call: &Call) -> impl Future<Output = Result<(), NativeError>> + Send;

    /// Whether the control holds: nothing would be planned.
    fn compliant(&self, now: &Image) -> bool {
        self.plan(now).is_ok_and(|change| change.0.is_empty())
    }

    /// Mode `Snapshot`: begins the n-th copy that `Apply` works from, or finds it; its id.
    fn copy(&self, _nth: u32) -> impl Future<Output = Result<String, NativeError>> + Send {
        async { Err(NO_COPIES) }
    }

    /// All copies are complete: removes what only led to the last one, and gives its id.
    fn copied(&self) -> impl Future<Output = Result<String, NativeError>> + Send {
        async { Err(NO_COPIES) }
    }

    /// Something failed in this mode: removes what was made on the way, unless it is in use.
    fn discard(&self, _mode: Mode) -> impl Future<Output = Result<(), NativeError>> + Send {
        async { Ok(()) }
    }
}

const NO_COPIES: NativeError = NativeError::Refused("this control makes no copies; its file must not ask for them");

/// The AWS actions that a native function calls, for its control files and for the reviewer of its role.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// The function.
    pub name: &'static str,
    /// The actions that read.
    pub reads: &'static [&'static str],
    /// The actions that change.
    pub changes: &'static [&'static str],
}

/// Every native function.
pub const NATIVES: [Declared; 4] =
    [ec2_open_port::DECLARED, iam_password_policy::DECLARED, required_tags::DECLARED, ec2_unencrypted_volume::DECLARED];

/// The clients of all native functions, made once.
#[derive(Debug, Clone)]
pub struct Clients {
    ec2: aws_sdk_ec2::Client,
    iam: aws_sdk_iam::Client,
    tagging: aws_sdk_resourcegroupstagging::Client,
}

/// A native function, by name.
#[derive(Debug)]
pub struct Chosen {
    job: Job,
    copy: Option<CopyStep>,
    function: Function,
}

#[derive(Debug)]
enum Function {
    OpenPort(OpenPort),
    PasswordPolicy(PasswordPolicy),
    RequiredTags(RequiredTags),
    UnencryptedVolume(UnencryptedVolume),
}

impl Clients {
    /// The clients, of the function's own Region.
    #[must_use]
    pub fn new(config: &aws_types::SdkConfig) -> Self {
        Self {
            ec2: aws_sdk_ec2::Client::new(config),
            iam: aws_sdk_iam::Client::new(config),
            tagging: aws_sdk_resourcegroupstagging::Client::new(config),
        }
    }

    /// The function that a request names, on the resource that it names.
    ///
    /// # Errors
    /// When there is none, or its parameters are wrong.
    pub fn native(&self, request: RemediateRequest) -> Result<Chosen, NativeError> {
        if request.native == ec2_unencrypted_volume::DECLARED.name {
            let function = Function::UnencryptedVolume(UnencryptedVolume::new(self.ec2.clone(), &request)?);
            return Ok(Chosen { job: request.job, copy: request.copy, function });
        }
        let RemediateRequest { job, native, parameters, copy, .. } = request;
        let function = match native.as_str() {
            name if name == ec2_open_port::DECLARED.name => {
                Function::OpenPort(OpenPort::new(self.ec2.clone(), &job, &parameters)?)
            }
            name if name == iam_password_policy::DECLARED.name => {
                Function::PasswordPolicy(PasswordPolicy::new(self.iam.clone(), &parameters)?)
            }
            name if name == required_tags::DECLARED.name => {
                Function::RequiredTags(RequiredTags::new(self.tagging.clone(), &job, &parameters)?)
            }
            _ => {
                let known = NATIVES.map(|native| native.name).join(", ");
                return Err(NativeError::Unknown { name: native, known });
            }
        };
        Ok(Chosen { job, copy, function })
    }
}

impl Chosen {
    /// Runs it.
    ///
    /// # Errors
    /// As [`remediate::run`].
    pub async fn run(
        &self,
        evidence: &EvidenceWriter,
        place: &Place,
        pace: &[Duration],
    ) -> Result<RemediateResponse, RemediateError> {
        let (job, copy) = (&self.job, self.copy);
        match &self.function {
            Function::OpenPort(native) => remediate::run(native, job, copy, evidence, place, pace).await,
            Function::PasswordPolicy(native) => remediate::run(native, job, copy, evidence, place, pace).await,
            Function::RequiredTags(native) => remediate::run(native, job, copy, evidence, place, pace).await,
            Function::UnencryptedVolume(native) => remediate::run(native, job, copy, evidence, place, pace).await,
        }
    }
}

/// A parameter that must be there.
fn parameter<'a>(
    parameters: &'a BTreeMap<String, Value>,
    name: &str,
    expected: &'static str,
) -> Result<&'a Value, NativeError> {
    parameters.get(name).ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected })
}

/// A whole number, as JSON or, since SSM has no list of numbers, as text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// A boolean, as JSON or as text.
fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Typed state or parameters, from what was stored or planned.
fn typed<T: DeserializeOwned>(value: &Value, what: &'static str, native: &'static str) -> Result<T, NativeError> {
    T::deserialize(value).map_err(|_| NativeError::Form { what, native })
}

/// State or parameters, as they are stored or planned.
fn untyped<T: Serialize>(value: &T, what: &'static str, native: &'static str) -> Result<Value, NativeError> {
    serde_json::to_value(value).map_err(|_| NativeError::Form { what, native })
}

/// One planned call.
fn planned<T: Serialize>(
    declared: &Declared,
    service: &str,
    operation: &str,
    parameters: &T,
) -> Result<Call, NativeError> {
    Ok(Call {
        service: service.to_owned(),
        operation: operation.to_owned(),
        parameters: untyped(parameters, "a call", declared.name)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge;
    use crate::testing::{FakeAws, job};

    const GROUP: &str = "arn:aws:ec2:eu-central-1:111122223333:security-group/sg-1";

    fn declares(declared: &Declared, call: &Call) -> bool {
        declared.changes.iter().any(|action| action.split(':').nth(1) == Some(call.operation.as_str()))
    }

    /// Plans from `before`, and the undo of it from `after`: only declared actions come out.
    fn check(native: &impl Native, declared: &Declared, before: &Image, after: &Image) {
        let mut calls = native.plan(before).unwrap().0;
        calls.extend(native.plan_restore(after, before).unwrap().0);
        assert!(calls.iter().all(|call| declares(declared, call)), "{calls:?}");
        assert_eq!(calls.is_empty(), declared.changes.is_empty());
    }

    #[test]
    fn a_native_function_plans_only_what_it_declares() {
        let config = FakeAws::default().config();
        let image = |state: Value| Image { present: true, state };
        let rules = |from: i32| {
            let permission =
                json!({ "IpProtocol": "tcp", "FromPort": from, "ToPort": 80, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] });
            image(json!({ "GroupId": "sg-1", "IpPermissions": [permission] }))
        };
        let ports = [("Ports".to_owned(), json!([22]))].into();
        let native = OpenPort::new(aws_sdk_ec2::Client::new(&config), &job(GROUP), &ports).unwrap();
        check(&native, &NATIVES[0], &rules(20), &rules(23));

        let required = [("RequireSymbols".to_owned(), json!(true))].into();
        let native = PasswordPolicy::new(aws_sdk_iam::Client::new(&config), &required).unwrap();
        let update = native.plan(&judge::absent()).unwrap().0.remove(0);
        check(&native, &NATIVES[1], &judge::absent(), &image(update.parameters));

        let keys = [("Keys".to_owned(), json!(["Owner"])), ("Value".to_owned(), json!("x"))].into();
        let client = aws_sdk_resourcegroupstagging::Client::new(&config);
        let native = RequiredTags::new(client, &job(GROUP), &keys).unwrap();
        check(&native, &NATIVES[2], &image(json!({ "Tags": {} })), &image(json!({ "Tags": { "Owner": "x" } })));
    }

    #[test]
    fn the_name_in_a_request_chooses_the_function() {
        let clients = Clients::new(&FakeAws::default().config());
        for (declared, parameters) in NATIVES.iter().zip([
            json!({ "Ports": [22] }),
            json!({ "MinimumPasswordLength": 14 }),
            json!({ "Keys": ["Owner"], "Value": "" }),
            json!({ "KmsKeyId": "" }),
        ]) {
            let request = |parameters: Value| RemediateRequest {
                job: job(GROUP),
                native: declared.name.to_owned(),
                account_id: "111122223333".parse().unwrap(),
                region: "eu-central-1".parse().unwrap(),
                parameters: serde_json::from_value(parameters).unwrap(),
                copy: None,
            };
            assert!(clients.native(request(parameters)).is_ok(), "{}", declared.name);
            assert!(clients.native(request(json!({}))).is_err(), "{} without parameters", declared.name);
        }
    }
}
