//! What a bucket held when it was contained: its objects' versions by name, and the settings that say who could reach and
//! watch them.
//!
//! It reads no object and changes nothing. Names of objects may be secret: what is made here is sealed before it is stored.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{Grant, ObjectVersion};
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::custody::{ItemKind, OBJECTS};
use serde_json::{Value, json};

use crate::custody::Document;
use crate::native::NativeError;

/// So many pages of 1,000 versions are listed: isolation is done, but the function's time is limited.
const PAGES: usize = 5;

/// What S3 says of a setting that was never made.
const NEVER_SET: &str = "NoSuchBucketPolicy";

/// Lists what the bucket holds, and reads its settings. Of a setting that cannot be read it is told.
///
/// # Errors
/// When the list cannot be read.
pub(super) async fn taken(client: &Client, bucket: &str, owner: &str) -> Result<Document, NativeError> {
    let held = versions(client, bucket, owner).await?;
    let mut lacks = Vec::new();
    let mut read = |answer: Result<Value, AwsFailure>| {
        answer.unwrap_or_else(|failure| {
            lacks.push(failure.to_string());
            Value::Null
        })
    };
    let (policy, acl) = (read(policy(client, bucket, owner).await), read(acl(client, bucket, owner).await));
    let logging = read(logging(client, bucket, owner).await);
    let notification = read(notification(client, bucket, owner).await);
    let detail = held.detail();
    let content = json!({
        "Version": 1, "Bucket": bucket, "Listed": Timestamp::now(), "Truncated": held.truncated,
        "Versions": held.versions, "DeleteMarkers": held.markers,
        "Policy": policy, "Acl": acl, "Logging": logging, "Notification": notification,
    });
    Ok(Document { name: OBJECTS, kind: ItemKind::ObjectListing, detail, content, lacks })
}

/// What a bucket holds.
#[derive(Debug, Default, PartialEq)]
struct Held {
    versions: Vec<Value>,
    markers: Vec<Value>,
    /// There is more than was listed.
    truncated: bool,
}

impl Held {
    fn detail(&self) -> String {
        let more = if self.truncated { ", and there are more" } else { "" };
        format!("{} versions and {} delete markers{more}", self.versions.len(), self.markers.len())
    }
}

async fn versions(client: &Client, bucket: &str, owner: &str) -> Result<Held, NativeError> {
    let mut held = Held::default();
    let (mut key, mut version) = (None, None);
    for _ in 0..PAGES {
        let asked = client.list_object_versions().bucket(bucket).expected_bucket_owner(owner);
        let asked = asked.set_key_marker(key).set_version_id_marker(version).send().await;
        let page = asked.map_err(|error| AwsFailure::of("ListObjectVersions", &error))?;
        held.versions.extend(page.versions().iter().map(shown));
        held.markers.extend(page.delete_markers().iter().map(
            |one| json!({ "Key": one.key(), "VersionId": one.version_id(), "LastModified": time(one.last_modified()) }),
        ));
        held.truncated = page.is_truncated() == Some(true);
        (key, version) = (page.next_key_marker, page.next_version_id_marker);
        if !held.truncated || key.is_none() {
            break;
        }
    }
    Ok(held)
}

fn shown(one: &ObjectVersion) -> Value {
    json!({
        "Key": one.key(), "VersionId": one.version_id(), "Size": one.size(), "ETag": one.e_tag(),
        "LastModified": time(one.last_modified()), "IsLatest": one.is_latest(),
    })
}

fn time(at: Option<&aws_sdk_s3::primitives::DateTime>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::from_second(at.secs()).ok())
}

async fn policy(client: &Client, bucket: &str, owner: &str) -> Result<Value, AwsFailure> {
    let asked = client.get_bucket_policy().bucket(bucket).expected_bucket_owner(owner).send().await;
    match asked.map_err(|error| AwsFailure::of("GetBucketPolicy", &error)) {
        Err(failure) if failure.code() == Some(NEVER_SET) => Ok(Value::Null),
        answer => Ok(json!(answer?.policy())),
    }
}

async fn acl(client: &Client, bucket: &str, owner: &str) -> Result<Value, AwsFailure> {
    let asked = client.get_bucket_acl().bucket(bucket).expected_bucket_owner(owner).send().await;
    let answer = asked.map_err(|error| AwsFailure::of("GetBucketAcl", &error))?;
    let grant = |grant: &Grant| {
        let to = grant.grantee();
        let whom = to.and_then(|to| to.uri().or(to.id()));
        json!({ "Grantee": whom, "Permission": grant.permission().map(|permission| permission.as_str()) })
    };
    let grants: Vec<Value> = answer.grants().iter().map(grant).collect();
    Ok(json!({ "Owner": answer.owner().and_then(|owner| owner.id()), "Grants": grants }))
}

async fn logging(client: &Client, bucket: &str, owner: &str) -> Result<Value, AwsFailure> {
    let asked = client.get_bucket_logging().bucket(bucket).expected_bucket_owner(owner).send().await;
    let answer = asked.map_err(|error| AwsFailure::of("GetBucketLogging", &error))?;
    let to = |to: &aws_sdk_s3::types::LoggingEnabled| json!({ "TargetBucket": to.target_bucket(), "TargetPrefix": to.target_prefix() });
    Ok(answer.logging_enabled().map_or(Value::Null, to))
}

async fn notification(client: &Client, bucket: &str, owner: &str) -> Result<Value, AwsFailure> {
    let asked = client.get_bucket_notification_configuration().bucket(bucket).expected_bucket_owner(owner);
    let answer = asked.send().await.map_err(|error| AwsFailure::of("GetBucketNotificationConfiguration", &error))?;
    let topics = answer.topic_configurations().iter().map(|one| (one.topic_arn(), one.events()));
    let queues = answer.queue_configurations().iter().map(|one| (one.queue_arn(), one.events()));
    let functions = answer.lambda_function_configurations().iter().map(|one| (one.lambda_function_arn(), one.events()));
    let told = topics.chain(queues).chain(functions).map(
        |(arn, events)| json!({ "Arn": arn, "Events": events.iter().map(|event| event.as_str()).collect::<Vec<_>>() }),
    );
    Ok(json!({ "Told": told.collect::<Vec<_>>(), "EventBridge": answer.event_bridge_configuration().is_some() }))
}
