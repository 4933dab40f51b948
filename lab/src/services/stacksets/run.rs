//! An operation at work: Region by Region, so many accounts at a time, until it is done, stopped, or too many failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::set::{Action, Instance, Permissions, Progress, StackSet, Stage, Status, Target};
use super::{StackSets, partition};
use crate::service::{Aws, Credentials};
use crate::stack::{Place, StackError, Wanted};

const TOO_MANY_FAILED: &str = "Cancelled since failure tolerance has exceeded";
const STOPPED: &str = "Cancelled since the operation was stopped";
const DEPENDENCY: &str = "Cancelled since an operation of a stack set that this one depends on did not succeed";

/// Which operation of which stack set.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) set: String,
    pub(super) operation: String,
}

/// What one target needs to be worked on.
struct Task {
    instance: Instance,
    wanted: Wanted,
    permissions: Permissions,
    action: Action,
    owner: String,
    home: String,
}

impl StackSets {
    /// Runs an operation when its turn has come, and `after` have succeeded.
    pub(super) async fn run(self, job: Job, after: Vec<watch::Receiver<Option<Stage>>>, aws: Arc<dyn Aws>) {
        for mut other in after {
            let ended = other.wait_for(Option::is_some).await.is_ok_and(|stage| *stage == Some(Stage::Succeeded));
            if !ended {
                self.end(&job, Some(DEPENDENCY));
                return;
            }
        }
        let Some(turn) = self.with(&job, |set, _| set.turn.clone()) else { return };
        let _turn = turn.lock().await;
        let regions = self.with(&job, |set, id| {
            let operation = set.operation_mut(id)?;
            if operation.stage == Stage::Queued {
                operation.stage = Stage::Running;
            }
            let mut regions: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (account, region) in operation.results.keys() {
                regions.entry(region.clone()).or_default().push(account.clone());
            }
            let order = operation.preferences.ordered(operation.regions.clone());
            let known = order.into_iter().filter_map(|region| regions.remove_entry(&region)).collect::<Vec<_>>();
            Some((known, operation.preferences.parallel_regions))
        });
        let Some((regions, parallel)) = regions.flatten() else { return };
        let mut too_many = false;
        if parallel {
            let mut under_way = JoinSet::new();
            for (region, accounts) in regions {
                let (sets, job, aws) = (self.clone(), job.clone(), aws.clone());
                under_way.spawn(async move { sets.region(&job, &region, accounts, &aws).await });
            }
            while let Some(tolerable) = under_way.join_next().await {
                too_many |= !tolerable.unwrap_or(false);
            }
        } else {
            for (region, accounts) in regions {
                if !self.region(&job, &region, accounts, &aws).await {
                    too_many = true;
                    break;
                }
            }
        }
        self.end(&job, too_many.then_some(TOO_MANY_FAILED));
    }

    /// One Region's accounts. Whether no more failed than may.
    async fn region(&self, job: &Job, region: &str, accounts: Vec<String>, aws: &Arc<dyn Aws>) -> bool {
        let preferences = self.with(job, |set, id| set.operation(id).map(|one| one.preferences.clone())).flatten();
        let preferences = preferences.unwrap_or_default();
        let (all, mut failed) = (accounts.len(), 0);
        let mut waiting = accounts.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            let stage = self.with(job, |set, id| set.operation(id).map(|one| one.stage)).flatten();
            let goes_on = stage == Some(Stage::Running) && failed <= preferences.tolerance(all);
            while goes_on && under_way.len() < preferences.at_once(all, failed) {
                let Some(account) = waiting.next() else { break };
                let (sets, job, aws, target) = (self.clone(), job.clone(), aws.clone(), (account, region.to_owned()));
                under_way.spawn(async move { sets.target(&job, &target, aws.as_ref()).await });
            }
            match under_way.join_next().await {
                Some(done) => failed += usize::from(!done.unwrap_or(false)),
                None => break,
            }
        }
        failed <= preferences.tolerance(all)
    }

    /// One account in one Region. Whether it succeeded.
    async fn target(&self, job: &Job, target: &Target, aws: &dyn Aws) -> bool {
        let Some(task) = self.with(job, |set, id| begin(set, id, target)).flatten() else { return false };
        let done = self.perform(&task, target, aws).await;
        self.with(job, |set, id| finish(set, id, target, task, done)).unwrap_or(false)
    }

    async fn perform(&self, task: &Task, (account, region): &Target, aws: &dyn Aws) -> Result<Option<String>, Refusal> {
        let Task { instance, wanted, action, .. } = task;
        if let Action::Delete { retain: true } = action {
            return Ok(None);
        }
        let credentials = self.credentials(task, account, region, aws).await?;
        let place = Place { aws, credentials, account, region, documents: Some(&self.documents) };
        match (action, &instance.stack_id) {
            (Action::Delete { .. }, Some(id)) => {
                place.delete(id, instance.applied.as_ref().unwrap_or(wanted)).await?;
                Ok(None)
            }
            // It never came to be, or the failed creation left nothing whole.
            (Action::Delete { .. }, None) => {
                place.delete(&instance.stack_name, wanted).await?;
                Ok(None)
            }
            (Action::Create | Action::Update, id) => match &instance.applied {
                Some(applied) if applied.is_same_as(wanted) => {
                    if instance.status != Status::Current {
                        return Ok(Some(place.complete_again(wanted).await?));
                    }
                    Ok(id.clone())
                }
                applied => Ok(Some(place.apply(wanted, applied.as_ref()).await?)),
            },
        }
    }

    /// Who acts in an account: CloudFormation, let in by the organisation, or the execution role.
    async fn credentials(
        &self,
        task: &Task,
        account: &str,
        region: &str,
        aws: &dyn Aws,
    ) -> Result<Credentials, Refusal> {
        let Permissions::SelfManaged { administration_role, execution_role } = &task.permissions else {
            return Ok(Credentials::root(account));
        };
        let administrator = super::administrator(aws, administration_role, &task.owner).await;
        let administrator = administrator.map_err(|error| Refusal::Unreached(error.message))?;
        let role = format!("arn:{}:iam::{account}:role/{execution_role}", partition(region));
        let asked = json!({ "RoleArn": role, "RoleSessionName": "AWSCloudFormation" });
        let assumed = aws.call(&administrator, &task.home, "sts", "AssumeRole", asked).await;
        let credentials = assumed.ok().and_then(|answer| {
            let text = |name: &str| answer["Credentials"][name].as_str().map(str::to_owned);
            Some(Credentials {
                access_key_id: text("AccessKeyId")?,
                secret_access_key: text("SecretAccessKey")?,
                session_token: text("SessionToken"),
            })
        });
        let administrators = administration_role.rsplit('/').next().unwrap_or_default();
        credentials.ok_or_else(|| {
            Refusal::Unreached(format!(
                "Account {account} should have '{execution_role}' role with trust relationship to Role '{administrators}'."
            ))
        })
    }

    /// An operation's end: what it did not come to is cancelled.
    fn end(&self, job: &Job, why: Option<&str>) {
        self.with(job, |set, id| {
            let Some(operation) = set.operations.iter_mut().find(|one| one.id == id) else { return };
            let stopped = operation.stage == Stage::Stopping;
            let reason = why.unwrap_or(STOPPED);
            for (target, outcome) in &mut operation.results {
                if outcome.progress == Progress::Pending {
                    (outcome.progress, outcome.reason) = (Progress::Cancelled, Some(reason.to_owned()));
                    if let Some(instance) = set.instances.get_mut(target) {
                        (instance.progress, instance.reason) = (Progress::Cancelled, Some(reason.to_owned()));
                    }
                }
            }
            operation.stage = match (stopped, why) {
                (true, _) => Stage::Stopped,
                (false, Some(_)) => Stage::Failed,
                (false, None) => Stage::Succeeded,
            };
            operation.reason = why.map(str::to_owned);
            operation.ended = Some(Timestamp::now());
            operation.done.send_replace(Some(operation.stage));
        });
    }
}

/// Why a target failed.
enum Refusal {
    /// Nobody may act in the account.
    Unreached(String),
    Stack(StackError),
}

impl From<StackError> for Refusal {
    fn from(error: StackError) -> Self {
        Self::Stack(error)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreached(reason) => f.write_str(reason),
            Self::Stack(StackError::Failed { reasons, .. }) if !reasons.is_empty() => {
                // The stack's own event only sums up what its resources say.
                let of_resources: Vec<_> =
                    reasons.iter().filter(|one| one.kind != "AWS::CloudFormation::Stack").collect();
                let shown = if of_resources.is_empty() { reasons.iter().collect() } else { of_resources };
                for (index, one) in shown.iter().enumerate() {
                    let between = if index == 0 { "" } else { "; " };
                    let (id, kind, reason) = (&one.logical_id, &one.kind, &one.reason);
                    write!(f, "{between}ResourceLogicalId:{id}, ResourceType:{kind}, ResourceStatusReason:{reason}.")?;
                }
                Ok(())
            }
            Self::Stack(StackError::Call { source, .. }) => write!(f, "{source}"),
            Self::Stack(error) => write!(f, "{error}"),
        }
    }
}

/// Marks a target as under way, and says what is to be done there.
fn begin(set: &mut StackSet, id: &str, target: &Target) -> Option<Task> {
    let operation = set.operations.iter_mut().find(|one| one.id == id)?;
    let action = operation.action;
    let outcome = operation.results.get_mut(target)?;
    let Some(instance) = set.instances.get_mut(target) else {
        outcome.progress = Progress::Failed;
        outcome.reason = Some("The stack instance is gone.".to_owned());
        return None;
    };
    outcome.progress = Progress::Running;
    (instance.progress, instance.reason) = (Progress::Running, None);
    let instance = instance.clone();
    Some(Task {
        wanted: set.wanted(&instance),
        instance,
        permissions: set.content.permissions.clone(),
        action,
        owner: set.owner.clone(),
        home: set.region.clone(),
    })
}

/// Writes down what came of a target. Whether it succeeded.
fn finish(set: &mut StackSet, id: &str, target: &Target, task: Task, done: Result<Option<String>, Refusal>) -> bool {
    let succeeded = done.is_ok();
    let (progress, reason) = match &done {
        Ok(_) => (Progress::Succeeded, None),
        Err(refusal) => (Progress::Failed, Some(refusal.to_string())),
    };
    if let Some(outcome) = set.operation_mut(id).and_then(|one| one.results.get_mut(target)) {
        (outcome.progress, outcome.reason) = (progress, reason.clone());
    }
    let deletes = matches!(task.action, Action::Delete { .. });
    if deletes && succeeded {
        set.instances.remove(target);
        return true;
    }
    if let Some(instance) = set.instances.get_mut(target) {
        (instance.progress, instance.reason) = (progress, reason);
        match done {
            Ok(stack) => {
                instance.status = Status::Current;
                (instance.stack_id, instance.applied) = (stack, Some(task.wanted));
            }
            Err(Refusal::Stack(StackError::Incomplete(_))) if !deletes => {
                instance.status = Status::Outdated;
                instance.applied = Some(task.wanted);
            }
            Err(_) if deletes => instance.status = Status::Inoperable,
            Err(_) => instance.status = Status::Outdated,
        }
    }
    succeeded
}
