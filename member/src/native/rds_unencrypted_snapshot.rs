//! `rds_unencrypted_snapshot`: of a snapshot there is an encrypted copy.
//!
//! RDS encrypts no snapshot in place. The copy is made in mode `Snapshot`, where SSM waits; `Apply` looks whether it is
//! complete, encrypted and as large as what it is a copy of, and marks it as the copy of that. The undo deletes the copy.
//!
//! The original stays. Deleting it is the one step that nobody can undo: an encrypted snapshot has no unencrypted copies. So
//! a person does it, who has seen that the copy can be restored.

use async_trait::async_trait;
use redress_common::arn::Arn;
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest};
use redress_common::ids::RemediationId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rds::{self, Kind, MOST_TAGS, OF, OF_CLUSTER, OF_INSTANCE, Tags};
use super::{Declared, Native, NativeError, planned, typed, untyped};
use crate::wire::Wire;

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "rds_unencrypted_snapshot",
    reads: &["rds:DescribeDBClusterSnapshots", "rds:DescribeDBSnapshots"],
    changes: &[
        "rds:AddTagsToResource",
        "rds:CopyDBClusterSnapshot",
        "rds:CopyDBSnapshot",
        "rds:DeleteDBClusterSnapshot",
        "rds:DeleteDBSnapshot",
    ],
    make: |clients, request| Ok(Box::new(UnencryptedSnapshot::new(clients.wire.clone(), request)?)),
};

/// Tag: the ARN of the snapshot that it is the looked-at copy of.
const COPY_OF: &str = "redress:copy-of";
/// RDS takes names of 255 characters.
const LONGEST: usize = 255;

/// The function on one snapshot.
#[derive(Debug)]
pub struct UnencryptedSnapshot {
    wire: Wire,
    kind: &'static Kind,
    arn: Arn,
    name: String,
    copier: RemediationId,
    key: String,
    makes: bool,
}

impl UnencryptedSnapshot {
    /// Parameter `KmsKeyId`: the key of the copy.
    ///
    /// # Errors
    /// When it is no key, or the resource is no snapshot.
    pub fn new(wire: Wire, request: &RemediateRequest) -> Result<Self, NativeError> {
        let arn = request.job.resource_arn.clone();
        let kinds = [&OF_INSTANCE, &OF_CLUSTER];
        let of_kind = |kind: &'static Kind| Some((kind, arn.resource().strip_prefix(kind.arn)?.strip_prefix(':')?));
        let (kind, name) =
            kinds.into_iter().find_map(of_kind).ok_or(NativeError::Refused("the resource is no snapshot of RDS"))?;
        let (copier, key, makes) = (rds::copier(request), rds::key(request)?, rds::makes(request));
        Ok(Self { wire, kind, name: name.to_owned(), arn: arn.clone(), copier, key, makes })
    }

    /// Automatic ones have a colon in their names, which a manual one may not have.
    fn copy_name(&self) -> String {
        format!("{}-encrypted", self.name.replace(':', "-"))
    }

    fn copy_arn(&self) -> String {
        let arn = self.arn.to_string();
        format!("{}{}", arn.strip_suffix(&self.name).unwrap_or(&arn), self.copy_name())
    }

    async fn snapshot(&self, name: &str) -> Result<Option<Value>, NativeError> {
        let found = rds::snapshot(&self.wire, self.kind, name).await?;
        Ok(found.filter(|found| found["Status"] != "deleting"))
    }

    fn is_ours(&self, copy: &Value) -> bool {
        rds::tags(copy).get(OF) == Some(&self.copier.to_string())
    }

    /// The copy, when it is whole.
    async fn sound_copy(&self) -> Result<Value, NativeError> {
        let copy = rds::complete(&self.wire, self.kind, &self.copy_name(), true).await?;
        let original = self.snapshot(&self.name).await?;
        let original = original.ok_or(NativeError::Refused("the snapshot is not there any more"))?;
        if Snapshot::of(self.kind, &copy).holds(&Snapshot::of(self.kind, &original)) {
            return Ok(copy);
        }
        Err(NativeError::NotNow(format!("snapshot {} does not hold what {} holds", self.copy_name(), self.name)))
    }
}

#[async_trait]
impl Native for UnencryptedSnapshot {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(original) = self.snapshot(&self.name).await? else { return Ok(None) };
        let there = self.snapshot(&self.copy_name()).await?;
        let copy = there.as_ref().filter(|copy| rds::tags(copy).get(COPY_OF) == Some(&self.arn.to_string()));
        let state = State {
            snapshot: Snapshot::of(self.kind, &original),
            copy: copy.map(|copy| Snapshot::of(self.kind, copy)),
        };
        if self.makes && !state.snapshot.encrypted && copy.is_none() {
            if original["Status"] != "available" {
                return Err(NativeError::NotNow(format!(
                    "snapshot {} is not complete; it cannot be copied yet",
                    self.name
                )));
            }
            if there.is_some_and(|there| !self.is_ours(&there)) {
                return Err(NativeError::NotNow(format!(
                    "there is a snapshot {} already; delete it, or copy it to another name, and ask again",
                    self.copy_name()
                )));
            }
        }
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let State { snapshot, copy } = state(now)?;
        if snapshot.encrypted || copy.is_some_and(|copy| copy.holds(&snapshot)) {
            return Ok(Change::default());
        }
        if self.copy_name().len() > LONGEST {
            return Err(NativeError::Refused(
                "the snapshot's name is so long that RDS takes no longer one for its copy",
            ));
        }
        if snapshot.tags.len() > MOST_TAGS {
            return Err(NativeError::Refused(
                "the snapshot has more than 47 tags, so that its copy would have more than AWS allows",
            ));
        }
        let copy = json!({
            self.kind.source: self.name,
            self.kind.target: self.copy_name(),
            "KmsKeyId": self.key,
            "Tags": rds::tag_list(&snapshot.tags),
        });
        let mark = [(COPY_OF.to_owned(), self.arn.to_string())].into();
        let mark = json!({ "ResourceName": self.copy_arn(), "Tags": rds::tag_list(&mark) });
        Ok(Change(vec![call(self.kind.copy.name, &copy)?, call(rds::ADD_TAGS.name, &mark)?]))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let (now, before) = (state(now)?, state(before)?);
        if now.snapshot != before.snapshot || before.copy.is_some() {
            return Err(NativeError::Refused("the snapshot is not what it was, so its copy stays"));
        }
        let delete = json!({ self.kind.id: self.copy_name() });
        let delete = now.copy.map(|_| call(self.kind.delete.name, &delete)).transpose()?;
        Ok(Change(delete.into_iter().collect()))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            // Made in mode `Snapshot`, and waited for.
            "CopyDBSnapshot" | "CopyDBClusterSnapshot" => self.sound_copy().await.map(drop),
            "AddTagsToResource" => Ok(rds::call(&self.wire, &rds::ADD_TAGS, &call.parameters).await.map(drop)?),
            name if name == self.kind.delete.name => {
                rds::delete_snapshot(&self.wire, self.kind, &self.copy_name()).await
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }

    /// The control file names one copy for each kind; the runbook takes that of the resource's.
    async fn copy(&self, _nth: u32) -> Result<String, NativeError> {
        if self.snapshot(&self.copy_name()).await?.is_none() {
            let now = self.inspect().await?.ok_or(NativeError::Refused("the snapshot is not there any more"))?;
            let planned = self.plan(&now)?.0;
            let copy = planned.first().ok_or(NativeError::Refused("the snapshot needs no copy any more"))?;
            let mut input = copy.parameters.clone();
            rds::tag_too(&mut input, &[(OF, &self.copier.to_string())]);
            rds::call(&self.wire, self.kind.copy, &input).await?;
        }
        Ok(self.copy_name())
    }

    async fn copied(&self) -> Result<String, NativeError> {
        self.sound_copy().await?;
        Ok(self.copy_name())
    }

    /// The copy, when it is this remediation's and was not complete. One that only was not marked is a safety copy.
    async fn discard(&self, mode: Mode) -> Result<(), NativeError> {
        let copy = self.snapshot(&self.copy_name()).await?;
        if mode == Mode::Snapshot && copy.is_some_and(|copy| self.is_ours(&copy)) {
            rds::delete_snapshot(&self.wire, self.kind, &self.copy_name()).await?;
        }
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------- the decision

/// The image's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    snapshot: Snapshot,
    /// The copy that was looked at, and marked.
    copy: Option<Snapshot>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Snapshot {
    encrypted: bool,
    engine: String,
    engine_version: String,
    allocated_storage: String,
    tags: Tags,
}

impl Snapshot {
    fn of(kind: &Kind, snapshot: &Value) -> Self {
        let text = |name: &str| snapshot[name].as_str().unwrap_or_default().to_owned();
        Self {
            encrypted: rds::is_encrypted(kind, snapshot),
            engine: text("Engine"),
            engine_version: text("EngineVersion"),
            allocated_storage: text("AllocatedStorage"),
            tags: rds::own_tags(snapshot),
        }
    }

    /// Whether this is an encrypted one of the same.
    fn holds(&self, original: &Self) -> bool {
        self.encrypted
            && self.engine == original.engine
            && self.engine_version == original.engine_version
            && self.allocated_storage == original.allocated_storage
    }
}

fn state(image: &Image) -> Result<State, NativeError> {
    typed(&image.state, "the state", DECLARED.name)
}

fn call<T: Serialize>(operation: &str, parameters: &T) -> Result<Call, NativeError> {
    planned(&DECLARED, "rds", operation, parameters)
}

#[cfg(test)]
#[path = "rds_unencrypted_snapshot_tests.rs"]
mod tests;
