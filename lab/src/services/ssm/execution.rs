//! What is known of an execution and its steps, and how the API and the events write it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::document::{OnFailure, Step};
use super::{Place, arn, epoch};

/// Status of an execution or a step, by AWS's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    /// Not begun.
    Pending,
    /// Running.
    InProgress,
    /// Waits for a person.
    Waiting,
    /// Ended well.
    Success,
    /// Ended badly.
    Failed,
    /// Took too long.
    TimedOut,
    /// Is being stopped.
    Cancelling,
    /// Was stopped.
    Cancelled,
}

impl Status {
    /// As the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Waiting => "Waiting",
            Self::Success => "Success",
            Self::Failed => "Failed",
            Self::TimedOut => "TimedOut",
            Self::Cancelling => "Cancelling",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::TimedOut | Self::Cancelled)
    }
}

/// At which stage a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Stage {
    /// Its inputs could not be resolved.
    InputValidation,
    /// Its action failed.
    Invocation,
    /// Its outputs were not as declared, or a property was not as asked for.
    PostVerification,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) kind: &'static str,
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Failure {
    fn new(stage: Stage, kind: &'static str, when: &str, reason: &str) -> Self {
        let reason = reason.trim_end().trim_end_matches('.');
        let message = format!(
            "Step fails when it is {when}. {reason}. Please refer to Automation Service Troubleshooting Guide for more \
             diagnosis details."
        );
        Self { stage, kind, status: Status::Failed, message }
    }

    pub(crate) fn inputs(reason: &str) -> Self {
        Self::new(Stage::InputValidation, "Verification", "validating and resolving the step inputs", reason)
    }

    pub(crate) fn outputs(reason: &str) -> Self {
        Self::new(Stage::PostVerification, "Verification", "validating and resolving the step outputs", reason)
    }

    pub(crate) fn action(kind: &'static str, reason: &str) -> Self {
        Self::new(Stage::Invocation, kind, "Execute/Cancelling action", reason)
    }

    pub(crate) fn poll(reason: &str) -> Self {
        Self::new(Stage::Invocation, "Action", "Poll action status for completion", reason)
    }

    pub(crate) fn timed_out(reason: &str) -> Self {
        Self { status: Status::TimedOut, ..Self::poll(reason) }
    }
}

/// One run of a step.
#[derive(Debug, Clone, Serialize)]
pub struct StepExecution {
    /// Its id.
    pub id: String,
    /// The step's name.
    pub name: String,
    /// Its action: `aws:executeAwsApi`.
    pub action: String,
    /// Where it stands.
    pub status: Status,
    /// Resolved inputs, each as JSON.
    pub inputs: BTreeMap<String, String>,
    /// Outputs, by name.
    pub outputs: BTreeMap<String, Vec<String>>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it failed.
    pub failure_message: Option<String>,
    /// At which stage it failed, and what kind of failure it was.
    pub failure: Option<(Stage, &'static str)>,
    /// For a step inside a loop: the loop step, the iteration from 1, and the iterator's value.
    pub parent: Option<ParentStep>,
    #[serde(skip)]
    plan: Plan,
}

/// The loop that a step runs in.
#[derive(Debug, Clone, Serialize)]
pub struct ParentStep {
    /// The loop step.
    pub name: String,
    /// The loop step's execution id.
    pub id: String,
    /// From 1.
    pub iteration: u32,
    /// The iterator's value, for a loop over a list.
    pub value: Option<String>,
}

#[derive(Debug, Clone)]
struct Plan {
    next: Option<String>,
    is_end: bool,
    is_critical: bool,
    on_failure: String,
    max_attempts: u32,
    timeout: Option<u64>,
}

impl Plan {
    fn of(step: &Step) -> Self {
        Self {
            next: step.next.clone(),
            is_end: step.is_end,
            is_critical: step.is_critical,
            on_failure: step.on_failure.text(),
            max_attempts: step.max_attempts,
            timeout: step.timeout.map(|timeout| timeout.as_secs()),
        }
    }

    fn write(&self, into: &mut Map<String, Value>) {
        into.insert("OnFailure".to_owned(), json!(self.on_failure));
        into.insert("IsEnd".to_owned(), json!(self.is_end));
        into.insert("IsCritical".to_owned(), json!(self.is_critical));
        into.insert("MaxAttempts".to_owned(), json!(self.max_attempts));
        for (name, value) in
            [("NextStep", self.next.as_ref().map(|n| json!(n))), ("TimeoutSeconds", self.timeout.map(|t| json!(t)))]
        {
            if let Some(value) = value {
                into.insert(name.to_owned(), value);
            }
        }
    }
}

impl StepExecution {
    pub(crate) fn begin(step: &Step, parent: Option<ParentStep>, now: Timestamp) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            name: step.name.clone(),
            action: step.action.name().to_owned(),
            status: Status::InProgress,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            started: now,
            ended: None,
            failure_message: None,
            failure: None,
            parent,
            plan: Plan::of(step),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("StepExecutionId".to_owned(), json!(self.id));
        map.insert("StepName".to_owned(), json!(self.name));
        map.insert("Action".to_owned(), json!(self.action));
        map.insert("StepStatus".to_owned(), json!(self.status.as_str()));
        map.insert("Inputs".to_owned(), json!(self.inputs));
        map.insert("Outputs".to_owned(), json!(self.outputs));
        map.insert("ExecutionStartTime".to_owned(), json!(epoch(self.started)));
        if let Some(ended) = self.ended {
            map.insert("ExecutionEndTime".to_owned(), json!(epoch(ended)));
        }
        if let Some(message) = &self.failure_message {
            map.insert("FailureMessage".to_owned(), json!(message));
        }
        if let Some((stage, kind)) = self.failure {
            map.insert("FailureDetails".to_owned(), json!({"FailureStage": stage, "FailureType": kind, "Details": {}}));
        }
        if let Some(parent) = &self.parent {
            let mut details = json!({
                "StepName": parent.name, "StepExecutionId": parent.id, "Action": "aws:loop", "Iteration": parent.iteration,
            });
            if let Some(value) = &parent.value {
                details["IteratorValue"] = json!(value);
            }
            map.insert("ParentStepDetails".to_owned(), details);
        }
        self.plan.write(&mut map);
        Value::Object(map)
    }
}

/// A step that has not begun, as the API lists it.
fn not_begun(step: &Step) -> Value {
    let mut map = Map::new();
    map.insert("StepName".to_owned(), json!(step.name));
    map.insert("Action".to_owned(), json!(step.action.name()));
    map.insert("StepStatus".to_owned(), json!("Pending"));
    Plan::of(step).write(&mut map);
    Value::Object(map)
}

/// One execution of a document.
#[derive(Debug, Clone, Serialize)]
pub struct Execution {
    /// Its id, a UUID.
    pub id: String,
    /// The account that it runs in.
    pub account: String,
    /// The Region that it runs in.
    pub region: String,
    /// The document.
    pub document: String,
    /// The document's version.
    pub version: u32,
    /// Where it stands.
    pub status: Status,
    /// Parameters, defaults filled in.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// Outputs of the document, when it has ended.
    pub outputs: BTreeMap<String, Vec<String>>,
    /// The steps that have begun, in order.
    pub steps: Vec<StepExecution>,
    /// Why it failed.
    pub failure_message: Option<String>,
    /// ARN of who started it.
    pub executed_by: String,
    /// ARN of the role that its steps act as.
    pub role: String,
    /// The execution whose `aws:executeAutomation` step started it.
    pub parent: Option<String>,
    /// When it was asked for.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl Execution {
    pub(crate) fn place(&self) -> Place {
        Place { account: self.account.clone(), region: self.region.clone() }
    }

    /// The step that runs now: the innermost one that has not ended.
    pub(crate) fn current(&self) -> Option<&StepExecution> {
        self.steps.iter().rev().find(|step| !step.status.is_final())
    }

    /// What `GetAutomationExecution` and `DescribeAutomationExecutions` both say.
    pub(crate) fn summary(&self) -> Value {
        let mut map = Map::new();
        for (name, value) in [
            ("AutomationExecutionId", json!(self.id)),
            ("DocumentName", json!(self.document)),
            ("DocumentVersion", json!(self.version.to_string())),
            ("AutomationExecutionStatus", json!(self.status.as_str())),
            ("ExecutionStartTime", json!(epoch(self.started))),
            ("ExecutedBy", json!(self.executed_by)),
            ("Mode", json!("Auto")),
            ("Outputs", json!(self.outputs)),
            ("Targets", json!([])),
            ("ResolvedTargets", json!({"ParameterValues": [], "Truncated": false})),
        ] {
            map.insert(name.to_owned(), value);
        }
        for (name, value) in [
            ("ExecutionEndTime", self.ended.map(|at| json!(epoch(at)))),
            ("FailureMessage", self.failure_message.as_ref().map(|m| json!(m))),
            ("ParentAutomationExecutionId", self.parent.as_ref().map(|p| json!(p))),
            ("CurrentStepName", self.current().map(|step| json!(step.name))),
            ("CurrentAction", self.current().map(|step| json!(step.action))),
        ] {
            if let Some(value) = value {
                map.insert(name.to_owned(), value);
            }
        }
        Value::Object(map)
    }

    /// Every step: those that have begun, in order, then those that have not.
    pub(crate) fn step_list(&self, document: &[Step]) -> Vec<Value> {
        let begun = self.steps.iter().map(StepExecution::to_json);
        let open =
            document.iter().filter(|step| !self.steps.iter().any(|begun| begun.name == step.name)).map(not_begun);
        begun.chain(open).collect()
    }

    /// The `AutomationExecution` of `GetAutomationExecution`.
    pub(crate) fn full(&self, document: &[Step]) -> Value {
        let mut all = self.summary();
        all["Parameters"] = json!(self.parameters);
        all["StepExecutions"] = json!(self.step_list(document));
        all["StepExecutionsTruncated"] = json!(false);
        all
    }

    /// The ARNs that its events name.
    pub(crate) fn event_resources(&self) -> Vec<String> {
        let place = self.place();
        vec![
            arn(&place, &format!("automation-execution/{}", self.id)),
            arn(&place, &format!("automation-definition/{}:{}", self.document, self.version)),
        ]
    }

    /// Detail of the event about a change of status: of the execution, or of one of its steps.
    pub(crate) fn event_detail(&self, step: Option<&StepExecution>) -> Value {
        let (status, started, ended) =
            step.map_or((self.status, self.started, self.ended), |step| (step.status, step.started, step.ended));
        let mut detail = json!({
            "ExecutionId": self.id,
            "Definition": self.document,
            "DefinitionVersion": f64::from(self.version),
            "Status": status.as_str(),
            "StartTime": event_time(started),
        });
        if let Some(ended) = ended {
            detail["EndTime"] = json!(event_time(ended));
            detail["Time"] = json!(ended.duration_since(started).as_millis_f64().max(0.0).round());
        }
        match step {
            Some(step) => {
                detail["StepName"] = json!(step.name);
                detail["Action"] = json!(step.action);
            }
            None => detail["ExecutedBy"] = json!(self.executed_by),
        }
        detail
    }
}

fn event_time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%b %-d, %Y %-I:%M:%S %p").to_string()
}

/// Whether a failed step ends the execution now.
pub(crate) fn aborts(step: &Step) -> bool {
    step.on_failure == OnFailure::Abort && (step.is_critical || !step.is_end)
}
