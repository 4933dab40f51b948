//! Loops: a remediation whose own effect is the next event. What a rule hears of its own doing must not feed it for ever.
//! (The loop on one resource ends at the flapping guard, in [`super::admission`].)

use std::collections::VecDeque;

use redress_common::aws::state_table::Limits;
use redress_common::items::breaker::{BreakerScope, hour};
use redress_common::notification::Notification;

use super::*;

/// An evidence bucket that triggers the pipeline: each remediation writes to `fan` buckets that nobody had before, each in
/// the next of so many accounts, and each of them fails the control. The queue of what it makes.
struct Loop {
    world: World,
    accounts: usize,
    fan: usize,
    made: usize,
    queue: VecDeque<String>,
    events: usize,
    at: Timestamp,
}

impl Loop {
    fn new(limits: Limits, accounts: usize, fan: usize) -> Self {
        let world = World::new(&Settings { limits, ..standard() });
        let mut first = Self { world, accounts, fan, made: 0, queue: VecDeque::new(), events: 0, at: now() };
        first.make();
        first
    }

    fn make(&mut self) {
        self.made += 1;
        let account = format!("1111222233{:02}", self.made % self.accounts);
        let body = IMPORT
            .replace("payroll-exports", &format!("loop-{}", self.made))
            .replace("111122223333", &account)
            .replace("0f8fad5b-d9cb-469f", &format!("0f8fad5b-d9cb-{:04}", self.made % 10_000));
        self.queue.push_back(generation(&body, &self.at.to_string()));
    }

    /// One event, its runbook, and what that makes.
    async fn event(&mut self, outcome: Outcome) {
        let Some(body) = self.queue.pop_front() else { return };
        let before = self.world.started().len();
        take(&self.world, &body, self.at).await.unwrap();
        self.events += 1;
        self.at += SignedDuration::from_millis(500);
        if self.world.started().len() > before {
            let event = self.world.end(Some(outcome));
            complete(&self.world, &event, self.at).await;
            (0..self.fan).for_each(|_| self.make());
        }
    }

    /// Until it has died, which must be within so many events.
    async fn run(&mut self, within: usize) {
        while !self.queue.is_empty() {
            assert!(self.events < within, "still looping after {within} events");
            self.event(Outcome::Verified).await;
        }
    }

    fn opened(&self) -> Vec<Notification> {
        self.world.told().into_iter().filter(|message| message.resource.starts_with("breaker#")).collect()
    }

    fn stopped(&self) -> usize {
        let code = |record: &redress_common::ledger::Record| record.detail(detail::CODE) == Some("breaker-open");
        let of_findings = self.world.records().into_iter().filter(|record| {
            code(record) && record.draft.execution_status == State::Notified && record.draft.finding_id != "none"
        });
        of_findings.count()
    }
}

fn account_breaker() -> BreakerScope {
    BreakerScope::Account("111122223300".parse().unwrap())
}

#[tokio::test]
async fn defect_21_a_bucket_that_triggers_the_pipeline_dies_at_the_accounts_budget() {
    let limits = Limits::default();
    let budget = limits.account_per_hour as usize;
    // Twice as many after each, if nothing stopped it.
    let mut spiral = Loop::new(limits, 1, 2);
    spiral.run(2 * budget + 1).await;
    assert_eq!(budget, 200, "docs/safety.md and docs/figures.md say so");
    assert_eq!((spiral.world.started().len(), spiral.events), (budget, 2 * budget + 1));
    assert_eq!(spiral.opened().len(), 1, "people hear once that it opened");
    assert_eq!(spiral.stopped(), budget + 1, "of each finding that was left alone there is a record");
    let breaker = spiral.world.breaker(&account_breaker());
    assert!(breaker.opened_at.is_some() && breaker.reason.contains("200 remediations"), "{}", breaker.reason);

    // Whatever else comes until the next hour, and however often: nothing starts.
    let told = spiral.world.told().len();
    spiral.make();
    let late = spiral.queue.pop_front().unwrap();
    spiral.world.calls();
    for _ in 0..50 {
        take(&spiral.world, &late, spiral.at).await.unwrap();
    }
    assert_eq!((spiral.world.started().len(), spiral.world.told().len()), (budget, told + 1));
    let calls = spiral.world.calls();
    assert_eq!(calls.iter().filter(|call| **call != "BatchGetItem").count(), 3, "two records and one message");
    spiral.world.verify();
}

#[tokio::test]
async fn defect_21_a_loop_over_many_accounts_dies_at_the_organisations_budget() {
    let limits = Limits { organisation_per_hour: 60, ..Limits::default() };
    let mut spiral = Loop::new(limits, 12, 3);
    spiral.run(3 * 60 + 1).await;
    assert_eq!((spiral.world.started().len(), spiral.opened().len()), (60, 1));
    assert!(spiral.world.breaker(&BreakerScope::Organisation).opened_at.is_some());
    assert!(spiral.world.breaker(&account_breaker()).opened_at.is_none(), "no account came near its own budget");
    spiral.world.verify();
}

#[tokio::test]
async fn defect_21_a_loop_that_goes_on_after_the_cool_down_gets_one_probe_and_no_more_than_the_budget_again() {
    let limits = Limits { account_per_hour: 6, ..Limits::default() };
    let mut spiral = Loop::new(limits, 1, 1);
    spiral.run(7).await;
    assert_eq!((spiral.world.started().len(), spiral.opened().len()), (6, 1));
    let version = |spiral: &Loop| spiral.world.breaker(&account_breaker()).version;
    let opened = version(&spiral);

    // In the next hour a probe goes. It fails: the breaker stays open, and nobody else goes.
    let probe_at = Timestamp::from_millisecond((hour(now().as_millisecond()) + 1) * 3_600_000).unwrap();
    spiral.at = probe_at;
    (0..4).for_each(|_| spiral.make());
    for _ in 0..4 {
        spiral.event(Outcome::Failed).await;
    }
    assert_eq!(spiral.world.started().len(), 7, "one probe");
    assert!(version(&spiral) > opened && spiral.world.breaker(&account_breaker()).opened_at.is_some());

    // After another cool-down one goes well, so that it closes; and what it makes is a loop again, until the same budget.
    spiral.queue.clear();
    spiral.at += SignedDuration::from_secs(i64::from(Limits::default().cool_down_seconds));
    spiral.make();
    spiral.run(100).await;
    let of_this_hour = spiral.world.count(&account_breaker(), hour(probe_at.as_millisecond())).starts;
    assert_eq!(of_this_hour, 6, "the probes count, too");
    assert_eq!((spiral.world.started().len(), spiral.opened().len()), (12, 2), "it opened again, and said so");
    assert!(spiral.world.breaker(&account_breaker()).opened_at.is_some());
    spiral.world.verify();
}
