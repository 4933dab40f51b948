//! How much of the catalogue is proven, and how: by framework, as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use redress_common::catalogue::Catalogue;
use redress_common::ids::ControlId;
use redress_lab::case::Case;

/// The controls that `controls.rs` proves by its own table.
pub const ELSEWHERE: [&str; 13] = [
    "EC2.13",
    "EC2.7",
    "IAM.7",
    "IAM.11",
    "IAM.12",
    "IAM.13",
    "IAM.14",
    "IAM.15",
    "IAM.16",
    "IAM.17",
    "KMS.4",
    "S3.8",
    "Tag.Required",
];

/// The table of a repository's catalogue: a row a framework; how many of its controls are proven in the lab, how many
/// are not.
#[must_use]
pub fn table(root: &Path, cases: &BTreeMap<String, Case>) -> String {
    let catalogue = std::fs::read_to_string(root.join("ssm-documents/catalogue.json")).unwrap_or_default();
    let catalogue: Catalogue = serde_json::from_str(&catalogue).unwrap_or_default();
    let proven: BTreeSet<String> =
        cases.values().map(|case| case.control.to_string()).chain(ELSEWHERE.map(str::to_owned)).collect();
    let is_proven = |id: &&ControlId| proven.contains(id.as_str());
    let mut frameworks: BTreeMap<&str, Vec<&ControlId>> = BTreeMap::new();
    for (id, entry) in &catalogue.0 {
        for framework in entry.frameworks.keys() {
            frameworks.entry(framework).or_default().push(id);
        }
    }
    let mut text = format!("\n{:<28} {:>8} {:>8} {:>8}\n", "framework", "controls", "proven", "other");
    let mut row = |name: &str, controls: &[&ControlId]| {
        let sure = controls.iter().copied().filter(is_proven).count();
        let other = controls.len() - sure;
        let _ = writeln!(text, "{name:<28} {:>8} {sure:>8} {other:>8}", controls.len());
    };
    for (framework, controls) in &frameworks {
        row(framework, controls);
    }
    row("all controls", &catalogue.0.keys().collect::<Vec<_>>());
    text
}
