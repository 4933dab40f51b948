//! `redress-api`, the operators' door: a function behind a URL that asks for AWS credentials.
//!
//! Every change of what Redress may do comes through here, and nowhere else: the state item and the ledger's record
//! of who changed it and why are one transaction. What a request makes of the items is in [`change`]; requests to
//! remediate and to undo go on the hub with the name of who really asks. Nothing here touches a resource.

mod answer;
pub mod campaign;
mod case;
pub mod change;
mod dead_letters;
mod destination;
pub mod door;
pub mod duty;
pub mod letters;
pub mod ports;

use jiff::Timestamp;
use redress_common::aws::ledger_store::{self, AppendError, StoreError};
use redress_common::aws::state_table::{Snapshot, StateKey, Subject};
use redress_common::contract::Mode;
use redress_common::finding::SeverityLabel;
use redress_common::ids::RemediationId;
use redress_common::ledger::{RecordDraft, RemediationType, detail};
use redress_common::names;
use redress_common::operate::{Listing, Request};
use redress_common::state::State;
use serde_json::{Value, json};

use crate::ports::Identity;
use crate::reconcile::watch;
use crate::{report, tell};
use change::{Asking, Change, Step};
use door::{Asked, HttpAnswer, Refused};
use ports::Desk;

/// How often a change is made anew when another operator changed the same item meanwhile.
const ROUNDS: usize = 5;

/// The function.
#[derive(Debug)]
pub struct Api<D> {
    desk: D,
    me: Identity,
    answering: duty::Answering,
}

impl<D: Desk> Api<D> {
    /// The function, in this world.
    pub const fn new(desk: D, me: Identity) -> Self {
        Self { desk, me, answering: duty::Answering::Operators }
    }

    /// The same, with who answers questions.
    #[must_use]
    pub fn answered_by(self, answering: duty::Answering) -> Self {
        Self { answering, ..self }
    }

    /// Answers one HTTP request.
    pub async fn answer(&self, event: Value, now: Timestamp) -> HttpAnswer {
        let result = match door::parse(event, &self.me.account) {
            Ok(asked) => self.grant(&asked, now).await,
            Err(refused) => Err(refused),
        };
        if let Err(refused) = &result {
            tracing::warn!(status = refused.status, code = refused.code, message = refused.message, "refused");
        }
        HttpAnswer::of(&result)
    }

    async fn grant(&self, asked: &Asked, now: Timestamp) -> Result<Value, Refused> {
        duty::check(&asked.by, &asked.request, self.answering)?;
        match &asked.request {
            Request::Remediate { .. } | Request::Undo { .. } => self.ask(asked).await,
            Request::List { what } => self.list(*what).await,
            Request::Answer { .. } => self.take_answer(asked, now).await,
            Request::DlqList { message_id } => self.look(message_id.as_deref()).await,
            Request::DlqRedrive { message_id, reason } => self.redrive(asked, message_id.as_deref(), reason, now).await,
            Request::CaseClose { remediation_id, others, reason } => {
                let of: Vec<RemediationId> = std::iter::once(remediation_id).chain(others).copied().collect();
                self.close_case(asked, &of, reason, now).await
            }
            Request::CampaignPlan { .. } => self.plan_campaign(asked, now).await,
            Request::NotifyTest { destination, reason } => self.try_out(asked, destination, reason, now).await,
            _ => self.change(asked, now).await,
        }
    }

    /// Changes items and the ledger, at once or not at all; then tells people.
    async fn change(&self, asked: &Asked, now: Timestamp) -> Result<Value, Refused> {
        let asking = Asking { by: &asked.by, administrator: &self.me.account, now };
        let mut keys = change::keys(&asked.request)?;
        keys.push(StateKey::Chain(self.me.account.clone()));
        for _ in 0..ROUNDS {
            let read = self.read(&keys).await?;
            let old = self.old_policy(&asked.request, &read).await?;
            let change = match change::step(&asked.request, &read, old.as_ref(), asking)? {
                Step::Same(answer) => return Ok(answer),
                Step::Change(change) => change,
            };
            match self.record(asked, &change, &read, now).await {
                Ok(id) => return Ok(self.told(asked, id, *change, now).await),
                Err(AppendError::AlsoLost(_) | AppendError::ClaimLost) => {}
                Err(error) => return Err(Refused::unavailable(&error)),
            }
        }
        Err(Refused::conflict("changed-meanwhile", "others change the same all the time; look, and ask again"))
    }

    /// The set that a rollback goes back to: the named version, or the one before the present one; none when that was a
    /// shipped set.
    async fn old_policy(
        &self,
        request: &Request,
        read: &Snapshot,
    ) -> Result<Option<redress_common::items::policy::PolicyItem>, Refused> {
        let Request::PolicyRollback { to, .. } = request else { return Ok(None) };
        let version = match to {
            Some(version) => *version,
            None => {
                let settings = read.settings().map_err(|error| Refused::unavailable(&error))?;
                let active = read.policy().map_err(|error| Refused::unavailable(&error))?;
                let Some(before) = change::version_before(&settings, active.as_ref()) else { return Ok(None) };
                before
            }
        };
        let read = self.read(&[StateKey::PolicyVersion(version)]).await?;
        read.policy_version(version).map_err(|error| Refused::unavailable(&error))
    }

    async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, Refused> {
        self.desk.read(keys).await.map_err(|error| Refused::unavailable(&error))
    }

    async fn record(
        &self,
        asked: &Asked,
        change: &Change,
        read: &Snapshot,
        now: Timestamp,
    ) -> Result<RemediationId, AppendError> {
        // One request is one change, and has one id.
        let id = RemediationId::of_rejected(format!("operator:{}:{}", asked.id, now.as_nanosecond()).as_bytes());
        let head = read.head(&self.me.account).map_err(StoreError::from)?;
        let mut draft = self.draft(asked, id, change, State::Applied, now);
        draft.detail.extend(report::details([(detail::ITEMS, watch::items(&change.also))]));
        ledger_store::append_with(&self.desk, &self.me.account, head, vec![draft], None, change.also.clone()).await?;
        tracing::info!(%id, by = %asked.by, code = change.code, action = change.action, "changed");
        Ok(id)
    }

    fn subject(&self, asked: &Asked, change: &Change) -> Subject {
        Subject {
            finding_id: format!("redress/{}", asked.id),
            product_arn: None,
            title: change.reason.clone(),
            severity: SeverityLabel::Informational,
            account: self.me.account.clone(),
            region: Some(self.me.home.clone()),
            control: None,
            resource_id: change.resource.clone(),
            resource_type: change.kind.to_owned(),
            action: change.action.clone(),
            remediation_type: RemediationType::Manual,
            requested_by: asked.by.to_string(),
            reported: None,
            sample: false,
        }
    }

    fn draft(&self, asked: &Asked, id: RemediationId, change: &Change, state: State, now: Timestamp) -> RecordDraft {
        let mut draft = report::draft(&self.me, id, &self.subject(asked, change), state, now);
        draft.detail.extend(report::details([
            (detail::CODE, change.code.to_owned()),
            (detail::REASON, change.reason.clone()),
            (detail::REQUESTED_BY, asked.by.to_string()),
            (detail::BEFORE, change.before.clone()),
            (detail::AFTER, change.after.clone()),
        ]));
        draft
    }

    /// Tells people of a change that was made, and says in the ledger that they were told. The change stands, whether
    /// they can be told or not.
    async fn told(&self, asked: &Asked, id: RemediationId, change: Change, now: Timestamp) -> Value {
        let (message, attributes) = report::notification(id, &self.subject(asked, &change), State::Applied, now);
        let sent = tell::send(&self.desk, id, message, attributes, now).await;
        let mut draft = self.draft(asked, id, &change, State::Notified, now);
        draft.timestamp += 1;
        draft.notification_sent = sent.is_ok();
        draft.error_message = sent.err().map(|error| report::sanitised(&error.to_string())).unwrap_or_default();
        let chain = StateKey::Chain(self.me.account.clone());
        let written = async {
            let head = self.desk.read(&[chain]).await?.head(&self.me.account).map_err(StoreError::from)?;
            ledger_store::append(&self.desk, &self.me.account, head, vec![draft], None).await
        };
        if let Err(error) = written.await {
            tracing::error!(%id, %error, "the ledger does not say that people were told");
        }
        let mut answer = change.answer;
        answer["RemediationId"] = json!(id);
        answer
    }

    /// Puts a request on the hub, in the name of who makes it. Policy decides, and the ledger tells of it.
    async fn ask(&self, asked: &Asked) -> Result<Value, Refused> {
        let (detail_type, request, detail) = match &asked.request {
            Request::Remediate { control, account_id, region, resource_arn, mode, request_id, reason } => {
                if !matches!(mode, Mode::Apply | Mode::DryRun) {
                    return Err(Refused::malformed("bad-mode", "a remediation is `Apply` or `DryRun`"));
                }
                let detail = json!({
                    "Control": control, "AccountId": account_id, "Region": region, "ResourceArn": resource_arn,
                    "Mode": mode, "Reason": report::sanitised(reason), "RequestId": request_id, "RequestedBy": asked.by,
                });
                (names::REMEDIATE_DETAIL_TYPE, request_id, detail)
            }
            Request::Undo { remediation_id, request_id, reason } => {
                let detail = json!({
                    "RemediationId": remediation_id, "Mode": Mode::Restore, "Reason": report::sanitised(reason),
                    "RequestId": request_id, "RequestedBy": asked.by,
                });
                (names::UNDO_DETAIL_TYPE, request_id, detail)
            }
            _ => return Err(Refused::malformed("no-request", "this asks for no remediation")),
        };
        if request.is_empty() || request.len() > 64 || !request.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Refused::malformed("bad-request-id", "a request's id has 1 to 64 printable characters"));
        }
        self.desk.put_event(detail_type, &detail).await.map_err(|error| Refused::unavailable(&error))?;
        Ok(json!({ "RequestId": request, "RequestedBy": asked.by }))
    }

    async fn list(&self, what: Listing) -> Result<Value, Refused> {
        let prefix = match what {
            Listing::Breakers => "breaker#",
            Listing::Campaigns => "campaign#",
            Listing::Approvals => "approval#",
        };
        let items = self.desk.items(prefix).await.map_err(|error| Refused::unavailable(&error))?;
        Ok(json!({ "Items": items }))
    }
}
