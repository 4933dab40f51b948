//! What Lambda does with what a function writes: puts it into the function's log group, as the function's role.
//!
//! Off the hot path, in batches: no invocation waits for it. A role that may not write loses its lines, as on AWS.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::service::Credentials;
use crate::shared::Shared;

const PAUSE: Duration = Duration::from_millis(250);

/// Lines that are not written yet.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Value>>>);

impl Lines {
    pub(crate) fn push(&self, line: &str) {
        // CloudWatch takes no empty event.
        if !line.is_empty() {
            let event = json!({ "timestamp": Timestamp::now().as_millisecond(), "message": line });
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The log stream of one process.
pub(crate) struct Stream {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) lines: Lines,
    region: String,
    credentials: Credentials,
    created: bool,
}

impl Stream {
    pub(crate) fn new(function: &str, region: &str, credentials: Credentials) -> Self {
        Self {
            group: format!("/aws/lambda/{function}"),
            name: format!("lab/[$LATEST]{}", uuid::Uuid::new_v4().simple()),
            lines: Lines::default(),
            region: region.to_owned(),
            credentials,
            created: false,
        }
    }

    async fn call(&self, shared: &Shared, operation: &str, more: Option<Vec<Value>>) -> bool {
        let mut parameters = json!({ "logGroupName": self.group, "logStreamName": self.name });
        if let Some(events) = more {
            parameters["logEvents"] = Value::Array(events);
        }
        let answer = shared.call(&self.credentials, &self.region, "logs", operation, parameters).await;
        if let Err(error) = &answer {
            tracing::debug!(group = self.group, %error, operation, "a function's log is not written");
        }
        answer.is_ok()
    }
}

/// The log streams of every process that runs or ran.
#[derive(Default)]
pub(crate) struct LogGroup {
    streams: Mutex<Vec<Stream>>,
}

impl LogGroup {
    pub(crate) fn follow(&self, stream: Stream) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    pub(crate) async fn write(&self, shared: &Shared) {
        let mut known: Vec<Stream> = Vec::new();
        loop {
            known.append(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner));
            for stream in &mut known {
                let events = stream.lines.take();
                if events.is_empty() {
                    continue;
                }
                stream.created = stream.created || stream.call(shared, "CreateLogStream", None).await;
                if stream.created {
                    stream.call(shared, "PutLogEvents", Some(events)).await;
                }
            }
            sleep(PAUSE).await;
        }
    }
}
