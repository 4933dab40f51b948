//! The queues of the administrator account, and what waits in the dead-letter queues.

use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, GET_QUEUE, GET_QUEUE_URL, Site, number};

static MISSING: Fault = Fault {
    code: "queue-missing",
    severity: Severity::Error,
    about: "a queue is not there",
    why: "findings or outcomes cannot be handed on, or are lost when they cannot be handled",
    todo: "update stack redress-administrator with its own template",
};

static NO_DEAD_LETTERS: Fault = Fault {
    code: "queue-without-dlq",
    severity: Severity::Error,
    about: "a queue sends what cannot be handled to no dead-letter queue, or to another one",
    why: "such a message comes again until its four days are over, and is then lost without a word",
    todo: "update stack redress-administrator with its own template, or: `aws sqs set-queue-attributes --queue-url {thing} --attributes file://redrive.json --region {home}` with its RedrivePolicy",
};

static WAITING: Fault = Fault {
    code: "dlq-not-empty",
    severity: Severity::Warning,
    about: "messages that could not be handled wait in a dead-letter queue",
    why: "each is a finding or an outcome that nobody acted on; after 14 days it is gone",
    todo: "`redress dlq list` says what and why; when that is mended, `redress dlq redrive --reason \"…\"`. What is in redress-reconciler-dlq or redress-checkpoint-dlq is a run of that function: its log says why, and `aws sqs purge-queue --queue-url {thing} --region {home}` forgets it",
};

static PARKED: Fault = Fault {
    code: "messages-parked",
    severity: Severity::Note,
    about: "messages were redriven too often and parked",
    why: "nothing looks at them again by itself",
    todo: "`aws sqs receive-message --queue-url {thing} --region {home}` shows them, each with its reason",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Queues,
    at: Where::Administrator,
    about: "the queues of findings and outcomes: there, each with its dead-letter queue, and nothing in those",
    faults: &[&MISSING, &NO_DEAD_LETTERS, &WAITING, &PARKED],
    rights: &["sqs:GetQueueUrl", "sqs:GetQueueAttributes"],
};

/// Each queue, and where what cannot be handled goes.
const QUEUES: [(&str, Option<&str>); 7] = [
    (names::FINDINGS_QUEUE, Some(names::FINDINGS_DLQ)),
    (names::COMPLETIONS_QUEUE, Some(names::COMPLETIONS_DLQ)),
    (names::FINDINGS_DLQ, None),
    (names::COMPLETIONS_DLQ, None),
    (names::RECONCILER_DLQ, None),
    (names::CHECKPOINT_DLQ, None),
    (names::PARKED_QUEUE, None),
];

/// A queue's URL and attributes; `None` when there is no such queue.
pub(super) async fn ask(site: &Site, queue: &str) -> Result<Option<(String, Value)>, Blind> {
    let Some(found) = site.ask(&GET_QUEUE_URL, json!({ "QueueName": queue })).await? else { return Ok(None) };
    let url = found["QueueUrl"].as_str().unwrap_or_default().to_owned();
    let attributes = site.ask(&GET_QUEUE, json!({ "QueueUrl": url, "AttributeNames": ["All"] })).await?;
    Ok(attributes.map(|mut attributes| (url, attributes["Attributes"].take())))
}

/// How many messages wait in a queue.
pub(super) fn depth(attributes: &Value) -> u64 {
    number(&attributes["ApproximateNumberOfMessages"]).unwrap_or_default()
        + number(&attributes["ApproximateNumberOfMessagesNotVisible"]).unwrap_or_default()
}

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let mut findings = Vec::new();
    for (queue, dead_letters) in QUEUES {
        let found = ask(site, queue).await?;
        findings.extend(judge(&site.place, queue, dead_letters, found.as_ref()));
    }
    Ok(findings)
}

fn judge(place: &Place, queue: &str, dead_letters: Option<&str>, found: Option<&(String, Value)>) -> Vec<Finding> {
    let Some((url, attributes)) = found else {
        return vec![place.finding(&MISSING, queue, format!("there is no queue {queue}"))];
    };
    let mut findings = Vec::new();
    if let Some(wanted) = dead_letters {
        let policy = attributes["RedrivePolicy"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let to = policy.unwrap_or_default()["deadLetterTargetArn"].as_str().unwrap_or_default().to_owned();
        if to.rsplit(':').next() != Some(wanted) {
            let what = format!("queue {queue} does not send what cannot be handled to {wanted}");
            findings.push(place.finding(&NO_DEAD_LETTERS, url, what));
        }
    } else if let waiting @ 1.. = depth(attributes) {
        let fault = if queue == names::PARKED_QUEUE { &PARKED } else { &WAITING };
        findings.push(place.finding(fault, url, format!("{waiting} in {queue}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{administrator, codes};
    use super::*;

    fn queue(attributes: Value) -> (String, Value) {
        ("url".to_owned(), attributes)
    }

    #[test]
    fn a_queue_has_its_dead_letter_queue_and_that_is_empty() {
        let place = administrator();
        let (name, dlq) = QUEUES[0];
        let redrive = |to: &str| {
            queue(
                json!({ "RedrivePolicy": format!("{{\"deadLetterTargetArn\":\"arn:aws:sqs:eu-central-1:1:{to}\",\"maxReceiveCount\":5}}") }),
            )
        };
        assert_eq!(judge(&place, name, dlq, Some(&redrive("redress-findings-dlq"))), []);
        assert_eq!(codes(&judge(&place, name, dlq, Some(&redrive("other")))), ["queue-without-dlq"]);
        assert_eq!(codes(&judge(&place, name, dlq, Some(&queue(json!({}))))), ["queue-without-dlq"]);
        assert_eq!(codes(&judge(&place, name, dlq, None)), ["queue-missing"]);
        let waits = queue(json!({ "ApproximateNumberOfMessages": "2", "ApproximateNumberOfMessagesNotVisible": "1" }));
        let found = judge(&place, names::FINDINGS_DLQ, None, Some(&waits));
        assert_eq!((codes(&found), found[0].what.as_str()), (vec!["dlq-not-empty"], "3 in redress-findings-dlq"));
        assert_eq!(codes(&judge(&place, names::PARKED_QUEUE, None, Some(&waits))), ["messages-parked"]);
        let empty = queue(json!({ "ApproximateNumberOfMessages": "0" }));
        assert_eq!(judge(&place, names::FINDINGS_DLQ, None, Some(&empty)), []);
    }
}
