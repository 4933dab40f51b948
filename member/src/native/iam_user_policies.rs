//! `iam_user_policies`: what a user may do comes from groups.
//!
//! The policies of the user, attached and inline, move to a group made for the user: the group has them and the user is
//! in it before they leave the user, so nothing is forbidden in between. Documents stay byte for byte.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Job};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::iam_admin_policy::decoded;
use super::{Declared, Native, NativeError, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "iam_user_policies",
    reads: &[
        "iam:GetGroup",
        "iam:GetGroupPolicy",
        "iam:GetUser",
        "iam:GetUserPolicy",
        "iam:ListAttachedGroupPolicies",
        "iam:ListAttachedUserPolicies",
        "iam:ListGroupPolicies",
        "iam:ListGroupsForUser",
        "iam:ListUserPolicies",
    ],
    changes: &[
        "iam:AddUserToGroup",
        "iam:AttachGroupPolicy",
        "iam:AttachUserPolicy",
        "iam:CreateGroup",
        "iam:DeleteGroup",
        "iam:DeleteGroupPolicy",
        "iam:DeleteUserPolicy",
        "iam:DetachGroupPolicy",
        "iam:DetachUserPolicy",
        "iam:PutGroupPolicy",
        "iam:PutUserPolicy",
        "iam:RemoveUserFromGroup",
    ],
    make: |clients, request| Ok(Box::new(UserPolicies::new(clients.iam.clone(), &request.job))),
};

/// A user may be in so many groups.
const MOST_GROUPS: usize = 10;

/// The function on one user.
#[derive(Debug)]
struct UserPolicies {
    client: aws_sdk_iam::Client,
    user: String,
    group: String,
}

impl UserPolicies {
    fn new(client: aws_sdk_iam::Client, job: &Job) -> Self {
        let user = job.resource_name.clone();
        Self { client, group: format!("redress-{user}"), user }
    }

    fn on(&self, operation: &str, more: &[(&str, &str)]) -> Result<Call, NativeError> {
        let mut with = json!({});
        if operation.contains("User") {
            with["UserName"] = self.user.clone().into();
        }
        if operation.contains("Group") {
            with["GroupName"] = self.group.clone().into();
        }
        for (name, value) in more {
            with[*name] = (*value).into();
        }
        planned(&DECLARED, "iam", operation, &with)
    }

    async fn of_user(&self) -> Result<Held, NativeError> {
        let iam = &self.client;
        let answer = iam.list_attached_user_policies().user_name(&self.user).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("ListAttachedUserPolicies", &error))?;
        let mut held = Held::default();
        held.attached.extend(answer.attached_policies().iter().filter_map(|one| one.policy_arn()).map(str::to_owned));
        held.attached.sort();
        let answer = iam.list_user_policies().user_name(&self.user).send().await;
        for name in answer.map_err(|error| AwsFailure::of("ListUserPolicies", &error))?.policy_names() {
            let answer = iam.get_user_policy().user_name(&self.user).policy_name(name).send().await;
            let answer = answer.map_err(|error| AwsFailure::of("GetUserPolicy", &error))?;
            held.inline.insert(name.clone(), decoded(answer.policy_document()));
        }
        Ok(held)
    }

    /// The group made for the user, if it is there.
    async fn of_group(&self) -> Result<Option<Held>, NativeError> {
        let iam = &self.client;
        let answer = iam.get_group().group_name(&self.group).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("GetGroup", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
            answer => answer?,
        };
        if answer.users().iter().any(|user| user.user_name() != self.user) {
            return Err(NativeError::Refused(
                "the group made for the user has other members; give it another name, nothing was changed",
            ));
        }
        let mut held = Held::default();
        let answer = iam.list_attached_group_policies().group_name(&self.group).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("ListAttachedGroupPolicies", &error))?;
        held.attached.extend(answer.attached_policies().iter().filter_map(|one| one.policy_arn()).map(str::to_owned));
        held.attached.sort();
        let answer = iam.list_group_policies().group_name(&self.group).send().await;
        for name in answer.map_err(|error| AwsFailure::of("ListGroupPolicies", &error))?.policy_names() {
            let answer = iam.get_group_policy().group_name(&self.group).policy_name(name).send().await;
            let answer = answer.map_err(|error| AwsFailure::of("GetGroupPolicy", &error))?;
            held.inline.insert(name.clone(), decoded(answer.policy_document()));
        }
        Ok(Some(held))
    }

    /// The calls that give a holder what it lacks.
    fn give(&self, kind: &str, wanted: &Held, has: &Held) -> Result<Vec<Call>, NativeError> {
        let mut calls = Vec::new();
        for policy in wanted.attached.iter().filter(|policy| !has.attached.contains(policy)) {
            calls.push(self.on(&format!("Attach{kind}Policy"), &[("PolicyArn", policy)])?);
        }
        for (name, document) in wanted.inline.iter().filter(|(name, document)| has.inline.get(*name) != Some(document))
        {
            let more = [("PolicyName", name.as_str()), ("PolicyDocument", document.as_str())];
            calls.push(self.on(&format!("Put{kind}Policy"), &more)?);
        }
        Ok(calls)
    }

    /// The calls that take from a holder what it should not have.
    fn take(&self, kind: &str, has: &Held, wanted: &Held) -> Result<Vec<Call>, NativeError> {
        let mut calls = Vec::new();
        for policy in has.attached.iter().filter(|policy| !wanted.attached.contains(policy)) {
            calls.push(self.on(&format!("Detach{kind}Policy"), &[("PolicyArn", policy)])?);
        }
        for name in has.inline.keys().filter(|name| !wanted.inline.contains_key(*name)) {
            calls.push(self.on(&format!("Delete{kind}Policy"), &[("PolicyName", name)])?);
        }
        Ok(calls)
    }
}

#[async_trait]
impl Native for UserPolicies {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.get_user().user_name(&self.user).send().await;
        match answer.map_err(|error| AwsFailure::of("GetUser", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
            answer => answer?,
        };
        let answer = self.client.list_groups_for_user().user_name(&self.user).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("ListGroupsForUser", &error))?;
        let mut groups: Vec<String> = answer.groups().iter().map(|group| group.group_name().to_owned()).collect();
        groups.sort();
        let state = State { user: self.of_user().await?, groups, group: self.of_group().await? };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        if state.user.is_empty() {
            return Ok(Change::default());
        }
        let member = state.groups.contains(&self.group);
        if !member && state.groups.len() >= MOST_GROUPS {
            return Err(NativeError::Refused(
                "the user is in ten groups, and IAM allows no more; take it out of one, nothing was changed",
            ));
        }
        let group = state.group.clone().unwrap_or_default();
        if state.user.inline.iter().any(|(name, text)| group.inline.get(name).is_some_and(|other| other != text)) {
            return Err(NativeError::Refused(
                "the group made for the user has another inline policy of the same name; nothing was changed",
            ));
        }
        let mut calls = Vec::new();
        if state.group.is_none() {
            calls.push(self.on("CreateGroup", &[])?);
        }
        calls.extend(self.give("Group", &state.user, &group)?);
        if !member {
            calls.push(self.on("AddUserToGroup", &[])?);
        }
        calls.extend(self.take("User", &state.user, &Held::default())?);
        Ok(Change(calls))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let mut calls = self.give("User", &before.user, &now.user)?;
        if now.groups.contains(&self.group) && !before.groups.contains(&self.group) {
            calls.push(self.on("RemoveUserFromGroup", &[])?);
        }
        let (had, has) = (before.group.clone().unwrap_or_default(), now.group.clone().unwrap_or_default());
        calls.extend(self.take("Group", &has, &had)?);
        if now.group.is_some() && before.group.is_none() {
            calls.push(self.on("DeleteGroup", &[])?);
        }
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        let (iam, user, group) = (&self.client, given("UserName"), given("GroupName"));
        let (policy, name, document) = (given("PolicyArn"), given("PolicyName"), given("PolicyDocument"));
        match call.operation.as_str() {
            "CreateGroup" => {
                let call = iam.create_group().group_name(group);
                call.send().await.map_err(|error| AwsFailure::of("CreateGroup", &error))?;
            }
            "DeleteGroup" => {
                let call = iam.delete_group().group_name(group);
                call.send().await.map_err(|error| AwsFailure::of("DeleteGroup", &error))?;
            }
            "AddUserToGroup" => {
                let call = iam.add_user_to_group().user_name(user).group_name(group);
                call.send().await.map_err(|error| AwsFailure::of("AddUserToGroup", &error))?;
            }
            "RemoveUserFromGroup" => {
                let call = iam.remove_user_from_group().user_name(user).group_name(group);
                call.send().await.map_err(|error| AwsFailure::of("RemoveUserFromGroup", &error))?;
            }
            "AttachGroupPolicy" => {
                let call = iam.attach_group_policy().group_name(group).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("AttachGroupPolicy", &error))?;
            }
            "DetachGroupPolicy" => {
                let call = iam.detach_group_policy().group_name(group).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("DetachGroupPolicy", &error))?;
            }
            "AttachUserPolicy" => {
                let call = iam.attach_user_policy().user_name(user).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("AttachUserPolicy", &error))?;
            }
            "DetachUserPolicy" => {
                let call = iam.detach_user_policy().user_name(user).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("DetachUserPolicy", &error))?;
            }
            "PutGroupPolicy" => {
                let call = iam.put_group_policy().group_name(group).policy_name(name).policy_document(document);
                call.send().await.map_err(|error| AwsFailure::of("PutGroupPolicy", &error))?;
            }
            "DeleteGroupPolicy" => {
                let call = iam.delete_group_policy().group_name(group).policy_name(name);
                call.send().await.map_err(|error| AwsFailure::of("DeleteGroupPolicy", &error))?;
            }
            "PutUserPolicy" => {
                let call = iam.put_user_policy().user_name(user).policy_name(name).policy_document(document);
                call.send().await.map_err(|error| AwsFailure::of("PutUserPolicy", &error))?;
            }
            "DeleteUserPolicy" => {
                let call = iam.delete_user_policy().user_name(user).policy_name(name);
                call.send().await.map_err(|error| AwsFailure::of("DeleteUserPolicy", &error))?;
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
    user: Held,
    /// The groups that the user is in.
    groups: Vec<String>,
    /// What the group made for the user has; `None` when there is no such group.
    group: Option<Held>,
}

/// The policies of a user or a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Held {
    attached: Vec<String>,
    inline: BTreeMap<String, String>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.attached.is_empty() && self.inline.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{FakeAws, job};

    fn native() -> UserPolicies {
        let client = aws_sdk_iam::Client::new(&FakeAws::default().config());
        UserPolicies::new(client, &job("arn:aws:iam::111122223333:user/team/alice"))
    }

    fn image(user: Value, groups: &[&str], group: Value) -> Image {
        Image { present: true, state: json!({ "User": user, "Groups": groups, "Group": group }) }
    }

    fn said(change: Change) -> Vec<String> {
        change.0.into_iter().map(|call| call.operation).collect()
    }

    #[test]
    fn the_group_has_everything_and_the_user_is_in_it_before_anything_leaves_the_user() {
        let held = json!({ "Attached": ["arn:aws:iam::aws:policy/ReadOnlyAccess"], "Inline": { "own": "{ }" } });
        let none = json!({ "Attached": [], "Inline": {} });
        let before = image(held.clone(), &["staff"], Value::Null);
        let calls = native().plan(&before).unwrap();
        assert_eq!(calls.0[2].parameters["PolicyDocument"], "{ }");
        let order = [
            "CreateGroup",
            "AttachGroupPolicy",
            "PutGroupPolicy",
            "AddUserToGroup",
            "DetachUserPolicy",
            "DeleteUserPolicy",
        ];
        assert_eq!(said(calls), order);
        let after = image(none, &["redress-alice", "staff"], held);
        assert!(native().compliant(&after));
        let order = [
            "AttachUserPolicy",
            "PutUserPolicy",
            "RemoveUserFromGroup",
            "DetachGroupPolicy",
            "DeleteGroupPolicy",
            "DeleteGroup",
        ];
        assert_eq!(said(native().plan_restore(&after, &before).unwrap()), order);
    }

    #[test]
    fn a_group_that_is_there_is_used_unless_it_says_something_else() {
        let held = json!({ "Attached": [], "Inline": { "own": "{}" } });
        let same = image(held.clone(), &["redress-alice"], held.clone());
        assert_eq!(said(native().plan(&same).unwrap()), ["DeleteUserPolicy"]);
        let other = json!({ "Attached": [], "Inline": { "own": "{ }" } });
        assert!(matches!(native().plan(&image(held.clone(), &[], other)), Err(NativeError::Refused(_))));
        let ten: Vec<String> = (0..10).map(|number| format!("g{number}")).collect();
        let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
        assert!(matches!(native().plan(&image(held, &ten, Value::Null)), Err(NativeError::Refused(_))));
    }
}
