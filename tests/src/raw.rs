//! Ways into the pipeline past every sender: raw messages, events of our making, requests that nobody waits for.

use redress_common::arn::Arn;
use redress_common::eks::{EntryName, PodName, cluster_of};
use redress_common::names;
use redress_lab::scenario::{self, Broken};
use serde_json::{Value, json};

use crate::world::World;

impl World {
    /// The administrator account.
    #[must_use]
    pub fn administrator(&self) -> String {
        self.bed.organisation.administrator.id.to_string()
    }

    /// A call as the administrator account's root that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[expect(clippy::panic, reason = "the tests' own housekeeping")]
    pub async fn admin_call(&self, service: &str, operation: &str, parameters: Value) -> Value {
        match self.call(&self.administrator(), service, operation, parameters).await {
            Ok(answer) => answer,
            Err(error) => panic!("{service}:{operation}: {error}"),
        }
    }

    /// The URL of a queue of the administrator account.
    pub async fn queue_url(&self, name: &str) -> String {
        let answer = self.admin_call("sqs", "GetQueueUrl", json!({ "QueueName": name })).await;
        answer["QueueUrl"].as_str().unwrap_or_default().to_owned()
    }

    /// Puts a message on the findings queue, past every rule.
    pub async fn send_raw(&self, body: &str) {
        let url = self.queue_url(names::FINDINGS_QUEUE).await;
        self.admin_call("sqs", "SendMessage", json!({ "QueueUrl": url, "MessageBody": body })).await;
    }

    /// Messages in a queue: waiting, and taken but not deleted.
    pub async fn depth(&self, name: &str) -> (u64, u64) {
        let asked = json!({
            "QueueUrl": self.queue_url(name).await,
            "AttributeNames": ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        });
        let attributes = self.admin_call("sqs", "GetQueueAttributes", asked).await["Attributes"].clone();
        let count = |name: &str| attributes[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
        (count("ApproximateNumberOfMessages"), count("ApproximateNumberOfMessagesNotVisible"))
    }

    /// Waits until a queue is empty, in flight and all.
    pub async fn drained(&self, name: &str) {
        let what = format!("queue {name} is empty");
        self.eventually(&what, async || (self.depth(name).await == (0, 0)).then_some(())).await;
    }

    /// Breaks something and tells nobody.
    ///
    /// # Panics
    /// When the scenario fails.
    #[expect(clippy::panic, reason = "without its scenario there is no test")]
    pub async fn break_only(&self, name: &str, account: &str) -> Broken {
        let Ok(account) = account.parse() else { panic!("`{account}` is no account") };
        match scenario::break_only(name, self.bed.lab.aws(), &account, &self.bed.organisation.region).await {
            Ok(broken) => broken,
            Err(error) => panic!("scenario {name}: {error}"),
        }
    }

    /// Asks for a remediation (`Apply` or `DryRun`) as the command line does. The answer is the request's id.
    pub async fn ask(&self, account: &str, control: &str, resource: &str, mode: &str) -> String {
        let request = uuid::Uuid::new_v4().to_string();
        let detail = json!({
            "Control": control, "AccountId": account, "Region": self.region(), "ResourceArn": resource, "Mode": mode,
            "RequestId": request,
        });
        self.put_on_hub(names::REMEDIATE_DETAIL_TYPE, &detail).await;
        request
    }

    /// Asks for an undo.
    pub async fn ask_undo(&self, remediation: &str) -> String {
        let request = uuid::Uuid::new_v4().to_string();
        let detail = json!({ "RemediationId": remediation, "Mode": "Restore", "RequestId": request });
        self.put_on_hub(names::UNDO_DETAIL_TYPE, &detail).await;
        request
    }

    /// Puts an event of ours on the hub bus, as the administrator account's root.
    pub async fn put_on_hub(&self, detail_type: &str, detail: &Value) {
        let entry = json!({
            "EventBusName": names::HUB_BUS, "Source": names::EVENT_SOURCE, "DetailType": detail_type,
            "Detail": detail.to_string(),
        });
        self.admin_call("events", "PutEvents", json!({ "Entries": [entry] })).await;
    }

    /// The records of a resource, once one of them has this status.
    pub async fn comes_to(&self, account: &str, resource: &str, status: &str) -> Vec<Value> {
        let what = format!("{resource} comes to {status}");
        let holds = |record: &Value| record["ResourceId"] == resource && record["ExecutionStatus"] == status;
        let records = self.ledger_when(account, &what, holds).await;
        records.into_iter().filter(|record| record["ResourceId"] == resource).collect()
    }

    /// The remediation of the newest of these records with this status.
    #[must_use]
    pub fn id_of(records: &[Value], status: &str) -> String {
        let found = records.iter().rev().find(|record| record["ExecutionStatus"] == status);
        found.and_then(|record| record["RemediationId"].as_str()).unwrap_or_default().to_owned()
    }
}

/// A Config event of a rule that a bucket does not pass, as EventBridge delivers it.
#[must_use]
pub fn config_event(account: &str, region: &str, bucket: &str, at: jiff::Timestamp) -> Value {
    rule_event(account, region, "s3-bucket-level-public-access-prohibited", ("AWS::S3::Bucket", bucket), at)
}

/// A Config event of a rule that a resource of this type and id does not pass, as EventBridge delivers it.
#[must_use]
pub fn rule_event(account: &str, region: &str, rule: &str, resource: (&str, &str), at: jiff::Timestamp) -> Value {
    let (kind, id) = resource;
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(), "detail-type": "Config Rules Compliance Change",
        "source": "aws.config", "account": account, "time": at.to_string(), "region": region, "resources": [],
        "detail": {
            "resourceId": id, "awsRegion": region, "awsAccountId": account, "configRuleName": rule,
            "configRuleARN": format!("arn:aws:config:{region}:{account}:config-rule/config-rule-abcdef"),
            "resourceType": kind, "recordVersion": "1.0", "messageType": "ComplianceChangeNotification",
            "newEvaluationResult": {
                "evaluationResultIdentifier": {
                    "evaluationResultQualifier": { "configRuleName": rule, "resourceType": kind, "resourceId": id },
                    "orderingTimestamp": at.to_string(),
                },
                "complianceType": "NON_COMPLIANT", "resultRecordedTime": at.to_string(), "configRuleInvokedTime": at.to_string(),
            },
            "notificationCreationTime": at.to_string(),
        },
    })
}

/// A Security Hub finding that a bucket fails S3.8, as ASFF.
#[must_use]
pub fn asff(account: &str, region: &str, resource: &str, at: jiff::Timestamp) -> Value {
    json!({
        "SchemaVersion": "2018-10-08",
        "Id": format!("arn:aws:securityhub:{region}:{account}:security-control/S3.8/finding/{}", uuid::Uuid::new_v4()),
        "ProductArn": format!("arn:aws:securityhub:{region}::product/aws/securityhub"),
        "ProductName": "Security Hub", "CompanyName": "AWS", "Region": region, "GeneratorId": "security-control/S3.8",
        "AwsAccountId": account, "Types": ["Software and Configuration Checks/Industry and Regulatory Standards"],
        "FirstObservedAt": at.to_string(), "CreatedAt": at.to_string(), "UpdatedAt": at.to_string(),
        "Severity": { "Label": "HIGH", "Normalized": 70, "Original": "HIGH" },
        "Title": "S3 general purpose buckets should block public access", "Description": "as its title says",
        "Resources": [{ "Type": "AwsS3Bucket", "Id": resource, "Partition": "aws", "Region": region }],
        "Compliance": { "Status": "FAILED", "SecurityControlId": "S3.8", "AssociatedStandards": [] },
        "WorkflowState": "NEW", "Workflow": { "Status": "NEW" }, "RecordState": "ACTIVE",
    })
}

/// GuardDuty's event of a finding of an instance, a bucket, a function, a database, a cluster or a pod.
#[must_use]
pub fn guardduty_event(
    account: &str,
    region: &str,
    arn: &str,
    (kind, severity): (&str, f64),
    at: jiff::Timestamp,
) -> Value {
    let name = arn.rsplit([':', '/']).next().unwrap_or_default();
    let resource = if arn.contains(":s3:::") {
        json!({ "resourceType": "S3Bucket", "s3BucketDetails": [{ "arn": arn, "name": name, "type": "Destination" }] })
    } else if arn.contains(":lambda:") {
        json!({ "resourceType": "Lambda", "lambdaDetails": { "functionArn": arn, "functionName": name } })
    } else if arn.contains(":eks:") {
        cluster(arn)
    } else if arn.contains(":rds:") {
        let details = json!({ "dbInstanceArn": arn, "dbInstanceIdentifier": name, "engine": "postgres" });
        json!({ "resourceType": "RDSDBInstance", "rdsDbInstanceDetails": details })
    } else {
        json!({ "resourceType": "Instance", "instanceDetails": { "instanceId": name, "instanceType": "t3.micro" } })
    };
    let (id, detector) = (uuid::Uuid::new_v4().simple().to_string(), "12abc34d567e8fa901bc2d34e56789f0");
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(), "detail-type": "GuardDuty Finding",
        "source": "aws.guardduty", "account": account, "time": at.to_string(), "region": region, "resources": [],
        "detail": {
            "schemaVersion": "2.0", "accountId": account, "region": region, "partition": "aws", "id": id,
            "arn": format!("arn:aws:guardduty:{region}:{account}:detector/{detector}/finding/{id}"),
            "type": kind, "resource": resource, "severity": severity,
            "createdAt": at.to_string(), "updatedAt": at.to_string(),
            "service": {
                "serviceName": "guardduty", "detectorId": detector, "archived": false, "count": 1, "resourceRole": "ACTOR",
                "action": { "actionType": "NETWORK_CONNECTION", "networkConnectionAction": {
                    "connectionDirection": "OUTBOUND", "protocol": "TCP", "blocked": false,
                    "remoteIpDetails": { "ipAddressV4": "198.51.100.99" },
                } },
                "additionalInfo": { "value": "{}", "type": "default" },
            },
            "title": "The resource does what it should not.", "description": "It talks to a command and control server.",
        },
    })
}

/// What GuardDuty tells of a cluster, or of a pod of one.
fn cluster(arn: &str) -> Value {
    let arn: Option<Arn> = arn.parse().ok();
    let cluster = arn.as_ref().and_then(cluster_of).or_else(|| arn.clone());
    let name = cluster.as_ref().map(|cluster| cluster.resource().trim_start_matches("cluster/"));
    let mut told = json!({
        "resourceType": "EKSCluster", "eksClusterDetails": { "arn": cluster, "name": name, "status": "ACTIVE" },
        "kubernetesDetails": { "kubernetesUserDetails": { "username": "system:anonymous" } },
    });
    if let Some(PodName { namespace, pod, .. }) = arn.as_ref().and_then(PodName::of) {
        told["kubernetesDetails"]["kubernetesWorkloadDetails"] =
            json!({ "name": pod, "type": "pods", "namespace": namespace, "hostNetwork": false });
    }
    if let Some(entry) = arn.as_ref().and_then(EntryName::of) {
        let (kind, session) =
            if entry.kind == "role" { ("Role", "ASIAEXAMPLEEXAMPLE00") } else { ("IAMUser", "AKIAEXAMPLEEXAMPLE00") };
        told["accessKeyDetails"] = json!({
            "accessKeyId": session, "principalId": "AROAEXAMPLEEXAMPLE00:jo", "userName": entry.name, "userType": kind,
        });
        told["kubernetesDetails"]["kubernetesUserDetails"] =
            json!({ "username": entry.name, "groups": ["system:authenticated"] });
    }
    told
}

/// An event of Security Hub's that carries findings: `Imported`, or `Custom Action` when one is given.
#[must_use]
pub fn security_hub_event(account: &str, region: &str, findings: &[Value], action: Option<&str>) -> Value {
    let (kind, resources) = match action {
        None => ("Imported", json!([])),
        Some(id) => ("Custom Action", json!([format!("arn:aws:securityhub:{region}:{account}:action/custom/{id}")])),
    };
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(), "detail-type": format!("Security Hub Findings - {kind}"),
        "source": "aws.securityhub", "account": account, "time": jiff::Timestamp::now().to_string(), "region": region,
        "resources": resources, "detail": { "actionName": "x", "actionDescription": "x", "findings": findings },
    })
}
