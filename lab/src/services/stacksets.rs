//! CloudFormation StackSets: one template as a stack in many accounts and Regions, by operations that go on after
//! their request is answered.
//!
//! It answers the StackSet operations of `cloudformation` only; stacks are the base emulator's, made and completed by
//! [`crate::stack`]. With service-managed permissions it acts as each account's administrator, as CloudFormation does
//! where the organisation lets it in; with self-managed ones it assumes the roles that the request names.

mod auto;
mod content;
mod direct;
mod given;
mod organisation;
mod preferences;
mod run;
mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::ids::Region;
use serde_json::{Value, json};
use tokio::sync::watch;

use given::{Given, Parameter, invalid};
use organisation::{Paths, Targets};
use preferences::Preferences;
use run::Job;
use set::{Action, Instance, Operation, Outcome, Permissions, Progress, StackSet, Stage, Status, Target};

use super::ssm::Ssm;
use crate::service::{Aws, AwsError, Caller, Credentials, Request, Service};

const OPERATIONS: [&str; 18] = [
    "ActivateOrganizationsAccess",
    "CreateStackInstances",
    "CreateStackSet",
    "DeactivateOrganizationsAccess",
    "DeleteStackInstances",
    "DeleteStackSet",
    "DescribeOrganizationsAccess",
    "DescribeStackInstance",
    "DescribeStackSet",
    "DescribeStackSetOperation",
    "ListStackInstances",
    "ListStackSetAutoDeploymentTargets",
    "ListStackSetOperationResults",
    "ListStackSetOperations",
    "ListStackSets",
    "StopStackSetOperation",
    "UpdateStackInstances",
    "UpdateStackSet",
];

/// After these accounts may be elsewhere in the organisation.
const MOVES: [&str; 6] = [
    "AcceptHandshake",
    "CloseAccount",
    "CreateAccount",
    "LeaveOrganization",
    "MoveAccount",
    "RemoveAccountFromOrganization",
];

/// The service. A clone is the same service.
#[derive(Clone)]
pub struct StackSets {
    sets: Arc<Mutex<Vec<StackSet>>>,
    /// The organisations, by their management accounts, that let StackSets in; and where their accounts were last.
    organisations: Arc<tokio::sync::Mutex<BTreeMap<String, Paths>>>,
    /// Takes the runbooks of stacks.
    documents: Ssm,
    /// What was done to complete stacks that clients made themselves, by their ids. Without it they are left as they are.
    direct: Option<direct::Completed>,
}

/// Who asks, for which account's stack sets, and where.
struct Place<'a> {
    caller: &'a Caller,
    /// Whose stack sets are meant.
    owner: String,
    delegated: bool,
    region: &'a str,
}

/// An operation that shall begin.
struct Beginning {
    action: Action,
    id: Option<String>,
    request: Value,
    preferences: Preferences,
    deployment_targets: Option<Value>,
    regions: Vec<String>,
    /// Each with the unit that it is selected by.
    targets: BTreeMap<Target, Option<String>>,
    /// It waits for its turn, whatever runs.
    patient: bool,
}

impl StackSets {
    /// A service without stack sets.
    #[must_use]
    pub fn new(documents: &Ssm) -> Self {
        Self { sets: Arc::default(), organisations: Arc::default(), documents: documents.clone(), direct: None }
    }

    /// The same, which also completes the stacks that clients make themselves.
    #[must_use]
    pub fn completing(self) -> Self {
        Self { direct: Some(direct::Completed::default()), ..self }
    }

    fn sets(&self) -> MutexGuard<'_, Vec<StackSet>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the stack set of a job, and the job's operation's id.
    fn with<T>(&self, job: &Job, work: impl FnOnce(&mut StackSet, &str) -> T) -> Option<T> {
        let mut sets = self.sets();
        let set = sets.iter_mut().find(|set| set.id == job.set)?;
        Some(work(set, &job.operation))
    }

    /// Does something with the stack set that a request names.
    fn named<T>(
        &self,
        place: &Place<'_>,
        given: Given<'_>,
        work: impl FnOnce(&mut StackSet) -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let name = given.required("StackSetName")?;
        let mut sets = self.sets();
        let set = sets.iter_mut().rfind(|set| {
            let there = set.owner == place.owner && set.region == place.region;
            there
                && (set.id == name || set.name == name && !set.deleted)
                && (set.is_service_managed() || !place.delegated)
        });
        work(set.ok_or_else(|| not_found(name))?)
    }

    async fn place<'a>(&self, request: &'a Request, aws: &dyn Aws) -> Result<Place<'a>, AwsError> {
        let (caller, region) = (&request.caller, request.region.as_str());
        match Given(&request.body).text("CallAs") {
            None | Some("SELF") => Ok(Place { caller, owner: caller.account.clone(), delegated: false, region }),
            Some("DELEGATED_ADMIN") => {
                let owner = organisation::management(aws, &caller.account, region).await?;
                if !organisation::is_delegated(aws, &owner, &caller.account, region).await? {
                    return Err(invalid("Account used is not a delegated administrator"));
                }
                Ok(Place { caller, owner, delegated: true, region })
            }
            Some(other) => Err(invalid(format!("CallAs {other} is unknown"))),
        }
    }

    async fn create_set(&self, place: &Place<'_>, given: Given<'_>, aws: &dyn Aws) -> Result<Value, AwsError> {
        let name = given.required("StackSetName")?;
        let well_formed = name.len() <= 128
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !well_formed {
            return Err(invalid(format!(
                "Stack set name {name} is not [a-zA-Z][-a-zA-Z0-9]* of at most 128 characters"
            )));
        }
        let id = format!("{name}:{}", uuid::Uuid::new_v4());
        let content = self.content(place, given, None, &id, aws).await?;
        if content.permissions == Permissions::ServiceManaged {
            self.check_organisation(place, aws).await?;
        } else if place.delegated {
            return Err(invalid("A delegated administrator operates stack sets with SERVICE_MANAGED permissions only"));
        }
        let token = given.text("ClientRequestToken").map(str::to_owned);
        let mut sets = self.sets();
        let namesake = sets.iter().find(|set| {
            (set.owner.as_str(), set.region.as_str()) == (&place.owner, place.region)
                && set.name == name
                && !set.deleted
        });
        if let Some(namesake) = namesake {
            if token.is_some() && namesake.token == token {
                return Ok(json!({ "StackSetId": namesake.id }));
            }
            return Err(conflict("NameAlreadyExistsException", format!("Stack set {name} already exists")));
        }
        sets.push(StackSet {
            owner: place.owner.clone(),
            region: place.region.to_owned(),
            name: name.to_owned(),
            arn: arn(place.region, &place.owner, &id),
            id: id.clone(),
            token,
            deleted: false,
            content,
            instances: BTreeMap::new(),
            operations: Vec::new(),
            units: BTreeMap::new(),
            turn: Arc::default(),
        });
        Ok(json!({ "StackSetId": id }))
    }

    /// Whether the caller may have service-managed stack sets.
    async fn check_organisation(&self, place: &Place<'_>, aws: &dyn Aws) -> Result<(), AwsError> {
        if !place.delegated && organisation::management(aws, &place.owner, place.region).await? != place.owner {
            return Err(invalid(
                "You must be the management account or delegated admin account of an organization before operating a \
                 SERVICE_MANAGED stack set",
            ));
        }
        if !self.organisations.lock().await.contains_key(&place.owner) {
            return Err(invalid("You must enable organizations access to operate a service managed stack set"));
        }
        Ok(())
    }

    async fn update_set(&self, place: &Place<'_>, given: Given<'_>, aws: &Arc<dyn Aws>) -> Result<Value, AwsError> {
        let (id, before) = self.named(place, given, |set| Ok((set.id.clone(), set.content.clone())))?;
        let content = self.content(place, given, Some(&before), &id, aws.as_ref()).await?;
        if content.permissions != before.permissions
            && [&content, &before].iter().any(|one| one.permissions == Permissions::ServiceManaged)
        {
            return Err(invalid("A stack set keeps its PermissionModel"));
        }
        let some = given.has("Regions") || given.has("Accounts") || given.has("DeploymentTargets");
        let targets = if some { Some(self.targets(place, given, aws.as_ref()).await?) } else { None };
        let beginning = self.beginning(given, Action::Update)?;
        self.begin(place, given, beginning, aws, |set, beginning| {
            set.content = content;
            for instance in set.instances.values_mut().filter(|one| one.status == Status::Current) {
                instance.status = Status::Outdated;
            }
            beginning.targets = match targets {
                Some(targets) => existing(set, targets)?,
                None => set.instances.iter().map(|(target, one)| (target.clone(), one.unit.clone())).collect(),
            };
            if beginning.regions.is_empty() {
                let regions: BTreeSet<_> = beginning.targets.keys().map(|(_, region)| region.clone()).collect();
                beginning.regions = regions.into_iter().collect();
            }
            beginning.targets.retain(|target, _| set.instances[target].status != Status::Inoperable);
            Ok(())
        })
    }

    async fn delete_set(&self, place: &Place<'_>, given: Given<'_>) -> Result<Value, AwsError> {
        self.named(place, given, |set| {
            if set.is_busy() {
                return Err(busy(&set.name));
            }
            if !set.instances.is_empty() {
                let message = format!("StackSet {} is not empty: delete its stack instances first", set.name);
                return Err(conflict("StackSetNotEmptyException", message));
            }
            set.deleted = true;
            Ok(json!({}))
        })
    }

    async fn create_instances(
        &self,
        place: &Place<'_>,
        given: Given<'_>,
        aws: &Arc<dyn Aws>,
    ) -> Result<Value, AwsError> {
        let targets = self.targets(place, given, aws.as_ref()).await?;
        let units = self.units(place, given)?;
        let overrides = given.parameters("ParameterOverrides").unwrap_or_default();
        let beginning = self.beginning(given, Action::Create)?;
        self.begin(place, given, beginning, aws, |set, beginning| {
            content::check_known(&set.content.source.template, overrides.keys())?;
            for unit in units {
                set.units.entry(unit).or_default().extend(beginning.regions.clone());
            }
            for (target, unit) in &targets {
                let instance = set.instances.entry(target.clone()).or_insert_with(|| new_instance(&set.name));
                instance.unit = unit.clone();
                instance.overrides.extend(values(&overrides));
                if instance.status == Status::Current && !overrides.is_empty() {
                    instance.status = Status::Outdated;
                }
            }
            beginning.targets = targets;
            Ok(())
        })
    }

    async fn update_instances(
        &self,
        place: &Place<'_>,
        given: Given<'_>,
        aws: &Arc<dyn Aws>,
    ) -> Result<Value, AwsError> {
        let targets = self.targets(place, given, aws.as_ref()).await?;
        let overrides = given.parameters("ParameterOverrides");
        let beginning = self.beginning(given, Action::Update)?;
        self.begin(place, given, beginning, aws, |set, beginning| {
            beginning.targets = existing(set, targets)?;
            let Some(overrides) = overrides else { return Ok(()) };
            content::check_known(&set.content.source.template, overrides.keys())?;
            for target in beginning.targets.keys() {
                let Some(instance) = set.instances.get_mut(target) else { continue };
                // What is not in the list goes back to the stack set's value.
                instance.overrides.retain(|name, _| overrides.get(name) == Some(&Parameter::Previous));
                instance.overrides.extend(values(&overrides));
                if instance.status == Status::Current {
                    instance.status = Status::Outdated;
                }
            }
            Ok(())
        })
    }

    async fn delete_instances(
        &self,
        place: &Place<'_>,
        given: Given<'_>,
        aws: &Arc<dyn Aws>,
    ) -> Result<Value, AwsError> {
        let retain = given.flag("RetainStacks")?.ok_or_else(|| invalid("RetainStacks is required"))?;
        let targets = self.targets(place, given, aws.as_ref()).await?;
        let units = self.units(place, given)?;
        let beginning = self.beginning(given, Action::Delete { retain })?;
        self.begin(place, given, beginning, aws, |set, beginning| {
            for unit in units {
                if let Some(regions) = set.units.get_mut(&unit) {
                    regions.retain(|region| !beginning.regions.contains(region));
                }
            }
            set.units.retain(|_, regions| !regions.is_empty());
            // What is not there is deleted already.
            beginning.targets = targets.into_iter().filter(|(target, _)| set.instances.contains_key(target)).collect();
            Ok(())
        })
    }

    /// The units of a request whose later accounts are meant as well.
    fn units(&self, place: &Place<'_>, given: Given<'_>) -> Result<Vec<String>, AwsError> {
        if !self.named(place, given, |set| Ok(set.is_service_managed()))? {
            return Ok(Vec::new());
        }
        let targets = Targets::read(given)?;
        Ok(if targets.is_whole() { targets.units } else { Vec::new() })
    }

    /// What a request is about: accounts, or units' accounts, times Regions.
    async fn targets(
        &self,
        place: &Place<'_>,
        given: Given<'_>,
        aws: &dyn Aws,
    ) -> Result<BTreeMap<Target, Option<String>>, AwsError> {
        let regions = regions(given)?;
        let service_managed = self.named(place, given, |set| Ok(set.is_service_managed()))?;
        let accounts: BTreeMap<String, Option<String>> = if service_managed {
            let targets = Targets::read(given)?;
            organisation::check_units(aws, &place.owner, place.region, &targets.units).await?;
            let paths = organisation::paths(aws, &place.owner, place.region).await?;
            targets.select(&paths).into_iter().map(|(account, unit)| (account, Some(unit))).collect()
        } else {
            let permissions = self.named(place, given, |set| Ok(set.content.permissions.clone()))?;
            if let Permissions::SelfManaged { administration_role, .. } = permissions {
                administrator(aws, &administration_role, &place.owner).await?;
            }
            let named = given.set("Accounts");
            let below = given.part("DeploymentTargets").map(|part| part.set("Accounts")).unwrap_or_default();
            if named.is_empty() == below.is_empty() {
                return Err(invalid("Give Accounts, or DeploymentTargets with Accounts, not both"));
            }
            let all: Vec<String> = named.into_iter().chain(below).collect();
            let is_account = |account: &str| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
            if let Some(wrong) = all.iter().find(|account| !is_account(account)) {
                return Err(invalid(format!("{wrong} is no account id")));
            }
            all.into_iter().map(|account| (account, None)).collect()
        };
        let pairs = accounts.into_iter().flat_map(|(account, unit)| {
            regions.iter().map(move |region| ((account.clone(), region.clone()), unit.clone())).collect::<Vec<_>>()
        });
        Ok(pairs.collect())
    }

    fn beginning(&self, given: Given<'_>, action: Action) -> Result<Beginning, AwsError> {
        Ok(Beginning {
            action,
            id: given.text("OperationId").map(str::to_owned),
            request: given.0.clone(),
            preferences: Preferences::read(given)?,
            deployment_targets: given.part("DeploymentTargets").map(|part| part.0.clone()),
            regions: given.list("Regions"),
            targets: BTreeMap::new(),
            patient: false,
        })
    }

    /// Begins an operation, after `prepare` has changed the stack set and said what the targets are.
    fn begin(
        &self,
        place: &Place<'_>,
        given: Given<'_>,
        mut beginning: Beginning,
        aws: &Arc<dyn Aws>,
        prepare: impl FnOnce(&mut StackSet, &mut Beginning) -> Result<(), AwsError>,
    ) -> Result<Value, AwsError> {
        let started = self.named(place, given, |set| {
            if let Some(known) = beginning.id.as_deref().and_then(|id| set.operation(id)) {
                if known.request == beginning.request {
                    return Ok((known.id.clone(), None));
                }
                let message = format!("The operation id {} already exists", known.id);
                return Err(conflict("OperationIdAlreadyExistsException", message));
            }
            if set.deleted {
                return Err(not_found(&set.name));
            }
            if set.is_busy() && !set.content.queues {
                return Err(busy(&set.name));
            }
            prepare(set, &mut beginning)?;
            let job = enqueue(set, beginning);
            Ok((job.operation.clone(), Some(job)))
        })?;
        let (id, job) = started;
        if let Some(job) = job {
            tokio::spawn(self.clone().run(job, Vec::new(), aws.clone()));
        }
        Ok(json!({ "OperationId": id }))
    }

    fn stop(&self, place: &Place<'_>, given: Given<'_>) -> Result<Value, AwsError> {
        let id = given.required("OperationId")?;
        self.named(place, given, |set| {
            let name = set.name.clone();
            let operation = set.operation_mut(id).ok_or_else(|| no_operation(id))?;
            if operation.ended.is_some() {
                let message =
                    format!("Operation {id} of stack set {name} has ended: it is {}", operation.stage.as_str());
                return Err(AwsError::new("InvalidOperationException", message));
            }
            operation.stage = Stage::Stopping;
            Ok(json!({}))
        })
    }

    fn list_sets(&self, place: &Place<'_>, given: Given<'_>) -> Result<Value, AwsError> {
        let wanted = given.text("Status");
        let sets = self.sets();
        let found = sets.iter().filter(|set| {
            set.owner == place.owner
                && set.region == place.region
                && (set.is_service_managed() || !place.delegated)
                && wanted.is_none_or(|status| status == set.state())
        });
        page(given, found.map(StackSet::summary).collect())
    }

    fn list_instances(&self, place: &Place<'_>, given: Given<'_>) -> Result<Value, AwsError> {
        let (account, region) = (given.text("StackInstanceAccount"), given.text("StackInstanceRegion"));
        let filters = filters(given);
        self.named(place, given, |set| {
            let found = set.instances.iter().filter(|(target, instance)| {
                account.is_none_or(|account| account == target.0)
                    && region.is_none_or(|region| region == target.1)
                    && filters.iter().all(|(name, values)| match name.as_str() {
                        "DETAILED_STATUS" => values.contains(instance.detailed()),
                        "LAST_OPERATION_ID" => values.contains(&instance.last_operation),
                        "DRIFT_STATUS" => values.contains("NOT_CHECKED"),
                        _ => true,
                    })
            });
            page(given, found.map(|(target, instance)| instance.told(set, target, false)).collect())
        })
    }

    fn describe_instance(&self, place: &Place<'_>, given: Given<'_>) -> Result<Value, AwsError> {
        let text = |name: &str| given.required(name).map(str::to_owned);
        let target = (text("StackInstanceAccount")?, text("StackInstanceRegion")?);
        self.named(place, given, |set| {
            let instance = set.instances.get(&target).ok_or_else(|| no_instance(&set.name, &target))?;
            Ok(json!({ "StackInstance": instance.told(set, &target, true) }))
        })
    }

    fn list_results(&self, place: &Place<'_>, given: Given<'_>) -> Result<Value, AwsError> {
        let id = given.required("OperationId")?;
        let filters = filters(given);
        self.named(place, given, |set| {
            let operation = set.operation(id).ok_or_else(|| no_operation(id))?;
            let found = operation
                .results
                .iter()
                .filter(|(_, outcome)| filters.iter().all(|(_, values)| values.contains(outcome.progress.as_str())));
            page(given, found.map(|(target, outcome)| outcome.told(target)).collect())
        })
    }
}

#[async_trait]
impl Service for StackSets {
    fn name(&self) -> &'static str {
        "cloudformation"
    }

    fn answers(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn resources(&self, request: &Request) -> Vec<String> {
        let given = Given(&request.body);
        let Some(name) = given.text("StackSetName").filter(|_| request.operation != "CreateStackSet") else {
            return Vec::new();
        };
        let delegated = given.text("CallAs") == Some("DELEGATED_ADMIN");
        let sets = self.sets();
        let found = sets.iter().rfind(|set| {
            let there = set.region == request.region && (set.id == name || set.name == name && !set.deleted);
            there && if delegated { set.is_service_managed() } else { set.owner == request.caller.account }
        });
        let unknown = || arn(&request.region, &request.caller.account, name);
        vec![found.map_or_else(unknown, |set| set.arn.clone())]
    }

    async fn handle(&self, request: Request, aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        let given = Given(&request.body);
        let place = self.place(&request, aws.as_ref()).await?;
        match request.operation.as_str() {
            "ActivateOrganizationsAccess" => self.activate(&place, aws.as_ref()).await,
            "DeactivateOrganizationsAccess" => {
                self.organisations.lock().await.remove(&place.owner);
                Ok(json!({}))
            }
            "DescribeOrganizationsAccess" => {
                let enabled = self.organisations.lock().await.contains_key(&place.owner);
                Ok(json!({ "Status": if enabled { "ENABLED" } else { "DISABLED" } }))
            }
            "CreateStackSet" => self.create_set(&place, given, aws.as_ref()).await,
            "UpdateStackSet" => self.update_set(&place, given, &aws).await,
            "DeleteStackSet" => self.delete_set(&place, given).await,
            "DescribeStackSet" => self.named(&place, given, |set| Ok(json!({ "StackSet": set.told() }))),
            "ListStackSets" => self.list_sets(&place, given),
            "CreateStackInstances" => self.create_instances(&place, given, &aws).await,
            "UpdateStackInstances" => self.update_instances(&place, given, &aws).await,
            "DeleteStackInstances" => self.delete_instances(&place, given, &aws).await,
            "ListStackInstances" => self.list_instances(&place, given),
            "DescribeStackInstance" => self.describe_instance(&place, given),
            "DescribeStackSetOperation" => {
                let id = given.required("OperationId")?;
                self.named(&place, given, |set| {
                    let operation = set.operation(id).ok_or_else(|| no_operation(id))?;
                    Ok(json!({ "StackSetOperation": operation.told(set) }))
                })
            }
            "ListStackSetOperations" => self.named(&place, given, |set| {
                page(given, set.operations.iter().rev().map(Operation::summary).collect())
            }),
            "ListStackSetOperationResults" => self.list_results(&place, given),
            "ListStackSetAutoDeploymentTargets" => self.named(&place, given, |set| {
                let told = |(unit, regions): (&String, &BTreeSet<String>)| json!({ "OrganizationalUnitId": unit, "Regions": regions });
                page(given, set.units.iter().map(told).collect())
            }),
            "StopStackSetOperation" => self.stop(&place, given),
            other => Err(AwsError::new("InvalidAction", format!("the lab's StackSets do not answer {other}"))),
        }
    }

    fn minds(&self, service: &str, operation: &str) -> bool {
        service == "organizations" && MOVES.contains(&operation)
            || self.direct.is_some() && service == "cloudformation" && direct::MAKES.contains(&operation)
    }

    fn happened(&self, account: &str, operation: &str, aws: Arc<dyn Aws>) {
        if direct::MAKES.contains(&operation) {
            tokio::spawn(self.clone().complete(account.to_owned(), aws));
        } else {
            tokio::spawn(self.clone().follow(aws));
        }
    }
}

/// Writes an operation down; somebody has to run the job.
fn enqueue(set: &mut StackSet, beginning: Beginning) -> Job {
    let id = beginning.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let outcome = |unit: Option<String>| Outcome { progress: Progress::Pending, reason: None, unit };
    for target in beginning.targets.keys() {
        if let Some(instance) = set.instances.get_mut(target) {
            instance.progress = Progress::Pending;
            instance.last_operation.clone_from(&id);
        }
    }
    let waits = set.is_busy() || beginning.patient;
    set.operations.push(Operation {
        id: id.clone(),
        request: beginning.request,
        action: beginning.action,
        stage: if waits { Stage::Queued } else { Stage::Running },
        preferences: beginning.preferences,
        deployment_targets: beginning.deployment_targets,
        created: Timestamp::now(),
        ended: None,
        reason: None,
        regions: beginning.regions,
        results: beginning.targets.into_iter().map(|(target, unit)| (target, outcome(unit))).collect(),
        done: watch::Sender::new(None),
    });
    Job { set: set.id.clone(), operation: id }
}

fn new_instance(set: &str) -> Instance {
    // A stack's name is at most 128 characters long.
    let short: String = set.chars().take(80).collect();
    Instance {
        unit: None,
        overrides: BTreeMap::new(),
        stack_name: format!("StackSet-{short}-{}", uuid::Uuid::new_v4()),
        stack_id: None,
        status: Status::Outdated,
        progress: Progress::Pending,
        reason: None,
        last_operation: String::new(),
        applied: None,
    }
}

/// Refuses targets that have no instance.
fn existing(
    set: &StackSet,
    targets: BTreeMap<Target, Option<String>>,
) -> Result<BTreeMap<Target, Option<String>>, AwsError> {
    // A unit's account that came without automatic deployment has none, and that is no fault of the request.
    if set.is_service_managed() {
        return Ok(targets.into_iter().filter(|(target, _)| set.instances.contains_key(target)).collect());
    }
    match targets.keys().find(|target| !set.instances.contains_key(*target)) {
        Some(missing) => Err(no_instance(&set.name, missing)),
        None => Ok(targets),
    }
}

fn values(overrides: &BTreeMap<String, Parameter>) -> BTreeMap<String, String> {
    let given = overrides.iter().filter_map(|(name, parameter)| match parameter {
        Parameter::Value(value) => Some((name.clone(), value.clone())),
        Parameter::Previous => None,
    });
    given.collect()
}

fn regions(given: Given<'_>) -> Result<Vec<String>, AwsError> {
    let regions = given.list("Regions");
    if regions.is_empty() {
        return Err(invalid("Regions is required"));
    }
    match regions.iter().find(|region| Region::from_str(region).is_err()) {
        Some(wrong) => Err(invalid(format!("{wrong} is no Region"))),
        None => Ok(regions),
    }
}

/// A list's filters: name and values.
fn filters(given: Given<'_>) -> Vec<(String, BTreeSet<String>)> {
    let filters = given.0.get("Filters").and_then(Value::as_array).into_iter().flatten().map(Given);
    filters
        .map(|filter| {
            let values = filter.text("Values").unwrap_or_default();
            (filter.text("Name").unwrap_or_default().to_owned(), values.split(',').map(str::to_owned).collect())
        })
        .collect()
}

/// One page of a list of summaries.
fn page(given: Given<'_>, all: Vec<Value>) -> Result<Value, AwsError> {
    let most = given.number("MaxResults")?.unwrap_or(100).clamp(1, 100);
    let start = given.number("NextToken").map_err(|_| invalid("NextToken is not valid"))?.unwrap_or(0);
    let end = start + most;
    let mut answer = json!({ "Summaries": all.get(start..end.min(all.len())).unwrap_or_default() });
    if end < all.len() {
        answer["NextToken"] = end.to_string().into();
    }
    Ok(answer)
}

/// A session of the administration role, if it lets CloudFormation in.
async fn administrator(aws: &dyn Aws, role: &str, owner: &str) -> Result<Credentials, AwsError> {
    aws.session(role, "AWSCloudFormation", "cloudformation.amazonaws.com").await.map_err(|_| {
        let name = role.rsplit('/').next().unwrap_or_default();
        invalid(format!("Account {owner} should have '{name}' role with trust relationship to CloudFormation service."))
    })
}

fn partition(region: &str) -> &'static str {
    Region::from_str(region).map_or(Partition::Aws, |region| Partition::of_region(&region)).as_str()
}

fn arn(region: &str, account: &str, id: &str) -> String {
    format!("arn:{}:cloudformation:{region}:{account}:stackset/{id}", partition(region))
}

fn conflict(code: &str, message: String) -> AwsError {
    AwsError { status: 409, ..AwsError::new(code, message) }
}

fn busy(name: &str) -> AwsError {
    conflict("OperationInProgressException", format!("Another operation on stack set {name} is in progress"))
}

fn not_found(name: &str) -> AwsError {
    AwsError { status: 404, ..AwsError::new("StackSetNotFoundException", format!("StackSet {name} not found")) }
}

fn no_operation(id: &str) -> AwsError {
    AwsError { status: 404, ..AwsError::new("OperationNotFoundException", format!("Operation {id} not found")) }
}

fn no_instance(set: &str, (account, region): &Target) -> AwsError {
    let message = format!("Stack instance not found for StackSet {set}, account {account}, region {region}");
    AwsError { status: 404, ..AwsError::new("StackInstanceNotFoundException", message) }
}
