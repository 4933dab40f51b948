//! The EventBridge envelope: tells the reporters apart.

use super::Finding;
use crate::contract::Mode;
use crate::ids::RemediationId;

/// What an event turned out to be.
#[derive(Debug)]
pub enum Inbound {
    /// Findings, each parsed or refused on its own: one bad finding does not lose its neighbours.
    Findings(Vec<Result<Finding, ParseError>>),
    /// Somebody asks to undo a remediation.
    Undo {
        /// The remediation to undo.
        remediation: RemediationId,
        /// The asking principal.
        by: String,
        /// The event's id: the same request delivered twice is one undo.
        request: String,
        /// Why, in the asker's words.
        reason: String,
        /// `Restore`, or `DryRun` to see what would be put back.
        mode: Mode,
    },
    /// Well formed, and nothing to act on (a COMPLIANT evaluation, a PASSED check, our own update).
    Nothing {
        /// Why.
        reason: String,
    },
}

/// Why an input is refused.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// Replaced by the findings module.
    #[error("not implemented")]
    NotImplemented,
}

/// Parse the body of one queue message.
///
/// # Errors
/// When the envelope itself cannot be understood.
pub fn parse(_body: &[u8]) -> Result<Inbound, ParseError> {
    Err(ParseError::NotImplemented)
}
