//! The bucket of the evidence, in a member account.

use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, Site, absent};
use super::statement::{condition, principals, speaks_of, statements};

static MISSING: Fault = Fault {
    code: "bucket-missing",
    severity: Severity::Error,
    about: "the bucket of the evidence is not there",
    why: "no pre-image can be stored, so nothing is changed",
    todo: "update stack redress-member of {account} in {home} with its own template (docs/deploy.md)",
};

static UNVERSIONED: Fault = Fault {
    code: "bucket-unversioned",
    severity: Severity::Error,
    about: "the bucket keeps no versions",
    why: "what overwrites or deletes evidence leaves no trace of it",
    todo: "in {account}: `aws s3api put-bucket-versioning --bucket {thing} --versioning-configuration Status=Enabled --region {home}`",
};

static PUBLIC: Fault = Fault {
    code: "bucket-public-access",
    severity: Severity::Error,
    about: "public access to the bucket is not blocked",
    why: "a policy or ACL that somebody writes may open it to everybody",
    todo: "in {account}: `aws s3api put-public-access-block --bucket {thing} --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true --region {home}`",
};

static NO_TLS: Fault = Fault {
    code: "bucket-without-tls",
    severity: Severity::Error,
    about: "the bucket's policy does not refuse what comes without TLS",
    why: "evidence may be read off the network; the other statements of the policy, which guard who writes, are likely gone too",
    todo: "write the policy again from member-stack.yaml: update stack redress-member of {account} in {home}",
};

static UNENCRYPTED: Fault = Fault {
    code: "bucket-encryption",
    severity: Severity::Warning,
    about: "the bucket's default encryption is not by a KMS key",
    why: "an object put without naming a key is not under the account's key",
    todo: "write the encryption again from member-stack.yaml: update stack redress-member of {account} in {home}",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Bucket,
    at: Where::Members,
    about: "the bucket of the evidence: there, versioned, encrypted, closed to the public and to whoever comes without TLS",
    faults: &[&MISSING, &UNVERSIONED, &PUBLIC, &NO_TLS, &UNENCRYPTED],
    rights: &[
        "s3:GetBucketVersioning",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketPolicy",
        "s3:GetEncryptionConfiguration",
    ],
};

/// A bucket, as S3 tells it.
#[derive(Debug, Clone)]
struct Facts {
    versioned: bool,
    blocked: bool,
    encrypted: bool,
    policy: Value,
}

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let place = &site.place;
    let (s3, bucket) = (s3_client(site.config(), &place.region), names::evidence_bucket(&place.account, &place.home));
    let versioning = s3.get_bucket_versioning().bucket(&bucket).expected_bucket_owner(place.account.as_str());
    let versioning = match versioning.send().await {
        Ok(answer) => answer.status.is_some_and(|status| status.as_str() == "Enabled"),
        Err(error) => {
            absent::<()>(AwsFailure::of("GetBucketVersioning", &error))?;
            return Ok(judge(place, &bucket, None));
        }
    };
    let block = s3.get_public_access_block().bucket(&bucket).expected_bucket_owner(place.account.as_str());
    let block = match block.send().await {
        Ok(answer) => answer.public_access_block_configuration,
        Err(error) => absent(AwsFailure::of("GetPublicAccessBlock", &error))?,
    };
    let policy = s3.get_bucket_policy().bucket(&bucket).expected_bucket_owner(place.account.as_str());
    let policy = match policy.send().await {
        Ok(answer) => answer.policy,
        Err(error) => absent(AwsFailure::of("GetBucketPolicy", &error))?,
    };
    let encryption = s3.get_bucket_encryption().bucket(&bucket).expected_bucket_owner(place.account.as_str());
    let encryption = match encryption.send().await {
        Ok(answer) => answer.server_side_encryption_configuration,
        Err(error) => absent(AwsFailure::of("GetBucketEncryption", &error))?,
    };
    let by_kms = encryption.iter().flat_map(|all| all.rules.iter()).any(|rule| {
        rule.apply_server_side_encryption_by_default
            .as_ref()
            .is_some_and(|default| default.sse_algorithm.as_str().starts_with("aws:kms"))
    });
    let facts = Facts {
        versioned: versioning,
        blocked: block.is_some_and(|block| {
            [
                block.block_public_acls,
                block.ignore_public_acls,
                block.block_public_policy,
                block.restrict_public_buckets,
            ]
            .into_iter()
            .all(|set| set == Some(true))
        }),
        encrypted: by_kms,
        policy: policy.map_or(Value::Null, |text| json!(text)),
    };
    Ok(judge(place, &bucket, Some(&facts)))
}

fn judge(place: &Place, bucket: &str, facts: Option<&Facts>) -> Vec<Finding> {
    let Some(facts) = facts else {
        return vec![place.finding(&MISSING, bucket, format!("there is no bucket {bucket}"))];
    };
    let refuses_plain = statements(&facts.policy).iter().any(|statement| {
        statement["Effect"] == "Deny"
            && principals(statement).contains(&"*")
            && speaks_of(statement, "s3:GetObject")
            && speaks_of(statement, "s3:PutObject")
            && condition(statement, "Bool", "aws:SecureTransport").is_some_and(|values| values == ["false"])
    });
    let verdicts = [
        (facts.versioned, &UNVERSIONED, "keeps no versions"),
        (facts.blocked, &PUBLIC, "does not block public access in all four ways"),
        (refuses_plain, &NO_TLS, "does not refuse what comes without TLS"),
        (facts.encrypted, &UNENCRYPTED, "is not encrypted by a KMS key unless a put says so"),
    ];
    let wrong = verdicts.into_iter().filter(|(holds, ..)| !holds);
    wrong.map(|(_, fault, says)| place.finding(fault, bucket, format!("bucket {bucket} {says}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{codes, member};
    use super::*;

    fn good() -> Facts {
        let tls = json!({
            "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*",
            "Condition": { "Bool": { "aws:SecureTransport": "false" } },
        });
        Facts {
            versioned: true,
            blocked: true,
            encrypted: true,
            policy: json!(json!({ "Statement": [tls] }).to_string()),
        }
    }

    #[test]
    fn each_guard_of_the_bucket_is_missed_by_its_name() {
        let told = |facts: Facts| codes(&judge(&member(), "b", Some(&facts)));
        assert!(told(good()).is_empty());
        assert_eq!(told(Facts { versioned: false, ..good() }), ["bucket-unversioned"]);
        assert_eq!(told(Facts { blocked: false, ..good() }), ["bucket-public-access"]);
        assert_eq!(told(Facts { encrypted: false, ..good() }), ["bucket-encryption"]);
        assert_eq!(told(Facts { policy: Value::Null, ..good() }), ["bucket-without-tls"]);
        assert_eq!(codes(&judge(&member(), "b", None)), ["bucket-missing"]);
    }
}
