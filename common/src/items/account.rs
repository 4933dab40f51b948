//! Item `account#<id>`: what AWS Organizations says of a member account.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::AccountId;

/// What Organizations said of an account, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccountFacts {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// The ids of the root and of every organisational unit down to the account's own, in this order.
    pub ou_path: Vec<String>,
    /// Its tags. Who may write them is the management account's business, not the account's own people's.
    pub tags: BTreeMap<String, String>,
    /// When this was read, Unix milliseconds.
    pub read_at: i64,
}

/// Facts older than this are read anew before anything is decided by them.
pub const MAX_AGE_MS: i64 = 24 * 60 * 60 * 1000;

impl AccountFacts {
    /// Whether they are young enough to decide by.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        (now.as_millisecond() - self.read_at).abs() < MAX_AGE_MS
    }
}
