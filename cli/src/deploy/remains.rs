//! What stacks leave when they go: tables, buckets, queues and log groups keep their names and what is in them. Where one is
//! there and its stack is not, CloudFormation cannot make the stack.
//!
//! Which they are is read from a template, purely; whether they are there is asked of AWS.

use std::fmt;

use aws_sdk_s3::types::{Delete, Error as S3Error, ObjectIdentifier};
use aws_types::SdkConfig;
use jiff::Timestamp;
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::{AccountId, Region};
use redress_lab::template::{Stack, Template, TemplateError};
use redress_member::wire::{Operation, Protocol, Service, Wire};
use serde_json::{Value, json};

use crate::problem::Problem;

static DYNAMODB: Service = Service::of("dynamodb", Protocol::Json { target: "DynamoDB_20120810", version: "1.0" });
static LOGS: Service = Service::of("logs", Protocol::Json { target: "Logs_20140328", version: "1.1" });
static SQS: Service = Service::of("sqs", Protocol::Json { target: "AmazonSQS", version: "1.0" });

static DESCRIBE_TABLE: Operation = DYNAMODB.operation("DescribeTable");
static UPDATE_TABLE: Operation = DYNAMODB.operation("UpdateTable");
static DELETE_TABLE: Operation = DYNAMODB.operation("DeleteTable");
static DESCRIBE_LOG_GROUPS: Operation = LOGS.operation("DescribeLogGroups");
static DELETE_LOG_GROUP: Operation = LOGS.operation("DeleteLogGroup");
static GET_QUEUE_URL: Operation = SQS.operation("GetQueueUrl");
static DELETE_QUEUE: Operation = SQS.operation("DeleteQueue");

/// Codes with which AWS says that there is no such thing.
const ABSENT: [&str; 4] =
    ["AWS.SimpleQueueService.NonExistentQueue", "NoSuchBucket", "QueueDoesNotExist", "ResourceNotFoundException"];

/// A kind of thing that keeps its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Table,
    Bucket,
    Queue,
    LogGroup,
}

/// Each kind, its type in a template, and the property with its name.
const KINDS: [(Kind, &str, &str); 4] = [
    (Kind::Table, "AWS::DynamoDB::Table", "TableName"),
    (Kind::Bucket, "AWS::S3::Bucket", "BucketName"),
    (Kind::Queue, "AWS::SQS::Queue", "QueueName"),
    (Kind::LogGroup, "AWS::Logs::LogGroup", "LogGroupName"),
];

/// Something with a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remain {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl Remain {
    pub(crate) fn table(name: &str) -> Self {
        Self { kind: Kind::Table, name: name.to_owned() }
    }

    pub(crate) fn bucket(name: &str) -> Self {
        Self { kind: Kind::Bucket, name: name.to_owned() }
    }
}

impl fmt::Display for Remain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Table => "table",
            Kind::Bucket => "bucket",
            Kind::Queue => "queue",
            Kind::LogGroup => "log group",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// What the stack of a template makes in an account and Region that can be left there. Pure.
pub(crate) fn named(template: &Template, account: &AccountId, region: &Region) -> Result<Vec<Remain>, TemplateError> {
    let pseudo = [("AWS::AccountId", account.to_string()), ("AWS::Region", region.to_string())];
    let parameters = pseudo.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let stack = Stack { parameters, ..Stack::default() };
    let mut found = Vec::new();
    for (_, given, properties) in template.resources() {
        let Some((kind, _, property)) = KINDS.iter().find(|(_, kind, _)| *kind == given) else { continue };
        if let Some(Value::String(name)) = template.resolve(&properties[*property], &stack)? {
            found.push(Remain { kind: *kind, name });
        }
    }
    found.sort();
    Ok(found)
}

/// What became of something that should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Deleted,
    /// It was not there.
    Absent,
    /// A bucket that holds something.
    Full,
}

/// What becomes of versions that are locked in governance mode, which whoever may can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// They stay.
    Heed,
    /// They go: somebody means it.
    End,
}

/// An account and Region, as whoever may look and delete there.
pub(crate) struct Site {
    wire: Wire,
    s3: aws_sdk_s3::Client,
}

impl Site {
    pub(crate) fn new(config: &SdkConfig, region: &Region) -> Self {
        Self { wire: Wire::new(config.clone()).in_region(region.as_str()), s3: s3_client(config, region) }
    }

    /// Whether it is there.
    pub(crate) async fn has(&self, one: &Remain) -> Result<bool, Problem> {
        match self.look(one).await {
            Ok(is_there) => Ok(is_there),
            Err(failure) if is_absent(&failure) => Ok(false),
            Err(failure) => Err(Problem::aws(&format!("look for {one}"), &failure)),
        }
    }

    async fn look(&self, one: &Remain) -> Result<bool, AwsFailure> {
        let name = &one.name;
        match one.kind {
            Kind::Table => self.wire.call(&DESCRIBE_TABLE, &json!({ "TableName": name })).await.map(|_| true),
            Kind::Queue => self.wire.call(&GET_QUEUE_URL, &json!({ "QueueName": name })).await.map(|_| true),
            Kind::Bucket => {
                let listed = self.s3.list_object_versions().bucket(name).max_keys(1).send().await;
                listed.map(|_| true).map_err(|error| AwsFailure::of("s3:ListObjectVersions", &error))
            }
            Kind::LogGroup => {
                let found = self.wire.call(&DESCRIBE_LOG_GROUPS, &json!({ "logGroupNamePrefix": name })).await?;
                let mut groups = found["logGroups"].as_array().into_iter().flatten();
                Ok(groups.any(|group| group["logGroupName"] == name.as_str()))
            }
        }
    }

    /// Deletes it, a bucket only when it is empty.
    pub(crate) async fn delete(&self, one: &Remain) -> Result<Fate, Problem> {
        match self.remove(one).await {
            Ok(()) => Ok(Fate::Deleted),
            Err(failure) if is_absent(&failure) => Ok(Fate::Absent),
            Err(failure) if failure.code() == Some("BucketNotEmpty") => Ok(Fate::Full),
            Err(failure) => Err(Problem::aws(&format!("delete {one}"), &failure)),
        }
    }

    async fn remove(&self, one: &Remain) -> Result<(), AwsFailure> {
        let name = &one.name;
        match one.kind {
            Kind::Table => {
                let open = json!({ "TableName": name, "DeletionProtectionEnabled": false });
                match self.wire.call(&UPDATE_TABLE, &open).await {
                    // It is not protected, and there is nothing to update.
                    Err(failure) if failure.code() != Some("ValidationException") => return Err(failure),
                    _ => {}
                }
                self.wire.call(&DELETE_TABLE, &json!({ "TableName": name })).await?;
            }
            Kind::Bucket => {
                let deleted = self.s3.delete_bucket().bucket(name).send().await;
                deleted.map_err(|error| AwsFailure::of("s3:DeleteBucket", &error))?;
            }
            Kind::Queue => {
                let found = self.wire.call(&GET_QUEUE_URL, &json!({ "QueueName": name })).await?;
                self.wire.call(&DELETE_QUEUE, &json!({ "QueueUrl": found["QueueUrl"] })).await?;
            }
            Kind::LogGroup => {
                self.wire.call(&DELETE_LOG_GROUP, &json!({ "logGroupName": name })).await?;
            }
        }
        Ok(())
    }

    /// Deletes every version of everything in a bucket, if there is such a bucket.
    pub(crate) async fn empty(&self, bucket: &str, locks: Locks) -> Result<(), Problem> {
        let failed = |failure: AwsFailure| Problem::aws(&format!("empty bucket {bucket}"), &failure);
        loop {
            let listed = match self.s3.list_object_versions().bucket(bucket).send().await {
                Ok(listed) => listed,
                Err(error) => {
                    let failure = AwsFailure::of("s3:ListObjectVersions", &error);
                    return if is_absent(&failure) { Ok(()) } else { Err(failed(failure)) };
                }
            };
            let versions = listed.versions().iter().map(|one| (one.key(), one.version_id()));
            let markers = listed.delete_markers().iter().map(|one| (one.key(), one.version_id()));
            let all: Vec<ObjectIdentifier> =
                versions.chain(markers).filter_map(|(key, version)| identified(key, version)).collect();
            if all.is_empty() {
                return Ok(());
            }
            let mut kept = self.versions_go(bucket, all, false).await?;
            if locks == Locks::End && !kept.is_empty() {
                let locked = kept.iter().filter_map(|one| identified(one.key(), one.version_id())).collect();
                kept = self.versions_go(bucket, locked, true).await?;
            }
            if let Some(one) = kept.first() {
                return Err(self.stays(bucket, one).await);
            }
        }
    }

    /// Deletes these versions; what S3 kept.
    async fn versions_go(
        &self,
        bucket: &str,
        all: Vec<ObjectIdentifier>,
        bypass: bool,
    ) -> Result<Vec<S3Error>, Problem> {
        let delete = Delete::builder().set_objects(Some(all)).quiet(true).build();
        let delete = delete.map_err(|error| Problem::aws("empty a bucket", &error))?;
        let deleted = self.s3.delete_objects().bucket(bucket).delete(delete);
        let deleted = deleted.set_bypass_governance_retention(bypass.then_some(true)).send().await;
        let deleted = deleted.map_err(|error| {
            Problem::aws(&format!("empty bucket {bucket}"), &AwsFailure::of("s3:DeleteObjects", &error))
        })?;
        Ok(deleted.errors.unwrap_or_default())
    }

    /// What cannot be deleted, and until when if it is locked.
    async fn stays(&self, bucket: &str, kept: &S3Error) -> Problem {
        let (key, why) = (kept.key().unwrap_or_default(), kept.message().unwrap_or_default());
        let asked = self.s3.get_object_retention().bucket(bucket).key(key);
        let asked = asked.set_version_id(kept.version_id().map(str::to_owned)).send().await;
        let until = asked.ok().and_then(|answer| answer.retention?.retain_until_date);
        let until = until.and_then(|until| Timestamp::from_second(until.secs()).ok());
        not_empty(bucket, key, until, why)
    }
}

/// That something in a bucket cannot be deleted.
fn not_empty(bucket: &str, key: &str, until: Option<Timestamp>, why: &str) -> Problem {
    let locked = until.map(|until| format!(", which is locked until {until}")).unwrap_or_default();
    Problem::refused(format!("bucket {bucket} cannot be emptied: {key}{locked}: {why}")).help(
        "is it locked? A lock in compliance mode (of evidence: ObjectLockDays, or IncidentLockMode, of the member stack; of \
         checkpoints: CheckpointLockMode of the administrator's) ends by itself and nobody can end it sooner; one in governance mode is ended by a role that has \
         s3:BypassGovernanceRetention (of evidence: --member-role)",
    )
}

fn identified(key: Option<&str>, version: Option<&str>) -> Option<ObjectIdentifier> {
    ObjectIdentifier::builder().key(key?).set_version_id(version.map(str::to_owned)).build().ok()
}

fn is_absent(failure: &AwsFailure) -> bool {
    failure.code().is_some_and(|code| ABSENT.contains(&code))
}

/// That something of an earlier deployment is in the way of a stack.
pub(crate) fn in_the_way(stack: &str, left: &[String]) -> Problem {
    Problem::refused(format!(
        "stack {stack} cannot be made: of an earlier deployment there still are {}",
        left.join(", ")
    ))
    .help(
        "CloudFormation makes nothing under a name that is taken. Copy what you need, then `redress deploy destroy \
         --delete-evidence` deletes these in every account; docs/uninstall.md, \"Deploying again\"",
    )
}

/// What to do when CloudFormation did not bring stacks about, by its reasons.
pub(crate) fn hint(reasons: &str) -> &'static str {
    // Some names CloudFormation looks at before it begins; then the reason is in the stack's DescribeEvents alone.
    if reasons.contains("already exist") || reasons.contains("DescribeEvents") {
        "is something of an earlier deployment in the way? docs/uninstall.md, \"Deploying again\". Then `redress deploy \
         apply` again: it goes on where it stopped"
    } else {
        "mend what is named there, then `redress deploy apply` again: it goes on where it stopped"
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::deploy::release::{self, tests::release};
    use crate::problem::Exit;

    #[test]
    fn whatever_a_stack_leaves_under_a_name_is_read_from_its_template() {
        let (_folder, release) = release("0.1.0");
        let (account, region) = ("222222222222".parse().unwrap(), "eu-west-1".parse().unwrap());
        for (file, some) in [
            (
                release::ADMINISTRATOR,
                [
                    "table RedressAuditLog",
                    "bucket redress-threat-intelligence-222222222222-eu-west-1",
                    "queue redress-parked",
                ],
            ),
            (
                release::MEMBER,
                [
                    "bucket security-remediation-logs-222222222222-eu-west-1",
                    "queue redress-forward-dlq",
                    "log group /aws/lambda/redress-guard",
                ],
            ),
            (
                release::REGION,
                [
                    "queue redress-forward-dlq",
                    "log group /aws/lambda/redress-recorder",
                    "log group /aws/lambda/redress-guard",
                ],
            ),
        ] {
            let sources: Vec<_> = release.whole(file).collect();
            let named = sources.iter().flat_map(|source| named(&source.template, &account, &region).unwrap());
            let told: Vec<String> = named.map(|one| one.to_string()).collect();
            assert!(some.iter().all(|one| told.iter().any(|told| told == one)), "{file}: {told:?}");
            // Keys have no name, and are in nobody's way.
            let count = |what: &str| sources.iter().map(|source| source.text.matches(what).count()).sum::<usize>();
            assert_eq!(told.len(), count("    DeletionPolicy: ") - count("Type: AWS::KMS::Key\n"), "{file}: {told:?}");
        }
    }

    #[test]
    fn what_is_in_the_way_is_named_and_nothing_was_changed() {
        let problem = in_the_way("s", &["table A".to_owned(), "queue b".to_owned()]);
        assert_eq!(problem.exit(), Exit::Refused);
        assert!(problem.plain().contains("table A, queue b") && problem.plain().contains("--delete-evidence"));
    }

    #[test]
    fn what_cannot_be_deleted_is_named_with_the_end_of_its_lock_if_it_has_one() {
        let until = Some(Timestamp::from_second(1_767_225_600).unwrap());
        let locked = not_empty("b", "k", until, "Access Denied");
        assert_eq!(locked.exit(), Exit::Refused);
        assert!(locked.plain().contains("b cannot be emptied: k, which is locked until 2026-01-01T00:00:00Z: Access"));
        assert!(not_empty("b", "k", None, "Access Denied").plain().contains("b cannot be emptied: k: Access Denied\n"));
    }

    #[test]
    fn a_reason_that_a_name_is_taken_leads_to_what_an_earlier_deployment_left() {
        let taken = "Kept: Resource of type 'AWS::Logs::LogGroup' with identifier '/x' already exists.";
        assert!(hint(taken).contains("uninstall.md") && hint(taken).contains("deploy apply"));
        assert!(hint("Call DescribeEvents to retrieve the full list").contains("uninstall.md"));
        assert!(!hint("Limit exceeded").contains("uninstall.md"));
    }
}
