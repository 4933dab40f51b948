//! [`super::run::Post`] over the official SDK, and its HTTP client for what is not AWS.
//!
//! One call each. A body of a request or an answer, a header or a URL is in no log.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest as Wire;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use jiff::Timestamp;
use redress_common::aws::config;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Dynamo, Store as _, StoreError, TransactError};
use redress_common::aws::state_table::{Expect, Snapshot, StateKey};
use redress_common::items::destination::Hosts;
use redress_common::names;

use super::http::{DeliveryError, HttpAnswer, HttpRequest, Secret};
use super::run::{Notifier, Post};
use crate::aws::SetupError;

/// A request and its answer take no longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// No more of an answer is kept, in bytes.
const LONGEST: usize = 16 * 1024;
/// For tests alone: destinations may lie on this machine. The template never sets it.
const LOOPBACK: &str = "REDRESS_NOTIFY_LOOPBACK";

/// AWS and the destinations.
#[derive(Debug)]
pub struct World {
    store: Dynamo,
    secrets: aws_sdk_secretsmanager::Client,
    sqs: aws_sdk_sqs::Client,
    queue: String,
    dead_letters: String,
    connector: Connector,
}

/// The function, from its environment.
///
/// # Errors
/// When the environment lacks something.
pub fn from_environment() -> Result<Notifier<World>, SetupError> {
    let base = config::from_environment()?;
    let region = config::variable("AWS_REGION")?;
    let home = region.parse().map_err(|_| SetupError::Malformed { name: "AWS_REGION", reason: region })?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&base);
    let world = World {
        // It has no business in the ledger, and no right there.
        store: Dynamo::new(dynamodb, config::variable("STATE_TABLE")?, names::AUDIT_TABLE),
        secrets: aws_sdk_secretsmanager::Client::new(&base),
        sqs: aws_sdk_sqs::Client::new(&base),
        queue: config::variable("NOTIFICATIONS_QUEUE_URL")?,
        dead_letters: config::variable("NOTIFICATIONS_DLQ_URL")?,
        connector: Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build(),
    };
    let hosts = Hosts { loopback: std::env::var(LOOPBACK).is_ok_and(|value| value == "1") };
    Ok(Notifier::new(world, config::variable("AWS_LAMBDA_FUNCTION_NAME")?, home, hosts))
}

impl Post for World {
    async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        self.store.read(keys).await
    }

    async fn put_if<T: serde::Serialize + Sync>(
        &self,
        key: &StateKey,
        value: &T,
        expect: Expect,
    ) -> Result<(), TransactError> {
        self.store.put_if(key, value, expect).await
    }

    async fn secret(&self, arn: &str) -> Result<Secret, AwsFailure> {
        const OPERATION: &str = "secretsmanager:GetSecretValue";
        let answer = self.secrets.get_secret_value().secret_id(arn).send().await;
        let answer = answer.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let text =
            answer.secret_string.ok_or_else(|| AwsFailure::refused(OPERATION, "NoText", "the secret is no text"));
        text.map(Secret::new)
    }

    async fn send(&self, request: &HttpRequest) -> Result<HttpAnswer, DeliveryError> {
        let no_answer = || DeliveryError::NoAnswer { host: request.host().to_owned() };
        let wire = wire(request).map_err(|()| DeliveryError::Refused {
            host: request.host().to_owned(),
            status: 0,
            said: "the request cannot be made: look at the endpoint and the secret".to_owned(),
        })?;
        let exchange = async {
            let answer = self.connector.call(wire).await.map_err(|_| no_answer())?;
            let status = answer.status().as_u16();
            let retry_after = answer.headers().get("retry-after").and_then(|value| wait(value, Timestamp::now()));
            let body = ByteStream::new(answer.into_body()).collect().await.map_err(|_| no_answer())?;
            let mut body = body.to_vec();
            body.truncate(LONGEST);
            Ok(HttpAnswer { status, retry_after, body })
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn hide(&self, receipt: &str, seconds: u32) -> Result<(), AwsFailure> {
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        let hidden = self.sqs.change_message_visibility().queue_url(&self.queue).receipt_handle(receipt);
        let hidden = hidden.visibility_timeout(seconds).send().await;
        hidden.map(drop).map_err(|error| AwsFailure::of("sqs:ChangeMessageVisibility", &error))
    }

    async fn dead_letter(&self, body: &str, attributes: &BTreeMap<String, String>) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:SendMessage";
        let mut request = self.sqs.send_message().queue_url(&self.dead_letters).message_body(body);
        for (name, value) in attributes {
            let attribute =
                aws_sdk_sqs::types::MessageAttributeValue::builder().data_type("String").string_value(value);
            let attribute = attribute.build().map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
            request = request.message_attributes(name, attribute);
        }
        request.send().await.map(drop).map_err(|error| AwsFailure::of(OPERATION, &error))
    }
}

/// The request as the client takes it. The reason of one that cannot be would tell a part of it.
fn wire(request: &HttpRequest) -> Result<Wire, ()> {
    let body = request.body.as_ref().map_or_else(SdkBody::empty, |body| SdkBody::from(body.to_string()));
    let mut wire = Wire::new(body);
    wire.set_uri(request.url.expose()).map_err(drop)?;
    wire.set_method(request.method).map_err(drop)?;
    let headers = wire.headers_mut();
    for (name, value) in [("accept", "application/json"), ("user-agent", "redress")] {
        headers.insert(name, value);
    }
    if request.body.is_some() {
        headers.insert("content-type", "application/json; charset=utf-8");
    }
    if let Some(authorization) = &request.authorization {
        headers.try_insert("authorization", authorization.expose().to_owned()).map_err(drop)?;
    }
    Ok(wire)
}

/// How many seconds a server asks for: a number, or a date.
fn wait(header: &str, now: Timestamp) -> Option<u32> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(seconds);
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    u32::try_from((date.as_second() - now.as_second()).max(0)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_patience_in_seconds_or_by_a_date() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(wait("30", now), Some(30));
        assert_eq!(wait("Sun, 01 Mar 2026 12:01:00 GMT", now), Some(60));
        assert_eq!(wait("Sun, 01 Mar 2026 11:00:00 GMT", now), Some(0));
        assert_eq!(wait("soon", now), None);
    }

    #[test]
    fn what_cannot_be_a_header_or_a_url_is_no_request() {
        let request = |url: &str, header: &str| HttpRequest {
            method: "POST",
            url: Secret::new(url),
            authorization: Some(Secret::new(header)),
            body: None,
        };
        assert!(wire(&request("https://hooks.slack.com/x", "Bearer a")).is_ok());
        assert!(wire(&request("https://hooks.slack.com/x", "Bearer a\r\nx: y")).is_err());
        assert!(wire(&request("https://hooks slack", "Bearer a")).is_err());
    }
}
