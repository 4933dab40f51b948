//! What every part of the lab holds: the endpoint, the authority, the record, and what changed when.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::authority::Authority;
use crate::faults::{Deliveries, Faults};
use crate::record::Record;
use crate::service::{AwsError, Credentials};

/// The parts of the lab that have no owner among the others.
pub(crate) struct Shared {
    /// The gateway's URL.
    pub(crate) endpoint: String,
    pub(crate) authority: Authority,
    pub(crate) record: Record,
    pub(crate) faults: Faults,
    pub(crate) deliveries: Deliveries,
    changes: AtomicU64,
    scopes: Mutex<BTreeSet<(String, String)>>,
}

impl Shared {
    pub(crate) fn new(endpoint: String, authority: Authority) -> Self {
        Self {
            endpoint,
            authority,
            record: Record::default(),
            faults: Faults::default(),
            deliveries: Deliveries::default(),
            changes: AtomicU64::new(0),
            scopes: Mutex::default(),
        }
    }

    /// Goes up whenever rules, functions or their policies may have changed: what was read before is stale.
    pub(crate) fn generation(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Something that is cached may have changed, in this account and Region.
    pub(crate) fn changed(&self, account: &str, region: &str) {
        if !account.is_empty() {
            self.scopes.lock().unwrap_or_else(PoisonError::into_inner).insert((account.to_owned(), region.to_owned()));
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The accounts and Regions in which anything was set up.
    pub(crate) fn scopes(&self) -> Vec<(String, String)> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// One API call through the gateway.
    pub(crate) async fn call(
        &self,
        credentials: &Credentials,
        region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        self.authority.call(&self.endpoint, credentials, region, service, operation, parameters).await
    }
}

/// The fields of an ARN that delivery needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.splitn(6, ':');
        if fields.next()? != "arn" {
            return None;
        }
        let _partition = fields.next()?;
        Some(Self {
            service: fields.next()?,
            region: fields.next()?,
            account: fields.next()?,
            resource: fields.next()?,
        })
    }
}
