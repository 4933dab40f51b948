//! Automation documents, schema 0.3: parsed and checked once, at creation. A document that gets through can be run.
//!
//! Pure. What AWS would refuse, or what this interpreter does not run, is refused here with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::condition;
use super::parameters::ParameterSpec;
use super::value::{self, Reference, Selector, Type};

/// An action that the interpreter runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    ExecuteAwsApi,
    AssertProperty,
    WaitForProperty,
    Branch,
    Loop,
    Sleep,
    UpdateVariable,
    InvokeLambda,
    ExecuteAutomation,
    Approve,
    Pause,
}

/// Name, required inputs, and the outputs that the action has without being asked.
struct Traits {
    action: Action,
    name: &'static str,
    required: &'static [&'static str],
    outputs: &'static [&'static str],
}

const ACTIONS: &[Traits] = &[
    Traits { action: Action::ExecuteAwsApi, name: "aws:executeAwsApi", required: &["Service", "Api"], outputs: &[] },
    Traits {
        action: Action::AssertProperty,
        name: "aws:assertAwsResourceProperty",
        required: &["Service", "Api", "PropertySelector", "DesiredValues"],
        outputs: &[],
    },
    Traits {
        action: Action::WaitForProperty,
        name: "aws:waitForAwsResourceProperty",
        required: &["Service", "Api", "PropertySelector", "DesiredValues"],
        outputs: &[],
    },
    Traits { action: Action::Branch, name: "aws:branch", required: &["Choices"], outputs: &[] },
    Traits { action: Action::Loop, name: "aws:loop", required: &["Steps"], outputs: &["CurrentIteratorValue"] },
    Traits { action: Action::Sleep, name: "aws:sleep", required: &[], outputs: &[] },
    Traits { action: Action::UpdateVariable, name: "aws:updateVariable", required: &["Name", "Value"], outputs: &[] },
    Traits {
        action: Action::InvokeLambda,
        name: "aws:invokeLambdaFunction",
        required: &["FunctionName"],
        outputs: &["StatusCode", "FunctionError", "LogResult", "Payload"],
    },
    Traits {
        action: Action::ExecuteAutomation,
        name: "aws:executeAutomation",
        required: &["DocumentName"],
        outputs: &["ExecutionId", "Status", "Output"],
    },
    Traits {
        action: Action::Approve,
        name: "aws:approve",
        required: &["Approvers"],
        outputs: &["ApprovalStatus", "ApproverDecisions"],
    },
    Traits { action: Action::Pause, name: "aws:pause", required: &[], outputs: &[] },
];

impl Action {
    fn traits(self) -> &'static Traits {
        // INVARIANT: every variant has its row; the test below walks them.
        ACTIONS.iter().find(|row| row.action == self).unwrap_or(&ACTIONS[0])
    }

    pub(crate) fn name(self) -> &'static str {
        self.traits().name
    }
}

/// What follows a failed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OnFailure {
    Abort,
    Continue,
    Step(String),
}

impl OnFailure {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Abort => "Abort".to_owned(),
            Self::Continue => "Continue".to_owned(),
            Self::Step(step) => format!("step:{step}"),
        }
    }
}

/// An output that a step declares.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) selector: Selector,
    pub(crate) ty: Type,
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) inputs: Map<String, Value>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) next: Option<String>,
    pub(crate) is_end: bool,
    pub(crate) is_critical: bool,
    pub(crate) on_failure: OnFailure,
    pub(crate) on_cancel: OnFailure,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_attempts: u32,
    /// The steps of `aws:loop`.
    pub(crate) inner: Vec<Step>,
}

/// A variable's declaration.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) ty: Type,
    pub(crate) default: Option<Value>,
}

/// A document that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) description: String,
    pub(crate) assume_role: Option<String>,
    pub(crate) parameters: Vec<(String, ParameterSpec)>,
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawDocument {
    schema_version: String,
    #[serde(default)]
    description: String,
    assume_role: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    variables: Map<String, Value>,
    main_steps: Vec<RawStep>,
    #[serde(default)]
    outputs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawVariable {
    r#type: String,
    #[serde(default, rename = "description")]
    _description: String,
    default: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawStep {
    name: String,
    action: String,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default)]
    inputs: Map<String, Value>,
    #[serde(default)]
    outputs: Vec<RawOutput>,
    next_step: Option<String>,
    #[serde(default)]
    is_end: bool,
    #[serde(default = "yes")]
    is_critical: bool,
    on_failure: Option<String>,
    on_cancel: Option<String>,
    timeout_seconds: Option<u64>,
    max_attempts: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawOutput {
    name: String,
    selector: String,
    r#type: Option<String>,
}

const fn yes() -> bool {
    true
}

/// The way a document's content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    /// Of calendars only.
    Text,
}

impl Format {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Yaml => "YAML",
            Self::Text => "TEXT",
        }
    }

    /// The format that a content is in.
    pub(crate) fn of(content: &str) -> Self {
        if content.trim_start().starts_with('{') { Self::Json } else { Self::Yaml }
    }
}

impl Document {
    /// Parse and check; the error is AWS's `InvalidDocumentContent` message.
    pub(crate) fn parse(content: &str, format: Format) -> Result<Self, String> {
        let value: Value = match format {
            Format::Json => serde_json::from_str(content).map_err(|e| format!("the content is not JSON: {e}"))?,
            Format::Yaml => serde_saphyr::from_str(content).map_err(|e| format!("the content is not YAML: {e}"))?,
            Format::Text => return Err("an Automation document is JSON or YAML".to_owned()),
        };
        let raw: RawDocument =
            serde_json::from_value(value).map_err(|e| format!("the content is not an Automation document: {e}"))?;
        if raw.schema_version != "0.3" {
            return Err(format!("schemaVersion is `{}`; Automation documents have '0.3'", raw.schema_version));
        }
        let parameters = raw
            .parameters
            .into_iter()
            .map(|(name, spec)| {
                ParameterSpec::parse(spec)
                    .map(|spec| (name.clone(), spec))
                    .map_err(|e| format!("parameter `{name}`: {e}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let variables = raw
            .variables
            .into_iter()
            .map(|(name, spec)| {
                variable(spec).map(|spec| (name.clone(), spec)).map_err(|e| format!("variable `{name}`: {e}"))
            })
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        let document = Self {
            description: raw.description,
            assume_role: raw.assume_role,
            parameters,
            variables,
            steps: steps(raw.main_steps)?,
            outputs: raw.outputs.iter().map(|output| document_output(output)).collect::<Result<_, _>>()?,
        };
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        let mut known = BTreeMap::new();
        declare(&self.steps, &mut known)?;
        check_targets(&self.steps)?;
        if let Some(role) = &self.assume_role {
            self.check_references("assumeRole", &Value::String(role.clone()), &known)?;
        }
        self.check_steps(&self.steps, &known)?;
        for (step, output) in &self.outputs {
            known
                .get(step.as_str())
                .filter(|outputs| outputs.contains(output.as_str()))
                .ok_or_else(|| format!("outputs: `{step}.{output}` is no output of a step"))?;
        }
        Ok(())
    }

    fn check_steps(&self, steps: &[Step], known: &BTreeMap<&str, BTreeSet<&str>>) -> Result<(), String> {
        steps.iter().try_for_each(|step| {
            let of_step = |e: String| format!("step `{}`: {e}", step.name);
            self.check_references("inputs", &Value::Object(step.inputs.clone()), known).map_err(of_step)?;
            self.check_inputs(step).map_err(of_step)?;
            self.check_steps(&step.inner, known)
        })
    }

    fn check_references(
        &self,
        place: &str,
        value: &Value,
        known: &BTreeMap<&str, BTreeSet<&str>>,
    ) -> Result<(), String> {
        for reference in value::references(value) {
            let defined = match &reference {
                Reference::Parameter(name) => self.parameters.iter().any(|(known, _)| known == name),
                Reference::Variable(name) => self.variables.contains_key(name),
                Reference::Global(name) => {
                    matches!(name.as_str(), "ACCOUNT_ID" | "REGION" | "DATE" | "DATE_TIME" | "AWS_PARTITION")
                }
                Reference::Automation(name) => name == "EXECUTION_ID",
                Reference::Output { step, output } => {
                    known.get(step.as_str()).is_some_and(|outputs| outputs.contains(output.as_str()))
                }
            };
            if !defined {
                return Err(format!("{place}: `{{{{ {reference} }}}}` is not defined in the document"));
            }
        }
        Ok(())
    }

    fn check_inputs(&self, step: &Step) -> Result<(), String> {
        if let Some(missing) =
            step.action.traits().required.iter().find(|name| !step.inputs.contains_key(**name) && **name != "Steps")
        {
            return Err(format!("{} needs the input `{missing}`", step.action.name()));
        }
        match step.action {
            Action::AssertProperty | Action::WaitForProperty => {
                Selector::parse(step.inputs.get("PropertySelector").and_then(Value::as_str).unwrap_or_default())
                    .map(drop)
            }
            Action::UpdateVariable => {
                let name = step.inputs.get("Name").and_then(Value::as_str).unwrap_or_default();
                let known = name.strip_prefix("variable:").is_some_and(|name| self.variables.contains_key(name));
                known.then_some(()).ok_or_else(|| format!("`{name}` is no `variable:Name` of the document"))
            }
            Action::Sleep => {
                let given = ["Duration", "Timestamp"].iter().filter(|name| step.inputs.contains_key(**name)).count();
                (given == 1).then_some(()).ok_or_else(|| "aws:sleep needs either `Duration` or `Timestamp`".to_owned())
            }
            Action::Loop => {
                if let Some(condition) = step.inputs.get("LoopCondition") {
                    condition::check(condition)?;
                }
                let given =
                    ["Iterators", "LoopCondition"].iter().filter(|name| step.inputs.contains_key(**name)).count();
                (given == 1)
                    .then_some(())
                    .ok_or_else(|| "aws:loop needs either `Iterators` or `LoopCondition`".to_owned())
            }
            Action::ExecuteAutomation => {
                match ["TargetParameterName", "Targets", "TargetMaps", "TargetLocations"]
                    .iter()
                    .find(|name| step.inputs.contains_key(**name))
                {
                    Some(name) => Err(format!("the lab does not run rate-controlled automations (`{name}`)")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The step of that name among the main steps.
    pub(crate) fn position(steps: &[Step], name: &str) -> Option<usize> {
        steps.iter().position(|step| step.name == name)
    }
}

/// A document output: `Step.Output`.
fn document_output(text: &str) -> Result<(String, String), String> {
    text.split_once('.')
        .map(|(step, output)| (step.to_owned(), output.to_owned()))
        .ok_or_else(|| format!("outputs: `{text}` is not of the form `Step.Output`"))
}

fn variable(spec: Value) -> Result<Variable, String> {
    let raw: RawVariable = serde_json::from_value(spec).map_err(|e| e.to_string())?;
    let ty = Type::parse(&raw.r#type).ok_or_else(|| format!("`{}` is no type", raw.r#type))?;
    let default = raw
        .default
        .map(|given| ty.convert(given.clone()).ok_or_else(|| format!("the default {given} is no {}", ty.as_str())))
        .transpose()?;
    Ok(Variable { ty, default })
}

fn steps(raw: Vec<RawStep>) -> Result<Vec<Step>, String> {
    if raw.is_empty() {
        return Err("there are no steps".to_owned());
    }
    raw.into_iter().map(|raw| step(&raw.name.clone(), raw)).collect()
}

fn step(name: &str, mut raw: RawStep) -> Result<Step, String> {
    let wrong = |reason: String| format!("step `{name}`: {reason}");
    let named_well = (3..=128).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !named_well {
        return Err(wrong("a step's name has 3 to 128 letters, digits and underscores".to_owned()));
    }
    let action = ACTIONS
        .iter()
        .find(|row| row.name == raw.action)
        .map(|row| row.action)
        .ok_or_else(|| wrong(format!("action `{}` is not supported", raw.action)))?;
    let inner = match (action, raw.inputs.shift_remove("Steps")) {
        (Action::Loop, Some(inner)) => {
            steps(serde_json::from_value(inner).map_err(|e| wrong(e.to_string()))?).map_err(wrong)?
        }
        (Action::Loop, None) => return Err(wrong("aws:loop needs the input `Steps`".to_owned())),
        (_, Some(taken)) => {
            raw.inputs.insert("Steps".to_owned(), taken);
            Vec::new()
        }
        (_, None) => Vec::new(),
    };
    let outputs = raw.outputs.into_iter().map(output).collect::<Result<_, _>>().map_err(wrong)?;
    Ok(Step {
        name: name.to_owned(),
        action,
        inputs: raw.inputs,
        outputs,
        next: raw.next_step,
        is_end: raw.is_end,
        is_critical: raw.is_critical,
        on_failure: on_failure(raw.on_failure.as_deref()).map_err(wrong)?,
        on_cancel: on_failure(raw.on_cancel.as_deref()).map_err(wrong)?,
        timeout: raw.timeout_seconds.map(Duration::from_secs),
        max_attempts: raw.max_attempts.unwrap_or(1).max(1),
        inner,
    })
}

fn output(raw: RawOutput) -> Result<Output, String> {
    let named = raw.r#type.as_deref().unwrap_or("String");
    let ty = Type::parse(named).filter(|ty| ty.as_str() == named);
    Ok(Output {
        ty: ty.ok_or_else(|| format!("output `{}`: `{named}` is no type", raw.name))?,
        selector: Selector::parse(&raw.selector).map_err(|e| format!("output `{}`: {e}", raw.name))?,
        name: raw.name,
    })
}

fn on_failure(text: Option<&str>) -> Result<OnFailure, String> {
    match text {
        None => Ok(OnFailure::Abort),
        Some(text) if text.eq_ignore_ascii_case("Abort") => Ok(OnFailure::Abort),
        Some(text) if text.eq_ignore_ascii_case("Continue") => Ok(OnFailure::Continue),
        Some(text) => match text.strip_prefix("step:") {
            Some(step) => Ok(OnFailure::Step(step.trim().to_owned())),
            None => Err(format!("`{text}` is none of Abort, Continue and step:Name")),
        },
    }
}

/// Every step's name, with its outputs; names are unique in the whole document.
fn declare<'a>(steps: &'a [Step], known: &mut BTreeMap<&'a str, BTreeSet<&'a str>>) -> Result<(), String> {
    for step in steps {
        let own = step.outputs.iter().map(|output| output.name.as_str());
        let outputs = step.action.traits().outputs.iter().copied().chain(own).collect();
        if known.insert(&step.name, outputs).is_some() {
            return Err(format!("two steps are named `{}`", step.name));
        }
        declare(&step.inner, known)?;
    }
    Ok(())
}

/// Jumps stay among the steps of the same level.
fn check_targets(steps: &[Step]) -> Result<(), String> {
    for step in steps {
        let jump = |on: &OnFailure| match on {
            OnFailure::Step(target) => Some(target.clone()),
            _ => None,
        };
        let mut targets: Vec<String> = step.next.clone().into_iter().collect();
        targets.extend(jump(&step.on_failure));
        targets.extend(jump(&step.on_cancel));
        if step.action == Action::Branch {
            targets.extend(branch_targets(step).map_err(|e| format!("step `{}`: {e}", step.name))?);
        }
        if let Some(target) = targets.iter().find(|target| Document::position(steps, target).is_none()) {
            return Err(format!("step `{}` leads to `{target}`, which is no step", step.name));
        }
        check_targets(&step.inner)?;
    }
    Ok(())
}

fn branch_targets(step: &Step) -> Result<Vec<String>, String> {
    let choices = step.inputs.get("Choices").and_then(Value::as_array).filter(|choices| !choices.is_empty());
    let choices = choices.ok_or("aws:branch needs a list of `Choices`")?;
    let mut targets = Vec::new();
    for choice in choices {
        condition::check(choice)?;
        targets.push(choice.get("NextStep").and_then(Value::as_str).ok_or("a choice needs `NextStep`")?.to_owned());
    }
    targets.extend(step.inputs.get("Default").and_then(Value::as_str).map(str::to_owned));
    Ok(targets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with_step(step: &str) -> String {
        format!(
            "schemaVersion: '0.3'\nassumeRole: '{{{{ Role }}}}'\nparameters:\n  Role: {{ type: AWS::IAM::Role::Arn }}\nvariables:\n  Seen: {{ type: Boolean, default: false }}\nmainSteps:\n{step}"
        )
    }

    fn refused(content: &str, reason: &str) {
        let error = Document::parse(content, Format::Yaml).unwrap_err();
        assert!(error.contains(reason), "`{error}` should say `{reason}`");
    }

    #[test]
    fn every_action_has_its_row() {
        for row in ACTIONS {
            assert_eq!(row.action.name(), row.name);
        }
        assert_eq!(ACTIONS.len(), 11);
    }

    #[test]
    fn an_unsupported_action_is_refused_at_creation() {
        refused(
            &with_step("- { name: Run, action: 'aws:executeScript', inputs: {} }"),
            "action `aws:executeScript` is not supported",
        );
    }

    #[test]
    fn a_document_that_could_not_run_is_refused_with_its_reason() {
        let api = "action: 'aws:executeAwsApi', inputs: { Service: s3, Api: ListBuckets }";
        for (step, reason) in [
            ("  []".to_owned(), "no steps"),
            (format!("- {{ name: One, {api}, nextStep: Gone }}"), "leads to `Gone`"),
            (format!("- {{ name: One, {api}, onFailure: 'step:Gone' }}"), "leads to `Gone`"),
            (format!("- {{ name: One, {api}, onFailure: Retry }}"), "none of Abort, Continue"),
            (format!("- {{ name: One, {api} }}\n- {{ name: One, {api} }}"), "two steps are named `One`"),
            (format!("- {{ name: One, {api}, nextstep: x }}"), "nextstep"),
            (format!("- {{ name: 'Bad name', {api} }}"), "letters, digits and underscores"),
            ("- { name: One, action: 'aws:executeAwsApi', inputs: { Service: s3 } }".to_owned(), "needs the input `Api`"),
            ("- { name: One, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: X, Bucket: '{{ Bucket }}' } }".to_owned(), "`{{ Bucket }}` is not defined"),
            ("- { name: One, action: 'aws:executeAwsApi', inputs: { Service: s3, Api: X, Bucket: '{{ Two.Out }}' } }".to_owned(), "`{{ Two.Out }}` is not defined"),
            ("- { name: One, action: 'aws:updateVariable', inputs: { Name: 'variable:Gone', Value: 1 } }".to_owned(), "`variable:Gone`"),
            ("- { name: One, action: 'aws:branch', inputs: { Choices: [{ NextStep: One, Variable: a, Like: b }] } }".to_owned(), "one operator"),
            ("- { name: One, action: 'aws:branch', inputs: { Choices: [{ NextStep: Two, Variable: a, StringEquals: b }] } }".to_owned(), "leads to `Two`"),
            ("- { name: One, action: 'aws:loop', inputs: { Steps: [], MaxIterations: 2 } }".to_owned(), "no steps"),
            ("- { name: One, action: 'aws:sleep', inputs: {} }".to_owned(), "either `Duration` or `Timestamp`"),
            (format!("- {{ name: One, {api}, outputs: [{{ Name: A, Selector: 'A.B' }}] }}"), "not a selector"),
            (format!("- {{ name: One, {api}, outputs: [{{ Name: A, Selector: '$.A', Type: Map }}] }}"), "`Map` is no type"),
            (format!("- {{ name: One, {api} }}\noutputs: [One.Gone]"), "`One.Gone` is no output"),
        ] {
            refused(&with_step(&step), reason);
        }
        refused("schemaVersion: '2.2'\nmainSteps: [{ name: One, action: 'aws:pause' }]", "schemaVersion");
        refused(
            "schemaVersion: '0.3'\nvariables: { V: { type: Integer, default: x } }\nmainSteps: [{ name: One, action: 'aws:pause' }]",
            "variable `V`",
        );
    }

    #[test]
    fn json_and_yaml_give_the_same_document() {
        let yaml = with_step("- { name: Pause, action: 'aws:pause', isEnd: true }");
        let value: Value = serde_saphyr::from_str(&yaml).unwrap();
        let json = value.to_string();
        assert_eq!(Format::of(&json), Format::Json);
        assert_eq!(Format::of(&yaml), Format::Yaml);
        let (a, b) = (Document::parse(&yaml, Format::Yaml).unwrap(), Document::parse(&json, Format::Json).unwrap());
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }
}
