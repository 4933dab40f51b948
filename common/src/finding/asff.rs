//! Security Hub's findings in ASFF: `Security Hub Findings - Imported` and `… - Custom Action`.

use super::envelope::{Event, Inbound, MAX_CUSTOM_ACTION_FINDINGS, MAX_FINDINGS, Read};
use super::json::Node;
use super::resource::same_account;
use super::{Check, CustomAction, Finding, ParseError, Resource, Severity, SeverityLabel, Trigger, WorkflowStatus};
use crate::arn::Arn;
use crate::ids::{AccountId, ControlId, Generation, Region, excerpt};
use crate::names;

/// Notes of ours carry this in `UpdatedBy`.
const OUR_NOTE: &str = names::EVENT_SOURCE;

/// Security Hub sets `UpdatedAt` and `Note.UpdatedAt` in one update, not always to the same millisecond.
const NOTE_TOLERANCE_MS: i64 = 1_000;

pub(super) fn imported(event: &Event<'_>) -> Result<Inbound, ParseError> {
    event.findings(MAX_FINDINGS, |node| {
        if let Some(reason) = skip_reason(node)? {
            return Ok(Read::Skip(reason));
        }
        match check(node)? {
            Some(check) if is_reporter(node, &check)? => finding(event, node, check, Trigger::Import).map(Read::found),
            _ => Ok(Read::Skip("the finding names no control and no guardduty type of its product".to_owned())),
        }
    })
}

pub(super) fn custom_action(event: &Event<'_>) -> Result<Inbound, ParseError> {
    let action: Arn = event
        .need("resources")?
        .items()?
        .first()
        .map(Node::arn)
        .unwrap_or_else(|| Err(ParseError::Missing { path: "resources[0]".to_owned() }))?;
    if let Some(account) = action.account() {
        same_account("the custom action's arn", account, &event.account)?;
    }
    let chosen = match action.resource().strip_prefix("action/custom/") {
        Some("RedressRemediate") => CustomAction::Remediate,
        Some("RedressDryRun") => CustomAction::DryRun,
        Some("RedressUndo") => CustomAction::Undo,
        Some("RedressContain") => CustomAction::Contain,
        Some("RedressEscalate") => CustomAction::Escalate,
        _ => {
            return Ok(Inbound::nothing(format!(
                "custom action `{}` is not one of redress",
                excerpt(action.resource())
            )));
        }
    };
    // A person chose these: what an import would skip (passed, archived, updated by us) is kept.
    event.findings(MAX_CUSTOM_ACTION_FINDINGS, |node| {
        if matches!(chosen, CustomAction::Contain | CustomAction::Escalate) {
            // It is about the resource, whichever product speaks of it.
            return finding(event, node, Check::Containment, Trigger::CustomAction(chosen)).map(Read::found);
        }
        let check = check(node)?
            .ok_or_else(|| ParseError::Missing { path: format!("{}.Compliance.SecurityControlId", node.path()) })?;
        finding(event, node, check, Trigger::CustomAction(chosen)).map(Read::found)
    })
}

/// Why an imported finding is nothing to act on. A suppressed or resolved one is not skipped: policy refuses
/// it with a record.
fn skip_reason(node: &Node<'_>) -> Result<Option<String>, ParseError> {
    let state = node.get_text("RecordState")?.unwrap_or("ACTIVE");
    if state != "ACTIVE" {
        return Ok(Some(format!("the finding's record state is `{}`", excerpt(state))));
    }
    if let Some(status) = node.find(&["Compliance", "Status"]) {
        let status = status.text()?;
        if !matches!(status, "FAILED" | "WARNING") {
            return Ok(Some(format!("the finding's compliance status is `{}`", excerpt(status))));
        }
    }
    Ok(is_own_update(node)?.then(|| "the finding was updated by redress".to_owned()))
}

/// Whether the newest thing that happened to the finding is a note of ours.
fn is_own_update(node: &Node<'_>) -> Result<bool, ParseError> {
    let Some(note) = node.get("Note") else { return Ok(false) };
    if !note.get_text("UpdatedBy")?.is_some_and(|by| by.starts_with(OUR_NOTE)) {
        return Ok(false);
    }
    let noted = note.need("UpdatedAt")?.time()?.as_millisecond();
    let updated = node.need("UpdatedAt")?.time()?.as_millisecond();
    Ok(updated <= noted + NOTE_TOLERANCE_MS)
}

/// Whether the product that may speak of this check is the one that did. Whoever may import findings of his own
/// product could otherwise have Redress, with its rights, do what he may not.
fn is_reporter(node: &Node<'_>, check: &Check) -> Result<bool, ParseError> {
    let product = node.need("ProductArn")?.arn()?;
    Ok(product.service() == "securityhub"
        && match check {
            Check::GuardDutyType(_) => product.resource() == "product/aws/guardduty",
            Check::Control(_) | Check::ConfigRule(_) | Check::Containment => {
                product.resource() == "product/aws/securityhub"
            }
        })
}

fn finding(event: &Event<'_>, node: &Node<'_>, check: Check, trigger: Trigger) -> Result<Finding, ParseError> {
    let account: AccountId = node.need("AwsAccountId")?.parse()?;
    let described = node.first("Resources")?;
    let region = region(event, node, &described)?;
    let resource = resource(&described, &account, &region)?;
    resource.bind(&account, &region)?;
    Ok(Finding {
        id: node.need_text("Id")?.to_owned(),
        product_arn: Some(node.need("ProductArn")?.arn()?),
        generation: Generation(node.need("UpdatedAt")?.time()?.as_millisecond()),
        check,
        account,
        region,
        resource,
        severity: severity(&node.need("Severity")?)?,
        title: node.need("Title")?.prose(Finding::MAX_TITLE),
        workflow: workflow(node)?,
        trigger,
        event_time: event.time,
        first_seen: first_seen(event, node)?,
        indicators: indicators(node),
        actors: Vec::new(),
        sample: is_sample(node),
    })
}

/// Whether its product made it up: a field of ASFF's own, and what GuardDuty said of it.
fn is_sample(node: &Node<'_>) -> bool {
    let told = node.find(&["ProductFields", "aws/guardduty/service/additionalInfo/sample"]);
    node.get("Sample").is_some_and(|sample| sample.is_true())
        || told.is_some_and(|told| told.text().is_ok_and(|text| text == "true"))
}

/// What the finding says of the other side.
fn indicators(node: &Node<'_>) -> Vec<String> {
    let parts =
        ["Action", "Network", "NetworkPath", "Process", "ThreatIntelIndicators", "Threats"].map(|part| node.get(part));
    super::indicators::collect(parts.iter().flatten().map(Node::value))
}

fn first_seen(event: &Event<'_>, node: &Node<'_>) -> Result<jiff::Timestamp, ParseError> {
    let told = node.get("FirstObservedAt").or_else(|| node.get("CreatedAt"));
    told.map_or(Ok(event.time), |told| Ok(event.not_after(told.time()?)))
}

/// The resource's Region; that of the finding for global resources; the event's when neither is given.
fn region(event: &Event<'_>, node: &Node<'_>, resource: &Node<'_>) -> Result<Region, ParseError> {
    for given in [resource.get("Region"), node.get("Region")].into_iter().flatten() {
        if !matches!(given.text()?, "global" | "aws-global") {
            return given.parse();
        }
    }
    Ok(event.region.clone())
}

fn resource(node: &Node<'_>, account: &AccountId, region: &Region) -> Result<Resource, ParseError> {
    let kind = node.need_text("Type")?;
    if kind == "AwsIamAccessKey" {
        let key = node.need("Details")?.need("AwsIamAccessKey")?;
        return Resource::of_principal(key.need_text("PrincipalType")?, || key.need("PrincipalName"), account, region);
    }
    Resource::of_id(kind, &node.need("Id")?, account, region)
}

fn severity(node: &Node<'_>) -> Result<Severity, ParseError> {
    let score = node.get("Normalized").map(|score| {
        let number = score.value().as_u64().and_then(|number| u8::try_from(number).ok());
        number.filter(|number| *number <= 100).ok_or_else(|| score.bad("is not a whole number from 0 to 100"))
    });
    let label = node.get("Label").map(|label| {
        let text = label.text()?;
        SeverityLabel::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| label.bad("is not a severity label"))
    });
    match (label.transpose()?, score.transpose()?) {
        (Some(label), Some(score)) => Ok(Severity { score, label }),
        (Some(label), None) => Ok(Severity::of_label(label)),
        (None, Some(score)) => Ok(Severity::of_score(score)),
        (None, None) => Err(ParseError::Missing { path: format!("{}.Label", node.path()) }),
    }
}

fn workflow(node: &Node<'_>) -> Result<WorkflowStatus, ParseError> {
    let Some(status) = node.find(&["Workflow", "Status"]) else { return Ok(WorkflowStatus::New) };
    match status.text()? {
        "NEW" => Ok(WorkflowStatus::New),
        "NOTIFIED" => Ok(WorkflowStatus::Notified),
        "RESOLVED" => Ok(WorkflowStatus::Resolved),
        "SUPPRESSED" => Ok(WorkflowStatus::Suppressed),
        other => Err(status.bad(format!("`{}` is not a workflow status", excerpt(other)))),
    }
}

/// What failed: the control of a consolidated finding, or of a standard's own; or the GuardDuty type.
fn check(node: &Node<'_>) -> Result<Option<Check>, ParseError> {
    if let Some(id) = node.find(&["Compliance", "SecurityControlId"]) {
        return Ok(Some(Check::Control(canonical(id.parse()?))));
    }
    let fields = node.get("ProductFields");
    let field = |name| fields.as_ref().map_or(Ok(None), |fields| fields.get_text(name));
    for reference in [field("StandardsControlArn")?, node.get_text("GeneratorId")?].into_iter().flatten() {
        if let Some(control) = control_of_reference(reference) {
            return Ok(Some(Check::Control(control)));
        }
    }
    // Without a reference to a standard, an id of the new form speaks for itself.
    if let Some(control) = field("ControlId")?.and_then(|id| id.parse().ok().map(canonical)).filter(is_security_control)
    {
        return Ok(Some(Check::Control(control)));
    }
    Ok(guardduty_type(node)?.map(Check::GuardDutyType))
}

/// The control that a standard's control ARN or a generator id names.
///
/// They end in `security-control/S3.8`, `<standard>/v/<version>/<id>` or `<standard>/v/<version>/rule/<id>`.
fn control_of_reference(reference: &str) -> Option<ControlId> {
    if let Some((_, id)) = reference.rsplit_once("security-control/") {
        return id.parse().ok().map(canonical);
    }
    let (standard, rest) = reference.split_once("/v/")?;
    let standard = standard.rsplit(['/', ':']).next()?;
    let (version, id) = rest.split_once('/')?;
    let id = id.strip_prefix("rule/").unwrap_or(id);
    match standard {
        "cis-aws-foundations-benchmark" | "pci-dss" => {
            let known = STANDARD_IDS.iter().find(|(s, v, old, _)| (*s, *v, *old) == (standard, version, id))?;
            known.3.parse().ok()
        }
        _ => id.parse().ok().map(canonical).filter(is_security_control),
    }
}

/// Security Hub writes one service in two ways: `AutoScaling.1`, `Autoscaling.5`.
pub(super) fn canonical(id: ControlId) -> ControlId {
    let number = id.as_str().strip_prefix("Autoscaling.");
    number.and_then(|number| format!("AutoScaling.{number}").parse().ok()).unwrap_or(id)
}

/// Whether an id has the form of Security Hub's own: a service, and a number. CIS's `1.9` has not.
fn is_security_control(id: &ControlId) -> bool {
    id.as_str().split_once('.').is_some_and(|(_, number)| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Ids of standards that number the controls their own way, for controls of the catalogue's plan.
#[rustfmt::skip]
const STANDARD_IDS: &[(&str, &str, &str, &str)] = &[
    ("cis-aws-foundations-benchmark", "1.2.0", "1.3", "IAM.8"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.4", "IAM.3"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.5", "IAM.11"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.6", "IAM.12"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.7", "IAM.13"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.8", "IAM.14"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.9", "IAM.15"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.10", "IAM.16"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.11", "IAM.17"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.16", "IAM.2"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.20", "IAM.18"),
    ("cis-aws-foundations-benchmark", "1.2.0", "1.22", "IAM.1"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.1", "CloudTrail.1"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.2", "CloudTrail.4"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.3", "CloudTrail.6"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.4", "CloudTrail.5"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.5", "Config.1"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.6", "CloudTrail.7"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.7", "CloudTrail.2"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.8", "KMS.4"),
    ("cis-aws-foundations-benchmark", "1.2.0", "2.9", "EC2.6"),
    ("cis-aws-foundations-benchmark", "1.2.0", "4.1", "EC2.13"),
    ("cis-aws-foundations-benchmark", "1.2.0", "4.2", "EC2.14"),
    ("cis-aws-foundations-benchmark", "1.2.0", "4.3", "EC2.2"),
    ("cis-aws-foundations-benchmark", "1.4.0", "1.8", "IAM.15"),
    ("cis-aws-foundations-benchmark", "1.4.0", "1.9", "IAM.16"),
    ("cis-aws-foundations-benchmark", "1.4.0", "2.1.5.1", "S3.1"),
    ("cis-aws-foundations-benchmark", "1.4.0", "2.1.5.2", "S3.8"),
    ("cis-aws-foundations-benchmark", "1.4.0", "2.2.1", "EC2.7"),
    ("cis-aws-foundations-benchmark", "1.4.0", "3.8", "KMS.4"),
    ("cis-aws-foundations-benchmark", "1.4.0", "5.1", "EC2.21"),
    ("pci-dss", "3.2.1", "PCI.EC2.1", "EC2.1"),
    ("pci-dss", "3.2.1", "PCI.EC2.2", "EC2.2"),
    ("pci-dss", "3.2.1", "PCI.EC2.5", "EC2.13"),
    ("pci-dss", "3.2.1", "PCI.KMS.1", "KMS.4"),
];

/// GuardDuty's own type from the ASFF one, which is `<namespace>/<category>/<type with a hyphen for its slash>`. Of some
/// types the category is a part: `TTPs/Credential Access/IAMUser-AnomalousBehavior` is that of
/// `CredentialAccess:IAMUser/AnomalousBehavior`, `TTPs/AnomalousBehavior/Discovery:Kubernetes-PermissionChecked` that of
/// `Discovery:Kubernetes/AnomalousBehavior.PermissionChecked`.
pub(super) fn guardduty_type_of(asff: &str) -> Option<String> {
    let rest = asff.split_once('/').map_or(asff, |(_, rest)| rest);
    // Where there is no category, what stands there is the type.
    let (category, last) = rest.split_once('/').filter(|(category, _)| !category.contains(':')).unwrap_or(("", rest));
    let category: String = category.chars().filter(|c| !c.is_whitespace()).collect();
    let kind = match last.split_once(':') {
        None => {
            let (resource, name) =
                last.split_once('-').filter(|(resource, _)| matches!(*resource, "IAMUser" | "RDS"))?;
            format!("{category}:{resource}/{name}")
        }
        Some((purpose, rest)) if rest.contains('/') => format!("{purpose}:{rest}"),
        Some((purpose, rest)) => {
            let (resource, name) = rest.split_once('-')?;
            let family = if category == "AnomalousBehavior" { "AnomalousBehavior." } else { "" };
            format!("{purpose}:{resource}/{family}{name}")
        }
    };
    Some(kind).filter(|kind| !kind.starts_with(':') && !kind.contains(' '))
}

fn guardduty_type(node: &Node<'_>) -> Result<Option<String>, ParseError> {
    if node.get_text("ProductName")? != Some("GuardDuty")
        && !node.need("ProductArn")?.text()?.ends_with(":product/aws/guardduty")
    {
        return Ok(None);
    }
    let Some(types) = node.get("Types") else { return Ok(None) };
    for given in types.items()? {
        if let Some(kind) = guardduty_type_of(given.text()?) {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::guardduty_type_of;

    #[test]
    fn guardduty_types_are_read_as_security_hub_names_them() {
        for (asff, guardduty) in [
            ("TTPs/Initial Access/UnauthorizedAccess:EC2-SSHBruteForce", "UnauthorizedAccess:EC2/SSHBruteForce"),
            ("TTPs/Command and Control/Backdoor:EC2-C&CActivity.B!DNS", "Backdoor:EC2/C&CActivity.B!DNS"),
            ("TTPs/Discovery:S3-AnomalousBehavior", "Discovery:S3/AnomalousBehavior"),
            ("TTPs/PenTest:IAMUser/KaliLinux", "PenTest:IAMUser/KaliLinux"),
            ("TTPs/AttackSequence:IAM/CompromisedCredentials", "AttackSequence:IAM/CompromisedCredentials"),
            ("TTPs/Credential Access/IAMUser-AnomalousBehavior", "CredentialAccess:IAMUser/AnomalousBehavior"),
            ("TTPs/Privilege Escalation/IAMUser-AnomalousBehavior", "PrivilegeEscalation:IAMUser/AnomalousBehavior"),
            ("TTPs/Discovery/RDS-TorIPCaller", "Discovery:RDS/TorIPCaller"),
            (
                "TTPs/AnomalousBehavior/PrivilegeEscalation:Kubernetes-WorkloadDeployed!PrivilegedContainer",
                "PrivilegeEscalation:Kubernetes/AnomalousBehavior.WorkloadDeployed!PrivilegedContainer",
            ),
            (
                "Effects/Data Exfiltration/UnauthorizedAccess:IAMUser-InstanceCredentialExfiltration.OutsideAWS",
                "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
            ),
        ] {
            assert_eq!(guardduty_type_of(asff).as_deref(), Some(guardduty), "{asff}");
        }
        for none in
            ["", "TTPs", "Software and Configuration Checks/AWS Security Best Practices", "a/b/c-d", ":x-y", "a/b/p:q"]
        {
            assert_eq!(guardduty_type_of(none), None, "{none}");
        }
    }
}
