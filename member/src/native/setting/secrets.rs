//! Secrets: whether they are rotated, and whether anybody uses them.

use serde_json::{Value, json};

use super::{Ask, Setting, Subject};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

pub(in crate::native) static SECRETS: Service =
    Service::of("secretsmanager", Protocol::Json { target: "secretsmanager", version: "1.1" });
static DESCRIBE: Operation = SECRETS.operation("DescribeSecret");
static ROTATE: Operation = Operation { token: Some("ClientRequestToken"), ..SECRETS.operation("RotateSecret") };
static CANCEL: Operation = SECRETS.operation("CancelRotateSecret");
static DELETE: Operation = SECRETS.operation("DeleteSecret");
static RESTORE: Operation = SECRETS.operation("RestoreSecret");

/// How long a deleted secret can be restored: the longest that AWS knows.
const RECOVERY_DAYS: i64 = 30;

fn function<'a>(subject: &'a Subject, now: &'a Value) -> Option<&'a str> {
    now["RotationLambdaARN"].as_str().or_else(|| subject.text("RotationLambdaARN").ok().filter(|name| *name != "none"))
}

/// A secret is rotated on a schedule, by the function that it has. The schedule begins; nothing is rotated at once.
pub(super) static SECRET_ROTATION: Setting = Setting {
    name: "secret_rotation",
    missing: &["ResourceNotFoundException"],
    changes: &[&ROTATE, &CANCEL],
    next: |subject, answers| Ask::once(answers, &DESCRIBE, json!({ "SecretId": subject.arn.to_string() })),
    state: |_, answers| {
        let secret = answers.first()?;
        Some(json!({
            "RotationEnabled": secret["RotationEnabled"] == true,
            "RotationLambdaARN": secret["RotationLambdaARN"],
            "IsManaged": !secret["OwningService"].is_null(),
            "IsToBeDeleted": !secret["DeletedDate"].is_null(),
        }))
    },
    fix: |subject, now| {
        if now["RotationEnabled"] == true {
            return Ok(vec![]);
        }
        if now["IsManaged"] == true {
            return Err(NativeError::Refused("another AWS service manages this secret; rotate it there"));
        }
        if now["IsToBeDeleted"] == true {
            return Err(NativeError::Refused("the secret is to be deleted; restore it first if it is still needed"));
        }
        let Some(function) = function(subject, now) else {
            return Err(NativeError::Refused(
                "the secret has no rotation function; make one for its kind, and name it when rotation is turned on",
            ));
        };
        let days = subject.number("AutomaticallyAfterDays")?;
        let input = json!({
            "SecretId": subject.arn.to_string(),
            "RotationLambdaARN": function,
            "RotationRules": { "AutomaticallyAfterDays": days },
            "RotateImmediately": false,
        });
        Ok(vec![(&ROTATE, input)])
    },
    undo: |subject, _, _| Ok(vec![(&CANCEL, json!({ "SecretId": subject.arn.to_string() }))]),
};

/// A secret that nobody read for long is deleted; it can be restored while its recovery window lasts. When it was read
/// last is told by the day; one that was never read counts from when it was made.
pub(super) static UNUSED_SECRET: Setting = Setting {
    name: "unused_secret",
    missing: &["ResourceNotFoundException"],
    changes: &[&DELETE, &RESTORE],
    next: |subject, answers| Ask::once(answers, &DESCRIBE, json!({ "SecretId": subject.arn.to_string() })),
    state: |subject, answers| {
        let secret = answers.first()?;
        let seconds = |date: &Value| date.as_f64().map(f64::floor);
        let primary = secret["PrimaryRegion"].as_str();
        Some(json!({
            "LastAccessed": seconds(&secret["LastAccessedDate"]),
            "Created": seconds(&secret["CreatedDate"]),
            "IsManaged": !secret["OwningService"].is_null(),
            "IsReplica": primary.is_some_and(|region| region != subject.region.as_str()),
            "HasReplicas": secret["ReplicationStatus"].as_array().is_some_and(|replicas| !replicas.is_empty()),
            "IsToBeDeleted": !secret["DeletedDate"].is_null(),
        }))
    },
    fix: |subject, now| {
        let unused_since = now["LastAccessed"].as_f64().or_else(|| now["Created"].as_f64());
        #[expect(clippy::cast_precision_loss, reason = "seconds of this age are exact")]
        let limit = (subject.now.as_second() - 86_400 * subject.number("UnusedForDays")?) as f64;
        // Whoever does not know when it was used does not delete it.
        if now["IsToBeDeleted"] == true || unused_since.is_none_or(|since| since >= limit) {
            return Ok(vec![]);
        }
        if now["IsManaged"] == true {
            return Err(NativeError::Refused("another AWS service manages this secret; delete it there"));
        }
        if now["IsReplica"] == true || now["HasReplicas"] == true {
            return Err(NativeError::Refused(
                "the secret is replicated, and AWS deletes neither a replica nor what has some; stop the replication first",
            ));
        }
        let input = json!({ "SecretId": subject.arn.to_string(), "RecoveryWindowInDays": RECOVERY_DAYS });
        Ok(vec![(&DELETE, input)])
    },
    undo: |subject, _, _| Ok(vec![(&RESTORE, json!({ "SecretId": subject.arn.to_string() }))]),
};
