//! What tags say: who owns a resource, and whether it is critical. Pure.
//!
//! A tag of CloudFormation's (`aws:cloudformation:…`) can be written by AWS only; every other by whoever may tag
//! in the account. So the one vouches for an owner, and the other only claims it.

use std::collections::BTreeMap;

use redress_common::contract::Ownership;

/// The tags that a person chooses meaning for.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    critical: Vec<Pattern>,
    terraform: Vec<Pattern>,
}

/// `key=value`, or `key` with any value. Spelled in either case; `-` and `_` are one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    key: String,
    value: Option<String>,
}

/// Values with which a tag says that it does not hold.
const NO: [&str; 5] = ["", "0", "false", "no", "none"];
/// Values that say that a tag holds, and no more.
const YES: [&str; 4] = ["1", "terraform", "true", "yes"];

impl Pattern {
    fn list(text: &str) -> Vec<Self> {
        let one = |text: &str| {
            let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
            let pattern = Self { key: spelled(key), value: value.map(spelled) };
            (!pattern.key.is_empty()).then_some(pattern)
        };
        text.split(',').filter_map(one).collect()
    }

    fn matches(&self, key: &str, value: &str) -> bool {
        self.key == spelled(key) && self.value.as_ref().is_none_or(|wanted| *wanted == spelled(value))
    }
}

fn spelled(text: &str) -> String {
    text.trim().to_lowercase().replace('_', "-")
}

type Tags = BTreeMap<String, String>;

fn first<'a>(patterns: &[Pattern], tags: &'a Tags) -> Option<(&'a str, &'a str)> {
    let matching = |pattern: &Pattern| tags.iter().find(|(key, value)| pattern.matches(key, value));
    patterns.iter().find_map(matching).map(|(key, value)| (key.as_str(), value.as_str()))
}

impl Labels {
    /// From lists of `key=value` and `key`, separated by commas.
    pub(super) fn new(critical: &str, terraform: &str) -> Self {
        Self { critical: Pattern::list(critical), terraform: Pattern::list(terraform) }
    }

    /// The tag that marks the resource as critical.
    pub(super) fn critical(&self, tags: &Tags) -> Option<String> {
        first(&self.critical, tags).map(|(key, value)| format!("{key}={value}"))
    }

    /// Who manages the resource.
    pub(super) fn owner(&self, tags: &Tags) -> Option<Ownership> {
        stack(tags).or_else(|| self.workspace(tags))
    }

    fn workspace(&self, tags: &Tags) -> Option<Ownership> {
        let said: Tags = tags
            .iter()
            .filter(|(_, value)| !NO.contains(&spelled(value).as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        first(&self.terraform, &said)?;
        // Another of them may name the workspace.
        let telling: Tags = said.into_iter().filter(|(_, value)| !YES.contains(&spelled(value).as_str())).collect();
        let name = first(&self.terraform, &telling).map_or("", |(_, value)| value).to_owned();
        let place = if name.is_empty() { String::new() } else { format!(" (`{name}`)") };
        let hint = format!(
            "change its Terraform configuration{place} and apply it; what is changed past it is undone by the next apply"
        );
        Some(Ownership { manager: "Terraform".to_owned(), name, hint, vouched: false })
    }
}

fn stack(tags: &Tags) -> Option<Ownership> {
    let name = tags.get("aws:cloudformation:stack-name")?;
    Some(of_stack(name, name))
}

/// Ownership by a CloudFormation stack, which is `root` itself or nested in it.
pub(super) fn of_stack(name: &str, root: &str) -> Ownership {
    // StackSets name their stacks so.
    let set = root.strip_prefix("StackSet-").and_then(|rest| rest.len().checked_sub(37).and_then(|at| rest.get(..at)));
    let place = match set {
        Some(set) => format!("StackSet `{set}` in the account that administers it"),
        None => format!("stack `{root}`"),
    };
    let nested = if name == root { String::new() } else { format!(" (here: its nested stack `{name}`)") };
    Ownership {
        manager: "CloudFormation".to_owned(),
        name: name.to_owned(),
        hint: format!("change {place}{nested} and update it; what is changed past it comes back with a later update"),
        vouched: true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tags<const N: usize>(tags: [(&str, &str); N]) -> Tags {
        tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    fn labels() -> Labels {
        Labels::new("Criticality=critical, DataClass", "terraform,terraform-workspace,tf_module,managed-by=terraform")
    }

    #[test]
    fn a_critical_tag_is_found_by_value_or_by_key_alone() {
        let critical = |all| labels().critical(&tags([all]));
        assert_eq!(critical(("Criticality", "critical")).as_deref(), Some("Criticality=critical"));
        assert_eq!(critical(("criticality", " CRITICAL ")).as_deref(), Some("criticality= CRITICAL "));
        assert_eq!(critical(("Criticality", "low")), None);
        assert_eq!(critical(("data_class", "x")), None);
        assert_eq!(critical(("DataClass", "anything")).as_deref(), Some("DataClass=anything"));
        assert_eq!(Labels::new("", " , =x,").critical(&tags([("", "x")])), None);
    }

    #[test]
    fn terraform_is_known_by_its_conventional_tags_and_named_by_its_workspace() {
        let owner = labels().owner(&tags([("Managed_By", "Terraform"), ("terraform-workspace", "prod-eu")])).unwrap();
        assert_eq!((owner.manager.as_str(), owner.name.as_str(), owner.vouched), ("Terraform", "prod-eu", false));
        assert!(owner.hint.contains("(`prod-eu`)"), "{}", owner.hint);
        let owner = labels().owner(&tags([("terraform", "true")])).unwrap();
        assert_eq!(owner.name, "");
    }

    #[test]
    fn a_tag_that_says_no_is_no_owner() {
        for said in [("terraform", "false"), ("Terraform", "No"), ("managed-by", "pulumi"), ("tf_module", "")] {
            assert_eq!(labels().owner(&tags([said])), None, "{said:?}");
        }
    }

    #[test]
    fn cloudformations_own_tag_vouches_and_goes_before_what_anybody_may_write() {
        let both = tags([("aws:cloudformation:stack-name", "web"), ("terraform", "true")]);
        let owner = labels().owner(&both).unwrap();
        assert_eq!((owner.manager.as_str(), owner.name.as_str(), owner.vouched), ("CloudFormation", "web", true));
    }

    #[test]
    fn a_stack_of_a_stack_set_and_a_nested_one_say_where_to_change_them() {
        let set = of_stack("x", "StackSet-baseline-0f0c3a52-96e3-4a57-8c1c-0d1e2f3a4b5c");
        assert!(set.hint.starts_with("change StackSet `baseline` in"), "{}", set.hint);
        let nested = of_stack("app-Network-1ABC", "app");
        assert!(nested.hint.starts_with("change stack `app` (here: its nested stack `app-Network-1ABC`)"));
        assert!(of_stack("StackSet-é", "StackSet-é").hint.contains("stack `StackSet-é`"));
    }
}
