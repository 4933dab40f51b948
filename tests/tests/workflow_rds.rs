//! Databases and snapshots that are encrypted by a copy, over the lab: people are asked, copies are made, the change, the
//! read-back, and the undo, by the deployed state machine.
//!
//! RDS is moto's: copies and instances are complete at once, and a renaming takes no time. How long SSM and the function
//! would wait is not seen. How many clients a database has is put into `CloudWatch` by the test: nobody can connect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::OnceLock;

use redress_common::contract::snapshot_id;
use redress_common::ids::{ClaimKey, RemediationId};
use redress_common::names;
use redress_lab::faults::{Action, Rule};
use redress_tests::world::World;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Asks about every fix, acts on every undo.
const POLICIES: &str = r#"
@id("team.notify") permit (principal, action == Redress::Action::"Notify", resource);
@id("team.fixes") @approvers("1") permit (principal, action == Redress::Action::"Approve", resource)
when { context.mode == "Apply" };
@id("team.undos") permit (principal, action == Redress::Action::"Act", resource)
when { context.mode == "Restore" };
@id("team.answer") permit (principal is Redress::Analyst, action == Redress::Action::"Answer", resource);
"#;

async fn the_world() -> &'static World {
    static READY: OnceCell<()> = OnceCell::const_new();
    let world = all();
    let ready = READY.get_or_init(async || {
        world.operate(json!({ "Operation": "PolicySet", "Source": POLICIES, "Reason": "a test" })).await;
    });
    ready.await;
    world
}

fn all() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    let members = ["whole", "used", "half", "snapshots"];
    WORLD.get_or_init(|| World::with_defaults(&members, &[("LeaseSeconds", "10"), ("RunSeconds", "120")]))
}

/// Something of RDS in a member account.
struct Thing<'a> {
    world: &'a World,
    account: String,
    control: &'static str,
    arn: String,
}

impl<'a> Thing<'a> {
    fn new(world: &'a World, member: &str, control: &'static str, name: &str) -> Self {
        let account = world.member(member);
        let arn = format!("arn:aws:rds:{}:{account}:{name}", world.region());
        Self { world, account, control, arn }
    }

    async fn call(&self, service: &str, operation: &str, asked: Value) -> Value {
        self.world.call(&self.account, service, operation, asked).await.unwrap()
    }

    async fn rds(&self, operation: &str, asked: Value) -> Value {
        self.call("rds", operation, asked).await
    }

    /// An unencrypted database that is unlike what RDS makes by itself.
    async fn database(world: &'a World, member: &str, clients: u32) -> Self {
        let thing = Self::new(world, member, "RDS.3", "db:orders");
        let group = json!({ "GroupName": "orders", "Description": "orders" });
        let group = thing.call("ec2", "CreateSecurityGroup", group).await["GroupId"].clone();
        let parameters =
            json!({ "DBParameterGroupName": "tuned", "DBParameterGroupFamily": "postgres16", "Description": "tuned" });
        thing.rds("CreateDBParameterGroup", parameters).await;
        let made = json!({
            "DBInstanceIdentifier": "orders", "DBInstanceClass": "db.m6g.large", "Engine": "postgres", "AllocatedStorage": 20,
            "MasterUsername": "owner", "MasterUserPassword": "not-a-secret-1", "StorageEncrypted": false, "Port": 5433,
            "VpcSecurityGroupIds": [group], "DBParameterGroupName": "tuned", "BackupRetentionPeriod": 3,
            "PreferredBackupWindow": "03:00-03:30", "MaxAllocatedStorage": 50, "DeletionProtection": true,
            "Tags": [{ "Key": "Team", "Value": "orders" }],
        });
        thing.rds("CreateDBInstance", made).await;
        let now = jiff::Timestamp::now();
        let of_it = json!([{ "Name": "DBInstanceIdentifier", "Value": "orders" }]);
        let point = |minute: i64| {
            let at = (now + jiff::SignedDuration::from_secs(20 * minute)).to_string();
            json!({ "MetricName": "DatabaseConnections", "Dimensions": of_it, "Timestamp": at, "Value": clients })
        };
        let points: Vec<Value> = (-3..60).map(point).collect();
        thing.call("cloudwatch", "PutMetricData", json!({ "Namespace": "AWS/RDS", "MetricData": points })).await;
        thing
    }

    /// The databases of the account: the name, then what must be as it was.
    async fn databases(&self) -> Vec<(String, Value)> {
        let all = self.rds("DescribeDBInstances", json!({})).await;
        let fields = [
            "DbiResourceId",
            "StorageEncrypted",
            "DBInstanceClass",
            "Engine",
            "Endpoint",
            "BackupRetentionPeriod",
            "PreferredBackupWindow",
            "MaxAllocatedStorage",
            "DeletionProtection",
            "VpcSecurityGroups",
            "DBParameterGroups",
            "DBSubnetGroup",
            "TagList",
        ];
        let brief = |database: &Value| {
            let kept: serde_json::Map<String, Value> =
                fields.into_iter().map(|field| (field.to_owned(), database[field].clone())).collect();
            (database["DBInstanceIdentifier"].as_str().unwrap().to_owned(), Value::Object(kept))
        };
        let mut all: Vec<_> = all["DBInstances"].as_array().unwrap().iter().map(brief).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    async fn snapshots(&self, of: &str) -> Vec<Value> {
        let all = self.rds(&format!("Describe{of}"), json!({})).await;
        // Automatic ones come and go with their instance.
        let manual = |snapshot: &&Value| snapshot["SnapshotType"] == "manual";
        all[of].as_array().into_iter().flatten().filter(manual).cloned().collect()
    }

    fn key(&self) -> ClaimKey {
        let (account, region) = (self.account.parse().unwrap(), self.world.region().parse().unwrap());
        ClaimKey::new(&account, &region, &self.control.parse().unwrap(), &self.arn.parse().unwrap())
    }

    /// Asks for the fix; its remediation.
    async fn asks(&self) -> String {
        let request = Uuid::new_v4().to_string();
        let asked = json!({
            "Operation": "Remediate", "Control": self.control, "AccountId": self.account, "Region": self.world.region(),
            "ResourceArn": self.arn, "Mode": "Apply", "Reason": "a test asks", "RequestId": request,
        });
        self.world.operate(asked).await;
        let is_it = |record: &Value| record["FindingId"].as_str().is_some_and(|finding| finding.contains(&request));
        let records = self.world.ledger_when(&self.account, "it is decided", is_it).await;
        records.iter().find(|record| is_it(record)).unwrap()["RemediationId"].as_str().unwrap().to_owned()
    }

    /// The record with which a remediation comes to a status; a failure that nobody waits for ends the test.
    async fn comes_to(&self, id: &str, status: &str) -> Value {
        let of_it = |record: &Value| record["RemediationId"] == id;
        let is_end =
            |record: &Value| of_it(record) && [status, "Failed"].iter().any(|one| record["ExecutionStatus"] == *one);
        let records = self.world.ledger_when(&self.account, &format!("{id} comes to {status}"), is_end).await;
        let end = records.into_iter().rev().find(is_end).unwrap();
        assert_eq!(end["ExecutionStatus"], status, "{end:#}");
        end
    }

    /// Says yes to the plan.
    async fn is_approved(&self, id: &str) {
        let asked = |record: &Value| {
            let is_it = record["RemediationId"] == id && record["ExecutionStatus"] == "AwaitingApproval";
            is_it && record["NotificationSent"] == true
        };
        let ended =
            |record: &Value| asked(record) || record["RemediationId"] == id && record["ExecutionStatus"] == "Failed";
        let records = self.world.ledger_when(&self.account, "people are asked", ended).await;
        let record = records.iter().find(|record| asked(record)).unwrap_or_else(|| panic!("{records:#?}"));
        let answer = json!({
            "Operation": "Answer", "RemediationId": id, "Approve": true, "PlanSha256": record["Detail"]["PlanSha256"],
            "Reason": "looked at it",
        });
        self.world.operate(answer).await;
    }

    async fn undo(&self, id: &str) {
        let request = Uuid::new_v4().to_string();
        let asked = json!({ "Operation": "Undo", "RemediationId": id, "Reason": "a test asks", "RequestId": request });
        self.world.operate(asked).await;
        let undo = RemediationId::of_request(&self.key(), &request).to_string();
        self.comes_to(&undo, "RolledBack").await;
    }

    /// The id of the copies' own remediation, which the ledger has before the change.
    async fn copied(&self, id: &str) -> Value {
        let copier = snapshot_id(&self.key(), id.parse().unwrap()).to_string();
        let made = self.comes_to(&copier, "Applied").await;
        let applied = self.comes_to(id, "Claimed").await;
        assert!(made["Timestamp"].as_i64() < applied["Timestamp"].as_i64(), "before the change");
        made["Detail"]["Made"].clone()
    }

    /// The modes of the control runbook's runs about it, in order.
    fn modes(&self) -> Vec<String> {
        let executions = self.world.bed.ssm.executions();
        let of_it = executions.iter().filter(|one| {
            one.document == names::CONTROL_DOCUMENT
                && one.parameters.get("ResourceArn").is_some_and(|given| given[0] == self.arn)
        });
        of_it.map(|one| one.parameters["Mode"][0].clone()).collect()
    }

    fn nothing_was_denied(&self) {
        let refused = self.world.denied().into_iter().filter(|call| call.account == self.account);
        assert_eq!(refused.map(|call| format!("{call:?}")).collect::<Vec<_>>(), [""; 0]);
    }
}

/// Without what must differ: which one it is, whether it is encrypted, and the marks of what Redress made.
fn alike(database: &Value) -> Value {
    let mut database = database.clone();
    for field in ["DbiResourceId", "StorageEncrypted"] {
        database[field] = Value::Null;
    }
    // The endpoint's name follows from the database's.
    database["Endpoint"]["Address"] = Value::Null;
    let tags = database["TagList"].as_array().unwrap().iter();
    database["TagList"] = tags.filter(|tag| !tag["Key"].as_str().unwrap().starts_with("redress:")).cloned().collect();
    database
}

#[test]
fn rds_3_is_copied_beside_the_old_one_swapped_and_verified_and_its_undo_swaps_back() {
    all().run(async {
        let thing = Thing::database(the_world().await, "whole", 0).await;
        let before = thing.databases().await;
        let id = thing.asks().await;
        thing.is_approved(&id).await;
        thing.comes_to(&id, "Verified").await;
        assert_eq!(thing.modes(), ["DryRun", "Snapshot", "Apply"]);

        let after = thing.databases().await;
        let [(name, new), (kept, old)] = after.as_slice() else { panic!("{after:#?}") };
        assert_eq!((name.as_str(), kept.as_str()), ("orders", "orders-unencrypted"));
        assert_eq!((&new["StorageEncrypted"], &old["StorageEncrypted"]), (&json!(true), &json!(false)));
        assert_eq!((&old["DbiResourceId"], alike(new)), (&before[0].1["DbiResourceId"], alike(&before[0].1)));
        assert_eq!(alike(old), alike(&before[0].1), "the old one is kept as it was");
        let snapshots = thing.snapshots("DBSnapshots").await;
        assert_eq!(snapshots.len(), 1, "the copy; what only led to it is gone: {snapshots:#?}");
        assert_eq!(snapshots[0]["Encrypted"], true);
        assert_eq!(thing.copied(&id).await, snapshots[0]["DBSnapshotIdentifier"]);

        thing.undo(&id).await;
        let back = thing.databases().await;
        assert_eq!(back[0], before[0], "field by field");
        assert_eq!(back.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["orders", "orders-encrypted"]);
        thing.nothing_was_denied();
    });
}

#[test]
fn while_clients_are_connected_nothing_is_copied() {
    all().run(async {
        let thing = Thing::database(the_world().await, "used", 3).await;
        let before = thing.databases().await;
        let id = thing.asks().await;
        thing.is_approved(&id).await;
        let copier = snapshot_id(&thing.key(), id.parse().unwrap()).to_string();
        thing.comes_to(&copier, "Failed").await;
        thing.comes_to(&id, "Failed").await;
        assert_eq!(thing.modes(), ["DryRun", "Snapshot"]);
        assert_eq!((thing.databases().await, thing.snapshots("DBSnapshots").await.len()), (before, 0));
    });
}

#[test]
fn a_swap_that_fails_between_the_two_names_is_put_back() {
    all().run(async {
        let thing = Thing::database(the_world().await, "half", 0).await;
        let before = thing.databases().await;
        // The settings of the new one, the old one's name, and then the new one's.
        let refused = Action::Fail { status: 400, code: "InvalidParameterValue".to_owned() };
        let third = Rule::new(refused).on("rds", "ModifyDBInstance").by("redress-remediate");
        thing.world.bed.lab.faults().add(third.in_account(&thing.account).nth(3));
        let id = thing.asks().await;
        thing.is_approved(&id).await;
        thing.comes_to(&id, "Failed").await;
        let is_back =
            |record: &Value| record["RemediationId"] == id.as_str() && record["ExecutionStatus"] == "RolledBack";
        thing.world.ledger_when(&thing.account, "it is put back", is_back).await;
        assert_eq!(thing.modes(), ["DryRun", "Snapshot", "Apply", "Restore"]);
        let back = thing.databases().await;
        assert_eq!(back.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["orders", "orders-encrypted"]);
        assert_eq!(back[0], before[0], "field by field");
    });
}

#[test]
fn rds_4_gets_an_encrypted_copy_and_keeps_the_original_and_its_undo_deletes_the_copy() {
    all().run(async {
        let world = the_world().await;
        let one = Thing::new(world, "snapshots", "RDS.4", "snapshot:daily");
        let tags = json!([{ "Key": "Team", "Value": "orders" }]);
        let database = json!({
            "DBInstanceIdentifier": "orders", "DBInstanceClass": "db.m6g.large", "Engine": "postgres", "AllocatedStorage": 20,
            "MasterUsername": "owner", "MasterUserPassword": "not-a-secret-1", "StorageEncrypted": false,
        });
        one.rds("CreateDBInstance", database).await;
        let made = json!({ "DBInstanceIdentifier": "orders", "DBSnapshotIdentifier": "daily", "Tags": tags });
        one.rds("CreateDBSnapshot", made).await;
        let of_cluster = Thing::new(world, "snapshots", "RDS.4", "cluster-snapshot:weekly");
        let cluster = json!({
            "DBClusterIdentifier": "shop", "Engine": "aurora-postgresql", "MasterUsername": "owner",
            "MasterUserPassword": "not-a-secret-1", "StorageEncrypted": false,
        });
        one.rds("CreateDBCluster", cluster).await;
        let made = json!({ "DBClusterIdentifier": "shop", "DBClusterSnapshotIdentifier": "weekly", "Tags": tags });
        one.rds("CreateDBClusterSnapshot", made).await;

        for (thing, list, name, encrypted) in [
            (&one, "DBSnapshots", "DBSnapshotIdentifier", "Encrypted"),
            (&of_cluster, "DBClusterSnapshots", "DBClusterSnapshotIdentifier", "StorageEncrypted"),
        ] {
            let before = thing.snapshots(list).await;
            let id = thing.asks().await;
            thing.is_approved(&id).await;
            thing.comes_to(&id, "Verified").await;
            assert_eq!(thing.modes(), ["DryRun", "Snapshot", "Apply"]);
            let after = thing.snapshots(list).await;
            let [original, copy] = after.as_slice() else { panic!("{after:#?}") };
            assert_eq!(original, &before[0], "the original stays as it is");
            assert_eq!(copy[encrypted], true);
            assert_eq!(copy["AllocatedStorage"], original["AllocatedStorage"]);
            let tags = copy["TagList"].as_array().unwrap();
            assert!(tags.contains(&json!({ "Key": "Team", "Value": "orders" })), "{tags:?}");
            assert!(tags.contains(&json!({ "Key": "redress:copy-of", "Value": thing.arn })), "{tags:?}");
            assert_eq!(thing.copied(&id).await, copy[name]);

            thing.undo(&id).await;
            assert_eq!(thing.snapshots(list).await, before);
        }
        one.nothing_was_denied();
    });
}
