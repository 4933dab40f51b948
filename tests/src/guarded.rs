//! Asking a member's guard, as the orchestrator does: through the cross-account role, with the ExternalId.

use redress_common::contract::{GuardEvidence, GuardRequest};
use redress_common::names;
use redress_lab::service::AwsError;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ask::Target;
use crate::incident;
use crate::world::World;

/// The kinds of resources that the guard asks differently about, by the names that [`World::guardable`] takes.
pub const KINDS: [&str; 15] = [
    "account", "bucket", "database", "function", "group", "image", "key", "other", "policy", "public", "role",
    "snapshot", "stack", "user", "volume",
];

/// What the guard did not find out although AWS knows.
#[must_use]
pub fn refused(evidence: &GuardEvidence) -> Vec<&str> {
    evidence.unanswered.iter().map(String::as_str).filter(|text| text.contains("` failed: ")).collect()
}

impl World {
    /// A new resource of one of the [`KINDS`], with something that uses it, for the guard to look at.
    ///
    /// # Panics
    /// When it cannot be created.
    #[expect(clippy::panic, reason = "without a resource there is no test")]
    pub async fn guardable(&self, kind: &str, account: &str) -> Target {
        let call = async |service: &str, operation: &str, parameters: Value| {
            let answer = self.call(account, service, operation, parameters).await;
            answer.unwrap_or_else(|error| panic!("{service}:{operation}: {error}"))
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = format!("guarded-{kind}-{}", Uuid::new_v4());
        let ec2 = |id: &str| format!("arn:aws:ec2:{}:{account}:{id}", self.region());
        let arn = match kind {
            "account" => format!("arn:aws:iam::{account}:root"),
            "bucket" => {
                call("s3", "CreateBucket", json!({ "Bucket": name })).await;
                format!("arn:aws:s3:::{name}")
            }
            // A bucket that anybody may read.
            "public" => {
                call("s3", "CreateBucket", json!({ "Bucket": name })).await;
                drop(self.call(account, "s3", "DeletePublicAccessBlock", json!({ "Bucket": name })).await);
                let read = json!({
                    "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{name}/*"),
                });
                let policy = json!({ "Version": "2012-10-17", "Statement": [read] }).to_string();
                call("s3", "PutBucketPolicy", json!({ "Bucket": name, "Policy": policy })).await;
                format!("arn:aws:s3:::{name}")
            }
            "database" => Box::pin(incident::database(self, account)).await.arn,
            "function" => Box::pin(incident::function(self, account)).await.arn,
            "group" => {
                let group = json!({ "GroupName": name, "Description": "guarded" });
                let id = text(&call("ec2", "CreateSecurityGroup", group).await["GroupId"]);
                ec2(&format!("security-group/{id}"))
            }
            "volume" | "snapshot" | "image" => {
                let zone = format!("{}a", self.region());
                let volume = json!({ "AvailabilityZone": zone, "Size": 1 });
                let volume = text(&call("ec2", "CreateVolume", volume).await["VolumeId"]);
                if kind == "volume" {
                    ec2(&format!("volume/{volume}"))
                } else {
                    let snapshot = call("ec2", "CreateSnapshot", json!({ "VolumeId": volume })).await;
                    let snapshot = text(&snapshot["SnapshotId"]);
                    if kind == "snapshot" {
                        ec2(&format!("snapshot/{snapshot}"))
                    } else {
                        let disk = json!({ "DeviceName": "/dev/xvda", "Ebs": { "SnapshotId": snapshot } });
                        let image =
                            json!({ "Name": name, "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [disk] });
                        ec2(&format!("image/{}", text(&call("ec2", "RegisterImage", image).await["ImageId"])))
                    }
                }
            }
            // Something that a stack owns.
            "stack" => format!("arn:aws:iam::{account}:role/{}", names::GUARD_ROLE),
            "key" => text(&call("kms", "CreateKey", json!({})).await["KeyMetadata"]["Arn"]),
            "role" => {
                let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
                let role = json!({ "RoleName": name, "AssumeRolePolicyDocument": trust });
                text(&call("iam", "CreateRole", role).await["Role"]["Arn"])
            }
            "user" => {
                let user = call("iam", "CreateUser", json!({ "UserName": name })).await;
                call("iam", "CreateAccessKey", json!({ "UserName": name })).await;
                text(&user["User"]["Arn"])
            }
            "policy" => {
                let allow = json!({ "Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*" });
                let document = json!({ "Version": "2012-10-17", "Statement": [allow] }).to_string();
                let policy = json!({ "PolicyName": name, "PolicyDocument": document });
                text(&call("iam", "CreatePolicy", policy).await["Policy"]["Arn"])
            }
            "other" => {
                call("sqs", "CreateQueue", json!({ "QueueName": name })).await;
                format!("arn:aws:sqs:{}:{account}:{name}", self.region())
            }
            kind => panic!("no kind `{kind}`"),
        };
        Target { account: account.to_owned(), control: "IAM.7".to_owned(), arn }
    }

    /// Puts a threat list where every guard reads it.
    ///
    /// # Panics
    /// When it cannot be put there.
    pub async fn put_threats(&self, text: &str) {
        let organisation = &self.bed.organisation;
        let bucket = names::threat_bucket(&organisation.administrator.id, &organisation.region);
        self.admin_call("s3", "PutObject", json!({ "Bucket": bucket, "Key": "list.txt", "Body": text })).await;
    }

    /// What the guard of the target's account finds.
    ///
    /// # Panics
    /// When it does not answer.
    #[expect(clippy::panic, reason = "without an answer there is no test")]
    pub async fn guarded(&self, target: &Target, indicators: &[&str]) -> GuardEvidence {
        let answer = self.ask_guard(&target.account, &self.guard_request(target, indicators)).await;
        match answer.map(serde_json::from_value) {
            Ok(Ok(evidence)) => evidence,
            other => panic!("the guard of {} did not answer: {other:?}", target.account),
        }
    }

    /// What the orchestrator would ask.
    ///
    /// # Panics
    /// When the target is not well formed.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's own mistake")]
    pub fn guard_request(&self, target: &Target, indicators: &[&str]) -> GuardRequest {
        let request = json!({
            "Control": target.control, "ResourceArn": target.arn, "ResourceType": "", "AccountId": target.account,
            "Region": self.region(), "Indicators": indicators,
        });
        serde_json::from_value(request).unwrap_or_else(|error| panic!("{target:?}: {error}"))
    }

    /// Invokes the guard of an account, and gives what it returned.
    ///
    /// # Errors
    /// As AWS answers, and when the function fails.
    pub async fn ask_guard(&self, account: &str, request: &GuardRequest) -> Result<Value, AwsError> {
        let aws = self.bed.lab.aws();
        let admin = self.administrator();
        let orchestrator = format!("arn:aws:iam::{admin}:role/{}", names::ORCHESTRATOR_ROLE);
        let by = aws.session(&orchestrator, "test", "lambda.amazonaws.com").await?;
        let role = format!("arn:aws:iam::{account}:role/{}", names::CROSS_ACCOUNT_ROLE);
        let session = self.assume(&by, &role, Some(&self.external_id(account))).await;
        let payload = serde_json::to_string(request).unwrap_or_default();
        let invoke = json!({ "FunctionName": names::GUARD_FUNCTION, "Payload": payload });
        let answer = aws.call(&session, self.region(), "lambda", "Invoke", invoke).await?;
        let payload = match &answer["Payload"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            other => other.clone(),
        };
        match answer["FunctionError"].as_str() {
            None => Ok(payload),
            Some(kind) => Err(AwsError::new(kind, payload["errorMessage"].as_str().unwrap_or_default())),
        }
    }
}
