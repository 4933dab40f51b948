//! The recorder: stores pre-image, change and outcome for the runbooks that make their calls themselves.
//!
//! It reads and writes evidence and nothing else: it cannot touch a resource. A runbook that does not get
//! `Proceed` from it changes nothing.

use redress_common::aws::evidence::{Begun, EvidenceError, EvidenceWriter, Stored, canonical_sha256, not_overtaken};
use redress_common::contract::{
    AGAIN, Before, Change, Finish, Image, Job, Mode, Outcome, PROCEED, Prepare, RecorderRequest, RecorderResponse,
};

use crate::judge::{self, HALF_DONE, Resume, Undo, VOID};
use crate::place::{BindingError, Place};
use crate::record::{self, Left, SourceError, begin, end};

/// Why nothing was recorded. The runbook stops on it.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// Not for this account or Region.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The evidence could not be stored or read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A runbook asks for something that does not go together.
    #[error("{0}; the runbook is wrong, compile it again")]
    Request(&'static str),
    /// The evidence to undo from is not usable.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Answers one request of a runbook.
///
/// # Errors
/// When it could not be recorded; nothing may be changed then.
pub async fn handle(
    evidence: &EvidenceWriter,
    place: &Place,
    request: RecorderRequest,
) -> Result<RecorderResponse, RecorderError> {
    let job = match &request {
        RecorderRequest::Prepare(prepare) | RecorderRequest::Load(prepare) => &prepare.job,
        RecorderRequest::Finish(finish) => &finish.job,
    };
    place.bind(job)?;
    place.bind_account("the evidence key", evidence.account())?;
    let answer = match request {
        RecorderRequest::Prepare(request) => prepare(evidence, place, request).await,
        RecorderRequest::Load(request) => load(evidence, place, request).await,
        RecorderRequest::Finish(request) => finish(evidence, request).await,
    };
    match answer {
        // Whoever took over records what becomes of it. This runbook ends without a word more and without a change.
        Err(RecorderError::Evidence(EvidenceError::Superseded { .. })) => Ok(refused()),
        answer => answer,
    }
}

async fn prepare(
    evidence: &EvidenceWriter,
    place: &Place,
    request: Prepare,
) -> Result<RecorderResponse, RecorderError> {
    let Prepare { job, image, change } = request;
    let changes = !change.0.is_empty();
    if changes && job.mode == Mode::Restore {
        return Err(RecorderError::Request("`Prepare` with a change does not go with mode `Restore`"));
    }
    let before = Before { pre_image: image, change };
    let (end_now, why) =
        if changes && judge::void(&job, &before) { (Some(Outcome::Drifted), VOID) } else { (None, "") };
    match begin(evidence, place, &job, &before, end_now, why).await? {
        Begun::Existing(stored) if changes && stored.evidence.result.is_none() => {
            let recorded = evidence.open_before(&stored.evidence).await?;
            match judge::resume(false, &before.pre_image, &recorded.pre_image) {
                Resume::Again => Ok(proceed(&stored, None)),
                Resume::Reached | Resume::Stop => {
                    let stored =
                        end(evidence, &stored, Outcome::Failed, HALF_DONE, Left::Found(&before.pre_image)).await?;
                    Ok(decided(&stored))
                }
            }
        }
        Begun::Created(stored) | Begun::Existing(stored) => Ok(decided(&stored)),
    }
}

async fn load(evidence: &EvidenceWriter, place: &Place, request: Prepare) -> Result<RecorderResponse, RecorderError> {
    let Prepare { job, image: now, change } = request;
    let source = record::source(evidence, &job).await?;
    let verdict = judge::undo(&now, &source.before, source.after.as_ref());
    let before = Before { pre_image: now, change };
    let (end_now, why) = match judge::undo_end(verdict, job.mode) {
        None if judge::void(&job, &before) => (Some(Outcome::Drifted), VOID),
        end_now => (end_now, ""),
    };
    match begin(evidence, place, &job, &before, end_now, why).await? {
        Begun::Existing(stored) if stored.evidence.result.is_none() => {
            let recorded = evidence.open_before(&stored.evidence).await?;
            let now = &before.pre_image;
            let (outcome, error, left) = match judge::resume(verdict == Undo::Nothing, now, &recorded.pre_image) {
                Resume::Again => return Ok(proceed(&stored, Some(source.before))),
                Resume::Reached => (end_now.unwrap_or(Outcome::Restored), "", Left::Own(now)),
                Resume::Stop => (Outcome::Failed, HALF_DONE, Left::Found(now)),
            };
            Ok(decided(&end(evidence, &stored, outcome, error, left).await?))
        }
        Begun::Created(stored) if stored.evidence.result.is_none() => Ok(proceed(&stored, Some(source.before))),
        Begun::Created(stored) | Begun::Existing(stored) => Ok(decided(&stored)),
    }
}

async fn finish(evidence: &EvidenceWriter, request: Finish) -> Result<RecorderResponse, RecorderError> {
    let Finish { job, outcome, image, error, unread, patient } = request;
    let stored = evidence.read_own(&job.evidence_key).await?;
    if stored.evidence.job.remediation_id != job.remediation_id {
        let holder = stored.evidence.job.remediation_id;
        return Err(EvidenceError::Foreign { key: job.evidence_key, holder }.into());
    }
    not_overtaken(&stored.evidence, &job)?;
    let left = if unread { Left::Found(&image) } else { Left::Own(&image) };
    let (outcome, error) = match outcome {
        // An earlier try had made the change and died before it could say so.
        Outcome::AlreadyCompliant if job.mode == Mode::Apply && plans_something(&stored) => (Outcome::Verified, error),
        Outcome::Restored if !is_pre_image_of(evidence, &job, &image).await? => {
            if patient && stored.evidence.result.is_none() {
                return Ok(RecorderResponse { decision: AGAIN.to_owned(), ..decided(&stored) });
            }
            (Outcome::Unverified, "put back, but reading it back does not give the pre-image".to_owned())
        }
        outcome => (outcome, error),
    };
    Ok(decided(&end(evidence, &stored, outcome, &error, left).await?))
}

async fn is_pre_image_of(evidence: &EvidenceWriter, job: &Job, image: &Image) -> Result<bool, RecorderError> {
    let stored = record::source_evidence(evidence, job).await?;
    Ok(canonical_sha256(image).is_ok_and(|hash| hash == stored.evidence.pre_image_sha256))
}

fn plans_something(stored: &Stored) -> bool {
    canonical_sha256(&Change::default()).is_ok_and(|nothing| nothing != stored.evidence.change_sha256)
}

fn proceed(stored: &Stored, restore: Option<Image>) -> RecorderResponse {
    let Image { present, state } = restore.unwrap_or_else(judge::absent);
    RecorderResponse {
        decision: PROCEED.to_owned(),
        present,
        state,
        change_sha256: stored.evidence.change_sha256.clone(),
    }
}

/// A newer worker has taken over.
fn refused() -> RecorderResponse {
    let Image { present, state } = judge::absent();
    RecorderResponse { decision: Outcome::Failed.as_str().to_owned(), present, state, change_sha256: String::new() }
}

/// `Proceed` while the evidence is open, its outcome when it is not.
fn decided(stored: &Stored) -> RecorderResponse {
    let response = proceed(stored, None);
    match &stored.evidence.result {
        None => response,
        Some(result) => RecorderResponse { decision: result.outcome.as_str().to_owned(), ..response },
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
