//! What a control file may say, read strictly: an unknown field, a wrong type or a placeholder that nothing
//! fills is an error that names the file, the line, the field and the way out.
//!
//! Knows nothing of SSM or IAM: [`crate::compile`] does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redress_common::arn::Arn;
use redress_common::catalogue::{Risk, Scope, Workflow};
use redress_common::ids::ControlId;
use redress_common::names;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One control: what must hold, and how it is read, made so, and undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Its id, Security Hub's where it has one.
    pub id: ControlId,
    /// What must hold, in Security Hub's words.
    pub title: String,
    /// Who reports it.
    pub sources: Sources,
    /// Frameworks and the requirements in them.
    pub frameworks: BTreeMap<String, Vec<String>>,
    /// How much harm fixing may do.
    pub risk: Risk,
    /// Where it holds.
    pub scope: Scope,
    /// What Apply does, in a few words.
    pub action: String,
    /// What a person should know before turning it on.
    pub note: String,
    /// What an undo gives back and what it cannot; empty where it gives back everything.
    pub undo: String,
    /// One case: what was found, what is done, what an undo gives back.
    pub example: String,
    /// What it applies to.
    pub resource: Resource,
    /// What may be set, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Set when it takes long: it goes through the state machine.
    pub workflow: Option<Workflow>,
    /// It is a playbook: no runbook does it, the administrator account invokes its function directly.
    pub direct: bool,
    /// How it is done.
    pub body: Body,
}

/// Who reports a control.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Sources {
    /// Security Hub control ids.
    pub security_hub: Vec<String>,
    /// Config managed-rule identifiers, lower case with hyphens.
    pub config: Vec<String>,
    /// GuardDuty finding types; a trailing `*` matches any ending.
    pub guardduty: Vec<String>,
    /// Ids that older standards gave it; for the catalogue page.
    pub legacy: Vec<String>,
}

/// What a control applies to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// CloudFormation types.
    pub types: Vec<String>,
    /// Patterns that capture the resource's name from its ARN ([`Arn::capture`]).
    pub arns: Vec<String>,
}

impl Resource {
    /// Whether the control is about the account itself.
    #[must_use]
    pub fn is_account(&self) -> bool {
        self.types == ["AWS::::Account"]
    }
}

/// A value that the control file fixes, and within which bounds it may be changed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Parameter {
    /// What it is for.
    pub description: String,
    /// Its value: a string, a number, a boolean or a list of one of these.
    pub default: Value,
    /// Smallest value, for numbers; of a list, for each item.
    pub minimum: Option<i64>,
    /// Largest value, likewise.
    pub maximum: Option<i64>,
    /// The values that are allowed, for anything else.
    pub one_of: Option<Vec<Value>>,
}

/// How a control is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// By API calls that the SSM document makes.
    Api(Box<Api>),
    /// By a native function of the member's `redress-remediate`, or of its `redress-destroy`.
    Native(Native),
    /// By a person, in these steps: there is no document, and nothing is changed.
    Guidance(Vec<String>),
}

/// An API-shaped control.
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// How its state is read.
    pub inspect: Inspect,
    /// What must be read for the control to hold: read name → condition, all of them.
    pub compliant: BTreeMap<String, Holds>,
    /// The calls that make it hold, in order.
    pub apply: Vec<Call>,
    /// The calls that put the pre-image back.
    pub restore: Restore,
    /// The IAM actions whose resources differ from the control's own ARNs, or that its calls need beside their own.
    pub grants: BTreeMap<String, Vec<String>>,
}

/// What a read must be for a control to hold. Parameters are filled in already.
#[derive(Debug, Clone, PartialEq)]
pub enum Holds {
    /// This value.
    Equals(Value),
    /// This number or a larger one.
    AtLeast(i64),
    /// One of these values.
    OneOf(Vec<Value>),
}

impl Holds {
    /// The values that a wait for it looks for. A number that only has a lower bound is waited for as the bound: that is
    /// what a change sets.
    #[must_use]
    pub fn wanted(&self) -> Vec<Value> {
        match self {
            Self::Equals(value) => vec![value.clone()],
            Self::AtLeast(least) => vec![(*least).into()],
            Self::OneOf(values) => values.clone(),
        }
    }
}

/// A logic-shaped control.
#[derive(Debug, Clone, PartialEq)]
pub struct Native {
    /// The function's name.
    pub name: String,
    /// The IAM actions that it needs, each with its narrowest resource; without those for a parameter that is empty.
    pub calls: BTreeMap<String, Vec<String>>,
    /// Of these, those that are granted under a condition: condition key → the value that it must have.
    pub only: BTreeMap<String, BTreeMap<String, String>>,
    /// What it makes in mode `Snapshot`, one after the other, and how SSM waits for each.
    pub copies: Vec<Copied>,
}

/// How SSM waits until a copy is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Copied {
    /// The reading call; `$made` is the copy's id.
    pub call: Call,
    /// Where in its answer the state is.
    pub at: String,
    /// The state of a complete one.
    pub is: String,
    /// What the resource's ARN must contain for this one to be made; empty when it always is.
    pub when: String,
}

/// One AWS call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The service, by its SDK name.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// Its parameters; strings that start with `$` are placeholders.
    pub with: Map<String, Value>,
}

/// How a control's state is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspect {
    /// The reading call.
    pub call: Call,
    /// The error code that says that there is no such setting.
    pub absent: Option<String>,
    /// The error code that says that there is no such resource.
    pub missing: Option<String>,
    /// How long a change may take until it shows, in seconds; none where it shows within a minute.
    pub settles: Option<u32>,
    /// What is selected from the answer, by name.
    pub read: BTreeMap<String, Read>,
    /// What of it is the pre-image: `$Name` of one map, or a map of `$Name`s.
    pub state: Value,
}

/// One selected part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// JSONPath, from the answer's root.
    pub at: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
}

/// The data types of SSM Automation that a control may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A list of texts.
    StringList,
    /// An object.
    StringMap,
    /// A list of objects.
    MapList,
}

impl Kind {
    /// As SSM writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Integer => "Integer",
            Self::Boolean => "Boolean",
            Self::StringList => "StringList",
            Self::StringMap => "StringMap",
            Self::MapList => "MapList",
        }
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64(),
            Self::Boolean => value.is_boolean(),
            Self::StringList | Self::StringMap | Self::MapList => false,
        }
    }
}

/// How the pre-image is put back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Restore {
    /// When the setting was there; `$before` is its state.
    pub present: Vec<Call>,
    /// When it was not.
    pub absent: Vec<Call>,
}

/// Why a control file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The disk said no.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not the YAML that a control is.
    #[error("{file}:{line}:{column}: {message}; compare with another file in ssm-documents/controls/")]
    Yaml {
        /// The file's name.
        file: String,
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// Column, from 1; 0 when unknown.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// Well-formed, but it makes no sense.
    #[error("{file}:{line}: `{field}` {problem}; {remedy}")]
    Invalid {
        /// The file's name.
        file: String,
        /// Line, from 1; 0 when unknown.
        line: usize,
        /// The field, with its parents.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
}

/// Every control in `dir`, by file name.
///
/// # Errors
/// When the directory or a file cannot be read, a file is not a valid control, its name is not `<id>.yaml`, or two
/// controls claim the same Config rule.
pub fn load_controls(dir: &Path) -> Result<Vec<Control>, ControlError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ControlError::Read { path, source }
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();

    let mut controls: Vec<Control> = Vec::new();
    let mut reported: BTreeMap<String, String> = BTreeMap::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let control = parse(&file, &text)?;
        let source = Source { file: &file, text: &text };
        if file != format!("{}.yaml", control.id) {
            return Err(source.invalid(
                &["id"],
                "is not the file's name",
                format!("name the file `{}.yaml`", control.id),
            ));
        }
        for rule in &control.sources.config {
            if let Some(other) = reported.insert(rule.clone(), file.clone()) {
                return Err(source.invalid(
                    &["sources", "config"],
                    format!("claims Config rule `{rule}`, which {other} claims too"),
                    "leave it to one of them: a finding of the rule can start only one remediation",
                ));
            }
        }
        controls.push(control);
    }
    Ok(controls)
}

/// Every playbook in `dir`, by file name.
///
/// # Errors
/// As [`load_controls`], and when a file is none of a playbook: its id starts with `Contain.`, a native function of the
/// member's does it without copies or workflow, and one of [`names::CONTAIN`] takes its resource.
pub fn load_playbooks(dir: &Path) -> Result<Vec<Control>, ControlError> {
    let mut playbooks = load_controls(dir)?;
    for playbook in &mut playbooks {
        let file = format!("{}.yaml", playbook.id);
        let source = Source { file: &file, text: "" };
        let wrong = |field, problem: &str, remedy: &str| Err(source.invalid(&[field], problem, remedy));
        if playbook.id.family() != "Contain" {
            return wrong("id", "is not that of a playbook", "write `Contain.` and what is contained");
        }
        if playbook.workflow.is_some() || !matches!(&playbook.body, Body::Native(native) if native.copies.is_empty()) {
            return wrong("native", "is missing, or has copies or a workflow", "a playbook is one native function");
        }
        if !playbook.resource.types.iter().all(|kind| names::contain_family(kind).is_some()) {
            return wrong("resource", "is of a service without a function", "add it to `names::CONTAIN`");
        }
        playbook.direct = true;
    }
    Ok(playbooks)
}

/// Parse one control file; `file` is its name, for errors.
///
/// # Errors
/// When it is not a valid control.
pub fn parse(file: &str, text: &str) -> Result<Control, ControlError> {
    let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
        let location = error.location();
        ControlError::Yaml {
            file: file.to_owned(),
            line: location.map_or(0, |at| at.line()),
            column: location.map_or(0, |at| at.column()),
            message: error.without_snippet().to_string(),
        }
    })?;
    Source { file, text }.control(raw)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: ControlId,
    title: String,
    sources: Sources,
    #[serde(default)]
    frameworks: BTreeMap<String, Vec<String>>,
    risk: Risk,
    scope: Scope,
    action: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    undo: String,
    example: String,
    resource: Resource,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    workflow: Option<RawWorkflow>,
    native: Option<String>,
    guidance: Option<Vec<String>>,
    #[serde(default)]
    calls: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    only: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    given: BTreeMap<String, String>,
    #[serde(default)]
    copies: Vec<RawCopied>,
    inspect: Option<RawInspect>,
    #[serde(default)]
    compliant: BTreeMap<String, Value>,
    #[serde(default)]
    apply: Vec<RawCall>,
    #[serde(default)]
    restore: RawRestore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawWorkflow {
    snapshot: bool,
    roll_back: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCopied {
    call: String,
    #[serde(default)]
    with: Map<String, Value>,
    at: String,
    is: String,
    #[serde(default)]
    when: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCall {
    call: String,
    #[serde(default)]
    with: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInspect {
    call: String,
    #[serde(default)]
    with: Map<String, Value>,
    absent: Option<String>,
    missing: Option<String>,
    settles: Option<u32>,
    read: BTreeMap<String, Read>,
    state: Value,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawRestore {
    present: Vec<RawCall>,
    absent: Vec<RawCall>,
}

/// Which placeholders a value may hold.
#[derive(Clone, Copy)]
enum Allowed<'a> {
    /// `$name`, `$arn`, `$account`, `$region` and parameters.
    Call(&'a BTreeMap<String, Parameter>),
    /// These, and `$before` or `$before.<Read>`.
    Restore(&'a BTreeMap<String, Parameter>, &'a BTreeMap<String, Read>, bool),
    /// The names of reads.
    State(&'a BTreeMap<String, Read>),
    /// `$made`.
    Copied,
}

/// The placeholders that every call may hold.
pub(crate) const BUILT_IN: [&str; 4] = ["name", "arn", "account", "region"];

/// How long a runbook waits for a change to show, in seconds: its run is cut off after 15 minutes.
const SETTLES: std::ops::RangeInclusive<u32> = 61..=720;

/// The longest guidance, in characters: what a ledger record keeps of a message.
const GUIDANCE: usize = 1000;

/// The file that errors speak of.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn invalid(&self, path: &[&str], problem: impl Into<String>, remedy: impl Into<String>) -> ControlError {
        ControlError::Invalid {
            file: self.file.to_owned(),
            line: self.line(path, None),
            field: path.join("."),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The line of the last key of `path` that can be found, each looked for after its parent; with `text`, the first
    /// line from there on that holds it.
    fn line(&self, path: &[&str], text: Option<&str>) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let find = |from: usize, wanted: &dyn Fn(&str) -> bool| {
            lines.iter().skip(from).position(|line| wanted(line)).map(|offset| from + offset)
        };
        let mut found = None;
        for key in path {
            let is_key = |line: &str| {
                let line = line.trim_start().trim_start_matches("- ").trim_start_matches('"');
                line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches('"').starts_with(':'))
            };
            let Some(at) = find(found.unwrap_or(0), &is_key) else { break };
            found = Some(at);
        }
        let exact = text.and_then(|text| find(found.unwrap_or(0), &|line| line.contains(text)));
        exact.or(found).map_or(0, |at| at + 1)
    }

    fn control(&self, mut raw: Raw) -> Result<Control, ControlError> {
        for (field, text) in [("title", &raw.title), ("action", &raw.action), ("example", &raw.example)] {
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                return Err(self.invalid(&[field], "is empty or holds a control character", "write one line of text"));
            }
            self.no_braces(&[field], text)?;
        }
        if !raw.undo.is_empty() {
            self.no_braces(&["undo"], &raw.undo)?;
            let problem = if raw.risk != Risk::Destructive {
                Some("is said of a control that is not `destructive`")
            } else if raw.native.is_none() {
                Some("goes with `native` only")
            } else {
                raw.undo.chars().any(char::is_control).then_some("holds a control character")
            };
            if let Some(problem) = problem {
                return Err(self.invalid(
                    &["undo"],
                    problem,
                    "leave it out where everything can be put back; what cannot is `risk: destructive`, and one line says it",
                ));
            }
        }
        self.resource(&raw.resource)?;
        for (name, parameter) in &raw.parameters {
            self.parameter(name, parameter)?;
        }
        for rule in &raw.sources.config {
            if rule.is_empty() || !rule.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                return Err(self.invalid(
                    &["sources", "config"],
                    format!("holds `{rule}`, which is no Config rule identifier"),
                    "write it in lower case with hyphens, as `restricted-ssh`",
                ));
            }
        }
        let api = [
            ("inspect", raw.inspect.is_some()),
            ("compliant", !raw.compliant.is_empty()),
            ("apply", !raw.apply.is_empty()),
            ("restore", !raw.restore.present.is_empty() || !raw.restore.absent.is_empty()),
        ];
        let api = api.into_iter().find(|(_, given)| *given).map(|(field, _)| field);
        let body = match (raw.native, raw.guidance) {
            (Some(name), None) => {
                if let Some(field) = api {
                    return Err(self.invalid(
                        &[field],
                        "does not go with `native`",
                        "drop one of the two: the native function inspects, applies and restores by itself",
                    ));
                }
                let copies = self.copies(raw.copies)?;
                let given = std::mem::take(&mut raw.given);
                let calls = self.given(raw.calls, &given, &raw.parameters)?;
                let native = self.native(name, calls)?;
                let only = self.only(&native.calls, std::mem::take(&mut raw.only))?;
                Body::Native(Native { only, copies, ..native })
            }
            (native, Some(steps)) => {
                let other = native.map(|_| "native").or(api).or((!raw.calls.is_empty()).then_some("calls"));
                if let Some(field) = other {
                    return Err(self.invalid(
                        &[field],
                        "does not go with `guidance`",
                        "drop one of the two: a control that a person carries out makes no call",
                    ));
                }
                Body::Guidance(self.guidance(steps)?)
            }
            (None, None) => {
                let Some(inspect) = raw.inspect else {
                    return Err(self.invalid(
                        &["inspect"],
                        "is missing",
                        "say how the state is read, or name a `native` function",
                    ));
                };
                if !raw.copies.is_empty() {
                    return Err(self.invalid(
                        &["copies"],
                        "goes with `native` only",
                        "write a native function that makes the copies",
                    ));
                }
                let grants = self.grants(raw.calls)?;
                Body::Api(Box::new(self.api(
                    &raw.parameters,
                    inspect,
                    raw.compliant,
                    raw.apply,
                    raw.restore,
                    grants,
                )?))
            }
        };
        for (field, is_there) in [("only", !raw.only.is_empty()), ("given", !raw.given.is_empty())] {
            if is_there {
                return Err(self.invalid(
                    &[field],
                    "goes with `native` only",
                    "drop it: what a runbook calls by itself is limited by its resource",
                ));
            }
        }
        let workflow = raw.workflow.map(|raw| Workflow { snapshot: raw.snapshot, roll_back: raw.roll_back });
        let copies = matches!(&body, Body::Native(native) if !native.copies.is_empty());
        if workflow.is_some_and(|workflow| workflow.snapshot) != copies {
            return Err(self.invalid(
                &["workflow", "snapshot"],
                "and `copies` go together",
                "give both, for a native function that makes copies before it changes anything, or neither",
            ));
        }
        Ok(Control {
            workflow,
            direct: false,
            id: raw.id,
            title: raw.title,
            sources: raw.sources,
            frameworks: raw.frameworks,
            risk: raw.risk,
            scope: raw.scope,
            action: raw.action,
            note: raw.note,
            undo: raw.undo,
            example: raw.example,
            resource: raw.resource,
            parameters: raw.parameters,
            body,
        })
    }

    fn resource(&self, resource: &Resource) -> Result<(), ControlError> {
        if resource.types.is_empty() {
            return Err(self.invalid(
                &["resource", "types"],
                "is empty",
                "name at least one, such as `AWS::S3::Bucket`",
            ));
        }
        if resource.arns.is_empty() {
            return Err(self.invalid(&["resource", "arns"], "is empty", "write at least one, such as `arn:*:s3:::{}`"));
        }
        for pattern in &resource.arns {
            let filled =
                pattern.replacen("arn:*:", "arn:aws-us-gov:", 1).replace("{path}", "sample").replace("{}", "sample");
            let parts: Vec<&str> = filled.splitn(6, ':').collect();
            let sample = match parts.as_slice() {
                [arn, partition, service, region, account, name] => {
                    let region = if *region == "*" { "us-gov-west-1" } else { region };
                    let account = if *account == "*" { "000000000000" } else { account };
                    [*arn, partition, service, region, account, name].join(":")
                }
                _ => filled.clone(),
            };
            let captured = sample.parse::<Arn>().ok().and_then(|arn| arn.capture(pattern).map(str::to_owned));
            let safe = pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b"*:{}/_.-".contains(&b));
            if captured.as_deref() != Some("sample") || !safe {
                return Err(self.invalid(
                    &["resource", "arns"],
                    format!("holds `{pattern}`, which captures nothing from an ARN"),
                    "write six parts with one `{}` or `{path}` in the last, such as `arn:*:kms:*:*:key/{}`",
                ));
            }
        }
        Ok(())
    }

    fn parameter(&self, name: &str, parameter: &Parameter) -> Result<(), ControlError> {
        let path = ["parameters", name];
        if !is_pascal(name) {
            return Err(self.invalid(&path, "is no parameter name", "start it with a capital letter: `MinimumLength`"));
        }
        let items: Vec<&Value> = match &parameter.default {
            Value::Array(items) => items.iter().collect(),
            other => vec![other],
        };
        for item in items {
            if item.is_null() || item.is_object() || item.is_array() {
                return Err(self.invalid(
                    &path,
                    "has a default that is no string, number, boolean or list of these",
                    "split it into several parameters",
                ));
            }
            if let Some(text) = item.as_str() {
                self.no_braces(&path, text)?;
            }
            let below = parameter.minimum.is_some_and(|least| item.as_i64().is_none_or(|n| n < least));
            let above = parameter.maximum.is_some_and(|most| item.as_i64().is_none_or(|n| n > most));
            let unknown = parameter.one_of.as_ref().is_some_and(|known| !known.contains(item));
            if below || above || unknown {
                return Err(self.invalid(
                    &path,
                    format!("has a default, {item}, outside its own bounds"),
                    "change the default or the bounds",
                ));
            }
        }
        Ok(())
    }

    fn native(&self, name: String, calls: BTreeMap<String, OneOrMany>) -> Result<Native, ControlError> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return Err(self.invalid(
                &["native"],
                "is no function name",
                "write it as the member's code does: `ec2_open_port`",
            ));
        }
        if calls.is_empty() {
            return Err(self.invalid(&["calls"], "is missing", "list the IAM actions that the function needs"));
        }
        Ok(Native { name, calls: self.grants(calls)?, only: BTreeMap::new(), copies: Vec::new() })
    }

    /// The calls without those for a parameter that is empty; in the resources of the others `{Parameter}` is its value.
    fn given(
        &self,
        mut calls: BTreeMap<String, OneOrMany>,
        given: &BTreeMap<String, String>,
        parameters: &BTreeMap<String, Parameter>,
    ) -> Result<BTreeMap<String, OneOrMany>, ControlError> {
        for (action, name) in given {
            let path = ["given", action.as_str()];
            let Some(resources) = calls.remove(action) else {
                return Err(self.invalid(&path, "is not among the calls", "list it under `calls`, too"));
            };
            // It stands in an ARN.
            let fits = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            let Some(value) = parameters.get(name).and_then(|one| one.default.as_str()).filter(fits) else {
                return Err(self.invalid(
                    &path,
                    format!("is for `{name}`, which is no parameter that is a plain word"),
                    "name a parameter whose default is empty, or letters, digits and `_.-`",
                ));
            };
            if value.is_empty() {
                continue;
            }
            let filled = |resource: String| resource.replace(&format!("{{{name}}}"), value);
            let resources = match resources {
                OneOrMany::One(one) => OneOrMany::One(filled(one)),
                OneOrMany::Many(many) => OneOrMany::Many(many.into_iter().map(filled).collect()),
            };
            calls.insert(action.clone(), resources);
        }
        Ok(calls)
    }

    /// The conditions of actions that are granted.
    fn only(
        &self,
        calls: &BTreeMap<String, Vec<String>>,
        only: BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ControlError> {
        for (action, conditions) in &only {
            let path = ["only", action.as_str()];
            if !calls.contains_key(action) {
                return Err(self.invalid(&path, "is not among the calls", "list it under `calls`, too"));
            }
            let sound = |(key, value): (&String, &String)| {
                key.contains(':') && !value.is_empty() && !value.contains(['*', '$', '{', '}'])
                    || value.strip_prefix("arn:*:").is_some_and(|rest| !rest.contains(['$', '{', '}']))
            };
            if conditions.is_empty() || !conditions.iter().all(sound) {
                return Err(self.invalid(
                    &path,
                    "has no condition, or one that is not understood",
                    "write `iam:PassedToService: ec2.amazonaws.com`, or an ARN that starts with `arn:*:`",
                ));
            }
        }
        Ok(only)
    }

    /// The steps that a person takes. They must fit a notification and a ledger record, whole.
    fn guidance(&self, steps: Vec<String>) -> Result<Vec<String>, ControlError> {
        let unfit = |step: &String| step.trim().is_empty() || step.chars().any(char::is_control);
        let length: usize = steps.iter().map(|step| step.chars().count() + 1).sum();
        if steps.is_empty() || steps.iter().any(unfit) || length > GUIDANCE {
            return Err(self.invalid(
                &["guidance"],
                "is empty, has a step that is no line of text, or is too long",
                format!("write one line a step, at most {GUIDANCE} characters in all"),
            ));
        }
        steps.iter().try_for_each(|step| self.no_braces(&["guidance"], step))?;
        Ok(steps)
    }

    /// IAM actions, each with the resources that it is granted on.
    fn grants(&self, calls: BTreeMap<String, OneOrMany>) -> Result<BTreeMap<String, Vec<String>>, ControlError> {
        let mut granted = BTreeMap::new();
        for (action, resources) in calls {
            let resources = match resources {
                OneOrMany::One(one) => vec![one],
                OneOrMany::Many(many) => many,
            };
            let well_formed = action.split_once(':').is_some_and(|(service, operation)| {
                let service_ok = !service.is_empty()
                    && service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                service_ok && is_pascal(operation)
            });
            if !well_formed {
                return Err(self.invalid(
                    &["calls", &action],
                    "is no IAM action",
                    "write `service:Operation`, without wildcards",
                ));
            }
            let fits = |resource: &String| {
                resource == "*" || (resource.starts_with("arn:*:") && resource.splitn(6, ':').count() == 6)
            };
            if resources.is_empty() || !resources.iter().all(fits) {
                return Err(self.invalid(
                    &["calls", &action],
                    "has a resource that is neither `*` nor an ARN in any partition",
                    "write `*` or start with `arn:*:`",
                ));
            }
            granted.insert(action, resources);
        }
        Ok(granted)
    }

    fn copies(&self, raw: Vec<RawCopied>) -> Result<Vec<Copied>, ControlError> {
        let path = ["copies"];
        let copied = |raw: RawCopied| {
            let call = self.call(&path, RawCall { call: raw.call, with: raw.with }, Allowed::Copied)?;
            let waits_for_it = call.with.values().any(|value| value.to_string().contains("\"$made\""));
            let sound = is_path(&raw.at) && !raw.is.is_empty() && !(raw.is.clone() + &raw.when).contains(['{', '}']);
            if !waits_for_it || !sound {
                return Err(self.invalid(
                    &path,
                    "does not say what to wait for",
                    "ask for `$made`, and write where in the answer its state is: `at: $.Snapshots[0].State`, `is: completed`",
                ));
            }
            Ok(Copied { call, at: raw.at, is: raw.is, when: raw.when })
        };
        raw.into_iter().map(copied).collect()
    }

    fn api(
        &self,
        parameters: &BTreeMap<String, Parameter>,
        inspect: RawInspect,
        compliant: BTreeMap<String, Value>,
        apply: Vec<RawCall>,
        restore: RawRestore,
        grants: BTreeMap<String, Vec<String>>,
    ) -> Result<Api, ControlError> {
        let in_call = Allowed::Call(parameters);
        let call = self.call(&["inspect"], RawCall { call: inspect.call, with: inspect.with }, in_call)?;
        if inspect.read.is_empty() {
            return Err(self.invalid(&["inspect", "read"], "is empty", "select what decides about compliance"));
        }
        for (name, read) in &inspect.read {
            let path = ["inspect", "read", name];
            if !is_pascal(name) || ["Decision", "Present", "State"].contains(&name.as_str()) {
                return Err(self.invalid(
                    &path,
                    "is no name for a read",
                    "start it with a capital letter; `Decision`, `Present` and `State` are taken",
                ));
            }
            if !is_path(&read.at) {
                return Err(self.invalid(
                    &path,
                    format!("selects `{}`, which is no plain JSONPath", read.at),
                    "write `$.Field.Field`",
                ));
            }
        }
        for (field, code) in [("absent", &inspect.absent), ("missing", &inspect.missing)] {
            if code.as_ref().is_some_and(|code| !is_error_code(code)) {
                return Err(self.invalid(
                    &["inspect", field],
                    "is no AWS error code",
                    "write the code alone: `NoSuchBucket`",
                ));
            }
        }
        if inspect.settles.is_some_and(|seconds| !SETTLES.contains(&seconds)) {
            return Err(self.invalid(
                &["inspect", "settles"],
                "is no time that a runbook can wait",
                format!("write {} to {} seconds, or leave it out", SETTLES.start(), SETTLES.end()),
            ));
        }
        let reads = &inspect.read;
        self.placeholders(&["inspect", "state"], &inspect.state, Allowed::State(reads))?;
        let whole = inspect.state.as_str().and_then(|text| text.strip_prefix('$'));
        let state_ok = match whole {
            Some(name) => reads.get(name).is_some_and(|read| read.kind == Kind::StringMap),
            None => inspect.state.as_object().is_some_and(|map| {
                !map.is_empty()
                    && map
                        .iter()
                        .all(|(key, value)| is_pascal(key) && value.as_str().is_some_and(|v| v.starts_with('$')))
            }),
        };
        if !state_ok {
            return Err(self.invalid(
                &["inspect", "state"],
                "is neither one `$Read` of type StringMap nor a map of `$Read`s",
                "say which reads make the pre-image: `{ Enabled: $Enabled }`",
            ));
        }
        if compliant.is_empty() {
            return Err(self.invalid(&["compliant"], "is missing", "say which reads must have which value"));
        }
        let mut holds = BTreeMap::new();
        for (name, condition) in &compliant {
            let Some(read) = reads.get(name) else {
                return Err(self.invalid(&["compliant", name], "is not read", "add it to `inspect.read`"));
            };
            holds.insert(name.clone(), self.holds(name, condition, read.kind, parameters)?);
        }
        if apply.is_empty() {
            return Err(self.invalid(&["apply"], "is missing", "list the calls that make the control hold"));
        }
        if restore.present.is_empty() {
            return Err(self.invalid(
                &["restore", "present"],
                "is missing",
                "list the calls that put the pre-image back",
            ));
        }
        if inspect.absent.is_some() == restore.absent.is_empty() {
            return Err(self.invalid(
                &["restore", "absent"],
                "and `inspect.absent` go together",
                "give both, or neither when the setting always exists",
            ));
        }
        let fields = inspect.state.is_object() && inspect.absent.is_none();
        let in_present = Allowed::Restore(parameters, reads, fields);
        let calls = |path: &[&str], calls: Vec<RawCall>, allowed| -> Result<Vec<Call>, ControlError> {
            calls.into_iter().map(|call| self.call(path, call, allowed)).collect()
        };
        Ok(Api {
            apply: calls(&["apply"], apply, in_call)?,
            restore: Restore {
                present: calls(&["restore", "present"], restore.present, in_present)?,
                absent: calls(&["restore", "absent"], restore.absent, in_call)?,
            },
            inspect: Inspect {
                call,
                absent: inspect.absent,
                missing: inspect.missing,
                settles: inspect.settles,
                read: inspect.read,
                state: inspect.state,
            },
            compliant: holds,
            grants,
        })
    }

    /// What a read must be: a value, `{ atLeast: 7 }` or `{ oneOf: [a, b] }`; each value may be a `$Parameter`.
    fn holds(
        &self,
        name: &str,
        condition: &Value,
        kind: Kind,
        parameters: &BTreeMap<String, Parameter>,
    ) -> Result<Holds, ControlError> {
        let path = ["compliant", name];
        let value = |value: &Value| -> Result<Value, ControlError> {
            let text = value.as_str().unwrap_or_default();
            self.no_braces(&path, text)?;
            let value = match text.strip_prefix('$') {
                None => value.clone(),
                Some(parameter) => {
                    let known = parameters.get(parameter).map(|parameter| parameter.default.clone());
                    known.ok_or_else(|| {
                        let problem = format!("holds `{text}`, which is no parameter");
                        self.invalid(&path, problem, "declare it under `parameters`")
                    })?
                }
            };
            if kind.holds(&value) {
                return Ok(value);
            }
            Err(self.invalid(
                &path,
                format!("is compared with {value}, which is no {}", kind.as_str()),
                "compare a Boolean, an Integer or a String with a value of its type",
            ))
        };
        let Some(map) = condition.as_object() else { return value(condition).map(Holds::Equals) };
        let mut fields = map.iter();
        match (fields.next(), fields.next()) {
            (Some((field, least)), None) if field == "atLeast" && kind == Kind::Integer => {
                Ok(Holds::AtLeast(value(least)?.as_i64().unwrap_or_default()))
            }
            (Some((field, Value::Array(values))), None) if field == "oneOf" && !values.is_empty() => {
                values.iter().map(value).collect::<Result<_, _>>().map(Holds::OneOf)
            }
            _ => Err(self.invalid(
                &path,
                "is no condition",
                "write a value, `{ atLeast: 7 }` for an Integer, or `{ oneOf: [a, b] }`",
            )),
        }
    }

    fn call(&self, path: &[&str], raw: RawCall, allowed: Allowed<'_>) -> Result<Call, ControlError> {
        let parts = raw.call.split_once(':').filter(|(service, operation)| {
            let service_ok = !service.is_empty()
                && service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            service_ok && is_pascal(operation)
        });
        let Some((service, operation)) = parts else {
            return Err(self.invalid(
                path,
                format!("`{}` is no call", raw.call),
                "write `service:Operation`, as `s3:PutPublicAccessBlock`",
            ));
        };
        for (name, value) in &raw.with {
            if !is_member(name) || name == "Service" || name == "Api" {
                return Err(self.invalid(
                    path,
                    format!("has a parameter `{name}`, which no operation has"),
                    "write it as the API does",
                ));
            }
            self.placeholders(&[path, &["with", name.as_str()]].concat(), value, allowed)?;
        }
        Ok(Call { service: service.to_owned(), operation: operation.to_owned(), with: raw.with })
    }

    /// Every `$placeholder` in `value` is one that can be filled here, and nothing looks like SSM's own `{{ }}`.
    fn placeholders(&self, path: &[&str], value: &Value, allowed: Allowed<'_>) -> Result<(), ControlError> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.placeholders(path, item, allowed)),
            Value::Object(map) => map.values().try_for_each(|item| self.placeholders(path, item, allowed)),
            Value::String(text) => {
                self.no_braces(path, text)?;
                let Some(name) = text.strip_prefix('$') else { return Ok(()) };
                let known = match allowed {
                    Allowed::State(reads) => reads.contains_key(name),
                    Allowed::Copied => name == "made",
                    Allowed::Call(parameters) => BUILT_IN.contains(&name) || parameters.contains_key(name),
                    Allowed::Restore(parameters, reads, fields) => {
                        let before = match name.strip_prefix("before") {
                            Some("") => true,
                            Some(field) => {
                                fields && field.strip_prefix('.').is_some_and(|field| reads.contains_key(field))
                            }
                            None => false,
                        };
                        before || BUILT_IN.contains(&name) || parameters.contains_key(name)
                    }
                };
                if known {
                    return Ok(());
                }
                let remedy = match allowed {
                    Allowed::State(_) => "use a name of `inspect.read`",
                    Allowed::Copied => "use `$made`",
                    Allowed::Call(_) => "use `$name`, `$arn`, `$account`, `$region` or a parameter",
                    Allowed::Restore(..) => {
                        "use `$before` (or, where the setting is never absent, `$before.<Read>`), `$name`, `$arn`, `$account`, `$region` or a parameter"
                    }
                };
                Err(ControlError::Invalid {
                    file: self.file.to_owned(),
                    line: self.line(path, Some(text)),
                    field: path.join("."),
                    problem: format!("holds `{text}`, which nothing fills here"),
                    remedy: remedy.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    fn no_braces(&self, path: &[&str], text: &str) -> Result<(), ControlError> {
        if text.contains("{{") || text.contains("}}") {
            return Err(self.invalid(
                path,
                "holds `{{` or `}}`",
                "write placeholders as `$name`: the compiler writes SSM's",
            ));
        }
        Ok(())
    }
}

fn is_pascal(name: &str) -> bool {
    name.len() <= 64
        && name.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A plain JSONPath.
fn is_path(text: &str) -> bool {
    text.strip_prefix("$.").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._[]'-".contains(&b))
    })
}

/// A member of an operation's input: some services write theirs with a small letter.
fn is_member(name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    is_pascal(&first.into_iter().chain(letters).collect::<String>())
}

fn is_error_code(code: &str) -> bool {
    (4..=128).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}
