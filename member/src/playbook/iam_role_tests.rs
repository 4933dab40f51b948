//! IAM's answers as it gives them, and a role as a value to which planned calls are applied.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{FakeAws, request};

const ROLE: &str = "arn:aws:iam::111122223333:role/deploy";
const NOW: &str = "2026-11-29T10:00:00Z";

fn native(aws: &FakeAws, parameters: Value) -> Result<ContainRole, NativeError> {
    let request = request(DECLARED.name, ROLE, parameters);
    ContainRole::new(aws_sdk_iam::Client::new(&aws.config()), &request, "2026-12-01T00:00:00Z".parse().unwrap())
}

/// IAM tells of a role, and of its policy `redress-contain`.
pub(in crate::playbook) fn role(aws: &FakeAws, arn: &str, policy: Option<&str>) {
    let path = arn.split_once(":role").unwrap().1.rsplit_once('/').unwrap().0;
    aws.answer(
        "GetRole",
        200,
        &format!(
            "<GetRoleResponse><GetRoleResult><Role><Path>{path}/</Path><RoleName>deploy</RoleName><RoleId>AROA1</RoleId>\
             <Arn>{arn}</Arn><CreateDate>2020-01-01T00:00:00Z</CreateDate></Role></GetRoleResult></GetRoleResponse>"
        ),
    );
    let Some(text) = policy else {
        let error = "<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>";
        return aws.answer("GetRolePolicy", 404, error);
    };
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    aws.answer(
        "GetRolePolicy",
        200,
        &format!(
            "<GetRolePolicyResponse><GetRolePolicyResult><RoleName>deploy</RoleName><PolicyName>redress-contain</PolicyName>\
             <PolicyDocument>{encoded}</PolicyDocument></GetRolePolicyResult></GetRolePolicyResponse>"
        ),
    );
}

fn image(policy: Option<Deny>) -> Image {
    Image { present: true, state: json!({ "Arn": ROLE, "Policy": policy.map(Deny::text) }) }
}

fn sessions(before: &str) -> Deny {
    Deny::sessions(before.parse().unwrap())
}

/// What IAM does with the calls.
fn applied(image: &Image, change: &Change) -> Image {
    let mut image = image.clone();
    for call in &change.0 {
        match call.operation.as_str() {
            "PutRolePolicy" => image.state["Policy"] = call.parameters["PolicyDocument"].clone(),
            "DeleteRolePolicy" => image.state["Policy"] = Value::Null,
            other => unreachable!("{other}"),
        }
    }
    image
}

#[tokio::test]
async fn sessions_opened_before_the_finding_are_revoked() {
    let aws = FakeAws::default();
    role(&aws, ROLE, None);
    let native = native(&aws, json!({ "IssuedBefore": "2026-11-29T10:00:00.125Z" })).unwrap();
    let before = native.inspect().await.unwrap().unwrap();
    let change = native.plan(&before).unwrap();
    assert_eq!(change.0.len(), 1);
    assert_eq!(change.0[0].parameters["PolicyDocument"], sessions("2026-11-29T10:00:01Z").text());
    assert!(native.compliant(&applied(&before, &change)));

    aws.answer("PutRolePolicy", 200, "<PutRolePolicyResponse/>");
    native.call(&change.0[0]).await.unwrap();
    let sent = String::from_utf8(aws.seen().pop().unwrap().body).unwrap();
    assert!(sent.contains("RoleName=deploy") && sent.contains("TokenIssueTime"), "{sent}");
}

#[test]
fn what_is_denied_already_is_not_denied_again_and_what_came_since_is() {
    let at =
        |parameters: Value, policy| native(&FakeAws::default(), parameters).unwrap().plan(&image(policy)).unwrap().0;
    let revoke = || json!({ "IssuedBefore": NOW });
    assert!(at(revoke(), Some(sessions(NOW))).is_empty(), "the same request");
    assert!(at(revoke(), Some(sessions("2026-11-29T11:00:00Z"))).is_empty(), "a late one");
    assert!(at(revoke(), Some(Deny::All)).is_empty(), "more is denied");
    assert_eq!(at(revoke(), Some(sessions("2026-11-29T09:00:00Z"))).len(), 1, "sessions opened since are revoked too");
    assert_eq!(at(json!({ "Mode": "DenyAll" }), Some(sessions(NOW)))[0].parameters["PolicyDocument"], Deny::All.text());
    // A request without a time revokes once.
    assert_eq!(at(json!({}), None).len(), 1);
    assert!(at(json!({}), Some(sessions(NOW))).is_empty());
}

#[tokio::test]
async fn roles_of_aws_and_of_redress_are_never_contained() {
    for arn in [
        "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS",
        "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0123456789abcdef",
        "arn:aws:iam::111122223333:role/Redress-Remediate",
        "arn:aws:iam::111122223333:role/SecurityRemediationCrossAccountRole",
    ] {
        let aws = FakeAws::default();
        role(&aws, arn, None);
        for parameters in [json!({}), json!({ "Mode": "DenyAll" })] {
            let native = native(&aws, parameters).unwrap();
            let state = json!({ "Arn": arn, "Policy": null });
            assert!(matches!(native.plan(&Image { present: true, state }), Err(NativeError::Refused(_))), "{arn}");
        }
        let native = native(&aws, json!({})).unwrap();
        let read = native.inspect().await.unwrap().unwrap();
        assert!(matches!(native.plan(&read), Err(NativeError::Refused(_))), "its path is read from IAM: {arn}");
    }
}

#[test]
fn a_policy_of_our_name_that_is_not_ours_stays() {
    let native = native(&FakeAws::default(), json!({})).unwrap();
    let theirs = Image { present: true, state: json!({ "Arn": ROLE, "Policy": "{}" }) };
    assert!(matches!(native.plan(&theirs), Err(NativeError::Refused(_))));
    assert!(matches!(native.plan_restore(&theirs, &image(None)), Err(NativeError::Refused(_))));
}

#[test]
fn parameters_are_believed_only_when_they_are_sound() {
    for wrong in [json!({ "Mode": "Delete" }), json!({ "Mode": 1 }), json!({ "IssuedBefore": "soon" })] {
        assert!(native(&FakeAws::default(), wrong.clone()).is_err(), "{wrong}");
    }
}

fn any_image() -> impl Strategy<Value = Image> {
    let second = 1_700_000_000_i64..1_900_000_000;
    let revoked = second.prop_map(|second| Some(Deny::sessions(Timestamp::from_second(second).unwrap())));
    prop_oneof![Just(None::<Deny>), Just(Some(Deny::All)), revoked].prop_map(image)
}

proptest! {
    #[test]
    fn contained_twice_is_once_and_let_go_is_as_before(before in any_image(), mode in 0..3_usize) {
        let parameters = [json!({}), json!({ "IssuedBefore": NOW }), json!({ "Mode": "DenyAll" })][mode].clone();
        let native = native(&FakeAws::default(), parameters).unwrap();
        let after = applied(&before, &native.plan(&before).unwrap());
        prop_assert!(native.compliant(&after));
        prop_assert_eq!(applied(&after, &native.plan_restore(&after, &before).unwrap()), before);
    }
}
