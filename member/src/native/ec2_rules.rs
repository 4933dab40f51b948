//! The rules of a security group: EC2's permissions taken apart into one rule a source, and put together again.
//!
//! EC2 may list the same rules in another grouping or order; one normal form makes equal groups equal.

use std::collections::BTreeMap;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::Call;
use redress_common::ids::AccountId;
use serde::{Deserialize, Serialize};

use super::{Declared, NativeError, planned, typed};

/// Which rules of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Who may reach it.
    Ingress,
    /// Whom it may reach.
    Egress,
}

impl Direction {
    /// The calls of an edit: what is new before what goes, so that nothing which stays is interrupted.
    pub(super) fn calls(self, declared: &Declared, group: &str, edit: Edit) -> Result<Vec<Call>, NativeError> {
        let (authorize, revoke) = match self {
            Self::Ingress => ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"),
            Self::Egress => ("AuthorizeSecurityGroupEgress", "RevokeSecurityGroupEgress"),
        };
        [(authorize, edit.authorize), (revoke, edit.revoke)]
            .into_iter()
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(operation, rules)| {
                let parameters = GroupRules { group_id: group.to_owned(), ip_permissions: gather(&rules) };
                planned(declared, "ec2", operation, &parameters)
            })
            .collect()
    }
}

/// A group, if there is one.
pub(super) async fn group(
    client: &Client,
    id: &str,
    owner: Option<&AccountId>,
) -> Result<Option<types::SecurityGroup>, NativeError> {
    let answer = client.describe_security_groups().group_ids(id).send().await;
    let answer = match answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error)) {
        Err(failure) if failure.code() == Some("InvalidGroup.NotFound") => return Ok(None),
        answer => answer?,
    };
    let Some(group) = answer.security_groups.unwrap_or_default().into_iter().next() else { return Ok(None) };
    // A shared VPC shows groups of other accounts.
    if let (Some(owner), Some(found)) = (owner, group.owner_id())
        && owner.as_str() != found
    {
        return Err(NativeError::Refused("the security group belongs to another account than its ARN says; refused"));
    }
    Ok(Some(group))
}

/// Makes one of the calls of an edit.
pub(super) async fn make(client: &Client, declared: &Declared, call: &Call) -> Result<(), NativeError> {
    let GroupRules { group_id, ip_permissions } = typed(&call.parameters, "a call", declared.name)?;
    let permissions = Some(ip_permissions.into_iter().map(Into::into).collect());
    match call.operation.as_str() {
        "AuthorizeSecurityGroupIngress" => {
            let call = client.authorize_security_group_ingress().group_id(group_id).set_ip_permissions(permissions);
            call.send().await.map_err(|error| AwsFailure::of("AuthorizeSecurityGroupIngress", &error))?;
            Ok(())
        }
        "AuthorizeSecurityGroupEgress" => {
            let call = client.authorize_security_group_egress().group_id(group_id).set_ip_permissions(permissions);
            call.send().await.map_err(|error| AwsFailure::of("AuthorizeSecurityGroupEgress", &error))?;
            Ok(())
        }
        "RevokeSecurityGroupIngress" => {
            let call = client.revoke_security_group_ingress().group_id(group_id).set_ip_permissions(permissions);
            let operation = "RevokeSecurityGroupIngress";
            let answer = call.send().await.map_err(|error| AwsFailure::of(operation, &error))?;
            whole(operation, answer.r#return(), answer.unknown_ip_permissions().len())
        }
        "RevokeSecurityGroupEgress" => {
            let call = client.revoke_security_group_egress().group_id(group_id).set_ip_permissions(permissions);
            let operation = "RevokeSecurityGroupEgress";
            let answer = call.send().await.map_err(|error| AwsFailure::of(operation, &error))?;
            whole(operation, answer.r#return(), answer.unknown_ip_permissions().len())
        }
        _ => Err(NativeError::Form { what: "a call", native: declared.name }),
    }
}

/// In a VPC, EC2 answers with success also when some of the rules were not there to revoke.
fn whole(operation: &'static str, done: Option<bool>, unknown: usize) -> Result<(), NativeError> {
    if unknown == 0 && done != Some(false) {
        return Ok(());
    }
    let message = format!("EC2 did not revoke all of the rules ({unknown} of them unknown to it)");
    Err(AwsFailure::partial(operation, message).into())
}

/// The parameters of all four calls.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GroupRules {
    group_id: String,
    ip_permissions: Vec<Permission>,
}

/// One protocol and port range from one source. EC2 knows a rule by scope and source; the description is a note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) scope: Scope,
    pub(super) source: Source,
    pub(super) description: Option<String>,
}

impl Rule {
    /// Whether EC2 takes the two for the same rule.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.scope == other.scope && self.source == other.source
    }
}

/// Protocol, and ports or ICMP type and code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    pub(super) protocol: String,
    pub(super) from: Option<i32>,
    pub(super) to: Option<i32>,
}

pub(super) const ALL_PORTS: (i32, i32) = (0, 65535);

impl Scope {
    /// With the protocol's name where EC2 has one, and without ports where they say nothing.
    pub(super) fn new(protocol: &str, from: Option<i32>, to: Option<i32>) -> Self {
        let protocol = match protocol {
            "1" => "icmp",
            "6" => "tcp",
            "17" => "udp",
            "58" => "icmpv6",
            other => other,
        };
        let (from, to) = if protocol == "-1" { (None, None) } else { (from, to) };
        Self { protocol: protocol.to_ascii_lowercase(), from, to }
    }

    /// The ports of a protocol that it lets through.
    pub(super) fn ports(&self, protocol: &str) -> Option<(i32, i32)> {
        if self.protocol == "-1" {
            return Some(ALL_PORTS);
        }
        match (self.from, self.to) {
            _ if self.protocol != protocol => None,
            (None | Some(-1), _) | (_, None | Some(-1)) => Some(ALL_PORTS),
            (Some(from), Some(to)) => Some((from, to)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Ipv4(String),
    Ipv6(String),
    PrefixList(String),
    Group(GroupPair),
}

impl Source {
    /// The whole internet. EC2 stores a network of prefix length 0 as `0.0.0.0/0` or `::/0`.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Ipv4(cidr) | Self::Ipv6(cidr) if cidr.ends_with("/0"))
    }
}

/// Rules to add and to take away. Revoking needs no description, so none is given.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Edit {
    pub(super) authorize: Vec<Rule>,
    pub(super) revoke: Vec<Rule>,
}

/// The edit that turns the rules `now` into those `before`.
pub(super) fn put_back(now: &[Rule], before: &[Rule]) -> Result<Edit, NativeError> {
    let described_otherwise =
        |rule: &Rule| now.iter().any(|other| other.is(rule) && other.description != rule.description);
    if before.iter().any(described_otherwise) {
        return Err(NativeError::Refused("a rule's description was changed since; put it back by hand"));
    }
    let only_in = |these: &[Rule], others: &[Rule]| -> Vec<Rule> {
        these.iter().filter(|rule| !others.iter().any(|other| other.is(rule))).cloned().collect()
    };
    let mut revoke = only_in(now, before);
    revoke.iter_mut().for_each(|rule| rule.description = None);
    Ok(Edit { authorize: only_in(before, now), revoke })
}

/// EC2's `IpPermission`: one scope, many sources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub(super) struct Permission {
    pub(super) ip_protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from_port: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to_port: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ip_ranges: Vec<IpRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ipv6_ranges: Vec<Ipv6Range>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) prefix_list_ids: Vec<PrefixListId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) user_id_group_pairs: Vec<DescribedPair>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct IpRange {
    pub(super) cidr_ip: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Ipv6Range {
    pub(super) cidr_ipv6: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct PrefixListId {
    pub(super) prefix_list_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedPair {
    #[serde(flatten)]
    pub(super) pair: GroupPair,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
}

/// EC2's `UserIdGroupPair`, without what EC2 only reports (`PeeringStatus`).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GroupPair {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vpc_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vpc_peering_connection_id: Option<String>,
}

/// One rule a source, sorted, each once.
pub(super) fn flatten(permissions: impl IntoIterator<Item = Permission>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for permission in permissions {
        let scope = Scope::new(&permission.ip_protocol, permission.from_port, permission.to_port);
        let mut push = |source, description: Option<String>| {
            rules.push(Rule { scope: scope.clone(), source, description: description.filter(|text| !text.is_empty()) });
        };
        permission.ip_ranges.into_iter().for_each(|range| push(Source::Ipv4(range.cidr_ip), range.description));
        permission.ipv6_ranges.into_iter().for_each(|range| push(Source::Ipv6(range.cidr_ipv6), range.description));
        permission
            .prefix_list_ids
            .into_iter()
            .for_each(|list| push(Source::PrefixList(list.prefix_list_id), list.description));
        permission.user_id_group_pairs.into_iter().for_each(|pair| push(Source::Group(pair.pair), pair.description));
    }
    rules.sort();
    rules.dedup();
    rules
}

/// One permission a scope: the normal form, so that two equal groups have equal images.
pub(super) fn gather(rules: &[Rule]) -> Vec<Permission> {
    let mut sorted: Vec<&Rule> = rules.iter().collect();
    sorted.sort();
    let mut permissions: BTreeMap<&Scope, Permission> = BTreeMap::new();
    for rule in sorted {
        let permission = permissions.entry(&rule.scope).or_insert_with(|| Permission {
            ip_protocol: rule.scope.protocol.clone(),
            from_port: rule.scope.from,
            to_port: rule.scope.to,
            ..Permission::default()
        });
        let description = rule.description.clone();
        match rule.source.clone() {
            Source::Ipv4(cidr_ip) => permission.ip_ranges.push(IpRange { cidr_ip, description }),
            Source::Ipv6(cidr_ipv6) => permission.ipv6_ranges.push(Ipv6Range { cidr_ipv6, description }),
            Source::PrefixList(prefix_list_id) => {
                permission.prefix_list_ids.push(PrefixListId { prefix_list_id, description });
            }
            Source::Group(pair) => permission.user_id_group_pairs.push(DescribedPair { pair, description }),
        }
    }
    permissions.into_values().collect()
}

impl From<&types::IpPermission> for Permission {
    fn from(from: &types::IpPermission) -> Self {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Self {
            ip_protocol: from.ip_protocol().unwrap_or_default().to_owned(),
            from_port: from.from_port(),
            to_port: from.to_port(),
            ip_ranges: from
                .ip_ranges()
                .iter()
                .map(|range| IpRange {
                    cidr_ip: range.cidr_ip().unwrap_or_default().to_owned(),
                    description: text(range.description()),
                })
                .collect(),
            ipv6_ranges: from
                .ipv6_ranges()
                .iter()
                .map(|range| Ipv6Range {
                    cidr_ipv6: range.cidr_ipv6().unwrap_or_default().to_owned(),
                    description: text(range.description()),
                })
                .collect(),
            prefix_list_ids: from
                .prefix_list_ids()
                .iter()
                .map(|list| PrefixListId {
                    prefix_list_id: list.prefix_list_id().unwrap_or_default().to_owned(),
                    description: text(list.description()),
                })
                .collect(),
            user_id_group_pairs: from
                .user_id_group_pairs()
                .iter()
                .map(|pair| DescribedPair {
                    pair: GroupPair {
                        user_id: text(pair.user_id()),
                        group_id: text(pair.group_id()),
                        group_name: text(pair.group_name()),
                        vpc_id: text(pair.vpc_id()),
                        vpc_peering_connection_id: text(pair.vpc_peering_connection_id()),
                    },
                    description: text(pair.description()),
                })
                .collect(),
        }
    }
}

impl From<Permission> for types::IpPermission {
    fn from(from: Permission) -> Self {
        fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
            (!items.is_empty()).then_some(items)
        }
        let ipv4 = from
            .ip_ranges
            .into_iter()
            .map(|range| types::IpRange::builder().cidr_ip(range.cidr_ip).set_description(range.description).build());
        let ipv6 = from.ipv6_ranges.into_iter().map(|range| {
            types::Ipv6Range::builder().cidr_ipv6(range.cidr_ipv6).set_description(range.description).build()
        });
        let lists = from.prefix_list_ids.into_iter().map(|list| {
            types::PrefixListId::builder().prefix_list_id(list.prefix_list_id).set_description(list.description).build()
        });
        let pairs = from.user_id_group_pairs.into_iter().map(|DescribedPair { pair, description }| {
            types::UserIdGroupPair::builder()
                .set_user_id(pair.user_id)
                .set_group_id(pair.group_id)
                .set_group_name(pair.group_name)
                .set_vpc_id(pair.vpc_id)
                .set_vpc_peering_connection_id(pair.vpc_peering_connection_id)
                .set_description(description)
                .build()
        });
        Self::builder()
            .ip_protocol(from.ip_protocol)
            .set_from_port(from.from_port)
            .set_to_port(from.to_port)
            .set_ip_ranges(some(ipv4.collect()))
            .set_ipv6_ranges(some(ipv6.collect()))
            .set_prefix_list_ids(some(lists.collect()))
            .set_user_id_group_pairs(some(pairs.collect()))
            .build()
    }
}
