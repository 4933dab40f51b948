//! A batch of SQS messages: each on its own, and those that must come again are named to the queue.

use std::future::Future;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};

/// Handle the messages in order. Other messages than those named in the answer are deleted from the queue.
pub async fn each<F, E>(event: SqsEvent, mut handle: impl FnMut(String) -> F) -> SqsBatchResponse
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut response = SqsBatchResponse::default();
    for message in event.records {
        let id = message.message_id.unwrap_or_default();
        if let Err(error) = handle(message.body.unwrap_or_default()).await {
            tracing::warn!(message = id, %error, "the message must come again");
            response.add_failure(id);
        }
    }
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_bad_message_does_not_bring_its_neighbours_again() {
        let event: SqsEvent = serde_json::from_value(serde_json::json!({
            "Records": [{ "messageId": "1", "body": "good" }, { "messageId": "2", "body": "bad" }, { "messageId": "3", "body": "good" }]
        }))
        .unwrap();
        let response = each(event, |body| async move { if body == "good" { Ok(()) } else { Err("no") } }).await;
        assert_eq!(serde_json::to_value(&response).unwrap()["batchItemFailures"][0]["itemIdentifier"], "2");
        assert_eq!(response.batch_item_failures.len(), 1);
    }
}
