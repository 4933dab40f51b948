//! `redress case close`: a person says that an incident is over. A record for each of its resources on the chain of their account,
//! all of them or none; nothing else changes, and what is reported of the resources afterwards is another case.
//!
//! Which resources are of one case is the caller's to say: whoever may close a case may close the case of each resource by
//! itself. What is checked is that each is of an incident, and that all are of one account.

use jiff::Timestamp;
use redress_common::aws::ledger_store::{self, StoreError};
use redress_common::aws::state_table::StateKey;
use redress_common::ids::RemediationId;
use redress_common::ledger::{Record, RecordDraft, RemediationType, code, detail};
use redress_common::operate::MAX_CASE_OTHERS;
use redress_common::state::State;
use serde_json::{Value, json};

use super::Api;
use super::change::said;
use super::door::{Asked, Refused};
use super::ports::Desk;
use crate::report;

impl<D: Desk> Api<D> {
    /// Closes the case of the resources that these remediations are of.
    pub(super) async fn close_case(
        &self,
        asked: &Asked,
        of: &[RemediationId],
        reason: &str,
        now: Timestamp,
    ) -> Result<Value, Refused> {
        let reason = said("reason", reason)?;
        if of.len() > MAX_CASE_OTHERS + 1 {
            let most = MAX_CASE_OTHERS + 1;
            let message =
                format!("one request closes the case of at most {most} resources; close the others by another");
            return Err(Refused::malformed("too-many", message));
        }
        let mut lasts: Vec<Record> = Vec::new();
        for id in of {
            let records = self.desk.records(*id).await.map_err(|error| Refused::unavailable(&error))?;
            let Some(last) = records.into_iter().next_back().filter(Record::is_of_incident) else {
                let message = format!("remediation {id} belongs to no incident; `redress case list` shows the cases");
                return Err(Refused::absent("no-such-case", message));
            };
            if !lasts.iter().any(|known| known.draft.resource_id == last.draft.resource_id) {
                lasts.push(last);
            }
        }
        let Some(origin) = lasts.first().map(|first| first.origin.clone()) else {
            return Err(Refused::absent("no-such-case", "no remediation of a case is named".to_owned()));
        };
        if let Some(other) = lasts.iter().find(|last| last.origin != origin) {
            let message = format!("a case is of one account; {} is of another than {origin}", other.draft.resource_id);
            return Err(Refused::malformed("two-accounts", message));
        }
        let closings = (0..).zip(&lasts).map(|(nth, last)| self.closing(asked, (nth, last), reason.clone(), now));
        let drafts: Vec<RecordDraft> = closings.collect();
        let closed = drafts
            .iter()
            .map(|draft| json!({ "RemediationId": draft.remediation_id, "ResourceId": draft.resource_id }));
        let closed: Vec<Value> = closed.collect();
        let read = self.read(&[StateKey::Chain(origin.clone())]).await?;
        let head = read.head(&origin).map_err(|error| Refused::unavailable(&StoreError::from(error)))?;
        let written = ledger_store::append(&self.desk, &origin, head, drafts, None).await;
        written.map_err(|error| Refused::unavailable(&error))?;
        tracing::info!(by = %asked.by, resources = closed.len(), "a case is closed");
        let first = closed.first().cloned().unwrap_or_default();
        Ok(json!({ "RemediationId": first["RemediationId"], "ResourceId": first["ResourceId"], "Closed": closed }))
    }

    /// The record that the case of the n-th resource is closed.
    fn closing(&self, asked: &Asked, (nth, last): (i64, &Record), reason: String, now: Timestamp) -> RecordDraft {
        let name = format!("operator:{}:{}:{nth}", asked.id, now.as_nanosecond());
        let known = |key: &'static str| (key, last.detail(key).unwrap_or_default().to_owned());
        let detail = report::details([
            (detail::CODE, code::CASE_CLOSED.to_owned()),
            (detail::REASON, reason),
            (detail::REQUESTED_BY, asked.by.to_string()),
            known(detail::CONTROL),
            known(detail::REGION),
            known(detail::SEVERITY),
        ]);
        RecordDraft {
            remediation_id: RemediationId::of_rejected(name.as_bytes()),
            timestamp: now.as_millisecond() + nth,
            remediation_type: RemediationType::Manual,
            remediation_action: "Close the case".to_owned(),
            execution_status: State::Notified,
            executor_arn: self.me.executor.as_str().to_owned(),
            error_message: String::new(),
            execution_duration: 0,
            notification_sent: false,
            detail,
            expires_at: now.as_second() + i64::from(self.me.retention_days) * 24 * 60 * 60,
            ..last.draft.clone()
        }
    }
}
