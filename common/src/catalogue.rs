//! What the orchestrator knows of each control: generated from the control files, stored as data.
//!
//! The catalogue lies in the state table, so that a new control needs no new Lambda.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::arn::Arn;
use crate::finding::Check;
use crate::ids::ControlId;

/// How much harm a remediation of this control may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Can be undone, and interrupts nothing.
    Reversible,
    /// Can be undone, but may interrupt service.
    Disruptive,
    /// Cannot be undone.
    Destructive,
}

impl Risk {
    /// As the control file and the policy schema write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reversible => "reversible",
            Self::Disruptive => "disruptive",
            Self::Destructive => "destructive",
        }
    }
}

/// Where a control holds: decides the Region in which it is claimed and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The resource's, or for an account-wide regional setting the finding's, Region.
    Regional,
    /// The whole account, as IAM: claimed and run in the partition's global Region.
    Global,
}

/// What of the state machine a control needs that takes long: it always goes through it, also unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Workflow {
    /// A safety copy is made, and waited for, before anything is changed.
    pub snapshot: bool,
    /// What failed, or cannot be verified, is put back at once.
    pub roll_back: bool,
}

/// A playbook: the orchestrator invokes a function of the member account, and no runbook of Systems Manager's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Direct {
    /// The member's Lambda function.
    pub function: String,
    /// What it runs: a name of the member's playbooks.
    pub native: String,
    /// The control's parameters, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
}

/// One control, as the orchestrator needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ControlEntry {
    /// What must hold.
    pub title: String,
    /// How much harm fixing may do.
    pub risk: Risk,
    /// Where it holds.
    pub scope: Scope,
    /// CloudFormation types that it applies to.
    pub resource_types: Vec<String>,
    /// How the resource's name is captured from its ARN ([`crate::arn::Arn::capture`]); one must match.
    pub arn_patterns: Vec<String>,
    /// Config rule names and managed-rule identifiers that report it, lower case with hyphens.
    pub config_rules: Vec<String>,
    /// GuardDuty types that report it; a trailing `*` matches any ending.
    #[serde(default)]
    pub guardduty_types: Vec<String>,
    /// Frameworks and the requirements in them: `CIS v3.0.0` → `2.1.4`.
    #[serde(default)]
    pub frameworks: BTreeMap<String, Vec<String>>,
    /// What Apply does, in a few words, for notifications: `Block public access`.
    pub action: String,
    /// Set when it goes through the state machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Workflow>,
    /// Set when it is a playbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,
    /// The steps that a person takes, where no machine may or can: then nothing is ever changed by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guidance: Vec<String>,
}

/// Every control, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Catalogue(pub BTreeMap<ControlId, ControlEntry>);

impl Catalogue {
    /// The control that a check speaks of, and its entry.
    ///
    /// A Config rule is known by its name or managed identifier, also in the form that Security Hub
    /// gives its own rules (`securityhub-<name>-<hash>`) and that an organisation or a conformance pack
    /// gives theirs (`OrgConfigRule-<name>-<hash>`, `<name>-conformance-pack-<hash>`).
    #[must_use]
    pub fn resolve(&self, check: &Check) -> Option<(&ControlId, &ControlEntry)> {
        match check {
            Check::Control(id) => self.0.get_key_value(id),
            Check::ConfigRule(name) => {
                let names = rule_names(name);
                self.0.iter().find(|(_, entry)| entry.config_rules.iter().any(|rule| names.contains(rule)))
            }
            Check::GuardDutyType(given) => self.0.iter().find(|(_, entry)| entry.is_reported_as(given)),
            Check::Containment => None,
        }
    }

    /// The control that a check speaks of on a resource. A type of GuardDuty's may be reported of several types of resource,
    /// and what is to be contained is known by its resource alone.
    #[must_use]
    pub fn resolve_on(&self, check: &Check, resource: &Arn) -> Option<(&ControlId, &ControlEntry)> {
        match check {
            Check::GuardDutyType(given) => {
                self.0.iter().find(|(_, entry)| entry.is_reported_as(given) && entry.fits(resource))
            }
            Check::Containment => self.0.iter().find(|(_, entry)| entry.direct.is_some() && entry.fits(resource)),
            Check::Control(_) | Check::ConfigRule(_) => self.resolve(check),
        }
    }
}

impl ControlEntry {
    fn is_reported_as(&self, guardduty_type: &str) -> bool {
        self.guardduty_types.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => guardduty_type.starts_with(start),
            None => known == guardduty_type,
        })
    }

    fn fits(&self, resource: &Arn) -> bool {
        self.arn_patterns.iter().any(|pattern| resource.capture(pattern).is_some())
    }
}

/// What a Config rule may be known by: its name in lower case with hyphens, also without what Security Hub,
/// organisations and conformance packs put around it. The ending that they add looks like any word, so the name
/// with and without it is tried.
fn rule_names(name: &str) -> Vec<String> {
    let whole = name.to_ascii_lowercase().replace('_', "-");
    let mut names = vec![whole.clone()];
    let inner = ["securityhub-", "orgconfigrule-"].iter().find_map(|start| whole.strip_prefix(start));
    let inner = inner.unwrap_or(&whole);
    if let Some((bare, _)) = inner.split_once("-conformance-pack-") {
        names.push(bare.to_owned());
    }
    if inner.len() < whole.len() {
        names.push(inner.to_owned());
        names.extend(inner.rsplit_once('-').map(|(bare, _)| bare.to_owned()));
    }
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let entry = |rules: &[&str], guardduty: &[&str]| ControlEntry {
            title: String::new(),
            risk: Risk::Reversible,
            scope: Scope::Regional,
            resource_types: Vec::new(),
            arn_patterns: Vec::new(),
            config_rules: rules.iter().map(ToString::to_string).collect(),
            guardduty_types: guardduty.iter().map(ToString::to_string).collect(),
            frameworks: BTreeMap::new(),
            action: String::new(),
            workflow: None,
            direct: None,
            guidance: Vec::new(),
        };
        let entries = [
            ("S3.8", entry(&["s3-bucket-level-public-access-prohibited"], &["Policy:S3/BucketAnonymousAccessGranted"])),
            ("EC2.13", entry(&["restricted-ssh", "incoming-ssh-disabled"], &["Recon:EC2/*"])),
            ("KMS.4", entry(&["cmk-backing-key-rotation-enabled"], &[])),
            ("Tag.Required", entry(&["required-tags"], &[])),
        ];
        Catalogue(entries.into_iter().map(|(id, entry)| (id.parse().unwrap(), entry)).collect())
    }

    fn resolved(check: Check) -> Option<String> {
        catalogue().resolve(&check).map(|(id, _)| id.to_string())
    }

    #[test]
    fn a_config_rule_is_known_under_every_name_that_aws_gives_it() {
        for (rule, control) in [
            ("restricted-ssh", "EC2.13"),
            ("INCOMING_SSH_DISABLED", "EC2.13"),
            ("Required-Tags", "Tag.Required"),
            ("securityhub-s3-bucket-level-public-access-prohibited-1a2b3c4d", "S3.8"),
            ("securityhub-cmk-backing-key-rotation-enabled-baa2cf8c", "KMS.4"),
            ("securityhub-cmk-backing-key-rotation-enabled", "KMS.4"),
            ("OrgConfigRule-required-tags-rhfpw3xy", "Tag.Required"),
            ("required-tags-conformance-pack-abcdefgh1", "Tag.Required"),
            ("OrgConfigRule-required-tags-conformance-pack-9x8y7z6w5", "Tag.Required"),
        ] {
            assert_eq!(resolved(Check::ConfigRule(rule.to_owned())).as_deref(), Some(control), "{rule}");
        }
    }

    #[test]
    fn a_rule_that_only_resembles_a_known_one_is_not_known() {
        for rule in [
            "restricted-ssh-2",
            "my-restricted-ssh",
            "required-tags-1a2b3c4d",
            "securityhub-restricted-ssh-and-rdp-1a2b3c4d",
            "securityhub-",
            "-conformance-pack-",
            "",
        ] {
            assert_eq!(resolved(Check::ConfigRule(rule.to_owned())), None, "{rule}");
        }
    }

    #[test]
    fn a_control_is_known_by_its_id_and_a_guardduty_type_by_its_beginning() {
        assert_eq!(resolved(Check::Control("KMS.4".parse().unwrap())).as_deref(), Some("KMS.4"));
        assert_eq!(resolved(Check::Control("KMS.5".parse().unwrap())), None);
        let guardduty = |kind: &str| resolved(Check::GuardDutyType(kind.to_owned()));
        assert_eq!(guardduty("Recon:EC2/PortProbeUnprotectedPort").as_deref(), Some("EC2.13"));
        assert_eq!(guardduty("Policy:S3/BucketAnonymousAccessGranted").as_deref(), Some("S3.8"));
        assert_eq!(guardduty("Policy:S3/BucketAnonymousAccessGranted2"), None);
    }

    #[test]
    fn of_a_type_that_several_resources_have_the_resource_decides() {
        let playbook = |pattern: &str| ControlEntry {
            arn_patterns: vec![pattern.to_owned()],
            guardduty_types: vec!["Execution:Runtime/*".to_owned()],
            direct: Some(Direct { function: "f".to_owned(), native: "n".to_owned(), parameters: BTreeMap::new() }),
            ..catalogue().0.into_values().next().unwrap()
        };
        let entries = [("Contain.A", playbook("arn:*:ec2:*:*:instance/{}")), ("Contain.B", playbook("arn:*:s3:::{}"))];
        let entries = entries.into_iter().map(|(id, entry)| (id.parse().unwrap(), entry));
        let catalogue = Catalogue(catalogue().0.into_iter().chain(entries).collect());
        let on =
            |check: Check, arn: &str| catalogue.resolve_on(&check, &arn.parse().unwrap()).map(|(id, _)| id.to_string());
        let runtime = || Check::GuardDutyType("Execution:Runtime/NewBinaryExecuted".to_owned());
        let instance = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1";
        assert_eq!(on(runtime(), instance).as_deref(), Some("Contain.A"));
        assert_eq!(on(runtime(), "arn:aws:s3:::a-bucket").as_deref(), Some("Contain.B"));
        assert_eq!(on(runtime(), "arn:aws:iam::111122223333:role/r"), None);
        assert_eq!(on(Check::Containment, instance).as_deref(), Some("Contain.A"));
        assert_eq!(on(Check::Containment, "arn:aws:iam::111122223333:role/r"), None);
        assert_eq!(on(Check::Control("KMS.4".parse().unwrap()), instance).as_deref(), Some("KMS.4"));
    }
}
