//! One remediation as the ledger tells it, for tests of what people see.
#![allow(clippy::unwrap_used)]

use redress_common::ids::AccountId;
use redress_common::ledger::{Head, Record, RecordDraft, RemediationType, chain, detail};
use redress_common::state::State;

use redress_lab::record::{Call, Check, Verdict};

use crate::timeline::Step;

pub(crate) const ID: &str = "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968";
/// 2026-03-01T09:00:00Z.
const START: i64 = 1_772_355_600_000;

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
