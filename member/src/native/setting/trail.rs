//! Trails of `CloudTrail`.

use serde_json::json;

use super::{Ask, Setting};
use crate::wire::{Operation, Protocol, Service};

static CLOUDTRAIL: Service = Service {
    name: "cloudtrail",
    signing: "cloudtrail",
    host: "cloudtrail",
    protocol: Protocol::Json { target: "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101", version: "1.1" },
};
static GET_TRAIL: Operation = CLOUDTRAIL.operation("GetTrail");
static UPDATE_TRAIL: Operation = CLOUDTRAIL.operation("UpdateTrail");

/// Log files are encrypted with a key of the account. A trail that has one keeps it.
pub(super) static TRAIL_ENCRYPTION: Setting = Setting {
    name: "trail_encryption",
    missing: &["TrailNotFoundException"],
    changes: &[&UPDATE_TRAIL],
    next: |subject, answers| Ask::once(answers, &GET_TRAIL, json!({ "Name": subject.arn.to_string() })),
    state: |_, answers| Some(json!({ "KmsKeyId": answers.first()?.pointer("/Trail")?["KmsKeyId"] })),
    fix: |subject, now| {
        if now["KmsKeyId"].as_str().is_some_and(|key| !key.is_empty()) {
            return Ok(vec![]);
        }
        let key = subject.text("KmsKeyId")?;
        Ok(vec![(&UPDATE_TRAIL, json!({ "Name": subject.arn.to_string(), "KmsKeyId": key }))])
    },
    // An empty key takes the encryption away.
    undo: |subject, _, before| {
        let key = before["KmsKeyId"].as_str().unwrap_or_default();
        Ok(vec![(&UPDATE_TRAIL, json!({ "Name": subject.arn.to_string(), "KmsKeyId": key }))])
    },
};
