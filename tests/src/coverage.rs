//! How much of the catalogue is proven, and how: by framework, as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use redress_common::catalogue::Catalogue;
use redress_common::ids::ControlId;
use redress_lab::case::Case;

/// The controls that `controls.rs` proves by its own table.
pub const BY_CONTROLS: [&str; 13] = [
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
/// The controls that `workflow.rs` and `workflow_rds.rs` prove, because they go through the state machine.
const BY_APPROVALS: [&str; 3] = ["EC2.3", "RDS.3", "RDS.4"];
/// The controls that `contain/destroyed.rs` proves: what they destroy must be contained first.
const BY_CONTAIN: [&str; 2] = ["Destroy.EC2Instance", "Destroy.IAMUserKeys"];

fn catalogue(root: &Path) -> Catalogue {
    let text = std::fs::read_to_string(root.join("ssm-documents/catalogue.json")).unwrap_or_default();
    let mut catalogue: Catalogue = serde_json::from_str(&text).unwrap_or_default();
    // Playbooks are proven by `contain/`.
    catalogue.0.retain(|_, entry| entry.direct.is_none());
    catalogue
}

/// The controls that only a person can carry out, each with the ARN of a resource; `ACCOUNT` in it stands for the
/// account.
#[must_use]
pub fn guidance(root: &Path) -> Vec<(String, String)> {
    let of_person = catalogue(root).0.into_iter().filter(|(_, entry)| !entry.guidance.is_empty());
    let arn = |patterns: &[String]| {
        let pattern = patterns.first().map(String::as_str).unwrap_or_default();
        let parts: Vec<&str> = pattern.splitn(6, ':').collect();
        let [_, _, service, region, account, resource] = parts.as_slice() else { return String::new() };
        let region = if *region == "*" { "us-east-1" } else { region };
        let account = if *account == "*" { "ACCOUNT" } else { account };
        let resource = resource.replace("{path}", "sample").replace("{}", "sample");
        format!("arn:aws:{service}:{region}:{account}:{resource}")
    };
    of_person.map(|(id, entry)| (id.to_string(), arn(&entry.arn_patterns))).collect()
}

/// The controls that the lab has seen go bad, fixed and undone.
fn proven(cases: &BTreeMap<String, Case>) -> BTreeSet<String> {
    let elsewhere = BY_CONTROLS.into_iter().chain(BY_APPROVALS).chain(BY_CONTAIN).map(str::to_owned);
    cases.values().map(|case| case.control.to_string()).chain(elsewhere).collect()
}

/// The controls that are neither proven nor guidance, nor named in `docs/emulator-gaps.md` as what cannot be proven in the
/// lab: none, if the documentation tells the truth.
#[must_use]
pub fn unaccounted(root: &Path, cases: &BTreeMap<String, Case>) -> Vec<String> {
    let gaps = std::fs::read_to_string(root.join("docs/emulator-gaps.md")).unwrap_or_default();
    let (_, gaps) = gaps.split_once("## Not proven in the lab").unwrap_or_default();
    let (gaps, _) = gaps.split_once("\n## ").unwrap_or((gaps, ""));
    let proven = proven(cases);
    // The first cell of a row: one control, or several with commas.
    let named: BTreeSet<&str> = gaps
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|cell| cell.split(", "))
        .collect();
    let known = |id: &ControlId| proven.contains(id.as_str()) || named.contains(id.as_str());
    let open = catalogue(root).0.into_iter().filter(|(id, entry)| entry.guidance.is_empty() && !known(id));
    open.map(|(id, _)| id.to_string()).collect()
}

/// The table of a repository's catalogue: a row a framework; how many of its controls are proven in the lab, how many
/// are a person's to carry out, how many are tested on recorded shapes only.
#[must_use]
pub fn table(root: &Path, cases: &BTreeMap<String, Case>) -> String {
    let catalogue = catalogue(root);
    let proven = proven(cases);
    let is_proven = |id: &&ControlId| proven.contains(id.as_str());
    let mut frameworks: BTreeMap<&str, Vec<&ControlId>> = BTreeMap::new();
    for (id, entry) in &catalogue.0 {
        for framework in entry.frameworks.keys() {
            frameworks.entry(framework).or_default().push(id);
        }
    }
    let is_guidance = |id: &&ControlId| catalogue.0.get(*id).is_some_and(|entry| !entry.guidance.is_empty());
    let mut text = format!(
        "\n{:<20} {:>9} {:>18} {:>9} {:>11}\n",
        "framework", "controls", "proven in the lab", "guidance", "recorded"
    );
    let mut row = |name: &str, controls: &[&ControlId]| {
        let sure = controls.iter().copied().filter(is_proven).count();
        let told = controls.iter().copied().filter(is_guidance).count();
        let other = controls.len() - sure - told;
        let _ = writeln!(text, "{name:<20} {:>9} {sure:>18} {told:>9} {other:>11}", controls.len());
    };
    for (framework, controls) in &frameworks {
        row(framework, controls);
    }
    row("all controls", &catalogue.0.keys().collect::<Vec<_>>());
    text
}
