//! PagerDuty: an event of the Events API v2. What belongs together has one `dedup_key`: told again it rings no second time, and
//! `resolve` ends it.
//!
//! Limits: 512 KB an event, 1024 characters of summary, 255 of `dedup_key`.

use redress_common::finding::SeverityLabel;
use redress_common::ids::Region;
use redress_common::items::destination::Destination;
use serde_json::{Map, Value, json};

use super::http::{Access, HttpRequest, Secret};
use super::links::links;
use super::text::line;
use super::{About, Step, Told};

const API: &str = "https://events.pagerduty.com";

/// The event.
pub(super) fn event(to: &Destination, access: &Access, told: &Told, step: &Step, home: &Region) -> HttpRequest {
    let (Access::Token(key) | Access::Url(key) | Access::Login(key, _)) = access;
    let case = match step {
        Step::Add(case) | Step::End(case) => case,
        Step::Say | Step::Open => &told.problem,
    };
    let mut body = json!({ "routing_key": key.expose(), "dedup_key": line(case, 255) });
    if matches!(step, Step::End(_)) {
        body["event_action"] = json!("resolve");
    } else {
        body["event_action"] = json!("trigger");
        body["payload"] = payload(told);
        body["client"] = json!("Redress");
        let links = links(told, home).into_iter().map(|(name, url)| json!({ "href": url, "text": name }));
        body["links"] = links.collect();
    }
    let at = to.endpoint.as_deref().unwrap_or(API).trim_end_matches('/');
    HttpRequest::new("POST", Secret::new(format!("{at}/v2/enqueue")), body)
}

fn payload(told: &Told) -> Value {
    let severity = match (told.about, told.severity) {
        (About::Test, _) => "info",
        (_, SeverityLabel::Critical) => "critical",
        (_, SeverityLabel::High) => "error",
        (_, SeverityLabel::Medium) => "warning",
        (_, SeverityLabel::Low | SeverityLabel::Informational) => "info",
    };
    let mut details: Map<String, Value> =
        told.facts().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    details.extend(told.advice().map(|advice| ("Next step".to_owned(), advice.into())));
    details.extend(told.why().map(|why| ("More".to_owned(), why.into())));
    let mut payload = json!({
        "summary": told.headline(1024),
        "source": line(&told.resource, 600),
        "severity": severity,
        "timestamp": told.at,
        "group": told.account,
        "custom_details": details,
    });
    if let Some(control) = &told.control {
        payload["class"] = json!(line(control, 60));
    }
    payload
}
