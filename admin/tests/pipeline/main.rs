//! What the two functions do with real events, over a world in memory: claims, records, messages and calls.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod admission;
mod approvals;
mod endings;
mod loops;
mod machine;
mod reconcile;
mod samples;
mod storm;
mod watched;
mod world;

use jiff::{SignedDuration, Timestamp};
use redress_admin::completion::Completion;
use redress_admin::orchestrate::{Orchestrator, Retry};
use redress_common::aws::state_table::{
    CatalogueError, CatalogueItem, ClaimStatus, PolicySetName, Settings, StateKey, Switch,
};
use redress_common::catalogue::Catalogue;
use redress_common::contract::{Mode, Outcome, parameter};
use redress_common::ids::{ClaimKey, RemediationId};
use redress_common::ledger::detail;
use redress_common::state::State;
use world::{World, identity, mode, now, parameter as sent};

const IMPORT: &str = include_str!("../../../common/tests/fixtures/asff-bucket.json");
const SUPPRESSED: &str = include_str!("../../../common/tests/fixtures/asff-suppressed.json");
const CONFIG: &str = include_str!("../../../common/tests/fixtures/config-bucket.json");
const ASKED: &str = include_str!("../../../common/tests/fixtures/action-remediate.json");
/// A Region that is not home.
const THERE: &str = "eu-west-1";

fn standard() -> Settings {
    Settings { policy_set: PolicySetName::Standard, ..Settings::default() }
}

async fn take(world: &World, body: &str, at: Timestamp) -> Result<(), Retry> {
    Orchestrator::new(world, identity()).message(body, at).await
}

async fn complete(world: &World, body: &str, at: Timestamp) {
    Completion::new(world, identity()).message(body, at).await.unwrap();
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn bucket_key() -> ClaimKey {
    ClaimKey::new(
        &"111122223333".parse().unwrap(),
        &"eu-central-1".parse().unwrap(),
        &"S3.8".parse().unwrap(),
        &"arn:aws:s3:::payroll-exports".parse().unwrap(),
    )
}

fn claim_key() -> StateKey {
    StateKey::Claim(bucket_key())
}

fn undo_of(id: RemediationId, request: &str) -> String {
    serde_json::json!({
        "version": "0", "id": request, "detail-type": "Redress Undo Requested", "source": "redress",
        "account": "999988887777", "time": "2026-03-02T09:20:00Z", "region": "eu-central-1", "resources": [],
        "detail": {
            "RemediationId": id, "RequestId": request, "Reason": "too strict",
            "RequestedBy": "arn:aws:sts::999988887777:assumed-role/Admin/jo",
        },
    })
    .to_string()
}

fn dry_run_asked() -> String {
    ASKED.replace("RedressRemediate", "RedressDryRun")
}

fn generation(body: &str, millisecond: &str) -> String {
    body.replace("\"UpdatedAt\": \"2026-03-02T09:14:47.883Z\"", &format!("\"UpdatedAt\": \"{millisecond}\""))
}

#[tokio::test]
async fn a_finding_is_fixed_recorded_and_told_within_the_budget_of_ten_calls() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    // Two calls more, AssumeRole on either side, are behind `start` and `execution`, and kept for an hour.
    insta::assert_json_snapshot!(world.calls(), @r#"
    [
      "BatchGetItem",
      "Invoke",
      "TransactWriteItems",
      "StartAutomationExecution",
      "GetAutomationExecution",
      "BatchGetItem",
      "PutItem",
      "BatchUpdateFindings",
      "Publish",
      "TransactWriteItems"
    ]
    "#);
    assert_eq!(world.states(), [State::Planned, State::Claimed, State::Applied, State::Verified]);
    world.verify();
    let records = world.records();
    assert_eq!(records[0].detail(detail::POLICIES), Some("standard.act-on-reversible"));
    let last = records.last().unwrap();
    assert!(last.draft.notification_sent);
    assert_eq!(last.draft.execution_duration, 3000);
    assert_eq!(last.detail(detail::EVIDENCE_VERSION_ID), Some("v2"));
    assert_eq!(last.detail(detail::EVIDENCE_KEY), records[1].detail(detail::EVIDENCE_KEY));
    assert_eq!(last.detail(detail::FINDING_UPDATE), Some("RESOLVED"));
    assert_eq!(world.told()[0].status, "Success");
    assert!(world.updates()[0].resolved && world.updates()[0].note.contains(&last.draft.remediation_id.to_string()));
}

#[tokio::test]
async fn the_start_binds_account_region_roles_and_client_token() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let (place, start) = world.started()[0].clone();
    assert_eq!((place.account.as_str(), place.region.as_str()), ("111122223333", "eu-central-1"));
    assert_eq!(sent(&start, parameter::REMEDIATION_ID), start.id.to_string());
    insta::assert_json_snapshot!(start.parameters);
}

#[tokio::test]
async fn defect_04_a_repeated_start_carries_the_same_client_token() {
    let world = World::new(&standard());
    world.fail_start(true);
    take(&world, IMPORT, now()).await.unwrap_err();
    take(&world, IMPORT, later(360)).await.unwrap();
    take(&world, IMPORT, later(720)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    let ids: Vec<_> = world.records().iter().map(|record| record.draft.remediation_id).collect();
    assert!(ids.iter().all(|id| *id == world.started()[0].1.id));
}

#[tokio::test]
async fn a_duplicate_costs_one_call_and_changes_nothing() {
    let world = World::new(&standard());
    let orchestrator = Orchestrator::new(&world, identity());
    orchestrator.message(IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    let before = (world.records(), world.told());
    world.calls();
    for _ in 0..100 {
        orchestrator.message(IMPORT, later(4)).await.unwrap();
    }
    assert_eq!(world.calls(), vec!["BatchGetItem"; 100]);
    assert_eq!((world.records(), world.told()), before);
}

#[tokio::test]
async fn the_same_event_at_a_hundred_workers_at_once_is_one_start() {
    let world: &'static World = Box::leak(Box::new(World::new(&standard())));
    let workers: Vec<_> = (0..100).map(|_| tokio::spawn(take(world, IMPORT, now()))).collect();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    assert_eq!(world.calls().iter().filter(|call| **call == "StartAutomationExecution").count(), 1);
    assert_eq!(world.states(), [State::Planned, State::Claimed]);
    world.verify();
}

#[tokio::test]
async fn the_same_event_at_a_hundred_workers_at_once_is_one_message() {
    let world: &'static World = Box::leak(Box::new(World::new(&Settings::default())));
    let workers: Vec<_> = (0..100).map(|_| tokio::spawn(take(world, IMPORT, now()))).collect();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    assert_eq!(world.told().len(), 1);
    assert_eq!(world.states(), [State::Planned, State::Notified]);
    assert!(world.records()[1].draft.notification_sent);
}

#[tokio::test]
async fn defect_01_a_failed_start_releases_the_claim_and_says_so() {
    let world = World::new(&standard());
    world.fail_start(false);
    take(&world, IMPORT, now()).await.unwrap();
    assert_eq!(world.states(), [State::Planned, State::Claimed, State::Failed]);
    assert_eq!(world.claim(&claim_key()).unwrap().status, ClaimStatus::Released);
    assert_eq!(world.told()[0].status, "Failed");
    assert_eq!(world.dead(), ["start-failed"], "it can be sent again once the cause is mended");
    take(&world, IMPORT, later(1)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    world.verify();
}

#[tokio::test]
async fn a_throttled_start_is_brought_again_by_the_queue_and_nobody_is_alarmed() {
    let world = World::new(&standard());
    world.fail_start(true);
    assert!(matches!(take(&world, IMPORT, now()).await, Err(Retry::Start(_))));
    assert_eq!(world.states(), [State::Planned, State::Claimed, State::Planned]);
    assert!(world.told().is_empty() && world.dead().is_empty());
    take(&world, IMPORT, later(1)).await.unwrap();
    assert_eq!(world.started().len(), 1);
}

#[tokio::test]
async fn a_worker_that_died_after_its_claim_is_succeeded_after_the_lease() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let first = world.claim(&claim_key()).unwrap();
    take(&world, IMPORT, later(299)).await.unwrap();
    assert_eq!(world.claim(&claim_key()).unwrap(), first);
    take(&world, IMPORT, later(300)).await.unwrap();
    let second = world.claim(&claim_key()).unwrap();
    assert_eq!((second.fence.0, second.remediation_id), (first.fence.0 + 1, first.remediation_id));
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(301)).await;
    assert_eq!(world.states().last(), Some(&State::Verified), "the first start's outcome is the second's");
}

#[tokio::test]
async fn defect_17_an_outcome_that_comes_too_late_changes_neither_claim_nor_finding() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let (place, old) = world.started()[0].clone();
    let newer = generation(IMPORT, "2026-03-02T09:25:00.000Z");
    take(&world, &newer, later(900)).await.unwrap();
    assert_eq!((world.started().len(), world.in_backlog().len()), (1, 1), "the runbook may still run");
    take(&world, &newer, later(1200)).await.unwrap();
    let successor = world.claim(&claim_key()).unwrap();
    assert_ne!(successor.remediation_id, old.id);
    let event = world.end_of(&place, &old, Some(Outcome::Verified));
    for _ in 0..2 {
        complete(&world, &event, later(1201)).await;
    }
    assert_eq!(world.claim(&claim_key()).unwrap(), successor);
    assert!(world.updates().is_empty());
    let late: Vec<_> = world.records().into_iter().filter(|r| r.draft.remediation_id == old.id).collect();
    assert_eq!(
        late.iter().filter(|r| r.draft.execution_status == State::Verified).count(),
        1,
        "it is written down, once"
    );
    let told = world.told();
    assert_eq!(told.iter().filter(|message| message.remediation_id == old.id.to_string()).count(), 1, "and told, once");
    assert!(late.last().unwrap().draft.notification_sent);
    assert_eq!(late.last().unwrap().detail(detail::SUPERSEDED_BY), Some(successor.remediation_id.to_string().as_str()));
    world.verify();
}

#[tokio::test]
async fn a_finding_made_between_the_last_look_and_a_late_outcome_is_not_lost() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    world.saw(later(2));
    complete(&world, &event, later(400)).await;
    let seen = world.claim(&claim_key()).unwrap().generation.0;
    assert_eq!(seen, later(2).as_millisecond(), "only what was made before the last look is dealt with");
}

#[tokio::test]
async fn a_request_for_an_undo_from_a_member_account_is_refused() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    let id = world.started()[0].1.id;
    let forged = undo_of(id, "r").replace("999988887777", "111122223333");
    take(&world, &forged, later(10)).await.unwrap();
    assert_eq!((world.started().len(), world.dead()), (1, vec!["account-mismatch".to_owned()]));
    world.verify();
}

#[tokio::test]
async fn an_outcome_that_comes_twice_is_recorded_once() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    for _ in 0..5 {
        complete(&world, &event, later(3)).await;
    }
    assert_eq!((world.records().len(), world.told().len(), world.updates().len()), (4, 1, 1));
}

#[tokio::test]
async fn config_and_security_hub_that_report_the_same_failure_are_one_remediation() {
    let world = World::new(&standard());
    take(&world, CONFIG, now()).await.unwrap();
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    take(&world, IMPORT, later(4)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    assert!(world.updates().is_empty(), "the finding that is worked on is Config's");
}

/// As the administrator's account in the aggregation Region tells of a linked Region's finding: the envelope is of the
/// one, the finding of the other.
fn aggregated(body: &str) -> String {
    let (envelope, detail) = body.split_once("\"detail\":").unwrap();
    format!("{envelope}\"detail\":{}", detail.replace("eu-central-1", THERE))
}

#[tokio::test]
async fn a_failure_told_in_its_own_and_in_the_aggregation_region_is_one_remediation_in_its_own() {
    let own = CONFIG.replace("eu-central-1", THERE);
    let aggregated = aggregated(&generation(IMPORT, "2026-03-02T09:15:02.917Z"));
    for (first, second, updates) in [(&own, &aggregated, 0), (&aggregated, &own, 1)] {
        let world = World::new(&standard());
        take(&world, first, now()).await.unwrap();
        take(&world, second, now()).await.unwrap();
        let event = world.end(Some(Outcome::Verified));
        complete(&world, &event, later(3)).await;
        for again in [first, second] {
            take(&world, again, later(4)).await.unwrap();
        }
        let started = world.started();
        let places: Vec<&str> = started.iter().map(|(place, _)| place.region.as_str()).collect();
        assert_eq!((places.as_slice(), world.in_backlog().len()), (&[THERE][..], 0));
        // By id and product: Security Hub takes it in the home Region, where it aggregates.
        let updated = world.updates();
        assert_eq!(updated.len(), updates);
        assert!(updated.iter().all(|update| update.resolved && update.product_arn.as_str().contains(THERE)));
        world.verify();
    }
}

#[tokio::test]
async fn a_custom_action_in_the_aggregation_region_is_done_in_the_findings_own() {
    let world = World::new(&standard());
    take(&world, &aggregated(ASKED), now()).await.unwrap();
    let started = world.started();
    assert_eq!(started.iter().map(|(place, _)| place.region.as_str()).collect::<Vec<_>>(), [THERE]);
}

#[tokio::test]
async fn defect_02_a_remediation_that_succeeded_does_not_start_again_from_any_memory() {
    let world = World::new(&standard());
    let (warm, other) = (Orchestrator::new(&world, identity()), Orchestrator::new(&world, identity()));
    warm.message(IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    warm.message(IMPORT, later(4)).await.unwrap();
    other.message(IMPORT, later(4)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    // Broken again afterwards: that is news, also to the one that remembers.
    warm.message(&generation(IMPORT, "2026-03-02T09:16:00.000Z"), later(60)).await.unwrap();
    assert_eq!(world.started().len(), 2);
}

#[tokio::test]
async fn the_switch_takes_effect_with_the_next_message_of_a_warm_function() {
    let world = World::new(&standard());
    let orchestrator = Orchestrator::new(&world, identity());
    orchestrator.message(CONFIG, now()).await.unwrap();
    let event = world.end(Some(Outcome::Failed));
    complete(&world, &event, later(1)).await;
    world.put(&StateKey::Settings, &Settings { switch: Switch::Off, ..standard() });
    orchestrator.message(&generation(IMPORT, "2026-03-02T09:16:00.000Z"), later(60)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    assert_eq!(world.records().last().unwrap().detail(detail::CODE), Some("switched-off"));
}

#[tokio::test]
async fn defect_08_without_settings_or_with_damaged_ones_nothing_is_changed() {
    let world = World::new(&standard());
    world.take_away(&StateKey::Settings);
    take(&world, IMPORT, now()).await.unwrap();
    world.put(&StateKey::Settings, &serde_json::json!({ "PolicySet": "everything", "Switch": "on" }));
    take(&world, &generation(IMPORT, "2026-03-02T09:16:00.000Z"), later(60)).await.unwrap();
    assert!(world.started().is_empty());
    assert_eq!(world.told().len(), 2);
    assert_eq!(world.records().last().unwrap().detail(detail::CODE), Some("settings-unreadable"));
}

#[tokio::test]
async fn without_a_catalogue_the_message_waits_in_the_queue() {
    let world = World::new(&standard());
    world.take_away(&StateKey::Catalogue);
    assert!(matches!(take(&world, IMPORT, now()).await, Err(Retry::Catalogue(_))));
    assert!(world.records().is_empty());
}

/// A process that has a catalogue at hand looks at every byte that is not the same.
#[tokio::test]
async fn a_catalogue_that_changed_is_read_and_one_that_was_tampered_with_is_refused() {
    let world = World::new(&standard());
    let orchestrator = Orchestrator::new(&world, identity());
    orchestrator.message(IMPORT, now()).await.unwrap();
    orchestrator.message(IMPORT, later(70)).await.unwrap();
    assert_eq!(world.started().len(), 1);

    let stored: Catalogue = serde_json::from_str(include_str!("../../../ssm-documents/catalogue.json")).unwrap();
    let mut tampered = CatalogueItem::of(&stored).unwrap();
    tampered.catalogue.push(' ');
    world.put(&StateKey::Catalogue, &tampered);
    let newer = generation(IMPORT, "2026-03-02T09:16:00.000Z");
    let refused = orchestrator.message(&newer, later(140)).await;
    assert!(matches!(refused, Err(Retry::Catalogue(CatalogueError::Hash))), "{refused:?}");

    world.put(&StateKey::Catalogue, &CatalogueItem::of(&Catalogue::default()).unwrap());
    orchestrator.message(&newer, later(210)).await.unwrap();
    assert_eq!(world.started().len(), 1, "it knows no control any more");
}

#[tokio::test]
async fn defect_09_a_custom_action_is_done_once_and_not_beside_a_remediation_under_way() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    for _ in 0..3 {
        take(&world, ASKED, later(1)).await.unwrap();
    }
    assert_eq!(world.started().len(), 1);
    assert_eq!(world.told().len(), 1, "who asked is told why it is not done, once");
    assert_eq!(world.records().last().unwrap().detail(detail::CODE), Some("in-progress"));
    world.verify();
}

#[tokio::test]
async fn defect_14_a_suppressed_finding_is_recorded_and_left_alone() {
    let world = World::new(&standard());
    take(&world, SUPPRESSED, now()).await.unwrap();
    take(&world, SUPPRESSED, now()).await.unwrap();
    assert!(world.started().is_empty() && world.told().is_empty());
    assert_eq!(world.states(), [State::Ignored]);
}

#[tokio::test]
async fn defect_18_a_failed_remediation_stays_on_record_and_is_not_run_again_by_the_same_event() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(None);
    complete(&world, &event, later(3)).await;
    take(&world, IMPORT, later(4)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    assert_eq!(world.states(), [State::Planned, State::Claimed, State::Failed]);
    assert!(!world.updates()[0].resolved);
    assert!(world.records()[2].draft.error_message.contains("without an outcome"));
}

#[tokio::test]
async fn defect_25_every_step_of_a_remediation_is_a_record_that_stays() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let claimed = world.records();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    assert_eq!(world.records()[..2], claimed[..]);
    assert_eq!(world.records().len(), 4);
}

#[tokio::test]
async fn a_resource_that_fails_again_and_again_goes_to_a_human() {
    let world = World::new(&standard());
    for round in 0..4 {
        let at = later(round * 600);
        take(&world, &generation(IMPORT, &at.to_string()), at).await.unwrap();
        let event = world.end(Some(Outcome::Verified));
        complete(&world, &event, at + SignedDuration::from_secs(2)).await;
    }
    assert_eq!(world.started().len(), 3);
    assert_eq!(world.records().last().unwrap().detail(detail::CODE), Some("flapping"));
}

#[tokio::test]
async fn a_dry_run_neither_blocks_nor_is_blocked() {
    let world = World::new(&standard());
    take(&world, &dry_run_asked(), now()).await.unwrap();
    take(&world, IMPORT, now()).await.unwrap();
    take(&world, &dry_run_asked(), now()).await.unwrap();
    let modes: Vec<_> = world.started().iter().map(|(_, start)| mode(start)).collect();
    assert_eq!(modes, [Some(Mode::DryRun), Some(Mode::Apply)]);
    let (place, dry) = world.started()[0].clone();
    let event = world.end_of(&place, &dry, Some(Outcome::Planned));
    complete(&world, &event, later(2)).await;
    let last = world.records().last().unwrap().clone();
    assert_eq!((last.draft.execution_status, last.detail(detail::OUTCOME)), (State::Notified, Some("Planned")));
    assert!(world.updates().is_empty(), "a dry run says nothing of the finding");
    assert_eq!(world.claim(&claim_key()).unwrap().status, ClaimStatus::Leased);
}

#[tokio::test]
async fn an_undo_puts_back_records_both_and_holds_the_resource() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let original = world.started()[0].1.clone();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;

    for _ in 0..2 {
        take(&world, &undo_of(original.id, "request-1"), later(300)).await.unwrap();
    }
    assert_eq!(world.started().len(), 2, "the same request is one undo");
    let undo = world.started()[1].1.clone();
    let planned = world.records().into_iter().find(|record| record.draft.remediation_id == undo.id).unwrap();
    assert_eq!(planned.detail(detail::REASON), Some("too strict"));
    assert_eq!(planned.detail(detail::REQUESTED_BY), Some("arn:aws:sts::999988887777:assumed-role/Admin/jo"));
    assert_eq!(mode(&undo), Some(Mode::Restore));
    assert_eq!(sent(&undo, parameter::SOURCE_EVIDENCE_KEY), sent(&original, parameter::EVIDENCE_KEY));
    assert_ne!(sent(&undo, parameter::EVIDENCE_KEY), sent(&original, parameter::EVIDENCE_KEY));
    let event = world.end(Some(Outcome::Restored));
    complete(&world, &event, later(303)).await;

    let rolled_back: Vec<_> = world
        .records()
        .iter()
        .filter(|record| record.draft.execution_status == State::RolledBack)
        .map(|record| record.draft.remediation_id)
        .collect();
    assert_eq!(rolled_back, [undo.id, original.id]);
    assert!(world.claim(&claim_key()).unwrap().held);

    // The next finding is told of only; a person may ask for the fix.
    take(&world, &generation(IMPORT, "2026-03-02T09:30:00.000Z"), later(1000)).await.unwrap();
    assert_eq!(world.records().last().unwrap().detail(detail::CODE), Some("held"));
    take(&world, ASKED, later(1001)).await.unwrap();
    assert_eq!(world.started().len(), 3);

    take(&world, &undo_of(original.id, "request-2"), later(1002)).await.unwrap();
    assert_eq!(world.started().len(), 3);
    assert!(world.records().last().unwrap().draft.error_message.contains("undone already"));
    world.verify();
}

#[tokio::test]
async fn the_custom_action_undo_finds_the_last_remediation_of_the_resource() {
    let world = World::new(&standard());
    let undo = ASKED.replace("RedressRemediate", "RedressUndo");
    take(&world, &undo, now()).await.unwrap();
    assert!(world.records().last().unwrap().draft.error_message.contains("nothing that Redress did"));
    take(&world, IMPORT, later(1)).await.unwrap();
    let original = world.started()[0].1.id;
    let event = world.end(Some(Outcome::Unverified));
    complete(&world, &event, later(3)).await;
    take(&world, &undo.replace("09:15:04Z", "09:16:04Z"), later(60)).await.unwrap();
    assert_eq!(world.started().len(), 2);
    assert_eq!(world.claim(&claim_key()).unwrap().undoes, Some(original));
}

#[tokio::test]
async fn an_escalation_is_told_as_urgent_once_a_press_whatever_is_set() {
    let world = World::new(&Settings { switch: Switch::Off, ..standard() });
    // No control answers to it, and none has to.
    let pressed = ASKED.replace("RedressRemediate", "RedressEscalate").replace("S3.8", "Macie.99");
    for _ in 0..3 {
        take(&world, &pressed, now()).await.unwrap();
    }
    assert_eq!((world.states(), world.urgent()), (vec![State::Planned, State::Notified], vec![true]));
    assert!(world.told()[0].next_step.as_deref().unwrap().contains("escalated"));
    let last = world.records().last().unwrap().clone();
    assert_eq!((last.detail(detail::CODE), last.origin.as_str()), (Some("escalated"), "111122223333"));
    assert!(last.draft.notification_sent && last.is_of_incident());
    assert!(world.started().is_empty() && world.dead().is_empty() && world.claim(&claim_key()).is_none());
    take(&world, &pressed.replace("09:15:04Z", "09:16:04Z"), later(60)).await.unwrap();
    assert_eq!(world.urgent(), [true, true], "pressed again is told again");
    world.verify();
}

#[tokio::test]
async fn an_undo_of_what_nobody_did_is_refused_with_a_record() {
    let world = World::new(&standard());
    let nobody = RemediationId::of_rejected(b"nobody");
    take(&world, &undo_of(nobody, "r"), now()).await.unwrap();
    assert_eq!(world.dead(), ["not-undoable"]);
    assert_eq!(world.told()[0].status, "Failed");
    assert_eq!(world.records()[0].origin, identity().account);
}

#[tokio::test]
async fn what_cannot_be_read_is_recorded_told_and_kept_once() {
    let world = World::new(&standard());
    for body in ["", "{", "[1]", "{\"source\":\"aws.nothing\",\"detail-type\":\"x\"}"] {
        for _ in 0..3 {
            take(&world, body, now()).await.unwrap();
        }
    }
    assert_eq!((world.dead().len(), world.told().len()), (4, 4));
    assert_eq!(world.states().iter().filter(|state| **state == State::Failed).count(), 4);
    world.verify();
}

#[tokio::test]
async fn a_check_without_a_control_is_counted_for_a_rule_and_answered_for_a_person() {
    let world = World::new(&standard());
    take(&world, &IMPORT.replace("S3.8", "S3.99"), now()).await.unwrap();
    assert!(world.records().is_empty() && world.told().is_empty());
    take(&world, &ASKED.replace("S3.8", "S3.99"), now()).await.unwrap();
    assert_eq!(world.dead(), ["unknown-control"]);
    assert_eq!(world.records()[0].origin.as_str(), "111122223333");
}

#[tokio::test]
async fn a_message_that_could_not_be_sent_is_not_claimed_to_have_been() {
    let world = World::new(&standard());
    world.fail_publish();
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    assert!(!world.records().last().unwrap().draft.notification_sent);
    assert_eq!(world.states().last(), Some(&State::Verified));
    assert_eq!(world.in_backlog().len(), 1, "it waits for the reconciler");
}

#[tokio::test]
async fn events_that_are_not_the_end_of_a_control_runbook_cost_no_call() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    world.calls();
    for other in [event.replace("Redress-Control", "Redress-S3.8"), event.replace("\"Success\"", "\"InProgress\"")] {
        complete(&world, &other, later(3)).await;
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn an_execution_that_a_member_started_by_itself_changes_nothing_here() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let (mut place, start) = world.started()[0].clone();
    // Another account runs the runbook with our remediation's parameters.
    place.account = "444455556666".parse().unwrap();
    let event = world.end_of(&place, &start, Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    assert_eq!(world.states(), [State::Planned, State::Claimed]);
    assert!(world.updates().is_empty() && world.told().is_empty());
}
