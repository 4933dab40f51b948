//! Whether SSM Automation would accept a document and could run it to an end: a second opinion on the compiler,
//! written from AWS's documentation and not from the compiler's code.
//!
//! Stricter than SSM in three things: no scripts, no way round in a circle, and a step may only use what an
//! earlier step has surely answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

/// No document may be larger, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintError {
    /// The document.
    pub document: String,
    /// The step, when it is one's fault.
    pub step: Option<String>,
    /// The field, with its parents.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for LintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document `{}`", self.document)?;
        if let Some(step) = &self.step {
            write!(f, ", step `{step}`")?;
        }
        write!(f, ", field `{}`: {}", self.field, self.problem)
    }
}

impl std::error::Error for LintError {}

/// Lint a document that has no name yet.
///
/// # Errors
/// Every fault that was found.
pub fn lint(document: &Value) -> Result<(), Vec<LintError>> {
    lint_named("(unnamed)", document)
}

/// Lint a document.
///
/// # Errors
/// Every fault that was found, naming the document.
pub fn lint_named(name: &str, document: &Value) -> Result<(), Vec<LintError>> {
    let mut linter = Linter { document: name, faults: Vec::new() };
    linter.document(document);
    if linter.faults.is_empty() { Ok(()) } else { Err(linter.faults) }
}

/// An action: the inputs that it needs, the outputs that it has by itself, and whether steps may select more.
struct Action {
    name: &'static str,
    needs: &'static [&'static str],
    outputs: &'static [&'static str],
    selects: bool,
}

const ACTIONS: [Action; 8] = [
    Action { name: "aws:executeAwsApi", needs: &["Service", "Api"], outputs: &[], selects: true },
    Action {
        name: "aws:assertAwsResourceProperty",
        needs: &["Service", "Api", "PropertySelector", "DesiredValues"],
        outputs: &[],
        selects: false,
    },
    Action {
        name: "aws:waitForAwsResourceProperty",
        needs: &["Service", "Api", "PropertySelector", "DesiredValues"],
        outputs: &[],
        selects: false,
    },
    Action { name: "aws:branch", needs: &["Choices"], outputs: &[], selects: false },
    Action { name: "aws:updateVariable", needs: &["Name", "Value"], outputs: &[], selects: false },
    Action {
        name: "aws:invokeLambdaFunction",
        needs: &["FunctionName"],
        outputs: &["StatusCode", "FunctionError", "LogResult", "Payload"],
        selects: true,
    },
    Action {
        name: "aws:executeAutomation",
        needs: &["DocumentName"],
        outputs: &["ExecutionId", "Status", "Output"],
        selects: false,
    },
    Action { name: "aws:sleep", needs: &[], outputs: &[], selects: false },
];

const DOCUMENT_FIELDS: [&str; 7] =
    ["schemaVersion", "description", "assumeRole", "parameters", "variables", "mainSteps", "outputs"];
const STEP_FIELDS: [&str; 11] = [
    "name",
    "action",
    "description",
    "timeoutSeconds",
    "maxAttempts",
    "onFailure",
    "isCritical",
    "inputs",
    "outputs",
    "nextStep",
    "isEnd",
];
const TYPES: [&str; 6] = ["String", "Integer", "Boolean", "StringList", "StringMap", "MapList"];
const GLOBALS: [&str; 6] = [
    "global:ACCOUNT_ID",
    "global:REGION",
    "global:AWS_PARTITION",
    "global:DATE",
    "global:DATE_TIME",
    "automation:EXECUTION_ID",
];
const OPERATORS: [&str; 11] = [
    "StringEquals",
    "EqualsIgnoreCase",
    "StartsWith",
    "EndsWith",
    "Contains",
    "NumericEquals",
    "NumericGreater",
    "NumericLesser",
    "NumericGreaterOrEquals",
    "NumericLesserOrEquals",
    "BooleanEquals",
];

/// A way from one step to another, and whether the first has succeeded when it is taken.
struct Edge {
    to: usize,
    success: bool,
}

/// A step, with what the later checks need of it.
struct Node<'a> {
    name: &'a str,
    step: &'a Map<String, Value>,
    outputs: BTreeSet<&'a str>,
    edges: Vec<Edge>,
}

struct Linter<'a> {
    document: &'a str,
    faults: Vec<LintError>,
}

impl Linter<'_> {
    fn fault(&mut self, step: Option<&str>, field: impl Into<String>, problem: impl Into<String>) {
        self.faults.push(LintError {
            document: self.document.to_owned(),
            step: step.map(str::to_owned),
            field: field.into(),
            problem: problem.into(),
        });
    }

    fn document(&mut self, document: &Value) {
        let size = document.to_string().len();
        if size > MAX_BYTES {
            self.fault(None, "(document)", format!("has {size} bytes; SSM takes {MAX_BYTES}"));
        }
        let Some(fields) = document.as_object() else {
            return self.fault(None, "(document)", "is no object");
        };
        for field in fields.keys().filter(|field| !DOCUMENT_FIELDS.contains(&field.as_str())) {
            self.fault(None, field.clone(), "is no field of an Automation document");
        }
        if fields.get("schemaVersion").and_then(Value::as_str) != Some("0.3") {
            self.fault(None, "schemaVersion", "is not `0.3`, the one version of Automation documents");
        }
        let parameters = self.declarations(fields, "parameters");
        let variables = self.declarations(fields, "variables");
        let known = |name: &str| {
            parameters.contains(name)
                || GLOBALS.contains(&name)
                || name.strip_prefix("variable:").is_some_and(|variable| variables.contains(variable))
        };
        for name in references(fields.get("assumeRole").unwrap_or(&Value::Null)) {
            if !known(&name) {
                self.fault(None, "assumeRole", format!("refers to `{name}`, which is not declared"));
            }
        }

        let steps: Vec<&Map<String, Value>> = fields
            .get("mainSteps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .collect();
        if steps.is_empty() {
            return self.fault(None, "mainSteps", "holds no step");
        }
        let mut nodes: Vec<Node<'_>> = steps.iter().map(|step| self.step(step)).collect();
        let names: BTreeMap<&str, usize> = nodes.iter().enumerate().map(|(index, node)| (node.name, index)).collect();
        if names.len() < nodes.len() {
            let mut seen = BTreeSet::new();
            for node in nodes.iter().filter(|node| !seen.insert(node.name)) {
                self.fault(Some(node.name), "name", "is the name of another step too");
            }
            return;
        }
        for index in 0..nodes.len() {
            let edges = self.edges(&nodes, index, &names);
            nodes[index].edges = edges;
        }
        let Some(order) = self.order(&nodes) else { return };
        self.references(&nodes, &order, &names, &known, &variables);

        for output in fields.get("outputs").and_then(Value::as_array).into_iter().flatten() {
            let text = output.as_str().unwrap_or_default();
            let declared = text.split_once('.').is_some_and(|(step, output)| {
                names.get(step).is_some_and(|&index| nodes[index].outputs.contains(output))
            });
            if !declared {
                self.fault(None, "outputs", format!("`{text}` is no output of a step"));
            }
        }
    }

    fn declarations<'a>(&mut self, fields: &'a Map<String, Value>, field: &str) -> BTreeSet<&'a str> {
        let mut names = BTreeSet::new();
        for (name, declared) in fields.get(field).and_then(Value::as_object).into_iter().flatten() {
            let at = format!("{field}.{name}");
            names.insert(name.as_str());
            let kind = declared.get("type").and_then(Value::as_str).unwrap_or_default();
            if !TYPES.contains(&kind) {
                self.fault(None, format!("{at}.type"), format!("`{kind}` is none of {}", TYPES.join(", ")));
                continue;
            }
            if let Some(default) = declared.get("default") {
                let fits = match kind {
                    "String" => default.is_string(),
                    "Integer" => default.is_i64(),
                    "Boolean" => default.is_boolean(),
                    "StringMap" => default.is_object(),
                    _ => default.is_array(),
                };
                if !fits {
                    self.fault(None, format!("{at}.default"), format!("{default} is no {kind}"));
                }
                let allowed = declared.get("allowedValues").and_then(Value::as_array);
                if allowed.is_some_and(|allowed| !allowed.contains(default)) {
                    self.fault(None, format!("{at}.default"), format!("{default} is none of its allowedValues"));
                }
            }
            let bounded = ["allowedPattern", "allowedValues"].iter().any(|bound| declared.get(bound).is_some());
            if field == "parameters" && kind == "String" && !bounded {
                self.fault(None, at, "has neither allowedPattern nor allowedValues: it would let anything in");
            }
        }
        names
    }

    fn step<'a>(&mut self, step: &'a Map<String, Value>) -> Node<'a> {
        let text = |field: &str| step.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        let valid = (3..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !valid {
            self.fault(Some(name), "name", "is not 3 to 128 letters, digits and underscores");
        }
        for field in step.keys().filter(|field| !STEP_FIELDS.contains(&field.as_str())) {
            self.fault(Some(name), field.clone(), "is no field of a step");
        }
        let mut outputs = BTreeSet::new();
        let action = text("action");
        if let Some(known) = ACTIONS.iter().find(|known| known.name == action) {
            outputs.extend(known.outputs);
            let inputs = step.get("inputs").and_then(Value::as_object);
            for need in known.needs.iter().filter(|need| inputs.is_none_or(|inputs| !inputs.contains_key(**need))) {
                self.fault(Some(name), format!("inputs.{need}"), format!("is missing; {action} needs it"));
            }
            if !known.selects && step.contains_key("outputs") {
                self.fault(Some(name), "outputs", format!("{action} lets no outputs be selected"));
            }
        } else if action == "aws:executeScript" {
            self.fault(Some(name), "action", "aws:executeScript is not allowed: use API calls, or a native control");
        } else {
            self.fault(Some(name), "action", format!("`{action}` is none of the actions that Redress uses"));
        }
        for output in step.get("outputs").and_then(Value::as_array).into_iter().flatten() {
            let part = |field: &str| output.get(field).and_then(Value::as_str).unwrap_or_default();
            let (output, kind) = (part("Name"), output.get("Type").and_then(Value::as_str).unwrap_or("String"));
            let at = format!("outputs.{output}");
            if output.is_empty() || !output.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                self.fault(Some(name), at.clone(), "is no name of an output");
            }
            if !part("Selector").starts_with('$') {
                self.fault(Some(name), format!("{at}.Selector"), "is no JSONPath");
            }
            if !TYPES.contains(&kind) {
                self.fault(Some(name), format!("{at}.Type"), format!("`{kind}` is none of {}", TYPES.join(", ")));
            }
            if !outputs.insert(part("Name")) {
                self.fault(Some(name), at, "is declared twice");
            }
        }
        for (field, least, most) in [("timeoutSeconds", 1, 172_800), ("maxAttempts", 1, 10)] {
            if step.get(field).is_some_and(|value| value.as_i64().is_none_or(|n| n < least || n > most)) {
                self.fault(Some(name), field, format!("is no number from {least} to {most}"));
            }
        }
        if action == "aws:invokeLambdaFunction"
            && step.get("timeoutSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds > 300)
        {
            self.fault(Some(name), "timeoutSeconds", "is more than the 300 that SSM waits for a function");
        }
        Node { name, step, outputs, edges: Vec::new() }
    }

    /// Where a step may go.
    fn edges(&mut self, nodes: &[Node<'_>], index: usize, names: &BTreeMap<&str, usize>) -> Vec<Edge> {
        let Node { name, step, .. } = &nodes[index];
        let mut targets: Vec<(String, &str, bool)> = Vec::new();
        let ends = step.get("isEnd").and_then(Value::as_bool).unwrap_or(false);
        let next = step.get("nextStep").and_then(Value::as_str);
        if ends && next.is_some() {
            self.fault(Some(name), "isEnd", "does not go with nextStep");
        }
        targets.extend(next.map(|next| ("nextStep".to_owned(), next, true)));
        match step.get("onFailure").and_then(Value::as_str) {
            None | Some("Abort" | "Continue") => {}
            Some(other) => match other.strip_prefix("step:") {
                Some(target) => targets.push(("onFailure".to_owned(), target, false)),
                None => {
                    self.fault(Some(name), "onFailure", format!("`{other}` is none of Abort, Continue and step:<name>"))
                }
            },
        }
        let mut falls_through = !ends && next.is_none();
        if step.get("action").and_then(Value::as_str) == Some("aws:branch") {
            let inputs = step.get("inputs");
            let choices = inputs.and_then(|inputs| inputs.get("Choices")).and_then(Value::as_array);
            if choices.is_none_or(Vec::is_empty) {
                self.fault(Some(name), "inputs.Choices", "holds no choice");
            }
            for (number, choice) in choices.into_iter().flatten().enumerate() {
                let at = format!("inputs.Choices[{number}]");
                self.condition(name, &at, choice);
                match choice.get("NextStep").and_then(Value::as_str) {
                    Some(target) => targets.push((format!("{at}.NextStep"), target, true)),
                    None => self.fault(Some(name), format!("{at}.NextStep"), "is missing"),
                }
            }
            if let Some(default) = inputs.and_then(|inputs| inputs.get("Default")).and_then(Value::as_str) {
                targets.push(("inputs.Default".to_owned(), default, true));
                falls_through = false;
            }
        }
        let mut edges = Vec::new();
        for (field, target, success) in targets {
            match names.get(target) {
                Some(&to) => edges.push(Edge { to, success }),
                None => self.fault(Some(name), field, format!("goes to `{target}`, which is no step")),
            }
        }
        if falls_through {
            if index + 1 < nodes.len() {
                edges.push(Edge { to: index + 1, success: true });
            } else {
                self.fault(Some(name), "isEnd", "is missing: the last step must say that the run ends");
            }
        }
        edges
    }

    fn condition(&mut self, step: &str, at: &str, condition: &Value) {
        let Some(fields) = condition.as_object() else {
            return self.fault(Some(step), at, "is no condition");
        };
        let mut nested = 0;
        for operator in ["And", "Or"] {
            let Some(conditions) = fields.get(operator) else { continue };
            nested += 1;
            if conditions.as_array().is_none_or(Vec::is_empty) {
                self.fault(Some(step), format!("{at}.{operator}"), "holds no condition");
            }
            for (number, condition) in conditions.as_array().into_iter().flatten().enumerate() {
                self.condition(step, &format!("{at}.{operator}[{number}]"), condition);
            }
        }
        if let Some(condition) = fields.get("Not") {
            nested += 1;
            self.condition(step, &format!("{at}.Not"), condition);
        }
        let compares = fields.keys().filter(|field| OPERATORS.contains(&field.as_str())).count();
        let simple = usize::from(fields.contains_key("Variable"));
        for field in fields.keys() {
            let known = ["And", "Or", "Not", "Variable", "NextStep"].contains(&field.as_str())
                || OPERATORS.contains(&field.as_str());
            if !known {
                self.fault(Some(step), format!("{at}.{field}"), "is no operator of aws:branch");
            }
        }
        if nested + simple != 1 || compares != simple {
            self.fault(Some(step), at, "must be one Variable with one operator, or one of And, Or and Not");
        }
    }

    /// The steps, each after all that lead to it; `None` when some run in a circle. Faults those that nothing leads to.
    fn order(&mut self, nodes: &[Node<'_>]) -> Option<Vec<usize>> {
        fn visit(at: usize, nodes: &[Node<'_>], state: &mut [u8], order: &mut Vec<usize>) -> Option<usize> {
            state[at] = 1;
            for edge in &nodes[at].edges {
                match state[edge.to] {
                    0 => {
                        if let Some(circle) = visit(edge.to, nodes, state, order) {
                            return Some(circle);
                        }
                    }
                    1 => return Some(edge.to),
                    _ => {}
                }
            }
            state[at] = 2;
            order.push(at);
            None
        }
        let mut state = vec![0; nodes.len()];
        let mut order = Vec::new();
        if let Some(circle) = visit(0, nodes, &mut state, &mut order) {
            self.fault(Some(nodes[circle].name), "nextStep", "can be reached from itself: the run might never end");
            return None;
        }
        for (node, _) in nodes.iter().zip(&state).filter(|(_, state)| **state == 0) {
            self.fault(Some(node.name), "name", "is reached from no other step");
        }
        order.reverse();
        Some(order)
    }

    fn references(
        &mut self,
        nodes: &[Node<'_>],
        order: &[usize],
        names: &BTreeMap<&str, usize>,
        known: &dyn Fn(&str) -> bool,
        variables: &BTreeSet<&str>,
    ) {
        // What has surely succeeded when a step starts: on every way that leads to it.
        let mut done: Vec<Option<BTreeSet<usize>>> = vec![None; nodes.len()];
        done[0] = Some(BTreeSet::new());
        for &at in order {
            let before = done[at].clone().unwrap_or_default();
            let node = &nodes[at];
            let inputs = node.step.get("inputs").unwrap_or(&Value::Null);
            for name in references(inputs) {
                if known(&name) {
                    continue;
                }
                let problem = match name.split_once('.') {
                    _ if name.starts_with("variable:") => format!("refers to variable `{name}`, which is not declared"),
                    None => format!("refers to `{name}`, which is no parameter"),
                    Some((step, output)) => match names.get(step) {
                        None => format!("refers to `{name}`, but there is no step `{step}`"),
                        Some(&from) if !nodes[from].outputs.contains(output) => {
                            format!("refers to `{name}`, but step `{step}` has no output `{output}`")
                        }
                        Some(from) if !before.contains(from) => {
                            format!("refers to `{name}`, but step `{step}` may not have succeeded by then")
                        }
                        Some(_) => continue,
                    },
                };
                self.fault(Some(node.name), "inputs", problem);
            }
            if node.step.get("action").and_then(Value::as_str) == Some("aws:updateVariable") {
                let target = inputs.get("Name").and_then(Value::as_str).unwrap_or_default();
                if !target.strip_prefix("variable:").is_some_and(|variable| variables.contains(variable)) {
                    self.fault(Some(node.name), "inputs.Name", format!("`{target}` is no declared variable"));
                }
            }
            for edge in &node.edges {
                let mut after = before.clone();
                if edge.success {
                    after.insert(at);
                }
                done[edge.to] = Some(match done[edge.to].take() {
                    Some(other) => other.intersection(&after).copied().collect(),
                    None => after,
                });
            }
        }
    }
}

/// Every `{{ reference }}` in a value's texts.
fn references(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match value {
        Value::String(text) => {
            let mut rest = text.as_str();
            while let Some((_, after)) = rest.split_once("{{") {
                let (name, after) = after.split_once("}}").unwrap_or((after, ""));
                found.push(name.trim().to_owned());
                rest = after;
            }
        }
        Value::Array(items) => items.iter().for_each(|item| found.extend(references(item))),
        Value::Object(map) => map.values().for_each(|item| found.extend(references(item))),
        _ => {}
    }
    found
}
