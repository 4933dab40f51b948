//! Whether anybody outside can reach an instance or a database, by a public address and a group whose rules let anybody in, or
//! a function, by its URL or its policy.
//!
//! What else decides it, such as network ACLs, routes and whatever listens, is not looked at: what is found here may be shut
//! elsewhere. Load balancers in front of an instance are not found.

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Instance, IpPermission, SecurityGroup};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::GuardEvidence;
use serde_json::{Value, json};

use super::Answer;
use crate::native::policy_text;
use crate::native::rds::{self, each};
use crate::wire::{Operation, Protocol, Service, Wire};

static LAMBDA: Service = Service::of("lambda", Protocol::RestCapital);
static GET_URL: Operation = LAMBDA.at("GetFunctionUrlConfig", "GET", "/2021-10-31/functions/{FunctionName}/url");
static GET_POLICY: Operation = LAMBDA.at("GetPolicy", "GET", "/2015-03-31/functions/{FunctionName}/policy");

/// So many ways in are told.
const MAX_WAYS: usize = 10;

/// Which addresses of an instance the world can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Addresses {
    v4: bool,
    v6: bool,
}

impl Addresses {
    fn of(instance: &Instance) -> Self {
        let mut found = Self { v4: instance.public_ip_address().is_some(), v6: instance.ipv6_address().is_some() };
        for interface in instance.network_interfaces() {
            let associations = interface.private_ip_addresses().iter().filter_map(|address| address.association());
            found.v4 |= interface.association().into_iter().chain(associations).any(|one| one.public_ip().is_some());
            found.v6 |= !interface.ipv6_addresses().is_empty();
        }
        found
    }
}

/// What lets anybody outside reach an instance.
pub(super) async fn of_instance(client: Client, id: String) -> Answer {
    let answer = client.describe_instances().instance_ids(&id).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeInstances", &error))?;
    let Some(instance) = answer.reservations().iter().flat_map(|one| one.instances()).next() else {
        return Err(AwsFailure::partial("DescribeInstances", "the instance is not in the answer"));
    };
    let addresses = Addresses::of(instance);
    let groups = groups(instance);
    if !(addresses.v4 || addresses.v6) || groups.is_empty() {
        return Ok(exposed(Vec::new()));
    }
    let answer = client.describe_security_groups().set_group_ids(Some(groups.into_iter().collect())).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error))?;
    Ok(exposed(ways(addresses, answer.security_groups())))
}

/// What lets anybody outside reach a database.
pub(super) async fn of_database(wire: Wire, client: Client, name: String) -> Answer {
    let input = json!({ "DBInstanceIdentifier": name });
    let answer = match rds::call(&wire, &rds::DESCRIBE_INSTANCES, &input).await {
        Err(failure) if failure.code() == Some("DBInstanceNotFound") => return Ok(GuardEvidence::default()),
        answer => answer?,
    };
    let found = each(&answer["DBInstances"], "DBInstance").first().copied().cloned().unwrap_or_default();
    let groups: BTreeSet<String> = each(&found["VpcSecurityGroups"], "VpcSecurityGroupMembership")
        .into_iter()
        .filter_map(|group| group["VpcSecurityGroupId"].as_str().map(str::to_owned))
        .collect();
    if found["PubliclyAccessible"] != "true" || groups.is_empty() {
        return Ok(exposed(Vec::new()));
    }
    let answer = client.describe_security_groups().set_group_ids(Some(groups.into_iter().collect())).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error))?;
    Ok(exposed(ways(Addresses { v4: true, v6: false }, answer.security_groups())))
}

/// What lets anybody outside invoke a function.
pub(super) async fn of_function(wire: Wire, name: String) -> Answer {
    let input = json!({ "FunctionName": name });
    let (url, policy) = tokio::join!(wire.call(&GET_URL, &input), wire.call(&GET_POLICY, &input));
    Ok(exposed(open_doors(&known(url)?, &known(policy)?)))
}

/// An answer; nothing when there is no such thing.
fn known(answer: Result<Value, AwsFailure>) -> Result<Value, AwsFailure> {
    match answer {
        Err(failure) if failure.code() == Some("ResourceNotFoundException") => Ok(Value::Null),
        answer => answer,
    }
}

/// The ways into a function by its URL, and by the statements of its policy.
fn open_doors(url: &Value, policy: &Value) -> Vec<String> {
    let asks_nobody = url["AuthType"] == "NONE";
    let document = policy["Policy"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let document = document.unwrap_or_default();
    let open = document["Statement"].as_array().into_iter().flatten().filter(|one| policy_text::is_public(one));
    let open = open.map(|one| {
        format!("statement `{}` of its policy lets anybody call it", one["Sid"].as_str().unwrap_or_default())
    });
    let url = asks_nobody.then(|| "a function URL that asks nobody who they are".to_owned());
    url.into_iter().chain(open).take(MAX_WAYS).collect()
}

fn exposed(ways: Vec<String>) -> GuardEvidence {
    GuardEvidence { exposure: Some(ways), ..GuardEvidence::default() }
}

/// The groups of an instance and of all its interfaces.
fn groups(instance: &Instance) -> BTreeSet<String> {
    let of_interfaces = instance.network_interfaces().iter().flat_map(|interface| interface.groups());
    let all = instance.security_groups().iter().chain(of_interfaces);
    all.filter_map(|group| group.group_id()).map(str::to_owned).collect()
}

/// The rules of these groups that let anybody in at these addresses.
fn ways(addresses: Addresses, groups: &[SecurityGroup]) -> Vec<String> {
    let mut found = Vec::new();
    for group in groups {
        let open = group.ip_permissions().iter().filter(|rule| lets_anybody_in(rule, addresses));
        let id = group.group_id().unwrap_or_default();
        found.extend(open.map(|rule| format!("a public address, and group {id} lets anybody in on {}", ports(rule))));
    }
    found.sort();
    found.truncate(MAX_WAYS);
    found
}

fn lets_anybody_in(rule: &IpPermission, addresses: Addresses) -> bool {
    let v4 = rule.ip_ranges().iter().any(|range| range.cidr_ip() == Some("0.0.0.0/0"));
    let v6 = rule.ipv6_ranges().iter().any(|range| range.cidr_ipv6() == Some("::/0"));
    (addresses.v4 && v4) || (addresses.v6 && v6)
}

fn ports(rule: &IpPermission) -> String {
    let protocol = rule.ip_protocol().unwrap_or_default();
    match (protocol, rule.from_port(), rule.to_port()) {
        ("-1" | "", ..) => "every port".to_owned(),
        (protocol, Some(from), Some(to)) if from == to => format!("{protocol} {from}"),
        (protocol, Some(from), Some(to)) => format!("{protocol} {from}-{to}"),
        (protocol, ..) => protocol.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{IpRange, Ipv6Range};

    use super::*;

    fn rule(v4: &str, v6: &str) -> IpPermission {
        let rule = IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22);
        let rule = rule.ip_ranges(IpRange::builder().cidr_ip(v4).build());
        rule.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(v6).build()).build()
    }

    fn group(rule: IpPermission) -> SecurityGroup {
        SecurityGroup::builder().group_id("sg-1").ip_permissions(rule).build()
    }

    #[test]
    fn an_address_and_an_open_rule_of_its_kind_are_both_needed() {
        let (v4, v6) = (Addresses { v4: true, v6: false }, Addresses { v4: false, v6: true });
        let open = ["a public address, and group sg-1 lets anybody in on tcp 22"];
        let none: [&str; 0] = [];
        assert_eq!(ways(v4, &[group(rule("0.0.0.0/0", "fd00::/8"))]), open);
        assert_eq!(ways(v4, &[group(rule("10.0.0.0/8", "::/0"))]), none);
        assert_eq!(ways(v6, &[group(rule("10.0.0.0/8", "::/0"))]), open);
        assert_eq!(ways(v6, &[group(rule("0.0.0.0/0", "fd00::/8"))]), none);
        assert_eq!(ways(Addresses { v4: false, v6: false }, &[group(rule("0.0.0.0/0", "::/0"))]), none);
    }

    #[test]
    fn a_function_is_open_by_its_url_or_by_a_statement_that_pins_nobody() {
        let policy = |principal: Value, condition: Value| {
            let statement = json!({
                "Sid": "any", "Effect": "Allow", "Principal": principal, "Action": "lambda:InvokeFunction", "Resource": "*",
                "Condition": condition,
            });
            json!({ "Policy": json!({ "Statement": [statement] }).to_string() })
        };
        let (none, iam) = (json!({ "AuthType": "NONE" }), json!({ "AuthType": "AWS_IAM" }));
        let url = "a function URL that asks nobody who they are";
        let by_policy = "statement `any` of its policy lets anybody call it";
        let open = policy(json!("*"), json!({ "StringEquals": { "lambda:FunctionUrlAuthType": "NONE" } }));
        let pinned = policy(json!("*"), json!({ "StringEquals": { "aws:SourceAccount": "111122223333" } }));
        assert_eq!(open_doors(&none, &open), [url, by_policy]);
        assert_eq!(open_doors(&iam, &pinned), [""; 0]);
        assert_eq!(open_doors(&Value::Null, &policy(json!({ "Service": "s3.amazonaws.com" }), json!({}))), [""; 0]);
        assert_eq!(open_doors(&Value::Null, &json!({ "Policy": "no JSON" })), [""; 0]);
    }

    #[test]
    fn what_is_told_of_a_rule_is_its_ports() {
        let every = IpPermission::builder().ip_protocol("-1").build();
        let some = IpPermission::builder().ip_protocol("udp").from_port(1).to_port(9).build();
        assert_eq!([ports(&every), ports(&some)], ["every port", "udp 1-9"]);
        let many: Vec<SecurityGroup> = (0..50).map(|_| group(rule("0.0.0.0/0", "::/0"))).collect();
        assert_eq!(ways(Addresses { v4: true, v6: true }, &many).len(), MAX_WAYS);
    }
}
