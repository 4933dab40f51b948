//! Account binding: where this function runs, and the refusal to act on anything that is elsewhere.

use redress_common::arn::{Arn, ArnError};
use redress_common::contract::Job;
use redress_common::ids::{AccountId, Region};

/// A request that is not for here.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// The function's own ARN is not usable.
    #[error("the function's own ARN, `{given}`, names no account and Region")]
    Nowhere {
        /// The ARN.
        given: String,
        /// Why, when it is not even an ARN.
        source: Option<ArnError>,
    },
    /// Another account.
    #[error("{what} is in account {given}, but this function runs in account {here}; refused")]
    Account {
        /// What names it.
        what: &'static str,
        /// The account it names.
        given: AccountId,
        /// This function's.
        here: AccountId,
    },
    /// Another Region.
    #[error("{what} is in Region {given}, but this function runs in {here}; refused")]
    Region {
        /// What names it.
        what: &'static str,
        /// The Region it names.
        given: Region,
        /// This function's.
        here: Region,
    },
}

/// An account and a Region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The account.
    pub account: AccountId,
    /// The Region.
    pub region: Region,
    /// The function's own ARN, with its version.
    pub function: String,
}

impl Place {
    /// Where the function with this ARN runs.
    ///
    /// # Errors
    /// When the text is not a function's ARN.
    pub fn of_function(arn: &str) -> Result<Self, BindingError> {
        let nowhere = |source| BindingError::Nowhere { given: arn.chars().take(80).collect(), source };
        let parsed: Arn = arn.parse().map_err(|error| nowhere(Some(error)))?;
        match (parsed.account(), parsed.region()) {
            (Some(account), Some(region)) => {
                Ok(Self { account: account.clone(), region: region.clone(), function: arn.to_owned() })
            }
            _ => Err(nowhere(None)),
        }
    }

    /// The same, of a version of the function. An ARN that was invoked with a version or an alias names it already.
    #[must_use]
    pub fn of_version(self, version: &str) -> Self {
        let function = if self.function.split(':').count() > 7 || version.is_empty() {
            self.function
        } else {
            format!("{}:{version}", self.function)
        };
        Self { function, ..self }
    }

    /// The function's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.function.split(':').nth(6).unwrap_or_default()
    }

    /// Refuses another account.
    ///
    /// # Errors
    /// When `given` is not this account.
    pub fn bind_account(&self, what: &'static str, given: &AccountId) -> Result<(), BindingError> {
        if *given == self.account {
            return Ok(());
        }
        Err(BindingError::Account { what, given: given.clone(), here: self.account.clone() })
    }

    /// Refuses another Region.
    ///
    /// # Errors
    /// When `given` is not this Region.
    pub fn bind_region(&self, what: &'static str, given: &Region) -> Result<(), BindingError> {
        if *given == self.region {
            return Ok(());
        }
        Err(BindingError::Region { what, given: given.clone(), here: self.region.clone() })
    }

    /// Refuses a job whose resource names another account or Region than this. An ARN may name neither (S3).
    ///
    /// # Errors
    /// When it names another.
    pub fn bind(&self, job: &Job) -> Result<(), BindingError> {
        if let Some(account) = job.resource_arn.account() {
            self.bind_account("the resource", account)?;
        }
        if let Some(region) = job.resource_arn.region() {
            self.bind_region("the resource", region)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::job;

    fn here() -> Place {
        Place::of_function("arn:aws-cn:lambda:cn-north-1:111122223333:function:redress-remediate:3").unwrap()
    }

    #[test]
    fn a_function_knows_its_place_in_every_partition() {
        assert_eq!(here().account.as_str(), "111122223333");
        assert_eq!(here().region.as_str(), "cn-north-1");
        assert!(here().of_version("4").function.ends_with(":function:redress-remediate:3"));
        assert_eq!(here().name(), "redress-remediate");
        let plain = Place::of_function("arn:aws:lambda:eu-central-1:111122223333:function:redress-guard").unwrap();
        assert!(plain.clone().of_version("$LATEST").function.ends_with(":function:redress-guard:$LATEST"));
        assert_eq!((plain.clone().of_version(""), plain.name()), (plain.clone(), "redress-guard"));
        assert!(matches!(Place::of_function(""), Err(BindingError::Nowhere { .. })));
        assert!(matches!(Place::of_function("arn:aws:s3:::b"), Err(BindingError::Nowhere { .. })));
    }

    #[test]
    fn defect_10_a_resource_of_another_account_is_refused() {
        let theirs = job("arn:aws-cn:iam::444455556666:user/same-name");
        assert!(matches!(here().bind(&theirs), Err(BindingError::Account { .. })));
        let ours = job("arn:aws-cn:iam::111122223333:user/same-name");
        assert!(here().bind(&ours).is_ok());
    }

    #[test]
    fn a_resource_of_another_region_is_refused_and_one_that_names_none_is_not() {
        let elsewhere = job("arn:aws-cn:ec2:cn-northwest-1:111122223333:security-group/sg-1");
        assert!(matches!(here().bind(&elsewhere), Err(BindingError::Region { .. })));
        assert!(here().bind(&job("arn:aws-cn:s3:::bucket")).is_ok());
    }
}
