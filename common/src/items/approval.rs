//! Items `approval#<id>` (a question to people, bound to one exact plan) and `task#<id>` (how the waiting workflow is told).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::aws::state_table::Subject;
use crate::contract::GuardEvidence;
use crate::ids::{AccountId, RemediationId};

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ApprovalStatus {
    /// Nobody has answered, or not enough people have.
    Pending,
    /// Enough people said yes.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The workflow failed before an answer, or what was asked for is void.
    Void,
}

impl ApprovalStatus {
    /// As the item writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Approved => "Approved",
            Self::Denied => "Denied",
            Self::Expired => "Expired",
            Self::Void => "Void",
        }
    }
}

impl fmt::Display for ApprovalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Vote {
    /// The ARN of who answered, as AWS authenticated it.
    pub by: String,
    /// Yes or no.
    pub approve: bool,
    /// When, Unix milliseconds.
    pub at: i64,
    /// Why, in their words.
    pub reason: String,
}

/// Item `approval#<RemediationId>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Approval {
    /// Counts the changes; a change is written only over the version that was read.
    pub version: u64,
    /// What would be done.
    pub remediation_id: RemediationId,
    /// Where it stands.
    pub status: ApprovalStatus,
    /// About what.
    pub subject: Subject,
    /// [`crate::contract::plan_sha256`] of the plan that is asked about. No other is ever applied.
    pub plan_sha256: String,
    /// The dry run that made the plan: its evidence holds the exact change.
    pub plan_id: RemediationId,
    /// Where that evidence lies, in the account's bucket.
    pub plan_evidence_key: String,
    /// What the guard found out.
    #[serde(default)]
    pub impact: Option<GuardEvidence>,
    /// How many different people must say yes.
    pub needed: u32,
    /// Whether who asked may answer.
    pub four_eyes: bool,
    /// The policies that asked for it.
    pub policies: Vec<String>,
    /// The answers.
    pub votes: Vec<Vote>,
    /// When it was asked, Unix milliseconds.
    pub asked_at: i64,
    /// Until when an answer counts, Unix milliseconds.
    pub expires_at_ms: i64,
    /// When the table may forget the item, Unix seconds.
    pub expires_at: i64,
}

/// Item `task#<RemediationId>`: a workflow waits for the end of this remediation's runbook (or for an answer).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// The task token. Whoever has it can answer for the task: never logged.
    pub token: String,
    /// The account of the resource.
    pub account: AccountId,
    /// When the table may forget the item, Unix seconds.
    pub expires_at: i64,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("account", &self.account).finish_non_exhaustive()
    }
}
