//! What settings call of S3, IAM and SNS: through the SDK crates that the other functions need anyway, which know where
//! these services are and how they want to be signed.
//!
//! JSON goes in and comes out, as with [`crate::wire`]; of an answer only what a setting reads.

use aws_sdk_s3::types::CreateBucketConfiguration;
use aws_types::SdkConfig;
use redress_common::aws::failure::AwsFailure;
use serde_json::{Map, Value, json};

use super::super::log_bucket::{Found, LogBucket};
use super::super::{NativeError, s3, sns};
use super::{Ask, Planned};
use crate::wire::{Operation, Protocol, Service};

static S3: Service = Service::of("s3", Protocol::Sdk);
static GET_BUCKET_POLICY: Operation = S3.operation("GetBucketPolicy");
pub(super) static CREATE_BUCKET: Operation = S3.operation("CreateBucket");
pub(super) static PUT_BUCKET_POLICY: Operation = S3.operation("PutBucketPolicy");

static IAM: Service = Service::of("iam", Protocol::Sdk);
pub(super) static GET_ROLE: Operation = IAM.operation("GetRole");
pub(super) static CREATE_SERVICE_LINKED_ROLE: Operation = IAM.operation("CreateServiceLinkedRole");

static SNS: Service = Service::of("sns", Protocol::Sdk);
pub(super) static GET_TOPIC_ATTRIBUTES: Operation = SNS.operation("GetTopicAttributes");
pub(super) static SET_TOPIC_ATTRIBUTES: Operation = SNS.operation("SetTopicAttributes");

/// Makes a call; `None` when it is none of these.
pub(super) async fn call(
    config: &SdkConfig,
    operation: &Operation,
    input: &Value,
) -> Option<Result<Value, AwsFailure>> {
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let name = operation.name;
    let answer = match (operation.service.name, name) {
        ("s3", "GetBucketPolicy") => bucket_policy(config, input).await,
        ("s3", "CreateBucket") => {
            let place = input["CreateBucketConfiguration"]["LocationConstraint"].as_str();
            let place =
                place.map(|place| CreateBucketConfiguration::builder().location_constraint(place.into()).build());
            let call = s3(config).create_bucket().bucket(text("Bucket")).set_create_bucket_configuration(place);
            call.send().await.map(|_| Value::Null).map_err(|error| AwsFailure::of("CreateBucket", &error))
        }
        ("s3", "PutBucketPolicy") => {
            let call = s3(config).put_bucket_policy().bucket(text("Bucket")).policy(text("Policy"));
            let call = call.expected_bucket_owner(text("ExpectedBucketOwner"));
            call.send().await.map(|_| Value::Null).map_err(|error| AwsFailure::of("PutBucketPolicy", &error))
        }
        ("iam", "GetRole") => {
            let call = aws_sdk_iam::Client::new(config).get_role().role_name(text("RoleName"));
            let answer = call.send().await.map_err(|error| AwsFailure::of("GetRole", &error));
            answer.map(|answer| json!({ "Role": { "Arn": answer.role().map(aws_sdk_iam::types::Role::arn) } }))
        }
        ("iam", "CreateServiceLinkedRole") => {
            let call = aws_sdk_iam::Client::new(config).create_service_linked_role();
            let call = call.aws_service_name(text("AWSServiceName"));
            let answer = call.send().await.map_err(|error| AwsFailure::of("CreateServiceLinkedRole", &error));
            answer.map(|_| Value::Null)
        }
        ("sns", "GetTopicAttributes") => {
            let answer = sns(config).get_topic_attributes().topic_arn(text("TopicArn")).send().await;
            let answer = answer.map_err(|error| AwsFailure::of("GetTopicAttributes", &error));
            answer.map(|answer| {
                let attributes = answer.attributes.unwrap_or_default();
                let attributes: Map<String, Value> =
                    attributes.into_iter().map(|(name, value)| (name, value.into())).collect();
                json!({ "Attributes": attributes })
            })
        }
        ("sns", "SetTopicAttributes") => {
            let call = sns(config).set_topic_attributes().topic_arn(text("TopicArn"));
            let call = call.attribute_name(text("AttributeName")).attribute_value(text("AttributeValue"));
            call.send().await.map(|_| Value::Null).map_err(|error| AwsFailure::of("SetTopicAttributes", &error))
        }
        _ => return None,
    };
    Some(answer)
}

/// Whether a bucket is there, and its policy.
async fn bucket_policy(config: &SdkConfig, input: &Value) -> Result<Value, AwsFailure> {
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let call = s3(config).get_bucket_policy().bucket(text("Bucket"));
    let answer = call.expected_bucket_owner(text("ExpectedBucketOwner")).send().await;
    match answer.map_err(|error| AwsFailure::of("GetBucketPolicy", &error)) {
        Ok(answer) => Ok(json!({ "Exists": true, "Policy": answer.policy })),
        Err(failure) if failure.code() == Some("NoSuchBucketPolicy") => Ok(json!({ "Exists": true, "Policy": null })),
        Err(failure) if failure.code() == Some("NoSuchBucket") => Ok(json!({ "Exists": false, "Policy": null })),
        Err(failure) => Err(failure),
    }
}

/// What there is of a bucket of Redress's own.
pub(super) fn ask_for(bucket: &LogBucket, account: &str) -> Ask {
    Ask::of(&GET_BUCKET_POLICY, json!({ "Bucket": bucket.name, "ExpectedBucketOwner": account }))
}

/// The calls after which a bucket is there and lets its writer in; `found` is the answer to [`ask_for`].
pub(super) fn ready(bucket: &LogBucket, found: &Value, statements: &[Value]) -> Planned {
    let policy = found["Policy"].as_str().map(str::to_owned);
    let calls = bucket.ready(&Found { exists: found["Exists"] == true, policy }, statements)?;
    calls
        .into_iter()
        .map(|(name, input)| {
            let known = [&CREATE_BUCKET, &PUT_BUCKET_POLICY].into_iter().find(|operation| operation.name == name);
            let operation = known.ok_or(NativeError::Form { what: "a call", native: "log_bucket" })?;
            Ok((operation, input))
        })
        .collect()
}
