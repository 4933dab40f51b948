//! Records of the ledger → what is known of each remediation. A record is looked at once and let go, in any order.
//!
//! Nothing is counted here and nothing is asked: [`super::figures`] counts.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use redress_admin::policy::Asked;
use redress_common::contract::Mode;
use redress_common::finding::SeverityLabel;
use redress_common::ids::{AccountId, ControlId, RemediationId, excerpt};
use redress_common::ledger::{Record, code, detail};
use redress_common::state::State;

/// What a policy's id begins with when an exemption decided.
const EXEMPTION: &str = "exemption.";
/// The code of a finding that an exemption kept from being acted on.
pub(crate) const EXEMPT: &str = "exempt";

/// What a remediation is, for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A finding, and what was done about it.
    Fix,
    /// The undo of one.
    Undo,
    /// Somebody asked what would be changed.
    DryRun,
    /// A run that serves another, such as the plan for an approval or a safety copy; or what a person said of an incident.
    Aside,
    /// A sample finding, which is no finding: it counts nowhere.
    Sample,
    /// An operator's change of settings, policies, exemptions and the like, and what Redress changed of its own.
    Change,
    /// An input that was not understood: no control, no resource.
    Rejected,
}

/// What is known of one remediation at the end of what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) id: RemediationId,
    pub(crate) kind: Kind,
    pub(crate) account: AccountId,
    pub(crate) control: Option<ControlId>,
    pub(crate) region: String,
    pub(crate) severity: SeverityLabel,
    pub(crate) resource: String,
    /// When its finding was first seen, Unix milliseconds; where that is not told, as [`Self::event`].
    pub(crate) seen: i64,
    /// When the event that brought it was made; where that is not told, its first record.
    pub(crate) event: i64,
    /// Its first record.
    pub(crate) first: i64,
    /// When it was claimed for the first time.
    pub(crate) started: Option<i64>,
    /// When people were asked for the first time.
    pub(crate) asked: Option<i64>,
    /// Where it stands, an undo apart, and since when.
    pub(crate) state: Option<(i64, State)>,
    /// When it was put back.
    pub(crate) undone: Option<i64>,
    pub(crate) undone_by: String,
    /// The member account's own word for the end.
    pub(crate) outcome: String,
    /// The slug that says why it came to this.
    pub(crate) code: String,
    /// The same in a sentence.
    pub(crate) reason: String,
    /// Names of the exemptions that decided.
    pub(crate) exemptions: Vec<String>,
    /// Bucket and key of its evidence.
    pub(crate) evidence: Option<(String, String)>,
}

impl Case {
    /// When it ended, and how; `None` while it is under way.
    pub(crate) fn end(&self) -> Option<(i64, State)> {
        self.state.filter(|(_, state)| state.is_terminal())
    }

    /// What repeats when a resource fails again: account, Region, control and resource.
    pub(crate) fn subject(&self) -> (&str, &str, &str, &str) {
        let control = self.control.as_ref().map_or("", ControlId::as_str);
        (self.account.as_str(), &self.region, control, &self.resource)
    }
}

/// A record's place among those of its remediation.
type Place = (i64, u64);

/// The value with the smallest or the greatest place; so the order of reading does not matter.
#[derive(Debug)]
struct Kept<T>(Option<(Place, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Kept<T> {
    fn earliest(&mut self, place: Place, value: impl FnOnce() -> T) {
        if self.0.as_ref().is_none_or(|(kept, _)| place < *kept) {
            self.0 = Some((place, value()));
        }
    }

    fn latest(&mut self, place: Place, value: impl FnOnce() -> T) {
        if self.0.as_ref().is_none_or(|(kept, _)| place > *kept) {
            self.0 = Some((place, value()));
        }
    }

    fn at(&self) -> Option<i64> {
        self.0.as_ref().map(|(place, _)| place.0)
    }

    fn value(self) -> Option<T> {
        self.0.map(|(_, value)| value)
    }
}

/// What does not change from record to record.
#[derive(Debug)]
struct Subject {
    account: AccountId,
    control: Option<ControlId>,
    region: String,
    severity: SeverityLabel,
    resource: String,
    /// An operator's change, by its resource.
    own: bool,
}

/// What its newest record says, that of an undo apart.
#[derive(Debug)]
struct Last {
    state: State,
    outcome: String,
    code: String,
    reason: String,
}

/// A remediation that is being put together.
#[derive(Debug, Default)]
struct Growing {
    subject: Kept<Subject>,
    event: Kept<i64>,
    seen: Kept<i64>,
    mode: Kept<Mode>,
    started: Kept<()>,
    asked: Kept<()>,
    last: Kept<Last>,
    undone: Kept<String>,
    exemptions: Kept<Vec<String>>,
    evidence: Kept<(String, String)>,
    undoes: bool,
    aside: bool,
    sample: bool,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    growing: HashMap<RemediationId, Growing>,
    units: BTreeMap<AccountId, Kept<Vec<String>>>,
    records: u64,
}

/// What a ledger says of its remediations.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Oldest first.
    pub(crate) cases: Vec<Case>,
    /// The organisational units of each account, from the root down, where a decision told them.
    pub(crate) units: BTreeMap<AccountId, Vec<String>>,
    /// How many records that is from.
    pub(crate) records: u64,
}

impl Fold {
    /// One more record.
    pub(crate) fn add(&mut self, record: &Record) {
        self.records += 1;
        let draft = &record.draft;
        let place = (draft.timestamp, record.seq);
        let of = |key| record.detail(key).unwrap_or_default();
        let some = |key| record.detail(key).filter(|text| !text.is_empty());
        let case = self.growing.entry(draft.remediation_id).or_default();
        case.subject.earliest(place, || Subject {
            account: draft.account_id.clone(),
            control: of(detail::CONTROL).parse().ok(),
            region: of(detail::REGION).to_owned(),
            severity: severity(of(detail::SEVERITY)),
            resource: draft.resource_id.clone(),
            own: draft.resource_type.starts_with("Redress::"),
        });
        if let Some(time) = some(detail::EVENT_TIME).and_then(|text| text.parse::<Timestamp>().ok()) {
            case.event.earliest(place, || time.as_millisecond());
        }
        if let Some(mode) = some(detail::MODE).and_then(mode) {
            case.mode.latest(place, || mode);
        }
        if let Some(asked) = some(detail::QUESTION).and_then(|text| Asked::of_text(text).ok()) {
            if asked.first_seen > Timestamp::UNIX_EPOCH {
                case.seen.earliest(place, || asked.first_seen.as_millisecond());
            }
            case.mode.latest(place, || asked.mode);
            if let Some(facts) = asked.account_facts {
                self.units.entry(draft.account_id.clone()).or_default().latest(place, || facts.ou_path);
            }
        }
        case.undoes |= some(detail::UNDOES).is_some();
        let is_said = [code::CASE_CLOSED, code::ESCALATED].contains(&of(detail::CODE));
        case.aside |= is_said || some(detail::PLAN_FOR).is_some();
        case.sample |= record.is_sample();
        let state = draft.execution_status;
        match state {
            State::Claimed => case.started.earliest(place, || ()),
            State::AwaitingApproval => case.asked.earliest(place, || ()),
            _ => {}
        }
        let exempt: Vec<String> =
            of(detail::POLICIES).split(',').filter_map(|id| id.strip_prefix(EXEMPTION)).map(str::to_owned).collect();
        if !exempt.is_empty() {
            case.exemptions.latest(place, || exempt);
        }
        if let (Some(bucket), Some(key)) = (some(detail::EVIDENCE_BUCKET), some(detail::EVIDENCE_KEY)) {
            case.evidence.latest(place, || (bucket.to_owned(), key.to_owned()));
        }
        if let Some(by) = some(detail::UNDONE_BY) {
            case.undone.latest(place, || by.to_owned());
        } else {
            case.last.latest(place, || Last {
                state,
                outcome: of(detail::OUTCOME).to_owned(),
                code: of(detail::CODE).to_owned(),
                reason: excerpts([of(detail::REASON), &draft.error_message]),
            });
        }
    }

    /// What it comes to.
    pub(crate) fn facts(self) -> Facts {
        let mut cases: Vec<Case> = self.growing.into_iter().filter_map(|(id, growing)| growing.case(id)).collect();
        cases.sort_by_key(|case| (case.first, case.id));
        let units = self.units.into_iter().filter_map(|(account, path)| Some((account, path.value()?))).collect();
        Facts { cases, units, records: self.records }
    }
}

impl Growing {
    fn case(self, id: RemediationId) -> Option<Case> {
        let first = self.subject.at()?;
        let last = self.last.at();
        let (started, asked, undone) = (self.started.at(), self.asked.at(), self.undone.at());
        let event = self.event.value().unwrap_or(first);
        let subject = self.subject.value()?;
        let kind = if self.sample {
            Kind::Sample
        } else if subject.own {
            Kind::Change
        } else if subject.control.is_none() {
            Kind::Rejected
        } else if self.aside {
            Kind::Aside
        } else {
            match self.mode.value() {
                _ if self.undoes => Kind::Undo,
                Some(Mode::Restore) => Kind::Undo,
                Some(Mode::DryRun) => Kind::DryRun,
                Some(Mode::Snapshot) => Kind::Aside,
                Some(Mode::Apply) | None => Kind::Fix,
            }
        };
        let said = self.last.value();
        let state = last.zip(said.as_ref().map(|last| last.state));
        let (outcome, code, reason) = said.map(|last| (last.outcome, last.code, last.reason)).unwrap_or_default();
        Some(Case {
            id,
            kind,
            account: subject.account,
            control: subject.control,
            region: subject.region,
            severity: subject.severity,
            resource: subject.resource,
            seen: self.seen.value().unwrap_or(event),
            event,
            first,
            started,
            asked,
            state,
            undone,
            undone_by: self.undone.value().unwrap_or_default(),
            outcome,
            code,
            reason,
            exemptions: self.exemptions.value().unwrap_or_default(),
            evidence: self.evidence.value(),
        })
    }
}

/// A severity as a record writes it; of one that it does not know, nothing is said.
fn severity(text: &str) -> SeverityLabel {
    SeverityLabel::ALL.into_iter().find(|label| label.as_str() == text).unwrap_or(SeverityLabel::Informational)
}

fn mode(text: &str) -> Option<Mode> {
    [Mode::DryRun, Mode::Apply, Mode::Restore, Mode::Snapshot].into_iter().find(|mode| mode.as_str() == text)
}

/// The first that says something, cut.
fn excerpts(texts: [&str; 2]) -> String {
    texts.into_iter().find(|text| !text.is_empty()).map(excerpt).unwrap_or_default()
}
