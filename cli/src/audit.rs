//! `redress audit`: what the ledger says, what the evidence says, and whether the chain holds.

mod bucket;
mod cloudtrail;
mod export;
mod key;
mod verify;

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::ids::{AccountId, RemediationId};
use redress_common::ledger::{self, Record};
use serde_json::{Value, json};

use crate::args::{Audit, Global, Reader};
use crate::aws::Connection;
use crate::evidence;
use crate::ledger::{Ledger, unknown};
use crate::output::{Answer, Output, Style, Text, Tone};
use crate::problem::Problem;
use crate::timeline::{Sources, Timeline, tone};

pub(crate) use verify::{Verdict, verdict};

pub(crate) async fn run(command: Audit, global: &Global, output: Output) -> Result<Answer, Problem> {
    let style = output.style();
    match command {
        Audit::Show { id, evidence, reader } => {
            show(id, evidence.then_some(reader), &Connection::new(global).await?, style).await
        }
        Audit::List { account, resource, since, limit } => {
            list(account.as_ref(), resource.as_ref(), since, limit, &Connection::new(global).await?, style).await
        }
        Audit::Export { account, to, since } => {
            export::run(&account, &to, since, &Connection::new(global).await?, output).await
        }
        Audit::Verify(asked) => verify::run(&asked, global, output).await,
    }
}

async fn show(
    id: RemediationId,
    reader: Option<Reader>,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    let records = Ledger::new(connection).of_remediation(id).await?;
    let timeline = Timeline::build(&Sources { records: &records, ..Sources::default() }).ok_or_else(|| unknown(id))?;
    let evidence = match reader {
        None => None,
        Some(reader) => Some(evidence::read(&records, &reader, connection).await?),
    };
    let mut text = format!("{}\n{}", timeline.render(style), render_records(&records, style));
    if let Some(evidence) = &evidence {
        text.push('\n');
        text.push_str(&evidence.render(style));
    }
    Answer::new(&json!({ "RemediationId": id, "Records": records, "Timeline": timeline, "Evidence": evidence }), text)
}

/// The records as a table and, for those who check, what chains them.
pub(crate) fn render_records(records: &[Record], style: Style) -> String {
    let rows = records.iter().map(|record| {
        let state = record.draft.execution_status;
        [
            record.seq.to_string().into(),
            time(record.draft.timestamp).into(),
            Text::toned(tone(state), state.as_str()),
            record.draft.remediation_action.as_str().into(),
            style.hash(&record.hash).into(),
            style.hash(&record.prev_hash).into(),
        ]
    });
    style.table(["Seq", "Time", "State", "Action", "Hash", "PrevHash"], rows)
}

async fn list(
    account: Option<&AccountId>,
    resource: Option<&Arn>,
    since: Timestamp,
    limit: u16,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    let ledger = Ledger::new(connection);
    let mut records = match (account, resource) {
        (_, Some(resource)) => ledger.of_resource(resource.as_str(), since, limit).await?,
        (Some(account), None) => ledger.of_account(account, since, limit).await?,
        (None, None) => ledger.of_all(since).await?,
    };
    records.sort_by_key(|record| std::cmp::Reverse((record.draft.timestamp, record.seq)));
    let cut = records.len() > usize::from(limit);
    records.truncate(usize::from(limit));
    let text = match (records.is_empty(), cut) {
        (true, _) => format!("no records since {since}\n"),
        (false, true) => format!("{}… and more: use --limit or a later --since\n", render_list(&records, style)),
        (false, false) => render_list(&records, style),
    };
    Answer::new(&records, text)
}

fn render_list(records: &[Record], style: Style) -> String {
    let rows = records.iter().map(|record| {
        let draft = &record.draft;
        [
            time(draft.timestamp).into(),
            if record.is_sample() {
                Text::toned(Tone::Faint, format!("{} (sample)", draft.execution_status))
            } else {
                Text::toned(tone(draft.execution_status), draft.execution_status.as_str())
            },
            record.detail(ledger::detail::CONTROL).unwrap_or_default().into(),
            draft.account_id.as_str().into(),
            draft.resource_id.as_str().into(),
            draft.remediation_id.to_string().into(),
        ]
    });
    style.table(["Time", "State", "Control", "Account", "Resource", "RemediationId"], rows)
}

/// A ledger time, in UTC to the millisecond.
pub(crate) fn time(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map_or_else(|_| milliseconds.to_string(), |time| format!("{time:.3}"))
}

/// JSON for people: indented below a title.
pub(crate) fn indented(value: &Value) -> String {
    format!("{value:#}").lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_records_show_what_chains_them() {
        insta::assert_snapshot!(render_records(&fixture::verified(), Style::PLAIN));
    }

    #[test]
    fn a_list_shows_whole_ids() {
        insta::assert_snapshot!(render_list(&fixture::verified(), Style::PLAIN));
    }
}
