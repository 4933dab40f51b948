//! What is asked of S3. Every call names the owner that the bucket must have: a bucket's name does not say whose it is.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::GuardEvidence;

use super::{Answer, tagged};

/// A bucket's tags.
pub(super) async fn tags(client: Client, bucket: String, owner: String) -> Answer {
    match client.get_bucket_tagging().bucket(bucket).expected_bucket_owner(owner).send().await {
        Ok(answer) => Ok(tagged(answer.tag_set().iter().map(|tag| (tag.key(), tag.value())))),
        Err(error) if error.code() == Some("NoSuchTagSet") => Ok(GuardEvidence::default()),
        Err(error) => Err(AwsFailure::of("GetBucketTagging", &error)),
    }
}
