//! The evidence calls that both Lambdas make: beginning, ending, and reading what is to be undone.

use jiff::Timestamp;
use redress_common::aws::evidence::{Begun, Ending, EvidenceError, EvidenceWriter, Opening, Stored};
use redress_common::contract::{Before, Image, Job, Outcome};
use redress_common::custody::Item;

use crate::place::Place;

/// Why there is nothing to undo from.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No evidence was named.
    #[error("an undo needs `SourceEvidenceKey`, the evidence of the remediation to undo; it was empty")]
    Unnamed,
    /// It speaks of something else.
    #[error("evidence `{key}` is not of this resource and control; nothing is restored from it")]
    Other {
        /// The evidence.
        key: String,
    },
    /// It could not be read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

/// What the remediation to undo found and left.
#[derive(Debug)]
pub struct Source {
    /// Its pre-image.
    pub before: Image,
    /// What it left; `None` when nobody knows: it never ended, or somebody else may have made what was found at its end.
    pub after: Option<Image>,
}

/// Reads the pre-image and post-image of the remediation that `job` undoes.
///
/// # Errors
/// When they cannot be read, or are of another resource or control.
pub async fn source(evidence: &EvidenceWriter, job: &Job) -> Result<Source, SourceError> {
    let stored = source_evidence(evidence, job).await?;
    let before = evidence.open_before(&stored.evidence).await?.pre_image;
    let after = match &stored.evidence.result {
        Some(result) if !result.uncertain => evidence.open_after(&stored.evidence).await?,
        _ => None,
    };
    Ok(Source { before, after })
}

/// Reads the evidence of the remediation that `job` undoes, sealed as it is.
///
/// # Errors
/// As [`source`].
pub async fn source_evidence(evidence: &EvidenceWriter, job: &Job) -> Result<Stored, SourceError> {
    let key = &job.source_evidence_key;
    if key.is_empty() {
        return Err(SourceError::Unnamed);
    }
    let stored = evidence.read_own(key).await?;
    let theirs = &stored.evidence.job;
    if theirs.resource_arn != job.resource_arn || theirs.control != job.control {
        return Err(SourceError::Other { key: key.clone() });
    }
    Ok(stored)
}

/// Stores a pre-image and a change; with an outcome when nothing will be changed.
///
/// # Errors
/// When it could not be stored.
pub async fn begin(
    evidence: &EvidenceWriter,
    place: &Place,
    job: &Job,
    before: &Before,
    outcome: Option<Outcome>,
    error: &str,
) -> Result<Begun, EvidenceError> {
    let at = Timestamp::now();
    let ending = outcome.map(|outcome| Ending {
        at,
        outcome,
        error,
        after: &before.pre_image,
        uncertain: false,
        made: "",
        acquired: &[],
    });
    evidence.begin(Opening { job, region: &place.region, at, before, ending }).await
}

/// What a remediation left.
#[derive(Debug, Clone, Copy)]
pub enum Left<'a> {
    /// This: an undo may put the pre-image back over it.
    Own(&'a Image),
    /// This was found, and somebody else may have made it: an undo leaves it alone.
    Found(&'a Image),
}

/// Stores the end.
///
/// # Errors
/// When it could not be stored, or the evidence says another end.
pub async fn end(
    evidence: &EvidenceWriter,
    stored: &Stored,
    outcome: Outcome,
    error: &str,
    left: Left<'_>,
) -> Result<Stored, EvidenceError> {
    end_with(evidence, stored, outcome, error, left, &[]).await
}

/// Stores the end, and what was taken of the resource.
///
/// # Errors
/// As [`end`].
pub async fn end_with(
    evidence: &EvidenceWriter,
    stored: &Stored,
    outcome: Outcome,
    error: &str,
    left: Left<'_>,
    acquired: &[Item],
) -> Result<Stored, EvidenceError> {
    let (after, uncertain) = match left {
        Left::Own(image) => (image, false),
        Left::Found(image) => (image, true),
    };
    let at = Timestamp::now();
    evidence.finish(stored, Ending { at, outcome, error, after, uncertain, made: "", acquired }).await
}

/// Stores that a copy was made and is complete; the resource is as it was.
///
/// # Errors
/// As [`end`].
pub async fn end_of_copy(
    evidence: &EvidenceWriter,
    stored: &Stored,
    now: &Image,
    made: &str,
) -> Result<Stored, EvidenceError> {
    let at = Timestamp::now();
    let ending =
        Ending { at, outcome: Outcome::Snapshotted, error: "", after: now, uncertain: false, made, acquired: &[] };
    evidence.finish(stored, ending).await
}
