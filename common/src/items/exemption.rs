//! Item `exemptions`: what rules and people may not touch, who answers for that, why, and until when.
//!
//! They lie apart from the resources: whoever can tag a resource cannot exempt it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arn::Arn;
use crate::ids::{AccountId, ControlId};

/// One exemption. What is `None` is not narrowed; at least one is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Exemption {
    /// A short name, unique: `legacy-website`.
    pub id: String,
    /// Only this control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlId>,
    /// Only this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Only this organisational unit and all below it, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ou: Option<String>,
    /// Only this resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Arn>,
    /// Who answers for it: a person or team, in their words.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends. None lasts for ever.
    pub expires_at: Timestamp,
    /// The ARN of who granted it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// Item `exemptions`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Exemptions {
    /// Counts the changes.
    pub version: u64,
    /// All that were not taken back; those that ended some time ago are dropped at the next change.
    pub exemptions: Vec<Exemption>,
}

impl Exemptions {
    /// One item holds no more; what needs more is a policy.
    pub const MAX: usize = 500;
    /// No exemption lasts longer, in days.
    pub const MAX_DAYS: i64 = 366;
}
