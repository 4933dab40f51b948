//! What a finding says of the other side: addresses, domains and file hashes that a threat list may know.
//!
//! Reporters nest them in a dozen ways that end in the same few names, so the names are looked for, not the ways.
//! Total and bounded: what is not such a text is passed over, never an error.

use std::collections::BTreeSet;

use serde_json::Value;

/// A finding carries no more.
const MAX_COUNT: usize = 100;
/// No domain name is longer, in bytes, and no address or hash.
const MAX_LENGTH: usize = 255;
/// No reporter nests deeper.
const MAX_DEPTH: usize = 16;

/// Names, in lower case, whose texts are indicators.
const NAMES: [&str; 14] = [
    "destinationdomain",
    "destinationipv4",
    "destinationipv6",
    "domain",
    "executablesha256",
    "filesha256",
    "hash",
    "ipaddressv4",
    "ipaddressv6",
    "sha256",
    "sourcedomain",
    "sourceipv4",
    "sourceipv6",
    "value",
];
/// Names, in lower case, of what speaks of our own side.
const OURS: &str = "localipdetails";

/// The indicators anywhere in these parts of a finding, each once.
pub(super) fn collect<'a>(parts: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for part in parts {
        walk(part, false, 0, &mut found);
    }
    found.into_iter().collect()
}

fn walk(value: &Value, named: bool, depth: usize, found: &mut BTreeSet<String>) {
    if depth > MAX_DEPTH || found.len() >= MAX_COUNT {
        return;
    }
    match value {
        Value::String(text) if named && is_one(text) => {
            found.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, named, depth + 1, found)),
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.to_ascii_lowercase();
                if name != OURS {
                    walk(value, NAMES.contains(&name.as_str()), depth + 1, found);
                }
            }
        }
        _ => {}
    }
}

/// No other text is one: not a path, not a sentence.
fn is_one(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_other_sides_addresses_domains_and_hashes_are_found_and_ours_are_not() {
        let service = json!({
            "action": {
                "networkConnectionAction": {
                    "localIpDetails": { "ipAddressV4": "10.0.0.4" },
                    "remoteIpDetails": { "ipAddressV4": "198.51.100.7", "country": { "countryName": "Nowhere" } },
                },
                "dnsRequestAction": { "domain": "bad.example.net", "protocol": "UDP" },
                "portProbeAction": { "portProbeDetails": [
                    { "remoteIpDetails": { "ipAddressV4": "203.0.113.9" } }, { "remoteIpDetails": { "ipAddressV6": "2001:db8::7" } },
                ] },
            },
            "threatIntelIndicators": [{ "type": "DOMAIN", "value": "worse.example.org" }],
            "runtimeDetails": { "process": { "executableSha256": "ab12" } },
        });
        assert_eq!(
            collect([&service]),
            ["198.51.100.7", "2001:db8::7", "203.0.113.9", "ab12", "bad.example.net", "worse.example.org"]
        );
    }

    #[test]
    fn what_is_no_indicator_is_passed_over_and_hostile_sizes_are_cut() {
        assert_eq!(collect([&json!({ "domain": ["", "a b", 7, null, "x/y", "a".repeat(256)] })]), Vec::<String>::new());
        let many: Vec<String> = (0..1_000).map(|n| format!("{n}.example")).collect();
        assert_eq!(collect([&json!({ "domain": many })]).len(), MAX_COUNT);
        let deep = (0..100).fold(json!({ "domain": "deep.example" }), |inner, _| json!({ "a": inner }));
        assert_eq!(collect([&deep]), Vec::<String>::new());
    }
}
