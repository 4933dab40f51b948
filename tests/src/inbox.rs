//! Queues, read by tests: what came in is taken and kept, so that every test of a binary can look for its own.

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::world::World;

/// A queue of the administrator account.
#[derive(Debug)]
pub struct Inbox {
    name: &'static str,
    kept: Mutex<Vec<Value>>,
}

impl Inbox {
    /// The queue of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, kept: Mutex::const_new(Vec::new()) }
    }

    /// Everything that came in until now, oldest first.
    pub async fn all(&self, world: &World) -> Vec<Value> {
        let mut kept = self.kept.lock().await;
        let url = world.queue_url(self.name).await;
        loop {
            let asked = json!({
                "QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"], "AttributeNames": ["All"],
            });
            let answer = world.admin_call("sqs", "ReceiveMessage", asked).await;
            let Some(messages) = answer["Messages"].as_array().filter(|list| !list.is_empty()) else { break };
            for message in messages {
                let gone = json!({ "QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"] });
                world.admin_call("sqs", "DeleteMessage", gone).await;
                kept.push(message.clone());
            }
        }
        kept.clone()
    }

    /// What came in and passes, once there is something.
    pub async fn when(&self, world: &World, what: &str, holds: impl Fn(&Value) -> bool) -> Vec<Value> {
        world
            .eventually(what, async || {
                let found: Vec<Value> = self.all(world).await.into_iter().filter(|message| holds(message)).collect();
                (!found.is_empty()).then_some(found)
            })
            .await
    }
}

/// What people were told: the messages of the notification topic, read through a queue that subscribes to it.
#[derive(Debug)]
pub struct Notifications {
    inbox: Inbox,
    subscribed: Mutex<bool>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self::new()
    }
}

impl Notifications {
    /// Not subscribed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { inbox: Inbox::new("test-notifications"), subscribed: Mutex::const_new(false) }
    }

    /// Hears everything from now on.
    pub async fn subscribe(&self, world: &World) {
        let mut subscribed = self.subscribed.lock().await;
        if *subscribed {
            return;
        }
        let topic = world.bed.organisation.topic_arn();
        let statement = json!({
            "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" }, "Action": "sqs:SendMessage", "Resource": "*",
            "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
        });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let asked = json!({ "QueueName": self.inbox.name, "Attributes": { "Policy": policy } });
        let queue = world.admin_call("sqs", "CreateQueue", asked).await;
        let asked = json!({ "QueueUrl": queue["QueueUrl"], "AttributeNames": ["QueueArn"] });
        let arn = world.admin_call("sqs", "GetQueueAttributes", asked).await["Attributes"]["QueueArn"].clone();
        let asked = json!({ "TopicArn": topic, "Protocol": "sqs", "Endpoint": arn });
        world.admin_call("sns", "Subscribe", asked).await;
        *subscribed = true;
    }

    /// The messages about a resource so far: each as `(message, attributes)`.
    pub async fn about(&self, world: &World, resource: &str) -> Vec<(Value, Value)> {
        let all = self.inbox.all(world).await;
        let read = |letter: &Value| {
            let envelope: Value = serde_json::from_str(letter["Body"].as_str()?).ok()?;
            let message: Value = serde_json::from_str(envelope["Message"].as_str()?).ok()?;
            (message["Resource"] == resource).then(|| (message, envelope["MessageAttributes"].clone()))
        };
        all.iter().filter_map(read).collect()
    }

    /// The same, once there is one with this status.
    pub async fn when(&self, world: &World, resource: &str, status: &str) -> Vec<(Value, Value)> {
        let what = format!("people are told that {resource} is {status}");
        world
            .eventually(&what, async || {
                let told = self.about(world, resource).await;
                told.iter().any(|(message, _)| message["Status"] == status).then_some(told)
            })
            .await
    }
}
