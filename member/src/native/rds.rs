//! What the native functions of RDS share: its calls, and how its answers are read. Decides nothing.

use std::collections::BTreeMap;

use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Mode, RemediateRequest, snapshot_id};
use redress_common::ids::{ClaimKey, RemediationId};
use serde_json::{Map, Value, json};

use super::{NativeError, parameter};
use crate::wire::{Operation, Protocol, Service, Wire};

static RDS: Service = Service::of("rds", Protocol::Query { version: "2014-10-31", item: "" });
pub(crate) static DESCRIBE_INSTANCES: Operation = RDS.operation("DescribeDBInstances");
pub(crate) static MODIFY_INSTANCE: Operation = RDS.operation("ModifyDBInstance");
pub(super) static DELETE_INSTANCE: Operation = RDS.operation("DeleteDBInstance");
pub(super) static RESTORE_INSTANCE: Operation = RDS.operation("RestoreDBInstanceFromDBSnapshot");
pub(crate) static CREATE_SNAPSHOT: Operation = RDS.operation("CreateDBSnapshot");
pub(super) static ADD_TAGS: Operation = RDS.operation("AddTagsToResource");

/// One of RDS's other operations.
pub(crate) const fn operation(name: &'static str) -> Operation {
    RDS.operation(name)
}

/// Tag: the remediation that made it.
pub(super) const OF: &str = "redress:remediation";
/// What is made tells nothing of the old one's tags of these beginnings.
const NOT_OWN: [&str; 2] = ["redress:", "aws:"];
/// How many tags RDS takes, less those of ours.
pub(super) const MOST_TAGS: usize = 47;

/// The tags of something.
pub(super) type Tags = BTreeMap<String, String>;

/// One of the two kinds of snapshots.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) describe: &'static Operation,
    pub(super) copy: &'static Operation,
    pub(super) delete: &'static Operation,
    /// The parameter that names one, and the member of an answer that does.
    pub(super) id: &'static str,
    pub(super) source: &'static str,
    pub(super) target: &'static str,
    /// The list in an answer, and an item of it.
    pub(super) list: &'static str,
    pub(super) item: &'static str,
    /// The error codes of one that is not there: the API reference and its model do not agree.
    missing: [&'static str; 2],
    /// What stands in an ARN.
    pub(super) arn: &'static str,
}

static DESCRIBE_SNAPSHOTS: Operation = RDS.operation("DescribeDBSnapshots");
static COPY_SNAPSHOT: Operation = RDS.operation("CopyDBSnapshot");
static DELETE_SNAPSHOT: Operation = RDS.operation("DeleteDBSnapshot");
static DESCRIBE_CLUSTER_SNAPSHOTS: Operation = RDS.operation("DescribeDBClusterSnapshots");
static COPY_CLUSTER_SNAPSHOT: Operation = RDS.operation("CopyDBClusterSnapshot");
static DELETE_CLUSTER_SNAPSHOT: Operation = RDS.operation("DeleteDBClusterSnapshot");

/// Of an instance.
pub(super) static OF_INSTANCE: Kind = Kind {
    describe: &DESCRIBE_SNAPSHOTS,
    copy: &COPY_SNAPSHOT,
    delete: &DELETE_SNAPSHOT,
    id: "DBSnapshotIdentifier",
    source: "SourceDBSnapshotIdentifier",
    target: "TargetDBSnapshotIdentifier",
    list: "DBSnapshots",
    item: "DBSnapshot",
    missing: ["DBSnapshotNotFound", "DBSnapshotNotFoundFault"],
    arn: "snapshot",
};

/// Of a cluster.
pub(super) static OF_CLUSTER: Kind = Kind {
    describe: &DESCRIBE_CLUSTER_SNAPSHOTS,
    copy: &COPY_CLUSTER_SNAPSHOT,
    delete: &DELETE_CLUSTER_SNAPSHOT,
    id: "DBClusterSnapshotIdentifier",
    source: "SourceDBClusterSnapshotIdentifier",
    target: "TargetDBClusterSnapshotIdentifier",
    list: "DBClusterSnapshots",
    item: "DBClusterSnapshot",
    missing: ["DBClusterSnapshotNotFound", "DBClusterSnapshotNotFoundFault"],
    arn: "cluster-snapshot",
};

/// The lists that requests have, and what RDS calls an item of each.
const LISTS: [(&str, &str); 4] = [
    ("EnableCloudwatchLogsExports", "member"),
    ("ProcessorFeatures", "ProcessorFeature"),
    ("Tags", "Tag"),
    ("VpcSecurityGroupIds", "VpcSecurityGroupId"),
];

/// Makes a call. Lists are given as lists; RDS wants the name of an item with each.
pub(crate) async fn call(wire: &Wire, operation: &'static Operation, input: &Value) -> Result<Value, AwsFailure> {
    let named = |(name, value): (&String, &Value)| {
        let item = LISTS.iter().find(|(list, _)| list == name).map(|(_, item)| *item);
        (name.clone(), item.map_or_else(|| value.clone(), |item| json!({ item: value })))
    };
    let input: Map<String, Value> = input.as_object().into_iter().flatten().map(named).collect();
    wire.call(operation, &Value::Object(input)).await
}

/// The items of a list: RDS's XML does not tell a list of one from a member.
pub(crate) fn each<'a>(list: &'a Value, item: &str) -> Vec<&'a Value> {
    match &list[item] {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
}

/// The instance of this name, as RDS tells of it.
pub(crate) async fn instance(wire: &Wire, name: &str) -> Result<Option<Value>, NativeError> {
    match call(wire, &DESCRIBE_INSTANCES, &json!({ "DBInstanceIdentifier": name })).await {
        Err(failure) if failure.code() == Some("DBInstanceNotFound") => Ok(None),
        answer => Ok(each(&answer?["DBInstances"], "DBInstance").first().copied().cloned()),
    }
}

/// The snapshot of this name, as RDS tells of it.
pub(super) async fn snapshot(wire: &Wire, kind: &Kind, name: &str) -> Result<Option<Value>, NativeError> {
    match call(wire, kind.describe, &json!({ kind.id: name })).await {
        Err(failure) if failure.code().is_some_and(|code| kind.missing.contains(&code)) => Ok(None),
        answer => Ok(each(&answer?[kind.list], kind.item).first().copied().cloned()),
    }
}

/// A snapshot that is there, complete, and encrypted if it must be.
pub(super) async fn complete(wire: &Wire, kind: &Kind, name: &str, encrypted: bool) -> Result<Value, NativeError> {
    let found = snapshot(wire, kind, name).await?;
    let sound = |found: &Value| found["Status"] == "available" && (!encrypted || is_encrypted(kind, found));
    found.filter(sound).ok_or_else(|| {
        let what = if encrypted { "complete and encrypted" } else { "complete" };
        NativeError::NotNow(format!(
            "snapshot `{name}`, which this remediation works from, is not there, or not {what}"
        ))
    })
}

/// RDS tells it of a cluster's snapshot by another name.
pub(super) fn is_encrypted(kind: &Kind, snapshot: &Value) -> bool {
    let field = if kind.arn == OF_CLUSTER.arn { "StorageEncrypted" } else { "Encrypted" };
    snapshot[field] == "true"
}

/// Deletes a snapshot, if it is there.
pub(super) async fn delete_snapshot(wire: &Wire, kind: &Kind, name: &str) -> Result<(), NativeError> {
    match call(wire, kind.delete, &json!({ kind.id: name })).await {
        Err(failure) if failure.code().is_some_and(|code| kind.missing.contains(&code)) => Ok(()),
        answer => Ok(answer.map(drop)?),
    }
}

/// All tags.
pub(super) fn tags(of: &Value) -> Tags {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    each(&of["TagList"], "Tag").into_iter().map(|tag| (text(&tag["Key"]), text(&tag["Value"]))).collect()
}

/// The tags that people gave it: those that a copy gets, too.
pub(super) fn own_tags(of: &Value) -> Tags {
    tags(of).into_iter().filter(|(key, _)| !NOT_OWN.iter().any(|begins| key.starts_with(begins))).collect()
}

/// As requests have them.
pub(super) fn tag_list(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// Adds tags to those that a planned call has.
pub(super) fn tag_too(input: &mut Value, more: &[(&str, &str)]) {
    let more = more.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
    let all = input["Tags"].as_array().cloned().unwrap_or_default().into_iter().chain(more);
    input["Tags"] = all.collect();
}

/// The remediation under whose id copies are made.
pub(super) fn copier(request: &RemediateRequest) -> RemediationId {
    let RemediateRequest { job, account_id, region, .. } = request;
    let claim = ClaimKey::new(account_id, region, &job.control, &job.resource_arn);
    if job.mode == Mode::Snapshot { job.remediation_id } else { snapshot_id(&claim, job.remediation_id) }
}

/// Parameter `KmsKeyId`: the key of copies.
pub(super) fn key(request: &RemediateRequest) -> Result<String, NativeError> {
    const KEY: &str = "the id, alias or ARN of a KMS key";
    let wrong = || NativeError::Parameter { name: "KmsKeyId".to_owned(), expected: KEY };
    let key = parameter(&request.parameters, "KmsKeyId", KEY)?.as_str().ok_or_else(wrong)?;
    let sound = key.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b));
    if sound && (1..=2048).contains(&key.len()) { Ok(key.to_owned()) } else { Err(wrong()) }
}

/// Whether what a call makes may be looked for again: an undo, and the dry run of one, make nothing.
pub(super) const fn makes(request: &RemediateRequest) -> bool {
    request.job.source_evidence_key.is_empty() && !matches!(request.job.mode, Mode::Restore)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::FakeAws;

    #[tokio::test]
    async fn lists_are_sent_with_the_names_of_their_items() {
        let aws = FakeAws::default();
        aws.answer("AddTagsToResource", 200, "<AddTagsToResourceResponse/>");
        let input =
            json!({ "Name": "a b", "Tags": [{ "Key": "k", "Value": "v" }], "VpcSecurityGroupIds": ["sg-1", "sg-2"] });
        call(&Wire::new(aws.config()), &ADD_TAGS, &input).await.unwrap();
        let body = String::from_utf8(aws.seen().remove(0).body).unwrap();
        let wanted = "Action=AddTagsToResource&Version=2014-10-31&Name=a%20b&Tags.Tag.1.Key=k&Tags.Tag.1.Value=v\
                      &VpcSecurityGroupIds.VpcSecurityGroupId.1=sg-1&VpcSecurityGroupIds.VpcSecurityGroupId.2=sg-2";
        assert_eq!(body, wanted);
    }

    #[test]
    fn a_list_of_none_of_one_and_of_several() {
        assert_eq!(each(&Value::Null, "Tag"), [&Value::Null; 0]);
        assert_eq!(each(&json!({ "Tag": { "Key": "a" } }), "Tag"), [&json!({ "Key": "a" })]);
        let tags_of =
            json!({ "TagList": { "Tag": [{ "Key": "a", "Value": "1" }, { "Key": "aws:x" }, { "Key": "redress:y" }] } });
        assert_eq!(own_tags(&tags_of), [("a".to_owned(), "1".to_owned())].into());
    }
}
