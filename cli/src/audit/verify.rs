//! `redress audit verify`: three verdicts on an account's chain: integrity, completeness, freshness.
//!
//! What is judged comes from the connected account or from an exported folder; the judgement is the same, and asks
//! nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use redress_common::checkpoint::{Checkpoint, CheckpointFault, Extract, follows};
use redress_common::ids::AccountId;
use redress_common::ledger::{self, Head, Record};
use redress_common::names;
use serde::Serialize;

use super::bucket::{self, Bucket, Found};
use super::cloudtrail::{Completeness, Events};
use super::key::Key;
use super::{export, time};
use crate::args::{Global, Verify};
use crate::aws::Connection;
use crate::dlq::age;
use crate::ledger::Ledger;
use crate::output::{Answer, Output, Style, Tone};
use crate::problem::{Exit, Problem};

/// Checkpoints of so many days are read of the connected account.
const DAYS: i64 = 30;
/// No record is forgotten sooner (`RetentionDays` of the administrator stack), less a day for clocks.
const KEPT_MS: i64 = 89 * 24 * 3_600_000;
/// A clock may be so far ahead.
const AHEAD_MS: i64 = 5 * 60_000;

/// How one of the verdicts came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Standing {
    Holds,
    Fails,
    NotChecked,
}

impl Standing {
    pub(super) const fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }

    /// In words: the first of the two when it holds, the second when it does not.
    pub(super) fn render(self, [holds, fails]: [&str; 2], why: Option<&str>, style: Style) -> String {
        match (self, why) {
            (Self::Holds, _) => style.paint(Tone::Good, holds),
            (Self::Fails, _) => style.paint(Tone::Bad, fails),
            (Self::NotChecked, None) => style.paint(Tone::Warning, "not checked"),
            (Self::NotChecked, Some(why)) => format!("{}: {why}", style.paint(Tone::Warning, "not checked")),
        }
    }
}

/// What the chain of an account says of itself: records and head.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Verdict {
    account_id: String,
    /// Whether every record is as it was written, and none is missing.
    intact: bool,
    records: usize,
    /// `Seq` of the first record that the table still has: older ones were forgotten after their time.
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    head: Head,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Verdict {
    fn of(account: &AccountId, records: &[Record], head: &Head) -> Self {
        // What was forgotten after its time cannot be checked; what follows hangs on the hash that it left.
        let start = match records.first() {
            Some(first) if first.seq > 1 => Head { seq: first.seq - 1, hash: first.prev_hash.clone() },
            _ => Head::default(),
        };
        let fault = match ledger::verify_from(&start, records) {
            Err(error) => Some(error.to_string()),
            Ok(end) if end == *head => None,
            Ok(end) if end.seq == head.seq => {
                Some(format!("the last record (Seq {}) is not the one that the chain's head names", end.seq))
            }
            Ok(end) => Some(ledger::ChainError::End { found: end.seq, expected: head.seq }.to_string()),
        };
        Self {
            account_id: account.to_string(),
            intact: fault.is_none(),
            records: records.len(),
            first_seq: records.first().map(|record| record.seq),
            last_seq: records.last().map(|record| record.seq),
            head: head.clone(),
            fault,
        }
    }

    /// The same, with what the checkpoints say against it.
    fn with(mut self, checkpoints: &Checkpoints) -> Self {
        self.fault = self.fault.or_else(|| checkpoints.faults.first().cloned());
        self.intact = self.fault.is_none();
        self
    }

    pub(crate) const fn is_intact(&self) -> bool {
        self.intact
    }

    pub(crate) fn render(&self, style: Style) -> String {
        let verdict = match &self.fault {
            None => style.paint(Tone::Good, "intact"),
            Some(_) => style.paint(Tone::Bad, "BROKEN"),
        };
        let range = match (self.first_seq, self.last_seq) {
            (Some(first), Some(last)) => format!("{} records, Seq {first} to {last}", self.records),
            _ => "no records".to_owned(),
        };
        let fields = [
            ("Checked", range),
            ("Head", format!("Seq {} {}", self.head.seq, self.head.hash)),
            ("Fault", self.fault.clone().unwrap_or_default()),
        ];
        format!("Integrity of the chain of account {}: {verdict}\n{}", self.account_id, style.fields(&fields))
    }
}

/// Checks the chain of an account by itself.
pub(crate) async fn verdict(ledger: &Ledger, account: &AccountId) -> Result<Verdict, Problem> {
    let (records, head) = ledger.chain(account).await?;
    Ok(Verdict::of(account, &records, &head))
}

/// A checkpoint that was read: what it says of the account, and what did not fit together in the whole.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) extract: Extract,
    fault: Option<CheckpointFault>,
}

impl Seen {
    /// From the whole.
    pub(super) fn of(checkpoint: &Checkpoint, account: &AccountId) -> Self {
        Self { fault: checkpoint.fault(), extract: checkpoint.extract(account) }
    }

    /// From what was exported of it.
    pub(super) const fn exported(extract: Extract) -> Self {
        Self { fault: None, extract }
    }
}

/// What is judged.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) account: AccountId,
    /// The chain, and where it must end.
    pub(super) records: Vec<Record>,
    pub(super) head: Head,
    /// When the chain was read.
    pub(super) taken: Timestamp,
    /// The checkpoints, or why there are none to be checked.
    pub(super) checkpoints: Result<Found, String>,
}

impl Material {
    /// Until when the chain is told, Unix milliseconds. That it was read before its own records and checkpoints is not
    /// believed.
    pub(super) fn told_until(&self) -> i64 {
        let records = self.records.iter().map(|record| record.draft.timestamp);
        let checkpoints = self.checkpoints.iter().flat_map(|found| &found.seen);
        let told = records.chain(checkpoints.map(|seen| seen.extract.statement.at)).max();
        told.map_or(self.taken.as_millisecond(), |told| told.max(self.taken.as_millisecond()))
    }

    /// Whether the whole chain is younger than that, or there is none yet.
    fn begun_after(&self, since: Timestamp) -> bool {
        let begun = |first: &Record| first.seq == 1 && first.draft.timestamp > since.as_millisecond();
        self.records.first().is_none_or(begun)
    }
}

/// The keys that checkpoints may be signed with.
#[derive(Debug)]
struct Keys {
    keys: Vec<Key>,
    /// Whose word it is that they are the right ones.
    from: String,
    /// Whether the checker brought them: then there must be checkpoints.
    given: bool,
}

/// What the checkpoints say of the chain.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoints {
    result: Standing,
    /// Why they are not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Where the public key is from.
    key: String,
    /// The keys that they name themselves.
    key_arns: BTreeSet<String>,
    checked: usize,
    first_number: Option<u64>,
    last_number: Option<u64>,
    first_at: Option<String>,
    last_at: Option<String>,
    /// Those whose head was compared with the record at its place.
    compared: usize,
    /// Those whose record was forgotten after its time.
    forgotten: usize,
    /// Those from before the account had a chain.
    without_chain: usize,
    faults: Vec<String>,
}

/// Whether a head is the chain's at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Same,
    Other,
    Beyond,
    Forgotten,
}

/// The hash of each place of a chain that is known.
struct Places<'a> {
    hashes: BTreeMap<u64, &'a str>,
}

impl<'a> Places<'a> {
    fn of(records: &'a [Record]) -> Self {
        // The first record tells the hash of the one before it, also of the one that was forgotten.
        let before = records.first().map(|first| (first.seq.saturating_sub(1), first.prev_hash.as_str()));
        let own = records.iter().map(|record| (record.seq, record.hash.as_str()));
        Self { hashes: before.into_iter().chain(own).collect() }
    }

    fn of_head(&self, head: &Head) -> Place {
        if *head == Head::default() {
            return Place::Same;
        }
        match (self.hashes.get(&head.seq), self.hashes.first_key_value(), self.hashes.last_key_value()) {
            (Some(hash), _, _) if **hash == head.hash => Place::Same,
            (None, Some((first, _)), _) if head.seq < *first => Place::Forgotten,
            (None, _, Some((last, _))) if head.seq > *last => Place::Beyond,
            (None, _, None) => Place::Beyond,
            _ => Place::Other,
        }
    }
}

impl Checkpoints {
    fn none(result: Standing, why: Option<String>, key: String) -> Self {
        Self {
            result,
            why,
            key,
            key_arns: BTreeSet::new(),
            checked: 0,
            first_number: None,
            last_number: None,
            first_at: None,
            last_at: None,
            compared: 0,
            forgotten: 0,
            without_chain: 0,
            faults: Vec::new(),
        }
    }

    /// Judges them, and gives the newest in which nothing is wrong.
    fn of<'a>(material: &'a Material, keys: &Keys) -> (Self, Option<&'a Extract>) {
        let not_checked = |why: String| (Self::none(Standing::NotChecked, Some(why), keys.from.clone()), None);
        let found = match &material.checkpoints {
            Err(why) => return not_checked(why.clone()),
            Ok(found) if found.seen.is_empty() && found.strange.is_empty() => {
                return not_checked("there are no checkpoints".to_owned());
            }
            Ok(found) => found,
        };
        let mut told = Self { faults: found.strange.clone(), ..Self::none(Standing::Holds, None, keys.from.clone()) };
        let places = Places::of(&material.records);
        let mut numbered: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
        for seen in &found.seen {
            numbered.entry(seen.extract.statement.number).or_default().push(seen);
        }
        // One number may be there twice: a run that died after midnight is followed under another day. Each counts.
        let (mut before, mut last, mut newest): (&[&Seen], Option<&Head>, _) = (&[], None, None);
        for (number, group) in &numbered {
            let mut group_last = last;
            for &seen in group {
                let faults = told.faults_of(seen, before, last, &places, material, keys);
                if faults.is_empty() {
                    newest = Some(&seen.extract);
                }
                told.faults.extend(faults.into_iter().map(|fault| format!("checkpoint {number} {fault}")));
                let head = seen.extract.entry.as_ref().map(|entry| &entry.head);
                group_last = [group_last, head].into_iter().flatten().max_by_key(|head| head.seq);
            }
            (before, last) = (group.as_slice(), group_last);
        }
        let times = || found.seen.iter().map(|seen| seen.extract.statement.at);
        told.checked = found.seen.len();
        told.key_arns = found.seen.iter().map(|seen| seen.extract.statement.key_arn.clone()).collect();
        told.first_number = numbered.first_key_value().map(|(number, _)| *number);
        told.last_number = numbered.last_key_value().map(|(number, _)| *number);
        told.first_at = times().min().map(time);
        told.last_at = times().max().map(time);
        told.result = Standing::of(told.faults.is_empty());
        (told, newest)
    }

    /// What is wrong with one, after those that have the number before it and after the newest head there was.
    fn faults_of(
        &mut self,
        seen: &Seen,
        before: &[&Seen],
        last: Option<&Head>,
        places: &Places<'_>,
        material: &Material,
        keys: &Keys,
    ) -> Vec<String> {
        let Extract { statement, signature, entry } = &seen.extract;
        let mut faults = Vec::new();
        if !keys.keys.iter().any(|key| key.signed(statement, signature)) {
            faults.push("is not signed with the key".to_owned());
        }
        let fault = seen.fault.clone().or_else(|| seen.extract.fault(&material.account));
        faults.extend(fault.map(|fault| fault.to_string()));
        let links = before.iter().map(|before| follows(&before.extract.statement, statement));
        let links: Vec<Result<(), CheckpointFault>> = links.collect();
        if links.iter().all(Result::is_err) {
            faults.extend(links.into_iter().filter_map(Result::err).next_back().map(|fault| fault.to_string()));
        }
        let head = entry.as_ref().map(|entry| &entry.head);
        match (last, head) {
            (Some(_), None) => faults.push("has no chain of the account any more".to_owned()),
            (Some(last), Some(head)) if head.seq < last.seq => {
                faults.push(format!("says Seq {}, one before it said Seq {}: the chain went back", head.seq, last.seq));
            }
            (Some(last), Some(head)) if head.seq == last.seq && head.hash != last.hash => {
                faults.push(format!("says another hash at Seq {} than one before it", head.seq));
            }
            _ => {}
        }
        match head.map(|head| (head, places.of_head(head))) {
            None => self.without_chain += 1,
            // What followed it was written after the checkpoint, and is gone, too: too young to have been forgotten.
            Some((head, Place::Forgotten))
                if material.taken.as_millisecond().saturating_sub(statement.at) < KEPT_MS =>
            {
                faults.push(format!(
                    "says Seq {}, and what followed is gone before its time: records were removed",
                    head.seq
                ));
            }
            Some((_, Place::Forgotten)) => self.forgotten += 1,
            Some((_, Place::Same)) => self.compared += 1,
            Some((head, Place::Other)) => {
                faults.push(format!("says another hash at Seq {} than the chain: the chain was rewritten", head.seq));
            }
            Some((head, Place::Beyond)) => {
                faults.push(format!("says Seq {}, which the chain does not have: records were cut off", head.seq));
            }
        }
        faults
    }

    fn render(&self, style: Style) -> String {
        let title = self.result.render(["hold", "DO NOT HOLD"], self.why.as_deref(), style);
        let mut text = format!("Checkpoints of the chain: {title}\n");
        if self.result == Standing::NotChecked {
            return text;
        }
        let numbers = match (self.first_number, self.last_number, &self.first_at, &self.last_at) {
            (Some(first), Some(last), Some(from), Some(until)) => {
                format!("{} checkpoints, number {first} to {last}, {from} to {until}", self.checked)
            }
            _ => "no checkpoints".to_owned(),
        };
        let said = |count: usize, what: &str| if count == 0 { String::new() } else { format!("{count} {what}") };
        let faults = match &self.faults[..] {
            [] => String::new(),
            [one] => one.clone(),
            [first, more @ ..] => format!("{first}; and {} more", more.len()),
        };
        text.push_str(&style.fields(&[
            ("Checked", numbers),
            ("Heads", format!("{} are the chain's", self.compared)),
            (
                "Forgotten",
                said(self.forgotten, "cannot be checked any more: their records were forgotten after their time"),
            ),
            ("Before", said(self.without_chain, "from before the account had a chain")),
            ("Key", self.key.clone()),
            ("Signed by", self.key_arns.iter().cloned().collect::<Vec<_>>().join(", ")),
            ("Fault", faults),
        ]));
        text
    }
}

/// The verdict on freshness.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Freshness {
    result: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The newest checkpoint in which nothing is wrong.
    newest_number: Option<u64>,
    newest_at: Option<String>,
    age_seconds: Option<i64>,
    max_age_seconds: i64,
    /// Records that are not yet under a checkpoint.
    not_yet: Option<u64>,
}

impl Freshness {
    fn of(newest: Option<&Extract>, material: &Material, given: bool, now: Timestamp, max_age: SignedDuration) -> Self {
        let none = Self {
            result: Standing::NotChecked,
            why: None,
            newest_number: None,
            newest_at: None,
            age_seconds: None,
            max_age_seconds: max_age.as_secs(),
            not_yet: None,
        };
        let Some(newest) = newest else {
            let why = match &material.checkpoints {
                Err(why) => why.clone(),
                Ok(found) if found.seen.is_empty() => "there are no checkpoints".to_owned(),
                Ok(_) => "there is no checkpoint in which nothing is wrong".to_owned(),
            };
            // Who brings a key expects checkpoints; and of those that there are, one must be good. That none is there yet is
            // no wonder where the chain has just begun.
            let is_new = matches!(&material.checkpoints, Ok(found) if found.seen.is_empty() && found.strange.is_empty())
                && material.begun_after(now.saturating_sub(max_age).unwrap_or(Timestamp::MIN));
            let fails = given || (material.checkpoints.is_ok() && !is_new);
            return Self { result: if fails { Standing::Fails } else { Standing::NotChecked }, why: Some(why), ..none };
        };
        let statement = &newest.statement;
        let age = now.as_millisecond().saturating_sub(statement.at);
        let covered = newest.entry.as_ref().map_or(0, |entry| entry.head.seq);
        let why = if age < -AHEAD_MS {
            Some("the newest checkpoint is of the future".to_owned())
        } else {
            (i128::from(age) > max_age.as_millis()).then(|| "no newer checkpoint was made".to_owned())
        };
        Self {
            result: Standing::of(why.is_none()),
            why,
            newest_number: Some(statement.number),
            newest_at: Some(time(statement.at)),
            age_seconds: Some(age / 1000),
            not_yet: Some(material.head.seq.saturating_sub(covered)),
            ..none
        }
    }

    fn render(&self, style: Style) -> String {
        let title = self.result.render(["fresh", "STALE"], self.why.as_deref(), style);
        let (Some(number), Some(at), Some(seconds)) = (self.newest_number, &self.newest_at, self.age_seconds) else {
            let why = self.why.as_deref().filter(|_| self.result == Standing::Fails);
            return format!("Freshness: {title}{}\n", why.map(|why| format!(": {why}")).unwrap_or_default());
        };
        let (is, may_be) = (age(seconds.saturating_mul(1000)), age(self.max_age_seconds.saturating_mul(1000)));
        let fields = style.fields(&[
            ("Newest", format!("checkpoint {number}, {at}, {is} old; at most {may_be}")),
            ("Not yet under a checkpoint", format!("{} of the chain's records", self.not_yet.unwrap_or_default())),
            ("Fault", self.why.clone().unwrap_or_default()),
        ]);
        format!("Freshness: {title}\n{fields}")
    }
}

/// All three verdicts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verdicts {
    /// The chain, and what checkpoints say against it.
    #[serde(flatten)]
    integrity: Verdict,
    checkpoints: Checkpoints,
    completeness: Completeness,
    freshness: Freshness,
}

impl Verdicts {
    fn of(material: &Material, keys: &Keys, events: Option<&Events>, now: Timestamp, max_age: SignedDuration) -> Self {
        let (checkpoints, newest) = Checkpoints::of(material, keys);
        Self {
            integrity: Verdict::of(&material.account, &material.records, &material.head).with(&checkpoints),
            completeness: Completeness::of(events, material),
            freshness: Freshness::of(newest, material, keys.given, now, max_age),
            checkpoints,
        }
    }

    /// Whether all that was checked holds.
    fn hold(&self) -> bool {
        self.integrity.is_intact()
            && [self.checkpoints.result, self.completeness.result, self.freshness.result]
                .iter()
                .all(|result| *result != Standing::Fails)
    }

    fn render(&self, style: Style) -> String {
        format!(
            "{}{}{}{}",
            self.integrity.render(style),
            self.checkpoints.render(style),
            self.completeness.render(style),
            self.freshness.render(style)
        )
    }
}

pub(super) async fn run(asked: &Verify, global: &Global, output: Output) -> Result<Answer, Problem> {
    let given: Vec<Key> = asked.public_key.iter().map(|path| Key::read(path)).collect::<Result<_, _>>()?;
    let now = asked.now.unwrap_or_else(Timestamp::now);
    let (mut material, keys) = match (&asked.from, &asked.account) {
        (Some(folder), _) => {
            let from = vouched(&asked.public_key, folder);
            (export::read(folder)?, Keys { keys: given, from, given: true })
        }
        (None, Some(account)) => {
            let connection = Connection::new(global).await?;
            let mut material = connected(account, None, &connection, output).await?;
            let keys = if given.is_empty() {
                of_kms(&mut material, &connection).await?
            } else {
                Keys { keys: given, from: shown(&asked.public_key), given: true }
            };
            (material, keys)
        }
        (None, None) => return Err(Problem::failed("nothing is named to be checked").help("give --account, or --from")),
    };
    let events = match &asked.cloudtrail {
        None => None,
        Some(folder) => Some(Events::read(folder, &material.account)?),
    };
    // A folder may say that it is of the future, where all that is gone would have been forgotten.
    material.taken = material.taken.min(now);
    let verdicts = Verdicts::of(&material, &keys, events.as_ref(), now, asked.max_age);
    let exit = if verdicts.hold() { Exit::Done } else { Exit::Failed };
    Ok(Answer::new(&verdicts, verdicts.render(output.style()))?.exit(exit))
}

/// What the connected account has: the chain, and the checkpoints since then, or of the last 30 days for which there are
/// records.
pub(super) async fn connected(
    account: &AccountId,
    since: Option<Timestamp>,
    connection: &Connection,
    output: Output,
) -> Result<Material, Problem> {
    let ledger = Ledger::new(connection);
    let mut taken = Timestamp::now();
    let (mut records, mut head) = ledger.chain(account).await?;
    let since = since.unwrap_or_else(|| {
        // Of a chain whose beginning is gone, older checkpoints say whether it was time.
        let oldest = records.first().filter(|first| first.seq == 1);
        let oldest = oldest.and_then(|first| Timestamp::from_millisecond(first.draft.timestamp).ok());
        let most = taken.saturating_sub(SignedDuration::from_hours(24 * DAYS)).unwrap_or(Timestamp::MIN);
        oldest.map_or(most, |oldest| oldest.max(most))
    });
    let found = Bucket::of(connection).await?.read(account, since, output).await?;
    let seen = found.iter().flat_map(|found| &found.seen).filter_map(|seen| seen.extract.entry.as_ref());
    // A checkpoint may have been made after the chain was read.
    if seen.map(|entry| entry.head.seq).max().is_some_and(|newest| newest > head.seq) {
        taken = Timestamp::now();
        (records, head) = ledger.chain(account).await?;
    }
    Ok(Material { account: account.clone(), records, head, taken, checkpoints: found })
}

/// The key of KMS. Without one, no checkpoint can be checked.
async fn of_kms(material: &mut Material, connection: &Connection) -> Result<Keys, Problem> {
    let from = format!("{} of KMS, in the same account as the ledger", names::CHECKPOINT_KEY_ALIAS);
    let mut keys = Vec::new();
    if material.checkpoints.is_ok() {
        match bucket::public_key(connection).await? {
            Err(why) => material.checkpoints = Err(why),
            Ok(der) => {
                let key = Key::of_der(&der);
                keys.push(key.ok_or_else(|| Problem::failed(format!("{from} is no key on curve P-256")))?);
            }
        }
    }
    Ok(Keys { keys, from, given: false })
}

fn shown(paths: &[impl AsRef<Path>]) -> String {
    paths.iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Where the keys are from; that one lies in the folder that it shall vouch for is said.
fn vouched(paths: &[impl AsRef<Path>], folder: &Path) -> String {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let own = paths.iter().any(|path| whole(path.as_ref()).starts_with(whole(folder)));
    let warning =
        if own { " (exported with the rest: whoever could change the folder could change it, too)" } else { "" };
    format!("{}{warning}", shown(paths))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::fixture;

    /// Half an hour past nine: the second checkpoint of the fixture is made then.
    const NOW: i64 = fixture::START + 1_800_000;
    const QUARTER_MS: i64 = 900_000;

    /// Material that was taken an hour after the remediation.
    pub(in crate::audit) fn material(records: &[Record], checkpoints: &[Checkpoint]) -> Material {
        let seen = checkpoints.iter().map(|checkpoint| Seen::of(checkpoint, &fixture::account())).collect();
        Material {
            account: fixture::account(),
            records: records.to_vec(),
            head: records.last().map_or_else(Head::default, Head::of),
            taken: Timestamp::from_millisecond(fixture::START + 3_600_000).unwrap(),
            checkpoints: Ok(Found { seen, strange: Vec::new() }),
        }
    }

    fn keys(seed: u8) -> Keys {
        use p256::pkcs8::EncodePublicKey as _;
        let der = fixture::signing_key(seed).verifying_key().to_public_key_der().unwrap();
        Keys { keys: vec![Key::of_der(der.as_bytes()).unwrap()], from: "key.pem".to_owned(), given: true }
    }

    fn judged_at(material: &Material, keys: &Keys, at: i64) -> Verdicts {
        let now = Timestamp::from_millisecond(at).unwrap();
        Verdicts::of(material, keys, None, now, SignedDuration::from_mins(45))
    }

    /// Seven minutes after the newest checkpoint.
    fn judged(records: &[Record], checkpoints: &[Checkpoint]) -> Verdicts {
        let newest = checkpoints.iter().map(|checkpoint| checkpoint.statement.at).max().unwrap_or(NOW);
        judged_at(&material(records, checkpoints), &keys(7), newest + 420_000)
    }

    /// That the judgement fails in integrity, with this.
    fn is_broken(verdicts: &Verdicts, by: &str) {
        assert!(!verdicts.hold() && !verdicts.integrity.is_intact(), "{verdicts:?}");
        assert!(verdicts.checkpoints.faults.iter().any(|fault| fault.contains(by)), "{by}: {:?}", verdicts.checkpoints);
    }

    /// The chain as somebody wrote it anew who may write everything but sign nothing: every hash is right.
    fn rewritten() -> Vec<Record> {
        let mut drafts: Vec<_> = fixture::verified().into_iter().map(|record| record.draft).collect();
        drafts[1].executor_arn = "arn:aws:lambda:eu-central-1:111111111111:function:somebody-else".to_owned();
        fixture::sealed(drafts)
    }

    fn verdict_of(records: &[Record], head: &Head) -> Verdict {
        Verdict::of(&fixture::account(), records, head)
    }

    #[test]
    fn a_chain_that_holds_is_intact() {
        let records = fixture::verified();
        let verdict = verdict_of(&records, &Head::of(&records[2]));
        assert!(verdict.intact, "{verdict:?}");
        insta::assert_snapshot!(verdict.render(Style::PLAIN));
    }

    #[test]
    fn an_altered_record_is_named() {
        let mut records = fixture::verified();
        let head = Head::of(&records[2]);
        records[1].draft.remediation_action = "nothing at all".to_owned();
        insta::assert_snapshot!(verdict_of(&records, &head).render(Style::PLAIN));
    }

    #[test]
    fn a_cut_off_end_is_seen_by_the_head() {
        let records = fixture::verified();
        assert!(!verdict_of(&records[..2], &Head::of(&records[2])).intact);
        assert!(!verdict_of(&[], &Head::of(&records[2])).intact);
    }

    #[test]
    fn a_chain_whose_oldest_records_were_forgotten_still_verifies() {
        let records = fixture::verified();
        assert!(verdict_of(&records[1..], &Head::of(&records[2])).intact);
    }

    #[test]
    fn a_chain_under_checkpoints_holds_and_says_what_was_checked() {
        let records = fixture::verified();
        let verdicts = judged(&records, &fixture::checkpoints(&records, &[0, 2]));
        assert!(verdicts.hold(), "{verdicts:?}");
        assert_eq!(verdicts.freshness.not_yet, Some(1));
        insta::assert_snapshot!(verdicts.render(Style::PLAIN));
    }

    #[test]
    fn the_json_has_what_it_always_had_and_the_three_verdicts() {
        let records = fixture::verified();
        let json = serde_json::to_value(judged(&records, &fixture::checkpoints(&records, &[2, 3]))).unwrap();
        assert_eq!(json["Intact"], true);
        assert_eq!((&json["Records"], &json["FirstSeq"], &json["LastSeq"]), (&3.into(), &1.into(), &3.into()));
        assert_eq!(json["Head"]["Seq"], 3);
        assert_eq!(
            (json["Checkpoints"]["Result"].as_str(), &json["Checkpoints"]["Compared"]),
            (Some("Holds"), &2.into())
        );
        assert_eq!(json["Completeness"]["Result"], "NotChecked");
        assert_eq!((json["Freshness"]["Result"].as_str(), &json["Freshness"]["NotYet"]), (Some("Holds"), &0.into()));
    }

    #[test]
    fn a_chain_that_was_rewritten_with_its_head_is_found_by_checkpoints_alone() {
        let (good, forged) = (fixture::verified(), rewritten());
        let checkpoints = fixture::checkpoints(&good, &[2, 3]);
        assert!(verdict_of(&forged, &Head::of(&forged[2])).intact, "its hashes are right");
        is_broken(&judged(&forged, &checkpoints), "the chain was rewritten");
    }

    #[test]
    fn records_that_were_cut_off_with_the_head_are_found_by_checkpoints_alone() {
        let records = fixture::verified();
        let checkpoints = fixture::checkpoints(&records, &[2, 3]);
        assert!(verdict_of(&records[..2], &Head::of(&records[1])).intact);
        is_broken(&judged(&records[..2], &checkpoints), "records were cut off");
        is_broken(&judged(&[], &checkpoints), "records were cut off");
    }

    #[test]
    fn forgotten_records_cannot_be_checked_and_break_nothing() {
        let records = fixture::verified();
        let mut material = material(&records[2..], &fixture::checkpoints(&records, &[1, 2, 3]));
        material.taken = Timestamp::from_millisecond(NOW + 90 * 24 * 3_600_000).unwrap();
        let verdicts = judged_at(&material, &keys(7), NOW + QUARTER_MS);
        assert!(verdicts.hold(), "{verdicts:?}");
        // Of the second, the hash is left in the third.
        assert_eq!((verdicts.checkpoints.forgotten, verdicts.checkpoints.compared), (1, 2));
        let other = judged(&rewritten()[2..], &fixture::checkpoints(&records, &[1, 2]));
        is_broken(&other, "checkpoint 2 says another hash at Seq 2");
    }

    #[test]
    fn records_that_are_gone_before_their_time_were_removed() {
        let records = fixture::verified();
        assert!(verdict_of(&records[2..], &Head::of(&records[2])).intact, "the chain alone does not tell");
        is_broken(&judged(&records[2..], &fixture::checkpoints(&records, &[1, 3])), "records were removed");
    }

    #[test]
    fn a_checkpoint_that_nobody_signed_is_found() {
        let records = fixture::verified();
        let checkpoints = fixture::checkpoints(&records, &[2, 3]);
        is_broken(&judged_at(&material(&records, &checkpoints), &keys(8), NOW), "is not signed with the key");
        // Everything fits but the signature, which was of the statement before it was altered.
        let mut altered = fixture::checkpoints(&records, &[3]);
        altered[0].statement.at += 1;
        is_broken(&judged(&records, &altered), "is not signed with the key");
    }

    #[test]
    fn a_signed_root_does_not_vouch_for_other_heads() {
        let forged = rewritten();
        let mut checkpoints = fixture::checkpoints(&fixture::verified(), &[3]);
        // The heads beside the statement are not signed themselves.
        checkpoints[0].heads.insert(fixture::account(), Head::of(&forged[2]));
        is_broken(&judged(&forged, &checkpoints), "has a root that its heads do not give");
    }

    #[test]
    fn a_gap_and_a_replaced_checkpoint_are_found() {
        let records = fixture::verified();
        let mut checkpoints = fixture::checkpoints(&records, &[1, 2, 3]);
        let other = fixture::checkpoints(&records, &[2, 2]).remove(1);
        let middle = std::mem::replace(&mut checkpoints[1], other);
        is_broken(&judged(&records, &checkpoints), "does not hang on the checkpoint before it");
        // Where both are there, each hangs on one before it or not by itself.
        checkpoints.push(middle);
        is_broken(&judged(&records, &checkpoints), "checkpoint 2 does not hang");
        let whole = fixture::checkpoints(&records, &[1, 2, 3]);
        is_broken(&judged(&records, &[whole[0].clone(), whole[2].clone()]), "number 2 should stand here");
    }

    #[test]
    fn a_number_that_was_signed_twice_over_the_same_chain_breaks_nothing() {
        let records = fixture::verified();
        let mut checkpoints = fixture::checkpoints(&records, &[1, 2, 3]);
        let mut twin = checkpoints[1].clone();
        twin.statement.at += 1;
        twin.signature = fixture::signature(&twin.statement);
        checkpoints.push(twin);
        let verdicts = judged_at(&material(&records, &checkpoints), &keys(7), NOW + QUARTER_MS);
        assert!(verdicts.hold(), "{verdicts:?}");
    }

    #[test]
    fn a_chain_that_goes_back_or_is_gone_between_checkpoints_is_found() {
        let records = fixture::verified();
        let back = fixture::checkpoints(&records, &[2, 1]);
        is_broken(&judged(&records, &back), "the chain went back");
        let mut gone = fixture::checkpoints(&records, &[2, 2]);
        gone[1].heads.remove(&fixture::account());
        is_broken(&judged(&records, &gone), "has no chain of the account any more");
    }

    #[test]
    fn an_object_that_is_no_checkpoint_is_told() {
        let records = fixture::verified();
        let mut material = material(&records, &fixture::checkpoints(&records, &[3]));
        if let Ok(found) = &mut material.checkpoints {
            found.strange.push("object x is no checkpoint".to_owned());
        }
        is_broken(&judged_at(&material, &keys(7), NOW), "object x is no checkpoint");
    }

    #[test]
    fn an_old_checkpoint_is_stale_and_one_of_the_future_is_none() {
        let records = fixture::verified();
        let material = material(&records, &fixture::checkpoints(&records, &[2, 3]));
        let at = |now: i64| judged_at(&material, &keys(7), now).freshness.result;
        assert_eq!(at(NOW + 3 * QUARTER_MS), Standing::Holds);
        assert_eq!(at(NOW + 3 * QUARTER_MS + 1), Standing::Fails);
        assert_eq!(at(NOW - AHEAD_MS), Standing::Holds);
        assert_eq!(at(NOW - AHEAD_MS - 1), Standing::Fails);
        let stale = judged_at(&material, &keys(7), NOW + 8 * QUARTER_MS);
        assert!(!stale.hold() && stale.integrity.is_intact(), "{stale:?}");
        insta::assert_snapshot!(stale.freshness.render(Style::PLAIN));
    }

    #[test]
    fn a_checkpoint_in_which_something_is_wrong_makes_nothing_fresh() {
        let records = fixture::verified();
        let mut checkpoints = fixture::checkpoints(&records, &[2, 3]);
        checkpoints[1].signature = checkpoints[0].signature.clone();
        let verdicts = judged(&records, &checkpoints);
        assert_eq!(verdicts.freshness.newest_number, Some(1));
    }

    #[test]
    fn without_checkpoints_it_is_as_before_unless_the_checker_brought_a_key() {
        let records = fixture::verified();
        let mut material = material(&records, &[]);
        material.checkpoints = Err("no checkpoints: update the administrator stack".to_owned());
        let older = judged_at(&material, &Keys { given: false, ..keys(7) }, NOW);
        assert!(older.hold(), "{older:?}");
        insta::assert_snapshot!(older.render(Style::PLAIN));
        let expected = judged_at(&material, &keys(7), NOW);
        assert!(!expected.hold() && expected.integrity.is_intact(), "{expected:?}");
        material.checkpoints = Ok(Found::default());
        assert!(!judged_at(&material, &keys(7), NOW).hold(), "a folder from which they were taken");
        // A bucket in which there is none yet, and one in which there should be.
        let of_kms = || Keys { given: false, ..keys(7) };
        assert!(judged_at(&material, &of_kms(), NOW).hold());
        assert!(!judged_at(&material, &of_kms(), NOW + 2 * QUARTER_MS).hold());
        material.records.remove(0);
        assert!(!judged_at(&material, &of_kms(), NOW).hold(), "not the chain's beginning");
    }

    #[test]
    fn a_key_from_the_folder_that_it_vouches_for_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("public-key.pem"), folder.path().parent().unwrap().join("key.pem"));
        std::fs::write(&own, "").unwrap();
        assert!(vouched(&[&own], folder.path()).contains("exported with the rest"));
        assert!(!vouched(&[&other], folder.path()).contains("exported with the rest"));
    }
}
