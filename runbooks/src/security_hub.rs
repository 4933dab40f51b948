//! `stacksets/administrator/securityhub.yaml`: Security Hub's automation rules of the administrator account, as their text
//! stands in [`redress_common::automation_rules`].
//!
//! A rule is written down here as a resource, and nothing of it is decided here. The custom actions are not in the template:
//! CloudFormation has no resource type for them, so `redress deploy` makes them.

use redress_common::automation_rules::wanted;
use serde_json::{Map, json};

use crate::compile::CompileError;
use crate::template::yaml;

/// The template, below the repository's root.
pub const TEMPLATE: &str = "stacksets/administrator/securityhub.yaml";

const HEAD: &str = "# Generated from common/src/automation_rules.rs by `cargo xtask generate`. Do not edit.\n";

/// `stacksets/administrator/securityhub.yaml`.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn template() -> Result<String, CompileError> {
    let rules = wanted().map(|rule| {
        let id = logical_id(rule["RuleName"].as_str().unwrap_or_default());
        (id, json!({ "Type": "AWS::SecurityHub::AutomationRule", "Properties": rule }))
    });
    let template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Redress, administrator account: Security Hub's automation rules. Nested in administrator-stack.yaml.",
        "Resources": Map::from_iter(rules),
    });
    Ok(format!("{HEAD}{}", yaml("administrator/securityhub.yaml", &template)?))
}

/// `redress-critical` is `RedressCritical`. Another id would be another rule to CloudFormation.
fn logical_id(name: &str) -> String {
    let words = name.split('-').filter_map(|word| {
        let (first, rest) = word.split_at_checked(1)?;
        Some(first.to_uppercase() + rest)
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_rule_keeps_its_logical_id_and_its_text() {
        let template: Value = serde_saphyr::from_str(&template().unwrap()).unwrap();
        let resources = template["Resources"].as_object().unwrap();
        assert_eq!(resources.keys().collect::<Vec<_>>(), ["RedressCritical", "RedressHigh"]);
        let properties: Vec<&Value> = resources.values().map(|resource| &resource["Properties"]).collect();
        assert_eq!(properties, wanted().iter().collect::<Vec<_>>());
    }
}
