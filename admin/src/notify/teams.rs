//! Microsoft Teams: an Adaptive Card, to the webhook of a workflow ("When a Teams webhook request is received"). The connectors
//! of Office 365 are retired.
//!
//! A message has at most 28 KB. `TextBlock` and `FactSet` read Markdown, `TextRun` does not: what others wrote is in runs only.

use redress_common::ids::Region;
use serde_json::{Value, json};

use super::http::{Access, HttpRequest};
use super::links::links;
use super::{About, Told};

/// The message.
pub(super) fn message(access: &Access, told: &Told, home: &Region) -> HttpRequest {
    let (Access::Url(url) | Access::Token(url) | Access::Login(url, _)) = access;
    let card = json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card(told, home) });
    HttpRequest::new("POST", url.clone(), json!({ "type": "message", "attachments": [card] }))
}

fn rich(runs: Vec<Value>) -> Value {
    json!({ "type": "RichTextBlock", "inlines": runs })
}

fn run(text: &str) -> Value {
    json!({ "type": "TextRun", "text": text })
}

fn strong(text: &str) -> Value {
    json!({ "type": "TextRun", "text": text, "weight": "Bolder" })
}

fn card(told: &Told, home: &Region) -> Value {
    let colour = if told.about == About::Test || told.ends() { "Good" } else { "Attention" };
    let head =
        json!({ "type": "TextRun", "text": told.headline(300), "weight": "Bolder", "size": "Medium", "color": colour });
    let mut body = vec![rich(vec![head])];
    body.extend(told.facts().into_iter().map(|(name, value)| rich(vec![strong(&format!("{name}: ")), run(&value)])));
    body.extend(told.advice().map(|advice| rich(vec![strong("Next step: "), run(&advice)])));
    body.extend(told.why().map(|why| rich(vec![json!({ "type": "TextRun", "text": why, "fontType": "Monospace" })])));
    let actions =
        links(told, home).into_iter().map(|(name, url)| json!({ "type": "Action.OpenUrl", "title": name, "url": url }));
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": actions.collect::<Vec<_>>(),
        "msteams": { "width": "Full" },
    })
}
