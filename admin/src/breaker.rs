//! The breaker: too many starts within an hour, or too many failures of a control, and rules do not act any more in
//! that scope until one probe has gone well or a person has closed it.
//!
//! Pure. Every start that a rule asks for counts, by whatever event it came. Breakers only ever say no to rules: a
//! person who asks is not stopped here.

use redress_common::aws::item::ItemError;
use redress_common::aws::ledger_store::Also;
use redress_common::aws::state_table::{Expect, Limits, Snapshot, StateKey};
use redress_common::ids::{AccountId, ControlId, RemediationId};
use redress_common::items::breaker::{Breaker, BreakerScope, Count, hour};
use redress_common::time::seconds_of;

const HOUR_MS: i64 = 3_600_000;
/// Counts are kept a day longer than their hour, for people to look at.
const KEEP_SECONDS: i64 = 24 * 60 * 60;
/// Attributes of [`Count`].
const STARTS: &str = "Starts";
const ENDS: &str = "Ends";
const FAILURES: &str = "Failures";

/// A scope, its breaker, and what it did this hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The scope.
    pub scope: BreakerScope,
    /// Its breaker.
    pub breaker: Breaker,
    /// Its count of this hour.
    pub count: Count,
}

/// The scopes that a remediation belongs to, from the widest.
#[must_use]
pub fn scopes(account: &AccountId, control: &ControlId) -> [BreakerScope; 3] {
    [BreakerScope::Organisation, BreakerScope::Account(account.clone()), BreakerScope::Control(control.clone())]
}

/// The items to read for [`standings`].
#[must_use]
pub fn keys(account: &AccountId, control: &ControlId, now_ms: i64) -> Vec<StateKey> {
    let of = |scope: BreakerScope| [StateKey::Breaker(scope.clone()), StateKey::Count(scope, hour(now_ms))];
    scopes(account, control).into_iter().flat_map(of).collect()
}

/// Where the scopes of a remediation stand.
///
/// # Errors
/// When an item is not readable. The caller must then change nothing.
pub fn standings(
    snapshot: &Snapshot,
    account: &AccountId,
    control: &ControlId,
    now_ms: i64,
) -> Result<Vec<Standing>, ItemError> {
    let standing = |scope: BreakerScope| {
        let (breaker, count) = (snapshot.breaker(&scope)?, snapshot.count(&scope, hour(now_ms))?);
        Ok(Standing { scope, breaker, count })
    };
    scopes(account, control).into_iter().map(standing).collect()
}

/// What the breakers say to a start that a rule asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// It may start, with these in the same transaction: the counts, and the probes that it is.
    Start(Vec<Also>),
    /// A budget is used up: the breaker opens, and then the start is asked for again.
    Open(Opening),
    /// It may not start. Why, in a sentence.
    Stopped(String),
}

/// A breaker that opens.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Whose.
    pub scope: BreakerScope,
    /// What it becomes.
    pub breaker: Breaker,
}

impl Opening {
    fn of(standing: &Standing, reason: String, probe_at: i64, now_ms: i64) -> Self {
        let breaker = Breaker {
            version: standing.breaker.version + 1,
            opened_at: Some(now_ms),
            reason,
            probe_at,
            probe: None,
            forgiven_until: standing.breaker.forgiven_until,
        };
        Self { scope: standing.scope.clone(), breaker }
    }

    /// The write of it, over the version that was read.
    ///
    /// # Errors
    /// Never: a breaker is an object.
    pub fn put(&self) -> Result<Also, ItemError> {
        put(&self.scope, &self.breaker)
    }

    /// The id under which its opening is written down and told: the same for whoever finds it first.
    #[must_use]
    pub fn id(&self) -> RemediationId {
        RemediationId::of_rejected(format!("breaker:{}:{}", self.scope, self.breaker.version).as_bytes())
    }
}

/// Whether a rule's remediation may start. `anew` is false when it was counted before: its first worker died, or gave back.
///
/// # Errors
/// Never: breakers are objects.
pub fn admit(
    standings: &[Standing],
    limits: &Limits,
    id: RemediationId,
    anew: bool,
    run_ms: i64,
    now_ms: i64,
) -> Result<Admission, ItemError> {
    let mut also = Vec::new();
    for standing in standings {
        let (scope, breaker) = (&standing.scope, &standing.breaker);
        let budget = budget(scope, limits);
        if breaker.opened_at.is_some() {
            if breaker.probe != Some(id) {
                if now_ms < breaker.probe_at {
                    return Ok(Admission::Stopped(stopped(standing)));
                }
                // A probe of which nothing is heard is followed by another.
                let probe_at = now_ms + cool_down(limits).max(run_ms);
                also.push(put(
                    scope,
                    &Breaker { version: breaker.version + 1, probe: Some(id), probe_at, ..breaker.clone() },
                )?);
            }
        } else if let Some(most) = budget.filter(|most| anew && standing.count.starts >= *most) {
            let reason = format!("{most} remediations were started by rules within an hour, which is the limit");
            // Within the hour, a probe would say nothing of the next one's budget.
            let probe_at = (now_ms + cool_down(limits)).max((hour(now_ms) + 1) * HOUR_MS);
            return Ok(Admission::Open(Opening::of(standing, reason, probe_at, now_ms)));
        }
        if let (Some(most), true) = (budget, anew) {
            let cap = breaker.opened_at.is_none().then_some((STARTS, most));
            also.push(counted(scope, [(STARTS, 1)], cap, now_ms));
        }
    }
    Ok(Admission::Start(also))
}

/// What the end of a remediation does to the breakers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ended {
    /// To write with the end.
    pub also: Vec<Also>,
    /// The control's breaker opens: to be written down and told apart ([`crate::tell::opened`]), after the end.
    pub opened: Option<Opening>,
}

/// What the end of an `Apply` does to the breakers of its scopes, whoever asked for it: it counts for its control, and
/// when it was the probe of an open breaker it closes that, or keeps it open.
///
/// # Errors
/// Never: breakers are objects.
pub fn ended(
    standings: &[Standing],
    limits: &Limits,
    id: RemediationId,
    failed: bool,
    now_ms: i64,
) -> Result<Ended, ItemError> {
    let mut ended = Ended::default();
    for standing in standings {
        let (scope, breaker, count) = (&standing.scope, &standing.breaker, &standing.count);
        let of_control = matches!(scope, BreakerScope::Control(_));
        let probe = breaker.opened_at.is_some() && breaker.probe == Some(id);
        if probe && failed {
            let probe_at = now_ms + cool_down(limits);
            let reason =
                format!("{}; probe {id} failed, too", breaker.reason.split("; probe").next().unwrap_or_default());
            let again = Breaker { version: breaker.version + 1, probe: None, probe_at, reason, ..breaker.clone() };
            ended.also.push(put(scope, &again)?);
        } else if probe {
            ended.also.push(put(scope, &closed(breaker, now_ms))?);
        }
        if !of_control {
            continue;
        }
        if probe && !failed {
            // What failed before the breaker closed is forgiven.
            ended.also.push(Also::Delete { key: StateKey::Count(scope.clone(), hour(now_ms)) });
            continue;
        }
        ended.also.push(counted(scope, [(ENDS, 1), (FAILURES, u32::from(failed))], None, now_ms));
        let (ends, failures) = (count.ends.saturating_add(1), count.failures.saturating_add(u32::from(failed)));
        let too_many = u64::from(failures) * 100 >= u64::from(limits.control_failure_percent) * u64::from(ends);
        if failed && breaker.opened_at.is_none() && ends >= limits.control_minimum && too_many {
            let reason = format!("{failures} of {ends} remediations of the control failed within an hour");
            ended.opened = Some(Opening::of(standing, reason, now_ms + cool_down(limits), now_ms));
        }
    }
    Ok(ended)
}

/// What a person's closing of a breaker writes: it starts afresh, and so does the hour's count.
///
/// # Errors
/// Never: a breaker is an object.
pub fn close(scope: &BreakerScope, breaker: &Breaker, now_ms: i64) -> Result<Vec<Also>, ItemError> {
    let count = Also::Delete { key: StateKey::Count(scope.clone(), hour(now_ms)) };
    Ok(vec![put(scope, &closed(breaker, now_ms))?, count])
}

fn closed(breaker: &Breaker, now_ms: i64) -> Breaker {
    Breaker { version: breaker.version + 1, forgiven_until: now_ms, ..Breaker::default() }
}

fn put(scope: &BreakerScope, next: &Breaker) -> Result<Also, ItemError> {
    Also::put(StateKey::Breaker(scope.clone()), next, Expect::Version(next.version - 1))
}

fn counted<const N: usize>(
    scope: &BreakerScope,
    add: [(&'static str, u32); N],
    cap: Option<(&'static str, u32)>,
    now_ms: i64,
) -> Also {
    let hour = hour(now_ms);
    let expires_at = (hour + 1) * HOUR_MS / 1000 + KEEP_SECONDS;
    Also::Count { key: StateKey::Count(scope.clone(), hour), add: add.into(), cap, expires_at }
}

const fn budget(scope: &BreakerScope, limits: &Limits) -> Option<u32> {
    match scope {
        BreakerScope::Organisation => Some(limits.organisation_per_hour),
        BreakerScope::Account(_) => Some(limits.account_per_hour),
        BreakerScope::Control(_) => None,
    }
}

fn cool_down(limits: &Limits) -> i64 {
    i64::from(limits.cool_down_seconds) * 1000
}

fn stopped(standing: &Standing) -> String {
    format!(
        "the breaker of {} is open since {}: {}; after {} one is tried, or a person closes it with `redress breaker close`",
        standing.scope,
        seconds_of(standing.breaker.opened_at.unwrap_or_default()),
        standing.breaker.reason,
        seconds_of(standing.breaker.probe_at),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use redress_common::aws::item::Item;
    use std::collections::HashMap;

    const NOW: i64 = 1_772_366_400_000;
    const RUN: i64 = 1_200_000;

    fn id(name: &str) -> RemediationId {
        RemediationId::of_rejected(name.as_bytes())
    }

    fn limits() -> Limits {
        Limits { account_per_hour: 3, organisation_per_hour: 5, control_minimum: 4, ..Limits::default() }
    }

    /// The table, with DynamoDB's conditions.
    #[derive(Default)]
    struct Table(HashMap<String, Item>);

    impl Table {
        fn standings(&self, account: &str, now: i64) -> Vec<Standing> {
            let (account, control) = (account.parse().unwrap(), "S3.8".parse().unwrap());
            let keys = keys(&account, &control, now);
            let items = keys.iter().filter_map(|key| self.0.get(&key.to_string()).cloned()).collect();
            standings(&Snapshot::new(&keys, items), &account, &control, now).unwrap()
        }

        fn write(&mut self, also: &[Also]) {
            for change in also {
                let key = change.key().to_string();
                match change.apply(self.0.get(&key)).unwrap() {
                    Some(item) => self.0.insert(key, item),
                    None => self.0.remove(&key),
                };
            }
        }

        fn start(&mut self, account: &str, name: &str, now: i64) -> Admission {
            let admission = admit(&self.standings(account, now), &limits(), id(name), true, RUN, now).unwrap();
            match &admission {
                Admission::Start(also) => self.write(also),
                Admission::Open(opening) => self.write(&[opening.put().unwrap()]),
                Admission::Stopped(_) => {}
            }
            admission
        }

        fn end(&mut self, account: &str, name: &str, failed: bool, now: i64) -> Option<Opening> {
            let ended = ended(&self.standings(account, now), &limits(), id(name), failed, now).unwrap();
            self.write(&ended.also);
            if let Some(opening) = &ended.opened {
                self.write(&[opening.put().unwrap()]);
            }
            ended.opened
        }
    }

    const A: &str = "111122223333";
    const B: &str = "444455556666";

    #[test]
    fn defect_11_starts_by_events_count_against_the_budget_of_account_and_organisation() {
        let mut table = Table::default();
        for nth in 0..3 {
            assert!(matches!(table.start(A, &format!("a{nth}"), NOW), Admission::Start(_)));
        }
        let Admission::Open(opening) = table.start(A, "a3", NOW) else { panic!() };
        assert_eq!(opening.scope.to_string(), "account:111122223333");
        assert!(matches!(table.start(A, "a3", NOW), Admission::Stopped(_)));
        for nth in 0..2 {
            assert!(matches!(table.start(B, &format!("b{nth}"), NOW), Admission::Start(_)), "another account's budget");
        }
        let Admission::Open(opening) = table.start(B, "b2", NOW) else { panic!() };
        assert_eq!(opening.scope, BreakerScope::Organisation);
    }

    #[test]
    fn workers_that_read_the_same_count_cannot_pass_the_budget_together() {
        let mut table = Table::default();
        table.start(A, "a0", NOW);
        table.start(A, "a1", NOW);
        let read = table.standings(A, NOW);
        let both = ["a2", "a3"].map(|name| admit(&read, &limits(), id(name), true, RUN, NOW).unwrap());
        let [Admission::Start(first), Admission::Start(second)] = both else { panic!() };
        table.write(&first);
        let lost = second.iter().any(|also| also.apply(table.0.get(&also.key().to_string())).is_err());
        assert!(lost, "the count's cap refuses the second transaction");
    }

    #[test]
    fn a_start_that_was_counted_is_not_counted_again() {
        let mut table = Table::default();
        (0..3).for_each(|nth| drop(table.start(A, &format!("a{nth}"), NOW)));
        let again = admit(&table.standings(A, NOW), &limits(), id("a2"), false, RUN, NOW).unwrap();
        assert_eq!(again, Admission::Start(Vec::new()));
    }

    #[test]
    fn after_the_cool_down_one_probe_goes_and_its_end_decides() {
        let mut table = Table::default();
        (0..4).for_each(|nth| drop(table.start(A, &format!("a{nth}"), NOW)));
        let next_hour = (hour(NOW) + 1) * HOUR_MS;
        assert!(matches!(table.start(A, "b", next_hour - 1), Admission::Stopped(_)), "the budget is one of the hour");
        assert!(matches!(table.start(A, "probe", next_hour), Admission::Start(_)));
        assert!(matches!(table.start(A, "probe", next_hour + 1), Admission::Start(_)), "its worker died");
        assert!(matches!(table.start(A, "other", next_hour + 2), Admission::Stopped(_)), "one, and no more");
        table.end(A, "probe", true, next_hour + 3);
        assert!(matches!(table.start(A, "other", next_hour + 4), Admission::Stopped(_)), "it failed");
        let later = next_hour + 3 + 900_000;
        assert!(matches!(table.start(A, "second", later), Admission::Start(_)));
        table.end(A, "second", false, later + 1);
        assert!(!matches!(table.start(A, "other", later + 2), Admission::Stopped(_)));
        assert_eq!(table.standings(A, later)[1].breaker.forgiven_until, later + 1);
    }

    #[test]
    fn a_probe_of_which_nothing_is_heard_is_followed_by_another() {
        let mut table = Table::default();
        (0..4).for_each(|nth| drop(table.start(A, &format!("a{nth}"), NOW)));
        let probed = (hour(NOW) + 1) * HOUR_MS;
        table.start(A, "lost", probed);
        assert!(matches!(table.start(A, "next", probed + RUN - 1), Admission::Stopped(_)));
        assert!(matches!(table.start(A, "next", probed + RUN), Admission::Start(_)));
    }

    #[test]
    fn a_control_that_fails_too_often_is_stopped_everywhere_and_forgiven_when_its_probe_goes_well() {
        let mut table = Table::default();
        for (nth, failed) in [(0, true), (1, true), (2, false)] {
            assert_eq!(table.end(A, &nth.to_string(), failed, NOW), None, "too few to say anything");
        }
        let opening = table.end(A, "3", true, NOW).unwrap();
        assert_eq!(opening.scope.to_string(), "control:S3.8");
        assert!(opening.breaker.reason.starts_with("3 of 4"));
        assert!(matches!(table.start(B, "b", NOW + 1), Admission::Stopped(_)));
        let later = NOW + 900_000;
        assert!(matches!(table.start(B, "probe", later), Admission::Start(_)));
        table.end(B, "probe", false, later + 1);
        assert_eq!(table.end(A, "4", true, later + 2), None, "the failures from before are forgiven");
        assert!(matches!(table.start(A, "5", later + 3), Admission::Start(_)));
    }

    #[test]
    fn a_person_who_closes_a_breaker_gives_a_new_budget() {
        let mut table = Table::default();
        (0..4).for_each(|nth| drop(table.start(A, &format!("a{nth}"), NOW)));
        let standing = table.standings(A, NOW)[1].clone();
        table.write(&close(&standing.scope, &standing.breaker, NOW).unwrap());
        assert!(matches!(table.start(A, "b", NOW), Admission::Start(_)));
    }
}
