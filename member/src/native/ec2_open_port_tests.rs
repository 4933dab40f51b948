#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use aws_sdk_ec2::types;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::ec2_rules::GroupPair;
use super::*;
use crate::testing::{FakeAws, job};

const GROUP: &str = "arn:aws:ec2:eu-central-1:111122223333:security-group/sg-1";

fn closed_ports(ports: &[i32]) -> Closed {
    let tcp = ports.iter().map(|port| (*port, *port)).collect();
    Closed { tcp, udp: vec![], ipv4: true, ipv6: true }
}

fn rule(protocol: &str, range: impl Into<Option<(i32, i32)>>, source: &str, description: &str) -> Rule {
    let range = range.into();
    Rule {
        scope: Scope::new(protocol, range.map(|range| range.0), range.map(|range| range.1)),
        source: match source {
            text if text.starts_with("pl-") => Source::PrefixList(text.to_owned()),
            text if text.starts_with("sg-") => {
                Source::Group(GroupPair { group_id: Some(text.to_owned()), ..GroupPair::default() })
            }
            text if text.contains(':') => Source::Ipv6(text.to_owned()),
            text => Source::Ipv4(text.to_owned()),
        },
        description: (!description.is_empty()).then(|| description.to_owned()),
    }
}

/// EC2, as far as it matters: refuses to add what is there and to take away what is not, call by call.
fn apply(rules: &[Rule], edit: &Edit) -> Vec<Rule> {
    let mut rules = rules.to_vec();
    for add in &edit.authorize {
        assert!(!rules.iter().any(|rule| rule.is(add)), "InvalidPermission.Duplicate: {add:?}");
        rules.push(add.clone());
    }
    for take in &edit.revoke {
        let count = rules.len();
        rules.retain(|rule| !rule.is(take));
        assert!(rules.len() < count, "InvalidPermission.NotFound: {take:?}");
    }
    rules.sort();
    rules
}

fn closed(rules: &[Rule]) -> Vec<Rule> {
    apply(rules, &close(rules, &closed_ports(&[22])))
}

fn sorted(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort();
    rules
}

#[test]
fn defect_13_the_private_source_in_the_same_rule_stays() {
    let private = rule("tcp", (22, 22), "10.0.0.0/8", "office");
    let rules = [rule("tcp", (22, 22), "0.0.0.0/0", "temporary"), private.clone()];
    assert_eq!(closed(&rules), [private]);
}

#[test]
fn defect_13_a_whole_range_loses_one_port_and_nothing_else() {
    let rules = [rule("tcp", (0, 65535), "0.0.0.0/0", "all in")];
    let left = [rule("tcp", (0, 21), "0.0.0.0/0", "all in"), rule("tcp", (23, 65535), "0.0.0.0/0", "all in")];
    assert_eq!(closed(&rules), left);
}

#[test]
fn a_rule_for_all_protocols_becomes_tcp_without_the_port_udp_and_icmp() {
    let rules = [rule("-1", None, "0.0.0.0/0", "x"), rule("-1", None, "::/0", "y"), rule("-1", None, "sg-2", "z")];
    let left = vec![
        rule("-1", None, "sg-2", "z"),
        rule("icmp", (-1, -1), "0.0.0.0/0", "x"),
        rule("icmpv6", (-1, -1), "::/0", "y"),
        rule("tcp", (0, 21), "0.0.0.0/0", "x"),
        rule("tcp", (0, 21), "::/0", "y"),
        rule("tcp", (23, 65535), "0.0.0.0/0", "x"),
        rule("tcp", (23, 65535), "::/0", "y"),
        rule("udp", (0, 65535), "0.0.0.0/0", "x"),
        rule("udp", (0, 65535), "::/0", "y"),
    ];
    assert_eq!(closed(&rules), sorted(left));
}

#[test]
fn a_remainder_that_is_there_already_is_not_authorised_again() {
    let rules = [rule("tcp", (0, 65535), "0.0.0.0/0", "a"), rule("tcp", (0, 21), "0.0.0.0/0", "mine")];
    let edit = close(&rules, &closed_ports(&[22]));
    assert_eq!(edit.authorize, [rule("tcp", (23, 65535), "0.0.0.0/0", "a")]);
    assert!(apply(&rules, &edit).contains(&rules[1]));
}

#[test]
fn a_protocol_by_number_and_a_permission_listed_twice_are_one_rule() {
    let given = json!({ "GroupId": "sg-1", "IpPermissions": [
        { "IpProtocol": "6", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] },
        { "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": "" }] },
    ] });
    let rules = rules(&Image { present: true, state: given }).unwrap();
    assert_eq!(close(&rules, &closed_ports(&[22])).revoke, [rule("tcp", (22, 22), "0.0.0.0/0", "")]);
}

#[test]
fn several_ports_are_cut_out_of_one_range() {
    let cut = |range, ports: &[i32]| cut_out(range, &closed_ports(ports).tcp);
    let three = [22, 23, 3389];
    assert_eq!(cut((0, 65535), &three), [(0, 21), (24, 3388), (3390, 65535)]);
    assert_eq!(cut((22, 23), &three), []);
    assert_eq!(cut((22, 24), &three), [(24, 24)]);
    assert_eq!(cut((0, 65535), &[0, 65535]), [(1, 65534)]);
    assert_eq!(cut_out((10, 20), &[(0, 12), (15, 30)]), [(13, 14)]);
}

#[test]
fn udp_on_the_port_another_port_and_a_narrow_source_are_compliant() {
    let rules = [
        rule("udp", (22, 22), "0.0.0.0/0", ""),
        rule("tcp", (443, 443), "0.0.0.0/0", ""),
        rule("tcp", (22, 22), "203.0.113.0/24", ""),
        rule("icmp", (-1, -1), "0.0.0.0/0", ""),
    ];
    assert_eq!(close(&rules, &closed_ports(&[22])), Edit::default());
}

#[test]
fn the_new_rules_are_authorised_before_the_old_ones_are_revoked() {
    let native = native(&FakeAws::default());
    let rules = [rule("tcp", (20, 30), "0.0.0.0/0", "x"), rule("tcp", (20, 30), "10.0.0.0/8", "y")];
    let state = State { group_id: "sg-1".to_owned(), ip_permissions: gather(&rules) };
    let now = Image { present: true, state: serde_json::to_value(state).unwrap() };
    insta::assert_json_snapshot!(native.plan(&now).unwrap(), @r#"
    [
      {
        "Service": "ec2",
        "Operation": "AuthorizeSecurityGroupIngress",
        "Parameters": {
          "GroupId": "sg-1",
          "IpPermissions": [
            {
              "IpProtocol": "tcp",
              "FromPort": 20,
              "ToPort": 21,
              "IpRanges": [
                {
                  "CidrIp": "0.0.0.0/0",
                  "Description": "x"
                }
              ]
            },
            {
              "IpProtocol": "tcp",
              "FromPort": 23,
              "ToPort": 30,
              "IpRanges": [
                {
                  "CidrIp": "0.0.0.0/0",
                  "Description": "x"
                }
              ]
            }
          ]
        }
      },
      {
        "Service": "ec2",
        "Operation": "RevokeSecurityGroupIngress",
        "Parameters": {
          "GroupId": "sg-1",
          "IpPermissions": [
            {
              "IpProtocol": "tcp",
              "FromPort": 20,
              "ToPort": 30,
              "IpRanges": [
                {
                  "CidrIp": "0.0.0.0/0"
                }
              ]
            }
          ]
        }
      }
    ]
    "#);
}

#[test]
fn a_changed_description_is_not_put_back_by_guessing() {
    let now = [rule("tcp", (1, 2), "10.0.0.0/8", "new")];
    let before = [rule("tcp", (1, 2), "10.0.0.0/8", "old")];
    assert!(matches!(put_back(&now, &before), Err(NativeError::Refused(_))));
}

#[test]
fn ports_are_taken_as_numbers_or_their_text_and_nothing_else() {
    let parse = |value: Value| Closed::parse(&[("Ports".to_owned(), value)].into());
    assert_eq!(parse(json!([3389, "22", 22])).unwrap(), closed_ports(&[22, 3389]));
    for wrong in [json!([]), json!(22), json!([70000]), json!([-1]), json!(["ssh"]), json!([22.5]), json!(null)] {
        assert!(parse(wrong.clone()).is_err(), "{wrong}");
    }
    assert!(Closed::parse(&Parameters::new()).is_err());
}

fn parsed(parameters: Value) -> Result<Closed, NativeError> {
    Closed::parse(&serde_json::from_value(parameters).unwrap())
}

#[test]
fn protocols_and_families_narrow_what_is_closed() {
    let both = parsed(json!({ "Ports": [22], "Protocols": ["tcp", "udp"], "Families": ["IPv6"] })).unwrap();
    assert_eq!(both, Closed { tcp: vec![(22, 22)], udp: vec![(22, 22)], ipv4: false, ipv6: true });
    let udp = rule("udp", (22, 22), "::/0", "");
    let rules = [udp.clone(), rule("tcp", (22, 22), "0.0.0.0/0", "")];
    assert_eq!(close(&rules, &both), Edit { authorize: vec![], revoke: vec![udp] });
    for wrong in [json!(["sctp"]), json!([]), json!("tcp")] {
        assert!(parsed(json!({ "Ports": [22], "Protocols": wrong })).is_err(), "{wrong}");
    }
    assert!(parsed(json!({ "Ports": [22], "Families": ["IPv5"] })).is_err());
}

#[test]
fn all_but_the_authorized_ports_are_closed_and_icmp_stays() {
    let closed = parsed(json!({ "AuthorizedTcpPorts": ["80", "443"] })).unwrap();
    let web = rule("tcp", (443, 443), "0.0.0.0/0", "web");
    let private = rule("-1", None, "10.0.0.0/8", "office");
    let ping = rule("icmp", (8, -1), "0.0.0.0/0", "ping");
    let rules = sorted(vec![web.clone(), private.clone(), ping.clone(), rule("udp", (53, 53), "::/0", "dns")]);
    assert_eq!(apply(&rules, &close(&rules, &closed)), sorted(vec![web, private, ping]));

    let all = [rule("-1", None, "0.0.0.0/0", "all")];
    let left = vec![
        rule("icmp", (-1, -1), "0.0.0.0/0", "all"),
        rule("tcp", (80, 80), "0.0.0.0/0", "all"),
        rule("tcp", (443, 443), "0.0.0.0/0", "all"),
    ];
    assert_eq!(apply(&all, &close(&all, &closed)), left);
}

fn native(aws: &FakeAws) -> OpenPort {
    let client = aws_sdk_ec2::Client::new(&aws.config());
    OpenPort::new(client, &job(GROUP), &[("Ports".to_owned(), json!([22]))].into()).unwrap()
}

#[tokio::test]
async fn the_answer_of_ec2_becomes_an_image_in_normal_form() {
    let aws = FakeAws::default();
    aws.answer(
        "DescribeSecurityGroups",
        200,
        r"<DescribeSecurityGroupsResponse><securityGroupInfo><item>
        <ownerId>111122223333</ownerId><groupId>sg-1</groupId><ipPermissions>
        <item><ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>22</toPort>
          <groups><item><userId>111122223333</userId><groupId>sg-2</groupId></item></groups>
          <ipRanges><item><cidrIp>10.0.0.0/8</cidrIp><description>office</description></item>
            <item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges>
          <ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges>
          <prefixListIds><item><prefixListId>pl-1</prefixListId></item></prefixListIds></item>
        <item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>10.1.0.0/16</cidrIp></item></ipRanges></item>
        </ipPermissions></item></securityGroupInfo></DescribeSecurityGroupsResponse>",
    );
    let image = native(&aws).inspect().await.unwrap().unwrap();
    assert_eq!(
        image.state,
        json!({ "GroupId": "sg-1", "IpPermissions": [
        { "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "10.1.0.0/16" }] },
        { "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
          "IpRanges": [{ "CidrIp": "0.0.0.0/0" }, { "CidrIp": "10.0.0.0/8", "Description": "office" }],
          "Ipv6Ranges": [{ "CidrIpv6": "::/0" }],
          "PrefixListIds": [{ "PrefixListId": "pl-1" }],
          "UserIdGroupPairs": [{ "UserId": "111122223333", "GroupId": "sg-2" }] },
    ] })
    );
}

#[tokio::test]
async fn a_group_that_is_gone_or_of_another_account_is_told_apart() {
    let aws = FakeAws::default();
    let gone = "<Response><Errors><Error><Code>InvalidGroup.NotFound</Code></Error></Errors></Response>";
    aws.answer("DescribeSecurityGroups", 400, gone);
    assert_eq!(native(&aws).inspect().await.unwrap(), None);
    aws.answer(
        "DescribeSecurityGroups",
        200,
        "<DescribeSecurityGroupsResponse><securityGroupInfo><item>\
        <ownerId>444455556666</ownerId></item></securityGroupInfo></DescribeSecurityGroupsResponse>",
    );
    assert!(matches!(native(&aws).inspect().await, Err(NativeError::Refused(_))));
}

#[tokio::test]
async fn defect_06_a_revoke_that_ec2_did_only_in_part_is_a_failure() {
    let aws = FakeAws::default();
    let image = |rules: &[Rule]| {
        let state = State { group_id: "sg-1".to_owned(), ip_permissions: gather(rules) };
        Image { present: true, state: serde_json::to_value(state).unwrap() }
    };
    let change = native(&aws).plan(&image(&[rule("tcp", (22, 22), "0.0.0.0/0", "")])).unwrap();
    aws.answer(
        "RevokeSecurityGroupIngress",
        200,
        "<RevokeSecurityGroupIngressResponse><return>true</return>\
        <unknownIpPermissionSet><item><ipProtocol>tcp</ipProtocol></item></unknownIpPermissionSet>\
        </RevokeSecurityGroupIngressResponse>",
    );
    let error = native(&aws).call(&change.0[0]).await.unwrap_err();
    assert!(error.to_string().contains("did not revoke all"), "{error}");
    aws.answer(
        "RevokeSecurityGroupIngress",
        200,
        "<RevokeSecurityGroupIngressResponse><return>true</return></RevokeSecurityGroupIngressResponse>",
    );
    native(&aws).call(&change.0[0]).await.unwrap();
    let sent = String::from_utf8(aws.seen().last().unwrap().body.clone()).unwrap();
    assert!(sent.contains("IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0%2F0"), "{sent}");
}

// ------------------------------------------------------------------------------------------- properties

const SOURCES: [&str; 6] = ["0.0.0.0/0", "::/0", "10.0.0.0/8", "fd00::/8", "pl-1", "sg-2"];
const EDGES: [i32; 12] = [0, 1, 20, 21, 22, 23, 24, 443, 3388, 3389, 3390, 65535];

fn any_rule() -> impl Strategy<Value = Rule> {
    let range = (prop::sample::select(&EDGES[..]), prop::sample::select(&EDGES[..]));
    let scope = (prop::sample::select(&["tcp", "tcp", "udp", "icmp", "-1"][..]), range);
    (scope, prop::sample::select(&SOURCES[..]), prop::sample::select(&["", "a", "b"][..])).prop_map(
        |((protocol, (one, other)), source, description)| match protocol {
            "-1" => rule("-1", None, source, description),
            "icmp" => rule("icmp", (-1, -1), source, description),
            _ => rule(protocol, (one.min(other), one.max(other)), source, description),
        },
    )
}

/// A group as EC2 can hold it: no rule twice.
fn any_group() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(any_rule(), 0..12).prop_map(|rules| {
        let mut group: Vec<Rule> = Vec::new();
        for rule in rules {
            if !group.iter().any(|known| known.is(&rule)) {
                group.push(rule);
            }
        }
        sorted(group)
    })
}

fn any_ports() -> impl Strategy<Value = Vec<(i32, i32)>> {
    let ports = prop::sample::subsequence(vec![0, 22, 23, 3389, 65535], 0..=3);
    let ranges = ports.prop_map(|ports| ports.into_iter().map(|port| (port, port)).collect());
    prop_oneof![ranges, Just(vec![(0, 21), (24, 65535)])]
}

fn any_closed() -> impl Strategy<Value = Closed> {
    let parts = (any_ports(), any_ports(), any::<bool>(), any::<bool>());
    parts.prop_map(|(tcp, udp, ipv4, ipv6)| Closed { tcp, udp, ipv4, ipv6 })
}

impl Closed {
    /// Said anew, for the properties.
    fn shuts(&self, protocol: &str, port: i32, source: &Source) -> bool {
        let ranges = match protocol {
            "tcp" => &self.tcp,
            "udp" => &self.udp,
            _ => return false,
        };
        let family = match source {
            Source::Ipv4(cidr) => self.ipv4 && cidr == "0.0.0.0/0",
            Source::Ipv6(cidr) => self.ipv6 && cidr == "::/0",
            _ => false,
        };
        family && ranges.iter().any(|(from, to)| (*from..=*to).contains(&port))
    }
}

/// What reaches the group: protocol, port and source, at every port where a rule can begin or end.
/// A source of one address family sends no ICMP of the other.
fn reach(rules: &[Rule]) -> BTreeSet<(&'static str, i32, Source)> {
    let mut found = BTreeSet::new();
    for rule in rules {
        let all = rule.scope.protocol == "-1";
        for port in EDGES {
            if rule.scope.ports("tcp").is_some_and(|(from, to)| (from..=to).contains(&port)) {
                found.insert(("tcp", port, rule.source.clone()));
            }
            let udp =
                rule.scope.protocol == "udp" && (rule.scope.from.unwrap()..=rule.scope.to.unwrap()).contains(&port);
            if all || udp {
                found.insert(("udp", port, rule.source.clone()));
            }
        }
        let v6 = matches!(rule.source, Source::Ipv6(_));
        if rule.scope.protocol == "icmp" || (all && !v6) {
            found.insert(("icmp", -1, rule.source.clone()));
        }
        if rule.scope.protocol == "icmpv6" || (all && v6) {
            found.insert(("icmpv6", -1, rule.source.clone()));
        }
    }
    found
}

proptest! {
    #[test]
    fn afterwards_no_open_source_reaches_a_closed_port(group in any_group(), what in any_closed()) {
        let after = apply(&group, &close(&group, &what));
        for (protocol, port, source) in reach(&after) {
            prop_assert!(!what.shuts(protocol, port, &source), "{protocol} {port} {source:?}");
        }
        prop_assert_eq!(close(&after, &what), Edit::default());
    }

    #[test]
    fn everything_else_still_reaches_it_and_nothing_new_does(group in any_group(), what in any_closed()) {
        let after = apply(&group, &close(&group, &what));
        let expected: BTreeSet<_> = reach(&group)
            .into_iter()
            .filter(|(protocol, port, source)| !what.shuts(protocol, *port, source))
            .collect();
        prop_assert_eq!(reach(&after), expected);
    }

    #[test]
    fn rules_that_do_not_open_the_port_stay_word_for_word(group in any_group(), what in any_closed()) {
        let after = apply(&group, &close(&group, &what));
        for rule in &group {
            let opens = reach(std::slice::from_ref(rule)).iter().any(|(protocol, port, source)| {
                what.shuts(protocol, *port, source)
            });
            prop_assert_eq!(after.contains(rule), !opens, "{:?}", rule);
        }
    }

    #[test]
    fn a_new_rule_has_source_and_description_of_one_that_it_replaces(group in any_group(), what in any_closed()) {
        let edit = close(&group, &what);
        for new in &edit.authorize {
            let heir = edit.revoke.iter().any(|old| {
                let original = group.iter().find(|rule| rule.is(old)).unwrap();
                original.source == new.source && original.description == new.description
            });
            prop_assert!(heir, "{new:?}");
        }
    }

    #[test]
    fn the_undo_gives_back_the_original_rules(group in any_group(), what in any_closed()) {
        let after = apply(&group, &close(&group, &what));
        let undone = apply(&after, &put_back(&after, &group).unwrap());
        prop_assert_eq!(undone, group);
    }

    #[test]
    fn the_wire_form_loses_nothing(group in any_group()) {
        let wire = serde_json::to_string(&gather(&group)).unwrap();
        let back: Vec<Permission> = serde_json::from_str(&wire).unwrap();
        prop_assert_eq!(&flatten(back.clone()), &group);
        let sdk: Vec<types::IpPermission> = back.into_iter().map(Into::into).collect();
        prop_assert_eq!(flatten(sdk.iter().map(Permission::from)), group);
    }
}
