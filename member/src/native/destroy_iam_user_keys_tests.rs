//! IAM's answers as it gives them.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::iam::{self, USER};
use crate::testing::{FakeAws, request};

/// A run of an approved plan; a dry run has none.
fn native(aws: &FakeAws, mode: Mode, key: &str) -> Result<DestroyKeys, NativeError> {
    let mut request = request(DECLARED.name, USER, json!({ "AccessKeyId": key }));
    request.job.mode = mode;
    if mode != Mode::DryRun {
        request.job.plan_sha256 = "a".repeat(64);
    }
    DestroyKeys::new(aws_sdk_iam::Client::new(&aws.config()), &request)
}

/// What IAM tells of alice: her policy, and her keys with their status.
fn alice(aws: &FakeAws, policy: Option<&str>, keys: &[(&str, &str)]) {
    iam::user(aws);
    match policy {
        Some(text) => iam::policy(aws, text),
        None => iam::no_policy(aws),
    }
    iam::keys(aws, keys);
}

fn used(aws: &FakeAws, date: Option<&str>) {
    let (date, place) = match date {
        Some(date) => (format!("<LastUsedDate>{date}</LastUsedDate>"), ("eu-central-1", "s3")),
        None => (String::new(), ("N/A", "N/A")),
    };
    aws.answer(
        "GetAccessKeyLastUsed",
        200,
        &format!(
            "<GetAccessKeyLastUsedResponse><GetAccessKeyLastUsedResult><UserName>alice</UserName><AccessKeyLastUsed>{date}\
             <Region>{}</Region><ServiceName>{}</ServiceName></AccessKeyLastUsed></GetAccessKeyLastUsedResult>\
             </GetAccessKeyLastUsedResponse>",
            place.0, place.1
        ),
    );
}

fn said(change: &Change) -> Vec<String> {
    change.0.iter().map(|call| format!("{} {}", call.operation, call.parameters["AccessKeyId"])).collect()
}

fn contained() -> String {
    Deny::All.text()
}

#[tokio::test]
async fn inactive_keys_of_a_contained_user_are_deleted_and_what_iam_knew_of_them_is_kept() {
    let aws = FakeAws::default();
    alice(&aws, Some(&contained()), &[("AKIA1", INACTIVE), ("AKIA2", INACTIVE)]);
    used(&aws, Some("2026-11-29T10:00:00Z"));
    used(&aws, None);
    let native = native(&aws, Mode::Apply, "").unwrap();
    let now = native.inspect().await.unwrap().unwrap();
    let last_used = json!({ "Date": "2026-11-29T10:00:00Z", "Service": "s3", "Region": "eu-central-1" });
    assert_eq!(
        now.state["Keys"],
        json!([
            { "AccessKeyId": "AKIA1", "Status": "Inactive", "CreateDate": "2026-01-01T00:00:00Z", "LastUsed": last_used },
            { "AccessKeyId": "AKIA2", "Status": "Inactive", "CreateDate": "2026-01-01T00:00:00Z", "LastUsed": null },
        ])
    );
    let change = native.plan(&now).unwrap();
    assert_eq!(said(&change), ["DeleteAccessKey \"AKIA1\"", "DeleteAccessKey \"AKIA2\""]);

    aws.answer("DeleteAccessKey", 200, "<DeleteAccessKeyResponse/>");
    native.call(&change.0[0]).await.unwrap();
    let sent = String::from_utf8(aws.seen().pop().unwrap().body).unwrap();
    assert!(sent.contains("UserName=alice") && sent.contains("AccessKeyId=AKIA1"), "{sent}");
    // An earlier try had deleted the other.
    let none = "<ErrorResponse><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>none</Message></Error></ErrorResponse>";
    aws.answer("DeleteAccessKey", 404, none);
    native.call(&change.0[1]).await.unwrap();

    alice(&aws, Some(&contained()), &[]);
    let after = native.inspect().await.unwrap().unwrap();
    assert!(native.compliant(&after));
    let refused = native.plan_restore(&after, &now).unwrap_err().to_string();
    assert!(refused.contains("cannot be had back"), "{refused}");
}

#[tokio::test]
async fn one_key_is_deleted_and_the_other_neither_read_nor_judged() {
    let aws = FakeAws::default();
    alice(&aws, Some(&contained()), &[("AKIA1", "Active"), ("AKIA2", INACTIVE)]);
    used(&aws, None);
    let native = native(&aws, Mode::Apply, "AKIA2").unwrap();
    let now = native.inspect().await.unwrap().unwrap();
    assert_eq!(said(&native.plan(&now).unwrap()), ["DeleteAccessKey \"AKIA2\""]);
    assert_eq!(aws.seen().len(), 4);
}

#[tokio::test]
async fn what_is_not_contained_active_or_not_approved_is_refused() {
    let theirs = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    for (policy, status, mode, why) in [
        (None, INACTIVE, Mode::DryRun, "not contained"),
        (Some(theirs), INACTIVE, Mode::Apply, "not contained"),
        (Some(contained().as_str()), "Active", Mode::DryRun, "is active"),
    ] {
        let aws = FakeAws::default();
        alice(&aws, policy, &[("AKIA1", status)]);
        used(&aws, None);
        let native = native(&aws, mode, "").unwrap();
        let now = native.inspect().await.unwrap().unwrap();
        let refused = native.plan(&now).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let aws = FakeAws::default();
    alice(&aws, Some(&contained()), &[("AKIA1", INACTIVE)]);
    used(&aws, None);
    let bare = DestroyKeys { is_unapproved: true, ..native(&aws, Mode::Apply, "").unwrap() };
    let now = bare.inspect().await.unwrap().unwrap();
    assert!(bare.plan(&now).unwrap_err().to_string().contains("people approved"));
}

#[tokio::test]
async fn what_was_cut_off_between_two_keys_goes_on() {
    let image = |contained: bool, keys: &[&str]| {
        let key = |id: &&str| json!({ "AccessKeyId": id, "Status": INACTIVE, "CreateDate": "", "LastUsed": null });
        let keys: Vec<Value> = keys.iter().map(key).collect();
        Image { present: true, state: json!({ "UserName": "alice", "IsContained": contained, "Keys": keys }) }
    };
    let native = native(&FakeAws::default(), Mode::Apply, "").unwrap();
    let before = image(true, &["AKIA1", "AKIA2"]);
    assert!(native.half_way(&image(true, &["AKIA2"]), &before));
    assert!(!native.half_way(&image(false, &["AKIA2"]), &before), "somebody let the user go");
    assert!(!native.half_way(&image(true, &["AKIA3"]), &before), "that is another key");
}

#[test]
fn a_key_is_named_as_aws_names_it() {
    let aws = FakeAws::default();
    for wrong in ["ASIAEXAMPLE", "AKIA 1", "../x"] {
        assert!(native(&aws, Mode::Apply, wrong).is_err(), "{wrong}");
    }
    assert!(native(&aws, Mode::Apply, "AKIAEXAMPLE").is_ok());
}
