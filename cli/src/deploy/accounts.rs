//! Who is in the organisation's units: the accounts of each wave. Reads Organizations, changes nothing there but the
//! trusted access that service-managed stack sets need.

use std::collections::BTreeSet;

use aws_sdk_organizations::Client;
use aws_sdk_organizations::types::AccountState;
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::AccountId;
use serde::Serialize;

use super::settings::{Permissions, Settings, UnitId};
use crate::problem::Problem;

/// What StackSets is to Organizations.
const STACKSETS: &str = "member.org.stacksets.cloudformation.amazonaws.com";

/// The organisation, as the caller sees it.
#[derive(Debug, Clone)]
pub(crate) struct Organisation {
    /// Whether the administrator account is the management account.
    pub(crate) is_management: bool,
    pub(crate) waves: Vec<Wave>,
}

/// Accounts that get something together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Wave {
    pub(crate) name: &'static str,
    pub(crate) units: Vec<UnitId>,
    pub(crate) accounts: BTreeSet<AccountId>,
}

/// Reads who is where.
pub(crate) async fn organisation(config: &aws_types::SdkConfig, settings: &Settings) -> Result<Organisation, Problem> {
    let client = Client::new(config);
    let described = client.describe_organization().send().await.map_err(|error| {
        Problem::aws("read the organisation", &AwsFailure::of("organizations:DescribeOrganization", &error))
    })?;
    let organisation = described.organization();
    let id = organisation.and_then(|one| one.id()).unwrap_or_default();
    if id != settings.organization {
        return Err(Problem::refused(format!(
            "the caller is in organisation {id}, and the settings say {}",
            settings.organization
        ))
        .help("log in to the administrator account of the right organisation, or mend `organization`"));
    }
    let management = organisation.and_then(|one| one.master_account_id()).unwrap_or_default().to_owned();
    let mut waves = Vec::new();
    let mut seen = BTreeSet::new();
    if let Some(pilot) = &settings.pilot_unit {
        let units = vec![pilot.clone()];
        let accounts = below(&client, &units, &management).await?;
        seen.clone_from(&accounts);
        waves.push(Wave { name: "pilot", units, accounts });
    }
    let units = settings.target_units.clone();
    let accounts = below(&client, &units, &management).await?.difference(&seen).cloned().collect();
    waves.push(Wave { name: "everyone", units, accounts });
    if waves.iter().all(|wave| wave.accounts.is_empty()) {
        return Err(Problem::failed("there is no active account below the units of the settings")
            .help("the management account does not count: stack sets never deploy there; look at target_units"));
    }
    Ok(Organisation { is_management: management == settings.administrator.as_str(), waves })
}

/// The active accounts below units, without the management account.
async fn below(client: &Client, units: &[UnitId], management: &str) -> Result<BTreeSet<AccountId>, Problem> {
    let failed = |operation, unit: &str, error: &dyn std::error::Error| {
        Problem::aws(&format!("read the accounts of {unit} ({operation})"), error)
    };
    let mut found = BTreeSet::new();
    let mut waiting: Vec<String> = units.iter().map(ToString::to_string).collect();
    while let Some(unit) = waiting.pop() {
        let mut pages = client.list_accounts_for_parent().parent_id(&unit).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                failed("ListAccountsForParent", &unit, &AwsFailure::of("ListAccountsForParent", &error))
            })?;
            let active =
                page.accounts().iter().filter(|one| one.state().is_none_or(|state| *state == AccountState::Active));
            let ids = active.filter_map(|one| one.id()).filter(|id| *id != management);
            for id in ids {
                found.insert(id.parse().map_err(|error| Problem::aws("read an account's id", &error))?);
            }
        }
        let mut pages = client.list_organizational_units_for_parent().parent_id(&unit).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                failed(
                    "ListOrganizationalUnitsForParent",
                    &unit,
                    &AwsFailure::of("ListOrganizationalUnitsForParent", &error),
                )
            })?;
            waiting.extend(page.organizational_units().iter().filter_map(|one| one.id()).map(str::to_owned));
        }
    }
    Ok(found)
}

/// Lets StackSets into the organisation, where it is not yet. Whether something had to be done.
pub(crate) async fn trust(sets: &super::sets::Sets, settings: &Settings, is_management: bool) -> Result<bool, Problem> {
    if settings.permissions == Permissions::SelfManaged || sets.is_trusted().await? {
        return Ok(false);
    }
    if !is_management {
        return Err(Problem::refused(
            "the organisation does not let StackSets in, and only its management account can change that",
        )
        .help(format!(
            "in the management account: `aws cloudformation activate-organizations-access`, then \
                 `aws organizations register-delegated-administrator --service-principal {STACKSETS} --account-id {}`",
            settings.administrator
        )));
    }
    sets.activate().await?;
    Ok(true)
}
