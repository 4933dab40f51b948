#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::remediate;
use crate::testing::{FakeAws, here, job};
use redress_common::contract::{ContainRequest, Outcome};

const ARN: &str = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1";

fn state() -> State {
    let web = |vpc: &str, group: &str| Interface {
        vpc_id: vpc.to_owned(),
        groups: [(group.to_owned(), "web".to_owned())].into(),
    };
    State {
        interfaces: [("eni-1".to_owned(), web("vpc-1", "sg-1")), ("eni-2".to_owned(), web("vpc-2", "sg-2"))].into(),
        is_sealed: false,
        termination_protection: false,
        metadata: Metadata {
            http_tokens: "optional".to_owned(),
            http_put_response_hop_limit: 2,
            http_endpoint: "enabled".to_owned(),
        },
        role: Some(Role { name: "web".to_owned(), deny: None }),
        scaling: Some(Scaling { group: "fleet".to_owned(), standby: false }),
        contained_by: None,
    }
}

fn contained() -> State {
    let mut state = state();
    for one in state.interfaces.values_mut() {
        one.groups = [("sg-9".to_owned(), QUARANTINE.to_owned())].into();
    }
    state.metadata.http_tokens = "required".to_owned();
    state.metadata.http_put_response_hop_limit = 1;
    state.role = Some(Role { name: "web".to_owned(), deny: Some("{}".to_owned()) });
    state.scaling = Some(Scaling { group: "fleet".to_owned(), standby: true });
    State { is_sealed: true, termination_protection: true, contained_by: Some("r".to_owned()), ..state }
}

fn request(mode: Mode, sessions: &str) -> RemediateRequest {
    let mut job = job(ARN);
    job.control = "Contain.EC2Instance".parse().unwrap();
    job.mode = mode;
    RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: [("RevokeSessions".to_owned(), json!(sessions))].into(),
        copy: None,
    }
}

fn playbook(aws: &FakeAws, mode: Mode, sessions: &str) -> Instance {
    Instance::new(&Clients::new(&aws.config()), &request(mode, sessions)).unwrap()
}

fn shown(change: &Change) -> Vec<String> {
    let one = |call: &Call| {
        let group = call.parameters["Groups"][0].as_str().or(call.parameters["GroupName"].as_str());
        let what = group.or(call.parameters["Tags"][TAKEN].as_str()).unwrap_or_default();
        format!("{} {what}", call.operation).trim().to_owned()
    };
    change.0.iter().map(one).collect()
}

#[test]
fn isolation_comes_first_by_the_open_group_and_evidence_after() {
    let playbook = playbook(&FakeAws::default(), Mode::Apply, "Instance");
    let change = playbook.plan(&state().image().unwrap()).unwrap();
    assert_eq!(
        shown(&change),
        [
            "CreateSnapshots before",
            "CreateSecurityGroup redress-quarantine",
            "CreateSecurityGroup redress-quarantine",
            "CreateSecurityGroup redress-untrack",
            "CreateSecurityGroup redress-untrack",
            "ModifyNetworkInterfaceAttribute vpc-1/redress-untrack",
            "ModifyNetworkInterfaceAttribute vpc-2/redress-untrack",
            "ModifyNetworkInterfaceAttribute vpc-1/redress-quarantine",
            "ModifyNetworkInterfaceAttribute vpc-2/redress-quarantine",
            "RevokeSecurityGroupIngress redress-untrack",
            "RevokeSecurityGroupIngress redress-untrack",
            "PutRolePolicy",
            "ModifyInstanceAttribute",
            "EnterStandby",
            "ModifyInstanceMetadataOptions",
            "CreateTags",
            "CreateSnapshots after",
        ]
    );
    let hard: Vec<String> =
        change.0.iter().filter(|call| !playbook.may_fail(call)).map(|call| call.operation.clone()).collect();
    assert_eq!(
        hard,
        [
            "CreateSecurityGroup",
            "CreateSecurityGroup",
            "ModifyNetworkInterfaceAttribute",
            "ModifyNetworkInterfaceAttribute"
        ]
    );
    let declared: Vec<String> = change.0.iter().map(|call| format!("{}:{}", call.service, call.operation)).collect();
    assert!(declared.iter().all(|action| DECLARED.changes.contains(&action.as_str())), "{declared:?}");
}

#[test]
fn what_is_contained_is_left_alone_unless_the_group_leaks() {
    let playbook = playbook(&FakeAws::default(), Mode::Apply, "Instance");
    assert!(playbook.compliant(&contained().image().unwrap()));
    let leaks = State { is_sealed: false, ..contained() };
    assert!(!playbook.compliant(&leaks.image().unwrap()));
}

#[test]
fn defect_19_an_undo_gives_back_each_interface_its_own_groups_and_every_setting() {
    let playbook = playbook(&FakeAws::default(), Mode::Restore, "Instance");
    let change = playbook.plan_restore(&contained().image().unwrap(), &state().image().unwrap()).unwrap();
    assert_eq!(
        shown(&change),
        [
            "DeleteRolePolicy",
            "ModifyInstanceMetadataOptions",
            "ModifyInstanceAttribute",
            "ModifyNetworkInterfaceAttribute sg-1",
            "ModifyNetworkInterfaceAttribute sg-2",
            "ExitStandby",
            "DeleteTags",
        ]
    );
    assert!(change.0.iter().all(|call| !playbook.may_fail(call)), "an undo is whole, or it failed");
    let same = playbook.plan_restore(&state().image().unwrap(), &state().image().unwrap()).unwrap();
    assert!(same.0.is_empty());
}

#[test]
fn a_run_that_was_cut_off_goes_on_and_somebody_elses_groups_stop_it() {
    let playbook = playbook(&FakeAws::default(), Mode::Apply, "Instance");
    let mut half = state();
    half.interfaces.get_mut("eni-1").unwrap().groups = [("sg-8".to_owned(), UNTRACK.to_owned())].into();
    let image = |state: &State| state.image().unwrap();
    assert!(playbook.half_way(&image(&half), &image(&state())));
    half.interfaces.get_mut("eni-2").unwrap().groups = [("sg-7".to_owned(), "database".to_owned())].into();
    assert!(!playbook.half_way(&image(&half), &image(&state())));
}

#[test]
fn what_a_run_left_that_was_cut_off_after_isolation_is_done_and_no_interface_moves_again() {
    let playbook = playbook(&FakeAws::default(), Mode::Apply, "Instance");
    let change = playbook.plan(&state().image().unwrap()).unwrap();
    let left = |now: &State| {
        let now = now.image().unwrap();
        assert!(playbook.compliant(&now));
        shown(&Change(change.0.iter().filter(|call| playbook.is_left(call, &now)).cloned().collect()))
    };
    let isolated = State { interfaces: contained().interfaces, is_sealed: true, ..state() };
    let closed = ["RevokeSecurityGroupIngress redress-untrack", "RevokeSecurityGroupIngress redress-untrack"];
    assert_eq!(
        left(&isolated),
        [
            &closed[..],
            &["PutRolePolicy", "ModifyInstanceAttribute", "EnterStandby"],
            &["ModifyInstanceMetadataOptions", "CreateTags", "CreateSnapshots after"]
        ]
        .concat()
    );
    let whole = left(&contained());
    assert!(!whole.contains(&"PutRolePolicy".to_owned()) && !whole.contains(&"EnterStandby".to_owned()), "{whole:?}");
}

#[test]
fn whose_sessions_end_is_a_parameter_and_the_instances_own_is_the_narrow_one() {
    let aws = FakeAws::default();
    let own = playbook(&aws, Mode::Apply, "Instance").denial();
    assert!(
        own.contains(&format!(r#""ArnEquals":{{"ec2:SourceInstanceARN":"{ARN}"}}"#))
            && own.contains(r#""Effect":"Deny""#)
    );
    let role = playbook(&aws, Mode::Apply, "Role").denial();
    assert!(role.contains(r#""DateLessThan":{"aws:TokenIssueTime":"now"}"#), "{role}");
    let wrong = Instance::new(&Clients::new(&aws.config()), &request(Mode::Apply, "All"));
    assert!(matches!(wrong, Err(NativeError::Parameter { .. })));
}

#[tokio::test]
async fn a_recall_of_what_never_began_begins_nothing() {
    let aws = FakeAws::default();
    let asked = ContainRequest { request: request(Mode::Apply, "Instance"), recall: true };
    let clients = Clients::new(&aws.config());
    let told = remediate::contain(&clients, &aws.writer(), &here(), asked.clone()).await.unwrap();
    assert_eq!((told.outcome, aws.seen().len()), (None, 1), "it looked for the evidence, and no further");

    let elsewhere = ContainRequest {
        request: RemediateRequest { account_id: "999988887777".parse().unwrap(), ..asked.request },
        recall: false,
    };
    let told = remediate::contain(&clients, &aws.writer(), &here(), elsewhere).await.unwrap();
    assert_eq!(told.outcome, Some(Outcome::Failed), "PEERS defect 10");
    assert_eq!(aws.seen().len(), 1);
}

#[tokio::test]
async fn an_instance_that_is_gone_is_said_to_be_and_the_same_again_is_the_recorded_end() {
    let aws = FakeAws::default();
    let gone = "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>none</Message></Error></Errors></Response>";
    let clients = Clients::new(&aws.config());
    let asked = ContainRequest { request: request(Mode::Apply, "Instance"), recall: false };
    for _ in 0..2 {
        aws.answer("DescribeInstances", 400, gone);
        let told = remediate::contain(&clients, &aws.writer(), &here(), asked.clone()).await.unwrap();
        assert_eq!((told.outcome, told.fence.as_str()), (Some(Outcome::NotFound), "1"));
        assert_eq!(told.pre_image_sha256.len(), 64);
    }
}

fn with(parameters: Value) -> Result<Instance, NativeError> {
    of_stack("", parameters)
}

/// The playbook where the stack names a document, or none.
fn of_stack(document: &str, parameters: Value) -> Result<Instance, NativeError> {
    let mut request = request(Mode::Apply, "Instance");
    request.parameters.extend(serde_json::from_value::<crate::native::Parameters>(parameters).unwrap());
    let clients = Clients::new(&FakeAws::default().config()).with_memory_capture(document.parse().ok());
    Instance::new(&clients, &request)
}

/// The document that is sent.
fn sent(playbook: &Instance) -> Option<String> {
    let calls = playbook.plan(&state().image().unwrap()).unwrap().0;
    let call = calls.iter().find(|call| call.operation == "SendCommand")?;
    Some(call.parameters["DocumentName"].as_str().unwrap().to_owned())
}

#[test]
fn the_playbooks_document_is_sent_before_the_stacks_and_the_stacks_where_the_playbook_names_none() {
    for (stack, playbook, expected) in [
        ("", json!({}), None),
        ("", json!({ "MemoryCaptureDocument": "" }), None),
        ("Memory-Linux", json!({}), Some("Memory-Linux")),
        ("Memory-Linux", json!({ "MemoryCaptureDocument": "" }), Some("Memory-Linux")),
        ("Memory-Linux", json!({ "MemoryCaptureDocument": "Memory-Own" }), Some("Memory-Own")),
        ("", json!({ "MemoryCaptureDocument": "Memory-Own" }), Some("Memory-Own")),
    ] {
        let told = sent(&of_stack(stack, playbook.clone()).unwrap());
        assert_eq!(told.as_deref(), expected, "{stack} {playbook}");
    }
    // What is wrong in the playbook's file is told, and not replaced by the stack's.
    assert!(of_stack("Memory-Linux", json!({ "MemoryCaptureDocument": "a b" })).is_err());
}

#[test]
fn memory_is_captured_before_isolation_where_a_document_is_named_and_by_no_other_document() {
    let change = with(json!({ "MemoryCaptureDocument": "Redress-Memory-Linux" })).unwrap();
    let change = change.plan(&state().image().unwrap()).unwrap();
    assert_eq!(
        shown(&change)[..3],
        ["CreateSnapshots before", "SendCommand", "CreateSecurityGroup redress-quarantine"]
    );
    assert_eq!(change.0[1].parameters["DocumentName"], "Redress-Memory-Linux");
    assert_eq!(change.0[1].parameters["InstanceIds"], json!(["i-1"]));
    let none = with(json!({ "MemoryCaptureDocument": "", "MemoryCaptureSeconds": 10 })).unwrap();
    assert!(!shown(&none.plan(&state().image().unwrap()).unwrap()).contains(&"SendCommand".to_owned()));
    for wrong in [
        json!({ "MemoryCaptureDocument": "AWS-RunShellScript" }),
        json!({ "MemoryCaptureDocument": "Redress-Memory-a/b" }),
        json!({ "MemoryCaptureDocument": "arn:aws:ssm:eu-central-1:111122223333:document/Redress-Memory-a" }),
        json!({ "MemoryCaptureDocument": 7 }),
        json!({ "MemoryCaptureSeconds": 31 }),
        json!({ "MemoryCaptureSeconds": -1 }),
    ] {
        assert!(matches!(with(wrong.clone()), Err(NativeError::Parameter { .. })), "{wrong}");
    }
}

fn snapshots(id: &str) -> String {
    format!(
        "<CreateSnapshotsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><snapshotSet><item><snapshotId>{id}</snapshotId>\
         <volumeId>vol-1</volumeId></item></snapshotSet></CreateSnapshotsResponse>"
    )
}

const NO_SNAPSHOTS: &str = "<DescribeSnapshotsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><snapshotSet/></DescribeSnapshotsResponse>";

fn refused(code: &str) -> String {
    format!("<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>")
}

fn taken(playbook: &Instance) -> [Call; 2] {
    let calls = playbook.plan(&state().image().unwrap()).unwrap().0;
    let [before, after] =
        calls.into_iter().filter(|call| call.operation == "CreateSnapshots").collect::<Vec<_>>().try_into().unwrap();
    [before, after]
}

#[tokio::test]
async fn snapshots_before_are_begun_without_waiting_and_those_after_wait_for_ec2() {
    let aws = FakeAws::default();
    let playbook = playbook(&aws, Mode::Apply, "Instance");
    let [before, after] = taken(&playbook);
    aws.answer("CreateSnapshots", 200, &snapshots("snap-1"));
    aws.answer("CreateSnapshots", 400, &refused("SnapshotCreationPerVolumeRateExceeded"));
    aws.answer("CreateSnapshots", 200, &snapshots("snap-2"));
    for _ in 0..2 {
        aws.answer("DescribeSnapshots", 200, NO_SNAPSHOTS);
    }
    playbook.call(&before).await.unwrap();
    assert_eq!(aws.seen().len(), 0, "begun, not waited for");
    playbook.call(&after).await.unwrap();
    let seen: Vec<String> = aws.seen().into_iter().map(|seen| seen.name).collect();
    assert_eq!(
        seen,
        ["CreateSnapshots", "DescribeSnapshots", "CreateSnapshots", "DescribeSnapshots", "CreateSnapshots"],
        "of a new remediation there are none before"
    );
    let items: Vec<(String, String)> = playbook.acquired().await.into_iter().map(|one| (one.id, one.detail)).collect();
    let one = |id: &str, detail: &str| (id.to_owned(), detail.to_owned());
    assert_eq!(items, [one("snap-1", "vol-1, before isolation"), one("snap-2", "vol-1, after isolation")]);
}

#[tokio::test]
async fn snapshots_that_fail_are_told_and_those_of_a_run_that_was_cut_off_are_found() {
    let aws = FakeAws::default();
    let playbook = playbook(&aws, Mode::Apply, "Instance");
    let [before, after] = taken(&playbook);
    playbook.resumes();
    let found = snapshots("snap-1").replace("CreateSnapshots", "DescribeSnapshots");
    aws.answer("DescribeSnapshots", 200, &found);
    aws.answer("DescribeSnapshots", 200, NO_SNAPSHOTS);
    aws.answer("CreateSnapshots", 400, &refused("SnapshotLimitExceeded"));
    playbook.call(&before).await.unwrap();
    let told = playbook.call(&after).await.unwrap_err().to_string();
    assert!(told.contains("CreateSnapshots") && told.contains("SnapshotLimitExceeded"), "{told}");
    assert_eq!(playbook.acquired().await.len(), 1);
}

#[tokio::test]
async fn memory_is_waited_for_until_its_command_ends_and_no_longer_than_is_said() {
    let (aws, mut request) = (FakeAws::default(), request(Mode::Apply, "Instance"));
    request.parameters.insert("MemoryCaptureDocument".to_owned(), json!("Redress-Memory-Linux"));
    request.parameters.insert("MemoryCaptureSeconds".to_owned(), json!(5));
    let capture = async |aws: &FakeAws, request: &RemediateRequest| {
        aws.answer("SendCommand", 200, &json!({ "Command": { "CommandId": "c-1" } }).to_string());
        let playbook = Instance::new(&Clients::new(&aws.config()), request).unwrap();
        let call = playbook.plan(&state().image().unwrap()).unwrap().0.remove(1);
        let told = playbook.call(&call).await.map_err(|error| error.to_string());
        assert!(playbook.may_fail(&call));
        (told, playbook.acquired().await.remove(0))
    };
    let not_yet = json!({ "__type": "InvocationDoesNotExist" }).to_string();
    aws.answer("GetCommandInvocation", 400, &not_yet);
    for status in ["InProgress", "Success"] {
        aws.answer("GetCommandInvocation", 200, &json!({ "Status": status }).to_string());
    }
    let (told, item) = capture(&aws, &request).await;
    assert_eq!((told, item.id.as_str()), (Ok(()), "c-1"));
    assert_eq!(item.detail, "Redress-Memory-Linux: Success");

    aws.answer("GetCommandInvocation", 200, &json!({ "Status": "Failed" }).to_string());
    let (told, item) = capture(&aws, &request).await;
    assert!(told.unwrap_err().contains("c-1") && item.detail.ends_with("Failed"));

    // Isolation waits no longer than it may.
    request.parameters.insert("MemoryCaptureSeconds".to_owned(), json!(0));
    aws.answer("GetCommandInvocation", 200, &json!({ "Status": "InProgress" }).to_string());
    let (told, item) = capture(&aws, &request).await;
    assert!(told.unwrap_err().contains("not over") && item.detail.ends_with("not over when isolation began"));
}
