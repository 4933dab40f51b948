//! Items `breaker#<scope>` (whether work of a scope is stopped) and `count#<scope>#<hour>` (what it did in that hour).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, ControlId, RemediationId};

/// What a breaker, or a count, is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BreakerScope {
    /// Everything.
    Organisation,
    /// One account.
    Account(AccountId),
    /// One control, everywhere.
    Control(ControlId),
}

impl fmt::Display for BreakerScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organisation => f.write_str("organisation"),
            Self::Account(account) => write!(f, "account:{account}"),
            Self::Control(control) => write!(f, "control:{control}"),
        }
    }
}

/// Item `breaker#<scope>`. Absent is closed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Breaker {
    /// Counts the changes; a change is written only over the version that was read.
    pub version: u64,
    /// Since when it is open, Unix milliseconds; `None` when it is closed.
    pub opened_at: Option<i64>,
    /// Why it opened.
    pub reason: String,
    /// When it lets one probe through, Unix milliseconds.
    pub probe_at: i64,
    /// The probe that is under way.
    pub probe: Option<RemediationId>,
    /// Failures before this, Unix milliseconds, do not count any more: it was closed since.
    pub forgiven_until: i64,
}

/// Item `count#<scope>#<hour>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Count {
    /// Remediations that rules started.
    pub starts: u32,
    /// Remediations that ended.
    pub ends: u32,
    /// Those of them that failed or could not be verified.
    pub failures: u32,
}

/// The hour of a count: hours since 1970.
#[must_use]
pub const fn hour(now_ms: i64) -> i64 {
    now_ms.div_euclid(3_600_000)
}
