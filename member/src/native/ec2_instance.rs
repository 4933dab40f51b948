//! An EC2 instance as those see it who end it or contain it: whether it is still there, whether it may be terminated, and
//! which volumes it has.
//!
//! Reads only. What follows from it each native function and the playbook decide by themselves.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{self, InstanceAttributeName, InstanceStateName};
use redress_common::aws::failure::AwsFailure;
use serde::{Deserialize, Serialize};

use super::NativeError;

/// The instance, unless it is terminated or will be: nothing stops that any more.
pub(crate) async fn described(ec2: &aws_sdk_ec2::Client, id: &str) -> Result<Option<types::Instance>, NativeError> {
    Ok(known(ec2, id).await?.filter(|instance| !is_gone(instance)))
}

/// The instance; EC2 still tells of a terminated one, for about an hour.
pub(super) async fn known(ec2: &aws_sdk_ec2::Client, id: &str) -> Result<Option<types::Instance>, NativeError> {
    let answer = ec2.describe_instances().instance_ids(id).send().await;
    let answer = match answer.map_err(|error| AwsFailure::of("DescribeInstances", &error)) {
        Err(failure) if failure.code() == Some("InvalidInstanceID.NotFound") => return Ok(None),
        answer => answer?,
    };
    let mut instances =
        answer.reservations.unwrap_or_default().into_iter().flat_map(|all| all.instances.unwrap_or_default());
    Ok(instances.next())
}

/// Whether it is terminated, or will be.
pub(super) fn is_gone(instance: &types::Instance) -> bool {
    let gone = [InstanceStateName::Terminated, InstanceStateName::ShuttingDown];
    instance.state().and_then(|state| state.name()).is_some_and(|name| gone.contains(name))
}

/// Whether its termination protection is on, or not known to be off.
pub(super) async fn is_protected(ec2: &aws_sdk_ec2::Client, id: &str) -> Result<bool, NativeError> {
    let asked = ec2.describe_instance_attribute().instance_id(id);
    let answer = asked.attribute(InstanceAttributeName::DisableApiTermination).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeInstanceAttribute", &error))?;
    // Whoever is not told does not know that it is off.
    Ok(answer.disable_api_termination().and_then(|value| value.value()) != Some(false))
}

/// An EBS volume that is attached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) volume_id: String,
    pub(super) delete_on_termination: bool,
}

/// The volumes that are attached, by device.
pub(super) fn volumes(instance: &types::Instance) -> BTreeMap<String, Volume> {
    let of = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let attached = instance.block_device_mappings().iter().filter_map(|mapping| {
        let ebs = mapping.ebs()?;
        let delete_on_termination = ebs.delete_on_termination() == Some(true);
        Some((of(mapping.device_name()), Volume { volume_id: of(ebs.volume_id()), delete_on_termination }))
    });
    attached.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::FakeAws;

    #[tokio::test]
    async fn protection_that_is_not_told_of_counts_as_on() {
        for (told, protected) in [
            ("<disableApiTermination><value>false</value></disableApiTermination>", false),
            ("<disableApiTermination><value>true</value></disableApiTermination>", true),
            ("<disableApiTermination/>", true),
            ("", true),
        ] {
            let aws = FakeAws::default();
            let body = format!(
                "<DescribeInstanceAttributeResponse><instanceId>i-1</instanceId>{told}</DescribeInstanceAttributeResponse>"
            );
            aws.answer("DescribeInstanceAttribute", 200, &body);
            let client = aws_sdk_ec2::Client::new(&aws.config());
            assert_eq!(is_protected(&client, "i-1").await.unwrap(), protected, "{told}");
        }
    }
}
