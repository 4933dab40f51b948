//! What GuardDuty says of a resource that was made for it: the `detail` of its event. Pure.

use jiff::Timestamp;
use redress_common::eks;
use redress_lab::scenario::Broken;
use serde_json::{Value, json};
use uuid::Uuid;

use super::scenario::Resource;

/// The source of GuardDuty's events.
pub(crate) const SOURCE: &str = "aws.guardduty";
/// Their `detail-type`.
pub(crate) const DETAIL_TYPE: &str = "GuardDuty Finding";
/// Who finds, in every account.
const DETECTOR: &str = "12abc34d567e8fa901bc2d34e56789f0";

/// A finding of this type and severity.
pub(crate) fn detail(
    about: &Broken,
    resource: Resource,
    (kind, severity): (&str, f64),
    id: Uuid,
    at: Timestamp,
) -> Value {
    let Broken { account, region, resource_arn, .. } = about;
    let (id, partition) = (id.simple().to_string(), resource_arn.partition());
    json!({
        "schemaVersion": "2.0", "accountId": account, "region": region, "partition": partition, "id": id,
        "arn": format!("arn:{partition}:guardduty:{region}:{account}:detector/{DETECTOR}/finding/{id}"),
        "type": kind, "resource": described(about, resource), "severity": severity, "createdAt": at, "updatedAt": at,
        "service": {
            "serviceName": "guardduty", "detectorId": DETECTOR, "archived": false, "count": 1, "resourceRole": "TARGET",
            "action": { "actionType": "NETWORK_CONNECTION", "networkConnectionAction": {
                "connectionDirection": "OUTBOUND", "protocol": "TCP", "blocked": false,
                "remoteIpDetails": { "ipAddressV4": "198.51.100.99" },
            } },
            "additionalInfo": { "value": "{}", "type": "default" },
        },
        "title": format!("The {} does what it should not.", resource.words()),
        "description": "A game day: somebody breaks things on purpose.",
    })
}

fn described(about: &Broken, resource: Resource) -> Value {
    let arn = about.resource_arn.as_str();
    let name = arn.rsplit([':', '/']).next().unwrap_or_default();
    let key_of = |kind: &str| {
        let details = json!({
            "accessKeyId": "ASIAEXAMPLEEXAMPLE00", "principalId": "AIDAEXAMPLE", "userName": name, "userType": kind,
        });
        json!({ "resourceType": "AccessKey", "accessKeyDetails": details })
    };
    match resource {
        Resource::Instance => {
            let details = json!({ "instanceId": name, "instanceType": "t3.micro" });
            json!({ "resourceType": "Instance", "instanceDetails": details })
        }
        Resource::Bucket => {
            let details = json!({ "arn": arn, "name": name, "type": "Destination" });
            json!({ "resourceType": "S3Bucket", "s3BucketDetails": [details] })
        }
        Resource::User => key_of("IAMUser"),
        Resource::Role => key_of("AssumedRole"),
        Resource::Function => {
            json!({ "resourceType": "Lambda", "lambdaDetails": { "functionArn": arn, "functionName": name } })
        }
        Resource::Database => {
            let details = json!({ "dbInstanceArn": arn, "dbInstanceIdentifier": name, "engine": "postgres" });
            json!({ "resourceType": "RDSDBInstance", "rdsDbInstanceDetails": details })
        }
        Resource::Cluster => {
            let details = json!({ "arn": arn, "name": name, "status": "ACTIVE" });
            json!({ "resourceType": "EKSCluster", "eksClusterDetails": details })
        }
        Resource::Access => {
            let details = json!({ "arn": eks::cluster_of(&about.resource_arn), "status": "ACTIVE" });
            let key = key_of("Role")["accessKeyDetails"].take();
            json!({ "resourceType": "EKSCluster", "eksClusterDetails": details, "accessKeyDetails": key })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use redress_common::finding::{Check, Inbound, parse};

    use super::*;

    #[test]
    fn redress_reads_of_each_finding_which_resource_it_is_about() {
        let at: Timestamp = "2026-03-01T09:00:00Z".parse().unwrap();
        for (resource, arn, kind) in [
            (Resource::Instance, "arn:aws:ec2:us-east-1:222222222222:instance/i-0abc", "Backdoor:EC2/C&CActivity.B"),
            (Resource::Bucket, "arn:aws:s3:::press-kit", "Policy:S3/BucketAnonymousAccessGranted"),
            (Resource::User, "arn:aws:iam::222222222222:user/deploy", "UnauthorizedAccess:IAMUser/TorIPCaller"),
            (Resource::Role, "arn:aws:iam::222222222222:role/batch", "UnauthorizedAccess:IAMUser/TorIPCaller"),
            (
                Resource::Function,
                "arn:aws:lambda:us-east-1:222222222222:function:resize",
                "Backdoor:Lambda/C&CActivity.B",
            ),
            (
                Resource::Database,
                "arn:aws:rds:us-east-1:222222222222:db:orders",
                "CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin",
            ),
            (
                Resource::Cluster,
                "arn:aws:eks:us-east-1:222222222222:cluster/prod",
                "CredentialAccess:Kubernetes/SuccessfulAnonymousAccess",
            ),
            (
                Resource::Access,
                "arn:aws:eks:us-east-1:222222222222:access-entry/prod/role/222222222222/deploy",
                "CredentialAccess:Kubernetes/TorIPCaller",
            ),
        ] {
            let about = Broken {
                scenario: "contain".to_owned(),
                control: resource.control().parse().unwrap(),
                account: "222222222222".parse().unwrap(),
                region: "us-east-1".parse().unwrap(),
                resource_arn: arn.parse().unwrap(),
            };
            let event = json!({
                "version": "0", "id": "e-1", "detail-type": DETAIL_TYPE, "source": SOURCE, "account": about.account,
                "time": at, "region": about.region, "resources": [],
                "detail": detail(&about, resource, (kind, 8.0), Uuid::nil(), at),
            });
            let read = parse(event.to_string().as_bytes()).unwrap();
            let Inbound::Findings(found) = read else { panic!("{arn}: no finding is read") };
            let [Ok(finding)] = found.as_slice() else { panic!("{arn}: {found:?}") };
            assert_eq!((finding.resource.arn.as_str(), finding.severity.score), (arn, 80));
            assert_eq!(finding.check, Check::GuardDutyType(kind.to_owned()));
        }
    }
}
