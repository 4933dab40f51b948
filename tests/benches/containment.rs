//! Containment, measured in the lab: from the event to the call that isolates, a playbook, with the calls made:
//! `cargo xtask bench`, or this alone by `cargo bench --workspace --bench containment --profile dev`.
//!
//! Each run has a resource of its own. Runs in which all processes are new are told apart from those in which none is.
//! Where people are asked first, the way is measured to the question, not to the answer. Nothing is asserted of a figure:
//! one over its budget is marked. `REDRESS_BENCH_RUNS` says how many runs; the figures go to `target/containment.json`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a measurement that cannot be made ends the run"
)]

use jiff::Timestamp;
use redress_common::names;
use redress_lab::bed::BedOptions;
use redress_lab::record::Call;
use redress_lab::services::eks::Seen;
use redress_tests::ask::Target;
use redress_tests::cluster::{pod, principal, said, seen};
use redress_tests::grants::role_of;
use redress_tests::incident::{
    Cost, answered, between, bucket, calls_of, database, done, finding, function, instance, lone_instance,
    of_principal, role, sent, user,
};
use redress_tests::measure::{machine, median, quantile, shipped, short};
use redress_tests::world::{World, options, root};
use serde_json::{Value, json};

/// Issue 6: milliseconds from the event to the isolation.
const BUDGET_MS: f64 = 1000.0;
/// Issue 6: calls of the playbook until an instance with one interface is isolated.
const BUDGET_CALLS: f64 = 12.0;
/// Runs of a playbook with warm processes, and half as many with cold ones, where nobody says another number.
const RUNS: usize = 10;
/// What runs in it: an account for instances, so that a database's quarantine is made for it.
const MEMBERS: [&str; 2] = ["instances", "others"];

/// What is contained, and how it is told from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Instance,
    WideInstance,
    Bucket,
    User,
    Role,
    Function,
    Database,
    Pod,
    Principal,
    /// An instance with a critical tag: people are asked.
    Asked,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Instance,
        Self::WideInstance,
        Self::Bucket,
        Self::User,
        Self::Role,
        Self::Function,
        Self::Database,
        Self::Pod,
        Self::Principal,
        Self::Asked,
    ];

    const fn shown(self) -> &'static str {
        match self {
            Self::Instance => "EC2 instance, one interface, a role",
            Self::WideInstance => "EC2 instance, two interfaces, a role",
            Self::Bucket => "S3 bucket",
            Self::User => "IAM user",
            Self::Role => "IAM role",
            Self::Function => "Lambda function",
            Self::Database => "RDS instance",
            Self::Pod => "EKS pod",
            Self::Principal => "EKS principal, a group and no policies",
            Self::Asked => "critical EC2 instance: people are asked",
        }
    }

    const fn family(self) -> &'static str {
        match self {
            Self::Instance | Self::WideInstance | Self::Asked => "EC2",
            Self::Bucket | Self::Database => "Data",
            Self::User | Self::Role => "IAM",
            Self::Function | Self::Pod | Self::Principal => "Compute",
        }
    }

    const fn isolation(self) -> Isolation {
        Isolation::Call(match self {
            Self::Instance | Self::WideInstance => "ModifyNetworkInterfaceAttribute",
            Self::Bucket => "PutPublicAccessBlock",
            Self::User => "PutUserPolicy",
            Self::Role => "PutRolePolicy",
            Self::Function => "PutFunctionConcurrency",
            Self::Database => "ModifyDBInstance",
            Self::Principal => "UpdateAccessEntry",
            Self::Pod => return Isolation::Request("create", "networkpolicies"),
            Self::Asked => "Publish",
        })
    }

    const fn calls_budget(self) -> Option<f64> {
        match self {
            Self::Instance => Some(BUDGET_CALLS),
            _ => None,
        }
    }

    const fn member(self) -> &'static str {
        match self {
            Self::Instance | Self::WideInstance | Self::Asked => MEMBERS[0],
            Self::Bucket | Self::User | Self::Role | Self::Function | Self::Database | Self::Pod | Self::Principal => {
                MEMBERS[1]
            }
        }
    }

    async fn make(self, world: &World) -> Target {
        let account = &world.member(self.member());
        match self {
            Self::Instance => lone_instance(world, account, json!([])).await,
            Self::WideInstance => instance(world, account, json!([])).await,
            Self::Bucket => bucket(world, account).await,
            Self::User => user(world, account).await,
            Self::Role => role(world, account).await,
            Self::Function => function(world, account).await,
            Self::Database => database(world, account).await,
            Self::Pod => pod(world, account).await,
            Self::Principal => principal(world, account).await,
            Self::Asked => lone_instance(world, account, json!([{ "Key": "Criticality", "Value": "critical" }])).await,
        }
    }

    fn event(self, world: &World, target: &Target) -> Value {
        const TOR: &str = "UnauthorizedAccess:IAMUser/TorIPCaller";
        match self {
            Self::Instance | Self::WideInstance | Self::Asked => {
                finding(world, target, "Backdoor:EC2/C&CActivity.B", 8.0)
            }
            Self::Bucket => finding(world, target, "Policy:S3/BucketAnonymousAccessGranted", 8.0),
            Self::User => of_principal(world, target, TOR, "IAMUser"),
            Self::Role => of_principal(world, target, TOR, "AssumedRole"),
            Self::Function => finding(world, target, "Backdoor:Lambda/C&CActivity.B", 8.0),
            Self::Database => finding(world, target, "CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin", 8.0),
            Self::Pod => finding(world, target, "Execution:Runtime/ReverseShell", 8.0),
            Self::Principal => finding(world, target, "CredentialAccess:Kubernetes/TorIPCaller", 8.0),
        }
    }

    /// The functions on the way to the isolation, or to the question: with the account of each.
    fn functions(self, world: &World) -> Vec<(String, String)> {
        let (admin, member) = (world.administrator(), world.member(self.member()));
        let mut functions = vec![
            (admin.clone(), names::ORCHESTRATOR_FUNCTION.to_owned()),
            (member.clone(), names::GUARD_FUNCTION.to_owned()),
            (member, names::contain_function(self.family())),
        ];
        if self == Self::Asked {
            functions.push((admin, names::WORKFLOW_FUNCTION.to_owned()));
        }
        functions
    }
}

/// What isolates.
#[derive(Debug, Clone, Copy)]
enum Isolation {
    /// A call of AWS, the last time that it is made; of what is asked about, the one that tells people.
    Call(&'static str),
    /// A request to the API of the target's cluster: verb and resource.
    Request(&'static str, &'static str),
}

impl Isolation {
    /// Whether this is it: a call of AWS by this role.
    fn is(self, call: &Call, by: &str) -> bool {
        matches!(self, Self::Call(operation) if call.operation == operation)
            && role_of(&call.principal).is_some_and(|(_, role)| role == by)
    }

    /// The request that is it, once it was answered.
    fn request(self, world: &World, target: &Target) -> Option<Seen> {
        let Self::Request(verb, resource) = self else { return None };
        let is_it = |seen: &Seen| (seen.verb, seen.resource) == (verb, resource) && seen.status < 300;
        seen(world, target).into_iter().rfind(is_it)
    }
}

/// Which processes a run had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Processes {
    /// The first of its kind: security groups are made, sessions are opened, and what starts, starts.
    First,
    /// All are new.
    Cold,
    /// None is new.
    Warm,
    /// Some are. No figure is made of it.
    Mixed,
}

impl Processes {
    const fn shown(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Mixed => "mixed",
        }
    }
}

/// One resource, contained or asked about.
struct Run {
    kind: Kind,
    processes: Processes,
    since_event: f64,
    since_call: f64,
    until: f64,
    all: f64,
    admin: f64,
    guard: f64,
    operations: Vec<String>,
    /// What its cluster was asked until then.
    requests: Vec<String>,
}

fn main() {
    // `cargo test --all-targets` comes here, too, without what `cargo bench` says.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let json = std::env::args().any(|argument| argument == "--json");
    let runs = std::env::var("REDRESS_BENCH_RUNS").map_or(RUNS, |text| text.parse().expect("a number of runs"));
    let (from, ships) = shipped(&["orchestrator", "guard", "contain", "completion", "workflow"]);
    let options = BedOptions { binaries: from, ..options(&MEMBERS) };
    let world = World::start(options, |control| control.as_str() == "S3.8");
    let all = world.run(measured(&world, runs));

    let rows: Vec<Value> = Kind::ALL
        .into_iter()
        .flat_map(|kind| [Processes::First, Processes::Cold, Processes::Warm].map(|processes| (kind, processes)))
        .filter_map(|(kind, processes)| {
            let of = |run: &&Run| run.kind == kind && run.processes == processes;
            row(kind, processes, &all.iter().filter(of).collect::<Vec<_>>())
        })
        .collect();
    let left_out = all.iter().filter(|run| run.processes == Processes::Mixed).count();
    let report = json!({
        "At": Timestamp::now(),
        "Machine": machine(),
        "Binaries": if ships { "lambda profile" } else { "everyday build: not what ships" },
        "RunsLeftOut": left_out,
        "Rows": rows,
    });
    let file = root().join("target/containment.json");
    std::fs::write(&file, serde_json::to_string_pretty(&report).expect("JSON")).expect("target can be written to");
    if json {
        println!("{report:#}");
        return;
    }
    println!("{} · {}", machine(), report["Binaries"].as_str().unwrap_or_default());
    print(&rows);
    if left_out > 0 {
        println!("left out: {left_out} runs in which some of the processes were new, and not all");
    }
    println!("also in {}", file.display());
}

/// Every run, one after another.
async fn measured(world: &World, runs: usize) -> Vec<Run> {
    raise_limits(world).await;
    let mut all = Vec::new();
    let mut memory = 257;
    for kind in Kind::ALL {
        eprintln!("  {} …", kind.shown());
        let mut first = run(world, kind).await;
        first.processes = Processes::First;
        all.push(first);
        for _ in 0..runs.div_ceil(2) {
            memory += 1;
            renew(world, kind, memory).await;
            all.push(run(world, kind).await);
        }
        for _ in 0..runs {
            all.push(run(world, kind).await);
        }
    }
    all
}

/// So many compromised resources in an hour would rightly open a breaker.
async fn raise_limits(world: &World) {
    let limits = json!({ "M": {
        "ControlMinimum": { "N": "1000000" }, "AccountPerHour": { "N": "1000000" }, "OrganisationPerHour": { "N": "1000000" },
    } });
    let update = json!({
        "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "settings" } },
        "UpdateExpression": "SET Limits = :limits", "ExpressionAttributeValues": { ":limits": limits },
    });
    world.admin_call("dynamodb", "UpdateItem", update).await;
}

/// Another configuration is another process, in the lab as on AWS.
async fn renew(world: &World, kind: Kind, memory: u32) {
    for (account, name) in kind.functions(world) {
        let size = json!({ "FunctionName": name, "MemorySize": memory });
        world.call(&account, "lambda", "UpdateFunctionConfiguration", size).await.expect("it can be configured");
        world.bed.lab.refresh(&account, world.region());
    }
}

async fn run(world: &World, kind: Kind) -> Run {
    let target = kind.make(world).await;
    let (mark, from) = (world.bed.lab.record().mark(), Timestamp::now());
    world.send_raw(&kind.event(world, &target).to_string()).await;
    // The lab's memory is looked at, and not its emulator: that has to answer others now.
    let by = if kind == Kind::Asked { names::WORKFLOW_ROLE.to_owned() } else { names::contain_role(kind.family()) };
    let isolation = kind.isolation();
    let is_last = |call: &Call| isolation.is(call, &by);
    let what = format!("{isolation:?} {}", target.arn);
    let is_isolated = || world.bed.lab.record().has_since(mark, is_last) || isolation.request(world, &target).is_some();
    world.eventually(&what, async || is_isolated().then_some(())).await;
    if kind == Kind::Asked {
        done(world, &target, "AwaitingApproval").await;
    } else {
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.error(), "", "{what}");
    }
    world.drained(names::FINDINGS_QUEUE).await;
    world.drained(names::COMPLETIONS_QUEUE).await;
    let cost = if kind == Kind::Asked { asked(world, mark, is_last) } else { cost(world, kind, &target, mark) };
    Run { processes: processes(world, kind, from), ..cost }
}

fn cost(world: &World, kind: Kind, target: &Target, mark: u64) -> Run {
    let (cost, requests) = match kind.isolation() {
        Isolation::Call(last) => (Cost::of(world, kind.family(), mark, last), Vec::new()),
        isolation @ Isolation::Request(..) => {
            let isolates = isolation.request(world, target).expect("the request that isolates");
            // The cluster is new: nobody else has asked it anything.
            let asked: Vec<Seen> = seen(world, target).into_iter().filter(|seen| seen.at <= isolates.at).collect();
            (Cost::of_request(world, kind.family(), mark, &isolates), said(&asked))
        }
    };
    Run {
        kind,
        processes: Processes::Mixed,
        since_event: cost.since_event.expect("the event's message").as_secs_f64() * 1e3,
        since_call: cost.since_call.as_secs_f64() * 1e3,
        until: cost.until as f64,
        all: cost.calls.len() as f64,
        admin: cost.admin as f64,
        guard: cost.guard as f64,
        operations: cost.calls.into_iter().map(|call| call.operation).collect(),
        requests,
    }
}

/// The way to the question: its calls are those of the plan that people are shown.
fn asked(world: &World, mark: u64, is_last: impl Fn(&Call) -> bool) -> Run {
    const OURS: [&str; 3] = [names::ORCHESTRATOR_ROLE, names::CROSS_ACCOUNT_ROLE, names::WORKFLOW_ROLE];
    let kind = Kind::Asked;
    let calls = world.bed.lab.record().calls_since(mark);
    let told = calls.iter().find(|call| is_last(call)).expect("what told people");
    let until = |role: &str| -> Vec<Call> {
        calls_of(world, role, mark)
            .into_iter()
            .filter(|call| call.at <= told.at && !(call.service == "sqs" && call.operation != "SendMessage"))
            .collect()
    };
    let (plan, all) = (until(&names::contain_role(kind.family())), calls_of(world, &names::contain_role("EC2"), mark));
    let ours: Vec<Call> = OURS.into_iter().flat_map(until).collect();
    let first = ours.iter().map(|call| call.at).min().expect("the orchestrator's first call");
    let millis = |from: Timestamp| between(from, answered(told)).as_secs_f64() * 1e3;
    Run {
        kind,
        processes: Processes::Mixed,
        since_event: millis(sent(world, mark).expect("the event's message")),
        since_call: millis(first),
        until: plan.len() as f64,
        all: all.len() as f64,
        admin: ours.len() as f64,
        guard: calls_of(world, names::GUARD_ROLE, mark).len() as f64,
        operations: plan.into_iter().map(|call| call.operation).collect(),
        requests: Vec::new(),
    }
}

/// Which of the processes on the way were new.
fn processes(world: &World, kind: Kind, from: Timestamp) -> Processes {
    let invocations = world.bed.lab.record().invocations();
    let functions = kind.functions(world);
    let of = |(account, name): &(String, String)| {
        let own = invocations.iter().find(|one| one.at >= from && one.account == *account && one.function == *name);
        own.map(|one| one.init_micros.is_some())
    };
    let started: Vec<Option<bool>> = functions.iter().map(of).collect();
    if started.iter().all(|started| *started == Some(true)) {
        Processes::Cold
    } else if started.iter().all(|started| *started == Some(false)) {
        Processes::Warm
    } else {
        Processes::Mixed
    }
}

/// A row of the table; none of no runs.
fn row(kind: Kind, processes: Processes, runs: &[&Run]) -> Option<Value> {
    let last = runs.last()?;
    let of = |part: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(|run| part(run)).collect() };
    let spread =
        |values: &[f64]| json!({ "P50": median(values), "P95": quantile(values, 0.95), "Max": quantile(values, 1.0) });
    let (since_event, until) = (of(|run| run.since_event), of(|run| run.until));
    let within = quantile(&since_event, 0.95) <= BUDGET_MS
        && kind.calls_budget().is_none_or(|budget| quantile(&until, 1.0) <= budget);
    Some(json!({
        "Resource": kind.shown(), "Processes": processes.shown(), "Runs": runs.len(),
        "MillisSinceEvent": spread(&since_event), "MillisSinceCall": spread(&of(|run| run.since_call)),
        "Calls": spread(&until), "CallsInAll": spread(&of(|run| run.all)),
        "RequestsToCluster": spread(&of(|run| run.requests.len() as f64)),
        "CallsOfAdministrator": spread(&of(|run| run.admin)), "ReadsOfGuard": spread(&of(|run| run.guard)),
        "BudgetMillis": BUDGET_MS, "BudgetCalls": kind.calls_budget(), "Verdict": if within { "ok" } else { "over" },
        "Operations": last.operations, "Requests": last.requests,
    }))
}

fn print(rows: &[Value]) {
    let number = |value: &Value| short(value.as_f64().unwrap_or_default());
    let times = |of: &Value| format!("{} / {} / {}", number(&of["P50"]), number(&of["P95"]), number(&of["Max"]));
    let width = Kind::ALL.iter().map(|kind| kind.shown().len()).max().unwrap_or_default();
    println!(
        "\n{:<width$} {:<6} {:>4} {:>22} {:>22} {:>9} {:>6} {:>6}\n{:<width$} {:<6} {:>4} {:>22} {:>22} {:>9} {:>6} {:>6}",
        "",
        "",
        "",
        "ms from the event",
        "ms from the first call",
        "calls",
        "admin",
        "guard",
        "",
        "",
        "runs",
        "p50 / p95 / max",
        "p50 / p95 / max",
        "(in all)",
        "calls",
        "reads",
    );
    for row in rows {
        let requests = &row["RequestsToCluster"]["Max"];
        let also = if requests.as_f64() > Some(0.0) { format!("+{}", number(requests)) } else { String::new() };
        let calls = format!("{}{also} ({})", number(&row["Calls"]["Max"]), number(&row["CallsInAll"]["Max"]));
        let said = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        println!(
            "{:<width$} {:<6} {:>4} {:>22} {:>22} {calls:>9} {:>6} {:>6} {}",
            said("Resource"),
            said("Processes"),
            number(&row["Runs"]),
            times(&row["MillisSinceEvent"]),
            times(&row["MillisSinceCall"]),
            number(&row["CallsOfAdministrator"]["Max"]),
            number(&row["ReadsOfGuard"]["Max"]),
            if row["Verdict"] == "over" { "over" } else { "" },
        );
    }
    println!(
        "\ncalls: of AWS; after a + the requests to the Kubernetes API of a cluster, the one that isolates included"
    );
    println!(
        "budget: {BUDGET_MS:.0} ms from the event (95 of 100), {BUDGET_CALLS:.0} calls for an instance with one interface"
    );
}
