//! The reconciler's own calls, struck, in a run that has something of each kind to mend: an outcome that nobody heard
//! of, a finding whose event never came, a dead letter. What a struck run began the next ones end, and nothing is done,
//! recorded or (but at the telling itself) told twice.
//!
//! `cargo test -p redress-tests --test struck_reconciler -- --nocapture` prints the table and leaves it in
//! target/reconciler.md. The call sites are those of a clean run. A call that only reads is killed before it and throttled;
//! one that changes something, also killed after it, and its answer lost. `REDRESS_FAULTS=SendMessage` strikes those calls only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redress_common::names;
use redress_common::state::State;
use redress_lab::faults::{Action, Rule};
use redress_tests::again::claim_key;
use redress_tests::ask::Target;
use redress_tests::bench::{Bench, Entry, Flow, Seconds, Site, table, walk};
use redress_tests::raw::config_event;
use redress_tests::world::binaries;
use serde_json::{Value, json};

const LABS: usize = 4;
const SECONDS: Seconds = Seconds { lease: 2, run: 60, visibility: 7 };
const FLOW: Flow = Flow::ApiShaped;
const SECTION: &str = "The reconciler, with a lost outcome, a missed finding and a dead letter to mend";
/// How long the runs after the struck one may take to end everything.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two runs.
const SCHEDULE: Duration = Duration::from_secs(3);
/// So long ago the stuck claim's lease ended, milliseconds: long enough to be looked at, and not so long that it is given up.
const OVERDUE: i64 = 60 * 60 * 1000;
/// What is done again and again by the same line is struck the first two times: reads, and how far a run came.
const TIMES: u64 = 2;
/// What changes something, or is heard.
const MUTATING: [&str; 6] =
    ["PutItem", "TransactWriteItems", "Publish", "SendMessage", "DeleteMessage", "ChangeMessageVisibility"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Before,
    Throttled,
    After,
    Lost,
}

impl Fault {
    fn of(site: &Site) -> &'static [Self] {
        if is_read(site) {
            &[Self::Before, Self::Throttled]
        } else {
            &[Self::Before, Self::Throttled, Self::After, Self::Lost]
        }
    }

    fn rule(self, site: &Site) -> Rule {
        match self {
            Self::Before => site.struck(Action::KillBefore),
            Self::After => site.struck(Action::KillAfter),
            Self::Lost => site.struck(Action::LoseAnswer),
            Self::Throttled => site.struck(Action::Throttle).and_retries(),
        }
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Before => "killed before",
            Self::After => "killed after",
            Self::Lost => "answer lost",
            Self::Throttled => "throttled",
        }
    }
}

fn is_read(site: &Site) -> bool {
    !MUTATING.contains(&site.operation.as_str())
}

/// What there is to mend.
struct Mess {
    stuck: String,
    missed: String,
    letter: String,
    /// Of the record, before all of it.
    mark: u64,
}

async fn rule(bench: &Bench, account: &str, operation: &str, name: &str) {
    bench.world.call(account, "events", operation, json!({ "Name": name })).await.unwrap();
}

async fn mess(bench: &Bench) -> Mess {
    let (world, lab) = (&bench.world, &bench.world.bed.lab);
    let mark = lab.record().mark();
    let url = world.queue_url(names::FINDINGS_DLQ).await;
    world.admin_call("sqs", "PurgeQueue", json!({ "QueueUrl": url })).await;

    rule(bench, &world.administrator(), "DisableRule", "redress-forward-findings").await;
    let missed = bench.break_one(FLOW).await;
    let target = Target { account: bench.account.clone(), control: "S3.8".to_owned(), arn: missed.clone() };
    world.found_failed(&target).await;
    let found = Timestamp::now().as_millisecond();

    rule(bench, &bench.account, "DisableRule", "redress-forward-outcomes").await;
    let stuck = bench.break_one(FLOW).await;
    world.send_raw(&bench.message(FLOW, &stuck, Timestamp::now()).to_string()).await;
    let ended = || {
        let runs = world.bed.ssm.executions();
        runs.iter().any(|run| {
            let text = serde_json::to_string(run).unwrap_or_default();
            run.document == names::CONTROL_DOCUMENT && run.ended.is_some() && text.contains(&stuck)
        })
    };
    world.eventually("the stuck run ended", async || ended().then_some(())).await;
    rule(bench, &bench.account, "EnableRule", "redress-forward-outcomes").await;

    let bucket = format!("redress-dead-{}", uuid::Uuid::new_v4());
    let body = config_event(&bench.account, world.region(), &bucket, Timestamp::now()).to_string();
    world.admin_call("sqs", "SendMessage", json!({ "QueueUrl": url, "MessageBody": body })).await;

    // What is younger than a lease may be on its way.
    let due = found + 1000 * i64::from(SECONDS.lease + 1);
    let is_due = || Timestamp::now().as_millisecond() > due;
    world.eventually("the finding is missed", async || is_due().then_some(())).await;
    let target = Target { arn: stuck.clone(), ..target };
    let old = json!({
        "TableName": names::STATE_TABLE, "Key": { "Key": { "S": claim_key(world.region(), &target) } },
        "UpdateExpression": "SET LeaseUntil = :then",
        "ExpressionAttributeValues": { ":then": { "N": (found - OVERDUE).to_string() } },
    });
    world.admin_call("dynamodb", "UpdateItem", old).await;
    Mess { stuck, missed, letter: format!("arn:aws:s3:::{bucket}"), mark }
}

/// One run, to its end. Lambda's own retries would run into what comes next.
async fn run(bench: &Bench) {
    let asked = json!({ "FunctionName": names::RECONCILER_FUNCTION, "Payload": "{}" });
    drop(bench.world.call(&bench.world.administrator(), "lambda", "Invoke", asked).await);
}

async fn ends(bench: &Bench, resource: &str) -> Vec<Value> {
    let is_end = |record: &Value| {
        let state = record["ExecutionStatus"].as_str().and_then(|state| state.parse::<State>().ok());
        state.is_some_and(State::is_terminal) && record["Detail"]["Code"] != "sent-late"
    };
    bench.records(resource).await.into_iter().filter(is_end).collect()
}

/// Runs until all of it is mended, and looks at how.
async fn mended(bench: &Bench, mess: &Mess, heard: RangeInclusive<usize>) -> Result<String, String> {
    let (started, mut last) = (Instant::now(), Instant::now());
    let all = [&mess.stuck, &mess.missed, &mess.letter];
    loop {
        let mut open = 0;
        for resource in all {
            open += usize::from(ends(bench, resource).await.is_empty());
        }
        if open == 0 {
            break;
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("{open} of 3 did not end within {PATIENCE:?}"));
        }
        if last.elapsed() > SCHEDULE {
            run(bench).await;
            last = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One more: what was mended stays as it is.
    run(bench).await;
    bench.settle().await;
    for resource in [&mess.stuck, &mess.missed] {
        let outcome = bench.examine(FLOW, resource, mess.mark).await?;
        if outcome != "Verified, 1 effect" {
            return Err(outcome);
        }
    }
    bench.verify_ledger().await?;
    for resource in all {
        let mut counted: BTreeMap<String, u32> = BTreeMap::new();
        for end in ends(bench, resource).await {
            *counted.entry(end["RemediationId"].to_string()).or_default() += 1;
        }
        if counted.values().any(|ends| *ends != 1) {
            return Err(format!("{resource} ended more than once: {counted:?}"));
        }
        let told = bench.told.about(&bench.world, resource).await.len();
        if !heard.contains(&told) {
            return Err(format!("people were told {told} times of {resource}"));
        }
    }
    Ok("mended".to_owned())
}

async fn strike(bench: &Bench, site: &Site, fault: Fault) -> Result<String, String> {
    let lab = &bench.world.bed.lab;
    bench.settle().await;
    let mess = mess(bench).await;
    lab.cool_down();
    let rule = lab.faults().add(fault.rule(site));
    run(bench).await;
    let struck = lab.faults().fired().iter().any(|fired| fired.rule == rule);
    lab.faults().clear();
    // Who dies between telling and writing down that people were told leaves them to be told again.
    let heard = match site.operation.as_str() {
        "Publish" | "TransactWriteItems" => 1..=2,
        _ => 1..=1,
    };
    let outcome = mended(bench, &mess, heard).await?;
    if struck { Ok(outcome) } else { Err(format!("the call was not made; {outcome}")) }
}

#[test]
fn whatever_dies_in_the_middle_of_reconciling_the_next_run_ends_it() {
    let first = Bench::start(SECONDS);
    let sites = first.world.run(async {
        let mess = mess(&first).await;
        first.world.bed.lab.cool_down();
        let mark = first.world.bed.lab.record().mark();
        run(&first).await;
        let sites = first.sites_since(mark, |function| function == names::RECONCILER_FUNCTION);
        assert_eq!(mended(&first, &mess, 1..=1).await.as_deref(), Ok("mended"), "nothing struck");
        sites
    });
    let wanted = std::env::var("REDRESS_FAULTS").unwrap_or_default();
    let is_line = |site: &Site| site.nth <= TIMES || !(site.operation == "PutItem" || is_read(site));
    let sites = sites.into_iter().filter(|site| site.shown().contains(&wanted) && is_line(site));
    let cases: Vec<(Site, Fault)> =
        sites.flat_map(|site| Fault::of(&site).iter().map(move |fault| (site.clone(), *fault))).collect();
    let (done, are_all) = walk("struck_reconciler", first, (LABS, SECONDS), cases, |bench, (site, fault)| {
        let outcome = bench.world.run(strike(bench, site, *fault));
        if let Err(wrong) = &outcome {
            eprintln!("{} {}: {wrong}", site.shown(), fault.shown());
        }
        outcome
    });
    let entry = |((site, fault), outcome): ((Site, Fault), Result<String, String>)| -> Entry {
        (SECTION.to_owned(), site.shown(), fault.shown(), outcome)
    };
    let entries: Vec<Entry> = done.into_iter().map(entry).collect();
    let text = table(&entries);
    println!("{text}");
    if wanted.is_empty() && are_all {
        std::fs::write(binaries().with_file_name("reconciler.md"), text).unwrap();
    }
    let wrong: Vec<&Entry> = entries.iter().filter(|entry| entry.3.is_err()).collect();
    println!("{} cases, {} wrong", entries.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
