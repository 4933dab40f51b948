#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::testing::{FakeAws, job};

const BUCKET: &str = "arn:aws:s3:::photos";
const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:orders";
const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:orders";

fn native(arn: &str, parameters: Value) -> ResourcePolicy {
    let clients = Clients::new(&FakeAws::default().config());
    let request = RemediateRequest {
        job: job(arn),
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: serde_json::from_value(parameters).unwrap(),
        copy: None,
    };
    ResourcePolicy::new(&clients, &request).unwrap()
}

fn image(statements: &[Value]) -> Image {
    let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    Image { present: true, state: json!({ "Policy": policy, "QueueUrl": "https://q" }) }
}

fn absent() -> Image {
    Image { present: true, state: json!({}) }
}

/// The policy that a plan puts.
fn put(native: &ResourcePolicy, now: &Image) -> Option<Vec<Value>> {
    let change = native.plan(now).unwrap();
    let call = &change.0.first()?.parameters;
    let text = [&call["Policy"], &call["AttributeValue"], &call["Attributes"]["Policy"]];
    let text = text.iter().find_map(|text| text.as_str()).unwrap();
    Some(Policy::parse(text).unwrap().statements().collect())
}

fn tls() -> ResourcePolicy {
    native(BUCKET, json!({ "Goal": "RequireTls" }))
}

fn deny_others() -> ResourcePolicy {
    native(BUCKET, json!({ "Goal": "DenyOtherAccounts", "Actions": ["s3:PutBucketPolicy", "s3:PutObjectAcl"] }))
}

#[test]
fn a_bucket_without_a_policy_gets_one_and_the_undo_deletes_it() {
    let put = put(&tls(), &absent()).unwrap();
    assert!(requires_tls(&put[0], BUCKET), "{put:?}");
    let undo = tls().plan_restore(&image(&put), &absent()).unwrap();
    assert_eq!(undo.0[0].operation, "DeleteBucketPolicy");
}

#[test]
fn tls_must_be_asked_for_of_everyone_for_everything_without_another_condition() {
    let good = json!({ "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": ["s3:*"], "Resource": [BUCKET, format!("{BUCKET}/*")],
        "Condition": { "Bool": { "AWS:SecureTransport": false } } });
    assert!(tls().compliant(&image(std::slice::from_ref(&good))));
    for (part, weaker) in [
        ("Effect", json!("Allow")),
        ("Principal", json!({ "AWS": "arn:aws:iam::111122223333:root" })),
        ("Action", json!("s3:GetObject")),
        ("Resource", json!(format!("{BUCKET}/*"))),
        ("Condition", json!({ "Bool": { "aws:SecureTransport": "true" } })),
        (
            "Condition",
            json!({ "Bool": { "aws:SecureTransport": "false" }, "StringEquals": { "aws:SourceVpc": "vpc-1" } }),
        ),
    ] {
        let mut statement = good.clone();
        statement[part] = weaker;
        assert!(!tls().compliant(&image(&[statement.clone()])), "{statement}");
    }
}

#[test]
fn principals_of_other_accounts_are_denied_by_name_and_everyone_by_account() {
    let partner = json!({ "Sid": "Partner", "Effect": "Allow", "Principal": { "AWS": ["arn:aws:iam::444455556666:root", "arn:aws:iam::111122223333:role/own"] },
        "Action": "s3:Put*", "Resource": format!("{BUCKET}/*") });
    let after = put(&deny_others(), &image(std::slice::from_ref(&partner))).unwrap();
    assert_eq!(after[0], partner);
    assert_eq!(after[1]["Principal"], json!({ "AWS": ["arn:aws:iam::444455556666:root"] }));
    assert!(deny_others().compliant(&image(&after)));

    let everyone = json!({ "Effect": "Allow", "Principal": "*", "NotAction": "s3:GetObject", "Resource": BUCKET });
    let after = put(&deny_others(), &image(&[everyone])).unwrap();
    assert_eq!(after[1]["Condition"]["StringNotEquals"]["aws:PrincipalAccount"], "111122223333");
    assert!(deny_others().compliant(&image(&after)));

    let reads =
        json!({ "Effect": "Allow", "Principal": { "AWS": "444455556666" }, "Action": "s3:Get*", "Resource": BUCKET });
    assert!(deny_others().compliant(&image(&[reads])));
    let own =
        json!({ "Effect": "Allow", "Principal": { "AWS": "111122223333" }, "Action": "s3:*", "Resource": BUCKET });
    assert!(deny_others().compliant(&image(&[own])));
    assert!(deny_others().compliant(&absent()));
}

#[test]
fn only_the_public_statements_of_a_queue_or_topic_go() {
    let public = json!({ "Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": QUEUE });
    let events = json!({ "Effect": "Allow", "Principal": { "Service": "events.amazonaws.com" }, "Action": "sqs:SendMessage", "Resource": QUEUE });
    let goal = json!({ "Goal": "NotPublic" });
    let queue = native(QUEUE, goal.clone());
    assert_eq!(put(&queue, &image(&[public.clone(), events.clone()])).unwrap(), std::slice::from_ref(&events));
    assert!(queue.compliant(&image(&[events])) && queue.compliant(&absent()));

    let emptied = queue.plan(&image(std::slice::from_ref(&public))).unwrap();
    assert_eq!(emptied.0[0].parameters, json!({ "QueueUrl": "https://q", "Attributes": { "Policy": "" } }));

    let left = put(&native(TOPIC, goal), &image(&[public])).unwrap();
    assert_eq!(left[0]["Principal"]["AWS"], "arn:aws:iam::111122223333:root");
}

#[test]
fn a_document_that_cannot_be_read_is_refused() {
    let now = Image { present: true, state: json!({ "Policy": "not json" }) };
    assert!(matches!(tls().plan(&now), Err(NativeError::Refused(_))));
}

#[test]
fn patterns_fit_as_iam_reads_them() {
    for (pattern, text) in [("*", "s3:X"), ("s3:Put*", "s3:PutObjectAcl"), ("S3:put?bjectAcl", "s3:PutObjectAcl")] {
        assert!(fits(pattern, text), "{pattern} {text}");
    }
    assert!(!fits("s3:Put*Acl", "s3:PutBucketPolicy"));
    assert!(!fits("s3:Put", "s3:PutObject"));
}
