//! What kind of thing an ARN names, as far as the guard asks differently about it. Pure.

use redress_common::arn::Arn;

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// An S3 bucket, by name.
    Bucket(String),
    /// A security group, by id.
    SecurityGroup(String),
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
            ("ec2", _) if !id.is_empty() => Self::Ec2(id.to_owned()),
            ("kms", "key") => Self::Key(id.to_owned()),
            ("iam", "role") => Self::Role(name()),
            ("iam", "user") => Self::User(name()),
            ("iam", "policy") => Self::Policy,
            ("iam", "root") => Self::Account,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_of_every_partition_says_what_is_asked() {
        let of = |arn: &str| Subject::of(&arn.parse().unwrap());
        for (arn, subject) in [
            ("arn:aws:s3:::logs", Subject::Bucket("logs".to_owned())),
            ("arn:aws:s3:::logs/object", Subject::Other),
            ("arn:aws-cn:ec2:cn-north-1:111122223333:security-group/sg-1", Subject::SecurityGroup("sg-1".to_owned())),
            ("arn:aws:ec2:eu-west-1:111122223333:volume/vol-1", Subject::Ec2("vol-1".to_owned())),
            ("arn:aws:kms:eu-west-1:111122223333:key/mrk-1", Subject::Key("mrk-1".to_owned())),
            ("arn:aws:kms:eu-west-1:111122223333:alias/a", Subject::Other),
            ("arn:aws-us-gov:iam::111122223333:role/a/b/deployer", Subject::Role("deployer".to_owned())),
            ("arn:aws:iam::111122223333:user/ops/jo@example.org", Subject::User("jo@example.org".to_owned())),
            ("arn:aws:iam::111122223333:policy/ops/all", Subject::Policy),
            ("arn:aws:iam::111122223333:root", Subject::Account),
            ("arn:aws:rds:eu-west-1:111122223333:db:prod", Subject::Other),
        ] {
            assert_eq!(of(arn), subject, "{arn}");
        }
    }
}
