//! What the `redress` command puts on the bus: requests to remediate and to undo.
//!
//! EventBridge vouches for the sending account only. The bus's rule must therefore take events of source `redress`
//! from the administrator account alone; here the asker that the event names is bound to the sending account.

use jiff::Timestamp;
use serde_json::json;

use super::envelope::{Event, Inbound};
use super::json::prose;
use super::resource::same_account;
use super::{Check, Finding, ParseError, Resource, Severity, SeverityLabel, Trigger, WorkflowStatus};
use crate::arn::Arn;
use crate::contract::Mode;
use crate::ids::{AccountId, ControlId, Generation, Region, excerpt};
use crate::names;

pub(super) fn undo(event: &Event<'_>) -> Result<Inbound, ParseError> {
    let detail = &event.detail;
    let mode = mode(event, Mode::Restore)?;
    if mode == Mode::Apply {
        return Err(detail.need("Mode")?.bad("an undo is `Restore` or `DryRun`"));
    }
    Ok(Inbound::Undo {
        remediation: detail.need("RemediationId")?.parse()?,
        by: asker(event)?,
        request: request(event)?,
        reason: reason(event),
        mode,
    })
}

pub(super) fn remediate(event: &Event<'_>) -> Result<Inbound, ParseError> {
    let mode = mode(event, Mode::DryRun)?;
    if mode == Mode::Restore {
        return Err(event.detail.need("Mode")?.bad("a remediation is `Apply` or `DryRun`"));
    }
    let trigger = Trigger::Operator { by: asker(event)?, mode, reason: reason(event) };
    let finding = if event.detail.get("Finding").is_some() { given(event, trigger) } else { named(event, trigger) };
    Ok(Inbound::Findings(vec![finding]))
}

/// A finding that waited for a free place.
pub(super) fn waited(event: &Event<'_>) -> Result<Inbound, ParseError> {
    Ok(Inbound::Released { finding: Box::new(as_it_was(event)?), campaign: None })
}

/// A finding that a campaign releases.
pub(super) fn of_campaign(event: &Event<'_>) -> Result<Inbound, ParseError> {
    let campaign = event.detail.need_text("Campaign")?.to_owned();
    Ok(Inbound::Released { finding: Box::new(as_it_was(event)?), campaign: Some(campaign) })
}

/// The message that brings a rule's finding back, sent by `account`: from a campaign, or from where it waited.
#[must_use]
pub fn released(
    account: &AccountId,
    region: &Region,
    finding: &Finding,
    campaign: Option<&str>,
    now: Timestamp,
) -> String {
    let detail_type = if campaign.is_some() { names::CAMPAIGN_DETAIL_TYPE } else { names::WAITED_DETAIL_TYPE };
    let mut detail = json!({ "Finding": finding });
    if let Some(campaign) = campaign {
        detail["Campaign"] = json!(campaign);
    }
    json!({
        "version": "0", "id": finding.id, "source": names::EVENT_SOURCE, "detail-type": detail_type,
        "account": account, "region": region, "time": now, "resources": [], "detail": detail,
    })
    .to_string()
}

/// A rule's finding that is given whole, with its own trigger and times.
fn as_it_was(event: &Event<'_>) -> Result<Finding, ParseError> {
    let node = event.detail.need("Finding")?;
    let trigger = node.need("trigger")?;
    let known = [Trigger::Config, Trigger::Import, Trigger::GuardDuty];
    let rule = known.into_iter().find(|known| serde_json::to_value(known).is_ok_and(|known| known == *trigger.value()));
    let rule = rule.ok_or_else(|| trigger.bad("only what a rule reported can be released"))?;
    let event_time = node.need("event_time")?.time()?;
    Ok(Finding { event_time, ..given(event, rule)? })
}

/// A finding that is given whole.
fn given(event: &Event<'_>, trigger: Trigger) -> Result<Finding, ParseError> {
    let node = event.detail.need("Finding")?;
    let finding: Finding =
        serde_json::from_value(node.value().clone()).map_err(|error| node.bad(excerpt(&error.to_string())))?;
    let resource = Resource::new(finding.resource.arn, &finding.resource.kind);
    resource.bind(&finding.account, &finding.region)?;
    let (id, title) = (node.need_text("id")?.to_owned(), prose(&finding.title, Finding::MAX_TITLE));
    let actors = super::actors::within(finding.actors, &resource.arn, &finding.account, &finding.region);
    Ok(Finding { id, resource, title, trigger, event_time: event.time, actors, ..finding })
}

/// A finding made of a control and a resource.
fn named(event: &Event<'_>, trigger: Trigger) -> Result<Finding, ParseError> {
    let detail = &event.detail;
    let account: AccountId = detail.need("AccountId")?.parse()?;
    let region: Region = detail.need("Region")?.parse()?;
    let arn: Arn = detail.need("ResourceArn")?.arn()?;
    let text = arn.to_string();
    let resource = Resource::of_arn(arn).ok_or_else(|| ParseError::UnsupportedResource {
        kind: "unknown".to_owned(),
        id: excerpt(&text),
        reason: "its type cannot be told from its arn",
    })?;
    resource.bind(&account, &region)?;
    let control: ControlId = detail.need("Control")?.parse()?;
    Ok(Finding {
        id: format!("redress/{}", request(event)?),
        product_arn: None,
        generation: Generation(event.time.as_millisecond()),
        title: prose(&format!("{} {}: {control} requested", resource.kind, resource.name), Finding::MAX_TITLE),
        check: Check::Control(control),
        account,
        region,
        resource,
        severity: Severity::of_label(SeverityLabel::Informational),
        workflow: WorkflowStatus::New,
        trigger,
        event_time: event.time,
        first_seen: event.time,
        indicators: Vec::new(),
        actors: Vec::new(),
        sample: false,
    })
}

/// The asking principal: the one that the event names, if it is of the sending account; else that account.
fn asker(event: &Event<'_>) -> Result<String, ParseError> {
    let Some(by) = event.detail.get("RequestedBy") else { return Ok(event.account.to_string()) };
    let arn = by.arn()?;
    let account = arn.account().ok_or_else(|| by.bad("names no account"))?;
    same_account("`RequestedBy`", account, &event.account)?;
    Ok(arn.to_string())
}

/// Why they ask, in their words.
fn reason(event: &Event<'_>) -> String {
    event.detail.get("Reason").map(|reason| reason.prose(Finding::MAX_TITLE)).unwrap_or_default()
}

fn request(event: &Event<'_>) -> Result<String, ParseError> {
    Ok(event.detail.get_text("RequestId")?.unwrap_or(event.id).to_owned())
}

fn mode(event: &Event<'_>, default: Mode) -> Result<Mode, ParseError> {
    let Some(node) = event.detail.get("Mode") else { return Ok(default) };
    let known = [Mode::DryRun, Mode::Apply, Mode::Restore];
    let text = node.text()?;
    known
        .into_iter()
        .find(|mode| mode.as_str() == text)
        .ok_or_else(|| node.bad("is not `DryRun`, `Apply` or `Restore`"))
}
