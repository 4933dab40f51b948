//! Messages that SNS did not take: kept in table `RedressBacklog`, until the reconciler can tell people.
//!
//! A record says whether people were told, and no record is changed: who tells them late adds one that says so.

use jiff::Timestamp;
use redress_common::ids::RemediationId;
use redress_common::notification::Notification;
use serde::{Deserialize, Serialize};

use crate::ports::{Attributes, Waiting};

/// Where they wait.
pub(crate) const PLACE: &str = "untold";
/// What nobody could be told for so long is in the ledger, and no news.
const KEPT_SECONDS: i64 = 14 * 24 * 60 * 60;

/// A message, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Untold {
    pub(crate) remediation_id: RemediationId,
    pub(crate) message: Notification,
    pub(crate) attributes: Attributes,
}

impl Untold {
    /// As it waits: the oldest first, each message of a remediation once.
    pub(crate) fn put_aside(&self, now: Timestamp) -> Result<Waiting, serde_json::Error> {
        Ok(Waiting {
            place: PLACE.to_owned(),
            order: format!("{:015}#{}#{}", now.as_millisecond().max(0), self.remediation_id, self.message.status),
            body: serde_json::to_string(self)?,
            expires_at: now.as_second() + KEPT_SECONDS,
        })
    }

    pub(crate) fn read(waiting: &Waiting) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&waiting.body)
    }
}
