//! The custody document of a containment: written when it has ended, create-only and under lock.
//!
//! It changes nothing and decides nothing. That it could not be written is told with the containment's end and undoes
//! nothing; the same remediation, asked for again, writes it then.

use jiff::Timestamp;
use redress_common::aws::evidence::{EvidenceError, EvidenceWriter, Stored};
use redress_common::contract::Mode;
use redress_common::custody::{CUSTODY, Custody, EvidenceObject, Item, ItemKind};
use serde_json::Value;

use crate::place::Place;

/// What is taken of a resource as a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it is called beside the custody document.
    pub name: &'static str,
    /// What it is.
    pub kind: ItemKind,
    /// Of what.
    pub detail: String,
    /// What it says; sealed before it is stored.
    pub content: Value,
    /// What could not be taken, each with why.
    pub lacks: Vec<String>,
}

/// Stores the custody document of a containment that has ended; of what was only planned there is none.
///
/// # Errors
/// When it could not be stored.
pub async fn write(evidence: &EvidenceWriter, place: &Place, stored: &Stored) -> Result<(), EvidenceError> {
    let Some(custody) = document(evidence.bucket(), place, stored) else { return Ok(()) };
    if !evidence.keeps_incidents() {
        return Ok(());
    }
    let key = || redress_common::custody::key(custody.remediation_id, CUSTODY);
    let body =
        serde_json::to_vec_pretty(&custody).map_err(|_| EvidenceError::Malformed { key: key(), part: "content" })?;
    evidence.keep(custody.remediation_id, CUSTODY, body, Timestamp::now()).await.map(drop)
}

/// What it says. Pure: of the same evidence it is the same.
fn document(bucket: &str, place: &Place, stored: &Stored) -> Option<Custody> {
    let evidence = &stored.evidence;
    let result = evidence.result.as_ref()?;
    if !matches!(evidence.job.mode, Mode::Apply | Mode::Restore) {
        return None;
    }
    Some(Custody {
        version: 1,
        remediation_id: evidence.job.remediation_id,
        control: evidence.job.control.clone(),
        resource_arn: evidence.job.resource_arn.clone(),
        account_id: evidence.account_id.clone(),
        region: evidence.region.clone(),
        mode: evidence.job.mode,
        outcome: result.outcome,
        executed_by: place.function.clone(),
        began: evidence.recorded_at,
        ended: result.finished_at,
        evidence: EvidenceObject {
            bucket: bucket.to_owned(),
            key: evidence.job.evidence_key.clone(),
            version_id: stored.version_id.clone(),
            sha256: stored.sha256.clone(),
        },
        items: result.acquired.clone(),
    })
}

/// Something that was taken just now.
pub(crate) fn item(kind: ItemKind, id: impl Into<String>, detail: impl Into<String>) -> Item {
    Item {
        kind,
        id: id.into(),
        at: Timestamp::now(),
        detail: detail.into(),
        sha256: String::new(),
        version_id: String::new(),
    }
}

#[cfg(test)]
#[path = "custody_tests.rs"]
mod tests;
