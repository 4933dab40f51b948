//! `ec2_default_group`: the default security group of a VPC lets nothing in or out.
//!
//! Every rule of both directions is revoked; the undo puts each back with its description. Only a group that EC2
//! itself calls `default` is touched: the same finding on another group would cut off a workload.

use async_trait::async_trait;
use redress_common::contract::{Call, Change, Image, Job};
use redress_common::ids::AccountId;
use serde::{Deserialize, Serialize};

use super::ec2_rules::{self, Direction, Edit, Permission, Rule, flatten, gather, put_back};
use super::{Declared, Native, NativeError, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "ec2_default_group",
    reads: &["ec2:DescribeSecurityGroups"],
    changes: &[
        "ec2:AuthorizeSecurityGroupEgress",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:RevokeSecurityGroupEgress",
        "ec2:RevokeSecurityGroupIngress",
    ],
    make: |clients, request| Ok(Box::new(DefaultGroup::new(clients.ec2.clone(), &request.job))),
};

/// The function on one security group.
#[derive(Debug)]
struct DefaultGroup {
    client: aws_sdk_ec2::Client,
    group: String,
    owner: Option<AccountId>,
}

impl DefaultGroup {
    fn new(client: aws_sdk_ec2::Client, job: &Job) -> Self {
        Self { client, group: job.resource_name.clone(), owner: job.resource_arn.account().cloned() }
    }

    fn calls(&self, ingress: Edit, egress: Edit) -> Result<Change, NativeError> {
        let mut calls = Direction::Ingress.calls(&DECLARED, &self.group, ingress)?;
        calls.extend(Direction::Egress.calls(&DECLARED, &self.group, egress)?);
        Ok(Change(calls))
    }
}

#[async_trait]
impl Native for DefaultGroup {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(group) = ec2_rules::group(&self.client, &self.group, self.owner.as_ref()).await? else {
            return Ok(None);
        };
        let normal = |permissions: &[_]| gather(&flatten(permissions.iter().map(Permission::from)));
        let state = State {
            group_id: self.group.clone(),
            group_name: group.group_name().unwrap_or_default().to_owned(),
            ip_permissions: normal(group.ip_permissions()),
            ip_permissions_egress: normal(group.ip_permissions_egress()),
        };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        if state.group_name != "default" {
            return Err(NativeError::Refused("the security group is not the default group of its VPC; refused"));
        }
        self.calls(all(state.ip_permissions), all(state.ip_permissions_egress))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let (now, before): (State, State) =
            (typed(&now.state, "the state", DECLARED.name)?, typed(&before.state, "the state", DECLARED.name)?);
        self.calls(
            put_back(&flatten(now.ip_permissions), &flatten(before.ip_permissions))?,
            put_back(&flatten(now.ip_permissions_egress), &flatten(before.ip_permissions_egress))?,
        )
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        ec2_rules::make(&self.client, &DECLARED, call).await
    }
}

/// The edit that revokes every rule.
fn all(permissions: Vec<Permission>) -> Edit {
    let bare = |rule: Rule| Rule { description: None, ..rule };
    Edit { authorize: Vec::new(), revoke: flatten(permissions).into_iter().map(bare).collect() }
}

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    group_id: String,
    group_name: String,
    ip_permissions: Vec<Permission>,
    ip_permissions_egress: Vec<Permission>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{FakeAws, job};

    fn native() -> DefaultGroup {
        let arn = "arn:aws:ec2:eu-central-1:111122223333:security-group/sg-1";
        DefaultGroup::new(aws_sdk_ec2::Client::new(&FakeAws::default().config()), &job(arn))
    }

    fn image(name: &str, ingress: serde_json::Value, egress: serde_json::Value) -> Image {
        let state = json!({
            "GroupId": "sg-1", "GroupName": name, "IpPermissions": ingress, "IpPermissionsEgress": egress });
        Image { present: true, state }
    }

    #[test]
    fn every_rule_goes_and_comes_back_with_its_description() {
        let own =
            json!([{ "IpProtocol": "-1", "UserIdGroupPairs": [{ "UserId": "111122223333", "GroupId": "sg-1" }] }]);
        let out = json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": "all out" }] }]);
        let before = image("default", own.clone(), out.clone());
        let closed = image("default", json!([]), json!([]));

        let calls = native().plan(&before).unwrap().0;
        let named: Vec<_> = calls.iter().map(|call| call.operation.as_str()).collect();
        assert_eq!(named, ["RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress"]);
        assert_eq!(calls[0].parameters["IpPermissions"], own);
        assert!(!calls[1].parameters.to_string().contains("all out"), "a revoke needs no description");

        assert!(native().compliant(&closed));
        let calls = native().plan_restore(&closed, &before).unwrap().0;
        assert_eq!(calls[0].parameters["IpPermissions"], own);
        assert_eq!(calls[1].parameters["IpPermissions"], out);
    }

    #[test]
    fn another_group_than_the_default_one_is_refused() {
        let web =
            json!([{ "IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] }]);
        let image = image("web", web, json!([]));
        assert!(matches!(native().plan(&image), Err(NativeError::Refused(_))));
        assert!(!native().compliant(&image));
    }
}
