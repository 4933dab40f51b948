//! Amazon Resource Names, in every partition, parsed once.
//!
//! An ARN is `arn:partition:service:region:account:resource`, where region and account may be empty
//! and the resource may hold colons, slashes and `@`. Nothing here asks AWS anything.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, Region, excerpt};

/// A partition: a group of Regions with accounts and ARNs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Partition {
    /// The commercial Regions.
    #[serde(rename = "aws")]
    Aws,
    /// AWS GovCloud (US).
    #[serde(rename = "aws-us-gov")]
    UsGov,
    /// The China Regions.
    #[serde(rename = "aws-cn")]
    China,
}

impl Partition {
    /// The partition as an ARN writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::UsGov => "aws-us-gov",
            Self::China => "aws-cn",
        }
    }

    /// The Region in which the partition's global services (IAM, CloudFront) report.
    #[must_use]
    pub const fn global_region(self) -> &'static str {
        match self {
            Self::Aws => "us-east-1",
            Self::UsGov => "us-gov-west-1",
            Self::China => "cn-north-1",
        }
    }

    /// The partition that a Region belongs to.
    #[must_use]
    pub fn of_region(region: &Region) -> Self {
        match region.as_str() {
            r if r.starts_with("us-gov-") => Self::UsGov,
            r if r.starts_with("cn-") => Self::China,
            _ => Self::Aws,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not an ARN that Redress accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    /// It is longer than any ARN of AWS.
    #[error("an ARN of {length} bytes is longer than the {max} that AWS allows", max = Arn::MAX_LENGTH)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It does not have six parts, or holds a control character.
    #[error("`{given}` is not an ARN of the form `arn:partition:service:region:account:resource`")]
    Malformed {
        /// The text, cut to 80 characters.
        given: String,
    },
    /// Its partition is none that Redress serves.
    #[error("partition `{partition}` is none of `aws`, `aws-us-gov` and `aws-cn`")]
    UnknownPartition {
        /// The partition, cut to 80 characters.
        partition: String,
    },
    /// Its region or account part is not well formed.
    #[error("in ARN `{given}`: {source}")]
    Part {
        /// The ARN, cut to 80 characters.
        given: String,
        /// Which part, and what it should be.
        source: crate::ids::InvalidId,
    },
}

/// A well-formed ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arn {
    text: String,
    partition: Partition,
    region: Option<Region>,
    account: Option<AccountId>,
    service: (usize, usize),
    resource: usize,
}

impl Arn {
    /// No ARN of AWS is longer than this, in bytes.
    pub const MAX_LENGTH: usize = 2048;

    /// The root of an account: how Redress names the account itself as a resource.
    #[must_use]
    pub fn account_root(partition: Partition, account: &AccountId) -> Self {
        let text = format!("arn:{partition}:iam::{account}:root");
        let service = (5 + partition.as_str().len(), 8 + partition.as_str().len());
        let resource = text.len() - 4;
        Self { text, partition, region: None, account: Some(account.clone()), service, resource }
    }

    /// The whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Its service, such as `s3`.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.text[self.service.0..self.service.1]
    }

    /// Its Region; global services and S3 have none.
    #[must_use]
    pub const fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }

    /// Its account; S3 bucket ARNs have none.
    #[must_use]
    pub const fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }

    /// Everything after the fifth colon, such as `security-group/sg-1` or `user/path/a@b`.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.text[self.resource..]
    }

    /// What `pattern` captures of this ARN, or `None` when they do not match.
    ///
    /// A pattern is an ARN with `*` for parts that may be anything, and exactly one `{}` in the resource
    /// part for what is captured: `arn:*:s3:::{}` captures the bucket's name. With `{path}` instead, the
    /// capture is what follows the last `/`, so `arn:*:iam::*:user/{path}` gives the user's name without its path.
    #[must_use]
    pub fn capture(&self, pattern: &str) -> Option<&str> {
        let mut wanted = pattern.splitn(6, ':');
        let mut given = self.text.splitn(6, ':');
        for _ in 0..5 {
            let (want, have) = (wanted.next()?, given.next()?);
            if want != "*" && want != have {
                return None;
            }
        }
        let (want, have) = (wanted.next()?, given.next()?);
        for (hole, last) in [("{path}", true), ("{}", false)] {
            if let Some((before, after)) = want.split_once(hole) {
                let captured = have.strip_prefix(before)?.strip_suffix(after)?;
                let captured = if last { captured.rsplit('/').next()? } else { captured };
                return (!captured.is_empty()).then_some(captured);
            }
        }
        None
    }
}

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(ArnError::TooLong { length: text.len() });
        }
        let malformed = || ArnError::Malformed { given: excerpt(text) };
        if text.chars().any(|c| c.is_control()) {
            return Err(malformed());
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let &["arn", partition, service, region, account, resource] = parts.as_slice() else {
            return Err(malformed());
        };
        let service_ok =
            !service.is_empty() && service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !service_ok || resource.is_empty() {
            return Err(malformed());
        }
        let part_error = |source| ArnError::Part { given: excerpt(text), source };
        let partition_value = match partition {
            "aws" => Partition::Aws,
            "aws-us-gov" => Partition::UsGov,
            "aws-cn" => Partition::China,
            other => return Err(ArnError::UnknownPartition { partition: excerpt(other) }),
        };
        let region_value = match region {
            "" => None,
            other => Some(other.parse().map_err(part_error)?),
        };
        let account_value = match account {
            // AWS-owned resources (managed policies, public layers) name no customer's account.
            "" | "aws" => None,
            other => Some(other.parse().map_err(part_error)?),
        };
        let service_start = 5 + partition.len();
        Ok(Self {
            partition: partition_value,
            region: region_value,
            account: account_value,
            service: (service_start, service_start + service.len()),
            resource: text.len() - resource.len(),
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Arn {
    type Error = ArnError;
    fn try_from(text: String) -> Result<Self, ArnError> {
        text.parse()
    }
}

impl From<Arn> for String {
    fn from(arn: Arn) -> String {
        arn.text
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
