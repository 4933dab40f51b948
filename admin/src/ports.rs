//! What the administrator account's functions need of the world outside. [`crate::aws`] is the real one.
//!
//! No decision is made behind these: each is one AWS call.

use std::collections::BTreeMap;
use std::future::Future;

use redress_common::arn::{Arn, Partition};
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Store, StoreError};
use redress_common::catalogue::Direct;
use redress_common::contract::{GuardEvidence, GuardRequest};
use redress_common::finding::WorkflowStatus;
use redress_common::ids::{AccountId, Region, RemediationId};
use redress_common::items::account::AccountFacts;
use redress_common::items::approval::Task;
use redress_common::ledger::Record;
use redress_common::notification::Notification;

use crate::claim::Times;

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
    /// How long work may take.
    pub times: Times,
}

/// The start of the control runbook, or of a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The remediation: also the client token, so that a repeated start is the first one.
    pub id: RemediationId,
    /// The runbook's parameters, by [`redress_common::contract::parameter`].
    pub parameters: BTreeMap<&'static str, String>,
    /// Set when it is a playbook.
    pub direct: Option<Direct>,
}

/// The runbook was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// Whether the same start may succeed later.
    pub transient: bool,
    /// Whether nobody knows if it happened: AWS did not answer, or spoke of its own trouble.
    pub unanswered: bool,
    /// What failed, and what to check.
    pub message: String,
}

impl StartError {
    /// What AWS says of a start.
    #[must_use]
    pub fn of(failure: &AwsFailure) -> Self {
        Self { transient: failure.is_transient(), unanswered: failure.is_unanswered(), message: failure.to_string() }
    }

    /// It did not happen.
    #[must_use]
    pub const fn refused(transient: bool, message: String) -> Self {
        Self { transient, unanswered: false, message }
    }
}

/// An execution of the control runbook, as SSM tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attributes {
    /// The message's `Status`.
    pub status: String,
    /// The account.
    pub account: String,
    /// The severity's label.
    pub severity: String,
    /// The control, or `unknown`.
    pub control: String,
    /// A threat list names the resource, or the other side.
    pub urgent: bool,
    /// The Region in which the remediation runs; empty when there is none.
    #[serde(default)]
    pub region: String,
    /// What asked for it: the kind of trigger, or `Person`.
    #[serde(default)]
    pub trigger: String,
    /// The one destination that it is for ([`redress_common::items::destination`]); `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// What a finding's approval, or its long remediation, is started with: the input of the state machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WorkflowInput {
    /// The remediation: also the execution's name.
    pub remediation_id: RemediationId,
    /// The account of the resource.
    pub account: AccountId,
    /// Where the remediation runs.
    pub region: Region,
    /// What people are asked; `None` when nobody has to be.
    pub approval: Option<Asking>,
    /// Whether what fails, or cannot be verified, is put back at once.
    pub roll_back: bool,
    /// Whether copies are made, and waited for, before anything is changed.
    #[serde(default)]
    pub snapshot: bool,
    /// How long those may take, seconds. Longer than SSM waits for them.
    #[serde(default)]
    pub snapshot_seconds: u32,
    /// How long each runbook may take, seconds: then it is stopped. Longer than the runbook's own time-out.
    pub run_seconds: u32,
    /// Set when it is a playbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,
    /// The parameters of the control runbook for `Apply`, or `Restore` for an undo, by [`redress_common::contract::parameter`].
    pub parameters: BTreeMap<String, String>,
}

/// How people are asked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Asking {
    /// How many different people must say yes.
    pub needed: u32,
    /// Whether who asked may not answer.
    pub four_eyes: bool,
    /// The policies that ask for it.
    pub policies: Vec<String>,
    /// How long the question stands, seconds.
    pub seconds: u32,
}

/// What waits in table `RedressBacklog`: a finding, or a message to people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Waiting {
    /// What it waits for: `flight#<account>#<region>`, `after#<RemediationId>`, `campaign#<name>#<plan>`, or `untold` for
    /// SNS. The partition key.
    pub place: String,
    /// Its turn: what a threat list names first, then the worst, then the oldest. The sort key; unique by the remediation
    /// that ends it.
    pub order: String,
    /// The queue message that brings it back; of `untold`, the message.
    pub body: String,
    /// When the table may forget it, Unix seconds.
    pub expires_at: i64,
}

impl Waiting {
    /// The sort key of a finding: whether a threat list names the resource or the other side, then severity from 100 down,
    /// then its age, then who it is.
    #[must_use]
    pub fn order(urgent: bool, severity: u8, event_time: jiff::Timestamp, id: RemediationId) -> String {
        // Before every digit.
        let first = if urgent { "!" } else { "" };
        format!("{first}{:03}#{:015}#{id}", 100 - severity.min(100), event_time.as_millisecond().max(0))
    }
}

/// The world outside.
pub trait Outside: Store {
    /// What AWS Organizations says of an account: its name, its place in the tree from the root down, its tags.
    fn account(
        &self,
        account: &AccountId,
        now: jiff::Timestamp,
    ) -> impl Future<Output = Result<AccountFacts, AwsFailure>> + Send;

    /// Keep a state item that nothing depends on: what was read elsewhere and is read anew when it is lost.
    fn keep_account(&self, facts: &AccountFacts) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Whether every one of these SSM Change Calendars is open at that time.
    fn calendars_open(
        &self,
        calendars: &[Arn],
        at: jiff::Timestamp,
    ) -> impl Future<Output = Result<bool, AwsFailure>> + Send;

    /// Ask the member's guard what a change would touch. Changes nothing.
    fn guard(
        &self,
        place: &Place,
        request: &GuardRequest,
    ) -> impl Future<Output = Result<GuardEvidence, StartError>> + Send;

    /// Start the workflow. The start of one that was started already succeeds.
    fn start_workflow(&self, input: &WorkflowInput) -> impl Future<Output = Result<(), StartError>> + Send;

    /// Tell a waiting workflow how its task ended. A task that was told, or whose time is over, is no error.
    fn end_task(&self, task: &Task, result: &serde_json::Value) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Put a finding, or a message, aside. The same one again changes nothing.
    fn defer(&self, waiting: &Waiting) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// The first that wait for something and whose turn comes after `after` (empty: of all), at most `limit`.
    fn waiting(
        &self,
        place: &str,
        after: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Waiting>, AwsFailure>> + Send;

    /// Bring one back: onto the findings queue, then out of the backlog.
    fn bring_back(&self, waiting: &Waiting) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// The newest ledger records of a resource since then, at most `limit`.
    fn recent(
        &self,
        resource: &str,
        since: jiff::Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// Tell people.
    fn publish(
        &self,
        message: &Notification,
        attributes: &Attributes,
    ) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Keep an input that cannot be handled.
    fn dead_letter(&self, body: &str, code: &str, reason: &str) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Start the control runbook. The start of one that was started already succeeds. A playbook is run, and its end handed to
    /// the completion function; one that ran already is not run again, and only its end is told.
    fn start(&self, place: &Place, start: &Start) -> impl Future<Output = Result<(), StartError>> + Send;

    /// Have the end of a playbook told once more; one that was cut off is ended. Whether it ever began: then its end is told.
    fn recall(&self, place: &Place, start: &Start) -> impl Future<Output = Result<bool, StartError>> + Send;

    /// Ask for an execution.
    fn execution(&self, place: &Place, id: &str) -> impl Future<Output = Result<Execution, StartError>> + Send;

    /// The execution of the control runbook that was started for a remediation since then, whether it has ended or not.
    fn find_execution(
        &self,
        place: &Place,
        id: RemediationId,
        since: jiff::Timestamp,
    ) -> impl Future<Output = Result<Option<String>, StartError>> + Send;

    /// Hand the end of an execution to the completion function, as SSM's event of it would.
    fn tell_end(&self, event: &serde_json::Value) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Stop an execution. One that has ended is no error.
    fn stop_execution(&self, place: &Place, id: &str) -> impl Future<Output = Result<(), StartError>> + Send;

    /// Where people have put a finding in Security Hub. One that is not there any more is an error.
    fn workflow_status(
        &self,
        id: &str,
        product_arn: &Arn,
    ) -> impl Future<Output = Result<WorkflowStatus, AwsFailure>> + Send;

    /// Update a finding in Security Hub.
    fn update_finding(&self, update: &FindingUpdate) -> impl Future<Output = Result<(), AwsFailure>> + Send;
}
