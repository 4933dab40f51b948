//! Security Hub's automation rules of the administrator account: there, enabled, and as this release writes them.

use redress_member::wire::Wire;
use serde_json::Value;

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, Site};
use crate::deploy::automation_rules::{DENIED, There, need, there};

static MISSING: Fault = Fault {
    code: "automation-rule-missing",
    severity: Severity::Warning,
    about: "an automation rule of Redress is missing in Security Hub",
    why: "critical or high findings do not say that Redress decides about them; what it decides stays the same",
    todo: "`redress deploy apply` has its stack make it again; by hand: update stack redress-administrator with `AutomationRules=Disabled`, then with `Enabled`",
};

static DISABLED: Fault = Fault {
    code: "automation-rule-disabled",
    severity: Severity::Warning,
    about: "an automation rule of Redress is disabled",
    why: "critical or high findings do not say that Redress decides about them; what it decides stays the same",
    todo: "`redress deploy apply`, or `aws securityhub batch-update-automation-rules --update-automation-rules-request-items RuleArn={thing},RuleStatus=ENABLED --region {home}`",
};

static OTHER: Fault = Fault {
    code: "automation-rule-other",
    severity: Severity::Warning,
    about: "an automation rule of Redress is not as this release writes it",
    why: "it may mark other findings; one that sets a workflow status keeps the gravest findings from Redress, which hears of those that are NEW",
    todo: "`redress deploy apply` writes it again, and deletes one that an earlier release made; a rule of your own needs a name of its own",
};

static NONE: Fault = Fault {
    code: "automation-rules-unavailable",
    severity: Severity::Note,
    about: "AWS has no automation rules for the account here",
    why: "critical or high findings do not say that Redress decides about them; what it decides stays the same",
    todo: "make {account} the administrator of Security Hub (docs/deploy.md), then `redress deploy apply`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::AutomationRules,
    at: Where::Administrator,
    about: "Security Hub's automation rules: there, enabled, and as this release writes them",
    faults: &[&MISSING, &DISABLED, &OTHER, &NONE],
    rights: &["securityhub:BatchGetAutomationRules", "securityhub:ListAutomationRules"],
};

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    match there(&Wire::new(site.config().clone())).await? {
        There::Rules(found) => Ok(judge(&site.place, &found.ours)),
        // Whoever may not look cannot tell whether they are there.
        There::Nothing(why) if why.code() == Some(DENIED) => Err(why.into()),
        There::Nothing(why) => {
            Ok(vec![site.place.finding(&NONE, "", format!("AWS has no automation rules for the account here: {why}"))])
        }
    }
}

fn judge(place: &Place, found: &[Value]) -> Vec<Finding> {
    let need = need(found);
    let text = |rule: &Value, name: &str| rule[name].as_str().unwrap_or_default().to_owned();
    let is_replaced = |rule: &&Value| need.replaced.iter().any(|one| one["RuleName"] == rule["RuleName"]);
    let missing = need.missing.iter().filter(|rule| !is_replaced(rule)).map(|rule| {
        let name = text(rule, "RuleName");
        place.finding(&MISSING, &name, format!("Security Hub has no automation rule {name}"))
    });
    let other = need.update.iter().map(|rule| {
        let (name, arn) = (text(rule, "RuleName"), text(rule, "RuleArn"));
        if found.iter().any(|one| one["RuleArn"] == rule["RuleArn"] && one["RuleStatus"] == "DISABLED") {
            place.finding(&DISABLED, &arn, format!("automation rule {name} is disabled"))
        } else {
            place.finding(&OTHER, &arn, format!("automation rule {name} is not as this release writes it"))
        }
    });
    let replaced = need.replaced.iter().map(|rule| {
        let what = format!("automation rule {} is one that an earlier release made", text(rule, "RuleName"));
        place.finding(&OTHER, &text(rule, "RuleArn"), what)
    });
    missing.chain(other).chain(replaced).collect()
}

#[cfg(test)]
mod tests {
    use redress_common::automation_rules::wanted;
    use serde_json::json;

    use super::super::finding::tests::{administrator, codes};
    use super::*;

    #[test]
    fn the_rules_are_there_enabled_and_as_they_should_be() {
        let mut found = wanted().to_vec();
        for (rule, arn) in found.iter_mut().zip(["arn:a", "arn:b"]) {
            rule["RuleArn"] = json!(arn);
        }
        assert_eq!(judge(&administrator(), &found), []);
        assert_eq!(codes(&judge(&administrator(), &[])), ["automation-rule-missing", "automation-rule-missing"]);
        let mut before = found.clone();
        before[0]["Description"] = json!("Marks findings; made by redress deploy");
        assert_eq!(codes(&judge(&administrator(), &before)), ["automation-rule-other"]);
        found[0]["RuleStatus"] = json!("DISABLED");
        found[1]["Actions"][0]["FindingFieldsUpdate"]["Workflow"] = json!({ "Status": "NOTIFIED" });
        let told = judge(&administrator(), &found);
        assert_eq!(codes(&told), ["automation-rule-disabled", "automation-rule-other"]);
        assert!(told[0].todo.contains("RuleArn=arn:a,RuleStatus=ENABLED "), "{}", told[0].todo);
    }
}
