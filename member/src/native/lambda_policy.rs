//! `lambda_policy`: a function's policy lets nobody in from everywhere.
//!
//! A function's policy is not put as a document: statements are removed by their id and added by their parts. So only a
//! public statement whose parts can all be said again is removed; the undo adds it back. Where S3 may invoke without a
//! word on whose bucket, the statement is added again for this account's buckets before the open one goes.

use async_trait::async_trait;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy_text::{Policy, allows, aws_principals, is_public, texts};
use super::{Declared, Native, NativeError, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "lambda_policy",
    reads: &["lambda:GetFunction", "lambda:GetPolicy"],
    changes: &["lambda:AddPermission", "lambda:RemovePermission"],
    make: |clients, request| Ok(Box::new(LambdaPolicy::new(clients.lambda.clone(), request))),
};

/// The function on one function.
#[derive(Debug)]
struct LambdaPolicy {
    client: aws_sdk_lambda::Client,
    function: String,
    account: String,
}

impl LambdaPolicy {
    fn new(client: aws_sdk_lambda::Client, request: &RemediateRequest) -> Self {
        Self { client, function: request.job.resource_name.clone(), account: request.account_id.to_string() }
    }

    fn remove(&self, statement: &Value) -> Result<Call, NativeError> {
        let with = json!({ "FunctionName": self.function, "StatementId": statement["Sid"] });
        planned(&DECLARED, "lambda", "RemovePermission", &with)
    }

    fn add(&self, permission: &Permission) -> Result<Call, NativeError> {
        let mut with = untyped(permission, "a call", DECLARED.name)?;
        with["FunctionName"] = self.function.clone().into();
        planned(&DECLARED, "lambda", "AddPermission", &with)
    }
}

#[async_trait]
impl Native for LambdaPolicy {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        const MISSING: &str = "ResourceNotFoundException";
        let answer = self.client.get_policy().function_name(&self.function).send().await;
        let mut statements = match answer.map_err(|error| AwsFailure::of("GetPolicy", &error)) {
            // The same answer means no policy and no function.
            Err(failure) if failure.code() == Some(MISSING) => {
                let function = self.client.get_function().function_name(&self.function).send().await;
                match function.map_err(|error| AwsFailure::of("GetFunction", &error)) {
                    Err(failure) if failure.code() == Some(MISSING) => return Ok(None),
                    Err(failure) => return Err(failure.into()),
                    Ok(_) => Vec::new(),
                }
            }
            answer => match answer?.policy() {
                Some(policy) => Policy::parse(policy)?.statements().collect(),
                None => Vec::new(),
            },
        };
        // What is added again comes last; the order says nothing.
        statements.sort_by_key(|statement| statement["Sid"].to_string());
        let state = State { statements };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let State { statements } = typed(&now.state, "the state", DECLARED.name)?;
        let mut calls = Vec::new();
        for statement in &statements {
            if is_public(statement) {
                Permission::of(statement)?;
                calls.push(self.remove(statement)?);
            } else if lets_any_bucket(statement) {
                let mut pinned = Permission::of(statement)?;
                pinned.statement_id = format!("{}-own", pinned.statement_id);
                pinned.source_account = Some(self.account.clone());
                if !statements.iter().any(|other| other["Sid"] == pinned.statement_id.as_str()) {
                    calls.push(self.add(&pinned)?);
                }
                calls.push(self.remove(statement)?);
            }
        }
        Ok(Change(calls))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let missing = before.statements.iter().filter(|statement| !now.statements.contains(statement));
        let mut calls: Vec<Call> =
            missing.map(|statement| self.add(&Permission::of(statement)?)).collect::<Result<_, _>>()?;
        for statement in now.statements.iter().filter(|statement| !before.statements.contains(statement)) {
            calls.push(self.remove(statement)?);
        }
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let function = call.parameters["FunctionName"].as_str().unwrap_or_default();
        match call.operation.as_str() {
            "RemovePermission" => {
                let id = call.parameters["StatementId"].as_str().unwrap_or_default();
                let call = self.client.remove_permission().function_name(function).statement_id(id);
                call.send().await.map_err(|error| AwsFailure::of("RemovePermission", &error))?;
                Ok(())
            }
            "AddPermission" => {
                let given: Permission = typed(&call.parameters, "a call", DECLARED.name)?;
                let call = self
                    .client
                    .add_permission()
                    .function_name(function)
                    .statement_id(given.statement_id)
                    .action(given.action)
                    .principal(given.principal)
                    .set_source_arn(given.source_arn)
                    .set_source_account(given.source_account)
                    .set_principal_org_id(given.principal_org_id)
                    .set_event_source_token(given.event_source_token)
                    .set_function_url_auth_type(given.function_url_auth_type.map(|kind| kind.as_str().into()));
                call.send().await.map_err(|error| AwsFailure::of("AddPermission", &error))?;
                Ok(())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

/// The image's state: the statements, by id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    statements: Vec<Value>,
}

/// Whether any bucket of anybody may invoke.
fn lets_any_bucket(statement: &Value) -> bool {
    let s3 = texts(&statement["Principal"]["Service"]).iter().any(|service| service.starts_with("s3."));
    let conditions = statement["Condition"].as_object().into_iter().flatten();
    let mut keys = conditions.filter_map(|(_, keys)| keys.as_object()).flat_map(serde_json::Map::keys);
    allows(statement) && s3 && !keys.any(|key| key.eq_ignore_ascii_case("aws:SourceAccount"))
}

/// A statement by the parts that `AddPermission` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Permission {
    statement_id: String,
    action: String,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_account: Option<String>,
    #[serde(rename = "PrincipalOrgID", skip_serializing_if = "Option::is_none")]
    principal_org_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_source_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_url_auth_type: Option<String>,
}

impl Permission {
    /// Refused when a part could not be said again.
    fn of(statement: &Value) -> Result<Self, NativeError> {
        const ODD: NativeError = NativeError::Refused(
            "a statement of the function's policy has a part that could not be put back; remove it by hand",
        );
        let one = |value: &Value| match texts(value).as_slice() {
            [text] => Ok((*text).to_owned()),
            _ => Err(ODD),
        };
        let principal = match (aws_principals(statement).as_slice(), &statement["Principal"]["Service"]) {
            ([principal], Value::Null) => (*principal).to_owned(),
            ([], service) => one(service)?,
            _ => return Err(ODD),
        };
        let mut found = Self {
            statement_id: one(&statement["Sid"])?,
            action: one(&statement["Action"])?,
            principal,
            ..Self::default()
        };
        for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
            for (key, value) in keys.as_object().into_iter().flatten() {
                let part = match (operator.as_str(), key.to_ascii_lowercase().as_str()) {
                    ("ArnLike", "aws:sourcearn") => &mut found.source_arn,
                    ("StringEquals", "aws:sourceaccount") => &mut found.source_account,
                    ("StringEquals", "aws:principalorgid") => &mut found.principal_org_id,
                    ("StringEquals", "lambda:eventsourcetoken") => &mut found.event_source_token,
                    ("StringEquals", "lambda:functionurlauthtype") => &mut found.function_url_auth_type,
                    _ => return Err(ODD),
                };
                *part = Some(one(value)?);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{FakeAws, job};

    fn native() -> LambdaPolicy {
        let config = FakeAws::default().config();
        let request = RemediateRequest {
            job: job("arn:aws:lambda:eu-central-1:111122223333:function:resize"),
            native: DECLARED.name.to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            parameters: [].into(),
            copy: None,
        };
        LambdaPolicy::new(aws_sdk_lambda::Client::new(&config), &request)
    }

    fn statement(sid: &str, principal: Value, condition: Value) -> Value {
        let mut statement = json!({ "Sid": sid, "Effect": "Allow", "Principal": principal, "Action": "lambda:InvokeFunction",
            "Resource": "arn:aws:lambda:eu-central-1:111122223333:function:resize" });
        if !condition.is_null() {
            statement["Condition"] = condition;
        }
        statement
    }

    fn image(statements: &[Value]) -> Image {
        Image { present: true, state: json!({ "Statements": statements }) }
    }

    #[test]
    fn a_public_statement_goes_and_comes_back_with_all_its_parts() {
        let url = statement("url", json!("*"), json!({ "StringEquals": { "lambda:FunctionUrlAuthType": "NONE" } }));
        let api = statement(
            "api",
            json!({ "Service": "apigateway.amazonaws.com" }),
            json!({ "ArnLike": { "AWS:SourceArn": "arn:aws:execute-api:*:*:x" } }),
        );
        let before = image(&[api.clone(), url.clone()]);
        let calls = native().plan(&before).unwrap().0;
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].parameters, json!({ "FunctionName": "resize", "StatementId": "url" }));
        let undo = native().plan_restore(&image(&[api]), &before).unwrap().0;
        assert_eq!(undo.len(), 1);
        assert_eq!(undo[0].parameters["FunctionUrlAuthType"], "NONE");
        assert_eq!(undo[0].parameters["Principal"], "*");
    }

    #[test]
    fn s3_is_pinned_to_this_account_before_the_open_statement_goes() {
        let any = statement(
            "s3",
            json!({ "Service": "s3.amazonaws.com" }),
            json!({ "ArnLike": { "AWS:SourceArn": "arn:aws:s3:::photos" } }),
        );
        let calls = native().plan(&image(std::slice::from_ref(&any))).unwrap().0;
        assert_eq!(calls[0].operation, "AddPermission");
        assert_eq!(calls[0].parameters["SourceAccount"], "111122223333");
        assert_eq!(calls[0].parameters["SourceArn"], "arn:aws:s3:::photos");
        assert_eq!(calls[1].operation, "RemovePermission");
        let own = statement(
            "s3-own",
            json!({ "Service": "s3.amazonaws.com" }),
            json!({ "StringEquals": { "AWS:SourceAccount": "111122223333" } }),
        );
        assert!(native().compliant(&image(&[own])));
    }

    #[test]
    fn what_could_not_be_put_back_is_not_removed() {
        let odd = statement("odd", json!("*"), json!({ "Bool": { "aws:SecureTransport": "true" } }));
        assert!(matches!(native().plan(&image(&[odd])), Err(NativeError::Refused(_))));
    }
}
