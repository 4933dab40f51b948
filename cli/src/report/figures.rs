//! Facts → numbers. Every number that a report shows is counted here, as [`super::definitions`] says.
//!
//! Pure: the time is the period's end. A part is never greater than its whole, and the parts of a whole add up to it.

use std::collections::{BTreeMap, HashMap, HashSet};

use redress_common::finding::SeverityLabel;
use redress_common::state::State;
use serde::{Serialize, Serializer};

use super::fold::{Case, EXEMPT, Kind};
use super::period::Period;

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rate {
    pub(crate) part: u64,
    pub(crate) of: u64,
}

impl Rate {
    /// From 0 to 1; of nothing there is none.
    pub(crate) fn value(self) -> Option<f64> {
        (self.of > 0).then(|| real(self.part.min(self.of)) / real(self.of))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Shown {
            part: u64,
            of: u64,
            value: Option<f64>,
        }
        Shown { part: self.part, of: self.of, value: self.value().map(|value| round(value, 4)) }.serialize(serializer)
    }
}

/// Times, in the middle and at the slow end. Milliseconds; as JSON, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) median: i64,
    pub(crate) p90: i64,
    pub(crate) mean: i64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut samples: Vec<i64>) -> Option<Self> {
        samples.sort_unstable();
        let count = i64::try_from(samples.len()).ok().filter(|count| *count > 0)?;
        let sum: i128 = samples.iter().map(|sample| i128::from(*sample)).sum();
        Some(Self {
            count: samples.len() as u64,
            median: percentile(&samples, 50),
            p90: percentile(&samples, 90),
            mean: i64::try_from(sum / i128::from(count)).unwrap_or(i64::MAX),
        })
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Shown {
            count: u64,
            median_seconds: f64,
            p90_seconds: f64,
            mean_seconds: f64,
        }
        let seconds = |ms: i64| round(signed(ms) / 1000.0, 3);
        let (median_seconds, p90_seconds, mean_seconds) = (seconds(self.median), seconds(self.p90), seconds(self.mean));
        Shown { count: self.count, median_seconds, p90_seconds, mean_seconds }.serialize(serializer)
    }
}

/// The smallest sample that this many of a hundred do not pass (nearest rank); of nothing 0.
fn percentile(sorted: &[i64], percent: usize) -> i64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Where a resource stands with a control at the end of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) enum Standing {
    /// Fixed, or found compliant; or it is gone.
    Settled,
    /// An exemption holds.
    Exempt,
    /// Policy asks for nothing, or the finding is suppressed or resolved in Security Hub.
    Ignored,
    /// A person said no, or had it put back.
    Declined,
    /// A remediation is under way.
    UnderWay,
    /// It waits for a free place.
    Waiting,
    /// It waits for people's answer.
    Asked,
    /// People were told, and Redress has done no more.
    Told,
    /// Nobody answered in time.
    Expired,
    /// It could not be fixed.
    Failed,
}

impl Standing {
    pub(crate) const ALL: [Self; 10] = [
        Self::Settled,
        Self::Exempt,
        Self::Ignored,
        Self::Declined,
        Self::UnderWay,
        Self::Waiting,
        Self::Asked,
        Self::Told,
        Self::Expired,
        Self::Failed,
    ];

    /// For people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Exempt => "exempt",
            Self::Ignored => "ignored by policy",
            Self::Declined => "declined by a person",
            Self::UnderWay => "under way",
            Self::Waiting => "waiting for a place",
            Self::Asked => "waiting for an answer",
            Self::Told => "told, not acted on",
            Self::Expired => "not answered in time",
            Self::Failed => "failed",
        }
    }

    /// Whether somebody or something still has to deal with it.
    pub(crate) const fn is_backlog(self) -> bool {
        matches!(self, Self::UnderWay | Self::Waiting | Self::Asked | Self::Told | Self::Expired | Self::Failed)
    }

    fn of(case: &Case) -> Self {
        let Some((_, state)) = case.state else { return Self::Declined };
        if case.undone.is_some() {
            return Self::Declined;
        }
        match state {
            State::Verified => Self::Settled,
            State::Failed if case.outcome == "NotFound" => Self::Settled,
            State::Failed | State::Unverified => Self::Failed,
            State::Ignored => Self::Ignored,
            State::Notified if case.code == EXEMPT => Self::Exempt,
            State::Notified if case.code == "held" => Self::Declined,
            State::Notified => Self::Told,
            State::Denied | State::RolledBack => Self::Declined,
            State::Expired => Self::Expired,
            State::AwaitingApproval => Self::Asked,
            State::Planned if case.code == "waiting" => Self::Waiting,
            State::Received | State::Planned | State::Claimed | State::Applying | State::Applied => Self::UnderWay,
        }
    }
}

/// How many stand how. The parts of the whole add up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standings(BTreeMap<Standing, u64>);

impl Standings {
    pub(crate) fn of(&self, standing: Standing) -> u64 {
        self.0.get(&standing).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// How much of it is backlog.
    pub(crate) fn backlog(&self) -> Rate {
        let part = self.0.iter().filter(|(standing, _)| standing.is_backlog()).map(|(_, count)| count).sum();
        Rate { part, of: self.total() }
    }

    fn add(&mut self, standing: Standing) {
        *self.0.entry(standing).or_default() += 1;
    }
}

impl Serialize for Standings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Standing::ALL.map(|standing| (standing, self.of(standing))))
    }
}

/// How the remediations that ended in the period ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Ends {
    /// Changed, and read back as it should be.
    pub(crate) fixed: u64,
    /// Started, and nothing had to be changed.
    pub(crate) already_compliant: u64,
    /// Changed, but it does not read back.
    pub(crate) unverified: u64,
    /// Started, and it could not be done.
    pub(crate) failed: u64,
    /// Started, and the resource was there no more.
    pub(crate) gone: u64,
    /// Could not be decided, or started, for want of something.
    pub(crate) undecided: u64,
    pub(crate) told: u64,
    pub(crate) exempt: u64,
    pub(crate) ignored: u64,
    pub(crate) denied: u64,
    pub(crate) expired: u64,
}

impl Ends {
    /// Those that were started and whose end says something of Redress.
    pub(crate) const fn attempts(&self) -> u64 {
        self.fixed + self.already_compliant + self.unverified + self.failed
    }
}

/// A target: how soon findings of a severity are to be fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) severity: SeverityLabel,
    pub(crate) within_ms: i64,
}

/// How targets were kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Kept {
    /// Fixed in time.
    pub(crate) met: u64,
    /// Fixed, but too late.
    pub(crate) late: u64,
    /// Not fixed at the end of the period, and too late.
    pub(crate) overdue: u64,
    /// Not fixed at the end of the period, and still in time; counts neither way.
    pub(crate) pending: u64,
}

impl Kept {
    pub(crate) const fn rate(&self) -> Rate {
        Rate { part: self.met, of: self.met + self.late + self.overdue }
    }
}

/// The figures of all remediations, or of those of one control, account or severity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) attempts: u64,
    pub(crate) ends: Ends,
    pub(crate) success: Rate,
    pub(crate) failure: Rate,
    pub(crate) repeat: Rate,
    pub(crate) undo: Rate,
    pub(crate) backlog: Rate,
    /// From when the finding was first seen to the read-back of the fix.
    pub(crate) since_first_seen: Option<Spread>,
    /// From the event that brought it to the read-back of the fix.
    pub(crate) since_event: Option<Spread>,
    pub(crate) standing: Standings,
    pub(crate) sla: Kept,
    pub(crate) sla_met: Rate,
}

/// What happened in one part of the period.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Point {
    /// The first day.
    pub(crate) day: String,
    pub(crate) days: i64,
    pub(crate) fixed: u64,
    pub(crate) not_fixed: u64,
    pub(crate) told: u64,
}

/// How questions to people ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Approvals {
    pub(crate) asked: u64,
    pub(crate) approved: u64,
    pub(crate) denied: u64,
    pub(crate) expired: u64,
    /// Answered by nobody yet.
    pub(crate) waiting: u64,
    /// Void: the resource changed, a newer finding came, or an error.
    pub(crate) void: u64,
}

/// How undos ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Undos {
    pub(crate) put_back: u64,
    /// The resource was changed since, so nothing was put back.
    pub(crate) drifted: u64,
    pub(crate) failed: u64,
    /// Not allowed, or not possible.
    pub(crate) refused: u64,
}

/// What is assumed to work out what was saved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Assumptions {
    pub(crate) minutes_by_hand: f64,
    pub(crate) minutes_an_answer: f64,
    pub(crate) minutes_a_failure: f64,
    pub(crate) hourly_rate: f64,
    pub(crate) cost_a_run: f64,
}

/// What was saved, if what is assumed holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    pub(crate) assumptions: Assumptions,
    /// Fixes that nobody had put back.
    pub(crate) kept_fixes: u64,
    pub(crate) answers: u64,
    pub(crate) failures: u64,
    /// Runbooks that were started: fixes, undos, dry runs and plans.
    pub(crate) runs: u64,
    pub(crate) hours: f64,
    pub(crate) cost_of_runs: f64,
    pub(crate) money: f64,
}

/// Everything that is counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Figures {
    pub(crate) all: Group,
    pub(crate) by_severity: Vec<Group>,
    pub(crate) by_control: Vec<Group>,
    pub(crate) by_account: Vec<Group>,
    pub(crate) trend: Vec<Point>,
    pub(crate) approvals: Approvals,
    pub(crate) undos: Undos,
    pub(crate) dry_runs: u64,
    pub(crate) changes: u64,
    pub(crate) rejected: u64,
    pub(crate) saved: Saved,
}

/// How a remediation that ended in the period ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Fixed,
    AlreadyCompliant,
    Unverified,
    Failed,
    Gone,
    Undecided,
    Told,
    Exempt,
    Ignored,
    Denied,
    Expired,
}

impl Ended {
    /// `None` of what is under way.
    pub(crate) fn of(case: &Case) -> Option<Self> {
        let (_, state) = case.end()?;
        let started = case.started.is_some();
        Some(match state {
            State::Verified if case.outcome == "AlreadyCompliant" => Self::AlreadyCompliant,
            State::Verified => Self::Fixed,
            State::Unverified => Self::Unverified,
            State::Failed if case.outcome == "NotFound" => Self::Gone,
            State::Failed if started => Self::Failed,
            State::Failed => Self::Undecided,
            State::Notified if case.code == EXEMPT => Self::Exempt,
            State::Notified => Self::Told,
            State::Ignored => Self::Ignored,
            State::Denied | State::RolledBack => Self::Denied,
            State::Expired => Self::Expired,
            _ => return None,
        })
    }

    /// Whether a runbook was started for it and its end says something of Redress.
    pub(crate) const fn is_attempt(self) -> bool {
        matches!(self, Self::Fixed | Self::AlreadyCompliant | Self::Unverified | Self::Failed)
    }
}

/// A resource and a control, and the newest remediation of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) case: &'a Case,
    pub(crate) standing: Standing,
}

/// What stands how at the end of the period: pairs that something happened to in it, and those that are backlog since before.
pub(crate) fn pairs<'a>(cases: &'a [Case], period: &Period) -> Vec<Pair<'a>> {
    let mut newest: BTreeMap<(&str, &str, &str, &str), &Case> = BTreeMap::new();
    // "In progress" answers a person's request; it says nothing of the resource.
    for case in cases.iter().filter(|case| case.kind == Kind::Fix && case.code != "in-progress") {
        let kept = newest.entry(case.subject()).or_insert(case);
        if (case.first, case.id) >= (kept.first, kept.id) {
            *kept = case;
        }
    }
    let pairs = newest.into_values().map(|case| Pair { case, standing: Standing::of(case) });
    pairs
        .filter(|pair| {
            let moments = [Some(pair.case.first), pair.case.state.map(|(at, _)| at), pair.case.undone];
            pair.standing.is_backlog() || moments.into_iter().flatten().any(|at| period.has(at))
        })
        .collect()
}

/// The ids of the fixes that had to be made again: of the same resource and control as an earlier one that nobody had undone.
fn repeats(cases: &[Case]) -> HashSet<redress_common::ids::RemediationId> {
    let mut fixed: HashMap<(&str, &str, &str, &str), Vec<&Case>> = HashMap::new();
    for case in cases.iter().filter(|case| case.kind == Kind::Fix && Ended::of(case) == Some(Ended::Fixed)) {
        fixed.entry(case.subject()).or_default().push(case);
    }
    let mut again = HashSet::new();
    for mut fixes in fixed.into_values() {
        fixes.sort_by_key(|case| (case.state.map(|(at, _)| at), case.id));
        for (nth, case) in fixes.iter().enumerate() {
            let at = case.state.map(|(at, _)| at);
            let stands = |earlier: &&&Case| earlier.undone.is_none_or(|undone| Some(undone) > at);
            if fixes[..nth].iter().any(|earlier| stands(&earlier)) {
                again.insert(case.id);
            }
        }
    }
    again
}

/// What is counted of some remediations.
#[derive(Debug, Default)]
struct Tally {
    ends: Ends,
    repeated: u64,
    undone: u64,
    since_first_seen: Vec<i64>,
    since_event: Vec<i64>,
    standing: Standings,
    sla: Kept,
}

impl Tally {
    fn ended(&mut self, case: &Case, ended: Ended, at: i64, again: bool, target: Option<i64>) {
        let ends = &mut self.ends;
        *match ended {
            Ended::Fixed => &mut ends.fixed,
            Ended::AlreadyCompliant => &mut ends.already_compliant,
            Ended::Unverified => &mut ends.unverified,
            Ended::Failed => &mut ends.failed,
            Ended::Gone => &mut ends.gone,
            Ended::Undecided => &mut ends.undecided,
            Ended::Told => &mut ends.told,
            Ended::Exempt => &mut ends.exempt,
            Ended::Ignored => &mut ends.ignored,
            Ended::Denied => &mut ends.denied,
            Ended::Expired => &mut ends.expired,
        } += 1;
        self.undone += u64::from(ended.is_attempt() && case.undone.is_some());
        if ended == Ended::Fixed {
            self.repeated += u64::from(again);
            let took = (at - case.seen).max(0);
            self.since_first_seen.push(took);
            self.since_event.push((at - case.event).max(0));
            match target {
                Some(within) if took <= within => self.sla.met += 1,
                Some(_) => self.sla.late += 1,
                None => {}
            }
        }
    }

    fn stands(&mut self, pair: &Pair<'_>, until: i64, target: Option<i64>) {
        self.standing.add(pair.standing);
        if let Some(within) = target.filter(|_| pair.standing.is_backlog()) {
            let overdue = until - pair.case.seen > within;
            *(if overdue { &mut self.sla.overdue } else { &mut self.sla.pending }) += 1;
        }
    }

    fn group(self, name: String) -> Group {
        let attempts = self.ends.attempts();
        let good = self.ends.fixed + self.ends.already_compliant;
        Group {
            name,
            attempts,
            success: Rate { part: good, of: attempts },
            failure: Rate { part: attempts - good, of: attempts },
            repeat: Rate { part: self.repeated, of: self.ends.fixed },
            undo: Rate { part: self.undone, of: attempts },
            backlog: self.standing.backlog(),
            since_first_seen: Spread::of(self.since_first_seen),
            since_event: Spread::of(self.since_event),
            sla_met: self.sla.rate(),
            ends: self.ends,
            standing: self.standing,
            sla: self.sla,
        }
    }
}

/// Tallies of everything, and by severity, control and account.
#[derive(Debug, Default)]
struct Tallies {
    all: Tally,
    severity: BTreeMap<SeverityLabel, Tally>,
    control: BTreeMap<String, Tally>,
    account: BTreeMap<String, Tally>,
}

impl Tallies {
    fn each(&mut self, case: &Case, mut count: impl FnMut(&mut Tally)) {
        let control = case.control.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        count(&mut self.all);
        count(self.severity.entry(case.severity).or_default());
        count(self.control.entry(control).or_default());
        count(self.account.entry(case.account.to_string()).or_default());
    }
}

/// All figures of a period.
pub(crate) fn figures(cases: &[Case], period: &Period, targets: &[Target], assumed: Assumptions) -> Figures {
    let target = |severity| targets.iter().find(|target| target.severity == severity).map(|target| target.within_ms);
    let until = period.until().as_millisecond();
    let again = repeats(cases);
    let mut tallies = Tallies::default();
    let mut trend: Vec<Point> = period
        .parts()
        .into_iter()
        .map(|part| Point { day: part.day.to_string(), days: part.days, ..Point::default() })
        .collect();
    let mut answered = Approvals::default();
    let mut undos = Undos::default();
    let (mut dry_runs, mut changes, mut rejected, mut runs, mut kept_fixes) = (0, 0, 0, 0, 0);
    for case in cases {
        let is_counted = case.kind != Kind::Sample;
        runs += u64::from(is_counted && case.started.is_some_and(|at| period.has(at)));
        let ended = case.end().filter(|(at, _)| period.has(*at));
        match case.kind {
            Kind::Change => changes += u64::from(period.has(case.first)),
            Kind::Rejected => rejected += u64::from(period.has(case.first)),
            Kind::DryRun => dry_runs += u64::from(ended.is_some()),
            Kind::Aside | Kind::Sample => {}
            Kind::Undo => {
                if let Some((_, state)) = ended {
                    *match (state, case.outcome.as_str()) {
                        (State::RolledBack, _) => &mut undos.put_back,
                        (_, "Drifted") => &mut undos.drifted,
                        _ if case.started.is_some() => &mut undos.failed,
                        _ => &mut undos.refused,
                    } += 1;
                }
            }
            Kind::Fix => {
                if case.asked.is_some_and(|at| period.has(at)) {
                    answered.asked += 1;
                    *approval(case, &mut answered) += 1;
                }
                let (Some((at, _)), Some(how)) = (ended, Ended::of(case)) else { continue };
                kept_fixes += u64::from(how == Ended::Fixed && case.undone.is_none());
                let is_again = again.contains(&case.id);
                tallies.each(case, |tally| tally.ended(case, how, at, is_again, target(case.severity)));
                if let Some(point) = period.part_of(at).and_then(|part| trend.get_mut(part)) {
                    match how {
                        Ended::Fixed => point.fixed += 1,
                        Ended::Unverified | Ended::Failed => point.not_fixed += 1,
                        Ended::Told => point.told += 1,
                        _ => {}
                    }
                }
            }
        }
    }
    for pair in pairs(cases, period) {
        tallies.each(pair.case, |tally| tally.stands(&pair, until, target(pair.case.severity)));
    }
    let named = |tallies: BTreeMap<String, Tally>| {
        let mut groups: Vec<Group> = tallies.into_iter().map(|(name, tally)| tally.group(name)).collect();
        groups.sort_by_key(|group| std::cmp::Reverse((group.attempts, group.standing.total())));
        groups
    };
    let all = tallies.all.group("all".to_owned());
    let answers = answered.approved + answered.denied;
    let saved = saved(assumed, kept_fixes, answers, all.ends.failed + all.ends.unverified, runs);
    let severities = tallies.severity.into_iter().rev();
    Figures {
        all,
        by_severity: severities.map(|(label, tally)| tally.group(label.as_str().to_owned())).collect(),
        by_control: named(tallies.control),
        by_account: named(tallies.account),
        trend,
        approvals: answered,
        undos,
        dry_runs,
        changes,
        rejected,
        saved,
    }
}

/// Where a question that was asked is counted.
fn approval<'a>(case: &Case, answered: &'a mut Approvals) -> &'a mut u64 {
    match case.state.map(|(_, state)| state) {
        Some(State::Denied) => &mut answered.denied,
        Some(State::Expired) => &mut answered.expired,
        Some(State::AwaitingApproval) => &mut answered.waiting,
        _ if case.started.zip(case.asked).is_some_and(|(started, asked)| started >= asked) => &mut answered.approved,
        _ => &mut answered.void,
    }
}

fn saved(assumptions: Assumptions, kept_fixes: u64, answers: u64, failures: u64, runs: u64) -> Saved {
    let minutes = real(kept_fixes) * assumptions.minutes_by_hand
        - real(answers) * assumptions.minutes_an_answer
        - real(failures) * assumptions.minutes_a_failure;
    let cost = real(runs) * assumptions.cost_a_run;
    let hours = minutes / 60.0;
    Saved {
        assumptions,
        kept_fixes,
        answers,
        failures,
        runs,
        hours: round(hours, 1),
        cost_of_runs: round(cost, 2),
        money: round(hours * assumptions.hourly_rate - cost, 2),
    }
}

/// A count, to reckon with.
#[expect(clippy::cast_precision_loss, reason = "no ledger has 2^52 records")]
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

/// Milliseconds, to reckon with.
#[expect(clippy::cast_precision_loss, reason = "shown to the millisecond for 200,000 years")]
pub(crate) const fn signed(milliseconds: i64) -> f64 {
    milliseconds as f64
}

/// To so many places, and never a negative nothing.
pub(crate) fn round(value: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (value * scale).round() / scale + 0.0
}
