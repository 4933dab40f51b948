//! What each Lambda function calls, as data: a file a function beside its code, in `admin/calls/` and `member/calls/`. The
//! policies of the functions' roles are written from it ([`template`]). What the native controls and the playbooks call
//! stands in their own files, and is attached to these roles by [`crate::iam`].
//!
//! Read strictly: what a file says and a policy could not is an error that names the file, the line and the way out. Knows no
//! function: a new one is a new file and its place in a template.

pub mod targets;
pub mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;
use targets::Target;

/// Where the files are, below the repository's root.
pub const FOLDERS: [&str; 2] = ["admin/calls", "member/calls"];

/// The statement that lets a function write to the log group of its own; the generator adds it.
pub const LOGS: &str = "Logs";
/// The statement that lets a function be traced, where its template can have that; the generator adds it.
pub const TRACES: &str = "Traces";

/// How the functions of Redress are named: the file has what follows.
const PREFIX: &str = "redress-";

/// Condition operators of IAM that a file may use, each also under `ForAllValues:`, `ForAnyValue:` and with `IfExists`.
const OPERATORS: [&str; 8] =
    ["ArnEquals", "ArnLike", "Bool", "Null", "StringEquals", "StringLike", "StringNotEquals", "StringNotLike"];

/// What one function calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The file that says so, below the repository's root.
    pub file: String,
    /// The function's name.
    pub name: String,
    /// The name of its role's policy.
    pub policy: String,
    /// What it calls: a statement each.
    pub calls: Vec<Calls>,
}

/// Calls that are made on the same things: a statement of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// The statement's id.
    pub sid: String,
    /// The reason, where it is not plain. It becomes a comment.
    pub why: Option<String>,
    /// What is called.
    pub targets: Vec<&'static Target>,
    /// The IAM actions.
    pub actions: Vec<String>,
    /// Only if: operator → key → values.
    pub only: Conditions,
    /// The template's condition without which there is no such statement.
    pub when: Option<String>,
    /// Whether they are allowed, or denied whatever else allows them.
    pub effect: Effect,
    /// The line of the file, from 1.
    pub line: u64,
}

/// Conditions of a statement: operator → key → values.
pub type Conditions = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Effect {
    /// It allows.
    #[default]
    Allow,
    /// It denies.
    Deny,
}

/// Why a file of calls, or the template that is written from it, is refused.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// The disk said no.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not the YAML that such a file is.
    #[error("{file}:{line}:{column}: {message}; compare with another file beside it")]
    Yaml {
        /// The file.
        file: String,
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// Column, from 1; 0 when unknown.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// Well-formed, but it makes no sense.
    #[error("{file}:{line}: {problem}; {remedy}")]
    Invalid {
        /// The file.
        file: String,
        /// Line, from 1; 0 for the whole file.
        line: u64,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The template is no YAML.
    #[error(transparent)]
    Template(#[from] crate::trust::TemplateError),
}

fn invalid(file: &str, line: u64, problem: impl Into<String>, remedy: impl Into<String>) -> FunctionError {
    FunctionError::Invalid { file: file.to_owned(), line, problem: problem.into(), remedy: remedy.into() }
}

/// Every function below the repository's root, by its file.
///
/// # Errors
/// When a folder or file cannot be read, or a file is wrong.
pub fn load(root: &Path) -> Result<Vec<Function>, FunctionError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FunctionError::Read { path, source }
    };
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        let full = root.join(folder);
        if !full.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&full).map_err(failed(&full))? {
            let path = entry.map_err(failed(&full))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            files.insert(format!("{folder}/{name}"), text);
        }
    }
    files.iter().map(|(file, text)| parse(file, text)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    function: String,
    policy: String,
    calls: Vec<RawCalls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCalls {
    sid: Spanned<String>,
    why: Option<String>,
    target: OneOrMany,
    actions: Vec<String>,
    #[serde(default)]
    only: Conditions,
    when: Option<String>,
    #[serde(default)]
    effect: Effect,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Parse one file; `file` is its path below the repository's root.
///
/// # Errors
/// When it does not say what a function calls.
pub fn parse(file: &str, text: &str) -> Result<Function, FunctionError> {
    let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
        let location = error.location();
        FunctionError::Yaml {
            file: file.to_owned(),
            line: location.map_or(0, |at| at.line()),
            column: location.map_or(0, |at| at.column()),
            message: error.without_snippet().to_string(),
        }
    })?;
    let named = file.rsplit('/').next().and_then(|name| name.strip_suffix(".yaml")).unwrap_or_default();
    if raw.function.strip_prefix(PREFIX).is_none_or(|rest| rest != named || !is_word(rest, "-")) {
        let problem = format!("function `{}` is not the one that the file is named after", raw.function);
        return Err(invalid(
            file,
            0,
            problem,
            format!("write `{PREFIX}{named}`, or give the file the function's name"),
        ));
    }
    if !is_word(&raw.policy, "-") {
        let problem = format!("`{}` is no name for a policy", raw.policy);
        return Err(invalid(file, 0, problem, "write one word of what the function does"));
    }
    let mut known = BTreeMap::new();
    let mut calls = Vec::with_capacity(raw.calls.len());
    for raw in raw.calls {
        let (line, sid) = (raw.sid.referenced.line(), raw.sid.value.clone());
        calls.push(statement(file, line, raw)?);
        if let Some(first) = known.insert(sid.clone(), line) {
            let problem = format!("statement `{sid}` is there already, in line {first}");
            return Err(invalid(file, line, problem, "give one of them another name, or make them one"));
        }
    }
    Ok(Function { file: file.to_owned(), name: raw.function, policy: raw.policy, calls })
}

fn statement(file: &str, line: u64, raw: RawCalls) -> Result<Calls, FunctionError> {
    let sid = raw.sid.value;
    let wrong = |problem: String, remedy: &str| {
        let problem = format!("statement `{sid}` {problem}");
        Err(invalid(file, line, problem, remedy))
    };
    if !is_word(&sid, "") {
        return wrong("has no name that IAM takes".to_owned(), "write a word of letters and digits");
    }
    if sid == LOGS || sid == TRACES {
        return wrong("is one that the generator adds".to_owned(), "leave it out");
    }
    if raw.why.as_ref().is_some_and(|why| why.trim().is_empty() || why.chars().any(char::is_control)) {
        return wrong(
            "has a reason that is empty or no single line".to_owned(),
            "write one line of text, or leave `why` out",
        );
    }
    let names = match raw.target {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    };
    let mut targets: Vec<&'static Target> = Vec::with_capacity(names.len());
    for name in names {
        let Some(target) = targets::find(&name) else {
            let known = targets::known().join(", ");
            let remedy = format!("it is one of {known}; a new one is a line in runbooks/src/functions/targets.rs");
            return wrong(format!("calls something on `{name}`, which is not known"), &remedy);
        };
        if targets.contains(&target) {
            return wrong(format!("has target `{name}` twice"), "leave one of them out");
        }
        targets.push(target);
    }
    let everything = targets.iter().any(|target| target.name == targets::EVERYTHING);
    match (targets.len(), everything, &raw.why) {
        (0, ..) => return wrong("has no target".to_owned(), "say what is called"),
        (2.., true, _) => return wrong("has other targets beside everything".to_owned(), "leave them out"),
        (_, true, None) => {
            return wrong("is for everything".to_owned(), "say in `why` that IAM knows nothing narrower");
        }
        _ => {}
    }
    if raw.actions.is_empty() {
        return wrong("has no actions".to_owned(), "say which calls are made");
    }
    let mut seen = BTreeSet::new();
    for action in &raw.actions {
        let Some((service, _)) =
            action.split_once(':').filter(|(service, name)| is_word(service, "-") && is_word(name, ""))
        else {
            return wrong(
                format!("has `{action}`, which is no action"),
                "write `service:Operation`, without wildcards",
            );
        };
        if let Some(other) = targets.iter().find(|target| target.service.is_some_and(|of| of != service)) {
            let of = other.service.unwrap_or_default();
            let problem = format!("calls `{action}` on `{}`, which is of service `{of}`", other.name);
            return wrong(problem, "give the action a statement of its own, on what it is for");
        }
        if !seen.insert(action) {
            return wrong(format!("has `{action}` twice"), "leave one of them out");
        }
    }
    for (operator, keys) in &raw.only {
        if !is_operator(operator) {
            return wrong(
                format!("has condition operator `{operator}`"),
                &format!("use one of {}", OPERATORS.join(", ")),
            );
        }
        if keys.is_empty() || keys.iter().any(|(key, values)| !is_key(key) || values.is_empty()) {
            return wrong(
                format!("has a condition `{operator}` without key or values"),
                "write `service:Key: [value]`",
            );
        }
    }
    if raw.when.as_ref().is_some_and(|when| !is_word(when, "")) {
        return wrong("has a `when` that is no name".to_owned(), "write the name of a condition of the template");
    }
    Ok(Calls {
        sid,
        why: raw.why,
        targets,
        actions: raw.actions,
        only: raw.only,
        when: raw.when,
        effect: raw.effect,
        line,
    })
}

/// Letters and digits of ASCII, and these.
fn is_word(text: &str, also: &str) -> bool {
    !text.is_empty() && text.chars().all(|one| one.is_ascii_alphanumeric() || also.contains(one))
}

fn is_operator(text: &str) -> bool {
    let bare = text.strip_prefix("ForAllValues:").or_else(|| text.strip_prefix("ForAnyValue:")).unwrap_or(text);
    OPERATORS.contains(&bare.strip_suffix("IfExists").unwrap_or(bare))
}

/// `aws:SourceAccount`, `aws:ResourceTag/Name`.
fn is_key(text: &str) -> bool {
    text.split_once(':').is_some_and(|(service, key)| is_word(service, "-") && is_word(key, "-_/:."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// A file with this statement in line 4, and what follows.
    fn file(statement: &str) -> String {
        format!("function: redress-door\npolicy: open\ncalls:\n{statement}\n")
    }

    fn refused(statement: &str) -> String {
        parse("admin/calls/door.yaml", &file(statement)).unwrap_err().to_string()
    }

    const STATE: &str = "  - {sid: State, target: state-table, actions: [dynamodb:PutItem]}";

    #[test]
    fn a_statement_says_what_is_called_on_what_why_and_when() {
        let text = file(
            "  - sid: Told\n    why: Not the list.\n    target: [state-table, audit-table]\n    actions: [dynamodb:PutItem]\n    \
             only:\n      ForAllValues:StringLike:\n        dynamodb:LeadingKeys: [\"a#*\"]\n    when: HasIt\n    effect: Deny",
        );
        let function = parse("admin/calls/door.yaml", &text).unwrap();
        let [calls] = function.calls.as_slice() else { panic!("{function:?}") };
        let key = BTreeMap::from([("dynamodb:LeadingKeys".to_owned(), vec!["a#*".to_owned()])]);
        assert_eq!((function.name.as_str(), function.policy.as_str()), ("redress-door", "open"));
        assert_eq!((calls.sid.as_str(), calls.why.as_deref(), calls.line), ("Told", Some("Not the list."), 4));
        assert_eq!(calls.targets.iter().map(|one| one.name).collect::<Vec<_>>(), ["state-table", "audit-table"]);
        assert_eq!(calls.only, BTreeMap::from([("ForAllValues:StringLike".to_owned(), key)]));
        assert_eq!((calls.when.as_deref(), calls.effect), (Some("HasIt"), Effect::Deny));
    }

    #[test]
    fn an_action_of_another_service_than_its_target_is_refused_by_line() {
        let said = refused(&format!("{STATE}\n  - {{sid: B, target: state-table, actions: [sqs:SendMessage]}}"));
        assert!(
            said.starts_with("admin/calls/door.yaml:5: statement `B` calls `sqs:SendMessage` on `state-table`"),
            "{said}"
        );
        assert!(said.contains("`dynamodb`"), "{said}");
    }

    #[test]
    fn a_target_that_is_not_known_is_refused_with_those_that_are() {
        let said = refused("  - {sid: A, target: stat-table, actions: [dynamodb:PutItem]}");
        assert!(said.contains("`stat-table`") && said.contains(", state-table, "), "{said}");
    }

    #[test]
    fn two_statements_of_one_name_are_refused() {
        let said = refused(&format!("{STATE}\n{STATE}"));
        assert!(said.starts_with("admin/calls/door.yaml:5: statement `State` is there already, in line 4"), "{said}");
    }

    #[test]
    fn everything_is_a_target_by_itself_and_with_a_reason() {
        let of = |rest: &str| format!("  - {{sid: A, actions: [tag:GetResources, iam:GetAccountSummary], {rest}}}");
        assert!(
            parse("admin/calls/door.yaml", &file(&of("target: everything, why: IAM knows no narrower one."))).is_ok()
        );
        assert!(refused(&of("target: everything")).contains("say in `why`"));
        assert!(refused(&of("target: [everything, topic], why: x")).contains("beside everything"));
    }

    #[test]
    fn what_no_policy_could_say_is_refused() {
        for (rest, why) in [
            ("target: topic, actions: [sns:Publish], resource: x", "unknown field"),
            ("target: topic, actions: [sns:Publish], effect: Permit", "unknown variant"),
            ("target: topic, actions: []", "no actions"),
            ("target: [], actions: [sns:Publish]", "no target"),
            ("target: [topic, topic], actions: [sns:Publish]", "twice"),
            ("target: topic, actions: [sns:Publish, sns:Publish]", "twice"),
            ("target: topic, actions: ['sns:*']", "without wildcards"),
            ("target: topic, actions: ['*']", "without wildcards"),
            ("target: topic, actions: [sns:Publish], why: ''", "one line"),
            ("target: topic, actions: [sns:Publish], why: \"a\\nb\"", "one line"),
            ("target: topic, actions: [sns:Publish], when: 'a b'", "no name"),
            ("target: topic, actions: [sns:Publish], only: {StringLooks: {'aws:a': [b]}}", "StringLooks"),
            ("target: topic, actions: [sns:Publish], only: {StringLike: {}}", "without key"),
            ("target: topic, actions: [sns:Publish], only: {StringLike: {'aws:a': []}}", "without key"),
            ("target: topic, actions: [sns:Publish], only: {StringLike: {account: [b]}}", "without key"),
        ] {
            let said = refused(&format!("  - {{sid: A, {rest}}}"));
            assert!(said.starts_with("admin/calls/door.yaml:4:") && said.contains(why), "{rest}: {said}");
        }
        for (sid, why) in
            [("Logs", "the generator adds"), ("Traces", "the generator adds"), ("a-b", "letters"), ("''", "letters")]
        {
            let said = refused(&format!("  - {{sid: {sid}, target: topic, actions: [sns:Publish]}}"));
            assert!(said.contains(why), "{sid}: {said}");
        }
    }

    #[test]
    fn a_file_has_its_functions_name() {
        let text = file(STATE);
        assert!(parse("member/calls/door.yaml", &text).is_ok());
        for name in ["admin/calls/window.yaml", "admin/calls/door.yml", "admin/calls/redress-door.yaml"] {
            let said = parse(name, &text).unwrap_err().to_string();
            assert!(said.contains("`redress-door`") && said.starts_with(name), "{said}");
        }
    }
}
