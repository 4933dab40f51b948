//! What a sample finding looks like: the `detail` of its event. Pure.
//!
//! Its resources are made up, as GuardDuty's are: they do not exist, and some of their ARNs are none.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Place;
use super::types::{Kind, On};

/// A sample of a type, seen for the first time.
pub(super) fn finding(place: &Place<'_>, kind: &Kind, now: Timestamp) -> Value {
    let Place { account, region, detector } = place;
    let id = hex::encode(&Sha256::digest(format!("{}/{}", place.arn(), kind.name))[..16]);
    let now = iso(now);
    let mut service = json!({
        "serviceName": "guardduty", "detectorId": detector, "archived": false, "count": 1, "resourceRole": "TARGET",
        "eventFirstSeen": now, "eventLastSeen": now,
        "action": { "actionType": "NETWORK_CONNECTION", "networkConnectionAction": {
            "connectionDirection": "OUTBOUND", "protocol": "TCP", "blocked": false,
            "remoteIpDetails": { "ipAddressV4": "198.51.100.0" },
        } },
        "additionalInfo": { "value": json!({ "sample": true }).to_string(), "type": "default" },
    });
    if let On::Sequence(resources) = kind.on {
        let resources: Vec<Value> = resources.iter().map(|on| json!({ "uid": arn(place, *on) })).collect();
        service["detection"] = json!({ "sequence": {
            "uid": format!("GeneratedFindingSequence-{id}"), "description": "A made up sequence", "signals": [],
            "resources": resources,
        } });
    }
    json!({
        "schemaVersion": "2.0", "accountId": account, "region": region, "partition": place.partition().to_string(), "id": id,
        "arn": format!("{}/finding/{id}", place.arn()), "type": kind.name, "resource": resource(place, kind.on),
        "service": service, "severity": kind.severity, "createdAt": now, "updatedAt": now,
        "title": format!("{} was seen.", kind.name), "description": "A sample finding of the lab's GuardDuty.",
    })
}

/// The same sample, asked for once more.
pub(super) fn seen_again(finding: &mut Value, now: Timestamp) {
    finding["updatedAt"] = json!(iso(now));
    finding["service"]["eventLastSeen"] = json!(iso(now));
    finding["service"]["count"] = json!(finding["service"]["count"].as_u64().unwrap_or(0) + 1);
    finding["service"]["archived"] = json!(false);
}

fn principal(user_type: &str) -> Value {
    json!({
        "accessKeyId": "GeneratedFindingAccessKeyId", "principalId": "GeneratedFindingPrincipalId",
        "userName": "GeneratedFindingUserName", "userType": user_type,
    })
}

fn resource(place: &Place<'_>, on: On) -> Value {
    let cluster = |name: &str| json!({ "name": name, "arn": name.replace("Name", "Arn"), "status": "ACTIVE" });
    match on {
        On::Instance => json!({ "resourceType": "Instance", "instanceDetails": {
            "instanceId": "i-99999999", "instanceType": "m3.xlarge", "availabilityZone": "GeneratedFindingInstanceAvailabilityZone",
        } }),
        On::User => json!({ "resourceType": "AccessKey", "accessKeyDetails": principal("IAMUser") }),
        On::Role => json!({ "resourceType": "AccessKey", "accessKeyDetails": principal("AssumedRole") }),
        On::Root => json!({ "resourceType": "AccessKey", "accessKeyDetails": principal("Root") }),
        On::Bucket => json!({
            "resourceType": "S3Bucket", "accessKeyDetails": principal("IAMUser"),
            "s3BucketDetails": [{ "arn": arn(place, on), "name": "GeneratedFindingS3Bucket", "type": "Destination" }],
        }),
        On::Object => json!({ "resourceType": "S3Object", "s3BucketDetails": [{
            "arn": arn(place, On::Bucket), "name": "GeneratedFindingS3Bucket",
        }] }),
        On::EksCluster => json!({
            "resourceType": "EKSCluster", "eksClusterDetails": cluster("GeneratedFindingEKSClusterName"),
            "accessKeyDetails": principal("Role"),
        }),
        On::EcsCluster => json!({
            "resourceType": "ECSCluster", "ecsClusterDetails": cluster("GeneratedFindingECSClusterName"),
        }),
        // AWS documents the details of what was scanned in a backup, not the word for it.
        On::Snapshot => json!({ "resourceType": "EBSSnapshot", "ebsSnapshotDetails": {
            "snapshotArn": "GeneratedFindingEBSSnapshotArn",
        } }),
        On::Image => json!({ "resourceType": "EC2Image", "ec2ImageDetails": {
            "imageArn": "GeneratedFindingEC2ImageArn",
        } }),
        On::RecoveryPoint => json!({ "resourceType": "RecoveryPoint", "recoveryPointDetails": {
            "recoveryPointArn": "GeneratedFindingRecoveryPointArn",
            "backupVaultName": "GeneratedFindingBackupVaultName",
        } }),
        On::Container => {
            json!({ "resourceType": "Container", "containerDetails": { "id": "GeneratedFindingContainerId" } })
        }
        On::Function => json!({ "resourceType": "Lambda", "lambdaDetails": {
            "functionArn": "GeneratedFindingLambdaFunctionArn", "functionName": "GeneratedFindingLambdaFunctionName",
        } }),
        On::Database => json!({ "resourceType": "RDSDBInstance", "rdsDbInstanceDetails": {
            "dbInstanceIdentifier": "GeneratedFindingDBInstanceId", "dbInstanceArn": "GeneratedFindingDBInstanceArn",
            "engine": "GeneratedFindingEngine",
        } }),
        On::Sequence(_) => json!({ "resourceType": "AttackSequence" }),
    }
}

/// The ARN by which a sequence names what it hit.
fn arn(place: &Place<'_>, on: On) -> String {
    let (partition, Place { account, region, .. }) = (place.partition(), place);
    match on {
        On::Instance => format!("arn:{partition}:ec2:{region}:{account}:instance/i-99999999"),
        On::Bucket => format!("arn:{partition}:s3:::GeneratedFindingS3Bucket"),
        On::EksCluster => format!("arn:{partition}:eks:{region}:{account}:cluster/GeneratedFindingEKSClusterName"),
        On::EcsCluster => format!("arn:{partition}:ecs:{region}:{account}:cluster/GeneratedFindingECSClusterName"),
        On::Role => format!("arn:{partition}:iam::{account}:role/GeneratedFindingUserName"),
        _ => format!("arn:{partition}:iam::{account}:user/GeneratedFindingUserName"),
    }
}

fn iso(at: Timestamp) -> String {
    format!("{at:.3}")
}
