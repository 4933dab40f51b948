//! The evidence of a remediation: one object in the member's bucket, created before the change and
//! completed after it.
//!
//! Creation is create-only and completion is bound to what was read (`If-Match`), so two workers of the same
//! remediation cannot overwrite each other. Every call names the bucket's expected owner, because a bucket
//! name alone says nothing about whose it is. What a pre-image means is not known here.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_types::SdkConfig;
use aws_types::region::Region as SdkRegion;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::envelope::{self, Context, EnvelopeError, Plaintext};
use super::failure::AwsFailure;
use crate::arn::Arn;
use crate::contract::{Before, Evidence, EvidenceResult, Image, Job, Outcome, Sealed, metadata};
use crate::custody::Item;
use crate::ids::{AccountId, Fence, Region, RemediationId};
use crate::ledger::sha256_hex;

mod incidents;

pub use incidents::{Kept, Lock, LockMode};

/// Metadata `outcome` of an object whose remediation has not ended.
const STARTED: &str = "Started";
/// The hash of what is not there yet.
const NO_HASH: &str = "none";
/// What stands for no copy in the metadata.
const NO_COPY: &str = "none";
/// What the metadata says of a remediation in which nothing failed.
const NO_ERROR: &str = "none";
/// Longest error in the metadata, of which S3 keeps 2 KB in all.
const ERROR_LENGTH: usize = 600;
/// No evidence is larger; what is was not written by Redress.
const MAX_BYTES: i64 = 16 * 1024 * 1024;

/// Why evidence could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// S3 did not do it.
    #[error("evidence `{key}`: {source}")]
    S3 {
        /// The object.
        key: String,
        /// What S3 said.
        source: AwsFailure,
    },
    /// It could not be encrypted or decrypted.
    #[error("evidence `{key}`: {source}")]
    Envelope {
        /// The object.
        key: String,
        /// Why.
        source: EnvelopeError,
    },
    /// There is no such evidence.
    #[error("there is no evidence `{key}`; it expired, or the remediation never got as far as storing it")]
    NotFound {
        /// The object.
        key: String,
    },
    /// It is not what Redress writes.
    #[error("evidence `{key}` is malformed in its {part}; compare it with the object's earlier versions")]
    Malformed {
        /// The object.
        key: String,
        /// Where.
        part: &'static str,
    },
    /// The object under this key speaks of something else.
    #[error("evidence `{key}` belongs to remediation {holder}, started otherwise; nothing was overwritten")]
    Foreign {
        /// The object.
        key: String,
        /// Whose it is.
        holder: RemediationId,
    },
    /// A worker with a newer fence has taken over.
    #[error("evidence `{key}` was taken over by a newer worker (fence {fence}); this one stops")]
    Superseded {
        /// The object.
        key: String,
        /// The newer fence.
        fence: Fence,
    },
    /// It is sealed under a key that is not this account's.
    #[error("evidence `{key}` is sealed under `{key_id}`, not under this account's key; it is not acted on")]
    ForeignKey {
        /// The object.
        key: String,
        /// The key it names.
        key_id: String,
    },
    /// Whoever keeps what was taken of an incident has not been told how to lock it.
    #[error("`{key}` is not stored: this function was not told for how long it is to be locked")]
    Unlocked {
        /// The object.
        key: String,
    },
    /// Its remediation has ended, and otherwise.
    #[error("evidence `{key}` already says `{}`; an outcome is not rewritten", outcome.as_str())]
    Finished {
        /// The object.
        key: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// Somebody else wrote the object in between.
    #[error("evidence `{key}` was changed by another worker in between; nothing was overwritten")]
    Contended {
        /// The object.
        key: String,
    },
}

/// SHA-256 of a value's canonical JSON (RFC 8785), hexadecimal.
///
/// # Errors
/// When the value has no JSON form.
pub fn canonical_sha256<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json_canonicalizer::to_vec(value).map(|bytes| hex::encode(Sha256::digest(bytes)))
}

/// An S3 client for the evidence bucket: in the bucket's Region, and with paths instead of host names when
/// the endpoint is the lab's.
#[must_use]
pub fn s3_client(config: &SdkConfig, region: &Region) -> aws_sdk_s3::Client {
    let builder = aws_sdk_s3::config::Builder::from(config)
        .region(SdkRegion::new(region.to_string()))
        .force_path_style(config.endpoint_url().is_some());
    aws_sdk_s3::Client::from_conf(builder.build())
}

/// Evidence as it was read or written: what [`EvidenceWriter::finish`] is conditioned on.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its content.
    pub evidence: Evidence,
    etag: String,
    /// The object's version; empty when S3 did not say.
    pub version_id: String,
    /// SHA-256 of the object's bytes, hexadecimal.
    pub sha256: String,
}

/// What [`EvidenceWriter::begin`] found.
#[derive(Debug, Clone)]
pub enum Begun {
    /// Nothing: the evidence was created.
    Created(Stored),
    /// The evidence of an earlier try of the same remediation. Its pre-image stands.
    Existing(Stored),
}

/// What is stored before a change.
#[derive(Debug)]
pub struct Opening<'a> {
    /// What was asked for; names the object.
    pub job: &'a Job,
    /// Where the resource is.
    pub region: &'a Region,
    /// Now.
    pub at: Timestamp,
    /// Pre-image and change.
    pub before: &'a Before,
    /// The end, when there is nothing to change: one write instead of two.
    pub ending: Option<Ending<'a>>,
}

/// What is stored after a change.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Now.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// What failed; empty when nothing did.
    pub error: &'a str,
    /// The post-image.
    pub after: &'a Image,
    /// See [`EvidenceResult::uncertain`].
    pub uncertain: bool,
    /// See [`EvidenceResult::made`].
    pub made: &'a str,
    /// See [`EvidenceResult::acquired`].
    pub acquired: &'a [Item],
}

/// Reads evidence, from either account.
#[derive(Debug, Clone)]
pub struct EvidenceStore {
    s3: aws_sdk_s3::Client,
    kms: aws_sdk_kms::Client,
    bucket: String,
    owner: AccountId,
    /// The only key that it opens with; without one, the key that the evidence names.
    key: Option<String>,
}

impl EvidenceStore {
    /// A store over the bucket of the member account `owner`. Both clients are of that account's home Region.
    #[must_use]
    pub const fn new(s3: aws_sdk_s3::Client, kms: aws_sdk_kms::Client, bucket: String, owner: AccountId) -> Self {
        Self { s3, kms, bucket, owner, key: None }
    }

    /// The newest version of an object.
    ///
    /// # Errors
    /// When it is not there, not readable, or not what Redress writes.
    pub async fn read(&self, key: &str) -> Result<Stored, EvidenceError> {
        let malformed = |part| EvidenceError::Malformed { key: key.to_owned(), part };
        let answer = self
            .s3
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .expected_bucket_owner(self.owner.as_str())
            .send()
            .await
            .map_err(|error| match error.as_service_error() {
                Some(GetObjectError::NoSuchKey(_)) => EvidenceError::NotFound { key: key.to_owned() },
                _ => EvidenceError::S3 { key: key.to_owned(), source: AwsFailure::of("GetObject", &error) },
            })?;
        if answer.content_length().is_some_and(|length| length > MAX_BYTES) {
            return Err(malformed("size"));
        }
        let (etag, version_id) = (answer.e_tag.unwrap_or_default(), answer.version_id.unwrap_or_default());
        let body = answer.body.collect().await.map_err(|_| malformed("transfer"))?.into_bytes();
        let evidence = serde_json::from_slice(&body).map_err(|_| malformed("form"))?;
        Ok(Stored { evidence, etag, version_id, sha256: sha256_hex(&body) })
    }

    /// Pre-image and change, in the clear.
    ///
    /// # Errors
    /// When they do not decrypt, or are not what the hashes beside them say.
    pub async fn open_before(&self, evidence: &Evidence) -> Result<Before, EvidenceError> {
        let before: Before = self.open(evidence, &evidence.before, "pre-image").await?;
        check(evidence, "pre-image hash", &before.pre_image, &evidence.pre_image_sha256)?;
        check(evidence, "change hash", &before.change, &evidence.change_sha256)?;
        Ok(before)
    }

    /// The post-image, in the clear; `None` when the remediation has not ended.
    ///
    /// # Errors
    /// When it does not decrypt, or is not what the hash beside it says.
    pub async fn open_after(&self, evidence: &Evidence) -> Result<Option<Image>, EvidenceError> {
        let Some(result) = &evidence.result else { return Ok(None) };
        let after: Image = self.open(evidence, &result.after, "post-image").await?;
        check(evidence, "post-image hash", &after, &result.post_image_sha256)?;
        Ok(Some(after))
    }

    async fn open<T: DeserializeOwned>(
        &self,
        evidence: &Evidence,
        sealed: &Sealed,
        part: &'static str,
    ) -> Result<T, EvidenceError> {
        let key = || evidence.job.evidence_key.clone();
        let context = Context::new(evidence.job.remediation_id, self.owner.clone());
        let plain = envelope::open(&self.kms, self.key.as_deref(), &context, sealed)
            .await
            .map_err(|source| EvidenceError::Envelope { key: key(), source })?;
        serde_json::from_slice(plain.as_bytes()).map_err(|_| EvidenceError::Malformed { key: key(), part })
    }
}

fn check<T: Serialize>(
    evidence: &Evidence,
    part: &'static str,
    value: &T,
    expected: &str,
) -> Result<(), EvidenceError> {
    match canonical_sha256(value) {
        Ok(hash) if hash == expected => Ok(()),
        _ => Err(EvidenceError::Malformed { key: evidence.job.evidence_key.clone(), part }),
    }
}

/// Writes evidence, in the member account.
#[derive(Debug, Clone)]
pub struct EvidenceWriter {
    store: EvidenceStore,
    /// The member's key, or its alias where the key's own ARN is not known: in a further Region.
    key: Arn,
    /// How what is taken of an incident is locked; `None` for who keeps none.
    lock: Option<Lock>,
}

impl EvidenceWriter {
    /// A writer that seals under the member's key. The key's ARN also says whose the bucket is and which
    /// Region is home; `None` when it says neither.
    #[must_use]
    pub fn new(config: &SdkConfig, bucket: String, key: &Arn) -> Option<Self> {
        let home = key.region()?;
        let kms = aws_sdk_kms::config::Builder::from(config).region(SdkRegion::new(home.to_string())).build();
        let kms = aws_sdk_kms::Client::from_conf(kms);
        let mut store = EvidenceStore::new(s3_client(config, home), kms, bucket, key.account()?.clone());
        store.key = Some(key.to_string());
        Some(Self { store, key: key.clone(), lock: None })
    }

    /// The account whose evidence this is.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.store.owner
    }

    /// Stores pre-image and change, create-only. Nothing may be changed before this has succeeded.
    ///
    /// # Errors
    /// When it could not be stored, or the key holds the evidence of something else.
    pub async fn begin(&self, opening: Opening<'_>) -> Result<Begun, EvidenceError> {
        let key = &opening.job.evidence_key;
        let result = match opening.ending {
            Some(ending) => Some(self.result(opening.job, ending).await?),
            None => None,
        };
        let evidence = Evidence {
            version: 1,
            job: opening.job.clone(),
            account_id: self.store.owner.clone(),
            region: opening.region.clone(),
            recorded_at: opening.at,
            before: self.seal(opening.job, opening.before).await?,
            pre_image_sha256: hash(key, &opening.before.pre_image)?,
            change_sha256: hash(key, &opening.before.change)?,
            result,
        };
        let (put, sha256) = self.put(&evidence)?;
        match put.if_none_match("*").send().await {
            Ok(answer) => Ok(Begun::Created(written(evidence, answer, sha256))),
            Err(error) if lost_the_race(&error) => self.take_over(opening.job).await.map(Begun::Existing),
            Err(error) => Err(EvidenceError::S3 { key: key.clone(), source: AwsFailure::of("PutObject", &error) }),
        }
    }

    /// The evidence of an earlier try. While that has not ended, a newer fence is written into it: what the earlier
    /// worker would still record, should it be alive, is refused from now on.
    async fn take_over(&self, job: &Job) -> Result<Stored, EvidenceError> {
        let stored = self.read_own(&job.evidence_key).await?;
        same_job(&stored.evidence, job)?;
        if stored.evidence.result.is_some() || stored.evidence.job.fence == job.fence {
            return Ok(stored);
        }
        let mut evidence = stored.evidence;
        evidence.job.fence.clone_from(&job.fence);
        let (put, sha256) = self.put(&evidence)?;
        match put.if_match(&stored.etag).send().await {
            Ok(answer) => Ok(written(evidence, answer, sha256)),
            // Somebody else was quicker. Whether that was a newer worker, the earlier one's end, or this very call,
            // whose answer was lost, is in the object.
            Err(error) if lost_the_race(&error) => {
                let stored = self.read_own(&job.evidence_key).await?;
                same_job(&stored.evidence, job)?;
                match stored.evidence.result.is_some() || stored.evidence.job.fence == job.fence {
                    true => Ok(stored),
                    false => Err(EvidenceError::Contended { key: job.evidence_key.clone() }),
                }
            }
            Err(error) => {
                Err(EvidenceError::S3 { key: job.evidence_key.clone(), source: AwsFailure::of("PutObject", &error) })
            }
        }
    }

    /// Adds the end. Repeating it with the same outcome changes nothing.
    ///
    /// # Errors
    /// When it could not be stored, or the object ended otherwise or was changed since it was read.
    pub async fn finish(&self, stored: &Stored, ending: Ending<'_>) -> Result<Stored, EvidenceError> {
        let job = &stored.evidence.job;
        if stored.evidence.result.is_some() {
            return ended_alike(stored.clone(), ending.outcome);
        }
        let evidence = Evidence { result: Some(self.result(job, ending).await?), ..stored.evidence.clone() };
        let (put, sha256) = self.put(&evidence)?;
        match put.if_match(&stored.etag).send().await {
            Ok(answer) => Ok(written(evidence, answer, sha256)),
            // The first answer to this very call may have been lost.
            Err(error) if lost_the_race(&error) => {
                let now = self.read_own(&job.evidence_key).await?;
                not_overtaken(&now.evidence, job)?;
                ended_alike(now, ending.outcome)
            }
            Err(error) => {
                Err(EvidenceError::S3 { key: job.evidence_key.clone(), source: AwsFailure::of("PutObject", &error) })
            }
        }
    }

    /// Reads evidence that will be acted on: it must be this account's and sealed under this account's key,
    /// or whoever may write to the bucket could have a pre-image of their own restored.
    ///
    /// # Errors
    /// When it is not there, not readable, or not of this account and key.
    pub async fn read_own(&self, key: &str) -> Result<Stored, EvidenceError> {
        let stored = self.store.read(key).await?;
        own(&stored.evidence, key, &self.store.owner, &self.key)?;
        Ok(stored)
    }

    /// See [`EvidenceStore::open_before`].
    ///
    /// # Errors
    /// As there.
    pub async fn open_before(&self, evidence: &Evidence) -> Result<Before, EvidenceError> {
        self.store.open_before(evidence).await
    }

    /// See [`EvidenceStore::open_after`].
    ///
    /// # Errors
    /// As there.
    pub async fn open_after(&self, evidence: &Evidence) -> Result<Option<Image>, EvidenceError> {
        self.store.open_after(evidence).await
    }

    async fn result(&self, job: &Job, ending: Ending<'_>) -> Result<EvidenceResult, EvidenceError> {
        Ok(EvidenceResult {
            finished_at: ending.at,
            outcome: ending.outcome,
            error: ending.error.to_owned(),
            after: self.seal(job, ending.after).await?,
            post_image_sha256: hash(&job.evidence_key, ending.after)?,
            uncertain: ending.uncertain,
            made: ending.made.to_owned(),
            acquired: ending.acquired.to_vec(),
        })
    }

    async fn seal<T: Serialize>(&self, job: &Job, value: &T) -> Result<Sealed, EvidenceError> {
        let plain = serde_json::to_vec(value)
            .map(Plaintext::from)
            .map_err(|_| EvidenceError::Malformed { key: job.evidence_key.clone(), part: "content" })?;
        let context = Context::new(job.remediation_id, self.store.owner.clone());
        envelope::seal(&self.store.kms, self.key.as_str(), &context, &plain)
            .await
            .map_err(|source| EvidenceError::Envelope { key: job.evidence_key.clone(), source })
    }

    /// The call that stores it, and the hash of what it stores.
    fn put(&self, evidence: &Evidence) -> Result<(PutObjectFluentBuilder, String), EvidenceError> {
        let key = &evidence.job.evidence_key;
        let body =
            serde_json::to_vec(evidence).map_err(|_| EvidenceError::Malformed { key: key.clone(), part: "content" })?;
        let sha256 = sha256_hex(&body);
        let put = describe(evidence).into_iter().fold(
            self.store
                .s3
                .put_object()
                .bucket(&self.store.bucket)
                .key(key)
                .expected_bucket_owner(self.store.owner.as_str())
                .content_type("application/json")
                .server_side_encryption(ServerSideEncryption::AwsKms)
                // The bucket's policy asks for the key's ARN, which KMS told when it sealed.
                .ssekms_key_id(&evidence.before.key_id)
                .body(ByteStream::from(body)),
            |put, (name, value)| put.metadata(name, value),
        );
        Ok((put, sha256))
    }
}

fn written(evidence: Evidence, answer: PutObjectOutput, sha256: String) -> Stored {
    let (etag, version_id) = (answer.e_tag.unwrap_or_default(), answer.version_id.unwrap_or_default());
    Stored { evidence, etag, version_id, sha256 }
}

/// That no worker with a newer fence has taken the evidence over.
///
/// # Errors
/// When one has.
pub fn not_overtaken(existing: &Evidence, job: &Job) -> Result<(), EvidenceError> {
    let key = || job.evidence_key.clone();
    let fence =
        |text: &str| text.parse().map(Fence).map_err(|_| EvidenceError::Malformed { key: key(), part: "fence" });
    let (theirs, ours) = (fence(&existing.job.fence)?, fence(&job.fence)?);
    if theirs > ours {
        return Err(EvidenceError::Superseded { key: key(), fence: theirs });
    }
    Ok(())
}

/// The object's metadata: what the control runbook reads without reading the object.
fn describe(evidence: &Evidence) -> Vec<(&'static str, String)> {
    // Every key is always there: an Automation step that selects what is not may fail.
    let (outcome, post_image) = match &evidence.result {
        None => (STARTED, NO_HASH),
        Some(result) => (result.outcome.as_str(), result.post_image_sha256.as_str()),
    };
    let made = evidence.result.as_ref().map(|result| result.made.as_str()).filter(|made| !made.is_empty());
    let error = evidence.result.as_ref().map(|result| header(&result.error)).filter(|error| !error.is_empty());
    vec![
        (metadata::PRE_IMAGE, evidence.pre_image_sha256.clone()),
        (metadata::CHANGE, evidence.change_sha256.clone()),
        (metadata::FENCE, evidence.job.fence.clone()),
        (metadata::OUTCOME, outcome.to_owned()),
        (metadata::POST_IMAGE, post_image.to_owned()),
        (metadata::MADE, made.unwrap_or(NO_COPY).to_owned()),
        (metadata::ERROR, error.unwrap_or_else(|| NO_ERROR.to_owned())),
    ]
}

/// A text as a header holds it: printable ASCII on one line, and not too long. Braces are what Automation fills in. What AWS
/// repeats of a parameter that it does not take may be a secret.
fn header(text: &str) -> String {
    let text = without_values(text);
    let plain = |letter: char| match letter {
        '{' | '}' => '|',
        ' '..='~' => letter,
        _ if letter.is_whitespace() || letter.is_control() => ' ',
        _ => '?',
    };
    text.chars().map(plain).take(ERROR_LENGTH).collect::<String>().trim().to_owned()
}

/// AWS says `Value 'what was sent' at 'where' failed to satisfy constraint`: without what was sent.
fn without_values(text: &str) -> String {
    const BEFORE: &str = "alue '";
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some((before, value)) = rest.split_once(BEFORE) {
        kept.push_str(before);
        // Cut short: everything from there on may be of the value.
        let Some((_, after)) = value.split_once("' at '") else { return kept + "alue" };
        kept.push_str("alue at '");
        rest = after;
    }
    kept + rest
}

fn hash<T: Serialize>(key: &str, value: &T) -> Result<String, EvidenceError> {
    canonical_sha256(value).map_err(|_| EvidenceError::Malformed { key: key.to_owned(), part: "content" })
}

/// Whether an envelope says that it was sealed under our key. Of an alias only the place can be told: which key it
/// stands for is KMS's to say, and it opens nothing that another one has sealed.
fn is_ours(sealed: &str, ours: &Arn) -> bool {
    if !ours.resource().starts_with("alias/") {
        return sealed == ours.as_str();
    }
    sealed.parse::<Arn>().is_ok_and(|sealed| {
        let place =
            |arn: &Arn| (arn.partition(), arn.service().to_owned(), arn.region().cloned(), arn.account().cloned());
        place(&sealed) == place(ours) && sealed.resource().starts_with("key/")
    })
}

fn own(evidence: &Evidence, key: &str, account: &AccountId, ours: &Arn) -> Result<(), EvidenceError> {
    if evidence.account_id != *account || evidence.job.evidence_key != key {
        return Err(EvidenceError::Foreign { key: key.to_owned(), holder: evidence.job.remediation_id });
    }
    let after = evidence.result.as_ref().map(|result| &result.after);
    match [Some(&evidence.before), after].into_iter().flatten().find(|sealed| !is_ours(&sealed.key_id, ours)) {
        Some(sealed) => Err(EvidenceError::ForeignKey { key: key.to_owned(), key_id: sealed.key_id.clone() }),
        None => Ok(()),
    }
}

/// Whether existing evidence is of the same job. Only the fence may differ, and only upwards.
fn same_job(existing: &Evidence, job: &Job) -> Result<(), EvidenceError> {
    let unfenced = Job { fence: job.fence.clone(), ..existing.job.clone() };
    if unfenced != *job {
        let key = job.evidence_key.clone();
        return Err(EvidenceError::Foreign { key, holder: existing.job.remediation_id });
    }
    not_overtaken(existing, job)
}

fn ended_alike(stored: Stored, outcome: Outcome) -> Result<Stored, EvidenceError> {
    let key = stored.evidence.job.evidence_key.clone();
    match &stored.evidence.result {
        Some(result) if result.outcome == outcome => Ok(stored),
        Some(result) => Err(EvidenceError::Finished { key, outcome: result.outcome }),
        None => Err(EvidenceError::Contended { key }),
    }
}

/// Whether S3 refused a conditional write because the object is there, or is just being written.
fn lost_the_race<E>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|answer| matches!(answer.status().as_u16(), 409 | 412))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::contract::Mode;
    use serde_json::json;

    const KEY_ID: &str = "arn:aws:kms:eu-central-1:111122223333:key/k";
    const KEY: &str = "year=2026/month=01/day=02/remediation-x.json";

    fn job() -> Job {
        Job {
            remediation_id: RemediationId::of_rejected(b"1"),
            control: "S3.8".parse().unwrap(),
            resource_arn: "arn:aws:s3:::bucket".parse().unwrap(),
            resource_name: "bucket".to_owned(),
            mode: Mode::Apply,
            fence: "3".to_owned(),
            evidence_key: KEY.to_owned(),
            source_evidence_key: String::new(),
            plan_sha256: String::new(),
        }
    }

    fn sealed(key_id: &str) -> Sealed {
        Sealed {
            key_id: key_id.to_owned(),
            encrypted_data_key: String::new(),
            nonce: String::new(),
            ciphertext: String::new(),
        }
    }

    fn evidence(outcome: Option<Outcome>) -> Evidence {
        Evidence {
            version: 1,
            job: job(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            recorded_at: Timestamp::UNIX_EPOCH,
            before: sealed(KEY_ID),
            pre_image_sha256: "a".to_owned(),
            change_sha256: "b".to_owned(),
            result: outcome.map(|outcome| EvidenceResult {
                finished_at: Timestamp::UNIX_EPOCH,
                outcome,
                error: String::new(),
                after: sealed(KEY_ID),
                post_image_sha256: "c".to_owned(),
                uncertain: false,
                made: String::new(),
                acquired: Vec::new(),
            }),
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_keys() {
        let one = canonical_sha256(&json!({"b": 1, "a": [true, null]})).unwrap();
        let other = canonical_sha256(&json!({"a": [true, null], "b": 1.0})).unwrap();
        assert_eq!(one, other);
        assert_eq!(one, hex::encode(Sha256::digest(br#"{"a":[true,null],"b":1}"#)));
        assert_ne!(one, canonical_sha256(&json!({"a": [null, true], "b": 1})).unwrap());
    }

    #[test]
    fn unfinished_evidence_says_started_and_has_no_post_image() {
        assert!(describe(&evidence(None)).contains(&("outcome", "Started".to_owned())));
        assert!(describe(&evidence(None)).contains(&("post-image-sha256", "none".to_owned())));
        assert!(describe(&evidence(Some(Outcome::Verified))).contains(&("post-image-sha256", "c".to_owned())));
        assert!(describe(&evidence(Some(Outcome::Verified))).contains(&("outcome", "Verified".to_owned())));
        assert!(describe(&evidence(Some(Outcome::Verified))).contains(&("error", "none".to_owned())));
        let mut failed = evidence(Some(Outcome::Failed));
        if let Some(result) = &mut failed.result {
            result.error = format!("no \u{2026} {{{{ Mode }}}}\n{}", "x".repeat(4000));
        }
        let told = describe(&failed).into_iter().find(|(name, _)| *name == "error").unwrap().1;
        assert!(told.starts_with("no ? || Mode || xxx") && told.len() == ERROR_LENGTH, "{told}");
        for (said, kept) in [
            (
                "2 errors: Value 'hunter2' at 'value' is bad; Value 'a' at 'name' too",
                "2 errors: Value at 'value' is bad; Value at 'name' too",
            ),
            ("Value 'it's 'hunter2' at 'value' is bad", "Value at 'value' is bad"),
            ("value 'hunter2", "value"),
            ("no value was given", "no value was given"),
        ] {
            assert_eq!(header(said), kept);
        }
    }

    #[test]
    fn evidence_of_another_account_key_or_place_is_not_acted_on() {
        let account = "111122223333".parse().unwrap();
        let given = evidence(Some(Outcome::Verified));
        let ours: Arn = KEY_ID.parse().unwrap();
        assert!(own(&given, KEY, &account, &ours).is_ok());
        assert!(matches!(own(&given, "elsewhere", &account, &ours), Err(EvidenceError::Foreign { .. })));
        let other = "444455556666".parse().unwrap();
        assert!(matches!(own(&given, KEY, &other, &ours), Err(EvidenceError::Foreign { .. })));
        let mut swapped = given;
        swapped.result.as_mut().unwrap().after = sealed("arn:aws:kms:eu-central-1:666666666666:key/theirs");
        assert!(matches!(own(&swapped, KEY, &account, &ours), Err(EvidenceError::ForeignKey { .. })));
    }

    #[test]
    fn who_knows_the_key_by_its_alias_takes_any_key_of_that_place_and_no_other() {
        let alias: Arn = "arn:aws:kms:eu-central-1:111122223333:alias/redress-member".parse().unwrap();
        assert!(is_ours(KEY_ID, &alias));
        for other in [
            "arn:aws:kms:eu-central-1:666666666666:key/k",
            "arn:aws:kms:eu-west-1:111122223333:key/k",
            "arn:aws:kms:eu-central-1:111122223333:alias/theirs",
            "k",
        ] {
            assert!(!is_ours(other, &alias), "{other}");
        }
        assert!(!is_ours("arn:aws:kms:eu-central-1:111122223333:key/other", &KEY_ID.parse().unwrap()));
    }

    #[test]
    fn an_earlier_try_of_the_same_job_stands_and_any_other_is_refused() {
        let existing = evidence(None);
        assert!(same_job(&existing, &job()).is_ok());
        assert!(same_job(&existing, &Job { fence: "4".to_owned(), ..job() }).is_ok());
        let dry = Job { mode: Mode::DryRun, ..job() };
        assert!(matches!(same_job(&existing, &dry), Err(EvidenceError::Foreign { .. })));
    }

    #[test]
    fn defect_17_a_worker_presumed_dead_does_not_write_over_its_successor() {
        let stale = Job { fence: "2".to_owned(), ..job() };
        let error = same_job(&evidence(None), &stale).unwrap_err();
        assert!(matches!(error, EvidenceError::Superseded { fence: Fence(3), .. }));
    }

    #[test]
    fn an_outcome_is_not_rewritten() {
        let stored = |outcome| Stored {
            evidence: evidence(outcome),
            etag: "e".to_owned(),
            version_id: String::new(),
            sha256: String::new(),
        };
        assert!(ended_alike(stored(Some(Outcome::Verified)), Outcome::Verified).is_ok());
        let otherwise = ended_alike(stored(Some(Outcome::Failed)), Outcome::Verified);
        assert!(matches!(otherwise, Err(EvidenceError::Finished { outcome: Outcome::Failed, .. })));
        assert!(matches!(ended_alike(stored(None), Outcome::Verified), Err(EvidenceError::Contended { .. })));
    }
}
