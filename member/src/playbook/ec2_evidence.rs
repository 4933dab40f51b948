//! What is taken of an instance that is contained: snapshots of its volumes before and after, and its memory by a command
//! of Systems Manager, where one is named.
//!
//! Nothing here isolates or may hold isolation up: the snapshots before it are begun in a task beside it, and memory is
//! waited for as long as a parameter says and no longer. What could not be taken is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_ec2::types::{CopyTagsFromSource, Filter, InstanceSpecification, ResourceType, Tag, TagSpecification};
use redress_common::aws::failure::AwsFailure;
use redress_common::command_document::CommandDocument;
use redress_common::contract::RemediateRequest;
use redress_common::custody::{Item, ItemKind};
use redress_common::ids::RemediationId;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ec2_instance::CONTAINED;
use crate::custody::item;
use crate::native::{Clients, NativeError, number};
use crate::wire::{Operation, Protocol, Service, Wire};

static SSM: Service = Service {
    name: "ssm",
    signing: "ssm",
    host: "ssm",
    protocol: Protocol::Json { target: "AmazonSSM", version: "1.1" },
};
static SEND_COMMAND: Operation = SSM.operation("SendCommand");
static GET_COMMAND_INVOCATION: Operation = SSM.operation("GetCommandInvocation");

/// Tag of a snapshot: when it was taken.
pub(super) const TAKEN: &str = "redress:taken";
/// Of a volume EC2 begins no other snapshot so soon.
const TOO_SOON: &str = "SnapshotCreationPerVolumeRateExceeded";
/// How long after one the next may be begun: 15 seconds, says AWS.
const APART: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(16) };
/// How long the snapshots that were begun before isolation are waited for after it.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(8) };
/// How long the answer to a command that is sent may take at least.
const SENDING: Duration = Duration::from_secs(3);
/// Between two looks at a command.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(1) };
/// In these states a command is not over.
const AT_IT: [&str; 4] = ["Pending", "InProgress", "Delayed", "Cancelling"];
/// Longest that isolation waits for memory.
const LONGEST: i64 = 30;

/// When a set of snapshots is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Before,
    After,
}

impl Taken {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// How memory is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Memory {
    document: CommandDocument,
    seconds: u64,
}

/// What is taken of one instance.
#[derive(Debug)]
pub(super) struct Acquisition {
    camera: Camera,
    wire: Wire,
    memory: Option<Memory>,
    /// An earlier run of the same remediation was cut off: what it began may be there.
    again: AtomicBool,
    before: Mutex<Option<Begun>>,
    /// When the first set was begun.
    began: Mutex<Option<Instant>>,
    items: Mutex<Vec<Item>>,
}

type Begun = JoinHandle<Result<Vec<Item>, NativeError>>;

impl Acquisition {
    /// Parameters `MemoryCaptureDocument` (the stack's when it is empty, which may be none) and `MemoryCaptureSeconds`.
    ///
    /// # Errors
    /// When one is not what it may be.
    pub(super) fn new(clients: &Clients, request: &RemediateRequest) -> Result<Self, NativeError> {
        let wrong = |name: &str, expected| NativeError::Parameter { name: name.to_owned(), expected };
        let parameter = |name: &str| request.parameters.get(name);
        let own = match parameter("MemoryCaptureDocument").map(Value::as_str) {
            None | Some(Some("")) => None,
            Some(name) => {
                let document = name.and_then(|name| name.parse::<CommandDocument>().ok());
                let expected = "empty, or the name of a document of the account's own, not AWS's and no ARN";
                Some(document.ok_or_else(|| wrong("MemoryCaptureDocument", expected))?)
            }
        };
        let seconds = parameter("MemoryCaptureSeconds").map_or(Some(10), number);
        let seconds = seconds.filter(|seconds| (0..=LONGEST).contains(seconds)).and_then(|one| u64::try_from(one).ok());
        let seconds = seconds.ok_or_else(|| wrong("MemoryCaptureSeconds", "a number of seconds, 0 to 30"))?;
        let memory = own.or_else(|| clients.memory_capture.clone()).map(|document| Memory { document, seconds });
        let camera = Camera {
            ec2: clients.ec2.clone(),
            instance: request.job.resource_name.clone(),
            remediation: request.job.remediation_id,
        };
        Ok(Self {
            camera,
            wire: clients.wire.clone(),
            memory,
            again: AtomicBool::new(false),
            before: Mutex::default(),
            began: Mutex::default(),
            items: Mutex::default(),
        })
    }

    /// The parameters of the call that sends the command; `None` where memory is not captured.
    pub(super) fn command(&self) -> Option<Value> {
        let memory = self.memory.as_ref()?;
        Some(json!({
            "DocumentName": memory.document.as_str(), "InstanceIds": [self.camera.instance],
            "Comment": format!("Redress {}", self.camera.remediation),
        }))
    }

    /// An earlier run was cut off.
    pub(super) fn resumes(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// Begins the snapshots before isolation, and waits for nothing.
    pub(super) fn begin(&self) {
        let (camera, again) = (self.camera.clone(), self.again.load(Ordering::Relaxed));
        // Of a new remediation there are none: looking for them would be a call more before isolation.
        let task = tokio::spawn(async move { camera.take(Taken::Before, again).await });
        put(&self.before, Some(task));
        put(&self.began, Some(Instant::now()));
    }

    /// Sends the command, and waits for its end as long as it may.
    pub(super) async fn capture(&self, input: &Value) -> Result<(), NativeError> {
        let Some(memory) = &self.memory else { return Ok(()) };
        if self.again.load(Ordering::Relaxed) {
            return Err(NativeError::NotNow(
                "memory is not captured a second time: an earlier run was cut off; look at Systems Manager's command history"
                    .to_owned(),
            ));
        }
        let until = Instant::now() + Duration::from_secs(memory.seconds);
        let sent = self.wire.call(&SEND_COMMAND, input);
        let sent = tokio::time::timeout_at(until.max(Instant::now() + SENDING), sent).await;
        let sent = sent.map_err(|_| NativeError::NotNow("SendCommand: no answer in time".to_owned()))??;
        let id = sent.pointer("/Command/CommandId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let status = tokio::time::timeout_at(until, self.ends(&id)).await;
        let status = status.unwrap_or_else(|_| "not over when isolation began".to_owned());
        self.add([item(ItemKind::MemoryCapture, &id, format!("{}: {status}", memory.document))]);
        if status == "Success" {
            return Ok(());
        }
        Err(NativeError::NotNow(format!("memory capture: command {id} of {} is {status}", memory.document)))
    }

    /// How a command ends. Whoever asks says for how long.
    async fn ends(&self, id: &str) -> String {
        let asked = json!({ "CommandId": id, "InstanceId": self.camera.instance });
        loop {
            match self.wire.call(&GET_COMMAND_INVOCATION, &asked).await {
                // Systems Manager has not got that far.
                Err(failure) if failure.code() == Some("InvocationDoesNotExist") => {}
                Err(failure) => return failure.to_string(),
                Ok(answer) => match answer["Status"].as_str() {
                    Some(status) if !AT_IT.contains(&status) => return status.to_owned(),
                    _ => {}
                },
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The snapshots before isolation are waited for; those after it are begun.
    pub(super) async fn finish(&self) -> Result<(), NativeError> {
        match (self.join().await, self.after().await) {
            (Err(before), Err(after)) => Err(NativeError::NotNow(format!("{before}; {after}"))),
            (Err(one), Ok(())) | (Ok(()), Err(one)) => Err(one),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    /// What was taken; what is under way is waited for.
    pub(super) async fn items(&self) -> Vec<Item> {
        // Why it failed is told by the call that waits for it. Here nothing was isolated, and that is told.
        let _ = self.join().await;
        self.items.lock().map(|items| items.clone()).unwrap_or_default()
    }

    async fn join(&self) -> Result<(), NativeError> {
        let begun = self.before.lock().ok().and_then(|mut begun| begun.take());
        let Some(task) = begun else { return Ok(()) };
        let late = |_| NativeError::NotNow("CreateSnapshots before isolation: no answer in time".to_owned());
        let ended = tokio::time::timeout(PATIENCE, task).await.map_err(late)?;
        let broken = |_| NativeError::NotNow("CreateSnapshots before isolation: cut off".to_owned());
        self.add(ended.map_err(broken)??);
        Ok(())
    }

    async fn after(&self) -> Result<(), NativeError> {
        let taken = match self.camera.take(Taken::After, true).await {
            Err(NativeError::Aws(failure)) if failure.code() == Some(TOO_SOON) => {
                let began = self.began.lock().ok().and_then(|began| *began);
                tokio::time::sleep_until(began.unwrap_or_else(Instant::now) + APART).await;
                self.camera.take(Taken::After, true).await
            }
            taken => taken,
        };
        self.add(taken?);
        Ok(())
    }

    fn add(&self, taken: impl IntoIterator<Item = Item>) {
        if let Ok(mut items) = self.items.lock() {
            items.extend(taken);
        }
    }
}

fn put<T>(place: &Mutex<T>, value: T) {
    if let Ok(mut place) = place.lock() {
        *place = value;
    }
}

/// Takes snapshots of all volumes of an instance.
#[derive(Debug, Clone)]
struct Camera {
    ec2: aws_sdk_ec2::Client,
    instance: String,
    remediation: RemediationId,
}

impl Camera {
    /// A set of snapshots; where one may be there, it is looked for first.
    async fn take(&self, taken: Taken, may_be_there: bool) -> Result<Vec<Item>, NativeError> {
        let of = |snapshot: Option<&str>, volume: Option<&str>| {
            let detail = format!("{}, {} isolation", volume.unwrap_or_default(), taken.as_str());
            item(ItemKind::EbsSnapshot, snapshot.unwrap_or_default(), detail)
        };
        let remediation = self.remediation.to_string();
        if may_be_there {
            let filter = |name: &str, value: &str| Filter::builder().name(format!("tag:{name}")).values(value).build();
            let found = self.ec2.describe_snapshots().owner_ids("self").filters(filter(CONTAINED, &remediation));
            let found = found.filters(filter(TAKEN, taken.as_str())).send().await;
            let found = found.map_err(|error| AwsFailure::of("DescribeSnapshots", &error))?;
            if !found.snapshots().is_empty() {
                return Ok(found.snapshots().iter().map(|one| of(one.snapshot_id(), one.volume_id())).collect());
            }
        }
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let tags = TagSpecification::builder().resource_type(ResourceType::Snapshot);
        let tags = tags.tags(tag(CONTAINED, &remediation)).tags(tag(TAKEN, taken.as_str())).build();
        let spec = InstanceSpecification::builder().instance_id(&self.instance).build();
        let made = self.ec2.create_snapshots().instance_specification(spec).tag_specifications(tags);
        let made = made.copy_tags_from_source(CopyTagsFromSource::Volume);
        let made = made.description(format!("Redress {remediation}: {} {} isolation", self.instance, taken.as_str()));
        let made = made.send().await.map_err(|error| AwsFailure::of("CreateSnapshots", &error))?;
        Ok(made.snapshots().iter().map(|one| of(one.snapshot_id(), one.volume_id())).collect())
    }
}
