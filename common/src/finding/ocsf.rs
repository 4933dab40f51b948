//! Security Hub's findings in OCSF, which its newer service sends as `Findings Imported V2`: compliance findings
//! (class 2003) of its controls and detection findings (class 2004) of GuardDuty.

use jiff::Timestamp;

use super::asff::{canonical, guardduty_type_of};
use super::envelope::{Event, Inbound, MAX_FINDINGS, Read};
use super::json::Node;
use super::resource::same_account;
use super::{Check, Finding, ParseError, Resource, Severity, SeverityLabel, Trigger, WorkflowStatus};
use crate::ids::{AccountId, Generation, Region};

pub(super) fn imported(event: &Event<'_>) -> Result<Inbound, ParseError> {
    event.findings(MAX_FINDINGS, |node| {
        if let Some(reason) = skip_reason(node)? {
            return Ok(Read::Skip(reason.to_owned()));
        }
        match check(node)? {
            Some(check) => finding(event, node, check).map(Read::found),
            None => Ok(Read::Skip("the finding names no control and no guardduty type of its product".to_owned())),
        }
    })
}

/// A whole number that OCSF enumerates; absent counts as unknown.
fn enumerated(node: &Node<'_>, keys: &[&str]) -> u64 {
    node.find(keys).and_then(|node| node.value().as_u64()).unwrap_or(0)
}

fn skip_reason(node: &Node<'_>) -> Result<Option<&'static str>, ParseError> {
    const CLOSE: u64 = 3;
    const ARCHIVED: u64 = 5;
    if enumerated(node, &["activity_id"]) == CLOSE {
        return Ok(Some("the finding is closed"));
    }
    if enumerated(node, &["status_id"]) == ARCHIVED {
        return Ok(Some("the finding is archived"));
    }
    let Some(compliance) = node.get("compliance") else { return Ok(None) };
    let failed = match enumerated(&compliance, &["status_id"]) {
        0 | 99 => matches!(compliance.get_text("status")?, Some("Fail" | "Warning" | "FAILED" | "WARNING")),
        id => matches!(id, 2 | 3),
    };
    Ok((!failed).then_some("the finding's compliance status is neither fail nor warning"))
}

fn check(node: &Node<'_>) -> Result<Option<Check>, ParseError> {
    let product = node.need("metadata")?.need("product")?;
    let is_product = |name: &str| -> Result<bool, ParseError> {
        let arn = product.need("uid")?.arn()?;
        Ok(arn.service() == "securityhub" && arn.resource() == format!("productv2/aws/{name}"))
    };
    match enumerated(node, &["class_uid"]) {
        2003 => match node.find(&["compliance", "control"]) {
            Some(control) if is_product("securityhub")? => Ok(Some(Check::Control(canonical(control.parse()?)))),
            _ => Ok(None),
        },
        2004 if is_product("guardduty")? => {
            let info = node.need("finding_info")?;
            let types = info.get("types").map(|types| types.items()).transpose()?.unwrap_or_default();
            let named = [info.find(&["analytic", "name"]), info.find(&["analytic", "uid"])];
            for candidate in named.into_iter().flatten().chain(types) {
                if let Some(kind) = guardduty_type_of(candidate.text()?) {
                    return Ok(Some(Check::GuardDutyType(kind)));
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn finding(event: &Event<'_>, node: &Node<'_>, check: Check) -> Result<Finding, ParseError> {
    let info = node.need("finding_info")?;
    let cloud = node.need("cloud")?;
    let account: AccountId = cloud.need("account")?.need("uid")?.parse()?;
    let described = node.first("resources")?;
    let region = region(&cloud, &described)?;
    let resource = resource(&described, &account, &region)?;
    resource.bind(&account, &region)?;
    Ok(Finding {
        id: info.need_text("uid")?.to_owned(),
        product_arn: Some(node.need("metadata")?.need("product")?.need("uid")?.arn()?),
        generation: Generation(modified(node, &info)?.as_millisecond()),
        check,
        account,
        region,
        resource,
        severity: severity(enumerated(node, &["severity_id"])),
        title: info.need("title")?.prose(Finding::MAX_TITLE),
        workflow: workflow(node)?,
        trigger: Trigger::Import,
        event_time: event.time,
        first_seen: first_seen(event, &info)?,
        indicators: Vec::new(),
        actors: Vec::new(),
        // OCSF has no word for one.
        sample: false,
    })
}

/// When the finding changed last: `modified_time_dt`, or `modified_time` in Unix milliseconds.
fn modified(node: &Node<'_>, info: &Node<'_>) -> Result<Timestamp, ParseError> {
    match (info.get("modified_time_dt"), info.get("modified_time"), node.get("time")) {
        (Some(time), _, _) => time.time(),
        (None, Some(time), _) | (None, None, Some(time)) => time.unix_milliseconds(),
        (None, None, None) => Err(ParseError::Missing { path: format!("{}.modified_time", info.path()) }),
    }
}

/// When it was seen first: as a time (`…_dt`), or in Unix milliseconds.
fn first_seen(event: &Event<'_>, info: &Node<'_>) -> Result<Timestamp, ParseError> {
    for (text, number) in [("first_seen_time_dt", "first_seen_time"), ("created_time_dt", "created_time")] {
        if let Some(time) = info.get(text) {
            return Ok(event.not_after(time.time()?));
        }
        if let Some(time) = info.get(number) {
            return Ok(event.not_after(time.unix_milliseconds()?));
        }
    }
    Ok(event.time)
}

fn region(cloud: &Node<'_>, resource: &Node<'_>) -> Result<Region, ParseError> {
    match resource.get("region") {
        Some(given) if given.text()? != "global" => given.parse(),
        _ => cloud.need("region")?.parse(),
    }
}

/// The ARN is `uid` or, where `uid` is an id of the service's own, `uid_alt`.
fn resource(node: &Node<'_>, account: &AccountId, region: &Region) -> Result<Resource, ParseError> {
    if let Some(owner) = node.find(&["owner", "account", "uid"]) {
        same_account("the resource's owner", &owner.parse()?, account)?;
    }
    let kind = node.need_text("type")?;
    let id = node.need("uid")?;
    let is_arn = |id: &Node<'_>| id.text().is_ok_and(|text| text.starts_with("arn:"));
    let alternative = node.get("uid_alt").filter(|alternative| is_arn(alternative) && !is_arn(&id));
    Resource::of_id(kind, alternative.as_ref().unwrap_or(&id), account, region)
}

/// OCSF's `Fatal` is above `Critical`, which is as bad as Security Hub's labels get.
fn severity(id: u64) -> Severity {
    Severity::of_label(match id {
        2 => SeverityLabel::Low,
        3 => SeverityLabel::Medium,
        4 => SeverityLabel::High,
        5 | 6 => SeverityLabel::Critical,
        _ => SeverityLabel::Informational,
    })
}

fn workflow(node: &Node<'_>) -> Result<WorkflowStatus, ParseError> {
    Ok(match (enumerated(node, &["status_id"]), node.get_text("status")?) {
        (3, _) | (0, Some("Suppressed")) => WorkflowStatus::Suppressed,
        (4, _) | (0, Some("Resolved")) => WorkflowStatus::Resolved,
        (2, _) | (0, Some("In Progress")) => WorkflowStatus::Notified,
        _ => WorkflowStatus::New,
    })
}
