//! Labs in which something goes wrong on purpose, again and again: one remediation after the other, from its breaking to
//! its end, and what must hold of each whatever happened.
//!
//! Leases are short there, and the reconciler's schedule fires while a remediation has not ended.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests")]

use std::collections::{BTreeMap, VecDeque};
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
use serde_json::{Value, json};

use crate::inbox::Notifications;
use crate::raw::{asff, rule_event, security_hub_event};
use crate::world::{AT_LEAST, World, is_due, is_hurried, options, played, root};

/// How long a case may take to come to an end. On a machine with nothing else to do it takes five seconds.
const PATIENCE: Duration = Duration::from_secs(180);
/// An approval that nothing came of is given again.
const ANSWER: Duration = Duration::from_secs(4);
/// The reconciler's schedule, in these labs: it is fired this often while a case has not ended.
const SCHEDULE: Duration = Duration::from_secs(15);
/// Between two looks at a case: at least and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
const MEMBER: &str = "struck";
/// What does not hold when no message came.
pub const UNTOLD: &str = "nobody was told";

/// What is remediated, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// A runbook of API calls, by Security Hub's import: S3.8.
    ApiShaped,
    /// A runbook with a native function, by Config's rule: EC2.13.
    Native,
    /// What a person must allow first: KMS.4, which these labs' catalogue says to be disruptive.
    Approved,
}

impl Flow {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::ApiShaped, Self::Native, Self::Approved];

    /// As a heading of a table.
    #[must_use]
    pub const fn shown(self) -> &'static str {
        match self {
            Self::ApiShaped => "A runbook of API calls, by Security Hub's import (S3.8)",
            Self::Native => "A native runbook, by Config's rule (EC2.13)",
            Self::Approved => "What a person allows first (KMS.4, made disruptive for this)",
        }
    }

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

/// A call that a function makes: the nth of its operation in a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Whose call.
    pub function: String,
    /// Of which service.
    pub service: String,
    /// Which operation.
    pub operation: String,
    /// The how manyth such call, from 1.
    pub nth: u64,
}

impl Site {
    /// As a row of a table: function and call.
    #[must_use]
    pub fn shown(&self) -> String {
        let nth = if self.nth == 1 { String::new() } else { format!(" #{}", self.nth) };
        format!("{} | {}:{}{nth}", self.function, self.service, self.operation)
    }

    /// A rule that strikes just this call.
    #[must_use]
    pub fn struck(&self, action: Action) -> Rule {
        Rule::new(action).by(&self.function).on(&self.service, &self.operation).nth(self.nth)
    }
}

/// How long work may take in a lab, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Seconds {
    /// A claim's lease.
    pub lease: u32,
    /// A runbook.
    pub run: u32,
    /// Until a message whose worker died comes again.
    pub visibility: u32,
}

/// A lab with short leases.
pub struct Bench {
    /// It.
    pub world: World,
    /// What people were told.
    pub told: Notifications,
    /// Where resources are broken.
    pub account: String,
}

impl Bench {
    /// A new one.
    #[must_use]
    pub fn start(seconds: Seconds) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let options = options(&[MEMBER]);
        let mut plan = Plan::of(&root(), &[MEMBER], options.progress.clone()).unwrap();
        let Seconds { lease, run, visibility } = seconds;
        for (name, value) in [("LeaseSeconds", lease), ("RunSeconds", run), ("FindingsVisibilitySeconds", visibility)] {
            plan.administrator_parameters.insert(name.to_owned(), value.to_string());
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

    /// One remediation from its breaking to its end: the resource.
    pub async fn remediate(&self, flow: Flow) -> Result<String, String> {
        let arn = self.break_one(flow).await;
        self.world.send_raw(&self.message(flow, &arn, Timestamp::now()).to_string()).await;
        self.ends(flow, &arn).await?;
        Ok(arn)
    }

    /// Breaks something, and tells nobody.
    pub async fn break_one(&self, flow: Flow) -> String {
        self.world.break_only(flow.scenario(), &self.account).await.resource_arn.to_string()
    }

    /// Waits for the end of the remediation of a resource. Meanwhile it says yes to what is asked, and fires the
    /// reconciler's schedule.
    ///
    /// # Errors
    /// When it does not end: how far it came.
    pub async fn ends(&self, flow: Flow, arn: &str) -> Result<(), String> {
        let (started, mut fired, mut answered) = (Instant::now(), Instant::now(), None::<Instant>);
        let mark = self.world.bed.lab.record().mark();
        loop {
            let records = self.records(arn).await;
            if records.iter().any(|record| is_end(record, &records)) {
                return Ok(());
            }
            // Once; again only when nothing came of it, as a person would.
            if flow == Flow::Approved && answered.is_none_or(|at| at.elapsed() > ANSWER) && self.approve(&records).await
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
            self.world.worth_a_look(&self.account, mark, LOOKS).await;
        }
    }

    /// The records about a resource.
    pub async fn records(&self, arn: &str) -> Vec<Value> {
        let all = self.world.ledger_about(arn).await;
        all.into_iter().filter(|record| record["AccountId"] == *self.account).collect()
    }

    /// What reports a resource: one message, so that every run makes the same calls.
    #[must_use]
    pub fn message(&self, flow: Flow, arn: &str, at: Timestamp) -> Value {
        let region = self.world.region();
        let id = arn.rsplit([':', '/']).next().unwrap_or_default();
        match flow {
            Flow::ApiShaped => {
                let finding = asff(&self.account, region, arn, at);
                security_hub_event(&self.account, region, &[finding], None)
            }
            Flow::Native => rule_event(&self.account, region, "restricted-ssh", ("AWS::EC2::SecurityGroup", id), at),
            Flow::Approved => {
                rule_event(&self.account, region, "cmk-backing-key-rotation-enabled", ("AWS::KMS::Key", id), at)
            }
        }
    }

    /// What the schedule does every quarter of an hour.
    pub async fn reconcile(&self) {
        self.world.bed.lab.fire_schedule(&self.world.administrator(), "redress-reconcile").await.unwrap();
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

    /// What must hold whatever happened, and how the remediation of a resource ended.
    ///
    /// # Errors
    /// What does not hold.
    pub async fn examine(&self, flow: Flow, arn: &str, mark: u64) -> Result<String, String> {
        let records = &self.records(arn).await;
        let calls = self.world.bed.lab.record().calls_since(mark);
        let performed = |call: &&Call| {
            call.account == self.account && call.status != 0 && call.status < 400
                || call.fault.as_ref().is_some_and(|fault| fault.performed)
        };
        let id = arn.rsplit([':', '/']).next().unwrap_or_default();
        let is_of = |call: &&Call| call.checks.iter().all(|check| check.resource == "*" || check.resource.contains(id));
        let is_effect = |call: &&Call| flow.effects().contains(&call.operation.as_str()) && is_of(call);
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
            return Err(UNTOLD.to_owned());
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

    /// The same, once people were told.
    ///
    /// # Errors
    /// What does not hold, or that nobody is told in time.
    pub async fn examined_when_told(&self, flow: Flow, arn: &str, mark: u64) -> Result<String, String> {
        let started = Instant::now();
        loop {
            match self.examine(flow, arn, mark).await {
                Err(why) if why == UNTOLD && started.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// That the account's chain verifies up to its head.
    ///
    /// # Errors
    /// When it does not.
    pub async fn verify_ledger(&self) -> Result<(), String> {
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

    /// Waits until both queues are empty.
    pub async fn settle(&self) {
        self.world.drained(names::FINDINGS_QUEUE).await;
        self.world.drained(names::COMPLETIONS_QUEUE).await;
    }

    /// The call sites of a flow in which nothing goes wrong and everything starts cold, in their order.
    pub async fn sites(&self, flow: Flow) -> Vec<Site> {
        self.world.bed.lab.cool_down();
        let mark = self.world.bed.lab.record().mark();
        let arn = self.remediate(flow).await.unwrap_or_else(|error| panic!("{flow:?}, nothing struck: {error}"));
        self.settle().await;
        let said = self.examine(flow, &arn, mark).await;
        assert_eq!(said.as_deref(), Ok("Verified, 1 effect"), "{flow:?}, nothing struck");
        // Reconciling runs by the clock: how often is chance.
        self.sites_since(mark, |function| function != names::RECONCILER_FUNCTION)
    }

    /// The calls of some functions since a mark of the record, in their order.
    #[must_use]
    pub fn sites_since(&self, mark: u64, of: impl Fn(&str) -> bool) -> Vec<Site> {
        let mut counted: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        let mut sites = Vec::new();
        for call in self.world.bed.lab.record().calls_since(mark) {
            let Some(function) = call.function.filter(|function| of(function)) else { continue };
            let nth = counted.entry((function.clone(), call.service.clone(), call.operation.clone())).or_default();
            *nth += 1;
            sites.push(Site { function, service: call.service, operation: call.operation, nth: *nth });
        }
        sites
    }
}

fn by_role(call: &Call) -> bool {
    call.principal.contains(":assumed-role/")
}

/// Cases, worked through in several labs side by side while there is time: what came of each, in the order of the cases. The
/// second is whether that are all.
pub fn walk<C: Send, T: Send>(
    test: &str,
    first: Bench,
    (labs, seconds): (usize, Seconds),
    cases: Vec<C>,
    work: impl Fn(&Bench, &C) -> T + Sync,
) -> (Vec<(C, T)>, bool) {
    let all = cases.len();
    let mut cases: Vec<(usize, C)> = cases.into_iter().enumerate().collect();
    // However many there is time for: they are spread over all of them.
    cases.sort_by_key(|(nth, _)| (nth % AT_LEAST, *nth));
    let cases: Mutex<VecDeque<(usize, C)>> = Mutex::new(cases.into());
    let done = Mutex::new(Vec::new());
    let through = |bench: Bench| {
        loop {
            let next = cases.lock().unwrap().pop_front_if(|(nth, _)| is_due(*nth));
            let Some((nth, case)) = next else { break };
            let outcome = work(&bench, &case);
            done.lock().unwrap().push((nth, case, outcome));
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    // Beside other tests, a lab a core is enough.
    let labs = if is_hurried() { labs.min(cores) } else { labs };
    std::thread::scope(|scope| {
        for _ in 1..labs {
            scope.spawn(|| through(Bench::start(seconds)));
        }
        through(first);
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(nth, ..)| *nth);
    played(test, done.len(), all);
    let walked_all = done.len() == all;
    (done.into_iter().map(|(_, case, outcome)| (case, outcome)).collect(), walked_all)
}

/// One entry of a table: its section, its row (function and call), its column, and how it ended.
pub type Entry = (String, String, &'static str, Result<String, String>);

/// Entries as tables, a section each: call × fault → outcome. What is wrong is in bold.
#[must_use]
pub fn table(entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut sections: Vec<&str> = entries.iter().map(|(section, ..)| section.as_str()).collect();
    sections.dedup();
    for section in sections {
        let own: Vec<&Entry> = entries.iter().filter(|entry| entry.0 == section).collect();
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        for (_, row, column, _) in &own {
            if !rows.contains(row) {
                rows.push(row.clone());
            }
            if !columns.contains(column) {
                columns.push(column);
            }
        }
        writeln!(text, "## {section}\n\n| function | call | {} |", columns.join(" | ")).unwrap();
        writeln!(text, "|---|---{}|", "|---".repeat(columns.len())).unwrap();
        for row in rows {
            let ended = columns.iter().map(|column| {
                let found = own.iter().find(|entry| entry.1 == row && entry.2 == *column);
                match found.map(|entry| &entry.3) {
                    None => "-".to_owned(),
                    Some(Err(wrong)) => format!("**{wrong}**"),
                    Some(Ok(ended)) if ended == "Verified, 1 effect" => "verified".to_owned(),
                    Some(Ok(ended)) => ended.clone(),
                }
            });
            writeln!(text, "| {row} | {} |", ended.collect::<Vec<_>>().join(" | ")).unwrap();
        }
        text.push('\n');
    }
    text
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
