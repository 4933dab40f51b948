//! `redress report`: what the ledger says of a period, in figures, with the evidence behind them.
//!
//! Reads and writes nothing of AWS but the ledger, which it only reads. What it counts, and how, is in `docs/report.md`.

mod chain;
mod chart;
mod csv;
mod definitions;
mod demo;
mod figures;
mod fold;
mod frameworks;
mod html;
mod markup;
pub(crate) mod options;
mod period;
mod source;
mod table;

use std::collections::BTreeSet;
use std::path::Path;

use jiff::{Timestamp, ToSpan as _};
use redress_common::catalogue::Catalogue;
use redress_common::ids::ControlId;
use redress_common::ledger::Record;
use redress_common::time;
use serde::Serialize;
use serde_json::json;

use self::chain::{Chains, Verdict, Verification};
use self::figures::{Figures, Target};
use self::fold::{Case, Facts, Fold};
use self::frameworks::Evidence;
use self::options::Report;
use self::period::Period;
use self::source::Progress;
use self::table::{Table, tables};
use crate::args::Global;
use crate::aws::Connection;
use crate::controls;
use crate::ledger::Ledger;
use crate::output::{Answer, Output, Style, Tone};
use crate::problem::{Exit, Problem};

/// What began before the period may end in it, and what was fixed before may have to be fixed again: so much earlier
/// records are read, too.
const BEFORE_DAYS: i64 = 30;

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Content {
    period: Period,
    filters: Vec<String>,
    verification: Verification,
    figures: Figures,
    #[serde(serialize_with = "targets_as_seconds")]
    targets: Vec<Target>,
    evidence: Evidence,
    notes: Vec<String>,
    made: Timestamp,
}

fn targets_as_seconds<S: serde::Serializer>(targets: &[Target], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(targets.iter().map(|target| (target.severity.as_str(), target.within_ms / 1000)))
}

pub(crate) async fn run(asked: Report, global: &Global, output: Output) -> Result<Answer, Problem> {
    let now = Timestamp::now();
    let period = period_of(&asked, now)?;
    let catalogue = controls::catalogue()?;
    let controls = controls_of(&asked, &catalogue)?;
    let (facts, verification) = read(&asked, &period, global, output).await?;
    let content = content(&asked, period, controls.as_ref(), facts, verification, &catalogue, now)?;
    answer(&asked, &content, output.style())
}

/// The period that is asked for; what has not happened yet is not in it.
fn period_of(asked: &Report, now: Timestamp) -> Result<Period, Problem> {
    let no_period = || {
        Problem::failed("the period ends before it begins, or has not begun")
            .help("--since must be before --until, and before now")
    };
    let is_default = asked.month.is_none() && asked.until.is_none();
    if let Some(whole) = demo::period().filter(|_| asked.demo) {
        return match asked.month {
            Some(month) => {
                Period::new(month.from().max(whole.from()), month.until().min(whole.until())).ok_or_else(no_period)
            }
            None if is_default => Ok(whole),
            None => Period::new(asked.since.max(whole.from()), whole.until()).ok_or_else(no_period),
        };
    }
    let period = asked.month.or_else(|| Period::new(asked.since, asked.until.unwrap_or(now)));
    period.and_then(|period| period.until_at_most(now)).ok_or_else(no_period)
}

/// The controls that the report is limited to, when it is.
fn controls_of(asked: &Report, catalogue: &Catalogue) -> Result<Option<BTreeSet<ControlId>>, Problem> {
    let mut only: Option<BTreeSet<ControlId>> = None;
    if !asked.frameworks.is_empty() {
        let of = frameworks::controls_of(catalogue, &asked.frameworks);
        if of.is_empty() {
            let known: BTreeSet<&str> =
                catalogue.0.values().flat_map(|entry| entry.frameworks.keys()).map(String::as_str).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let problem =
                Problem::not_found(format!("the catalogue maps no control to `{}`", asked.frameworks.join(", ")));
            return Err(problem.help(format!("it knows {known}")));
        }
        only = Some(of);
    }
    if !asked.controls.is_empty() {
        let given: BTreeSet<ControlId> = asked.controls.iter().cloned().collect();
        only = Some(only.map_or_else(|| given.clone(), |of| of.intersection(&given).cloned().collect()));
    }
    Ok(only)
}

/// What the records say, and whether they are those that were written.
async fn read(
    asked: &Report,
    period: &Period,
    global: &Global,
    output: Output,
) -> Result<(Facts, Verification), Problem> {
    let from = period.from().checked_sub((BEFORE_DAYS * 24).hours()).unwrap_or(Timestamp::UNIX_EPOCH).as_millisecond();
    let until = period.until().as_millisecond();
    let mut reading = Reading {
        fold: Fold::default(),
        chains: (!asked.no_verify && !asked.demo).then(Chains::default),
        newest: None,
        range: (from, until),
        accounts: asked.accounts.iter().map(ToString::to_string).collect(),
        progress: Progress::new(output),
    };
    if asked.demo {
        demo::ledger(|record| reading.add(record));
        let (facts, verification) = reading.end(&std::collections::BTreeMap::new());
        return Ok((facts, Verification { verdict: Verdict::MadeUp, ..verification }));
    }
    if !asked.from_file.is_empty() {
        for path in &asked.from_file {
            source::file(path, &mut |record| reading.add(&record))?;
        }
        return Ok(reading.end(&std::collections::BTreeMap::new()));
    }
    let begun = Timestamp::now();
    let ledger = Ledger::new(&Connection::new(global).await?);
    let since = asked.no_verify.then_some(from);
    if asked.accounts.is_empty() {
        ledger.each(None, since, &mut |record| reading.add(&record)).await?;
    }
    for account in &asked.accounts {
        ledger.each(Some(account), since, &mut |record| reading.add(&record)).await?;
    }
    let heads = match &mut reading.chains {
        Some(chains) => source::heads(&ledger, chains, begun).await?,
        None => std::collections::BTreeMap::new(),
    };
    Ok(reading.end(&heads))
}

/// Records on their way into facts. Each is looked at and let go.
struct Reading {
    fold: Fold,
    chains: Option<Chains>,
    newest: Option<i64>,
    range: (i64, i64),
    accounts: BTreeSet<String>,
    progress: Progress,
}

impl Reading {
    fn add(&mut self, record: &Record) {
        let at = record.draft.timestamp;
        if !self.accounts.is_empty() && !self.accounts.contains(record.draft.account_id.as_str()) {
            return;
        }
        self.progress.one_more();
        self.newest = self.newest.max(Some(at));
        if let Some(chains) = &mut self.chains {
            chains.add(record);
        }
        if at >= self.range.0 && at < self.range.1 {
            self.fold.add(record);
        }
    }

    fn end(
        self,
        heads: &std::collections::BTreeMap<redress_common::ids::AccountId, redress_common::ledger::Head>,
    ) -> (Facts, Verification) {
        let newest = self.newest.map(time::seconds_of);
        let facts = self.fold.facts();
        let verification = match self.chains {
            Some(chains) => {
                let verdicts = chains.verdicts(heads);
                Verification::of(verdicts.iter().map(|chain| chain.records).sum(), newest, verdicts)
            }
            None => Verification::unchecked(facts.records, newest),
        };
        (facts, verification)
    }
}

/// The report: what was read, filtered and counted.
fn content(
    asked: &Report,
    period: Period,
    controls: Option<&BTreeSet<ControlId>>,
    facts: Facts,
    verification: Verification,
    catalogue: &Catalogue,
    made: Timestamp,
) -> Result<Content, Problem> {
    let Facts { mut cases, units, .. } = facts;
    let mut notes = Vec::new();
    if let Some(ou) = &asked.ou {
        let unknown: BTreeSet<&str> = cases
            .iter()
            .map(|case| case.account.as_str())
            .filter(|id| !units.keys().any(|known| known.as_str() == *id))
            .collect();
        if units.is_empty() {
            return Err(Problem::not_found(
                "no decision in the ledger says in which organisational unit an account is",
            )
            .help("policies that speak of accounts or units make decisions tell it; use --account instead"));
        }
        if !unknown.is_empty() {
            notes.push(format!(
                "{} accounts are left out: no decision in what was read says where they are in the organisation.",
                unknown.len()
            ));
        }
        let within = |case: &Case| units.get(&case.account).is_some_and(|path| path.iter().any(|unit| unit == ou));
        cases.retain(within);
    }
    cases.retain(|case| {
        let control = controls.is_none_or(|only| case.control.as_ref().is_some_and(|control| only.contains(control)));
        control && (asked.severities.is_empty() || asked.severities.contains(&case.severity))
    });
    let targets = asked.targets();
    Ok(Content {
        figures: figures::figures(&cases, &period, &targets, asked.assumptions()),
        evidence: frameworks::evidence(&cases, &period, catalogue, &asked.frameworks),
        filters: filters(asked),
        period,
        verification,
        targets,
        notes,
        made,
    })
}

/// What the report is limited to, in words.
fn filters(asked: &Report) -> Vec<String> {
    let list = |name: &str, values: Vec<&str>| (!values.is_empty()).then(|| format!("{name} {}", values.join(", ")));
    [
        list("account", asked.accounts.iter().map(redress_common::ids::AccountId::as_str).collect()),
        list("organisational unit", asked.ou.iter().map(String::as_str).collect()),
        list("control", asked.controls.iter().map(ControlId::as_str).collect()),
        list("framework", asked.frameworks.iter().map(String::as_str).collect()),
        list("severity", asked.severities.iter().map(|severity| severity.as_str()).collect()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Writes what was asked for, and says it.
fn answer(asked: &Report, content: &Content, style: Style) -> Result<Answer, Problem> {
    let exit = if content.verification.verdict == Verdict::Broken { Exit::Failed } else { Exit::Done };
    let tables = tables(content);
    let to_stdout = asked.csv.as_deref() == Some(Path::new("-"));
    if let Some(name) = &asked.table {
        let Some(table) = tables.iter().find(|table| table.name == name) else {
            let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
            return Err(Problem::not_found(format!("there is no table `{name}`"))
                .help(format!("there are {}", names.join(", "))));
        };
        let text = if to_stdout { csv::csv(table) } else { table.text(style, usize::MAX) };
        return Ok(Answer::new(&rows_as_json(table), text)?.exit(exit));
    }
    if to_stdout {
        return Err(
            Problem::failed("standard output has room for one table").help("choose it with --table, or give a folder")
        );
    }
    let mut text = summary(content, &tables, style);
    if let Some(path) = &asked.html {
        let page = html::page(content);
        std::fs::write(path, &page).map_err(|error| Problem::aws(&format!("write {}", path.display()), &error))?;
        text.push_str(&format!("\nPage: {} ({} KB)\n", path.display(), page.len().div_ceil(1024)));
    }
    if let Some(folder) = &asked.csv {
        let failed = |error: std::io::Error| Problem::aws(&format!("write into {}", folder.display()), &error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        for table in &tables {
            std::fs::write(folder.join(format!("{}.csv", table.name)), csv::csv(table)).map_err(failed)?;
        }
        text.push_str(&format!("\nTables: {} files in {}\n", tables.len(), folder.display()));
    }
    Ok(Answer::new(content, text)?.exit(exit))
}

/// A table for a program: an object a row, as text.
fn rows_as_json(table: &Table) -> serde_json::Value {
    let row = |row: &Vec<table::Cell>| -> serde_json::Value {
        let cells = table.columns.iter().zip(row).map(|(column, cell)| (column.title, cell.shown()));
        json!(cells.collect::<std::collections::BTreeMap<_, _>>())
    };
    table.rows.iter().map(row).collect()
}

/// What a person wants to see at the terminal.
fn summary(content: &Content, tables: &[Table], style: Style) -> String {
    let (all, saved) = (&content.figures.all, &content.figures.saved);
    let spread = |spread: Option<figures::Spread>| {
        spread.map_or_else(
            || "nothing was fixed".to_owned(),
            |spread| {
                let [median, p90, mean] = [spread.median, spread.p90, spread.mean].map(table::duration);
                format!("median {median}, 90th percentile {p90}, mean {mean}")
            },
        )
    };
    let rate = |rate| table::Cell::Rate(rate).shown();
    let title = format!("Remediation report, {}", content.period.label());
    let mut text = format!("{}\n", style.paint(Tone::Strong, &title));
    let tone = match content.verification.verdict {
        Verdict::Verified => Tone::Good,
        Verdict::Broken => Tone::Bad,
        _ => Tone::Warning,
    };
    text.push_str(&format!("{}\n", style.paint(tone, &content.verification.says())));
    let about = content.about().into_iter().filter(|(name, _)| ["Filters", "Not mapped", "Note"].contains(name));
    let mut fields: Vec<(&str, String)> = about.collect();
    fields.extend([
        ("Success rate", rate(all.success)),
        ("Failure rate", rate(all.failure)),
        ("Repeat rate", rate(all.repeat)),
        ("Undo rate", rate(all.undo)),
        ("Backlog rate", rate(all.backlog)),
        ("Targets met", rate(all.sla_met)),
        ("Time to fix, since first seen", spread(all.since_first_seen)),
        ("Time to fix, since event", spread(all.since_event)),
        (
            "Saved (estimate)",
            format!(
                "{} h and {}, assuming {} min by hand, {} min an answer, {} min a failure, {} USD an hour, {} USD a run",
                saved.hours,
                table::dollars(saved.money),
                saved.assumptions.minutes_by_hand,
                saved.assumptions.minutes_an_answer,
                saved.assumptions.minutes_a_failure,
                saved.assumptions.hourly_rate,
                saved.assumptions.cost_a_run,
            ),
        ),
    ]);
    text.push_str(&style.fields(&fields));
    for (name, most) in [("by-severity", 5), ("by-control", 10), ("by-account", 10), ("sla", 5)] {
        if let Some(table) = tables.iter().find(|table| table.name == name) {
            text.push_str(&format!("\n{}", table.text(style, most)));
        }
    }
    let rows = content.evidence.frameworks.iter().map(|framework| {
        let of = |says: &str| framework.requirements.iter().filter(|requirement| requirement.says() == says).count();
        [
            framework.name.as_str().into(),
            framework.requirements.len().to_string().into(),
            of("open failures").to_string().into(),
            of("accepted by people").to_string().into(),
            of("nothing open").to_string().into(),
            of("no finding").to_string().into(),
        ]
    });
    let heads = ["Framework", "Requirements", "Open failures", "Accepted by people", "Nothing open", "No finding"];
    text.push_str(&format!("\n{}\n{}", style.paint(Tone::Strong, "Evidence by framework"), style.table(heads, rows)));
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    text.push_str(&format!("\nHow this was counted: --table definitions. Tables: {}.\n", names.join(", ")));
    text
}

#[cfg(test)]
mod tests;
