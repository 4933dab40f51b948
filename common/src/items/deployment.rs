//! Item `deployment`: which waves of a rollout have passed their health gate, and with what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Item `deployment`, written by `redress deploy`. When it is lost, each wave is looked at once more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Deployment {
    /// The release that was applied last, to its end.
    pub release: String,
    /// The digest of everything that was deployed when a wave passed, and of the accounts in it, by the wave's name.
    pub passed: BTreeMap<String, String>,
}
