//! Telling people, and writing down that they were told.

use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{AppendError, StoreError, append, append_with};
use redress_common::aws::state_table::{StateKey, Subject};
use redress_common::finding::SeverityLabel;
use redress_common::ids::RemediationId;
use redress_common::items::breaker::BreakerScope;
use redress_common::ledger::{RemediationType, detail};
use redress_common::metrics;
use redress_common::notification::{Notification, Triage};
use redress_common::state::State;

use crate::breaker::Opening;
use crate::ports::{Attributes, Identity, Outside};
use crate::report;
use crate::untold::Untold;

/// Tell people of a remediation's state. Whether they were told.
pub async fn publish<O: Outside>(
    outside: &O,
    id: RemediationId,
    subject: &Subject,
    state: State,
    now: Timestamp,
) -> bool {
    publish_as(outside, id, subject, state, Said::default(), now).await
}

/// What a message says besides the state.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// What people should do.
    pub(crate) next_step: Option<String>,
    /// A threat list names the resource or the other side, or a person wants it to be urgent.
    pub(crate) urgent: bool,
    /// Of an incident, what is known besides.
    pub(crate) triage: Option<Triage>,
}

/// The same, with whatever else there is to say.
pub(crate) async fn publish_as<O: Outside>(
    outside: &O,
    id: RemediationId,
    subject: &Subject,
    state: State,
    said: Said,
    now: Timestamp,
) -> bool {
    let (message, attributes) = report::notification(id, subject, state, now);
    let message = Notification { next_step: said.next_step, triage: said.triage, ..message };
    send(outside, id, message, Attributes { urgent: said.urgent, ..attributes }, now).await.is_ok()
}

/// Sends a message. What SNS does not take is put aside: the reconciler tells people when it can ([`crate::untold`]).
///
/// # Errors
/// When people were not told now.
pub(crate) async fn send<O: Outside>(
    outside: &O,
    id: RemediationId,
    message: Notification,
    attributes: Attributes,
    now: Timestamp,
) -> Result<(), AwsFailure> {
    let Err(error) = outside.publish(&message, &attributes).await else { return Ok(()) };
    tracing::error!(remediation = %id, %error, "nobody could be told");
    match (Untold { remediation_id: id, message, attributes }).put_aside(now) {
        Ok(waiting) => {
            if let Err(error) = outside.defer(&waiting).await {
                tracing::error!(remediation = %id, %error, "nobody will be told");
            }
        }
        Err(error) => tracing::error!(remediation = %id, %error, "nobody will be told"),
    }
    Err(error)
}

/// Open a breaker: write it, and why, into the chain of its account (ours, for a wider scope), and tell people, once.
/// When another worker opened it meanwhile, there is nothing to do.
///
/// # Errors
/// When it could not be written.
pub async fn opened<O: Outside>(
    outside: &O,
    me: &Identity,
    opening: &Opening,
    now: Timestamp,
) -> Result<(), AppendError> {
    let (id, subject) = (opening.id(), subject(me, &opening.scope));
    let chain = StateKey::Chain(subject.account.clone());
    let head = outside.read(&[chain]).await?.head(&subject.account).map_err(StoreError::from)?;
    let record = |state| {
        let mut record = report::draft(me, id, &subject, state, now);
        record.detail.extend(report::details([
            (detail::CODE, "breaker-open".to_owned()),
            (detail::REASON, report::sanitised(&opening.breaker.reason)),
        ]));
        record
    };
    let put = opening.put().map_err(StoreError::from)?;
    let planned = vec![record(State::Planned)];
    let head = match append_with(outside, &subject.account, head, planned, None, vec![put]).await {
        Err(AppendError::AlsoLost(_)) => return Ok(()),
        written => written?,
    };
    tracing::error!(scope = %opening.scope, reason = opening.breaker.reason, "a breaker opened");
    let mut last = record(State::Notified);
    last.timestamp += 1;
    last.notification_sent = publish(outside, id, &subject, State::Notified, now).await;
    append(outside, &subject.account, head, vec![last], None).await?;
    report::metric(&report::count(&metrics::BREAKERS_OPENED, &opening.scope.to_string(), now));
    Ok(())
}

fn subject(me: &Identity, scope: &BreakerScope) -> Subject {
    let (account, control) = match scope {
        BreakerScope::Organisation => (&me.account, None),
        BreakerScope::Account(account) => (account, None),
        BreakerScope::Control(control) => (&me.account, Some(control.clone())),
    };
    Subject {
        finding_id: "none".to_owned(),
        product_arn: None,
        title: format!("Redress stopped acting by itself: the breaker of {scope} opened"),
        severity: SeverityLabel::High,
        account: account.clone(),
        region: None,
        control,
        resource_id: format!("breaker#{scope}"),
        resource_type: "Redress::Breaker".to_owned(),
        action: "Stop".to_owned(),
        remediation_type: RemediationType::Automatic,
        requested_by: "breaker".to_owned(),
        reported: None,
        sample: false,
    }
}
