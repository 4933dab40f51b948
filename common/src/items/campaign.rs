//! Item `campaign#<name>`: the old findings of a control, remediated at a pace that people chose.
//!
//! The findings themselves wait in the backlog table, under the campaign's place.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, ControlId};

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CampaignStatus {
    /// Planned; nothing is done.
    Planned,
    /// Findings are released at its pace.
    Running,
    /// Nothing is released until it is started again.
    Paused,
    /// Every finding was released.
    Done,
}

/// Item `campaign#<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Campaign {
    /// Counts the changes; a change is written only over the version that was read.
    pub version: u64,
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// Where it stands.
    pub status: CampaignStatus,
    /// The control.
    pub control: ControlId,
    /// Only these accounts; empty for all.
    pub accounts: Vec<AccountId>,
    /// At most so many findings an hour.
    pub per_hour: u32,
    /// How many findings it has.
    pub planned: u32,
    /// How many were released.
    pub released: u32,
    /// When findings were released last, Unix milliseconds.
    pub released_at: i64,
    /// Who planned it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Why it stands where it stands.
    pub reason: String,
}
