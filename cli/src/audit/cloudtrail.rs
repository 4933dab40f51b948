//! Completeness: does the ledger tell of every change that CloudTrail says Redress's roles made?
//!
//! CloudTrail's log files are read from a folder; AWS is not asked. Whether files are missing there is not seen here.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use redress_common::containable::changes_resources;
use redress_common::ids::{AccountId, Region, RemediationId};
use redress_common::ledger::Record;
use redress_common::names;
use redress_common::state::State;
use serde::Serialize;
use serde_json::Value;

use super::time;
use super::verify::{Material, Standing};
use crate::output::{Style, Text, Tone};
use crate::problem::Problem;

/// Clocks differ, and CloudTrail tells whole seconds.
const SLACK_MS: i64 = 60_000;
/// How long a remediation without an end explains what is done.
const UNFINISHED_MS: i64 = 24 * 3_600_000;
/// No log file of CloudTrail's is larger when it is unpacked.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// A change that one of Redress's roles made, as CloudTrail tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    event_id: String,
    time: String,
    #[serde(skip)]
    at: i64,
    role: String,
    service: String,
    operation: String,
    region: String,
}

/// What the log files say of an account.
#[derive(Debug, Default)]
pub(super) struct Events {
    files: usize,
    /// Of any role and kind.
    of_account: usize,
    first: Option<i64>,
    last: Option<i64>,
    changes: Vec<Event>,
}

impl Events {
    /// Reads all log files below a folder.
    pub(super) fn read(folder: &Path, account: &AccountId) -> Result<Self, Problem> {
        let mut events = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let failed = |error: std::io::Error| Problem::aws(&format!("read {}", folder.display()), &error);
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(path);
                } else if is_log(&path) {
                    events.file(&path, account)?;
                }
            }
        }
        events.changes.sort_by(|one, other| (one.at, &one.event_id).cmp(&(other.at, &other.event_id)));
        // Two trails tell the same event twice.
        events.changes.dedup_by(|one, other| one.event_id == other.event_id);
        Ok(events)
    }

    fn file(&mut self, path: &Path, account: &AccountId) -> Result<(), Problem> {
        let failed = |error: &dyn std::error::Error| Problem::aws(&format!("read {}", path.display()), error);
        let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read> = if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut bytes = Vec::new();
        reader.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
        let Some(Value::Array(records)) = value.get("Records") else {
            return Err(Problem::failed(format!(
                "{} is no log file of CloudTrail: it has no `Records`",
                path.display()
            )));
        };
        self.files += 1;
        records.iter().for_each(|event| self.add(event, account));
        Ok(())
    }

    fn add(&mut self, event: &Value, account: &AccountId) {
        let whose = text(event, "/recipientAccountId").or_else(|| text(event, "/userIdentity/accountId"));
        let at = text(event, "/eventTime").and_then(|time| time.parse::<Timestamp>().ok());
        let (Some(whose), Some(at)) = (whose, at.map(Timestamp::as_millisecond)) else { return };
        if whose != account.as_str() {
            return;
        }
        self.of_account += 1;
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        self.changes.extend(change(event, at, account));
    }
}

fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // Digests lie beside the logs when a whole bucket was copied.
    (name.ends_with(".json") || name.ends_with(".json.gz")) && !name.contains("_CloudTrail-Digest_")
}

fn text<'a>(event: &'a Value, pointer: &str) -> Option<&'a str> {
    event.pointer(pointer).and_then(Value::as_str)
}

/// The event, when it is a change that one of Redress's roles made.
fn change(event: &Value, at: i64, account: &AccountId) -> Option<Event> {
    let is_write = event.get("readOnly") == Some(&Value::Bool(false));
    let was_done = event.get("errorCode").is_none_or(Value::is_null);
    let issuer = "/userIdentity/sessionContext/sessionIssuer";
    let role = text(event, &format!("{issuer}/userName")).filter(|role| changes_resources(role))?;
    let is_ours = text(event, &format!("{issuer}/accountId")).is_none_or(|owner| owner == account.as_str());
    if !is_write || !was_done || !is_ours || is_own(event, account) {
        return None;
    }
    let said = |pointer: &str| text(event, pointer).unwrap_or_default().to_owned();
    Some(Event {
        event_id: said("/eventID"),
        time: time(at),
        at,
        role: role.to_owned(),
        service: said("/eventSource"),
        operation: said("/eventName"),
        region: said("/awsRegion"),
    })
}

/// Whether it only wrote down what Redress did: evidence, or a function's log.
fn is_own(event: &Value, account: &AccountId) -> bool {
    match (text(event, "/eventSource"), text(event, "/eventName")) {
        (Some("s3.amazonaws.com"), Some("PutObject")) => {
            let region = text(event, "/awsRegion").and_then(|region| region.parse::<Region>().ok());
            let evidence = region.map(|region| names::evidence_bucket(account, &region));
            evidence.is_some_and(|bucket| text(event, "/requestParameters/bucketName") == Some(&bucket))
        }
        (Some("logs.amazonaws.com"), Some("CreateLogStream")) => {
            text(event, "/requestParameters/logGroupName").is_some_and(|name| name.starts_with("/aws/lambda/redress-"))
        }
        _ => false,
    }
}

/// From when until when a remediation may have changed something, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: i64,
    until: i64,
}

impl Span {
    const fn has(self, at: i64) -> bool {
        at >= self.from.saturating_sub(SLACK_MS) && at <= self.until.saturating_add(SLACK_MS)
    }
}

/// The spans of all remediations of a chain, whose oldest records may have been forgotten.
fn spans(records: &[Record]) -> Vec<Span> {
    let (mut open, mut spans) = (BTreeMap::<RemediationId, i64>::new(), Vec::new());
    // A remediation whose beginning was forgotten ended soon after what is left begins.
    let forgotten = records.first().filter(|first| first.seq > 1).map(|first| first.draft.timestamp);
    for record in records {
        let (id, at, state) = (record.draft.remediation_id, record.draft.timestamp, record.draft.execution_status);
        if matches!(state, State::Claimed | State::Applying) {
            open.entry(id).or_insert(at);
        } else if state.is_terminal() {
            let may_have_changed = matches!(state, State::Verified | State::Unverified | State::Failed);
            let before = || forgotten.filter(|from| may_have_changed && at - from <= UNFINISHED_MS);
            spans.extend(open.remove(&id).or_else(before).map(|from| Span { from, until: at }));
        }
    }
    spans.extend(open.into_values().map(|from| Span { from, until: from.saturating_add(UNFINISHED_MS) }));
    spans
}

/// The verdict on completeness.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Completeness {
    pub(super) result: Standing,
    /// Why it is not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    files: usize,
    /// The account's events in them, of any role and kind, and when the first and the last were.
    events: usize,
    first_event: Option<String>,
    last_event: Option<String>,
    /// Changes by roles of Redress.
    changes: usize,
    /// Of these, older than what the ledger still has.
    older: usize,
    /// Of these, made after the ledger was read.
    later: usize,
    /// Of these, within no remediation.
    unexplained: Vec<Event>,
}

impl Completeness {
    /// What the events say of the chain; none were given without `--cloudtrail`.
    pub(super) fn of(events: Option<&Events>, material: &Material) -> Self {
        let none = Events::default();
        let (events, given) = (events.unwrap_or(&none), events.is_some());
        let records = &material.records;
        // Of a chain that begins at its beginning, nothing was before.
        let begin = match records.first() {
            Some(first) if first.seq > 1 => first.draft.timestamp.saturating_sub(SLACK_MS),
            None if material.head.seq > 0 => i64::MAX,
            _ => i64::MIN,
        };
        let (spans, told_until) = (spans(records), material.told_until());
        let (mut older, mut later, mut unexplained) = (0, 0, Vec::new());
        for event in &events.changes {
            let explained = spans.iter().any(|span| span.has(event.at));
            if !explained && event.at < begin {
                older += 1;
            } else if !explained && event.at > told_until {
                later += 1;
            } else if !explained {
                unexplained.push(event.clone());
            }
        }
        let (result, why) = if !given {
            (Standing::NotChecked, Some("give --cloudtrail".to_owned()))
        } else if events.of_account == 0 {
            (Standing::NotChecked, Some(format!("the files hold no event of account {}", material.account)))
        } else {
            (Standing::of(unexplained.is_empty()), None)
        };
        Self {
            result,
            why,
            files: events.files,
            events: events.of_account,
            first_event: events.first.map(time),
            last_event: events.last.map(time),
            changes: events.changes.len(),
            older,
            later,
            unexplained,
        }
    }

    pub(super) fn render(&self, style: Style) -> String {
        let title = self.result.render(["complete", "INCOMPLETE"], self.why.as_deref(), style);
        let mut text = format!("Completeness against CloudTrail: {title}\n");
        if self.result == Standing::NotChecked {
            return text;
        }
        let said = |count: usize, what: &str| if count == 0 { String::new() } else { format!("{count} {what}") };
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        let span = match (&self.first_event, &self.last_event) {
            (Some(first), Some(last)) => format!(", {first} to {last}"),
            _ => String::new(),
        };
        text.push_str(&style.fields(&[
            ("Read", format!("{files}, {} events of the account{span}", self.events)),
            ("Changes", format!("{} by roles of Redress", self.changes)),
            ("Older", said(self.older, "than the records that are left: not checked")),
            ("Later", said(self.later, "than the ledger was read: not checked")),
            ("Unexplained", said(self.unexplained.len(), "within no remediation that the ledger tells of")),
        ]));
        if !self.unexplained.is_empty() {
            let rows = self.unexplained.iter().map(|event| {
                let call = format!("{}:{}", event.service, event.operation);
                [
                    event.time.as_str().into(),
                    event.role.as_str().into(),
                    Text::toned(Tone::Bad, call),
                    event.region.as_str().into(),
                    event.event_id.as_str().into(),
                ]
            });
            text.push_str(&style.table(["Time", "Role", "Call", "Region", "EventId"], rows));
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;
    use crate::audit::verify::tests::material;
    use crate::fixture;

    /// So many milliseconds after nine in the morning, when the remediation of the fixture began.
    fn event(at: i64) -> Value {
        json!({
            "eventID": format!("e{at}"),
            "eventTime": time(fixture::START + at),
            "eventSource": "s3.amazonaws.com",
            "eventName": "PutBucketPublicAccessBlock",
            "awsRegion": "eu-central-1",
            "readOnly": false,
            "recipientAccountId": "222222222222",
            "requestParameters": { "bucketName": "my-bucket" },
            "userIdentity": { "type": "AssumedRole", "accountId": "222222222222", "sessionContext": { "sessionIssuer": {
                "type": "Role", "accountId": "222222222222", "userName": "Redress-Remediate-S3" } } },
        })
    }

    fn with(event: &Value, pointer: &str, value: Value) -> Value {
        let mut event = event.clone();
        *event.pointer_mut(pointer).unwrap() = value;
        event
    }

    fn judged(events: &[Value], records: &[Record]) -> Completeness {
        let mut read = Events::default();
        events.iter().for_each(|event| read.add(event, &fixture::account()));
        Completeness::of(Some(&read), &material(records, &[]))
    }

    #[test]
    fn a_change_within_a_remediation_is_explained_and_any_other_is_listed() {
        let within = judged(&[event(500), event(42 - SLACK_MS), event(840 + SLACK_MS)], &fixture::verified());
        assert_eq!((within.result, within.changes), (Standing::Holds, 3));
        for outside in [41 - SLACK_MS, 841 + SLACK_MS] {
            let judged = judged(&[event(500), event(outside)], &fixture::verified());
            assert_eq!(judged.result, Standing::Fails, "{outside}");
            assert_eq!(
                judged.unexplained.iter().map(|one| one.event_id.clone()).collect::<Vec<_>>(),
                [format!("e{outside}")]
            );
        }
        assert_eq!(judged(&[event(500)], &[]).result, Standing::Fails, "a ledger that knows nothing explains nothing");
    }

    #[test]
    fn only_what_a_role_of_redress_changed_in_the_account_counts() {
        let outside = event(SLACK_MS * 10);
        let issuer = "/userIdentity/sessionContext/sessionIssuer";
        for other in [
            with(&outside, "/readOnly", json!(true)),
            with(&outside, &format!("{issuer}/userName"), json!("Redress-Remediate-Mine")),
            with(&outside, &format!("{issuer}/userName"), json!("Redress-Recorder")),
            with(&outside, &format!("{issuer}/accountId"), json!("333333333333")),
            with(&outside, "/recipientAccountId", json!("333333333333")),
        ] {
            assert_eq!(judged(&[other.clone(), event(500)], &fixture::verified()).result, Standing::Holds, "{other}");
        }
        let mut refused = outside.clone();
        refused.as_object_mut().unwrap().insert("errorCode".to_owned(), json!("AccessDenied"));
        assert_eq!(judged(&[refused, event(500)], &fixture::verified()).result, Standing::Holds);
        assert_eq!(judged(&[outside], &fixture::verified()).result, Standing::Fails);
    }

    #[test]
    fn evidence_and_logs_are_no_changes_and_another_bucket_is_one() {
        let outside = event(SLACK_MS * 10);
        let put = |bucket: &str| {
            let put = with(&outside, "/eventName", json!("PutObject"));
            with(&put, "/requestParameters/bucketName", json!(bucket))
        };
        let result = |event: Value| judged(&[event], &fixture::verified()).result;
        assert_eq!(result(put("security-remediation-logs-222222222222-eu-central-1")), Standing::Holds);
        assert_eq!(result(put("security-remediation-logs-333333333333-eu-central-1")), Standing::Fails);
        assert_eq!(result(put("my-bucket")), Standing::Fails);
        let mut log = with(&outside, "/eventSource", json!("logs.amazonaws.com"));
        log = with(&log, "/eventName", json!("CreateLogStream"));
        log = with(&log, "/requestParameters", json!({ "logGroupName": "/aws/lambda/redress-remediate" }));
        assert_eq!(result(log.clone()), Standing::Holds);
        assert_eq!(result(with(&log, "/requestParameters/logGroupName", json!("/aws/lambda/other"))), Standing::Fails);
    }

    #[test]
    fn what_is_older_than_the_records_or_newer_than_their_reading_is_not_judged() {
        let records = fixture::verified();
        // The record `Claimed` was forgotten, too: what is left is the end of a remediation.
        let judged = judged(&[event(-3 * SLACK_MS), event(800), event(100 * SLACK_MS)], &records[2..]);
        assert_eq!((judged.result, judged.older, judged.later), (Standing::Holds, 1, 1));
    }

    #[test]
    fn what_a_checkpoint_is_newer_than_is_judged_whatever_the_folder_says_of_itself() {
        let records = fixture::verified();
        let mut material = material(&records, &fixture::checkpoints(&records, &[3]));
        material.taken = Timestamp::UNIX_EPOCH;
        let mut read = Events::default();
        [500, SLACK_MS * 10, SLACK_MS * 20].iter().for_each(|at| read.add(&event(*at), &fixture::account()));
        let judged = Completeness::of(Some(&read), &material);
        assert_eq!((judged.unexplained.len(), judged.later), (1, 1));
    }

    #[test]
    fn a_remediation_without_an_end_explains_a_day() {
        let spans = spans(&fixture::verified()[..2]);
        let from = fixture::START + 42;
        assert_eq!(spans, [Span { from, until: from + UNFINISHED_MS }]);
    }

    #[test]
    fn without_files_or_without_an_event_of_the_account_nothing_is_checked() {
        let material = material(&fixture::verified(), &[]);
        let none = Completeness::of(None, &material);
        assert_eq!(none.result, Standing::NotChecked);
        assert!(none.render(Style::PLAIN).contains("not checked: give --cloudtrail"), "{}", none.render(Style::PLAIN));
        assert_eq!(Completeness::of(Some(&Events::default()), &material).result, Standing::NotChecked);
    }

    #[test]
    fn log_files_are_read_packed_or_not_in_folders_below_and_each_event_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("AWSLogs/222222222222/CloudTrail/eu-central-1/2026/03/01");
        std::fs::create_dir_all(&below).unwrap();
        let file = json!({ "Records": [event(500), event(SLACK_MS * 2)] }).to_string();
        std::fs::write(folder.path().join("log.json"), &file).unwrap();
        let packed = std::fs::File::create(below.join("222222222222_CloudTrail_eu-central-1_x.json.gz")).unwrap();
        let mut packed = GzEncoder::new(packed, Compression::default());
        packed.write_all(file.as_bytes()).unwrap();
        packed.finish().unwrap();
        std::fs::write(below.join("222222222222_CloudTrail-Digest_eu-central-1_x.json"), "{}").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "nothing").unwrap();

        let events = Events::read(folder.path(), &fixture::account()).unwrap();
        assert_eq!((events.files, events.of_account, events.changes.len()), (2, 4, 2));
        insta::assert_snapshot!(
            Completeness::of(Some(&events), &material(&fixture::verified(), &[])).render(Style::PLAIN)
        );

        std::fs::write(folder.path().join("other.json"), "[]").unwrap();
        assert!(Events::read(folder.path(), &fixture::account()).unwrap_err().plain().contains("other.json"));
    }
}
