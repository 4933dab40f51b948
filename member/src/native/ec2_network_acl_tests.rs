#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{FakeAws, job};

const ACL: &str = "arn:aws:ec2:eu-central-1:111122223333:network-acl/acl-1";
const CLOSED: [Range; 2] = [(22, 22), (3389, 3389)];

fn entry(number: i32, action: &str, protocol: &str, range: impl Into<Option<Range>>, cidr: &str) -> Entry {
    let v6 = cidr.contains(':');
    Entry {
        rule_number: number,
        egress: false,
        protocol: protocol.to_owned(),
        rule_action: action.to_owned(),
        cidr_block: (!v6).then(|| cidr.to_owned()),
        ipv6_cidr_block: v6.then(|| cidr.to_owned()),
        port_range: range.into().map(|(from, to)| PortRange { from, to }),
        icmp_type_code: matches!(protocol, "1" | "58").then_some(Icmp { code: -1, r#type: -1 }),
    }
}

/// EC2, as far as it matters: refuses a number that is taken, and one that is not there.
fn apply(entries: &[Entry], edits: &[Edit]) -> Vec<Entry> {
    let mut entries: BTreeMap<i32, Entry> = entries.iter().map(|entry| (entry.rule_number, entry.clone())).collect();
    for edit in edits {
        match edit {
            Edit::Create(entry) => assert!(entries.insert(entry.rule_number, entry.clone()).is_none(), "taken"),
            Edit::Replace(entry) => assert!(entries.insert(entry.rule_number, entry.clone()).is_some(), "not there"),
            Edit::Delete(number) => assert!(entries.remove(number).is_some(), "not there"),
        }
    }
    entries.into_values().collect()
}

#[test]
fn a_range_is_split_around_the_ports_where_it_stands() {
    let entries = vec![entry(100, "allow", "6", (0, 65535), "0.0.0.0/0"), entry(110, "deny", "-1", None, "0.0.0.0/0")];
    let edits = close(entries, &CLOSED).unwrap();
    let piece = |number, range| entry(number, "allow", "6", range, "0.0.0.0/0");
    assert_eq!(
        edits,
        [
            Edit::Create(piece(101, (23, 3388))),
            Edit::Create(piece(102, (3390, 65535))),
            Edit::Replace(piece(100, (0, 21))),
        ]
    );
}

#[test]
fn an_entry_for_the_port_alone_is_deleted() {
    let entries = vec![entry(7, "allow", "6", (22, 22), "::/0")];
    assert_eq!(close(entries, &CLOSED).unwrap(), [Edit::Delete(7)]);
}

#[test]
fn an_entry_for_all_protocols_keeps_udp_and_icmp() {
    let entries = vec![entry(100, "allow", "-1", None, "::/0")];
    let after = apply(&entries, &close(entries.clone(), &[(22, 22)]).unwrap());
    let left = [
        entry(100, "allow", "6", (0, 21), "::/0"),
        entry(101, "allow", "6", (23, 65535), "::/0"),
        entry(102, "allow", "17", (0, 65535), "::/0"),
        entry(103, "allow", "58", None, "::/0"),
    ];
    assert_eq!(after, left);
}

#[test]
fn a_later_entry_that_opens_the_port_again_is_taken_apart_too() {
    let entries = vec![entry(1, "allow", "6", (22, 22), "0.0.0.0/0"), entry(9, "allow", "6", (20, 30), "0.0.0.0/0")];
    let after = apply(&entries, &close(entries.clone(), &CLOSED).unwrap());
    assert!(after.iter().all(|entry| !entry.opens(&CLOSED)), "{after:?}");
    assert_eq!(after.len(), 2);
}

#[test]
fn numbers_below_are_taken_when_those_above_are_not_free_and_without_any_it_is_refused() {
    let wide = entry(100, "allow", "6", (0, 65535), "0.0.0.0/0");
    let next = entry(101, "allow", "6", (443, 443), "10.0.0.0/8");
    let numbers: Vec<i32> =
        apply(&[wide.clone(), next.clone()], &close(vec![wide.clone(), next.clone()], &CLOSED).unwrap())
            .iter()
            .map(|entry| entry.rule_number)
            .collect();
    assert_eq!(numbers, [98, 99, 100, 101]);
    let before = entry(98, "deny", "6", (1, 1), "10.0.0.0/8");
    assert!(matches!(close(vec![before, wide, next], &CLOSED), Err(NativeError::Refused(_))));
}

#[test]
fn a_deny_another_port_udp_and_a_narrow_source_are_compliant() {
    let entries = vec![
        entry(1, "deny", "-1", None, "0.0.0.0/0"),
        entry(2, "allow", "17", (0, 65535), "0.0.0.0/0"),
        entry(3, "allow", "6", (443, 443), "0.0.0.0/0"),
        entry(4, "allow", "-1", None, "10.0.0.0/8"),
    ];
    assert_eq!(close(entries, &CLOSED).unwrap(), []);
}

#[tokio::test]
async fn the_answer_of_ec2_becomes_the_ingress_entries_in_order() {
    let aws = FakeAws::default();
    aws.answer(
        "DescribeNetworkAcls",
        200,
        r"<DescribeNetworkAclsResponse><networkAclSet><item><networkAclId>acl-1</networkAclId>
        <ownerId>111122223333</ownerId><entrySet>
        <item><ruleNumber>32767</ruleNumber><protocol>-1</protocol><ruleAction>deny</ruleAction><egress>false</egress>
          <cidrBlock>0.0.0.0/0</cidrBlock></item>
        <item><ruleNumber>200</ruleNumber><protocol>1</protocol><ruleAction>allow</ruleAction><egress>false</egress>
          <ipv6CidrBlock>::/0</ipv6CidrBlock><icmpTypeCode><code>0</code><type>8</type></icmpTypeCode></item>
        <item><ruleNumber>100</ruleNumber><protocol>-1</protocol><ruleAction>allow</ruleAction><egress>true</egress>
          <cidrBlock>0.0.0.0/0</cidrBlock></item>
        <item><ruleNumber>100</ruleNumber><protocol>6</protocol><ruleAction>allow</ruleAction><egress>false</egress>
          <cidrBlock>0.0.0.0/0</cidrBlock><portRange><from>22</from><to>22</to></portRange></item>
        </entrySet></item></networkAclSet></DescribeNetworkAclsResponse>",
    );
    let parameters = [("Ports".to_owned(), json!([22, 3389]))].into();
    let native = NetworkAcl::new(aws_sdk_ec2::Client::new(&aws.config()), &job(ACL), &parameters).unwrap();
    let image = native.inspect().await.unwrap().unwrap();
    assert_eq!(
        image.state,
        json!({ "NetworkAclId": "acl-1", "Entries": [
            { "RuleNumber": 100, "Egress": false, "Protocol": "6", "RuleAction": "allow", "CidrBlock": "0.0.0.0/0",
              "PortRange": { "From": 22, "To": 22 } },
            { "RuleNumber": 200, "Egress": false, "Protocol": "1", "RuleAction": "allow", "Ipv6CidrBlock": "::/0",
              "IcmpTypeCode": { "Code": 0, "Type": 8 } },
        ] })
    );
    let calls = native.plan(&image).unwrap().0;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].parameters, json!({ "NetworkAclId": "acl-1", "RuleNumber": 100, "Egress": false }));
}

// ------------------------------------------------------------------------------------------- properties

const SOURCES: [&str; 4] = ["0.0.0.0/0", "10.0.0.0/8", "::/0", "fd00::/8"];
const EDGES: [i32; 10] = [0, 1, 21, 22, 23, 443, 3388, 3389, 3390, 65535];

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let range = (prop::sample::select(&EDGES[..]), prop::sample::select(&EDGES[..]));
    let parts = (
        prop::sample::select(&["allow", "allow", "deny"][..]),
        prop::sample::select(&["6", "6", "17", "-1"][..]),
        range,
        prop::sample::select(&SOURCES[..]),
    );
    prop::collection::vec(parts, 0..8).prop_map(|parts| {
        let entry = |(at, (action, protocol, (one, other), cidr)): (usize, (&str, &str, Range, &str))| {
            let range = (protocol != "-1").then_some((one.min(other), one.max(other)));
            entry(100 + 10 * i32::try_from(at).unwrap(), action, protocol, range, cidr)
        };
        parts.into_iter().enumerate().map(entry).collect()
    })
}

/// Whether a packet is let in: from an address that only the open block holds, or that a narrow one holds too.
fn lets_in(entries: &[Entry], protocol: &str, port: i32, from: &[&str], skip: impl Fn(&Entry) -> bool) -> bool {
    let fits = |entry: &&Entry| {
        let cidr = entry.cidr_block.as_deref().or(entry.ipv6_cidr_block.as_deref()).unwrap();
        let ports = entry.port_range.as_ref().is_none_or(|range| (range.from..=range.to).contains(&port));
        from.contains(&cidr) && (entry.protocol == "-1" || (entry.protocol == protocol && ports))
    };
    entries.iter().filter(|entry| !skip(entry)).find(fits).is_some_and(|entry| entry.rule_action == "allow")
}

const PLACES: [&[&str]; 4] = [&["0.0.0.0/0"], &["0.0.0.0/0", "10.0.0.0/8"], &["::/0"], &["::/0", "fd00::/8"]];

proptest! {
    #[test]
    fn a_packet_to_a_closed_port_goes_past_the_open_entries_and_every_other_meets_the_same_decision(
        entries in any_entries(),
    ) {
        let after = apply(&entries, &close(entries.clone(), &CLOSED).unwrap());
        for from in PLACES {
            for port in EDGES {
                let closed = port == 22 || port == 3389;
                let passed = |entry: &Entry| closed && entry.rule_action == "allow" && entry.is_open();
                prop_assert_eq!(
                    lets_in(&after, "6", port, from, |_| false),
                    lets_in(&entries, "6", port, from, passed),
                    "tcp {} from {:?}", port, from
                );
                prop_assert_eq!(
                    lets_in(&after, "17", port, from, |_| false),
                    lets_in(&entries, "17", port, from, |_| false),
                    "udp {} from {:?}", port, from
                );
            }
            let icmp = if from[0].contains(':') { "58" } else { "1" };
            prop_assert_eq!(lets_in(&after, icmp, 0, from, |_| false), lets_in(&entries, icmp, 0, from, |_| false));
        }
    }

    #[test]
    fn entries_that_do_not_open_the_port_stay_word_for_word(entries in any_entries()) {
        let after = apply(&entries, &close(entries.clone(), &CLOSED).unwrap());
        for entry in entries.iter().filter(|entry| !entry.opens(&CLOSED)) {
            prop_assert!(after.contains(entry), "{:?}", entry);
        }
        prop_assert_eq!(close(after, &CLOSED).unwrap(), vec![]);
    }

    #[test]
    fn the_undo_gives_back_the_original_entries(entries in any_entries()) {
        let after = apply(&entries, &close(entries.clone(), &CLOSED).unwrap());
        prop_assert_eq!(apply(&after, &put_back(&after, &entries)), entries);
    }
}
