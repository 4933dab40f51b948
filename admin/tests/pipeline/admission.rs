//! What is let through, what waits, what is asked about, and what is stopped.

use redress_admin::ports::Identity;
use redress_common::aws::state_table::{Claim, Limits};
use redress_common::contract::Ownership;
use redress_common::finding::{Inbound, WorkflowStatus, parse, released};
use redress_common::ids::AccountId;
use redress_common::items::account::AccountFacts;
use redress_common::items::breaker::BreakerScope;
use redress_common::items::exemption::{Exemption, Exemptions};
use redress_common::items::policy::PolicyItem;
use redress_common::ledger::sha256_hex;

use super::*;

/// A finding of a bucket of its own.
fn of_bucket(name: &str) -> String {
    IMPORT.replace("payroll-exports", name)
}

/// The finding of a security group that lets the world in.
fn open_group(id: &str) -> String {
    IMPORT
        .replace("arn:aws:s3:::payroll-exports", &format!("arn:aws:ec2:eu-central-1:111122223333:security-group/{id}"))
        .replace("AwsS3Bucket", "AwsEc2SecurityGroup")
        .replace("S3.8", "EC2.13")
}

fn worse(finding: &str) -> String {
    finding.replace("\"HIGH\"", "\"CRITICAL\"").replace("\"Normalized\": 70", "\"Normalized\": 90")
}

fn limited(change: impl FnOnce(&mut Limits)) -> Settings {
    let mut settings = standard();
    change(&mut settings.limits);
    settings
}

fn last_code(world: &World) -> Option<String> {
    world.records().last().unwrap().detail(detail::CODE).map(str::to_owned)
}

fn member() -> AccountId {
    "111122223333".parse().unwrap()
}

fn placed(path: &[&str]) -> AccountFacts {
    AccountFacts {
        account: member(),
        name: "payroll".to_owned(),
        ou_path: path.iter().map(ToString::to_string).collect(),
        tags: [].into(),
        read_at: now().as_millisecond(),
    }
}

#[tokio::test]
async fn a_full_place_puts_findings_aside_and_takes_them_back_when_one_has_ended() {
    let world = World::new(&limited(|limits| limits.in_flight = 1));
    take(&world, &of_bucket("one"), now()).await.unwrap();
    let (two, three) = (of_bucket("two"), of_bucket("three").replace("\"HIGH\"", "\"CRITICAL\""));
    let three = three.replace("\"Normalized\": 70", "\"Normalized\": 90");
    take(&world, &two, later(1)).await.unwrap();
    take(&world, &three, later(2)).await.unwrap();
    assert_eq!((world.started().len(), world.in_backlog().len()), (1, 2));
    assert_eq!(last_code(&world).as_deref(), Some("waiting"));
    world.calls();
    for _ in 0..3 {
        take(&world, &two, later(3)).await.unwrap();
    }
    assert_eq!(world.calls(), ["BatchGetItem"; 3], "a duplicate of what waits is one");

    for (ended, at) in [("one", 10), ("three", 20), ("two", 30)] {
        let (_, start) = world.started().last().cloned().unwrap();
        assert!(sent(&start, parameter::RESOURCE_ARN).ends_with(ended), "the worst goes first, then the oldest");
        let event = world.end(Some(Outcome::Verified));
        complete(&world, &event, later(at)).await;
        for body in world.brought_back() {
            take(&world, &body, later(at + 1)).await.unwrap();
        }
    }
    assert_eq!((world.started().len(), world.in_backlog().len()), (3, 0));
    assert!(!world.flight().waiting);
    assert!(world.flight().running.is_empty());
    world.verify();
}

#[tokio::test]
async fn what_waits_ends_when_a_newer_finding_of_its_resource_takes_its_place() {
    let world = World::new(&limited(|limits| limits.in_flight = 1));
    take(&world, &of_bucket("one"), now()).await.unwrap();
    let two = of_bucket("two");
    take(&world, &two, later(1)).await.unwrap();
    let older = world.records().last().unwrap().draft.remediation_id;
    let suppressed = generation(&two, "2026-03-02T09:15:06.000Z").replace("\"NEW\"", "\"SUPPRESSED\"");
    take(&world, &suppressed, later(2)).await.unwrap();
    let records = world.records();
    let [.., superseded, newer] = records.as_slice() else { panic!() };
    assert_eq!((superseded.draft.remediation_id, superseded.draft.execution_status), (older, State::Ignored));
    let by = newer.draft.remediation_id.to_string();
    assert_eq!(superseded.detail(detail::SUPERSEDED_BY), Some(by.as_str()));
    assert_eq!(newer.detail(detail::CODE), Some("workflow"));
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(10)).await;
    for body in world.brought_back() {
        take(&world, &body, later(11)).await.unwrap();
    }
    assert_eq!(world.started().len(), 1, "what a person suppressed meanwhile is not repaired");
    world.verify();
}

#[tokio::test]
async fn many_deliveries_of_an_update_while_the_resource_is_worked_on_leave_one_entry_and_no_record() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let update = generation(IMPORT, "2026-03-02T09:15:10.000Z");
    world.calls();
    take(&world, &update, later(6)).await.unwrap();
    assert_eq!(world.calls(), ["BatchGetItem", "PutItem", "PutItem"]);
    let older = generation(IMPORT, "2026-03-02T09:15:08.000Z");
    for nth in 0..25 {
        take(&world, &update, later(7 + nth)).await.unwrap();
        take(&world, &older, later(7 + nth)).await.unwrap();
    }
    assert_eq!(world.calls(), ["BatchGetItem"; 50], "the backlog holds what says as much");
    assert_eq!((world.records().len(), world.in_backlog().len()), (2, 1));
    assert_eq!(world.flight().later.len(), 1);
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(60)).await;
    for body in world.brought_back() {
        take(&world, &body, later(61)).await.unwrap();
    }
    assert_eq!((world.started().len(), world.in_backlog().len()), (1, 0), "the fix saw what it tells of");
    assert!(world.flight().later.is_empty());
    world.verify();
}

/// What the backlog brings back, in order, and nothing else comes.
async fn bring(world: &World, at: i64) -> usize {
    let mut brought = 0;
    for round in 0..20 {
        let back = world.take_brought_back();
        brought += back.len();
        if back.is_empty() {
            return brought;
        }
        for body in back {
            take(world, &body, later(at + round)).await.unwrap();
        }
    }
    panic!("it goes round and round");
}

#[tokio::test]
async fn what_is_brought_back_and_needs_no_place_leaves_it_to_the_next() {
    // Each of the two that are brought back first is found to be none of ours any more; `last` is waited for.
    type Change = fn(&World, &str);
    let dealt_with: Change = |world, bucket| {
        let held = |claim: &Claim| claim.subject.resource_id.ends_with(bucket);
        world.change_claims(held, |claim| claim.status = ClaimStatus::Done);
    };
    let held: Change = |world, bucket| {
        let of = |claim: &Claim| claim.subject.resource_id.ends_with(bucket);
        world.change_claims(of, |claim| claim.held = true);
    };
    for (what, change) in [("a duplicate", dealt_with), ("refused", held)] {
        let world = World::new(&limited(|limits| limits.in_flight = 1));
        take(&world, &of_bucket("one"), now()).await.unwrap();
        for (nth, bucket) in ["two", "three", "last"].into_iter().enumerate() {
            take(&world, &of_bucket(bucket), later(1 + i64::try_from(nth).unwrap())).await.unwrap();
        }
        change(&world, "two");
        change(&world, "three");
        let event = world.end(Some(Outcome::Verified));
        complete(&world, &event, later(10)).await;
        assert_eq!(bring(&world, 11).await, 3, "{what}");
        let (_, start) = world.started().last().cloned().unwrap();
        assert!(sent(&start, parameter::RESOURCE_ARN).ends_with("last"), "{what}");
        assert_eq!((world.started().len(), world.in_backlog().len()), (2, 0), "{what}");
        world.verify();
    }
}

#[tokio::test]
async fn what_is_no_case_any_more_leaves_its_place_to_the_next() {
    let world = World::new(&limited(|limits| limits.in_flight = 1));
    take(&world, &of_bucket("one"), now()).await.unwrap();
    take(&world, &of_bucket("two"), later(1)).await.unwrap();
    take(&world, &of_bucket("last"), later(2)).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(10)).await;
    let back = world.take_brought_back();
    // Its control is none that this catalogue knows.
    take(&world, &back[0].replace("S3.8", "S3.99"), later(11)).await.unwrap();
    bring(&world, 12).await;
    assert_eq!((world.started().len(), world.in_backlog().len()), (2, 0));
}

#[tokio::test]
async fn a_place_goes_past_those_whose_resource_is_under_work_and_the_round_ends() {
    let world = World::new(&limited(|limits| limits.in_flight = 3));
    for (nth, bucket) in ["one", "two", "three"].into_iter().enumerate() {
        take(&world, &of_bucket(bucket), later(i64::try_from(nth).unwrap())).await.unwrap();
    }
    // The worst of all are news of what is being worked on.
    for bucket in ["one", "two"] {
        let update = generation(&of_bucket(bucket), "2026-03-02T09:15:30.000Z");
        take(&world, &worse(&update), later(26)).await.unwrap();
    }
    take(&world, &of_bucket("last"), later(27)).await.unwrap();
    assert_eq!((world.started().len(), world.in_backlog().len()), (3, 3));
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(30)).await;
    assert_eq!(bring(&world, 31).await, 3);
    let (_, start) = world.started().last().cloned().unwrap();
    assert!(sent(&start, parameter::RESOURCE_ARN).ends_with("last"));
    assert_eq!((world.started().len(), world.in_backlog().len()), (4, 2), "those two wait for their own ends");
    world.verify();
}

#[tokio::test]
async fn a_start_that_fails_for_good_leaves_its_place_to_the_next() {
    let world = World::new(&limited(|limits| limits.in_flight = 1));
    take(&world, &of_bucket("one"), now()).await.unwrap();
    take(&world, &of_bucket("two"), later(1)).await.unwrap();
    take(&world, &of_bucket("last"), later(2)).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(10)).await;
    world.fail_start(false);
    assert_eq!(bring(&world, 11).await, 2);
    let (_, start) = world.started().last().cloned().unwrap();
    assert!(sent(&start, parameter::RESOURCE_ARN).ends_with("last"));
}

#[tokio::test]
async fn what_a_threat_list_names_goes_before_what_is_worse() {
    let world = World::new(&limited(|limits| limits.in_flight = 1));
    take(&world, &of_bucket("one"), now()).await.unwrap();
    world.calls();
    take(&world, &worse(&of_bucket("worse")), later(1)).await.unwrap();
    assert!(!world.calls().contains(&"Invoke"), "nothing of it could be on a list");
    world.evidence(|evidence| evidence.threats = vec!["198.51.100.7 (feed): 198.51.100.7".to_owned()]);
    let group = open_group("sg-0123456789abcdef0");
    take(&world, &group, later(2)).await.unwrap();
    take(&world, &group, later(3)).await.unwrap();
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|call| **call == "Invoke").count(), 1, "{calls:?}");
    let orders: Vec<String> = world.in_backlog().into_iter().map(|waiting| waiting.order).collect();
    assert!(orders.len() == 2 && orders[0].starts_with('!') && orders[1].starts_with("010#"), "{orders:?}");
}

#[tokio::test]
async fn a_person_does_not_wait_for_what_rules_do() {
    let world = World::new(&limited(|limits| limits.in_flight = 1));
    take(&world, &of_bucket("one"), now()).await.unwrap();
    take(&world, ASKED, later(1)).await.unwrap();
    assert_eq!(world.started().len(), 2);
    assert_eq!(world.flight().running.len(), 2, "and takes a place all the same");
}

#[tokio::test]
async fn a_start_that_fails_gives_its_place_back() {
    for transient in [true, false] {
        let world = World::new(&standard());
        world.fail_start(transient);
        assert_eq!(take(&world, IMPORT, now()).await.is_err(), transient);
        assert!(world.flight().running.is_empty());
    }
}

#[tokio::test]
async fn defect_11_a_burst_of_events_opens_the_breaker_and_people_hear_of_it_once() {
    let world = World::new(&limited(|limits| limits.account_per_hour = 3));
    for nth in 0..8 {
        take(&world, &of_bucket(&format!("bucket-{nth}")), later(nth)).await.unwrap();
    }
    assert_eq!(world.started().len(), 3);
    let breaker = BreakerScope::Account(member());
    assert!(world.breaker(&breaker).opened_at.is_some());
    let opened = world.told().iter().filter(|message| message.resource.starts_with("breaker#")).count();
    assert_eq!((opened, world.told().len()), (1, 6), "once that it opened, and of each finding that was not acted on");
    assert_eq!(last_code(&world).as_deref(), Some("breaker-open"));
    take(&world, ASKED, later(9)).await.unwrap();
    assert_eq!(world.started().len(), 4, "a person who asks answers for it");
    world.verify();
}

#[tokio::test]
async fn a_hundred_workers_at_once_do_not_pass_a_budget_or_a_place_together() {
    let world: &'static World = Box::leak(Box::new(World::new(&limited(|limits| {
        limits.account_per_hour = 7;
        limits.in_flight = 5;
    }))));
    let workers: Vec<_> = (0..100)
        .map(|nth| tokio::spawn(async move { take(world, &of_bucket(&format!("bucket-{nth}")), now()).await }))
        .collect();
    for worker in workers {
        // Who meets others too often comes again.
        let _ = worker.await.unwrap();
    }
    assert!(world.started().len() <= 5, "{}", world.started().len());
    world.verify();
}

#[tokio::test]
async fn defect_21_a_loop_dies_within_a_few_events_and_a_few_messages() {
    // Whatever fixes it, something breaks it again at once, and each time there is an event.
    let world = World::new(&standard());
    for nth in 0..200 {
        let at = later(nth * 30);
        take(&world, &generation(IMPORT, &at.to_string()), at).await.unwrap();
        if world.started().len() > world.updates().len() {
            let event = world.end(Some(Outcome::Verified));
            complete(&world, &event, at + SignedDuration::from_secs(2)).await;
        }
    }
    assert_eq!(world.started().len(), 3, "then it is flapping");
    assert_eq!(world.told().len(), 4, "three that it was fixed, and one that it will not be any more");
    world.verify();
}

#[tokio::test]
async fn a_rules_old_finding_is_told_once_and_a_campaign_may_act_on_it() {
    let since = Settings { acting_since: Some("2026-03-01T00:00:00Z".parse().unwrap()), ..standard() };
    let world = World::new(&since);
    take(&world, IMPORT, now()).await.unwrap();
    assert_eq!(last_code(&world).as_deref(), Some("backlog"));
    take(&world, &generation(IMPORT, "2026-03-02T09:16:00.000Z"), later(60)).await.unwrap();
    assert_eq!((world.started().len(), world.told().len()), (0, 1));

    let Ok(Inbound::Findings(found)) = parse(generation(IMPORT, "2026-03-02T09:17:00.000Z").as_bytes()) else {
        panic!()
    };
    let finding = found[0].clone().unwrap();
    let Identity { account, home, .. } = identity();
    let campaign = released(&account, &home, &finding, Some("old-buckets"), later(120));
    let forged = campaign.replace("999988887777", "111122223333");
    take(&world, &forged, later(120)).await.unwrap();
    assert_eq!((world.started().len(), world.dead()), (0, vec!["account-mismatch".to_owned()]));
    take(&world, &campaign, later(121)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    let planned = world.records().into_iter().rev().nth(1).unwrap();
    assert_eq!(planned.detail(detail::CAMPAIGN), Some("old-buckets"));
    world.verify();
}

#[tokio::test]
async fn what_policy_wants_approved_is_asked_for_and_stands_in_everybodys_way() {
    let world = World::new(&standard());
    world.critical("tier=0");
    take(&world, IMPORT, now()).await.unwrap();
    assert_eq!(world.states(), [State::Planned, State::AwaitingApproval]);
    let asked = world.workflows();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].parameters[parameter::MODE], "Apply");
    assert_eq!(asked[0].approval.as_ref().unwrap().needed, 1);
    let impact = world.records()[0].detail(detail::IMPACT).unwrap().to_owned();
    assert!(impact.contains("tier=0"), "{impact}");
    // The workflow asks, and makes the lease as long as an answer may take.
    let mut claim = world.claim(&claim_key()).unwrap();
    claim.lease_until = later(7200).as_millisecond();
    world.put(&claim_key(), &claim);
    world.calls();
    take(&world, IMPORT, later(10)).await.unwrap();
    assert_eq!(world.calls(), ["BatchGetItem"], "people are asked already");
    let update = generation(IMPORT, "2026-03-02T09:16:00.000Z");
    take(&world, &update, later(3600)).await.unwrap();
    assert_eq!(world.calls(), ["BatchGetItem", "PutItem", "PutItem"], "nothing is changed yet");
    let older = generation(IMPORT, "2026-03-02T09:15:30.000Z");
    for body in [&update, &older, &update] {
        take(&world, body, later(3600)).await.unwrap();
    }
    assert_eq!(world.calls(), ["BatchGetItem"; 3], "the backlog holds what says as much");
    assert_eq!((world.in_backlog().len(), world.workflows().len(), world.records().len()), (1, 1, 2));
    take(&world, ASKED, later(3601)).await.unwrap();
    assert_eq!(last_code(&world).as_deref(), Some("in-progress"));
    assert!(world.started().is_empty());
    world.verify();
}

#[tokio::test]
async fn defect_15_a_workflow_that_cannot_be_started_is_no_consent() {
    let world = World::new(&standard());
    world.critical("tier=0");
    world.fail_next("StartExecution");
    take(&world, IMPORT, now()).await.unwrap();
    assert!(world.started().is_empty() && world.workflows().is_empty());
    assert_eq!(world.states(), [State::Planned, State::AwaitingApproval, State::Failed]);
    assert_eq!(world.claim(&claim_key()).unwrap().status, ClaimStatus::Released);
}

#[tokio::test]
async fn a_guard_that_does_not_answer_stops_rules_and_says_so() {
    let world = World::new(&standard());
    world.fail_next("Invoke");
    take(&world, IMPORT, now()).await.unwrap();
    assert!(world.started().is_empty());
    assert_eq!(last_code(&world).as_deref(), Some("guard-unreadable"));
    assert_eq!((world.states().last(), world.dead()), (Some(&State::Failed), vec!["guard-unreadable".to_owned()]));
    take(&world, ASKED, later(1)).await.unwrap();
    assert_eq!(world.started().len(), 1);
}

#[tokio::test]
async fn a_guard_that_dies_is_asked_again_when_the_message_comes_again() {
    let world = World::new(&standard());
    world.kill_guard();
    assert!(take(&world, IMPORT, now()).await.is_err());
    assert_eq!((world.claim(&claim_key()), world.records().len(), world.dead().len()), (None, 0, 0), "nobody has it");
    take(&world, IMPORT, later(10)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    world.verify();
}

#[tokio::test]
async fn defect_01_what_could_not_be_decided_is_when_its_message_is_sent_again() {
    let world = World::new(&standard());
    world.fail_next("Invoke");
    take(&world, IMPORT, now()).await.unwrap();
    world.fail_next("Invoke");
    take(&world, IMPORT, later(10)).await.unwrap();
    assert_eq!(world.dead().len(), 2, "while it is not mended, it is kept again");
    take(&world, IMPORT, later(20)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    assert_eq!(world.claim(&claim_key()).unwrap().recent.len(), 1);
    world.verify();
}

#[tokio::test]
async fn who_meets_another_worker_does_not_ask_the_guard_again() {
    let world = World::new(&standard());
    let other = world.flight().with(RemediationId::of_rejected(b"other"), i64::MAX, 0);
    let key = StateKey::Flight(member(), "eu-central-1".parse().unwrap());
    world.meanwhile("TransactWriteItems", &key, &other);
    take(&world, IMPORT, now()).await.unwrap();
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|call| **call == "Invoke").count(), 1, "{calls:?}");
    assert_eq!(calls.iter().filter(|call| **call == "TransactWriteItems").count(), 2);
    assert_eq!(world.flight().running.len(), 2);
}

/// A stack that manages the resource.
fn stack() -> Ownership {
    let [manager, name, hint] = ["CloudFormation", "web", "change stack web"].map(str::to_owned);
    Ownership { manager, name, hint, vouched: true }
}

#[tokio::test]
async fn what_a_stack_manages_is_told_with_where_to_mend_it() {
    let world = World::new(&standard());
    world.evidence(|evidence| evidence.owned_by = Some(stack()));
    take(&world, IMPORT, now()).await.unwrap();
    assert!(world.started().is_empty());
    let last = world.records().last().unwrap().clone();
    assert_eq!(last.detail(detail::CODE), Some("owned"));
    assert!(last.detail(detail::REASON).unwrap().contains("change stack web"));
}

#[tokio::test]
async fn organizations_is_asked_once_a_day_and_only_where_units_are_spoken_of() {
    let world = World::new(&standard());
    take(&world, &of_bucket("one"), now()).await.unwrap();
    assert!(!world.calls().contains(&"DescribeAccount"));
    world.place(placed(&["r-1", "ou-prod", "ou-payroll"]));
    world.put(&StateKey::Settings, &Settings { ous: [("ou-prod".to_owned(), Switch::Off)].into(), ..standard() });
    for nth in 0..3 {
        take(&world, &of_bucket(&format!("b{nth}")), later(nth)).await.unwrap();
    }
    assert_eq!(world.calls().iter().filter(|call| **call == "DescribeAccount").count(), 1);
    take(&world, &of_bucket("next-day"), later(24 * 3600 + 1)).await.unwrap();
    assert!(world.calls().contains(&"DescribeAccount"));
    assert_eq!((world.started().len(), last_code(&world).as_deref()), (1, Some("switched-off")));
}

#[tokio::test]
async fn defect_08_an_account_that_organizations_does_not_know_is_left_alone() {
    let world = World::new(&Settings { ous: [("ou-prod".to_owned(), Switch::Off)].into(), ..standard() });
    assert!(take(&world, IMPORT, now()).await.is_err(), "it may tell later");
    assert!(world.started().is_empty() && world.records().is_empty());
}

#[tokio::test]
async fn an_exemption_holds_while_it_lasts_and_not_a_moment_longer() {
    let world = World::new(&standard());
    let exemption = Exemption {
        id: "payroll".to_owned(),
        control: Some("S3.8".parse().unwrap()),
        account: None,
        ou: None,
        resource: Some("arn:aws:s3:::payroll-exports".parse().unwrap()),
        owner: "payroll team".to_owned(),
        reason: "public until the move".to_owned(),
        expires_at: later(100),
        created_by: "arn:aws:iam::999988887777:role/Admin".to_owned(),
        created_at: now(),
    };
    world.put(&StateKey::Exemptions, &Exemptions { version: 1, exemptions: vec![exemption] });
    take(&world, IMPORT, now()).await.unwrap();
    take(&world, ASKED, later(1)).await.unwrap();
    assert!(world.started().is_empty());
    assert_eq!(last_code(&world).as_deref(), Some("exempt"));
    take(&world, &generation(IMPORT, "2026-03-02T09:17:00.000Z"), later(101)).await.unwrap();
    assert_eq!(world.started().len(), 1);
    world.put(&StateKey::Exemptions, &serde_json::json!({ "Version": 2, "Exemptions": "none" }));
    take(&world, &of_bucket("other"), later(102)).await.unwrap();
    assert_eq!((world.started().len(), last_code(&world).as_deref()), (1, Some("state-unreadable")));
}

#[tokio::test]
async fn the_operators_own_set_is_read_with_the_rest_and_one_that_is_damaged_changes_nothing() {
    let source = r#"@id("own.act") permit (principal, action == Redress::Action::"Act", resource);
        @id("own.tell") permit (principal, action == Redress::Action::"Notify", resource);"#;
    let world = World::new(&Settings { policy_set: PolicySetName::Custom, ..Settings::default() });
    let orchestrator = Orchestrator::new(&world, identity());
    orchestrator.message(&of_bucket("none"), now()).await.unwrap();
    assert_eq!(last_code(&world).as_deref(), Some("policy-unreadable"));
    let item = PolicyItem {
        version: 1,
        source: source.to_owned(),
        sha256: sha256_hex(source.as_bytes()),
        set_by: "arn:aws:iam::999988887777:role/Admin".to_owned(),
        set_at: now(),
        reason: String::new(),
    };
    world.put(&StateKey::Policy, &item);
    world.calls();
    orchestrator.message(&of_bucket("one"), later(1)).await.unwrap();
    assert_eq!(world.calls(), ["BatchGetItem", "Invoke", "TransactWriteItems", "StartAutomationExecution"]);
    assert_eq!(world.records().iter().rev().nth(1).unwrap().detail(detail::POLICIES), Some("own.act"));
    world.put(&StateKey::Policy, &PolicyItem { source: format!("{source} // torn"), ..item });
    orchestrator.message(&of_bucket("two"), later(2)).await.unwrap();
    assert_eq!((world.started().len(), last_code(&world).as_deref()), (1, Some("policy-unreadable")));
}

#[tokio::test]
async fn a_closed_calendar_holds_rules_back_and_one_that_cannot_be_read_lets_nothing_through() {
    let calendar = "arn:aws:ssm:eu-central-1:999988887777:document/freeze".parse().unwrap();
    let world = World::new(&Settings { change_calendars: vec![calendar], ..standard() });
    let orchestrator = Orchestrator::new(&world, identity());
    world.fail_next("GetCalendarState");
    assert!(orchestrator.message(&of_bucket("one"), now()).await.is_err(), "it may be read later");
    world.close_calendar();
    orchestrator.message(&of_bucket("two"), later(1)).await.unwrap();
    assert_eq!(last_code(&world).as_deref(), Some("calendar-closed"));
    world.calls();
    orchestrator.message(&of_bucket("three"), later(2)).await.unwrap();
    assert!(!world.calls().contains(&"GetCalendarState"), "it is believed for a minute");
    orchestrator.message(ASKED, later(3)).await.unwrap();
    assert_eq!(world.started().len(), 1, "a person who asks answers for it");
}

#[tokio::test]
async fn a_threat_makes_what_people_are_told_urgent() {
    let world = World::new(&standard());
    world.evidence(|evidence| {
        evidence.threats = vec!["203.0.113.7".to_owned()];
        evidence.owned_by = Some(stack());
    });
    take(&world, IMPORT, now()).await.unwrap();
    assert_eq!(world.urgent(), [true]);
}

#[tokio::test]
async fn defect_17_a_finding_of_the_far_future_keeps_no_later_one_out() {
    let world = World::new(&standard());
    take(&world, &generation(IMPORT, "2999-01-01T00:00:00.000Z"), now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    take(&world, &generation(IMPORT, "2999-01-01T00:00:00.000Z"), later(4)).await.unwrap();
    assert_eq!(world.started().len(), 1, "it is one and the same");
    take(&world, &generation(IMPORT, "2026-03-02T10:00:00.000Z"), later(2700)).await.unwrap();
    assert_eq!(world.started().len(), 2);
}

#[tokio::test]
async fn defect_10_a_finding_that_a_member_sends_of_another_account_is_refused() {
    let world = World::new(&standard());
    let body = CONFIG.replacen("\"account\": \"111122223333\"", "\"account\": \"444455556666\"", 1);
    assert_ne!(body, CONFIG);
    take(&world, &body, now()).await.unwrap();
    assert_eq!((world.started().len(), world.dead()), (0, vec!["account-mismatch".to_owned()]));
}

#[tokio::test]
async fn defect_14_a_finding_that_was_suppressed_while_it_waited_is_left_alone() {
    for status in [WorkflowStatus::Suppressed, WorkflowStatus::Resolved] {
        let world = World::new(&limited(|limits| limits.in_flight = 1));
        take(&world, &of_bucket("one"), now()).await.unwrap();
        take(&world, &of_bucket("two"), later(1)).await.unwrap();
        world.put_findings(status);
        let event = world.end(Some(Outcome::Verified));
        complete(&world, &event, later(10)).await;
        world.calls();
        assert_eq!(bring(&world, 11).await, 1);
        assert_eq!(world.calls().iter().filter(|call| **call == "GetFindings").count(), 1);
        assert_eq!((world.started().len(), last_code(&world).as_deref()), (1, Some("workflow")));
        world.verify();
    }
}

#[tokio::test]
async fn what_waited_and_cannot_be_read_is_kept_and_nothing_is_changed() {
    let world = World::new(&limited(|limits| limits.in_flight = 1));
    take(&world, &of_bucket("one"), now()).await.unwrap();
    take(&world, &of_bucket("two"), later(1)).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(10)).await;
    world.fail_next("GetFindings");
    let back = world.take_brought_back();
    let _ = take(&world, &back[0], later(11)).await;
    assert_eq!(world.started().len(), 1);
    if world.dead().is_empty() {
        take(&world, &back[0], later(12)).await.unwrap();
        assert_eq!(world.started().len(), 2, "what is only busy is asked again");
    } else {
        assert_eq!(world.dead(), ["finding-unreadable"]);
    }
    world.verify();
}
