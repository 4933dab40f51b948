//! What an AWS call that did not succeed says, in one line that a person can act on.
//!
//! Holds the operation, AWS's error code and message; never a request's or an answer's body.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// An AWS call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{operation}` failed: {}{message}", code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default())]
pub struct AwsFailure {
    operation: &'static str,
    code: Option<String>,
    message: String,
}

impl AwsFailure {
    /// What the SDK reports of `operation`.
    pub fn of<E, R>(operation: &'static str, error: &SdkError<E, R>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug,
    {
        let code = error.code().map(str::to_owned);
        let message = match (error.message(), &code) {
            (Some(message), _) => message.to_owned(),
            (None, Some(_)) => "AWS gave no message".to_owned(),
            (None, None) => match error {
                // The answer's debug form may hold what it carries.
                SdkError::ServiceError(_) => "AWS gave no error code".to_owned(),
                SdkError::ResponseError(_) => "the answer could not be read".to_owned(),
                SdkError::ConstructionFailure(_) => "the request could not be built".to_owned(),
                SdkError::TimeoutError(_) => "no answer in time".to_owned(),
                SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                    Some(connector) => format!("no connection: {}", causes(connector)),
                    None => "no connection".to_owned(),
                },
                _ => "no answer".to_owned(),
            },
        };
        Self { operation, code, message }
    }

    /// A call that AWS answered with success, but whose answer says that it was not, or not wholly, done.
    #[must_use]
    pub fn partial(operation: &'static str, message: impl Into<String>) -> Self {
        Self { operation, code: None, message: message.into() }
    }

    /// What AWS refused with this code.
    #[must_use]
    pub fn refused(operation: &'static str, code: &str, message: &str) -> Self {
        Self { operation, code: Some(code.to_owned()), message: message.to_owned() }
    }

    /// AWS's error code, such as `AccessDenied`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// An error and what caused it, each once. In words only: the debug form may hold what was sent and answered.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Codes with which AWS says "not now": throttling, contention, its own trouble.
const TRANSIENT: [&str; 16] = [
    "AutomationExecutionLimitExceededException",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServerErrorException",
    "InternalServiceError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RateExceeded",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Codes with which AWS says that it does not know itself.
const UNANSWERED: [&str; 7] = [
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServerErrorException",
    "InternalServiceError",
    "RequestTimeout",
    "ServiceUnavailable",
];

impl AwsFailure {
    /// Whether nobody knows if the call was done: no answer, or AWS's own trouble.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.code.as_deref().is_none_or(|code| UNANSWERED.contains(&code))
    }

    /// Whether the same call may succeed later. Without a code nobody knows what happened: that may, too.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.code.as_deref().is_none_or(|code| TRANSIENT.contains(&code))
    }
}
