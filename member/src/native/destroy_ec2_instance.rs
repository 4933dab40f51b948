//! `destroy_ec2_instance`: an instance that Redress contained is terminated, after a last snapshot of each of its volumes.
//!
//! Nobody has an instance back. So it is done to what is contained only, by a plan that people approved, and after mode
//! `Snapshot`: one call begins a snapshot of every volume at one moment, and SSM waits for one after the other until all are
//! complete. Snapshots are evidence: nothing here deletes one, and what is not complete in time goes on. Termination
//! protection, which containment turned on, goes off right before the end, and on again when the end fails. Volumes that do
//! not go with the instance stay. The state is how the instance was set up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_ec2::types::{
    self, AttributeBooleanValue, CopyTagsFromSource, Filter, InstanceSpecification, ResourceType, SnapshotState,
    TagSpecification,
};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest, snapshot_id};
use redress_common::ids::{ClaimKey, RemediationId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ec2_instance::{Volume, described, is_gone, is_protected, known, volumes};
use super::{Clients, Declared, Native, NativeError, planned, typed, untyped};
use crate::judge;
use crate::playbook::ec2_instance::{CONTAINED, DESCRIBE_SCALED, GROUP, QUARANTINE};
use crate::wire::Wire;

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "destroy_ec2_instance",
    reads: &[
        "autoscaling:DescribeAutoScalingInstances",
        "ec2:DescribeInstanceAttribute",
        "ec2:DescribeInstances",
        "ec2:DescribeSnapshots",
    ],
    changes: &["ec2:CreateSnapshots", "ec2:CreateTags", "ec2:ModifyInstanceAttribute", "ec2:TerminateInstances"],
    make: |clients, request| Ok(Box::new(DestroyInstance::new(clients, request))),
};

/// Tag: the remediation that made it.
const OF: &str = "redress:remediation";
/// Tag: the instance whose volume it is of.
const FROM: &str = "redress:instance";
/// So many ids of snapshots are told; object metadata holds no more than 2 KB.
const TOLD: usize = 20;

const NOT_APPROVED: NativeError = NativeError::Refused(
    "nothing is destroyed but by a plan that people approved, and this run has none; ask with `redress remediate`, and have \
     another person approve it",
);
const NOT_CONTAINED: NativeError = NativeError::Refused(
    "the instance is not contained by Redress: each of its network interfaces must be in group `redress-quarantine` alone, \
     and the instance must have tag `redress:contained`; contain it first (`redress contain`), then ask again",
);
const NO_VOLUME: NativeError = NativeError::Refused(
    "no EBS volume is attached to the instance, so no snapshot would be left of it; take what you need of it, and \
     terminate it by hand",
);
const IN_SERVICE: NativeError = NativeError::Refused(
    "the instance is in service in its Auto Scaling group; put it into standby (`aws autoscaling enter-standby`) or detach \
     it, then ask again",
);

/// The function on one instance.
#[derive(Debug)]
pub struct DestroyInstance {
    ec2: aws_sdk_ec2::Client,
    wire: Wire,
    instance: String,
    /// The remediation under whose id the snapshots are made.
    copier: RemediationId,
    /// It changes something, and no approved plan came with it.
    is_unapproved: bool,
    is_undo: bool,
    /// This run has turned termination protection off.
    is_bare: AtomicBool,
    /// The snapshots that are left of it, when the last look found it gone.
    left: Mutex<Vec<String>>,
}

impl DestroyInstance {
    fn new(clients: &Clients, request: &RemediateRequest) -> Self {
        let RemediateRequest { job, account_id, region, .. } = request;
        let claim = ClaimKey::new(account_id, region, &job.control, &job.resource_arn);
        let copier =
            if job.mode == Mode::Snapshot { job.remediation_id } else { snapshot_id(&claim, job.remediation_id) };
        Self {
            ec2: clients.ec2.clone(),
            wire: clients.wire.clone(),
            instance: job.resource_name.clone(),
            copier,
            is_unapproved: matches!(job.mode, Mode::Apply | Mode::Snapshot) && job.plan_sha256.is_empty(),
            is_undo: job.mode == Mode::Restore || !job.source_evidence_key.is_empty(),
            is_bare: AtomicBool::new(false),
            left: Mutex::default(),
        }
    }

    async fn scaling(&self, instance: &types::Instance) -> Result<Option<Scaling>, NativeError> {
        if !instance.tags().iter().any(|tag| tag.key() == Some(GROUP)) {
            return Ok(None);
        }
        let answer = self.wire.call(&DESCRIBE_SCALED, &json!({ "InstanceIds": [self.instance] })).await?;
        let Some(scaled) = answer.pointer("/AutoScalingInstances/0") else { return Ok(None) };
        let text = |name: &str| scaled[name].as_str().unwrap_or_default().to_owned();
        Ok(Some(Scaling { group: text("AutoScalingGroupName"), lifecycle: text("LifecycleState") }))
    }

    /// The snapshots that a remediation made of the instance's volumes; of any, where none is named.
    async fn snapshots(&self, of: Option<RemediationId>) -> Result<Vec<Taken>, NativeError> {
        let filter = |key: &str, value: String| Filter::builder().name(format!("tag:{key}")).values(value).build();
        let mut filters = vec![filter(FROM, self.instance.clone())];
        filters.extend(of.map(|id| filter(OF, id.to_string())));
        let answer = self.ec2.describe_snapshots().owner_ids("self").set_filters(Some(filters)).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeSnapshots", &error))?;
        let taken = answer.snapshots().iter().map(|snapshot| {
            Taken::new(snapshot.snapshot_id(), snapshot.volume_id(), snapshot.volume_size(), snapshot.state())
        });
        Ok(taken.collect())
    }

    /// Begins the snapshots, of all volumes at one moment.
    async fn take(&self) -> Result<Vec<Taken>, NativeError> {
        let tags = [(OF, self.copier.to_string()), (FROM, self.instance.clone())];
        let tags = tags.map(|(key, value)| types::Tag::builder().key(key).value(value).build()).to_vec();
        let tags = TagSpecification::builder().resource_type(ResourceType::Snapshot).set_tags(Some(tags)).build();
        let of = InstanceSpecification::builder().instance_id(&self.instance).build();
        let made = self.ec2.create_snapshots().instance_specification(of).tag_specifications(tags);
        let made = made.copy_tags_from_source(CopyTagsFromSource::Volume);
        let made = made.description(format!("Redress {}: {} before it is destroyed", self.copier, self.instance));
        let made = made.send().await.map_err(|error| AwsFailure::of("CreateSnapshots", &error))?;
        let taken = made.snapshots().iter().map(|snapshot| {
            Taken::new(snapshot.snapshot_id(), snapshot.volume_id(), snapshot.volume_size(), snapshot.state())
        });
        Ok(taken.collect())
    }

    /// The snapshots of this remediation: complete, and one of every volume that is attached now.
    async fn complete(&self, instance: &types::Instance) -> Result<Vec<Taken>, NativeError> {
        let taken = self.snapshots(Some(self.copier)).await?;
        suffice(&taken, volumes(instance).values()).map_err(NativeError::NotNow)?;
        Ok(taken)
    }

    async fn found(&self) -> Result<Option<types::Instance>, NativeError> {
        described(&self.ec2, &self.instance).await
    }

    async fn protect(&self, value: bool) -> Result<(), NativeError> {
        let value = AttributeBooleanValue::builder().value(value).build();
        let asked = self.ec2.modify_instance_attribute().instance_id(&self.instance).disable_api_termination(value);
        asked.send().await.map_err(|error| AwsFailure::of("ModifyInstanceAttribute", &error))?;
        Ok(())
    }

    async fn terminate(&self) -> Result<(), NativeError> {
        let Some(instance) = self.found().await? else { return Ok(()) };
        // Somebody may have attached a volume since the snapshots were taken.
        self.complete(&instance).await?;
        let terminated = self.ec2.terminate_instances().instance_ids(&self.instance).send().await;
        terminated.map(drop).map_err(|error| AwsFailure::of("TerminateInstances", &error).into())
    }
}

#[async_trait]
impl Native for DestroyInstance {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let instance = match known(&self.ec2, &self.instance).await? {
            Some(instance) if !is_gone(&instance) => instance,
            // EC2 has forgotten it. Whoever wants it back is told why that cannot be.
            None if !self.is_undo => return Ok(None),
            _ => {
                if self.is_undo {
                    let taken = self.snapshots(None).await?;
                    if let Ok(mut left) = self.left.lock() {
                        *left = taken.into_iter().map(|one| one.snapshot).collect();
                    }
                }
                return Ok(Some(judge::absent()));
            }
        };
        let protected = is_protected(&self.ec2, &self.instance);
        let (is_protected, scaling) = tokio::try_join!(protected, self.scaling(&instance))?;
        let state = State { is_protected, scaling, ..State::of(&instance) };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        if !now.present {
            return Ok(Change::default());
        }
        if self.is_unapproved {
            return Err(NOT_APPROVED);
        }
        destroy(&typed(&now.state, "the state", DECLARED.name)?).map(Change)
    }

    fn plan_restore(&self, _: &Image, _: &Image) -> Result<Change, NativeError> {
        let left = self.left.lock().map(|left| left.join(", ")).unwrap_or_default();
        let left = if left.is_empty() {
            "no snapshot of it with tag `redress:instance` is there any more".to_owned()
        } else {
            format!("its volumes can be made again from {left}, and its evidence says how it was set up")
        };
        Err(NativeError::NotNow(format!("a terminated instance cannot be had back; {left}")))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            // They were begun in mode `Snapshot`, and waited for.
            "CreateSnapshots" => match self.found().await? {
                Some(instance) => self.complete(&instance).await.map(drop),
                None => Ok(()),
            },
            "ModifyInstanceAttribute" => {
                self.is_bare.store(true, Ordering::Relaxed);
                self.protect(false).await
            }
            "TerminateInstances" => self.terminate().await,
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }

    /// Only its termination protection went off.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let read = |image: &Image| typed::<State>(&image.state, "the state", DECLARED.name);
        let (Ok(now), Ok(before)) = (read(now), read(before)) else { return false };
        !now.is_protected && State { is_protected: true, ..now } == before
    }

    /// All are begun by the first; each waits for the largest that is not complete.
    async fn copy(&self, _: u32) -> Result<String, NativeError> {
        let mut taken = self.snapshots(Some(self.copier)).await?;
        if taken.is_empty() {
            taken = self.take().await?;
        }
        awaited(&taken).map(str::to_owned).map_err(NativeError::NotNow)
    }

    async fn copied(&self) -> Result<String, NativeError> {
        let Some(instance) = self.found().await? else {
            return Err(NativeError::NotNow("the instance is gone".to_owned()));
        };
        Ok(named(&self.complete(&instance).await?))
    }

    fn keeps_copies(&self) -> bool {
        true
    }

    /// Snapshots stay. An instance that was to be terminated, and is not, gets its protection back.
    async fn discard(&self, mode: Mode) -> Result<(), NativeError> {
        if mode == Mode::Apply && self.is_bare.load(Ordering::Relaxed) && self.found().await?.is_some() {
            return self.protect(true).await;
        }
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------- the snapshots

/// A snapshot of one of the instance's volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    snapshot: String,
    volume: String,
    gibibytes: i32,
    state: Option<SnapshotState>,
}

impl Taken {
    fn new(
        snapshot: Option<&str>,
        volume: Option<&str>,
        gibibytes: Option<i32>,
        state: Option<&SnapshotState>,
    ) -> Self {
        Self {
            snapshot: snapshot.unwrap_or_default().to_owned(),
            volume: volume.unwrap_or_default().to_owned(),
            gibibytes: gibibytes.unwrap_or_default(),
            state: state.cloned(),
        }
    }

    fn is_complete(&self) -> bool {
        self.state == Some(SnapshotState::Completed)
    }
}

/// The one that SSM waits for next; any, when all are complete.
fn awaited(taken: &[Taken]) -> Result<&str, String> {
    if let Some(failed) = taken.iter().find(|one| one.state == Some(SnapshotState::Error)) {
        return Err(format!("snapshot {} of {} failed", failed.snapshot, failed.volume));
    }
    let next = taken.iter().max_by_key(|one| (!one.is_complete(), one.gibibytes, one.snapshot.as_str()));
    next.map(|one| one.snapshot.as_str()).ok_or_else(|| "no snapshot was begun".to_owned())
}

/// Whether every volume has a complete snapshot, and every snapshot is complete.
fn suffice<'a>(taken: &[Taken], attached: impl Iterator<Item = &'a Volume>) -> Result<(), String> {
    if let Some(open) = taken.iter().find(|one| !one.is_complete()) {
        return Err(format!("snapshot {} of {} is not complete; nothing is terminated", open.snapshot, open.volume));
    }
    let held: BTreeSet<&str> = taken.iter().map(|one| one.volume.as_str()).collect();
    match attached.map(|volume| volume.volume_id.as_str()).find(|id| !held.contains(id)) {
        Some(lacking) => Err(format!("volume {lacking} has no last snapshot; nothing is terminated")),
        None => Ok(()),
    }
}

/// How the ledger names them.
fn named(taken: &[Taken]) -> String {
    let mut ids: Vec<&str> = taken.iter().map(|one| one.snapshot.as_str()).collect();
    ids.sort_unstable();
    let more = ids.len().saturating_sub(TOLD);
    ids.truncate(TOLD);
    let more = if more == 0 { String::new() } else { format!("/and-{more}-more") };
    ids.join("/") + &more
}

// ------------------------------------------------------------------------------------------- the decision

/// The image's state: what is judged, and how the instance was set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    instance_id: String,
    is_protected: bool,
    image_id: Option<String>,
    instance_type: Option<String>,
    subnet_id: Option<String>,
    private_ip_address: Option<String>,
    availability_zone: Option<String>,
    key_name: Option<String>,
    instance_profile: Option<String>,
    /// The names of its groups by their ids, by interface.
    interfaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Volume and whether it goes with the instance, by device.
    volumes: BTreeMap<String, Volume>,
    /// The Auto Scaling group that lists it.
    scaling: Option<Scaling>,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Scaling {
    group: String,
    lifecycle: String,
}

impl State {
    fn of(instance: &types::Instance) -> Self {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let of = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let interfaces = instance.network_interfaces().iter().map(|one| {
            let groups = one.groups().iter().map(|group| (of(group.group_id()), of(group.group_name())));
            (of(one.network_interface_id()), groups.collect())
        });
        let tags = instance.tags().iter().map(|tag| (of(tag.key()), of(tag.value())));
        Self {
            instance_id: of(instance.instance_id()),
            is_protected: true,
            image_id: text(instance.image_id()),
            instance_type: instance.instance_type().map(|kind| kind.as_str().to_owned()),
            subnet_id: text(instance.subnet_id()),
            private_ip_address: text(instance.private_ip_address()),
            availability_zone: text(instance.placement().and_then(|placement| placement.availability_zone())),
            key_name: text(instance.key_name()),
            instance_profile: text(instance.iam_instance_profile().and_then(|profile| profile.arn())),
            interfaces: interfaces.collect(),
            volumes: volumes(instance),
            scaling: None,
            tags: tags.collect(),
        }
    }

    fn is_contained(&self) -> bool {
        let is_in =
            |groups: &BTreeMap<String, String>| groups.len() == 1 && groups.values().all(|name| name == QUARANTINE);
        let is_marked = self.tags.get(CONTAINED).is_some_and(|by| !by.is_empty());
        is_marked && !self.interfaces.is_empty() && self.interfaces.values().all(is_in)
    }
}

/// The calls that take the snapshots and terminate it.
fn destroy(state: &State) -> Result<Vec<Call>, NativeError> {
    if !state.is_contained() {
        return Err(NOT_CONTAINED);
    }
    if state.volumes.is_empty() {
        return Err(NO_VOLUME);
    }
    // AWS checks no health of what is in standby, so the group takes no note of its end. Anything else it would replace.
    if state.scaling.as_ref().is_some_and(|scaling| scaling.lifecycle != "Standby") {
        return Err(IN_SERVICE);
    }
    let call = |operation: &str, with| planned(&DECLARED, "ec2", operation, &with);
    let this = json!({ "InstanceId": state.instance_id });
    let mut calls = vec![call("CreateSnapshots", json!({ "InstanceSpecification": this }))?];
    if state.is_protected {
        let off = json!({ "InstanceId": state.instance_id, "DisableApiTermination": false });
        calls.push(call("ModifyInstanceAttribute", off)?);
    }
    calls.push(call("TerminateInstances", json!({ "InstanceIds": [state.instance_id] }))?);
    Ok(calls)
}

#[cfg(test)]
#[path = "destroy_ec2_instance_tests.rs"]
mod tests;
