//! The storm: far more deliveries than findings, at many workers at once, over tables in memory that evaluate the
//! conditions that DynamoDB would. It runs as a test, and larger as a measurement (`cargo xtask bench`).
//!
//! Everything is the functions' own code but [`World`], which stands for DynamoDB, SSM, SNS, Security Hub and the queues.
//! The clock is that of one night: each delivery comes a little later, so that leases, hours and backlog mean something.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use redress_admin::completion::Completion;
use redress_admin::orchestrate::Orchestrator;
use redress_admin::ports::{Place, Start};
use redress_common::aws::state_table::{Limits, PolicySetName, Settings, Switch};
use redress_common::contract::{Outcome, parameter as name};
use redress_common::ids::RemediationId;
use redress_common::state::State;
use tokio::sync::Notify;

use crate::world::{World, counted, identity, now, parameter};

const IMPORT: &str = include_str!("../../../common/tests/fixtures/asff-bucket.json");
const CONFIG: &str = include_str!("../../../common/tests/fixtures/config-bucket.json");

/// The night.
const NIGHT_MS: i64 = 8 * 60 * 60 * 1000;
/// When what fails again does so.
const AGAIN_MS: i64 = 35 * 60 * 1000;
/// A finding is updated so long after its remediation has started, and before any runbook ends.
const UPDATE_MS: i64 = 10_000;
/// The shortest and the longest runbook.
const RUN_MS: (i64, i64) = (20_000, 90_000);
/// How far one worker's clock may be behind another's. Less than a lease: the machine that runs the test may leave a
/// worker standing for as long as it likes, and who stands longer than a lease is a case of `races`, not of the storm.
const APART_MS: i64 = 60_000;
const ACCOUNTS: usize = 11;
/// Rules may only look there.
const WATCHED: usize = 10;
/// Stands in an update for its time.
const LATER: &str = "@LATER";

/// How large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) findings: usize,
    pub(crate) deliveries: usize,
    pub(crate) workers: usize,
    /// Runbooks at a time in an account and Region: few, so that some findings have to wait.
    pub(crate) in_flight: u32,
    pub(crate) seed: u64,
}

/// What becomes of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is fixed. Its updates and Config's view of it come, too.
    Fixed,
    /// The same, and half an hour later it fails again: that is another finding.
    Again,
    /// The resource was compliant already.
    Compliant,
    /// The runbook fails.
    Failing,
    /// The resource is gone.
    Gone,
    /// A person suppressed it.
    Suppressed,
    /// The switch of its account stands at `observe`.
    Watched,
}

impl Kind {
    fn of(resource: usize, again: usize) -> Self {
        match resource {
            _ if resource % ACCOUNTS == WATCHED => Self::Watched,
            _ if resource < again => Self::Again,
            _ => match resource % 50 {
                11 => Self::Suppressed,
                12 => Self::Failing,
                13 => Self::Gone,
                14 => Self::Compliant,
                _ => Self::Fixed,
            },
        }
    }

    /// How its runbook ends.
    const fn outcome(self) -> Outcome {
        match self {
            Self::Failing => Outcome::Failed,
            Self::Gone => Outcome::NotFound,
            Self::Compliant => Outcome::AlreadyCompliant,
            Self::Fixed | Self::Again | Self::Suppressed | Self::Watched => Outcome::Verified,
        }
    }

    /// Where it ends, and after how many starts.
    const fn end(self) -> (State, usize) {
        match self {
            Self::Fixed | Self::Compliant => (State::Verified, 1),
            Self::Again => (State::Verified, 2),
            Self::Failing | Self::Gone => (State::Failed, 1),
            Self::Suppressed => (State::Ignored, 0),
            Self::Watched => (State::Notified, 0),
        }
    }
}

/// The events that tell of one resource, each with the moment from which on it can come.
struct Resource {
    kind: Kind,
    events: Vec<(i64, String)>,
    /// The finding as it is updated while its remediation is under way.
    update: Option<String>,
    /// When that began; 0 when it did not.
    began: AtomicI64,
}

impl Resource {
    fn new(nth: usize, again: usize) -> Self {
        let kind = Kind::of(nth, again);
        let own = |text: &str| {
            text.replace("payroll-exports", &bucket(nth))
                .replace("111122223333", &account(nth % ACCOUNTS))
                .replace("0f8fad5b-d9cb-469f-a165", &format!("0f8fad5b-d9cb-469f-{nth:04}"))
        };
        let import = own(IMPORT);
        let updated = |at: &str| {
            import
                .replace("2026-03-02T09:14:47.883Z", at)
                .replace("\"time\": \"2026-03-02T09:15:04Z\"", &format!("\"time\": \"{at}\""))
        };
        let (events, update) = match kind {
            Kind::Suppressed => (vec![(0, import.replace("\"Status\": \"NEW\"", "\"Status\": \"SUPPRESSED\""))], None),
            // What failed is tried again when it is told anew: of these there is one event.
            Kind::Failing | Kind::Gone => (vec![(0, import)], None),
            Kind::Again => {
                let again = updated(&at(AGAIN_MS).to_string());
                (vec![(0, import.clone()), (AGAIN_MS, again)], Some(updated(LATER)))
            }
            _ => (vec![(0, import.clone()), (0, own(CONFIG))], Some(updated(LATER))),
        };
        Self { kind, events, update, began: AtomicI64::new(0) }
    }

    /// One of the events that can have come by now.
    fn event(&self, chance: u64, ms: i64) -> Cow<'_, str> {
        let began = self.began.load(Ordering::Relaxed);
        let update = self.update.as_ref().filter(|_| began > 0 && began + UPDATE_MS <= ms);
        let possible = self.events.iter().filter(|(from, _)| *from <= ms).map(|(_, body)| body).chain(update);
        let possible: Vec<&String> = possible.collect();
        let body = possible[chance as usize % possible.len()];
        if update.is_some_and(|update| std::ptr::eq(update, body)) {
            return Cow::Owned(body.replace(LATER, &at(began + UPDATE_MS).to_string()));
        }
        Cow::Borrowed(body)
    }
}

fn bucket(nth: usize) -> String {
    format!("storm-{nth}")
}

fn resource_of(start: &Start) -> usize {
    parameter(start, name::RESOURCE_NAME).trim_start_matches("storm-").parse().unwrap()
}

fn account(nth: usize) -> String {
    format!("1111222233{nth:02}")
}

/// Numbers that are the same with the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn shuffle(&mut self, list: &mut [u32]) {
        for last in (1..list.len()).rev() {
            list.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

/// The process and the tables at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    pub(crate) rss: u64,
    pub(crate) cpu_ms: u64,
    pub(crate) wall_ms: u128,
    /// State items, records, findings in the backlog.
    pub(crate) tables: (usize, usize, usize),
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Runbooks that may and must have been started.
    pub(crate) expected: usize,
    pub(crate) started: usize,
    /// Calls of `StartAutomationExecution`.
    pub(crate) start_calls: usize,
    /// Deliveries of which nothing came but one read.
    pub(crate) duplicates: usize,
    /// All other deliveries, by their calls.
    pub(crate) others: BTreeMap<String, usize>,
    /// Deliveries that the queue had to bring again.
    pub(crate) again: usize,
    /// Findings that waited for a place and were brought back.
    pub(crate) brought_back: usize,
    pub(crate) told: usize,
    pub(crate) records: usize,
    /// After a tenth of the deliveries, after half of them, and at the end.
    pub(crate) marks: [Mark; 3],
}

/// What runs, by when it ends.
type Runs = BTreeMap<(i64, RemediationId), (Place, Start)>;

/// What the workers share.
struct Storm {
    world: World,
    shape: Shape,
    resources: Vec<Resource>,
    order: Vec<u32>,
    /// The next delivery, and those that workers have in hand.
    hands: Mutex<(usize, BTreeSet<usize>)>,
    put_down: Notify,
    /// Runbooks that run, by when they end.
    runs: Mutex<(usize, Runs)>,
    /// What the queue brings again.
    queue: Mutex<Vec<String>>,
    report: Mutex<Report>,
    began: std::time::Instant,
}

type Handler = Orchestrator<&'static World>;

impl Storm {
    fn new(shape: Shape) -> Self {
        let again = shape.findings / 20;
        let resources: Vec<Resource> = (0..shape.findings - again).map(|nth| Resource::new(nth, again)).collect();
        let mut order: Vec<u32> = (0..shape.deliveries).map(|nth| (nth % resources.len()) as u32).collect();
        Chance(shape.seed).shuffle(&mut order);
        let world = World::new(&Settings {
            policy_set: PolicySetName::Standard,
            accounts: [(account(WATCHED).parse().unwrap(), Switch::Observe)].into(),
            limits: Limits { in_flight: shape.in_flight, control_minimum: 20, ..Limits::default() },
            ..Settings::default()
        });
        let expected = resources.iter().map(|resource| resource.kind.end().1).sum();
        let report = Mutex::new(Report { expected, ..Report::default() });
        Self {
            world,
            shape,
            resources,
            order,
            hands: Mutex::default(),
            put_down: Notify::new(),
            runs: Mutex::default(),
            queue: Mutex::default(),
            report,
            began: std::time::Instant::now(),
        }
    }

    async fn work(&'static self) {
        let handler = Orchestrator::new(&self.world, identity());
        let marks = [self.shape.deliveries / 10, self.shape.deliveries / 2];
        loop {
            let nth = self.take_next().await;
            let Some(resource) = self.order.get(nth) else { return };
            let ms = self.moment(nth);
            let chance = Chance(self.shape.seed ^ nth as u64).next();
            self.deliver(&handler, &self.resources[*resource as usize].event(chance, ms), ms, false).await;
            self.meanwhile(&handler, ms).await;
            if let Some(mark) = marks.iter().position(|mark| *mark == nth) {
                self.report.lock().unwrap().marks[mark] = self.mark();
            }
            self.hands.lock().unwrap().1.remove(&nth);
            self.put_down.notify_waiters();
        }
    }

    /// When a delivery comes.
    fn moment(&self, nth: usize) -> i64 {
        NIGHT_MS / 1000 * nth as i64 * 1000 / self.shape.deliveries as i64
    }

    /// The next delivery, once it is not too far from the oldest that somebody still has in hand.
    async fn take_next(&self) -> usize {
        loop {
            let put_down = self.put_down.notified();
            {
                let mut hands = self.hands.lock().unwrap();
                let (next, oldest) = (hands.0, hands.1.first().copied());
                let is_near = |oldest| self.moment(next) - self.moment(oldest) <= APART_MS;
                if next >= self.order.len() || oldest.is_none_or(is_near) {
                    hands.0 += 1;
                    hands.1.insert(next);
                    return next;
                }
            }
            put_down.await;
        }
    }

    /// What else happens by then: runbooks end, and the queue brings again what it was left with.
    async fn meanwhile(&'static self, handler: &Handler, ms: i64) {
        while let Some((place, start)) = self.ended(ms) {
            self.complete(&place, &start, ms).await;
        }
        let again = std::mem::take(&mut *self.queue.lock().unwrap());
        for body in again {
            self.deliver(handler, &body, ms, true).await;
        }
    }

    async fn deliver(&self, handler: &Handler, body: &str, ms: i64, again: bool) {
        let (done, calls) = counted(handler.message(body, at(ms))).await;
        let mut report = self.report.lock().unwrap();
        if done.is_err() {
            report.again += 1;
            self.queue.lock().unwrap().push(body.to_owned());
        }
        if calls == ["BatchGetItem"] && !again {
            report.duplicates += 1;
            return;
        }
        let starts = calls.iter().filter(|call| **call == "StartAutomationExecution").count();
        report.start_calls += starts;
        *report.others.entry(calls.join(" ")).or_default() += 1;
        drop(report);
        if starts > 0 {
            let mut runs = self.runs.lock().unwrap();
            for (place, start) in self.world.started_after(runs.0) {
                runs.0 += 1;
                let began = &self.resources[resource_of(&start)].began;
                let _ = began.compare_exchange(0, ms.max(1), Ordering::Relaxed, Ordering::Relaxed);
                let takes = RUN_MS.0 + (Chance(runs.0 as u64).next() % (RUN_MS.1 - RUN_MS.0) as u64) as i64;
                runs.1.insert((ms + takes, start.id), (place, start));
            }
        }
    }

    fn ended(&self, ms: i64) -> Option<(Place, Start)> {
        let mut runs = self.runs.lock().unwrap();
        let first = runs.1.first_entry()?;
        (first.key().0 <= ms).then(|| first.remove())
    }

    /// SSM tells of the end, every third time twice.
    async fn complete(&self, place: &Place, start: &Start, ms: i64) {
        let nth = resource_of(start);
        let event = self.world.end_of(place, start, Some(self.resources[nth].kind.outcome()));
        let completion = Completion::new(&self.world, identity());
        for _ in 0..=usize::from(nth.is_multiple_of(3)) {
            let (done, _) = counted(completion.message(&event, at(ms))).await;
            if done.is_err() {
                self.runs.lock().unwrap().1.insert((ms + 1000, start.id), (place.clone(), start.clone()));
            }
        }
        let back = self.world.take_brought_back();
        self.report.lock().unwrap().brought_back += back.len();
        self.queue.lock().unwrap().extend(back);
    }

    /// Until nothing runs and nothing waits.
    async fn settle(&'static self) {
        let handler = Orchestrator::new(&self.world, identity());
        for round in 1..=1000 {
            self.meanwhile(&handler, NIGHT_MS + round * RUN_MS.1).await;
            let quiet = self.runs.lock().unwrap().1.is_empty() && self.queue.lock().unwrap().is_empty();
            if quiet {
                assert_eq!(self.world.size().2, 0, "nothing waits for a place that is free");
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn mark(&self) -> Mark {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let stat: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |nth: usize| stat[nth].parse::<u64>().unwrap();
        Mark {
            rss: statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096,
            cpu_ms: (ticks(11) + ticks(12)) * 10,
            wall_ms: self.began.elapsed().as_millis(),
            tables: self.world.size(),
        }
    }

    /// Every finding is where it must be, every remediation has ended, and the chains verify.
    fn check(&self) {
        self.world.verify();
        let (mut ends, mut starts) = (HashMap::new(), HashMap::new());
        let mut open = BTreeMap::new();
        for record in self.world.records() {
            let record = record.draft;
            open.insert(record.remediation_id, record.execution_status);
            if record.execution_status == State::Claimed {
                *starts.entry(record.resource_id.clone()).or_insert(0) += 1;
            }
            ends.insert(record.resource_id, record.execution_status);
        }
        for (nth, resource) in self.resources.iter().enumerate() {
            let arn = format!("arn:aws:s3:::{}", bucket(nth));
            let found = (ends.get(&arn).copied(), starts.get(&arn).copied().unwrap_or(0));
            let (end, started) = resource.kind.end();
            assert_eq!(found, (Some(end), started), "{arn}, {:?}", resource.kind);
        }
        open.retain(|_, state| !state.is_terminal());
        assert!(open.is_empty(), "without an end: {open:?}");
    }
}

fn at(ms: i64) -> Timestamp {
    now() + SignedDuration::from_millis(ms)
}

/// The storm, and what came of it. What must hold whatever its size is asserted here.
pub(crate) async fn storm(shape: Shape) -> Report {
    let storm: &'static Storm = Box::leak(Box::new(Storm::new(shape)));
    let workers: Vec<_> = (0..shape.workers).map(|_| tokio::spawn(storm.work())).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    storm.settle().await;
    storm.check();
    let mut report = std::mem::take(&mut *storm.report.lock().unwrap());
    report.marks[2] = storm.mark();
    report.started = storm.world.started().len();
    report.told = storm.world.told().len();
    report.records = storm.world.size().1;

    assert_eq!((report.started, report.start_calls), (report.expected, report.expected), "one effect each");
    assert!(report.started <= shape.findings);
    let asked_guard = report.others.keys().map(|calls| calls.matches("Invoke").count()).max();
    assert!(asked_guard <= Some(1), "{:#?}", report.others);
    assert!(storm.world.dead().is_empty());
    assert_eq!(report.marks[1].tables, report.marks[2].tables, "duplicates leave nothing behind");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_duplicates_has_one_effect_for_each_finding_and_costs_one_read_for_each_duplicate() {
    let shape = Shape { findings: 100, deliveries: 10_000, workers: 8, in_flight: 1, seed: 21 };
    let report = storm(shape).await;
    let last = report.marks[2];
    // The memory is the process's, in which other tests run, too.
    println!("{report:#?}: {} ms, {} of them own CPU, {} MB", last.wall_ms, last.cpu_ms, last.rss / 1_000_000);
    let others: usize = report.others.values().sum();
    assert!(others < 5 * shape.findings, "{:#?}", report.others);
    assert!(report.brought_back > 0, "some had to wait for a place");
}
