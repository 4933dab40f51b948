//! What is shown of the custody of a case: what was taken, by whom and when, by which hash it is known again, and until
//! when it is locked.
//!
//! Pure: it is read by [`crate::evidence`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::custody::{self, CUSTODY, Custody, Item};
use redress_common::ids::RemediationId;
use redress_common::ledger::sha256_hex;
use serde::Serialize;

use crate::output::{Style, Text, Tone};
use crate::problem::{Exit, Problem};

/// The custody of one remediation, as it lies under lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Held {
    /// Its custody document.
    location: String,
    /// SHA-256 of that document's bytes, hexadecimal.
    sha256: String,
    /// Until when each of its objects is locked, by its name; none of which that could not be seen.
    locked_until: BTreeMap<String, Timestamp>,
    /// The objects that are not there, or not as the document says.
    altered: Vec<String>,
    /// What the document says.
    document: Custody,
}

impl Held {
    /// Of the objects that are kept of a remediation; `None` where there is no custody document among them.
    ///
    /// # Errors
    /// When that is no such document.
    pub(crate) fn of(
        id: RemediationId,
        bucket: &str,
        objects: &[(String, Vec<u8>)],
        locked_until: BTreeMap<String, Timestamp>,
    ) -> Result<Option<Self>, serde_json::Error> {
        let bytes = |name: &str| objects.iter().find(|(own, _)| own == name).map(|(_, bytes)| bytes);
        let Some(written) = bytes(CUSTODY) else { return Ok(None) };
        let document: Custody = serde_json::from_slice(written)?;
        // Of a snapshot there are no bytes to compare.
        let is_altered = |item: &&Item| {
            let name = item.id.strip_prefix(&custody::folder(id));
            name.is_some_and(|name| bytes(name).is_none_or(|bytes| sha256_hex(bytes) != item.sha256))
        };
        let altered = document.items.iter().filter(is_altered).map(|item| item.id.clone()).collect();
        let location = format!("s3://{bucket}/{}", custody::key(id, CUSTODY));
        Ok(Some(Self { location, sha256: sha256_hex(written), locked_until, altered, document }))
    }

    fn rows(&self, style: Style) -> Vec<[Text; 8]> {
        let document = &self.document;
        let by = document.executed_by.as_str();
        let by = by.rsplit_once(":function:").map_or(by, |(_, name)| name);
        let row = |kind: String, id: &str, what: String, at: Timestamp, hash: Text, lock: String| -> [Text; 8] {
            let remediation = document.remediation_id.to_string();
            [
                kind.into(),
                id.into(),
                what.into(),
                format!("{at:.3}").into(),
                hash,
                lock.into(),
                by.into(),
                remediation.into(),
            ]
        };
        let lock = |name: &str| self.locked_until.get(name).map(ToString::to_string).unwrap_or_default();
        let hash = |hash: &str| Text::from(style.hash(hash));
        let done = format!("{}: {}", document.control, document.outcome.as_str());
        let evidence = &document.evidence;
        let stored = format!("s3://{}/{}", evidence.bucket, evidence.key);
        let mut rows = vec![
            row("Custody".to_owned(), &self.location, done, document.ended, hash(&self.sha256), lock(CUSTODY)),
            row(
                "Evidence".to_owned(),
                &stored,
                "pre-image, change and end".to_owned(),
                document.ended,
                hash(&evidence.sha256),
                String::new(),
            ),
        ];
        let folder = custody::folder(document.remediation_id);
        rows.extend(document.items.iter().map(|item| {
            let shown = match self.altered.contains(&item.id) {
                true => Text::toned(Tone::Bad, format!("{} is not what lies there", style.hash(&item.sha256))),
                false => hash(&item.sha256),
            };
            // As the document and `--json` have it.
            let kind = format!("{:?}", item.kind);
            let until = item.id.strip_prefix(&folder).map(lock).unwrap_or_default();
            row(kind, &item.id, item.detail.clone(), item.at, shown, until)
        }));
        rows
    }
}

/// What is known of the custody of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// All of it.
    Read(Vec<Held>),
    /// It is there, perhaps; why it could not be read.
    Unread(String),
}

impl Known {
    /// Of what came of reading it by this role. A case is shown all the same.
    pub(crate) fn of(read: Result<Vec<Held>, Problem>, role: &str) -> Self {
        match read {
            Ok(held) => Self::Read(held),
            Err(problem) => {
                let why = problem.to_string().lines().collect::<Vec<_>>().join(" ");
                let said = match problem.exit() {
                    Exit::Refused => {
                        format!(
                            "not readable as you; it takes the role {role} and the ExternalId (--external-id): {why}"
                        )
                    }
                    _ => format!("not read; {why}"),
                };
                Self::Unread(said)
            }
        }
    }

    /// For a program; `None` where it could not be read.
    pub(crate) fn held(&self) -> Option<&[Held]> {
        match self {
            Self::Read(held) => Some(held),
            Self::Unread(_) => None,
        }
    }

    /// Why it could not be read.
    pub(crate) fn unread(&self) -> Option<&str> {
        match self {
            Self::Read(_) => None,
            Self::Unread(why) => Some(why),
        }
    }

    /// For a person: a line a thing that was taken.
    pub(crate) fn render(&self, style: Style) -> String {
        match self {
            Self::Unread(why) => format!("{}\n", style.paint(Tone::Warning, &format!("custody: {why}"))),
            Self::Read(held) if held.is_empty() => "custody: nothing was taken\n".to_owned(),
            Self::Read(held) => {
                let heads = ["Kind", "Id", "Of what", "When", "SHA-256", "Locked until", "By", "RemediationId"];
                let rows = held.iter().flat_map(|one| one.rows(style));
                format!("{}\n{}", style.paint(Tone::Strong, "Custody"), style.table(heads, rows))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968";
    const UNTIL: &str = "2027-03-01T09:00:01Z";

    fn id() -> RemediationId {
        ID.parse().unwrap()
    }

    /// What is kept of a bucket, whose list of objects has these bytes.
    fn kept(list: &[u8]) -> Vec<(String, Vec<u8>)> {
        let item = |kind: &str, id: &str, detail: &str, sha256: &str| {
            let at = "2026-03-01T09:00:00Z";
            json!({ "Kind": kind, "Id": id, "At": at, "Detail": detail, "Sha256": sha256 })
        };
        let document = json!({
            "Version": 1, "RemediationId": ID, "Control": "Contain.S3Bucket", "ResourceArn": "arn:aws:s3:::leaks",
            "AccountId": "222222222222", "Region": "eu-central-1", "Mode": "Apply", "Outcome": "Verified",
            "ExecutedBy": "arn:aws:lambda:eu-central-1:222222222222:function:redress-contain-data:7",
            "Began": "2026-03-01T09:00:00Z", "Ended": "2026-03-01T09:00:01Z",
            "Evidence": { "Bucket": "logs", "Key": "year=2026/r.json", "VersionId": "v", "Sha256": "1b".repeat(32) },
            "Items": [
                item("ObjectListing", &custody::key(id(), custody::OBJECTS), "2 versions", &sha256_hex(b"list")),
                item("EbsSnapshot", "snap-1", "vol-1, before isolation", ""),
            ],
        });
        let document = serde_json::to_vec(&document).unwrap();
        vec![(CUSTODY.to_owned(), document), (custody::OBJECTS.to_owned(), list.to_vec())]
    }

    fn held(objects: &[(String, Vec<u8>)]) -> Option<Held> {
        let locks = [CUSTODY, custody::OBJECTS].map(|name| (name.to_owned(), UNTIL.parse::<Timestamp>().unwrap()));
        Held::of(id(), "logs", objects, locks.into()).unwrap()
    }

    #[test]
    fn what_was_taken_is_shown_with_its_hash_its_lock_and_who_took_it() {
        let objects = kept(b"list");
        let one = held(&objects).unwrap();
        assert_eq!((one.sha256.clone(), one.altered.len()), (sha256_hex(&objects[0].1), 0));
        let shown = Known::Read(vec![one]).render(Style::PLAIN);
        let (evidence, list) = ("1b".repeat(32), sha256_hex(b"list"));
        let line = |word: &str| shown.lines().find(|line| line.starts_with(word)).unwrap_or_default().to_owned();
        for (word, parts) in [
            ("Custody  ", ["Contain.S3Bucket: Verified", UNTIL, "redress-contain-data:7"]),
            ("Evidence  ", ["s3://logs/year=2026/r.json", evidence.as_str(), ID]),
            ("ObjectListing", [list.as_str(), UNTIL, "2 versions"]),
            ("EbsSnapshot", ["snap-1", "vol-1, before isolation", "2026-03-01T09:00:00.000Z"]),
        ] {
            let line = line(word);
            assert!(parts.iter().all(|part| line.contains(part)), "{word}: {line}");
        }
        assert!(!line("EbsSnapshot").contains(UNTIL), "the lock is S3's, and a snapshot is not there");
    }

    #[test]
    fn what_is_not_as_the_custody_document_says_is_told_and_what_is_gone_too() {
        let key = custody::key(id(), custody::OBJECTS);
        let mut objects = kept(b"another list");
        let one = held(&objects).unwrap();
        assert_eq!(one.altered, [key.as_str()]);
        assert!(Known::Read(vec![one]).render(Style::PLAIN).contains("is not what lies there"));
        objects.truncate(1);
        assert_eq!(held(&objects).unwrap().altered, [key]);
    }

    #[test]
    fn without_a_custody_document_there_is_nothing_to_show_and_a_broken_one_is_an_error() {
        assert_eq!(held(&[]), None);
        let broken = [(CUSTODY.to_owned(), b"{}".to_vec())];
        assert!(Held::of(id(), "logs", &broken, BTreeMap::new()).is_err());
        assert_eq!(Known::Read(Vec::new()).render(Style::PLAIN), "custody: nothing was taken\n");
    }

    #[test]
    fn what_could_not_be_read_is_one_line_and_says_whether_it_is_for_lack_of_a_right() {
        let denied = Problem::refused("cannot assume arn:…:\nAccessDenied").help("does the role trust you?");
        let denied = Known::of(Err(denied), "Redress-Evidence-Reader");
        let line = denied.render(Style::PLAIN);
        assert!(
            line.starts_with("custody: not readable as you; ") && line.contains("Redress-Evidence-Reader"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(denied.held().is_none() && denied.unread().is_some());
        let other = Known::of(Err(Problem::failed("no connection")), "Redress-Evidence-Reader").render(Style::PLAIN);
        assert_eq!(other, "custody: not read; no connection\n");
    }
}
