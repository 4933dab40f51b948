//! What stands between a policy that says `act` and the act: the switch, a person's hold, a resource that flaps.
//!
//! Pure. Guards only ever say no. Events of our own making are not seen here: the parser drops finding updates
//! that carry our note, and a claim drops findings from before its fix.

use jiff::Timestamp;
use redress_common::aws::state_table::{Claim, Settings, Switch};
use redress_common::contract::Mode;

use crate::claim::WINDOW_MS;

/// A resource that was remediated this often within the window is flapping.
pub const FLAPPING: usize = 3;

/// Why nothing is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// `redress off`.
    #[error("the switch is off: nothing is started")]
    SwitchedOff,
    /// `redress observe`.
    #[error("the switch stands at observe: nothing is changed")]
    SwitchedToObserve,
    /// Somebody undid the last remediation.
    #[error(
        "a person undid the last remediation of this resource; rules do not act here until a person asks for a fix"
    )]
    Held,
    /// It comes back again and again.
    #[error("remediated {FLAPPING} times within 24 hours and failing again: something undoes the fix; find out what")]
    Flapping,
}

impl Stop {
    /// A slug that stays the same between releases.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SwitchedOff => "switched-off",
            Self::SwitchedToObserve => "switched-to-observe",
            Self::Held => "held",
            Self::Flapping => "flapping",
        }
    }
}

/// The first reason not to start this, if any. A person who asks is not stopped by what stops rules.
#[must_use]
pub fn stop(settings: &Settings, claim: Option<&Claim>, manual: bool, mode: Mode, now: Timestamp) -> Option<Stop> {
    match settings.switch {
        Switch::Off => return Some(Stop::SwitchedOff),
        Switch::Observe if mode != Mode::DryRun => return Some(Stop::SwitchedToObserve),
        Switch::Observe | Switch::On => {}
    }
    let claim = claim.filter(|_| !manual)?;
    let lately = claim.recent.iter().filter(|at| now.as_millisecond() - **at < WINDOW_MS).count();
    if claim.held {
        Some(Stop::Held)
    } else if lately >= FLAPPING {
        Some(Stop::Flapping)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    const NOW: i64 = 1_700_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_millisecond(NOW).unwrap_or_default()
    }

    fn switched(switch: Switch) -> Settings {
        Settings { switch, ..Settings::default() }
    }

    #[test]
    fn the_switch_stops_everybody() {
        for manual in [true, false] {
            for mode in [Mode::Apply, Mode::Restore, Mode::DryRun] {
                assert_eq!(stop(&switched(Switch::Off), None, manual, mode, now()), Some(Stop::SwitchedOff));
            }
            assert_eq!(
                stop(&switched(Switch::Observe), None, manual, Mode::Apply, now()),
                Some(Stop::SwitchedToObserve)
            );
            assert_eq!(stop(&switched(Switch::Observe), None, manual, Mode::DryRun, now()), None);
            assert_eq!(stop(&switched(Switch::On), None, manual, Mode::Apply, now()), None);
        }
    }

    #[test]
    fn a_flapping_resource_goes_to_a_human() {
        let on = switched(Switch::On);
        let claim = |recent: &[i64]| Claim { recent: recent.to_vec(), ..fixture::claim() };
        let three = claim(&[NOW - 3, NOW - 2, NOW - 1]);
        assert_eq!(stop(&on, Some(&three), false, Mode::Apply, now()), Some(Stop::Flapping));
        assert_eq!(stop(&on, Some(&three), true, Mode::Apply, now()), None, "the human");
        let old = claim(&[NOW - WINDOW_MS, NOW - 2, NOW - 1]);
        assert_eq!(stop(&on, Some(&old), false, Mode::Apply, now()), None);
    }

    #[test]
    fn a_hold_stops_rules_only() {
        let held = Claim { held: true, ..fixture::claim() };
        let on = switched(Switch::On);
        assert_eq!(stop(&on, Some(&held), false, Mode::Apply, now()), Some(Stop::Held));
        assert_eq!(stop(&on, Some(&held), true, Mode::Apply, now()), None);
    }
}
