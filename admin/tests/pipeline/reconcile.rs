//! The reconciler, over the world in memory.

use redress_admin::api::ports::Queue;
use redress_admin::ports::Waiting;
use redress_admin::reconcile::ports::FailedRule;
use redress_admin::reconcile::{Counts, Reconciler, Unfinished};
use redress_common::aws::state_table::Claim;
use redress_common::finding::{Inbound, parse, released};
use redress_common::ids::Generation;
use redress_common::items::breaker::{Breaker, BreakerScope};
use redress_common::items::campaign::Campaign;
use redress_common::items::reconciler::Progress;
use serde_json::{Value, json};

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
async fn of_two_runs_that_meet_the_older_one_ends_and_overwrites_nothing() {
    let world = World::new(&standard());
    reconcile(&world, later(600)).await.unwrap();
    world.put(&StateKey::Settings, &Settings { version: 9, ..standard() });
    // A run that began before, and is at its first part when another one comes and goes.
    let newer = Progress { version: progress(&world).version + 2, watched_at: 7, ..progress(&world) };
    world.meanwhile("Query", &StateKey::Reconciler, &newer);
    let counts = reconcile(&world, later(1500)).await.unwrap();
    assert_eq!(counts, Counts::default());
    assert_eq!(progress(&world), newer);
}

#[tokio::test]
async fn what_people_could_not_be_told_they_are_told_later_and_a_record_says_so() {
    let world = World::new(&standard());
    world.fail_publish();
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    let recorded = world.records().len();

    // As long as SNS takes nothing, it waits.
    reconcile(&world, later(600)).await.unwrap_err();
    assert_eq!((world.told().len(), world.records().len(), world.in_backlog().len()), (0, recorded, 1));

    world.publish_fails(false);
    let counts = reconcile(&world, later(1500)).await.unwrap();
    assert_eq!(counts.done.get("sent-late"), Some(&1));
    assert_eq!(world.told().iter().map(|message| message.status.as_str()).collect::<Vec<_>>(), ["Success"]);
    let last = world.records().last().unwrap().clone();
    assert_eq!((last.draft.execution_status, last.draft.notification_sent), (State::Verified, true));
    assert_eq!(last.detail(detail::CODE), Some("sent-late"));
    assert!(!world.records()[recorded - 1].draft.notification_sent, "no record is changed");
    world.verify();

    reconcile(&world, later(2400)).await.unwrap();
    assert_eq!((world.told().len(), world.in_backlog().len()), (1, 0), "once");
}

#[tokio::test]
async fn what_another_worker_told_after_all_is_not_told_again() {
    let world = World::new(&standard());
    world.fail_publish();
    world.fail_next("TransactWriteItems");
    take(&world, IMPORT, now()).await.unwrap_err();
    take(&world, IMPORT, later(400)).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    world.fail_next("TransactWriteItems");
    Completion::new(&world, identity()).message(&event, later(403)).await.unwrap_err();
    assert_eq!(world.in_backlog().len(), 1, "the first worker told nobody, and died");
    world.publish_fails(false);
    complete(&world, &event, later(800)).await;
    let counts = reconcile(&world, later(1500)).await.unwrap();
    assert_eq!(counts.done.get("sent-late"), None);
    assert_eq!((world.told().len(), world.in_backlog().len()), (1, 0));
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

fn of(world: &World, code: &str) -> Vec<RemediationId> {
    let records = world.records().into_iter().filter(|record| record.detail(detail::CODE) == Some(code));
    records.map(|record| record.draft.remediation_id).collect()
}

#[tokio::test]
async fn fifteen_hundred_findings_of_one_moment_are_looked_up_and_brought_a_hundred_a_run() {
    let world = World::new(&standard());
    let text = serde_json::to_string(&imported()).unwrap();
    let findings = (0..1500).map(|n| text.replace("payroll-exports", &format!("payroll-{n}")));
    let findings: Vec<Value> = findings.map(|text| serde_json::from_str(&text).unwrap()).collect();
    world.watched(|watched| watched.findings = findings);
    let counts = reconcile(&world, later(600)).await.unwrap();
    assert_eq!(counts.done.get("missed-finding"), Some(&100));
}

#[tokio::test]
async fn a_finding_that_people_were_told_of_is_not_missed_each_time_that_it_is_updated() {
    let world = World::new(&Settings::default());
    take(&world, IMPORT, now()).await.unwrap();
    assert_eq!(world.told().len(), 1);
    let update = |minute: u32| generation(IMPORT, &format!("2026-03-02T10:{minute:02}:00Z"));
    take(&world, &update(0), later(2700)).await.unwrap();
    let event: Value = serde_json::from_str(&update(5)).unwrap();
    world.watched(|watched| watched.findings.push(event["detail"]["findings"][0].clone()));
    let counts = reconcile(&world, later(4 * 3600)).await.unwrap();
    assert_eq!((world.watched(|watched| watched.sent.len()), counts.done), (0, [].into()));
}

#[tokio::test]
async fn what_was_never_started_can_be_sent_again() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let first = world.started().last().cloned().unwrap();
    // The worker died before its call came to SSM: no run of it is listed.
    reconcile(&world, later(1200)).await.unwrap();
    assert_eq!(of(&world, "never-started"), [first.1.id]);
    let claim = world.claim(&claim_key()).unwrap();
    assert_eq!((claim.status, claim.recent.len(), claim.ended.len()), (ClaimStatus::Released, 0, 0));
    assert!(world.flight().running.is_empty());
    world.calls();
    take(&world, IMPORT, later(1300)).await.unwrap();
    assert!(world.calls().contains(&"StartAutomationExecution"));
    assert_eq!(world.claim(&claim_key()).unwrap().state, State::Claimed);
    world.verify();
}

#[tokio::test]
async fn claims_of_an_account_that_cannot_be_entered_keep_no_other_waiting_and_end_after_three_days() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let mine = world.claim(&claim_key()).unwrap();
    let closed: redress_common::ids::AccountId = "444455556666".parse().unwrap();
    world.watched(|watched| watched.closed.insert(closed.clone()));
    for n in 0..450_i64 {
        let mut claim = Claim { lease_until: mine.lease_until - 1000 + n, ..mine.clone() };
        claim.remediation_id = RemediationId::of_rejected(&n.to_le_bytes());
        claim.generation = Generation(n);
        claim.subject.account = closed.clone();
        world.put(&StateKey::Request(claim.remediation_id), &claim);
    }
    for run in 0..3 {
        assert!(of(&world, "never-started").is_empty());
        reconcile(&world, later(1300 + run * 900)).await.unwrap();
    }
    assert_eq!(of(&world, "never-started"), [mine.remediation_id], "its turn came");
    assert!(of(&world, "end-unknown").is_empty());
    let told = world.told().len();
    for run in 0..3 {
        reconcile(&world, later(3 * 86_400 + 1300 + run * 900)).await.unwrap();
    }
    assert_eq!((of(&world, "end-unknown").len(), world.told().len() - told), (450, 450));
    world.verify();
}

/// A rule that so many resources fail, the last of them for the first time lately.
fn failing(rule: &str, resources: usize, lately: usize) -> (FailedRule, Vec<Value>) {
    let rule = FailedRule {
        name: format!("securityhub-s3-bucket-level-public-access-prohibited-{rule}"),
        account: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
    };
    let result = |n| {
        let recorded = if n + lately < resources { later(-7 * 86_400) } else { now() };
        json!({
            "EvaluationResultIdentifier": {
                "EvaluationResultQualifier": {
                    "ConfigRuleName": rule.name, "ResourceType": "AWS::S3::Bucket",
                    "ResourceId": format!("{}-{n}", &rule.name[52..]),
                },
                "OrderingTimestamp": now(),
            },
            "ResultRecordedTime": recorded, "ConfigRuleInvokedTime": recorded,
        })
    };
    let results = (0..resources).map(result).collect();
    (rule, results)
}

/// Brings what was sent, and says how much that was.
async fn bring(world: &World, at: Timestamp) -> usize {
    let sent = world.watched(|watched| std::mem::take(&mut watched.sent));
    let sent: Vec<String> = sent.into_iter().filter(|(queue, _)| *queue == Queue::Findings).map(|(_, b)| b).collect();
    let orchestrator = Orchestrator::new(world, identity());
    for body in &sent {
        orchestrator.message(body, at).await.unwrap();
    }
    sent.len()
}

#[tokio::test]
async fn every_resource_of_a_rule_is_brought_however_many_fail_it() {
    let world = World::new(&Settings::default());
    world.watched(|watched| watched.rules = vec![failing("5c2f0a91", 20_150, 60), failing("6d301ba2", 30, 30)]);
    reconcile(&world, later(600)).await.unwrap();
    assert_eq!((bring(&world, later(600)).await, progress(&world).resources_from.as_str()), (0, "20000"));
    reconcile(&world, later(1500)).await.unwrap();
    assert_eq!((bring(&world, later(1500)).await, world.told().len()), (90, 90));
    let after = progress(&world);
    assert_eq!((after.rule.as_str(), after.resources_from.as_str(), after.walk_until), ("", "", 0));
    assert_eq!(
        after.results_until,
        later(300).as_millisecond(),
        "what is recorded during the walk is for the next one"
    );
}

#[tokio::test]
async fn a_position_that_config_refuses_is_dropped_and_the_list_begun_anew() {
    let world = World::new(&Settings::default());
    let rules = (0..150).map(|n| failing(&format!("{n:08x}"), usize::from(n == 149), 1));
    world.watched(|watched| watched.rules = rules.collect());
    reconcile(&world, later(600)).await.unwrap();
    assert_eq!(progress(&world).rules_from, "100");
    world.watched(|watched| watched.tokens_refused = true);
    reconcile(&world, later(1500)).await.unwrap();
    world.watched(|watched| watched.tokens_refused = false);
    reconcile(&world, later(2400)).await.unwrap();
    assert_eq!(bring(&world, later(2400)).await, 1);
}
