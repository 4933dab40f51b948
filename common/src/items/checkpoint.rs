//! Item `checkpoint`: which checkpoint of the ledger is the newest, by which the next one is chained.

use serde::{Deserialize, Serialize};

/// Item `checkpoint`. When it is lost, the function that signs finds the newest one in the bucket again, which is what
/// counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Newest {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its statement's canonical form, hexadecimal.
    pub sha256: String,
    /// When it was made, Unix milliseconds: with the number, where it lies.
    pub at: i64,
    /// The number once more, as what a write is conditioned on.
    pub version: u64,
}
