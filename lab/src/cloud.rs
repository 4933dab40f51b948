//! What AWS itself can do inside the lab: the [`Aws`] that services get.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::events::Events;
use crate::lambda::Functions;
use crate::service::{Aws, AwsError, Caller, Credentials};
use crate::shared::Shared;

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
        self.shared.authority.session(role_arn, session_name, service_principal).await
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
        self.shared.authority.check(&caller.arn, action, resource, context).await
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
