//! The ledger: what was done, to what, why and by whom, as a chain of records that shows every later change.
//!
//! One chain a member account. A record's hash covers all its attributes, the previous record's hash among
//! them, in RFC 8785 canonical JSON; so an altered, missing, moved or repeated record is found, and named, by
//! whoever has the records, with no access to AWS. The end of the chain is guarded by its head, which lies
//! apart from it. This module writes nothing anywhere.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{AccountId, RemediationId};
use crate::state::State;

/// Keys of [`RecordDraft::detail`].
#[expect(missing_docs, reason = "each is the name of what it holds")]
pub mod detail {
    /// Whom a finding of `GuardDuty`'s names besides its resource: ARNs, separated by spaces.
    pub const ACTORS: &str = "Actors";
    /// Who answered an approval.
    pub const ANSWERED_BY: &str = "AnsweredBy";
    /// How many people said yes, of how many that must.
    pub const APPROVALS: &str = "Approvals";
    /// What an operator's change made of it.
    pub const AFTER: &str = "After";
    /// What it was before an operator's change.
    pub const BEFORE: &str = "Before";
    /// The campaign that released the finding.
    pub const CAMPAIGN: &str = "Campaign";
    pub const CHANGE_SHA256: &str = "ChangeSha256";
    pub const CODE: &str = "Code";
    pub const CONTROL: &str = "Control";
    pub const DISPOSITION: &str = "Disposition";
    pub const EVENT_TIME: &str = "EventTime";
    pub const EVIDENCE_BUCKET: &str = "EvidenceBucket";
    pub const EVIDENCE_KEY: &str = "EvidenceKey";
    pub const EVIDENCE_VERSION_ID: &str = "EvidenceVersionId";
    pub const EXECUTION_ID: &str = "ExecutionId";
    /// Until when an answer counts.
    pub const EXPIRES: &str = "Expires";
    pub const FENCE: &str = "Fence";
    /// What `GuardDuty` calls what it found.
    pub const FINDING_TYPE: &str = "FindingType";
    pub const FINDING_UPDATE: &str = "FindingUpdate";
    pub const GENERATION: &str = "Generation";
    /// What the guard found out that a change would touch: JSON.
    pub const IMPACT: &str = "Impact";
    /// What items of the state table became by a change: `<key>:<fingerprint>`, separated by commas.
    pub const ITEMS: &str = "Items";
    /// The id of the copy that was made before a change.
    pub const MADE: &str = "Made";
    /// The message of a dead-letter queue.
    pub const MESSAGE_ID: &str = "MessageId";
    pub const MODE: &str = "Mode";
    pub const OUTCOME: &str = "Outcome";
    /// On the records of a dry run that makes a plan for an approval: the remediation that the plan is for.
    pub const PLAN_FOR: &str = "PlanFor";
    /// The dry run that made the plan.
    pub const PLAN_ID: &str = "PlanId";
    /// [`crate::contract::plan_sha256`] of the plan that is asked about, was approved, or is applied.
    pub const PLAN_SHA256: &str = "PlanSha256";
    /// Ids of the policies that decided, separated by commas.
    pub const POLICIES: &str = "Policies";
    pub const POLICY_SET: &str = "PolicySet";
    pub const POLICY_SET_SHA256: &str = "PolicySetSha256";
    pub const POST_IMAGE_SHA256: &str = "PostImageSha256";
    pub const PRE_IMAGE_SHA256: &str = "PreImageSha256";
    pub const PRODUCT_ARN: &str = "ProductArn";
    /// What policy was asked, as JSON: the same can be asked of another set.
    pub const QUESTION: &str = "Question";
    /// Why it came to this, in a sentence.
    pub const REASON: &str = "Reason";
    pub const REGION: &str = "Region";
    /// `Config`, `Import`, `GuardDuty`, `CustomAction`, or the ARN of who asked.
    pub const REQUESTED_BY: &str = "RequestedBy";
    pub const RESOURCE_NAME: &str = "ResourceName";
    /// `true` on the records about a sample finding of GuardDuty's; absent on all others.
    pub const SAMPLE: &str = "Sample";
    pub const SEVERITY: &str = "Severity";
    pub const SOURCE_EVIDENCE_KEY: &str = "SourceEvidenceKey";
    /// The control runbook's steps: a JSON array of `{Name, Status, Start, End}`.
    pub const STEPS: &str = "Steps";
    /// The remediation that had taken this one's place when its outcome came in.
    pub const SUPERSEDED_BY: &str = "SupersededBy";
    pub const TITLE: &str = "Title";
    /// What people were told of an incident besides: [`crate::notification::Triage`] as JSON.
    pub const TRIAGE: &str = "Triage";
    /// On the record of an undone remediation: the undo.
    pub const UNDONE_BY: &str = "UndoneBy";
    /// On the records of an undo: the remediation that it undoes.
    pub const UNDOES: &str = "Undoes";
}

/// Values of [`detail::CODE`] that readers of the ledger look for.
pub mod code {
    /// A person closed the case of the resource.
    pub const CASE_CLOSED: &str = "case-closed";
    /// A person wants those on call to look at a finding now.
    pub const ESCALATED: &str = "escalated";
}

/// SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Whether a person or a rule asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RemediationType {
    /// A person asked: custom action, command line.
    Manual,
    /// A rule asked: Config, Security Hub import, GuardDuty.
    Automatic,
}

/// What a record says, before it has a place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordDraft {
    /// The remediation; partition key.
    pub remediation_id: RemediationId,
    /// When it was written, Unix milliseconds; sort key.
    pub timestamp: i64,
    /// The finding, by its reporter's id.
    pub finding_id: String,
    /// The account of the resource.
    pub account_id: AccountId,
    /// The resource's CloudFormation type.
    pub resource_type: String,
    /// The resource's ARN, or `unknown`.
    pub resource_id: String,
    /// Who asked.
    pub remediation_type: RemediationType,
    /// What is done about it: `Block public access`.
    pub remediation_action: String,
    /// Where the remediation stands with this record.
    pub execution_status: State,
    /// The function that wrote this record.
    pub executor_arn: String,
    /// What failed; empty when nothing did.
    pub error_message: String,
    /// Milliseconds from claim to this record; zero before the claim.
    pub execution_duration: i64,
    /// Whether people were really told.
    pub notification_sent: bool,
    /// Everything else; keys are those of [`detail`].
    pub detail: BTreeMap<String, String>,
    /// When the table may forget it, Unix seconds.
    pub expires_at: i64,
}

impl RecordDraft {
    /// The record that this draft becomes as the next of a chain.
    #[must_use]
    pub fn seal(self, origin: &AccountId, head: &Head) -> Record {
        let mut record = Record {
            draft: self,
            origin: origin.clone(),
            seq: head.seq + 1,
            prev_hash: head.hash.clone(),
            hash: String::new(),
        };
        record.hash = record.digest();
        record
    }
}

/// One record of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// What it says.
    #[serde(flatten)]
    pub draft: RecordDraft,
    /// The chain: a member account, or the administrator account for inputs that name no account.
    pub origin: AccountId,
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// Hash of the record before; 64 zeros for the first.
    pub prev_hash: String,
    /// SHA-256 over every other attribute.
    pub hash: String,
}

impl Record {
    /// What `Hash` must be.
    #[must_use]
    pub fn digest(&self) -> String {
        let Ok(serde_json::Value::Object(mut attributes)) = serde_json::to_value(self) else {
            return String::new();
        };
        attributes.shift_remove("Hash");
        // Strings, integers, booleans and maps of strings: canonical form exists for all of them.
        serde_json_canonicalizer::to_vec(&attributes).map(|bytes| sha256_hex(&bytes)).unwrap_or_default()
    }

    /// Whether it is of an incident: `GuardDuty` reported it, or somebody contained the resource, undid that, destroyed it, or
    /// escalated it.
    #[must_use]
    pub fn is_of_incident(&self) -> bool {
        let says = |key: &str| self.detail(key).unwrap_or_default();
        says(detail::REQUESTED_BY) == "GuardDuty"
            || ["Contain.", "Destroy."].iter().any(|family| says(detail::CONTROL).starts_with(family))
            || [code::ESCALATED, code::CASE_CLOSED].contains(&says(detail::CODE))
    }

    /// Whom its finding names besides the resource: ARNs.
    pub fn actors(&self) -> impl Iterator<Item = &str> {
        self.detail(detail::ACTORS).unwrap_or_default().split(' ').filter(|actor| !actor.is_empty())
    }

    /// Whether it is about a sample finding: a try of the way, and nothing that happened.
    #[must_use]
    pub fn is_sample(&self) -> bool {
        self.detail(detail::SAMPLE) == Some("true")
    }

    /// A value of `Detail`.
    #[must_use]
    pub fn detail(&self, key: &str) -> Option<&str> {
        self.draft.detail.get(key).map(String::as_str)
    }
}

/// The finding that a `FindingId` speaks of: without the resource behind `#`, where it is of one of many, and of a `GuardDuty`
/// finding the id alone, by which Security Hub's copy of it is the same. `None` when the id names none.
#[must_use]
pub fn finding_of(finding_id: &str) -> Option<&str> {
    let whole = finding_id.split('#').next().filter(|whole| !["", "unknown", "none"].contains(whole))?;
    let id = whole.rsplit_once("/finding/").filter(|(detector, _)| detector.contains(":guardduty:"));
    id.map_or(Some(whole), |(_, id)| (!id.is_empty()).then_some(id))
}

/// The newest place of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Head {
    /// `Seq` of the newest record; 0 when there is none.
    pub seq: u64,
    /// Its `Hash`; 64 zeros when there is none.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }
}

impl Head {
    /// The head of a chain that ends with this record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self { seq: record.seq, hash: record.hash.clone() }
    }
}

/// The drafts as the next records of a chain, in order, and its new head.
#[must_use]
pub fn chain(origin: &AccountId, head: &Head, drafts: Vec<RecordDraft>) -> (Vec<Record>, Head) {
    let mut head = head.clone();
    let records = drafts
        .into_iter()
        .map(|draft| {
            let record = draft.seal(origin, &head);
            head = Head::of(&record);
            record
        })
        .collect();
    (records, head)
}

/// What is wrong with the first bad record of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An attribute is not what it was when the record was written.
    Altered,
    /// Its hash is right, but it does not follow the record before it: one of the two was forged.
    Unlinked,
    /// The record with this `Seq` should stand here, and stands nowhere.
    Missing {
        /// The `Seq` that is missing.
        seq: u64,
    },
    /// The record with this `Seq` should stand here, and stands further on.
    Reordered {
        /// The `Seq` that should stand here.
        seq: u64,
    },
    /// The same place in the chain was there before.
    Duplicated,
    /// It belongs to the chain of another account.
    ForeignOrigin,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered => f.write_str("was altered: its hash does not fit its attributes"),
            Self::Unlinked => f.write_str("does not follow the record before it: one of the two was forged"),
            Self::Missing { seq } => write!(f, "does not follow: record {seq} is missing"),
            Self::Reordered { seq } => write!(f, "is out of order: record {seq} comes later"),
            Self::Duplicated => f.write_str("is there twice"),
            Self::ForeignOrigin => f.write_str("belongs to the chain of another account"),
        }
    }
}

/// A chain does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A record is bad; those before it are good.
    #[error("record at position {position} (Seq {seq}) {fault}")]
    Record {
        /// Its position in what was given, from 0.
        position: usize,
        /// Its `Seq`, as it says.
        seq: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// All records are good, but the chain does not end where its head says: the newest were cut off, or the head is older.
    #[error("the chain ends at Seq {found}, its head says {expected}: the newest records are missing or were replaced")]
    End {
        /// `Seq` of the last record given.
        found: u64,
        /// `Seq` of the head.
        expected: u64,
    },
}

/// Verify a whole chain, in order, from its first record.
///
/// The end is not guarded by the records themselves: compare the answer with the chain's head, or use [`verify_to`].
///
/// # Errors
/// At the first bad record.
pub fn verify(records: &[Record]) -> Result<Head, ChainError> {
    verify_from(&Head::default(), records)
}

/// Verify a whole chain that must end at `head`.
///
/// # Errors
/// At the first bad record, or when the chain ends elsewhere.
pub fn verify_to(records: &[Record], head: &Head) -> Result<(), ChainError> {
    let found = verify(records)?;
    if found == *head { Ok(()) } else { Err(ChainError::End { found: found.seq, expected: head.seq }) }
}

/// Verify the part of a chain that follows `start`, such as what the table has not forgotten yet.
///
/// # Errors
/// At the first bad record.
pub fn verify_from(start: &Head, records: &[Record]) -> Result<Head, ChainError> {
    let origin = records.first().map(|record| &record.origin);
    let mut seen = HashSet::new();
    let mut head = start.clone();
    for (position, record) in records.iter().enumerate() {
        let bad = |fault| Err(ChainError::Record { position, seq: record.seq, fault });
        let wanted = head.seq + 1;
        if record.digest() != record.hash {
            return bad(Fault::Altered);
        }
        if Some(&record.origin) != origin {
            return bad(Fault::ForeignOrigin);
        }
        if record.seq != wanted {
            return bad(if seen.contains(&record.seq) {
                Fault::Duplicated
            } else if records[position..].iter().any(|later| later.seq == wanted) {
                Fault::Reordered { seq: wanted }
            } else {
                Fault::Missing { seq: wanted }
            });
        }
        if record.prev_hash != head.hash {
            return bad(Fault::Unlinked);
        }
        seen.insert(record.seq);
        head = Head::of(record);
    }
    Ok(head)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn draft(text: &str, number: i64) -> RecordDraft {
        RecordDraft {
            remediation_id: RemediationId::of_rejected(text.as_bytes()),
            timestamp: 1_700_000_000_000 + number,
            finding_id: text.to_owned(),
            account_id: "111122223333".parse().unwrap(),
            resource_type: "AWS::S3::Bucket".to_owned(),
            resource_id: format!("arn:aws:s3:::{text}"),
            remediation_type: RemediationType::Automatic,
            remediation_action: "Block public access".to_owned(),
            execution_status: State::Verified,
            executor_arn: "arn:aws:lambda:eu-central-1:999999999999:function:redress-completion".to_owned(),
            error_message: String::new(),
            execution_duration: number,
            notification_sent: true,
            detail: BTreeMap::from([("Control".to_owned(), "S3.8".to_owned())]),
            expires_at: 1_800_000_000,
        }
    }

    fn a_chain(length: usize) -> Vec<Record> {
        let drafts = (0..length).map(|n| draft(&format!("finding-{n}"), n as i64)).collect();
        chain(&"111122223333".parse().unwrap(), &Head::default(), drafts).0
    }

    #[test]
    fn a_chain_verifies_and_gives_its_head() {
        let records = a_chain(5);
        assert_eq!(verify(&records), Ok(Head::of(&records[4])));
        assert_eq!(records[0].prev_hash, "0".repeat(64));
        assert_eq!(verify(&[]), Ok(Head::default()));
        assert_eq!(verify_from(&Head::of(&records[1]), &records[2..]), Ok(Head::of(&records[4])));
    }

    #[test]
    fn the_attributes_are_those_of_the_audit_table() {
        let Value::Object(map) = serde_json::to_value(&a_chain(1)[0]).unwrap() else { panic!("no object") };
        let mut names: Vec<&str> = map.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "AccountId",
                "Detail",
                "ErrorMessage",
                "ExecutionDuration",
                "ExecutionStatus",
                "ExecutorArn",
                "ExpiresAt",
                "FindingId",
                "Hash",
                "NotificationSent",
                "Origin",
                "PrevHash",
                "RemediationAction",
                "RemediationId",
                "RemediationType",
                "ResourceId",
                "ResourceType",
                "Seq",
                "Timestamp",
            ]
        );
    }

    #[test]
    fn the_hash_is_over_canonical_json() {
        let record = &a_chain(1)[0];
        let text = concat!(
            r#"{"AccountId":"111122223333","Detail":{"Control":"S3.8"},"ErrorMessage":"","ExecutionDuration":0,"#,
            r#""ExecutionStatus":"Verified","ExecutorArn":"arn:aws:lambda:eu-central-1:999999999999:function:redress-completion","#,
            r#""ExpiresAt":1800000000,"FindingId":"finding-0","NotificationSent":true,"Origin":"111122223333","PrevHash":"#,
            r#""0000000000000000000000000000000000000000000000000000000000000000","RemediationAction":"Block public access","#,
        )
        .to_owned()
            + &format!(r#""RemediationId":"{}","#, record.draft.remediation_id)
            + concat!(
                r#""RemediationType":"Automatic","ResourceId":"arn:aws:s3:::finding-0","ResourceType":"AWS::S3::Bucket","#,
                r#""Seq":1,"Timestamp":1700000000000}"#
            );
        assert_eq!(record.hash, sha256_hex(text.as_bytes()));
    }

    #[test]
    fn the_resources_of_a_finding_and_its_copy_in_security_hub_are_one_finding() {
        let copy = "arn:aws:guardduty:eu-central-1:111122223333:detector/1/finding/f1";
        for id in ["f1", "f1#arn:aws:s3:::b", copy] {
            assert_eq!(finding_of(id), Some("f1"), "{id}");
        }
        let control = "arn:aws:securityhub:eu-central-1:111122223333:security-control/S3.8/finding/f1";
        assert_eq!(finding_of(control), Some(control));
        for id in ["", "unknown", "none", "#x", "arn:aws:guardduty:eu-central-1:111122223333:detector/1/finding/"] {
            assert_eq!(finding_of(id), None, "{id}");
        }
    }

    #[test]
    fn a_cut_off_end_is_seen_against_the_head() {
        let records = a_chain(4);
        let head = Head::of(&records[3]);
        assert_eq!(verify_to(&records, &head), Ok(()));
        assert_eq!(verify_to(&records[..3], &head), Err(ChainError::End { found: 3, expected: 4 }));
    }

    #[test]
    fn a_record_that_was_forged_and_hashed_again_breaks_the_link_after_it() {
        let mut records = a_chain(3);
        records[1].draft.error_message = "nothing to see".to_owned();
        records[1].hash = records[1].digest();
        assert_eq!(verify(&records), Err(ChainError::Record { position: 2, seq: 3, fault: Fault::Unlinked }));
    }

    #[test]
    fn each_fault_is_told_by_its_name() {
        let good = a_chain(4);
        let fault = |records: &[Record]| match verify(records) {
            Err(ChainError::Record { position, fault, .. }) => (position, fault),
            other => panic!("{other:?}"),
        };
        let mut missing = good.clone();
        missing.remove(1);
        assert_eq!(fault(&missing), (1, Fault::Missing { seq: 2 }));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert_eq!(fault(&swapped), (1, Fault::Reordered { seq: 2 }));
        let mut twice = good.clone();
        twice.insert(2, good[1].clone());
        assert_eq!(fault(&twice), (2, Fault::Duplicated));
        let mut foreign = good;
        let other = chain(&"444455556666".parse().unwrap(), &Head::of(&foreign[0]), vec![draft("x", 1)]).0;
        foreign[1] = other[0].clone();
        assert_eq!(fault(&foreign), (1, Fault::ForeignOrigin));
    }

    /// Another value of the same type, so that the record still parses wherever that is possible.
    fn changed(value: &Value, salt: &str) -> Value {
        match value {
            Value::Bool(b) => json!(!b),
            Value::Number(n) => json!(n.as_i64().unwrap_or_default() + 1 + salt.len() as i64),
            Value::Object(_) => json!({ "Control": format!("S3.8{salt}!") }),
            Value::String(s) if s.parse::<AccountId>().is_ok() => json!("999900001111"),
            Value::String(s) if s.parse::<State>().is_ok() => json!("Ignored"),
            Value::String(s) if s == "Automatic" => json!("Manual"),
            Value::String(s) if s.parse::<RemediationId>().is_ok() => {
                json!(RemediationId::of_rejected(salt.as_bytes()))
            }
            Value::String(s) => json!(format!("{s}{salt}!")),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn any_alteration_of_any_attribute_is_found_at_its_record(
            length in 1_usize..8, at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), salt in "[a-z]{0,5}",
        ) {
            let mut records = a_chain(length);
            let at = at.index(length);
            let Value::Object(mut map) = serde_json::to_value(&records[at]).unwrap() else { panic!("no object") };
            let name = map.keys().nth(which.index(map.len())).unwrap().clone();
            let value = changed(&map[&name], &salt);
            map.insert(name, value);
            records[at] = serde_json::from_value(Value::Object(map)).unwrap();
            let found = verify(&records);
            let expected = ChainError::Record { position: at, seq: records[at].seq, fault: Fault::Altered };
            prop_assert_eq!(found, Err(expected));
        }

        #[test]
        fn any_removal_is_found(length in 1_usize..10, at in any::<prop::sample::Index>()) {
            let mut records = a_chain(length);
            let head = Head::of(&records[length - 1]);
            records.remove(at.index(length));
            prop_assert!(verify_to(&records, &head).is_err());
        }

        #[test]
        fn any_swap_is_found(length in 2_usize..10, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let mut records = a_chain(length);
            let (a, b) = (a.index(length), b.index(length));
            prop_assume!(a != b);
            records.swap(a, b);
            prop_assert!(verify(&records).is_err());
        }

        #[test]
        fn any_repetition_is_found(length in 1_usize..10, at in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
            let mut records = a_chain(length);
            let copy = records[at.index(length)].clone();
            records.insert(to.index(length + 1), copy);
            prop_assert!(verify(&records).is_err());
        }
    }
}
