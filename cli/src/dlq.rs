//! `redress dlq`: messages that could not be handled, and bringing them again.

use jiff::Timestamp;
use redress_common::operate::Request;
use redress_common::time::seconds_of;
use serde::Deserialize;
use serde_json::Value;

use crate::api;
use crate::args::Dlq;
use crate::aws::Connection;
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::Problem;

/// A message, as the api shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    message_id: String,
    queue: String,
    sent_at: i64,
    code: String,
    reason: String,
    redrives: u32,
    control: String,
    account_id: String,
    resource: String,
    remediation_id: String,
    #[serde(default)]
    body: Value,
}

pub(crate) async fn run(command: Dlq, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    match command {
        Dlq::List => {
            let answer = api::call(connection, &Request::DlqList { message_id: None }).await?;
            let mut text = render(&messages(&answer)?, Timestamp::now(), style);
            if answer["More"] == true {
                text.push_str("there are more; these are the first of each queue\n");
            }
            Answer::new(&answer, text)
        }
        Dlq::Show { id } => {
            let answer = api::call(connection, &Request::DlqList { message_id: Some(id) }).await?;
            let text = messages(&answer)?.iter().map(|message| whole(message, style)).collect::<String>();
            Answer::new(&answer["Messages"], text)
        }
        Dlq::Redrive { id, reason } => {
            let answer = api::call(connection, &Request::DlqRedrive { message_id: id, reason }).await?;
            Answer::new(&answer, redriven(&answer, style))
        }
    }
}

fn messages(answer: &Value) -> Result<Vec<Message>, Problem> {
    serde_json::from_value(answer["Messages"].clone()).map_err(|error| Problem::aws("read the api's answer", &error))
}

fn render(messages: &[Message], now: Timestamp, style: Style) -> String {
    if messages.is_empty() {
        return "every message was handled\n".to_owned();
    }
    let mut groups: Vec<(&str, &str, usize)> = Vec::new();
    for message in messages {
        match groups.iter_mut().find(|(queue, code, _)| *queue == message.queue && *code == message.code) {
            Some((.., count)) => *count += 1,
            None => groups.push((&message.queue, &message.code, 1)),
        }
    }
    let rows = messages.iter().map(|message| {
        let about = match (message.control.as_str(), message.resource.as_str()) {
            ("", "") => "not readable".to_owned(),
            (control, resource) => format!("{control} {resource}").trim().to_owned(),
        };
        [
            message.message_id.clone().into(),
            age(now.as_millisecond() - message.sent_at).into(),
            message.queue.clone().into(),
            Text::toned(Tone::Bad, message.code.clone()),
            message.redrives.to_string().into(),
            about.into(),
            message.reason.clone().into(),
        ]
    });
    let mut text = style.table(["Message", "Age", "Queue", "Code", "Redrives", "About", "Reason"], rows);
    let counted: Vec<String> = groups.iter().map(|(queue, code, count)| format!("{count} {code} in {queue}")).collect();
    text.push_str(&format!("{}\n", counted.join("; ")));
    text
}

/// How long ago that is.
pub(crate) fn age(ms: i64) -> String {
    match ms / 1_000 {
        seconds @ ..120 => format!("{} s", seconds.max(0)),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn whole(message: &Message, style: Style) -> String {
    let fields = style.fields(&[
        ("Message", message.message_id.clone()),
        ("Queue", message.queue.clone()),
        ("Sent", seconds_of(message.sent_at)),
        ("Code", message.code.clone()),
        ("Reason", message.reason.clone()),
        ("Redrives", message.redrives.to_string()),
        ("Control", message.control.clone()),
        ("Account", message.account_id.clone()),
        ("Resource", message.resource.clone()),
        ("In the ledger", message.remediation_id.clone()),
    ]);
    let body = serde_json::to_string_pretty(&message.body).unwrap_or_default();
    format!("{fields}{body}\n")
}

fn redriven(answer: &Value, style: Style) -> String {
    let done = answer["Redriven"].as_array().map(Vec::as_slice).unwrap_or_default();
    if done.is_empty() {
        return "there is nothing to redrive\n".to_owned();
    }
    let rows = done.iter().map(|one| {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let tone = if one["Outcome"] == "parked" { Tone::Warning } else { Tone::Good };
        [
            text("MessageId").into(),
            Text::toned(tone, text("Outcome")),
            text("To").into(),
            one["Redrives"].to_string().into(),
            text("RemediationId").into(),
        ]
    });
    style.table(["Message", "Outcome", "To", "Redrives", "Ledger record"], rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_list_says_what_each_message_is_about_and_why_it_lies_there() {
        let message = |id: &str, code: &str, control: &str, resource: &str| {
            json!({
                "MessageId": id, "Queue": "redress-findings-dlq", "SentAt": 1_800_000_000_000_i64, "Code": code,
                "Reason": "in a sentence", "Redrives": 1, "Control": control, "AccountId": "111122223333",
                "Resource": resource, "RemediationId": "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968",
            })
        };
        let answer = json!({ "Messages": [
            message("m-1", "start-failed", "S3.8", "arn:aws:s3:::reports"), message("m-2", "not-json", "", ""),
            message("m-3", "not-json", "", ""),
        ] });
        let now = Timestamp::from_millisecond(1_800_000_000_000 + 7_300_000).unwrap();
        insta::assert_snapshot!(render(&messages(&answer).unwrap(), now, Style::PLAIN));
    }
}
