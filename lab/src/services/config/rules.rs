//! The managed rules that the lab's Config evaluates: each reads the resources through AWS's own API, as the
//! account's administrator, and judges them. Nothing is changed here.

use redress_common::arn::Partition;
use serde_json::{Value, json};

use crate::service::{Aws, AwsError, Credentials};

/// Where and with which parameters a rule looks.
pub(super) struct Reader<'a> {
    pub(super) aws: &'a dyn Aws,
    pub(super) account: &'a str,
    pub(super) region: &'a str,
    pub(super) partition: Partition,
    /// `InputParameters`, parsed.
    pub(super) parameters: Value,
    /// `Scope`.
    pub(super) scope: Value,
}

/// A resource and the verdict on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its type and id, as Config calls it.
    pub(super) kind: &'static str,
    pub(super) id: String,
    /// Its type and id, as Security Hub calls it.
    pub(super) asff_type: &'static str,
    pub(super) asff_id: String,
    pub(super) compliant: bool,
    pub(super) annotation: Option<String>,
}

/// The Security Hub control that a managed rule stands behind.
pub(super) struct Control {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) severity: &'static str,
}

const fn control_of(id: &'static str, severity: &'static str, title: &'static str) -> Option<Control> {
    Some(Control { id, title, severity })
}

/// Every managed rule that is evaluated here.
const RULES: &[(&str, Option<Control>)] = &[
    (
        "S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED",
        control_of("S3.8", "HIGH", "S3 general purpose buckets should block public access"),
    ),
    ("EC2_EBS_ENCRYPTION_BY_DEFAULT", control_of("EC2.7", "MEDIUM", "EBS default encryption should be enabled")),
    (
        "IAM_PASSWORD_POLICY",
        control_of("IAM.7", "MEDIUM", "Password policies for IAM users should have strong configurations"),
    ),
    ("CMK_BACKING_KEY_ROTATION_ENABLED", control_of("KMS.4", "MEDIUM", "AWS KMS key rotation should be enabled")),
    (
        "INCOMING_SSH_DISABLED",
        control_of("EC2.13", "HIGH", "Security groups should not allow ingress from 0.0.0.0/0 or ::/0 to port 22"),
    ),
    ("REQUIRED_TAGS", None),
];

pub(super) fn is_known(identifier: &str) -> bool {
    RULES.iter().any(|(known, _)| *known == identifier)
}

pub(super) fn control(identifier: &str) -> Option<&'static Control> {
    RULES.iter().find(|(known, _)| *known == identifier)?.1.as_ref()
}

/// Evaluates a managed rule on every resource that it is for.
pub(super) async fn evaluate(identifier: &str, reader: &Reader<'_>) -> Result<Vec<Found>, AwsError> {
    match identifier {
        "S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED" => reader.public_access().await,
        "EC2_EBS_ENCRYPTION_BY_DEFAULT" => reader.ebs_encryption().await,
        "IAM_PASSWORD_POLICY" => reader.password_policy().await,
        "CMK_BACKING_KEY_ROTATION_ENABLED" => reader.key_rotation().await,
        "INCOMING_SSH_DISABLED" => reader.open_ssh().await,
        "REQUIRED_TAGS" => reader.required_tags().await,
        other => {
            Err(AwsError::new("NoSuchConfigRuleException", format!("the lab's Config has no managed rule {other}")))
        }
    }
}

impl Reader<'_> {
    async fn call(&self, service: &str, operation: &str, parameters: Value) -> Result<Value, AwsError> {
        self.aws.call(&Credentials::root(self.account), self.region, service, operation, parameters).await
    }

    /// A call whose error `absent` means that there is no such setting.
    async fn call_unless(
        &self,
        absent: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Option<Value>, AwsError> {
        match self.call(service, operation, parameters).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.code == absent => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn account_wide(&self, compliant: bool, annotation: Option<String>) -> Found {
        Found {
            kind: "AWS::::Account",
            id: self.account.to_owned(),
            asff_type: "AwsAccount",
            asff_id: format!("AWS::::Account:{}", self.account),
            compliant,
            annotation,
        }
    }

    fn bucket(&self, name: &str, compliant: bool, annotation: Option<String>) -> Found {
        let asff_id = format!("arn:{}:s3:::{name}", self.partition);
        Found { kind: "AWS::S3::Bucket", id: name.to_owned(), asff_type: "AwsS3Bucket", asff_id, compliant, annotation }
    }

    async fn buckets(&self) -> Result<Vec<String>, AwsError> {
        let listed = self.call("s3", "ListBuckets", json!({})).await?;
        Ok(names(&listed["Buckets"], "Name"))
    }

    async fn public_access(&self) -> Result<Vec<Found>, AwsError> {
        let mut found = Vec::new();
        for bucket in self.buckets().await? {
            let block = self
                .call_unless(
                    "NoSuchPublicAccessBlockConfiguration",
                    "s3",
                    "GetPublicAccessBlock",
                    json!({ "Bucket": bucket }),
                )
                .await?
                .unwrap_or_default();
            let settings = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
            let compliant = settings.iter().all(|name| block["PublicAccessBlockConfiguration"][*name] == true);
            found.push(self.bucket(&bucket, compliant, None));
        }
        Ok(found)
    }

    async fn ebs_encryption(&self) -> Result<Vec<Found>, AwsError> {
        let answer = self.call("ec2", "GetEbsEncryptionByDefault", json!({})).await?;
        Ok(vec![self.account_wide(answer["EbsEncryptionByDefault"] == true, None)])
    }

    async fn password_policy(&self) -> Result<Vec<Found>, AwsError> {
        let policy =
            self.call_unless("NoSuchEntity", "iam", "GetAccountPasswordPolicy", json!({})).await?.unwrap_or_default();
        let weak = weak_settings(&policy["PasswordPolicy"], &self.parameters);
        let annotation = (!weak.is_empty()).then(|| format!("not strong enough: {}", weak.join(", ")));
        Ok(vec![self.account_wide(weak.is_empty(), annotation)])
    }

    async fn key_rotation(&self) -> Result<Vec<Found>, AwsError> {
        let listed = self.call("kms", "ListKeys", json!({ "Limit": 1000 })).await?;
        let mut found = Vec::new();
        for id in names(&listed["Keys"], "KeyId") {
            let described = self.call("kms", "DescribeKey", json!({ "KeyId": id })).await?;
            let key = &described["KeyMetadata"];
            let rotatable = key["KeyManager"] == "CUSTOMER"
                && key["KeyState"] == "Enabled"
                && key["KeySpec"] == "SYMMETRIC_DEFAULT"
                && key["Origin"].as_str().is_none_or(|origin| origin == "AWS_KMS");
            if !rotatable {
                continue;
            }
            let status = self.call("kms", "GetKeyRotationStatus", json!({ "KeyId": id })).await?;
            found.push(Found {
                kind: "AWS::KMS::Key",
                asff_type: "AwsKmsKey",
                asff_id: key["Arn"].as_str().unwrap_or_default().to_owned(),
                compliant: status["KeyRotationEnabled"] == true,
                annotation: None,
                id,
            });
        }
        Ok(found)
    }

    async fn open_ssh(&self) -> Result<Vec<Found>, AwsError> {
        let described = self.call("ec2", "DescribeSecurityGroups", json!({})).await?;
        let groups = described["SecurityGroups"].as_array().into_iter().flatten();
        Ok(groups
            .map(|group| {
                let id = group["GroupId"].as_str().unwrap_or_default().to_owned();
                let open = group["IpPermissions"].as_array().into_iter().flatten().any(lets_the_internet_in_by_ssh);
                Found {
                    kind: "AWS::EC2::SecurityGroup",
                    asff_type: "AwsEc2SecurityGroup",
                    asff_id: format!("arn:{}:ec2:{}:{}:security-group/{id}", self.partition, self.region, self.account),
                    compliant: !open,
                    annotation: None,
                    id,
                }
            })
            .collect())
    }

    /// On buckets; when the rule's scope names a tag, on those that have it.
    async fn required_tags(&self) -> Result<Vec<Found>, AwsError> {
        let mut found = Vec::new();
        for bucket in self.buckets().await? {
            let tags = self
                .call_unless("NoSuchTagSet", "s3", "GetBucketTagging", json!({ "Bucket": bucket }))
                .await?
                .unwrap_or_default();
            if !in_scope(&tags["TagSet"], &self.scope) {
                continue;
            }
            let missing = missing_tags(&tags["TagSet"], &self.parameters);
            let annotation = (!missing.is_empty()).then(|| format!("missing tags: {}", missing.join(", ")));
            found.push(self.bucket(&bucket, missing.is_empty(), annotation));
        }
        Ok(found)
    }
}

/// One field of every entry of a list.
fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|entry| entry[field].as_str()).map(str::to_owned).collect()
}

/// The settings of a password policy that are weaker than the parameters ask for. Parameters may be text, as
/// Config passes them.
fn weak_settings(policy: &Value, parameters: &Value) -> Vec<&'static str> {
    let wants = |name: &str| {
        parameters[name] == true || parameters[name].as_str().is_some_and(|text| text.eq_ignore_ascii_case("true"))
    };
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    let mut weak = Vec::new();
    for name in ["RequireUppercaseCharacters", "RequireLowercaseCharacters", "RequireSymbols", "RequireNumbers"] {
        if wants(name) && policy[name] != true {
            weak.push(name);
        }
    }
    // Config's names and IAM's are the same but for this: at least so many, and for the age at most.
    if number(&parameters["MinimumPasswordLength"])
        .is_some_and(|least| number(&policy["MinimumPasswordLength"]).is_none_or(|set| set < least))
    {
        weak.push("MinimumPasswordLength");
    }
    if number(&parameters["PasswordReusePrevention"])
        .is_some_and(|least| number(&policy["PasswordReusePrevention"]).is_none_or(|set| set < least))
    {
        weak.push("PasswordReusePrevention");
    }
    if number(&parameters["MaxPasswordAge"])
        .is_some_and(|most| number(&policy["MaxPasswordAge"]).is_none_or(|set| set > most || set == 0))
    {
        weak.push("MaxPasswordAge");
    }
    weak
}

/// Whether a permission of a security group opens port 22 to everybody.
fn lets_the_internet_in_by_ssh(permission: &Value) -> bool {
    let to_all = names(&permission["IpRanges"], "CidrIp").iter().any(|cidr| cidr == "0.0.0.0/0")
        || names(&permission["Ipv6Ranges"], "CidrIpv6").iter().any(|cidr| cidr == "::/0");
    let port = |name: &str| permission[name].as_i64();
    let covers = match permission["IpProtocol"].as_str() {
        Some("-1") => true,
        Some("tcp" | "6") => match (port("FromPort"), port("ToPort")) {
            (Some(-1) | None, _) => true,
            (Some(from), to) => from <= 22 && to.unwrap_or(from) >= 22,
        },
        _ => false,
    };
    to_all && covers
}

/// Whether tags are those that a rule's scope asks for; a scope without tags covers everything.
fn in_scope(tags: &Value, scope: &Value) -> bool {
    let Some(key) = scope["TagKey"].as_str() else { return true };
    let found = tags.as_array().into_iter().flatten().find(|tag| tag["Key"] == key);
    found.is_some_and(|tag| scope["TagValue"].is_null() || tag["Value"] == scope["TagValue"])
}

/// The keys that `REQUIRED_TAGS` asks for (`tag1Key` to `tag6Key`, each with allowed values in `tagNValue`,
/// separated by commas) and that are missing or have another value.
fn missing_tags(tags: &Value, parameters: &Value) -> Vec<String> {
    (1..=6)
        .filter_map(|number| {
            let key = parameters[format!("tag{number}Key")].as_str()?;
            let allowed = parameters[format!("tag{number}Value")].as_str();
            let found = tags.as_array().into_iter().flatten().find(|tag| tag["Key"] == key);
            let value = found.and_then(|tag| tag["Value"].as_str());
            let fits = value
                .is_some_and(|value| allowed.is_none_or(|allowed| allowed.split(',').any(|one| one.trim() == value)));
            (!fits).then(|| key.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_that_spans_ssh_is_open_and_a_private_source_is_not() {
        let open = |from, to, cidr: &str| {
            lets_the_internet_in_by_ssh(
                &json!({ "IpProtocol": "tcp", "FromPort": from, "ToPort": to, "IpRanges": [{ "CidrIp": cidr }] }),
            )
        };
        assert!(open(22, 22, "0.0.0.0/0"));
        assert!(open(0, 65535, "0.0.0.0/0"));
        assert!(!open(23, 65535, "0.0.0.0/0"));
        assert!(!open(22, 22, "10.0.0.0/8"));
        assert!(lets_the_internet_in_by_ssh(&json!({ "IpProtocol": "-1", "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] })));
        assert!(!lets_the_internet_in_by_ssh(
            &json!({ "IpProtocol": "udp", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] })
        ));
    }

    #[test]
    fn a_password_policy_is_as_weak_as_its_weakest_settings() {
        let parameters = json!({ "RequireSymbols": "true", "MinimumPasswordLength": "14", "MaxPasswordAge": 90 });
        assert_eq!(
            weak_settings(&Value::Null, &parameters),
            ["RequireSymbols", "MinimumPasswordLength", "MaxPasswordAge"]
        );
        let strong = json!({ "RequireSymbols": true, "MinimumPasswordLength": 16, "MaxPasswordAge": 60 });
        assert!(weak_settings(&strong, &parameters).is_empty());
        let never_expires = json!({ "RequireSymbols": true, "MinimumPasswordLength": 16, "MaxPasswordAge": 0 });
        assert_eq!(weak_settings(&never_expires, &parameters), ["MaxPasswordAge"]);
    }

    #[test]
    fn a_required_tag_with_another_value_is_missing_too() {
        let parameters = json!({ "tag1Key": "Owner", "tag2Key": "Stage", "tag2Value": "test, prod" });
        let tags = |stage: &str| json!([{ "Key": "Owner", "Value": "x" }, { "Key": "Stage", "Value": stage }]);
        assert!(missing_tags(&tags("prod"), &parameters).is_empty());
        assert_eq!(missing_tags(&tags("other"), &parameters), ["Stage"]);
        assert_eq!(missing_tags(&Value::Null, &parameters), ["Owner", "Stage"]);
        assert!(in_scope(&tags("prod"), &json!({ "TagKey": "Stage", "TagValue": "prod" })));
        assert!(!in_scope(&tags("test"), &json!({ "TagKey": "Stage", "TagValue": "prod" })));
    }
}
