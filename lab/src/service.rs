//! What a service that the lab answers itself looks like, and what it may do as AWS.
//!
//! The gateway has authenticated and authorised a request before a [`Service`] sees it. A service knows
//! nothing of HTTP connections, signatures or emulators: it gets a [`Request`] and an [`Aws`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The caller's account.
    pub account: String,
    /// The caller's ARN, such as `arn:aws:sts::111122223333:assumed-role/Role/session`.
    pub arn: String,
}

/// A request that the gateway let through.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who calls.
    pub caller: Caller,
    /// The Region of the signature's scope.
    pub region: String,
    /// The service of the signature's scope: `ssm`, `securityhub`.
    pub service: String,
    /// The operation by its API name: `StartAutomationExecution`.
    pub operation: String,
    /// HTTP method.
    pub method: String,
    /// Path, percent-decoded; `/` for JSON-protocol services.
    pub path: String,
    /// Query parameters.
    pub query: BTreeMap<String, String>,
    /// The body, parsed, in which a form's scalars are texts; `null` when empty or neither JSON nor a form.
    pub body: Value,
}

/// An error as AWS answers it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{code}: {message}")]
pub struct AwsError {
    /// HTTP status, 400 unless it is something else.
    pub status: u16,
    /// AWS's error code: `AccessDeniedException`.
    pub code: String,
    /// AWS's message.
    pub message: String,
}

impl AwsError {
    /// An error with status 400.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.into(), message: message.into() }
    }
}

/// Temporary credentials of a role session (or an account's root in the lab).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token; absent for an account's root.
    pub session_token: Option<String>,
}

impl Credentials {
    /// The root of an account: a key that is the account's id. Lab only.
    #[must_use]
    pub fn root(account: &str) -> Self {
        Self { access_key_id: account.to_owned(), secret_access_key: "lab".to_owned(), session_token: None }
    }
}

/// What AWS itself can do inside the lab.
#[async_trait]
pub trait Aws: Send + Sync {
    /// A session of `role_arn` for a service such as `ssm.amazonaws.com`, if the role's trust policy lets that service in.
    async fn session(
        &self,
        role_arn: &str,
        session_name: &str,
        service_principal: &str,
    ) -> Result<Credentials, AwsError>;

    /// The same in the name of one of the service's resources, which the trust policy may ask for as `aws:SourceArn`.
    async fn session_of(
        &self,
        role_arn: &str,
        session_name: &str,
        service_principal: &str,
        _source_arn: &str,
    ) -> Result<Credentials, AwsError> {
        self.session(role_arn, session_name, service_principal).await
    }

    /// One AWS API call with these credentials, through the gateway: signed, authorised and recorded like any client's.
    /// `service` and `operation` are botocore's names (`s3`, `PutPublicAccessBlock`), `parameters` the API's.
    /// Blobs in the answer are base64, times RFC 3339. An S3 body or Lambda payload is returned as text.
    async fn call(
        &self,
        credentials: &Credentials,
        region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError>;

    /// Whether `caller` may do `action` on `resource`, by its identity policies: for checks beyond the request's own,
    /// such as `iam:PassRole`. `context` holds condition keys such as `iam:PassedToService`.
    async fn authorise(&self, caller: &Caller, action: &str, resource: &str, context: Value) -> Result<(), AwsError>;

    /// Who signed a token for a cluster of EKS, which EKS learns from STS: nobody unless the signature is good, is of this
    /// cluster's name, and is not too old.
    async fn token_signer(&self, _token: &str, cluster: &str) -> Result<Caller, AwsError> {
        Err(AwsError::new("Unauthorized", format!("nobody here knows who signs tokens for cluster {cluster}")))
    }

    /// Put an event of AWS's own (`aws.ssm`, `aws.config`, …) on the default bus of an account and Region.
    async fn emit(
        &self,
        account: &str,
        region: &str,
        source: &str,
        detail_type: &str,
        resources: Vec<String>,
        detail: Value,
    );
}

/// A service, or the part of one, that the lab answers itself.
#[async_trait]
pub trait Service: Send + Sync {
    /// The signature-scope name: `ssm`.
    fn name(&self) -> &'static str;

    /// Whether this operation is answered here; any other goes to the base emulator.
    fn answers(&self, operation: &str) -> bool;

    /// The ARNs to authorise the request's action on (all must be allowed); empty for an action without resource-level permissions.
    fn resources(&self, request: &Request) -> Vec<String>;

    /// Answer it. The gateway writes the answer in the protocol of the request: JSON, or the query protocol's XML.
    async fn handle(&self, request: Request, aws: std::sync::Arc<dyn Aws>) -> Result<Value, AwsError>;

    /// Whether it completes what an emulator answers to this operation of its own name.
    fn completes(&self, _operation: &str) -> bool {
        false
    }

    /// Completes an emulator's answer. The request's body holds the API's parameters of the first level.
    async fn complete(
        &self,
        _request: Request,
        _answer: &mut Value,
        _aws: std::sync::Arc<dyn Aws>,
    ) -> Result<(), AwsError> {
        Ok(())
    }

    /// Whether it wants to know that this operation of another service was performed.
    fn minds(&self, _service: &str, _operation: &str) -> bool {
        false
    }

    /// An operation that it minds was performed for this account.
    fn happened(&self, _account: &str, _operation: &str, _aws: std::sync::Arc<dyn Aws>) {}
}
