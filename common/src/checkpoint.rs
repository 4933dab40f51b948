//! Checkpoints: what the ledger's chains ended with at a time, signed, so that nobody rewrites them afterwards unseen.
//!
//! A [`Statement`] holds a Merkle root (RFC 6962) over the heads of all chains, and the hash of the statement before
//! it. It is signed by a key that whoever writes the ledger may not use. With an [`Extract`] the auditor of one account
//! checks that account's head against the root, and learns nothing of the others. This module signs nothing, checks no
//! signature and reads nothing: it says what the signature is over, and what fits together.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{AccountId, Region};
use crate::ledger::Head;

/// The only version of [`Statement`] that there is.
pub const VERSION: u32 = 1;
/// What the key of each checkpoint in the bucket begins with.
pub const PREFIX: &str = "checkpoints/";

/// SHA-256, as bytes.
type Hash = [u8; 32];

/// What is signed. The signed bytes are its RFC 8785 canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// [`VERSION`].
    pub version: u32,
    /// The account whose ledger it is.
    pub administrator_id: AccountId,
    /// The hub's Region.
    pub region: Region,
    /// From 1, no gaps.
    pub number: u64,
    /// SHA-256 of the canonical form of the statement before, in hexadecimal; 64 zeros for the first.
    pub previous: String,
    /// When it was made, Unix milliseconds.
    pub at: i64,
    /// How many heads the root is over.
    pub chains: u64,
    /// The Merkle root over the heads, in hexadecimal.
    pub root: String,
    /// The KMS key that signs.
    pub key_arn: String,
}

impl Statement {
    /// The statement that these heads make, after the newest one there was.
    #[must_use]
    pub fn of(
        administrator_id: AccountId,
        region: Region,
        key_arn: String,
        before: Option<&Link>,
        heads: &BTreeMap<AccountId, Head>,
        at: Timestamp,
    ) -> Self {
        Self {
            version: VERSION,
            administrator_id,
            region,
            number: before.map_or(1, |link| link.number.saturating_add(1)),
            previous: before.map_or_else(nothing_before, |link| link.sha256.clone()),
            at: at.as_millisecond(),
            chains: count(heads),
            root: hex::encode(root_of(heads)),
            key_arn,
        }
    }

    /// What is signed: the RFC 8785 canonical form.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        // Strings and integers: canonical form exists for all of them.
        serde_json_canonicalizer::to_vec(self).unwrap_or_default()
    }

    /// The hash of what is signed: what KMS gets as `DIGEST`.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.canonical()).into()
    }

    /// What the next statement hangs on.
    #[must_use]
    pub fn link(&self) -> Link {
        Link { number: self.number, sha256: hex::encode(self.sha256()) }
    }

    /// What is wrong with it by itself.
    fn fault(&self) -> Option<CheckpointFault> {
        if self.version != VERSION {
            return Some(CheckpointFault::Version { found: self.version });
        }
        let is_first = self.number == 1;
        (self.number == 0 || is_first != (self.previous == nothing_before())).then_some(CheckpointFault::Unlinked)
    }
}

/// The newest checkpoint, by which the next one is chained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Link {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its statement's canonical form, in hexadecimal.
    pub sha256: String,
}

/// A checkpoint, as it lies in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Checkpoint {
    /// What is signed.
    pub statement: Statement,
    /// ECDSA over [`Statement::sha256`]: DER, in Base64.
    pub signature: String,
    /// What the root is over.
    pub heads: BTreeMap<AccountId, Head>,
}

impl Checkpoint {
    /// Where a checkpoint lies in the bucket, by its number and its day (UTC).
    #[must_use]
    pub fn key(number: u64, at: Timestamp) -> String {
        format!("{}{number:012}.json", Self::folder(at))
    }

    /// What the keys of the checkpoints of a day (UTC) begin with.
    #[must_use]
    pub fn folder(at: Timestamp) -> String {
        let day = at.to_zoned(jiff::tz::TimeZone::UTC);
        format!("{PREFIX}{:04}/{:02}/{:02}/", day.year(), day.month(), day.day())
    }

    /// What does not fit together in it. The signature is not looked at.
    #[must_use]
    pub fn fault(&self) -> Option<CheckpointFault> {
        let (statement, found) = (&self.statement, count(&self.heads));
        statement.fault().or_else(|| {
            if statement.chains != found {
                Some(CheckpointFault::Count { said: statement.chains, found })
            } else {
                (statement.root != hex::encode(root_of(&self.heads))).then_some(CheckpointFault::Root)
            }
        })
    }

    /// The part of it that is about one account.
    #[must_use]
    pub fn extract(&self, account: &AccountId) -> Extract {
        let head = self.heads.get(account).cloned();
        let entry = head.zip(proof(&self.heads, account)).map(|(head, proof)| Entry { head, proof });
        Extract { statement: self.statement.clone(), signature: self.signature.clone(), entry }
    }
}

/// What the auditor of one account gets of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Extract {
    /// What is signed.
    pub statement: Statement,
    /// As in [`Checkpoint`].
    pub signature: String,
    /// The account's head, and the proof that it is under the root; none when the account had no chain then.
    pub entry: Option<Entry>,
}

/// A head under a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Where the chain ended.
    pub head: Head,
    /// That the root is over it.
    pub proof: Proof,
}

impl Extract {
    /// What does not fit together in it. The signature is not looked at.
    #[must_use]
    pub fn fault(&self, account: &AccountId) -> Option<CheckpointFault> {
        self.statement.fault().or_else(|| {
            let entry = self.entry.as_ref()?;
            let said = self.statement.chains;
            if entry.proof.size != said {
                return Some(CheckpointFault::Count { said, found: entry.proof.size });
            }
            let root = entry.proof.root(account, &entry.head).map(hex::encode);
            (root.as_ref() != Some(&self.statement.root)).then_some(CheckpointFault::Root)
        })
    }
}

/// Why a checkpoint does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFault {
    /// Its form is of another release.
    #[error("is of version {found}, which this release does not know")]
    Version {
        /// The version that it says.
        found: u32,
    },
    /// It is not over as many heads as it says.
    #[error("says that it is over {said} chains, and has {found}")]
    Count {
        /// What is signed.
        said: u64,
        /// What is there.
        found: u64,
    },
    /// Its heads do not give its root: one of them was altered, added or left out.
    #[error("has a root that its heads do not give: a head was altered")]
    Root,
    /// Its number does not follow.
    #[error("does not follow: number {expected} should stand here")]
    Number {
        /// The number that should stand here.
        expected: u64,
    },
    /// It does not hang on the statement before it.
    #[error("does not hang on the checkpoint before it: one of the two was replaced")]
    Unlinked,
    /// It says that it was made before the one before it.
    #[error("says that it is older than the checkpoint before it")]
    Earlier,
    /// It is of another ledger.
    #[error("is of another administrator account or Region than the checkpoint before it")]
    Foreign,
}

/// Whether a statement is the next one after another.
///
/// # Errors
/// When it is not.
pub fn follows(before: &Statement, after: &Statement) -> Result<(), CheckpointFault> {
    let expected = before.number.saturating_add(1);
    if (&after.administrator_id, &after.region) != (&before.administrator_id, &before.region) {
        Err(CheckpointFault::Foreign)
    } else if after.number != expected {
        Err(CheckpointFault::Number { expected })
    } else if after.previous != before.link().sha256 {
        Err(CheckpointFault::Unlinked)
    } else if after.at < before.at {
        Err(CheckpointFault::Earlier)
    } else {
        Ok(())
    }
}

/// That a head is one of those that a root is over: the hashes beside its way to the root (RFC 6962, 2.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Proof {
    /// The head's place among all, by account id, from 0.
    pub index: u64,
    /// How many heads there are.
    pub size: u64,
    /// The hashes, in hexadecimal; the one beside the head is the first.
    pub path: Vec<String>,
}

impl Proof {
    /// The root that this head has with this proof; `None` when the proof has no form.
    #[must_use]
    pub fn root(&self, account: &AccountId, head: &Head) -> Option<[u8; 32]> {
        let (index, size) = (usize::try_from(self.index).ok()?, usize::try_from(self.size).ok()?);
        climb(index, size, &self.path, leaf(account, head))
    }
}

/// The proof that the head of an account is one of these; `None` when it is not.
#[must_use]
pub fn proof(heads: &BTreeMap<AccountId, Head>, account: &AccountId) -> Option<Proof> {
    let index = heads.keys().position(|one| one == account)?;
    let path = beside(index, &leaves(heads)).iter().map(hex::encode).collect();
    Some(Proof { index: u64::try_from(index).ok()?, size: count(heads), path })
}

/// The Merkle tree hash of RFC 6962 over the hashes of leaves.
#[must_use]
pub fn merkle_root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest(b"").into(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(left_of(more.len()));
            node(&merkle_root(left), &merkle_root(right))
        }
    }
}

fn root_of(heads: &BTreeMap<AccountId, Head>) -> Hash {
    merkle_root(&leaves(heads))
}

fn leaves(heads: &BTreeMap<AccountId, Head>) -> Vec<Hash> {
    heads.iter().map(|(account, head)| leaf(account, head)).collect()
}

fn leaf(account: &AccountId, head: &Head) -> Hash {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Leaf<'a> {
        account_id: &'a AccountId,
        seq: u64,
        hash: &'a str,
    }
    let leaf = Leaf { account_id: account, seq: head.seq, hash: &head.hash };
    // Strings and an integer, as in a statement.
    let bytes = serde_json_canonicalizer::to_vec(&leaf).unwrap_or_default();
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// How many of at least two leaves are on the left: the largest power of two that is smaller.
const fn left_of(size: usize) -> usize {
    1 << (usize::BITS - 1 - (size - 1).leading_zeros())
}

/// The hashes beside a leaf's way to the root, from below.
fn beside(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(left_of(leaves.len()));
    let (mut below, sibling) = match index.checked_sub(left.len()) {
        None => (beside(index, left), merkle_root(right)),
        Some(index) => (beside(index, right), merkle_root(left)),
    };
    below.push(sibling);
    below
}

/// The root above a leaf. Sizes and paths are somebody else's: what does not fit has none.
fn climb(index: usize, size: usize, path: &[String], leaf: Hash) -> Option<Hash> {
    match (size, path.split_last()) {
        (1, None) => (index == 0).then_some(leaf),
        (2.., Some((sibling, below))) => {
            let mut beside = [0; 32];
            hex::decode_to_slice(sibling, &mut beside).ok()?;
            let left = left_of(size);
            match index.checked_sub(left) {
                None => Some(node(&climb(index, left, below, leaf)?, &beside)),
                Some(index) => Some(node(&beside, &climb(index, size - left, below, leaf)?)),
            }
        }
        _ => None,
    }
}

fn count(heads: &BTreeMap<AccountId, Head>) -> u64 {
    u64::try_from(heads.len()).unwrap_or(u64::MAX)
}

/// What the first statement has as its `Previous`.
fn nothing_before() -> String {
    "0".repeat(64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ledger::sha256_hex;
    use proptest::prelude::*;

    const AT: i64 = 1_772_355_600_000;

    fn account(number: usize) -> AccountId {
        format!("{number:012}").parse().unwrap()
    }

    fn head(seq: u64) -> Head {
        Head { seq, hash: sha256_hex(&seq.to_be_bytes()) }
    }

    fn heads(count: usize) -> BTreeMap<AccountId, Head> {
        (0..count).map(|number| (account(number * 7), head(number as u64 * 3 + 1))).collect()
    }

    fn statement(before: Option<&Link>, heads: &BTreeMap<AccountId, Head>, at: i64) -> Statement {
        Statement::of(
            "111111111111".parse().unwrap(),
            "eu-central-1".parse().unwrap(),
            "arn:aws:kms:eu-central-1:111111111111:key/1b2c".to_owned(),
            before,
            heads,
            Timestamp::from_millisecond(at).unwrap(),
        )
    }

    fn checkpoint(heads: BTreeMap<AccountId, Head>) -> Checkpoint {
        Checkpoint { statement: statement(None, &heads, AT), signature: String::new(), heads }
    }

    #[test]
    fn what_is_signed_is_canonical_json_and_does_not_change() {
        let link = Link { number: 41, sha256: "ab".repeat(32) };
        let text = format!(
            concat!(
                r#"{{"AdministratorId":"111111111111","At":1772355600000,"Chains":0,"#,
                r#""KeyArn":"arn:aws:kms:eu-central-1:111111111111:key/1b2c","Number":42,"#,
                r#""Previous":"{}","Region":"eu-central-1","Root":"{}","Version":1}}"#,
            ),
            "ab".repeat(32),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        let statement = statement(Some(&link), &BTreeMap::new(), AT);
        assert_eq!(String::from_utf8(statement.canonical()).unwrap(), text);
        assert_eq!(hex::encode(statement.sha256()), sha256_hex(text.as_bytes()));
        assert_eq!(statement.link(), Link { number: 42, sha256: sha256_hex(text.as_bytes()) });
        // What was read from JSON in any order is the same.
        let read: Statement = serde_json::from_str(&text).unwrap();
        assert_eq!(read, statement);
    }

    #[test]
    fn a_leaf_is_the_hash_of_canonical_json_behind_a_zero_byte() {
        let text = format!(r#"{{"AccountId":"000000000007","Hash":"{}","Seq":4}}"#, head(4).hash);
        let hash = sha256_hex(&[&[0_u8][..], text.as_bytes()].concat());
        assert_eq!(hex::encode(leaf(&account(7), &head(4))), hash);
        assert_eq!(statement(None, &BTreeMap::from([(account(7), head(4))]), AT).root, hash);
    }

    /// The roots that implementations of Certificate Transparency are tested with.
    #[test]
    fn the_tree_is_that_of_rfc_6962() {
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves: Vec<Hash> =
            inputs.iter().map(|input| Sha256::digest([vec![0], hex::decode(input).unwrap()].concat()).into()).collect();
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(hex::encode(merkle_root(&leaves[..size])), *root, "{size} leaves");
        }
    }

    #[test]
    fn a_checkpoint_lies_under_its_day_in_utc() {
        let at = "2026-03-01T23:30:00-05:00".parse().unwrap();
        assert_eq!(Checkpoint::key(42, at), "checkpoints/2026/03/02/000000000042.json");
    }

    #[test]
    fn the_first_checkpoint_has_nothing_before_it_and_no_other_has() {
        let good = checkpoint(heads(3));
        assert_eq!(good.fault(), None);
        assert_eq!((good.statement.number, good.statement.previous.as_str()), (1, "0".repeat(64).as_str()));
        let altered = |number: u64, previous: String| {
            let mut altered = good.clone();
            (altered.statement.number, altered.statement.previous) = (number, previous);
            altered.fault()
        };
        assert_eq!(altered(0, "0".repeat(64)), Some(CheckpointFault::Unlinked));
        assert_eq!(altered(2, "0".repeat(64)), Some(CheckpointFault::Unlinked));
        assert_eq!(altered(1, "ab".repeat(32)), Some(CheckpointFault::Unlinked));
        assert_eq!(altered(2, "ab".repeat(32)), None);
    }

    #[test]
    fn a_form_of_another_release_is_not_taken_for_this_one() {
        let mut newer = checkpoint(heads(2));
        newer.statement.version = 2;
        assert_eq!(newer.fault(), Some(CheckpointFault::Version { found: 2 }));
        assert_eq!(newer.extract(&account(0)).fault(&account(0)), Some(CheckpointFault::Version { found: 2 }));
    }

    #[test]
    fn statements_follow_one_another_or_it_is_said_why_not() {
        let before = statement(None, &heads(2), AT);
        let after = statement(Some(&before.link()), &heads(3), AT + 900_000);
        assert_eq!(follows(&before, &after), Ok(()));
        assert_eq!(follows(&before, &before), Err(CheckpointFault::Number { expected: 2 }));
        assert_eq!(follows(&after, &before), Err(CheckpointFault::Number { expected: 3 }));
        let with = |change: fn(&mut Statement)| {
            let mut other = after.clone();
            change(&mut other);
            follows(&before, &other)
        };
        assert_eq!(with(|other| other.number = 3), Err(CheckpointFault::Number { expected: 2 }));
        assert_eq!(with(|other| other.previous = "ab".repeat(32)), Err(CheckpointFault::Unlinked));
        assert_eq!(with(|other| other.at = AT - 1), Err(CheckpointFault::Earlier));
        assert_eq!(with(|other| other.at = AT), Ok(()));
        assert_eq!(with(|other| other.administrator_id = account(3)), Err(CheckpointFault::Foreign));
        assert_eq!(with(|other| other.region = "eu-west-1".parse().unwrap()), Err(CheckpointFault::Foreign));
    }

    #[test]
    fn an_extract_without_the_account_has_no_entry() {
        let whole = checkpoint(heads(3));
        let extract = whole.extract(&account(5));
        assert_eq!((extract.entry.clone(), extract.fault(&account(5))), (None, None));
        assert_eq!(proof(&whole.heads, &account(5)), None);
    }

    #[test]
    fn a_proof_without_form_gives_no_root() {
        let hash = "ab".repeat(32);
        let proof = |index: u64, size: u64, path: &[&str]| {
            let path = path.iter().map(|&hash| hash.to_owned()).collect();
            Proof { index, size, path }.root(&account(0), &head(1))
        };
        let (none, one, short): (&[&str], &[&str], &[&str]) = (&[], &[hash.as_str()], &["ab"]);
        assert!(proof(0, 1, none).is_some() && proof(1, 2, one).is_some());
        for (index, size, path) in [
            (0, 0, none),
            (1, 1, none),
            (0, 1, one),
            (0, 2, none),
            (2, 2, one),
            (0, 2, short),
            (0, u64::MAX, one),
            (u64::MAX, u64::MAX, one),
        ] {
            assert_eq!(proof(index, size, path), None, "{index} of {size} by {}", path.len());
        }
    }

    proptest! {
        #[test]
        fn any_altered_head_is_found(
            size in 1_usize..40, at in any::<prop::sample::Index>(), seq in 1_u64..1_000, salt in "[0-9a-f]{4}",
            which in 0..4_u8,
        ) {
            let mut altered = checkpoint(heads(size));
            let at = altered.heads.keys().nth(at.index(size)).unwrap().clone();
            match which {
                0 => altered.heads.get_mut(&at).unwrap().seq += seq,
                1 => altered.heads.get_mut(&at).unwrap().hash.push_str(&salt),
                2 => {
                    altered.heads.remove(&at);
                }
                _ => {
                    // The same head in the name of another account.
                    let head = altered.heads.remove(&at).unwrap();
                    altered.heads.insert(account(900_000), head);
                }
            }
            let found = altered.fault();
            prop_assert!(matches!(found, Some(CheckpointFault::Root | CheckpointFault::Count { .. })), "{found:?}");
        }

        #[test]
        fn any_altered_statement_is_missed_by_the_next(
            number in 2_u64..1_000, at in 1_i64..1_000_000, chains in 1_u64..1_000, root in "[0-9a-f]{64}",
            which in 0..5_u8,
        ) {
            let before = statement(Some(&Link { number: 1, sha256: "cd".repeat(32) }), &heads(3), AT);
            let after = statement(Some(&before.link()), &heads(3), AT + 2_000_000);
            let mut altered = before.clone();
            match which {
                0 => altered.number += number,
                1 => altered.at += at,
                2 => altered.chains += chains,
                3 => altered.root = root,
                _ => altered.previous = root,
            }
            prop_assert!(altered == before || follows(&altered, &after).is_err());
        }

        #[test]
        fn a_proof_holds_for_its_account_and_for_none_else(
            size in 1_usize..40, mine in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
        ) {
            let whole = checkpoint(heads(size));
            let pick = |index: prop::sample::Index| whole.heads.iter().nth(index.index(size)).unwrap();
            let ((mine, own), (other, others)) = (pick(mine), pick(other));
            let extract = whole.extract(mine);
            prop_assert_eq!(extract.fault(mine), None);
            let Some(Entry { proof, .. }) = &extract.entry else { panic!("no entry") };
            let root = |account: &AccountId, head: &Head| proof.root(account, head).map(hex::encode);
            let signed = Some(whole.statement.root.clone());
            prop_assert_eq!(root(mine, own), signed.clone());
            if mine != other {
                prop_assert!(extract.fault(other).is_some());
                for (account, head) in [(other, others), (mine, others), (other, own)] {
                    prop_assert!(root(account, head) != signed);
                }
            }
            let mut moved = extract.clone();
            moved.entry.as_mut().unwrap().head.seq += 1;
            prop_assert_eq!(moved.fault(mine), Some(CheckpointFault::Root));
            let mut resized = extract;
            resized.entry.as_mut().unwrap().proof.size += 1;
            prop_assert!(resized.fault(mine).is_some());
        }
    }
}
