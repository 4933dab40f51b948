#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;
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

const BUCKET: &str = "arn:aws:s3:::leaks";
const ROLE: &str = "arn:aws:iam::222222222222:role/web";

/// The same about another resource.
fn about(resource: &str, draft: RecordDraft) -> RecordDraft {
    RecordDraft { resource_id: resource.to_owned(), ..draft }
}

/// The same, of one resource of an attack sequence.
fn of_sequence(resource: &str, draft: RecordDraft) -> RecordDraft {
    RecordDraft { finding_id: format!("f1#{resource}"), ..about(resource, draft) }
}

fn told(drafts: Vec<RecordDraft>) -> Vec<(RemediationId, usize)> {
    incidents(sealed(drafts)).iter().map(|case| (case.case_id, case.resources.len())).collect()
}

#[test]
fn two_resources_that_nothing_ties_are_two_cases() {
    let mut drafts = contained(1, 0);
    drafts.push(about(BUCKET, of(2, 10, State::Notified, &[])));
    assert_eq!(told(drafts), [(id(2), 1), (id(1), 1)]);
}

#[test]
fn the_resources_of_one_finding_are_one_case_and_each_has_its_standing() {
    let mut drafts: Vec<RecordDraft> = contained(1, 0).into_iter().map(|one| of_sequence(INSTANCE, one)).collect();
    drafts.push(of_sequence(BUCKET, of(2, 10, State::Failed, &[])));
    let found = incidents(sealed(drafts));
    assert_eq!((found.len(), found[0].case_id, found[0].standing), (1, id(1), Standing::Failed));
    let stand: Vec<(&str, Standing)> =
        found[0].resources.iter().map(|one| (one.resource.as_str(), one.standing)).collect();
    assert_eq!(stand, [(INSTANCE, Standing::Contained), (BUCKET, Standing::Failed)]);
    assert_eq!(found[0].called(), format!("{INSTANCE} +1"));
}

#[test]
fn a_principal_ties_what_it_did_to_what_was_done_to_it() {
    let by_role = [(detail::ACTORS, ROLE)];
    let drafts = vec![
        of(1, 0, State::Notified, &[(detail::ACTORS, "arn:aws:iam::222222222222:instance-profile/web")]),
        about(BUCKET, of(2, 10, State::Planned, &by_role)),
        about(BUCKET, of(2, 20 * HOUR, State::Notified, &[])),
        about(ROLE, of(3, 30 * HOUR, State::Notified, &[])),
        about("arn:aws:s3:::others", of(4, 31 * HOUR, State::Notified, &by_role)),
    ];
    assert_eq!(told(drafts.clone()), [(id(2), 3), (id(1), 1)], "an instance's profile is no role");
    let elsewhere = drafts.into_iter().map(|mut draft| {
        if draft.resource_id == ROLE {
            draft.account_id = "333333333333".parse().unwrap();
        }
        draft
    });
    assert_eq!(told(elsewhere.collect()).len(), 3, "a case is of one account");
}

#[test]
fn what_is_reported_after_all_resources_were_closed_is_another_case_and_after_one_of_them_is_not() {
    let close = [(detail::CODE, "case-closed"), (detail::REQUESTED_BY, "arn:…:alice")];
    let mut drafts = vec![
        of_sequence(INSTANCE, of(1, 0, State::Notified, &[])),
        of_sequence(BUCKET, of(2, 1, State::Notified, &[])),
        of_sequence(INSTANCE, of(3, HOUR, State::Notified, &close)),
    ];
    let later = of_sequence(ROLE, of(5, 2 * HOUR, State::Notified, &[]));
    assert_eq!(told([drafts.clone(), vec![later.clone()]].concat()), [(id(1), 3)], "the bucket's is open");
    drafts.push(of_sequence(BUCKET, of(4, HOUR + 1, State::Notified, &close)));
    let found = incidents(sealed(drafts.clone()));
    assert_eq!((found.len(), found[0].standing), (1, Standing::Closed));
    assert_eq!(told([drafts, vec![later]].concat()), [(id(5), 1), (id(1), 2)]);
}

/// Records of a few remediations of few resources, findings and actors, at any time within some days.
fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let one = (0..6_u8, 0..4_usize, 0..3_u8, 0..4_usize, 0..200 * HOUR, 0..12_u8);
    prop::collection::vec(one, 1..30).prop_map(|all| {
        let things = [INSTANCE, BUCKET, ROLE, "arn:aws:s3:::others"];
        let drafts = all.into_iter().map(|(finding, thing, way, actor, at, close)| {
            let mut details = Vec::new();
            if way == 0 {
                details.push((detail::ACTORS, things[actor]));
            }
            if close == 0 {
                details.push((detail::CODE, "case-closed"));
            }
            let mut draft = about(things[thing], of(finding * 4 + actor as u8, at, State::Notified, &details));
            draft.finding_id = format!("f{finding}#{}", things[thing]);
            draft
        });
        let mut drafts: Vec<RecordDraft> = drafts.collect();
        drafts.sort_by_key(|draft| draft.timestamp);
        sealed(drafts)
    })
}

/// The cases as sets of records, by `Seq`, with what each is called.
fn sets(records: Vec<Record>) -> BTreeMap<Vec<u64>, RemediationId> {
    let seqs = |case: &Incident| case.records.iter().map(|record| record.seq).collect();
    incidents(records).iter().map(|case| (seqs(case), case.case_id)).collect()
}

proptest! {
    #[test]
    fn every_record_is_in_one_case_whatever_their_order(records in any_records(), seed in any::<prop::sample::Index>()) {
        let cases = sets(records.clone());
        let mut all: Vec<u64> = cases.keys().flatten().copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, (1..=records.len() as u64).collect::<Vec<_>>());
        let mut turned = records.clone();
        turned.rotate_left(seed.index(records.len()));
        turned.reverse();
        prop_assert_eq!(sets(turned), cases);
    }

    #[test]
    fn a_case_keeps_its_name_as_records_are_added_unless_it_is_joined_to_an_older_one(records in any_records()) {
        for length in 1..records.len() {
            let (before, after) = (sets(records[..length].to_vec()), sets(records[..=length].to_vec()));
            for (own, name) in &before {
                let (grown, now_called) = after.iter().find(|(all, _)| own.iter().all(|seq| all.contains(seq))).unwrap();
                prop_assert!(grown.first() <= own.first());
                prop_assert!(now_called == name || grown.first() < own.first());
            }
        }
    }
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
fn what_two_people_destroyed_is_destroyed_and_what_they_did_not_stays_contained() {
    let destroy = |number, at, state, more: &[(&str, &str)]| {
        let own = [(detail::CONTROL, "Destroy.EC2Instance"), (detail::REQUESTED_BY, "arn:…:alice")];
        of(number, at, state, &[&own, more].concat())
    };
    let asked = || vec![destroy(2, HOUR, State::Planned, &[]), destroy(2, HOUR + 3, State::AwaitingApproval, &[])];
    let plan = || destroy(3, HOUR + 1, State::Planned, &[(detail::MODE, "DryRun")]);
    let taken = || destroy(4, HOUR + 4, State::Applied, &[(detail::MODE, "Snapshot")]);
    let and = |more: Vec<RecordDraft>| standing_of([contained(1, 0), asked(), vec![plan()], more].concat());
    assert_eq!(and(vec![]), Standing::Asked);
    for state in [State::Denied, State::Expired, State::Failed] {
        assert_eq!(and(vec![destroy(2, 2 * HOUR, state, &[])]), Standing::Contained, "{state}");
    }
    let done = || vec![taken(), destroy(2, 2 * HOUR, State::Verified, &[])];
    assert_eq!(and(done()), Standing::Destroyed);
    assert_eq!(and(vec![taken(), destroy(2, 2 * HOUR, State::Unverified, &[])]), Standing::Failed);
    let undo = |control| {
        let own = [(detail::CONTROL, control), (detail::UNDOES, "2"), (detail::REQUESTED_BY, "arn:…:alice")];
        of(5, 3 * HOUR, State::Failed, &own)
    };
    for control in ["Destroy.EC2Instance", "Contain.EC2Instance"] {
        assert_eq!(and([done(), vec![undo(control)]].concat()), Standing::Destroyed, "nothing comes back");
    }
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
