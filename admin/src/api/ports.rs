//! What the api needs of the world beside [`crate::ports::Outside`]. [`crate::aws`] is the real one.
//!
//! No decision is made behind these.

use std::collections::BTreeMap;
use std::future::Future;

use redress_common::aws::failure::AwsFailure;
use redress_common::ids::{AccountId, ControlId};
use serde_json::Value;

use crate::ports::{Outside, Waiting};

/// A queue that the api reads or sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// What the orchestrator reads.
    Findings,
    /// Findings that could not be handled.
    FindingsDeadLetters,
    /// What the completion function reads.
    Completions,
    /// Outcomes that could not be handled.
    CompletionsDeadLetters,
    /// Messages that were redriven too often.
    Parked,
}

/// A message of a dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it lies.
    pub queue: Queue,
    /// SQS's id of it.
    pub id: String,
    /// What it takes to delete it.
    pub receipt: String,
    /// The message.
    pub body: String,
    /// Its string attributes.
    pub attributes: BTreeMap<String, String>,
    /// When it was sent, Unix milliseconds.
    pub sent_at: i64,
}

/// The world outside, as the api sees it.
pub trait Desk: Outside {
    /// Put an event of ours on the hub.
    fn put_event(&self, detail_type: &str, detail: &Value) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// The items whose keys start so, as plain JSON. Reads the whole table.
    fn items(&self, prefix: &str) -> impl Future<Output = Result<Vec<Value>, AwsFailure>> + Send;

    /// Take messages of a queue, at most `limit`; nobody else sees them for `seconds`.
    fn take(
        &self,
        queue: Queue,
        limit: usize,
        seconds: i32,
    ) -> impl Future<Output = Result<Vec<Letter>, AwsFailure>> + Send;

    /// Let others see a message again at once.
    fn leave(&self, letter: &Letter) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Send a message with string attributes.
    fn send(
        &self,
        queue: Queue,
        body: &str,
        attributes: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Delete a message that was taken.
    fn discard(&self, letter: &Letter) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Take a finding that was put aside out of the backlog again.
    fn forget(&self, waiting: &Waiting) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Security Hub's open failed findings of a control, as ASFF, at most `limit`; and whether there are more.
    fn failed_findings(
        &self,
        control: &ControlId,
        accounts: &[AccountId],
        limit: usize,
    ) -> impl Future<Output = Result<(Vec<Value>, bool), AwsFailure>> + Send;
}
