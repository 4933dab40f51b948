//! What the administrator account's functions need of the world outside. [`crate::aws`] is the real one.
//!
//! No decision is made behind these: each is one AWS call.

use std::collections::BTreeMap;
use std::future::Future;

use redress_common::arn::{Arn, Partition};
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::Store;
use redress_common::ids::{AccountId, Region, RemediationId};
use redress_common::notification::Notification;

/// Where in the organisation a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: Partition,
    /// The member account.
    pub account: AccountId,
    /// The Region.
    pub region: Region,
}

/// Who we are: set once, when the function starts.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The function's ARN: `ExecutorArn` of the ledger.
    pub executor: Arn,
    /// The administrator account: the chain of inputs that name no account.
    pub account: AccountId,
    /// The Region of the members' evidence buckets.
    pub home: Region,
    /// For how many days the audit table keeps a record.
    pub retention_days: u32,
}

/// The start of the control runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The remediation: also the client token, so that a repeated start is the first one.
    pub id: RemediationId,
    /// The runbook's parameters, by [`redress_common::contract::parameter`].
    pub parameters: BTreeMap<&'static str, String>,
}

/// The runbook was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// Whether the same start may succeed later.
    pub transient: bool,
    /// What failed, and what to check.
    pub message: String,
}

/// An execution of the control runbook, as SSM tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Execution {
    /// `Success`, `Failed`, `TimedOut`, `Cancelled`, or one that is not the end.
    pub status: String,
    /// What it was started with.
    pub parameters: BTreeMap<String, String>,
    /// What came out.
    pub outputs: BTreeMap<String, String>,
    /// Why it failed.
    pub failure: String,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// A step of an execution.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Step {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: String,
    /// When it began, RFC 3339; empty when it did not.
    pub start: String,
    /// When it ended, RFC 3339; empty when it did not.
    pub end: String,
}

/// What Security Hub is told of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingUpdate {
    /// The finding.
    pub id: String,
    /// Its product.
    pub product_arn: Arn,
    /// `RESOLVED`, or `NOTIFIED` for what people must look at.
    pub resolved: bool,
    /// The note.
    pub note: String,
}

/// What SNS subscribers may filter by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// The message's `Status`.
    pub status: String,
    /// The account.
    pub account: String,
    /// The severity's label.
    pub severity: String,
    /// The control, or `unknown`.
    pub control: String,
}

/// The world outside.
pub trait Outside: Store {
    /// Tell people.
    fn publish(
        &self,
        message: &Notification,
        attributes: &Attributes,
    ) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Keep an input that cannot be handled.
    fn dead_letter(&self, body: &str, code: &str, reason: &str) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Start the control runbook. The start of one that was started already succeeds.
    fn start(&self, place: &Place, start: &Start) -> impl Future<Output = Result<(), StartError>> + Send;

    /// Ask for an execution.
    fn execution(&self, place: &Place, id: &str) -> impl Future<Output = Result<Execution, StartError>> + Send;

    /// Update a finding in Security Hub.
    fn update_finding(&self, update: &FindingUpdate) -> impl Future<Output = Result<(), AwsFailure>> + Send;
}
