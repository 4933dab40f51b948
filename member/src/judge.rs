//! Is the resource still what it was? Pure, and the same for both Lambdas; in doubt, no.

use redress_common::aws::evidence::canonical_sha256;
use redress_common::contract::{Before, Image, Job, Mode, Outcome, plan_sha256};

/// The image of what is not there.
#[must_use]
pub fn absent() -> Image {
    Image { present: false, state: serde_json::Value::Object(serde_json::Map::new()) }
}

/// Whether two images have the same canonical JSON.
#[must_use]
pub fn same(one: &Image, other: &Image) -> bool {
    matches!((canonical_sha256(one), canonical_sha256(other)), (Ok(one), Ok(other)) if one == other)
}

/// What undoing a remediation means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// The resource is as it was before: nothing to undo.
    Nothing,
    /// It is as the remediation left it: put the pre-image back.
    PutBack,
    /// Somebody changed it since, or nobody knows how the remediation left it.
    Drifted,
}

/// Compares the resource with the evidence of the remediation to undo. `after` is `None` when that
/// remediation never recorded an end: what its change led to is then unknowable, and only a resource
/// that equals the pre-image is not drifted.
#[must_use]
pub fn undo(now: &Image, before: &Image, after: Option<&Image>) -> Undo {
    if same(now, before) {
        Undo::Nothing
    } else if after.is_some_and(|after| same(now, after)) {
        Undo::PutBack
    } else {
        Undo::Drifted
    }
}

/// What an undo ends with before it has begun, if it does.
#[must_use]
pub const fn undo_end(verdict: Undo, mode: Mode) -> Option<Outcome> {
    match (verdict, mode) {
        (Undo::PutBack, _) => None,
        (Undo::Drifted, _) => Some(Outcome::Drifted),
        (Undo::Nothing, Mode::DryRun) => Some(Outcome::Planned),
        (Undo::Nothing, Mode::Apply | Mode::Restore | Mode::Snapshot) => Some(Outcome::Restored),
    }
}

/// Whether people approved another plan than what would be done now. Where nobody had to approve, and in a dry run,
/// there is none to differ from. What cannot be hashed is another.
#[must_use]
pub fn void(job: &Job, before: &Before) -> bool {
    let approved = job.plan_sha256.as_str();
    if approved.is_empty() || job.mode == Mode::DryRun {
        return false;
    }
    match (canonical_sha256(&before.pre_image), canonical_sha256(&before.change)) {
        (Ok(pre_image), Ok(change)) => plan_sha256(&pre_image, &change) != approved,
        _ => true,
    }
}

/// What evidence and answers say when a plan is [`void`].
pub const VOID: &str = "the resource, or what would be changed, is not what was approved; nothing was changed. Look at \
                        the resource; what is still wrong with it is asked about anew when it is found again";

/// What to do when an earlier try of the same remediation stored a pre-image and no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// It had got there: record the end.
    Reached,
    /// It had changed nothing: do it.
    Again,
    /// Half done, or changed by somebody else: a person must look.
    Stop,
}

/// Compares the live state with the recorded intent.
#[must_use]
pub fn resume(reached: bool, now: &Image, recorded: &Image) -> Resume {
    if reached {
        Resume::Reached
    } else if same(now, recorded) {
        Resume::Again
    } else {
        Resume::Stop
    }
}

/// What [`Resume::Stop`] says in evidence and answers.
pub const HALF_DONE: &str = "an earlier try of this remediation did not end, and the resource is neither as it \
                             was before nor as it should be; compare it with the pre-image and repair it by hand";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image(n: u32) -> Image {
        Image { present: true, state: json!({ "N": n }) }
    }

    #[test]
    fn only_a_resource_as_the_remediation_left_it_is_put_back() {
        assert_eq!(undo(&image(2), &image(1), Some(&image(2))), Undo::PutBack);
        assert_eq!(undo(&image(3), &image(1), Some(&image(2))), Undo::Drifted);
        assert_eq!(undo(&image(1), &image(1), Some(&image(2))), Undo::Nothing);
    }

    #[test]
    fn an_unknown_post_image_counts_as_drift_unless_nothing_changed() {
        assert_eq!(undo(&image(2), &image(1), None), Undo::Drifted);
        assert_eq!(undo(&image(1), &image(1), None), Undo::Nothing);
    }

    #[test]
    fn an_absent_setting_is_not_an_empty_one() {
        let empty = Image { present: true, state: json!({}) };
        assert!(!same(&absent(), &empty));
        assert_eq!(undo(&empty, &absent(), None), Undo::Drifted);
    }

    #[test]
    fn defect_18_a_half_done_change_is_not_run_again() {
        assert_eq!(resume(false, &image(2), &image(1)), Resume::Stop);
        assert_eq!(resume(false, &image(1), &image(1)), Resume::Again);
        assert_eq!(resume(true, &image(2), &image(1)), Resume::Reached);
    }
}
