#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use redress_common::aws::failure::AwsFailure;
use redress_common::contract::Call;
use serde_json::json;

use super::*;
use crate::native::{DESTROYERS, NATIVES};
use crate::testing::{FakeAws, at_destroyer, here, job, request, undo_of};

const PACE: [Duration; 3] = [Duration::ZERO; 3];
const GROUP: &str = "arn:aws:ec2:eu-central-1:111122223333:security-group/sg-1";

/// A resource with two numbers that should both be 2, each set by a call of its own.
#[derive(Debug, Default)]
struct Dials {
    world: Mutex<World>,
}

#[derive(Debug, Default, Clone)]
struct World {
    numbers: [u32; 2],
    gone: bool,
    refuse_look: bool,
    /// The calls, counted from the first, that fail.
    fail_calls: Vec<usize>,
    /// Calls succeed and do nothing.
    deaf: bool,
    /// Reads that still show the state before the last call.
    late_reads: usize,
    shown: Option<[u32; 2]>,
    /// Somebody else sets this after so many looks.
    intruder: Option<(usize, [u32; 2])>,
    /// Every planned call is one that is made after a run that was cut off.
    leaves: bool,
    looks: usize,
    calls: Vec<Call>,
}

impl Dials {
    fn at(numbers: [u32; 2]) -> Self {
        Self { world: Mutex::new(World { numbers, ..World::default() }) }
    }

    fn but(self, change: impl FnOnce(&mut World)) -> Self {
        change(&mut self.world.lock().unwrap());
        self
    }

    fn numbers(&self) -> [u32; 2] {
        self.world.lock().unwrap().numbers
    }

    fn calls(&self) -> Vec<Call> {
        self.world.lock().unwrap().calls.clone()
    }

    fn set(wanted: [u32; 2], now: &Image) -> Change {
        let call = |dial: usize| Call {
            service: "test".to_owned(),
            operation: "Set".to_owned(),
            parameters: json!({ "Dial": dial, "To": wanted[dial] }),
        };
        Change((0..2).filter(|dial| now.state["N"][dial] != wanted[*dial]).map(call).collect())
    }
}

fn image(numbers: [u32; 2]) -> Image {
    Image { present: true, state: json!({ "N": numbers }) }
}

fn failure(code: &str) -> NativeError {
    AwsFailure::partial("Set", code).into()
}

#[async_trait::async_trait]
impl Native for Dials {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let mut world = self.world.lock().unwrap();
        world.looks += 1;
        if let Some((after, numbers)) = world.intruder
            && world.looks > after
        {
            world.numbers = numbers;
        }
        if world.refuse_look {
            return Err(failure("AccessDenied"));
        }
        if world.gone {
            return Ok(None);
        }
        if world.late_reads > 0
            && let Some(shown) = world.shown
        {
            world.late_reads -= 1;
            return Ok(Some(image(shown)));
        }
        Ok(Some(image(world.numbers)))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        Ok(Self::set([2, 2], now))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let number = |dial: usize| before.state["N"][dial].as_u64().unwrap() as u32;
        Ok(Self::set([number(0), number(1)], now))
    }

    fn is_left(&self, _call: &Call, _now: &Image) -> bool {
        self.world.lock().unwrap().leaves
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let mut world = self.world.lock().unwrap();
        let count = world.calls.len();
        world.calls.push(call.clone());
        if world.fail_calls.contains(&count) {
            return Err(failure("RequestLimitExceeded"));
        }
        if !world.deaf {
            world.shown = world.shown.or(Some(world.numbers));
            let dial = call.parameters["Dial"].as_u64().unwrap() as usize;
            world.numbers[dial] = call.parameters["To"].as_u64().unwrap() as u32;
        }
        Ok(())
    }
}

async fn go(aws: &FakeAws, dials: &Dials, job: &Job) -> RemediateResponse {
    run(dials, job, None, &aws.writer(), &here(), &PACE).await.unwrap()
}

#[tokio::test]
async fn a_remediation_is_verified_and_leaves_both_images_behind() {
    let (aws, job, dials) = (FakeAws::default(), job(GROUP), Dials::at([1, 7]));
    let answer = go(&aws, &dials, &job).await;
    assert_eq!(answer.outcome, Outcome::Verified);
    let (evidence, before, after) = aws.evidence(&job).await;
    assert_eq!(before.pre_image, image([1, 7]));
    assert_eq!(before.change.0, dials.calls(), "what was recorded is what was called");
    assert_eq!(after, Some(image([2, 2])));
    assert_eq!(answer.change_sha256, evidence.change_sha256);
}

#[tokio::test]
async fn a_dry_run_plans_what_apply_then_calls_and_calls_nothing() {
    let (aws, job, dials) = (FakeAws::default(), job(GROUP), Dials::at([1, 1]));
    let dry = Job { mode: Mode::DryRun, evidence_key: "dry".to_owned(), ..job.clone() };
    let planned = go(&aws, &dials, &dry).await;
    assert_eq!(planned.outcome, Outcome::Planned);
    assert!(dials.calls().is_empty());
    let applied = go(&aws, &dials, &job).await;
    assert_eq!(applied.change_sha256, planned.change_sha256);
    assert_eq!(aws.evidence(&dry).await.1.change.0, dials.calls());
}

/// The hash of the plan that a dry run of `job` makes of what it finds.
async fn approved(aws: &FakeAws, dials: &Dials, job: &Job) -> String {
    let dry = Job { mode: Mode::DryRun, evidence_key: "plan".to_owned(), ..job.clone() };
    go(aws, dials, &dry).await;
    let evidence = aws.evidence(&dry).await.0;
    redress_common::contract::plan_sha256(&evidence.pre_image_sha256, &evidence.change_sha256)
}

#[tokio::test]
async fn the_approved_plan_is_applied_and_no_other() {
    for (found, outcome, calls) in [
        ([1, 7], Outcome::Verified, 2),
        ([1, 8], Outcome::Drifted, 0),
        ([1, 2], Outcome::Drifted, 0),
        ([2, 2], Outcome::AlreadyCompliant, 0),
    ] {
        let aws = FakeAws::default();
        let plan_sha256 = approved(&aws, &Dials::at([1, 7]), &job(GROUP)).await;
        let job = Job { plan_sha256, ..job(GROUP) };
        let dials = Dials::at(found);
        let answer = go(&aws, &dials, &job).await;
        assert_eq!((answer.outcome, dials.calls().len()), (outcome, calls), "found {found:?}");
        if outcome == Outcome::Drifted {
            assert_eq!((answer.error.as_str(), dials.numbers()), (VOID, found));
            assert_eq!(go(&aws, &Dials::at([1, 7]), &job).await, answer, "it stays void");
        }
    }
}

#[tokio::test]
async fn a_worker_that_dies_within_an_approved_plan_is_taken_over() {
    for (found, outcome, calls) in
        [([1, 7], Outcome::Verified, 2), ([2, 2], Outcome::Verified, 0), ([2, 7], Outcome::Failed, 0)]
    {
        let aws = FakeAws::default();
        let plan_sha256 = approved(&aws, &Dials::at([1, 7]), &job(GROUP)).await;
        let job = Job { plan_sha256, ..job(GROUP) };
        aws.lose_next_put();
        assert!(run(&Dials::at([1, 7]), &job, None, &aws.writer(), &here(), &PACE).await.is_err());
        let second = Dials::at(found);
        let answer = go(&aws, &second, &job).await;
        assert_eq!((answer.outcome, second.calls().len()), (outcome, calls), "found {found:?}");
    }
}

#[tokio::test]
async fn defect_05_a_second_run_on_a_compliant_resource_is_already_compliant() {
    let (aws, job, dials) = (FakeAws::default(), job(GROUP), Dials::at([2, 2]));
    let answer = go(&aws, &dials, &job).await;
    assert_eq!((answer.outcome, answer.error.as_str()), (Outcome::AlreadyCompliant, ""));
    assert!(dials.calls().is_empty());
}

#[tokio::test]
async fn defect_06_one_failed_call_of_several_is_a_failure_that_can_be_undone() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    let dials = Dials::at([1, 1]).but(|world| world.fail_calls = vec![1]);
    let answer = go(&aws, &dials, &job).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    assert!(answer.error.contains("RequestLimitExceeded"), "{}", answer.error);
    assert_eq!(aws.evidence(&job).await.2, Some(image([2, 1])), "how far it came is recorded");
    let undone = go(&aws, &dials, &undo_of(&job)).await;
    assert_eq!((undone.outcome, dials.numbers()), (Outcome::Restored, [1, 1]));
}

#[tokio::test]
async fn a_change_that_does_not_show_is_unverified_and_never_success() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    let dials = Dials::at([1, 1]).but(|world| world.deaf = true);
    assert_eq!(go(&aws, &dials, &job).await.outcome, Outcome::Unverified);
}

#[tokio::test]
async fn a_change_that_shows_late_is_waited_for_within_bounds() {
    for (late, outcome) in [(2, Outcome::Verified), (50, Outcome::Unverified)] {
        let (aws, job) = (FakeAws::default(), job(GROUP));
        let dials = Dials::at([1, 1]).but(|world| world.late_reads = late);
        assert_eq!(go(&aws, &dials, &job).await.outcome, outcome, "{late} late reads");
    }
}

#[tokio::test]
async fn nothing_is_changed_when_the_pre_image_cannot_be_stored() {
    let (aws, job, dials) = (FakeAws::default(), job(GROUP), Dials::at([1, 1]));
    aws.answer("TrentService.GenerateDataKey", 400, r#"{"__type":"AccessDeniedException","message":"no"}"#);
    let error = run(&dials, &job, None, &aws.writer(), &here(), &PACE).await.unwrap_err();
    assert!(error.to_string().contains("AccessDeniedException"), "{error}");
    assert!(dials.calls().is_empty());
}

#[tokio::test]
async fn what_somebody_else_changed_in_between_is_not_overwritten() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    let dials = Dials::at([1, 1]).but(|world| world.intruder = Some((1, [1, 5])));
    let answer = go(&aws, &dials, &job).await;
    assert_eq!((answer.outcome, dials.numbers()), (Outcome::Failed, [1, 5]));
    assert!(dials.calls().is_empty());
    let undone = go(&aws, &Dials::at([1, 5]), &undo_of(&job)).await;
    assert_eq!(undone.outcome, Outcome::Drifted, "an undo leaves the other's change alone too");
}

#[tokio::test]
async fn a_missing_resource_and_an_unreadable_one_are_recorded_and_left_alone() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    let gone = Dials::at([1, 1]).but(|world| world.gone = true);
    assert_eq!(go(&aws, &gone, &job).await.outcome, Outcome::NotFound);
    let other = Job { evidence_key: "other".to_owned(), ..job };
    let dark = Dials::at([1, 1]).but(|world| world.refuse_look = true);
    let answer = go(&aws, &dark, &other).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    assert!(answer.error.contains("AccessDenied"));
    assert_eq!(aws.evidence(&other).await.0.result.unwrap().outcome, Outcome::Failed);
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_makes_no_call() {
    let (aws, job, dials) = (FakeAws::default(), job(GROUP), Dials::at([1, 1]));
    let first = go(&aws, &dials, &job).await;
    let calls = dials.calls().len();
    assert_eq!(go(&aws, &dials, &job).await, first);
    assert_eq!(dials.calls().len(), calls);
}

/// Kills the worker at a point, by losing the answer of one of the two puts, and runs it again.
#[tokio::test]
async fn defect_18_a_worker_that_dies_after_the_pre_image_is_taken_over_by_what_is_found() {
    for (found, outcome, calls) in [
        ([1, 1], Outcome::Verified, 2),
        ([2, 2], Outcome::Verified, 0),
        ([2, 1], Outcome::Failed, 0),
        ([9, 9], Outcome::Failed, 0),
    ] {
        let (aws, job) = (FakeAws::default(), job(GROUP));
        aws.lose_next_put();
        let first = Dials::at([1, 1]);
        assert!(run(&first, &job, None, &aws.writer(), &here(), &PACE).await.is_err());
        assert!(first.calls().is_empty());
        let second = Dials::at(found);
        let answer = go(&aws, &second, &job).await;
        assert_eq!((answer.outcome, second.calls().len()), (outcome, calls), "found {found:?}");
        assert_eq!(aws.evidence(&job).await.1.pre_image, image([1, 1]), "the first pre-image stands");
    }
}

/// A playbook that was cut off once its resource was isolated: what it had not come to is done, and where that fails it is told.
#[tokio::test]
async fn a_worker_that_dies_after_the_control_holds_leaves_nothing_undone() {
    for (fail_calls, lacks) in [(vec![], false), (vec![1], true)] {
        let (aws, job) = (FakeAws::default(), job(GROUP));
        aws.lose_next_put();
        assert!(run(&Dials::at([1, 1]), &job, None, &aws.writer(), &here(), &PACE).await.is_err());
        let second = Dials::at([2, 2]).but(|world| (world.leaves, world.fail_calls) = (true, fail_calls.clone()));
        let answer = go(&aws, &second, &job).await;
        assert_eq!((answer.outcome, second.calls().len()), (Outcome::Verified, 2));
        assert_eq!(answer.error.contains("RequestLimitExceeded"), lacks, "{}", answer.error);
    }
    let (aws, job) = (FakeAws::default(), job(GROUP));
    aws.lose_next_put();
    assert!(run(&Dials::at([1, 1]), &job, None, &aws.writer(), &here(), &PACE).await.is_err());
    let taken_back = Dials::at([2, 2]).but(|world| (world.leaves, world.intruder) = (true, Some((1, [9, 9]))));
    assert_eq!(go(&aws, &taken_back, &job).await.outcome, Outcome::Unverified);
}

#[tokio::test]
async fn what_a_stopped_remediation_found_is_not_taken_for_what_it_left() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    aws.lose_next_put();
    assert!(run(&Dials::at([1, 1]), &job, None, &aws.writer(), &here(), &PACE).await.is_err());
    let theirs = Dials::at([9, 9]);
    assert_eq!(go(&aws, &theirs, &job).await.outcome, Outcome::Failed);
    assert_eq!(aws.evidence(&job).await.2, Some(image([9, 9])), "people can see what was found");
    assert_eq!(go(&aws, &theirs, &undo_of(&job)).await.outcome, Outcome::Drifted);
    assert_eq!(theirs.numbers(), [9, 9]);
}

#[tokio::test]
async fn defect_17_a_worker_that_was_overtaken_neither_acts_nor_records() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    let successor = Job { fence: "2".to_owned(), ..job.clone() };
    aws.lose_next_put();
    assert!(run(&Dials::at([1, 1]), &job, None, &aws.writer(), &here(), &PACE).await.is_err());
    assert_eq!(go(&aws, &Dials::at([1, 1]), &successor).await.outcome, Outcome::Verified);
    // Broken again since: the frozen worker would have something to do.
    let dials = Dials::at([1, 1]);
    let answer = go(&aws, &dials, &job).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    assert!(answer.error.starts_with("superseded"), "{}", answer.error);
    assert!(dials.calls().is_empty());
    let evidence = aws.evidence(&job).await.0;
    assert_eq!((evidence.job.fence.as_str(), evidence.result.unwrap().outcome), ("2", Outcome::Verified));
}

#[tokio::test]
async fn defect_17_what_an_overtaken_worker_would_still_record_is_refused() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    let before = Before { pre_image: image([1, 1]), change: Change::default() };
    let (writer, place) = (aws.writer(), here());
    let Begun::Created(frozen) = record::begin(&writer, &place, &job, &before, None, "").await.unwrap() else {
        panic!()
    };
    let successor = Job { fence: "2".to_owned(), ..job.clone() };
    record::begin(&writer, &place, &successor, &before, None, "").await.unwrap();
    let end = record::end(&writer, &frozen, Outcome::Verified, "", Left::Own(&image([2, 2]))).await;
    assert!(matches!(end, Err(EvidenceError::Superseded { .. })), "{end:?}");
}

#[tokio::test]
async fn an_undo_gives_back_the_pre_image_and_can_itself_be_undone() {
    let (aws, job, dials) = (FakeAws::default(), job(GROUP), Dials::at([1, 7]));
    go(&aws, &dials, &job).await;
    let undo = undo_of(&job);
    assert_eq!(go(&aws, &dials, &undo).await.outcome, Outcome::Restored);
    assert_eq!(dials.numbers(), [1, 7]);
    let redo = Job { source_evidence_key: undo.evidence_key.clone(), evidence_key: "redo".to_owned(), ..undo };
    assert_eq!(go(&aws, &dials, &redo).await.outcome, Outcome::Restored);
    assert_eq!(dials.numbers(), [2, 2]);
}

#[tokio::test]
async fn an_undo_of_a_drifted_resource_changes_nothing() {
    let (aws, job) = (FakeAws::default(), job(GROUP));
    go(&aws, &Dials::at([1, 1]), &job).await;
    let drifted = Dials::at([2, 3]);
    assert_eq!(go(&aws, &drifted, &undo_of(&job)).await.outcome, Outcome::Drifted);
    assert!(drifted.calls().is_empty());
}

#[tokio::test]
async fn a_dry_run_of_an_undo_says_what_it_would_call() {
    let (aws, job, dials) = (FakeAws::default(), job(GROUP), Dials::at([1, 2]));
    go(&aws, &dials, &job).await;
    let dry = Job { mode: Mode::DryRun, ..undo_of(&job) };
    assert_eq!(go(&aws, &dials, &dry).await.outcome, Outcome::Planned);
    assert_eq!(dials.numbers(), [2, 2]);
    let change = aws.evidence(&dry).await.1.change;
    assert_eq!(change.0[0].parameters, json!({ "Dial": 0, "To": 1 }));
}

#[tokio::test]
async fn a_request_for_another_account_or_region_is_refused_before_any_call() {
    let aws = FakeAws::default();
    let clients = Clients::new(&aws.config());
    let request = |arn: &str, account: &str, region: &str| RemediateRequest {
        job: job(arn),
        native: "ec2_open_port".to_owned(),
        account_id: account.parse().unwrap(),
        region: region.parse().unwrap(),
        copy: None,
        parameters: [("Ports".to_owned(), json!([22]))].into(),
    };
    for wrong in [
        request(GROUP, "444455556666", "eu-central-1"),
        request(GROUP, "111122223333", "eu-west-1"),
        request("arn:aws:ec2:eu-central-1:444455556666:security-group/sg-1", "111122223333", "eu-central-1"),
        request("arn:aws:ec2:eu-west-1:111122223333:security-group/sg-1", "111122223333", "eu-central-1"),
    ] {
        let error = handle(&clients, &aws.writer(), &here(), wrong).await.unwrap_err();
        assert!(matches!(error, RemediateError::Binding(_)), "{error}");
    }
    let unknown = RemediateRequest { native: "ec2_open".to_owned(), ..request(GROUP, "111122223333", "eu-central-1") };
    let error = handle(&clients, &aws.writer(), &here(), unknown).await.unwrap_err();
    assert!(NATIVES.iter().all(|native| error.to_string().contains(native.name)), "{error}");
    assert!(aws.seen().is_empty());
}

#[tokio::test]
async fn each_function_refuses_what_the_other_runs_before_any_call() {
    let aws = FakeAws::default();
    let clients = Clients::new(&aws.config());
    let refused = async |place: &Place, native: &str| {
        let asked = request(native, GROUP, json!({ "Ports": [22], "AllowedDays": 30, "AccessKeyId": "" }));
        handle(&clients, &aws.writer(), place, asked).await.unwrap_err()
    };
    for destroyer in DESTROYERS {
        let error = refused(&here(), destroyer.name).await;
        assert!(matches!(error, RemediateError::Control { source: NativeError::Elsewhere { .. }, .. }), "{error}");
        assert!(error.to_string().contains("is run by `redress-destroy`, not by `redress-remediate`"), "{error}");
    }
    let setting = crate::native::setting::SETTINGS.iter().map(|setting| setting.name);
    for other in NATIVES.iter().map(|native| native.name).chain(setting) {
        let error = refused(&at_destroyer(), other).await;
        assert!(matches!(error, RemediateError::Control { source: NativeError::Elsewhere { .. }, .. }), "{error}");
        assert!(error.to_string().contains("is run by `redress-remediate`, not by `redress-destroy`"), "{error}");
    }
    // What neither has is answered with what it runs itself.
    let (theirs, own) = (refused(&at_destroyer(), "ec2_open").await, refused(&here(), "ec2_open").await);
    assert!(DESTROYERS.iter().all(|one| theirs.to_string().contains(one.name)), "{theirs}");
    assert!(!theirs.to_string().contains("ec2_open_port"), "{theirs}");
    assert!(!DESTROYERS.iter().any(|one| own.to_string().contains(one.name)), "{own}");
    assert!(aws.seen().is_empty());
}
