//! The name of an SSM Command document that is an account's own.
//!
//! One name serves every account and Region of an organisation, so it is no ARN: that would be right in one of them.
//! AWS's own documents are refused, too: they run whatever they are given.

use std::fmt;
use std::str::FromStr;

/// As the templates' parameter has it: empty for none.
pub const ALLOWED_PATTERN: &str = "^$|^(?!(?i:aws|amazon|amzn))[A-Za-z0-9_.-]{3,128}$";

/// What AWS keeps for its own documents, in small letters.
const RESERVED: [&str; 3] = ["aws", "amazon", "amzn"];

/// Why something is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandDocumentError {
    /// Systems Manager takes no such name.
    #[error("a document's name is 3 to 128 letters, digits and `_.-`; an ARN is none")]
    Form,
    /// It is a document of AWS's.
    #[error("names that begin with `aws`, `amazon` or `amzn` are those of AWS's own documents; make one of yours")]
    Reserved,
}

/// The name of an SSM Command document of the account that it is used in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandDocument(String);

impl CommandDocument {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CommandDocument {
    type Err = CommandDocumentError;

    fn from_str(text: &str) -> Result<Self, CommandDocumentError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if !(3..=128).contains(&text.len()) || !text.bytes().all(fits) {
            return Err(CommandDocumentError::Form);
        }
        let small = text.to_ascii_lowercase();
        if RESERVED.iter().any(|begin| small.starts_with(begin)) {
            return Err(CommandDocumentError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_the_accounts_own_and_no_arn() {
        let (longest, longer) = ("x".repeat(128), "x".repeat(129));
        for name in ["Redress-Memory-Linux", "a.b", "_memory", longest.as_str()] {
            assert_eq!(name.parse::<CommandDocument>().unwrap().as_str(), name);
        }
        let arn = "arn:aws:ssm:eu-central-1:111122223333:document/Redress-Memory-Linux";
        for wrong in ["", "ab", "a b c", "a/b", "memory*", "${AWS::Region}", arn, longer.as_str()] {
            assert_eq!(wrong.parse::<CommandDocument>(), Err(CommandDocumentError::Form), "{wrong}");
        }
        for reserved in ["AWS-RunShellScript", "aws-memory", "AmazonCloudWatch-ManageAgent", "amznMemory"] {
            assert_eq!(reserved.parse::<CommandDocument>(), Err(CommandDocumentError::Reserved), "{reserved}");
        }
    }

    #[test]
    fn the_templates_pattern_speaks_of_the_same_names() {
        // Rust's regular expressions do not look ahead, so that its parts are compared.
        let reserved = format!("(?!(?i:{}))", RESERVED.join("|"));
        assert_eq!(ALLOWED_PATTERN, format!("^$|^{reserved}[A-Za-z0-9_.-]{{3,128}}$"));
    }
}
