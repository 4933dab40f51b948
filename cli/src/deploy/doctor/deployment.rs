//! What the checks must know of a deployment before they look: who administers it, who is in it, and what its functions
//! send.
//!
//! Read from the administrator account. An ExternalId that is read here is compared, and never shown.

use std::collections::BTreeSet;

use redress_common::external_id::ExternalIdPrefix;
use redress_common::ids::{AccountId, Region};
use redress_common::names;
use serde_json::{Value, json};

use super::finding::Place;
use super::settings;
use super::sight::{Blind, DESCRIBE_ORGANIZATION, GET_FUNCTION, LIST_ACCOUNTS, LIST_ROLE_POLICIES, SCAN, Site, items};

/// What its caller must be allowed to do in the administrator account before any check; the first two only where no
/// `--account` is given. In the member accounts `iam:ListRolePolicies`.
#[cfg(test)]
pub(super) const RIGHTS: [&str; 7] = [
    "organizations:DescribeOrganization",
    "organizations:ListAccounts",
    "dynamodb:BatchGetItem",
    "dynamodb:Scan",
    "iam:ListRolePolicies",
    "lambda:GetFunctionConfiguration",
    "sts:AssumeRole",
];

/// What is known of a deployment.
pub(crate) struct Deployment {
    /// The organisation's id, when the caller may ask for it.
    pub(crate) organisation: Option<String>,
    /// The member accounts to look at.
    pub(crate) accounts: Vec<AccountId>,
    /// What the functions are configured to send; see [`expected_external_id`].
    pub(crate) external_id: Option<String>,
    /// Why [`Deployment::external_id`] is not known.
    pub(crate) external_id_unseen: Option<Blind>,
    /// How many remediations may run at a time in an account and Region.
    pub(crate) in_flight: Option<u64>,
    /// Whether each document's content is read.
    pub(crate) contents: bool,
}

/// The ExternalId that an account's roles must ask for, by what the functions are configured with.
/// Text that is no prefix matches no account's.
pub(crate) fn expected_external_id(setting: &str, account: &AccountId) -> String {
    let prefix = setting.parse::<ExternalIdPrefix>();
    prefix.map_or_else(|_| setting.to_owned(), |prefix| prefix.of(account).reveal().to_owned())
}

/// Reads it. `named` are the accounts that the caller gave, if any.
pub(crate) async fn read(site: &Site, named: &[AccountId], contents: bool) -> Result<Deployment, Blind> {
    let organisation = site.ask(&DESCRIBE_ORGANIZATION, json!({})).await.ok().flatten();
    let organisation = organisation.map(|answer| answer["Organization"].clone()).unwrap_or_default();
    let accounts = if named.is_empty() { accounts(site, &organisation).await? } else { named.to_vec() };
    let external_id = external_id(site).await;
    let in_flight = settings::in_force(site).await.map(|settings| u64::from(settings.limits.in_flight));
    let (external_id, external_id_unseen) = match external_id {
        Ok(found) => (found, None),
        Err(blind) => (None, Some(blind)),
    };
    Ok(Deployment {
        organisation: organisation["Id"].as_str().map(str::to_owned),
        accounts,
        external_id,
        external_id_unseen,
        in_flight,
        contents,
    })
}

/// The organisation's active accounts; where the caller may not ask for them, those that Redress has seen.
async fn accounts(site: &Site, organisation: &Value) -> Result<Vec<AccountId>, Blind> {
    if let Ok(listed) = site.all(&LIST_ACCOUNTS, json!({}), "Accounts").await
        && !listed.is_empty()
    {
        return Ok(of_organisation(&site.place, organisation, &listed));
    }
    let scan = json!({
        "TableName": names::STATE_TABLE, "ProjectionExpression": "#Key",
        "FilterExpression": "begins_with(#Key, :chain)", "ExpressionAttributeNames": { "#Key": "Key" },
        "ExpressionAttributeValues": { ":chain": { "S": "chain#" } },
    });
    let (mut seen, mut scan) = (BTreeSet::new(), scan);
    loop {
        let answer = site.ask(&SCAN, scan.clone()).await?.unwrap_or_default();
        seen.extend(items(&answer["Items"]).iter().filter_map(of_chain));
        if answer["LastEvaluatedKey"].is_null() {
            break;
        }
        scan["ExclusiveStartKey"] = answer["LastEvaluatedKey"].clone();
    }
    seen.remove(&site.place.administrator);
    Ok(seen.into_iter().collect())
}

/// Without the administrator account, and the management account, which StackSets leave out.
fn of_organisation(place: &Place, organisation: &Value, listed: &[Value]) -> Vec<AccountId> {
    let management = organisation["MasterAccountId"].as_str().unwrap_or_default();
    let is_active = |account: &&Value| account["Status"] == "ACTIVE" || account["State"] == "ACTIVE";
    let ids = listed.iter().filter(is_active).filter_map(|account| account["Id"].as_str());
    let members = ids.filter(|id| *id != management && *id != place.administrator.as_str());
    let members: BTreeSet<AccountId> = members.filter_map(|id| id.parse().ok()).collect();
    members.into_iter().collect()
}

fn of_chain(item: &Value) -> Option<AccountId> {
    item["Key"]["S"].as_str()?.strip_prefix("chain#")?.parse().ok()
}

/// What the orchestrator sends.
async fn external_id(site: &Site) -> Result<Option<String>, Blind> {
    let function = json!({ "FunctionName": names::ORCHESTRATOR_FUNCTION });
    // Without the function there is none; that is told of the function.
    let Some(described) = site.ask(&GET_FUNCTION, function).await? else { return Ok(None) };
    let environment = &described["Environment"];
    match environment["Variables"]["EXTERNAL_ID"].as_str() {
        Some(found) => Ok(Some(found.to_owned())),
        None => Err(Blind(
            environment["Error"]["Message"]
                .as_str()
                .unwrap_or("function redress-orchestrator has no variable EXTERNAL_ID that the caller can read")
                .to_owned(),
        )),
    }
}

/// The further Regions of an account: member-region.yaml gives the recorder's role a policy named after its Region.
pub(crate) async fn regions(home: &Site) -> Result<BTreeSet<Region>, Blind> {
    let asked = json!({ "RoleName": names::RECORDER_ROLE });
    let policies = home.ask(&LIST_ROLE_POLICIES, asked).await?.unwrap_or_default();
    Ok(of_policies(&policies))
}

fn of_policies(policies: &Value) -> BTreeSet<Region> {
    let names = items(&policies["PolicyNames"]).iter().filter_map(Value::as_str);
    names.filter_map(|name| name.strip_prefix("logs-")?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::finding::tests::administrator;
    use super::*;

    #[test]
    fn members_are_the_active_accounts_but_for_administrator_and_management() {
        let account = |id: &str, status: &str| json!({ "Id": id, "Status": status });
        let listed = [
            account("111111111111", "ACTIVE"),
            account("333333333333", "ACTIVE"),
            account("222222222222", "ACTIVE"),
            account("444444444444", "SUSPENDED"),
            account("555555555555", "ACTIVE"),
        ];
        let organisation = json!({ "Id": "o-aaaaaaaaaa", "MasterAccountId": "555555555555" });
        let members = of_organisation(&administrator(), &organisation, &listed);
        assert_eq!(members, ["222222222222".parse().unwrap(), "333333333333".parse().unwrap()]);
    }

    #[test]
    fn accounts_and_regions_are_read_off_what_redress_left() {
        assert_eq!(of_chain(&json!({ "Key": { "S": "chain#222222222222" } })), Some("222222222222".parse().unwrap()));
        assert_eq!(of_chain(&json!({ "Key": { "S": "settings" } })), None);
        let policies = json!({ "PolicyNames": ["record", "logs-eu-west-1", "logs-of-somebody"] });
        assert_eq!(of_policies(&policies), ["eu-west-1".parse().unwrap()].into());
        assert!(of_policies(&json!({ "PolicyNames": null })).is_empty());
    }
}
