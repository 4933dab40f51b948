//! Item `settings`: what operators decide. When there is none, the defaults hold: `observe`, and nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arn::Arn;
use crate::ids::{AccountId, ControlId};

/// Which policy set decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicySetName {
    /// Tell, change nothing.
    #[default]
    Observe,
    /// Act on what is reversible, in the pilot accounts.
    Pilot,
    /// Act on what is reversible, everywhere.
    Standard,
    /// The operators' own: item `policy`.
    Custom,
}

impl PolicySetName {
    /// Those that are shipped.
    pub const SHIPPED: [Self; 3] = [Self::Observe, Self::Pilot, Self::Standard];

    /// As the settings write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Pilot => "pilot",
            Self::Standard => "standard",
            Self::Custom => "custom",
        }
    }
}

/// What may be done. The order is from free to stopped: of several that hold, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Work as policy says.
    #[default]
    On,
    /// Tell, answer dry runs, and let people put back what was changed; change nothing else.
    Observe,
    /// Tell; start nothing at all.
    Off,
}

impl Switch {
    /// As the settings write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// Item `settings`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Settings {
    /// Counts the changes; a change is written only over the version that was read.
    pub version: u64,
    /// Which policy set decides.
    pub policy_set: PolicySetName,
    /// The shipped set that decided before the operators' own: a rollback past their first one goes back to it.
    pub shipped_before: PolicySetName,
    /// The first version of the operators' own since then: a rollback from it goes to the shipped set.
    pub own_since: u64,
    /// Whether anything may be done at all.
    pub switch: Switch,
    /// The same for one account.
    pub accounts: BTreeMap<AccountId, Switch>,
    /// The same for an organisational unit and all below it, by its id.
    pub ous: BTreeMap<String, Switch>,
    /// The same for one control.
    pub controls: BTreeMap<ControlId, Switch>,
    /// Where the set `pilot` may act.
    pub pilot_accounts: BTreeSet<AccountId>,
    /// The IANA time zone of policies' local time; `None` is UTC.
    pub time_zone: Option<String>,
    /// SSM Change Calendars, in the administrator account: closed when one of them is.
    pub change_calendars: Vec<Arn>,
    /// Rules act on what was first seen after this; what is older is a campaign's. Set when a set or switch begins to act.
    pub acting_since: Option<Timestamp>,
    /// How much at a time, how often, how badly.
    pub limits: Limits,
    /// Who changed it last.
    pub changed_by: String,
    /// When.
    pub changed_at: Option<Timestamp>,
    /// Why.
    pub change_reason: String,
}

impl Settings {
    /// The switch that holds for a resource: the strictest of those that speak of it. `ou_path` is the account's whole
    /// chain of organisational units; `None` when it is not known: then every unit's switch holds.
    #[must_use]
    pub fn switch_of(&self, account: &AccountId, ou_path: Option<&[String]>, control: &ControlId) -> (Switch, String) {
        let own = self.accounts.get(account).map(|switch| (*switch, format!("account {account}")));
        let of_control = self.controls.get(control).map(|switch| (*switch, format!("control {control}")));
        let of_ous = self
            .ous
            .iter()
            .filter(|(ou, _)| ou_path.is_none_or(|path| path.contains(ou)))
            .map(|(ou, switch)| (*switch, format!("organisational unit {ou}")));
        let everywhere = (self.switch, "everything".to_owned());
        let scoped = own.into_iter().chain(of_control).chain(of_ous);
        scoped.fold(everywhere, |worst, next| if next.0 > worst.0 { next } else { worst })
    }
}

/// How much Redress may do. The defaults are for a large organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limits {
    /// Remediations running at a time in one account and Region. SSM runs 100 automations there, and each remediation is
    /// two: the control runbook and the one that it starts.
    pub in_flight: u32,
    /// Remediations that rules may start in one account within an hour.
    pub account_per_hour: u32,
    /// The same for the organisation.
    pub organisation_per_hour: u32,
    /// Of a control's remediations of the hour, in per cent: so many failures open its breaker.
    pub control_failure_percent: u32,
    /// So many remediations of a control must have ended before its failures say anything.
    pub control_minimum: u32,
    /// For how long a breaker stays open before it lets one probe through, seconds.
    pub cool_down_seconds: u32,
    /// How long an approval waits for its answer, seconds.
    pub approval_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 45,
            account_per_hour: 200,
            organisation_per_hour: 2_000,
            control_failure_percent: 50,
            control_minimum: 5,
            cool_down_seconds: 900,
            approval_seconds: 24 * 60 * 60,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn of_all_switches_that_speak_of_a_resource_the_strictest_holds() {
        let (account, control): (AccountId, ControlId) = ("111122223333".parse().unwrap(), "S3.8".parse().unwrap());
        let path = ["r-root".to_owned(), "ou-a".to_owned(), "ou-b".to_owned()];
        let mut settings = Settings::default();
        assert_eq!(settings.switch_of(&account, Some(&path), &control).0, Switch::On);
        settings.accounts.insert(account.clone(), Switch::Observe);
        settings.ous.insert("ou-a".to_owned(), Switch::Off);
        assert_eq!(
            settings.switch_of(&account, Some(&path), &control),
            (Switch::Off, "organisational unit ou-a".to_owned())
        );
        assert_eq!(settings.switch_of(&account, Some(&path[..1]), &control).0, Switch::Observe);
        settings.switch = Switch::Off;
        assert_eq!(settings.switch_of(&account, Some(&path[..1]), &control), (Switch::Off, "everything".to_owned()));
    }

    #[test]
    fn defect_08_an_account_of_unknown_place_is_under_every_units_switch() {
        let settings = Settings { ous: [("ou-z".to_owned(), Switch::Off)].into(), ..Settings::default() };
        let switch = settings.switch_of(&"111122223333".parse().unwrap(), None, &"S3.8".parse().unwrap());
        assert_eq!(switch.0, Switch::Off);
    }

    #[test]
    fn settings_of_an_older_release_are_read() {
        let old: Settings = serde_json::from_str(r#"{"PolicySet":"pilot","Switch":"observe"}"#).unwrap();
        assert_eq!(
            (old.policy_set, old.switch, old.limits),
            (PolicySetName::Pilot, Switch::Observe, Limits::default())
        );
    }
}
