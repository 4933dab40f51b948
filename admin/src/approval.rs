//! What people answer to a question: who may, what their answer makes of it, and what becomes of the claim.
//!
//! A question is bound to one exact plan. Its item, the ledger's record of the answer and the claim change in one
//! transaction; only then is the waiting workflow told. Everything but an answer that counts means no. Nothing here
//! touches a resource.

use std::collections::BTreeSet;

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Also, AppendError, ClaimWrite, StoreError, append_with};
use redress_common::aws::state_table::{Claim, Expect, Snapshot, StateKey, Subject};
use redress_common::contract::Mode;
use redress_common::ids::{ClaimKey, RemediationId};
use redress_common::items::approval::{Approval, ApprovalStatus, Vote};
use redress_common::ledger::{Record, RecordDraft, detail};
use redress_common::state::State;
use serde_json::json;

use crate::claim;
use crate::policy::Verdict;
use crate::ports::{Identity, Outside};
use crate::{report, tell};

/// How often an answer is tried anew because somebody else changed the item or the claim meanwhile.
const ROUNDS: usize = 8;

/// An answer, as a person gives it.
#[derive(Debug, Clone)]
pub struct Answer<'a> {
    /// To what.
    pub remediation: RemediationId,
    /// Yes or no.
    pub approve: bool,
    /// The hash of the plan that the person was shown.
    pub plan_sha256: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub enum NotCounted {
    /// There is no such question, or not yet.
    #[error("nobody is asked about remediation {0}, or not yet; `redress approvals list` shows what waits")]
    NotFound(RemediationId),
    /// It was answered before.
    #[error("it is {status} already{by}; the first answer stands")]
    Answered {
        /// What it is now.
        status: ApprovalStatus,
        /// By whom, as the end of the sentence.
        by: String,
    },
    /// Too late.
    #[error("the time for an answer ended at {0}; nothing is changed. What is still wrong is asked about anew")]
    Expired(Timestamp),
    /// What was asked about is gone.
    #[error("the question is void: the workflow failed, or the resource is not what it was. Nothing is changed")]
    Void,
    /// The person was shown something else.
    #[error("the plan asked about is {0}…, another than the one that was shown; look at it again")]
    PlanChanged(String),
    /// No reason was given.
    #[error("an answer needs a reason of at most 500 characters")]
    NoReason,
    /// Who asked may not answer.
    #[error("four eyes: {0} asked for it, so another person has to approve it")]
    FourEyes(String),
    /// Policy does not let this person approve it.
    #[error("policy does not let {by} approve this: {why}. Who may is said by the set's policies of action `Answer`")]
    NotPermitted {
        /// Who.
        by: String,
        /// Why not.
        why: String,
    },
    /// It counts, but the workflow could not be told.
    #[error("the answer is recorded, but the workflow could not be told ({0}); give it again to send it again")]
    NotSent(AwsFailure),
    /// Others answer all the time.
    #[error("others change the same question meanwhile; look at it, and answer again")]
    Busy,
    /// The tables do not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NotCounted {
    /// A slug that stays the same between releases.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::Answered { .. } => "answered",
            Self::Expired(_) => "expired",
            Self::Void => "void",
            Self::PlanChanged(_) => "plan-changed",
            Self::NoReason => "no-reason",
            Self::FourEyes(_) => "four-eyes",
            Self::NotPermitted { .. } => "not-permitted",
            Self::NotSent(_) => "not-sent",
            Self::Busy => "busy",
            Self::Store(_) => "unavailable",
        }
    }

    /// The HTTP status that says it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotFound(_) => 404,
            Self::Answered { .. } | Self::Expired(_) | Self::Void | Self::PlanChanged(_) | Self::Busy => 409,
            Self::NoReason => 400,
            Self::FourEyes(_) | Self::NotPermitted { .. } => 403,
            Self::NotSent(_) | Self::Store(_) => 503,
        }
    }
}

/// The remediation that makes the plan: a dry run of its own.
#[must_use]
pub fn plan_id(key: &ClaimKey, id: RemediationId) -> RemediationId {
    RemediationId::of_request(key, &format!("plan:{id}"))
}

/// Under which the workflow waits for the answer. Not under the remediation: there it waits for its runbook, and an
/// answer that is sent again must not end that.
#[must_use]
pub fn asking_id(key: &ClaimKey, id: RemediationId) -> RemediationId {
    RemediationId::of_request(key, &format!("ask:{id}"))
}

/// The remediation that puts back what could not be verified.
#[must_use]
pub fn roll_back_id(key: &ClaimKey, id: RemediationId) -> RemediationId {
    RemediationId::of_request(key, &format!("roll-back:{id}"))
}

/// The claim that a remediation works under; `None` when its subject is not known well enough to have one.
#[must_use]
pub fn claim_key(subject: &Subject) -> Option<ClaimKey> {
    let arn: Arn = subject.resource_id.parse().ok()?;
    Some(ClaimKey::new(&subject.account, subject.region.as_ref()?, subject.control.as_ref()?, &arn))
}

/// Who somebody is: a session by its name, not by its role, so that two roles do not make two people of one.
///
/// That a session's name says who is behind it is the business of the role's trust policy (docs/approvals.md).
#[must_use]
pub fn person(caller: &str) -> String {
    let Ok(arn) = caller.parse::<Arn>() else { return caller.to_owned() };
    let resource = arn.resource();
    let name = match resource.split_once('/') {
        Some(("assumed-role", rest)) => rest.rsplit('/').next(),
        Some(("user", rest)) => rest.rsplit('/').next(),
        _ => None,
    };
    match (arn.account(), name) {
        (Some(account), Some(name)) => format!("{account}/{name}"),
        _ => caller.to_owned(),
    }
}

/// Whether an approval that was given is what policy asks for now.
#[must_use]
pub fn suffices(approval: &Approval, asked: &Verdict) -> bool {
    let yes: BTreeSet<String> =
        approval.votes.iter().filter(|vote| vote.approve).map(|vote| person(&vote.by)).collect();
    let four_eyes = approval.four_eyes || !asked.four_eyes || !yes.contains(&person(&approval.subject.requested_by));
    yes.len() >= asked.approvers.max(1) as usize && four_eyes
}

/// Takes an answer. `may` is asked whether policy lets the caller say yes; anybody who gets here may say no.
///
/// The same answer of the same person again is the first one, and tells the workflow again.
///
/// # Errors
/// When it does not count, and why. After [`NotCounted::NotSent`] it does.
pub async fn answer<O: Outside>(
    outside: &O,
    me: &Identity,
    caller: &Arn,
    answer: &Answer<'_>,
    may: impl Fn(&Approval, &Snapshot) -> Result<(), String> + Sync,
    now: Timestamp,
) -> Result<Approval, NotCounted> {
    for _ in 0..ROUNDS {
        match once(outside, me, caller, answer, &may, now).await? {
            Some(approval) => {
                let sent = tell(outside, approval.clone(), now).await;
                if approval.status == ApprovalStatus::Denied {
                    tell_people(outside, me, &approval, now).await?;
                }
                return sent;
            }
            None => continue,
        }
    }
    Err(NotCounted::Busy)
}

/// `None` when somebody else changed the item or the claim meanwhile.
async fn once<O: Outside>(
    outside: &O,
    me: &Identity,
    caller: &Arn,
    answer: &Answer<'_>,
    may: &(impl Fn(&Approval, &Snapshot) -> Result<(), String> + Sync),
    now: Timestamp,
) -> Result<Option<Approval>, NotCounted> {
    let id = answer.remediation;
    let found = outside.read(&[StateKey::Approval(id)]).await?.approval(id).map_err(StoreError::from)?;
    let subject = found.ok_or(NotCounted::NotFound(id))?.subject;
    let key = claim_key(&subject).map(StateKey::Claim);
    let account = subject.account;
    let mut keys = vec![StateKey::Approval(id), StateKey::Chain(account.clone()), StateKey::Settings, StateKey::Policy];
    keys.extend(key.clone());
    let snapshot = outside.read(&keys).await?;
    let approval = snapshot.approval(id).map_err(StoreError::from)?.ok_or(NotCounted::NotFound(id))?;
    let next = match count(&approval, caller, answer, now)? {
        Counted::Before => return Ok(Some(approval)),
        Counted::Now(next) => *next,
    };
    if answer.approve {
        may(&approval, &snapshot).map_err(|why| NotCounted::NotPermitted { by: caller.to_string(), why })?;
    }
    let write = match key {
        Some(key) if next.status == ApprovalStatus::Denied => {
            snapshot.claim(&key).map_err(StoreError::from)?.and_then(|claim| denied(key, &claim, id, now))
        }
        _ => None,
    };
    let also = Also::put(StateKey::Approval(id), &next, Expect::Version(approval.version));
    let also = also.map_err(StoreError::from)?;
    let record = record(me, &next, now);
    let head = snapshot.head(&account).map_err(StoreError::from)?;
    match append_with(outside, &account, head, vec![record], write, vec![also]).await {
        Ok(_) => Ok(Some(next)),
        Err(AppendError::ClaimLost | AppendError::AlsoLost(_) | AppendError::Busy { .. }) => Ok(None),
        Err(AppendError::Store(error)) => Err(error.into()),
    }
}

enum Counted {
    /// The same person said the same before.
    Before,
    /// The item with this answer.
    Now(Box<Approval>),
}

/// What an answer makes of a question. Policy has not been asked yet.
fn count(approval: &Approval, caller: &Arn, answer: &Answer<'_>, now: Timestamp) -> Result<Counted, NotCounted> {
    let who = person(caller.as_str());
    let theirs = approval.votes.iter().rev().find(|vote| person(&vote.by) == who);
    if answer.plan_sha256 != approval.plan_sha256 {
        return Err(NotCounted::PlanChanged(approval.plan_sha256.chars().take(12).collect()));
    }
    if theirs.is_some_and(|vote| vote.approve == answer.approve)
        && matches!(approval.status, ApprovalStatus::Pending | ApprovalStatus::Approved | ApprovalStatus::Denied)
    {
        return Ok(Counted::Before);
    }
    let until = Timestamp::from_millisecond(approval.expires_at_ms).unwrap_or_default();
    match approval.status {
        ApprovalStatus::Pending if now < until => {}
        ApprovalStatus::Pending | ApprovalStatus::Expired => return Err(NotCounted::Expired(until)),
        ApprovalStatus::Void => return Err(NotCounted::Void),
        status @ (ApprovalStatus::Approved | ApprovalStatus::Denied) => {
            let by = approval.votes.last().map(|vote| format!(" by {}", vote.by)).unwrap_or_default();
            return Err(NotCounted::Answered { status, by });
        }
    }
    let reason = report::sanitised(answer.reason);
    if reason.is_empty() || reason.chars().count() > 500 {
        return Err(NotCounted::NoReason);
    }
    let asker = &approval.subject.requested_by;
    if answer.approve && approval.four_eyes && person(asker) == who {
        return Err(NotCounted::FourEyes(asker.clone()));
    }
    let mut next = approval.clone();
    next.version += 1;
    next.votes.retain(|vote| person(&vote.by) != who);
    next.votes.push(Vote { by: caller.to_string(), approve: answer.approve, at: now.as_millisecond(), reason });
    let yes: BTreeSet<String> = next.votes.iter().filter(|vote| vote.approve).map(|vote| person(&vote.by)).collect();
    if !answer.approve {
        next.status = ApprovalStatus::Denied;
    } else if yes.len() >= next.needed.max(1) as usize {
        next.status = ApprovalStatus::Approved;
    }
    Ok(Counted::Now(Box::new(next)))
}

/// The claim of what was denied: ended, and held. Nothing when another remediation has it by now.
fn denied(key: StateKey, claim: &Claim, id: RemediationId, now: Timestamp) -> Option<ClaimWrite> {
    if claim.remediation_id != id || claim.ended.contains(&id) {
        return None;
    }
    let end = claim::End { state: State::Denied, compliant: false, changed: false, undone: false };
    let mut finished = claim::finish(claim, end, now);
    // Who does not want an undo does not want the fix to stop.
    finished.held |= claim.mode != Mode::Restore;
    Some(ClaimWrite { key, condition: claim::condition(Some(claim)), claim: finished })
}

/// The ledger's record of the newest answer.
fn record(me: &Identity, approval: &Approval, now: Timestamp) -> RecordDraft {
    let vote = approval.votes.last();
    let denied = vote.is_some_and(|vote| !vote.approve);
    let state = if denied { State::Denied } else { State::AwaitingApproval };
    let mut record = report::draft(me, approval.remediation_id, &approval.subject, state, now);
    let code = if denied { "denied" } else { "approved" };
    let yes = approval.votes.iter().filter(|vote| vote.approve).count();
    record.detail.extend(report::details([
        (detail::CODE, code.to_owned()),
        (detail::ANSWERED_BY, vote.map(|vote| vote.by.clone()).unwrap_or_default()),
        (detail::REASON, vote.map(|vote| vote.reason.clone()).unwrap_or_default()),
        (detail::PLAN_SHA256, approval.plan_sha256.clone()),
        (detail::APPROVALS, format!("{yes} of {}", approval.needed.max(1))),
    ]));
    record
}

/// Tells people that it was denied, and writes down that they were told: after the answer counts, since of two that come at
/// once one does not. Who gives the same answer again makes good for a worker that died before.
async fn tell_people<O: Outside>(
    outside: &O,
    me: &Identity,
    approval: &Approval,
    now: Timestamp,
) -> Result<(), NotCounted> {
    let (id, account) = (approval.remediation_id, &approval.subject.account);
    let was_told = |record: &Record| record.draft.execution_status == State::Denied && record.draft.notification_sent;
    if outside.records(id).await?.iter().any(was_told) {
        return Ok(());
    }
    if !tell::publish(outside, id, &approval.subject, State::Denied, now).await {
        return Ok(());
    }
    let mut told = record(me, approval, now);
    told.timestamp += 1;
    told.notification_sent = true;
    let head = outside.read(&[StateKey::Chain(account.clone())]).await?.head(account).map_err(StoreError::from)?;
    match append_with(outside, account, head, vec![told], None, Vec::new()).await {
        Ok(_) => Ok(()),
        Err(AppendError::Store(error)) => Err(error.into()),
        Err(_) => Err(NotCounted::Busy),
    }
}

/// Tells the workflow what was answered, when it is enough.
async fn tell<O: Outside>(outside: &O, approval: Approval, now: Timestamp) -> Result<Approval, NotCounted> {
    if approval.status == ApprovalStatus::Pending {
        return Ok(approval);
    }
    let asking = claim_key(&approval.subject).map(|key| asking_id(&key, approval.remediation_id));
    let Some(asking) = asking else { return Ok(approval) };
    let task = outside.read(&[StateKey::Task(asking)]).await?.task(asking).map_err(StoreError::from)?;
    let Some(task) = task else { return Ok(approval) };
    let by = approval.votes.last().map(|vote| vote.by.clone()).unwrap_or_default();
    let told = json!({ "Status": approval.status, "By": by, "At": now.to_string() });
    outside.end_task(&task, &told).await.map_err(NotCounted::NotSent)?;
    Ok(approval)
}
