//! What can go wrong for the person at the terminal: what failed, on what, what to do, and the exit code.

use std::error::Error;

use miette::Diagnostic;
use redress_common::aws::failure::causes;

/// How a command ends. The numbers are promised in `redress --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Refused = 3,
    NotFound = 4,
    TimedOut = 5,
    Unseen = 6,
}

/// A command that did not do what it was asked to.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub(crate) struct Problem {
    message: String,
    #[help]
    help: Option<String>,
    exit: Exit,
}

impl Problem {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, exit }
    }

    /// Something did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// AWS or policy said no.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// No answer yet.
    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Self::new(Exit::TimedOut, message)
    }

    /// What an AWS call (or anything else with a chain of causes) answered. What `doing` says comes first:
    /// "read the ledger".
    pub(crate) fn aws(doing: &str, error: &dyn Error) -> Self {
        let causes = causes(error);
        let message = format!("cannot {doing}: {causes}");
        let says = |words: &[&str]| words.iter().any(|word| causes.contains(word));
        if says(&["AccessDenied", "not authorized", "UnauthorizedOperation"]) {
            Self::refused(message)
                .help("the caller's role lacks this permission; `aws sts get-caller-identity` shows who you are")
        } else if says(&["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient", "SignatureDoesNotMatch"]) {
            Self::refused(message)
                .help("log in again, or choose another --profile; for the lab: eval \"$(redress lab env)\"")
        } else if says(&["ResourceNotFoundException", "NoSuchBucket"]) {
            Self::not_found(message)
                .help("is Redress deployed in this account and Region? Choose with --profile and --region; for the lab: eval \"$(redress lab env)\"")
        } else if says(&["no providers in chain", "credentials provider was not enabled", "not loaded"]) {
            Self::failed(message)
                .help("log in to the administrator account (--profile), or use the lab: eval \"$(redress lab env)\"")
        } else if says(&["dispatch failure", "ConnectError", "onnection refused", "timeout"]) {
            Self::failed(message).help("is the endpoint reachable? For the lab: `redress lab status`; otherwise look at --endpoint-url, --region and the network")
        } else {
            Self::failed(message)
        }
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// As `--json` says it.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "Error": self.message, "Help": self.help, "ExitCode": self.exit as u8 })
    }

    /// In plain text.
    pub(crate) fn plain(&self) -> String {
        let help = self.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
        format!("error: {}{help}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("service error")]
    struct Outer(#[source] std::io::Error);

    fn aws(says: &str) -> Problem {
        Problem::aws("read the ledger", &Outer(std::io::Error::other(says)))
    }

    #[test]
    fn what_aws_denies_is_refused_and_names_the_cause() {
        let problem = aws("AccessDeniedException: not allowed to dynamodb:Query");
        assert_eq!(problem.exit(), Exit::Refused);
        assert_eq!(
            problem.plain().lines().next(),
            Some("error: cannot read the ledger: service error: AccessDeniedException: not allowed to dynamodb:Query")
        );
    }

    #[test]
    fn every_known_cause_comes_with_what_to_do() {
        for says in ["AccessDenied", "ExpiredTokenException", "ResourceNotFoundException", "connection refused"] {
            assert!(aws(says).plain().contains("\n  help: "), "{says}");
        }
        assert!(!aws("something new").plain().contains("help:"));
    }

    #[test]
    fn the_json_form_carries_the_exit_code() {
        assert_eq!(aws("ResourceNotFoundException").json()["ExitCode"], 4);
    }
}
