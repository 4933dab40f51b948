//! Slack: a message of Block Kit, by an incoming webhook, or by a bot's token and `chat.postMessage`.
//!
//! The blocks are rich text, whose text is text: no name in it becomes a link, a mention or bold. Only the line that a
//! notification shows is mrkdwn, and escaped. A block has at most 3000 characters.

use redress_common::ids::Region;
use redress_common::items::destination::Destination;
use serde_json::{Value, json};

use super::Told;
use super::http::{Access, HttpRequest, Secret};
use super::links::links;
use super::text::mrkdwn;

const API: &str = "https://slack.com";

/// The message.
pub(super) fn message(to: &Destination, access: &Access, told: &Told, home: &Region) -> HttpRequest {
    let mut body = json!({
        "text": mrkdwn(&told.headline(250), 250),
        "blocks": blocks(told, home),
        "unfurl_links": false,
        "unfurl_media": false,
    });
    match access {
        Access::Url(url) => HttpRequest::new("POST", url.clone(), body),
        Access::Token(_) | Access::Login(..) => {
            body["channel"] = json!(to.channel);
            let at = to.endpoint.as_deref().unwrap_or(API).trim_end_matches('/');
            HttpRequest::new("POST", Secret::new(format!("{at}/api/chat.postMessage")), body).by(access)
        }
    }
}

fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

fn strong(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into(), "style": { "bold": true } })
}

fn rich(elements: Vec<Value>) -> Value {
    json!({ "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": elements }] })
}

fn blocks(told: &Told, home: &Region) -> Vec<Value> {
    let mut blocks = vec![rich(vec![strong(told.headline(300))])];
    let facts = told.facts().into_iter().flat_map(|(name, value)| [strong(format!("{name}: ")), text(value + "\n")]);
    blocks.push(rich(facts.collect()));
    blocks.extend(told.advice().map(|advice| rich(vec![strong("Next step: "), text(advice)])));
    let links = links(told, home).into_iter().map(|(name, url)| json!({ "type": "link", "url": url, "text": name }));
    let why = told.why().map(|why| json!({ "type": "text", "text": why, "style": { "code": true } }));
    let more: Vec<Value> = links.chain(why).flat_map(|one| [one, text("  ")]).collect();
    if !more.is_empty() {
        blocks.push(rich(more));
    }
    blocks
}
