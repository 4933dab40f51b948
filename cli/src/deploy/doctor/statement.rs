//! Policy documents, as far as the checks read them: who may do what, on which conditions.
//!
//! Not an evaluator. It answers narrow questions about documents that Redress's templates write, and anything else
//! that it cannot read counts as not said.

use serde_json::Value;

/// The statements of a policy: the text of one, also percent-encoded as IAM gives it, or its JSON.
pub(super) fn statements(document: &Value) -> Vec<Value> {
    let parsed = match document {
        Value::String(text) => {
            serde_json::from_str(text).or_else(|_| serde_json::from_str(&decoded(text))).unwrap_or(Value::Null)
        }
        other => other.clone(),
    };
    match &parsed["Statement"] {
        Value::Array(statements) => statements.clone(),
        Value::Object(_) => vec![parsed["Statement"].clone()],
        _ => Vec::new(),
    }
}

/// A value or the values of a list, as texts.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => vec![text],
        _ => Vec::new(),
    }
}

pub(super) fn allows(statement: &Value) -> bool {
    statement["Effect"] == "Allow"
}

/// Whether a statement speaks of an action: by its name, or with a `*` at the end.
pub(super) fn speaks_of(statement: &Value, action: &str) -> bool {
    texts(&statement["Action"]).iter().any(|named| {
        let (named, action) = (named.to_ascii_lowercase(), action.to_ascii_lowercase());
        named.strip_suffix('*').map_or_else(|| named == action, |begins| action.starts_with(begins))
    })
}

/// The AWS principals of a statement; `*` for everybody.
pub(super) fn principals(statement: &Value) -> Vec<&str> {
    match &statement["Principal"] {
        Value::String(everybody) => vec![everybody],
        principal => texts(&principal["AWS"]),
    }
}

/// The values of a condition, whatever the case of its key; `None` when the statement has no such condition.
pub(super) fn condition<'a>(statement: &'a Value, operator: &str, key: &str) -> Option<Vec<&'a str>> {
    let of_operator =
        statement["Condition"].as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(operator))?;
    let (_, value) = of_operator.1.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
    Some(texts(value))
}

/// Percent-encoding undone.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_read_as_text_encoded_or_as_json() {
        let statement = json!({ "Effect": "Allow", "Principal": { "AWS": ["a", "b"] }, "Action": "sts:AssumeRole" });
        let encoded = "%7B%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22AWS%22%3A%5B%22a%22%2C%22b%22%5D%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D";
        for document in [
            json!({ "Statement": [statement] }),
            json!({ "Statement": statement }),
            json!(json!({ "Statement": statement }).to_string()),
            json!(encoded),
        ] {
            assert_eq!(statements(&document), std::slice::from_ref(&statement), "{document}");
        }
        assert!(statements(&json!("100 %")).is_empty());
    }

    #[test]
    fn principals_actions_and_conditions_are_found_however_they_are_written() {
        let statement = json!({
            "Effect": "Allow", "Principal": "*", "Action": ["kms:Decrypt", "s3:*"],
            "Condition": { "StringEquals": { "sts:externalid": "x" } },
        });
        assert_eq!(principals(&statement), ["*"]);
        assert!(speaks_of(&statement, "s3:GetObject") && speaks_of(&statement, "kms:decrypt"));
        assert!(!speaks_of(&statement, "kms:GenerateDataKey"));
        assert_eq!(condition(&statement, "StringEquals", "sts:ExternalId"), Some(vec!["x"]));
        assert_eq!(condition(&statement, "StringLike", "sts:ExternalId"), None);
    }
}
