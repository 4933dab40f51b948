//! The message that people get on the SNS topic. It never carries a pre-image, a parameter or a secret.

use serde::{Deserialize, Serialize};

use crate::state::State;

/// What a message says of a remediation in this state.
#[must_use]
pub fn status_of(state: State) -> String {
    if state == State::Verified { "Success".to_owned() } else { state.to_string() }
}

/// The SNS message, in the seed's format. Written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Notification {
    /// The remediation.
    pub remediation_id: String,
    /// `Success`, or the remediation's state ([`crate::state::State`]) when it is anything else.
    pub status: String,
    /// The account.
    pub account: String,
    /// The resource's ARN.
    pub resource: String,
    /// What was (or would be) done: `Block public access`.
    pub action: String,
    /// When, RFC 3339.
    pub executed_at: String,
    /// The finding's title.
    pub finding: String,
    /// What people should do, when there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// Of an incident: what is known besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triage: Option<Triage>,
    /// It is about a sample finding of GuardDuty's: somebody tries the way, and nothing happened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
}

/// What is known of an incident besides what was reported: what else the ledger holds of the same resource and principal in
/// the last 24 hours, and who can reach the resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Triage {
    /// The case: the first remediation of it in that time.
    pub case_id: String,
    /// How many other findings there are.
    pub related: usize,
    /// The types, or else the titles, of those, each once; not all when there are many.
    pub types: Vec<String>,
    /// The resources of those that are not contained now; not all when there are many.
    pub uncontained: Vec<String>,
    /// What lets anybody outside reach the resource; see [`crate::contract::GuardEvidence::exposure`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Vec<String>>,
    /// Whose it is, as a tag says that whoever may tag it can write, and what manages it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The entries of the threat list that the resource or the other side match; not all when there are many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threats: Vec<String>,
    /// Set when not all could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}
