//! The interpreter: one execution, step by step, as its role.
//!
//! It decides what comes next and keeps the record; what a step does is in [`super::action`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::document::{Action, Document, OnFailure, Step};
use super::engine::Engine;
use super::execution::{Execution, Failure, ParentStep, Status, StepExecution, aborts};
use super::parameters::Values;
use super::value::{self, Reference};
use super::{Options, Place, locked, partition};
use crate::service::{Aws, Credentials};

/// No document of ours needs more; one that does goes in circles.
const MAX_STEPS: usize = 10_000;
/// What AWS writes where a document's output did not come to be.
const NO_OUTPUT: &str = "No output available yet because the step is not successfully executed";

/// What an execution was told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// Nothing.
    Run,
    /// End after the current step.
    Complete,
    /// End now.
    Cancel,
}

/// A person's answer to a waiting step.
#[derive(Debug, Clone)]
pub(crate) struct Signal {
    /// The waiting step's execution id.
    pub(crate) step_id: String,
    /// `Approve`, `Reject` or `Resume`.
    pub(crate) kind: String,
    /// Who.
    pub(crate) by: String,
}

/// One execution: what it needs, and its record.
pub(crate) struct Run {
    pub(crate) document: Arc<Document>,
    pub(crate) values: Values,
    pub(crate) credentials: Credentials,
    pub(crate) aws: Arc<dyn Aws>,
    record: Mutex<Execution>,
    done: watch::Sender<bool>,
    control: watch::Sender<Control>,
    pub(crate) signals: watch::Sender<Vec<Signal>>,
}

impl Run {
    pub(crate) fn new(
        record: Execution,
        document: Arc<Document>,
        values: Values,
        credentials: Credentials,
        aws: Arc<dyn Aws>,
    ) -> Self {
        Self {
            document,
            values,
            credentials,
            aws,
            record: Mutex::new(record),
            done: watch::Sender::new(false),
            control: watch::Sender::new(Control::Run),
            signals: watch::Sender::new(Vec::new()),
        }
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Execution) -> T) -> T {
        look(&locked(&self.record))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Execution) -> T) -> T {
        change(&mut locked(&self.record))
    }

    fn write_step(&self, id: &str, change: impl FnOnce(&mut StepExecution)) {
        self.write(|record| record.steps.iter_mut().rev().find(|step| step.id == id).map(change));
    }

    /// Until the execution has ended and its last event is out.
    pub(crate) async fn ended(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }

    pub(crate) async fn control(&self, how: Control) {
        if how == Control::Cancel {
            self.write(|record| record.status = Status::Cancelling);
            self.emit(None).await;
        }
        self.control.send_replace(how);
    }

    /// Put the event about a change of status: of the execution, or of the step with that id.
    async fn emit(&self, step: Option<&str>) {
        let event = self.read(|record| {
            let step = step.map(|id| record.steps.iter().rev().find(|step| step.id == id));
            let detail = match step {
                None => record.event_detail(None),
                Some(found) => record.event_detail(Some(found?)),
            };
            Some((record.place(), record.event_resources(), detail))
        });
        let Some((place, resources, detail)) = event else { return };
        let of = if step.is_some() { "Step" } else { "Execution" };
        let detail_type = format!("EC2 Automation {of} Status-change Notification");
        self.aws.emit(&place.account, &place.region, "aws.ssm", &detail_type, resources, detail).await;
    }

    pub(crate) async fn end(&self, engine: &Engine, status: Status, message: Option<String>) {
        let now = engine.options.now();
        self.write(|record| {
            for step in record.steps.iter_mut().filter(|step| !step.status.is_final()) {
                (step.status, step.ended) = (Status::Cancelled, Some(now));
            }
            (record.status, record.ended, record.failure_message) = (status, Some(now), message);
        });
        self.emit(None).await;
        self.done.send_replace(true);
    }

    /// The step waits for a person, or no longer does.
    pub(crate) async fn waits(&self, step: &str, status: Status) {
        self.write_step(step, |step| step.status = status);
        self.write(|record| {
            if record.status != Status::Cancelling {
                record.status = status;
            }
        });
        self.emit(Some(step)).await;
        self.emit(None).await;
    }
}

/// How a step ended other than well.
pub(crate) enum Stop {
    /// It failed.
    Failed(Failure),
    /// The execution was cancelled.
    Cancelled,
    /// A step inside this loop ended the execution.
    Inside(End),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What an action gave.
#[derive(Default)]
pub(crate) struct Done {
    /// What selectors look at.
    pub(crate) response: Value,
    /// The action's own outputs.
    pub(crate) outputs: Vec<(&'static str, Value)>,
    /// Where to go on.
    pub(crate) jump: Option<String>,
}

/// How a sequence of steps ended.
pub(crate) enum End {
    Completed,
    Aborted(Status, String),
    Cancelled,
}

/// The state of an execution between steps.
pub(crate) struct Interpreter<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) run: &'a Run,
    place: Place,
    id: String,
    variables: BTreeMap<String, Value>,
    outputs: BTreeMap<(String, String), Value>,
    /// The first failure of a critical step that did not end the execution.
    failure: Option<(Status, String)>,
    /// A nested execution that must not outlive its step.
    pub(crate) child: Option<String>,
    cancelled: bool,
    steps_left: usize,
}

/// Run an execution to its end.
pub(crate) async fn interpret(engine: &Engine, run: &Run) {
    let mut interpreter = Interpreter::new(engine, run);
    run.write(|record| record.status = Status::InProgress);
    run.emit(None).await;
    let end = interpreter.sequence(&run.document.steps, None).await;
    let (status, message) = match end {
        End::Aborted(status, message) => (status, Some(message)),
        End::Cancelled => (Status::Cancelled, None),
        End::Completed if interpreter.cancelled => (Status::Cancelled, None),
        End::Completed => {
            interpreter.failure.take().map_or((Status::Success, None), |(status, message)| (status, Some(message)))
        }
    };
    let outputs = interpreter.document_outputs();
    run.write(|record| record.outputs = outputs);
    run.end(engine, status, message).await;
}

impl<'a> Interpreter<'a> {
    fn new(engine: &'a Engine, run: &'a Run) -> Self {
        let (place, id) = run.read(|record| (record.place(), record.id.clone()));
        let variables = run
            .document
            .variables
            .iter()
            .filter_map(|(name, variable)| Some((name.clone(), variable.default.clone()?)));
        Self {
            engine,
            run,
            place,
            id,
            variables: variables.collect(),
            outputs: BTreeMap::new(),
            failure: None,
            child: None,
            cancelled: false,
            steps_left: MAX_STEPS,
        }
    }

    pub(crate) fn options(&self) -> &'a Options {
        &self.engine.options
    }

    pub(crate) fn region(&self) -> &str {
        &self.place.region
    }

    pub(crate) fn resolve(&self, value: &Value) -> Result<Value, Failure> {
        value::resolve(value, &|reference| self.look_up(reference))
            .map_err(|reference| Failure::inputs(&format!("Failed to resolve input: {reference} has no value")))
    }

    fn look_up(&self, reference: &Reference) -> Option<Value> {
        match reference {
            Reference::Output { step, output } => self.outputs.get(&(step.clone(), output.clone())).cloned(),
            Reference::Variable(name) => self.variables.get(name).cloned(),
            Reference::Automation(_) => Some(Value::from(self.id.clone())),
            other => outside(other, &self.run.values, &self.place, self.options()),
        }
    }

    pub(crate) fn set_output(&mut self, step: &str, output: &str, value: Value) {
        self.outputs.insert((step.to_owned(), output.to_owned()), value);
    }

    /// `name` is `variable:Name`; the value takes the variable's type.
    pub(crate) fn set_variable(&mut self, name: &str, value: Value) -> Result<(), Failure> {
        let name = name.strip_prefix("variable:").unwrap_or(name);
        let declared = self.run.document.variables.get(name);
        let ty =
            declared.ok_or_else(|| Failure::action("Verification", &format!("variable {name} is not defined")))?.ty;
        let typed = ty.convert(value);
        let typed = typed.ok_or_else(|| {
            Failure::action("Verification", &format!("The value for variable {name} is no {}", ty.as_str()))
        })?;
        self.variables.insert(name.to_owned(), typed);
        Ok(())
    }

    fn document_outputs(&self) -> BTreeMap<String, Vec<String>> {
        let each = |(step, output): &(String, String)| {
            let value = self.outputs.get(&(step.clone(), output.clone()));
            (format!("{step}.{output}"), value.map_or_else(|| vec![NO_OUTPUT.to_owned()], value::texts))
        };
        self.run.document.outputs.iter().map(each).collect()
    }

    /// Steps in order, or as they jump. Boxed: `aws:loop` comes back here.
    pub(crate) fn sequence<'s>(
        &'s mut self,
        steps: &'s [Step],
        parent: Option<&'s ParentStep>,
    ) -> Pin<Box<dyn Future<Output = End> + Send + 's>> {
        Box::pin(async move {
            let mut at = 0;
            while let Some(step) = steps.get(at) {
                if self.steps_left == 0 {
                    return End::Aborted(
                        Status::Failed,
                        format!("The automation ran {MAX_STEPS} steps without coming to an end."),
                    );
                }
                self.steps_left -= 1;
                let target = match self.step(step, parent).await {
                    Ok(Some(jump)) => Some(jump),
                    Ok(None) if step.is_end => return End::Completed,
                    Ok(None) => step.next.clone(),
                    Err(Stop::Inside(end)) => return end,
                    Err(Stop::Cancelled) => match &step.on_cancel {
                        OnFailure::Step(target) => {
                            self.cancelled = true;
                            Some(target.clone())
                        }
                        _ => return End::Cancelled,
                    },
                    Err(Stop::Failed(failure)) => {
                        if aborts(step) {
                            return End::Aborted(failure.status, failure.message);
                        }
                        if step.is_critical {
                            self.failure.get_or_insert((failure.status, failure.message));
                        }
                        match &step.on_failure {
                            _ if step.is_end => return End::Completed,
                            OnFailure::Step(target) => Some(target.clone()),
                            _ => step.next.clone(),
                        }
                    }
                };
                if *self.run.control.borrow() == Control::Complete {
                    return End::Completed;
                }
                // A target was checked when the document was made.
                at = target.and_then(|name| Document::position(steps, &name)).unwrap_or(at + 1);
            }
            End::Completed
        })
    }

    async fn step(&mut self, step: &Step, parent: Option<&ParentStep>) -> Result<Option<String>, Stop> {
        let begun = StepExecution::begin(step, parent.cloned(), self.options().now());
        let id = begun.id.clone();
        self.run.write(|record| record.steps.push(begun));
        self.run.emit(Some(&id)).await;
        let result = self.attempts(step, &id).await;
        let now = self.options().now();
        if let Some(child) = self.child.take()
            && result.is_err()
        {
            // It may have ended by itself; then there is nothing to stop.
            let _ = self.engine.stop(&child, Control::Cancel).await;
        }
        self.run.write_step(&id, |record| {
            record.ended = Some(now);
            record.status = match &result {
                Ok(_) => Status::Success,
                Err(Stop::Failed(failure)) => {
                    record.failure_message = Some(failure.message.clone());
                    record.failure = Some((failure.stage, failure.kind));
                    failure.status
                }
                Err(Stop::Inside(End::Aborted(status, message))) => {
                    record.failure_message = Some(message.clone());
                    *status
                }
                Err(Stop::Cancelled | Stop::Inside(_)) => Status::Cancelled,
            };
        });
        self.run.emit(Some(&id)).await;
        result
    }

    async fn attempts(&mut self, step: &Step, id: &str) -> Result<Option<String>, Stop> {
        let inputs = self.inputs(step)?;
        let shown = inputs.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        self.run.write_step(id, |record| record.inputs = shown);
        let mut attempt = 1;
        loop {
            let result = self.attempt(step, id, &inputs).await;
            match result.and_then(|done| self.keep(step, id, done).map_err(Stop::Failed)) {
                Err(Stop::Failed(_)) if attempt < step.max_attempts => attempt += 1,
                other => return other,
            }
        }
    }

    /// Resolved inputs. A loop's condition speaks of what the loop has yet to do, so it stays as it is.
    fn inputs(&self, step: &Step) -> Result<Map<String, Value>, Failure> {
        let each = |(name, value): (&String, &Value)| {
            let later = step.action == Action::Loop && name == "LoopCondition";
            Ok((name.clone(), if later { value.clone() } else { self.resolve(value)? }))
        };
        step.inputs.iter().map(each).collect()
    }

    async fn attempt(&mut self, step: &Step, id: &str, inputs: &Map<String, Value>) -> Result<Done, Stop> {
        let (limit, watches_itself) = (self.limit(step), step.action == Action::Loop || self.cancelled);
        let mut control = self.run.control.subscribe();
        let cancel = async move {
            if watches_itself {
                std::future::pending::<()>().await;
            }
            let _ = control.wait_for(|told| *told == Control::Cancel).await;
        };
        tokio::select! {
            biased;
            () = cancel => Err(Stop::Cancelled),
            result = tokio::time::timeout(limit, self.act(step, id, inputs)) => result.unwrap_or_else(|_| {
                Err(Stop::Failed(Failure::timed_out(&format!("Step {} timed out", step.name))))
            }),
        }
    }

    /// A step's time. Where the step itself waits, the lab's clock applies, but never so fast that an answer has no time
    /// to come; where it calls, the wall's.
    fn limit(&self, step: &Step) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        const LEAST: Duration = Duration::from_millis(100);
        let (otherwise, waits) = match step.action {
            Action::WaitForProperty => (Duration::from_secs(3600), true),
            Action::Sleep => (7 * DAY, true),
            Action::InvokeLambda => (Duration::from_secs(300), false),
            _ => (7 * DAY, false),
        };
        let limit = step.timeout.unwrap_or(otherwise);
        if waits { self.options().scaled(limit).max(LEAST) } else { limit }
    }

    /// Keep an action's outputs and those that the step selects.
    fn keep(&mut self, step: &Step, id: &str, done: Done) -> Result<Option<String>, Failure> {
        let mut shown = BTreeMap::new();
        if step.action == Action::ExecuteAwsApi {
            shown.insert("OutputPayload".to_owned(), vec![done.response.to_string()]);
        }
        let mut kept: Vec<(String, Value)> =
            done.outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for output in &step.outputs {
            let Some(selected) = select(step.action, output, &done.response) else { continue };
            let typed = output.ty.convert(selected).ok_or_else(|| {
                Failure::outputs(&format!(
                    "Failed to resolve output: {}.{} is no {}",
                    step.name,
                    output.name,
                    output.ty.as_str()
                ))
            })?;
            kept.push((output.name.clone(), typed));
        }
        for (name, value) in kept {
            shown.insert(name.clone(), value::texts(&value));
            self.set_output(&step.name, &name, value);
        }
        self.run.write_step(id, |record| record.outputs = shown);
        Ok(done.jump)
    }
}

/// A selector of a Lambda step may start at the answer (`$.Payload.Key`) or at what the function returned (`$.Key`):
/// AWS's documentation shows the second, runbooks in the wild the first.
fn select(action: Action, output: &super::document::Output, response: &Value) -> Option<Value> {
    let root = match output.selector.head() {
        Some(head) if action == Action::InvokeLambda && response.get(head).is_none() => response.get("Payload")?,
        _ => response,
    };
    output.selector.select(root)
}

/// References that do not depend on what the execution did: parameters and AWS's own variables.
pub(crate) fn outside(reference: &Reference, values: &Values, place: &Place, options: &Options) -> Option<Value> {
    let now = || options.now().to_zoned(jiff::tz::TimeZone::UTC);
    match reference {
        Reference::Parameter(name) => values.get(name).cloned(),
        Reference::Global(name) => Some(Value::from(match name.as_str() {
            "ACCOUNT_ID" => place.account.clone(),
            "REGION" => place.region.clone(),
            "AWS_PARTITION" => partition(&place.region).to_owned(),
            "DATE" => now().strftime("%Y-%m-%d").to_string(),
            "DATE_TIME" => now().strftime("%Y-%m-%d_%H.%M.%S").to_string(),
            _ => return None,
        })),
        _ => None,
    }
}
