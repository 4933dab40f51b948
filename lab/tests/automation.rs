//! Automation over the real gateway: trust policies, `iam:PassRole` and each step's permissions are what decides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redress_lab::service::{AwsError, Credentials};
use redress_lab::services::ssm::{Execution, Ssm, Status};
use redress_lab::{Lab, LabOptions};
use serde_json::{Value, json};

const ACCOUNT: &str = "444455556666";
const REGION: &str = "eu-central-1";
const PARENT: &str = r#"
schemaVersion: '0.3'
assumeRole: '{{ AutomationAssumeRole }}'
parameters:
  AutomationAssumeRole: { type: AWS::IAM::Role::Arn }
  ChildRole: { type: AWS::IAM::Role::Arn }
mainSteps:
- name: Nest
  action: aws:executeAutomation
  inputs: { DocumentName: Child, RuntimeParameters: { AutomationAssumeRole: '{{ ChildRole }}' } }
outputs: [Nest.Output]
"#;
const CHILD: &str = r#"
schemaVersion: '0.3'
assumeRole: '{{ AutomationAssumeRole }}'
parameters:
  AutomationAssumeRole: { type: AWS::IAM::Role::Arn }
mainSteps:
- name: Make
  action: aws:executeAwsApi
  inputs: { Service: sqs, Api: CreateQueue, QueueName: made-by-runbook }
  outputs: [{ Name: Url, Selector: $.QueueUrl }]
- name: Explain
  action: aws:executeAwsApi
  isEnd: true
  inputs: { Service: ssm, Api: DescribeAutomationStepExecutions, AutomationExecutionId: '{{ automation:EXECUTION_ID }}', Filters: [{ Key: StepName, Values: [Make] }] }
  outputs: [{ Name: Status, Selector: '$.StepExecutions[0].StepStatus' }]
outputs: [Make.Url, Explain.Status]
"#;

struct World {
    lab: Lab,
    ssm: Ssm,
}

impl World {
    async fn start() -> Self {
        let ssm = Ssm::default();
        for (name, content) in [("Parent", PARENT), ("Child", CHILD)] {
            ssm.put_document(ACCOUNT, REGION, name, content).unwrap();
        }
        let mut options = LabOptions::new(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        options.services.push(Arc::new(ssm.clone()));
        Self { lab: Lab::start(options).await.unwrap(), ssm }
    }

    async fn call(
        &self,
        caller: &Credentials,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        self.lab.aws().call(caller, REGION, service, operation, parameters).await
    }

    /// A role that `service` may assume, with these statements: action and resource each.
    async fn role(&self, name: &str, service: &str, allowed: &[(&str, String)]) -> String {
        let root = Credentials::root(ACCOUNT);
        let statements: Vec<Value> =
            allowed.iter().map(|(action, on)| json!({"Effect": "Allow", "Action": action, "Resource": on})).collect();
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}]});
        let role = self
            .call(&root, "iam", "CreateRole", json!({"RoleName": name, "AssumeRolePolicyDocument": trust.to_string()}))
            .await
            .unwrap();
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        self.call(
            &root,
            "iam",
            "PutRolePolicy",
            json!({"RoleName": name, "PolicyName": "p", "PolicyDocument": policy}),
        )
        .await
        .unwrap();
        role["Role"]["Arn"].as_str().unwrap().to_owned()
    }

    async fn run(&self, parent: &str, child: &str) -> Execution {
        let body =
            json!({"DocumentName": "Parent", "Parameters": {"AutomationAssumeRole": [parent], "ChildRole": [child]}});
        let answer = self.call(&Credentials::root(ACCOUNT), "ssm", "StartAutomationExecution", body).await.unwrap();
        self.ssm.ended(answer["AutomationExecutionId"].as_str().unwrap()).await.unwrap()
    }
}

fn on(resource: &str) -> String {
    format!("arn:aws:ssm:{REGION}:{ACCOUNT}:{resource}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_automation_needs_exactly_the_permissions_that_aws_asks_for() {
    let world = World::start().await;
    let ssm = "ssm.amazonaws.com";
    let child = world
        .role(
            "Child",
            ssm,
            &[("sqs:CreateQueue", "*".to_owned()), ("ssm:DescribeAutomationStepExecutions", "*".to_owned())],
        )
        .await;
    let needed = [
        ("ssm:StartAutomationExecution", on("automation-definition/Child:*")),
        ("ssm:StartAutomationExecution", on("document/Child")),
        ("ssm:GetAutomationExecution", on("automation-execution/*")),
        ("iam:PassRole", child.clone()),
    ];
    let parent = world.role("Parent", ssm, &needed).await;
    let done = world.run(&parent, &child).await;
    assert_eq!(done.status, Status::Success, "{done:#?}");
    assert!(done.outputs["Nest.Output"].contains(&"Success".to_owned()), "{done:#?}");
    let made = world.lab.record().calls().into_iter().rfind(|call| call.operation == "CreateQueue").unwrap();
    assert!(made.principal.contains("assumed-role/Child/Automation-"), "{made:?}");

    for missing in 0..needed.len() {
        let fewer: Vec<_> =
            needed.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, one)| one.clone()).collect();
        let parent = world.role(&format!("Without{missing}"), ssm, &fewer).await;
        let done = world.run(&parent, &child).await;
        assert_eq!(done.status, Status::Failed, "without {:?}", needed[missing]);
        assert!(
            done.failure_message.as_ref().is_some_and(|message| message.contains("AccessDenied")),
            "{:?}",
            done.failure_message
        );
    }

    let powerless = world.role("Powerless", ssm, &[("s3:ListBucket", "*".to_owned())]).await;
    let all = [needed[0].clone(), needed[1].clone(), needed[2].clone(), ("iam:PassRole", powerless.clone())];
    let parent = world.role("Passes", ssm, &all).await;
    let done = world.run(&parent, &powerless).await;
    assert_eq!(done.status, Status::Failed);
    assert!(done.failure_message.is_some_and(|message| message.contains("CreateQueue")));

    let untrusting = world.role("Untrusting", "ec2.amazonaws.com", &[("s3:ListBucket", "*".to_owned())]).await;
    let body = json!({"DocumentName": "Child", "Parameters": {"AutomationAssumeRole": [untrusting]}});
    let error = world.call(&Credentials::root(ACCOUNT), "ssm", "StartAutomationExecution", body).await.unwrap_err();
    assert_eq!(error.code, "InvalidAutomationExecutionParametersException");
    world.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_automation_is_an_event_on_the_default_bus() {
    let world = World::start().await;
    let root = Credentials::root(ACCOUNT);
    let queue = world.call(&root, "sqs", "CreateQueue", json!({"QueueName": "ends"})).await.unwrap();
    let pattern = json!({
        "source": ["aws.ssm"], "detail-type": ["EC2 Automation Execution Status-change Notification"],
        "detail": {"Definition": ["Child"], "Status": ["Success", "Failed"]},
    });
    world.call(&root, "events", "PutRule", json!({"Name": "ends", "EventPattern": pattern.to_string()})).await.unwrap();
    let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:ends");
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn},
    ]});
    let attributes = json!({"QueueUrl": queue["QueueUrl"], "Attributes": {"Policy": policy.to_string()}});
    world.call(&root, "sqs", "SetQueueAttributes", attributes).await.unwrap();
    world
        .call(&root, "events", "PutTargets", json!({"Rule": "ends", "Targets": [{"Id": "q", "Arn": arn}]}))
        .await
        .unwrap();
    let role = world
        .role("Runner", "ssm.amazonaws.com", &[("sqs:CreateQueue", "*".to_owned()), ("ssm:Describe*", "*".to_owned())])
        .await;
    let body = json!({"DocumentName": "Child", "Parameters": {"AutomationAssumeRole": [role]}});
    let started = world.call(&root, "ssm", "StartAutomationExecution", body).await.unwrap();
    let mut event = None;
    for _ in 0..100 {
        let found = world.call(&root, "sqs", "ReceiveMessage", json!({"QueueUrl": queue["QueueUrl"]})).await.unwrap();
        if let Some(body) = found["Messages"][0]["Body"].as_str() {
            event = serde_json::from_str::<Value>(body).ok();
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let event = event.expect("an event arrives");
    assert_eq!(
        (&event["detail"]["Status"], &event["detail"]["ExecutionId"]),
        (&json!("Success"), &started["AutomationExecutionId"])
    );
    world.lab.stop().await;
}
