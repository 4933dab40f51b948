#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use redress_common::contract::CopyStep;

use super::*;
use crate::native::Clients;
use crate::remediate::handle;
use crate::testing::{FakeAws, at_destroyer, job};

const INSTANCE: &str = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn state() -> State {
    State {
        instance_id: "i-1".to_owned(),
        state: STOPPED.to_owned(),
        since: Some(at("2026-10-01T12:00:00Z")),
        is_protected: false,
        lifecycle: None,
        image_id: Some("ami-0".to_owned()),
        instance_type: Some("t3.micro".to_owned()),
        subnet_id: Some("subnet-1".to_owned()),
        private_ip_address: Some("10.0.0.7".to_owned()),
        availability_zone: Some("eu-central-1a".to_owned()),
        key_name: None,
        instance_profile: None,
        security_groups: vec!["sg-1".to_owned()],
        volumes: BTreeMap::new(),
        tags: [("Team".to_owned(), "batch".to_owned())].into(),
    }
}

fn request(mode: Mode) -> RemediateRequest {
    let mut job = job(INSTANCE);
    job.control = "EC2.4".parse().unwrap();
    job.mode = mode;
    RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: [("AllowedDays".to_owned(), json!(30))].into(),
        copy: None,
    }
}

fn native(aws: &FakeAws, mode: Mode) -> StoppedInstance {
    StoppedInstance::new(aws_sdk_ec2::Client::new(&aws.config()), &request(mode), at("2026-11-20T12:00:00Z")).unwrap()
}

fn names(aws: &FakeAws) -> Vec<String> {
    aws.seen().into_iter().map(|seen| seen.name).collect()
}

fn instance(name: &str, devices: &[&str]) -> String {
    let disks: String = devices
        .iter()
        .map(|device| {
            format!(
                "<item><deviceName>{device}</deviceName><ebs><volumeId>vol-1</volumeId><status>attached</status>\
                 <deleteOnTermination>true</deleteOnTermination></ebs></item>"
            )
        })
        .collect();
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
         <instanceState><code>80</code><name>{name}</name></instanceState><reason>User initiated (2026-10-01 12:00:00 GMT)</reason>\
         <blockDeviceMapping>{disks}</blockDeviceMapping></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
}

fn image(state: &str, devices: &[&str]) -> String {
    let disks: String = devices
        .iter()
        .map(|device| {
            format!("<item><deviceName>{device}</deviceName><ebs><snapshotId>snap{device}</snapshotId></ebs></item>")
        })
        .collect();
    format!(
        "<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId><imageState>{state}</imageState>\
         <blockDeviceMapping>{disks}</blockDeviceMapping></item></imagesSet></DescribeImagesResponse>"
    )
}

const NO_IMAGE: &str = "<DescribeImagesResponse><imagesSet/></DescribeImagesResponse>";
const UNPROTECTED: &str = "<DescribeInstanceAttributeResponse><instanceId>i-1</instanceId><disableApiTermination>\
                           <value>false</value></disableApiTermination></DescribeInstanceAttributeResponse>";

#[test]
fn only_what_has_been_stopped_for_long_is_terminated_and_an_image_comes_first() {
    let before = at("2026-10-21T12:00:00Z");
    let calls = terminate(&state(), before).unwrap();
    let said: Vec<String> = calls.iter().map(|call| format!("{} {}", call.operation, call.parameters)).collect();
    assert_eq!(
        said,
        ["CreateImage {\"InstanceId\":\"i-1\",\"NoReboot\":true}", "TerminateInstances {\"InstanceIds\":[\"i-1\"]}"]
    );
    let young = State { since: Some(before), ..state() };
    assert_eq!(terminate(&young, before).unwrap(), []);
    let running = State { state: "running".to_owned(), ..state() };
    assert_eq!(terminate(&running, before).unwrap(), []);
}

#[test]
fn what_somebody_or_something_wants_kept_is_refused() {
    let refused = |state: State| terminate(&state, at("2026-10-21T12:00:00Z")).unwrap_err().to_string();
    assert!(refused(State { since: None, ..state() }).contains("does not say since when"));
    assert!(refused(State { is_protected: true, ..state() }).contains("termination protection"));
    assert!(refused(State { lifecycle: Some("spot".to_owned()), ..state() }).contains("Spot Instance"));
    let tags = [(GROUP.to_owned(), "web".to_owned())].into();
    assert!(refused(State { tags, ..state() }).contains("Auto Scaling"));
}

#[test]
fn the_time_of_a_stop_is_read_where_it_is_told() {
    let told = |reason: &str| since(reason).map(|time| time.to_string());
    assert_eq!(told("User initiated (2026-10-20 12:00:00 GMT)").as_deref(), Some("2026-10-20T12:00:00Z"));
    assert_eq!(told("User initiated (2026-10-20 12:00:00 UTC)").as_deref(), Some("2026-10-20T12:00:00Z"));
    for other in
        ["", "User initiated", "Server.ScheduledStop: retirement", "x (2026-10-20 12:00:00 CET)", "x (soon GMT)"]
    {
        assert_eq!(told(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn a_reason_of_any_text_is_read_or_not(reason in "[ -~]{0,60}", seconds in 0_i64..4_000_000_000) {
        let _ = since(&reason);
        let time = Timestamp::from_second(seconds).unwrap();
        let text = format!("{reason} ({} GMT)", time.strftime("%Y-%m-%d %H:%M:%S"));
        prop_assert_eq!(since(&text), Some(time));
    }
}

#[tokio::test]
async fn a_terminated_instance_complies_and_its_undo_names_the_image() {
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Apply);
    for name in ["terminated", "shutting-down"] {
        aws.answer("DescribeInstances", 200, &instance(name, &[]));
        aws.answer("DescribeImages", 200, &image("available", &["/dev/xvda"]));
        let gone = native.inspect().await.unwrap().unwrap();
        assert!(!gone.present && native.compliant(&gone), "{name}");
        let refused = native.plan_restore(&gone, &gone).unwrap_err().to_string();
        assert!(refused.contains("cannot be had back") && refused.contains("ami-1"), "{refused}");
    }
    let missing = "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>no</Message></Error></Errors></Response>";
    aws.answer("DescribeInstances", 400, missing);
    aws.answer("DescribeImages", 200, NO_IMAGE);
    assert_eq!(native.inspect().await.unwrap(), Some(judge::absent()));
}

#[tokio::test]
async fn an_instance_whose_protection_nobody_tells_counts_as_protected() {
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Apply);
    aws.answer("DescribeInstances", 200, &instance(STOPPED, &["/dev/xvda"]));
    aws.answer("DescribeInstanceAttribute", 200, "<DescribeInstanceAttributeResponse/>");
    let now = native.inspect().await.unwrap().unwrap();
    assert!(native.plan(&now).unwrap_err().to_string().contains("termination protection"));
}

#[tokio::test]
async fn nothing_is_terminated_without_a_complete_image_of_every_volume() {
    let call =
        |operation: &str| Call { service: "ec2".to_owned(), operation: operation.to_owned(), parameters: json!({}) };
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Apply);
    for (images, lacks) in [
        (NO_IMAGE.to_owned(), "not there"),
        (image("pending", &["/dev/xvda", "/dev/sdf"]), "not complete"),
        (image("available", &["/dev/xvda"]), "volume at /dev/sdf"),
    ] {
        aws.answer("DescribeImages", 200, &images);
        aws.answer("DescribeInstances", 200, &instance(STOPPED, &["/dev/xvda", "/dev/sdf"]));
        let refused = native.call(&call("TerminateInstances")).await.unwrap_err().to_string();
        assert!(refused.contains(lacks), "{refused}");
    }
    assert!(!names(&aws).contains(&"TerminateInstances".to_owned()));
}

#[tokio::test]
async fn an_image_is_made_once_and_an_unfinished_one_is_removed_with_its_snapshots() {
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Snapshot);
    aws.answer("DescribeImages", 200, NO_IMAGE);
    aws.answer("CreateImage", 200, "<CreateImageResponse><imageId>ami-1</imageId></CreateImageResponse>");
    assert_eq!(native.copy(1).await.unwrap(), "ami-1");
    let asked = String::from_utf8(aws.seen()[1].body.clone()).unwrap();
    assert!(asked.contains("NoReboot=true") && asked.contains("redress%3Ainstance"), "{asked}");
    aws.answer("DescribeImages", 200, &image("pending", &["1", "2"]));
    assert_eq!(native.copy(1).await.unwrap(), "ami-1");
    aws.answer("DescribeImages", 200, &image("pending", &["1", "2"]));
    aws.answer("DeregisterImage", 200, "<DeregisterImageResponse/>");
    aws.answer("DeleteSnapshot", 200, "<DeleteSnapshotResponse/>");
    aws.answer("DeleteSnapshot", 200, "<DeleteSnapshotResponse/>");
    native.discard(Mode::Snapshot).await.unwrap();
    native.discard(Mode::Apply).await.unwrap();
    let made = ["DescribeImages", "CreateImage", "DescribeImages", "DescribeImages"];
    let removed = ["DeregisterImage", "DeleteSnapshot", "DeleteSnapshot"];
    assert_eq!(names(&aws), made.into_iter().chain(removed).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_image_is_the_one_of_the_snapshot_run_of_the_same_remediation() {
    let aws = FakeAws::default();
    let claim = ClaimKey::new(
        &"111122223333".parse().unwrap(),
        &"eu-central-1".parse().unwrap(),
        &"EC2.4".parse().unwrap(),
        &INSTANCE.parse().unwrap(),
    );
    let mut of_snapshot = request(Mode::Snapshot);
    of_snapshot.job.remediation_id = snapshot_id(&claim, of_snapshot.job.remediation_id);
    let client = aws_sdk_ec2::Client::new(&aws.config());
    let copying = StoppedInstance::new(client, &of_snapshot, at("2026-11-20T12:00:00Z")).unwrap();
    assert_eq!(copying.copier, native(&aws, Mode::Apply).copier);
}

#[tokio::test]
async fn in_mode_snapshot_the_instance_itself_is_never_changed() {
    let aws = FakeAws::default();
    aws.answer("DescribeInstances", 200, &instance(STOPPED, &["/dev/xvda"]));
    aws.answer("DescribeInstanceAttribute", 200, UNPROTECTED);
    aws.answer("DescribeImages", 200, NO_IMAGE);
    aws.answer("CreateImage", 200, "<CreateImageResponse><imageId>ami-1</imageId></CreateImageResponse>");
    let mut asked = request(Mode::Snapshot);
    asked.copy = Some(CopyStep::Make(1));
    let answer = handle(&Clients::new(&aws.config()), &aws.writer(), &at_destroyer(), asked).await.unwrap();
    assert_eq!((answer.decision.as_str(), answer.made.as_str()), ("Proceed", "ami-1"));
    assert!(!names(&aws).contains(&"TerminateInstances".to_owned()));
}
