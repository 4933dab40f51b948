//! Identifiers, each with a type of its own, so that one cannot stand in for another.
//!
//! Parsing is the only way in; a value that exists is well formed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An identifier was not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct InvalidId {
    given: String,
    expected: &'static str,
}

impl InvalidId {
    pub(crate) fn new(given: &str, expected: &'static str) -> Self {
        Self { given: excerpt(given), expected }
    }
}

/// Hostile text, fit for a log line and the ledger: cut to 80 characters, and what would steer a terminal or
/// turn the reading direction replaced.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().take(80).map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as AWS writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId::new(text, $expected))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A twelve-digit AWS account id.
    AccountId,
    "a twelve-digit account id",
    |text| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
);

text_id!(
    /// An AWS Region name, such as `eu-central-1` or `us-gov-west-1`.
    Region,
    "a Region name of partition `aws`, `aws-us-gov` or `aws-cn`",
    |text| {
        let parts: Vec<&str> = text.split('-').collect();
        // Partitions that Redress does not serve: its ARNs would be wrong there.
        let foreign = ["us-iso", "eu-iso", "eusc-"].iter().any(|start| text.starts_with(start));
        !foreign && text.len() <= 32
            && parts.len() >= 3
            && parts[..parts.len() - 1]
                .iter()
                .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
            && parts[parts.len() - 1].bytes().all(|b| b.is_ascii_digit())
            && !parts[parts.len() - 1].is_empty()
    }
);

text_id!(
    /// A control, by its Security Hub id (`S3.8`) or an id of the same form of one's own (`Tag.Required`).
    ControlId,
    "a control id such as `S3.8`",
    |text| {
        text.len() <= 64
            && text.split_once('.').is_some_and(|(service, rest)| {
                let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric());
                word(service) && word(rest) && service.as_bytes()[0].is_ascii_alphabetic()
            })
    }
);

impl ControlId {
    /// The service part: `S3` of `S3.8`. Execution roles are made per family.
    #[must_use]
    pub fn family(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

/// The state of the world that a finding speaks of: its `updatedAt`, in Unix milliseconds.
///
/// A newer generation of the same finding is a new reason to act; the same one is a duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number that a claim was granted with. Only the holder of the newest fence may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What may be worked on by one remediation at a time: account, region, control and resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimKey([u8; 32]);

impl ClaimKey {
    /// The SHA-256 of the four parts, each ended by a zero byte so that no two keys can meet.
    #[must_use]
    pub fn new(account: &AccountId, region: &Region, control: &ControlId, resource: &crate::arn::Arn) -> Self {
        let mut hash = Sha256::new();
        for part in [account.as_str(), region.as_str(), control.as_str(), resource.as_str()] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        Self(hash.finalize().into())
    }

    /// The key in lower-case hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for ClaimKey {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut key = [0; 32];
        match hex::decode_to_slice(text, &mut key) {
            Ok(()) => Ok(Self(key)),
            Err(_) => Err(InvalidId::new(text, "a claim's key (64 hexadecimal digits)")),
        }
    }
}

/// One remediation attempt. Also the SSM `ClientToken` and the name of its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemediationId(Uuid);

/// The namespace of every [`RemediationId`]: the UUIDv5 of `redress` in the DNS namespace would tie
/// us to a name, so it is a constant of our own.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_9d5e_2c1b_4a63_9e0a_7265_6472_6573);

impl RemediationId {
    /// The id of the remediation of this claim for this generation: the same inputs, the same id.
    #[must_use]
    pub fn of_finding(key: &ClaimKey, generation: Generation) -> Self {
        let mut name = key.0.to_vec();
        name.extend_from_slice(&generation.0.to_be_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }

    /// The id of an undo or a dry run that somebody asked for under a request id of their own.
    #[must_use]
    pub fn of_request(key: &ClaimKey, request: &str) -> Self {
        let mut name = key.0.to_vec();
        name.extend_from_slice(b"request:");
        name.extend_from_slice(request.as_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }

    /// The id of the record of an input that never became a finding: same bytes, same id.
    #[must_use]
    pub fn of_rejected(body: &[u8]) -> Self {
        let mut name = b"rejected:".to_vec();
        name.extend_from_slice(&Sha256::digest(body));
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }
}

impl fmt::Display for RemediationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for RemediationId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::new(text, "a RemediationId (a UUID)"))
    }
}
