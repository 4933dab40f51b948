//! `redress case`: what belongs to one incident, from the ledger; what was taken of it, from the evidence bucket.
//!
//! A case is what GuardDuty reported, or a person escalated, of resources of one account that a finding or a principal ties
//! together ([`links`]), and what was done about it, until somebody closed it or nothing was heard of it for a day. It is called
//! by the remediation that it began with, so that nothing needs to be kept of it. Closing one is a record of the ledger for
//! each resource; nothing else here changes anything.

mod custody;
mod links;

use std::collections::BTreeSet;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use redress_common::contract::GuardEvidence;
use redress_common::ids::RemediationId;
use redress_common::ledger::{Record, detail, sha256_hex};
use redress_common::names;
use redress_common::operate::{MAX_CASE_OTHERS, Request};
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
pub(crate) use custody::Held;
use custody::Known;

/// What is heard after this is another case.
const QUIET: SignedDuration = SignedDuration::from_hours(24);
/// So many records of an account are read to find a case: what was done about more than that in a few days is no one's to read.
const MOST: usize = 200_000;

/// Where an incident stands, or one of its resources.
///
/// From what needs people most to what is over: a case stands where the first of its resources does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Standing {
    /// It was to be contained, and is not.
    Failed,
    /// A person is asked.
    Asked,
    /// It is being dealt with.
    Underway,
    /// People were told; nothing was done.
    Told,
    /// The resource is contained.
    Contained,
    /// It was contained and given back.
    GivenBack,
    /// It was contained, and then destroyed by two people.
    Destroyed,
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
            Self::Destroyed => ("destroyed", Tone::Strong),
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
    /// In the order in which they came to it.
    resources: Vec<Affected>,
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

/// A resource of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Affected {
    resource: String,
    resource_type: String,
    region: String,
    standing: Standing,
    /// What the guard found that lets anybody outside reach it; empty when nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    exposure: Option<Vec<String>>,
    /// What was done or told about it, in order.
    remediations: Vec<RemediationId>,
}

/// The incidents among these records, the newest first.
pub(crate) fn incidents(records: Vec<Record>) -> Vec<Incident> {
    let quiet = i64::try_from(QUIET.as_millis()).unwrap_or(i64::MAX);
    let of_incidents = records.into_iter().filter(Record::is_of_incident);
    // A sample is no part of what happened to a resource of that name.
    let (samples, real): (Vec<Record>, Vec<Record>) = of_incidents.partition(Record::is_sample);
    let connected = [real, samples].into_iter().flat_map(|records| links::connected(records, quiet));
    let mut found: Vec<Incident> = connected.filter_map(incident).collect();
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
    let order = ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
    let severity = said(detail::SEVERITY).into_iter().max_by_key(|text| order.iter().position(|one| one == text));
    let resources = affected(&records);
    Some(Incident {
        case_id: first.draft.remediation_id,
        account_id: first.draft.account_id.to_string(),
        severity: severity.unwrap_or_default(),
        standing: resources.iter().map(|one| one.standing).min()?,
        resources,
        opened: at(first),
        last: at(last),
        titles: said(detail::TITLE),
        findings: each(&|record| record.draft.finding_id.clone()),
        remediations: remediations(&records),
        sample: first.is_sample(),
        records,
    })
}

/// The remediations of these records, in order.
fn remediations<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<RemediationId> {
    let mut found = Vec::new();
    for record in records {
        if !found.contains(&record.draft.remediation_id) {
            found.push(record.draft.remediation_id);
        }
    }
    found
}

/// The resources of these records, in order.
fn affected(records: &[Record]) -> Vec<Affected> {
    let mut of_resource: Vec<(&str, Vec<&Record>)> = Vec::new();
    for record in records {
        let resource = record.draft.resource_id.as_str();
        match of_resource.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, own)) => own.push(record),
            None => of_resource.push((resource, vec![record])),
        }
    }
    let one = |(resource, own): (&str, Vec<&Record>)| {
        let remediations = remediations(own.iter().copied());
        let first = own.first()?;
        let is_closed = own.last().is_some_and(|last| links::closes(last));
        let region = own.iter().find_map(|record| record.detail(detail::REGION));
        Some(Affected {
            resource: resource.to_owned(),
            resource_type: first.draft.resource_type.clone(),
            region: region.unwrap_or_default().to_owned(),
            standing: if is_closed { Standing::Closed } else { standing(&remediations, &own) },
            exposure: own.iter().rev().find_map(|record| exposure(record)),
            remediations,
        })
    };
    of_resource.into_iter().filter_map(one).collect()
}

/// What lets anybody outside reach the resource, as the guard found it before the remediation of this record.
pub(crate) fn exposure(record: &Record) -> Option<Vec<String>> {
    serde_json::from_str::<GuardEvidence>(record.detail(detail::IMPACT)?).ok()?.exposure
}

/// Who can reach a resource, in words.
pub(crate) fn exposed(exposure: Option<&[String]>) -> String {
    match exposure {
        None => "not known".to_owned(),
        Some([]) => "nothing found that lets anybody in".to_owned(),
        Some(ways) => ways.join("; "),
    }
}

/// What the newest remediation that did anything says; one that only told, when none did.
fn standing(remediations: &[RemediationId], records: &[&Record]) -> Standing {
    let of = |id: &RemediationId| {
        let own = records.iter().filter(|record| record.draft.remediation_id == *id);
        let own: Vec<&Record> = own.copied().collect();
        // A plan, and the snapshots before an end, are remediations of their own.
        let is_aside = own.iter().any(|record| matches!(record.detail(detail::MODE), Some("DryRun" | "Snapshot")));
        let destroys = |record: &Record| {
            record.detail(detail::CONTROL).is_some_and(|control| control.split('.').next() == Some(names::DESTROY))
        };
        own.last().filter(|_| !is_aside).map(|last| {
            (last.draft.execution_status, last.detail(detail::UNDOES).is_some(), own.iter().any(|one| destroys(one)))
        })
    };
    let of_state = |(state, is_undo, destroys): (State, bool, bool)| match state {
        State::Verified if destroys && !is_undo => Some(Standing::Destroyed),
        // Nothing was destroyed, and nothing comes back: it stands as before.
        State::Failed | State::Verified | State::RolledBack if destroys => None,
        // Nobody knows.
        State::Unverified if destroys => Some(Standing::Failed),
        State::Verified | State::Unverified if !is_undo => Some(Standing::Contained),
        State::RolledBack => Some(Standing::GivenBack),
        State::AwaitingApproval => Some(Standing::Asked),
        // An undo that failed leaves the resource as it stood.
        State::Failed | State::Unverified if is_undo => None,
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
        Case::Show { id, reader } => {
            let case = find(id, connection).await?;
            let read = evidence::custody(&case.evidenced(), &case.records, &reader, connection).await;
            let known = Known::of(read, &reader.reader_role);
            let data = json!({
                "Case": case, "Records": case.records, "Custody": known.held(), "CustodyUnread": known.unread(),
            });
            Answer::new(&data, case.render(style) + &known.render(style))
        }
        Case::Close { id, reason } => {
            let case = find(id, connection).await?;
            close(&case, reason, connection).await
        }
        Case::Export { id, to, without_evidence, reader } => {
            let case = find(id, connection).await?;
            export(&case, &to, (!without_evidence).then_some(&reader), connection, output).await
        }
    }
}

/// Says that a case is over: of each of its resources, by the newest remediation of it.
async fn close(case: &Incident, reason: String, connection: &Connection) -> Result<Answer, Problem> {
    let of_each: Vec<RemediationId> =
        case.resources.iter().filter_map(|one| one.remediations.last().copied()).collect();
    let mut closed = Vec::new();
    // More than fit into one request are closed by several: each says of its own resources that they are over.
    for some in of_each.chunks(MAX_CASE_OTHERS + 1) {
        let Some((first, others)) = some.split_first() else { continue };
        let asked = Request::CaseClose { remediation_id: *first, others: others.to_vec(), reason: reason.clone() };
        let answer = api::call(connection, &asked).await?;
        closed.extend(answer["Closed"].as_array().cloned().unwrap_or_default());
    }
    let mut text = format!("case {} is closed; what is reported from now on is another case\n", case.case_id);
    for one in &closed {
        let said = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!("{}: ledger record {}\n", said("ResourceId"), said("RemediationId")));
    }
    Answer::new(&json!({ "CaseId": case.case_id, "Closed": closed }), text)
}

/// The case that a remediation belongs to: any of its remediations names it.
///
/// The account's records are read around those of the remediation, and further back and on while the case might begin before or
/// go on after what was read.
async fn find(id: RemediationId, connection: &Connection) -> Result<Incident, Problem> {
    let ledger = Ledger::new(connection);
    let of_it = ledger.of_remediation(id).await?;
    let times = || of_it.iter().map(|record| record.draft.timestamp);
    let (Some(first), Some(from), Some(to)) = (of_it.first(), times().min(), times().max()) else {
        return Err(unknown(id));
    };
    let quiet = i64::try_from(QUIET.as_millis()).unwrap_or(i64::MAX);
    let mut around = quiet.saturating_mul(2);
    loop {
        let (since, until) = (from.saturating_sub(around), to.saturating_add(around));
        let records = ledger.incidents_between(&first.draft.account_id, since, until, MOST).await?;
        let case = incidents(records).into_iter().find(|case| case.remediations.contains(&id)).ok_or_else(|| {
            Problem::not_found(format!("remediation `{id}` belongs to no incident"))
                .help("a case is what GuardDuty reported, or somebody contained; `redress case list` shows them, `redress audit show` any remediation")
        })?;
        let is_whole = since <= 0 || case.opened.as_millisecond().saturating_sub(since) > quiet;
        let has_ended = until.saturating_sub(case.last.as_millisecond()) > quiet;
        if is_whole && (has_ended || until > Timestamp::now().as_millisecond()) {
            return Ok(case);
        }
        around = around.saturating_mul(2);
    }
}

fn list(cases: &[Incident], style: Style) -> String {
    let rows = cases.iter().map(|case| {
        let (word, tone) = case.standing.shown();
        [
            case.last.strftime("%Y-%m-%d %H:%M:%SZ").to_string().into(),
            if case.sample { Text::toned(Tone::Faint, "sample") } else { Text::toned(tone, word) },
            case.severity.as_str().into(),
            case.account_id.as_str().into(),
            case.called().into(),
            case.findings.len().to_string().into(),
            case.case_id.to_string().into(),
        ]
    });
    style.table(["Last", "State", "Severity", "Account", "Resource", "Findings", "CaseId"], rows)
}

impl Incident {
    /// The remediations of which there is evidence: where nothing was to be changed, nothing was stored.
    fn evidenced(&self) -> Vec<RemediationId> {
        let has_image = |record: &&Record| record.detail(detail::PRE_IMAGE_SHA256).is_some_and(|hash| !hash.is_empty());
        remediations(self.records.iter().filter(has_image))
    }

    /// Its first resource, and how many more there are.
    fn called(&self) -> String {
        let first = self.resources.first().map(|one| one.resource.as_str()).unwrap_or_default();
        match self.resources.len() {
            0 | 1 => first.to_owned(),
            many => format!("{first} +{}", many - 1),
        }
    }

    /// For a person: what it is, and what happened, a line a record.
    fn render(&self, style: Style) -> String {
        let (word, tone) = self.standing.shown();
        let head = match self.sample {
            true => format!("[SAMPLE] of {}: somebody tried the way, nothing happened", self.called()),
            false => format!("{} is {word}", self.called()),
        };
        let mut text = format!("{}\n", style.paint(tone, &head));
        text.push_str(&style.fields(&[
            ("Case", self.case_id.to_string()),
            ("Account", self.account_id.clone()),
            ("Severity", self.severity.clone()),
            ("Opened", self.opened.to_string()),
            ("Reported", self.titles.join("; ")),
        ]));
        text.push_str(&format!("{}\n", style.paint(Tone::Strong, "Resources")));
        let rows = self.resources.iter().map(|one| {
            let (word, tone) = one.standing.shown();
            [
                one.resource.as_str().into(),
                Text::toned(tone, word),
                one.region.as_str().into(),
                exposed(one.exposure.as_deref()).into(),
            ]
        });
        text.push_str(&style.table(["Resource", "State", "Region", "Reachable from outside"], rows));
        text.push_str(&format!("{}\n", style.paint(Tone::Strong, "What happened")));
        let rows = self.records.iter().map(|record| {
            let state = record.draft.execution_status;
            let says = |key: &str| record.detail(key).unwrap_or_default();
            let why = [record.draft.error_message.as_str(), says(detail::REASON)];
            let why = why.into_iter().find(|why| !why.is_empty()).unwrap_or(&record.draft.remediation_action);
            [
                Timestamp::from_millisecond(record.draft.timestamp).unwrap_or_default().to_string().into(),
                Text::toned(timeline::tone(state), state.as_str()),
                record.draft.resource_id.as_str().into(),
                says(detail::REQUESTED_BY).into(),
                why.into(),
                record.draft.remediation_id.to_string().into(),
            ]
        });
        text.push_str(&style.table(["Time", "State", "Resource", "Asked by", "What", "RemediationId"], rows));
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

fn as_json(data: Result<serde_json::Value, serde_json::Error>) -> Result<serde_json::Value, Problem> {
    data.map_err(|error| Problem::aws("write the case as JSON", &error))
}

/// A folder for whoever goes on with the case: what the ledger says, the evidence in the clear, who took it and when.
async fn export(
    case: &Incident,
    to: &Path,
    reader: Option<&Reader>,
    connection: &Connection,
    output: Output,
) -> Result<Answer, Problem> {
    let mut documents = vec![
        ("case.json".to_owned(), as_json(serde_json::to_value(case))?),
        ("ledger.json".to_owned(), as_json(serde_json::to_value(&case.records))?),
    ];
    // As they lie under lock, byte for byte.
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    for id in case.evidenced() {
        let Some(reader) = reader else { break };
        let own = case.records.iter().filter(|record| record.draft.remediation_id == id);
        let own: Vec<Record> = own.cloned().collect();
        output.progress(&format!("reading the evidence of {id} …"));
        let opened = evidence::read(&own, reader, connection).await?;
        documents.push((format!("evidence-{id}.json"), as_json(serde_json::to_value(&opened))?));
        kept.extend(evidence::incident(id, &own, reader, connection).await?);
    }
    let taken_by = connection.caller().await?;
    let failed = |error: &dyn std::error::Error| Problem::aws(&format!("write into {}", to.display()), error);
    private(to).map_err(|error| failed(&error))?;
    let mut files = Vec::new();
    let documents = documents.into_iter().map(|(name, document)| (name, format!("{document:#}\n").into_bytes()));
    for (name, bytes) in documents.chain(kept) {
        std::fs::write(to.join(&name), &bytes).map_err(|error| failed(&error))?;
        files.push(Exported { name, sha256: sha256_hex(&bytes) });
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
