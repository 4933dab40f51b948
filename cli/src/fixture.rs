//! One remediation as the ledger tells it, for tests of what people see.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature, SigningKey};
use redress_common::checkpoint::{Checkpoint, Statement};
use redress_common::ids::AccountId;
use redress_common::ledger::{Head, Record, RecordDraft, RemediationType, chain, detail};
use redress_common::state::State;

use redress_lab::record::{Call, Check, Verdict};

use crate::timeline::Step;

pub(crate) const ID: &str = "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968";
/// 2026-03-01T09:00:00Z.
pub(crate) const START: i64 = 1_772_355_600_000;

pub(crate) fn account() -> AccountId {
    "222222222222".parse().unwrap()
}

/// A record's draft, so many milliseconds after nine in the morning.
pub(crate) fn draft(at: i64, state: State, details: &[(&str, &str)]) -> RecordDraft {
    let common = [
        (detail::CONTROL, "S3.8"),
        (detail::REGION, "eu-central-1"),
        (detail::EVENT_TIME, "2026-03-01T09:00:00Z"),
        (detail::REQUESTED_BY, "Config"),
        (detail::TITLE, "S3 general purpose buckets should block public access"),
        (detail::MODE, "Apply"),
    ];
    RecordDraft {
        remediation_id: ID.parse().unwrap(),
        timestamp: START + at,
        finding_id: "config/s3-bucket-level-public-access-prohibited/my-bucket".to_owned(),
        account_id: account(),
        resource_type: "AWS::S3::Bucket".to_owned(),
        resource_id: "arn:aws:s3:::my-bucket".to_owned(),
        remediation_type: RemediationType::Automatic,
        remediation_action: "Block public access".to_owned(),
        execution_status: state,
        executor_arn: "arn:aws:lambda:eu-central-1:111111111111:function:redress-orchestrator".to_owned(),
        error_message: String::new(),
        execution_duration: 0,
        notification_sent: false,
        detail: common.iter().chain(details).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        expires_at: START / 1000 + 7_776_000,
    }
}

/// The records of a remediation that went well.
pub(crate) fn verified() -> Vec<Record> {
    let planned = draft(
        41,
        State::Planned,
        &[
            (detail::DISPOSITION, "act"),
            (detail::POLICIES, "standard.act-on-reversible"),
            (detail::POLICY_SET, "standard"),
            (detail::POLICY_SET_SHA256, &"5a".repeat(32)),
        ],
    );
    let claimed = draft(42, State::Claimed, &[(detail::FENCE, "1")]);
    let steps = r#"[{"Name":"ValidateInputs","Status":"Success","Start":"2026-03-01T09:00:00.090Z","End":"2026-03-01T09:00:00.102Z"},
        {"Name":"InvokeRemediationRunbook","Status":"Success","Start":"2026-03-01T09:00:00.102Z","End":"2026-03-01T09:00:00.700Z"}]"#;
    let mut verified = draft(
        840,
        State::Verified,
        &[
            (detail::OUTCOME, "Verified"),
            (detail::STEPS, steps),
            (detail::EXECUTION_ID, "7c1a3b52-0000-4000-8000-000000000000"),
            (detail::PRE_IMAGE_SHA256, &"1b".repeat(32)),
            (detail::CHANGE_SHA256, &"2c".repeat(32)),
            (detail::POST_IMAGE_SHA256, &"3d".repeat(32)),
        ],
    );
    verified.execution_duration = 798;
    verified.notification_sent = true;
    sealed(vec![planned, claimed, verified])
}

/// The records of one that AWS refused.
pub(crate) fn failed() -> Vec<Record> {
    let planned = draft(41, State::Planned, &[(detail::DISPOSITION, "act"), (detail::POLICY_SET, "standard")]);
    let mut failed = draft(90, State::Failed, &[(detail::REASON, "the member account could not be entered")]);
    failed.error_message = "`AssumeRole` failed: AccessDenied: the ExternalId is wrong".to_owned();
    sealed(vec![planned, failed])
}

pub(crate) fn sealed(drafts: Vec<RecordDraft>) -> Vec<Record> {
    chain(&account(), &Head::default(), drafts).0
}

/// A key that signs checkpoints; another seed, another key.
pub(crate) fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

/// A statement as key 7 signs it, in Base64.
pub(crate) fn signature(statement: &Statement) -> String {
    let signature: Signature = signing_key(7).sign_prehash(&statement.sha256()).unwrap();
    STANDARD.encode(signature.to_der().as_bytes())
}

/// A checkpoint every quarter of an hour, from a quarter past nine: the first when the chain had so many records, and so on.
/// Two other accounts have chains, too.
pub(crate) fn checkpoints(records: &[Record], lengths: &[usize]) -> Vec<Checkpoint> {
    let mut checkpoints: Vec<Checkpoint> = Vec::new();
    for (at, length) in lengths.iter().enumerate() {
        let others = ["111111111111", "333333333333"].map(|other| (other.parse().unwrap(), Head::of(&records[0])));
        let own = (account(), length.checked_sub(1).map_or_else(Head::default, |last| Head::of(&records[last])));
        let heads: BTreeMap<AccountId, Head> = others.into_iter().chain([own]).collect();
        let before = checkpoints.last().map(|before| before.statement.link());
        let statement = Statement::of(
            "111111111111".parse().unwrap(),
            "eu-central-1".parse().unwrap(),
            "arn:aws:kms:eu-central-1:111111111111:key/1b2c".to_owned(),
            before.as_ref(),
            &heads,
            Timestamp::from_millisecond(START + (at as i64 + 1) * 900_000).unwrap(),
        );
        checkpoints.push(Checkpoint { signature: signature(&statement), statement, heads });
    }
    checkpoints
}

/// What a lab saw beside it.
pub(crate) fn calls() -> Vec<Call> {
    let call = |at: &str, principal: &str, operation: &str, resource: &str| Call {
        at: at.parse().unwrap(),
        seq: 0,
        principal: principal.to_owned(),
        account: principal.split(':').nth(4).unwrap_or_default().to_owned(),
        function: None,
        region: "eu-central-1".to_owned(),
        service: if operation == "AssumeRole" { "sts" } else { "ssm" }.to_owned(),
        operation: operation.to_owned(),
        checks: vec![Check { action: String::new(), resource: resource.to_owned(), allowed: true }],
        verdict: Verdict::Allow,
        status: 200,
        error: None,
        micros: 1_500,
        fault: None,
    };
    let orchestrator = "arn:aws:sts::111111111111:assumed-role/Redress-Orchestrator/redress-orchestrator";
    let member = format!("arn:aws:sts::222222222222:assumed-role/SecurityRemediationCrossAccountRole/redress-{ID}");
    vec![
        call(
            "2026-03-01T09:00:00.060Z",
            orchestrator,
            "AssumeRole",
            "arn:aws:iam::222222222222:role/SecurityRemediationCrossAccountRole",
        ),
        call(
            "2026-03-01T09:00:00.061Z",
            orchestrator,
            "AssumeRole",
            "arn:aws:iam::333333333333:role/SecurityRemediationCrossAccountRole",
        ),
        call(
            "2026-03-01T09:00:00.080Z",
            &member,
            "StartAutomationExecution",
            "arn:aws:ssm:eu-central-1:222222222222:automation-definition/Redress-Control:$DEFAULT",
        ),
    ]
}

/// The steps of both runbooks.
pub(crate) fn steps() -> Vec<Step> {
    let step = |document: &str, name: &str, status: &str, start: &str, end: &str| Step {
        document: document.to_owned(),
        name: name.to_owned(),
        status: status.to_owned(),
        start: start.parse().unwrap(),
        end: end.parse().unwrap(),
    };
    vec![
        step("Redress-Control", "ValidateInputs", "Success", "2026-03-01T09:00:00.090Z", "2026-03-01T09:00:00.102Z"),
        step("Redress-S3.8", "CheckResourceStatus", "Success", "2026-03-01T09:00:00.120Z", "2026-03-01T09:00:00.150Z"),
        step("Redress-S3.8", "VerifyRemediation", "Failed", "2026-03-01T09:00:00.300Z", "2026-03-01T09:00:00.650Z"),
    ]
}
