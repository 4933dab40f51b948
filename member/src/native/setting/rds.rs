//! Databases of RDS: who may restore their snapshots, how they are watched, which logs they publish.

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, items};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

pub(super) static RDS: Service = Service::of("rds", Protocol::Query { version: "2014-10-31", item: "" });
static DESCRIBE_SNAPSHOT: Operation = RDS.operation("DescribeDBSnapshotAttributes");
static MODIFY_SNAPSHOT: Operation = RDS.operation("ModifyDBSnapshotAttribute");
static DESCRIBE_CLUSTER_SNAPSHOT: Operation = RDS.operation("DescribeDBClusterSnapshotAttributes");
static MODIFY_CLUSTER_SNAPSHOT: Operation = RDS.operation("ModifyDBClusterSnapshotAttribute");

/// Snapshots of instances and of clusters are the same under other names.
struct Snapshot<'a> {
    of: &'static str,
    id: &'a str,
    describe: &'static Operation,
    modify: &'static Operation,
}

impl<'a> Snapshot<'a> {
    fn of(subject: &'a Subject) -> Option<Self> {
        let resource = subject.arn.resource();
        let of_instance = resource.strip_prefix("snapshot:");
        let of_cluster = resource.strip_prefix("cluster-snapshot:");
        let (describe, modify) = (&DESCRIBE_SNAPSHOT, &MODIFY_SNAPSHOT);
        of_instance.map(|id| Self { of: "DB", id, describe, modify }).or_else(|| {
            let (describe, modify) = (&DESCRIBE_CLUSTER_SNAPSHOT, &MODIFY_CLUSTER_SNAPSHOT);
            of_cluster.map(|id| Self { of: "DBCluster", id, describe, modify })
        })
    }

    fn named(&self, rest: &str) -> String {
        format!("{}Snapshot{rest}", self.of)
    }

    fn ask(&self) -> Ask {
        let id = self.named("Identifier");
        Ask::of(self.describe, json!({ id: self.id }))
    }

    fn is_public(&self, answer: &Value) -> bool {
        let attributes = &answer[self.named("AttributesResult")];
        items(attributes, &self.named("Attributes"), &self.named("Attribute"))
            .filter(|attribute| attribute["AttributeName"] == "restore")
            .any(|attribute| items(attribute, "AttributeValues", "AttributeValue").any(|value| value == "all"))
    }

    fn shared(&self, how: &str) -> (&'static Operation, Value) {
        let id = self.named("Identifier");
        let input = json!({ id: self.id, "AttributeName": "restore", how: { "AttributeValue": ["all"] } });
        (self.modify, input)
    }
}

fn snapshot(subject: &Subject) -> Result<Snapshot<'_>, NativeError> {
    Snapshot::of(subject).ok_or(NativeError::Refused("the ARN names no snapshot of RDS"))
}

/// A snapshot cannot be restored by everybody. Accounts that it is shared with by name keep it.
pub(super) static SNAPSHOT_SHARING: Setting = Setting {
    name: "rds_snapshot_sharing",
    missing: &["DBSnapshotNotFound", "DBClusterSnapshotNotFoundFault"],
    changes: &[&MODIFY_SNAPSHOT, &MODIFY_CLUSTER_SNAPSHOT],
    next: |subject, answers| Snapshot::of(subject).filter(|_| answers.is_empty()).map(|snapshot| snapshot.ask()),
    state: |subject, answers| Some(json!({ "Public": Snapshot::of(subject)?.is_public(answers.first()?) })),
    fix: |subject, now| {
        let snapshot = snapshot(subject)?;
        Ok(if now["Public"] == true { vec![snapshot.shared("ValuesToRemove")] } else { vec![] })
    },
    undo: |subject, _, _| Ok(vec![snapshot(subject)?.shared("ValuesToAdd")]),
};

static DESCRIBE_INSTANCES: Operation = RDS.operation("DescribeDBInstances");
static MODIFY_INSTANCE: Operation = RDS.operation("ModifyDBInstance");
const NO_INSTANCE: &[&str] = &["DBInstanceNotFound"];

fn instance(subject: &Subject, answers: &[Value]) -> Option<Ask> {
    Ask::once(answers, &DESCRIBE_INSTANCES, json!({ "DBInstanceIdentifier": subject.name }))
}

fn described(answers: &[Value]) -> Option<&Value> {
    items(answers.first()?, "DBInstances", "DBInstance").next()
}

/// Metrics of the operating system are collected. A database that sends them, however often, is left alone.
pub(super) static ENHANCED_MONITORING: Setting = Setting {
    name: "rds_enhanced_monitoring",
    missing: NO_INSTANCE,
    changes: &[&MODIFY_INSTANCE],
    next: instance,
    // The role counts only while there is something to send.
    state: |_, answers| {
        let instance = described(answers)?;
        let interval = super::number(&instance["MonitoringInterval"]).unwrap_or_default();
        let role = if interval > 0 { &instance["MonitoringRoleArn"] } else { &Value::Null };
        Some(json!({ "MonitoringInterval": interval, "MonitoringRoleArn": role }))
    },
    fix: |subject, now| {
        if super::number(&now["MonitoringInterval"]).is_some_and(|seconds| seconds > 0) {
            return Ok(vec![]);
        }
        let input = json!({
            "DBInstanceIdentifier": subject.name,
            "MonitoringInterval": subject.number("Seconds")?,
            "MonitoringRoleArn": subject.role()?,
        });
        Ok(vec![(&MODIFY_INSTANCE, input)])
    },
    // Only what sent nothing is ever changed.
    undo: |subject, _, _| {
        Ok(vec![(&MODIFY_INSTANCE, json!({ "DBInstanceIdentifier": subject.name, "MonitoringInterval": 0 }))])
    },
};

/// The logs that a database of an engine must publish, as Security Hub lists them; the first that fits counts. The free
/// edition of SQL Server has no agent.
const LOGS: [(&str, &[&str]); 8] = [
    ("aurora-postgresql", &["postgresql"]),
    ("aurora", &["audit", "error", "general", "slowquery"]),
    ("mariadb", &["audit", "error", "general", "slowquery"]),
    ("mysql", &["audit", "error", "general", "slowquery"]),
    ("oracle", &["alert", "audit", "listener", "trace"]),
    ("postgres", &["postgresql", "upgrade"]),
    ("sqlserver-ex", &["error"]),
    ("sqlserver", &["agent", "error"]),
];

fn required(engine: &str) -> Option<&'static [&'static str]> {
    let is_it = |name: &str| engine.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    LOGS.iter().find(|(name, _)| is_it(name)).map(|(_, logs)| *logs)
}

fn exported(state: &Value) -> Vec<&str> {
    state["Exported"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn published(subject: &Subject, changes: &[(&str, Vec<&str>)]) -> Planned {
    let changes = changes.iter().filter(|(_, logs)| !logs.is_empty());
    let changes: serde_json::Map<String, Value> =
        changes.map(|(how, logs)| ((*how).to_owned(), json!({ "member": logs }))).collect();
    if changes.is_empty() {
        return Ok(vec![]);
    }
    let input = json!({ "DBInstanceIdentifier": subject.name, "CloudwatchLogsExportConfiguration": changes });
    Ok(vec![(&MODIFY_INSTANCE, input)])
}

/// A database publishes the logs of its engine. Others that it publishes are left alone.
pub(super) static LOG_EXPORTS: Setting = Setting {
    name: "rds_log_exports",
    missing: NO_INSTANCE,
    changes: &[&MODIFY_INSTANCE],
    next: instance,
    state: |_, answers| {
        let instance = described(answers)?;
        let logs = instance["EnabledCloudwatchLogsExports"].as_array().into_iter().flatten();
        let mut logs: Vec<&str> = logs.filter_map(Value::as_str).collect();
        logs.sort_unstable();
        let in_cluster = instance["DBClusterIdentifier"].is_string();
        Some(json!({ "Engine": instance["Engine"], "InCluster": in_cluster, "Exported": logs }))
    },
    fix: |subject, now| {
        let Some(required) = required(now["Engine"].as_str().unwrap_or_default()) else {
            return Err(NativeError::Refused(
                "Security Hub names no logs for the engine of this database; suppress the finding",
            ));
        };
        let exported = exported(now);
        let missing: Vec<&str> = required.iter().copied().filter(|log| !exported.contains(log)).collect();
        if now["InCluster"] == true && !missing.is_empty() {
            return Err(NativeError::Refused(
                "the logs of a database in a cluster are published by its cluster; turn them on there",
            ));
        }
        published(subject, &[("EnableLogTypes", missing)])
    },
    undo: |subject, now, before| {
        let (now, before) = (exported(now), exported(before));
        let added = now.iter().copied().filter(|log| !before.contains(log)).collect();
        let lost = before.iter().copied().filter(|log| !now.contains(log)).collect();
        published(subject, &[("DisableLogTypes", added), ("EnableLogTypes", lost)])
    },
};
