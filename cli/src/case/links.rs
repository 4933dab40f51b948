//! Which records of the ledger belong to one incident. Pure.
//!
//! Two records are of one incident when one account's records tie them within the quiet time: they are of one resource, of one
//! finding (an attack sequence is one finding over many resources), or of one principal: what one record is about is what the
//! finding of the other names as an actor, or both findings name the same. What was closed is tied to nothing that came later.

use std::collections::{BTreeMap, BTreeSet};

use redress_common::ids::{AccountId, RemediationId};
use redress_common::ledger::{Record, code, detail, finding_of};

/// Whether a person closed the case of the record's resource with it.
pub(super) fn closes(record: &Record) -> bool {
    record.detail(detail::CODE) == Some(code::CASE_CLOSED)
}

/// What ties records together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Tie {
    /// A finding.
    Finding(String),
    /// Something in the account: a resource, or a principal, which may be both.
    Thing(String),
}

/// Where a record belongs, as far as it has been found out: the number of another of its set, or its own.
struct Sets(Vec<usize>);

impl Sets {
    fn first(&self, mut of: usize) -> usize {
        while let Some(next) = self.0.get(of).copied().filter(|next| *next != of) {
            of = next;
        }
        of
    }

    /// The set of both is called by the older one.
    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        if let Some(newer) = self.0.get_mut(one.max(other)) {
            *newer = one.min(other);
        }
    }
}

/// Of two accounts the records do not follow each other; the order is then any, but the same whoever brings them.
fn order(record: &Record) -> (i64, &AccountId, u64, RemediationId) {
    (record.draft.timestamp, &record.origin, record.seq, record.draft.remediation_id)
}

/// The records, in the order in which they were written, in sets of one incident each; the incident that began first is first.
pub(super) fn connected(mut records: Vec<Record>, quiet_ms: i64) -> Vec<Vec<Record>> {
    records.sort_by(|one, other| order(one).cmp(&order(other)));
    // Only the first record of a remediation says whom its finding names.
    let mut actors: BTreeMap<RemediationId, BTreeSet<String>> = BTreeMap::new();
    for record in &records {
        actors.entry(record.draft.remediation_id).or_default().extend(record.actors().map(str::to_owned));
    }
    let mut sets = Sets((0..records.len()).collect());
    // Of each tie in an account the newest record of each resource, and of each resource the newest that closed its case.
    let mut newest: BTreeMap<(&str, Tie), BTreeMap<&str, usize>> = BTreeMap::new();
    let mut closed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        let (account, resource) = (record.draft.account_id.as_str(), record.draft.resource_id.as_str());
        let finding = finding_of(&record.draft.finding_id).map(|finding| Tie::Finding(finding.to_owned()));
        let named = actors.get(&record.draft.remediation_id).into_iter().flatten().cloned().map(Tie::Thing);
        let ties = std::iter::once(Tie::Thing(resource.to_owned())).chain(finding).chain(named);
        for tie in ties {
            let before = newest.entry((account, tie)).or_default();
            for (other, last) in &*before {
                let over = closed.get(&(account, *other)).is_some_and(|close| close >= last);
                let then = records.get(*last).map_or(i64::MIN, |last| last.draft.timestamp);
                if !over && record.draft.timestamp.saturating_sub(then) <= quiet_ms {
                    sets.join(*last, at);
                }
            }
            before.insert(resource, at);
        }
        if closes(record) {
            closed.insert((account, resource), at);
        }
    }
    let firsts: Vec<usize> = (0..records.len()).map(|at| sets.first(at)).collect();
    let mut found: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
    for (first, record) in firsts.into_iter().zip(records) {
        found.entry(first).or_default().push(record);
    }
    found.into_values().collect()
}
