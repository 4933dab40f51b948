//! Items `policy` (the operators' own Cedar set that is in force) and `policy#<version>` (each that ever was).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A Cedar policy set of the operators' own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyItem {
    /// Counts the sets, from 1.
    pub version: u64,
    /// The Cedar text.
    pub source: String,
    /// SHA-256 of the text, hexadecimal.
    pub sha256: String,
    /// The ARN of who set it.
    pub set_by: String,
    /// When.
    pub set_at: Timestamp,
    /// Why.
    pub reason: String,
}

/// No set is longer, in bytes: an item has room for 400 KB, and an hour's reading is enough.
pub const MAX_SOURCE: usize = 256 * 1024;
