//! IAM's answers as it gives them, and a user as a value to which planned calls are applied.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::testing::iam::{USER, keys, no_policy, policy, user};
use crate::testing::{FakeAws, request};

fn native(aws: &FakeAws, parameters: Value) -> Result<ContainUser, NativeError> {
    let request = request(DECLARED.name, USER, parameters);
    ContainUser::new(aws_sdk_iam::Client::new(&aws.config()), &request)
}

fn said(change: &Change) -> Vec<String> {
    let key = |call: &Call| call.parameters["AccessKeyId"].as_str().unwrap_or_default().to_owned();
    change.0.iter().map(|call| format!("{} {}", call.operation, key(call)).trim().to_owned()).collect()
}

/// What IAM does with the calls.
fn applied(image: &Image, change: &Change) -> Image {
    let mut image = image.clone();
    for call in &change.0 {
        match call.operation.as_str() {
            "PutUserPolicy" => image.state["Policy"] = call.parameters["PolicyDocument"].clone(),
            "DeleteUserPolicy" => image.state["Policy"] = Value::Null,
            "UpdateAccessKey" => {
                let keys = image.state["Keys"].as_array_mut().unwrap();
                let key = keys.iter_mut().find(|key| key["AccessKeyId"] == call.parameters["AccessKeyId"]).unwrap();
                key["Status"] = call.parameters["Status"].clone();
            }
            other => unreachable!("{other}"),
        }
    }
    image
}

#[tokio::test]
async fn a_user_is_denied_everything_and_keeps_its_keys() {
    let aws = FakeAws::default();
    user(&aws);
    no_policy(&aws);
    let native = native(&aws, json!({})).unwrap();
    let before = native.inspect().await.unwrap().unwrap();
    assert_eq!(before.state, json!({ "Policy": null, "Keys": [] }));
    let change = native.plan(&before).unwrap();
    assert_eq!(said(&change), ["PutUserPolicy"]);
    assert_eq!(change.0[0].parameters["PolicyDocument"], Deny::All.text());
    assert_eq!(aws.seen().len(), 2, "nothing is read that is not needed");

    aws.answer("PutUserPolicy", 200, "<PutUserPolicyResponse/>");
    native.call(&change.0[0]).await.unwrap();
    let sent = String::from_utf8(aws.seen().pop().unwrap().body).unwrap();
    assert!(sent.contains("UserName=alice") && sent.contains("PolicyName=redress-contain"), "{sent}");
}

#[tokio::test]
async fn a_contained_user_is_known_and_let_go() {
    let aws = FakeAws::default();
    user(&aws);
    policy(&aws, &Deny::All.text());
    let native = native(&aws, json!({})).unwrap();
    let now = native.inspect().await.unwrap().unwrap();
    assert!(native.compliant(&now));
    let free = Image { present: true, state: json!({ "Policy": null, "Keys": [] }) };
    assert_eq!(said(&native.plan_restore(&now, &free).unwrap()), ["DeleteUserPolicy"]);
}

#[tokio::test]
async fn a_policy_of_our_name_that_is_not_ours_is_neither_overwritten_nor_removed() {
    let aws = FakeAws::default();
    let theirs = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
    user(&aws);
    policy(&aws, theirs);
    let native = native(&aws, json!({})).unwrap();
    let now = native.inspect().await.unwrap().unwrap();
    assert_eq!(now.state["Policy"], theirs, "byte for byte");
    assert!(matches!(native.plan(&now), Err(NativeError::Refused(_))));
    let free = Image { present: true, state: json!({ "Policy": null, "Keys": [] }) };
    assert!(matches!(native.plan_restore(&now, &free), Err(NativeError::Refused(_))));
}

#[tokio::test]
async fn keys_are_deactivated_where_that_is_asked_for() {
    let given = [("AKIA2", "Active"), ("AKIA1", "Active"), ("AKIA3", "Inactive")];
    for (parameters, wanted) in [
        (json!({ "DeactivateKeys": "true" }), vec!["PutUserPolicy", "UpdateAccessKey AKIA1", "UpdateAccessKey AKIA2"]),
        (json!({ "DeactivateKeys": true, "AccessKeyId": "AKIA2" }), vec!["PutUserPolicy", "UpdateAccessKey AKIA2"]),
        (json!({ "DeactivateKeys": true, "AccessKeyId": "AKIA3" }), vec!["PutUserPolicy"]),
        (json!({ "DeactivateKeys": true, "AccessKeyId": "ASIA1" }), vec!["PutUserPolicy"]),
        (json!({ "DeactivateKeys": false, "AccessKeyId": "AKIA2" }), vec!["PutUserPolicy"]),
    ] {
        let aws = FakeAws::default();
        user(&aws);
        no_policy(&aws);
        keys(&aws, &given);
        let native = native(&aws, parameters.clone()).unwrap();
        let before = native.inspect().await.unwrap().unwrap();
        let change = native.plan(&before).unwrap();
        assert_eq!(said(&change), wanted, "{parameters}");
        let undo = native.plan_restore(&applied(&before, &change), &before).unwrap();
        assert_eq!(said(&undo).last().map(String::as_str), Some("DeleteUserPolicy"), "the policy goes last");
        assert!(undo.0[..undo.0.len() - 1].iter().all(|call| call.parameters["Status"] == ACTIVE), "{undo:?}");
    }
}

#[tokio::test]
async fn a_user_that_is_not_there_is_told() {
    let aws = FakeAws::default();
    let nobody = "<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>";
    aws.answer("GetUserPolicy", 404, nobody);
    aws.answer("GetUser", 404, nobody);
    assert_eq!(native(&aws, json!({})).unwrap().inspect().await.unwrap(), None);
}

#[test]
fn parameters_are_believed_only_when_they_are_sound() {
    let aws = FakeAws::default();
    for wrong in [
        json!({ "DeactivateKeys": "yes" }),
        json!({ "DeactivateKeys": true, "AccessKeyId": "../x" }),
        json!({ "AccessKeyId": 7 }),
    ] {
        assert!(native(&aws, wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_run_that_was_cut_off_goes_on_and_one_that_somebody_disturbed_does_not() {
    let native = native(&FakeAws::default(), json!({ "DeactivateKeys": true })).unwrap();
    let image = |policy: Value, first: &str, second: &str| {
        let keys = json!([{ "AccessKeyId": "AKIA1", "Status": first }, { "AccessKeyId": "AKIA2", "Status": second }]);
        Image { present: true, state: json!({ "Policy": policy, "Keys": keys }) }
    };
    let before = image(Value::Null, ACTIVE, ACTIVE);
    assert!(native.half_way(&image(json!(Deny::All.text()), INACTIVE, ACTIVE), &before));
    assert!(!native.half_way(&image(json!("{}"), INACTIVE, ACTIVE), &before));
    let mut fewer = before.clone();
    fewer.state["Keys"].as_array_mut().unwrap().pop();
    assert!(!native.half_way(&fewer, &before));
}

fn any_image() -> impl Strategy<Value = Image> {
    let policy = prop_oneof![
        Just(Value::Null),
        Just(json!(Deny::All.text())),
        Just(json!(Deny::Sessions(jiff::Timestamp::UNIX_EPOCH).text())),
    ];
    let keys = proptest::collection::btree_map("AKIA[A-Z0-9]{4}", prop_oneof![Just(ACTIVE), Just(INACTIVE)], 0..3);
    (policy, keys).prop_map(|(policy, keys)| {
        let keys: Vec<Value> = keys.iter().map(|(id, status)| json!({ "AccessKeyId": id, "Status": status })).collect();
        Image { present: true, state: json!({ "Policy": policy, "Keys": keys }) }
    })
}

proptest! {
    #[test]
    fn contained_twice_is_once_and_let_go_is_as_before(before in any_image(), deactivate in any::<bool>()) {
        let parameters = json!({ "DeactivateKeys": deactivate });
        let native = native(&FakeAws::default(), parameters).unwrap();
        let before = if deactivate { before } else { Image { present: true, state: json!({ "Policy": before.state["Policy"], "Keys": [] }) } };
        let after = applied(&before, &native.plan(&before).unwrap());
        prop_assert!(native.compliant(&after));
        prop_assert_eq!(applied(&after, &native.plan_restore(&after, &before).unwrap()), before);
    }
}
