//! What the orchestrator knows of each control: generated from the control files, stored as data.
//!
//! The catalogue lies in the state table, so that a new control needs no new Lambda.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
                let name = bare_rule_name(name);
                self.0.iter().find(|(_, entry)| entry.config_rules.iter().any(|rule| *rule == name))
            }
            Check::GuardDutyType(given) => self.0.iter().find(|(_, entry)| {
                entry.guardduty_types.iter().any(|known| match known.strip_suffix('*') {
                    Some(start) => given.starts_with(start),
                    None => known == given,
                })
            }),
        }
    }
}

/// A Config rule's name without what Security Hub, organisations and conformance packs put around it.
fn bare_rule_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    if let Some((bare, _)) = lower.split_once("-conformance-pack-") {
        return bare.to_owned();
    }
    for prefix in ["securityhub-", "orgconfigrule-"] {
        if let Some(rest) = lower.strip_prefix(prefix) {
            return match rest.rsplit_once('-') {
                Some((bare, hash)) if hash.len() >= 6 && hash.bytes().all(|b| b.is_ascii_alphanumeric()) => bare.to_owned(),
                _ => rest.to_owned(),
            };
        }
    }
    lower
}
