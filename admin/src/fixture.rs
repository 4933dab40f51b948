//! Values that the tests of this crate share.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use redress_common::aws::state_table::{Claim, ClaimStatus, Subject};
use redress_common::catalogue::{Catalogue, ControlEntry, Risk, Scope};
use redress_common::contract::Mode;
use redress_common::finding::{Check, Finding, Resource, Severity, SeverityLabel, Trigger, WorkflowStatus};
use redress_common::ids::{Fence, Generation, RemediationId};
use redress_common::ledger::RemediationType;
use redress_common::state::State;

pub(crate) const T0: &str = "2026-03-01T12:00:00Z";

pub(crate) fn resource(arn: &str, kind: &str) -> Resource {
    Resource {
        arn: arn.parse().unwrap(),
        kind: kind.to_owned(),
        name: arn.rsplit([':', '/']).next().unwrap().to_owned(),
    }
}

pub(crate) fn finding() -> Finding {
    Finding {
        id: "arn:aws:securityhub:eu-central-1:111122223333:security-control/S3.8/finding/f-1".to_owned(),
        product_arn: Some("arn:aws:securityhub:eu-central-1::product/aws/securityhub".parse().unwrap()),
        generation: Generation(1_772_366_390_000),
        check: Check::Control("S3.8".parse().unwrap()),
        account: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        resource: resource("arn:aws:s3:::bucket-1", "AWS::S3::Bucket"),
        severity: Severity { score: 70, label: SeverityLabel::High },
        title: "S3 general purpose buckets should block public access".to_owned(),
        workflow: WorkflowStatus::New,
        trigger: Trigger::Import,
        event_time: T0.parse().unwrap(),
        first_seen: T0.parse().unwrap(),
        indicators: Vec::new(),
        actors: Vec::new(),
        sample: false,
    }
}

pub(crate) fn subject() -> Subject {
    Subject {
        finding_id: finding().id,
        product_arn: finding().product_arn,
        title: finding().title,
        severity: SeverityLabel::High,
        account: finding().account,
        region: Some(finding().region),
        control: Some("S3.8".parse().unwrap()),
        resource_id: finding().resource.arn.to_string(),
        resource_type: finding().resource.kind,
        action: "Block public access".to_owned(),
        remediation_type: RemediationType::Automatic,
        requested_by: "Import".to_owned(),
        reported: None,
        sample: false,
    }
}

pub(crate) fn claim() -> Claim {
    Claim {
        remediation_id: RemediationId::of_rejected(b"some other remediation"),
        generation: Generation(1),
        fence: Fence(1),
        status: ClaimStatus::Leased,
        state: State::Claimed,
        lease_until: 0,
        claimed_at: 0,
        mode: Mode::Apply,
        subject: subject(),
        undoes: None,
        undoable: None,
        held: false,
        recent: vec![],
        ended: vec![],
        notice: None,
        later: None,
        expires_at: None,
    }
}

fn entry(title: &str, risk: Risk, scope: Scope, kind: &str, pattern: &str, action: &str) -> ControlEntry {
    ControlEntry {
        title: title.to_owned(),
        risk,
        scope,
        resource_types: vec![kind.to_owned()],
        arn_patterns: vec![pattern.to_owned()],
        config_rules: vec![],
        guardduty_types: vec![],
        frameworks: BTreeMap::from([("CIS v3.0.0".to_owned(), vec!["2.1.4".to_owned()])]),
        action: action.to_owned(),
        workflow: None,
        direct: None,
        guidance: vec![],
    }
}

pub(crate) fn catalogue() -> Catalogue {
    let s3 = entry(
        "S3 general purpose buckets should block public access",
        Risk::Reversible,
        Scope::Regional,
        "AWS::S3::Bucket",
        "arn:*:s3:::{}",
        "Block public access",
    );
    let iam = entry(
        "Password policies should be strong",
        Risk::Reversible,
        Scope::Global,
        "AWS::::Account",
        "arn:*:iam::*:{}",
        "Strengthen the password policy",
    );
    Catalogue(BTreeMap::from([("S3.8".parse().unwrap(), s3), ("IAM.7".parse().unwrap(), iam)]))
}
