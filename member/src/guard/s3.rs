//! What is asked of S3. Every call names the owner that the bucket must have: a bucket's name does not say whose it is.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::GuardEvidence;
use serde_json::Value;

use super::{Answer, tagged, unanswered, used_by};

/// The evidence of an answer. That there is no such configuration is an answer too.
fn answered<T, E, R>(
    operation: &'static str,
    nothing: &str,
    answer: Result<T, SdkError<E, R>>,
    evidence: impl FnOnce(T) -> GuardEvidence,
) -> Answer
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
    R: std::fmt::Debug,
{
    match answer {
        Ok(answer) => Ok(evidence(answer)),
        Err(error) if error.code() == Some(nothing) => Ok(GuardEvidence::default()),
        Err(error) => Err(AwsFailure::of(operation, &error)),
    }
}

/// A bucket, of the account that must own it.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) owner: String,
}

impl Bucket {
    /// Its tags.
    pub(super) async fn tags(self) -> Answer {
        let answer = self.client.get_bucket_tagging().bucket(self.name).expected_bucket_owner(self.owner).send().await;
        answered("GetBucketTagging", "NoSuchTagSet", answer, |answer| {
            tagged(answer.tag_set().iter().map(|tag| (tag.key(), tag.value())))
        })
    }

    /// Whether it serves a website.
    pub(super) async fn website(self) -> Answer {
        let answer = self.client.get_bucket_website().bucket(&self.name).expected_bucket_owner(self.owner).send().await;
        answered("GetBucketWebsite", "NoSuchWebsiteConfiguration", answer, |_| used_by("Website", [self.name], true))
    }

    /// Whether its policy lets anybody in, and whether its public access block lets the policy do so. The block is asked for
    /// only then.
    pub(super) async fn public(self) -> Answer {
        let (client, name, owner) = (&self.client, &self.name, &self.owner);
        let answer = client.get_bucket_policy_status().bucket(name).expected_bucket_owner(owner).send().await;
        let public = match answer {
            Ok(answer) => answer.policy_status().and_then(|status| status.is_public()) == Some(true),
            Err(error) if error.code() == Some("NoSuchBucketPolicy") => false,
            Err(error) => return Err(AwsFailure::of("GetBucketPolicyStatus", &error)),
        };
        let used = used_by("Public", public.then(|| "anybody, by the bucket's policy".to_owned()), true);
        if !public {
            return Ok(GuardEvidence { exposure: Some(Vec::new()), ..used });
        }
        let block = client.get_public_access_block().bucket(name).expected_bucket_owner(owner).send().await;
        let blocked = answered("GetPublicAccessBlock", "NoSuchPublicAccessBlockConfiguration", block, |answer| {
            let restricts =
                answer.public_access_block_configuration().and_then(|block| block.restrict_public_buckets());
            let exposure = (restricts == Some(true)).then(Vec::new);
            GuardEvidence { exposure, ..GuardEvidence::default() }
        });
        // That the policy is public is known, whatever is not known of the block.
        Ok(match blocked {
            Ok(block) => {
                let open =
                    || vec!["a policy that lets anybody in, and no public access block of the bucket".to_owned()];
                GuardEvidence { exposure: Some(block.exposure.unwrap_or_else(open)), ..used }
            }
            Err(failure) => {
                let mut used = used;
                used.unanswered.extend(unanswered("exposure", &failure.to_string()).unanswered);
                used
            }
        })
    }

    /// Whom its policy lets in.
    pub(super) async fn policy(self) -> Answer {
        let answer = self.client.get_bucket_policy().bucket(self.name).expected_bucket_owner(self.owner).send().await;
        answered("GetBucketPolicy", "NoSuchBucketPolicy", answer, |answer| {
            used_by("Principal", principals(answer.policy().unwrap_or_default()), true)
        })
    }

    /// Where it is replicated to.
    pub(super) async fn replication(self) -> Answer {
        let answer =
            self.client.get_bucket_replication().bucket(self.name).expected_bucket_owner(self.owner).send().await;
        answered("GetBucketReplication", "ReplicationConfigurationNotFoundError", answer, |answer| {
            let rules = answer.replication_configuration().map(|all| all.rules()).unwrap_or_default();
            let targets: BTreeSet<String> =
                rules.iter().filter_map(|rule| rule.destination()).map(|to| to.bucket().to_owned()).collect();
            used_by("AWS::S3::Bucket", targets, true)
        })
    }
}

/// The principals that the `Allow` statements of a policy name.
fn principals(policy: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(policy).unwrap_or_default();
    let mut found = BTreeSet::new();
    for statement in list(&policy["Statement"]).filter(|statement| statement["Effect"] == "Allow") {
        if statement.get("NotPrincipal").is_some() {
            found.insert("everybody but some".to_owned());
        }
        let principal = &statement["Principal"];
        found.extend(principal.as_str().map(str::to_owned));
        let named = principal.as_object().into_iter().flatten().flat_map(|(_, named)| list(named));
        found.extend(named.filter_map(Value::as_str).map(str::to_owned));
    }
    found
}

/// A policy writes a list of one as the one.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    let one = (!value.is_array() && !value.is_null()).then_some(value);
    value.as_array().into_iter().flatten().chain(one)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_principals_of_a_policy_are_those_that_it_lets_in() {
        let policy = json!({ "Statement": [
            { "Effect": "Allow", "Principal": "*" },
            { "Effect": "Deny", "Principal": { "AWS": "arn:aws:iam::444455556666:root" } },
            { "Effect": "Allow", "Principal": { "AWS": ["arn:aws:iam::111122223333:role/a", "777788889999"], "Service": "logs.amazonaws.com" } },
            { "Effect": "Allow", "NotPrincipal": { "AWS": "1" } },
        ] });
        let found: Vec<String> = principals(&policy.to_string()).into_iter().collect();
        assert_eq!(
            found,
            ["*", "777788889999", "arn:aws:iam::111122223333:role/a", "everybody but some", "logs.amazonaws.com"]
        );
        let single = json!({ "Statement": { "Effect": "Allow", "Principal": { "AWS": "*" } } });
        assert_eq!(principals(&single.to_string()).len(), 1);
        assert!(principals("").is_empty() && principals("[]").is_empty() && principals("{\"Statement\":7}").is_empty());
    }
}
