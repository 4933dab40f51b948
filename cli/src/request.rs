//! Asking for a remediation or an undo: an event on the administrator's bus, like any finding. Policy decides.
//!
//! Nothing is changed from here; waiting means to read the ledger until the outcome is in it.

use std::time::{Duration, Instant};

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::Mode;
use redress_common::ids::RemediationId;
use redress_common::ledger::{Record, detail};
use redress_common::names;
use redress_common::state::State;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::args::{Remediate, Undo, Wait};
use crate::aws::Connection;
use crate::ledger::{Ledger, unknown};
use crate::output::{Answer, Output};
use crate::problem::{Exit, Problem};
use crate::timeline::{Sources, Timeline};

/// The clock of the ledger may be behind ours.
const SKEW: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What was asked for, and how its records are known.
pub(crate) struct Asked {
    request: String,
    resource: String,
    what: String,
    at: Timestamp,
    undoes: Option<RemediationId>,
}

pub(crate) async fn undo(undo: Undo, connection: &Connection, output: Output) -> Result<Answer, Problem> {
    let asked = ask_undo(undo.id, undo.dry_run, &undo.reason, connection).await?;
    answer(asked, &undo.wait, &Ledger::new(connection), output).await
}

/// Puts the request for an undo on the bus, when there is something to undo.
pub(crate) async fn ask_undo(
    id: RemediationId,
    dry_run: bool,
    reason: &str,
    connection: &Connection,
) -> Result<Asked, Problem> {
    let records = Ledger::new(connection).of_remediation(id).await?;
    let resource = undoable(id, &records)?.draft.resource_id.clone();
    let mode = if dry_run { Mode::DryRun } else { Mode::Restore };
    let (request, at) = (Uuid::new_v4().to_string(), Timestamp::now());
    let detail = json!({
        "RemediationId": id, "Mode": mode, "Reason": reason, "RequestId": request,
        "RequestedBy": connection.identity().await?,
    });
    put(connection, names::UNDO_DETAIL_TYPE, &detail).await?;
    Ok(Asked { request, at, resource, what: format!("the undo of {id}"), undoes: Some(id) })
}

pub(crate) async fn remediate(asked: Remediate, connection: &Connection, output: Output) -> Result<Answer, Problem> {
    let partition = connection.partition();
    let resource = asked.resource.unwrap_or_else(|| Arn::account_root(partition, &asked.account));
    let mode = if asked.dry_run { Mode::DryRun } else { Mode::Apply };
    let identity = connection.identity().await?;
    let (request, at) = (Uuid::new_v4().to_string(), Timestamp::now());
    let region = asked.resource_region.as_ref().or(resource.region()).unwrap_or(&connection.region);
    let detail = json!({
        "Control": asked.control, "AccountId": asked.account, "Region": region, "ResourceArn": resource,
        "Mode": mode, "Reason": asked.reason, "RequestId": request, "RequestedBy": identity,
    });
    put(connection, names::REMEDIATE_DETAIL_TYPE, &detail).await?;
    let what = format!("{} on {resource}", asked.control);
    let asked_for = Asked { request, at, resource: resource.to_string(), what, undoes: None };
    answer(asked_for, &asked.wait, &Ledger::new(connection), output).await
}

/// The record that says what there is to undo, or why there is nothing.
fn undoable(id: RemediationId, records: &[Record]) -> Result<&Record, Problem> {
    let last = records.last().ok_or_else(|| unknown(id))?;
    let state = last.draft.execution_status;
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

/// Puts one event on the hub.
async fn put(connection: &Connection, detail_type: &str, detail: &Value) -> Result<String, Problem> {
    let doing = format!("ask for it on the bus {}", names::HUB_BUS);
    let entry = PutEventsRequestEntry::builder()
        .event_bus_name(names::HUB_BUS)
        .source(names::EVENT_SOURCE)
        .detail_type(detail_type)
        .detail(detail.to_string())
        .build();
    let answer = aws_sdk_eventbridge::Client::new(&connection.config)
        .put_events()
        .entries(entry)
        .send()
        .await
        .map_err(|error| Problem::aws(&doing, &AwsFailure::of("events:PutEvents", &error)))?;
    let entry = answer.entries().first();
    entry.and_then(|entry| entry.event_id()).map(str::to_owned).ok_or_else(|| {
        let code = entry.and_then(|entry| entry.error_code()).unwrap_or("no event id");
        let message = entry.and_then(|entry| entry.error_message()).unwrap_or("EventBridge took no event");
        Problem::aws(&doing, &AwsFailure::partial("events:PutEvents", format!("{code}: {message}")))
    })
}

async fn answer(asked: Asked, wait: &Wait, ledger: &Ledger, output: Output) -> Result<Answer, Problem> {
    if !wait.wait {
        let text = format!(
            "asked for {} (request {})\nwatch it: redress audit list --resource {}\n",
            asked.what, asked.request, asked.resource
        );
        return Answer::new(
            &json!({ "Asked": asked.what, "RequestId": asked.request, "Resource": asked.resource }),
            text,
        );
    }
    output.progress(&format!("asked for {}, waiting for the outcome …", asked.what));
    let records = outcome(&asked, ledger, Duration::from_secs(wait.timeout)).await?;
    let timeline = Timeline::build(&Sources { records: &records, ..Sources::default() })
        .ok_or_else(|| Problem::failed("the ledger's records went away"))?;
    let exit = exit(timeline.state);
    Ok(Answer::new(&timeline, timeline.render(output.style()))?.exit(exit))
}

/// How a remediation's end is told to a script.
const fn exit(state: State) -> Exit {
    match state {
        State::Verified | State::RolledBack => Exit::Done,
        State::Denied | State::Expired | State::Notified | State::Ignored => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// Reads the ledger, ever more slowly, until the request's remediation has ended.
pub(crate) async fn outcome(asked: &Asked, ledger: &Ledger, timeout: Duration) -> Result<Vec<Record>, Problem> {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    let since = asked.at.checked_sub(SKEW).unwrap_or(asked.at);
    let mut seen = None;
    loop {
        let found = ledger.of_resource(&asked.resource, since, 200).await?;
        if let Some(id) = found.iter().find(|record| asked.is_told_by(record)).map(|record| record.draft.remediation_id)
        {
            // The index may lag behind the table.
            let records = ledger.of_remediation(id).await?;
            if records.last().is_some_and(|record| record.draft.execution_status.is_terminal()) {
                return Ok(records);
            }
            seen = records.last().map(|record| (id, record.draft.execution_status));
        }
        if begun.elapsed() + pause > timeout {
            let (message, look) = match seen {
                None => (
                    "the orchestrator has not recorded it yet".to_owned(),
                    format!("redress audit list --resource {}", asked.resource),
                ),
                Some((id, state)) => (format!("remediation {id} is {state}"), format!("redress audit show {id}")),
            };
            return Err(Problem::timed_out(format!(
                "no outcome of {} after {} s: {message}",
                asked.what,
                timeout.as_secs()
            ))
            .help(format!("it may still happen; look again with `{look}`")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

impl Asked {
    /// Whether a record is of the remediation that this request became.
    fn is_told_by(&self, record: &Record) -> bool {
        let id = self.undoes.map(|id| id.to_string());
        let undoes = id.is_some()
            && record.detail(detail::UNDOES) == id.as_deref()
            && record.draft.timestamp >= self.at.as_millisecond() - 2_000;
        undoes || record.draft.finding_id.contains(&self.request)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_that_held_is_success_for_a_script() {
        assert_eq!(exit(State::Verified), Exit::Done);
        assert_eq!(exit(State::RolledBack), Exit::Done);
        assert_eq!(exit(State::Unverified), Exit::Failed);
        assert_eq!(exit(State::Failed), Exit::Failed);
        assert_eq!(exit(State::Notified), Exit::Refused);
    }
}
