//! Stacks that a client makes itself, without a stack set: what the emulator's CloudFormation leaves out of them is added
//! as soon as they are whole, as it is for the stacks of stack sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::StackSets;
use crate::service::{Aws, AwsError, Credentials};
use crate::stack::{Done, Place};

/// What makes a stack.
pub(super) const MAKES: [&str; 2] = ["CreateStack", "UpdateStack"];
/// Where a client of the lab may make stacks itself: where the administrator account's are.
const REGION: &str = "us-east-1";
/// The stacks of stack sets are completed by those.
const OF_SETS: &str = "StackSet-";

/// What was done, by the stack's id.
pub(super) type Completed = Arc<Mutex<BTreeMap<String, Done>>>;

impl StackSets {
    /// Completes the stacks of an account, each once for each of its templates.
    pub(super) async fn complete(self, account: String, aws: Arc<dyn Aws>) {
        let Some(completed) = self.direct.clone() else { return };
        // One at a time: of two updates the first is completed first.
        let mut completed = completed.lock().await;
        // When a stack is whole, those that it nests are there: they are found by another look.
        let mut seen = BTreeSet::new();
        loop {
            let found = match call(aws.as_ref(), &account, "DescribeStacks", json!({})).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, account, "the stacks of an account cannot be read; they are not completed");
                    return;
                }
            };
            let before = seen.len();
            for stack in found["Stacks"].as_array().into_iter().flatten() {
                let name = stack["StackName"].as_str().unwrap_or_default();
                let id = stack["StackId"].as_str().unwrap_or(name).to_owned();
                let is_gone = stack["StackStatus"].as_str().is_some_and(|status| status.starts_with("DELETE"));
                if name.starts_with(OF_SETS) || is_gone || !seen.insert(id.clone()) {
                    continue;
                }
                let done = completed.get(&id).cloned().unwrap_or_default();
                match self.complete_one(&account, stack, &done, aws.as_ref()).await {
                    Ok(done) => drop(completed.insert(id, done)),
                    Err(error) => tracing::warn!(%error, account, name, "a stack is not completed"),
                }
            }
            if seen.len() == before {
                return;
            }
        }
    }

    async fn complete_one(&self, account: &str, stack: &Value, done: &Done, aws: &dyn Aws) -> Result<Done, AwsError> {
        let failed = |error: &dyn std::error::Error| AwsError::new("Incomplete", error.to_string());
        let credentials = Credentials::root(account);
        let place = Place { aws, credentials, account, region: REGION, documents: Some(&self.documents) };
        let wanted = place.made(stack).await.map_err(|error| failed(&error))?;
        place.complete_theirs(&wanted, done).await.map_err(|error| failed(&error))
    }
}

async fn call(aws: &dyn Aws, account: &str, operation: &str, parameters: Value) -> Result<Value, AwsError> {
    aws.call(&Credentials::root(account), REGION, "cloudformation", operation, parameters).await
}
