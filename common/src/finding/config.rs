//! AWS Config's `Config Rules Compliance Change`. Config fires on transitions only, and calls resources by
//! type and id.

use super::envelope::{Event, Inbound};
use super::json::prose;
use super::resource::same_account;
use super::{Check, Finding, ParseError, Resource, Severity, SeverityLabel, Trigger, WorkflowStatus};
use crate::ids::{AccountId, Generation, Region, excerpt};

/// Config rates nothing; this is what Security Hub gives to a control without a rating of its own.
const SEVERITY: Severity = Severity::of_label(SeverityLabel::Medium);

pub(super) fn read(event: &Event<'_>) -> Result<Inbound, ParseError> {
    let detail = &event.detail;
    let result = detail.need("newEvaluationResult")?;
    let compliance = result.need_text("complianceType")?;
    if compliance != "NON_COMPLIANT" {
        return Ok(Inbound::nothing(format!("config evaluated the resource as `{}`", excerpt(compliance))));
    }
    Ok(Inbound::Findings(vec![finding(event)]))
}

fn finding(event: &Event<'_>) -> Result<Finding, ParseError> {
    let detail = &event.detail;
    let account: AccountId = detail.need("awsAccountId")?.parse()?;
    let region: Region = detail.need("awsRegion")?.parse()?;
    same_account("the event", &event.account, &account)?;

    let rule = detail.need_text("configRuleName")?;
    let resource = Resource::of_id(detail.need_text("resourceType")?, &detail.need("resourceId")?, &account, &region)?;
    resource.bind(&account, &region)?;

    let recorded = match detail.find(&["newEvaluationResult", "resultRecordedTime"]) {
        Some(time) => time.time()?,
        None => event.time,
    };
    // The rule's ARN holds an id that survives renaming; very old events lack it.
    let reporter = detail.get_text("configRuleARN")?.unwrap_or(rule);
    Ok(Finding {
        id: format!("{reporter}/{}", resource.arn),
        product_arn: None,
        generation: Generation(recorded.as_millisecond()),
        check: Check::ConfigRule(rule.to_owned()),
        title: prose(
            &format!("{} {} does not comply with AWS Config rule {rule}", resource.kind, resource.name),
            Finding::MAX_TITLE,
        ),
        account,
        region,
        resource,
        severity: SEVERITY,
        workflow: WorkflowStatus::New,
        trigger: Trigger::Config,
        event_time: event.time,
        // Config fires when a resource stops to comply.
        first_seen: event.not_after(recorded),
        indicators: Vec::new(),
        actors: Vec::new(),
        sample: false,
    })
}
