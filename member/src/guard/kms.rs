//! What is asked of KMS.

use redress_common::aws::failure::AwsFailure;

use super::{Answer, tagged};

/// A key's tags.
pub(super) async fn tags(client: aws_sdk_kms::Client, id: String) -> Answer {
    let answer = client.list_resource_tags().key_id(id).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("ListResourceTags", &error))?;
    Ok(tagged(answer.tags().iter().map(|tag| (tag.tag_key(), tag.tag_value()))))
}
