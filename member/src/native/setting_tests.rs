//! Each setting over answers of the form that AWS gives.
#![allow(clippy::unwrap_used, clippy::panic)]

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

fn subnets() -> Value {
    let subnet = |id: &str, zone: &str, free: &str| json!({ "subnetId": id, "availabilityZone": zone, "availableIpAddressCount": free });
    json!({ "subnetSet": [subnet("subnet-4", "eu-central-1a", "9"), subnet("subnet-2", "eu-central-1a", "9"), subnet("subnet-1", "eu-central-1a", "0"),
        subnet("subnet-3", "eu-central-1b", "9"), subnet("subnet-0", "eu-central-1-ham-1a", "9")] })
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
    const PROJECT: &str = "arn:aws:codebuild:eu-central-1:111122223333:project/web";
    const VPC: &str = "arn:aws:ec2:eu-central-1:111122223333:vpc/vpc-1";
    const STACK: &str = "arn:aws:cloudformation:eu-central-1:111122223333:stack/shop/1-2";
    const CERTIFICATE: &str = "arn:aws:acm:eu-central-1:111122223333:certificate/12-34";
    const LAUNCH: &str =
        "arn:aws:autoscaling:eu-central-1:111122223333:launchConfiguration:1:launchConfigurationName/web";
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
            assert!(undo.is_err(), "{name}: there is no way back");
        } else {
            assert_eq!(written(undo), case.undo, "{name}: undo");
        }
    }
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
