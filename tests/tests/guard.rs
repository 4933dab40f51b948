//! What the guard tells of a resource before it is touched: asked through the cross-account role, over the deployed policies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use redress_common::contract::{Dependent, GuardEvidence};
use redress_common::names;
use redress_tests::ask::Target;
use redress_tests::grants::{Used, grants, role_of, unused};
use redress_tests::guarded::{KINDS, refused};
use redress_tests::world::{World, world};
use serde_json::{Value, json};

const THREATS: &str = "type,value,source,expires\n\
    cidr,203.0.113.0/24,feed-a,\n\
    domain,evil.example,feed-b,\n\
    ip,198.51.100.7,feed-a,2020-01-01\n\
    no such line\n";

fn the_world() -> &'static World {
    world(&["guarded", "neighbour", "owned", "groups", "threatened", "grants"])
}

fn id(target: &Target) -> &str {
    target.arn.rsplit('/').next().unwrap()
}

fn bucket(account: &str, name: &str) -> Target {
    Target { account: account.to_owned(), control: "S3.8".to_owned(), arn: format!("arn:aws:s3:::{name}") }
}

async fn call(world: &World, account: &str, service: &str, operation: &str, parameters: Value) -> Value {
    world.call(account, service, operation, parameters).await.unwrap_or_else(|error| panic!("{operation}: {error}"))
}

#[test]
fn the_guard_tells_tags_and_that_they_mark_the_resource_as_critical() {
    let world = the_world();
    world.run(async {
        let target = world.guardable("bucket", &world.member("guarded")).await;
        let plain = world.guarded(&target, &[]).await;
        assert_eq!(refused(&plain), Vec::<&str>::new());
        let nobody = GuardEvidence { exposure: Some(Vec::new()), ..GuardEvidence::default() };
        assert_eq!(GuardEvidence { unanswered: Vec::new(), ..plain }, nobody);

        let tags = json!([{ "Key": "Criticality", "Value": "High" }, { "Key": "Managed-By", "Value": "terraform" }]);
        let bucket = target.arn.strip_prefix("arn:aws:s3:::").unwrap();
        let tagging = json!({ "Bucket": bucket, "Tagging": { "TagSet": tags } });
        call(world, &target.account, "s3", "PutBucketTagging", tagging).await;
        let told = world.guarded(&target, &[]).await;
        assert_eq!(told.critical.as_deref(), Some("Criticality=High"));
        assert_eq!(told.tags["Managed-By"], "terraform");
        assert!(told.unanswered.iter().any(|text| text.starts_with("last use: S3 does not tell")));
    });
}

#[test]
fn a_bucket_tells_whom_its_policy_lets_in_and_that_it_serves_a_website() {
    let world = the_world();
    world.run(async {
        let target = world.guardable("bucket", &world.member("guarded")).await;
        let (account, name) = (&target.account, target.arn.strip_prefix("arn:aws:s3:::").unwrap());
        let website = json!({ "Bucket": name, "WebsiteConfiguration": { "IndexDocument": { "Suffix": "index.html" } } });
        call(world, account, "s3", "PutBucketWebsite", website).await;
        call(world, account, "s3", "DeletePublicAccessBlock", json!({ "Bucket": name })).await;
        let read = json!({ "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("{}/*", target.arn) });
        let policy = json!({ "Version": "2012-10-17", "Statement": [read] }).to_string();
        call(world, account, "s3", "PutBucketPolicy", json!({ "Bucket": name, "Policy": policy })).await;
        let told = world.guarded(&target, &[]).await;
        let users: Vec<(&str, &str)> =
            told.dependents.iter().map(|one| (one.resource_type.as_str(), one.id.as_str())).collect();
        assert!(users.contains(&("Principal", "*")), "{told:?}");
        assert!(users.contains(&("Website", name)), "{told:?}");
        assert!(users.iter().any(|(kind, _)| *kind == "Public"), "{told:?}");
        assert_eq!(told.dependent_count, 3);
        assert_eq!(told.exposure.as_ref().map(Vec::len), Some(1), "{told:?}");
        let block = json!({ "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": true });
        let block = json!({ "Bucket": name, "PublicAccessBlockConfiguration": block });
        call(world, account, "s3", "PutPublicAccessBlock", block).await;
        assert_eq!(world.guarded(&target, &[]).await.exposure, Some(Vec::new()));
    });
}

#[test]
fn a_bucket_and_a_role_of_a_stack_are_owned_by_it_and_so_are_ours() {
    let world = the_world();
    world.run(async {
        let account = world.member("owned");
        let resources = json!({
            "Logs": { "Type": "AWS::S3::Bucket", "Properties": { "BucketName": "owned-logs" } },
            "Role": { "Type": "AWS::IAM::Role", "Properties": {
                "RoleName": "owned-role", "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [] } } },
        });
        let body = json!({ "AWSTemplateFormatVersion": "2010-09-09", "Resources": resources }).to_string();
        let creation =
            json!({ "StackName": "the-app", "TemplateBody": body, "Capabilities": ["CAPABILITY_NAMED_IAM"] });
        call(world, &account, "cloudformation", "CreateStack", creation).await;
        world
            .eventually("the stack is there", async || {
                let described =
                    call(world, &account, "cloudformation", "DescribeStacks", json!({ "StackName": "the-app" })).await;
                (described["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE").then_some(())
            })
            .await;
        for target in [
            bucket(&account, "owned-logs"),
            Target { arn: format!("arn:aws:iam::{account}:role/owned-role"), ..bucket(&account, "") },
        ] {
            let told = world.guarded(&target, &[]).await;
            assert_eq!(refused(&told), Vec::<&str>::new());
            let owner = told.owned_by.expect("an owner");
            assert_eq!((owner.manager.as_str(), owner.name.as_str()), ("CloudFormation", "the-app"));
            assert!(owner.vouched && owner.hint.contains("change stack `the-app` and update it"), "{}", owner.hint);
        }
        // Ours are owned, too.
        let told = world.guarded(&world.guardable("stack", &account).await, &[]).await;
        assert_eq!(told.owned_by.expect("an owner").name, "redress-member");
    });
}

#[test]
fn a_group_with_terraforms_tags_is_said_to_be_terraforms_but_not_vouched_for() {
    let world = the_world();
    world.run(async {
        let target = world.guardable("group", &world.member("groups")).await;
        let tags =
            json!([{ "Key": "terraform-workspace", "Value": "prod-eu" }, { "Key": "ManagedBy", "Value": "Terraform" }]);
        let tagging = json!({ "Resources": [id(&target)], "Tags": tags });
        call(world, &target.account, "ec2", "CreateTags", tagging).await;
        let owner = world.guarded(&target, &[]).await.owned_by.expect("an owner");
        assert_eq!((owner.manager.as_str(), owner.name.as_str(), owner.vouched), ("Terraform", "prod-eu", false));
    });
}

#[test]
fn a_group_in_use_tells_its_interfaces_and_the_groups_that_refer_to_it() {
    let world = the_world();
    world.run(async {
        let account = world.member("groups");
        let (used, other) = (world.guardable("group", &account).await, world.guardable("group", &account).await);
        let subnets = call(world, &account, "ec2", "DescribeSubnets", json!({})).await;
        let subnet = &subnets["Subnets"][0]["SubnetId"];
        let mut wanted: Vec<Dependent> = Vec::new();
        for _ in 0..2 {
            let asked = json!({ "SubnetId": subnet, "Groups": [id(&used)] });
            let made = call(world, &account, "ec2", "CreateNetworkInterface", asked).await;
            let id = made["NetworkInterface"]["NetworkInterfaceId"].as_str().unwrap().to_owned();
            wanted.push(Dependent { resource_type: "AWS::EC2::NetworkInterface".to_owned(), id });
        }
        let pair = json!([{ "GroupId": id(&used) }]);
        let rule = json!([{ "IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": pair }]);
        let asked = json!({ "GroupId": id(&other), "IpPermissions": rule });
        call(world, &account, "ec2", "AuthorizeSecurityGroupIngress", asked).await;
        wanted.sort_by(|a, b| a.id.cmp(&b.id));
        wanted.push(Dependent { resource_type: "AWS::EC2::SecurityGroup".to_owned(), id: id(&other).to_owned() });

        let told = world.guarded(&used, &[]).await;
        assert_eq!(told.dependents, wanted);
        assert_eq!((told.dependent_count, refused(&told)), (3, Vec::new()));
    });
}

#[test]
fn a_key_and_a_policy_tell_what_uses_them() {
    let world = the_world();
    world.run(async {
        let account = world.member("guarded");
        let key = world.guardable("key", &account).await;
        let alias = json!({ "AliasName": "alias/guarded", "TargetKeyId": id(&key) });
        call(world, &account, "kms", "CreateAlias", alias).await;
        let told = world.guarded(&key, &[]).await;
        let alias = Dependent { resource_type: "AWS::KMS::Alias".to_owned(), id: "alias/guarded".to_owned() };
        assert_eq!(told.dependents, [alias]);
        assert_eq!(refused(&told), Vec::<&str>::new());

        let policy = world.guardable("policy", &account).await;
        let role = world.guardable("role", &account).await;
        let attached = json!({ "RoleName": id(&role), "PolicyArn": policy.arn });
        call(world, &account, "iam", "AttachRolePolicy", attached).await;
        let told = world.guarded(&policy, &[]).await;
        assert_eq!(
            told.dependents,
            [Dependent { resource_type: "AWS::IAM::Role".to_owned(), id: id(&role).to_owned() }]
        );
    });
}

#[test]
fn a_user_tells_keys_and_a_password_rule_tells_how_many_users_it_is_for() {
    let world = the_world();
    world.run(async {
        let account = world.member("neighbour");
        let user = world.guardable("user", &account).await;
        let told = world.guarded(&user, &[]).await;
        assert_eq!(refused(&told), Vec::<&str>::new());
        assert_eq!((told.dependent_count, told.dependents[0].resource_type.as_str()), (1, "AWS::IAM::AccessKey"));
        let rule = world.guardable("account", &account).await;
        let told = world.guarded(&rule, &[]).await;
        assert_eq!((told.dependent_count, told.dependents.len()), (1, 0));
        assert_eq!(told.unanswered, Vec::<String>::new());
    });
}

#[test]
fn the_threat_list_is_matched_with_indicators_and_with_the_groups_own_networks() {
    let world = the_world();
    world.run(async {
        let account = world.member("threatened");
        let group = world.guardable("group", &account).await;
        world.put_threats(THREATS).await;
        // The list is kept for five minutes by the process that read it.
        let renewed = json!({ "FunctionName": names::GUARD_FUNCTION, "MemorySize": 320 });
        call(world, &account, "lambda", "UpdateFunctionConfiguration", renewed).await;
        let ranges = json!([{ "CidrIp": "203.0.113.64/26" }, { "CidrIp": "0.0.0.0/0" }]);
        let rule = json!([{ "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": ranges }]);
        let asked = json!({ "GroupId": id(&group), "IpPermissions": rule });
        call(world, &account, "ec2", "AuthorizeSecurityGroupIngress", asked).await;

        let told = world.guarded(&group, &["www.evil.example", "198.51.100.7", "192.0.2.1"]).await;
        assert_eq!(
            told.threats,
            ["203.0.113.0/24 (feed-a): 203.0.113.64/26", "evil.example (feed-b): www.evil.example"]
        );
        assert_eq!(told.unanswered, ["lines of the threat list: 1 are malformed and 0 too many; the others hold"]);

        let list = names::threat_bucket(&world.bed.organisation.administrator.id, &world.bed.organisation.region);
        let theirs = world.call(&account, "s3", "GetObject", json!({ "Bucket": list, "Key": "list.txt" })).await;
        assert_eq!(theirs.unwrap_err().code, "AccessDenied", "only the guard's role reads the list");
    });
}

#[test]
fn defect_10_the_guard_looks_into_no_other_account() {
    let world = the_world();
    world.run(async {
        let (here, there) = (world.member("guarded"), world.member("neighbour"));
        let request = world.guard_request(&bucket(&there, "any"), &[]);
        let refused = world.ask_guard(&here, &request).await.unwrap_err();
        assert!(refused.message.contains("this function runs in account"), "{refused}");
        let theirs = Target { arn: format!("arn:aws:iam::{there}:role/x"), ..bucket(&here, "any") };
        let refused = world.ask_guard(&here, &world.guard_request(&theirs, &[])).await.unwrap_err();
        assert!(refused.message.contains("the resource is in account"), "{refused}");
        // A bucket's ARN names no account: its owner is asked for in every call.
        let theirs = world.guardable("bucket", &there).await;
        let told = world.guarded(&Target { account: here, ..theirs }, &[]).await;
        assert!(told.unanswered.iter().any(|text| text.starts_with("tags: `GetBucketTagging` failed")), "{told:?}");
    });
}

#[test]
fn every_grant_of_the_guard_is_used_and_none_is_missing_whatever_it_looks_at() {
    let world = the_world();
    world.run(async {
        let account = world.member("grants");
        world.put_threats(THREATS).await;
        let mark = world.bed.lab.record().mark();
        for kind in KINDS {
            let target = world.guardable(kind, &account).await;
            let told = world.guarded(&target, &["192.0.2.1"]).await;
            assert_eq!(refused(&told), Vec::<&str>::new(), "{kind}");
        }

        let asked = json!({ "RoleName": names::GUARD_ROLE, "PolicyName": "look" });
        let document = call(world, &account, "iam", "GetRolePolicy", asked).await["PolicyDocument"].clone();
        let document = document.as_str().map_or(document.clone(), |text| serde_json::from_str(text).unwrap());
        let mut all = grants(&account, names::GUARD_ROLE, "look", &document);
        // Written by the lab, in its own time.
        all.retain(|line| !line.action.starts_with("logs:"));
        let calls = world.bed.lab.record().calls_since(mark);
        let used: BTreeSet<Used> = calls
            .iter()
            .flat_map(|call| call.checks.iter().map(move |check| (&call.principal, check)))
            .filter(|(_, check)| check.allowed)
            .filter_map(|(principal, check)| {
                let (account, role) = role_of(principal)?;
                Some(Used { role, account, action: check.action.clone(), resource: check.resource.clone() })
            })
            .collect();
        assert!(unused(&all, &used).is_empty(), "granted, and used by nothing: {:#?}", unused(&all, &used));
    });
}
