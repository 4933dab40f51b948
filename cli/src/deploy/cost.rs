//! What it costs a month while nothing happens. Pure: a table of counts and list prices, those of docs/cost.md.

use serde::Serialize;

/// A line of the bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Line {
    pub(crate) what: &'static str,
    /// Of the administrator account, an account, or an account and further Region.
    pub(crate) each: &'static str,
    pub(crate) count: u64,
    /// US dollars a month, of one.
    pub(crate) price: f64,
}

impl Line {
    /// US dollars a month.
    pub(crate) fn sum(&self) -> f64 {
        self.price * f64::from(u32::try_from(self.count).unwrap_or(u32::MAX))
    }
}

/// Where something is needed.
#[derive(Clone, Copy)]
enum Per {
    Administrator,
    Account,
    Gate,
}

/// What, for whom, how many, dollars a month each. docs/cost.md says where each comes from.
const PRICES: [(&str, Per, u64, f64); 10] = [
    ("KMS key", Per::Administrator, 1, 1.00),
    ("KMS key that signs checkpoints", Per::Administrator, 1, 1.00),
    ("alarm metrics", Per::Administrator, 106, 0.10),
    ("composite alarm", Per::Administrator, 1, 0.50),
    ("the reconciler: its metric and its runs", Per::Administrator, 1, 0.38),
    ("checkpoints: their metric, signatures and objects", Per::Administrator, 1, 0.38),
    ("polling of the queues", Per::Administrator, 1, 0.53),
    ("KMS key", Per::Account, 1, 1.00),
    ("alarms", Per::Account, 4, 0.10),
    // A dry run of a native control: six steps of Automation. Once a deployment, not each month.
    ("health gate: a dry run in each account and Region, once a release", Per::Gate, 1, 0.012),
];

/// The bill of so many accounts in so many Regions.
pub(crate) fn lines(accounts: u64, regions: u64) -> Vec<Line> {
    let line = |(what, per, count, price): (&'static str, Per, u64, f64)| {
        let (each, of) = match per {
            Per::Administrator => ("administrator account", 1),
            Per::Account => ("account", accounts),
            Per::Gate => ("account and Region", accounts * regions),
        };
        Line { what, each, count: count * of, price }
    };
    PRICES.into_iter().map(line).collect()
}

/// What comes every month, without what comes once.
pub(crate) fn monthly(lines: &[Line]) -> f64 {
    lines.iter().filter(|line| line.each != "account and Region").map(Line::sum).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_the_cost_page() {
        let page = include_str!("../../../docs/cost.md");
        for (accounts, administrator) in [(0_u64, "$14.39"), (20, "$14.39")] {
            let sum = monthly(&lines(accounts, 1));
            let members = sum - 14.39;
            assert!(
                page.contains(administrator)
                    && (members - 1.40 * f64::from(u32::try_from(accounts).unwrap_or(0))).abs() < 0.001,
                "{sum}"
            );
        }
        assert!(page.contains("$28.00"));
    }

    #[test]
    fn further_regions_cost_nothing_while_nothing_happens() {
        assert!((monthly(&lines(10, 1)) - monthly(&lines(10, 4))).abs() < f64::EPSILON);
    }
}
