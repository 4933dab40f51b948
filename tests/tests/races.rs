//! Workers that meet: one that stands still beyond its lease while another takes over, and messages and events that come
//! twice, again, or in the wrong order. The same must hold as when a process dies (`faults`): at most one effect, its
//! pre-image before it, a chain that verifies, an end, and people who are told.
//!
//! `cargo test -p redress-tests --test races -- --nocapture` prints the tables and leaves them in target/races.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use redress_common::finding::{Inbound, parse, released};
use redress_common::names;
use redress_lab::faults::{Action, Moment};
use redress_tests::ask::Target;
use redress_tests::bench::{Bench, Entry, Flow, Seconds, Site, table, walk};
use redress_tests::raw::security_hub_event;
use redress_tests::world::binaries;
use serde_json::{Value, json};

const LABS: usize = 3;
const SECONDS: Seconds = Seconds { lease: 2, run: 60, visibility: 7 };
/// Whose workers are brought the same message again.
const WORKERS: [&str; 2] = [names::ORCHESTRATOR_FUNCTION, names::COMPLETION_FUNCTION];
/// What of theirs changes something, or is heard.
const MUTATING: [&str; 7] = [
    "TransactWriteItems",
    "StartAutomationExecution",
    "StartExecution",
    "PutItem",
    "BatchUpdateFindings",
    "Publish",
    "SendTaskSuccess",
];

/// How deliveries go wrong.
#[derive(Debug, Clone, Copy)]
enum Disorder {
    /// Every batch of a queue to four workers at once.
    AtOnce(&'static str),
    /// Every batch of a queue again, when it was dealt with, twice.
    Again(&'static str),
    /// Two messages of a queue, the later one first.
    Reversed(&'static str),
    /// Every event for both queues three times.
    Events,
}

impl Disorder {
    const ALL: [Self; 7] = [
        Self::AtOnce(names::FINDINGS_QUEUE),
        Self::Again(names::FINDINGS_QUEUE),
        Self::Reversed(names::FINDINGS_QUEUE),
        Self::AtOnce(names::COMPLETIONS_QUEUE),
        Self::Again(names::COMPLETIONS_QUEUE),
        Self::Reversed(names::COMPLETIONS_QUEUE),
        Self::Events,
    ];

    fn shown(self) -> String {
        match self {
            Self::AtOnce(queue) => format!("{queue} | every message to four workers at once"),
            Self::Again(queue) => format!("{queue} | every message twice again, when it was dealt with"),
            Self::Reversed(queue) => format!("{queue} | two messages, the later one first"),
            Self::Events => "both queues | every event three times".to_owned(),
        }
    }
}

#[derive(Debug, Clone)]
enum Case {
    Frozen(Flow, Site, Moment),
    Disordered(Flow, Disorder),
}

impl Case {
    fn entry(&self, outcome: Result<String, String>) -> Entry {
        match self {
            Self::Frozen(flow, site, moment) => {
                let column = if *moment == Moment::Before { "frozen before" } else { "frozen after" };
                (flow.shown().to_owned(), site.shown(), column, outcome)
            }
            Self::Disordered(flow, disorder) => {
                (format!("{}: deliveries", flow.shown()), disorder.shown(), "ends as", outcome)
            }
        }
    }
}

/// A worker stands still at a call until the remediation has ended without it; then it goes on.
async fn freeze(bench: &Bench, flow: Flow, site: &Site, moment: Moment) -> Result<String, String> {
    let (world, lab) = (&bench.world, &bench.world.bed.lab);
    bench.settle().await;
    lab.cool_down();
    let mark = lab.record().mark();
    let rule = lab.faults().add(site.struck(Action::Freeze(moment)));
    let arn = bench.break_one(flow).await;
    world.send_raw(&bench.message(flow, &arn, Timestamp::now()).to_string()).await;
    let (ended, struck) = tokio::join!(
        bench.ends(flow, &arn),
        tokio::time::timeout(Duration::from_secs(180), lab.faults().struck(rule)),
    );
    let invoked = || {
        let all = lab.record().invocations();
        all.iter().filter(|call| call.function == site.function).count()
    };
    let before = invoked();
    lab.faults().release(rule);
    if struck.is_err() {
        lab.faults().clear();
        return Err("the call was not made".to_owned());
    }
    world.eventually("the frozen worker ended", async || (invoked() > before).then_some(())).await;
    lab.faults().clear();
    ended?;
    bench.settle().await;
    judge(bench, flow, &arn, mark).await
}

async fn disorder(bench: &Bench, flow: Flow, disorder: Disorder) -> Result<String, String> {
    let (world, lab) = (&bench.world, &bench.world.bed.lab);
    bench.settle().await;
    lab.cool_down();
    let mark = lab.record().mark();
    let now = Timestamp::now();
    let mut resources = vec![bench.break_one(flow).await];
    let mut messages = vec![bench.message(flow, &resources[0], now)];
    match disorder {
        Disorder::AtOnce(queue) => lab.deliveries().duplicate(queue, 3),
        Disorder::Again(queue) => lab.deliveries().repeat(queue, 2),
        Disorder::Reversed(names::FINDINGS_QUEUE) => {
            messages.push(bench.message(flow, &resources[0], now + SignedDuration::from_secs(1)));
            lab.deliveries().reverse(names::FINDINGS_QUEUE, 2);
        }
        Disorder::Reversed(queue) => {
            resources.push(bench.break_one(flow).await);
            messages.push(bench.message(flow, &resources[1], now));
            lab.deliveries().reverse(queue, 2);
        }
        Disorder::Events => {
            for queue in [names::FINDINGS_QUEUE, names::COMPLETIONS_QUEUE] {
                lab.deliveries().duplicate_events(queue, 2);
            }
        }
    }
    for message in &messages {
        if matches!(disorder, Disorder::Events) {
            emit(bench, flow, message).await;
        } else {
            world.send_raw(&message.to_string()).await;
        }
    }
    let mut ended = Vec::new();
    for resource in &resources {
        ended.push(bench.ends(flow, resource).await);
    }
    bench.settle().await;
    lab.deliveries().clear();
    bench.settle().await;
    let mut outcome = String::new();
    for (resource, ended) in resources.iter().zip(ended) {
        ended?;
        outcome = judge(bench, flow, resource, mark).await?;
    }
    Ok(outcome)
}

/// The invariants, and what races add to them: each remediation was started once, and the one effect is the fix.
async fn judge(bench: &Bench, flow: Flow, arn: &str, mark: u64) -> Result<String, String> {
    let outcome = bench.examine(flow, arn, mark).await?;
    let mut started: BTreeMap<String, u32> = BTreeMap::new();
    for run in bench.world.bed.ssm.executions() {
        let run = serde_json::to_value(&run).unwrap();
        if run["document"] == names::CONTROL_DOCUMENT && run["parameters"]["ResourceArn"][0] == arn {
            *started.entry(run["parameters"]["RemediationId"].to_string()).or_default() += 1;
        }
    }
    if started.is_empty() || started.values().any(|times| *times != 1) {
        return Err(format!("started: {started:?}; {outcome}"));
    }
    if outcome == "Verified, 1 effect" { Ok(outcome) } else { Err(outcome) }
}

/// As AWS sends it: through the buses and their rules.
async fn emit(bench: &Bench, flow: Flow, message: &Value) {
    let (world, text) = (&bench.world, |name: &str| message[name].as_str().unwrap().to_owned());
    let account = if flow == Flow::ApiShaped { world.administrator() } else { text("account") };
    let (source, kind) = (text("source"), text("detail-type"));
    world.bed.lab.aws().emit(&account, world.region(), &source, &kind, vec![], message["detail"].clone()).await;
}

/// A bucket that fails S3.8, and the message that brings Security Hub's finding of it back from where it waited. The finding
/// is Security Hub's own: what waited is read there again before anything is changed.
async fn waited(bench: &Bench) -> (String, String) {
    let world = &bench.world;
    let arn = bench.break_one(Flow::ApiShaped).await;
    let target = Target { account: bench.account.clone(), control: "S3.8".to_owned(), arn: arn.clone() };
    let id = world.found_failed(&target).await;
    let asked = json!({ "Filters": { "Id": [{ "Value": id, "Comparison": "EQUALS" }] } });
    let known = world.admin_call("securityhub", "GetFindings", asked).await;
    let event = security_hub_event(&world.administrator(), world.region(), &[known["Findings"][0].clone()], None);
    let Ok(Inbound::Findings(found)) = parse(event.to_string().as_bytes()) else { panic!("no finding: {known}") };
    let (account, region) = (world.administrator().parse().unwrap(), world.region().parse().unwrap());
    (arn, released(&account, &region, found[0].as_ref().unwrap(), None, Timestamp::now()))
}

/// What was brought back from the backlog, and was dealt with meanwhile, leaves its place to the next: with the rights that
/// the orchestrator is deployed with.
async fn next_of_backlog(bench: &Bench) {
    let world = &bench.world;
    // Nobody is told of these findings but by the backlog.
    let forward = json!({ "Name": "redress-forward-findings" });
    world.admin_call("events", "DisableRule", forward.clone()).await;
    let ((old, first), (new, next)) = (waited(bench).await, waited(bench).await);
    world.send_raw(&first).await;
    bench.ends(Flow::ApiShaped, &old).await.unwrap();
    bench.settle().await;
    let place = format!("flight#{}#{}", bench.account, world.region());
    let item = json!({
        "Place": { "S": place }, "Order": { "S": "030#1#a" }, "Body": { "S": next }, "ExpiresAt": { "N": "9999999999" },
    });
    let put = json!({ "TableName": names::BACKLOG_TABLE, "Item": item });
    world.admin_call("dynamodb", "PutItem", put).await;
    let marked = json!({
        "TableName": names::STATE_TABLE, "Key": { "Key": { "S": place } },
        "UpdateExpression": "SET Waiting = :yes, Version = :version",
        "ExpressionAttributeValues": { ":yes": { "BOOL": true }, ":version": { "N": "1000" } },
    });
    world.admin_call("dynamodb", "UpdateItem", marked).await;
    world.send_raw(&first).await;
    world.comes_to(&bench.account, &new, "Verified").await;
    world.admin_call("events", "EnableRule", forward).await;
    assert!(world.denied().iter().all(|call| call.function.is_none()), "{:#?}", world.denied());
}

#[test]
fn workers_that_meet_have_one_effect_and_one_end() {
    let first = Bench::start(SECONDS);
    first.world.run(next_of_backlog(&first));
    let wanted = std::env::var("REDRESS_FAULTS").unwrap_or_default();
    let mut cases = Vec::new();
    for flow in Flow::ALL.into_iter().filter(|flow| wanted.is_empty() || wanted.contains(&format!("{flow:?}"))) {
        let sites = first.world.run(first.sites(flow));
        let mutates =
            |site: &Site| WORKERS.contains(&site.function.as_str()) && MUTATING.contains(&site.operation.as_str());
        for site in sites.into_iter().filter(mutates) {
            cases.extend([Moment::Before, Moment::After].map(|moment| Case::Frozen(flow, site.clone(), moment)));
        }
        cases.extend(Disorder::ALL.map(|disorder| Case::Disordered(flow, disorder)));
    }
    let (done, are_all) = walk("races", first, (LABS, SECONDS), cases, |bench, case| {
        let outcome = bench.world.run(async {
            match case {
                Case::Frozen(flow, site, moment) => freeze(bench, *flow, site, *moment).await,
                Case::Disordered(flow, how) => disorder(bench, *flow, *how).await,
            }
        });
        if let Err(wrong) = &outcome {
            eprintln!("{case:?}: {wrong}");
        }
        outcome
    });
    let entries: Vec<Entry> = done.into_iter().map(|(case, outcome)| case.entry(outcome)).collect();
    let text = table(&entries);
    println!("{text}");
    if wanted.is_empty() && are_all {
        std::fs::write(binaries().with_file_name("races.md"), text).unwrap();
    }
    let wrong: Vec<&Entry> = entries.iter().filter(|entry| entry.3.is_err()).collect();
    println!("{} cases, {} wrong", entries.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
