//! How remediations end: told once, recorded once, and everything that waits for the end comes to know of it.

use redress_admin::completion::{Completion, Retry};
use redress_admin::ports::{Place, Start, Waiting};
use redress_common::aws::state_table::Limits;
use redress_common::items::approval::Task;
use redress_common::items::breaker::{Breaker, BreakerScope, hour};
use redress_common::items::flight::Flight;
use redress_common::ledger::Record;

use super::*;

async fn try_complete(world: &World, body: &str, at: Timestamp) -> Result<(), Retry> {
    Completion::new(world, identity()).message(body, at).await
}

/// Longer than any lease.
const LEASE: i64 = 301;

fn flight_key() -> StateKey {
    StateKey::Flight("111122223333".parse().unwrap(), "eu-central-1".parse().unwrap())
}

fn of(world: &World, id: RemediationId) -> Vec<Record> {
    world.records().into_iter().filter(|record| record.draft.remediation_id == id).collect()
}

async fn started(world: &World) -> (Place, Start) {
    take(world, IMPORT, now()).await.unwrap();
    world.started().last().cloned().unwrap()
}

fn remediation(start: &Start) -> RemediationId {
    start.id
}

#[tokio::test]
async fn an_outcome_that_many_workers_have_at_once_is_told_once() {
    let world: &'static World = Box::leak(Box::new(World::new(&standard())));
    started(world).await;
    let event = world.end(Some(Outcome::Verified));
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let event = event.clone();
            tokio::spawn(async move { try_complete(world, &event, later(3)).await })
        })
        .collect();
    for worker in workers {
        let done = worker.await.unwrap();
        assert!(matches!(done, Ok(()) | Err(Retry::Ending(_))), "{done:?}");
    }
    complete(world, &event, later(4)).await;
    assert_eq!((world.told().len(), world.updates().len(), world.records().len()), (1, 1, 4));
    world.verify();
}

#[tokio::test]
async fn a_worker_that_dies_before_it_records_is_succeeded_after_its_lease_and_nothing_is_lost() {
    let world = World::new(&standard());
    started(&world).await;
    let event = world.end(Some(Outcome::Verified));
    world.fail_next("TransactWriteItems");
    assert!(matches!(try_complete(&world, &event, later(3)).await, Err(Retry::Append(_))));
    assert_eq!(world.states(), [State::Planned, State::Claimed]);
    assert!(matches!(try_complete(&world, &event, later(4)).await, Err(Retry::Ending(_))), "it may still live");
    // Neither the same finding nor another starts anything in between.
    take(&world, IMPORT, later(5)).await.unwrap();
    take(&world, &generation(IMPORT, "2026-03-02T09:15:10.000Z"), later(6)).await.unwrap();
    assert_eq!(world.in_backlog().len(), 1);
    complete(&world, &event, later(3 + LEASE)).await;
    assert_eq!(world.states(), [State::Planned, State::Claimed, State::Applied, State::Verified]);
    assert_eq!(world.brought_back().len(), 1);
    assert_eq!(world.told().len(), 2, "the one case in which people are told twice");
    assert_eq!(world.started().len(), 1);
    world.verify();
}

#[tokio::test]
async fn who_meets_another_writer_after_telling_does_not_tell_again() {
    let world = World::new(&standard());
    let (_, start) = started(&world).await;
    let flight = Flight::default().with(start.id, i64::MAX, 0);
    world.put(&flight_key(), &flight);
    let event = world.end(Some(Outcome::Verified));
    // Between this worker's reading and its transaction, another remediation of the place is started.
    world.meanwhile("Publish", &flight_key(), &flight.with(RemediationId::of_rejected(b"other"), i64::MAX, 0));
    complete(&world, &event, later(3)).await;
    assert_eq!((world.told().len(), world.records().len()), (1, 4));
    let left = world.flight();
    assert_eq!(left.running.keys().copied().collect::<Vec<_>>(), [RemediationId::of_rejected(b"other")]);
}

#[tokio::test]
async fn every_status_that_is_an_end_of_ssms_is_one_here() {
    for status in [
        "Success",
        "Failed",
        "TimedOut",
        "Cancelled",
        "Rejected",
        "CompletedWithSuccess",
        "CompletedWithFailure",
        "Exited",
    ] {
        let world = World::new(&standard());
        started(&world).await;
        let event = world.end(Some(Outcome::Verified)).replace("\"Success\"", &format!("\"{status}\""));
        complete(&world, &event, later(3)).await;
        assert_eq!(world.states().last(), Some(&State::Verified), "{status}");
    }
}

fn waiting(body: &str, order: &str) -> Waiting {
    Waiting { place: flight_key().to_string(), order: order.to_owned(), body: body.to_owned(), expires_at: i64::MAX }
}

#[tokio::test]
async fn a_slot_that_is_free_again_goes_to_the_worst_that_waits() {
    let limits = Limits { in_flight: 1, ..Limits::default() };
    let world = World::new(&Settings { limits, ..standard() });
    let (_, start) = started(&world).await;
    world.put(
        &flight_key(),
        &Flight { version: 7, running: [(start.id, i64::MAX)].into(), waiting: true, ..Flight::default() },
    );
    world.waits(&waiting("mild", "060#1"));
    world.waits(&waiting("worst", "001#2"));
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    assert_eq!(world.brought_back(), ["worst"], "as many as there is room for");
    assert!(world.flight().waiting && world.flight().running.is_empty());
    // The outcome comes again: nobody took the slot yet, and the next is brought back too; then nothing waits.
    for _ in 0..3 {
        complete(&world, &event, later(4)).await;
    }
    assert_eq!(world.brought_back(), ["worst", "mild"]);
    assert!(!world.flight().waiting);
    world.verify();
}

#[tokio::test]
async fn what_could_not_be_brought_back_is_when_the_message_comes_again() {
    for call in ["Query", "SendMessage"] {
        let world = World::new(&standard());
        let (_, start) = started(&world).await;
        world.put(
            &flight_key(),
            &Flight { version: 1, running: [(start.id, i64::MAX)].into(), waiting: true, ..Flight::default() },
        );
        world.waits(&waiting("first", "001"));
        let event = world.end(Some(Outcome::Verified));
        world.fail_next(call);
        assert!(matches!(try_complete(&world, &event, later(3)).await, Err(Retry::Waiting(_))), "{call}");
        complete(&world, &event, later(4)).await;
        assert_eq!(world.brought_back(), ["first"]);
        assert_eq!((world.told().len(), world.records().len()), (1, 4), "the outcome itself stands");
        assert!(!world.flight().waiting);
    }
}

fn task(account: &str) -> Task {
    Task { token: "token".to_owned(), account: account.parse().unwrap(), expires_at: i64::MAX }
}

#[tokio::test]
async fn a_workflow_that_waits_is_told_how_it_ended() {
    let world = World::new(&standard());
    let (_, start) = started(&world).await;
    world.put(&StateKey::Task(start.id), &task("111122223333"));
    let event = world.end(Some(Outcome::Unverified));
    world.fail_next("SendTaskSuccess");
    assert!(matches!(try_complete(&world, &event, later(3)).await, Err(Retry::Waiting(_))));
    assert_eq!(world.states().last(), Some(&State::Unverified), "its outcome is recorded all the same");
    complete(&world, &event, later(400)).await;
    let told = world.tasks_ended();
    assert_eq!(told.len(), 1);
    let key = sent(&start, parameter::EVIDENCE_KEY);
    let shown =
        told[0].to_string().replace(&key, "[key]").replace(&"a".repeat(64), "a…").replace(&"b".repeat(64), "b…");
    insta::assert_json_snapshot!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), @r#"
    {
      "State": "Unverified",
      "Outcome": "Unverified",
      "PreImageSha256": "a…",
      "ChangeSha256": "b…",
      "EvidenceKey": "[key]",
      "EvidenceVersionId": "v2",
      "Error": "the change was made, but the resource does not read back as it should"
    }
    "#);
}

#[tokio::test]
async fn another_accounts_execution_ends_no_workflows_task() {
    let world = World::new(&standard());
    let (_, start) = started(&world).await;
    world.put(&StateKey::Task(start.id), &task("444455556666"));
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    assert!(world.tasks_ended().is_empty());
}

fn control_scope() -> BreakerScope {
    BreakerScope::Control("S3.8".parse().unwrap())
}

#[tokio::test]
async fn a_control_that_keeps_failing_is_stopped_and_people_are_told_once() {
    let limits = Limits { control_minimum: 2, ..Limits::default() };
    let world = World::new(&Settings { limits, ..standard() });
    for round in 0..2 {
        let at = later(round * 10);
        take(&world, &generation(IMPORT, &at.to_string()), at).await.unwrap();
        let event = world.end(Some(Outcome::Failed));
        for _ in 0..2 {
            complete(&world, &event, at + SignedDuration::from_secs(1)).await;
        }
    }
    let count = world.count(&control_scope(), hour(now().as_millisecond()));
    assert_eq!((count.ends, count.failures), (2, 2), "each once, however often it came");
    assert!(world.breaker(&control_scope()).opened_at.is_some());
    let opened: Vec<_> =
        world.records().into_iter().filter(|record| record.detail(detail::CODE) == Some("breaker-open")).collect();
    assert_eq!(opened.last().unwrap().draft.execution_status, State::Notified);
    assert_eq!(world.told().iter().filter(|message| message.resource.starts_with("breaker#")).count(), 1);
    world.verify();
}

#[tokio::test]
async fn a_probe_that_goes_well_closes_its_breaker_and_one_that_fails_keeps_it_open() {
    for (outcome, closed) in [(Outcome::Verified, true), (Outcome::Failed, false), (Outcome::NotFound, false)] {
        let world = World::new(&standard());
        let (_, start) = started(&world).await;
        let open = Breaker { version: 3, opened_at: Some(1), probe: Some(start.id), ..Breaker::default() };
        world.put(&StateKey::Breaker(control_scope()), &open);
        let event = world.end(Some(outcome));
        complete(&world, &event, later(3)).await;
        assert_eq!(world.breaker(&control_scope()).opened_at.is_none(), closed, "{outcome:?}");
    }
}

#[tokio::test]
async fn dry_runs_and_undos_say_nothing_of_a_control() {
    let world = World::new(&standard());
    take(&world, &dry_run_asked(), now()).await.unwrap();
    let event = world.end(None);
    complete(&world, &event, later(1)).await;
    let (_, start) = started(&world).await;
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    take(&world, &undo_of(remediation(&start), "r"), later(10)).await.unwrap();
    let event = world.end(Some(Outcome::Unverified));
    complete(&world, &event, later(12)).await;
    let count = world.count(&control_scope(), hour(now().as_millisecond()));
    assert_eq!((count.ends, count.failures), (1, 0));
}

#[tokio::test]
async fn an_undo_that_cannot_be_shown_to_have_worked_holds_the_resource_and_can_be_asked_for_again() {
    for outcome in [Some(Outcome::Unverified), Some(Outcome::Failed), None] {
        let world = World::new(&standard());
        let (_, original) = started(&world).await;
        let event = world.end(Some(Outcome::Verified));
        complete(&world, &event, later(3)).await;
        take(&world, &undo_of(original.id, "first"), later(300)).await.unwrap();
        let event = world.end(outcome);
        complete(&world, &event, later(303)).await;
        let told = world.told();
        assert_ne!(told.last().unwrap().status, "RolledBack");
        assert!(told.last().unwrap().next_step.as_ref().unwrap().contains("by hand"), "{told:?}");
        let claim = world.claim(&claim_key()).unwrap();
        assert!(claim.held, "{outcome:?}");
        assert_eq!(claim.undoable, Some(original.id));
        assert!(claim.generation.0 >= later(303).as_millisecond(), "what was found before the undo is dealt with");
        // A rule does not repair it again; the person may go on.
        take(&world, &generation(IMPORT, "2026-03-02T09:30:00.000Z"), later(1000)).await.unwrap();
        assert_eq!(world.records().last().unwrap().detail(detail::CODE), Some("held"));
        take(&world, &undo_of(original.id, "second"), later(1001)).await.unwrap();
        assert_eq!(world.started().len(), 3);
        world.verify();
    }
}

#[tokio::test]
async fn an_undo_that_changed_nothing_holds_nothing() {
    let world = World::new(&standard());
    let (_, original) = started(&world).await;
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    take(&world, &undo_of(original.id, "first"), later(300)).await.unwrap();
    let event = world.end(Some(Outcome::Drifted));
    complete(&world, &event, later(303)).await;
    assert!(!world.claim(&claim_key()).unwrap().held);
}

#[tokio::test]
async fn defect_17_a_late_outcome_is_described_by_its_own_records_and_not_by_its_successors() {
    let world = World::new(&standard());
    let (place, old) = started(&world).await;
    let claimed = world.records()[1].clone();
    let request = ASKED.replace("09:15:04Z", "23:59:04Z");
    let next_day = later(60 * 60 * 24);
    take(&world, &request, next_day).await.unwrap();
    let successor = world.claim(&claim_key()).unwrap();
    assert_ne!(successor.remediation_id, old.id);
    let event = world.end_of(&place, &old, Some(Outcome::Verified));
    complete(&world, &event, next_day + SignedDuration::from_secs(1)).await;
    let last = of(&world, old.id).pop().unwrap();
    assert_eq!(last.draft.finding_id, claimed.draft.finding_id);
    assert_eq!(last.draft.remediation_type, claimed.draft.remediation_type);
    assert_ne!(last.draft.remediation_type, successor.subject.remediation_type);
    assert_eq!(last.detail(detail::EVIDENCE_KEY), Some(sent(&old, parameter::EVIDENCE_KEY).as_str()));
    let duration = last.draft.timestamp - claimed.draft.timestamp;
    assert!((last.draft.execution_duration - duration).abs() < 10, "from its own claim on");
    assert_eq!(world.claim(&claim_key()).unwrap(), successor);
    world.verify();
}

#[tokio::test]
async fn defect_17_an_execution_that_was_overtaken_does_not_tell_its_successors_outcome() {
    let world = World::new(&standard());
    let (place, frozen) = started(&world).await;
    take(&world, IMPORT, later(LEASE)).await.unwrap();
    let mut successor = frozen.clone();
    successor.parameters.insert(parameter::FENCE, "2".to_owned());
    let event = world.end_of(&place, &frozen, None);
    world.evidence_of_fence(2);
    complete(&world, &event, later(400)).await;
    assert!(!world.states().contains(&State::Failed) && world.told().is_empty());
    let event = world.end_of(&place, &successor, Some(Outcome::Verified));
    world.evidence_of_fence(2);
    complete(&world, &event, later(401)).await;
    assert_eq!(world.states().last(), Some(&State::Verified));
}

#[tokio::test]
async fn an_execution_with_a_fence_that_nobody_granted_changes_nothing() {
    let world = World::new(&standard());
    let (place, mut forged) = started(&world).await;
    forged.parameters.insert(parameter::FENCE, "99".to_owned());
    let event = world.end_of(&place, &forged, Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    assert_eq!(world.states(), [State::Planned, State::Claimed]);
    assert!(world.told().is_empty() && world.updates().is_empty());
}

#[tokio::test]
async fn an_outcome_is_recorded_although_what_lies_around_it_is_damaged() {
    let world = World::new(&standard());
    let (_, start) = started(&world).await;
    let damaged = serde_json::json!({ "Version": "x", "Limits": [] });
    let keys = [StateKey::Settings, flight_key(), StateKey::Breaker(control_scope()), StateKey::Task(start.id)];
    for key in keys {
        world.put(&key, &damaged);
    }
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    assert_eq!(world.states().last(), Some(&State::Verified));
}

#[tokio::test]
async fn people_are_told_what_to_do_next_when_there_is_something_to_do() {
    for (outcome, words) in [
        (Outcome::Verified, None),
        (Outcome::Unverified, Some("redress undo")),
        (Outcome::Failed, Some("redress undo")),
    ] {
        let world = World::new(&standard());
        let (_, start) = started(&world).await;
        let event = world.end(Some(outcome));
        complete(&world, &event, later(3)).await;
        let said = world.told()[0].next_step.clone();
        let note = world.updates()[0].note.clone();
        match words {
            None => assert_eq!(said, None),
            Some(words) => {
                let expected = format!("{words} {}", start.id);
                assert!(said.is_some_and(|said| said.contains(&expected)), "{outcome:?}");
                assert!(note.contains(&expected), "{note}");
            }
        }
        assert!(note.len() <= 512, "Security Hub takes no longer note");
    }
}
