//! The organisation's tree: root → Workloads → Production and Development, and every member in its place, with its
//! name and the tag that says what runs there.

use serde_json::{Value, json};

use super::{DeployError, Deployer};

/// Where a member is and its `Environment` tag, by its place among the members.
const PLACES: [(Unit, &str); 2] = [(Unit::Production, "production"), (Unit::Development, "development")];
/// Every other member's.
const ELSEWHERE: (Unit, &str) = (Unit::Workloads, "staging");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Workloads,
    Production,
    Development,
}

impl Deployer {
    /// Creates the units, and takes the members in.
    pub(super) async fn units(&self) -> Result<(), DeployError> {
        let name = json!({ "AccountName": self.plan.administrator.name });
        self.call("account", "PutAccountName", name).await?;
        let roots = self.call("organizations", "ListRoots", json!({})).await?;
        let root = roots["Roots"][0]["Id"].clone();
        let workloads = self.unit(&root, "Workloads").await?;
        let production = self.unit(&workloads, "Production").await?;
        let development = self.unit(&workloads, "Development").await?;
        for (index, member) in self.plan.members.iter().enumerate() {
            let (unit, environment) = PLACES.get(index).copied().unwrap_or(ELSEWHERE);
            let destination = match unit {
                Unit::Workloads => &workloads,
                Unit::Production => &production,
                Unit::Development => &development,
            };
            self.call_as(&member.id, "account", "PutAccountName", json!({ "AccountName": member.name })).await?;
            let invitation = json!({
                "Target": { "Id": member.id, "Type": "ACCOUNT" }, "Tags": [{ "Key": "Environment", "Value": environment }] });
            let invited = self.call("organizations", "InviteAccountToOrganization", invitation).await?;
            let handshake = json!({ "HandshakeId": invited["Handshake"]["Id"] });
            self.call_as(&member.id, "organizations", "AcceptHandshake", handshake).await?;
            let there = json!({ "AccountId": member.id, "SourceParentId": root, "DestinationParentId": destination });
            self.call("organizations", "MoveAccount", there).await?;
        }
        Ok(())
    }

    async fn unit(&self, parent: &Value, name: &str) -> Result<Value, DeployError> {
        let asked = json!({ "ParentId": parent, "Name": name });
        let mut created = self.call("organizations", "CreateOrganizationalUnit", asked).await?;
        Ok(created["OrganizationalUnit"]["Id"].take())
    }
}
