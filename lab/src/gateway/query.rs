//! AWS's query protocol, both ways: a form's dotted names as a value, and a value as the XML of an answer.
//!
//! Knows no service's shapes: a list is what is numbered under `member`, and every scalar is text.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What a form says beside the operation and the API's version.
pub(super) fn parameters(form: &BTreeMap<String, String>) -> Value {
    let mut root = Branch::default();
    for (name, value) in form.iter().filter(|(name, _)| !matches!(name.as_str(), "Action" | "Version")) {
        root.put(name.split('.'), value);
    }
    root.into_value()
}

/// The answer to an operation.
pub(super) fn answer(operation: &str, service: &str, version: &str, body: &Value) -> String {
    let mut members = String::new();
    write(body, &mut members);
    let result = element(&format!("{operation}Result"), &members);
    let request = element("ResponseMetadata", &element("RequestId", &uuid::Uuid::new_v4().to_string()));
    format!(
        "<{operation}Response xmlns=\"http://{service}.amazonaws.com/doc/{version}/\">{result}{request}</{operation}Response>"
    )
}

/// A name's parts, up to a value.
#[derive(Default)]
struct Branch {
    value: Option<String>,
    below: BTreeMap<String, Branch>,
}

impl Branch {
    fn put<'a>(&mut self, mut name: impl Iterator<Item = &'a str>, value: &str) {
        match name.next() {
            Some(part) => self.below.entry(part.to_owned()).or_default().put(name, value),
            None => self.value = Some(value.to_owned()),
        }
    }

    fn into_value(mut self) -> Value {
        if let Some(value) = self.value.filter(|_| self.below.is_empty()) {
            return value.into();
        }
        if self.below.len() == 1
            && let Some(list) = self.below.remove("member")
        {
            let numbered = list.below.into_iter().filter_map(|(key, item)| Some((key.parse::<u32>().ok()?, item)));
            let items: BTreeMap<u32, Branch> = numbered.collect();
            return items.into_values().map(Self::into_value).collect();
        }
        let members = self.below.into_iter().map(|(name, below)| (name, below.into_value()));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(_, member)| !member.is_null()) {
                let mut inner = String::new();
                write(member, &mut inner);
                out.push_str(&element(name, &inner));
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                write(item, &mut inner);
                out.push_str(&element("member", &inner));
            }
        }
        Value::String(text) => out.push_str(&super::escaped(text)),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn element(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn dotted_names_become_lists_and_structures_in_their_order() {
        let mut accounts: Vec<(String, String)> =
            (1..=11).map(|number| (format!("Accounts.member.{number}"), number.to_string())).collect();
        accounts.reverse();
        let mut form = form(&[
            ("Action", "CreateStackInstances"),
            ("Version", "2010-05-15"),
            ("DeploymentTargets.OrganizationalUnitIds.member.1", "ou-1"),
            ("Parameters.member.1.ParameterKey", "A"),
            ("Parameters.member.1.ParameterValue", ""),
            ("Tags", ""),
        ]);
        form.extend(accounts);
        let read = parameters(&form);
        assert_eq!(read["Accounts"], json!(["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]));
        assert_eq!(read["DeploymentTargets"], json!({ "OrganizationalUnitIds": ["ou-1"] }));
        assert_eq!(read["Parameters"], json!([{ "ParameterKey": "A", "ParameterValue": "" }]));
        assert_eq!(read["Tags"], "", "an empty list is told by its name alone");
        assert!(read.get("Action").is_none() && read.get("Version").is_none());
    }

    #[test]
    fn an_answer_holds_lists_as_members_and_escapes_texts() {
        let body = json!({ "Summaries": [{ "Name": "a<b" }, { "Count": 2, "Gone": null }], "Empty": [] });
        let xml = answer("ListStackSets", "cloudformation", "2010-05-15", &body);
        assert!(xml.starts_with(
            "<ListStackSetsResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"><ListStackSetsResult>"
        ));
        assert!(
            xml.contains(
                "<Summaries><member><Name>a&lt;b</Name></member><member><Count>2</Count></member></Summaries>"
            )
        );
        assert!(xml.contains("<Empty></Empty>") && xml.contains("<RequestId>"), "{xml}");
        let nothing = answer("DeleteStackSet", "cloudformation", "2010-05-15", &json!({}));
        assert!(nothing.contains("<DeleteStackSetResult></DeleteStackSetResult>"), "SDKs look for it: {nothing}");
    }
}
