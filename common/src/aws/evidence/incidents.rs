//! What is kept of an incident: objects under [`crate::custody::PREFIX`], created once and locked one by one.
//!
//! Nothing here is read to act on it. The lock is S3's, and it begins with the object: whoever stores something has no moment
//! in which it is not locked.

use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ObjectLockMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{EvidenceError, EvidenceStore, EvidenceWriter, MAX_BYTES, lost_the_race};
use crate::aws::envelope::{self, Context};
use crate::aws::failure::AwsFailure;
use crate::contract::Job;
use crate::custody::{self, SealedDocument};
use crate::ids::RemediationId;
use crate::ledger::sha256_hex;

const DAY: i64 = 24 * 60 * 60;
/// As the template's parameter `IncidentLockDays` has it.
const MOST_DAYS: u16 = 3650;

/// Who may end a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody.
    Compliance,
}

/// How long, and against whom, what is taken of an incident is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    days: u16,
    mode: LockMode,
}

impl Lock {
    /// As the function's variables say it: 1 to 3650 days, and `GOVERNANCE` or `COMPLIANCE`. `None` when they say anything else.
    #[must_use]
    pub fn parse(days: &str, mode: &str) -> Option<Self> {
        let days = days.parse().ok().filter(|days| (1..=MOST_DAYS).contains(days))?;
        let mode = match mode {
            "GOVERNANCE" => LockMode::Governance,
            "COMPLIANCE" => LockMode::Compliance,
            _ => return None,
        };
        Some(Self { days, mode })
    }

    const fn mode(self) -> ObjectLockMode {
        match self.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        }
    }

    /// Until when what is stored now is locked.
    fn until(self, now: Timestamp) -> DateTime {
        DateTime::from_secs(now.as_second() + i64::from(self.days) * DAY)
    }
}

/// An object that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its key.
    pub key: String,
    /// Its version; empty when S3 did not say.
    pub version_id: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

impl EvidenceWriter {
    /// The same, for who keeps what is taken of incidents.
    #[must_use]
    pub fn with_lock(self, lock: Lock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// Whether it keeps what is taken of incidents.
    #[must_use]
    pub const fn keeps_incidents(&self) -> bool {
        self.lock.is_some()
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.store.bucket
    }

    /// Stores an object of an incident, create-only and locked. What is there already stays, and is what is answered.
    ///
    /// # Errors
    /// When it could not be stored, or what is there not be read.
    pub async fn keep(
        &self,
        id: RemediationId,
        name: &str,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Result<Kept, EvidenceError> {
        let key = custody::key(id, name);
        let Some(lock) = self.lock else { return Err(EvidenceError::Unlocked { key }) };
        let sha256 = sha256_hex(&body);
        // The bucket encrypts it by its own key. S3 asks for a checksum of whatever comes with a lock, and keeps this one.
        let put = self.store.s3.put_object().bucket(&self.store.bucket).key(&key);
        let put = put.expected_bucket_owner(self.store.owner.as_str()).content_type("application/json");
        let put = put.checksum_sha256(STANDARD.encode(Sha256::digest(&body)));
        let put = put.object_lock_mode(lock.mode()).object_lock_retain_until_date(lock.until(now));
        match put.body(ByteStream::from(body)).if_none_match("*").send().await {
            Ok(answer) => Ok(Kept { key, version_id: answer.version_id.unwrap_or_default(), sha256 }),
            Err(error) if lost_the_race(&error) => {
                let (body, version_id) = self.store.bytes(&key).await?;
                Ok(Kept { key, version_id, sha256: sha256_hex(&body) })
            }
            Err(error) => Err(EvidenceError::S3 { key, source: AwsFailure::of("PutObject", &error) }),
        }
    }

    /// Seals a document as pre-images are, and stores it as [`EvidenceWriter::keep`] does.
    ///
    /// # Errors
    /// When it could not be sealed or stored.
    pub async fn keep_sealed<T: Serialize + Sync>(
        &self,
        job: &Job,
        name: &str,
        document: &T,
        now: Timestamp,
    ) -> Result<Kept, EvidenceError> {
        let document = SealedDocument {
            version: 1,
            remediation_id: job.remediation_id,
            account_id: self.store.owner.clone(),
            sealed: self.seal(job, document).await?,
        };
        let malformed = |_| EvidenceError::Malformed { key: custody::key(job.remediation_id, name), part: "content" };
        let body = serde_json::to_vec(&document).map_err(malformed)?;
        self.keep(job.remediation_id, name, body, now).await
    }
}

impl EvidenceStore {
    /// Everything that is kept of a remediation, by its name: the bytes as they lie there.
    ///
    /// # Errors
    /// When it could not be listed or read.
    pub async fn incident(&self, id: RemediationId) -> Result<Vec<(String, Vec<u8>)>, EvidenceError> {
        let folder = custody::folder(id);
        let failed = |source| EvidenceError::S3 { key: folder.clone(), source };
        // It is a handful: one page.
        let listed = self.s3.list_objects_v2().bucket(&self.bucket).prefix(&folder);
        let listed = listed.expected_bucket_owner(self.owner.as_str()).send().await;
        let listed = listed.map_err(|error| failed(AwsFailure::of("ListObjectsV2", &error)))?;
        let mut found = Vec::new();
        for key in listed.contents().iter().filter_map(|one| one.key()) {
            let name = key.strip_prefix(&folder).unwrap_or(key);
            // It becomes the name of a file.
            if name.contains(['/', '\\']) {
                return Err(EvidenceError::Malformed { key: key.to_owned(), part: "name" });
            }
            found.push((name.to_owned(), self.bytes(key).await?.0));
        }
        Ok(found)
    }

    /// What is sealed in a document, in the clear; `None` when it is not a sealed document.
    ///
    /// # Errors
    /// When it does not decrypt.
    pub async fn open_document(
        &self,
        id: RemediationId,
        name: &str,
        body: &[u8],
    ) -> Result<Option<Value>, EvidenceError> {
        let Ok(document) = serde_json::from_slice::<SealedDocument>(body) else { return Ok(None) };
        let key = custody::key(id, name);
        // Whatever it says of itself: another one's does not open.
        let context = Context::new(id, self.owner.clone());
        let plain = envelope::open(&self.kms, self.key.as_deref(), &context, &document.sealed)
            .await
            .map_err(|source| EvidenceError::Envelope { key: key.clone(), source })?;
        let malformed = |_| EvidenceError::Malformed { key: key.clone(), part: "content" };
        serde_json::from_slice(plain.as_bytes()).map(Some).map_err(malformed)
    }

    /// An object's bytes and version.
    async fn bytes(&self, key: &str) -> Result<(Vec<u8>, String), EvidenceError> {
        let malformed = |part| EvidenceError::Malformed { key: key.to_owned(), part };
        let get = self.s3.get_object().bucket(&self.bucket).key(key).expected_bucket_owner(self.owner.as_str());
        let answer = get.send().await.map_err(|error| match error.as_service_error() {
            Some(GetObjectError::NoSuchKey(_)) => EvidenceError::NotFound { key: key.to_owned() },
            _ => EvidenceError::S3 { key: key.to_owned(), source: AwsFailure::of("GetObject", &error) },
        })?;
        if answer.content_length().is_some_and(|length| length > MAX_BYTES) {
            return Err(malformed("size"));
        }
        let version_id = answer.version_id.unwrap_or_default();
        let body = answer.body.collect().await.map_err(|_| malformed("transfer"))?;
        Ok((body.to_vec(), version_id))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_for_a_stated_time_against_a_stated_one() {
        let lock = Lock::parse("365", "GOVERNANCE").unwrap();
        assert_eq!(lock.until(Timestamp::UNIX_EPOCH), DateTime::from_secs(365 * DAY));
        assert_eq!(lock.mode(), ObjectLockMode::Governance);
        assert_eq!(Lock::parse("1", "COMPLIANCE").unwrap().mode(), ObjectLockMode::Compliance);
        for (days, mode) in
            [("0", "GOVERNANCE"), ("3651", "GOVERNANCE"), ("", "GOVERNANCE"), ("1", "governance"), ("1", "")]
        {
            assert_eq!(Lock::parse(days, mode), None, "{days} {mode}");
        }
    }
}
