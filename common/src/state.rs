//! The states of a remediation and the ways between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// Where a remediation stands. Written as `ExecutionStatus` of each ledger record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// An event was taken in.
    Received,
    /// Policy said what to do.
    Planned,
    /// A person is asked.
    AwaitingApproval,
    /// A worker holds the claim.
    Claimed,
    /// The runbook was started.
    Applying,
    /// The change was made.
    Applied,
    /// The change was read back.
    Verified,
    /// Policy said to do nothing.
    Ignored,
    /// Policy (or a guard) said to tell people only.
    Notified,
    /// A person said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// It could not be done.
    Failed,
    /// Done, but the read-back does not show it.
    Unverified,
    /// Its pre-image was put back.
    RolledBack,
}

impl State {
    const ALL: [Self; 14] = [
        Self::Received,
        Self::Planned,
        Self::AwaitingApproval,
        Self::Claimed,
        Self::Applying,
        Self::Applied,
        Self::Verified,
        Self::Ignored,
        Self::Notified,
        Self::Denied,
        Self::Expired,
        Self::Failed,
        Self::Unverified,
        Self::RolledBack,
    ];

    /// As the ledger writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "Received",
            Self::Planned => "Planned",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Claimed => "Claimed",
            Self::Applying => "Applying",
            Self::Applied => "Applied",
            Self::Verified => "Verified",
            Self::Ignored => "Ignored",
            Self::Notified => "Notified",
            Self::Denied => "Denied",
            Self::Expired => "Expired",
            Self::Failed => "Failed",
            Self::Unverified => "Unverified",
            Self::RolledBack => "RolledBack",
        }
    }

    /// Whether nothing follows of itself. An undo may still follow.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(
            self,
            Self::Received | Self::Planned | Self::AwaitingApproval | Self::Claimed | Self::Applying | Self::Applied
        )
    }

    /// Whether `redress undo` may be asked for: something may have been changed.
    #[must_use]
    pub const fn is_undoable(self) -> bool {
        matches!(self, Self::Applied | Self::Verified | Self::Unverified | Self::Failed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| InvalidId::new(text, "a remediation state such as `Verified`"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_back_as_it_is_written() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str(), "the ledger and json agree");
        }
        assert!("verified".parse::<State>().is_err());
    }

    #[test]
    fn what_may_have_changed_something_can_be_undone() {
        let undoable: Vec<_> = State::ALL.into_iter().filter(|state| state.is_undoable()).collect();
        assert_eq!(undoable, [State::Applied, State::Verified, State::Failed, State::Unverified]);
    }

    #[test]
    fn nothing_follows_of_itself_on_an_end() {
        let open: Vec<_> = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
        use State::{Applied, Applying, AwaitingApproval, Claimed, Planned, Received};
        assert_eq!(open, [Received, Planned, AwaitingApproval, Claimed, Applying, Applied]);
    }
}
