#![allow(clippy::unwrap_used, clippy::panic)]

use redress_common::contract::{CopyStep, Outcome, plan_sha256};

use serde_json::Value;

use super::*;
use crate::remediate::handle;
use crate::testing::{FakeAws, at_destroyer, job};

const INSTANCE: &str = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1";
const TAGGED: &[(&str, &str)] = &[("redress:contained", "7b1c0f2e-9d3a-5c41-8f60-0123456789ab")];

fn state() -> State {
    let volume = |id: &str, delete_on_termination| Volume { volume_id: id.to_owned(), delete_on_termination };
    let quarantine = || [("sg-9".to_owned(), QUARANTINE.to_owned())].into();
    State {
        instance_id: "i-1".to_owned(),
        is_protected: true,
        image_id: Some("ami-0".to_owned()),
        instance_type: Some("t3.micro".to_owned()),
        subnet_id: Some("subnet-1".to_owned()),
        private_ip_address: Some("10.0.0.7".to_owned()),
        availability_zone: Some("eu-central-1a".to_owned()),
        key_name: None,
        instance_profile: None,
        interfaces: [("eni-1".to_owned(), quarantine()), ("eni-2".to_owned(), quarantine())].into(),
        volumes: [("/dev/xvda".to_owned(), volume("vol-1", true)), ("/dev/sdf".to_owned(), volume("vol-2", false))]
            .into(),
        scaling: None,
        tags: TAGGED.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

fn image(state: &State) -> Image {
    Image { present: true, state: untyped(state, "the state", DECLARED.name).unwrap() }
}

/// A run of an approved plan; a dry run has none.
fn request(mode: Mode) -> RemediateRequest {
    let mut job = job(INSTANCE);
    job.control = "Destroy.EC2Instance".parse().unwrap();
    job.mode = mode;
    if mode != Mode::DryRun {
        job.plan_sha256 = "a".repeat(64);
    }
    RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: BTreeMap::new(),
        copy: None,
    }
}

fn native(aws: &FakeAws, mode: Mode) -> DestroyInstance {
    DestroyInstance::new(&Clients::new(&aws.config()), &request(mode))
}

fn names(aws: &FakeAws) -> Vec<String> {
    aws.seen().into_iter().map(|seen| seen.name).collect()
}

fn call(operation: &str) -> Call {
    Call { service: "ec2".to_owned(), operation: operation.to_owned(), parameters: json!({}) }
}

/// An instance with one interface in this group and these volumes.
fn instance(name: &str, group: &str, tags: &[(&str, &str)], volumes: &[&str]) -> String {
    let tags: String =
        tags.iter().map(|(key, value)| format!("<item><key>{key}</key><value>{value}</value></item>")).collect();
    let disks: String = volumes
        .iter()
        .map(|volume| {
            format!(
                "<item><deviceName>/dev/{volume}</deviceName><ebs><volumeId>{volume}</volumeId><status>attached</status>\
                 <deleteOnTermination>true</deleteOnTermination></ebs></item>"
            )
        })
        .collect();
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
         <instanceState><code>16</code><name>{name}</name></instanceState><tagSet>{tags}</tagSet>\
         <networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId><vpcId>vpc-1</vpcId>\
         <groupSet><item><groupId>sg-9</groupId><groupName>{group}</groupName></item></groupSet></item></networkInterfaceSet>\
         <blockDeviceMapping>{disks}</blockDeviceMapping></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
}

/// Snapshots of volumes of these names, each of as many GiB as it is called by.
fn snapshots(operation: &str, all: &[(&str, u32, &str)]) -> String {
    let status = if operation == "CreateSnapshots" { "state" } else { "status" };
    let items: String = all
        .iter()
        .map(|(volume, size, state)| {
            format!(
                "<item><snapshotId>snap-{volume}</snapshotId><volumeId>{volume}</volumeId><volumeSize>{size}</volumeSize>\
                 <{status}>{state}</{status}></item>"
            )
        })
        .collect();
    format!("<{operation}Response><snapshotSet>{items}</snapshotSet></{operation}Response>")
}

fn protection(value: bool) -> String {
    format!(
        "<DescribeInstanceAttributeResponse><instanceId>i-1</instanceId><disableApiTermination><value>{value}</value>\
         </disableApiTermination></DescribeInstanceAttributeResponse>"
    )
}

fn is_there(aws: &FakeAws, volumes: &[&str]) {
    aws.answer("DescribeInstances", 200, &instance("running", QUARANTINE, TAGGED, volumes));
}

#[test]
fn the_snapshots_come_first_then_its_protection_goes_off_and_it_is_terminated() {
    let said = |state: &State| -> Vec<Value> {
        let calls = destroy(state).unwrap();
        calls.iter().map(|call| json!([call.operation, call.parameters])).collect()
    };
    let first = json!(["CreateSnapshots", { "InstanceSpecification": { "InstanceId": "i-1" } }]);
    let last = json!(["TerminateInstances", { "InstanceIds": ["i-1"] }]);
    let off = json!(["ModifyInstanceAttribute", { "DisableApiTermination": false, "InstanceId": "i-1" }]);
    assert_eq!(said(&state()), [first.clone(), off, last.clone()]);
    assert_eq!(said(&State { is_protected: false, ..state() }), [first, last]);
    let declared = destroy(&state()).unwrap();
    assert!(declared.iter().all(|call| DECLARED.changes.contains(&format!("ec2:{}", call.operation).as_str())));
}

#[test]
fn only_what_redress_contained_is_destroyed() {
    let refused = |state: State| destroy(&state).unwrap_err().to_string();
    assert!(refused(State { tags: BTreeMap::new(), ..state() }).contains("not contained"));
    assert!(refused(State { interfaces: BTreeMap::new(), ..state() }).contains("not contained"));
    let group = |names: &[&str]| -> BTreeMap<String, String> {
        names.iter().map(|name| (format!("sg-{name}"), (*name).to_owned())).collect()
    };
    for groups in [group(&["web"]), group(&[QUARANTINE, "web"]), group(&[])] {
        let mut interfaces = state().interfaces;
        interfaces.insert("eni-2".to_owned(), groups);
        assert!(refused(State { interfaces, ..state() }).contains("not contained"));
    }
    assert!(refused(State { volumes: BTreeMap::new(), ..state() }).contains("no EBS volume"));
}

#[test]
fn of_an_auto_scaling_group_only_what_is_in_standby() {
    let listed = |lifecycle: &str| {
        let scaling = Scaling { group: "web".to_owned(), lifecycle: lifecycle.to_owned() };
        destroy(&State { scaling: Some(scaling), ..state() })
    };
    assert!(listed("Standby").is_ok());
    for other in ["InService", "EnteringStandby", "Pending", ""] {
        assert!(listed(other).unwrap_err().to_string().contains("standby"), "{other}");
    }
}

#[test]
fn nothing_is_destroyed_without_an_approved_plan_and_a_dry_run_says_what_would_be() {
    let aws = FakeAws::default();
    for mode in [Mode::Apply, Mode::Snapshot] {
        let mut asked = request(mode);
        asked.job.plan_sha256 = String::new();
        let native = DestroyInstance::new(&Clients::new(&aws.config()), &asked);
        assert!(native.plan(&image(&state())).unwrap_err().to_string().contains("people approved"));
    }
    assert_eq!(native(&aws, Mode::DryRun).plan(&image(&state())).unwrap().0.len(), 3);
    assert_eq!(native(&aws, Mode::Apply).plan(&image(&state())).unwrap().0.len(), 3);
}

#[test]
fn ssm_waits_for_the_largest_that_is_not_complete() {
    let taken = |all: &[(&str, i32, SnapshotState)]| -> Vec<Taken> {
        let one = |(id, size, state): &(&str, i32, SnapshotState)| {
            Taken::new(Some(id), Some("vol"), Some(*size), Some(state))
        };
        all.iter().map(one).collect()
    };
    use SnapshotState::{Completed, Error, Pending};
    let next = |all: &[(&str, i32, SnapshotState)]| awaited(&taken(all)).map(str::to_owned);
    assert_eq!(next(&[("a", 8, Pending), ("b", 100, Pending), ("c", 500, Completed)]).unwrap(), "b");
    assert_eq!(next(&[("a", 8, Pending), ("b", 100, Completed)]).unwrap(), "a");
    assert_eq!(next(&[("a", 8, Completed), ("b", 100, Completed)]).unwrap(), "b");
    assert!(next(&[("a", 8, Error), ("b", 100, Pending)]).unwrap_err().contains("snapshot a of vol failed"));
    assert!(next(&[]).is_err());
}

#[test]
fn a_long_list_of_snapshots_is_cut_and_says_so() {
    let taken = |count: usize| -> Vec<Taken> {
        (0..count).map(|n| Taken::new(Some(&format!("snap-{n:017}")), None, None, None)).collect()
    };
    assert_eq!(named(&taken(2)), "snap-00000000000000000/snap-00000000000000001");
    let long = named(&taken(130));
    assert!(long.ends_with("/and-110-more") && long.len() < 600, "{long}");
}

#[tokio::test]
async fn all_snapshots_are_begun_by_one_call_and_found_again() {
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Snapshot);
    aws.answer("DescribeSnapshots", 200, &snapshots("DescribeSnapshots", &[]));
    let begun = [("vol-1", 8, "pending"), ("vol-2", 100, "pending")];
    aws.answer("CreateSnapshots", 200, &snapshots("CreateSnapshots", &begun));
    assert_eq!(native.copy(1).await.unwrap(), "snap-vol-2");
    let asked = String::from_utf8(aws.seen()[1].body.clone()).unwrap();
    assert!(asked.contains("InstanceSpecification.InstanceId=i-1") && asked.contains("redress%3Ainstance"), "{asked}");
    let half = [("vol-1", 8, "pending"), ("vol-2", 100, "completed")];
    aws.answer("DescribeSnapshots", 200, &snapshots("DescribeSnapshots", &half));
    assert_eq!(native.copy(2).await.unwrap(), "snap-vol-1");
    assert_eq!(names(&aws).iter().filter(|name| *name == "CreateSnapshots").count(), 1);
}

#[tokio::test]
async fn nothing_is_terminated_without_a_complete_snapshot_of_every_volume() {
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Apply);
    for (taken, lacks) in [
        (&[][..], "volume vol-1 has no last snapshot"),
        (&[("vol-1", 8, "completed"), ("vol-2", 8, "pending")], "snap-vol-2 of vol-2 is not complete"),
        (&[("vol-1", 8, "completed"), ("vol-2", 8, "error")], "snap-vol-2 of vol-2 is not complete"),
        (&[("vol-1", 8, "completed")], "volume vol-2 has no last snapshot"),
    ] {
        for operation in ["CreateSnapshots", "TerminateInstances"] {
            is_there(&aws, &["vol-1", "vol-2"]);
            aws.answer("DescribeSnapshots", 200, &snapshots("DescribeSnapshots", taken));
            let refused = native.call(&call(operation)).await.unwrap_err().to_string();
            assert!(refused.contains(lacks), "{operation}: {refused}");
        }
    }
    assert!(names(&aws).iter().all(|name| name.starts_with("Describe")), "{:?}", names(&aws));
}

#[tokio::test]
async fn a_terminated_instance_complies_and_its_undo_names_what_is_left() {
    let aws = FakeAws::default();
    for name in ["terminated", "shutting-down"] {
        aws.answer("DescribeInstances", 200, &instance(name, QUARANTINE, TAGGED, &[]));
        let native = native(&aws, Mode::Apply);
        let gone = native.inspect().await.unwrap().unwrap();
        assert!(!gone.present && native.compliant(&gone), "{name}");
    }
    let missing = "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>no</Message></Error></Errors></Response>";
    aws.answer("DescribeInstances", 400, missing);
    assert_eq!(native(&aws, Mode::Apply).inspect().await.unwrap(), None, "there is no such instance");
    // When EC2 has forgotten it, an undo still says why.
    aws.answer("DescribeInstances", 400, missing);
    aws.answer("DescribeSnapshots", 200, &snapshots("DescribeSnapshots", &[("vol-1", 8, "completed")]));
    let undo = native(&aws, Mode::Restore);
    let gone = undo.inspect().await.unwrap().unwrap();
    let refused = undo.plan_restore(&gone, &image(&state())).unwrap_err().to_string();
    assert!(refused.contains("cannot be had back") && refused.contains("snap-vol-1"), "{refused}");
}

#[tokio::test]
async fn what_was_cut_off_goes_on_only_when_nothing_but_the_protection_is_different() {
    let native = native(&FakeAws::default(), Mode::Apply);
    let bare = State { is_protected: false, ..state() };
    assert!(native.half_way(&image(&bare), &image(&state())));
    assert!(!native.half_way(&image(&state()), &image(&state())), "that is not half way");
    assert!(!native.half_way(&image(&State { tags: BTreeMap::new(), ..bare }), &image(&state())));
}

#[tokio::test]
async fn snapshots_are_never_removed_and_an_instance_that_stays_is_protected_again() {
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Apply);
    native.discard(Mode::Snapshot).await.unwrap();
    native.discard(Mode::Apply).await.unwrap();
    assert_eq!(names(&aws), [""; 0], "its protection was not touched");
    aws.answer("ModifyInstanceAttribute", 200, "<ModifyInstanceAttributeResponse/>");
    native.call(&call("ModifyInstanceAttribute")).await.unwrap();
    is_there(&aws, &["vol-1"]);
    aws.answer("ModifyInstanceAttribute", 200, "<ModifyInstanceAttributeResponse/>");
    native.discard(Mode::Apply).await.unwrap();
    let sent: Vec<String> = aws
        .seen()
        .into_iter()
        .filter(|seen| seen.name == "ModifyInstanceAttribute")
        .map(|seen| String::from_utf8(seen.body).unwrap())
        .collect();
    assert!(sent[0].contains("DisableApiTermination.Value=false"), "{sent:?}");
    assert!(sent[1].contains("DisableApiTermination.Value=true"), "{sent:?}");
}

#[tokio::test]
async fn the_snapshots_are_those_of_the_snapshot_run_of_the_same_remediation() {
    let aws = FakeAws::default();
    let claim = ClaimKey::new(
        &"111122223333".parse().unwrap(),
        &"eu-central-1".parse().unwrap(),
        &"Destroy.EC2Instance".parse().unwrap(),
        &INSTANCE.parse().unwrap(),
    );
    let mut of_snapshot = request(Mode::Snapshot);
    of_snapshot.job.remediation_id = snapshot_id(&claim, of_snapshot.job.remediation_id);
    let copying = DestroyInstance::new(&Clients::new(&aws.config()), &of_snapshot);
    assert_eq!(copying.copier, native(&aws, Mode::Apply).copier);
}

/// The whole run over recorded shapes: an approved plan of exactly this state, snapshots complete, then the end.
#[tokio::test]
async fn an_approved_plan_terminates_and_reads_back() {
    let aws = FakeAws::default();
    let look = || {
        is_there(&aws, &["vol-1"]);
        aws.answer("DescribeInstanceAttribute", 200, &protection(false));
    };
    look();
    let dry = native(&aws, Mode::DryRun);
    let now = dry.inspect().await.unwrap().unwrap();
    let change = dry.plan(&now).unwrap();
    let hash = |value: &Image| redress_common::aws::evidence::canonical_sha256(value).unwrap();
    let plan = plan_sha256(&hash(&now), &redress_common::aws::evidence::canonical_sha256(&change).unwrap());

    let mut snapshot = request(Mode::Snapshot);
    snapshot.copy = Some(CopyStep::Make(1));
    snapshot.job.plan_sha256.clone_from(&plan);
    look();
    aws.answer("DescribeSnapshots", 200, &snapshots("DescribeSnapshots", &[]));
    aws.answer("CreateSnapshots", 200, &snapshots("CreateSnapshots", &[("vol-1", 8, "pending")]));
    let answer = handle(&Clients::new(&aws.config()), &aws.writer(), &at_destroyer(), snapshot).await.unwrap();
    assert_eq!((answer.decision.as_str(), answer.made.as_str()), ("Proceed", "snap-vol-1"));
    assert!(!names(&aws).contains(&"TerminateInstances".to_owned()), "the instance itself is not touched in this mode");

    let mut apply = request(Mode::Apply);
    apply.job.evidence_key = "year=2026/month=01/day=02/remediation-2.json".to_owned();
    apply.job.plan_sha256 = plan;
    look();
    look();
    for _ in ["CreateSnapshots", "TerminateInstances"] {
        is_there(&aws, &["vol-1"]);
        aws.answer("DescribeSnapshots", 200, &snapshots("DescribeSnapshots", &[("vol-1", 8, "completed")]));
    }
    aws.answer("TerminateInstances", 200, "<TerminateInstancesResponse/>");
    aws.answer("DescribeInstances", 200, &instance("shutting-down", QUARANTINE, TAGGED, &[]));
    let answer = handle(&Clients::new(&aws.config()), &aws.writer(), &at_destroyer(), apply).await.unwrap();
    assert_eq!((answer.outcome, answer.error.as_str()), (Outcome::Verified, ""));
}
