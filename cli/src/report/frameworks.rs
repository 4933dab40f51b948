//! What the period has to show for each requirement of each framework: requirement → controls → remediations, open
//! failures and exemptions. The mapping is the catalogue's; what it does not map is not guessed.

use std::collections::{BTreeMap, BTreeSet};

use redress_common::catalogue::Catalogue;
use redress_common::finding::SeverityLabel;
use redress_common::ids::ControlId;
use redress_common::time;
use serde::Serialize;

use super::figures::{Ended, Pair, Standing, pairs};
use super::fold::{Case, Kind};
use super::period::Period;

/// Frameworks that people ask for, and what their names in the catalogue begin with.
const ASKED_FOR: [(&str, &str); 5] = [
    ("CIS AWS Foundations Benchmark", "CIS"),
    ("PCI DSS", "PCI DSS"),
    ("NIST 800-53", "NIST 800-53"),
    ("SOC 2", "SOC 2"),
    ("HIPAA", "HIPAA"),
];

/// One thing that shows what was done, or was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Item {
    pub(crate) control: String,
    /// `Fixed`, `Undone`, …: what it shows.
    pub(crate) shows: Shows,
    pub(crate) severity: SeverityLabel,
    /// When it ended; of what is open, when its finding was first seen.
    pub(crate) at: String,
    pub(crate) account_id: String,
    pub(crate) region: String,
    pub(crate) resource: String,
    pub(crate) remediation_id: String,
    pub(crate) evidence_bucket: String,
    pub(crate) evidence_key: String,
    /// The undo, the exemption, or why it came to this.
    pub(crate) note: String,
}

/// What an item shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Shows {
    /// It is open at the end of the period.
    Open,
    /// An exemption holds.
    Exempt,
    /// A person wanted it to stay, or back.
    Declined,
    /// It was tried, and did not work; what stands now may be another item.
    Failed,
    /// It was fixed, and put back later.
    Undone,
    /// It was fixed.
    Fixed,
    /// It was found as it should be.
    Compliant,
}

impl Shows {
    /// For people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Exempt => "exempt",
            Self::Declined => "declined",
            Self::Failed => "failed",
            Self::Undone => "fixed, then undone",
            Self::Fixed => "fixed",
            Self::Compliant => "already compliant",
        }
    }
}

/// What a control has to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shown {
    pub(crate) title: String,
    pub(crate) fixed: u64,
    pub(crate) failed: u64,
    pub(crate) open: u64,
    pub(crate) declined: u64,
    pub(crate) exempt: u64,
    /// What is open first, then what was done, the newest first.
    pub(crate) items: Vec<Item>,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Requirement {
    pub(crate) requirement: String,
    /// The controls that the catalogue maps to it.
    pub(crate) controls: Vec<ControlId>,
    pub(crate) fixed: u64,
    pub(crate) failed: u64,
    pub(crate) open: u64,
    pub(crate) declined: u64,
    pub(crate) exempt: u64,
}

impl Requirement {
    /// What the ledger has to say of it. It never says compliant: Redress sees failures, not passes.
    pub(crate) const fn says(&self) -> &'static str {
        match (self.open, self.declined + self.exempt, self.fixed + self.failed) {
            (1.., _, _) => "open failures",
            (0, 1.., _) => "accepted by people",
            (0, 0, 1..) => "nothing open",
            (0, 0, 0) => "no finding",
        }
    }
}

/// One framework.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Framework {
    pub(crate) name: String,
    pub(crate) requirements: Vec<Requirement>,
}

/// What the catalogue's frameworks have to show, and what each control has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Evidence {
    pub(crate) frameworks: Vec<Framework>,
    /// Frameworks that people ask for and that the catalogue maps no control to.
    pub(crate) not_mapped: Vec<&'static str>,
    /// Only controls that have something to show.
    pub(crate) controls: BTreeMap<ControlId, Shown>,
}

/// Whether a framework is meant by one of these, of which none means all: `cis`, `CIS v3.0.0`, `pci`.
pub(crate) fn is_meant(framework: &str, wanted: &[String]) -> bool {
    let plain = |text: &str| text.to_lowercase().replace([' ', '-', '_'], "");
    wanted.is_empty() || wanted.iter().any(|wanted| plain(framework).contains(&plain(wanted)))
}

/// The controls of the frameworks that are meant.
pub(crate) fn controls_of(catalogue: &Catalogue, wanted: &[String]) -> BTreeSet<ControlId> {
    let entries = catalogue.0.iter();
    let meant = entries.filter(|(_, entry)| entry.frameworks.keys().any(|name| is_meant(name, wanted)));
    meant.map(|(id, _)| id.clone()).collect()
}

/// The evidence of a period.
pub(crate) fn evidence(cases: &[Case], period: &Period, catalogue: &Catalogue, wanted: &[String]) -> Evidence {
    let mut controls: BTreeMap<ControlId, Shown> = BTreeMap::new();
    let items = pairs(cases, period).into_iter().filter_map(|pair| standing(&pair));
    for item in items.chain(cases.iter().filter_map(|case| done(case, period))) {
        let Ok(control) = item.control.parse::<ControlId>() else { continue };
        let shown = controls.entry(control).or_default();
        match item.shows {
            Shows::Open => shown.open += 1,
            Shows::Exempt => shown.exempt += 1,
            Shows::Declined => shown.declined += 1,
            Shows::Failed => shown.failed += 1,
            Shows::Undone | Shows::Fixed => shown.fixed += 1,
            Shows::Compliant => {}
        }
        shown.items.push(item);
    }
    for (control, shown) in &mut controls {
        shown.title = catalogue.0.get(control).map(|entry| entry.title.clone()).unwrap_or_default();
        let told = |item: &Item| !matches!(item.shows, Shows::Open | Shows::Exempt | Shows::Declined);
        shown.items.sort_by(|a, b| {
            let rank = |item: &Item| if told(item) { 3 } else { item.shows as u8 };
            rank(a).cmp(&rank(b)).then_with(|| b.at.cmp(&a.at)).then_with(|| a.remediation_id.cmp(&b.remediation_id))
        });
    }
    let frameworks = frameworks(catalogue, wanted, &controls);
    let names: BTreeSet<&str> =
        catalogue.0.values().flat_map(|entry| entry.frameworks.keys()).map(String::as_str).collect();
    let not_mapped = ASKED_FOR.into_iter().filter(|(_, start)| !names.iter().any(|name| name.starts_with(start)));
    Evidence { frameworks, not_mapped: not_mapped.map(|(name, _)| name).collect(), controls }
}

fn frameworks(catalogue: &Catalogue, wanted: &[String], shown: &BTreeMap<ControlId, Shown>) -> Vec<Framework> {
    let mut mapped: BTreeMap<&str, BTreeMap<&str, Vec<ControlId>>> = BTreeMap::new();
    for (control, entry) in &catalogue.0 {
        for (name, requirements) in entry.frameworks.iter().filter(|(name, _)| is_meant(name, wanted)) {
            for requirement in requirements {
                mapped.entry(name).or_default().entry(requirement).or_default().push(control.clone());
            }
        }
    }
    let framework = |(name, requirements): (&str, BTreeMap<&str, Vec<ControlId>>)| {
        let mut requirements: Vec<Requirement> = requirements
            .into_iter()
            .map(|(requirement, controls)| {
                let sum = |count: fn(&Shown) -> u64| controls.iter().filter_map(|id| shown.get(id)).map(count).sum();
                Requirement {
                    requirement: requirement.to_owned(),
                    fixed: sum(|shown| shown.fixed),
                    failed: sum(|shown| shown.failed),
                    open: sum(|shown| shown.open),
                    declined: sum(|shown| shown.declined),
                    exempt: sum(|shown| shown.exempt),
                    controls,
                }
            })
            .collect();
        requirements.sort_by_cached_key(|requirement| in_order(&requirement.requirement));
        Framework { name: name.to_owned(), requirements }
    };
    mapped.into_iter().map(framework).collect()
}

/// Text with its numbers as numbers: `2.10` comes after `2.9`.
fn in_order(text: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let (mut word, mut number) = (String::new(), String::new());
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            number.push(letter);
        } else {
            if !number.is_empty() {
                parts.push((std::mem::take(&mut word), std::mem::take(&mut number).parse().unwrap_or(u64::MAX)));
            }
            word.push(letter);
        }
    }
    parts.push((word, number.parse().unwrap_or_default()));
    parts
}

/// What is not settled.
fn standing(pair: &Pair<'_>) -> Option<Item> {
    let case = pair.case;
    let shows = match pair.standing {
        Standing::Settled | Standing::Ignored => return None,
        Standing::Exempt => Shows::Exempt,
        Standing::Declined => Shows::Declined,
        _ => Shows::Open,
    };
    let note = match shows {
        Shows::Declined if case.undone.is_some() => format!("undone by {}", case.undone_by),
        Shows::Exempt => format!("{}: {}", case.exemptions.join(", "), case.reason),
        _ if case.reason.is_empty() => pair.standing.words().to_owned(),
        _ => format!("{}: {}", pair.standing.words(), case.reason),
    };
    Some(item(case, shows, case.seen, note))
}

/// What was done, or tried, in the period.
fn done(case: &Case, period: &Period) -> Option<Item> {
    let (at, _) = case.end().filter(|(at, _)| case.kind == Kind::Fix && period.has(*at))?;
    let (shows, note) = match Ended::of(case)? {
        Ended::Fixed if case.undone.is_some() => (Shows::Undone, format!("undone by {}", case.undone_by)),
        Ended::Fixed => (Shows::Fixed, String::new()),
        Ended::AlreadyCompliant => (Shows::Compliant, String::new()),
        Ended::Failed | Ended::Unverified => (Shows::Failed, case.reason.clone()),
        _ => return None,
    };
    Some(item(case, shows, at, note))
}

fn item(case: &Case, shows: Shows, at: i64, note: String) -> Item {
    let (evidence_bucket, evidence_key) = case.evidence.clone().unwrap_or_default();
    Item {
        control: case.control.as_ref().map(ToString::to_string).unwrap_or_default(),
        shows,
        severity: case.severity,
        at: time::seconds_of(at),
        account_id: case.account.to_string(),
        region: case.region.clone(),
        resource: case.resource.clone(),
        remediation_id: case.id.to_string(),
        evidence_bucket,
        evidence_key,
        note,
    }
}
