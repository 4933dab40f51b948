//! What is done about a case: the plan.
//!
//! Pure, and total: a case, the state table's items, the policies and what was found out give a plan. What is found out
//! only where it matters ([`Need`]) is asked for by the plan itself, so that a duplicate costs nothing. Everything that
//! is unreadable leads to telling people, never to acting.

use jiff::Timestamp;
use redress_common::aws::ledger_store::Also;
use redress_common::aws::state_table::{Claim, ClaimStatus, Expect, Settings, StateKey, Subject};
use redress_common::catalogue::Risk;
use redress_common::contract::{GuardEvidence, Mode};
use redress_common::finding::WorkflowStatus;
use redress_common::ids::{Generation, RemediationId};
use redress_common::items::account::AccountFacts;
use redress_common::items::exemption::Exemptions;
use redress_common::items::flight::Flight;
use redress_common::state::State;

use crate::breaker::{self, Admission, Opening, Standing};
use crate::claim::{self, Bid, Purpose, Refused, Times, WINDOW_MS};
use crate::guard::{self, Stop};
use crate::intake::Case;
use crate::policy::{Asked, Calendar, Disposition, Fact, Policies, PolicyError, Question, Verdict};
use crate::ports::Asking;

/// One-time work is remembered for 30 days: longer than any queue keeps a message.
pub const REQUEST_SECONDS: i64 = 30 * 24 * 60 * 60;
/// Why a rule's finding could not be decided: told as a failure, and kept.
const UNDECIDED: [&str; 4] = ["account-unknown", "calendar-unreadable", "guard-unreadable", "finding-unreadable"];
/// A finding that says it is of a later time than this from now counts as of this time: or one would stand for ever.
const FUTURE_MS: i64 = 5 * 60 * 1000;

/// The items of the state table that many cases share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared {
    /// What operators set.
    pub settings: Settings,
    /// What nobody may touch.
    pub exemptions: Exemptions,
    /// The breakers and counts of the case's scopes.
    pub standings: Vec<Standing>,
    /// What runs in the case's account and Region.
    pub flight: Flight,
}

/// They cannot be read. Then nothing may be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The settings.
    #[error("the settings are not readable, so nothing is changed: {0}")]
    Settings(String),
    /// Another one.
    #[error("the state table is not readable, so nothing is changed: {0}")]
    Other(String),
}

impl Unreadable {
    /// A slug that stays the same between releases.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings-unreadable",
            Self::Other(_) => "state-unreadable",
        }
    }
}

/// Something that is found out only where it matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Lookup<T> {
    /// It was not asked for.
    #[default]
    Unasked,
    /// It is known.
    Found(T),
    /// It was asked for, and there was no answer: why.
    Failed(String),
}

impl<T> Lookup<T> {
    /// It, when it is known.
    pub const fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            Self::Unasked | Self::Failed(_) => None,
        }
    }

    const fn is_unasked(&self) -> bool {
        matches!(self, Self::Unasked)
    }
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// What Organizations says of the account.
    pub account: Lookup<AccountFacts>,
    /// Whether the change calendars are open.
    pub calendar: Lookup<bool>,
    /// What the member's guard says of the resource.
    pub evidence: Lookup<GuardEvidence>,
    /// Where people have put the finding in Security Hub since it began to wait.
    pub workflow: Lookup<WorkflowStatus>,
}

/// What has to be found out before the case can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// [`Facts::account`].
    Account,
    /// [`Facts::calendar`].
    Calendar,
    /// [`Facts::evidence`].
    Guard,
    /// [`Facts::workflow`].
    Finding,
}

/// What is known when a case is decided. `None` and `Err` are answers, too.
#[derive(Debug)]
pub struct Known<'a> {
    /// The shared items, or why they are not readable.
    pub shared: Result<&'a Shared, Unreadable>,
    /// The claim on the resource.
    pub claim: Option<&'a Claim>,
    /// The item of the person's request.
    pub request: Option<&'a Claim>,
    /// How long work may take.
    pub times: Times,
    /// The policy set in force.
    pub policies: Result<&'a Policies, PolicyError>,
    /// What was found out.
    pub facts: &'a Facts,
}

/// What policy said, for the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Basis {
    /// The set's name.
    pub set: &'static str,
    /// SHA-256 of the set.
    pub sha256: String,
    /// The deciding policies.
    pub policies: Vec<String>,
    /// What they said.
    pub disposition: &'static str,
    /// What policy was asked ([`Asked::text`]).
    pub question: Option<String>,
    /// What the guard found out, as JSON, or why it did not.
    pub impact: String,
    /// A threat list names the resource or the other side, or a person escalated the finding.
    pub urgent: bool,
}

/// What is done.
#[derive(Debug)]
pub enum Plan {
    /// Nothing: it was dealt with, or is being dealt with.
    Duplicate,
    /// Nothing: people were told the same of the resource lately.
    Repeated(&'static str),
    /// Nothing yet: a worker tells people of an older finding of the resource at this moment.
    Later(RemediationId),
    /// Something has to be found out first; then it is decided again.
    Need(Need),
    /// A budget is used up: the breaker opens, and then it is decided again.
    Open(Opening),
    /// It is put into the backlog of its account and Region.
    Wait {
        /// What it waits for.
        until: Until,
        /// A threat list names the resource, or the other side: it goes before all others.
        urgent: bool,
    },
    /// People are told, or (for [`State::Ignored`]) it is only written down.
    Tell(Tell),
    /// People are asked: the workflow is started.
    Ask {
        /// The claim to take.
        key: StateKey,
        /// With what.
        bid: Box<Bid>,
        /// What policy said.
        basis: Basis,
        /// How people are asked.
        asking: Asking,
        /// What changes with it: the breakers whose probe it is. It counts when it is applied.
        also: Vec<Also>,
    },
    /// The control runbook is started, or the workflow where the control takes long.
    Start {
        /// The claim to take.
        key: StateKey,
        /// With what.
        bid: Box<Bid>,
        /// What policy said.
        basis: Basis,
        /// What changes with it: what is in flight, the counts, the breakers whose probe it is.
        also: Vec<Also>,
    },
}

/// What a finding in the backlog waits for.
#[derive(Debug)]
pub enum Until {
    /// A free place. The claim is marked.
    Place {
        /// The claim to mark.
        key: StateKey,
        /// With what.
        bid: Box<Bid>,
        /// Why there is none.
        reason: String,
    },
    /// The end of this remediation of its resource. The claim is that one's.
    End {
        /// Which remediation.
        of: RemediationId,
        /// The state of the resource that the finding speaks of.
        generation: Generation,
    },
    /// The end of the question about its resource, when nothing is changed. The claim is noted.
    Answer {
        /// The claim to note.
        key: StateKey,
        /// As it was read.
        claim: Box<Claim>,
        /// The state of the resource that the finding speaks of.
        generation: Generation,
    },
}

/// People are told.
#[derive(Debug)]
pub struct Tell {
    /// The claim or request to take for it.
    pub key: StateKey,
    /// With what.
    pub bid: Box<Bid>,
    /// Where the remediation ends: `Notified`, `Ignored` or `Failed`.
    pub state: State,
    /// A slug that stays the same between releases.
    pub code: &'static str,
    /// Why, in a sentence.
    pub reason: String,
    /// What policy said, when it was asked.
    pub basis: Basis,
    /// It could not be decided, for want of something that can be mended: the message is kept, to be sent again.
    pub undecided: bool,
}

/// The plan of a case.
#[must_use]
pub fn decide(case: &Case, known: &Known<'_>, now: Timestamp) -> Plan {
    let desk = Desk::new(case, known, now);
    desk.taken().unwrap_or_else(|| desk.plan())
}

/// A case and what is known of it.
struct Desk<'a> {
    case: &'a Case,
    known: &'a Known<'a>,
    now: Timestamp,
    manual: bool,
    /// The claim that its start needs, and how it stands.
    key: StateKey,
    existing: Option<&'a Claim>,
}

impl<'a> Desk<'a> {
    fn new(case: &'a Case, known: &'a Known<'a>, now: Timestamp) -> Self {
        // A dry run stands in nobody's way; everything else that starts needs the claim.
        let (key, existing) = match case.mode {
            Mode::DryRun | Mode::Snapshot => (case.request_key(), known.request),
            Mode::Apply | Mode::Restore => (case.claim_key(), known.claim),
        };
        Self { case, known, now, manual: case.trigger.is_manual(), key, existing }
    }

    /// What is done when the case was dealt with, or somebody has its claim.
    fn taken(&self) -> Option<Plan> {
        let start = self.bid(&self.key, Purpose::Start);
        let may_have = |claim| claim::may_have(claim, &start, self.known.times, self.now);
        if self.known.request.is_some() && may_have(self.known.request).is_err() {
            return Some(Plan::Duplicate);
        }
        match may_have(self.existing) {
            Ok(()) if self.is_contained() => Some(Plan::Duplicate),
            Ok(()) => None,
            Err(Refused::Duplicate) => Some(Plan::Duplicate),
            Err(Refused::InProgress(other)) if self.manual => {
                let reason = format!("remediation {other} of this resource is under way; ask again when it has ended");
                Some(self.tell(State::Notified, "in-progress", reason, Basis::default()))
            }
            Err(Refused::InProgress(other)) => {
                let generation = self.generation();
                if let Some(claim) = self.existing.filter(|claim| claim.state == State::AwaitingApproval) {
                    // Nothing is changed yet: what is newer than the question is asked about when it ends without a fix.
                    let kept = claim.later.is_some_and(|later| generation <= later) && !self.case.released;
                    let says_no_more = generation <= claim.generation || kept;
                    let until = Until::Answer { key: self.key.clone(), claim: Box::new(claim.clone()), generation };
                    return Some(if says_no_more { Plan::Duplicate } else { Plan::Wait { until, urgent: false } });
                }
                if self.existing.is_some_and(|claim| self.case.generation.0 <= claim.claimed_at) {
                    return Some(Plan::Duplicate);
                }
                // Only the end of a runbook brings the backlog back; telling people takes a moment.
                if self.existing.is_some_and(|claim| claim.state == State::Planned) {
                    return Some(Plan::Later(other));
                }
                // What the backlog holds of it says as much. What comes from there goes back.
                let flight = self.known.shared.as_ref().ok().map(|shared| &shared.flight);
                let newest = flight.and_then(|flight| flight.later.get(&other));
                if !self.case.released && newest.is_some_and(|newest| generation <= *newest) {
                    return Some(Plan::Duplicate);
                }
                Some(Plan::Wait { until: Until::End { of: other, generation }, urgent: false })
            }
        }
    }

    /// Whether the resource was contained within a day, and nobody has given it back: then GuardDuty's next report of it, which
    /// comes for as long as the resource does what it did, is none. After a day it is looked at once more.
    fn is_contained(&self) -> bool {
        let stands = |claim: &Claim| {
            claim.status == ClaimStatus::Done
                && claim.state == State::Verified
                && self.now.as_millisecond() - claim.generation.0 < WINDOW_MS
        };
        self.case.direct.is_some() && !self.manual && self.existing.is_some_and(stands)
    }

    fn plan(&self) -> Plan {
        let case = self.case;
        let shared = match &self.known.shared {
            Ok(shared) => *shared,
            Err(error) => return self.tell(State::Notified, error.code(), error.to_string(), Basis::default()),
        };
        let workflow = *self.known.facts.workflow.found().unwrap_or(&case.workflow);
        if let (WorkflowStatus::Suppressed | WorkflowStatus::Resolved, Mode::Apply) = (workflow, case.mode) {
            let suppressed = workflow == WorkflowStatus::Suppressed;
            let reason =
                format!("the finding is {} in Security Hub", if suppressed { "suppressed" } else { "resolved" });
            return self.tell(self.quietly(), "workflow", reason, Basis::default());
        }
        let asked = Asked::from(&self.question(shared));
        let answer = self.known.policies.clone().and_then(|policies| {
            policies.ask_again(&asked, &shared.exemptions).map(|verdict| (verdict, policies.sha256().to_owned()))
        });
        let (verdict, sha256) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let reason = format!("policy cannot be asked, so nothing is changed: {error}");
                return self.tell(State::Notified, "policy-unreadable", reason, Basis::default());
            }
        };
        let evidence = &self.known.facts.evidence;
        let basis = Basis {
            set: shared.settings.policy_set.as_str(),
            sha256,
            policies: verdict.policies.iter().cloned().collect(),
            disposition: verdict.disposition.as_str(),
            question: asked.text(),
            impact: impact(evidence),
            urgent: !case.subject.sample && evidence.found().is_some_and(|evidence| !evidence.threats.is_empty()),
        };
        let acts = matches!(verdict.disposition, Disposition::Act | Disposition::Approve);
        if acts && !case.guidance.is_empty() {
            return self.tell(State::Notified, "guidance", case.guidance.clone(), basis);
        }
        let mut also = Vec::new();
        if acts || !verdict.missing.is_empty() {
            match self.admitted(shared, &verdict, &basis) {
                Ok(admitted) => also = admitted,
                Err(plan) => return *plan,
            }
        }
        match verdict.disposition {
            Disposition::Ignore => self.tell(self.quietly(), "ignore", "no policy asks for anything".to_owned(), basis),
            Disposition::Notify => {
                let (code, reason) = self.told(shared, &verdict);
                self.tell(State::Notified, code, reason, basis)
            }
            Disposition::Act | Disposition::Approve => self.acts(shared, &verdict, basis, also),
        }
    }

    /// What stands in the way of acting, from what costs nothing to what costs a call. What is written with a start.
    fn admitted(&self, shared: &Shared, verdict: &Verdict, basis: &Basis) -> Result<Vec<Also>, Box<Plan>> {
        let (case, facts, settings) = (self.case, self.known.facts, &shared.settings);
        let lacks = |facts: &[Fact]| facts.iter().any(|fact| verdict.missing.contains(fact));
        if facts.account.is_unasked() && (lacks(&Fact::OF_ACCOUNT) || !settings.ous.is_empty()) {
            return Err(Box::new(Plan::Need(Need::Account)));
        }
        if facts.calendar.is_unasked() && lacks(&[Fact::Calendar]) {
            return Err(Box::new(Plan::Need(Need::Calendar)));
        }
        let stopped = |stop: Stop| Box::new(self.tell(State::Notified, stop.code(), stop.to_string(), basis.clone()));
        let ou_path = facts.account.found().map(|account| account.ou_path.as_slice());
        if let Some(stop) = guard::switched(settings, ou_path, case) {
            return Err(stopped(stop));
        }
        if let Some(stop) = guard::stop(settings, self.existing, case, self.now) {
            return Err(stopped(stop));
        }
        let also = self.room(shared, basis)?;
        let changes = case.mode == Mode::Apply && verdict.missing.is_empty();
        if facts.evidence.is_unasked() && (lacks(&Fact::OF_GUARD) || (changes && self.is_guarded())) {
            return Err(Box::new(Plan::Need(Need::Guard)));
        }
        if facts.workflow.is_unasked() && self.has_waited() {
            return Err(Box::new(Plan::Need(Need::Finding)));
        }
        Ok(also)
    }

    /// Whether it is of Security Hub, and what it says of its workflow may be old.
    const fn has_waited(&self) -> bool {
        self.case.released && matches!(self.case.mode, Mode::Apply) && self.case.subject.product_arn.is_some()
    }

    /// Whether the breakers and the place that it would run in let it start; what is written with it then.
    fn room(&self, shared: &Shared, basis: &Basis) -> Result<Vec<Also>, Box<Plan>> {
        let (case, limits, now_ms) = (self.case, &shared.settings.limits, self.now.as_millisecond());
        if case.subject.sample {
            // It takes no place that a real finding may need, and neither counts nor is counted.
            return Ok(Vec::new());
        }
        let damaged = |error: &dyn std::fmt::Display| {
            Box::new(self.tell(State::Notified, "state-unreadable", error.to_string(), basis.clone()))
        };
        let mut also = Vec::new();
        if !self.manual {
            let counted = self.existing.is_some_and(|claim| {
                let given_back = claim.status == ClaimStatus::Released && claim.notice.is_none();
                let was_started = claim.state == State::Claimed || given_back;
                claim.remediation_id == case.id && was_started
            });
            let run_ms = self.known.times.run_ms;
            match breaker::admit(&shared.standings, limits, case.id, !counted, run_ms, now_ms) {
                Ok(Admission::Start(counted)) => also = counted,
                Ok(Admission::Open(opening)) => return Err(Box::new(Plan::Open(opening))),
                Ok(Admission::Stopped(reason)) => {
                    return Err(Box::new(self.tell(State::Notified, "breaker-open", reason, basis.clone())));
                }
                Err(error) => return Err(damaged(&error)),
            }
            // People's requests use the room that rules must leave.
            let most = usize::try_from(limits.in_flight).unwrap_or(usize::MAX);
            if !shared.flight.running.contains_key(&case.id) && shared.flight.running_at(now_ms) >= most {
                if self.known.facts.evidence.is_unasked() && self.may_be_listed() {
                    return Err(Box::new(Plan::Need(Need::Guard)));
                }
                let (key, bid) = (self.key.clone(), Box::new(self.bid(&self.key, Purpose::Wait)));
                let reason = format!("{most} remediations run in this account and Region, which is the limit");
                return Err(Box::new(Plan::Wait { until: Until::Place { key, bid, reason }, urgent: basis.urgent }));
            }
        }
        let flight = shared.flight.with(case.id, now_ms + self.known.times.run_ms, now_ms);
        let key = StateKey::Flight(case.account.clone(), case.region.clone());
        also.push(Also::put(key, &flight, Expect::Version(shared.flight.version)).map_err(|error| damaged(&error))?);
        Ok(also)
    }

    /// Whether a threat list may name something of it: the other side, or a network that a security group lets in.
    fn may_be_listed(&self) -> bool {
        !self.case.indicators.is_empty() || self.case.subject.resource_type == "AWS::EC2::SecurityGroup"
    }

    /// Whether the guard looks at the resource before it is changed, also where policy does not speak of it.
    fn is_guarded(&self) -> bool {
        !self.manual || self.case.risk != Risk::Reversible
    }

    /// Policy says to act, or to ask; and nothing but the guard's evidence may stand in the way.
    fn acts(&self, shared: &Shared, verdict: &Verdict, basis: Basis, also: Vec<Also>) -> Plan {
        let case = self.case;
        if let Lookup::Failed(why) = &self.known.facts.workflow {
            let reason =
                format!("whether people have suppressed the finding cannot be read, so nothing is changed: {why}");
            return self.tell(State::Notified, "finding-unreadable", reason, basis);
        }
        let mut asks = verdict.disposition == Disposition::Approve;
        match &self.known.facts.evidence {
            Lookup::Failed(why) if !self.manual => {
                let reason = format!("what a change would touch cannot be found out, so nothing is changed: {why}");
                return self.tell(State::Notified, "guard-unreadable", reason, basis);
            }
            Lookup::Found(evidence) if !self.manual => {
                // What is compromised is contained, whoever made it: it is to be given back, not to stay so.
                let owned = evidence.owned_by.as_ref().filter(|_| case.direct.is_none());
                if let Some(stop) = guard::owned(evidence).filter(|_| owned.is_some_and(|owner| owner.vouched)) {
                    return self.tell(State::Notified, stop.code(), stop.to_string(), basis);
                }
                // Where only a tag says so no rule acts unasked; that it is not even asked about is for no tag to say.
                asks |= evidence.critical.is_some() || owned.is_some();
            }
            _ => {}
        }
        if !asks {
            // The workflow has changed nothing before it comes to its runbook.
            let begins = if case.by_workflow() { Purpose::Ask } else { Purpose::Start };
            let bid = Box::new(self.bid(&self.key, begins));
            return Plan::Start { key: self.key.clone(), bid, basis, also };
        }
        if case.mode == Mode::DryRun {
            let reason = "policy asks for an approval, which only what changes something can have".to_owned();
            return self.tell(State::Notified, "approval-needed", reason, basis);
        }
        let seconds = shared.settings.limits.approval_seconds;
        let asking = Asking {
            needed: verdict.approvers.max(1),
            four_eyes: verdict.four_eyes,
            policies: basis.policies.clone(),
            seconds,
        };
        let is_probe = |also: &Also| matches!(also, Also::Put { key: StateKey::Breaker(_), .. });
        let also = also.into_iter().filter(is_probe).collect();
        Plan::Ask { key: self.key.clone(), bid: Box::new(self.bid(&self.key, Purpose::Ask)), basis, asking, also }
    }

    /// Why people are told, and no more.
    fn told(&self, shared: &Shared, verdict: &Verdict) -> (&'static str, String) {
        let facts = self.known.facts;
        let exemption = verdict
            .exemption
            .as_ref()
            .filter(|_| verdict.error.is_none())
            .and_then(|id| shared.exemptions.exemptions.iter().find(|exemption| exemption.id == *id));
        if let Some(exemption) = exemption {
            let (id, owner, until) = (&exemption.id, &exemption.owner, exemption.expires_at);
            return ("exempt", format!("exemption `{id}` of {owner} until {until}: {}", exemption.reason));
        }
        let lacks = |facts: &[Fact]| facts.iter().any(|fact| verdict.missing.contains(fact));
        let failed = |why: &str| {
            let error = verdict.error.as_deref().unwrap_or_default();
            format!("{error}, so nothing is changed{}{why}", if why.is_empty() { "" } else { ": " })
        };
        if lacks(&Fact::OF_ACCOUNT) {
            return ("account-unknown", failed(why(&facts.account)));
        } else if lacks(&Fact::OF_GUARD) {
            return ("guard-unreadable", failed(why(&facts.evidence)));
        } else if lacks(&[Fact::Calendar]) {
            return ("calendar-unreadable", failed(why(&facts.calendar)));
        }
        if let Some(error) = &verdict.error {
            return ("notify", format!("a policy could not be evaluated, so nothing is changed: {error}"));
        }
        let owned = facts.evidence.found().filter(|_| !self.manual).and_then(guard::owned);
        if let Some(stop) = owned {
            return (stop.code(), stop.to_string());
        }
        if facts.calendar.found() == Some(&false) {
            return ("calendar-closed", "a change calendar is closed, and policy says to tell people then".to_owned());
        }
        if !self.case.guidance.is_empty() {
            return ("guidance", self.case.guidance.clone());
        }
        ("notify", "policy says to tell people, and no more".to_owned())
    }

    fn question<'q>(&'q self, shared: &'q Shared) -> Question<'q> {
        let (case, settings, facts) = (self.case, &shared.settings, self.known.facts);
        let calendar = match facts.calendar {
            _ if settings.change_calendars.is_empty() => Calendar::None,
            Lookup::Found(true) => Calendar::Open,
            Lookup::Found(false) => Calendar::Closed,
            Lookup::Unasked | Lookup::Failed(_) => Calendar::Unreadable,
        };
        Question {
            account_facts: facts.account.found(),
            evidence: facts.evidence.found(),
            calendar,
            breaker_open: shared.standings.iter().any(|standing| standing.breaker.opened_at.is_some()),
            ..case.question(settings, self.now)
        }
    }

    /// A rule's finding about which there is nothing to say is written down; a person gets an answer.
    const fn quietly(&self) -> State {
        if self.manual { State::Notified } else { State::Ignored }
    }

    fn tell(&self, state: State, code: &'static str, reason: String, basis: Basis) -> Plan {
        // What a person asked for and does not get must not touch the claim that others work with. Nor may a claim be
        // ended whose runbook may run: its worker died, and now something says no.
        let may_run = self.known.claim.is_some_and(|claim| {
            claim.remediation_id == self.case.id && claim.status == ClaimStatus::Leased && claim.state != State::Planned
        });
        // Nor may what a sample is told for keep a real finding of the resource from being told or acted on.
        let apart = self.manual || may_run || self.case.subject.sample;
        let key = if apart { self.case.request_key() } else { self.case.claim_key() };
        let undecided = !apart && UNDECIDED.contains(&code);
        let state = if undecided { State::Failed } else { state };
        let told_lately = |claim: &Claim| {
            // What was kept, and is sent again, must not vanish.
            let notice = claim.notice.as_ref().filter(|_| !undecided || claim.remediation_id != self.case.id);
            notice.is_some_and(|last| last.code == code && self.now.as_millisecond() - last.at < WINDOW_MS)
        };
        if !apart && !self.case.released && self.known.claim.is_some_and(told_lately) {
            return Plan::Repeated(code);
        }
        let bid = Box::new(self.bid(&key, Purpose::Tell));
        Plan::Tell(Tell { key, bid, state, code, reason, basis, undecided })
    }

    fn generation(&self) -> Generation {
        self.case.generation.min(Generation(self.now.as_millisecond() + FUTURE_MS))
    }

    fn bid(&self, key: &StateKey, purpose: Purpose) -> Bid {
        let case = self.case;
        Bid {
            id: case.id,
            generation: self.generation(),
            manual: self.manual,
            mode: case.mode,
            subject: case.subject.clone(),
            undoes: case.source.as_ref().map(|source| source.remediation),
            purpose,
            released: case.released,
            keep_seconds: matches!(key, StateKey::Request(_)).then_some(REQUEST_SECONDS),
        }
    }
}

fn why<T>(lookup: &Lookup<T>) -> &str {
    match lookup {
        Lookup::Failed(why) => why,
        Lookup::Unasked | Lookup::Found(_) => "",
    }
}

/// The ledger keeps no more of the guard's evidence, in bytes.
const IMPACT: usize = 4 * 1024;

/// The guard's evidence for the ledger: the whole of it, or as much of the lists as fits.
fn impact(evidence: &Lookup<GuardEvidence>) -> String {
    match evidence {
        Lookup::Unasked => String::new(),
        Lookup::Failed(why) => format!("unknown: {why}").chars().take(IMPACT / 4).collect(),
        Lookup::Found(evidence) => {
            let few = GuardEvidence {
                dependents: evidence.dependents.iter().take(5).cloned().collect(),
                tags: std::collections::BTreeMap::new(),
                ..evidence.clone()
            };
            let none = GuardEvidence { dependents: Vec::new(), unanswered: Vec::new(), ..few.clone() };
            let texts = [evidence, &few, &none].map(|evidence| serde_json::to_string(evidence).unwrap_or_default());
            texts.into_iter().find(|text| text.len() <= IMPACT).unwrap_or_else(|| "too long to keep".to_owned())
        }
    }
}

/// The telling of an input that is no case: refused, written down once.
#[must_use]
pub fn refusal(id: RemediationId, subject: Subject, code: &'static str, reason: String) -> Tell {
    let bid = Bid {
        id,
        generation: Generation(0),
        manual: true,
        mode: Mode::DryRun,
        subject,
        undoes: None,
        purpose: Purpose::Tell,
        released: false,
        keep_seconds: Some(REQUEST_SECONDS),
    };
    Tell {
        key: StateKey::Request(id),
        bid: Box::new(bid),
        state: State::Failed,
        code,
        reason,
        basis: Basis::default(),
        undecided: false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::intake::case_of;
    use proptest::prelude::*;
    use redress_common::aws::state_table::{Notice, PolicySetName, Snapshot, Switch};
    use redress_common::contract::Ownership;
    use redress_common::finding::{CustomAction, Finding, Trigger};
    use redress_common::items::breaker::Breaker;
    use redress_common::items::exemption::Exemption;

    fn case(trigger: Trigger) -> Case {
        case_of(&Finding { trigger, ..fixture::finding() }, &fixture::catalogue()).unwrap()
    }

    fn person() -> Case {
        case(Trigger::CustomAction(CustomAction::Remediate))
    }

    /// All that is known, as values that tests change.
    #[derive(Clone)]
    struct Scene {
        shared: Result<Shared, Unreadable>,
        claim: Option<Claim>,
        request: Option<Claim>,
        policies: Result<&'static Policies, PolicyError>,
        facts: Facts,
    }

    impl Scene {
        fn new(set: PolicySetName) -> Self {
            let rule = case(Trigger::Config);
            let standings = breaker::standings(&Snapshot::default(), &rule.account, &rule.control, 0).unwrap();
            let settings = Settings { policy_set: set, ..Settings::default() };
            let facts = Facts { evidence: Lookup::Found(GuardEvidence::default()), ..Facts::default() };
            Self {
                shared: Ok(Shared { settings, standings, ..Shared::default() }),
                claim: None,
                request: None,
                policies: Policies::shipped(set),
                facts,
            }
        }

        fn shared(mut self, change: impl FnOnce(&mut Shared)) -> Self {
            change(self.shared.as_mut().unwrap());
            self
        }

        fn claim(mut self, claim: Claim) -> Self {
            self.claim = Some(claim);
            self
        }

        fn facts(mut self, change: impl FnOnce(&mut Facts)) -> Self {
            change(&mut self.facts);
            self
        }

        fn decide(&self, case: &Case) -> Plan {
            let known = Known {
                shared: self.shared.as_ref().map_err(Clone::clone),
                claim: self.claim.as_ref(),
                request: self.request.as_ref(),
                times: Times::default(),
                policies: self.policies.clone(),
                facts: &self.facts,
            };
            decide(case, &known, now())
        }

        fn told(&self, case: &Case) -> (State, &'static str) {
            match self.decide(case) {
                Plan::Tell(tell) => (tell.state, tell.code),
                other => panic!("{other:?}"),
            }
        }
    }

    fn standard() -> Scene {
        Scene::new(PolicySetName::Standard)
    }

    fn now() -> Timestamp {
        fixture::finding().event_time
    }

    fn bid(case: &Case) -> Bid {
        let scene = standard();
        let known = Known {
            shared: Err(Unreadable::Other(String::new())),
            claim: None,
            request: None,
            times: Times::default(),
            policies: Err(PolicyError::Absent),
            facts: &scene.facts,
        };
        let desk = Desk::new(case, &known, now());
        desk.bid(&desk.key, Purpose::Start)
    }

    #[test]
    fn policy_that_says_act_starts_with_its_basis() {
        let plan = standard().decide(&case(Trigger::Config));
        let Plan::Start { basis, key, also, .. } = plan else { panic!("{plan:?}") };
        assert_eq!(basis.policies, ["standard.act-on-reversible"]);
        assert_eq!(basis.sha256.len(), 64);
        assert_eq!(key, case(Trigger::Config).claim_key());
        let changed: Vec<_> = also.iter().map(|also| also.key().to_string()).collect();
        assert_eq!(changed.len(), 3, "two budgets and the flight: {changed:?}");
    }

    #[test]
    fn defect_08_unreadable_settings_change_nothing() {
        for case in [case(Trigger::Config), person()] {
            let scene = Scene { shared: Err(Unreadable::Settings("torn".to_owned())), ..standard() };
            assert_eq!(scene.told(&case), (State::Notified, "settings-unreadable"));
            let scene = Scene { shared: Err(Unreadable::Other("torn".to_owned())), ..standard() };
            assert_eq!(scene.told(&case), (State::Notified, "state-unreadable"));
        }
    }

    #[test]
    fn defect_08_a_policy_set_that_does_not_load_changes_nothing() {
        let scene = Scene { policies: Err(PolicyError::Absent), ..standard() };
        assert_eq!(scene.told(&case(Trigger::Config)), (State::Notified, "policy-unreadable"));
    }

    #[test]
    fn defect_08_an_account_whose_units_are_not_known_is_stopped_by_any_units_switch() {
        let scene = standard().shared(|shared| shared.settings.ous = [("ou-z".to_owned(), Switch::Off)].into());
        assert!(matches!(scene.decide(&person()), Plan::Need(Need::Account)));
        let unknown = scene.clone().facts(|facts| facts.account = Lookup::Failed("throttled".to_owned()));
        assert_eq!(unknown.told(&person()), (State::Notified, "switched-off"));
        let elsewhere = |path: &[&str]| AccountFacts {
            account: person().account,
            name: "a".to_owned(),
            ou_path: path.iter().map(ToString::to_string).collect(),
            tags: [].into(),
            read_at: now().as_millisecond(),
        };
        let out = scene.clone().facts(|facts| facts.account = Lookup::Found(elsewhere(&["r-1", "ou-a"])));
        assert!(matches!(out.decide(&person()), Plan::Start { .. }));
        let within = scene.facts(|facts| facts.account = Lookup::Found(elsewhere(&["r-1", "ou-z", "ou-a"])));
        assert_eq!(within.told(&person()), (State::Notified, "switched-off"), "the whole path counts, not the parent");
    }

    #[test]
    fn without_a_word_of_units_nobody_asks_organizations() {
        assert!(matches!(standard().decide(&case(Trigger::Config)), Plan::Start { .. }));
    }

    #[test]
    fn an_exemption_by_unit_asks_for_the_account_and_holds_when_it_is_not_known() {
        let exemption = Exemption {
            id: "legacy".to_owned(),
            control: None,
            account: None,
            ou: Some("ou-z".to_owned()),
            resource: None,
            owner: "web team".to_owned(),
            reason: "moves in June".to_owned(),
            expires_at: now() + jiff::SignedDuration::from_hours(1),
            created_by: "arn:aws:iam::999988887777:role/Admin".to_owned(),
            created_at: now(),
        };
        let scene = standard().shared(|shared| shared.exemptions.exemptions.push(exemption.clone()));
        assert!(matches!(scene.decide(&case(Trigger::Config)), Plan::Need(Need::Account)));
        let unknown = scene.clone().facts(|facts| facts.account = Lookup::Failed("throttled".to_owned()));
        assert_eq!(unknown.told(&case(Trigger::Config)), (State::Failed, "account-unknown"));
        let own = Exemption { ou: None, account: Some(person().account), ..exemption };
        let own = standard().shared(|shared| shared.exemptions.exemptions.push(own));
        let Plan::Tell(tell) = own.decide(&case(Trigger::Config)) else { panic!() };
        assert_eq!(tell.code, "exempt");
        assert!(tell.reason.contains("web team") && tell.reason.contains("moves in June"), "{}", tell.reason);
    }

    #[test]
    fn the_guard_is_asked_before_a_rule_acts_and_its_silence_is_no_consent() {
        let unasked = standard().facts(|facts| facts.evidence = Lookup::Unasked);
        assert!(matches!(unasked.decide(&case(Trigger::Config)), Plan::Need(Need::Guard)));
        assert!(matches!(unasked.decide(&person()), Plan::Start { .. }), "what can be undone, a person may do");
        let silent = standard().facts(|facts| facts.evidence = Lookup::Failed("timed out".to_owned()));
        assert_eq!(silent.told(&case(Trigger::Config)), (State::Failed, "guard-unreadable"));
        let disruptive = Case { risk: Risk::Disruptive, ..person() };
        assert!(matches!(unasked.decide(&disruptive), Plan::Need(Need::Guard)));
        let plan = silent.decide(&disruptive);
        let Plan::Start { basis, .. } = plan else { panic!("{plan:?}") };
        assert_eq!(basis.impact, "unknown: timed out");
    }

    /// A finding of GuardDuty's whose playbook is the bucket's.
    fn threat(score: u8) -> Case {
        let direct = redress_common::catalogue::Direct {
            function: "redress-contain-data".to_owned(),
            native: "contain_s3_bucket".to_owned(),
            parameters: std::collections::BTreeMap::new(),
        };
        Case {
            control: "Contain.S3Bucket".parse().unwrap(),
            severity: redress_common::finding::Severity::of_guardduty(score),
            risk: Risk::Disruptive,
            direct: Some(direct),
            ..case(Trigger::GuardDuty)
        }
    }

    #[test]
    fn what_guardduty_calls_high_is_contained_and_of_less_people_are_told() {
        assert!(matches!(standard().decide(&threat(70)), Plan::Start { .. }));
        assert!(matches!(standard().decide(&threat(95)), Plan::Start { .. }));
        for score in [10, 39, 40, 69] {
            assert_eq!(standard().told(&threat(score)), (State::Notified, "notify"), "{score}");
        }
        let observe = Scene::new(PolicySetName::Observe);
        assert_eq!(observe.told(&threat(95)), (State::Notified, "notify"));
        let pilot = |own: bool| {
            let scene = Scene::new(PolicySetName::Pilot);
            scene.shared(|shared| shared.settings.pilot_accounts.extend(own.then(|| person().account)))
        };
        assert!(matches!(pilot(true).decide(&threat(80)), Plan::Start { .. }));
        assert_eq!(pilot(false).told(&threat(80)), (State::Notified, "notify"));
        assert_eq!(pilot(true).told(&threat(50)), (State::Notified, "notify"));
        let asked = Case { trigger: person().trigger, ..threat(1) };
        assert!(matches!(standard().decide(&asked), Plan::Start { .. }), "a person may, whatever GuardDuty thinks");
        let destroys = Case { risk: Risk::Destructive, ..threat(95) };
        assert!(matches!(standard().decide(&destroys), Plan::Ask { asking: Asking { needed: 2, .. }, .. }));
    }

    /// A sample of GuardDuty's of the same type and resource.
    fn sample(score: u8) -> Case {
        let told = Finding { trigger: Trigger::GuardDuty, sample: true, ..fixture::finding() };
        let told = case_of(&told, &fixture::catalogue()).unwrap();
        Case { id: told.id, mode: told.mode, subject: told.subject, ..threat(score) }
    }

    #[test]
    fn a_sample_is_dry_run_by_every_shipped_set_and_leaves_the_claim_of_the_resource_alone() {
        for set in PolicySetName::SHIPPED {
            for score in [10, 50, 80, 95] {
                let sample = sample(score);
                let Plan::Start { key, bid, basis, also } = Scene::new(set).decide(&sample) else {
                    panic!("{set:?} {score}");
                };
                assert_eq!((key, bid.mode), (sample.request_key(), Mode::DryRun));
                assert_eq!((also.len(), basis.urgent), (0, false), "it takes no place, and counts in no budget");
                assert_eq!(basis.policies, [format!("{}.dry-run-a-sample", set.as_str())]);
            }
        }
        // What stops rules on the resource does not stop it, and no place has to be free.
        let now = now().as_millisecond();
        let claim = Claim { held: true, recent: vec![now - 3, now - 2, now - 1], ..fixture::claim() };
        let full = |shared: &mut Shared| {
            shared.settings.limits.in_flight = 0;
            shared.settings.acting_since = Some(Timestamp::MAX);
        };
        let plan = standard().claim(claim).shared(full).decide(&sample(80));
        assert!(matches!(plan, Plan::Start { .. }), "{plan:?}");
        // The switch does: then nothing is started. That is told apart from the claim, and never repeated into silence.
        let notice = Some(Notice { code: "switched-off".to_owned(), at: now });
        let told = Claim { notice, state: State::Notified, status: ClaimStatus::Done, ..fixture::claim() };
        let off = standard().claim(told).shared(|shared| shared.settings.switch = Switch::Off);
        let Plan::Tell(tell) = off.decide(&sample(80)) else { panic!() };
        assert_eq!((tell.key, tell.code, tell.undecided), (sample(80).request_key(), "switched-off", false));
        // The same sample once more is a duplicate.
        let ended = Claim {
            remediation_id: sample(80).id,
            status: ClaimStatus::Done,
            state: State::Notified,
            ..fixture::claim()
        };
        let again = Scene { request: Some(ended), ..standard() };
        assert!(matches!(again.decide(&sample(80)), Plan::Duplicate));
    }

    #[test]
    fn no_policy_makes_more_of_a_sample_than_a_dry_run() {
        let all = "@id(\"mine.all\") permit (principal, action, resource);";
        let policies: &'static Policies = Box::leak(Box::new(Policies::load(all).unwrap()));
        let scene = Scene { policies: Ok(policies), ..standard() };
        let plan = scene.decide(&sample(80));
        let Plan::Start { bid, .. } = plan else { panic!("{plan:?}") };
        assert_eq!(bid.mode, Mode::DryRun);
    }

    #[test]
    fn containment_asks_first_where_the_resource_is_critical_and_not_where_a_stack_made_it() {
        let found = |evidence: GuardEvidence| move |facts: &mut Facts| facts.evidence = Lookup::Found(evidence);
        let critical = GuardEvidence { critical: Some("Criticality=high".to_owned()), ..GuardEvidence::default() };
        let owned_by = Ownership {
            manager: "CloudFormation".to_owned(),
            name: "web".to_owned(),
            hint: "change stack web".to_owned(),
            vouched: true,
        };
        let owned = GuardEvidence { owned_by: Some(owned_by), ..GuardEvidence::default() };
        assert!(matches!(standard().facts(found(owned)).decide(&threat(80)), Plan::Start { .. }));
        for set in [PolicySetName::Standard, PolicySetName::Pilot] {
            let pilot = |shared: &mut Shared| shared.settings.pilot_accounts = [person().account].into();
            let scene = Scene::new(set).shared(pilot).facts(found(critical.clone()));
            assert!(matches!(scene.decide(&threat(80)), Plan::Ask { .. }), "{set:?}");
        }
        let silent = standard().facts(|facts| facts.evidence = Lookup::Failed("timed out".to_owned()));
        assert_eq!(silent.told(&threat(80)), (State::Failed, "guard-unreadable"));
    }

    #[test]
    fn what_is_contained_is_not_contained_again_until_a_day_has_passed_or_it_was_given_back() {
        let now = now().as_millisecond();
        let contained = |ago: i64, state: State| Claim {
            status: ClaimStatus::Done,
            state,
            generation: Generation(now - ago),
            ..fixture::claim()
        };
        let news = Case { generation: Generation(now), ..threat(80) };
        assert!(matches!(standard().claim(contained(1000, State::Verified)).decide(&news), Plan::Duplicate));
        let old = contained(WINDOW_MS, State::Verified);
        assert!(matches!(standard().claim(old).decide(&news), Plan::Start { .. }));
        let failed = contained(1000, State::Failed);
        assert!(matches!(standard().claim(failed).decide(&news), Plan::Start { .. }));
        let held = Claim { held: true, ..contained(1000, State::RolledBack) };
        assert_eq!(standard().claim(held).told(&news), (State::Notified, "held"));
        let asked = Case { trigger: person().trigger, ..news };
        assert!(matches!(standard().claim(contained(1000, State::Verified)).decide(&asked), Plan::Start { .. }));
    }

    #[test]
    fn what_cloudformation_manages_is_told_with_where_to_mend_it() {
        let owned_by = Ownership {
            manager: "CloudFormation".to_owned(),
            name: "web".to_owned(),
            hint: "change stack web".to_owned(),
            vouched: true,
        };
        let owned = |evidence: &mut Facts| {
            let found = GuardEvidence { owned_by: Some(owned_by.clone()), ..GuardEvidence::default() };
            evidence.evidence = Lookup::Found(found);
        };
        for set in PolicySetName::SHIPPED {
            let pilot = |shared: &mut Shared| shared.settings.pilot_accounts = [person().account].into();
            let Plan::Tell(tell) = Scene::new(set).facts(owned).shared(pilot).decide(&case(Trigger::Config)) else {
                panic!("{set:?}")
            };
            assert!(tell.code == "owned" && tell.reason.contains("change stack web"), "{set:?} {}", tell.reason);
        }
        assert!(matches!(standard().facts(owned).decide(&person()), Plan::Start { .. }), "a person may");
    }

    #[test]
    fn defect_16_an_owner_that_only_a_tag_names_is_asked_about() {
        let tagged = |facts: &mut Facts| {
            let [manager, name, hint] = ["Terraform", "web", "change it there"].map(str::to_owned);
            let owned_by = Some(Ownership { manager, name, hint, vouched: false });
            facts.evidence = Lookup::Found(GuardEvidence { owned_by, ..GuardEvidence::default() });
        };
        let plan = standard().facts(tagged).decide(&case(Trigger::Config));
        assert!(matches!(plan, Plan::Ask { .. }), "{plan:?}");
    }

    #[test]
    fn what_is_tagged_critical_is_asked_about_before_a_rule_acts() {
        let critical = |facts: &mut Facts| {
            let found = GuardEvidence { critical: Some("tier=0".to_owned()), ..GuardEvidence::default() };
            facts.evidence = Lookup::Found(found);
        };
        let plan = standard().facts(critical).decide(&case(Trigger::Config));
        let Plan::Ask { bid, asking, basis, .. } = plan else { panic!("{plan:?}") };
        assert_eq!((asking.needed, asking.seconds), (1, 86_400));
        assert!(basis.impact.contains("tier=0"));
        assert_eq!(bid.purpose, Purpose::Ask);
    }

    #[test]
    fn defect_09_a_custom_action_passes_the_same_policy_switch_and_claim() {
        assert_eq!(Scene::new(PolicySetName::Observe).told(&person()), (State::Notified, "notify"));
        let off = standard().shared(|shared| shared.settings.switch = Switch::Off);
        assert_eq!(off.told(&person()), (State::Notified, "switched-off"));
        let busy = Claim { lease_until: i64::MAX, status: ClaimStatus::Leased, ..fixture::claim() };
        assert_eq!(standard().claim(busy).told(&person()), (State::Notified, "in-progress"));
    }

    #[test]
    fn a_control_that_no_machine_can_mend_tells_people_the_steps_and_starts_nothing() {
        let steps = "Sign in as root. Turn MFA delete on.";
        for trigger in [Trigger::Import, person().trigger] {
            let case = Case { guidance: steps.to_owned(), ..case(trigger) };
            for set in [PolicySetName::Standard, PolicySetName::Observe] {
                let Plan::Tell(tell) = Scene::new(set).decide(&case) else { panic!("{set:?} starts it") };
                assert_eq!((tell.state, tell.code, tell.reason.as_str()), (State::Notified, "guidance", steps));
            }
        }
    }

    #[test]
    fn defect_14_suppressed_findings_are_left_alone_whoever_asks() {
        for workflow in [WorkflowStatus::Suppressed, WorkflowStatus::Resolved] {
            let rule = Case { workflow, ..case(Trigger::Import) };
            assert_eq!(standard().told(&rule), (State::Ignored, "workflow"));
            let person = Case { workflow, ..person() };
            assert_eq!(standard().told(&person), (State::Notified, "workflow"));
        }
    }

    #[test]
    fn defect_22_the_update_of_a_finding_that_was_just_fixed_starts_nothing() {
        let later = now() + jiff::SignedDuration::from_secs(2);
        let fixed = claim::finish(
            &claim::grant(None, bid(&case(Trigger::Config)), Times::default(), now()).unwrap(),
            claim::End { state: State::Verified, compliant: true, changed: true, undone: false },
            later,
        );
        let update = Case { workflow: WorkflowStatus::Resolved, ..case(Trigger::Import) };
        assert!(matches!(standard().claim(fixed).decide(&update), Plan::Duplicate));
    }

    #[test]
    fn a_dry_run_is_not_blocked_by_a_remediation_under_way() {
        let busy = Claim { lease_until: i64::MAX, ..fixture::claim() };
        let dry = case(Trigger::CustomAction(CustomAction::DryRun));
        let plan = Scene::new(PolicySetName::Observe).claim(busy).decide(&dry);
        let Plan::Start { key, .. } = plan else { panic!("{plan:?}") };
        assert_eq!(key, dry.request_key());
    }

    #[test]
    fn a_finding_newer_than_the_remediation_under_way_waits_for_its_end() {
        let mut new = case(Trigger::Config);
        let start = now().as_millisecond();
        let busy = Claim { lease_until: i64::MAX, claimed_at: start, ..fixture::claim() };
        let scene = standard().claim(busy.clone());
        new.generation.0 = start;
        assert!(matches!(scene.decide(&new), Plan::Duplicate));
        new.generation.0 = start + 1;
        assert!(matches!(scene.decide(&new), Plan::Wait { until: Until::End { .. }, .. }));
        let telling = standard().claim(Claim { state: State::Planned, ..busy.clone() });
        assert!(matches!(telling.decide(&new), Plan::Later(_)), "no runbook's end would bring it back");
        let asked = standard().claim(Claim { state: State::AwaitingApproval, ..busy });
        assert!(matches!(asked.decide(&new), Plan::Wait { until: Until::Answer { .. }, .. }), "nothing is changed yet");
        new.generation = fixture::claim().generation;
        assert!(matches!(asked.decide(&new), Plan::Duplicate), "people are asked about it already");
        assert_eq!(asked.told(&person()), (State::Notified, "in-progress"));
    }

    #[test]
    fn a_rule_waits_for_a_free_place_and_a_person_does_not() {
        let full = standard().shared(|shared| {
            shared.settings.limits.in_flight = 2;
            for name in ["a", "b"] {
                let id = RemediationId::of_rejected(name.as_bytes());
                shared.flight = shared.flight.with(id, now().as_millisecond() + 1000, now().as_millisecond());
            }
        });
        let plan = full.decide(&case(Trigger::Config));
        let Plan::Wait { until: Until::Place { key, bid, .. }, urgent: false } = plan else { panic!("{plan:?}") };
        assert_eq!((key, bid.purpose), (case(Trigger::Config).claim_key(), Purpose::Wait));
        assert!(matches!(full.decide(&person()), Plan::Start { .. }), "the room that rules leave is for people");
        let own = full.clone().shared(|shared| {
            let id = case(Trigger::Config).id;
            shared.flight.running.insert(id, i64::MAX);
        });
        assert!(matches!(own.decide(&case(Trigger::Config)), Plan::Start { .. }), "its place is its own");
        let over = full.shared(|shared| shared.flight.running.values_mut().for_each(|until| *until = 0));
        assert!(matches!(over.decide(&case(Trigger::Config)), Plan::Start { .. }), "whose time is over, is gone");
    }

    #[test]
    fn an_open_breaker_stops_rules_and_no_person() {
        let open = standard().shared(|shared| {
            shared.standings[0].breaker =
                Breaker { version: 1, opened_at: Some(1), probe_at: i64::MAX, ..Breaker::default() };
        });
        assert_eq!(open.told(&case(Trigger::Config)), (State::Notified, "breaker-open"));
        assert!(matches!(open.decide(&person()), Plan::Start { .. }));
        let full = standard().shared(|shared| shared.standings[1].count.starts = 200);
        assert!(matches!(full.decide(&case(Trigger::Config)), Plan::Open(_)));
    }

    #[test]
    fn what_people_were_told_they_are_not_told_again_within_a_day() {
        let at = now().as_millisecond() - 1000;
        let notice = |code: &str| Some(Notice { code: code.to_owned(), at });
        let told = Claim { status: ClaimStatus::Done, notice: notice("notify"), ..fixture::claim() };
        let scene = Scene::new(PolicySetName::Observe).claim(told.clone());
        assert!(matches!(scene.decide(&case(Trigger::Config)), Plan::Repeated("notify")));
        assert_eq!(scene.told(&person()), (State::Notified, "notify"), "who asks gets an answer");
        let other = Claim { notice: notice("flapping"), ..told.clone() };
        assert_eq!(Scene::new(PolicySetName::Observe).claim(other).told(&case(Trigger::Config)).1, "notify");
        let old = Claim { notice: Some(Notice { code: "notify".to_owned(), at: at - WINDOW_MS }), ..told.clone() };
        assert_eq!(Scene::new(PolicySetName::Observe).claim(old).told(&case(Trigger::Config)).1, "notify");
        let back = Case { released: true, ..case(Trigger::Config) };
        assert_eq!(scene.told(&back).1, "notify", "what waited gets its end");
    }

    #[test]
    fn a_claim_whose_runbook_may_run_is_not_ended_by_a_switch() {
        let rule = case(Trigger::Config);
        let dead =
            claim::grant(None, bid(&rule), Times::default(), now() - jiff::SignedDuration::from_hours(1)).unwrap();
        let off = standard().claim(dead).shared(|shared| shared.settings.switch = Switch::Off);
        let Plan::Tell(tell) = off.decide(&rule) else { panic!() };
        assert_eq!((tell.key, tell.code), (rule.request_key(), "switched-off"));
    }

    #[test]
    fn defect_17_a_finding_of_the_future_does_not_block_its_resource_for_ever() {
        let hostile = Case { generation: Generation(i64::MAX), ..case(Trigger::Import) };
        let granted = claim::grant(None, bid(&hostile), Times::default(), now()).unwrap();
        assert_eq!(granted.generation.0, now().as_millisecond() + FUTURE_MS);
        assert_eq!(bid(&hostile).id, hostile.id, "and is still one and the same remediation");
    }

    #[test]
    fn the_ledger_keeps_as_much_of_the_evidence_as_fits() {
        let dependent = redress_common::contract::Dependent {
            resource_type: "AWS::EC2::Instance".to_owned(),
            id: "i-0123456789abcdef0".to_owned(),
        };
        let tags = (0..50).map(|nth| (format!("tag-{nth}"), "v".repeat(200))).collect();
        let large =
            GuardEvidence { tags, dependents: vec![dependent; 50], dependent_count: 77, ..GuardEvidence::default() };
        let text = impact(&Lookup::Found(large));
        assert!(text.len() <= IMPACT && text.contains("77") && text.contains("i-0123456789abcdef0"), "{text}");
        assert_eq!(impact(&Lookup::Unasked), "");
    }

    proptest! {
        #[test]
        fn what_is_switched_off_suppressed_or_observed_is_never_changed(
            set in 0..3_usize, which in 0..6_usize, off: bool, suppressed: bool, held: bool, pilot: bool, open: bool,
            old: bool, evidence in 0..3_usize,
        ) {
            let trigger = [
                Trigger::Config, Trigger::Import, Trigger::GuardDuty, Trigger::CustomAction(CustomAction::Remediate),
                Trigger::CustomAction(CustomAction::DryRun), Trigger::Operator { by: "arn".to_owned(), mode: Mode::Apply, reason: String::new() },
            ][which].clone();
            let mut case = case(trigger);
            if suppressed {
                case.workflow = WorkflowStatus::Suppressed;
            }
            case.generation.0 = now().as_millisecond();
            let claim = Claim { held, status: ClaimStatus::Done, state: State::Notified, ..fixture::claim() };
            let scene = Scene::new(PolicySetName::SHIPPED[set]).claim(claim).shared(|shared| {
                if off {
                    shared.settings.switch = Switch::Off;
                }
                if pilot {
                    shared.settings.pilot_accounts.insert(case.account.clone());
                }
                if open {
                    shared.standings[2].breaker.opened_at = Some(0);
                    shared.standings[2].breaker.probe_at = i64::MAX;
                }
                if old {
                    shared.settings.acting_since = Some(now() + jiff::SignedDuration::from_hours(1));
                }
            }).facts(|facts| facts.evidence = match evidence {
                0 => Lookup::Unasked,
                1 => Lookup::Failed("no".to_owned()),
                _ => Lookup::Found(GuardEvidence::default()),
            });
            if let Plan::Start { .. } = scene.decide(&case) {
                prop_assert!(!off);
                if case.mode == Mode::Apply {
                    prop_assert!(!suppressed);
                    prop_assert!(set != 0);
                    prop_assert!(case.trigger.is_manual() || (!held && !open && !old && evidence == 2));
                    prop_assert!(case.trigger.is_manual() || set == 2 || pilot);
                }
            }
        }
    }
}
