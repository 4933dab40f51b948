//! The alarms of the administrator account: there, able to tell somebody, and silent.

use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, DESCRIBE_ALARMS, Site, is_true};

static MISSING: Fault = Fault {
    code: "alarms-missing",
    severity: Severity::Error,
    about: "there is no alarm of Redress",
    why: "when it stops working, nobody hears of it",
    todo: "update stack redress-administrator, which nests monitoring.yaml (docs/deploy.md)",
};

static RINGS: Fault = Fault {
    code: "alarm-rings",
    severity: Severity::Warning,
    about: "an alarm is in state ALARM",
    why: "what it watches is beyond its bound: docs/monitoring.md says what that means",
    todo: "`aws cloudwatch describe-alarm-history --alarm-name {thing} --region {home}`, and docs/monitoring.md",
};

static MUTE: Fault = Fault {
    code: "alarm-mute",
    severity: Severity::Warning,
    about: "the actions of an alarm are turned off",
    why: "it rings and tells nobody",
    todo: "`aws cloudwatch enable-alarm-actions --alarm-names {thing} --region {home}`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Alarms,
    at: Where::Administrator,
    about: "the alarms: there, able to tell somebody, and none in state ALARM",
    faults: &[&MISSING, &RINGS, &MUTE],
    rights: &["cloudwatch:DescribeAlarms"],
};

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let alarms = site.all(&DESCRIBE_ALARMS, json!({ "AlarmNamePrefix": "redress-" }), "MetricAlarms").await?;
    Ok(judge(&site.place, &alarms))
}

fn judge(place: &Place, alarms: &[Value]) -> Vec<Finding> {
    if alarms.is_empty() {
        return vec![place.finding(&MISSING, "", "there is no alarm of Redress")];
    }
    let verdict = |alarm: &Value| {
        let name = alarm["AlarmName"].as_str().unwrap_or_default().to_owned();
        if alarm["StateValue"] == "ALARM" {
            return Some(place.finding(&RINGS, &name, format!("alarm {name} is in state ALARM")));
        }
        let is_mute = !alarm["ActionsEnabled"].is_null() && !is_true(&alarm["ActionsEnabled"]);
        is_mute.then(|| place.finding(&MUTE, &name, format!("the actions of alarm {name} are turned off")))
    };
    alarms.iter().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{administrator, codes};
    use super::*;

    #[test]
    fn alarms_are_there_silent_and_able_to_tell() {
        let alarm = |state: &str, enabled: &str| json!({ "AlarmName": "redress-x", "StateValue": state, "ActionsEnabled": enabled });
        let told = |alarms: &[Value]| codes(&judge(&administrator(), alarms));
        assert!(told(&[alarm("OK", "true"), alarm("INSUFFICIENT_DATA", "true")]).is_empty());
        assert_eq!(told(&[alarm("ALARM", "true"), alarm("OK", "false")]), ["alarm-rings", "alarm-mute"]);
        assert_eq!(told(&[]), ["alarms-missing"]);
    }
}
