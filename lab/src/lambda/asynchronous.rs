//! Asynchronous invocations: tried again, and told of, as the function's configuration says.
//!
//! What becomes of the last failure is the role's doing: without a right to send to the destination it is lost.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Configuration, Functions, Invoked, PRINCIPAL};
use crate::service::AwsError;
use crate::shared::Arn;

/// An event is tried twice more at most; AWS waits a minute and two between, the lab does not.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// How the last try of an event ended.
struct Ending {
    payload: Bytes,
    tries: usize,
    result: Result<Invoked, AwsError>,
}

impl Functions {
    pub(super) async fn run_event(self: Arc<Self>, configuration: Arc<Configuration>, payload: Bytes) {
        let settings = self.event_settings(&configuration).await;
        let retries = settings["MaximumRetryAttempts"].as_u64().and_then(|most| usize::try_from(most).ok());
        let mut pauses = PAUSES.into_iter().take(retries.unwrap_or(PAUSES.len()));
        let mut tries = 0;
        let result = loop {
            tries += 1;
            let result = self.run(configuration.clone(), payload.clone()).await;
            if let Err(error) = &result {
                tracing::warn!(function = configuration.name, %error, "an asynchronous invocation failed");
            }
            if result.as_ref().is_ok_and(|invoked| invoked.error.is_none()) {
                break result;
            }
            match pauses.next() {
                Some(pause) => sleep(pause).await,
                None => break result,
            }
        };
        let ending = Ending { payload, tries, result };
        let destination = if ending.failed() { "OnFailure" } else { "OnSuccess" };
        let told = settings["DestinationConfig"][destination]["Destination"].as_str().map(str::to_owned);
        let letters = if ending.failed() { self.dead_letter_target(&configuration).await } else { None };
        let sent = [
            told.map(|to| (to, ending.record(&configuration), json!({}))),
            letters.map(|to| (to, String::from_utf8_lossy(&ending.payload).into_owned(), ending.attributes())),
        ];
        for (to, body, attributes) in sent.into_iter().flatten() {
            if let Err(error) = self.tell(&configuration, &to, body, attributes).await {
                tracing::warn!(function = configuration.name, to, %error, "the end of an event is not told");
            }
        }
    }

    /// `EventInvokeConfig`, whether it is the function's or that of `$LATEST`, which here is the same.
    async fn event_settings(&self, configuration: &Configuration) -> Value {
        let (account, region) = (&configuration.account, &configuration.region);
        let asked = json!({ "FunctionName": configuration.name });
        let operation = "ListFunctionEventInvokeConfigs";
        let listed = self.shared.authority.look(account, region, "lambda", operation, asked).await;
        listed.map(|listed| listed["FunctionEventInvokeConfigs"][0].clone()).unwrap_or_default()
    }

    async fn dead_letter_target(&self, configuration: &Configuration) -> Option<String> {
        let (account, region) = (&configuration.account, &configuration.region);
        let asked = json!({ "FunctionName": configuration.name });
        let found = self.shared.authority.look(account, region, "lambda", "GetFunctionConfiguration", asked).await;
        Some(found.ok()?["DeadLetterConfig"]["TargetArn"].as_str()?.to_owned())
    }

    /// Sends to a destination as the function's role.
    async fn tell(
        &self,
        configuration: &Configuration,
        to: &str,
        body: String,
        attributes: Value,
    ) -> Result<(), AwsError> {
        let unsupported = || AwsError::new("UnsupportedTarget", format!("the lab tells queues and topics, not {to}"));
        let arn = Arn::parse(to).ok_or_else(unsupported)?;
        let authority = &self.shared.authority;
        let (operation, parameters) = match arn.service {
            "sqs" => {
                let asked = json!({ "QueueName": arn.resource, "QueueOwnerAWSAccountId": arn.account });
                let found = authority.look(arn.account, arn.region, "sqs", "GetQueueUrl", asked).await?;
                let parameters =
                    json!({ "QueueUrl": found["QueueUrl"], "MessageBody": body, "MessageAttributes": attributes });
                ("SendMessage", parameters)
            }
            "sns" => ("Publish", json!({ "TopicArn": to, "Message": body, "MessageAttributes": attributes })),
            _ => return Err(unsupported()),
        };
        let session = authority.session(&configuration.role, &configuration.name, PRINCIPAL, None).await?;
        self.shared.call(&session, arn.region, arn.service, operation, parameters).await.map(|_| ())
    }
}

impl Ending {
    fn failed(&self) -> bool {
        !self.result.as_ref().is_ok_and(|invoked| invoked.error.is_none())
    }

    fn error(&self) -> Option<&str> {
        match &self.result {
            Ok(invoked) => invoked.error,
            Err(error) => Some(&error.code),
        }
    }

    /// What a destination gets.
    fn record(&self, configuration: &Configuration) -> String {
        let answer = self.result.as_ref().ok().and_then(|invoked| serde_json::from_slice(&invoked.payload).ok());
        let mut response = json!({ "statusCode": 200, "executedVersion": "$LATEST" });
        if let Some(error) = self.error() {
            response["functionError"] = error.into();
        }
        json!({
            "version": "1.0", "timestamp": Timestamp::now().to_string(),
            "requestContext": {
                "requestId": uuid::Uuid::new_v4().to_string(), "functionArn": format!("{}:$LATEST", configuration.arn),
                "condition": if self.failed() { "RetriesExhausted" } else { "Success" },
                "approximateInvokeCount": self.tries,
            },
            "requestPayload": serde_json::from_slice(&self.payload).unwrap_or(Value::Null),
            "responseContext": response, "responsePayload": answer.unwrap_or(Value::Null),
        })
        .to_string()
    }

    /// What a dead letter says beside the event itself.
    fn attributes(&self) -> Value {
        let message = match &self.result {
            Ok(invoked) => {
                let answer: Value = serde_json::from_slice(&invoked.payload).unwrap_or_default();
                answer["errorMessage"].as_str().unwrap_or("the function failed").to_owned()
            }
            Err(error) => error.message.clone(),
        };
        let text = |kind: &str, value: String| json!({ "DataType": kind, "StringValue": value });
        json!({
            "RequestID": text("String", uuid::Uuid::new_v4().to_string()),
            "ErrorCode": text("Number", "200".to_owned()),
            "ErrorMessage": text("String", message.chars().take(1024).collect()),
        })
    }
}
