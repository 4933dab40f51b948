//! A person's answer to an approval: whether policy lets them say yes is asked anew, with the very facts that the
//! decision to ask was made of.

use jiff::Timestamp;
use redress_common::aws::state_table::{Snapshot, StateKey};
use redress_common::items::exemption::Exemptions;
use redress_common::ledger::{Record, detail};
use redress_common::operate::Request;
use serde_json::{Value, json};

use super::Api;
use super::door::{Asked, Refused};
use super::ports::Desk;
use crate::approval::{self, Answer, NotCounted};
use crate::policy::{Asked as Facts, Policies};

impl<D: Desk> Api<D> {
    /// Takes an answer.
    pub(super) async fn take_answer(&self, asked: &Asked, now: Timestamp) -> Result<Value, Refused> {
        let Request::Answer { remediation_id, approve, plan_sha256, reason } = &asked.request else {
            return Err(Refused::malformed("no-answer", "this is no answer"));
        };
        let answer = Answer { remediation: *remediation_id, approve: *approve, plan_sha256, reason };
        let records = self.desk.records(*remediation_id).await.map_err(|error| Refused::unavailable(&error))?;
        let read = self.read(&[StateKey::Exemptions]).await?;
        let exemptions = read.exemptions().map_err(|error| Refused::unavailable(&error))?;
        let may = |_: &_, read: &Snapshot| may(asked.by.as_str(), &records, read, &exemptions, now);
        let approval = approval::answer(&self.desk, &self.me, &asked.by, &answer, may, now).await;
        approval.map(|approval| json!({ "Approval": approval })).map_err(|error| refused(&error))
    }
}

fn refused(error: &NotCounted) -> Refused {
    Refused { status: error.status(), code: error.code(), message: error.to_string() }
}

/// Whether policy lets this person say yes. What cannot be asked is not permitted.
fn may(by: &str, records: &[Record], read: &Snapshot, exemptions: &Exemptions, now: Timestamp) -> Result<(), String> {
    let question = records.iter().rev().find_map(|record| record.detail(detail::QUESTION));
    let question = question.ok_or("the ledger does not say what policy was asked")?;
    let facts = Facts::of_text(question).map_err(|error| format!("what policy was asked is not readable: {error}"))?;
    let settings = read.settings().map_err(|error| error.to_string())?;
    let own = read.policy().map_err(|error| error.to_string())?;
    let policies = Policies::in_force(settings.policy_set, own.as_ref()).map_err(|error| error.to_string())?;
    let said = policies.may_answer(by, &facts, exemptions, now).map_err(|error| error.to_string())?;
    match (said.permitted, said.error) {
        (true, _) => Ok(()),
        (false, Some(error)) => Err(error),
        (false, None) if said.policies.is_empty() => Err("no policy of the set permits it".to_owned()),
        (false, None) => Err(format!("forbidden by {}", said.policies.into_iter().collect::<Vec<_>>().join(", "))),
    }
}
