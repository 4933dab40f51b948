//! A policy document as text, so that an edit leaves every statement it keeps byte for byte; and what a statement says
//! about the public.
//!
//! Pure. JSON in another layout is the same policy to AWS, but not to the person who wrote it, nor to a comparison.

use std::ops::Range;

use serde_json::Value;

use super::NativeError;

/// A policy document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    text: String,
    /// The value of `Statement`.
    value: Range<usize>,
    /// Each statement.
    statements: Vec<Range<usize>>,
}

const UNREADABLE: NativeError =
    NativeError::Refused("the policy document is not one that Redress can edit; nothing was changed");

impl Policy {
    /// Reads a document.
    pub(super) fn parse(text: &str) -> Result<Self, NativeError> {
        let whole: Value = serde_json::from_str(text).map_err(|_| UNREADABLE)?;
        if !whole.is_object() {
            return Err(UNREADABLE);
        }
        let scan = Scan(text.as_bytes());
        let mut found = members(scan, text, scan.next(0)).ok_or(UNREADABLE)?.into_iter();
        let (Some(value), None) = (found.next(), found.next()) else { return Err(UNREADABLE) };
        let statements = match scan.0.get(value.start) {
            Some(b'{') => vec![value.clone()],
            Some(b'[') => items(scan, value.start).ok_or(UNREADABLE)?,
            _ => return Err(UNREADABLE),
        };
        Ok(Self { text: text.to_owned(), value, statements })
    }

    /// A document of one statement.
    pub(super) fn of(statement: &str) -> String {
        format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
    }

    /// The statements.
    pub(super) fn statements(&self) -> impl Iterator<Item = Value> + '_ {
        self.statements.iter().map(|at| serde_json::from_str(&self.text[at.clone()]).unwrap_or_default())
    }

    /// The document with the statements that are kept, word for word, and perhaps one more behind them; `None` when
    /// no statement would be left.
    pub(super) fn edited(&self, keep: impl Fn(&Value) -> bool, add: Option<&str>) -> Option<String> {
        let kept: Vec<usize> =
            self.statements().enumerate().filter(|(_, statement)| keep(statement)).map(|(at, _)| at).collect();
        if kept.is_empty() && add.is_none() {
            return None;
        }
        if kept.len() == self.statements.len() && add.is_none() {
            return Some(self.text.clone());
        }
        let gap = |from: usize, to: usize| &self.text[self.statements[from].end..self.statements[to].start];
        let (first, last) = (self.statements.first(), self.statements.last());
        let open = first.map_or("[", |first| &self.text[self.value.start..first.start]);
        let close = last.map_or("]", |last| &self.text[last.end..self.value.end]);
        let mut list = if open.is_empty() { "[".to_owned() } else { open.to_owned() };
        for (nth, &at) in kept.iter().enumerate() {
            if nth > 0 {
                list.push_str(gap(at - 1, at));
            }
            list.push_str(&self.text[self.statements[at].clone()]);
        }
        if let Some(add) = add {
            if !kept.is_empty() {
                let count = self.statements.len();
                list.push_str(if count > 1 { gap(count - 2, count - 1) } else { "," });
            }
            list.push_str(add);
        }
        list.push_str(if close.is_empty() { "]" } else { close });
        Some(format!("{}{list}{}", &self.text[..self.value.start], &self.text[self.value.end..]))
    }

    /// A `Sid` that no statement has yet.
    pub(super) fn free_sid(&self, wanted: &str) -> String {
        let taken: Vec<Value> = self.statements().map(|statement| statement["Sid"].clone()).collect();
        let numbered = (2..).map(|number| format!("{wanted}{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        names.find(|name| !taken.contains(&Value::from(name.as_str()))).unwrap_or_else(|| wanted.to_owned())
    }
}

/// Where values of well-formed JSON begin and end.
#[derive(Clone, Copy)]
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// The next byte that is no white space.
    fn next(self, mut at: usize) -> usize {
        while self.0.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    }

    /// Behind the value that begins here.
    fn end(self, start: usize) -> Option<usize> {
        let mut depth = 0_usize;
        let mut at = start;
        loop {
            match self.0.get(at)? {
                b'"' => at = self.string(at)?,
                b'{' | b'[' => {
                    depth += 1;
                    at += 1;
                }
                b'}' | b']' if depth == 0 => return Some(at),
                b'}' | b']' => {
                    depth -= 1;
                    at += 1;
                }
                b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return Some(at),
                _ => at += 1,
            }
            if depth == 0 && matches!(self.0[start], b'"' | b'{' | b'[') {
                return Some(at);
            }
        }
    }

    fn string(self, start: usize) -> Option<usize> {
        let mut at = start + 1;
        loop {
            match self.0.get(at)? {
                b'\\' => at += 2,
                b'"' => return Some(at + 1),
                _ => at += 1,
            }
        }
    }
}

/// The values of every `Statement` of the object that begins here.
fn members(scan: Scan<'_>, text: &str, start: usize) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut at = scan.next(start + 1);
    while *scan.0.get(at)? != b'}' {
        let key_end = scan.string(at)?;
        let key: String = serde_json::from_str(&text[at..key_end]).ok()?;
        let value = scan.next(scan.next(key_end) + 1);
        let end = scan.end(value)?;
        if key == "Statement" {
            found.push(value..end);
        }
        at = scan.next(end);
        if *scan.0.get(at)? == b',' {
            at = scan.next(at + 1);
        }
    }
    Some(found)
}

/// The values of the list that begins here.
fn items(scan: Scan<'_>, start: usize) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut at = scan.next(start + 1);
    while *scan.0.get(at)? != b']' {
        let end = scan.end(at)?;
        found.push(at..end);
        at = scan.next(end);
        if *scan.0.get(at)? == b',' {
            at = scan.next(at + 1);
        }
    }
    Some(found)
}

// ------------------------------------------------------------------------------------------- what a statement says

/// A text or a list of texts.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The AWS principals of a statement; `*` for everyone.
pub(super) fn aws_principals(statement: &Value) -> Vec<&str> {
    match &statement["Principal"] {
        Value::String(text) => vec![text],
        principal => texts(&principal["AWS"]),
    }
}

pub(super) fn allows(statement: &Value) -> bool {
    statement["Effect"] == "Allow"
}

/// Whether a statement lets everyone in: it allows, names everyone (or all but some), and no condition pins the
/// caller or the source down.
pub(crate) fn is_public(statement: &Value) -> bool {
    let everyone = aws_principals(statement).contains(&"*") || statement.get("NotPrincipal").is_some();
    allows(statement) && everyone && !is_pinned(statement)
}

/// The conditions that pin down who calls, lower case.
const PINNING: [&str; 12] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
];

fn is_pinned(statement: &Value) -> bool {
    let conditions = statement["Condition"].as_object().into_iter().flatten();
    conditions.into_iter().any(|(operator, keys)| {
        // `…IfExists` and `ForAllValues:` also hold when there is nothing to compare.
        let operator = operator.to_ascii_lowercase();
        let operator = operator.strip_prefix("foranyvalue:").unwrap_or(&operator);
        keys.as_object().into_iter().flatten().any(|(key, values)| {
            let (key, values) = (key.to_ascii_lowercase(), texts(values));
            let fixed = match operator {
                "stringequals" | "stringequalsignorecase" | "arnequals" | "stringlike" | "arnlike" => {
                    PINNING.contains(&key.as_str()) && values.iter().all(|value| is_fixed(value))
                }
                "ipaddress" => key == "aws:sourceip" && values.iter().all(|value| is_narrow(value)),
                _ => false,
            };
            fixed && !values.is_empty()
        })
    })
}

/// Whether a pattern leaves no account, or no S3 bucket, open.
fn is_fixed(value: &str) -> bool {
    if value.contains("${") {
        return false;
    }
    let parts: Vec<&str> = value.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", _, "s3", _, "", bucket] => !bucket.starts_with(['*', '?']),
        ["arn", _, service, _, account, _] => {
            !service.contains('*') && !account.is_empty() && !account.contains(['*', '?'])
        }
        _ => !value.starts_with(['*', '?']),
    }
}

/// Whether a block of addresses is not much of the internet, by S3's measure.
fn is_narrow(cidr: &str) -> bool {
    let (address, length) = cidr.split_once('/').unwrap_or((cidr, "128"));
    let least = if address.contains(':') { 32 } else { 8 };
    length.parse::<u32>().is_ok_and(|length| length >= least)
}

#[cfg(test)]
#[path = "policy_text_tests.rs"]
mod tests;
