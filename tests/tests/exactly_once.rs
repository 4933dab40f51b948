//! At least once in, exactly once in effect: whatever comes twice, a hundred times or at once is one change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use jiff::Timestamp;
use redress_common::contract::Mode;
use redress_common::names;
use redress_tests::ask::Target;
use redress_tests::raw::{asff, config_event, security_hub_event};
use redress_tests::world::{World, world};
use serde_json::{Value, json};

fn the_world() -> &'static World {
    world(&["hundred", "bus", "two-findings", "action", "token", "redelivery"])
}

async fn bucket(world: &World, account: &str) -> Target {
    let broken = world.break_only("public-bucket", account).await;
    Target { account: account.to_owned(), control: "S3.8".to_owned(), arn: broken.resource_arn.to_string() }
}

fn name(target: &Target) -> &str {
    target.arn.rsplit(':').next().unwrap()
}

/// Calls of an operation in the account of a target since a mark.
fn calls(world: &World, account: &str, mark: u64, operation: &str) -> usize {
    let calls = world.bed.lab.record().calls_since(mark);
    calls.iter().filter(|call| call.account == account && call.operation == operation && call.status < 400).count()
}

fn executions(world: &World, target: &Target, document: &str) -> usize {
    let all = world.bed.ssm.executions();
    let all = all.iter().map(|execution| serde_json::to_value(execution).unwrap());
    all.filter(|one| one["document"] == document && one["parameters"]["ResourceArn"][0] == *target.arn).count()
}

/// One change, and everything that proves it.
async fn one_change(world: &World, target: &Target, mark: u64) {
    let records: Vec<Value> =
        world.ledger(&target.account).await.into_iter().filter(|record| record["ResourceId"] == *target.arn).collect();
    let states: Vec<&str> = records.iter().filter_map(|record| record["ExecutionStatus"].as_str()).collect();
    assert_eq!(states, ["Planned", "Claimed", "Applied", "Verified"], "one claim");
    assert_eq!(executions(world, target, names::CONTROL_DOCUMENT), 1, "one execution");
    assert_eq!(executions(world, target, "Redress-S3.8"), 1, "one nested execution");
    let changes = world.changes_since(&target.account, mark);
    assert_eq!(changes, ["PutPublicAccessBlock"], "one mutating call");
    assert_eq!(
        calls(world, &target.account, mark, "StartAutomationExecution"),
        2,
        "one start, and one of the nested runbook"
    );
}

#[test]
fn the_same_message_a_hundred_times_is_one_change() {
    let world = the_world();
    world.run(async {
        let target = bucket(world, &world.member("hundred")).await;
        let event = config_event(&target.account, world.region(), name(&target), Timestamp::now()).to_string();
        let mark = world.bed.lab.record().mark();
        let url = world.queue_url(names::FINDINGS_QUEUE).await;
        for batch in 0..10 {
            let entries: Vec<Value> =
                (0..10).map(|nth| json!({ "Id": format!("{batch}-{nth}"), "MessageBody": event })).collect();
            world.admin_call("sqs", "SendMessageBatch", json!({ "QueueUrl": url, "Entries": entries })).await;
        }
        world.comes_to(&target.account, &target.arn, "Verified").await;
        // After the outcome too.
        for _ in 0..10 {
            world.send_raw(&event).await;
        }
        world.drained(names::FINDINGS_QUEUE).await;
        world.drained(names::COMPLETIONS_QUEUE).await;
        one_change(world, &target, mark).await;

        let records = world.ledger(&target.account).await;
        assert_eq!(records.len(), 4, "a duplicate leaves no record");
    });
}

#[test]
fn the_same_event_a_hundred_times_on_the_bus_is_one_change() {
    let world = the_world();
    world.run(async {
        let target = bucket(world, &world.member("bus")).await;
        let mark = world.bed.lab.record().mark();
        let event = config_event(&target.account, world.region(), name(&target), Timestamp::now());
        for _ in 0..100 {
            let aws = world.bed.lab.aws();
            aws.emit(
                &target.account,
                world.region(),
                "aws.config",
                "Config Rules Compliance Change",
                vec![],
                event["detail"].clone(),
            )
            .await;
        }
        world.comes_to(&target.account, &target.arn, "Verified").await;
        let delivered = || {
            let sent = world.bed.lab.record().deliveries();
            sent.iter().filter(|sent| sent.rule_arn.ends_with("/redress-config") && sent.error.is_none()).count()
        };
        world.eventually("all hundred reach the queue", async || (delivered() >= 100).then_some(())).await;
        world.drained(names::FINDINGS_QUEUE).await;
        one_change(world, &target, mark).await;
    });
}

#[test]
fn two_findings_of_one_resource_and_control_at_once_are_one_change() {
    let world = the_world();
    world.run(async {
        let target = bucket(world, &world.member("two-findings")).await;
        let mark = world.bed.lab.record().mark();
        let now = Timestamp::now();
        let config = config_event(&target.account, world.region(), name(&target), now).to_string();
        let finding = asff(&target.account, world.region(), &target.arn, now);
        let import = security_hub_event(&target.account, world.region(), &[finding], None).to_string();
        tokio::join!(world.send_raw(&config), world.send_raw(&import));
        world.comes_to(&target.account, &target.arn, "Verified").await;
        world.drained(names::COMPLETIONS_QUEUE).await;
        one_change(world, &target, mark).await;
    });
}

#[test]
fn a_message_that_the_queue_brings_again_is_one_change() {
    let world = the_world();
    world.run(async {
        let target = bucket(world, &world.member("redelivery")).await;
        let mark = world.bed.lab.record().mark();
        let event = config_event(&target.account, world.region(), name(&target), Timestamp::now()).to_string();
        // As after a visibility timeout: the first delivery is still being worked on when the second comes.
        world.send_raw(&event).await;
        world.comes_to(&target.account, &target.arn, "Claimed").await;
        world.send_raw(&event).await;
        world.comes_to(&target.account, &target.arn, "Verified").await;
        world.send_raw(&event).await;
        world.drained(names::FINDINGS_QUEUE).await;
        one_change(world, &target, mark).await;
    });
}

#[test]
fn defect_09_a_custom_action_and_the_import_of_one_finding_are_one_change() {
    let world = the_world();
    world.run(async {
        let target = bucket(world, &world.member("action")).await;
        let mark = world.bed.lab.record().mark();
        let admin = world.administrator();
        let finding = asff(&target.account, world.region(), &target.arn, Timestamp::now());
        let import =
            security_hub_event(&target.account, world.region(), std::slice::from_ref(&finding), None).to_string();
        let action = security_hub_event(&admin, world.region(), &[finding], Some(names::ACTION_REMEDIATE)).to_string();
        for message in [&import, &action, &action, &import] {
            world.send_raw(message).await;
        }
        world.comes_to(&target.account, &target.arn, "Verified").await;
        world.drained(names::FINDINGS_QUEUE).await;
        world.drained(names::COMPLETIONS_QUEUE).await;
        assert_eq!(world.changes_since(&target.account, mark), ["PutPublicAccessBlock"], "one mutating call");
        let records = world.ledger(&target.account).await;
        let of = |status: &str| {
            records
                .iter()
                .filter(|record| record["ResourceId"] == *target.arn && record["ExecutionStatus"] == status)
                .count()
        };
        // A person who asks gets an answer: the change, or that there is nothing to do, or that it is under way.
        assert!(of("Applied") == 1 && of("Failed") == 0, "{records:#?}");
        assert!(of("Verified") + of("Notified") <= 2, "the action counted once: {records:#?}");
    });
}

#[test]
fn defect_04_a_start_that_is_repeated_with_its_token_is_the_first_start() {
    let world = the_world();
    world.run(async {
        let target = bucket(world, &world.member("token")).await;
        let done = world.remediate(&target, Mode::Apply).await;
        let calls = world.bed.ssm.executions();
        let all: Vec<Value> = calls.iter().map(|execution| serde_json::to_value(execution).unwrap()).collect();
        let first = all.iter().find(|one| one["document"] == names::CONTROL_DOCUMENT && one["parameters"]["RemediationId"][0] == *done.id);
        let first = first.unwrap();
        // The answer of the first start was lost, and its caller asks again.
        let again = json!({ "DocumentName": names::CONTROL_DOCUMENT, "ClientToken": done.id, "Parameters": first["parameters"] });
        let answer = world.call(&target.account, "ssm", "StartAutomationExecution", again).await;
        match answer {
            Ok(answer) => assert_eq!(answer["AutomationExecutionId"], first["id"]),
            Err(error) => assert_eq!(error.code, "IdempotentParameterMismatch", "{error}"),
        }
        assert_eq!(executions(world, &target, names::CONTROL_DOCUMENT), 1);
    });
}
