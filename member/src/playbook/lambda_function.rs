//! `contain_lambda_function`: a function is not run any more.
//!
//! A reserved concurrency of nothing throttles every invocation, of every version and alias. What runs goes on to its end,
//! and what was sent asynchronously waits for up to six hours. With `RevokeRoleSessions` the sessions of the function's role
//! are revoked, too: what was stolen from its environment is worth nothing then. That meets whatever else runs as the role.

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::containable;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use redress_common::ids::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::deny;
use super::iam_role::{self, RoleState, Wanted};
use crate::native::{Declared, Native, NativeError, boolean, planned, typed, untyped};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_lambda_function",
    reads: &["iam:GetRole", "iam:GetRolePolicy", "lambda:GetFunctionConcurrency", "lambda:GetFunctionConfiguration"],
    changes: &[
        "iam:DeleteRolePolicy",
        "iam:PutRolePolicy",
        "lambda:DeleteFunctionConcurrency",
        "lambda:PutFunctionConcurrency",
    ],
    make: |clients, request| {
        let (lambda, iam) = (clients.lambda.clone(), clients.iam.clone());
        Ok(Box::new(ContainFunction::new(lambda, iam, request, Timestamp::now())?))
    },
};

const MISSING: &str = "ResourceNotFoundException";

/// The playbook on one function.
#[derive(Debug)]
struct ContainFunction {
    lambda: aws_sdk_lambda::Client,
    iam: aws_sdk_iam::Client,
    arn: Arn,
    function: String,
    account: AccountId,
    /// What its role is denied, when it is to be.
    role: Option<Wanted>,
}

impl ContainFunction {
    /// Parameter `RevokeRoleSessions`.
    fn new(
        lambda: aws_sdk_lambda::Client,
        iam: aws_sdk_iam::Client,
        request: &RemediateRequest,
        now: Timestamp,
    ) -> Result<Self, NativeError> {
        let wrong = || NativeError::Parameter { name: "RevokeRoleSessions".to_owned(), expected: "true or false" };
        let revoke = request.parameters.get("RevokeRoleSessions").map_or(Some(false), boolean).ok_or_else(wrong)?;
        let role = if revoke { Some(Wanted::sessions(request, now)?) } else { None };
        let (arn, function) = (request.job.resource_arn.clone(), request.job.resource_name.clone());
        Ok(Self { lambda, iam, arn, function, account: request.account_id.clone(), role })
    }

    fn concurrency(&self, reserved: Option<i64>) -> Result<Call, NativeError> {
        match reserved {
            Some(reserved) => {
                let with = json!({ "FunctionName": self.function, "ReservedConcurrentExecutions": reserved });
                planned(&DECLARED, "lambda", "PutFunctionConcurrency", &with)
            }
            None => {
                let with = json!({ "FunctionName": self.function });
                planned(&DECLARED, "lambda", "DeleteFunctionConcurrency", &with)
            }
        }
    }

    /// The function's role, when its sessions are to be revoked.
    async fn its_role_if_meant(&self) -> Result<Option<RoleState>, NativeError> {
        if self.role.is_none() {
            return Ok(None);
        }
        self.its_role().await.map(Some)
    }

    /// The function's role, which must be this account's.
    async fn its_role(&self) -> Result<RoleState, NativeError> {
        let answer = self.lambda.get_function_configuration().function_name(&self.function).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("GetFunctionConfiguration", &error))?;
        let arn: Option<Arn> = answer.role().and_then(|role| role.parse().ok());
        let arn = arn.filter(|arn| arn.account() == Some(&self.account));
        let name = arn.as_ref().and_then(|arn| arn.capture("arn:*:iam::*:role/{path}"));
        let name = name.ok_or(NativeError::Form { what: "the function's role", native: DECLARED.name })?;
        let role = iam_role::read(&self.iam, name).await?;
        role.ok_or_else(|| NativeError::NotNow(format!("the function's role {name} does not exist")))
    }
}

fn name(role: &RoleState) -> &str {
    role.arn.resource().rsplit('/').next().unwrap_or_default()
}

#[async_trait]
impl Native for ContainFunction {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let (answer, role) = tokio::join!(
            self.lambda.get_function_concurrency().function_name(&self.function).send(),
            self.its_role_if_meant()
        );
        let answer = match answer.map_err(|error| AwsFailure::of("GetFunctionConcurrency", &error)) {
            Err(failure) if failure.code() == Some(MISSING) => return Ok(None),
            answer => answer?,
        };
        let reserved = answer.reserved_concurrent_executions().map(i64::from);
        let state = State { reserved_concurrency: reserved, role: role? };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        if let Some(reason) = containable::refusal(&self.arn) {
            return Err(NativeError::Refused(reason));
        }
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let mut calls = Vec::new();
        if state.reserved_concurrency != Some(0) {
            calls.push(self.concurrency(Some(0))?);
        }
        if let (Some(wanted), Some(role)) = (self.role, &state.role) {
            calls.extend(wanted.plan(&DECLARED, name(role), role)?);
        }
        Ok(Change(calls))
    }

    /// The function is run again when its role is as it was.
    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let mut calls = Vec::new();
        if let (Some(has), Some(had)) = (&now.role, &before.role) {
            if has.arn != had.arn {
                return Err(NativeError::Refused("the function has got another role since; nothing was changed"));
            }
            calls.extend(iam_role::plan_restore(&DECLARED, name(had), has, had)?);
        }
        if now.reserved_concurrency != before.reserved_concurrency {
            calls.push(self.concurrency(before.reserved_concurrency)?);
        }
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        const FORM: NativeError = NativeError::Form { what: "a call", native: DECLARED.name };
        if let Some(done) = deny::call(&self.iam, call).await {
            return done;
        }
        match call.operation.as_str() {
            "PutFunctionConcurrency" => {
                let reserved = call.parameters["ReservedConcurrentExecutions"].as_i64();
                let reserved = reserved.and_then(|reserved| i32::try_from(reserved).ok()).ok_or(FORM)?;
                let put = self.lambda.put_function_concurrency().function_name(&self.function);
                let put = put.reserved_concurrent_executions(reserved);
                put.send().await.map_err(|error| AwsFailure::of("PutFunctionConcurrency", &error))?;
                Ok(())
            }
            "DeleteFunctionConcurrency" => {
                let delete = self.lambda.delete_function_concurrency().function_name(&self.function);
                delete.send().await.map_err(|error| AwsFailure::of("DeleteFunctionConcurrency", &error))?;
                Ok(())
            }
            _ => Err(FORM),
        }
    }

    /// Each call may be made again: it sets what it says.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let read = |image: &Image| typed::<State>(&image.state, "the state", DECLARED.name);
        let (Ok(now), Ok(before)) = (read(now), read(before)) else { return false };
        let is_ours = |role: &RoleState| role.policy.as_deref().is_some_and(|text| deny::Deny::of(text).is_some());
        let role = match (&now.role, &before.role) {
            (Some(now), Some(before)) => now == before || (now.arn == before.arn && is_ours(now)),
            (now, before) => now == before,
        };
        role && (now.reserved_concurrency == Some(0) || now.reserved_concurrency == before.reserved_concurrency)
    }
}

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    /// `None` when none is reserved, which is not the same as nothing.
    reserved_concurrency: Option<i64>,
    /// Its role, where its sessions are to be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<RoleState>,
}

#[cfg(test)]
#[path = "lambda_function_tests.rs"]
mod tests;
