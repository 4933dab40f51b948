//! What the reconciler finds and mends, in the deployed organisation: each way in which an event or a worker is lost.
//!
//! One organisation with short leases; a member account for each way. They take turns: a run of the reconciler looks at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use redress_common::names;
use redress_lab::faults::{Action, Moment, Rule};
use redress_tests::ask::Target;
use redress_tests::grants::{Used, grants, unused, without};
use redress_tests::inbox::Notifications;
use redress_tests::raw::config_event;
use redress_tests::world::World;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

const MEMBERS: [&str; 9] = ["lost", "never", "untold", "letter", "missed", "results", "campaign", "stuck", "asked"];
const SCHEDULE: &str = "redress-reconcile";
const FORWARD_OUTCOMES: &str = "redress-forward-outcomes";

static TOLD: Notifications = Notifications::new();

fn the_world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| World::with_defaults(&MEMBERS, &[("LeaseSeconds", "3"), ("RunSeconds", "15")]))
}

/// One of the ways, gone once, whichever test asks for it.
macro_rules! once {
    ($name:ident, $work:expr) => {
        async fn $name(world: &World) {
            static ONCE: OnceCell<()> = OnceCell::const_new();
            static_turn(&ONCE, world, $work).await;
        }
    };
}

async fn static_turn(once: &OnceCell<()>, world: &World, work: impl AsyncFnOnce(&World)) {
    static TURN: Mutex<()> = Mutex::const_new(());
    once.get_or_init(async || {
        let _turn = TURN.lock().await;
        TOLD.subscribe(world).await;
        work(world).await;
    })
    .await;
}

/// Sessions and log streams are opened by new processes.
async fn new_process(world: &World) {
    static SIZE: AtomicU64 = AtomicU64::new(600);
    let size = SIZE.fetch_add(1, Ordering::Relaxed);
    let asked = json!({ "FunctionName": names::RECONCILER_FUNCTION, "MemorySize": size });
    world.admin_call("lambda", "UpdateFunctionConfiguration", asked).await;
}

/// One run of the reconciler, from its beginning to its end: one that failed earlier is tried again beside it, and is not waited for.
async fn reconcile(world: &World) {
    let fired = jiff::Timestamp::now();
    let ran = || {
        let mut all = world.bed.lab.record().invocations().into_iter();
        all.any(|call| call.function == names::RECONCILER_FUNCTION && call.at >= fired)
    };
    world.bed.lab.fire_schedule(&world.administrator(), SCHEDULE).await.unwrap();
    world.eventually("the reconciler ran", async || ran().then_some(())).await;
}

/// Runs it until something is as it should be.
async fn until<T>(world: &World, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    world
        .eventually(what, async || {
            reconcile(world).await;
            look().await
        })
        .await
}

async fn rule(world: &World, account: &str, operation: &str, name: &str) {
    world.call(account, "events", operation, json!({ "Name": name })).await.unwrap();
}

/// The record of an account with this status and code.
async fn record(world: &World, account: &str, status: &str, code: &str) -> Option<Value> {
    let records = world.ledger(account).await;
    let found =
        |record: &&Value| record["ExecutionStatus"] == status && (code.is_empty() || record["Detail"]["Code"] == code);
    records.iter().find(found).cloned()
}

async fn item(world: &World, key: &str) -> Value {
    let asked = json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": key } }, "ConsistentRead": true });
    world.admin_call("dynamodb", "GetItem", asked).await["Item"].clone()
}

async fn put_item(world: &World, table: &str, item: Value) {
    world.admin_call("dynamodb", "PutItem", json!({ "TableName": table, "Item": item })).await;
}

async fn set(world: &World, key: &str, attribute: &str, value: Value) {
    let asked = json!({
        "TableName": names::STATE_TABLE, "Key": { "Key": { "S": key } }, "UpdateExpression": "SET #a = :v",
        "ExpressionAttributeNames": { "#a": attribute }, "ExpressionAttributeValues": { ":v": value },
    });
    world.admin_call("dynamodb", "UpdateItem", asked).await;
}

once!(lost_outcome, async |world: &World| {
    let account = world.member("lost");
    rule(world, &account, "DisableRule", FORWARD_OUTCOMES).await;
    let broken = world.break_it("public-bucket", &account).await;
    let ended = || {
        let all = world.bed.ssm.executions();
        all.iter().any(|run| run.account == account && run.document == names::CONTROL_DOCUMENT && run.ended.is_some())
    };
    world.eventually("the runbook ended", async || ended().then_some(())).await;
    assert!(record(world, &account, "Verified", "").await.is_none(), "nobody told");
    until(world, "its outcome is recorded", async || record(world, &account, "Verified", "").await).await;
    TOLD.when(world, broken.resource_arn.as_str(), "Success").await;
});

once!(never_started, async |world: &World| {
    let account = world.member("never");
    let start = Rule::new(Action::KillBefore).on("ssm", "StartAutomationExecution").in_account(&account);
    let killed = world.bed.lab.faults().add(start);
    let broken = world.break_it("public-bucket", &account).await;
    world.bed.lab.faults().struck(killed).await;
    let claimed = world.eventually("it was claimed", async || record(world, &account, "Claimed", "").await).await;
    let id = claimed["RemediationId"].as_str().unwrap();
    let failed =
        until(world, "the claim ends", async || record(world, &account, "Failed", "never-started").await).await;
    assert_eq!((&failed["RemediationId"], &failed["NotificationSent"]), (&claimed["RemediationId"], &json!(true)));
    TOLD.when(world, broken.resource_arn.as_str(), "Failed").await;
    let region = world.region();
    let flight = item(world, &format!("flight#{account}#{region}")).await;
    assert!(flight["Running"]["M"].as_object().is_none_or(|running| !running.contains_key(id)), "{flight}");
});

once!(untold, async |world: &World| {
    let (account, faults) = (world.member("untold"), world.bed.lab.faults());
    let refuse = || Action::Fail { status: 400, code: "InternalError".to_owned() };
    let nobody = |function: &str| Rule::new(refuse()).by(function).on("sns", "Publish").always().and_retries();
    let rules = [names::COMPLETION_FUNCTION, names::RECONCILER_FUNCTION].map(|function| faults.add(nobody(function)));
    // Of a worker that could not tell, and of the reconciler that could not either.
    let broken = world.break_it("public-bucket", &account).await;
    let fixed = world.eventually("it is fixed", async || record(world, &account, "Verified", "").await).await;
    assert_eq!(fixed["NotificationSent"], false);
    let start = Rule::new(Action::KillBefore).on("ssm", "StartAutomationExecution").in_account(&account);
    let killed = faults.add(start);
    let never = world.break_it("public-bucket", &account).await;
    faults.struck(killed).await;
    let failed =
        until(world, "its claim ends", async || record(world, &account, "Failed", "never-started").await).await;
    assert_eq!(failed["NotificationSent"], false);
    rules.into_iter().for_each(|rule| faults.remove(rule));
    let late = async |status: &str| record(world, &account, status, "sent-late").await;
    for (status, broken) in [("Verified", broken), ("Failed", never)] {
        let told = until(world, "people are told after all", async || late(status).await).await;
        assert_eq!(told["NotificationSent"], true);
        let said = if status == "Verified" { "Success" } else { status };
        TOLD.when(world, broken.resource_arn.as_str(), said).await;
    }
});

once!(dead_letter, async |world: &World| {
    let account = world.member("letter");
    let event = config_event(&account, world.region(), "redress-dead", jiff::Timestamp::now());
    let outcome = json!({
        "source": "aws.ssm", "account": account, "region": world.region(),
        "detail": { "ExecutionId": "e-1", "Definition": "Redress-Control", "Status": "Success" },
    });
    for (queue, body) in [(names::FINDINGS_DLQ, event), (names::COMPLETIONS_DLQ, outcome)] {
        let url = world.queue_url(queue).await;
        world.admin_call("sqs", "SendMessage", json!({ "QueueUrl": url, "MessageBody": body.to_string() })).await;
    }
    let told = async || {
        let records = world.ledger(&account).await;
        let end = |record: &Value| record["Detail"]["Code"] == "dead-letter" && record["ExecutionStatus"] == "Failed";
        let dead: Vec<Value> = records.into_iter().filter(end).collect();
        (dead.len() >= 2).then_some(dead)
    };
    let records = until(world, "both letters have a record", told).await;
    assert!(records.iter().any(|record| record["ResourceId"] == "arn:aws:s3:::redress-dead"), "{records:#?}");
    assert!(records.iter().any(|record| record["FindingId"] == "e-1"), "{records:#?}");
    // Looked at again, they are as they were.
    reconcile(world).await;
    assert_eq!(told().await.unwrap().len(), 2);
    for queue in [names::FINDINGS_DLQ, names::COMPLETIONS_DLQ] {
        let url = world.queue_url(queue).await;
        let asked = json!({ "QueueUrl": url, "MessageAttributeNames": ["All"], "MaxNumberOfMessages": 10 });
        let what = format!("the letter in {queue} says why");
        world
            .eventually(&what, async || {
                let taken = world.admin_call("sqs", "ReceiveMessage", asked.clone()).await;
                let letters = taken["Messages"].as_array().cloned().unwrap_or_default();
                let code = |letter: &Value| letter["MessageAttributes"]["Code"]["StringValue"] == "dead-letter";
                letters.iter().any(code).then_some(())
            })
            .await;
    }
});

once!(missed_finding, async |world: &World| {
    let (account, administrator) = (world.member("missed"), world.administrator());
    rule(world, &administrator, "DisableRule", "redress-forward-findings").await;
    let broken = world.break_only("public-bucket", &account).await;
    let target =
        Target { account: account.clone(), control: broken.control.to_string(), arn: broken.resource_arn.to_string() };
    let finding = world.found_failed(&target).await;
    let fixed = until(world, "it is brought and fixed", async || record(world, &account, "Verified", "").await).await;
    assert_eq!(fixed["FindingId"], *finding);
    rule(world, &administrator, "EnableRule", "redress-forward-findings").await;
});

once!(missed_result, async |world: &World| {
    let account = world.member("results");
    rule(world, &account, "DisableRule", "redress-forward-config").await;
    world.break_it("missing-tags", &account).await;
    until(world, "it is brought and fixed", async || record(world, &account, "Verified", "").await).await;
});

once!(stuck_run, async |world: &World| {
    let account = world.member("stuck");
    let hang = Rule::new(Action::Freeze(Moment::Before)).on("s3", "PutObject").in_account(&account);
    let hang = world.bed.lab.faults().add(hang.by(names::RECORDER_FUNCTION));
    world.break_it("public-bucket", &account).await;
    world.bed.lab.faults().struck(hang).await;
    let stopped = until(world, "it is stopped", async || record(world, &account, "Applying", "stopped").await).await;
    assert!(stopped["Detail"]["ExecutionId"].is_string());
    until(world, "its end is recorded", async || record(world, &account, "Failed", "").await).await;
    world.bed.lab.faults().release(hang);
});

once!(unheard_answer, async |world: &World| {
    let account = world.member("asked");
    let source = format!(
        r#"@id("t.tell") permit (principal, action == Redress::Action::"Notify", resource);
        @id("t.ask") @approvers("1") permit (principal, action == Redress::Action::"Approve", resource)
        when {{ context.mode == "Apply" && resource.account == "{account}" }};"#
    );
    world.operate(json!({ "Operation": "PolicySet", "Source": source, "Reason": "a test" })).await;
    let broken = world.break_it("public-bucket", &account).await;
    let told = async || {
        let asked = record(world, &account, "AwaitingApproval", "asked").await?;
        (asked["NotificationSent"] == true).then_some(asked)
    };
    let asked = world.eventually("people are asked", told).await;
    let key = format!("approval#{}", asked["RemediationId"].as_str().unwrap());
    // As the api leaves it when it dies before it tells the workflow.
    let vote = json!({ "M": {
        "By": { "S": "arn:aws:iam::111111111111:user/jo" }, "Approve": { "BOOL": true }, "At": { "N": "0" },
        "Reason": { "S": "a test" },
    } });
    set(world, &key, "Votes", json!({ "L": [vote] })).await;
    set(world, &key, "Status", json!({ "S": "Approved" })).await;
    let applied = async || record(world, &account, "Verified", "").await;
    until(world, "the workflow hears of it and applies the plan", applied).await;
    TOLD.when(world, broken.resource_arn.as_str(), "Success").await;
    let standard = json!({ "Operation": "Settings", "PolicySet": "standard", "Reason": "as it was" });
    world.operate(standard).await;
});

once!(changed_by_hand, async |world: &World| {
    let admin = world.administrator();
    reconcile(world).await;
    let by_hand = async || {
        let records = world.ledger(&admin).await;
        let end =
            |record: &&Value| record["Detail"]["Code"] == "changed-by-hand" && record["ExecutionStatus"] == "Notified";
        records.iter().filter(end).count()
    };
    assert_eq!(by_hand().await, 0, "what was there at first is what was deployed");
    let scope = json!({ "Account": world.member("letter") });
    let off = json!({ "Operation": "Switch", "To": "observe", "Scope": scope, "Reason": "a test" });
    world.operate(off).await;
    reconcile(world).await;
    assert_eq!(by_hand().await, 0, "the api wrote down what it changed");
    set(world, "settings", "ChangeReason", json!({ "S": "nobody will notice" })).await;
    until(world, "it is noticed", async || (by_hand().await == 1).then_some(())).await;
    TOLD.when(world, "redress:settings", "Notified").await;
    reconcile(world).await;
    assert_eq!(by_hand().await, 1, "once");
});

once!(paced_campaign, async |world: &World| {
    let account = world.member("campaign");
    let hour_ago = jiff::Timestamp::now().as_millisecond() - 3_600_000;
    let mut resources = Vec::new();
    for order in ["030#1#a", "030#2#b"] {
        let broken = world.break_only("public-bucket", &account).await;
        let bucket = broken.resource_arn.to_string().rsplit(':').next().unwrap().to_owned();
        let body = config_event(&account, world.region(), &bucket, jiff::Timestamp::now()).to_string();
        let waiting = json!({
            "Place": { "S": "campaign#old-buckets" }, "Order": { "S": order }, "Body": { "S": body },
            "ExpiresAt": { "N": "9999999999" },
        });
        put_item(world, names::BACKLOG_TABLE, waiting).await;
        resources.push(broken.resource_arn.to_string());
    }
    let campaign = json!({
        "Key": { "S": "campaign#old-buckets" }, "Open": { "S": "campaign" }, "LeaseUntil": { "N": hour_ago.to_string() },
        "Version": { "N": "1" }, "Name": { "S": "old-buckets" }, "Status": { "S": "Running" }, "Control": { "S": "S3.8" },
        "Accounts": { "L": [] }, "PerHour": { "N": "1" }, "Planned": { "N": "2" }, "Released": { "N": "0" },
        "ReleasedAt": { "N": hour_ago.to_string() }, "CreatedBy": { "S": "test" },
        "CreatedAt": { "S": "2026-01-01T00:00:00Z" }, "Reason": { "S": "a test" },
    });
    put_item(world, names::STATE_TABLE, campaign).await;
    let fixed = async |resource: &str| {
        let records = world.ledger(&account).await;
        let is_it = |record: &Value| record["ResourceId"] == resource && record["ExecutionStatus"] == "Verified";
        records.iter().any(is_it).then_some(())
    };
    until(world, "the first is released and fixed", async || fixed(&resources[0]).await).await;
    reconcile(world).await;
    let state = item(world, "campaign#old-buckets").await;
    assert_eq!(state["Released"]["N"], "1", "the second waits for its hour: {state}");
    set(world, "campaign#old-buckets", "ReleasedAt", json!({ "N": hour_ago.to_string() })).await;
    until(world, "the second is released and fixed", async || fixed(&resources[1]).await).await;
    let done = async || (item(world, "campaign#old-buckets").await["Status"]["S"] == "Done").then_some(());
    until(world, "the campaign is done", done).await;
});

once!(account_facts, async |world: &World| {
    let account = world.member("letter");
    let key = format!("account#{account}");
    let old = json!({
        "Key": { "S": key }, "Open": { "S": "account" }, "LeaseUntil": { "N": "0" }, "Account": { "S": account },
        "Name": { "S": "?" }, "OuPath": { "L": [] }, "Tags": { "M": {} }, "ReadAt": { "N": "0" },
    });
    put_item(world, names::STATE_TABLE, old.clone()).await;
    let young = async || {
        let facts = item(world, &key).await;
        (facts["ReadAt"]["N"] != "0" && facts["OuPath"]["L"] != json!([])).then_some(())
    };
    until(world, "the facts are read anew", young).await;
    // And at once when Organizations tells of a move.
    put_item(world, names::STATE_TABLE, old).await;
    let moved = json!({
        "source": "aws.organizations", "detail-type": "AWS API Call via CloudTrail",
        "detail": { "eventName": "MoveAccount", "requestParameters": { "accountId": account } },
    });
    let asked = json!({
        "FunctionName": names::RECONCILER_FUNCTION, "InvocationType": "Event", "Payload": moved.to_string(),
    });
    world.admin_call("lambda", "Invoke", asked).await;
    world.eventually("the facts are read anew", young).await;
});

once!(broken_part, async |world: &World| {
    let role = json!({ "RoleName": names::RECONCILER_ROLE, "PolicyName": "guardrail" });
    let mut asked = role.clone();
    let deny = json!({ "Effect": "Deny", "Action": "securityhub:GetFindings", "Resource": "*" });
    asked["PolicyDocument"] = json!({ "Version": "2012-10-17", "Statement": [deny] }).to_string().into();
    let watched = async || item(world, "reconciler").await["WatchedAt"]["N"].as_str().unwrap_or("0").to_owned();
    let before = watched().await;
    world.admin_call("iam", "PutRolePolicy", asked).await;
    reconcile(world).await;
    world.eventually("the parts after it are done", async || (watched().await != before).then_some(())).await;
    let buried = async || (world.depth(names::RECONCILER_DLQ).await.0 > 0).then_some(());
    world.eventually("the failed run is told of", buried).await;
    world.admin_call("iam", "DeleteRolePolicy", role).await;
});

#[test]
fn an_outcome_whose_event_was_lost_is_recorded() {
    let world = the_world();
    world.run(lost_outcome(world));
}

#[test]
fn a_claim_whose_worker_died_before_the_start_ends_and_people_are_told() {
    let world = the_world();
    world.run(never_started(world));
}

#[test]
fn what_sns_did_not_take_people_are_told_when_it_does() {
    let world = the_world();
    world.run(untold(world));
}

#[test]
fn a_dead_letter_gets_a_record_and_a_reason() {
    let world = the_world();
    world.run(dead_letter(world));
}

#[test]
fn a_finding_whose_event_never_came_is_brought() {
    let world = the_world();
    world.run(missed_finding(world));
}

#[test]
fn a_result_of_config_whose_event_never_came_is_brought() {
    let world = the_world();
    world.run(missed_result(world));
}

#[test]
fn a_run_beyond_its_time_is_stopped_and_its_end_recorded() {
    let world = the_world();
    world.run(stuck_run(world));
}

#[test]
fn an_answer_that_the_workflow_did_not_hear_is_told_again() {
    let world = the_world();
    world.run(unheard_answer(world));
}

#[test]
fn settings_that_were_changed_by_hand_are_noticed_once() {
    let world = the_world();
    world.run(changed_by_hand(world));
}

#[test]
fn a_campaign_releases_its_findings_at_its_pace() {
    let world = the_world();
    world.run(paced_campaign(world));
}

#[test]
fn what_is_known_of_an_account_stays_young() {
    let world = the_world();
    world.run(account_facts(world));
}

#[test]
fn a_part_that_fails_keeps_no_other_from_its_work_and_is_told_of() {
    let world = the_world();
    world.run(broken_part(world));
}

/// Of the role's lines only: what the others need is the business of `least_privilege`.
#[test]
fn every_line_of_the_reconcilers_policy_is_used_and_none_is_missing() {
    let world = the_world();
    world.run(async {
        lost_outcome(world).await;
        never_started(world).await;
        untold(world).await;
        dead_letter(world).await;
        missed_finding(world).await;
        missed_result(world).await;
        stuck_run(world).await;
        unheard_answer(world).await;
        changed_by_hand(world).await;
        paced_campaign(world).await;
        account_facts(world).await;
        broken_part(world).await;
        let admin = world.administrator();
        let whole = world.role_policy(&admin, names::RECONCILER_ROLE, "reconcile").await;
        let lines = grants(&admin, names::RECONCILER_ROLE, "reconcile", &whole);
        let checks = |mark: u64, allowed: bool| -> BTreeSet<Used> {
            world.checks(mark, allowed).into_iter().filter(|used| used.role == names::RECONCILER_ROLE).collect()
        };
        let mut denied = checks(0, false);
        denied.retain(|used| used.action != "securityhub:GetFindings");
        assert!(denied.is_empty(), "refused although nothing is missing: {denied:#?}");
        // Logs are written from time to time.
        let left = async || {
            let used = checks(0, true);
            unused(&lines, &used).iter().map(|line| format!("{line}\n")).collect::<String>()
        };
        let started = std::time::Instant::now();
        while !left().await.is_empty() && started.elapsed() < std::time::Duration::from_secs(10) {
            reconcile(world).await;
        }
        assert_eq!(left().await, "", "granted, and used by nothing");

        // Each line that every run uses, taken away: it is refused, and the run says that it failed.
        let (record, mark) = (world.bed.lab.record(), world.bed.lab.record().mark());
        new_process(world).await;
        reconcile(world).await;
        let of_a_run = checks(mark, true);
        let runs = || {
            let all = record.invocations().into_iter();
            all.filter(|call| call.function == names::RECONCILER_FUNCTION).collect::<Vec<_>>()
        };
        let mut taken = 0;
        for line in lines.iter().filter(|line| of_a_run.iter().any(|call| line.covers(call))) {
            let logs = line.action.starts_with("logs:");
            if line.action == "logs:PutLogEvents" {
                // Written when the lab comes to it.
                continue;
            }
            println!("without {line}");
            world.put_role_policy(line, &without(&whole, line)).await;
            new_process(world).await;
            let (mark, before) = (record.mark(), runs().len());
            reconcile(world).await;
            let refused = async || checks(mark, false).iter().any(|call| line.covers(call)).then_some(());
            world.eventually(&format!("without `{line}` it is refused"), refused).await;
            let failed = async || runs()[before..].iter().any(|run| run.error.is_some()).then_some(());
            if !logs {
                world.eventually(&format!("without `{line}` the run fails"), failed).await;
            }
            world.put_role_policy(line, &whole).await;
            taken += 1;
        }
        assert!(taken >= 8, "{taken} lines only were taken away");
    });
}
