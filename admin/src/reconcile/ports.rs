//! What the reconciler needs of the world beside [`crate::ports::Outside`] and [`Desk`]. [`crate::aws`] is the real one.
//!
//! No decision is made behind these.

use std::future::Future;

use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::StoreError;
use redress_common::aws::open::Open;
use redress_common::aws::state_table::StateKey;
use redress_common::ids::{AccountId, ControlId, Region};
use redress_common::ledger::Record;
use serde_json::Value;

pub use crate::api::ports::{Desk, Letter, Queue};
use crate::ports::{Place, StartError};

/// A run of the control runbook in a member account, as SSM lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// SSM's id of it.
    pub id: String,
    /// Where it stands, in SSM's words.
    pub status: String,
    /// When it began.
    pub started: Timestamp,
}

/// Which open findings of Security Hub are wanted: failed, active, new, of these controls, updated within this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// At most 20.
    pub controls: Vec<ControlId>,
    /// From then.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

/// A Config rule that is failed somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailedRule {
    /// Its name.
    pub name: String,
    /// Where.
    pub account: AccountId,
    /// Where.
    pub region: Region,
}

/// A part of a list, and whether that is all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<T> {
    /// The first of them.
    pub items: Vec<T>,
    /// Whether there are no more.
    pub whole: bool,
}

/// The world outside, as the reconciler sees it.
pub trait Watch: Desk {
    /// What is open since `from_ms` or later and before `before_ms`, the oldest first: its key, when that is one of ours,
    /// and since when.
    fn open(
        &self,
        open: Open,
        from_ms: i64,
        before_ms: i64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Option<StateKey>, i64)>, AwsFailure>> + Send;

    /// The records of an account since then, at most `limit`.
    fn records_since(
        &self,
        account: &AccountId,
        since_ms: i64,
        limit: usize,
    ) -> impl Future<Output = Result<Part<Record>, StoreError>> + Send;

    /// Runs of the control runbook that began within this time, at most `limit`.
    fn runs(
        &self,
        place: &Place,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Part<Run>, StartError>> + Send;

    /// Findings of Security Hub's, as ASFF, the longest unchanged first, at most `limit`.
    fn updated_findings(
        &self,
        search: &Search,
        limit: usize,
    ) -> impl Future<Output = Result<Part<Value>, AwsFailure>> + Send;

    /// Whether there is a Config aggregator to ask.
    fn has_aggregator(&self) -> bool;

    /// The rules that are failed somewhere in the organisation, after `from`, in a stable order.
    fn failed_rules(
        &self,
        from: &str,
        limit: usize,
    ) -> impl Future<Output = Result<(Vec<FailedRule>, String), AwsFailure>> + Send;

    /// A page of the resources that fail a rule, as Config's `AggregateEvaluationResult`, after `from`; and where the next
    /// page begins, empty when there is none.
    fn failed_resources(
        &self,
        rule: &FailedRule,
        from: &str,
    ) -> impl Future<Output = Result<(Vec<Value>, String), AwsFailure>> + Send;
}
