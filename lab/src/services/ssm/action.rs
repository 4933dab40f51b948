//! What each action does. Every AWS call is made with the credentials of the execution's role.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::condition;
use super::document::{Action, Step};
use super::execution::{Failure, ParentStep, Status};
use super::run::{Done, End, Interpreter, Signal, Stop};
use super::value::{self, Selector, Type};
use crate::service::AwsError;

/// How often a throttled call is tried again.
const THROTTLE_RETRIES: u32 = 4;
/// Iterations of a loop that names no bound, and AWS's limit.
const MAX_ITERATIONS: u64 = 100;
/// Inputs that are not parameters of the API call.
const NOT_PARAMETERS: &[&str] = &["Service", "Api", "PropertySelector", "DesiredValues"];

type Inputs = Map<String, Value>;

fn text<'a>(inputs: &'a Inputs, name: &str) -> &'a str {
    inputs.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_throttling(code: &str) -> bool {
    code.contains("Throttl") || matches!(code, "RequestLimitExceeded" | "TooManyRequestsException" | "SlowDown")
}

fn failure_of(error: &AwsError, operation: &str) -> Failure {
    let kind = match error.code.as_str() {
        code if is_throttling(code) => "Throttling",
        code if code.contains("AccessDenied") || code.contains("Unauthorized") => "Permission",
        _ => "Action",
    };
    Failure::action(
        kind,
        &format!("An error occurred ({}) when calling the {operation} operation: {}", error.code, error.message),
    )
}

/// An operation's API name; documents may also write it as the SDK for Python does.
fn operation(name: &str) -> String {
    if !name.contains(['_', '-']) {
        return name.to_owned();
    }
    name.split(['_', '-'])
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        })
        .collect()
}

impl Interpreter<'_> {
    /// One attempt at a step. Outputs are kept by the caller.
    pub(super) async fn act(&mut self, step: &Step, id: &str, inputs: &Inputs) -> Result<Done, Stop> {
        match step.action {
            Action::ExecuteAwsApi => Ok(Done { response: self.api(inputs).await?, ..Done::default() }),
            Action::AssertProperty => self.assert_property(inputs).await,
            Action::WaitForProperty => self.wait_for_property(inputs).await,
            Action::Branch => branch(inputs),
            Action::Loop => self.repeat(step, id, inputs).await,
            Action::Sleep => self.sleep(inputs).await,
            Action::UpdateVariable => {
                self.set_variable(text(inputs, "Name"), inputs.get("Value").cloned().unwrap_or_default())?;
                Ok(Done::default())
            }
            Action::InvokeLambda => self.invoke_lambda(inputs).await,
            Action::ExecuteAutomation => self.execute_automation(inputs).await,
            Action::Approve => self.approve(id, inputs).await,
            Action::Pause => {
                self.waiting(id, |signals| signals.iter().any(|signal| signal.kind == "Resume")).await;
                Ok(Done::default())
            }
        }
    }

    async fn call(&self, service: &str, operation: &str, parameters: Value) -> Result<Value, AwsError> {
        let mut tries = 0;
        loop {
            let answer =
                self.run.aws.call(&self.run.credentials, self.region(), service, operation, parameters.clone()).await;
            match answer {
                Err(error) if is_throttling(&error.code) && tries < THROTTLE_RETRIES => {
                    tries += 1;
                    tokio::time::sleep(self.options().poll_interval * tries).await;
                }
                other => return other,
            }
        }
    }

    async fn api(&self, inputs: &Inputs) -> Result<Value, Failure> {
        let operation = operation(text(inputs, "Api"));
        let parameters: Inputs = inputs
            .iter()
            .filter(|(name, _)| !NOT_PARAMETERS.contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        self.call(text(inputs, "Service"), &operation, Value::Object(parameters))
            .await
            .map_err(|error| failure_of(&error, &operation))
    }

    /// Reads the property; `Err` holds what it is instead of what is desired.
    async fn property(&self, inputs: &Inputs) -> Result<Result<Done, String>, Failure> {
        let selector = Selector::parse(text(inputs, "PropertySelector")).map_err(|e| Failure::inputs(&e))?;
        let desired = inputs.get("DesiredValues").map(value::texts).unwrap_or_default();
        let response = self.api(inputs).await?;
        let actual = selector.select(&response).map(|found| value::texts(&found)).unwrap_or_default();
        if !actual.is_empty() && actual.iter().all(|one| desired.contains(one)) {
            return Ok(Ok(Done { response, ..Done::default() }));
        }
        Ok(Err(format!("Property value [{}] is not in the desired values [{}]", actual.join(", "), desired.join(", "))))
    }

    async fn assert_property(&self, inputs: &Inputs) -> Result<Done, Stop> {
        self.property(inputs).await?.map_err(|reason| Failure::action("Verification", &reason).into())
    }

    async fn wait_for_property(&self, inputs: &Inputs) -> Result<Done, Stop> {
        loop {
            if let Ok(done) = self.property(inputs).await? {
                return Ok(done);
            }
            tokio::time::sleep(self.options().poll_interval).await;
        }
    }

    async fn repeat(&mut self, step: &Step, id: &str, inputs: &Inputs) -> Result<Done, Stop> {
        let limit = inputs
            .get("MaxIterations")
            .and_then(|max| Type::Integer.convert(max.clone())?.as_u64())
            .unwrap_or(MAX_ITERATIONS);
        let limit = limit.min(MAX_ITERATIONS);
        let items: Option<Vec<Value>> = match inputs.get("Iterators") {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(_) => return Err(Failure::inputs("Iterators is no list").into()),
        };
        let ty = Type::parse(inputs.get("IteratorDataType").and_then(Value::as_str).unwrap_or("String"));
        let ty = ty.ok_or_else(|| Failure::inputs("IteratorDataType is no type"))?;
        let rounds = items.as_ref().map_or(limit, |items| (items.len() as u64).min(limit));
        for round in 0..rounds {
            let mut value = None;
            if let Some(item) = items.as_ref().and_then(|items| items.get(usize::try_from(round).ok()?)) {
                let item = ty
                    .convert(item.clone())
                    .ok_or_else(|| Failure::inputs(&format!("an iterator is no {}", ty.as_str())))?;
                value = Some(value::text(&item));
                self.set_output(&step.name, "CurrentIteratorValue", item);
            }
            let iteration = u32::try_from(round).unwrap_or(u32::MAX).saturating_add(1);
            let parent = ParentStep { name: step.name.clone(), id: id.to_owned(), iteration, value };
            match self.sequence(&step.inner, Some(&parent)).await {
                End::Completed => {}
                end => return Err(Stop::Inside(end)),
            }
            if let Some(condition) = inputs.get("LoopCondition") {
                let holds =
                    condition::holds(&self.resolve(condition)?).map_err(|e| Failure::action("Verification", &e))?;
                if !holds {
                    break;
                }
            }
        }
        Ok(Done::default())
    }

    async fn sleep(&self, inputs: &Inputs) -> Result<Done, Stop> {
        let wrong = |what: &str| Failure::inputs(&format!("`{what}` is neither an ISO 8601 duration nor a timestamp"));
        let (duration, timestamp) = (text(inputs, "Duration"), text(inputs, "Timestamp"));
        let time: Duration = if timestamp.is_empty() {
            let span: jiff::Span = duration.parse().map_err(|_| wrong(duration))?;
            let span = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong(duration))?;
            Duration::try_from(span).map_err(|_| wrong(duration))?
        } else {
            let until: jiff::Timestamp = timestamp.parse().map_err(|_| wrong(timestamp))?;
            Duration::try_from(self.options().now().duration_until(until)).unwrap_or_default()
        };
        tokio::time::sleep(self.options().scaled(time)).await;
        Ok(Done::default())
    }

    async fn invoke_lambda(&self, inputs: &Inputs) -> Result<Done, Stop> {
        let mut parameters = inputs.clone();
        if let Some(payload) = parameters.shift_remove("InputPayload") {
            parameters.insert("Payload".to_owned(), Value::String(payload.to_string()));
        }
        parameters.entry("InvocationType").or_insert_with(|| json!("RequestResponse"));
        let answer = self
            .call("lambda", "Invoke", Value::Object(parameters))
            .await
            .map_err(|error| failure_of(&error, "Invoke"))?;
        let payload = answer.get("Payload").map(value::text).unwrap_or_default();
        if let Some(error) = answer.get("FunctionError").and_then(Value::as_str) {
            let reason =
                format!("The function {} returned an error ({error}): {payload}", text(inputs, "FunctionName"));
            return Err(Failure::action("Action", &reason).into());
        }
        let mut outputs = vec![("StatusCode", answer.get("StatusCode").cloned().unwrap_or_else(|| json!(200)))];
        if let Some(log) = answer.get("LogResult").filter(|log| log.is_string()) {
            outputs.push(("LogResult", log.clone()));
        }
        if !payload.is_empty() {
            outputs.push(("Payload", json!(payload)));
        }
        let mut response = answer;
        if response.is_object() {
            response["Payload"] = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
        }
        Ok(Done { response, outputs, jump: None })
    }

    async fn execute_automation(&mut self, inputs: &Inputs) -> Result<Done, Stop> {
        const START: &str = "StartAutomationExecution";
        const GET: &str = "GetAutomationExecution";
        let mut parameters = Map::new();
        for name in ["DocumentName", "DocumentVersion", "Tags"] {
            if let Some(given) = inputs.get(name) {
                parameters.insert(name.to_owned(), given.clone());
            }
        }
        if let Some(given) = inputs.get("RuntimeParameters").and_then(Value::as_object) {
            let lists: Map<String, Value> =
                given.iter().map(|(name, value)| (name.clone(), json!(value::texts(value)))).collect();
            parameters.insert("Parameters".to_owned(), Value::Object(lists));
        }
        let answer =
            self.call("ssm", START, Value::Object(parameters)).await.map_err(|error| failure_of(&error, START))?;
        let id = answer["AutomationExecutionId"].as_str().unwrap_or_default().to_owned();
        let nested =
            self.engine.find(&id).ok_or_else(|| Failure::poll(&format!("There is no automation execution {id}")))?;
        self.child = Some(id.clone());
        nested.ended().await;
        // AWS reads the result as the step's role, so that the role needs the permission here too.
        let answer = self
            .call("ssm", GET, json!({"AutomationExecutionId": id}))
            .await
            .map_err(|error| failure_of(&error, GET))?;
        let execution = &answer["AutomationExecution"];
        let status = execution["AutomationExecutionStatus"].as_str().unwrap_or_default();
        if status != Status::Success.as_str() {
            let why = execution["FailureMessage"].as_str().unwrap_or("no message");
            return Err(
                Failure::poll(&format!("The automation execution {id} ended with status {status}: {why}")).into()
            );
        }
        let values = execution["Outputs"].as_object().into_iter().flat_map(Map::values);
        let output: Vec<Value> = values.filter_map(Value::as_array).flatten().cloned().collect();
        let outputs = vec![("ExecutionId", json!(id)), ("Status", json!(status)), ("Output", Value::Array(output))];
        Ok(Done { response: answer, outputs, jump: None })
    }

    /// Show that the step waits for a person, until the signals to it satisfy.
    async fn waiting(&self, id: &str, satisfied: impl Fn(&[&Signal]) -> bool) -> Vec<Signal> {
        let own = |all: &[Signal]| all.iter().filter(|signal| signal.step_id == id).cloned().collect::<Vec<_>>();
        let mut signals = self.run.signals.subscribe();
        self.run.waits(id, Status::Waiting).await;
        // The sender outlives this call, so the channel cannot close.
        let _ = signals
            .wait_for(|all| satisfied(&all.iter().filter(|signal| signal.step_id == id).collect::<Vec<_>>()))
            .await;
        let answered = own(&self.run.signals.borrow());
        self.run.waits(id, Status::InProgress).await;
        answered
    }

    async fn approve(&self, id: &str, inputs: &Inputs) -> Result<Done, Stop> {
        if let Some(topic) = inputs.get("NotificationArn") {
            let message =
                inputs.get("Message").cloned().unwrap_or_else(|| json!("An automation waits for your approval."));
            let parameters = json!({"TopicArn": topic, "Message": message});
            self.call("sns", "Publish", parameters).await.map_err(|error| failure_of(&error, "Publish"))?;
        }
        let needed =
            inputs.get("MinRequiredApprovals").and_then(|n| Type::Integer.convert(n.clone())?.as_u64()).unwrap_or(1);
        let enough = move |signals: &[&Signal]| {
            let by: BTreeSet<&str> = signals.iter().filter(|s| s.kind == "Approve").map(|s| s.by.as_str()).collect();
            signals.iter().any(|s| s.kind == "Reject") || by.len() as u64 >= needed
        };
        let answers = self.waiting(id, enough).await;
        if let Some(rejection) = answers.iter().find(|signal| signal.kind == "Reject") {
            return Err(Failure::action("Action", &format!("The step was rejected by {}", rejection.by)).into());
        }
        let decisions: Vec<Value> =
            answers.iter().map(|signal| json!({"Approver": signal.by, "Decision": signal.kind})).collect();
        let outputs = vec![("ApprovalStatus", json!("Approved")), ("ApproverDecisions", Value::Array(decisions))];
        Ok(Done { outputs, ..Done::default() })
    }
}

fn branch(inputs: &Inputs) -> Result<Done, Stop> {
    for choice in inputs.get("Choices").and_then(Value::as_array).into_iter().flatten() {
        if condition::holds(choice).map_err(|e| Failure::action("Verification", &e))? {
            return Ok(Done { jump: choice["NextStep"].as_str().map(str::to_owned), ..Done::default() });
        }
    }
    Ok(Done { jump: inputs.get("Default").and_then(Value::as_str).map(str::to_owned), ..Done::default() })
}
