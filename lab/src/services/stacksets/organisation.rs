//! The organisation as a stack set sees it: which accounts are below which units, and who may act for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::given::{Given, invalid};
use crate::service::{Aws, AwsError, Credentials};

/// Who StackSets is to Organizations.
const PRINCIPAL: &str = "member.org.stacksets.cloudformation.amazonaws.com";

/// Every account's place: the ids of what is above it, `o-…/r-…/ou-…/<account>/`.
pub(super) type Paths = BTreeMap<String, String>;

/// Whether an account with this path is below a unit or a root.
pub(super) fn is_below(path: &str, unit: &str) -> bool {
    path.split('/').any(|part| part == unit)
}

/// The accounts that a stack set may deploy to: active ones, without the management account.
pub(super) async fn paths(aws: &dyn Aws, management: &str, region: &str) -> Result<Paths, AwsError> {
    let (mut found, mut page) = (Paths::new(), json!({}));
    loop {
        let listed =
            aws.call(&Credentials::root(management), region, "organizations", "ListAccounts", page.clone()).await?;
        for account in listed["Accounts"].as_array().into_iter().flatten() {
            let (id, path) = (account["Id"].as_str(), account["Paths"][0].as_str());
            if let (Some(id), Some(path), Some("ACTIVE")) = (id, path, account["State"].as_str())
                && id != management
            {
                found.insert(id.to_owned(), path.to_owned());
            }
        }
        match listed["NextToken"].as_str() {
            Some(token) => page["NextToken"] = token.into(),
            None => return Ok(found),
        }
    }
}

/// The management account of an account's organisation.
pub(super) async fn management(aws: &dyn Aws, account: &str, region: &str) -> Result<String, AwsError> {
    let root = Credentials::root(account);
    let organisation = aws.call(&root, region, "organizations", "DescribeOrganization", json!({})).await?;
    let id = &organisation["Organization"]["MasterAccountId"];
    id.as_str().map(str::to_owned).ok_or_else(|| invalid(format!("account {account} is in no organization")))
}

/// Whether an account administers stack sets for its organisation.
pub(super) async fn is_delegated(
    aws: &dyn Aws,
    management: &str,
    account: &str,
    region: &str,
) -> Result<bool, AwsError> {
    let asked = json!({ "ServicePrincipal": PRINCIPAL });
    let root = Credentials::root(management);
    let listed = aws.call(&root, region, "organizations", "ListDelegatedAdministrators", asked).await?;
    Ok(listed["DelegatedAdministrators"].as_array().into_iter().flatten().any(|one| one["Id"] == account))
}

/// `DeploymentTargets` of service-managed stack sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) units: Vec<String>,
    filter: Filter,
    accounts: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    None,
    Intersection,
    Difference,
    Union,
}

impl Targets {
    pub(super) fn read(request: Given<'_>) -> Result<Self, AwsError> {
        const ONLY_UNITS: &str =
            "StackSets with SERVICE_MANAGED permission model can only have OrganizationalUnit as target";
        let given = request.part("DeploymentTargets").filter(|_| !request.has("Accounts"));
        let given = given.ok_or_else(|| invalid(ONLY_UNITS))?;
        let (units, accounts) = (given.list("OrganizationalUnitIds"), given.set("Accounts"));
        let filter = match given.text("AccountFilterType") {
            None | Some("NONE") => Filter::None,
            Some("INTERSECTION") => Filter::Intersection,
            Some("DIFFERENCE") => Filter::Difference,
            Some("UNION") => Filter::Union,
            Some(other) => return Err(invalid(format!("AccountFilterType {other} is unknown"))),
        };
        if units.is_empty() {
            return Err(invalid(ONLY_UNITS));
        }
        if accounts.is_empty() != (filter == Filter::None) {
            return Err(invalid("AccountFilterType says what Accounts are for: give both or neither"));
        }
        Ok(Self { units, filter, accounts })
    }

    /// The accounts, each with the unit that it is selected by.
    pub(super) fn select(&self, paths: &Paths) -> BTreeMap<String, String> {
        let selected = paths.iter().filter_map(|(account, path)| {
            let unit = self.units.iter().find(|unit| is_below(path, unit));
            let named = self.accounts.contains(account);
            match self.filter {
                Filter::None => unit.cloned(),
                Filter::Intersection => unit.filter(|_| named).cloned(),
                Filter::Difference => unit.filter(|_| !named).cloned(),
                // One that is in none of the units is told with its own.
                Filter::Union => unit.cloned().or_else(|| parent(path).filter(|_| named)),
            }
            .map(|unit| (account.clone(), unit))
        });
        selected.collect()
    }

    /// Whether accounts that join the units later are meant too.
    pub(super) fn is_whole(&self) -> bool {
        self.filter != Filter::Intersection
    }
}

/// The unit or root that an account is in.
fn parent(path: &str) -> Option<String> {
    path.trim_end_matches('/').rsplit('/').nth(1).map(str::to_owned)
}

/// Refuses units that the organisation does not have.
pub(super) async fn check_units(
    aws: &dyn Aws,
    management: &str,
    region: &str,
    units: &[String],
) -> Result<(), AwsError> {
    let root = Credentials::root(management);
    let roots = aws.call(&root, region, "organizations", "ListRoots", json!({})).await?;
    let is_root = |unit: &str| roots["Roots"].as_array().into_iter().flatten().any(|one: &Value| one["Id"] == unit);
    for unit in units.iter().filter(|unit| !is_root(unit)) {
        let asked = json!({ "OrganizationalUnitId": unit });
        let found = aws.call(&root, region, "organizations", "DescribeOrganizationalUnit", asked).await;
        found.map_err(|_| invalid(format!("Invalid organizational unit IDs: [{unit}]")))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        [
            ("111", "o-1/r-1/111/"),
            ("222", "o-1/r-1/ou-a/222/"),
            ("333", "o-1/r-1/ou-a/ou-b/333/"),
            ("444", "o-1/r-1/ou-c/444/"),
        ]
        .map(|(account, path)| (account.to_owned(), path.to_owned()))
        .into()
    }

    fn selected(targets: Value) -> Vec<(String, String)> {
        Targets::read(Given(&json!({ "DeploymentTargets": targets }))).unwrap().select(&paths()).into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(account, unit)| ((*account).to_owned(), (*unit).to_owned())).collect()
    }

    #[test]
    fn a_unit_means_every_account_below_it() {
        assert_eq!(selected(json!({ "OrganizationalUnitIds": ["ou-a"] })), pairs(&[("222", "ou-a"), ("333", "ou-a")]));
        assert_eq!(selected(json!({ "OrganizationalUnitIds": ["ou-b"] })), pairs(&[("333", "ou-b")]));
        assert_eq!(selected(json!({ "OrganizationalUnitIds": ["r-1"] })).len(), 4);
        assert_eq!(selected(json!({ "OrganizationalUnitIds": ["ou"] })), []);
    }

    #[test]
    fn the_filter_says_what_the_named_accounts_are_for() {
        let with = |filter: &str, account: &str| {
            selected(json!({ "OrganizationalUnitIds": ["ou-a"], "AccountFilterType": filter, "Accounts": [account] }))
        };
        assert_eq!(with("INTERSECTION", "333"), pairs(&[("333", "ou-a")]));
        assert_eq!(with("INTERSECTION", "444"), []);
        assert_eq!(with("DIFFERENCE", "333"), pairs(&[("222", "ou-a")]));
        assert_eq!(with("UNION", "444"), pairs(&[("222", "ou-a"), ("333", "ou-a"), ("444", "ou-c")]));
    }

    #[test]
    fn targets_that_are_no_units_are_refused() {
        for wrong in [
            json!({ "Accounts": ["222"] }),
            json!({ "DeploymentTargets": { "Accounts": ["222"] } }),
            json!({ "DeploymentTargets": { "OrganizationalUnitIds": ["ou-a"], "Accounts": ["222"] } }),
            json!({ "DeploymentTargets": { "OrganizationalUnitIds": ["ou-a"], "AccountFilterType": "UNION" } }),
            json!({ "DeploymentTargets": { "OrganizationalUnitIds": ["ou-a"] }, "Accounts": ["222"] }),
        ] {
            assert_eq!(Targets::read(Given(&wrong)).unwrap_err().code, "ValidationError", "{wrong}");
        }
    }
}
