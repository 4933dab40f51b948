//! GuardDuty's `GuardDuty Finding`. Its severity is a number from 1 to 10; the resource is described, seldom by ARN.

use super::envelope::{Event, Inbound, MAX_FINDINGS};
use super::json::Node;
use super::resource::same_account;
use super::{Check, Finding, ParseError, Resource, Severity, Trigger, WorkflowStatus, actors, indicators};
use crate::arn::Arn;
use crate::eks::{self, EntryName, PodName};
use crate::ids::{AccountId, Generation, Region, excerpt};

pub(super) fn read(event: &Event<'_>) -> Result<Inbound, ParseError> {
    let detail = &event.detail;
    let service = detail.need("service")?;
    if service.get("archived").is_some_and(|archived| archived.is_true()) {
        return Ok(Inbound::nothing("the guardduty finding is archived"));
    }
    let whole = finding(event);
    let parts = whole.as_ref().map(|whole| attacked(event, whole)).unwrap_or_default();
    Ok(Inbound::Findings(std::iter::once(whole).chain(parts.into_iter().map(Ok)).collect()))
}

/// The resources that an attack sequence names by their ARNs, each as a finding of its own: what can be contained is these.
fn attacked(event: &Event<'_>, whole: &Finding) -> Vec<Finding> {
    let Some(resources) = event.detail.find(&["service", "detection", "sequence", "resources"]) else {
        return Vec::new();
    };
    let named = resources.items().unwrap_or_default();
    let arns = named.iter().filter_map(|resource| resource.get("uid")?.arn().ok());
    let mut found: Vec<Finding> = Vec::new();
    for resource in arns.filter_map(Resource::of_arn) {
        let is_here = resource.arn.account().is_none_or(|owner| *owner == whole.account);
        let is_new = found.iter().all(|other| other.resource.arn != resource.arn);
        if is_here && is_new && resource.bind(&whole.account, &whole.region).is_ok() && found.len() + 1 < MAX_FINDINGS {
            let id = format!("{}#{}", whole.id, resource.arn);
            let actors = whole.actors.iter().filter(|actor| **actor != resource.arn).cloned().collect();
            found.push(Finding { id, resource, actors, ..whole.clone() });
        }
    }
    found
}

fn finding(event: &Event<'_>) -> Result<Finding, ParseError> {
    let detail = &event.detail;
    let account: AccountId = detail.need("accountId")?.parse()?;
    let region: Region = detail.need("region")?.parse()?;
    same_account("the event", &event.account, &account)?;

    let kind = detail.need_text("type")?;
    let sample = is_sample(&detail.need("service")?);
    let resource = if is_attack_sequence(kind) {
        // A sequence spans many resources: what is under attack is the account.
        Resource::account(&account, &region)
    } else {
        let described = detail.need("resource")?;
        match resource(&described, kind, &account, &region) {
            Err(_) if sample => made_up(&described, kind, &account, &region),
            told => told?,
        }
    };
    Ok(Finding {
        id: detail.need_text("id")?.to_owned(),
        product_arn: None,
        generation: Generation(detail.need("updatedAt")?.time()?.as_millisecond()),
        check: Check::GuardDutyType(kind.to_owned()),
        actors: actors::collect(detail, &resource.arn, &account, &region),
        title: detail.need("title")?.prose(Finding::MAX_TITLE),
        account,
        region,
        resource,
        severity: severity(&detail.need("severity")?, kind)?,
        workflow: WorkflowStatus::New,
        trigger: Trigger::GuardDuty,
        event_time: event.time,
        first_seen: match detail.get("createdAt") {
            Some(created) => event.not_after(created.time()?),
            None => event.time,
        },
        indicators: indicators::collect(detail.get("service").map(|service| service.value())),
        sample,
    })
}

/// Whether a finding type is of a whole attack, which is critical whatever number it carries.
fn is_attack_sequence(kind: &str) -> bool {
    kind.starts_with("AttackSequence:")
}

fn severity(node: &Node<'_>, kind: &str) -> Result<Severity, ParseError> {
    let number = node.number()?;
    if !(0.0..=10.0).contains(&number) {
        return Err(node.bad("is not between 0 and 10"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100 fits")]
    let score = (number * 10.0).round() as u8;
    Ok(Severity::of_guardduty(if is_attack_sequence(kind) { score.max(90) } else { score }))
}

/// `sample` stands in `additionalInfo`, or in the JSON text that newer events put there as `value`.
fn is_sample(service: &Node<'_>) -> bool {
    let Some(info) = service.get("additionalInfo") else { return false };
    let inner = info.get("value").and_then(|value| value.value().as_str());
    let inner: Option<serde_json::Value> = inner.and_then(|text| serde_json::from_str(text).ok());
    info.get("sample").is_some_and(|sample| sample.is_true())
        || inner.is_some_and(|inner| inner.get("sample") == Some(&serde_json::Value::Bool(true)))
}

/// The resource of a sample whose ARN is none (`GeneratedFindingEKSClusterArn`), or another account's: what is called so
/// here. Where nothing can be called so, the account.
fn made_up(node: &Node<'_>, found: &str, account: &AccountId, region: &Region) -> Resource {
    let named = match node.get_text("resourceType").ok().flatten() {
        Some("S3Bucket") => node.first("s3BucketDetails").ok().map(|bucket| ("AWS::S3::Bucket", bucket.get("name"))),
        Some("EKSCluster") => Some(("AWS::EKS::Cluster", node.find(&["eksClusterDetails", "name"]))),
        Some("ECSCluster") => Some(("AWS::ECS::Cluster", node.find(&["ecsClusterDetails", "name"]))),
        Some("Lambda") => Some(("AWS::Lambda::Function", node.find(&["lambdaDetails", "functionName"]))),
        Some("RDSDBInstance") => {
            Some(("AWS::RDS::DBInstance", node.find(&["rdsDbInstanceDetails", "dbInstanceIdentifier"])))
        }
        _ => None,
    };
    let named = named.and_then(|(kind, name)| Resource::of_id(kind, &name?, account, region).ok());
    let Some(here) = named.filter(|resource| resource.bind(account, region).is_ok()) else {
        return Resource::account(account, region);
    };
    part_of_cluster(node, found, &here.arn, account, region).unwrap_or(here)
}

fn resource(node: &Node<'_>, found: &str, account: &AccountId, region: &Region) -> Result<Resource, ParseError> {
    let told = described(node, found, account, region)?;
    told.bind(account, region).map(|()| told)
}

fn described(node: &Node<'_>, found: &str, account: &AccountId, region: &Region) -> Result<Resource, ParseError> {
    let by_arn = |kind: &str, arn: Node<'_>| Ok(Resource::new(arn.arn()?, kind));
    let kind = node.need_text("resourceType")?;
    match kind {
        "Instance" => {
            let id = node.need("instanceDetails")?.need("instanceId")?;
            Resource::of_id("AWS::EC2::Instance", &id, account, region)
        }
        "AccessKey" => {
            let details = node.need("accessKeyDetails")?;
            Resource::of_principal(details.need_text("userType")?, || details.need("userName"), account, region)
        }
        "S3Bucket" => by_arn("AWS::S3::Bucket", node.first("s3BucketDetails")?.need("arn")?),
        "EKSCluster" => {
            let cluster = node.need("eksClusterDetails")?.need("arn")?.arn()?;
            let part = part_of_cluster(node, found, &cluster, account, region);
            Ok(part.unwrap_or_else(|| Resource::new(cluster, "AWS::EKS::Cluster")))
        }
        "ECSCluster" => by_arn("AWS::ECS::Cluster", node.need("ecsClusterDetails")?.need("arn")?),
        "Lambda" => Ok(Resource::new(
            function(node.need("lambdaDetails")?.need("functionArn")?.arn()?),
            "AWS::Lambda::Function",
        )),
        "RDSDBInstance" => by_arn("AWS::RDS::DBInstance", node.need("rdsDbInstanceDetails")?.need("dbInstanceArn")?),
        _ => Err(ParseError::UnsupportedResource {
            kind: excerpt(kind),
            id: String::new(),
            reason: "no guardduty resource type that redress knows",
        }),
    }
}

/// What of a cluster a finding speaks of, when it is less than all of it: of what a process does the pod, of who calls the API
/// the access of that principal.
fn part_of_cluster(
    node: &Node<'_>,
    found: &str,
    cluster: &Arn,
    account: &AccountId,
    region: &Region,
) -> Option<Resource> {
    if is_of_workload(found) {
        return Some(Resource::new(pod(node, cluster)?, eks::POD));
    }
    // Nobody's credentials were used where anybody may call.
    let principal = if found.ends_with("AnonymousAccess") { None } else { caller(node, account, region) };
    Some(Resource::new(EntryName::arn(cluster, &principal?)?, eks::ACCESS_ENTRY))
}

/// The IAM principal that called the Kubernetes API: whose key it was or, where that is not told, whom the cluster's audit log
/// names. An access entry may give its principal another name there.
fn caller(node: &Node<'_>, account: &AccountId, region: &Region) -> Option<Arn> {
    let by_key = node.get("accessKeyDetails").and_then(|key| {
        let kind = key.get_text("userType").ok().flatten()?;
        Resource::of_principal(kind, || key.need("userName"), account, region).ok()
    });
    let by_key = by_key.map(|principal| principal.arn).filter(|arn| arn.resource() != "root");
    by_key.or_else(|| node.find(&["kubernetesDetails", "kubernetesUserDetails", "username"])?.arn().ok())
}

/// Whether a finding type is of what a process does or of a file that it has, and not of who calls which API.
fn is_of_workload(kind: &str) -> bool {
    let is_of = |of: &str| {
        of.starts_with("Runtime/") || ["Kubernetes/MaliciousFile", "Kubernetes/SuspiciousFile"].contains(&of)
    };
    kind.split_once(':').is_some_and(|(_, of)| is_of(of))
}

/// The pod that a finding of a cluster names, when the workload is one and has names that Kubernetes takes.
fn pod(node: &Node<'_>, cluster: &Arn) -> Option<Arn> {
    let workload = node.find(&["kubernetesDetails", "kubernetesWorkloadDetails"])?;
    let text = |name: &str| workload.get(name).and_then(|value| value.value().as_str().map(str::to_owned));
    let is_pod = text("type").is_some_and(|kind| ["pod", "pods"].iter().any(|one| kind.eq_ignore_ascii_case(one)));
    let (namespace, name) = (text("namespace")?, text("name")?);
    PodName::arn(cluster, &namespace, &name).filter(|_| is_pod)
}

/// The function, of the ARN of one of its versions or aliases.
fn function(arn: Arn) -> Arn {
    let qualified = arn.resource().strip_prefix("function:").and_then(|rest| rest.split_once(':'));
    let bare =
        qualified.and_then(|(_, qualifier)| arn.as_str().strip_suffix(qualifier)?.strip_suffix(':')?.parse().ok());
    bare.unwrap_or(arn)
}
