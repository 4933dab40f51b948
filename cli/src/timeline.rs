//! What happened in one remediation, from event to notification, as values; and how a person reads it.
//!
//! Built from the ledger alone, so that it can be shown of any remediation anywhere. What the lab has seen
//! beside it (calls, steps of nested runbooks) makes it finer. Nothing here asks AWS anything.

use jiff::Timestamp;
use redress_common::ledger::{Record, RemediationType, detail};
use redress_common::names;
use redress_common::state::State;
use redress_lab::record::{Call, Verdict};
use serde::{Deserialize, Serialize};

use crate::output::{Style, Tone, short};

/// The ledger's records of one remediation, and what else is known of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources<'a> {
    /// The ledger's records of the remediation.
    pub(crate) records: &'a [Record],
    /// Steps of its runbooks; when empty, those that the ledger keeps.
    pub(crate) steps: Vec<Step>,
    /// Calls that were made while it ran, its own and others'.
    pub(crate) calls: &'a [Call],
}

/// One step of a runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Step {
    /// Its runbook; empty for the control runbook.
    #[serde(default)]
    pub(crate) document: String,
    /// Its name.
    pub(crate) name: String,
    /// SSM's status: `Success`, `Failed`.
    pub(crate) status: String,
    /// When it began.
    pub(crate) start: Timestamp,
    /// When it ended.
    pub(crate) end: Timestamp,
}

/// A remediation's way, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Timeline {
    /// The remediation.
    pub(crate) remediation_id: String,
    /// The control.
    pub(crate) control: String,
    /// The account of the resource.
    pub(crate) account_id: String,
    /// The Region of the resource.
    pub(crate) region: String,
    /// The resource.
    pub(crate) resource: String,
    /// What was done.
    pub(crate) action: String,
    /// Where it stands.
    pub(crate) state: State,
    /// The remediation that it undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undoes: Option<String>,
    /// From the event to the last entry.
    pub(crate) milliseconds: i64,
    /// What happened.
    pub(crate) entries: Vec<Entry>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry {
    /// When.
    pub(crate) at: Timestamp,
    /// Milliseconds since the first entry.
    pub(crate) offset: i64,
    /// What kind of thing.
    pub(crate) stage: Stage,
    /// What, in a few words.
    pub(crate) what: String,
    /// How long it took, in milliseconds, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) took: Option<i64>,
    /// Whether it went as it should.
    pub(crate) good: bool,
}

/// The stages of DESIGN §2, in their natural order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Stage {
    Event,
    Decided,
    Claimed,
    Assumed,
    Started,
    Step,
    Applied,
    Outcome,
    Finding,
    Notified,
    Recorded,
}

impl Timeline {
    /// The timeline of what the records speak of; `None` when there are none.
    pub(crate) fn build(sources: &Sources<'_>) -> Option<Self> {
        let mut records: Vec<&Record> = sources.records.iter().collect();
        records.sort_by_key(|record| (record.draft.timestamp, record.seq));
        let (first, last) = (records.first()?, records.last()?);
        let any = |key| records.iter().rev().find_map(|record| record.detail(key)).unwrap_or_default().to_owned();
        let mut entries = vec![event(first)];
        entries.extend(records.iter().flat_map(|record| of_record(record)));
        let kept = || serde_json::from_str(&any(detail::STEPS)).unwrap_or_default();
        let steps = if sources.steps.is_empty() { kept() } else { sources.steps.clone() };
        let first_step = steps.iter().map(|step| step.start).min();
        let claimed = records.iter().find(|record| record.draft.execution_status == State::Claimed);
        if let Some(claimed) = claimed {
            entries.extend(of_calls(sources.calls, last, &any(detail::REGION), time_of(claimed), first_step));
        }
        let handled = tone(last.draft.execution_status) == Tone::Good;
        entries.extend(steps.iter().map(|step| of_step(step, handled)));
        entries.sort_by_key(|entry| (entry.at, entry.stage));
        let start = entries.first()?.at;
        for entry in &mut entries {
            entry.offset = milliseconds(start, entry.at);
        }
        Some(Self {
            remediation_id: last.draft.remediation_id.to_string(),
            control: any(detail::CONTROL),
            account_id: last.draft.account_id.to_string(),
            region: any(detail::REGION),
            resource: last.draft.resource_id.clone(),
            action: last.draft.remediation_action.clone(),
            state: last.draft.execution_status,
            undoes: Some(any(detail::UNDOES)).filter(|id| !id.is_empty()),
            milliseconds: entries.last()?.offset,
            entries,
        })
    }

    /// For a person, one line an entry.
    pub(crate) fn render(&self, style: Style) -> String {
        let head = format!("{}  {}", self.control, self.resource);
        let undoes = self.undoes.as_ref().map(|id| format!(", undoing {id}")).unwrap_or_default();
        let mut text = format!(
            "{}\n  {} in {}, account {} {}\n  remediation {}{undoes}\n",
            style.paint(Tone::Strong, &head),
            style.paint(tone(self.state), self.state.as_str()),
            span(self.milliseconds),
            self.account_id,
            self.region,
            self.remediation_id,
        );
        for entry in &self.entries {
            let word = if entry.stage == Stage::Step { "  step" } else { entry.stage.word() };
            let took =
                entry.took.map(|took| format!("  {}", style.paint(Tone::Faint, &span(took)))).unwrap_or_default();
            let stage = format!("{word:<8}");
            let tone = if entry.good { Tone::Faint } else { Tone::Bad };
            let offset = format!("{:>10}", format!("+{}", span(entry.offset)));
            text.push_str(&format!("{offset}  {}  {}{took}\n", style.paint(tone, &stage), entry.what));
        }
        text
    }
}

impl Stage {
    const fn word(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Decided => "decided",
            Self::Claimed => "claimed",
            Self::Assumed => "assumed",
            Self::Started => "started",
            Self::Step => "step",
            Self::Applied => "applied",
            Self::Finding => "finding",
            Self::Notified => "notified",
            Self::Outcome => "outcome",
            Self::Recorded => "recorded",
        }
    }
}

/// How a state is to be felt.
pub(crate) const fn tone(state: State) -> Tone {
    match state {
        State::Verified | State::RolledBack => Tone::Good,
        State::Failed | State::Denied | State::Expired => Tone::Bad,
        State::Unverified | State::Notified | State::AwaitingApproval => Tone::Warning,
        State::Received | State::Planned | State::Claimed | State::Applying | State::Applied | State::Ignored => {
            Tone::Strong
        }
    }
}

fn event(first: &Record) -> Entry {
    let said = first.detail(detail::EVENT_TIME).and_then(|time| time.parse().ok());
    // Records are kept to the millisecond, so that the event may seem to come after them.
    let at = said.unwrap_or_else(|| time_of(first)).min(time_of(first));
    let by = first.detail(detail::REQUESTED_BY).unwrap_or("somebody");
    let by = if first.is_sample() { format!("{by}, a sample") } else { by.to_owned() };
    let title = first.detail(detail::TITLE).unwrap_or(&first.draft.finding_id);
    entry(at, Stage::Event, format!("{by}: {title}"))
}

/// What a record says happened. A record of the end also says what was told to whom, and its place in the chain.
fn of_record(record: &Record) -> Vec<Entry> {
    let at = time_of(record);
    let draft = &record.draft;
    let of = |key| record.detail(key).unwrap_or_default();
    let recorded = entry(
        at,
        Stage::Recorded,
        format!(
            "{} as {} of chain {}, hash {}",
            draft.execution_status,
            record.seq,
            record.origin,
            short(&record.hash)
        ),
    );
    match draft.execution_status {
        State::Received => Vec::new(),
        // Once decided, it is planned once more: what exactly is asked about is known then.
        State::Planned if of(detail::POLICY_SET).is_empty() && !of(detail::PLAN_SHA256).is_empty() => {
            vec![entry(at, Stage::Outcome, format!("Planned, SHA-256 {}", short(of(detail::PLAN_SHA256))))]
        }
        State::Planned => vec![entry(at, Stage::Decided, decision(record))],
        State::Claimed => {
            let who = if draft.remediation_type == RemediationType::Manual { "for a person" } else { "for a rule" };
            vec![entry(at, Stage::Claimed, format!("fence {}, {who}", of(detail::FENCE)))]
        }
        State::Applied => vec![entry(at, Stage::Applied, draft.remediation_action.clone())],
        state => {
            let mut entries = Vec::new();
            match of(detail::FINDING_UPDATE) {
                "" => {}
                update => entries.push(entry(at, Stage::Finding, format!("Security Hub: {update}"))),
            }
            if draft.notification_sent {
                entries.push(entry(at, Stage::Notified, names::NOTIFICATIONS_TOPIC.to_owned()));
            }
            let why = [draft.error_message.as_str(), of(detail::REASON)].into_iter().find(|text| !text.is_empty());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let mut outcome = entry(at, Stage::Outcome, format!("{}{why}", outcome(record)));
            outcome.good = tone(state) != Tone::Bad;
            entries.extend([outcome, recorded]);
            entries
        }
    }
}

/// `Verified`, or with the member's own word where that says more: `Verified (AlreadyCompliant)`.
fn outcome(record: &Record) -> String {
    let state = record.draft.execution_status.as_str();
    match record.detail(detail::OUTCOME) {
        Some(outcome) if outcome != state => format!("{state} ({outcome})"),
        _ => state.to_owned(),
    }
}

/// `act, by policy a and b of set standard (1a2b3c4d5e6f)`.
pub(crate) fn decision(record: &Record) -> String {
    let of = |key| record.detail(key).filter(|text| !text.is_empty());
    let disposition = of(detail::DISPOSITION).unwrap_or("decided");
    let policies =
        of(detail::POLICIES).map_or_else(|| "no policy".to_owned(), |ids| format!("policy {}", ids.replace(',', ", ")));
    let set = of(detail::POLICY_SET).unwrap_or("unknown");
    let hash = of(detail::POLICY_SET_SHA256).map(|hash| format!(" ({})", short(hash))).unwrap_or_default();
    format!("{disposition}, by {policies} of set {set}{hash}")
}

/// A step may fail and the runbook go on as it is written: how else would it find out that a setting is absent.
fn of_step(step: &Step, handled: bool) -> Entry {
    let document = if step.document.is_empty() { names::CONTROL_DOCUMENT } else { &step.document };
    let failed = step.status != "Success";
    let status = match (failed, handled) {
        (false, _) => String::new(),
        (true, true) => format!(" {}, and the runbook went on", step.status),
        (true, false) => format!(" {}", step.status),
    };
    Entry {
        took: Some(milliseconds(step.start, step.end)),
        good: !failed || handled,
        ..entry(step.start, Stage::Step, format!("{document} / {}{status}", step.name))
    }
}

/// The hop into the member account: the start that the first step followed, and the session that it was made with,
/// which may be an earlier one that was kept.
fn of_calls(
    calls: &[Call],
    record: &Record,
    region: &str,
    claimed: Timestamp,
    first_step: Option<Timestamp>,
) -> Vec<Entry> {
    let account = record.draft.account_id.as_str();
    let end = time_of(record);
    let newest = |operation: &str, until: Timestamp, fits: &dyn Fn(&Call) -> bool| {
        let fitting = calls.iter().filter(|call| call.operation == operation && call.at <= until && fits(call));
        fitting.max_by_key(|call| call.at)
    };
    let session = format!("::{account}:assumed-role/{}/", names::CROSS_ACCOUNT_ROLE);
    let role = format!("::{account}:role/{}", names::CROSS_ACCOUNT_ROLE);
    let started = newest("StartAutomationExecution", first_step.unwrap_or(end), &|call| {
        call.at >= claimed && call.principal.contains(&session)
    });
    let assumed = newest("AssumeRole", started.map_or(end, |call| call.at), &|call| {
        call.principal.contains(names::ORCHESTRATOR_ROLE)
            && call.checks.iter().any(|check| check.resource.ends_with(&role))
    });
    let assumed = assumed.and_then(|call| match (call.at >= claimed, started) {
        (true, _) => Some((
            call.at,
            format!("{} in {account}, with ExternalId", names::CROSS_ACCOUNT_ROLE),
            call.verdict == Verdict::Allow,
        )),
        (false, Some(started)) => Some((
            started.at,
            format!("{} in {account}, session kept since {:.3}", names::CROSS_ACCOUNT_ROLE, call.at),
            true,
        )),
        (false, None) => None,
    });
    let assumed = assumed.map(|(at, what, good)| Entry { good, ..entry(at, Stage::Assumed, what) });
    let started = started.map(|call| Entry {
        good: call.verdict == Verdict::Allow,
        ..entry(call.at, Stage::Started, format!("{} in {account} {region}", names::CONTROL_DOCUMENT))
    });
    assumed.into_iter().chain(started).collect()
}

fn entry(at: Timestamp, stage: Stage, what: String) -> Entry {
    Entry { at, offset: 0, stage, what, took: None, good: true }
}

fn time_of(record: &Record) -> Timestamp {
    Timestamp::from_millisecond(record.draft.timestamp).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn milliseconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond() - from.as_millisecond()
}

/// `0.084 s`, `12.3 s`, `3 min 5 s`.
pub(crate) fn span(milliseconds: i64) -> String {
    match milliseconds {
        ..10_000 => format!("{}.{:03} s", milliseconds / 1000, milliseconds.rem_euclid(1000)),
        10_000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;

    fn of(records: &[Record]) -> Timeline {
        Timeline::build(&Sources { records, ..Sources::default() }).unwrap()
    }

    #[test]
    fn a_timeline_of_the_ledger_alone_reads_from_event_to_record() {
        insta::assert_snapshot!(of(&fixture::verified()).render(Style::PLAIN));
    }

    #[test]
    fn a_timeline_with_what_the_lab_saw_shows_the_hop_and_every_step() {
        let (records, calls) = (fixture::verified(), fixture::calls());
        let sources = Sources { records: &records, steps: fixture::steps(), calls: &calls };
        insta::assert_snapshot!(Timeline::build(&sources).unwrap().render(Style::PLAIN));
    }

    #[test]
    fn a_session_that_was_kept_from_an_earlier_remediation_is_told_so() {
        let (records, mut calls) = (fixture::verified(), fixture::calls());
        calls[0].at = "2026-03-01T08:59:00Z".parse().unwrap();
        let sources = Sources { records: &records, steps: fixture::steps(), calls: &calls };
        let timeline = Timeline::build(&sources).unwrap();
        let assumed = timeline.entries.iter().find(|entry| entry.stage == Stage::Assumed).unwrap();
        assert_eq!(assumed.offset, 80, "it is used when the runbook is started");
        assert!(assumed.what.ends_with("session kept since 2026-03-01T08:59:00.000Z"), "{}", assumed.what);
    }

    #[test]
    fn a_plan_that_is_made_for_an_approval_is_no_second_decision() {
        let plan = [(detail::PLAN_SHA256, "0123456789abcdef"), (detail::POLICIES, "standard.ask")];
        let timeline = of(&fixture::sealed(vec![fixture::draft(50, State::Planned, &plan)]));
        let told: Vec<_> = timeline.entries.iter().map(|entry| (entry.stage, entry.what.as_str())).collect();
        assert_eq!(told[1..], [(Stage::Outcome, "Planned, SHA-256 0123456789ab")]);
    }

    #[test]
    fn a_failure_says_why() {
        insta::assert_snapshot!(of(&fixture::failed()).render(Style::PLAIN));
    }

    #[test]
    fn a_timeline_as_json() {
        insta::assert_json_snapshot!(of(&fixture::verified()));
    }

    #[test]
    fn the_order_of_the_records_does_not_matter() {
        let records = fixture::verified();
        let mut turned = records.clone();
        turned.reverse();
        assert_eq!(of(&turned), of(&records));
    }

    #[test]
    fn no_records_no_timeline() {
        assert_eq!(Timeline::build(&Sources::default()), None);
    }

    #[test]
    fn spans_are_told_with_the_precision_that_matters() {
        assert_eq!(span(84), "0.084 s");
        assert_eq!(span(12_345), "12.3 s");
        assert_eq!(span(185_000), "3 min 5 s");
    }
}
