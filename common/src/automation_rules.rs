//! The automation rules that Redress has in Security Hub: they mark the gravest findings as what Redress decides about,
//! before anybody hears of them.
//!
//! One text of them for all: `stacksets/administrator/securityhub.yaml` is generated from it, `redress deploy` and its doctor
//! compare by it. Everything is JSON as Security Hub's API writes it, and CloudFormation's resource type too.

use serde_json::{Value, json};

const CRITICAL: &str = "redress-critical";
const HIGH: &str = "redress-high";

/// The names by which the rules are found again.
pub const NAMES: [&str; 2] = [CRITICAL, HIGH];

/// How the description ends of a rule that an earlier release made, by a call. The stack's take its place.
const BY_CALL: &str = "; made by redress deploy";

/// Whether an earlier release made this rule, as Security Hub tells it: by our name for it and our word in it.
#[must_use]
pub fn was_made_by_call(rule: &Value) -> bool {
    let text = |name: &str| rule[name].as_str().unwrap_or_default();
    NAMES.contains(&text("RuleName")) && text("Description").ends_with(BY_CALL)
}

/// The key of a finding's own fields that tells how soon Redress looks at it.
pub const PRIORITY: &str = "RedressPriority";

/// Name, place in the order, severity label, priority. The order leaves room before and after them for rules of your own.
const GRAVE: [(&str, u16, &str, &str); 2] = [(CRITICAL, 90, "CRITICAL", "critical"), (HIGH, 91, "HIGH", "high")];

/// Each rule as a stack makes it: the properties of `AWS::SecurityHub::AutomationRule`, and what `CreateAutomationRule` takes.
///
/// They set no workflow status, though recipes for such rules do. Security Hub applies automation rules before it sends the
/// event, and EventBridge's rules for Redress let in findings whose status is NEW: with any other the gravest findings would
/// never get there. When Redress is done with one, it sets the status itself. Nor do they write a note: it would take the
/// place of an analyst's at each update of the finding.
#[must_use]
pub fn wanted() -> [Value; 2] {
    GRAVE.map(|(name, order, label, priority)| {
        let is = |value: &str| json!([{ "Comparison": "EQUALS", "Value": value }]);
        json!({
            "RuleName": name,
            "Description": format!("Marks {label} findings that Redress decides about; made by stack redress-administrator"),
            "RuleOrder": order,
            "RuleStatus": "ENABLED",
            "IsTerminal": false,
            "Criteria": {
                "SeverityLabel": is(label),
                "ComplianceStatus": is("FAILED"),
                "RecordState": is("ACTIVE"),
                "WorkflowStatus": is("NEW"),
            },
            "Actions": [{
                "Type": "FINDING_FIELDS_UPDATE",
                "FindingFieldsUpdate": { "UserDefinedFields": { (PRIORITY): priority } },
            }],
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::finding::{Finding, Inbound, parse};

    const EVENT: &str = include_str!("../tests/fixtures/asff-bucket.json");

    fn read(event: &Value) -> Finding {
        match parse(event.to_string().as_bytes()) {
            Ok(Inbound::Findings(mut findings)) => findings.remove(0).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_finding_that_a_rule_marked_is_read_as_it_was() {
        let plain: Value = serde_json::from_str(EVENT).unwrap();
        for rule in wanted() {
            let update = &rule["Actions"][0]["FindingFieldsUpdate"];
            let mut marked = plain.clone();
            let finding = &mut marked["detail"]["findings"][0];
            finding["UserDefinedFields"] = update["UserDefinedFields"].clone();
            assert_eq!(read(&marked), read(&plain), "{}", rule["RuleName"]);
        }
    }

    #[test]
    fn a_rule_of_an_earlier_release_is_known_by_its_name_and_its_description_together() {
        let mut rule = wanted()[0].clone();
        assert!(!was_made_by_call(&rule));
        rule["Description"] = json!("Marks CRITICAL findings that Redress decides about; made by redress deploy");
        assert!(was_made_by_call(&rule));
        rule["RuleName"] = json!("somebody-elses");
        assert!(!was_made_by_call(&rule));
    }

    #[test]
    fn the_rules_keep_within_what_security_hub_takes_and_leave_workflow_and_note_alone() {
        let rules = wanted();
        assert_eq!(rules.each_ref().map(|rule| rule["RuleName"].as_str().unwrap()), NAMES);
        for rule in &rules {
            assert!((1..=1000).contains(&rule["RuleOrder"].as_u64().unwrap()));
            let update = rule["Actions"][0]["FindingFieldsUpdate"].as_object().unwrap();
            let fields: Vec<&str> = update.keys().map(String::as_str).collect();
            assert_eq!(fields, ["UserDefinedFields"]);
        }
    }
}
