//! Lambda's answers as it gives them, and a function as a value to which planned calls are applied.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::super::deny::Deny;
use super::super::iam_role::tests::role;
use super::*;
use crate::testing::{FakeAws, request};

const FUNCTION: &str = "arn:aws:lambda:eu-central-1:111122223333:function:resize";
const ROLE: &str = "arn:aws:iam::111122223333:role/service-role/resize-role";

fn native_of(aws: &FakeAws, arn: &str, parameters: Value) -> Result<ContainFunction, NativeError> {
    let config = aws.config();
    let (lambda, iam) = (aws_sdk_lambda::Client::new(&config), aws_sdk_iam::Client::new(&config));
    let request = request(DECLARED.name, arn, parameters);
    ContainFunction::new(lambda, iam, &request, "2026-12-01T00:00:00Z".parse().unwrap())
}

fn native(aws: &FakeAws, parameters: Value) -> ContainFunction {
    native_of(aws, FUNCTION, parameters).unwrap()
}

fn said(change: &Change) -> Vec<&str> {
    change.0.iter().map(|call| call.operation.as_str()).collect()
}

/// What Lambda and IAM do with the calls.
fn applied(image: &Image, change: &Change) -> Image {
    let mut image = image.clone();
    for call in &change.0 {
        match call.operation.as_str() {
            "PutFunctionConcurrency" => {
                image.state["ReservedConcurrency"] = call.parameters["ReservedConcurrentExecutions"].clone();
            }
            "DeleteFunctionConcurrency" => image.state["ReservedConcurrency"] = Value::Null,
            "PutRolePolicy" => image.state["Role"]["Policy"] = call.parameters["PolicyDocument"].clone(),
            "DeleteRolePolicy" => image.state["Role"]["Policy"] = Value::Null,
            other => unreachable!("{other}"),
        }
    }
    image
}

#[tokio::test]
async fn a_function_is_throttled_and_gets_back_what_it_had_reserved() {
    for (answer, had, undo) in [
        ("{}", json!(null), "DeleteFunctionConcurrency"),
        (r#"{"ReservedConcurrentExecutions":40}"#, json!(40), "PutFunctionConcurrency"),
    ] {
        let aws = FakeAws::default();
        aws.answer("GET", 200, answer);
        let native = native(&aws, json!({}));
        let before = native.inspect().await.unwrap().unwrap();
        assert_eq!(before.state, json!({ "ReservedConcurrency": had }));
        assert_eq!(aws.seen()[0].path, "/2019-09-30/functions/resize/concurrency");
        let change = native.plan(&before).unwrap();
        assert_eq!(said(&change), ["PutFunctionConcurrency"]);
        let restore = native.plan_restore(&applied(&before, &change), &before).unwrap();
        assert_eq!(said(&restore), [undo]);

        aws.answer("PUT", 200, r#"{"ReservedConcurrentExecutions":0}"#);
        native.call(&change.0[0]).await.unwrap();
        let sent = aws.seen().pop().unwrap();
        assert_eq!(sent.path, "/2017-10-31/functions/resize/concurrency");
        assert_eq!(sent.body, br#"{"ReservedConcurrentExecutions":0}"#);
        if undo.starts_with("Delete") {
            aws.answer("DELETE", 204, "");
            native.call(&restore.0[0]).await.unwrap();
            assert_eq!(aws.seen().pop().unwrap().name, "DELETE");
        }
    }
}

#[tokio::test]
async fn the_sessions_of_its_role_are_revoked_where_that_is_asked_for() {
    let aws = FakeAws::default();
    aws.answer("GET", 200, "{}");
    aws.answer("GET", 200, &json!({ "FunctionName": "resize", "Role": ROLE }).to_string());
    role(&aws, ROLE, None);
    let native = native(&aws, json!({ "RevokeRoleSessions": "true", "IssuedBefore": "2026-11-29T10:00:00Z" }));
    let before = native.inspect().await.unwrap().unwrap();
    assert_eq!(before.state["Role"], json!({ "Arn": ROLE, "Policy": null }));
    let change = native.plan(&before).unwrap();
    assert_eq!(said(&change), ["PutFunctionConcurrency", "PutRolePolicy"]);
    assert_eq!(change.0[1].parameters["RoleName"], "resize-role");
    let after = applied(&before, &change);
    assert!(native.compliant(&after));
    let undo = native.plan_restore(&after, &before).unwrap();
    assert_eq!(said(&undo), ["DeleteRolePolicy", "DeleteFunctionConcurrency"]);
}

#[tokio::test]
async fn a_role_of_another_account_is_not_touched() {
    let aws = FakeAws::default();
    aws.answer("GET", 200, "{}");
    aws.answer("GET", 200, r#"{"Role":"arn:aws:iam::444455556666:role/x"}"#);
    let native = native(&aws, json!({ "RevokeRoleSessions": true }));
    assert!(matches!(native.inspect().await, Err(NativeError::Form { .. })));
}

#[tokio::test]
async fn a_function_that_is_not_there_is_told() {
    let aws = FakeAws::default();
    aws.answer("GET", 404, r#"{"__type":"ResourceNotFoundException","Message":"Function not found"}"#);
    assert_eq!(native(&aws, json!({})).inspect().await.unwrap(), None);
}

#[test]
fn the_functions_of_redress_are_never_contained() {
    let aws = FakeAws::default();
    let ours =
        native_of(&aws, "arn:aws:lambda:eu-central-1:111122223333:function:redress-recorder", json!({})).unwrap();
    let free = Image { present: true, state: json!({ "ReservedConcurrency": null }) };
    assert!(matches!(ours.plan(&free), Err(NativeError::Refused(_))));
    assert!(native_of(&aws, FUNCTION, json!({ "RevokeRoleSessions": "maybe" })).is_err());
}

#[test]
fn a_run_that_was_cut_off_goes_on() {
    let native = native(&FakeAws::default(), json!({ "RevokeRoleSessions": true }));
    let image = |reserved: Value, policy: Value| Image {
        present: true,
        state: json!({ "ReservedConcurrency": reserved, "Role": { "Arn": ROLE, "Policy": policy } }),
    };
    let before = image(json!(5), Value::Null);
    assert!(native.half_way(&image(json!(0), Value::Null), &before));
    assert!(native.half_way(&image(json!(5), json!(Deny::All.text())), &before));
    assert!(!native.half_way(&image(json!(6), Value::Null), &before));
    assert!(!native.half_way(&image(json!(0), json!("{}")), &before));
}

fn any_image(with_role: bool) -> impl Strategy<Value = Image> {
    let reserved = prop_oneof![Just(Value::Null), (0..2000_i64).prop_map(|reserved| json!(reserved))];
    let policy = prop_oneof![
        Just(Value::Null),
        Just(json!(Deny::All.text())),
        Just(json!(Deny::sessions(Timestamp::UNIX_EPOCH).text()))
    ];
    (reserved, policy).prop_map(move |(reserved, policy)| {
        let mut state = json!({ "ReservedConcurrency": reserved });
        if with_role {
            state["Role"] = json!({ "Arn": ROLE, "Policy": policy });
        }
        Image { present: true, state }
    })
}

proptest! {
    #[test]
    fn contained_twice_is_once_and_let_go_is_as_before(bare in any_image(false), whole in any_image(true)) {
        for (before, revoke) in [(bare, false), (whole, true)] {
            let parameters = json!({ "RevokeRoleSessions": revoke, "IssuedBefore": "2026-11-29T10:00:00Z" });
            let native = native(&FakeAws::default(), parameters);
            let after = applied(&before, &native.plan(&before).unwrap());
            prop_assert!(native.compliant(&after));
            prop_assert_eq!(applied(&after, &native.plan_restore(&after, &before).unwrap()), before);
        }
    }
}
