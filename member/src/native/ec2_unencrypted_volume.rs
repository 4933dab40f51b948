//! `ec2_unencrypted_volume`: the volume that an instance uses is encrypted.
//!
//! EBS encrypts no volume in place. So a copy takes its place: snapshot → encrypted copy of it (mode `Snapshot`, where SSM
//! waits) → new volume of the same size, type, IOPS, throughput, tags and zone → swap at the same device (`Apply`). Only on a
//! stopped instance: what is written between snapshot and swap would be lost. The old volume is kept, and the undo swaps it
//! back; the new one is kept then, too, since somebody may have written to it.
//!
//! The ids of what is made are not known when the plan is made and approved, so its calls name them: [`SOURCE`], [`COPY`],
//! [`NEW`]. Each is found by its tags: the remediation it belongs to, and which one it is. So a call that is made again finds
//! what the first one made.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::types::{self, Filter, ResourceType, TagSpecification};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest, snapshot_id};
use redress_common::ids::{ClaimKey, RemediationId};
use serde::{Deserialize, Serialize};

use super::{Declared, Native, NativeError, parameter, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "ec2_unencrypted_volume",
    reads: &["ec2:DescribeInstances", "ec2:DescribeSnapshots", "ec2:DescribeVolumes"],
    changes: &[
        "ec2:AttachVolume",
        "ec2:CopySnapshot",
        "ec2:CreateSnapshot",
        "ec2:CreateTags",
        "ec2:CreateVolume",
        "ec2:DeleteSnapshot",
        "ec2:DeleteVolume",
        "ec2:DetachVolume",
    ],
    make: |clients, request| Ok(Box::new(UnencryptedVolume::new(clients.ec2.clone(), request)?)),
};

/// In a planned call: the snapshot of the volume.
const SOURCE: &str = "$snapshot";
/// In a planned call: its encrypted copy.
const COPY: &str = "$copy";
/// In a planned call: the new volume.
const NEW: &str = "$new";
/// Tag: the remediation that made it.
const OF: &str = "redress:remediation";
/// Tag: the volume that it is made from.
const FROM: &str = "redress:volume";
/// Tag: which of the things made it is.
const WHAT: &str = "redress:what";
/// What is made tells nothing of the old volume's tags of this beginning.
const OURS: &str = "redress:";
/// How often a volume is looked at until it has come to a state. On a stopped instance it takes seconds.
const LOOKS: usize = 40;
const PAUSE: Duration = Duration::from_millis(1500);

/// The function on one volume.
#[derive(Debug)]
pub struct UnencryptedVolume {
    client: aws_sdk_ec2::Client,
    volume: String,
    region: String,
    /// The remediation under whose id copies are made.
    copier: RemediationId,
    /// This remediation.
    id: RemediationId,
    key: Option<String>,
}

impl UnencryptedVolume {
    /// Parameter `KmsKeyId`: the key of the copy; empty for the account's default key for EBS.
    ///
    /// # Errors
    /// When it is no key.
    pub fn new(client: aws_sdk_ec2::Client, request: &RemediateRequest) -> Result<Self, NativeError> {
        const KEY: &str = "the id, alias or ARN of a KMS key, or empty";
        let RemediateRequest { job, account_id, region, parameters, .. } = request;
        let wrong = || NativeError::Parameter { name: "KmsKeyId".to_owned(), expected: KEY };
        let key = parameter(parameters, "KmsKeyId", KEY)?.as_str().ok_or_else(wrong)?;
        if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b)) || key.len() > 2048 {
            return Err(wrong());
        }
        let claim = ClaimKey::new(account_id, region, &job.control, &job.resource_arn);
        let copier =
            if job.mode == Mode::Snapshot { job.remediation_id } else { snapshot_id(&claim, job.remediation_id) };
        Ok(Self {
            client,
            volume: job.resource_name.clone(),
            region: region.to_string(),
            copier,
            id: job.remediation_id,
            key: (!key.is_empty()).then(|| key.to_owned()),
        })
    }

    async fn volumes(&self, filters: Vec<Filter>) -> Result<Vec<types::Volume>, NativeError> {
        let answer = self.client.describe_volumes().set_filters(Some(filters)).send().await;
        Ok(answer.map_err(|error| AwsFailure::of("DescribeVolumes", &error))?.volumes.unwrap_or_default())
    }

    /// What has these tags of ours.
    fn ours(&self, id: RemediationId, what: Option<&str>) -> Vec<Filter> {
        let filter = |key: &str, value: String| Filter::builder().name(format!("tag:{key}")).values(value).build();
        let mut filters = vec![filter(OF, id.to_string()), filter(FROM, self.volume.clone())];
        filters.extend(what.map(|what| filter(WHAT, what.to_owned())));
        filters
    }

    fn tags(&self, kind: ResourceType, id: RemediationId, what: &str, more: &Tags) -> TagSpecification {
        let ours = [(OF, id.to_string()), (FROM, self.volume.clone()), (WHAT, what.to_owned())];
        let ours = ours.into_iter().map(|(key, value)| (key.to_owned(), value));
        let all = more.clone().into_iter().chain(ours);
        let tags = all.map(|(key, value)| types::Tag::builder().key(key).value(value).build()).collect();
        TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
    }

    async fn snapshots(&self, what: Option<&str>) -> Result<Vec<types::Snapshot>, NativeError> {
        let answer = self.client.describe_snapshots().owner_ids("self");
        let answer = answer.set_filters(Some(self.ours(self.copier, what))).send().await;
        Ok(answer.map_err(|error| AwsFailure::of("DescribeSnapshots", &error))?.snapshots.unwrap_or_default())
    }

    /// The id of a snapshot of ours that is complete.
    async fn complete(&self, what: &'static str) -> Result<String, NativeError> {
        let found = self.snapshots(Some(what)).await?;
        let complete = found.iter().find(|snapshot| snapshot.state() == Some(&types::SnapshotState::Completed));
        complete.and_then(|snapshot| snapshot.snapshot_id.clone()).ok_or_else(|| {
            NativeError::NotNow(format!(
                "the snapshot `{what}` that this remediation works from is not there, or not complete"
            ))
        })
    }

    async fn delete_snapshot(&self, id: &str) -> Result<(), NativeError> {
        let deleted = self.client.delete_snapshot().snapshot_id(id).send().await;
        deleted.map(drop).map_err(|error| AwsFailure::of("DeleteSnapshot", &error).into())
    }

    /// Only on a stopped instance.
    async fn stopped(&self, instance: &str) -> Result<(), NativeError> {
        let answer = self.client.describe_instances().instance_ids(instance).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeInstances", &error))?;
        let instances = answer.reservations().iter().flat_map(types::Reservation::instances);
        let state = instances.filter_map(|instance| instance.state()?.name()).next();
        match state {
            Some(types::InstanceStateName::Stopped) => Ok(()),
            state => {
                let state = state.map_or("in an unknown state", types::InstanceStateName::as_str);
                Err(NativeError::NotNow(format!(
                    "instance {instance} is {state}; its volumes are replaced only while it is stopped. Stop it and ask again"
                )))
            }
        }
    }

    /// Waits until a volume is available, or attached.
    async fn comes_to(&self, volume: &str, attached: bool) -> Result<(), NativeError> {
        for _ in 0..LOOKS {
            let filter = Filter::builder().name("volume-id").values(volume).build();
            let found = self.volumes(vec![filter]).await?;
            let is_there = found.first().is_some_and(|found| {
                let uses =
                    found.attachments().iter().any(|one| one.state() == Some(&types::VolumeAttachmentState::Attached));
                if attached { uses } else { found.state() == Some(&types::VolumeState::Available) }
            });
            if is_there {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let state = if attached { "attached" } else { "available" };
        Err(NativeError::NotNow(format!("volume {volume} did not become {state} within a minute")))
    }

    /// The volume that a planned call names.
    async fn named(&self, name: &str) -> Result<String, NativeError> {
        if name != NEW {
            return Ok(name.to_owned());
        }
        let made = self.volumes(self.ours(self.id, Some(NEW))).await?;
        made.into_iter().find_map(|volume| volume.volume_id).ok_or(NativeError::Refused("the new volume is not there"))
    }

    async fn create_volume(&self, given: CreateVolume) -> Result<(), NativeError> {
        let id = match self.named(NEW).await {
            Ok(id) => id,
            Err(NativeError::Refused(_)) => {
                let answer = self
                    .client
                    .create_volume()
                    .client_token(self.id.to_string())
                    .snapshot_id(self.complete(COPY).await?)
                    .availability_zone(given.availability_zone)
                    .size(given.size)
                    .volume_type(types::VolumeType::from(given.volume_type.as_str()))
                    .set_iops(given.iops)
                    .set_throughput(given.throughput)
                    .encrypted(true)
                    .tag_specifications(self.tags(ResourceType::Volume, self.id, NEW, &given.tags))
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("CreateVolume", &error))?;
                answer.volume_id.unwrap_or_default()
            }
            Err(error) => return Err(error),
        };
        self.comes_to(&id, false).await
    }

    async fn detach(&self, given: Swap) -> Result<(), NativeError> {
        self.stopped(&given.instance_id).await?;
        let volume = self.named(&given.volume_id).await?;
        let detached =
            self.client.detach_volume().volume_id(&volume).instance_id(given.instance_id).device(given.device);
        detached.send().await.map_err(|error| AwsFailure::of("DetachVolume", &error))?;
        self.comes_to(&volume, false).await
    }

    async fn attach(&self, given: Swap) -> Result<(), NativeError> {
        let volume = self.named(&given.volume_id).await?;
        let attached =
            self.client.attach_volume().volume_id(&volume).instance_id(given.instance_id).device(given.device);
        attached.send().await.map_err(|error| AwsFailure::of("AttachVolume", &error))?;
        self.comes_to(&volume, true).await
    }
}

#[async_trait]
impl Native for UnencryptedVolume {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.describe_volumes().volume_ids(&self.volume).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("DescribeVolumes", &error)) {
            Err(failure) if failure.code() == Some("InvalidVolume.NotFound") => return Ok(None),
            answer => answer?,
        };
        let Some(volume) = answer.volumes().first() else { return Ok(None) };
        let from_it = Filter::builder().name(format!("tag:{FROM}")).values(&self.volume).build();
        let replacements = self.volumes(vec![from_it]).await?;
        let mut used = replacements.iter().map(Disk::of).filter(|disk| !disk.attachments.is_empty());
        let state = State { volume: Disk::of(volume), tags: own_tags(volume), replacement: used.next() };
        if !state.volume.encrypted
            && let [attachment] = state.volume.attachments.as_slice()
        {
            self.stopped(&attachment.instance_id).await?;
        }
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        encrypt(&state(now)?, self.key.as_deref()).map(Change)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        put_back(&state(now)?, &state(before)?).map(Change)
    }

    /// A volume that nobody uses is none that a fix led to.
    fn compliant(&self, now: &Image) -> bool {
        state(now).is_ok_and(|state| {
            state.volume.encrypted || state.replacement.as_ref().is_some_and(|new| new.replaces(&state.volume))
        })
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let form = |what| NativeError::Form { what, native: DECLARED.name };
        match call.operation.as_str() {
            // Both were made in mode `Snapshot`, and waited for.
            "CreateSnapshot" => Ok(()),
            "CopySnapshot" => self.complete(COPY).await.map(drop),
            "CreateVolume" => self.create_volume(typed(&call.parameters, "a call", DECLARED.name)?).await,
            "DetachVolume" => self.detach(typed(&call.parameters, "a call", DECLARED.name)?).await,
            "AttachVolume" => self.attach(typed(&call.parameters, "a call", DECLARED.name)?).await,
            _ => Err(form("a call")),
        }
    }

    async fn copy(&self, nth: u32) -> Result<String, NativeError> {
        let what = if nth == 1 { SOURCE } else { COPY };
        if let Some(made) = self.snapshots(Some(what)).await?.into_iter().find_map(|snapshot| snapshot.snapshot_id) {
            return Ok(made);
        }
        let tags = self.tags(ResourceType::Snapshot, self.copier, what, &Tags::new());
        let text = format!("Redress {}: {what} of {}", self.copier, self.volume);
        let made = if what == SOURCE {
            let made = self.client.create_snapshot().volume_id(&self.volume).description(text).tag_specifications(tags);
            made.send().await.map_err(|error| AwsFailure::of("CreateSnapshot", &error))?.snapshot_id
        } else {
            let source = self.complete(SOURCE).await?;
            let made =
                self.client.copy_snapshot().source_snapshot_id(source).source_region(&self.region).encrypted(true);
            let made = made.set_kms_key_id(self.key.clone()).description(text).tag_specifications(tags);
            made.send().await.map_err(|error| AwsFailure::of("CopySnapshot", &error))?.snapshot_id
        };
        made.ok_or(NativeError::Form { what: "a snapshot without an id", native: DECLARED.name })
    }

    async fn copied(&self) -> Result<String, NativeError> {
        let copy = self.complete(COPY).await?;
        for snapshot in self.snapshots(Some(SOURCE)).await? {
            self.delete_snapshot(snapshot.snapshot_id().unwrap_or_default()).await?;
        }
        Ok(copy)
    }

    /// Snapshots of an unfinished copy, or a new volume that never was attached.
    async fn discard(&self, mode: Mode) -> Result<(), NativeError> {
        if mode == Mode::Snapshot {
            for snapshot in self.snapshots(None).await? {
                self.delete_snapshot(snapshot.snapshot_id().unwrap_or_default()).await?;
            }
            return Ok(());
        }
        for volume in self.volumes(self.ours(self.id, Some(NEW))).await? {
            if volume.attachments().is_empty() {
                let deleted =
                    self.client.delete_volume().volume_id(volume.volume_id().unwrap_or_default()).send().await;
                deleted.map_err(|error| AwsFailure::of("DeleteVolume", &error))?;
            }
        }
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------- the decision

type Tags = BTreeMap<String, String>;

/// The image's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    volume: Disk,
    tags: Tags,
    /// The volume that has taken its place.
    replacement: Option<Disk>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Disk {
    volume_id: String,
    encrypted: bool,
    size: i32,
    volume_type: String,
    iops: Option<i32>,
    throughput: Option<i32>,
    availability_zone: String,
    attachments: Vec<Attachment>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Attachment {
    instance_id: String,
    device: String,
}

impl Disk {
    fn of(volume: &types::Volume) -> Self {
        let gone = [types::VolumeAttachmentState::Detached, types::VolumeAttachmentState::Detaching];
        let used = volume.attachments().iter().filter(|one| one.state().is_none_or(|state| !gone.contains(state)));
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let mut attachments: Vec<Attachment> =
            used.map(|one| Attachment { instance_id: text(one.instance_id()), device: text(one.device()) }).collect();
        attachments.sort_by(|one, other| (&one.instance_id, &one.device).cmp(&(&other.instance_id, &other.device)));
        Self {
            volume_id: text(volume.volume_id()),
            encrypted: volume.encrypted() == Some(true),
            size: volume.size().unwrap_or_default(),
            volume_type: volume.volume_type().map(ToString::to_string).unwrap_or_default(),
            iops: volume.iops(),
            throughput: volume.throughput(),
            availability_zone: text(volume.availability_zone()),
            attachments,
        }
    }

    /// Whether this one does what the other did, encrypted.
    fn replaces(&self, old: &Self) -> bool {
        self.encrypted
            && self.size >= old.size
            && self.volume_type == old.volume_type
            && self.availability_zone == old.availability_zone
            && old.attachments.is_empty()
            && self.attachments.len() == 1
    }
}

fn own_tags(volume: &types::Volume) -> Tags {
    let tags = volume.tags().iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())));
    tags.filter(|(key, _)| !key.starts_with("aws:") && !key.starts_with(OURS)).collect()
}

fn state(image: &Image) -> Result<State, NativeError> {
    typed(&image.state, "the state", DECLARED.name)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateSnapshot<'a> {
    volume_id: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CopySnapshot<'a> {
    source_snapshot_id: &'a str,
    encrypted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_key_id: Option<&'a str>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct CreateVolume {
    snapshot_id: String,
    encrypted: bool,
    availability_zone: String,
    size: i32,
    volume_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iops: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    throughput: Option<i32>,
    tags: Tags,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Swap {
    volume_id: String,
    instance_id: String,
    device: String,
}

impl Swap {
    fn of(volume: &str, at: &Attachment) -> Self {
        Self { volume_id: volume.to_owned(), instance_id: at.instance_id.clone(), device: at.device.clone() }
    }
}

fn call<T: Serialize>(operation: &str, parameters: &T) -> Result<Call, NativeError> {
    planned(&DECLARED, "ec2", operation, parameters)
}

/// The calls that put an encrypted volume in the place of this one; none when it is encrypted, or nobody uses it.
fn encrypt(state: &State, key: Option<&str>) -> Result<Vec<Call>, NativeError> {
    let old = &state.volume;
    if old.encrypted || old.attachments.is_empty() {
        return Ok(Vec::new());
    }
    let [at] = old.attachments.as_slice() else {
        return Err(NativeError::Refused("several instances use the volume; it can be replaced only by hand"));
    };
    if state.tags.len() > 47 {
        return Err(NativeError::Refused(
            "the volume has more than 47 tags, so that its copy would have more than AWS allows",
        ));
    }
    // AWS tells of IOPS and throughput also where they cannot be asked for.
    let may = |types: &[&str]| types.contains(&old.volume_type.as_str());
    let new = CreateVolume {
        snapshot_id: COPY.to_owned(),
        encrypted: true,
        availability_zone: old.availability_zone.clone(),
        size: old.size,
        volume_type: old.volume_type.clone(),
        iops: old.iops.filter(|_| may(&["io1", "io2", "gp3"])),
        throughput: old.throughput.filter(|_| may(&["gp3"])),
        tags: state.tags.clone(),
    };
    Ok(vec![
        call("CreateSnapshot", &CreateSnapshot { volume_id: &old.volume_id })?,
        call("CopySnapshot", &CopySnapshot { source_snapshot_id: SOURCE, encrypted: true, kms_key_id: key })?,
        call("CreateVolume", &new)?,
        call("DetachVolume", &Swap::of(&old.volume_id, at))?,
        call("AttachVolume", &Swap::of(NEW, at))?,
    ])
}

/// The calls that swap the old volume back to where it was.
fn put_back(now: &State, before: &State) -> Result<Vec<Call>, NativeError> {
    let [at] = before.volume.attachments.as_slice() else {
        return Err(NativeError::Refused("the volume was not in use before, so there is nothing to swap back"));
    };
    let mut calls = Vec::new();
    if let Some(new) = &now.replacement {
        let there = new.attachments.first().ok_or(NativeError::Form { what: "the state", native: DECLARED.name })?;
        if there != at {
            return Err(NativeError::Refused(
                "the new volume is attached elsewhere than the old one was; swap it back by hand",
            ));
        }
        calls.push(call("DetachVolume", &Swap::of(&new.volume_id, at))?);
    }
    if now.volume.attachments.is_empty() {
        calls.push(call("AttachVolume", &Swap::of(&before.volume.volume_id, at))?);
    }
    Ok(calls)
}

#[cfg(test)]
#[path = "ec2_unencrypted_volume_tests.rs"]
mod tests;
