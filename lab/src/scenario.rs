//! What can be broken in a member account: one table. Each scenario makes a resource (or an account-wide setting)
//! bad amid neighbouring configuration that no fix may touch, and lets the account's Config notice.
//!
//! Works as the account's administrator, through AWS's API alone: nothing here knows what Redress will do.

use std::sync::Arc;

use redress_common::arn::{Arn, ArnError, Partition};
use redress_common::ids::{AccountId, ControlId, InvalidId, Region};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::deploy::{PRODUCTION, config_rule_name};
use crate::service::{Aws, AwsError, Credentials};

/// Something to break.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// The control that will fail.
    pub control: &'static str,
    /// What is done, for people.
    pub title: &'static str,
    managed_rule: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    PublicBucket,
    EbsEncryption,
    PasswordPolicy,
    KeyRotation,
    OpenSsh,
    MissingTags,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "public-bucket",
        control: "S3.8",
        title: "a bucket loses its public access block",
        managed_rule: "S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED",
        kind: Kind::PublicBucket,
    },
    Scenario {
        name: "ebs-encryption-off",
        control: "EC2.7",
        title: "default encryption of EBS volumes is turned off",
        managed_rule: "EC2_EBS_ENCRYPTION_BY_DEFAULT",
        kind: Kind::EbsEncryption,
    },
    Scenario {
        name: "weak-password-policy",
        control: "IAM.7",
        title: "the password policy asks for six characters and no symbols",
        managed_rule: "IAM_PASSWORD_POLICY",
        kind: Kind::PasswordPolicy,
    },
    Scenario {
        name: "key-rotation-off",
        control: "KMS.4",
        title: "a KMS key is made without rotation",
        managed_rule: "CMK_BACKING_KEY_ROTATION_ENABLED",
        kind: Kind::KeyRotation,
    },
    Scenario {
        name: "open-ssh",
        control: "EC2.13",
        title: "a security group opens port 22 to the internet",
        managed_rule: "INCOMING_SSH_DISABLED",
        kind: Kind::OpenSsh,
    },
    Scenario {
        name: "missing-tags",
        control: "Tag.Required",
        title: "a production bucket lacks its owner and cost centre",
        managed_rule: "REQUIRED_TAGS",
        kind: Kind::MissingTags,
    },
];

/// A broken resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Broken {
    /// The scenario.
    pub scenario: String,
    /// The control that fails.
    pub control: ControlId,
    /// The account.
    pub account: AccountId,
    /// The Region.
    pub region: Region,
    /// The resource; an account's root stands for the account.
    pub resource_arn: Arn,
}

/// A scenario could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// There is no such scenario.
    #[error("there is no scenario `{given}`; choose one of {known}")]
    Unknown {
        /// What was asked for.
        given: String,
        /// What there is.
        known: String,
    },
    /// An AWS call failed.
    #[error("{operation} in account {account}: {source}; is the organisation deployed (`redress lab up`)?")]
    Call {
        /// `service:Operation`.
        operation: String,
        /// Where.
        account: AccountId,
        /// AWS's answer.
        source: AwsError,
    },
    /// AWS's answer lacks what it always has.
    #[error("the answer to {0} holds no {1}")]
    Answer(&'static str, &'static str),
    /// The new resource's ARN is none.
    #[error(transparent)]
    Arn(#[from] ArnError),
    /// The scenario's control is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// Every scenario.
#[must_use]
pub const fn list() -> &'static [Scenario] {
    SCENARIOS
}

fn find(name: &str) -> Result<&'static Scenario, ScenarioError> {
    SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or_else(|| ScenarioError::Unknown {
        given: name.to_owned(),
        known: SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", "),
    })
}

/// Breaks something in an account and lets its Config evaluate the rule.
///
/// # Errors
/// When there is no such scenario or a call fails.
pub async fn run(name: &str, aws: Arc<dyn Aws>, account: &AccountId, region: &Region) -> Result<Broken, ScenarioError> {
    let broken = break_only(name, aws.clone(), account, region).await?;
    notice(aws, &broken).await?;
    Ok(broken)
}

/// Breaks something and tells nobody.
///
/// # Errors
/// When there is no such scenario or a call fails.
pub async fn break_only(
    name: &str,
    aws: Arc<dyn Aws>,
    account: &AccountId,
    region: &Region,
) -> Result<Broken, ScenarioError> {
    let scenario = find(name)?;
    let owner = Owner { aws, account: account.clone(), region: region.clone() };
    let resource_arn = owner.break_it(scenario.kind).await?.parse()?;
    Ok(Broken {
        scenario: scenario.name.to_owned(),
        control: scenario.control.parse()?,
        account: account.clone(),
        region: region.clone(),
        resource_arn,
    })
}

/// Lets the account's Config evaluate the rule of what was broken.
///
/// # Errors
/// When a call fails.
pub async fn notice(aws: Arc<dyn Aws>, broken: &Broken) -> Result<(), ScenarioError> {
    let scenario = find(&broken.scenario)?;
    let owner = Owner { aws, account: broken.account.clone(), region: broken.region.clone() };
    let names: Vec<&str> = config_rule_name(scenario.managed_rule).into_iter().collect();
    owner.call("config", "StartConfigRulesEvaluation", json!({ "ConfigRuleNames": names })).await.map(|_| ())
}

/// The broken resource as it is now, with its neighbouring configuration: equal values are equal states, in
/// whatever order AWS lists things. A setting that is not there is `null`.
///
/// # Errors
/// When a call fails.
pub async fn read_state(aws: Arc<dyn Aws>, broken: &Broken) -> Result<Value, ScenarioError> {
    let scenario = find(&broken.scenario)?;
    let owner = Owner { aws, account: broken.account.clone(), region: broken.region.clone() };
    let mut state = owner.read(scenario.kind, &broken.resource_arn).await?;
    sort_lists(&mut state);
    Ok(state)
}

/// An account's administrator.
struct Owner {
    aws: Arc<dyn Aws>,
    account: AccountId,
    region: Region,
}

impl Owner {
    async fn call(
        &self,
        service: &'static str,
        operation: &'static str,
        parameters: Value,
    ) -> Result<Value, ScenarioError> {
        let credentials = Credentials::root(self.account.as_str());
        let answer = self.aws.call(&credentials, self.region.as_str(), service, operation, parameters).await;
        answer.map_err(|source| ScenarioError::Call {
            operation: format!("{service}:{operation}"),
            account: self.account.clone(),
            source,
        })
    }

    /// A part of an answer; `null` when AWS says `absent`.
    async fn setting(
        &self,
        service: &'static str,
        operation: &'static str,
        parameters: Value,
        absent: &str,
        part: &str,
    ) -> Result<Value, ScenarioError> {
        match self.call(service, operation, parameters).await {
            Ok(answer) => Ok(answer[part].clone()),
            Err(ScenarioError::Call { source, .. }) if source.code == absent => Ok(Value::Null),
            Err(error) => Err(error),
        }
    }

    fn partition(&self) -> Partition {
        Partition::of_region(&self.region)
    }

    /// The ARN of what was broken.
    async fn break_it(&self, kind: Kind) -> Result<String, ScenarioError> {
        let suffix = &uuid::Uuid::new_v4().simple().to_string()[..8];
        match kind {
            Kind::PublicBucket => {
                let name = self
                    .bucket(
                        &format!("reports-{suffix}"),
                        json!([tag("Team", "reporting"), tag("Purpose", "monthly figures")]),
                    )
                    .await?;
                self.call("s3", "DeletePublicAccessBlock", json!({ "Bucket": name })).await?;
                Ok(format!("arn:{}:s3:::{name}", self.partition()))
            }
            Kind::MissingTags => {
                let (key, value) = PRODUCTION;
                let name =
                    self.bucket(&format!("orders-{suffix}"), json!([tag(key, value), tag("Team", "orders")])).await?;
                Ok(format!("arn:{}:s3:::{name}", self.partition()))
            }
            Kind::EbsEncryption => {
                self.call("ec2", "DisableEbsEncryptionByDefault", json!({})).await?;
                Ok(Arn::account_root(self.partition(), &self.account).to_string())
            }
            Kind::PasswordPolicy => {
                // Stricter than asked for in what the fix must leave alone: age and reuse.
                let weak = json!({
                    "MinimumPasswordLength": 6, "RequireSymbols": false, "RequireNumbers": true, "RequireUppercaseCharacters": false,
                    "RequireLowercaseCharacters": true, "AllowUsersToChangePassword": true, "MaxPasswordAge": 60, "PasswordReusePrevention": 24,
                });
                self.call("iam", "UpdateAccountPasswordPolicy", weak).await?;
                Ok(Arn::account_root(self.partition(), &self.account).to_string())
            }
            Kind::KeyRotation => {
                let tags = json!([{ "TagKey": "Team", "TagValue": "ledger" }]);
                let key =
                    self.call("kms", "CreateKey", json!({ "Description": "ledger encryption", "Tags": tags })).await?;
                let arn = key["KeyMetadata"]["Arn"]
                    .as_str()
                    .ok_or(ScenarioError::Answer("kms:CreateKey", "KeyMetadata.Arn"))?;
                let alias = json!({ "AliasName": format!("alias/ledger-{suffix}"), "TargetKeyId": key["KeyMetadata"]["KeyId"] });
                self.call("kms", "CreateAlias", alias).await?;
                Ok(arn.to_owned())
            }
            Kind::OpenSsh => self.open_group(&format!("bastion-{suffix}")).await,
        }
    }

    /// A versioned bucket with tags, in good order.
    async fn bucket(&self, name: &str, tags: Value) -> Result<String, ScenarioError> {
        let mut creation = json!({ "Bucket": name });
        if self.region.as_str() != "us-east-1" {
            creation["CreateBucketConfiguration"] = json!({ "LocationConstraint": self.region });
        }
        self.call("s3", "CreateBucket", creation).await?;
        self.call(
            "s3",
            "PutBucketVersioning",
            json!({ "Bucket": name, "VersioningConfiguration": { "Status": "Enabled" } }),
        )
        .await?;
        self.call("s3", "PutBucketTagging", json!({ "Bucket": name, "Tagging": { "TagSet": tags } })).await?;
        Ok(name.to_owned())
    }

    async fn open_group(&self, name: &str) -> Result<String, ScenarioError> {
        let vpcs = self.call("ec2", "DescribeVpcs", json!({})).await?;
        let vpc =
            vpcs["Vpcs"][0]["VpcId"].as_str().ok_or(ScenarioError::Answer("ec2:DescribeVpcs", "Vpcs[0].VpcId"))?;
        let group = self
            .call("ec2", "CreateSecurityGroup", json!({ "GroupName": name, "Description": "jump host", "VpcId": vpc }))
            .await?;
        let id = group["GroupId"].as_str().ok_or(ScenarioError::Answer("ec2:CreateSecurityGroup", "GroupId"))?;
        let range = |cidr: &str, why: &str| json!({ "CidrIp": cidr, "Description": why });
        let permissions = json!([
            {
                "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
                "IpRanges": [range("0.0.0.0/0", "temporary for the vendor"), range("10.20.0.0/16", "office VPN")],
                "Ipv6Ranges": [{ "CidrIpv6": "::/0", "Description": "temporary for the vendor, v6" }],
            },
            { "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [range("0.0.0.0/0", "status page")] },
            { "IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "IpRanges": [range("10.0.0.0/8", "resolver")] },
        ]);
        self.call("ec2", "AuthorizeSecurityGroupIngress", json!({ "GroupId": id, "IpPermissions": permissions }))
            .await?;
        self.call("ec2", "CreateTags", json!({ "Resources": [id], "Tags": [tag("Team", "operations")] })).await?;
        Ok(format!("arn:{}:ec2:{}:{}:security-group/{id}", self.partition(), self.region, self.account))
    }

    async fn read(&self, kind: Kind, arn: &Arn) -> Result<Value, ScenarioError> {
        let name = arn.resource().rsplit('/').next().unwrap_or_default();
        let bucket = || json!({ "Bucket": name });
        Ok(match kind {
            Kind::PublicBucket | Kind::MissingTags => json!({
                "PublicAccessBlock": self.setting("s3", "GetPublicAccessBlock", bucket(),
                    "NoSuchPublicAccessBlockConfiguration", "PublicAccessBlockConfiguration").await?,
                "Tags": self.setting("s3", "GetBucketTagging", bucket(), "NoSuchTagSet", "TagSet").await?,
                "Versioning": self.call("s3", "GetBucketVersioning", bucket()).await?["Status"],
            }),
            Kind::EbsEncryption => json!({
                "EbsEncryptionByDefault": self.call("ec2", "GetEbsEncryptionByDefault", json!({})).await?["EbsEncryptionByDefault"],
            }),
            Kind::PasswordPolicy => json!({
                "PasswordPolicy": self.setting("iam", "GetAccountPasswordPolicy", json!({}), "NoSuchEntity", "PasswordPolicy").await?,
            }),
            Kind::KeyRotation => json!({
                "KeyRotationEnabled": self.call("kms", "GetKeyRotationStatus", json!({ "KeyId": name })).await?["KeyRotationEnabled"],
                "Tags": self.call("kms", "ListResourceTags", json!({ "KeyId": name })).await?["Tags"],
                "Aliases": self.call("kms", "ListAliases", json!({ "KeyId": name })).await?["Aliases"],
            }),
            Kind::OpenSsh => {
                let described = self.call("ec2", "DescribeSecurityGroups", json!({ "GroupIds": [name] })).await?;
                let group = &described["SecurityGroups"][0];
                json!({ "Ingress": group["IpPermissions"], "Egress": group["IpPermissionsEgress"], "Tags": group["Tags"] })
            }
        })
    }
}

fn tag(key: &str, value: &str) -> Value {
    json!({ "Key": key, "Value": value })
}

/// Lists in AWS's answers have no order of their own.
pub(crate) fn sort_lists(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort_lists);
            items.sort_by_key(ToString::to_string);
        }
        Value::Object(map) => map.values_mut().for_each(sort_lists),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::services::fake::FakeAws;

    #[test]
    fn every_scenario_breaks_a_control_of_the_catalogue_that_a_members_config_watches() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("ssm-documents/catalogue.json");
        let catalogue: redress_common::catalogue::Catalogue =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for scenario in list() {
            let rule = config_rule_name(scenario.managed_rule).unwrap();
            let (control, _) = catalogue.resolve(&redress_common::finding::Check::ConfigRule(rule.to_owned())).unwrap();
            assert_eq!(control.as_str(), scenario.control, "{}", scenario.name);
        }
    }

    #[tokio::test]
    async fn only_the_rule_of_what_was_broken_is_evaluated() {
        let aws = Arc::new(FakeAws::new(|_, _, _| Ok(json!({}))));
        let (account, region) = ("222222222222".parse().unwrap(), "us-east-1".parse().unwrap());
        let broken = run("public-bucket", aws.clone(), &account, &region).await.unwrap();
        assert!(broken.resource_arn.as_str().contains(":s3:::reports-"));
        let (who, what, parameters) = aws.calls().pop().unwrap();
        assert_eq!((who.as_str(), what.as_str()), ("222222222222", "config:StartConfigRulesEvaluation"));
        assert_eq!(
            parameters["ConfigRuleNames"],
            json!([config_rule_name("S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED")])
        );
    }

    #[tokio::test]
    async fn an_unknown_scenario_is_answered_with_the_known_ones() {
        let (account, region) = ("222222222222".parse().unwrap(), "us-east-1".parse().unwrap());
        let error = run("rm-rf", Arc::new(FakeAws::silent()), &account, &region).await.unwrap_err().to_string();
        assert!(error.contains("`rm-rf`") && error.contains("open-ssh"), "{error}");
    }

    #[test]
    fn the_order_of_lists_makes_no_difference_between_states() {
        let mut left = json!([{ "a": [2, 1] }, { "a": [0] }]);
        let mut right = json!([{ "a": [0] }, { "a": [1, 2] }]);
        sort_lists(&mut left);
        sort_lists(&mut right);
        assert_eq!(left, right);
    }
}
