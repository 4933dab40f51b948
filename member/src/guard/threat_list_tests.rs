#![allow(clippy::unwrap_used)]

use redress_common::aws::evidence::s3_client;

use super::*;
use crate::testing::{FakeAws, here};

fn list_of(aws: &FakeAws, fresh: Duration) -> ThreatList {
    let client = s3_client(&aws.config(), &here().region);
    ThreatList { fresh, ..ThreatList::new(client, "threats".to_owned(), "999988887777".to_owned()) }
}

fn listing(objects: &[(&str, &str, i64)]) -> String {
    let objects = objects.iter().map(|(key, etag, size)| {
        format!("<Contents><Key>{key}</Key><ETag>{etag}</ETag><Size>{size}</Size></Contents>")
    });
    format!("<ListBucketResult>{}</ListBucketResult>", objects.collect::<String>())
}

#[tokio::test]
async fn a_list_is_read_once_while_it_is_fresh() {
    let aws = FakeAws::default();
    aws.answer("GET", 200, &listing(&[("list.txt", "1", 20)]));
    aws.answer("GET", 200, "ip,192.0.2.1,a,");
    let threats = list_of(&aws, FRESH);
    assert!(!threats.current().await.unwrap().is_empty());
    assert!(!threats.current().await.unwrap().is_empty());
    assert_eq!(aws.seen().len(), 2);
    assert!(aws.seen().iter().all(|seen| seen.headers["x-amz-expected-bucket-owner"] == "999988887777"));
}

#[tokio::test]
async fn a_list_that_did_not_change_is_not_read_again_and_one_that_did_is() {
    let aws = FakeAws::default();
    aws.answer("GET", 200, &listing(&[("list.txt", "1", 20)]));
    aws.answer("GET", 200, "ip,192.0.2.1,a,");
    aws.answer("GET", 200, &listing(&[("list.txt", "1", 20)]));
    aws.answer("GET", 200, &listing(&[("list.txt", "2", 20), ("list.json", "3", 20)]));
    aws.answer("GET", 200, "[]");
    let threats = list_of(&aws, Duration::ZERO);
    let first = threats.current().await.unwrap();
    assert!(Arc::ptr_eq(&first, &threats.current().await.unwrap()));
    assert!(threats.current().await.unwrap().is_empty(), "list.json goes before list.txt");
    assert_eq!(aws.seen().len(), 5);
}

#[tokio::test]
async fn no_list_and_no_bucket_are_an_empty_list() {
    let aws = FakeAws::default();
    aws.answer("GET", 200, &listing(&[("list.of-something-else", "1", 20)]));
    aws.answer("GET", 404, "<Error><Code>NoSuchBucket</Code></Error>");
    for _ in 0..2 {
        assert!(list_of(&aws, FRESH).current().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_or_forbidden_is_an_error_and_asked_for_again() {
    let aws = FakeAws::default();
    aws.answer("GET", 403, "<Error><Code>AccessDenied</Code></Error>");
    aws.answer("GET", 200, &listing(&[("list.json", "1", MAX_BYTES + 1)]));
    aws.answer("GET", 200, &listing(&[]));
    let threats = list_of(&aws, FRESH);
    assert!(threats.current().await.unwrap_err().to_string().contains("AccessDenied"));
    assert!(threats.current().await.unwrap_err().to_string().contains("longer than"));
    assert!(threats.current().await.is_ok());
}
