//! The storm, measured: `cargo xtask bench`. The figures go to `target/storm.json`, from where the table takes them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a measurement that cannot be made ends the run")]

use redress_tests::world::root;
use serde_json::{Value, json};

#[allow(dead_code, reason = "admin's tests use the rest of it")]
#[path = "../../admin/tests/pipeline/world.rs"]
mod world;

#[allow(dead_code, reason = "the same")]
#[path = "../../admin/tests/pipeline/watched.rs"]
mod watched;

#[path = "../../admin/tests/pipeline/storm.rs"]
mod storm;

use storm::{Mark, Report, Shape, storm};

const GROUP: &str = "Storm";

fn figure(what: impl Into<String>, value: f64, unit: &str, budget: Option<f64>) -> Value {
    json!({ "Group": GROUP, "What": what.into(), "Value": value, "Unit": unit, "Budget": budget, "Asr": "" })
}

fn run(shape: Shape) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(storm(shape))
}

/// Of a delivery between two moments: own CPU, milliseconds.
fn cpu(from: Mark, to: Mark, deliveries: usize) -> f64 {
    (to.cpu_ms - from.cpu_ms) as f64 / deliveries as f64
}

fn main() {
    // `cargo test --all-targets` comes here, too, without what `cargo bench` says.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let count = |value: usize| value as f64;
    let mebibytes = |bytes: u64| bytes as f64 / 1e6;
    let asked = std::env::args().skip_while(|argument| argument != "--deliveries").nth(1);
    let deliveries = asked.map_or(438_000, |text| text.parse().unwrap());

    let one = run(Shape { findings: 1, deliveries: 10_000, workers: 8, in_flight: 10, seed: 10 });
    let shape = Shape { findings: 1000, deliveries, workers: 8, in_flight: 10, seed: 21 };
    let many = run(shape);

    let acted: usize = many.others.values().sum();
    let [tenth, half, last] = many.marks;
    // Here and not in the test, whose process other tests share.
    assert!(last.rss < tenth.rss + 16_000_000, "memory grows with deliveries: {} to {} bytes", tenth.rss, last.rss);
    let figures = [
        figure("one event, deliveries", 10_000.0, "", None),
        figure("one event, runbooks started", count(one.start_calls), "", Some(1.0)),
        figure("deliveries", count(deliveries), "", None),
        figure("findings", count(shape.findings), "", None),
        figure(
            "runbooks started (calls of StartAutomationExecution)",
            count(many.start_calls),
            "",
            Some(count(many.expected)),
        ),
        figure("duplicates, each one BatchGetItem and nothing else", count(many.duplicates), "", None),
        figure("deliveries that did something, or met another worker", count(acted), "", None),
        figure("findings brought back from the backlog", count(many.brought_back), "", None),
        figure("messages to people", count(many.told), "", None),
        figure("own CPU per duplicate", cpu(tenth, last, deliveries - deliveries / 10), "ms", Some(0.5)),
        figure("memory after a tenth of the deliveries", mebibytes(tenth.rss), "MB", None),
        figure("memory after half of them", mebibytes(half.rss), "MB", None),
        figure("memory at the end", mebibytes(last.rss), "MB", None),
        figure("ledger records and state items at the half", count(half.tables.0 + half.tables.1), "", None),
        figure("ledger records and state items at the end", count(last.tables.0 + last.tables.1), "", None),
    ];
    let file = root().join("target/storm.json");
    std::fs::write(&file, serde_json::to_string_pretty(&figures).unwrap()).unwrap();
    eprintln!("  {:.1} s; in {}", last.wall_ms as f64 / 1000.0, file.display());
    let mut others: Vec<_> = many.others.iter().collect();
    others.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    for (calls, times) in others.into_iter().take(10) {
        eprintln!("  {times:>6} × {calls}");
    }
}
