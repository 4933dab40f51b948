//! `redress case close`: a person says that an incident is over. One record on the chain of the resource's account; nothing
//! else changes, and what is reported of the resource afterwards is another case.

use jiff::Timestamp;
use redress_common::aws::ledger_store::{self, StoreError};
use redress_common::aws::state_table::StateKey;
use redress_common::ids::RemediationId;
use redress_common::ledger::{Record, RecordDraft, RemediationType, code, detail};
use redress_common::state::State;
use serde_json::{Value, json};

use super::Api;
use super::change::said;
use super::door::{Asked, Refused};
use super::ports::Desk;
use crate::report;

impl<D: Desk> Api<D> {
    /// Closes the case that a remediation belongs to.
    pub(super) async fn close_case(
        &self,
        asked: &Asked,
        of: RemediationId,
        reason: &str,
        now: Timestamp,
    ) -> Result<Value, Refused> {
        let reason = said("reason", reason)?;
        let records = self.desk.records(of).await.map_err(|error| Refused::unavailable(&error))?;
        let Some(last) = records.last().filter(|last| last.is_of_incident()) else {
            let message = format!("remediation {of} belongs to no incident; `redress case list` shows the cases");
            return Err(Refused::absent("no-such-case", message));
        };
        let id = RemediationId::of_rejected(format!("operator:{}:{}", asked.id, now.as_nanosecond()).as_bytes());
        let read = self.read(&[StateKey::Chain(last.origin.clone())]).await?;
        let head = read.head(&last.origin).map_err(|error| Refused::unavailable(&StoreError::from(error)))?;
        let draft = self.closing(asked, id, last, reason, now);
        let written = ledger_store::append(&self.desk, &last.origin, head, vec![draft], None).await;
        written.map_err(|error| Refused::unavailable(&error))?;
        tracing::info!(%id, by = %asked.by, resource = last.draft.resource_id, "a case is closed");
        Ok(json!({ "RemediationId": id, "ResourceId": last.draft.resource_id }))
    }

    fn closing(&self, asked: &Asked, id: RemediationId, last: &Record, reason: String, now: Timestamp) -> RecordDraft {
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
            remediation_id: id,
            timestamp: now.as_millisecond(),
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
