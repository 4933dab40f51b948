//! The interpreter against a scripted AWS: one test per action and rule.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::*;
use crate::service::Credentials;

mod redress;

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-central-1";
const ROLE: &str = "arn:aws:iam::111122223333:role/Runner";
const NESTED_ROLE: &str = "arn:aws:iam::111122223333:role/Nested";

/// One call that a runbook made.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    session: String,
    operation: String,
    parameters: Value,
}

type Answer = Box<dyn Fn(usize, &Value) -> Result<Value, AwsError> + Send + Sync>;

/// AWS as the tests see it: answers by script, remembers everything, and routes `ssm` back to the service.
#[derive(Default)]
struct Fake {
    answers: BTreeMap<String, Answer>,
    /// Actions that `authorise` refuses.
    denied: Vec<&'static str>,
    /// Operations that never answer.
    hangs: Vec<&'static str>,
    /// Roles that cannot be assumed.
    untrusted: Vec<&'static str>,
    calls: Mutex<Vec<Call>>,
    events: Mutex<Vec<(String, Vec<String>, Value)>>,
    ssm: OnceLock<Ssm>,
    itself: OnceLock<std::sync::Weak<Fake>>,
}

impl Fake {
    /// `service:Operation` answers this; the script is told how many times it was called before, and the parameters.
    fn on(
        mut self,
        operation: &str,
        answer: impl Fn(usize, &Value) -> Result<Value, AwsError> + Send + Sync + 'static,
    ) -> Self {
        self.answers.insert(operation.to_owned(), Box::new(answer));
        self
    }

    fn operations(&self) -> Vec<String> {
        locked(&self.calls).iter().map(|call| call.operation.clone()).collect()
    }

    fn parameters(&self, operation: &str) -> Value {
        locked(&self.calls)
            .iter()
            .rev()
            .find(|call| call.operation == operation)
            .map(|call| call.parameters.clone())
            .unwrap_or_default()
    }

    fn statuses(&self, kind: &str) -> Vec<String> {
        let events = locked(&self.events);
        events
            .iter()
            .filter(|(of, _, _)| of.contains(kind))
            .map(|(_, _, detail)| detail["Status"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[async_trait]
impl Aws for Fake {
    async fn session(
        &self,
        role_arn: &str,
        session_name: &str,
        service_principal: &str,
    ) -> Result<Credentials, AwsError> {
        assert_eq!(service_principal, "ssm.amazonaws.com");
        if self.untrusted.contains(&role_arn) {
            return Err(AwsError::new("AccessDenied", "the trust policy does not name ssm.amazonaws.com"));
        }
        let role = role_arn.rsplit('/').next().unwrap();
        let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session_name}");
        Ok(Credentials { access_key_id: arn, secret_access_key: "lab".to_owned(), session_token: Some("t".to_owned()) })
    }

    async fn call(
        &self,
        credentials: &Credentials,
        region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        assert_eq!(region, REGION);
        let name = format!("{service}:{operation}");
        let before = {
            let mut calls = locked(&self.calls);
            let before = calls.iter().filter(|call| call.operation == name).count();
            calls.push(Call {
                session: credentials.access_key_id.clone(),
                operation: name.clone(),
                parameters: parameters.clone(),
            });
            before
        };
        if self.hangs.contains(&name.as_str()) {
            std::future::pending::<()>().await;
        }
        if let Some(answer) = self.answers.get(&name) {
            return answer(before, &parameters);
        }
        match (self.ssm.get(), self.itself.get().and_then(std::sync::Weak::upgrade)) {
            (Some(ssm), Some(aws)) if service == "ssm" => {
                ssm.handle(request(&credentials.access_key_id, operation, parameters), aws).await
            }
            _ => panic!("{name} is not scripted"),
        }
    }

    async fn authorise(&self, caller: &Caller, action: &str, resource: &str, context: Value) -> Result<(), AwsError> {
        assert_eq!(context, json!({"iam:PassedToService": "ssm.amazonaws.com"}));
        if self.denied.contains(&action) {
            let message =
                format!("User: {} is not authorized to perform: {action} on resource: {resource}", caller.arn);
            return Err(AwsError::new("AccessDeniedException", message));
        }
        Ok(())
    }

    async fn emit(
        &self,
        account: &str,
        region: &str,
        source: &str,
        detail_type: &str,
        resources: Vec<String>,
        detail: Value,
    ) {
        assert_eq!((account, region, source), (ACCOUNT, REGION, "aws.ssm"));
        locked(&self.events).push((detail_type.to_owned(), resources, detail));
    }
}

fn request(caller: &str, operation: &str, body: Value) -> Request {
    Request {
        caller: Caller { account: ACCOUNT.to_owned(), arn: caller.to_owned() },
        region: REGION.to_owned(),
        service: "ssm".to_owned(),
        operation: operation.to_owned(),
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: BTreeMap::new(),
        body,
    }
}

struct Lab {
    ssm: Ssm,
    aws: Arc<Fake>,
}

impl Lab {
    fn new(fake: Fake) -> Self {
        Self::with(fake, Options::default())
    }

    fn with(fake: Fake, options: Options) -> Self {
        let ssm = Ssm::new(Options { poll_interval: Duration::from_millis(1), ..options });
        let aws = Arc::new(fake);
        assert!(aws.ssm.set(ssm.clone()).is_ok());
        assert!(aws.itself.set(Arc::downgrade(&aws)).is_ok());
        Self { ssm, aws }
    }

    async fn ask(&self, operation: &str, body: Value) -> Result<Value, AwsError> {
        self.ask_as("arn:aws:iam::111122223333:user/Operator", operation, body).await
    }

    async fn ask_as(&self, caller: &str, operation: &str, body: Value) -> Result<Value, AwsError> {
        assert!(self.ssm.answers(operation));
        self.ssm.handle(request(caller, operation, body), self.aws.clone()).await
    }

    fn put(&self, name: &str, rest: &str) {
        let head = format!(
            "schemaVersion: '0.3'\nassumeRole: '{{{{ AutomationAssumeRole }}}}'\nparameters:\n  AutomationAssumeRole: {{ type: AWS::IAM::Role::Arn, default: '{ROLE}' }}\n"
        );
        self.ssm.put_document(ACCOUNT, REGION, name, &format!("{head}{rest}")).unwrap();
    }

    async fn start(&self, name: &str, parameters: Value) -> String {
        let answer = self
            .ask("StartAutomationExecution", json!({"DocumentName": name, "Parameters": parameters}))
            .await
            .unwrap();
        answer["AutomationExecutionId"].as_str().unwrap().to_owned()
    }

    async fn run(&self, name: &str, parameters: Value) -> Execution {
        let id = self.start(name, parameters).await;
        self.ssm.ended(&id).await.unwrap()
    }

    /// A document of these steps, run without parameters.
    async fn steps(&self, steps: &str) -> Execution {
        self.put("Doc", steps);
        self.run("Doc", json!({})).await
    }

    async fn waits(&self, id: &str) {
        while self.ssm.engine.find(id).unwrap().read(|record| record.status) != Status::Waiting {
            tokio::task::yield_now().await;
        }
    }
}

fn step<'a>(execution: &'a Execution, name: &str) -> &'a StepExecution {
    execution
        .steps
        .iter()
        .rfind(|step| step.name == name)
        .unwrap_or_else(|| panic!("{name} did not run: {execution:?}"))
}

fn ran(execution: &Execution) -> Vec<&str> {
    execution.steps.iter().map(|step| step.name.as_str()).collect()
}

fn absent() -> AwsError {
    AwsError {
        status: 404,
        code: "NoSuchPublicAccessBlockConfiguration".to_owned(),
        message: "The public access block configuration was not found".to_owned(),
    }
}

mod actions {
    use super::*;

    #[tokio::test]
    async fn execute_aws_api_passes_its_inputs_and_selects_its_outputs() {
        let lab = Lab::new(Fake::default().on("ec2:DescribeVpcs", |_, _| {
            Ok(json!({"Vpcs": [{"VpcId": "vpc-1", "Tags": [{"Key": "a"}]}, {"VpcId": "vpc-2"}], "N": 2}))
        }));
        let done = lab
            .steps(
                "mainSteps:\n- name: Find\n  action: aws:executeAwsApi\n  inputs: { Service: ec2, Api: describe_vpcs, Filters: [{ Name: id, Values: ['{{ global:ACCOUNT_ID }}'] }] }\n  outputs:\n  - { Name: First, Selector: '$.Vpcs[0].VpcId', Type: String }\n  - { Name: All, Selector: '$.Vpcs[*].VpcId', Type: StringList }\n  - { Name: Map, Selector: '$.Vpcs[0]', Type: StringMap }\n  - { Name: Count, Selector: $.N, Type: String }\n  - { Name: Gone, Selector: $.Nothing }\noutputs: [Find.First, Find.All, Find.Map, Find.Count, Find.Gone]\n",
            )
            .await;
        assert_eq!(done.status, Status::Success, "{done:?}");
        assert_eq!(lab.aws.parameters("ec2:DescribeVpcs"), json!({"Filters": [{"Name": "id", "Values": [ACCOUNT]}]}));
        assert_eq!(done.outputs["Find.First"], ["vpc-1"]);
        assert_eq!(done.outputs["Find.All"], ["vpc-1", "vpc-2"]);
        assert_eq!(done.outputs["Find.Map"], ["{\"VpcId\":\"vpc-1\",\"Tags\":[{\"Key\":\"a\"}]}"]);
        assert_eq!(done.outputs["Find.Count"], ["2"]);
        assert_eq!(
            done.outputs["Find.Gone"],
            ["No output available yet because the step is not successfully executed"]
        );
        assert_eq!(step(&done, "Find").inputs["Service"], "\"ec2\"");
    }

    #[tokio::test]
    async fn a_failed_call_is_told_in_the_words_of_aws_and_fails_the_execution() {
        let lab = Lab::new(Fake::default().on("s3:GetPublicAccessBlock", |_, _| Err(absent())));
        let done = lab
            .steps("mainSteps:\n- { name: Read, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: GetPublicAccessBlock } }\n- { name: Next, action: 'aws:pause' }\n")
            .await;
        let message = "Step fails when it is Execute/Cancelling action. An error occurred (NoSuchPublicAccessBlockConfiguration) when calling the GetPublicAccessBlock operation: The public access block configuration was not found. Please refer to Automation Service Troubleshooting Guide for more diagnosis details.";
        assert_eq!((done.status, done.failure_message.as_deref()), (Status::Failed, Some(message)));
        assert_eq!((ran(&done), step(&done, "Read").failure), (vec!["Read"], Some((Stage::Invocation, "Action"))));
    }

    #[tokio::test]
    async fn a_denied_call_is_a_failure_of_permission() {
        let lab =
            Lab::new(Fake::default().on("s3:GetPublicAccessBlock", |_, _| Err(AwsError::new("AccessDenied", "no"))));
        let done = lab.steps("mainSteps:\n- { name: Read, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: GetPublicAccessBlock } }\n").await;
        assert_eq!(step(&done, "Read").failure, Some((Stage::Invocation, "Permission")));
    }

    #[tokio::test]
    async fn a_throttled_call_is_tried_again() {
        let fake = Fake::default().on("s3:ListBuckets", |before, _| {
            if before < 2 { Err(AwsError::new("ThrottlingException", "slow")) } else { Ok(json!({})) }
        });
        let lab = Lab::new(fake);
        let done = lab.steps("mainSteps:\n- { name: Read, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: ListBuckets } }\n").await;
        assert_eq!((done.status, lab.aws.operations().len()), (Status::Success, 3));
    }

    #[tokio::test]
    async fn an_output_that_is_not_of_its_type_fails_the_step() {
        let lab = Lab::new(Fake::default().on("s3:ListBuckets", |_, _| Ok(json!({"Buckets": [{"Name": "a"}]}))));
        let done = lab
            .steps("mainSteps:\n- { name: Read, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: ListBuckets }, outputs: [{ Name: B, Selector: $.Buckets, Type: Integer }] }\n")
            .await;
        assert!(done.failure_message.unwrap().contains("Read.B is no Integer"));
    }

    #[tokio::test]
    async fn assert_property_holds_or_fails() {
        for (actual, status) in
            [(json!(true), Status::Success), (json!(false), Status::Failed), (Value::Null, Status::Failed)]
        {
            let lab = Lab::new(Fake::default().on("ec2:Get", move |_, parameters| {
                assert_eq!(parameters, &json!({"Id": "x"}));
                Ok(json!({"On": actual}))
            }));
            let done = lab
                .steps("mainSteps:\n- { name: Check, action: 'aws:assertAwsResourceProperty', inputs: { Service: ec2, Api: Get, Id: x, PropertySelector: $.On, DesiredValues: ['true'] } }\n")
                .await;
            assert_eq!(done.status, status);
        }
    }

    const WAIT: &str = "mainSteps:\n- { name: Wait, action: 'aws:waitForAwsResourceProperty', timeoutSeconds: 1, inputs: { Service: ec2, Api: Get, PropertySelector: $.State, DesiredValues: [ready] } }\n";

    #[tokio::test]
    async fn wait_for_property_looks_until_it_holds() {
        let lab = Lab::new(
            Fake::default()
                .on("ec2:Get", |before, _| Ok(json!({"State": if before < 3 { "pending" } else { "ready" }}))),
        );
        assert_eq!(lab.steps(&WAIT.replace("timeoutSeconds: 1", "timeoutSeconds: 60")).await.status, Status::Success);
        assert_eq!(lab.aws.operations().len(), 4);
    }

    #[tokio::test]
    async fn wait_for_property_times_out() {
        let lab = Lab::new(Fake::default().on("ec2:Get", |_, _| Ok(json!({"State": "pending"}))));
        let done = lab.steps(WAIT).await;
        assert_eq!((done.status, step(&done, "Wait").status), (Status::TimedOut, Status::TimedOut));
    }

    #[tokio::test]
    async fn branch_takes_the_first_true_choice_the_default_or_the_next_step() {
        let document = "  P: { type: String }\nmainSteps:\n- name: Choose\n  action: aws:branch\n  isEnd: END\n  inputs:\n    Choices:\n    - { NextStep: ForA, Variable: '{{ P }}', StringEquals: a }\n    - { NextStep: ForNotB, Not: { Variable: '{{ P }}', StringEquals: b } }\nDEFAULT- { name: Follow, action: 'aws:sleep', inputs: { Duration: PT0S }, isEnd: true }\n- { name: ForA, action: 'aws:sleep', inputs: { Duration: PT0S }, isEnd: true }\n- { name: ForNotB, action: 'aws:sleep', inputs: { Duration: PT0S }, isEnd: true }\n- { name: Otherwise, action: 'aws:sleep', inputs: { Duration: PT0S }, isEnd: true }\n";
        for (end, default, given, expected) in [
            ("false", "", "a", vec!["Choose", "ForA"]),
            ("true", "", "c", vec!["Choose", "ForNotB"]),
            ("false", "", "b", vec!["Choose", "Follow"]),
            ("true", "", "b", vec!["Choose"]),
            ("true", "    Default: Otherwise\n", "b", vec!["Choose", "Otherwise"]),
        ] {
            let lab = Lab::new(Fake::default());
            lab.put("Doc", &document.replace("END", end).replace("DEFAULT", default));
            let done = lab.run("Doc", json!({"P": [given]})).await;
            assert_eq!((done.status, ran(&done)), (Status::Success, expected), "{end} {default} {given}");
        }
    }

    #[tokio::test]
    async fn loop_runs_its_steps_for_each_item() {
        let lab = Lab::new(Fake::default().on("s3:Get", |_, _| Ok(json!({}))));
        let done = lab
            .steps("  L: { type: StringList, default: [a, b, c] }\nmainSteps:\n- name: Each\n  action: aws:loop\n  inputs:\n    Iterators: '{{ L }}'\n    MaxIterations: 2\n    Steps:\n    - { name: Get, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Get, Bucket: '{{ Each.CurrentIteratorValue }}' } }\n")
            .await;
        assert_eq!((done.status, ran(&done)), (Status::Success, vec!["Each", "Get", "Get"]));
        assert_eq!(lab.aws.parameters("s3:Get"), json!({"Bucket": "b"}));
        let parent = step(&done, "Get").parent.clone().unwrap();
        assert_eq!((parent.name.as_str(), parent.iteration, parent.value.as_deref()), ("Each", 2, Some("b")));
    }

    #[tokio::test]
    async fn loop_repeats_while_its_condition_holds() {
        let lab = Lab::new(Fake::default().on("s3:Get", |before, _| Ok(json!({"More": before < 2}))));
        let done = lab
            .steps("mainSteps:\n- name: Again\n  action: aws:loop\n  inputs:\n    MaxIterations: 10\n    LoopCondition: { Variable: '{{ Get.More }}', BooleanEquals: true }\n    Steps:\n    - { name: Get, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Get }, outputs: [{ Name: More, Selector: $.More, Type: Boolean }] }\n")
            .await;
        assert_eq!((done.status, lab.aws.operations().len()), (Status::Success, 3));
    }

    #[tokio::test]
    async fn a_failed_getinside_a_loop_ends_the_execution() {
        let lab = Lab::new(Fake::default().on("s3:Get", |_, _| Err(absent())));
        let done = lab
            .steps("mainSteps:\n- name: Again\n  action: aws:loop\n  onFailure: Continue\n  inputs:\n    Iterators: [x, y]\n    Steps:\n    - { name: Get, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Get } }\n- { name: Next, action: 'aws:pause' }\n")
            .await;
        assert_eq!((done.status, ran(&done)), (Status::Failed, vec!["Again", "Get"]));
        assert_eq!(step(&done, "Again").status, Status::Failed);
    }

    #[tokio::test]
    async fn sleep_is_scaled() {
        let lab = Lab::with(Fake::default(), Options { time_scale: 0.0, ..Options::default() });
        let done = lab
            .steps("mainSteps:\n- { name: Nap, action: 'aws:sleep', timeoutSeconds: 1000000, inputs: { Duration: P1DT1H } }\n- { name: Until, action: 'aws:sleep', inputs: { Timestamp: '2020-01-01T00:00:00Z' } }\n- { name: Wrong, action: 'aws:sleep', inputs: { Duration: soon } }\n")
            .await;
        assert_eq!(step(&done, "Until").status, Status::Success, "{done:?}");
        assert!(done.failure_message.unwrap().contains("`soon`"));
    }

    #[tokio::test]
    async fn variables_are_set_typed_and_read() {
        let lab = Lab::new(
            Fake::default().on("s3:Get", |_, _| Ok(json!({"S": {"A": true}}))).on("s3:Put", |_, _| Ok(json!({}))),
        );
        let done = lab
            .steps("variables:\n  State: { type: StringMap, default: {} }\n  Present: { type: Boolean, default: false }\nmainSteps:\n- { name: Get, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Get }, outputs: [{ Name: S, Selector: $.S, Type: StringMap }] }\n- { name: SetState, action: 'aws:updateVariable', inputs: { Name: 'variable:State', Value: '{{ Get.S }}' } }\n- { name: SetPresent, action: 'aws:updateVariable', inputs: { Name: 'variable:Present', Value: 'true' } }\n- { name: Put, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Put, State: '{{ variable:State }}', Present: '{{ variable:Present }}' } }\n- { name: Wrong, action: 'aws:updateVariable', inputs: { Name: 'variable:State', Value: text } }\n")
            .await;
        assert_eq!(lab.aws.parameters("s3:Put"), json!({"State": {"A": true}, "Present": true}));
        assert!(done.failure_message.unwrap().contains("variable State is no StringMap"));
    }

    const INVOKE: &str = "mainSteps:\n- name: Invoke\n  action: aws:invokeLambdaFunction\n  inputs: { FunctionName: redress-recorder, InputPayload: { Verb: Prepare, State: { Deep: [1] } } }\n  outputs:\n  - { Name: Decision, Selector: $.Payload.Decision }\n  - { Name: Direct, Selector: $.Decision }\n  - { Name: State, Selector: $.Payload.State, Type: StringMap }\noutputs: [Invoke.Decision, Invoke.Direct, Invoke.State, Invoke.Payload, Invoke.StatusCode]\n";

    #[tokio::test]
    async fn invoke_lambda_sends_a_map_and_selects_from_what_the_function_returned() {
        let lab = Lab::new(Fake::default().on("lambda:Invoke", |_, _| {
            Ok(json!({"StatusCode": 200, "Payload": "{\"Decision\":\"Proceed\",\"State\":{\"A\":1}}"}))
        }));
        let done = lab.steps(INVOKE).await;
        assert_eq!(done.status, Status::Success, "{done:?}");
        let expected = json!({"FunctionName": "redress-recorder", "Payload": "{\"Verb\":\"Prepare\",\"State\":{\"Deep\":[1]}}", "InvocationType": "RequestResponse"});
        assert_eq!(lab.aws.parameters("lambda:Invoke"), expected);
        assert_eq!(
            (&done.outputs["Invoke.Decision"][0], &done.outputs["Invoke.Direct"][0]),
            (&"Proceed".to_owned(), &"Proceed".to_owned())
        );
        assert_eq!(done.outputs["Invoke.State"], ["{\"A\":1}"]);
        assert_eq!(done.outputs["Invoke.StatusCode"], ["200"]);
    }

    #[tokio::test]
    async fn a_function_that_fails_fails_the_step() {
        let lab = Lab::new(Fake::default().on("lambda:Invoke", |_, _| {
            Ok(json!({"StatusCode": 200, "FunctionError": "Unhandled", "Payload": "{\"errorMessage\":\"no key\"}"}))
        }));
        let done = lab.steps(INVOKE).await;
        assert_eq!(done.status, Status::Failed);
        assert!(done.failure_message.unwrap().contains("no key"));
    }

    const PARENT: &str = "  Mode: { type: String, default: DryRun }\nmainSteps:\n- name: Nest\n  action: aws:executeAutomation\n  onFailure: step:Log\n  inputs: { DocumentName: Child, RuntimeParameters: { AutomationAssumeRole: 'arn:aws:iam::111122223333:role/Nested', Mode: ['{{ Mode }}'] } }\n- { name: Log, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Head }, outputs: [{ Name: Outcome, Selector: $.O }] }\noutputs: [Nest.Output, Nest.Status, Log.Outcome]\n";
    const CHILD: &str = "  Mode: { type: String }\nmainSteps:\n- { name: Work, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Work, Mode: '{{ Mode }}' }, outputs: [{ Name: R, Selector: $.R }] }\noutputs: [Work.R]\n";

    #[tokio::test]
    async fn execute_automation_nests_as_its_own_role() {
        let lab = Lab::new(
            Fake::default()
                .on("s3:Work", |_, _| Ok(json!({"R": "done"})))
                .on("s3:Head", |_, _| Ok(json!({"O": "Verified"}))),
        );
        lab.put("Child", CHILD);
        lab.put("Parent", PARENT);
        let done = lab.run("Parent", json!({"Mode": ["Apply"]})).await;
        assert_eq!(done.status, Status::Success, "{done:?}");
        assert_eq!(done.outputs["Nest.Output"], ["done"]);
        assert_eq!(
            lab.aws.operations(),
            ["ssm:StartAutomationExecution", "s3:Work", "ssm:GetAutomationExecution", "s3:Head"]
        );
        let calls = locked(&lab.aws.calls).clone();
        assert_eq!(calls[0].session, format!("arn:aws:sts::{ACCOUNT}:assumed-role/Runner/Automation-{}", done.id));
        assert!(calls[1].session.contains("assumed-role/Nested/Automation-"));
        assert_eq!(calls[1].parameters, json!({"Mode": "Apply"}));
        let child = lab.ssm.executions().into_iter().find(|e| e.document == "Child").unwrap();
        assert_eq!((child.parent.as_deref(), child.role.as_str()), (Some(done.id.as_str()), NESTED_ROLE));
        let found = lab
            .ask(
                "DescribeAutomationExecutions",
                json!({"Filters": [{"Key": "ParentExecutionId", "Values": [done.id]}]}),
            )
            .await
            .unwrap();
        assert_eq!(found["AutomationExecutionMetadataList"][0]["AutomationExecutionId"], json!(child.id));
    }

    #[tokio::test]
    async fn a_failed_nested_execution_fails_the_getwith_its_message_and_the_log_getstill_runs() {
        let lab = Lab::new(
            Fake::default().on("s3:Work", |_, _| Err(absent())).on("s3:Head", |_, _| Ok(json!({"O": "Failed"}))),
        );
        lab.put("Child", CHILD);
        lab.put("Parent", PARENT);
        let done = lab.run("Parent", json!({})).await;
        assert_eq!((done.status, done.outputs["Log.Outcome"][0].as_str()), (Status::Failed, "Failed"));
        assert!(done.failure_message.unwrap().contains("NoSuchPublicAccessBlockConfiguration"));
    }

    #[tokio::test]
    async fn a_role_that_may_not_pass_the_nested_role_cannot_nest() {
        let mut fake = Fake::default().on("s3:Head", |_, _| Ok(json!({})));
        fake = fake.on("ssm:StartAutomationExecution", |_, _| {
            Err(AwsError::new("AccessDeniedException", "not authorized to perform: iam:PassRole"))
        });
        let lab = Lab::new(fake);
        lab.put("Parent", PARENT);
        let done = lab.run("Parent", json!({})).await;
        assert_eq!(step(&done, "Nest").failure, Some((Stage::Invocation, "Permission")));
    }

    const APPROVE: &str = "mainSteps:\n- { name: Ask, action: 'aws:approve', inputs: { Approvers: ['arn:aws:iam::111122223333:role/Security'], Message: please } }\noutputs: [Ask.ApprovalStatus]\n";

    #[tokio::test]
    async fn approve_waits_for_an_approver_and_for_nobody_else() {
        let lab = Lab::new(Fake::default());
        lab.put("Doc", APPROVE);
        let id = lab.start("Doc", json!({})).await;
        lab.waits(&id).await;
        let signal = json!({"AutomationExecutionId": id, "SignalType": "Approve"});
        assert_eq!(
            lab.ask("SendAutomationSignal", signal.clone()).await.unwrap_err().code,
            "InvalidAutomationSignalException"
        );
        assert_eq!(
            lab.ask("SendAutomationSignal", json!({"AutomationExecutionId": id, "SignalType": "Resume"}))
                .await
                .unwrap_err()
                .code,
            "AutomationStepNotFoundException"
        );
        lab.ask_as("arn:aws:sts::111122223333:assumed-role/Security/anna", "SendAutomationSignal", signal)
            .await
            .unwrap();
        let done = lab.ssm.ended(&id).await.unwrap();
        assert_eq!((done.status, done.outputs["Ask.ApprovalStatus"][0].as_str()), (Status::Success, "Approved"));
        assert_eq!(lab.aws.statuses("Execution"), ["InProgress", "Waiting", "InProgress", "Success"]);
    }

    #[tokio::test]
    async fn a_rejection_fails_the_execution() {
        let lab = Lab::new(Fake::default());
        lab.put("Doc", APPROVE);
        let id = lab.start("Doc", json!({})).await;
        lab.waits(&id).await;
        let caller = "arn:aws:sts::111122223333:assumed-role/Security/anna";
        lab.ask_as(caller, "SendAutomationSignal", json!({"AutomationExecutionId": id, "SignalType": "Reject"}))
            .await
            .unwrap();
        assert_eq!(lab.ssm.ended(&id).await.unwrap().status, Status::Failed);
    }

    #[tokio::test]
    async fn pause_waits_for_resume() {
        let lab = Lab::new(Fake::default());
        lab.put("Doc", "mainSteps:\n- { name: Pause, action: 'aws:pause', inputs: {} }\n");
        let id = lab.start("Doc", json!({})).await;
        lab.waits(&id).await;
        lab.ask("SendAutomationSignal", json!({"AutomationExecutionId": id, "SignalType": "Resume"})).await.unwrap();
        assert_eq!(lab.ssm.ended(&id).await.unwrap().status, Status::Success);
    }
}

mod flow {
    use super::*;

    /// Steps `Bad` (fails), `Good` and `Other`; `Bad` has these options.
    async fn with_failing_step(options: &str) -> (Status, Vec<String>) {
        let lab = Lab::new(Fake::default().on("s3:Bad", |_, _| Err(absent())).on("s3:Good", |_, _| Ok(json!({}))));
        let done = lab
            .steps(&format!("mainSteps:\n- {{ name: Bad, action: 'aws:executeAwsApi', inputs: {{ Service: s3, Api: Bad }}, {options} }}\n- {{ name: Good, action: 'aws:executeAwsApi', inputs: {{ Service: s3, Api: Good }} }}\n- {{ name: Other, action: 'aws:executeAwsApi', inputs: {{ Service: s3, Api: Good }} }}\n"))
            .await;
        (done.status, ran(&done).into_iter().map(str::to_owned).collect())
    }

    #[tokio::test]
    async fn on_failure_and_is_critical_decide_what_follows_and_how_it_ends() {
        for (options, status, expected) in [
            ("onFailure: Abort", Status::Failed, vec!["Bad"]),
            ("isCritical: false", Status::Failed, vec!["Bad"]),
            ("onFailure: Continue", Status::Failed, vec!["Bad", "Good", "Other"]),
            ("onFailure: Continue, isCritical: false", Status::Success, vec!["Bad", "Good", "Other"]),
            ("onFailure: 'step:Other', isCritical: false", Status::Success, vec!["Bad", "Other"]),
            ("onFailure: 'step:Other'", Status::Failed, vec!["Bad", "Other"]),
            ("onFailure: Continue, isEnd: true, isCritical: false", Status::Success, vec!["Bad"]),
            ("onFailure: Continue, isEnd: true", Status::Failed, vec!["Bad"]),
        ] {
            assert_eq!(
                with_failing_step(options).await,
                (status, expected.into_iter().map(str::to_owned).collect()),
                "{options}"
            );
        }
    }

    #[tokio::test]
    async fn max_attempts_tries_again() {
        let lab =
            Lab::new(Fake::default().on("s3:Get", |before, _| if before < 2 { Err(absent()) } else { Ok(json!({})) }));
        let done = lab.steps("mainSteps:\n- { name: Get, action: 'aws:executeAwsApi', maxAttempts: 3, inputs: { Service: s3, Api: Get } }\n").await;
        assert_eq!((done.status, lab.aws.operations().len()), (Status::Success, 3));
    }

    #[tokio::test]
    async fn a_getthat_takes_too_long_times_out() {
        let lab = Lab::new(Fake { hangs: vec!["s3:Get"], ..Fake::default() });
        let get = "action: 'aws:executeAwsApi', timeoutSeconds: 1, inputs: { Service: s3, Api: Get }";
        let done = lab.steps(&format!("mainSteps:\n- {{ name: Get, {get} }}\n")).await;
        assert_eq!((done.status, step(&done, "Get").status), (Status::TimedOut, Status::TimedOut));
        assert!(done.failure_message.unwrap().contains("Step Get timed out"));
    }

    #[tokio::test]
    async fn an_unresolved_reference_fails_the_getbefore_it_calls() {
        let lab = Lab::new(Fake::default().on("s3:Get", |_, _| Ok(json!({}))));
        let get = "action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Get";
        let done = lab
            .steps(&format!("mainSteps:\n- {{ name: One, {get} }}, outputs: [{{ Name: Gone, Selector: $.Gone }}] }}\n- {{ name: Two, {get}, X: '{{{{ One.Gone }}}}' }} }}\n"))
            .await;
        assert!(done.failure_message.as_ref().unwrap().starts_with(
            "Step fails when it is validating and resolving the step inputs. Failed to resolve input: One.Gone"
        ));
        assert_eq!(
            (step(&done, "Two").failure, lab.aws.operations().len()),
            (Some((Stage::InputValidation, "Verification")), 1)
        );
    }

    #[tokio::test]
    async fn a_document_that_goes_in_circles_is_stopped() {
        let lab = Lab::new(Fake::default());
        let done = lab.steps("mainSteps:\n- { name: One, action: 'aws:branch', inputs: { Choices: [{ NextStep: One, Variable: a, StringEquals: a }] } }\n").await;
        assert_eq!(done.status, Status::Failed);
    }

    #[tokio::test]
    async fn system_variables_have_values() {
        let clock: Clock = Arc::new(|| "2026-02-03T04:05:06Z".parse().unwrap());
        let lab =
            Lab::with(Fake::default().on("s3:Get", |_, _| Ok(json!({}))), Options { clock, ..Options::default() });
        let done = lab
            .steps("mainSteps:\n- { name: Get, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Get, Text: '{{ global:ACCOUNT_ID }} {{global:REGION}} {{ global:AWS_PARTITION }} {{ global:DATE }} {{ global:DATE_TIME }}', Id: '{{ automation:EXECUTION_ID }}' } }\n")
            .await;
        assert_eq!(
            lab.aws.parameters("s3:Get"),
            json!({"Text": "111122223333 eu-central-1 aws 2026-02-03 2026-02-03_04.05.06", "Id": done.id})
        );
    }

    #[tokio::test]
    async fn cancelling_ends_the_getruns_on_cancel_and_stops_what_was_nested() {
        let lab = Lab::new(Fake::default().on("s3:Clean", |_, _| Ok(json!({}))));
        lab.put("Child", "mainSteps:\n- { name: Pause, action: 'aws:pause' }\n");
        lab.put("Parent", "mainSteps:\n- { name: Nest, action: 'aws:executeAutomation', onCancel: 'step:Clean', inputs: { DocumentName: Child } }\n- { name: Skipped, action: 'aws:pause' }\n- { name: Clean, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: Clean } }\n");
        let id = lab.start("Parent", json!({})).await;
        let child = loop {
            if let Some(child) =
                lab.ssm.executions().into_iter().find(|e| e.document == "Child" && e.status == Status::Waiting)
            {
                break child.id;
            }
            tokio::task::yield_now().await;
        };
        lab.ask("StopAutomationExecution", json!({"AutomationExecutionId": id, "Type": "Cancel"})).await.unwrap();
        let done = lab.ssm.ended(&id).await.unwrap();
        assert_eq!((done.status, ran(&done)), (Status::Cancelled, vec!["Nest", "Clean"]));
        assert_eq!(lab.ssm.ended(&child).await.unwrap().status, Status::Cancelled);
        let again = lab.ask("StopAutomationExecution", json!({"AutomationExecutionId": id})).await.unwrap_err();
        assert_eq!(again.code, "InvalidAutomationStatusUpdateException");
    }
}

mod starting {
    use super::*;

    const PAUSE: &str = "  Mode: { type: String, default: DryRun, allowedValues: [DryRun, Apply] }\nmainSteps:\n- { name: Pause, action: 'aws:pause' }\n";
    const TOKEN: &str = "6F1E0B7C-1111-5222-8333-444455556666";

    fn paused() -> Lab {
        let lab = Lab::new(Fake::default());
        lab.put("Doc", PAUSE);
        lab
    }

    #[tokio::test]
    async fn the_same_client_token_returns_the_first_execution() {
        let lab = paused();
        let body = |mode: &str, token: &str| json!({"DocumentName": "Doc", "ClientToken": token, "Parameters": {"Mode": [mode]}});
        let first = lab.ask("StartAutomationExecution", body("Apply", TOKEN)).await.unwrap();
        assert_eq!(lab.ask("StartAutomationExecution", body("Apply", &TOKEN.to_lowercase())).await.unwrap(), first);
        assert_eq!(
            lab.ask("StartAutomationExecution", body("DryRun", TOKEN)).await.unwrap_err().code,
            "IdempotentParameterMismatch"
        );
        assert_eq!(
            lab.ask("StartAutomationExecution", body("Apply", "short")).await.unwrap_err().code,
            "ValidationException"
        );
        assert_eq!(lab.ssm.executions().len(), 1);
    }

    #[tokio::test]
    async fn defect_04_a_hundred_concurrent_retries_with_one_token_start_once() {
        let lab = Arc::new(paused());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let lab = lab.clone();
            tasks.spawn(async move {
                lab.ask("StartAutomationExecution", json!({"DocumentName": "Doc", "ClientToken": TOKEN})).await.unwrap()
            });
        }
        let answers = tasks.join_all().await;
        assert!(answers.iter().all(|answer| answer == &answers[0]));
        assert_eq!(lab.ssm.executions().len(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_refused_by_its_error() {
        let lab = paused();
        for (body, code) in [
            (json!({"DocumentName": "Gone"}), "AutomationDefinitionNotFoundException"),
            (json!({"DocumentName": "Doc", "DocumentVersion": "7"}), "AutomationDefinitionVersionNotFoundException"),
            (
                json!({"DocumentName": "Doc", "Parameters": {"Other": ["x"]}}),
                "InvalidAutomationExecutionParametersException",
            ),
            (
                json!({"DocumentName": "Doc", "Parameters": {"Mode": ["Break"]}}),
                "InvalidAutomationExecutionParametersException",
            ),
            (
                json!({"DocumentName": "Doc", "Parameters": {"AutomationAssumeRole": ["arn:aws:iam::999999999999:role/Else"]}}),
                "InvalidAutomationExecutionParametersException",
            ),
            (json!({"DocumentName": "Doc", "Parameters": "x"}), "ValidationException"),
            (json!({"DocumentName": "Doc", "Targets": []}), "ValidationException"),
            (json!({}), "ValidationException"),
        ] {
            assert_eq!(lab.ask("StartAutomationExecution", body.clone()).await.unwrap_err().code, code, "{body}");
        }
        assert!(lab.ssm.executions().is_empty());
    }

    #[tokio::test]
    async fn the_caller_must_be_allowed_to_pass_the_role_and_the_role_must_trust_ssm() {
        let lab = Lab::new(Fake { denied: vec!["iam:PassRole"], ..Fake::default() });
        lab.put("Doc", PAUSE);
        let error = lab.ask("StartAutomationExecution", json!({"DocumentName": "Doc"})).await.unwrap_err();
        assert_eq!(error.code, "AccessDeniedException");
        assert!(error.message.contains("iam:PassRole") && error.message.contains(ROLE));

        let lab = Lab::new(Fake { untrusted: vec![ROLE], ..Fake::default() });
        lab.put("Doc", PAUSE);
        let error = lab.ask("StartAutomationExecution", json!({"DocumentName": "Doc"})).await.unwrap_err();
        assert_eq!(error.code, "InvalidAutomationExecutionParametersException");
        assert!(error.message.contains("unable to be assumed"));
    }

    #[tokio::test]
    async fn a_document_without_a_role_is_not_run() {
        let lab = Lab::new(Fake::default());
        lab.ssm
            .put_document(
                ACCOUNT,
                REGION,
                "Doc",
                "schemaVersion: '0.3'\nmainSteps:\n- { name: Pause, action: 'aws:pause' }\n",
            )
            .unwrap();
        let error = lab.ask("StartAutomationExecution", json!({"DocumentName": "Doc"})).await.unwrap_err();
        assert!(error.message.contains("assumeRole"), "{error}");
    }

    #[tokio::test]
    async fn executions_beyond_the_limit_wait_and_beyond_the_queue_are_refused() {
        let lab = Lab::with(Fake::default(), Options { max_in_flight: 1, max_queued: 1, ..Options::default() });
        lab.put("Doc", PAUSE);
        let (first, second) = (lab.start("Doc", json!({})).await, lab.start("Doc", json!({})).await);
        let error = lab.ask("StartAutomationExecution", json!({"DocumentName": "Doc"})).await.unwrap_err();
        assert_eq!(error.code, "AutomationExecutionLimitExceededException");
        lab.waits(&first).await;
        assert_eq!(lab.ssm.executions()[1].status, Status::Pending);
        lab.ask("SendAutomationSignal", json!({"AutomationExecutionId": first, "SignalType": "Resume"})).await.unwrap();
        lab.waits(&second).await;
        let third = lab.start("Doc", json!({})).await;
        lab.ask("StopAutomationExecution", json!({"AutomationExecutionId": third})).await.unwrap();
        assert_eq!(lab.ssm.ended(&third).await.unwrap().status, Status::Cancelled);
        lab.ask("SendAutomationSignal", json!({"AutomationExecutionId": second, "SignalType": "Resume"}))
            .await
            .unwrap();
        assert_eq!(lab.ssm.ended(&second).await.unwrap().status, Status::Success);
        let fourth = lab.start("Doc", json!({})).await;
        lab.waits(&fourth).await;
    }

    #[tokio::test]
    async fn a_nested_execution_starts_although_its_parent_holds_the_last_place() {
        let lab = Lab::with(Fake::default(), Options { max_in_flight: 1, ..Options::default() });
        lab.put("Child", "mainSteps:\n- { name: Nap, action: 'aws:sleep', inputs: { Duration: PT0S } }\n");
        lab.put(
            "Parent",
            "mainSteps:\n- { name: Nest, action: 'aws:executeAutomation', inputs: { DocumentName: Child } }\n",
        );
        assert_eq!(lab.run("Parent", json!({})).await.status, Status::Success);
        assert_eq!(lab.run("Parent", json!({})).await.status, Status::Success);
    }

    #[test]
    fn a_start_needs_permission_on_definition_and_document() {
        let resources = Ssm::default().resources(&request(
            "x",
            "StartAutomationExecution",
            json!({"DocumentName": "Redress-S3.8"}),
        ));
        assert_eq!(
            resources,
            [
                "arn:aws:ssm:eu-central-1:111122223333:automation-definition/Redress-S3.8:$DEFAULT",
                "arn:aws:ssm:eu-central-1:111122223333:document/Redress-S3.8"
            ]
        );
        let of = |operation: &str, body: Value| Ssm::default().resources(&request("x", operation, body));
        assert_eq!(
            of("GetAutomationExecution", json!({"AutomationExecutionId": "e"})),
            ["arn:aws:ssm:eu-central-1:111122223333:automation-execution/e"]
        );
        assert_eq!(of("DescribeDocument", json!({"Name": "D"})), ["arn:aws:ssm:eu-central-1:111122223333:document/D"]);
        assert!(of("DescribeAutomationStepExecutions", json!({})).is_empty());
        assert!(!Ssm::default().answers("GetParameter"));
    }
}

mod api {
    use super::*;

    #[tokio::test]
    async fn an_execution_is_told_as_aws_tells_it() {
        let clock: Clock = Arc::new(|| "2026-02-03T16:05:06.5Z".parse().unwrap());
        let lab = Lab::with(Fake::default(), Options { clock, ..Options::default() });
        let done = lab.steps("mainSteps:\n- { name: Nap, action: 'aws:sleep', inputs: { Duration: PT0S }, isEnd: true }\n- { name: Never, action: 'aws:pause' }\n").await;
        let answer = lab.ask("GetAutomationExecution", json!({"AutomationExecutionId": done.id})).await.unwrap();
        let execution = &answer["AutomationExecution"];
        assert_eq!(execution["AutomationExecutionStatus"], "Success");
        assert_eq!(execution["DocumentVersion"], "1");
        assert_eq!(execution["ExecutionStartTime"], json!(1_770_134_706.5));
        assert_eq!(execution["Parameters"], json!({"AutomationAssumeRole": [ROLE]}));
        assert_eq!(execution["ExecutedBy"], "arn:aws:iam::111122223333:user/Operator");
        assert_eq!(execution["StepExecutions"][0]["Inputs"], json!({"Duration": "\"PT0S\""}));
        assert_eq!(execution["StepExecutions"][1]["StepStatus"], "Pending");
        let filter = |key: &str, value: &str| json!({"AutomationExecutionId": done.id, "Filters": [{"Key": key, "Values": [value]}]});
        let steps = lab.ask("DescribeAutomationStepExecutions", filter("StepName", "Nap")).await.unwrap();
        assert_eq!(steps["StepExecutions"].as_array().unwrap().len(), 1);
        assert_eq!(
            lab.ask("DescribeAutomationStepExecutions", filter("Colour", "red")).await.unwrap_err().code,
            "InvalidFilterKey"
        );
        let gone = lab.ask("GetAutomationExecution", json!({"AutomationExecutionId": "x"})).await.unwrap_err();
        assert_eq!(gone.code, "AutomationExecutionNotFoundException");
    }

    #[tokio::test]
    async fn every_change_of_status_is_an_event() {
        let clock: Clock = Arc::new(|| "2026-02-03T16:05:06Z".parse().unwrap());
        let lab = Lab::with(Fake::default(), Options { clock, ..Options::default() });
        let done = lab.steps("mainSteps:\n- { name: Nap, action: 'aws:sleep', inputs: { Duration: PT0S } }\n").await;
        let events = locked(&lab.aws.events).clone();
        let kinds: Vec<(&str, &str)> =
            events.iter().map(|(kind, _, detail)| (kind.as_str(), detail["Status"].as_str().unwrap())).collect();
        let (execution, step) =
            ("EC2 Automation Execution Status-change Notification", "EC2 Automation Step Status-change Notification");
        assert_eq!(kinds, [(execution, "InProgress"), (step, "InProgress"), (step, "Success"), (execution, "Success")]);
        let (_, resources, detail) = events.last().unwrap();
        assert_eq!(
            resources,
            &[
                format!("arn:aws:ssm:{REGION}:{ACCOUNT}:automation-execution/{}", done.id),
                format!("arn:aws:ssm:{REGION}:{ACCOUNT}:automation-definition/Doc:1")
            ]
        );
        let expected = json!({
            "ExecutionId": done.id, "Definition": "Doc", "DefinitionVersion": 1.0, "Status": "Success", "StartTime": "Feb 3, 2026 4:05:06 PM",
            "EndTime": "Feb 3, 2026 4:05:06 PM", "Time": 0.0, "ExecutedBy": "arn:aws:iam::111122223333:user/Operator",
        });
        assert_eq!(detail, &expected);
        assert_eq!((&events[2].2["StepName"], &events[2].2["Action"]), (&json!("Nap"), &json!("aws:sleep")));
    }

    #[tokio::test]
    async fn executions_of_another_account_are_not_found() {
        let lab = Lab::new(Fake::default());
        let done = lab.steps("mainSteps:\n- { name: Nap, action: 'aws:sleep', inputs: { Duration: PT0S } }\n").await;
        let mut foreign = request("x", "GetAutomationExecution", json!({"AutomationExecutionId": done.id}));
        foreign.caller.account = "222233334444".to_owned();
        assert_eq!(
            lab.ssm.handle(foreign, lab.aws.clone()).await.unwrap_err().code,
            "AutomationExecutionNotFoundException"
        );
    }

    #[tokio::test]
    async fn calendars_say_whether_changes_may_be_made() {
        let lab = Lab::new(Fake::default());
        let content = "BEGIN:VCALENDAR\nVERSION:2.0\nX-CALENDAR-TYPE:DEFAULT_OPEN\nBEGIN:VEVENT\n\
                       DTSTART:20260101T120000Z\nDTEND:20260101T130000Z\nEND:VEVENT\nEND:VCALENDAR\n";
        let create = |name: &str, content: &str, format: &str| json!({"Name": name, "Content": content, "DocumentType": "ChangeCalendar", "DocumentFormat": format});
        let created = lab.ask("CreateDocument", create("Freeze", content, "TEXT")).await.unwrap();
        assert_eq!(created["DocumentDescription"]["DocumentType"], "ChangeCalendar");
        let wrong = lab.ask("CreateDocument", create("Json", content, "JSON")).await.unwrap_err();
        assert_eq!(wrong.code, "ValidationException");
        let wrong = lab.ask("CreateDocument", create("Other", "freeze", "TEXT")).await.unwrap_err();
        assert_eq!(wrong.code, "InvalidDocumentContent");

        let state = async |names: Value, at: &str| {
            lab.ask("GetCalendarState", json!({"CalendarNames": names, "AtTime": at})).await
        };
        assert_eq!(
            state(json!(["Freeze"]), "2026-01-01T12:30:00Z").await.unwrap(),
            json!({"State": "CLOSED", "AtTime": "2026-01-01T12:30:00Z", "NextTransitionTime": "2026-01-01T13:00:00Z"})
        );
        let after = state(json!(["Freeze"]), "2026-01-01T15:30:00+01:00").await.unwrap();
        assert_eq!(after, json!({"State": "OPEN", "AtTime": "2026-01-01T14:30:00Z"}));
        let runbook = json!({"Name": "Doc", "DocumentType": "Automation", "DocumentFormat": "YAML",
            "Content": "schemaVersion: '0.3'\nmainSteps:\n- { name: Pause, action: 'aws:pause' }\n"});
        lab.ask("CreateDocument", runbook).await.unwrap();
        for (names, code) in [
            (json!(["Freeze", "Doc"]), "InvalidDocumentType"),
            (json!(["Nobody"]), "InvalidDocument"),
            (json!([]), "ValidationException"),
        ] {
            assert_eq!(state(names, "2026-01-01T12:30:00Z").await.unwrap_err().code, code);
        }
        let run = json!({"DocumentName": "Freeze"});
        let error = lab.ask("StartAutomationExecution", run).await.unwrap_err();
        assert_eq!(error.code, "AutomationDefinitionNotFoundException");
        let listed = json!({"Filters": [{"Key": "DocumentType", "Values": ["ChangeCalendar"]}]});
        let listed = lab.ask("ListDocuments", listed).await.unwrap();
        assert_eq!(listed["DocumentIdentifiers"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn documents_live_from_creation_to_deletion() {
        let lab = Lab::new(Fake::default());
        let content = |description: &str| {
            format!(
                "schemaVersion: '0.3'\ndescription: {description}\nmainSteps:\n- {{ name: Pause, action: 'aws:pause' }}\n"
            )
        };
        let create = |name: &str, content: String| json!({"Name": name, "Content": content, "DocumentType": "Automation", "DocumentFormat": "YAML"});
        let created = lab.ask("CreateDocument", create("Doc", content("one"))).await.unwrap();
        assert_eq!(created["DocumentDescription"]["Status"], "Active");
        for (body, code) in [
            (create("Doc", content("one")), "DocumentAlreadyExists"),
            (create("AWS-Mine", content("one")), "ValidationException"),
            (create("Big", content(&"x".repeat(65_536))), "MaxDocumentSizeExceeded"),
            (
                create(
                    "Bad",
                    "schemaVersion: '0.3'\nmainSteps: [{ name: Run, action: 'aws:executeScript' }]".to_owned(),
                ),
                "InvalidDocumentContent",
            ),
        ] {
            assert_eq!(lab.ask("CreateDocument", body).await.unwrap_err().code, code);
        }
        let update = |text: &str| json!({"Name": "Doc", "Content": content(text), "DocumentVersion": "$LATEST"});
        assert_eq!(lab.ask("UpdateDocument", update("one")).await.unwrap_err().code, "DuplicateDocumentContent");
        assert_eq!(
            lab.ask("UpdateDocument", update("two")).await.unwrap()["DocumentDescription"]["DocumentVersion"],
            "2"
        );
        let described =
            |answer: Value| (answer["Document"]["Description"].clone(), answer["Document"]["LatestVersion"].clone());
        assert_eq!(
            described(lab.ask("DescribeDocument", json!({"Name": "Doc"})).await.unwrap()),
            (json!("one"), json!("2"))
        );
        lab.ask("UpdateDocumentDefaultVersion", json!({"Name": "Doc", "DocumentVersion": "2"})).await.unwrap();
        assert_eq!(lab.ask("GetDocument", json!({"Name": "Doc"})).await.unwrap()["Content"], json!(content("two")));
        assert_eq!(
            lab.ask("ListDocumentVersions", json!({"Name": "Doc"})).await.unwrap()["DocumentVersions"][0]["IsDefaultVersion"],
            json!(true)
        );
        let list = lab.ask("ListDocuments", json!({"Filters": [{"Key": "Name", "Values": ["Do"]}]})).await.unwrap();
        assert_eq!(list["DocumentIdentifiers"].as_array().unwrap().len(), 1);
        lab.ask(
            "ModifyDocumentPermission",
            json!({"Name": "Doc", "PermissionType": "Share", "AccountIdsToAdd": ["222233334444"]}),
        )
        .await
        .unwrap();
        assert_eq!(
            lab.ask("DescribeDocumentPermission", json!({"Name": "Doc"})).await.unwrap()["AccountIds"],
            json!(["222233334444"])
        );
        assert_eq!(
            lab.ask("DeleteDocument", json!({"Name": "Doc"})).await.unwrap_err().code,
            "InvalidDocumentOperation"
        );
        lab.ask("DeleteDocument", json!({"Name": "Doc", "Force": true})).await.unwrap();
        assert_eq!(lab.ask("DescribeDocument", json!({"Name": "Doc"})).await.unwrap_err().code, "InvalidDocument");
    }

    #[tokio::test]
    async fn lists_come_in_pages() {
        let lab = Lab::new(Fake::default());
        for name in ["Doc-A", "Doc-B", "Doc-C"] {
            lab.put(name, "mainSteps:\n- { name: Pause, action: 'aws:pause' }\n");
        }
        let first = lab.ask("ListDocuments", json!({"MaxResults": 2})).await.unwrap();
        let rest = lab.ask("ListDocuments", json!({"MaxResults": 2, "NextToken": first["NextToken"]})).await.unwrap();
        assert_eq!(rest["DocumentIdentifiers"][0]["Name"], "Doc-C");
        assert!(rest.get("NextToken").is_none());
    }

    #[test]
    fn putting_a_document_twice_makes_a_version_only_when_it_changed() {
        let ssm = Ssm::default();
        for text in ["one", "one", "two"] {
            let content = format!(
                "schemaVersion: '0.3'\ndescription: {text}\nmainSteps:\n- {{ name: Pause, action: 'aws:pause' }}\n"
            );
            ssm.put_document(ACCOUNT, REGION, "Doc", &content).unwrap();
        }
        let place = Place { account: ACCOUNT.to_owned(), region: REGION.to_owned() };
        let document = locked(&ssm.documents).describe(&place, &json!({"Name": "Doc"})).unwrap();
        assert_eq!(
            (&document["Document"]["DefaultVersion"], &document["Document"]["Description"]),
            (&json!("2"), &json!("two"))
        );
    }
}
