//! What is left behind: the chain, its records, the evidence, what people are told, and what nobody may read in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_common::contract::Mode;
use redress_common::ledger::{Record, verify};
use redress_common::names;
use redress_tests::ask::{Ended, Target};
use redress_tests::inbox::Notifications;
use redress_tests::world::{World, world};
use serde_json::{Value, json};

static TOLD: Notifications = Notifications::new();

fn the_world() -> &'static World {
    world(&["chain", "history", "told", "evidence", "secrets"])
}

async fn fixed(world: &World, account: &str) -> (Target, Ended) {
    let broken = world.break_only("public-bucket", account).await;
    let target =
        Target { account: account.to_owned(), control: "S3.8".to_owned(), arn: broken.resource_arn.to_string() };
    let ended = world.remediate(&target, Mode::Apply).await;
    assert_eq!(ended.last()["ExecutionStatus"], "Verified", "{}", ended.error());
    (target, ended)
}

/// The chain of an account, from the table, in its order.
async fn chain(world: &World, account: &str) -> Vec<Record> {
    let read = |record: Value| {
        serde_json::from_value::<Record>(record.clone()).unwrap_or_else(|error| panic!("{error}: {record:#}"))
    };
    let mut records: Vec<Record> = world.ledger(account).await.into_iter().map(read).collect();
    records.sort_by_key(|record| record.seq);
    records
}

#[test]
fn the_chain_of_an_account_verifies_and_a_forged_record_does_not() {
    let world = the_world();
    world.run(async {
        let account = world.member("chain");
        let (target, done) = fixed(world, &account).await;
        world.remediate(&target, Mode::DryRun).await;
        world.undo(&target, &done.id).await;
        let records = chain(world, &account).await;
        let head = verify(&records).unwrap();
        let key = json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": format!("chain#{account}") } } });
        let kept = world.admin_call("dynamodb", "GetItem", key).await["Item"].to_string();
        assert!(kept.contains(&head.hash), "the head is where the chain ends: {kept}");
        for position in 0..records.len() {
            let mut forged = records.clone();
            forged[position].draft.executor_arn.push('x');
            assert!(verify(&forged).is_err(), "record {position} altered");
            let mut cut = records.clone();
            cut.remove(position);
            assert!(position == records.len() - 1 || verify(&cut).is_err(), "record {position} removed");
        }
    });
}

#[test]
fn every_record_has_every_attribute_of_the_schema() {
    let world = the_world();
    world.run(async {
        let account = world.member("chain");
        let (_, done) = fixed(world, &account).await;
        let asked = json!({
            "TableName": names::AUDIT_TABLE, "KeyConditionExpression": "RemediationId = :id",
            "ExpressionAttributeValues": { ":id": { "S": done.id } },
        });
        let items = world.admin_call("dynamodb", "Query", asked).await["Items"].as_array().unwrap().clone();
        assert_eq!(items.len(), 4);
        for item in &items {
            for (name, kind) in [
                ("RemediationId", "S"),
                ("Timestamp", "N"),
                ("FindingId", "S"),
                ("AccountId", "S"),
                ("ResourceType", "S"),
                ("ResourceId", "S"),
                ("RemediationType", "S"),
                ("RemediationAction", "S"),
                ("ExecutionStatus", "S"),
                ("ExecutorArn", "S"),
                ("ErrorMessage", "S"),
                ("ExecutionDuration", "N"),
                ("NotificationSent", "BOOL"),
                ("Origin", "S"),
                ("Seq", "N"),
                ("PrevHash", "S"),
                ("Hash", "S"),
                ("Detail", "M"),
                ("ExpiresAt", "N"),
            ] {
                assert!(item[name].get(kind).is_some(), "{name} is no {kind}: {item:#}");
            }
            let days =
                item["ExpiresAt"]["N"].as_str().unwrap().parse::<i64>().unwrap() - jiff::Timestamp::now().as_second();
            assert!((89..=90).contains(&(days / 86_400)), "kept for 90 days");
        }
        let by = items.iter().map(|item| item["ExecutorArn"]["S"].as_str().unwrap()).collect::<Vec<_>>();
        assert!(by[0].ends_with(":function:redress-orchestrator") && by[3].ends_with(":function:redress-completion"));
        assert_eq!(items[0]["RemediationType"]["S"], "Manual");
    });
}

#[test]
fn defect_25_history_is_kept() {
    let world = the_world();
    world.run(async {
        let account = world.member("history");
        let (target, done) = fixed(world, &account).await;
        let before = world.ledger(&account).await;
        let undo = world.undo(&target, &done.id).await;
        assert_eq!(undo.last()["ExecutionStatus"], "RolledBack");
        let again = world.remediate(&target, Mode::Apply).await;
        assert_eq!(again.last()["ExecutionStatus"], "Verified");
        let after = world.ledger(&account).await;
        assert!(before.iter().all(|record| after.contains(record)), "every record is as it was");
        let states: Vec<&str> = after
            .iter()
            .filter(|record| record["RemediationId"] == *done.id)
            .filter_map(|record| record["ExecutionStatus"].as_str())
            .collect();
        assert_eq!(states, ["Planned", "Claimed", "Applied", "Verified", "RolledBack"]);
    });
}

#[test]
fn people_are_told_in_the_agreed_format() {
    let world = the_world();
    world.run(async {
        TOLD.subscribe(world).await;
        let account = world.member("told");
        let broken = world.break_it("public-bucket", &account).await;
        let arn = broken.resource_arn.as_str();
        let records = world.comes_to(&account, arn, "Verified").await;
        let told = TOLD.when(world, arn, "Success").await;
        let (message, attributes) = &told[0];
        let names: Vec<&String> = message.as_object().unwrap().keys().collect();
        assert_eq!(names, ["RemediationId", "Status", "Account", "Resource", "Action", "ExecutedAt", "Finding"]);
        assert_eq!(message["RemediationId"], *World::id_of(&records, "Verified"));
        assert_eq!((&message["Account"], &message["Action"]), (&json!(account), &json!("Block public access")));
        let at = message["ExecutedAt"].as_str().unwrap();
        assert!(at.len() == 20 && at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(), "{at}");
        for (name, value) in [("Status", "Success"), ("AccountId", account.as_str()), ("Control", "S3.8")] {
            assert_eq!(attributes[name]["Value"], value);
        }
        assert_eq!(told.len(), 1, "people are told once: {told:#?}");
        let metric = |line: &String| {
            let metric: Value = serde_json::from_str(line).unwrap_or_default();
            metric["RemediationId"] == message["RemediationId"]
                && metric["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Redress"
        };
        let logs = || world.bed.lab.logs(names::COMPLETION_FUNCTION);
        world.eventually("the metric is in the log", async || logs().iter().any(metric).then_some(())).await;
    });
}

#[test]
fn evidence_is_where_it_should_be_encrypted_versioned_and_described() {
    let world = the_world();
    world.run(async {
        let account = world.member("evidence");
        let (target, done) = fixed(world, &account).await;
        let last = &done.last()["Detail"];
        let bucket = names::evidence_bucket(&account.parse().unwrap(), &world.bed.organisation.region);
        assert_eq!(last["EvidenceBucket"], bucket);
        let claimed = done.records.iter().find(|record| record["ExecutionStatus"] == "Claimed").unwrap()["Timestamp"]
            .as_i64()
            .unwrap();
        let key = names::evidence_key(done.id.parse().unwrap(), jiff::Timestamp::from_millisecond(claimed).unwrap());
        assert_eq!(last["EvidenceKey"], key);
        let head = world.call(&account, "s3", "HeadObject", json!({ "Bucket": bucket, "Key": key })).await.unwrap();
        let alias =
            world.call(&account, "kms", "DescribeKey", json!({ "KeyId": names::MEMBER_KEY_ALIAS })).await.unwrap();
        assert_eq!(head["ServerSideEncryption"], "aws:kms");
        assert_eq!(head["SSEKMSKeyId"], alias["KeyMetadata"]["Arn"]);
        assert_eq!(head["VersionId"], last["EvidenceVersionId"]);
        let metadata = &head["Metadata"];
        assert_eq!(metadata["outcome"], "Verified");
        for (name, detail) in [
            ("pre-image-sha256", "PreImageSha256"),
            ("change-sha256", "ChangeSha256"),
            ("post-image-sha256", "PostImageSha256"),
        ] {
            assert_eq!((&metadata[name], last[detail].as_str().map(str::len)), (&last[detail], Some(64)), "{name}");
        }
        let versions =
            world.call(&account, "s3", "ListObjectVersions", json!({ "Bucket": bucket, "Prefix": key })).await.unwrap();
        assert_eq!(versions["Versions"].as_array().unwrap().len(), 2, "before the change, and after it");
        let opened = world.evidence(&account, &done).await;
        assert_eq!(opened.operations(), ["PutPublicAccessBlock"]);
        assert!(!opened.before.pre_image.present && opened.after.unwrap().present, "{}", target.arn);
    });
}

#[test]
fn nothing_of_a_resources_state_is_in_ledger_logs_or_messages() {
    const MARKER: &str = "tr0ub4dor-and-3";
    let world = the_world();
    world.run(async {
        TOLD.subscribe(world).await;
        let account = world.member("secrets");
        // In a tag of a bucket whose tags are mended, and in the description of a rule that is revoked.
        let tagged = world.break_only("missing-tags", &account).await;
        let bucket = tagged.resource_arn.as_str().rsplit(':').next().unwrap().to_owned();
        let tags = json!([{ "Key": "Environment", "Value": "production" }, { "Key": "Note", "Value": MARKER }]);
        world.call(&account, "s3", "PutBucketTagging", json!({ "Bucket": bucket, "Tagging": { "TagSet": tags } })).await.unwrap();
        let group = world.break_only("open-ssh", &account).await;
        let id = group.resource_arn.as_str().rsplit('/').next().unwrap().to_owned();
        let rule = json!([{ "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
            "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": MARKER }] }]);
        let everyone = json!({ "GroupId": id, "IpPermissions": [{ "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }] });
        world.call(&account, "ec2", "RevokeSecurityGroupIngress", everyone).await.unwrap();
        world.call(&account, "ec2", "AuthorizeSecurityGroupIngress", json!({ "GroupId": id, "IpPermissions": rule })).await.unwrap();
        for (broken, undoes) in [(&tagged, true), (&group, true)] {
            let target = Target { account: account.clone(), control: broken.control.to_string(), arn: broken.resource_arn.to_string() };
            let done = world.remediate(&target, Mode::Apply).await;
            assert_eq!(done.last()["ExecutionStatus"], "Verified", "{}", done.error());
            let opened = world.evidence(&account, &done).await;
            if broken == &group {
                assert!(serde_json::to_string(&opened.before).unwrap().contains(MARKER), "the evidence has it, sealed");
            }
            if undoes {
                world.undo(&target, &done.id).await;
            }
            let told = TOLD.when(world, &target.arn, "RolledBack").await;
            assert!(!format!("{told:?}").contains(MARKER), "told to everybody");
            let sealed = json!({ "Bucket": done.last()["Detail"]["EvidenceBucket"], "Key": done.last()["Detail"]["EvidenceKey"] });
            let object = world.call(&account, "s3", "GetObject", sealed).await.unwrap();
            assert!(!object["Body"].as_str().unwrap().contains(MARKER), "evidence in the clear");
        }
        assert!(!json!(world.ledger(&account).await).to_string().contains(MARKER), "in the ledger");
        let state = world.admin_call("dynamodb", "Scan", json!({ "TableName": names::STATE_TABLE })).await;
        assert!(!state.to_string().contains(MARKER), "in the state table");
        for function in [names::ORCHESTRATOR_FUNCTION, names::COMPLETION_FUNCTION, names::RECORDER_FUNCTION, names::REMEDIATE_FUNCTION] {
            let said = world.bed.lab.logs(function);
            assert!(!said.is_empty() || function == names::RECORDER_FUNCTION);
            assert!(!said.iter().any(|line| line.contains(MARKER)), "in the log of {function}");
        }
    });
}
