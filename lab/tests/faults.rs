//! What a test can make go wrong in a lab, as callers, functions and queues meet it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host;

use std::path::Path;
use std::time::{Duration, Instant};

use host::{REGION, Root, eventually, function, lab, role};
use redress_lab::Lab;
use redress_lab::faults::{Action, Moment, Rule};
use redress_lab::record::Call;
use serde_json::{Value, json};

const ADMIN: &str = "111122223333";
const AUTOMATION: &str = "ssm.amazonaws.com";
/// Short, so that a message that was not dealt with comes again soon.
const VISIBILITY: u64 = 2;

/// A lab in which the function `echo` serves the queue `work` and may send to the queue `done`.
struct Bench {
    lab: Lab,
}

impl Bench {
    async fn start() -> Self {
        let bench = Self { lab: lab(&["echo"]).await };
        let queue = |name: &str| json!({ "Type": "AWS::SQS::Queue", "Properties": { "QueueName": name, "VisibilityTimeout": VISIBILITY } });
        let (work, done) =
            ("arn:aws:sqs:${AWS::Region}:${AWS::AccountId}:work", "arn:aws:sqs:${AWS::Region}:${AWS::AccountId}:done");
        let polling =
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"].map(|action| (action, work));
        let mut echo = vec![
            ("sqs:SendMessage", done),
            ("logs:CreateLogStream", "*"),
            ("logs:PutLogEvents", "*"),
            ("sts:AssumeRole", "arn:aws:iam::${AWS::AccountId}:role/Other"),
        ];
        echo.extend(polling);
        let mut other = role("Other", AUTOMATION, &[("sqs:SendMessage", done)]);
        other["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] =
            json!({ "AWS": { "Fn::GetAtt": ["EchoRole", "Arn"] } });
        bench
            .root()
            .stack(
                "bench",
                json!({ "Resources": {
                "EchoRole": role("Echo", "lambda.amazonaws.com", &echo),
                "Other": other,
                "Automation": role("Automation", AUTOMATION, &[("*", "*")]),
                "Work": queue("work"),
                "Done": queue("done"),
                "Echo": function("echo", "EchoRole"),
            } }),
            )
            .await;
        bench
    }

    fn root(&self) -> Root<'_> {
        Root { lab: &self.lab, account: ADMIN }
    }

    fn url(&self, queue: &str) -> String {
        format!("{}/{ADMIN}/{queue}", self.lab.endpoint())
    }

    /// Lets the function serve the queue `work`.
    async fn serve(&self, batch: u64) {
        let mapping = json!({
            "FunctionName": "echo", "BatchSize": batch, "EventSourceArn": format!("arn:aws:sqs:{REGION}:{ADMIN}:work"),
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        });
        self.root().call("lambda", "CreateEventSourceMapping", mapping).await;
    }

    async fn send(&self, body: &str) {
        self.root().call("sqs", "SendMessage", json!({ "QueueUrl": self.url("work"), "MessageBody": body })).await;
    }

    /// What the function sends to `done` when it is told so.
    fn to_done(&self, text: &str) -> Value {
        json!({ "service": "sqs", "target": "AmazonSQS.SendMessage",
            "body": { "QueueUrl": self.url("done"), "MessageBody": text } })
    }

    /// Invokes the function: its answer or its error.
    async fn invoke(&self, event: Value) -> Result<Value, Value> {
        let asked = json!({ "FunctionName": "echo", "Payload": event.to_string() });
        let answer = self.root().call("lambda", "Invoke", asked).await;
        let payload = serde_json::from_str(answer["Payload"].as_str().unwrap()).unwrap();
        if answer["FunctionError"].is_null() { Ok(payload) } else { Err(payload) }
    }

    /// How many messages are in `done`: how often the call was performed.
    async fn done(&self) -> usize {
        let asked = json!({ "QueueUrl": self.url("done"), "AttributeNames": ["All"] });
        let found = self.root().call("sqs", "GetQueueAttributes", asked).await;
        found["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap().parse().unwrap()
    }

    /// The calls that a rule struck.
    fn faulted(&self) -> Vec<Call> {
        self.lab.record().calls().into_iter().filter(|call| call.fault.is_some()).collect()
    }

    /// The bodies that the function was given, in order.
    fn given(&self) -> Vec<String> {
        let lines = self.lab.logs("echo");
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let records = events.flat_map(|event| event["got"]["Records"].as_array().cloned().unwrap_or_default());
        records.map(|record| record["body"].as_str().unwrap().to_owned()).collect()
    }
}

/// The letter of `/proc/<pid>/stat`: `T` is stopped, `None` gone.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_throttled_failed_delayed_or_its_answer_lost_whoever_serves_it() {
    let bench = Bench::start().await;
    let (lab, faults) = (&bench.lab, bench.lab.faults());
    bench
        .root()
        .call(
            "s3",
            "CreateBucket",
            json!({
        "Bucket": "target", "CreateBucketConfiguration": { "LocationConstraint": REGION } }),
        )
        .await;
    let automation = bench.root().session("Automation", AUTOMATION).await;
    let call = async |service: &str, operation: &str, parameters: Value| {
        lab.aws().call(&automation, REGION, service, operation, parameters).await
    };
    let open = json!({ "Bucket": "target", "PublicAccessBlockConfiguration": { "BlockPublicAcls": true } });
    for (service, operation, parameters, status, code) in [
        ("s3", "PutPublicAccessBlock", open.clone(), 503, "SlowDown"),
        ("s3", "ListBuckets", json!({}), 503, "SlowDown"),
        ("ec2", "DescribeVpcs", json!({}), 503, "RequestLimitExceeded"),
        ("iam", "ListRoles", json!({}), 400, "Throttling"),
        ("sqs", "ListQueues", json!({}), 400, "RequestThrottled"),
        ("dynamodb", "ListTables", json!({}), 400, "ThrottlingException"),
        ("lambda", "Invoke", json!({ "FunctionName": "echo" }), 429, "TooManyRequestsException"),
        (
            "events",
            "PutEvents",
            json!({ "Entries": [{ "Source": "a", "DetailType": "b", "Detail": "{}" }] }),
            400,
            "ThrottlingException",
        ),
    ] {
        faults.add(Rule::new(Action::Throttle).on(service, operation).by("Automation"));
        let refused = call(service, operation, parameters.clone()).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (status, code), "{service}:{operation}");
        let struck = bench.faulted().pop().unwrap();
        assert_eq!((struck.operation.as_str(), struck.status), (operation, status));
        assert_eq!(struck.principal, format!("arn:aws:sts::{ADMIN}:assumed-role/Automation/test"));
        assert!(!struck.fault.unwrap().performed);
        call(service, operation, parameters).await.unwrap();
    }
    faults.clear();

    // Only the resource that the rule names, and only the call that it counts to.
    let down = Action::Fail { status: 500, code: "InternalError".to_owned() };
    let rule = faults.add(Rule::new(down).on("s3", "PutPublicAccessBlock").containing("target").nth(2));
    call(
        "s3",
        "CreateBucket",
        json!({ "Bucket": "else", "CreateBucketConfiguration": { "LocationConstraint": REGION } }),
    )
    .await
    .unwrap();
    let elsewhere = json!({ "Bucket": "else", "PublicAccessBlockConfiguration": { "BlockPublicAcls": true } });
    call("s3", "PutPublicAccessBlock", elsewhere.clone()).await.unwrap();
    call("s3", "PutPublicAccessBlock", open.clone()).await.unwrap();
    call("s3", "PutPublicAccessBlock", elsewhere).await.unwrap();
    let failed = call("s3", "PutPublicAccessBlock", open).await.unwrap_err();
    assert_eq!((failed.status, failed.code.as_str()), (500, "InternalError"));
    assert_eq!(faults.struck(rule).await.nth, 2);

    let pause = Duration::from_millis(300);
    faults.add(Rule::new(Action::Delay(pause)).on("sqs", "ListQueues"));
    let started = Instant::now();
    call("sqs", "ListQueues", json!({})).await.unwrap();
    assert!(started.elapsed() >= pause);

    faults.add(Rule::new(Action::LoseAnswer).on("sqs", "SendMessage").by("Automation"));
    let message = json!({ "QueueUrl": bench.url("done"), "MessageBody": "lost" });
    assert_eq!(call("sqs", "SendMessage", message).await.unwrap_err().status, 500, "the connection is cut");
    assert_eq!(bench.done().await, 1, "it was performed");
    let lost = bench.faulted().pop().unwrap();
    assert!(lost.status == 200 && lost.fault.unwrap().performed);
    bench.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_function_is_gone_and_its_invoker_is_told_as_lambda_tells_it() {
    let bench = Bench::start().await;
    let faults = bench.lab.faults();
    let fresh = bench.invoke(json!({ "calls": [] })).await.unwrap()["pid"].as_u64().unwrap();
    for (action, performed) in [(Action::KillBefore, 0), (Action::KillAfter, 1)] {
        let rule = faults.add(Rule::new(action).on("sqs", "SendMessage").by("echo"));
        let calls = json!({ "calls": [bench.to_done("x")] });
        let told = bench.invoke(calls).await.unwrap_err();
        assert_eq!(told["errorType"], "Runtime.ExitError");
        assert!(told["errorMessage"].as_str().unwrap().contains("signal: 9"), "{told}");
        let struck = faults.struck(rule).await;
        assert_eq!(struck.function.as_deref(), Some("echo"));
        assert_eq!(state(struck.pid.unwrap()), None, "the process is gone");
        assert_eq!(bench.done().await, performed);
        let call = bench.faulted().pop().unwrap();
        assert_eq!((call.status, call.function.as_deref()), (if performed == 1 { 200 } else { 0 }, Some("echo")));
        let next = bench.invoke(json!({ "calls": [] })).await.unwrap()["pid"].as_u64().unwrap();
        assert!(next != fresh && next != u64::from(struck.pid.unwrap()), "a fresh environment");
    }

    // An asynchronous event gets its two retries.
    faults.add(Rule::new(Action::KillAfter).on("sqs", "SendMessage").by("echo").times(2));
    let event = json!({ "calls": [bench.to_done("async")] }).to_string();
    let asked = json!({ "FunctionName": "echo", "InvocationType": "Event", "Payload": event });
    bench.root().call("lambda", "Invoke", asked).await;
    eventually("the third try succeeds", async || bench.done().await == 4).await;
    let last = || bench.lab.record().invocations().pop().unwrap();
    eventually("it is noted", async || last().error.is_none()).await;
    bench.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_comes_again_after_its_function_was_killed_in_the_middle() {
    let bench = Bench::start().await;
    bench.serve(1).await;
    for (n, (action, performed)) in [(Action::KillBefore, 1), (Action::KillAfter, 2)].into_iter().enumerate() {
        let before = bench.done().await;
        let text = format!("message-{n}");
        bench.lab.faults().add(Rule::new(action).on("sqs", "SendMessage").by("echo").containing(&text));
        bench.send(&json!({ "calls": [bench.to_done(&text)] }).to_string()).await;
        eventually("it comes again", async || bench.done().await == before + performed).await;
        let deliveries = || bench.given().iter().filter(|body| body.contains(&text)).count();
        eventually("both deliveries are in the log", async || deliveries() == 2).await;
    }
    bench.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_environment_that_calls_is_killed_also_when_it_calls_as_another_role() {
    let bench = Bench::start().await;
    let form = format!(
        "Action=AssumeRole&Version=2011-06-15&RoleSessionName=x&RoleArn=arn%3Aaws%3Aiam%3A%3A{ADMIN}%3Arole%2FOther"
    );
    let assume = json!({ "service": "sts", "form": form });
    let rule = bench.lab.faults().add(Rule::new(Action::KillBefore).by("echo").on("sqs", "SendMessage"));
    let busy = bench.invoke(json!({ "sleep": 1500 }));
    let killed = async {
        eventually("another environment is busy", async || !bench.lab.logs("echo").is_empty()).await;
        let told = bench.invoke(json!({ "calls": [assume, bench.to_done("as another role")] })).await.unwrap_err();
        assert_eq!(told["errorType"], "Runtime.ExitError");
        bench.lab.faults().struck(rule).await
    };
    let (struck, busy) = tokio::join!(killed, busy);
    assert_eq!(struck.principal, format!("arn:aws:sts::{ADMIN}:assumed-role/Other/x"));
    assert_eq!((struck.function.as_deref(), state(struck.pid.unwrap())), (Some("echo"), None));
    busy.unwrap();
    bench.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdks_further_attempts_are_struck_only_when_the_rule_says_so() {
    let bench = Bench::start().await;
    let mut call = bench.to_done("again");
    call["attempts"] = json!(3);
    let ends = async || {
        let answer = bench.invoke(json!({ "calls": [call] })).await.unwrap();
        let ends = answer["calls"][0].as_array().unwrap().clone();
        ends.iter().map(|end| end["status"].as_u64().unwrap_or(0)).collect::<Vec<_>>()
    };
    let rule = || Rule::new(Action::LoseAnswer).on("sqs", "SendMessage").by("echo");
    bench.lab.faults().add(rule());
    assert_eq!(ends().await, [0, 200]);
    assert_eq!(bench.done().await, 2, "performed twice, known once");
    bench.lab.faults().add(rule().and_retries());
    assert_eq!(ends().await, [0, 0, 0]);
    let attempts: Vec<_> = bench.lab.faults().fired().iter().map(|fired| (fired.nth, fired.attempt)).collect();
    assert_eq!(attempts, [(1, 1), (1, 1), (1, 2), (1, 3)]);
    assert_eq!(ends().await, [200], "the next call is another one");
    bench.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_function_stands_still_past_its_messages_return_and_goes_on_when_released() {
    for (moment, performed) in [(Moment::Before, 0), (Moment::After, 1)] {
        let bench = Bench::start().await;
        let faults = bench.lab.faults();
        let rule = faults.add(Rule::new(Action::Freeze(moment)).on("sqs", "SendMessage").by("echo"));
        bench.serve(1).await;
        bench.send(&json!({ "calls": [bench.to_done("first"), bench.to_done("second")] }).to_string()).await;
        let struck = faults.struck(rule).await;
        let pid = struck.pid.unwrap();
        eventually("it stands still", async || state(pid) == Some('T')).await;
        eventually("another environment does the work", async || bench.done().await == performed + 2).await;
        assert_eq!(state(pid), Some('T'));

        faults.release(rule);
        eventually("its calls arrive", async || bench.done().await == 4).await;
        assert!(state(pid).is_some_and(|state| state != 'T'), "it lives");
        eventually("it ends well", async || {
            bench.lab.record().invocations().iter().filter(|done| done.error.is_none()).count() == 2
        })
        .await;
        bench.lab.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_twice_or_out_of_order_when_asked_for() {
    let bench = Bench::start().await;
    let deliveries = bench.lab.deliveries();
    let given = |text: &str| bench.given().iter().filter(|body| body.contains(text)).count();
    // Nothing comes back while it waits for the others.
    let patient = json!({ "QueueUrl": bench.url("work"), "Attributes": { "VisibilityTimeout": "60" } });
    bench.root().call("sqs", "SetQueueAttributes", patient).await;
    deliveries.reverse("work", 3);
    bench.serve(10).await;
    let received = || {
        let calls = bench.lab.record().calls();
        calls.iter().filter(|call| call.operation == "ReceiveMessage").count()
    };
    for (n, text) in ["one", "two", "three"].into_iter().enumerate() {
        bench.send(text).await;
        eventually("it is received before the next one is sent", async || received() == n + 1).await;
    }
    eventually("all come", async || bench.given().len() >= 3).await;
    assert_eq!(bench.given(), ["three", "two", "one"]);

    deliveries.duplicate("work", 2);
    bench.send("thrice").await;
    eventually("three at once", async || given("thrice") == 3).await;
    deliveries.repeat("work", 1);
    bench.send("twice").await;
    eventually("and again", async || given("twice") == 2).await;
    deliveries.clear();
    bench.send("once").await;
    eventually("once", async || given("once") == 1).await;
    assert_eq!(bench.given().len(), 3 + 3 + 2 + 1);
    bench.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_twice_when_asked_for() {
    let bench = Bench::start().await;
    let root = bench.root();
    let pattern = json!({ "source": ["mine"] }).to_string();
    root.call("events", "PutRule", json!({ "Name": "all", "EventPattern": pattern })).await;
    let done = format!("arn:aws:sqs:{REGION}:{ADMIN}:done");
    root.call("events", "PutTargets", json!({ "Rule": "all", "Targets": [{ "Id": "q", "Arn": done }] })).await;
    let policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "sqs:SendMessage",
        "Principal": { "Service": "events.amazonaws.com" }, "Resource": done }] });
    let attributes = json!({ "QueueUrl": bench.url("done"), "Attributes": { "Policy": policy.to_string() } });
    root.call("sqs", "SetQueueAttributes", attributes).await;
    bench.lab.deliveries().duplicate_events("done", 1);
    let entry = json!({ "Source": "mine", "DetailType": "x", "Detail": "{}" });
    root.call("events", "PutEvents", json!({ "Entries": [entry] })).await;
    eventually("two of one", async || bench.done().await == 2).await;
    bench.lab.stop().await;
}
