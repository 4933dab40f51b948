//! The security group `redress-quarantine` of a VPC: it has no rules, so what has no other group talks to nobody.
//!
//! It is made where it is missing, and stays: an empty group costs nothing, and the next one needs it. A group of that name
//! that has rules isolates nothing; it is not used, and not changed.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, IpPermission, SecurityGroup};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::Call;
use serde_json::json;

use crate::native::{Declared, NativeError, planned};

/// What the group is called.
pub(super) const NAME: &str = "redress-quarantine";
/// In a planned call: the id of the group, which may not be there yet.
pub(super) const GROUP: &str = "$quarantine";

/// The group of a VPC.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) vpc: String,
    lets_in: bool,
    /// What it lets out.
    egress: Vec<IpPermission>,
    ours: bool,
}

impl Group {
    /// Whether it has no rules.
    pub(super) fn isolates(&self) -> bool {
        !self.lets_in && self.egress.is_empty()
    }

    /// Whether it is ours, and as AWS makes a new one: nothing comes in, everything goes out.
    fn is_unfinished(&self) -> bool {
        self.ours && !self.lets_in && self.egress.iter().all(|rule| rule.ip_protocol() == Some("-1"))
    }
}

/// The group of this VPC, when there is one.
pub(super) async fn find(client: &Client, vpc: &str) -> Result<Option<Group>, NativeError> {
    Ok(all(client).await?.into_iter().find(|group| group.vpc == vpc))
}

/// Those of all VPCs, in each of which a name stands once.
pub(super) async fn all(client: &Client) -> Result<Vec<Group>, NativeError> {
    let named = Filter::builder().name("group-name").values(NAME).build();
    let answer = client.describe_security_groups().filters(named).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error))?;
    let found = answer.security_groups().iter().filter(|group| group.group_name() == Some(NAME));
    let read = |group: &SecurityGroup| Group {
        id: group.group_id().unwrap_or_default().to_owned(),
        vpc: group.vpc_id().unwrap_or_default().to_owned(),
        lets_in: !group.ip_permissions().is_empty(),
        egress: group.ip_permissions_egress().to_vec(),
        ours: group.description() == Some(DESCRIPTION),
    };
    Ok(found.map(read).collect())
}

const DESCRIPTION: &str = "Made by Redress: no rules, for resources that are contained";

/// The calls that make it, where it is missing or was not finished.
pub(super) fn plan(declared: &Declared, vpc: &str, found: Option<&Group>) -> Result<Vec<Call>, NativeError> {
    // AWS lets everything out of a new group.
    let close = || planned(declared, "ec2", "RevokeSecurityGroupEgress", &json!({ "GroupId": GROUP }));
    match found {
        None => {
            let with = json!({ "GroupName": NAME, "VpcId": vpc, "Description": DESCRIPTION });
            Ok(vec![planned(declared, "ec2", "CreateSecurityGroup", &with)?, close()?])
        }
        Some(group) if group.isolates() => Ok(Vec::new()),
        // A run that made it was cut off.
        Some(group) if group.is_unfinished() => Ok(vec![close()?]),
        Some(_) => Err(NativeError::Refused(
            "security group `redress-quarantine` of the VPC has rules, so it would isolate nothing; remove its rules or give \
             it another name, and ask again",
        )),
    }
}

/// Makes a planned call, if it is one of these.
pub(super) async fn call(client: &Client, vpc: &str, call: &Call) -> Option<Result<(), NativeError>> {
    let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
    match call.operation.as_str() {
        "CreateSecurityGroup" => {
            let create = client.create_security_group().group_name(given("GroupName")).vpc_id(given("VpcId"));
            let answer = create.description(given("Description")).send().await;
            Some(match answer.map_err(|error| AwsFailure::of("CreateSecurityGroup", &error)) {
                // Somebody else made it meanwhile; that it has no rules is seen to next.
                Err(failure) if failure.code() == Some("InvalidGroup.Duplicate") => Ok(()),
                answer => answer.map(drop).map_err(NativeError::from),
            })
        }
        "RevokeSecurityGroupEgress" => Some(close(client, vpc).await),
        _ => None,
    }
}

/// Takes from the group what AWS let out of it when it was made.
async fn close(client: &Client, vpc: &str) -> Result<(), NativeError> {
    let group = match find(client, vpc).await? {
        Some(group) if group.isolates() => return Ok(()),
        Some(group) if group.is_unfinished() => group,
        _ => {
            return Err(NativeError::NotNow(
                "security group `redress-quarantine` is not there though it was made, or has got rules since; ask again"
                    .to_owned(),
            ));
        }
    };
    let revoke = client.revoke_security_group_egress().group_id(&group.id).set_ip_permissions(Some(group.egress));
    revoke.send().await.map_err(|error| AwsFailure::of("RevokeSecurityGroupEgress", &error))?;
    Ok(())
}

#[cfg(test)]
impl Group {
    /// One without rules.
    pub(super) fn closed(id: &str) -> Self {
        Self { id: id.to_owned(), vpc: "vpc-1".to_owned(), lets_in: false, egress: Vec::new(), ours: true }
    }
}
