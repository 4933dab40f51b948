//! `redress lab try`: the cases of one control, played in a lab of their own. For whoever writes a control: what is said is
//! what the lab saw, step by step, and the exit code tells whether all of it was right.
//!
//! The catalogue's tests play more (refusals, throttling, changes by hand); this is the short way to see a control work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redress_common::catalogue::Risk;
use redress_common::contract::{Mode, Outcome};
use redress_common::ids::ControlId;
use redress_common::ledger::{Record, detail};
use redress_common::names;
use redress_common::state::State;
use redress_lab::case::{self, Case, CaseError, Played, Undo};
use redress_runbooks::load_controls;
use redress_runbooks::write::CONTROLS;
use serde::Serialize;
use serde_json::Value;

use crate::approvals;
use crate::args::Reader;
use crate::aws::Connection;
use crate::evidence;
use crate::host::{Host, interrupted};
use crate::ledger::Ledger;
use crate::output::{Answer, Output, Tone};
use crate::problem::{Exit, Problem};
use crate::request::{self, Target};
use crate::running::root;

const PATIENCE: Duration = Duration::from_secs(90);
const REASON: &str = "redress lab try";
/// Who says yes to what somebody else asked for.
const SECOND: &str = "second";

/// One case, and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tried {
    case: String,
    title: String,
    resource: String,
    /// The exact change, as the dry run said it.
    change: Value,
    bad: Value,
    fixed: Value,
    undone: Value,
    /// What was not as the case says; empty when all was.
    failures: Vec<String>,
}

/// Plays the cases of a control, and stops what it started whatever happens.
pub(crate) async fn run(control: &str, output: Output) -> Result<Answer, Problem> {
    let id = named(control)?;
    let controls = load_controls(&root().join(CONTROLS)).map_err(|error| Problem::failed(error.to_string()))?;
    let Some(control) = controls.iter().find(|control| control.id == id) else {
        let problem = Problem::not_found(format!("there is no file `{CONTROLS}/{id}.yaml`"));
        return Err(problem.help(format!("begin it with: redress controls new {id}")));
    };
    let mut cases = case::load(&root().join("lab/cases")).map_err(|error| Problem::failed(error.to_string()))?;
    cases.retain(|_, case| case.control == id);
    if cases.is_empty() {
        let problem = Problem::not_found(format!("control {id} has no case in lab/cases/"));
        return Err(problem.help(format!("write lab/cases/{id}.yaml; ssm-documents/README.md says what is in it")));
    }
    let progress = Arc::new(move |text: &str| output.progress(&format!("  {text}")));
    let host = tokio::select! {
        host = Host::start_with(1, 0, Some(&controls), progress) => host?,
        () = interrupted() => return Err(stopped()),
    };
    let played = tokio::select! {
        played = play_all(&host, control.risk, &cases, output) => played,
        () = interrupted() => Err(stopped()),
    };
    output.progress("  stopping what was started");
    host.lab.stop().await;
    let tried = played?;
    let failed = tried.iter().any(|one| !one.failures.is_empty());
    let verdict = if failed { "does NOT keep its promises" } else { "keeps its promises" };
    let text = format!("\n{id} {verdict}; {} case(s) were played\n", tried.len());
    Ok(Answer::new(&tried, text)?.exit(if failed { Exit::Failed } else { Exit::Done }))
}

fn stopped() -> Problem {
    Problem::failed("it was interrupted").help("nothing is left running; start it again when you like")
}

/// The control of an id or of a file's name.
fn named(control: &str) -> Result<ControlId, Problem> {
    let stem = Path::new(control).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let id = stem.strip_suffix(".yaml").unwrap_or(&stem);
    id.parse().map_err(|error| Problem::failed(format!("`{control}` names no control: {error}")))
}

async fn play_all(
    host: &Host,
    risk: Risk,
    cases: &BTreeMap<String, Case>,
    output: Output,
) -> Result<Vec<Tried>, Problem> {
    // Whoever asks for what is destructive cannot approve it.
    let people = People {
        asks: host.operator().await?,
        approves: if risk == Risk::Destructive { Some(host.operator_called(SECOND).await?) } else { None },
    };
    let mut tried = Vec::new();
    for (name, case) in cases {
        let heading = format!("{name}: {}", case.title);
        output.say(&format!("\n{}\n", output.style().paint(Tone::Strong, &heading)));
        let one = play(host, &people, name, case, output).await?;
        for failure in &one.failures {
            output.say(&format!("  {} {failure}\n", output.style().paint(Tone::Bad, "wrong")));
        }
        tried.push(one);
    }
    Ok(tried)
}

/// Who takes part.
struct People {
    asks: Connection,
    /// Who says yes to what is destructive.
    approves: Option<Connection>,
}

impl People {
    /// Asks, says yes where that is needed, and waits for the end.
    async fn ask(&self, target: &Target, mode: Mode) -> Result<Vec<Record>, Problem> {
        let ledger = Ledger::new(&self.asks);
        let asked = request::ask_remediation(target, mode, REASON, &self.asks).await?;
        if let Some(second) = &self.approves {
            let records = request::question(&asked, &ledger, PATIENCE).await?;
            if let Some(Record { draft, .. }) = records.last()
                && draft.execution_status == State::AwaitingApproval
            {
                let approval = approvals::question(draft.remediation_id, second).await?;
                let approval = approval.ok_or_else(|| approvals::none(draft.remediation_id))?;
                approvals::answer_to(&approval, true, REASON, second).await?;
            }
        }
        request::outcome(&asked, &ledger, PATIENCE).await
    }
}

async fn play(host: &Host, people: &People, name: &str, case: &Case, output: Output) -> Result<Tried, Problem> {
    let connection = &people.asks;
    let organisation = &host.organisation;
    let member = organisation.members.first().ok_or_else(|| Problem::failed("the lab has no member account"))?;
    let failed = |error: CaseError| Problem::failed(format!("{name}: {error}"));
    let played = Played::set_up(case, host.lab.aws(), &member.id, &organisation.region).await.map_err(failed)?;
    let say = |what: &str, seen: &Value| output.say(&format!("  {what:<8} {seen}\n"));
    let ledger = Ledger::new(connection);
    let target = Target {
        control: case.control.clone(),
        account: member.id.clone(),
        region: organisation.region.clone(),
        resource: played.arn.clone(),
    };
    let ask = async |mode: Mode| people.ask(&target, mode).await;
    let mut failures = Vec::new();
    let mut expect = |right: bool, otherwise: &str, seen: &str| {
        if !right {
            failures.push(format!("{otherwise}: {seen}"));
        }
    };

    let bad = played.state().await.map_err(failed)?;
    say("bad", &bad);
    let dry = ask(Mode::DryRun).await?;
    expect(is(&dry, Outcome::Planned), "the dry run is not `Planned`", &ended(&dry));
    let reader = Reader {
        reader_role: names::EVIDENCE_READER_ROLE.to_owned(),
        external_id: Some(organisation.external_ids.reveal().to_owned()),
        home_region: None,
    };
    let opened = evidence::read(&dry, &reader, connection).await?;
    let change = serde_json::to_value(&opened.before.change).unwrap_or_default();
    say("change", &change);
    let wanted = played.change().map_err(failed)?;
    expect(change == wanted, "the change is not the case's", &format!("{wanted} was expected"));

    let applied = ask(Mode::Apply).await?;
    expect(is(&applied, Outcome::Verified), "the fix is not `Verified`", &ended(&applied));
    let fixed = played.state().await.map_err(failed)?;
    say("fixed", &fixed);
    let wanted = played.after(&bad).map_err(failed)?;
    expect(fixed == wanted, "the state after it is not the case's", &format!("{wanted} was expected"));
    let again = ask(Mode::Apply).await?;
    expect(is(&again, Outcome::AlreadyCompliant), "a second fix finds work to do", &ended(&again));

    if let Some(first) = applied.first() {
        let asked = request::ask_undo(first.draft.remediation_id, REASON, connection).await?;
        let undo = request::outcome(&asked, &ledger, PATIENCE).await?;
        match &case.undo {
            Undo::Calls(_) => expect(is(&undo, Outcome::Restored), "the undo is not `Restored`", &ended(&undo)),
            Undo::Refused(why) => {
                expect(ended(&undo).contains(&why.none), "the undo does not say why it is refused", &ended(&undo));
            }
        }
    }
    let undone = played.state().await.map_err(failed)?;
    say("undone", &undone);
    match &case.undo {
        Undo::Calls(_) => {
            expect(undone == bad, "the undo did not put back what was there", &format!("{bad} was expected"));
        }
        Undo::Refused(_) => {
            expect(undone == fixed, "an undo that is refused changed something", &format!("{fixed} was expected"));
        }
    }
    let resource = played.arn.to_string();
    Ok(Tried { case: name.to_owned(), title: case.title.clone(), resource, change, bad, fixed, undone, failures })
}

fn is(records: &[Record], wanted: Outcome) -> bool {
    records.last().and_then(|record| record.detail(detail::OUTCOME)) == Some(wanted.as_str())
}

/// How it ended, for people.
fn ended(records: &[Record]) -> String {
    let Some(last) = records.last() else { return "there is no record of it".to_owned() };
    let why = if last.draft.error_message.is_empty() {
        last.detail(detail::REASON).unwrap_or_default()
    } else {
        &last.draft.error_message
    };
    format!("{} {why}", last.draft.execution_status)
}
