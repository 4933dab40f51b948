//! What the emulator's CloudFormation accepts in a template and does not do: the calls that do it, made from the
//! same template. A table of resource types and properties; when the emulator learns one, its row goes.

use serde_json::{Value, json};

use crate::template::{Stack, Template, TemplateError};

/// One AWS call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) service: &'static str,
    pub(super) operation: &'static str,
    pub(super) parameters: Value,
}

/// A property that is not done, and the call that does it, from the resource's physical id and the property's value.
struct Gap {
    kind: &'static str,
    /// Empty when nothing of the resource is done: the value is all of its properties.
    property: &'static str,
    service: &'static str,
    operation: &'static str,
    parameters: fn(&str, &Value, &Stack) -> Value,
}

const GAPS: &[Gap] = &[
    Gap {
        kind: "AWS::SSM::Document",
        property: "",
        service: "ssm",
        operation: "CreateDocument",
        parameters: |name, given, _| {
            let content = given["Content"].as_str().map_or_else(|| given["Content"].to_string(), str::to_owned);
            json!({
                "Name": name, "Content": content, "DocumentType": given["DocumentType"].as_str().unwrap_or("Command"),
                "DocumentFormat": given["DocumentFormat"].as_str().unwrap_or("JSON"),
            })
        },
    },
    Gap {
        kind: "AWS::Events::EventBus",
        property: "Policy",
        service: "events",
        operation: "PutPermission",
        parameters: |bus, policy, _| json!({ "EventBusName": bus, "Policy": policy.to_string() }),
    },
    Gap {
        kind: "AWS::DynamoDB::Table",
        property: "PointInTimeRecoverySpecification",
        service: "dynamodb",
        operation: "UpdateContinuousBackups",
        parameters: |table, given, _| json!({ "TableName": table, "PointInTimeRecoverySpecification": given }),
    },
    Gap {
        kind: "AWS::DynamoDB::Table",
        property: "TimeToLiveSpecification",
        service: "dynamodb",
        operation: "UpdateTimeToLive",
        parameters: |table, given, _| json!({ "TableName": table, "TimeToLiveSpecification": given }),
    },
    Gap {
        kind: "AWS::DynamoDB::Table",
        property: "SSESpecification",
        service: "dynamodb",
        operation: "UpdateTable",
        parameters: |table, given, _| {
            let sse = json!({ "Enabled": given["SSEEnabled"], "SSEType": given["SSEType"], "KMSMasterKeyId": given["KMSMasterKeyId"] });
            json!({ "TableName": table, "SSESpecification": sse })
        },
    },
    Gap {
        kind: "AWS::DynamoDB::Table",
        property: "ResourcePolicy",
        service: "dynamodb",
        operation: "PutResourcePolicy",
        parameters: |table, given, stack| {
            let place = |name: &str| stack.parameters.get(name).cloned().unwrap_or_default();
            let arn = format!(
                "arn:{}:dynamodb:{}:{}:table/{table}",
                place("AWS::Partition"),
                place("AWS::Region"),
                place("AWS::AccountId")
            );
            json!({ "ResourceArn": arn, "Policy": given["PolicyDocument"].to_string() })
        },
    },
    Gap {
        kind: "AWS::SNS::Topic",
        property: "KmsMasterKeyId",
        service: "sns",
        operation: "SetTopicAttributes",
        parameters: |topic, given, _| json!({ "TopicArn": topic, "AttributeName": "KmsMasterKeyId", "AttributeValue": given }),
    },
    Gap {
        kind: "AWS::S3::Bucket",
        property: "BucketEncryption",
        service: "s3",
        operation: "PutBucketEncryption",
        parameters: |bucket, given, _| {
            let rules = given["ServerSideEncryptionConfiguration"].as_array().into_iter().flatten().map(|rule| {
                let default = &rule["ServerSideEncryptionByDefault"];
                json!({
                    "BucketKeyEnabled": rule["BucketKeyEnabled"],
                    "ApplyServerSideEncryptionByDefault": {
                        "SSEAlgorithm": default["SSEAlgorithm"], "KMSMasterKeyID": default["KMSMasterKeyID"] },
                })
            });
            json!({ "Bucket": bucket, "ServerSideEncryptionConfiguration": { "Rules": rules.collect::<Vec<_>>() } })
        },
    },
    Gap {
        kind: "AWS::S3::Bucket",
        property: "LifecycleConfiguration",
        service: "s3",
        operation: "PutBucketLifecycleConfiguration",
        parameters: |bucket, given, _| {
            let rules = given["Rules"].as_array().into_iter().flatten().map(|rule| {
                let transitions = rule["Transitions"].as_array().into_iter().flatten();
                let transitions = transitions
                    .map(|one| json!({ "Days": one["TransitionInDays"], "StorageClass": one["StorageClass"] }));
                // A number that is a parameter comes as text.
                let days = &rule["ExpirationInDays"];
                let days = days.as_u64().or_else(|| days.as_str()?.parse().ok());
                json!({
                    "ID": rule["Id"], "Status": rule["Status"],
                    "Filter": { "Prefix": rule["Prefix"].as_str().unwrap_or_default() },
                    "Transitions": transitions.collect::<Vec<_>>(),
                    "Expiration": days.map(|days| json!({ "Days": days })),
                    "NoncurrentVersionExpiration": rule["NoncurrentVersionExpiration"],
                    "AbortIncompleteMultipartUpload": rule["AbortIncompleteMultipartUpload"],
                })
            });
            json!({ "Bucket": bucket, "LifecycleConfiguration": { "Rules": rules.collect::<Vec<_>>() } })
        },
    },
    Gap {
        kind: "AWS::S3::Bucket",
        property: "OwnershipControls",
        service: "s3",
        operation: "PutBucketOwnershipControls",
        parameters: |bucket, given, _| json!({ "Bucket": bucket, "OwnershipControls": given }),
    },
];

/// Without what the template leaves out, which no call takes as `null` or as nothing.
fn given_only(value: Value) -> Value {
    let is_given = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    };
    match value {
        Value::Array(items) => items.into_iter().map(given_only).filter(is_given).collect(),
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, given_only(value)));
            Value::Object(members.filter(|(_, value)| is_given(value)).collect())
        }
        value => value,
    }
}

/// The calls that complete a stack, in the order of its resources. A document's is a `CreateDocument`.
pub(super) fn calls(template: &Template, stack: &Stack) -> Result<Vec<Call>, TemplateError> {
    let mut calls = Vec::new();
    for (id, kind, properties) in template.resources() {
        for gap in GAPS.iter().filter(|gap| gap.kind == kind) {
            let given = if gap.property.is_empty() { Some(properties) } else { properties.get(gap.property) };
            let Some(given) = given else { continue };
            let Some(value) = template.resolve(given, stack)? else { continue };
            let physical = stack.resources.get(id).ok_or_else(|| TemplateError::Unknown(id.to_owned()))?;
            let parameters = given_only((gap.parameters)(physical, &value, stack));
            calls.push(Call { service: gap.service, operation: gap.operation, parameters });
        }
    }
    Ok(calls)
}
