//! What is asked of EC2.

use redress_common::aws::failure::AwsFailure;

use super::{Answer, tagged};

/// The tags of anything in EC2.
pub(super) async fn tags(client: aws_sdk_ec2::Client, id: String) -> Answer {
    let filter = aws_sdk_ec2::types::Filter::builder().name("resource-id").values(id).build();
    let answer = client.describe_tags().filters(filter).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeTags", &error))?;
    let tags = answer.tags().iter().filter_map(|tag| Some((tag.key()?, tag.value().unwrap_or_default())));
    Ok(tagged(tags))
}
