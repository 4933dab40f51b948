//! Checkpoints of the ledger: made on schedule, locked, and what they tell when everything else was rewritten.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use jiff::Timestamp;
use redress_common::checkpoint::{Checkpoint, follows};
use redress_common::contract::Mode;
use redress_common::ledger::{self, Head, Record, RecordDraft};
use redress_common::names;
use redress_lab::Supposed;
use redress_lab::service::{AwsError, Credentials};
use redress_tests::ask::Target;
use redress_tests::grants::{Grant, Used, grants, unused};
use redress_tests::world::{World, binaries, world};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

fn the_world() -> &'static World {
    world(&["rewritten", "orphan", "denied", "used"])
}

/// There is one row of checkpoints: who counts on the next one takes turns.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

fn bucket(world: &World) -> String {
    names::checkpoint_bucket(&world.bed.organisation.administrator.id, &world.bed.organisation.region)
}

async fn fixed(world: &World, account: &str) {
    let broken = world.break_only("public-bucket", account).await;
    let target =
        Target { account: account.to_owned(), control: "S3.8".to_owned(), arn: broken.resource_arn.to_string() };
    let ended = world.remediate(&target, Mode::Apply).await;
    assert_eq!(ended.last()["ExecutionStatus"], "Verified", "{}", ended.error());
}

/// The number of the newest checkpoint that the state table knows.
async fn number(world: &World) -> u64 {
    world.state_value("checkpoint").await.map_or(0, |item| item["Number"].as_u64().unwrap())
}

async fn fire(world: &World) {
    world.bed.lab.fire_schedule(&world.administrator(), names::CHECKPOINT_RULE).await.unwrap();
}

/// The schedule fires: the checkpoint that comes of it, and where it lies.
async fn made(world: &World) -> (String, Checkpoint) {
    let before = number(world).await;
    fire(world).await;
    let newer = async || (number(world).await > before).then_some(());
    world.eventually("a checkpoint is made", newer).await;
    let item = world.state_value("checkpoint").await.unwrap();
    let at = Timestamp::from_millisecond(item["At"].as_i64().unwrap()).unwrap();
    let key = Checkpoint::key(item["Number"].as_u64().unwrap(), at);
    (key.clone(), read(world, &key).await)
}

async fn read(world: &World, key: &str) -> Checkpoint {
    let object = world.admin_call("s3", "GetObject", json!({ "Bucket": bucket(world), "Key": key })).await;
    serde_json::from_str(object["Body"].as_str().unwrap()).unwrap()
}

async fn versions(world: &World, key: &str) -> usize {
    let asked = json!({ "Bucket": bucket(world), "Prefix": key });
    let listed = world.admin_call("s3", "ListObjectVersions", asked).await;
    listed["Versions"].as_array().map_or(0, Vec::len)
}

/// The chain of an account, from the table, in its order.
async fn chain(world: &World, account: &str) -> Vec<Record> {
    let records = world.ledger(account).await.into_iter().map(|record| serde_json::from_value(record).unwrap());
    let mut records: Vec<Record> = records.collect();
    records.sort_by_key(|record| record.seq);
    records
}

/// A value as an attribute of DynamoDB's.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Bool(is) => json!({ "BOOL": is }),
        Value::Number(number) => json!({ "N": number.to_string() }),
        Value::String(text) => json!({ "S": text }),
        Value::Object(_) => json!({ "M": attributes(value) }),
        other => panic!("no attribute of ours: {other}"),
    }
}

fn attributes(value: &Value) -> Value {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

async fn put(world: &World, table: &str, value: &Value) {
    let asked = json!({ "TableName": table, "Item": attributes(value) });
    world.admin_call("dynamodb", "PutItem", asked).await;
}

/// What the administrator of the administrator account can do: all records of a chain and its head, as if something
/// else had happened. Every hash fits.
async fn rewrite(world: &World, account: &str) -> Vec<Record> {
    let before = chain(world, account).await;
    let mut drafts: Vec<RecordDraft> = before.iter().map(|record| record.draft.clone()).collect();
    drafts[0].remediation_action.push_str(", and nothing else");
    let (forged, head) = ledger::chain(&before[0].origin, &Head::default(), drafts);
    for record in &forged {
        put(world, names::AUDIT_TABLE, &serde_json::to_value(record).unwrap()).await;
    }
    let item = json!({
        "Key": format!("chain#{account}"), "Seq": head.seq, "Hash": head.hash, "Open": "chain", "LeaseUntil": 0,
    });
    put(world, names::STATE_TABLE, &item).await;
    assert_eq!(chain(world, account).await, forged, "it is what the table has");
    assert_ne!(forged[0].hash, before[0].hash);
    // Records and head are all that was looked at without checkpoints.
    assert_eq!(ledger::verify_to(&forged, &head), Ok(()), "by itself the chain is intact");
    forged
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(ToString::to_string).collect()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `redress audit verify` as somebody: whether everything that was checked holds, and what it says.
async fn verify(world: &World, by: &Credentials, account: &str) -> (bool, Value) {
    let output = world.redress_as(by, &words(&["audit", "verify", "--account", account, "--json"]), &[]).await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    (output.status.success(), report)
}

/// The same of a folder, on a machine that knows nothing of AWS.
fn verify_files(folder: &Path, key: &Path) -> Output {
    let mut command = Command::new(binaries().join("redress"));
    command.env_clear().args(["audit", "verify", "--from"]).arg(folder).arg("--public-key").arg(key);
    command.output().unwrap()
}

#[test]
fn a_ledger_that_was_rewritten_with_all_its_hashes_is_found_by_its_checkpoints() {
    let world = the_world();
    world.run(async {
        let _turn = turn().await;
        let (account, other) = (world.member("rewritten"), world.member("orphan"));
        fixed(world, &account).await;
        fixed(world, &other).await;
        let head = Head::of(chain(world, &account).await.last().unwrap());
        let (key, checkpoint) = made(world).await;
        assert_eq!(checkpoint.fault(), None);
        assert_eq!(checkpoint.heads.get(&account.parse().unwrap()), Some(&head), "it is over where the chain ends");
        let place = json!({ "Bucket": bucket(world), "Key": key });
        let lock = world.admin_call("s3", "GetObjectRetention", place).await["Retention"].clone();
        assert_eq!(lock["Mode"], "GOVERNANCE", "{lock}");
        let until: Timestamp = lock["RetainUntilDate"].as_str().unwrap().parse().unwrap();
        let days = (until.as_second() - Timestamp::now().as_second()) / 86_400;
        assert!((398..=400).contains(&days), "{until}");

        // Nothing happened, and that is told, too.
        let (_, second) = made(world).await;
        assert_eq!(follows(&checkpoint.statement, &second.statement), Ok(()));
        assert_eq!(second.statement.root, checkpoint.statement.root);

        let operator = world.operator().await;
        let (holds, report) = verify(world, &operator, &account).await;
        assert!(holds && report["Intact"] == true, "{report:#}");
        let auditor = world.person("pat", names::AUDITOR_ROLE).await;
        assert!(verify(world, &auditor, &account).await.0);
        let folder = tempfile::tempdir().unwrap();
        let before = folder.path().join("before");
        let export = ["audit", "export", "--account", &account, "--to", before.to_str().unwrap()];
        let output = world.redress_as(&operator, &words(&export), &[]).await;
        assert!(output.status.success(), "{}", told(&output));
        let trusted = before.join("public-key.pem");
        let output = verify_files(&before, &trusted);
        assert!(output.status.success(), "{}", told(&output));
        assert!(checkpoint.heads.contains_key(&other.parse().unwrap()));
        for file in std::fs::read_dir(&before).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains(&other), "an export speaks of one account alone");
        }

        rewrite(world, &account).await;
        let (holds, report) = verify(world, &operator, &account).await;
        assert!(!holds, "{report:#}");
        let after = folder.path().join("after");
        let export = ["audit", "export", "--account", &account, "--to", after.to_str().unwrap()];
        let output = world.redress_as(&operator, &words(&export), &[]).await;
        assert!(output.status.success(), "what is broken can be handed out, too: {}", told(&output));
        let output = verify_files(&after, &trusted);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(verify_files(&before, &trusted).status.success(), "what was exported earlier holds");

        // The next one says so by itself, and is made.
        let (_, third) = made(world).await;
        assert_eq!(follows(&second.statement, &third.statement), Ok(()));
        let logs = || world.bed.lab.logs(names::CHECKPOINT_FUNCTION);
        let metric = |line: &String| line.contains("\"ChainsGoneBack\":1");
        world.eventually("it is told", async || logs().iter().any(metric).then_some(())).await;
        assert!(!verify(world, &operator, &account).await.0, "a newer checkpoint does not heal it");
    });
}

#[test]
fn a_checkpoint_that_was_stored_and_not_written_down_is_gone_on_after() {
    let world = the_world();
    world.run(async {
        let _turn = turn().await;
        made(world).await;
        let before = world.state_value("checkpoint").await.unwrap();
        let (key, orphan) = made(world).await;
        // As if the run had died between the object and the item.
        put(world, names::STATE_TABLE, &before).await;
        fixed(world, &world.member("orphan")).await;
        fire(world).await;
        let wanted = orphan.statement.number + 1;
        let newer = async || (number(world).await == wanted).then_some(());
        world.eventually("the run goes on after it", newer).await;
        assert_eq!((read(world, &key).await, versions(world, &key).await), (orphan.clone(), 1), "it stays as it was");
        let item = world.state_value("checkpoint").await.unwrap();
        let at = Timestamp::from_millisecond(item["At"].as_i64().unwrap()).unwrap();
        let next = read(world, &Checkpoint::key(wanted, at)).await;
        assert_eq!(follows(&orphan.statement, &next.statement), Ok(()));
    });
}

/// A role of the administrator account that may do everything, as far as its own policy can say so.
async fn almighty(world: &World) -> Credentials {
    const ROLE: &str = "Almighty";
    let admin = world.administrator();
    let root = json!({ "AWS": format!("arn:aws:iam::{admin}:root") });
    let document = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
    let trust = document(json!({ "Effect": "Allow", "Principal": root, "Action": "sts:AssumeRole" }));
    world.admin_call("iam", "CreateRole", json!({ "RoleName": ROLE, "AssumeRolePolicyDocument": trust })).await;
    let all = document(json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }));
    let policy = json!({ "RoleName": ROLE, "PolicyName": "all", "PolicyDocument": all });
    world.admin_call("iam", "PutRolePolicy", policy).await;
    world.assume(&Credentials::root(&admin), &format!("arn:aws:iam::{admin}:role/{ROLE}"), None).await
}

fn is_denied(answer: &Result<Value, AwsError>) -> bool {
    answer.as_ref().is_err_and(|error| error.code.starts_with("AccessDenied"))
}

#[test]
fn only_its_role_signs_and_writes_checkpoints_and_nobody_writes_over_or_deletes_one() {
    let world = the_world();
    world.run(async {
        let _turn = turn().await;
        let (key, checkpoint) = made(world).await;
        let place = |more: Value| {
            let mut place = json!({ "Bucket": bucket(world), "Key": key });
            place.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            place
        };
        let version = world.admin_call("s3", "GetObject", place(json!({}))).await["VersionId"].clone();
        let almighty = almighty(world).await;
        let asks = async |service: &str, operation: &str, parameters: Value| {
            world.bed.lab.aws().call(&almighty, world.region(), service, operation, parameters).await
        };
        // That it is let in at all.
        asks("s3", "GetObject", place(json!({}))).await.unwrap();
        let sign = json!({
            "KeyId": checkpoint.statement.key_arn, "Message": "x".repeat(32), "MessageType": "DIGEST",
            "SigningAlgorithm": "ECDSA_SHA_256",
        });
        let more = "checkpoints/2026/01/01/000000000001.json";
        for (service, operation, parameters) in [
            ("kms", "Sign", sign),
            ("s3", "PutObject", json!({ "Bucket": bucket(world), "Key": more, "Body": "{}", "IfNoneMatch": "*" })),
            ("s3", "PutObject", place(json!({ "Body": "{}" }))),
            ("s3", "DeleteObject", place(json!({}))),
            ("s3", "DeleteObject", place(json!({ "VersionId": version, "BypassGovernanceRetention": true }))),
        ] {
            let answer = asks(service, operation, parameters.clone()).await;
            assert!(is_denied(&answer), "{service}:{operation} {parameters}: {answer:?}");
        }
        // The account's root is above every policy in the lab: the lock alone holds it.
        let admin = world.administrator();
        let deleted = world.call(&admin, "s3", "DeleteObject", place(json!({ "VersionId": version }))).await;
        assert!(is_denied(&deleted), "the lock: {deleted:?}");
        assert_eq!(read(world, &key).await, checkpoint);

        // Roles that only their functions can take on.
        let policy = |answer: &Value| answer["Policy"].as_str().map(str::to_owned);
        let key_arn = checkpoint.statement.key_arn.clone();
        let asked = json!({ "KeyId": key_arn, "PolicyName": "default" });
        let of_key = policy(&world.admin_call("kms", "GetKeyPolicy", asked).await);
        let of_bucket = policy(&world.admin_call("s3", "GetBucketPolicy", json!({ "Bucket": bucket(world) })).await);
        assert!(of_key.is_some() && of_bucket.is_some());
        let object = format!("arn:aws:s3:::{}/{key}", bucket(world));
        let secure = ("aws:SecureTransport", "true");
        let once = ("s3:if-none-match", "*");
        for (role, action, resource, policy, context, allowed) in [
            (names::CHECKPOINT_ROLE, "kms:Sign", &key_arn, &of_key, vec![secure], true),
            (names::COMPLETION_ROLE, "kms:Sign", &key_arn, &of_key, vec![secure], false),
            (names::ORCHESTRATOR_ROLE, "kms:Sign", &key_arn, &of_key, vec![secure], false),
            (names::CHECKPOINT_ROLE, "s3:PutObject", &object, &of_bucket, vec![secure, once], true),
            (names::CHECKPOINT_ROLE, "s3:PutObject", &object, &of_bucket, vec![secure], false),
            (names::COMPLETION_ROLE, "s3:PutObject", &object, &of_bucket, vec![secure, once], false),
            (names::CHECKPOINT_ROLE, "s3:DeleteObject", &object, &of_bucket, vec![secure], false),
        ] {
            let context = context.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let supposed = Supposed {
                who: format!("arn:aws:sts::{admin}:assumed-role/{role}/somebody"),
                action: action.to_owned(),
                resource: resource.clone(),
                owner: admin.clone(),
                region: world.region().to_owned(),
                policy: policy.clone(),
                context: context.collect::<BTreeMap<_, _>>(),
            };
            assert_eq!(world.bed.lab.judge(&supposed).await.unwrap(), allowed, "{role} {action}: {supposed:?}");
        }
        let table = format!("arn:aws:dynamodb:{}:{admin}:table/{}", world.region(), names::AUDIT_TABLE);
        for action in ["dynamodb:PutItem", "dynamodb:Query"] {
            let supposed = Supposed {
                who: format!("arn:aws:sts::{admin}:assumed-role/{}/somebody", names::CHECKPOINT_ROLE),
                action: action.to_owned(),
                resource: table.clone(),
                owner: admin.clone(),
                region: world.region().to_owned(),
                policy: None,
                context: BTreeMap::new(),
            };
            assert!(!world.bed.lab.judge(&supposed).await.unwrap(), "who signs has no right in the ledger: {action}");
        }
    });
}

#[test]
fn a_run_that_cannot_believe_the_item_fails_and_is_kept_and_each_line_of_its_role_is_used() {
    let world = the_world();
    world.run(async {
        let _turn = turn().await;
        let admin = world.administrator();
        fixed(world, &world.member("used")).await;
        made(world).await;
        let good = world.state_value("checkpoint").await.unwrap();
        let mut bad = good.clone();
        bad["Sha256"] = json!("a".repeat(64));
        put(world, names::STATE_TABLE, &bad).await;
        let before = world.depth(names::CHECKPOINT_DLQ).await.0;
        fire(world).await;
        let kept = async || (world.depth(names::CHECKPOINT_DLQ).await.0 > before).then_some(());
        world.eventually("what failed three times is kept", kept).await;
        let asked = json!({ "QueueUrl": world.queue_url(names::CHECKPOINT_DLQ).await, "MaxNumberOfMessages": 10 });
        let letters = world.admin_call("sqs", "ReceiveMessage", asked).await.to_string();
        assert!(letters.contains("item `checkpoint` names checkpoint"), "{letters}");
        assert_eq!(world.state_value("checkpoint").await.unwrap()["Sha256"], bad["Sha256"], "nothing was made");
        put(world, names::STATE_TABLE, &good).await;
        made(world).await;

        let account = world.member("used");
        assert!(verify(world, &world.operator().await, &account).await.0);
        assert!(verify(world, &world.person("pat", names::AUDITOR_ROLE).await, &account).await.0);
        let used: BTreeSet<Used> = world.checks(0, true).into_iter().collect();
        let whole = world.role_policy(&admin, names::CHECKPOINT_ROLE, "checkpoint").await;
        let mut lines = grants(&admin, names::CHECKPOINT_ROLE, "checkpoint", &whole);
        // Logs are written from time to time, traces not at all in the lab.
        lines.retain(|line| !line.action.starts_with("logs:") && !line.action.starts_with("xray:"));
        assert_eq!(lines.len(), 8, "{lines:#?}");
        // What people need for it, which `least_privilege` and `approvals` leave to this.
        let people = world.grants(&admin, |role| [names::OPERATOR_ROLE, names::AUDITOR_ROLE].contains(&role)).await;
        let services = ["s3:", "kms:"];
        let theirs = people.into_iter().filter(|line| services.iter().any(|of| line.action.starts_with(of)));
        let lines: Vec<Grant> = lines.into_iter().chain(theirs).collect();
        assert_eq!(lines.len(), 8 + 6, "{lines:#?}");
        assert_eq!(unused(&lines, &used), Vec::<&Grant>::new(), "granted, and used by nothing");
        let own = |used: &Used| used.role == names::CHECKPOINT_ROLE;
        let refused: Vec<Used> = world.checks(0, false).into_iter().filter(own).collect();
        assert_eq!(refused, [], "refused although nothing is missing");
    });
}
