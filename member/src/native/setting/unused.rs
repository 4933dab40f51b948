//! What nothing uses and is removed: Elastic IP addresses and network ACLs. What is not there complies.

use serde_json::{Map, Value, json};

use super::ec2::EC2;
use super::{Ask, BESIDE, Setting, at};
use crate::native::NativeError;
use crate::wire::Operation;

static DESCRIBE_ADDRESSES: Operation = EC2.operation("DescribeAddresses");
static RELEASE: Operation = EC2.operation("ReleaseAddress");

/// Whose tags are not the resource's own.
const NOT_OWN: [&str; 2] = ["aws:", "redress:"];

/// What EC2 lists, in a fixed order.
fn sorted(list: &Value, by: impl Fn(&Value) -> String) -> Vec<Value> {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.sort_by_key(by);
    items
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The tags as they are written, but for those of AWS and of Redress.
fn tags(set: &Value) -> Vec<Value> {
    let own = |tag: &Value| !NOT_OWN.iter().any(|prefix| text(&tag["key"]).starts_with(prefix));
    let tags = sorted(set, |tag| text(&tag["key"])).into_iter().filter(own);
    tags.map(|tag| json!({ "Key": text(&tag["key"]), "Value": text(&tag["value"]) })).collect()
}

/// An Elastic IP address that nothing uses is released. Nobody can have it back.
pub(super) static UNUSED_ADDRESS: Setting = Setting {
    name: "ec2_unused_address",
    missing: &[],
    changes: &[&RELEASE],
    next: |subject, answers| {
        let input = json!({ "AllocationId": [subject.name] });
        let none = Some(("InvalidAllocationID.NotFound", ""));
        answers.is_empty().then_some(Ask { operation: &DESCRIBE_ADDRESSES, input, none })
    },
    state: |_, answers| {
        let mut address = at(answers.first()?, "/addressesSet/0").clone();
        if let Some(address) = address.as_object_mut() {
            let tags = sorted(&address["tagSet"], |tag| text(&tag["key"]));
            address.insert("tagSet".to_owned(), tags.into());
            address.retain(|_, value| !value.is_null());
        }
        Some(json!({ "Address": address }))
    },
    fix: |subject, now| {
        let address = &now["Address"];
        let used = ["associationId", "instanceId", "networkInterfaceId"];
        if address.is_null() || used.iter().any(|by| !address[*by].is_null()) {
            return Ok(vec![]);
        }
        if !address["serviceManaged"].is_null() {
            return Err(NativeError::Refused("another AWS service manages this address; release it there"));
        }
        let mut input = json!({ "AllocationId": subject.name });
        // Only one that is advertised from elsewhere is named by it.
        if let Some(group) = address["networkBorderGroup"].as_str().filter(|group| *group != subject.region.as_str()) {
            input["NetworkBorderGroup"] = group.into();
        }
        Ok(vec![(&RELEASE, input)])
    },
    undo: |_, _, _| {
        Err(NativeError::Refused(
            "a released address cannot be had back: it is AWS's again, and may be somebody else's by now. While it is nobody's, \
             `aws ec2 allocate-address --address …` with the address in the evidence gives it, under another id",
        ))
    },
};

static DESCRIBE_ACLS: Operation = EC2.operation("DescribeNetworkAcls");
static DELETE_ACL: Operation = EC2.operation("DeleteNetworkAcl");
static CREATE_ACL: Operation = Operation { token: Some("ClientToken"), ..EC2.operation("CreateNetworkAcl") };
static CREATE_ENTRY: Operation = EC2.operation("CreateNetworkAclEntry");

/// Tag of an ACL that was made again: the id of the one that it stands for.
const REPLACES: &str = "redress:replaces";
/// The entries that every ACL has, and that nobody makes.
const FIXED: i64 = 32767;

/// An entry as it is written.
fn entry(read: &Value) -> Value {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok());
    let protocol = text(&read["protocol"]);
    let mut entry = Map::new();
    entry.insert("RuleNumber".to_owned(), number(&read["ruleNumber"]).into());
    entry.insert("Egress".to_owned(), (read["egress"] == "true").into());
    entry.insert("Protocol".to_owned(), protocol.as_str().into());
    entry.insert("RuleAction".to_owned(), read["ruleAction"].clone());
    for (name, of) in [("CidrBlock", "cidrBlock"), ("Ipv6CidrBlock", "ipv6CidrBlock")] {
        if !read[of].is_null() {
            entry.insert(name.to_owned(), read[of].clone());
        }
    }
    // AWS takes them for these protocols only.
    let (ports, icmp) = (&read["portRange"], &read["icmpTypeCode"]);
    if matches!(protocol.as_str(), "6" | "17") && !ports.is_null() {
        let range = json!({ "From": number(&ports["from"]), "To": number(&ports["to"]) });
        entry.insert("PortRange".to_owned(), range);
    }
    if matches!(protocol.as_str(), "1" | "58") && !icmp.is_null() {
        let code = json!({ "Code": number(&icmp["code"]), "Type": number(&icmp["type"]) });
        entry.insert("Icmp".to_owned(), code);
    }
    Value::Object(entry)
}

/// A network ACL that no subnet uses is deleted, and made again by an undo: with its entries and tags, but AWS gives it
/// another id. So it carries the old one in a tag, by which it is found under the old ARN; the id is no part of the state.
pub(super) static UNUSED_NETWORK_ACL: Setting = Setting {
    name: "ec2_unused_network_acl",
    missing: &[],
    changes: &[&DELETE_ACL, &CREATE_ACL, &CREATE_ENTRY],
    next: |subject, answers| match answers {
        [] => Some(Ask {
            operation: &DESCRIBE_ACLS,
            input: json!({ "NetworkAclId": [subject.name] }),
            none: Some(("InvalidNetworkAclID.NotFound", "")),
        }),
        [Value::Null] => {
            let filter = json!({ "Name": format!("tag:{REPLACES}"), "Value": [subject.name] });
            Some(Ask::of(&DESCRIBE_ACLS, json!({ "Filter": [filter] })))
        }
        _ => None,
    },
    state: |_, answers| {
        let acl = at(answers.last()?, "/networkAclSet/0");
        if acl.is_null() {
            return Some(json!({ "NetworkAcl": null }));
        }
        let mut entries: Vec<Value> = acl["entrySet"].as_array().into_iter().flatten().map(entry).collect();
        entries.sort_by_key(|entry| (entry["Egress"] == true, entry["RuleNumber"].as_i64()));
        let mut subnets: Vec<String> =
            acl["associationSet"].as_array().into_iter().flatten().map(|one| text(&one["subnetId"])).collect();
        subnets.sort();
        Some(json!({
            "NetworkAcl": {
                "VpcId": acl["vpcId"],
                "IsDefault": acl["default"] == "true",
                "Associations": subnets,
                "Entries": entries,
                "Tags": tags(&acl["tagSet"]),
            },
            BESIDE: { "NetworkAclId": acl["networkAclId"] },
        }))
    },
    fix: |_, now| {
        let acl = &now["NetworkAcl"];
        if acl.is_null() || acl["Associations"].as_array().is_some_and(|subnets| !subnets.is_empty()) {
            return Ok(vec![]);
        }
        if acl["IsDefault"] == true {
            return Err(NativeError::Refused(
                "it is the default network ACL of its VPC, which AWS lets nobody delete; an exemption keeps it from being asked about",
            ));
        }
        Ok(vec![(&DELETE_ACL, json!({ "NetworkAclId": at(now, "/Beside/NetworkAclId") }))])
    },
    undo: |subject, _, before| {
        let acl = &before["NetworkAcl"];
        let mut tags = acl["Tags"].as_array().cloned().unwrap_or_default();
        tags.push(json!({ "Key": REPLACES, "Value": subject.name }));
        let tags = json!([{ "ResourceType": "network-acl", "Tag": tags }]);
        let mut calls = vec![(&CREATE_ACL, json!({ "VpcId": acl["VpcId"], "TagSpecification": tags }))];
        let own = |entry: &&Value| entry["RuleNumber"].as_i64().is_some_and(|number| number < FIXED);
        for entry in acl["Entries"].as_array().into_iter().flatten().filter(own) {
            let mut input = entry.clone();
            input["NetworkAclId"] = "answer:/networkAcl/networkAclId".into();
            calls.push((&CREATE_ENTRY, input));
        }
        Ok(calls)
    },
};
