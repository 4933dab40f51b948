//! The buckets of Redress's own that services of AWS deliver to: made once for an account and Region, when one is first
//! needed.
//!
//! Pure. Their policies only grow: a service that is not let in yet gets a statement, and those that are there stay word
//! for word. They are no part of a resource's state, since others use them too; an undo leaves them, with what is in them.

use serde_json::{Value, json};

use super::NativeError;
use super::policy_text::Policy;

/// A bucket, by what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogBucket {
    pub(super) name: String,
    account: String,
    region: String,
    partition: String,
}

/// What there is of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) exists: bool,
    pub(super) policy: Option<String>,
}

/// What delivers the access logs of buckets.
pub(super) const BUCKETS: &str = "logging.s3.amazonaws.com";
/// What delivers the access logs of load balancers.
pub(super) const BALANCERS: &str = "logdelivery.elasticloadbalancing.amazonaws.com";
/// What load balancers put before the names of their logs.
pub(super) const BALANCER_PREFIX: &str = "load-balancers";

impl LogBucket {
    /// For access logs of buckets and load balancers.
    pub(super) fn access_logs(account: &str, region: &str, partition: &str) -> Self {
        Self::of("access-logs", account, region, partition)
    }

    /// For what AWS Config records.
    pub(super) fn config(account: &str, region: &str, partition: &str) -> Self {
        Self::of("config", account, region, partition)
    }

    /// For the log files of a trail.
    pub(super) fn trail(account: &str, region: &str, partition: &str) -> Self {
        Self::of("trail", account, region, partition)
    }

    fn of(purpose: &str, account: &str, region: &str, partition: &str) -> Self {
        let (account, region, partition) = (account.to_owned(), region.to_owned(), partition.to_owned());
        Self { name: format!("redress-{purpose}-{account}-{region}"), account, region, partition }
    }

    /// Its ARN, or that of what is in it.
    fn arn(&self, inside: &str) -> String {
        format!("arn:{}:s3:::{}{inside}", self.partition, self.name)
    }

    /// Buckets of this account log their access.
    pub(super) fn for_buckets(&self) -> Vec<Value> {
        vec![json!({
            "Sid": "AccessLogs", "Effect": "Allow", "Principal": { "Service": BUCKETS },
            "Action": "s3:PutObject", "Resource": self.arn("/*"),
            "Condition": { "StringEquals": { "aws:SourceAccount": self.account } },
        })]
    }

    /// Load balancers of this account log their access. The account is in the names that Elastic Load Balancing gives.
    pub(super) fn for_balancers(&self) -> Vec<Value> {
        let inside = format!("/{BALANCER_PREFIX}/AWSLogs/{}/*", self.account);
        vec![json!({
            "Sid": "LoadBalancerLogs", "Effect": "Allow", "Principal": { "Service": BALANCERS },
            "Action": "s3:PutObject", "Resource": self.arn(&inside),
        })]
    }

    /// A trail of this account writes its log files, as CloudTrail wants it.
    pub(super) fn for_trail(&self, trail: &str) -> Vec<Value> {
        let service = json!({ "Service": "cloudtrail.amazonaws.com" });
        let inside = format!("/AWSLogs/{}/*", self.account);
        vec![
            json!({
                "Sid": "CloudTrailAclCheck", "Effect": "Allow", "Principal": service,
                "Action": "s3:GetBucketAcl", "Resource": self.arn(""),
                "Condition": { "StringEquals": { "aws:SourceArn": trail } },
            }),
            json!({
                "Sid": "CloudTrailWrite", "Effect": "Allow", "Principal": service,
                "Action": "s3:PutObject", "Resource": self.arn(&inside),
                "Condition": { "StringEquals": {
                    "s3:x-amz-acl": "bucket-owner-full-control", "aws:SourceArn": trail } },
            }),
        ]
    }

    /// AWS Config delivers what it records in this account, as Config wants it.
    pub(super) fn for_config(&self) -> Vec<Value> {
        let service = json!({ "Service": "config.amazonaws.com" });
        let inside = format!("/AWSLogs/{}/Config/*", self.account);
        vec![
            json!({
                "Sid": "ConfigBucketCheck", "Effect": "Allow", "Principal": service,
                "Action": ["s3:GetBucketAcl", "s3:ListBucket"], "Resource": self.arn(""),
                "Condition": { "StringEquals": { "aws:SourceAccount": self.account } },
            }),
            json!({
                "Sid": "ConfigDelivery", "Effect": "Allow", "Principal": service,
                "Action": "s3:PutObject", "Resource": self.arn(&inside),
                "Condition": { "StringEquals": {
                    "s3:x-amz-acl": "bucket-owner-full-control", "aws:SourceAccount": self.account } },
            }),
        ]
    }

    /// The calls of S3 that make it where it is not there, and let in whom it does not let in yet.
    ///
    /// # Errors
    /// When its policy is none that can be edited.
    pub(super) fn ready(&self, found: &Found, statements: &[Value]) -> Result<Vec<(&'static str, Value)>, NativeError> {
        let mut calls = Vec::new();
        if !found.exists {
            let mut create = json!({ "Bucket": self.name });
            // S3 takes no name for this one place.
            if self.region != "us-east-1" {
                create["CreateBucketConfiguration"] = json!({ "LocationConstraint": self.region });
            }
            calls.push(("CreateBucket", create));
        }
        if let Some(policy) = letting_in(found.policy.as_deref(), statements)? {
            let put = json!({ "Bucket": self.name, "ExpectedBucketOwner": self.account, "Policy": policy });
            calls.push(("PutBucketPolicy", put));
        }
        Ok(calls)
    }
}

/// The policy with the statements that it lacks; `None` when it lacks none.
fn letting_in(policy: Option<&str>, statements: &[Value]) -> Result<Option<String>, NativeError> {
    let Some(text) = policy else {
        let texts: Vec<String> = statements.iter().map(Value::to_string).collect();
        return Ok(Some(Policy::of(&texts.join(","))));
    };
    let mut grown = None;
    for statement in statements {
        let policy = Policy::parse(grown.as_deref().unwrap_or(text))?;
        if policy.statements().any(|there| unnamed(&there) == unnamed(statement)) {
            continue;
        }
        let mut own = statement.clone();
        own["Sid"] = policy.free_sid(statement["Sid"].as_str().unwrap_or_default()).into();
        grown = policy.edited(|_| true, Some(&own.to_string()));
    }
    Ok(grown)
}

fn unnamed(statement: &Value) -> Value {
    let mut statement = statement.clone();
    statement.as_object_mut().map(|map| map.remove("Sid"));
    statement
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logs() -> LogBucket {
        LogBucket::access_logs("111122223333", "eu-central-1", "aws")
    }

    fn found(policy: &str) -> Found {
        Found { exists: true, policy: Some(policy.to_owned()) }
    }

    #[test]
    fn a_bucket_is_made_once_and_lets_in_each_service_once() {
        let made = logs().ready(&Found::default(), &logs().for_buckets()).unwrap();
        assert_eq!(made[0].0, "CreateBucket");
        assert_eq!(made[0].1["CreateBucketConfiguration"]["LocationConstraint"], "eu-central-1");
        let policy = made[1].1["Policy"].as_str().unwrap().to_owned();
        assert_eq!(logs().ready(&found(&policy), &logs().for_buckets()).unwrap(), []);

        let both = logs().ready(&found(&policy), &logs().for_balancers()).unwrap();
        assert_eq!(both.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["PutBucketPolicy"]);
        let both = both[0].1["Policy"].as_str().unwrap().to_owned();
        assert!(both.starts_with(policy.strip_suffix("]}").unwrap()), "{both}");
        assert_eq!(logs().ready(&found(&both), &logs().for_buckets()).unwrap(), []);
        assert_eq!(logs().ready(&found(&both), &logs().for_balancers()).unwrap(), []);

        let without = Found { exists: true, policy: None };
        let calls = logs().ready(&without, &logs().for_balancers()).unwrap();
        assert_eq!(calls.len(), 1, "the bucket is there: {calls:?}");
        let home = LogBucket::trail("111122223333", "us-east-1", "aws");
        assert_eq!(home.ready(&Found::default(), &[]).unwrap()[0].1, json!({ "Bucket": home.name }));
    }

    #[test]
    fn a_trail_and_config_get_in_as_aws_writes_it() {
        let trail = LogBucket::trail("111122223333", "cn-north-1", "aws-cn");
        let arn = "arn:aws-cn:cloudtrail:cn-north-1:111122223333:trail/t";
        let [check, write] = <[Value; 2]>::try_from(trail.for_trail(arn)).unwrap();
        assert_eq!(check["Resource"], "arn:aws-cn:s3:::redress-trail-111122223333-cn-north-1");
        assert_eq!(check["Condition"]["StringEquals"]["aws:SourceArn"], arn);
        assert_eq!(write["Resource"], "arn:aws-cn:s3:::redress-trail-111122223333-cn-north-1/AWSLogs/111122223333/*");
        let config = LogBucket::config("111122223333", "eu-central-1", "aws");
        assert_eq!(
            config.for_config()[1]["Resource"],
            "arn:aws:s3:::redress-config-111122223333-eu-central-1/AWSLogs/111122223333/Config/*"
        );
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_not_replaced() {
        let refused = logs().ready(&found("{ \"Statement\": 7 }"), &logs().for_buckets());
        assert!(matches!(refused, Err(NativeError::Refused(_))), "{refused:?}");
    }

    proptest! {
        /// Whatever else a policy says stays word for word, and what was let in stays in.
        #[test]
        fn a_policy_only_grows(sids in prop::collection::vec("[A-Z][a-z]{0,8}|AccessLogs|LoadBalancerLogs", 1..5), gap in "[ \n]{0,3}") {
            let statement = |sid: &String| {
                format!("{{\"Sid\":{gap}\"{sid}\",{gap}\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:*\",\"Resource\":\"*\"}}")
            };
            let statements: Vec<String> = sids.iter().map(statement).collect();
            let policy = format!("{{{gap}\"Version\":\"2012-10-17\",\"Statement\":[{}]{gap}}}", statements.join(&format!(",{gap}")));
            let wanted: Vec<Value> = logs().for_buckets().into_iter().chain(logs().for_balancers()).collect();
            let grown = letting_in(Some(&policy), &wanted).unwrap().unwrap();
            let (head, tail) = policy.rsplit_once(']').unwrap();
            prop_assert!(grown.starts_with(head) && grown.ends_with(&format!("]{tail}")), "{grown}");
            prop_assert_eq!(letting_in(Some(&grown), &wanted).unwrap(), None);
            let read: Value = serde_json::from_str(&grown).unwrap();
            let names: std::collections::BTreeSet<&str> =
                read["Statement"].as_array().unwrap()[statements.len()..].iter().filter_map(|one| one["Sid"].as_str()).collect();
            prop_assert_eq!(names.len(), 2);
            prop_assert!(names.iter().all(|name| !sids.iter().any(|sid| sid == name)));
        }
    }
}
