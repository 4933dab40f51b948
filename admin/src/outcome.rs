//! What an execution that ended means: states, finding, claim.
//!
//! Pure. Believes the evidence that the member's recorder left, and nothing that sounds better than it.

use jiff::Timestamp;
use redress_common::contract::{Mode, Outcome, output};
use redress_common::ids::Fence;
use redress_common::ledger::detail;
use redress_common::state::State;

use crate::claim::End;
use crate::ports::Execution;
use crate::report::{self, Detail};

/// What a fix that ended says of its control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Good,
    /// It failed, or could not be verified.
    Bad,
    /// Nothing: the resource was gone, or not as it was planned for; or nothing was to be fixed.
    Silent,
}

/// What an execution means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The states that the ledger gets, in order; the last is where the remediation ends.
    pub states: Vec<State>,
    /// What becomes of the claim.
    pub end: End,
    /// What it says of the control.
    pub verdict: Verdict,
    /// When the last step ended: what the runbook saw of the resource is no newer. `None` when SSM does not tell.
    pub seen: Option<Timestamp>,
    /// Why it failed; empty when it did not.
    pub error: String,
    /// What the last record says of it.
    pub detail: Detail,
}

/// The states of a mode's outcomes. What is not here cannot be, and counts as failed.
const fn states(mode: Mode, outcome: Outcome) -> &'static [State] {
    match (mode, outcome) {
        (Mode::Apply, Outcome::Verified) => &[State::Applied, State::Verified],
        (Mode::Apply, Outcome::AlreadyCompliant) => &[State::Verified],
        (Mode::Apply | Mode::Restore, Outcome::Unverified) => &[State::Applied, State::Unverified],
        (Mode::Restore, Outcome::Restored) => &[State::Applied, State::RolledBack],
        (Mode::Restore, Outcome::AlreadyCompliant) => &[State::RolledBack],
        // The copies were read and are complete.
        (Mode::Snapshot, Outcome::Snapshotted) => &[State::Verified],
        // A dry run ends with people being told what would be.
        (Mode::DryRun, Outcome::Planned | Outcome::AlreadyCompliant | Outcome::NotFound) => &[State::Notified],
        _ => &[State::Failed],
    }
}

/// What an execution in a mode means.
#[must_use]
pub fn read(mode: Mode, execution: &Execution) -> Reading {
    let given = execution.outputs.get(output::OUTCOME).map(String::as_str).unwrap_or_default();
    let outcome = outcome(given);
    let states = outcome.map_or(&[State::Failed][..], |outcome| states(mode, outcome)).to_vec();
    let state = states.last().copied().unwrap_or(State::Failed);
    let sent = |name: &str| execution.outputs.get(name).cloned().unwrap_or_default();
    let hash = |name: &str| Some(sent(name)).filter(|text| is_hash(text)).unwrap_or_default();
    let (before, after) = (hash(output::PRE_IMAGE), hash(output::POST_IMAGE));
    let touched = match outcome {
        None => was_invoked(execution),
        // A failed undo left the resource alone when its evidence says so; of a failed fix, which may have been seen
        // too early, that is not believed.
        Some(Outcome::Failed) => mode == Mode::Apply || before.is_empty() || before != after,
        Some(outcome) => matches!(outcome, Outcome::Verified | Outcome::Unverified),
    };
    let end = End {
        state,
        compliant: mode == Mode::Apply && state == State::Verified,
        changed: matches!(mode, Mode::Apply | Mode::Restore) && touched,
        undone: state == State::RolledBack,
    };
    let verdict = match (mode, outcome) {
        (Mode::DryRun | Mode::Restore | Mode::Snapshot, _) | (_, Some(Outcome::NotFound | Outcome::Drifted)) => {
            Verdict::Silent
        }
        _ if state == State::Verified => Verdict::Good,
        _ => Verdict::Bad,
    };
    let error = match (state, outcome) {
        (State::Failed | State::Unverified, Some(outcome)) => {
            let why = match outcome {
                Outcome::NotFound => "the resource does not exist any more; nothing was changed",
                Outcome::Drifted => {
                    "the resource was changed by somebody else since; nothing was put back, compare it with the evidence"
                }
                Outcome::Unverified => "the change was made, but the resource does not read back as it should",
                Outcome::Failed => "the remediation failed",
                _ => "the runbook answered what this mode cannot have",
            };
            joined(why, &reason(&sent(output::ERROR), &execution.failure))
        }
        (State::Failed, None) => {
            let status = &execution.status;
            joined(
                &format!("the runbook ended as {status} without an outcome; what it did is in its evidence"),
                &execution.failure,
            )
        }
        // A playbook that did what it is for, and not all that goes with it.
        (State::Verified, Some(Outcome::Verified)) => match reason(&sent(output::ERROR), "") {
            lacks if lacks.is_empty() => lacks,
            lacks => joined("it was done and verified, but not all that goes with it", &lacks),
        },
        _ => String::new(),
    };
    let detail = report::details([
        (detail::OUTCOME, outcome.map(|outcome| outcome.as_str().to_owned()).unwrap_or_default()),
        (detail::EVIDENCE_VERSION_ID, if outcome.is_some() { sent(output::VERSION_ID) } else { String::new() }),
        (detail::PRE_IMAGE_SHA256, before),
        (detail::CHANGE_SHA256, hash(output::CHANGE)),
        (detail::POST_IMAGE_SHA256, after),
        (detail::MADE, made(&sent(output::MADE))),
        (detail::STEPS, serde_json::to_string(&execution.steps).unwrap_or_default()),
    ]);
    let seen = execution.steps.iter().filter_map(|step| step.end.parse().ok()).max();
    Reading { states, end, verdict, seen, error, detail }
}

/// Whether the evidence was taken over by the execution of a newer worker: what comes of the remediation is that one's
/// to tell.
#[must_use]
pub fn overtaken(fence: Fence, execution: &Execution) -> bool {
    let wrote = execution.outputs.get(output::FENCE).and_then(|text| text.parse().ok());
    wrote.is_some_and(|wrote| Fence(wrote) > fence)
}

/// `None` for everything that is no outcome: absent, `Started`, or what SSM writes for an output that never was.
fn outcome(text: &str) -> Option<Outcome> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// Whether the remediation runbook may have run. Not when the control runbook ended before it: then there is no evidence
/// either, and the remediation before stays the one that can be undone.
fn was_invoked(execution: &Execution) -> bool {
    let step = execution.steps.iter().find(|step| step.name == "InvokeRemediationRunbook");
    execution.steps.is_empty() || step.is_some_and(|step| !step.start.is_empty())
}

/// The id of a copy; nothing for what stands for none, or for an output that never was.
fn made(text: &str) -> String {
    let id = text != "none" && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:/".contains(&b));
    if id { text.to_owned() } else { String::new() }
}

/// What the evidence and what SSM say of a failure. `none` stands for nothing, and braces for an output that never was.
fn reason(evidence: &str, failure: &str) -> String {
    let said = if evidence == "none" || evidence.contains("{{") { "" } else { evidence };
    match (said, failure) {
        ("", other) | (other, "") => other.to_owned(),
        (one, other) if other.contains(one) => other.to_owned(),
        (one, other) if one.contains(other) => one.to_owned(),
        (one, other) => format!("{one}; {other}"),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn joined(why: &str, failure: &str) -> String {
    if failure.is_empty() { why.to_owned() } else { report::sanitised(&format!("{why}: {failure}")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ended(status: &str, outcome: &str) -> Execution {
        Execution {
            status: status.to_owned(),
            outputs: BTreeMap::from([
                (output::OUTCOME.to_owned(), outcome.to_owned()),
                (output::VERSION_ID.to_owned(), "v1".to_owned()),
                (output::PRE_IMAGE.to_owned(), "a".repeat(64)),
            ]),
            failure: "step said\nno".to_owned(),
            ..Execution::default()
        }
    }

    #[test]
    fn a_run_that_ended_before_its_remediation_runbook_leaves_nothing_to_undo() {
        let step = |name: &str, start: &str| crate::ports::Step {
            name: name.to_owned(),
            status: "Failed".to_owned(),
            start: start.to_owned(),
            end: String::new(),
        };
        let at = "2026-03-02T09:15:05Z";
        for (steps, changed) in [
            (vec![step("ValidateInputs", at)], false),
            (vec![step("ValidateInputs", at), step("InvokeRemediationRunbook", "")], false),
            (vec![step("ValidateInputs", at), step("InvokeRemediationRunbook", at)], true),
            (vec![], true),
        ] {
            let ended = Execution { steps, ..ended("Failed", "Started") };
            assert_eq!(read(Mode::Apply, &ended).end.changed, changed, "{:?}", ended.steps);
        }
    }

    #[test]
    fn each_outcome_of_each_mode_has_its_states() {
        for (mode, outcome, expected) in [
            (Mode::Apply, "Verified", &[State::Applied, State::Verified][..]),
            (Mode::Apply, "AlreadyCompliant", &[State::Verified]),
            (Mode::Apply, "Unverified", &[State::Applied, State::Unverified]),
            (Mode::Apply, "NotFound", &[State::Failed]),
            (Mode::Apply, "Failed", &[State::Failed]),
            (Mode::Apply, "Restored", &[State::Failed]),
            (Mode::Restore, "Restored", &[State::Applied, State::RolledBack]),
            (Mode::Restore, "Drifted", &[State::Failed]),
            (Mode::Restore, "Verified", &[State::Failed]),
            (Mode::Snapshot, "Snapshotted", &[State::Verified]),
            (Mode::Snapshot, "Verified", &[State::Failed]),
            (Mode::Apply, "Snapshotted", &[State::Failed]),
            (Mode::DryRun, "Planned", &[State::Notified]),
            (Mode::DryRun, "Verified", &[State::Failed]),
        ] {
            assert_eq!(read(mode, &ended("Success", outcome)).states, expected, "{mode:?} {outcome}");
        }
    }

    #[test]
    fn why_a_runbook_refused_is_told_once() {
        let error = |evidence: &str, failure: &str| {
            let mut execution = Execution { failure: failure.to_owned(), ..ended("Failed", "Failed") };
            execution.outputs.insert(output::ERROR.to_owned(), evidence.to_owned());
            read(Mode::Restore, &execution).error
        };
        assert_eq!(error("nobody can bring it back", ""), "the remediation failed: nobody can bring it back");
        assert_eq!(error("no", "step X: no"), "the remediation failed: step X: no");
        assert_eq!(error("no", "step X"), "the remediation failed: no; step X");
        for nothing in ["", "none", "{{LogResults.Error}}"] {
            assert_eq!(error(nothing, "step X"), "the remediation failed: step X");
        }
    }

    #[test]
    fn an_undo_that_may_have_changed_something_and_did_not_get_there_says_so() {
        let hashes = |before: char, after: char| {
            let mut execution = ended("Failed", "Failed");
            for (name, letter) in [(output::PRE_IMAGE, before), (output::POST_IMAGE, after)] {
                execution.outputs.insert(name.to_owned(), letter.to_string().repeat(64));
            }
            execution
        };
        assert!(read(Mode::Restore, &ended("Success", "Unverified")).end.changed);
        assert!(read(Mode::Restore, &hashes('a', 'b')).end.changed);
        assert!(!read(Mode::Restore, &hashes('a', 'a')).end.changed);
        assert!(!read(Mode::Restore, &ended("Success", "Drifted")).end.changed);
        assert!(read(Mode::Apply, &hashes('a', 'a')).end.changed, "it may have been seen too early");
    }

    #[test]
    fn a_resource_that_is_gone_says_nothing_of_its_control() {
        for (mode, outcome, verdict) in [
            (Mode::Apply, "Verified", Verdict::Good),
            (Mode::Apply, "AlreadyCompliant", Verdict::Good),
            (Mode::Apply, "Failed", Verdict::Bad),
            (Mode::Apply, "Unverified", Verdict::Bad),
            (Mode::Apply, "", Verdict::Bad),
            (Mode::Apply, "NotFound", Verdict::Silent),
            (Mode::Apply, "Drifted", Verdict::Silent),
            (Mode::Restore, "Failed", Verdict::Silent),
            (Mode::DryRun, "Failed", Verdict::Silent),
        ] {
            assert_eq!(read(mode, &ended("Success", outcome)).verdict, verdict, "{mode:?} {outcome}");
        }
    }

    #[test]
    fn defect_05_an_already_compliant_resource_is_a_success_that_changed_nothing() {
        let reading = read(Mode::Apply, &ended("Success", "AlreadyCompliant"));
        assert_eq!(reading.states, [State::Verified]);
        assert!(reading.end.compliant && !reading.end.changed);
        assert_eq!(reading.error, "");
    }

    #[test]
    fn an_execution_without_an_outcome_failed_and_may_have_changed_something() {
        for given in ["", "Started", "{{ LogResults.Outcome }}", "No output available yet"] {
            for status in ["Failed", "TimedOut", "Cancelled", "Success"] {
                let reading = read(Mode::Apply, &ended(status, given));
                assert_eq!(reading.states, [State::Failed]);
                assert!(reading.end.changed && reading.error.contains(status), "{}", reading.error);
                assert!(!reading.error.contains('\n'));
            }
        }
    }

    #[test]
    fn what_is_no_hash_is_not_recorded_as_one() {
        let mut execution = ended("Success", "Verified");
        execution.outputs.insert(output::CHANGE.to_owned(), "{{ LogResults.ChangeSha256 }}".to_owned());
        let reading = read(Mode::Apply, &execution);
        assert!(reading.detail.contains_key(detail::PRE_IMAGE_SHA256));
        assert!(!reading.detail.contains_key(detail::CHANGE_SHA256));
    }

    proptest! {
        #[test]
        fn only_verified_evidence_of_an_apply_is_ever_a_success(mode in 0..3_usize, status in "[A-Za-z]{0,9}", outcome in "[A-Za-z]{0,16}|Verified|Unverified|Failed|Restored|AlreadyCompliant|Drifted") {
            let mode = [Mode::DryRun, Mode::Apply, Mode::Restore][mode];
            let reading = read(mode, &ended(&status, &outcome));
            if reading.end.state == State::Verified {
                prop_assert!(mode == Mode::Apply && (outcome == "Verified" || outcome == "AlreadyCompliant"));
            }
            prop_assert_eq!(reading.states.last(), Some(&reading.end.state));
            prop_assert!(reading.end.state.is_terminal());
        }
    }
}
