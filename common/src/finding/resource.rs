//! What reporters call a resource, and its ARN: one table for all of them. Asks AWS nothing, so an id
//! from which the ARN cannot be told is refused, not guessed.

use super::json::Node;
use super::{ParseError, Resource};
use crate::arn::{Arn, Partition};
use crate::eks::{self, EntryName};
use crate::ids::{AccountId, Region, excerpt};

/// How an account itself is called as a resource.
pub(super) const ACCOUNT: &str = "AWS::::Account";

/// Which of region and account an ARN of this type has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Both.
    Regional,
    /// The account only: IAM, CloudFront.
    Global,
    /// Neither: S3 buckets.
    Bare,
    /// The Region only: API Gateway.
    RegionOnly,
}

/// How the id of a resource stands in its ARN, after the prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    /// One word: no slash, no colon. Reporters give it bare.
    Word,
    /// May hold slashes or colons. Reporters give it bare.
    Path,
    /// Holds what AWS made up (a suffix, a UUID): only the whole ARN tells it.
    InArnOnly,
}

/// A resource type.
struct Kind {
    /// As CloudFormation and Config name it.
    name: &'static str,
    /// As ASFF names it; empty when it does not.
    asff: &'static str,
    service: &'static str,
    place: Place,
    prefix: &'static str,
    id: Id,
}

const fn kind(
    name: &'static str,
    asff: &'static str,
    service: &'static str,
    place: Place,
    prefix: &'static str,
    id: Id,
) -> Kind {
    Kind { name, asff, service, place, prefix, id }
}

/// Where prefixes of one service overlap, the longer one comes first.
#[rustfmt::skip]
const KINDS: &[Kind] = {
    use Id::{InArnOnly, Path, Word};
    use Place::{Bare, Global, RegionOnly, Regional};
    &[
        kind("AWS::ACM::Certificate", "AwsCertificateManagerCertificate", "acm", Regional, "certificate/", Word),
        kind("AWS::ApiGateway::Stage", "AwsApiGatewayStage", "apigateway", RegionOnly, "/restapis/", InArnOnly),
        kind("AWS::ApiGatewayV2::Stage", "AwsApiGatewayV2Stage", "apigateway", RegionOnly, "/apis/", InArnOnly),
        kind("AWS::Athena::WorkGroup", "AwsAthenaWorkGroup", "athena", Regional, "workgroup/", Word),
        kind("AWS::AutoScaling::AutoScalingGroup", "AwsAutoScalingAutoScalingGroup", "autoscaling", Regional, "autoScalingGroup:", InArnOnly),
        kind("AWS::AutoScaling::LaunchConfiguration", "AwsAutoScalingLaunchConfiguration", "autoscaling", Regional, "launchConfiguration:", InArnOnly),
        kind("AWS::CloudFormation::Stack", "AwsCloudFormationStack", "cloudformation", Regional, "stack/", InArnOnly),
        kind("AWS::CloudFront::Distribution", "AwsCloudFrontDistribution", "cloudfront", Global, "distribution/", Word),
        kind("AWS::CloudTrail::Trail", "AwsCloudTrailTrail", "cloudtrail", Regional, "trail/", Word),
        kind("AWS::CloudWatch::Alarm", "AwsCloudWatchAlarm", "cloudwatch", Regional, "alarm:", Path),
        kind("AWS::CodeBuild::Project", "AwsCodeBuildProject", "codebuild", Regional, "project/", Word),
        kind("AWS::DynamoDB::Table", "AwsDynamoDbTable", "dynamodb", Regional, "table/", Word),
        kind("AWS::EC2::EIP", "AwsEc2Eip", "ec2", Regional, "elastic-ip/", Word),
        kind("AWS::EC2::Instance", "AwsEc2Instance", "ec2", Regional, "instance/", Word),
        kind("AWS::EC2::LaunchTemplate", "AwsEc2LaunchTemplate", "ec2", Regional, "launch-template/", Word),
        kind("AWS::EC2::NetworkAcl", "AwsEc2NetworkAcl", "ec2", Regional, "network-acl/", Word),
        kind("AWS::EC2::NetworkInterface", "AwsEc2NetworkInterface", "ec2", Regional, "network-interface/", Word),
        kind("AWS::EC2::SecurityGroup", "AwsEc2SecurityGroup", "ec2", Regional, "security-group/", Word),
        kind("AWS::EC2::Snapshot", "AwsEc2Snapshot", "ec2", Regional, "snapshot/", Word),
        kind("AWS::EC2::Subnet", "AwsEc2Subnet", "ec2", Regional, "subnet/", Word),
        kind("AWS::EC2::TransitGateway", "AwsEc2TransitGateway", "ec2", Regional, "transit-gateway/", Word),
        kind("AWS::EC2::VPC", "AwsEc2Vpc", "ec2", Regional, "vpc/", Word),
        kind("AWS::EC2::Volume", "AwsEc2Volume", "ec2", Regional, "volume/", Word),
        kind("AWS::ECR::Repository", "AwsEcrRepository", "ecr", Regional, "repository/", Path),
        kind("AWS::ECS::Cluster", "AwsEcsCluster", "ecs", Regional, "cluster/", Word),
        kind("AWS::ECS::TaskDefinition", "AwsEcsTaskDefinition", "ecs", Regional, "task-definition/", InArnOnly),
        kind(eks::ACCESS_ENTRY, "", "eks", Regional, eks::ENTRY_PREFIX, InArnOnly),
        kind("AWS::EKS::Cluster", "AwsEksCluster", "eks", Regional, "cluster/", Word),
        kind("AWS::ElastiCache::CacheCluster", "AwsElastiCacheCacheCluster", "elasticache", Regional, "cluster:", Word),
        kind("AWS::ElastiCache::ReplicationGroup", "AwsElastiCacheReplicationGroup", "elasticache", Regional, "replicationgroup:", Word),
        kind("AWS::ElasticLoadBalancingV2::LoadBalancer", "AwsElbv2LoadBalancer", "elasticloadbalancing", Regional, "loadbalancer/app/", InArnOnly),
        kind("AWS::ElasticLoadBalancingV2::LoadBalancer", "AwsElbv2LoadBalancer", "elasticloadbalancing", Regional, "loadbalancer/net/", InArnOnly),
        kind("AWS::ElasticLoadBalancingV2::LoadBalancer", "AwsElbv2LoadBalancer", "elasticloadbalancing", Regional, "loadbalancer/gwy/", InArnOnly),
        kind("AWS::ElasticLoadBalancing::LoadBalancer", "AwsElbLoadBalancer", "elasticloadbalancing", Regional, "loadbalancer/", Word),
        kind("AWS::GuardDuty::Detector", "AwsGuardDutyDetector", "guardduty", Regional, "detector/", Word),
        // Its ARN is longer than its detector's, which is one word.
        kind("AWS::GuardDuty::Filter", "AwsGuardDutyFilter", "guardduty", Regional, "detector/", InArnOnly),
        kind("AWS::IAM::Group", "AwsIamGroup", "iam", Global, "group/", Path),
        kind("AWS::IAM::Policy", "AwsIamPolicy", "iam", Global, "policy/", Path),
        kind("AWS::IAM::Role", "AwsIamRole", "iam", Global, "role/", Path),
        kind("AWS::IAM::ServerCertificate", "", "iam", Global, "server-certificate/", Path),
        kind("AWS::IAM::User", "AwsIamUser", "iam", Global, "user/", Path),
        kind("AWS::KMS::Key", "AwsKmsKey", "kms", Regional, "key/", Word),
        kind("AWS::Kinesis::Stream", "AwsKinesisStream", "kinesis", Regional, "stream/", Word),
        kind("AWS::Lambda::Function", "AwsLambdaFunction", "lambda", Regional, "function:", Word),
        kind("AWS::Logs::LogGroup", "AwsLogsLogGroup", "logs", Regional, "log-group:", Path),
        kind("AWS::RDS::DBClusterSnapshot", "AwsRdsDbClusterSnapshot", "rds", Regional, "cluster-snapshot:", Path),
        kind("AWS::RDS::DBCluster", "AwsRdsDbCluster", "rds", Regional, "cluster:", Word),
        kind("AWS::RDS::DBSnapshot", "AwsRdsDbSnapshot", "rds", Regional, "snapshot:", Path),
        kind("AWS::RDS::DBInstance", "AwsRdsDbInstance", "rds", Regional, "db:", Word),
        kind("AWS::Redshift::Cluster", "AwsRedshiftCluster", "redshift", Regional, "cluster:", Word),
        kind("AWS::S3::Bucket", "AwsS3Bucket", "s3", Bare, "", Word),
        kind("AWS::SNS::Topic", "AwsSnsTopic", "sns", Regional, "", Word),
        kind("AWS::SQS::Queue", "AwsSqsQueue", "sqs", Regional, "", Word),
        kind("AWS::SSM::Document", "AwsSsmDocument", "ssm", Regional, "document/", Path),
        // CloudFormation has no name for it: a session, not something that is made.
        kind("AWS::STS::FederatedUser", "", "sts", Global, "federated-user/", Word),
        kind(eks::POD, "", "eks", Regional, eks::POD_PREFIX, InArnOnly),
        kind("AWS::SecretsManager::Secret", "AwsSecretsManagerSecret", "secretsmanager", Regional, "secret:", InArnOnly),
        kind("AWS::StepFunctions::StateMachine", "AwsStepFunctionStateMachine", "states", Regional, "stateMachine:", Word),
    ]
};

/// CloudFormation's name of a type that ASFF or OCSF names; a type that the table lacks keeps its name.
fn cloudformation_name(given: &str) -> &str {
    match given {
        "AwsAccount" | "AWS::Account" => ACCOUNT,
        _ => KINDS.iter().find(|kind| kind.asff == given).map_or(given, |kind| kind.name),
    }
}

/// The table's row for an ARN.
fn kind_of(arn: &Arn) -> Option<&'static Kind> {
    let place = match (arn.region(), arn.account()) {
        (Some(_), Some(_)) => Place::Regional,
        (None, Some(_)) => Place::Global,
        (None, None) => Place::Bare,
        (Some(_), None) => Place::RegionOnly,
    };
    KINDS.iter().find(|kind| {
        let fits = |id: &str| !id.is_empty() && (kind.id != Id::Word || !id.contains(['/', ':']));
        kind.service == arn.service()
            && kind.place == place
            && arn.resource().strip_prefix(kind.prefix).is_some_and(fits)
    })
}

impl Resource {
    /// The resource with this ARN; `None` when the ARN does not tell its type.
    pub(super) fn of_arn(arn: Arn) -> Option<Self> {
        let is_root = arn.service() == "iam" && arn.resource() == "root";
        let kind = if is_root { ACCOUNT } else { kind_of(&arn)?.name };
        Some(Self::new(arn, kind))
    }

    /// The resource with this ARN, of the type that its reporter says.
    pub(super) fn new(arn: Arn, kind: &str) -> Self {
        // One entry has one ARN here, so that it has one claim.
        let arn = EntryName::canonical(&arn).unwrap_or(arn);
        let name = match kind_of(&arn) {
            _ if kind == ACCOUNT => arn.account().map_or("", AccountId::as_str),
            // A path is where an IAM entity lies; no call takes it as part of the name.
            Some(row) if row.service != "iam" => &arn.resource()[row.prefix.len()..],
            _ => arn.resource().rsplit(['/', ':']).next().unwrap_or_default(),
        };
        Self { kind: cloudformation_name(kind).to_owned(), name: name.to_owned(), arn }
    }

    /// An account as a resource.
    pub(super) fn account(account: &AccountId, region: &Region) -> Self {
        Self::new(Arn::account_root(Partition::of_region(region), account), ACCOUNT)
    }

    /// The resource of a type and an id, as its reporter gives them: an ARN, or what the type's ids look like.
    pub(super) fn of_id(kind: &str, id: &Node<'_>, account: &AccountId, region: &Region) -> Result<Self, ParseError> {
        let (kind, field, id) = (cloudformation_name(kind), id, id.text()?);
        let refuse = |reason| Err(ParseError::UnsupportedResource { kind: excerpt(kind), id: excerpt(id), reason });
        if kind == ACCOUNT {
            return Self::of_account_id(id, account, region);
        }
        if id.starts_with("arn:") {
            return Ok(Self::new(field.arn()?, kind));
        }
        let Some(row) = KINDS.iter().find(|row| row.name == kind) else {
            return refuse("the type is not known");
        };
        let id = if kind == "AWS::SQS::Queue" { queue_name(id, account)? } else { id };
        if row.id == Id::InArnOnly {
            return refuse("only an arn names a resource of this type");
        }
        if is_internal_id(row, id) {
            return refuse("it is an internal id, from which the arn cannot be told");
        }
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || "-_.+=,@#".contains(c) || (row.id == Id::Path && "/:".contains(c));
        if !id.chars().all(allowed) {
            return refuse("no id of this type looks like that");
        }
        let partition = Partition::of_region(region);
        let (service, prefix) = (row.service, row.prefix);
        let text = match row.place {
            Place::Regional => format!("arn:{partition}:{service}:{region}:{account}:{prefix}{id}"),
            Place::Global => format!("arn:{partition}:{service}::{account}:{prefix}{id}"),
            Place::Bare => format!("arn:{partition}:{service}:::{prefix}{id}"),
            Place::RegionOnly => format!("arn:{partition}:{service}:{region}::{prefix}{id}"),
        };
        let arn = text.parse().map_err(|source| ParseError::Arn { path: field.path().to_owned(), source })?;
        Ok(Self::new(arn, kind))
    }

    /// The principal behind an access key, as GuardDuty describes it: `kind` is CloudTrail's `userIdentity.type`.
    ///
    /// A user's key is long-term (`AKIA…`) or of one of its sessions (`ASIA…`): both are the user's. A role has sessions
    /// only. A federated session is a resource of its own, since nobody tells whose it is. Where the caller is the root
    /// user, another account or a service, what is concerned is the account.
    pub(super) fn of_principal<'a>(
        kind: &str,
        name: impl FnOnce() -> Result<Node<'a>, ParseError>,
        account: &AccountId,
        region: &Region,
    ) -> Result<Self, ParseError> {
        match kind {
            "IAMUser" => Self::of_id("AWS::IAM::User", &name()?, account, region),
            "AssumedRole" | "Role" => Self::of_id("AWS::IAM::Role", &name()?, account, region),
            "FederatedUser" => Self::of_id("AWS::STS::FederatedUser", &name()?, account, region),
            "Root" | "AWSAccount" | "AWSService" => Ok(Self::account(account, region)),
            _ => Err(ParseError::UnsupportedResource {
                kind: "AWS::IAM::AccessKey".to_owned(),
                id: excerpt(kind),
                reason: "its principal is no user, role, federated session, account or service",
            }),
        }
    }

    /// An account is called by its number, by its number after its type, or by its root's ARN.
    fn of_account_id(id: &str, account: &AccountId, region: &Region) -> Result<Self, ParseError> {
        let number = match id.parse::<Arn>() {
            Ok(arn) => arn.account().map(ToString::to_string).unwrap_or_default(),
            Err(_) => id.rsplit(':').next().unwrap_or_default().to_owned(),
        };
        let named: AccountId = number.parse().map_err(|_| ParseError::UnsupportedResource {
            kind: ACCOUNT.to_owned(),
            id: excerpt(id),
            reason: "no id of this type looks like that",
        })?;
        same_account("the resource's id", &named, account)?;
        Ok(Self::account(account, region))
    }

    /// Account binding: the ARN's account, Region and partition are the finding's, where the ARN has them.
    pub(super) fn bind(&self, account: &AccountId, region: &Region) -> Result<(), ParseError> {
        if let Some(named) = self.arn.account() {
            same_account("the resource's arn", named, account)?;
        }
        if let Some(named) = self.arn.region().filter(|named| *named != region) {
            return Err(ParseError::RegionMismatch { found: named.clone(), expected: region.clone() });
        }
        let (found, expected) = (self.arn.partition(), Partition::of_region(region));
        if found != expected {
            return Err(ParseError::PartitionMismatch { found, expected });
        }
        Ok(())
    }
}

/// Refuse when two places of one event name two accounts.
pub(super) fn same_account(place: &'static str, found: &AccountId, expected: &AccountId) -> Result<(), ParseError> {
    if found == expected {
        return Ok(());
    }
    Err(ParseError::AccountMismatch { place, found: found.clone(), expected: expected.clone() })
}

/// Whether Config gave its own kind of id, which is in no ARN: IAM's unique ids and RDS's resource ids.
fn is_internal_id(row: &Kind, id: &str) -> bool {
    let upper = |text: &str| text.len() >= 16 && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    match row.service {
        "iam" => ["AIDA", "AROA", "ANPA", "AGPA", "ASCA"].iter().any(|start| id.starts_with(start)) && upper(id),
        "rds" => ["db-", "cluster-"].iter().any(|start| id.strip_prefix(start).is_some_and(upper)),
        _ => false,
    }
}

/// A queue's name from its URL, which is the id that Config and OCSF give; the URL's account must be the finding's.
fn queue_name<'a>(id: &'a str, account: &AccountId) -> Result<&'a str, ParseError> {
    let Some(url) = id.strip_prefix("https://") else { return Ok(id) };
    let mut parts = url.rsplit('/');
    let name = parts.next().unwrap_or_default();
    match parts.next().map(str::parse::<AccountId>) {
        Some(Ok(owner)) => same_account("the queue's url", &owner, account).map(|()| name),
        _ => Err(ParseError::UnsupportedResource {
            kind: "AWS::SQS::Queue".to_owned(),
            id: excerpt(id),
            reason: "its url names no account",
        }),
    }
}
