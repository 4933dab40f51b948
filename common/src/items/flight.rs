//! Item `flight#<account>#<region>`: the remediations that run in one place, so that SSM's limit is never met.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::RemediationId;

/// What runs in an account and Region.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Flight {
    /// Counts the changes; a change is written only over the version that was read.
    pub version: u64,
    /// What runs, and until when it is believed to, Unix milliseconds.
    pub running: BTreeMap<RemediationId, i64>,
    /// Whether the backlog may hold something of this place.
    pub waiting: bool,
}

impl Flight {
    /// How many run.
    #[must_use]
    pub fn running_at(&self, now_ms: i64) -> usize {
        self.running.values().filter(|until| **until > now_ms).count()
    }

    /// With one more, and without those whose time is over.
    #[must_use]
    pub fn with(&self, id: RemediationId, until_ms: i64, now_ms: i64) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.running.retain(|_, until| *until > now_ms);
        next.running.insert(id, until_ms);
        next
    }

    /// With one less.
    #[must_use]
    pub fn without(&self, id: RemediationId, now_ms: i64) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.running.retain(|running, until| *running != id && *until > now_ms);
        next
    }

    /// With a mark that the backlog holds something of this place, or holds nothing any more.
    #[must_use]
    pub fn marked(&self, waiting: bool) -> Self {
        Self { version: self.version + 1, waiting, ..self.clone() }
    }
}
