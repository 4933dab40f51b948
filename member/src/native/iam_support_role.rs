//! `iam_support_role`: somebody in the account can manage incidents with AWS Support.
//!
//! When nobody has the managed policy `AWSSupportAccess`, a role gets it. The role may be assumed by this account's own
//! principals, as far as their policies let them; a role of that name that is there already is used as it is. The policy
//! is the role's permissions boundary, too: IAM lets Redress make no role that could do more.

use async_trait::async_trait;
use aws_sdk_iam::types::PolicyUsageType;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy_text::Policy;
use super::{Declared, Native, NativeError, parameter, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "iam_support_role",
    reads: &["iam:GetRole", "iam:ListEntitiesForPolicy"],
    changes: &["iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRole", "iam:DetachRolePolicy"],
    make: |clients, request| Ok(Box::new(SupportRole::new(clients.iam.clone(), request)?)),
};

/// The function on the account that it runs in.
#[derive(Debug)]
struct SupportRole {
    client: aws_sdk_iam::Client,
    policy: String,
    role: String,
    root: String,
}

impl SupportRole {
    /// Parameter `RoleName`.
    fn new(client: aws_sdk_iam::Client, request: &RemediateRequest) -> Result<Self, NativeError> {
        const NAME: &str = "a role's name";
        let role = parameter(&request.parameters, "RoleName", NAME)?.as_str().unwrap_or_default();
        let ok = (1..=64).contains(&role.len())
            && role.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b));
        if !ok {
            return Err(NativeError::Parameter { name: "RoleName".to_owned(), expected: NAME });
        }
        let partition = request.job.resource_arn.partition();
        Ok(Self {
            client,
            policy: format!("arn:{partition}:iam::aws:policy/AWSSupportAccess"),
            role: role.to_owned(),
            root: format!("arn:{partition}:iam::{}:root", request.account_id),
        })
    }

    fn on_role(&self, operation: &str, more: &[(&str, &Value)]) -> Result<Call, NativeError> {
        let mut with = json!({ "RoleName": self.role });
        for (name, value) in more {
            with[*name] = (*value).clone();
        }
        planned(&DECLARED, "iam", operation, &with)
    }
}

#[async_trait]
impl Native for SupportRole {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        // Who has it as a boundary may do nothing by it.
        let holders = self.client.list_entities_for_policy().policy_arn(&self.policy);
        let answer = holders.policy_usage_filter(PolicyUsageType::PermissionsPolicy).send().await;
        let mut state = State::default();
        let answer = answer.map_err(|error| AwsFailure::of("ListEntitiesForPolicy", &error))?;
        let users = answer.policy_users().iter().filter_map(|one| one.user_name()).map(|name| format!("user/{name}"));
        let groups = answer.policy_groups().iter().filter_map(|one| one.group_name());
        let roles = answer.policy_roles().iter().filter_map(|one| one.role_name()).map(|name| format!("role/{name}"));
        state.holders.extend(users.chain(groups.map(|name| format!("group/{name}"))).chain(roles));
        state.holders.sort();
        let role = self.client.get_role().role_name(&self.role).send().await;
        match role.map_err(|error| AwsFailure::of("GetRole", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => {}
            role => {
                role?;
                state.role = true;
            }
        }
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        if !state.holders.is_empty() {
            return Ok(Change::default());
        }
        let mut calls = Vec::new();
        if !state.role {
            let trust = json!({ "Effect": "Allow", "Principal": { "AWS": self.root }, "Action": "sts:AssumeRole" });
            let trust = Policy::of(&trust.to_string());
            let more =
                [("AssumeRolePolicyDocument", &trust.into()), ("PermissionsBoundary", &self.policy.clone().into())];
            calls.push(self.on_role("CreateRole", &more)?);
        }
        calls.push(self.on_role("AttachRolePolicy", &[("PolicyArn", &self.policy.clone().into())])?);
        Ok(Change(calls))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let own = format!("role/{}", self.role);
        let mut calls = Vec::new();
        if now.holders.contains(&own) && !before.holders.contains(&own) {
            calls.push(self.on_role("DetachRolePolicy", &[("PolicyArn", &self.policy.clone().into())])?);
        }
        if now.role && !before.role {
            calls.push(self.on_role("DeleteRole", &[])?);
        }
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        let role = given("RoleName");
        match call.operation.as_str() {
            "CreateRole" => {
                let trust = given("AssumeRolePolicyDocument");
                let call = self.client.create_role().role_name(role).assume_role_policy_document(trust);
                let call = call.permissions_boundary(given("PermissionsBoundary"));
                call.send().await.map_err(|error| AwsFailure::of("CreateRole", &error))?;
            }
            "AttachRolePolicy" => {
                let call = self.client.attach_role_policy().role_name(role).policy_arn(given("PolicyArn"));
                call.send().await.map_err(|error| AwsFailure::of("AttachRolePolicy", &error))?;
            }
            "DetachRolePolicy" => {
                let call = self.client.detach_role_policy().role_name(role).policy_arn(given("PolicyArn"));
                call.send().await.map_err(|error| AwsFailure::of("DetachRolePolicy", &error))?;
            }
            "DeleteRole" => {
                let call = self.client.delete_role().role_name(role);
                call.send().await.map_err(|error| AwsFailure::of("DeleteRole", &error))?;
            }
            _ => return Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
        Ok(())
    }
}

/// The image's state.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    /// Who has the policy: `role/support`.
    holders: Vec<String>,
    /// Whether there is a role of the name.
    role: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{FakeAws, job};

    fn native() -> SupportRole {
        let request = RemediateRequest {
            job: job("arn:aws:iam::111122223333:root"),
            native: DECLARED.name.to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            parameters: [("RoleName".to_owned(), json!("support"))].into(),
            copy: None,
        };
        SupportRole::new(aws_sdk_iam::Client::new(&FakeAws::default().config()), &request).unwrap()
    }

    fn image(holders: &[&str], role: bool) -> Image {
        Image { present: true, state: json!({ "Holders": holders, "Role": role }) }
    }

    fn said(change: Change) -> Vec<String> {
        change.0.into_iter().map(|call| call.operation).collect()
    }

    #[test]
    fn a_role_is_made_only_when_nobody_has_the_policy_and_an_undo_removes_what_was_made() {
        assert_eq!(said(native().plan(&image(&[], false)).unwrap()), ["CreateRole", "AttachRolePolicy"]);
        assert_eq!(said(native().plan(&image(&[], true)).unwrap()), ["AttachRolePolicy"]);
        assert!(native().compliant(&image(&["group/helpdesk"], false)));
        let after = image(&["role/support"], true);
        assert_eq!(
            said(native().plan_restore(&after, &image(&[], false)).unwrap()),
            ["DetachRolePolicy", "DeleteRole"]
        );
        assert_eq!(said(native().plan_restore(&after, &image(&[], true)).unwrap()), ["DetachRolePolicy"]);
    }
}
