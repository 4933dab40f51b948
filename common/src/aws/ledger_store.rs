//! The ledger and the claims in DynamoDB: appended to and changed in one transaction, or not at all.
//!
//! [`Store`] is what the administrator account's functions need of DynamoDB; [`Dynamo`] is it. Retrying when
//! two writers meet on one chain is done here ([`append`]); what to do when a claim is lost is the caller's.

use std::collections::BTreeMap;
use std::future::Future;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};
use serde::Serialize;

use super::failure::AwsFailure;
use super::item::{self, Item, ItemError};
use super::open::Open;
use super::state_table::{self, Claim, Condition, Expect, Expression, Snapshot, StateKey};
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

/// Another state item that changes in the same transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Also {
    /// It becomes this, if what was read still holds.
    Put {
        /// Which.
        key: StateKey,
        /// What it becomes.
        item: Item,
        /// What must still hold.
        expect: Expect,
    },
    /// It goes away.
    Delete {
        /// Which.
        key: StateKey,
    },
    /// Its numbers grow, unless one of them has reached its cap. Writers do not disturb each other.
    Count {
        /// Which.
        key: StateKey,
        /// What is added, by attribute.
        add: BTreeMap<&'static str, u32>,
        /// The attribute that must be below this before the addition.
        cap: Option<(&'static str, u32)>,
        /// When the table may forget the item, Unix seconds.
        expires_at: i64,
    },
}

impl Also {
    /// A put of a value.
    ///
    /// # Errors
    /// When the value is no object.
    pub fn put<T: Serialize>(key: StateKey, value: &T, expect: Expect) -> Result<Self, ItemError> {
        Ok(Self::Put { item: state_table::encode(&key, value)?, key, expect })
    }

    /// Which item it changes.
    #[must_use]
    pub const fn key(&self) -> &StateKey {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Count { key, .. } => key,
        }
    }

    /// What the item becomes, or why it does not: what DynamoDB does, as a function.
    ///
    /// # Errors
    /// When what must hold does not.
    pub fn apply(&self, stored: Option<&Item>) -> Result<Option<Item>, TransactError> {
        let lost = || TransactError::AlsoLost(self.key().clone());
        match self {
            Self::Put { item, expect, .. } => {
                if expect.holds(stored) {
                    Ok(Some(item.clone()))
                } else {
                    Err(lost())
                }
            }
            Self::Delete { .. } => Ok(None),
            Self::Count { key, add, cap, expires_at } => {
                let number = |item: &Item, name: &str| -> u32 {
                    item.get(name).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or_default()
                };
                let mut item = stored.cloned().unwrap_or_default();
                if cap.is_some_and(|(attribute, below)| number(&item, attribute) >= below) {
                    return Err(lost());
                }
                for (attribute, more) in add {
                    let sum = number(&item, attribute).saturating_add(*more);
                    item.insert((*attribute).to_owned(), AttributeValue::N(sum.to_string()));
                }
                item.insert(state_table::KEY.to_owned(), AttributeValue::S(key.to_string()));
                item.insert("ExpiresAt".to_owned(), AttributeValue::N(expires_at.to_string()));
                Ok(Some(item))
            }
        }
    }
}

/// Records, the chain's new head, a claim and other items: all or nothing.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The claim, when one is touched.
    pub claim: Option<ClaimWrite>,
    /// The other items.
    pub also: Vec<Also>,
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
    /// Another item is not what it was when it was read, or a count has reached its cap.
    #[error("another worker changed item `{0}` meanwhile, or it is full")]
    AlsoLost(StateKey),
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
    /// Write one item apart from the ledger, if what was read still holds ([`TransactError::AlsoLost`] when not).
    fn put_if<T: Serialize + Sync>(
        &self,
        key: &StateKey,
        value: &T,
        expect: Expect,
    ) -> impl Future<Output = Result<(), TransactError>> + Send;
    /// The records of a remediation, oldest first.
    fn records(&self, id: RemediationId) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The claim is not what it was when it was read: read again and decide again.
    #[error("another worker changed the claim meanwhile")]
    ClaimLost,
    /// Another item is not what it was, or a count is full: read again and decide again.
    #[error("another worker changed item `{0}` meanwhile, or it is full")]
    AlsoLost(StateKey),
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
    head: Head,
    drafts: Vec<RecordDraft>,
    claim: Option<ClaimWrite>,
) -> Result<Head, AppendError> {
    append_with(store, origin, head, drafts, claim, Vec::new()).await
}

/// The same, with other items that change in the same transaction.
///
/// # Errors
/// As [`append`]; and when one of those items is not what it was.
pub async fn append_with<S: Store>(
    store: &S,
    origin: &AccountId,
    mut head: Head,
    mut drafts: Vec<RecordDraft>,
    claim: Option<ClaimWrite>,
    also: Vec<Also>,
) -> Result<Head, AppendError> {
    for attempt in 0..ATTEMPTS {
        let (records, to) = ledger::chain(origin, &head, drafts.clone());
        let transaction = Transaction {
            claim: claim.clone(),
            also: also.clone(),
            origin: origin.clone(),
            from: head.clone(),
            to: to.clone(),
            records,
        };
        match store.transact(&transaction).await {
            Ok(()) => return Ok(to),
            Err(TransactError::ClaimLost) => return Err(AppendError::ClaimLost),
            Err(TransactError::AlsoLost(key)) => return Err(AppendError::AlsoLost(key)),
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

    /// What is open ([`super::open`]).
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(
        &self,
        open: Open,
        from_ms: i64,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<(Option<StateKey>, i64)>, AwsFailure> {
        super::open::query(&self.client, &self.state_table, open, from_ms, before_ms, limit).await
    }

    /// Everything that is open of a kind, however much it is ([`super::open`]).
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn every_open(&self, open: Open) -> Result<Vec<StateKey>, AwsFailure> {
        super::open::every(&self.client, &self.state_table, open).await
    }

    /// The records of an account since then, newest first, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn records_of_account_since(
        &self,
        account: &AccountId,
        since_ms: i64,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.newest((ACCOUNT_INDEX, "AccountId", account.as_str()), since_ms, limit).await
    }

    /// The records of a resource, by its ARN, since then, newest first, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn records_of_resource_since(
        &self,
        resource: &str,
        since_ms: i64,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.newest((RESOURCE_INDEX, "ResourceId", resource), since_ms, limit).await
    }

    async fn newest(
        &self,
        (index, key, value): (&str, &str, &str),
        since_ms: i64,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.audit_table)
            .index_name(index)
            .key_condition_expression("#key = :value AND #at >= :since")
            .expression_attribute_names("#key", key)
            .expression_attribute_names("#at", "Timestamp")
            .expression_attribute_values(":value", AttributeValue::S(value.to_owned()))
            .expression_attribute_values(":since", AttributeValue::N(since_ms.to_string()))
            .scan_index_forward(false)
            .set_limit(i32::try_from(limit).ok())
            .into_paginator()
            .items()
            .send();
        let mut records = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| AwsFailure::of("dynamodb:Query", &error))?;
            records.push(decode_record(&item)?);
            if records.len() == limit {
                break;
            }
        }
        Ok(records)
    }

    /// Puts a state item that nothing else depends on, whatever was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn put<T: Serialize>(&self, key: &StateKey, value: &T) -> Result<(), AwsFailure> {
        const OPERATION: &str = "dynamodb:PutItem";
        let item =
            state_table::encode(key, value).map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
        let put = self.client.put_item().table_name(&self.state_table).set_item(Some(item)).send().await;
        put.map(drop).map_err(|error| AwsFailure::of(OPERATION, &error))
    }

    /// The state items whose keys start so, as plain JSON. Reads the whole table.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn items(&self, prefix: &str) -> Result<Vec<serde_json::Value>, AwsFailure> {
        const OPERATION: &str = "dynamodb:Scan";
        let mut pages = self
            .client
            .scan()
            .table_name(&self.state_table)
            .filter_expression("begins_with(#k, :prefix)")
            .expression_attribute_names("#k", state_table::KEY)
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| AwsFailure::of(OPERATION, &error))?;
            let item = item::decode("a state item", &item);
            items.push(item.map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?);
        }
        Ok(items)
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
                    if let Some(why) = cancellation(transaction.claim.is_some(), &transaction.also, &codes) {
                        return Err(why);
                    }
                }
                if error.code() == Some("TransactionInProgressException") {
                    return Err(TransactError::HeadMoved);
                }
                Err(StoreError::from(AwsFailure::of(OPERATION, &error)).into())
            }
        }
    }

    async fn put_if<T: Serialize + Sync>(
        &self,
        key: &StateKey,
        value: &T,
        expect: Expect,
    ) -> Result<(), TransactError> {
        let item = state_table::encode(key, value).map_err(StoreError::from)?;
        let mut put = self.client.put_item().table_name(&self.state_table).set_item(Some(item));
        if let Some(condition) = expect.expression() {
            put = put
                .condition_expression(condition.text)
                .set_expression_attribute_names(Some(condition.names))
                .set_expression_attribute_values((!condition.values.is_empty()).then_some(condition.values));
        }
        put.send().await.map(drop).map_err(|error| match error.code() {
            Some("ConditionalCheckFailedException" | "TransactionConflictException") => {
                TransactError::AlsoLost(key.clone())
            }
            _ => StoreError::from(AwsFailure::of("dynamodb:PutItem", &error)).into(),
        })
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

/// The writes of a transaction: claim (if any), chain head, other items, records, in this order.
fn writes(transaction: &Transaction, state: &str, audit: &str) -> Result<Vec<TransactWriteItem>, StoreError> {
    let mut writes = Vec::with_capacity(2 + transaction.records.len());
    if let Some(ClaimWrite { key, condition, claim }) = &transaction.claim {
        writes.push(put(state, state_table::encode(key, claim)?, Some(condition.expression()))?);
    }
    let head = state_table::encode(&StateKey::Chain(transaction.origin.clone()), &transaction.to)?;
    writes.push(put(state, head, Some(state_table::head_condition(&transaction.from)))?);
    for also in &transaction.also {
        writes.push(other(state, also)?);
    }
    for record in &transaction.records {
        let append_only = Expression {
            text: "attribute_not_exists(#RemediationId)",
            names: [("#RemediationId".to_owned(), "RemediationId".to_owned())].into(),
            values: Item::new(),
        };
        writes.push(put(audit, encode_record(record)?, Some(append_only))?);
    }
    Ok(writes)
}

/// The write of another item.
fn other(table: &str, also: &Also) -> Result<TransactWriteItem, StoreError> {
    let incomplete = |error: &dyn std::fmt::Display| AwsFailure::partial(OPERATION, error.to_string());
    let of_key = |key: &StateKey| Item::from([(state_table::KEY.to_owned(), AttributeValue::S(key.to_string()))]);
    match also {
        Also::Put { item, expect, .. } => put(table, item.clone(), expect.expression()),
        Also::Delete { key } => {
            let delete = Delete::builder().table_name(table).set_key(Some(of_key(key))).build();
            Ok(TransactWriteItem::builder().delete(delete.map_err(|error| incomplete(&error))?).build())
        }
        Also::Count { key, add, cap, expires_at } => {
            let mut update = Update::builder().table_name(table).set_key(Some(of_key(key)));
            let mut adds = Vec::new();
            for (attribute, number) in add {
                adds.push(format!("#{attribute} :{attribute}"));
                update = update
                    .expression_attribute_names(format!("#{attribute}"), *attribute)
                    .expression_attribute_values(format!(":{attribute}"), AttributeValue::N(number.to_string()));
            }
            if let Some((attribute, below)) = cap {
                update = update
                    .condition_expression(format!("attribute_not_exists(#{attribute}) OR #{attribute} < :below"))
                    .expression_attribute_names(format!("#{attribute}"), *attribute)
                    .expression_attribute_values(":below", AttributeValue::N(below.to_string()));
            }
            let update = update
                .update_expression(format!("SET #ExpiresAt = :until ADD {}", adds.join(", ")))
                .expression_attribute_names("#ExpiresAt", "ExpiresAt")
                .expression_attribute_values(":until", AttributeValue::N(expires_at.to_string()))
                .build();
            Ok(TransactWriteItem::builder().update(update.map_err(|error| incomplete(&error))?).build())
        }
    }
}

const OPERATION: &str = "dynamodb:TransactWriteItems";

fn put(table: &str, item: Item, condition: Option<Expression>) -> Result<TransactWriteItem, StoreError> {
    let mut put = Put::builder().table_name(table).set_item(Some(item));
    if let Some(condition) = condition {
        put = put
            .condition_expression(condition.text)
            .set_expression_attribute_names(Some(condition.names))
            .set_expression_attribute_values((!condition.values.is_empty()).then_some(condition.values));
    }
    let put = put.build().map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// What the cancellation codes of a transaction say, in the order of its writes. A lost claim weighs most: then
/// nothing else matters.
fn cancellation(with_claim: bool, also: &[Also], codes: &[&str]) -> Option<TransactError> {
    const FAILED: &str = "ConditionalCheckFailed";
    let (claim, rest) = if with_claim { (codes.first(), codes.get(1..)?) } else { (None, codes) };
    let (head, rest) = rest.split_first()?;
    let (others, records) = rest.split_at_checked(also.len())?;
    let lost = also.iter().zip(others).find(|(_, code)| **code == FAILED).map(|(also, _)| also.key().clone());
    if claim == Some(&FAILED) {
        Some(TransactError::ClaimLost)
    } else if let Some(key) = lost {
        Some(TransactError::AlsoLost(key))
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
        let says = |with_claim, codes: &[&str]| cancellation(with_claim, &[], codes).map(|why| why.to_string());
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
        let also = [Also::Delete { key: StateKey::Settings }];
        let lost = cancellation(true, &also, &[ok, failed, failed, ok]);
        assert!(matches!(lost, Some(TransactError::AlsoLost(StateKey::Settings))), "{lost:?}");
    }

    #[test]
    fn a_count_grows_until_its_cap_and_a_put_meets_what_was_read() {
        let key = StateKey::Count(crate::items::breaker::BreakerScope::Organisation, 7);
        let count = |below| Also::Count {
            key: key.clone(),
            add: BTreeMap::from([("Starts", 1)]),
            cap: Some(("Starts", below)),
            expires_at: 9,
        };
        let one = count(1).apply(None).unwrap();
        assert!(matches!(count(1).apply(one.as_ref()), Err(TransactError::AlsoLost(_))));
        let two = count(2).apply(one.as_ref()).unwrap().unwrap();
        assert_eq!(two["Starts"], AttributeValue::N("2".to_owned()));
        let put = |version| Also::put(StateKey::Settings, &Head::default(), Expect::Version(version)).unwrap();
        assert!(put(0).apply(None).is_ok());
        assert!(put(1).apply(None).is_err());
        assert!(put(0).apply(one.as_ref()).is_ok(), "what has no version is version 0");
        let versioned = Item::from([("Version".to_owned(), AttributeValue::N("1".to_owned()))]);
        assert!(put(0).apply(Some(&versioned)).is_err());
        assert!(put(1).apply(Some(&versioned)).is_ok());
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
        async fn put_if<T: Serialize + Sync>(&self, _: &StateKey, _: &T, _: Expect) -> Result<(), TransactError> {
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
