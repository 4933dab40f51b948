#![allow(clippy::unwrap_used, clippy::panic)]

use redress_common::contract::{CopyStep, Outcome};
use serde_json::{Value, json};

use super::*;
use crate::native::Clients;
use crate::remediate::handle;
use crate::testing::{FakeAws, here, job};

const VOLUME: &str = "arn:aws:ec2:eu-central-1:111122223333:volume/vol-1";

fn disk(id: &str, encrypted: bool, uses: &[(&str, &str)]) -> Disk {
    let at = |(instance, device): &(&str, &str)| Attachment {
        instance_id: (*instance).to_owned(),
        device: (*device).to_owned(),
    };
    Disk {
        volume_id: id.to_owned(),
        encrypted,
        size: 100,
        volume_type: "gp3".to_owned(),
        iops: Some(4000),
        throughput: Some(250),
        availability_zone: "eu-central-1a".to_owned(),
        attachments: uses.iter().map(at).collect(),
    }
}

fn before() -> State {
    let tags = [("Name".to_owned(), "db".to_owned())].into();
    State { volume: disk("vol-1", false, &[("i-1", "/dev/sdf")]), tags, replacement: None }
}

fn after() -> State {
    let replacement = Some(disk("vol-2", true, &[("i-1", "/dev/sdf")]));
    State { volume: disk("vol-1", false, &[]), replacement, ..before() }
}

fn image(state: &State) -> Image {
    Image { present: true, state: serde_json::to_value(state).unwrap() }
}

fn names(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.operation.as_str()).collect()
}

fn native(aws: &FakeAws) -> UnencryptedVolume {
    let request = request(Mode::Apply, "");
    UnencryptedVolume::new(aws_sdk_ec2::Client::new(&aws.config()), &request).unwrap()
}

fn request(mode: Mode, key: &str) -> RemediateRequest {
    let mut job = job(VOLUME);
    job.control = "EC2.3".parse().unwrap();
    job.mode = mode;
    RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: [("KmsKeyId".to_owned(), json!(key))].into(),
        copy: None,
    }
}

#[test]
fn the_new_volume_is_as_the_old_one_and_takes_its_place() {
    let calls = encrypt(&before(), Some("alias/mine")).unwrap();
    assert_eq!(names(&calls), ["CreateSnapshot", "CopySnapshot", "CreateVolume", "DetachVolume", "AttachVolume"]);
    assert_eq!(calls[1].parameters["KmsKeyId"], "alias/mine");
    assert_eq!(
        calls[2].parameters,
        json!({
            "SnapshotId": COPY, "Encrypted": true, "AvailabilityZone": "eu-central-1a", "Size": 100, "VolumeType": "gp3",
            "Iops": 4000, "Throughput": 250, "Tags": { "Name": "db" },
        })
    );
    let swap = |volume: &str| json!({ "VolumeId": volume, "InstanceId": "i-1", "Device": "/dev/sdf" });
    assert_eq!((&calls[3].parameters, &calls[4].parameters), (&swap("vol-1"), &swap(NEW)));
}

#[test]
fn iops_and_throughput_are_asked_for_only_where_ec2_takes_them() {
    for (kind, iops, throughput) in
        [("gp2", false, false), ("io2", true, false), ("gp3", true, true), ("st1", false, false)]
    {
        let mut state = before();
        state.volume.volume_type = kind.to_owned();
        let calls = encrypt(&state, None).unwrap();
        let asked = &calls[2].parameters;
        assert_eq!((asked["Iops"].is_i64(), asked["Throughput"].is_i64()), (iops, throughput), "{kind}");
        assert_eq!(calls[1].parameters["KmsKeyId"], Value::Null, "the account's default key");
    }
}

#[test]
fn what_is_encrypted_or_unused_needs_nothing_and_what_several_use_is_refused() {
    let of = |volume: Disk| State { volume, ..before() };
    assert_eq!(encrypt(&of(disk("vol-1", true, &[("i-1", "/dev/sdf")])), None).unwrap(), []);
    assert_eq!(encrypt(&of(disk("vol-1", false, &[])), None).unwrap(), []);
    assert_eq!(encrypt(&after(), None).unwrap(), []);
    let shared = of(disk("vol-1", false, &[("i-1", "/dev/sdf"), ("i-2", "/dev/sdf")]));
    assert!(encrypt(&shared, None).unwrap_err().to_string().contains("several instances"));
}

#[test]
fn a_volume_that_was_detached_and_not_replaced_does_not_count_as_fixed() {
    let native = native(&FakeAws::default());
    assert!(native.compliant(&image(&after())));
    let half = State { replacement: None, ..after() };
    assert!(!native.compliant(&image(&half)), "its instance lacks a disk");
    let plain = State { replacement: Some(disk("vol-2", false, &[("i-1", "/dev/sdf")])), ..after() };
    assert!(!native.compliant(&image(&plain)));
    let both = State { volume: disk("vol-1", false, &[("i-1", "/dev/sdg")]), ..after() };
    assert!(!native.compliant(&image(&both)), "the old one is still in use");
}

#[test]
fn the_undo_swaps_back_from_wherever_the_fix_came_to() {
    let calls = put_back(&after(), &before()).unwrap();
    assert_eq!(names(&calls), ["DetachVolume", "AttachVolume"]);
    assert_eq!(
        (&calls[0].parameters["VolumeId"], &calls[1].parameters["VolumeId"]),
        (&json!("vol-2"), &json!("vol-1"))
    );
    assert_eq!(calls[1].parameters["Device"], "/dev/sdf");
    let half = State { replacement: None, ..after() };
    assert_eq!(names(&put_back(&half, &before()).unwrap()), ["AttachVolume"]);
    let moved = State { replacement: Some(disk("vol-2", true, &[("i-2", "/dev/sdf")])), ..after() };
    assert!(put_back(&moved, &before()).is_err(), "somebody uses it elsewhere");
}

#[test]
fn a_key_that_is_none_is_refused() {
    let client = aws_sdk_ec2::Client::new(&FakeAws::default().config());
    for key in ["", "alias/mine", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab"] {
        assert!(UnencryptedVolume::new(client.clone(), &request(Mode::Apply, key)).is_ok(), "{key}");
    }
    assert!(UnencryptedVolume::new(client, &request(Mode::Apply, "a key")).is_err());
}

#[test]
fn apply_looks_for_the_copies_that_its_snapshot_run_made() {
    let client = aws_sdk_ec2::Client::new(&FakeAws::default().config());
    let apply = UnencryptedVolume::new(client.clone(), &request(Mode::Apply, "")).unwrap();
    let mut of_snapshot = request(Mode::Snapshot, "");
    let claim = ClaimKey::new(
        &of_snapshot.account_id,
        &of_snapshot.region,
        &of_snapshot.job.control,
        &of_snapshot.job.resource_arn,
    );
    of_snapshot.job.remediation_id = snapshot_id(&claim, of_snapshot.job.remediation_id);
    let copies = UnencryptedVolume::new(client, &of_snapshot).unwrap();
    assert_eq!(apply.copier, copies.copier);
    assert_ne!(apply.id, copies.id);
}

// ------------------------------------------------------------------------------------------- over EC2's answers

fn volumes(items: &str) -> String {
    format!(
        "<DescribeVolumesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><volumeSet>{items}</volumeSet></DescribeVolumesResponse>"
    )
}

fn volume() -> String {
    volumes(
        "<item><volumeId>vol-1</volumeId><size>100</size><availabilityZone>eu-central-1a</availabilityZone><status>in-use</status>\
         <volumeType>gp3</volumeType><iops>3000</iops><encrypted>false</encrypted><attachmentSet><item><instanceId>i-1</instanceId>\
         <device>/dev/sdf</device><status>attached</status></item></attachmentSet></item>",
    )
}

fn instance(state: &str) -> String {
    format!(
        "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item><instancesSet><item>\
         <instanceId>i-1</instanceId><instanceState><code>80</code><name>{state}</name></instanceState></item></instancesSet></item>\
         </reservationSet></DescribeInstancesResponse>"
    )
}

fn snapshots(items: &str) -> String {
    format!(
        "<DescribeSnapshotsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><snapshotSet>{items}</snapshotSet></DescribeSnapshotsResponse>"
    )
}

/// One look at the volume, on an instance in this state.
fn looks(aws: &FakeAws, state: &str) {
    aws.answer("DescribeVolumes", 200, &volume());
    aws.answer("DescribeVolumes", 200, &volumes(""));
    aws.answer("DescribeInstances", 200, &instance(state));
}

async fn ask(aws: &FakeAws, request: RemediateRequest) -> redress_common::contract::RemediateResponse {
    handle(&Clients::new(&aws.config()), &aws.writer(), &here(), request).await.unwrap()
}

fn called(aws: &FakeAws, name: &str) -> usize {
    aws.seen().iter().filter(|seen| seen.name == name).count()
}

#[tokio::test]
async fn on_a_running_instance_nothing_is_done_and_the_reason_is_exact() {
    for mode in [Mode::DryRun, Mode::Apply, Mode::Snapshot] {
        let aws = FakeAws::default();
        looks(&aws, "running");
        let copy = (mode == Mode::Snapshot).then_some(CopyStep::Make(1));
        let answer = ask(&aws, RemediateRequest { copy, ..request(mode, "") }).await;
        assert_eq!(answer.outcome, Outcome::Failed);
        let why = "instance i-1 is running; its volumes are replaced only while it is stopped. Stop it and ask again";
        assert_eq!(answer.error, why, "{mode:?}");
        assert_eq!(called(&aws, "CreateSnapshot") + called(&aws, "DetachVolume"), 0);
    }
}

#[tokio::test]
async fn the_copies_are_made_one_after_the_other_and_what_only_led_to_the_last_is_removed() {
    let aws = FakeAws::default();
    let made = "<CreateSnapshotResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><snapshotId>snap-1</snapshotId></CreateSnapshotResponse>";
    let copied = "<CopySnapshotResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><snapshotId>snap-2</snapshotId></CopySnapshotResponse>";
    let complete =
        |id: &str| snapshots(&format!("<item><snapshotId>{id}</snapshotId><status>completed</status></item>"));
    let step = |copy| RemediateRequest { copy: Some(copy), ..request(Mode::Snapshot, "alias/mine") };

    looks(&aws, "stopped");
    aws.answer("DescribeSnapshots", 200, &snapshots(""));
    aws.answer("CreateSnapshot", 200, made);
    let first = ask(&aws, step(CopyStep::Make(1))).await;
    assert_eq!((first.decision.as_str(), first.made.as_str()), ("Proceed", "snap-1"));

    looks(&aws, "stopped");
    aws.answer("DescribeSnapshots", 200, &snapshots(""));
    aws.answer("DescribeSnapshots", 200, &complete("snap-1"));
    aws.answer("CopySnapshot", 200, copied);
    let second = ask(&aws, step(CopyStep::Make(2))).await;
    assert_eq!((second.decision.as_str(), second.made.as_str()), ("Proceed", "snap-2"));
    let copy = aws.seen().into_iter().find(|seen| seen.name == "CopySnapshot").unwrap();
    let asked = String::from_utf8(copy.body).unwrap();
    assert!(asked.contains("Encrypted=true") && asked.contains("KmsKeyId=alias%2Fmine"), "{asked}");

    looks(&aws, "stopped");
    aws.answer("DescribeSnapshots", 200, &complete("snap-2"));
    aws.answer("DescribeSnapshots", 200, &complete("snap-1"));
    aws.answer("DeleteSnapshot", 200, "<DeleteSnapshotResponse/>");
    let end = ask(&aws, step(CopyStep::Finish)).await;
    assert_eq!(end.outcome, Outcome::Snapshotted);
    let removed = aws.seen().into_iter().find(|seen| seen.name == "DeleteSnapshot").unwrap();
    assert!(String::from_utf8(removed.body).unwrap().contains("SnapshotId=snap-1"), "the copy stays");
    let (evidence, before, _) = aws.evidence(&step(CopyStep::Finish).job).await;
    assert_eq!(evidence.result.unwrap().made, "snap-2");
    assert_eq!(before.change.0.len(), 5, "the plan is whole: what was copied, and what will be swapped");
}

#[tokio::test]
async fn a_copy_that_cannot_be_made_or_is_not_complete_takes_with_it_what_was_made() {
    for fails in [CopyStep::Make(1), CopyStep::Discard] {
        let aws = FakeAws::default();
        looks(&aws, "stopped");
        if fails == CopyStep::Make(1) {
            aws.answer("DescribeSnapshots", 200, &snapshots(""));
            aws.answer(
                "CreateSnapshot",
                400,
                "<Response><Errors><Error><Code>SnapshotLimitExceeded</Code></Error></Errors></Response>",
            );
        }
        aws.answer(
            "DescribeSnapshots",
            200,
            &snapshots("<item><snapshotId>snap-9</snapshotId><status>pending</status></item>"),
        );
        aws.answer("DeleteSnapshot", 200, "<DeleteSnapshotResponse/>");
        let end = ask(&aws, RemediateRequest { copy: Some(fails), ..request(Mode::Snapshot, "") }).await;
        assert_eq!(end.outcome, Outcome::Failed, "{fails:?}: {}", end.error);
        assert_ne!(end.decision, "Proceed");
        assert_eq!(called(&aws, "DeleteSnapshot"), 1, "{fails:?}");
    }
}

#[tokio::test]
async fn another_plan_than_the_approved_one_makes_no_copy() {
    let aws = FakeAws::default();
    looks(&aws, "stopped");
    let mut asked = RemediateRequest { copy: Some(CopyStep::Make(1)), ..request(Mode::Snapshot, "") };
    asked.job.plan_sha256 = "a".repeat(64);
    let answer = ask(&aws, asked).await;
    assert_eq!((answer.outcome, called(&aws, "CreateSnapshot")), (Outcome::Drifted, 0));
}

#[tokio::test]
async fn without_its_copy_nothing_is_detached() {
    let aws = FakeAws::default();
    looks(&aws, "stopped");
    looks(&aws, "stopped");
    aws.answer(
        "DescribeSnapshots",
        200,
        &snapshots("<item><snapshotId>snap-2</snapshotId><status>pending</status></item>"),
    );
    aws.answer("DescribeVolumes", 200, &volumes(""));
    looks(&aws, "stopped");
    let answer = ask(&aws, request(Mode::Apply, "")).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    assert!(answer.error.contains("`$copy`") && answer.error.contains("not complete"), "{}", answer.error);
    assert_eq!(called(&aws, "CreateVolume") + called(&aws, "DetachVolume"), 0);
}

#[tokio::test]
async fn a_mode_and_a_step_that_do_not_go_together_are_a_fault_of_the_runbook() {
    for (mode, copy) in [(Mode::Snapshot, None), (Mode::Apply, Some(CopyStep::Make(1)))] {
        let aws = FakeAws::default();
        let asked = RemediateRequest { copy, ..request(mode, "") };
        let refused = handle(&Clients::new(&aws.config()), &aws.writer(), &here(), asked).await;
        assert!(refused.unwrap_err().to_string().contains("compile it again"));
        assert!(aws.seen().is_empty());
    }
}
