//! Who may work on a resource: what a claim becomes when it is asked for, given back or finished.
//!
//! Pure. A claim is read, the new one is worked out here, and it is written only if the stored one is still
//! the one that was read ([`Condition`]); so of any number of workers that read the same claim, one wins.

use jiff::Timestamp;
use redress_common::aws::state_table::{Claim, ClaimStatus, Condition, Subject};
use redress_common::contract::Mode;
use redress_common::ids::{Fence, Generation, RemediationId};
use redress_common::state::State;

/// How long the work on a resource may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How long a worker has to start the remediation. Shorter than the queue's visibility timeout, so that the
    /// redelivered message of a worker that died finds the lease ended.
    pub lease_ms: i64,
    /// How long a remediation that was started may go on: the control runbook's time-out and SSM's own queue.
    /// Nothing is written after a start, so a claim of a start may stand for a runbook that runs: its own remediation may
    /// be started again after the lease (SSM answers with the first execution), any other must wait for this.
    pub run_ms: i64,
}

impl Default for Times {
    fn default() -> Self {
        Self { lease_ms: 5 * 60 * 1000, run_ms: 20 * 60 * 1000 }
    }
}

impl Times {
    /// Times of so many seconds. A lease is at most the hour of a role session, a run at most a day, and no shorter.
    #[must_use]
    pub fn of_seconds(lease: i64, run: i64) -> Option<Self> {
        let sound = (1..=3600).contains(&lease) && (lease..=86_400).contains(&run);
        sound.then(|| Self { lease_ms: lease * 1000, run_ms: run * 1000 })
    }
}

/// The window in which the loop guard counts.
pub const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;
/// How many remediations that ended a claim remembers.
const ENDED: usize = 32;

/// Somebody wants to work on a resource.
#[derive(Debug, Clone)]
pub struct Bid {
    /// For which remediation.
    pub id: RemediationId,
    /// The state of the world it speaks of.
    pub generation: Generation,
    /// A person asks: generations do not count, the request does.
    pub manual: bool,
    /// What is to be done.
    pub mode: Mode,
    /// About what.
    pub subject: Subject,
    /// The remediation to be undone.
    pub undoes: Option<RemediationId>,
    /// What it is wanted for.
    pub purpose: Purpose,
    /// It was brought back from the backlog.
    pub released: bool,
    /// For how long the table keeps the item after now; `None` for ever.
    pub keep_seconds: Option<i64>,
}

/// What a claim is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To start a runbook, which the loop guard counts and a hold forbids to rules.
    Start,
    /// To ask people first. The workflow that does it makes the lease as long as they may take.
    Ask,
    /// To tell people.
    Tell,
    /// To mark that the finding is in the backlog.
    Wait,
}

impl Purpose {
    const fn state(self) -> State {
        match self {
            Self::Start => State::Claimed,
            Self::Ask => State::AwaitingApproval,
            Self::Tell | Self::Wait => State::Planned,
        }
    }
}

/// Why a bid is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It was dealt with, or is being dealt with, already.
    Duplicate,
    /// Another remediation of the same resource and control is under way.
    InProgress(RemediationId),
}

/// Until when a claim may be somebody's work, Unix milliseconds: a runbook may run, or a workflow make its plan, that was
/// started at the end of the lease.
#[must_use]
pub const fn busy_until(claim: &Claim, times: Times) -> i64 {
    let started = matches!(claim.state, State::Claimed | State::AwaitingApproval);
    claim.lease_until.saturating_add(if started { times.run_ms - times.lease_ms } else { 0 })
}

/// Whether a bid may have a claim, without taking it.
///
/// # Errors
/// When it may not.
pub fn may_have(existing: Option<&Claim>, bid: &Bid, times: Times, now: Timestamp) -> Result<(), Refused> {
    let Some(claim) = existing else { return Ok(()) };
    let same = claim.remediation_id == bid.id;
    let until = if same { claim.lease_until } else { busy_until(claim, times) };
    let leased = claim.status == ClaimStatus::Leased && now.as_millisecond() < until;
    match (same, leased) {
        (true, true) => Err(Refused::Duplicate),
        (false, true) => Err(Refused::InProgress(claim.remediation_id)),
        // The lease ended, or it was given back: the same remediation goes on where it was.
        (true, false) if claim.status == ClaimStatus::Waiting && !bid.released => Err(Refused::Duplicate),
        (true, false) if claim.status != ClaimStatus::Done => Ok(()),
        (true, false) => Err(Refused::Duplicate),
        (false, false) if claim.ended.contains(&bid.id) => Err(Refused::Duplicate),
        (false, false) if bid.manual => Ok(()),
        (false, false) if bid.generation <= claim.generation => Err(Refused::Duplicate),
        (false, false) => Ok(()),
    }
}

/// The claim that a bid gets: a new fence, and a lease from now.
///
/// # Errors
/// When it may not have it.
pub fn grant(existing: Option<&Claim>, bid: Bid, times: Times, now: Timestamp) -> Result<Claim, Refused> {
    may_have(existing, &bid, times, now)?;
    let now = now.as_millisecond();
    let works = matches!(bid.purpose, Purpose::Start | Purpose::Ask);
    // A mark that it waits, or that people were told, began nothing.
    let began = |claim: &&Claim| claim.status != ClaimStatus::Waiting && claim.notice.is_none();
    let again = existing.filter(|claim| claim.remediation_id == bid.id).filter(began);
    let mut recent: Vec<i64> = existing.map(|claim| claim.recent.clone()).unwrap_or_default();
    recent.retain(|at| now - at < WINDOW_MS);
    // Only fixes count: putting one back is no sign of a resource that will not stay fixed. A worker that died counted
    // already; one that gave back took its count with it.
    let counted = again.is_some_and(|claim| claim.status != ClaimStatus::Released);
    if works && bid.mode == Mode::Apply && !counted {
        recent.push(now);
    }
    Ok(Claim {
        remediation_id: bid.id,
        generation: existing.map_or(bid.generation, |claim| claim.generation.max(bid.generation)),
        fence: Fence(existing.map_or(0, |claim| claim.fence.0) + 1),
        status: if bid.purpose == Purpose::Wait { ClaimStatus::Waiting } else { ClaimStatus::Leased },
        state: bid.purpose.state(),
        lease_until: now + times.lease_ms,
        claimed_at: again.map_or(now, |claim| claim.claimed_at),
        mode: bid.mode,
        subject: bid.subject,
        undoes: bid.undoes,
        undoable: existing.and_then(|claim| claim.undoable),
        // A person who asks for a fix ends the hold that an undo put on the resource.
        held: existing.is_some_and(|claim| claim.held) && !(bid.manual && works && bid.mode == Mode::Apply),
        recent,
        ended: existing.map(|claim| claim.ended.clone()).unwrap_or_default(),
        notice: existing.filter(|_| !works).and_then(|claim| claim.notice.clone()),
        later: None,
        expires_at: bid.keep_seconds.map(|seconds| now / 1000 + seconds),
    })
}

/// Whether another holder of this very claim may still start, or have started, what it stands for: one that was taken
/// for dead. Then it must not be given to another remediation, whatever the present holder's start came to.
#[must_use]
pub const fn was_taken_over(held: &Claim, times: Times) -> bool {
    held.lease_until - times.lease_ms != held.claimed_at
}

/// The claim given back by the worker that holds it: the work could not be started, and did not count.
#[must_use]
pub fn release(held: &Claim, state: State) -> Claim {
    let mut claim = Claim { status: ClaimStatus::Released, state, ..held.clone() };
    if claim.mode == Mode::Apply {
        claim.recent.pop();
    }
    claim
}

/// How a remediation ended, as far as its claim is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The state that it ended in.
    pub state: State,
    /// Whether the resource now is what the control asks for: findings from before know nothing of that.
    pub compliant: bool,
    /// Whether something may have been changed, so that it can be undone.
    pub changed: bool,
    /// Whether an earlier remediation was undone.
    pub undone: bool,
}

/// The claim of a remediation that ended, whose resource was last looked at then.
#[must_use]
pub fn finish(claim: &Claim, end: End, seen: Timestamp) -> Claim {
    let mut claim = Claim { status: ClaimStatus::Done, state: end.state, ..claim.clone() };
    claim.ended.push(claim.remediation_id);
    claim.ended.drain(..claim.ended.len().saturating_sub(ENDED));
    if end.compliant {
        claim.generation = claim.generation.max(Generation(seen.as_millisecond()));
    }
    match claim.mode {
        Mode::Apply if end.changed => claim.undoable = Some(claim.remediation_id),
        // An undo that is half done, or cannot be shown to be: what it was to undo stays undoable, and a rule that
        // repaired the resource now would do again what a person wanted undone.
        Mode::Restore if end.changed => {
            claim.held = true;
            claim.generation = claim.generation.max(Generation(seen.as_millisecond()));
        }
        _ => {}
    }
    if end.undone {
        claim.undoable = None;
        claim.held = true;
        // The findings that made the undone remediation are dealt with: only what comes after counts.
        claim.generation = claim.generation.max(Generation(seen.as_millisecond()));
    }
    claim
}

/// The condition under which what was worked out from `read` may be written.
#[must_use]
pub fn condition(read: Option<&Claim>) -> Condition {
    Condition::unchanged(read)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::subject;
    use proptest::prelude::*;

    pub(crate) fn id(text: &str) -> RemediationId {
        RemediationId::of_rejected(text.as_bytes())
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    fn bid(name: &str, generation: i64) -> Bid {
        Bid {
            id: id(name),
            generation: Generation(generation),
            manual: false,
            mode: Mode::Apply,
            subject: subject(),
            undoes: None,
            purpose: Purpose::Start,
            released: false,
            keep_seconds: None,
        }
    }

    const TIMES: Times = Times { lease_ms: 300_000, run_ms: 1_200_000 };

    fn asked(name: &str) -> Bid {
        Bid { manual: true, ..bid(name, 0) }
    }

    const VERIFIED: End = End { state: State::Verified, compliant: true, changed: true, undone: false };
    const FAILED: End = End { state: State::Failed, compliant: false, changed: true, undone: false };

    #[test]
    fn a_second_claim_of_the_same_generation_is_a_duplicate() {
        let first = grant(None, bid("a", 5), TIMES, at(0)).unwrap();
        assert_eq!(first.fence, Fence(1));
        assert_eq!(grant(Some(&first), bid("a", 5), TIMES, at(1)), Err(Refused::Duplicate));
        let done = finish(&first, FAILED, at(2));
        assert_eq!(grant(Some(&done), bid("a", 5), TIMES, at(3)), Err(Refused::Duplicate));
        assert_eq!(grant(Some(&done), bid("old", 4), TIMES, at(3)), Err(Refused::Duplicate));
        assert!(grant(Some(&done), bid("new", 6), TIMES, at(3)).is_ok());
    }

    #[test]
    fn times_that_could_not_work_are_refused() {
        assert_eq!(Times::of_seconds(300, 1200), Some(Times::default()));
        assert!(Times::of_seconds(2, 2).is_some());
        for (lease, run) in [(0, 10), (-1, 10), (10, 9), (3601, 4000), (10, 86_401), (i64::MAX, i64::MAX)] {
            assert_eq!(Times::of_seconds(lease, run), None, "{lease} {run}");
        }
    }

    #[test]
    fn while_people_are_asked_nobody_else_works_and_a_worker_that_died_before_it_asked_is_succeeded() {
        let asks = grant(None, Bid { purpose: Purpose::Ask, ..bid("a", 5) }, TIMES, at(0)).unwrap();
        assert_eq!((asks.state, asks.recent.len()), (State::AwaitingApproval, 1));
        let again = grant(Some(&asks), Bid { purpose: Purpose::Ask, ..bid("a", 5) }, TIMES, at(TIMES.lease_ms));
        assert_eq!(again.map(|claim| claim.recent.len()), Ok(1));
        // The workflow has asked: the claim is its own until the answer is due.
        let waits = Claim { lease_until: asks.lease_until + 90_000_000, ..asks };
        for ms in [1, TIMES.lease_ms, TIMES.run_ms * 2, 90_000_000] {
            assert_eq!(grant(Some(&waits), bid("a", 5), TIMES, at(ms)), Err(Refused::Duplicate));
            assert_eq!(grant(Some(&waits), bid("b", 6), TIMES, at(ms)), Err(Refused::InProgress(id("a"))));
        }
        assert!(grant(Some(&waits), bid("b", 6), TIMES, at(90_000_000 + TIMES.run_ms)).is_ok());
    }

    #[test]
    fn a_finding_in_the_backlog_goes_on_when_it_is_brought_back_and_not_before() {
        let waits = grant(None, Bid { purpose: Purpose::Wait, ..bid("a", 5) }, TIMES, at(0)).unwrap();
        assert_eq!((waits.status, waits.recent.len()), (ClaimStatus::Waiting, 0));
        assert_eq!(grant(Some(&waits), bid("a", 5), TIMES, at(1)), Err(Refused::Duplicate));
        assert_eq!(grant(Some(&waits), bid("a", 5), TIMES, at(TIMES.run_ms * 9)), Err(Refused::Duplicate));
        let back = grant(Some(&waits), Bid { released: true, ..bid("a", 5) }, TIMES, at(2)).unwrap();
        assert_eq!((back.fence, back.recent.len()), (Fence(2), 1));
        let newer = grant(Some(&waits), bid("b", 6), TIMES, at(3)).unwrap();
        let newer = finish(&newer, VERIFIED, at(4));
        let late = grant(Some(&newer), Bid { released: true, ..bid("a", 5) }, TIMES, at(5));
        assert_eq!(late, Err(Refused::Duplicate), "what came in its place is newer");
    }

    #[test]
    fn a_newer_finding_waits_for_the_remediation_under_way() {
        let first = grant(None, bid("a", 5), TIMES, at(0)).unwrap();
        assert_eq!(grant(Some(&first), bid("b", 6), TIMES, at(1)), Err(Refused::InProgress(id("a"))));
        assert_eq!(grant(Some(&first), asked("c"), TIMES, at(1)), Err(Refused::InProgress(id("a"))));
        assert_eq!(
            grant(Some(&first), bid("b", 6), TIMES, at(TIMES.lease_ms)),
            Err(Refused::InProgress(id("a"))),
            "its runbook may still run"
        );
        assert!(grant(Some(&first), bid("b", 6), TIMES, at(TIMES.run_ms)).is_ok());
        let told = grant(None, Bid { purpose: Purpose::Tell, ..bid("a", 5) }, TIMES, at(0)).unwrap();
        assert!(grant(Some(&told), bid("b", 6), TIMES, at(TIMES.lease_ms)).is_ok(), "nothing was started");
    }

    #[test]
    fn the_worker_after_one_that_died_has_the_same_remediation_and_a_newer_fence() {
        let dead = grant(None, bid("a", 5), TIMES, at(0)).unwrap();
        let next = grant(Some(&dead), bid("a", 5), TIMES, at(TIMES.lease_ms)).unwrap();
        assert_eq!((next.remediation_id, next.fence), (dead.remediation_id, Fence(2)));
        assert_eq!(next.claimed_at, dead.claimed_at, "its evidence stays where it is");
        assert_eq!(next.recent.len(), 1, "it is the same attempt");
    }

    #[test]
    fn defect_01_a_failed_start_gives_the_claim_back() {
        let claim = grant(None, bid("a", 5), TIMES, at(0)).unwrap();
        let back = release(&claim, State::Failed);
        let again = grant(Some(&back), bid("a", 5), TIMES, at(1)).unwrap();
        assert_eq!((again.status, again.fence), (ClaimStatus::Leased, Fence(2)));
        assert_eq!(again.recent.len(), 1, "what was never started does not count");
    }

    #[test]
    fn defect_17_a_worker_presumed_dead_cannot_write_over_its_successor() {
        let dead = grant(None, bid("a", 5), TIMES, at(0)).unwrap();
        let its_condition = condition(Some(&dead));
        let successor = grant(Some(&dead), bid("b", 6), TIMES, at(TIMES.run_ms)).unwrap();
        assert!(!its_condition.holds(Some(&successor)));
        assert!(condition(Some(&successor)).holds(Some(&successor)));
    }

    #[test]
    fn defect_18_a_failed_attempt_stays_known() {
        let failed = finish(&grant(None, bid("a", 5), TIMES, at(0)).unwrap(), FAILED, at(1));
        assert_eq!((failed.remediation_id, failed.state), (id("a"), State::Failed));
        assert_eq!(grant(Some(&failed), bid("a", 5), TIMES, at(TIMES.lease_ms * 9)), Err(Refused::Duplicate));
        assert_eq!(failed.undoable, Some(id("a")), "what it may have changed can be undone");
    }

    #[test]
    fn defect_02_a_finding_from_before_the_fix_does_not_start_it_again() {
        let fixed = finish(&grant(None, bid("a", 5), TIMES, at(0)).unwrap(), VERIFIED, at(900));
        let before = Generation(at(800).as_millisecond());
        assert_eq!(
            grant(Some(&fixed), Bid { generation: before, ..bid("b", 0) }, TIMES, at(1000)),
            Err(Refused::Duplicate)
        );
        let after = Generation(at(901).as_millisecond());
        assert!(grant(Some(&fixed), Bid { generation: after, ..bid("b", 0) }, TIMES, at(1000)).is_ok());
    }

    #[test]
    fn each_request_of_a_person_is_done_once_whatever_came_between() {
        let one = finish(&grant(None, asked("r1"), TIMES, at(0)).unwrap(), VERIFIED, at(1));
        let two = finish(&grant(Some(&one), asked("r2"), TIMES, at(2)).unwrap(), VERIFIED, at(3));
        assert_eq!(grant(Some(&two), asked("r1"), TIMES, at(4)), Err(Refused::Duplicate));
        assert_eq!(grant(Some(&two), asked("r2"), TIMES, at(4)), Err(Refused::Duplicate));
        assert!(grant(Some(&two), asked("r3"), TIMES, at(4)).is_ok());
    }

    #[test]
    fn a_request_that_was_given_back_and_overtaken_is_not_lost() {
        let back = release(&grant(None, asked("r1"), TIMES, at(0)).unwrap(), State::Planned);
        let overtaken = finish(&grant(Some(&back), bid("rule", 5), TIMES, at(1)).unwrap(), VERIFIED, at(2));
        assert!(grant(Some(&overtaken), asked("r1"), TIMES, at(3)).is_ok());
    }

    #[test]
    fn an_undo_holds_the_resource_until_a_person_asks_for_a_fix() {
        let fixed = finish(&grant(None, bid("a", 5), TIMES, at(0)).unwrap(), VERIFIED, at(1));
        assert_eq!(fixed.undoable, Some(id("a")));
        let undo = Bid { mode: Mode::Restore, undoes: Some(id("a")), ..asked("u") };
        let end = End { state: State::RolledBack, compliant: false, changed: false, undone: true };
        let undone = finish(&grant(Some(&fixed), undo, TIMES, at(2)).unwrap(), end, at(3));
        assert!(undone.held);
        assert_eq!(undone.undoable, None);
        let told = Bid { purpose: Purpose::Tell, generation: Generation(i64::MAX), ..bid("n", 0) };
        let told = finish(&grant(Some(&undone), told, TIMES, at(4)).unwrap(), FAILED, at(5));
        assert!(told.held, "telling people does not end it");
        assert!(!grant(Some(&told), asked("fix"), TIMES, at(6)).unwrap().held);
    }

    #[test]
    fn a_fix_that_a_person_undid_and_asked_for_again_counts_as_two_not_as_three() {
        let fixed = finish(&grant(None, bid("a", 5), TIMES, at(0)).unwrap(), VERIFIED, at(1));
        let undo = Bid { mode: Mode::Restore, undoes: Some(id("a")), ..asked("u") };
        let undoing = grant(Some(&fixed), undo.clone(), TIMES, at(2)).unwrap();
        let undoing = grant(Some(&release(&undoing, State::Planned)), undo, TIMES, at(3)).unwrap();
        assert_eq!(undoing.recent, fixed.recent, "nor does an undo that was given back take a fix's count with it");
        let end = End { state: State::RolledBack, compliant: false, changed: false, undone: true };
        let undone = finish(&undoing, end, at(4));
        assert_eq!(grant(Some(&undone), asked("fix"), TIMES, at(5)).unwrap().recent.len(), 2);
    }

    #[test]
    fn only_starts_of_the_last_day_count() {
        let mut claim = None;
        for (name, ms) in [("a", 0), ("b", 10), ("c", WINDOW_MS + 5)] {
            let bid = Bid { generation: Generation(at(ms).as_millisecond()), ..bid(name, 0) };
            claim = Some(finish(&grant(claim.as_ref(), bid, TIMES, at(ms)).unwrap(), FAILED, at(ms + 1)));
        }
        assert_eq!(claim.unwrap().recent.len(), 2);
    }

    /// What a worker may do at some moment.
    #[derive(Debug, Clone)]
    enum Step {
        Read(usize),
        Grant(usize, u8, bool),
        Release(usize),
        Finish(usize),
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_usize).prop_map(Step::Read),
            (0..3_usize, 0..4_u8, any::<bool>()).prop_map(|(worker, name, manual)| Step::Grant(worker, name, manual)),
            (0..3_usize).prop_map(Step::Release),
            (0..3_usize).prop_map(Step::Finish),
            (0..TIMES.run_ms * 2).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Three workers, each acting on what it read some time ago, against one stored claim.
        #[test]
        fn fences_only_grow_and_each_is_granted_once(steps in prop::collection::vec(step(), 1..60)) {
            let mut stored: Option<Claim> = None;
            let mut views: [Option<Claim>; 3] = [None, None, None];
            let mut granted = Vec::new();
            let mut now = 0;
            for step in steps {
                now += 1;
                let (worker, next) = match step {
                    Step::Read(worker) => { views[worker] = stored.clone(); continue }
                    Step::Wait(ms) => { now += ms; continue }
                    Step::Grant(worker, name, manual) => {
                        let bid = Bid { manual, ..bid(&name.to_string(), i64::from(name)) };
                        match grant(views[worker].as_ref(), bid, TIMES, at(now)) {
                            Ok(claim) => (worker, claim),
                            Err(_) => continue,
                        }
                    }
                    Step::Release(worker) => match &views[worker] {
                        Some(claim) if claim.status == ClaimStatus::Leased => (worker, release(claim, State::Failed)),
                        _ => continue,
                    },
                    Step::Finish(worker) => match &views[worker] {
                        Some(claim) if claim.status != ClaimStatus::Done => (worker, finish(claim, VERIFIED, at(now))),
                        _ => continue,
                    },
                };
                if condition(views[worker].as_ref()).holds(stored.as_ref()) {
                    let before = stored.as_ref().map_or(0, |claim| claim.fence.0);
                    prop_assert!(next.fence.0 >= before);
                    if next.status == ClaimStatus::Leased {
                        prop_assert_eq!(next.fence.0, before + 1);
                        granted.push(next.fence);
                    }
                    stored = Some(next.clone());
                    views[worker] = Some(next);
                }
            }
            let unique: std::collections::HashSet<_> = granted.iter().collect();
            prop_assert_eq!(unique.len(), granted.len());
        }
    }
}
