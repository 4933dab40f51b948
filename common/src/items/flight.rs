//! Item `flight#<account>#<region>`: the remediations that run in one place, so that SSM's limit is never met.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, RemediationId};

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
    /// For what runs, the newest state of its resource of which the backlog holds a finding: the same again, or an older
    /// one, has nothing to add.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub later: BTreeMap<RemediationId, Generation>,
}

impl Flight {
    /// How many run.
    #[must_use]
    pub fn running_at(&self, now_ms: i64) -> usize {
        self.running.values().filter(|until| **until > now_ms).count()
    }

    /// How many more may be started, of so many at a time.
    #[must_use]
    pub fn free(&self, limit: u32, now_ms: i64) -> usize {
        usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(self.running_at(now_ms))
    }

    /// With one more, and without those whose time is over.
    #[must_use]
    pub fn with(&self, id: RemediationId, until_ms: i64, now_ms: i64) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.running.insert(id, until_ms);
        next.landed(now_ms)
    }

    /// With one less.
    #[must_use]
    pub fn without(&self, id: RemediationId, now_ms: i64) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.running.remove(&id);
        next.landed(now_ms)
    }

    /// With a mark that the backlog holds something of this place, or holds nothing any more.
    #[must_use]
    pub fn marked(&self, waiting: bool) -> Self {
        Self { version: self.version + 1, waiting, ..self.clone() }
    }

    /// With a mark that the backlog holds a finding of the resource that `running` works on, of this state of it.
    #[must_use]
    pub fn followed(&self, running: RemediationId, by: Generation) -> Self {
        let mut next = self.marked(true);
        if next.running.contains_key(&running) {
            let known = next.later.entry(running).or_insert(by);
            *known = by.max(*known);
        }
        next
    }

    /// Without those whose time is over.
    #[must_use]
    pub fn landed(mut self, now_ms: i64) -> Self {
        self.running.retain(|_, until| *until > now_ms);
        self.later.retain(|running, _| self.running.contains_key(running));
        self
    }
}
