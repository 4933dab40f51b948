//! A threat list, and what on it an address, a network, a domain or a hash matches. Pure and total.
//!
//! Text lines `type,value,source,expires`, or a JSON list of objects with these members; the types are `ip`, `cidr`,
//! `domain` and `hash`. A line that is none of it is counted and otherwise ignored, as is one that would match half of
//! the internet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

/// No more entries are kept.
const MAX_ENTRIES: usize = 50_000;
/// No more matches are told.
const MAX_MATCHES: usize = 50;
/// Of a source's name.
const MAX_SOURCE: usize = 80;
/// Where IPv4 lies in IPv6 (`::ffff:0:0/96`): both are one space here.
const MAPPED: u8 = 96;
/// A listed network is no wider; nor is one that is looked up, for it would be open to everybody anyway.
const WIDEST_V4: u8 = MAPPED + 8;
const WIDEST_V6: u8 = 16;

/// What a list says of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    source: String,
    expires: Option<Timestamp>,
}

/// A threat list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    /// By first address and length.
    networks: BTreeMap<Network, Note>,
    lengths: BTreeSet<u8>,
    /// Domains and hashes.
    names: HashMap<String, Note>,
    /// Lines that could not be read.
    pub(super) malformed: usize,
    /// Lines beyond [`MAX_ENTRIES`].
    pub(super) dropped: usize,
}

/// A range of addresses, in the one space of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Network {
    first: u128,
    length: u8,
}

impl Network {
    fn of(first: u128, length: u8) -> Self {
        Self { first: first & Self::mask(length), length }
    }

    fn mask(length: u8) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
    }

    fn last(self) -> u128 {
        self.first | !Self::mask(self.length)
    }

    /// An address, or one with a length.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let (bits, zero) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => (u128::from(address.to_ipv6_mapped()), MAPPED),
            IpAddr::V6(address) => (u128::from(address), 0),
        };
        let length = match length {
            None => 128,
            Some(length) => length.parse::<u8>().ok()?.checked_add(zero).filter(|length| *length <= 128)?,
        };
        Some(Self::of(bits, length))
    }

    /// Not so wide that a match would say nothing.
    fn is_telling(self) -> bool {
        let mapped = Self::of(0xffff_0000_0000, MAPPED);
        if self.first & Self::mask(MAPPED) == mapped.first && self.length >= MAPPED {
            return self.length >= WIDEST_V4;
        }
        // One that reaches into IPv4 from outside holds the whole of it.
        let holds_v4 = mapped.first & Self::mask(self.length) == self.first && self.length <= MAPPED;
        self.length >= WIDEST_V6 && !holds_v4
    }
}

/// A line, or an object of the JSON form.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    value: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    expires: Option<String>,
}

impl List {
    /// From the text of a list, in either form.
    pub(super) fn parse(text: &str) -> Self {
        let mut list = Self::default();
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.starts_with(['[', '{']) {
            match serde_json::from_str::<Value>(text) {
                Ok(Value::Array(lines)) => list.extend(lines.into_iter().map(object)),
                Ok(Value::Object(mut whole)) => match whole.remove("entries") {
                    Some(Value::Array(lines)) => list.extend(lines.into_iter().map(object)),
                    _ => list.malformed += 1,
                },
                _ => list.malformed += 1,
            }
        } else {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            list.extend(lines.filter(|line| !line.eq_ignore_ascii_case("type,value,source,expires")).map(columns));
        }
        list
    }

    fn extend(&mut self, lines: impl Iterator<Item = Option<Line>>) {
        for line in lines {
            if self.networks.len() + self.names.len() >= MAX_ENTRIES {
                self.dropped += 1;
            } else if line.and_then(|line| self.take(line)).is_none() {
                self.malformed += 1;
            }
        }
    }

    fn take(&mut self, line: Line) -> Option<()> {
        let value = line.value.trim();
        let expires = match line.expires.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => Some(time(text)?),
            None => None,
        };
        let source = line.source.trim().chars().filter(|c| !c.is_control()).take(MAX_SOURCE).collect();
        let note = Note { source, expires };
        match line.kind.trim().to_ascii_lowercase().as_str() {
            "ip" | "ipv4" | "ipv6" | "cidr" => {
                let network = Network::parse(value).filter(|network| network.is_telling())?;
                self.lengths.insert(network.length);
                longest(self.networks.entry(network).or_insert_with(|| note.clone()), note);
            }
            kind @ ("domain" | "hash" | "md5" | "sha1" | "sha256") => {
                let name = if kind == "domain" { domain(value)? } else { hash(value)? };
                longest(self.names.entry(name).or_insert_with(|| note.clone()), note);
            }
            _ => return None,
        }
        Some(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.names.is_empty()
    }

    /// What the list says of these indicators, each entry that matches once: `value (source): indicator`.
    pub(super) fn matches<'a>(&self, indicators: impl IntoIterator<Item = &'a str>, now: Timestamp) -> Vec<String> {
        let mut found = BTreeSet::new();
        for indicator in indicators {
            let indicator = indicator.trim();
            match Network::parse(indicator) {
                Some(network) => {
                    for (listed, note) in self.overlapping(network) {
                        say(&mut found, &shown(listed), note, indicator, now);
                    }
                }
                None => {
                    for (listed, note) in self.named(indicator) {
                        say(&mut found, listed, note, indicator, now);
                    }
                }
            }
            if found.len() >= MAX_MATCHES {
                break;
            }
        }
        found.into_iter().take(MAX_MATCHES).collect()
    }

    /// Listed networks that hold `network`, or that it holds.
    fn overlapping(&self, network: Network) -> impl Iterator<Item = (Network, &Note)> {
        let wider = self.lengths.range(..=network.length).map(move |length| Network::of(network.first, *length));
        let wider = wider.filter_map(|listed| self.networks.get(&listed).map(|note| (listed, note)));
        let bounds = network..=Network { first: network.last(), length: 128 };
        let narrower = network.is_telling().then(|| self.networks.range(bounds)).into_iter().flatten();
        let narrower = narrower.map(|(listed, note)| (*listed, note)).filter(move |(listed, _)| *listed != network);
        wider.chain(narrower.filter(move |(listed, _)| listed.length > network.length).take(MAX_MATCHES))
    }

    /// The hash; or the domain and its parents.
    fn named(&self, indicator: &str) -> Vec<(&str, &Note)> {
        let Some(name) = hash(indicator).or_else(|| domain(indicator)) else { return Vec::new() };
        let parents = std::iter::successors(Some(name.as_str()), |name| name.split_once('.').map(|(_, parent)| parent));
        parents.filter_map(|name| self.names.get_key_value(name)).map(|(name, note)| (name.as_str(), note)).collect()
    }
}

fn say(found: &mut BTreeSet<String>, listed: &str, note: &Note, indicator: &str, now: Timestamp) {
    if note.expires.is_none_or(|expires| now < expires) {
        let source = if note.source.is_empty() { "the threat list" } else { &note.source };
        found.insert(format!("{listed} ({source}): {indicator}"));
    }
}

/// Of two entries for one value, the one that holds longer.
fn longest(kept: &mut Note, new: Note) {
    let longer = match (kept.expires, new.expires) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(kept), Some(new)) => new > kept,
    };
    if longer {
        *kept = new;
    }
}

fn object(value: Value) -> Option<Line> {
    serde_json::from_value(value).ok()
}

fn columns(line: &str) -> Option<Line> {
    let mut columns = line.split(',').map(str::to_owned);
    let line = Line {
        kind: columns.next()?,
        value: columns.next()?,
        source: columns.next().unwrap_or_default(),
        expires: columns.next(),
    };
    columns.next().is_none().then_some(line)
}

/// A time in RFC 3339, or the end of a day in UTC.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let day: Date = text.parse().ok()?;
        day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok().map(|end| end.timestamp())
    })
}

/// A domain name of two labels or more, in lower case: one label would match everything under it.
fn domain(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    let name = name.strip_prefix("*.").map(str::to_owned).unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
    };
    (name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)).then_some(name)
}

/// An MD5, SHA-1, SHA-256 or SHA-512, in lower case.
fn hash(text: &str) -> Option<String> {
    let is_hash = matches!(text.len(), 32 | 40 | 64 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_ascii_lowercase())
}

fn shown(network: Network) -> String {
    let address = std::net::Ipv6Addr::from(network.first);
    match address.to_ipv4_mapped().filter(|_| network.length >= MAPPED) {
        Some(address) if network.length == 128 => address.to_string(),
        Some(address) => format!("{address}/{}", network.length - MAPPED),
        None if network.length == 128 => address.to_string(),
        None => format!("{address}/{}", network.length),
    }
}

#[cfg(test)]
#[path = "threat_tests.rs"]
mod tests;
