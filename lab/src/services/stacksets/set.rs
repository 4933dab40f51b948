//! A stack set, its instances and its operations, and how the API tells of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::preferences::Preferences;
use crate::organisation::Source;
use crate::stack::Wanted;

/// An instance's account and Region.
pub(super) type Target = (String, String);

/// Who deploys the stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permissions {
    /// CloudFormation assumes the first, which assumes the one of the second's name in each account.
    SelfManaged { administration_role: String, execution_role: String },
    /// The organisation lets CloudFormation in.
    ServiceManaged,
}

/// What becomes of accounts that come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AutoDeployment {
    pub(super) enabled: bool,
    pub(super) retain: bool,
    /// ARNs of the stack sets that go first.
    pub(super) depends_on: BTreeSet<String>,
}

/// What a stack set makes stacks of.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) description: Option<String>,
    pub(super) source: Arc<Source>,
    pub(super) template_url: Option<String>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) capabilities: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) permissions: Permissions,
    pub(super) auto: AutoDeployment,
    /// `ManagedExecution`: an operation that comes while another runs waits instead of being refused.
    pub(super) queues: bool,
}

/// A stack set.
#[derive(Debug)]
pub(super) struct StackSet {
    /// The account that it is in: the management account of the organisation, when the permissions are service-managed.
    pub(super) owner: String,
    pub(super) region: String,
    pub(super) name: String,
    /// `<name>:<uuid>`.
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) token: Option<String>,
    pub(super) deleted: bool,
    pub(super) content: Content,
    pub(super) instances: BTreeMap<Target, Instance>,
    pub(super) operations: Vec<Operation>,
    /// The units whose accounts it is for, and the Regions there.
    pub(super) units: BTreeMap<String, BTreeSet<String>>,
    /// Held by the operation that runs.
    pub(super) turn: Arc<Mutex<()>>,
}

/// `CURRENT` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Current,
    Outdated,
    /// Its stack could not be deleted: only another deletion is tried.
    Inoperable,
}

/// Of an instance, and of a target of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// A stack in an account and Region, or one that shall be there.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) unit: Option<String>,
    pub(super) overrides: BTreeMap<String, String>,
    pub(super) stack_name: String,
    pub(super) stack_id: Option<String>,
    pub(super) status: Status,
    pub(super) progress: Progress,
    pub(super) reason: Option<String>,
    pub(super) last_operation: String,
    /// What the stack was made of last.
    pub(super) applied: Option<Wanted>,
}

/// What an operation does with its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Update,
    Delete { retain: bool },
}

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    Running,
    Stopping,
    Stopped,
    Succeeded,
    Failed,
}

/// What came of one target.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) progress: Progress,
    pub(super) reason: Option<String>,
    pub(super) unit: Option<String>,
}

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) id: String,
    /// The request that began it; the same again begins nothing.
    pub(super) request: Value,
    pub(super) action: Action,
    pub(super) stage: Stage,
    pub(super) preferences: Preferences,
    pub(super) deployment_targets: Option<Value>,
    pub(super) created: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) reason: Option<String>,
    /// In the order of the request.
    pub(super) regions: Vec<String>,
    pub(super) results: BTreeMap<Target, Outcome>,
    /// Says its end.
    pub(super) done: watch::Sender<Option<Stage>>,
}

impl StackSet {
    pub(super) fn is_service_managed(&self) -> bool {
        self.content.permissions == Permissions::ServiceManaged
    }

    pub(super) fn operation(&self, id: &str) -> Option<&Operation> {
        self.operations.iter().find(|one| one.id == id)
    }

    pub(super) fn operation_mut(&mut self, id: &str) -> Option<&mut Operation> {
        self.operations.iter_mut().find(|one| one.id == id)
    }

    /// Whether an operation has not ended.
    pub(super) fn is_busy(&self) -> bool {
        self.operations.iter().any(|one| one.ended.is_none())
    }

    /// What the stack of an instance shall be.
    pub(super) fn wanted(&self, instance: &Instance) -> Wanted {
        let Content { source, template_url, capabilities, tags, .. } = &self.content;
        let mut parameters = self.content.parameters.clone();
        parameters.extend(instance.overrides.clone());
        Wanted {
            name: instance.stack_name.clone(),
            source: source.clone(),
            template_url: template_url.clone(),
            parameters,
            capabilities: capabilities.clone(),
            tags: tags.clone(),
        }
    }

    /// `DescribeStackSet`.
    pub(super) fn told(&self) -> Value {
        let Content { description, source, parameters, capabilities, tags, permissions, queues, .. } = &self.content;
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
        let regions: BTreeSet<&String> = self.instances.keys().map(|(_, region)| region).collect();
        let mut told = json!({
            "StackSetName": self.name, "StackSetId": self.id, "StackSetARN": self.arn, "Description": description,
            "Status": self.state(), "TemplateBody": source.text, "Parameters": parameters_told(parameters),
            "Capabilities": capabilities, "Tags": tags, "PermissionModel": self.permission_model(),
            "ManagedExecution": { "Active": queues }, "Regions": regions,
            "StackSetDriftDetectionDetails": { "DriftStatus": "NOT_CHECKED", "TotalStackInstancesCount": self.instances.len() },
        });
        match permissions {
            Permissions::SelfManaged { administration_role, execution_role } => {
                told["AdministrationRoleARN"] = administration_role.as_str().into();
                told["ExecutionRoleName"] = execution_role.as_str().into();
            }
            Permissions::ServiceManaged => {
                told["AutoDeployment"] = self.content.auto.told();
                told["OrganizationalUnitIds"] = self.units.keys().cloned().collect();
            }
        }
        told
    }

    /// One of `ListStackSets`.
    pub(super) fn summary(&self) -> Value {
        let mut told = json!({
            "StackSetName": self.name, "StackSetId": self.id, "Description": self.content.description,
            "Status": self.state(), "PermissionModel": self.permission_model(), "DriftStatus": "NOT_CHECKED",
            "ManagedExecution": { "Active": self.content.queues },
        });
        if self.is_service_managed() {
            told["AutoDeployment"] = self.content.auto.told();
        }
        told
    }

    pub(super) const fn state(&self) -> &'static str {
        if self.deleted { "DELETED" } else { "ACTIVE" }
    }

    fn permission_model(&self) -> &'static str {
        if self.is_service_managed() { "SERVICE_MANAGED" } else { "SELF_MANAGED" }
    }
}

impl AutoDeployment {
    fn told(&self) -> Value {
        match self.enabled {
            true => {
                json!({ "Enabled": true, "RetainStacksOnAccountRemoval": self.retain, "DependsOn": self.depends_on })
            }
            false => json!({ "Enabled": false }),
        }
    }
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "CURRENT",
            Self::Outdated => "OUTDATED",
            Self::Inoperable => "INOPERABLE",
        }
    }
}

impl Progress {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl Stage {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete { .. } => "DELETE",
        }
    }
}

impl Instance {
    pub(super) const fn detailed(&self) -> &'static str {
        match self.status {
            Status::Inoperable => "INOPERABLE",
            Status::Current | Status::Outdated => self.progress.as_str(),
        }
    }

    /// One of `ListStackInstances`; `DescribeStackInstance` has the overrides, too.
    pub(super) fn told(&self, set: &StackSet, (account, region): &Target, whole: bool) -> Value {
        let mut told = json!({
            "StackSetId": set.id, "Account": account, "Region": region, "StackId": self.stack_id,
            "Status": self.status.as_str(), "StackInstanceStatus": { "DetailedStatus": self.detailed() },
            "StatusReason": self.reason, "OrganizationalUnitId": self.unit, "DriftStatus": "NOT_CHECKED",
            "LastOperationId": self.last_operation,
        });
        if whole {
            told["ParameterOverrides"] = parameters_told(&self.overrides);
        }
        told
    }
}

impl Operation {
    /// One of `ListStackSetOperations`.
    pub(super) fn summary(&self) -> Value {
        let failed = self.results.values().filter(|one| one.progress == Progress::Failed).count();
        json!({
            "OperationId": self.id, "Action": self.action.as_str(), "Status": self.stage.as_str(),
            "CreationTimestamp": self.created.to_string(), "EndTimestamp": self.ended.map(|at| at.to_string()),
            "StatusReason": self.reason, "StatusDetails": { "FailedStackInstancesCount": failed },
            "OperationPreferences": self.preferences.told(),
        })
    }

    /// `DescribeStackSetOperation`.
    pub(super) fn told(&self, set: &StackSet) -> Value {
        let mut told = self.summary();
        told["StackSetId"] = set.id.as_str().into();
        told["DeploymentTargets"] = self.deployment_targets.clone().unwrap_or_default();
        if let Action::Delete { retain } = self.action {
            told["RetainStacks"] = retain.into();
        }
        if let Permissions::SelfManaged { administration_role, execution_role } = &set.content.permissions {
            told["AdministrationRoleARN"] = administration_role.as_str().into();
            told["ExecutionRoleName"] = execution_role.as_str().into();
        }
        told
    }
}

impl Outcome {
    /// One of `ListStackSetOperationResults`.
    pub(super) fn told(&self, (account, region): &Target) -> Value {
        json!({
            "Account": account, "Region": region, "Status": self.progress.as_str(), "StatusReason": self.reason,
            "OrganizationalUnitId": self.unit, "AccountGateResult": { "Status": "SKIPPED" },
        })
    }
}

fn parameters_told(parameters: &BTreeMap<String, String>) -> Value {
    parameters.iter().map(|(key, value)| json!({ "ParameterKey": key, "ParameterValue": value })).collect()
}
