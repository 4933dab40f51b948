//! The ExternalId of a member account: the organisation's secret prefix, and the account's own id.
//!
//! One prefix is given to the administrator stack and to the stack set of the members; the templates put the account's
//! id behind it themselves, so that no account needs a parameter of its own. Neither value has a readable `Debug` form.

use std::fmt;
use std::str::FromStr;

use crate::ids::AccountId;

/// AWS takes an ExternalId of at most 1,224 characters; a hyphen and twelve digits follow the prefix.
const LONGEST: usize = 1_224 - 13;
/// A shorter prefix could be guessed.
const SHORTEST: usize = 16;

/// What was given is no prefix. The text itself is told to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prefix of the ExternalIds is not {SHORTEST} to {LONGEST} letters, digits and `+=,.@:/_-`; for example `openssl rand -hex 16`"
)]
pub struct InvalidPrefix;

/// The secret part that all ExternalIds of an organisation begin with.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalIdPrefix(String);

/// What the roles of one member account ask for.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalId(String);

impl ExternalIdPrefix {
    /// The ExternalId of an account.
    #[must_use]
    pub fn of(&self, account: &AccountId) -> ExternalId {
        ExternalId(format!("{}-{account}", self.0))
    }

    /// The text, for a stack's parameter.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl ExternalId {
    /// The text, for `sts:AssumeRole`.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExternalIdPrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@:/_-".contains(c);
        if (SHORTEST..=LONGEST).contains(&text.len()) && text.chars().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPrefix)
        }
    }
}

impl fmt::Debug for ExternalIdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternalIdPrefix(…)")
    }
}

impl fmt::Debug for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternalId(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: &str = "0123456789abcdef";

    #[test]
    fn every_account_has_its_own_and_the_longest_is_one_that_aws_takes() {
        let prefix: ExternalIdPrefix = PREFIX.parse().unwrap();
        assert_eq!(prefix.of(&"111122223333".parse().unwrap()).reveal(), "0123456789abcdef-111122223333");
        let longest: ExternalIdPrefix = "x".repeat(LONGEST).parse().unwrap();
        assert_eq!(longest.of(&"111122223333".parse().unwrap()).reveal().len(), 1_224);
    }

    #[test]
    fn what_is_no_prefix_is_refused_and_not_told() {
        for wrong in ["", "too-short", "has a space in it", &"x".repeat(LONGEST + 1), "umläute-sind-verboten"] {
            let error = wrong.parse::<ExternalIdPrefix>().unwrap_err();
            assert!(wrong.is_empty() || !error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn neither_is_readable_in_a_debug_form() {
        let prefix: ExternalIdPrefix = PREFIX.parse().unwrap();
        let shown = format!("{prefix:?} {:?}", prefix.of(&"111122223333".parse().unwrap()));
        assert!(!shown.contains(PREFIX) && !shown.contains("1111"), "{shown}");
    }

    proptest! {
        #[test]
        fn two_accounts_never_share_one(one in "[0-9]{12}", other in "[0-9]{12}") {
            prop_assume!(one != other);
            let prefix: ExternalIdPrefix = PREFIX.parse().unwrap();
            prop_assert!(prefix.of(&one.parse().unwrap()) != prefix.of(&other.parse().unwrap()));
        }
    }
}
