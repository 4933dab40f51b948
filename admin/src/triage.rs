//! What is known of an incident besides what was reported: other findings of its resource and its principal in the last 24
//! hours, whether those are contained, whose the resource is, who can reach it, and what a threat list says. For people who are
//! told of it; nothing is decided by it.
//!
//! One `Query` of the ledger, and one more where GuardDuty names a role or a user. [`look`] is called when people are told,
//! which is after containment, or where nothing is contained; so it delays none. What cannot be read is said, and people are
//! told all the same.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use redress_common::arn::Arn;
use redress_common::aws::state_table::Subject;
use redress_common::contract::{GuardEvidence, Mode};
use redress_common::ids::{RemediationId, excerpt};
use redress_common::ledger::{Record, code, detail, finding_of};
use redress_common::notification::Triage;
use redress_common::state::State;

use crate::ports::Outside;

/// So far back is looked.
const BACK: SignedDuration = SignedDuration::from_hours(24);
/// So many records of one resource are read, the newest.
const MOST: usize = 200;
/// Tags that say whose something is. No other tag is told: what it holds is not known here.
const OWNERS: [&str; 3] = ["owner", "team", "contact"];
/// So many types, and so many resources, are told.
const TOLD: usize = 5;

/// What is known besides of what people are about to be told. `impact` is the guard's evidence as the ledger keeps it, where it
/// is at hand.
pub(crate) async fn look<O: Outside>(
    outside: &O,
    id: RemediationId,
    subject: &Subject,
    state: State,
    impact: &str,
    now: Timestamp,
) -> Triage {
    let mut records = Vec::new();
    let mut unread = None;
    for resource in std::iter::once(subject.resource_id.as_str()).chain(principal(subject)) {
        match outside.recent(resource, now - BACK, MOST).await {
            Ok(found) => {
                if found.len() == MOST {
                    unread = Some(format!("only the newest {MOST} ledger records of a resource were read"));
                }
                records.extend(found);
            }
            Err(error) => {
                tracing::warn!(remediation = %id, %error, "other findings could not be read");
                unread = Some("other findings could not be read; `redress case show` may know them".to_owned());
            }
        }
    }
    let known = of(records, id, subject, state);
    let known = evidence(impact).iter().fold(known, with);
    Triage { unread, ..known }
}

/// The role or user that GuardDuty names: other findings are about it. Nothing is reported of an instance's profile.
fn principal(subject: &Subject) -> Option<&str> {
    let actors = subject.reported.iter().flat_map(|reported| &reported.actors);
    let is_one =
        |arn: &&Arn| arn.service() == "iam" && ["role/", "user/"].iter().any(|kind| arn.resource().starts_with(kind));
    actors.filter(is_one).map(Arn::as_str).find(|arn| *arn != subject.resource_id)
}

/// What these records say besides of a remediation whose end in this state people are about to be told.
fn of(mut records: Vec<Record>, id: RemediationId, subject: &Subject, state: State) -> Triage {
    // A bucket's ARN names no account; its records do.
    let is_near = |record: &Record| record.draft.account_id == subject.account && record.is_sample() == subject.sample;
    records.retain(|record| is_near(record) && record.is_of_incident());
    records.sort_by_key(|record| (record.draft.timestamp, record.seq));
    let own_records = records.iter().rev().filter(|record| record.draft.remediation_id == id);
    let seen = own_records.filter_map(|record| evidence(record.detail(detail::IMPACT)?)).next();

    // What is closed is over.
    let closed: BTreeMap<String, u64> = records
        .iter()
        .filter(|record| record.detail(detail::CODE) == Some(code::CASE_CLOSED))
        .map(|record| (record.draft.resource_id.clone(), record.seq))
        .collect();
    records.retain(|record| closed.get(&record.draft.resource_id).is_none_or(|closed| record.seq > *closed));
    let case_id = records.first().map_or(id, |first| first.draft.remediation_id);

    let own = finding_of(&subject.finding_id);
    let (mut findings, mut types, mut resources) = (Vec::new(), Vec::new(), Vec::new());
    for record in records.iter().filter(|record| record.draft.remediation_id != id && reports(record)) {
        let Some(finding) = finding_of(&record.draft.finding_id).filter(|finding| Some(*finding) != own) else {
            continue;
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
        let said = record.detail(detail::FINDING_TYPE).or_else(|| record.detail(detail::TITLE)).map(excerpt);
        types.extend(said.filter(|said| !types.contains(said) && types.len() < TOLD));
        if !resources.contains(&record.draft.resource_id) {
            resources.push(record.draft.resource_id.clone());
        }
    }
    // Of its own resource this message says it, unless it only tells.
    let only_tells = matches!(state, State::Notified | State::Failed);
    resources.retain(|resource| (only_tells || *resource != subject.resource_id) && !is_contained(&records, resource));
    resources.truncate(TOLD);
    let known = Triage {
        case_id: case_id.to_string(),
        related: findings.len(),
        types,
        uncontained: resources,
        ..Triage::default()
    };
    seen.iter().fold(known, with)
}

/// The same, with what the guard saw of the resource.
fn with(known: Triage, seen: &GuardEvidence) -> Triage {
    let threats = seen.threats.iter().take(TOLD).map(|entry| excerpt(entry)).collect();
    Triage { exposure: seen.exposure.clone(), owner: owner(seen), threats, ..known }
}

/// Whose it is: by the first tag that says so, and by what manages it.
fn owner(seen: &GuardEvidence) -> Option<String> {
    let says = |name: &&str| seen.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let tagged = OWNERS.iter().find_map(says).map(|value| excerpt(value));
    let managed = seen.owned_by.as_ref().map(|by| excerpt(&format!("{} {}", by.manager, by.name)));
    let both: Vec<String> = tagged.into_iter().chain(managed).filter(|text| !text.trim().is_empty()).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Whether a record is of something reported, rather than of what a person did about it.
fn reports(record: &Record) -> bool {
    record.detail(detail::REQUESTED_BY) == Some("GuardDuty") || record.detail(detail::CODE) == Some(code::ESCALATED)
}

/// Whether a resource is contained, by its records in order.
fn is_contained(records: &[Record], resource: &str) -> bool {
    let own = records.iter().rev().filter(|record| record.draft.resource_id == resource);
    let ends = own.filter(|record| record.detail(detail::MODE) != Some(Mode::DryRun.as_str()));
    let mut ends = ends.filter_map(|record| match record.draft.execution_status {
        State::RolledBack => Some(false),
        // An undo that failed leaves the resource contained.
        State::Verified | State::Unverified if record.detail(detail::UNDOES).is_none() => Some(true),
        _ => None,
    });
    ends.next().unwrap_or(false)
}

/// As the ledger keeps what people were told.
pub(crate) fn kept(triage: &Triage) -> String {
    serde_json::to_string(triage).unwrap_or_default()
}

/// The guard's evidence as the ledger keeps it; nothing where it keeps why there is none.
fn evidence(impact: &str) -> Option<GuardEvidence> {
    serde_json::from_str(impact).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use redress_common::aws::state_table::Reported;
    use redress_common::ledger::{Head, RecordDraft, chain};

    use super::*;
    use crate::{fixture, report};

    const ROLE: &str = "arn:aws:iam::111122223333:role/web";

    fn id(number: u8) -> RemediationId {
        RemediationId::of_rejected(&[number])
    }

    /// The subject of GuardDuty's finding of this number about a resource.
    fn subject(number: u8, resource: &str) -> Subject {
        let actors = vec!["arn:aws:iam::111122223333:instance-profile/web".parse().unwrap(), ROLE.parse().unwrap()];
        Subject {
            finding_id: format!("f{number}#{resource}"),
            resource_id: resource.to_owned(),
            control: Some("Contain.S3Bucket".parse().unwrap()),
            requested_by: "GuardDuty".to_owned(),
            reported: Some(Reported { finding_type: format!("Type:{number}"), actors }),
            ..fixture::subject()
        }
    }

    fn draft(number: u8, resource: &str, at: i64, state: State, details: &[(&str, &str)]) -> RecordDraft {
        let subject = subject(number, resource);
        let mut detail = report::basis_details(&crate::decide::Basis::default(), &subject, None);
        detail.extend(details.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        RecordDraft {
            remediation_id: id(number),
            timestamp: at,
            finding_id: subject.finding_id,
            account_id: subject.account,
            resource_type: subject.resource_type,
            resource_id: subject.resource_id,
            remediation_type: subject.remediation_type,
            remediation_action: subject.action,
            execution_status: state,
            executor_arn: String::new(),
            error_message: String::new(),
            execution_duration: 0,
            notification_sent: false,
            detail,
            expires_at: 0,
        }
    }

    fn sealed(drafts: Vec<RecordDraft>) -> Vec<Record> {
        chain(&fixture::subject().account, &Head::default(), drafts).0
    }

    const BUCKET: &str = "arn:aws:s3:::leaks";

    fn known(drafts: Vec<RecordDraft>, state: State) -> Triage {
        of(sealed(drafts), id(9), &subject(9, BUCKET), state)
    }

    #[test]
    fn the_principal_is_the_role_or_user_and_not_the_resource_itself() {
        assert_eq!(principal(&subject(1, BUCKET)), Some(ROLE));
        assert_eq!(principal(&subject(1, ROLE)), None);
        assert_eq!(principal(&fixture::subject()), None);
    }

    #[test]
    fn other_findings_are_counted_once_with_their_types_and_what_is_not_contained() {
        let found = known(
            vec![
                draft(1, ROLE, 1, State::Planned, &[]),
                draft(1, ROLE, 2, State::Verified, &[]),
                draft(2, BUCKET, 3, State::Notified, &[]),
                draft(2, BUCKET, 4, State::Notified, &[]),
                draft(9, BUCKET, 5, State::Planned, &[]),
            ],
            State::Verified,
        );
        assert_eq!((found.case_id, found.related), (id(1).to_string(), 2));
        assert_eq!(found.types, ["Type:1", "Type:2"]);
        assert!(found.uncontained.is_empty(), "the role is contained, and of the bucket the message says it");
    }

    #[test]
    fn what_was_given_back_or_only_told_is_not_contained() {
        let undone = [(detail::UNDONE_BY, "x")];
        let drafts = vec![
            draft(1, ROLE, 1, State::Verified, &[]),
            draft(1, ROLE, 2, State::RolledBack, &undone),
            draft(2, BUCKET, 3, State::Notified, &[]),
        ];
        assert_eq!(known(drafts.clone(), State::Notified).uncontained, [ROLE, BUCKET]);
        assert_eq!(known(drafts, State::Verified).uncontained, [ROLE]);
    }

    #[test]
    fn its_own_finding_is_not_another_and_a_closed_case_is_over() {
        let closed = [(detail::CODE, code::CASE_CLOSED)];
        let found = known(
            vec![
                draft(1, BUCKET, 1, State::Notified, &[]),
                draft(3, BUCKET, 2, State::Notified, &closed),
                draft(9, ROLE, 3, State::Verified, &[]),
            ],
            State::Verified,
        );
        assert_eq!((found.case_id, found.related), (id(9).to_string(), 0));
    }

    #[test]
    fn what_is_told_is_bounded_and_exposure_is_the_guards() {
        let seen = GuardEvidence { exposure: Some(vec!["a public policy".to_owned()]), ..GuardEvidence::default() };
        let impact = serde_json::to_string(&seen).unwrap();
        let mut drafts: Vec<RecordDraft> = (20..60)
            .map(|number| draft(number, &format!("arn:aws:s3:::b{number}"), i64::from(number), State::Notified, &[]))
            .collect();
        drafts.push(draft(9, BUCKET, 99, State::Planned, &[(detail::IMPACT, &impact)]));
        let found = known(drafts, State::Verified);
        assert_eq!((found.related, found.types.len(), found.uncontained.len()), (40, TOLD, TOLD));
        assert_eq!(found.exposure, seen.exposure);
        assert_eq!(evidence("unknown: no answer"), None);
    }

    #[test]
    fn whose_it_is_and_what_a_threat_list_says_come_from_the_guard_and_no_other_tag_does() {
        let stack = redress_common::contract::Ownership {
            manager: "CloudFormation".to_owned(),
            name: "shop".to_owned(),
            hint: String::new(),
            vouched: true,
        };
        let tags = [("Password", "hunter2"), ("Owner", "web team"), ("team", "core")];
        let seen = GuardEvidence {
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            owned_by: Some(stack),
            threats: (0..9).map(|n| format!("198.51.100.{n} (feed-a)")).collect(),
            ..GuardEvidence::default()
        };
        let impact = serde_json::to_string(&seen).unwrap();
        let found = known(vec![draft(9, BUCKET, 1, State::Planned, &[(detail::IMPACT, &impact)])], State::Verified);
        assert_eq!(found.owner.as_deref(), Some("web team; CloudFormation shop"));
        assert_eq!((found.threats.len(), found.threats[0].as_str()), (TOLD, "198.51.100.0 (feed-a)"));
        assert!(!kept(&found).contains("hunter2"));
        assert_eq!(owner(&GuardEvidence::default()), None);
    }
}
