//! The reconciler, over the world in memory.

use redress_admin::ports::Waiting;
use redress_admin::reconcile::{Counts, Reconciler, Unfinished};
use redress_common::finding::{Inbound, parse, released};
use redress_common::items::breaker::{Breaker, BreakerScope};
use redress_common::items::campaign::Campaign;
use redress_common::items::reconciler::Progress;
use serde_json::Value;

use super::*;

async fn reconcile(world: &World, at: Timestamp) -> Result<Counts, Unfinished> {
    Reconciler::new(world, identity()).run(at).await
}

fn progress(world: &World) -> Progress {
    world.snapshot(&[StateKey::Reconciler]).progress().unwrap()
}

/// Security Hub's finding of IMPORT.
fn imported() -> Value {
    let event: Value = serde_json::from_str(IMPORT).unwrap();
    event["detail"]["findings"][0].clone()
}

#[tokio::test]
async fn a_run_that_dies_in_a_part_keeps_no_other_from_its_work_for_longer_than_that_run() {
    let world = World::new(&standard());
    world.watched(|watched| {
        watched.findings.push(imported());
        watched.dies_in = Some("GetFindings");
    });
    tokio::time::timeout(std::time::Duration::from_millis(50), reconcile(&world, later(600))).await.unwrap_err();
    assert_eq!(progress(&world).begun, "findings");
    assert!(progress(&world).known.is_empty(), "what comes after it was not done");

    // It dies there again: now all else is done before.
    world.watched(|watched| watched.dies_in = Some("GetFindings"));
    tokio::time::timeout(std::time::Duration::from_millis(50), reconcile(&world, later(660))).await.unwrap_err();
    let after = progress(&world);
    assert_eq!((after.begun.as_str(), after.watched_at), ("findings", later(660).as_millisecond()));
    assert!(world.watched(|watched| watched.sent.is_empty()));

    reconcile(&world, later(720)).await.unwrap();
    assert_eq!(world.watched(|watched| watched.sent.len()), 1, "the cause is gone: it is brought");
    assert_eq!(progress(&world).begun, "");
}

#[tokio::test]
async fn what_could_not_be_read_is_no_baseline() {
    let world = World::new(&standard());
    reconcile(&world, later(600)).await.unwrap();
    let before = progress(&world);
    world.put(&StateKey::Settings, &Settings { version: 9, ..standard() });
    world.watched(|watched| watched.progress_unreadable = true);
    reconcile(&world, later(1500)).await.unwrap_err();
    world.watched(|watched| watched.progress_unreadable = false);
    assert_eq!(progress(&world), before, "what is known is kept");
    let counts = reconcile(&world, later(2400)).await.unwrap();
    assert_eq!(counts.done.get("changed-by-hand"), Some(&1));
}

#[tokio::test]
async fn a_campaign_releases_nothing_to_an_account_whose_breaker_is_open_and_makes_good_for_it_later() {
    let world = World::new(&standard());
    let item = serde_json::json!({
        "Version": 1, "Name": "old", "Status": "Running", "Control": "S3.8", "Accounts": [], "PerHour": 4, "Planned": 4,
        "Released": 0, "ReleasedAt": now().as_millisecond(), "CreatedBy": "", "CreatedAt": now(), "Reason": "",
    });
    let campaign: Campaign = serde_json::from_value(item).unwrap();
    let key = StateKey::Campaign("old".to_owned());
    world.put(&key, &campaign);
    let other = IMPORT.replace("111122223333", "444455556666");
    for (nth, event) in [IMPORT, IMPORT, &other, &other].into_iter().enumerate() {
        let Ok(Inbound::Findings(findings)) = parse(event.as_bytes()) else { panic!() };
        let finding = findings.into_iter().next().unwrap().unwrap();
        let body = released(&identity().account, &identity().home, &finding, Some("old"), now());
        world.waits(&Waiting { place: campaign.place(), order: nth.to_string(), body, expires_at: i64::MAX });
    }
    let scope = BreakerScope::Account("111122223333".parse().unwrap());
    let open = Breaker { version: 1, opened_at: Some(1), probe_at: i64::MAX, ..Breaker::default() };
    world.put(&StateKey::Breaker(scope.clone()), &open);
    let stored = |world: &World| world.snapshot(std::slice::from_ref(&key)).campaign("old").unwrap().unwrap();

    reconcile(&world, later(2700)).await.unwrap();
    let back = world.take_brought_back();
    assert_eq!((back.len(), stored(&world).released), (2, 2), "three are due, and two may go");
    assert!(back.iter().all(|body| body.contains("444455556666")));

    world.put(&StateKey::Breaker(scope), &Breaker { version: 2, ..Breaker::default() });
    reconcile(&world, later(2701)).await.unwrap();
    assert_eq!((world.take_brought_back().len(), stored(&world).released), (1, 3), "what was due stays due");
}
