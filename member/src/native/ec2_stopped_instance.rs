//! `ec2_stopped_instance`: an instance that has been stopped for long is terminated.
//!
//! Nobody has an instance back. So an image of it is made first (mode `Snapshot`, where SSM waits), with a snapshot of each
//! volume that is attached, and stays. The state is how the instance was set up, for whoever launches another one from the
//! image. What is terminated, or not there any more, complies; an undo is refused, and names the image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use aws_sdk_ec2::types::{self, Filter, InstanceStateName, ResourceType, TagSpecification};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest, snapshot_id};
use redress_common::ids::{ClaimKey, RemediationId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ec2_instance::{Volume, described, is_protected, volumes};
use super::{Declared, Native, NativeError, number, parameter, planned, typed, untyped};
use crate::judge;

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "ec2_stopped_instance",
    reads: &["ec2:DescribeImages", "ec2:DescribeInstanceAttribute", "ec2:DescribeInstances"],
    changes: &[
        "ec2:CreateImage",
        "ec2:CreateTags",
        "ec2:DeleteSnapshot",
        "ec2:DeregisterImage",
        "ec2:TerminateInstances",
    ],
    make: |clients, request| Ok(Box::new(StoppedInstance::new(clients.ec2.clone(), request, Timestamp::now())?)),
};

/// Tag: the remediation that made it.
const OF: &str = "redress:remediation";
/// Tag: the instance that it is an image of.
const FROM: &str = "redress:instance";
/// AWS's tag of instances that an Auto Scaling group keeps.
const GROUP: &str = "aws:autoscaling:groupName";
const STOPPED: &str = "stopped";

/// The function on one instance.
#[derive(Debug)]
pub struct StoppedInstance {
    client: aws_sdk_ec2::Client,
    instance: String,
    /// The remediation under whose id the image is made.
    copier: RemediationId,
    /// What was stopped before, was so for too long.
    before: Timestamp,
    /// The image that the last look found, when the instance was gone.
    image: Mutex<Option<String>>,
}

impl StoppedInstance {
    /// Parameter `AllowedDays`: how long an instance may be stopped.
    ///
    /// # Errors
    /// When it is no number of days.
    pub fn new(client: aws_sdk_ec2::Client, request: &RemediateRequest, now: Timestamp) -> Result<Self, NativeError> {
        const DAYS: &str = "a number of days, 1 to 365";
        let RemediateRequest { job, account_id, region, parameters, .. } = request;
        let wrong = || NativeError::Parameter { name: "AllowedDays".to_owned(), expected: DAYS };
        let days = number(parameter(parameters, "AllowedDays", DAYS)?).filter(|days| (1..=365).contains(days));
        let allowed = SignedDuration::from_hours(24 * days.ok_or_else(wrong)?);
        let claim = ClaimKey::new(account_id, region, &job.control, &job.resource_arn);
        let copier =
            if job.mode == Mode::Snapshot { job.remediation_id } else { snapshot_id(&claim, job.remediation_id) };
        Ok(Self {
            client,
            instance: job.resource_name.clone(),
            copier,
            before: now.checked_sub(allowed).map_err(|_| wrong())?,
            image: Mutex::default(),
        })
    }

    /// Images of the instance: of this remediation, or of any.
    async fn images(&self, of: Option<RemediationId>) -> Result<Vec<types::Image>, NativeError> {
        let filter = |key: &str, value: String| Filter::builder().name(format!("tag:{key}")).values(value).build();
        let mut filters = vec![filter(FROM, self.instance.clone())];
        filters.extend(of.map(|id| filter(OF, id.to_string())));
        let answer = self.client.describe_images().owners("self").set_filters(Some(filters)).send().await;
        Ok(answer.map_err(|error| AwsFailure::of("DescribeImages", &error))?.images.unwrap_or_default())
    }

    /// The image that this remediation works from, complete.
    async fn complete(&self) -> Result<types::Image, NativeError> {
        let found = self.images(Some(self.copier)).await?;
        let complete = found.into_iter().find(|image| image.state() == Some(&types::ImageState::Available));
        complete
            .ok_or_else(|| NativeError::NotNow("the image of the instance is not there, or not complete".to_owned()))
    }

    /// Terminates it, when the image has each of its volumes.
    async fn terminate(&self) -> Result<(), NativeError> {
        let image = self.complete().await?;
        let of = |device: Option<&str>| device.unwrap_or_default().to_owned();
        let held = image.block_device_mappings().iter();
        let held: BTreeSet<String> = held
            .filter(|mapping| mapping.ebs().is_some_and(|ebs| ebs.snapshot_id().is_some()))
            .map(|mapping| of(mapping.device_name()))
            .collect();
        let instance = described(&self.client, &self.instance).await?;
        let volumes = instance.iter().flat_map(types::Instance::block_device_mappings);
        if let Some(lacking) = volumes.map(|volume| of(volume.device_name())).find(|device| !held.contains(device)) {
            return Err(NativeError::NotNow(format!("the image has no snapshot of the volume at {lacking}")));
        }
        let terminated = self.client.terminate_instances().instance_ids(&self.instance).send().await;
        terminated.map(drop).map_err(|error| AwsFailure::of("TerminateInstances", &error).into())
    }
}

#[async_trait]
impl Native for StoppedInstance {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(instance) = described(&self.client, &self.instance).await? else {
            let made = self.images(None).await?.into_iter().max_by_key(|image| image.creation_date.clone());
            if let Ok(mut image) = self.image.lock() {
                *image = made.and_then(|made| made.image_id);
            }
            return Ok(Some(judge::absent()));
        };
        let state = State { is_protected: is_protected(&self.client, &self.instance).await?, ..State::of(&instance) };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        if !now.present {
            return Ok(Change::default());
        }
        terminate(&typed(&now.state, "the state", DECLARED.name)?, self.before).map(Change)
    }

    fn plan_restore(&self, _: &Image, _: &Image) -> Result<Change, NativeError> {
        let image = self.image.lock().ok().and_then(|image| image.clone());
        let image = image.map_or_else(
            || "the image that was made of it is not there any more".to_owned(),
            |image| format!("launch another one from image {image}, as the evidence says that it was set up"),
        );
        Err(NativeError::NotNow(format!("a terminated instance cannot be had back; {image}")))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            // It was made in mode `Snapshot`, and waited for.
            "CreateImage" => self.complete().await.map(drop),
            "TerminateInstances" => self.terminate().await,
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }

    async fn copy(&self, _: u32) -> Result<String, NativeError> {
        if let Some(made) = self.images(Some(self.copier)).await?.into_iter().find_map(|image| image.image_id) {
            return Ok(made);
        }
        let tags = [(OF, self.copier.to_string()), (FROM, self.instance.clone())];
        let tags = tags.map(|(key, value)| types::Tag::builder().key(key).value(value).build()).to_vec();
        let tags = TagSpecification::builder().resource_type(ResourceType::Image).set_tags(Some(tags)).build();
        let made = self.client.create_image().instance_id(&self.instance).no_reboot(true);
        let made = made.name(format!("redress-{}", self.copier)).tag_specifications(tags);
        let made = made.description(format!("Redress {}: {} before it is terminated", self.copier, self.instance));
        let made = made.send().await.map_err(|error| AwsFailure::of("CreateImage", &error))?;
        made.image_id.ok_or(NativeError::Form { what: "an image without an id", native: DECLARED.name })
    }

    async fn copied(&self) -> Result<String, NativeError> {
        Ok(self.complete().await?.image_id.unwrap_or_default())
    }

    /// An unfinished image, with its snapshots. A complete one stays: the instance may be on its way out.
    async fn discard(&self, mode: Mode) -> Result<(), NativeError> {
        if mode != Mode::Snapshot {
            return Ok(());
        }
        for image in self.images(Some(self.copier)).await? {
            let gone = self.client.deregister_image().image_id(image.image_id().unwrap_or_default()).send().await;
            gone.map_err(|error| AwsFailure::of("DeregisterImage", &error))?;
            for snapshot in image.block_device_mappings().iter().filter_map(|mapping| mapping.ebs()?.snapshot_id()) {
                let gone = self.client.delete_snapshot().snapshot_id(snapshot).send().await;
                gone.map_err(|error| AwsFailure::of("DeleteSnapshot", &error))?;
            }
        }
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------- the decision

/// The image's state: what is judged, and how the instance was set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    instance_id: String,
    state: String,
    /// Since when it is so; none when EC2 does not say.
    since: Option<Timestamp>,
    is_protected: bool,
    /// `spot`, `scheduled`; none for most.
    lifecycle: Option<String>,
    image_id: Option<String>,
    instance_type: Option<String>,
    subnet_id: Option<String>,
    private_ip_address: Option<String>,
    availability_zone: Option<String>,
    key_name: Option<String>,
    instance_profile: Option<String>,
    security_groups: Vec<String>,
    /// Volume and whether it goes with the instance, by device.
    volumes: BTreeMap<String, Volume>,
    tags: BTreeMap<String, String>,
}

impl State {
    fn of(instance: &types::Instance) -> Self {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let of = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let mut security_groups: Vec<String> =
            instance.security_groups().iter().map(|group| of(group.group_id())).collect();
        security_groups.sort();
        let tags = instance.tags().iter().map(|tag| (of(tag.key()), of(tag.value())));
        Self {
            instance_id: of(instance.instance_id()),
            state: of(instance.state().and_then(|state| state.name()).map(InstanceStateName::as_str)),
            since: instance.state_transition_reason().and_then(since),
            is_protected: true,
            lifecycle: instance.instance_lifecycle().map(|lifecycle| lifecycle.as_str().to_owned()),
            image_id: text(instance.image_id()),
            instance_type: instance.instance_type().map(|kind| kind.as_str().to_owned()),
            subnet_id: text(instance.subnet_id()),
            private_ip_address: text(instance.private_ip_address()),
            availability_zone: text(instance.placement().and_then(|placement| placement.availability_zone())),
            key_name: text(instance.key_name()),
            instance_profile: text(instance.iam_instance_profile().and_then(|profile| profile.arn())),
            security_groups,
            volumes: volumes(instance),
            tags: tags.collect(),
        }
    }
}

/// The time in `User initiated (2026-10-20 12:00:00 GMT)`; none where the text is another one.
fn since(reason: &str) -> Option<Timestamp> {
    let (_, inner) = reason.rsplit_once('(')?;
    let (time, zone) = inner.strip_suffix(')')?.rsplit_once(' ')?;
    let time: civil::DateTime = time.parse().ok().filter(|_| matches!(zone, "GMT" | "UTC"))?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The calls that make an image and terminate it; none when it is not stopped, or not for long.
fn terminate(state: &State, before: Timestamp) -> Result<Vec<Call>, NativeError> {
    if state.state != STOPPED {
        return Ok(Vec::new());
    }
    let Some(since) = state.since else {
        return Err(NativeError::Refused(
            "EC2 does not say since when the instance is stopped; look for its StopInstances in CloudTrail, and terminate it by hand",
        ));
    };
    if since >= before {
        return Ok(Vec::new());
    }
    if state.is_protected {
        return Err(NativeError::Refused(
            "termination protection of the instance is on, so somebody wants it kept; turn it off first if nobody does",
        ));
    }
    if state.lifecycle.as_deref() == Some("spot") {
        return Err(NativeError::Refused(
            "it is a Spot Instance, and its request would start another; cancel the request",
        ));
    }
    if state.tags.contains_key(GROUP) {
        return Err(NativeError::Refused("an Auto Scaling group owns the instance; change the group"));
    }
    let image = json!({ "InstanceId": state.instance_id, "NoReboot": true });
    let gone = json!({ "InstanceIds": [state.instance_id] });
    Ok(vec![planned(&DECLARED, "ec2", "CreateImage", &image)?, planned(&DECLARED, "ec2", "TerminateInstances", &gone)?])
}

#[cfg(test)]
#[path = "ec2_stopped_instance_tests.rs"]
mod tests;
