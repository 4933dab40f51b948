//! The one sequence of every native control: look, store the pre-image, change, look again, record.
//!
//! A native function never changes anything by itself: the calls of the planned [`Change`] are made here, after
//! the evidence is stored, one by one, and the first that fails ends the remediation as `Failed`. So a dry
//! run shows exactly what would be called. An AWS error is an answer; an error of this module means that
//! nothing could be recorded.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use redress_common::aws::evidence::{Begun, EvidenceError, EvidenceWriter, Stored};
use redress_common::contract::{
    Before, Change, ContainRequest, ContainResponse, CopyStep, Image, Job, Mode, Outcome, RemediateRequest,
    RemediateResponse,
};
use redress_common::custody::Item;

use crate::copies;
use crate::custody::{self, Document};
use crate::judge::{self, HALF_DONE, Resume, VOID};
use crate::native::{Clients, Kind, Native, NativeError};
use crate::place::{BindingError, Place};
use crate::record::{self, Left, Source, SourceError};

/// How long to wait between read-backs: AWS may show the old state for a moment.
pub const PACE: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// How long after its beginning a remediation that is still under way is not left to another run of the function any more:
/// the runbook starts two, of five minutes each.
const LATE: SignedDuration = SignedDuration::from_mins(6);

/// Why there is no recorded outcome.
#[derive(Debug, thiserror::Error)]
pub enum RemediateError {
    /// Not for this account or Region.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The control file asks for what there is not.
    #[error("control {control}: {source}")]
    Control {
        /// The control.
        control: redress_common::ids::ControlId,
        /// What is wrong with it.
        source: NativeError,
    },
    /// A runbook asks for something that does not go together.
    #[error("{0}; the runbook is wrong, compile it again")]
    Request(&'static str),
    /// AWS is still at it. The runbook starts the function again, which goes on.
    #[error("{0}; started again, the function goes on")]
    Underway(String),
    /// The evidence to undo from is not usable.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The evidence could not be stored or read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

/// Does what a runbook asks for, from inspect to verify.
///
/// # Errors
/// When the request is not for here, or for what this function does not run, or its outcome could not be recorded.
pub async fn handle(
    clients: &Clients,
    evidence: &EvidenceWriter,
    place: &Place,
    request: RemediateRequest,
) -> Result<RemediateResponse, RemediateError> {
    place.bind_account("the runbook", &request.account_id)?;
    place.bind_account("the evidence key", evidence.account())?;
    place.bind_region("the runbook", &request.region)?;
    place.bind(&request.job)?;
    let control = request.job.control.clone();
    let native = clients.native(Kind::of_function(place), request);
    let native = native.map_err(|source| RemediateError::Control { control, source })?;
    native.run(evidence, place, native.pace()).await
}

/// Runs one native control.
///
/// # Errors
/// When its outcome could not be recorded.
pub async fn run(
    native: &dyn Native,
    job: &Job,
    copy: Option<CopyStep>,
    evidence: &EvidenceWriter,
    place: &Place,
    pace: &[Duration],
) -> Result<RemediateResponse, RemediateError> {
    if copy.is_some() != (job.mode == Mode::Snapshot) {
        return Err(RemediateError::Request("mode `Snapshot` and its steps go together"));
    }
    let goal = goal(job, evidence).await?;
    let run = Run { native, job, evidence, place, pace, goal };
    let done = match copy {
        Some(step) => copies::run(native, job, step, run.look().await, evidence, place).await,
        None => run.remediate().await.map(|stored| answer(&stored)),
    };
    match done {
        // Whoever took over records what becomes of it.
        Err(RemediateError::Evidence(error @ EvidenceError::Superseded { .. })) => {
            let error = format!("superseded: {error}");
            let (outcome, none) = (Outcome::Failed, String::new());
            let decision = outcome.as_str().to_owned();
            Ok(RemediateResponse { outcome, change_sha256: none.clone(), error, decision, made: none })
        }
        done => done,
    }
}

/// Runs a playbook, which the administrator account invokes directly. The same remediation again gives the recorded
/// outcome; one that was cut off is ended. So every answer is by the evidence, but for what is refused before there is any.
///
/// # Errors
/// When the outcome could not be recorded or read: then it is to be asked for again.
pub async fn contain(
    clients: &Clients,
    evidence: &EvidenceWriter,
    place: &Place,
    asked: ContainRequest,
) -> Result<ContainResponse, RemediateError> {
    let ContainRequest { request, recall } = asked;
    let fence = request.job.fence.clone();
    let done = async {
        place.bind_account("the request", &request.account_id)?;
        place.bind_account("the evidence key", evidence.account())?;
        place.bind_region("the request", &request.region)?;
        place.bind(&request.job)?;
        if request.copy.is_some() || request.job.mode == Mode::Snapshot {
            return Err(RemediateError::Request("a playbook makes no copies"));
        }
        if recall {
            match evidence.read_own(&request.job.evidence_key).await {
                Err(EvidenceError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        let control = request.job.control.clone();
        let native = clients.playbook(&request).map_err(|source| RemediateError::Control { control, source })?;
        let (job, goal) = (&request.job, goal(&request.job, evidence).await?);
        let run = Run { native: native.as_ref(), job, evidence, place, pace: native.pace(), goal };
        run.remediate().await.map(Some)
    };
    match done.await {
        Ok(Some(stored)) => {
            let mut told = proof(&stored);
            // It is contained, and that is recorded. The same again writes what is missing.
            if let Err(error) = custody::write(evidence, place, &stored).await {
                told.error = joined(&told.error, &format!("the custody document is missing: {error}"));
            }
            Ok(told)
        }
        Ok(None) => Ok(ContainResponse::without_evidence(None, String::new(), fence)),
        // Whoever took over records what becomes of it; its fence says so.
        Err(RemediateError::Evidence(EvidenceError::Superseded { key, fence: theirs })) => {
            let error = format!("superseded: evidence `{key}` was taken over by a newer worker (fence {theirs})");
            Ok(ContainResponse::without_evidence(Some(Outcome::Failed), error, theirs.to_string()))
        }
        Err(error) if error.is_refusal() => {
            Ok(ContainResponse::without_evidence(Some(Outcome::Failed), error.to_string(), fence))
        }
        Err(error) => Err(error),
    }
}

impl RemediateError {
    /// Whether it would be the same the next time, and nothing was done.
    const fn is_refusal(&self) -> bool {
        match self {
            Self::Binding(_) | Self::Control { .. } | Self::Request(_) => true,
            Self::Source(error) => matches!(error, SourceError::Unnamed | SourceError::Other { .. }),
            Self::Underway(_) | Self::Evidence(_) => false,
        }
    }
}

/// What a job is after.
async fn goal(job: &Job, evidence: &EvidenceWriter) -> Result<Goal, SourceError> {
    match (job.mode, job.source_evidence_key.as_str()) {
        (Mode::Restore, _) => Ok(Goal::PutBack(record::source(evidence, job).await?)),
        (_, "") => Ok(Goal::Comply),
        (_, _) => Ok(Goal::PutBack(record::source(evidence, job).await?)),
    }
}

/// What the resource is to become.
enum Goal {
    /// What the control asks for.
    Comply,
    /// What it was before the remediation to undo.
    PutBack(Source),
}

/// What a first look led to.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) now: Image,
    pub(crate) change: Change,
    pub(crate) end: Option<Outcome>,
    pub(crate) error: String,
}

impl Plan {
    fn ends(outcome: Outcome, now: Image, error: String) -> Self {
        Self { now, change: Change::default(), end: Some(outcome), error }
    }
}

struct Run<'a> {
    native: &'a dyn Native,
    job: &'a Job,
    evidence: &'a EvidenceWriter,
    place: &'a Place,
    pace: &'a [Duration],
    goal: Goal,
}

impl Run<'_> {
    async fn remediate(&self) -> Result<Stored, RemediateError> {
        let Plan { now, change, mut end, mut error } = self.look().await;
        let before = Before { pre_image: now, change };
        if end.is_none() && judge::void(self.job, &before) {
            (end, error) = (Some(Outcome::Drifted), VOID.to_owned());
        }
        match record::begin(self.evidence, self.place, self.job, &before, end, &error).await? {
            Begun::Created(stored) if end.is_none() => self.change(&stored, &before, &before.pre_image).await,
            Begun::Existing(stored) if stored.evidence.result.is_none() => {
                self.resume(&stored, &before.pre_image, end, &error).await
            }
            Begun::Created(stored) | Begun::Existing(stored) => Ok(stored),
        }
    }

    async fn look(&self) -> Plan {
        match self.native.inspect().await {
            Ok(Some(now)) => {
                self.plan(&now).unwrap_or_else(|error| Plan::ends(Outcome::Failed, now, error.to_string()))
            }
            Ok(None) => Plan::ends(Outcome::NotFound, judge::absent(), String::new()),
            Err(error) => Plan::ends(Outcome::Failed, judge::absent(), error.to_string()),
        }
    }

    fn plan(&self, now: &Image) -> Result<Plan, NativeError> {
        let (change, end) = match &self.goal {
            Goal::Comply => {
                let change = self.native.plan(now)?;
                let end = change.0.is_empty().then_some(Outcome::AlreadyCompliant);
                (change, end)
            }
            Goal::PutBack(source) => {
                let verdict = judge::undo(now, &source.before, source.after.as_ref());
                match judge::undo_end(verdict, self.job.mode) {
                    Some(outcome) => (Change::default(), Some(outcome)),
                    None => (self.native.plan_restore(now, &source.before)?, None),
                }
            }
        };
        let end = end.or((self.job.mode == Mode::DryRun).then_some(Outcome::Planned));
        Ok(Plan { now: now.clone(), change, end, error: String::new() })
    }

    fn reached(&self, now: &Image) -> bool {
        match &self.goal {
            Goal::Comply => self.native.compliant(now),
            Goal::PutBack(source) => judge::same(now, &source.before),
        }
    }

    const fn done(&self) -> Outcome {
        match self.goal {
            Goal::Comply => Outcome::Verified,
            Goal::PutBack(_) => Outcome::Restored,
        }
    }

    /// An earlier try of this remediation stored its pre-image and never recorded an end.
    async fn resume(
        &self,
        stored: &Stored,
        now: &Image,
        end: Option<Outcome>,
        error: &str,
    ) -> Result<Stored, RemediateError> {
        if end == Some(Outcome::Failed) {
            return self.end(stored, Outcome::Failed, error, Left::Found(now)).await;
        }
        self.native.resumes();
        let recorded = self.evidence.open_before(&stored.evidence).await?;
        match judge::resume(self.reached(now), now, &recorded.pre_image) {
            Resume::Reached => self.finish(stored, &recorded.change, now).await,
            Resume::Again => self.change(stored, &recorded, &recorded.pre_image).await,
            Resume::Stop if self.native.half_way(now, &recorded.pre_image) => self.change(stored, &recorded, now).await,
            Resume::Stop => self.end(stored, Outcome::Failed, HALF_DONE, Left::Found(now)).await,
        }
    }

    /// The control holds: what an earlier run had not come to is done, and told where it fails.
    async fn finish(&self, stored: &Stored, change: &Change, now: &Image) -> Result<Stored, RemediateError> {
        let mut lacks = Vec::new();
        let mut left = change.0.iter().filter(|call| self.native.is_left(call, now)).peekable();
        if left.peek().is_none() {
            return self.end(stored, self.done(), "", Left::Own(now)).await;
        }
        for call in left {
            lacks.extend(self.native.call(call).await.err().map(|error| error.to_string()));
        }
        match self.native.inspect().await {
            Ok(Some(now)) if self.reached(&now) => {
                self.end(stored, self.done(), &lacks.join("; "), Left::Own(&now)).await
            }
            Ok(now) => {
                let error = "what held when an earlier run was cut off does not hold any more";
                let absent = judge::absent();
                self.end(stored, Outcome::Unverified, error, self::left(now.as_ref(), &absent)).await
            }
            Err(error) => {
                let error = format!("the resource could not be read back: {error}");
                self.end(stored, Outcome::Unverified, &error, Left::Found(&judge::absent())).await
            }
        }
    }

    /// Makes the calls and reads back. `found` is how the resource was found now.
    async fn change(&self, stored: &Stored, before: &Before, found: &Image) -> Result<Stored, RemediateError> {
        // Storing the evidence took a while. A change planned on an older state would undo somebody else's
        // (the lost-update trap), and the pre-image would not be what was there before.
        match self.native.look_again(found).await {
            Ok(Some(now)) if judge::same(&now, found) => {}
            // What this remediation leaves is what it found. Were the other's change recorded as its post-image, an
            // undo would find no drift and put the pre-image over that change.
            Ok(_) => {
                let error = "the resource was changed by somebody else after it was inspected; nothing was changed";
                return self.end(stored, Outcome::Failed, error, Left::Own(found)).await;
            }
            Err(error) => {
                let left = Left::Own(found);
                return self.end(stored, Outcome::Failed, &error.to_string(), left).await;
            }
        }
        let mut lacks = Vec::new();
        for call in &before.change.0 {
            if let Err(error) = self.native.call(call).await {
                if self.native.may_fail(call) {
                    lacks.push(error.to_string());
                    continue;
                }
                if let NativeError::Underway(what) = &error
                    && Timestamp::now().duration_since(stored.evidence.recorded_at) < LATE
                {
                    return Err(RemediateError::Underway(what.clone()));
                }
                let error = self.cleaned(&error).await;
                let now = self.native.inspect().await.ok().flatten();
                // The call may have been done all the same: when its answer is lost, the SDK's second try is refused.
                if let Some(now) = now.as_ref().filter(|now| self.reached(now)) {
                    return self.end(stored, self.done(), "", Left::Own(now)).await;
                }
                return self.end(stored, Outcome::Failed, &error, left(now.as_ref(), &judge::absent())).await;
            }
        }
        let lacks = lacks.join("; ");
        let mut last = Ok(None);
        for pause in std::iter::once(&Duration::ZERO).chain(self.pace) {
            tokio::time::sleep(*pause).await;
            last = self.native.inspect().await;
            if let Ok(Some(now)) = &last
                && self.reached(now)
            {
                return self.end(stored, self.done(), &lacks, Left::Own(now)).await;
            }
        }
        let error = match &last {
            Ok(Some(_)) => "the calls succeeded, but reading the resource back does not show the change".to_owned(),
            Ok(None) => "the resource was gone when it was read back".to_owned(),
            Err(error) => format!("the resource could not be read back: {error}"),
        };
        let now = last.ok().flatten();
        self.end(stored, Outcome::Unverified, &error, left(now.as_ref(), &judge::absent())).await
    }

    /// What failed; what it had made and is not in use is removed.
    async fn cleaned(&self, error: &NativeError) -> String {
        if self.job.mode != Mode::Apply {
            return error.to_string();
        }
        match self.native.discard(self.job.mode).await {
            Ok(()) => error.to_string(),
            Err(left) => format!("{error}; and what was made could not be removed: {left}"),
        }
    }

    async fn end(
        &self,
        stored: &Stored,
        outcome: Outcome,
        error: &str,
        left: Left<'_>,
    ) -> Result<Stored, RemediateError> {
        let (acquired, lacks) = self.acquired(outcome).await;
        let error = joined(error, &lacks.join("; "));
        Ok(record::end_with(self.evidence, stored, outcome, &error, left, &acquired).await?)
    }

    /// What was taken of the resource, and what could not be.
    async fn acquired(&self, outcome: Outcome) -> (Vec<Item>, Vec<String>) {
        let mut items = self.native.acquired().await;
        let contained = self.job.mode == Mode::Apply && outcome == Outcome::Verified;
        if !contained || !self.evidence.keeps_incidents() {
            return (items, Vec::new());
        }
        let document = match self.native.document().await {
            Ok(Some(document)) => document,
            Ok(None) => return (items, Vec::new()),
            Err(error) => return (items, vec![error.to_string()]),
        };
        let Document { name, kind, detail, content, mut lacks } = document;
        match self.evidence.keep_sealed(self.job, name, &content, Timestamp::now()).await {
            Ok(kept) => items.push(Item {
                sha256: kept.sha256,
                version_id: kept.version_id,
                ..custody::item(kind, kept.key, detail)
            }),
            Err(error) => lacks.push(error.to_string()),
        }
        (items, lacks)
    }
}

/// Two texts of what failed, each of which may be empty.
fn joined(one: &str, other: &str) -> String {
    [one, other].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

/// What was read after the calls; when nothing could be, nobody knows.
fn left<'a>(now: Option<&'a Image>, unknown: &'a Image) -> Left<'a> {
    now.map_or(Left::Found(unknown), Left::Own)
}

/// What the administrator account is told of evidence.
fn proof(stored: &Stored) -> ContainResponse {
    let (evidence, RemediateResponse { outcome, change_sha256, error, .. }) = (&stored.evidence, answer(stored));
    ContainResponse {
        outcome: Some(outcome),
        error,
        fence: evidence.job.fence.clone(),
        version_id: stored.version_id.clone(),
        pre_image_sha256: evidence.pre_image_sha256.clone(),
        change_sha256,
        post_image_sha256: evidence.result.as_ref().map(|result| result.post_image_sha256.clone()).unwrap_or_default(),
    }
}

pub(crate) fn answer(stored: &Stored) -> RemediateResponse {
    let evidence = &stored.evidence;
    let (outcome, error) = match &evidence.result {
        Some(result) => (result.outcome, result.error.clone()),
        None => (Outcome::Failed, "the remediation did not end".to_owned()),
    };
    RemediateResponse {
        outcome,
        change_sha256: evidence.change_sha256.clone(),
        error,
        decision: outcome.as_str().to_owned(),
        made: String::new(),
    }
}

#[cfg(test)]
#[path = "remediate_tests.rs"]
mod tests;
