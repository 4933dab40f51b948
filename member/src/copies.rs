//! Mode `Snapshot`: the copies that a later `Apply` of the same plan works from.
//!
//! SSM waits for each copy, so this is called several times in one remediation: [`CopyStep`]. The resource itself is never
//! changed here. Every call looks at it again: a plan that is not the approved one any more, or a resource that changed
//! since the first look, ends it, and what was made is removed.

use redress_common::aws::evidence::{Begun, EvidenceError, EvidenceWriter, Stored};
use redress_common::contract::{Before, CopyStep, Job, Outcome, PROCEED, RemediateResponse};

use crate::judge::{self, VOID};
use crate::native::Native;
use crate::place::Place;
use crate::record::{self, Left};
use crate::remediate::{Plan, RemediateError, answer};

/// What [`CopyStep::Discard`] says in the evidence.
const NOT_COMPLETE: &str = "the copy did not become complete, or nobody could see it; what was made of it was removed";
/// The same, where copies are evidence.
const KEPT: &str =
    "not every copy became complete in time, or nobody could see it; what was begun goes on, and is kept";

/// Does one part.
///
/// # Errors
/// When it could not be recorded.
pub(crate) async fn run(
    native: &dyn Native,
    job: &Job,
    step: CopyStep,
    plan: Plan,
    evidence: &EvidenceWriter,
    place: &Place,
) -> Result<RemediateResponse, RemediateError> {
    let Plan { now, change, mut end, mut error } = plan;
    let before = Before { pre_image: now, change };
    if end.is_none() && judge::void(job, &before) {
        (end, error) = (Some(Outcome::Drifted), VOID.to_owned());
    }
    let stored = match record::begin(evidence, place, job, &before, end, &error).await? {
        Begun::Created(stored) => stored,
        Begun::Existing(stored) => {
            let same = evidence.open_before(&stored.evidence).await?;
            if stored.evidence.result.is_none() && (end.is_some() || !judge::same(&same.pre_image, &before.pre_image)) {
                let why = if error.is_empty() { VOID } else { &error };
                return give_up(native, job, &stored, end.unwrap_or(Outcome::Drifted), why, &before, evidence).await;
            }
            stored
        }
    };
    if stored.evidence.result.is_some() {
        return Ok(answer(&stored));
    }
    let done = match step {
        CopyStep::Make(nth) => native.copy(nth).await.map(Made::Began),
        CopyStep::Finish => native.copied().await.map(Made::All),
        CopyStep::Discard => {
            let why = if native.keeps_copies() { KEPT } else { NOT_COMPLETE };
            return give_up(native, job, &stored, Outcome::Failed, why, &before, evidence).await;
        }
    };
    match done {
        Ok(Made::Began(made)) => Ok(RemediateResponse { decision: PROCEED.to_owned(), made, ..answer(&stored) }),
        Ok(Made::All(made)) => Ok(answer(&record::end_of_copy(evidence, &stored, &before.pre_image, &made).await?)),
        Err(error) => give_up(native, job, &stored, Outcome::Failed, &error.to_string(), &before, evidence).await,
    }
}

enum Made {
    Began(String),
    All(String),
}

async fn give_up(
    native: &dyn Native,
    job: &Job,
    stored: &Stored,
    outcome: Outcome,
    why: &str,
    before: &Before,
    evidence: &EvidenceWriter,
) -> Result<RemediateResponse, RemediateError> {
    let left = native.discard(job.mode).await.err();
    let why =
        left.map_or_else(|| why.to_owned(), |left| format!("{why}; and what was made could not be removed: {left}"));
    let ended: Result<Stored, EvidenceError> =
        record::end(evidence, stored, outcome, &why, Left::Own(&before.pre_image)).await;
    Ok(answer(&ended?))
}
