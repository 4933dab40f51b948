//! An [`Aws`] for tests: answers calls from a function, and keeps calls and events.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::service::{Aws, AwsError, Caller, Credentials, Request};

type Answer = Box<dyn Fn(&str, &str, &Value) -> Result<Value, AwsError> + Send + Sync>;

/// The fake.
pub(crate) struct FakeAws {
    answer: Answer,
    events: Mutex<Vec<Value>>,
    calls: Mutex<Vec<(String, String, Value)>>,
}

impl FakeAws {
    /// Answers every call by `answer(service, operation, parameters)`.
    pub(crate) fn new(answer: impl Fn(&str, &str, &Value) -> Result<Value, AwsError> + Send + Sync + 'static) -> Self {
        Self { answer: Box::new(answer), events: Mutex::default(), calls: Mutex::default() }
    }

    /// One that is not to be called.
    pub(crate) fn silent() -> Self {
        Self::new(|service, operation, _| Err(AwsError::new("Unexpected", format!("{service}:{operation}"))))
    }

    /// The events since the last time.
    pub(crate) fn events(&self) -> Vec<Value> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every call so far, as account, `service:operation` and parameters.
    pub(crate) fn calls(&self) -> Vec<(String, String, Value)> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Aws for FakeAws {
    async fn session(&self, _: &str, _: &str, _: &str) -> Result<Credentials, AwsError> {
        Err(AwsError::new("Unexpected", "session"))
    }

    async fn call(
        &self,
        credentials: &Credentials,
        _region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        let answer = (self.answer)(service, operation, &parameters);
        let call = (credentials.access_key_id.clone(), format!("{service}:{operation}"), parameters);
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        answer
    }

    async fn authorise(&self, _: &Caller, _: &str, _: &str, _: Value) -> Result<(), AwsError> {
        Ok(())
    }

    async fn emit(
        &self,
        account: &str,
        region: &str,
        source: &str,
        detail_type: &str,
        resources: Vec<String>,
        detail: Value,
    ) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(json!({
            "account": account, "region": region, "source": source, "detail-type": detail_type, "resources": resources, "detail": detail,
        }));
    }
}

/// A request of an account's administrator in us-east-1.
pub(crate) fn request(service: &str, account: &str, operation: &str, body: Value) -> Request {
    Request {
        caller: Caller { account: account.to_owned(), arn: format!("arn:test:iam::{account}:root") },
        region: "us-east-1".to_owned(),
        service: service.to_owned(),
        operation: operation.to_owned(),
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: std::collections::BTreeMap::new(),
        body,
    }
}
