//! `contain_rds_instance`: nobody reaches a database, and nobody deletes it.
//!
//! It gets the security group `redress-quarantine` of its VPC and no other, loses its public address, and is protected from
//! deletion; then a snapshot of it is begun, as evidence. What isolates comes first, and does not wait for the snapshot: when
//! that fails, it is told with the end ([`Native::may_fail`]). Groups and deletion protection of an instance in a cluster are
//! its cluster's, so there the whole cluster is isolated. RDS applies these three at once whatever the maintenance window, so
//! `ApplyImmediately` is not said: it would apply what else waits for that window.
//!
//! RDS works for minutes and refuses changes while it does; a function has five. Each call waits until RDS shows what it asked
//! for, and goes on where it was when it is started again. What was looked at right before the calls is not read anew for
//! each of them, but for the quarantine's rules when it was just made. Connections that are open already may live on until they close.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use redress_common::custody::{Item, ItemKind};
use redress_common::ids::RemediationId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::quarantine::{self, GROUP, Group};
use crate::custody::item;
use crate::native::rds::{self, each};
use crate::native::{Declared, Native, NativeError, planned, typed, untyped};
use crate::wire::{Operation, Wire};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_rds_instance",
    reads: &["ec2:DescribeSecurityGroups", "rds:DescribeDBClusters", "rds:DescribeDBInstances"],
    changes: &[
        "ec2:CreateSecurityGroup",
        "ec2:RevokeSecurityGroupEgress",
        "rds:CreateDBClusterSnapshot",
        "rds:CreateDBSnapshot",
        "rds:ModifyDBCluster",
        "rds:ModifyDBInstance",
    ],
    make: |clients, request| Ok(Box::new(ContainInstance::new(clients.wire.clone(), clients.ec2.clone(), request))),
};

static DESCRIBE_CLUSTERS: Operation = rds::operation("DescribeDBClusters");
static MODIFY_CLUSTER: Operation = rds::operation("ModifyDBCluster");
static CREATE_CLUSTER_SNAPSHOT: Operation = rds::operation("CreateDBClusterSnapshot");

/// With these codes RDS says that it is at something else. The API reference and its model do not agree.
const BUSY: [&str; 4] =
    ["InvalidDBInstanceState", "InvalidDBInstanceStateFault", "InvalidDBClusterStateFault", "InvalidDBClusterState"];
/// And with these, that the snapshot is there.
const THERE: [&str; 3] =
    ["DBSnapshotAlreadyExists", "DBClusterSnapshotAlreadyExistsFault", "DBSnapshotAlreadyExistsFault"];
/// In these states an instance takes no changes, and will not for long.
const IDLE: [&str; 4] = ["deleting", "failed", "stopped", "stopping"];

/// How long a call waits for RDS, of the 40 seconds that the function has: who invoked it waits, too.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the snapshot's waits: what isolates is done then.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(8);
/// Between two looks at what RDS does: at first, and at most. What it does at once is seen at once.
const PAUSES: [Duration; 2] =
    if cfg!(test) { [Duration::from_millis(1); 2] } else { [Duration::from_millis(200), Duration::from_secs(4)] };

/// The playbook on one instance.
#[derive(Debug)]
struct ContainInstance {
    wire: Wire,
    ec2: aws_sdk_ec2::Client,
    name: String,
    remediation: RemediationId,
    until: Instant,
    /// What the last look found.
    last: Mutex<Look>,
    taken: Mutex<Vec<Item>>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
struct Look {
    /// The settings, when there is an instance.
    state: Option<State>,
    /// It changes by itself.
    status: String,
    /// It is others', too.
    quarantine: Option<Group>,
}

/// The next of the pauses.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(PAUSES[1])
}

impl ContainInstance {
    fn new(wire: Wire, ec2: aws_sdk_ec2::Client, request: &RemediateRequest) -> Self {
        Self {
            wire,
            ec2,
            name: request.job.resource_name.clone(),
            remediation: request.job.remediation_id,
            until: Instant::now() + PATIENCE,
            last: Mutex::default(),
            taken: Mutex::default(),
        }
    }

    async fn read(&self) -> Result<Option<(State, String)>, NativeError> {
        let Some(instance) = rds::instance(&self.wire, &self.name).await? else { return Ok(None) };
        let cluster = match instance["DBClusterIdentifier"].as_str() {
            None => None,
            Some(cluster) => {
                let input = json!({ "DBClusterIdentifier": cluster });
                let answer = rds::call(&self.wire, &DESCRIBE_CLUSTERS, &input).await?;
                let found = each(&answer["DBClusters"], "DBCluster").first().copied().cloned();
                Some(found.ok_or(NativeError::Form { what: "the instance's cluster", native: DECLARED.name })?)
            }
        };
        let status = instance["DBInstanceStatus"].as_str().unwrap_or_default().to_owned();
        Ok(Some((State::of(&instance, cluster.as_ref())?, status)))
    }

    fn last(&self) -> Look {
        self.last.lock().map(|last| last.clone()).unwrap_or_default()
    }

    /// The instance as it was when it was looked at last: right before the first of the calls, all of it was.
    async fn known(&self) -> Result<(State, String), NativeError> {
        let found = match self.last() {
            Look { state: Some(state), status, .. } => Some((state, status)),
            Look { state: None, .. } => self.read().await?,
        };
        found.ok_or_else(|| self.gone())
    }

    fn gone(&self) -> NativeError {
        NativeError::NotNow(format!("instance {} is not there any more", self.name))
    }

    /// The calls that make the instance's settings these, as far as they differ.
    fn set(&self, now: &State, wanted: &Wanted) -> Result<Vec<Call>, NativeError> {
        let mut of_cluster = Map::new();
        if wanted.groups != now.groups {
            of_cluster.insert("VpcSecurityGroupIds".to_owned(), json!(wanted.groups));
        }
        if wanted.deletion_protection != now.deletion_protection {
            of_cluster.insert("DeletionProtection".to_owned(), json!(wanted.deletion_protection));
        }
        let mut of_instance = Map::new();
        if wanted.publicly_accessible != now.publicly_accessible && now.has_own_address() {
            of_instance.insert("PubliclyAccessible".to_owned(), json!(wanted.publicly_accessible));
        }
        let mut calls = Vec::new();
        match &now.cluster {
            None => of_instance.append(&mut of_cluster),
            Some(cluster) if !of_cluster.is_empty() => {
                of_cluster.insert("DBClusterIdentifier".to_owned(), json!(cluster));
                calls.push(planned(&DECLARED, "rds", "ModifyDBCluster", &of_cluster)?);
            }
            Some(_) => {}
        }
        if !of_instance.is_empty() {
            of_instance.insert("DBInstanceIdentifier".to_owned(), json!(self.name));
            calls.push(planned(&DECLARED, "rds", "ModifyDBInstance", &of_instance)?);
        }
        Ok(calls)
    }

    fn snapshot(&self, now: &State) -> Result<Call, NativeError> {
        let name = format!("redress-{}", self.remediation);
        match &now.cluster {
            None => {
                let with = json!({ "DBInstanceIdentifier": self.name, "DBSnapshotIdentifier": name });
                planned(&DECLARED, "rds", "CreateDBSnapshot", &with)
            }
            Some(cluster) => {
                let with = json!({ "DBClusterIdentifier": cluster, "DBClusterSnapshotIdentifier": name });
                planned(&DECLARED, "rds", "CreateDBClusterSnapshot", &with)
            }
        }
    }

    async fn vpc(&self) -> Result<String, NativeError> {
        Ok(self.known().await?.0.vpc)
    }

    /// What a planned call means: with the id of the group that was made.
    async fn meant(&self, call: &Call) -> Result<Value, NativeError> {
        let mut input = call.parameters.clone();
        if input["VpcSecurityGroupIds"] == json!([GROUP]) {
            let found = quarantine::find(&self.ec2, &self.vpc().await?).await?;
            let group = found.filter(Group::isolates).ok_or_else(|| {
                NativeError::NotNow("security group `redress-quarantine` is not there, or has rules".to_owned())
            })?;
            input["VpcSecurityGroupIds"] = json!([group.id]);
        }
        Ok(input)
    }

    /// Asks for a change once, at once, and waits until RDS shows it.
    async fn modify(&self, operation: &'static Operation, input: &Value) -> Result<(), NativeError> {
        let (mut now, mut status) = self.known().await?;
        let (mut asked, mut pause) = (false, PAUSES[0]);
        while !now.shows(input) {
            if !asked {
                match rds::call(&self.wire, operation, input).await {
                    Err(failure) if failure.code().is_some_and(|code| BUSY.contains(&code)) => {}
                    answer => {
                        answer?;
                        asked = true;
                    }
                }
            }
            if Instant::now() + pause > self.until {
                let name = &self.name;
                return Err(NativeError::Underway(format!("instance {name} is {status}, and not yet as was asked")));
            }
            tokio::time::sleep(pause).await;
            pause = longer(pause);
            (now, status) = self.read().await?.ok_or_else(|| self.gone())?;
        }
        Ok(())
    }

    fn took(&self, kind: ItemKind, name: &Value) {
        if let Ok(mut taken) = self.taken.lock() {
            taken.push(item(kind, name.as_str().unwrap_or_default(), format!("{}, after isolation", self.name)));
        }
    }

    /// Begins a snapshot, when RDS has got the time.
    async fn acquire(&self, operation: &'static Operation, input: &Value) -> Result<(), NativeError> {
        let (until, mut pause) = (Instant::now() + SNAPSHOT_PATIENCE, PAUSES[0]);
        loop {
            match rds::call(&self.wire, operation, input).await {
                Err(failure) if failure.code().is_some_and(|code| THERE.contains(&code)) => return Ok(()),
                Err(failure)
                    if failure.code().is_some_and(|code| BUSY.contains(&code)) && Instant::now() + pause < until =>
                {
                    tokio::time::sleep(pause).await;
                    pause = longer(pause);
                }
                answer => return Ok(answer.map(drop)?),
            }
        }
    }
}

#[async_trait]
impl Native for ContainInstance {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        // Which VPC is meant is known with the instance: the groups of all of them are few, and need not wait for it.
        let (read, groups) = tokio::join!(self.read(), quarantine::all(&self.ec2));
        let Some((state, status)) = read? else { return Ok(None) };
        let quarantine = groups?.into_iter().find(|group| group.vpc == state.vpc);
        let image = Image { present: true, state: untyped(&state, "the state", DECLARED.name)? };
        if let Ok(mut last) = self.last.lock() {
            *last = Look { state: Some(state), status, quarantine };
        }
        Ok(Some(image))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let Look { status, quarantine, .. } = self.last();
        let making = quarantine::plan(&DECLARED, &state.vpc, quarantine.as_ref())?;
        let group = quarantine.filter(|_| making.is_empty()).map_or_else(|| GROUP.to_owned(), |group| group.id);
        let wanted = Wanted { groups: vec![group], publicly_accessible: false, deletion_protection: true };
        let set = self.set(&state, &wanted)?;
        if set.is_empty() {
            return Ok(Change::default());
        }
        if IDLE.contains(&status.as_str()) {
            let name = &self.name;
            return Err(NativeError::NotNow(format!(
                "instance {name} is {status}: it serves nobody, and RDS changes nothing about it until it is available"
            )));
        }
        let needs_group = set.iter().any(|call| call.parameters.get("VpcSecurityGroupIds").is_some());
        let making = if needs_group { making } else { Vec::new() };
        Ok(Change(making.into_iter().chain(set).chain([self.snapshot(&state)?]).collect()))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        if now.cluster != before.cluster || now.vpc != before.vpc {
            return Err(NativeError::Refused(
                "the instance has moved to another cluster or VPC since; nothing was changed",
            ));
        }
        let wanted = Wanted {
            groups: before.groups,
            publicly_accessible: before.publicly_accessible,
            deletion_protection: before.deletion_protection,
        };
        self.set(&now, &wanted).map(Change)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            "CreateSecurityGroup" | "RevokeSecurityGroupEgress" => {
                let done = quarantine::call(&self.ec2, &self.vpc().await?, call).await;
                done.unwrap_or(Err(NativeError::Form { what: "a call", native: DECLARED.name }))
            }
            "ModifyDBInstance" => self.modify(&rds::MODIFY_INSTANCE, &self.meant(call).await?).await,
            "ModifyDBCluster" => self.modify(&MODIFY_CLUSTER, &self.meant(call).await?).await,
            "CreateDBSnapshot" => {
                self.acquire(&rds::CREATE_SNAPSHOT, &call.parameters).await?;
                self.took(ItemKind::RdsSnapshot, &call.parameters["DBSnapshotIdentifier"]);
                Ok(())
            }
            "CreateDBClusterSnapshot" => {
                self.acquire(&CREATE_CLUSTER_SNAPSHOT, &call.parameters).await?;
                self.took(ItemKind::RdsClusterSnapshot, &call.parameters["DBClusterSnapshotIdentifier"]);
                Ok(())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }

    async fn acquired(&self) -> Vec<Item> {
        self.taken.lock().map(|taken| taken.clone()).unwrap_or_default()
    }

    /// The snapshot is evidence: without it the database is isolated all the same.
    fn may_fail(&self, call: &Call) -> bool {
        call.operation.ends_with("Snapshot")
    }

    fn is_left(&self, call: &Call, _now: &Image) -> bool {
        self.may_fail(call)
    }

    /// Each setting is as it was, or as it is to be.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let read = |image: &Image| typed::<State>(&image.state, "the state", DECLARED.name);
        let (Ok(now), Ok(before)) = (read(now), read(before)) else { return false };
        let quarantined = self.last().quarantine.is_some_and(|group| now.groups == [group.id]);
        now.cluster == before.cluster
            && now.vpc == before.vpc
            && (quarantined || now.groups == before.groups)
            && (now.deletion_protection || !before.deletion_protection)
            && (!now.publicly_accessible || before.publicly_accessible)
    }
}

/// What the settings are to be.
struct Wanted {
    groups: Vec<String>,
    publicly_accessible: bool,
    deletion_protection: bool,
}

/// The image's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    engine: String,
    vpc: String,
    /// The cluster, whose groups and deletion protection count then.
    cluster: Option<String>,
    /// Those that count now; one that RDS is about to add does not, one that it is about to remove does.
    groups: Vec<String>,
    publicly_accessible: bool,
    deletion_protection: bool,
}

impl State {
    fn of(instance: &Value, cluster: Option<&Value>) -> Result<Self, NativeError> {
        const FORM: NativeError = NativeError::Form { what: "an instance", native: DECLARED.name };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let holder = cluster.unwrap_or(instance);
        let counts = |group: &&Value| group["Status"] != "adding";
        let groups = each(&holder["VpcSecurityGroups"], "VpcSecurityGroupMembership");
        let mut groups: Vec<String> =
            groups.into_iter().filter(counts).filter_map(|group| text(&group["VpcSecurityGroupId"])).collect();
        groups.sort();
        Ok(Self {
            engine: text(&instance["Engine"]).unwrap_or_default(),
            vpc: instance.pointer("/DBSubnetGroup/VpcId").and_then(text).ok_or(FORM)?,
            cluster: text(&instance["DBClusterIdentifier"]),
            groups,
            publicly_accessible: instance["PubliclyAccessible"] == "true",
            deletion_protection: holder["DeletionProtection"] == "true",
        })
    }

    /// Of a cluster that is not Aurora's, whether it is public is said when it is made, and for ever.
    fn has_own_address(&self) -> bool {
        self.cluster.is_none() || self.engine.starts_with("aurora")
    }

    /// Whether what a call asks for is so.
    fn shows(&self, input: &Value) -> bool {
        let groups = input["VpcSecurityGroupIds"].as_array().map(|groups| {
            let mut groups: Vec<&str> = groups.iter().filter_map(Value::as_str).collect();
            groups.sort_unstable();
            groups == self.groups
        });
        let flag = |name: &str, now: bool| input[name].as_bool().is_none_or(|wanted| wanted == now);
        groups.unwrap_or(true)
            && flag("PubliclyAccessible", self.publicly_accessible)
            && flag("DeletionProtection", self.deletion_protection)
    }
}

#[cfg(test)]
#[path = "rds_instance_tests.rs"]
mod tests;
