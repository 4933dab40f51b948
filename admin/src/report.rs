//! What is written and said about a remediation: ledger records, the SNS message, metrics.
//!
//! Pure but for [`metric`], which prints one line. None of it carries a pre-image, a parameter or a secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::member_session::SessionError;
use redress_common::aws::state_table::{Claim, ClaimStatus, Reported, Subject};
use redress_common::contract::{Mode, Outcome};
use redress_common::finding::SeverityLabel;
use redress_common::ids::{AccountId, Fence, Generation, RemediationId};
use redress_common::ledger::{Record, RecordDraft, detail};
use redress_common::metrics::{self, Metric};
use redress_common::notification::{Notification, status_of};
use redress_common::state::State;
use redress_common::time::seconds;
use serde_json::{Value, json};

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
            (detail::SAMPLE, if subject.sample { "true" } else { "" }.to_owned()),
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
            reported: reported(records),
            sample: started.is_sample(),
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

/// What GuardDuty said, as the records tell it.
fn reported(records: &[Record]) -> Option<Reported> {
    let (record, finding_type) =
        records.iter().find_map(|record| Some((record, record.detail(detail::FINDING_TYPE)?.to_owned())))?;
    Some(Reported { finding_type, actors: record.actors().filter_map(|actor| actor.parse().ok()).collect() })
}

/// A severity as a record writes it; of one that it does not know, nothing is said.
fn severity(text: &str) -> SeverityLabel {
    serde_json::from_value(json!(text)).unwrap_or(SeverityLabel::Informational)
}

/// The details of a record that says what was decided.
#[must_use]
pub fn basis_details(basis: &Basis, subject: &Subject, event_time: Option<Timestamp>) -> Detail {
    let reported = subject.reported.as_ref();
    let actors = reported.into_iter().flat_map(|reported| &reported.actors).map(Arn::as_str);
    details([
        (detail::FINDING_TYPE, reported.map(|reported| reported.finding_type.clone()).unwrap_or_default()),
        (detail::ACTORS, actors.collect::<Vec<_>>().join(" ")),
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
        finding: title(subject),
        next_step: None,
        triage: None,
        sample: subject.sample,
    };
    let attributes = Attributes {
        status,
        account: subject.account.to_string(),
        severity: subject.severity.as_str().to_owned(),
        control: control(subject),
        urgent: false,
        region: subject.region.as_ref().map(ToString::to_string).unwrap_or_default(),
        trigger: trigger(subject),
        destination: None,
    };
    (message, attributes)
}

/// What a message of a sample begins with.
const SAMPLE: &str = "[SAMPLE]";

/// The finding's title; of a sample it says so first.
fn title(subject: &Subject) -> String {
    if !subject.sample || subject.title.starts_with(SAMPLE) {
        return subject.title.clone();
    }
    format!("{SAMPLE} {}", subject.title)
}

/// What came of trying the way with a sample, in a sentence: that its resource does not exist is how it should end.
#[must_use]
pub fn tried(claim: &Claim, state: State, outcome: &str) -> Option<String> {
    let id = claim.remediation_id;
    claim.subject.sample.then(|| match state {
        State::Notified if outcome == Outcome::NotFound.as_str() => {
            "The way works. The resource of the sample does not exist, and nothing was changed.".to_owned()
        }
        State::Notified => {
            format!("The way works. Nothing was changed; `redress audit show {id} --evidence` shows the plan.")
        }
        _ => format!("The way does not work to its end: `redress audit show {id}` says why. Nothing was changed."),
    })
}

/// What asked, for people who filter: who it was is for the ledger.
fn trigger(subject: &Subject) -> String {
    let is_kind = !subject.requested_by.is_empty() && subject.requested_by.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_kind { subject.requested_by.clone() } else { "Person".to_owned() }
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
    let measured = [(&metrics::REMEDIATIONS, 1), (&metrics::DURATION, duration_ms)];
    let told = json!({
        "Status": state.as_str(),
        "Control": control(subject),
        "AccountId": subject.account,
        "Mode": claim.mode.as_str(),
        "Severity": subject.severity.as_str(),
        "ResourceType": subject.resource_type,
        "RemediationType": subject.remediation_type,
        "RemediationId": claim.remediation_id,
    });
    embedded(&measured, told, now)
}

/// A message that reached a destination, or did not.
#[must_use]
pub fn delivered(function: &str, destination: &str, is_there: bool, now: Timestamp) -> String {
    let told = json!({ "Function": function, "Destination": destination });
    let measured = if is_there { (&metrics::DELIVERIES, 1) } else { (&metrics::DELIVERY_FAILURES, 1) };
    embedded(&[measured], told, now)
}

/// One of something, as a line of CloudWatch's embedded metric format, with one dimension.
#[must_use]
pub fn count(metric: &Metric, value: &str, now: Timestamp) -> String {
    many(metric, 1, value, now)
}

/// So many of something, in the same way.
#[must_use]
pub fn many(metric: &Metric, number: u32, value: &str, now: Timestamp) -> String {
    embedded(&[(metric, i64::from(number))], json!({ metric.dimension(): value }), now)
}

/// A member account that this function could not enter. The error's text, which names the role, is in the log beside it.
#[must_use]
pub fn not_entered(function: &str, account: &AccountId, error: &SessionError, now: Timestamp) -> String {
    let reason = match error {
        SessionError::Denied { .. } => "Denied",
        SessionError::Failed { .. } => "Failed",
        SessionError::WrongAccount { .. } => "WrongAccount",
        SessionError::NoCredentials { .. } => "NoCredentials",
    };
    let told = json!({ "Function": function, "AccountId": account, "Reason": reason });
    embedded(&[(&metrics::ASSUME_ROLE_FAILURES, 1)], told, now)
}

/// Metrics of the same dimensions as one line. What is told beside them must hold every dimension.
fn embedded(measured: &[(&Metric, i64)], mut told: Value, now: Timestamp) -> String {
    let dimensions = measured.first().map(|(metric, _)| metric.dimensions).unwrap_or_default();
    let named: Vec<Value> =
        measured.iter().map(|(metric, _)| json!({ "Name": metric.name, "Unit": metric.unit })).collect();
    told["_aws"] = json!({
        "Timestamp": now.as_millisecond(),
        "CloudWatchMetrics": [{ "Namespace": metrics::NAMESPACE, "Dimensions": dimensions, "Metrics": named }],
    });
    for (metric, number) in measured {
        told[metric.name] = json!(number);
    }
    told.to_string()
}

/// Write a metric line where CloudWatch finds it: standard output.
#[expect(clippy::print_stdout, reason = "the embedded metric format is read from standard output")]
pub fn metric(line: &str) {
    println!("{line}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use redress_common::aws::failure::AwsFailure;

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
        assert_eq!((attributes.region.as_str(), attributes.trigger.as_str()), ("eu-central-1", "Import"));
        let failed = notification(RemediationId::of_rejected(b"x"), &fixture::subject(), State::Failed, now).0;
        assert_eq!(failed.status, "Failed");
    }

    #[test]
    fn who_asked_is_not_in_a_message_and_one_that_waits_since_an_older_release_is_read() {
        let by = "arn:aws:sts::999999999999:assumed-role/Redress-Operator/jo".to_owned();
        let asked = Subject { requested_by: by, region: None, ..fixture::subject() };
        let now = fixture::T0.parse().unwrap();
        let (message, attributes) = notification(RemediationId::of_rejected(b"x"), &asked, State::Failed, now);
        assert_eq!((attributes.region.as_str(), attributes.trigger.as_str()), ("", "Person"));
        assert!(!json!([message, attributes]).to_string().contains("jo\""));
        let old = json!({ "Status": "Failed", "Account": "1", "Severity": "HIGH", "Control": "S3.8", "Urgent": false });
        let old: Attributes = serde_json::from_value(old).unwrap();
        assert_eq!((old.region.as_str(), old.trigger.as_str(), old.destination), ("", "", None));
    }

    #[test]
    fn what_is_said_of_a_sample_says_so_first_and_that_the_way_works() {
        let now = fixture::T0.parse().unwrap();
        let subject = Subject { sample: true, ..fixture::subject() };
        let said = |subject: &Subject| notification(RemediationId::of_rejected(b"x"), subject, State::Notified, now);
        let (message, attributes) = said(&subject);
        assert_eq!(message.finding, format!("[SAMPLE] {}", subject.title));
        assert_eq!((attributes.severity.as_str(), attributes.urgent, message.sample), ("HIGH", false, true));
        let marked = Subject { title: message.finding.clone(), ..subject.clone() };
        assert_eq!(said(&marked).0.finding, message.finding, "once");
        let me = Identity {
            executor: "arn:aws:lambda:eu-central-1:999999999999:function:redress-completion".parse().unwrap(),
            account: "999999999999".parse().unwrap(),
            home: "eu-central-1".parse().unwrap(),
            retention_days: 90,
            times: crate::claim::Times::default(),
        };
        let record = draft(&me, RemediationId::of_rejected(b"x"), &subject, State::Notified, now);
        assert_eq!(record.detail[detail::SAMPLE], "true");
        let real = draft(&me, RemediationId::of_rejected(b"x"), &fixture::subject(), State::Notified, now);
        assert!(!real.detail.contains_key(detail::SAMPLE));
        let claim = Claim { subject, ..fixture::claim() };
        assert!(tried(&claim, State::Notified, "NotFound").unwrap().starts_with("The way works."));
        assert!(tried(&claim, State::Notified, "Planned").unwrap().contains("--evidence"));
        assert!(tried(&claim, State::Failed, "Failed").unwrap().contains("does not work"));
        assert_eq!(tried(&fixture::claim(), State::Notified, "NotFound"), None);
    }

    #[test]
    fn metrics_are_one_line_with_their_dimensions() {
        let now = fixture::T0.parse().unwrap();
        let role = || "r".to_owned();
        let source = || AwsFailure::partial("sts:AssumeRole", "not authorized");
        let errors = [
            SessionError::Denied { role: role(), source: source() },
            SessionError::Failed { role: role(), source: source() },
            SessionError::NoCredentials { role: role() },
            SessionError::WrongAccount { wanted: fixture::subject().account, got: role() },
        ];
        let mut lines = vec![ended(&fixture::claim(), State::Verified, 1234, now)];
        let counted = metrics::ALL.iter().filter(|metric| metric.dimensions.concat().len() == 1);
        lines.extend(counted.map(|metric| count(metric, "x", now)));
        lines.extend(
            errors.iter().map(|error| not_entered("redress-orchestrator", &fixture::subject().account, error, now)),
        );
        lines.extend([true, false].map(|is_there| delivered("redress-notifier", "soc", is_there, now)));
        let mut written = BTreeSet::new();
        for line in lines {
            assert!(!line.contains('\n'));
            let json: Value = serde_json::from_str(&line).unwrap();
            let told = &json["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(
                (&told["Namespace"], &json["_aws"]["Timestamp"]),
                (&json!("Redress"), &json!(now.as_millisecond()))
            );
            for dimension in told["Dimensions"].as_array().unwrap().iter().flat_map(|set| set.as_array().unwrap()) {
                assert!(json[dimension.as_str().unwrap()].is_string(), "{dimension}");
            }
            for metric in told["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                assert!(json[name].is_number(), "{line}");
                written.insert(name.to_owned());
            }
        }
        assert_eq!(written, metrics::ALL.iter().map(|metric| metric.name.to_owned()).collect());
    }

    #[test]
    fn what_the_dashboards_ask_of_a_log_line_is_in_it() {
        let line = ended(&fixture::claim(), State::Verified, 1234, fixture::T0.parse().unwrap());
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["Duration"], &json["Remediations"]), (&json!(1234), &json!(1)));
        assert!(json["ResourceType"].is_string() && json["RemediationType"].is_string(), "{line}");
    }

    #[test]
    fn an_account_that_could_not_be_entered_is_counted_by_function_and_by_account() {
        let error = SessionError::Denied {
            role: "r".to_owned(),
            source: AwsFailure::partial("sts:AssumeRole", "not authorized"),
        };
        let account = fixture::subject().account;
        let line = not_entered("redress-orchestrator", &account, &error, fixture::T0.parse().unwrap());
        let json: Value = serde_json::from_str(&line).unwrap();
        let told = &json["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(told["Dimensions"], json!([["Function"], ["AccountId"]]));
        assert_eq!((&json["AssumeRoleFailures"], &json["Function"]), (&json!(1), &json!("redress-orchestrator")));
        assert_eq!((&json["AccountId"], &json["Reason"]), (&json!(account), &json!("Denied")));
        assert!(!line.contains("not authorized"));
    }

    /// A metric that nobody writes is one that no alarm may wait for.
    #[test]
    fn every_metric_is_written_somewhere() {
        let mut sources = String::new();
        let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                    sources.push_str(text.split("#[cfg(test)]").next().unwrap_or_default());
                }
            }
        }
        for metric in metrics::ALL {
            let mut constant = String::new();
            for (index, letter) in metric.name.char_indices() {
                if index > 0 && letter.is_uppercase() {
                    constant.push('_');
                }
                constant.extend(letter.to_uppercase());
            }
            assert!(sources.contains(&format!("&metrics::{constant},")), "{constant}");
        }
    }

    #[test]
    fn messages_of_aws_are_bounded_and_on_one_line() {
        let text = sanitised(&format!("a\nb\u{7}{}", "x".repeat(5000)));
        assert!(text.starts_with("a b x") && text.chars().count() <= MESSAGE);
    }
}
