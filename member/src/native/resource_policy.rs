//! `resource_policy`: the policy of a bucket, topic or queue says what a control asks for.
//!
//! Surgical: one statement is added behind the others, or the offending ones are taken away; every other statement
//! stays byte for byte. The undo puts the document back as it was.

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use redress_common::arn::Arn;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy_text::{Policy, allows, aws_principals, is_public, texts};
use super::{Clients, Declared, Native, NativeError, Parameters, parameter, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "resource_policy",
    reads: &["s3:GetBucketPolicy", "sns:GetTopicAttributes", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"],
    changes: &["s3:DeleteBucketPolicy", "s3:PutBucketPolicy", "sns:SetTopicAttributes", "sqs:SetQueueAttributes"],
    make: |clients, request| Ok(Box::new(ResourcePolicy::new(clients, request)?)),
};

/// The function on one resource.
#[derive(Debug)]
struct ResourcePolicy {
    holder: Holder,
    target: Target,
    goal: Goal,
}

/// Whose policy it is.
#[derive(Debug)]
enum Holder {
    Bucket(aws_sdk_s3::Client),
    Topic(aws_sdk_sns::Client),
    Queue(aws_sdk_sqs::Client),
}

#[derive(Debug, Clone)]
struct Target {
    arn: String,
    name: String,
    account: String,
    partition: String,
}

/// What the policy must say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    /// No request without TLS.
    Tls,
    /// None of these actions by principals of other accounts.
    Deny(Vec<String>),
    /// Nothing for everyone.
    NotPublic,
}

impl ResourcePolicy {
    /// Parameter `Goal`: `RequireTls`, `DenyOtherAccounts` (with `Actions`), or `NotPublic`.
    fn new(clients: &Clients, request: &RemediateRequest) -> Result<Self, NativeError> {
        let arn: &Arn = &request.job.resource_arn;
        let holder = match arn.service() {
            "s3" => Holder::Bucket(clients.s3.clone()),
            "sns" => Holder::Topic(clients.sns.clone()),
            "sqs" => Holder::Queue(clients.sqs.clone()),
            _ => {
                return Err(NativeError::Refused(
                    "only a bucket, a topic or a queue has a policy that this function edits",
                ));
            }
        };
        let target = Target {
            arn: arn.to_string(),
            name: request.job.resource_name.clone(),
            account: request.account_id.to_string(),
            partition: arn.partition().to_string(),
        };
        Ok(Self { holder, target, goal: Goal::parse(&request.parameters)? })
    }

    fn put(&self, now: &State, policy: Option<String>) -> Result<Change, NativeError> {
        if now.policy == policy {
            return Ok(Change::default());
        }
        let Target { arn, name, account, .. } = &self.target;
        let call = match (&self.holder, policy) {
            (Holder::Bucket(_), Some(policy)) => {
                let with = json!({ "Bucket": name, "ExpectedBucketOwner": account, "Policy": policy });
                planned(&DECLARED, "s3", "PutBucketPolicy", &with)
            }
            (Holder::Bucket(_), None) => {
                let with = json!({ "Bucket": name, "ExpectedBucketOwner": account });
                planned(&DECLARED, "s3", "DeleteBucketPolicy", &with)
            }
            (Holder::Topic(_), policy) => {
                let policy = policy.unwrap_or_default();
                let with = json!({ "TopicArn": arn, "AttributeName": "Policy", "AttributeValue": policy });
                planned(&DECLARED, "sns", "SetTopicAttributes", &with)
            }
            (Holder::Queue(_), policy) => {
                let with = json!({ "QueueUrl": now.queue_url, "Attributes": { "Policy": policy.unwrap_or_default() } });
                planned(&DECLARED, "sqs", "SetQueueAttributes", &with)
            }
        };
        Ok(Change(vec![call?]))
    }
}

#[async_trait]
impl Native for ResourcePolicy {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let found = match &self.holder {
            Holder::Bucket(client) => bucket(client, &self.target).await?,
            Holder::Topic(client) => topic(client, &self.target).await?,
            Holder::Queue(client) => queue(client, &self.target).await?,
        };
        found.map(|state| Ok(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? })).transpose()
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let policy = state.policy.as_deref().map(Policy::parse).transpose()?;
        let wanted = self.goal.wanted(policy.as_ref(), &self.target);
        match wanted {
            Some(wanted) => self.put(&state, wanted),
            None => Ok(Change::default()),
        }
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        self.put(&now, before.policy)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        match (&self.holder, call.operation.as_str()) {
            (Holder::Bucket(client), "PutBucketPolicy") => {
                let call = client.put_bucket_policy().bucket(given("Bucket")).policy(given("Policy"));
                let call = call.expected_bucket_owner(given("ExpectedBucketOwner"));
                call.send().await.map_err(|error| AwsFailure::of("PutBucketPolicy", &error))?;
            }
            (Holder::Bucket(client), "DeleteBucketPolicy") => {
                let call = client.delete_bucket_policy().bucket(given("Bucket"));
                let call = call.expected_bucket_owner(given("ExpectedBucketOwner"));
                call.send().await.map_err(|error| AwsFailure::of("DeleteBucketPolicy", &error))?;
            }
            (Holder::Topic(client), "SetTopicAttributes") => {
                let call = client.set_topic_attributes().topic_arn(given("TopicArn"));
                let call = call.attribute_name(given("AttributeName")).attribute_value(given("AttributeValue"));
                call.send().await.map_err(|error| AwsFailure::of("SetTopicAttributes", &error))?;
            }
            (Holder::Queue(client), "SetQueueAttributes") => {
                let policy = call.parameters["Attributes"]["Policy"].as_str().unwrap_or_default();
                let call = client.set_queue_attributes().queue_url(given("QueueUrl"));
                let call = call.attributes(QueueAttributeName::Policy, policy);
                call.send().await.map_err(|error| AwsFailure::of("SetQueueAttributes", &error))?;
            }
            _ => return Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
        Ok(())
    }
}

async fn bucket(client: &aws_sdk_s3::Client, target: &Target) -> Result<Option<State>, NativeError> {
    let call = client.get_bucket_policy().bucket(&target.name).expected_bucket_owner(&target.account);
    match call.send().await.map_err(|error| AwsFailure::of("GetBucketPolicy", &error)) {
        Err(failure) if failure.code() == Some("NoSuchBucket") => Ok(None),
        Err(failure) if failure.code() == Some("NoSuchBucketPolicy") => Ok(Some(State::default())),
        answer => Ok(Some(State { policy: answer?.policy, queue_url: None })),
    }
}

async fn topic(client: &aws_sdk_sns::Client, target: &Target) -> Result<Option<State>, NativeError> {
    let call = client.get_topic_attributes().topic_arn(&target.arn);
    match call.send().await.map_err(|error| AwsFailure::of("GetTopicAttributes", &error)) {
        Err(failure) if matches!(failure.code(), Some("NotFound" | "NotFoundException")) => Ok(None),
        answer => {
            let mut attributes = answer?.attributes.unwrap_or_default();
            Ok(Some(State { policy: attributes.remove("Policy"), queue_url: None }))
        }
    }
}

async fn queue(client: &aws_sdk_sqs::Client, target: &Target) -> Result<Option<State>, NativeError> {
    let Some(url) = queue_url(client, &target.name, &target.account).await? else { return Ok(None) };
    let call = client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::Policy);
    let answer = call.send().await.map_err(|error| AwsFailure::of("GetQueueAttributes", &error))?;
    let mut attributes = answer.attributes.unwrap_or_default();
    let policy = attributes.remove(&QueueAttributeName::Policy).filter(|policy| !policy.is_empty());
    Ok(Some(State { policy, queue_url: Some(url) }))
}

/// A queue's URL; `None` when there is no such queue.
pub(super) async fn queue_url(
    client: &aws_sdk_sqs::Client,
    name: &str,
    account: &str,
) -> Result<Option<String>, NativeError> {
    const MISSING: [&str; 2] = ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"];
    let call = client.get_queue_url().queue_name(name).queue_owner_aws_account_id(account);
    match call.send().await.map_err(|error| AwsFailure::of("GetQueueUrl", &error)) {
        Err(failure) if failure.code().is_some_and(|code| MISSING.contains(&code)) => Ok(None),
        answer => Ok(answer?.queue_url),
    }
}

/// The image's state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue_url: Option<String>,
}

// ------------------------------------------------------------------------------------------- the decision

impl Goal {
    fn parse(parameters: &Parameters) -> Result<Self, NativeError> {
        const GOAL: &str = "`RequireTls`, `DenyOtherAccounts` or `NotPublic`";
        const ACTIONS: &str = "a list of S3 actions";
        match parameter(parameters, "Goal", GOAL)?.as_str() {
            Some("RequireTls") => Ok(Self::Tls),
            Some("NotPublic") => Ok(Self::NotPublic),
            Some("DenyOtherAccounts") => {
                let actions: Vec<String> =
                    texts(parameter(parameters, "Actions", ACTIONS)?).into_iter().map(str::to_owned).collect();
                let ok = !actions.is_empty() && actions.iter().all(|action| action.starts_with("s3:"));
                if ok {
                    Ok(Self::Deny(actions))
                } else {
                    Err(NativeError::Parameter { name: "Actions".to_owned(), expected: ACTIONS })
                }
            }
            _ => Err(NativeError::Parameter { name: "Goal".to_owned(), expected: GOAL }),
        }
    }

    /// The document to put (`None` in it: none at all); `None` when the one that is there will do.
    fn wanted(&self, policy: Option<&Policy>, target: &Target) -> Option<Option<String>> {
        let Target { arn, .. } = target;
        match self {
            Self::Tls => {
                if policy.is_some_and(|policy| policy.statements().any(|statement| requires_tls(&statement, arn))) {
                    return None;
                }
                let add = |sid: &str| {
                    json!({
                        "Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                        "Resource": [arn, format!("{arn}/*")],
                        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
                    })
                };
                Some(with(policy, "RedressRequireTls", add))
            }
            Self::Deny(actions) => {
                let policy = policy?;
                let outsiders = outsiders(policy, actions, target)?;
                let add = |sid: &str| deny(sid, &outsiders, actions, target);
                let denied = |statement: &Value| {
                    let wanted = add("");
                    ["Effect", "Principal", "Condition"].iter().all(|part| statement[*part] == wanted[*part])
                        && actions.iter().all(|action| texts(&statement["Action"]).contains(&action.as_str()))
                        && covers(statement, arn)
                };
                if policy.statements().any(|statement| denied(&statement)) {
                    return None;
                }
                Some(with(Some(policy), "RedressKeepControl", add))
            }
            Self::NotPublic => {
                let policy = policy?;
                if !policy.statements().any(|statement| is_public(&statement)) {
                    return None;
                }
                let kept = policy.edited(|statement| !is_public(statement), None);
                // A topic always has a policy: what the owner may do anyway.
                if kept.is_some() || !arn.contains(":sns:") {
                    return Some(kept);
                }
                let owner = json!({
                    "Sid": "RedressOwner", "Effect": "Allow",
                    "Principal": { "AWS": format!("arn:{}:iam::{}:root", target.partition, target.account) },
                    "Action": ["sns:GetTopicAttributes", "sns:Publish", "sns:SetTopicAttributes", "sns:Subscribe"],
                    "Resource": arn,
                });
                Some(policy.edited(|_| false, Some(&owner.to_string())))
            }
        }
    }
}

/// The document with one more statement.
fn with(policy: Option<&Policy>, sid: &str, statement: impl Fn(&str) -> Value) -> Option<String> {
    match policy {
        Some(policy) => policy.edited(|_| true, Some(&statement(&policy.free_sid(sid)).to_string())),
        None => Some(Policy::of(&statement(sid).to_string())),
    }
}

/// Whether a statement is about the bucket and all its objects.
fn covers(statement: &Value, arn: &str) -> bool {
    let resources = texts(&statement["Resource"]);
    let objects = format!("{arn}/*");
    resources.contains(&"*") || (resources.contains(&arn) && resources.contains(&objects.as_str()))
}

fn requires_tls(statement: &Value, arn: &str) -> bool {
    let all = texts(&statement["Action"]).iter().any(|action| *action == "*" || action.eq_ignore_ascii_case("s3:*"));
    statement["Effect"] == "Deny"
        && aws_principals(statement).contains(&"*")
        && all
        && covers(statement, arn)
        && only_without_tls(&statement["Condition"])
}

/// Whether a condition is `Bool: { aws:SecureTransport: false }` and nothing else.
fn only_without_tls(condition: &Value) -> bool {
    let single = |value: &Value| {
        let map = value.as_object()?;
        let (key, value) = map.iter().next()?;
        (map.len() == 1).then(|| (key.to_ascii_lowercase(), value.clone()))
    };
    let Some((operator, keys)) = single(condition) else { return false };
    let Some((key, value)) = single(&keys) else { return false };
    let off = value == Value::Bool(false) || texts(&value) == ["false"];
    operator == "bool" && key == "aws:securetransport" && off
}

/// The principals of other accounts that are allowed one of the actions, sorted; `None` when there are none.
fn outsiders(policy: &Policy, actions: &[String], target: &Target) -> Option<Vec<String>> {
    let own =
        |principal: &str| principal == target.account || principal.split(':').nth(4) == Some(target.account.as_str());
    let mut found = Vec::new();
    for statement in policy.statements().filter(allows) {
        let given = texts(&statement["Action"]);
        let withheld = texts(&statement["NotAction"]);
        let allowed = |action: &String| {
            let matches = |patterns: &[&str]| patterns.iter().any(|pattern| fits(pattern, action));
            if withheld.is_empty() { matches(&given) } else { !matches(&withheld) }
        };
        if actions.iter().any(allowed) {
            let named = aws_principals(&statement);
            found.extend(named.into_iter().filter(|principal| !own(principal)).map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    (!found.is_empty()).then_some(found)
}

/// The statement that denies the actions to outsiders. Who may be anyone is told by the account.
fn deny(sid: &str, outsiders: &[String], actions: &[String], target: &Target) -> Value {
    let arn = &target.arn;
    let resource = json!([arn, format!("{arn}/*")]);
    if outsiders.iter().any(|outsider| outsider == "*") {
        return json!({
            "Sid": sid, "Effect": "Deny", "Principal": "*", "Action": actions, "Resource": resource,
            "Condition": {
                "StringNotEquals": { "aws:PrincipalAccount": target.account },
                "Bool": { "aws:PrincipalIsAWSService": "false" },
            },
        });
    }
    json!({ "Sid": sid, "Effect": "Deny", "Principal": { "AWS": outsiders }, "Action": actions, "Resource": resource })
}

/// IAM's wildcards, without regard to case.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => go(&pattern[1..], text) || (!text.is_empty() && go(pattern, &text[1..])),
            (Some(b'?'), Some(_)) => go(&pattern[1..], &text[1..]),
            (Some(one), Some(other)) if one.eq_ignore_ascii_case(other) => go(&pattern[1..], &text[1..]),
            _ => false,
        }
    }
    go(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
#[path = "resource_policy_tests.rs"]
mod tests;
