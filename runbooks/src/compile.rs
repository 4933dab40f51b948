//! From controls to everything that is generated of them. Pure: the same controls give the same bytes.
//!
//! An API-shaped document inspects, stores the pre-image, changes, reads back and records; a native one is one
//! call of `redress-remediate`, or of `redress-destroy`. Neither ever changes anything unless `Mode` says so and the recorder
//! has said `Proceed`.

use std::collections::BTreeMap;

use redress_common::catalogue::{Catalogue, ControlEntry, Direct};
use redress_common::contract::{AGAIN, CopyStep, Mode, NO_SOURCE, Outcome, PROCEED, metadata, output, parameter};
use redress_common::names;
use serde_json::{Map, Value, json};

use crate::control::{Api, Body, Call, Control, Native};
use crate::document::{SCHEMA_VERSION, Step, reference, when};
use crate::lint::{self, LintError};
use crate::{page, template};

/// Everything that is generated of a set of controls.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The SSM documents, by name.
    pub documents: BTreeMap<String, Value>,
    /// `stacksets/member-roles.yaml`.
    pub roles_template: String,
    /// `stacksets/member-documents/`: a template a service family, by the family's name.
    pub documents_templates: BTreeMap<String, String>,
    /// What the orchestrator knows of each control.
    pub catalogue: Catalogue,
    /// `docs/catalogue.md`.
    pub catalogue_page: String,
}

/// Why nothing is generated.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler wrote a document that the linter refuses: a fault of the compiler, not of the control.
    #[error("the compiler made a document that SSM would refuse: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Lint(Vec<LintError>),
    /// A template could not be written as YAML.
    #[error("cannot write template `{template}` as YAML: {source}")]
    Yaml {
        /// Which one.
        template: &'static str,
        /// Why not.
        source: serde_saphyr::ser_error::Error,
    },
}

/// Compile all controls.
///
/// # Errors
/// When a document made of them does not lint.
pub fn compile_all(controls: &[Control]) -> Result<Generated, CompileError> {
    let mut documents: BTreeMap<String, Value> = controls
        .iter()
        .filter_map(|control| Some((names::control_document(&control.id), document(control)?)))
        .collect();
    documents.insert(names::CONTROL_DOCUMENT.to_owned(), control_document());
    let faults: Vec<LintError> = documents
        .iter()
        .flat_map(|(name, document)| lint::lint_named(name, document).err().unwrap_or_default())
        .collect();
    if !faults.is_empty() {
        return Err(CompileError::Lint(faults));
    }
    Ok(Generated {
        roles_template: template::roles(controls)?,
        documents_templates: template::documents(controls, &documents)?,
        catalogue: catalogue(controls),
        catalogue_page: page::catalogue_page(controls),
        documents,
    })
}

/// The orchestrator's view of the controls.
#[must_use]
pub fn catalogue(controls: &[Control]) -> Catalogue {
    let entry = |control: &Control| ControlEntry {
        title: control.title.clone(),
        risk: control.risk,
        scope: control.scope,
        resource_types: control.resource.types.clone(),
        arn_patterns: control.resource.arns.clone(),
        config_rules: control.sources.config.clone(),
        guardduty_types: control.sources.guardduty.clone(),
        frameworks: control.frameworks.clone(),
        action: control.action.clone(),
        workflow: control.workflow,
        direct: direct(control),
        guidance: match &control.body {
            Body::Guidance(steps) => steps.clone(),
            Body::Api(_) | Body::Native(_) => Vec::new(),
        },
    };
    Catalogue(controls.iter().map(|control| (control.id.clone(), entry(control))).collect())
}

/// How a playbook is invoked.
fn direct(control: &Control) -> Option<Direct> {
    let Body::Native(native) = &control.body else { return None };
    let family =
        control.resource.types.first().and_then(|kind| names::contain_family(kind)).filter(|_| control.direct)?;
    let parameters = control.parameters.iter().map(|(name, parameter)| (name.clone(), parameter.default.clone()));
    Some(Direct {
        function: names::contain_function(family),
        native: native.name.clone(),
        parameters: parameters.collect(),
    })
}

/// The remediation document of one control; none for one that a person carries out, or a playbook.
#[must_use]
pub fn document(control: &Control) -> Option<Value> {
    if control.direct {
        return None;
    }
    let (variables, steps) = match &control.body {
        Body::Api(api) => api_steps(control, api),
        Body::Native(native) => (Value::Null, native_steps(control, native)),
        Body::Guidance(_) => return None,
    };
    let description = format!(
        "{}: {}. {}. Started by {} only. Generated from ssm-documents/controls/{}.yaml.",
        control.id,
        control.title,
        control.action,
        names::CONTROL_DOCUMENT,
        control.id
    );
    Some(assemble(&description, job_parameters(Some(control)), variables, &steps, &[]))
}

fn assemble(description: &str, parameters: Value, variables: Value, steps: &[Step], outputs: &[&str]) -> Value {
    let mut document = Map::new();
    document.insert("schemaVersion".to_owned(), json!(SCHEMA_VERSION));
    document.insert("description".to_owned(), json!(description));
    document.insert("assumeRole".to_owned(), json!(reference(parameter::AUTOMATION_ASSUME_ROLE)));
    document.insert("parameters".to_owned(), parameters);
    if !variables.is_null() {
        document.insert("variables".to_owned(), variables);
    }
    document.insert("mainSteps".to_owned(), steps.iter().map(Step::to_value).collect());
    if !outputs.is_empty() {
        document.insert("outputs".to_owned(), json!(outputs));
    }
    Value::Object(document)
}

// ---------------------------------------------------------------------------------------------- parameters

const PARTITION: &str = "(aws|aws-us-gov|aws-cn)";
const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
/// Characters of resource names. No quote, brace, backslash, blank or control character: nothing can leave the
/// string that SSM puts it into.
const NAME: &str = "[A-Za-z0-9._:/@+=,~-]";

/// The parameters that carry a [`redress_common::contract::Job`], and the role. For the control document (no
/// control given), also the second role and the bucket.
fn job_parameters(control: Option<&Control>) -> Value {
    let role = |name: &str| format!("^arn:{PARTITION}:iam::[0-9]{{12}}:role/{name}$");
    let text = |description: &str, pattern: &str| json!({ "type": "String", "description": description, "allowedPattern": pattern });
    let key = format!("year=[0-9]{{4}}/month=[0-9]{{2}}/day=[0-9]{{2}}/remediation-{UUID}\\.json");
    let mut parameters = Map::new();
    let mut put = |name: &str, value: Value| parameters.insert(name.to_owned(), value);

    let own_role = control.map_or_else(|| names::CONTROL_ROLE.to_owned(), |control| names::family_role(&control.id));
    put(parameter::AUTOMATION_ASSUME_ROLE, text("Role that this runbook runs as.", &role(&own_role)));
    if control.is_none() {
        put(
            parameter::REMEDIATION_ASSUME_ROLE,
            text("Role that the remediation runbook runs as.", &role("Redress-Remediate-[A-Za-z0-9]{1,32}")),
        );
    }
    put(parameter::REMEDIATION_ID, text("The remediation: a UUID, in lower case.", &format!("^{UUID}$")));
    let (id, arn, name) = match control {
        Some(control) => (
            format!("^{}$", control.id.as_str().replace('.', "\\.")),
            arn_pattern(control),
            if control.resource.is_account() { "^root$".to_owned() } else { format!("^{NAME}{{1,256}}$") },
        ),
        None => (
            "^[A-Za-z][A-Za-z0-9]{0,31}\\.[A-Za-z0-9]{1,31}$".to_owned(),
            format!("^arn:{PARTITION}:[a-z0-9-]{{1,32}}:[a-z0-9-]{{0,32}}:[0-9]{{0,12}}:{NAME}{{1,400}}$"),
            format!("^{NAME}{{1,256}}$"),
        ),
    };
    put(parameter::CONTROL, text("The control.", &id));
    put(parameter::RESOURCE_ARN, text("ARN of the resource; of the account's root for the account itself.", &arn));
    put(parameter::RESOURCE_NAME, text("Name of the resource, as captured from its ARN.", &name));
    let copies = control.is_none_or(|control| control.workflow.is_some_and(|workflow| workflow.snapshot));
    let modes = [Mode::DryRun, Mode::Apply, Mode::Restore].into_iter().chain(copies.then_some(Mode::Snapshot));
    let modes: Vec<&str> = modes.map(Mode::as_str).collect();
    let does = "DryRun says what would be changed, Apply changes it, Restore puts an earlier pre-image back";
    let does =
        if copies { format!("{does}, Snapshot makes the copies that Apply works from") } else { does.to_owned() };
    put(
        parameter::MODE,
        json!({
            "type": "String",
            "description": format!("{does}."),
            "default": Mode::default().as_str(),
            "allowedValues": modes,
        }),
    );
    put(parameter::FENCE, text("Number of the claim that this runs under.", "^[0-9]{1,19}$"));
    put(parameter::EVIDENCE_KEY, text("Where the evidence goes, in the evidence bucket.", &format!("^{key}$")));
    put(
        parameter::SOURCE_EVIDENCE_KEY,
        json!({
            "type": "String",
            "description": "For Restore: where the evidence of the remediation to undo lies. `none` otherwise.",
            "default": NO_SOURCE,
            "allowedPattern": format!("^({NO_SOURCE}|{key})$"),
        }),
    );
    put(
        parameter::PLAN_SHA256,
        json!({
            "type": "String",
            "description": "Hash of the plan that was approved: nothing else is done. `none` when nobody had to approve.",
            "default": NO_SOURCE,
            "allowedPattern": format!("^({NO_SOURCE}|[0-9a-f]{{64}})$"),
        }),
    );
    if control.is_none() {
        put(
            parameter::EVIDENCE_BUCKET,
            text("The account's evidence bucket.", "^security-remediation-logs-[0-9]{12}-[a-z0-9-]{1,32}$"),
        );
    }
    Value::Object(parameters)
}

/// The regular expression of the ARNs that a control's patterns capture.
fn arn_pattern(control: &Control) -> String {
    let account = control.resource.is_account();
    let one = |pattern: &String| {
        let parts: Vec<&str> = pattern.splitn(6, ':').collect();
        let part = |index: usize, any: &str| match parts.get(index) {
            Some(&"*") | None => any.to_owned(),
            Some(fixed) => (*fixed).to_owned(),
        };
        let hole = if account { "root".to_owned() } else { format!("{NAME}{{1,400}}") };
        let resource = part(5, &hole).replace('.', "\\.").replace("{path}", &hole).replace("{}", &hole);
        let service = part(2, "[a-z0-9-]{1,32}");
        let region = part(3, "[a-z0-9-]{1,32}");
        format!("{PARTITION}:{service}:{region}:{}:{resource}", part(4, "[0-9]{12}"))
    };
    let all: Vec<String> = control.resource.arns.iter().map(one).collect();
    format!("^arn:({})$", all.join("|"))
}

/// The fields of a [`redress_common::contract::Job`], each from the runbook's parameter of the same name.
fn job() -> Map<String, Value> {
    [
        parameter::REMEDIATION_ID,
        parameter::CONTROL,
        parameter::RESOURCE_ARN,
        parameter::RESOURCE_NAME,
        parameter::MODE,
        parameter::FENCE,
        parameter::EVIDENCE_KEY,
        parameter::SOURCE_EVIDENCE_KEY,
        parameter::PLAN_SHA256,
    ]
    .into_iter()
    .map(|name| (name.to_owned(), json!(reference(name))))
    .collect()
}

fn with_job(fields: Value) -> Value {
    let mut payload = Map::new();
    if let Value::Object(fields) = fields {
        let (verb, rest): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name == "Verb");
        payload.extend(verb);
        payload.extend(job());
        payload.extend(rest);
    }
    Value::Object(payload)
}

// ---------------------------------------------------------------------------------------------- native

fn native_steps(control: &Control, native: &Native) -> Vec<Step> {
    let parameters: Map<String, Value> =
        control.parameters.iter().map(|(name, parameter)| (name.clone(), parameter.default.clone())).collect();
    let payload = with_job(json!({
        "Native": native.name,
        "AccountId": reference("global:ACCOUNT_ID"),
        "Region": reference("global:REGION"),
        "Parameters": parameters,
    }));
    let function = names::native_function(&control.id);
    let step = Step::lambda("Remediate", function, payload.clone())
        .timeout(300)
        .attempts(2)
        .output("Outcome", "$.Payload.Outcome", "String")
        .output("ChangeSha256", "$.Payload.ChangeSha256", "String")
        .output("Error", "$.Payload.Error", "String");
    if native.copies.is_empty() {
        return vec![step];
    }
    let copies = when::equals(parameter::MODE, &json!(Mode::Snapshot.as_str()));
    let first = begin_of_copy(native, 1);
    let mut steps = vec![Step::branch("ChooseMode", vec![when::goes_to(copies, &first)], "Remediate"), step];
    steps.extend(copy_steps(native, function, &payload));
    steps
}

/// A snapshot of a large volume takes hours.
const COPY_SECONDS: u32 = 6 * 60 * 60;

/// The step with which the n-th copy begins, counted from 1; after the last one, the step that follows them.
fn begin_of_copy(native: &Native, number: u32) -> String {
    let index = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    match native.copies.get(index) {
        None => "RecordCopies".to_owned(),
        Some(copied) if copied.when.is_empty() => format!("MakeCopy{number}"),
        Some(_) => format!("ChooseCopy{number}"),
    }
}

/// Mode `Snapshot`: the function begins each copy, SSM waits for it. Whatever fails, the function removes what was made.
fn copy_steps(native: &Native, function: &str, payload: &Value) -> Vec<Step> {
    let invoke = |name: &str, step: CopyStep| {
        let mut payload = payload.clone();
        payload["Copy"] = json!(step);
        Step::lambda(name, function, payload).timeout(300).attempts(2)
    };
    let count = native.copies.len();
    let mut steps = Vec::new();
    for (number, copied) in (1_u32..).zip(&native.copies) {
        let (make, judge, wait) =
            (format!("MakeCopy{number}"), format!("JudgeCopy{number}"), format!("AwaitCopy{number}"));
        let next = begin_of_copy(native, number + 1);
        if !copied.when.is_empty() {
            let is_made = when::contains(parameter::RESOURCE_ARN, &copied.when);
            steps.push(Step::branch(&begin_of_copy(native, number), vec![when::goes_to(is_made, &make)], &next));
        }
        let made = reference(&format!("{make}.Made"));
        let with = fill(&Value::Object(copied.call.with.clone()), &|name| (name == "made").then(|| json!(made)));
        let with = with.as_object().cloned().unwrap_or_default();
        steps.push(
            invoke(&make, CopyStep::Make(number))
                .output("Decision", "$.Payload.Decision", "String")
                .output("Made", "$.Payload.Made", "String")
                .on_failure("DiscardCopies")
                .then(&judge),
        );
        let proceeds = when::equals(&format!("{make}.Decision"), &json!(PROCEED));
        steps.push(Step::branch_or_end(&judge, vec![when::goes_to(proceeds, &wait)]));
        let (service, operation) = (&copied.call.service, &copied.call.operation);
        steps.push(
            Step::wait(&wait, service, operation, with, &copied.at, vec![json!(copied.is)])
                .timeout(COPY_SECONDS / u32::try_from(count).unwrap_or(1).max(1))
                .on_failure("DiscardCopies")
                .then(&next),
        );
    }
    steps.push(invoke("RecordCopies", CopyStep::Finish).on_failure("DiscardCopies"));
    steps.push(invoke("DiscardCopies", CopyStep::Discard));
    steps
}

// ---------------------------------------------------------------------------------------------- API-shaped

/// The state of the resource as one point of the runbook knows it.
struct Image {
    present: Value,
    state: Value,
}

impl Image {
    fn absent() -> Self {
        Self { present: json!(false), state: json!({}) }
    }

    /// As `step` read it.
    fn read_by(step: &str, api: &Api) -> Self {
        Self {
            present: json!(true),
            state: fill(&api.inspect.state, &|name| Some(json!(reference(&format!("{step}.{name}"))))),
        }
    }
}

/// Before an undo that does not show yet is looked at once more.
const PAUSE_SECONDS: u32 = 8;

struct ApiRunbook<'a> {
    control: &'a Control,
    api: &'a Api,
    steps: Vec<Step>,
}

fn api_steps(control: &Control, api: &Api) -> (Value, Vec<Step>) {
    let mut runbook = ApiRunbook { control, api, steps: Vec::new() };
    runbook.inspect();
    runbook.act();
    runbook.verify();
    runbook.restore();
    runbook.fail();
    let variables = match api.inspect.absent {
        Some(_) => json!({
            "Present": { "type": "Boolean", "description": "Whether the setting exists.", "default": false },
            "State": { "type": "StringMap", "description": "What it holds.", "default": {} },
        }),
        None => Value::Null,
    };
    (variables, runbook.steps)
}

impl ApiRunbook<'_> {
    fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// The state before anything was done.
    fn before(&self) -> Image {
        if self.api.inspect.absent.is_some() {
            Image { present: json!(reference("variable:Present")), state: json!(reference("variable:State")) }
        } else {
            Image::read_by("CheckResourceStatus", self.api)
        }
    }

    fn read(&self, name: &str) -> Step {
        let call = &self.api.inspect.call;
        let step = Step::api(name, &call.service, &call.operation, self.with(call));
        self.api.inspect.read.iter().fold(step, |step, (name, read)| step.output(name, &read.at, read.kind.as_str()))
    }

    fn with(&self, call: &Call) -> Map<String, Value> {
        let filled = fill(&Value::Object(call.with.clone()), &|name| self.placeholder(name));
        match filled {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn placeholder(&self, name: &str) -> Option<Value> {
        let known = match name {
            "name" => reference(parameter::RESOURCE_NAME),
            "arn" => reference(parameter::RESOURCE_ARN),
            "account" => reference("global:ACCOUNT_ID"),
            "region" => reference("global:REGION"),
            "before" => reference("LoadPreImage.State"),
            _ => match name.strip_prefix("before.") {
                Some(field) => reference(&format!("LoadPreImage.{field}")),
                None => return self.control.parameters.get(name).map(|parameter| parameter.default.clone()),
            },
        };
        Some(json!(known))
    }

    /// The calls, as the evidence writes them.
    fn change(&self, calls: &[Call]) -> Value {
        calls
            .iter()
            .map(|call| json!({ "Service": call.service, "Operation": call.operation, "Parameters": self.with(call) }))
            .collect()
    }

    fn compliant(&self, step: &str) -> Value {
        let conditions = self.api.compliant.iter();
        when::all(conditions.map(|(name, holds)| when::holds(&format!("{step}.{name}"), holds)).collect())
    }

    /// An undo, or a dry run of one.
    fn is_undo() -> Value {
        when::any(vec![
            when::equals(parameter::MODE, &json!(Mode::Restore.as_str())),
            when::starts_with(parameter::SOURCE_EVIDENCE_KEY, "year="),
        ])
    }

    fn prepare(name: &str, verb: &str, image: Image, change: Value) -> Step {
        let payload =
            with_job(json!({ "Verb": verb, "Present": image.present, "State": image.state, "Change": change }));
        Step::lambda(name, names::RECORDER_FUNCTION, payload).timeout(60).attempts(3).output(
            "Decision",
            "$.Payload.Decision",
            "String",
        )
    }

    fn finish(name: &str, outcome: Value, image: Image, error: &str) -> Step {
        let Image { present, state } = image;
        Self::ending(name, json!({ "Outcome": outcome, "Present": present, "State": state, "Error": error }))
    }

    /// The same, when what there is now could not be read.
    fn finish_unread(name: &str, outcome: Outcome, error: &str) -> Step {
        let Image { present, state } = Image::absent();
        Self::ending(
            name,
            json!({
                "Outcome": outcome.as_str(),
                "Present": present,
                "State": state,
                "Unread": true,
                "Error": error,
            }),
        )
    }

    fn ending(name: &str, fields: Value) -> Step {
        let mut payload = Map::from_iter([("Verb".to_owned(), json!("Finish"))]);
        if let Value::Object(fields) = fields {
            payload.extend(fields);
        }
        Step::lambda(name, names::RECORDER_FUNCTION, with_job(Value::Object(payload))).timeout(60).attempts(3)
    }

    /// Ask SSM why the latest failed step of this run failed.
    fn explain(name: &str) -> Step {
        Step::api(name, "ssm", "DescribeAutomationStepExecutions", failed_steps()).output(
            "Message",
            "$.StepExecutions[0].FailureMessage",
            "String",
        )
    }

    fn inspect(&mut self) {
        let inspect = &self.api.inspect;
        let fallible = inspect.absent.is_some() || inspect.missing.is_some();
        let check = self.read("CheckResourceStatus");
        let check = if fallible { check.or("ExplainInspection") } else { check };
        let remembers = inspect.absent.is_some();
        self.push(check.then(if remembers { "RememberPresent" } else { "ChooseAction" }));
        if remembers {
            let state = Image::read_by("CheckResourceStatus", self.api).state;
            self.push(Step::set("RememberPresent", "Present", json!(true)).then("RememberState"));
            self.push(Step::set("RememberState", "State", state).then("ChooseAction"));
        }
        self.push(Step::branch(
            "ChooseAction",
            vec![
                when::goes_to(Self::is_undo(), "LoadPreImage"),
                when::goes_to(self.compliant("CheckResourceStatus"), "NoteCompliance"),
            ],
            "CreateBackupIfRequired",
        ));
        if !fallible {
            return;
        }

        self.push(Self::explain("ExplainInspection").then("JudgeInspection"));
        let says = |code: &str| when::contains("ExplainInspection.Message", code);
        let mut choices = Vec::new();
        if let Some(code) = &inspect.missing {
            choices.push(when::goes_to(says(code), "NoteMissing"));
        }
        if let Some(code) = &inspect.absent {
            choices.push(when::goes_to(when::all(vec![says(code), Self::is_undo()]), "LoadPreImage"));
            choices.push(when::goes_to(says(code), "CreateBackupIfRequired"));
        }
        self.push(Step::branch("JudgeInspection", choices, "InspectionFailed"));
        // Never true of a failed step: fails the run, with the reason in its message.
        self.push(Step::assert(
            "InspectionFailed",
            "ssm",
            "DescribeAutomationStepExecutions",
            failed_steps(),
            "$.StepExecutions[0].FailureMessage",
            vec![json!("the resource was inspected")],
        ));
        if inspect.missing.is_some() {
            self.push(Self::prepare("NoteMissing", "Prepare", Image::absent(), json!([])).then("RecordMissing"));
            self.push(Self::finish("RecordMissing", json!(Outcome::NotFound.as_str()), Image::absent(), ""));
        }
    }

    fn act(&mut self) {
        let before = self.before();
        self.push(Self::prepare("NoteCompliance", "Prepare", before, json!([])).then("RecordCompliance"));
        let before = self.before();
        self.push(Self::finish("RecordCompliance", json!(Outcome::AlreadyCompliant.as_str()), before, ""));

        let change = self.change(&self.api.apply);
        let before = self.before();
        self.push(Self::prepare("CreateBackupIfRequired", "Prepare", before, change).then("DecideApply"));
        let proceeds = when::equals("CreateBackupIfRequired.Decision", &json!("Proceed"));
        let mode = |mode: Mode| when::equals(parameter::MODE, &json!(mode.as_str()));
        self.push(Step::branch(
            "DecideApply",
            vec![
                when::goes_to(when::all(vec![proceeds.clone(), mode(Mode::Apply)]), "Apply"),
                when::goes_to(when::all(vec![proceeds, mode(Mode::DryRun)]), "RecordPlan"),
            ],
            "RecordDecision",
        ));
        let before = self.before();
        self.push(Self::finish("RecordPlan", json!(Outcome::Planned.as_str()), before, ""));
        let before = self.before();
        let decision = json!(reference("CreateBackupIfRequired.Decision"));
        self.push(Self::finish("RecordDecision", decision, before, ""));
        self.change_steps("Apply", &self.api.apply, "VerifyRemediation");
    }

    /// The mutating calls: `name`, `name2`, … and then `next`.
    fn change_steps(&mut self, name: &str, calls: &[Call], next: &str) {
        let name_of = |index: usize| if index == 0 { name.to_owned() } else { format!("{name}{}", index + 1) };
        for (index, call) in calls.iter().enumerate() {
            let following = if index + 1 == calls.len() { next.to_owned() } else { name_of(index + 1) };
            let step = Step::api(name_of(index), &call.service, &call.operation, self.with(call));
            self.push(step.on_failure("ExplainFailure").then(&following));
        }
    }

    fn verify(&mut self) {
        let call = &self.api.inspect.call;
        // AWS may answer with the old state for a moment. One property is waited for; all are then judged.
        if let Some((name, holds)) = self.api.compliant.iter().next() {
            let at = self.api.inspect.read.get(name).map(|read| read.at.as_str()).unwrap_or_default();
            let wait =
                Step::wait("VerifyRemediation", &call.service, &call.operation, self.with(call), at, holds.wanted());
            let wait = self.api.inspect.settles.into_iter().fold(wait, Step::timeout);
            self.push(wait.or("ReadBack").then("ReadBack"));
        }
        self.push(self.read("ReadBack").or("RecordUnread").then("JudgeResult"));
        self.push(Step::branch(
            "JudgeResult",
            vec![when::goes_to(self.compliant("ReadBack"), "RecordResult")],
            "RecordUnverified",
        ));
        let after = || Image::read_by("ReadBack", self.api);
        let verified = Self::finish("RecordResult", json!(Outcome::Verified.as_str()), after(), "");
        let unverified = Self::finish(
            "RecordUnverified",
            json!(Outcome::Unverified.as_str()),
            after(),
            "the change was made, but reading it back does not show it",
        );
        let unread = Self::finish_unread(
            "RecordUnread",
            Outcome::Unverified,
            "the change was made, but it could not be read back",
        );
        self.steps.extend([verified, unverified, unread]);
    }

    fn restore(&mut self) {
        let mut load = Self::prepare("LoadPreImage", "Load", self.before(), json!([]))
            .output("Present", "$.Payload.Present", "Boolean")
            .output("State", "$.Payload.State", "StringMap");
        for name in self.restored_fields() {
            let kind = self.api.inspect.read.get(&name).map_or("String", |read| read.kind.as_str());
            load = load.output(&name, &format!("$.Payload.State.{name}"), kind);
        }
        self.push(load.then("JudgeDrift"));

        let proceeds = when::equals("LoadPreImage.Decision", &json!("Proceed"));
        let restores = when::equals(parameter::MODE, &json!(Mode::Restore.as_str()));
        let was_there = when::equals("LoadPreImage.Present", &json!(true));
        let may_be_absent = self.api.inspect.absent.is_some();
        let mut choices = Vec::new();
        if may_be_absent {
            let condition = when::all(vec![proceeds.clone(), restores.clone(), was_there]);
            choices.push(when::goes_to(condition, "Restore"));
            choices.push(when::goes_to(when::all(vec![proceeds.clone(), restores]), "RestoreAbsence"));
        } else {
            choices.push(when::goes_to(when::all(vec![proceeds.clone(), restores]), "Restore"));
        }
        choices.push(when::goes_to(proceeds, "RecordUndoPlan"));
        self.push(Step::branch("JudgeDrift", choices, "RecordDrift"));
        let plan = Self::finish("RecordUndoPlan", json!(Outcome::Planned.as_str()), self.before(), "");
        let drift = Self::finish("RecordDrift", json!(reference("LoadPreImage.Decision")), self.before(), "");
        self.steps.extend([plan, drift]);

        self.change_steps("Restore", &self.api.restore.present, "ReadRestored");
        self.push(self.read("ReadRestored").or("RecordUnrestored").then("RecordRestored"));
        // The recorder compares the state with the pre-image. AWS may answer with the old state for a moment: when they
        // differ, it says so, once, and nothing is recorded before another look, which then is what counts.
        let restored = json!(Outcome::Restored.as_str());
        let Image { present, state } = Image::read_by("ReadRestored", self.api);
        let look = Self::ending(
            "RecordRestored",
            json!({ "Outcome": restored, "Present": present, "State": state, "Patient": true, "Error": "" }),
        );
        self.push(look.output("Decision", "$.Payload.Decision", "String").then("JudgeRestored"));
        let again = when::equals("RecordRestored.Decision", &json!(AGAIN));
        self.push(Step::branch_or_end("JudgeRestored", vec![when::goes_to(again, "PauseRestored")]));
        self.push(
            Step::sleep("PauseRestored", self.api.inspect.settles.unwrap_or(PAUSE_SECONDS)).then("ReadRestoredLate"),
        );
        self.push(self.read("ReadRestoredLate").or("RecordUnrestored").then("RecordRestoredLate"));
        let late = Image::read_by("ReadRestoredLate", self.api);
        self.push(Self::finish("RecordRestoredLate", restored.clone(), late, ""));
        if let Some(code) = &self.api.inspect.absent {
            self.change_steps("RestoreAbsence", &self.api.restore.absent, "ReadAbsence");
            self.push(self.read("ReadAbsence").or("ExplainAbsence").then("PauseAbsence"));
            self.push(Step::sleep("PauseAbsence", PAUSE_SECONDS).then("ReadAbsenceLate"));
            self.push(self.read("ReadAbsenceLate").or("ExplainAbsence").then("RecordStillPresent"));
            self.push(Self::explain("ExplainAbsence").then("JudgeAbsence"));
            self.push(Step::branch(
                "JudgeAbsence",
                vec![when::goes_to(when::contains("ExplainAbsence.Message", code), "RecordRestoredAbsence")],
                "RecordUnrestored",
            ));
            let unverified = json!(Outcome::Unverified.as_str());
            self.push(Self::finish("RecordRestoredAbsence", restored, Image::absent(), ""));
            self.push(Self::finish(
                "RecordStillPresent",
                unverified,
                Image::read_by("ReadAbsenceLate", self.api),
                "the setting was deleted, but reading it back still shows it",
            ));
        }
        self.push(Self::finish_unread(
            "RecordUnrestored",
            Outcome::Unverified,
            "the pre-image was put back, but it could not be read back",
        ));
    }

    /// The fields of the pre-image that `restore.present` asks for.
    fn restored_fields(&self) -> Vec<String> {
        fn find(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::String(text) => found.extend(text.strip_prefix("$before.").map(str::to_owned)),
                Value::Array(items) => items.iter().for_each(|item| find(item, found)),
                Value::Object(map) => map.values().for_each(|item| find(item, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        for call in &self.api.restore.present {
            call.with.values().for_each(|value| find(value, &mut found));
        }
        found.sort();
        found.dedup();
        found
    }

    /// A mutating call failed: read what there is now, so that the evidence says how far it came.
    fn fail(&mut self) {
        self.push(Self::explain("ExplainFailure").then("ReadAfterFailure"));
        self.push(self.read("ReadAfterFailure").or("RecordFailureUnread").then("RecordFailure"));
        let failed = json!(Outcome::Failed.as_str());
        let message = reference("ExplainFailure.Message");
        let after = Image::read_by("ReadAfterFailure", self.api);
        self.push(Self::finish("RecordFailure", failed, after, &message));
        self.push(Self::finish_unread("RecordFailureUnread", Outcome::Failed, &message));
    }
}

/// The input that asks SSM for the failed steps of this run, the latest first.
fn failed_steps() -> Map<String, Value> {
    let mut with = Map::new();
    with.insert("AutomationExecutionId".to_owned(), json!(reference("automation:EXECUTION_ID")));
    with.insert("Filters".to_owned(), json!([{ "Key": "StepExecutionStatus", "Values": ["Failed", "TimedOut"] }]));
    with.insert("ReverseOrder".to_owned(), json!(true));
    with
}

/// `value` with every `$placeholder` replaced; one that `find` does not know stays, and the linter sees it.
fn fill(value: &Value, find: &dyn Fn(&str) -> Option<Value>) -> Value {
    match value {
        Value::String(text) => text.strip_prefix('$').and_then(find).unwrap_or_else(|| value.clone()),
        Value::Array(items) => items.iter().map(|item| fill(item, find)).collect(),
        Value::Object(map) => map.iter().map(|(name, item)| (name.clone(), fill(item, find))).collect(),
        other => other.clone(),
    }
}

// ---------------------------------------------------------------------------------------------- the control runbook

/// `Redress-Control`: what the orchestrator starts.
#[must_use]
pub fn control_document() -> Value {
    let remediation = format!("Redress-{}", reference(parameter::CONTROL));
    let mut describe = Map::new();
    describe.insert("Name".to_owned(), json!(remediation));
    let validate =
        Step::assert("ValidateInputs", "ssm", "DescribeDocument", describe, "$.Document.Status", vec![json!("Active")])
            .then("ChooseTime");

    let mut parameters = Map::new();
    parameters
        .insert(parameter::AUTOMATION_ASSUME_ROLE.to_owned(), json!(reference(parameter::REMEDIATION_ASSUME_ROLE)));
    parameters.extend(job());
    // Failed or not, what the evidence says is logged; the run still counts as failed.
    let invoke = Step::automation("InvokeRemediationRunbook", &remediation, Value::Object(parameters))
        .timeout(900)
        .on_failure("LogResults")
        .then("LogResults");

    let mut head = Map::new();
    head.insert("Bucket".to_owned(), json!(reference(parameter::EVIDENCE_BUCKET)));
    head.insert("Key".to_owned(), json!(reference(parameter::EVIDENCE_KEY)));
    head.insert("ExpectedBucketOwner".to_owned(), json!(reference("global:ACCOUNT_ID")));
    let of_metadata = |key: &str| format!("$.Metadata['{key}']");
    // Copies take long; everything else that takes long hangs.
    let copy = invoke.clone().named("InvokeSnapshotRunbook").timeout(COPY_SECONDS + 900);
    let copies = when::equals(parameter::MODE, &json!(Mode::Snapshot.as_str()));
    let choose =
        Step::branch("ChooseTime", vec![when::goes_to(copies, "InvokeSnapshotRunbook")], "InvokeRemediationRunbook");

    let log = Step::api("LogResults", "s3", "HeadObject", head)
        .output("Outcome", &of_metadata(metadata::OUTCOME), "String")
        .output("VersionId", "$.VersionId", "String")
        .output("PreImageSha256", &of_metadata(metadata::PRE_IMAGE), "String")
        .output("ChangeSha256", &of_metadata(metadata::CHANGE), "String")
        .output("PostImageSha256", &of_metadata(metadata::POST_IMAGE), "String")
        .output("Fence", &of_metadata(metadata::FENCE), "String")
        .output("Made", &of_metadata(metadata::MADE), "String")
        .output("Error", &of_metadata(metadata::ERROR), "String")
        .on_failure("CleanupTemporaryResources")
        .then("CleanupTemporaryResources");

    // The runbook that makes something temporary knows its id, and removes it before it ends. This run makes nothing.
    let clean = Step::set("CleanupTemporaryResources", "TemporaryResources", json!("none"));
    let variables = json!({
        "TemporaryResources": {
            "type": "String",
            "description": "What the run made and must remove.",
            "default": "unknown",
        },
    });
    assemble(
        "Redress: validate, run one remediation runbook, read the evidence that it left. Started by the administrator account.",
        job_parameters(None),
        variables,
        &[validate, choose, invoke, copy, log, clean],
        &[
            output::OUTCOME,
            output::VERSION_ID,
            output::PRE_IMAGE,
            output::CHANGE,
            output::POST_IMAGE,
            output::FENCE,
            output::MADE,
            output::ERROR,
        ],
    )
}
