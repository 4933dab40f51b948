//! The steps of the state machine `Redress-Workflow`: plan, ask people, make copies, apply exactly that plan, put it back.
//!
//! The state machine (stacksets/administrator/workflow.yaml) says what follows on what; here is what each step does. Every
//! step may be run again at any point, also after a worker died in the middle: a step takes its claim with a new fence in
//! the transaction that stores its task token, so that of any number of workers the last one is told, and only it. What
//! cannot be done is an error, and every error's way in the state machine leads to [`Step::Fail`]: nothing is changed
//! unless an approval of this very plan is found in the table. Nothing here touches a resource.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Also, AppendError, ClaimWrite, StoreError, append_with};
use redress_common::aws::state_table::{Claim, ClaimStatus, Condition, Expect, Snapshot, StateKey, Subject, Switch};
use redress_common::contract::{GuardEvidence, GuardRequest, Mode, Outcome, parameter, plan_sha256, snapshot_id};
use redress_common::finding::WorkflowStatus;
use redress_common::ids::{ClaimKey, ControlId, Fence, Generation, RemediationId};
use redress_common::items::approval::{Approval, ApprovalStatus, Task};
use redress_common::ledger::{Record, RecordDraft, RemediationType, detail};
use redress_common::names;
use redress_common::state::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::approval::{self, asking_id, plan_id, roll_back_id};
use crate::backlog;
use crate::breaker::{self, Admission};
use crate::claim::{self, Bid, End, Purpose};
use crate::completion;
use crate::context;
use crate::decide::REQUEST_SECONDS;
use crate::direct;
use crate::orchestrate::pause;
use crate::policy::{Asked, Calendar, Disposition};
use crate::ports::{Asking, Identity, Outside, Place, Start, StartError, WorkflowInput};
use crate::{report, tell};

/// A worker that ends a remediation lives no longer; the state machine tries for longer than that.
const ENDING_MS: i64 = 60 * 1000;
/// How often a step is tried anew because somebody else changed its claim meanwhile.
const ROUNDS: u64 = 8;
/// The claim outlives the question by this, so that nobody else takes the resource between its end and the last step.
const AFTER_ASKING_MS: i64 = 10 * 60 * 1000;
/// An answer counts until so long before the state machine stops to wait, at most: then there is time to tell it.
const BEFORE_TIMEOUT_MS: i64 = 60 * 1000;
/// The question and its answers are remembered for so long after it ended.
const REMEMBER_SECONDS: i64 = REQUEST_SECONDS;
/// The outcome of a runbook that was never started. The state machine knows it.
const NEVER_STARTED: &str = "NeverStarted";
/// How the state machine knows [`Failure::NotAllowed`].
const NOT_ALLOWED: &str = "Redress.NotAllowed";
/// A runbook that was started is looked for from so long before its claim: clocks differ.
const CLOCKS: SignedDuration = SignedDuration::from_secs(300);
/// The state machine sends no further worker for a runbook so long after the first.
const WORKERS_MS: i64 = 15 * 60 * 1000;

/// What the state machine asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Request {
    /// The step.
    pub step: Step,
    /// Which runbook, for [`Step::Run`] and [`Step::Stop`].
    #[serde(default)]
    pub what: Option<What>,
    /// The task token, for the steps that wait.
    #[serde(default)]
    pub token: String,
    /// The execution's input and what the steps before came to.
    pub given: Given,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Step {
    /// Start a runbook; its end is the task's.
    Run,
    /// Ask people; their answer is the task's.
    Ask,
    /// The time for an answer is over: what was answered?
    TimeIsUp,
    /// The plan says that nothing is to be done.
    Nothing,
    /// A runbook did not end in time, or was never started: find out, and stop it.
    Stop,
    /// The resource is not what was approved.
    Void,
    /// Something failed.
    Fail,
}

/// A runbook of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum What {
    /// The dry run.
    Plan,
    /// The copies that the change works from.
    Snapshot,
    /// The change; for an undo, putting back.
    Apply,
    /// Putting back what was changed.
    RollBack,
}

impl What {
    /// Whether it leaves the resource as it is, and so works under an item of its own.
    const fn is_aside(self) -> bool {
        matches!(self, Self::Plan | Self::Snapshot)
    }
}

/// What a step knows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Given {
    /// What the execution was started with.
    #[serde(flatten)]
    pub input: WorkflowInput,
    /// What the dry run came to.
    #[serde(default)]
    pub plan: Option<Ran>,
    /// What making the copies came to.
    #[serde(default)]
    pub copies: Option<Ran>,
    /// What the change came to.
    #[serde(default)]
    pub apply: Option<Ran>,
    /// What the state machine caught.
    #[serde(default)]
    pub error: Option<Caught>,
    /// What it caught when it looked for a runbook after that.
    #[serde(default)]
    pub search_error: Option<Caught>,
}

/// How a runbook ended: what the completion function answers a waiting task with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ran {
    /// Where its remediation ended.
    pub state: State,
    /// What the member account said; empty when it said nothing.
    #[serde(default)]
    pub outcome: String,
    /// Hash of what it found.
    #[serde(default)]
    pub pre_image_sha256: String,
    /// Hash of what it would change, or changed.
    #[serde(default)]
    pub change_sha256: String,
    /// Where its evidence lies.
    #[serde(default)]
    pub evidence_key: String,
    /// Why it failed.
    #[serde(default)]
    pub error: String,
}

impl Ran {
    /// As the ledger tells it; `None` when it has not ended.
    #[must_use]
    pub fn of(records: &[Record]) -> Option<Self> {
        records.last().map(|record| &record.draft).and_then(Self::of_record)
    }

    /// As its last record tells it; `None` when that is not the end.
    #[must_use]
    pub fn of_record(record: &RecordDraft) -> Option<Self> {
        let text = |key: &str| record.detail.get(key).cloned().unwrap_or_default();
        // A plan ends as one, and copies as made: neither is the end of what was found.
        let aside = matches!(record.execution_status, State::Planned | State::Applied);
        (aside && !text(detail::OUTCOME).is_empty() || record.execution_status.is_terminal()).then(|| Self {
            state: record.execution_status,
            outcome: text(detail::OUTCOME),
            pre_image_sha256: text(detail::PRE_IMAGE_SHA256),
            change_sha256: text(detail::CHANGE_SHA256),
            evidence_key: text(detail::EVIDENCE_KEY),
            error: record.error_message.clone(),
        })
    }

    /// Of what did not run. Its outcome is none that a runbook has.
    fn never_started(error: &str) -> Self {
        Self {
            state: State::Failed,
            outcome: NEVER_STARTED.to_owned(),
            pre_image_sha256: String::new(),
            change_sha256: String::new(),
            evidence_key: String::new(),
            error: error.to_owned(),
        }
    }

    /// The hash that an approval is bound to; `None` when there is no plan.
    fn plan(&self) -> Option<String> {
        let whole = |hash: &str| hash.len() == 64;
        let planned = self.outcome == Outcome::Planned.as_str();
        (planned && whole(&self.pre_image_sha256) && whole(&self.change_sha256))
            .then(|| plan_sha256(&self.pre_image_sha256, &self.change_sha256))
    }
}

/// What Step Functions tells of an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Caught {
    /// Its name.
    pub error: String,
    /// What a function said of it: JSON with `errorMessage`.
    #[serde(default)]
    pub cause: String,
}

impl Caught {
    fn text(&self) -> String {
        let cause: Option<Value> = serde_json::from_str(&self.cause).ok();
        let said = cause.as_ref().and_then(|cause| cause["errorMessage"].as_str());
        report::sanitised(&format!("{}: {}", self.error, said.unwrap_or(&self.cause)))
    }
}

/// A step was not done. The state machine knows the kinds by their names.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The same may succeed later.
    #[error("{0}")]
    Later(String),
    /// The end of the runbook is not recorded yet.
    #[error("the end of runbook execution {0} is not recorded yet")]
    StillRunning(String),
    /// It will never be done.
    #[error("{0}")]
    Refused(String),
    /// What was decided when it was planned is not what would be decided now.
    #[error("{0}")]
    NotAllowed(String),
    /// No more may run in this place now.
    #[error("{0}")]
    Full(String),
}

impl Failure {
    /// The name that the state machine's `Retry` knows.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Later(_) => "Redress.Later",
            Self::StillRunning(_) => "Redress.StillRunning",
            Self::Refused(_) => "Redress.Refused",
            Self::NotAllowed(_) => NOT_ALLOWED,
            Self::Full(_) => "Redress.Full",
        }
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self { error_type: failure.name().to_owned(), error_message: failure.to_string() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<redress_common::aws::item::ItemError> for Failure {
    fn from(error: redress_common::aws::item::ItemError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<AwsFailure> for Failure {
    fn from(error: AwsFailure) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        if error.transient { Self::Later(error.message) } else { Self::Refused(error.message) }
    }
}

/// What this worker has told people, whatever else must be tried again.
struct Told {
    /// The fence that it took for that.
    fence: Fence,
    /// Whether people were told.
    sent: bool,
}

/// What a try of a step came to.
enum Tried<T> {
    Done(T),
    /// Somebody else changed what was read.
    Overtaken,
}

fn tried<T>(result: Result<T, AppendError>) -> Result<Tried<T>, Failure> {
    match result {
        Ok(done) => Ok(Tried::Done(done)),
        Err(AppendError::ClaimLost | AppendError::AlsoLost(_)) => Ok(Tried::Overtaken),
        Err(other) => Err(Failure::Later(other.to_string())),
    }
}

/// What a workflow is about.
struct Case<'a> {
    input: &'a WorkflowInput,
    id: RemediationId,
    claim_key: ClaimKey,
    /// What is worked for: `Apply`, or `Restore` for an undo.
    mode: Mode,
    control: ControlId,
    arn: Arn,
    place: Place,
}

impl<'a> Case<'a> {
    fn of(input: &'a WorkflowInput) -> Result<Self, Failure> {
        let malformed =
            |name: &str| Failure::Refused(format!("parameter `{name}` of the workflow is missing or wrong"));
        let given = |name: &str| input.parameters.get(name).cloned().unwrap_or_default();
        let control: ControlId = given(parameter::CONTROL).parse().map_err(|_| malformed(parameter::CONTROL))?;
        let arn: Arn = given(parameter::RESOURCE_ARN).parse().map_err(|_| malformed(parameter::RESOURCE_ARN))?;
        if given(parameter::REMEDIATION_ID) != input.remediation_id.to_string() {
            return Err(malformed(parameter::REMEDIATION_ID));
        }
        if arn.account().is_some_and(|account| *account != input.account) {
            return Err(Failure::Refused(format!("{arn} is not in account {}", input.account)));
        }
        Ok(Self {
            input,
            id: input.remediation_id,
            claim_key: ClaimKey::new(&input.account, &input.region, &control, &arn),
            mode: if given(parameter::MODE) == Mode::Restore.as_str() { Mode::Restore } else { Mode::Apply },
            control,
            place: Place { partition: arn.partition(), account: input.account.clone(), region: input.region.clone() },
            arn,
        })
    }

    fn key(&self) -> StateKey {
        StateKey::Claim(self.claim_key.clone())
    }

    /// The remediation of a runbook, and the claim or request that it works under.
    fn work(&self, what: What) -> (RemediationId, StateKey) {
        match what {
            What::Plan => {
                let id = plan_id(&self.claim_key, self.id);
                (id, StateKey::Request(id))
            }
            What::Snapshot => {
                let id = snapshot_id(&self.claim_key, self.id);
                (id, StateKey::Request(id))
            }
            What::Apply => (self.id, self.key()),
            What::RollBack => (roll_back_id(&self.claim_key, self.id), self.key()),
        }
    }

    const fn mode(&self, what: What) -> Mode {
        match what {
            What::Plan => Mode::DryRun,
            What::Snapshot => Mode::Snapshot,
            What::Apply => self.mode,
            What::RollBack => Mode::Restore,
        }
    }

    /// How long a runbook may take, seconds.
    const fn seconds(&self, what: What) -> u32 {
        match what {
            What::Snapshot => self.input.snapshot_seconds,
            What::Plan | What::Apply | What::RollBack => self.input.run_seconds,
        }
    }

    fn flight(&self) -> StateKey {
        StateKey::Flight(self.input.account.clone(), self.input.region.clone())
    }

    /// Everything that a decision rests on.
    fn decides(&self, now: Timestamp) -> Vec<StateKey> {
        let mut keys = breaker::keys(&self.input.account, &self.control, now.as_millisecond());
        keys.extend([StateKey::Exemptions, StateKey::Policy]);
        keys
    }

    fn chain(&self) -> StateKey {
        StateKey::Chain(self.input.account.clone())
    }

    /// The claim, while it is this remediation's and not at its end.
    fn open<'c>(&self, claim: Option<&'c Claim>) -> Option<&'c Claim> {
        claim.filter(|claim| claim.remediation_id == self.id && !claim.ended.contains(&self.id))
    }
}

/// The workflow function.
#[derive(Debug)]
pub struct Workflow<O> {
    outside: O,
    me: Identity,
}

impl<O: Outside> Workflow<O> {
    /// One that acts through `outside`, as `me`.
    #[must_use]
    pub const fn new(outside: O, me: Identity) -> Self {
        Self { outside, me }
    }

    /// Does a step. What it answers is the state's result, unless the state waits for its token.
    ///
    /// # Errors
    /// When it was not done.
    pub async fn step(&self, request: &Request, now: Timestamp) -> Result<Value, Failure> {
        let Request { step, what, token, given } = request;
        let case = Case::of(&given.input)?;
        let mut told = None;
        let runbook = || what.ok_or_else(|| Failure::Refused("no runbook is named".to_owned()));
        for round in 1..=ROUNDS {
            let tried = match step {
                Step::Run => self.run(&case, runbook()?, token, given, now).await?,
                Step::Ask => self.ask(&case, token, given, now).await?,
                Step::TimeIsUp => self.time_is_up(&case, &mut told, now).await?,
                Step::Nothing => self.nothing(&case, given, &mut told, now).await?,
                Step::Stop => self.stop(&case, runbook()?, &mut told, now).await?,
                Step::Void => self.void(&case, now).await?,
                Step::Fail => self.fail(&case, given, &mut told, now).await?,
            };
            if let Tried::Done(answer) = tried {
                if ends_unchanged(*step, &answer) {
                    backlog::bring_after(&self.outside, case.id).await?;
                }
                return Ok(answer);
            }
            pause(round).await;
        }
        Err(Failure::Later("the claim changed hands too often".to_owned()))
    }

    // ------------------------------------------------------------------------------------------ runbooks

    async fn run(
        &self,
        case: &Case<'_>,
        what: What,
        token: &str,
        given: &Given,
        now: Timestamp,
    ) -> Result<Tried<Value>, Failure> {
        let (id, key) = case.work(what);
        let account = &case.input.account;
        let mut keys = vec![
            case.key(),
            case.chain(),
            StateKey::Settings,
            StateKey::Account(account.clone()),
            StateKey::Approval(case.id),
            case.flight(),
        ];
        if what.is_aside() {
            keys.push(key.clone());
        }
        let plans = matches!(what, What::Snapshot | What::Apply);
        if plans {
            keys.extend(case.decides(now));
        }
        let snapshot = self.outside.read(&keys).await?;
        let held = snapshot.claim(&key)?;
        if held.as_ref().is_some_and(is_ending) {
            return Err(Failure::Later(format!("the end of the last work under {key} is being recorded")));
        }
        if held.as_ref().is_some_and(|claim| claim.ended.contains(&id)) {
            // A worker before this one started it, and it has ended meanwhile.
            let ran = Ran::of(&self.outside.records(id).await?);
            let ran = ran.ok_or_else(|| Failure::Refused(format!("remediation {id} ended without a record")))?;
            self.outside.end_task(&task(token, case, now), &json!(ran)).await?;
            return Ok(Tried::Done(json!(ran)));
        }
        switched_on(&snapshot, case, case.mode(what))?;
        let claim = snapshot.claim(&case.key())?;
        let plan = if plans { Some(approved(&snapshot, case, given)?) } else { None };
        if plans {
            self.still_decided(case, &snapshot, now).await?;
            self.still_open(case, claim.as_ref()).await?;
        }
        let granted = self.grant(case, what, id, claim.as_ref(), held.as_ref(), now)?;
        let start = start(&self.me, case, what, &granted, given, plan.as_deref());
        let write = ClaimWrite { key, condition: Condition::unchanged(held.as_ref()), claim: granted.clone() };
        let mut also = vec![Also::put(StateKey::Task(id), &task(token, case, now), Expect::Anything)?];
        also.push(self.takes_off(case, what, id, &snapshot, claim.as_ref(), now)?);
        if what == What::Apply {
            also.extend(self.admitted(case, &snapshot, claim.as_ref(), now).await?);
        }
        if let (true, Some(claim)) = (what.is_aside(), &claim) {
            // It works under an item of its own; the resource is kept free for what comes after.
            let kept = Claim { fence: Fence(claim.fence.0 + 1), lease_until: granted.lease_until, ..claim.clone() };
            also.push(Also::put(case.key(), &kept, Expect::Claim(Condition::unchanged(Some(claim))))?);
        }
        let record = self.claimed(case, what, &granted, &start, now);
        let head = snapshot.head(account)?;
        let written = append_with(&self.outside, account, head, vec![record], Some(write), also).await;
        if let Tried::Overtaken = tried(written)? {
            return Ok(Tried::Overtaken);
        }
        self.outside.start(&case.place, &start).await?;
        Ok(Tried::Done(json!({ "Started": id })))
    }

    /// The claim under which a runbook runs: the one that there is with a new fence, or a new one.
    fn grant(
        &self,
        case: &Case<'_>,
        what: What,
        id: RemediationId,
        claim: Option<&Claim>,
        held: Option<&Claim>,
        now: Timestamp,
    ) -> Result<Claim, Failure> {
        let lost = || Failure::Refused(format!("the claim on {} is not remediation {}'s any more", case.arn, case.id));
        let lease_until = now.as_millisecond() + self.lease_ms(case, what);
        let again = |claim: &Claim| Claim {
            fence: Fence(claim.fence.0 + 1),
            state: State::Claimed,
            lease_until,
            mode: case.mode(what),
            ..claim.clone()
        };
        let of_its_own = |subject: &Subject, undoes, keep_seconds| Bid {
            id,
            generation: claim.map_or(Generation(0), |claim| claim.generation),
            manual: true,
            mode: case.mode(what),
            subject: subject.clone(),
            undoes,
            purpose: Purpose::Start,
            released: false,
            keep_seconds,
        };
        let times = self.me.times;
        let for_so_long = |claim: Claim| Claim { lease_until, ..claim };
        match what {
            What::Apply => case.open(claim).map(again).ok_or_else(lost),
            What::Plan | What::Snapshot => {
                let open = case.open(claim).ok_or_else(lost)?;
                match held {
                    Some(earlier) => Ok(again(earlier)),
                    None => {
                        let bid = of_its_own(&open.subject, None, Some(REQUEST_SECONDS));
                        claim::grant(None, bid, times, now).map(for_so_long).map_err(|_| lost())
                    }
                }
            }
            What::RollBack => match claim {
                Some(earlier) if earlier.remediation_id == id => Ok(again(earlier)),
                Some(ended) if ended.remediation_id == case.id => {
                    let mut bid = of_its_own(&ended.subject, Some(case.id), None);
                    bid.subject.action = format!("Undo: {}", ended.subject.action);
                    claim::grant(Some(ended), bid, times, now).map(for_so_long).map_err(|_| lost())
                }
                _ => Err(lost()),
            },
        }
    }

    /// The record of a start, with all that its undo needs.
    fn claimed(&self, case: &Case<'_>, what: What, granted: &Claim, start: &Start, now: Timestamp) -> RecordDraft {
        let mut record = report::draft(&self.me, start.id, &granted.subject, State::Claimed, now);
        let sent = |name| start.parameters.get(name).cloned().unwrap_or_default();
        let product = granted.subject.product_arn.as_ref();
        record.detail.extend(report::details([
            (detail::MODE, case.mode(what).as_str().to_owned()),
            (detail::FENCE, granted.fence.to_string()),
            (detail::RESOURCE_NAME, sent(parameter::RESOURCE_NAME)),
            (detail::TITLE, granted.subject.title.clone()),
            (detail::PRODUCT_ARN, product.map(ToString::to_string).unwrap_or_default()),
            (detail::EVIDENCE_BUCKET, sent(parameter::EVIDENCE_BUCKET)),
            (detail::EVIDENCE_KEY, sent(parameter::EVIDENCE_KEY)),
            (detail::SOURCE_EVIDENCE_KEY, sent(parameter::SOURCE_EVIDENCE_KEY)),
            (detail::PLAN_SHA256, sent(parameter::PLAN_SHA256)),
            (detail::PLAN_FOR, if what.is_aside() { case.id.to_string() } else { String::new() }),
            (detail::UNDOES, granted.undoes.map(|id| id.to_string()).unwrap_or_default()),
        ]));
        record
    }

    /// Finds out what became of a runbook that nobody heard of in time, and stops it when it runs.
    async fn stop(
        &self,
        case: &Case<'_>,
        what: What,
        told: &mut Option<Told>,
        now: Timestamp,
    ) -> Result<Tried<Value>, Failure> {
        let (id, key) = case.work(what);
        let snapshot = self.outside.read(&[key.clone(), case.chain(), case.flight()]).await?;
        let held = snapshot.claim(&key)?;
        if held.as_ref().is_some_and(|claim| claim.ended.contains(&id)) {
            let ran = Ran::of(&self.outside.records(id).await?);
            let ran = ran.ok_or_else(|| Failure::Refused(format!("remediation {id} ended without a record")))?;
            return Ok(Tried::Done(json!(ran)));
        }
        // It starts after its claim was granted: without that there is nothing to look for.
        let is_granted = |claim: &&Claim| claim.state == State::Claimed || is_ending(claim);
        let granted = held.as_ref().filter(|claim| claim.remediation_id == id).filter(is_granted);
        if let (Some(claim), Some(direct)) = (granted, &case.input.direct) {
            let start = direct::again(&self.me, &self.outside.records(id).await?, claim, direct);
            let start =
                start.ok_or_else(|| Failure::Refused(format!("remediation {id} has no record of its start")))?;
            if self.outside.recall(&case.place, &start).await? {
                return Err(Failure::StillRunning(direct.function.clone()));
            }
            return self.never_started(case, what, &snapshot, held, told, now).await;
        }
        let found = match granted {
            Some(claim) => self.outside.find_execution(&case.place, id, self.since(case, what, claim)).await?,
            None => None,
        };
        let Some(execution) = found else {
            return self.never_started(case, what, &snapshot, held, told, now).await;
        };
        let status = self.outside.execution(&case.place, &execution).await?.status;
        if !completion::is_the_end(&status) {
            tracing::warn!(remediation = %id, execution, "stopped: it did not end in time");
            self.outside.stop_execution(&case.place, &execution).await?;
            return Err(Failure::StillRunning(execution));
        }
        // Its event was lost, or is still on its way: then one of the two is a duplicate.
        let event = json!({
            "source": "aws.ssm", "account": case.place.account, "region": case.place.region,
            "detail": { "ExecutionId": execution, "Definition": names::CONTROL_DOCUMENT, "Status": status },
        });
        self.outside.tell_end(&event).await?;
        Err(Failure::StillRunning(execution))
    }

    /// Since when a runbook may have been started: the claim was granted for it, maybe to several workers one after the
    /// other. The claim itself may be as old as its question.
    fn since(&self, case: &Case<'_>, what: What, claim: &Claim) -> Timestamp {
        let last = claim.lease_until - self.lease_ms(case, what);
        let since = claim.claimed_at.max(last - WORKERS_MS);
        Timestamp::from_millisecond(since).unwrap_or_default() - CLOCKS
    }

    /// How long a claim is granted for a runbook. Whoever comes for the resource meanwhile waits for longer than it may take
    /// ([`claim::may_have`]).
    fn lease_ms(&self, case: &Case<'_>, what: What) -> i64 {
        let beyond_ms = i64::from(case.seconds(what)) * 1000 - self.me.times.run_ms;
        self.me.times.lease_ms + beyond_ms.max(0)
    }

    /// A runbook that there is not. Its own remediation, where it has one, ends here; the workflow's goes on to
    /// [`Step::Fail`].
    async fn never_started(
        &self,
        case: &Case<'_>,
        what: What,
        snapshot: &Snapshot,
        held: Option<Claim>,
        told: &mut Option<Told>,
        now: Timestamp,
    ) -> Result<Tried<Value>, Failure> {
        let (id, key) = case.work(what);
        let why = "the runbook was never started; nothing was changed by it";
        let answer = json!(Ran::never_started(why));
        let Some(claim) = held.filter(|_| what != What::Apply) else { return Ok(Tried::Done(answer)) };
        let mut record = report::draft(&self.me, id, &claim.subject, State::Failed, now);
        record.error_message = why.to_owned();
        record.detail.extend(report::details([(detail::CODE, "never-started".to_owned())]));
        if claim.remediation_id == id {
            let claim = match what {
                What::RollBack => {
                    match self.tell_end(case, (snapshot, &key), &claim, vec![], &mut record, told, now).await? {
                        Tried::Done(claim) => claim,
                        Tried::Overtaken => return Ok(Tried::Overtaken),
                    }
                }
                _ => claim,
            };
            let end = End { state: State::Failed, compliant: false, changed: false, undone: false };
            return self.end(case, snapshot, key, &claim, end, record, Vec::new(), answer, (now, now)).await;
        }
        if Ran::of(&self.outside.records(id).await?).is_none() {
            if what == What::RollBack {
                let sent = match told.as_ref() {
                    Some(told) => told.sent,
                    None => tell::publish(&self.outside, id, &claim.subject, State::Failed, now).await,
                };
                *told = Some(Told { fence: claim.fence, sent });
                record.notification_sent = sent;
            }
            let head = snapshot.head(&case.input.account)?;
            let also = Self::lands(case, id, snapshot, now)?.into_iter().collect();
            let written = append_with(&self.outside, &case.input.account, head, vec![record], None, also).await;
            if let Tried::Overtaken = tried(written)? {
                return Ok(Tried::Overtaken);
            }
        }
        Ok(Tried::Done(answer))
    }

    // ------------------------------------------------------------------------------------------ asking

    async fn ask(&self, case: &Case<'_>, token: &str, given: &Given, now: Timestamp) -> Result<Tried<Value>, Failure> {
        let refused = |why: &str| Failure::Refused(why.to_owned());
        let asking = case.input.approval.as_ref().ok_or_else(|| refused("nobody has to be asked"))?;
        let plan = given.plan.as_ref().ok_or_else(|| refused("there is no plan to ask about"))?;
        let hash = plan.plan().ok_or_else(|| refused("there is no plan to ask about"))?;
        let asking_id = asking_id(&case.claim_key, case.id);
        let keys = [case.key(), case.chain(), StateKey::Approval(case.id)];
        let snapshot = self.outside.read(&keys).await?;
        let claim = snapshot.claim(&case.key())?;
        let claim = case.open(claim.as_ref());
        let known = snapshot.approval(case.id)?;
        let task = task(token, case, now);
        let head = snapshot.head(&case.input.account)?;
        let also = Also::put(StateKey::Task(asking_id), &task, Expect::Anything)?;
        let approval = match known {
            // Answered before this worker came to it.
            Some(approval) if approval.status != ApprovalStatus::Pending => {
                let answer = json!({ "Status": approval.status });
                self.outside.end_task(&task, &answer).await?;
                return Ok(Tried::Done(answer));
            }
            // Asked by a worker that died: only who is told of the answer changes.
            Some(approval) => {
                let write = claim.map(|claim| ClaimWrite {
                    key: case.key(),
                    condition: Condition::unchanged(Some(claim)),
                    claim: Claim { fence: Fence(claim.fence.0 + 1), ..claim.clone() },
                });
                let head = head.clone();
                let written = append_with(&self.outside, &case.input.account, head, vec![], write, vec![also]).await;
                if let Tried::Overtaken = tried(written)? {
                    return Ok(Tried::Overtaken);
                }
                approval
            }
            None => {
                let lost = || Failure::Refused(format!("the claim on {} is not {}'s any more", case.arn, case.id));
                let claim = claim.ok_or_else(lost)?;
                let impact = self.impact(case, &claim.subject).await;
                let approval = question(case, asking, claim, plan, &hash, impact, now);
                let question = Also::put(StateKey::Approval(case.id), &approval, Expect::Absent)?;
                let write = ClaimWrite {
                    key: case.key(),
                    condition: Condition::unchanged(Some(claim)),
                    claim: Claim {
                        fence: Fence(claim.fence.0 + 1),
                        state: State::AwaitingApproval,
                        lease_until: approval.expires_at_ms + AFTER_ASKING_MS,
                        ..claim.clone()
                    },
                };
                let mut record = report::draft(&self.me, case.id, &approval.subject, State::Planned, now);
                record.detail.extend(asked_details(&approval, "plan-made"));
                let account = &case.input.account;
                let also = vec![question, also];
                let written = append_with(&self.outside, account, head, vec![record], Some(write), also).await;
                if let Tried::Overtaken = tried(written)? {
                    return Ok(Tried::Overtaken);
                }
                approval
            }
        };
        self.tell_of_question(case, &approval, now).await
    }

    /// Tells people that they are asked, and writes down that they were. Nobody is asked whom nobody told: it is an error.
    async fn tell_of_question(
        &self,
        case: &Case<'_>,
        approval: &Approval,
        now: Timestamp,
    ) -> Result<Tried<Value>, Failure> {
        let records = self.outside.records(case.id).await?;
        let told = |record: &Record| {
            record.draft.execution_status == State::AwaitingApproval
                && record.draft.notification_sent
                && record.detail(detail::PLAN_SHA256) == Some(&approval.plan_sha256)
        };
        if records.iter().any(told) {
            return Ok(Tried::Done(json!({ "Asked": case.id })));
        }
        let (mut message, attributes) = report::notification(case.id, &approval.subject, State::AwaitingApproval, now);
        // What would be changed is for those who may read evidence; the message says where to look.
        message.action = format!("{}: answer with `redress approvals show {}`", message.action, case.id);
        self.outside.publish(&message, &attributes).await?;
        let mut record = report::draft(&self.me, case.id, &approval.subject, State::AwaitingApproval, now);
        record.timestamp += 1;
        record.notification_sent = true;
        record.detail.extend(asked_details(approval, "asked"));
        let head = self.outside.read(&[case.chain()]).await?.head(&case.input.account)?;
        let written = append_with(&self.outside, &case.input.account, head, vec![record], None, vec![]).await;
        written.map_err(|error| Failure::Later(error.to_string()))?;
        Ok(Tried::Done(json!({ "Asked": case.id })))
    }

    /// What the change would touch. A guard that does not answer is said to people as such.
    async fn impact(&self, case: &Case<'_>, subject: &Subject) -> GuardEvidence {
        let request = GuardRequest {
            control: case.control.clone(),
            resource_arn: case.arn.clone(),
            resource_type: subject.resource_type.clone(),
            account_id: case.input.account.clone(),
            region: case.input.region.clone(),
            indicators: Vec::new(),
        };
        self.outside.guard(&case.place, &request).await.unwrap_or_else(|error| {
            tracing::warn!(remediation = %case.id, %error, "the guard did not answer");
            let unanswered = vec![format!("all of it: {}", report::sanitised(&error.message))];
            GuardEvidence { unanswered, ..GuardEvidence::default() }
        })
    }

    /// The state machine stopped to wait. An answer that was given in time counts, also when its news was lost.
    async fn time_is_up(
        &self,
        case: &Case<'_>,
        told: &mut Option<Told>,
        now: Timestamp,
    ) -> Result<Tried<Value>, Failure> {
        let keys = [case.key(), case.chain(), StateKey::Approval(case.id), case.flight()];
        let snapshot = self.outside.read(&keys).await?;
        let approval = snapshot.approval(case.id)?;
        let approval = approval.ok_or_else(|| Failure::Refused("nobody was asked".to_owned()))?;
        let claim = snapshot.claim(&case.key())?.filter(|claim| case.open(Some(claim)).is_some());
        let answer = json!({ "Status": ApprovalStatus::Expired });
        let (claim, also) = match (approval.status, claim) {
            (ApprovalStatus::Pending, Some(claim)) => (claim, vec![closed(&approval, ApprovalStatus::Expired)?]),
            (ApprovalStatus::Pending, None) => return Ok(Tried::Done(answer)),
            // Taken for its end, by this worker or one before it.
            (ApprovalStatus::Expired, Some(claim)) if is_ending(&claim) => (claim, Vec::new()),
            (status, _) => return Ok(Tried::Done(json!({ "Status": status }))),
        };
        let mut record = report::draft(&self.me, case.id, &approval.subject, State::Expired, now);
        record.detail.extend(asked_details(&approval, "expired"));
        let taken = self.tell_end(case, (&snapshot, &case.key()), &claim, also, &mut record, told, now).await?;
        let Tried::Done(claim) = taken else { return Ok(Tried::Overtaken) };
        let end = End { state: State::Expired, compliant: false, changed: false, undone: false };
        self.end(case, &snapshot, case.key(), &claim, end, record, vec![], answer, (now, now)).await
    }

    // ------------------------------------------------------------------------------------------ ends

    async fn nothing(
        &self,
        case: &Case<'_>,
        given: &Given,
        told: &mut Option<Told>,
        now: Timestamp,
    ) -> Result<Tried<Value>, Failure> {
        let (plan, plan_key) = case.work(What::Plan);
        let snapshot = self.outside.read(&[case.key(), case.chain(), plan_key.clone(), case.flight()]).await?;
        let answer = json!({ "Status": "Nothing" });
        let Some(claim) = snapshot.claim(&case.key())?.filter(|claim| case.open(Some(claim)).is_some()) else {
            return Ok(Tried::Done(answer));
        };
        let ran = given.plan.as_ref().ok_or_else(|| Failure::Refused("there is no plan".to_owned()))?;
        let compliant = ran.outcome == Outcome::AlreadyCompliant.as_str();
        let state = if compliant { State::Verified } else { State::Failed };
        let why = if compliant { "" } else { "the resource does not exist any more; nothing was changed" };
        let mut record = report::draft(&self.me, case.id, &claim.subject, state, now);
        record.error_message = why.to_owned();
        let taken = self.tell_end(case, (&snapshot, &case.key()), &claim, Vec::new(), &mut record, told, now).await?;
        let Tried::Done(claim) = taken else { return Ok(Tried::Overtaken) };
        record.detail.extend(report::details([
            (detail::OUTCOME, ran.outcome.clone()),
            (detail::PLAN_ID, plan.to_string()),
            (detail::PRE_IMAGE_SHA256, ran.pre_image_sha256.clone()),
        ]));
        let end = End { state, compliant, changed: false, undone: false };
        // The dry run looked after it was claimed; what was found since then, it did not see.
        let looked = snapshot.claim(&plan_key)?.map_or(claim.claimed_at, |claim| claim.claimed_at);
        let seen = Timestamp::from_millisecond(looked).unwrap_or(now).min(now);
        self.end(case, &snapshot, case.key(), &claim, end, record, vec![], answer, (seen, now)).await
    }

    /// What was approved is not there any more. The outcome itself was recorded by who saw it.
    async fn void(&self, case: &Case<'_>, now: Timestamp) -> Result<Tried<Value>, Failure> {
        let snapshot = self.outside.read(&[case.chain(), StateKey::Approval(case.id)]).await?;
        let answer = json!({ "Status": ApprovalStatus::Void });
        let Some(approval) = snapshot.approval(case.id)?.filter(|approval| is_alive(approval.status)) else {
            return Ok(Tried::Done(answer));
        };
        let also = closed(&approval, ApprovalStatus::Void)?;
        let head = snapshot.head(&case.input.account)?;
        let mut record = report::draft(&self.me, case.id, &approval.subject, State::Failed, now);
        record.error_message = "the resource, or what would be changed, is not what was approved".to_owned();
        record.detail.extend(asked_details(&approval, "plan-void"));
        let written = append_with(&self.outside, &case.input.account, head, vec![record], None, vec![also]).await;
        Ok(match tried(written)? {
            Tried::Done(_) => Tried::Done(answer),
            Tried::Overtaken => Tried::Overtaken,
        })
    }

    async fn fail(
        &self,
        case: &Case<'_>,
        given: &Given,
        told: &mut Option<Told>,
        now: Timestamp,
    ) -> Result<Tried<Value>, Failure> {
        let keys = [case.key(), case.chain(), StateKey::Approval(case.id), case.flight()];
        let snapshot = self.outside.read(&keys).await?;
        let answer = json!({ "Status": State::Failed });
        let Some(claim) = snapshot.claim(&case.key())?.filter(|claim| case.open(Some(claim)).is_some()) else {
            return Ok(Tried::Done(answer));
        };
        let failed = |ran: &Option<Ran>| ran.as_ref().map(|ran| ran.error.clone()).filter(|error| !error.is_empty());
        let why = match (&given.error, failed(&given.copies), failed(&given.plan)) {
            (Some(caught), ..) => caught.text(),
            (None, Some(copies), _) => format!("no safety copy could be made, so nothing was changed: {copies}"),
            (None, None, Some(plan)) => format!("no plan could be made: {plan}"),
            (None, None, None) => "the workflow ended where it should not".to_owned(),
        };
        let why = match &given.search_error {
            Some(caught) => format!("{why}; what was started could not be looked for: {}", caught.text()),
            None => why,
        };
        let not_allowed = given.error.as_ref().is_some_and(|caught| caught.error == NOT_ALLOWED);
        let code = if not_allowed { "decision-void" } else { "workflow-failed" };
        let also = match snapshot.approval(case.id)?.filter(|approval| is_alive(approval.status)) {
            Some(approval) => vec![closed(&approval, ApprovalStatus::Void)?],
            None => Vec::new(),
        };
        // Nobody knows what a runbook did whose end nobody knows.
        let never_started = given.apply.as_ref().is_some_and(|ran| ran.outcome == NEVER_STARTED);
        let may_run = match claim.state {
            State::Claimed => true,
            // Taken for its end, by this worker or one before it.
            State::Failed if is_ending(&claim) => {
                let was_started = |record: &Record| record.draft.execution_status == State::Claimed;
                self.outside.records(case.id).await?.iter().any(was_started)
            }
            _ => false,
        };
        let changed = may_run && !never_started;
        let end = End { state: State::Failed, compliant: false, changed, undone: false };
        let mut record = report::draft(&self.me, case.id, &claim.subject, State::Failed, now);
        record.error_message = report::sanitised(&why);
        record.detail.extend(report::details([(detail::CODE, code.to_owned())]));
        let taken = self.tell_end(case, (&snapshot, &case.key()), &claim, also, &mut record, told, now).await?;
        let Tried::Done(claim) = taken else { return Ok(Tried::Overtaken) };
        self.end(case, &snapshot, case.key(), &claim, end, record, vec![], answer, (now, now)).await
    }

    /// Takes the claim for its end, and the question with it, and then tells people of it, once: of what another worker, or
    /// a late answer, makes of it they do not hear from here. Whether they were told goes into the record.
    #[expect(clippy::too_many_arguments, reason = "one transaction, all of it read already")]
    async fn tell_end(
        &self,
        case: &Case<'_>,
        (snapshot, key): (&Snapshot, &StateKey),
        claim: &Claim,
        also: Vec<Also>,
        record: &mut RecordDraft,
        told: &mut Option<Told>,
        now: Timestamp,
    ) -> Result<Tried<Claim>, Failure> {
        let mut taken = claim.clone();
        let is_own = told.as_ref().is_some_and(|told| told.fence == claim.fence);
        if is_ending(claim) && !is_own && now.as_millisecond() < claim.lease_until {
            return Err(Failure::Later(format!("the end of remediation {} is being recorded", claim.remediation_id)));
        }
        if !is_own {
            taken = Claim {
                fence: Fence(claim.fence.0 + 1),
                status: ClaimStatus::Leased,
                state: record.execution_status,
                lease_until: now.as_millisecond() + self.me.times.lease_ms.min(ENDING_MS),
                ..claim.clone()
            };
            let (account, head) = (&case.input.account, snapshot.head(&case.input.account)?);
            let condition = Condition::unchanged(Some(claim));
            let write = ClaimWrite { key: key.clone(), condition, claim: taken.clone() };
            let written = append_with(&self.outside, account, head, Vec::new(), Some(write), also).await;
            if let Tried::Overtaken = tried(written)? {
                return Ok(Tried::Overtaken);
            }
        }
        let (id, state) = (record.remediation_id, record.execution_status);
        // What was told under an older fence was told, whoever has the claim by now.
        record.notification_sent = match told.as_ref() {
            Some(told) => told.sent,
            None => tell::publish(&self.outside, id, &claim.subject, state, now).await,
        };
        *told = Some(Told { fence: taken.fence, sent: record.notification_sent });
        Ok(Tried::Done(taken))
    }

    /// Takes a runbook's place in flight, and gives back the one that the workflow held until now.
    fn takes_off(
        &self,
        case: &Case<'_>,
        what: What,
        id: RemediationId,
        snapshot: &Snapshot,
        claim: Option<&Claim>,
        now: Timestamp,
    ) -> Result<Also, Failure> {
        let (now_ms, flight) = (now.as_millisecond(), snapshot.flight(&case.input.account, &case.input.region)?);
        let most = snapshot.settings().map(|settings| settings.limits.in_flight)?;
        let by_rule = claim.is_some_and(|claim| claim.subject.remediation_type == RemediationType::Automatic);
        let mut free = flight.clone();
        free.running.retain(|running, _| *running != case.id && *running != id);
        // Putting back does not wait, and people's requests use the room that rules must leave.
        if by_rule && what != What::RollBack && free.running_at(now_ms) >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(Failure::Full(format!(
                "{most} remediations run in this account and Region, which is the limit"
            )));
        }
        let next = free.with(id, now_ms + i64::from(case.seconds(what)) * 1000, now_ms);
        Ok(Also::put(case.flight(), &next, Expect::Version(flight.version))?)
    }

    /// Gives back the place of what ends here, if it has one.
    fn lands(case: &Case<'_>, id: RemediationId, snapshot: &Snapshot, now: Timestamp) -> Result<Option<Also>, Failure> {
        let flight = snapshot.flight(&case.input.account, &case.input.region)?;
        if !flight.running.contains_key(&id) {
            return Ok(None);
        }
        let next = flight.without(id, now.as_millisecond());
        Ok(Some(Also::put(case.flight(), &next, Expect::Version(flight.version))?))
    }

    /// Asks policy once more what it was asked when this was decided. Copies and changes take place only while it still says
    /// so: exemptions, the policy set, the time, calendars and breakers may have changed while people were asked.
    ///
    /// # Errors
    /// When it says less now, or cannot be asked.
    async fn still_decided(&self, case: &Case<'_>, snapshot: &Snapshot, now: Timestamp) -> Result<(), Failure> {
        let void = |why: String| {
            Failure::NotAllowed(format!("what was decided does not hold any more, so nothing is changed: {why}"))
        };
        let records = self.outside.records(case.id).await?;
        let question = records.iter().rev().find_map(|record| record.detail(detail::QUESTION));
        let question = question.ok_or_else(|| void("the ledger does not say what policy was asked".to_owned()))?;
        let mut asked = Asked::of_text(question).map_err(|error| void(error.to_string()))?;
        let unreadable = |error: redress_common::aws::item::ItemError| void(error.to_string());
        let settings = snapshot.settings().map_err(unreadable)?;
        let exemptions = snapshot.exemptions().map_err(unreadable)?;
        let policies = context::policies(settings.policy_set, snapshot).map_err(|error| void(error.to_string()))?;
        let account = &case.input.account;
        let standings =
            breaker::standings(snapshot, account, &case.control, now.as_millisecond()).map_err(unreadable)?;
        asked.now = now;
        asked.time_zone.clone_from(&settings.time_zone);
        asked.pilot = settings.pilot_accounts.contains(account);
        asked.breaker_open = standings.iter().any(|standing| standing.breaker.opened_at.is_some());
        let facts = snapshot.account(account).map_err(unreadable)?.filter(|facts| facts.account == *account);
        asked.account_facts = facts.or(asked.account_facts);
        asked.calendar = match settings.change_calendars.as_slice() {
            [] => Calendar::None,
            _ if !policies.needs_calendar() => asked.calendar,
            calendars => match self.outside.calendars_open(calendars, now).await {
                Ok(true) => Calendar::Open,
                Ok(false) => Calendar::Closed,
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(_) => Calendar::Unreadable,
            },
        };
        let verdict = policies.ask_again(&asked, &exemptions).map_err(|error| void(error.to_string()))?;
        let by: Vec<&str> = verdict.policies.iter().map(String::as_str).collect();
        let says = || match (&verdict.exemption, &verdict.error) {
            (Some(exemption), _) => format!("exemption `{exemption}` holds"),
            (None, Some(error)) => error.clone(),
            (None, None) => format!("policy says `{}` now ({})", verdict.disposition.as_str(), by.join(", ")),
        };
        let approval = match &case.input.approval {
            Some(_) => snapshot.approval(case.id)?,
            None => None,
        };
        match (verdict.disposition, approval) {
            (Disposition::Act, _) => Ok(()),
            (Disposition::Approve, Some(approval)) if approval::suffices(&approval, &verdict) => Ok(()),
            (Disposition::Approve, Some(_)) => Err(void("policy asks for more people's approval now".to_owned())),
            _ => Err(void(says())),
        }
    }

    /// What the breakers say to a change that a rule started, and what is written with its claim: the counts, unless it was
    /// counted already, and the probes that it is.
    ///
    /// # Errors
    /// When one is open, or opens here.
    async fn admitted(
        &self,
        case: &Case<'_>,
        snapshot: &Snapshot,
        claim: Option<&Claim>,
        now: Timestamp,
    ) -> Result<Vec<Also>, Failure> {
        let is_by_rule = |claim: &&Claim| claim.subject.remediation_type == RemediationType::Automatic;
        let Some(claim) = claim.filter(is_by_rule).filter(|_| case.mode == Mode::Apply) else { return Ok(Vec::new()) };
        // Where nobody was asked, it was counted with its claim; and a worker before this one counted it, too.
        let anew = case.input.approval.is_some() && claim.state != State::Claimed;
        let (limits, now_ms) = (snapshot.settings()?.limits, now.as_millisecond());
        let standings = breaker::standings(snapshot, &case.input.account, &case.control, now_ms)?;
        match breaker::admit(&standings, &limits, case.id, anew, self.me.times.run_ms, now_ms)? {
            Admission::Start(also) => Ok(also),
            Admission::Stopped(why) => Err(Failure::NotAllowed(why)),
            Admission::Open(opening) => {
                let opened = tell::opened(&self.outside, &self.me, &opening, now).await;
                opened.map_err(|error| Failure::Later(error.to_string()))?;
                Err(Failure::NotAllowed(opening.breaker.reason))
            }
        }
    }

    /// A person may have suppressed the finding, or resolved it, while people were asked or copies were made.
    ///
    /// # Errors
    /// When somebody did, or it cannot be read.
    async fn still_open(&self, case: &Case<'_>, claim: Option<&Claim>) -> Result<(), Failure> {
        let waited = case.input.approval.is_some() || case.input.snapshot;
        let subject = claim.map(|claim| &claim.subject).filter(|_| waited && case.mode == Mode::Apply);
        let Some((subject, product_arn)) = subject.and_then(|subject| Some((subject, subject.product_arn.as_ref()?)))
        else {
            return Ok(());
        };
        match self.outside.workflow_status(&subject.finding_id, product_arn).await {
            Ok(WorkflowStatus::New | WorkflowStatus::Notified) => Ok(()),
            Ok(status) => {
                let put = if status == WorkflowStatus::Suppressed { "suppressed" } else { "resolved" };
                Err(Failure::NotAllowed(format!("the finding is {put} in Security Hub now, so nothing is changed")))
            }
            Err(error) if error.is_transient() => Err(error.into()),
            Err(error) => Err(Failure::NotAllowed(format!(
                "whether people have suppressed the finding cannot be read, so nothing is changed: {error}"
            ))),
        }
    }

    /// Writes an end down, and gives the claim and the place in flight back with it.
    #[expect(clippy::too_many_arguments, reason = "one transaction, all of it read already")]
    async fn end(
        &self,
        case: &Case<'_>,
        snapshot: &Snapshot,
        key: StateKey,
        claim: &Claim,
        end: End,
        record: RecordDraft,
        mut also: Vec<Also>,
        answer: Value,
        (seen, now): (Timestamp, Timestamp),
    ) -> Result<Tried<Value>, Failure> {
        let head = snapshot.head(&case.input.account)?;
        also.extend(Self::lands(case, claim.remediation_id, snapshot, now)?);
        let write =
            ClaimWrite { key, condition: Condition::unchanged(Some(claim)), claim: claim::finish(claim, end, seen) };
        let written = append_with(&self.outside, &case.input.account, head, vec![record], Some(write), also).await;
        Ok(match tried(written)? {
            Tried::Done(_) => Tried::Done(answer),
            Tried::Overtaken => Tried::Overtaken,
        })
    }
}

/// Whether the workflow ends with this step, and nothing was changed: then what came meanwhile is decided anew. Who denies
/// has decided about that, too; of a runbook's end the completion function knows.
fn ends_unchanged(step: Step, answer: &Value) -> bool {
    match step {
        Step::TimeIsUp => answer["Status"] == json!(ApprovalStatus::Expired),
        Step::Nothing | Step::Fail => true,
        Step::Run | Step::Ask | Step::Stop | Step::Void => false,
    }
}

fn task(token: &str, case: &Case<'_>, now: Timestamp) -> Task {
    let expires_at = now.as_second() + REMEMBER_SECONDS;
    Task { token: token.to_owned(), account: case.input.account.clone(), expires_at }
}

/// Whether the completion function is just recording the end of what holds the claim.
fn is_ending(claim: &Claim) -> bool {
    claim.status == ClaimStatus::Leased && claim.state.is_terminal()
}

/// The switch holds also for what was approved before it was turned.
fn switched_on(snapshot: &Snapshot, case: &Case<'_>, mode: Mode) -> Result<(), Failure> {
    let unreadable = |error| Failure::Refused(format!("what may be done is not readable, so nothing is: {error}"));
    let settings = snapshot.settings().map_err(unreadable)?;
    let facts = snapshot.account(&case.input.account).map_err(unreadable)?;
    let path = facts.as_ref().map(|facts| facts.ou_path.as_slice());
    match settings.switch_of(&case.input.account, path, &case.control) {
        (Switch::On, _) => Ok(()),
        (Switch::Observe, _) if mode == Mode::DryRun => Ok(()),
        (switch, of) => {
            Err(Failure::Refused(format!("the switch of {of} is `{}`; nothing is changed", switch.as_str())))
        }
    }
}

/// The plan that may be applied: the one that was made and, when people had to be asked, the one they approved.
fn approved(snapshot: &Snapshot, case: &Case<'_>, given: &Given) -> Result<String, Failure> {
    let made = given.plan.as_ref().and_then(Ran::plan);
    let made = made.ok_or_else(|| Failure::Refused("there is no plan to apply".to_owned()))?;
    if case.input.approval.is_none() {
        return Ok(made);
    }
    match snapshot.approval(case.id)? {
        Some(approval) if approval.status == ApprovalStatus::Approved && approval.plan_sha256 == made => Ok(made),
        Some(approval) => {
            Err(Failure::Refused(format!("this plan is not approved: the question is {}", approval.status)))
        }
        None => Err(Failure::Refused("this plan is not approved: nobody was asked".to_owned())),
    }
}

/// What a runbook of the workflow is started with.
fn start(me: &Identity, case: &Case<'_>, what: What, granted: &Claim, given: &Given, plan: Option<&str>) -> Start {
    let ours = [
        parameter::AUTOMATION_ASSUME_ROLE,
        parameter::REMEDIATION_ASSUME_ROLE,
        parameter::CONTROL,
        parameter::RESOURCE_ARN,
        parameter::RESOURCE_NAME,
        parameter::EVIDENCE_BUCKET,
        parameter::SOURCE_EVIDENCE_KEY,
    ];
    let sent = &case.input.parameters;
    let mut parameters: BTreeMap<&'static str, String> =
        ours.into_iter().filter_map(|name| Some((name, sent.get(name)?.clone()))).collect();
    let claimed = Timestamp::from_millisecond(granted.claimed_at).unwrap_or_default();
    let id = granted.remediation_id;
    parameters.insert(parameter::EVIDENCE_BUCKET, names::evidence_bucket(&case.input.account, &me.home));
    parameters.extend([
        (parameter::REMEDIATION_ID, id.to_string()),
        (parameter::MODE, case.mode(what).as_str().to_owned()),
        (parameter::FENCE, granted.fence.to_string()),
        (parameter::EVIDENCE_KEY, names::evidence_key(id, claimed)),
    ]);
    if let Some(plan) = plan {
        parameters.insert(parameter::PLAN_SHA256, plan.to_owned());
    }
    if what == What::RollBack {
        let of_apply = given.apply.as_ref().map(|ran| ran.evidence_key.clone()).filter(|key| !key.is_empty());
        let source = of_apply.or_else(|| sent.get(parameter::EVIDENCE_KEY).cloned()).unwrap_or_default();
        parameters.insert(parameter::SOURCE_EVIDENCE_KEY, source);
    }
    parameters.retain(|_, value| !value.is_empty());
    Start { id, parameters, direct: case.input.direct.clone() }
}

/// The question about a plan.
fn question(
    case: &Case<'_>,
    asking: &Asking,
    claim: &Claim,
    plan: &Ran,
    hash: &str,
    impact: GuardEvidence,
    now: Timestamp,
) -> Approval {
    let seconds = i64::from(asking.seconds);
    let now_ms = now.as_millisecond();
    // An answer in the last moment would find nobody who waits.
    let expires_at_ms = now_ms + seconds * 1000 - BEFORE_TIMEOUT_MS.min(seconds * 100);
    // Security Hub does not say who chose a custom action: of two people, one is another.
    let anonymous = asking.four_eyes && claim.subject.requested_by == "CustomAction";
    Approval {
        version: 1,
        remediation_id: case.id,
        status: ApprovalStatus::Pending,
        subject: claim.subject.clone(),
        plan_sha256: hash.to_owned(),
        plan_id: plan_id(&case.claim_key, case.id),
        plan_evidence_key: plan.evidence_key.clone(),
        impact: Some(impact),
        needed: asking.needed.max(if anonymous { 2 } else { 1 }),
        four_eyes: asking.four_eyes,
        policies: asking.policies.clone(),
        votes: Vec::new(),
        asked_at: now_ms,
        expires_at_ms,
        expires_at: now.as_second() + seconds + REMEMBER_SECONDS,
    }
}

fn asked_details(approval: &Approval, code: &str) -> report::Detail {
    let until = Timestamp::from_millisecond(approval.expires_at_ms).unwrap_or_default();
    let mut details = report::details([
        (detail::CODE, code.to_owned()),
        (detail::PLAN_SHA256, approval.plan_sha256.clone()),
        (detail::PLAN_ID, approval.plan_id.to_string()),
        (detail::POLICIES, approval.policies.join(",")),
        (detail::APPROVALS, format!("0 of {}", approval.needed)),
        (detail::EXPIRES, until.to_string()),
    ]);
    if code == "plan-made"
        && let Some(impact) = &approval.impact
        && let Ok(text) = serde_json::to_string(impact)
    {
        details.insert(detail::IMPACT.to_owned(), text);
    }
    details
}

/// Whether an approval may still lead to a change.
const fn is_alive(status: ApprovalStatus) -> bool {
    matches!(status, ApprovalStatus::Pending | ApprovalStatus::Approved)
}

/// The question with another status.
fn closed(approval: &Approval, status: ApprovalStatus) -> Result<Also, Failure> {
    let next = Approval { version: approval.version + 1, status, ..approval.clone() };
    Ok(Also::put(StateKey::Approval(approval.remediation_id), &next, Expect::Version(approval.version))?)
}
