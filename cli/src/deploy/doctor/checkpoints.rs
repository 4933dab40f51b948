//! The checkpoints of the ledger: that they are made, and that the key that signs them can.

use jiff::{SignedDuration, Timestamp};
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::checkpoint::{Checkpoint, PREFIX};
use redress_common::names;
use serde_json::json;

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, DESCRIBE_KEY, Site, absent};

static NO_BUCKET: Fault = Fault {
    code: "checkpoint-bucket-missing",
    severity: Severity::Error,
    about: "the bucket of the checkpoints is not there",
    why: "nothing proves that the ledger was not rewritten",
    todo: "update stack redress-administrator with its own template",
};

static NONE: Fault = Fault {
    code: "checkpoint-none",
    severity: Severity::Warning,
    about: "no checkpoint of the ledger was made for two days",
    why: "what the ledger says since can be rewritten unseen. After a deployment the first one takes a quarter of an hour",
    todo: "the log of redress-checkpoint says why: `aws logs tail /aws/lambda/redress-checkpoint --region {home}`; its rule is redress-checkpoint",
};

static LATE: Fault = Fault {
    code: "checkpoint-late",
    severity: Severity::Error,
    about: "the newest checkpoint of the ledger is older than 45 minutes",
    why: "three were missed: what the ledger says since can be rewritten unseen",
    todo: "the log of redress-checkpoint says why: `aws logs tail /aws/lambda/redress-checkpoint --region {home}`; its rule is redress-checkpoint",
};

static NO_KEY: Fault = Fault {
    code: "checkpoint-key-missing",
    severity: Severity::Error,
    about: "there is no key alias/redress-checkpoints",
    why: "no checkpoint is found by its key: `redress audit verify` has nothing to check signatures with",
    todo: "update stack redress-administrator with its own template; a key that is only without its alias: `aws kms create-alias --alias-name alias/redress-checkpoints --target-key-id <key> --region {home}`",
};

static KEY_UNUSABLE: Fault = Fault {
    code: "checkpoint-key-unusable",
    severity: Severity::Error,
    about: "the key that signs the checkpoints is disabled, or about to be deleted",
    why: "no checkpoint can be made. Those that are there can be checked by whoever has the public key, and by nobody else once it is deleted",
    todo: "`aws kms cancel-key-deletion --key-id {thing} --region {home}` when it is about to be deleted, then `aws kms enable-key --key-id {thing} --region {home}`; CloudTrail says who asked for it",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Checkpoints,
    at: Where::Administrator,
    about: "the checkpoints of the ledger: the newest is younger than 45 minutes, and its key can sign",
    faults: &[&NO_BUCKET, &NONE, &LATE, &NO_KEY, &KEY_UNUSABLE],
    rights: &["kms:DescribeKey", "s3:ListBucket"],
};

/// Three that were missed.
const OLDEST: SignedDuration = SignedDuration::from_mins(45);
/// How far back is looked.
const SIGHT: SignedDuration = SignedDuration::from_hours(48);

/// The key that signs, as KMS tells it.
struct Key {
    id: String,
    state: String,
}

struct Facts {
    has_bucket: bool,
    /// When the newest checkpoint of the last two days was stored.
    newest: Option<Timestamp>,
    key: Option<Key>,
}

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let (place, now) = (&site.place, Timestamp::now());
    let (s3, bucket) = (s3_client(site.config(), &place.home), names::checkpoint_bucket(&place.account, &place.home));
    let from = Checkpoint::folder(now.checked_sub(SIGHT).unwrap_or(now));
    let listed = s3.list_objects_v2().bucket(&bucket).expected_bucket_owner(place.account.as_str());
    // Keys come in their order, and two days are no page full.
    let listed = match listed.prefix(PREFIX).start_after(from).send().await {
        Ok(listed) => Some(listed.contents.unwrap_or_default()),
        Err(error) => absent(AwsFailure::of("ListObjectsV2", &error))?,
    };
    let newest = listed.as_ref().and_then(|objects| objects.last()?.last_modified.as_ref());
    let newest = newest.and_then(|time| Timestamp::from_second(time.secs()).ok());
    let key = site.ask(&DESCRIBE_KEY, json!({ "KeyId": names::CHECKPOINT_KEY_ALIAS })).await?;
    let key = key.map(|described| {
        let text = |name: &str| described["KeyMetadata"][name].as_str().unwrap_or_default().to_owned();
        Key { id: text("KeyId"), state: text("KeyState") }
    });
    Ok(judge(place, &bucket, &Facts { has_bucket: listed.is_some(), newest, key }, now))
}

fn judge(place: &Place, bucket: &str, facts: &Facts, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (facts.has_bucket, facts.newest) {
        (false, _) => findings.push(place.finding(&NO_BUCKET, bucket, format!("there is no bucket {bucket}"))),
        (true, None) => {
            let what = format!("bucket {bucket} has no checkpoint of the last two days");
            findings.push(place.finding(&NONE, bucket, what));
        }
        (true, Some(newest)) if now.duration_since(newest) > OLDEST => {
            let minutes = now.duration_since(newest).as_mins();
            let what = format!("the newest checkpoint of bucket {bucket} is {minutes} minutes old");
            findings.push(place.finding(&LATE, bucket, what));
        }
        (true, Some(_)) => {}
    }
    match &facts.key {
        None => {
            let what = format!("there is no key {}", names::CHECKPOINT_KEY_ALIAS);
            findings.push(place.finding(&NO_KEY, "", what));
        }
        Some(Key { id, state }) if state != "Enabled" => {
            findings.push(place.finding(&KEY_UNUSABLE, id, format!("key {id} is in state {state}")));
        }
        Some(_) => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::finding::tests::{administrator, codes};
    use super::*;

    #[test]
    fn checkpoints_are_made_and_their_key_can_sign() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let ago = |minutes| now.checked_sub(SignedDuration::from_mins(minutes)).unwrap();
        let good = |newest| Facts {
            has_bucket: true,
            newest,
            key: Some(Key { id: "k-1".to_owned(), state: "Enabled".to_owned() }),
        };
        let told = |facts: &Facts| codes(&judge(&administrator(), "b", facts, now));
        assert!(told(&good(Some(ago(45)))).is_empty());
        assert_eq!(told(&good(Some(ago(46)))), ["checkpoint-late"]);
        assert_eq!(told(&good(None)), ["checkpoint-none"]);
        assert_eq!(told(&Facts { has_bucket: false, ..good(None) }), ["checkpoint-bucket-missing"]);
        assert_eq!(told(&Facts { key: None, ..good(Some(now)) }), ["checkpoint-key-missing"]);
        for state in ["Disabled", "PendingDeletion"] {
            let key = Some(Key { id: "k-1".to_owned(), state: state.to_owned() });
            assert_eq!(told(&Facts { key, ..good(Some(now)) }), ["checkpoint-key-unusable"]);
        }
    }
}
