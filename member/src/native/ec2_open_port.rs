//! `ec2_open_port`: no rule of a security group lets the whole internet reach the given ports, or any but the given.
//!
//! Surgical. Only the open source (`0.0.0.0/0`, `::/0`) of a rule is taken out; private sources, prefix lists,
//! group pairs and descriptions of the same permission stay. A rule that spans more than the port is replaced by
//! rules for what is left of it, with the same source and description. The new rules are authorised before the old
//! ones are revoked, so nothing that stays open is interrupted.
//!
//! A rule for *all* protocols has no "all but one TCP port": it becomes what is left of TCP and of UDP, and ICMP (or
//! ICMPv6). Other protocols (ESP, GRE, SCTP, …) from the whole internet are closed with it; who needs them
//! from there has to say so in a rule of their own. The undo brings the old rule back.

use async_trait::async_trait;
use redress_common::contract::{Call, Change, Image, Job};
use redress_common::ids::AccountId;
use serde::{Deserialize, Serialize};

use super::ec2_rules::{self, ALL_PORTS, Direction, Edit, Permission, Rule, Scope, Source, flatten, gather, put_back};
use super::{Declared, Native, NativeError, Parameters, number, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "ec2_open_port",
    reads: &["ec2:DescribeSecurityGroups"],
    changes: &["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
    make: |clients, request| Ok(Box::new(OpenPort::new(clients.ec2.clone(), &request.job, &request.parameters)?)),
};

/// The function on one security group.
#[derive(Debug)]
pub struct OpenPort {
    client: aws_sdk_ec2::Client,
    group: String,
    owner: Option<AccountId>,
    closed: Closed,
}

impl OpenPort {
    /// Parameters: `Ports`, with `Protocols` (`tcp`, `udp`; else `tcp`) — or, to close all ports of TCP and UDP but
    /// some, `AuthorizedTcpPorts` and `AuthorizedUdpPorts`. `Families` (`IPv4`, `IPv6`; else both) says from where.
    ///
    /// # Errors
    /// When one of them is not what it should be, or no port is named.
    pub fn new(client: aws_sdk_ec2::Client, job: &Job, parameters: &Parameters) -> Result<Self, NativeError> {
        Ok(Self {
            client,
            group: job.resource_name.clone(),
            owner: job.resource_arn.account().cloned(),
            closed: Closed::parse(parameters)?,
        })
    }

    fn edit(&self, edit: Edit) -> Result<Change, NativeError> {
        Direction::Ingress.calls(&DECLARED, &self.group, edit).map(Change)
    }
}

#[async_trait]
impl Native for OpenPort {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(group) = ec2_rules::group(&self.client, &self.group, self.owner.as_ref()).await? else {
            return Ok(None);
        };
        let rules = flatten(group.ip_permissions().iter().map(Permission::from));
        let state = State { group_id: self.group.clone(), ip_permissions: gather(&rules) };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        self.edit(close(&rules(now)?, &self.closed))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        self.edit(put_back(&rules(now)?, &rules(before)?)?)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        ec2_rules::make(&self.client, &DECLARED, call).await
    }
}

fn rules(image: &Image) -> Result<Vec<Rule>, NativeError> {
    let state: State = typed(&image.state, "the state", DECLARED.name)?;
    Ok(flatten(state.ip_permissions))
}

// ------------------------------------------------------------------------------------------- the decision

pub(super) type Range = (i32, i32);

/// What the internet must not reach: port ranges of each protocol, sorted and apart, and from which kind of address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Closed {
    tcp: Vec<Range>,
    udp: Vec<Range>,
    ipv4: bool,
    ipv6: bool,
}

impl Closed {
    fn parse(parameters: &Parameters) -> Result<Self, NativeError> {
        let families = choices(parameters, "Families", &["IPv4", "IPv6"], "a list of `IPv4` and `IPv6`")?;
        let has = |list: &Option<Vec<String>>, item: &str, default: bool| {
            list.as_ref().map_or(default, |list| list.iter().any(|given| given == item))
        };
        let (ipv4, ipv6) = (has(&families, "IPv4", true), has(&families, "IPv6", true));
        if parameters.contains_key("AuthorizedTcpPorts") || parameters.contains_key("AuthorizedUdpPorts") {
            let (tcp, udp) = (ports(parameters, "AuthorizedTcpPorts")?, ports(parameters, "AuthorizedUdpPorts")?);
            return Ok(Self { tcp: cut_out(ALL_PORTS, &tcp), udp: cut_out(ALL_PORTS, &udp), ipv4, ipv6 });
        }
        let protocols = choices(parameters, "Protocols", &["tcp", "udp"], "a list of `tcp` and `udp`")?;
        let closed = ports(parameters, "Ports")?;
        if closed.is_empty() {
            return Err(NativeError::Parameter { name: "Ports".to_owned(), expected: PORTS });
        }
        let of = |protocol: &str, default: bool| {
            if has(&protocols, protocol, default) { closed.clone() } else { Vec::new() }
        };
        Ok(Self { tcp: of("tcp", true), udp: of("udp", false), ipv4, ipv6 })
    }

    /// Whether a rule lets the internet reach what is closed.
    fn hits(&self, rule: &Rule) -> bool {
        let family = match &rule.source {
            Source::Ipv6(_) => self.ipv6,
            _ => self.ipv4,
        };
        let reaches = |protocol: &str, closed: &[Range]| {
            let lets = rule.scope.ports(protocol);
            lets.is_some_and(|(from, to)| closed.iter().any(|closed| closed.0 <= to && from <= closed.1))
        };
        family && rule.source.is_open() && (reaches("tcp", &self.tcp) || reaches("udp", &self.udp))
    }

    /// What is left of a rule.
    fn left_of(&self, rule: &Rule) -> Vec<Rule> {
        let cut = |protocol: &'static str, closed: &[Range]| -> Vec<Scope> {
            let left = rule.scope.ports(protocol).map(|range| cut_out(range, closed)).unwrap_or_default();
            left.into_iter().map(|(from, to)| Scope::new(protocol, Some(from), Some(to))).collect()
        };
        let mut left = [cut("tcp", &self.tcp), cut("udp", &self.udp)].concat();
        if rule.scope.protocol == "-1" {
            let icmp = if matches!(rule.source, Source::Ipv6(_)) { "icmpv6" } else { "icmp" };
            left.push(Scope::new(icmp, Some(-1), Some(-1)));
        }
        left.into_iter().map(|scope| Rule { scope, ..rule.clone() }).collect()
    }
}

pub(super) const PORTS: &str = "a list of ports, each from 0 to 65535, such as [22]";

/// A list of ports, sorted, as ranges; empty when it is not given.
pub(super) fn ports(parameters: &Parameters, name: &str) -> Result<Vec<Range>, NativeError> {
    let wrong = || NativeError::Parameter { name: name.to_owned(), expected: PORTS };
    let Some(given) = parameters.get(name) else { return Ok(Vec::new()) };
    let given = given.as_array().ok_or_else(wrong)?;
    let port = |port| number(port).and_then(|port| u16::try_from(port).ok()).map(i32::from).ok_or_else(wrong);
    let mut ports = given.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    ports.sort_unstable();
    ports.dedup();
    Ok(ports.into_iter().map(|port| (port, port)).collect())
}

/// A list of some of the words; `None` when it is not given.
fn choices(
    parameters: &Parameters,
    name: &str,
    words: &[&str],
    expected: &'static str,
) -> Result<Option<Vec<String>>, NativeError> {
    let Some(given) = parameters.get(name) else { return Ok(None) };
    let chosen = given.as_array().into_iter().flatten();
    let chosen: Option<Vec<String>> =
        chosen.map(|word| word.as_str().filter(|word| words.contains(word)).map(str::to_owned)).collect();
    match chosen {
        Some(chosen) if !chosen.is_empty() => Ok(Some(chosen)),
        _ => Err(NativeError::Parameter { name: name.to_owned(), expected }),
    }
}

/// What is left of a range without others, which are sorted and apart.
pub(super) fn cut_out((from, to): Range, others: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    let mut start = from;
    for &(first, last) in others.iter().filter(|(first, last)| *first <= to && from <= *last) {
        if start < first {
            left.push((start, first - 1));
        }
        start = last + 1;
    }
    if start <= to {
        left.push((start, to));
    }
    left
}

/// The edit that closes the ports to the internet.
fn close(rules: &[Rule], what: &Closed) -> Edit {
    let (closed, mut kept): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| what.hits(rule));
    let mut edit = Edit::default();
    let remainders: Vec<Rule> = closed.iter().flat_map(|rule| what.left_of(rule)).collect();
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

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    group_id: String,
    ip_permissions: Vec<Permission>,
}

#[cfg(test)]
#[path = "ec2_open_port_tests.rs"]
mod tests;
