//! Reading the audit ledger of the administrator account. Nothing here writes.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{ACCOUNT_INDEX, Dynamo, Store as _, decode_record};
use redress_common::aws::state_table::StateKey;
use redress_common::ids::{AccountId, RemediationId};
use redress_common::ledger::{Head, Record};
use redress_common::names;

use crate::aws::Connection;
use crate::problem::Problem;

const READ: &str = "read the audit ledger";

/// The ledger of the connected administrator account.
pub(crate) struct Ledger {
    store: Dynamo,
    client: aws_sdk_dynamodb::Client,
}

impl Ledger {
    pub(crate) fn new(connection: &Connection) -> Self {
        let client = aws_sdk_dynamodb::Client::new(&connection.config);
        Self { store: Dynamo::new(client.clone(), names::STATE_TABLE, names::AUDIT_TABLE), client }
    }

    /// The records of a remediation, oldest first; an unknown one is a problem.
    pub(crate) async fn of_remediation(&self, id: RemediationId) -> Result<Vec<Record>, Problem> {
        let records = self.find(id).await?;
        if records.is_empty() { Err(unknown(id)) } else { Ok(records) }
    }

    /// The records of a remediation, oldest first; none when there is no such remediation (yet).
    pub(crate) async fn find(&self, id: RemediationId) -> Result<Vec<Record>, Problem> {
        self.store.records(id).await.map_err(|error| Problem::aws(READ, &error))
    }

    /// The newest records of an account since then, newest first; one more than `limit` when there are more.
    pub(crate) async fn of_account(
        &self,
        account: &AccountId,
        since: Timestamp,
        limit: u16,
    ) -> Result<Vec<Record>, Problem> {
        let records = self.store.records_of_account(account, usize::from(limit) + 1).await;
        records.map(|records| newer(records, since)).map_err(|error| Problem::aws(READ, &error))
    }

    /// The newest records of a resource since then, newest first; one more than `limit` when there are more.
    pub(crate) async fn of_resource(
        &self,
        resource: &str,
        since: Timestamp,
        limit: u16,
    ) -> Result<Vec<Record>, Problem> {
        let records = self.store.records_of_resource(resource, usize::from(limit) + 1).await;
        records.map(|records| newer(records, since)).map_err(|error| Problem::aws(READ, &error))
    }

    /// The records of incidents of an account between these times, in no order. Reads at most so many records of the account.
    pub(crate) async fn incidents_between(
        &self,
        account: &AccountId,
        since_ms: i64,
        until_ms: i64,
        most: usize,
    ) -> Result<Vec<Record>, Problem> {
        let failed = |error: &dyn std::error::Error| Problem::aws(READ, error);
        let number = |ms: i64| AttributeValue::N(ms.to_string());
        let mut pages = self
            .client
            .query()
            .table_name(names::AUDIT_TABLE)
            .index_name(ACCOUNT_INDEX)
            .key_condition_expression("#a = :a AND #t BETWEEN :since AND :until")
            .expression_attribute_names("#a", "AccountId")
            .expression_attribute_names("#t", "Timestamp")
            .expression_attribute_values(":a", AttributeValue::S(account.to_string()))
            .expression_attribute_values(":since", number(since_ms))
            .expression_attribute_values(":until", number(until_ms))
            .into_paginator()
            .items()
            .send();
        let (mut records, mut read) = (Vec::new(), 0_usize);
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| failed(&AwsFailure::of("dynamodb:Query", &error)))?;
            let record = decode_record(&item).map_err(|error| failed(&error))?;
            records.extend(Some(record).filter(Record::is_of_incident));
            read += 1;
            if read == most {
                return Err(Problem::not_found(format!(
                    "account {account} has more than {most} records around the case"
                ))
                .help("`redress audit show` tells one remediation, `redress case list --since` the cases of a time"));
            }
        }
        Ok(records)
    }

    /// All records since then, in no order. Reads the whole table: no index spans the accounts.
    pub(crate) async fn of_all(&self, since: Timestamp) -> Result<Vec<Record>, Problem> {
        let failed = |error: &dyn std::error::Error| Problem::aws(READ, error);
        let mut pages = self
            .client
            .scan()
            .table_name(names::AUDIT_TABLE)
            .filter_expression("#t >= :since")
            .expression_attribute_names("#t", "Timestamp")
            .expression_attribute_values(":since", AttributeValue::N(since.as_millisecond().to_string()))
            .into_paginator()
            .items()
            .send();
        let mut records = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| failed(&AwsFailure::of("dynamodb:Scan", &error)))?;
            records.push(decode_record(&item).map_err(|error| failed(&error))?);
        }
        Ok(records)
    }

    /// Hands on each record of an account, or of all, since then or ever, in no order. None is kept.
    pub(crate) async fn each(
        &self,
        account: Option<&AccountId>,
        since_ms: Option<i64>,
        with: &mut dyn FnMut(Record),
    ) -> Result<(), Problem> {
        let failed = |error: &dyn std::error::Error| Problem::aws(READ, error);
        let mut from = None;
        loop {
            let (items, last) = match account {
                Some(account) => {
                    let mut asked = self
                        .client
                        .query()
                        .table_name(names::AUDIT_TABLE)
                        .index_name(ACCOUNT_INDEX)
                        .expression_attribute_names("#a", "AccountId")
                        .expression_attribute_values(":a", AttributeValue::S(account.to_string()));
                    let mut condition = "#a = :a".to_owned();
                    if let Some(since) = since_ms {
                        condition.push_str(" AND #t >= :since");
                        asked = asked
                            .expression_attribute_names("#t", "Timestamp")
                            .expression_attribute_values(":since", AttributeValue::N(since.to_string()));
                    }
                    let asked = asked.key_condition_expression(condition).set_exclusive_start_key(from);
                    let answer = asked.send().await;
                    let answer = answer.map_err(|error| failed(&AwsFailure::of("dynamodb:Query", &error)))?;
                    (answer.items, answer.last_evaluated_key)
                }
                None => {
                    let mut asked = self.client.scan().table_name(names::AUDIT_TABLE).set_exclusive_start_key(from);
                    if let Some(since) = since_ms {
                        asked = asked
                            .filter_expression("#t >= :since")
                            .expression_attribute_names("#t", "Timestamp")
                            .expression_attribute_values(":since", AttributeValue::N(since.to_string()));
                    }
                    let answer = asked.send().await;
                    let answer = answer.map_err(|error| failed(&AwsFailure::of("dynamodb:Scan", &error)))?;
                    (answer.items, answer.last_evaluated_key)
                }
            };
            for item in items.unwrap_or_default() {
                with(decode_record(&item).map_err(|error| failed(&error))?);
            }
            from = last;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Where the chain of an account ends.
    pub(crate) async fn head(&self, account: &AccountId) -> Result<Head, Problem> {
        let failed = |error: &dyn std::error::Error| Problem::aws(READ, error);
        let snapshot = self.store.read(&[StateKey::Chain(account.clone())]).await.map_err(|error| failed(&error))?;
        snapshot.head(account).map_err(|error| failed(&error))
    }

    /// The chain of an account by `Seq`, and where it must end.
    pub(crate) async fn chain(&self, account: &AccountId) -> Result<(Vec<Record>, Head), Problem> {
        let failed = |error: &dyn std::error::Error| Problem::aws(READ, error);
        let key = StateKey::Chain(account.clone());
        // The head before the records: a record that is appended meanwhile is then one too many, not one too few.
        let snapshot = self.store.read(&[key]).await.map_err(|error| failed(&error))?;
        let head = snapshot.head(account).map_err(|error| failed(&error))?;
        let records = self.store.records_of_account(account, usize::MAX).await.map_err(|error| failed(&error))?;
        let mut records: Vec<Record> =
            records.into_iter().filter(|record| record.origin == *account && record.seq <= head.seq).collect();
        records.sort_by_key(|record| record.seq);
        Ok((records, head))
    }
}

fn newer(records: Vec<Record>, since: Timestamp) -> Vec<Record> {
    records.into_iter().filter(|record| record.draft.timestamp >= since.as_millisecond()).collect()
}

/// There is no such remediation.
pub(crate) fn unknown(id: RemediationId) -> Problem {
    Problem::not_found(format!("the ledger has no remediation `{id}`"))
        .help("`redress audit list` shows the ids; records are kept 90 days unless configured otherwise")
}
