//! `redress lab demo`: the main job, whole, on this machine. What happens is collected as a value ([`Report`]);
//! people see it told as it happens, programs get it at the end.
//!
//! It uses what an operator has: a session of the operator's role, the ledger, the bus. Only breaking things and
//! reading them back is done as the account's root, as their owners would.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redress_common::ids::RemediationId;
use redress_common::ledger::{Record, detail};
use redress_common::names;
use redress_common::state::State;
use redress_lab::scenario::{self, Broken};
use serde::Serialize;
use serde_json::Value;

use crate::args::Reader;
use crate::audit::{self, Verdict};
use crate::aws::Connection;
use crate::evidence::{self, Opened};
use crate::host::{self, Host, interrupted};
use crate::ledger::Ledger;
use crate::output::{Answer, Output, Style, Text, Tone};
use crate::problem::{Exit, Problem};
use crate::request;
use crate::timeline::{Sources, Stage, Timeline, span, tone};

const MEMBERS: u8 = 3;
/// The scenario whose evidence is opened and which is undone.
const SHOWN: &str = "public-bucket";
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(150);

/// All that the demo has to say.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    administrator: String,
    members: Vec<String>,
    broken: Vec<Case>,
    timelines: Vec<Timeline>,
    audit: Vec<Record>,
    verdicts: Vec<Verdict>,
    evidence: Option<Opened>,
    undo: Option<Undone>,
    milliseconds: u64,
    /// What did not go as it should; empty when all did.
    failures: Vec<String>,
}

/// One thing that was broken, and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Case {
    #[serde(flatten)]
    broken: Broken,
    title: &'static str,
    /// The resource while it was bad.
    bad: Value,
    remediation_id: Option<RemediationId>,
}

/// The undo of one remediation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Undone {
    timeline: Timeline,
    /// The resource before it was fixed, while it was fixed, and after the undo.
    bad: Value,
    fixed: Value,
    after: Value,
    equal: bool,
}

/// Runs it, and stops what it started whatever happens.
pub(crate) async fn run(output: Output) -> Result<Answer, Problem> {
    let begun = Instant::now();
    let style = output.style();
    let say = move |text: &str| output.say(text);
    say(&heading(style, "An organisation on this machine: one administrator, three members"));
    let progress = Arc::new(move |text: &str| output.progress(&format!("  {text}")));
    let host = tokio::select! {
        host = Host::start(MEMBERS, 0, progress) => host?,
        () = interrupted() => return Err(stopped()),
    };
    let mut report = Report {
        administrator: host.organisation.administrator.id.to_string(),
        members: host.organisation.members.iter().map(|member| member.id.to_string()).collect(),
        ..Report::default()
    };
    let shown = tokio::select! {
        shown = show(&host, &mut report, output) => shown,
        () = interrupted() => Err(stopped()),
    };
    output.progress("  stopping what was started");
    host.lab.stop().await;
    if let Err(problem) = shown {
        // What was seen until then was said; for programs, all of it is in the document.
        if !output.is_json() {
            return Err(problem);
        }
        report.failures.push(problem.to_string());
    }
    report.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let exit = if report.failures.is_empty() { Exit::Done } else { Exit::Failed };
    let text = closing(&report, style, &host::alias());
    Ok(Answer::new(&report, text)?.exit(exit))
}

fn stopped() -> Problem {
    Problem::failed("the demo was interrupted").help("nothing is left running; start it again when you like")
}

async fn show(host: &Host, report: &mut Report, output: Output) -> Result<(), Problem> {
    let style = output.style();
    let connection = host.operator().await?;
    let ledger = Ledger::new(&connection);

    output.say(&heading(style, "Six resources are broken, and AWS Config notices"));
    let since = Timestamp::now();
    report.broken = break_all(host).await?;
    output.say(&cases(&report.broken, style));
    for case in &report.broken {
        scenario::notice(host.lab.aws(), &case.broken)
            .await
            .map_err(|error| Problem::aws("let AWS Config notice", &error))?;
    }

    output.say(&heading(style, "Redress repairs them"));
    let found = watch(&ledger, &report.broken, since, output).await?;
    for case in &mut report.broken {
        let Some(id) = found.get(case.broken.resource_arn.as_str()).and_then(|of| of.get(case.broken.control.as_str()))
        else {
            report.failures.push(format!("{} on {} was not taken up", case.broken.control, case.broken.resource_arn));
            continue;
        };
        case.remediation_id = Some(*id);
        report.timelines.push(timeline(host, &ledger, *id).await?);
    }
    for timeline in &report.timelines {
        output.say(&format!("\n{}", timeline.render(style)));
        if timeline.state != State::Verified {
            report.failures.push(format!("{} on {} ended as {}", timeline.control, timeline.resource, timeline.state));
        }
    }

    let Some((index, id)) = shown(&report.broken) else {
        return Err(Problem::failed(format!("`{SHOWN}` was not remediated: there is nothing to show and to undo")));
    };
    output.say(&heading(style, "What the auditor sees: hash-chained records, and the chain of every account"));
    report.audit = ledger.of_remediation(id).await?;
    output.say(&audit::render_records(&report.audit, style));
    for member in &host.organisation.members {
        let verdict = audit::verdict(&ledger, &member.id).await?;
        output.say(&verdict.render(style));
        if !verdict.is_intact() {
            report.failures.push(format!("the chain of account {} does not hold", member.id));
        }
        report.verdicts.push(verdict);
    }

    output.say(&heading(style, "The evidence, stored encrypted in the member account before anything was changed"));
    let opened = evidence::read(&report.audit, &reader(host), &connection).await?;
    output.say(&opened.render(style));
    report.evidence = Some(opened);

    output.say(&heading(style, &format!("And back: redress undo {id}")));
    let undone = undo(host, &connection, &ledger, &report.broken[index], id).await?;
    output.say(&undone.render(style));
    if !undone.equal {
        report.failures.push("after the undo the resource is not what it was before".to_owned());
    }
    report.undo = Some(undone);
    Ok(())
}

/// Breaks one thing after the other, in one member account after the other.
async fn break_all(host: &Host) -> Result<Vec<Case>, Problem> {
    let failed = |error: &dyn std::error::Error| Problem::aws("break a resource", error);
    let (members, region) = (&host.organisation.members, &host.organisation.region);
    let mut cases = Vec::new();
    for (scenario, member) in scenario::list().iter().zip(members.iter().cycle()) {
        let broken = scenario::break_only(scenario.name, host.lab.aws(), &member.id, region).await;
        let broken = broken.map_err(|error| failed(&error))?;
        let bad = scenario::read_state(host.lab.aws(), &broken).await.map_err(|error| failed(&error))?;
        cases.push(Case { broken, title: scenario.title, bad, remediation_id: None });
    }
    Ok(cases)
}

/// Remediations, by resource and control.
type Found = BTreeMap<String, BTreeMap<String, RemediationId>>;

/// Follows the ledger until every case has ended, telling each new state once.
async fn watch(ledger: &Ledger, cases: &[Case], since: Timestamp, output: Output) -> Result<Found, Problem> {
    let begun = Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let mut records = ledger.of_all(since).await?;
        records.sort_by_key(|record| (record.draft.timestamp, record.seq));
        let mut found = Found::new();
        let mut ended = 0;
        for record in &records {
            let control = record.detail(detail::CONTROL).unwrap_or_default();
            let state = record.draft.execution_status;
            if seen.insert((record.origin.clone(), record.seq)) {
                let offset = span(record.draft.timestamp - since.as_millisecond());
                let state = output.style().paint(tone(state), &format!("{:<9}", state.as_str()));
                output.say(&format!("  +{offset}  {state} {control:<13} {}\n", record.draft.resource_id));
            }
            if is_of(cases, record, control) {
                let of = found.entry(record.draft.resource_id.clone()).or_default();
                of.insert(control.to_owned(), record.draft.remediation_id);
                ended += usize::from(state.is_terminal());
            }
        }
        if ended >= cases.len() {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            return Err(Problem::timed_out(format!(
                "after {} s, {ended} of {} remediations have ended",
                PATIENCE.as_secs(),
                cases.len()
            ))
            .help("`redress lab up` and `redress lab break` show where one stands: look at `redress lab status` and `redress lab record --denied`"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_of(cases: &[Case], record: &Record, control: &str) -> bool {
    let fits = |case: &Case| {
        case.broken.resource_arn.as_str() == record.draft.resource_id
            && case.broken.account == record.draft.account_id
            && case.broken.control.as_str() == control
    };
    cases.iter().any(fits)
}

/// A remediation with all that the lab saw of it.
async fn timeline(host: &Host, ledger: &Ledger, id: RemediationId) -> Result<Timeline, Problem> {
    let records = ledger.of_remediation(id).await?;
    let newest = |key| records.iter().rev().find_map(|record| record.detail(key));
    let steps = match (records.last(), newest(detail::EXECUTION_ID)) {
        (Some(last), Some(execution)) => host.steps(&last.draft.account_id, execution).await,
        _ => Vec::new(),
    };
    let calls = host.lab.record().calls();
    Timeline::build(&Sources { records: &records, steps, calls: &calls }).ok_or_else(|| crate::ledger::unknown(id))
}

fn shown(cases: &[Case]) -> Option<(usize, RemediationId)> {
    let index = cases.iter().position(|case| case.broken.scenario == SHOWN)?;
    Some((index, cases[index].remediation_id?))
}

fn reader(host: &Host) -> Reader {
    Reader {
        reader_role: names::EVIDENCE_READER_ROLE.to_owned(),
        external_id: Some(host.organisation.external_ids.reveal().to_owned()),
        home_region: None,
    }
}

async fn undo(
    host: &Host,
    connection: &Connection,
    ledger: &Ledger,
    case: &Case,
    id: RemediationId,
) -> Result<Undone, Problem> {
    let read = async || {
        let state = scenario::read_state(host.lab.aws(), &case.broken).await;
        state.map_err(|error| Problem::aws("read the resource back", &error))
    };
    let fixed = read().await?;
    let asked = request::ask_undo(id, "the demo puts it back", connection).await?;
    let records = request::outcome(&asked, ledger, PATIENCE).await?;
    let after = read().await?;
    let own = records.first().ok_or_else(|| Problem::failed("the undo left no record"))?.draft.remediation_id;
    let timeline = timeline(host, ledger, own).await?;
    let equal = after == case.bad && fixed != case.bad;
    Ok(Undone { timeline, bad: case.bad.clone(), fixed, after, equal })
}

impl Undone {
    fn render(&self, style: Style) -> String {
        let verdict = if self.equal {
            style.paint(Tone::Good, "the resource equals its pre-image")
        } else {
            style.paint(Tone::Bad, "the resource does NOT equal its pre-image")
        };
        let states = [("bad", &self.bad), ("fixed", &self.fixed), ("undone", &self.after)];
        let states: String = states.iter().map(|(name, state)| format!("  {name:<7} {state}\n")).collect();
        format!("{}{states}  {verdict}\n", self.timeline.render(style))
    }
}

fn heading(style: Style, text: &str) -> String {
    format!("\n{}\n", style.paint(Tone::Strong, text))
}

fn cases(cases: &[Case], style: Style) -> String {
    let rows = cases.iter().map(|case| {
        let broken = &case.broken;
        [
            broken.account.as_str().into(),
            Text::toned(Tone::Bad, broken.control.as_str()),
            case.title.into(),
            broken.resource_arn.as_str().into(),
        ]
    });
    style.table(["Account", "Control", "What", "Resource"], rows)
}

fn closing(report: &Report, style: Style, alias: &str) -> String {
    if !report.failures.is_empty() {
        let failures: String = report.failures.iter().map(|failure| format!("  {failure}\n")).collect();
        return format!("{}{failures}", heading(style, &style.paint(Tone::Bad, "What did not go as it should")));
    }
    let repaired = report.timelines.iter().filter(|timeline| timeline.state == State::Verified).count();
    let slowest = report.timelines.iter().map(|timeline| timeline.milliseconds).max().unwrap_or_default();
    let steps = report
        .timelines
        .iter()
        .flat_map(|timeline| &timeline.entries)
        .filter(|entry| entry.stage == Stage::Step)
        .count();
    format!(
        "{}  {repaired} repaired in {steps} runbook steps, the slowest {} after its event; 1 undone; {} in all

What to try next:
{}  redress lab up                    the same organisation, to play with
  redress lab scenarios             what can be broken: redress lab break <scenario>
  redress why <RemediationId>       which policy decided, and who asked
  redress controls show S3.8        what a control is; ssm-documents/controls/S3.8.yaml is all of it
",
        heading(style, "Done"),
        span(slowest),
        span(i64::try_from(report.milliseconds).unwrap_or(i64::MAX)),
        alias,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;
    use serde_json::json;

    fn timeline() -> Timeline {
        Timeline::build(&Sources { records: &fixture::verified(), ..Sources::default() }).unwrap()
    }

    fn undone(equal: bool) -> Undone {
        let (bad, fixed) =
            (json!({ "PublicAccessBlock": null }), json!({ "PublicAccessBlock": { "BlockPublicAcls": true } }));
        let after = if equal { bad.clone() } else { fixed.clone() };
        Undone { timeline: timeline(), bad, fixed, after, equal }
    }

    #[test]
    fn an_undo_shows_the_three_states_and_the_verdict() {
        insta::assert_snapshot!(undone(true).render(Style::PLAIN));
        assert!(undone(false).render(Style::PLAIN).contains("does NOT equal"));
    }

    #[test]
    fn the_end_says_what_was_done_and_what_to_try_next() {
        let report = Report { timelines: vec![timeline()], milliseconds: 7_250, ..Report::default() };
        insta::assert_snapshot!(closing(&report, Style::PLAIN, ""));
    }

    #[test]
    fn failures_are_all_that_is_said_at_the_end_when_there_are_any() {
        let report = Report { failures: vec!["KMS.4 on key ended as Failed".to_owned()], ..Report::default() };
        assert_eq!(
            closing(&report, Style::PLAIN, ""),
            "\nWhat did not go as it should\n  KMS.4 on key ended as Failed\n"
        );
    }

    #[test]
    fn a_record_of_another_control_on_the_same_resource_is_no_end_of_the_case() {
        let records = fixture::verified();
        let broken = Broken {
            scenario: SHOWN.to_owned(),
            control: "S3.8".parse().unwrap(),
            account: fixture::account(),
            region: "eu-central-1".parse().unwrap(),
            resource_arn: "arn:aws:s3:::my-bucket".parse().unwrap(),
        };
        let cases = [Case { broken, title: "", bad: Value::Null, remediation_id: None }];
        assert!(is_of(&cases, &records[0], "S3.8"));
        assert!(!is_of(&cases, &records[0], "S3.1"));
    }
}
