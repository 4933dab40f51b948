//! `rds_unencrypted_instance`: a database instance is encrypted.
//!
//! RDS encrypts no instance in place. So a copy takes its place: snapshot → encrypted copy of it → new instance beside the
//! old one, with the same class, network, groups, windows, tags … (mode `Snapshot`, where SSM waits) → the two swap names
//! (`Apply`), so that clients find the new one under the same endpoint. The old one is kept under another name, and the undo
//! swaps the names back; the new one is kept then, too, since somebody may have written to it.
//!
//! What is written between the snapshot and the swap would be in the old instance only. So there must be no client: none
//! before the snapshot, and none from it to the swap. `CloudWatch` tells.
//!
//! A renaming takes minutes and a function has five: who is cut off between the two goes on where it was
//! ([`Native::half_way`]). Snapshots are found by the remediation in their names, instances by name and tags.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest};
use redress_common::ids::RemediationId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::rds::{self, MOST_TAGS, OF, OF_INSTANCE, Tags, each};
use super::{Declared, Native, NativeError, planned, typed, untyped};
use crate::wire::{Operation, Protocol, Service, Wire};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "rds_unencrypted_instance",
    reads: &["cloudwatch:GetMetricStatistics", "rds:DescribeDBInstances", "rds:DescribeDBSnapshots"],
    changes: &[
        "iam:PassRole",
        "rds:AddTagsToResource",
        "rds:CopyDBSnapshot",
        "rds:CreateDBSnapshot",
        "rds:DeleteDBInstance",
        "rds:DeleteDBSnapshot",
        "rds:ModifyDBInstance",
        "rds:RestoreDBInstanceFromDBSnapshot",
    ],
    make: |clients, request| Ok(Box::new(UnencryptedInstance::new(clients.wire.clone(), request)?)),
};

static CLOUDWATCH: Service = Service {
    name: "cloudwatch",
    signing: "monitoring",
    host: "monitoring",
    protocol: Protocol::Query { version: "2010-08-01", item: ".member" },
};
static GET_STATISTICS: Operation = CLOUDWATCH.operation("GetMetricStatistics");

/// In a planned call: the snapshot of the instance.
const SOURCE: &str = "$snapshot";
/// In a planned call: its encrypted copy.
const COPY: &str = "$copy";
/// Tag: the resource id of the instance that it is made from.
const FROM: &str = "redress:instance";
/// What the new instance is called until the swap, and after an undo.
const NEW: &str = "-encrypted";
/// What the old instance is called after the swap.
const OLD: &str = "-unencrypted";
/// RDS takes names of 63 characters.
const LONGEST: usize = 63;
/// How long one run of the function waits for a renaming; it is cut off after five minutes.
const PATIENCE: Duration = Duration::from_secs(220);
const PAUSE: Duration = Duration::from_secs(5);
/// For how long there must have been no client before the snapshot.
const QUIET: SignedDuration = SignedDuration::from_mins(5);

/// The function on one instance.
#[derive(Debug)]
pub struct UnencryptedInstance {
    wire: Wire,
    name: String,
    /// The remediation under whose id copies are made.
    copier: RemediationId,
    key: String,
    mode: Mode,
    /// Whether this run may come to make something.
    makes: bool,
    /// When it stops to wait.
    until: Instant,
}

impl UnencryptedInstance {
    /// Parameter `KmsKeyId`: the key of the copy.
    ///
    /// # Errors
    /// When it is no key.
    pub fn new(wire: Wire, request: &RemediateRequest) -> Result<Self, NativeError> {
        Ok(Self {
            wire,
            name: request.job.resource_name.clone(),
            copier: rds::copier(request),
            key: rds::key(request)?,
            mode: request.job.mode,
            makes: rds::makes(request),
            until: Instant::now() + PATIENCE,
        })
    }

    fn new_name(&self) -> String {
        format!("{}{NEW}", self.name)
    }

    fn old_name(&self) -> String {
        format!("{}{OLD}", self.name)
    }

    fn snapshot_name(&self, what: &str) -> String {
        let what = if what == SOURCE { "source" } else { "copy" };
        format!("redress-{}-{what}", self.copier)
    }

    /// What a planned call means.
    fn meant(&self, planned: &Value) -> Value {
        let named = |(name, value): (&String, &Value)| {
            let text = value.as_str().filter(|text| [SOURCE, COPY].contains(text));
            (name.clone(), text.map_or_else(|| value.clone(), |what| json!(self.snapshot_name(what))))
        };
        Value::Object(planned.as_object().into_iter().flatten().map(named).collect())
    }

    async fn instance(&self, name: &str) -> Result<Option<Value>, NativeError> {
        rds::instance(&self.wire, name).await
    }

    async fn send(&self, operation: &'static Operation, input: &Value) -> Result<(), NativeError> {
        Ok(rds::call(&self.wire, operation, input).await.map(drop)?)
    }

    fn is_ours(&self, instance: &Value) -> bool {
        rds::tags(instance).get(OF) == Some(&self.copier.to_string())
    }

    /// That nothing stands in the way of a copy beside this instance.
    fn may_be_copied(&self, old: &Value, new: Option<&Value>, kept: Option<&Value>) -> Result<(), NativeError> {
        let status = old["DBInstanceStatus"].as_str().unwrap_or("in an unknown state");
        if self.mode != Mode::Apply && !["available", "backing-up", "storage-optimization"].contains(&status) {
            let name = &self.name;
            return Err(NativeError::NotNow(format!(
                "instance {name} is {status}; it is copied only when it is available"
            )));
        }
        let taken = new.filter(|new| !self.is_ours(new)).map(|_| self.new_name()).or(kept.map(|_| self.old_name()));
        match taken {
            Some(taken) => Err(NativeError::NotNow(format!(
                "there is an instance {taken} already, maybe of an earlier remediation; delete or rename it, and ask again"
            ))),
            None => Ok(()),
        }
    }

    /// That no client was connected since then. `CloudWatch` has a number for every minute; its last minute may be missing.
    async fn nobody_since(&self, since: Timestamp) -> Result<(), NativeError> {
        let input = json!({
            "Namespace": "AWS/RDS",
            "MetricName": "DatabaseConnections",
            "Dimensions": [{ "Name": "DBInstanceIdentifier", "Value": self.name }],
            "StartTime": seconds(since),
            "EndTime": seconds(Timestamp::now()),
            "Period": 60,
            "Statistics": ["Maximum"],
        });
        let answer = self.wire.call(&GET_STATISTICS, &input).await?;
        let points = answer["Datapoints"].as_array().map(Vec::as_slice).unwrap_or_default();
        let most = points.iter().filter_map(|point| point["Maximum"].as_str()?.parse::<f64>().ok()).reduce(f64::max);
        match most {
            Some(most) if most < 1.0 => Ok(()),
            Some(most) => Err(NativeError::NotNow(format!(
                "{most} clients of instance {} were connected at a time since {since}: what they write would be in the old \
                 instance only. Stop all that use it, wait five minutes, and ask again",
                self.name
            ))),
            None => Err(NativeError::NotNow(format!(
                "CloudWatch has no DatabaseConnections of instance {} since {since}, so nobody knows whether somebody writes to it",
                self.name
            ))),
        }
    }

    /// Of `Apply`: that the snapshot which the new instance is made from holds all that there is.
    async fn nothing_is_missing(&self) -> Result<(), NativeError> {
        let still = self.instance(&self.name).await?.filter(|instance| instance["StorageEncrypted"] != "true");
        if still.is_none() {
            // It has changed its name already: a run that was cut off had looked.
            return Ok(());
        }
        let copy = rds::complete(&self.wire, &OF_INSTANCE, &self.snapshot_name(COPY), true).await?;
        let at = copy["OriginalSnapshotCreateTime"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let at = at.ok_or(NativeError::Form { what: "a snapshot without a time", native: DECLARED.name })?;
        self.nobody_since(at - SignedDuration::from_mins(1)).await
    }

    async fn waits(&self, what: String) -> Result<(), NativeError> {
        if Instant::now() + PAUSE > self.until {
            return Err(NativeError::Underway(what));
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// Waits until the new instance is as the old one.
    async fn is_alike(&self, wanted: &Value) -> Result<(), NativeError> {
        loop {
            let Some(new) = self.instance(&self.new_name()).await?.filter(|new| self.is_ours(new)) else {
                // It has taken the old one's name already, or it is not there: then it cannot be renamed, either.
                return Ok(());
            };
            let settings = Db::of(&new).afterwards;
            let differs = wanted.as_object().into_iter().flatten().find(|(name, value)| {
                !["DBInstanceIdentifier", "ApplyImmediately"].contains(&name.as_str())
                    && settings.get(*name) != Some(*value)
            });
            if differs.is_none() && new["DBInstanceStatus"] == "available" && new["StorageEncrypted"] == "true" {
                return Ok(());
            }
            let what = differs.map_or("its state", |(name, _)| name);
            self.waits(format!("instance {} is not yet as the old one: {what}", self.new_name())).await?;
        }
    }

    /// Gives an instance another name, and waits for it. When it has the name already, waits only.
    async fn rename(&self, given: Rename) -> Result<(), NativeError> {
        let mut asked = false;
        let Rename { db_instance_identifier: from, new_db_instance_identifier: to, .. } = &given;
        loop {
            let (old, new) = (self.instance(from).await?, self.instance(to).await?);
            let is_ready = |instance: &Option<Value>| {
                instance.as_ref().is_some_and(|instance| instance["DBInstanceStatus"] == "available")
            };
            if is_ready(&new) {
                return Ok(());
            }
            if new.is_none() && !asked && is_ready(&old) {
                self.send(&rds::MODIFY_INSTANCE, &untyped(&given, "a call", DECLARED.name)?).await?;
                asked = true;
                continue;
            }
            if old.is_none() && new.is_none() && !asked {
                return Err(NativeError::NotNow(format!("there is no instance {from} that could be called {to}")));
            }
            self.waits(format!("instance {from} is not yet called {to}")).await?;
        }
    }

    async fn delete_new(&self) -> Result<(), NativeError> {
        let name = self.new_name();
        let Some(new) = self.instance(&name).await?.filter(|new| self.is_ours(new)) else { return Ok(()) };
        if new["DeletionProtection"] == "true" {
            let off = json!({ "DBInstanceIdentifier": name, "DeletionProtection": false, "ApplyImmediately": true });
            self.send(&rds::MODIFY_INSTANCE, &off).await?;
        }
        let input = json!({ "DBInstanceIdentifier": name, "SkipFinalSnapshot": true, "DeleteAutomatedBackups": true });
        self.send(&rds::DELETE_INSTANCE, &input).await
    }

    async fn make(&self, call: &Call) -> Result<String, NativeError> {
        let mut input = self.meant(&call.parameters);
        let copier = self.copier.to_string();
        match call.operation.as_str() {
            "CreateDBSnapshot" => {
                let name = self.snapshot_name(SOURCE);
                if rds::snapshot(&self.wire, &OF_INSTANCE, &name).await?.is_none() {
                    self.nobody_since(Timestamp::now() - QUIET).await?;
                    rds::tag_too(&mut input, &[(OF, &copier)]);
                    self.send(&rds::CREATE_SNAPSHOT, &input).await?;
                }
                Ok(name)
            }
            "CopyDBSnapshot" => {
                let name = self.snapshot_name(COPY);
                if rds::snapshot(&self.wire, &OF_INSTANCE, &name).await?.is_none() {
                    rds::complete(&self.wire, &OF_INSTANCE, &self.snapshot_name(SOURCE), false).await?;
                    rds::tag_too(&mut input, &[(OF, &copier)]);
                    self.send(OF_INSTANCE.copy, &input).await?;
                }
                Ok(name)
            }
            "RestoreDBInstanceFromDBSnapshot" => {
                let name = self.new_name();
                if self.instance(&name).await?.is_none() {
                    let copy = rds::complete(&self.wire, &OF_INSTANCE, &self.snapshot_name(COPY), true).await?;
                    let of = copy["DbiResourceId"].as_str().unwrap_or_default();
                    rds::tag_too(&mut input, &[(OF, &copier), (FROM, of)]);
                    self.send(&rds::RESTORE_INSTANCE, &input).await?;
                }
                Ok(name)
            }
            "ModifyDBInstance" => {
                self.send(&rds::MODIFY_INSTANCE, &input).await?;
                Ok(self.new_name())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

#[async_trait]
impl Native for UnencryptedInstance {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let current = self.instance(&self.name).await?;
        let kept = self.instance(&self.old_name()).await?;
        let new = self.instance(&self.new_name()).await?;
        let is_from = |one: Option<&Value>, kept: &Value| {
            one.is_some_and(|one| rds::tags(one).get(FROM).map(String::as_str) == kept["DbiResourceId"].as_str())
        };
        let swapped = kept
            .as_ref()
            .filter(|kept| is_from(current.as_ref(), kept) || (current.is_none() && is_from(new.as_ref(), kept)));
        if let Some(old) = current.as_ref().filter(|old| old["StorageEncrypted"] != "true")
            && self.makes
            && swapped.is_none()
        {
            self.may_be_copied(old, new.as_ref(), kept.as_ref())?;
        }
        let state = State { instance: current.as_ref().map(Db::of), kept: swapped.map(Db::of) };
        if state.instance.is_none() && state.kept.is_none() {
            return Ok(None);
        }
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        encrypt(&state(now)?, &self.name, &self.key).map(Change)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        put_back(&state(now)?, &state(before)?, &self.name).map(Change)
    }

    fn compliant(&self, now: &Image) -> bool {
        state(now).is_ok_and(|State { instance, kept }| {
            instance.is_some_and(|new| new.encrypted && kept.is_none_or(|old| new.replaces(&old)))
        })
    }

    /// Nothing has the name: the one instance has lost it, and the other has not got it yet.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let (Ok(now), Ok(before)) = (state(now), state(before)) else { return false };
        let moved = before.kept.or(before.instance);
        now.instance.is_none() && now.kept.zip(moved).is_some_and(|(now, before)| now.id == before.id)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            "CreateDBSnapshot" => self.nothing_is_missing().await,
            // Both were made in mode `Snapshot`, and waited for.
            "CopyDBSnapshot" | "RestoreDBInstanceFromDBSnapshot" => Ok(()),
            "ModifyDBInstance" if call.parameters.get("NewDBInstanceIdentifier").is_some() => {
                self.rename(typed(&call.parameters, "a call", DECLARED.name)?).await
            }
            "ModifyDBInstance" => self.is_alike(&call.parameters).await,
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }

    async fn copy(&self, nth: u32) -> Result<String, NativeError> {
        let now = self.inspect().await?.ok_or(NativeError::Refused("the instance is not there any more"))?;
        let calls = self.plan(&now)?.0;
        let nth = usize::try_from(nth).unwrap_or(usize::MAX).checked_sub(1);
        let call =
            nth.and_then(|nth| calls.get(nth)).filter(|call| call.parameters.get("NewDBInstanceIdentifier").is_none());
        self.make(call.ok_or(NativeError::Form { what: "a copy", native: DECLARED.name })?).await
    }

    async fn copied(&self) -> Result<String, NativeError> {
        let copy = self.snapshot_name(COPY);
        rds::complete(&self.wire, &OF_INSTANCE, &copy, true).await?;
        rds::delete_snapshot(&self.wire, &OF_INSTANCE, &self.snapshot_name(SOURCE)).await?;
        Ok(copy)
    }

    /// What was made for a swap that did not begin. The encrypted copy of what there was stays when it was complete.
    async fn discard(&self, mode: Mode) -> Result<(), NativeError> {
        let in_place = self.instance(&self.name).await?.is_some_and(|instance| instance["StorageEncrypted"] != "true");
        let new = if in_place { self.delete_new().await } else { Ok(()) };
        if mode == Mode::Snapshot {
            rds::delete_snapshot(&self.wire, &OF_INSTANCE, &self.snapshot_name(SOURCE)).await?;
            rds::delete_snapshot(&self.wire, &OF_INSTANCE, &self.snapshot_name(COPY)).await?;
        }
        new
    }
}

/// `CloudWatch` wants whole seconds.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

// ------------------------------------------------------------------------------------------- the decision

/// The image's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    /// What has the name.
    instance: Option<Db>,
    /// The instance that had the name before, when another has taken its place.
    kept: Option<Db>,
}

/// An instance: what it is, and how another one is made like it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Db {
    /// Its resource id, which a renaming leaves as it is.
    id: String,
    encrypted: bool,
    /// What is said when it is restored, as the request has it.
    at_restore: Map<String, Value>,
    /// What can be said only when it is there.
    afterwards: Map<String, Value>,
    tags: Tags,
    /// Why it can be replaced only by hand.
    only_by_hand: Option<String>,
}

/// What an answer and a request call by one name, and what a request calls otherwise.
const AT_RESTORE: [(&str, &str); 16] = [
    ("DBInstanceClass", "/DBInstanceClass"),
    ("Port", "/Endpoint/Port"),
    ("DBSubnetGroupName", "/DBSubnetGroup/DBSubnetGroupName"),
    ("MultiAZ", "/MultiAZ"),
    ("PubliclyAccessible", "/PubliclyAccessible"),
    ("AutoMinorVersionUpgrade", "/AutoMinorVersionUpgrade"),
    ("LicenseModel", "/LicenseModel"),
    ("StorageType", "/StorageType"),
    ("CopyTagsToSnapshot", "/CopyTagsToSnapshot"),
    ("EnableIAMDatabaseAuthentication", "/IAMDatabaseAuthenticationEnabled"),
    ("CACertificateIdentifier", "/CACertificateIdentifier"),
    ("NetworkType", "/NetworkType"),
    ("BackupTarget", "/BackupTarget"),
    ("EnableCustomerOwnedIp", "/CustomerOwnedIpEnabled"),
    ("DedicatedLogVolume", "/DedicatedLogVolume"),
    ("EngineLifecycleSupport", "/EngineLifecycleSupport"),
];
const AFTERWARDS: [(&str, &str); 5] = [
    ("BackupRetentionPeriod", "/BackupRetentionPeriod"),
    ("PreferredBackupWindow", "/PreferredBackupWindow"),
    ("PreferredMaintenanceWindow", "/PreferredMaintenanceWindow"),
    ("DeletionProtection", "/DeletionProtection"),
    ("DatabaseInsightsMode", "/DatabaseInsightsMode"),
];
/// Below these RDS takes neither for gp3; what it has then comes of itself.
const GP3: [(&str, i64); 2] = [("Iops", 3000), ("StorageThroughput", 125)];

impl Db {
    fn of(instance: &Value) -> Self {
        let all = |fields: &[(&str, &str)]| -> Map<String, Value> {
            let found =
                fields.iter().filter_map(|(name, at)| Some(((*name).to_owned(), instance.pointer(at)?.clone())));
            found.filter(|(_, value)| !value.is_null()).collect()
        };
        let mut at_restore = all(&AT_RESTORE);
        let mut afterwards = all(&AFTERWARDS);
        let mut at = |name: &str, value: Option<Value>| {
            at_restore.extend(value.map(|value| (name.to_owned(), value)));
        };
        let text = |name: &str| instance[name].as_str();
        let names = |list: &str, item: &str, name: &str| -> Vec<Value> {
            each(&instance[list], item)
                .into_iter()
                .map(|one| one[name].clone())
                .filter(|name| !name.is_null())
                .collect()
        };
        let some = |list: Vec<Value>| (!list.is_empty()).then_some(Value::Array(list));
        at(
            "DBParameterGroupName",
            names("DBParameterGroups", "DBParameterGroup", "DBParameterGroupName").into_iter().next(),
        );
        let options = names("OptionGroupMemberships", "OptionGroupMembership", "OptionGroupName").into_iter().next();
        // A default group comes of itself.
        at("OptionGroupName", options.filter(|name| name.as_str().is_some_and(|name| !name.starts_with("default:"))));
        at("VpcSecurityGroupIds", some(names("VpcSecurityGroups", "VpcSecurityGroupMembership", "VpcSecurityGroupId")));
        at("EnableCloudwatchLogsExports", instance["EnabledCloudwatchLogsExports"].as_array().cloned().and_then(some));
        at(
            "ProcessorFeatures",
            some(each(&instance["ProcessorFeatures"], "ProcessorFeature").into_iter().cloned().collect()),
        );
        // With several zones RDS chooses.
        at(
            "AvailabilityZone",
            text("AvailabilityZone").filter(|_| text("MultiAZ") != Some("true")).map(|zone| json!(zone)),
        );
        let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
        for (name, least) in GP3 {
            let kind = text("StorageType").unwrap_or_default();
            let said = (kind == "gp3" && number(name).is_some_and(|value| value > least))
                || (name == "Iops" && ["io1", "io2"].contains(&kind));
            at(name, text(name).filter(|_| said).map(|value| json!(value)));
        }
        let mut after = |name: &str, value: Option<&str>| {
            afterwards.extend(value.map(|value| (name.to_owned(), json!(value))));
        };
        let grows = number("MaxAllocatedStorage") > number("AllocatedStorage");
        after("MaxAllocatedStorage", text("MaxAllocatedStorage").filter(|_| grows));
        let watched = number("MonitoringInterval").is_some_and(|seconds| seconds > 0);
        after("MonitoringInterval", text("MonitoringInterval").filter(|_| watched));
        after("MonitoringRoleArn", text("MonitoringRoleArn").filter(|_| watched));
        let insights = text("PerformanceInsightsEnabled") == Some("true");
        after("EnablePerformanceInsights", insights.then_some("true"));
        after("PerformanceInsightsKMSKeyId", text("PerformanceInsightsKMSKeyId").filter(|_| insights));
        after("PerformanceInsightsRetentionPeriod", text("PerformanceInsightsRetentionPeriod").filter(|_| insights));
        Self {
            id: text("DbiResourceId").unwrap_or_default().to_owned(),
            encrypted: text("StorageEncrypted") == Some("true"),
            at_restore,
            afterwards,
            tags: rds::own_tags(instance),
            only_by_hand: only_by_hand(instance).map(str::to_owned),
        }
    }

    /// Whether this one is what the other is, encrypted.
    fn replaces(&self, old: &Self) -> bool {
        let same = |one: &Map<String, Value>, other: &Map<String, Value>| one == other;
        self.encrypted
            && same(&self.at_restore, &old.at_restore)
            && same(&self.afterwards, &old.afterwards)
            && self.tags == old.tags
    }
}

/// What a restored instance would lack, or what names this very instance.
fn only_by_hand(instance: &Value) -> Option<&'static str> {
    let has = |name: &str| match &instance[name] {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let engine = instance["Engine"].as_str().unwrap_or_default();
    let rows = [
        (has("DBClusterIdentifier"), "the instance belongs to a cluster, which is encrypted as a whole"),
        (
            has("ReadReplicaSourceDBInstanceIdentifier"),
            "the instance is a read replica; encrypt its source, and make it anew",
        ),
        (
            has("ReadReplicaDBInstanceIdentifiers") || has("ReadReplicaDBClusterIdentifiers"),
            "the instance has read replicas, which would go on following the old one; remove them first, and make them anew",
        ),
        (
            has("PendingModifiedValues"),
            "the instance has modifications that wait, which renaming it would apply; apply them first",
        ),
        (has("AssociatedRoles"), "the instance has roles for features of its engine, which a restored one lacks"),
        (has("DomainMemberships"), "the instance is joined to a directory"),
        (has("TdeCredentialArn"), "the instance uses transparent data encryption with a key of its own"),
        (
            has("MasterUserSecret"),
            "Secrets Manager keeps the instance's password; a restored one would have another secret",
        ),
        (
            instance["ActivityStreamStatus"].as_str().is_some_and(|status| status != "stopped"),
            "the instance has an activity stream; stop it first",
        ),
        (engine.starts_with("custom-"), "the instance is of RDS Custom"),
    ];
    rows.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why)
}

fn state(image: &Image) -> Result<State, NativeError> {
    typed(&image.state, "the state", DECLARED.name)
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    #[serde(rename = "DBInstanceIdentifier")]
    db_instance_identifier: String,
    #[serde(rename = "NewDBInstanceIdentifier")]
    new_db_instance_identifier: String,
    #[serde(rename = "ApplyImmediately")]
    apply_immediately: bool,
}

fn call<T: Serialize>(operation: &str, parameters: &T) -> Result<Call, NativeError> {
    planned(&DECLARED, "rds", operation, parameters)
}

fn rename(from: &str, to: &str) -> Result<Call, NativeError> {
    let parameters = Rename {
        db_instance_identifier: from.to_owned(),
        new_db_instance_identifier: to.to_owned(),
        apply_immediately: true,
    };
    call("ModifyDBInstance", &parameters)
}

/// The calls that put an encrypted instance in the place of this one; none when it is encrypted.
fn encrypt(state: &State, name: &str, key: &str) -> Result<Vec<Call>, NativeError> {
    let (old_name, new_name) = (format!("{name}{OLD}"), format!("{name}{NEW}"));
    let Some(old) = &state.instance else {
        // A swap was cut off, and nobody put it back.
        return Ok(vec![rename(&new_name, name)?]);
    };
    if old.encrypted {
        return Ok(Vec::new());
    }
    if let Some(why) = &old.only_by_hand {
        return Err(NativeError::NotNow(format!("{why}. It can be replaced only by hand")));
    }
    if old_name.len() > LONGEST {
        return Err(NativeError::Refused(
            "the instance's name is so long that RDS takes no longer one for the one that is kept",
        ));
    }
    if old.tags.len() > MOST_TAGS {
        return Err(NativeError::Refused(
            "the instance has more than 47 tags, so that its copy would have more than AWS allows",
        ));
    }
    let mut restore = old.at_restore.clone();
    restore.extend([
        ("DBInstanceIdentifier".to_owned(), json!(new_name)),
        ("DBSnapshotIdentifier".to_owned(), json!(COPY)),
        ("Tags".to_owned(), rds::tag_list(&old.tags)),
    ]);
    let mut modify = old.afterwards.clone();
    modify.extend([("DBInstanceIdentifier".to_owned(), json!(new_name)), ("ApplyImmediately".to_owned(), json!(true))]);
    Ok(vec![
        call("CreateDBSnapshot", &json!({ "DBInstanceIdentifier": name, "DBSnapshotIdentifier": SOURCE }))?,
        call(
            "CopyDBSnapshot",
            &json!({ "SourceDBSnapshotIdentifier": SOURCE, "TargetDBSnapshotIdentifier": COPY, "KmsKeyId": key }),
        )?,
        call("RestoreDBInstanceFromDBSnapshot", &restore)?,
        call("ModifyDBInstance", &modify)?,
        rename(name, &old_name)?,
        rename(&new_name, name)?,
    ])
}

/// The calls that give the old instance its name back, from wherever a swap came to.
fn put_back(now: &State, before: &State, name: &str) -> Result<Vec<Call>, NativeError> {
    let Some(old) = before.instance.as_ref().filter(|old| !old.encrypted) else {
        return Err(NativeError::Refused("the instance was encrypted before, so there is nothing to swap back"));
    };
    let (old_name, new_name) = (format!("{name}{OLD}"), format!("{name}{NEW}"));
    if now.kept.as_ref().is_none_or(|kept| kept.id != old.id) {
        return Err(NativeError::Refused(
            "the old instance is not there under the name that it was kept by; swap it back by hand",
        ));
    }
    let away = now.instance.is_some().then(|| rename(name, &new_name)).transpose()?;
    Ok(away.into_iter().chain([rename(&old_name, name)?]).collect())
}

#[cfg(test)]
#[path = "rds_unencrypted_instance_tests.rs"]
mod tests;
