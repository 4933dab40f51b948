//! What happens to an outcome that meets what seldom is there, with the functions, tables and grants as deployed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_common::contract::Mode;
use redress_common::names;
use redress_tests::again::Met;
use redress_tests::ask::Target;
use redress_tests::world::{World, world};
use serde_json::{Value, json};

fn the_world() -> &'static World {
    world(&["waiting", "late"])
}

async fn fixed(world: &World, account: &str) -> (Target, redress_tests::ask::Ended) {
    let broken = world.break_only("missing-tags", account).await;
    let target = Target {
        account: account.to_owned(),
        control: broken.control.to_string(),
        arn: broken.resource_arn.to_string(),
    };
    let done = world.remediate(&target, Mode::Apply).await;
    assert_eq!(done.last()["ExecutionStatus"], "Verified", "{:?}", done.error());
    (target, done)
}

async fn item(world: &World, key: &str) -> Value {
    let asked = json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": key } }, "ConsistentRead": true });
    world.admin_call("dynamodb", "GetItem", asked).await["Item"].clone()
}

#[test]
fn an_outcome_closes_the_breaker_that_it_is_the_probe_of_and_gives_its_slot_to_what_waits() {
    let world = the_world();
    world.run(async {
        let account = world.member("waiting");
        let (target, done) = fixed(world, &account).await;
        world.comes_again(&target, &done, Met::Waiting).await;
        let flight = format!("flight#{account}#{}", world.region());
        let unmarked = async || (item(world, &flight).await["Waiting"]["BOOL"] == false).then_some(());
        world.eventually("nothing waits any more", unmarked).await;
        let breaker = item(world, &format!("breaker#control:{}", target.control)).await;
        assert!(breaker["OpenedAt"].is_null(), "{breaker}");
        let waiting = world.admin_call("dynamodb", "Scan", json!({ "TableName": names::BACKLOG_TABLE })).await;
        assert_eq!(waiting["Count"], 0, "{waiting}");
        world.drained(names::COMPLETIONS_QUEUE).await;
        assert!(world.denied().is_empty(), "{:#?}", world.denied());
    });
}

#[test]
fn defect_17_an_outcome_that_came_too_late_is_written_down_as_its_own() {
    let world = the_world();
    world.run(async {
        let account = world.member("late");
        let (target, done) = fixed(world, &account).await;
        world.comes_again(&target, &done, Met::Successor).await;
        let late = world
            .ledger_when(&account, "the late outcome", |record| !record["Detail"]["SupersededBy"].is_null())
            .await
            .into_iter()
            .rfind(|record| !record["Detail"]["SupersededBy"].is_null())
            .unwrap();
        assert_eq!(late["RemediationId"], *done.id);
        for field in ["FindingId", "ResourceId", "RemediationType", "RemediationAction"] {
            assert_eq!(late[field], done.last()[field], "{field}");
        }
        assert_eq!(late["Detail"]["EvidenceKey"], done.last()["Detail"]["EvidenceKey"]);
        assert_eq!(late["NotificationSent"], true);
        world.drained(names::COMPLETIONS_QUEUE).await;
    });
}
