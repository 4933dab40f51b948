//! Functions as their callers meet them: behind a URL, and from other accounts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host;

use host::{REGION, Root, function, lab, last_call, role};
use redress_lab::Lab;
use redress_lab::record::Verdict;
use redress_lab::service::Credentials;
use serde_json::{Value, json};

const ADMIN: &str = "111122223333";
const OTHER: &str = "444455556666";
const BOTH: [(&str, &str); 2] = [
    ("lambda:InvokeFunctionUrl", "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:function:door"),
    ("lambda:InvokeFunction", "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:function:door"),
];

async fn post(lab: &Lab, caller: &Credentials, url: &str, body: Value) -> (u16, String) {
    let answer = lab.fetch(Some((caller, "lambda", REGION)), "POST", url, Some(&body)).await.unwrap();
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_url_lets_in_who_may_call_the_url_and_invoke_the_function_and_tells_who_it_is() {
    let lab = lab(&["door"]).await;
    let admin = Root { lab: &lab, account: ADMIN };
    let who = "ec2.amazonaws.com";
    let outputs = admin
        .stack(
            "door",
            json!({
                "Resources": {
                    "Runs": role("Runs", "lambda.amazonaws.com", &[]),
                    "Operator": role("Operator", who, &BOTH),
                    "OnlyUrl": role("OnlyUrl", who, &BOTH[..1]),
                    "OnlyInvoke": role("OnlyInvoke", who, &BOTH[1..]),
                    "Door": function("door", "Runs"),
                    "Url": { "Type": "AWS::Lambda::Url", "Properties": {
                        "TargetFunctionArn": { "Fn::GetAtt": ["Door", "Arn"] }, "AuthType": "AWS_IAM" } },
                },
                "Outputs": { "Url": { "Value": { "Fn::GetAtt": ["Url", "FunctionUrl"] } } },
            }),
        )
        .await;
    let url = outputs["Url"].as_str().unwrap();
    assert_eq!(url, format!("{}/_url/{ADMIN}/{REGION}/door/", lab.endpoint()));
    let config = admin.call("lambda", "GetFunctionUrlConfig", json!({ "FunctionName": "door" })).await;
    assert_eq!((&config["FunctionUrl"], &config["AuthType"]), (&json!(url), &json!("AWS_IAM")));

    let operator = admin.session("Operator", who).await;
    let (status, body) = post(&lab, &operator, &format!("{url}switch?a=b%20c"), json!({ "ask": 1 })).await;
    assert_eq!(status, 200, "{body}");
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&event["version"], &event["rawPath"]), (&json!("2.0"), &json!("/switch")));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{\"ask\": 1}"), &json!(false)));
    assert_eq!((&event["rawQueryString"], &event["queryStringParameters"]["a"]), (&json!("a=b%20c"), &json!("b c")));
    assert_eq!(event["headers"]["content-type"], "application/json");
    let context = &event["requestContext"];
    assert_eq!((&context["http"]["method"], &context["http"]["path"]), (&json!("POST"), &json!("/switch")));
    let arn = format!("arn:aws:sts::{ADMIN}:assumed-role/Operator/test");
    let iam = &context["authorizer"]["iam"];
    assert_eq!((&iam["userArn"], &iam["accountId"]), (&json!(arn), &json!(ADMIN)));
    assert_eq!(iam["accessKey"], operator.access_key_id);
    assert!(iam["userId"].as_str().unwrap().ends_with(":test") && iam["userId"] == iam["callerId"], "{iam}");
    let call = last_call(&lab, "InvokeFunctionUrl");
    assert_eq!((call.principal, call.service.as_str(), call.verdict), (arn, "lambda", Verdict::Allow));
    let door = format!("arn:aws:lambda:{REGION}:{ADMIN}:function:door");
    let checked: Vec<_> = call.checks.iter().map(|check| (check.action.as_str(), check.resource.as_str())).collect();
    assert_eq!(checked, [("lambda:InvokeFunctionUrl", door.as_str()), ("lambda:InvokeFunction", door.as_str())]);

    let (status, body) =
        post(&lab, &operator, url, json!({ "answer": { "statusCode": 409, "body": "no", "headers": {} } })).await;
    assert_eq!((status, body.as_str()), (409, "no"), "the function's own status is the answer's");
    let (status, body) = post(&lab, &operator, url, json!({ "answer": { "fail": "a secret" } })).await;
    assert!(status == 502 && !body.contains("secret"), "{status} {body}");
    let get = lab.fetch(Some((&operator, "lambda", REGION)), "GET", url, None).await.unwrap();
    let event: Value = serde_json::from_str(&get.body).unwrap();
    assert_eq!((get.status, &event["requestContext"]["http"]["method"]), (200, &json!("GET")));
    assert_eq!(event.get("body"), None, "what is not there is left out");

    for role in ["OnlyUrl", "OnlyInvoke"] {
        let session = admin.session(role, who).await;
        assert_eq!(post(&lab, &session, url, json!({})).await.0, 403, "{role}");
        assert_eq!(last_call(&lab, "InvokeFunctionUrl").verdict, Verdict::Deny);
    }
    let forged = Credentials { secret_access_key: "guess".to_owned(), ..operator.clone() };
    assert_eq!(post(&lab, &forged, url, json!({})).await.0, 403);
    let unsigned = lab.fetch(None, "POST", url, Some(&json!({}))).await.unwrap();
    assert_eq!(unsigned.status, 403);
    let elsewhere = lab.fetch(Some((&operator, "execute-api", REGION)), "POST", url, Some(&json!({}))).await.unwrap();
    assert_eq!(elsewhere.status, 403, "signed for another service");
    let invocations = lab.record().invocations().len();
    assert_eq!(invocations, 4, "who is refused invokes nothing");

    // From another account: its own policies and the function's must both say yes.
    let other = Root { lab: &lab, account: OTHER };
    let there = BOTH.map(|(action, resource)| (action, resource.replace("${AWS::AccountId}", ADMIN)));
    let there = [(there[0].0, there[0].1.as_str()), (there[1].0, there[1].1.as_str())];
    other.stack("visitor", json!({ "Resources": { "Visitor": role("Visitor", who, &there) } })).await;
    let visitor = other.session("Visitor", who).await;
    assert_eq!(post(&lab, &visitor, url, json!({})).await.0, 403);
    let stranger = Credentials::root(OTHER);
    assert_eq!(post(&lab, &stranger, url, json!({})).await.0, 403, "a root is nobody in another account");
    let grants = [
        ("Url", json!({ "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "AWS_IAM" })),
        ("Invoke", json!({ "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": true })),
    ];
    for (id, mut grant) in grants {
        assert_eq!(post(&lab, &visitor, url, json!({})).await.0, 403, "before {id}");
        grant["FunctionName"] = "door".into();
        grant["Principal"] = format!("arn:aws:iam::{OTHER}:role/Visitor").into();
        admin
            .stack(id, json!({ "Resources": { "P": { "Type": "AWS::Lambda::Permission", "Properties": grant } } }))
            .await;
    }
    assert_eq!(post(&lab, &visitor, url, json!({})).await.0, 200);
    let asked = json!({ "FunctionName": door, "Payload": "{}" });
    let direct = lab.aws().call(&visitor, REGION, "lambda", "Invoke", asked).await;
    assert!(direct.unwrap_err().code.contains("AccessDenied"), "the grant is for the URL");
    lab.stop().await;
}

/// The next message of a queue.
async fn receive(root: &Root<'_>, queue: &str) -> Value {
    let url = root.call("sqs", "GetQueueUrl", json!({ "QueueName": queue })).await["QueueUrl"].clone();
    for _ in 0..100 {
        let asked = json!({ "QueueUrl": url, "MessageAttributeNames": ["All"] });
        let found = root.call("sqs", "ReceiveMessage", asked).await;
        if found["Messages"][0].is_object() {
            return found["Messages"][0].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    panic!("{queue} stays empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_rule_invokes_its_function_and_a_last_failure_is_told_where_the_template_says() {
    let lab = lab(&["reconciler"]).await;
    let admin = Root { lab: &lab, account: ADMIN };
    let queue = |name: &str| json!({ "Type": "AWS::SQS::Queue", "Properties": { "QueueName": name } });
    let rule = |name: &str, target: Value| {
        let mut target = target;
        target["Id"] = "function".into();
        target["Arn"] = json!({ "Fn::GetAtt": ["Function", "Arn"] });
        json!({ "Type": "AWS::Events::Rule", "Properties": {
            "Name": name, "ScheduleExpression": "rate(5 minutes)", "State": "ENABLED", "Targets": [target] } })
    };
    let mut function = function("reconciler", "Runs");
    function["Properties"]["DeadLetterConfig"] = json!({ "TargetArn": { "Fn::GetAtt": ["Letters", "Arn"] } });
    admin
        .stack(
            "schedule",
            json!({ "Resources": {
                "Failures": queue("failures"), "Letters": queue("letters"),
                "Runs": role("Runs", "lambda.amazonaws.com", &[
                    ("sqs:SendMessage", "arn:aws:sqs:${AWS::Region}:${AWS::AccountId}:*")]),
                "Function": function,
                "Ends": { "Type": "AWS::Lambda::EventInvokeConfig", "Properties": {
                    "FunctionName": { "Ref": "Function" }, "Qualifier": "$LATEST", "MaximumRetryAttempts": 1,
                    "DestinationConfig": { "OnFailure": { "Destination": { "Fn::GetAtt": ["Failures", "Arn"] } } } } },
                "Every": rule("every", json!({})),
                "Broken": rule("broken", json!({ "Input": "{\"fail\":\"as told\"}" })),
                "MayEvery": { "Type": "AWS::Lambda::Permission", "Properties": {
                    "FunctionName": { "Ref": "Function" }, "Action": "lambda:InvokeFunction",
                    "Principal": "events.amazonaws.com", "SourceArn": { "Fn::GetAtt": ["Every", "Arn"] } } },
                "MayBroken": { "Type": "AWS::Lambda::Permission", "Properties": {
                    "FunctionName": { "Fn::GetAtt": ["Function", "Arn"] }, "Action": "lambda:InvokeFunction",
                    "Principal": "events.amazonaws.com", "SourceArn": { "Fn::GetAtt": ["Broken", "Arn"] } } },
                "Closed": rule("closed", json!({})),
                "Freeze": { "Type": "AWS::SSM::Document", "Properties": {
                    "Name": "freeze", "DocumentType": "ChangeCalendar", "DocumentFormat": "TEXT", "Content": "BEGIN:VCALENDAR" } },
                "Alarm": { "Type": "AWS::CloudWatch::Alarm", "Properties": {
                    "AlarmName": "letters", "Namespace": "AWS/SQS", "MetricName": "ApproximateNumberOfMessagesVisible",
                    "Dimensions": [{ "Name": "QueueName", "Value": { "Fn::GetAtt": ["Letters", "QueueName"] } }],
                    "Statistic": "Maximum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 0,
                    "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching" } },
            } }),
        )
        .await;
    let alarms = admin.call("cloudwatch", "DescribeAlarms", json!({ "AlarmNames": ["letters"] })).await;
    assert_eq!(alarms["MetricAlarms"][0]["ComparisonOperator"], "GreaterThanThreshold");

    let id = lab.fire_schedule(ADMIN, "every").await.unwrap();
    let line = |text: &str| lab.logs("reconciler").into_iter().filter(|line| line.contains(text)).count();
    host::eventually("the function is told", async || line(&id) == 1).await;
    let logged = lab.logs("reconciler").into_iter().find(|line| line.contains(&id)).unwrap();
    let event = serde_json::from_str::<Value>(&logged).unwrap()["got"].clone();
    assert_eq!((&event["source"], &event["detail-type"]), (&json!("aws.events"), &json!("Scheduled Event")));
    assert_eq!(event["resources"], json!([format!("arn:aws:events:{REGION}:{ADMIN}:rule/every")]));

    lab.fire_schedule(ADMIN, "broken").await.unwrap();
    let message = receive(&admin, "failures").await;
    let record: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(
        (&record["requestPayload"], line("as told")),
        (&json!({ "fail": "as told" }), 2),
        "one retry, as the template says"
    );
    assert_eq!(record["responsePayload"]["errorMessage"], "as told");
    let letter = receive(&admin, "letters").await;
    assert_eq!(letter["Body"], "{\"fail\":\"as told\"}");
    assert_eq!(letter["MessageAttributes"]["ErrorMessage"]["StringValue"], "as told");
    assert!(last_call(&lab, "SendMessage").principal.contains("assumed-role/Runs/"));

    lab.fire_schedule(ADMIN, "closed").await.unwrap();
    let refused = lab.record().deliveries().into_iter().find(|one| one.rule_arn.ends_with("rule/closed")).unwrap();
    assert!(refused.error.is_some_and(|error| error.contains("AccessDenied")), "no permission, no invocation");
    assert_eq!(lab.fire_schedule(ADMIN, "nobodys").await.unwrap_err().code, "ResourceNotFoundException");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_a_member_is_invoked_through_a_role_of_that_member() {
    let lab = lab(&["guard"]).await;
    let (admin, member) = (Root { lab: &lab, account: ADMIN }, Root { lab: &lab, account: OTHER });
    let guard = format!("arn:aws:lambda:{REGION}:{OTHER}:function:guard");
    let spoke = format!("arn:aws:iam::{OTHER}:role/Spoke");
    let mut trusted = role("Spoke", "ec2.amazonaws.com", &[("lambda:InvokeFunction", guard.as_str())]);
    trusted["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] =
        json!({ "AWS": format!("arn:aws:iam::{ADMIN}:root") });
    member
        .stack(
            "guard",
            json!({ "Resources": {
                "Runs": role("Guard", "lambda.amazonaws.com", &[]), "Guard": function("guard", "Runs"), "Spoke": trusted } }),
        )
        .await;
    let lambda = "lambda.amazonaws.com";
    let may = [("sts:AssumeRole", spoke.as_str()), ("lambda:InvokeFunction", guard.as_str())];
    admin.stack("hub", json!({ "Resources": { "Hub": role("Hub", lambda, &may) } })).await;
    let hub = admin.session("Hub", lambda).await;
    let asked = json!({ "FunctionName": guard, "Payload": "{\"look\":1}" });
    let directly = lab.aws().call(&hub, REGION, "lambda", "Invoke", asked.clone()).await;
    assert!(directly.unwrap_err().code.contains("AccessDenied"), "its own policies are not enough");
    let role = json!({ "RoleArn": spoke, "RoleSessionName": "orchestrator" });
    let assumed = lab.aws().call(&hub, REGION, "sts", "AssumeRole", role).await.unwrap();
    let session: Credentials = serde_json::from_value(assumed["Credentials"].clone()).unwrap();
    let answer = lab.aws().call(&session, REGION, "lambda", "Invoke", asked).await.unwrap();
    assert_eq!((&answer["StatusCode"], &answer["Payload"]), (&json!(200), &json!("{\"look\":1}")));
    assert_eq!(last_call(&lab, "Invoke").principal, format!("arn:aws:sts::{OTHER}:assumed-role/Spoke/orchestrator"));
    lab.stop().await;
}
