//! The evidence of a remediation in the clear, and its custody, for whoever may assume the reader's role in the member
//! account.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::aws::evidence::{EvidenceError, EvidenceStore, s3_client};
use redress_common::contract::{Before, Image, Outcome};
use redress_common::custody;
use redress_common::external_id::{ExternalId, ExternalIdPrefix};
use redress_common::ids::{AccountId, Region, RemediationId};
use redress_common::ledger::{Record, detail};
use redress_common::names;
use serde::Serialize;

use crate::args::Reader;
use crate::audit::indented;
use crate::aws::Connection;
use crate::case::Held;
use crate::output::{Style, Tone};
use crate::problem::Problem;

/// Decrypted evidence. It is printed and forgotten, never stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Opened {
    pub(crate) location: String,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) pre_image_sha256: String,
    pub(crate) change_sha256: String,
    pub(crate) post_image_sha256: Option<String>,
    pub(crate) before: Before,
    pub(crate) after: Option<Image>,
}

/// Reads and decrypts the evidence that the records point to.
pub(crate) async fn read(records: &[Record], reader: &Reader, connection: &Connection) -> Result<Opened, Problem> {
    let Archive { store, bucket, .. } = archive(records, reader, connection).await?;
    let Some(key) = newest(records, detail::EVIDENCE_KEY) else { return Err(none()) };
    let location = format!("s3://{bucket}/{key}");
    let failed = |error: &dyn std::error::Error| {
        Problem::aws(&format!("read the evidence {location} as {}", reader.reader_role), error)
    };
    let stored = store.read(key).await.map_err(|error| failed(&error))?.evidence;
    let before = store.open_before(&stored).await.map_err(|error| failed(&error))?;
    let after = store.open_after(&stored).await.map_err(|error| failed(&error))?;
    Ok(Opened {
        outcome: stored.result.as_ref().map(|result| result.outcome),
        pre_image_sha256: stored.pre_image_sha256,
        change_sha256: stored.change_sha256,
        post_image_sha256: stored.result.map(|result| result.post_image_sha256),
        before,
        after,
        location,
    })
}

/// What is kept of a containment: each object as it lies there, so that its hash is the one that the custody document names,
/// and what is sealed in it in the clear.
pub(crate) async fn incident(
    id: RemediationId,
    records: &[Record],
    reader: &Reader,
    connection: &Connection,
) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    let archive = archive(records, reader, connection).await?;
    let failed = |error: EvidenceError| archive.failed(id, &error);
    let mut files = Vec::new();
    for (name, bytes) in archive.store.incident(id).await.map_err(failed)? {
        if let Some(opened) = archive.store.open_document(id, &name, &bytes).await.map_err(failed)? {
            files.push((format!("opened-{id}-{name}"), format!("{opened:#}\n").into_bytes()));
        }
        files.push((format!("incident-{id}-{name}"), bytes));
    }
    Ok(files)
}

/// The custody of these remediations of one account, with the locks of what is kept of them. Nothing is opened.
pub(crate) async fn custody(
    of: &[RemediationId],
    records: &[Record],
    reader: &Reader,
    connection: &Connection,
) -> Result<Vec<Held>, Problem> {
    let mut found = Vec::new();
    if of.is_empty() {
        return Ok(found);
    }
    let archive = archive(records, reader, connection).await?;
    for id in of {
        let objects = archive.store.incident(*id).await.map_err(|error| archive.failed(*id, &error))?;
        let mut locks = BTreeMap::new();
        for (name, _) in &objects {
            if let Some(until) = archive.locked_until(*id, name).await {
                locks.insert(name.clone(), until);
            }
        }
        let held = Held::of(*id, &archive.bucket, &objects, locks);
        found.extend(held.map_err(|error| archive.failed(*id, &error))?);
    }
    Ok(found)
}

/// The evidence of an account, as its reader sees it.
struct Archive {
    store: EvidenceStore,
    s3: aws_sdk_s3::Client,
    bucket: String,
    account: AccountId,
    role: String,
}

impl Archive {
    fn failed(&self, id: RemediationId, error: &dyn std::error::Error) -> Problem {
        Problem::aws(&format!("read s3://{}/{} as {}", self.bucket, custody::folder(id), self.role), error)
    }

    /// Until when an object of a remediation is locked. Not knowing it is no reason to show nothing: the reader's role of
    /// an older member stack may not see it.
    async fn locked_until(&self, id: RemediationId, name: &str) -> Option<Timestamp> {
        let asked = self.s3.get_object_retention().bucket(&self.bucket).key(custody::key(id, name));
        let answer = asked.expected_bucket_owner(self.account.as_str()).send().await.ok()?;
        Timestamp::from_second(answer.retention?.retain_until_date?.secs()).ok()
    }
}

fn newest<'a>(records: &'a [Record], key: &str) -> Option<&'a str> {
    records.iter().rev().find_map(|record| record.detail(key)).filter(|text| !text.is_empty())
}

fn none() -> Problem {
    Problem::not_found("this remediation has no evidence: nothing was to be changed").help(
        "evidence is stored when a remediation is dispatched; `redress why <RemediationId>` says why this one was not",
    )
}

/// The evidence of the account that the records speak of, and its bucket.
async fn archive(records: &[Record], reader: &Reader, connection: &Connection) -> Result<Archive, Problem> {
    let Some(last) = records.last() else { return Err(none()) };
    let account = &last.draft.account_id;
    let home: &Region = reader.home_region.as_ref().unwrap_or(&connection.region);
    let bucket =
        newest(records, detail::EVIDENCE_BUCKET).map_or_else(|| names::evidence_bucket(account, home), str::to_owned);
    let external_id = match &reader.external_id {
        None => None,
        Some(prefix) => {
            let prefix: ExternalIdPrefix = prefix.parse().map_err(|error| Problem::aws("use --external-id", &error))?;
            Some(prefix.of(account))
        }
    };
    let external_id = external_id.as_ref().map(ExternalId::reveal);
    let member = connection.in_member(account, home, &reader.reader_role, external_id).await?;
    let (s3, kms) = (s3_client(&member, home), aws_sdk_kms::Client::new(&member));
    Ok(Archive {
        store: EvidenceStore::new(s3.clone(), kms, bucket.clone(), account.clone()),
        s3,
        bucket,
        account: account.clone(),
        role: reader.reader_role.clone(),
    })
}

impl Opened {
    /// For a person.
    pub(crate) fn render(&self, style: Style) -> String {
        let image = |image: &Image| {
            if image.present { indented(&image.state) } else { "    there was no such setting\n".to_owned() }
        };
        let mut text = format!("{}  {}\n", style.paint(Tone::Strong, "Evidence"), self.location);
        text.push_str(&format!("  pre-image   SHA-256 {}\n{}", self.pre_image_sha256, image(&self.before.pre_image)));
        text.push_str(&format!("  change      SHA-256 {}\n", self.change_sha256));
        for call in &self.before.change.0 {
            text.push_str(&format!("    {}:{}\n{}", call.service, call.operation, indented(&call.parameters)));
        }
        if let (Some(after), Some(hash)) = (&self.after, &self.post_image_sha256) {
            text.push_str(&format!("  post-image  SHA-256 {hash}\n{}", image(after)));
        }
        text
    }
}
