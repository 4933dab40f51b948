//! The claim protocol, model-checked: every order in which two orchestrators, their crashes and freezes, duplicate and
//! late messages, a resource that breaks again, and two deliveries of each outcome can meet.
//!
//! The model's steps are the protocol's own functions (`redress_admin::claim`) and conditions; what is modelled is only
//! what is around them: the queue, the clock, SSM's client token, Lambda's time-outs. Time goes in steps of five minutes,
//! the length of a lease, so that "just before" and "just after" are both visited.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::LazyLock;

use jiff::Timestamp;
use redress_admin::claim::{self, Bid, End, Purpose, Refused, Times};
use redress_common::aws::state_table::{Claim, ClaimStatus, Condition, Subject};
use redress_common::contract::Mode;
use redress_common::finding::SeverityLabel;
use redress_common::ids::{ClaimKey, Generation, RemediationId};
use redress_common::ledger::RemediationType;
use redress_common::state::State;
use stateright::{Checker, Model, Property};

const TICK_MS: i64 = 5 * 60 * 1000;
/// The queue hides a message for seven minutes: it is there again after two steps.
const HIDDEN_TICKS: u8 = 2;
/// The control runbook ends, one way or another, before 15 minutes are over: before a third step.
const RUNBOOK_TICKS: u8 = 2;
/// A worker lives one step beyond its lease: longer than Lambda lets it, so that one is "frozen past its lease".
const WORKER_TICKS: u8 = 2;

/// A finding of the one resource; the second tells of a resource that broke again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Finding {
    First,
    Second,
}

/// A copy of a finding's message in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    finding: Finding,
    /// When the finding was made: its generation.
    made: i64,
    /// In how many steps it can be received again; 0 is now.
    hidden: u8,
}

/// Where a worker stands with the message that it received.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// It read this claim and would write over it.
    Read {
        message: Message,
        seen: Option<Stored>,
        age: u8,
    },
    /// It was granted this claim and has not started the runbook.
    Granted {
        message: Message,
        held: Stored,
        age: u8,
    },
}

/// A claim, as far as the protocol depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stored {
    id: RemediationId,
    generation: i64,
    fence: u64,
    status: ClaimStatus,
    state: State,
    lease_until: i64,
    claimed_at: i64,
    ended: Vec<RemediationId>,
}

/// An execution of the control runbook.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Execution {
    id: RemediationId,
    age: u8,
    /// When it last looked at the resource; `None` while it runs.
    ended: Option<i64>,
    /// How often it changed the resource.
    effects: u8,
    /// How often its end was told to the completion function.
    told: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    tick: i64,
    broken: bool,
    broke_again: bool,
    stored: Option<Stored>,
    queue: Vec<Message>,
    workers: [Worker; 2],
    executions: Vec<Execution>,
    /// A write was made over a claim with a higher fence.
    fence_fell: bool,
    crashes: u8,
    taken_over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Receive(usize, usize),
    Write(usize),
    Start(usize),
    /// SSM says "not now".
    StartFails(usize),
    /// SSM starts it, and its answer is lost.
    StartUnanswered(usize),
    Crash(usize),
    Tick,
    Act(usize),
    Outcome(usize),
    BreakAgain,
}

struct Protocol {
    /// How often a worker may die.
    crashes: u8,
    /// How many copies of the first finding's message there are.
    copies: usize,
    ticks: i64,
}

fn at(tick: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + tick * TICK_MS).unwrap()
}

fn id_of(made: i64) -> RemediationId {
    static KEY: LazyLock<ClaimKey> = LazyLock::new(|| {
        ClaimKey::new(
            &"111122223333".parse().unwrap(),
            &"eu-central-1".parse().unwrap(),
            &"S3.8".parse().unwrap(),
            &"arn:aws:s3:::b".parse().unwrap(),
        )
    });
    RemediationId::of_finding(&KEY, Generation(made))
}

fn subject() -> Subject {
    static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject {
        finding_id: String::new(),
        product_arn: None,
        title: String::new(),
        severity: SeverityLabel::High,
        account: "111122223333".parse().unwrap(),
        region: None,
        control: None,
        resource_id: String::new(),
        resource_type: String::new(),
        action: String::new(),
        remediation_type: RemediationType::Automatic,
        requested_by: String::new(),
        reported: None,
        sample: false,
    });
    SUBJECT.clone()
}

fn bid(message: &Message) -> Bid {
    Bid {
        id: id_of(message.made),
        generation: Generation(message.made),
        manual: false,
        mode: Mode::Apply,
        subject: subject(),
        undoes: None,
        purpose: Purpose::Start,
        released: false,
        keep_seconds: None,
    }
}

impl Stored {
    fn of(claim: &Claim) -> Self {
        Self {
            id: claim.remediation_id,
            generation: claim.generation.0,
            fence: claim.fence.0,
            status: claim.status,
            state: claim.state,
            lease_until: claim.lease_until,
            claimed_at: claim.claimed_at,
            ended: claim.ended.clone(),
        }
    }

    fn claim(&self) -> Claim {
        Claim {
            remediation_id: self.id,
            generation: Generation(self.generation),
            fence: redress_common::ids::Fence(self.fence),
            status: self.status,
            state: self.state,
            lease_until: self.lease_until,
            claimed_at: self.claimed_at,
            mode: Mode::Apply,
            subject: subject(),
            undoes: None,
            undoable: None,
            held: false,
            recent: vec![],
            ended: self.ended.clone(),
            notice: None,
            later: None,
            expires_at: None,
        }
    }
}

impl World {
    /// What DynamoDB does with a conditional write.
    fn write(&mut self, read: Option<&Claim>, next: &Claim) -> bool {
        let stored = self.stored.as_ref().map(Stored::claim);
        if !Condition::unchanged(read).holds(stored.as_ref()) {
            return false;
        }
        self.fence_fell |= stored.is_some_and(|stored| next.fence < stored.fence);
        self.stored = Some(Stored::of(next));
        true
    }

    fn back_to_queue(&mut self, message: Message) {
        self.queue.push(Message { hidden: HIDDEN_TICKS, ..message });
        self.queue.sort();
    }

    fn running(&self) -> usize {
        self.executions.iter().filter(|execution| execution.ended.is_none()).count()
    }

    /// Nothing is under way and nothing is to come.
    fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.workers.iter().all(|worker| *worker == Worker::Idle)
            && self.executions.iter().all(|execution| execution.told > 0)
    }
}

/// An order of workers; which one does not matter.
fn rank(worker: &Worker) -> (u8, u8, Option<Message>, i64) {
    match worker {
        Worker::Idle => (0, 0, None, 0),
        Worker::Read { message, seen, age } => {
            (1, *age, Some(message.clone()), seen.as_ref().map_or(0, |seen| seen.lease_until))
        }
        Worker::Granted { message, held, age } => (2, *age, Some(message.clone()), held.lease_until),
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let made = at(0).as_millisecond();
        let message = Message { finding: Finding::First, made, hidden: 0 };
        vec![World {
            tick: 0,
            broken: true,
            broke_again: false,
            stored: None,
            queue: vec![message; self.copies],
            workers: [Worker::Idle, Worker::Idle],
            executions: vec![],
            fence_fell: false,
            crashes: self.crashes,
            taken_over: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (n, worker) in world.workers.iter().enumerate() {
            match worker {
                Worker::Idle => {
                    let mut last = None;
                    for (m, message) in world.queue.iter().enumerate() {
                        // Equal copies are one choice.
                        if message.hidden == 0 && last != Some(message) {
                            steps.push(Step::Receive(n, m));
                        }
                        last = Some(message);
                    }
                }
                Worker::Read { .. } => steps.push(Step::Write(n)),
                Worker::Granted { .. } => {
                    steps.extend([Step::Start(n), Step::StartFails(n), Step::StartUnanswered(n)]);
                }
            }
            if *worker != Worker::Idle && world.crashes > 0 {
                steps.push(Step::Crash(n));
            }
        }
        for (n, execution) in world.executions.iter().enumerate() {
            match execution.ended {
                None => steps.push(Step::Act(n)),
                // At least once, and once more.
                Some(_) if execution.told < 2 => steps.push(Step::Outcome(n)),
                Some(_) => {}
            }
        }
        // Or it is reported again while it is still bad.
        if world.tick > 0 && !world.broke_again {
            steps.push(Step::BreakAgain);
        }
        // A runbook ends within its time; a worker that reaches its limit dies with the step.
        let overdue = world.executions.iter().any(|e| e.ended.is_none() && e.age >= RUNBOOK_TICKS);
        if world.tick < self.ticks && !overdue {
            steps.push(Step::Tick);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        let now = at(world.tick);
        match step {
            Step::Receive(n, m) => {
                let message = world.queue.remove(m);
                world.workers[n] = Worker::Read { message, seen: world.stored.clone(), age: 0 };
            }
            Step::Write(n) => {
                let Worker::Read { message, seen, age } = world.workers[n].clone() else { return None };
                let read = seen.as_ref().map(Stored::claim);
                world.workers[n] = Worker::Idle;
                match claim::may_have(read.as_ref(), &bid(&message), Times::default(), now) {
                    Err(Refused::Duplicate) => {}
                    // As `decide` has it: a finding from before the claim says nothing that its holder does not know.
                    Err(Refused::InProgress(_)) if read.as_ref().is_some_and(|c| message.made <= c.claimed_at) => {}
                    Err(Refused::InProgress(_)) => world.back_to_queue(message),
                    Ok(()) => {
                        let granted = claim::grant(read.as_ref(), bid(&message), Times::default(), now).unwrap();
                        if world.write(read.as_ref(), &granted) {
                            world.taken_over |= seen.is_some_and(|seen| seen.id == granted.remediation_id);
                            world.workers[n] = Worker::Granted { message, held: Stored::of(&granted), age };
                        } else {
                            // Lost to the other: it reads again.
                            world.workers[n] = Worker::Read { message, seen: world.stored.clone(), age };
                        }
                    }
                }
            }
            Step::Start(n) | Step::StartUnanswered(n) => {
                let Worker::Granted { message, held, .. } = world.workers[n].clone() else { return None };
                // SSM: the same client token is the same execution.
                if !world.executions.iter().any(|execution| execution.id == held.id) {
                    world.executions.push(Execution { id: held.id, age: 0, ended: None, effects: 0, told: 0 });
                }
                world.workers[n] = Worker::Idle;
                if step == Step::StartUnanswered(n) {
                    world.back_to_queue(message);
                }
            }
            Step::StartFails(n) => {
                let Worker::Granted { message, held, .. } = world.workers[n].clone() else { return None };
                let held = held.claim();
                // As the orchestrator has it: what another may have started is not given back.
                if !claim::was_taken_over(&held, Times::default()) {
                    let released = claim::release(&held, State::Planned);
                    world.write(Some(&held), &released);
                }
                world.workers[n] = Worker::Idle;
                world.back_to_queue(message);
            }
            Step::Crash(n) => {
                world.crashes -= 1;
                let (Worker::Read { message, .. } | Worker::Granted { message, .. }) = world.workers[n].clone() else {
                    return None;
                };
                world.workers[n] = Worker::Idle;
                world.back_to_queue(message);
            }
            Step::Tick => {
                world.tick += 1;
                world.queue.iter_mut().for_each(|message| message.hidden = message.hidden.saturating_sub(1));
                world.queue.sort();
                world.executions.iter_mut().filter(|e| e.ended.is_none()).for_each(|e| e.age += 1);
                for n in 0..world.workers.len() {
                    let (Worker::Read { message, age, .. } | Worker::Granted { message, age, .. }) =
                        &mut world.workers[n]
                    else {
                        continue;
                    };
                    *age += 1;
                    if *age >= WORKER_TICKS {
                        // Its message has been visible again since the step before; here it is only now.
                        let message = Message { hidden: 0, ..message.clone() };
                        world.workers[n] = Worker::Idle;
                        world.queue.push(message);
                        world.queue.sort();
                    }
                }
            }
            Step::Act(n) => {
                let execution = &mut world.executions[n];
                execution.effects += u8::from(world.broken);
                execution.ended = Some(now.as_millisecond());
                world.broken = false;
            }
            Step::Outcome(n) => {
                world.executions[n].told += 1;
                let Execution { id, ended, .. } = world.executions[n].clone();
                let stored = world.stored.as_ref().map(Stored::claim)?;
                if stored.remediation_id == id && !stored.ended.contains(&id) {
                    let end = End { state: State::Verified, compliant: true, changed: true, undone: false };
                    let finished = claim::finish(&stored, end, Timestamp::from_millisecond(ended?).unwrap());
                    world.write(Some(&stored), &finished);
                }
            }
            Step::BreakAgain => {
                world.broken = true;
                world.broke_again = true;
                // Just after: later than whatever was seen in this step.
                let message = Message { finding: Finding::Second, made: now.as_millisecond() + 1, hidden: 0 };
                world.queue.push(message);
                world.queue.sort();
            }
        }
        // The two are alike: which is the first is no difference.
        world.workers.sort_by_cached_key(rank);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one runbook of a resource at a time", |_, world: &World| world.running() <= 1),
            Property::always("one effect a remediation", |_, world: &World| {
                world.executions.iter().all(|execution| execution.effects <= 1)
            }),
            Property::always("one effect for each time it broke", |_, world: &World| {
                let effects: u8 = world.executions.iter().map(|execution| execution.effects).sum();
                effects <= 1 + u8::from(world.broke_again)
            }),
            Property::always("a fence only grows", |_, world: &World| !world.fence_fell),
            Property::always("no finding is lost", |_, world: &World| {
                !world.is_quiet()
                    || (!world.broken && world.stored.as_ref().is_some_and(|claim| claim.status == ClaimStatus::Done))
            }),
            Property::sometimes("a dead worker's claim is taken over", |_, world: &World| world.taken_over),
            Property::sometimes("what broke again is fixed again", |_, world: &World| {
                world.is_quiet() && world.executions.len() == 2 && world.executions.iter().all(|e| e.effects == 1)
            }),
        ]
    }
}

#[test]
fn defect_17_the_claim_protocol_holds_in_every_order_of_events() {
    assert_eq!(
        (Times::default().lease_ms, Times::default().run_ms),
        (TICK_MS, 4 * TICK_MS),
        "the model's runbook and worker fit into what a claim waits for"
    );
    // Long with one copy of the message; with two, to just beyond the first lease.
    for protocol in [Protocol { crashes: 1, copies: 1, ticks: 5 }, Protocol { crashes: 1, copies: 2, ticks: 3 }] {
        let (copies, ticks) = (protocol.copies, protocol.ticks);
        let checker = protocol.checker().threads(2).spawn_bfs().join();
        println!("{copies} copies, {ticks} steps of time: {} different states", checker.unique_state_count());
        checker.assert_properties();
    }
}
