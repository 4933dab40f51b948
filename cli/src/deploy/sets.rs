//! Stack sets: made, given to accounts and taken from them, and waited for.
//!
//! A set's description ends in the digest of what it was made of. One operation at a time: who finds another one at
//! work waits for it, so that a deployment that was cut off is taken up where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{
    AutoDeployment, CallAs, Capability, ConcurrencyMode, DeploymentTargets, OrganizationStatus, PermissionModels,
    RegionConcurrencyType, StackInstanceStatus, StackSetOperationPreferences, StackSetOperationStatus, StackSetStatus,
};
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::{AccountId, Region};
use serde::Serialize;

use super::accounts::Wave;
use super::blueprint::Set;
use super::remains;
use super::settings::{Permissions, Settings, UnitId};
use super::stacks;
use crate::problem::Problem;

/// A wave of many accounts may take hours.
const PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A stack set as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) arn: String,
    /// What stands before the digest in its description.
    pub(crate) version: String,
    pub(crate) digest: String,
    /// The set's own. What one account has instead is an override of its instance, which no update of the set touches.
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) instances: BTreeMap<(AccountId, Region), Instance>,
}

/// A stack of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Instance {
    /// `CURRENT`, `OUTDATED`, `INOPERABLE`.
    pub(crate) status: String,
    /// `SUCCEEDED`, `FAILED`, and so on.
    pub(crate) detail: String,
    pub(crate) reason: Option<String>,
    pub(crate) unit: Option<String>,
}

impl Instance {
    pub(crate) fn is_current(&self) -> bool {
        self.status == StackInstanceStatus::Current.as_str()
    }
}

/// What a wave needs of a set. Pure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Need {
    /// The set is not there.
    pub(crate) create: bool,
    /// Its content is another.
    pub(crate) update: bool,
    /// Instances that are there, and not current or about to be outdated.
    pub(crate) outdated: BTreeSet<(AccountId, Region)>,
    /// Instances that are not there.
    pub(crate) missing: BTreeSet<(AccountId, Region)>,
}

impl Need {
    /// What `wave` needs.
    pub(crate) fn of(set: &Set, wave: &Wave, found: Option<&Found>) -> Self {
        let pairs = wave
            .accounts
            .iter()
            .flat_map(|account| set.regions.iter().map(move |region| (account.clone(), region.clone())));
        let Some(found) = found else { return Self { create: true, missing: pairs.collect(), ..Self::default() } };
        let update = found.digest != set.digest;
        let mut need = Self { update, ..Self::default() };
        for pair in pairs {
            match found.instances.get(&pair) {
                None => drop(need.missing.insert(pair)),
                Some(instance) if update || !instance.is_current() => drop(need.outdated.insert(pair)),
                Some(_) => {}
            }
        }
        need
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// How careful an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nobody may fail.
    Pilot,
    /// A quarter of the accounts at a time.
    Everyone,
}

/// CloudFormation's stack sets in the home Region.
#[derive(Debug, Clone)]
pub(crate) struct Sets {
    client: Client,
    call_as: CallAs,
    settings: Settings,
}

impl Sets {
    pub(crate) fn new(config: &aws_types::SdkConfig, settings: &Settings, is_management: bool) -> Self {
        let own = is_management || settings.permissions == Permissions::SelfManaged;
        let call_as = if own { CallAs::SelfValue } else { CallAs::DelegatedAdmin };
        Self { client: Client::new(config), call_as, settings: settings.clone() }
    }

    /// Whether the organisation lets StackSets in.
    pub(crate) async fn is_trusted(&self) -> Result<bool, Problem> {
        let described = self.client.describe_organizations_access().call_as(self.call_as.clone()).send().await;
        let described = described.map_err(|error| {
            Problem::aws(
                "ask whether StackSets are let in",
                &AwsFailure::of("cloudformation:DescribeOrganizationsAccess", &error),
            )
        })?;
        Ok(described.status() == Some(&OrganizationStatus::Enabled))
    }

    /// Lets StackSets into the organisation.
    pub(crate) async fn activate(&self) -> Result<(), Problem> {
        self.client.activate_organizations_access().send().await.map_err(|error| {
            Problem::aws(
                "let StackSets into the organisation",
                &AwsFailure::of("cloudformation:ActivateOrganizationsAccess", &error),
            )
        })?;
        Ok(())
    }

    /// A set and its instances, if there is one.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Found>, Problem> {
        let failed = |failure: AwsFailure| Problem::aws(&format!("look at stack set {name}"), &failure);
        let described =
            self.client.describe_stack_set().stack_set_name(name).call_as(self.call_as.clone()).send().await;
        let described = match described {
            Ok(described) => described,
            Err(error) => {
                let failure = AwsFailure::of("cloudformation:DescribeStackSet", &error);
                return match failure.code() {
                    Some("StackSetNotFoundException") => Ok(None),
                    _ => Err(failed(failure)),
                };
            }
        };
        let Some(set) = described.stack_set().filter(|set| set.status() != Some(&StackSetStatus::Deleted)) else {
            return Ok(None);
        };
        let (version, digest) = read_description(set.description().unwrap_or_default());
        let arn = set.stack_set_arn().unwrap_or_default().to_owned();
        let parameters = stacks::values(set.parameters());
        let mut found = Found { arn, version, digest, parameters, instances: BTreeMap::new() };
        let pages = self.client.list_stack_instances().stack_set_name(name).call_as(self.call_as.clone());
        let mut pages = pages.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(AwsFailure::of("cloudformation:ListStackInstances", &error)))?;
            for one in page.summaries() {
                let place = (one.account().unwrap_or_default().parse(), one.region().unwrap_or_default().parse());
                let (Ok(account), Ok(region)) = place else { continue };
                let detail = one.stack_instance_status().and_then(|status| status.detailed_status());
                let instance = Instance {
                    status: one.status().map_or_else(String::new, |status| status.as_str().to_owned()),
                    detail: detail.map_or_else(String::new, |status| status.as_str().to_owned()),
                    reason: one.status_reason().map(str::to_owned),
                    unit: one.organizational_unit_id().map(str::to_owned),
                };
                found.instances.insert((account, region), instance);
            }
        }
        Ok(Some(found))
    }

    /// Makes a set; no account has it yet.
    pub(crate) async fn create(&self, set: &Set, version: &str, after: Option<&str>) -> Result<(), Problem> {
        let create = self
            .client
            .create_stack_set()
            .stack_set_name(&set.name)
            .description(description(version, &set.digest))
            .template_url(&set.url)
            .set_parameters(Some(stacks::parameters(&set.parameters, [])))
            .capabilities(Capability::CapabilityNamedIam)
            .call_as(self.call_as.clone());
        let create = match self.settings.permissions {
            Permissions::ServiceManaged => {
                create.permission_model(PermissionModels::ServiceManaged).auto_deployment(automatic(after))
            }
            Permissions::SelfManaged => create
                .permission_model(PermissionModels::SelfManaged)
                .set_administration_role_arn(self.settings.administration_role.clone())
                .set_execution_role_name(self.settings.execution_role.clone()),
        };
        create.send().await.map_err(|error| {
            Problem::aws(
                &format!("make stack set {}", set.name),
                &AwsFailure::of("cloudformation:CreateStackSet", &error),
            )
        })?;
        Ok(())
    }

    /// Gives a set its content, and the instances of a wave with it. The other instances are outdated until their turn.
    /// What it has `deployed` of parameters that the settings say nothing of, it keeps.
    pub(crate) async fn update(
        &self,
        set: &Set,
        version: &str,
        after: Option<&str>,
        wave: &Wave,
        content: bool,
        deployed: &BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        let update = self
            .client
            .update_stack_set()
            .stack_set_name(&set.name)
            .description(description(version, &set.digest))
            .capabilities(Capability::CapabilityNamedIam)
            .operation_preferences(preferences(pace(wave)))
            .set_regions(Some(texts(&set.regions)))
            .call_as(self.call_as.clone());
        let update = if content {
            let parameters = stacks::parameters(&set.parameters, set.keeps(deployed));
            update.template_url(&set.url).set_parameters(Some(parameters))
        } else {
            let all = set.parameters.keys().map(String::as_str).chain(set.keeps(deployed));
            update.use_previous_template(true).set_parameters(Some(stacks::parameters(&BTreeMap::new(), all)))
        };
        let update = match self.settings.permissions {
            Permissions::ServiceManaged => {
                update.auto_deployment(automatic(after)).deployment_targets(units(&wave.units))
            }
            Permissions::SelfManaged => update.set_accounts(Some(texts(&wave.accounts))),
        };
        let started = update.send().await.map_err(|error| {
            Problem::aws(
                &format!("update stack set {}", set.name),
                &AwsFailure::of("cloudformation:UpdateStackSet", &error),
            )
        })?;
        self.ended(&set.name, started.operation_id().unwrap_or_default()).await
    }

    /// Gives the set to a wave's accounts that do not have it.
    pub(crate) async fn spread(&self, set: &Set, wave: &Wave) -> Result<(), Problem> {
        let create = self
            .client
            .create_stack_instances()
            .stack_set_name(&set.name)
            .operation_preferences(preferences(pace(wave)))
            .set_regions(Some(texts(&set.regions)))
            .call_as(self.call_as.clone());
        let create = match self.settings.permissions {
            Permissions::ServiceManaged => create.deployment_targets(units(&wave.units)),
            Permissions::SelfManaged => create.set_accounts(Some(texts(&wave.accounts))),
        };
        let started = create.send().await.map_err(|error| {
            let failure = AwsFailure::of("cloudformation:CreateStackInstances", &error);
            Problem::aws(&format!("deploy stack set {} to {}", set.name, wave.name), &failure)
        })?;
        self.ended(&set.name, started.operation_id().unwrap_or_default()).await
    }

    /// Takes a set from all accounts, and deletes it.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, Problem> {
        self.idle(name).await?;
        let Some(found) = self.find(name).await? else { return Ok(false) };
        if !found.instances.is_empty() {
            let regions: BTreeSet<&Region> = found.instances.keys().map(|(_, region)| region).collect();
            let accounts: BTreeSet<&AccountId> = found.instances.keys().map(|(account, _)| account).collect();
            let named: BTreeSet<String> = found.instances.values().filter_map(|one| one.unit.clone()).collect();
            let delete = self
                .client
                .delete_stack_instances()
                .stack_set_name(name)
                .retain_stacks(false)
                .operation_preferences(preferences(Pace::Everyone))
                .set_regions(Some(texts(regions)))
                .call_as(self.call_as.clone());
            let delete = match self.settings.permissions {
                Permissions::ServiceManaged => delete.deployment_targets(
                    DeploymentTargets::builder().set_organizational_unit_ids(Some(named.into_iter().collect())).build(),
                ),
                Permissions::SelfManaged => delete.set_accounts(Some(texts(accounts))),
            };
            let started = delete.send().await.map_err(|error| {
                let failure = AwsFailure::of("cloudformation:DeleteStackInstances", &error);
                Problem::aws(&format!("take stack set {name} from the accounts"), &failure)
            })?;
            self.ended(name, started.operation_id().unwrap_or_default()).await?;
        }
        let deleted = self.client.delete_stack_set().stack_set_name(name).call_as(self.call_as.clone()).send().await;
        deleted.map_err(|error| {
            Problem::aws(&format!("delete stack set {name}"), &AwsFailure::of("cloudformation:DeleteStackSet", &error))
        })?;
        Ok(true)
    }

    /// Waits until no operation is at work on a set, whoever began it.
    pub(crate) async fn idle(&self, name: &str) -> Result<(), Problem> {
        let listed =
            self.client.list_stack_set_operations().stack_set_name(name).call_as(self.call_as.clone()).send().await;
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let failure = AwsFailure::of("cloudformation:ListStackSetOperations", &error);
                return match failure.code() {
                    Some("StackSetNotFoundException") => Ok(()),
                    _ => Err(Problem::aws(&format!("look at stack set {name}"), &failure)),
                };
            }
        };
        for one in listed.summaries() {
            let at_work = one.status().is_some_and(|status| !is_ended(status));
            if let (true, Some(id)) = (at_work, one.operation_id()) {
                // How it ended is seen in its instances.
                self.awaited(name, id).await?;
            }
        }
        Ok(())
    }

    /// Waits for the end of an operation; what failed is told for each account and Region.
    async fn ended(&self, name: &str, id: &str) -> Result<(), Problem> {
        let status = self.awaited(name, id).await?;
        if status == StackSetOperationStatus::Succeeded {
            return Ok(());
        }
        let results = self
            .client
            .list_stack_set_operation_results()
            .stack_set_name(name)
            .operation_id(id)
            .call_as(self.call_as.clone())
            .send()
            .await;
        let reasons: Vec<String> = results.map_or_else(
            |_| Vec::new(),
            |results| {
                let failed = results
                    .summaries()
                    .iter()
                    .filter(|one| one.status().is_some_and(|status| status.as_str() == "FAILED"));
                let told = failed.map(|one| {
                    format!(
                        "  {} {}: {}",
                        one.account().unwrap_or_default(),
                        one.region().unwrap_or_default(),
                        one.status_reason().unwrap_or("no reason is given")
                    )
                });
                told.take(10).collect()
            },
        );
        let reasons = reasons.join("\n");
        Err(Problem::failed(format!("stack set {name}: operation {id} ended as {}\n{reasons}", status.as_str()))
            .help(remains::hint(&reasons)))
    }

    async fn awaited(&self, name: &str, id: &str) -> Result<StackSetOperationStatus, Problem> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let described = self
                .client
                .describe_stack_set_operation()
                .stack_set_name(name)
                .operation_id(id)
                .call_as(self.call_as.clone())
                .send()
                .await
                .map_err(|error| {
                    let failure = AwsFailure::of("cloudformation:DescribeStackSetOperation", &error);
                    Problem::aws(&format!("look at operation {id} of stack set {name}"), &failure)
                })?;
            let status = described.stack_set_operation().and_then(|one| one.status()).cloned();
            match status {
                Some(status) if is_ended(&status) => return Ok(status),
                _ if begun.elapsed() > PATIENCE => {
                    return Err(Problem::timed_out(format!(
                        "operation {id} of stack set {name} has not ended in six hours"
                    ))
                    .help("look at it in CloudFormation; `redress deploy apply` goes on when it has ended"));
                }
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }
}

fn is_ended(status: &StackSetOperationStatus) -> bool {
    use StackSetOperationStatus::{Failed, Stopped, Succeeded};
    matches!(status, Succeeded | Failed | Stopped)
}

fn pace(wave: &Wave) -> Pace {
    if wave.name == "pilot" { Pace::Pilot } else { Pace::Everyone }
}

fn preferences(pace: Pace) -> StackSetOperationPreferences {
    let preferences = StackSetOperationPreferences::builder().region_concurrency_type(RegionConcurrencyType::Parallel);
    match pace {
        Pace::Pilot => preferences.max_concurrent_percentage(100).failure_tolerance_count(0),
        Pace::Everyone => preferences.max_concurrent_percentage(25).failure_tolerance_percentage(5),
    }
    .concurrency_mode(ConcurrencyMode::SoftFailureTolerance)
    .build()
}

/// An account that joins gets a set after the one before it; one that leaves loses its stacks, and keeps its evidence.
fn automatic(after: Option<&str>) -> AutoDeployment {
    let auto = AutoDeployment::builder().enabled(true).retain_stacks_on_account_removal(false);
    after.map_or(auto.clone(), |arn| auto.depends_on(arn)).build()
}

fn units(units: &[UnitId]) -> DeploymentTargets {
    DeploymentTargets::builder().set_organizational_unit_ids(Some(texts(units))).build()
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

/// `Redress 0.1.0 (content 0123456789abcdef)`.
fn description(version: &str, digest: &str) -> String {
    format!("Redress {version} (content {digest})")
}

fn read_description(text: &str) -> (String, String) {
    let read = text.strip_prefix("Redress ").and_then(|rest| rest.split_once(" (content "));
    read.map_or_else(Default::default, |(version, digest)| {
        (version.to_owned(), digest.trim_end_matches(')').to_owned())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::deploy::blueprint::Kind;

    fn set() -> Set {
        Set {
            name: "redress-documents-1".to_owned(),
            kind: Kind::Documents,
            url: String::new(),
            parameters: BTreeMap::new(),
            declared: BTreeMap::new(),
            regions: vec!["us-east-1".parse().unwrap(), "eu-west-1".parse().unwrap()],
            after: None,
            digest: "new".to_owned(),
        }
    }

    fn wave(accounts: &[&str]) -> Wave {
        Wave { name: "pilot", units: Vec::new(), accounts: accounts.iter().map(|id| id.parse().unwrap()).collect() }
    }

    fn found(digest: &str, instances: &[(&str, &str, &str)]) -> Found {
        let instance =
            |status: &str| Instance { status: status.to_owned(), detail: String::new(), reason: None, unit: None };
        let instances = instances
            .iter()
            .map(|(account, region, status)| ((account.parse().unwrap(), region.parse().unwrap()), instance(status)));
        Found { digest: digest.to_owned(), instances: instances.collect(), ..Found::default() }
    }

    const ALL: [(&str, &str, &str); 2] =
        [("222222222222", "us-east-1", "CURRENT"), ("222222222222", "eu-west-1", "CURRENT")];

    #[test]
    fn where_all_is_there_nothing_is_needed() {
        assert!(Need::of(&set(), &wave(&["222222222222"]), Some(&found("new", &ALL))).is_nothing());
    }

    #[test]
    fn what_is_missing_outdated_or_of_another_release_is_needed_in_that_wave_only() {
        let one = wave(&["222222222222"]);
        let none = Need::of(&set(), &one, None);
        assert!(none.create && none.missing.len() == 2);
        let old = Need::of(&set(), &one, Some(&found("old", &ALL)));
        assert!(old.update && old.outdated.len() == 2 && old.missing.is_empty());
        let half = [ALL[0], ("222222222222", "eu-west-1", "OUTDATED")];
        let half = Need::of(&set(), &one, Some(&found("new", &half)));
        assert_eq!((half.update, half.outdated.len(), half.missing.len()), (false, 1, 0));
        let more = Need::of(&set(), &wave(&["222222222222", "333333333333"]), Some(&found("new", &ALL)));
        assert_eq!((more.outdated.len(), more.missing.len()), (0, 2));
    }

    #[test]
    fn a_description_tells_its_version_and_digest() {
        assert_eq!(read_description(&description("0.1.0", "abc")), ("0.1.0".to_owned(), "abc".to_owned()));
        assert_eq!(read_description("somebody's own"), (String::new(), String::new()));
    }
}
