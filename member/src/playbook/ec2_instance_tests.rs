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
        let group = call.parameters["Groups"][0].as_str().or(call.parameters["GroupName"].as_str()).unwrap_or_default();
        format!("{} {group}", call.operation).trim().to_owned()
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
            "CreateSnapshots",
            "CreateTags",
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
