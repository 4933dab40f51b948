//! The settings in the state table: can they be read, is the policy set in force valid, and is anything switched off.

use redress_admin::policy::Policies;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::state_table::{self, Snapshot, StateKey};
use redress_common::items::settings::{PolicySetName, Settings, Switch};
use redress_common::names;

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, Site, absent};

static DAMAGED: Fault = Fault {
    code: "settings-damaged",
    severity: Severity::Error,
    about: "the settings cannot be read",
    why: "while that is so, Redress changes nothing",
    todo: "docs/operate.md, \"Break glass\", says how they are written by hand",
};

static INVALID: Fault = Fault {
    code: "policy-invalid",
    severity: Severity::Error,
    about: "the policy set in force cannot be used",
    why: "the last good one stays in a function that had it; a new one changes nothing",
    todo: "`redress policy show --json | jq -r .Source > mine.cedar && redress policy check mine.cedar` says where; `redress policy rollback --reason \"…\"` goes back to the set before",
};

static BAD_ZONE: Fault = Fault {
    code: "time-zone-unknown",
    severity: Severity::Error,
    about: "the time zone of the settings is none",
    why: "policies that speak of the time of day cannot decide, so nothing is changed by them",
    todo: "`redress settings set --time-zone <name, such as Europe/Berlin> --reason \"…\"`",
};

static OFF: Fault = Fault {
    code: "switched-off",
    severity: Severity::Warning,
    about: "Redress is switched off",
    why: "findings are told, nothing is started: what fails meanwhile becomes a backlog",
    todo: "`redress settings show` says who did it and why; `redress on --reason \"…\"` when that is over",
};

static PARTLY: Fault = Fault {
    code: "switched-partly",
    severity: Severity::Note,
    about: "Redress observes only, or is switched off or observes for some accounts, units or controls",
    why: "there it tells people and changes nothing",
    todo: "`redress settings show` says who did it and why; `redress on`, with the same scope, ends it",
};

static OBSERVES: Fault = Fault {
    code: "policy-observe",
    severity: Severity::Note,
    about: "the policy set `observe` is in force",
    why: "people are told and nothing is changed: right for the first weeks",
    todo: "`redress policy diff --set pilot` shows what would change; `redress settings set --policy-set pilot --reason \"…\"`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Settings,
    at: Where::Administrator,
    about: "the settings: readable, with a valid policy set and time zone, and not switched off",
    faults: &[&DAMAGED, &INVALID, &BAD_ZONE, &OFF, &PARTLY, &OBSERVES],
    rights: &["dynamodb:BatchGetItem"],
};

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    match read(site).await {
        Ok(snapshot) => Ok(judge(&site.place, &snapshot)),
        // Without its table there are none; that is told of the table.
        Err(failure) => absent::<()>(failure).map(|_| Vec::new()),
    }
}

/// Settings and own policy set, as they are stored.
async fn read(site: &Site) -> Result<Snapshot, AwsFailure> {
    let client = aws_sdk_dynamodb::Client::new(site.config());
    state_table::read(&client, names::STATE_TABLE, &[StateKey::Settings, StateKey::Policy]).await
}

/// The settings, where they can be read.
pub(super) async fn in_force(site: &Site) -> Option<Settings> {
    read(site).await.ok()?.settings().ok()
}

fn judge(place: &Place, snapshot: &Snapshot) -> Vec<Finding> {
    let settings = match snapshot.settings() {
        Ok(settings) => settings,
        Err(error) => return vec![place.finding(&DAMAGED, "", format!("the settings cannot be read: {error}"))],
    };
    let mut findings = Vec::new();
    let own = match settings.policy_set {
        PolicySetName::Custom => snapshot.policy().map_err(|error| error.to_string()),
        _ => Ok(None),
    };
    let set =
        own.and_then(|own| Policies::in_force(settings.policy_set, own.as_ref()).map_err(|error| error.to_string()));
    if let Err(error) = set {
        let name = settings.policy_set.as_str();
        findings.push(place.finding(&INVALID, "", format!("policy set `{name}` cannot be used: {error}")));
    }
    if let Some(zone) = settings.time_zone.as_deref()
        && redress_admin::policy::time_zone(zone).is_err()
    {
        findings.push(place.finding(&BAD_ZONE, "", format!("there is no time zone `{zone}`")));
    }
    let scoped = settings.accounts.len() + settings.ous.len() + settings.controls.len();
    match settings.switch {
        Switch::Off => findings.push(place.finding(&OFF, "", format!("everything is switched off{}", who(&settings)))),
        Switch::Observe => {
            findings.push(place.finding(&PARTLY, "", format!("everything is on observe{}", who(&settings))));
        }
        Switch::On if scoped > 0 => {
            let what = format!("{scoped} accounts, units or controls have a switch of their own");
            findings.push(place.finding(&PARTLY, "", what));
        }
        Switch::On => {}
    }
    if settings.policy_set == PolicySetName::Observe {
        findings.push(place.finding(&OBSERVES, "", "policy set `observe` tells people and changes nothing"));
    }
    findings
}

fn who(settings: &Settings) -> String {
    let by = if settings.changed_by.is_empty() { String::new() } else { format!(", by {}", settings.changed_by) };
    let why = if settings.change_reason.is_empty() { String::new() } else { format!(": {}", settings.change_reason) };
    format!("{by}{why}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::super::finding::tests::{administrator, codes};
    use super::*;

    fn told(settings: &serde_json::Value) -> Vec<&'static str> {
        let settings: Settings = serde_json::from_value(settings.clone()).unwrap();
        let item = state_table::encode(&StateKey::Settings, &settings).unwrap();
        let snapshot = Snapshot::new(&[StateKey::Settings, StateKey::Policy], vec![item]);
        codes(&judge(&administrator(), &snapshot))
    }

    #[test]
    fn settings_are_valid_and_on() {
        assert!(told(&json!({ "PolicySet": "standard" })).is_empty());
        assert_eq!(told(&json!({ "PolicySet": "observe" })), ["policy-observe"]);
        assert_eq!(told(&json!({ "PolicySet": "custom" })), ["policy-invalid"]);
        assert_eq!(told(&json!({ "PolicySet": "standard", "Switch": "off" })), ["switched-off"]);
        assert_eq!(told(&json!({ "PolicySet": "standard", "Switch": "observe" })), ["switched-partly"]);
        assert_eq!(told(&json!({ "PolicySet": "standard", "Controls": { "S3.8": "off" } })), ["switched-partly"]);
        assert_eq!(told(&json!({ "PolicySet": "standard", "TimeZone": "Mars/Olympus" })), ["time-zone-unknown"]);
    }

    #[test]
    fn settings_that_are_none_are_damaged() {
        let mut item = state_table::encode(&StateKey::Settings, &Settings::default()).unwrap();
        item.insert("Switch".to_owned(), aws_sdk_dynamodb::types::AttributeValue::S("perhaps".to_owned()));
        let snapshot = Snapshot::new(&[StateKey::Settings, StateKey::Policy], vec![item]);
        assert_eq!(codes(&judge(&administrator(), &snapshot)), ["settings-damaged"]);
    }
}
