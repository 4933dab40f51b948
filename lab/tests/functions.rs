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
