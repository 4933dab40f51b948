//! [`crate::checkpoint::Outside`] over the official SDK.

use std::collections::BTreeMap;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use redress_common::arn::{Arn, ArnError};
use redress_common::aws::config;
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Dynamo, Store as _, StoreError, TransactError};
use redress_common::aws::open::Open;
use redress_common::aws::state_table::{Expect, StateKey};
use redress_common::checkpoint::{Checkpoint, PREFIX};
use redress_common::ids::AccountId;
use redress_common::items::checkpoint::Newest;
use redress_common::ledger::Head;
use redress_common::names;

use super::SetupError;
use crate::checkpoint::{Checkpoints, Found, Ledger, Outside};

/// The heads of 2,000 accounts are 300 KB; what is larger was not written by Redress.
const MAX_BYTES: i64 = 64 * 1024 * 1024;

/// The state table, the bucket and the key.
#[derive(Debug)]
pub struct Bucket {
    store: Dynamo,
    s3: aws_sdk_s3::Client,
    kms: aws_sdk_kms::Client,
    name: String,
    owner: AccountId,
    key_arn: String,
}

/// The function, from its environment.
///
/// # Errors
/// When the environment lacks something.
pub fn from_environment() -> Result<Checkpoints<Bucket>, SetupError> {
    let malformed = |reason: String| SetupError::Malformed { name: "CHECKPOINT_KEY_ARN", reason };
    let base = config::from_environment()?;
    let key_arn = config::variable("CHECKPOINT_KEY_ARN")?;
    let arn: Arn = key_arn.parse().map_err(|error: ArnError| malformed(error.to_string()))?;
    // The key lies in our own account and Region.
    let (Some(account), Some(region)) = (arn.account(), arn.region()) else {
        return Err(malformed("it names no account or Region".to_owned()));
    };
    let outside = Bucket {
        // It has no business in the ledger, and no right there.
        store: Dynamo::new(aws_sdk_dynamodb::Client::new(&base), config::variable("STATE_TABLE")?, names::AUDIT_TABLE),
        s3: s3_client(&base, region),
        kms: aws_sdk_kms::Client::new(&base),
        name: config::variable("CHECKPOINT_BUCKET")?,
        owner: account.clone(),
        key_arn: key_arn.clone(),
    };
    let ledger = Ledger { administrator: account.clone(), region: region.clone(), key_arn };
    Ok(Checkpoints::new(outside, ledger, config::variable("AWS_LAMBDA_FUNCTION_NAME")?))
}

/// The account that an item of the state table is about; heads and what is known of accounts are asked for.
fn account_of(key: StateKey) -> Option<AccountId> {
    match key {
        StateKey::Chain(account) | StateKey::Account(account) => Some(account),
        _ => None,
    }
}

impl Outside for Bucket {
    async fn newest(&self) -> Result<Option<Newest>, StoreError> {
        Ok(self.store.read(&[StateKey::Checkpoint]).await?.newest_checkpoint()?)
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, AwsFailure> {
        let mut keys = self.store.every_open(Open::Chain).await?;
        // A head that an earlier release wrote last is in no index; its account may be.
        keys.extend(self.store.every_open(Open::Account).await?);
        Ok(keys.into_iter().filter_map(account_of).collect())
    }

    async fn heads(&self, accounts: &[AccountId]) -> Result<BTreeMap<AccountId, Head>, StoreError> {
        let keys: Vec<StateKey> = accounts.iter().cloned().map(StateKey::Chain).collect();
        let snapshot = self.store.read(&keys).await?;
        let mut heads = BTreeMap::new();
        for account in accounts {
            let head = snapshot.head(account)?;
            if head != Head::default() {
                heads.insert(account.clone(), head);
            }
        }
        Ok(heads)
    }

    async fn after(&self, key: &str) -> Result<Vec<String>, AwsFailure> {
        let listed = self.s3.list_objects_v2().bucket(&self.name).expected_bucket_owner(self.owner.as_str());
        let mut pages = listed.prefix(PREFIX).start_after(key).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsFailure::of("s3:ListObjectsV2", &error))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        Ok(keys)
    }

    async fn read(&self, key: &str) -> Result<Found, AwsFailure> {
        const OPERATION: &str = "s3:GetObject";
        let asked = self.s3.get_object().bucket(&self.name).key(key).expected_bucket_owner(self.owner.as_str());
        let answer = match asked.send().await {
            Ok(answer) => answer,
            Err(error) if matches!(error.as_service_error(), Some(GetObjectError::NoSuchKey(_))) => {
                return Ok(Found::Nothing);
            }
            Err(error) => return Err(AwsFailure::of(OPERATION, &error)),
        };
        if answer.content_length().is_some_and(|length| length > MAX_BYTES) {
            return Ok(Found::Other("it is too large".to_owned()));
        }
        let body = answer.body.collect().await;
        let body = body.map_err(|_| AwsFailure::partial(OPERATION, "the object could not be read to its end"))?;
        Ok(match serde_json::from_slice(&body.into_bytes()) {
            Ok(checkpoint) => Found::Checkpoint(Box::new(checkpoint)),
            Err(error) => Found::Other(format!("it does not read as one: {error}")),
        })
    }

    async fn sign(&self, digest: [u8; 32]) -> Result<Vec<u8>, AwsFailure> {
        const OPERATION: &str = "kms:Sign";
        let request = self.kms.sign().key_id(&self.key_arn).message(Blob::new(digest.to_vec()));
        let request = request.message_type(MessageType::Digest).signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
        let answer = request.send().await.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let signature = answer.signature.ok_or_else(|| AwsFailure::partial(OPERATION, "KMS gave no signature"))?;
        Ok(signature.into_inner())
    }

    async fn create(&self, key: &str, checkpoint: &Checkpoint) -> Result<bool, AwsFailure> {
        const OPERATION: &str = "s3:PutObject";
        let body = serde_json::to_vec(checkpoint);
        let body = body.map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
        // The bucket locks and encrypts whatever is put there.
        let put = self.s3.put_object().bucket(&self.name).key(key).expected_bucket_owner(self.owner.as_str());
        let put = put.content_type("application/json").body(ByteStream::from(body)).if_none_match("*");
        match put.send().await {
            Ok(_) => Ok(true),
            // It is there, or is just being written.
            Err(error) if error.raw_response().is_some_and(|answer| matches!(answer.status().as_u16(), 409 | 412)) => {
                Ok(false)
            }
            Err(error) => Err(AwsFailure::of(OPERATION, &error)),
        }
    }

    async fn keep(&self, newest: &Newest, read: Expect) -> Result<(), TransactError> {
        self.store.put_if(&StateKey::Checkpoint, newest, read).await
    }
}
