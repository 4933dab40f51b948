//! The tables of a report as values: the same for the terminal, for CSV and for the page.

use redress_common::time;

use super::Content;
use super::definitions::DEFINITIONS;
use super::figures::{Group, Rate, Spread, Standing, round, signed};
use crate::output::{Style, Tone};

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    /// Its file's name, and what `--table` calls it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// A column's head: its name, and the unit that its numbers have in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
}

/// A column without a unit.
const fn plain(title: &'static str) -> Column {
    Column { title, unit: "" }
}

const fn with(title: &'static str, unit: &'static str) -> Column {
    Column { title, unit }
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    /// An id, an ARN, a key: shown as it is.
    Code(String),
    Count(u64),
    Rate(Rate),
    /// Milliseconds.
    Span(Option<i64>),
    /// A number with its unit.
    Amount(f64, &'static str),
}

impl Cell {
    /// For people, with its unit.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Code(text) => text.clone(),
            Self::Count(count) => grouped(*count),
            Self::Rate(rate) => match rate.value() {
                Some(value) => format!("{:.1} % ({} of {})", value * 100.0, grouped(rate.part), grouped(rate.of)),
                None => "none".to_owned(),
            },
            Self::Span(span) => span.map_or_else(|| "none".to_owned(), duration),
            Self::Amount(number, "USD") => dollars(*number),
            Self::Amount(number, unit) => format!("{number} {unit}"),
        }
    }

    /// Whether it is a number.
    pub(crate) const fn is_number(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Code(_))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// US dollars: whole ones when there are many.
pub(crate) fn dollars(amount: f64) -> String {
    if amount.abs() < 1000.0 {
        return format!("{amount:.2} USD");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole dollars, without their sign")]
    let whole = amount.abs().round() as u64;
    format!("{}{} USD", if amount < 0.0 { "-" } else { "" }, grouped(whole))
}

/// `0.84 s`, `12 s`, `3 min 5 s`, `4 h 5 min`, `2 d 3 h`.
pub(crate) fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let two = |great: i64, great_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{great} {great_unit}"),
        small => format!("{great} {great_unit} {small} {small_unit}"),
    };
    match seconds {
        ..10 => format!("{} s", round(signed(milliseconds) / 1000.0, 2)),
        10..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

impl Table {
    /// For a terminal or a log, at most so many rows.
    pub(crate) fn text(&self, style: Style, most: usize) -> String {
        let heads: Vec<&str> = self.columns.iter().map(|column| column.title).collect();
        let rows =
            self.rows.iter().take(most).map(|row| row.iter().map(|cell| printable(&cell.shown()).into()).collect());
        let more = match self.rows.len().saturating_sub(most) {
            0 => String::new(),
            more => format!("… and {more} more: --table {} shows all\n", self.name),
        };
        let title = style.paint(Tone::Strong, self.title);
        if self.rows.is_empty() {
            format!("{title}\nnone\n")
        } else {
            format!("{title}\n{}{more}", style.grid(&heads, rows))
        }
    }
}

/// What would steer a terminal is replaced.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// All tables of a report.
pub(crate) fn tables(content: &Content) -> Vec<Table> {
    let figures = &content.figures;
    let mut tables = vec![about(content), rates(content), ends(content), standing(content)];
    tables.push(groups("by-severity", "By severity", "Severity", &figures.by_severity));
    tables.push(groups("by-control", "By control", "Control", &figures.by_control));
    tables.push(groups("by-account", "By account", "Account", &figures.by_account));
    tables.extend([
        sla(content),
        saved(content),
        people(content),
        trend(content),
        frameworks(content),
        evidence(content),
    ]);
    tables.push(definitions());
    tables
}

fn about(content: &Content) -> Table {
    let mut rows: Vec<Vec<Cell>> =
        content.about().into_iter().map(|(name, text)| vec![name.into(), Cell::Text(text)]).collect();
    rows.extend(content.verification.broken.iter().map(|chain| {
        let fault = chain.fault.as_deref().unwrap_or_default();
        vec!["Broken chain".into(), Cell::Text(format!("account {}: {fault}", chain.account_id))]
    }));
    Table { name: "about", title: "About this report", columns: vec![plain("What"), plain("Says")], rows }
}

fn rates(content: &Content) -> Table {
    let all = &content.figures.all;
    let rows = [
        ("Success rate", all.success),
        ("Failure rate", all.failure),
        ("Repeat rate", all.repeat),
        ("Undo rate", all.undo),
        ("Backlog rate", all.backlog),
        ("Target met", all.sla_met),
    ];
    Table {
        name: "rates",
        title: "Rates",
        columns: vec![plain("Rate"), with("Value", "fraction"), plain("Part"), plain("Of")],
        rows: rows
            .into_iter()
            .map(|(name, rate)| vec![name.into(), Cell::Rate(rate), Cell::Count(rate.part), Cell::Count(rate.of)])
            .collect(),
    }
}

fn ends(content: &Content) -> Table {
    let ends = &content.figures.all.ends;
    let rows = [
        ("Fixed", ends.fixed),
        ("Already compliant", ends.already_compliant),
        ("Unverified", ends.unverified),
        ("Failed", ends.failed),
        ("Resource gone", ends.gone),
        ("Not decided", ends.undecided),
        ("Told, not acted on", ends.told),
        ("Exempt", ends.exempt),
        ("Ignored", ends.ignored),
        ("Denied", ends.denied),
        ("Not answered in time", ends.expired),
    ];
    Table {
        name: "ends",
        title: "Remediations by end",
        columns: vec![plain("End"), plain("Remediations")],
        rows: rows.into_iter().map(|(name, count)| vec![name.into(), Cell::Count(count)]).collect(),
    }
}

fn standing(content: &Content) -> Table {
    let standing = &content.figures.all.standing;
    let row = |which: Standing| {
        let backlog = if which.is_backlog() { "yes" } else { "no" };
        vec![which.words().into(), Cell::Count(standing.of(which)), backlog.into()]
    };
    Table {
        name: "standing",
        title: "Resources × controls by where they stand",
        columns: vec![plain("Standing"), plain("Resources × controls"), plain("Backlog")],
        rows: Standing::ALL.into_iter().map(row).collect(),
    }
}

fn groups(name: &'static str, title: &'static str, of: &'static str, groups: &[Group]) -> Table {
    let row = |group: &Group| {
        let times = |spread: Option<Spread>| {
            [spread.map(|spread| spread.median), spread.map(|spread| spread.p90), spread.map(|spread| spread.mean)]
        };
        let mut row = vec![
            Cell::Code(group.name.clone()),
            Cell::Count(group.attempts),
            Cell::Count(group.ends.fixed),
            Cell::Count(group.ends.failed + group.ends.unverified),
            Cell::Rate(group.success),
            Cell::Rate(group.repeat),
            Cell::Rate(group.undo),
            Cell::Rate(group.backlog),
        ];
        row.extend(times(group.since_first_seen).into_iter().chain(times(group.since_event)).map(Cell::Span));
        row
    };
    Table {
        name,
        title,
        columns: vec![
            plain(of),
            plain("Attempts"),
            plain("Fixed"),
            plain("Failed"),
            with("Success", "fraction"),
            with("Repeat", "fraction"),
            with("Undo", "fraction"),
            with("Backlog", "fraction"),
            with("First seen to fixed: median", "s"),
            with("First seen to fixed: p90", "s"),
            with("First seen to fixed: mean", "s"),
            with("Event to fixed: median", "s"),
            with("Event to fixed: p90", "s"),
            with("Event to fixed: mean", "s"),
        ],
        rows: groups.iter().map(row).collect(),
    }
}

fn sla(content: &Content) -> Table {
    let rows = content.targets.iter().map(|target| {
        let name = target.severity.as_str();
        let kept = content.figures.by_severity.iter().find(|group| group.name == name).map(|group| group.sla.clone());
        let kept = kept.unwrap_or_default();
        vec![
            name.into(),
            Cell::Span(Some(target.within_ms)),
            Cell::Rate(kept.rate()),
            Cell::Count(kept.met),
            Cell::Count(kept.late),
            Cell::Count(kept.overdue),
            Cell::Count(kept.pending),
        ]
    });
    Table {
        name: "sla",
        title: "Findings by target",
        columns: vec![
            plain("Severity"),
            with("Target", "s"),
            with("Rate met", "fraction"),
            plain("Met"),
            plain("Late"),
            plain("Overdue"),
            plain("Pending"),
        ],
        rows: rows.collect(),
    }
}

fn saved(content: &Content) -> Table {
    let saved = &content.figures.saved;
    let assumed = &saved.assumptions;
    let rows = [
        ("Fixes that were not undone", Cell::Count(saved.kept_fixes), "counted"),
        ("× minutes by hand, each", Cell::Amount(assumed.minutes_by_hand, "min"), "assumed: --minutes-by-hand"),
        ("Answered approvals", Cell::Count(saved.answers), "counted"),
        ("× minutes an answer", Cell::Amount(assumed.minutes_an_answer, "min"), "assumed: --minutes-an-answer"),
        ("Failures", Cell::Count(saved.failures), "counted"),
        ("× minutes a failure", Cell::Amount(assumed.minutes_a_failure, "min"), "assumed: --minutes-a-failure"),
        ("Time saved", Cell::Amount(saved.hours, "h"), "worked out"),
        ("× hourly rate", Cell::Amount(assumed.hourly_rate, "USD"), "assumed: --hourly-rate"),
        ("Runs of runbooks", Cell::Count(saved.runs), "counted"),
        ("× cost of a run", Cell::Amount(assumed.cost_a_run, "USD a run"), "assumed: --cost-a-run, docs/cost.md"),
        ("Cost of runs", Cell::Amount(saved.cost_of_runs, "USD"), "worked out"),
        ("Money saved", Cell::Amount(saved.money, "USD"), "worked out"),
    ];
    Table {
        name: "saved",
        title: "How the estimate is worked out",
        columns: vec![plain("What"), plain("Value"), plain("How known")],
        rows: rows.into_iter().map(|(what, value, how)| vec![what.into(), value, how.into()]).collect(),
    }
}

fn people(content: &Content) -> Table {
    let (figures, answers, undos) = (&content.figures, &content.figures.approvals, &content.figures.undos);
    let rows = [
        ("Approvals asked", answers.asked),
        ("Approvals: yes", answers.approved),
        ("Approvals: no", answers.denied),
        ("Approvals: not answered in time", answers.expired),
        ("Approvals: waiting at the end", answers.waiting),
        ("Approvals: void", answers.void),
        ("Undos: put back", undos.put_back),
        ("Undos: refused, changed since (drift)", undos.drifted),
        ("Undos: failed", undos.failed),
        ("Undos: not started", undos.refused),
        ("Dry runs", figures.dry_runs),
        ("Operators' changes", figures.changes),
        ("Inputs not understood", figures.rejected),
    ];
    Table {
        name: "people",
        title: "Approvals, undos and what else the ledger holds",
        columns: vec![plain("What"), plain("Count")],
        rows: rows.into_iter().map(|(what, count)| vec![what.into(), Cell::Count(count)]).collect(),
    }
}

fn trend(content: &Content) -> Table {
    let point = |point: &super::figures::Point| {
        vec![
            Cell::Text(point.day.clone()),
            Cell::Count(u64::try_from(point.days).unwrap_or_default()),
            Cell::Count(point.fixed),
            Cell::Count(point.not_fixed),
            Cell::Count(point.told),
        ]
    };
    Table {
        name: "trend",
        title: "Remediations by the day they ended",
        columns: vec![plain("From (UTC)"), plain("Days"), plain("Fixed"), plain("Failed"), plain("Told, not acted on")],
        rows: content.figures.trend.iter().map(point).collect(),
    }
}

fn frameworks(content: &Content) -> Table {
    let rows = content.evidence.frameworks.iter().flat_map(|framework| {
        framework.requirements.iter().map(|requirement| {
            let controls: Vec<&str> = requirement.controls.iter().map(redress_common::ids::ControlId::as_str).collect();
            vec![
                Cell::Text(framework.name.clone()),
                Cell::Code(requirement.requirement.clone()),
                requirement.says().into(),
                Cell::Code(controls.join(" ")),
                Cell::Count(requirement.fixed),
                Cell::Count(requirement.failed),
                Cell::Count(requirement.open),
                Cell::Count(requirement.declined),
                Cell::Count(requirement.exempt),
            ]
        })
    });
    Table {
        name: "frameworks",
        title: "Requirements and what the ledger says of them",
        columns: [
            "Framework",
            "Requirement",
            "The ledger says",
            "Controls",
            "Fixed",
            "Failed",
            "Open",
            "Declined",
            "Exempt",
        ]
        .map(plain)
        .into(),
        rows: rows.collect(),
    }
}

fn evidence(content: &Content) -> Table {
    let rows = content.evidence.controls.values().flat_map(|shown| &shown.items).map(|item| {
        vec![
            Cell::Code(item.control.clone()),
            item.shows.words().into(),
            item.severity.as_str().into(),
            Cell::Code(item.at.clone()),
            Cell::Code(item.account_id.clone()),
            Cell::Code(item.region.clone()),
            Cell::Code(item.resource.clone()),
            Cell::Code(item.remediation_id.clone()),
            Cell::Code(item.evidence_bucket.clone()),
            Cell::Code(item.evidence_key.clone()),
            Cell::Text(item.note.clone()),
        ]
    });
    Table {
        name: "evidence",
        title: "Evidence by control",
        columns: [
            "Control",
            "Shows",
            "Severity",
            "At (open: first seen)",
            "Account",
            "Region",
            "Resource",
            "RemediationId",
            "Evidence bucket",
            "Evidence key",
            "Note",
        ]
        .map(plain)
        .into(),
        rows: rows.collect(),
    }
}

fn definitions() -> Table {
    Table {
        name: "definitions",
        title: "How this was counted",
        columns: vec![plain("Figure"), plain("How it is counted")],
        rows: DEFINITIONS.iter().map(|(name, text)| vec![(*name).into(), (*text).into()]).collect(),
    }
}

impl Content {
    /// What it is about, and whether it can be relied on.
    pub(crate) fn about(&self) -> Vec<(&'static str, String)> {
        let newest = self.verification.newest_record.clone().unwrap_or_else(|| "none".to_owned());
        let filters = if self.filters.is_empty() { "none".to_owned() } else { self.filters.join("; ") };
        let not_mapped = self.evidence.not_mapped.join(", ");
        let mut about = vec![
            ("Period", self.period.label()),
            ("Filters", filters),
            ("Records", self.verification.says()),
            ("Newest record", newest),
            ("Made", format!("{} by redress {}", time::seconds(self.made), env!("CARGO_PKG_VERSION"))),
        ];
        if !not_mapped.is_empty() {
            about.push((
                "Not mapped",
                format!("{not_mapped}: the catalogue maps no control to it, so nothing is said of it"),
            ));
        }
        about.extend(self.notes.iter().map(|note| ("Note", note.clone())));
        about
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers_are_told_as_people_say_them() {
        let told = [840, 12_000, 185_000, 14_700_000, 183_600_000, 86_400_000].map(duration);
        assert_eq!(told, ["0.84 s", "12 s", "3 min 5 s", "4 h 5 min", "2 d 3 h", "1 d"]);
        assert_eq!([-2.5, 1_234.5, -1_000_000.0].map(dollars), ["-2.50 USD", "1,235 USD", "-1,000,000 USD"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
