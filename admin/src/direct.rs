//! Playbooks: what a function of the member account is invoked with, and how its end becomes an outcome like a runbook's.
//!
//! Pure. The completion function takes the end of a playbook as a message of our own: the function that invoked it is the
//! only one that knows, and nothing that a member account can send gets onto the completions queue under that name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::aws::state_table::Claim;
use redress_common::catalogue::Direct;
use redress_common::contract::{
    ContainRequest, ContainResponse, Job, Mode, Outcome, RemediateRequest, output, parameter,
};
use redress_common::ids::{AccountId, Region};
use redress_common::ledger::{Record, detail};
use redress_common::names;
use redress_common::state::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ports::{Execution, Identity, Place, Start, StartError, Step};

/// What stands for nothing in an output, as in a runbook's.
const NONE: &str = "none";

/// What the member's function is invoked with.
///
/// # Errors
/// When a parameter is missing or wrong.
pub fn request(place: &Place, start: &Start, direct: &Direct, recall: bool) -> Result<ContainRequest, StartError> {
    let given = |name: &str| start.parameters.get(name).cloned().unwrap_or_default();
    let wrong =
        |name: &str| StartError::refused(false, format!("parameter `{name}` of the playbook is missing or wrong"));
    let known = [Mode::DryRun, Mode::Apply, Mode::Restore];
    let mode = known.into_iter().find(|mode| mode.as_str() == given(parameter::MODE));
    let job = Job {
        remediation_id: start.id,
        control: given(parameter::CONTROL).parse().map_err(|_| wrong(parameter::CONTROL))?,
        resource_arn: given(parameter::RESOURCE_ARN).parse().map_err(|_| wrong(parameter::RESOURCE_ARN))?,
        resource_name: given(parameter::RESOURCE_NAME),
        mode: mode.ok_or_else(|| wrong(parameter::MODE))?,
        fence: given(parameter::FENCE),
        evidence_key: given(parameter::EVIDENCE_KEY),
        source_evidence_key: given(parameter::SOURCE_EVIDENCE_KEY),
        plan_sha256: given(parameter::PLAN_SHA256),
    };
    let request = RemediateRequest {
        job,
        native: direct.native.clone(),
        account_id: place.account.clone(),
        region: place.region.clone(),
        parameters: direct.parameters.clone(),
        copy: None,
    };
    Ok(ContainRequest { request, recall })
}

/// What a function said, as an execution of the control runbook that ended would: the outcome is read in one way.
#[must_use]
pub fn execution(
    start: &Start,
    direct: &Direct,
    response: &ContainResponse,
    (began, ended): (Timestamp, Timestamp),
) -> Execution {
    let said = |text: &str| if text.is_empty() { NONE.to_owned() } else { text.to_owned() };
    let outputs = [
        (output::OUTCOME, response.outcome.map_or("", Outcome::as_str)),
        (output::VERSION_ID, &response.version_id),
        (output::PRE_IMAGE, &response.pre_image_sha256),
        (output::CHANGE, &response.change_sha256),
        (output::POST_IMAGE, &response.post_image_sha256),
        (output::FENCE, &response.fence),
        (output::MADE, NONE),
    ];
    let mut outputs: BTreeMap<String, String> =
        outputs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    outputs.insert(output::ERROR.to_owned(), said(&response.error));
    Execution {
        status: "Success".to_owned(),
        parameters: start.parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        outputs,
        failure: String::new(),
        steps: vec![Step {
            name: direct.function.clone(),
            status: "Success".to_owned(),
            start: began.to_string(),
            end: ended.to_string(),
        }],
    }
}

/// What the message of a playbook's end holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ended {
    account_id: AccountId,
    region: Region,
    execution: Execution,
}

/// The message of a playbook's end, from `account` and its Region.
#[must_use]
pub fn event((account, home): (&AccountId, &Region), place: &Place, execution: Execution, now: Timestamp) -> Value {
    let ended = Ended { account_id: place.account.clone(), region: place.region.clone(), execution };
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(), "source": names::EVENT_SOURCE,
        "detail-type": names::CONTAINED_DETAIL_TYPE, "account": account, "region": home, "time": now.to_string(),
        "resources": [], "detail": ended,
    })
}

/// Where a playbook ran and what came of it, by such a message.
///
/// # Errors
/// When it is another one.
pub fn ended(detail: Value) -> Result<(Place, Execution), serde_json::Error> {
    let Ended { account_id, region, execution } = serde_json::from_value(detail)?;
    Ok((Place { partition: Partition::of_region(&region), account: account_id, region }, execution))
}

/// The start of a playbook once more, from the ledger: what its claim was granted for. `None` when it was not.
#[must_use]
pub fn again(me: &Identity, records: &[Record], claim: &Claim, direct: &Direct) -> Option<Start> {
    let id = claim.remediation_id;
    let is_start =
        |record: &&Record| record.draft.remediation_id == id && record.draft.execution_status == State::Claimed;
    let started = records.iter().rev().find(is_start)?;
    let said = |name: &str| started.detail(name).unwrap_or_default().to_owned();
    let parameters = BTreeMap::from([
        (parameter::REMEDIATION_ID, id.to_string()),
        (parameter::CONTROL, claim.subject.control.as_ref()?.to_string()),
        (parameter::RESOURCE_ARN, claim.subject.resource_id.clone()),
        (parameter::RESOURCE_NAME, said(detail::RESOURCE_NAME)),
        (parameter::MODE, said(detail::MODE)),
        (parameter::FENCE, claim.fence.to_string()),
        (parameter::EVIDENCE_KEY, said(detail::EVIDENCE_KEY)),
        (parameter::SOURCE_EVIDENCE_KEY, said(detail::SOURCE_EVIDENCE_KEY)),
        (parameter::PLAN_SHA256, said(detail::PLAN_SHA256)),
        (parameter::EVIDENCE_BUCKET, names::evidence_bucket(&claim.subject.account, &me.home)),
    ]);
    let parameters = parameters.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Some(Start { id, parameters, direct: Some(direct.clone()) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::outcome;
    use redress_common::ids::RemediationId;

    fn direct() -> Direct {
        let parameters = BTreeMap::from([("RevokeSessions".to_owned(), json!("Instance"))]);
        Direct { function: "redress-contain-ec2".to_owned(), native: "contain_ec2_instance".to_owned(), parameters }
    }

    fn start() -> Start {
        let parameters = BTreeMap::from([
            (parameter::CONTROL, "Contain.EC2Instance".to_owned()),
            (parameter::RESOURCE_ARN, "arn:aws:ec2:eu-central-1:111122223333:instance/i-1".to_owned()),
            (parameter::RESOURCE_NAME, "i-1".to_owned()),
            (parameter::MODE, "Apply".to_owned()),
            (parameter::FENCE, "3".to_owned()),
            (parameter::EVIDENCE_KEY, "year=2026/x.json".to_owned()),
        ]);
        Start { id: RemediationId::of_rejected(b"a"), parameters, direct: Some(direct()) }
    }

    fn place() -> Place {
        Place {
            partition: redress_common::arn::Partition::Aws,
            account: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
        }
    }

    #[test]
    fn a_function_is_asked_for_what_a_runbook_would_ask_and_takes_it() {
        let asked = request(&place(), &start(), &direct(), true).unwrap();
        let sent = serde_json::to_value(&asked).unwrap();
        assert_eq!(
            (&sent["Mode"], &sent["ResourceName"], &sent["Recall"]),
            (&json!("Apply"), &json!("i-1"), &json!(true))
        );
        assert_eq!(serde_json::from_value::<ContainRequest>(sent).unwrap(), asked);
        let mut lacks = start();
        lacks.parameters.remove(parameter::MODE);
        assert!(!request(&place(), &lacks, &direct(), false).unwrap_err().transient);
    }

    #[test]
    fn an_end_comes_back_out_of_its_message_and_is_read_like_a_runbooks() {
        let response = ContainResponse {
            outcome: Some(Outcome::Verified),
            error: "`CreateSnapshots` failed".to_owned(),
            fence: "3".to_owned(),
            version_id: "v1".to_owned(),
            pre_image_sha256: "a".repeat(64),
            change_sha256: "b".repeat(64),
            post_image_sha256: "c".repeat(64),
        };
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        let execution = execution(&start(), &direct(), &response, (at(1_000), at(2_000)));
        let admin: AccountId = "999988887777".parse().unwrap();
        let event = event((&admin, &place().region), &place(), execution.clone(), at(3_000));
        assert_eq!((&event["account"], &event["source"]), (&json!("999988887777"), &json!("redress")));
        let (back, read) = ended(event["detail"].clone()).unwrap();
        assert_eq!((back, &read), (place(), &execution));
        let reading = outcome::read(Mode::Apply, &read);
        assert_eq!(reading.states, [State::Applied, State::Verified]);
        assert!(reading.end.compliant && reading.end.changed && reading.error.contains("CreateSnapshots"));
        assert_eq!(reading.seen, Some(at(2_000)));
    }
}
