//! The state machine of stacksets/administrator/workflow.yaml over the world in memory: as much of Amazon States Language
//! as it uses. A task that waits hands control back; the test ends its runbook, answers, or lets its time end.

use jiff::Timestamp;
use redress_admin::completion::Completion;
use redress_admin::workflow::{Failure, Request, Workflow};
use serde_json::{Value, json};

use super::world::{World, identity};

/// The state machine's definition, as it is deployed.
pub(crate) fn definition() -> Value {
    let template = include_str!("../../../stacksets/administrator/workflow.yaml");
    let lines = template.lines().skip_while(|line| *line != "      Definition:").skip(1);
    let block: Vec<&str> = lines.take_while(|line| line.starts_with("        ")).collect();
    serde_saphyr::from_str(&block.join("\n")).unwrap()
}

/// An execution.
pub(crate) struct Execution {
    definition: Value,
    data: Value,
    at: String,
    tokens: u32,
    waits: bool,
    /// The states that it came through.
    pub(crate) trail: Vec<String>,
}

fn pick<'a>(data: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').skip(1).try_fold(data, |value, name| value.get(name))
}

fn holds(condition: &Value, data: &Value) -> bool {
    let all =
        |name: &str| condition[name].as_array().unwrap().iter().map(|inner| holds(inner, data)).collect::<Vec<_>>();
    if condition["And"].is_array() {
        return all("And").iter().all(|held| *held);
    }
    if condition["Or"].is_array() {
        return all("Or").iter().any(|held| *held);
    }
    if condition["Not"].is_object() {
        return !holds(&condition["Not"], data);
    }
    let path = condition["Variable"].as_str().unwrap();
    let found = pick(data, path);
    if let Some(present) = condition["IsPresent"].as_bool() {
        return found.is_some_and(|found| !found.is_null()) == present;
    }
    let found = found.unwrap_or_else(|| panic!("States.Runtime: nothing at {path} of {data}"));
    match (condition["StringEquals"].as_str(), condition["BooleanEquals"].as_bool()) {
        (Some(text), _) => found.as_str().unwrap() == text,
        (_, Some(flag)) => found.as_bool().unwrap() == flag,
        _ => panic!("{condition}"),
    }
}

impl Execution {
    pub(crate) fn new(input: Value) -> Self {
        let definition = definition();
        let at = definition["StartAt"].as_str().unwrap().to_owned();
        Self { definition, data: input, at, tokens: 0, waits: false, trail: Vec::new() }
    }

    fn token(&self) -> String {
        format!("token-{}", self.tokens)
    }

    fn state(&self) -> Value {
        self.definition["States"][&self.at].clone()
    }

    fn go(&mut self, next: &Value) {
        self.at = next.as_str().unwrap().to_owned();
        self.waits = false;
    }

    fn keep(&mut self, path: &Value, value: Value) {
        if let Some(name) = path.as_str() {
            self.data[name.strip_prefix("$.").unwrap()] = value;
        }
    }

    /// The error's way; none is none.
    fn caught(&mut self, error: &str, cause: &str) {
        let state = self.state();
        let catcher = state["Catch"].as_array().unwrap().iter().find(|catcher| {
            catcher["ErrorEquals"].as_array().unwrap().iter().any(|name| name == "States.ALL" || name == error)
        });
        let catcher = catcher.unwrap_or_else(|| panic!("{error} of {} is not caught", self.at)).clone();
        self.keep(&catcher["ResultPath"], json!({ "Error": error, "Cause": cause }));
        self.go(&catcher["Next"]);
    }

    /// The waiting task's time is over.
    pub(crate) fn time_ends(&mut self) {
        assert!(self.waits, "{} does not wait", self.at);
        self.caught("States.Timeout", "");
    }

    /// As far as it comes: to a task that waits, or to its end. Whether it is that.
    pub(crate) async fn run(&mut self, world: &World, now: Timestamp) -> Option<String> {
        loop {
            if self.waits {
                let answer = world.answered(&self.token())?;
                let state = self.state();
                self.keep(&state["ResultPath"], answer);
                self.go(&state["Next"]);
            }
            if self.trail.last() != Some(&self.at) {
                self.trail.push(self.at.clone());
            }
            let state = self.state();
            match state["Type"].as_str().unwrap() {
                "Choice" => {
                    let choices = state["Choices"].as_array().unwrap();
                    let next = choices.iter().find(|choice| holds(choice, &self.data));
                    self.go(next.map_or(&state["Default"], |choice| &choice["Next"]));
                }
                "Task" => self.task(world, &state, now).await,
                end => return Some(end.to_owned()),
            }
        }
    }

    async fn task(&mut self, world: &World, state: &Value, now: Timestamp) {
        let mut left: Vec<i64> =
            state["Retry"].as_array().unwrap().iter().map(|retry| retry["MaxAttempts"].as_i64().unwrap()).collect();
        loop {
            self.tokens += 1;
            let mut payload = json!({});
            for (name, value) in state["Parameters"]["Payload"].as_object().unwrap() {
                match (name.as_str(), value.as_str().unwrap()) {
                    ("Token.$", "$$.Task.Token") => payload["Token"] = self.token().into(),
                    ("Given.$", "$") => payload["Given"] = self.data.clone(),
                    (name, text) => payload[name] = text.into(),
                }
            }
            let request: Request = serde_json::from_value(payload).unwrap();
            match Workflow::new(world, identity()).step(&request, now).await {
                Ok(_) if state["Resource"] == "${InvokeAndWait}" => {
                    self.waits = true;
                    return;
                }
                Ok(answer) => {
                    let selected = match state["ResultSelector"].as_object() {
                        Some(fields) => fields
                            .iter()
                            .map(|(name, path)| {
                                let name = name.strip_suffix(".$").unwrap().to_owned();
                                let found = pick(&json!({ "Payload": answer }), path.as_str().unwrap()).cloned();
                                (name, found.unwrap())
                            })
                            .collect(),
                        None => json!({ "Payload": answer }),
                    };
                    self.keep(&state["ResultPath"], selected);
                    return self.go(&state["Next"]);
                }
                Err(failure) => {
                    // Between two tries the completions queue is read.
                    for event in world.take_ends() {
                        Completion::new(world, identity()).message(&event.to_string(), now).await.unwrap();
                    }
                    let retries = state["Retry"].as_array().unwrap();
                    let retry = retries.iter().position(|retry| {
                        let names = retry["ErrorEquals"].as_array().unwrap();
                        names.iter().any(|name| name == failure.name() || name == "States.TaskFailed")
                    });
                    if let Some(retry) = retry.filter(|retry| left[*retry] > 0) {
                        left[retry] -= 1;
                        continue;
                    }
                    return self.caught(failure.name(), &cause(&failure));
                }
            }
        }
    }
}

fn cause(failure: &Failure) -> String {
    json!({ "errorType": failure.name(), "errorMessage": failure.to_string() }).to_string()
}

/// What a definition must be, whatever it does.
#[test]
fn every_state_is_reached_ends_in_time_and_has_a_way_out_of_every_error() {
    let definition = definition();
    let states = definition["States"].as_object().unwrap();
    let mut targets = vec![definition["StartAt"].as_str().unwrap()];
    for (name, state) in states {
        let choices = state["Choices"].as_array().into_iter().flatten();
        let catches = state["Catch"].as_array().into_iter().flatten();
        let next = choices.chain(catches).chain([state]).filter_map(|step| step["Next"].as_str());
        targets.extend(next.chain(state["Default"].as_str()));
        if state["Type"] == "Task" {
            let timed = state["TimeoutSeconds"].is_u64() || state["TimeoutSecondsPath"].is_string();
            assert!(timed, "{name} may wait for ever");
            let last = state["Catch"].as_array().unwrap().last().unwrap();
            assert_eq!(last["ErrorEquals"], json!(["States.ALL"]), "{name} lets an error through");
            assert!(state["Retry"].as_array().is_some_and(|retries| !retries.is_empty()), "{name} gives up at once");
        }
        if state["Type"] == "Choice" {
            assert!(state["Default"].is_string(), "{name} may find no way");
        }
    }
    for target in &targets {
        assert!(states.contains_key(*target), "there is no state {target}");
    }
    for name in states.keys() {
        assert!(targets.contains(&name.as_str()), "{name} is never reached");
    }
}

#[test]
fn only_an_answer_that_is_approved_leads_to_a_change() {
    let definition = definition();
    let states = definition["States"].as_object().unwrap();
    let mut ways = Vec::new();
    for (name, state) in states {
        let choices = state["Choices"].as_array().into_iter().flatten();
        let catches = state["Catch"].as_array().into_iter().flatten();
        let acts = |next: &Value| ["Safety", "Snapshot", "Apply"].iter().any(|name| next == name);
        ways.extend(choices.chain(catches).filter(|way| acts(&way["Next"])).map(|way| (name.clone(), way.clone())));
        let plain = acts(&state["Next"]) || acts(&state["Default"]);
        assert!(!plain || name == "Question" || name == "Safety", "{name} leads to a change whatever was answered");
    }
    let way = |name: &str, at: &str, is: Value, next: &str| {
        let operator = if is.is_boolean() { "BooleanEquals" } else { "StringEquals" };
        (name.to_owned(), json!({ "Variable": at, operator: is, "Next": next }))
    };
    ways.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        ways,
        [
            way("Answered", "$.Answer.Status", "Approved".into(), "Safety"),
            // And this one only from there, and on to the change only when the copies are complete.
            way("Copied", "$.Copies.Outcome", "Snapshotted".into(), "Apply"),
            way("Safety", "$.Snapshot", true.into(), "Snapshot"),
        ]
    );
    // Where nobody has to be asked, the function sees to it that nobody had to be.
    assert_eq!(states["Question"]["Choices"][0]["Variable"], "$.Approval.Seconds");
}
