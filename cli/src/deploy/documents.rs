//! The runbooks of all families as a few templates, one a stack set. Pure.
//!
//! A document keeps its stack set from release to release, for two stacks cannot own one name: which one it is in
//! depends on its name alone. Inside a stack a document is made after the fifth before it, since SSM limits how fast
//! documents are made.

use std::collections::BTreeMap;

use redress_common::ledger::sha256_hex;
use serde_json::{Map, Value, json};

/// How many templates. Never changed: a document would move.
pub(crate) const SETS: usize = 4;
/// How many documents of a stack are made at a time.
const AT_ONCE: usize = 5;
/// CloudFormation takes no longer template.
const LONGEST: usize = 1_000_000;

/// The runbooks cannot be put into templates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentsError {
    #[error("templates/member-documents/{name} cannot be read: {reason}")]
    Unreadable { name: String, reason: String },
    #[error("templates/member-documents/{name}: resource {id} is no AWS::SSM::Document")]
    Other { name: String, id: String },
    #[error("the runbooks of stack set {set} are {length} bytes, and CloudFormation takes {LONGEST}")]
    TooLong { set: usize, length: usize },
}

/// The templates, in the order of their numbers.
pub(crate) fn templates(sources: &BTreeMap<String, String>) -> Result<Vec<String>, DocumentsError> {
    let mut sets: Vec<BTreeMap<String, Value>> = vec![BTreeMap::new(); SETS];
    for (name, text) in sources {
        let read: Result<Value, _> = serde_saphyr::from_str(text);
        let mut read =
            read.map_err(|error| DocumentsError::Unreadable { name: name.clone(), reason: error.to_string() })?;
        let Some(Value::Object(resources)) = read.get_mut("Resources").map(Value::take) else {
            return Err(DocumentsError::Unreadable { name: name.clone(), reason: "it has no Resources".to_owned() });
        };
        for (id, resource) in resources {
            if resource["Type"] != "AWS::SSM::Document" {
                return Err(DocumentsError::Other { name: name.clone(), id });
            }
            let document = resource["Properties"]["Name"].as_str().unwrap_or(&id).to_owned();
            sets[set_of(&document)].insert(id, resource);
        }
    }
    sets.into_iter().enumerate().map(|(index, resources)| template(index + 1, resources)).collect()
}

/// Which template a document is in, from 0.
fn set_of(document: &str) -> usize {
    let hash = sha256_hex(document.as_bytes());
    hash.get(..4).and_then(|digits| usize::from_str_radix(digits, 16).ok()).unwrap_or_default() % SETS
}

fn template(set: usize, documents: BTreeMap<String, Value>) -> Result<String, DocumentsError> {
    let ids: Vec<String> = documents.keys().cloned().collect();
    let mut resources = Map::new();
    for (index, (id, mut resource)) in documents.into_iter().enumerate() {
        if let Some(before) = index.checked_sub(AT_ONCE) {
            resource["DependsOn"] = json!([ids[before]]);
        }
        resources.insert(id, resource);
    }
    if resources.is_empty() {
        // CloudFormation takes no template without resources.
        resources.insert("Nothing".to_owned(), json!({ "Type": "AWS::CloudFormation::WaitConditionHandle" }));
    }
    // As JSON, which is shorter.
    let text = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("Redress, member account, each Region: runbooks, part {set} of {SETS}."),
        "Resources": resources,
    })
    .to_string();
    if text.len() > LONGEST { Err(DocumentsError::TooLong { set, length: text.len() }) } else { Ok(text) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::deploy::release::tests::release;

    #[test]
    fn every_runbook_is_in_one_template_and_they_are_about_as_long() {
        let (_folder, release) = release("0.1.0");
        let templates = templates(&release.documents).unwrap();
        let read: Vec<Value> = templates.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let names: Vec<&str> = read
            .iter()
            .flat_map(|template| template["Resources"].as_object().unwrap().values())
            .map(|resource| resource["Properties"]["Name"].as_str().unwrap())
            .collect();
        let once: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(once.len(), names.len());
        let has_runbook =
            |entry: &redress_common::catalogue::ControlEntry| entry.direct.is_none() && entry.guidance.is_empty();
        for (control, _) in release.catalogue.0.iter().filter(|(_, entry)| has_runbook(entry)) {
            let name = redress_common::names::control_document(control);
            assert!(names.contains(&name.as_str()), "{name}");
        }
        assert!(names.contains(&redress_common::names::CONTROL_DOCUMENT));
        assert!(
            templates.iter().all(|text| text.len() < LONGEST / 2),
            "{:?}",
            templates.iter().map(String::len).collect::<Vec<_>>()
        );
    }

    #[test]
    fn no_more_than_five_are_made_at_a_time() {
        let (_folder, release) = release("0.1.0");
        for text in templates(&release.documents).unwrap() {
            let read: Value = serde_json::from_str(&text).unwrap();
            let resources = read["Resources"].as_object().unwrap();
            let free = resources.values().filter(|resource| resource.get("DependsOn").is_none()).count();
            assert_eq!(free, AT_ONCE);
        }
    }

    #[test]
    fn a_document_keeps_its_place_when_others_come_and_go() {
        let one = |name: &str| {
            format!("Resources:\n  {name}: {{Type: 'AWS::SSM::Document', Properties: {{Name: Redress-{name}}}}}\n")
        };
        let place = |names: &[&str]| {
            let sources = names.iter().map(|name| ((*name).to_owned(), one(name))).collect();
            templates(&sources).unwrap().iter().position(|text| text.contains("Redress-A\"")).unwrap()
        };
        assert_eq!(place(&["A"]), place(&["A", "B", "C", "D", "E", "F", "G"]));
        let wrong = BTreeMap::from([("x".to_owned(), "Resources: {R: {Type: 'AWS::IAM::Role'}}".to_owned())]);
        assert!(matches!(templates(&wrong), Err(DocumentsError::Other { .. })));
    }
}
