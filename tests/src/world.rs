//! The organisation that the end-to-end tests share: one a test binary, one member account a test.
//!
//! Tests wait for conditions, never for time to pass.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use redress_common::ids::ControlId;
use redress_common::names;
use redress_lab::bed::{Bed, BedOptions};
use redress_lab::organisation::Plan;
use redress_lab::record::Call;
use redress_lab::scenario::{self, Broken};
use redress_lab::service::{AwsError, Credentials};
use redress_runbooks::write::{CONTROLS, PLAYBOOKS};
use redress_runbooks::{load_controls, load_playbooks};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// How long a condition may take before the test gives up. Far more than it needs: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// Between two looks at the ledger, when nothing seems to have happened.
const LONGEST_QUIET: Duration = Duration::from_secs(2);
/// Between two looks at what costs nothing to look at.
const GLANCE: Duration = Duration::from_millis(20);

/// The shared organisation.
pub struct World {
    runtime: Runtime,
    /// The lab and who is in it.
    pub bed: Bed,
}

/// The repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Where cargo put the Lambda binaries: beside the test binary's `deps` folder.
#[must_use]
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    test.ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

/// The moment, in Unix seconds, after which no case is begun that can be left out: `cargo xtask test` gives it.
fn until() -> Option<i64> {
    std::env::var("REDRESS_UNTIL").ok()?.parse().ok()
}

/// Whether there is such a moment, and other tests beside these.
#[must_use]
pub fn is_hurried() -> bool {
    until().is_some()
}

/// Whether there is time for more than the least.
#[must_use]
pub fn has_time() -> bool {
    until().is_none_or(|until| jiff::Timestamp::now().as_second() < until)
}

/// At least each so manyth case is played, however late it is. It shares no factor with the number of faults that each call
/// is struck by, so that every fault comes.
pub(crate) const AT_LEAST: usize = 13;

/// Whether the `nth` case is to be played now.
#[must_use]
pub fn is_due(nth: usize) -> bool {
    nth.is_multiple_of(AT_LEAST) || has_time()
}

/// Says how much was played. The harness keeps what a test prints that passes; this it does not.
pub fn played(test: &str, cases: usize, all: usize) {
    let _ = writeln!(std::io::stderr(), "{test}: {cases} of {all} cases");
}

/// Options for a bed of these members on a free port.
#[must_use]
pub fn options(members: &[&str]) -> BedOptions {
    BedOptions {
        root: root(),
        binaries: binaries(),
        port: 0,
        members: members.iter().map(|name| (*name).to_owned()).collect(),
        progress: Arc::new(|_| ()),
    }
}

/// The organisation of this test binary, started by whoever asks first.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn world(members: &[&str]) -> &'static World {
    world_of(members, |_| true)
}

/// The same, with a part of the catalogue: its runbooks and the rights that they need, and no others.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn world_of(members: &[&str], has: impl Fn(&ControlId) -> bool) -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| World::start(options(members), has))
}

impl World {
    /// A new one, with all playbooks and this part of the controls.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    #[expect(clippy::panic, reason = "without a lab there is no test")]
    pub fn start(options: BedOptions, has: impl Fn(&ControlId) -> bool) -> Self {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        };
        let mut controls = match load_controls(&root().join(CONTROLS)) {
            Ok(controls) => controls,
            Err(error) => panic!("the catalogue: {error}"),
        };
        let all = controls.len();
        controls.retain(|control| has(&control.id));
        let members: Vec<&str> = options.members.iter().map(String::as_str).collect();
        let plan = match Plan::of(&options.root, &members, options.progress.clone()) {
            // What is deployed whole is what was generated.
            Ok(plan) if controls.len() == all => Ok(plan),
            Ok(plan) => match load_playbooks(&root().join(PLAYBOOKS)) {
                Ok(playbooks) => plan.with_controls(&[controls, playbooks].concat()),
                Err(error) => panic!("the playbooks: {error}"),
            },
            Err(error) => Err(error),
        };
        let started = match plan {
            Ok(plan) => runtime.block_on(Bed::start_planned(options, plan)),
            Err(error) => panic!("the plan: {error}"),
        };
        match started {
            Ok(bed) => Self { runtime, bed },
            Err(error) => panic!("the lab did not start: {error}"),
        }
    }

    /// A bed of one's own, for what must not be shared.
    #[must_use]
    pub const fn of(runtime: Runtime, bed: Bed) -> Self {
        Self { runtime, bed }
    }

    /// Runs a test's future on the shared runtime.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The id of the member of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's own mistake")]
    pub fn member(&self, name: &str) -> String {
        self.bed.organisation.member(name).map_or_else(|| panic!("no member `{name}`"), |member| member.id.to_string())
    }

    /// What the roles of a member account ask for.
    ///
    /// # Panics
    /// When it is no account id.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's own mistake")]
    pub fn external_id(&self, account: &str) -> String {
        match account.parse() {
            Ok(account) => self.bed.organisation.external_id(&account).reveal().to_owned(),
            Err(error) => panic!("{error}"),
        }
    }

    /// One AWS call as an account's administrator.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn call(
        &self,
        account: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        let aws = self.bed.lab.aws();
        aws.call(&Credentials::root(account), self.bed.organisation.region.as_str(), service, operation, parameters)
            .await
    }

    /// Breaks something and lets the lab's Config notice.
    ///
    /// # Panics
    /// When the scenario fails.
    #[expect(clippy::panic, reason = "without its scenario there is no test")]
    pub async fn break_it(&self, name: &str, account: &str) -> Broken {
        let ran = match account.parse() {
            Ok(account) => scenario::run(name, self.bed.lab.aws(), &account, &self.bed.organisation.region).await,
            Err(error) => Err(error.into()),
        };
        match ran {
            Ok(broken) => broken,
            Err(error) => panic!("scenario {name}: {error}"),
        }
    }

    /// Every ledger record of an account, oldest first, as plain JSON.
    pub async fn ledger(&self, account: &str) -> Vec<Value> {
        self.ledger_since(account, 0).await
    }

    /// The same, from a moment on, in Unix milliseconds: a look at few records costs the emulator little.
    pub async fn ledger_since(&self, account: &str, since: i64) -> Vec<Value> {
        self.ledger_by("AccountId", account, since).await
    }

    /// Every ledger record about a resource, oldest first.
    pub async fn ledger_about(&self, resource: &str) -> Vec<Value> {
        self.ledger_by("ResourceId", resource, 0).await
    }

    async fn ledger_by(&self, attribute: &str, value: &str, since: i64) -> Vec<Value> {
        let admin = self.bed.organisation.administrator.id.to_string();
        let mut query = json!({
            "TableName": redress_common::names::AUDIT_TABLE,
            "IndexName": format!("{attribute}-Timestamp-index"),
            "KeyConditionExpression": "#a = :a AND #t >= :t",
            "ExpressionAttributeNames": { "#a": attribute, "#t": "Timestamp" },
            "ExpressionAttributeValues": { ":a": { "S": value }, ":t": { "N": since.to_string() } },
        });
        let mut records: Vec<Value> = Vec::new();
        // A page is a megabyte, which a chain of some 700 records is.
        loop {
            let mut page = self.call(&admin, "dynamodb", "Query", query.clone()).await.unwrap_or(Value::Null);
            records.extend(page["Items"].as_array().into_iter().flatten().map(plain));
            match page["LastEvaluatedKey"].take() {
                Value::Null => return records,
                last => query["ExclusiveStartKey"] = last,
            }
        }
    }

    /// An item of the state table as plain JSON, if it is there.
    pub async fn state_value(&self, key: &str) -> Option<Value> {
        let admin = self.bed.organisation.administrator.id.to_string();
        let get = json!({
            "TableName": redress_common::names::STATE_TABLE, "Key": { "Key": { "S": key } }, "ConsistentRead": true,
        });
        let answer = self.call(&admin, "dynamodb", "GetItem", get).await.ok()?;
        answer.get("Item").map(plain)
    }

    /// The ledger records of an account, once one of them passes.
    ///
    /// # Panics
    /// When none does within two minutes; says what there is.
    pub async fn ledger_when(&self, account: &str, what: &str, holds: impl FnMut(&Value) -> bool) -> Vec<Value> {
        self.ledger_since_when(account, 0, what, holds).await
    }

    /// The same, of the records from a moment on.
    ///
    /// # Panics
    /// When none of them passes in time.
    #[expect(clippy::panic, reason = "a condition that never holds is the test's failure")]
    pub async fn ledger_since_when(
        &self,
        account: &str,
        since: i64,
        what: &str,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Vec<Value> {
        // Ever more slowly: whoever asks all the time keeps the emulator from answering others.
        let (started, mark, mut pause) = (Instant::now(), self.bed.lab.record().mark(), FIRST_PAUSE * 5);
        loop {
            let records = self.ledger_since(account, since).await;
            if records.iter().any(&mut holds) {
                return records;
            }
            if started.elapsed() > PATIENCE {
                let seen: Vec<String> = records
                    .iter()
                    .map(|record| {
                        format!(
                            "{} {} {} {}",
                            record["ExecutionStatus"], record["ResourceId"], record["ErrorMessage"], record["Detail"]
                        )
                    })
                    .collect();
                panic!(
                    "{what}: not within {PATIENCE:?}. The ledger of {account}:\n{}\n{}",
                    seen.join("\n"),
                    self.story(account)
                );
            }
            self.worth_a_look(account, mark, (pause, LONGEST_QUIET)).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until the ledger of an account may have news: no runbook runs there, and the completion function has been there
    /// since a mark of the record; or for so long at most. To ask the lab's own memory costs nothing; to ask its emulator does.
    pub async fn worth_a_look(&self, account: &str, mark: u64, (least, longest): (Duration, Duration)) {
        let (begun, record) = (Instant::now(), self.bed.lab.record());
        let ends =
            |call: &Call| call.account == account && call.function.as_deref() == Some(names::COMPLETION_FUNCTION);
        tokio::time::sleep(least).await;
        while begun.elapsed() < longest && (self.bed.ssm.is_busy(account) || !record.has_since(mark, ends)) {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// What `look` finds, once it finds something.
    ///
    /// # Panics
    /// When it finds nothing within two minutes.
    pub async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}\n{}", self.story(""));
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    /// What the lab saw, for a failed test: executions, failed calls and invocations, and what the functions said.
    fn story(&self, account: &str) -> String {
        let lab = &self.bed.lab;
        let executions = self.bed.ssm.executions();
        let executions = executions.iter().map(|execution| serde_json::to_string(execution).unwrap_or_default());
        let executions = executions.filter(|execution| execution.contains(account));
        let failed = lab.record().calls().into_iter().filter(|call| call.status >= 400);
        let failed = failed.map(|call| {
            format!(
                "{} {}:{} {} {:?} {:?}",
                call.principal, call.service, call.operation, call.status, call.error, call.checks
            )
        });
        let invoked = lab
            .record()
            .invocations()
            .into_iter()
            .filter_map(|call| Some(format!("{} {}", call.function, call.error?)));
        let undelivered =
            lab.record().deliveries().into_iter().filter(|sent| sent.error.is_some()).map(|sent| format!("{sent:?}"));
        let functions = [
            "redress-orchestrator",
            "redress-completion",
            "redress-recorder",
            "redress-remediate",
            "redress-destroy",
            "redress-guard",
            "redress-contain-data",
            "redress-contain-ec2",
            "redress-workflow",
            "redress-checkpoint",
        ];
        let logs = functions
            .iter()
            .flat_map(|function| lab.logs(function).into_iter().map(move |line| format!("{function}: {line}")));
        executions.chain(failed).chain(invoked).chain(undelivered).chain(logs).collect::<Vec<_>>().join("\n")
    }

    /// The calls that were refused.
    #[must_use]
    pub fn denied(&self) -> Vec<Call> {
        let calls = self.bed.lab.record().calls();
        calls.into_iter().filter(|call| call.verdict == redress_lab::record::Verdict::Deny).collect()
    }
}

/// A DynamoDB item as plain JSON.
fn plain(item: &Value) -> Value {
    match item {
        Value::Object(map) => {
            let map = map.iter().map(|(name, value)| (name.clone(), attribute(value)));
            Value::Object(map.collect())
        }
        other => other.clone(),
    }
}

fn attribute(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|map| map.iter().next()) else { return Value::Null };
    match (kind.as_str(), inner) {
        ("N", Value::String(number)) => serde_json::from_str(number).unwrap_or(Value::Null),
        ("M", map) => plain(map),
        ("L", Value::Array(items)) => Value::Array(items.iter().map(attribute).collect()),
        (_, other) => other.clone(),
    }
}
