#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use redress_common::aws::state_table::{StateKey, encode};
use redress_common::ledger::sha256_hex;

use super::*;

const T0: &str = "2026-03-01T12:00:00Z";
const EVENING: &str = "2026-03-01T23:59:50Z";
const MORNING: &str = "2026-03-02T00:14:50Z";

/// State table, bucket and key in memory.
#[derive(Default)]
struct World(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    item: Option<Newest>,
    heads: BTreeMap<AccountId, Head>,
    /// Accounts whose heads the index does not have.
    unlisted: BTreeSet<AccountId>,
    objects: BTreeMap<String, Found>,
    signed: usize,
    /// How many keys were asked for at a time.
    batches: Vec<usize>,
    /// The item cannot be written, so often.
    unwritable: usize,
    /// Stored by another run just before this one would.
    rival: Option<(String, Checkpoint)>,
}

impl World {
    fn of(chains: u64) -> Self {
        let world = Self::default();
        for number in 0..chains {
            world.append(&account(number), 1);
        }
        world
    }

    /// Appends so many records to a chain.
    fn append(&self, account: &AccountId, records: u64) {
        let mut inner = self.0.lock().unwrap();
        let seq = inner.heads.get(account).map_or(0, |head| head.seq) + records;
        inner.heads.insert(account.clone(), head(seq));
    }

    fn put(&self, account: &AccountId, head: Option<Head>) {
        let mut inner = self.0.lock().unwrap();
        match head {
            Some(head) => drop(inner.heads.insert(account.clone(), head)),
            None => drop(inner.heads.remove(account)),
        }
    }

    /// The checkpoint at a key, as it is stored.
    fn checkpoint(&self, key: &str) -> Checkpoint {
        match self.0.lock().unwrap().objects.get(key) {
            Some(Found::Checkpoint(checkpoint)) => (**checkpoint).clone(),
            other => panic!("{key}: {other:?}"),
        }
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    fn item(&self) -> Option<Newest> {
        self.0.lock().unwrap().item.clone()
    }

    /// The same once more, of its own.
    fn copy(&self) -> Self {
        let inner = self.0.lock().unwrap();
        let (item, heads, objects) = (inner.item.clone(), inner.heads.clone(), inner.objects.clone());
        Self(Mutex::new(Inner { item, heads, objects, ..Inner::default() }))
    }
}

fn failure() -> AwsFailure {
    AwsFailure::partial("dynamodb:PutItem", "the process died")
}

impl Outside for &World {
    async fn newest(&self) -> Result<Option<Newest>, StoreError> {
        Ok(self.item())
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, AwsFailure> {
        let inner = self.0.lock().unwrap();
        Ok(inner.heads.keys().filter(|account| !inner.unlisted.contains(*account)).cloned().collect())
    }

    async fn heads(&self, accounts: &[AccountId]) -> Result<BTreeMap<AccountId, Head>, StoreError> {
        let mut inner = self.0.lock().unwrap();
        inner.batches.push(accounts.len());
        let of = |account: &AccountId| Some((account.clone(), inner.heads.get(account)?.clone()));
        Ok(accounts.iter().filter_map(of).collect())
    }

    async fn after(&self, key: &str) -> Result<Vec<String>, AwsFailure> {
        Ok(self.keys().into_iter().filter(|one| one.starts_with(PREFIX) && one.as_str() > key).collect())
    }

    async fn read(&self, key: &str) -> Result<Found, AwsFailure> {
        Ok(self.0.lock().unwrap().objects.get(key).cloned().unwrap_or(Found::Nothing))
    }

    async fn sign(&self, digest: [u8; 32]) -> Result<Vec<u8>, AwsFailure> {
        self.0.lock().unwrap().signed += 1;
        Ok(digest.to_vec())
    }

    async fn create(&self, key: &str, checkpoint: &Checkpoint) -> Result<bool, AwsFailure> {
        let mut inner = self.0.lock().unwrap();
        if let Some((key, rival)) = inner.rival.take() {
            inner.objects.insert(key, Found::Checkpoint(Box::new(rival)));
        }
        if inner.objects.contains_key(key) {
            return Ok(false);
        }
        inner.objects.insert(key.to_owned(), Found::Checkpoint(Box::new(checkpoint.clone())));
        Ok(true)
    }

    async fn keep(&self, newest: &Newest, read: Expect) -> Result<(), TransactError> {
        let mut inner = self.0.lock().unwrap();
        if inner.unwritable > 0 {
            inner.unwritable -= 1;
            return Err(StoreError::from(failure()).into());
        }
        let stored = inner.item.as_ref().map(|item| encode(&StateKey::Checkpoint, item).unwrap());
        if !read.holds(stored.as_ref()) {
            return Err(TransactError::AlsoLost(StateKey::Checkpoint));
        }
        inner.item = Some(newest.clone());
        Ok(())
    }
}

fn account(number: u64) -> AccountId {
    format!("{:012}", 200_000_000_000 + number).parse().unwrap()
}

fn head(seq: u64) -> Head {
    Head { seq, hash: sha256_hex(&seq.to_be_bytes()) }
}

fn administrator() -> AccountId {
    "111111111111".parse().unwrap()
}

fn checkpoints(world: &World) -> Checkpoints<&World> {
    let ledger = Ledger {
        administrator: administrator(),
        region: "eu-central-1".parse().unwrap(),
        key_arn: "arn:aws:kms:eu-central-1:111111111111:key/1b2c".to_owned(),
    };
    Checkpoints::new(world, ledger, "redress-checkpoint".to_owned())
}

async fn run_at(world: &World, at: &str) -> Result<Made, CheckpointError> {
    checkpoints(world).run(at.parse().unwrap()).await
}

async fn run(world: &World) -> Made {
    run_at(world, T0).await.unwrap()
}

/// That the bucket has checkpoints from 1 on, each after the other, and the item knows the last.
fn is_whole(world: &World, count: u64) {
    let all: Vec<Checkpoint> = world.keys().iter().map(|key| world.checkpoint(key)).collect();
    let numbers: Vec<u64> = all.iter().map(|one| one.statement.number).collect();
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    for pair in all.windows(2) {
        assert_eq!(follows(&pair[0].statement, &pair[1].statement), Ok(()));
    }
    assert!(all.iter().all(|one| one.fault().is_none()));
    let last = all.last().unwrap().statement.link();
    assert_eq!(world.item().map(|item| (item.number, item.sha256)), Some((last.number, last.sha256)));
}

#[tokio::test]
async fn there_is_a_checkpoint_also_of_no_chain_and_when_nothing_happened() {
    let world = World::of(0);
    let first = run(&world).await;
    assert_eq!((first.number, first.key.as_str()), (1, "checkpoints/2026/03/01/000000000001.json"));
    let stored = world.checkpoint(&first.key);
    assert_eq!((stored.statement.chains, stored.statement.previous.as_str()), (0, "0".repeat(64).as_str()));
    assert_eq!(run(&world).await.number, 2);
    world.append(&account(1), 3);
    let third = run(&world).await;
    let stored = world.checkpoint(&third.key);
    assert_eq!(stored.heads, BTreeMap::from([(account(1), head(3))]));
    assert_eq!(stored.signature, STANDARD.encode(stored.statement.sha256()), "what was signed is what is stored");
    is_whole(&world, 3);
    assert_eq!(run(&world).await.gone_back, []);
}

#[tokio::test]
async fn every_chain_of_two_thousand_is_in_it_and_is_read_in_batches() {
    let world = World::of(2000);
    world.append(&administrator(), 7);
    let made = run(&world).await;
    let stored = world.checkpoint(&made.key);
    assert_eq!((stored.statement.chains, stored.heads.len()), (2001, 2001));
    assert_eq!(stored.heads[&administrator()], head(7));
    let batches = world.0.lock().unwrap().batches.clone();
    assert!(batches.iter().all(|keys| *keys <= 100) && batches.iter().sum::<usize>() == 2001, "{batches:?}");
}

#[tokio::test]
async fn a_chain_that_was_in_a_checkpoint_is_asked_for_though_no_index_has_it() {
    let world = World::of(2);
    run(&world).await;
    world.0.lock().unwrap().unlisted = [account(0), account(1)].into();
    let made = run(&world).await;
    assert_eq!((world.checkpoint(&made.key).statement.chains, made.gone_back), (2, vec![]));
}

#[tokio::test]
async fn a_run_that_dies_before_it_writes_down_what_it_stored_is_gone_on_after() {
    for later in [EVENING, MORNING] {
        let world = World::of(1);
        run(&world).await;
        world.0.lock().unwrap().unwritable = 1;
        let died = run_at(&world, EVENING).await.unwrap_err();
        assert!(matches!(died, CheckpointError::Transact(_)), "{died}");
        assert_eq!((world.keys().len(), world.item().unwrap().number), (2, 1));
        let orphan = world.checkpoint(&world.keys()[1]);
        world.append(&account(0), 1);
        assert_eq!(run_at(&world, later).await.unwrap().number, 3);
        assert_eq!(world.checkpoint(&world.keys()[1]), orphan, "it stays as it was");
        is_whole(&world, 3);
    }
}

#[tokio::test]
async fn a_run_that_died_in_the_very_first_checkpoint_is_gone_on_after() {
    let world = World::of(1);
    world.0.lock().unwrap().unwritable = 1;
    run_at(&world, T0).await.unwrap_err();
    assert_eq!(run_at(&world, MORNING).await.unwrap().number, 2);
    is_whole(&world, 2);
}

#[tokio::test]
async fn of_two_runs_that_meet_the_later_one_goes_on_after_the_other() {
    let world = World::of(1);
    run(&world).await;
    let other = world.copy();
    let rival = run(&other).await;
    world.0.lock().unwrap().rival = Some((rival.key.clone(), other.checkpoint(&rival.key)));
    assert_eq!(run(&world).await.number, 3);
    assert_eq!(world.checkpoint(&rival.key), other.checkpoint(&rival.key));
    is_whole(&world, 3);
}

#[tokio::test]
async fn what_is_no_follower_is_told_and_neither_overwritten_nor_gone_on_after() {
    let world = World::of(1);
    run(&world).await;
    let key = "checkpoints/2026/03/01/000000000002.json";
    let strange = World::of(3);
    run(&strange).await;
    let of_another = run(&strange).await;
    let unlinked = strange.checkpoint(&of_another.key);
    let mut altered = {
        let copy = world.copy();
        run(&copy).await;
        copy.checkpoint(key)
    };
    altered.heads.insert(account(0), head(9));
    let checkpoint = |one: &Checkpoint| Found::Checkpoint(Box::new(one.clone()));
    for (object, says) in [
        (checkpoint(&unlinked), "hang"),
        (checkpoint(&altered), "a head was altered"),
        (Found::Other("not JSON".to_owned()), "not JSON"),
    ] {
        world.0.lock().unwrap().objects.insert(key.to_owned(), object.clone());
        let (item, signed) = (world.item(), world.0.lock().unwrap().signed);
        let error = run_at(&world, T0).await.unwrap_err();
        assert!(matches!(&error, CheckpointError::Foreign { key: told, .. } if told == key), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        let inner = world.0.lock().unwrap();
        assert_eq!((&inner.objects[key], inner.objects.len()), (&object, 2));
        assert_eq!((&inner.item, inner.signed), (&item, signed));
    }
}

#[tokio::test]
async fn a_follower_that_lies_elsewhere_is_none() {
    let world = World::of(1);
    run(&world).await;
    let copy = world.copy();
    let next = copy.checkpoint(&run(&copy).await.key);
    let elsewhere = "checkpoints/2026/03/05/000000000002.json";
    world.0.lock().unwrap().objects.insert(elsewhere.to_owned(), Found::Checkpoint(Box::new(next)));
    let error = run_at(&world, T0).await.unwrap_err();
    assert!(matches!(&error, CheckpointError::Foreign { key, .. } if key == elsewhere), "{error}");
}

#[tokio::test]
async fn a_chain_that_was_rewritten_cut_off_or_taken_away_is_told_and_the_checkpoint_is_made() {
    let other = Head { seq: 5, hash: "f".repeat(64) };
    for (now, is_told) in
        [(Some(head(5)), false), (Some(head(6)), false), (Some(head(4)), true), (Some(other), true), (None, true)]
    {
        let world = World::of(3);
        world.put(&account(1), Some(head(5)));
        run(&world).await;
        world.put(&account(1), now.clone());
        let made = run(&world).await;
        assert_eq!(made.gone_back, if is_told { vec![account(1)] } else { vec![] }, "{now:?}");
        assert_eq!(world.checkpoint(&made.key).heads.get(&account(1)), now.as_ref(), "it says what is");
        is_whole(&world, 2);
    }
}

#[tokio::test]
async fn when_the_item_is_lost_the_newest_checkpoint_of_the_bucket_counts() {
    let world = World::of(1);
    for _ in 0..3 {
        run(&world).await;
    }
    world.0.lock().unwrap().item = None;
    assert_eq!(run_at(&world, MORNING).await.unwrap().number, 4);
    is_whole(&world, 4);
}

#[tokio::test]
async fn an_item_that_names_what_the_bucket_does_not_have_is_not_believed() {
    let world = World::of(1);
    run(&world).await;
    let good = world.item().unwrap();
    for bad in [
        Newest { number: 9, version: 9, ..good.clone() },
        Newest { sha256: "a".repeat(64), ..good.clone() },
        Newest { at: good.at + 86_400_000, ..good.clone() },
        Newest { at: i64::MAX, ..good },
    ] {
        world.0.lock().unwrap().item = Some(bad.clone());
        let error = run_at(&world, T0).await.unwrap_err();
        assert!(matches!(error, CheckpointError::Astray { .. }), "{error}");
        assert_eq!((world.keys().len(), world.item()), (1, Some(bad)));
    }
}

#[tokio::test]
async fn an_item_that_was_set_back_is_led_on_again() {
    let world = World::of(1);
    run(&world).await;
    let old = world.item();
    for _ in 0..3 {
        run(&world).await;
    }
    world.0.lock().unwrap().item = old;
    assert_eq!(run(&world).await.number, 5);
    is_whole(&world, 5);
}

#[tokio::test]
async fn what_was_never_written_down_is_gone_through_a_part_a_run() {
    let world = World::of(0);
    run(&world).await;
    let old = world.item();
    for _ in 0..UNKNOWN + 1 {
        run(&world).await;
    }
    world.0.lock().unwrap().item = old;
    let error = run_at(&world, T0).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Behind), "{error}");
    assert_eq!(world.item().unwrap().number, 1 + UNKNOWN as u64);
    assert_eq!(run(&world).await.number, 3 + UNKNOWN as u64);
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_checkpoint_older_than_the_one_before() {
    let world = World::of(1);
    run_at(&world, MORNING).await.unwrap();
    let made = run_at(&world, T0).await.unwrap();
    assert_eq!(made.key, "checkpoints/2026/03/02/000000000002.json");
    is_whole(&world, 2);
}
