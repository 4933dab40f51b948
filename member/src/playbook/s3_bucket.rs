//! `contain_s3_bucket`: nothing of the bucket is public any more, and what is overwritten or deleted from now on can be had back.
//!
//! Public access is blocked whole, and versioning turned on. The bucket's policy, access control lists and objects stay as
//! they are: the block overrides what they grant to everybody. Who has access by name keeps it. Then what the bucket holds is
//! listed, as evidence ([`super::s3_evidence`]).

use async_trait::async_trait;
use aws_sdk_s3::types::{BucketVersioningStatus, PublicAccessBlockConfiguration, VersioningConfiguration};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::s3_evidence;
use crate::custody::Document;
use crate::native::{Declared, Native, NativeError, planned, typed, untyped};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_s3_bucket",
    reads: &[
        "s3:GetBucketAcl",
        "s3:GetBucketLogging",
        "s3:GetBucketNotification",
        "s3:GetBucketPolicy",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketVersioning",
        "s3:ListBucketVersions",
    ],
    changes: &["s3:PutBucketPublicAccessBlock", "s3:PutBucketVersioning"],
    make: |clients, request| Ok(Box::new(Bucket::new(clients.s3.clone(), request))),
};

/// The playbook on one bucket.
#[derive(Debug)]
pub struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
    owner: String,
    mode: Mode,
}

impl Bucket {
    /// On the bucket of a request, and only if it is this account's.
    #[must_use]
    pub fn new(client: aws_sdk_s3::Client, request: &RemediateRequest) -> Self {
        let (name, owner) = (request.job.resource_name.clone(), request.account_id.to_string());
        Self { client, name, owner, mode: request.job.mode }
    }

    fn planned(&self, operation: &str, name: &str, value: &Value) -> Result<Call, NativeError> {
        let with = json!({ "Bucket": self.name, "ExpectedBucketOwner": self.owner, name: value });
        planned(&DECLARED, "s3", operation, &with)
    }

    /// The block; `None` when there is none. The outer one: no such bucket.
    async fn block(&self) -> Result<Option<Option<Block>>, NativeError> {
        let asked = self.client.get_public_access_block().bucket(&self.name).expected_bucket_owner(&self.owner);
        match asked.send().await.map_err(|error| AwsFailure::of("GetPublicAccessBlock", &error)) {
            Err(failure) if failure.code() == Some("NoSuchPublicAccessBlockConfiguration") => Ok(Some(None)),
            // A sample finding names one that no bucket can be called.
            Err(failure) if matches!(failure.code(), Some("NoSuchBucket" | "InvalidBucketName")) => Ok(None),
            answer => Ok(Some(answer?.public_access_block_configuration().map(Block::of))),
        }
    }

    async fn is_versioned(&self) -> Result<bool, NativeError> {
        let asked = self.client.get_bucket_versioning().bucket(&self.name).expected_bucket_owner(&self.owner);
        let answer = asked.send().await.map_err(|error| AwsFailure::of("GetBucketVersioning", &error))?;
        Ok(answer.status() == Some(&BucketVersioningStatus::Enabled))
    }

    fn calls(&self, now: &State, wanted: &State) -> Result<Change, NativeError> {
        let mut calls = Vec::new();
        if now.block != wanted.block {
            calls.push(match &wanted.block {
                Some(block) => self.planned("PutPublicAccessBlock", "PublicAccessBlockConfiguration", &json!(block))?,
                None => {
                    let with = json!({ "Bucket": self.name, "ExpectedBucketOwner": self.owner });
                    planned(&DECLARED, "s3", "DeletePublicAccessBlock", &with)?
                }
            });
        }
        if now.versioned != wanted.versioned {
            let status = if wanted.versioned { "Enabled" } else { "Suspended" };
            calls.push(self.planned("PutBucketVersioning", "VersioningConfiguration", &json!({ "Status": status }))?);
        }
        Ok(Change(calls))
    }
}

#[async_trait]
impl Native for Bucket {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(block) = self.block().await? else { return Ok(None) };
        let state = State { block, versioned: self.is_versioned().await? };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let now = typed(&now.state, "the state", DECLARED.name)?;
        self.calls(&now, &State { block: Some(Block::WHOLE), versioned: true })
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now = typed(&now.state, "the state", DECLARED.name)?;
        self.calls(&now, &typed(&before.state, "the state", DECLARED.name)?)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let form = NativeError::Form { what: "a call", native: DECLARED.name };
        match call.operation.as_str() {
            "PutPublicAccessBlock" => {
                let block: Block = typed(&call.parameters["PublicAccessBlockConfiguration"], "a call", DECLARED.name)?;
                let put = self.client.put_public_access_block().bucket(&self.name);
                let put = put.public_access_block_configuration(block.configuration());
                let put = put.expected_bucket_owner(&self.owner).send().await;
                put.map(drop).map_err(|error| AwsFailure::of("PutPublicAccessBlock", &error).into())
            }
            "DeletePublicAccessBlock" => {
                let gone = self.client.delete_public_access_block().bucket(&self.name);
                let gone = gone.expected_bucket_owner(&self.owner).send().await;
                gone.map(drop).map_err(|error| AwsFailure::of("DeletePublicAccessBlock", &error).into())
            }
            "PutBucketVersioning" => {
                let status = call.parameters["VersioningConfiguration"]["Status"].as_str().ok_or(form)?;
                let status = VersioningConfiguration::builder().status(BucketVersioningStatus::from(status)).build();
                let put = self.client.put_bucket_versioning().bucket(&self.name).versioning_configuration(status);
                let put = put.expected_bucket_owner(&self.owner).send().await;
                put.map(drop).map_err(|error| AwsFailure::of("PutBucketVersioning", &error).into())
            }
            _ => Err(form),
        }
    }

    async fn document(&self) -> Result<Option<Document>, NativeError> {
        s3_evidence::taken(&self.client, &self.name, &self.owner).await.map(Some)
    }

    /// Without versions the bucket is contained all the same.
    fn may_fail(&self, call: &Call) -> bool {
        self.mode == Mode::Apply && call.operation == "PutBucketVersioning"
    }

    fn compliant(&self, now: &Image) -> bool {
        typed::<State>(&now.state, "the state", DECLARED.name).is_ok_and(|now| now.block == Some(Block::WHOLE))
    }
}

/// What containment changes of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    block: Option<Block>,
    /// Versioning that never was on cannot be had back; to suspend it comes to the same for what is written from then on.
    versioned: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "AWS's own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Block {
    block_public_acls: bool,
    ignore_public_acls: bool,
    block_public_policy: bool,
    restrict_public_buckets: bool,
}

impl Block {
    const WHOLE: Self = Self {
        block_public_acls: true,
        ignore_public_acls: true,
        block_public_policy: true,
        restrict_public_buckets: true,
    };

    fn of(configuration: &PublicAccessBlockConfiguration) -> Self {
        Self {
            block_public_acls: configuration.block_public_acls() == Some(true),
            ignore_public_acls: configuration.ignore_public_acls() == Some(true),
            block_public_policy: configuration.block_public_policy() == Some(true),
            restrict_public_buckets: configuration.restrict_public_buckets() == Some(true),
        }
    }

    fn configuration(self) -> PublicAccessBlockConfiguration {
        PublicAccessBlockConfiguration::builder()
            .block_public_acls(self.block_public_acls)
            .ignore_public_acls(self.ignore_public_acls)
            .block_public_policy(self.block_public_policy)
            .restrict_public_buckets(self.restrict_public_buckets)
            .build()
    }
}

#[cfg(test)]
#[path = "s3_bucket_tests.rs"]
mod tests;
