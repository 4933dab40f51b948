//! The parts of an SSM Automation document (schema 0.3), as values. What a step may hold is here; which steps
//! there are is said in [`crate::compile`]. `aws:executeScript` has no constructor, on purpose.

use serde_json::{Map, Value, json};

/// The schema version of every document.
pub const SCHEMA_VERSION: &str = "0.3";

/// A reference that SSM fills when the step runs: `{{ name }}`.
#[must_use]
pub fn reference(name: &str) -> String {
    format!("{{{{ {name} }}}}")
}

/// One step, in the order in which its fields are written.
#[derive(Debug, Clone)]
pub struct Step {
    name: String,
    action: &'static str,
    inputs: Value,
    outputs: Vec<Value>,
    timeout: Option<u32>,
    attempts: Option<u32>,
    on_failure: String,
    critical: bool,
    next: Option<String>,
}

impl Step {
    fn new(name: impl Into<String>, action: &'static str, inputs: Value) -> Self {
        Self {
            name: name.into(),
            action,
            inputs,
            outputs: Vec::new(),
            timeout: None,
            attempts: None,
            on_failure: "Abort".to_owned(),
            critical: true,
            next: None,
        }
    }

    /// Call an AWS API.
    #[must_use]
    pub fn api(name: impl Into<String>, service: &str, operation: &str, with: Map<String, Value>) -> Self {
        Self::new(name, "aws:executeAwsApi", api_inputs(service, operation, with)).timeout(60)
    }

    /// Poll an AWS API until a property has one of the wanted values.
    #[must_use]
    pub fn wait(
        name: &str,
        service: &str,
        operation: &str,
        with: Map<String, Value>,
        selector: &str,
        wanted: Vec<Value>,
    ) -> Self {
        Self::new(name, "aws:waitForAwsResourceProperty", property_inputs(service, operation, with, selector, wanted))
            .timeout(60)
    }

    /// Fail unless a property of an AWS API's answer has one of the wanted values.
    #[must_use]
    pub fn assert(
        name: &str,
        service: &str,
        operation: &str,
        with: Map<String, Value>,
        selector: &str,
        wanted: Vec<Value>,
    ) -> Self {
        Self::new(name, "aws:assertAwsResourceProperty", property_inputs(service, operation, with, selector, wanted))
            .timeout(60)
    }

    /// Invoke a Lambda function and wait for its answer.
    #[must_use]
    pub fn lambda(name: &str, function: &str, payload: Value) -> Self {
        Self::new(name, "aws:invokeLambdaFunction", json!({ "FunctionName": function, "InputPayload": payload }))
    }

    /// Run another document.
    #[must_use]
    pub fn automation(name: &str, document: &str, parameters: Value) -> Self {
        Self::new(name, "aws:executeAutomation", json!({ "DocumentName": document, "RuntimeParameters": parameters }))
    }

    /// Wait so many seconds.
    #[must_use]
    pub fn sleep(name: &str, seconds: u32) -> Self {
        Self::new(name, "aws:sleep", json!({ "Duration": format!("PT{seconds}S") }))
    }

    /// Set a variable.
    #[must_use]
    pub fn set(name: &str, variable: &str, value: Value) -> Self {
        Self::new(name, "aws:updateVariable", json!({ "Name": format!("variable:{variable}"), "Value": value }))
    }

    /// Go to the first choice that holds, else to `default`.
    #[must_use]
    pub fn branch(name: &str, choices: Vec<Value>, default: &str) -> Self {
        Self::new(name, "aws:branch", json!({ "Choices": choices, "Default": default }))
    }

    /// Go to the first choice that holds; when none does, the run ends here.
    #[must_use]
    pub fn branch_or_end(name: &str, choices: Vec<Value>) -> Self {
        Self::new(name, "aws:branch", json!({ "Choices": choices }))
    }

    /// Select an output: its name, where in the answer, and its type.
    #[must_use]
    pub fn output(mut self, name: &str, selector: &str, kind: &str) -> Self {
        self.outputs.push(json!({ "Name": name, "Selector": selector, "Type": kind }));
        self
    }

    /// How long it may take, in seconds.
    #[must_use]
    pub const fn timeout(mut self, seconds: u32) -> Self {
        self.timeout = Some(seconds);
        self
    }

    /// How often it is tried.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Where to go when it succeeds; without this it is the last one.
    #[must_use]
    pub fn then(mut self, next: &str) -> Self {
        self.next = Some(next.to_owned());
        self
    }

    /// Where to go when it fails; the run still counts as failed.
    #[must_use]
    pub fn on_failure(mut self, step: &str) -> Self {
        self.on_failure = format!("step:{step}");
        self
    }

    /// Where to go when it fails, as one of its proper answers.
    #[must_use]
    pub fn or(mut self, step: &str) -> Self {
        self.critical = false;
        self.on_failure(step)
    }

    /// The same step under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// As the document writes it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut step = Map::new();
        step.insert("name".to_owned(), json!(self.name));
        step.insert("action".to_owned(), json!(self.action));
        if let Some(seconds) = self.timeout {
            step.insert("timeoutSeconds".to_owned(), json!(seconds));
        }
        if let Some(attempts) = self.attempts {
            step.insert("maxAttempts".to_owned(), json!(attempts));
        }
        if self.action != "aws:branch" {
            step.insert("onFailure".to_owned(), json!(self.on_failure));
            step.insert("isCritical".to_owned(), json!(self.critical));
        }
        step.insert("inputs".to_owned(), self.inputs.clone());
        if !self.outputs.is_empty() {
            step.insert("outputs".to_owned(), json!(self.outputs));
        }
        match &self.next {
            Some(next) => step.insert("nextStep".to_owned(), json!(next)),
            None if self.inputs.get("Default").is_some() => None,
            None => step.insert("isEnd".to_owned(), json!(true)),
        };
        Value::Object(step)
    }
}

fn api_inputs(service: &str, operation: &str, with: Map<String, Value>) -> Value {
    let mut inputs = Map::new();
    inputs.insert("Service".to_owned(), json!(service));
    inputs.insert("Api".to_owned(), json!(operation));
    inputs.extend(with);
    Value::Object(inputs)
}

fn property_inputs(
    service: &str,
    operation: &str,
    with: Map<String, Value>,
    selector: &str,
    wanted: Vec<Value>,
) -> Value {
    let mut inputs = api_inputs(service, operation, with);
    inputs["PropertySelector"] = json!(selector);
    inputs["DesiredValues"] = json!(wanted);
    inputs
}

/// The conditions of `aws:branch`, without the step to go to.
pub mod when {
    use serde_json::{Value, json};

    use crate::control::Holds;

    /// What a control says of a read is true of `variable`.
    #[must_use]
    pub fn holds(variable: &str, holds: &Holds) -> Value {
        match holds {
            Holds::Equals(value) => equals(variable, value),
            Holds::AtLeast(least) => {
                json!({ "Variable": super::reference(variable), "NumericGreaterOrEquals": least })
            }
            Holds::OneOf(values) => any(values.iter().map(|value| equals(variable, value)).collect()),
        }
    }

    /// The value of `variable` equals `value`, compared by its type.
    #[must_use]
    pub fn equals(variable: &str, value: &Value) -> Value {
        let operator = match value {
            Value::Bool(_) => "BooleanEquals",
            Value::Number(_) => "NumericEquals",
            _ => "StringEquals",
        };
        json!({ "Variable": super::reference(variable), operator: value })
    }

    /// The text of `variable` starts with `text`.
    #[must_use]
    pub fn starts_with(variable: &str, text: &str) -> Value {
        json!({ "Variable": super::reference(variable), "StartsWith": text })
    }

    /// The text of `variable` contains `text`.
    #[must_use]
    pub fn contains(variable: &str, text: &str) -> Value {
        json!({ "Variable": super::reference(variable), "Contains": text })
    }

    /// All of them; a single one stands for itself.
    #[must_use]
    pub fn all(mut conditions: Vec<Value>) -> Value {
        if conditions.len() == 1 { conditions.remove(0) } else { json!({ "And": conditions }) }
    }

    /// Any of them.
    #[must_use]
    pub fn any(conditions: Vec<Value>) -> Value {
        json!({ "Or": conditions })
    }

    /// The choice that goes to `step` when `condition` holds.
    #[must_use]
    pub fn goes_to(mut condition: Value, step: &str) -> Value {
        condition["NextStep"] = json!(step);
        condition
    }
}
