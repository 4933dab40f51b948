//! The metrics that the functions write, in CloudWatch's embedded metric format. Code, alarms and dashboards agree here: what
//! is not in [`ALL`] is written by nobody, and no alarm may wait for it.

/// Where CloudWatch keeps them.
pub const NAMESPACE: &str = "Redress";

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// CloudWatch's word for what it counts.
    pub unit: &'static str,
    /// The sets of dimensions that it is kept by.
    pub dimensions: &'static [&'static [&'static str]],
}

impl Metric {
    const fn count(name: &'static str, dimensions: &'static [&'static [&'static str]]) -> Self {
        Self { name, unit: "Count", dimensions }
    }

    /// The dimension of a metric that has one; the first of the first set of another.
    #[must_use]
    pub fn dimension(&self) -> &'static str {
        self.dimensions.first().and_then(|set| set.first()).copied().unwrap_or_default()
    }
}

const ENDED: &[&[&str]] = &[&["Status"], &["Control", "Status"], &["AccountId", "Status"]];

/// A remediation ended.
pub const REMEDIATIONS: Metric = Metric::count("Remediations", ENDED);
/// How long it took, from its claim.
pub const DURATION: Metric = Metric { name: "Duration", unit: "Milliseconds", dimensions: ENDED };
/// A finding was decided on, and nothing was started.
pub const DECISIONS: Metric = Metric::count("Decisions", &[&["Code"]]);
/// A finding about which people were told the same within a day.
pub const REPEATED: Metric = Metric::count("Repeated", &[&["Code"]]);
/// A finding of a check that no control is for.
pub const UNKNOWN_CHECKS: Metric = Metric::count("UnknownChecks", &[&["Check"]]);
/// A run of the control runbook that Redress did not start.
pub const UNCLAIMED_EXECUTIONS: Metric = Metric::count("UnclaimedExecutions", &[&["AccountId"]]);
/// A run of the control runbook whose claim went on to another.
pub const OVERTAKEN_EXECUTIONS: Metric = Metric::count("OvertakenExecutions", &[&["AccountId"]]);
/// An outcome that came when a successor had the claim.
pub const LATE_OUTCOMES: Metric = Metric::count("LateOutcomes", &[&["AccountId"]]);
/// A breaker opened.
pub const BREAKERS_OPENED: Metric = Metric::count("BreakersOpened", &[&["Scope"]]);
/// A member account could not be entered.
pub const ASSUME_ROLE_FAILURES: Metric = Metric::count("AssumeRoleFailures", &[&["Function"], &["AccountId"]]);
/// SNS did not take a message to people.
pub const PUBLISH_FAILURES: Metric = Metric::count("PublishFailures", &[&["Function"]]);
/// A message reached a destination.
pub const DELIVERIES: Metric = Metric::count("Deliveries", &[&["Function"], &["Destination"]]);
/// A message did not reach a destination: it comes again, or lies in the dead-letter queue.
pub const DELIVERY_FAILURES: Metric = Metric::count("DeliveryFailures", &[&["Function"], &["Destination"]]);
/// The reconciler came to its end.
pub const RECONCILER_RUNS: Metric = Metric::count("ReconcilerRuns", &[&["Function"]]);
/// The reconciler made something good.
pub const REPAIRS: Metric = Metric::count("Repairs", &[&["Repair"]]);

/// A checkpoint of the ledger was signed and stored.
pub const CHECKPOINTS: Metric = Metric::count("Checkpoints", &[&["Function"]]);
/// A chain of the ledger does not go on from where the checkpoint before says that it ended.
pub const CHAINS_GONE_BACK: Metric = Metric::count("ChainsGoneBack", &[&["Function"]]);

/// Every metric.
pub const ALL: [&Metric; 17] = [
    &REMEDIATIONS,
    &DURATION,
    &DECISIONS,
    &REPEATED,
    &UNKNOWN_CHECKS,
    &UNCLAIMED_EXECUTIONS,
    &OVERTAKEN_EXECUTIONS,
    &LATE_OUTCOMES,
    &BREAKERS_OPENED,
    &ASSUME_ROLE_FAILURES,
    &PUBLISH_FAILURES,
    &DELIVERIES,
    &DELIVERY_FAILURES,
    &RECONCILER_RUNS,
    &REPAIRS,
    &CHECKPOINTS,
    &CHAINS_GONE_BACK,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_a_dimension() {
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|metric| !metric.dimension().is_empty()));
    }
}
