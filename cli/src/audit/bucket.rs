//! The checkpoints of the connected administrator account, and the key that KMS says they are signed with.
//!
//! An older installation has neither, and not everybody may read them: that is told, and no failure. What an object
//! under the prefix is worth is judged elsewhere.

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::checkpoint::{Checkpoint, PREFIX};
use redress_common::ids::AccountId;
use redress_common::names;
use tokio::task::JoinSet;

use super::verify::Seen;
use crate::aws::Connection;
use crate::output::Output;
use crate::problem::Problem;

/// How many objects are read at a time.
const AT_ONCE: usize = 16;
/// Progress is told after so many.
const PROGRESS: usize = 500;

/// What was asked for, or in words why there is nothing.
pub(super) type Unless<T> = Result<T, String>;

/// Where checkpoints lie.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    s3: aws_sdk_s3::Client,
    name: String,
    owner: AccountId,
}

/// What is in it about an account.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) seen: Vec<Seen>,
    /// Objects that are none of Redress's, in words.
    pub(super) strange: Vec<String>,
}

impl Bucket {
    /// The bucket of the account that is connected.
    pub(super) async fn of(connection: &Connection) -> Result<Self, Problem> {
        let caller = connection.caller().await?.parse::<Arn>();
        let caller = caller.map_err(|error| Problem::aws("find out which account is connected", &error))?;
        let owner = caller.account().cloned();
        let owner = owner.ok_or_else(|| Problem::failed(format!("the caller {caller} is of no account")))?;
        let name = names::checkpoint_bucket(&owner, &connection.region);
        Ok(Self { s3: s3_client(&connection.config, &connection.region), name, owner })
    }

    /// The checkpoints since the day of that time, of which only what is about the account is kept.
    pub(super) async fn read(
        &self,
        account: &AccountId,
        since: Timestamp,
        output: Output,
    ) -> Result<Unless<Found>, Problem> {
        let keys = match self.keys(since).await {
            Ok(keys) => keys,
            Err(failure) => return unless(failure, "NoSuchBucket", &format!("list bucket {}", self.name)),
        };
        let (all, mut waiting, mut asked, mut found) = (keys.len(), keys.into_iter(), JoinSet::new(), Found::default());
        let mut read = 0_usize;
        loop {
            while asked.len() < AT_ONCE {
                let Some(key) = waiting.next() else { break };
                let bucket = self.clone();
                asked.spawn(async move {
                    let got = bucket.get(&key).await;
                    (key, got)
                });
            }
            let Some(done) = asked.join_next().await else { break };
            let (key, got) = done.map_err(|error| Problem::aws("read a checkpoint", &error))?;
            let bytes = match got {
                Ok(bytes) => bytes,
                Err(failure) => return unless(failure, "NoSuchBucket", &format!("read s3://{}/{key}", self.name)),
            };
            match checkpoint(&key, &bytes) {
                Ok(checkpoint) => found.seen.push(Seen::of(&checkpoint, account)),
                Err(why) => found.strange.push(why),
            }
            read += 1;
            if read.is_multiple_of(PROGRESS) {
                output.progress(&format!("{read} of {all} checkpoints read"));
            }
        }
        Ok(Ok(found))
    }

    async fn keys(&self, since: Timestamp) -> Result<Vec<String>, AwsFailure> {
        let from = Checkpoint::folder(since);
        let mut keys = Vec::new();
        let listed = self.s3.list_objects_v2().bucket(&self.name).prefix(PREFIX).start_after(&from);
        let mut pages = listed.expected_bucket_owner(self.owner.as_str()).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsFailure::of("s3:ListObjectsV2", &error))?;
            keys.extend(page.contents().iter().filter_map(|object| object.key()).map(str::to_owned));
        }
        keys.retain(|key| *key > from);
        Ok(keys)
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, AwsFailure> {
        let asked = self.s3.get_object().bucket(&self.name).key(key).expected_bucket_owner(self.owner.as_str());
        let answer = asked.send().await.map_err(|error| AwsFailure::of("s3:GetObject", &error))?;
        let body = answer.body.collect().await;
        let body = body.map_err(|_| AwsFailure::partial("s3:GetObject", "the object did not come whole"))?;
        Ok(body.into_bytes().to_vec())
    }
}

/// The public key that KMS says checkpoints are signed with now: DER.
pub(super) async fn public_key(connection: &Connection) -> Result<Unless<Vec<u8>>, Problem> {
    let kms = aws_sdk_kms::Client::new(&connection.config);
    let alias = names::CHECKPOINT_KEY_ALIAS;
    match kms.get_public_key().key_id(alias).send().await {
        Ok(answer) => match answer.public_key {
            Some(key) => Ok(Ok(key.into_inner())),
            None => Err(Problem::failed(format!("KMS gave no public key of {alias}"))),
        },
        Err(error) => {
            let failure = AwsFailure::of("kms:GetPublicKey", &error);
            unless(failure, "NotFoundException", &format!("get the public key of {alias}"))
        }
    }
}

/// What an object holds, when it is a checkpoint and lies where it belongs; otherwise what is wrong.
fn checkpoint(key: &str, bytes: &[u8]) -> Result<Checkpoint, String> {
    let checkpoint: Checkpoint =
        serde_json::from_slice(bytes).map_err(|error| format!("object {key} is no checkpoint: {error}"))?;
    let (number, at) = (checkpoint.statement.number, Timestamp::from_millisecond(checkpoint.statement.at));
    match at {
        Ok(at) if Checkpoint::key(number, at) == key => Ok(checkpoint),
        _ => Err(format!("object {key} holds checkpoint {number}, which does not belong there")),
    }
}

/// In words why there is nothing: it is not there, or not for this caller. Anything else is a problem.
fn unless<T>(failure: AwsFailure, absent: &str, doing: &str) -> Result<Unless<T>, Problem> {
    match failure.code() {
        Some(code) if code == absent => Ok(Err("no checkpoints: update the administrator stack".to_owned())),
        Some("AccessDenied" | "AccessDeniedException") => Ok(Err(format!("the caller may not {doing}"))),
        _ => Err(Problem::aws(doing, &failure)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn an_object_is_a_checkpoint_where_it_belongs_only() {
        let whole = fixture::checkpoints(&fixture::verified(), &[3]).remove(0);
        let bytes = serde_json::to_vec(&whole).unwrap();
        assert_eq!(checkpoint("checkpoints/2026/03/01/000000000001.json", &bytes).unwrap(), whole);
        for key in ["checkpoints/2026/03/01/000000000002.json", "checkpoints/2026/03/02/000000000001.json"] {
            assert!(checkpoint(key, &bytes).unwrap_err().contains("does not belong there"), "{key}");
        }
        let strange = checkpoint("checkpoints/2026/03/01/000000000001.json", b"{}").unwrap_err();
        assert!(strange.starts_with("object checkpoints/2026/03/01/000000000001.json is no checkpoint"), "{strange}");
    }

    #[test]
    fn what_is_not_there_or_not_for_the_caller_is_told_and_anything_else_is_a_problem() {
        let asked =
            |code: &str| unless::<()>(AwsFailure::refused("s3:GetObject", code, "no"), "NoSuchBucket", "read it");
        assert!(asked("NoSuchBucket").unwrap().unwrap_err().contains("update the administrator stack"));
        assert!(asked("AccessDenied").unwrap().unwrap_err().contains("may not read it"));
        assert!(asked("SlowDown").is_err());
    }
}
