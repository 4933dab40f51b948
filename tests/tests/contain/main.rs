//! Containment end to end: what GuardDuty reports as high is contained at once and once, told, and given back whole.
//!
//! `--nocapture` prints the calls and the milliseconds of each playbook.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use redress_common::contract::{Mode, Outcome};
use redress_common::names;
use redress_lab::faults::{Action, Rule};
use redress_lab::record::Call;
use redress_tests::again::claim_key;
use redress_tests::ask::{Ended, Target};
use redress_tests::grants::{Used, unused};
use redress_tests::inbox::Notifications;
use redress_tests::incident::{
    QUARANTINE, bucket, call, calls_of, cost, database, done, finding, function, instance, is_isolated, name,
    of_principal, role, state, updated, user,
};
use redress_tests::raw::{asff, security_hub_event};
use redress_tests::world::{World, world_of};
use serde_json::{Value, json};
use uuid::Uuid;

mod asked;
mod cases;
mod cluster;
mod custody;
mod destroyed;
mod samples;

/// DESIGN §10, issue 6: calls of the playbook until the instance is isolated.
const BUDGET: usize = 12;

fn the_world() -> &'static World {
    let accounts = [
        "instance",
        "scaled",
        "bucket",
        "people",
        "quiet",
        "asked",
        "broken",
        "killed",
        "function",
        "database",
        "button",
        "cases",
        "cluster",
        "custody",
        "remembered",
        "destroyed",
        "sampled",
    ];
    world_of(&accounts, |control| control.as_str() == "S3.8" || control.family() == names::DESTROY)
}

/// The names of the policies on the role of an instance, which is called like its first group.
async fn policies(world: &World, target: &Target, before: &Value) -> Vec<String> {
    let role = before["Groups"].as_object().unwrap().values().next().unwrap()[0].clone();
    let listed = call(world, &target.account, "iam", "ListRolePolicies", json!({ "RoleName": role })).await;
    listed["PolicyNames"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

async fn snapshots(world: &World, target: &Target, remediation: &str) -> usize {
    let own = json!([{ "Name": "tag:redress:contained", "Values": [remediation] }]);
    let found = call(world, &target.account, "ec2", "DescribeSnapshots", json!({ "Filters": own })).await;
    found["Snapshots"].as_array().unwrap().len()
}

/// One test at a time: what is counted is then its own.
fn in_turn(test: impl AsyncFnOnce(&'static World)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = the_world();
    world.run(test(world));
}

/// Messages whose worker was killed: they are in flight for longer than a test waits.
static LOST: AtomicU64 = AtomicU64::new(0);

async fn quiet(world: &World) {
    let rests = async || world.depth(names::FINDINGS_QUEUE).await == (0, LOST.load(Ordering::Relaxed));
    world.eventually("findings are dealt with", async || rests().await.then_some(())).await;
    world.drained(names::COMPLETIONS_QUEUE).await;
}

/// What containment cost: the calls until `last` was made, and the time from the first call of the orchestrator to that.
fn figures(world: &World, what: &str, family: &str, mark: u64, last: &str) -> (usize, Duration) {
    let (said, cost) = cost(world, what, family, mark, last);
    println!("{said}");
    (cost.until, cost.since_call)
}

/// The actions that a role is granted and did not use.
async fn unused_of(world: &World, account: &str, role: &str, mark: u64) -> Vec<String> {
    let mut all = world.grants(account, |name| name == role).await;
    // What every function does to keep evidence and logs is looked at elsewhere.
    all.retain(|line| line.policy.starts_with("arn:"));
    let used: BTreeSet<Used> = world.checks(mark, true).into_iter().collect();
    unused(&all, &used).iter().map(|line| format!("{} {}", line.action, line.resource)).collect()
}

#[test]
fn an_instance_is_contained_told_and_given_back_as_it_was() {
    in_turn(async |world| {
        let account = world.member("instance");
        let told = Notifications::new();
        told.subscribe(world).await;
        let (first, target) = (instance(world, &account, json!([])).await, instance(world, &account, json!([])).await);
        let mark = world.bed.lab.record().mark();

        // The first in a VPC makes the groups.
        world.send_raw(&finding(world, &first, "CryptoCurrency:EC2/BitcoinTool.B!DNS", 8.0).to_string()).await;
        done(world, &first, "Verified").await;
        quiet(world).await;

        let before = state(world, &target).await;
        let warm = world.bed.lab.record().mark();
        let event = finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0);
        world.send_raw(&event.to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.states(), ["Planned", "Claimed", "Applied", "Verified"]);
        assert_eq!((contained.outcome(), contained.error()), (Outcome::Verified.as_str(), ""));
        let after = state(world, &target).await;
        assert!(is_isolated(&after), "{after:#}");
        assert_eq!(
            (&after["Protected"], &after["HttpTokens"], &after["HopLimit"]),
            (&json!(true), &json!("required"), &json!(1))
        );
        assert_eq!((&after["State"], &after["Tags"]["redress:contained"]), (&before["State"], &json!(contained.id)));
        assert_eq!(policies(world, &target, &before).await, [format!("redress-contained-{}", name(&target))]);
        assert!(snapshots(world, &target, &contained.id).await > 0);
        assert_eq!(told.when(world, &target.arn, "Success").await.len(), 1, "people were told, once");
        let (calls, took) = figures(
            world,
            "EC2 instance with two interfaces and a role",
            "EC2",
            warm,
            "ModifyNetworkInterfaceAttribute",
        );
        // Each further interface costs two.
        assert!(calls <= BUDGET + 2, "{calls} calls");
        assert!(took < Duration::from_secs(30), "{took:?}: a busy machine, but this is not one second");

        // PEERS defect 20: each interface was in the group under which nothing is tracked before it was in the last one.
        let moves = calls_of(world, &names::contain_role("EC2"), warm).into_iter();
        assert_eq!(moves.filter(|call| call.operation == "ModifyNetworkInterfaceAttribute").count(), 4);
        for group in ["redress-quarantine", "redress-untrack"] {
            let named = json!({ "Filters": [{ "Name": "group-name", "Values": [group] }] });
            let found = call(world, &account, "ec2", "DescribeSecurityGroups", named).await["SecurityGroups"].clone();
            assert_eq!((found.as_array().unwrap().len(), &found[0]["IpPermissions"]), (1, &json!([])), "{found:#}");
        }

        // What GuardDuty says of it again is no news: one read, no effect.
        let again = world.bed.lab.record().mark();
        for message in [event.clone(), updated(&event), finding(world, &target, "Trojan:EC2/DropPoint", 8.5)] {
            world.send_raw(&message.to_string()).await;
        }
        quiet(world).await;
        assert!(calls_of(world, &names::contain_role("EC2"), again).is_empty());
        let ours: Vec<Call> = calls_of(world, names::ORCHESTRATOR_ROLE, again);
        let ours = ours.iter().filter(|call| call.service == "dynamodb").map(|call| call.operation.as_str());
        assert!(ours.clone().all(|operation| operation == "BatchGetItem"), "{:?}", ours.collect::<Vec<_>>());

        // PEERS defect 19: an undo knows the groups, and gives back everything.
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.states().last(), undone.error()), (Some(&"RolledBack"), ""));
        assert_eq!(state(world, &target).await, before);
        assert_eq!(policies(world, &target, &before).await, Vec::<String>::new());
        assert!(snapshots(world, &target, &contained.id).await > 0, "evidence stays");
        let (evidence, back) = (world.evidence(&account, &contained).await, world.evidence(&account, &undone).await);
        assert_eq!(Some(evidence.before.pre_image), back.after);

        // A person may ask in spite of the hold; somebody changes it meanwhile, and then nothing is given back.
        let asked = world.remediate(&target, Mode::Apply).await;
        assert_eq!(asked.outcome(), "Verified", "{}", asked.error());
        let options = json!({ "InstanceId": name(&target), "HttpPutResponseHopLimit": 3, "HttpTokens": "required", "HttpEndpoint": "enabled" });
        call(world, &account, "ec2", "ModifyInstanceMetadataOptions", options).await;
        let drifted = world.undo(&target, &asked.id).await;
        assert_eq!(drifted.outcome(), "Drifted");
        assert!(is_isolated(&state(world, &target).await));

        // Rights: none is missing, and those that are not used are for what another test does.
        assert!(world.denied().iter().all(|call| !call.principal.contains("Redress-Contain")), "{:#?}", world.denied());
        let unused = unused_of(world, &account, &names::contain_role("EC2"), mark).await;
        let others = [
            "autoscaling:DescribeAutoScalingInstances",
            "autoscaling:EnterStandby",
            "autoscaling:ExitStandby",
            // AWS judges these calls by each resource that they name; the lab by one of them.
            "ec2:CreateSnapshots",
            "ec2:CreateTags",
            "ec2:ModifyNetworkInterfaceAttribute",
        ];
        assert!(
            unused.iter().all(|line| others.iter().any(|other| line.starts_with(other))),
            "granted and used by nothing: {unused:?}"
        );
        verified(world, &account).await;
    });
}

/// What the guard found that lets anybody outside reach what was contained, as people were told.
fn exposure(contained: &Ended) -> Value {
    let triage = contained.last()["Detail"]["Triage"].as_str().expect("people were told of an incident");
    serde_json::from_str::<Value>(triage).unwrap()["Exposure"].clone()
}

/// The chain of an account holds: each record names the one before.
async fn verified(world: &World, account: &str) {
    let mut records = world.ledger(account).await;
    records.sort_by_key(|record| record["Seq"].as_i64());
    for pair in records.windows(2) {
        assert_eq!(pair[0]["Hash"], pair[1]["PrevHash"], "the chain of {account}");
    }
}

#[test]
fn an_instance_of_a_group_goes_to_standby_and_comes_back() {
    in_turn(async |world| {
        let account = world.member("scaled");
        let images = call(world, &account, "ec2", "DescribeImages", json!({ "Owners": ["amazon"] })).await;
        let subnets = call(world, &account, "ec2", "DescribeSubnets", json!({})).await;
        let named = json!({ "Filters": [{ "Name": "group-name", "Values": ["default"] }] });
        let groups = call(world, &account, "ec2", "DescribeSecurityGroups", named).await;
        let scaling =
            async |operation: &str, asked: Value| call(world, &account, "autoscaling", operation, asked).await;
        let launch = json!({ "LaunchConfigurationName": "web", "ImageId": images["Images"][0]["ImageId"], "InstanceType": "t3.micro", "SecurityGroups": [groups["SecurityGroups"][0]["GroupId"]] });
        scaling("CreateLaunchConfiguration", launch).await;
        let group = json!({
            "AutoScalingGroupName": "web", "LaunchConfigurationName": "web", "MinSize": 1, "MaxSize": 3, "DesiredCapacity": 1,
            "VPCZoneIdentifier": subnets["Subnets"][0]["SubnetId"],
        });
        scaling("CreateAutoScalingGroup", group).await;
        let group = async || {
            scaling("DescribeAutoScalingGroups", json!({ "AutoScalingGroupNames": ["web"] })).await["AutoScalingGroups"]
                [0]
            .clone()
        };
        let id = group().await["Instances"][0]["InstanceId"].as_str().unwrap().to_owned();
        let target = Target {
            account: account.clone(),
            control: "Contain.EC2Instance".to_owned(),
            arn: format!("arn:aws:ec2:{}:{account}:instance/{id}", world.region()),
        };
        let lifecycle = async || {
            let group = group().await;
            let own = group["Instances"].as_array().unwrap().iter().find(|one| one["InstanceId"] == *id).cloned();
            own.map(|one| one["LifecycleState"].clone())
        };
        // The other one that is asked for: a sequence of attacks names what it hit.
        let mut event = finding(world, &target, "AttackSequence:EC2/CompromisedInstanceGroup", 7.5);
        event["detail"]["resource"] = json!({ "resourceType": "AttackSequence" });
        event["detail"]["service"]["detection"] = json!({ "sequence": {
            "uid": "s-1", "description": "d", "signals": [], "resources": [{ "uid": target.arn, "resourceType": "EC2_INSTANCE" }] } });
        world.send_raw(&event.to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.error(), "");
        assert!(is_isolated(&state(world, &target).await));
        assert_eq!(lifecycle().await, Some(json!("Standby")));
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        assert_eq!(lifecycle().await, Some(json!("InService")));
    });
}

#[test]
fn a_bucket_is_contained_and_given_back() {
    in_turn(async |world| {
        let account = world.member("bucket");
        let target = bucket(world, &account).await;
        let bucket = name(&target);
        let s3 = async |operation: &str, mut asked: Value| {
            asked["Bucket"] = json!(bucket);
            world.call(&account, "s3", operation, asked).await
        };
        let read = json!({ "Effect": "Allow", "Principal": { "AWS": account }, "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{bucket}/*") });
        let policy = json!({ "Version": "2012-10-17", "Statement": [read] }).to_string();
        s3("PutBucketPolicy", json!({ "Policy": policy })).await.unwrap();
        let state = async || {
            let block = s3("GetPublicAccessBlock", json!({}))
                .await
                .map(|answer| answer["PublicAccessBlockConfiguration"].clone());
            let versions = s3("GetBucketVersioning", json!({})).await.unwrap()["Status"].clone();
            let policy = s3("GetBucketPolicy", json!({})).await.unwrap()["Policy"].clone();
            (block.ok(), versions == "Enabled", policy)
        };
        let (before, mark) = (state().await, world.bed.lab.record().mark());
        assert_eq!((&before.0, before.1), (&None, false));

        world.send_raw(&finding(world, &target, "Policy:S3/BucketAnonymousAccessGranted", 8.0).to_string()).await;
        let contained = done(world, &target, "Verified").await;
        let after = state().await;
        let whole = json!({ "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": true });
        assert_eq!(after, (Some(whole), true, before.2.clone()));
        quiet(world).await;
        figures(world, "S3 bucket", "Data", mark, "PutPublicAccessBlock");
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        assert_eq!(state().await, before);
        let unused = unused_of(world, &account, &names::contain_role("Data"), mark).await;
        assert!(unused.iter().all(|line| !line.starts_with("s3:")), "granted and used by nothing: {unused:?}");
    });
}

#[test]
fn of_what_is_not_high_people_are_told_and_a_sample_is_a_dry_run() {
    in_turn(async |world| {
        let account = world.member("quiet");
        let target = instance(world, &account, json!([])).await;
        let before = state(world, &target).await;
        let mark = world.bed.lab.record().mark();
        let mut sample = finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0);
        sample["detail"]["service"]["additionalInfo"] = json!({ "value": "{\"sample\":true}", "type": "default" });
        let mut archived = finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0);
        archived["detail"]["service"]["archived"] = json!(true);
        for message in [&sample, &archived, &finding(world, &target, "Recon:EC2/Portscan", 5.0)] {
            world.send_raw(&message.to_string()).await;
        }
        let of_it = |record: &Value| record["ResourceId"] == *target.arn;
        let told = |record: &Value| of_it(record) && record["Detail"]["Code"] == "notify";
        let told = world.ended(&account, "people are told", told).await;
        assert_eq!(told.states().last(), Some(&"Notified"));
        let tried = |record: &Value| of_it(record) && record["Detail"]["Outcome"] == "Planned";
        let tried = world.ended(&account, "the sample is planned", tried).await;
        assert_eq!((&tried.last()["Detail"]["Sample"], tried.outcome()), (&json!("true"), "Planned"));
        assert_eq!(tried.states(), ["Planned", "Claimed", "Notified"]);
        quiet(world).await;
        let ids: BTreeSet<String> =
            world.ledger_about(&target.arn).await.iter().map(|record| record["RemediationId"].to_string()).collect();
        assert_eq!(ids.len(), 2, "what is archived leaves no record");
        assert_eq!(world.changes_since(&account, mark), [""; 0]);
        assert_eq!(state(world, &target).await, before);
        // What a person asks for is done, whatever GuardDuty thinks: first in words, then in fact.
        let planned = world.remediate(&target, Mode::DryRun).await;
        assert_eq!(planned.outcome(), "Planned", "{}", planned.error());
        assert_eq!(state(world, &target).await, before);
        let operations = world.evidence(&account, &planned).await;
        assert!(operations.operations().contains(&"ModifyNetworkInterfaceAttribute"));
    });
}

#[test]
fn defect_15_16_what_is_critical_asks_first_and_no_tag_exempts_it() {
    in_turn(async |world| {
        let account = world.member("asked");
        let tags = json!([{ "Key": "Criticality", "Value": "critical" }, { "Key": "redress:exempt", "Value": "true" }]);
        let target = instance(world, &account, tags).await;
        world.send_raw(&finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0).to_string()).await;
        let is_asked = |record: &Value| {
            record["ResourceId"] == *target.arn
                && record["ExecutionStatus"] == "AwaitingApproval"
                && record["NotificationSent"] == true
        };
        let records = world.ledger_when(&account, "people are asked", is_asked).await;
        assert!(!is_isolated(&state(world, &target).await));
        let question = records.iter().find(|record| is_asked(record)).unwrap();
        let answer = json!({
            "Operation": "Answer", "RemediationId": question["RemediationId"], "Approve": true,
            "PlanSha256": question["Detail"]["PlanSha256"], "Reason": "it is compromised",
        });
        world.operate(answer).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.error(), "");
        assert!(is_isolated(&state(world, &target).await));
    });
}

#[test]
fn isolation_succeeds_when_the_rest_fails_and_that_is_told() {
    in_turn(async |world| {
        let account = world.member("broken");
        let target = instance(world, &account, json!([])).await;
        let refuse = |operation: &str, code: &str| {
            let refused = Action::Fail { status: 400, code: code.to_owned() };
            Rule::new(refused)
                .on_operation(operation)
                .in_account(&account)
                .by("Redress-Contain-EC2")
                .always()
                .and_retries()
        };
        let faults = world.bed.lab.faults();
        let rules = [
            faults.add(refuse("CreateSnapshots", "SnapshotLimitExceeded")),
            faults.add(refuse("PutRolePolicy", "LimitExceeded")),
        ];
        world.send_raw(&finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0).to_string()).await;
        let contained = done(world, &target, "Verified").await;
        for rule in rules {
            faults.remove(rule);
        }
        assert!(is_isolated(&state(world, &target).await));
        assert!(
            contained.error().contains("CreateSnapshots") && contained.error().contains("PutRolePolicy"),
            "{}",
            contained.error()
        );
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
    });
}

#[test]
fn an_orchestrator_that_dies_after_the_invocation_contains_once_and_it_is_told() {
    in_turn(async |world| {
        let account = world.member("killed");
        let target = instance(world, &account, json!([])).await;
        let mark = world.bed.lab.record().mark();
        let event = finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0).to_string();
        let rule = Rule::new(Action::KillBefore)
            .by(names::ORCHESTRATOR_FUNCTION)
            .on("sqs", "SendMessage")
            .containing("Redress Containment Ended");
        let rule = world.bed.lab.faults().add(rule);
        world.send_raw(&event).await;
        world.eventually("it is isolated", async || is_isolated(&state(world, &target).await).then_some(())).await;
        world
            .eventually("the orchestrator is dead", async || {
                world.bed.lab.faults().fired().iter().any(|fired| fired.rule == rule).then_some(())
            })
            .await;
        world.bed.lab.faults().remove(rule);
        LOST.fetch_add(1, Ordering::Relaxed);
        // Its lease ends, and the reconciler has the playbook tell its end.
        let long_ago = Timestamp::now().as_millisecond() - 60 * 60 * 1000;
        let old = json!({
            "TableName": names::STATE_TABLE, "Key": { "Key": { "S": claim_key(world.region(), &target) } },
            "UpdateExpression": "SET LeaseUntil = :then",
            "ExpressionAttributeValues": { ":then": { "N": long_ago.to_string() } },
        });
        world.admin_call("dynamodb", "UpdateItem", old).await;
        world.bed.lab.fire_schedule(&world.administrator(), "redress-reconcile").await.unwrap();
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.states(), ["Planned", "Claimed", "Applied", "Verified"]);
        quiet(world).await;
        let own = calls_of(world, &names::contain_role("EC2"), mark);
        let taken = own.iter().filter(|call| call.operation == "CreateSnapshots").count();
        assert_eq!(taken, 2, "contained once: before and after");
    });
}

#[test]
fn a_user_and_a_role_can_do_nothing_until_they_are_given_back() {
    in_turn(async |world| {
        const TOR: &str = "UnauthorizedAccess:IAMUser/TorIPCaller";
        let account = world.member("people");
        let (user, role) = (user(world, &account).await, role(world, &account).await);
        for (target, user_type, thing, of) in
            [(&user, "IAMUser", "user", "UserName"), (&role, "AssumedRole", "role", "RoleName")]
        {
            let (control, who) = (target.control.as_str(), name(target));
            let list = if thing == "user" { "ListUserPolicies" } else { "ListRolePolicies" };
            let policies = async || call(world, &account, "iam", list, json!({ of: who })).await["PolicyNames"].clone();
            assert_eq!(policies().await, json!([]), "{control}");
            let mark = world.bed.lab.record().mark();
            world.send_raw(&of_principal(world, target, TOR, user_type).to_string()).await;
            let contained = done(world, target, "Verified").await;
            assert_eq!((contained.outcome(), contained.error()), ("Verified", ""), "{control}");
            assert_eq!(policies().await, json!(["redress-contain"]), "{control}");
            quiet(world).await;
            let last = if thing == "user" { "PutUserPolicy" } else { "PutRolePolicy" };
            figures(world, control, "IAM", mark, last);
            let undone = world.undo(target, &contained.id).await;
            assert_eq!((undone.outcome(), undone.error()), ("Restored", ""), "{control}");
            assert_eq!(policies().await, json!([]), "{control}");
        }
    });
}

#[test]
fn a_function_is_not_run_until_it_is_given_back() {
    in_turn(async |world| {
        let account = world.member("function");
        let target = function(world, &account).await;
        let who = name(&target);
        let named = json!({ "FunctionName": who });
        let reserved = async || {
            call(world, &account, "lambda", "GetFunctionConcurrency", named.clone()).await["ReservedConcurrentExecutions"]
                .as_i64()
        };
        for before in [None, Some(40)] {
            if let Some(before) = before {
                let some = json!({ "FunctionName": who, "ReservedConcurrentExecutions": before });
                call(world, &account, "lambda", "PutFunctionConcurrency", some).await;
            }
            assert_eq!(reserved().await, before);
            let mark = world.bed.lab.record().mark();
            let contained = if before.is_none() {
                let event = finding(world, &target, "Backdoor:Lambda/C&CActivity.B", 8.0);
                world.send_raw(&event.to_string()).await;
                done(world, &target, "Verified").await
            } else {
                // Within a day of an undo GuardDuty is not followed; a person is.
                world.remediate(&target, Mode::Apply).await
            };
            assert_eq!((contained.outcome(), contained.error()), ("Verified", ""));
            assert_eq!(reserved().await, Some(0));
            if before.is_none() {
                assert_eq!(exposure(&contained), json!([]));
            }
            quiet(world).await;
            figures(world, "Lambda function", "Compute", mark, "PutFunctionConcurrency");
            let undone = world.undo(&target, &contained.id).await;
            assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
            assert_eq!(reserved().await, before);
        }
    });
}

#[test]
fn nobody_reaches_a_database_until_it_is_given_back() {
    in_turn(async |world| {
        let account = world.member("database");
        let target = database(world, &account).await;
        let who = name(&target);
        let rds = async |operation: &str, asked: Value| call(world, &account, "rds", operation, asked).await;
        let state = async || {
            let one =
                rds("DescribeDBInstances", json!({ "DBInstanceIdentifier": who })).await["DBInstances"][0].clone();
            let groups = one["VpcSecurityGroups"].as_array().unwrap().iter();
            let groups: Vec<Value> = groups.map(|group| group["VpcSecurityGroupId"].clone()).collect();
            (groups, one["PubliclyAccessible"].clone(), one["DeletionProtection"].clone())
        };
        let (before, mark) = (state().await, world.bed.lab.record().mark());
        assert_eq!((before.0.len(), &before.1, &before.2), (1, &json!(true), &json!(false)));

        let event = finding(world, &target, "CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin", 8.0);
        world.send_raw(&event.to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!((contained.outcome(), contained.error()), ("Verified", ""));
        assert_eq!(exposure(&contained), json!([]), "public, but its group lets nobody in");
        let named = json!({ "Filters": [{ "Name": "group-name", "Values": [QUARANTINE] }] });
        let quarantine = call(world, &account, "ec2", "DescribeSecurityGroups", named).await["SecurityGroups"].clone();
        assert_eq!(state().await, (vec![quarantine[0]["GroupId"].clone()], json!(false), json!(true)));
        let evidence = json!({ "DBSnapshotIdentifier": format!("redress-{}", contained.id) });
        assert_eq!(rds("DescribeDBSnapshots", evidence).await["DBSnapshots"].as_array().unwrap().len(), 1);
        quiet(world).await;
        figures(world, "RDS instance", "Data", mark, "ModifyDBInstance");

        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        assert_eq!(state().await, before);
    });
}

/// What `redress` says, as an operator.
async fn redress(world: &World, arguments: &[&str]) -> Value {
    let all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let output = world.redress(&all, &[("REDRESS_EXTERNAL_ID", world.bed.organisation.external_ids.reveal())]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "redress {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn a_person_contains_by_the_command_and_by_the_button() {
    in_turn(async |world| {
        let account = world.member("button");
        let bucket = format!("leaks-{}", Uuid::new_v4().simple());
        call(world, &account, "s3", "CreateBucket", json!({ "Bucket": bucket })).await;
        drop(world.call(&account, "s3", "DeletePublicAccessBlock", json!({ "Bucket": bucket })).await);
        let target = Target {
            account: account.clone(),
            control: "Contain.S3Bucket".to_owned(),
            arn: format!("arn:aws:s3:::{bucket}"),
        };
        let is_closed =
            async || world.call(&account, "s3", "GetPublicAccessBlock", json!({ "Bucket": bucket })).await.is_ok();
        let asked = ["contain", &target.arn, "--account", &account, "--reason", "INC-4711", "--wait", "--json"];
        let planned = redress(world, &[&asked[..], &["--dry-run"]].concat()).await;
        assert!(!is_closed().await, "{planned:#}");
        redress(world, &asked).await;
        let contained = done(world, &target, "Verified").await;
        assert!(is_closed().await);
        redress(world, &["undo", &contained.id, "--reason", "false alarm", "--wait", "--json"]).await;
        assert!(!is_closed().await);

        // The button is for whatever a finding is about, whatever it says of it.
        let finding = asff(&account, world.region(), &target.arn, Timestamp::now());
        let pressed =
            security_hub_event(&world.administrator(), world.region(), &[finding], Some(names::ACTION_CONTAIN));
        world.send_raw(&pressed.to_string()).await;
        world.eventually("the button contains", async || is_closed().await.then_some(())).await;
        quiet(world).await;
        let records = world.ledger_about(&target.arn).await;
        let ends = records.iter().filter(|record| record["ExecutionStatus"] == "Verified");
        assert_eq!(ends.count(), 2, "by the command, and by the button: {records:#?}");

        // All of it is one case, whichever of its remediations one names.
        let cases = redress(world, &["case", "list", "--account", &account, "--json"]).await;
        let case = &cases[0];
        assert_eq!((cases.as_array().unwrap().len(), &case["Standing"]), (1, &json!("Contained")), "{cases:#}");
        assert_eq!(case["Remediations"].as_array().unwrap().len(), 4, "in words, in fact, undone, by the button");
        let shown = redress(world, &["case", "show", &contained.id, "--json"]).await;
        assert_eq!(shown["Case"]["CaseId"], case["CaseId"]);
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("case");
        let to = folder.to_str().unwrap();
        let taken = redress(world, &["case", "export", &contained.id, "--to", to, "--json"]).await;
        let files = taken["Files"].as_array().unwrap();
        // Of what was done, and not only planned: its custody; of each bucket what it held, sealed and in the clear.
        let kept = 3 + 2 * 2;
        assert_eq!(files.len(), 2 + 4 + kept, "the case, the ledger, the evidence of each: {taken:#}");
        assert!(taken["TakenBy"].as_str().unwrap().contains(":assumed-role/Redress-Operator/"), "{taken:#}");
        for file in files {
            let text = std::fs::read(folder.join(file["Name"].as_str().unwrap())).unwrap();
            assert_eq!(json!(redress_common::ledger::sha256_hex(&text)), file["Sha256"]);
        }

        // Whoever presses the other button wants people to look now; nothing is asked of policy, and nothing changed.
        let finding = asff(&account, world.region(), &target.arn, Timestamp::now());
        let pressed =
            security_hub_event(&world.administrator(), world.region(), &[finding], Some(names::ACTION_ESCALATE));
        let mark = world.bed.lab.record().mark();
        world.send_raw(&pressed.to_string()).await;
        let escalated = world
            .eventually("an escalation is told", async || {
                let records = world.ledger_about(&target.arn).await;
                let is_it = |record: &&Value| {
                    record["Detail"]["Code"] == "escalated" && record["ExecutionStatus"] == "Notified"
                };
                records.iter().find(is_it).cloned()
            })
            .await;
        assert_eq!(escalated["NotificationSent"], true, "{escalated:#}");
        assert_eq!(world.changes_since(&account, mark), [""; 0]);

        redress(world, &["case", "close", &contained.id, "--reason", "rebuilt", "--json"]).await;
        let shown = redress(world, &["case", "show", &contained.id, "--json"]).await;
        assert_eq!((&shown["Case"]["Standing"], &shown["Case"]["CaseId"]), (&json!("Closed"), &case["CaseId"]));
        assert!(is_closed().await, "the bucket stays contained");
    });
}
