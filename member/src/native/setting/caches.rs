//! Caches of `ElastiCache`: how long their automatic backups are kept.
//!
//! A replication group keeps those of its clusters together; a cluster that is in none keeps its own.

use serde_json::{Value, json};

use super::{Ask, BESIDE, Planned, Setting, Subject, at, items};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static ELASTICACHE: Service = Service::of("elasticache", Protocol::Query { version: "2015-02-02", item: "" });
static DESCRIBE_GROUPS: Operation = ELASTICACHE.operation("DescribeReplicationGroups");
static MODIFY_GROUP: Operation = ELASTICACHE.operation("ModifyReplicationGroup");
static DESCRIBE_CLUSTERS: Operation = ELASTICACHE.operation("DescribeCacheClusters");
static MODIFY_CLUSTER: Operation = ELASTICACHE.operation("ModifyCacheCluster");

const LIMIT: &str = "SnapshotRetentionLimit";

/// The two kinds of caches are the same under other names.
struct Kind {
    id: &'static str,
    list: (&'static str, &'static str),
    describe: &'static Operation,
    modify: &'static Operation,
}

impl Kind {
    fn of(subject: &Subject) -> Self {
        if subject.arn.resource().starts_with("replicationgroup:") {
            let list = ("ReplicationGroups", "ReplicationGroup");
            Self { id: "ReplicationGroupId", list, describe: &DESCRIBE_GROUPS, modify: &MODIFY_GROUP }
        } else {
            let list = ("CacheClusters", "CacheCluster");
            Self { id: "CacheClusterId", list, describe: &DESCRIBE_CLUSTERS, modify: &MODIFY_CLUSTER }
        }
    }
}

fn kept_for(subject: &Subject, days: &Value) -> (&'static Operation, Value) {
    let kind = Kind::of(subject);
    (kind.modify, json!({ kind.id: subject.name, LIMIT: days, "ApplyImmediately": true }))
}

/// Automatic backups are kept long enough.
pub(super) static CACHE_BACKUPS: Setting = Setting {
    name: "cache_backups",
    missing: &["CacheClusterNotFound", "ReplicationGroupNotFoundFault"],
    changes: &[&MODIFY_CLUSTER, &MODIFY_GROUP],
    next: |subject, answers| {
        let kind = Kind::of(subject);
        Ask::once(answers, kind.describe, json!({ kind.id: subject.name }))
    },
    state: |subject, answers| {
        let (list, item) = Kind::of(subject).list;
        let cache = items(answers.first()?, list, item).next()?;
        let days = super::number(&cache[LIMIT]).unwrap_or_default();
        // A replication group has an engine, too, but is in none.
        let of = if item == "CacheCluster" { &cache["ReplicationGroupId"] } else { &Value::Null };
        Some(json!({ LIMIT: days, BESIDE: { "Engine": cache["Engine"], "Group": of } }))
    },
    fix: |subject, now| {
        let days = subject.number("Days")?;
        if super::number(&now[LIMIT]).is_some_and(|kept| kept >= days) {
            return Ok(vec![]);
        }
        backed_up(subject, now, days)
    },
    undo: |subject, _, before| Ok(vec![kept_for(subject, &before[LIMIT])]),
};

fn backed_up(subject: &Subject, now: &Value, days: i64) -> Planned {
    if at(now, "/Beside/Engine") == "memcached" {
        return Err(NativeError::Refused("Memcached has no backups; suppress the finding"));
    }
    if let Some(group) = at(now, "/Beside/Group").as_str() {
        return Err(NativeError::NotNow(format!(
            "the cluster is in replication group `{group}`, which keeps the backups of all its clusters; nothing was changed. \
             Remediate this control for the group"
        )));
    }
    Ok(vec![kept_for(subject, &json!(days))])
}
