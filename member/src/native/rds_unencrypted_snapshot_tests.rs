#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::testing::{FakeAws, job};

const SNAPSHOT: &str = "arn:aws:rds:eu-central-1:111122223333:snapshot:rds:orders-2026-01-02";
const CLUSTER: &str = "arn:aws:rds:eu-central-1:111122223333:cluster-snapshot:daily";

fn native(aws: &FakeAws, arn: &str, mode: Mode) -> UnencryptedSnapshot {
    let mut job = job(arn);
    job.control = "RDS.4".parse().unwrap();
    job.mode = mode;
    let request = RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: [("KmsKeyId".to_owned(), json!("alias/aws/rds"))].into(),
        copy: None,
    };
    UnencryptedSnapshot::new(Wire::new(aws.config()), &request).unwrap()
}

fn one(encrypted: bool) -> Snapshot {
    Snapshot {
        encrypted,
        engine: "postgres".to_owned(),
        engine_version: "16.3".to_owned(),
        allocated_storage: "100".to_owned(),
        tags: [("Team".to_owned(), "orders".to_owned())].into(),
    }
}

fn image(encrypted: bool, copy: Option<Snapshot>) -> Image {
    Image { present: true, state: serde_json::to_value(State { snapshot: one(encrypted), copy }).unwrap() }
}

fn written(change: Change) -> Value {
    change.0.into_iter().map(|call| json!([call.operation, call.parameters])).collect()
}

#[test]
fn a_copy_is_made_and_marked_and_the_undo_deletes_it() {
    let native = native(&FakeAws::default(), SNAPSHOT, Mode::Apply);
    let name = "rds-orders-2026-01-02-encrypted";
    assert_eq!(
        written(native.plan(&image(false, None)).unwrap()),
        json!([
            ["CopyDBSnapshot", {
                "SourceDBSnapshotIdentifier": "rds:orders-2026-01-02", "TargetDBSnapshotIdentifier": name, "KmsKeyId": "alias/aws/rds",
                "Tags": [{ "Key": "Team", "Value": "orders" }] }],
            ["AddTagsToResource", {
                "ResourceName": format!("arn:aws:rds:eu-central-1:111122223333:snapshot:{name}"),
                "Tags": [{ "Key": "redress:copy-of", "Value": SNAPSHOT }] }],
        ])
    );
    let undo = native.plan_restore(&image(false, Some(one(true))), &image(false, None)).unwrap();
    assert_eq!(written(undo), json!([["DeleteDBSnapshot", { "DBSnapshotIdentifier": name }]]));
}

#[test]
fn a_clusters_snapshot_is_copied_by_its_own_calls() {
    let native = native(&FakeAws::default(), CLUSTER, Mode::Apply);
    let calls = native.plan(&image(false, None)).unwrap().0;
    assert_eq!(calls[0].operation, "CopyDBClusterSnapshot");
    assert_eq!(calls[0].parameters["TargetDBClusterSnapshotIdentifier"], "daily-encrypted");
    assert_eq!(calls[1].parameters["ResourceName"], CLUSTER.replace("daily", "daily-encrypted"));
    let undo = native.plan_restore(&image(false, Some(one(true))), &image(false, None)).unwrap().0;
    assert_eq!(undo[0].operation, "DeleteDBClusterSnapshot");
}

#[test]
fn what_is_encrypted_or_has_its_copy_needs_nothing() {
    let native = native(&FakeAws::default(), SNAPSHOT, Mode::Apply);
    assert!(native.compliant(&image(true, None)));
    assert!(native.compliant(&image(false, Some(one(true)))));
    let smaller = Snapshot { allocated_storage: "20".to_owned(), ..one(true) };
    assert!(!native.compliant(&image(false, Some(smaller))));
    assert!(!native.compliant(&image(false, Some(one(false)))));
}

// ------------------------------------------------------------------------------------------- over RDS's answers

fn answers(aws: &FakeAws, snapshot: Option<(bool, &str, &str)>) {
    match snapshot {
        Some((encrypted, status, tag)) => aws.answer(
            "DescribeDBSnapshots",
            200,
            &format!(
                "<R><DescribeDBSnapshotsResult><DBSnapshots><DBSnapshot><Encrypted>{encrypted}</Encrypted><Status>{status}</Status>\
                 <Engine>postgres</Engine><EngineVersion>16.3</EngineVersion><AllocatedStorage>100</AllocatedStorage><TagList>\
                 <Tag><Key>Team</Key><Value>orders</Value></Tag><Tag><Key>redress:x</Key><Value>y</Value></Tag>{tag}</TagList>\
                 </DBSnapshot></DBSnapshots></DescribeDBSnapshotsResult></R>"
            ),
        ),
        None => aws.answer("DescribeDBSnapshots", 404, "<E><Error><Code>DBSnapshotNotFound</Code></Error></E>"),
    }
}

#[tokio::test]
async fn a_snapshot_that_has_the_copys_name_is_not_taken_for_it() {
    let aws = FakeAws::default();
    answers(&aws, Some((false, "available", "")));
    answers(&aws, Some((true, "available", "")));
    let refused = native(&aws, SNAPSHOT, Mode::DryRun).inspect().await.unwrap_err().to_string();
    assert!(refused.contains("there is a snapshot rds-orders-2026-01-02-encrypted already"), "{refused}");
    let aws = FakeAws::default();
    answers(&aws, Some((true, "available", "")));
    native(&aws, SNAPSHOT, Mode::Snapshot).discard(Mode::Snapshot).await.unwrap();
    assert_eq!(aws.seen().len(), 1, "nor deleted");
}

#[tokio::test]
async fn a_copy_counts_when_it_was_looked_at() {
    let aws = FakeAws::default();
    answers(&aws, Some((false, "available", "")));
    let mark = format!("<Tag><Key>redress:copy-of</Key><Value>{SNAPSHOT}</Value></Tag>");
    answers(&aws, Some((true, "available", &mark)));
    let now = native(&aws, SNAPSHOT, Mode::Apply).inspect().await.unwrap().unwrap();
    assert_eq!(now, image(false, Some(one(true))));

    let aws = FakeAws::default();
    answers(&aws, None);
    assert_eq!(native(&aws, SNAPSHOT, Mode::Apply).inspect().await.unwrap(), None);
}

#[tokio::test]
async fn a_copy_that_is_not_complete_or_not_encrypted_is_not_marked() {
    for copy in [(true, "creating"), (false, "available")] {
        let aws = FakeAws::default();
        answers(&aws, Some((copy.0, copy.1, "")));
        let native = native(&aws, SNAPSHOT, Mode::Apply);
        let first = native.plan(&image(false, None)).unwrap().0.remove(0);
        let refused = native.call(&first).await.unwrap_err().to_string();
        assert!(refused.contains("not complete and encrypted"), "{refused}");
    }
}
