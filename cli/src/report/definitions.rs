//! How each figure is counted, in words, for the reader of a report. [`super::figures`] does what is written here.

/// A figure's name, and how it is counted.
pub(crate) const DEFINITIONS: [(&str, &str); 20] = [
    (
        "Remediation",
        "One finding of one control on one resource, and what was done about it, by its RemediationId. It belongs to the period in which it ended. Dry runs, undos, plans for approvals, operators' changes and inputs that were not understood are counted apart.",
    ),
    (
        "Attempt",
        "A remediation for which a runbook was started and that ended fixed, already compliant, unverified or failed. One whose resource was gone is none.",
    ),
    (
        "Fixed",
        "Changed, and read back as it should be (state Verified). Found compliant, with nothing changed, is counted apart.",
    ),
    ("Failed", "Started, and it could not be done, or the change does not read back (states Failed and Unverified)."),
    (
        "Not decided",
        "State Failed without a start: a fact that policy needs could not be read, a plan was void, or an account could not be entered.",
    ),
    (
        "Success rate",
        "Fixed or already compliant, of all attempts. What was undone later was a success when it ended; the undo rate tells of it.",
    ),
    ("Failure rate", "Failed or unverified, of all attempts. Success and failure rate add up to 1."),
    (
        "Repeat rate",
        "Of the fixes: those of a resource and control (same account and Region) that had been fixed before, in the period or the 30 days before it, and not been put back between. Something makes it bad again.",
    ),
    ("Undo rate", "Of the attempts: those whose pre-image was put back before the end of the period."),
    (
        "Standing",
        "Every pair of resource and control that something happened to in the period, or that was open since before, by its newest remediation at the end of the period. Each pair is counted once.",
    ),
    (
        "Backlog rate",
        "Of the pairs of resource and control: those under way, waiting, asked about, told and not acted on, not answered in time, or failed. Exempt, ignored, declined and settled pairs are none. What people mend by hand is not in the ledger: compare Security Hub.",
    ),
    (
        "Declined",
        "A person said no to the change, or had it put back, so it stays as it is by a person's decision. It is not backlog and has no target, and it is not compliant.",
    ),
    (
        "Time to fix (MTTR)",
        "Of each fix, the time to its read-back: since the finding was first seen by its reporter, and since the event that brought it. Where the first is not told, the second counts; where neither is, the first record. Waiting for approvals and places is in it. A request that names no finding starts its own clock.",
    ),
    (
        "Median, 90th percentile, mean",
        "Median and 90th percentile by nearest rank: the smallest time that half, or nine tenths, of the fixes did not pass. The mean follows a few slow fixes; the median does not.",
    ),
    (
        "Target (SLA)",
        "Met: fixed within the target of its severity, since first seen. Late: fixed after it. Overdue: in the backlog at the end of the period, and older than the target. Pending: in the backlog, and still in time; it counts neither way. Rate: met of met, late and overdue.",
    ),
    (
        "Time saved",
        "Fixes that were not undone × minutes by hand, less answered approvals × minutes an answer, less failures × minutes a failure. It is an estimate: its inputs are assumed, and printed with it.",
    ),
    (
        "Money saved",
        "Hours saved × hourly rate, less runs × cost of a run. Runs are all started in the period: fixes, undos, dry runs, plans. What stands each month whether anything runs or not is not in it: docs/cost.md.",
    ),
    (
        "Framework evidence",
        "The catalogue maps controls to requirements as Security Hub publishes them. Counted are what was done in the period and what is open at its end for those controls. One control may count for many requirements, so columns do not add up. Redress sees failures, not passes: no line says that a requirement is met.",
    ),
    (
        "Evidence object",
        "Bucket and key of the encrypted evidence in the member account: pre-image, change and post-image. `redress audit show <RemediationId> --evidence` opens it for whoever may.",
    ),
    (
        "Records verified",
        "Whether every record is as it was written, none is missing, and each chain ends where its head says. It does not say that no event was left out before it was recorded.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_explained_once_and_in_sentences() {
        let mut names: Vec<&str> = DEFINITIONS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DEFINITIONS.len());
        assert!(DEFINITIONS.iter().all(|(_, text)| text.ends_with('.')));
    }
}
