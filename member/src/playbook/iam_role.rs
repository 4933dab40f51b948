//! `contain_iam_role`: the open sessions of a role are worth nothing, or the role itself is not.
//!
//! One inline policy. `RevokeSessions` denies everything to sessions that were opened before a moment: who may assume the
//! role opens a new one, so what is run by an owner who does goes on, and a stolen session key is dead. `DenyAll` denies
//! everything to everyone who assumes it. The trust policy stays as it is. Roles that AWS or Redress need are refused
//! ([`redress_common::containable`]): what a role may be is read from IAM, since a finding names it without its path.

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::containable;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::deny::{self, Deny, Of};
use crate::native::{Declared, Native, NativeError, typed, untyped};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_iam_role",
    reads: &["iam:GetRole", "iam:GetRolePolicy"],
    changes: &["iam:DeleteRolePolicy", "iam:PutRolePolicy"],
    make: |clients, request| Ok(Box::new(ContainRole::new(clients.iam.clone(), request, Timestamp::now())?)),
};

/// The playbook on one role.
#[derive(Debug)]
struct ContainRole {
    client: aws_sdk_iam::Client,
    role: String,
    wanted: Wanted,
}

/// What a role is to be denied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    deny: Deny,
    /// Whether any revocation will do: the request says no time, so one that there is already may be its own.
    any: bool,
}

impl Wanted {
    /// Everything.
    pub(super) const ALL: Self = Self { deny: Deny::All, any: false };

    /// What was done with sessions that were opened before the request's time; by `now` when it tells none.
    pub(super) fn sessions(request: &RemediateRequest, now: Timestamp) -> Result<Self, NativeError> {
        let told = deny::issued_before(&request.parameters)?;
        Ok(Self { deny: Deny::sessions(told.unwrap_or(now)), any: told.is_none() })
    }

    /// The call that denies it to a role.
    pub(super) fn plan(self, declared: &Declared, role: &str, now: &RoleState) -> Result<Option<Call>, NativeError> {
        if let Some(reason) = containable::refusal(&now.arn) {
            return Err(NativeError::Refused(reason));
        }
        if self.any && now.policy.as_deref().is_some_and(|text| Deny::of(text).is_some()) {
            return Ok(None);
        }
        deny::plan(declared, Of::Role, role, now.policy.as_deref(), self.deny)
    }
}

/// A role as the playbooks see it; `None` when there is none.
pub(super) async fn read(client: &aws_sdk_iam::Client, role: &str) -> Result<Option<RoleState>, NativeError> {
    let (answer, policy) = tokio::join!(client.get_role().role_name(role).send(), deny::read(client, Of::Role, role));
    let answer = match answer.map_err(|error| AwsFailure::of("GetRole", &error)) {
        Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
        answer => answer?,
    };
    let arn = answer.role().and_then(|role| role.arn().parse().ok());
    let arn = arn.ok_or(NativeError::Form { what: "the ARN of a role", native: DECLARED.name })?;
    Ok(Some(RoleState { arn, policy: policy? }))
}

/// The call that makes the policy of a role again what it was before.
pub(super) fn plan_restore(
    declared: &Declared,
    role: &str,
    now: &RoleState,
    before: &RoleState,
) -> Result<Option<Call>, NativeError> {
    deny::plan_restore(declared, Of::Role, role, now.policy.as_deref(), before.policy.as_deref())
}

/// The state of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct RoleState {
    /// With its path.
    pub(super) arn: Arn,
    /// The text of policy `redress-contain`.
    pub(super) policy: Option<String>,
}

impl ContainRole {
    /// Parameter `Mode`.
    fn new(client: aws_sdk_iam::Client, request: &RemediateRequest, now: Timestamp) -> Result<Self, NativeError> {
        let wanted = match request.parameters.get("Mode").map_or(Some("RevokeSessions"), Value::as_str) {
            Some("RevokeSessions") => Wanted::sessions(request, now)?,
            Some("DenyAll") => Wanted::ALL,
            _ => {
                let expected = "`RevokeSessions` or `DenyAll`";
                return Err(NativeError::Parameter { name: "Mode".to_owned(), expected });
            }
        };
        Ok(Self { client, role: request.job.resource_name.clone(), wanted })
    }
}

#[async_trait]
impl Native for ContainRole {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(state) = read(&self.client, &self.role).await? else { return Ok(None) };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: RoleState = typed(&now.state, "the state", DECLARED.name)?;
        Ok(Change(self.wanted.plan(&DECLARED, &self.role, &state)?.into_iter().collect()))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: RoleState = typed(&now.state, "the state", DECLARED.name)?;
        let before: RoleState = typed(&before.state, "the state", DECLARED.name)?;
        Ok(Change(plan_restore(&DECLARED, &self.role, &now, &before)?.into_iter().collect()))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let done = deny::call(&self.client, call).await;
        done.unwrap_or(Err(NativeError::Form { what: "a call", native: DECLARED.name }))
    }
}

#[cfg(test)]
#[path = "iam_role_tests.rs"]
pub(super) mod tests;
