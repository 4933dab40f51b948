//! The resource services: which emulator serves each, and what a call of theirs is authorised as.
//!
//! One table, [`FAMILIES`]. Which actions act on which types of resource, and how their ARNs look, is AWS's own
//! service authorization reference as cfn-lint publishes it ([`Actions`]); the table adds what that does not say:
//! which parameter names a resource. Pure but for reading that reference; it judges nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::LabError;
use crate::service::{AwsError, Caller};

/// Who performs a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    MiniStack,
    Moto,
}

/// The services of one signing scope.
#[derive(Debug)]
pub(crate) struct Family {
    /// The scope of their signatures, and the prefix of their actions.
    pub(crate) scope: &'static str,
    /// Botocore's names of the services that share the scope.
    pub(crate) models: &'static [&'static str],
    pub(crate) server: Server,
    /// What names a resource of which type.
    named: &'static [Named],
}

/// (parameter, or with a hyphen at its end what the type's ids begin with; type of resource; what stands in the ARN for it:
/// `{}` is the value, `{Other}` another parameter's, or `*`).
type Named = (&'static str, &'static str, &'static str);

/// Who serves what. Each was decided by making the catalogue's calls to both emulators and reading back:
/// MiniStack where it holds the state truthfully, moto where MiniStack lacks calls or fields, and moto for what
/// refers to its EC2 (load balancers, groups, databases). What neither holds is in docs/emulator-gaps.md.
/// Scopes that are not here are MiniStack's, with its own reading of action and resource.
pub(crate) const FAMILIES: &[Family] = &[
    // Alternate contacts, which MiniStack lacks (see `PARTLY`).
    Family {
        scope: "account",
        models: &["account"],
        server: Server::Moto,
        named: &[("AccountId", "accountinorganization", "{}")],
    },
    // moto cannot renew.
    Family { scope: "acm", models: &["acm"], server: Server::MiniStack, named: &[] },
    // moto cannot update a stage of version 2. Authorised by method and path: see `by_path`.
    Family { scope: "apigateway", models: &["apigateway", "apigatewayv2"], server: Server::MiniStack, named: &[] },
    // MiniStack lacks it. A target's id is known to the service alone.
    Family {
        scope: "application-autoscaling",
        models: &["application-autoscaling"],
        server: Server::Moto,
        named: &[("ResourceId", "scalabletarget", "*")],
    },
    // moto cannot update a workgroup.
    Family {
        scope: "athena",
        models: &["athena"],
        server: Server::MiniStack,
        named: &[("WorkGroup", "workgroup", "{}"), ("Name", "workgroup", "{}")],
    },
    // MiniStack drops a launch configuration's metadata options and public address.
    Family {
        scope: "autoscaling",
        models: &["autoscaling"],
        server: Server::Moto,
        named: &[
            ("AutoScalingGroupName", "autoscalinggroup", "*:autoScalingGroupName/{}"),
            ("LaunchConfigurationName", "launchconfiguration", "*:launchConfigurationName/{}"),
        ],
    },
    // Both hold it; MiniStack keeps the whole configuration as it was sent.
    Family {
        scope: "cloudfront",
        models: &["cloudfront"],
        server: Server::MiniStack,
        named: &[("Id", "distribution", "{}"), ("Id", "origin-access-control", "{}")],
    },
    // Both hold it; its buckets are in MiniStack.
    Family {
        scope: "cloudtrail",
        models: &["cloudtrail"],
        server: Server::MiniStack,
        named: &[("Name", "trail", "{}"), ("TrailName", "trail", "{}")],
    },
    // moto cannot update a project, nor make one without a repository.
    Family {
        scope: "codebuild",
        models: &["codebuild"],
        server: Server::MiniStack,
        named: &[("name", "project", "{}"), ("names", "project", "{}"), ("projectName", "project", "{}")],
    },
    // Both hold it.
    Family {
        scope: "ecr",
        models: &["ecr"],
        server: Server::MiniStack,
        named: &[("repositoryName", "repository", "{}"), ("repositoryNames", "repository", "{}")],
    },
    // MiniStack lacks most of it. Its ids tell their types, whatever the parameter is called.
    Family {
        scope: "ec2",
        models: &["ec2"],
        server: Server::Moto,
        named: &[
            ("acl-", "network-acl", "{}"),
            ("ami-", "image", "{}"),
            ("eipalloc-", "elastic-ip", "{}"),
            ("eni-", "network-interface", "{}"),
            ("fl-", "vpc-flow-log", "{}"),
            ("i-", "instance", "{}"),
            ("igw-", "internet-gateway", "{}"),
            ("lt-", "launch-template", "{}"),
            ("nat-", "natgateway", "{}"),
            ("pcx-", "vpc-peering-connection", "{}"),
            ("rtb-", "route-table", "{}"),
            ("sg-", "security-group", "{}"),
            ("sgr-", "security-group-rule", "{}"),
            ("snap-", "snapshot", "{}"),
            ("subnet-", "subnet", "{}"),
            ("tgw-", "transit-gateway", "{}"),
            ("tgw-attach-", "transit-gateway-attachment", "{}"),
            ("tgw-rtb-", "transit-gateway-route-table", "{}"),
            ("vol-", "volume", "{}"),
            ("vpc-", "vpc", "{}"),
            ("vpce-", "vpc-endpoint", "{}"),
            // AWS finds out whose they are.
            ("AssociationId", "instance", "*"),
            ("GroupName", "security-group", "*"),
            ("LaunchTemplateName", "launch-template", "*"),
        ],
    },
    // moto cannot update a cluster's settings.
    Family {
        scope: "ecs",
        models: &["ecs"],
        server: Server::MiniStack,
        named: &[
            ("cluster", "cluster", "{}"),
            ("clusters", "cluster", "{}"),
            ("clusterName", "cluster", "{}"),
            ("family", "task-definition", "task-definition/{}:*"),
            ("taskDefinition", "task-definition", "task-definition/{}"),
            ("service", "service", "{cluster}/{}"),
            ("services", "service", "{cluster}/{}"),
            ("serviceName", "service", "{cluster}/{}"),
        ],
    },
    // MiniStack cannot update a cluster.
    Family {
        scope: "eks",
        models: &["eks"],
        server: Server::Moto,
        named: &[("name", "cluster", "{}"), ("clusterName", "cluster", "{}")],
    },
    // moto cannot modify a cache cluster.
    Family {
        scope: "elasticache",
        models: &["elasticache"],
        server: Server::MiniStack,
        named: &[
            ("CacheClusterId", "cluster", "{}"),
            ("ReplicationGroupId", "replicationgroup", "{}"),
            ("CacheParameterGroupName", "parametergroup", "{}"),
            ("CacheSubnetGroupName", "subnetgroup", "{}"),
            ("CacheSecurityGroupName", "securitygroup", "{}"),
            ("CacheSecurityGroupNames", "securitygroup", "{}"),
            ("SnapshotName", "snapshot", "{}"),
        ],
    },
    // MiniStack lacks it.
    Family {
        scope: "elasticbeanstalk",
        models: &["elasticbeanstalk"],
        server: Server::Moto,
        named: &[
            ("ApplicationName", "application", "{}"),
            ("EnvironmentName", "environment", "{ApplicationName}/{}"),
            ("EnvironmentNames", "environment", "{ApplicationName}/{}"),
        ],
    },
    // moto lacks backup policies.
    Family {
        scope: "elasticfilesystem",
        models: &["efs"],
        server: Server::MiniStack,
        named: &[
            ("FileSystemId", "file-system", "{}"),
            ("ResourceId", "file-system", "{}"),
            ("AccessPointId", "access-point", "{}"),
        ],
    },
    // MiniStack lacks classic load balancers; all of them refer to subnets and groups of moto's EC2.
    Family {
        scope: "elasticloadbalancing",
        models: &["elb", "elbv2"],
        server: Server::Moto,
        named: &[
            ("LoadBalancerName", "loadbalancer", "{}"),
            // A load balancer that is to be: its kind and id are not all known.
            ("Name", "loadbalancer", "*/{}/*"),
            ("Name", "targetgroup", "{}/*"),
            ("Name", "truststore", "{}/*"),
        ],
    },
    // Both hold it.
    Family {
        scope: "elasticmapreduce",
        models: &["emr"],
        server: Server::MiniStack,
        named: &[("ClusterId", "cluster", "{}"), ("JobFlowId", "cluster", "{}"), ("JobFlowIds", "cluster", "{}")],
    },
    // MiniStack lacks the API of 2015, under which Elasticsearch domains are still kept.
    Family {
        scope: "es",
        models: &["es", "opensearch"],
        server: Server::Moto,
        named: &[("DomainName", "domain", "{}"), ("DomainNames", "domain", "{}")],
    },
    // MiniStack lacks it.
    Family {
        scope: "guardduty",
        models: &["guardduty"],
        server: Server::Moto,
        named: &[("DetectorId", "detector", "{}")],
    },
    // Both hold it; its keys are in MiniStack.
    Family {
        scope: "kinesis",
        models: &["kinesis"],
        server: Server::MiniStack,
        named: &[("StreamName", "stream", "{}")],
    },
    // MiniStack lacks it.
    Family { scope: "macie2", models: &["macie2"], server: Server::Moto, named: &[] },
    // MiniStack lacks snapshots' attributes and copies, and fields of instances and clusters.
    Family {
        scope: "rds",
        models: &["rds"],
        server: Server::Moto,
        named: &[
            ("DBInstanceIdentifier", "db", "{}"),
            ("SourceDBInstanceIdentifier", "db", "{}"),
            ("DBClusterIdentifier", "cluster", "{}"),
            ("DBSnapshotIdentifier", "snapshot", "{}"),
            ("SourceDBSnapshotIdentifier", "snapshot", "{}"),
            ("TargetDBSnapshotIdentifier", "snapshot", "{}"),
            ("DBClusterSnapshotIdentifier", "cluster-snapshot", "{}"),
            ("SourceDBClusterSnapshotIdentifier", "cluster-snapshot", "{}"),
            ("TargetDBClusterSnapshotIdentifier", "cluster-snapshot", "{}"),
            ("SnapshotIdentifier", "cluster-snapshot", "{}"),
            ("DBParameterGroupName", "pg", "{}"),
            ("DBClusterParameterGroupName", "cluster-pg", "{}"),
            ("DBSubnetGroupName", "subgrp", "{}"),
            ("DBSecurityGroups", "secgrp", "{}"),
            ("DBSecurityGroupName", "secgrp", "{}"),
            ("OptionGroupName", "og", "{}"),
            ("SubscriptionName", "es", "{}"),
        ],
    },
    // MiniStack lacks it.
    Family {
        scope: "redshift",
        models: &["redshift"],
        server: Server::Moto,
        named: &[
            ("ClusterIdentifier", "cluster", "{}"),
            ("ParameterGroupName", "parametergroup", "{}"),
            ("ClusterSubnetGroupName", "subnetgroup", "{}"),
            ("SnapshotIdentifier", "snapshot", "{ClusterIdentifier}/{}"),
            ("SubscriptionName", "eventsubscription", "{}"),
        ],
    },
    // The account's public access block, which MiniStack lacks (see `PARTLY`).
    Family { scope: "s3", models: &["s3control"], server: Server::Moto, named: &[] },
];

/// Scopes of which only these paths are the table's; the rest of the scope is MiniStack's.
const PARTLY: &[(&str, &[&str])] = &[
    ("account", &["/putAlternateContact", "/getAlternateContact", "/deleteAlternateContact"]),
    ("s3", &["/v20180820/configuration/publicAccessBlock"]),
];

/// Actions that are not called as their operations are.
const OTHER_ACTIONS: &[(&str, &str, &str)] = &[
    ("s3", "GetPublicAccessBlock", "GetAccountPublicAccessBlock"),
    ("s3", "PutPublicAccessBlock", "PutAccountPublicAccessBlock"),
    ("s3", "DeletePublicAccessBlock", "PutAccountPublicAccessBlock"),
];

/// Actions that make a thing of a type without being called so.
const MADE: &[(&str, &str)] = &[
    ("AllocateAddress", "elastic-ip"),
    ("CreateFlowLogs", "vpc-flow-log"),
    ("RunInstances", "network-interface"),
    ("RunInstances", "volume"),
];

/// Operations that hand a role on, by scope: the parameter that holds it, and the service that gets it. AWS asks their caller
/// for `iam:PassRole`, too. Where a role is behind an instance profile, the lab does not know it.
const PASSED: &[(&str, &str, &str, &str)] = &[
    ("ec2", "CreateFlowLogs", "DeliverLogsPermissionArn", "vpc-flow-logs.amazonaws.com"),
    ("rds", "CreateDBInstance", "MonitoringRoleArn", "monitoring.rds.amazonaws.com"),
    ("rds", "ModifyDBInstance", "MonitoringRoleArn", "monitoring.rds.amazonaws.com"),
];

/// The role that a call hands on, and to whom.
pub(crate) fn passed<'a>(family: &Family, call: &'a Parsed) -> Option<(&'a str, &'static str)> {
    let known =
        |(scope, operation, _, _): &&(&str, &str, &str, &str)| *scope == family.scope && *operation == call.operation;
    let (_, _, parameter, service) = PASSED.iter().find(known)?;
    Some((call.parameters.get(*parameter)?.as_str()?, service))
}

/// The family that a request belongs to, by its signature's scope.
pub(crate) fn family(scope: &str, path: &str) -> Option<&'static Family> {
    let partly = PARTLY.iter().find(|(name, _)| *name == scope);
    let served = partly.is_none_or(|(_, paths)| paths.contains(&path));
    FAMILIES.iter().find(|family| served && family.scope == scope)
}

/// A request, read by botocore's model of its service.
#[derive(Debug, Deserialize)]
pub(crate) struct Parsed {
    /// The API's name.
    pub(crate) operation: String,
    /// The parameters of the first level, by their API names.
    pub(crate) parameters: BTreeMap<String, Value>,
}

/// Where and by whom a call is made.
pub(crate) struct Place<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) region: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
}

/// What a call must be allowed to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) action: String,
    /// All of them.
    pub(crate) resources: Vec<String>,
}

/// AWS's actions: which types of resource each acts on, and how their ARNs look.
#[derive(Debug)]
pub(crate) struct Actions(HashMap<String, Service>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    actions: HashMap<String, Action>,
    #[serde(default)]
    resources: HashMap<String, ResourceType>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Action {
    resources: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ResourceType {
    #[serde(rename = "ARNFormats")]
    formats: Vec<String>,
}

impl Actions {
    /// Read from cfn-lint, which moto brings along.
    pub(crate) fn of_environment(environment: &Path) -> Result<Self, LabError> {
        let lib = environment.join("lib");
        let versions = fs::read_dir(&lib).map_err(|source| LabError::file(&lib, source))?;
        let inside = "site-packages/cfnlint/data/AdditionalSpecs/Policies.json";
        let found = versions.flatten().map(|version| version.path().join(inside)).find(|path| path.exists());
        let path = found.unwrap_or_else(|| lib.join(inside));
        let text = fs::read_to_string(&path).map_err(|source| LabError::file(&path, source))?;
        let all: HashMap<String, Value> =
            serde_json::from_str(&text).map_err(|error| LabError::file(&path, error.into()))?;
        let wanted = all.into_iter().filter(|(prefix, _)| FAMILIES.iter().any(|family| family.scope == *prefix));
        let read = wanted.map(|(prefix, service)| Ok((prefix, serde_json::from_value(service)?)));
        let services = read.collect::<Result<_, serde_json::Error>>();
        services.map(Self).map_err(|error| LabError::file(&path, error.into()))
    }

    /// What AWS would ask of the caller.
    pub(crate) fn wanted(&self, family: &Family, call: &Parsed, place: &Place<'_>) -> Result<Wanted, AwsError> {
        let told = self.told(family, call, place);
        if place.caller.arn.ends_with(":root") {
            // It may do everything with whatever it is.
            let action = format!("{}:{}", family.scope, call.operation);
            return Ok(told.unwrap_or_else(|_| Wanted { action, resources: vec!["*".to_owned()] }));
        }
        told
    }

    fn told(&self, family: &Family, call: &Parsed, place: &Place<'_>) -> Result<Wanted, AwsError> {
        if family.scope == "apigateway" {
            return Ok(by_path(place));
        }
        let other = OTHER_ACTIONS.iter().find(|(scope, name, _)| *scope == family.scope && *name == call.operation);
        let name = other.map_or(call.operation.as_str(), |(_, _, action)| *action);
        let action = format!("{}:{name}", family.scope);
        let service = self.0.get(family.scope);
        let Some((service, known)) = service.and_then(|all| Some((all, all.actions.get(&name.to_lowercase())?))) else {
            return Err(unknown(&format!("AWS's reference has no action {action}")));
        };
        let mut types = Vec::new();
        for kind in &known.resources {
            let kind = kind.to_lowercase();
            let Some(described) = service.resources.get(&kind) else {
                return Err(unknown(&format!("AWS's reference does not describe {kind} of {action}")));
            };
            types.push((kind, described.formats.as_slice()));
        }
        if types.is_empty() {
            return Ok(Wanted { action, resources: vec!["*".to_owned()] });
        }
        let mut resources = Vec::new();
        for (kind, formats) in &types {
            let mut named = named_of(family, kind, formats, call, place)?;
            if named.is_empty() && makes(name, kind) {
                named.extend(formats.first().map(|format| filled(format, "*", place)).transpose()?);
            }
            for arn in named {
                if !resources.contains(&arn) {
                    resources.push(arn);
                }
            }
        }
        if resources.is_empty() && only_reads(name) {
            // Without a name it reads all there are.
            for format in types.iter().filter_map(|(_, formats)| formats.first()) {
                resources.push(filled(format, "*", place)?);
            }
        }
        if resources.is_empty() {
            let given: Vec<_> = call.parameters.keys().map(String::as_str).collect();
            let message = format!(
                "{action} acts on a resource that none of its parameters ({}) is known to name",
                given.join(", ")
            );
            return Err(unknown(&message));
        }
        Ok(Wanted { action, resources })
    }
}

/// The ARNs of one type that a request names.
fn named_of(
    family: &Family,
    kind: &str,
    formats: &[String],
    call: &Parsed,
    place: &Place<'_>,
) -> Result<Vec<String>, AwsError> {
    let mut arns = Vec::new();
    // What there is one of in an account, nobody names.
    for format in formats.iter().filter(|format| !format.contains(".*")) {
        arns.push(filled(format, "", place)?);
    }
    for (parameter, value) in &call.parameters {
        for text in texts(value) {
            if text.starts_with("arn:") {
                let fits = formats.iter().any(|format| matches_format(format, text));
                arns.extend(fits.then(|| text.to_owned()));
                continue;
            }
            let id = text.rsplit_once('-').filter(|(_, rest)| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let id = id.map(|(begins, _)| begins);
            let names =
                |name: &str| name == parameter || name.strip_suffix('-').is_some_and(|begins| id == Some(begins));
            for (_, _, value) in family.named.iter().filter(|(name, of, _)| names(name) && *of == kind) {
                let value = with_others(value, text, &call.parameters);
                for format in formats.iter().filter(|format| format.contains(".*")) {
                    arns.push(filled(format, &value, place)?);
                }
            }
        }
    }
    Ok(arns)
}

/// API Gateway's actions are HTTP's methods, its ARNs the paths.
fn by_path(place: &Place<'_>) -> Wanted {
    let path = place.path.strip_prefix("/v2").unwrap_or(place.path);
    let resource = format!("arn:{}:apigateway:{}::{path}", partition(place), place.region);
    Wanted { action: format!("apigateway:{}", place.method), resources: vec![resource] }
}

fn partition<'a>(place: &Place<'a>) -> &'a str {
    place.caller.arn.split(':').nth(1).unwrap_or("aws")
}

fn filled(format: &str, value: &str, place: &Place<'_>) -> Result<String, AwsError> {
    let arn = format
        .replace("${Partition}", partition(place))
        .replace("${Region}", place.region)
        .replace("${Account}", &place.caller.account)
        .replace(".*", value);
    if arn.contains("${") {
        return Err(unknown(&format!("the ARN {format} has a part that the lab does not know")));
    }
    Ok(arn)
}

/// `*:autoScalingGroupName/{}`, `{ApplicationName}/{}`.
fn with_others(template: &str, value: &str, parameters: &BTreeMap<String, Value>) -> String {
    let mut filled = template.replace("{}", value);
    while let Some((before, (name, after))) =
        filled.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        let other = parameters.get(name).and_then(Value::as_str).unwrap_or("*");
        filled = format!("{before}{other}{after}");
    }
    filled
}

/// Whether an ARN is one of a format, of whatever account and Region.
fn matches_format(format: &str, arn: &str) -> bool {
    let (mut format, mut arn) = (format.splitn(6, ':'), arn.splitn(6, ':'));
    let service = (format.nth(2), arn.nth(2));
    let resource = (format.nth(2), arn.nth(2));
    let (Some(format), Some(resource)) = resource else { return false };
    let begins = format.split(".*").next().unwrap_or_default();
    service.0 == service.1 && resource.starts_with(begins) && (format.contains(".*") || resource == begins)
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    }
}

fn only_reads(action: &str) -> bool {
    ["Describe", "List", "Get", "BatchGet"].iter().any(|verb| action.starts_with(verb))
}

/// Whether an action makes a thing of this type, which has no name yet.
fn makes(action: &str, kind: &str) -> bool {
    let made = ["Create", "Copy", "Run"].iter().find_map(|verb| action.strip_prefix(verb));
    made.is_some_and(|made| made.to_lowercase().trim_end_matches('s') == kind.replace('-', ""))
        || MADE.contains(&(action, kind))
}

/// The lab's own shortcoming: never to be taken for AWS's answer, never retried.
fn unknown(message: &str) -> AwsError {
    AwsError { status: 501, code: "LabCannotTell".to_owned(), message: format!("{message}: see lab/src/resources.rs") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
