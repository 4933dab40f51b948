#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const LIST: &str = "\u{feff}# our own
type,value,source,expires
cidr,203.0.113.0/24,feed-a,
ip, 198.51.100.7 ,feed-b,2026-03-01
cidr,2001:db8:bad::/48,feed-a,2026-03-01T12:00:00Z
domain,Evil.Example.,feed-c,

domain,*.worse.example.net,feed-c,
hash,D41D8CD98F00B204E9800998ECF8427E,feed-d,
";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hits(indicators: &[&str]) -> Vec<String> {
    List::parse(LIST).matches(indicators.iter().copied(), at("2026-03-01T00:00:00Z"))
}

#[test]
fn an_address_is_found_in_a_listed_network() {
    assert_eq!(hits(&["203.0.113.9"]), ["203.0.113.0/24 (feed-a): 203.0.113.9"]);
    assert_eq!(hits(&["::ffff:203.0.113.9"]), ["203.0.113.0/24 (feed-a): ::ffff:203.0.113.9"]);
    assert_eq!(hits(&["2001:db8:bad:1::1"]), ["2001:db8:bad::/48 (feed-a): 2001:db8:bad:1::1"]);
    assert_eq!(hits(&["203.0.114.9", "10.0.0.1", "2001:db8::1"]), Vec::<String>::new());
}

#[test]
fn a_network_that_holds_a_listed_address_matches_unless_it_is_open_to_everybody() {
    assert_eq!(hits(&["198.51.100.0/24"]), ["198.51.100.7 (feed-b): 198.51.100.0/24"]);
    assert_eq!(hits(&["203.0.113.128/25"]), ["203.0.113.0/24 (feed-a): 203.0.113.128/25"]);
    assert_eq!(hits(&["0.0.0.0/0", "::/0", "128.0.0.0/1"]), Vec::<String>::new());
}

#[test]
fn a_domain_is_found_by_itself_and_under_its_parent_and_no_other() {
    assert_eq!(hits(&["EVIL.example"]), ["evil.example (feed-c): EVIL.example"]);
    assert_eq!(hits(&["a.b.evil.example."]), ["evil.example (feed-c): a.b.evil.example."]);
    assert_eq!(hits(&["cdn.worse.example.net"]), ["worse.example.net (feed-c): cdn.worse.example.net"]);
    assert_eq!(hits(&["notevil.example", "example", "evil.example.org", "example.net"]), Vec::<String>::new());
}

#[test]
fn a_hash_is_found_in_either_case() {
    let hash = "d41d8cd98f00b204e9800998ecf8427e";
    assert_eq!(hits(&[hash]), [format!("{hash} (feed-d): {hash}")]);
}

#[test]
fn an_entry_holds_until_it_expires() {
    let list = List::parse(LIST);
    let count = |now: &str| list.matches(["198.51.100.7", "2001:db8:bad::1"], at(now)).len();
    assert_eq!(count("2026-03-01T11:59:59Z"), 2);
    assert_eq!(count("2026-03-01T12:00:00Z"), 1, "to the second");
    assert_eq!(count("2026-03-01T23:59:59Z"), 1, "a day ends at midnight in UTC");
    assert_eq!(count("2026-03-02T00:00:00Z"), 0);
    let twice = List::parse("ip,192.0.2.1,old,2020-01-01\nip,192.0.2.1,new,\nip,192.0.2.1,older,2019-01-01");
    assert_eq!(twice.matches(["192.0.2.1"], at("2026-03-01T00:00:00Z")), ["192.0.2.1 (new): 192.0.2.1"]);
}

#[test]
fn a_list_in_json_says_the_same() {
    let json = r#"{ "entries": [
        { "type": "cidr", "value": "203.0.113.0/24", "source": "feed-a" },
        { "type": "domain", "value": "evil.example", "expires": "2030-01-01", "more": 1 },
        { "type": "domain" }, 7, { "type": "colour", "value": "red" } ] }"#;
    let list = List::parse(json);
    assert_eq!(list.malformed, 3);
    let found = list.matches(["203.0.113.1", "www.evil.example"], at("2026-03-01T00:00:00Z"));
    assert_eq!(found, ["203.0.113.0/24 (feed-a): 203.0.113.1", "evil.example (the threat list): www.evil.example"]);
}

#[test]
fn malformed_lines_are_counted_and_the_others_hold() {
    let list = List::parse(
        "ip,300.1.1.1,x,\ncidr,10.0.0.0/33,x,\ncidr,0.0.0.0/0,x,\ncidr,::/0,x,\ncidr,::ffff:0:0/90,x,\ncidr,128.0.0.0/7,x,\n\
         domain,com,x,\ndomain,a..b,x,\nhash,abc,x,\nip,1.2.3.4,x,someday\nip,1.2.3.4,x,,extra\nnonsense\nip,192.0.2.9,x,",
    );
    assert_eq!(list.malformed, 12, "{list:?}");
    assert_eq!(list.matches(["192.0.2.9"], at("2026-03-01T00:00:00Z")).len(), 1);
    for broken in ["[", "{\"entries\": 1}", "{}"] {
        assert_eq!(List::parse(broken).malformed, 1, "{broken}");
    }
    assert_eq!(List::parse(" \n"), List::default());
}

#[test]
fn a_list_without_end_is_cut_and_says_so() {
    let text: String = (0..MAX_ENTRIES + 5).map(|n| format!("domain,d{n}.example,x,\n")).collect();
    assert_eq!(List::parse(&text).dropped, 5);
    let all: Vec<String> = (0..200).map(|n| format!("d{n}.example")).collect();
    let found = List::parse(&text).matches(all.iter().map(String::as_str), at("2026-03-01T00:00:00Z"));
    assert_eq!(found.len(), MAX_MATCHES);
}

/// Networks close to each other, so that they meet.
fn network() -> impl Strategy<Value = String> {
    let v4 =
        (0u32..4096, 16u8..=32).prop_map(|(low, length)| format!("{}/{length}", Ipv4Addr::from(0x0a00_0000 + low)));
    let v6 = (0u128..4096, 112u8..=128)
        .prop_map(|(low, length)| format!("{}/{length}", Ipv6Addr::from((0x2001_0db8 << 96) + low)));
    prop_oneof![v4, v6]
}

fn naive(listed: Network, asked: Network) -> bool {
    (listed.first <= asked.first && asked.last() <= listed.last())
        || (asked.first <= listed.first && listed.last() <= asked.last())
}

proptest! {
    #[test]
    fn the_lookup_finds_what_comparing_with_every_entry_finds(
        listed in prop::collection::vec(network(), 0..40), asked in network(),
    ) {
        let text: String = listed.iter().map(|network| format!("cidr,{network},x,\n")).collect();
        let list = List::parse(&text);
        prop_assert_eq!(list.malformed, 0);
        let wanted: BTreeSet<Network> = listed.iter().map(|text| Network::parse(text).unwrap())
            .filter(|network| naive(*network, Network::parse(&asked).unwrap())).collect();
        let found: BTreeSet<Network> = list.overlapping(Network::parse(&asked).unwrap()).map(|(network, _)| network).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn a_shown_network_reads_as_itself(text in network()) {
        let network = Network::parse(&text).unwrap();
        prop_assert_eq!(Network::parse(&shown(network)), Some(network));
    }

    #[test]
    fn a_domain_matches_itself_and_its_children_only(
        parent in "[a-c]{1,2}\\.[a-c]{1,2}", asked in "[a-c]{1,2}(\\.[a-c]{1,2}){1,3}",
    ) {
        let list = List::parse(&format!("domain,{parent},x,"));
        let wanted = asked == parent || asked.ends_with(&format!(".{parent}"));
        prop_assert_eq!(!list.matches([asked.as_str()], Timestamp::UNIX_EPOCH).is_empty(), wanted);
    }

    #[test]
    fn any_text_is_a_list_and_any_text_may_be_looked_up(text in ".{0,200}", indicator in ".{0,60}") {
        let list = List::parse(&text);
        list.matches([indicator.as_str()], Timestamp::UNIX_EPOCH);
        List::parse(LIST).matches([indicator.as_str()], Timestamp::UNIX_EPOCH);
    }
}
