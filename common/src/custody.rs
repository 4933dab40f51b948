//! The custody of an incident: what was taken of a resource that was contained, by whom, when, and the hash of each object.
//!
//! It holds no state of a resource and no secret: those are sealed, in the evidence and in the documents that are named here.
//! What lies under [`PREFIX`] is under Object Lock, each object by itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arn::Arn;
use crate::contract::{Mode, Outcome, Sealed};
use crate::ids::{AccountId, ControlId, Region, RemediationId};

/// Where in the member's evidence bucket it lies.
pub const PREFIX: &str = "incidents/";
/// The custody document of a remediation.
pub const CUSTODY: &str = "custody.json";
/// What a contained bucket held.
pub const OBJECTS: &str = "objects.json";

/// Where something of an incident lies.
#[must_use]
pub fn key(id: RemediationId, name: &str) -> String {
    format!("{}{name}", folder(id))
}

/// Where all of it lies.
#[must_use]
pub fn folder(id: RemediationId) -> String {
    format!("{PREFIX}{id}/")
}

/// What kind of thing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemKind {
    /// A snapshot of a volume, by its id.
    EbsSnapshot,
    /// A snapshot of a database, by its name.
    RdsSnapshot,
    /// A snapshot of a cluster of databases, by its name.
    RdsClusterSnapshot,
    /// A command of Systems Manager that captured memory, by its id. Where it put it the document of the command knows.
    MemoryCapture,
    /// The list of what a bucket held, by its key in the evidence bucket.
    ObjectListing,
}

/// Something that was taken of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// What AWS calls it.
    pub id: String,
    /// When it was begun.
    pub at: Timestamp,
    /// Of what, and how it stood: `vol-1, before isolation`.
    pub detail: String,
    /// SHA-256 of its bytes, hexadecimal, where we have them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Its version, where it is an object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version_id: String,
}

/// The evidence of the remediation: pre-image, change and end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EvidenceObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version that says how it ended.
    pub version_id: String,
    /// SHA-256 of that version's bytes, hexadecimal.
    pub sha256: String,
}

/// The custody document. Who asked is in the ledger, under the same RemediationId.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Custody {
    /// Format version, 1.
    pub version: u32,
    /// The remediation.
    pub remediation_id: RemediationId,
    /// The playbook.
    pub control: ControlId,
    /// What was contained, or given back.
    pub resource_arn: Arn,
    /// The account.
    pub account_id: AccountId,
    /// The Region.
    pub region: Region,
    /// What was asked for.
    pub mode: Mode,
    /// How it ended.
    pub outcome: Outcome,
    /// The function that did it, with its version.
    pub executed_by: String,
    /// When its pre-image was stored.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its evidence.
    pub evidence: EvidenceObject,
    /// What was taken.
    pub items: Vec<Item>,
}

/// A document that may hold secrets, such as the names of objects: sealed as pre-images are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SealedDocument {
    /// Format version, 1.
    pub version: u32,
    /// Of which remediation; with the account the encryption context.
    pub remediation_id: RemediationId,
    /// The account.
    pub account_id: AccountId,
    /// The envelope.
    pub sealed: Sealed,
}
