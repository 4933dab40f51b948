//! Every AWS call of every function, struck: its process killed before the call, killed after it, its answer lost; the call
//! throttled or failed for as long as the SDK tries, or done only when the lease is over. Whatever goes wrong in the middle,
//! the organisation ends in a state that a person can explain.
//!
//! The call sites are not listed here: a clean run of each flow records them, cold, and each is then struck in a run
//! of its own. `cargo test -p redress-tests --test faults -- --nocapture` prints the table, call site × fault → outcome, and
//! leaves it in target/faults.md. `REDRESS_FAULTS=Native` walks one flow only. What a process lives through (throttled, failed,
//! late) takes long and is walked with `REDRESS_FAULTS=wide`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use redress_common::names;
use redress_lab::faults::{Action, Rule};
use redress_tests::bench::{Bench, Entry, Flow, Seconds, Site, UNTOLD, table, walk};
use redress_tests::world::binaries;
use serde_json::json;

/// Labs that walk side by side. Most of a case is waiting for a queue to bring a message again.
const LABS: usize = 4;
const SECONDS: Seconds = Seconds { lease: 2, run: 60, visibility: 7 };
/// Longer than a lease.
const LATE: Duration = Duration::from_millis(2500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Before,
    After,
    Lost,
    Throttled,
    Failed,
    Delayed,
}

impl Fault {
    const ALL: [Self; 6] = [Self::Before, Self::After, Self::Lost, Self::Throttled, Self::Failed, Self::Delayed];

    /// What a process lives through is struck once a call site, in the first flow that has it.
    const fn is_lived_through(self) -> bool {
        matches!(self, Self::Throttled | Self::Failed | Self::Delayed)
    }

    fn rule(self, site: &Site) -> Rule {
        match self {
            Self::Before => site.struck(Action::KillBefore),
            Self::After => site.struck(Action::KillAfter),
            Self::Lost => site.struck(Action::LoseAnswer),
            Self::Throttled => site.struck(Action::Throttle).and_retries(),
            Self::Failed => site.struck(Action::Fail { status: 500, code: "InternalFailure".to_owned() }).and_retries(),
            Self::Delayed => site.struck(Action::Delay(LATE)),
        }
    }

    const fn refuses(self) -> bool {
        matches!(self, Self::Throttled | Self::Failed)
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Before => "killed before",
            Self::After => "killed after",
            Self::Lost => "answer lost",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
            Self::Delayed => "late",
        }
    }
}

async fn strike(bench: &Bench, flow: Flow, site: &Site, fault: Fault) -> Result<String, String> {
    let lab = &bench.world.bed.lab;
    bench.settle().await;
    lab.cool_down();
    let mark = lab.record().mark();
    let rule = lab.faults().add(fault.rule(site));
    let ended = bench.remediate(flow).await;
    let struck = lab.faults().fired().iter().any(|fired| fired.rule == rule);
    lab.faults().clear();
    let arn = ended?;
    // The end may be told once more: a completion that died after its transaction comes again.
    bench.settle().await;
    let outcome = match bench.examine(flow, &arn, mark).await {
        // What SNS did not take, however often it was sent, the reconciler sends when it does.
        Err(why) if why == UNTOLD && site.service == "sns" && fault.refuses() => {
            bench.reconcile().await;
            format!("{}, told late", bench.examined_when_told(flow, &arn, mark).await?)
        }
        outcome => outcome?,
    };
    if struck { Ok(outcome) } else { Err(format!("the call was not made; {outcome}")) }
}

#[test]
fn whatever_dies_in_the_middle_of_a_remediation_it_ends_explained() {
    let wanted = std::env::var("REDRESS_FAULTS").unwrap_or_default();
    let wide = wanted == "wide";
    let first = Bench::start(SECONDS);
    let (mut cases, mut known) = (Vec::new(), BTreeSet::new());
    for flow in Flow::ALL {
        let is_wanted = wanted.is_empty() || wide || wanted.contains(&format!("{flow:?}"));
        for site in first.world.run(first.sites(flow)) {
            let is_new = known.insert(site.clone());
            let is_walked = |fault: &Fault| !fault.is_lived_through() || (wide && is_new);
            let faults = Fault::ALL.into_iter().filter(|fault| is_wanted && is_walked(fault));
            cases.extend(faults.map(|fault| (flow, site.clone(), fault)));
        }
    }
    let (done, are_all) = walk("faults", first, (LABS, SECONDS), cases, |bench, (flow, site, fault)| {
        let outcome = bench.world.run(strike(bench, *flow, site, *fault));
        if let Err(wrong) = &outcome {
            eprintln!("{flow:?} {} {}: {wrong}", site.shown(), fault.shown());
        }
        outcome
    });
    let functions: BTreeSet<&str> = done.iter().map(|((_, site, _), _)| site.function.as_str()).collect();
    let entry = |((flow, site, fault), outcome): &((Flow, Site, Fault), Result<String, String>)| -> Entry {
        (flow.shown().to_owned(), site.shown(), fault.shown(), outcome.clone())
    };
    let entries: Vec<Entry> = done.iter().map(entry).collect();
    let text = table(&entries);
    println!("{text}");
    if (wanted.is_empty() || wide) && are_all {
        std::fs::write(binaries().with_file_name("faults.md"), text).unwrap();
    }
    let wrong: Vec<&Entry> = entries.iter().filter(|entry| entry.3.is_err()).collect();
    println!("{} cases, {} functions, {} wrong", entries.len(), functions.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A message is received so often before it is a dead letter.
const RECEIVES: usize = 5;

#[test]
fn a_guard_that_dies_every_time_leaves_a_dead_letter_that_is_told_and_can_be_sent_again() {
    let bench = Bench::start(SECONDS);
    let (world, flow) = (&bench.world, Flow::ApiShaped);
    world.run(async {
        let lab = &world.bed.lab;
        let mark = lab.record().mark();
        let rule = lab.faults().add(Rule::new(Action::KillBefore).by(names::GUARD_FUNCTION).always());
        let arn = bench.remediate(flow).await.unwrap();
        let said = bench.examined_when_told(flow, &arn, mark).await;
        assert_eq!(said.as_deref(), Ok("Failed (dead-letter), nothing changed"));
        let asked = lab.record().invocations().into_iter().filter(|call| call.function == names::GUARD_FUNCTION);
        assert_eq!(asked.count(), RECEIVES, "the queue brings it again, and not for ever");

        lab.faults().remove(rule);
        let letters = world.operate(json!({ "Operation": "DlqList" })).await;
        let letter = &letters["Messages"][0]["MessageId"];
        world.operate(json!({ "Operation": "DlqRedrive", "MessageId": letter, "Reason": "it is mended" })).await;
        world.comes_to(&bench.account, &arn, "Verified").await;
        bench.settle().await;
        assert_eq!(bench.examine(flow, &arn, mark).await.as_deref(), Ok("Verified, 1 effect"));
    });
}
