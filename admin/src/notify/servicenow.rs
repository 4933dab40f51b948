//! ServiceNow: an `incident` by the Table API, and work notes on it. Its `correlation_id` is what belongs together.
//!
//! Limits: 160 characters of `short_description`, 4000 of `description`, 100 of `correlation_id`.

use redress_common::finding::SeverityLabel;
use redress_common::ids::Region;
use redress_common::items::destination::Destination;
use serde_json::{Value, json};

use super::Told;
use super::http::{Access, HttpRequest, Secret};
use super::links::links;
use super::text::{journal, line, percent};

fn table(to: &Destination, rest: &str) -> Secret {
    let at = to.endpoint.as_deref().unwrap_or_default().trim_end_matches('/');
    Secret::new(format!("{at}/api/now/table/incident{rest}"))
}

fn correlation(told: &Told) -> String {
    line(&told.problem, 100)
}

/// The request that opens an incident.
pub(super) fn incident(to: &Destination, access: &Access, told: &Told, home: &Region) -> HttpRequest {
    let (urgency, impact) = match told.severity {
        SeverityLabel::Critical => ("1", "1"),
        SeverityLabel::High => ("1", "2"),
        SeverityLabel::Medium => ("2", "2"),
        SeverityLabel::Low | SeverityLabel::Informational => ("3", "3"),
    };
    let body = json!({
        "short_description": told.headline(160),
        "description": line_by_line(told, home),
        "correlation_id": correlation(told),
        "correlation_display": "Redress",
        "urgency": urgency,
        "impact": impact,
    });
    HttpRequest::new("POST", table(to, "?sysparm_fields=sys_id,number"), body).by(access)
}

/// The request that adds a work note.
pub(super) fn note(to: &Destination, access: &Access, told: &Told, id: &str, home: &Region) -> HttpRequest {
    let mut said = line_by_line(told, home);
    if told.ends() {
        said.push_str("\nThe problem has ended; close the incident when nothing else is open.");
    }
    let body = json!({ "work_notes": journal(&said) });
    HttpRequest::new("PATCH", table(to, &format!("/{}?sysparm_fields=sys_id,number", percent(id))), body).by(access)
}

/// The request that looks for an incident that is open already.
pub(super) fn search(to: &Destination, access: &Access, told: &Told) -> HttpRequest {
    let query = percent(&format!("correlation_id={}^active=true", correlation(told).replace('^', " ")));
    let url = table(to, &format!("?sysparm_query={query}&sysparm_fields=sys_id,number&sysparm_limit=1"));
    HttpRequest { method: "GET", url, authorization: access.authorization(), body: None }
}

/// The `sys_id` of an incident that was opened or found.
pub(super) fn reference(answer: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let result = answer["result"].as_array().map_or(&answer["result"], |list| list.first().unwrap_or(&Value::Null));
    let id = result["sys_id"].as_str()?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

fn line_by_line(told: &Told, home: &Region) -> String {
    let mut lines = vec![told.headline(300)];
    lines.extend(told.facts().into_iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend(told.advice().map(|advice| format!("Next step: {advice}")));
    lines.extend(told.why().map(|why| format!("More: {why}")));
    // A link that would be cut is left out.
    let mut text = lines.join("\n");
    for (name, url) in links(told, home) {
        if text.chars().count() + url.len() + name.len() < 3900 {
            text.push_str(&format!("\n{name}: {url}"));
        }
    }
    text
}
