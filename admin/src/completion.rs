//! The completion: one status change of an execution in, and its outcome recorded and told, once.
//!
//! Calls per outcome, in this order:
//!
//! | call | why |
//! |---|---|
//! | `AssumeRole` (kept per account), `GetAutomationExecution` | what happened |
//! | `BatchGetItem` | claim, chain head, what is in flight, breakers and counts, the task that waits |
//! | `PutItem` of the claim, if nobody changed it | this worker, and no other, tells people ([`Told`]) |
//! | `BatchUpdateFindings` (only for a finding of Security Hub's), one or two `Query` (only of an incident: [`crate::triage`]), `Publish` | people |
//! | `TransactWriteItems` | records, claim, chain head, flight, counts, breakers |
//! | `Query`, `SendMessage`, `DeleteItem`, `PutItem` | only when findings wait for the slot that is free now |
//! | `SendTaskSuccess` | only when a workflow waits |
//!
//! The end of a playbook comes with its outcome, from the function that invoked it, and costs the first row less.
//!
//! An outcome that comes twice costs the first three, and does again what may be left of the last two: they come after
//! the transaction, and a worker may die in between. An event that is not the end of a control runbook costs none.
//!
//! # Who tells
//! People are told before the transaction, because a record says whether they were, and no record is ever changed. So
//! that two workers with the same outcome do not both tell them, the one that will takes the claim first: a conditional
//! put gives it the fence after the one that was read, for the length of a lease. The other finds the claim taken, and its
//! message comes again. If the one dies before the transaction, the lease ends, the message comes again, and people are
//! told twice: that, and only that, is when they are. The price is one call per outcome; the alternatives were a record
//! that claims what has not happened yet, or a second record for every remediation.

use jiff::Timestamp;
use redress_common::arn::{Arn, Partition};
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::item::ItemError;
use redress_common::aws::ledger_store::{Also, AppendError, ClaimWrite, StoreError, TransactError, append_with};
use redress_common::aws::state_table::{Claim, ClaimStatus, Expect, Limits, Snapshot, StateKey};
use redress_common::contract::{Mode, parameter};
use redress_common::ids::{AccountId, ClaimKey, ControlId, Fence, Region, RemediationId};
use redress_common::items::approval::Task;
use redress_common::items::flight::Flight;
use redress_common::ledger::{RecordDraft, detail};
use redress_common::metrics;
use redress_common::names;
use redress_common::notification::Triage;
use redress_common::state::State;
use serde::Deserialize;
use serde_json::json;

use crate::breaker::{self, Standing};
use crate::outcome::{self, Reading, Verdict};
use crate::ports::{Execution, FindingUpdate, Identity, Outside, Place, StartError};
use crate::{backlog, claim, direct};
use crate::{report, tell, triage};

/// How often an outcome is recorded anew because somebody else changed its claim, or an item that many share, meanwhile.
const ROUNDS: u64 = 16;
/// How many waiting findings one outcome brings back. Each that ends brings back others.
const BROUGHT_BACK: usize = 10;

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
    /// Another worker has the same outcome and is telling people of it, or died while it was.
    #[error("another worker is recording the outcome of remediation {0}")]
    Ending(RemediationId),
    /// The outcome is recorded, but what waits for it could not be told.
    #[error("the outcome is recorded, but what waits for it was not told: {0}")]
    Waiting(#[from] AwsFailure),
}

impl From<ItemError> for Retry {
    fn from(error: ItemError) -> Self {
        Self::Store(error.into())
    }
}

impl Retry {
    const fn is_overtaken(&self) -> bool {
        matches!(self, Self::Append(AppendError::ClaimLost | AppendError::AlsoLost(_)))
    }
}

/// What is read of an event of SSM's.
#[derive(Debug, Deserialize)]
struct Event {
    source: String,
    #[serde(rename = "detail-type", default)]
    detail_type: String,
    account: AccountId,
    region: Region,
    detail: serde_json::Value,
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
        self.definition == names::CONTROL_DOCUMENT && is_the_end(&self.status)
    }
}

/// Whether an execution of this status has ended.
#[must_use]
pub fn is_the_end(status: &str) -> bool {
    matches!(
        status,
        "Success"
            | "Failed"
            | "TimedOut"
            | "Cancelled"
            | "Rejected"
            | "CompletedWithSuccess"
            | "CompletedWithFailure"
            | "Exited"
    )
}

/// What an execution says that it is for.
#[derive(Debug)]
struct Claimant {
    id: RemediationId,
    mode: Mode,
    fence: Fence,
    control: ControlId,
    execution: String,
    evidence_key: String,
    key: StateKey,
    request_key: StateKey,
}

/// Whose an outcome is.
enum Whose {
    /// Nobody's here.
    Nobody,
    /// It was recorded before.
    Ended,
    /// The claim's.
    Own(Box<Claim>),
    /// It had the claim once: it happened, so it is written down and told, but neither the claim nor the finding is
    /// touched. Its request item makes sure that it is written once.
    Late {
        /// The claim that it had, from the ledger.
        had: Box<Claim>,
        /// Where its evidence lies, from the ledger.
        evidence_key: String,
        /// Its request item: another worker records it, or did.
        stored: Option<Box<Claim>>,
        /// Who has the claim now.
        successor: RemediationId,
    },
}

/// What this worker has told, whatever else must be tried again.
#[derive(Debug)]
struct Told {
    /// The fence that it took for that.
    fence: Fence,
    /// Whether people were told.
    sent: bool,
    /// What became of the finding.
    updated: String,
    /// What they were told besides; empty of what is no incident.
    triage: String,
}

/// What else an outcome touches, as it was read. What is not readable keeps people from acting ([`crate::decide`]), but
/// no outcome from being recorded.
struct Around {
    flight_key: StateKey,
    flight: Flight,
    limits: Limits,
    standings: Vec<Standing>,
    task: Option<Task>,
}

impl Around {
    fn of(snapshot: &Snapshot, place: &Place, claimant: &Claimant, now: Timestamp) -> Self {
        let standings = breaker::standings(snapshot, &place.account, &claimant.control, now.as_millisecond());
        Self {
            flight_key: StateKey::Flight(place.account.clone(), place.region.clone()),
            flight: readable(snapshot.flight(&place.account, &place.region)),
            limits: readable(snapshot.settings()).limits,
            standings: readable(standings),
            task: readable(snapshot.task(claimant.id)).filter(|task| task.account == place.account),
        }
    }

    /// Whether nothing more could be started here.
    fn is_full(&self, now: Timestamp) -> bool {
        self.flight.free(self.limits.in_flight, now.as_millisecond()) == 0
    }

    /// Takes the remediation out of what is in flight; the write of that, if it was there.
    fn land(&mut self, id: RemediationId, now: Timestamp) -> Result<Option<Also>, ItemError> {
        if !self.flight.running.contains_key(&id) {
            return Ok(None);
        }
        let read = Expect::Version(self.flight.version);
        self.flight = self.flight.without(id, now.as_millisecond());
        Also::put(self.flight_key.clone(), &self.flight, read).map(Some)
    }
}

fn readable<T: Default>(read: Result<T, ItemError>) -> T {
    read.unwrap_or_else(|error| {
        tracing::error!(%error, "an outcome is recorded without it");
        T::default()
    })
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
        let Some((place, name, execution)) = self.ended(event).await? else { return Ok(()) };
        let Some(claimant) = claimant(&place, &name, &execution) else {
            tracing::warn!(execution = name, account = %place.account, "an execution that nobody here started");
            report::metric(&report::count(&metrics::UNCLAIMED_EXECUTIONS, place.account.as_str(), now));
            return Ok(());
        };
        if outcome::overtaken(claimant.fence, &execution) {
            tracing::warn!(remediation = %claimant.id, execution = claimant.execution, "an execution that was overtaken");
            report::metric(&report::count(&metrics::OVERTAKEN_EXECUTIONS, place.account.as_str(), now));
            return Ok(());
        }
        let reading = outcome::read(claimant.mode, &execution);
        let mut told = None;
        for round in 1.. {
            match self.record(&place, &claimant, &reading, &mut told, now).await {
                Err(error) if error.is_overtaken() && round < ROUNDS => {
                    let jitter = rand::random_range(0..=8 * round);
                    tokio::time::sleep(std::time::Duration::from_millis(jitter)).await;
                }
                done => return done,
            }
        }
        Ok(())
    }

    /// What ended where, when an event says so: a runbook, which Systems Manager is asked for, or a playbook, of which our own
    /// function says it.
    async fn ended(&self, event: Event) -> Result<Option<(Place, String, Execution)>, Retry> {
        if event.source == names::EVENT_SOURCE && event.detail_type == names::CONTAINED_DETAIL_TYPE {
            if event.account != self.me.account {
                tracing::error!(account = %event.account, "a member account says how a playbook ended");
                return Ok(None);
            }
            let (place, execution) = direct::ended(event.detail)?;
            let name = execution.steps.first().map(|step| step.name.clone()).unwrap_or_default();
            return Ok(Some((place, name, execution)));
        }
        let detail: EventDetail = serde_json::from_value(event.detail)?;
        if event.source != "aws.ssm" || !detail.is_the_end() {
            return Ok(None);
        }
        let partition = Partition::of_region(&event.region);
        let place = Place { partition, account: event.account, region: event.region };
        let execution = self.outside.execution(&place, &detail.execution_id).await?;
        Ok(Some((place, detail.execution_id, execution)))
    }

    async fn record(
        &self,
        place: &Place,
        claimant: &Claimant,
        reading: &Reading,
        told: &mut Option<Told>,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let mut keys = vec![
            claimant.key.clone(),
            claimant.request_key.clone(),
            StateKey::Chain(place.account.clone()),
            StateKey::Flight(place.account.clone(), place.region.clone()),
            StateKey::Settings,
            StateKey::Task(claimant.id),
        ];
        keys.extend(breaker::keys(&place.account, &claimant.control, now.as_millisecond()));
        let snapshot = self.outside.read(&keys).await?;
        let mut around = Around::of(&snapshot, place, claimant, now);
        // A step of a workflow that changes nothing: the workflow tells what comes of it.
        let aside = matches!(claimant.mode, Mode::DryRun | Mode::Snapshot) && around.task.is_some();
        let was_full = around.is_full(now);
        let (had, stored, evidence_key, successor) = match self.whose(&snapshot, claimant).await? {
            Whose::Nobody => {
                tracing::warn!(remediation = %claimant.id, "an outcome without a claim");
                report::metric(&report::count(&metrics::UNCLAIMED_EXECUTIONS, place.account.as_str(), now));
                return self.follow_up(claimant, reading, &around, false, now).await;
            }
            Whose::Ended => {
                tracing::info!(remediation = %claimant.id, "duplicate");
                return self.follow_up(claimant, reading, &around, was_full, now).await;
            }
            Whose::Own(claim) => {
                let claimed = Timestamp::from_millisecond(claim.claimed_at).unwrap_or_default();
                (claim.clone(), Some(claim), names::evidence_key(claimant.id, claimed), None)
            }
            Whose::Late { had, evidence_key, stored, successor } => (had, stored, evidence_key, Some(successor)),
        };
        let key = if successor.is_some() { &claimant.request_key } else { &claimant.key };
        let ending = self.ending(key, *had, stored.as_deref(), reading.end.state, told.as_ref(), now).await?;
        let told = match told {
            Some(told) => told,
            None => {
                let updated =
                    if successor.is_some() { String::new() } else { self.update_finding(&ending, reading).await };
                let triage = if aside { None } else { self.triage(&ending, reading.end.state, now).await };
                let kept = triage.as_ref().map(triage::kept).unwrap_or_default();
                let sent = !aside && self.publish(&ending, reading, triage, now).await;
                told.insert(Told { fence: ending.fence, sent, updated, triage: kept })
            }
        };
        let mut also: Vec<Also> = around.land(claimant.id, now)?.into_iter().collect();
        let mut opened = None;
        if reading.verdict != Verdict::Silent {
            let (failed, now_ms) = (reading.verdict == Verdict::Bad, now.as_millisecond());
            let ended = breaker::ended(&around.standings, &around.limits, claimant.id, failed, now_ms)?;
            also.extend(ended.also);
            opened = ended.opened;
        }
        let mut records = self.records(&ending, &evidence_key, claimant, reading, told, successor, now);
        let end = match reading.end.state {
            State::Notified if aside => State::Planned,
            State::Verified if aside => State::Applied,
            state => state,
        };
        if let Some(last) = records.last_mut().filter(|last| last.remediation_id == claimant.id) {
            last.execution_status = end;
        }
        // The outcome may come late. A finding made since the runbook looked tells of something that it did not see.
        let claimed = Timestamp::from_millisecond(ending.claimed_at).unwrap_or_default();
        let seen = reading.seen.map_or(now, |seen| seen.max(claimed).min(now));
        let write = ClaimWrite {
            key: key.clone(),
            condition: claim::condition(Some(&ending)),
            claim: claim::finish(&ending, reading.end, seen),
        };
        let head = snapshot.head(&place.account)?;
        append_with(&self.outside, &place.account, head, records, Some(write), also).await?;
        let duration = (now.as_millisecond() - ending.claimed_at).max(0);
        if !ending.subject.sample {
            report::metric(&report::ended(&ending, end, duration, now));
        }
        if let Some(successor) = successor {
            tracing::warn!(remediation = %claimant.id, %successor, "an outcome that came too late");
            report::metric(&report::count(&metrics::LATE_OUTCOMES, place.account.as_str(), now));
        }
        if let Some(opening) = opened {
            tell::opened(&self.outside, &self.me, &opening, now).await?;
        }
        self.follow_up(claimant, reading, &around, was_full, now).await
    }

    async fn whose(&self, snapshot: &Snapshot, claimant: &Claimant) -> Result<Whose, Retry> {
        let Some(claim) = snapshot.claim(&claimant.key)? else { return Ok(Whose::Nobody) };
        if claim.ended.contains(&claimant.id) {
            return Ok(Whose::Ended);
        }
        if claim.remediation_id == claimant.id && claimant.fence <= claim.fence {
            return Ok(Whose::Own(Box::new(claim)));
        }
        let stored = snapshot.claim(&claimant.request_key)?.map(Box::new);
        if stored.as_ref().is_some_and(|stored| stored.ended.contains(&claimant.id)) {
            return Ok(Whose::Ended);
        }
        // What the successor's claim says is the successor's. The ledger knows what this one was started for.
        let records = self.outside.records(claimant.id).await?;
        let Some((had, evidence_key)) = report::claim_of(&records, claimant.mode, claimant.fence) else {
            return Ok(Whose::Nobody);
        };
        Ok(Whose::Late { had: Box::new(had), evidence_key, stored, successor: claim.remediation_id })
    }

    /// Takes the claim for the end of its remediation: nobody else tells people, until the lease is over.
    async fn ending(
        &self,
        key: &StateKey,
        had: Claim,
        stored: Option<&Claim>,
        state: State,
        told: Option<&Told>,
        now: Timestamp,
    ) -> Result<Claim, Retry> {
        // A claim that somebody holds in a state that is an end is one whose end is being recorded.
        let other = stored.filter(|stored| stored.status == ClaimStatus::Leased && stored.state.is_terminal());
        if let Some(held) = other {
            if told.is_some_and(|told| told.fence == held.fence) {
                return Ok(held.clone());
            }
            if now.as_millisecond() < held.lease_until {
                return Err(Retry::Ending(held.remediation_id));
            }
        }
        let ending = Claim {
            fence: Fence(stored.map_or(had.fence, |stored| stored.fence).0 + 1),
            status: ClaimStatus::Leased,
            state,
            lease_until: now.as_millisecond() + self.me.times.lease_ms,
            ..had
        };
        match self.outside.put_if(key, &ending, Expect::Claim(claim::condition(stored))).await {
            Ok(()) => Ok(ending),
            Err(TransactError::Store(error)) => Err(error.into()),
            Err(_) => Err(AppendError::ClaimLost.into()),
        }
    }

    /// What waits for the end of a remediation: findings for its slot, a workflow for its outcome. All of it may be
    /// done twice.
    async fn follow_up(
        &self,
        claimant: &Claimant,
        reading: &Reading,
        around: &Around,
        was_full: bool,
        now: Timestamp,
    ) -> Result<(), Retry> {
        if around.flight.waiting || was_full {
            let place = (&around.flight_key, &around.flight);
            let turns = ("", BROUGHT_BACK);
            backlog::bring_back::<_, Retry>(&self.outside, place, around.limits.in_flight, turns, now).await?;
        }
        let Some(task) = &around.task else { return Ok(()) };
        if matches!(claimant.mode, Mode::Apply | Mode::Restore) && reading.end.state != State::Verified {
            backlog::bring_after(&self.outside, claimant.id).await?;
        }
        let said = |name: &str| reading.detail.get(name).cloned().unwrap_or_default();
        let result = json!({
            "State": reading.end.state,
            "Outcome": said(detail::OUTCOME),
            "PreImageSha256": said(detail::PRE_IMAGE_SHA256),
            "ChangeSha256": said(detail::CHANGE_SHA256),
            "EvidenceKey": claimant.evidence_key,
            "EvidenceVersionId": said(detail::EVIDENCE_VERSION_ID),
            "Error": reading.error,
        });
        Ok(self.outside.end_task(task, &result).await?)
    }

    /// What is known of an incident besides. A dry run contains nothing, and is told as any other.
    async fn triage(&self, claim: &Claim, state: State, now: Timestamp) -> Option<Triage> {
        if !claim.subject.is_of_incident() || claim.mode == Mode::DryRun {
            return None;
        }
        Some(triage::look(&self.outside, claim.remediation_id, &claim.subject, state, "", now).await)
    }

    /// Whether people were told.
    async fn publish(&self, claim: &Claim, reading: &Reading, triage: Option<Triage>, now: Timestamp) -> bool {
        let state = reading.end.state;
        let lacks = (state == State::Verified && !reading.error.is_empty()).then(|| reading.error.clone());
        let next_step = tried(claim, reading).or_else(|| report::next_step(claim, state)).or(lacks);
        let said = tell::Said { next_step, triage, ..tell::Said::default() };
        tell::publish_as(&self.outside, claim.remediation_id, &claim.subject, state, said, now).await
    }

    #[expect(clippy::too_many_arguments, reason = "one call, all of it read already")]
    fn records(
        &self,
        claim: &Claim,
        evidence_key: &str,
        claimant: &Claimant,
        reading: &Reading,
        told: &Told,
        successor: Option<RemediationId>,
        now: Timestamp,
    ) -> Vec<RecordDraft> {
        let mut records: Vec<RecordDraft> = (0..)
            .zip(&reading.states)
            .map(|(nth, state)| {
                let mut record = report::draft(&self.me, claimant.id, &claim.subject, *state, now);
                record.timestamp += nth;
                record.execution_duration = (now.as_millisecond() - claim.claimed_at).max(0);
                record.detail.extend(report::details([
                    (detail::MODE, claimant.mode.as_str().to_owned()),
                    (detail::FENCE, claimant.fence.to_string()),
                    (detail::EXECUTION_ID, claimant.execution.clone()),
                    (detail::UNDOES, claim.undoes.map(|id| id.to_string()).unwrap_or_default()),
                ]));
                record
            })
            .collect();
        if let Some(last) = records.last_mut() {
            last.error_message.clone_from(&reading.error);
            last.notification_sent = told.sent;
            last.detail.extend(reading.detail.clone());
            last.detail.extend(report::details([(detail::REASON, tried(claim, reading).unwrap_or_default())]));
            last.detail.extend(report::details([
                (detail::EVIDENCE_BUCKET, names::evidence_bucket(&claim.subject.account, &self.me.home)),
                (detail::EVIDENCE_KEY, evidence_key.to_owned()),
                (detail::FINDING_UPDATE, told.updated.clone()),
                (detail::TRIAGE, told.triage.clone()),
                (detail::SUPERSEDED_BY, successor.map(|id| id.to_string()).unwrap_or_default()),
            ]));
        }
        if let (Some(undone), State::RolledBack) = (claim.undoes, reading.end.state) {
            let mut record = report::draft(&self.me, undone, &claim.subject, State::RolledBack, now);
            record.notification_sent = told.sent;
            record.detail.insert(detail::UNDONE_BY.to_owned(), claimant.id.to_string());
            records.push(record);
        }
        records
    }

    /// What became of the finding: the workflow status that it has now, or why it has not.
    async fn update_finding(&self, claim: &Claim, reading: &Reading) -> String {
        let subject = &claim.subject;
        let touches = matches!(claim.mode, Mode::Apply | Mode::Restore);
        let (Some(product_arn), true) = (&subject.product_arn, touches) else {
            return String::new();
        };
        let state = reading.end.state;
        let resolved = state == State::Verified;
        let mut note = format!("Redress {state}: {}. RemediationId {}.", subject.action, claim.remediation_id);
        if let Some(next) = report::next_step(claim, state) {
            note.push(' ');
            note.push_str(&next);
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

/// What came of trying the way, when it was for a sample.
fn tried(claim: &Claim, reading: &Reading) -> Option<String> {
    let outcome = reading.detail.get(detail::OUTCOME).map(String::as_str).unwrap_or_default();
    report::tried(claim, reading.end.state, outcome)
}

/// What the execution was started for, or `None` when it was not started by us: its parameters are not ours, or
/// speak of another account than the one that it ran in.
fn claimant(place: &Place, execution_id: &str, execution: &Execution) -> Option<Claimant> {
    let given = |name: &str| execution.parameters.get(name).map(String::as_str);
    let id: RemediationId = given(parameter::REMEDIATION_ID)?.parse().ok()?;
    let control: ControlId = given(parameter::CONTROL)?.parse().ok()?;
    let arn: Arn = given(parameter::RESOURCE_ARN)?.parse().ok()?;
    let fence = Fence(given(parameter::FENCE)?.parse().ok()?);
    let mode = [Mode::DryRun, Mode::Apply, Mode::Restore, Mode::Snapshot]
        .into_iter()
        .find(|mode| given(parameter::MODE).unwrap_or_default() == mode.as_str())?;
    if arn.account().is_some_and(|owner| *owner != place.account) {
        return None;
    }
    let request_key = StateKey::Request(id);
    let key = match mode {
        Mode::DryRun | Mode::Snapshot => request_key.clone(),
        Mode::Apply | Mode::Restore => StateKey::Claim(ClaimKey::new(&place.account, &place.region, &control, &arn)),
    };
    let evidence_key = given(parameter::EVIDENCE_KEY).unwrap_or_default().to_owned();
    Some(Claimant { id, mode, fence, control, execution: execution_id.to_owned(), evidence_key, key, request_key })
}
