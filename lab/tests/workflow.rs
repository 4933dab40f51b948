//! Step Functions: state machines that run functions as their role, wait for tokens, time out and are caught.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host;

use host::{REGION, Root, eventually, function, lab, role};
use redress_lab::record::Verdict;
use serde_json::{Value, json};

const ADMIN: &str = "111122223333";
const STATES: &str = "states.amazonaws.com";

fn machine(id: &str, role: &str, definition: &Value) -> Value {
    json!({ "Type": "AWS::StepFunctions::StateMachine", "Properties": {
        "StateMachineName": id, "RoleArn": { "Fn::GetAtt": [role, "Arn"] }, "DefinitionString": definition.to_string(),
        "DefinitionSubstitutions": { "Echo": { "Fn::GetAtt": ["Echo", "Arn"] } },
    } })
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:states:{REGION}:{ADMIN}:{kind}:{name}")
}

async fn start(root: &Root<'_>, machine: &str, name: &str, input: Value) -> String {
    let asked = json!({ "stateMachineArn": arn("stateMachine", machine), "name": name, "input": input.to_string() });
    root.call("stepfunctions", "StartExecution", asked).await["executionArn"].as_str().unwrap().to_owned()
}

async fn ended(root: &Root<'_>, execution: &str) -> Value {
    eventually(&format!("{execution} ends"), async || describe(root, execution).await["status"] != "RUNNING").await;
    let mut described = describe(root, execution).await;
    if let Some(output) = described["output"].as_str() {
        described["output"] = serde_json::from_str(output).unwrap();
    }
    described
}

async fn describe(root: &Root<'_>, execution: &str) -> Value {
    root.call("stepfunctions", "DescribeExecution", json!({ "executionArn": execution })).await
}

async fn history(root: &Root<'_>, execution: &str) -> Vec<String> {
    let asked = json!({ "executionArn": execution, "maxResults": 1000 });
    let events = root.call("stepfunctions", "GetExecutionHistory", asked).await;
    events["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// The tokens that the echo function was handed for an execution, oldest first.
fn tokens(root: &Root<'_>, execution: &str) -> Vec<String> {
    let got = root.lab.logs("echo").into_iter().filter_map(|line| {
        let event: Value = serde_json::from_str(&line).ok()?;
        (event["got"]["execution"] == execution).then(|| event["got"]["token"].as_str().map(str::to_owned))?
    });
    got.collect()
}

async fn token(root: &Root<'_>, execution: &str, count: usize) -> String {
    eventually("a token", async || tokens(root, execution).len() >= count).await;
    tokens(root, execution)[count - 1].clone()
}

fn invoke(payload: Value, then: Value) -> Value {
    let mut state = json!({
        "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": { "FunctionName": "${Echo}", "Payload": payload },
    });
    state.as_object_mut().unwrap().extend(then.as_object().unwrap().clone());
    state
}

fn ask(then: Value) -> Value {
    let mut state = invoke(json!({ "token.$": "$$.Task.Token", "execution.$": "$$.Execution.Name" }), then);
    state["Resource"] = "arn:aws:states:::lambda:invoke.waitForTaskToken".into();
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_runs_functions_as_its_role_and_waits_for_their_tokens() {
    let lab = lab(&["echo"]).await;
    let root = Root { lab: &lab, account: ADMIN };
    let calls = json!({
        "StartAt": "Call", "States": {
            "Call": invoke(json!({ "name.$": "$$.Execution.Name", "n.$": "$.n", "fixed": 7 }), json!({
                "ResultSelector": { "told.$": "$.Payload" }, "ResultPath": "$.call", "TimeoutSeconds": 10, "Next": "Which" })),
            "Which": { "Type": "Choice", "Default": "Other", "Choices": [
                { "Variable": "$.maybe", "IsPresent": true, "Next": "Other" },
                { "And": [{ "Variable": "$.call.told.n", "NumericEquals": 1 },
                          { "Variable": "$.call.told.fixed", "NumericGreaterThan": 6 }], "Next": "One" },
                { "Variable": "$.call.told.n", "StringEquals": "fail", "Next": "Fails" },
                { "Variable": "$.nowhere", "NumericEquals": 1, "Next": "One" }] },
            "One": { "Type": "Pass", "End": true },
            "Fails": invoke(json!({ "fail": "on purpose" }), json!({
                "Retry": [{ "ErrorEquals": ["Asked"], "IntervalSeconds": 1, "BackoffRate": 1.0, "MaxAttempts": 1 }],
                "Catch": [{ "ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.error", "Next": "One" }], "Next": "Other" })),
            "Other": { "Type": "Fail", "Error": "Other", "Cause": "another way" },
        },
    });
    let waits = json!({
        "StartAt": "Ask", "States": {
            "Ask": ask(json!({ "TimeoutSeconds": 20, "ResultPath": "$.answer", "Next": "Beat",
                "Retry": [{ "ErrorEquals": ["Again"], "IntervalSeconds": 1, "BackoffRate": 1.0, "MaxAttempts": 1 }],
                "Catch": [{ "ErrorEquals": ["Denied"], "ResultPath": "$.denied", "Next": "End" }] })),
            "Beat": ask(json!({ "TimeoutSeconds": 20, "HeartbeatSeconds": 1, "ResultPath": "$.beat", "Next": "Late",
                "Catch": [{ "ErrorEquals": ["States.TaskFailed"], "Next": "Wrong" },
                          { "ErrorEquals": ["States.Timeout"], "ResultPath": "$.silent", "Next": "Late" }] })),
            "Late": ask(json!({ "TimeoutSeconds": 1, "Next": "Wrong",
                "Catch": [{ "ErrorEquals": ["States.Timeout"], "ResultPath": "$.late", "Next": "End" }] })),
            "Wrong": { "Type": "Fail", "Error": "Wrong" },
            "End": { "Type": "Succeed" },
        },
    });
    let limited = json!({ "TimeoutSeconds": 1, "StartAt": "Ask", "States": { "Ask": ask(json!({ "End": true })) } });
    let broken = json!({ "StartAt": "Ask", "States": {
        "Ask": { "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken", "End": true,
            "Parameters": { "FunctionName": "${Echo}", "Payload": { "fail": "before it asked", "token.$": "$$.Task.Token" } } } } });
    let echo = "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:function:echo";
    root.stack(
        "machines",
        json!({ "Resources": {
            "Runs": role("Runs", "lambda.amazonaws.com", &[]),
            "Echo": function("echo", "Runs"),
            "Workflow": role("Workflow", STATES, &[("lambda:InvokeFunction", echo)]),
            "Powerless": role("Powerless", STATES, &[]),
            "Calls": machine("calls", "Workflow", &calls), "Waits": machine("waits", "Workflow", &waits),
            "Limited": machine("limited", "Workflow", &limited), "Broken": machine("broken", "Workflow", &broken),
            "Refused": machine("refused", "Powerless", &calls),
            "Answers": role("Answers", "lambda.amazonaws.com", &[
                ("states:SendTask*", "arn:aws:states:${AWS::Region}:${AWS::AccountId}:stateMachine:waits")]),
            "Inline": { "Type": "AWS::StepFunctions::StateMachine", "Properties": {
                "StateMachineName": "inline", "RoleArn": { "Fn::GetAtt": ["Workflow", "Arn"] },
                "Definition": { "StartAt": "A", "States": { "A": { "Type": "Wait", "Seconds": 0, "Next": "B" },
                    "B": { "Type": "Pass", "Result": { "flag": true, "n": 3 }, "End": true } } } } },
        } }),
    )
    .await;

    // A function, as the machine's role.
    let done = ended(&root, &start(&root, "calls", "one", json!({ "n": 1 })).await).await;
    let told = json!({ "n": 1, "name": "one", "fixed": 7 });
    assert_eq!((&done["status"], &done["output"]), (&json!("SUCCEEDED"), &json!({ "n": 1, "call": { "told": told } })));
    let invoked = host::last_call(&lab, "Invoke");
    assert_eq!(invoked.principal, format!("arn:aws:sts::{ADMIN}:assumed-role/Workflow/one"));
    let done = ended(&root, &start(&root, "calls", "failing", json!({ "n": "fail" })).await).await;
    assert_eq!(done["output"]["error"]["Error"], "Asked", "{done}");
    let cause: Value = serde_json::from_str(done["output"]["error"]["Cause"].as_str().unwrap()).unwrap();
    assert_eq!(cause["errorMessage"], "on purpose");
    let tries = lab.logs("echo").iter().filter(|line| line.contains("on purpose")).count();
    assert_eq!(tries, 2, "retried once");
    let done = ended(&root, &start(&root, "calls", "nowhere", json!({ "n": 2 })).await).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("FAILED"), &json!("States.Runtime")), "{done}");
    let done = ended(&root, &start(&root, "calls", "no-n", json!({})).await).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("FAILED"), &json!("States.Runtime")), "{done}");
    let done = ended(&root, &start(&root, "calls", "maybe", json!({ "n": 1, "maybe": null })).await).await;
    assert_eq!((&done["error"], &done["cause"]), (&json!("Other"), &json!("another way")));
    let done = ended(&root, &start(&root, "inline", "i", json!({})).await).await;
    assert_eq!((&done["status"], &done["output"]), (&json!("SUCCEEDED"), &json!({ "flag": true, "n": 3 })));
    let done = ended(&root, &start(&root, "refused", "r", json!({ "n": 1 })).await).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("FAILED"), &json!("Lambda.AWSLambdaException")), "{done}");
    assert!(done["cause"].as_str().unwrap().contains("not authorized to perform: lambda:InvokeFunction"), "{done}");
    assert_eq!(host::last_call(&lab, "Invoke").verdict, Verdict::Deny);

    // Names are unique; a repeated start of a running execution is the same execution.
    let waiting = start(&root, "waits", "w1", json!({ "a": 1 })).await;
    assert_eq!(start(&root, "waits", "w1", json!({ "a": 1 })).await, waiting);
    let again = json!({ "stateMachineArn": arn("stateMachine", "waits"), "name": "w1", "input": "{\"a\":2}" });
    let refused = root.try_call("stepfunctions", "StartExecution", again).await.unwrap_err();
    assert_eq!(refused.code, "ExecutionAlreadyExists");
    let closed = json!({ "stateMachineArn": arn("stateMachine", "calls"), "name": "one", "input": "{\"n\":1}" });
    let refused = root.try_call("stepfunctions", "StartExecution", closed).await.unwrap_err();
    assert_eq!(refused.code, "ExecutionAlreadyExists");

    // Tokens: a new one per attempt, answered once, by who may.
    let first = token(&root, "w1", 1).await;
    let answers = root.session("Answers", "lambda.amazonaws.com").await;
    let powerless = root.session("Powerless", STATES).await;
    let send = async |who: &redress_lab::service::Credentials, operation: &str, parameters: Value| {
        lab.aws().call(who, REGION, "stepfunctions", operation, parameters).await.map_err(|error| error.code)
    };
    let success = |token: &str| json!({ "taskToken": token, "output": "{\"by\":\"somebody\"}" });
    assert!(send(&powerless, "SendTaskSuccess", success(&first)).await.unwrap_err().contains("AccessDenied"));
    send(&answers, "SendTaskFailure", json!({ "taskToken": first, "error": "Again", "cause": "c" })).await.unwrap();
    assert_eq!(send(&answers, "SendTaskSuccess", success(&first)).await.unwrap_err(), "TaskTimedOut");
    let unknown = root.try_call("stepfunctions", "SendTaskSuccess", success("nonsense")).await.unwrap_err();
    assert_eq!(unknown.code, "InvalidToken");
    let second = token(&root, "w1", 2).await;
    assert_ne!(first, second);
    let nonsense = json!({ "taskToken": second, "output": "{" });
    assert_eq!(send(&answers, "SendTaskSuccess", nonsense).await.unwrap_err(), "InvalidOutput");
    send(&answers, "SendTaskSuccess", success(&second)).await.unwrap();
    // The next task hears nothing for a second, the last one has no time.
    let beating = token(&root, "w1", 3).await;
    send(&answers, "SendTaskHeartbeat", json!({ "taskToken": beating })).await.unwrap();
    let done = ended(&root, &waiting).await;
    assert_eq!(done["status"], "SUCCEEDED", "{done}");
    assert_eq!(done["output"]["answer"]["by"], "somebody");
    assert_eq!(done["output"]["silent"]["Error"], "States.HeartbeatTimeout");
    assert_eq!(done["output"]["late"]["Error"], "States.Timeout");
    assert_eq!(send(&answers, "SendTaskSuccess", success(&beating)).await.unwrap_err(), "TaskTimedOut");
    let events = history(&root, &waiting).await;
    assert_eq!(events.iter().filter(|kind| *kind == "TaskTimedOut").count(), 2, "{events:?}");

    let waiting = start(&root, "waits", "w2", json!({})).await;
    let denied = json!({ "taskToken": token(&root, "w2", 1).await, "error": "Denied", "cause": "not now" });
    send(&answers, "SendTaskFailure", denied).await.unwrap();
    assert_eq!(ended(&root, &waiting).await["output"]["denied"], json!({ "Error": "Denied", "Cause": "not now" }));

    let done = ended(&root, &start(&root, "broken", "b", json!({})).await).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("FAILED"), &json!("Asked")), "it does not wait for nobody");
    let done = ended(&root, &start(&root, "limited", "l", json!({})).await).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("TIMED_OUT"), &json!("States.Timeout")), "{done}");

    // Stopped: nothing happens any more.
    let stopped = start(&root, "waits", "w3", json!({})).await;
    let orphan = token(&root, "w3", 1).await;
    let stop = json!({ "executionArn": stopped, "error": "Off", "cause": "switched off" });
    root.call("stepfunctions", "StopExecution", stop).await;
    assert_eq!(send(&answers, "SendTaskSuccess", success(&orphan)).await.unwrap_err(), "TaskTimedOut");
    let done = ended(&root, &stopped).await;
    assert_eq!((&done["status"], &done["cause"]), (&json!("ABORTED"), &json!("switched off")));
    assert_eq!(history(&root, &stopped).await.last().unwrap(), "ExecutionAborted");
    let listed = json!({ "stateMachineArn": arn("stateMachine", "waits"), "statusFilter": "ABORTED" });
    let listed = root.call("stepfunctions", "ListExecutions", listed).await;
    assert_eq!(listed["executions"].as_array().unwrap().len(), 1);
    lab.stop().await;
}
