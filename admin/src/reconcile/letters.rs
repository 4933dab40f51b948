//! Dead letters without a reason: messages that a function failed on five times, or that EventBridge could not deliver.
//!
//! What Redress itself puts aside carries `Code` and `Reason`, and has its record. These carry nothing, and nobody was told:
//! each gets a record, people are told, and it lies in the same queue again, with a reason. Only then does the old one go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::aws::state_table::{ClaimStatus, StateKey, Subject};
use redress_common::finding::{Inbound, parse};
use redress_common::ids::{AccountId, RemediationId};
use redress_common::ledger::detail;
use redress_common::state::State;
use serde::Deserialize;

use super::ports::{Letter, Queue, Watch};
use super::{Broken, Counts, Note, Reconciler};
use crate::{intake, report};

/// The attribute that says that a message's reason is known.
pub const CODE: &str = "Code";
/// The attribute that says why.
pub const REASON: &str = "Reason";
/// Messages of a queue that one run looks at.
const LETTERS: usize = 100;
/// SQS allows so many attributes; two are ours.
const ATTRIBUTES: usize = 8;

/// Why a message without a reason lies there: a slug, and a sentence.
#[must_use]
pub fn reason(letter: &Letter) -> (&'static str, String) {
    let at = Timestamp::from_millisecond(letter.sent_at).unwrap_or_default();
    // EventBridge says why it could not deliver.
    match letter.attributes.get("ERROR_MESSAGE").or_else(|| letter.attributes.get("ERROR_CODE")) {
        Some(error) => ("undelivered", report::sanitised(&format!("EventBridge could not deliver it: {error}"))),
        None => {
            let function = match letter.queue {
                Queue::Completions | Queue::CompletionsDeadLetters => redress_common::names::COMPLETION_FUNCTION,
                _ => redress_common::names::ORCHESTRATOR_FUNCTION,
            };
            let reason = format!(
                "{function} failed on this message five times; its log says why. It was sent at {at}. When the cause is mended, `redress dlq redrive` sends it again"
            );
            ("dead-letter", reason)
        }
    }
}

/// The attributes that the message gets: its own, and why it lies there.
#[must_use]
pub fn attributes(letter: &Letter, code: &str, reason: &str) -> BTreeMap<String, String> {
    let own = letter.attributes.iter().take(ATTRIBUTES).map(|(name, value)| (name.clone(), value.clone()));
    own.chain([(CODE.to_owned(), code.to_owned()), (REASON.to_owned(), reason.to_owned())]).collect()
}

impl<W: Watch> Reconciler<W> {
    /// Gives a reason to what lies in the dead-letter queues without one.
    pub(super) async fn letters(&self, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        // For so long nobody else sees them, and longer nobody has to: then the claim of a letter may be taken over.
        let seconds = i32::try_from(self.me.times.lease_ms / 1000).unwrap_or(i32::MAX);
        for queue in [Queue::FindingsDeadLetters, Queue::CompletionsDeadLetters] {
            for letter in self.outside.take(queue, LETTERS, seconds).await? {
                if letter.attributes.contains_key(CODE) {
                    let left = self.outside.leave(&letter).await;
                    counts.or_failed("letter", left);
                    continue;
                }
                match self.explain(&letter, now).await {
                    Ok(true) => counts.done("dead-letter"),
                    Ok(false) => {}
                    Err(error) => counts.failed("dead-letter", &error),
                }
            }
        }
        Ok(counts)
    }

    async fn explain(&self, letter: &Letter, now: Timestamp) -> Result<bool, Broken> {
        let (code, reason) = reason(letter);
        let id = RemediationId::of_rejected(format!("dead-letter:{}", letter.id).as_bytes());
        let note = Note {
            id,
            subject: self.subject_of(&letter.body),
            state: State::Failed,
            code,
            reason: reason.clone(),
            more: report::details([(detail::MESSAGE_ID, letter.id.clone())]),
        };
        if !self.note(note, Vec::new(), now).await? && !self.is_told(id).await? {
            return Ok(false);
        }
        self.outside.send(letter.queue, &letter.body, &attributes(letter, code, &reason)).await?;
        self.outside.discard(letter).await?;
        Ok(true)
    }

    /// Whether people were told of a letter, and that was written down. Else another run is at it, or died while it was:
    /// then its lease ends ([`super::stuck`]), and the letter is seen again.
    async fn is_told(&self, id: RemediationId) -> Result<bool, Broken> {
        let key = StateKey::Request(id);
        let claim = self.outside.read(std::slice::from_ref(&key)).await?.claim(&key)?;
        Ok(claim.is_some_and(|claim| claim.status == ClaimStatus::Done))
    }

    /// What a message is about, as far as it says.
    fn subject_of(&self, body: &str) -> Subject {
        let finding = match parse(body.as_bytes()) {
            Ok(Inbound::Findings(findings)) => findings.into_iter().find_map(Result::ok),
            _ => None,
        };
        if let Some(finding) = finding {
            return intake::subject_of(&finding);
        }
        let Envelope { account, detail } = serde_json::from_str(body).unwrap_or_default();
        let title = "A message that could not be dealt with".to_owned();
        let mut subject = self.subject("unknown".to_owned(), "unknown", title, "None");
        subject.account = account.unwrap_or(subject.account);
        if !detail.execution_id.is_empty() {
            subject.finding_id = redress_common::ids::excerpt(&detail.execution_id);
        }
        subject
    }
}

/// What every event of EventBridge's says.
#[derive(Default, Deserialize)]
struct Envelope {
    account: Option<AccountId>,
    #[serde(default)]
    detail: Execution,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    execution_id: String,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn letter(attributes: &[(&str, &str)]) -> Letter {
        Letter {
            queue: Queue::FindingsDeadLetters,
            id: "m".to_owned(),
            receipt: "r".to_owned(),
            body: "{}".to_owned(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            sent_at: 0,
        }
    }

    #[test]
    fn what_eventbridge_says_of_an_undelivered_event_is_the_reason() {
        let (code, text) = reason(&letter(&[("ERROR_CODE", "NO_PERMISSIONS"), ("ERROR_MESSAGE", "not\nallowed")]));
        assert_eq!((code, text.as_str()), ("undelivered", "EventBridge could not deliver it: not allowed"));
        let (code, text) = reason(&letter(&[]));
        assert!(code == "dead-letter" && text.contains("redress-orchestrator") && text.contains("redrive"));
    }

    #[test]
    fn a_message_keeps_what_it_carried_within_the_limit_of_sqs() {
        let many: Vec<(String, String)> = (0..12).map(|n| (format!("a{n:02}"), "x".to_owned())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let given = attributes(&letter(&many), "dead-letter", "why");
        assert_eq!(given.len(), 10);
        assert_eq!((given[CODE].as_str(), given[REASON].as_str()), ("dead-letter", "why"));
        assert_eq!(attributes(&letter(&[("Tries", "2")]), "c", "r")["Tries"], "2");
    }
}
