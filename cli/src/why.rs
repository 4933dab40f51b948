//! `redress why`: the policies that decided, what brought the finding, who asked, and what was changed, by hash.

use redress_common::ids::RemediationId;
use redress_common::ledger::{Record, RemediationType, detail};
use redress_common::names;
use redress_common::state::State;
use serde::Serialize;

use crate::aws::Connection;
use crate::case;
use crate::ledger::Ledger;
use crate::output::{Answer, Style, Tone};
use crate::problem::Problem;
use crate::timeline;

/// The answer, from the ledger's records of one remediation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Why {
    remediation_id: String,
    state: State,
    reason: String,
    disposition: String,
    policies: Vec<String>,
    policy_set: String,
    policy_set_sha256: String,
    trigger: String,
    asked_by_a_person: bool,
    finding_id: String,
    title: String,
    severity: String,
    event_time: String,
    control: String,
    resource: String,
    account_id: String,
    region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposure: Option<Vec<String>>,
    mode: String,
    session: String,
    execution_id: String,
    pre_image_sha256: String,
    change_sha256: String,
    post_image_sha256: String,
    undoes: String,
    undone_by: String,
    /// The finding was a sample of GuardDuty's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sample: bool,
}

impl Why {
    /// `None` when there are no records.
    pub(crate) fn of(records: &[Record]) -> Option<Self> {
        let order = |record: &&Record| (record.draft.timestamp, record.seq);
        let (first, last) = (records.iter().min_by_key(order)?, records.iter().max_by_key(order)?);
        let newest = |key| {
            let with = records.iter().filter(|record| record.detail(key).is_some_and(|text| !text.is_empty()));
            let newest = with.max_by_key(|record| (record.draft.timestamp, record.seq));
            newest.and_then(|record| record.detail(key)).unwrap_or_default().to_owned()
        };
        let draft = &last.draft;
        // Only a remediation that was claimed opened a session.
        let claimed = records.iter().any(|record| record.draft.execution_status == State::Claimed);
        let reasons = [newest(detail::REASON), draft.error_message.clone()];
        Some(Self {
            remediation_id: draft.remediation_id.to_string(),
            state: draft.execution_status,
            reason: reasons.into_iter().find(|text| !text.is_empty()).unwrap_or_default(),
            disposition: newest(detail::DISPOSITION),
            policies: newest(detail::POLICIES).split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
            policy_set: newest(detail::POLICY_SET),
            policy_set_sha256: newest(detail::POLICY_SET_SHA256),
            trigger: first.detail(detail::REQUESTED_BY).unwrap_or_default().to_owned(),
            asked_by_a_person: first.draft.remediation_type == RemediationType::Manual,
            finding_id: draft.finding_id.clone(),
            title: newest(detail::TITLE),
            severity: newest(detail::SEVERITY),
            event_time: newest(detail::EVENT_TIME),
            control: newest(detail::CONTROL),
            resource: draft.resource_id.clone(),
            account_id: draft.account_id.to_string(),
            region: newest(detail::REGION),
            exposure: records.iter().find_map(case::exposure),
            mode: newest(detail::MODE),
            session: if claimed {
                format!("{}/{}", names::CROSS_ACCOUNT_ROLE, names::ORCHESTRATOR_FUNCTION)
            } else {
                String::new()
            },
            execution_id: newest(detail::EXECUTION_ID),
            pre_image_sha256: newest(detail::PRE_IMAGE_SHA256),
            change_sha256: newest(detail::CHANGE_SHA256),
            post_image_sha256: newest(detail::POST_IMAGE_SHA256),
            undoes: newest(detail::UNDOES),
            undone_by: newest(detail::UNDONE_BY),
            sample: first.is_sample(),
        })
    }

    /// For a person.
    pub(crate) fn render(&self, style: Style) -> String {
        let sample = if self.sample { "[SAMPLE] " } else { "" };
        let head = format!("{sample}{} on {} is {}", self.control, self.resource, self.state);
        let who = if self.asked_by_a_person { "a person" } else { "a rule" };
        let sections: [(&str, Vec<(&str, String)>); 4] = [
            (
                "Decided by",
                vec![
                    ("Disposition", self.disposition.clone()),
                    ("Policies", self.policies.join(", ")),
                    ("Policy set", self.policy_set.clone()),
                    ("SHA-256 of the set", self.policy_set_sha256.clone()),
                    ("Reason", self.reason.clone()),
                ],
            ),
            (
                "Asked for by",
                vec![
                    ("Trigger", format!("{} ({who})", self.trigger)),
                    ("Finding", self.finding_id.clone()),
                    ("Title", self.title.clone()),
                    ("Severity", self.severity.clone()),
                    ("Event time", self.event_time.clone()),
                ],
            ),
            (
                "Done by",
                vec![
                    ("Account", format!("{} {}", self.account_id, self.region)),
                    (
                        "Reachable from outside",
                        self.exposure.as_deref().map(|ways| case::exposed(Some(ways))).unwrap_or_default(),
                    ),
                    ("Mode", self.mode.clone()),
                    ("Session", self.session.clone()),
                    ("SSM execution", self.execution_id.clone()),
                ],
            ),
            (
                "Changed (SHA-256)",
                vec![
                    ("Pre-image", self.pre_image_sha256.clone()),
                    ("Change", self.change_sha256.clone()),
                    ("Post-image", self.post_image_sha256.clone()),
                    ("Undoes", self.undoes.clone()),
                    ("Undone by", self.undone_by.clone()),
                ],
            ),
        ];
        let mut text = format!("{}\n", style.paint(timeline::tone(self.state), &head));
        for (title, fields) in sections {
            let body = style.fields(&fields);
            if !body.is_empty() {
                text.push_str(&format!("{}\n{body}", style.paint(Tone::Strong, title)));
            }
        }
        text
    }
}

pub(crate) async fn run(id: RemediationId, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let records = Ledger::new(connection).of_remediation(id).await?;
    let why = Why::of(&records).ok_or_else(|| crate::ledger::unknown(id))?;
    Answer::new(&why, why.render(style))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn why_names_policy_trigger_session_and_hashes() {
        insta::assert_snapshot!(Why::of(&fixture::verified()).unwrap().render(Style::PLAIN));
    }

    #[test]
    fn why_as_json() {
        insta::assert_json_snapshot!(Why::of(&fixture::verified()).unwrap());
    }

    #[test]
    fn a_remediation_that_was_never_claimed_had_no_session() {
        let why = Why::of(&fixture::failed()).unwrap();
        assert_eq!(why.session, "");
        assert_eq!(why.reason, "the member account could not be entered");
    }
}
