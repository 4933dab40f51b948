//! A report as one page: no network, no script, light and dark, printable, readable without seeing and without a mouse.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redress_common::ids::ControlId;
use sha2::{Digest as _, Sha256};

use super::Content;
use super::chain::Verdict;
use super::chart::{self, Look, Series, Times};
use super::figures::{Group, Rate, Spread, Standing};
use super::frameworks::{Framework, Item, Requirement, Shown, Shows};
use super::markup::{Markup, element, text, void, with_text};
use super::table::{Cell, Table, dollars, duration, grouped, tables};

const STYLE: &str = include_str!("report.css");

/// Of a control's items the page shows at most so many that are open, and so many that were done. Files show all.
const MOST_OPEN: usize = 100;
const MOST_DONE: usize = 25;

/// The page.
pub(crate) fn page(content: &Content) -> String {
    let digest = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'");
    let title = format!("Redress report, {}", content.period.label());
    let head = element(
        "head",
        &[],
        [
            void("meta", &[("charset", "utf-8")]),
            void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy)]),
            void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]),
            void("meta", &[("name", "color-scheme"), ("content", "light dark")]),
            void("meta", &[("name", "referrer"), ("content", "no-referrer")]),
            with_text("title", &[], &title),
            element("style", &[], [Markup::constant(STYLE)]),
        ],
    );
    let html = element("html", &[("lang", "en")], [head, body(content)]);
    format!("<!doctype html>\n{}\n", html.into_string())
}

fn body(content: &Content) -> Markup {
    let tables = tables(content);
    let table = |name: &str| tables.iter().find(|table| table.name == name).map_or_else(Markup::none, of_table);
    let sections = [
        ("overview", "At a glance", vec![cards(content)]),
        ("time", "Over time", vec![trend(content), behind(&tables, "trend")]),
        (
            "mttr",
            "Time to fix (MTTR)",
            vec![mttr(content), table("by-severity"), table("by-control"), table("by-account")],
        ),
        ("targets", "Targets (SLA)", vec![sla(content), table("sla")]),
        ("ends", "How remediations ended", vec![table("ends"), table("people")]),
        ("standing", "Where resources stand at the end", vec![standing(content), table("standing")]),
        ("saved", "Cost and time saved", vec![estimate(content), table("saved")]),
        ("frameworks", "Evidence by framework", frameworks(content)),
        ("evidence", "Evidence by control", evidence(content)),
        ("counted", "How this was counted", vec![definitions(content)]),
    ];
    let links = sections.iter().map(|(id, title, _)| {
        let target = format!("#{id}");
        element("li", &[], [element("a", &[("href", &target)], [text(title)])])
    });
    let contents = element("nav", &[("aria-label", "Contents")], [element("ul", &[], links)]);
    let skip = element("a", &[("class", "skip"), ("href", "#main")], [text("Skip to the report")]);
    let header = element("header", &[], [with_text("h1", &[], "Remediation report"), about(content), contents]);
    let main = sections.into_iter().map(|(id, title, parts)| {
        let heading = format!("{id}-heading");
        let head = with_text("h2", &[("id", &heading)], title);
        element("section", &[("id", id), ("aria-labelledby", &heading)], std::iter::once(head).chain(parts))
    });
    let foot = format!("Made by redress {}. All times are UTC.", env!("CARGO_PKG_VERSION"));
    element(
        "body",
        &[],
        [
            skip,
            chart::patterns(),
            header,
            element("main", &[("id", "main")], main),
            element("footer", &[], [with_text("p", &[], &foot)]),
        ],
    )
}

/// What it is about, and whether it can be relied on.
fn about(content: &Content) -> Markup {
    let (class, mark) = match content.verification.verdict {
        Verdict::Verified => ("verdict ok", "✓ "),
        Verdict::Broken => ("verdict broken", "✗ "),
        Verdict::EndsNotCompared | Verdict::NotChecked | Verdict::MadeUp => ("verdict unsure", "! "),
    };
    let made_up = content.verification.verdict == Verdict::MadeUp;
    let banner = if made_up {
        let says = "Example. Every account, resource and number on this page is made up.";
        with_text("p", &[("class", "verdict broken"), ("role", "note")], says)
    } else {
        Markup::none()
    };
    let verdict = with_text("p", &[("class", class)], &format!("{mark}{}", content.verification.says()));
    let facts = content.about().into_iter().filter(|(name, _)| *name != "Records");
    let facts =
        facts.map(|(name, says)| element("div", &[], [with_text("dt", &[], name), with_text("dd", &[], &says)]));
    Markup::all([banner, verdict, element("dl", &[("class", "about")], facts)])
}

/// The figures that people ask for first.
fn cards(content: &Content) -> Markup {
    let (all, saved) = (&content.figures.all, &content.figures.saved);
    let rate = percent;
    let of = |rate: Rate, what: &str| format!("{} of {} {what}", grouped(rate.part), grouped(rate.of));
    let time = |spread: Option<Spread>| spread.map_or_else(|| "none".to_owned(), |spread| duration(spread.median));
    let slow = |spread: Option<Spread>| {
        spread.map_or_else(String::new, |spread| {
            format!("90th percentile {}, mean {}", duration(spread.p90), duration(spread.mean))
        })
    };
    let cards = [
        ("Success rate", rate(all.success), of(all.success, "attempts")),
        (
            "Time to fix, since first seen",
            time(all.since_first_seen),
            format!("median; {}", slow(all.since_first_seen)),
        ),
        ("Time to fix, since event", time(all.since_event), format!("median; {}", slow(all.since_event))),
        ("Targets met", rate(all.sla_met), of(all.sla_met, "with a target")),
        ("Backlog rate", rate(all.backlog), of(all.backlog, "resources × controls open")),
        ("Failure rate", rate(all.failure), of(all.failure, "attempts")),
        ("Undo rate", rate(all.undo), of(all.undo, "attempts put back")),
        ("Repeat rate", rate(all.repeat), of(all.repeat, "fixes made again")),
        (
            "Time saved (estimate)",
            format!("{} h", saved.hours),
            format!(
                "{} fixes at {} min by hand; less answers and failures",
                grouped(saved.kept_fixes),
                saved.assumptions.minutes_by_hand
            ),
        ),
        (
            "Money saved (estimate)",
            dollars(saved.money),
            format!("{} USD an hour, less {:.2} USD for runs", saved.assumptions.hourly_rate, saved.cost_of_runs),
        ),
    ];
    let card = |(name, value, says): (&str, String, String)| {
        element(
            "div",
            &[("class", "card")],
            [
                with_text("dt", &[], name),
                with_text("dd", &[("class", "value")], &value),
                with_text("dd", &[("class", "says")], says.trim_end_matches("; ")),
            ],
        )
    };
    element("dl", &[("class", "cards")], cards.into_iter().map(card))
}

fn trend(content: &Content) -> Markup {
    let points = &content.figures.trend;
    let labels: Vec<String> = points.iter().map(|point| point.day.get(5..).unwrap_or(&point.day).to_owned()).collect();
    let values = |count: fn(&super::figures::Point) -> u64| points.iter().map(count).collect();
    let series = [
        Series { name: "fixed", look: Look::Good, values: values(|point| point.fixed) },
        Series { name: "failed", look: Look::Bad, values: values(|point| point.not_fixed) },
        Series { name: "told, not acted on", look: Look::Quiet, values: values(|point| point.told) },
    ];
    let width = points.first().map_or(1, |point| point.days);
    let each = if width == 1 { "day".to_owned() } else { format!("{width} days") };
    figure(
        chart::columns("trend-chart", &format!("Remediations by end, each {each}"), &labels, &series),
        &format!("Remediations that ended, each {each}."),
    )
}

fn mttr(content: &Content) -> Markup {
    let rows: Vec<Times> = content
        .figures
        .by_severity
        .iter()
        .filter_map(|group| {
            let spread = group.since_first_seen?;
            let target = content.targets.iter().find(|target| target.severity.as_str() == group.name);
            let target = target.map(|target| target.within_ms);
            Some(Times { label: group.name.clone(), median: spread.median, p90: spread.p90, target })
        })
        .collect();
    if rows.is_empty() {
        return with_text("p", &[], "Nothing was fixed in the period.");
    }
    figure(
        chart::times("mttr-chart", "Time to fix since first seen, by severity", &rows),
        "Time from first seen to fixed, by severity; each step of the scale is longer than the last.",
    )
}

fn sla(content: &Content) -> Markup {
    let group = |name: &str| content.figures.by_severity.iter().find(|group| group.name == name);
    let names: Vec<String> = content.targets.iter().map(|target| target.severity.as_str().to_owned()).collect();
    let values = |count: fn(&Group) -> u64| names.iter().map(|name| group(name).map_or(0, count)).collect();
    let series = [
        Series { name: "met", look: Look::Good, values: values(|group| group.sla.met) },
        Series { name: "pending", look: Look::Open, values: values(|group| group.sla.pending) },
        Series { name: "late", look: Look::Quiet, values: values(|group| group.sla.late) },
        Series { name: "overdue", look: Look::Bad, values: values(|group| group.sla.overdue) },
    ];
    figure(
        chart::shares("sla-chart", "How targets were kept, by severity", &names, &series),
        "Findings with a target, by severity: how many were fixed in time, are still in time, were late, are overdue.",
    )
}

fn standing(content: &Content) -> Markup {
    let group = &content.figures.by_severity;
    let names: Vec<String> = group.iter().map(|group| group.name.clone()).collect();
    let sum = |which: &[Standing]| {
        group.iter().map(|group| which.iter().map(|which| group.standing.of(*which)).sum()).collect()
    };
    use Standing::{Asked, Declined, Exempt, Expired, Failed, Ignored, Settled, Told, UnderWay, Waiting};
    let series = [
        Series { name: "settled", look: Look::Good, values: sum(&[Settled]) },
        Series { name: "accepted", look: Look::Open, values: sum(&[Exempt, Ignored, Declined]) },
        Series { name: "in hand", look: Look::Quiet, values: sum(&[UnderWay, Waiting, Asked]) },
        Series { name: "not fixed", look: Look::Bad, values: sum(&[Told, Expired, Failed]) },
    ];
    let says = "Resources × controls, by severity. Accepted: exempt, ignored, declined. In hand: under way, waiting, asked about. Not fixed: told, not answered in time, failed.";
    figure(chart::shares("standing-chart", "Where resources stand, by severity", &names, &series), says)
}

fn estimate(content: &Content) -> Markup {
    let saved = &content.figures.saved;
    let says = format!(
        "About {} hours and {}, if what is assumed below holds. Change the assumptions with the flags named in the table.",
        saved.hours,
        dollars(saved.money)
    );
    with_text("p", &[], &says)
}

fn frameworks(content: &Content) -> Vec<Markup> {
    let evidence = &content.evidence;
    let mut parts = Vec::new();
    if !evidence.not_mapped.is_empty() {
        let says = format!(
            "{}: the catalogue maps no control to it, so this report says nothing of it.",
            evidence.not_mapped.join(", ")
        );
        parts.push(with_text("p", &[("class", "note")], &says));
    }
    let says = "Only requirements that something happened to are listed; the file frameworks.csv has all. No line says that a requirement is met: Redress sees failures, not passes.";
    parts.push(with_text("p", &[("class", "note")], says));
    parts.extend(evidence.frameworks.iter().map(|framework| of_framework(framework, content)));
    parts
}

fn of_framework(framework: &Framework, content: &Content) -> Markup {
    let happened = |requirement: &&Requirement| requirement.says() != "no finding";
    let shown: Vec<&Requirement> = framework.requirements.iter().filter(happened).collect();
    let open = shown.iter().filter(|requirement| requirement.open > 0).count();
    let none = shown.is_empty();
    let summary = format!(
        "{}: {} of {} requirements with findings, {open} with open failures",
        framework.name,
        shown.len(),
        framework.requirements.len()
    );
    let heads = ["Requirement", "The ledger says", "Controls", "Fixed", "Failed", "Open", "Declined", "Exempt"];
    let head = element("tr", &[], heads.map(|head| with_text("th", &[("scope", "col")], head)));
    let rows = shown.into_iter().map(|requirement| {
        let links = requirement.controls.iter().map(|control| link(control, content));
        let counts =
            [requirement.fixed, requirement.failed, requirement.open, requirement.declined, requirement.exempt];
        let says = [
            with_text("th", &[("scope", "row")], &requirement.requirement),
            element("td", &[], [badge(says_class(requirement), requirement.says())]),
            element("td", &[("class", "controls")], links),
        ];
        let counts = counts.map(|count| with_text("td", &[("class", "n")], &grouped(count)));
        element("tr", &[], says.into_iter().chain(counts))
    });
    let body = element("tbody", &[], rows);
    let table =
        element("table", &[], [with_text("caption", &[], &framework.name), element("thead", &[], [head]), body]);
    let inside =
        if none { with_text("p", &[], "No requirement had a finding.") } else { scroll(&framework.name, table) };
    element("details", &[], [with_text("summary", &[], &summary), inside])
}

fn says_class(requirement: &Requirement) -> &'static str {
    match requirement.says() {
        "open failures" => "badge broken",
        "accepted by people" => "badge unsure",
        _ => "badge ok",
    }
}

/// A control's id, as a link where this page has something to show of it.
fn link(control: &ControlId, content: &Content) -> Markup {
    if content.evidence.controls.contains_key(control) {
        let target = format!("#control-{control}");
        Markup::all([element("a", &[("href", &target)], [text(control.as_str())]), text(" ")])
    } else {
        text(&format!("{control} "))
    }
}

fn evidence(content: &Content) -> Vec<Markup> {
    let evidence = &content.evidence;
    if evidence.controls.is_empty() {
        return vec![with_text("p", &[], "The period has nothing to show.")];
    }
    let says = format!(
        "Of each control at most {MOST_OPEN} that are not settled and the newest {MOST_DONE} that were done; the file evidence.csv has all. Evidence objects are encrypted, in the member's bucket."
    );
    let controls = evidence.controls.iter().map(|(control, shown)| of_control(control, shown));
    std::iter::once(with_text("p", &[("class", "note")], &says)).chain(controls).collect()
}

fn of_control(control: &ControlId, shown: &Shown) -> Markup {
    let id = format!("control-{control}");
    let counts = [
        (shown.open, "open"),
        (shown.failed, "failed"),
        (shown.declined, "declined"),
        (shown.exempt, "exempt"),
        (shown.fixed, "fixed"),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
    let title = if shown.title.is_empty() { String::new() } else { format!(" {}", shown.title) };
    let summary = element(
        "summary",
        &[],
        [with_text("strong", &[], control.as_str()), text(&format!("{title}: {}", counts.join(", ")))],
    );
    let is_open = |item: &&Item| matches!(item.shows, Shows::Open | Shows::Exempt | Shows::Declined);
    let (open, done): (Vec<&Item>, Vec<&Item>) = shown.items.iter().partition(is_open);
    let left = open.len().saturating_sub(MOST_OPEN) + done.len().saturating_sub(MOST_DONE);
    let rows = open.into_iter().take(MOST_OPEN).chain(done.into_iter().take(MOST_DONE)).map(of_item);
    let heads = ["Shows", "Resource", "At (open: first seen)", "Remediation and evidence", "Note"];
    let head = element("tr", &[], heads.map(|head| with_text("th", &[("scope", "col")], head)));
    let caption = with_text("caption", &[], &format!("Evidence of {control}"));
    let table = element(
        "table",
        &[("class", "evidence")],
        [caption, element("thead", &[], [head]), element("tbody", &[], rows)],
    );
    let more = if left == 0 {
        Markup::none()
    } else {
        with_text("p", &[("class", "note")], &format!("and {} more in evidence.csv", grouped(left as u64)))
    };
    element("details", &[("id", &id)], [summary, scroll(&format!("Evidence of {control}"), table), more])
}

fn of_item(item: &Item) -> Markup {
    let class = match item.shows {
        Shows::Open | Shows::Failed => "badge broken",
        Shows::Exempt | Shows::Declined | Shows::Undone => "badge unsure",
        Shows::Fixed | Shows::Compliant => "badge ok",
    };
    let code = |says: &str| with_text("code", &[], says);
    let evidence = if item.evidence_key.is_empty() {
        text("no evidence object: nothing was started")
    } else {
        code(&format!("{}/{}", item.evidence_bucket, item.evidence_key))
    };
    let place = format!("{} {} {}", item.account_id, item.region, item.severity.as_str());
    element(
        "tr",
        &[],
        [
            element("td", &[], [badge(class, item.shows.words())]),
            element("td", &[], [code(&item.resource), void("br", &[]), text(&place)]),
            with_text("td", &[("class", "when")], &item.at),
            element("td", &[], [code(&item.remediation_id), void("br", &[]), evidence]),
            with_text("td", &[], &item.note),
        ],
    )
}

fn definitions(content: &Content) -> Markup {
    let targets: Vec<String> = content
        .targets
        .iter()
        .map(|target| format!("{} within {}", target.severity.as_str(), duration(target.within_ms)))
        .collect();
    let own = ("Targets in force", format!("{}. Chosen with --sla.", targets.join(", ")));
    let all = super::definitions::DEFINITIONS.iter().map(|(name, says)| (*name, (*says).to_owned()));
    let terms = all
        .chain([own])
        .map(|(name, says)| element("div", &[], [with_text("dt", &[], name), with_text("dd", &[], &says)]));
    element("dl", &[("class", "definitions")], terms)
}

/// A chart and what it shows.
fn figure(chart: Markup, caption: &str) -> Markup {
    let scrolled =
        element("div", &[("class", "scroll"), ("tabindex", "0"), ("role", "group"), ("aria-label", caption)], [chart]);
    element("figure", &[], [scrolled, with_text("figcaption", &[], caption)])
}

/// A table that is there for those who want the numbers of a chart.
fn behind(tables: &[Table], name: &str) -> Markup {
    let table = tables.iter().find(|table| table.name == name).map_or_else(Markup::none, of_table);
    element("details", &[], [with_text("summary", &[], "The numbers of this chart"), table])
}

fn of_table(table: &Table) -> Markup {
    let is_number =
        |nth: usize| nth > 0 && table.rows.first().and_then(|row| row.get(nth)).is_some_and(Cell::is_number);
    let head = table.columns.iter().enumerate().map(|(nth, column)| {
        let class = if is_number(nth) { "n head" } else { "" };
        with_text("th", &[("scope", "col"), ("class", class)], column.title)
    });
    let head = element("thead", &[], [element("tr", &[], head)]);
    let rows = table.rows.iter().map(|row| {
        let cells = row.iter().enumerate().map(|(nth, cell)| match cell {
            _ if nth == 0 => element("th", &[("scope", "row")], [text(&cell.shown())]),
            Cell::Code(code) => element("td", &[], [with_text("code", &[], code)]),
            // What it is a part of stands in the table's other columns, and in the hint.
            Cell::Rate(rate) => with_text("td", &[("class", "n"), ("title", &cell.shown())], &percent(*rate)),
            cell if cell.is_number() => with_text("td", &[("class", "n")], &cell.shown()),
            cell => with_text("td", &[], &cell.shown()),
        });
        element("tr", &[], cells)
    });
    let body = element("tbody", &[], rows);
    let whole = element("table", &[], [with_text("caption", &[], table.title), head, body]);
    scroll(table.title, whole)
}

fn percent(rate: Rate) -> String {
    rate.value().map_or_else(|| "none".to_owned(), |value| format!("{:.1} %", value * 100.0))
}

fn scroll(name: &str, table: Markup) -> Markup {
    element("div", &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", name)], [table])
}

fn badge(class: &'static str, says: &str) -> Markup {
    let mark = match class {
        "badge ok" => "✓ ",
        "badge broken" => "✗ ",
        _ => "– ",
    };
    element("span", &[("class", class)], [element("span", &[("aria-hidden", "true")], [text(mark)]), text(says)])
}
