//! What happened in the lab: every call, every Lambda invocation, every event delivery.
//!
//! Kept in memory, in order, and only ever added to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::faults::{Action, RuleId};

/// One authorisation check of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `ssm:StartAutomationExecution`.
    pub action: String,
    /// The ARN it was made on, or `*`.
    pub resource: String,
    /// What the policies said.
    pub allowed: bool,
}

/// Whether a call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every check passed.
    Allow,
    /// Authentication or a check failed.
    Deny,
}

/// What went wrong with a call on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The rule that struck it.
    pub rule: RuleId,
    /// What it did.
    pub action: Action,
    /// Whether the call was performed all the same.
    pub performed: bool,
}

/// One AWS API call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Place in the record, from 0.
    pub seq: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// The caller's ARN; empty when unsigned or unknown.
    pub principal: String,
    /// The caller's account.
    pub account: String,
    /// The function whose own process called, if one did.
    #[serde(default)]
    pub function: Option<String>,
    /// The Region of the signature.
    pub region: String,
    /// The service of the signature.
    pub service: String,
    /// The API operation.
    pub operation: String,
    /// The checks that were made.
    pub checks: Vec<Check>,
    /// Whether it was let through.
    pub verdict: Verdict,
    /// HTTP status of the answer; 0 when there was none. A lost answer is noted as it was.
    pub status: u16,
    /// AWS's error code, when it failed.
    pub error: Option<String>,
    /// From arrival to answer, in microseconds.
    pub micros: u64,
    /// What went wrong on purpose.
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// One Lambda invocation.
#[derive(Debug, Clone, Serialize)]
pub struct Invocation {
    /// When it was made.
    pub at: Timestamp,
    /// The function's account.
    pub account: String,
    /// The function's name.
    pub function: String,
    /// The runtime API's request id.
    pub request_id: String,
    /// From spawning the process to its first request for work; only for a cold start.
    pub init_micros: Option<u64>,
    /// From handing over the event to its answer.
    pub micros: u64,
    /// The process's CPU time for this invocation, where the system tells.
    pub cpu_micros: Option<u64>,
    /// The process's largest resident set so far, in KiB, where the system tells.
    pub max_rss_kib: Option<u64>,
    /// `X-Amz-Function-Error`, when it failed.
    pub error: Option<String>,
}

/// One event handed to one target.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// When it ended.
    pub at: Timestamp,
    /// The event's id.
    pub event_id: String,
    /// The event's `detail-type`.
    pub detail_type: String,
    /// The rule that matched.
    pub rule_arn: String,
    /// The target.
    pub target_arn: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed; `None` when it was delivered.
    pub error: Option<String>,
    /// Whether a failed event went to the target's dead-letter queue.
    pub dead_lettered: bool,
}

/// The lab's record.
#[derive(Debug, Default)]
pub struct Record {
    calls: Mutex<Vec<Call>>,
    invocations: Mutex<Vec<Invocation>>,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Record {
    /// How many calls there are: the `seq` of the next one.
    #[must_use]
    pub fn mark(&self) -> u64 {
        held(&self.calls).len() as u64
    }

    /// Every call.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        held(&self.calls).clone()
    }

    /// The calls from a [`Record::mark`] on.
    #[must_use]
    pub fn calls_since(&self, mark: u64) -> Vec<Call> {
        from(&held(&self.calls), mark).to_vec()
    }

    /// Whether one of the calls from a [`Record::mark`] on is such a one.
    #[must_use]
    pub fn has_since(&self, mark: u64, holds: impl FnMut(&Call) -> bool) -> bool {
        from(&held(&self.calls), mark).iter().any(holds)
    }

    /// Every Lambda invocation.
    #[must_use]
    pub fn invocations(&self) -> Vec<Invocation> {
        held(&self.invocations).clone()
    }

    /// Every event delivery.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        held(&self.deliveries).clone()
    }

    pub(crate) fn add_call(&self, mut call: Call) {
        let mut calls = held(&self.calls);
        call.seq = calls.len() as u64;
        calls.push(call);
    }

    pub(crate) fn add_invocation(&self, invocation: Invocation) {
        held(&self.invocations).push(invocation);
    }

    pub(crate) fn add_delivery(&self, delivery: Delivery) {
        held(&self.deliveries).push(delivery);
    }
}

/// A call's `seq` is its place.
fn from(calls: &[Call], mark: u64) -> &[Call] {
    usize::try_from(mark).ok().and_then(|mark| calls.get(mark..)).unwrap_or_default()
}

fn held<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
