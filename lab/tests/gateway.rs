//! The lab's promises, kept by the real thing: emulators, gateway, processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redress_lab::record::{Call, Verdict};
use redress_lab::service::{Aws, AwsError, Credentials, Request, Service};
use redress_lab::{Lab, LabOptions};
use serde_json::{Value, json};

const ADMIN: &str = "111122223333";
const MEMBER: &str = "444455556666";
const REGION: &str = "eu-central-1";

/// A service of the test's own: it says who called it.
struct Greeter;

#[async_trait]
impl Service for Greeter {
    fn name(&self) -> &'static str {
        "securityhub"
    }

    fn answers(&self, operation: &str) -> bool {
        operation == "DescribeHub"
    }

    fn resources(&self, request: &Request) -> Vec<String> {
        vec![format!("arn:aws:securityhub:{}:{}:hub/default", request.region, request.caller.account)]
    }

    async fn handle(&self, request: Request, _aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        Ok(json!({ "HubArn": request.caller.arn }))
    }
}

async fn lab() -> Lab {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut options = LabOptions::new(root);
    options.services.push(Arc::new(Greeter));
    options.functions.insert("echo".to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_echo-function")));
    Lab::start(options).await.unwrap()
}

/// One account's root.
struct Root<'a> {
    lab: &'a Lab,
    account: &'static str,
}

impl Root<'_> {
    async fn call(&self, service: &str, operation: &str, parameters: Value) -> Value {
        let root = Credentials::root(self.account);
        let answer = self.lab.aws().call(&root, REGION, service, operation, parameters).await;
        answer.unwrap_or_else(|error| panic!("{service}:{operation}: {error}"))
    }

    async fn role(&self, name: &str, trust: Value, allowed: Value) -> String {
        let trust = json!({ "Version": "2012-10-17", "Statement": [trust] }).to_string();
        let role = self.call("iam", "CreateRole", json!({ "RoleName": name, "AssumeRolePolicyDocument": trust })).await;
        let policy = json!({ "Version": "2012-10-17", "Statement": allowed }).to_string();
        self.call("iam", "PutRolePolicy", json!({ "RoleName": name, "PolicyName": "p", "PolicyDocument": policy }))
            .await;
        role["Role"]["Arn"].as_str().unwrap().to_owned()
    }

    /// The queue's URL and ARN.
    async fn queue(&self, name: &str, policy: Option<Value>) -> (String, String) {
        let arn = format!("arn:aws:sqs:{REGION}:{}:{name}", self.account);
        let mut attributes = json!({ "VisibilityTimeout": "1" });
        if let Some(statement) = policy {
            attributes["Policy"] = json!(json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string());
        }
        let queue = self.call("sqs", "CreateQueue", json!({ "QueueName": name, "Attributes": attributes })).await;
        (queue["QueueUrl"].as_str().unwrap().to_owned(), arn)
    }

    async fn receive(&self, queue_url: &str) -> Option<Value> {
        for _ in 0..50 {
            let asked = json!({ "QueueUrl": queue_url, "MessageAttributeNames": ["All"] });
            let found = self.call("sqs", "ReceiveMessage", asked).await;
            if let Some(message) = found["Messages"].get(0) {
                return Some(message.clone());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    async fn function(&self, role_arn: &str, timeout: u64) -> String {
        let created = self.call("lambda", "CreateFunction", json!({
            "FunctionName": "echo", "Role": role_arn, "Runtime": "provided.al2023", "Handler": "bootstrap", "Timeout": timeout,
            "Code": { "ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==" }, "Environment": { "Variables": { "COLOUR": "green" } },
        })).await;
        created["FunctionArn"].as_str().unwrap().to_owned()
    }

    /// Answer and `X-Amz-Function-Error`.
    async fn invoke(&self, event: Value) -> (Value, Option<String>) {
        let asked = json!({ "FunctionName": "echo", "Payload": event.to_string() });
        let answer = self.call("lambda", "Invoke", asked).await;
        let payload = serde_json::from_str(answer["Payload"].as_str().unwrap()).unwrap_or(Value::Null);
        (payload, answer["FunctionError"].as_str().map(str::to_owned))
    }
}

async fn assume(
    lab: &Lab,
    caller: &Credentials,
    role_arn: &str,
    external_id: Option<&str>,
) -> Result<Credentials, AwsError> {
    let mut asked = json!({ "RoleArn": role_arn, "RoleSessionName": "test" });
    if let Some(id) = external_id {
        asked["ExternalId"] = json!(id);
    }
    let answer = lab.aws().call(caller, REGION, "sts", "AssumeRole", asked).await?;
    Ok(serde_json::from_value(answer["Credentials"].clone()).unwrap())
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn last_call(lab: &Lab, operation: &str) -> Call {
    lab.record()
        .calls()
        .into_iter()
        .rfind(|call| call.operation == operation)
        .unwrap_or_else(|| panic!("no {operation} recorded"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_needs_the_external_id_and_may_do_what_its_policy_says_wherever_the_call_is_served() {
    let lab = lab().await;
    let (admin, member) = (Root { lab: &lab, account: ADMIN }, Root { lab: &lab, account: MEMBER });
    let trust = json!({
        "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "AWS": format!("arn:aws:iam::{ADMIN}:root") },
        "Condition": { "StringEquals": { "sts:ExternalId": "right" } },
    });
    let allowed = json!([
        { "Effect": "Allow", "Action": "sqs:CreateQueue", "Resource": "*" },
        { "Effect": "Allow", "Action": ["ec2:DescribeVpcs", "ec2:EnableEbsEncryptionByDefault"], "Resource": "*" },
        { "Effect": "Allow", "Action": "securityhub:DescribeHub", "Resource": format!("arn:aws:securityhub:*:{MEMBER}:hub/default") },
    ]);
    let role = member.role("Spoke", trust, allowed).await;
    let hub = admin.role("Hub", json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": "lambda.amazonaws.com" } }),
        json!([{ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role }])).await;
    let caller = lab.aws().session(&hub, "orchestrator", "lambda.amazonaws.com").await.unwrap();
    assert_eq!(lab.aws().session(&hub, "x", "ssm.amazonaws.com").await.unwrap_err().code, "AccessDenied");

    for wrong in [None, Some("wrong")] {
        let refused = assume(&lab, &caller, &role, wrong).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (403, "AccessDenied"), "{wrong:?}");
        assert_eq!(last_call(&lab, "AssumeRole").verdict, Verdict::Deny);
    }
    let session = assume(&lab, &caller, &role, Some("right")).await.unwrap();
    let assumed = last_call(&lab, "AssumeRole");
    assert_eq!(assumed.verdict, Verdict::Allow);
    assert_eq!(assumed.principal, format!("arn:aws:sts::{ADMIN}:assumed-role/Hub/orchestrator"));
    assert_eq!(assumed.checks[0].resource, role);

    let call = async |service: &str, operation: &str, parameters: Value| {
        lab.aws().call(&session, REGION, service, operation, parameters).await
    };
    // MiniStack serves SQS.
    call("sqs", "CreateQueue", json!({ "QueueName": "q" })).await.unwrap();
    assert!(call("sqs", "ListQueues", json!({})).await.unwrap_err().code.contains("AccessDenied"));
    // moto serves EC2, in the session's account.
    call("ec2", "DescribeVpcs", json!({})).await.unwrap();
    call("ec2", "EnableEbsEncryptionByDefault", json!({})).await.unwrap();
    assert_eq!(
        call("ec2", "DisableEbsEncryptionByDefault", json!({})).await.unwrap_err().code,
        "UnauthorizedOperation"
    );
    assert_eq!(member.call("ec2", "GetEbsEncryptionByDefault", json!({})).await["EbsEncryptionByDefault"], true);
    assert_eq!(admin.call("ec2", "GetEbsEncryptionByDefault", json!({})).await["EbsEncryptionByDefault"], false);
    // The test serves Security Hub's DescribeHub.
    let principal = format!("arn:aws:sts::{MEMBER}:assumed-role/Spoke/test");
    assert_eq!(call("securityhub", "DescribeHub", json!({})).await.unwrap(), json!({ "HubArn": principal }));
    let described = last_call(&lab, "DescribeHub");
    assert_eq!(
        (described.principal, described.account, described.verdict),
        (principal.clone(), MEMBER.to_owned(), Verdict::Allow)
    );
    assert_eq!(described.checks[0].action, "securityhub:DescribeHub");
    assert_eq!(described.checks[0].resource, format!("arn:aws:securityhub:{REGION}:{MEMBER}:hub/default"));
    assert!(
        lab.aws()
            .call(&caller, REGION, "securityhub", "DescribeHub", json!({}))
            .await
            .unwrap_err()
            .code
            .contains("AccessDenied")
    );
    let refused = last_call(&lab, "DescribeHub");
    assert_eq!((refused.verdict, refused.error.as_deref()), (Verdict::Deny, Some("AccessDeniedException")));

    // A forged signature and an unknown key go nowhere, whoever serves the call.
    let forged = Credentials { secret_access_key: "guess".to_owned(), ..session.clone() };
    for (service, operation) in [("sqs", "ListQueues"), ("ec2", "DescribeVpcs"), ("securityhub", "DescribeHub")] {
        let refused = lab.aws().call(&forged, REGION, service, operation, json!({})).await.unwrap_err();
        assert!(
            ["SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure"].contains(&refused.code.as_str()),
            "{service}: {refused}"
        );
    }

    // Checks beyond a request's own.
    let who = redress_lab::service::Caller { account: MEMBER.to_owned(), arn: principal };
    lab.aws().authorise(&who, "sqs:CreateQueue", "*", json!({})).await.unwrap();
    assert!(lab.aws().authorise(&who, "iam:PassRole", &role, json!({})).await.is_err());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_hops_from_the_members_bus_to_the_administrators_queue_and_dead_letters_tell_why() {
    let lab = lab().await;
    let (admin, member) = (Root { lab: &lab, account: ADMIN }, Root { lab: &lab, account: MEMBER });
    let hub = format!("arn:aws:events:{REGION}:{ADMIN}:event-bus/redress-hub");
    let rule_arn = format!("arn:aws:events:{REGION}:{ADMIN}:rule/redress-hub/all");
    admin.call("events", "CreateEventBus", json!({ "Name": "redress-hub" })).await;
    let queue_policy = |name: &str| {
        json!({
            "Effect": "Allow", "Principal": { "Service": "events.amazonaws.com" }, "Action": "sqs:SendMessage",
            "Resource": format!("arn:aws:sqs:{REGION}:{ADMIN}:{name}"), "Condition": { "ArnEquals": { "aws:SourceArn": rule_arn } },
        })
    };
    let (findings, findings_arn) = admin.queue("findings", Some(queue_policy("findings"))).await;
    let (letters, letters_arn) = admin.queue("letters", Some(queue_policy("letters"))).await;
    let (_, closed_arn) = admin.queue("closed", None).await;
    let pattern = json!({ "source": [{ "prefix": "aws." }] }).to_string();
    admin
        .call("events", "PutRule", json!({ "Name": "all", "EventBusName": "redress-hub", "EventPattern": pattern }))
        .await;
    admin
        .call(
            "events",
            "PutTargets",
            json!({ "Rule": "all", "EventBusName": "redress-hub", "Targets": [
                { "Id": "queue", "Arn": findings_arn },
                { "Id": "closed", "Arn": closed_arn, "DeadLetterConfig": { "Arn": letters_arn } },
            ]}),
        )
        .await;

    let forward = member.role("Forward", json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": "events.amazonaws.com" } }),
        json!([{ "Effect": "Allow", "Action": "events:PutEvents", "Resource": hub }])).await;
    member
        .call(
            "events",
            "PutRule",
            json!({ "Name": "forward", "EventPattern": json!({ "source": ["aws.config"] }).to_string() }),
        )
        .await;
    member
        .call(
            "events",
            "PutTargets",
            json!({ "Rule": "forward", "Targets": [{ "Id": "hub", "Arn": hub, "RoleArn": forward }] }),
        )
        .await;

    // The bus does not let the member in yet.
    let emit = async |source: &str| {
        lab.aws().emit(MEMBER, REGION, source, "Config Rules Compliance Change", vec![], json!({ "n": 1 })).await
    };
    emit("aws.config").await;
    eventually("a refused hop", || {
        lab.record().deliveries().iter().any(|delivery| delivery.target_arn == hub && delivery.error.is_some())
    })
    .await;

    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": format!("arn:aws:iam::{MEMBER}:root") }, "Action": "events:PutEvents", "Resource": hub,
    }]});
    admin.call("events", "PutPermission", json!({ "EventBusName": "redress-hub", "Policy": policy.to_string() })).await;
    emit("aws.ssm").await;
    emit("aws.config").await;
    let message = admin.receive(&findings).await.expect("the event arrives");
    let event: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&event["source"], &event["account"], &event["detail"]["n"]),
        (&json!("aws.config"), &json!(MEMBER), &json!(1))
    );

    let letter = admin.receive(&letters).await.expect("the dead letter arrives");
    let attribute =
        |name: &str| letter["MessageAttributes"][name]["StringValue"].as_str().unwrap_or_default().to_owned();
    assert_eq!(attribute("ERROR_CODE"), "AccessDenied");
    assert_eq!(attribute("RULE_ARN"), rule_arn);
    assert_eq!(attribute("TARGET_ARN"), closed_arn);
    let buried: Value = serde_json::from_str(letter["Body"].as_str().unwrap()).unwrap();
    assert_eq!(buried["id"], event["id"], "the letter is the event itself");

    let put = member.call("events", "PutEvents", json!({ "Entries": [
        { "Source": "aws.config", "DetailType": "x", "Detail": "{}" }, { "Source": "mine", "DetailType": "x", "Detail": "{" },
        { "Source": "mine", "DetailType": "x", "Detail": "{}" }, { "Source": "mine", "DetailType": "x", "Detail": "{}", "EventBusName": hub },
    ]})).await;
    let codes: Vec<_> = put["Entries"].as_array().unwrap().iter().map(|entry| entry["ErrorCode"].as_str()).collect();
    assert_eq!(codes, [Some("NotAuthorizedForSourceException"), Some("MalformedDetail"), None, None]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_runs_as_its_role_over_the_runtime_api_and_serves_its_queue() {
    let lab = lab().await;
    let admin = Root { lab: &lab, account: ADMIN };
    let trust =
        json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": "lambda.amazonaws.com" } });
    let (queue_url, queue_arn) = admin.queue("work", None).await;
    let polling = json!([{ "Effect": "Allow", "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "Resource": queue_arn }]);
    let role = admin.role("Echo", trust, polling).await;
    let function = admin.function(&role, 2).await;

    assert_eq!(admin.invoke(json!({ "hello": [1] })).await, (json!({ "hello": [1] }), None));
    assert_eq!(admin.invoke(json!({ "env": "COLOUR" })).await.0, "green");
    assert_eq!(admin.invoke(json!({ "env": "AWS_ENDPOINT_URL" })).await.0, lab.endpoint());
    assert_eq!(admin.invoke(json!({ "env": "HOME" })).await.0, Value::Null, "nothing of ours leaks into a function");
    assert!(admin.invoke(json!({ "env": "AWS_ACCESS_KEY_ID" })).await.0.as_str().unwrap().starts_with("ASIA"));
    let seen = lab.record().invocations();
    assert!(seen[0].init_micros.is_some() && seen[1].init_micros.is_none(), "the second is warm: {seen:?}");
    assert!(seen[1].max_rss_kib > Some(0) && seen[1].cpu_micros > Some(0), "{seen:?}");

    assert_eq!(admin.invoke(json!({ "fail": "on purpose" })).await.1.as_deref(), Some("Unhandled"));
    let (told, error) = admin.invoke(json!({ "exit": 3 })).await;
    assert_eq!((told["errorType"].as_str(), error.as_deref()), (Some("Runtime.ExitError"), Some("Unhandled")));
    let (told, _) = admin.invoke(json!({ "sleep": 5000 })).await;
    assert_eq!(told["errorType"], "Sandbox.Timedout");
    assert_eq!(admin.invoke(json!({ "after": "that" })).await.1, None);

    let asked = json!({ "FunctionName": "echo", "InvocationType": "Event", "Payload": json!({ "fail": "thrice" }).to_string() });
    assert_eq!(admin.call("lambda", "Invoke", asked).await["StatusCode"], 202);
    let thrice = || lab.logs("echo").iter().filter(|line| line.contains("thrice")).count();
    eventually("two retries of an asynchronous event", || thrice() == 3).await;

    admin.call("lambda", "CreateEventSourceMapping", json!({
        "FunctionName": function, "EventSourceArn": queue_arn, "BatchSize": 10, "FunctionResponseTypes": ["ReportBatchItemFailures"],
    })).await;
    for body in ["good", "bad"] {
        admin.call("sqs", "SendMessage", json!({ "QueueUrl": queue_url, "MessageBody": body })).await;
    }
    let deliveries =
        |body: &str| lab.logs("echo").iter().filter(|line| line.contains(&format!("\"body\":\"{body}\""))).count();
    eventually("the failed message comes again", || deliveries("bad") >= 2).await;
    assert_eq!(deliveries("good"), 1, "what succeeded is deleted");
    let received = last_call(&lab, "DeleteMessage");
    assert_eq!(received.principal, format!("arn:aws:sts::{ADMIN}:assumed-role/Echo/echo"));
    lab.stop().await;
}
