//! What the gateway asks of the base emulator beyond AWS's API: who a key is, what its owner may do, calls by botocore.
//!
//! Knows `lab/python/base.py` and nothing of routing. It decides nothing itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use serde::Serialize;
use serde_json::{Value, json};

use crate::resources::Parsed;
use crate::service::{AwsError, Caller, Credentials};

/// The base emulator's answers.
pub(crate) struct Authority {
    http: reqwest::Client,
    base: String,
    token: String,
    callers: RwLock<HashMap<String, Caller>>,
    operations: RwLock<HashMap<String, String>>,
}

/// A resource's own policy and who wants to do what with it.
pub(crate) struct PolicyQuestion<'a> {
    /// The policy document, as JSON text.
    pub(crate) policy: &'a str,
    /// The caller's ARN; `*` when only the service counts.
    pub(crate) caller_arn: &'a str,
    /// The calling service: `events.amazonaws.com`.
    pub(crate) service_principal: Option<&'a str>,
    /// `sqs:SendMessage`.
    pub(crate) action: &'a str,
    /// The resource's ARN.
    pub(crate) resource: &'a str,
    /// Condition keys.
    pub(crate) context: Value,
}

/// A request that nobody makes, to be judged by the policies that are deployed.
#[derive(Debug, Clone, Serialize)]
pub struct Supposed {
    /// A session's ARN of a role that is there, or a service: `ssm.amazonaws.com`.
    pub who: String,
    /// `s3:PutObject`.
    pub action: String,
    /// The resource's ARN.
    pub resource: String,
    /// The account of the resource.
    pub owner: String,
    /// Where it is asked.
    pub region: String,
    /// The resource's own policy, or the role's trust policy, as it is deployed: JSON as text.
    pub policy: Option<String>,
    /// Condition keys of the request.
    pub context: BTreeMap<String, String>,
}

impl Authority {
    pub(crate) fn new(http: reqwest::Client, base: String, token: String) -> Self {
        Self { http, base, token, callers: RwLock::default(), operations: RwLock::default() }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Whose access key this is.
    pub(crate) async fn caller(&self, access_key_id: &str) -> Result<Caller, AwsError> {
        if let Some(known) = self.callers.read().unwrap_or_else(PoisonError::into_inner).get(access_key_id) {
            return Ok(known.clone());
        }
        let answer = self.ask("caller", json!({ "access_key_id": access_key_id })).await?;
        let caller: Caller = serde_json::from_value(answer).map_err(|error| unintelligible("caller", &error))?;
        // A long-term key can pass to another user of that name; a session's key never can.
        if !access_key_id.starts_with("AKIA") {
            self.callers
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(access_key_id.to_owned(), caller.clone());
        }
        Ok(caller)
    }

    /// Who signed a token for a cluster of EKS.
    pub(crate) async fn token_signer(&self, token: &str, cluster: &str) -> Result<Caller, AwsError> {
        let answer = self.ask("token", json!({ "token": token, "cluster": cluster })).await?;
        serde_json::from_value(answer).map_err(|error| unintelligible("token", &error))
    }

    /// What a function URL tells its function of the caller.
    pub(crate) async fn identity(&self, access_key_id: &str) -> Result<Value, AwsError> {
        self.ask("identity", json!({ "access_key_id": access_key_id })).await
    }

    /// One HTTP request, signed for a service unless there are no credentials.
    pub(crate) async fn fetch(&self, request: Value) -> Result<Value, AwsError> {
        self.ask("fetch", request).await
    }

    /// The API name of a REST operation, if the service has one at that path.
    pub(crate) async fn operation(&self, service: &str, method: &str, path: &str) -> Result<Option<String>, AwsError> {
        let key = format!("{service} {method} {path}");
        if let Some(known) = self.operations.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(known.clone()));
        }
        let answer = self.ask("operation", json!({ "service": service, "method": method, "path": path })).await?;
        let name = answer["operation"].as_str().map(str::to_owned);
        if let Some(name) = &name {
            self.operations.write().unwrap_or_else(PoisonError::into_inner).insert(key, name.clone());
        }
        Ok(name)
    }

    /// The operation of a request to one of these services of botocore's, and its parameters.
    pub(crate) async fn request(&self, models: &[&str], mut request: Value) -> Result<Parsed, AwsError> {
        request["models"] = json!(models);
        let answer = self.ask("request", request).await?;
        serde_json::from_value(answer).map_err(|error| unintelligible("request", &error))
    }

    /// A session of a role for a service, in the name of one of its resources.
    pub(crate) async fn session(
        &self,
        role_arn: &str,
        name: &str,
        service_principal: &str,
        source_arn: Option<&str>,
    ) -> Result<Credentials, AwsError> {
        let question = json!({
            "role_arn": role_arn, "session_name": name, "service_principal": service_principal, "source_arn": source_arn,
        });
        let answer = self.ask("session", question).await?;
        serde_json::from_value(answer).map_err(|error| unintelligible("session", &error))
    }

    /// Whether a caller's identity policies allow an action.
    pub(crate) async fn check(
        &self,
        caller_arn: &str,
        action: &str,
        resource: &str,
        context: Value,
    ) -> Result<(), AwsError> {
        let question = json!({ "caller_arn": caller_arn, "action": action, "resource": resource, "context": context });
        self.ask("check", question).await.map(|_| ())
    }

    /// Whether a resource's own policy allows an action.
    pub(crate) async fn check_policy(&self, asked: PolicyQuestion<'_>) -> Result<(), AwsError> {
        let question = json!({
            "policy": asked.policy, "caller_arn": asked.caller_arn, "service_principal": asked.service_principal,
            "action": asked.action, "resource": asked.resource, "context": asked.context,
        });
        self.ask("check", question).await.map(|_| ())
    }

    /// Whether a request would be allowed.
    pub(crate) async fn judge(&self, supposed: &Supposed) -> Result<bool, AwsError> {
        Ok(self.ask("judge", json!(supposed)).await?["allowed"] == true)
    }

    /// One API call against `endpoint`.
    pub(crate) async fn call(
        &self,
        endpoint: &str,
        credentials: &Credentials,
        region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        let question = json!({
            "endpoint": endpoint, "credentials": credentials, "region": region, "service": service,
            "operation": operation, "parameters": parameters,
        });
        self.ask("call", question).await
    }

    /// One API call as an account's root, straight to the base emulator: the lab's own housekeeping, not recorded.
    pub(crate) async fn look(
        &self,
        account: &str,
        region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        self.call(&self.base, &Credentials::root(account), region, service, operation, parameters).await
    }

    async fn ask_once(&self, question: &str, body: &Value) -> Result<Value, reqwest::Error> {
        let url = format!("{}/_lab/{question}", self.base);
        self.http.post(url).header("x-lab-token", &self.token).json(body).send().await?.json().await
    }

    /// The base emulator stumbles now and then when it changes and lists its accounts' state at the same moment: what
    /// changes nothing is asked once more.
    async fn ask(&self, question: &str, body: Value) -> Result<Value, AwsError> {
        let mut answer = match self.ask_once(question, &body).await {
            Err(_) if !CHANGES.contains(&question) => self.ask_once(question, &body).await,
            answer => answer,
        }
        .map_err(|error| unreachable(question, &error))?;
        if let Some(refused) = answer.get_mut("error") {
            let error = serde_json::from_value(refused.take()).map_err(|error| unintelligible(question, &error))?;
            return Err(error);
        }
        Ok(match answer.get_mut("ok") {
            Some(ok) => ok.take(),
            None => answer,
        })
    }
}

/// Questions that may change something.
const CHANGES: [&str; 2] = ["call", "fetch"];

fn unreachable(question: &str, error: &reqwest::Error) -> AwsError {
    failure(format!("the lab's base emulator did not answer `{question}`: {error}"))
}

fn unintelligible(question: &str, error: &serde_json::Error) -> AwsError {
    failure(format!("the lab's base emulator answered `{question}` with something else: {error}"))
}

fn failure(message: String) -> AwsError {
    AwsError { status: 500, code: "InternalFailure".to_owned(), message }
}
