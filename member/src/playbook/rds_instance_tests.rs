//! RDS's and EC2's answers as they give them, and a database as a value to which planned calls are applied.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::testing::{FakeAws, request};

const INSTANCE: &str = "arn:aws:rds:eu-central-1:111122223333:db:orders";

fn native(aws: &FakeAws) -> ContainInstance {
    let config = aws.config();
    let request = request(DECLARED.name, INSTANCE, json!({}));
    ContainInstance::new(Wire::new(config.clone()), aws_sdk_ec2::Client::new(&config), &request)
}

fn memberships(groups: &[(&str, &str)]) -> String {
    let one = |(id, status): &(&str, &str)| {
        format!(
            "<VpcSecurityGroupMembership><VpcSecurityGroupId>{id}</VpcSecurityGroupId><Status>{status}</Status>\
             </VpcSecurityGroupMembership>"
        )
    };
    groups.iter().map(one).collect()
}

/// RDS tells of an instance.
fn instance(
    aws: &FakeAws,
    status: &str,
    groups: &[(&str, &str)],
    public: bool,
    protected: bool,
    cluster: Option<&str>,
) {
    let engine = if cluster.is_some() { "aurora-postgresql" } else { "postgres" };
    let cluster = cluster.map(|id| format!("<DBClusterIdentifier>{id}</DBClusterIdentifier>")).unwrap_or_default();
    aws.answer(
        "DescribeDBInstances",
        200,
        &format!(
            "<DescribeDBInstancesResponse><DescribeDBInstancesResult><DBInstances><DBInstance>\
             <DBInstanceIdentifier>orders</DBInstanceIdentifier><Engine>{engine}</Engine>{cluster}\
             <DBInstanceStatus>{status}</DBInstanceStatus><PubliclyAccessible>{public}</PubliclyAccessible>\
             <DeletionProtection>{protected}</DeletionProtection><VpcSecurityGroups>{}</VpcSecurityGroups>\
             <DBSubnetGroup><VpcId>vpc-1</VpcId></DBSubnetGroup></DBInstance></DBInstances></DescribeDBInstancesResult>\
             </DescribeDBInstancesResponse>",
            memberships(groups)
        ),
    );
}

/// EC2 tells of group `redress-quarantine`.
fn group(aws: &FakeAws, found: Option<(&str, &str)>) {
    let item = found.map(|(id, egress)| {
        format!(
            "<item><groupId>{id}</groupId><groupName>redress-quarantine</groupName><vpcId>vpc-1</vpcId><ipPermissions/>\
             <groupDescription>Made by Redress: no rules, for resources that are contained</groupDescription>\
             <ipPermissionsEgress>{egress}</ipPermissionsEgress></item>"
        )
    });
    let items = item.unwrap_or_default();
    aws.answer(
        "DescribeSecurityGroups",
        200,
        &format!(
            "<DescribeSecurityGroupsResponse><securityGroupInfo>{items}</securityGroupInfo></DescribeSecurityGroupsResponse>"
        ),
    );
}

const ALL_OUT: &str =
    "<item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>";
const HTTPS_OUT: &str = "<item><ipProtocol>tcp</ipProtocol><fromPort>443</fromPort><toPort>443</toPort></item>";
const QUARANTINE: (&str, &str) = ("sg-9", "");

fn said(change: &Change) -> Vec<&str> {
    change.0.iter().map(|call| call.operation.as_str()).collect()
}

/// What RDS does with the calls. The group is `sg-9`.
fn applied(image: &Image, change: &Change) -> Image {
    let mut image = image.clone();
    for call in &change.0 {
        let given = &call.parameters;
        if let Some(groups) = given.get("VpcSecurityGroupIds") {
            image.state["Groups"] = if *groups == json!([GROUP]) { json!(["sg-9"]) } else { groups.clone() };
        }
        for name in ["PubliclyAccessible", "DeletionProtection"] {
            if let Some(value) = given.get(name) {
                image.state[name] = value.clone();
            }
        }
    }
    image
}

fn body(aws: &FakeAws, name: &str) -> String {
    let seen = aws.seen();
    let last = seen.iter().rev().find(|seen| seen.name == name).unwrap();
    String::from_utf8(last.body.clone()).unwrap()
}

#[tokio::test]
async fn a_database_is_isolated_then_protected_then_copied() {
    let aws = FakeAws::default();
    instance(&aws, "available", &[("sg-2", "active"), ("sg-1", "active")], true, false, None);
    group(&aws, None);
    let native = native(&aws);
    let before = native.inspect().await.unwrap().unwrap();
    let groups = json!(["sg-1", "sg-2"]);
    assert_eq!(
        before.state,
        json!({ "Engine": "postgres", "Vpc": "vpc-1", "Cluster": null, "Groups": groups,
            "PubliclyAccessible": true, "DeletionProtection": false })
    );
    let change = native.plan(&before).unwrap();
    let wanted = ["CreateSecurityGroup", "RevokeSecurityGroupEgress", "ModifyDBInstance", "CreateDBSnapshot"];
    assert_eq!(said(&change), wanted);
    let modify = json!({ "DBInstanceIdentifier": "orders", "VpcSecurityGroupIds": [GROUP],
        "PubliclyAccessible": false, "DeletionProtection": true });
    assert_eq!(change.0[2].parameters, modify, "`ApplyImmediately` would apply what waits for the maintenance window");
    assert!(!native.may_fail(&change.0[2]) && native.may_fail(&change.0[3]));

    // The group is made, and what AWS lets out of a new one is taken back. The instance's VPC is known.
    aws.answer(
        "CreateSecurityGroup",
        200,
        "<CreateSecurityGroupResponse><groupId>sg-9</groupId></CreateSecurityGroupResponse>",
    );
    native.call(&change.0[0]).await.unwrap();
    assert!(body(&aws, "CreateSecurityGroup").contains("VpcId=vpc-1"));
    group(&aws, Some(("sg-9", ALL_OUT)));
    aws.answer(
        "RevokeSecurityGroupEgress",
        200,
        "<RevokeSecurityGroupEgressResponse><return>true</return></RevokeSecurityGroupEgressResponse>",
    );
    native.call(&change.0[1]).await.unwrap();
    assert!(body(&aws, "RevokeSecurityGroupEgress").contains("IpProtocol=-1"));

    // RDS is at something else first, then does it, and takes its time. That the group isolates is looked at before.
    group(&aws, Some(QUARANTINE));
    let busy = "<ErrorResponse><Error><Code>InvalidDBInstanceState</Code></Error></ErrorResponse>";
    aws.answer("ModifyDBInstance", 400, busy);
    instance(&aws, "backing-up", &[("sg-1", "active")], true, false, None);
    aws.answer("ModifyDBInstance", 200, "<ModifyDBInstanceResponse/>");
    instance(&aws, "modifying", &[("sg-1", "removing"), ("sg-9", "adding")], true, true, None);
    instance(&aws, "available", &[("sg-9", "active")], false, true, None);
    native.call(&change.0[2]).await.unwrap();
    let sent = body(&aws, "ModifyDBInstance");
    assert!(sent.contains("VpcSecurityGroupIds.VpcSecurityGroupId.1=sg-9"), "{sent}");
    assert!(sent.contains("PubliclyAccessible=false") && !sent.contains("ApplyImmediately"), "{sent}");
    assert_eq!(aws.seen().iter().filter(|seen| seen.name == "ModifyDBInstance").count(), 2, "asked for once");
    let seen: Vec<String> = aws.seen().into_iter().map(|seen| seen.name).collect();
    let isolated = seen.iter().position(|name| name == "ModifyDBInstance");
    assert_eq!(isolated, Some(6), "one look, the group's three calls, one look at its rules: {seen:?}");

    aws.answer("CreateDBSnapshot", 400, busy);
    aws.answer("CreateDBSnapshot", 200, "<CreateDBSnapshotResponse/>");
    native.call(&change.0[3]).await.unwrap();
    assert!(body(&aws, "CreateDBSnapshot").contains("DBSnapshotIdentifier=redress-"));

    let undo = native.plan_restore(&applied(&before, &change), &before).unwrap();
    assert_eq!(said(&undo), ["ModifyDBInstance"]);
    let wanted = json!({ "DBInstanceIdentifier": "orders", "VpcSecurityGroupIds": ["sg-1", "sg-2"],
        "PubliclyAccessible": true, "DeletionProtection": false });
    assert_eq!(undo.0[0].parameters, wanted);
}

#[tokio::test]
async fn of_an_aurora_instance_the_whole_cluster_is_isolated() {
    let aws = FakeAws::default();
    instance(&aws, "available", &[("sg-1", "active")], true, false, Some("orders-cluster"));
    aws.answer(
        "DescribeDBClusters",
        200,
        &format!(
            "<DescribeDBClustersResponse><DescribeDBClustersResult><DBClusters><DBCluster>\
             <DBClusterIdentifier>orders-cluster</DBClusterIdentifier><DeletionProtection>true</DeletionProtection>\
             <VpcSecurityGroups>{}</VpcSecurityGroups></DBCluster></DBClusters></DescribeDBClustersResult>\
             </DescribeDBClustersResponse>",
            memberships(&[("sg-5", "active")])
        ),
    );
    group(&aws, Some(QUARANTINE));
    let native = native(&aws);
    let before = native.inspect().await.unwrap().unwrap();
    assert_eq!(before.state["Groups"], json!(["sg-5"]), "the cluster's count");
    let change = native.plan(&before).unwrap();
    assert_eq!(said(&change), ["ModifyDBCluster", "ModifyDBInstance", "CreateDBClusterSnapshot"]);
    assert_eq!(
        change.0[0].parameters,
        json!({ "DBClusterIdentifier": "orders-cluster", "VpcSecurityGroupIds": ["sg-9"] }),
        "it is protected already"
    );
    assert_eq!(change.0[1].parameters, json!({ "DBInstanceIdentifier": "orders", "PubliclyAccessible": false }));
    assert!(native.may_fail(&change.0[2]));
}

#[tokio::test]
async fn a_failing_snapshot_is_told_and_a_lasting_wait_goes_on_later() {
    let aws = FakeAws::default();
    let mut native = native(&aws);
    let call =
        |operation: &str, parameters| Call { service: "rds".to_owned(), operation: operation.to_owned(), parameters };
    let quota = "<ErrorResponse><Error><Code>SnapshotQuotaExceeded</Code></Error></ErrorResponse>";
    aws.answer("CreateDBSnapshot", 400, quota);
    let snapshot =
        call("CreateDBSnapshot", json!({ "DBInstanceIdentifier": "orders", "DBSnapshotIdentifier": "redress-1" }));
    assert!(matches!(native.call(&snapshot).await, Err(NativeError::Aws(_))));
    let there = "<ErrorResponse><Error><Code>DBSnapshotAlreadyExists</Code></Error></ErrorResponse>";
    aws.answer("CreateDBSnapshot", 400, there);
    native.call(&snapshot).await.unwrap();

    aws.answer("ModifyDBInstance", 200, "<ModifyDBInstanceResponse/>");
    native.until = Instant::now();
    instance(&aws, "modifying", &[("sg-1", "active")], true, false, None);
    let modify = call("ModifyDBInstance", json!({ "DBInstanceIdentifier": "orders", "PubliclyAccessible": false }));
    assert!(matches!(native.call(&modify).await, Err(NativeError::Underway(_))));
}

#[tokio::test]
async fn a_stopped_database_and_a_group_that_isolates_nothing_are_told() {
    let aws = FakeAws::default();
    instance(&aws, "stopped", &[("sg-1", "active")], false, false, None);
    group(&aws, None);
    let native = native(&aws);
    let before = native.inspect().await.unwrap().unwrap();
    assert!(matches!(native.plan(&before), Err(NativeError::NotNow(_))));

    instance(&aws, "available", &[("sg-1", "active")], false, false, None);
    group(&aws, Some(("sg-9", HTTPS_OUT)));
    native.inspect().await.unwrap();
    assert!(matches!(native.plan(&before), Err(NativeError::Refused(_))));

    // A run that made the group was cut off before it closed it.
    instance(&aws, "available", &[("sg-1", "active")], false, false, None);
    group(&aws, Some(("sg-9", ALL_OUT)));
    native.inspect().await.unwrap();
    assert_eq!(
        said(&native.plan(&before).unwrap()),
        ["RevokeSecurityGroupEgress", "ModifyDBInstance", "CreateDBSnapshot"]
    );

    group(&aws, None);
    aws.answer(
        "DescribeDBInstances",
        404,
        "<ErrorResponse><Error><Code>DBInstanceNotFound</Code></Error></ErrorResponse>",
    );
    assert_eq!(native.inspect().await.unwrap(), None);
}

fn seen(group: Option<Group>) -> ContainInstance {
    let native = native(&FakeAws::default());
    *native.last.lock().unwrap() = Look { state: None, status: "available".to_owned(), quarantine: group };
    native
}

fn quarantined() -> ContainInstance {
    seen(Some(Group::closed("sg-9")))
}

#[test]
fn a_run_that_was_cut_off_goes_on_and_one_that_somebody_disturbed_does_not() {
    let image = |groups: Value, public: bool, protected: bool| Image {
        present: true,
        state: json!({ "Engine": "aurora-mysql", "Vpc": "vpc-1", "Cluster": "c", "Groups": groups,
            "PubliclyAccessible": public, "DeletionProtection": protected }),
    };
    let before = image(json!(["sg-1"]), true, false);
    let native = quarantined();
    assert!(native.half_way(&image(json!(["sg-9"]), true, true), &before));
    assert!(native.half_way(&image(json!(["sg-1"]), false, false), &before));
    assert!(!native.half_way(&image(json!(["sg-2"]), true, false), &before));
    assert!(!native.half_way(&image(json!(["sg-1"]), true, false), &image(json!(["sg-1"]), false, false)));
}

fn any_image() -> impl Strategy<Value = Image> {
    let groups = proptest::collection::btree_set("sg-[1-9]", 1..4);
    let engine =
        prop_oneof![Just(("postgres", None::<&str>)), Just(("aurora-mysql", Some("c"))), Just(("mysql", Some("c")))];
    (groups, engine, any::<bool>(), any::<bool>()).prop_map(|(groups, (engine, cluster), public, protected)| Image {
        present: true,
        state: json!({ "Engine": engine, "Vpc": "vpc-1", "Cluster": cluster, "Groups": groups,
            "PubliclyAccessible": public, "DeletionProtection": protected }),
    })
}

proptest! {
    #[test]
    fn defect_19_contained_twice_is_once_and_let_go_has_its_groups_again(before in any_image(), made in any::<bool>()) {
        let first = if made { quarantined() } else { seen(None) };
        let after = applied(&before, &first.plan(&before).unwrap());
        // The next look finds the group.
        let native = quarantined();
        prop_assert!(native.compliant(&after), "{after:?}");
        prop_assert_eq!(applied(&after, &native.plan_restore(&after, &before).unwrap()), before);
    }
}

#[tokio::test]
async fn the_group_of_another_vpc_is_not_its_own() {
    let aws = FakeAws::default();
    let native = native(&aws);
    instance(&aws, "available", &[("sg-1", "active")], false, true, None);
    let elsewhere = "<DescribeSecurityGroupsResponse><securityGroupInfo><item><groupId>sg-8</groupId>\
                     <groupName>redress-quarantine</groupName><vpcId>vpc-2</vpcId></item></securityGroupInfo>\
                     </DescribeSecurityGroupsResponse>";
    aws.answer("DescribeSecurityGroups", 200, elsewhere);
    let before = native.inspect().await.unwrap().unwrap();
    let change = native.plan(&before).unwrap();
    assert_eq!(
        said(&change),
        ["CreateSecurityGroup", "RevokeSecurityGroupEgress", "ModifyDBInstance", "CreateDBSnapshot"]
    );
}

/// A run that was cut off after RDS had done it goes on behind it.
#[tokio::test]
async fn what_is_so_already_is_not_asked_for() {
    let aws = FakeAws::default();
    let native = native(&aws);
    instance(&aws, "available", &[("sg-9", "active")], false, true, None);
    group(&aws, Some(QUARANTINE));
    native.inspect().await.unwrap().unwrap();
    let parameters = json!({ "DBInstanceIdentifier": "orders", "VpcSecurityGroupIds": ["sg-9"] });
    let modify = Call { service: "rds".to_owned(), operation: "ModifyDBInstance".to_owned(), parameters };
    native.call(&modify).await.unwrap();
    assert!(aws.seen().iter().all(|seen| seen.name.starts_with("Describe")));
}
