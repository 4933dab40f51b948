//! VPCs: what is logged of their traffic, how they reach the API of EC2, and which addresses their subnets give.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::logging::{CREATE_LOG_GROUP, DELETE_LOG_GROUP, DESCRIBE_LOG_GROUPS, PUT_RETENTION, group};
use super::trail::DESCRIBE_KEY;
use super::{Ask, EC2, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::Operation;

static DESCRIBE_VPCS: Operation = EC2.operation("DescribeVpcs");
static DESCRIBE_FLOW_LOGS: Operation = EC2.operation("DescribeFlowLogs");
static CREATE_FLOW_LOGS: Operation = Operation { token: Some("ClientToken"), ..EC2.operation("CreateFlowLogs") };
static DELETE_FLOW_LOGS: Operation = EC2.operation("DeleteFlowLogs");

fn vpc(subject: &Subject) -> Ask {
    Ask::of(&DESCRIBE_VPCS, json!({ "VpcId": [subject.name] }))
}

fn items<'a>(answer: &'a Value, set: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(answer, set).as_array().into_iter().flatten()
}

/// The texts of a list in a state.
fn ids(state: &Value, name: &str) -> Vec<String> {
    items(state, &format!("/{name}")).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The ids that are there now and were not before.
fn made(now: &Value, before: &Value, name: &str) -> Vec<String> {
    let before = ids(before, name);
    ids(now, name).into_iter().filter(|id| !before.contains(id)).collect()
}

fn flow_log_group(subject: &Subject) -> String {
    format!("/redress/vpc-flow-logs/{}", subject.name)
}

/// Flow logs of a VPC that count: those that log at least what is rejected.
fn flow_logs(answer: &Value) -> Vec<&str> {
    let counts =
        |log: &&Value| log["flowLogStatus"] == "ACTIVE" && ["ALL", "REJECT"].iter().any(|t| log["trafficType"] == *t);
    let mut ids: Vec<&str> =
        items(answer, "/flowLogSet").filter(counts).filter_map(|log| log["flowLogId"].as_str()).collect();
    ids.sort_unstable();
    ids
}

/// The traffic of VPCs is logged. A VPC that has a flow log of what is rejected, wherever to, is left alone; the log group
/// is made when it is not there, and an undo deletes it then.
pub(super) static VPC_FLOW_LOGS: Setting = Setting {
    name: "vpc_flow_logs",
    missing: &["InvalidVpcID.NotFound"],
    changes: &[&CREATE_FLOW_LOGS, &CREATE_LOG_GROUP, &DELETE_FLOW_LOGS, &DELETE_LOG_GROUP, &PUT_RETENTION],
    next: |subject, answers| match answers {
        [] => Some(vpc(subject)),
        [_] => {
            let of_it = json!([{ "Name": "resource-id", "Value": [subject.name] }]);
            Some(Ask::of(&DESCRIBE_FLOW_LOGS, json!({ "Filter": of_it })))
        }
        [_, _] => Some(Ask::of(&DESCRIBE_LOG_GROUPS, json!({ "logGroupNamePrefix": flow_log_group(subject) }))),
        // The key is needed for what is to be made, and is of no interest later.
        [_, logs, _] if flow_logs(logs).is_empty() => {
            let key = subject.text("KmsKeyId").ok()?;
            Some(Ask::of(&DESCRIBE_KEY, json!({ "KeyId": key })))
        }
        _ => None,
    },
    state: |subject, answers| {
        let [_, logs, groups, key @ ..] = answers else { return None };
        let name = flow_log_group(subject);
        Some(json!({
            "FlowLogs": flow_logs(logs),
            "LogGroup": group(groups, &name).is_some(),
            "Key": key.first().map_or(&Value::Null, |key| at(key, "/KeyMetadata/Arn")),
        }))
    },
    fix: |subject, now| {
        if !ids(now, "FlowLogs").is_empty() {
            return Ok(vec![]);
        }
        let group = flow_log_group(subject);
        let role = subject.role()?;
        let mut calls = vec![];
        if now["LogGroup"] == false {
            if now["Key"].is_null() {
                return Err(NativeError::Refused("the key of the log group has no ARN; nothing is logged without it"));
            }
            let days = subject.number("RetentionInDays")?;
            calls.push((&CREATE_LOG_GROUP, json!({ "logGroupName": group, "kmsKeyId": now["Key"] })));
            calls.push((&PUT_RETENTION, json!({ "logGroupName": group, "retentionInDays": days })));
        }
        let input = json!({
            "ResourceType": "VPC",
            "ResourceId": [subject.name],
            "TrafficType": "ALL",
            "LogDestinationType": "cloud-watch-logs",
            "LogGroupName": group,
            "DeliverLogsPermissionArn": role,
        });
        calls.push((&CREATE_FLOW_LOGS, input));
        Ok(calls)
    },
    undo: |subject, now, before| {
        let logs = made(now, before, "FlowLogs");
        let delete = (!logs.is_empty()).then(|| (&DELETE_FLOW_LOGS, json!({ "FlowLogId": logs })));
        let group = now["LogGroup"] == true && before["LogGroup"] == false;
        let group = group.then(|| (&DELETE_LOG_GROUP, json!({ "logGroupName": flow_log_group(subject) })));
        Ok(delete.into_iter().chain(group).collect())
    },
};

static DESCRIBE_SUBNETS: Operation = EC2.operation("DescribeSubnets");
static MODIFY_SUBNET: Operation = EC2.operation("ModifySubnetAttribute");

/// The attributes of a subnet by which new network interfaces get addresses of the internet, and what EC2 answers them as.
const GIVES: [(&str, &str); 2] = [(PUBLIC_IPV4, "mapPublicIpOnLaunch"), (IPV6, "assignIpv6AddressOnCreation")];
const PUBLIC_IPV4: &str = "MapPublicIpOnLaunch";
const IPV6: &str = "AssignIpv6AddressOnCreation";

/// EC2 changes one attribute at a time.
fn gives(subject: &Subject, attribute: &str, whether: &Value) -> (&'static Operation, Value) {
    (&MODIFY_SUBNET, json!({ "SubnetId": subject.name, attribute: { "Value": whether } }))
}

/// A subnet gives new network interfaces no addresses of the internet, of neither version.
pub(super) static SUBNET_ADDRESSES: Setting = Setting {
    name: "subnet_addresses",
    missing: &["InvalidSubnetID.NotFound"],
    changes: &[&MODIFY_SUBNET],
    next: |subject, answers| Ask::once(answers, &DESCRIBE_SUBNETS, json!({ "SubnetId": [subject.name] })),
    state: |_, answers| {
        let subnet = at(answers.first()?, "/subnetSet/0");
        let mut state = json!({ "Ipv6Native": subnet["ipv6Native"] == "true" });
        for (attribute, answered) in GIVES {
            state[attribute] = json!(subnet[answered] == "true");
        }
        Some(state)
    },
    fix: |subject, now| {
        if now["Ipv6Native"] == true && now[IPV6] == true {
            return Err(NativeError::Refused(
                "the subnet has addresses of version 6 only, so that without them new instances would have none at all; look \
                 at its routes and security groups, and suppress the finding when they let in whom they should",
            ));
        }
        let given = GIVES.into_iter().filter(|(attribute, _)| now[*attribute] == true);
        Ok(given.map(|(attribute, _)| gives(subject, attribute, &json!(false))).collect())
    },
    undo: |subject, now, before| {
        let changed = GIVES.into_iter().filter(|(attribute, _)| now[*attribute] != before[*attribute]);
        Ok(changed.map(|(attribute, _)| gives(subject, attribute, &before[attribute])).collect())
    },
};

static DESCRIBE_ENDPOINTS: Operation = EC2.operation("DescribeVpcEndpoints");
static DESCRIBE_ENDPOINT_SERVICES: Operation = EC2.operation("DescribeVpcEndpointServices");
static DESCRIBE_VPC_ATTRIBUTE: Operation = EC2.operation("DescribeVpcAttribute");
static DESCRIBE_GROUPS: Operation = EC2.operation("DescribeSecurityGroups");
static CREATE_GROUP: Operation = EC2.operation("CreateSecurityGroup");
static AUTHORIZE_INGRESS: Operation = EC2.operation("AuthorizeSecurityGroupIngress");
static DELETE_GROUP: Operation = Operation { awaits: &["DependencyViolation"], ..EC2.operation("DeleteSecurityGroup") };
static CREATE_ENDPOINT: Operation = Operation { token: Some("ClientToken"), ..EC2.operation("CreateVpcEndpoint") };
static DELETE_ENDPOINTS: Operation = EC2.operation("DeleteVpcEndpoints");

/// The security group of the endpoint.
const ENDPOINT_GROUP: &str = "redress-ec2-endpoint";

fn service(subject: &Subject) -> String {
    let china = if subject.region.as_str().starts_with("cn-") { "cn." } else { "" };
    format!("{china}com.amazonaws.{}.ec2", subject.region)
}

/// Endpoints that are there, or are about to be.
fn endpoints(answer: &Value) -> Vec<&str> {
    let counts = |endpoint: &&Value| {
        let state = endpoint["state"].as_str().unwrap_or_default().to_ascii_lowercase();
        ["available", "pending", "pendingacceptance"].contains(&state.as_str())
    };
    let mut ids: Vec<&str> =
        items(answer, "/vpcEndpointSet").filter(counts).filter_map(|one| one["vpcEndpointId"].as_str()).collect();
    ids.sort_unstable();
    ids
}

/// One subnet in each Availability Zone that the service is in.
fn subnets(service: &Value, answer: &Value) -> Vec<String> {
    let zones: Vec<&str> =
        items(service, "/serviceDetailSet/0/availabilityZoneSet").filter_map(Value::as_str).collect();
    let mut by_zone: BTreeMap<&str, &str> = BTreeMap::new();
    for subnet in items(answer, "/subnetSet") {
        let (Some(id), Some(zone)) = (subnet["subnetId"].as_str(), subnet["availabilityZone"].as_str()) else {
            continue;
        };
        // An address of version 4 is needed. What is on an Outpost is not in the zone.
        let usable = subnet["ipv6Native"] != "true" && subnet["outpostArn"].is_null();
        if usable && subnet["availableIpAddressCount"] != "0" && zones.contains(&zone) {
            let first = by_zone.entry(zone).or_insert(id);
            *first = (*first).min(id);
        }
    }
    by_zone.into_values().map(str::to_owned).collect()
}

fn blocks(vpc: &Value, set: &str, block: &str, state: &str) -> Vec<String> {
    let associated = items(vpc, &format!("/vpcSet/0/{set}")).filter(|one| at(one, state) == "associated");
    let mut blocks: Vec<String> = associated.filter_map(|one| one[block].as_str()).map(str::to_owned).collect();
    blocks.sort_unstable();
    blocks
}

/// A VPC reaches EC2's API by an endpoint of its own. The endpoint has a security group of its own, for the default group may
/// let nobody in, and with its private names it takes the place of the public API for everything in the VPC.
pub(super) static EC2_ENDPOINT: Setting = Setting {
    name: "ec2_endpoint",
    missing: &["InvalidVpcID.NotFound"],
    changes: &[&AUTHORIZE_INGRESS, &CREATE_ENDPOINT, &CREATE_GROUP, &DELETE_ENDPOINTS, &DELETE_GROUP],
    next: |subject, answers| {
        let of_vpc = |name: &str, value: &str| json!([{ "Name": "vpc-id", "Value": [subject.name] }, { "Name": name, "Value": [value] }]);
        let attribute =
            |name: &str| Some(Ask::of(&DESCRIBE_VPC_ATTRIBUTE, json!({ "VpcId": subject.name, "Attribute": name })));
        match answers {
            [] => Some(vpc(subject)),
            [_] => {
                let filter = of_vpc("service-name", &service(subject));
                Some(Ask::of(&DESCRIBE_ENDPOINTS, json!({ "Filter": filter })))
            }
            [_, _] => Some(Ask::of(&DESCRIBE_GROUPS, json!({ "Filter": of_vpc("group-name", ENDPOINT_GROUP) }))),
            [_, there, ..] if !endpoints(there).is_empty() => None,
            [_, _, _] => attribute("enableDnsSupport"),
            [_, _, _, _] => attribute("enableDnsHostnames"),
            [_, _, _, _, _] => Some(Ask::of(&DESCRIBE_ENDPOINT_SERVICES, json!({ "ServiceName": [service(subject)] }))),
            [_, _, _, _, _, _] => {
                let filter = json!([{ "Name": "vpc-id", "Value": [subject.name] }]);
                Some(Ask::of(&DESCRIBE_SUBNETS, json!({ "Filter": filter })))
            }
            _ => None,
        }
    },
    state: |_, answers| {
        let [vpc, there, groups, rest @ ..] = answers else { return None };
        let group = at(groups, "/securityGroupInfo/0");
        let mut state = json!({
            "Endpoints": endpoints(there),
            "Group": group["groupId"],
            "LetsIn": items(group, "/ipPermissions").any(|rule| rule["fromPort"] == "443"),
        });
        if let [support, hostnames, service, all] = rest {
            state["Dns"] = json!(
                at(support, "/enableDnsSupport/value") == "true"
                    && at(hostnames, "/enableDnsHostnames/value") == "true"
            );
            state["Subnets"] = json!(subnets(service, all));
            state["CidrBlocks"] = json!(blocks(vpc, "cidrBlockAssociationSet", "cidrBlock", "/cidrBlockState/state"));
            let six = blocks(vpc, "ipv6CidrBlockAssociationSet", "ipv6CidrBlock", "/ipv6CidrBlockState/state");
            state["Ipv6CidrBlocks"] = json!(six);
        }
        Some(state)
    },
    fix: endpoint,
    undo: |_, now, before| {
        let ids = made(now, before, "Endpoints");
        let delete = (!ids.is_empty()).then(|| (&DELETE_ENDPOINTS, json!({ "VpcEndpointId": ids })));
        let group = !now["Group"].is_null() && before["Group"].is_null();
        let group = group.then(|| (&DELETE_GROUP, json!({ "GroupId": now["Group"] })));
        Ok(delete.into_iter().chain(group).collect())
    },
};

fn endpoint(subject: &Subject, now: &Value) -> Planned {
    if !ids(now, "Endpoints").is_empty() {
        return Ok(vec![]);
    }
    if now["Dns"] != true {
        return Err(NativeError::Refused(
            "the VPC has no DNS support or no DNS host names, without which nothing would use the endpoint; turn both on, and ask again",
        ));
    }
    let subnets = ids(now, "Subnets");
    if subnets.is_empty() {
        return Err(NativeError::Refused(
            "the VPC has no subnet with a free address in a zone of the service; make one, and ask again",
        ));
    }
    let range = |name: &'static str| move |block: String| json!({ name: block, "Description": "this VPC" });
    let four: Vec<Value> = ids(now, "CidrBlocks").into_iter().map(range("CidrIp")).collect();
    let six: Vec<Value> = ids(now, "Ipv6CidrBlocks").into_iter().map(range("CidrIpv6")).collect();
    let rule = |group: &Value| {
        let mut permission = json!({ "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": four });
        if !six.is_empty() {
            permission["Ipv6Ranges"] = json!(six);
        }
        (&AUTHORIZE_INGRESS, json!({ "GroupId": group, "IpPermissions": [permission] }))
    };
    let mut calls = vec![];
    let mut group = now["Group"].clone();
    if group.is_null() {
        let input = json!({
            "GroupName": ENDPOINT_GROUP,
            "GroupDescription": "Endpoint of the EC2 API, for this VPC only",
            "VpcId": subject.name,
        });
        calls.push((&CREATE_GROUP, input));
        calls.push(rule(&json!("answer:/groupId")));
        group = json!("answer:/securityGroupRuleSet/0/groupId");
    } else if now["LetsIn"] == false {
        calls.push(rule(&group));
    }
    let input = json!({
        "VpcEndpointType": "Interface",
        "VpcId": subject.name,
        "ServiceName": service(subject),
        "SubnetId": subnets,
        "SecurityGroupId": [group],
        "PrivateDnsEnabled": true,
    });
    calls.push((&CREATE_ENDPOINT, input));
    Ok(calls)
}
