#![allow(clippy::unwrap_used)]
use redress_common::ledger::RecordDraft;

use super::*;
use crate::fixture::{draft, sealed};

const HOUR: i64 = 3_600_000;
const INSTANCE: &str = "arn:aws:ec2:eu-central-1:222222222222:instance/i-0abc";

fn id(number: u8) -> RemediationId {
    format!("3f2b6c1e-8a57-5d0c-9f5e-0000000000{number:02}").parse().unwrap()
}

/// A record of the remediation of this number, about the instance.
fn of(number: u8, at: i64, state: State, details: &[(&str, &str)]) -> RecordDraft {
    let mut record = draft(at, state, details);
    record.remediation_id = id(number);
    record.resource_id = INSTANCE.to_owned();
    record.resource_type = "AWS::EC2::Instance".to_owned();
    record.remediation_action = "Put the instance into quarantine".to_owned();
    record.finding_id = format!("arn:aws:guardduty:eu-central-1:222222222222:detector/1/finding/{number}");
    let own = [
        (detail::CONTROL, "Contain.EC2Instance"),
        (detail::REQUESTED_BY, "GuardDuty"),
        (detail::TITLE, "The instance talks to a command and control server."),
        (detail::SEVERITY, "HIGH"),
    ];
    for (key, value) in own.iter().chain(details) {
        record.detail.insert((*key).to_owned(), (*value).to_owned());
    }
    record
}

fn standing_of(drafts: Vec<RecordDraft>) -> Standing {
    let found = incidents(sealed(drafts));
    assert_eq!(found.len(), 1);
    found[0].standing
}

fn contained(number: u8, at: i64) -> Vec<RecordDraft> {
    [State::Planned, State::Claimed, State::Applied, State::Verified]
        .into_iter()
        .zip(at..)
        .map(|(state, at)| of(number, at, state, &[]))
        .collect()
}

#[test]
fn a_sample_is_no_part_of_what_happened_to_a_resource_of_that_name() {
    let mut drafts = contained(1, 0);
    drafts.push(of(2, HOUR, State::Notified, &[(detail::SAMPLE, "true"), (detail::MODE, "DryRun")]));
    let found = incidents(sealed(drafts));
    let told: Vec<_> = found.iter().map(|case| (case.case_id, case.sample, case.standing)).collect();
    assert_eq!(told, [(id(2), true, Standing::Told), (id(1), false, Standing::Contained)]);
    assert!(found[0].render(Style::PLAIN).starts_with("[SAMPLE] of "));
}

#[test]
fn what_is_heard_of_a_resource_within_a_day_is_one_case() {
    let mut drafts = contained(1, 0);
    drafts.push(of(2, 20 * HOUR, State::Notified, &[(detail::SEVERITY, "CRITICAL")]));
    drafts.push(of(3, 50 * HOUR, State::Notified, &[(detail::SEVERITY, "MEDIUM")]));
    // What Config reports of the same resource is no incident.
    drafts.push(of(4, HOUR, State::Verified, &[(detail::CONTROL, "EC2.8"), (detail::REQUESTED_BY, "Config")]));
    let found = incidents(sealed(drafts));
    let told: Vec<_> = found
        .iter()
        .map(|case| (case.case_id, case.standing, case.severity.as_str(), case.remediations.len()))
        .collect();
    assert_eq!(
        told,
        [(id(3), Standing::Told, "MEDIUM", 1), (id(1), Standing::Contained, "CRITICAL", 2)],
        "the newest first; the highest severity counts"
    );
}

#[test]
fn what_is_heard_after_a_case_was_closed_is_another_case() {
    let mut drafts = contained(1, 0);
    drafts.push(of(2, HOUR, State::Notified, &[(detail::CODE, "case-closed"), (detail::REQUESTED_BY, "arn:…:alice")]));
    drafts.push(of(
        3,
        2 * HOUR,
        State::Notified,
        &[(detail::CODE, "escalated"), (detail::REQUESTED_BY, "CustomAction")],
    ));
    let found = incidents(sealed(drafts));
    let told: Vec<_> = found.iter().map(|case| (case.case_id, case.standing)).collect();
    assert_eq!(told, [(id(3), Standing::Told), (id(1), Standing::Closed)]);
}

#[test]
fn two_resources_are_two_cases() {
    let mut drafts = contained(1, 0);
    let mut other = of(2, 1, State::Notified, &[]);
    other.resource_id = "arn:aws:s3:::leaks".to_owned();
    drafts.push(other);
    assert_eq!(incidents(sealed(drafts)).len(), 2);
}

#[test]
fn where_it_stands_is_what_was_done_last() {
    let undo =
        |number, at, state| of(number, at, state, &[(detail::UNDOES, "1"), (detail::REQUESTED_BY, "arn:…:alice")]);
    let dry = |number, at| of(number, at, State::Planned, &[(detail::MODE, "DryRun")]);
    let and = |more: Vec<RecordDraft>| [contained(1, 0), more].concat();
    assert_eq!(standing_of(contained(1, 0)), Standing::Contained);
    assert_eq!(standing_of(and(vec![of(2, HOUR, State::Notified, &[])])), Standing::Contained, "told again");
    assert_eq!(standing_of(and(vec![undo(2, HOUR, State::RolledBack)])), Standing::GivenBack);
    assert_eq!(standing_of(and(vec![undo(2, HOUR, State::Failed)])), Standing::Contained, "nothing was given back");
    assert_eq!(standing_of(and(vec![undo(2, HOUR, State::RolledBack), dry(3, 2 * HOUR)])), Standing::GivenBack);
    assert_eq!(
        standing_of(vec![of(1, 0, State::Planned, &[]), of(1, 1, State::AwaitingApproval, &[])]),
        Standing::Asked
    );
    assert_eq!(standing_of(vec![of(1, 0, State::Planned, &[]), of(1, 1, State::Failed, &[])]), Standing::Failed);
    assert_eq!(standing_of(vec![of(1, 0, State::Planned, &[])]), Standing::Underway);
    assert_eq!(standing_of(vec![of(1, 0, State::Notified, &[])]), Standing::Told);
}

#[test]
fn a_case_as_people_read_it() {
    let mut drafts = contained(1, 0);
    drafts.push(of(
        2,
        HOUR,
        State::RolledBack,
        &[
            (detail::UNDOES, "1"),
            (detail::REQUESTED_BY, "arn:aws:sts::111111111111:assumed-role/Redress-Operator/alice"),
            (detail::REASON, "false alarm"),
        ],
    ));
    let found = incidents(sealed(drafts));
    insta::assert_snapshot!(format!("{}\n{}", list(&found, Style::PLAIN), found[0].render(Style::PLAIN)));
}
