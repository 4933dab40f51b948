//! Asking for a remediation or an undo. The api puts it on the bus in the caller's name, like any finding; policy decides.
//!
//! Nothing is changed from here; waiting means to read the ledger until the outcome is in it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::contract::{Mode, Outcome};
use redress_common::eks::EntryName;
use redress_common::finding::Check;
use redress_common::ids::{AccountId, ClaimKey, ControlId, Region, RemediationId};
use redress_common::ledger::{Record, RecordDraft, detail};
use redress_common::operate::Request;
use redress_common::state::State;
use serde_json::json;
use uuid::Uuid;

use crate::api;
use crate::args::{Contain, Reader, Remediate, Undo, Wait};
use crate::audit::indented;
use crate::aws::Connection;
use crate::controls;
use crate::evidence;
use crate::ledger::{Ledger, unknown};
use crate::output::{Answer, Output, Style, Tone};
use crate::problem::{Exit, Problem};
use crate::timeline::{Sources, Timeline};

/// The clock of the ledger may be behind ours.
const SKEW: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What was asked for, and how its remediation is known in the ledger.
pub(crate) struct Asked {
    what: String,
    resource: String,
    known: Known,
    at: Timestamp,
}

/// Two ways to know what a request became.
enum Known {
    /// By its id: one of these, as the orchestrator makes them of the request.
    Ids(Vec<RemediationId>),
    /// By its finding, which names the request.
    Finding(String),
}

pub(crate) async fn undo(undo: Undo, connection: &Connection, output: Output) -> Result<Answer, Problem> {
    if undo.dry_run {
        return show_undo(undo.id, &undo.reader, connection, output.style()).await;
    }
    let asked = ask_undo(undo.id, &undo.reason, connection).await?;
    answer(asked, &undo.wait, &Ledger::new(connection), output).await
}

/// What an undo would put back. Whether the resource drifted since is seen by the undo itself only.
async fn show_undo(
    id: RemediationId,
    reader: &Reader,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    let records = Ledger::new(connection).of_remediation(id).await?;
    let resource = undoable(id, &records)?.draft.resource_id.clone();
    let image = evidence::read(&records, reader, connection).await?.before.pre_image;
    let text = if image.present {
        format!(
            "the undo of {id} would put this back on {resource}, unless it was changed since:\n{}",
            indented(&image.state)
        )
    } else {
        format!(
            "the undo of {id} would remove the setting from {resource}, unless it was changed since: it was not there before\n"
        )
    };
    let text = style.paint(Tone::Strong, "Dry run") + "  " + &text;
    Answer::new(&json!({ "RemediationId": id, "Resource": resource, "PutBack": image }), text)
}

/// Puts the request for an undo on the bus, when there is something to undo.
pub(crate) async fn ask_undo(id: RemediationId, reason: &str, connection: &Connection) -> Result<Asked, Problem> {
    let records = Ledger::new(connection).of_remediation(id).await?;
    let last = undoable(id, &records)?;
    let (request, at) = (Uuid::new_v4().to_string(), Timestamp::now());
    let refused = RemediationId::of_rejected(format!("undo:{id}:{request}").as_bytes());
    let ids = claim_key(&records).map(|key| RemediationId::of_request(&key, &request)).into_iter().chain([refused]);
    let asked = Request::Undo { remediation_id: id, request_id: request, reason: reason.to_owned() };
    api::call(connection, &asked).await?;
    let (what, resource) = (format!("the undo of {id}"), last.draft.resource_id.clone());
    Ok(Asked { what, resource, known: Known::Ids(ids.collect()), at })
}

/// The claim that a remediation ran under, which its undo runs under too.
fn claim_key(records: &[Record]) -> Option<ClaimKey> {
    let claimed = records.iter().rev().find(|record| record.draft.execution_status == State::Claimed)?;
    let region = claimed.detail(detail::REGION)?.parse().ok()?;
    let control = claimed.detail(detail::CONTROL)?.parse().ok()?;
    Some(ClaimKey::new(&claimed.draft.account_id, &region, &control, &claimed.draft.resource_id.parse().ok()?))
}

pub(crate) async fn remediate(asked: Remediate, connection: &Connection, output: Output) -> Result<Answer, Problem> {
    let partition = connection.partition();
    let resource = asked.resource.unwrap_or_else(|| Arn::account_root(partition, &asked.account));
    let mode = if asked.dry_run { Mode::DryRun } else { Mode::Apply };
    let region = asked.resource_region.as_ref().or(resource.region()).unwrap_or(&connection.region).clone();
    let target = Target { control: asked.control, account: asked.account, region, resource };
    let asked_for = ask_remediation(&target, mode, &asked.reason, connection).await?;
    answer(asked_for, &asked.wait, &Ledger::new(connection), output).await
}

/// Containment is the remediation by the playbook of the resource's type.
pub(crate) async fn contain(asked: Contain, connection: &Connection, output: Output) -> Result<Answer, Problem> {
    let (resource, catalogue) = (asked.resource, controls::catalogue()?);
    let Some((control, _)) = catalogue.resolve_on(&Check::Containment, &resource) else {
        let problem = Problem::not_found(format!("no playbook contains `{resource}`"));
        return Err(problem.help("`redress controls search Contain` shows what can be contained"));
    };
    let account = asked.account.as_ref().or(resource.account()).cloned();
    let account = account.ok_or_else(|| {
        Problem::refused(format!("the arn of `{resource}` does not say whose it is")).help("say it with --account")
    })?;
    let mode = if asked.dry_run { Mode::DryRun } else { Mode::Apply };
    let region = asked.resource_region.as_ref().or(resource.region()).unwrap_or(&connection.region).clone();
    let target = Target { control: control.clone(), account, region, resource };
    let asked_for = ask_remediation(&target, mode, &asked.reason, connection).await?;
    answer(asked_for, &asked.wait, &Ledger::new(connection), output).await
}

/// What a remediation is asked for.
pub(crate) struct Target {
    pub(crate) control: ControlId,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) resource: Arn,
}

/// Puts the request for a remediation, or for a dry run of one, on the bus.
pub(crate) async fn ask_remediation(
    target: &Target,
    mode: Mode,
    reason: &str,
    connection: &Connection,
) -> Result<Asked, Problem> {
    let (request, at) = (Uuid::new_v4().to_string(), Timestamp::now());
    // As the orchestrator will know it, and the ledger tell of it.
    let resource = EntryName::canonical(&target.resource).unwrap_or_else(|| target.resource.clone());
    let wanted = Request::Remediate {
        control: target.control.clone(),
        account_id: target.account.clone(),
        region: target.region.clone(),
        resource_arn: resource.clone(),
        mode,
        request_id: request.clone(),
        reason: reason.to_owned(),
    };
    api::call(connection, &wanted).await?;
    let what = format!("{} on {resource}", target.control);
    let known = Known::Finding(format!("redress/{request}"));
    Ok(Asked { what, resource: resource.to_string(), known, at })
}

/// Waits for the end of a remediation that somebody asked for before.
pub(crate) async fn follow(
    id: RemediationId,
    what: String,
    resource: String,
    wait: &Wait,
    connection: &Connection,
    output: Output,
) -> Result<Answer, Problem> {
    let asked = Asked { what, resource, known: Known::Ids(vec![id]), at: Timestamp::now() };
    answer(asked, wait, &Ledger::new(connection), output).await
}

/// The record that says what there is to undo, or why there is nothing.
fn undoable(id: RemediationId, records: &[Record]) -> Result<&Record, Problem> {
    let last = records.last().ok_or_else(|| unknown(id))?;
    let state = last.draft.execution_status;
    if last.draft.resource_type.starts_with("Redress::") {
        return Err(Problem::refused(format!("`{id}` is an operator's change: {}", last.draft.remediation_action))
            .help("set it back with the command that changed it; `redress audit show` says what it was"));
    }
    if state == State::RolledBack {
        let by = last.detail(detail::UNDONE_BY).map(|by| format!(" by {by}")).unwrap_or_default();
        return Err(Problem::refused(format!("remediation `{id}` was undone{by}"))
            .help("to undo an undo, remediate again: `redress remediate`"));
    }
    if last.detail(detail::UNDOES).is_some_and(|undone| !undone.is_empty()) {
        return Err(Problem::refused(format!("remediation `{id}` is an undo"))
            .help("to undo an undo, remediate again: `redress remediate`"));
    }
    if !records.iter().any(|record| record.draft.execution_status.is_undoable()) {
        let why = if state.is_terminal() { "it changed nothing" } else { "it has not ended" };
        return Err(Problem::refused(format!("remediation `{id}` cannot be undone: {why} ({state})"))
            .help(format!("`redress audit show {id}` says what it did")));
    }
    Ok(last)
}

async fn answer(asked: Asked, wait: &Wait, ledger: &Ledger, output: Output) -> Result<Answer, Problem> {
    if !wait.wait {
        let text = format!("asked for {}\nwatch it: redress audit list --resource {}\n", asked.what, asked.resource);
        return Answer::new(&json!({ "Asked": asked.what, "Resource": asked.resource }), text);
    }
    output.progress(&format!("asked for {}, waiting for the outcome …", asked.what));
    let records = outcome(&asked, ledger, Duration::from_secs(wait.timeout)).await?;
    let timeline = Timeline::build(&Sources { records: &records, ..Sources::default() })
        .ok_or_else(|| Problem::failed("the ledger's records went away"))?;
    let mut text = timeline.render(output.style());
    if said(&records) == Some(Outcome::Planned.as_str()) {
        text.push_str(&format!(
            "nothing was changed; the exact change: redress audit show {} --evidence\n",
            timeline.remediation_id
        ));
    }
    Ok(Answer::new(&timeline, text)?.exit(exit(&records)))
}

/// The member account's own word for how it ended.
pub(crate) fn said(records: &[Record]) -> Option<&str> {
    records.last()?.detail(detail::OUTCOME)
}

/// How a remediation's end is told to a script.
fn exit(records: &[Record]) -> Exit {
    let Some(last) = records.last() else { return Exit::Failed };
    let claimed = records.iter().any(|record| record.draft.execution_status == State::Claimed);
    match (last.draft.execution_status, said(records)) {
        (State::Verified | State::RolledBack, _) | (_, Some("Planned")) => Exit::Done,
        (State::Denied | State::Expired | State::Notified | State::Ignored, _) | (_, Some("Drifted")) => Exit::Refused,
        // What never got as far as a claim was turned away.
        (_, _) if !claimed => Exit::Refused,
        (_, _) => Exit::Failed,
    }
}

/// Reads the ledger, ever more slowly, until the request's remediation has ended.
pub(crate) async fn outcome(asked: &Asked, ledger: &Ledger, timeout: Duration) -> Result<Vec<Record>, Problem> {
    until(|record| record.execution_status.is_terminal(), asked, ledger, timeout).await
}

/// The same, until people are asked about it, or it has ended without that.
pub(crate) async fn question(asked: &Asked, ledger: &Ledger, timeout: Duration) -> Result<Vec<Record>, Problem> {
    // That they will be asked is written down before there is a plan to ask about.
    let is_asked =
        |record: &RecordDraft| record.execution_status == State::AwaitingApproval && record.notification_sent;
    until(|record| is_asked(record) || record.execution_status.is_terminal(), asked, ledger, timeout).await
}

async fn until(
    has_come: impl Fn(&RecordDraft) -> bool,
    asked: &Asked,
    ledger: &Ledger,
    timeout: Duration,
) -> Result<Vec<Record>, Problem> {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let records = records(asked, ledger).await?;
        if records.last().is_some_and(|record| has_come(&record.draft)) {
            return Ok(records);
        }
        if begun.elapsed() + pause > timeout {
            let (message, look) = match records.last() {
                None => (
                    "the orchestrator has not recorded it yet".to_owned(),
                    format!("redress audit list --resource {}", asked.resource),
                ),
                Some(Record { draft, .. }) => (
                    format!("remediation {} is {}", draft.remediation_id, draft.execution_status),
                    format!("redress audit show {}", draft.remediation_id),
                ),
            };
            let waited = timeout.as_secs();
            return Err(Problem::timed_out(format!("no outcome of {} after {waited} s: {message}", asked.what))
                .help(format!("it may still happen; look again with `{look}`")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// What the ledger has of the request until now.
async fn records(asked: &Asked, ledger: &Ledger) -> Result<Vec<Record>, Problem> {
    match &asked.known {
        Known::Ids(ids) => {
            for id in ids {
                let records = ledger.find(*id).await?;
                if !records.is_empty() {
                    return Ok(records);
                }
            }
            Ok(Vec::new())
        }
        Known::Finding(finding) => {
            let since = asked.at.checked_sub(SKEW).unwrap_or(asked.at);
            let found = ledger.of_resource(&asked.resource, since, 200).await?;
            // The first one: a plan, and copies, are remediations of their own of the same finding, and come later.
            match found.iter().rfind(|record| record.draft.finding_id == *finding) {
                // The index may lag behind the table.
                Some(record) => ledger.find(record.draft.remediation_id).await,
                None => Ok(Vec::new()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;

    /// The exit code when the last record says so.
    fn ends(state: State, outcome: &str) -> Exit {
        let mut records = fixture::verified();
        let last = records.last_mut().unwrap();
        last.draft.execution_status = state;
        last.draft.detail.insert(detail::OUTCOME.to_owned(), outcome.to_owned());
        exit(&records)
    }

    #[test]
    fn only_what_was_asked_for_is_success_for_a_script() {
        assert_eq!(ends(State::Verified, "Verified"), Exit::Done);
        assert_eq!(ends(State::RolledBack, "Restored"), Exit::Done);
        assert_eq!(ends(State::Notified, "Planned"), Exit::Done);
        assert_eq!(ends(State::Unverified, "Unverified"), Exit::Failed);
        assert_eq!(ends(State::Failed, "Failed"), Exit::Failed);
        assert_eq!(ends(State::Failed, "Drifted"), Exit::Refused);
        assert_eq!(ends(State::Notified, ""), Exit::Refused);
    }

    #[test]
    fn what_was_turned_away_before_a_claim_was_refused() {
        assert_eq!(exit(&fixture::failed()), Exit::Refused);
        assert_eq!(exit(&[]), Exit::Failed);
    }

    #[test]
    fn what_changed_something_is_undoable_and_says_otherwise_why_not() {
        let id = fixture::ID.parse().unwrap();
        let records = fixture::verified();
        assert_eq!(undoable(id, &records).unwrap().seq, 3);
        let refusal = |records: &[Record]| undoable(id, records).unwrap_err().plain();
        assert!(refusal(&records[..2]).contains("it has not ended (Claimed)"));
        let mut undone = records.clone();
        undone[2].draft.execution_status = State::RolledBack;
        assert!(refusal(&undone).contains("was undone"));
        let mut an_undo = records;
        an_undo[2].draft.detail.insert(detail::UNDOES.to_owned(), "x".to_owned());
        assert!(refusal(&an_undo).contains("is an undo"));
    }

    #[test]
    fn an_undo_is_known_by_the_claim_that_it_undoes() {
        let records = fixture::verified();
        let arn = "arn:aws:s3:::my-bucket".parse().unwrap();
        let (region, control) = ("eu-central-1".parse().unwrap(), "S3.8".parse().unwrap());
        assert_eq!(claim_key(&records), Some(ClaimKey::new(&fixture::account(), &region, &control, &arn)));
        assert_eq!(claim_key(&fixture::failed()), None);
    }
}
