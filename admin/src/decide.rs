//! What is done about a case: the plan.
//!
//! Pure, and total: a case, the settings, the claims and the policies give a plan. Everything that is unreadable
//! leads to telling people, never to acting.

use jiff::Timestamp;
use redress_common::aws::state_table::{Claim, PolicySetName, Settings, StateKey, Subject};
use redress_common::contract::{GuardEvidence, Mode};
use redress_common::finding::WorkflowStatus;
use redress_common::ids::RemediationId;
use redress_common::items::exemption::Exemptions;
use redress_common::state::State;

use crate::claim::{self, Bid, Purpose, Refused, Times};
use crate::guard;
use crate::intake::Case;
use crate::policy::{Asked, Calendar, Disposition, Policies, PolicyError, Question};

/// One-time work is remembered for 30 days: longer than any queue keeps a message.
pub const REQUEST_SECONDS: i64 = 30 * 24 * 60 * 60;

/// What is known when a case is decided. `None` and `Err` are answers, too.
#[derive(Debug)]
pub struct Known<'a> {
    /// The settings, or why they are not readable.
    pub settings: Result<Settings, String>,
    /// The claim on the resource.
    pub claim: Option<&'a Claim>,
    /// The item of the person's request.
    pub request: Option<&'a Claim>,
    /// How long work may take.
    pub times: Times,
    /// How a policy set is had.
    pub policies: fn(PolicySetName) -> Result<&'static Policies, PolicyError>,
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
}

/// What is done.
#[derive(Debug)]
pub enum Plan {
    /// Nothing: it was dealt with, or is being dealt with.
    Duplicate,
    /// Nothing yet: another remediation of the resource is under way, and the finding is newer than its start.
    Later(RemediationId),
    /// People are told, or (for [`State::Ignored`]) it is only written down.
    Tell(Tell),
    /// The control runbook is started.
    Start {
        /// The claim to take.
        key: StateKey,
        /// With what.
        bid: Box<Bid>,
        /// What policy said.
        basis: Basis,
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
}

/// The plan of a case.
#[must_use]
pub fn decide(case: &Case, known: &Known<'_>, now: Timestamp) -> Plan {
    let manual = case.trigger.is_manual();
    // A dry run stands in nobody's way; everything else that starts needs the claim.
    let (key, existing) = match case.mode {
        Mode::DryRun => (case.request_key(), known.request),
        Mode::Apply | Mode::Restore => (case.claim_key(), known.claim),
    };
    let start = bid(case, Purpose::Start);
    let handled =
        known.request.is_some_and(|request| claim::may_have(Some(request), &start, known.times, now).is_err());
    if manual && handled {
        return Plan::Duplicate;
    }
    match claim::may_have(existing, &start, known.times, now) {
        Ok(()) => {}
        Err(Refused::Duplicate) => return Plan::Duplicate,
        Err(Refused::InProgress(_)) if !manual && existing.is_some_and(|c| case.generation.0 <= c.claimed_at) => {
            return Plan::Duplicate;
        }
        Err(Refused::InProgress(other)) if !manual => return Plan::Later(other),
        Err(Refused::InProgress(other)) => {
            let reason = format!("remediation {other} of this resource is under way; ask again when it has ended");
            return tell(case, State::Notified, "in-progress", reason, Basis::default());
        }
    }
    let (settings, unreadable) = match &known.settings {
        Ok(settings) => (settings.clone(), None),
        Err(why) => (Settings::default(), Some(why)),
    };
    if let Some(why) = unreadable {
        let reason = format!("the settings are not readable, so nothing is changed: {why}");
        return tell(case, State::Notified, "settings-unreadable", reason, Basis::default());
    }
    if let (WorkflowStatus::Suppressed | WorkflowStatus::Resolved, Mode::Apply) = (case.workflow, case.mode) {
        let state = if manual { State::Notified } else { State::Ignored };
        let reason = format!(
            "the finding is {} in Security Hub",
            if case.workflow == WorkflowStatus::Suppressed { "suppressed" } else { "resolved" }
        );
        return tell(case, state, "workflow", reason, Basis::default());
    }
    // Until the guard is asked.
    let evidence = GuardEvidence::default();
    let verdict = (known.policies)(settings.policy_set).and_then(|policies| {
        let question = Question {
            trigger: &case.trigger,
            mode: case.mode,
            pilot: settings.pilot_accounts.contains(&case.account),
            account: &case.account,
            region: &case.region,
            arn: case.arn.as_str(),
            kind: &case.subject.resource_type,
            control: &case.control,
            severity: case.severity,
            risk: case.risk,
            frameworks: &case.frameworks,
            campaign: None,
            account_facts: None,
            evidence: Some(&evidence),
            now,
            time_zone: settings.time_zone.as_deref(),
            first_seen: case.event_time,
            calendar: Calendar::None,
            breaker_open: false,
        };
        let asked = Asked::from(&question);
        policies.ask_again(&asked, &Exemptions::default()).map(|verdict| (verdict, policies.sha256(), asked))
    });
    let (verdict, sha256, asked) = match verdict {
        Ok(answer) => answer,
        Err(error) => {
            let reason = format!("policy cannot be asked, so nothing is changed: {error}");
            return tell(case, State::Notified, "policy-unreadable", reason, Basis::default());
        }
    };
    let basis = Basis {
        set: settings.policy_set.as_str(),
        sha256: sha256.to_owned(),
        policies: verdict.policies.into_iter().collect(),
        disposition: verdict.disposition.as_str(),
        question: asked.text(),
    };
    match verdict.disposition {
        Disposition::Ignore => {
            let state = if manual { State::Notified } else { State::Ignored };
            tell(case, state, "ignore", "no policy asks for anything".to_owned(), basis)
        }
        Disposition::Notify => {
            let reason = verdict.error.map_or_else(
                || "policy says to tell people, and no more".to_owned(),
                |error| format!("a policy could not be evaluated, so nothing is changed: {error}"),
            );
            tell(case, State::Notified, "notify", reason, basis)
        }
        Disposition::Approve => {
            let reason = "policy asks for an approval; approvals are not built yet, so nothing is changed".to_owned();
            tell(case, State::Notified, "approval-needed", reason, basis)
        }
        Disposition::Act => match guard::stop(&settings, existing, manual, case.mode, now) {
            Some(stop) => tell(case, State::Notified, stop.code(), stop.to_string(), basis),
            None => Plan::Start { key, bid: Box::new(start), basis },
        },
    }
}

fn tell(case: &Case, state: State, code: &'static str, reason: String, basis: Basis) -> Plan {
    // What a person asked for and does not get must not touch the claim that others work with.
    let key = if case.trigger.is_manual() { case.request_key() } else { case.claim_key() };
    Plan::Tell(Tell { key, bid: Box::new(bid(case, Purpose::Tell)), state, code, reason, basis })
}

fn bid(case: &Case, purpose: Purpose) -> Bid {
    let manual = case.trigger.is_manual();
    Bid {
        id: case.id,
        // A request of a person says nothing of the world's state.
        generation: case.generation,
        manual,
        mode: case.mode,
        subject: case.subject.clone(),
        undoes: case.source.as_ref().map(|source| source.remediation),
        purpose,
        keep_seconds: (manual && (purpose == Purpose::Tell || case.mode == Mode::DryRun)).then_some(REQUEST_SECONDS),
    }
}

/// The telling of an input that is no case: refused, written down once.
#[must_use]
pub fn refusal(id: RemediationId, subject: Subject, code: &'static str, reason: String) -> Tell {
    let bid = Bid {
        id,
        generation: redress_common::ids::Generation(0),
        manual: true,
        mode: Mode::DryRun,
        subject,
        undoes: None,
        purpose: Purpose::Tell,
        keep_seconds: Some(REQUEST_SECONDS),
    };
    Tell { key: StateKey::Request(id), bid: Box::new(bid), state: State::Failed, code, reason, basis: Basis::default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::intake::case_of;
    use proptest::prelude::*;
    use redress_common::aws::state_table::{ClaimStatus, Switch};
    use redress_common::finding::{CustomAction, Finding, Trigger};

    fn case(trigger: Trigger) -> Case {
        case_of(&Finding { trigger, ..fixture::finding() }, &fixture::catalogue()).unwrap()
    }

    fn known(set: PolicySetName) -> Known<'static> {
        let settings = Settings { policy_set: set, ..Settings::default() };
        Known {
            settings: Ok(settings),
            claim: None,
            request: None,
            times: Times::default(),
            policies: Policies::shipped,
        }
    }

    fn now() -> Timestamp {
        fixture::finding().event_time
    }

    fn told(plan: Plan) -> (State, &'static str) {
        match plan {
            Plan::Tell(tell) => (tell.state, tell.code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn policy_that_says_act_starts_with_its_basis() {
        let plan = decide(&case(Trigger::Config), &known(PolicySetName::Standard), now());
        let Plan::Start { basis, key, .. } = plan else { panic!("{plan:?}") };
        assert_eq!(basis.policies, ["standard.act-on-reversible"]);
        assert_eq!(basis.sha256.len(), 64);
        assert_eq!(key, case(Trigger::Config).claim_key());
    }

    #[test]
    fn defect_08_unreadable_settings_change_nothing() {
        for trigger in [Trigger::Config, Trigger::CustomAction(CustomAction::Remediate)] {
            let known = Known { settings: Err("torn".to_owned()), ..known(PolicySetName::Standard) };
            assert_eq!(told(decide(&case(trigger), &known, now())), (State::Notified, "settings-unreadable"));
        }
    }

    #[test]
    fn defect_08_a_policy_set_that_does_not_load_changes_nothing() {
        let broken = |_| Err(PolicyError::Absent);
        let known = Known { policies: broken, ..known(PolicySetName::Standard) };
        assert_eq!(told(decide(&case(Trigger::Config), &known, now())), (State::Notified, "policy-unreadable"));
    }

    #[test]
    fn defect_09_a_custom_action_passes_the_same_policy_switch_and_claim() {
        let asked = case(Trigger::CustomAction(CustomAction::Remediate));
        assert_eq!(told(decide(&asked, &known(PolicySetName::Observe), now())), (State::Notified, "notify"));
        let off = Settings { switch: Switch::Off, policy_set: PolicySetName::Standard, ..Settings::default() };
        let off = Known { settings: Ok(off), ..known(PolicySetName::Standard) };
        assert_eq!(told(decide(&asked, &off, now())), (State::Notified, "switched-off"));
        let busy = Claim { lease_until: i64::MAX, status: ClaimStatus::Leased, ..fixture::claim() };
        let busy = Known { claim: Some(&busy), ..known(PolicySetName::Standard) };
        assert_eq!(told(decide(&asked, &busy, now())), (State::Notified, "in-progress"));
    }

    #[test]
    fn defect_14_suppressed_findings_are_left_alone_whoever_asks() {
        for workflow in [WorkflowStatus::Suppressed, WorkflowStatus::Resolved] {
            let rule = Case { workflow, ..case(Trigger::Import) };
            assert_eq!(told(decide(&rule, &known(PolicySetName::Standard), now())), (State::Ignored, "workflow"));
            let person = Case { workflow, ..case(Trigger::CustomAction(CustomAction::Remediate)) };
            assert_eq!(told(decide(&person, &known(PolicySetName::Standard), now())), (State::Notified, "workflow"));
        }
    }

    #[test]
    fn defect_22_the_update_of_a_finding_that_was_just_fixed_starts_nothing() {
        let fixed = claim::finish(
            &claim::grant(None, bid(&case(Trigger::Config), Purpose::Start), Times::default(), now()).unwrap(),
            claim::End { state: State::Verified, compliant: true, changed: true, undone: false },
            now() + jiff::SignedDuration::from_secs(2),
        );
        let update = Case { workflow: WorkflowStatus::Resolved, ..case(Trigger::Import) };
        let known = Known { claim: Some(&fixed), ..known(PolicySetName::Standard) };
        assert!(matches!(decide(&update, &known, now() + jiff::SignedDuration::from_secs(3)), Plan::Duplicate));
    }

    #[test]
    fn a_dry_run_is_not_blocked_by_a_remediation_under_way() {
        let busy = Claim { lease_until: i64::MAX, ..fixture::claim() };
        let dry = case(Trigger::CustomAction(CustomAction::DryRun));
        let plan = decide(&dry, &Known { claim: Some(&busy), ..known(PolicySetName::Observe) }, now());
        let Plan::Start { key, .. } = plan else { panic!("{plan:?}") };
        assert_eq!(key, dry.request_key());
    }

    #[test]
    fn a_finding_newer_than_the_remediation_under_way_comes_back_later() {
        let mut new = case(Trigger::Config);
        let start = now().as_millisecond();
        let busy = Claim { lease_until: i64::MAX, claimed_at: start, ..fixture::claim() };
        let known = Known { claim: Some(&busy), ..known(PolicySetName::Standard) };
        new.generation.0 = start;
        assert!(matches!(decide(&new, &known, now()), Plan::Duplicate));
        new.generation.0 = start + 1;
        assert!(matches!(decide(&new, &known, now()), Plan::Later(other) if other == busy.remediation_id));
    }

    #[test]
    fn an_approval_that_nobody_can_give_yet_changes_nothing() {
        let case = Case { risk: redress_common::catalogue::Risk::Destructive, ..case(Trigger::Config) };
        assert_eq!(told(decide(&case, &known(PolicySetName::Standard), now())), (State::Notified, "approval-needed"));
    }

    proptest! {
        #[test]
        fn what_is_switched_off_suppressed_or_observed_is_never_changed(
            set in 0..3_usize, which in 0..6_usize, off: bool, suppressed: bool, held: bool, pilot: bool,
        ) {
            let trigger = [
                Trigger::Config, Trigger::Import, Trigger::GuardDuty, Trigger::CustomAction(CustomAction::Remediate),
                Trigger::CustomAction(CustomAction::DryRun), Trigger::Operator { by: "arn".to_owned(), mode: Mode::Apply, reason: String::new() },
            ][which].clone();
            let mut case = case(trigger);
            if suppressed {
                case.workflow = WorkflowStatus::Suppressed;
            }
            case.generation.0 = i64::MAX;
            let mut settings = Settings { policy_set: PolicySetName::SHIPPED[set], ..Settings::default() };
            if off {
                settings.switch = Switch::Off;
            }
            if pilot {
                settings.pilot_accounts.insert(case.account.clone());
            }
            let claim = Claim { held, status: ClaimStatus::Done, ..fixture::claim() };
            let known = Known { settings: Ok(settings), claim: Some(&claim), request: None, times: Times::default(), policies: Policies::shipped };
            if let Plan::Start { .. } = decide(&case, &known, now()) {
                prop_assert!(!off);
                if case.mode == Mode::Apply {
                    prop_assert!(!suppressed);
                    prop_assert!(set != 0);
                    prop_assert!(case.trigger.is_manual() || !held);
                    prop_assert!(case.trigger.is_manual() || set == 2 || pilot);
                }
            }
        }
    }
}
