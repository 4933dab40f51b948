//! Reading the audit ledger of the administrator account. Nothing here writes.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Dynamo, Store as _, decode_record};
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
