//! What the reconciler sees of the world, in memory.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use redress_admin::api::ports::{Desk, Letter, Queue};
use redress_admin::ports::{Place, StartError, Waiting};
use redress_admin::reconcile::ports::{FailedRule, Part, Run, Search, Watch};
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::StoreError;
use redress_common::aws::open::Open;
use redress_common::aws::state_table::StateKey;
use redress_common::ids::{AccountId, ControlId};
use redress_common::ledger::Record;
use serde_json::Value;

use super::world::World;

/// What only the reconciler sees.
#[derive(Default)]
pub(crate) struct Watched {
    /// Security Hub's findings, as ASFF.
    pub(crate) findings: Vec<Value>,
    /// The failing rules of the aggregator, and the resources of each; without any there is no aggregator.
    pub(crate) rules: Vec<(FailedRule, Vec<Value>)>,
    /// Config forgets where a list went on.
    pub(crate) tokens_refused: bool,
    /// Runs of the control runbook, by account.
    pub(crate) runs: BTreeMap<AccountId, Vec<Run>>,
    /// The accounts that cannot be entered.
    pub(crate) closed: BTreeSet<AccountId>,
    /// What was sent.
    pub(crate) sent: Vec<(Queue, String)>,
    /// Reading this item fails.
    pub(crate) progress_unreadable: bool,
    /// The process dies in this call.
    pub(crate) dies_in: Option<&'static str>,
}

impl World {
    /// Never comes back when the process is to die here.
    async fn lives(&self, name: &'static str) {
        if self.watched(|watched| watched.dies_in.take_if(|dies| *dies == name)).is_some() {
            std::future::pending::<()>().await;
        }
    }
}

impl Desk for &World {
    async fn put_event(&self, _: &str, _: &Value) -> Result<(), AwsFailure> {
        self.try_call("PutEvents").await
    }

    async fn items(&self, _: &str) -> Result<Vec<Value>, AwsFailure> {
        self.try_call("Scan").await.map(|()| Vec::new())
    }

    async fn take(&self, _: Queue, _: usize, _: i32) -> Result<Vec<Letter>, AwsFailure> {
        self.try_call("ReceiveMessage").await.map(|()| Vec::new())
    }

    async fn leave(&self, _: &Letter) -> Result<(), AwsFailure> {
        self.try_call("ChangeMessageVisibility").await
    }

    async fn send(&self, queue: Queue, body: &str, _: &BTreeMap<String, String>) -> Result<(), AwsFailure> {
        self.try_call("SendMessage").await?;
        self.watched(|watched| watched.sent.push((queue, body.to_owned())));
        Ok(())
    }

    async fn discard(&self, _: &Letter) -> Result<(), AwsFailure> {
        self.try_call("DeleteMessage").await
    }

    async fn forget(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        self.try_call("DeleteItem").await?;
        self.no_longer_waits(waiting);
        Ok(())
    }

    async fn failed_findings(
        &self,
        _: &ControlId,
        _: &[AccountId],
        _: usize,
    ) -> Result<(Vec<Value>, bool), AwsFailure> {
        self.try_call("GetFindings").await.map(|()| (Vec::new(), false))
    }
}

impl Watch for &World {
    async fn open(
        &self,
        open: Open,
        from_ms: i64,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<(Option<StateKey>, i64)>, AwsFailure> {
        self.try_call("Query").await?;
        let mut found: Vec<_> = self.indexed();
        found.retain(|(of, since, _)| of == open.as_str() && (from_ms..before_ms).contains(since));
        found.sort_by_key(|(_, since, key)| (*since, key.to_string()));
        Ok(found.into_iter().take(limit).map(|(_, since, key)| (Some(key), since)).collect())
    }

    async fn records_since(
        &self,
        account: &AccountId,
        since_ms: i64,
        limit: usize,
    ) -> Result<Part<Record>, StoreError> {
        self.call("Query").await;
        let of_account = |record: &Record| record.origin == *account && record.draft.timestamp >= since_ms;
        let items: Vec<Record> = self.records().into_iter().filter(of_account).collect();
        Ok(Part { whole: items.len() < limit, items })
    }

    async fn runs(&self, place: &Place, _: Timestamp, _: Timestamp, _: usize) -> Result<Part<Run>, StartError> {
        self.call("DescribeAutomationExecutions").await;
        if self.watched(|watched| watched.closed.contains(&place.account)) {
            return Err(StartError::refused(false, "the account cannot be entered".to_owned()));
        }
        let items = self.watched(|watched| watched.runs.get(&place.account).cloned());
        Ok(Part { items: items.unwrap_or_default(), whole: true })
    }

    async fn updated_findings(&self, search: &Search, limit: usize) -> Result<Part<Value>, AwsFailure> {
        self.lives("GetFindings").await;
        self.try_call("GetFindings").await?;
        let of = |finding: &Value| {
            let updated: Timestamp = finding["UpdatedAt"].as_str().unwrap().parse().unwrap();
            let control = finding["Compliance"]["SecurityControlId"].as_str().unwrap();
            search.controls.iter().any(|c| c.as_str() == control) && search.from <= updated && updated <= search.until
        };
        let mut found: Vec<Value> =
            self.watched(|watched| watched.findings.iter().filter(|f| of(f)).cloned().collect());
        found.sort_by_key(|finding| finding["UpdatedAt"].to_string());
        let whole = found.len() <= limit;
        found.truncate(limit);
        Ok(Part { items: found, whole })
    }

    fn has_aggregator(&self) -> bool {
        self.watched(|watched| !watched.rules.is_empty())
    }

    async fn failed_rules(&self, from: &str, limit: usize) -> Result<(Vec<FailedRule>, String), AwsFailure> {
        self.try_call("DescribeAggregateComplianceByConfigRules").await?;
        self.watched(|watched| {
            let rules: Vec<FailedRule> = watched.rules.iter().map(|(rule, _)| rule.clone()).collect();
            page(&rules, from, limit, watched.tokens_refused)
        })
    }

    async fn failed_resources(&self, rule: &FailedRule, from: &str) -> Result<(Vec<Value>, String), AwsFailure> {
        self.try_call("GetAggregateComplianceDetailsByConfigRule").await?;
        self.watched(|watched| {
            let (_, found) = watched.rules.iter().find(|(known, _)| known == rule).unwrap();
            page(found, from, 100, watched.tokens_refused)
        })
    }
}

/// A page of a list of Config's, and the token of the next one.
fn page<T: Clone>(all: &[T], from: &str, limit: usize, refused: bool) -> Result<(Vec<T>, String), AwsFailure> {
    if refused && !from.is_empty() {
        return Err(AwsFailure::refused("config", "InvalidNextTokenException", "the token is not valid any more"));
    }
    let start: usize = if from.is_empty() { 0 } else { from.parse().unwrap() };
    let end = all.len().min(start + limit);
    Ok((all[start..end].to_vec(), if end < all.len() { end.to_string() } else { String::new() }))
}
