//! Systems Manager Automation: documents, change calendars, and an interpreter of schema 0.3 that acts as each execution's role.
//!
//! It answers document and automation operations only; parameters and all else of `ssm` go to the base emulator.
//! It reaches AWS through [`Aws`] alone, so whatever a runbook does is authorised and recorded like any client's call.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::ids::Region;
use serde_json::{Value, json};

use crate::service::{Aws, AwsError, Caller, Request, Service};

mod action;
mod calendar;
mod command;
mod condition;
mod document;
mod engine;
mod execution;
mod parameters;
mod run;
mod store;
#[cfg(test)]
mod tests;
mod value;

pub use execution::{Execution, ParentStep, Stage, Status, StepExecution};

use command::Commands;
use engine::{Engine, Token, not_found};
use run::{Control, Run, Signal};
use store::{Store, document_arn, required};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How the lab's Automation differs from AWS's.
#[derive(Clone)]
pub struct Options {
    /// Time between two looks of `aws:waitForAwsResourceProperty`.
    pub poll_interval: Duration,
    /// Waiting time is multiplied by this: `aws:sleep`, and how long `aws:waitForAwsResourceProperty` waits at most.
    pub time_scale: f64,
    /// Executions that run at a time, per account and Region.
    pub max_in_flight: usize,
    /// Executions that wait for a place, per account and Region.
    pub max_queued: usize,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(20),
            time_scale: 0.05,
            max_in_flight: 100,
            max_queued: 1000,
            clock: Arc::new(Timestamp::now),
        }
    }
}

impl Options {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn scaled(&self, time: Duration) -> Duration {
        Duration::try_from_secs_f64(time.as_secs_f64() * self.time_scale.max(0.0)).unwrap_or(time)
    }
}

/// An account and a Region: documents and limits are per place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    account: String,
    region: String,
}

fn partition(region: &str) -> &'static str {
    Region::from_str(region).map_or(Partition::Aws, |region| Partition::of_region(&region)).as_str()
}

fn arn(place: &Place, resource: &str) -> String {
    format!("arn:{}:ssm:{}:{}:{resource}", partition(&place.region), place.region, place.account)
}

/// Seconds since 1970, as the JSON protocol writes times.
fn epoch(at: Timestamp) -> f64 {
    at.as_duration().as_millis_f64().round() / 1000.0
}

/// What a lock guards is whole after every change, also when another thread panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an operation's permission is for.
#[derive(Clone, Copy)]
enum On {
    Document,
    Start,
    Execution,
    Calendars,
    Command,
    Nothing,
}

const OPERATIONS: &[(&str, On)] = &[
    ("CreateDocument", On::Document),
    ("UpdateDocument", On::Document),
    ("UpdateDocumentDefaultVersion", On::Document),
    ("DescribeDocument", On::Document),
    ("GetDocument", On::Document),
    ("ListDocuments", On::Nothing),
    ("ListDocumentVersions", On::Document),
    ("DeleteDocument", On::Document),
    ("ModifyDocumentPermission", On::Document),
    ("DescribeDocumentPermission", On::Document),
    ("GetCalendarState", On::Calendars),
    ("StartAutomationExecution", On::Start),
    ("GetAutomationExecution", On::Execution),
    ("DescribeAutomationExecutions", On::Nothing),
    ("DescribeAutomationStepExecutions", On::Nothing),
    ("StopAutomationExecution", On::Execution),
    ("SendAutomationSignal", On::Execution),
    ("SendCommand", On::Command),
    ("GetCommandInvocation", On::Nothing),
];

/// The service. A clone is the same service.
#[derive(Clone)]
pub struct Ssm {
    documents: Arc<Mutex<Store>>,
    commands: Arc<Mutex<Commands>>,
    engine: Arc<Engine>,
}

impl Default for Ssm {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Ssm {
    /// A service without documents.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { documents: Arc::default(), commands: Arc::default(), engine: Arc::new(Engine::new(options)) }
    }

    /// Create a document, or make a new default version of it when its content differs. JSON or YAML.
    ///
    /// # Errors
    /// `InvalidDocumentContent` with the reason, or `ValidationException` for a bad name.
    pub fn put_document(&self, account: &str, region: &str, name: &str, content: &str) -> Result<(), AwsError> {
        let place = Place { account: account.to_owned(), region: region.to_owned() };
        locked(&self.documents).put(&place, name, content, self.engine.options.now())
    }

    /// Create a document in several accounts at once, as a stack set does.
    ///
    /// # Errors
    /// As [`Ssm::put_document`].
    pub fn deploy_document(&self, accounts: &[&str], region: &str, name: &str, content: &str) -> Result<(), AwsError> {
        let place = |account: &&str| Place { account: (*account).to_owned(), region: region.to_owned() };
        let places: Vec<Place> = accounts.iter().map(place).collect();
        locked(&self.documents).create_all(&places, name, content, self.engine.options.now())
    }

    /// Whether an account has a document of this name.
    #[must_use]
    pub fn has_document(&self, account: &str, region: &str, name: &str) -> bool {
        let place = Place { account: account.to_owned(), region: region.to_owned() };
        locked(&self.documents).describe(&place, &json!({ "Name": name })).is_ok()
    }

    /// Every execution so far, of every account, in the order of their starts: for timelines and tests.
    #[must_use]
    pub fn executions(&self) -> Vec<Execution> {
        self.engine.all()
    }

    /// Whether an execution of late still runs in an account: cheap, for whoever waits for its end.
    #[must_use]
    pub fn is_busy(&self, account: &str) -> bool {
        self.engine.is_busy(account)
    }

    /// Wait until an execution has ended and its last event is out. `None` when there is no such execution.
    pub async fn ended(&self, id: &str) -> Option<Execution> {
        let run = self.engine.find(id)?;
        run.ended().await;
        Some(run.read(Execution::clone))
    }

    async fn start(&self, request: &Request, aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        let (place, body) = (place_of(request), &request.body);
        for field in ["Targets", "TargetMaps", "TargetLocations", "TargetLocationsURL", "TargetParameterName"] {
            if body.get(field).is_some_and(|given| !given.is_null()) {
                return Err(invalid(format!("the lab does not run rate-controlled automations ({field})")));
            }
        }
        if body.get("Mode").and_then(Value::as_str).is_some_and(|mode| mode != "Auto") {
            return Err(invalid("the lab runs automations in Mode Auto only".to_owned()));
        }
        let name = required(body, "DocumentName")?;
        let version = body.get("DocumentVersion").and_then(Value::as_str);
        let given = given_parameters(body)?;
        let token = client_token(body, &place, &json!([name, version, given]).to_string())?;
        if let Some(earlier) = token.as_ref().map(|token| self.engine.known(token)).transpose()?.flatten() {
            return Ok(json!({"AutomationExecutionId": earlier}));
        }
        let (name, version) =
            locked(&self.documents).runnable(&place, name, version).map_err(|error| match error.code.as_str() {
                "InvalidDocument" => AwsError::new(
                    "AutomationDefinitionNotFoundException",
                    format!("Automation definition {name} was not found."),
                ),
                _ => AwsError::new(
                    "AutomationDefinitionVersionNotFoundException",
                    format!("That version of {name} was not found."),
                ),
            })?;
        let document = version.document().cloned().ok_or_else(|| {
            AwsError::new("AutomationDefinitionNotFoundException", format!("{name} is not an Automation document."))
        })?;
        let values = parameters::accept(&document.parameters, &given).map_err(refused)?;
        let role = self.role(&document, &values, &place)?;
        aws.authorise(&request.caller, "iam:PassRole", &role, json!({"iam:PassedToService": "ssm.amazonaws.com"}))
            .await?;
        let id = uuid::Uuid::new_v4().to_string();
        let source = arn(&place, &format!("automation-execution/{id}"));
        let credentials = aws
            .session_of(&role, &format!("Automation-{id}"), "ssm.amazonaws.com", &source)
            .await
            .map_err(|error| refused(format!("The defined assume role is unable to be assumed. ({error})")))?;
        let record = Execution {
            id,
            account: place.account.clone(),
            region: place.region.clone(),
            document: name,
            version: version.number,
            status: Status::Pending,
            parameters: values.iter().map(|(name, value)| (name.clone(), value::texts(value))).collect(),
            outputs: BTreeMap::new(),
            steps: Vec::new(),
            failure_message: None,
            executed_by: request.caller.arn.clone(),
            role,
            parent: self.parent(&request.caller, &place),
            started: self.engine.options.now(),
            ended: None,
        };
        let id = self.engine.admit(Arc::new(Run::new(record, document, values, credentials, aws)), token)?;
        Ok(json!({"AutomationExecutionId": id}))
    }

    /// The role that an execution's steps act as: of the same account, and never the caller.
    fn role(
        &self,
        document: &document::Document,
        values: &parameters::Values,
        place: &Place,
    ) -> Result<String, AwsError> {
        let template = document.assume_role.clone().unwrap_or_default();
        let role =
            value::resolve(&json!(template), &|reference| run::outside(reference, values, place, &self.engine.options))
                .map_err(|reference| refused(format!("assumeRole: {reference} has no value")))?;
        let role = value::text(&role);
        if role.is_empty() {
            return Err(refused(
                "the lab runs no automation with its caller's own permissions: give the document an assumeRole"
                    .to_owned(),
            ));
        }
        if role.split(':').nth(4) != Some(&place.account) {
            return Err(refused(format!(
                "the role {role} is not of account {}, where the automation runs",
                place.account
            )));
        }
        Ok(role)
    }

    /// The execution whose `aws:executeAutomation` step makes this call, told by the session that it calls with.
    fn parent(&self, caller: &Caller, place: &Place) -> Option<String> {
        let (_, id) = caller.arn.rsplit_once("/Automation-")?;
        let run = self.engine.find(id)?;
        let nests = run.read(|record| {
            record.place() == *place && record.current().is_some_and(|step| step.action == "aws:executeAutomation")
        });
        nests.then(|| id.to_owned())
    }

    fn calendar_state(&self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let names = calendar_names(body);
        if names.is_empty() || names.len() > 50 {
            return Err(invalid("CalendarNames has 1 to 50 names".to_owned()));
        }
        let at = match body.get("AtTime").and_then(Value::as_str) {
            None => self.engine.options.now(),
            Some(text) => text.parse().map_err(|_| invalid(format!("AtTime `{text}` is no ISO 8601 time")))?,
        };
        let documents = locked(&self.documents);
        let calendars = names.into_iter().map(|name| documents.calendar(place, name)).collect::<Result<Vec<_>, _>>()?;
        let (state, next) = calendar::state(&calendars.iter().map(Arc::as_ref).collect::<Vec<_>>(), at);
        let text = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut answer = json!({"State": state.as_str(), "AtTime": text(at)});
        if let Some(next) = next {
            answer["NextTransitionTime"] = text(next).into();
        }
        Ok(answer)
    }

    /// The execution that a request names, if it runs where the request goes.
    fn wanted(&self, request: &Request) -> Result<Arc<Run>, AwsError> {
        let id = required(&request.body, "AutomationExecutionId")?;
        let place = place_of(request);
        self.engine.find(id).filter(|run| run.read(|record| record.place() == place)).ok_or_else(|| not_found(id))
    }

    fn get(&self, request: &Request) -> Result<Value, AwsError> {
        let run = self.wanted(request)?;
        Ok(json!({"AutomationExecution": run.read(|record| record.full(&run.document.steps))}))
    }

    fn describe_executions(&self, request: &Request) -> Result<Value, AwsError> {
        let place = place_of(request);
        let mut found = Vec::new();
        for execution in self.engine.all().into_iter().rev().filter(|execution| execution.place() == place) {
            let passes = passes(&request.body, |key, values| {
                let is = |actual: &str| Some(values.contains(&actual));
                match key {
                    "ExecutionId" => is(&execution.id),
                    "ExecutionStatus" => is(execution.status.as_str()),
                    "ParentExecutionId" => is(execution.parent.as_deref().unwrap_or_default()),
                    "CurrentAction" => is(execution.current().map_or("", |step| step.action.as_str())),
                    "DocumentNamePrefix" => Some(values.iter().any(|prefix| execution.document.starts_with(prefix))),
                    "StartTimeBefore" => Some(time_of(values)? > execution.started),
                    "StartTimeAfter" => Some(time_of(values)? < execution.started),
                    _ => None,
                }
            })?;
            if passes {
                found.push(execution.summary());
            }
        }
        page(&request.body, "AutomationExecutionMetadataList", found)
    }

    fn describe_steps(&self, request: &Request) -> Result<Value, AwsError> {
        let run = self.wanted(request)?;
        let mut found = Vec::new();
        for step in run.read(|record| record.step_list(&run.document.steps)) {
            let passes = passes(&request.body, |key, values| {
                let field = match key {
                    "StepName" => "StepName",
                    "Action" => "Action",
                    "StepExecutionId" => "StepExecutionId",
                    "StepExecutionStatus" => "StepStatus",
                    _ => return None,
                };
                Some(step[field].as_str().is_some_and(|actual| values.contains(&actual)))
            })?;
            if passes {
                found.push(step);
            }
        }
        if request.body.get("ReverseOrder").and_then(Value::as_bool) == Some(true) {
            found.reverse();
        }
        page(&request.body, "StepExecutions", found)
    }

    async fn stop(&self, request: &Request) -> Result<Value, AwsError> {
        let run = self.wanted(request)?;
        let how = match request.body.get("Type").and_then(Value::as_str) {
            None | Some("Cancel") => Control::Cancel,
            Some("Complete") => Control::Complete,
            Some(other) => return Err(invalid(format!("Type `{other}` is neither Cancel nor Complete"))),
        };
        let id = run.read(|record| record.id.clone());
        self.engine.stop(&id, how).await?;
        Ok(json!({}))
    }

    fn signal(&self, request: &Request) -> Result<Value, AwsError> {
        let run = self.wanted(request)?;
        let kind = required(&request.body, "SignalType")?;
        let wrong = |reason: String| AwsError::new("InvalidAutomationSignalException", reason);
        let answers = match kind {
            "Approve" | "Reject" => "aws:approve",
            "Resume" => "aws:pause",
            other => {
                return Err(wrong(format!("the lab has no use for the signal {other}: automations run in Mode Auto")));
            }
        };
        let waiting = run.read(|record| record.current().filter(|step| step.status == Status::Waiting).cloned());
        let waiting = waiting.filter(|step| step.action == answers);
        let waiting = waiting.ok_or_else(|| {
            AwsError::new("AutomationStepNotFoundException", format!("No step waits for the signal {kind}."))
        })?;
        if answers == "aws:approve" {
            let approvers: Vec<String> =
                waiting.inputs.get("Approvers").and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
            if !approvers.iter().any(|approver| speaks_for(&request.caller.arn, approver)) {
                return Err(wrong(format!("{} is none of the step's approvers", request.caller.arn)));
            }
        }
        let signal = Signal { step_id: waiting.id, kind: kind.to_owned(), by: request.caller.arn.clone() };
        run.signals.send_modify(|all| all.push(signal));
        Ok(json!({}))
    }
}

/// Whether a caller is an approver: the same ARN, or a session of that role.
fn speaks_for(caller: &str, approver: &str) -> bool {
    let session_of = || {
        let (caller_role, _) = caller.split_once(":assumed-role/")?.1.split_once('/')?;
        let (approver_account, approver_role) = approver.split_once(":role/")?;
        let same_account = caller.split(':').nth(4) == approver_account.split(':').nth(4);
        Some(same_account && approver_role.rsplit('/').next() == Some(caller_role))
    };
    caller == approver || session_of().unwrap_or(false)
}

fn calendar_names(body: &Value) -> Vec<&str> {
    body.get("CalendarNames").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn place_of(request: &Request) -> Place {
    Place { account: request.caller.account.clone(), region: request.region.clone() }
}

fn invalid(reason: String) -> AwsError {
    AwsError::new("ValidationException", reason)
}

fn refused(reason: String) -> AwsError {
    AwsError::new("InvalidAutomationExecutionParametersException", reason)
}

fn given_parameters(body: &Value) -> Result<BTreeMap<String, Vec<String>>, AwsError> {
    match body.get("Parameters") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(given) => serde_json::from_value(given.clone())
            .map_err(|_| invalid("Parameters is a map of names to lists of strings".to_owned())),
    }
}

/// A token is a UUID in any case of letters; it stands for the request's fingerprint in its account and Region.
fn client_token(body: &Value, place: &Place, fingerprint: &str) -> Result<Option<Token>, AwsError> {
    let Some(given) = body.get("ClientToken").and_then(Value::as_str) else { return Ok(None) };
    let token = uuid::Uuid::try_parse(given).ok().filter(|_| given.len() == 36);
    let token = token.ok_or_else(|| invalid(format!("ClientToken `{given}` is not a UUID")))?;
    Ok(Some(Token { key: (place.clone(), token.to_string()), fingerprint: fingerprint.to_owned() }))
}

/// Whether something passes every filter of a request. `test` says `None` to a key or value that it does not know.
fn passes(body: &Value, test: impl Fn(&str, &[&str]) -> Option<bool>) -> Result<bool, AwsError> {
    let mut all = true;
    for filter in body.get("Filters").and_then(Value::as_array).into_iter().flatten() {
        let key = filter["Key"].as_str().unwrap_or_default();
        let values: Vec<&str> = filter["Values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        all &= test(key, &values)
            .ok_or_else(|| AwsError::new("InvalidFilterKey", format!("The lab does not filter by `{key}`.")))?;
    }
    Ok(all)
}

fn time_of(values: &[&str]) -> Option<Timestamp> {
    values.first()?.parse().ok()
}

/// One page of a list; the token is the position that follows it.
fn page(body: &Value, field: &str, all: Vec<Value>) -> Result<Value, AwsError> {
    let from = match body.get("NextToken").and_then(Value::as_str) {
        None | Some("") => 0,
        Some(token) => {
            token.parse().map_err(|_| AwsError::new("InvalidNextToken", "The specified token is not valid."))?
        }
    };
    let size = body
        .get("MaxResults")
        .and_then(Value::as_u64)
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(50)
        .clamp(1, 50);
    let more = all.len() > from + size;
    let mut answer = json!({field: all.into_iter().skip(from).take(size).collect::<Vec<_>>()});
    if more {
        answer["NextToken"] = json!((from + size).to_string());
    }
    Ok(answer)
}

#[async_trait]
impl Service for Ssm {
    fn name(&self) -> &'static str {
        "ssm"
    }

    fn answers(&self, operation: &str) -> bool {
        OPERATIONS.iter().any(|(name, _)| *name == operation)
    }

    fn resources(&self, request: &Request) -> Vec<String> {
        let place = place_of(request);
        let field = |name: &str| request.body.get(name).and_then(Value::as_str).unwrap_or("*");
        let on = OPERATIONS.iter().find(|(name, _)| *name == request.operation).map_or(On::Nothing, |(_, on)| *on);
        match on {
            On::Nothing => Vec::new(),
            On::Document => vec![document_arn(&place, "document", field("Name"), "")],
            On::Calendars => calendar_names(&request.body)
                .into_iter()
                .map(|name| document_arn(&place, "document", name, ""))
                .collect(),
            On::Execution => vec![arn(&place, &format!("automation-execution/{}", field("AutomationExecutionId")))],
            On::Command => {
                let Place { account, region } = &place;
                let of = |id: &String| format!("arn:{}:ec2:{region}:{account}:instance/{id}", partition(region));
                let document = document_arn(&place, "document", field("DocumentName"), "");
                std::iter::once(document).chain(command::instances(&request.body).iter().map(of)).collect()
            }
            On::Start => {
                let name = field("DocumentName");
                let version = request.body.get("DocumentVersion").and_then(Value::as_str).unwrap_or("$DEFAULT");
                vec![
                    document_arn(&place, "automation-definition", name, &format!(":{version}")),
                    document_arn(&place, "document", name, ""),
                ]
            }
        }
    }

    async fn handle(&self, request: Request, aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        let (place, body, now) = (place_of(&request), &request.body, self.engine.options.now());
        let documents = || locked(&self.documents);
        match request.operation.as_str() {
            "CreateDocument" => documents().create(&place, body, now),
            "UpdateDocument" => documents().update(&place, body, now),
            "UpdateDocumentDefaultVersion" => documents().update_default(&place, body),
            "DescribeDocument" => documents().describe(&place, body),
            "GetDocument" => documents().get(&place, body),
            "ListDocuments" => page(body, "DocumentIdentifiers", documents().list(&place, body)),
            "ListDocumentVersions" => page(body, "DocumentVersions", documents().versions(&place, body)?),
            "DeleteDocument" => documents().delete(&place, body),
            "ModifyDocumentPermission" => documents().share(&place, body),
            "DescribeDocumentPermission" => documents().sharing(&place, body),
            "GetCalendarState" => self.calendar_state(&place, body),
            "StartAutomationExecution" => self.start(&request, aws).await,
            "GetAutomationExecution" => self.get(&request),
            "DescribeAutomationExecutions" => self.describe_executions(&request),
            "DescribeAutomationStepExecutions" => self.describe_steps(&request),
            "StopAutomationExecution" => self.stop(&request).await,
            "SendAutomationSignal" => self.signal(&request),
            "SendCommand" => {
                documents().is_command(&place, required(body, "DocumentName")?)?;
                locked(&self.commands).send(&place, body)
            }
            "GetCommandInvocation" => locked(&self.commands).invocation(&place, body),
            other => Err(AwsError::new("InvalidAction", format!("The lab does not answer ssm:{other}."))),
        }
    }
}
