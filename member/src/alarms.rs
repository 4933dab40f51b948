//! CloudWatch's alarms: the few calls of that service that a native control needs, over its JSON protocol.
//!
//! `aws-sdk-cloudwatch` is not used: it turns on a second generation of HTTP types in every other SDK crate, for the
//! compression of metrics, which nobody here sends. Signing, retries and timeouts are the SDK's own.

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::provider::ProvideCredentials as _;
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use redress_common::arn::Partition;
use redress_common::aws::failure::AwsFailure;
use serde_json::Value;

/// The name of the API, as the header `x-amz-target` begins.
const TARGET: &str = "GraniteServiceVersion20100801";
const JSON: &str = "application/x-amz-json-1.0";

/// A client of CloudWatch in one Region.
#[derive(Debug, Clone)]
pub struct Alarms {
    config: Arc<SdkConfig>,
}

type Failed = SdkError<ErrorMetadata, HttpResponse>;

impl Alarms {
    /// The client of the configured Region.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self { config: Arc::new(config.clone()) }
    }

    /// Makes one call, and gives its answer.
    ///
    /// # Errors
    /// When AWS refuses it, or does not answer.
    pub async fn call(&self, operation: &'static str, parameters: &Value) -> Result<Value, AwsFailure> {
        self.send(operation, parameters).await.map_err(|error| AwsFailure::of(operation, &error))
    }

    async fn send(&self, operation: &'static str, parameters: &Value) -> Result<Value, Failed> {
        let config = &self.config;
        let endpoint = self.endpoint().map_err(SdkError::construction_failure)?;
        let request = self.signed(operation, &endpoint, parameters.to_string()).await?;
        let patience = config.timeout_config().cloned().unwrap_or_else(TimeoutConfig::disabled);
        let retries = config.retry_config().cloned().unwrap_or_else(RetryConfig::standard);
        let mut call = Operation::builder()
            .service_name("cloudwatch")
            .operation_name(operation)
            .endpoint_url(&endpoint)
            .no_auth()
            .standard_retry(&retries)
            .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::default())
            .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .timeout_config(patience);
        if let Some(client) = config.http_client() {
            call = call.http_client(client);
        }
        if let Some(sleep) = config.sleep_impl() {
            call = call.sleep_impl(sleep);
        }
        let call = call
            .serializer(|request: HttpRequest| Ok(request))
            .deserializer::<_, ErrorMetadata>(|answer| understood(answer).map_err(OrchestratorError::operation))
            .build();
        call.invoke(request).await
    }

    fn region(&self) -> Result<&Region, &'static str> {
        self.config.region().ok_or("no Region is configured")
    }

    /// The lab's, or AWS's own.
    fn endpoint(&self) -> Result<String, &'static str> {
        if let Some(endpoint) = self.config.endpoint_url() {
            return Ok(endpoint.trim_end_matches('/').to_owned());
        }
        let region = self.region()?;
        let known = region.as_ref().parse().map_err(|_| "no such Region")?;
        let domain = match Partition::of_region(&known) {
            Partition::China => "amazonaws.com.cn",
            Partition::Aws | Partition::UsGov => "amazonaws.com",
        };
        Ok(format!("https://monitoring.{region}.{domain}"))
    }

    async fn signed(&self, operation: &str, endpoint: &str, body: String) -> Result<HttpRequest, Failed> {
        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| SdkError::construction_failure("there are no credentials"))?;
        let identity = provider.provide_credentials().await.map_err(SdkError::construction_failure)?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region().map_err(SdkError::construction_failure)?.as_ref())
            .name("monitoring")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(SdkError::construction_failure)?;
        let url = format!("{endpoint}/");
        let target = format!("{TARGET}.{operation}");
        let headers = [("content-type", JSON), ("x-amz-target", target.as_str())];
        let signable = SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
            .map_err(SdkError::construction_failure)?;
        let signed = sign(signable, &parameters.into()).map_err(SdkError::construction_failure)?;
        let (instructions, _) = signed.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").map_err(SdkError::construction_failure)?;
        request.set_uri("/").map_err(SdkError::construction_failure)?;
        for (name, value) in headers.into_iter().chain(instructions.headers()) {
            request.headers_mut().insert(name.to_owned(), value.to_owned());
        }
        Ok(request)
    }
}

/// What CloudWatch says: an answer, or an error by code.
fn understood(answer: &HttpResponse) -> Result<Value, ErrorMetadata> {
    let body = answer.body().bytes().unwrap_or_default();
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    if answer.status().is_success() {
        return Ok(said);
    }
    let mut error = ErrorMetadata::builder();
    // `namespace#Code` in the body, `Code:more` in the header.
    let code = said["__type"].as_str().or_else(|| answer.headers().get("x-amzn-errortype"));
    if let Some(code) = code.and_then(|code| code.rsplit('#').next()?.split(':').next()) {
        error = error.code(code);
    }
    if let Some(message) = said["message"].as_str().or_else(|| said["Message"].as_str()) {
        error = error.message(message);
    }
    Err(error.build())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::FakeAws;

    #[tokio::test]
    async fn a_call_is_signed_for_cloudwatch_and_says_what_aws_says() {
        let aws = FakeAws::default();
        let alarms = Alarms::new(&aws.config());
        aws.answer("DescribeAlarms", 200, r#"{"MetricAlarms":[]}"#);
        let answer = alarms.call("DescribeAlarms", &json!({ "AlarmNames": ["a"] })).await.unwrap();
        assert_eq!(answer, json!({ "MetricAlarms": [] }));
        let seen = aws.seen().remove(0);
        assert_eq!(seen.name, "GraniteServiceVersion20100801.DescribeAlarms");
        assert_eq!(seen.body, br#"{"AlarmNames":["a"]}"#);
        let signature = &seen.headers["authorization"];
        assert!(signature.contains("/eu-central-1/monitoring/aws4_request"), "{signature}");
        assert!(signature.contains("x-amz-target"), "{signature}");
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_code() {
        let aws = FakeAws::default();
        let alarms = Alarms::new(&aws.config());
        let refused = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not you"}"#;
        aws.answer("PutMetricAlarm", 400, refused);
        let error = alarms.call("PutMetricAlarm", &json!({})).await.unwrap_err();
        assert_eq!(error.code(), Some("AccessDeniedException"));
        assert!(error.to_string().contains("not you"), "{error}");
        aws.answer("PutMetricAlarm", 503, "");
        assert!(alarms.call("PutMetricAlarm", &json!({})).await.unwrap_err().is_transient());
    }

    #[tokio::test]
    async fn without_an_endpoint_it_is_awss_of_the_region() {
        let config = FakeAws::default().config();
        let of = |region: &'static str| {
            let mut config = config.to_builder().region(Region::new(region));
            config.set_endpoint_url(None);
            Alarms::new(&config.build()).endpoint().unwrap()
        };
        assert_eq!(of("eu-west-1"), "https://monitoring.eu-west-1.amazonaws.com");
        assert_eq!(of("cn-north-1"), "https://monitoring.cn-north-1.amazonaws.com.cn");
    }
}
