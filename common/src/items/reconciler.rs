//! Item `reconciler`: how far the reconciler has looked, so that each run goes on where the last one stopped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Item `reconciler`. When it is lost, the reconciler looks at everything within its window again, which changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Progress {
    /// Counts the writes. Of two runs that meet, the one that wrote last goes on.
    pub version: u64,
    /// When the run that wrote it began, Unix milliseconds: with the version, which run that was.
    pub run_at: i64,
    /// Security Hub's findings that were updated before this, Unix milliseconds, have been looked at.
    pub findings_until: i64,
    /// Results of Config rules that were recorded before this, Unix milliseconds, have been looked at.
    pub results_until: i64,
    /// Where in the list of failing rules the last run stopped; empty when it came to its end.
    pub rules_from: String,
    /// What operators' items were when they were looked at last: SHA-256 by key.
    pub known: BTreeMap<String, String>,
    /// When they were looked at last, Unix milliseconds.
    pub watched_at: i64,
    /// From which end of a lease on claims are looked at next, Unix milliseconds; 0 when the last run came to their end.
    pub work_from: i64,
    /// The same of claims about which people are asked.
    pub asked_from: i64,
    /// Until when results lie that this walk through the list of failing rules looks for, Unix milliseconds; 0 between two.
    pub walk_until: i64,
    /// The rule of that list in which the last run stopped: account, Region and name, separated by `/`; empty for the first.
    pub rule: String,
    /// Where among its resources; empty for the first.
    pub resources_from: String,
    /// The part that is being done, or in which the last run died; empty when that came to its end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub begun: String,
}
