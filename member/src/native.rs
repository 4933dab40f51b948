//! The native controls: those whose change takes more thought than a list of calls.
//!
//! Each function is a file: pure planning over typed state, and thin I/O over its one client. What they share
//! is the [`Native`] trait; the sequence in which its verbs are used is in [`crate::remediate`]. Those that destroy are run by
//! a function of their own, whose role alone has the rights for it: [`Kind`].

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_runtime::client::retries::classifiers::HttpStatusCodeClassifier;
use redress_common::aws::evidence::EvidenceWriter;
use redress_common::aws::failure::AwsFailure;
use redress_common::command_document::CommandDocument;
use redress_common::contract::{Call, Change, CopyStep, Image, Job, Mode, RemediateRequest, RemediateResponse};
use redress_common::custody::Item;
use redress_common::names;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::alarms::Alarms;
use crate::custody::Document;
use crate::place::Place;
use crate::playbook::PLAYBOOKS;
use crate::remediate::{self, RemediateError};
use crate::wire::Wire;

pub mod at_rest;
mod bucket_lifecycle;
pub mod bucket_settings;
pub mod cloudfront_distribution;
pub mod cloudwatch_alarm;
pub mod destroy_ec2_instance;
pub mod destroy_iam_user_keys;
pub mod ec2_default_group;
pub(crate) mod ec2_instance;
pub mod ec2_network_acl;
pub mod ec2_open_port;
mod ec2_rules;
pub mod ec2_stopped_instance;
pub mod ec2_unencrypted_volume;
pub mod expired_certificate;
pub mod iam_admin_policy;
pub mod iam_password_policy;
pub mod iam_support_role;
pub mod iam_user_credentials;
pub mod iam_user_policies;
pub mod lambda_policy;
pub mod load_balancer_attribute;
mod log_bucket;
pub(crate) mod policy_text;
pub(crate) mod rds;
pub mod rds_unencrypted_instance;
pub mod rds_unencrypted_snapshot;
pub mod required_tags;
pub mod resource_policy;
pub mod secret_age;
pub mod setting;

use setting::OnResource;

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
        /// Those that this function of Redress runs.
        known: String,
    },
    /// Another function of Redress runs it.
    #[error(
        "native function `{name}` is run by `{there}`, not by `{here}`; the runbook is wrong, or older than the function: \
         compile it again, and update its stack"
    )]
    Elsewhere {
        /// The native function.
        name: String,
        /// The function that was asked.
        here: &'static str,
        /// The one that runs it.
        there: &'static str,
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
    /// AWS is still at it, and this run of the function has not the time to wait: another one goes on.
    #[error("{0}")]
    Underway(String),
}

/// A native control on one resource.
#[async_trait]
pub trait Native: Send + Sync {
    /// Reads the resource; `None` when there is no such resource.
    async fn inspect(&self) -> Result<Option<Image>, NativeError>;

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
    async fn call(&self, call: &Call) -> Result<(), NativeError>;

    /// Looks once more, right before the calls, whether anything has changed since `found`: less has to be read for that
    /// than for a pre-image.
    async fn look_again(&self, _found: &Image) -> Result<Option<Image>, NativeError> {
        self.inspect().await
    }

    /// Whether the remediation goes on when this call fails: what failed is told with its end.
    fn may_fail(&self, _call: &Call) -> bool {
        false
    }

    /// Whether this planned call is made when an earlier run was cut off and the control holds already, so that what stands
    /// beside it is not left out. It passes over what is done.
    fn is_left(&self, _call: &Call, _now: &Image) -> bool {
        false
    }

    /// How long to wait between read-backs after a change.
    fn pace(&self) -> &'static [Duration] {
        &remediate::PACE
    }

    /// Whether the control holds: nothing would be planned.
    fn compliant(&self, now: &Image) -> bool {
        self.plan(now).is_ok_and(|change| change.0.is_empty())
    }

    /// Whether `now` is what an earlier run of the same change, which found `before`, had come to when it was cut off: its
    /// calls may be made again, each of them passes over what is done.
    fn half_way(&self, _now: &Image, _before: &Image) -> bool {
        false
    }

    /// Mode `Snapshot`: begins the n-th copy that `Apply` works from, or finds it; its id.
    async fn copy(&self, _nth: u32) -> Result<String, NativeError> {
        Err(NO_COPIES)
    }

    /// All copies are complete: removes what only led to the last one, and gives its id.
    async fn copied(&self) -> Result<String, NativeError> {
        Err(NO_COPIES)
    }

    /// Whether what is made in mode `Snapshot` is evidence, which [`Self::discard`] leaves alone.
    fn keeps_copies(&self) -> bool {
        false
    }

    /// This run goes on where an earlier one was cut off: what that one began may be there.
    fn resumes(&self) {}

    /// What was taken of the resource by the calls until now.
    async fn acquired(&self) -> Vec<Item> {
        Vec::new()
    }

    /// What is taken of the resource as a document once it is contained. It costs no time before.
    async fn document(&self) -> Result<Option<Document>, NativeError> {
        Ok(None)
    }

    /// Something failed in this mode: removes what was made on the way, unless it is in use.
    async fn discard(&self, _mode: Mode) -> Result<(), NativeError> {
        Ok(())
    }
}

const NO_COPIES: NativeError = NativeError::Refused("this control makes no copies; its file must not ask for them");

/// A native function: what it calls, for its control files and for the reviewer of its role, and how it is made.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// The function.
    pub name: &'static str,
    /// The actions that read.
    pub reads: &'static [&'static str],
    /// The actions that change.
    pub changes: &'static [&'static str],
    /// Makes it for one request.
    pub(crate) make: Make,
}

pub(crate) type Make = fn(&Clients, &RemediateRequest) -> Result<Box<dyn Native>, NativeError>;

/// What a control file fixes, by name.
pub type Parameters = BTreeMap<String, Value>;

/// What a function runs: its name says so. One package is deployed under two names, with a role each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`NATIVES`] and the settings.
    Remediate,
    /// [`DESTROYERS`], and nothing else.
    Destroy,
}

/// The native functions that destroy: [`names::DESTROY_FUNCTION`] runs them, and no other function does.
pub const DESTROYERS: [Declared; 3] =
    [destroy_ec2_instance::DECLARED, destroy_iam_user_keys::DECLARED, ec2_stopped_instance::DECLARED];

/// Every other native function but the settings, which [`setting::SETTINGS`] lists.
pub const NATIVES: [Declared; 21] = [
    at_rest::DECLARED,
    bucket_settings::DECLARED,
    cloudfront_distribution::DECLARED,
    cloudwatch_alarm::DECLARED,
    ec2_default_group::DECLARED,
    ec2_network_acl::DECLARED,
    ec2_open_port::DECLARED,
    ec2_unencrypted_volume::DECLARED,
    expired_certificate::DECLARED,
    iam_admin_policy::DECLARED,
    iam_password_policy::DECLARED,
    iam_support_role::DECLARED,
    iam_user_credentials::DECLARED,
    iam_user_policies::DECLARED,
    lambda_policy::DECLARED,
    load_balancer_attribute::DECLARED,
    rds_unencrypted_instance::DECLARED,
    rds_unencrypted_snapshot::DECLARED,
    required_tags::DECLARED,
    resource_policy::DECLARED,
    secret_age::DECLARED,
];

/// The clients of all native functions, made once.
#[derive(Debug, Clone)]
pub struct Clients {
    alarms: Alarms,
    balancers: aws_sdk_elasticloadbalancingv2::Client,
    cloudtrail: aws_sdk_cloudtrail::Client,
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) iam: aws_sdk_iam::Client,
    kms: aws_sdk_kms::Client,
    pub(crate) lambda: aws_sdk_lambda::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    tagging: aws_sdk_resourcegroupstagging::Client,
    pub(crate) wire: Wire,
    /// What captures the memory of an instance where its playbook names nothing else.
    pub(crate) memory_capture: Option<CommandDocument>,
}

/// A native function, by name.
pub struct Chosen {
    job: Job,
    copy: Option<CopyStep>,
    function: Box<dyn Native>,
}

impl Clients {
    /// The clients, of the function's own Region.
    #[must_use]
    pub fn new(config: &aws_types::SdkConfig) -> Self {
        Self {
            alarms: Alarms::new(config),
            balancers: aws_sdk_elasticloadbalancingv2::Client::new(config),
            cloudtrail: aws_sdk_cloudtrail::Client::new(config),
            ec2: aws_sdk_ec2::Client::new(config),
            iam: aws_sdk_iam::Client::new(config),
            kms: aws_sdk_kms::Client::new(config),
            lambda: aws_sdk_lambda::Client::new(config),
            logs: aws_sdk_cloudwatchlogs::Client::new(config),
            s3: s3(config),
            sns: sns(config),
            sqs: aws_sdk_sqs::Client::new(config),
            tagging: aws_sdk_resourcegroupstagging::Client::new(config),
            wire: Wire::new(config.clone()),
            memory_capture: None,
        }
    }

    /// The same, where the stack names a document that captures the memory of instances.
    #[must_use]
    pub fn with_memory_capture(self, document: Option<CommandDocument>) -> Self {
        Self { memory_capture: document, ..self }
    }

    /// The function that a request names, on the resource that it names.
    ///
    /// # Errors
    /// When there is none of this kind, or its parameters are wrong.
    pub fn native(&self, kind: Kind, request: RemediateRequest) -> Result<Chosen, NativeError> {
        let Some(theirs) = Kind::of_native(&request.native) else {
            return Err(NativeError::Unknown { name: request.native, known: kind.known() });
        };
        if theirs != kind {
            let (here, there) = (kind.function(), theirs.function());
            return Err(NativeError::Elsewhere { name: request.native, here, there });
        }
        if let Some(setting) = setting::find(&request.native) {
            let function = Box::new(OnResource::new(setting, self.wire.clone(), &request));
            return Ok(Chosen { job: request.job, copy: request.copy, function });
        }
        let Some(declared) = kind.natives().iter().find(|declared| declared.name == request.native) else {
            return Err(NativeError::Unknown { name: request.native, known: kind.known() });
        };
        let function = (declared.make)(self, &request)?;
        Ok(Chosen { job: request.job, copy: request.copy, function })
    }

    /// The playbook that a request names, on the resource that it names.
    ///
    /// # Errors
    /// When there is none, or its parameters are wrong.
    pub fn playbook(&self, request: &RemediateRequest) -> Result<Box<dyn Native>, NativeError> {
        let Some(declared) = PLAYBOOKS.iter().find(|declared| declared.name == request.native) else {
            let known = PLAYBOOKS.iter().map(|playbook| playbook.name).collect::<Vec<_>>().join(", ");
            return Err(NativeError::Unknown { name: request.native.clone(), known });
        };
        (declared.make)(self, request)
    }
}

impl Kind {
    /// What the function at this place runs. Whatever is called otherwise than the function that destroys does not destroy.
    #[must_use]
    pub fn of_function(place: &Place) -> Self {
        if place.name() == names::DESTROY_FUNCTION { Self::Destroy } else { Self::Remediate }
    }

    /// Which kind runs the native function of this name, if there is one.
    fn of_native(name: &str) -> Option<Self> {
        let has = |natives: &[Declared]| natives.iter().any(|declared| declared.name == name);
        if has(&DESTROYERS) {
            return Some(Self::Destroy);
        }
        (has(&NATIVES) || setting::find(name).is_some()).then_some(Self::Remediate)
    }

    const fn natives(self) -> &'static [Declared] {
        match self {
            Self::Remediate => &NATIVES,
            Self::Destroy => &DESTROYERS,
        }
    }

    /// The function of this kind.
    const fn function(self) -> &'static str {
        match self {
            Self::Remediate => names::REMEDIATE_FUNCTION,
            Self::Destroy => names::DESTROY_FUNCTION,
        }
    }

    /// The names of what it runs, for people.
    fn known(self) -> String {
        let settings = setting::SETTINGS.iter().map(|setting| setting.name).filter(|_| self == Self::Remediate);
        self.natives().iter().map(|native| native.name).chain(settings).collect::<Vec<_>>().join(", ")
    }
}

/// SNS may throttle with a code that the SDK does not know for one of throttling; its status says it.
fn sns(config: &aws_types::SdkConfig) -> aws_sdk_sns::Client {
    let throttled = HttpStatusCodeClassifier::new_from_codes(&[429][..]);
    let config = aws_sdk_sns::config::Builder::from(config).retry_classifier(throttled).build();
    aws_sdk_sns::Client::from_conf(config)
}

/// With paths instead of host names where the endpoint is one machine.
fn s3(config: &aws_types::SdkConfig) -> aws_sdk_s3::Client {
    let builder = aws_sdk_s3::config::Builder::from(config).force_path_style(config.endpoint_url().is_some());
    aws_sdk_s3::Client::from_conf(builder.build())
}

impl Chosen {
    /// How long it waits between read-backs.
    #[must_use]
    pub fn pace(&self) -> &'static [Duration] {
        self.function.pace()
    }

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
        remediate::run(self.function.as_ref(), &self.job, self.copy, evidence, place, pace).await
    }
}

/// A parameter that must be there.
pub(crate) fn parameter<'a>(
    parameters: &'a BTreeMap<String, Value>,
    name: &str,
    expected: &'static str,
) -> Result<&'a Value, NativeError> {
    parameters.get(name).ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected })
}

/// A whole number, as JSON or, since SSM has no list of numbers, as text.
pub(crate) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// A boolean, as JSON or as text.
pub(crate) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Typed state or parameters, from what was stored or planned.
pub(crate) fn typed<T: DeserializeOwned>(
    value: &Value,
    what: &'static str,
    native: &'static str,
) -> Result<T, NativeError> {
    T::deserialize(value).map_err(|_| NativeError::Form { what, native })
}

/// State or parameters, as they are stored or planned.
pub(crate) fn untyped<T: Serialize>(value: &T, what: &'static str, native: &'static str) -> Result<Value, NativeError> {
    serde_json::to_value(value).map_err(|_| NativeError::Form { what, native })
}

/// One planned call.
pub(crate) fn planned<T: Serialize>(
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

    use super::ec2_open_port::OpenPort;
    use super::iam_password_policy::PasswordPolicy;
    use super::required_tags::RequiredTags;
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

    /// Every function with parameters that it takes.
    fn examples() -> Vec<(&'static str, Value)> {
        vec![
            ("at_rest", json!({ "KmsMasterKeyId": "alias/aws/sns" })),
            ("bucket_settings", json!({ "Setting": "Versioning" })),
            ("cloudfront_distribution", json!({ "Goal": "Encryption" })),
            ("cloudwatch_alarm", json!({ "FilterPattern": "{ $.a = 1 }", "MetricName": "a", "Namespace": "b" })),
            ("destroy_ec2_instance", json!({})),
            ("destroy_iam_user_keys", json!({ "AccessKeyId": "" })),
            ("ec2_default_group", json!({})),
            ("ec2_network_acl", json!({ "Ports": [22, 3389] })),
            ("ec2_open_port", json!({ "Ports": [22] })),
            ("ec2_stopped_instance", json!({ "AllowedDays": 30 })),
            ("ec2_unencrypted_volume", json!({ "KmsKeyId": "" })),
            ("expired_certificate", json!({})),
            ("iam_admin_policy", json!({})),
            ("iam_password_policy", json!({ "MinimumPasswordLength": 14 })),
            ("iam_support_role", json!({ "RoleName": "support" })),
            ("iam_user_credentials", json!({ "MaxKeyAge": 90 })),
            ("iam_user_policies", json!({})),
            ("lambda_policy", json!({})),
            ("load_balancer_attribute", json!({ "Attribute": "deletion_protection.enabled", "Value": "true" })),
            ("rds_unencrypted_instance", json!({ "KmsKeyId": "alias/aws/rds" })),
            ("rds_unencrypted_snapshot", json!({ "KmsKeyId": "alias/aws/rds" })),
            ("required_tags", json!({ "Keys": ["Owner"], "Value": "" })),
            ("resource_policy", json!({ "Goal": "RequireTls" })),
            ("secret_age", json!({ "MaxDaysSinceRotation": 90 })),
        ]
    }

    fn declared(name: &str) -> &'static Declared {
        NATIVES.iter().find(|native| native.name == name).unwrap()
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
        check(&native, declared("ec2_open_port"), &rules(20), &rules(23));

        let required = [("RequireSymbols".to_owned(), json!(true))].into();
        let native = PasswordPolicy::new(aws_sdk_iam::Client::new(&config), &required).unwrap();
        let update = native.plan(&judge::absent()).unwrap().0.remove(0);
        check(&native, declared("iam_password_policy"), &judge::absent(), &image(update.parameters));

        let keys = [("Keys".to_owned(), json!(["Owner"])), ("Value".to_owned(), json!("x"))].into();
        let client = aws_sdk_resourcegroupstagging::Client::new(&config);
        let native = RequiredTags::new(client, &job(GROUP), &keys).unwrap();
        let tagged = image(json!({ "Tags": { "Owner": "x" } }));
        check(&native, declared("required_tags"), &image(json!({ "Tags": {} })), &tagged);
    }

    #[test]
    fn the_name_in_a_request_chooses_the_function() {
        let clients = Clients::new(&FakeAws::default().config());
        let examples = examples();
        let mut known: Vec<&str> = NATIVES.iter().chain(&DESTROYERS).map(|native| native.name).collect();
        known.sort_unstable();
        assert_eq!(known, examples.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, parameters) in examples {
            let request = |parameters: Value| RemediateRequest {
                job: job(match name {
                    "at_rest" => "arn:aws:sns:eu-central-1:111122223333:topic",
                    "rds_unencrypted_snapshot" => "arn:aws:rds:eu-central-1:111122223333:snapshot:daily",
                    "resource_policy" => "arn:aws:s3:::bucket",
                    _ => GROUP,
                }),
                native: name.to_owned(),
                account_id: "111122223333".parse().unwrap(),
                region: "eu-central-1".parse().unwrap(),
                parameters: serde_json::from_value(parameters).unwrap(),
                copy: None,
            };
            let kind = Kind::of_native(name).unwrap();
            assert!(clients.native(kind, request(parameters.clone())).is_ok(), "{name}");
            if parameters != json!({}) {
                assert!(clients.native(kind, request(json!({}))).is_err(), "{name} without parameters");
            }
            let other = if kind == Kind::Destroy { Kind::Remediate } else { Kind::Destroy };
            let refused = clients.native(other, request(parameters)).err().unwrap();
            let is_theirs = matches!(
                &refused,
                NativeError::Elsewhere { here, there, .. } if (*here, *there) == (other.function(), kind.function())
            );
            assert!(is_theirs, "{name}: {refused}");
        }
    }

    #[test]
    fn what_ends_an_instance_or_a_key_for_good_is_run_by_the_function_that_destroys_alone() {
        let ends = |declared: &Declared| {
            declared.changes.iter().any(|action| ["ec2:TerminateInstances", "iam:DeleteAccessKey"].contains(action))
        };
        assert!(DESTROYERS.iter().all(ends));
        assert!(!NATIVES.iter().any(ends) && !PLAYBOOKS.iter().any(ends));
    }

    #[test]
    fn a_function_runs_what_its_name_says_and_nothing_is_destroyed_under_another_name() {
        let of = |function: &str| {
            let arn = format!("arn:aws:lambda:eu-central-1:111122223333:function:{function}");
            Kind::of_function(&Place::of_function(&arn).unwrap())
        };
        for own in ["redress-destroy", "redress-destroy:7", "redress-destroy:$LATEST"] {
            assert_eq!(of(own), Kind::Destroy, "{own}");
        }
        for other in [
            "redress-remediate",
            "redress-remediate:7",
            "redress-contain-ec2",
            "redress-destroyer",
            "mine:redress-destroy",
        ] {
            assert_eq!(of(other), Kind::Remediate, "{other}");
        }
    }
}
