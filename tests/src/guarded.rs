//! Asking a member's guard, as the orchestrator does: through the cross-account role, with the ExternalId.

use redress_common::contract::{GuardEvidence, GuardRequest};
use redress_common::names;
use redress_lab::service::AwsError;
use serde_json::{Value, json};

use crate::ask::Target;
use crate::world::World;

impl World {
    /// What the guard of the target's account finds.
    ///
    /// # Panics
    /// When it does not answer.
    #[expect(clippy::panic, reason = "without an answer there is no test")]
    pub async fn guarded(&self, target: &Target, indicators: &[&str]) -> GuardEvidence {
        let answer = self.ask_guard(&target.account, &self.guard_request(target, indicators)).await;
        match answer.map(serde_json::from_value) {
            Ok(Ok(evidence)) => evidence,
            other => panic!("the guard of {} did not answer: {other:?}", target.account),
        }
    }

    /// What the orchestrator would ask.
    ///
    /// # Panics
    /// When the target is not well formed.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's own mistake")]
    pub fn guard_request(&self, target: &Target, indicators: &[&str]) -> GuardRequest {
        let request = json!({
            "Control": target.control, "ResourceArn": target.arn, "ResourceType": "", "AccountId": target.account,
            "Region": self.region(), "Indicators": indicators,
        });
        serde_json::from_value(request).unwrap_or_else(|error| panic!("{target:?}: {error}"))
    }

    /// Invokes the guard of an account, and gives what it returned.
    ///
    /// # Errors
    /// As AWS answers, and when the function fails.
    pub async fn ask_guard(&self, account: &str, request: &GuardRequest) -> Result<Value, AwsError> {
        let aws = self.bed.lab.aws();
        let admin = self.administrator();
        let orchestrator = format!("arn:aws:iam::{admin}:role/{}", names::ORCHESTRATOR_ROLE);
        let by = aws.session(&orchestrator, "test", "lambda.amazonaws.com").await?;
        let role = format!("arn:aws:iam::{account}:role/{}", names::CROSS_ACCOUNT_ROLE);
        let session = self.assume(&by, &role, Some(&self.bed.organisation.external_id)).await;
        let payload = serde_json::to_string(request).unwrap_or_default();
        let invoke = json!({ "FunctionName": names::GUARD_FUNCTION, "Payload": payload });
        let answer = aws.call(&session, self.region(), "lambda", "Invoke", invoke).await?;
        let payload = match &answer["Payload"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            other => other.clone(),
        };
        match answer["FunctionError"].as_str() {
            None => Ok(payload),
            Some(kind) => Err(AwsError::new(kind, payload["errorMessage"].as_str().unwrap_or_default())),
        }
    }
}
