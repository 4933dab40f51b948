//! Each setting over answers of the form that AWS gives.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::testing::{FakeAws, job};

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
    vec![
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
        assert_eq!(written((setting.undo)(&subject, &good, &bad)), case.undo, "{name}: undo");
    }
}

#[test]
fn every_setting_has_a_recorded_case_and_plans_only_what_it_declares() {
    let cases: Vec<Recorded> = recorded().into_iter().chain(logs_tests::recorded()).collect();
    for setting in SETTINGS {
        let name = setting.name;
        assert!(cases.iter().any(|case| case.setting.name == name), "{name} has no recorded answers");
        assert!(super::super::NATIVES.iter().all(|native| native.name != name), "{name} is a native's name, too");
    }
    for case in cases {
        for calls in [&case.fix, &case.undo] {
            for call in calls.as_array().unwrap() {
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
