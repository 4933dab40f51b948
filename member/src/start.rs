//! What both Lambdas do once, when they start.

use redress_common::arn::{Arn, ArnError};
use redress_common::aws::config::{self, MissingVariable};
use redress_common::aws::evidence::EvidenceWriter;

/// The function is deployed wrongly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable is missing.
    #[error(transparent)]
    Missing(#[from] MissingVariable),
    /// `KMS_KEY_ID` is not the ARN of a key.
    #[error("`KMS_KEY_ID` must be the ARN of the member's key, with its account and Region: {0}")]
    Key(String),
}

impl From<ArnError> for StartError {
    fn from(error: ArnError) -> Self {
        Self::Key(error.to_string())
    }
}

/// The SDK configuration and the evidence writer, from the Lambda's environment.
///
/// # Errors
/// When the environment lacks something.
pub fn from_environment() -> Result<(aws_types::SdkConfig, EvidenceWriter), StartError> {
    let config = config::from_environment()?;
    let key: Arn = config::variable("KMS_KEY_ID")?.parse()?;
    let evidence = EvidenceWriter::new(&config, config::variable("EVIDENCE_BUCKET")?, &key)
        .ok_or_else(|| StartError::Key(format!("`{key}` names no account and Region")))?;
    Ok((config, evidence))
}
