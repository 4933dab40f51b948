//! The completion: one status change of an execution in, and its outcome recorded and told, once.
//!
//! Calls per outcome, in this order: `AssumeRole` (kept per account), `GetAutomationExecution`, `BatchGetItem`
//! (claim, chain head), `BatchUpdateFindings` (only for a finding of Security Hub's), `Publish`,
//! `TransactWriteItems` (records, claim, chain head). An outcome that comes twice costs the first three; an
//! event that is not the end of a control runbook costs none.

use jiff::Timestamp;
use redress_common::arn::{Arn, Partition};
use redress_common::aws::ledger_store::{AppendError, ClaimWrite, StoreError, append};
use redress_common::aws::state_table::{Claim, Condition, StateKey};
use redress_common::contract::{Mode, parameter};
use redress_common::ids::{AccountId, ClaimKey, ControlId, Fence, Region, RemediationId};
use redress_common::ledger::{RecordDraft, detail};
use redress_common::names;
use redress_common::state::State;
use serde::Deserialize;

use crate::claim;
use crate::decide::REQUEST_SECONDS;
use crate::outcome::{self, Reading};
use crate::ports::{Execution, FindingUpdate, Identity, Outside, Place, StartError};
use crate::report;

/// How often an outcome is recorded anew because somebody else changed its claim meanwhile.
const ROUNDS: usize = 4;

/// The outcome could not be dealt with now; the queue must bring it again.
#[derive(Debug, thiserror::Error)]
pub enum Retry {
    /// The event is not what EventBridge sends. After some tries the queue puts it aside.
    #[error("the message is no status change of SSM's: {0}")]
    Event(#[from] serde_json::Error),
    /// SSM or STS does not tell.
    #[error(transparent)]
    Execution(#[from] StartError),
    /// The tables do not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain is too busy, or the claim changed hands too often.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What is read of an event of SSM's.
#[derive(Debug, Deserialize)]
struct Event {
    source: String,
    account: AccountId,
    region: Region,
    detail: EventDetail,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventDetail {
    #[serde(default)]
    execution_id: String,
    #[serde(default)]
    definition: String,
    #[serde(default)]
    status: String,
}

impl EventDetail {
    fn is_the_end(&self) -> bool {
        self.definition == names::CONTROL_DOCUMENT
            && matches!(self.status.as_str(), "Success" | "Failed" | "TimedOut" | "Cancelled")
    }
}

/// What an execution says that it is for.
#[derive(Debug)]
struct Claimant {
    id: RemediationId,
    mode: Mode,
    fence: Fence,
    key: StateKey,
    request_key: StateKey,
}

/// The completion function.
#[derive(Debug)]
pub struct Completion<O> {
    outside: O,
    me: Identity,
}

impl<O: Outside> Completion<O> {
    /// One that acts through `outside`, as `me`.
    #[must_use]
    pub const fn new(outside: O, me: Identity) -> Self {
        Self { outside, me }
    }

    /// Deal with the body of one queue message.
    ///
    /// # Errors
    /// When the message must be brought again.
    pub async fn message(&self, body: &str, now: Timestamp) -> Result<(), Retry> {
        let event: Event = serde_json::from_str(body)?;
        if event.source != "aws.ssm" || !event.detail.is_the_end() {
            return Ok(());
        }
        let partition = Partition::of_region(&event.region);
        let place = Place { partition, account: event.account, region: event.region };
        let execution = self.outside.execution(&place, &event.detail.execution_id).await?;
        let Some(claimant) = claimant(&place, &execution) else {
            tracing::warn!(execution = event.detail.execution_id, account = %place.account, "an execution that nobody here started");
            report::metric(&report::count("UnclaimedExecutions", "AccountId", place.account.as_str(), now));
            return Ok(());
        };
        let mut rounds = ROUNDS;
        loop {
            rounds -= 1;
            match self.record(&place, &event.detail.execution_id, &execution, &claimant, now).await {
                Err(Retry::Append(AppendError::ClaimLost)) if rounds > 0 => {}
                done => return done,
            }
        }
    }

    async fn record(
        &self,
        place: &Place,
        execution_id: &str,
        execution: &Execution,
        claimant: &Claimant,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let keys = [claimant.key.clone(), claimant.request_key.clone(), StateKey::Chain(place.account.clone())];
        let snapshot = self.outside.read(&keys).await?;
        let head = snapshot.head(&place.account).map_err(StoreError::from)?;
        let Some(claim) = snapshot.claim(&claimant.key).map_err(StoreError::from)? else {
            tracing::warn!(remediation = %claimant.id, "an outcome without a claim");
            report::metric(&report::count("UnclaimedExecutions", "AccountId", place.account.as_str(), now));
            return Ok(());
        };
        if claim.ended.contains(&claimant.id) {
            tracing::info!(remediation = %claimant.id, "duplicate");
            return Ok(());
        }
        let reading = outcome::read(claimant.mode, execution);
        if claim.remediation_id != claimant.id || claimant.fence > claim.fence {
            let known = snapshot.claim(&claimant.request_key).map_err(StoreError::from)?;
            return self.record_late(place, execution_id, claimant, &claim, known.as_ref(), &reading, head, now).await;
        }
        let state = reading.end.state;
        let updated = self.update_finding(&claim, &reading).await;
        let told = self.publish(claimant.id, &claim, state, now).await;
        let duration = (now.as_millisecond() - claim.claimed_at).max(0);
        let mut records = self.records(&claim, claimant, execution_id, &reading, now);
        if let Some(last) = records.last_mut() {
            last.notification_sent = told;
            last.detail.extend(report::details([(detail::FINDING_UPDATE, updated)]));
        }
        if let (Some(undone), State::RolledBack) = (claim.undoes, state) {
            let mut record = report::draft(&self.me, undone, &claim.subject, State::RolledBack, now);
            record.notification_sent = told;
            record.detail.insert(detail::UNDONE_BY.to_owned(), claimant.id.to_string());
            records.push(record);
        }
        // The outcome may come late. A finding made since the runbook looked tells of something that it did not see.
        let claimed = Timestamp::from_millisecond(claim.claimed_at).unwrap_or_default();
        let seen = reading.seen.map_or(now, |seen| seen.max(claimed).min(now));
        let write = ClaimWrite {
            key: claimant.key.clone(),
            condition: claim::condition(Some(&claim)),
            claim: claim::finish(&claim, reading.end, seen),
        };
        append(&self.outside, &place.account, head, records, Some(write)).await?;
        report::metric(&report::ended(&claim, state, duration, now));
        Ok(())
    }

    /// The outcome of a remediation whose claim somebody else has by now: it happened, so it is written down and told, but
    /// neither the claim nor the finding is touched. Its request item makes sure that it is written once.
    #[expect(clippy::too_many_arguments, reason = "one call, all of it read already")]
    async fn record_late(
        &self,
        place: &Place,
        execution_id: &str,
        claimant: &Claimant,
        claim: &Claim,
        known: Option<&Claim>,
        reading: &Reading,
        head: redress_common::ledger::Head,
        now: Timestamp,
    ) -> Result<(), Retry> {
        if known.is_some() {
            return Ok(());
        }
        tracing::warn!(remediation = %claimant.id, successor = %claim.remediation_id, "an outcome that came too late");
        let mut late = claim::finish(claim, reading.end, now);
        late.remediation_id = claimant.id;
        late.expires_at = Some(now.as_second() + REQUEST_SECONDS);
        let mut records = self.records(&late, claimant, execution_id, reading, now);
        if let Some(last) = records.last_mut() {
            last.notification_sent = self.publish(claimant.id, &late, reading.end.state, now).await;
            last.detail.insert(detail::SUPERSEDED_BY.to_owned(), claim.remediation_id.to_string());
        }
        let write = ClaimWrite { key: claimant.request_key.clone(), condition: Condition::Absent, claim: late };
        append(&self.outside, &place.account, head, records, Some(write)).await?;
        report::metric(&report::count("LateOutcomes", "AccountId", place.account.as_str(), now));
        Ok(())
    }

    /// Whether people were told.
    async fn publish(&self, id: RemediationId, claim: &Claim, state: State, now: Timestamp) -> bool {
        let (message, attributes) = report::notification(id, &claim.subject, state, now);
        match self.outside.publish(&message, &attributes).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(remediation = %id, %error, "nobody could be told");
                false
            }
        }
    }

    fn records(
        &self,
        claim: &Claim,
        claimant: &Claimant,
        execution_id: &str,
        reading: &Reading,
        now: Timestamp,
    ) -> Vec<RecordDraft> {
        let claimed = Timestamp::from_millisecond(claim.claimed_at).unwrap_or_default();
        let mut records: Vec<RecordDraft> = (0..)
            .zip(&reading.states)
            .map(|(nth, state)| {
                let mut record = report::draft(&self.me, claimant.id, &claim.subject, *state, now);
                record.timestamp += nth;
                record.execution_duration = (now.as_millisecond() - claim.claimed_at).max(0);
                record.detail.extend(report::details([
                    (detail::MODE, claimant.mode.as_str().to_owned()),
                    (detail::FENCE, claimant.fence.to_string()),
                    (detail::EXECUTION_ID, execution_id.to_owned()),
                    (detail::UNDOES, claim.undoes.map(|id| id.to_string()).unwrap_or_default()),
                ]));
                record
            })
            .collect();
        if let Some(last) = records.last_mut() {
            last.error_message.clone_from(&reading.error);
            last.detail.extend(reading.detail.clone());
            last.detail.extend(report::details([
                (detail::EVIDENCE_BUCKET, names::evidence_bucket(&claim.subject.account, &self.me.home)),
                (detail::EVIDENCE_KEY, names::evidence_key(claimant.id, claimed)),
            ]));
        }
        records
    }

    /// What became of the finding: the workflow status that it has now, or why it has not.
    async fn update_finding(&self, claim: &Claim, reading: &Reading) -> String {
        let subject = &claim.subject;
        let (Some(product_arn), true) = (&subject.product_arn, claim.mode != Mode::DryRun) else {
            return String::new();
        };
        let state = reading.end.state;
        let resolved = state == State::Verified;
        let mut note = format!("Redress {state}: {}. RemediationId {}.", subject.action, claim.remediation_id);
        if !resolved && state != State::RolledBack {
            note.push_str(" See `redress audit show` for what to do.");
        }
        let update = FindingUpdate { id: subject.finding_id.clone(), product_arn: product_arn.clone(), resolved, note };
        match self.outside.update_finding(&update).await {
            Ok(()) => if resolved { "RESOLVED" } else { "NOTIFIED" }.to_owned(),
            Err(error) => {
                tracing::error!(remediation = %claim.remediation_id, %error, "the finding could not be updated");
                report::sanitised(&format!("failed: {error}"))
            }
        }
    }
}

/// What the execution was started for, or `None` when it was not started by us: its parameters are not ours, or
/// speak of another account than the one that it ran in.
fn claimant(place: &Place, execution: &Execution) -> Option<Claimant> {
    let given = |name: &str| execution.parameters.get(name).map(String::as_str);
    let id: RemediationId = given(parameter::REMEDIATION_ID)?.parse().ok()?;
    let control: ControlId = given(parameter::CONTROL)?.parse().ok()?;
    let arn: Arn = given(parameter::RESOURCE_ARN)?.parse().ok()?;
    let fence = Fence(given(parameter::FENCE)?.parse().ok()?);
    let mode = [Mode::DryRun, Mode::Apply, Mode::Restore]
        .into_iter()
        .find(|mode| given(parameter::MODE).unwrap_or_default() == mode.as_str())?;
    if arn.account().is_some_and(|owner| *owner != place.account) {
        return None;
    }
    let request_key = StateKey::Request(id);
    let key = match mode {
        Mode::DryRun => request_key.clone(),
        Mode::Apply | Mode::Restore => StateKey::Claim(ClaimKey::new(&place.account, &place.region, &control, &arn)),
    };
    Some(Claimant { id, mode, fence, key, request_key })
}
