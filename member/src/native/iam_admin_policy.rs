//! `iam_admin_policy`: a customer policy that allows everything on everything is attached to nobody.
//!
//! The policy itself stays; who had it is the pre-image, and the undo attaches it again. Where it serves as a
//! permissions boundary it grants nothing and stays.

use async_trait::async_trait;
use aws_sdk_iam::types::PolicyUsageType;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Job};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy_text::{Policy, allows, texts};
use super::{Declared, Native, NativeError, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "iam_admin_policy",
    reads: &["iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListEntitiesForPolicy"],
    changes: &[
        "iam:AttachGroupPolicy",
        "iam:AttachRolePolicy",
        "iam:AttachUserPolicy",
        "iam:DetachGroupPolicy",
        "iam:DetachRolePolicy",
        "iam:DetachUserPolicy",
    ],
    make: |clients, request| Ok(Box::new(AdminPolicy::new(clients.iam.clone(), &request.job))),
};

/// The function on one policy.
#[derive(Debug)]
struct AdminPolicy {
    client: aws_sdk_iam::Client,
    arn: String,
}

impl AdminPolicy {
    fn new(client: aws_sdk_iam::Client, job: &Job) -> Self {
        Self { client, arn: job.resource_arn.to_string() }
    }

    /// A call for each who is in the one state and not in the other.
    fn calls(&self, verb: &str, these: &State, others: &State) -> Result<Vec<Call>, NativeError> {
        let kinds = [
            ("User", &these.users, &others.users),
            ("Group", &these.groups, &others.groups),
            ("Role", &these.roles, &others.roles),
        ];
        let mut calls = Vec::new();
        for (kind, these, others) in kinds {
            for name in these.iter().filter(|name| !others.contains(name)) {
                let with = json!({ format!("{kind}Name"): name, "PolicyArn": self.arn });
                calls.push(planned(&DECLARED, "iam", &format!("{verb}{kind}Policy"), &with)?);
            }
        }
        Ok(calls)
    }
}

#[async_trait]
impl Native for AdminPolicy {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.get_policy().policy_arn(&self.arn).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("GetPolicy", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
            answer => answer?,
        };
        let version = answer.policy().and_then(|policy| policy.default_version_id()).unwrap_or_default();
        let call = self.client.get_policy_version().policy_arn(&self.arn).version_id(version);
        let answer = call.send().await.map_err(|error| AwsFailure::of("GetPolicyVersion", &error))?;
        let document = answer.policy_version().and_then(|version| version.document()).unwrap_or_default();
        let policy = Policy::parse(&decoded(document))?;
        let mut state = State { administrator: policy.statements().any(|one| allows_all(&one)), ..State::default() };
        let mut marker: Option<String> = None;
        loop {
            let call = self.client.list_entities_for_policy().policy_arn(&self.arn);
            let call = call.policy_usage_filter(PolicyUsageType::PermissionsPolicy).set_marker(marker);
            let answer = call.send().await.map_err(|error| AwsFailure::of("ListEntitiesForPolicy", &error))?;
            state.users.extend(answer.policy_users().iter().filter_map(|user| user.user_name()).map(str::to_owned));
            state.groups.extend(answer.policy_groups().iter().filter_map(|one| one.group_name()).map(str::to_owned));
            state.roles.extend(answer.policy_roles().iter().filter_map(|role| role.role_name()).map(str::to_owned));
            marker = answer.marker().map(str::to_owned).filter(|_| answer.is_truncated());
            if marker.is_none() {
                break;
            }
        }
        for names in [&mut state.users, &mut state.groups, &mut state.roles] {
            names.sort();
        }
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        if !state.administrator {
            return Ok(Change::default());
        }
        if state.roles.iter().any(|role| role.starts_with("AWSReservedSSO_")) {
            return Err(NativeError::Refused(
                "a role of IAM Identity Center has the policy; take it out of the permission set, nothing was changed",
            ));
        }
        self.calls("Detach", &state, &State::default()).map(Change)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let mut calls = self.calls("Attach", &before, &now)?;
        calls.extend(self.calls("Detach", &now, &before)?);
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        let (policy, iam) = (given("PolicyArn"), &self.client);
        match call.operation.as_str() {
            "DetachUserPolicy" => {
                let call = iam.detach_user_policy().user_name(given("UserName")).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("DetachUserPolicy", &error))?;
            }
            "DetachGroupPolicy" => {
                let call = iam.detach_group_policy().group_name(given("GroupName")).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("DetachGroupPolicy", &error))?;
            }
            "DetachRolePolicy" => {
                let call = iam.detach_role_policy().role_name(given("RoleName")).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("DetachRolePolicy", &error))?;
            }
            "AttachUserPolicy" => {
                let call = iam.attach_user_policy().user_name(given("UserName")).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("AttachUserPolicy", &error))?;
            }
            "AttachGroupPolicy" => {
                let call = iam.attach_group_policy().group_name(given("GroupName")).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("AttachGroupPolicy", &error))?;
            }
            "AttachRolePolicy" => {
                let call = iam.attach_role_policy().role_name(given("RoleName")).policy_arn(policy);
                call.send().await.map_err(|error| AwsFailure::of("AttachRolePolicy", &error))?;
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
    administrator: bool,
    users: Vec<String>,
    groups: Vec<String>,
    roles: Vec<String>,
}

fn allows_all(statement: &Value) -> bool {
    let action = texts(&statement["Action"]);
    allows(statement)
        && action.iter().any(|action| matches!(*action, "*" | "*:*"))
        && texts(&statement["Resource"]).contains(&"*")
}

/// IAM gives documents percent-encoded.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                &tail[2..]
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{FakeAws, job};

    fn native() -> AdminPolicy {
        let arn = "arn:aws:iam::111122223333:policy/team/everything";
        AdminPolicy::new(aws_sdk_iam::Client::new(&FakeAws::default().config()), &job(arn))
    }

    fn image(administrator: bool, users: &[&str], roles: &[&str]) -> Image {
        let state = json!({ "Administrator": administrator, "Users": users, "Groups": ["admins"], "Roles": roles });
        Image { present: true, state }
    }

    #[test]
    fn everything_on_everything_is_detached_from_each_and_attached_again() {
        let before = image(true, &["alice"], &["build", "run"]);
        let calls = native().plan(&before).unwrap().0;
        let said: Vec<_> = calls.iter().map(|call| call.operation.as_str()).collect();
        assert_eq!(said, ["DetachUserPolicy", "DetachGroupPolicy", "DetachRolePolicy", "DetachRolePolicy"]);
        let none = Image {
            present: true,
            state: untyped(&State { administrator: true, ..State::default() }, "", "").unwrap(),
        };
        assert!(native().compliant(&none));
        let undo = native().plan_restore(&none, &before).unwrap().0;
        assert_eq!(undo.len(), 4);
        assert!(undo.iter().all(|call| call.operation.starts_with("Attach")));
    }

    #[test]
    fn a_narrower_policy_is_left_and_one_of_identity_center_is_refused() {
        assert!(native().compliant(&image(false, &["alice"], &[])));
        let reserved = image(true, &[], &["AWSReservedSSO_Admin_0123456789abcdef"]);
        assert!(matches!(native().plan(&reserved), Err(NativeError::Refused(_))));
    }

    #[test]
    fn only_an_allow_of_everything_on_everything_counts() {
        let statement = |effect: &str, action: Value, resource: Value| {
            allows_all(&json!({ "Effect": effect, "Action": action, "Resource": resource }))
        };
        assert!(
            statement("Allow", json!("*"), json!("*")) && statement("Allow", json!(["s3:Get*", "*:*"]), json!(["*"]))
        );
        assert!(!statement("Deny", json!("*"), json!("*")));
        assert!(!statement("Allow", json!("s3:*"), json!("*")));
        assert!(!statement("Allow", json!("*"), json!("arn:aws:s3:::b")));
    }

    #[test]
    fn documents_are_decoded_byte_for_byte() {
        assert_eq!(decoded("%7B%22A%22%3A%20%22%C3%BC+%25%22%7D"), "{\"A\": \"ü+%\"}");
        assert_eq!(decoded("100%"), "100%");
    }
}
