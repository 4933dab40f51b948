//! Reading fields of an event, each error naming the field by its path. Knows JSON, and no reporter.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::Value;

use super::ParseError;
use crate::arn::Arn;
use crate::ids::excerpt;

/// No field that is read is longer, in bytes: an ARN's limit, which no id and no name of AWS passes.
const MAX_TEXT: usize = Arn::MAX_LENGTH;

/// Prose for people to read: cut to `max` characters, without control characters.
pub(super) fn prose(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value inside an event, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The member `key`; `null` counts as absent, as AWS writes both.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self { value, path: self.path_of(key) })
    }

    /// The member `key`, which must be there.
    pub(super) fn need(&self, key: &str) -> Result<Self, ParseError> {
        self.get(key).ok_or_else(|| ParseError::Missing { path: self.path_of(key) })
    }

    /// What a chain of keys leads to.
    pub(super) fn find(&self, keys: &[&str]) -> Option<Self> {
        keys.iter().try_fold(self.clone(), |node, key| node.get(key))
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Result<Vec<Self>, ParseError> {
        let items = self.value.as_array().ok_or_else(|| self.bad("is not a list"))?;
        let node = |(index, value)| Self { value, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(node).collect())
    }

    /// The first element of the list `key`.
    pub(super) fn first(&self, key: &str) -> Result<Self, ParseError> {
        let list = self.need(key)?;
        let first = list.items()?.into_iter().next();
        first.ok_or_else(|| ParseError::Missing { path: format!("{}[0]", list.path) })
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<&'a str, ParseError> {
        let text = self.value.as_str().ok_or_else(|| self.bad("is not a text"))?;
        if text.is_empty() {
            return Err(self.bad("is empty"));
        }
        if text.len() > MAX_TEXT {
            return Err(self.bad(format!("is longer than {MAX_TEXT} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(self.bad("holds a control character"));
        }
        Ok(text)
    }

    /// The text of the member `key`, which must be there.
    pub(super) fn need_text(&self, key: &str) -> Result<&'a str, ParseError> {
        self.need(key)?.text()
    }

    /// The text of the member `key`, when there is one.
    pub(super) fn get_text(&self, key: &str) -> Result<Option<&'a str>, ParseError> {
        self.get(key).map(|node| node.text()).transpose()
    }

    /// The text as [`prose`]; of anything else, none.
    pub(super) fn prose(&self, max: usize) -> String {
        prose(self.value.as_str().unwrap_or_default(), max)
    }

    /// A text of a form of its own.
    pub(super) fn parse<T>(&self) -> Result<T, ParseError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text()?.parse().map_err(|error: T::Err| self.bad(error.to_string()))
    }

    /// An ARN.
    pub(super) fn arn(&self) -> Result<Arn, ParseError> {
        self.text()?.parse().map_err(|source| ParseError::Arn { path: self.path.clone(), source })
    }

    /// A time in RFC 3339.
    pub(super) fn time(&self) -> Result<Timestamp, ParseError> {
        let text = self.text()?;
        text.parse().map_err(|_| self.bad(format!("`{}` is not a time in RFC 3339", excerpt(text))))
    }

    /// A time in Unix milliseconds.
    pub(super) fn unix_milliseconds(&self) -> Result<Timestamp, ParseError> {
        let time = self.value.as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        time.ok_or_else(|| self.bad("is not a time in unix milliseconds"))
    }

    /// A number.
    pub(super) fn number(&self) -> Result<f64, ParseError> {
        self.value.as_f64().ok_or_else(|| self.bad("is not a number"))
    }

    /// The value as it is.
    pub(super) const fn value(&self) -> &'a Value {
        self.value
    }

    /// Whether the value is `true`.
    pub(super) fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    /// Where the value is, such as `detail.findings[0].Id`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The error that this field is wrong.
    pub(super) fn bad(&self, reason: impl Into<String>) -> ParseError {
        ParseError::BadField { path: self.path.clone(), reason: reason.into() }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
