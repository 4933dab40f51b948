//! The figures of DESIGN §10, measured in the lab: `cargo xtask bench` (after `cargo xtask package`, which builds what ships).
//!
//! Counts are exact; times are medians. Nothing is asserted: a figure over its budget is said, and a busy machine is
//! no failure. What a figure does not tell about AWS is in `docs/figures.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a measurement that cannot be made ends the run"
)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redress_common::names;
use redress_lab::bed::{Bed, BedOptions};
use redress_lab::record::{Call, Invocation};
use redress_lab::scenario::{self, Broken};
use redress_tests::grants::role_of;
use redress_tests::measure::{machine, median, quantile, shipped, short};
use redress_tests::world::{World, options, root};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Accounts in which every control is measured once each, warm.
const WARM: [&str; 5] = ["warm-1", "warm-2", "warm-3", "warm-4", "warm-5"];
const COLD: &str = "cold";
const STORM: &str = "storm";
/// Between them, these start every function of a remediation.
const COLD_SCENARIOS: [&str; 2] = ["public-bucket", "open-ssh"];
const FUNCTIONS: [&str; 5] = [
    names::ORCHESTRATOR_FUNCTION,
    names::GUARD_FUNCTION,
    names::COMPLETION_FUNCTION,
    names::RECORDER_FUNCTION,
    names::REMEDIATE_FUNCTION,
];
/// Whatever takes longer is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(180);

/// One line of the table.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Figure {
    group: Cow<'static, str>,
    what: String,
    value: f64,
    unit: Cow<'static, str>,
    /// The most that DESIGN §10 allows.
    budget: Option<f64>,
    /// AWS's own solution, as DESIGN §10 has it.
    asr: Cow<'static, str>,
}

impl Figure {
    fn verdict(&self) -> &'static str {
        match self.budget {
            None => "",
            Some(budget) if self.value <= budget => "ok",
            Some(_) => "over",
        }
    }
}

/// The table, as it grows.
#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, group: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> &mut Figure {
        let (group, unit, asr) = (group.into(), unit.into(), "".into());
        self.0.push(Figure { group, what: what.into(), value, unit, budget: None, asr });
        self.0.last_mut().expect("just pushed")
    }

    fn promised(
        &mut self,
        group: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        budget: f64,
        asr: &'static str,
    ) {
        let figure = self.add(group, what, value, unit);
        (figure.budget, figure.asr) = (Some(budget), asr.into());
    }

    fn print(&self) {
        let width = self.0.iter().map(|figure| figure.what.chars().count()).max().unwrap_or(0);
        let mut group = "";
        for figure in &self.0 {
            if figure.group != group {
                group = &figure.group;
                println!("\n{group}");
                println!("  {:<width$} {:>16} {:>12} {:<5} ASR v3.1.5", "", "measured", "budget", "");
            }
            let measured = format!("{} {}", short(figure.value), figure.unit);
            let budget = figure.budget.map(|budget| format!("≤ {}", short(budget))).unwrap_or_default();
            println!("  {:<width$} {measured:>16} {budget:>12} {:<5} {}", figure.what, figure.verdict(), figure.asr);
        }
        let over: Vec<&str> =
            self.0.iter().filter(|figure| figure.verdict() == "over").map(|figure| figure.what.as_str()).collect();
        match over.as_slice() {
            [] => println!("\nevery figure is within its budget"),
            over => println!("\nover budget: {}", over.join("; ")),
        }
    }
}

/// What a run is asked for.
struct Asked {
    json: bool,
    rounds: usize,
    deliveries: usize,
}

impl Asked {
    fn parse() -> Self {
        let mut asked = Self { json: false, rounds: 20, deliveries: 1000 };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("a number after it");
            match argument.as_str() {
                "--json" => asked.json = true,
                "--rounds" => asked.rounds = number(),
                "--deliveries" => asked.deliveries = number(),
                "--bench" => {} // cargo's own
                other => panic!("unknown argument `{other}`; there are --json, --rounds N and --deliveries N"),
            }
        }
        asked
    }
}

fn main() {
    // `cargo test --all-targets` comes here, too, without what `cargo bench` says.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let asked = Asked::parse();
    let (from, ships) = shipped(&["orchestrator", "completion", "recorder", "remediate"]);
    let members: Vec<&str> = WARM.into_iter().chain([COLD, STORM]).collect();
    let bed = BedOptions { binaries: from.clone(), ..options(&members) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let bed = runtime.block_on(Bed::start(bed)).unwrap_or_else(|error| panic!("the lab did not start: {error}"));
    let world = World::of(runtime, bed);

    let mut figures = Figures::default();
    let (mut calls, mut stormed) = (BTreeMap::new(), Value::Null);
    packages(&mut figures);
    world.run(async {
        eprintln!("  {} rounds of cold starts …", asked.rounds);
        cold(&world, &mut figures, asked.rounds).await;
        eprintln!("  every control in {} accounts …", WARM.len());
        calls = warm(&world, &mut figures).await;
        eprintln!("  one event delivered {} times …", asked.deliveries);
        stormed = storm(&world, &mut figures, asked.deliveries).await;
        eprintln!("  {} findings at once …", asked.rounds);
        burst(&world, &mut figures, asked.rounds).await;
    });
    deployed(&mut figures);
    // Measured apart, in a process of its own, before this one.
    if let Ok(storm) = std::fs::read_to_string(root().join("target/storm.json")) {
        figures.0.extend(serde_json::from_str::<Vec<Figure>>(&storm).expect("figures"));
    }
    let containment = std::fs::read_to_string(root().join("target/containment.json"));
    let containment: Value = containment.map_or(Value::Null, |text| serde_json::from_str(&text).expect("figures"));

    let report = json!({
        "At": Timestamp::now(),
        "Machine": machine(),
        "Binaries": if ships { "lambda profile" } else { "everyday build: not what ships" },
        "Rounds": asked.rounds,
        "Deliveries": asked.deliveries,
        "Figures": figures.0,
        "CallsPerRemediation": calls,
        "OrchestratorCallsOfAllDeliveries": stormed,
        "Containment": containment,
    });
    let file = root().join("target/figures.json");
    std::fs::write(&file, serde_json::to_string_pretty(&report).expect("JSON")).expect("target can be written to");
    if asked.json {
        println!("{report:#}");
    } else {
        println!("{} · {}", machine(), report["Binaries"].as_str().unwrap_or_default());
        figures.print();
        println!("also in {}", file.display());
    }
}

/// Sizes of what `cargo xtask package` made.
fn packages(figures: &mut Figures) {
    for function in FUNCTIONS {
        let zip = root()
            .join(concat!("target/release-", env!("CARGO_PKG_VERSION"), "/functions"))
            .join(format!("{function}.zip"));
        if let Ok(data) = std::fs::metadata(zip) {
            let size = data.len() as f64 / 1e6;
            figures.promised("Deployment package", format!("{function}, zip"), size, "MB", 6.0, "23.9 MB");
        }
    }
}

/// Every function started anew for real work, again and again.
async fn cold(world: &World, figures: &mut Figures, rounds: usize) {
    let admin = world.bed.organisation.administrator.id.to_string();
    let member = world.member(COLD);
    let from = Timestamp::now();
    let mut took = Vec::new();
    for round in 0..rounds {
        for (function, scenario) in COLD_SCENARIOS.iter().enumerate() {
            for name in FUNCTIONS {
                let account = if [names::ORCHESTRATOR_FUNCTION, names::COMPLETION_FUNCTION].contains(&name) {
                    &admin
                } else {
                    &member
                };
                // Another configuration is another process, in the lab as on AWS.
                let size = json!({ "FunctionName": name, "MemorySize": 257 + round * 2 + function });
                world
                    .call(account, "lambda", "UpdateFunctionConfiguration", size)
                    .await
                    .expect("the function can be configured");
                world.bed.lab.refresh(account, world.bed.organisation.region.as_str());
            }
            took.push(remediate(world, scenario, &member).await.took);
        }
    }
    let starts: Vec<Invocation> =
        since(world, from).into_iter().filter(|invocation| invocation.init_micros.is_some()).collect();
    let of = |name: &str, part: fn(&Invocation) -> Option<u64>| -> Vec<f64> {
        starts.iter().filter(|start| start.function == name).filter_map(part).map(|value| value as f64).collect()
    };
    for name in FUNCTIONS {
        let init: Vec<f64> = of(name, |start| start.init_micros).iter().map(|micros| micros / 1e3).collect();
        let what = format!("{name}, init, median of {}", init.len());
        figures.promised("Cold start", what, median(&init), "ms", 30.0, "387–488 ms");
        figures.add("Cold start", format!("{name}, init, p95"), quantile(&init, 0.95), "ms");
        let memory: Vec<f64> = of(name, |start| start.max_rss_kib).iter().map(|kib| kib * 1024.0 / 1e6).collect();
        let most = memory.iter().copied().fold(0.0, f64::max);
        figures.promised(
            "Cold start",
            format!("{name}, most memory after its first event"),
            most,
            "MB",
            25.0,
            "66–104 MB",
        );
        let cpu: Vec<f64> = of(name, |start| start.cpu_micros).iter().map(|micros| micros / 1e3).collect();
        figures.add("Cold start", format!("{name}, own CPU of init and first event"), median(&cpu), "ms");
    }
    figures.add("Cold start", "event to Verified, all functions cold", median(&took), "s");
}

/// One remediation, and what it took.
struct Run {
    /// Seconds from asking Config to evaluate to the end of the completion.
    took: f64,
    calls: Vec<Call>,
    invocations: Vec<Invocation>,
}

async fn remediate(world: &World, name: &str, account: &str) -> Run {
    let broken = broken(world, name, account).await;
    let (mark, from, began) = (world.bed.lab.record().mark(), Timestamp::now(), Instant::now());
    scenario::notice(world.bed.lab.aws(), &broken).await.expect("Config evaluates");
    let mut seen = 0;
    loop {
        let invocations = since(world, from);
        let ended = invocations.iter().filter(|invocation| invocation.function == names::COMPLETION_FUNCTION).count();
        let took = began.elapsed().as_secs_f64();
        // The ledger is asked only when something ended: asking takes the machine from what is measured.
        if ended > seen && verified(world, account).await.contains(broken.resource_arn.as_str()) {
            return Run { took, calls: world.bed.lab.record().calls_since(mark), invocations };
        }
        seen = ended;
        assert!(began.elapsed() < PATIENCE, "{name} in {account} does not come to Verified");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Every control, one after another, with functions that are up already.
async fn warm(world: &World, figures: &mut Figures) -> BTreeMap<String, Value> {
    let mut first = Vec::new();
    let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
    for account in WARM {
        let account = world.member(account);
        for name in [names::RECORDER_FUNCTION, names::REMEDIATE_FUNCTION] {
            // An event that it refuses; the process stays.
            let _refused =
                world.call(&account, "lambda", "Invoke", json!({ "FunctionName": name, "Payload": "{}" })).await;
        }
        // The first one in an account opens its sessions, which serve for an hour.
        first.push(count(&remediate(world, COLD_SCENARIOS[0], &account).await, is_admin));
        for scenario in scenario::list() {
            runs.entry(scenario.name).or_default().push(remediate(world, scenario.name, &account).await);
        }
    }
    let all = || runs.values().flatten();
    for name in FUNCTIONS {
        let warm =
            all().flat_map(|run| &run.invocations).filter(|one| one.function == name && one.init_micros.is_none());
        let cpu: Vec<f64> = warm.filter_map(|one| one.cpu_micros).map(|micros| micros as f64 / 1e3).collect();
        let what = format!("{name}, own CPU per event, median of {}", cpu.len());
        figures.promised("Warm handler", what, median(&cpu), "ms", 2.0, "13–382 ms");
        figures.add("Warm handler", format!("{name}, own CPU per event, lowest tenth"), quantile(&cpu, 0.1), "ms");
    }
    let mut told = BTreeMap::new();
    for scenario in scenario::list() {
        let runs = &runs[scenario.name];
        let took: Vec<f64> = runs.iter().map(|run| run.took).collect();
        figures.promised("Event to Verified in the lab, warm", scenario.control, median(&took), "s", 1.0, "");
    }
    for scenario in scenario::list() {
        let runs = &runs[scenario.name];
        let admin: Vec<f64> = runs.iter().map(|run| count(run, is_admin)).collect();
        let what =
            format!("{}, admin-side AWS calls, median (most {})", scenario.control, short(quantile(&admin, 1.0)));
        figures.promised("Per remediation", what, median(&admin), "", 10.0, "73 + 2 per poll");
        let member: Vec<f64> = runs.iter().map(|run| count(run, |role| !is_admin(role))).collect();
        figures.add("Per remediation", format!("{}, member-side AWS calls", scenario.control), median(&member), "");
        let invocations: Vec<f64> = runs.iter().map(|run| run.invocations.len() as f64).collect();
        let what = format!("{}, Lambda invocations", scenario.control);
        figures.promised("Per remediation", what, median(&invocations), "", 3.0, "8 + polls");
        let last = runs.last().expect("at least one account");
        told.insert(scenario.control.to_owned(), breakdown(last));
    }
    figures.promised(
        "Per remediation",
        "admin-side AWS calls, the first of an account in an hour",
        median(&first),
        "",
        10.0,
        "73 + 2 per poll",
    );
    let transitions = all().flat_map(|run| &run.calls).filter(|call| call.service == "states").count();
    figures.promised(
        "Per remediation",
        "Step Functions calls, all controls",
        transitions as f64,
        "",
        0.0,
        "17 + 3 per poll",
    );
    told
}

/// One event, as often as EventBridge and SQS could ever deliver it.
async fn storm(world: &World, figures: &mut Figures, deliveries: usize) -> Value {
    const GROUP: &str = "One event delivered many times";
    let account = world.member(STORM);
    let broken = broken(world, "public-bucket", &account).await;
    let body = config_event(&broken).to_string();
    let admin = world.bed.organisation.administrator.id.to_string();
    let queue = world
        .call(&admin, "sqs", "GetQueueUrl", json!({ "QueueName": names::FINDINGS_QUEUE }))
        .await
        .expect("the queue");
    let queue = &queue["QueueUrl"];
    let (mark, from, began) = (world.bed.lab.record().mark(), Timestamp::now(), Instant::now());
    for batch in (0..deliveries).collect::<Vec<_>>().chunks(10) {
        let entries: Vec<Value> = batch.iter().map(|id| json!({ "Id": id.to_string(), "MessageBody": body })).collect();
        world
            .call(&admin, "sqs", "SendMessageBatch", json!({ "QueueUrl": queue, "Entries": entries }))
            .await
            .expect("sent");
    }
    loop {
        let wanted = json!({ "QueueUrl": queue, "AttributeNames": ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"] });
        let left = world.call(&admin, "sqs", "GetQueueAttributes", wanted).await.expect("the queue");
        let empty = left["Attributes"].as_object().is_some_and(|map| map.values().all(|value| value == "0"));
        if empty && verified(world, &account).await.contains(broken.resource_arn.as_str()) {
            break;
        }
        assert!(began.elapsed() < PATIENCE * 2, "the storm does not end: {left}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let calls = world.bed.lab.record().calls_since(mark);
    let made = |operations: &[&str], by: fn(&str) -> bool| {
        let made = calls.iter().filter(|call| operations.contains(&call.operation.as_str()));
        made.filter(|call| by_role(call).is_some_and(|role| by(&role))).count() as f64
    };
    figures.add(GROUP, "deliveries", deliveries as f64, "");
    let started = made(&["StartAutomationExecution"], is_admin);
    let changed = made(&["PutPublicAccessBlock", "PutBucketPublicAccessBlock"], |role| !is_admin(role));
    assert!(
        started >= 1.0 && changed >= 1.0,
        "{started} runbooks started and {changed} changes: the calls of the effect are called otherwise now: {:?}",
        tally(calls.iter().map(|call| format!("{:?} {}:{}", by_role(call), call.service, call.operation)))
    );
    figures.promised(GROUP, "runbooks started", started, "", 1.0, "several starts");
    figures.promised(GROUP, "changes of the resource", changed, "", 1.0, "");
    let orchestrator: Vec<&Call> = calls
        .iter()
        .filter(|call| !is_lambdas_own(call) && by_role(call).as_deref() == Some(names::ORCHESTRATOR_ROLE))
        .collect();
    // What the one delivery that acted made: a read, a write and at most one AssumeRole.
    let acted = orchestrator.iter().filter(|call| call.service == "sts").count() + 2;
    let per = orchestrator.len().saturating_sub(acted) as f64 / (deliveries.saturating_sub(1)).max(1) as f64;
    let what = "AWS calls per duplicate (a process without a catalogue reads it once)";
    figures.promised(GROUP, what, per, "", 1.0, "");
    let invocations: Vec<Invocation> =
        since(world, from).into_iter().filter(|one| one.function == names::ORCHESTRATOR_FUNCTION).collect();
    let warm = invocations.iter().filter(|one| one.init_micros.is_none()).filter_map(|one| one.cpu_micros);
    let cpu = warm.sum::<u64>() as f64 / 1e3 / deliveries as f64;
    figures.add(GROUP, "orchestrator's own CPU per delivery", cpu, "ms");
    let ended = invocations.iter().map(end_millis).fold(0, i64::max);
    let seconds = (ended - from.as_millisecond()) as f64 / 1e3;
    figures.add(
        GROUP,
        "events a second through the orchestrator (the lab's queue is the limit)",
        deliveries as f64 / seconds,
        "/s",
    );
    figures.add(GROUP, "events a second that one core of the orchestrator's own CPU would bear", 1e3 / cpu, "/s");
    let answered =
        |call: &&Call| format!("{}:{} {}", call.service, call.operation, call.error.as_deref().unwrap_or("ok"));
    json!(tally(orchestrator.iter().map(answered)))
}

/// Many findings in the same moment.
async fn burst(world: &World, figures: &mut Figures, many: usize) {
    let account = world.member(STORM);
    let mut all = Vec::new();
    for _ in 0..many {
        all.push(broken(world, "public-bucket", &account).await);
    }
    let (from, began) = (Timestamp::now(), Instant::now());
    scenario::notice(world.bed.lab.aws(), &all[0]).await.expect("Config evaluates");
    loop {
        let done = verified(world, &account).await;
        if all.iter().all(|broken| done.contains(broken.resource_arn.as_str())) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the burst does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let figure =
        figures.add("Burst", format!("{many} new findings of one account, until all are Verified"), seconds, "s");
    figure.asr = "20 starts a minute".into();
    figures.add("Burst", "remediations an hour at that pace", many as f64 / seconds * 3600.0, "/h").asr =
        "1,200 /h".into();
    let invocations = since(world, from).len() as f64 / many as f64;
    figures.promised("Burst", "Lambda invocations per remediation", invocations, "", 3.0, "8 + polls");
}

/// What stands in an account, from the templates.
fn deployed(figures: &mut Figures) {
    const GROUP: &str = "Deployed in a member account";
    let text = |name: &str| std::fs::read_to_string(root().join("stacksets").join(name)).expect("a template");
    let documents = std::fs::read_dir(root().join("stacksets/member-documents")).expect("the templates");
    let documents =
        documents.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a template"));
    let member = ["member-stack.yaml", "member-roles.yaml"].map(text).into_iter().chain(documents);
    let member = member.collect::<String>();
    let count = |kind: &str| {
        let kind = format!("Type: {kind}");
        member.lines().filter(|line| line.trim().trim_matches('"') == kind).count() as f64
    };
    let controls = std::fs::read_dir(root().join("ssm-documents/controls")).expect("the controls").count() as f64;
    figures.promised(
        GROUP,
        "SSM documents per control (Redress-Control not counted)",
        (count("AWS::SSM::Document") - 1.0) / controls,
        "",
        1.0,
        "156 per Region",
    );
    figures.promised(GROUP, "IAM roles", count("AWS::IAM::Role"), "", 30.0, "80");
    figures.promised(GROUP, "KMS keys, all Regions together", count("AWS::KMS::Key"), "", 1.0, "1 per Region");
}

async fn broken(world: &World, name: &str, account: &str) -> Broken {
    let account = account.parse().expect("an account id");
    scenario::break_only(name, world.bed.lab.aws(), &account, &world.bed.organisation.region)
        .await
        .expect("it can be broken")
}

/// The resources of an account that came to `Verified`.
async fn verified(world: &World, account: &str) -> BTreeSet<String> {
    let records = world.ledger(account).await;
    let verified = records.iter().filter(|record| record["ExecutionStatus"] == "Verified");
    verified.filter_map(|record| record["ResourceId"].as_str().map(str::to_owned)).collect()
}

/// The event of Config's rule for a bucket without its public access block.
fn config_event(broken: &Broken) -> Value {
    let catalogue: Value =
        serde_json::from_slice(&std::fs::read(root().join("ssm-documents/catalogue.json")).expect("the catalogue"))
            .expect("JSON");
    let rule = &catalogue[broken.control.as_str()]["ConfigRules"][0];
    let (now, id) = (Timestamp::now(), uuid::Uuid::new_v4());
    let bucket = broken.resource_arn.as_str().rsplit(':').next().unwrap_or_default();
    json!({
        "version": "0", "id": id, "detail-type": "Config Rules Compliance Change", "source": "aws.config",
        "account": broken.account, "time": now, "region": broken.region, "resources": [],
        "detail": {
            "resourceId": bucket, "resourceType": "AWS::S3::Bucket", "awsRegion": broken.region, "awsAccountId": broken.account,
            "configRuleName": rule, "recordVersion": "1.0", "messageType": "ComplianceChangeNotification",
            "notificationCreationTime": now,
            "newEvaluationResult": { "complianceType": "NON_COMPLIANT", "resultRecordedTime": now, "configRuleInvokedTime": now },
        },
    })
}

fn since(world: &World, from: Timestamp) -> Vec<Invocation> {
    world.bed.lab.record().invocations().into_iter().filter(|invocation| invocation.at >= from).collect()
}

fn end_millis(invocation: &Invocation) -> i64 {
    invocation.at.as_millisecond() + i64::try_from(invocation.micros / 1000).unwrap_or_default()
}

/// The role that made a call; none for the lab's own administrators.
fn by_role(call: &Call) -> Option<String> {
    role_of(&call.principal).map(|(_, role)| role)
}

/// The administrator account's functions, at home or in a member through the cross-account role.
fn is_admin(role: &str) -> bool {
    [names::ORCHESTRATOR_ROLE, names::COMPLETION_ROLE, names::CROSS_ACCOUNT_ROLE].contains(&role)
}

/// What Lambda itself calls in a function's name: its event source polls the queue, and it keeps the logs.
fn is_lambdas_own(call: &Call) -> bool {
    const EVENT_SOURCE: [&str; 4] = ["ReceiveMessage", "DeleteMessage", "DeleteMessageBatch", "GetQueueAttributes"];
    call.service == "logs" || call.service == "sqs" && EVENT_SOURCE.contains(&call.operation.as_str())
}

fn counted(run: &Run) -> impl Iterator<Item = (&Call, String)> {
    run.calls.iter().filter(|call| !is_lambdas_own(call)).filter_map(|call| Some((call, by_role(call)?)))
}

fn count(run: &Run, of: impl Fn(&str) -> bool) -> f64 {
    counted(run).filter(|(_, role)| of(role)).count() as f64
}

/// Calls by side, service and operation, and the functions invoked.
fn breakdown(run: &Run) -> Value {
    let side = |admin: bool| {
        let of_side = counted(run).filter(|(_, role)| is_admin(role) == admin);
        tally(of_side.map(|(call, _)| format!("{}:{}", call.service, call.operation)))
    };
    let invocations = tally(run.invocations.iter().map(|one| one.function.clone()));
    json!({ "Admin": side(true), "Member": side(false), "Invocations": invocations })
}

fn tally(names: impl Iterator<Item = String>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}
