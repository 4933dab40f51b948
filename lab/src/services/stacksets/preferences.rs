//! How an operation goes about its accounts and Regions: order, how many at a time, how many may fail.

use serde_json::{Value, json};

use super::given::{Given, invalid};
use crate::service::AwsError;

/// `StackSetOperationPreferences`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// As it was given, for answers.
    pub(super) given: Option<Value>,
    pub(super) parallel_regions: bool,
    region_order: Vec<String>,
    tolerance: Share,
    concurrency: Share,
    soft: bool,
}

/// A number of accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Share {
    #[default]
    Default,
    Count(usize),
    Percentage(usize),
}

impl Share {
    fn read(given: Given<'_>, name: &str) -> Result<Self, AwsError> {
        let (count, percentage) = (format!("{name}Count"), format!("{name}Percentage"));
        match (given.number(&count)?, given.number(&percentage)?) {
            (Some(_), Some(_)) => Err(invalid(format!("give {count} or {percentage}, not both"))),
            (Some(count), None) => Ok(Self::Count(count)),
            (None, Some(percentage)) if percentage <= 100 => Ok(Self::Percentage(percentage)),
            (None, Some(_)) => Err(invalid(format!("{percentage} is at most 100"))),
            (None, None) => Ok(Self::Default),
        }
    }

    /// Of so many accounts in a Region; percentages are rounded down.
    fn of(self, accounts: usize) -> Option<usize> {
        match self {
            Self::Default => None,
            Self::Count(count) => Some(count),
            Self::Percentage(percentage) => Some(accounts * percentage / 100),
        }
    }
}

impl Preferences {
    pub(super) fn read(request: Given<'_>) -> Result<Self, AwsError> {
        let Some(given) = request.part("OperationPreferences") else { return Ok(Self::default()) };
        let concurrency = Share::read(given, "MaxConcurrent")?;
        if matches!(concurrency, Share::Count(0) | Share::Percentage(0)) {
            return Err(invalid("MaxConcurrentCount and MaxConcurrentPercentage are at least 1"));
        }
        Ok(Self {
            given: Some(given.0.clone()),
            parallel_regions: match given.text("RegionConcurrencyType") {
                None | Some("SEQUENTIAL") => false,
                Some("PARALLEL") => true,
                Some(other) => return Err(invalid(format!("RegionConcurrencyType {other} is unknown"))),
            },
            region_order: given.list("RegionOrder"),
            tolerance: Share::read(given, "FailureTolerance")?,
            concurrency,
            soft: match given.text("ConcurrencyMode") {
                None | Some("STRICT_FAILURE_TOLERANCE") => false,
                Some("SOFT_FAILURE_TOLERANCE") => true,
                Some(other) => return Err(invalid(format!("ConcurrencyMode {other} is unknown"))),
            },
        })
    }

    /// As an operation tells them.
    pub(super) fn told(&self) -> Value {
        self.given.clone().unwrap_or_else(|| json!({ "RegionOrder": [] }))
    }

    /// The Regions in the order of the preferences; those not named there come last, as they were given.
    pub(super) fn ordered(&self, regions: Vec<String>) -> Vec<String> {
        let place = |region: &String| self.region_order.iter().position(|one| one == region).unwrap_or(usize::MAX);
        let mut ordered = regions;
        ordered.sort_by_key(place);
        ordered
    }

    /// How many of a Region's accounts may fail.
    pub(super) fn tolerance(&self, accounts: usize) -> usize {
        self.tolerance.of(accounts).unwrap_or(0)
    }

    /// How many may be under way at a time, when so many have failed. A strict operation never lets more fail than
    /// one over its tolerance, so it slows down with each failure.
    pub(super) fn at_once(&self, accounts: usize, failed: usize) -> usize {
        let most = self.concurrency.of(accounts).unwrap_or(1).max(1);
        if self.soft {
            return most;
        }
        most.min((self.tolerance(accounts) + 1).saturating_sub(failed))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn preferences(given: Value) -> Result<Preferences, AwsError> {
        Preferences::read(Given(&json!({ "OperationPreferences": given })))
    }

    #[test]
    fn without_preferences_one_account_at_a_time_and_none_may_fail() {
        let default = Preferences::read(Given(&json!({}))).unwrap();
        assert_eq!((default.tolerance(9), default.at_once(9, 0), default.parallel_regions), (0, 1, false));
    }

    #[test]
    fn percentages_are_rounded_down_but_one_account_is_always_worked_on() {
        let some = preferences(json!({ "FailureTolerancePercentage": "34", "MaxConcurrentPercentage": "50" })).unwrap();
        assert_eq!((some.tolerance(5), some.at_once(5, 0)), (1, 2));
        assert_eq!((some.tolerance(1), some.at_once(1, 0)), (0, 1));
    }

    #[test]
    fn a_strict_operation_slows_down_with_each_failure_and_a_soft_one_does_not() {
        let strict = json!({ "FailureToleranceCount": "2", "MaxConcurrentCount": "10" });
        let mut soft = strict.clone();
        soft["ConcurrencyMode"] = "SOFT_FAILURE_TOLERANCE".into();
        let (strict, soft) = (preferences(strict).unwrap(), preferences(soft).unwrap());
        let at_once = |given: &Preferences| (0..4).map(|failed| given.at_once(20, failed)).collect::<Vec<_>>();
        assert_eq!(at_once(&strict), [3, 2, 1, 0]);
        assert_eq!(at_once(&soft), [10; 4]);
    }

    #[test]
    fn regions_go_in_the_preferred_order_and_the_others_after_them() {
        let given = preferences(json!({ "RegionOrder": ["eu-west-1", "us-east-1"] })).unwrap();
        let regions = ["ap-south-1", "us-east-1", "af-south-1", "eu-west-1"].map(str::to_owned).to_vec();
        assert_eq!(given.ordered(regions), ["eu-west-1", "us-east-1", "ap-south-1", "af-south-1"]);
    }

    #[test]
    fn preferences_that_contradict_themselves_are_refused() {
        for wrong in [
            json!({ "FailureToleranceCount": "1", "FailureTolerancePercentage": "1" }),
            json!({ "MaxConcurrentCount": "0" }),
            json!({ "MaxConcurrentPercentage": "101" }),
            json!({ "FailureToleranceCount": "many" }),
            json!({ "RegionConcurrencyType": "RANDOM" }),
        ] {
            assert_eq!(preferences(wrong.clone()).unwrap_err().code, "ValidationError", "{wrong}");
        }
    }
}
