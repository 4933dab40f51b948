//! `at_rest`: what a queue or a topic holds is encrypted.
//!
//! A queue gets SSE-SQS, which needs no key and stops nobody. A topic gets a KMS key; a service that publishes to it
//! must then be let in by the key's policy. Where a service is named in the topic's policy and the key does not let it
//! in, nothing is changed: its messages would be lost without a word. What is encrypted with whatever key is left alone.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy_text::{Policy, allows, texts};
use super::resource_policy::{fits, queue_url};
use super::{Clients, Declared, Native, NativeError, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "at_rest",
    reads: &[
        "kms:DescribeKey",
        "kms:GetKeyPolicy",
        "sns:GetTopicAttributes",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
    ],
    changes: &["sns:SetTopicAttributes", "sqs:SetQueueAttributes"],
    make: |clients, request| Ok(Box::new(AtRest::new(clients, request)?)),
};

/// The function on one resource.
#[derive(Debug)]
struct AtRest {
    holder: Holder,
    arn: String,
    name: String,
    account: String,
    /// The services that publish and that the key keeps out, as the last look found them.
    kept_out: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
enum Holder {
    Topic { sns: aws_sdk_sns::Client, kms: aws_sdk_kms::Client, key: String },
    Queue(aws_sdk_sqs::Client),
}

impl AtRest {
    /// Parameter `KmsMasterKeyId`, for a topic: a key's id, ARN or alias.
    fn new(clients: &Clients, request: &RemediateRequest) -> Result<Self, NativeError> {
        const KEY: &str = "the id, ARN or alias of a KMS key";
        let arn = &request.job.resource_arn;
        let holder = match arn.service() {
            "sqs" => Holder::Queue(clients.sqs.clone()),
            "sns" => {
                let key = request.parameters.get("KmsMasterKeyId").and_then(Value::as_str).unwrap_or_default();
                if key.is_empty() {
                    return Err(NativeError::Parameter { name: "KmsMasterKeyId".to_owned(), expected: KEY });
                }
                Holder::Topic { sns: clients.sns.clone(), kms: clients.kms.clone(), key: key.to_owned() }
            }
            _ => return Err(NativeError::Refused("only a topic or a queue is encrypted by this function")),
        };
        Ok(Self {
            holder,
            arn: arn.to_string(),
            name: request.job.resource_name.clone(),
            account: request.account_id.to_string(),
            kept_out: Mutex::default(),
        })
    }

    fn put(&self, state: &State, on: bool) -> Result<Call, NativeError> {
        match &self.holder {
            Holder::Queue(_) => {
                let attributes = json!({ "SqsManagedSseEnabled": on.to_string() });
                let with = json!({ "QueueUrl": state.queue_url, "Attributes": attributes });
                planned(&DECLARED, "sqs", "SetQueueAttributes", &with)
            }
            Holder::Topic { key, .. } => {
                let key = if on { key.as_str() } else { "" };
                let with = json!({ "TopicArn": self.arn, "AttributeName": KEY, "AttributeValue": key });
                planned(&DECLARED, "sns", "SetTopicAttributes", &with)
            }
        }
    }

    async fn topic(
        &self,
        sns: &aws_sdk_sns::Client,
        kms: &aws_sdk_kms::Client,
        key: &str,
    ) -> Result<Option<State>, NativeError> {
        let answer = sns.get_topic_attributes().topic_arn(&self.arn).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("GetTopicAttributes", &error)) {
            Err(failure) if matches!(failure.code(), Some("NotFound" | "NotFoundException")) => return Ok(None),
            answer => answer?,
        };
        let attribute = |name: &str| answer.attributes().and_then(|all| all.get(name)).filter(|text| !text.is_empty());
        let kms_key = attribute(KEY).cloned();
        let mut kept_out = BTreeSet::new();
        if kms_key.is_none() {
            let publishers = attribute("Policy").map(|policy| services(policy)).transpose()?.unwrap_or_default();
            if !publishers.is_empty() {
                let policy = key_policy(kms, key).await?;
                kept_out = publishers.into_iter().filter(|service| !lets_in(&policy, service)).collect();
            }
        }
        if let Ok(mut last) = self.kept_out.lock() {
            *last = kept_out;
        }
        Ok(Some(State { key: kms_key, ..State::default() }))
    }

    async fn queue(&self, sqs: &aws_sdk_sqs::Client) -> Result<Option<State>, NativeError> {
        let Some(url) = queue_url(sqs, &self.name, &self.account).await? else { return Ok(None) };
        let call = sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::All);
        let answer = call.send().await.map_err(|error| AwsFailure::of("GetQueueAttributes", &error))?;
        let attribute = |name: &QueueAttributeName| answer.attributes().and_then(|all| all.get(name)).cloned();
        let own = attribute(&QueueAttributeName::SqsManagedSseEnabled);
        Ok(Some(State {
            key: attribute(&QueueAttributeName::KmsMasterKeyId).filter(|key| !key.is_empty()),
            sqs_managed: own.is_some_and(|own| own.eq_ignore_ascii_case("true")),
            queue_url: Some(url),
        }))
    }
}

const KEY: &str = "KmsMasterKeyId";

#[async_trait]
impl Native for AtRest {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let state = match &self.holder {
            Holder::Topic { sns, kms, key } => self.topic(sns, kms, key).await?,
            Holder::Queue(sqs) => self.queue(sqs).await?,
        };
        state.map(|state| Ok(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? })).transpose()
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        if state.is_encrypted() {
            return Ok(Change::default());
        }
        let kept_out = self.kept_out.lock().map(|services| services.iter().cloned().collect::<Vec<_>>());
        match kept_out {
            Ok(kept_out) if kept_out.is_empty() => Ok(Change(vec![self.put(&state, true)?])),
            Ok(kept_out) => Err(NativeError::NotNow(format!(
                "the key does not let {} use it, which may publish to the topic; name a customer key whose policy \
                 does, nothing was changed",
                kept_out.join(", ")
            ))),
            Err(_) => Err(NativeError::Refused("it is not known who publishes to the topic; nothing was changed")),
        }
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let calls = if now == before { Vec::new() } else { vec![self.put(&now, before.is_encrypted())?] };
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        match (&self.holder, call.operation.as_str()) {
            (Holder::Topic { sns, .. }, "SetTopicAttributes") => {
                let call = sns.set_topic_attributes().topic_arn(given("TopicArn"));
                let call = call.attribute_name(given("AttributeName")).attribute_value(given("AttributeValue"));
                call.send().await.map_err(|error| AwsFailure::of("SetTopicAttributes", &error))?;
                Ok(())
            }
            (Holder::Queue(sqs), "SetQueueAttributes") => {
                let on = call.parameters["Attributes"]["SqsManagedSseEnabled"].as_str().unwrap_or_default();
                let call = sqs.set_queue_attributes().queue_url(given("QueueUrl"));
                let call = call.attributes(QueueAttributeName::SqsManagedSseEnabled, on);
                call.send().await.map_err(|error| AwsFailure::of("SetQueueAttributes", &error))?;
                Ok(())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

/// The services that a topic's policy lets publish.
fn services(policy: &str) -> Result<BTreeSet<String>, NativeError> {
    let policy = Policy::parse(policy)?;
    let publishes = |statement: &Value| texts(&statement["Action"]).iter().any(|one| fits(one, "sns:Publish"));
    let named = policy.statements().filter(|statement| allows(statement) && publishes(statement));
    Ok(named
        .flat_map(|one| texts(&one["Principal"]["Service"]).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect())
}

/// A key's policy. That of an AWS-managed key names no service.
async fn key_policy(kms: &aws_sdk_kms::Client, key: &str) -> Result<String, NativeError> {
    let described = kms.describe_key().key_id(key).send().await;
    let described = match described.map_err(|error| AwsFailure::of("DescribeKey", &error)) {
        // An AWS-managed key is made when it is first used.
        Err(failure) if failure.code() == Some("NotFoundException") && key.starts_with("alias/aws/") => {
            return Ok(Policy::of("{}"));
        }
        described => described?,
    };
    let id = described.key_metadata().map(|key| key.key_id().to_owned()).unwrap_or_default();
    let answer = kms.get_key_policy().key_id(id).policy_name("default").send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetKeyPolicy", &error))?;
    Ok(answer.policy.unwrap_or_else(|| Policy::of("{}")))
}

/// Whether a key's policy lets a service encrypt with it.
fn lets_in(policy: &str, service: &str) -> bool {
    const NEEDED: [&str; 2] = ["kms:GenerateDataKey", "kms:Decrypt"];
    let Ok(policy) = Policy::parse(policy) else { return false };
    let open: Vec<Value> = policy
        .statements()
        .filter(|statement| allows(statement) && texts(&statement["Principal"]["Service"]).contains(&service))
        .collect();
    NEEDED.iter().all(|needed| {
        open.iter().any(|one| {
            texts(&one["Action"]).iter().any(|action| {
                // A key's policy may allow `kms:GenerateDataKey*`.
                fits(action, needed)
            })
        })
    })
}

/// The image's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    #[serde(rename = "KmsMasterKeyId", default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default)]
    sqs_managed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue_url: Option<String>,
}

impl State {
    const fn is_encrypted(&self) -> bool {
        self.key.is_some() || self.sqs_managed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{FakeAws, job};

    fn native(arn: &str) -> AtRest {
        let request = RemediateRequest {
            job: job(arn),
            native: DECLARED.name.to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            parameters: [("KmsMasterKeyId".to_owned(), json!("alias/topics"))].into(),
            copy: None,
        };
        AtRest::new(&Clients::new(&FakeAws::default().config()), &request).unwrap()
    }

    fn image(state: Value) -> Image {
        Image { present: true, state }
    }

    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:orders";
    const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:orders";

    #[test]
    fn a_queue_gets_sse_sqs_and_one_with_a_key_is_left_alone() {
        let open = image(json!({ "SqsManaged": false, "QueueUrl": "u" }));
        let calls = native(QUEUE).plan(&open).unwrap().0;
        assert_eq!(calls[0].parameters, json!({ "QueueUrl": "u", "Attributes": { "SqsManagedSseEnabled": "true" } }));
        let undo = native(QUEUE).plan_restore(&image(json!({ "SqsManaged": true, "QueueUrl": "u" })), &open).unwrap();
        assert_eq!(undo.0[0].parameters["Attributes"]["SqsManagedSseEnabled"], "false");
        assert!(native(QUEUE).compliant(&image(json!({ "KmsMasterKeyId": "k", "QueueUrl": "u" }))));
    }

    #[test]
    fn a_topic_whose_publishers_the_key_keeps_out_is_not_changed() {
        let native = native(TOPIC);
        let open = image(json!({}));
        assert_eq!(native.plan(&open).unwrap().0[0].parameters["AttributeValue"], "alias/topics");
        native.kept_out.lock().unwrap().insert("events.amazonaws.com".to_owned());
        let refused = native.plan(&open).unwrap_err();
        assert!(refused.to_string().contains("events.amazonaws.com"), "{refused}");
        assert!(native.compliant(&image(json!({ "KmsMasterKeyId": "alias/aws/sns" }))));
    }

    #[test]
    fn who_publishes_and_whom_the_key_lets_in_is_read_from_the_policies() {
        let topic = json!({ "Statement": [
            { "Effect": "Allow", "Principal": { "Service": ["events.amazonaws.com", "s3.amazonaws.com"] }, "Action": "sns:Publish" },
            { "Effect": "Allow", "Principal": { "Service": "budgets.amazonaws.com" }, "Action": "sns:GetTopicAttributes" },
            { "Effect": "Deny", "Principal": { "Service": "ses.amazonaws.com" }, "Action": "sns:*" },
        ] });
        let found = services(&topic.to_string()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["events.amazonaws.com", "s3.amazonaws.com"]);
        let key = json!({ "Statement": [
            { "Effect": "Allow", "Principal": { "Service": "events.amazonaws.com" }, "Action": ["kms:GenerateDataKey*", "kms:Decrypt"], "Resource": "*" },
            { "Effect": "Allow", "Principal": { "Service": "s3.amazonaws.com" }, "Action": "kms:Decrypt", "Resource": "*" },
        ] })
        .to_string();
        assert!(lets_in(&key, "events.amazonaws.com"));
        assert!(!lets_in(&key, "s3.amazonaws.com"));
    }
}
