//! The parameters of a request, read from the query protocol, in which every scalar is text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::service::AwsError;

/// Parameters, or a structure among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a>(pub(super) &'a Value);

/// One of a list of template parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameter {
    Value(String),
    /// `UsePreviousValue`.
    Previous,
}

/// AWS's refusal of a request that cannot be right.
pub(super) fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("ValidationError", message)
}

impl<'a> Given<'a> {
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn required(self, name: &str) -> Result<&'a str, AwsError> {
        self.text(name).ok_or_else(|| invalid(format!("{name} is required")))
    }

    pub(super) fn part(self, name: &str) -> Option<Self> {
        self.0.get(name).filter(|value| value.is_object()).map(Given)
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    pub(super) fn flag(self, name: &str) -> Result<Option<bool>, AwsError> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(invalid(format!("{name} is true or false, not {other}"))),
        }
    }

    pub(super) fn number(self, name: &str) -> Result<Option<usize>, AwsError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(format!("{name} is a number, not {text}")))
    }

    /// A list of texts; empty when it is not given.
    pub(super) fn list(self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The same without repetitions.
    pub(super) fn set(self, name: &str) -> BTreeSet<String> {
        self.list(name).into_iter().collect()
    }

    /// Template parameters; `None` when the list is not given at all, which is something else than an empty one.
    pub(super) fn parameters(self, name: &str) -> Option<BTreeMap<String, Parameter>> {
        let list = self.0.get(name)?;
        let read = list.as_array().into_iter().flatten().map(Given).filter_map(|one| {
            let value = || one.0.get("ParameterValue").and_then(Value::as_str).unwrap_or_default().to_owned();
            let previous = one.text("UsePreviousValue") == Some("true");
            let parameter = if previous { Parameter::Previous } else { Parameter::Value(value()) };
            Some((one.text("ParameterKey")?.to_owned(), parameter))
        });
        Some(read.collect())
    }

    pub(super) fn tags(self) -> Option<BTreeMap<String, String>> {
        let list = self.0.get("Tags")?;
        let read = list.as_array().into_iter().flatten().map(Given);
        let read = read.filter_map(|tag| {
            let value = tag.0.get("Value").and_then(Value::as_str).unwrap_or_default();
            Some((tag.text("Key")?.to_owned(), value.to_owned()))
        });
        Some(read.collect())
    }
}
