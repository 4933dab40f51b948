//! Secrets, and whether they are rotated.

use serde_json::{Value, json};

use super::{Ask, Setting, Subject};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static SECRETS: Service = Service {
    name: "secretsmanager",
    signing: "secretsmanager",
    host: "secretsmanager",
    protocol: Protocol::Json { target: "secretsmanager", version: "1.1" },
};
static DESCRIBE: Operation = SECRETS.operation("DescribeSecret");
static ROTATE: Operation = Operation { token: Some("ClientRequestToken"), ..SECRETS.operation("RotateSecret") };
static CANCEL: Operation = SECRETS.operation("CancelRotateSecret");

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
