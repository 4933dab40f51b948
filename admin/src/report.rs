//! What is written and said about a remediation: ledger records, the SNS message, metrics.
//!
//! Pure but for [`metric`], which prints one line. None of it carries a pre-image, a parameter or a secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::aws::state_table::{Claim, ClaimStatus, Subject};
use redress_common::contract::Mode;
use redress_common::finding::SeverityLabel;
use redress_common::ids::{Fence, Generation, RemediationId};
use redress_common::ledger::{Record, RecordDraft, detail};
use redress_common::notification::{Notification, status_of};
use redress_common::state::State;
use redress_common::time::seconds;
use serde_json::json;

use crate::decide::{Basis, REQUEST_SECONDS};
use crate::ports::{Attributes, Identity};

/// Longer error messages are cut: they are for people, and a record has a limit.
const MESSAGE: usize = 1000;

/// Details of a record.
pub type Detail = BTreeMap<String, String>;

/// A detail map of these entries, without the empty ones.
#[must_use]
pub fn details<const N: usize>(entries: [(&str, String); N]) -> Detail {
    entries.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A text of AWS's, made safe to store and show: no control characters, bounded.
#[must_use]
pub fn sanitised(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE).collect();
    clean.trim().to_owned()
}

/// A record about a subject.
#[must_use]
pub fn draft(me: &Identity, id: RemediationId, subject: &Subject, state: State, now: Timestamp) -> RecordDraft {
    RecordDraft {
        remediation_id: id,
        timestamp: now.as_millisecond(),
        finding_id: subject.finding_id.clone(),
        account_id: subject.account.clone(),
        resource_type: subject.resource_type.clone(),
        resource_id: subject.resource_id.clone(),
        remediation_type: subject.remediation_type,
        remediation_action: subject.action.clone(),
        execution_status: state,
        executor_arn: me.executor.as_str().to_owned(),
        error_message: String::new(),
        execution_duration: 0,
        notification_sent: false,
        detail: details([
            (detail::CONTROL, subject.control.as_ref().map(ToString::to_string).unwrap_or_default()),
            (detail::REGION, subject.region.as_ref().map(ToString::to_string).unwrap_or_default()),
            (detail::SEVERITY, subject.severity.as_str().to_owned()),
        ]),
        expires_at: now.as_second() + i64::from(me.retention_days) * 24 * 60 * 60,
    }
}

/// The claim that a remediation had under a fence, and where its evidence lies, as far as its records tell; `None` when
/// none tells that it was started under that fence.
#[must_use]
pub fn claim_of(records: &[Record], mode: Mode, fence: Fence) -> Option<(Claim, String)> {
    let of_fence = |record: &&Record| {
        let said = record.detail(detail::FENCE) == Some(fence.to_string().as_str());
        said && record.detail(detail::MODE) == Some(mode.as_str()) && record.detail(detail::EXECUTION_ID).is_none()
    };
    let started = records.iter().find(of_fence)?;
    let first = records.iter().find(|record| record.detail(detail::FENCE).is_some())?;
    let told = |name: &str| records.iter().find_map(|record| record.detail(name)).unwrap_or_default();
    let draft = &started.draft;
    let claim = Claim {
        remediation_id: draft.remediation_id,
        generation: Generation(0),
        fence,
        status: ClaimStatus::Leased,
        state: draft.execution_status,
        lease_until: 0,
        claimed_at: first.draft.timestamp,
        mode,
        subject: Subject {
            finding_id: draft.finding_id.clone(),
            product_arn: told(detail::PRODUCT_ARN).parse().ok(),
            title: told(detail::TITLE).to_owned(),
            severity: severity(told(detail::SEVERITY)),
            account: draft.account_id.clone(),
            region: told(detail::REGION).parse().ok(),
            control: told(detail::CONTROL).parse().ok(),
            resource_id: draft.resource_id.clone(),
            resource_type: draft.resource_type.clone(),
            action: draft.remediation_action.clone(),
            remediation_type: draft.remediation_type,
            requested_by: told(detail::REQUESTED_BY).to_owned(),
        },
        undoes: told(detail::UNDOES).parse().ok(),
        undoable: None,
        held: false,
        recent: Vec::new(),
        ended: Vec::new(),
        notice: None,
        later: None,
        expires_at: Some(draft.timestamp / 1000 + REQUEST_SECONDS),
    };
    Some((claim, started.detail(detail::EVIDENCE_KEY).unwrap_or_default().to_owned()))
}

/// A severity as a record writes it; of one that it does not know, nothing is said.
fn severity(text: &str) -> SeverityLabel {
    serde_json::from_value(json!(text)).unwrap_or(SeverityLabel::Informational)
}

/// The details of a record that says what was decided.
#[must_use]
pub fn basis_details(basis: &Basis, subject: &Subject, event_time: Option<Timestamp>) -> Detail {
    details([
        (detail::POLICY_SET, basis.set.to_owned()),
        (detail::POLICY_SET_SHA256, basis.sha256.clone()),
        (detail::POLICIES, basis.policies.join(",")),
        (detail::DISPOSITION, basis.disposition.to_owned()),
        (detail::IMPACT, basis.impact.clone()),
        (detail::QUESTION, basis.question.clone().unwrap_or_default()),
        (detail::REQUESTED_BY, subject.requested_by.clone()),
        (detail::TITLE, subject.title.clone()),
        (detail::PRODUCT_ARN, subject.product_arn.as_ref().map(ToString::to_string).unwrap_or_default()),
        (detail::EVENT_TIME, event_time.map(|time| time.to_string()).unwrap_or_default()),
    ])
}

/// The message to people, and what they may filter by.
#[must_use]
pub fn notification(id: RemediationId, subject: &Subject, state: State, now: Timestamp) -> (Notification, Attributes) {
    let status = status_of(state);
    let message = Notification {
        remediation_id: id.to_string(),
        status: status.clone(),
        account: subject.account.to_string(),
        resource: subject.resource_id.clone(),
        action: subject.action.clone(),
        executed_at: seconds(now),
        finding: subject.title.clone(),
        next_step: None,
    };
    let attributes = Attributes {
        status,
        account: subject.account.to_string(),
        severity: subject.severity.as_str().to_owned(),
        control: control(subject),
        urgent: false,
    };
    (message, attributes)
}

/// What people should do about a runbook that ended, when there is something to do.
#[must_use]
pub fn next_step(claim: &Claim, state: State) -> Option<String> {
    let id = claim.remediation_id;
    match (claim.mode, state) {
        (Mode::DryRun, State::Notified) => Some(format!("`redress audit show {id} --evidence` shows the plan.")),
        (Mode::DryRun, State::Failed) => Some(format!("`redress audit show {id}` says why there is no plan.")),
        (Mode::Apply, State::Unverified) => {
            Some(format!("Look at the resource. `redress undo {id}` puts it back, unless it was changed since."))
        }
        (Mode::Apply, State::Failed) => Some(format!(
            "`redress audit show {id}` says how far it came. Mend the cause and ask again with `redress remediate`, or put \
             back what was changed with `redress undo {id}`."
        )),
        (Mode::Restore, State::Failed | State::Unverified) => {
            let source = claim.undoes.unwrap_or(id);
            Some(format!(
                "Compare the resource with its pre-image (`redress audit show {source} --evidence`) and repair it by hand."
            ))
        }
        _ => None,
    }
}

fn control(subject: &Subject) -> String {
    subject.control.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

/// The end of a remediation as a line of CloudWatch's embedded metric format.
#[must_use]
pub fn ended(claim: &Claim, state: State, duration_ms: i64, now: Timestamp) -> String {
    let subject = &claim.subject;
    json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": "Redress",
                "Dimensions": [["Status"], ["Control", "Status"], ["AccountId", "Status"]],
                "Metrics": [
                    { "Name": "Remediations", "Unit": "Count" },
                    { "Name": "Duration", "Unit": "Milliseconds" },
                ],
            }],
        },
        "Status": state.as_str(),
        "Control": control(subject),
        "AccountId": subject.account,
        "Mode": claim.mode.as_str(),
        "Severity": subject.severity.as_str(),
        "RemediationId": claim.remediation_id,
        "Remediations": 1,
        "Duration": duration_ms,
    })
    .to_string()
}

/// One of something, as a line of CloudWatch's embedded metric format, with one dimension.
#[must_use]
pub fn count(name: &str, dimension: &str, value: &str, now: Timestamp) -> String {
    many(name, 1, dimension, value, now)
}

/// So many of something, in the same way.
#[must_use]
pub fn many(name: &str, number: u32, dimension: &str, value: &str, now: Timestamp) -> String {
    json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": "Redress",
                "Dimensions": [[dimension]],
                "Metrics": [{ "Name": name, "Unit": "Count" }],
            }],
        },
        dimension: value,
        name: number,
    })
    .to_string()
}

/// Write a metric line where CloudWatch finds it: standard output.
#[expect(clippy::print_stdout, reason = "the embedded metric format is read from standard output")]
pub fn metric(line: &str) {
    println!("{line}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_message_is_in_the_agreed_format() {
        let now = fixture::T0.parse().unwrap();
        let (message, attributes) =
            notification(RemediationId::of_rejected(b"x"), &fixture::subject(), State::Verified, now);
        let json = serde_json::to_value(&message).unwrap();
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(names, ["RemediationId", "Status", "Account", "Resource", "Action", "ExecutedAt", "Finding"]);
        assert_eq!((json["Status"].as_str(), json["ExecutedAt"].as_str()), (Some("Success"), Some(fixture::T0)));
        assert_eq!((attributes.severity.as_str(), attributes.control.as_str()), ("HIGH", "S3.8"));
        let failed = notification(RemediationId::of_rejected(b"x"), &fixture::subject(), State::Failed, now).0;
        assert_eq!(failed.status, "Failed");
    }

    #[test]
    fn metrics_are_one_line_with_their_dimensions() {
        let line = ended(&fixture::claim(), State::Verified, 1234, fixture::T0.parse().unwrap());
        assert!(!line.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let metrics = &json["_aws"]["CloudWatchMetrics"][0];
        for dimension in metrics["Dimensions"].as_array().unwrap().iter().flat_map(|set| set.as_array().unwrap()) {
            assert!(json[dimension.as_str().unwrap()].is_string(), "{dimension}");
        }
        assert_eq!(json["Duration"], 1234);
    }

    #[test]
    fn messages_of_aws_are_bounded_and_on_one_line() {
        let text = sanitised(&format!("a\nb\u{7}{}", "x".repeat(5000)));
        assert!(text.starts_with("a b x") && text.chars().count() <= MESSAGE);
    }
}
