#![allow(clippy::unwrap_used, clippy::panic)]

use redress_common::contract::Call;
use serde_json::json;

use super::*;
use crate::testing::{FakeAws, Seen, here, job, undo_of};

const BUCKET: &str = "arn:aws:s3:::bucket";

fn image(n: u32) -> Image {
    Image { present: true, state: json!({ "N": n, "Secret": "hunter2" }) }
}

fn change() -> Change {
    let parameters = json!({ "Bucket": "bucket", "Word": "hunter2" });
    Change(vec![Call { service: "s3".to_owned(), operation: "PutPublicAccessBlock".to_owned(), parameters }])
}

fn prepared(job: &Job, image: Image) -> RecorderRequest {
    RecorderRequest::Prepare(Prepare { job: job.clone(), image, change: change() })
}

fn loaded(job: &Job, image: Image) -> RecorderRequest {
    RecorderRequest::Load(Prepare { job: job.clone(), image, change: Change::default() })
}

fn finished(job: &Job, outcome: Outcome, image: Image) -> RecorderRequest {
    RecorderRequest::Finish(Finish {
        job: job.clone(),
        outcome,
        image,
        error: String::new(),
        unread: false,
        patient: false,
    })
}

async fn ask(aws: &FakeAws, request: RecorderRequest) -> RecorderResponse {
    handle(&aws.writer(), &here(), request).await.unwrap()
}

async fn outcome(aws: &FakeAws, job: &Job) -> Option<Outcome> {
    aws.evidence(job).await.0.result.map(|result| result.outcome)
}

/// A remediation of `job` from image 1 to image 2.
async fn remediated(aws: &FakeAws, job: &Job) {
    assert_eq!(ask(aws, prepared(job, image(1))).await.decision, "Proceed");
    assert_eq!(ask(aws, finished(job, Outcome::Verified, image(2))).await.decision, "Verified");
}

#[tokio::test]
async fn a_remediation_leaves_pre_image_change_and_post_image_behind() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let (evidence, before, after) = aws.evidence(&job).await;
    assert_eq!(before, Before { pre_image: image(1), change: change() });
    assert_eq!(after, Some(image(2)));
    assert_eq!(evidence.change_sha256, canonical_sha256(&change()).unwrap());
}

#[tokio::test]
async fn both_puts_are_conditional_encrypted_and_bound_to_the_buckets_owner() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let puts: Vec<Seen> = aws.seen().into_iter().filter(|seen| seen.name == "PUT").collect();
    assert_eq!(puts.len(), 2);
    for put in &puts {
        let header = |name: &str| put.headers.get(name).map(String::as_str);
        assert_eq!(header("x-amz-server-side-encryption"), Some("aws:kms"));
        assert!(header("x-amz-server-side-encryption-aws-kms-key-id").unwrap().ends_with("key/member"));
        assert_eq!(header("x-amz-expected-bucket-owner"), Some("111122223333"));
        assert_eq!(header("content-type"), Some("application/json"));
    }
    assert_eq!(puts[0].headers["if-none-match"], "*");
    assert_eq!(puts[0].headers["x-amz-meta-outcome"], "Started");
    assert_eq!(puts[1].headers["if-match"], "\"1\"");
    assert_eq!(puts[1].headers["x-amz-meta-outcome"], "Verified");
}

#[tokio::test]
async fn nothing_of_a_pre_image_or_change_is_stored_in_the_clear() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    assert!(!aws.everything().contains("hunter2"));
}

#[tokio::test]
async fn defect_18_a_repeated_prepare_goes_on_when_nothing_was_changed_and_stops_when_something_was() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    ask(&aws, prepared(&job, image(1))).await;
    assert_eq!(ask(&aws, prepared(&job, image(1))).await.decision, "Proceed");
    assert_eq!(ask(&aws, prepared(&job, image(7))).await.decision, "Failed");
    assert_eq!(outcome(&aws, &job).await, Some(Outcome::Failed));
    assert_eq!(aws.evidence(&job).await.1.pre_image, image(1), "the first pre-image stands");
    // And the runbook's own record of that decision changes nothing.
    assert_eq!(ask(&aws, finished(&job, Outcome::Failed, image(7))).await.decision, "Failed");
}

#[tokio::test]
async fn a_lost_answer_to_the_put_is_no_second_pre_image() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    aws.lose_next_put();
    assert!(handle(&aws.writer(), &here(), prepared(&job, image(1))).await.is_err());
    assert_eq!(ask(&aws, prepared(&job, image(1))).await.decision, "Proceed");
    aws.lose_next_put();
    assert!(handle(&aws.writer(), &here(), finished(&job, Outcome::Verified, image(2))).await.is_err());
    assert_eq!(ask(&aws, finished(&job, Outcome::Verified, image(2))).await.decision, "Verified");
    assert_eq!(aws.seen().iter().filter(|seen| seen.name == "PUT").count(), 3);
}

#[tokio::test]
async fn a_dry_run_is_recorded_as_planned() {
    let aws = FakeAws::default();
    let job = Job { mode: Mode::DryRun, ..job(BUCKET) };
    assert_eq!(ask(&aws, prepared(&job, image(1))).await.decision, "Proceed");
    assert_eq!(ask(&aws, finished(&job, Outcome::Planned, image(1))).await.decision, "Planned");
}

/// The hash of what a dry run of `job` records about image 1.
async fn approved(aws: &FakeAws, job: &Job) -> String {
    let dry = Job {
        remediation_id: redress_common::ids::RemediationId::of_rejected(b"plan"),
        mode: Mode::DryRun,
        evidence_key: "year=2026/month=01/day=02/remediation-0.json".to_owned(),
        ..job.clone()
    };
    ask(aws, prepared(&dry, image(1))).await;
    ask(aws, finished(&dry, Outcome::Planned, image(1))).await;
    let evidence = aws.evidence(&dry).await.0;
    redress_common::contract::plan_sha256(&evidence.pre_image_sha256, &evidence.change_sha256)
}

#[tokio::test]
async fn the_approved_plan_is_applied_and_no_other() {
    let aws = FakeAws::default();
    let job = Job { plan_sha256: approved(&aws, &job(BUCKET)).await, ..job(BUCKET) };
    remediated(&aws, &job).await;

    let drifted = Job { evidence_key: "drifted".to_owned(), ..job.clone() };
    assert_eq!(ask(&aws, prepared(&drifted, image(7))).await.decision, "Drifted", "another state");
    let other = Change(vec![Call { operation: "DeleteBucketPolicy".to_owned(), ..change().0[0].clone() }]);
    let changed = Job { evidence_key: "changed".to_owned(), ..job.clone() };
    let request = RecorderRequest::Prepare(Prepare { job: changed.clone(), image: image(1), change: other });
    assert_eq!(ask(&aws, request).await.decision, "Drifted", "another change");
    for void in [drifted, changed] {
        let result = aws.evidence(&void).await.0.result.unwrap();
        assert_eq!((result.outcome, result.error.as_str()), (Outcome::Drifted, VOID));
        // The runbook records the decision, and is tried again: it stays the same.
        assert_eq!(ask(&aws, finished(&void, Outcome::Drifted, image(7))).await.decision, "Drifted");
        assert_eq!(ask(&aws, prepared(&void, image(1))).await.decision, "Drifted");
    }
}

#[tokio::test]
async fn what_became_compliant_since_it_was_approved_is_already_compliant() {
    let aws = FakeAws::default();
    let job = Job { plan_sha256: approved(&aws, &job(BUCKET)).await, ..job(BUCKET) };
    let look = RecorderRequest::Prepare(Prepare { job: job.clone(), image: image(2), change: Change::default() });
    assert_eq!(ask(&aws, look).await.decision, "Proceed");
    assert_eq!(ask(&aws, finished(&job, Outcome::AlreadyCompliant, image(2))).await.decision, "AlreadyCompliant");
}

#[tokio::test]
async fn an_approved_plan_that_died_half_done_is_no_drift() {
    let aws = FakeAws::default();
    let job = Job { plan_sha256: approved(&aws, &job(BUCKET)).await, ..job(BUCKET) };
    assert_eq!(ask(&aws, prepared(&job, image(1))).await.decision, "Proceed");
    assert_eq!(ask(&aws, prepared(&job, image(7))).await.decision, "Failed", "something may have been changed");
}

#[tokio::test]
async fn defect_05_a_compliant_resource_is_already_compliant_and_no_error() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    let look = RecorderRequest::Prepare(Prepare { job: job.clone(), image: image(2), change: Change::default() });
    ask(&aws, look).await;
    let answer = ask(&aws, finished(&job, Outcome::AlreadyCompliant, image(2))).await;
    assert_eq!(answer.decision, "AlreadyCompliant");
}

#[tokio::test]
async fn defect_18_a_try_that_changed_and_died_is_verified_by_the_next_one() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    ask(&aws, prepared(&job, image(1))).await;
    // The next execution finds the resource compliant, notes that, and records it.
    let look = RecorderRequest::Prepare(Prepare { job: job.clone(), image: image(2), change: Change::default() });
    assert_eq!(ask(&aws, look).await.decision, "Proceed");
    let answer = ask(&aws, finished(&job, Outcome::AlreadyCompliant, image(2))).await;
    assert_eq!(answer.decision, "Verified");
}

#[tokio::test]
async fn an_undo_gets_the_pre_image_and_is_restored_when_it_reads_back() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let undo = undo_of(&job);
    let answer = ask(&aws, loaded(&undo, image(2))).await;
    assert_eq!((answer.decision.as_str(), answer.present, &answer.state), ("Proceed", true, &image(1).state));
    assert_eq!(ask(&aws, finished(&undo, Outcome::Restored, image(1))).await.decision, "Restored");
    assert_eq!(aws.evidence(&undo).await.1.pre_image, image(2), "an undo can itself be undone");
}

#[tokio::test]
async fn an_undo_that_does_not_read_back_is_unverified() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let undo = undo_of(&job);
    ask(&aws, loaded(&undo, image(2))).await;
    assert_eq!(ask(&aws, finished(&undo, Outcome::Restored, image(2))).await.decision, "Unverified");
    assert_eq!(ask(&aws, finished(&undo, Outcome::Restored, image(2))).await.decision, "Unverified");
}

#[tokio::test]
async fn an_undo_that_does_not_show_yet_is_looked_at_once_more() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let undo = undo_of(&job);
    ask(&aws, loaded(&undo, image(2))).await;
    let first = |n| {
        let RecorderRequest::Finish(finish) = finished(&undo, Outcome::Restored, image(n)) else { panic!() };
        RecorderRequest::Finish(Finish { patient: true, ..finish })
    };
    assert_eq!(ask(&aws, first(2)).await.decision, "Again");
    assert_eq!(outcome(&aws, &undo).await, None, "nothing is recorded yet");
    assert_eq!(ask(&aws, finished(&undo, Outcome::Restored, image(1))).await.decision, "Restored");
    assert_eq!(ask(&aws, first(1)).await.decision, "Restored");
}

#[tokio::test]
async fn an_undo_of_a_drifted_resource_changes_nothing() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let undo = undo_of(&job);
    let answer = ask(&aws, loaded(&undo, image(9))).await;
    assert_eq!((answer.decision.as_str(), answer.state), ("Drifted", json!({})));
    assert_eq!(outcome(&aws, &undo).await, Some(Outcome::Drifted));
    assert_eq!(ask(&aws, finished(&undo, Outcome::Drifted, image(9))).await.decision, "Drifted");
}

#[tokio::test]
async fn an_undo_of_what_never_ended_is_drifted_unless_nothing_changed() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    ask(&aws, prepared(&job, image(1))).await;
    let undo = undo_of(&job);
    assert_eq!(ask(&aws, loaded(&undo, image(2))).await.decision, "Drifted");
    let again = Job { evidence_key: "year=2026/month=01/day=03/remediation-3.json".to_owned(), ..undo };
    assert_eq!(ask(&aws, loaded(&again, image(1))).await.decision, "Restored");
}

#[tokio::test]
async fn an_unverified_remediation_can_be_undone() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    ask(&aws, prepared(&job, image(1))).await;
    ask(&aws, finished(&job, Outcome::Unverified, image(5))).await;
    assert_eq!(ask(&aws, loaded(&undo_of(&job), image(5))).await.decision, "Proceed");
}

#[tokio::test]
async fn defect_18_a_repeated_undo_goes_on_ends_or_stops_by_what_it_finds() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let undo = undo_of(&job);
    ask(&aws, loaded(&undo, image(2))).await;
    assert_eq!(ask(&aws, loaded(&undo, image(2))).await.decision, "Proceed");
    assert_eq!(ask(&aws, loaded(&undo, image(3))).await.decision, "Failed", "half undone");
    let other = Job { evidence_key: "year=2026/month=01/day=03/remediation-3.json".to_owned(), ..undo };
    ask(&aws, loaded(&other, image(2))).await;
    assert_eq!(ask(&aws, loaded(&other, image(1))).await.decision, "Restored");
}

#[tokio::test]
async fn what_a_stopped_remediation_found_is_not_taken_for_what_it_left() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    ask(&aws, prepared(&job, image(1))).await;
    assert_eq!(ask(&aws, prepared(&job, image(7))).await.decision, "Failed");
    assert_eq!(aws.evidence(&job).await.2, Some(image(7)), "people can see what was found");
    assert_eq!(ask(&aws, loaded(&undo_of(&job), image(7))).await.decision, "Drifted", "it may be somebody else's");
}

#[tokio::test]
async fn a_state_that_could_not_be_read_is_not_taken_for_an_absent_one() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    ask(&aws, prepared(&job, image(1))).await;
    let RecorderRequest::Finish(finish) = finished(&job, Outcome::Unverified, judge::absent()) else { panic!() };
    ask(&aws, RecorderRequest::Finish(Finish { unread: true, ..finish })).await;
    assert_eq!(ask(&aws, loaded(&undo_of(&job), judge::absent())).await.decision, "Drifted");
}

fn with_fence(job: &Job, fence: u64) -> Job {
    Job { fence: fence.to_string(), ..job.clone() }
}

#[tokio::test]
async fn defect_17_a_runbook_that_was_overtaken_is_refused_and_records_nothing() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    let (frozen, successor) = (with_fence(&job, 1), with_fence(&job, 2));
    assert_eq!(ask(&aws, prepared(&frozen, image(1))).await.decision, "Proceed");
    assert_eq!(ask(&aws, prepared(&successor, image(1))).await.decision, "Proceed");
    assert_eq!(aws.evidence(&job).await.0.job.fence, "2");
    let put = aws.seen().into_iter().rfind(|seen| seen.name == "PUT").unwrap();
    assert_eq!((put.headers["if-match"].as_str(), put.headers["x-amz-meta-fence"].as_str()), ("\"1\"", "2"));
    // The frozen one wakes: whatever it asks for, it gets no `Proceed`, and its end is not recorded.
    assert_eq!(ask(&aws, prepared(&frozen, image(1))).await.decision, "Failed");
    assert_eq!(ask(&aws, finished(&frozen, Outcome::Failed, image(1))).await.decision, "Failed");
    assert_eq!(outcome(&aws, &job).await, None);
    assert_eq!(ask(&aws, finished(&successor, Outcome::Verified, image(2))).await.decision, "Verified");
    assert_eq!(ask(&aws, finished(&frozen, Outcome::Failed, image(1))).await.decision, "Failed");
    assert_eq!(outcome(&aws, &job).await, Some(Outcome::Verified));
}

#[tokio::test]
async fn defect_17_an_undo_that_was_overtaken_is_refused_too() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let undo = undo_of(&job);
    let (frozen, successor) = (with_fence(&undo, 3), with_fence(&undo, 4));
    ask(&aws, loaded(&frozen, image(2))).await;
    assert_eq!(ask(&aws, loaded(&successor, image(2))).await.decision, "Proceed");
    let refused = ask(&aws, loaded(&frozen, image(2))).await;
    assert_eq!((refused.decision.as_str(), refused.state), ("Failed", json!({})));
}

#[tokio::test]
async fn a_takeover_whose_answer_was_lost_is_a_takeover() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    ask(&aws, prepared(&with_fence(&job, 1), image(1))).await;
    // The put of the create is refused; the one of the takeover is done, and its answer lost.
    aws.lose_next_put();
    assert!(handle(&aws.writer(), &here(), prepared(&with_fence(&job, 2), image(1))).await.is_err());
    assert_eq!(ask(&aws, prepared(&with_fence(&job, 2), image(1))).await.decision, "Proceed");
    assert_eq!(aws.evidence(&job).await.0.job.fence, "2");
}

#[tokio::test]
async fn an_undo_takes_no_evidence_of_another_resource_or_none() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    remediated(&aws, &job).await;
    let other = Job { resource_arn: "arn:aws:s3:::other".parse().unwrap(), ..undo_of(&job) };
    let error = handle(&aws.writer(), &here(), loaded(&other, image(2))).await.unwrap_err();
    assert!(matches!(error, RecorderError::Source(SourceError::Other { .. })), "{error}");
    let nameless = Job { source_evidence_key: String::new(), ..undo_of(&job) };
    let error = handle(&aws.writer(), &here(), loaded(&nameless, image(2))).await.unwrap_err();
    assert!(matches!(error, RecorderError::Source(SourceError::Unnamed)), "{error}");
}

#[tokio::test]
async fn without_a_pre_image_no_end_is_recorded() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    let error = handle(&aws.writer(), &here(), finished(&job, Outcome::Verified, image(2))).await.unwrap_err();
    assert!(matches!(error, RecorderError::Evidence(EvidenceError::NotFound { .. })), "{error}");
}

#[tokio::test]
async fn defect_10_a_resource_of_another_account_leaves_no_trace_here() {
    let aws = FakeAws::default();
    let theirs = job("arn:aws:kms:eu-central-1:444455556666:key/k");
    let error = handle(&aws.writer(), &here(), prepared(&theirs, image(1))).await.unwrap_err();
    assert!(matches!(error, RecorderError::Binding(_)), "{error}");
    assert!(aws.seen().is_empty());
}

#[test]
fn a_request_is_taken_as_ssm_sends_it() {
    let request = json!({
        "Verb": "Prepare", "RemediationId": "0d4c1f3e-5f0b-5b0e-9a51-0c7f2f1f7a10", "Control": "S3.8",
        "ResourceArn": BUCKET, "ResourceName": "bucket", "Mode": "Apply", "Fence": "1", "EvidenceKey": "k",
        "SourceEvidenceKey": "", "Present": "true", "State": "{\"A\":true}",
        "Change": [{ "Service": "s3", "Operation": "PutBucketPolicy", "Parameters": {} }],
    });
    let RecorderRequest::Prepare(prepare) = serde_json::from_value(request.clone()).unwrap() else {
        panic!("another verb");
    };
    assert_eq!(prepare.image, Image { present: true, state: json!({ "A": true }) });
    assert_eq!(prepare.change.0.len(), 1);
    for (field, value) in
        [("Verb", json!("Delete")), ("Mode", json!("apply")), ("Fence", json!(1)), ("Change", json!("[]"))]
    {
        let mut wrong = request.clone();
        wrong[field] = value;
        assert!(serde_json::from_value::<RecorderRequest>(wrong).is_err(), "{field}");
    }
}
