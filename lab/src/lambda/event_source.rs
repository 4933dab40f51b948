//! SQS event source mappings: polls as the function's role, invokes, deletes what succeeded.
//!
//! What fails stays in the queue, invisible until its timeout, and the queue's own redrive policy counts it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Functions, InvocationType, PRINCIPAL};
use crate::faults::Batch;
use crate::service::{AwsError, Credentials};
use crate::shared::Arn;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(500);
/// Batches of one mapping in flight at once, as on AWS before it scales up.
const CONCURRENCY: usize = 5;

/// One enabled mapping of a queue to a function.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    function_arn: String,
    queue_arn: String,
    batch_size: u64,
    partial_failures: bool,
}

/// Follows the mappings of every account until it is dropped.
pub(crate) async fn poll(functions: Arc<Functions>) {
    let mut pollers: HashMap<String, (Mapping, JoinSet<()>)> = HashMap::new();
    let mut generation = None;
    loop {
        // CloudFormation works on after its call returned, so look again once more after every change.
        let now = functions.shared.generation();
        if generation != Some(now) {
            let found = mappings(&functions).await;
            pollers.retain(|id, (mapping, _)| found.get(id) == Some(mapping));
            for (id, mapping) in found {
                pollers.entry(id).or_insert_with(|| {
                    let mut task = JoinSet::new();
                    task.spawn(serve(functions.clone(), mapping.clone()));
                    (mapping, task)
                });
            }
            generation = (!functions.shared.scopes().is_empty()).then_some(now);
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn mappings(functions: &Functions) -> HashMap<String, Mapping> {
    let mut found = HashMap::new();
    for (account, region) in functions.shared.scopes() {
        let listed = match functions
            .shared
            .authority
            .look(&account, &region, "lambda", "ListEventSourceMappings", json!({}))
            .await
        {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(account, region, %error, "event source mappings cannot be listed");
                continue;
            }
        };
        for mapping in listed["EventSourceMappings"].as_array().into_iter().flatten() {
            let text = |key: &str| mapping[key].as_str().unwrap_or_default().to_owned();
            if text("State") != "Enabled" || !text("EventSourceArn").contains(":sqs:") {
                continue;
            }
            let kinds = mapping["FunctionResponseTypes"].as_array();
            found.insert(
                text("UUID"),
                Mapping {
                    function_arn: text("FunctionArn"),
                    queue_arn: text("EventSourceArn"),
                    batch_size: mapping["BatchSize"].as_u64().unwrap_or(10).min(10),
                    partial_failures: kinds
                        .is_some_and(|kinds| kinds.iter().any(|kind| kind == "ReportBatchItemFailures")),
                },
            );
        }
    }
    found
}

async fn serve(functions: Arc<Functions>, mapping: Mapping) {
    let slots = Arc::new(Semaphore::new(CONCURRENCY));
    let mut batches = JoinSet::new();
    loop {
        while batches.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match receive(&functions, &mapping).await {
            Ok(None) => {}
            Ok(Some((poller, messages))) => {
                let (functions, mapping) = (functions.clone(), mapping.clone());
                let queue = Arn::parse(&mapping.queue_arn).map_or("", |arn| arn.resource);
                let turns = functions.shared.deliveries.arrange(queue, messages);
                batches.spawn(async move {
                    hand_over(Arc::new((functions, mapping, poller)), turns).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(queue = mapping.queue_arn, %error, "a queue cannot be polled");
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Who polls what.
struct Poller {
    credentials: Credentials,
    region: String,
    queue_url: String,
}

async fn receive(functions: &Functions, mapping: &Mapping) -> Result<Option<(Poller, Vec<Value>)>, AwsError> {
    let configuration = functions.configuration(super::unqualified(&mapping.function_arn)).await?;
    let queue = Arn::parse(&mapping.queue_arn)
        .ok_or_else(|| AwsError::new("InvalidParameterValueException", "not a queue ARN"))?;
    let authority = &functions.shared.authority;
    let found = authority
        .look(
            queue.account,
            queue.region,
            "sqs",
            "GetQueueUrl",
            json!({ "QueueName": queue.resource, "QueueOwnerAWSAccountId": queue.account }),
        )
        .await?;
    let poller = Poller {
        credentials: authority.session(&configuration.role, &configuration.name, PRINCIPAL, None).await?,
        region: queue.region.to_owned(),
        queue_url: found["QueueUrl"].as_str().unwrap_or_default().to_owned(),
    };
    // As Lambda's own pollers do: it is one of the three rights that they ask of a role.
    let looked = json!({ "QueueUrl": poller.queue_url, "AttributeNames": ["QueueArn", "VisibilityTimeout"] });
    functions.shared.call(&poller.credentials, &poller.region, "sqs", "GetQueueAttributes", looked).await?;
    // A few long polls with one session: policies and queues may change in between.
    for _ in 0..5 {
        let asked = json!({
            "QueueUrl": poller.queue_url, "MaxNumberOfMessages": mapping.batch_size, "WaitTimeSeconds": 1,
            "AttributeNames": ["All"], "MessageAttributeNames": ["All"],
        });
        let mut answer =
            functions.shared.call(&poller.credentials, &poller.region, "sqs", "ReceiveMessage", asked).await?;
        if let Value::Array(messages) = answer["Messages"].take() {
            return Ok((!messages.is_empty()).then_some((poller, messages)));
        }
    }
    Ok(None)
}

/// One list of batches after the other, those of each at the same time.
async fn hand_over(with: Arc<(Arc<Functions>, Mapping, Poller)>, turns: Vec<Vec<Batch>>) {
    for turn in turns {
        let mut batches = JoinSet::new();
        for messages in turn {
            let with = with.clone();
            batches.spawn(async move {
                let (functions, mapping, poller) = &*with;
                if let Err(error) = process(functions, mapping, poller, &messages).await {
                    tracing::warn!(function = mapping.function_arn, %error, "a batch stays in its queue");
                }
            });
        }
        batches.join_all().await;
    }
}

async fn process(
    functions: &Arc<Functions>,
    mapping: &Mapping,
    poller: &Poller,
    messages: &[Value],
) -> Result<(), AwsError> {
    let records: Vec<Value> = messages.iter().map(|message| event_record(message, mapping, &poller.region)).collect();
    let payload = json!({ "Records": records }).to_string().into();
    let arn = super::unqualified(&mapping.function_arn);
    let invoked = functions.invoke(arn, InvocationType::RequestResponse, payload).await?;
    if invoked.error.is_some() {
        let told = String::from_utf8_lossy(&invoked.payload).into_owned();
        return Err(AwsError::new("FunctionError", told));
    }
    let answer: Value = serde_json::from_slice(&invoked.payload).unwrap_or(Value::Null);
    for message in successes(messages, &answer, mapping.partial_failures) {
        let parameters = json!({ "QueueUrl": poller.queue_url, "ReceiptHandle": message["ReceiptHandle"] });
        functions.shared.call(&poller.credentials, &poller.region, "sqs", "DeleteMessage", parameters).await?;
    }
    Ok(())
}

/// The messages that the function's answer lets us delete. An answer that names a failure we do not know
/// means that everything failed, as on AWS.
fn successes<'a>(messages: &'a [Value], answer: &Value, partial_failures: bool) -> Vec<&'a Value> {
    let failures = answer["batchItemFailures"].as_array().filter(|_| partial_failures);
    let Some(failures) = failures else { return messages.iter().collect() };
    let failed: Vec<&str> =
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap_or_default()).collect();
    let known = |id: &&str| messages.iter().any(|message| message["MessageId"] == **id);
    if !failed.iter().all(known) {
        return Vec::new();
    }
    messages.iter().filter(|message| message["MessageId"].as_str().is_none_or(|id| !failed.contains(&id))).collect()
}

fn event_record(message: &Value, mapping: &Mapping, region: &str) -> Value {
    let mut attributes = serde_json::Map::new();
    for (name, attribute) in message["MessageAttributes"].as_object().into_iter().flatten() {
        attributes.insert(name.clone(), json!({
            "stringValue": attribute["StringValue"], "binaryValue": attribute["BinaryValue"], "dataType": attribute["DataType"],
            "stringListValues": [], "binaryListValues": [],
        }));
    }
    json!({
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": attributes,
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": mapping.queue_arn,
        "awsRegion": region,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(messages: Vec<&Value>) -> Vec<String> {
        messages.iter().map(|message| message["MessageId"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn only_reported_failures_stay_in_the_queue() {
        let messages = [json!({ "MessageId": "a" }), json!({ "MessageId": "b" })];
        let answer = json!({ "batchItemFailures": [{ "itemIdentifier": "a" }] });
        assert_eq!(ids(successes(&messages, &answer, true)), ["b"]);
        assert_eq!(ids(successes(&messages, &answer, false)), ["a", "b"], "the mapping does not ask for it");
        assert_eq!(ids(successes(&messages, &Value::Null, true)), ["a", "b"]);
    }

    #[test]
    fn an_unknown_or_empty_failure_id_keeps_the_whole_batch() {
        let messages = [json!({ "MessageId": "a" }), json!({ "MessageId": "b" })];
        for id in ["c", ""] {
            let answer = json!({ "batchItemFailures": [{ "itemIdentifier": id }] });
            assert!(successes(&messages, &answer, true).is_empty(), "{id}");
        }
    }
}
