//! What an auditor without an AWS account gets of `redress audit verify`: the folder, a key, and the exit code.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use redress_common::checkpoint::{Checkpoint, Statement};
use redress_common::ids::{AccountId, RemediationId};
use redress_common::ledger::{Head, Record, RecordDraft, RemediationType, chain};
use redress_common::state::State;
use serde_json::{Value, json};

/// 2026-03-01T09:00:00Z.
const START: i64 = 1_772_355_600_000;

fn account() -> AccountId {
    "222222222222".parse().unwrap()
}

/// A chain whose remediations were asked for by this function.
fn records(executor: &str) -> Vec<Record> {
    let draft = |at: i64, state: State| RecordDraft {
        remediation_id: RemediationId::of_rejected(b"one"),
        timestamp: START + at,
        finding_id: "f".to_owned(),
        account_id: account(),
        resource_type: "AWS::S3::Bucket".to_owned(),
        resource_id: "arn:aws:s3:::my-bucket".to_owned(),
        remediation_type: RemediationType::Automatic,
        remediation_action: "Block public access".to_owned(),
        execution_status: state,
        executor_arn: format!("arn:aws:lambda:eu-central-1:111111111111:function:{executor}"),
        error_message: String::new(),
        execution_duration: 0,
        notification_sent: false,
        detail: BTreeMap::new(),
        expires_at: START / 1000 + 7_776_000,
    };
    chain(&account(), &Head::default(), vec![draft(0, State::Claimed), draft(900, State::Verified)]).0
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

/// Writes what `redress audit export` writes: these records, and a checkpoint of a quarter past nine over those.
fn export(folder: &Path, records: &[Record], checkpointed: &[Record]) {
    let lines = |values: &[Value]| values.iter().map(|value| format!("{value}\n")).collect::<String>();
    let head = Head::of(records.last().unwrap());
    let end = json!({ "AccountId": account(), "Seq": head.seq, "Hash": head.hash, "Taken": "2026-03-01T10:00:00Z" });
    std::fs::write(folder.join("head.json"), lines(&[end])).unwrap();
    let values: Vec<Value> = records.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    std::fs::write(folder.join("records.jsonl"), lines(&values)).unwrap();

    let heads = BTreeMap::from([
        ("111111111111".parse().unwrap(), Head::default()),
        (account(), Head::of(checkpointed.last().unwrap())),
    ]);
    let statement = Statement::of(
        "111111111111".parse().unwrap(),
        "eu-central-1".parse().unwrap(),
        "arn:aws:kms:eu-central-1:111111111111:key/1b2c".to_owned(),
        None,
        &heads,
        "2026-03-01T09:15:00Z".parse().unwrap(),
    );
    let signature: Signature = key(7).sign_prehash(&statement.sha256()).unwrap();
    let signature = STANDARD.encode(signature.to_der().as_bytes());
    let extract = Checkpoint { statement, signature, heads }.extract(&account());
    std::fs::write(folder.join("checkpoints.jsonl"), lines(&[serde_json::to_value(extract).unwrap()])).unwrap();
}

fn pem(path: &Path, seed: u8) {
    std::fs::write(path, key(seed).verifying_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
}

/// Nothing of AWS is configured, and it is ten past the checkpoint.
fn verify(home: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_redress"))
        .args(["audit", "verify", "--from", "export", "--public-key", "key.pem", "--now", "2026-03-01T09:25:00Z"])
        .args(more)
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .output()
        .unwrap()
}

/// A folder with an export and a key beside it.
fn home(records: &[Record], checkpointed: &[Record]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("export")).unwrap();
    export(&home.path().join("export"), records, checkpointed);
    pem(&home.path().join("key.pem"), 7);
    home
}

fn ended(output: &Output) -> (i32, &str) {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), std::str::from_utf8(&output.stdout).unwrap())
}

#[test]
fn an_export_is_verified_without_aws() {
    let good = records("redress-completion");
    let home = home(&good, &good);
    let output = verify(home.path(), &[]);
    let (code, text) = ended(&output);
    assert_eq!(code, 0, "{text}");
    for says in
        ["222222222222: intact", "Checkpoints of the chain: hold", "not checked: give --cloudtrail", "Freshness: fresh"]
    {
        assert!(text.contains(says), "{says}: {text}");
    }
    let output = verify(home.path(), &["--json"]);
    let json: Value = serde_json::from_str(ended(&output).1).unwrap();
    assert_eq!((&json["Intact"], &json["Freshness"]["AgeSeconds"]), (&json!(true), &json!(600)));
}

#[test]
fn a_chain_that_was_rewritten_with_its_head_ends_with_1() {
    let home = home(&records("somebody-else"), &records("redress-completion"));
    let output = verify(home.path(), &[]);
    let (code, text) = ended(&output);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("222222222222: BROKEN") && text.contains("the chain was rewritten"), "{text}");
}

#[test]
fn another_key_or_a_stale_checkpoint_ends_with_1() {
    let good = records("redress-completion");
    let home = home(&good, &good);
    let output = verify(home.path(), &["--max-age", "9m"]);
    assert_eq!(ended(&output).0, 1);
    assert!(ended(&output).1.contains("Freshness: STALE"), "{}", ended(&output).1);
    pem(&home.path().join("key.pem"), 8);
    let output = verify(home.path(), &[]);
    assert_eq!(ended(&output).0, 1);
    assert!(ended(&output).1.contains("is not signed with the key"), "{}", ended(&output).1);
    std::fs::write(home.path().join("key.pem"), "no key").unwrap();
    assert_eq!(verify(home.path(), &[]).status.code(), Some(1));
}

#[test]
fn checkpoints_that_were_taken_away_end_with_1() {
    let good = records("redress-completion");
    let home = home(&good, &good);
    std::fs::write(home.path().join("export/checkpoints.jsonl"), "").unwrap();
    let output = verify(home.path(), &[]);
    let (code, text) = ended(&output);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("STALE: there are no checkpoints"), "{text}");
}

#[test]
fn a_change_that_the_ledger_does_not_know_ends_with_1() {
    let good = records("redress-completion");
    let home = home(&good, &good);
    let trail = home.path().join("trail");
    std::fs::create_dir(&trail).unwrap();
    let event = |time: &str| {
        json!({
            "eventID": time, "eventTime": time, "eventSource": "s3.amazonaws.com", "eventName": "DeleteBucketPolicy",
            "awsRegion": "eu-central-1", "readOnly": false, "recipientAccountId": "222222222222",
            "userIdentity": { "sessionContext": { "sessionIssuer": { "userName": "Redress-Remediate" } } },
        })
    };
    let write = |events: &[Value]| {
        std::fs::write(trail.join("log.json"), json!({ "Records": events }).to_string()).unwrap();
    };
    write(&[event("2026-03-01T09:00:00Z")]);
    assert_eq!(ended(&verify(home.path(), &["--cloudtrail", "trail"])).0, 0);
    write(&[event("2026-03-01T09:00:00Z"), event("2026-03-01T09:05:00Z")]);
    let output = verify(home.path(), &["--cloudtrail", "trail"]);
    let (code, text) = ended(&output);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("INCOMPLETE") && text.contains("DeleteBucketPolicy"), "{text}");
}
