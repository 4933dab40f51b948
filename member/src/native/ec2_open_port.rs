//! `ec2_open_port`: no rule of a security group lets the whole internet reach the given TCP ports.
//!
//! Surgical. Only the open source (`0.0.0.0/0`, `::/0`) of a rule is taken out; private sources, prefix lists,
//! group pairs and descriptions of the same permission stay. A rule that spans more than the port is replaced by
//! rules for what is left of it, with the same source and description. The new rules are authorised before the old
//! ones are revoked, so nothing that stays open is interrupted.
//!
//! A rule for *all* protocols has no "all but one TCP port": it becomes TCP without the port, all of UDP, and ICMP
//! (or ICMPv6). Other protocols (ESP, GRE, SCTP, …) from the whole internet are closed with it; who needs them
//! from there has to say so in a rule of their own. The undo brings the old rule back.

use std::collections::BTreeMap;

use aws_sdk_ec2::types;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Job};
use redress_common::ids::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Declared, Native, NativeError, number, parameter, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "ec2_open_port",
    reads: &["ec2:DescribeSecurityGroups"],
    changes: &["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
};

/// The function on one security group.
#[derive(Debug)]
pub struct OpenPort {
    client: aws_sdk_ec2::Client,
    group: String,
    owner: Option<AccountId>,
    ports: Ports,
}

impl OpenPort {
    /// Parameter `Ports`: the TCP ports.
    ///
    /// # Errors
    /// When it is not a list of ports.
    pub fn new(
        client: aws_sdk_ec2::Client,
        job: &Job,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<Self, NativeError> {
        Ok(Self {
            client,
            group: job.resource_name.clone(),
            owner: job.resource_arn.account().cloned(),
            ports: Ports::parse(parameters)?,
        })
    }

    fn calls(&self, edit: Edit) -> Result<Change, NativeError> {
        let calls = [("AuthorizeSecurityGroupIngress", edit.authorize), ("RevokeSecurityGroupIngress", edit.revoke)];
        calls
            .into_iter()
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(operation, rules)| {
                let parameters = Ingress { group_id: self.group.clone(), ip_permissions: gather(&rules) };
                planned(&DECLARED, "ec2", operation, &parameters)
            })
            .collect::<Result<_, _>>()
            .map(Change)
    }
}

impl Native for OpenPort {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.describe_security_groups().group_ids(&self.group).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error)) {
            Err(failure) if failure.code() == Some("InvalidGroup.NotFound") => return Ok(None),
            answer => answer?,
        };
        let Some(group) = answer.security_groups().first() else { return Ok(None) };
        // A shared VPC shows groups of other accounts.
        if let (Some(owner), Some(found)) = (&self.owner, group.owner_id())
            && owner.as_str() != found
        {
            return Err(NativeError::Refused(
                "the security group belongs to another account than its ARN says; refused",
            ));
        }
        let rules = flatten(group.ip_permissions().iter().map(Permission::from));
        let state = State { group_id: self.group.clone(), ip_permissions: gather(&rules) };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        self.calls(close(&rules(now)?, &self.ports))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        self.calls(put_back(&rules(now)?, &rules(before)?)?)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let Ingress { group_id, ip_permissions } = typed(&call.parameters, "a call", DECLARED.name)?;
        let permissions = Some(ip_permissions.into_iter().map(Into::into).collect());
        match call.operation.as_str() {
            "AuthorizeSecurityGroupIngress" => {
                self.client
                    .authorize_security_group_ingress()
                    .group_id(group_id)
                    .set_ip_permissions(permissions)
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("AuthorizeSecurityGroupIngress", &error))?;
                Ok(())
            }
            "RevokeSecurityGroupIngress" => {
                let answer = self
                    .client
                    .revoke_security_group_ingress()
                    .group_id(group_id)
                    .set_ip_permissions(permissions)
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("RevokeSecurityGroupIngress", &error))?;
                // In a VPC, EC2 answers with success also when some of the rules were not there to revoke.
                match answer.unknown_ip_permissions().len() {
                    0 if answer.r#return() != Some(false) => Ok(()),
                    unknown => Err(AwsFailure::partial(
                        "RevokeSecurityGroupIngress",
                        format!("EC2 did not revoke all of the rules ({unknown} of them unknown to it)"),
                    )
                    .into()),
                }
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

fn rules(image: &Image) -> Result<Vec<Rule>, NativeError> {
    let state: State = typed(&image.state, "the state", DECLARED.name)?;
    Ok(flatten(state.ip_permissions))
}

// ------------------------------------------------------------------------------------------- the decision

/// The TCP ports that the internet must not reach: sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports(Vec<i32>);

impl Ports {
    fn parse(parameters: &BTreeMap<String, Value>) -> Result<Self, NativeError> {
        const EXPECTED: &str = "a list of TCP ports, each from 0 to 65535, such as [22]";
        let wrong = || NativeError::Parameter { name: "Ports".to_owned(), expected: EXPECTED };
        let given = parameter(parameters, "Ports", EXPECTED)?.as_array().ok_or_else(wrong)?;
        let mut ports = given
            .iter()
            .map(|port| number(port).and_then(|port| u16::try_from(port).ok()).map(i32::from).ok_or_else(wrong))
            .collect::<Result<Vec<_>, _>>()?;
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() { Err(wrong()) } else { Ok(Self(ports)) }
    }

    fn any_in(&self, (from, to): (i32, i32)) -> bool {
        self.0.iter().any(|port| (from..=to).contains(port))
    }

    /// What is left of a range without the ports.
    fn cut_out(&self, (from, to): (i32, i32)) -> Vec<(i32, i32)> {
        let mut left = Vec::new();
        let mut start = from;
        for port in self.0.iter().copied().filter(|port| (from..=to).contains(port)) {
            if start < port {
                left.push((start, port - 1));
            }
            start = port + 1;
        }
        if start <= to {
            left.push((start, to));
        }
        left
    }
}

/// Rules to add and to take away. Revoking needs no description, so none is given.
#[derive(Debug, Default, PartialEq)]
struct Edit {
    authorize: Vec<Rule>,
    revoke: Vec<Rule>,
}

/// The edit that closes the ports to the internet.
fn close(rules: &[Rule], ports: &Ports) -> Edit {
    let (closed, mut kept): (Vec<&Rule>, Vec<&Rule>) = rules
        .iter()
        .partition(|rule| rule.source.is_open() && rule.scope.tcp().is_some_and(|range| ports.any_in(range)));
    let mut edit = Edit::default();
    let remainders: Vec<Rule> = closed
        .iter()
        .flat_map(|rule| {
            rule.scope.without(ports, &rule.source).into_iter().map(|scope| Rule { scope, ..(*rule).clone() })
        })
        .collect();
    for rule in &remainders {
        // EC2 refuses a rule that is there already, and with it the whole call.
        if !kept.iter().any(|known| known.is(rule)) {
            kept.push(rule);
            edit.authorize.push(rule.clone());
        }
    }
    for rule in closed {
        if !edit.revoke.iter().any(|known| known.is(rule)) {
            edit.revoke.push(Rule { description: None, ..rule.clone() });
        }
    }
    edit
}

/// The edit that turns the rules `now` into those `before`.
fn put_back(now: &[Rule], before: &[Rule]) -> Result<Edit, NativeError> {
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

/// One protocol and port range from one source. EC2 knows a rule by scope and source; the description is a note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    scope: Scope,
    source: Source,
    description: Option<String>,
}

impl Rule {
    /// Whether EC2 takes the two for the same rule.
    fn is(&self, other: &Self) -> bool {
        self.scope == other.scope && self.source == other.source
    }
}

/// Protocol, and ports or ICMP type and code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Scope {
    protocol: String,
    from: Option<i32>,
    to: Option<i32>,
}

const ALL_PORTS: (i32, i32) = (0, 65535);

impl Scope {
    /// With the protocol's name where EC2 has one, and without ports where they say nothing.
    fn new(protocol: &str, from: Option<i32>, to: Option<i32>) -> Self {
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

    /// The TCP ports that it lets through.
    fn tcp(&self) -> Option<(i32, i32)> {
        match (self.protocol.as_str(), self.from, self.to) {
            ("-1", _, _) | ("tcp", None | Some(-1), _) | ("tcp", _, None | Some(-1)) => Some(ALL_PORTS),
            ("tcp", Some(from), Some(to)) => Some((from, to)),
            _ => None,
        }
    }

    /// What is left of it without the ports, for this source.
    fn without(&self, ports: &Ports, source: &Source) -> Vec<Self> {
        let Some(range) = self.tcp() else { return vec![self.clone()] };
        let cut = ports.cut_out(range).into_iter().map(|(from, to)| Self::new("tcp", Some(from), Some(to)));
        let mut left: Vec<Self> = cut.collect();
        if self.protocol == "-1" {
            let icmp = if matches!(source, Source::Ipv6(_)) { "icmpv6" } else { "icmp" };
            left.push(Self::new("udp", Some(ALL_PORTS.0), Some(ALL_PORTS.1)));
            left.push(Self::new(icmp, Some(-1), Some(-1)));
        }
        left
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Ipv4(String),
    Ipv6(String),
    PrefixList(String),
    Group(GroupPair),
}

impl Source {
    /// The whole internet. EC2 stores a network of prefix length 0 as `0.0.0.0/0` or `::/0`.
    fn is_open(&self) -> bool {
        matches!(self, Self::Ipv4(cidr) | Self::Ipv6(cidr) if cidr.ends_with("/0"))
    }
}

// ------------------------------------------------------------------------------------------- the wire form

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    group_id: String,
    ip_permissions: Vec<Permission>,
}

/// The parameters of both calls.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Ingress {
    group_id: String,
    ip_permissions: Vec<Permission>,
}

/// EC2's `IpPermission`: one scope, many sources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Permission {
    ip_protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_port: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_port: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ip_ranges: Vec<IpRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ipv6_ranges: Vec<Ipv6Range>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefix_list_ids: Vec<PrefixListId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_id_group_pairs: Vec<DescribedPair>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct IpRange {
    cidr_ip: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Ipv6Range {
    cidr_ipv6: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PrefixListId {
    prefix_list_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribedPair {
    #[serde(flatten)]
    pair: GroupPair,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// EC2's `UserIdGroupPair`, without what EC2 only reports (`PeeringStatus`).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct GroupPair {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_peering_connection_id: Option<String>,
}

/// One rule a source, sorted, each once.
fn flatten(permissions: impl IntoIterator<Item = Permission>) -> Vec<Rule> {
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
fn gather(rules: &[Rule]) -> Vec<Permission> {
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

#[cfg(test)]
#[path = "ec2_open_port_tests.rs"]
mod tests;
