//! `redress-checkpoint`: on a schedule, a signed statement of where all chains of the ledger end.
//!
//! Each run reads the heads of all chains, signs a Merkle root over them with a key that nobody who writes the ledger
//! may use, and stores that under a lock, also when nothing happened: that there is none is then told by itself. What a
//! checkpoint is and what fits together in it is in [`redress_common::checkpoint`]; here is only when one is made and
//! after which.
//!
//! | a run | calls |
//! |---|---|
//! | which is the newest | `BatchGetItem`, `ListObjectsV2`, `GetObject` |
//! | where the chains end | 2 `Query`, `BatchGetItem` per 90 chains |
//! | the next one | `Sign`, `PutObject` (create-only), `PutItem` |
//!
//! # What counts
//! The bucket does. Item `checkpoint` of the state table only says where in it to go on; whoever writes the ledger may
//! write that item, too, so it is believed as far as the bucket has what it names. A run that dies between the two
//! writes leaves a checkpoint that the item does not know: the next run finds it behind the one that is known, sees
//! that it follows, and goes on after it. Of two runs that meet, the create-only write lets one through; the other does
//! the same. What does not follow is somebody else's: the run fails, nothing is overwritten, and an alarm rings.
//!
//! A chain that ended further on in the checkpoint before than it does now was rewritten or cut off. That is told, and
//! the next checkpoint is made all the same: it is evidence.
//!
//! This module does not write the ledger, and its role cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{StoreError, TransactError};
use redress_common::aws::state_table::Expect;
use redress_common::checkpoint::{Checkpoint, CheckpointFault, Link, PREFIX, Statement, follows};
use redress_common::ids::{AccountId, Region};
use redress_common::items::checkpoint::Newest;
use redress_common::ledger::Head;
use redress_common::metrics;

use crate::report;

/// `BatchGetItem` takes 100 keys.
const KEYS: usize = 90;
/// How often a run begins anew when others store checkpoints meanwhile.
const ATTEMPTS: usize = 3;
/// So many checkpoints that the state table does not know are gone through in a run.
const UNKNOWN: usize = 100;

/// What lies at a place of the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A checkpoint, as far as its form goes.
    Checkpoint(Box<Checkpoint>),
    /// Something else; why it is none.
    Other(String),
}

/// What is needed of the world. [`crate::aws::checkpoint`] is the real one. No decision is made behind these: each is
/// one call, or one list.
pub trait Outside: Sync {
    /// The newest checkpoint that the state table knows.
    fn newest(&self) -> impl Future<Output = Result<Option<Newest>, StoreError>> + Send;

    /// Every account that has, or may have, a chain.
    fn accounts(&self) -> impl Future<Output = Result<Vec<AccountId>, AwsFailure>> + Send;

    /// Where the chains of these accounts end, read consistently; an account without a chain is left out.
    fn heads(
        &self,
        accounts: &[AccountId],
    ) -> impl Future<Output = Result<BTreeMap<AccountId, Head>, StoreError>> + Send;

    /// The keys of what lies in the bucket after this one, in their order, below [`PREFIX`].
    fn after(&self, key: &str) -> impl Future<Output = Result<Vec<String>, AwsFailure>> + Send;

    /// What lies there.
    fn read(&self, key: &str) -> impl Future<Output = Result<Found, AwsFailure>> + Send;

    /// A signature over a SHA-256, as DER.
    fn sign(&self, digest: [u8; 32]) -> impl Future<Output = Result<Vec<u8>, AwsFailure>> + Send;

    /// Stores a checkpoint where nothing lies. Whether it was stored; else something lies there.
    fn create(&self, key: &str, checkpoint: &Checkpoint) -> impl Future<Output = Result<bool, AwsFailure>> + Send;

    /// Writes down which checkpoint is the newest, if what was read still holds.
    fn keep(&self, newest: &Newest, read: Expect) -> impl Future<Output = Result<(), TransactError>> + Send;
}

/// Whose ledger it is, and who signs.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// The administrator account.
    pub administrator: AccountId,
    /// The hub's Region.
    pub region: Region,
    /// The key that signs.
    pub key_arn: String,
}

/// A checkpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// AWS does not answer.
    #[error(transparent)]
    Aws(#[from] AwsFailure),
    /// The state table does not answer, or its item is not readable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be written down.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// The state table names a checkpoint that the bucket does not have so.
    #[error(
        "item `checkpoint` names checkpoint {number}, and `{key}` {problem}; find out who changed one of them. Without \
         the item the next run goes on after the newest checkpoint of the bucket"
    )]
    Astray {
        /// The checkpoint's number.
        number: u64,
        /// Where it should lie.
        key: String,
        /// What is wrong there.
        problem: String,
    },
    /// Where the next checkpoint belongs lies something else.
    #[error("`{key}` is no checkpoint that this function made: {problem}; nothing was overwritten")]
    Foreign {
        /// Where.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More was stored than one run goes through.
    #[error("{UNKNOWN} checkpoints that item `checkpoint` did not know were gone through; the next run goes on there")]
    Behind,
    /// Other runs were always faster.
    #[error("other runs stored checkpoints {ATTEMPTS} times meanwhile; the next one tries again")]
    Overtaken,
}

/// What a run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Where it lies.
    pub key: String,
    /// Its number.
    pub number: u64,
    /// The chains that do not go on from where the checkpoint before says that they ended.
    pub gone_back: Vec<AccountId>,
}

/// The function.
#[derive(Debug)]
pub struct Checkpoints<O> {
    outside: O,
    ledger: Ledger,
    /// Our own name.
    function: String,
}

/// The checkpoint that the next one hangs on.
struct Last {
    key: String,
    checkpoint: Checkpoint,
}

impl Last {
    fn newest(&self) -> Newest {
        let Link { number, sha256 } = self.checkpoint.statement.link();
        Newest { number, sha256, at: self.checkpoint.statement.at, version: number }
    }
}

impl<O: Outside> Checkpoints<O> {
    /// One that acts through `outside`, as `function`.
    #[must_use]
    pub const fn new(outside: O, ledger: Ledger, function: String) -> Self {
        Self { outside, ledger, function }
    }

    /// Makes the next checkpoint.
    ///
    /// # Errors
    /// When none was made, or it was not written down. Running again is always right.
    pub async fn run(&self, now: Timestamp) -> Result<Made, CheckpointError> {
        for _ in 0..ATTEMPTS {
            let read = self.outside.newest().await?;
            let last = self.last(read.as_ref()).await?;
            // What was read is what a write is conditioned on; who caught up has written since.
            let known = last.as_ref().map(Last::newest);
            if known != read
                && let Some(newest) = &known
                && !self.keep(newest, read.as_ref()).await?
            {
                continue;
            }
            if let Some(made) = self.next(last.as_ref(), now).await? {
                return Ok(made);
            }
        }
        Err(CheckpointError::Overtaken)
    }

    /// The newest checkpoint of the bucket, from the one that the state table knows on.
    async fn last(&self, known: Option<&Newest>) -> Result<Option<Last>, CheckpointError> {
        let mut last = match known {
            Some(newest) => Some(self.known(newest).await?),
            None => None,
        };
        let from = last.as_ref().map_or(PREFIX, |last| last.key.as_str());
        let mut keys = self.outside.after(from).await?;
        if last.is_none() {
            // Nobody knows which was the newest: the bucket does.
            keys = keys.pop().into_iter().collect();
            if let Some(key) = keys.first() {
                tracing::warn!(%key, "item `checkpoint` is not there; the newest one of the bucket is taken");
            }
        }
        let is_behind = keys.len() > UNKNOWN;
        for key in keys.into_iter().take(UNKNOWN) {
            let checkpoint = self.follower(&key, last.as_ref()).await?;
            tracing::info!(%key, "stored by a run that did not write it down");
            last = Some(Last { key, checkpoint });
        }
        if is_behind && let Some(last) = &last {
            self.keep(&last.newest(), known).await?;
            return Err(CheckpointError::Behind);
        }
        Ok(last)
    }

    /// The checkpoint that the state table names.
    async fn known(&self, newest: &Newest) -> Result<Last, CheckpointError> {
        let at = Timestamp::from_millisecond(newest.at).unwrap_or_default();
        let key = Checkpoint::key(newest.number, at);
        let astray = |problem: &str| {
            let (key, problem) = (key.clone(), problem.to_owned());
            CheckpointError::Astray { number: newest.number, key, problem }
        };
        match self.outside.read(&key).await? {
            Found::Nothing => Err(astray("is not there")),
            Found::Other(why) => Err(astray(&format!("is no checkpoint ({why})"))),
            Found::Checkpoint(checkpoint) => {
                let link = Link { number: newest.number, sha256: newest.sha256.clone() };
                match checkpoint.fault() {
                    Some(fault) => Err(astray(&fault.to_string())),
                    None if checkpoint.statement.link() != link => Err(astray("has another hash")),
                    None => Ok(Last { key, checkpoint: *checkpoint }),
                }
            }
        }
    }

    /// What lies at a key, which must be the next checkpoint after this one; when there is no such one, any of this
    /// ledger.
    async fn follower(&self, key: &str, before: Option<&Last>) -> Result<Checkpoint, CheckpointError> {
        let foreign = |problem: String| CheckpointError::Foreign { key: key.to_owned(), problem };
        let checkpoint = match self.outside.read(key).await? {
            Found::Checkpoint(checkpoint) => *checkpoint,
            Found::Nothing => return Err(foreign("it is listed and not there".to_owned())),
            Found::Other(why) => return Err(foreign(why)),
        };
        let statement = &checkpoint.statement;
        let own = (&self.ledger.administrator, &self.ledger.region);
        let fault = checkpoint.fault().or_else(|| match before {
            Some(last) => follows(&last.checkpoint.statement, statement).err(),
            None => ((&statement.administrator_id, &statement.region) != own).then_some(CheckpointFault::Foreign),
        });
        if let Some(fault) = fault {
            return Err(foreign(format!("it {fault}")));
        }
        let at = Timestamp::from_millisecond(statement.at).unwrap_or_default();
        if Checkpoint::key(statement.number, at) != key {
            return Err(foreign("it belongs elsewhere, by its number and its day".to_owned()));
        }
        Ok(checkpoint)
    }

    /// Signs and stores the checkpoint after this one; `None` when something lies there meanwhile.
    async fn next(&self, last: Option<&Last>, now: Timestamp) -> Result<Option<Made>, CheckpointError> {
        let before = last.map(|last| &last.checkpoint);
        let heads = self.heads(before).await?;
        let gone_back = before.map(|before| gone_back(&before.heads, &heads)).unwrap_or_default();
        // A clock that was set back must not have a checkpoint sorted before its predecessor.
        let earliest = before.and_then(|before| Timestamp::from_millisecond(before.statement.at).ok());
        let at = earliest.map_or(now, |earliest| earliest.max(now));
        let Ledger { administrator, region, key_arn } = self.ledger.clone();
        let link = before.map(|before| before.statement.link());
        let statement = Statement::of(administrator, region, key_arn, link.as_ref(), &heads, at);
        let signature = STANDARD.encode(self.outside.sign(statement.sha256()).await?);
        let key = Checkpoint::key(statement.number, at);
        let checkpoint = Checkpoint { statement, signature, heads };
        if !self.outside.create(&key, &checkpoint).await? {
            tracing::info!(%key, "something lies there already");
            return Ok(None);
        }
        self.tell(&key, &checkpoint, before, &gone_back, now);
        let read = last.map(Last::newest);
        let made = Last { key, checkpoint };
        // Whoever wrote the item meanwhile found this one, and went on after it.
        self.keep(&made.newest(), read.as_ref()).await?;
        Ok(Some(Made { number: made.checkpoint.statement.number, key: made.key, gone_back }))
    }

    /// Where all chains end: those that are known now, and those of the checkpoint before, which must not vanish.
    async fn heads(&self, before: Option<&Checkpoint>) -> Result<BTreeMap<AccountId, Head>, CheckpointError> {
        let mut accounts: BTreeSet<AccountId> = self.outside.accounts().await?.into_iter().collect();
        accounts.insert(self.ledger.administrator.clone());
        accounts.extend(before.into_iter().flat_map(|before| before.heads.keys().cloned()));
        let accounts: Vec<AccountId> = accounts.into_iter().collect();
        let mut heads = BTreeMap::new();
        for some in accounts.chunks(KEYS) {
            heads.extend(self.outside.heads(some).await?);
        }
        Ok(heads)
    }

    /// Writes down which one is the newest. Whether that was done; else another run wrote since.
    async fn keep(&self, newest: &Newest, read: Option<&Newest>) -> Result<bool, CheckpointError> {
        let expect = read.map_or(Expect::Absent, |read| Expect::Version(read.version));
        match self.outside.keep(newest, expect).await {
            Ok(()) => Ok(true),
            // Also an answer that was lost: the SDK wrote it twice.
            Err(TransactError::AlsoLost(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn tell(&self, key: &str, made: &Checkpoint, before: Option<&Checkpoint>, gone_back: &[AccountId], now: Timestamp) {
        let seq = |of: Option<&Checkpoint>, account: &AccountId| Some(of?.heads.get(account)?.seq);
        for account in gone_back {
            let (was, is) = (seq(before, account), seq(Some(made), account));
            tracing::error!(%account, was, is, %key, "the chain does not go on from where it ended: it was rewritten");
        }
        if !gone_back.is_empty() {
            let count = u32::try_from(gone_back.len()).unwrap_or(u32::MAX);
            report::metric(&report::many(&metrics::CHAINS_GONE_BACK, count, &self.function, now));
        }
        tracing::info!(%key, number = made.statement.number, chains = made.statement.chains, "checkpoint stored");
        report::metric(&report::count(&metrics::CHECKPOINTS, &self.function, now));
    }
}

/// The accounts whose chains were further on before, ended elsewhere at the same place, or are not there any more.
fn gone_back(before: &BTreeMap<AccountId, Head>, now: &BTreeMap<AccountId, Head>) -> Vec<AccountId> {
    let lost = before.iter().filter(|(account, was)| now.get(*account).is_none_or(|is| !goes_on(was, is)));
    lost.map(|(account, _)| account.clone()).collect()
}

/// Whether a chain that ended at `was` may end at `is` now.
fn goes_on(was: &Head, is: &Head) -> bool {
    is.seq > was.seq || is == was
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
