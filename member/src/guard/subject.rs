//! What kind of thing an ARN names, as far as the guard asks differently about it. Pure.

use redress_common::arn::Arn;

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// An S3 bucket, by name.
    Bucket(String),
    /// A security group, by id.
    SecurityGroup(String),
    /// A volume, by id.
    Volume(String),
    /// A snapshot of a volume, by id.
    Snapshot(String),
    /// An image, by id.
    Image(String),
    /// An instance, by id.
    Instance(String),
    /// Anything else of EC2, by id.
    Ec2(String),
    /// A KMS key, by id.
    Key(String),
    /// An IAM role, by name.
    Role(String),
    /// An IAM user, by name.
    User(String),
    /// An IAM policy: IAM takes its ARN.
    Policy,
    /// The account itself.
    Account,
    /// Something that only the tagging service is asked about.
    Other,
}

impl Subject {
    /// From an ARN.
    pub(super) fn of(arn: &Arn) -> Self {
        let (kind, id) = arn.resource().split_once('/').unwrap_or((arn.resource(), ""));
        // A path may stand before the name of an IAM entity.
        let name = || id.rsplit('/').next().unwrap_or_default().to_owned();
        match (arn.service(), kind) {
            ("s3", bucket) if id.is_empty() => Self::Bucket(bucket.to_owned()),
            ("ec2", "security-group") => Self::SecurityGroup(id.to_owned()),
            ("ec2", "volume") => Self::Volume(id.to_owned()),
            ("ec2", "snapshot") => Self::Snapshot(id.to_owned()),
            ("ec2", "image") => Self::Image(id.to_owned()),
            ("ec2", "instance") => Self::Instance(id.to_owned()),
            ("ec2", _) if !id.is_empty() => Self::Ec2(id.to_owned()),
            ("kms", "key") => Self::Key(id.to_owned()),
            ("iam", "role") => Self::Role(name()),
            ("iam", "user") => Self::User(name()),
            ("iam", "policy") => Self::Policy,
            ("iam", "root") => Self::Account,
            _ => Self::Other,
        }
    }

    /// What CloudFormation calls its physical id; nothing for what it does not create.
    pub(super) fn physical_id(&self, arn: &Arn) -> Option<String> {
        let id = match self {
            Self::Bucket(id)
            | Self::SecurityGroup(id)
            | Self::Volume(id)
            | Self::Snapshot(id)
            | Self::Image(id)
            | Self::Instance(id)
            | Self::Ec2(id)
            | Self::Key(id)
            | Self::Role(id)
            | Self::User(id) => id.as_str(),
            Self::Policy => arn.as_str(),
            Self::Other if matches!(arn.service(), "sns" | "elasticloadbalancing" | "states" | "secretsmanager") => {
                arn.as_str()
            }
            Self::Other => arn.resource().rsplit([':', '/']).next().unwrap_or_default(),
            Self::Account => return None,
        };
        (!id.is_empty()).then(|| id.to_owned())
    }

    /// What nobody can find out about it here, and why.
    pub(super) const fn unknowable(&self) -> &'static [&'static str] {
        match self {
            Self::Bucket(_) => &[
                "dependents: readers by IAM policies, access points and CloudFront are not looked up",
                "last use: S3 does not tell",
            ],
            Self::Key(_) => &[
                "dependents: KMS does not tell what is encrypted under the key, nor who may use it by IAM policies",
                "last use: KMS does not tell",
            ],
            Self::Instance(_) | Self::Ec2(_) | Self::Other => {
                &["dependents: not looked up for this type", "last use: not looked up for this type"]
            }
            Self::SecurityGroup(_)
            | Self::Volume(_)
            | Self::Snapshot(_)
            | Self::Image(_)
            | Self::Role(_)
            | Self::User(_)
            | Self::Policy
            | Self::Account => &[],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(arn: &str) -> (Subject, Option<String>) {
        let arn = arn.parse().unwrap();
        let subject = Subject::of(&arn);
        let id = subject.physical_id(&arn);
        (subject, id)
    }

    #[test]
    fn an_arn_of_every_partition_says_what_is_asked() {
        let jo = "jo@example.org".to_owned();
        for (arn, subject) in [
            ("arn:aws:s3:::logs", Subject::Bucket("logs".to_owned())),
            ("arn:aws:s3:::logs/object", Subject::Other),
            ("arn:aws-cn:ec2:cn-north-1:111122223333:security-group/sg-1", Subject::SecurityGroup("sg-1".to_owned())),
            ("arn:aws:ec2:eu-west-1:111122223333:volume/vol-1", Subject::Volume("vol-1".to_owned())),
            ("arn:aws:ec2:eu-west-1:111122223333:instance/i-1", Subject::Instance("i-1".to_owned())),
            ("arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-1", Subject::Ec2("vpc-1".to_owned())),
            ("arn:aws:kms:eu-west-1:111122223333:key/mrk-1", Subject::Key("mrk-1".to_owned())),
            ("arn:aws:kms:eu-west-1:111122223333:alias/a", Subject::Other),
            ("arn:aws-us-gov:iam::111122223333:role/a/b/deployer", Subject::Role("deployer".to_owned())),
            ("arn:aws:iam::111122223333:user/ops/jo@example.org", Subject::User(jo)),
            ("arn:aws:iam::111122223333:policy/ops/all", Subject::Policy),
            ("arn:aws:iam::111122223333:root", Subject::Account),
            ("arn:aws:rds:eu-west-1:111122223333:db:prod", Subject::Other),
        ] {
            assert_eq!(of(arn).0, subject, "{arn}");
        }
    }

    #[test]
    fn cloudformation_is_asked_by_the_id_that_it_knows() {
        for (arn, id) in [
            ("arn:aws:rds:eu-west-1:111122223333:db:prod", "prod"),
            ("arn:aws:dynamodb:eu-west-1:111122223333:table/orders", "orders"),
            ("arn:aws:sns:eu-west-1:111122223333:alerts", "arn:aws:sns:eu-west-1:111122223333:alerts"),
            ("arn:aws:iam::111122223333:policy/ops/all", "arn:aws:iam::111122223333:policy/ops/all"),
            ("arn:aws:iam::111122223333:role/ops/deployer", "deployer"),
        ] {
            assert_eq!(of(arn).1.as_deref(), Some(id), "{arn}");
        }
        assert_eq!(of("arn:aws:iam::111122223333:root").1, None);
    }
}
