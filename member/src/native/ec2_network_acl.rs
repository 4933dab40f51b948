//! `ec2_network_acl`: no ingress entry of a network ACL lets the whole internet reach the given TCP ports.
//!
//! Entries are tried in the order of their numbers, and the first that fits decides. So an entry that opens a port is
//! taken apart where it stands: what is left of it goes to its own number and to free ones next to it, with no other
//! entry between, and a packet to the port goes on to the entries behind, as if the entry had never fitted it. Every
//! other packet meets the same decision as before. The new entries are created before the old one shrinks.
//!
//! An entry for *all* protocols becomes TCP without the ports, all of UDP, and ICMP (or ICMPv6). Other protocols from
//! the whole internet are closed with it; who needs them has to say so in an entry of their own. The undo brings the
//! old entry back.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_ec2::types;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Job};
use redress_common::ids::AccountId;
use serde::{Deserialize, Serialize};

use super::ec2_open_port::{PORTS, Range, cut_out, ports};
use super::ec2_rules::ALL_PORTS;
use super::{Declared, Native, NativeError, Parameters, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "ec2_network_acl",
    reads: &["ec2:DescribeNetworkAcls"],
    changes: &["ec2:CreateNetworkAclEntry", "ec2:DeleteNetworkAclEntry", "ec2:ReplaceNetworkAclEntry"],
    make: |clients, request| Ok(Box::new(NetworkAcl::new(clients.ec2.clone(), &request.job, &request.parameters)?)),
};

/// The last number that an entry may have; EC2's own, which deny the rest, stand behind it.
const LAST: i32 = 32766;

/// The function on one network ACL.
#[derive(Debug)]
struct NetworkAcl {
    client: aws_sdk_ec2::Client,
    acl: String,
    owner: Option<AccountId>,
    closed: Vec<Range>,
}

impl NetworkAcl {
    fn new(client: aws_sdk_ec2::Client, job: &Job, parameters: &Parameters) -> Result<Self, NativeError> {
        let closed = ports(parameters, "Ports")?;
        if closed.is_empty() {
            return Err(NativeError::Parameter { name: "Ports".to_owned(), expected: PORTS });
        }
        Ok(Self { client, acl: job.resource_name.clone(), owner: job.resource_arn.account().cloned(), closed })
    }

    fn calls(&self, edits: Vec<Edit>) -> Result<Change, NativeError> {
        let call = |edit| {
            let acl = self.acl.clone();
            match edit {
                Edit::Create(entry) => planned(&DECLARED, "ec2", "CreateNetworkAclEntry", &On { acl, entry }),
                Edit::Replace(entry) => planned(&DECLARED, "ec2", "ReplaceNetworkAclEntry", &On { acl, entry }),
                Edit::Delete(rule_number) => {
                    let entry = Number { rule_number, egress: false };
                    planned(&DECLARED, "ec2", "DeleteNetworkAclEntry", &On { acl, entry })
                }
            }
        };
        edits.into_iter().map(call).collect::<Result<_, _>>().map(Change)
    }
}

#[async_trait]
impl Native for NetworkAcl {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.describe_network_acls().network_acl_ids(&self.acl).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("DescribeNetworkAcls", &error)) {
            Err(failure) if failure.code() == Some("InvalidNetworkAclID.NotFound") => return Ok(None),
            answer => answer?,
        };
        let Some(acl) = answer.network_acls().first() else { return Ok(None) };
        if let (Some(owner), Some(found)) = (&self.owner, acl.owner_id())
            && owner.as_str() != found
        {
            return Err(NativeError::Refused("the network ACL belongs to another account than its ARN says; refused"));
        }
        let own = acl.entries().iter().filter(|entry| entry.egress() != Some(true));
        let mut entries: Vec<Entry> = own.map(Entry::from).filter(|entry| entry.rule_number <= LAST).collect();
        entries.sort_by_key(|entry| entry.rule_number);
        let state = State { network_acl_id: self.acl.clone(), entries };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        self.calls(close(entries(now)?, &self.closed)?)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        self.calls(put_back(&entries(now)?, &entries(before)?))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let form = |_| NativeError::Form { what: "a call", native: DECLARED.name };
        match call.operation.as_str() {
            "CreateNetworkAclEntry" => {
                let On { acl, entry }: On<Entry> = typed(&call.parameters, "a call", DECLARED.name)?;
                let action = entry.rule_action.parse().map_err(form)?;
                let call = self
                    .client
                    .create_network_acl_entry()
                    .network_acl_id(acl)
                    .rule_number(entry.rule_number)
                    .egress(entry.egress)
                    .protocol(&entry.protocol)
                    .rule_action(action)
                    .set_cidr_block(entry.cidr_block.clone())
                    .set_ipv6_cidr_block(entry.ipv6_cidr_block.clone())
                    .set_port_range(entry.port_range())
                    .set_icmp_type_code(entry.icmp_type_code());
                call.send().await.map_err(|error| AwsFailure::of("CreateNetworkAclEntry", &error))?;
                Ok(())
            }
            "ReplaceNetworkAclEntry" => {
                let On { acl, entry }: On<Entry> = typed(&call.parameters, "a call", DECLARED.name)?;
                let action = entry.rule_action.parse().map_err(form)?;
                let call = self
                    .client
                    .replace_network_acl_entry()
                    .network_acl_id(acl)
                    .rule_number(entry.rule_number)
                    .egress(entry.egress)
                    .protocol(&entry.protocol)
                    .rule_action(action)
                    .set_cidr_block(entry.cidr_block.clone())
                    .set_ipv6_cidr_block(entry.ipv6_cidr_block.clone())
                    .set_port_range(entry.port_range())
                    .set_icmp_type_code(entry.icmp_type_code());
                call.send().await.map_err(|error| AwsFailure::of("ReplaceNetworkAclEntry", &error))?;
                Ok(())
            }
            "DeleteNetworkAclEntry" => {
                let On { acl, entry }: On<Number> = typed(&call.parameters, "a call", DECLARED.name)?;
                let call = self.client.delete_network_acl_entry().network_acl_id(acl);
                let call = call.rule_number(entry.rule_number).egress(entry.egress);
                call.send().await.map_err(|error| AwsFailure::of("DeleteNetworkAclEntry", &error))?;
                Ok(())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

fn entries(image: &Image) -> Result<Vec<Entry>, NativeError> {
    typed::<State>(&image.state, "the state", DECLARED.name).map(|state| state.entries)
}

// ------------------------------------------------------------------------------------------- the decision

#[derive(Debug, PartialEq)]
enum Edit {
    Create(Entry),
    Replace(Entry),
    Delete(i32),
}

/// The edits that close the ports to the internet, one opening entry after the other.
fn close(mut entries: Vec<Entry>, closed: &[Range]) -> Result<Vec<Edit>, NativeError> {
    let mut edits = Vec::new();
    let opening: Vec<Entry> = entries.iter().filter(|entry| entry.opens(closed)).cloned().collect();
    for entry in opening {
        let mut left = entry.without(closed);
        let numbers = room(&entries, entry.rule_number, left.len())?;
        for (piece, number) in left.iter_mut().zip(numbers) {
            piece.rule_number = number;
        }
        entries.retain(|other| other.rule_number != entry.rule_number);
        entries.extend(left.iter().cloned());
        let mut left = left.into_iter();
        let own = left.next().map_or(Edit::Delete(entry.rule_number), Edit::Replace);
        edits.extend(left.map(Edit::Create));
        edits.push(own);
    }
    Ok(edits)
}

/// An entry's own number and as many free ones around it as are needed, with no other entry between them.
fn room(entries: &[Entry], number: i32, needed: usize) -> Result<Vec<i32>, NativeError> {
    let others = || entries.iter().map(|entry| entry.rule_number);
    let before = others().filter(|other| *other < number).max().unwrap_or(0);
    let behind = others().filter(|other| *other > number).min().unwrap_or(LAST + 1);
    let free = (number..behind).chain((before + 1..number).rev());
    let numbers: Vec<i32> = free.take(needed).collect();
    if numbers.len() < needed {
        return Err(NativeError::Refused(
            "an entry must be taken apart, and there are not enough free numbers between it and its neighbours; \
             number the entries further apart, then try again",
        ));
    }
    Ok(numbers)
}

/// The edits that turn the entries `now` into those `before`: what opens first, so that nothing is interrupted.
fn put_back(now: &[Entry], before: &[Entry]) -> Vec<Edit> {
    let by_number = |entries: &[Entry]| -> BTreeMap<i32, Entry> {
        entries.iter().map(|entry| (entry.rule_number, entry.clone())).collect()
    };
    let (now, before) = (by_number(now), by_number(before));
    let mut edits = Vec::new();
    for (number, entry) in &before {
        match now.get(number) {
            Some(known) if known == entry => {}
            Some(_) => edits.push(Edit::Replace(entry.clone())),
            None => edits.push(Edit::Create(entry.clone())),
        }
    }
    edits.extend(now.keys().filter(|number| !before.contains_key(number)).map(|number| Edit::Delete(*number)));
    edits
}

impl Entry {
    fn is_open(&self) -> bool {
        let everyone = |cidr: &Option<String>| cidr.as_ref().is_some_and(|cidr| cidr.ends_with("/0"));
        everyone(&self.cidr_block) || everyone(&self.ipv6_cidr_block)
    }

    /// The TCP ports that it is about.
    fn tcp(&self) -> Option<Range> {
        match (self.protocol.as_str(), &self.port_range) {
            ("-1", _) | ("6", None) => Some(ALL_PORTS),
            ("6", Some(range)) => Some((range.from, range.to)),
            _ => None,
        }
    }

    fn opens(&self, closed: &[Range]) -> bool {
        let hit = |(from, to): Range| closed.iter().any(|closed| closed.0 <= to && from <= closed.1);
        self.rule_action == "allow" && self.is_open() && self.tcp().is_some_and(hit)
    }

    /// What is left of it. The numbers are still its own.
    fn without(&self, closed: &[Range]) -> Vec<Self> {
        let of = |protocol: &str, range: Option<Range>| Self {
            protocol: protocol.to_owned(),
            port_range: range.map(|(from, to)| PortRange { from, to }),
            ..self.clone()
        };
        let tcp = self.tcp().map(|range| cut_out(range, closed)).unwrap_or_default();
        let mut left: Vec<Self> = tcp.into_iter().map(|range| of("6", Some(range))).collect();
        if self.protocol == "-1" {
            let icmp = if self.ipv6_cidr_block.is_some() { "58" } else { "1" };
            left.push(of("17", Some(ALL_PORTS)));
            left.push(Self { icmp_type_code: Some(Icmp { code: -1, r#type: -1 }), ..of(icmp, None) });
        }
        left
    }

    fn port_range(&self) -> Option<types::PortRange> {
        let range = self.port_range.as_ref()?;
        Some(types::PortRange::builder().from(range.from).to(range.to).build())
    }

    fn icmp_type_code(&self) -> Option<types::IcmpTypeCode> {
        let icmp = self.icmp_type_code.as_ref()?;
        Some(types::IcmpTypeCode::builder().code(icmp.code).r#type(icmp.r#type).build())
    }
}

// ------------------------------------------------------------------------------------------- the wire form

/// The image's state: the ingress entries, in order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    network_acl_id: String,
    entries: Vec<Entry>,
}

/// The parameters of a call.
#[derive(Debug, Serialize, Deserialize)]
struct On<T> {
    #[serde(rename = "NetworkAclId")]
    acl: String,
    #[serde(flatten)]
    entry: T,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    rule_number: i32,
    egress: bool,
    protocol: String,
    rule_action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ipv6_cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port_range: Option<PortRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    icmp_type_code: Option<Icmp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Number {
    rule_number: i32,
    egress: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortRange {
    from: i32,
    to: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Icmp {
    code: i32,
    r#type: i32,
}

impl From<&types::NetworkAclEntry> for Entry {
    fn from(from: &types::NetworkAclEntry) -> Self {
        let protocol = from.protocol().unwrap_or_default();
        let with_ports = matches!(protocol, "6" | "17");
        let range = from.port_range().filter(|_| with_ports);
        let icmp = from.icmp_type_code().filter(|_| matches!(protocol, "1" | "58"));
        Self {
            rule_number: from.rule_number().unwrap_or(LAST + 1),
            egress: false,
            protocol: protocol.to_owned(),
            rule_action: from.rule_action().map(|action| action.as_str().to_owned()).unwrap_or_default(),
            cidr_block: from.cidr_block().map(str::to_owned),
            ipv6_cidr_block: from.ipv6_cidr_block().map(str::to_owned),
            port_range: range
                .map(|range| PortRange { from: range.from().unwrap_or(0), to: range.to().unwrap_or(ALL_PORTS.1) }),
            icmp_type_code: icmp
                .map(|icmp| Icmp { code: icmp.code().unwrap_or(-1), r#type: icmp.r#type().unwrap_or(-1) }),
        }
    }
}

#[cfg(test)]
#[path = "ec2_network_acl_tests.rs"]
mod tests;
