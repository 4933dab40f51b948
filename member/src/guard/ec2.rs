//! What is asked of EC2.

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, IpPermission};
use redress_common::aws::failure::AwsFailure;

use super::{Answer, pages, tagged, used_by};

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// The tags of anything in EC2.
pub(super) async fn tags(client: Client, id: String) -> Answer {
    let answer = client.describe_tags().filters(filter("resource-id", &id)).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeTags", &error))?;
    let tags = answer.tags().iter().filter_map(|tag| Some((tag.key()?, tag.value().unwrap_or_default())));
    Ok(tagged(tags))
}

/// The network interfaces that a security group is on.
pub(super) async fn interfaces(client: Client, group: String) -> Answer {
    let asked = client.describe_network_interfaces().filters(filter("group-id", &group)).into_paginator().send();
    let mut found = Vec::new();
    let whole = pages("DescribeNetworkInterfaces", asked, |page| {
        found.extend(page.network_interfaces().iter().filter_map(|one| one.network_interface_id()).map(str::to_owned));
    });
    let whole = whole.await?;
    Ok(used_by("AWS::EC2::NetworkInterface", found, whole))
}

/// The other groups whose rules refer to a security group.
pub(super) async fn referring_groups(client: Client, group: String) -> Answer {
    let (mut found, mut whole) = (BTreeSet::new(), true);
    for name in ["ip-permission.group-id", "egress.ip-permission.group-id"] {
        let asked = client.describe_security_groups().filters(filter(name, &group)).into_paginator().send();
        let all = pages("DescribeSecurityGroups", asked, |page| {
            found.extend(page.security_groups().iter().filter_map(|one| one.group_id()).map(str::to_owned));
        });
        whole &= all.await?;
    }
    found.remove(&group);
    Ok(used_by("AWS::EC2::SecurityGroup", found, whole))
}

/// The networks that a security group's rules name.
pub(super) async fn networks(client: Client, group: String) -> Result<Vec<String>, AwsFailure> {
    let answer = client.describe_security_groups().group_ids(group).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error))?;
    let rules =
        answer.security_groups().iter().flat_map(|one| one.ip_permissions().iter().chain(one.ip_permissions_egress()));
    Ok(rules.flat_map(ranges).map(str::to_owned).collect())
}

fn ranges(rule: &IpPermission) -> impl Iterator<Item = &str> {
    let v4 = rule.ip_ranges().iter().filter_map(|range| range.cidr_ip());
    v4.chain(rule.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6()))
}

/// The instances that a volume is attached to.
pub(super) async fn attachments(client: Client, volume: String) -> Answer {
    let answer = client.describe_volumes().volume_ids(volume).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeVolumes", &error))?;
    let attached = answer.volumes().iter().flat_map(|one| one.attachments()).filter_map(|one| one.instance_id());
    Ok(used_by("AWS::EC2::Instance", attached.map(str::to_owned), true))
}

/// The images of this account that a snapshot is part of.
pub(super) async fn images(client: Client, snapshot: String) -> Answer {
    let asked = client.describe_images().owners("self").filters(filter("block-device-mapping.snapshot-id", &snapshot));
    let mut found = Vec::new();
    let whole = pages("DescribeImages", asked.into_paginator().send(), |page| {
        found.extend(page.images().iter().filter_map(|one| one.image_id()).map(str::to_owned));
    });
    let whole = whole.await?;
    Ok(used_by("AWS::EC2::Image", found, whole))
}

/// The instances that were started from an image.
pub(super) async fn instances(client: Client, image: String) -> Answer {
    let asked = client.describe_instances().filters(filter("image-id", &image)).into_paginator().send();
    let mut found = Vec::new();
    let whole = pages("DescribeInstances", asked, |page| {
        let instances = page.reservations().iter().flat_map(|one| one.instances());
        found.extend(instances.filter_map(|one| one.instance_id()).map(str::to_owned));
    });
    let whole = whole.await?;
    Ok(used_by("AWS::EC2::Instance", found, whole))
}
