//! What a decision rests on beside the case: the shared items of the state table, the policy set in force, and what is
//! found out only where it matters.
//!
//! Only the catalogue and policy sets are kept between messages, under their hashes, and for a minute what the change
//! calendars say. Settings, exemptions, breakers and claims are read for every finding, so that a switch
//! takes effect with the next one.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::item::ItemError;
use redress_common::aws::state_table::{PolicySetName, Snapshot};
use redress_common::contract::{GuardEvidence, GuardRequest};
use redress_common::finding::WorkflowStatus;
use redress_common::items::account::AccountFacts;

use crate::breaker;
use crate::decide::{Facts, Lookup, Need, Shared, Unreadable};
use crate::intake::Case;
use crate::orchestrate::Retry;
use crate::policy::{Policies, PolicyError};
use crate::ports::{Outside, Place};

/// What the calendars said is believed for so long.
const CALENDAR_MS: i64 = 60_000;

/// What is kept between messages.
#[derive(Debug, Default)]
pub(crate) struct Context {
    calendars: Mutex<Option<Calendars>>,
}

#[derive(Debug, Clone)]
struct Calendars {
    arns: Vec<Arn>,
    read: Timestamp,
    open: bool,
}

/// The shared items that a case needs.
pub(crate) fn shared(snapshot: &Snapshot, case: &Case, now: Timestamp) -> Result<Shared, Unreadable> {
    let other = |error: ItemError| Unreadable::Other(error.to_string());
    Ok(Shared {
        settings: snapshot.settings().map_err(|error| Unreadable::Settings(error.to_string()))?,
        exemptions: snapshot.exemptions().map_err(other)?,
        standings: breaker::standings(snapshot, &case.account, &case.control, now.as_millisecond()).map_err(other)?,
        flight: snapshot.flight(&case.account, &case.region).map_err(other)?,
    })
}

/// What is known of the account, when it was read lately.
pub(crate) fn kept_account(snapshot: &Snapshot, case: &Case, now: Timestamp) -> Lookup<AccountFacts> {
    let kept = snapshot.account(&case.account).ok().flatten();
    let fresh = kept.filter(|facts| facts.account == case.account && facts.is_fresh(now));
    fresh.map_or(Lookup::Unasked, Lookup::Found)
}

/// The policy set in force.
pub(crate) fn policies(name: PolicySetName, snapshot: &Snapshot) -> Result<Arc<Policies>, PolicyError> {
    let own = snapshot.policy().map_err(|error| PolicyError::Question(error.to_string()))?;
    Policies::in_force(name, own.as_ref())
}

impl Context {
    /// Find something out. Afterwards it was asked for, whatever came of it.
    ///
    /// # Errors
    /// When the answer may come later: then nothing is decided without it.
    pub(crate) async fn find_out<O: Outside>(
        &self,
        outside: &O,
        need: Need,
        case: &Case,
        calendars: &[Arn],
        facts: &mut Facts,
        now: Timestamp,
    ) -> Result<(), Retry> {
        match need {
            Need::Account => facts.account = account(outside, case, now).await?,
            Need::Calendar => facts.calendar = self.calendar(outside, calendars, now).await?,
            Need::Guard => facts.evidence = guard(outside, case).await?,
            Need::Finding => facts.workflow = workflow(outside, case).await?,
        }
        Ok(())
    }

    async fn calendar<O: Outside>(&self, outside: &O, arns: &[Arn], now: Timestamp) -> Result<Lookup<bool>, Retry> {
        let kept = self.calendars.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let age = |kept: &Calendars| (now.as_millisecond() - kept.read.as_millisecond()).abs();
        if let Some(kept) = kept.filter(|kept| kept.arns == arns && age(kept) < CALENDAR_MS) {
            return Ok(Lookup::Found(kept.open));
        }
        match outside.calendars_open(arns, now).await {
            Ok(open) => {
                let read = Calendars { arns: arns.to_vec(), read: now, open };
                *self.calendars.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
                Ok(Lookup::Found(open))
            }
            Err(error) => failed(error),
        }
    }
}

async fn account<O: Outside>(outside: &O, case: &Case, now: Timestamp) -> Result<Lookup<AccountFacts>, Retry> {
    match outside.account(&case.account, now).await {
        Ok(facts) => {
            if let Err(error) = outside.keep_account(&facts).await {
                tracing::warn!(account = %case.account, %error, "what is known of the account is not kept");
            }
            Ok(Lookup::Found(facts))
        }
        Err(error) => failed(error),
    }
}

/// What AWS will not say later, either, is not known.
fn failed<T>(error: AwsFailure) -> Result<Lookup<T>, Retry> {
    if error.is_transient() { Err(error.into()) } else { Ok(Lookup::Failed(error.to_string())) }
}

async fn workflow<O: Outside>(outside: &O, case: &Case) -> Result<Lookup<WorkflowStatus>, Retry> {
    let Some(product_arn) = &case.subject.product_arn else { return Ok(Lookup::Found(case.workflow)) };
    match outside.workflow_status(&case.subject.finding_id, product_arn).await {
        Ok(status) => Ok(Lookup::Found(status)),
        Err(error) => failed(error),
    }
}

async fn guard<O: Outside>(outside: &O, case: &Case) -> Result<Lookup<GuardEvidence>, Retry> {
    let request = GuardRequest {
        control: case.control.clone(),
        resource_arn: case.arn.clone(),
        resource_type: case.subject.resource_type.clone(),
        account_id: case.account.clone(),
        region: case.region.clone(),
        indicators: case.indicators.clone(),
    };
    match outside.guard(&place(case), &request).await {
        Ok(evidence) => Ok(Lookup::Found(evidence)),
        // A person does not wait for it.
        Err(error) if error.transient && !case.trigger.is_manual() => Err(error.into()),
        Err(error) => Ok(Lookup::Failed(error.to_string())),
    }
}

/// Where a case is worked on.
pub(crate) fn place(case: &Case) -> Place {
    Place { partition: case.arn.partition(), account: case.account.clone(), region: case.region.clone() }
}
