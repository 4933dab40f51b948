//! Every AWS call of every function, struck: its process killed before the call, killed after it, or its answer lost.
//! Whatever dies in the middle, the organisation ends in a state that a person can explain.
//!
//! The call sites are not listed here: a clean run of each flow records them, cold, and each is then struck in a run
//! of its own. `cargo test -p redress-tests --test faults -- --nocapture` prints the table, call site × fault → outcome, and
//! leaves it in target/faults.md. `REDRESS_FAULTS=Native` walks one flow only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redress_common::catalogue::Risk;
use redress_common::ledger::{self, Head, Record};
use redress_common::names;
use redress_common::state::State;
use redress_lab::bed::Bed;
use redress_lab::faults::{Action, Rule};
use redress_lab::organisation::Plan;
use redress_lab::record::Call;
use redress_tests::inbox::Notifications;
use redress_tests::raw::{asff, rule_event, security_hub_event};
use redress_tests::world::{World, binaries, options, root};
use serde_json::{Value, json};

/// Labs that walk side by side. Most of a case is waiting for a queue to bring a message again.
const LABS: usize = 4;
/// How long a case may take to come to an end. On a machine with nothing else to do it takes five seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// The reconciler's schedule, in these labs: it is fired this often while a case has not ended.
const SCHEDULE: Duration = Duration::from_secs(4);
const MEMBER: &str = "struck";

/// What is remediated, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flow {
    /// A runbook of API calls, by Security Hub's import: S3.8.
    ApiShaped,
    /// A runbook with a native function, by Config's rule: EC2.13.
    Native,
    /// What a person must allow first: KMS.4, which these labs' catalogue says to be disruptive.
    Approved,
}

impl Flow {
    const ALL: [Self; 3] = [Self::ApiShaped, Self::Native, Self::Approved];

    const fn scenario(self) -> &'static str {
        match self {
            Self::ApiShaped => "public-bucket",
            Self::Native => "open-ssh",
            Self::Approved => "key-rotation-off",
        }
    }

    /// The operations that change the resource.
    const fn effects(self) -> &'static [&'static str] {
        match self {
            Self::ApiShaped => &["PutPublicAccessBlock", "PutBucketPublicAccessBlock"],
            Self::Native => &["RevokeSecurityGroupIngress"],
            Self::Approved => &["EnableKeyRotation"],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Before,
    After,
    Lost,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Before, Self::After, Self::Lost];

    const fn action(self) -> Action {
        match self {
            Self::Before => Action::KillBefore,
            Self::After => Action::KillAfter,
            Self::Lost => Action::LoseAnswer,
        }
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Before => "killed before",
            Self::After => "killed after",
            Self::Lost => "answer lost",
        }
    }
}

/// A call that a function makes: the nth of its operation in a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    function: String,
    service: String,
    operation: String,
    nth: u64,
}

#[derive(Debug, Clone)]
struct Case {
    flow: Flow,
    site: Site,
    fault: Fault,
}

/// How a case ended.
#[derive(Debug, Clone)]
struct Row {
    case: Case,
    outcome: Result<String, String>,
}

/// A lab in which a lease lasts two seconds.
struct Bench {
    world: World,
    told: Notifications,
    account: String,
}

impl Bench {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let options = options(&[MEMBER]);
        let mut plan = Plan::of(&root(), &[MEMBER], options.progress.clone()).unwrap();
        for (name, value) in [("LeaseSeconds", "2"), ("RunSeconds", "6"), ("FindingsVisibilitySeconds", "7")] {
            plan.administrator_parameters.insert(name.to_owned(), value.to_owned());
        }
        plan.catalogue.0.get_mut(&"KMS.4".parse().unwrap()).unwrap().risk = Risk::Disruptive;
        let bed = runtime.block_on(Bed::start_planned(options, plan)).unwrap_or_else(|error| panic!("{error}"));
        let world = World::of(runtime, bed);
        let (account, told) = (world.member(MEMBER), Notifications::new());
        world.run(async {
            told.subscribe(&world).await;
            // Hundreds of struck remediations of one control would rightly open its breaker.
            let limits = json!({ "M": {
                "ControlMinimum": { "N": "1000000" }, "AccountPerHour": { "N": "1000000" },
                "OrganisationPerHour": { "N": "1000000" },
            } });
            let update = json!({
                "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "settings" } },
                "UpdateExpression": "SET Limits = :limits", "ExpressionAttributeValues": { ":limits": limits },
            });
            world.admin_call("dynamodb", "UpdateItem", update).await;
        });
        Self { world, told, account }
    }

    /// One remediation from its breaking to its end: the resource, its records, and the mark of the call record before.
    async fn remediate(&self, flow: Flow) -> Result<(String, Vec<Value>), String> {
        let arn = self.world.break_only(flow.scenario(), &self.account).await.resource_arn.to_string();
        self.tell(flow, &arn).await;
        let (started, mut fired, mut answered) = (Instant::now(), Instant::now(), None::<Instant>);
        loop {
            let all = self.world.ledger(&self.account).await;
            let records: Vec<Value> = all.into_iter().filter(|record| record["ResourceId"] == *arn).collect();
            if records.iter().any(|record| is_end(record, &records)) {
                return Ok((arn, records));
            }
            // Once; again only when nothing came of it, as a person would.
            if flow == Flow::Approved
                && answered.is_none_or(|at| at.elapsed() > SCHEDULE)
                && self.approve(&records).await
            {
                answered = Some(Instant::now());
            }
            if fired.elapsed() > SCHEDULE {
                fired = Instant::now();
                self.reconcile().await;
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("no end within {PATIENCE:?}: {}", states(&records).join(" → ")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// One message, so that every run makes the same calls.
    async fn tell(&self, flow: Flow, arn: &str) {
        let (region, now) = (self.world.region(), Timestamp::now());
        let id = arn.rsplit([':', '/']).next().unwrap_or_default();
        let event = match flow {
            Flow::ApiShaped => {
                let finding = asff(&self.account, region, arn, now);
                security_hub_event(&self.account, region, &[finding], None)
            }
            Flow::Native => rule_event(&self.account, region, "restricted-ssh", ("AWS::EC2::SecurityGroup", id), now),
            Flow::Approved => {
                rule_event(&self.account, region, "cmk-backing-key-rotation-enabled", ("AWS::KMS::Key", id), now)
            }
        };
        self.world.send_raw(&event.to_string()).await;
    }

    /// What the schedule does every quarter of an hour.
    async fn reconcile(&self) {
        let admin = self.world.bed.organisation.administrator.id.to_string();
        // A rule that cannot be fired shows in the cases that need it.
        drop(self.world.bed.lab.fire_schedule(&admin, "redress-reconciler").await);
    }

    /// Says yes to what is asked. Whether there was a question.
    async fn approve(&self, records: &[Value]) -> bool {
        let asked = records.iter().find(|record| record["ExecutionStatus"] == "AwaitingApproval");
        let Some(id) = asked.and_then(|record| record["RemediationId"].as_str()) else { return false };
        let Some(item) = self.world.state_value(&format!("approval#{id}")).await else { return false };
        let open = item["Status"] == "Pending" || item["Status"] == "Approved";
        if open {
            let request = json!({
                "Operation": "Answer", "RemediationId": id, "Approve": true, "PlanSha256": item["PlanSha256"],
                "Reason": "the fault table",
            });
            drop(self.world.asks(&request).await);
        }
        open
    }

    /// What must hold whatever happened.
    async fn examine(&self, flow: Flow, arn: &str, records: &[Value], mark: u64) -> Result<String, String> {
        let calls = self.world.bed.lab.record().calls_since(mark);
        let performed = |call: &&Call| {
            call.account == self.account && call.status != 0 && call.status < 400
                || call.fault.as_ref().is_some_and(|fault| fault.performed)
        };
        let is_effect = |call: &&Call| flow.effects().contains(&call.operation.as_str());
        let effects: Vec<&Call> =
            calls.iter().filter(performed).filter(is_effect).filter(|call| by_role(call)).collect();
        if effects.len() > 1 {
            return Err(format!("{} effects", effects.len()));
        }
        if let Some(effect) = effects.first() {
            let evidence = |call: &&Call| {
                call.operation == "PutObject"
                    && call.checks.iter().any(|check| check.resource.contains("security-remediation-logs-"))
            };
            let stored = calls.iter().filter(performed).filter(evidence).map(|call| call.seq).min();
            if stored.is_none_or(|stored| stored > effect.seq) {
                return Err("changed before its pre-image was stored".to_owned());
            }
        }
        self.verify_ledger().await?;
        let told = self.told.about(&self.world, arn).await;
        if told.is_empty() && !records.iter().any(|record| record["NotificationSent"] == true) {
            return Err("nobody was told".to_owned());
        }
        let end = records.iter().rev().find(|record| is_end(record, records)).unwrap_or(&Value::Null);
        let state = end["ExecutionStatus"].as_str().unwrap_or_default();
        if state == "Verified" && effects.is_empty() && end["Detail"]["Outcome"] != "AlreadyCompliant" {
            return Err("verified without an effect".to_owned());
        }
        let why = end["Detail"]["Code"].as_str().or(end["Detail"]["Outcome"].as_str()).filter(|why| *why != state);
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        Ok(format!("{state}{why}, {}", if effects.is_empty() { "nothing changed" } else { "1 effect" }))
    }

    async fn verify_ledger(&self) -> Result<(), String> {
        let read = async || {
            let head = self.world.state_value(&format!("chain#{}", self.account)).await.unwrap_or_default();
            let records: Result<Vec<Record>, _> =
                self.world.ledger(&self.account).await.into_iter().map(serde_json::from_value).collect();
            let mut records = records.map_err(|error| format!("a record is not readable: {error}"))?;
            records.retain(|record| record.origin.as_str() == self.account);
            records.sort_by_key(|record| record.seq);
            let head: Head = serde_json::from_value(head).map_err(|error| format!("no chain head: {error}"))?;
            ledger::verify_to(&records, &head).map_err(|error| format!("the ledger does not verify: {error}"))
        };
        // The index follows its table, and a late outcome may be on its way.
        for _ in 0..20 {
            if read().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        read().await
    }

    async fn settle(&self) {
        self.world.drained(names::FINDINGS_QUEUE).await;
        self.world.drained(names::COMPLETIONS_QUEUE).await;
    }

    /// The call sites of a flow in which nothing goes wrong and everything starts cold, in their order.
    async fn sites(&self, flow: Flow) -> Vec<Site> {
        self.world.bed.lab.cool_down();
        let mark = self.world.bed.lab.record().mark();
        let (arn, records) =
            self.remediate(flow).await.unwrap_or_else(|error| panic!("{flow:?}, nothing struck: {error}"));
        self.settle().await;
        let said = self.examine(flow, &arn, &records, mark).await;
        assert_eq!(said.as_deref(), Ok("Verified, 1 effect"), "{flow:?}, nothing struck");
        let mut counted: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        let mut sites = Vec::new();
        for call in self.world.bed.lab.record().calls_since(mark) {
            // Reconciling runs by the clock: how often is chance.
            let Some(function) = call.function.filter(|function| function != names::RECONCILER_FUNCTION) else {
                continue;
            };
            let nth = counted.entry((function.clone(), call.service.clone(), call.operation.clone())).or_default();
            *nth += 1;
            sites.push(Site { function, service: call.service, operation: call.operation, nth: *nth });
        }
        sites
    }

    async fn strike(&self, case: &Case) -> Result<String, String> {
        let (lab, site) = (&self.world.bed.lab, &case.site);
        self.settle().await;
        lab.cool_down();
        let mark = lab.record().mark();
        let rule = Rule::new(case.fault.action()).by(&site.function).on(&site.service, &site.operation).nth(site.nth);
        let rule = lab.faults().add(rule);
        let ended = self.remediate(case.flow).await;
        let struck = lab.faults().fired().iter().any(|fired| fired.rule == rule);
        lab.faults().clear();
        let (arn, _) = ended?;
        // The end may be told once more: a completion that died after its transaction comes again.
        self.settle().await;
        let all = self.world.ledger(&self.account).await;
        let records: Vec<Value> = all.into_iter().filter(|record| record["ResourceId"] == *arn).collect();
        let outcome = self.examine(case.flow, &arn, &records, mark).await?;
        if struck { Ok(outcome) } else { Err(format!("the call was not made; {outcome}")) }
    }
}

fn by_role(call: &Call) -> bool {
    call.principal.contains(":assumed-role/")
}

/// Whether a record ends the remediation of its resource. The dry run that makes a plan ends, too, and is not it.
fn is_end(record: &Value, records: &[Value]) -> bool {
    let state = record["ExecutionStatus"].as_str().and_then(|state| state.parse::<State>().ok());
    let is_plan = records
        .iter()
        .any(|other| other["RemediationId"] == record["RemediationId"] && other["Detail"]["Mode"] == "DryRun");
    state.is_some_and(State::is_terminal) && !is_plan
}

fn states(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| record["ExecutionStatus"].as_str()).collect()
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("| flow | function | call | fault | ends as |\n|---|---|---|---|---|\n");
    for Row { case: Case { flow, site, fault }, outcome } in rows {
        let nth = if site.nth == 1 { String::new() } else { format!(" #{}", site.nth) };
        let ended = outcome.clone().unwrap_or_else(|wrong| format!("**{wrong}**"));
        let call = format!("{}:{}{nth}", site.service, site.operation);
        writeln!(text, "| {flow:?} | {} | {call} | {} | {ended} |", site.function, fault.shown()).unwrap();
    }
    text
}

#[test]
fn whatever_dies_in_the_middle_of_a_remediation_it_ends_explained() {
    let cases = Mutex::new(VecDeque::new());
    let rows = Mutex::new(Vec::new());
    let wanted = std::env::var("REDRESS_FAULTS").unwrap_or_default();
    let first = Bench::start();
    for flow in Flow::ALL {
        if !wanted.is_empty() && !wanted.contains(&format!("{flow:?}")) {
            continue;
        }
        for (place, site) in first.world.run(first.sites(flow)).into_iter().enumerate() {
            for fault in Fault::ALL {
                cases.lock().unwrap().push_back((place, Case { flow, site: site.clone(), fault }));
            }
        }
    }
    let count = cases.lock().unwrap().len();
    println!("{count} cases in {LABS} labs");
    let work = |bench: Bench| {
        loop {
            let Some((place, case)) = cases.lock().unwrap().pop_front() else { break };
            let outcome = bench.world.run(bench.strike(&case));
            if let Err(wrong) = &outcome {
                eprintln!("{case:?}: {wrong}");
            }
            rows.lock().unwrap().push((place, Row { case, outcome }));
        }
        bench.world.run(async {});
    };
    std::thread::scope(|scope| {
        scope.spawn(|| work(first));
        for _ in 1..LABS.min(count) {
            scope.spawn(|| work(Bench::start()));
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(place, row)| (row.case.flow, *place, row.case.fault));
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    println!("{}", table(&rows));
    if wanted.is_empty() {
        std::fs::write(binaries().with_file_name("faults.md"), table(&rows)).unwrap();
    }
    let wrong: Vec<&Row> = rows.iter().filter(|row| row.outcome.is_err()).collect();
    let functions: BTreeSet<&str> = rows.iter().map(|row| row.case.site.function.as_str()).collect();
    println!("{} cases, {} functions, {} wrong", rows.len(), functions.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
