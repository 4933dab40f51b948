//! What every Lambda does once, when it starts.

use redress_common::arn::{Arn, ArnError};
use redress_common::aws::config::{self, MissingVariable};
use redress_common::aws::evidence::{EvidenceWriter, Lock};
use redress_common::command_document::{CommandDocument, CommandDocumentError};

/// The function is deployed wrongly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable is missing.
    #[error(transparent)]
    Missing(#[from] MissingVariable),
    /// `KMS_KEY_ID` is not the ARN of a key.
    #[error("`KMS_KEY_ID` must be the ARN of the member's key, with its account and Region: {0}")]
    Key(String),
    /// `INCIDENT_LOCK_DAYS` or `INCIDENT_LOCK_MODE` is none.
    #[error("`INCIDENT_LOCK_DAYS` must be 1 to 3650 and `INCIDENT_LOCK_MODE` GOVERNANCE or COMPLIANCE")]
    Lock,
    /// `MEMORY_CAPTURE_DOCUMENT` is the name of no document of the account's own.
    #[error("`MEMORY_CAPTURE_DOCUMENT`, the stack's parameter `MemoryCaptureDocument`, names no document: {0}")]
    MemoryCapture(#[from] CommandDocumentError),
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

/// The same for a function that keeps what is taken of incidents.
///
/// # Errors
/// As [`from_environment`]; and when it is not said how that is locked.
pub fn keeper_from_environment() -> Result<(aws_types::SdkConfig, EvidenceWriter), StartError> {
    let (config, evidence) = from_environment()?;
    let (days, mode) = (config::variable("INCIDENT_LOCK_DAYS")?, config::variable("INCIDENT_LOCK_MODE")?);
    let lock = Lock::parse(&days, &mode).ok_or(StartError::Lock)?;
    Ok((config, evidence.with_lock(lock)))
}

/// The document that captures the memory of instances, as the stack names it; `None` where it names none.
///
/// # Errors
/// When it is the name of no document of the account's own.
pub fn memory_capture_from_environment() -> Result<Option<CommandDocument>, StartError> {
    // Only the function that contains instances has it.
    memory_capture(&std::env::var("MEMORY_CAPTURE_DOCUMENT").unwrap_or_default())
}

fn memory_capture(text: &str) -> Result<Option<CommandDocument>, StartError> {
    if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_names_a_document_that_captures_memory_or_none_and_a_bad_name_is_told_with_its_parameter() {
        assert_eq!(memory_capture("").unwrap(), None);
        assert_eq!(memory_capture("Memory-Linux").unwrap(), Some("Memory-Linux".parse().unwrap()));
        let arn = "arn:aws:ssm:eu-central-1:111122223333:document/Memory-Linux";
        for (wrong, why) in [(arn, "an ARN is none"), ("AWS-RunShellScript", "AWS's own documents")] {
            let told = memory_capture(wrong).unwrap_err().to_string();
            assert!(told.contains("`MemoryCaptureDocument`") && told.contains(why), "{told}");
        }
    }
}
