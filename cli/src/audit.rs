//! `redress audit`: what the ledger says, what the evidence says, and whether the chain holds.

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::ids::{AccountId, RemediationId};
use redress_common::ledger::{self, Head, Record};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Audit, Reader};
use crate::aws::Connection;
use crate::evidence;
use crate::ledger::{Ledger, unknown};
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::{Exit, Problem};
use crate::timeline::{Sources, Timeline, tone};

pub(crate) async fn run(command: Audit, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    match command {
        Audit::Show { id, evidence, reader } => show(id, evidence.then_some(reader), connection, style).await,
        Audit::List { account, resource, since, limit } => {
            list(account.as_ref(), resource.as_ref(), since, limit, connection, style).await
        }
        Audit::Verify { account } => verify(&account, connection, style).await,
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

/// What `redress audit verify` found.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Verdict {
    account_id: String,
    /// Whether every record is as it was written, and none is missing.
    intact: bool,
    records: usize,
    /// `Seq` of the first record that the table still has: older ones were forgotten after their time.
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    head: Head,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Verdict {
    fn of(account: &AccountId, records: &[Record], head: &Head) -> Self {
        // What was forgotten after its time cannot be checked; what follows hangs on the hash that it left.
        let start = match records.first() {
            Some(first) if first.seq > 1 => Head { seq: first.seq - 1, hash: first.prev_hash.clone() },
            _ => Head::default(),
        };
        let fault = match ledger::verify_from(&start, records) {
            Err(error) => Some(error.to_string()),
            Ok(end) if end == *head => None,
            Ok(end) if end.seq == head.seq => {
                Some(format!("the last record (Seq {}) is not the one that the chain's head names", end.seq))
            }
            Ok(end) => Some(ledger::ChainError::End { found: end.seq, expected: head.seq }.to_string()),
        };
        Self {
            account_id: account.to_string(),
            intact: fault.is_none(),
            records: records.len(),
            first_seq: records.first().map(|record| record.seq),
            last_seq: records.last().map(|record| record.seq),
            head: head.clone(),
            fault,
        }
    }

    pub(crate) const fn is_intact(&self) -> bool {
        self.intact
    }

    pub(crate) fn render(&self, style: Style) -> String {
        let verdict = match &self.fault {
            None => style.paint(Tone::Good, "intact"),
            Some(_) => style.paint(Tone::Bad, "BROKEN"),
        };
        let range = match (self.first_seq, self.last_seq) {
            (Some(first), Some(last)) => format!("{} records, Seq {first} to {last}", self.records),
            _ => "no records".to_owned(),
        };
        let fields = [
            ("Checked", range),
            ("Head", format!("Seq {} {}", self.head.seq, self.head.hash)),
            ("Fault", self.fault.clone().unwrap_or_default()),
        ];
        format!("Integrity of the chain of account {}: {verdict}\n{}", self.account_id, style.fields(&fields))
    }
}

async fn verify(account: &AccountId, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let verdict = verdict(&Ledger::new(connection), account).await?;
    let exit = if verdict.is_intact() { Exit::Done } else { Exit::Failed };
    Ok(Answer::new(&verdict, verdict.render(style))?.exit(exit))
}

/// Checks the chain of an account.
pub(crate) async fn verdict(ledger: &Ledger, account: &AccountId) -> Result<Verdict, Problem> {
    let (records, head) = ledger.chain(account).await?;
    Ok(Verdict::of(account, &records, &head))
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

    fn verdict_of(records: &[Record], head: &Head) -> Verdict {
        Verdict::of(&fixture::account(), records, head)
    }

    #[test]
    fn a_chain_that_holds_is_intact() {
        let records = fixture::verified();
        let verdict = verdict_of(&records, &Head::of(&records[2]));
        assert!(verdict.intact, "{verdict:?}");
        insta::assert_snapshot!(verdict.render(Style::PLAIN));
    }

    #[test]
    fn an_altered_record_is_named() {
        let mut records = fixture::verified();
        let head = Head::of(&records[2]);
        records[1].draft.remediation_action = "nothing at all".to_owned();
        insta::assert_snapshot!(verdict_of(&records, &head).render(Style::PLAIN));
    }

    #[test]
    fn a_cut_off_end_is_seen_by_the_head() {
        let records = fixture::verified();
        assert!(!verdict_of(&records[..2], &Head::of(&records[2])).intact);
        assert!(!verdict_of(&[], &Head::of(&records[2])).intact);
    }

    #[test]
    fn a_chain_whose_oldest_records_were_forgotten_still_verifies() {
        let records = fixture::verified();
        assert!(verdict_of(&records[1..], &Head::of(&records[2])).intact);
    }

    #[test]
    fn the_records_show_what_chains_them() {
        insta::assert_snapshot!(render_records(&fixture::verified(), Style::PLAIN));
    }

    #[test]
    fn a_list_shows_whole_ids() {
        insta::assert_snapshot!(render_list(&fixture::verified(), Style::PLAIN));
    }
}
