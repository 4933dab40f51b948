//! Jira Cloud: an issue by REST v3, its description and comments in the Atlassian Document Format. Its label is what belongs
//! together.
//!
//! Limits: 255 characters of summary, 255 of a label, 32,767 of a text. In ADF, text is text: nothing in it is markup.

use redress_common::ids::Region;
use redress_common::items::destination::Destination;
use serde_json::{Value, json};

use super::http::{Access, HttpRequest, Secret};
use super::links::links;
use super::text::percent;
use super::{About, Told};

const ISSUE_TYPE: &str = "Task";

fn api(to: &Destination, path: &str) -> Secret {
    let at = to.endpoint.as_deref().unwrap_or_default().trim_end_matches('/');
    Secret::new(format!("{at}/rest/api/3/{path}"))
}

/// A label has no spaces, and nothing that a query would read as more than a word.
fn label(told: &Told) -> String {
    let word: String =
        told.problem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    format!("redress-{}", word.chars().take(100).collect::<String>())
}

/// The request that opens an issue.
pub(super) fn issue(to: &Destination, access: &Access, told: &Told, home: &Region) -> HttpRequest {
    let mut labels = vec!["redress".to_owned(), label(told)];
    if told.about == About::Test {
        labels.push("redress-test".to_owned());
    }
    let fields = json!({
        "project": { "key": to.project },
        "issuetype": { "name": to.issue_type.as_deref().unwrap_or(ISSUE_TYPE) },
        "summary": told.headline(250),
        "description": document(told, home),
        "labels": labels,
    });
    HttpRequest::new("POST", api(to, "issue"), json!({ "fields": fields })).by(access)
}

/// The request that adds a comment.
pub(super) fn comment(to: &Destination, access: &Access, told: &Told, key: &str, home: &Region) -> HttpRequest {
    let url = api(to, &format!("issue/{}/comment", percent(key)));
    HttpRequest::new("POST", url, json!({ "body": document(told, home) })).by(access)
}

/// The request that looks for an issue that is open already.
pub(super) fn search(to: &Destination, access: &Access, told: &Told) -> HttpRequest {
    let project = to.project.as_deref().unwrap_or_default();
    let jql = format!("project = \"{project}\" AND labels = \"{}\" AND statusCategory != Done", label(told));
    let body = json!({ "jql": jql, "maxResults": 1, "fields": ["status"] });
    HttpRequest::new("POST", api(to, "search/jql"), body).by(access)
}

/// The key of an issue that was opened or found.
pub(super) fn reference(answer: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let issue = answer["issues"].as_array().map_or(&answer, |list| list.first().unwrap_or(&Value::Null));
    let key = issue["key"].as_str()?;
    let (project, number) = key.rsplit_once('-')?;
    let good = project.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !project.is_empty()
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit());
    good.then(|| key.to_owned())
}

fn paragraph(content: Vec<Value>) -> Value {
    json!({ "type": "paragraph", "content": content })
}

fn plain(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn marked(text: &str, mark: &Value) -> Value {
    json!({ "type": "text", "text": text, "marks": [mark] })
}

fn document(told: &Told, home: &Region) -> Value {
    let strong = json!({ "type": "strong" });
    let mut content = vec![paragraph(vec![plain(&told.headline(300))])];
    let facts = told.facts().into_iter().map(|(name, value)| {
        let item = paragraph(vec![marked(&format!("{name}: "), &strong), plain(&value)]);
        json!({ "type": "listItem", "content": [item] })
    });
    content.push(json!({ "type": "bulletList", "content": facts.collect::<Vec<_>>() }));
    content.extend(told.advice().map(|advice| paragraph(vec![marked("Next step: ", &strong), plain(&advice)])));
    content.extend(told.why().map(|why| paragraph(vec![marked(&why, &json!({ "type": "code" }))])));
    content.extend(
        links(told, home)
            .into_iter()
            .map(|(name, url)| paragraph(vec![marked(name, &json!({ "type": "link", "attrs": { "href": url } }))])),
    );
    if told.ends() {
        content.push(paragraph(vec![plain("The problem has ended; close the issue when nothing else is open.")]));
    }
    json!({ "type": "doc", "version": 1, "content": content })
}
