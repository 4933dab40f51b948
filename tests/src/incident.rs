//! Compromised resources, what GuardDuty says of them, and what containing one cost: for the tests of containment and for
//! its measurement (`benches/containment.rs`).
//!
//! It makes resources and reads the lab's record. It decides nothing, and knows no playbook's answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use redress_common::names;
use redress_lab::record::Call;
use redress_lab::services::eks::Seen;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ask::{Ended, Target};
use crate::grants::role_of;
use crate::raw::guardduty_event;
use crate::world::World;

/// The security group of what is contained.
pub const QUARANTINE: &str = "redress-quarantine";

/// What Lambda calls in a function's name.
const POLLS: [&str; 3] = ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes"];

/// A call as an account's administrator that must succeed.
pub async fn call(world: &World, account: &str, service: &str, operation: &str, parameters: Value) -> Value {
    world.call(account, service, operation, parameters).await.unwrap_or_else(|error| panic!("{operation}: {error}"))
}

/// An instance with a second interface, a role and tags.
pub async fn instance(world: &World, account: &str, tags: Value) -> Target {
    let target = lone_instance(world, account, tags).await;
    let id = name(&target);
    let ec2 = async |operation: &str, asked: Value| call(world, account, "ec2", operation, asked).await;
    let told =
        ec2("DescribeInstances", json!({ "InstanceIds": [id] })).await["Reservations"][0]["Instances"][0].clone();
    let group = told["SecurityGroups"][0]["GroupId"].clone();
    let second = json!({ "SubnetId": told["SubnetId"], "Groups": [group] });
    let second = ec2("CreateNetworkInterface", second).await["NetworkInterface"]["NetworkInterfaceId"].clone();
    ec2("AttachNetworkInterface", json!({ "InstanceId": id, "NetworkInterfaceId": second, "DeviceIndex": 1 })).await;
    target
}

/// An instance with one interface, a role and tags.
pub async fn lone_instance(world: &World, account: &str, tags: Value) -> Target {
    let ec2 = async |operation: &str, asked: Value| call(world, account, "ec2", operation, asked).await;
    let profile = unique("web");
    let iam = async |operation: &str, asked: Value| call(world, account, "iam", operation, asked).await;
    let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
    iam("CreateRole", json!({ "RoleName": profile, "AssumeRolePolicyDocument": trust })).await;
    iam("CreateInstanceProfile", json!({ "InstanceProfileName": profile })).await;
    iam("AddRoleToInstanceProfile", json!({ "InstanceProfileName": profile, "RoleName": profile })).await;

    let subnets = ec2("DescribeSubnets", json!({})).await;
    let subnet = subnets["Subnets"][0].clone();
    let group = json!({ "GroupName": profile, "Description": "web", "VpcId": subnet["VpcId"] });
    let group = ec2("CreateSecurityGroup", group).await["GroupId"].clone();
    let images = ec2("DescribeImages", json!({ "Owners": ["amazon"] })).await;
    let run = json!({
        "ImageId": images["Images"][0]["ImageId"], "MinCount": 1, "MaxCount": 1, "SubnetId": subnet["SubnetId"],
        "SecurityGroupIds": [group],
        "MetadataOptions": { "HttpTokens": "optional", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled" },
    });
    let ran = ec2("RunInstances", run).await;
    let id = ran["Instances"][0]["InstanceId"].as_str().unwrap().to_owned();
    ec2("AssociateIamInstanceProfile", json!({ "InstanceId": id, "IamInstanceProfile": { "Name": profile } })).await;
    if tags != json!([]) {
        ec2("CreateTags", json!({ "Resources": [id], "Tags": tags })).await;
    }
    Target {
        account: account.to_owned(),
        control: "Contain.EC2Instance".to_owned(),
        arn: format!("arn:aws:ec2:{}:{account}:instance/{id}", world.region()),
    }
}

/// A bucket with no public access block.
pub async fn bucket(world: &World, account: &str) -> Target {
    let bucket = unique("leaks");
    call(world, account, "s3", "CreateBucket", json!({ "Bucket": bucket })).await;
    drop(world.call(account, "s3", "DeletePublicAccessBlock", json!({ "Bucket": bucket })).await);
    Target {
        account: account.to_owned(),
        control: "Contain.S3Bucket".to_owned(),
        arn: format!("arn:aws:s3:::{bucket}"),
    }
}

/// A user.
pub async fn user(world: &World, account: &str) -> Target {
    let who = unique("intruder");
    call(world, account, "iam", "CreateUser", json!({ "UserName": who })).await;
    let arn = format!("arn:aws:iam::{account}:user/{who}");
    Target { account: account.to_owned(), control: "Contain.IAMUser".to_owned(), arn }
}

/// A role.
pub async fn role(world: &World, account: &str) -> Target {
    let who = unique("intruder");
    let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
    call(world, account, "iam", "CreateRole", json!({ "RoleName": who, "AssumeRolePolicyDocument": trust })).await;
    let arn = format!("arn:aws:iam::{account}:role/{who}");
    Target { account: account.to_owned(), control: "Contain.IAMRole".to_owned(), arn }
}

/// A function with a role of its own.
pub async fn function(world: &World, account: &str) -> Target {
    let who = unique("resize");
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole",
    }] });
    let role = json!({ "RoleName": who, "AssumeRolePolicyDocument": trust.to_string() });
    let role = call(world, account, "iam", "CreateRole", role).await["Role"]["Arn"].clone();
    let made = json!({
        "FunctionName": who, "Runtime": "provided.al2023", "Handler": "bootstrap", "Role": role,
        "Code": { "ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==" },
    });
    let made = call(world, account, "lambda", "CreateFunction", made).await;
    let arn = made["FunctionArn"].as_str().unwrap().to_owned();
    Target { account: account.to_owned(), control: "Contain.LambdaFunction".to_owned(), arn }
}

/// A database with a public address and a group of its own.
pub async fn database(world: &World, account: &str) -> Target {
    let who = unique("orders");
    let subnets = call(world, account, "ec2", "DescribeSubnets", json!({})).await;
    let vpc = subnets["Subnets"][0]["VpcId"].clone();
    let ids: Vec<&Value> = subnets["Subnets"].as_array().unwrap().iter().map(|one| &one["SubnetId"]).collect();
    let rds = async |operation: &str, asked: Value| call(world, account, "rds", operation, asked).await;
    let places = json!({ "DBSubnetGroupName": who, "DBSubnetGroupDescription": "d", "SubnetIds": ids });
    rds("CreateDBSubnetGroup", places).await;
    let group = json!({ "GroupName": who, "Description": "db", "VpcId": vpc });
    let group = call(world, account, "ec2", "CreateSecurityGroup", group).await["GroupId"].clone();
    let made = json!({
        "DBInstanceIdentifier": who, "DBInstanceClass": "db.t3.micro", "Engine": "postgres", "AllocatedStorage": 20,
        "MasterUsername": "owner", "MasterUserPassword": "not-a-secret-1", "PubliclyAccessible": true,
        "DBSubnetGroupName": who, "VpcSecurityGroupIds": [group],
    });
    let made = rds("CreateDBInstance", made).await["DBInstance"].clone();
    let arn = made["DBInstanceArn"].as_str().unwrap().to_owned();
    Target { account: account.to_owned(), control: "Contain.RDSInstance".to_owned(), arn }
}

fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::new_v4().simple())
}

/// The last part of the ARN.
#[must_use]
pub fn name(target: &Target) -> &str {
    target.arn.rsplit(['/', ':']).next().unwrap()
}

/// What AWS says of an instance, as far as containment touches it.
pub async fn state(world: &World, target: &Target) -> Value {
    let id = name(target);
    let ec2 = async |operation: &str, asked: Value| call(world, &target.account, "ec2", operation, asked).await;
    let told =
        ec2("DescribeInstances", json!({ "InstanceIds": [id] })).await["Reservations"][0]["Instances"][0].clone();
    let asked = json!({ "InstanceId": id, "Attribute": "disableApiTermination" });
    let protected = ec2("DescribeInstanceAttribute", asked).await["DisableApiTermination"]["Value"].clone();
    let groups: BTreeMap<String, BTreeSet<String>> = told["NetworkInterfaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let groups = one["Groups"].as_array().unwrap().iter();
            let names = groups.map(|group| group["GroupName"].as_str().unwrap().to_owned()).collect();
            (one["NetworkInterfaceId"].as_str().unwrap().to_owned(), names)
        })
        .collect();
    let tags: BTreeMap<&str, &Value> = told["Tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tag| Some((tag["Key"].as_str()?, &tag["Value"])))
        .collect();
    json!({
        "Groups": groups, "Protected": protected, "State": told["State"]["Name"], "Tags": tags,
        "HttpTokens": told["MetadataOptions"]["HttpTokens"],
        "HopLimit": told["MetadataOptions"]["HttpPutResponseHopLimit"],
    })
}

/// Whether each interface of an instance is in the quarantine, and in nothing else.
#[must_use]
pub fn is_isolated(state: &Value) -> bool {
    state["Groups"].as_object().unwrap().values().all(|groups| *groups == json!([QUARANTINE]))
}

/// GuardDuty's event of a finding.
#[must_use]
pub fn finding(world: &World, target: &Target, kind: &str, severity: f64) -> Value {
    guardduty_event(&target.account, world.region(), &target.arn, (kind, severity), Timestamp::now())
}

/// A finding about the principal behind an access key: all that GuardDuty tells of it is its name and kind.
#[must_use]
pub fn of_principal(world: &World, target: &Target, kind: &str, user_type: &str) -> Value {
    let mut event = finding(world, target, kind, 8.0);
    event["detail"]["resource"] = json!({ "resourceType": "AccessKey", "accessKeyDetails": {
        "accessKeyId": "ASIAEXAMPLEEXAMPLE00", "principalId": "AIDAEXAMPLE", "userName": name(target), "userType": user_type,
    } });
    event
}

/// The same finding as GuardDuty updates it.
#[must_use]
pub fn updated(finding: &Value) -> Value {
    let mut later = finding.clone();
    later["detail"]["updatedAt"] = json!(Timestamp::now());
    later["detail"]["service"]["count"] = json!(2);
    later["id"] = json!(Uuid::new_v4().to_string());
    later
}

/// The remediation of a resource, once one has come to this status.
pub async fn done(world: &World, target: &Target, status: &str) -> Ended {
    let records = world.comes_to(&target.account, &target.arn, status).await;
    let id = World::id_of(&records, status);
    Ended { records: records.into_iter().filter(|record| record["RemediationId"] == id).collect(), id }
}

/// Calls by a role since a mark, in order.
#[must_use]
pub fn calls_of(world: &World, role: &str, mark: u64) -> Vec<Call> {
    let calls = world.bed.lab.record().calls_since(mark).into_iter();
    calls
        .filter(|call| call.service != "logs" && role_of(&call.principal).is_some_and(|(_, own)| own == role))
        .collect()
}

/// What it cost to contain one resource.
#[derive(Debug)]
pub struct Cost {
    /// From the message's coming into the queue to the answer of the call that isolates.
    pub since_event: Option<Duration>,
    /// From the orchestrator's first call to that.
    pub since_call: Duration,
    /// The playbook's calls, in order.
    pub calls: Vec<Call>,
    /// How many of them there were until then.
    pub until: usize,
    /// Calls of the administrator account until then.
    pub admin: usize,
    /// Reads of the member's guard.
    pub guard: usize,
}

impl Cost {
    /// Of what was done since a mark by the playbooks of a family; `last` is the operation that isolates.
    #[must_use]
    pub fn of(world: &World, family: &str, mark: u64, last: &str) -> Self {
        let calls = calls_of(world, &names::contain_role(family), mark);
        let until = calls.iter().rposition(|call| call.operation == last).expect("the call that isolates") + 1;
        let (begun, contained) = (calls[until - 1].at, answered(&calls[until - 1]));
        Self::measured(world, mark, calls, until, (begun, contained))
    }

    /// The same, where a request to a cluster's API isolates: that is no call of AWS, and none of those here.
    #[must_use]
    pub fn of_request(world: &World, family: &str, mark: u64, isolates: &Seen) -> Self {
        let calls = calls_of(world, &names::contain_role(family), mark);
        let until = calls.iter().filter(|call| call.at <= isolates.at).count();
        Self::measured(world, mark, calls, until, (isolates.at, after(isolates.at, isolates.micros)))
    }

    fn measured(
        world: &World,
        mark: u64,
        calls: Vec<Call>,
        until: usize,
        (begun, contained): (Timestamp, Timestamp),
    ) -> Self {
        let ours = [names::ORCHESTRATOR_ROLE, names::CROSS_ACCOUNT_ROLE];
        let ours: Vec<Call> = ours.iter().flat_map(|role| calls_of(world, role, mark)).collect();
        let ours: Vec<&Call> =
            ours.iter().filter(|call| call.at <= begun && !POLLS.contains(&call.operation.as_str())).collect();
        let first = ours.iter().map(|call| call.at).min().expect("the orchestrator's first call");
        Self {
            since_event: sent(world, mark).map(|at| between(at, contained)),
            since_call: between(first, contained),
            admin: ours.len(),
            guard: calls_of(world, names::GUARD_ROLE, mark).len(),
            calls,
            until,
        }
    }
}

/// When the first message since a mark came into a queue: in a test, the one that it sent.
#[must_use]
pub fn sent(world: &World, mark: u64) -> Option<Timestamp> {
    let calls = world.bed.lab.record().calls_since(mark);
    calls.iter().find(|call| call.service == "sqs" && call.operation == "SendMessage").map(|call| call.at)
}

/// When a call had its answer.
#[must_use]
pub fn answered(call: &Call) -> Timestamp {
    after(call.at, call.micros)
}

fn after(at: Timestamp, micros: u64) -> Timestamp {
    at.checked_add(Duration::from_micros(micros)).unwrap_or(at)
}

/// How long it is from one moment to a later one.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// What containment cost, said: the calls until `last` was made, and the time from the first call of the orchestrator to that.
#[must_use]
pub fn cost(world: &World, what: &str, family: &str, mark: u64, last: &str) -> (String, Cost) {
    let cost = Cost::of(world, family, mark, last);
    let Cost { until, admin, guard, .. } = cost;
    let all = cost.calls.len();
    let said = format!(
        "{what}: contained after {until} calls of the playbook ({all} in all), {admin} of the administrator account, {guard} \
         reads of the guard; {} ms\n  {}",
        cost.since_call.as_millis(),
        cost.calls.iter().map(|call| call.operation.as_str()).collect::<Vec<_>>().join(" ")
    );
    (said, cost)
}
