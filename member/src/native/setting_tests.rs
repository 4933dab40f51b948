//! Each setting over answers of the form that AWS gives.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{FakeAws, job};

const ACCOUNT: &str = "arn:aws:iam::111122223333:root";
const ACL: &str = "arn:aws:ec2:eu-central-1:111122223333:network-acl/acl-1";
const ADDRESS: &str = "arn:aws:ec2:eu-central-1:111122223333:elastic-ip/eipalloc-1";
const CERTIFICATE: &str = "arn:aws:acm:eu-central-1:111122223333:certificate/12-34";
const CLUSTER: &str = "arn:aws:ecs:eu-central-1:111122223333:cluster/shop";
const DATABASE: &str = "arn:aws:rds:eu-central-1:111122223333:db:orders";
const FILTER: &str = "arn:aws:guardduty:eu-central-1:111122223333:detector/12ab/filter/noise";
const LAUNCH: &str = "arn:aws:autoscaling:eu-central-1:111122223333:launchConfiguration:1:launchConfigurationName/web";
const MACHINE: &str = "arn:aws:states:eu-central-1:111122223333:stateMachine:orders";
const PROJECT: &str = "arn:aws:codebuild:eu-central-1:111122223333:project/web";
const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders-AbCdEf";
const SOCKET: &str = "arn:aws:apigateway:eu-central-1::/apis/b2/stages/prod";
const STACK: &str = "arn:aws:cloudformation:eu-central-1:111122223333:stack/shop/1-2";
const STAGE: &str = "arn:aws:apigateway:eu-central-1::/restapis/a1/stages/prod";
const SUBNET: &str = "arn:aws:ec2:eu-central-1:111122223333:subnet/subnet-1";
const TABLE: &str = "arn:aws:dynamodb:eu-central-1:111122223333:table/orders";
const TEMPLATE: &str = "arn:aws:ec2:eu-central-1:111122223333:launch-template/lt-1";
const TRAIL: &str = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/audit";
const VPC: &str = "arn:aws:ec2:eu-central-1:111122223333:vpc/vpc-1";

/// A setting, the resource, what AWS answers before and after, and the calls between the two.
pub(super) struct Recorded {
    pub(super) setting: &'static Setting,
    pub(super) arn: &'static str,
    pub(super) name: &'static str,
    pub(super) parameters: Value,
    pub(super) bad: Value,
    pub(super) fix: Value,
    pub(super) good: Value,
    pub(super) undo: Value,
}

pub(super) fn subject(recorded: &Recorded) -> Subject {
    Subject {
        name: recorded.name.to_owned(),
        arn: recorded.arn.parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: serde_json::from_value(recorded.parameters.clone()).unwrap(),
        now: "2026-11-20T12:00:00Z".parse().unwrap(),
    }
}

/// The state that answers amount to; as many calls are made as there are answers.
pub(super) fn state(setting: &Setting, subject: &Subject, answers: &Value) -> Option<Value> {
    let answers = answers.as_array().unwrap();
    for count in 0..answers.len() {
        assert!((setting.next)(subject, &answers[..count]).is_some(), "{}: {count}", setting.name);
    }
    assert!((setting.next)(subject, answers).is_none(), "{}", setting.name);
    (setting.state)(subject, answers)
}

pub(super) fn written(planned: Planned) -> Value {
    planned.unwrap().into_iter().map(|(operation, input)| json!([operation.name, input])).collect()
}

/// A revision of task definition `web`, as ECS tells of it.
fn definition(revision: u32, containers: Value) -> Value {
    json!([{
        "taskDefinition": {
            "taskDefinitionArn": format!("arn:aws:ecs:eu-central-1:111122223333:task-definition/web:{revision}"),
            "family": "web", "revision": revision, "status": "ACTIVE", "registeredAt": 1.5e9, "registeredBy": "arn:x",
            "compatibilities": ["EC2"], "requiresAttributes": [{ "name": "x" }],
            "networkMode": "awsvpc", "memory": "512", "taskRoleArn": "", "pidMode": null, "containerDefinitions": containers,
        },
        "tags": [{ "key": "Team", "value": "web" }, { "key": "aws:cloudformation:stack-name", "value": "web" }],
    }])
}

#[allow(clippy::too_many_lines)]
fn recorded() -> Vec<Recorded> {
    let template = |version: &str, data: Value| json!([{ "launchTemplateVersionSet": [{ "versionNumber": version, "launchTemplateData": data }] }]);
    let patched = |patches: Value| json!([["UpdateStage", { "restApiId": "a1", "stageName": "prod", "patchOperations": patches }]]);
    let replace = |path: &str, value: &str| json!({ "op": "replace", "path": path, "value": value });
    let insights = |value: &str| json!([{ "clusters": [{ "clusterArn": CLUSTER, "status": "ACTIVE", "settings": [{ "name": "containerInsights", "value": value }] }], "failures": [] }]);
    let group = "/aws/vendedlogs/states/orders-Logs";
    let logging = json!({
        "level": "ERROR",
        "includeExecutionData": false,
        "destinations": [{ "cloudWatchLogsLogGroup": {
            "logGroupArn": format!("arn:aws:logs:eu-central-1:111122223333:log-group:{group}:*") } }],
    });
    let off = json!({ "level": "OFF", "includeExecutionData": false });
    let mut all = vec![
        Recorded {
            setting: &account::GUARDDUTY_DETECTOR,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({}),
            bad: json!([{ "detectorIds": [] }]),
            fix: json!([["CreateDetector", { "Enable": true }]]),
            good: json!([{ "detectorIds": ["12ab"] }, { "status": "ENABLED", "findingPublishingFrequency": "SIX_HOURS" }]),
            undo: json!([["DeleteDetector", { "DetectorId": "12ab" }]]),
        },
        Recorded {
            setting: &account::GUARDDUTY_DETECTOR,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({}),
            bad: json!([{ "detectorIds": ["12ab"] }, { "status": "DISABLED" }]),
            fix: json!([["UpdateDetector", { "DetectorId": "12ab", "Enable": true }]]),
            good: json!([{ "detectorIds": ["12ab"] }, { "status": "ENABLED" }]),
            undo: json!([["UpdateDetector", { "DetectorId": "12ab", "Enable": false }]]),
        },
        Recorded {
            setting: &account::MACIE_SESSION,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({}),
            bad: json!([null]),
            fix: json!([["EnableMacie", { "status": "ENABLED" }]]),
            good: json!([{ "status": "ENABLED", "findingPublishingFrequency": "FIFTEEN_MINUTES" }]),
            undo: json!([["DisableMacie", {}]]),
        },
        Recorded {
            setting: &account::MACIE_SESSION,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({}),
            bad: json!([{ "status": "PAUSED" }]),
            fix: json!([["UpdateMacieSession", { "status": "ENABLED" }]]),
            good: json!([{ "status": "ENABLED" }]),
            undo: json!([["UpdateMacieSession", { "status": "PAUSED" }]]),
        },
        Recorded {
            setting: &api_stage::TRACING,
            arn: STAGE,
            name: "a1/stages/prod",
            parameters: json!({}),
            bad: json!([{ "stageName": "prod", "methodSettings": {} }]),
            fix: patched(json!([replace("/tracingEnabled", "true")])),
            good: json!([{ "stageName": "prod", "tracingEnabled": true }]),
            undo: patched(json!([replace("/tracingEnabled", "false")])),
        },
        Recorded {
            setting: &api_stage::CACHE_ENCRYPTION,
            arn: STAGE,
            name: "a1/stages/prod",
            parameters: json!({}),
            bad: json!([{ "methodSettings": {
                "*/*": { "cachingEnabled": false, "cacheDataEncrypted": false },
                "~1pets/GET": { "cachingEnabled": true, "cacheDataEncrypted": false },
                "~1pets/POST": { "cachingEnabled": true, "cacheDataEncrypted": true } } }]),
            fix: patched(json!([replace("/~1pets/GET/caching/dataEncrypted", "true")])),
            good: json!([{ "methodSettings": {
                "*/*": { "cachingEnabled": false, "cacheDataEncrypted": false },
                "~1pets/GET": { "cachingEnabled": true, "cacheDataEncrypted": true },
                "~1pets/POST": { "cachingEnabled": true, "cacheDataEncrypted": true } } }]),
            undo: patched(json!([replace("/~1pets/GET/caching/dataEncrypted", "false")])),
        },
        Recorded {
            setting: &api_stage::EXECUTION_LOGGING,
            arn: STAGE,
            name: "a1/stages/prod",
            parameters: json!({ "LogLevel": "ERROR" }),
            bad: json!([{ "methodSettings": {
                "~1pets/GET": { "loggingLevel": "INFO" }, "/pets/POST": { "loggingLevel": "OFF" } } }]),
            fix: patched(json!([
                replace("/*/*/logging/loglevel", "ERROR"),
                replace("/~1pets/POST/logging/loglevel", "ERROR")
            ])),
            good: json!([{ "methodSettings": { "*/*": { "loggingLevel": "ERROR" },
                "~1pets/GET": { "loggingLevel": "INFO" }, "/pets/POST": { "loggingLevel": "ERROR" } } }]),
            undo: patched(json!([{ "op": "remove", "path": "/*/*" }, replace("/~1pets/POST/logging/loglevel", "OFF")])),
        },
        Recorded {
            setting: &api_stage::EXECUTION_LOGGING,
            arn: SOCKET,
            name: "b2/stages/prod",
            parameters: json!({ "LogLevel": "INFO" }),
            bad: json!([{ "defaultRouteSettings": { "throttlingBurstLimit": 50 } }]),
            fix: json!([["UpdateStage", { "ApiId": "b2", "StageName": "prod",
                "DefaultRouteSettings": { "throttlingBurstLimit": 50, "loggingLevel": "INFO" } }]]),
            good: json!([{ "defaultRouteSettings": { "throttlingBurstLimit": 50, "loggingLevel": "INFO" } }]),
            undo: json!([["UpdateStage", { "ApiId": "b2", "StageName": "prod",
                "DefaultRouteSettings": { "throttlingBurstLimit": 50, "loggingLevel": "OFF" } }]]),
        },
        Recorded {
            setting: &capacity::TABLE_SCALING,
            arn: TABLE,
            name: "orders",
            parameters: scales(),
            bad: json!([
                { "Table": { "ProvisionedThroughput": { "ReadCapacityUnits": 9, "WriteCapacityUnits": 9 },
                    "GlobalSecondaryIndexes": [{ "IndexName": "by-day", "ProvisionedThroughput": { "ReadCapacityUnits": 1, "WriteCapacityUnits": 1 } }] } },
                { "ScalableTargets": [{ "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:ReadCapacityUnits", "MinCapacity": 9, "MaxCapacity": 90 }], "NextToken": "more" },
                { "ScalableTargets": [
                    { "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:ReadCapacityUnits", "MinCapacity": 1, "MaxCapacity": 2 },
                    { "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:WriteCapacityUnits", "MinCapacity": 1, "MaxCapacity": 2 }] },
                { "ScalingPolicies": [{ "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:ReadCapacityUnits", "PolicyName": "own", "PolicyType": "TargetTrackingScaling" }] },
                { "ScalingPolicies": [{ "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:WriteCapacityUnits", "PolicyName": "own", "PolicyType": "TargetTrackingScaling" }] }]),
            fix: json!([
                ["RegisterScalableTarget", { "ServiceNamespace": "dynamodb", "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:WriteCapacityUnits", "MinCapacity": 7, "MaxCapacity": 200 }],
                ["PutScalingPolicy", { "ServiceNamespace": "dynamodb", "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:WriteCapacityUnits",
                    "PolicyName": "Redress-DynamoDB.1", "PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": {
                        "TargetValue": 60, "PredefinedMetricSpecification": { "PredefinedMetricType": "DynamoDBWriteCapacityUtilization" } } }],
                ["PutScalingPolicy", { "ServiceNamespace": "dynamodb", "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:ReadCapacityUnits",
                    "PolicyName": "Redress-DynamoDB.1", "PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": {
                        "TargetValue": 70, "PredefinedMetricSpecification": { "PredefinedMetricType": "DynamoDBReadCapacityUtilization" } } }]]),
            good: json!([
                { "Table": { "ProvisionedThroughput": { "ReadCapacityUnits": 9, "WriteCapacityUnits": 9 },
                    "GlobalSecondaryIndexes": [{ "IndexName": "by-day", "ProvisionedThroughput": { "ReadCapacityUnits": 1, "WriteCapacityUnits": 1 } }] } },
                { "ScalableTargets": [
                    { "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:ReadCapacityUnits", "MinCapacity": 9, "MaxCapacity": 90 },
                    { "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:WriteCapacityUnits", "MinCapacity": 7, "MaxCapacity": 200 },
                    { "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:ReadCapacityUnits", "MinCapacity": 1, "MaxCapacity": 2 },
                    { "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:WriteCapacityUnits", "MinCapacity": 1, "MaxCapacity": 2 }] },
                { "ScalingPolicies": [
                    { "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:ReadCapacityUnits", "PolicyName": "own", "PolicyType": "TargetTrackingScaling" }], "NextToken": "more" },
                { "ScalingPolicies": [
                    { "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:WriteCapacityUnits", "PolicyName": "Redress-DynamoDB.1", "PolicyType": "TargetTrackingScaling" }] },
                { "ScalingPolicies": [
                    { "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:ReadCapacityUnits", "PolicyName": "Redress-DynamoDB.1", "PolicyType": "TargetTrackingScaling" },
                    { "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:WriteCapacityUnits", "PolicyName": "own", "PolicyType": "TargetTrackingScaling" }] }]),
            undo: json!([
                ["DeregisterScalableTarget", { "ServiceNamespace": "dynamodb", "ResourceId": "table/orders", "ScalableDimension": "dynamodb:table:WriteCapacityUnits" }],
                ["DeleteScalingPolicy", { "ServiceNamespace": "dynamodb", "ResourceId": "table/orders/index/by-day", "ScalableDimension": "dynamodb:index:ReadCapacityUnits", "PolicyName": "Redress-DynamoDB.1" }]]),
        },
        Recorded {
            setting: &contact::SECURITY_CONTACT,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({ "ContactParameter": "/redress/security-contact" }),
            bad: json!([null, { "Parameter": { "Value": r#"{"Name":"Ann","Title":"CISO","EmailAddress":"s@example.com","PhoneNumber":"+1"}"# } }]),
            fix: json!([["PutAlternateContact", { "AlternateContactType": "SECURITY", "Name": "Ann", "Title": "CISO",
                "EmailAddress": "s@example.com", "PhoneNumber": "+1" }]]),
            good: json!([{ "AlternateContact": { "Name": "Bob" } }]),
            undo: json!([["DeleteAlternateContact", { "AlternateContactType": "SECURITY" }]]),
        },
        Recorded {
            setting: &containers::CLUSTER_AUDIT_LOG,
            arn: "arn:aws:eks:eu-central-1:111122223333:cluster/shop",
            name: "shop",
            parameters: json!({}),
            bad: json!([{ "cluster": { "status": "ACTIVE", "logging": { "clusterLogging": [
                { "types": ["api"], "enabled": true }, { "types": ["audit", "scheduler"], "enabled": false }] } } }]),
            fix: json!([["UpdateClusterConfig", { "Name": "shop", "Logging": { "clusterLogging": [{ "types": ["audit"], "enabled": true }] } }]]),
            good: json!([{ "cluster": { "logging": { "clusterLogging": [{ "types": ["audit", "api"], "enabled": true }] } } }]),
            undo: json!([["UpdateClusterConfig", { "Name": "shop", "Logging": { "clusterLogging": [{ "types": ["audit"], "enabled": false }] } }]]),
        },
        Recorded {
            setting: &containers::READONLY_FILESYSTEMS,
            arn: "arn:aws:ecs:eu-central-1:111122223333:task-definition/web:7",
            name: "web:7",
            parameters: json!({}),
            bad: definition(
                7,
                json!([{ "name": "app", "cpu": 0 }, { "name": "proxy", "readonlyRootFilesystem": true }]),
            ),
            fix: json!([["RegisterTaskDefinition", { "family": "web", "networkMode": "awsvpc", "memory": "512",
                "containerDefinitions": [{ "name": "app", "cpu": 0, "readonlyRootFilesystem": true }, { "name": "proxy", "readonlyRootFilesystem": true }],
                "tags": [{ "key": "Team", "value": "web" }] }]]),
            good: definition(8, json!([{ "name": "app", "readonlyRootFilesystem": true }])),
            undo: json!([["DeregisterTaskDefinition", { "taskDefinition": "arn:aws:ecs:eu-central-1:111122223333:task-definition/web:8" }]]),
        },
        Recorded {
            setting: &containers::CLUSTER_INSIGHTS,
            arn: CLUSTER,
            name: "shop",
            parameters: json!({}),
            bad: insights("disabled"),
            fix: json!([["UpdateClusterSettings", { "cluster": CLUSTER, "settings": [{ "name": "containerInsights", "value": "enabled" }] }]]),
            good: insights("enhanced"),
            undo: json!([["UpdateClusterSettings", { "cluster": CLUSTER, "settings": [{ "name": "containerInsights", "value": "disabled" }] }]]),
        },
        Recorded {
            setting: &containers::REPOSITORY_IMMUTABILITY,
            arn: "arn:aws:ecr:eu-central-1:111122223333:repository/team/web",
            name: "team/web",
            parameters: json!({}),
            bad: json!([{ "repositories": [{ "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
                "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "v*" }] }] }]),
            fix: json!([["PutImageTagMutability", { "repositoryName": "team/web", "imageTagMutability": "IMMUTABLE" }]]),
            good: json!([{ "repositories": [{ "imageTagMutability": "IMMUTABLE" }] }]),
            undo: json!([["PutImageTagMutability", { "repositoryName": "team/web", "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
                "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "v*" }] }]]),
        },
        Recorded {
            setting: &containers::BUILD_PRIVILEGED_MODE,
            arn: "arn:aws:codebuild:eu-central-1:111122223333:project/web",
            name: "web",
            parameters: json!({}),
            bad: json!([{ "projects": [{ "environment": { "image": "i", "privilegedMode": true, "certificate": "b/c" } }] }]),
            fix: json!([["UpdateProject", { "name": "web", "environment": { "image": "i", "privilegedMode": false, "certificate": "b/c" } }]]),
            good: json!([{ "projects": [{ "environment": { "image": "i", "privilegedMode": false, "certificate": "b/c" } }] }]),
            undo: json!([["UpdateProject", { "name": "web", "environment": { "image": "i", "privilegedMode": true, "certificate": "b/c" } }]]),
        },
        Recorded {
            setting: &documents::DOCUMENT_SHARING,
            arn: "arn:aws:ssm:eu-central-1:111122223333:document/Patch",
            name: "Patch",
            parameters: json!({}),
            bad: json!([{ "AccountIds": ["all", "444455556666"], "AccountSharingInfoList": [
                { "AccountId": "444455556666", "SharedDocumentVersion": "1" }, { "AccountId": "all", "SharedDocumentVersion": "$DEFAULT" }] }]),
            fix: json!([["ModifyDocumentPermission", { "Name": "Patch", "PermissionType": "Share", "AccountIdsToRemove": ["all"] }]]),
            good: json!([{ "AccountIds": ["444455556666"] }]),
            undo: json!([["ModifyDocumentPermission", { "Name": "Patch", "PermissionType": "Share", "AccountIdsToAdd": ["all"],
                "SharedDocumentVersion": "$DEFAULT" }]]),
        },
        Recorded {
            setting: &logging::LOG_GROUP_RETENTION,
            arn: "arn:aws:logs:eu-central-1:111122223333:log-group:/app/orders:*",
            name: "/app/orders:*",
            parameters: json!({ "RetentionInDays": 365 }),
            bad: json!([{ "logGroups": [{ "logGroupName": "/app/orders", "retentionInDays": 7 }, { "logGroupName": "/app/orders-2" }] }]),
            fix: json!([["PutRetentionPolicy", { "logGroupName": "/app/orders", "retentionInDays": 365 }]]),
            good: json!([{ "logGroups": [{ "logGroupName": "/app/orders" }, { "logGroupName": "/app/orders-2", "retentionInDays": 1 }] }]),
            undo: json!([["PutRetentionPolicy", { "logGroupName": "/app/orders", "retentionInDays": 7 }]]),
        },
        Recorded {
            setting: &logging::STATE_MACHINE_LOGGING,
            arn: MACHINE,
            name: "orders",
            parameters: json!({ "Level": "ERROR" }),
            bad: json!([{ "loggingConfiguration": off }, { "logGroups": [] }]),
            fix: json!([["CreateLogGroup", { "logGroupName": group }],
                ["UpdateStateMachine", { "stateMachineArn": MACHINE, "loggingConfiguration": logging }]]),
            good: json!([{ "loggingConfiguration": logging }, { "logGroups": [{ "logGroupName": group }] }]),
            undo: json!([["UpdateStateMachine", { "stateMachineArn": MACHINE, "loggingConfiguration": off }],
                ["DeleteLogGroup", { "logGroupName": group }]]),
        },
        Recorded {
            setting: &ec2::PUBLIC_SNAPSHOTS,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({}),
            bad: json!([{ "snapshotSet": [{ "snapshotId": "snap-2" }], "nextToken": "more" }, { "snapshotSet": [{ "snapshotId": "snap-1" }], "nextToken": null }]),
            fix: json!([["ModifySnapshotAttribute", { "SnapshotId": "snap-1", "Attribute": "createVolumePermission", "OperationType": "remove", "UserGroup": ["all"] }],
                ["ModifySnapshotAttribute", { "SnapshotId": "snap-2", "Attribute": "createVolumePermission", "OperationType": "remove", "UserGroup": ["all"] }]]),
            good: json!([{ "snapshotSet": null }]),
            undo: json!([["ModifySnapshotAttribute", { "SnapshotId": "snap-1", "Attribute": "createVolumePermission", "OperationType": "add", "UserGroup": ["all"] }],
                ["ModifySnapshotAttribute", { "SnapshotId": "snap-2", "Attribute": "createVolumePermission", "OperationType": "add", "UserGroup": ["all"] }]]),
        },
        Recorded {
            setting: &ec2::PUBLIC_SNAPSHOTS,
            arn: "arn:aws:ec2:eu-central-1:111122223333:snapshot/snap-2",
            name: "snap-2",
            parameters: json!({}),
            bad: json!([{ "snapshotSet": [{ "snapshotId": "snap-2" }] }, { "snapshotSet": [{ "snapshotId": "snap-1" }, { "snapshotId": "snap-2" }] }]),
            fix: json!([["ModifySnapshotAttribute", { "SnapshotId": "snap-2", "Attribute": "createVolumePermission", "OperationType": "remove", "UserGroup": ["all"] }]]),
            good: json!([{ "snapshotSet": [{ "snapshotId": "snap-2" }] }, { "snapshotSet": null }]),
            undo: json!([["ModifySnapshotAttribute", { "SnapshotId": "snap-2", "Attribute": "createVolumePermission", "OperationType": "add", "UserGroup": ["all"] }]]),
        },
        Recorded {
            setting: &ec2::SNAPSHOT_SHARING,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({}),
            bad: json!([{ "state": "block-new-sharing" }]),
            fix: json!([["EnableSnapshotBlockPublicAccess", { "State": "block-all-sharing" }]]),
            good: json!([{ "state": "block-all-sharing" }]),
            undo: json!([["EnableSnapshotBlockPublicAccess", { "State": "block-new-sharing" }]]),
        },
        Recorded {
            setting: &ec2::TEMPLATE_TOKENS,
            arn: TEMPLATE,
            name: "lt-1",
            parameters: json!({}),
            bad: template(
                "3",
                json!({ "metadataOptions": { "state": "pending", "httpTokens": "optional", "httpPutResponseHopLimit": "2", "httpEndpoint": "enabled" } }),
            ),
            fix: json!([["CreateLaunchTemplateVersion", { "LaunchTemplateId": "lt-1", "SourceVersion": "3", "LaunchTemplateData": {
                    "MetadataOptions": { "HttpTokens": "required", "HttpPutResponseHopLimit": "2", "HttpEndpoint": "enabled" } } }],
                ["ModifyLaunchTemplate", { "LaunchTemplateId": "lt-1", "SetDefaultVersion": "answer:/launchTemplateVersion/versionNumber" }]]),
            good: template("4", json!({ "metadataOptions": { "httpTokens": "required" } })),
            undo: json!([["ModifyLaunchTemplate", { "LaunchTemplateId": "lt-1", "SetDefaultVersion": "3" }]]),
        },
        Recorded {
            setting: &ec2::TEMPLATE_PUBLIC_ADDRESS,
            arn: TEMPLATE,
            name: "lt-1",
            parameters: json!({}),
            bad: template(
                "3",
                json!({ "networkInterfaceSet": [
                { "deviceIndex": "0", "associatePublicIpAddress": "true", "groupSet": ["sg-1", "sg-2"], "ipv6AddressesSet": [{ "ipv6Address": "::1" }] },
                { "deviceIndex": "1", "subnetId": "subnet-1" }] }),
            ),
            fix: json!([["CreateLaunchTemplateVersion", { "LaunchTemplateId": "lt-1", "SourceVersion": "3", "LaunchTemplateData": { "NetworkInterface": [
                    { "DeviceIndex": "0", "AssociatePublicIpAddress": "false", "SecurityGroupId": ["sg-1", "sg-2"], "Ipv6Addresses": [{ "Ipv6Address": "::1" }] },
                    { "DeviceIndex": "1", "SubnetId": "subnet-1" }] } }],
                ["ModifyLaunchTemplate", { "LaunchTemplateId": "lt-1", "SetDefaultVersion": "answer:/launchTemplateVersion/versionNumber" }]]),
            good: template(
                "4",
                json!({ "networkInterfaceSet": [{ "deviceIndex": "0", "associatePublicIpAddress": "false" }] }),
            ),
            undo: json!([["ModifyLaunchTemplate", { "LaunchTemplateId": "lt-1", "SetDefaultVersion": "3" }]]),
        },
        Recorded {
            setting: &parameter_group::POSTGRES_TLS,
            arn: DATABASE,
            name: "orders",
            parameters: json!({}),
            bad: json!([
                { "DBInstances": { "DBInstance": { "DBInstanceIdentifier": "other", "DBParameterGroups": { "DBParameterGroup": { "DBParameterGroupName": "theirs" } } } }, "Marker": "more" },
                { "DBInstances": { "DBInstance": [{ "DBInstanceIdentifier": "orders", "Engine": "postgres", "DBParameterGroups": { "DBParameterGroup": { "DBParameterGroupName": "own" } } },
                    { "DBInstanceIdentifier": "orders-2", "DBParameterGroups": null }] } },
                { "Parameters": { "Parameter": [{ "ParameterName": "work_mem" }, { "ParameterName": "autovacuum" }] }, "Marker": "more" },
                { "Parameters": { "Parameter": { "ParameterName": "rds.force_ssl", "ParameterValue": "0", "Source": "system", "ApplyType": "dynamic" } }, "Marker": "not asked for" }]),
            fix: json!([["ModifyDBParameterGroup", { "DBParameterGroupName": "own", "Parameters": { "Parameter": [
                { "ParameterName": "rds.force_ssl", "ParameterValue": "1", "ApplyMethod": "immediate" }] } }]]),
            good: json!([
                { "DBInstances": { "DBInstance": { "DBInstanceIdentifier": "orders", "Engine": "postgres", "DBParameterGroups": { "DBParameterGroup": { "DBParameterGroupName": "own" } } } } },
                { "Parameters": { "Parameter": { "ParameterName": "rds.force_ssl", "ParameterValue": "1", "Source": "user", "ApplyType": "dynamic" } } }]),
            undo: json!([["ResetDBParameterGroup", { "DBParameterGroupName": "own", "ResetAllParameters": false, "Parameters": { "Parameter": [
                { "ParameterName": "rds.force_ssl", "ApplyMethod": "immediate" }] } }]]),
        },
        Recorded {
            setting: &parameter_group::REDSHIFT_TLS,
            arn: "arn:aws:redshift:eu-central-1:111122223333:cluster:figures",
            name: "figures",
            parameters: json!({}),
            bad: json!([
                { "Clusters": { "Cluster": { "ClusterIdentifier": "figures", "ClusterParameterGroups": { "ClusterParameterGroup": { "ParameterGroupName": "own" } } } } },
                { "Parameters": { "Parameter": { "ParameterName": "require_ssl", "ParameterValue": "false", "Source": "user", "ApplyType": "static" } } }]),
            fix: json!([["ModifyClusterParameterGroup", { "ParameterGroupName": "own", "Parameters": { "Parameter": [
                { "ParameterName": "require_ssl", "ParameterValue": "true" }] } }]]),
            good: json!([
                { "Clusters": { "Cluster": { "ClusterIdentifier": "figures", "ClusterParameterGroups": { "ClusterParameterGroup": { "ParameterGroupName": "own" } } } } },
                { "Parameters": { "Parameter": { "ParameterName": "require_ssl", "ParameterValue": "true", "Source": "user", "ApplyType": "static" } } }]),
            undo: json!([["ModifyClusterParameterGroup", { "ParameterGroupName": "own", "Parameters": { "Parameter": [
                { "ParameterName": "require_ssl", "ParameterValue": "false" }] } }]]),
        },
        Recorded {
            setting: &rds::ENHANCED_MONITORING,
            arn: DATABASE,
            name: "orders",
            parameters: json!({ "RoleName": "Redress-RdsMonitoring", "Seconds": 60 }),
            bad: json!([{ "DBInstances": { "DBInstance": { "MonitoringInterval": "0" } } }]),
            fix: json!([["ModifyDBInstance", { "DBInstanceIdentifier": "orders", "MonitoringInterval": 60,
                "MonitoringRoleArn": "arn:aws:iam::111122223333:role/Redress-RdsMonitoring" }]]),
            good: json!([{ "DBInstances": { "DBInstance": { "MonitoringInterval": "5", "MonitoringRoleArn": "r" } } }]),
            undo: json!([["ModifyDBInstance", { "DBInstanceIdentifier": "orders", "MonitoringInterval": 0 }]]),
        },
        Recorded {
            setting: &rds::LOG_EXPORTS,
            arn: DATABASE,
            name: "orders",
            parameters: json!({}),
            bad: json!([{ "DBInstances": { "DBInstance": { "Engine": "oracle-se2-cdb", "EnabledCloudwatchLogsExports": ["oemagent", "trace"] } } }]),
            fix: json!([["ModifyDBInstance", { "DBInstanceIdentifier": "orders", "CloudwatchLogsExportConfiguration": {
                "EnableLogTypes": { "member": ["alert", "audit", "listener"] } } }]]),
            good: json!([{ "DBInstances": { "DBInstance": { "Engine": "oracle-se2-cdb",
                "EnabledCloudwatchLogsExports": ["trace", "oemagent", "listener", "audit", "alert"] } } }]),
            undo: json!([["ModifyDBInstance", { "DBInstanceIdentifier": "orders", "CloudwatchLogsExportConfiguration": {
                "DisableLogTypes": { "member": ["alert", "audit", "listener"] } } }]]),
        },
        Recorded {
            setting: &rds::SNAPSHOT_SHARING,
            arn: "arn:aws:rds:eu-central-1:111122223333:snapshot:nightly",
            name: "nightly",
            parameters: json!({}),
            bad: json!([{ "DBSnapshotAttributesResult": { "DBSnapshotAttributes": { "DBSnapshotAttribute": [
                { "AttributeName": "other", "AttributeValues": null },
                { "AttributeName": "restore", "AttributeValues": { "AttributeValue": ["444455556666", "all"] } }] } } }]),
            fix: json!([["ModifyDBSnapshotAttribute", { "DBSnapshotIdentifier": "nightly", "AttributeName": "restore", "ValuesToRemove": { "AttributeValue": ["all"] } }]]),
            good: json!([{ "DBSnapshotAttributesResult": { "DBSnapshotAttributes": { "DBSnapshotAttribute":
                { "AttributeName": "restore", "AttributeValues": { "AttributeValue": "444455556666" } } } } }]),
            undo: json!([["ModifyDBSnapshotAttribute", { "DBSnapshotIdentifier": "nightly", "AttributeName": "restore", "ValuesToAdd": { "AttributeValue": ["all"] } }]]),
        },
        Recorded {
            setting: &rds::SNAPSHOT_SHARING,
            arn: "arn:aws:rds:eu-central-1:111122223333:cluster-snapshot:nightly",
            name: "nightly",
            parameters: json!({}),
            bad: json!([{ "DBClusterSnapshotAttributesResult": { "DBClusterSnapshotAttributes": { "DBClusterSnapshotAttribute":
                { "AttributeName": "restore", "AttributeValues": { "AttributeValue": "all" } } } } }]),
            fix: json!([["ModifyDBClusterSnapshotAttribute", { "DBClusterSnapshotIdentifier": "nightly", "AttributeName": "restore", "ValuesToRemove": { "AttributeValue": ["all"] } }]]),
            good: json!([{ "DBClusterSnapshotAttributesResult": { "DBClusterSnapshotAttributes": { "DBClusterSnapshotAttribute":
                { "AttributeName": "restore", "AttributeValues": null } } } }]),
            undo: json!([["ModifyDBClusterSnapshotAttribute", { "DBClusterSnapshotIdentifier": "nightly", "AttributeName": "restore", "ValuesToAdd": { "AttributeValue": ["all"] } }]]),
        },
        Recorded {
            setting: &redshift::AUDIT_LOGGING,
            arn: "arn:aws:redshift:eu-central-1:111122223333:cluster:figures",
            name: "figures",
            parameters: json!({ "BucketName": "audit-logs" }),
            bad: json!([{ "LoggingEnabled": "false", "BucketName": "a former one" }]),
            fix: json!([["EnableLogging", { "ClusterIdentifier": "figures", "LogDestinationType": "s3", "BucketName": "audit-logs", "S3KeyPrefix": "figures/" }]]),
            good: json!([{ "LoggingEnabled": "true", "BucketName": "another", "LastFailureMessage": "x" }]),
            undo: json!([["DisableLogging", { "ClusterIdentifier": "figures" }]]),
        },
        Recorded {
            setting: &scaling::GROUP_HEALTH_CHECK,
            arn: "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:1:autoScalingGroupName/team/web",
            name: "1:autoScalingGroupName/team/web",
            parameters: json!({ "GracePeriod": 300 }),
            bad: json!([{ "AutoScalingGroups": [{ "TargetGroupARNs": ["tg"], "LoadBalancerNames": null, "HealthCheckType": "EC2,EBS", "HealthCheckGracePeriod": "600" }] }]),
            fix: json!([["UpdateAutoScalingGroup", { "AutoScalingGroupName": "team/web", "HealthCheckType": "ELB,EBS", "HealthCheckGracePeriod": 600 }]]),
            good: json!([{ "AutoScalingGroups": [{ "TargetGroupARNs": null, "LoadBalancerNames": null, "HealthCheckType": "EC2", "HealthCheckGracePeriod": "0" }] }]),
            undo: json!([["UpdateAutoScalingGroup", { "AutoScalingGroupName": "team/web", "HealthCheckType": "EC2,EBS", "HealthCheckGracePeriod": 600 }]]),
        },
        Recorded {
            setting: &builds::BUILD_CREDENTIALS,
            arn: PROJECT,
            name: "web",
            parameters: json!({ "PolicyName": "Reads" }),
            bad: json!([{ "projects": [{ "serviceRole": "arn:aws:iam::111122223333:role/p/build", "environment": { "image": "i",
                "environmentVariables": [{ "name": "AWS_SECRET_ACCESS_KEY", "value": "s3cr3t" }, { "name": "STAGE", "value": "prod", "type": "PLAINTEXT" }] } }] },
                null, null, { "AttachedPolicies": [{ "PolicyArn": "arn:other" }], "Marker": "m" }, { "AttachedPolicies": null, "Marker": null }]),
            fix: json!([
                ["PutParameter", { "Name": "/CodeBuild/redress/web/AWS_SECRET_ACCESS_KEY", "Type": "SecureString",
                    "Value": "seen:/0/projects/0/environment/environmentVariables/0/value",
                    "Tags": [{ "Key": "redress-reader", "Value": "arn:aws:iam::111122223333:role/p/build" }] }],
                ["AttachRolePolicy", { "RoleName": "build", "PolicyArn": "arn:aws:iam::111122223333:policy/Reads" }],
                ["UpdateProject", { "name": "web", "environment": { "image": "i", "environmentVariables": [
                    { "name": "AWS_SECRET_ACCESS_KEY", "value": "/CodeBuild/redress/web/AWS_SECRET_ACCESS_KEY", "type": "PARAMETER_STORE" },
                    { "name": "STAGE", "value": "seen:/0/projects/0/environment/environmentVariables/1/value", "type": "PLAINTEXT" }] } }]]),
            good: json!([{ "projects": [{ "serviceRole": "arn:aws:iam::111122223333:role/p/build", "environment": { "image": "i",
                "environmentVariables": [{ "name": "AWS_SECRET_ACCESS_KEY", "value": "/x", "type": "PARAMETER_STORE" }, { "name": "STAGE", "value": "prod", "type": "PLAINTEXT" }] } }] },
                null, { "Parameter": { "Value": "s3cr3t" } }, { "AttachedPolicies": [{ "PolicyArn": "arn:aws:iam::111122223333:policy/Reads" }] }]),
            undo: json!([
                ["UpdateProject", { "name": "web", "environment": { "image": "i", "environmentVariables": [
                    { "name": "AWS_SECRET_ACCESS_KEY", "value": "seen:/2/Parameter/Value" },
                    { "name": "STAGE", "value": "seen:/0/projects/0/environment/environmentVariables/1/value", "type": "PLAINTEXT" }] } }],
                ["DeleteParameter", { "Name": "/CodeBuild/redress/web/AWS_SECRET_ACCESS_KEY" }],
                ["DetachRolePolicy", { "RoleName": "build", "PolicyArn": "arn:aws:iam::111122223333:policy/Reads" }]]),
        },
        Recorded {
            setting: &certificates::CERTIFICATE_RENEWAL,
            arn: CERTIFICATE,
            name: "12-34",
            parameters: json!({ "DaysToExpiration": 30 }),
            bad: certificate(json!({ "Type": "PRIVATE", "NotAfter": in_days(20) })),
            fix: json!([["RenewCertificate", { "CertificateArn": CERTIFICATE }]]),
            good: certificate(
                json!({ "Type": "PRIVATE", "NotAfter": in_days(20), "RenewalSummary": { "RenewalStatus": "PENDING_AUTO_RENEWAL" } }),
            ),
            undo: Value::Null,
        },
        Recorded {
            setting: &certificates::CERTIFICATE_RENEWAL,
            arn: CERTIFICATE,
            name: "12-34",
            parameters: json!({ "DaysToExpiration": 30 }),
            bad: certificate(
                json!({ "Type": "AMAZON_ISSUED", "NotAfter": in_days(20), "Options": { "Export": "ENABLED" },
                "RenewalSummary": { "RenewalStatus": "FAILED" } }),
            ),
            fix: json!([["RenewCertificate", { "CertificateArn": CERTIFICATE }]]),
            good: certificate(
                json!({ "Type": "IMPORTED", "NotAfter": in_days(31), "RenewalEligibility": "INELIGIBLE" }),
            ),
            undo: Value::Null,
        },
        Recorded {
            setting: &instances::INSTANCE_MANAGEMENT,
            arn: "arn:aws:ec2:eu-central-1:111122223333:instance/i-1",
            name: "i-1",
            parameters: json!({ "InstanceProfileName": "Managed" }),
            bad: json!([instance(), association("associated"), { "InstanceProfile": { "Roles": [{ "RoleName": "web" }] } },
                { "AttachedPolicies": [{ "PolicyArn": "arn:other" }], "IsTruncated": "true", "Marker": "m" }, { "AttachedPolicies": null, "IsTruncated": "false" }]),
            fix: json!([["AttachRolePolicy", { "RoleName": "web", "PolicyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }]]),
            good: json!([instance(), association("associated"), { "InstanceProfile": { "Roles": [{ "RoleName": "web" }] } },
                { "AttachedPolicies": [{ "PolicyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }] }]),
            undo: json!([["DetachRolePolicy", { "RoleName": "web", "PolicyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }]]),
        },
        Recorded {
            setting: &instances::INSTANCE_MANAGEMENT,
            arn: "arn:aws:ec2:eu-central-1:111122223333:instance/i-1",
            name: "i-1",
            parameters: json!({ "InstanceProfileName": "Managed" }),
            bad: json!([instance(), association("disassociating")]),
            fix: json!([["AssociateIamInstanceProfile", { "InstanceId": "i-1", "IamInstanceProfile": { "Name": "Managed" } }]]),
            good: json!([instance(), association("associating"), { "InstanceProfile": { "Roles": [{ "RoleName": "managed" }] } },
                { "AttachedPolicies": [{ "PolicyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }] }]),
            undo: json!([["DisassociateIamInstanceProfile", { "AssociationId": "iip-1" }]]),
        },
        Recorded {
            setting: &caches::CACHE_BACKUPS,
            arn: "arn:aws:elasticache:eu-central-1:111122223333:replicationgroup:sessions",
            name: "sessions",
            parameters: json!({ "Days": 2 }),
            bad: json!([{ "ReplicationGroups": { "ReplicationGroup": { "ReplicationGroupId": "sessions", "Engine": "redis", "SnapshotRetentionLimit": "1" } } }]),
            fix: json!([["ModifyReplicationGroup", { "ReplicationGroupId": "sessions", "SnapshotRetentionLimit": 2, "ApplyImmediately": true }]]),
            good: json!([{ "ReplicationGroups": { "ReplicationGroup": { "ReplicationGroupId": "sessions", "Engine": "redis", "SnapshotRetentionLimit": "35" } } }]),
            undo: json!([["ModifyReplicationGroup", { "ReplicationGroupId": "sessions", "SnapshotRetentionLimit": 1, "ApplyImmediately": true }]]),
        },
        Recorded {
            setting: &caches::CACHE_BACKUPS,
            arn: "arn:aws:elasticache:eu-central-1:111122223333:cluster:single",
            name: "single",
            parameters: json!({ "Days": 1 }),
            bad: json!([{ "CacheClusters": { "CacheCluster": { "CacheClusterId": "single", "Engine": "redis", "SnapshotRetentionLimit": "0" } } }]),
            fix: json!([["ModifyCacheCluster", { "CacheClusterId": "single", "SnapshotRetentionLimit": 1, "ApplyImmediately": true }]]),
            good: json!([{ "CacheClusters": { "CacheCluster": { "CacheClusterId": "single", "Engine": "redis", "SnapshotRetentionLimit": "1" } } }]),
            undo: json!([["ModifyCacheCluster", { "CacheClusterId": "single", "SnapshotRetentionLimit": 0, "ApplyImmediately": true }]]),
        },
        Recorded {
            setting: &network::VPC_FLOW_LOGS,
            arn: VPC,
            name: "vpc-1",
            parameters: json!({ "KmsKeyId": "alias/k", "RetentionInDays": 365, "RoleName": "Deliver" }),
            bad: json!([{ "vpcSet": [{ "vpcId": "vpc-1" }] }, { "flowLogSet": [{ "flowLogId": "fl-0", "flowLogStatus": "ACTIVE", "trafficType": "ACCEPT" }] },
                { "logGroups": [{ "logGroupName": "/redress/vpc-flow-logs/vpc-12" }] }, { "KeyMetadata": { "Arn": "arn:key" } }]),
            fix: json!([["CreateLogGroup", { "logGroupName": "/redress/vpc-flow-logs/vpc-1", "kmsKeyId": "arn:key" }],
                ["PutRetentionPolicy", { "logGroupName": "/redress/vpc-flow-logs/vpc-1", "retentionInDays": 365 }],
                ["CreateFlowLogs", { "ResourceType": "VPC", "ResourceId": ["vpc-1"], "TrafficType": "ALL", "LogDestinationType": "cloud-watch-logs",
                    "LogGroupName": "/redress/vpc-flow-logs/vpc-1", "DeliverLogsPermissionArn": "arn:aws:iam::111122223333:role/Deliver" }]]),
            good: json!([{ "vpcSet": [{ "vpcId": "vpc-1" }] }, { "flowLogSet": [{ "flowLogId": "fl-1", "flowLogStatus": "ACTIVE", "trafficType": "ALL" }] },
                { "logGroups": [{ "logGroupName": "/redress/vpc-flow-logs/vpc-1" }] }]),
            undo: json!([["DeleteFlowLogs", { "FlowLogId": ["fl-1"] }], ["DeleteLogGroup", { "logGroupName": "/redress/vpc-flow-logs/vpc-1" }]]),
        },
        Recorded {
            setting: &network::SUBNET_ADDRESSES,
            arn: SUBNET,
            name: "subnet-1",
            parameters: json!({}),
            bad: subnet("true", "true", "false"),
            fix: json!([gives("MapPublicIpOnLaunch", false), gives("AssignIpv6AddressOnCreation", false)]),
            good: subnet("false", "false", "false"),
            undo: json!([gives("MapPublicIpOnLaunch", true), gives("AssignIpv6AddressOnCreation", true)]),
        },
        Recorded {
            setting: &network::SUBNET_ADDRESSES,
            arn: SUBNET,
            name: "subnet-1",
            parameters: json!({}),
            bad: subnet("false", "true", "false"),
            fix: json!([gives("AssignIpv6AddressOnCreation", false)]),
            good: subnet("false", "false", "false"),
            undo: json!([gives("AssignIpv6AddressOnCreation", true)]),
        },
        Recorded {
            setting: &network::EC2_ENDPOINT,
            arn: VPC,
            name: "vpc-1",
            parameters: json!({}),
            bad: json!([vpc(), { "vpcEndpointSet": [{ "vpcEndpointId": "vpce-0", "state": "deleting" }] }, { "securityGroupInfo": null },
                { "enableDnsSupport": { "value": "true" } }, { "enableDnsHostnames": { "value": "true" } },
                { "serviceDetailSet": [{ "availabilityZoneSet": ["eu-central-1a", "eu-central-1b"] }] }, subnets()]),
            fix: json!([["CreateSecurityGroup", { "GroupName": "redress-ec2-endpoint", "GroupDescription": "Endpoint of the EC2 API, for this VPC only", "VpcId": "vpc-1" }],
                ["AuthorizeSecurityGroupIngress", { "GroupId": "answer:/groupId", "IpPermissions": [{ "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443,
                    "IpRanges": [{ "CidrIp": "10.0.0.0/16", "Description": "this VPC" }], "Ipv6Ranges": [{ "CidrIpv6": "fd00::/56", "Description": "this VPC" }] }] }],
                ["CreateVpcEndpoint", { "VpcEndpointType": "Interface", "VpcId": "vpc-1", "ServiceName": "com.amazonaws.eu-central-1.ec2", "SubnetId": ["subnet-2", "subnet-3"],
                    "SecurityGroupId": ["answer:/securityGroupRuleSet/0/groupId"], "PrivateDnsEnabled": true }]]),
            good: json!([vpc(), { "vpcEndpointSet": [{ "vpcEndpointId": "vpce-1", "state": "pending" }] },
                { "securityGroupInfo": [{ "groupId": "sg-1", "ipPermissions": [{ "fromPort": "443" }] }] }]),
            undo: json!([["DeleteVpcEndpoints", { "VpcEndpointId": ["vpce-1"] }], ["DeleteSecurityGroup", { "GroupId": "sg-1" }]]),
        },
        Recorded {
            setting: &scaling::LAUNCH_TOKENS,
            arn: LAUNCH,
            name: "1:launchConfigurationName/web",
            parameters: json!({}),
            bad: json!([configuration(json!({ "UserData": "c2VjcmV0", "IamInstanceProfile": "p", "MetadataOptions": { "HttpPutResponseHopLimit": "2" } })),
                { "LaunchConfigurations": null },
                { "AutoScalingGroups": [{ "AutoScalingGroupName": "b", "LaunchConfigurationName": "web" }], "NextToken": "more" },
                { "AutoScalingGroups": [{ "AutoScalingGroupName": "a", "LaunchConfigurationName": "web" }, { "AutoScalingGroupName": "c", "LaunchConfigurationName": "web-2" }] }]),
            fix: json!([["CreateLaunchConfiguration", { "LaunchConfigurationName": "web-redress-imdsv2", "ImageId": "ami-1", "IamInstanceProfile": "p",
                    "UserData": "seen:/0/LaunchConfigurations/0/UserData", "MetadataOptions": { "HttpPutResponseHopLimit": "2", "HttpTokens": "required" } }],
                ["UpdateAutoScalingGroup", { "AutoScalingGroupName": "a", "LaunchConfigurationName": "web-redress-imdsv2" }],
                ["UpdateAutoScalingGroup", { "AutoScalingGroupName": "b", "LaunchConfigurationName": "web-redress-imdsv2" }]]),
            good: json!([configuration(json!({})), configuration(json!({})),
                { "AutoScalingGroups": [{ "AutoScalingGroupName": "b", "LaunchConfigurationName": "web-redress-imdsv2" }, { "AutoScalingGroupName": "a", "LaunchConfigurationName": "web-redress-imdsv2" }] }]),
            undo: json!([["UpdateAutoScalingGroup", { "AutoScalingGroupName": "a", "LaunchConfigurationName": "web" }],
                ["UpdateAutoScalingGroup", { "AutoScalingGroupName": "b", "LaunchConfigurationName": "web" }],
                ["DeleteLaunchConfiguration", { "LaunchConfigurationName": "web-redress-imdsv2" }]]),
        },
        Recorded {
            setting: &scaling::LAUNCH_PUBLIC_ADDRESS,
            arn: LAUNCH,
            name: "1:launchConfigurationName/web",
            parameters: json!({}),
            bad: json!([configuration(json!({ "AssociatePublicIpAddress": "true" })), configuration(json!({ "AssociatePublicIpAddress": "false" })),
                { "AutoScalingGroups": [{ "AutoScalingGroupName": "a", "LaunchConfigurationName": "web" }] }]),
            fix: json!([["UpdateAutoScalingGroup", { "AutoScalingGroupName": "a", "LaunchConfigurationName": "web-redress-private" }]]),
            good: json!([configuration(json!({ "AssociatePublicIpAddress": "false" })), configuration(json!({ "AssociatePublicIpAddress": "false" })),
                { "AutoScalingGroups": null }]),
            undo: json!([["UpdateAutoScalingGroup", { "AutoScalingGroupName": "a", "LaunchConfigurationName": "web" }]]),
        },
        Recorded {
            setting: &stacks::STACK_NOTIFICATIONS,
            arn: STACK,
            name: "shop/1-2",
            parameters: json!({ "TopicName": "events" }),
            bad: stack(json!({})),
            fix: json!([["UpdateStack", { "StackName": STACK, "UsePreviousTemplate": true, "NotificationARNs": ["arn:aws:sns:eu-central-1:111122223333:events"],
                "Parameters": [{ "ParameterKey": "Size", "UsePreviousValue": true }], "Capabilities": ["CAPABILITY_IAM"] }]]),
            good: stack(json!({ "NotificationARNs": ["arn:topic"], "StackStatus": "UPDATE_COMPLETE" })),
            undo: json!([["UpdateStack", { "StackName": STACK, "UsePreviousTemplate": true, "NotificationARNs": [],
                "Parameters": [{ "ParameterKey": "Size", "UsePreviousValue": true }], "Capabilities": ["CAPABILITY_IAM"] }]]),
        },
        Recorded {
            setting: &secrets::SECRET_ROTATION,
            arn: SECRET,
            name: "orders-AbCdEf",
            parameters: json!({ "AutomaticallyAfterDays": 30, "RotationLambdaARN": "none" }),
            bad: json!([{ "RotationEnabled": false, "RotationLambdaARN": "arn:f" }]),
            fix: json!([["RotateSecret", { "SecretId": SECRET, "RotationLambdaARN": "arn:f",
                "RotationRules": { "AutomaticallyAfterDays": 30 }, "RotateImmediately": false }]]),
            good: json!([{ "RotationEnabled": true, "RotationLambdaARN": "arn:f", "RotationRules": { "AutomaticallyAfterDays": 7 } }]),
            undo: json!([["CancelRotateSecret", { "SecretId": SECRET }]]),
        },
        Recorded {
            setting: &tags::TABLE_TAGS,
            arn: TABLE,
            name: "orders",
            parameters: json!({ "Keys": ["Owner", "CostCenter"], "Value": "unassigned" }),
            bad: json!([{ "Tags": [{ "Key": "Team", "Value": "x" }], "NextToken": "more" }, { "Tags": [{ "Key": "Owner", "Value": "anna" }] }]),
            fix: json!([["TagResource", { "ResourceArn": TABLE, "Tags": [{ "Key": "CostCenter", "Value": "unassigned" }] }]]),
            good: json!([{ "Tags": [{ "Key": "CostCenter", "Value": "unassigned" }, { "Key": "Owner", "Value": "anna" }] }]),
            undo: json!([["UntagResource", { "ResourceArn": TABLE, "TagKeys": ["CostCenter"] }]]),
        },
        Recorded {
            setting: &tags::DETECTOR_TAGS,
            arn: FILTER,
            name: "12ab/filter/noise",
            parameters: json!({ "Keys": ["Owner"], "Value": "unassigned" }),
            bad: json!([{ "tags": {} }]),
            fix: json!([["TagResource", { "ResourceArn": FILTER, "Tags": { "Owner": "unassigned" } }]]),
            good: json!([{ "tags": { "Owner": "unassigned", "Team": "x" } }]),
            undo: json!([["UntagResource", { "ResourceArn": FILTER, "TagKeys": ["Owner"] }]]),
        },
        Recorded {
            setting: &trail::TRAIL_ENCRYPTION,
            arn: TRAIL,
            name: "audit",
            parameters: json!({ "KmsKeyId": "alias/security-trail" }),
            bad: json!([{ "Trail": { "Name": "audit", "S3BucketName": "b" } }]),
            fix: json!([["UpdateTrail", { "Name": TRAIL, "KmsKeyId": "alias/security-trail" }]]),
            good: json!([{ "Trail": { "Name": "audit", "KmsKeyId": "arn:aws:kms:eu-central-1:111122223333:key/1" } }]),
            undo: json!([["UpdateTrail", { "Name": TRAIL, "KmsKeyId": "" }]]),
        },
    ];
    all.extend(unused());
    all
}

/// What nothing uses.
fn unused() -> Vec<Recorded> {
    let address = |more: Value| {
        let mut address = json!({ "allocationId": "eipalloc-1", "publicIp": "198.51.100.7", "domain": "vpc",
            "networkBorderGroup": "eu-central-1", "instanceId": null, "tagSet": [{ "key": "Team", "value": "web" }] });
        address.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([{ "addressesSet": [address] }])
    };
    let secret = |more: Value| {
        let mut secret = json!({ "ARN": SECRET, "CreatedDate": 1_577_836_800.5, "VersionIdsToStages": {} });
        secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([secret])
    };
    let acl_entry = |number: &str, action: &str, egress: &str| json!({ "ruleNumber": number, "protocol": "-1", "ruleAction": action, "egress": egress, "cidrBlock": "0.0.0.0/0" });
    let acl = json!([{ "networkAclSet": [{
        "networkAclId": "acl-1", "vpcId": "vpc-1", "default": "false", "associationSet": null,
        "entrySet": [
            acl_entry("32767", "deny", "true"),
            acl_entry("32767", "deny", "false"),
            acl_entry("200", "allow", "true"),
            { "ruleNumber": "110", "protocol": "1", "ruleAction": "allow", "egress": "false", "cidrBlock": "10.0.0.0/8",
              "icmpTypeCode": { "code": "-1", "type": "8" } },
            { "ruleNumber": "100", "protocol": "6", "ruleAction": "allow", "egress": "false", "ipv6CidrBlock": "2001:db8::/32",
              "portRange": { "from": "443", "to": "444" } },
        ],
        "tagSet": [{ "key": "Team", "value": "web" }, { "key": "aws:cloudformation:stack-name", "value": "net" }],
    }] }]);
    vec![
        Recorded {
            setting: &unused::UNUSED_NETWORK_ACL,
            arn: ACL,
            name: "acl-1",
            parameters: json!({}),
            bad: acl,
            fix: json!([["DeleteNetworkAcl", { "NetworkAclId": "acl-1" }]]),
            good: json!([null, { "networkAclSet": null }]),
            undo: json!([
                ["CreateNetworkAcl", { "VpcId": "vpc-1", "TagSpecification": [{ "ResourceType": "network-acl", "Tag": [
                    { "Key": "Team", "Value": "web" }, { "Key": "redress:replaces", "Value": "acl-1" }] }] }],
                ["CreateNetworkAclEntry", { "NetworkAclId": "answer:/networkAcl/networkAclId", "RuleNumber": 100, "Egress": false,
                    "Protocol": "6", "RuleAction": "allow", "Ipv6CidrBlock": "2001:db8::/32", "PortRange": { "From": 443, "To": 444 } }],
                ["CreateNetworkAclEntry", { "NetworkAclId": "answer:/networkAcl/networkAclId", "RuleNumber": 110, "Egress": false,
                    "Protocol": "1", "RuleAction": "allow", "CidrBlock": "10.0.0.0/8", "Icmp": { "Code": -1, "Type": 8 } }],
                ["CreateNetworkAclEntry", { "NetworkAclId": "answer:/networkAcl/networkAclId", "RuleNumber": 200, "Egress": true,
                    "Protocol": "-1", "RuleAction": "allow", "CidrBlock": "0.0.0.0/0" }],
            ]),
        },
        Recorded {
            setting: &secrets::UNUSED_SECRET,
            arn: SECRET,
            name: "orders-AbCdEf",
            parameters: json!({ "UnusedForDays": 90 }),
            bad: secret(json!({ "LastAccessedDate": 1_580_000_000.0 })),
            fix: json!([["DeleteSecret", { "SecretId": SECRET, "RecoveryWindowInDays": 30 }]]),
            good: secret(json!({ "LastAccessedDate": 4_102_444_800.0 })),
            undo: json!([["RestoreSecret", { "SecretId": SECRET }]]),
        },
        Recorded {
            setting: &secrets::UNUSED_SECRET,
            arn: SECRET,
            name: "orders-AbCdEf",
            parameters: json!({ "UnusedForDays": 90 }),
            bad: secret(json!({ "LastAccessedDate": null })),
            fix: json!([["DeleteSecret", { "SecretId": SECRET, "RecoveryWindowInDays": 30 }]]),
            good: secret(json!({ "DeletedDate": 4_102_444_800.0 })),
            undo: json!([["RestoreSecret", { "SecretId": SECRET }]]),
        },
        Recorded {
            setting: &unused::UNUSED_ADDRESS,
            arn: ADDRESS,
            name: "eipalloc-1",
            parameters: json!({}),
            bad: address(json!({ "networkBorderGroup": "eu-central-1-wl1" })),
            fix: json!([["ReleaseAddress", { "AllocationId": "eipalloc-1", "NetworkBorderGroup": "eu-central-1-wl1" }]]),
            good: json!([null]),
            undo: Value::Null,
        },
        Recorded {
            setting: &unused::UNUSED_ADDRESS,
            arn: ADDRESS,
            name: "eipalloc-1",
            parameters: json!({}),
            bad: address(json!({})),
            fix: json!([["ReleaseAddress", { "AllocationId": "eipalloc-1" }]]),
            good: address(json!({ "associationId": "eipassoc-1", "networkInterfaceId": "eni-1" })),
            undo: Value::Null,
        },
    ]
}

#[test]
fn each_setting_plans_its_change_and_its_way_back_from_what_aws_answers() {
    for case in recorded().into_iter().chain(logs_tests::recorded()) {
        let (setting, subject) = (case.setting, subject(&case));
        let name = setting.name;
        let bad = state(setting, &subject, &case.bad).unwrap();
        let good = state(setting, &subject, &case.good).unwrap();
        assert_eq!(written((setting.fix)(&subject, &bad)), case.fix, "{name}");
        assert_eq!(written((setting.fix)(&subject, &good)), json!([]), "{name}: what complies is left alone");
        let undo = (setting.undo)(&subject, &good, &bad);
        if case.undo.is_null() {
            assert!(matches!(undo, Err(NativeError::Refused(_))), "{name}: nothing can be had back");
        } else {
            assert_eq!(written(undo), case.undo, "{name}: undo");
        }
    }
}

#[test]
fn every_setting_has_a_recorded_case_and_plans_only_what_it_declares() {
    let cases: Vec<Recorded> = recorded().into_iter().chain(logs_tests::recorded()).collect();
    for setting in SETTINGS {
        let name = setting.name;
        assert!(cases.iter().any(|case| case.setting.name == name), "{name} has no recorded answers");
        let mut natives = super::super::NATIVES.iter().chain(&super::super::DESTROYERS);
        assert!(natives.all(|native| native.name != name), "{name} is a native's name, too");
    }
    for case in cases {
        for calls in [&case.fix, &case.undo] {
            for call in calls.as_array().into_iter().flatten() {
                let known = case.setting.changes.iter().any(|operation| call[0] == operation.name);
                assert!(known, "{}: {call}", case.setting.name);
            }
        }
    }
}

#[test]
fn what_lists_no_resource_says_that_there_is_none() {
    let none = |setting: &'static Setting, answers: Value| {
        let cases = recorded();
        let case = cases.iter().find(|case| case.setting.name == setting.name).unwrap();
        assert_eq!(state(setting, &subject(case), &answers), None, "{}", setting.name);
    };
    none(&containers::CLUSTER_INSIGHTS, json!([{ "clusters": [], "failures": [{ "reason": "MISSING" }] }]));
    none(&containers::CLUSTER_INSIGHTS, json!([{ "clusters": [{ "status": "INACTIVE" }] }]));
    none(&containers::BUILD_PRIVILEGED_MODE, json!([{ "projects": [], "projectsNotFound": ["web"] }]));
    none(&logging::LOG_GROUP_RETENTION, json!([{ "logGroups": [{ "logGroupName": "/app/orders-2" }] }]));
}

#[test]
fn a_stage_that_is_none_is_refused() {
    let mut case = recorded().into_iter().find(|case| case.setting.name == "api_stage_tracing").unwrap();
    case.arn = "arn:aws:apigateway:eu-central-1::/restapis/a1";
    let refused = (case.setting.fix)(&subject(&case), &json!({ "TracingEnabled": false }));
    assert_eq!(refused.unwrap_err().to_string(), "the ARN names no stage of an API");
}

#[test]
fn a_secret_without_a_function_and_an_interface_with_an_unknown_option_are_left_alone() {
    let cases = recorded();
    let refused = |name: &str, now: Value| {
        let case = cases.iter().find(|case| case.setting.name == name).unwrap();
        (case.setting.fix)(&subject(case), &now).unwrap_err().to_string()
    };
    let secret = |more: Value| {
        let mut secret =
            json!({ "RotationEnabled": false, "RotationLambdaARN": null, "IsManaged": false, "IsToBeDeleted": false });
        secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused("secret_rotation", secret)
    };
    assert!(secret(json!({})).contains("no rotation function"));
    assert!(secret(json!({ "IsManaged": true })).contains("another AWS service"));
    assert!(secret(json!({ "IsToBeDeleted": true })).contains("is to be deleted"));
    let interface = json!({ "associatePublicIpAddress": "true", "somethingNew": "x" });
    let now = json!({ "Version": "1", "Data": [interface] });
    assert!(refused("ec2_template_public_address", now).contains("does not know"));
}

#[test]
fn what_is_used_managed_replicated_or_a_default_is_not_removed() {
    let cases = recorded();
    let says = |name: &str, now: Value| {
        let case = cases.iter().find(|case| case.setting.name == name).unwrap();
        (case.setting.fix)(&subject(case), &now).map(|calls| calls.len()).map_err(|error| error.to_string())
    };
    let refused = |name: &str, now: Value| says(name, now).unwrap_err();
    let acl =
        |default: bool, subnets: Value| json!({ "NetworkAcl": { "IsDefault": default, "Associations": subnets } });
    assert!(refused("ec2_unused_network_acl", acl(true, json!([]))).contains("default network ACL"));
    assert_eq!(says("ec2_unused_network_acl", acl(true, json!(["subnet-1"]))), Ok(0));
    assert_eq!(says("ec2_unused_network_acl", acl(false, json!(["subnet-1"]))), Ok(0));
    let address = |how: &str| json!({ "Address": { "publicIp": "198.51.100.7", how: "x" } });
    assert!(refused("ec2_unused_address", address("serviceManaged")).contains("another AWS service"));
    for used in ["associationId", "instanceId", "networkInterfaceId"] {
        assert_eq!(says("ec2_unused_address", address(used)), Ok(0), "{used}");
    }
    let secret = |why: &str| json!({ "LastAccessed": null, "Created": 1_577_836_800, why: true });
    assert!(refused("unused_secret", secret("IsManaged")).contains("another AWS service"));
    assert!(refused("unused_secret", secret("IsReplica")).contains("replicated"));
    assert!(refused("unused_secret", secret("HasReplicas")).contains("replicated"));
    // 90 days before the recorded cases' now, to the second.
    for (read, calls) in [(1_787_400_000, 0), (1_787_399_999, 1)] {
        assert_eq!(says("unused_secret", json!({ "LastAccessed": read, "Created": 1 })), Ok(calls), "{read}");
    }
    assert_eq!(says("unused_secret", json!({ "LastAccessed": null, "Created": null })), Ok(0), "nobody knows its age");
}

#[test]
fn an_acl_that_was_made_again_is_found_by_its_tag_and_is_as_it_was() {
    let cases = recorded();
    let case = cases.iter().find(|case| case.setting.name == "ec2_unused_network_acl").unwrap();
    let subject = subject(case);
    let mut again = case.bad.clone();
    again[0]["networkAclSet"][0]["networkAclId"] = "acl-2".into();
    again[0]["networkAclSet"][0]["entrySet"].as_array_mut().unwrap().reverse();
    let tag = json!({ "key": "redress:replaces", "value": "acl-1" });
    again[0]["networkAclSet"][0]["tagSet"].as_array_mut().unwrap().push(tag);
    let before = state(case.setting, &subject, &case.bad).unwrap();
    let after = state(case.setting, &subject, &json!([null, again[0]])).unwrap();
    assert_eq!(after["NetworkAcl"], before["NetworkAcl"]);
    assert_eq!(
        written((case.setting.fix)(&subject, &after)),
        json!([["DeleteNetworkAcl", { "NetworkAclId": "acl-2" }]])
    );
}

/// An entry as EC2 reads it out, by direction and number.
fn any_entry() -> impl Strategy<Value = Value> {
    let ports = (0..=65535_i32, 0..=65535_i32).prop_map(|(one, other)| (one.min(other), one.max(other)));
    (any::<bool>(), 1..=32766_i32, any::<bool>(), prop::sample::select(vec!["-1", "6", "17", "1", "58", "47"]), ports, any::<bool>())
        .prop_map(|(egress, number, allows, protocol, (from, to), six)| {
            let mut entry = json!({ "egress": egress.to_string(), "ruleNumber": number.to_string(), "protocol": protocol,
                "ruleAction": if allows { "allow" } else { "deny" } });
            entry[if six { "ipv6CidrBlock" } else { "cidrBlock" }] = if six { "2001:db8::/32" } else { "10.0.0.0/8" }.into();
            if matches!(protocol, "6" | "17") {
                entry["portRange"] = json!({ "from": from.to_string(), "to": to.to_string() });
            }
            if matches!(protocol, "1" | "58") {
                entry["icmpTypeCode"] = json!({ "code": "-1", "type": (from % 256).to_string() });
            }
            entry
        })
}

/// As EC2 reads out what was written.
fn read_out(written: &Value) -> Value {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut read = serde_json::Map::new();
    for (name, value) in written.as_object().unwrap() {
        let mut letters = name.chars();
        let name: String = letters.next().unwrap().to_lowercase().chain(letters).collect();
        let inner = |value: &Value| -> Value {
            value.as_object().unwrap().iter().map(|(name, value)| (name.to_lowercase(), json!(text(value)))).collect()
        };
        match name.as_str() {
            "networkAclId" => continue,
            "icmp" => read.insert("icmpTypeCode".to_owned(), inner(value)),
            "portRange" => read.insert(name, inner(value)),
            _ => read.insert(name, json!(text(value))),
        };
    }
    Value::Object(read)
}

proptest! {
    #[test]
    fn an_undo_makes_every_entry_of_an_acl_again_as_it_was(
        entries in prop::collection::vec(any_entry(), 0..12), shuffle in any::<prop::sample::Index>()
    ) {
        let cases = recorded();
        let case = cases.iter().find(|case| case.setting.name == "ec2_unused_network_acl").unwrap();
        let subject = subject(case);
        let mut own: BTreeMap<(String, String), Value> = BTreeMap::new();
        for entry in entries {
            own.insert((entry["egress"].to_string(), entry["ruleNumber"].to_string()), entry);
        }
        let mut own: Vec<Value> = own.into_values().collect();
        if !own.is_empty() {
            let middle = shuffle.index(own.len());
            own.rotate_left(middle);
        }
        let fixed = json!({ "egress": "true", "ruleNumber": "32767", "protocol": "-1", "ruleAction": "deny", "cidrBlock": "0.0.0.0/0" });
        let answers = |entries: Vec<Value>| json!([{ "networkAclSet": [{ "networkAclId": "acl-1", "vpcId": "vpc-1", "default": "false",
            "entrySet": entries }] }]);
        let before = state(case.setting, &subject, &answers([own.clone(), vec![fixed.clone()]].concat())).unwrap();
        let gone = json!({ "NetworkAcl": null });
        let calls = (case.setting.undo)(&subject, &gone, &before).unwrap();
        prop_assert_eq!(calls.len(), own.len() + 1);
        let sorted = |mut entries: Vec<Value>| {
            entries.sort_by_key(|entry| (entry["egress"].to_string(), entry["ruleNumber"].to_string()));
            entries
        };
        let mut made: Vec<Value> = calls[1..].iter().map(|(_, input)| read_out(input)).collect();
        prop_assert_eq!(sorted(made.clone()), sorted(own), "nothing of an entry is lost");
        made.push(fixed);
        let after = state(case.setting, &subject, &answers(made)).unwrap();
        prop_assert_eq!(&after["NetworkAcl"], &before["NetworkAcl"]);
    }
}

#[tokio::test]
async fn what_is_seen_beside_the_state_is_no_part_of_it_and_later_calls_get_what_earlier_ones_made() {
    let aws = FakeAws::default();
    let request = RemediateRequest {
        job: job("arn:aws:ec2:eu-central-1:111122223333:network-acl/acl-1"),
        native: "ec2_unused_network_acl".to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: BTreeMap::new(),
        copy: None,
    };
    let native = OnResource::new(&unused::UNUSED_NETWORK_ACL, Wire::new(aws.config()), &request);
    let answer =
        "<R><networkAclSet><item><networkAclId>acl-1</networkAclId><vpcId>vpc-1</vpcId></item></networkAclSet></R>";
    aws.answer("DescribeNetworkAcls", 200, answer);
    let image = native.inspect().await.unwrap().unwrap();
    assert!(image.state.get(BESIDE).is_none(), "{:?}", image.state);
    assert_eq!(native.plan(&image).unwrap().0[0].parameters, json!({ "NetworkAclId": "acl-1" }));

    aws.answer("CreateNetworkAcl", 200, "<R><networkAcl><networkAclId>acl-2</networkAclId></networkAcl></R>");
    aws.answer("CreateNetworkAclEntry", 200, "<R><return>true</return></R>");
    aws.answer("CreateNetworkAclEntry", 200, "<R><return>true</return></R>");
    let call = |operation: &str, parameters: Value| Call {
        service: "ec2".to_owned(),
        operation: operation.to_owned(),
        parameters,
    };
    native.call(&call("CreateNetworkAcl", json!({ "VpcId": "vpc-1" }))).await.unwrap();
    let entry = call("CreateNetworkAclEntry", json!({ "NetworkAclId": "answer:/networkAcl/networkAclId" }));
    native.call(&entry).await.unwrap();
    native.call(&entry).await.unwrap();
    let sent: Vec<String> = aws.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
    assert!(sent[1].contains("ClientToken="), "{sent:?}");
    assert!(sent[2].contains("NetworkAclId=acl-2") && sent[3].contains("NetworkAclId=acl-2"), "{sent:?}");
}

#[test]
fn a_later_call_gets_what_the_call_before_made() {
    let answered = json!({ "launchTemplateVersion": { "versionNumber": "4" } });
    let planned = json!({ "Id": "lt-1", "In": ["answer:/launchTemplateVersion/versionNumber"] });
    assert_eq!(with_answers(&planned, &answered, &json!([])), json!({ "Id": "lt-1", "In": ["4"] }));
    let seen = json!([{ "UserData": "c2VjcmV0" }]);
    assert_eq!(with_answers(&json!({ "UserData": "seen:/0/UserData" }), &answered, &seen), seen[0]);
}

#[tokio::test]
async fn a_denial_is_no_answer_unless_it_says_that_macie_is_off() {
    let inspected = async |message: &str| {
        let aws = FakeAws::default();
        let body = json!({ "__type": "AccessDeniedException", "message": message }).to_string();
        aws.answer("GET", 403, &body);
        let request = RemediateRequest {
            job: job("arn:aws:iam::111122223333:root"),
            native: "macie_session".to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            parameters: BTreeMap::new(),
            copy: None,
        };
        OnResource::new(&account::MACIE_SESSION, Wire::new(aws.config()), &request).inspect().await
    };
    assert_eq!(inspected("Macie is not enabled").await.unwrap().unwrap().state, json!({ "Status": null }));
    assert!(inspected("User is not authorized to perform: macie2:GetMacieSession").await.is_err());
}

#[test]
fn a_task_definition_for_windows_or_with_an_unknown_part_is_left_alone() {
    let cases = recorded();
    let case = cases.iter().find(|case| case.setting.name == "ecs_readonly_filesystems").unwrap();
    let refused = |said: Value| {
        let now = json!({ "TaskDefinition": "arn", "Said": said, "Tags": [] });
        (case.setting.fix)(&subject(case), &now).unwrap_err().to_string()
    };
    let windows = json!({ "operatingSystemFamily": "WINDOWS_SERVER_2022_CORE" });
    let said = refused(json!({ "containerDefinitions": [{ "name": "app" }], "runtimePlatform": windows }));
    assert!(said.contains("Windows"), "{said}");
    let said = refused(json!({ "containerDefinitions": [{ "name": "app" }], "somethingNew": 1 }));
    assert!(said.contains("does not know how to keep"), "{said}");
}

#[tokio::test]
async fn what_aws_begins_is_waited_for_and_a_failure_says_why() {
    let called = async |update: Value| {
        let aws = FakeAws::default();
        aws.answer("POST", 200, &json!({ "update": { "id": "u-1", "status": "InProgress" } }).to_string());
        aws.answer("GET", 200, &json!({ "update": update }).to_string());
        let request = RemediateRequest {
            job: job("arn:aws:eks:eu-central-1:111122223333:cluster/shop"),
            native: "eks_audit_log".to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            parameters: BTreeMap::new(),
            copy: None,
        };
        let setting = OnResource::new(&containers::CLUSTER_AUDIT_LOG, Wire::new(aws.config()), &request);
        let logging = json!({ "clusterLogging": [{ "types": ["audit"], "enabled": true }] });
        let call = Call {
            service: "eks".to_owned(),
            operation: "UpdateClusterConfig".to_owned(),
            parameters: json!({ "Name": "shop", "Logging": logging }),
        };
        let done = setting.call(&call).await;
        let sent: Value = serde_json::from_slice(&aws.seen()[0].body).unwrap();
        assert_eq!(sent, json!({ "logging": logging, "clientRequestToken": request.job.remediation_id.to_string() }));
        done
    };
    called(json!({ "status": "Successful" })).await.unwrap();
    let failed = called(json!({ "status": "Failed", "errors": [{ "errorMessage": "no such role" }] })).await;
    assert!(failed.unwrap_err().to_string().contains("no such role"));
}

proptest! {
    /// Whatever a container says: the new revision says the same, and that its root filesystem is read-only.
    #[test]
    fn a_revision_differs_in_the_root_filesystems_alone(
        containers in prop::collection::vec(
            prop::collection::btree_map("[a-zA-Z]{1,12}|readonlyRootFilesystem", prop_oneof![
                any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), ".{0,20}".prop_map(Value::from),
                Just(Value::Null), Just(json!([])),
            ], 0..6),
            1..5,
        ),
    ) {
        let cases = recorded();
        let case = cases.iter().find(|case| case.setting.name == "ecs_readonly_filesystems").unwrap();
        let containers: Value = containers.into_iter().map(|container| json!(container)).collect();
        let now = state(case.setting, &subject(case), &definition(7, containers.clone())).unwrap();
        let planned = (case.setting.fix)(&subject(case), &now).unwrap();
        let are_readonly = |containers: &Value| {
            containers.as_array().unwrap().iter().all(|container| container["readonlyRootFilesystem"] == true)
        };
        prop_assert_eq!(planned.is_empty(), are_readonly(&containers));
        if let Some((_, input)) = planned.first() {
            let without = |containers: &Value| -> Vec<Value> {
                let mut all = containers.as_array().unwrap().clone();
                all.iter_mut().for_each(|container| drop(container.as_object_mut().unwrap().remove("readonlyRootFilesystem")));
                all
            };
            prop_assert!(are_readonly(&input["containerDefinitions"]));
            prop_assert_eq!(without(&input["containerDefinitions"]), without(&containers));
            prop_assert_eq!(&input["networkMode"], "awsvpc");
        }
    }
}

/// The parameters of a control that differ where they could be mixed up.
fn scales() -> Value {
    json!({ "ReadMinimum": 3, "ReadMaximum": 100, "ReadUtilization": 70,
        "WriteMinimum": 7, "WriteMaximum": 200, "WriteUtilization": 60 })
}

/// A setting on the resource of its first recorded case, for states that are made up.
fn planned(name: &str, now: Value) -> Planned {
    let cases = recorded();
    let case = cases.iter().find(|case| case.setting.name == name).unwrap();
    (case.setting.fix)(&subject(case), &now)
}

fn refusal(name: &str, now: Value) -> String {
    planned(name, now).unwrap_err().to_string()
}

#[test]
fn defect_07_reads_and_writes_each_have_their_own_bounds() {
    let capacity = |way: &str| json!({ "ResourceId": "table/orders", "ScalableDimension": format!("dynamodb:table:{way}CapacityUnits"), "Target": null, "Policies": [] });
    let calls = planned("table_scaling", json!({ "Capacities": [capacity("Read"), capacity("Write")] })).unwrap();
    let of = |way: &str, field: &str| -> Vec<Value> {
        let dimension = format!("dynamodb:table:{way}CapacityUnits");
        let mine = calls.iter().filter(|(_, input)| input["ScalableDimension"] == dimension.as_str());
        mine.filter_map(|(_, input)| input.pointer(field).cloned()).collect()
    };
    let target = "/TargetTrackingScalingPolicyConfiguration/TargetValue";
    assert_eq!(
        [of("Read", "/MinCapacity"), of("Read", "/MaxCapacity"), of("Read", target)],
        [[3], [100], [70]].map(|v| v.map(Value::from).to_vec())
    );
    assert_eq!(
        [of("Write", "/MinCapacity"), of("Write", "/MaxCapacity"), of("Write", target)],
        [[7], [200], [60]].map(|v| v.map(Value::from).to_vec())
    );
}

#[test]
fn a_table_that_is_paid_by_request_scales_and_one_above_the_maximum_is_not_brought_down() {
    let cases = recorded();
    let case = cases.iter().find(|case| case.setting.name == "table_scaling").unwrap();
    let paid_by_request = json!([{ "Table": { "BillingModeSummary": { "BillingMode": "PAY_PER_REQUEST" } } }]);
    let now = state(case.setting, &subject(case), &paid_by_request).unwrap();
    assert_eq!(written((case.setting.fix)(&subject(case), &now)), json!([]));

    let large = json!([{ "Table": { "ProvisionedThroughput": { "ReadCapacityUnits": 101, "WriteCapacityUnits": 1 } } },
        { "ScalableTargets": [] }, { "ScalingPolicies": [] }]);
    let now = state(case.setting, &subject(case), &large).unwrap();
    assert!((case.setting.fix)(&subject(case), &now).unwrap_err().to_string().contains("brought down"));
}

#[test]
fn a_parameter_group_that_serves_others_or_everybody_is_left_alone() {
    let postgres = |more: Value| {
        let mut now = json!({ "Engine": "postgres", "ParameterGroup": "own", "UsedBy": [], "ParameterValue": "0" });
        now.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refusal("rds_postgres_tls", now)
    };
    assert!(postgres(json!({ "ParameterGroup": "default.postgres16" })).contains("default parameter group"));
    assert!(postgres(json!({ "UsedBy": ["orders-2"] })).contains("other databases"));
    assert!(postgres(json!({ "Engine": "mysql" })).contains("no PostgreSQL database"));
    assert!(postgres(json!({ "DBClusterIdentifier": "c" })).contains("no PostgreSQL database"));
    let cluster = |group: &str, others: &[&str]| {
        refusal("redshift_tls", json!({ "ParameterGroup": group, "UsedBy": others, "ParameterValue": "false" }))
    };
    assert!(cluster("default.redshift-2.0", &[]).contains("default parameter group"));
    assert!(cluster("own", &["figures-2"]).contains("other clusters"));
}

#[test]
fn who_else_uses_a_parameter_group_is_found_on_every_page() {
    let cases = recorded();
    let case = cases.iter().find(|case| case.setting.name == "rds_postgres_tls").unwrap();
    let uses = |id: &str| json!({ "DBInstanceIdentifier": id, "Engine": "postgres", "DBParameterGroups": { "DBParameterGroup": { "DBParameterGroupName": "own" } } });
    let answers = json!([
        { "DBInstances": { "DBInstance": [uses("z"), uses("orders")] }, "Marker": "more" },
        { "DBInstances": { "DBInstance": uses("a") } },
        { "Parameters": null }]);
    let now = state(case.setting, &subject(case), &answers).unwrap();
    assert_eq!((&now["UsedBy"], &now["ParameterValue"]), (&json!(["a", "z"]), &Value::Null));
    let gone = json!([{ "DBInstances": null }]);
    assert_eq!(state(case.setting, &subject(case), &gone), None);
}

#[test]
fn each_engine_has_its_logs_and_a_cluster_publishes_those_of_its_databases() {
    let now = |engine: &str, in_cluster: bool| json!({ "Engine": engine, "InCluster": in_cluster, "Exported": [] });
    let enables = |engine: &str| {
        let calls = written(planned("rds_log_exports", now(engine, false)));
        calls.pointer("/0/1/CloudwatchLogsExportConfiguration/EnableLogTypes/member").cloned().unwrap()
    };
    assert_eq!(enables("postgres"), json!(["postgresql", "upgrade"]));
    assert_eq!(enables("mariadb"), json!(["audit", "error", "general", "slowquery"]));
    assert_eq!(enables("sqlserver-web"), json!(["agent", "error"]));
    assert_eq!(enables("sqlserver-ex"), json!(["error"]));
    assert!(refusal("rds_log_exports", now("aurora-postgresql", true)).contains("by its cluster"));
    assert!(refusal("rds_log_exports", now("db2-se", false)).contains("names no logs"));
}

proptest! {
    #[test]
    fn an_undo_leaves_the_logs_that_were_published_before(
        engine in proptest::sample::select(vec!["postgres", "mysql", "oracle-ee", "sqlserver-se"]),
        before in proptest::collection::btree_set(proptest::sample::select(vec!["audit", "error", "iam-db-auth-error", "postgresql", "trace"]), 0..5),
    ) {
        let cases = recorded();
        let case = cases.iter().find(|case| case.setting.name == "rds_log_exports").unwrap();
        let image = |logs: &std::collections::BTreeSet<String>| json!({ "Engine": engine, "InCluster": false, "Exported": logs });
        let before = before.into_iter().map(str::to_owned).collect();
        let after = exports_after(&before, &written((case.setting.fix)(&subject(case), &image(&before))));
        prop_assert!(after.is_superset(&before));
        prop_assert_eq!(written((case.setting.fix)(&subject(case), &image(&after))), json!([]));
        let undo = written((case.setting.undo)(&subject(case), &image(&after), &image(&before)));
        prop_assert_eq!(exports_after(&after, &undo), before);
    }
}

/// What is published after calls, as RDS does it.
fn exports_after(now: &std::collections::BTreeSet<String>, calls: &Value) -> std::collections::BTreeSet<String> {
    let mut now = now.clone();
    let logs = |how: &str| {
        let at = format!("/0/1/CloudwatchLogsExportConfiguration/{how}/member");
        calls.pointer(&at).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    logs("DisableLogTypes").iter().for_each(|log| assert!(now.remove(log.as_str().unwrap())));
    now.extend(logs("EnableLogTypes").iter().map(|log| log.as_str().unwrap().to_owned()));
    now
}

#[test]
fn a_contact_that_is_not_whole_is_not_set_and_one_that_is_there_stays() {
    let cases = recorded();
    let case = cases.iter().find(|case| case.setting.name == "security_contact").unwrap();
    for text in ["", "{}", r#"{"Name":"Ann"}"#, r#"{"Name":"","Title":"t","EmailAddress":"e","PhoneNumber":"1"}"#] {
        let answers = json!([null, { "Parameter": { "Value": text } }]);
        let now = state(case.setting, &subject(case), &answers).unwrap();
        assert!(
            (case.setting.fix)(&subject(case), &now).unwrap_err().to_string().contains("nobody has said"),
            "{text}"
        );
    }
    let none = state(case.setting, &subject(case), &json!([null, null])).unwrap();
    assert!((case.setting.fix)(&subject(case), &none).is_err());
}

#[test]
fn audit_logs_go_to_cloudwatch_where_no_bucket_is_named() {
    let cases = recorded();
    let case = cases.iter().find(|case| case.setting.name == "redshift_audit_logging").unwrap();
    let subject = Subject { parameters: [("BucketName".to_owned(), json!("none"))].into(), ..subject(case) };
    let calls = written((case.setting.fix)(&subject, &json!({ "LoggingEnabled": false })));
    assert_eq!(calls.pointer("/0/1/LogDestinationType"), Some(&json!("cloudwatch")));
    assert_eq!(calls.pointer("/0/1/BucketName"), None);
}

#[test]
fn services_that_take_minutes_are_waited_for_and_no_longer_than_the_function_may_run() {
    let pace = |setting: &'static Setting| {
        let request = RemediateRequest {
            job: job("arn:aws:rds:eu-central-1:111122223333:db:orders"),
            native: setting.name.to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            parameters: BTreeMap::new(),
            copy: None,
        };
        OnResource::new(setting, Wire::new(FakeAws::default().config()), &request).pace().iter().sum::<Duration>()
    };
    let (slow, fast) = (pace(&rds::LOG_EXPORTS), pace(&tags::TABLE_TAGS));
    assert!(fast < Duration::from_secs(10) && slow > Duration::from_secs(120), "{fast:?} {slow:?}");
    assert!(slow < Duration::from_secs(180), "{slow:?}");
}

#[tokio::test]
async fn rds_answers_with_lists_that_name_their_items() {
    let aws = FakeAws::default();
    let body = "<DescribeDBSnapshotAttributesResponse><DescribeDBSnapshotAttributesResult><DBSnapshotAttributesResult>\
                <DBSnapshotIdentifier>nightly</DBSnapshotIdentifier><DBSnapshotAttributes><DBSnapshotAttribute>\
                <AttributeName>restore</AttributeName><AttributeValues><AttributeValue>444455556666</AttributeValue>\
                <AttributeValue>all</AttributeValue></AttributeValues></DBSnapshotAttribute></DBSnapshotAttributes>\
                </DBSnapshotAttributesResult></DescribeDBSnapshotAttributesResult></DescribeDBSnapshotAttributesResponse>";
    aws.answer("DescribeDBSnapshotAttributes", 200, body);
    let request = RemediateRequest {
        job: job("arn:aws:rds:eu-central-1:111122223333:snapshot:nightly"),
        native: "rds_snapshot_sharing".to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: BTreeMap::new(),
        copy: None,
    };
    let setting = OnResource::new(&rds::SNAPSHOT_SHARING, Wire::new(aws.config()), &request);
    let now = setting.inspect().await.unwrap().unwrap();
    assert_eq!(now.state, json!({ "Public": true }));
    let change = setting.plan(&now).unwrap();
    aws.answer("ModifyDBSnapshotAttribute", 200, "<R><ModifyDBSnapshotAttributeResult/></R>");
    setting.call(&change.0[0]).await.unwrap();
    let sent = String::from_utf8(aws.seen().pop().unwrap().body).unwrap();
    assert!(sent.contains("ValuesToRemove.AttributeValue.1=all"), "{sent}");
}

fn in_days(days: i64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let now = jiff::Timestamp::now().as_second() as f64;
    now + 86_400.0 * f64::from(i32::try_from(days).unwrap())
}

fn merged(mut value: Value, more: Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

fn certificate(more: Value) -> Value {
    json!([{ "Certificate": merged(json!({ "Status": "ISSUED", "RenewalEligibility": "ELIGIBLE" }), more) }])
}

fn stack(more: Value) -> Value {
    let stack = json!({ "StackStatus": "CREATE_COMPLETE", "NotificationARNs": null, "Capabilities": ["CAPABILITY_IAM"],
        "Parameters": [{ "ParameterKey": "Size", "ParameterValue": "1" }] });
    json!([{ "Stacks": [merged(stack, more)] }])
}

fn configuration(more: Value) -> Value {
    let configuration = json!({ "LaunchConfigurationName": "web", "CreatedTime": "2020", "LaunchConfigurationARN": "arn:x",
        "ImageId": "ami-1", "KernelId": null });
    json!({ "LaunchConfigurations": [merged(configuration, more)] })
}

fn instance() -> Value {
    json!({ "reservationSet": [{ "instancesSet": [{ "instanceId": "i-1", "instanceState": { "name": "running" } }] }] })
}

fn association(state: &str) -> Value {
    json!({ "iamInstanceProfileAssociationSet": [{ "associationId": "iip-1", "state": state,
        "iamInstanceProfile": { "arn": "arn:aws:iam::111122223333:instance-profile/p/web" } }] })
}

fn vpc() -> Value {
    let block = |name: &str, block: &str, state: &str, is: &str| json!({ name: block, state: { "state": is } });
    json!({ "vpcSet": [{ "vpcId": "vpc-1",
        "cidrBlockAssociationSet": [block("cidrBlock", "10.0.0.0/16", "cidrBlockState", "associated"), block("cidrBlock", "10.1.0.0/16", "cidrBlockState", "disassociated")],
        "ipv6CidrBlockAssociationSet": [block("ipv6CidrBlock", "fd00::/56", "ipv6CidrBlockState", "associated")] }] })
}

fn subnet(public: &str, ipv6: &str, native: &str) -> Value {
    json!([{ "subnetSet": [{ "subnetId": "subnet-1", "mapPublicIpOnLaunch": public,
        "assignIpv6AddressOnCreation": ipv6, "ipv6Native": native }] }])
}

fn gives(attribute: &str, whether: bool) -> Value {
    json!(["ModifySubnetAttribute", { "SubnetId": "subnet-1", attribute: { "Value": whether } }])
}

fn subnets() -> Value {
    let subnet = |id: &str, zone: &str, free: &str| json!({ "subnetId": id, "availabilityZone": zone, "availableIpAddressCount": free });
    json!({ "subnetSet": [subnet("subnet-4", "eu-central-1a", "9"), subnet("subnet-2", "eu-central-1a", "9"), subnet("subnet-1", "eu-central-1a", "0"),
        subnet("subnet-3", "eu-central-1b", "9"), subnet("subnet-0", "eu-central-1-ham-1a", "9")] })
}

#[test]
fn no_secret_is_in_a_state_or_a_plan() {
    for case in recorded().iter().filter(|case| ["codebuild_credentials", "launch_tokens"].contains(&case.setting.name))
    {
        let subject = subject(case);
        let [bad, good] = [&case.bad, &case.good].map(|answers| state(case.setting, &subject, answers).unwrap());
        let plans = [(case.setting.fix)(&subject, &bad), (case.setting.undo)(&subject, &good, &bad)].map(written);
        for text in [bad, good].iter().chain(&plans).map(ToString::to_string) {
            assert!(!text.contains("s3cr3t") && !text.contains("c2VjcmV0") && !text.contains("\"prod\""), "{text}");
        }
    }
}

#[test]
fn what_a_new_control_cannot_mend_is_left_alone_and_says_what_to_do() {
    let cases = recorded();
    let refused = |name: &str, now: Value| {
        let case = cases.iter().find(|case| case.setting.name == name).unwrap();
        (case.setting.fix)(&subject(case), &now).unwrap_err().to_string()
    };
    let certificate = |more: Value| {
        let now = json!({ "Type": "AMAZON_ISSUED", "Status": "ISSUED", "IsDue": true, "RenewalEligibility": "ELIGIBLE", "RenewalStatus": null, "Export": null });
        refused("certificate_renewal", merged(now, more))
    };
    assert!(certificate(json!({ "Type": "IMPORTED" })).contains("import-certificate"));
    assert!(certificate(json!({ "Status": "EXPIRED" })).contains("request a new one"));
    assert!(certificate(json!({ "RenewalStatus": "PENDING_VALIDATION" })).contains("CNAME"));
    assert!(certificate(json!({ "RenewalEligibility": "INELIGIBLE" })).contains("not eligible"));
    assert!(certificate(json!({})).contains("by itself"));

    let stack = |more: Value| {
        let now = json!({ "NotificationARNs": [], "Parameters": [], "Capabilities": [], "IsBusy": false, "IsFailed": false, "IsNested": false, "ReadsAnew": false });
        refused("stack_notifications", merged(now, more))
    };
    assert!(stack(json!({ "IsBusy": true })).contains("is being changed"));
    assert!(stack(json!({ "IsNested": true })).contains("nested"));
    assert!(stack(json!({ "IsFailed": true })).contains("failed"));
    assert!(stack(json!({ "ReadsAnew": true })).contains("--notification-arns"));
    assert!(stack(json!({ "Capabilities": ["CAPABILITY_AUTO_EXPAND"] })).contains("macro"));

    let endpoint = json!({ "Endpoints": [], "Dns": true, "Subnets": [], "Group": null });
    assert!(refused("ec2_endpoint", endpoint.clone()).contains("no subnet"));
    assert!(refused("ec2_endpoint", merged(endpoint, json!({ "Dns": false }))).contains("DNS"));
    let cache = |beside: Value| refused("cache_backups", json!({ "SnapshotRetentionLimit": 0, "Beside": beside }));
    assert!(cache(json!({ "Engine": "memcached" })).contains("no backups"));
    assert!(cache(json!({ "Engine": "redis", "Group": "sessions" })).contains("in replication group `sessions`"));
    let only_ipv6 = json!({ "MapPublicIpOnLaunch": false, "AssignIpv6AddressOnCreation": true, "Ipv6Native": true });
    assert!(refused("subnet_addresses", only_ipv6).contains("none at all"));
    let profile = json!({ "Profile": "arn:p", "Role": null, "HasPolicy": false });
    assert!(refused("instance_management", profile).contains("has no role"));
    let copied = json!({ "Configuration": { "ImageId": "ami-1" }, "Copy": { "ImageId": "ami-2" }, "Groups": ["a"] });
    assert!(refused("launch_tokens", copied).contains("is no copy"));
    let unused = json!({ "Configuration": { "ImageId": "ami-1" }, "Copy": null, "Groups": [] });
    let case = cases.iter().find(|case| case.setting.name == "launch_tokens").unwrap();
    assert_eq!(written((case.setting.fix)(&subject(case), &unused)), json!([]), "what nobody uses launches nothing");
}

fn on(setting: &'static Setting, aws: &FakeAws, arn: &str) -> OnResource {
    let request = RemediateRequest {
        job: job(arn),
        native: setting.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: BTreeMap::new(),
        copy: None,
    };
    OnResource::new(setting, Wire::new(aws.config()), &request)
}

#[tokio::test]
async fn what_is_in_use_or_busy_is_waited_for() {
    let aws = FakeAws::default();
    let in_use = "<Response><Errors><Error><Code>DependencyViolation</Code></Error></Errors></Response>";
    aws.answer("DeleteSecurityGroup", 400, in_use);
    aws.answer(
        "DeleteSecurityGroup",
        200,
        "<DeleteSecurityGroupResponse><return>true</return></DeleteSecurityGroupResponse>",
    );
    let native = on(&network::EC2_ENDPOINT, &aws, "arn:aws:ec2:eu-central-1:111122223333:vpc/vpc-1");
    let call = |service: &str, operation: &str| Call {
        service: service.to_owned(),
        operation: operation.to_owned(),
        parameters: json!({}),
    };
    native.call(&call("ec2", "DeleteSecurityGroup")).await.unwrap();
    assert_eq!(aws.seen().len(), 2);

    let status = |status: &str| {
        format!(
            "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackStatus>{status}</StackStatus></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        )
    };
    aws.answer("UpdateStack", 200, "<UpdateStackResponse/>");
    aws.answer("DescribeStacks", 200, &status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"));
    aws.answer("DescribeStacks", 200, &status("UPDATE_COMPLETE"));
    let native =
        on(&stacks::STACK_NOTIFICATIONS, &aws, "arn:aws:cloudformation:eu-central-1:111122223333:stack/shop/1");
    native.call(&call("cloudformation", "UpdateStack")).await.unwrap();
    assert_eq!(aws.seen().len(), 5);
}

#[tokio::test]
async fn a_call_that_ec2_did_not_do_is_a_failure_with_its_reason() {
    let aws = FakeAws::default();
    let body = "<CreateFlowLogsResponse><flowLogIdSet/><unsuccessful><item><resourceId>vpc-1</resourceId><error><code>LogDestinationPermissionIssue</code><message>no</message></error></item></unsuccessful></CreateFlowLogsResponse>";
    aws.answer("CreateFlowLogs", 200, body);
    let native = on(&network::VPC_FLOW_LOGS, &aws, "arn:aws:ec2:eu-central-1:111122223333:vpc/vpc-1");
    let call = Call { service: "ec2".to_owned(), operation: "CreateFlowLogs".to_owned(), parameters: json!({}) };
    let failed = native.call(&call).await.unwrap_err().to_string();
    assert_eq!(failed, "`CreateFlowLogs` did not do it: LogDestinationPermissionIssue: no");
}
