//! The flags of `redress report` as types. Nothing is done here.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use redress_common::finding::SeverityLabel;
use redress_common::ids::{AccountId, ControlId};

use super::figures::{Assumptions, Target};
use super::period::Period;

/// Examples of the command's help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  redress report                                          the last 30 days, as text
  redress report --month 2026-10 --html october.html      one self-contained page
  redress report --since 90d --csv report/                every table as a file
  redress report --framework \"CIS v3.0.0\" --json          evidence per requirement
  redress report --table by-control --csv -               one table on standard output
  redress report --from-file export.json                from exported records, without AWS
  redress report --demo --html demo.html                  what it looks like, from made-up data

How each figure is counted: docs/report.md, and at the end of each report.";

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// From then on: `90m`, `24h`, `30d`, or a time such as `2026-03-01T00:00:00Z`.
    #[arg(long, default_value = "30d", value_parser = crate::args::since, help_heading = "Period (UTC)")]
    pub(crate) since: Timestamp,
    /// Until then; by default now.
    #[arg(long, value_parser = crate::args::since, help_heading = "Period (UTC)")]
    pub(crate) until: Option<Timestamp>,
    /// A calendar month, such as `2026-10`.
    #[arg(long, value_parser = Period::month, conflicts_with_all = ["since", "until"], help_heading = "Period (UTC)")]
    pub(crate) month: Option<Period>,

    /// Only this account; may be given more than once. Reads no other account's records.
    #[arg(long = "account", help_heading = "Filters")]
    pub(crate) accounts: Vec<AccountId>,
    /// Only accounts of this organisational unit and all below it, as far as decisions told where an account is.
    #[arg(long, help_heading = "Filters")]
    pub(crate) ou: Option<String>,
    /// Only this control; may be given more than once.
    #[arg(long = "control", help_heading = "Filters")]
    pub(crate) controls: Vec<ControlId>,
    /// Only frameworks with this in their name, such as `cis`, `pci` or `NIST 800-53`, and only their controls; may be given more than once.
    #[arg(long = "framework", value_name = "NAME", help_heading = "Filters")]
    pub(crate) frameworks: Vec<String>,
    /// Only this severity; may be given more than once.
    #[arg(long = "severity", value_parser = severity, help_heading = "Filters")]
    pub(crate) severities: Vec<SeverityLabel>,

    /// Writes one self-contained page.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// Writes every table as a file into this folder; `-` with --table writes one to standard output.
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub(crate) csv: Option<PathBuf>,
    /// Shows this table only, whole; a wrong name lists all.
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub(crate) table: Option<String>,

    /// How soon findings of a severity are to be fixed, from when they were first seen. `CRITICAL=none` for no target.
    #[arg(long = "sla", value_name = "SEVERITY=SPAN", value_parser = target, help_heading = "Targets and assumptions")]
    pub(crate) targets: Vec<(SeverityLabel, Option<i64>)>,
    /// Minutes that a person would take to fix one finding by hand: find the owner, change it, check it, write it down.
    #[arg(long, default_value_t = 30.0, value_parser = amount, help_heading = "Targets and assumptions")]
    pub(crate) minutes_by_hand: f64,
    /// Minutes that a person takes to answer one approval.
    #[arg(long, default_value_t = 5.0, value_parser = amount, help_heading = "Targets and assumptions")]
    pub(crate) minutes_an_answer: f64,
    /// Minutes that a person takes to look into one remediation that failed.
    #[arg(long, default_value_t = 30.0, value_parser = amount, help_heading = "Targets and assumptions")]
    pub(crate) minutes_a_failure: f64,
    /// What an hour of a person costs, in US dollars.
    #[arg(long, default_value_t = 80.0, value_parser = amount, help_heading = "Targets and assumptions")]
    pub(crate) hourly_rate: f64,
    /// What AWS charges for one run of a runbook, in US dollars: docs/cost.md.
    #[arg(long, default_value_t = 0.033, value_parser = amount, help_heading = "Targets and assumptions")]
    pub(crate) cost_a_run: f64,

    /// Reads records from files instead of AWS: what `redress audit … --json` prints, one record a line, or a DynamoDB export in DynamoDB JSON; `-` is standard input.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "demo", help_heading = "Source")]
    pub(crate) from_file: Vec<PathBuf>,
    /// Reads only the period's records, and does not check whether they are those that were written.
    #[arg(long, help_heading = "Source")]
    pub(crate) no_verify: bool,
    /// Made-up data of 50 accounts and 90 days, and says so.
    #[arg(long, help_heading = "Source")]
    pub(crate) demo: bool,
}

impl Report {
    /// The targets: those that were given, and defaults for the others.
    pub(crate) fn targets(&self) -> Vec<Target> {
        const DAY: i64 = 86_400_000;
        let defaults = [
            (SeverityLabel::Critical, Some(DAY)),
            (SeverityLabel::High, Some(7 * DAY)),
            (SeverityLabel::Medium, Some(30 * DAY)),
            (SeverityLabel::Low, Some(90 * DAY)),
        ];
        let mut targets: std::collections::BTreeMap<SeverityLabel, Option<i64>> = defaults.into();
        targets.extend(self.targets.iter().copied());
        let all = targets.into_iter().rev();
        all.filter_map(|(severity, within_ms)| Some(Target { severity, within_ms: within_ms? })).collect()
    }

    /// What is assumed.
    pub(crate) const fn assumptions(&self) -> Assumptions {
        Assumptions {
            minutes_by_hand: self.minutes_by_hand,
            minutes_an_answer: self.minutes_an_answer,
            minutes_a_failure: self.minutes_a_failure,
            hourly_rate: self.hourly_rate,
            cost_a_run: self.cost_a_run,
        }
    }
}

fn severity(text: &str) -> Result<SeverityLabel, String> {
    let wanted = text.to_ascii_uppercase();
    SeverityLabel::ALL
        .into_iter()
        .find(|label| label.as_str() == wanted)
        .ok_or_else(|| format!("`{text}` is none of CRITICAL, HIGH, MEDIUM, LOW, INFORMATIONAL"))
}

/// `HIGH=7d`, `LOW=none`.
fn target(text: &str) -> Result<(SeverityLabel, Option<i64>), String> {
    let expected = || format!("`{text}` is no target such as HIGH=7d or LOW=none");
    let (label, span) = text.split_once('=').ok_or_else(expected)?;
    let label = severity(label)?;
    if span == "none" {
        return Ok((label, None));
    }
    let unit = span.chars().last().ok_or_else(expected)?;
    let number: i64 = span[..span.len() - unit.len_utf8()].parse().map_err(|_| expected())?;
    let unit = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(expected()),
    };
    let span = number.checked_mul(unit).filter(|span| *span > 0).ok_or_else(expected)?;
    Ok((label, Some(span)))
}

/// A number of minutes or dollars.
fn amount(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|number| number.is_finite() && (0.0..=1e9).contains(number))
        .ok_or_else(|| format!("`{text}` is no number from 0 to 1,000,000,000"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_severity_and_a_span() {
        assert_eq!(target("high=7d").unwrap(), (SeverityLabel::High, Some(604_800_000)));
        assert_eq!(target("LOW=none").unwrap(), (SeverityLabel::Low, None));
        for wrong in
            ["HIGH", "HIGH=", "HIGH=7", "HIGH=-7d", "HIGH=0d", "SEVERE=7d", "HIGH=7\u{e9}", "HIGH=99999999999999d"]
        {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_amount_is_finite_and_not_negative() {
        assert!(amount("12.5").is_ok());
        for wrong in ["NaN", "inf", "-1", "1e99", ""] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }
}
