//! `redress case`: what belongs to one incident, from the ledger alone.
//!
//! A case is what GuardDuty reported of a resource, or a person escalated, and what was done about it, until somebody closed it
//! or nothing was heard of it for a day. It is called by the remediation that it began with, so that nothing needs to be kept
//! of it. Closing one is a record of the ledger; nothing else here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use redress_common::ids::RemediationId;
use redress_common::ledger::{Record, code, detail, sha256_hex};
use redress_common::operate::Request;
use redress_common::state::State;
use serde::Serialize;
use serde_json::json;

use crate::api;
use crate::args::{Case, Reader};
use crate::aws::Connection;
use crate::evidence;
use crate::ledger::{Ledger, unknown};
use crate::output::{Answer, Output, Style, Text, Tone};
use crate::problem::Problem;
use crate::timeline;

/// What is heard of a resource after this is another case.
const QUIET: SignedDuration = SignedDuration::from_hours(24);
/// So many records of a resource are read: far more than an incident makes.
const MOST: u16 = 1000;

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Standing {
    /// The resource is contained.
    Contained,
    /// A person is asked.
    Asked,
    /// People were told; nothing was done.
    Told,
    /// It was to be contained, and is not.
    Failed,
    /// It is being dealt with.
    Underway,
    /// It was contained and given back.
    GivenBack,
    /// A person said that it is over.
    Closed,
}

impl Standing {
    const fn shown(self) -> (&'static str, Tone) {
        match self {
            Self::Contained => ("contained", Tone::Good),
            Self::Asked => ("asked", Tone::Warning),
            Self::Told => ("told", Tone::Warning),
            Self::Failed => ("failed", Tone::Bad),
            Self::Underway => ("underway", Tone::Strong),
            Self::GivenBack => ("given back", Tone::Faint),
            Self::Closed => ("closed", Tone::Faint),
        }
    }
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Incident {
    /// The remediation that it began with.
    pub(crate) case_id: RemediationId,
    account_id: String,
    region: String,
    resource_type: String,
    resource: String,
    /// The highest that was reported.
    severity: String,
    standing: Standing,
    opened: Timestamp,
    last: Timestamp,
    /// What was reported, each once.
    titles: Vec<String>,
    /// Findings by their reporter's id, each once.
    findings: Vec<String>,
    /// What was done or told, in order.
    remediations: Vec<RemediationId>,
    /// Of sample findings: nothing happened.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sample: bool,
    #[serde(skip)]
    records: Vec<Record>,
}

/// Whether a person closed the case with this record.
fn closes(record: &Record) -> bool {
    record.detail(detail::CODE) == Some(code::CASE_CLOSED)
}

/// The incidents among these records, the newest first.
pub(crate) fn incidents(records: Vec<Record>) -> Vec<Incident> {
    // A sample is no part of what happened to a resource of that name.
    let mut of_resource: BTreeMap<(String, String, bool), Vec<Record>> = BTreeMap::new();
    for record in records.into_iter().filter(Record::is_of_incident) {
        let draft = &record.draft;
        let of = (draft.account_id.to_string(), draft.resource_id.clone(), record.is_sample());
        of_resource.entry(of).or_default().push(record);
    }
    let mut found = Vec::new();
    for mut records in of_resource.into_values() {
        records.sort_by_key(|record| (record.draft.timestamp, record.seq));
        let quiet = i64::try_from(QUIET.as_millis()).unwrap_or(i64::MAX);
        let mut parts: Vec<Vec<Record>> = Vec::new();
        for record in records {
            let goes_on = |part: &Vec<Record>| {
                let fits = |last: &Record| !closes(last) && record.draft.timestamp - last.draft.timestamp <= quiet;
                part.last().is_some_and(fits)
            };
            match parts.last_mut().filter(|part| goes_on(part)) {
                Some(part) => part.push(record),
                None => parts.push(vec![record]),
            }
        }
        found.extend(parts.into_iter().filter_map(incident));
    }
    found.sort_by_key(|one| std::cmp::Reverse((one.last, one.opened)));
    found
}

fn incident(records: Vec<Record>) -> Option<Incident> {
    let (first, last) = (records.first()?, records.last()?);
    let at = |record: &Record| Timestamp::from_millisecond(record.draft.timestamp).unwrap_or(Timestamp::MIN);
    let each = |text: &dyn Fn(&Record) -> String| {
        let mut seen = BTreeSet::new();
        let texts = records.iter().map(text).filter(|text| !text.is_empty());
        texts.filter(|text| seen.insert(text.clone())).collect::<Vec<String>>()
    };
    let said = |key: &'static str| each(&|record| record.detail(key).unwrap_or_default().to_owned());
    let mut remediations: Vec<RemediationId> = Vec::new();
    for record in &records {
        if !remediations.contains(&record.draft.remediation_id) {
            remediations.push(record.draft.remediation_id);
        }
    }
    let order = ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
    let severity = said(detail::SEVERITY).into_iter().max_by_key(|text| order.iter().position(|one| one == text));
    Some(Incident {
        case_id: first.draft.remediation_id,
        account_id: first.draft.account_id.to_string(),
        region: said(detail::REGION).into_iter().next().unwrap_or_default(),
        resource_type: first.draft.resource_type.clone(),
        resource: first.draft.resource_id.clone(),
        severity: severity.unwrap_or_default(),
        standing: if closes(last) { Standing::Closed } else { standing(&remediations, &records) },
        opened: at(first),
        last: at(last),
        titles: said(detail::TITLE),
        findings: each(&|record| record.draft.finding_id.clone()),
        remediations,
        sample: first.is_sample(),
        records,
    })
}

/// What the newest remediation that did anything says; one that only told, when none did.
fn standing(remediations: &[RemediationId], records: &[Record]) -> Standing {
    let of = |id: &RemediationId| {
        let own = records.iter().filter(|record| record.draft.remediation_id == *id);
        let own: Vec<&Record> = own.collect();
        let is_dry = own.iter().any(|record| record.detail(detail::MODE) == Some("DryRun"));
        own.last().filter(|_| !is_dry).map(|last| (last.draft.execution_status, last.detail(detail::UNDOES).is_some()))
    };
    let of_state = |(state, is_undo): (State, bool)| match state {
        State::Verified | State::Unverified if !is_undo => Some(Standing::Contained),
        State::RolledBack => Some(Standing::GivenBack),
        State::AwaitingApproval => Some(Standing::Asked),
        // An undo that failed leaves the resource contained.
        State::Failed | State::Unverified if is_undo => Some(Standing::Contained),
        State::Failed => Some(Standing::Failed),
        State::Received | State::Planned | State::Claimed | State::Applying | State::Applied => {
            Some(Standing::Underway)
        }
        _ => None,
    };
    remediations.iter().rev().filter_map(of).find_map(of_state).unwrap_or(Standing::Told)
}

pub(crate) async fn run(command: Case, connection: &Connection, output: Output) -> Result<Answer, Problem> {
    let style = output.style();
    match command {
        Case::List { account, since, samples } => {
            let mut records = Vec::new();
            let ledger = Ledger::new(connection);
            ledger.each(account.as_ref(), Some(since.as_millisecond()), &mut |record| records.push(record)).await?;
            let mut cases = incidents(records);
            cases.retain(|case| samples || !case.sample);
            let text = if cases.is_empty() { format!("no incident since {since}\n") } else { list(&cases, style) };
            Answer::new(&cases, text)
        }
        Case::Show { id } => {
            let case = find(id, connection).await?;
            Answer::new(&json!({ "Case": case, "Records": case.records }), case.render(style))
        }
        Case::Close { id, reason } => {
            let case = find(id, connection).await?;
            let asked = Request::CaseClose { remediation_id: case.case_id, reason };
            let answer = api::call(connection, &asked).await?;
            let text = format!(
                "case {} of {} is closed; what is reported of it from now on is another case\nledger record: {}\n",
                case.case_id,
                case.resource,
                answer["RemediationId"].as_str().unwrap_or_default()
            );
            Answer::new(&answer, text)
        }
        Case::Export { id, to, without_evidence, reader } => {
            let case = find(id, connection).await?;
            export(&case, &to, (!without_evidence).then_some(&reader), connection, output).await
        }
    }
}

/// The case that a remediation belongs to: any of its remediations names it.
async fn find(id: RemediationId, connection: &Connection) -> Result<Incident, Problem> {
    let ledger = Ledger::new(connection);
    let of_it = ledger.of_remediation(id).await?;
    let Some(resource) = of_it.first().map(|record| record.draft.resource_id.clone()) else { return Err(unknown(id)) };
    let all = ledger.of_resource(&resource, Timestamp::UNIX_EPOCH, MOST).await?;
    let found = incidents(all).into_iter().find(|case| case.remediations.contains(&id));
    found.ok_or_else(|| {
        Problem::not_found(format!("remediation `{id}` belongs to no incident"))
            .help("a case is what GuardDuty reported, or somebody contained; `redress case list` shows them, `redress audit show` any remediation")
    })
}

fn list(cases: &[Incident], style: Style) -> String {
    let rows = cases.iter().map(|case| {
        let (word, tone) = case.standing.shown();
        [
            case.last.strftime("%Y-%m-%d %H:%M:%SZ").to_string().into(),
            if case.sample { Text::toned(Tone::Faint, "sample") } else { Text::toned(tone, word) },
            case.severity.as_str().into(),
            case.account_id.as_str().into(),
            case.resource.as_str().into(),
            case.findings.len().to_string().into(),
            case.case_id.to_string().into(),
        ]
    });
    style.table(["Last", "State", "Severity", "Account", "Resource", "Findings", "CaseId"], rows)
}

impl Incident {
    /// For a person: what it is, and what happened, a line a record.
    fn render(&self, style: Style) -> String {
        let (word, tone) = self.standing.shown();
        let head = match self.sample {
            true => format!("[SAMPLE] of {}: somebody tried the way, nothing happened", self.resource),
            false => format!("{} is {word}", self.resource),
        };
        let mut text = format!("{}\n", style.paint(tone, &head));
        text.push_str(&style.fields(&[
            ("Case", self.case_id.to_string()),
            ("Account", format!("{} {}", self.account_id, self.region)),
            ("Severity", self.severity.clone()),
            ("Opened", self.opened.to_string()),
            ("Reported", self.titles.join("; ")),
        ]));
        text.push_str(&format!("{}\n", style.paint(Tone::Strong, "What happened")));
        let rows = self.records.iter().map(|record| {
            let state = record.draft.execution_status;
            let says = |key: &str| record.detail(key).unwrap_or_default();
            let why = [record.draft.error_message.as_str(), says(detail::REASON)];
            let why = why.into_iter().find(|why| !why.is_empty()).unwrap_or(&record.draft.remediation_action);
            [
                Timestamp::from_millisecond(record.draft.timestamp).unwrap_or_default().to_string().into(),
                Text::toned(timeline::tone(state), state.as_str()),
                says(detail::REQUESTED_BY).into(),
                why.into(),
                record.draft.remediation_id.to_string().into(),
            ]
        });
        text.push_str(&style.table(["Time", "State", "Asked by", "What", "RemediationId"], rows));
        text
    }
}

/// A file of an export, with what it is checked by.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    name: String,
    sha256: String,
}

/// A new folder that nobody else on this machine reads: pre-images lie in it in the clear.
fn private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// A folder for whoever goes on with the case: what the ledger says, the evidence in the clear, who took it and when.
async fn export(
    case: &Incident,
    to: &Path,
    reader: Option<&Reader>,
    connection: &Connection,
    output: Output,
) -> Result<Answer, Problem> {
    let as_json = |data: Result<serde_json::Value, serde_json::Error>| {
        data.map_err(|error| Problem::aws("write the case as JSON", &error))
    };
    let mut documents = vec![
        ("case.json".to_owned(), as_json(serde_json::to_value(case))?),
        ("ledger.json".to_owned(), as_json(serde_json::to_value(&case.records))?),
    ];
    for id in &case.remediations {
        let Some(reader) = reader else { break };
        let own = case.records.iter().filter(|record| record.draft.remediation_id == *id);
        let own: Vec<Record> = own.cloned().collect();
        // Where nothing was to be changed, nothing was stored.
        let has_image = |record: &Record| record.detail(detail::PRE_IMAGE_SHA256).is_some_and(|hash| !hash.is_empty());
        if own.iter().any(has_image) {
            output.progress(&format!("reading the evidence of {id} …"));
            let opened = evidence::read(&own, reader, connection).await?;
            documents.push((format!("evidence-{id}.json"), as_json(serde_json::to_value(&opened))?));
        }
    }
    let taken_by = connection.caller().await?;
    let failed = |error: &dyn std::error::Error| Problem::aws(&format!("write into {}", to.display()), error);
    private(to).map_err(|error| failed(&error))?;
    let mut files = Vec::new();
    for (name, document) in documents {
        let text = format!("{document:#}\n");
        std::fs::write(to.join(&name), &text).map_err(|error| failed(&error))?;
        files.push(Exported { name, sha256: sha256_hex(text.as_bytes()) });
    }
    let custody = json!({
        "CaseId": case.case_id, "Taken": Timestamp::now(), "TakenBy": taken_by, "Files": files,
        "Check": "sha256sum says whether the files are as they were taken, `redress audit verify` whether the ledger's records are as they were written",
    });
    let text = format!("{custody:#}\n");
    std::fs::write(to.join("custody.json"), &text).map_err(|error| failed(&error))?;
    let rows = files.iter().map(|file| [file.name.as_str().into(), file.sha256.as_str().into()]);
    let mut told = output.style().table(["File", "SHA-256"], rows);
    told.push_str(&format!("in {}, with custody.json beside them: who took them, and when\n", to.display()));
    Answer::new(&custody, told)
}

#[cfg(test)]
#[path = "case_tests.rs"]
mod tests;
