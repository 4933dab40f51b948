//! What policy says: ignore, notify, approve or act, and which policies said so.
//!
//! Policies are Cedar, validated against a schema before they are used; a set that does not validate is refused.
//! Fails closed: what cannot be evaluated, and what depends on a fact that is not known, never leads to more than
//! telling people. Nothing here does I/O, or knows of claims and switches.
//!
//! [`Question`] (what the pipeline has at hand) → [`Asked`] (what is asked, as the ledger keeps it) →
//! [`Policies::ask`] → [`Verdict`].

mod exempt;
mod facts;
mod question;
mod scene;
mod set;
mod source;

use std::collections::BTreeSet;

pub use facts::Fact;
pub use question::{Asked, Asker, Calendar, Question, kind, time_zone};
pub use set::{Explanation, Policies, Said};
pub use source::{SCHEMA, SourceProblem, source};

/// A policy set is refused, or cannot be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PolicyError {
    /// It is not Cedar, does not fit the schema, or breaks a rule of ours.
    #[error("the policy set is refused: {}", said(.0))]
    Refused(Vec<SourceProblem>),
    /// The set in force is the operators' own, and there is none.
    #[error("the settings ask for the operators' own policy set, and there is none; `redress policy set` stores one")]
    Absent,
    /// The question does not fit the schema.
    #[error("policy cannot be asked about this finding: {0}")]
    Question(String),
    /// An exemption that cannot be made a policy. Without knowing what is exempt, nothing may be changed.
    #[error(
        "exemption `{id}` cannot be read, so nothing may be changed: {why}; `redress exemption remove` takes it back"
    )]
    Exemption {
        /// Which.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a time zone.
    #[error("`{0}` is no time zone; give a name of the IANA database, such as `Europe/Berlin` or `UTC`")]
    TimeZone(String),
}

fn said(problems: &[SourceProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What policy says to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// Nothing, with a record.
    Ignore,
    /// Tell people.
    Notify,
    /// Ask a person, then act.
    Approve,
    /// Act.
    Act,
}

impl Disposition {
    /// As the ledger writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Notify => "notify",
            Self::Approve => "approve",
            Self::Act => "act",
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Verdict {
    /// What to do.
    pub disposition: Disposition,
    /// The ids of the policies that decided: those that permit it, and those that forbade more.
    pub policies: BTreeSet<String>,
    /// How many different people must say yes, when [`Disposition::Approve`]; else 0.
    pub approvers: u32,
    /// Whether who asked may not be one of them.
    pub four_eyes: bool,
    /// The exemption that forbade more, by its own id.
    pub exemption: Option<String>,
    /// Set when something could not be evaluated, so that nothing may be done.
    pub error: Option<String>,
    /// The facts for want of which that is so. Asked again with them, policy may say more.
    pub missing: BTreeSet<Fact>,
}

/// Whether somebody may say yes to an approval.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Permission {
    /// Whether they may.
    pub permitted: bool,
    /// The ids of the policies that decided; none when no policy speaks for it.
    pub policies: BTreeSet<String>,
    /// Set when something could not be evaluated, so that they may not.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests;
