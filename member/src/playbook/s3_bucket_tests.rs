#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{FakeAws, job};

fn bucket(mode: Mode) -> Bucket {
    bucket_in(&FakeAws::default(), mode)
}

fn bucket_in(aws: &FakeAws, mode: Mode) -> Bucket {
    let mut job = job("arn:aws:s3:::leaks");
    job.mode = mode;
    let request = RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: std::collections::BTreeMap::new(),
        copy: None,
    };
    Bucket::new(aws_sdk_s3::Client::new(&aws.config()), &request)
}

fn image(block: Option<Block>, versioned: bool) -> Image {
    Image { present: true, state: json!(State { block, versioned }) }
}

fn operations(change: &Change) -> Vec<&str> {
    change.0.iter().map(|call| call.operation.as_str()).collect()
}

#[test]
fn public_access_is_blocked_whole_and_versions_are_kept() {
    let bucket = bucket(Mode::Apply);
    let change = bucket.plan(&image(None, false)).unwrap();
    assert_eq!(operations(&change), ["PutPublicAccessBlock", "PutBucketVersioning"]);
    assert!(change.0.iter().all(|call| call.parameters["ExpectedBucketOwner"] == "111122223333"));
    assert_eq!(change.0.iter().filter(|call| !bucket.may_fail(call)).count(), 1);
    let most = Block { restrict_public_buckets: false, ..Block::WHOLE };
    assert_eq!(operations(&bucket.plan(&image(Some(most), true)).unwrap()), ["PutPublicAccessBlock"]);
    assert!(bucket.plan(&image(Some(Block::WHOLE), true)).unwrap().0.is_empty());
    assert!(bucket.compliant(&image(Some(Block::WHOLE), false)), "versions alone do not make it public");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_cannot_be_called_so_is_told() {
    for code in ["NoSuchBucket", "InvalidBucketName"] {
        let aws = FakeAws::default();
        aws.answer("GET", 404, &format!("<Error><Code>{code}</Code></Error>"));
        assert!(bucket_in(&aws, Mode::DryRun).inspect().await.unwrap().is_none(), "{code}");
    }
}

#[test]
fn an_undo_removes_what_was_not_there() {
    let bucket = bucket(Mode::Restore);
    let after = image(Some(Block::WHOLE), true);
    let change = bucket.plan_restore(&after, &image(None, false)).unwrap();
    assert_eq!(operations(&change), ["DeletePublicAccessBlock", "PutBucketVersioning"]);
    assert_eq!(change.0[1].parameters["VersioningConfiguration"]["Status"], "Suspended");
    let most = Block { restrict_public_buckets: false, ..Block::WHOLE };
    assert_eq!(operations(&bucket.plan_restore(&after, &image(Some(most), true)).unwrap()), ["PutPublicAccessBlock"]);
}
