//! What a runbook says, as one hash: by it `redress deploy doctor` knows a document of this release.
//!
//! Pure. Not of the text: whoever deploys a document may write its JSON otherwise, and `true` as `"true"`.

use redress_common::aws::evidence::canonical_sha256;
use serde_json::Value;

/// SHA-256 of a document's canonical JSON in which every number and truth value is a text, hexadecimal.
///
/// # Errors
/// When the value has no JSON form.
pub fn digest(document: &Value) -> Result<String, serde_json::Error> {
    canonical_sha256(&plain(document))
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Bool(_) | Value::Number(_) => Value::String(value.to_string()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Null | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_a_document_is_written_does_not_matter_and_what_it_says_does() {
        let document = json!({ "isEnd": true, "timeoutSeconds": 900, "steps": [{ "name": "a" }] });
        let as_texts = json!({ "timeoutSeconds": "900", "steps": [{ "name": "a" }], "isEnd": "true" });
        assert_eq!(digest(&document).unwrap(), digest(&as_texts).unwrap());
        for other in
            [json!({ "isEnd": false }), json!({ "isEnd": true, "timeoutSeconds": 900, "steps": [{ "name": "b" }] })]
        {
            assert_ne!(digest(&document).unwrap(), digest(&other).unwrap());
        }
    }
}
