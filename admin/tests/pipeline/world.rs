//! The world outside, in memory: the tables with the conditions that DynamoDB would evaluate, and the member
//! account as a list of what was started. It records every call.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use jiff::Timestamp;
use redress_admin::claim::Times;
use redress_admin::ports::{
    Attributes, Execution, FindingUpdate, Identity, Outside, Place, Start, StartError, Step, Waiting, WorkflowInput,
};
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::item::{self, Item};
use redress_common::aws::ledger_store::{Also, Store, StoreError, TransactError, Transaction};
use redress_common::aws::open;
use redress_common::aws::state_table::{self, CatalogueItem, Claim, Expect, Settings, Snapshot, StateKey};
use redress_common::contract::{GuardEvidence, GuardRequest, Mode, Outcome, output, parameter};
use redress_common::finding::WorkflowStatus;
use redress_common::ids::{AccountId, RemediationId};
use redress_common::items::account::AccountFacts;
use redress_common::items::approval::Task;
use redress_common::items::breaker::{Breaker, BreakerScope, Count};
use redress_common::items::flight::Flight;
use redress_common::ledger::{self, Head, Record};
use redress_common::notification::Notification;
use redress_common::state::State;

use super::watched::Watched;

#[derive(Default)]
struct Inner {
    items: HashMap<String, Item>,
    records: Vec<Record>,
    /// The keys of the records: the audit table refuses a second record under one.
    places: HashSet<(RemediationId, i64)>,
    started: Vec<(Place, Start)>,
    executions: HashMap<String, Execution>,
    told: Vec<Notification>,
    dead: Vec<(String, String)>,
    updates: Vec<FindingUpdate>,
    calls: Vec<&'static str>,
    start_errors: VecDeque<StartError>,
    publish_fails: bool,
    urgent: Vec<bool>,
    /// The next calls of these names fail, one each.
    failing: Vec<&'static str>,
    /// During the next call of this name, this item is written.
    meanwhile: Option<(&'static str, String, Item)>,
    accounts: BTreeMap<AccountId, AccountFacts>,
    calendar_closed: bool,
    evidence: GuardEvidence,
    guard_dies: bool,
    workflows: Vec<WorkflowInput>,
    tasks_ended: Vec<(Task, serde_json::Value)>,
    waiting: BTreeMap<(String, String), Waiting>,
    brought_back: Vec<Waiting>,
    stopped: Vec<String>,
    ends: Vec<serde_json::Value>,
    /// Where a person has put every finding.
    put: Option<WorkflowStatus>,
    /// What only the reconciler sees.
    watched: Watched,
}

impl Inner {
    fn snapshot(&self, keys: &[StateKey]) -> Snapshot {
        let items = keys.iter().filter_map(|key| self.items.get(&key.to_string()).cloned()).collect();
        Snapshot::new(keys, items)
    }

    fn put<T: serde::Serialize>(&mut self, key: &StateKey, value: &T) {
        self.items.insert(key.to_string(), state_table::encode(key, value).unwrap());
    }

    /// All of it or nothing: nobody else comes in between.
    fn transact(&mut self, transaction: &Transaction) -> Result<(), TransactError> {
        if let Some(write) = &transaction.claim {
            let stored = self.snapshot(std::slice::from_ref(&write.key)).claim(&write.key).unwrap();
            if !write.condition.holds(stored.as_ref()) {
                return Err(TransactError::ClaimLost);
            }
        }
        let mut changes = Vec::new();
        for also in &transaction.also {
            let name = also.key().to_string();
            changes.push((also.apply(self.items.get(&name))?, name));
        }
        let key = StateKey::Chain(transaction.origin.clone());
        if self.snapshot(std::slice::from_ref(&key)).head(&transaction.origin).unwrap() != transaction.from {
            return Err(TransactError::HeadMoved);
        }
        let place = |record: &Record| (record.draft.remediation_id, record.draft.timestamp);
        if transaction.records.iter().any(|record| self.places.contains(&place(record))) {
            return Err(TransactError::TimestampTaken);
        }
        if let Some(write) = &transaction.claim {
            self.put(&write.key, &write.claim);
        }
        for (item, name) in changes {
            match item {
                Some(item) => self.items.insert(name, item),
                None => self.items.remove(&name),
            };
        }
        self.put(&key, &transaction.to);
        self.places.extend(transaction.records.iter().map(place));
        self.records.extend(transaction.records.clone());
        Ok(())
    }
}

tokio::task_local! {
    /// The calls of one handler of several that run at the same time.
    static CALLS: RefCell<Vec<&'static str>>;
}

/// What a handler did, and its calls.
pub(crate) async fn counted<F: Future>(handler: F) -> (F::Output, Vec<&'static str>) {
    CALLS.scope(RefCell::default(), async { (handler.await, CALLS.with(RefCell::take)) }).await
}

#[derive(Default)]
pub(crate) struct World(Mutex<Inner>);

impl World {
    pub(crate) fn new(settings: &Settings) -> Self {
        let world = Self::default();
        let catalogue = serde_json::from_str(include_str!("../../../ssm-documents/catalogue.json")).unwrap();
        world.put(&StateKey::Catalogue, &CatalogueItem::of(&catalogue).unwrap());
        world.put(&StateKey::Settings, settings);
        world
    }

    pub(crate) fn put<T: serde::Serialize>(&self, key: &StateKey, value: &T) {
        self.0.lock().unwrap().put(key, value);
    }

    pub(crate) fn take_away(&self, key: &StateKey) {
        self.0.lock().unwrap().items.remove(&key.to_string());
    }

    /// No record has this detail any more.
    pub(crate) fn forget(&self, detail: &str) {
        let mut inner = self.0.lock().unwrap();
        inner.records.iter_mut().for_each(|record| drop(record.draft.detail.remove(detail)));
    }

    pub(crate) fn fail_start(&self, transient: bool) {
        let message = "not now".to_owned();
        self.0.lock().unwrap().start_errors.push_back(StartError::refused(transient, message));
    }

    pub(crate) fn fail_publish(&self) {
        self.publish_fails(true);
    }

    pub(crate) fn publish_fails(&self, fails: bool) {
        self.0.lock().unwrap().publish_fails = fails;
    }

    pub(crate) fn no_longer_waits(&self, waiting: &Waiting) {
        self.0.lock().unwrap().waiting.remove(&(waiting.place.clone(), waiting.order.clone()));
    }

    /// The next call of this name does not happen: its worker fails, or dies, there.
    pub(crate) fn fail_next(&self, name: &'static str) {
        self.0.lock().unwrap().failing.push(name);
    }

    /// While the next call of this name is under way, somebody else writes this item.
    pub(crate) fn meanwhile<T: serde::Serialize>(&self, name: &'static str, key: &StateKey, value: &T) {
        let item = state_table::encode(key, value).unwrap();
        self.0.lock().unwrap().meanwhile = Some((name, key.to_string(), item));
    }

    pub(crate) fn flight(&self) -> Flight {
        let key = StateKey::Flight("111122223333".parse().unwrap(), "eu-central-1".parse().unwrap());
        let StateKey::Flight(account, region) = &key else { unreachable!() };
        self.snapshot(std::slice::from_ref(&key)).flight(account, region).unwrap()
    }

    pub(crate) fn breaker(&self, scope: &BreakerScope) -> Breaker {
        self.snapshot(&[StateKey::Breaker(scope.clone())]).breaker(scope).unwrap()
    }

    pub(crate) fn count(&self, scope: &BreakerScope, hour: i64) -> Count {
        self.snapshot(&[StateKey::Count(scope.clone(), hour)]).count(scope, hour).unwrap()
    }

    /// What a task of this token was answered with.
    pub(crate) fn answered(&self, token: &str) -> Option<serde_json::Value> {
        let inner = self.0.lock().unwrap();
        inner.tasks_ended.iter().find(|(task, _)| task.token == token).map(|(_, answer)| answer.clone())
    }

    pub(crate) fn approval(&self, id: RemediationId) -> Option<redress_common::items::approval::Approval> {
        self.snapshot(&[StateKey::Approval(id)]).approval(id).unwrap()
    }

    pub(crate) fn has(&self, key: &StateKey) -> bool {
        self.0.lock().unwrap().items.contains_key(&key.to_string())
    }

    pub(crate) fn task(&self, key: &StateKey) -> Task {
        let StateKey::Task(id) = key else { panic!("{key} is no task") };
        self.snapshot(std::slice::from_ref(key)).task(*id).unwrap().unwrap()
    }

    /// Somebody ends a task.
    pub(crate) fn tell(&self, task: &Task, answer: &serde_json::Value) {
        self.0.lock().unwrap().tasks_ended.push((task.clone(), answer.clone()));
    }

    pub(crate) fn stopped(&self) -> Vec<String> {
        self.0.lock().unwrap().stopped.clone()
    }

    /// What the completions queue got of the workflow.
    pub(crate) fn take_ends(&self) -> Vec<serde_json::Value> {
        std::mem::take(&mut self.0.lock().unwrap().ends)
    }

    /// The execution of a start runs, and has not ended.
    pub(crate) fn runs(&self, start: &Start) {
        let parameters = start.parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let execution = Execution { status: "InProgress".to_owned(), parameters, ..Execution::default() };
        self.0.lock().unwrap().executions.insert(start.id.to_string(), execution);
    }

    pub(crate) fn tasks_ended(&self) -> Vec<serde_json::Value> {
        self.0.lock().unwrap().tasks_ended.iter().map(|(_, result)| result.clone()).collect()
    }

    pub(crate) fn waits(&self, waiting: &Waiting) {
        let key = (waiting.place.clone(), waiting.order.clone());
        self.0.lock().unwrap().waiting.insert(key, waiting.clone());
    }

    /// The guard's process dies when it is asked next.
    pub(crate) fn kill_guard(&self) {
        self.0.lock().unwrap().guard_dies = true;
    }

    /// The guard finds this out.
    pub(crate) fn evidence(&self, change: impl FnOnce(&mut GuardEvidence)) {
        change(&mut self.0.lock().unwrap().evidence);
    }

    /// The guard finds a tag that says that the resource is critical.
    pub(crate) fn critical(&self, tag: &str) {
        self.evidence(|evidence| evidence.critical = Some(tag.to_owned()));
    }

    pub(crate) fn place(&self, facts: AccountFacts) {
        self.0.lock().unwrap().accounts.insert(facts.account.clone(), facts);
    }

    /// A person puts every finding there.
    pub(crate) fn put_findings(&self, status: WorkflowStatus) {
        self.0.lock().unwrap().put = Some(status);
    }

    pub(crate) fn close_calendar(&self) {
        self.0.lock().unwrap().calendar_closed = true;
    }

    pub(crate) fn workflows(&self) -> Vec<WorkflowInput> {
        self.0.lock().unwrap().workflows.clone()
    }

    /// Whether each message was urgent.
    pub(crate) fn urgent(&self) -> Vec<bool> {
        self.0.lock().unwrap().urgent.clone()
    }

    pub(crate) fn in_backlog(&self) -> Vec<Waiting> {
        self.0.lock().unwrap().waiting.values().cloned().collect()
    }

    pub(crate) fn brought_back(&self) -> Vec<String> {
        self.0.lock().unwrap().brought_back.iter().map(|waiting| waiting.body.clone()).collect()
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    pub(crate) fn started(&self) -> Vec<(Place, Start)> {
        self.0.lock().unwrap().started.clone()
    }

    /// What was started after so many.
    pub(crate) fn started_after(&self, known: usize) -> Vec<(Place, Start)> {
        self.0.lock().unwrap().started[known..].to_vec()
    }

    /// The queue brings what was brought back.
    pub(crate) fn take_brought_back(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().brought_back).into_iter().map(|waiting| waiting.body).collect()
    }

    /// How many things the tables hold: state items, records, findings in the backlog.
    pub(crate) fn size(&self) -> (usize, usize, usize) {
        let inner = self.0.lock().unwrap();
        (inner.items.len(), inner.records.len(), inner.waiting.len())
    }

    pub(crate) fn told(&self) -> Vec<Notification> {
        self.0.lock().unwrap().told.clone()
    }

    pub(crate) fn dead(&self) -> Vec<String> {
        self.0.lock().unwrap().dead.iter().map(|(code, _)| code.clone()).collect()
    }

    pub(crate) fn updates(&self) -> Vec<FindingUpdate> {
        self.0.lock().unwrap().updates.clone()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap().records.clone()
    }

    pub(crate) fn states(&self) -> Vec<State> {
        self.records().iter().map(|record| record.draft.execution_status).collect()
    }

    /// Every chain verifies, and ends at its head.
    pub(crate) fn verify(&self) {
        let records = self.records();
        let mut chains: BTreeMap<_, Vec<Record>> = BTreeMap::new();
        for record in records {
            chains.entry(record.origin.clone()).or_default().push(record);
        }
        for (account, chain) in chains {
            let keys = [StateKey::Chain(account.clone())];
            let head: Head = self.snapshot(&keys).head(&account).unwrap();
            ledger::verify_to(&chain, &head).unwrap();
        }
    }

    /// Somebody else changes the claims that match.
    pub(crate) fn change_claims(&self, which: impl Fn(&Claim) -> bool, change: impl Fn(&mut Claim)) {
        let mut inner = self.0.lock().unwrap();
        for (name, item) in &mut inner.items {
            let Some(mut claim) =
                name.starts_with("claim#").then(|| item::decode::<Claim>("a claim", item)).transpose().unwrap()
            else {
                continue;
            };
            if which(&claim) {
                change(&mut claim);
                let changed = item::encode("a claim", &claim).unwrap();
                item.extend(changed);
            }
        }
    }

    pub(crate) fn claim(&self, key: &StateKey) -> Option<Claim> {
        self.snapshot(std::slice::from_ref(key)).claim(key).unwrap()
    }

    /// The member's runbook of the newest start ends: SSM's event of it.
    pub(crate) fn end(&self, outcome: Option<Outcome>) -> String {
        let (place, start) = self.started().last().cloned().unwrap();
        self.end_of(&place, &start, outcome)
    }

    /// The evidence of every execution was last written under this fence.
    pub(crate) fn evidence_of_fence(&self, fence: u64) {
        for execution in self.0.lock().unwrap().executions.values_mut() {
            execution.outputs.insert(output::FENCE.to_owned(), fence.to_string());
        }
    }

    /// SSM says of every execution that its last step ended then.
    pub(crate) fn saw(&self, last: Timestamp) {
        let step = Step {
            name: "LogResults".to_owned(),
            status: "Success".to_owned(),
            start: String::new(),
            end: last.to_string(),
        };
        self.0.lock().unwrap().executions.values_mut().for_each(|execution| execution.steps = vec![step.clone()]);
    }

    pub(crate) fn end_of(&self, place: &Place, start: &Start, outcome: Option<Outcome>) -> String {
        let status = match outcome {
            None | Some(Outcome::Failed) => "Failed",
            _ => "Success",
        };
        let execution = Execution {
            status: status.to_owned(),
            parameters: start.parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            outputs: outcome
                .map(|outcome| {
                    BTreeMap::from([
                        (output::OUTCOME.to_owned(), outcome.as_str().to_owned()),
                        (output::VERSION_ID.to_owned(), "v2".to_owned()),
                        (output::PRE_IMAGE.to_owned(), "a".repeat(64)),
                        (output::CHANGE.to_owned(), "b".repeat(64)),
                        (output::POST_IMAGE.to_owned(), "c".repeat(64)),
                    ])
                })
                .unwrap_or_default(),
            ..Execution::default()
        };
        self.0.lock().unwrap().executions.insert(start.id.to_string(), execution);
        serde_json::json!({
            "source": "aws.ssm",
            "detail-type": "EC2 Automation Execution Status-change Notification",
            "account": place.account,
            "region": place.region,
            "detail": { "ExecutionId": start.id, "Definition": "Redress-Control", "Status": status },
        })
        .to_string()
    }

    pub(crate) fn watched<T>(&self, change: impl FnOnce(&mut Watched) -> T) -> T {
        change(&mut self.0.lock().unwrap().watched)
    }

    /// The items as the index of what is open has them: the partition, the place in it, the key.
    pub(crate) fn indexed(&self) -> Vec<(String, i64, StateKey)> {
        let inner = self.0.lock().unwrap();
        let of = |(name, item): (&String, &Item)| {
            let open = item.get(open::OPEN)?.as_s().ok()?.clone();
            Some((open, item.get(open::SINCE)?.as_n().ok()?.parse().ok()?, StateKey::parse(name)?))
        };
        inner.items.iter().filter_map(of).collect()
    }

    pub(crate) fn snapshot(&self, keys: &[StateKey]) -> Snapshot {
        self.0.lock().unwrap().snapshot(keys)
    }

    pub(crate) async fn call(&self, name: &'static str) {
        {
            let mut inner = self.0.lock().unwrap();
            if CALLS.try_with(|calls| calls.borrow_mut().push(name)).is_err() {
                inner.calls.push(name);
            }
            if let Some((_, key, item)) = inner.meanwhile.take_if(|(during, ..)| *during == name) {
                inner.items.insert(key, item);
            }
        }
        tokio::task::yield_now().await;
    }

    /// The call, unless it is to fail.
    pub(crate) async fn try_call(&self, name: &'static str) -> Result<(), AwsFailure> {
        self.call(name).await;
        let mut inner = self.0.lock().unwrap();
        match inner.failing.iter().position(|failing| *failing == name) {
            Some(at) => {
                inner.failing.remove(at);
                Err(AwsFailure::partial(name, "no"))
            }
            None => Ok(()),
        }
    }
}

impl Store for &World {
    async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        let snapshot = self.snapshot(keys);
        let refused = keys.contains(&StateKey::Reconciler) && self.watched(|watched| watched.progress_unreadable);
        self.call("BatchGetItem").await;
        if refused { Err(AwsFailure::partial("dynamodb:BatchGetItem", "no").into()) } else { Ok(snapshot) }
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), TransactError> {
        self.try_call("TransactWriteItems").await.map_err(StoreError::from)?;
        self.0.lock().unwrap().transact(transaction)
    }

    async fn put_if<T: serde::Serialize + Sync>(
        &self,
        key: &StateKey,
        value: &T,
        expect: Expect,
    ) -> Result<(), TransactError> {
        self.call("PutItem").await;
        let also = Also::put(key.clone(), value, expect).unwrap();
        let mut inner = self.0.lock().unwrap();
        if let Some(item) = also.apply(inner.items.get(&key.to_string()))? {
            inner.items.insert(key.to_string(), item);
        }
        Ok(())
    }

    async fn records(&self, id: RemediationId) -> Result<Vec<Record>, StoreError> {
        self.call("Query").await;
        Ok(World::records(self).into_iter().filter(|record| record.draft.remediation_id == id).collect())
    }
}

impl Outside for &World {
    async fn account(&self, account: &AccountId, now: Timestamp) -> Result<AccountFacts, AwsFailure> {
        self.call("DescribeAccount").await;
        let known = self.0.lock().unwrap().accounts.get(account).cloned();
        let facts = known.ok_or_else(|| AwsFailure::partial("organizations:DescribeAccount", "no such account"))?;
        Ok(AccountFacts { read_at: now.as_millisecond(), ..facts })
    }

    async fn keep_account(&self, facts: &AccountFacts) -> Result<(), AwsFailure> {
        self.call("PutItem").await;
        self.put(&StateKey::Account(facts.account.clone()), facts);
        Ok(())
    }

    async fn calendars_open(&self, _: &[Arn], _: Timestamp) -> Result<bool, AwsFailure> {
        self.try_call("GetCalendarState").await?;
        Ok(!self.0.lock().unwrap().calendar_closed)
    }

    async fn recent(&self, resource: &str, since: Timestamp, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.call("Query").await;
        let is_it =
            |record: &Record| record.draft.resource_id == resource && record.draft.timestamp >= since.as_millisecond();
        let mut found: Vec<Record> = World::records(self).into_iter().filter(is_it).collect();
        found.reverse();
        found.truncate(limit);
        Ok(found)
    }

    async fn guard(&self, _: &Place, _: &GuardRequest) -> Result<GuardEvidence, StartError> {
        self.try_call("Invoke").await.map_err(refused)?;
        if std::mem::take(&mut self.0.lock().unwrap().guard_dies) {
            return Err(StartError::refused(true, "its process exited".to_owned()));
        }
        Ok(self.0.lock().unwrap().evidence.clone())
    }

    async fn start_workflow(&self, input: &WorkflowInput) -> Result<(), StartError> {
        self.try_call("StartExecution").await.map_err(refused)?;
        let mut inner = self.0.lock().unwrap();
        if !inner.workflows.iter().any(|known| known.remediation_id == input.remediation_id) {
            inner.workflows.push(input.clone());
        }
        Ok(())
    }

    async fn end_task(&self, task: &Task, result: &serde_json::Value) -> Result<(), AwsFailure> {
        self.try_call("SendTaskSuccess").await?;
        self.0.lock().unwrap().tasks_ended.push((task.clone(), result.clone()));
        Ok(())
    }

    async fn defer(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        self.call("PutItem").await;
        self.0.lock().unwrap().waiting.insert((waiting.place.clone(), waiting.order.clone()), waiting.clone());
        Ok(())
    }

    async fn waiting(&self, place: &str, after: &str, limit: usize) -> Result<Vec<Waiting>, AwsFailure> {
        self.try_call("Query").await?;
        let inner = self.0.lock().unwrap();
        let turn = |waiting: &&Waiting| waiting.place == place && waiting.order.as_str() > after;
        Ok(inner.waiting.values().filter(turn).take(limit).cloned().collect())
    }

    async fn bring_back(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        self.try_call("SendMessage").await?;
        let mut inner = self.0.lock().unwrap();
        inner.waiting.remove(&(waiting.place.clone(), waiting.order.clone()));
        inner.brought_back.push(waiting.clone());
        Ok(())
    }

    async fn publish(&self, message: &Notification, attributes: &Attributes) -> Result<(), AwsFailure> {
        self.call("Publish").await;
        let mut inner = self.0.lock().unwrap();
        if inner.publish_fails {
            return Err(AwsFailure::partial("sns:Publish", "no"));
        }
        inner.told.push(message.clone());
        inner.urgent.push(attributes.urgent);
        Ok(())
    }

    async fn dead_letter(&self, body: &str, code: &str, _: &str) -> Result<(), AwsFailure> {
        self.call("SendMessage").await;
        self.0.lock().unwrap().dead.push((code.to_owned(), body.to_owned()));
        Ok(())
    }

    async fn start(&self, place: &Place, start: &Start) -> Result<(), StartError> {
        self.call("StartAutomationExecution").await;
        let mut inner = self.0.lock().unwrap();
        if let Some(error) = inner.start_errors.pop_front() {
            return Err(error);
        }
        // SSM: the same client token is the same execution.
        if !inner.started.iter().any(|(_, known)| known.id == start.id) {
            inner.started.push((place.clone(), start.clone()));
        }
        Ok(())
    }

    async fn recall(&self, place: &Place, start: &Start) -> Result<bool, StartError> {
        self.call("Invoke").await;
        let mut inner = self.0.lock().unwrap();
        let known = inner.started.iter().any(|(at, known)| at == place && known.id == start.id);
        if known {
            inner.ends.push(serde_json::json!({ "Recalled": start.id }));
        }
        Ok(known)
    }

    async fn execution(&self, _: &Place, id: &str) -> Result<Execution, StartError> {
        self.call("GetAutomationExecution").await;
        Ok(self.0.lock().unwrap().executions[id].clone())
    }

    async fn find_execution(
        &self,
        place: &Place,
        id: RemediationId,
        _: Timestamp,
    ) -> Result<Option<String>, StartError> {
        self.try_call("DescribeAutomationExecutions").await.map_err(refused)?;
        let inner = self.0.lock().unwrap();
        let known = inner.started.iter().any(|(at, start)| at == place && start.id == id);
        Ok(known.then(|| id.to_string()))
    }

    async fn tell_end(&self, event: &serde_json::Value) -> Result<(), AwsFailure> {
        self.call("SendMessage").await;
        self.0.lock().unwrap().ends.push(event.clone());
        Ok(())
    }

    async fn stop_execution(&self, _: &Place, id: &str) -> Result<(), StartError> {
        self.call("StopAutomationExecution").await;
        let mut inner = self.0.lock().unwrap();
        inner.stopped.push(id.to_owned());
        if let Some(execution) = inner.executions.get_mut(id) {
            execution.status = "Cancelled".to_owned();
        }
        Ok(())
    }

    async fn workflow_status(&self, _: &str, _: &Arn) -> Result<WorkflowStatus, AwsFailure> {
        self.try_call("GetFindings").await?;
        Ok(self.0.lock().unwrap().put.unwrap_or(WorkflowStatus::New))
    }

    async fn update_finding(&self, update: &FindingUpdate) -> Result<(), AwsFailure> {
        self.try_call("BatchUpdateFindings").await?;
        self.0.lock().unwrap().updates.push(update.clone());
        Ok(())
    }
}

fn refused(failure: AwsFailure) -> StartError {
    StartError::refused(false, failure.to_string())
}

pub(crate) fn identity() -> Identity {
    Identity {
        executor: "arn:aws:lambda:eu-central-1:999988887777:function:redress-orchestrator".parse().unwrap(),
        account: "999988887777".parse().unwrap(),
        home: "eu-central-1".parse().unwrap(),
        retention_days: 90,
        times: Times::default(),
    }
}

pub(crate) fn now() -> Timestamp {
    "2026-03-02T09:15:05Z".parse().unwrap()
}

pub(crate) fn parameter(start: &Start, name: &'static str) -> String {
    start.parameters.get(name).cloned().unwrap_or_default()
}

pub(crate) fn mode(start: &Start) -> Option<Mode> {
    [Mode::DryRun, Mode::Apply, Mode::Restore, Mode::Snapshot]
        .into_iter()
        .find(|m| m.as_str() == parameter(start, parameter::MODE))
}
