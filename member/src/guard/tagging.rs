//! What is asked of the tagging service, which knows most resources of most services, somewhat late.

use redress_common::aws::failure::AwsFailure;

use super::{Answer, tagged};

/// The tags of any resource. One that never had a tag is not known there: that is no failure.
pub(super) async fn tags(client: aws_sdk_resourcegroupstagging::Client, arn: String) -> Answer {
    let answer = client.get_resources().resource_arn_list(&arn).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetResources", &error))?;
    let tags = answer
        .resource_tag_mapping_list()
        .iter()
        .filter(|mapping| mapping.resource_arn() == Some(&arn))
        .flat_map(|mapping| mapping.tags())
        .map(|tag| (tag.key(), tag.value()));
    Ok(tagged(tags))
}
