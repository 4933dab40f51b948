//! What stands between a policy that says `act` and the act: the switch, a person's hold, a resource that flaps, the
//! backlog, what the member's guard found out.
//!
//! Pure. Guards only ever say no. Events of our own making are not seen here: the parser drops finding updates
//! that carry our note, and a claim drops findings from before its fix.

use jiff::Timestamp;
use redress_common::aws::state_table::{Claim, Settings, Switch};
use redress_common::contract::{GuardEvidence, Mode};
use redress_common::state::State;

use crate::claim::WINDOW_MS;
use crate::intake::Case;

/// A resource that was remediated this often within the window is flapping.
pub const FLAPPING: usize = 3;

/// Why nothing is started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// `redress off`.
    #[error("the switch of {0} is off: nothing is started")]
    SwitchedOff(String),
    /// `redress observe`.
    #[error("the switch of {0} stands at observe: nothing is changed")]
    SwitchedToObserve(String),
    /// Somebody undid the last remediation.
    #[error(
        "a person undid the last remediation of this resource, or said no to one; rules do not act here until a person \
         asks for a fix"
    )]
    Held,
    /// It comes back again and again.
    #[error("remediated {FLAPPING} times within 24 hours and failing again: something undoes the fix; find out what")]
    Flapping,
    /// It failed before Redress began to act.
    #[error("first seen {0}, before rules began to act; `redress campaign` remediates what is older, at a pace")]
    Backlog(Timestamp),
    /// Somebody else's tool manages the resource.
    #[error("{manager} `{name}` manages the resource{by_tags} and would undo the change; make it there: {hint}")]
    Owned {
        /// Which tool.
        manager: String,
        /// Its name for what holds the resource.
        name: String,
        /// Where to make the change.
        hint: String,
        /// That only tags say so, when it is so: whoever may write them could keep rules off.
        by_tags: &'static str,
    },
}

impl Stop {
    /// A slug that stays the same between releases.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SwitchedOff(_) => "switched-off",
            Self::SwitchedToObserve(_) => "switched-to-observe",
            Self::Held => "held",
            Self::Flapping => "flapping",
            Self::Backlog(_) => "backlog",
            Self::Owned { .. } => "owned",
        }
    }
}

/// The switch that stops this, if any. It stops everybody; only what puts something back is not stopped by `observe`.
/// `ou_path` is `None` when the account's place is not known: then every unit's switch holds.
#[must_use]
pub fn switched(settings: &Settings, ou_path: Option<&[String]>, case: &Case) -> Option<Stop> {
    let (switch, scope) = settings.switch_of(&case.account, ou_path, &case.control);
    match switch {
        Switch::Off => Some(Stop::SwitchedOff(scope)),
        Switch::Observe if !matches!(case.mode, Mode::DryRun | Mode::Restore) => Some(Stop::SwitchedToObserve(scope)),
        Switch::Observe | Switch::On => None,
    }
}

/// The first reason why a rule may not act on a resource, if any. A person who asks is not stopped by what stops rules, and
/// a sample, which is how people try the way, changes nothing.
#[must_use]
pub fn stop(settings: &Settings, claim: Option<&Claim>, case: &Case, now: Timestamp) -> Option<Stop> {
    if case.trigger.is_manual() || case.subject.sample {
        return None;
    }
    if let Some(claim) = claim {
        let lately = claim.recent.iter().filter(|at| now.as_millisecond() - **at < WINDOW_MS).count();
        if claim.held {
            return Some(Stop::Held);
        } else if lately >= FLAPPING {
            return Some(Stop::Flapping);
        }
    }
    // Security Hub keeps a finding's first time when the resource fails anew: what Redress worked on once is no backlog.
    let worked_on = claim.is_some_and(|claim| {
        let only_told = matches!(claim.state, State::Notified | State::Ignored | State::Planned);
        !only_told || claim.undoable.is_some() || !claim.recent.is_empty()
    });
    let old = settings.acting_since.is_some_and(|since| case.first_seen < since);
    (old && !worked_on && case.campaign.is_none()).then_some(Stop::Backlog(case.first_seen))
}

/// Why a rule may not act, by what the guard found out.
#[must_use]
pub fn owned(evidence: &GuardEvidence) -> Option<Stop> {
    let owner = evidence.owned_by.clone()?;
    let by_tags = if owner.vouched { "" } else { ", as its tags say," };
    Some(Stop::Owned { manager: owner.manager, name: owner.name, hint: owner.hint, by_tags })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::intake::case_of;
    use redress_common::finding::{CustomAction, Finding, Trigger};

    const NOW: i64 = 1_772_366_400_000;

    fn now() -> Timestamp {
        Timestamp::from_millisecond(NOW).unwrap()
    }

    fn case(trigger: Trigger) -> Case {
        case_of(&Finding { trigger, ..fixture::finding() }, &fixture::catalogue()).unwrap()
    }

    fn rule() -> Case {
        case(Trigger::Config)
    }

    fn person() -> Case {
        case(Trigger::CustomAction(CustomAction::Remediate))
    }

    #[test]
    fn the_switch_stops_everybody_and_says_whose_it_is() {
        let switched_to = |switch| Settings { switch, ..Settings::default() };
        for asked in [rule(), person()] {
            for mode in [Mode::Apply, Mode::Restore, Mode::DryRun] {
                let asked = Case { mode, ..asked.clone() };
                let off = switched(&switched_to(Switch::Off), None, &asked);
                assert_eq!(off, Some(Stop::SwitchedOff("everything".to_owned())));
                let observed = switched(&switched_to(Switch::Observe), None, &asked);
                assert_eq!(observed.is_none(), mode != Mode::Apply);
                assert_eq!(switched(&switched_to(Switch::On), None, &asked), None);
            }
        }
        let control = Settings { controls: [("S3.8".parse().unwrap(), Switch::Off)].into(), ..Settings::default() };
        assert!(switched(&control, None, &person()).unwrap().to_string().contains("control S3.8"));
        let unit = Settings { ous: [("ou-a".to_owned(), Switch::Off)].into(), ..Settings::default() };
        assert_eq!(switched(&unit, Some(&["r-1".to_owned()]), &rule()), None);
        assert!(
            switched(&unit, None, &rule()).is_some(),
            "of an account in an unknown place, every unit's switch holds"
        );
    }

    #[test]
    fn a_flapping_resource_goes_to_a_human() {
        let on = Settings::default();
        let claim = |recent: &[i64]| Claim { recent: recent.to_vec(), ..fixture::claim() };
        let three = claim(&[NOW - 3, NOW - 2, NOW - 1]);
        assert_eq!(stop(&on, Some(&three), &rule(), now()), Some(Stop::Flapping));
        assert_eq!(stop(&on, Some(&three), &person(), now()), None, "the human");
        let old = claim(&[NOW - WINDOW_MS, NOW - 2, NOW - 1]);
        assert_eq!(stop(&on, Some(&old), &rule(), now()), None);
    }

    #[test]
    fn a_hold_stops_rules_only() {
        let held = Claim { held: true, ..fixture::claim() };
        assert_eq!(stop(&Settings::default(), Some(&held), &rule(), now()), Some(Stop::Held));
        assert_eq!(stop(&Settings::default(), Some(&held), &person(), now()), None);
    }

    #[test]
    fn what_failed_before_rules_began_to_act_is_a_campaigns() {
        let since = Settings { acting_since: Some(now()), ..Settings::default() };
        let seen = |ms| Case { first_seen: Timestamp::from_millisecond(ms).unwrap(), ..rule() };
        assert_eq!(stop(&since, None, &seen(NOW - 1), now()).unwrap().code(), "backlog");
        assert_eq!(stop(&since, None, &seen(NOW), now()), None);
        assert_eq!(stop(&Settings::default(), None, &seen(0), now()), None);
        let of_campaign = Case { campaign: Some("old".to_owned()), ..seen(0) };
        assert_eq!(stop(&since, None, &of_campaign, now()), None);
        let asked = Case { first_seen: Timestamp::UNIX_EPOCH, ..person() };
        assert_eq!(stop(&since, None, &asked, now()), None);
        for (state, stopped) in [(State::Verified, false), (State::RolledBack, false), (State::Notified, true)] {
            let known = Claim { state, ..fixture::claim() };
            assert_eq!(stop(&since, Some(&known), &seen(0), now()).is_some(), stopped, "{state}");
        }
    }
}
