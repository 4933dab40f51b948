//! Claims that nobody ends: their outcome is looked up where it happened, and the way that was lost is gone again.
//!
//! | found in the member account | done |
//! |---|---|
//! | the run ended | its outcome goes onto the completions queue again, as SSM's event |
//! | the run still runs, beyond its time | it is stopped; SSM's event of that brings its outcome |
//! | it is a playbook | its function is asked: the end that it recorded goes onto the completions queue again |
//! | no such run, and every run of the time was looked at | the claim is given back as `Failed`, code `never-started` |
//! | for three days it could not be found out | the claim ends as `Failed`, code `end-unknown` |
//! | its workflow is gone, and nobody was asked | the claim ends as `Failed`, code `workflow-lost` |
//! | people did not answer in time | the claim ends as `Expired` |
//! | people answered, and the workflow waits still | the workflow is told again |
//! | people were to be told, and the worker died | they are told |
//!
//! Whatever is not known for certain is left for the next run. Who ends a claim takes it first ([`super`], "Who tells").

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use redress_common::arn::Partition;
use redress_common::aws::ledger_store::{Also, AppendError, ClaimWrite, StoreError, TransactError, append_with};
use redress_common::aws::open::Open;
use redress_common::aws::state_table::{CatalogueError, Claim, ClaimStatus, Expect, Notice, Snapshot, StateKey};
use redress_common::catalogue::{Catalogue, Direct};
use redress_common::contract::parameter;
use redress_common::ids::{Fence, RemediationId};
use redress_common::items::approval::{Approval, ApprovalStatus};
use redress_common::items::reconciler::Progress;
use redress_common::ledger::detail;
use redress_common::names;
use redress_common::state::State;
use serde_json::json;

use super::ports::{Part, Queue, Run, Watch};
use super::{Broken, Counts, Reconciler};
use crate::claim::{self, End, Times};
use crate::orchestrate::pause;
use crate::ports::Place;
use crate::{approval, backlog, completion, direct, report, tell};

/// Claims of each kind that one run of the reconciler looks at. The next run looks at those after them.
const CLAIMS: usize = 200;
/// For so long beyond its time a claim is kept of which nobody can say what became of its runbook.
const UNKNOWN: SignedDuration = SignedDuration::from_hours(72);
/// Runs of the control runbook that are listed in one place.
const RUNS: usize = 1_000;
/// How often an end is written anew because somebody else changed an item that many share.
const ROUNDS: u64 = 16;
/// SSM's clock is not ours.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Why a claim ends here. With a state that is an end these are also the mark of a run that was about to tell people.
const NEVER_STARTED: &str = "never-started";
const WORKFLOW_LOST: &str = "workflow-lost";
const END_UNKNOWN: &str = "end-unknown";
const TOLD_LATE: &str = "told-late";
const EXPIRED: &str = "expired";

/// What is known of a claim's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Not everything was looked at.
    Unknown,
    /// There is none.
    Absent,
    /// It is a playbook, and its end was told once more.
    Recalled,
    /// There is one.
    Found {
        /// SSM's id of it.
        id: String,
        /// Where it stands.
        status: String,
    },
}

/// What is to be done about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Nothing, for now.
    Leave,
    /// The run ended: its outcome is sent again.
    Resend {
        /// SSM's id of it.
        run: String,
        /// How it ended.
        status: String,
    },
    /// Nothing more: its end was told.
    Recalled,
    /// It runs for too long.
    Stop {
        /// SSM's id of it.
        run: String,
    },
    /// It never began.
    NeverStarted,
    /// Its workflow is gone, or never was, and changed nothing.
    WorkflowLost,
    /// For a long time nobody could find out.
    EndUnknown,
    /// Nobody told people.
    TellLate,
    /// Nobody answered in time.
    Expire,
    /// Somebody answered, and the workflow does not know.
    TellWorkflow,
}

/// Until when a claim is left alone, Unix milliseconds: as long as it may be somebody's work.
#[must_use]
pub fn left_until(claim: &Claim, times: Times) -> i64 {
    match claim.state {
        // People were asked: the lease is as long as they may take.
        State::AwaitingApproval => claim.lease_until,
        // Whoever recorded its end may have died: the message comes again after the lease.
        state if state.is_terminal() && being_ended(claim).is_none() => {
            claim.lease_until.saturating_add(times.run_ms - times.lease_ms)
        }
        _ => claim::busy_until(claim, times),
    }
}

/// Why a run of the reconciler was about to end it, when one was.
fn being_ended(claim: &Claim) -> Option<&str> {
    let notice = claim.notice.as_ref().filter(|_| claim.state.is_terminal())?;
    Some(notice.code.as_str())
}

/// What is to be done about a claim whose run is known like this.
#[must_use]
pub fn repair(claim: &Claim, run: &Lookup, times: Times, now: Timestamp) -> Repair {
    let left_until = left_until(claim, times);
    if claim.status != ClaimStatus::Leased || now.as_millisecond() < left_until {
        return Repair::Leave;
    }
    let unknown_ms = i64::try_from(UNKNOWN.as_millis()).unwrap_or(i64::MAX);
    let unknown = || if now.as_millisecond() - left_until < unknown_ms { Repair::Leave } else { Repair::EndUnknown };
    match (claim.state, run) {
        (State::Planned, _) => Repair::TellLate,
        (State::AwaitingApproval, _) => Repair::Expire,
        _ if being_ended(claim) == Some(TOLD_LATE) => Repair::TellLate,
        _ if being_ended(claim) == Some(EXPIRED) => Repair::Expire,
        _ if being_ended(claim) == Some(WORKFLOW_LOST) => Repair::WorkflowLost,
        (_, Lookup::Unknown | Lookup::Absent) if being_ended(claim) == Some(END_UNKNOWN) => Repair::EndUnknown,
        (_, Lookup::Unknown) => unknown(),
        (_, Lookup::Recalled) => Repair::Recalled,
        // Its end was being recorded: SSM has forgotten it, or it ran somewhere else. Nobody can say.
        (state, Lookup::Absent) if state.is_terminal() && being_ended(claim) != Some(NEVER_STARTED) => unknown(),
        (_, Lookup::Absent) => Repair::NeverStarted,
        (_, Lookup::Found { id, status }) if completion::is_the_end(status) => {
            Repair::Resend { run: id.clone(), status: status.clone() }
        }
        (_, Lookup::Found { status, .. }) if status == "Cancelling" => Repair::Leave,
        (_, Lookup::Found { id, .. }) => Repair::Stop { run: id.clone() },
    }
}

/// What is to be done about a claim that waits for people.
#[must_use]
pub fn repair_question(
    claim: &Claim,
    approval: Option<&Approval>,
    task_waits: bool,
    times: Times,
    now: Timestamp,
) -> Repair {
    let answered = approval.filter(|approval| approval.remediation_id == claim.remediation_id).and_then(|approval| {
        let ended = matches!(approval.status, ApprovalStatus::Approved | ApprovalStatus::Denied);
        approval.votes.last().filter(|_| ended).map(|vote| vote.at)
    });
    match answered {
        _ if claim.status != ClaimStatus::Leased || claim.state != State::AwaitingApproval => Repair::Leave,
        // Nobody is asked, or not yet: the workflow may make its plan.
        _ if approval.is_none() => {
            let gone = now.as_millisecond() >= claim::busy_until(claim, times);
            if gone { Repair::WorkflowLost } else { Repair::Leave }
        }
        // Whoever took the answer may be about to tell the workflow.
        Some(at) if task_waits && now.as_millisecond() - at >= times.lease_ms => Repair::TellWorkflow,
        _ => repair(claim, &Lookup::Unknown, times, now),
    }
}

/// The event that SSM sends when a run ends.
#[must_use]
pub fn status_event(place: &Place, run: &str, status: &str, now: Timestamp) -> String {
    let (partition, account, region) = (place.partition, &place.account, &place.region);
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(),
        "detail-type": "EC2 Automation Execution Status-change Notification", "source": "aws.ssm",
        "account": account, "time": now.to_string(), "region": region,
        "resources": [format!("arn:{partition}:ssm:{region}:{account}:automation-execution/{run}")],
        "detail": { "ExecutionId": run, "Definition": names::CONTROL_DOCUMENT, "Status": status },
    })
    .to_string()
}

/// Where a claim's runbook runs.
fn place_of(claim: &Claim) -> Option<Place> {
    let region = claim.subject.region.clone()?;
    Some(Place { partition: Partition::of_region(&region), account: claim.subject.account.clone(), region })
}

fn name_of(place: &Place) -> String {
    format!("{}#{}", place.account, place.region)
}

/// The runs of one place: which remediations they are for is found out as far as it is needed.
#[derive(Default)]
struct Runs {
    listed: Vec<Run>,
    whole: bool,
    remediation: BTreeMap<String, Option<RemediationId>>,
}

impl<W: Watch> Reconciler<W> {
    /// Ends what nobody ended.
    pub(super) async fn stuck(&self, progress: &mut Progress, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        let claims = self.claims(Open::Work, &mut progress.work_from, now.as_millisecond(), &mut counts).await?;
        // About which people are asked by now is in the other list.
        let is_due = |claim: &Claim| {
            claim.state != State::AwaitingApproval && now.as_millisecond() >= left_until(claim, self.me.times)
        };
        let due: Vec<(StateKey, Claim)> = claims.into_iter().filter(|(_, claim)| is_due(claim)).collect();
        let catalogue = self.playbooks(&due).await?;
        let direct = |claim: &Claim| {
            let entry = claim.subject.control.as_ref().and_then(|control| catalogue.0.get(control));
            entry.and_then(|entry| entry.direct.clone())
        };
        let by_runbook = due.iter().map(|(_, claim)| claim).filter(|claim| direct(claim).is_none());
        let mut places = self.runs_of(by_runbook, now).await;
        for (key, claim) in due {
            let lookup = match direct(&claim) {
                Some(direct) => self.recall(&claim, &direct).await,
                None => self.look_up(&claim, &mut places).await,
            };
            let repair = repair(&claim, &lookup, self.me.times, now);
            self.carry_out(&key, &claim, &repair, &mut counts, now).await;
        }
        let asked = self.claims(Open::Approval, &mut progress.asked_from, i64::MAX, &mut counts).await?;
        for (key, claim) in asked {
            let repair = self.question(&claim, now).await;
            let repair = counts.or_failed("approval", repair).unwrap_or(Repair::Leave);
            self.carry_out(&key, &claim, &repair, &mut counts, now).await;
        }
        Ok(counts)
    }

    /// Open claims, read anew: the index may lag. Where there are more than one run looks at, the next one goes on after
    /// these: what can only be left alone is not in the way of the others.
    async fn claims(
        &self,
        open: Open,
        from_ms: &mut i64,
        before_ms: i64,
        counts: &mut Counts,
    ) -> Result<Vec<(StateKey, Claim)>, Broken> {
        let found = self.outside.open(open, *from_ms, before_ms, CLAIMS).await?;
        let last = found.last().filter(|_| found.len() >= CLAIMS);
        *from_ms = last.map_or(0, |(_, since)| since.saturating_add(1));
        let keys: Vec<StateKey> = found.into_iter().filter_map(|(key, _)| key).collect();
        let mut claims = Vec::new();
        let read = self.read_claims(&keys).await?;
        for (key, claim) in keys.into_iter().zip(read) {
            match claim {
                Ok(Some(claim)) if claim.status == ClaimStatus::Leased => claims.push((key, claim)),
                Ok(_) => {}
                Err(error) => counts.failed("claim", &error),
            }
        }
        Ok(claims)
    }

    async fn question(&self, claim: &Claim, now: Timestamp) -> Result<Repair, StoreError> {
        let id = claim.remediation_id;
        let asking = asking_id(claim);
        let mut keys = vec![StateKey::Approval(id)];
        keys.extend(asking.map(StateKey::Task));
        let snapshot = self.outside.read(&keys).await?;
        let approval = snapshot.approval(id)?;
        let task = asking.map(|asking| snapshot.task(asking)).transpose()?.flatten();
        Ok(repair_question(claim, approval.as_ref(), task.is_some(), self.me.times, now))
    }

    /// What ran where these claims' runbooks run, since the first of them.
    async fn runs_of<'a>(&self, claims: impl Iterator<Item = &'a Claim>, now: Timestamp) -> BTreeMap<String, Runs> {
        let mut wanted: BTreeMap<String, (Place, i64)> = BTreeMap::new();
        for claim in claims.filter(|claim| claim.state != State::Planned) {
            if let Some(place) = place_of(claim) {
                let (_, from) = wanted.entry(name_of(&place)).or_insert((place, claim.claimed_at));
                *from = claim.claimed_at.min(*from);
            }
        }
        let mut places = BTreeMap::new();
        for (name, (place, from)) in wanted {
            let from = Timestamp::from_millisecond(from).unwrap_or_default();
            let from = from.checked_sub(SKEW).unwrap_or(from);
            let runs = match self.outside.runs(&place, from, now, RUNS).await {
                Ok(Part { items, whole }) => Runs { listed: items, whole, remediation: BTreeMap::new() },
                Err(error) => {
                    tracing::error!(account = %place.account, region = %place.region, %error, "runs cannot be listed");
                    Runs::default()
                }
            };
            places.insert(name, runs);
        }
        places
    }

    /// The catalogue, when anything is due that might be a playbook's.
    async fn playbooks(&self, due: &[(StateKey, Claim)]) -> Result<Catalogue, Broken> {
        if due.is_empty() {
            return Ok(Catalogue::default());
        }
        let snapshot = self.outside.read(&[StateKey::Catalogue]).await?;
        match snapshot.catalogue() {
            Err(CatalogueError::Absent) => Ok(Catalogue::default()),
            catalogue => Ok(catalogue?),
        }
    }

    async fn recall(&self, claim: &Claim, direct: &Direct) -> Lookup {
        if claim.state == State::Planned {
            return Lookup::Unknown;
        }
        let Some(place) = place_of(claim) else { return Lookup::Absent };
        let records = match self.outside.records(claim.remediation_id).await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(remediation = %claim.remediation_id, %error, "its records cannot be read");
                return Lookup::Unknown;
            }
        };
        let Some(start) = direct::again(&self.me, &records, claim, direct) else { return Lookup::Absent };
        match self.outside.recall(&place, &start).await {
            Ok(true) => Lookup::Recalled,
            Ok(false) => Lookup::Absent,
            Err(error) => {
                tracing::error!(remediation = %claim.remediation_id, %error, "a playbook cannot be recalled");
                Lookup::Unknown
            }
        }
    }

    async fn look_up(&self, claim: &Claim, places: &mut BTreeMap<String, Runs>) -> Lookup {
        if claim.state == State::Planned {
            return Lookup::Unknown;
        }
        let Some(place) = place_of(claim) else { return Lookup::Absent };
        let name = name_of(&place);
        let Some(runs) = places.get_mut(&name) else { return Lookup::Unknown };
        // Its start is tried within the lease.
        let granted = claim.lease_until - self.me.times.lease_ms;
        let near = |run: &Run| (run.started.as_millisecond() - granted).abs();
        let mut nearest: Vec<Run> = runs.listed.clone();
        nearest.sort_by_key(near);
        let mut whole = runs.whole;
        for run in nearest {
            let known = match runs.remediation.get(&run.id) {
                Some(known) => *known,
                None => match self.outside.execution(&place, &run.id).await {
                    Ok(execution) => {
                        let id = execution.parameters.get(parameter::REMEDIATION_ID).and_then(|id| id.parse().ok());
                        runs.remediation.insert(run.id.clone(), id);
                        id
                    }
                    Err(error) => {
                        tracing::error!(run = run.id, %error, "a run cannot be read");
                        whole = false;
                        continue;
                    }
                },
            };
            if known == Some(claim.remediation_id) {
                return Lookup::Found { id: run.id, status: run.status };
            }
        }
        if whole { Lookup::Absent } else { Lookup::Unknown }
    }

    async fn carry_out(&self, key: &StateKey, claim: &Claim, repair: &Repair, counts: &mut Counts, now: Timestamp) {
        let id = claim.remediation_id;
        let (name, done) = match repair {
            Repair::Leave => return,
            Repair::Resend { run, status } => ("resent", self.resend(claim, run, status, now).await),
            Repair::Recalled => ("recalled", Ok(())),
            Repair::Stop { run } => ("stopped", self.stop(claim, run, now).await),
            Repair::NeverStarted => {
                let reason = "no run of the runbook was found in the member account: it never started".to_owned();
                ("never-started", self.end(key, claim, State::Failed, NEVER_STARTED, reason, now).await)
            }
            Repair::WorkflowLost => {
                let reason = "its workflow ended, or was never started, before anything was changed";
                ("workflow-lost", self.end(key, claim, State::Failed, WORKFLOW_LOST, reason.to_owned(), now).await)
            }
            Repair::EndUnknown => {
                let reason = "for three days the member account did not say what became of its runbook: whether it ran, and what it changed, is not known";
                ("end-unknown", self.end(key, claim, State::Failed, END_UNKNOWN, reason.to_owned(), now).await)
            }
            Repair::TellLate => {
                let reason = "the worker that was to tell people died".to_owned();
                ("told-late", self.end(key, claim, State::Notified, TOLD_LATE, reason, now).await)
            }
            Repair::Expire => {
                let reason = "nobody answered in time; nothing was changed".to_owned();
                ("expired", self.end(key, claim, State::Expired, EXPIRED, reason, now).await)
            }
            Repair::TellWorkflow => ("workflow-told", self.tell_workflow(claim, now).await),
        };
        match done {
            Ok(()) => {
                tracing::warn!(remediation = %id, repair = name, account = %claim.subject.account, "repaired");
                counts.done(name);
            }
            // Its own worker, or its outcome, was quicker.
            Err(Broken::Append(AppendError::ClaimLost)) => {}
            Err(error) => counts.failed(name, &error),
        }
    }

    async fn resend(&self, claim: &Claim, run: &str, status: &str, now: Timestamp) -> Result<(), Broken> {
        let Some(place) = place_of(claim) else { return Ok(()) };
        let body = status_event(&place, run, status, now);
        Ok(self.outside.send(Queue::Completions, &body, &BTreeMap::new()).await?)
    }

    /// Written down before it is done: whoever reads the member's CloudTrail finds the reason here.
    async fn stop(&self, claim: &Claim, run: &str, now: Timestamp) -> Result<(), Broken> {
        let Some(place) = place_of(claim) else { return Ok(()) };
        let mut record = report::draft(&self.me, claim.remediation_id, &claim.subject, State::Applying, now);
        let minutes = (now.as_millisecond() - claim.claimed_at) / 60_000;
        record.detail.extend(report::details([
            (detail::CODE, "stopped".to_owned()),
            (detail::REASON, format!("the runbook still ran {minutes} minutes after its claim, longer than it may")),
            (detail::EXECUTION_ID, run.to_owned()),
            (detail::FENCE, claim.fence.to_string()),
        ]));
        self.append(&claim.subject.account, vec![record], None, Vec::new()).await?;
        Ok(self.outside.stop_execution(&place, run).await?)
    }

    /// Ends a claim whose work will not be heard of, and takes it out of what is in flight.
    async fn end(
        &self,
        key: &StateKey,
        read: &Claim,
        state: State,
        code: &'static str,
        reason: String,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let (id, account) = (read.remediation_id, &read.subject.account);
        let flight_key = read.subject.region.clone().map(|region| StateKey::Flight(account.clone(), region));
        let mut keys =
            vec![StateKey::Chain(account.clone()), StateKey::Approval(id), StateKey::Task(id), StateKey::Catalogue];
        keys.extend(flight_key.clone());
        keys.extend(asking_id(read).map(StateKey::Task));
        let ending = self.ending(key, read, state, code, now).await?;
        let mut record = report::draft(&self.me, id, &read.subject, state, now);
        record.error_message = if state == State::Failed { reason.clone() } else { String::new() };
        record.execution_duration = (now.as_millisecond() - read.claimed_at).max(0);
        record.detail.extend(report::details([
            (detail::CODE, code.to_owned()),
            (detail::REASON, reason),
            (detail::MODE, read.mode.as_str().to_owned()),
            (detail::FENCE, read.fence.to_string()),
        ]));
        let end = End { state, compliant: false, changed: code == END_UNKNOWN, undone: false };
        let mut told = false;
        for round in 1.. {
            let snapshot = self.outside.read(&keys).await?;
            // What was never started may be sent again, as after a start that failed. A workflow starts but once.
            let again = code == NEVER_STARTED && !by_workflow(&snapshot, read);
            let ended = if again { claim::release(&ending, state) } else { claim::finish(&ending, end, now) };
            let ended = Claim { notice: read.notice.clone().filter(|_| being_ended(read).is_none()), ..ended };
            let write = ClaimWrite { key: key.clone(), condition: claim::condition(Some(&ending)), claim: ended };
            let mut also = Vec::new();
            if let (Some(key), Some(region)) = (&flight_key, &read.subject.region) {
                let flight = snapshot.flight(account, region)?;
                if flight.running.contains_key(&id) {
                    let next = flight.without(id, now.as_millisecond());
                    also.push(Also::put(key.clone(), &next, Expect::Version(flight.version))?);
                }
            }
            if state == State::Expired {
                also.extend(expired(&snapshot, id)?);
            }
            if !told {
                record.notification_sent = tell::publish(&self.outside, id, &read.subject, state, now).await;
                told = true;
            }
            let (head, records) = (snapshot.head(account)?, vec![record.clone()]);
            match append_with(&self.outside, account, head, records, Some(write), also).await {
                // Somebody else came or went in flight.
                Err(AppendError::AlsoLost(_)) if round < ROUNDS => pause(round).await,
                written => {
                    written?;
                    if read.state == State::AwaitingApproval {
                        backlog::bring_after(&self.outside, id).await?;
                    }
                    return self.tell_waiting(&snapshot, read, state, code, now).await;
                }
            }
        }
        Ok(())
    }

    /// A workflow may wait for its runbook, or for the answer.
    async fn tell_waiting(
        &self,
        snapshot: &Snapshot,
        claim: &Claim,
        state: State,
        code: &'static str,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let ran = json!({ "State": state, "Outcome": "", "Error": code });
        let answer = json!({ "Status": ApprovalStatus::Expired, "By": "", "At": now.to_string() });
        for (waiting, told) in [(Some(claim.remediation_id), ran), (asking_id(claim), answer)] {
            if let Some(task) = waiting.map(|waiting| snapshot.task(waiting)).transpose()?.flatten() {
                self.outside.end_task(&task, &told).await?;
            }
        }
        Ok(())
    }

    /// Takes the claim for its end: nobody else tells people, until the lease is over.
    async fn ending(
        &self,
        key: &StateKey,
        read: &Claim,
        state: State,
        code: &'static str,
        now: Timestamp,
    ) -> Result<Claim, Broken> {
        let ending = Claim {
            fence: Fence(read.fence.0 + 1),
            state,
            lease_until: now.as_millisecond() + self.me.times.lease_ms,
            notice: Some(Notice { code: code.to_owned(), at: now.as_millisecond() }),
            ..read.clone()
        };
        match self.outside.put_if(key, &ending, Expect::Claim(claim::condition(Some(read)))).await {
            Ok(()) => Ok(ending),
            Err(TransactError::Store(error)) => Err(error.into()),
            Err(_) => Err(AppendError::ClaimLost.into()),
        }
    }

    async fn tell_workflow(&self, claim: &Claim, now: Timestamp) -> Result<(), Broken> {
        let Some(asking) = asking_id(claim) else { return Ok(()) };
        let keys = [StateKey::Approval(claim.remediation_id), StateKey::Task(asking)];
        let snapshot = self.outside.read(&keys).await?;
        let (Some(approval), Some(task)) = (snapshot.approval(claim.remediation_id)?, snapshot.task(asking)?) else {
            return Ok(());
        };
        let by = approval.votes.last().map(|vote| vote.by.clone()).unwrap_or_default();
        let told = json!({ "Status": approval.status, "By": by, "At": now.to_string() });
        Ok(self.outside.end_task(&task, &told).await?)
    }
}

/// Whether a workflow may have been started for a claim: what it was told once it is not told again.
fn by_workflow(snapshot: &Snapshot, claim: &Claim) -> bool {
    let id = claim.remediation_id;
    let waits = !matches!((snapshot.approval(id), snapshot.task(id)), (Ok(None), Ok(None)));
    // Of a control that nobody knows, nobody knows how it is worked on either.
    let by_control = |control| match snapshot.catalogue() {
        Ok(catalogue) => catalogue.0.get(control).is_none_or(|entry| entry.workflow.is_some()),
        Err(_) => true,
    };
    waits || claim.subject.control.as_ref().is_none_or(by_control)
}

/// The question, when nobody ended it.
fn expired(snapshot: &Snapshot, id: RemediationId) -> Result<Option<Also>, StoreError> {
    let Some(approval) = snapshot.approval(id)?.filter(|approval| approval.status == ApprovalStatus::Pending) else {
        return Ok(None);
    };
    let (read, status) = (approval.version, ApprovalStatus::Expired);
    let next = Approval { version: read + 1, status, ..approval };
    Ok(Some(Also::put(StateKey::Approval(id), &next, Expect::Version(read))?))
}

/// Under which the workflow waits for people's answer.
fn asking_id(claim: &Claim) -> Option<RemediationId> {
    approval::claim_key(&claim.subject).map(|key| approval::asking_id(&key, claim.remediation_id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;
    use redress_common::items::approval::Vote;

    const TIMES: Times = Times { lease_ms: 300_000, run_ms: 1_200_000 };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn claim(state: State) -> Claim {
        Claim { state, lease_until: TIMES.lease_ms, ..fixture::claim() }
    }

    fn found(status: &str) -> Lookup {
        Lookup::Found { id: "e".to_owned(), status: status.to_owned() }
    }

    #[test]
    fn nothing_is_done_about_a_claim_within_its_time() {
        for (state, until) in [
            (State::Claimed, TIMES.run_ms),
            (State::Verified, TIMES.run_ms),
            (State::Planned, TIMES.lease_ms),
            (State::AwaitingApproval, TIMES.lease_ms),
        ] {
            for run in [Lookup::Absent, found("Success"), found("InProgress")] {
                assert_eq!(repair(&claim(state), &run, TIMES, at(until - 1)), Repair::Leave, "{state} {run:?}");
            }
            assert_ne!(repair(&claim(state), &found("Success"), TIMES, at(until)), Repair::Leave, "{state}");
        }
        let done = Claim { status: ClaimStatus::Done, ..claim(State::Claimed) };
        assert_eq!(repair(&done, &Lookup::Absent, TIMES, at(i64::from(i32::MAX))), Repair::Leave);
    }

    #[test]
    fn of_a_claim_beyond_its_time_the_run_says_what_to_do() {
        let late = at(TIMES.run_ms);
        let run = || "e".to_owned();
        for (lookup, expected) in [
            (Lookup::Unknown, Repair::Leave),
            (Lookup::Absent, Repair::NeverStarted),
            (found("Success"), Repair::Resend { run: run(), status: "Success".to_owned() }),
            (found("TimedOut"), Repair::Resend { run: run(), status: "TimedOut".to_owned() }),
            (found("InProgress"), Repair::Stop { run: run() }),
            (found("Pending"), Repair::Stop { run: run() }),
            (found("Cancelling"), Repair::Leave),
        ] {
            assert_eq!(repair(&claim(State::Claimed), &lookup, TIMES, late), expected, "{lookup:?}");
        }
        assert_eq!(repair(&claim(State::Verified), &Lookup::Absent, TIMES, late), Repair::Leave);
    }

    #[test]
    fn a_claim_of_which_nobody_can_say_anything_ends_after_three_days() {
        let days = TIMES.run_ms + 3 * 24 * 3_600_000;
        for (state, lookup) in [(State::Claimed, Lookup::Unknown), (State::Verified, Lookup::Absent)] {
            let look = |at_ms| repair(&claim(state), &lookup, TIMES, at(at_ms));
            assert_eq!((look(days - 1), look(days)), (Repair::Leave, Repair::EndUnknown), "{state}");
        }
        let known = repair(&claim(State::Claimed), &found("Success"), TIMES, at(days));
        assert_eq!(known, Repair::Resend { run: "e".to_owned(), status: "Success".to_owned() });
    }

    #[test]
    fn a_claim_that_a_run_was_about_to_end_is_ended_after_its_lease() {
        for (state, code, expected) in [
            (State::Failed, NEVER_STARTED, Repair::NeverStarted),
            (State::Failed, WORKFLOW_LOST, Repair::WorkflowLost),
            (State::Failed, END_UNKNOWN, Repair::EndUnknown),
            (State::Notified, TOLD_LATE, Repair::TellLate),
            (State::Expired, EXPIRED, Repair::Expire),
        ] {
            let notice = Some(Notice { code: code.to_owned(), at: 0 });
            let taken = Claim { notice, ..claim(state) };
            let look = |at_ms| repair(&taken, &Lookup::Absent, TIMES, at(at_ms));
            assert_eq!((look(TIMES.lease_ms - 1), look(TIMES.lease_ms)), (Repair::Leave, expected), "{code}");
        }
    }

    #[test]
    fn a_question_ends_with_its_time_and_an_answer_that_nobody_heard_is_told_again() {
        let answered = |status, at| Approval {
            version: 2,
            remediation_id: fixture::claim().remediation_id,
            status,
            subject: fixture::subject(),
            plan_sha256: String::new(),
            plan_id: fixture::claim().remediation_id,
            plan_evidence_key: String::new(),
            impact: None,
            needed: 1,
            four_eyes: false,
            policies: Vec::new(),
            votes: vec![Vote { by: "jo".to_owned(), approve: true, at, reason: "r".to_owned() }],
            asked_at: 0,
            expires_at_ms: 0,
            expires_at: 0,
        };
        let claim = Claim { lease_until: 10_000_000, ..claim(State::AwaitingApproval) };
        let approved = answered(ApprovalStatus::Approved, 0);
        let look = |approval: Option<&Approval>, task, now| repair_question(&claim, approval, task, TIMES, at(now));
        assert_eq!(look(Some(&approved), true, TIMES.lease_ms), Repair::TellWorkflow);
        assert_eq!(look(Some(&approved), true, TIMES.lease_ms - 1), Repair::Leave, "it is being told");
        assert_eq!(look(Some(&approved), false, TIMES.lease_ms), Repair::Leave, "nobody waits");
        let pending = answered(ApprovalStatus::Pending, 0);
        assert_eq!(look(Some(&pending), true, TIMES.lease_ms), Repair::Leave);
        assert_eq!(look(Some(&pending), true, 10_000_000), Repair::Expire);
        let planned = 10_000_000 + TIMES.run_ms - TIMES.lease_ms;
        assert_eq!(look(None, false, planned - 1), Repair::Leave, "the plan is being made");
        assert_eq!(look(None, false, planned), Repair::WorkflowLost, "nobody was asked, so nobody failed to answer");
        let other = Approval { remediation_id: RemediationId::of_rejected(b"other"), ..approved };
        assert_eq!(look(Some(&other), true, TIMES.lease_ms), Repair::Leave, "an answer to another question");
    }
}
