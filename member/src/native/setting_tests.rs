//! Each setting over answers of the form that AWS gives.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{FakeAws, job};

/// A setting, the resource, what AWS answers before and after, and the calls between the two.
struct Recorded {
    setting: &'static Setting,
    arn: &'static str,
    name: &'static str,
    parameters: Value,
    bad: Value,
    fix: Value,
    good: Value,
    undo: Value,
}

fn subject(recorded: &Recorded) -> Subject {
    Subject {
        name: recorded.name.to_owned(),
        arn: recorded.arn.parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: serde_json::from_value(recorded.parameters.clone()).unwrap(),
        now: "2026-11-20T12:00:00Z".parse().unwrap(),
    }
}

/// The state that answers amount to; as many calls are made as there are answers.
fn state(setting: &Setting, subject: &Subject, answers: &Value) -> Option<Value> {
    let answers = answers.as_array().unwrap();
    for count in 0..answers.len() {
        assert!((setting.next)(subject, &answers[..count]).is_some(), "{}: {count}", setting.name);
    }
    assert!((setting.next)(subject, answers).is_none(), "{}", setting.name);
    (setting.state)(subject, answers)
}

fn written(planned: Planned) -> Value {
    planned.unwrap().into_iter().map(|(operation, input)| json!([operation.name, input])).collect()
}

#[allow(clippy::too_many_lines)]
fn recorded() -> Vec<Recorded> {
    const STAGE: &str = "arn:aws:apigateway:eu-central-1::/restapis/a1/stages/prod";
    const SOCKET: &str = "arn:aws:apigateway:eu-central-1::/apis/b2/stages/prod";
    const CLUSTER: &str = "arn:aws:ecs:eu-central-1:111122223333:cluster/shop";
    const MACHINE: &str = "arn:aws:states:eu-central-1:111122223333:stateMachine:orders";
    const TRAIL: &str = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/audit";
    const ACCOUNT: &str = "arn:aws:iam::111122223333:root";
    const TEMPLATE: &str = "arn:aws:ec2:eu-central-1:111122223333:launch-template/lt-1";
    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders-AbCdEf";
    const TABLE: &str = "arn:aws:dynamodb:eu-central-1:111122223333:table/orders";
    const FILTER: &str = "arn:aws:guardduty:eu-central-1:111122223333:detector/12ab/filter/noise";
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
    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders-AbCdEf";
    const ADDRESS: &str = "arn:aws:ec2:eu-central-1:111122223333:elastic-ip/eipalloc-1";
    const ACL: &str = "arn:aws:ec2:eu-central-1:111122223333:network-acl/acl-1";
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
    for case in recorded() {
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
    let cases = recorded();
    for setting in SETTINGS {
        let name = setting.name;
        assert!(cases.iter().any(|case| case.setting.name == name), "{name} has no recorded answers");
        assert!(super::super::NATIVES.iter().all(|native| native.name != name), "{name} is a native's name, too");
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
    let mut case = recorded().remove(4);
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
    assert!(image.state.get(SEEN).is_none(), "{:?}", image.state);
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
    assert_eq!(with_answers(&planned, &answered), json!({ "Id": "lt-1", "In": ["4"] }));
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
