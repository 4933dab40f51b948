//! The ledger and the claims in DynamoDB: appended to and changed in one transaction, or not at all.
//!
//! [`Store`] is what the administrator account's functions need of DynamoDB; [`Dynamo`] is it. Retrying when
//! two writers meet on one chain is done here ([`append`]); what to do when a claim is lost is the caller's.

use std::future::Future;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};

use super::failure::AwsFailure;
use super::item::{self, Item, ItemError};
use super::state_table::{self, Claim, Condition, Expression, Snapshot, StateKey};
use crate::ids::{AccountId, RemediationId};
use crate::ledger::{self, Head, Record, RecordDraft};

/// Index of the audit table by account.
pub const ACCOUNT_INDEX: &str = "AccountId-Timestamp-index";
/// Index of the audit table by resource.
pub const RESOURCE_INDEX: &str = "ResourceId-Timestamp-index";

/// A claim's new value, written only if the claim is still what was read.
#[derive(Debug, Clone)]
pub struct ClaimWrite {
    /// Which.
    pub key: StateKey,
    /// What must still hold.
    pub condition: Condition,
    /// What it becomes.
    pub claim: Claim,
}

/// Records, the chain's new head and a claim: all or nothing.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The claim, when one is touched.
    pub claim: Option<ClaimWrite>,
    /// The chain.
    pub origin: AccountId,
    /// Where the chain must still end.
    pub from: Head,
    /// Where it ends then.
    pub to: Head,
    /// The records.
    pub records: Vec<Record>,
}

/// Why a transaction was not made.
#[derive(Debug, thiserror::Error)]
pub enum TransactError {
    /// The claim is not what it was when it was read.
    #[error("another worker changed the claim meanwhile")]
    ClaimLost,
    /// A record of this remediation with this millisecond is there already.
    #[error("a record with the same remediation and millisecond is there already")]
    TimestampTaken,
    /// The chain does not end there any more, or another transaction holds one of the items.
    #[error("another writer appended to the chain meanwhile")]
    HeadMoved,
    /// Something else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The tables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB said no, or nothing.
    #[error(transparent)]
    Aws(#[from] AwsFailure),
    /// An item is not what it should be.
    #[error(transparent)]
    Item(#[from] ItemError),
}

/// What is needed of the tables.
pub trait Store: Sync {
    /// Read state items, consistently.
    fn read(&self, keys: &[StateKey]) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;
    /// Write all of it or nothing.
    fn transact(&self, transaction: &Transaction) -> impl Future<Output = Result<(), TransactError>> + Send;
    /// The records of a remediation, oldest first.
    fn records(&self, id: RemediationId) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The claim is not what it was when it was read: read again and decide again.
    #[error("another worker changed the claim meanwhile")]
    ClaimLost,
    /// Too many writers on one chain.
    #[error("the chain of account {origin} is too busy: {ATTEMPTS} attempts met other writers")]
    Busy {
        /// The chain.
        origin: AccountId,
    },
    /// Something else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often an append is tried when others append to the same chain.
pub const ATTEMPTS: u64 = 12;

/// Append records to a chain and change a claim with them.
///
/// When the chain moved, its head is read again and the records are chained anew; when the millisecond is
/// taken, the records move on by one. A lost claim is the caller's.
///
/// # Errors
/// When the claim was lost, or after [`ATTEMPTS`] attempts, or when the tables do not answer.
pub async fn append<S: Store>(
    store: &S,
    origin: &AccountId,
    mut head: Head,
    mut drafts: Vec<RecordDraft>,
    claim: Option<ClaimWrite>,
) -> Result<Head, AppendError> {
    for attempt in 0..ATTEMPTS {
        let (records, to) = ledger::chain(origin, &head, drafts.clone());
        let transaction =
            Transaction { claim: claim.clone(), origin: origin.clone(), from: head.clone(), to: to.clone(), records };
        match store.transact(&transaction).await {
            Ok(()) => return Ok(to),
            Err(TransactError::ClaimLost) => return Err(AppendError::ClaimLost),
            Err(TransactError::TimestampTaken) => drafts.iter_mut().for_each(|draft| draft.timestamp += 1),
            Err(TransactError::HeadMoved) => {
                let jitter = rand::random_range(0..=10 * (attempt + 1));
                tokio::time::sleep(std::time::Duration::from_millis(jitter)).await;
                let key = StateKey::Chain(origin.clone());
                head = store.read(&[key]).await?.head(origin).map_err(StoreError::from)?;
            }
            Err(TransactError::Store(error)) => return Err(error.into()),
        }
    }
    Err(AppendError::Busy { origin: origin.clone() })
}

/// The two tables.
#[derive(Debug, Clone)]
pub struct Dynamo {
    client: Client,
    state_table: String,
    audit_table: String,
}

impl Dynamo {
    /// The tables, by name.
    #[must_use]
    pub fn new(client: Client, state_table: impl Into<String>, audit_table: impl Into<String>) -> Self {
        Self { client, state_table: state_table.into(), audit_table: audit_table.into() }
    }

    /// The newest records of an account, newest first, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn records_of_account(&self, account: &AccountId, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.query(Some(ACCOUNT_INDEX), "AccountId", account.as_str(), false, limit).await
    }

    /// The newest records of a resource, by its ARN, newest first, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn records_of_resource(&self, resource: &str, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.query(Some(RESOURCE_INDEX), "ResourceId", resource, false, limit).await
    }

    async fn query(
        &self,
        index: Option<&str>,
        key: &str,
        value: &str,
        forward: bool,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        let mut start = None;
        loop {
            let answer = self
                .client
                .query()
                .table_name(&self.audit_table)
                .set_index_name(index.map(str::to_owned))
                .key_condition_expression("#k = :v")
                .expression_attribute_names("#k", key)
                .expression_attribute_values(":v", AttributeValue::S(value.to_owned()))
                .scan_index_forward(forward)
                // An index cannot be read consistently; the table can.
                .consistent_read(index.is_none())
                .set_limit(i32::try_from(limit).ok())
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| AwsFailure::of("dynamodb:Query", &error))?;
            for item in answer.items.unwrap_or_default() {
                records.push(decode_record(&item)?);
            }
            start = answer.last_evaluated_key;
            if start.is_none() || records.len() >= limit {
                records.truncate(limit);
                return Ok(records);
            }
        }
    }
}

impl Store for Dynamo {
    async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        Ok(state_table::read(&self.client, &self.state_table, keys).await?)
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), TransactError> {
        let writes = writes(transaction, &self.state_table, &self.audit_table)?;
        match self.client.transact_write_items().set_transact_items(Some(writes)).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error()
                {
                    let codes: Vec<&str> =
                        cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or("None")).collect();
                    if let Some(why) = cancellation(transaction.claim.is_some(), &codes) {
                        return Err(why);
                    }
                }
                if error.code() == Some("TransactionInProgressException") {
                    return Err(TransactError::HeadMoved);
                }
                Err(StoreError::from(AwsFailure::of("dynamodb:TransactWriteItems", &error)).into())
            }
        }
    }

    async fn records(&self, id: RemediationId) -> Result<Vec<Record>, StoreError> {
        self.query(None, "RemediationId", &id.to_string(), true, usize::MAX).await
    }
}

/// A record as an item of the audit table.
///
/// # Errors
/// Never for a record that was made by [`RecordDraft::seal`].
pub fn encode_record(record: &Record) -> Result<Item, ItemError> {
    item::encode("an audit record", record)
}

/// An item of the audit table as a record. An attribute that no record has is an error: the hash does not cover it.
///
/// # Errors
/// When the item is no record.
pub fn decode_record(item: &Item) -> Result<Record, ItemError> {
    item::decode_exactly("an audit record", item)
}

/// The writes of a transaction: claim (if any), chain head, records, in this order.
fn writes(transaction: &Transaction, state: &str, audit: &str) -> Result<Vec<TransactWriteItem>, StoreError> {
    let mut writes = Vec::with_capacity(2 + transaction.records.len());
    if let Some(ClaimWrite { key, condition, claim }) = &transaction.claim {
        writes.push(put(state, state_table::encode(key, claim)?, condition.expression())?);
    }
    let head = state_table::encode(&StateKey::Chain(transaction.origin.clone()), &transaction.to)?;
    writes.push(put(state, head, state_table::head_condition(&transaction.from))?);
    for record in &transaction.records {
        let append_only = Expression {
            text: "attribute_not_exists(#RemediationId)",
            names: [("#RemediationId".to_owned(), "RemediationId".to_owned())].into(),
            values: Item::new(),
        };
        writes.push(put(audit, encode_record(record)?, append_only)?);
    }
    Ok(writes)
}

fn put(table: &str, item: Item, condition: Expression) -> Result<TransactWriteItem, StoreError> {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(condition.text)
        .set_expression_attribute_names(Some(condition.names))
        .set_expression_attribute_values((!condition.values.is_empty()).then_some(condition.values))
        .build()
        .map_err(|error| AwsFailure::partial("dynamodb:TransactWriteItems", error.to_string()))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// What the cancellation codes of a transaction say, in the order of its writes. A lost claim weighs most: then
/// nothing else matters.
fn cancellation(with_claim: bool, codes: &[&str]) -> Option<TransactError> {
    const FAILED: &str = "ConditionalCheckFailed";
    let (claim, rest) = if with_claim { (codes.first(), codes.get(1..)?) } else { (None, codes) };
    let (head, records) = rest.split_first()?;
    if claim == Some(&FAILED) {
        Some(TransactError::ClaimLost)
    } else if *head == FAILED {
        Some(TransactError::HeadMoved)
    } else if records.contains(&FAILED) {
        Some(TransactError::TimestampTaken)
    } else if codes.contains(&"TransactionConflict") {
        Some(TransactError::HeadMoved)
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::RemediationType;
    use crate::state::State;
    use std::collections::{BTreeMap, HashSet};
    use std::sync::Mutex;

    fn account() -> AccountId {
        "111122223333".parse().unwrap()
    }

    fn draft(text: &str) -> RecordDraft {
        RecordDraft {
            remediation_id: RemediationId::of_rejected(text.as_bytes()),
            timestamp: 1_700_000_000_000,
            finding_id: "f".to_owned(),
            account_id: account(),
            resource_type: "AWS::S3::Bucket".to_owned(),
            resource_id: "arn:aws:s3:::b".to_owned(),
            remediation_type: RemediationType::Manual,
            remediation_action: String::new(),
            execution_status: State::Planned,
            executor_arn: "e".to_owned(),
            error_message: String::new(),
            execution_duration: 0,
            notification_sent: false,
            detail: BTreeMap::new(),
            expires_at: 1,
        }
    }

    #[test]
    fn a_record_survives_the_table_with_its_hash() {
        let record = draft("a").seal(&account(), &Head::default());
        let read = decode_record(&encode_record(&record).unwrap()).unwrap();
        assert_eq!(read, record);
        assert_eq!(ledger::verify(&[read]), Ok(Head::of(&record)));
    }

    #[test]
    fn an_attribute_smuggled_into_a_stored_record_is_refused() {
        let mut item = encode_record(&draft("a").seal(&account(), &Head::default())).unwrap();
        item.insert("ApprovedBy".to_owned(), AttributeValue::S("nobody".to_owned()));
        assert!(decode_record(&item).is_err());
    }

    #[test]
    fn each_cancellation_is_told_by_its_name() {
        let says = |with_claim, codes: &[&str]| cancellation(with_claim, codes).map(|why| why.to_string());
        let (ok, failed, conflict) = ("None", "ConditionalCheckFailed", "TransactionConflict");
        let claim_lost = Some(TransactError::ClaimLost.to_string());
        let head_moved = Some(TransactError::HeadMoved.to_string());
        let taken = Some(TransactError::TimestampTaken.to_string());
        assert_eq!(says(true, &[failed, failed, ok]), claim_lost);
        assert_eq!(says(true, &[ok, failed, ok]), head_moved);
        assert_eq!(says(true, &[ok, conflict, ok]), head_moved);
        assert_eq!(says(true, &[ok, ok, failed]), taken);
        assert_eq!(says(false, &[failed, ok]), head_moved);
        assert_eq!(says(false, &[ok, ok, failed]), taken);
        assert_eq!(says(true, &["ThrottlingError", ok, ok]), None);
    }

    type Written = (Head, Vec<Record>, HashSet<(String, i64)>);

    /// A chain in memory that evaluates the same conditions.
    #[derive(Default)]
    struct Chain(Mutex<Written>);

    impl Store for Chain {
        async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
            let head = self.0.lock().unwrap().0.clone();
            tokio::task::yield_now().await;
            let item = state_table::encode(&StateKey::Chain(account()), &head)?;
            Ok(Snapshot::new(keys, if head.seq == 0 { vec![] } else { vec![item] }))
        }
        async fn transact(&self, transaction: &Transaction) -> Result<(), TransactError> {
            tokio::task::yield_now().await;
            let mut state = self.0.lock().unwrap();
            if state.0 != transaction.from {
                return Err(TransactError::HeadMoved);
            }
            let keys: Vec<_> =
                transaction.records.iter().map(|r| (r.draft.remediation_id.to_string(), r.draft.timestamp)).collect();
            if keys.iter().any(|key| state.2.contains(key)) {
                return Err(TransactError::TimestampTaken);
            }
            state.2.extend(keys);
            state.0 = transaction.to.clone();
            state.1.extend(transaction.records.clone());
            Ok(())
        }
        async fn records(&self, _: RemediationId) -> Result<Vec<Record>, StoreError> {
            Ok(self.0.lock().unwrap().1.clone())
        }
    }

    #[tokio::test]
    async fn writers_that_meet_on_one_chain_all_get_their_place() {
        let chain = std::sync::Arc::new(Chain::default());
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let chain = chain.clone();
                tokio::spawn(async move {
                    append(&*chain, &account(), Head::default(), vec![draft(&n.to_string())], None).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let (head, records, _) = &*chain.0.lock().unwrap();
        assert_eq!(records.len(), 8);
        ledger::verify_to(records, head).unwrap();
    }

    #[tokio::test]
    async fn records_of_the_same_millisecond_move_on_by_one() {
        let chain = Chain::default();
        let head = append(&chain, &account(), Head::default(), vec![draft("a")], None).await.unwrap();
        append(&chain, &account(), head, vec![draft("a")], None).await.unwrap();
        let stamps: Vec<i64> = chain.0.lock().unwrap().1.iter().map(|r| r.draft.timestamp).collect();
        assert_eq!(stamps, [1_700_000_000_000, 1_700_000_000_001]);
    }
}
