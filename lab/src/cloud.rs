//! What AWS itself can do inside the lab: the [`Aws`] that services get.

use std::cell::RefCell;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::events::Events;
use crate::lambda::Functions;
use crate::record::Check;
use crate::service::{Aws, AwsError, Caller, Credentials};
use crate::shared::Shared;

tokio::task_local! {
    /// What a service checked beyond the request's own action, while it answers a call: it belongs to the call's record.
    pub(crate) static FURTHER_CHECKS: RefCell<Vec<Check>>;
}

/// The lab's AWS.
pub(crate) struct Cloud {
    pub(crate) shared: Arc<Shared>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) events: Arc<Events>,
}

#[async_trait]
impl Aws for Cloud {
    async fn session(
        &self,
        role_arn: &str,
        session_name: &str,
        service_principal: &str,
    ) -> Result<Credentials, AwsError> {
        self.shared.authority.session(role_arn, session_name, service_principal, None).await
    }

    async fn session_of(
        &self,
        role_arn: &str,
        session_name: &str,
        service_principal: &str,
        source_arn: &str,
    ) -> Result<Credentials, AwsError> {
        self.shared.authority.session(role_arn, session_name, service_principal, Some(source_arn)).await
    }

    async fn call(
        &self,
        credentials: &Credentials,
        region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        self.shared.call(credentials, region, service, operation, parameters).await
    }

    async fn authorise(&self, caller: &Caller, action: &str, resource: &str, context: Value) -> Result<(), AwsError> {
        let verdict = self.shared.authority.check(&caller.arn, action, resource, context).await;
        let check = Check { action: action.to_owned(), resource: resource.to_owned(), allowed: verdict.is_ok() };
        // A service that works on after its answer is in no call any more.
        if FURTHER_CHECKS.try_with(|checks| checks.borrow_mut().push(check)).is_err() {
            tracing::debug!(action, resource, "a check outside of any call");
        }
        verdict
    }

    async fn token_signer(&self, token: &str, cluster: &str) -> Result<Caller, AwsError> {
        self.shared.authority.token_signer(token, cluster).await
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
        self.events.emit(account, region, source, detail_type, resources, detail);
    }
}
