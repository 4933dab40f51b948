//! What a message of a dead-letter queue is about, and what becomes of one that is brought again.
//!
//! Pure. How often a message was redriven is counted in the ledger, where nobody can take it back, under an id made
//! of the message: a refusal of it stands under the same id.

use std::collections::BTreeMap;

use redress_common::finding::{Check, Inbound, parse};
use redress_common::ids::{RemediationId, excerpt};
use redress_common::ledger::{Record, detail};
use redress_common::names;
use serde_json::{Value, json};

use super::ports::{Letter, Queue};

/// A message that was redriven so often is parked.
pub const MAX_REDRIVES: usize = 3;
/// The code of a redrive's record.
pub const REDRIVEN: &str = "redriven";
/// The code of the record of a message that was parked.
pub const PARKED: &str = "parked";
/// The attribute of a redriven message that says how often it was.
pub const REDRIVES: &str = "Redrives";

/// The queues whose messages are looked at.
pub const LISTED: [Queue; 3] = [Queue::FindingsDeadLetters, Queue::CompletionsDeadLetters, Queue::Parked];
/// The queues whose messages are redriven.
pub const REDRIVEN_FROM: [Queue; 2] = [Queue::FindingsDeadLetters, Queue::CompletionsDeadLetters];

impl Queue {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Findings => names::FINDINGS_QUEUE,
            Self::FindingsDeadLetters => names::FINDINGS_DLQ,
            Self::Completions => names::COMPLETIONS_QUEUE,
            Self::CompletionsDeadLetters => names::COMPLETIONS_DLQ,
            Self::Parked => names::PARKED_QUEUE,
        }
    }

    /// Where its messages belong.
    #[must_use]
    pub const fn source(self) -> Self {
        match self {
            Self::Findings | Self::FindingsDeadLetters | Self::Parked => Self::Findings,
            Self::Completions | Self::CompletionsDeadLetters => Self::Completions,
        }
    }
}

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The control, or the check in its reporter's words.
    pub control: String,
    /// The account.
    pub account: String,
    /// The resource, or the execution.
    pub resource: String,
}

/// What a message is about, as far as it can be read.
#[must_use]
pub fn about(body: &str) -> About {
    let finding = match parse(body.as_bytes()) {
        Ok(Inbound::Findings(findings)) => findings.into_iter().flatten().next(),
        Ok(Inbound::Released { finding, .. }) => Some(*finding),
        Ok(Inbound::Undo { remediation, .. }) => {
            return About { resource: format!("undo of {remediation}"), ..About::default() };
        }
        _ => None,
    };
    if let Some(finding) = finding {
        let control = match finding.check {
            Check::Control(control) => control.to_string(),
            Check::ConfigRule(name) | Check::GuardDutyType(name) => excerpt(&name),
            Check::Containment => "containment".to_owned(),
        };
        return About { control, account: finding.account.to_string(), resource: finding.resource.arn.to_string() };
    }
    let event: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(excerpt).unwrap_or_default();
    About { control: String::new(), account: text(&event["account"]), resource: text(&event["detail"]["ExecutionId"]) }
}

/// Why a message lies there: a code and a reason. EventBridge writes other attributes than we do, SQS none.
#[must_use]
pub fn why(letter: &Letter) -> (String, String) {
    let attribute = |names: [&str; 2]| names.into_iter().find_map(|name| letter.attributes.get(name)).cloned();
    let code = attribute(["Code", "ERROR_CODE"]);
    let reason = attribute(["Reason", "ERROR_MESSAGE"]);
    match (code, reason) {
        (None, None) => ("failed".to_owned(), "every attempt failed; the function's log says why".to_owned()),
        (code, reason) => (excerpt(&code.unwrap_or_default()), crate::report::sanitised(&reason.unwrap_or_default())),
    }
}

/// The id under which a message's redrives are counted.
#[must_use]
pub fn identity(body: &str) -> RemediationId {
    RemediationId::of_rejected(body.as_bytes())
}

/// How often it was redriven, by the ledger.
#[must_use]
pub fn redrives(records: &[Record]) -> usize {
    records.iter().filter(|record| record.detail(detail::CODE) == Some(REDRIVEN)).count()
}

/// Where a message goes that is redriven, with which attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Where to.
    pub to: Queue,
    /// With which attributes.
    pub attributes: BTreeMap<String, String>,
    /// [`REDRIVEN`] or [`PARKED`].
    pub code: &'static str,
}

/// The way of a message that was redriven `before` times.
#[must_use]
pub fn way(letter: &Letter, before: usize) -> Way {
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    if before < MAX_REDRIVES {
        let attributes = [text(REDRIVES, &(before + 1).to_string())].into();
        return Way { to: letter.queue.source(), attributes, code: REDRIVEN };
    }
    let (code, reason) = why(letter);
    let attributes = [
        text(REDRIVES, &before.to_string()),
        text("Code", &code),
        text("Reason", &reason),
        text("Queue", letter.queue.source().name()),
    ];
    // SQS takes no empty attribute.
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Way { to: Queue::Parked, attributes, code: PARKED }
}

/// A message that was redriven so often, as operators see it. The body only when they ask for this one.
#[must_use]
pub fn seen(letter: &Letter, redrives: usize, whole: bool) -> Value {
    let (code, reason) = why(letter);
    let about = about(&letter.body);
    let mut seen = json!({
        "MessageId": letter.id, "Queue": letter.queue.name(), "SentAt": letter.sent_at, "Code": code, "Reason": reason,
        "Redrives": redrives,
        "Control": about.control, "AccountId": about.account, "Resource": about.resource,
        "RemediationId": identity(&letter.body),
    });
    if whole {
        seen["Body"] = serde_json::from_str(&letter.body).unwrap_or_else(|_| letter.body.clone().into());
        seen["Attributes"] = json!(letter.attributes);
    }
    seen
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn letter(body: &str, attributes: &[(&str, &str)]) -> Letter {
        Letter {
            queue: Queue::FindingsDeadLetters,
            id: "m-1".to_owned(),
            receipt: "r".to_owned(),
            body: body.to_owned(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            sent_at: 7,
        }
    }

    #[test]
    fn a_message_says_why_it_lies_there_whoever_put_it_there() {
        let ours = letter("{}", &[("Code", "not-json"), ("Reason", "no brace")]);
        assert_eq!(why(&ours), ("not-json".to_owned(), "no brace".to_owned()));
        let bridge = letter("{}", &[("ERROR_CODE", "NO_PERMISSIONS"), ("ERROR_MESSAGE", "no")]);
        assert_eq!(why(&bridge).0, "NO_PERMISSIONS");
        assert_eq!(why(&letter("{}", &[])).0, "failed");
    }

    #[test]
    fn three_redrives_and_then_it_is_parked_with_the_reason() {
        let letter = letter("x", &[("Code", "not-json"), ("Reason", "no brace")]);
        for before in 0..MAX_REDRIVES {
            let way = way(&letter, before);
            assert_eq!((way.to, way.code), (Queue::Findings, REDRIVEN));
            assert_eq!(way.attributes, [(REDRIVES.to_owned(), (before + 1).to_string())].into());
        }
        let way = way(&letter, MAX_REDRIVES);
        assert_eq!((way.to, way.code), (Queue::Parked, PARKED));
        assert_eq!((way.attributes["Code"].as_str(), way.attributes["Redrives"].as_str()), ("not-json", "3"));
    }

    #[test]
    fn what_a_message_is_about_is_read_of_it_or_left_empty() {
        let event = json!({ "account": "111122223333", "detail": { "ExecutionId": "e-1" } }).to_string();
        assert_eq!(
            about(&event),
            About { account: "111122223333".to_owned(), resource: "e-1".to_owned(), ..About::default() }
        );
        assert_eq!(about("no json"), About::default());
        let event = json!({
            "version": "0", "id": "e", "source": "redress", "detail-type": "Redress Remediation Requested",
            "account": "999999999999", "region": "eu-central-1", "time": "2026-03-01T12:00:00Z", "resources": [],
            "detail": {
                "Control": "S3.8", "AccountId": "111122223333", "Region": "eu-central-1", "ResourceArn": "arn:aws:s3:::b",
                "Mode": "Apply",
            },
        });
        let found = about(&event.to_string());
        assert_eq!((found.control.as_str(), found.resource.as_str()), ("S3.8", "arn:aws:s3:::b"));
    }

    #[test]
    fn a_body_is_shown_only_when_it_is_asked_for() {
        assert!(seen(&letter("{}", &[]), 0, false).get("Body").is_none());
        assert_eq!(seen(&letter("{}", &[]), 0, true)["Body"], json!({}));
    }
}
