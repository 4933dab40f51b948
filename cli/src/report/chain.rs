//! Whether the records that a report is made from are those that were written: every hash, every link, every end.
//!
//! Of each record only its place, its hash and its predecessor's are kept, and they may come in any order.

use std::collections::BTreeMap;

use redress_common::ids::AccountId;
use redress_common::ledger::{Head, Record};
use serde::Serialize;

/// What is kept of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    seq: u64,
    hash: Digest,
    prev: Digest,
}

/// A SHA-256; of what is none, nothing.
type Digest = Option<[u8; 32]>;

fn digest(text: &str) -> Digest {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes?.try_into().ok()
}

/// The chains of all accounts, as far as their records were seen.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    links: BTreeMap<AccountId, Vec<Link>>,
    /// The smallest `Seq` of each chain whose record is not what its hash says.
    altered: BTreeMap<AccountId, u64>,
}

/// What is to be said of one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Chain {
    pub(crate) account_id: String,
    pub(crate) records: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Whether its end was compared with the head that lies apart from it.
    pub(crate) end_compared: bool,
    /// What is wrong; `None` when nothing is.
    pub(crate) fault: Option<String>,
}

impl Chains {
    /// One more record. Seen twice, it counts once.
    pub(crate) fn add(&mut self, record: &Record) {
        let link = Link { seq: record.seq, hash: digest(&record.hash), prev: digest(&record.prev_hash) };
        if link.hash.is_none() || link.prev.is_none() || record.digest() != record.hash {
            let seq = self.altered.entry(record.origin.clone()).or_insert(record.seq);
            *seq = record.seq.min(*seq);
        }
        self.links.entry(record.origin.clone()).or_default().push(link);
    }

    /// The chains that there are, and the last `Seq` of each.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&AccountId, u64)> {
        self.links.iter().map(|(origin, links)| (origin, links.iter().map(|link| link.seq).max().unwrap_or_default()))
    }

    /// Whether one of its records is missing between others.
    pub(crate) fn has_gap(&self, origin: &AccountId) -> bool {
        let seqs: std::collections::BTreeSet<u64> =
            self.links.get(origin).into_iter().flatten().map(|link| link.seq).collect();
        match (seqs.first(), seqs.last()) {
            (Some(first), Some(last)) => last - first + 1 != seqs.len() as u64,
            _ => false,
        }
    }

    /// What is to be said of each, with the heads that are known. Records after the head were appended after it was read.
    pub(crate) fn verdicts(self, heads: &BTreeMap<AccountId, Head>) -> Vec<Chain> {
        let altered = self.altered;
        let verdict = |(origin, links): (AccountId, Vec<Link>)| verdict(&origin, links, heads.get(&origin), &altered);
        self.links.into_iter().map(verdict).collect()
    }
}

fn verdict(origin: &AccountId, mut links: Vec<Link>, head: Option<&Head>, altered: &BTreeMap<AccountId, u64>) -> Chain {
    links.sort_unstable();
    links.dedup();
    let (first, last) = (links.first().map_or(0, |link| link.seq), links.last().map_or(0, |link| link.seq));
    let broken = links.windows(2).find_map(|two| match two {
        [before, after] if before.seq == after.seq => Some(format!("there are two records with Seq {}", after.seq)),
        [before, after] if before.seq + 1 != after.seq => {
            Some(format!("the record with Seq {} is missing", before.seq + 1))
        }
        [before, after] if before.hash != after.prev => {
            Some(format!("the record with Seq {} does not follow the one before it", after.seq))
        }
        _ => None,
    });
    let begins = links.first().filter(|link| link.seq == 1 && link.prev != Some([0; 32]));
    let begins = begins.map(|_| "the first record follows another".to_owned());
    let changed =
        altered.get(origin).map(|seq| format!("the record with Seq {seq} was altered: its hash does not fit"));
    let end = head.and_then(|head| match links.iter().rfind(|link| link.seq == head.seq) {
        Some(link) if link.hash == digest(&head.hash) => None,
        Some(_) => Some(format!("the record with Seq {} is not the one that the chain's head names", head.seq)),
        None if head.seq == 0 => Some("the chain has records, and no head".to_owned()),
        None => Some(format!("the chain ends at Seq {last}, its head says {}", head.seq)),
    });
    Chain {
        account_id: origin.to_string(),
        records: links.len() as u64,
        first_seq: first,
        last_seq: last,
        end_compared: head.is_some(),
        fault: changed.or(begins).or(broken).or(end),
    }
}

/// What a report says of its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Verification {
    /// `Verified`, `Broken`, `EndsNotCompared`, `NotChecked` or `MadeUp`.
    pub(crate) verdict: Verdict,
    pub(crate) records: u64,
    pub(crate) chains: u64,
    /// The newest record that was read.
    pub(crate) newest_record: Option<String>,
    /// Chains that do not hold.
    pub(crate) broken: Vec<Chain>,
}

/// Whether the records are those that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Verdict {
    /// Every record, every link and every end.
    Verified,
    /// At least one chain does not hold.
    Broken,
    /// Every record and every link; but the newest records may have been cut off.
    EndsNotCompared,
    /// Nobody looked.
    NotChecked,
    /// The data is an example.
    MadeUp,
}

impl Verification {
    pub(crate) fn of(records: u64, newest: Option<String>, chains: Vec<Chain>) -> Self {
        let count = chains.len() as u64;
        let compared = chains.iter().all(|chain| chain.end_compared);
        let broken: Vec<Chain> = chains.into_iter().filter(|chain| chain.fault.is_some()).collect();
        let verdict = match (broken.is_empty(), compared) {
            (false, _) => Verdict::Broken,
            (true, true) => Verdict::Verified,
            (true, false) => Verdict::EndsNotCompared,
        };
        Self { verdict, records, chains: count, newest_record: newest, broken }
    }

    pub(crate) const fn unchecked(records: u64, newest: Option<String>) -> Self {
        Self { verdict: Verdict::NotChecked, records, chains: 0, newest_record: newest, broken: Vec::new() }
    }

    /// In a sentence.
    pub(crate) fn says(&self) -> String {
        let (records, chains) = (self.records, self.chains);
        match self.verdict {
            Verdict::Verified => format!(
                "Records verified: yes. Hash, link and end of all {chains} chains ({records} records) were checked as `redress audit verify` does."
            ),
            Verdict::Broken => {
                let broken: Vec<String> = self
                    .broken
                    .iter()
                    .map(|chain| {
                        format!("account {}: {}", chain.account_id, chain.fault.as_deref().unwrap_or_default())
                    })
                    .collect();
                format!(
                    "Records verified: NO. {} of {chains} chains do not hold; do not rely on this report. {}. `redress audit verify --account <id>` says more.",
                    broken.len(),
                    broken.join("; ")
                )
            }
            Verdict::EndsNotCompared => format!(
                "Records verified: in part. Hash and link of all {chains} chains ({records} records) hold; whether newer records were left out is not known without the chains' heads."
            ),
            Verdict::NotChecked => format!(
                "Records verified: no. The {records} records were not checked; leave out --no-verify, or use `redress audit verify --account <id>`."
            ),
            Verdict::MadeUp => "Records verified: not applicable. This data is made up.".to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::demo;
    use super::*;

    fn seen(records: &[Record]) -> Chains {
        let mut chains = Chains::default();
        records.iter().for_each(|record| chains.add(record));
        chains
    }

    fn fault(records: &[Record], head: Option<Head>) -> Option<String> {
        let heads = head.map(|head| (records[0].origin.clone(), head)).into_iter().collect();
        let verdicts = seen(records).verdicts(&heads);
        assert_eq!(verdicts.len(), 1);
        verdicts.into_iter().next().unwrap().fault
    }

    #[test]
    fn what_is_cut_altered_or_repeated_is_named() {
        let records = demo::chain_of(6);
        let head = || Some(Head::of(&records[5]));
        assert_eq!(fault(&records, head()), None);
        assert_eq!(fault(&records[2..], head()), None, "what was forgotten after its time is not missing");
        assert!(fault(&records[..5], head()).unwrap().contains("its head says 6"));
        assert_eq!(fault(&records[..5], None), None, "without a head nobody can tell");
        let mut altered = records.clone();
        altered[3].draft.notification_sent ^= true;
        assert!(fault(&altered, head()).unwrap().contains("Seq 4 was altered"));
        let mut cut = records.clone();
        cut.remove(2);
        assert!(seen(&cut).has_gap(&records[0].origin));
        assert!(fault(&cut, head()).unwrap().contains("Seq 3 is missing"));
        let mut forged = records.clone();
        forged[3].draft.notification_sent ^= true;
        forged[3].hash = forged[3].digest();
        assert!(fault(&forged, head()).unwrap().contains("Seq 5 does not follow"));
    }

    proptest! {
        #[test]
        fn the_order_in_which_records_are_read_does_not_matter(
            order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(), twice in 0..8usize
        ) {
            let records = demo::chain_of(8);
            let mut shuffled: Vec<Record> = order.iter().map(|nth| records[*nth].clone()).collect();
            shuffled.push(records[twice].clone());
            prop_assert_eq!(fault(&shuffled, Some(Head::of(&records[7]))), None);
        }
    }
}
