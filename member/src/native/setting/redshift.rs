//! Clusters of Redshift: whether they are audited.

use serde_json::{Value, json};

use super::{Ask, Setting, at};
use crate::wire::{Operation, Protocol, Service};

pub(super) static REDSHIFT: Service = Service::of("redshift", Protocol::Query { version: "2012-12-01", item: "" });
static DESCRIBE_LOGGING: Operation = REDSHIFT.operation("DescribeLoggingStatus");
static ENABLE_LOGGING: Operation = REDSHIFT.operation("EnableLogging");
static DISABLE_LOGGING: Operation = REDSHIFT.operation("DisableLogging");

/// Where the log goes; of no meaning while there is none.
const DESTINATION: [&str; 4] = ["BucketName", "LogDestinationType", "LogExports", "S3KeyPrefix"];

/// A cluster writes its audit log: to a bucket, or to `CloudWatch` Logs where none is named.
pub(super) static AUDIT_LOGGING: Setting = Setting {
    name: "redshift_audit_logging",
    missing: &["ClusterNotFound"],
    changes: &[&ENABLE_LOGGING, &DISABLE_LOGGING],
    next: |subject, answers| Ask::once(answers, &DESCRIBE_LOGGING, json!({ "ClusterIdentifier": subject.name })),
    state: |_, answers| {
        let status = answers.first()?;
        let logs = super::super::boolean(&status["LoggingEnabled"]).unwrap_or_default();
        let mut state = json!({ "LoggingEnabled": logs });
        for field in DESTINATION.iter().filter(|_| logs) {
            state[field] = at(status, &format!("/{field}")).clone();
        }
        Some(state)
    },
    fix: |subject, now| {
        if now["LoggingEnabled"] == true {
            return Ok(vec![]);
        }
        let input = match subject.text("BucketName")? {
            "none" => json!({
                "ClusterIdentifier": subject.name,
                "LogDestinationType": "cloudwatch",
                "LogExports": { "member": ["connectionlog", "useractivitylog", "userlog"] },
            }),
            bucket => json!({
                "ClusterIdentifier": subject.name,
                "LogDestinationType": "s3",
                "BucketName": bucket,
                "S3KeyPrefix": format!("{}/", subject.name),
            }),
        };
        Ok(vec![(&ENABLE_LOGGING, input)])
    },
    // Only what logged nothing is ever changed.
    undo: |subject, _, _: &Value| Ok(vec![(&DISABLE_LOGGING, json!({ "ClusterIdentifier": subject.name }))]),
};
