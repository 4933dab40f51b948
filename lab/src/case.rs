//! A control's case as data: what makes a resource bad amid neighbouring configuration, what a fix must change and what
//! an undo must put back. One YAML file a case in `lab/cases/`, `<control>.yaml` or `<control>-<variant>.yaml`.
//!
//! A case works as the account's administrator, through AWS's API alone: it says what must become of the resource, and
//! knows nothing of how a control does it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redress_common::arn::{Arn, ArnError, Partition};
use redress_common::ids::{AccountId, ControlId, Region};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::scenario::sort_lists;
use crate::service::{Aws, AwsError, Credentials};

/// One case of a control.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// The control that fails.
    pub control: ControlId,
    /// What is bad, for people.
    pub title: String,
    /// The calls that make it so.
    #[serde(default)]
    pub setup: Vec<Step>,
    /// The resource's ARN; `account` for the account itself.
    pub resource: String,
    /// An ARN of the same kind that nothing has; empty when the account itself is the resource, or when the fix removes it.
    #[serde(default)]
    pub gone: String,
    /// What is looked at: the resource, and its neighbours that no fix may touch.
    pub read: BTreeMap<String, Look>,
    /// The calls of the change, exactly.
    pub change: Vec<Step>,
    /// The state after it: a JSON merge patch (RFC 7396) on the state before.
    pub after: Value,
    /// The operations of the undo; or that there is none.
    pub undo: Undo,
    /// What somebody changes by hand after the fix.
    pub by_hand: Option<ByHand>,
    /// The calls that leave the account as other cases expect it: where there can be one of a kind only.
    #[serde(default)]
    pub clean: Vec<Step>,
}

/// A call by the account's administrator.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `service:Operation`, by botocore's names.
    pub call: String,
    /// Its parameters. `$suffix`, `$account`, `$region`, `$partition`, `$arn`, `$name` and what was kept are filled in.
    #[serde(default)]
    pub with: Map<String, Value>,
    /// What of the answer later steps need: name → JSON pointer.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// The error code that means that it is there already, from another case in the same account.
    pub already: Option<String>,
}

/// A part of the state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// `service:Operation`.
    pub call: String,
    /// Its parameters.
    #[serde(default)]
    pub with: Map<String, Value>,
    /// JSON pointer into the answer; the whole of it when empty.
    #[serde(default)]
    pub at: String,
    /// The error code that means that there is none: the part is `null`.
    pub absent: Option<String>,
    /// Only how many there are: for what AWS names by itself when it is made.
    #[serde(default)]
    pub count: bool,
    /// Fields that AWS changes by itself.
    #[serde(default)]
    pub without: Vec<String>,
}

/// What becomes of an undo.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Undo {
    /// These operations are called, in order, and all is as it was.
    Calls(Vec<String>),
    /// It is refused: what was there cannot be had back.
    Refused(Refused),
}

/// Why nothing is put back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// What the refusal must say.
    pub none: String,
}

/// A change by hand, and what it means to a later undo.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ByHand {
    /// The undo is refused.
    #[serde(rename = "drift")]
    Drift(Step),
    /// It is the undo: nothing is left to be put back.
    #[serde(rename = "undo")]
    Undo(Step),
}

/// Why a case cannot be read or played.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The disk said no.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no case.
    #[error("{file}:{line}: {message}; compare with another file in lab/cases/")]
    Form {
        /// The file's name.
        file: String,
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// An AWS call failed.
    #[error("{call} in account {account}: {source}")]
    Call {
        /// `service:Operation`.
        call: String,
        /// Where.
        account: AccountId,
        /// AWS's answer.
        source: AwsError,
    },
    /// A step refers to what no step before it kept, or keeps what an answer lacks.
    #[error("{call}: {what}")]
    Reference {
        /// `service:Operation`, or the field.
        call: String,
        /// What is missing.
        what: String,
    },
    /// The resource's ARN is none.
    #[error(transparent)]
    Arn(#[from] ArnError),
}

/// Every case of a folder, by file stem.
///
/// # Errors
/// When the folder or a file cannot be read, a file is no case, or its name does not begin with its control.
pub fn load(dir: &Path) -> Result<BTreeMap<String, Case>, CaseError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CaseError::Read { path, source }
    };
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".yaml")) else { continue };
        let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
        cases.insert(stem.to_owned(), parse(stem, &text)?);
    }
    Ok(cases)
}

/// One case; `stem` is its file's name without `.yaml`.
///
/// # Errors
/// When it is no case, or not the file's.
pub fn parse(stem: &str, text: &str) -> Result<Case, CaseError> {
    let invalid = |line, message| CaseError::Form { file: format!("{stem}.yaml"), line, message };
    let case: Case = serde_saphyr::from_str(text)
        .map_err(|error| invalid(error.location().map_or(0, |at| at.line()), error.without_snippet().to_string()))?;
    let own = stem.strip_prefix(case.control.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    if own { Ok(case) } else { Err(invalid(1, format!("is not a file of control {}", case.control))) }
}

/// A case that has been set up in an account.
pub struct Played {
    /// The case.
    pub case: Case,
    /// The resource that is bad.
    pub arn: Arn,
    aws: Arc<dyn Aws>,
    account: AccountId,
    region: Region,
    known: BTreeMap<String, Value>,
}

impl Played {
    /// Makes the resource of a case, and makes it bad.
    ///
    /// # Errors
    /// When a call fails or the resource has no ARN.
    pub async fn set_up(
        case: &Case,
        aws: Arc<dyn Aws>,
        account: &AccountId,
        region: &Region,
    ) -> Result<Self, CaseError> {
        let partition = Partition::of_region(region);
        let root = Arn::account_root(partition, account);
        let suffix = &uuid::Uuid::new_v4().simple().to_string()[..8];
        let known = [
            ("suffix", suffix.to_owned()),
            ("account", account.to_string()),
            ("region", region.to_string()),
            ("partition", partition.to_string()),
        ];
        let known = known.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let (account, region) = (account.clone(), region.clone());
        let mut played = Self { case: case.clone(), arn: root, aws, account, region, known };
        for step in &case.setup {
            let answer = match played.call(&step.call, &step.with).await {
                Err(CaseError::Call { source, .. }) if Some(&source.code) == step.already.as_ref() => continue,
                answer => answer?,
            };
            for (name, pointer) in &step.keep {
                let kept = answer.pointer(pointer).cloned().ok_or_else(|| CaseError::Reference {
                    call: step.call.clone(),
                    what: format!("its answer has nothing at `{pointer}`: {answer}"),
                })?;
                played.known.insert(name.clone(), kept);
            }
        }
        if case.resource != "account" {
            played.arn = played.text(&case.resource)?.parse()?;
        }
        let name = played.arn.resource().rsplit(['/', ':']).next().unwrap_or_default().to_owned();
        played.known.insert("arn".to_owned(), played.arn.to_string().into());
        played.known.insert("name".to_owned(), name.into());
        Ok(played)
    }

    /// Makes a call by hand.
    ///
    /// # Errors
    /// When it fails.
    pub async fn step(&self, step: &Step) -> Result<(), CaseError> {
        self.call(&step.call, &step.with).await.map(drop)
    }

    /// What is looked at, as it is now: equal values are equal states, in whatever order AWS lists things.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn state(&self) -> Result<Value, CaseError> {
        let mut state = Map::new();
        for (name, look) in &self.case.read {
            let mut part = match self.call(&look.call, &look.with).await {
                Ok(answer) => answer.pointer(&look.at).cloned().unwrap_or(Value::Null),
                Err(CaseError::Call { source, .. }) if Some(&source.code) == look.absent.as_ref() => Value::Null,
                Err(error) => return Err(error),
            };
            if look.count {
                part = part.as_array().map_or(0, Vec::len).into();
            }
            without(&mut part, &look.without);
            state.insert(name.clone(), part);
        }
        let mut state = Value::Object(state);
        sort_lists(&mut state);
        Ok(state)
    }

    /// The state after the fix, by the case's own word.
    ///
    /// # Errors
    /// When the case refers to something unknown.
    pub fn after(&self, before: &Value) -> Result<Value, CaseError> {
        let mut after = before.clone();
        let patch = self.filled("after", &self.case.after)?;
        merge(&mut after, &patch);
        // A part that is gone is `null`, not left out.
        for (name, part) in patch.as_object().into_iter().flatten() {
            if part.is_null() {
                after[name] = Value::Null;
            }
        }
        sort_lists(&mut after);
        Ok(after)
    }

    /// The change as evidence writes it.
    ///
    /// # Errors
    /// When the case refers to something unknown.
    pub fn change(&self) -> Result<Value, CaseError> {
        let call = |step: &Step| {
            let (service, operation) = step.call.split_once(':').unwrap_or_default();
            let parameters = self.filled(&step.call, &Value::Object(step.with.clone()))?;
            Ok(serde_json::json!({ "Service": service, "Operation": operation, "Parameters": parameters }))
        };
        self.case.change.iter().map(call).collect()
    }

    /// The ARN that nothing has, if the case names one.
    ///
    /// # Errors
    /// When the case refers to something unknown.
    pub fn gone(&self) -> Result<Option<String>, CaseError> {
        if self.case.gone.is_empty() { Ok(None) } else { self.text(&self.case.gone).map(Some) }
    }

    async fn call(&self, call: &str, with: &Map<String, Value>) -> Result<Value, CaseError> {
        let parameters = self.filled(call, &Value::Object(with.clone()))?;
        let (service, operation) = call.split_once(':').unwrap_or_default();
        let credentials = Credentials::root(self.account.as_str());
        let answer = self.aws.call(&credentials, self.region.as_str(), service, operation, parameters).await;
        answer.map_err(|source| CaseError::Call { call: call.to_owned(), account: self.account.clone(), source })
    }

    fn text(&self, template: &str) -> Result<String, CaseError> {
        let filled = self.filled("resource", &template.into())?;
        Ok(filled.as_str().unwrap_or_default().to_owned())
    }

    /// `value` with every `$name` in it replaced: as the value it stands for when it is the whole text, else as text. A
    /// `$` that no letter or digit follows is itself.
    fn filled(&self, of: &str, value: &Value) -> Result<Value, CaseError> {
        Ok(match value {
            Value::String(text) => self.filled_text(of, text)?,
            Value::Array(items) => items.iter().map(|item| self.filled(of, item)).collect::<Result<_, _>>()?,
            Value::Object(map) => {
                let filled = map.iter().map(|(key, item)| {
                    let key = self.filled_text(of, key)?.as_str().unwrap_or_default().to_owned();
                    Ok((key, self.filled(of, item)?))
                });
                Value::Object(filled.collect::<Result<_, CaseError>>()?)
            }
            other => other.clone(),
        })
    }

    fn filled_text(&self, of: &str, text: &str) -> Result<Value, CaseError> {
        let unknown = |name: &str| CaseError::Reference {
            call: of.to_owned(),
            what: format!("`${name}` is neither built in nor kept by a step before"),
        };
        let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        if let Some(name) = text.strip_prefix('$')
            && end(name) == name.len()
        {
            return self.known.get(name).cloned().ok_or_else(|| unknown(name));
        }
        let mut filled = String::new();
        let mut rest = text;
        while let Some((head, tail)) = rest.split_once('$') {
            let (name, after) = tail.split_at(end(tail));
            filled.push_str(head);
            if name.is_empty() {
                filled.push('$');
            } else {
                let value = self.known.get(name).ok_or_else(|| unknown(name))?;
                filled.push_str(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled.into())
    }
}

fn without(value: &mut Value, fields: &[String]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| without(item, fields)),
        Value::Object(map) => {
            map.retain(|name, _| !fields.contains(name));
            map.values_mut().for_each(|item| without(item, fields));
        }
        _ => {}
    }
}

/// RFC 7396.
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { return };
    for (name, part) in patch {
        if part.is_null() {
            map.remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), part);
        }
    }
}
