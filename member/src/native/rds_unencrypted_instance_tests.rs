#![allow(clippy::unwrap_used, clippy::panic)]

use redress_common::contract::{CopyStep, Outcome};

use super::*;
use crate::remediate::{self, RemediateError};
use crate::testing::{FakeAws, here, job};

const INSTANCE: &str = "arn:aws:rds:eu-central-1:111122223333:db:orders";

fn request(mode: Mode) -> RemediateRequest {
    let mut job = job(INSTANCE);
    job.control = "RDS.3".parse().unwrap();
    job.mode = mode;
    RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: [("KmsKeyId".to_owned(), json!("alias/mine"))].into(),
        copy: None,
    }
}

fn native(aws: &FakeAws, mode: Mode) -> UnencryptedInstance {
    UnencryptedInstance::new(Wire::new(aws.config()), &request(mode)).unwrap()
}

/// An instance as RDS tells of it: read from XML.
fn told(id: &str, encrypted: bool) -> Value {
    json!({
        "DbiResourceId": id, "StorageEncrypted": encrypted.to_string(), "DBInstanceStatus": "available", "Engine": "postgres",
        "DBInstanceClass": "db.m6g.large", "Endpoint": { "Address": "orders.x.rds.amazonaws.com", "Port": "5433" },
        "DBSubnetGroup": { "DBSubnetGroupName": "private" }, "MultiAZ": "false", "AvailabilityZone": "eu-central-1a",
        "PubliclyAccessible": "false", "StorageType": "gp3", "AllocatedStorage": "500", "Iops": "13000", "StorageThroughput": "125",
        "VpcSecurityGroups": { "VpcSecurityGroupMembership": [
            { "VpcSecurityGroupId": "sg-1", "Status": "active" }, { "VpcSecurityGroupId": "sg-2", "Status": "active" }] },
        "DBParameterGroups": { "DBParameterGroup": { "DBParameterGroupName": "tuned", "ParameterApplyStatus": "in-sync" } },
        "OptionGroupMemberships": { "OptionGroupMembership": { "OptionGroupName": "default:postgres-16" } },
        "EnabledCloudwatchLogsExports": ["postgresql"], "BackupRetentionPeriod": "14", "DeletionProtection": "true",
        "PreferredBackupWindow": "03:00-03:30", "MaxAllocatedStorage": "1000", "MonitoringInterval": "60",
        "MonitoringRoleArn": "arn:aws:iam::111122223333:role/monitoring", "PerformanceInsightsEnabled": "false",
        "TagList": { "Tag": { "Key": "Team", "Value": "orders" } },
    })
}

fn db(id: &str, encrypted: bool) -> Db {
    Db::of(&told(id, encrypted))
}

fn before() -> State {
    State { instance: Some(db("db-OLD", false)), kept: None }
}

fn after() -> State {
    State { instance: Some(db("db-NEW", true)), kept: Some(db("db-OLD", false)) }
}

fn half() -> State {
    State { instance: None, kept: Some(db("db-OLD", false)) }
}

fn image(state: &State) -> Image {
    Image { present: true, state: serde_json::to_value(state).unwrap() }
}

fn names(calls: &[Call]) -> Vec<(&str, &str, &str)> {
    let text = |call: &Call, name: &str| call.parameters[name].as_str().unwrap_or_default().to_owned();
    calls
        .iter()
        .map(|call| {
            let leak = |text: String| -> &'static str { text.leak() };
            (
                call.operation.as_str(),
                leak(text(call, "DBInstanceIdentifier")),
                leak(text(call, "NewDBInstanceIdentifier")),
            )
        })
        .collect()
}

#[test]
fn the_new_instance_is_as_the_old_one_and_takes_its_name() {
    let calls = encrypt(&before(), "orders", "alias/mine").unwrap();
    assert_eq!(
        names(&calls),
        [
            ("CreateDBSnapshot", "orders", ""),
            ("CopyDBSnapshot", "", ""),
            ("RestoreDBInstanceFromDBSnapshot", "orders-encrypted", ""),
            ("ModifyDBInstance", "orders-encrypted", ""),
            ("ModifyDBInstance", "orders", "orders-unencrypted"),
            ("ModifyDBInstance", "orders-encrypted", "orders"),
        ]
    );
    assert_eq!(
        calls[2].parameters,
        json!({
            "DBInstanceIdentifier": "orders-encrypted", "DBSnapshotIdentifier": COPY, "DBInstanceClass": "db.m6g.large", "Port": "5433",
            "DBSubnetGroupName": "private", "MultiAZ": "false", "AvailabilityZone": "eu-central-1a", "PubliclyAccessible": "false",
            "StorageType": "gp3", "Iops": "13000", "VpcSecurityGroupIds": ["sg-1", "sg-2"], "DBParameterGroupName": "tuned",
            "EnableCloudwatchLogsExports": ["postgresql"], "Tags": [{ "Key": "Team", "Value": "orders" }],
        })
    );
    assert_eq!(
        calls[3].parameters,
        json!({
            "DBInstanceIdentifier": "orders-encrypted", "ApplyImmediately": true, "BackupRetentionPeriod": "14",
            "PreferredBackupWindow": "03:00-03:30", "DeletionProtection": "true", "MaxAllocatedStorage": "1000",
            "MonitoringInterval": "60", "MonitoringRoleArn": "arn:aws:iam::111122223333:role/monitoring",
        })
    );
    assert_eq!(encrypt(&after(), "orders", "alias/mine").unwrap(), []);
}

#[test]
fn what_a_restored_one_would_lack_is_refused() {
    let refused = |name: &str, value: Value| {
        let mut instance = told("db-OLD", false);
        instance[name] = value;
        let state = State { instance: Some(Db::of(&instance)), kept: None };
        encrypt(&state, "orders", "alias/mine").unwrap_err().to_string()
    };
    for (name, value, why) in [
        ("DBClusterIdentifier", json!("c"), "belongs to a cluster"),
        ("ReadReplicaSourceDBInstanceIdentifier", json!("x"), "is a read replica"),
        ("ReadReplicaDBInstanceIdentifiers", json!({ "ReadReplicaDBInstanceIdentifier": "r" }), "has read replicas"),
        ("PendingModifiedValues", json!({ "DBInstanceClass": "db.t3.micro" }), "modifications that wait"),
        ("AssociatedRoles", json!({ "DBInstanceRole": {} }), "roles for features"),
        ("DomainMemberships", json!({ "DomainMembership": {} }), "joined to a directory"),
        ("MasterUserSecret", json!({ "SecretArn": "arn" }), "Secrets Manager"),
        ("ActivityStreamStatus", json!("started"), "activity stream"),
        ("Engine", json!("custom-oracle-ee"), "RDS Custom"),
    ] {
        let said = refused(name, value);
        assert!(said.contains(why) && said.contains("only by hand"), "{name}: {said}");
    }
    let long = encrypt(&before(), &"o".repeat(60), "alias/mine").unwrap_err().to_string();
    assert!(long.contains("so long"), "{long}");
}

#[test]
fn the_undo_swaps_back_from_wherever_the_fix_came_to() {
    let whole = put_back(&after(), &before(), "orders").unwrap();
    let back = ("ModifyDBInstance", "orders-unencrypted", "orders");
    assert_eq!(names(&whole), [("ModifyDBInstance", "orders", "orders-encrypted"), back]);
    assert_eq!(names(&put_back(&half(), &before(), "orders").unwrap()), [back]);
    let gone = State { kept: None, ..after() };
    assert!(put_back(&gone, &before(), "orders").is_err(), "somebody deleted the old one");
    let other = State { kept: Some(db("db-OTHER", false)), ..after() };
    assert!(put_back(&other, &before(), "orders").is_err());
    assert!(put_back(&after(), &after(), "orders").is_err());
}

#[test]
fn only_one_that_is_as_the_old_one_was_counts_as_its_replacement() {
    let native = native(&FakeAws::default(), Mode::Apply);
    assert!(native.compliant(&image(&after())));
    assert!(!native.compliant(&image(&half())) && !native.compliant(&image(&before())));
    let mut other = after();
    other.instance.as_mut().unwrap().afterwards.insert("DeletionProtection".to_owned(), json!("false"));
    assert!(!native.compliant(&image(&other)), "it can be deleted by one call");
    let made_so = State { kept: None, ..after() };
    assert!(native.compliant(&image(&made_so)), "it never was another");

    assert!(native.half_way(&image(&half()), &image(&before())), "of a fix");
    assert!(native.half_way(&image(&half()), &image(&after())), "of an undo");
    let other = State { kept: Some(db("db-OTHER", false)), ..half() };
    assert!(
        !native.half_way(&image(&other), &image(&before())) && !native.half_way(&image(&after()), &image(&before()))
    );
}

// ------------------------------------------------------------------------------------------- over RDS's answers

fn xml(name: &str, value: &Value) -> String {
    let inside: String = match value {
        Value::Object(map) => map.iter().map(|(name, value)| xml(name, value)).collect(),
        Value::Array(items) if name == "EnabledCloudwatchLogsExports" => {
            items.iter().map(|item| xml("member", item)).collect()
        }
        Value::Array(items) => return items.iter().map(|item| xml(name, item)).collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!("<{name}>{inside}</{name}>")
}

fn answers(aws: &FakeAws, instance: Option<&Value>) {
    match instance {
        Some(instance) => {
            let list = json!({ "DBInstances": { "DBInstance": instance } });
            let body = format!("<R>{}</R>", xml("DescribeDBInstancesResult", &list));
            aws.answer("DescribeDBInstances", 200, &body);
        }
        None => aws.answer(
            "DescribeDBInstances",
            404,
            "<ErrorResponse><Error><Code>DBInstanceNotFound</Code><Message>x</Message></Error></ErrorResponse>",
        ),
    }
}

/// One look: what has the name, what is kept, what is new.
fn looks(aws: &FakeAws, current: Option<&Value>, kept: Option<&Value>, new: Option<&Value>) {
    [current, kept, new].into_iter().for_each(|instance| answers(aws, instance));
}

fn clients(aws: &FakeAws, most: &str) {
    let body = format!(
        "<R><GetMetricStatisticsResult><Datapoints><member><Maximum>0.0</Maximum></member><member><Maximum>{most}</Maximum></member>\
         </Datapoints></GetMetricStatisticsResult></R>"
    );
    aws.answer("GetMetricStatistics", 200, &body);
}

fn snapshot(aws: &FakeAws) {
    let body = "<R><DescribeDBSnapshotsResult><DBSnapshots><DBSnapshot><Status>available</Status><Encrypted>true</Encrypted>\
                <OriginalSnapshotCreateTime>2026-01-02T03:04:05.678Z</OriginalSnapshotCreateTime></DBSnapshot></DBSnapshots>\
                </DescribeDBSnapshotsResult></R>";
    aws.answer("DescribeDBSnapshots", 200, body);
}

fn no_snapshot(aws: &FakeAws) {
    aws.answer("DescribeDBSnapshots", 404, "<E><Error><Code>DBSnapshotNotFound</Code></Error></E>");
}

fn called(aws: &FakeAws, name: &str) -> usize {
    aws.seen().iter().filter(|seen| seen.name == name).count()
}

fn tagged(mut instance: Value, tags: &[(&str, &str)]) -> Value {
    let tags = [("Team", "orders")].iter().chain(tags).map(|(key, value)| json!({ "Key": key, "Value": value }));
    instance["TagList"] = json!({ "Tag": tags.collect::<Vec<_>>() });
    instance
}

#[tokio::test]
async fn while_a_client_is_connected_no_snapshot_is_made() {
    for most in ["2.0", ""] {
        let aws = FakeAws::default();
        looks(&aws, Some(&told("db-OLD", false)), None, None);
        no_snapshot(&aws);
        if most.is_empty() {
            aws.answer(
                "GetMetricStatistics",
                200,
                "<R><GetMetricStatisticsResult><Datapoints/></GetMetricStatisticsResult></R>",
            );
        } else {
            clients(&aws, most);
        }
        let refused = native(&aws, Mode::Snapshot).copy(1).await.unwrap_err().to_string();
        let why = if most.is_empty() { "nobody knows" } else { "2 clients of instance orders" };
        assert!(refused.contains(why), "{refused}");
        assert_eq!(called(&aws, "CreateDBSnapshot"), 0);
    }
}

#[tokio::test]
async fn a_client_between_snapshot_and_swap_stops_the_swap() {
    let aws = FakeAws::default();
    answers(&aws, Some(&told("db-OLD", false)));
    snapshot(&aws);
    clients(&aws, "1.0");
    let native = native(&aws, Mode::Apply);
    let first = encrypt(&before(), "orders", "alias/mine").unwrap().remove(0);
    let refused = native.call(&first).await.unwrap_err().to_string();
    assert!(refused.contains("1 clients of instance orders") && refused.contains("2026-01-02T03:03:05"), "{refused}");
}

#[tokio::test]
async fn an_instance_of_somebody_else_with_the_new_name_is_not_touched() {
    let aws = FakeAws::default();
    looks(&aws, Some(&told("db-OLD", false)), None, Some(&told("db-X", true)));
    let refused = native(&aws, Mode::DryRun).inspect().await.unwrap_err().to_string();
    assert!(refused.contains("there is an instance orders-encrypted already"), "{refused}");

    let aws = FakeAws::default();
    [Some(&told("db-OLD", false)), Some(&told("db-X", true))].into_iter().for_each(|one| answers(&aws, one));
    native(&aws, Mode::Apply).discard(Mode::Apply).await.unwrap();
    assert_eq!(called(&aws, "DeleteDBInstance"), 0, "it is not what this remediation made");
}

#[tokio::test]
async fn a_run_that_is_cut_off_between_the_two_names_is_gone_on_with() {
    let aws = FakeAws::default();
    let mut first = native(&aws, Mode::Apply);
    let copier = first.copier.to_string();
    let new = tagged(told("db-NEW", true), &[(OF, &copier), (FROM, "db-OLD")]);
    let old = told("db-OLD", false);
    first.until = Instant::now();
    let job = request(Mode::Apply).job;
    // It looks twice, checks what was made, and gives the old instance its new name; that takes longer than it has.
    looks(&aws, Some(&old), None, Some(&new));
    looks(&aws, Some(&old), None, Some(&new));
    answers(&aws, Some(&old));
    snapshot(&aws);
    clients(&aws, "0.0");
    answers(&aws, Some(&new));
    [Some(&old), None].into_iter().for_each(|one| answers(&aws, one));
    aws.answer("ModifyDBInstance", 200, "<R/>");
    let mut renaming = old.clone();
    renaming["DBInstanceStatus"] = json!("renaming");
    [Some(&renaming), None].into_iter().for_each(|one| answers(&aws, one));
    let cut = remediate::run(&first, &job, None, &aws.writer(), &here(), &[]).await;
    assert!(matches!(cut, Err(RemediateError::Underway(_))), "{cut:?}");

    // The next finds the old one renamed, and nothing under the name.
    let second = native(&aws, Mode::Apply);
    looks(&aws, None, Some(&old), Some(&new));
    looks(&aws, None, Some(&old), Some(&new));
    answers(&aws, None);
    answers(&aws, Some(&new));
    [None, Some(&old)].into_iter().for_each(|one| answers(&aws, one));
    [Some(&new), None].into_iter().for_each(|one| answers(&aws, one));
    aws.answer("ModifyDBInstance", 200, "<R/>");
    [None, Some(&new)].into_iter().for_each(|one| answers(&aws, one));
    looks(&aws, Some(&new), Some(&old), None);
    let end = remediate::run(&second, &job, None, &aws.writer(), &here(), &[]).await.unwrap();
    assert_eq!((end.outcome, end.error.as_str()), (Outcome::Verified, ""));
    assert_eq!(called(&aws, "ModifyDBInstance"), 2, "each renaming once");
    let (_, evidence, left) = aws.evidence(&job).await;
    assert_eq!(evidence.pre_image, image(&before()), "what there was before the first run");
    assert_eq!(left.unwrap(), image(&after()));
}

#[tokio::test]
async fn a_copy_that_fails_takes_with_it_what_was_made_and_protected() {
    let aws = FakeAws::default();
    let native = native(&aws, Mode::Snapshot);
    let new = tagged(told("db-NEW", true), &[(OF, &native.copier.to_string()), (FROM, "db-OLD")]);
    [Some(&told("db-OLD", false)), Some(&new)].into_iter().for_each(|one| answers(&aws, one));
    for name in ["ModifyDBInstance", "DeleteDBInstance", "DeleteDBSnapshot"] {
        aws.answer(name, 200, "<R/>");
    }
    aws.answer("DeleteDBSnapshot", 404, "<E><Error><Code>DBSnapshotNotFound</Code></Error></E>");
    native.discard(Mode::Snapshot).await.unwrap();
    let bodies: Vec<String> = aws.seen().into_iter().map(|seen| String::from_utf8(seen.body).unwrap()).collect();
    assert!(bodies.iter().any(|body| body.contains("ModifyDBInstance") && body.contains("DeletionProtection=false")));
    assert!(
        bodies.iter().any(|body| body.contains("DeleteDBInstance") && body.contains("orders-encrypted")),
        "{bodies:?}"
    );
    assert_eq!(called(&aws, "DeleteDBSnapshot"), 2);
}

#[test]
fn a_key_that_is_none_is_refused() {
    let wire = Wire::new(FakeAws::default().config());
    for key in ["", "a key"] {
        let mut request = RemediateRequest { copy: Some(CopyStep::Finish), ..request(Mode::Snapshot) };
        request.parameters.insert("KmsKeyId".to_owned(), json!(key));
        assert!(UnencryptedInstance::new(wire.clone(), &request).is_err(), "{key}");
    }
}
