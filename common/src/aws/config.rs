//! How a Lambda of Redress reaches AWS: credentials from its environment, one HTTP client for all services.
//!
//! The default provider chain is left out on purpose: a Lambda has its credentials in the environment, and
//! the chain's other links (profiles, SSO, IMDS) cost size and start-up time.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::sdk_config::Builder;

/// The Lambda's environment lacks something that the runtime or the template must set.
#[derive(Debug, thiserror::Error)]
#[error("environment variable `{name}` is not set; the Lambda runtime or the stack's template sets it")]
pub struct MissingVariable {
    name: &'static str,
}

/// A variable that must be there.
///
/// # Errors
/// When it is not set or not Unicode.
pub fn variable(name: &'static str) -> Result<String, MissingVariable> {
    std::env::var(name).map_err(|_| MissingVariable { name })
}

/// The SDK configuration of a Lambda: its own role, its Region, and `AWS_ENDPOINT_URL` when set (the lab sets it).
///
/// # Errors
/// When a variable that the Lambda runtime always sets is missing.
pub fn from_environment() -> Result<SdkConfig, MissingVariable> {
    let credentials = Credentials::new(
        variable("AWS_ACCESS_KEY_ID")?,
        variable("AWS_SECRET_ACCESS_KEY")?,
        std::env::var("AWS_SESSION_TOKEN").ok(),
        None,
        "environment",
    );
    let mut builder = builder(variable("AWS_REGION")?, credentials);
    if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL") {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(builder.build())
}

/// What every client of a Lambda in this Region has.
pub(super) fn builder(region: String, credentials: Credentials) -> Builder {
    SdkConfig::builder()
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        // They are at hand: there is nothing to load, and no copy to look for.
        .identity_cache(aws_sdk_dynamodb::config::IdentityCache::no_cache())
        .http_client(http_client())
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()))
        .time_source(aws_smithy_async::time::SharedTimeSource::new(aws_smithy_async::time::SystemTimeSource::new()))
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(3))
                .operation_attempt_timeout(Duration::from_secs(10))
                .build(),
        )
        .behavior_version(aws_smithy_runtime_api::client::behavior_version::BehaviorVersion::latest())
}

/// The HTTP client of every AWS client: rustls with ring.
#[must_use]
pub fn http_client() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// An HTTP client that trusts one authority and no other: of what is no service of AWS, such as a cluster's Kubernetes API.
/// `None` when the TLS library takes no such client.
#[must_use]
pub fn http_client_trusting(authority: &[u8]) -> Option<aws_smithy_runtime_api::client::http::SharedHttpClient> {
    use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
    let trusted = TrustStore::empty().with_pem_certificate(authority);
    let context = TlsContext::builder().with_trust_store(trusted).build().ok()?;
    let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    Some(builder.tls_context(context).build_https())
}
