//! How an account is asked: the reading calls that the checks make, signed by whoever runs the command.
//!
//! Every call here reads. What it answers is handed on as AWS's JSON; nothing is judged, and nothing is written.

use aws_types::SdkConfig;
use redress_common::arn::Partition;
use redress_common::aws::failure::AwsFailure;
use redress_member::wire::{Operation, Protocol, Service, Wire};
use serde_json::{Value, json};

use super::finding::Place;

const fn json_service(name: &'static str, target: &'static str, version: &'static str) -> Service {
    Service::of(name, Protocol::Json { target, version })
}

const fn query_service(name: &'static str, version: &'static str) -> Service {
    Service::of(name, Protocol::Query { version, item: ".member" })
}

static CLOUDWATCH: Service = query_service("monitoring", "2010-08-01");
static CONFIG: Service = json_service("config", "StarlingDoveService", "1.1");
static DYNAMODB: Service = json_service("dynamodb", "DynamoDB_20120810", "1.0");
static EVENTS: Service = json_service("events", "AWSEvents", "1.1");
static IAM: Service = query_service("iam", "2010-05-08");
static KMS: Service = json_service("kms", "TrentService", "1.1");
static LAMBDA: Service = Service::of("lambda", Protocol::RestCapital);
static ORGANIZATIONS: Service = json_service("organizations", "AWSOrganizationsV20161128", "1.1");
static SECURITY_HUB: Service = Service::of("securityhub", Protocol::RestCapital);
static SNS: Service = query_service("sns", "2010-03-31");
static SQS: Service = json_service("sqs", "AmazonSQS", "1.0");
static SSM: Service = json_service("ssm", "AmazonSSM", "1.1");
static STS: Service = query_service("sts", "2011-06-15");

pub(super) static DESCRIBE_ALARMS: Operation = CLOUDWATCH.operation("DescribeAlarms");
pub(super) static DESCRIBE_RECORDERS: Operation = CONFIG.operation("DescribeConfigurationRecorders");
pub(super) static DESCRIBE_RECORDER_STATUS: Operation = CONFIG.operation("DescribeConfigurationRecorderStatus");
pub(super) static DESCRIBE_CHANNELS: Operation = CONFIG.operation("DescribeDeliveryChannels");
pub(super) static DESCRIBE_TABLE: Operation = DYNAMODB.operation("DescribeTable");
pub(super) static DESCRIBE_BACKUPS: Operation = DYNAMODB.operation("DescribeContinuousBackups");
pub(super) static GET_TABLE_POLICY: Operation = DYNAMODB.operation("GetResourcePolicy");
pub(super) static SCAN: Operation = DYNAMODB.operation("Scan");
pub(super) static DESCRIBE_BUS: Operation = EVENTS.operation("DescribeEventBus");
pub(super) static LIST_RULES: Operation = EVENTS.operation("ListRules");
pub(super) static LIST_TARGETS: Operation = EVENTS.operation("ListTargetsByRule");
pub(super) static GET_ROLE: Operation = IAM.operation("GetRole");
pub(super) static LIST_ROLE_POLICIES: Operation = IAM.operation("ListRolePolicies");
pub(super) static GET_ACCOUNT_SUMMARY: Operation = IAM.operation("GetAccountSummary");
pub(super) static DESCRIBE_KEY: Operation = KMS.operation("DescribeKey");
pub(super) static GET_KEY_POLICY: Operation = KMS.operation("GetKeyPolicy");
pub(super) static GET_KEY_ROTATION: Operation = KMS.operation("GetKeyRotationStatus");
pub(super) static GET_FUNCTION: Operation =
    LAMBDA.at("GetFunctionConfiguration", "GET", "/2015-03-31/functions/{FunctionName}/configuration");
pub(super) static GET_CONCURRENCY: Operation =
    LAMBDA.at("GetFunctionConcurrency", "GET", "/2019-09-30/functions/{FunctionName}/concurrency");
pub(super) static LIST_MAPPINGS: Operation =
    LAMBDA.at("ListEventSourceMappings", "GET", "/2015-03-31/event-source-mappings/?FunctionName={FunctionName}");
pub(super) static GET_LAMBDA_LIMITS: Operation =
    LAMBDA.at("GetAccountSettings", "GET", "/2016-08-19/account-settings/");
pub(super) static DESCRIBE_ORGANIZATION: Operation = ORGANIZATIONS.operation("DescribeOrganization");
pub(super) static LIST_ACCOUNTS: Operation = ORGANIZATIONS.operation("ListAccounts");
pub(super) static DESCRIBE_HUB: Operation = SECURITY_HUB.at("DescribeHub", "GET", "/accounts");
pub(super) static DESCRIBE_ACTIONS: Operation = SECURITY_HUB.at("DescribeActionTargets", "POST", "/actionTargets/get");
pub(super) static GET_TOPIC: Operation = SNS.operation("GetTopicAttributes");
pub(super) static LIST_SUBSCRIPTIONS: Operation = SNS.operation("ListSubscriptionsByTopic");
pub(super) static GET_QUEUE_URL: Operation = SQS.operation("GetQueueUrl");
pub(super) static GET_QUEUE: Operation = SQS.operation("GetQueueAttributes");
pub(super) static LIST_DOCUMENTS: Operation = SSM.operation("ListDocuments");
pub(super) static GET_DOCUMENT: Operation = SSM.operation("GetDocument");
pub(super) static LIST_EXECUTIONS: Operation = SSM.operation("DescribeAutomationExecutions");
pub(super) static GET_SETTING: Operation = SSM.operation("GetServiceSetting");
pub(super) static GET_CALLER: Operation = STS.operation("GetCallerIdentity");

/// Codes with which AWS says that there is no such thing, or that the service is off in the account and Region.
const ABSENT: [&str; 14] = [
    "AWS.SimpleQueueService.NonExistentQueue",
    "AWSOrganizationsNotInUseException",
    "InvalidDocument",
    "NoSuchBucket",
    "NoSuchBucketPolicy",
    "NoSuchEntity",
    "NoSuchPublicAccessBlockConfiguration",
    "NotFound",
    "NotFoundException",
    "PolicyNotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
    "ServerSideEncryptionConfigurationNotFoundError",
    "TableNotFoundException",
];

/// Whether a refusal means that the thing is not there.
fn is_absent(failure: &AwsFailure) -> bool {
    failure.code().is_some_and(|code| ABSENT.contains(&code))
}

/// Nothing, when AWS refused because the thing is not there.
pub(super) fn absent<T>(failure: AwsFailure) -> Result<Option<T>, Blind> {
    if is_absent(&failure) { Ok(None) } else { Err(failure.into()) }
}

/// A check could not be made: what AWS said, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Blind(pub(crate) String);

impl From<AwsFailure> for Blind {
    fn from(failure: AwsFailure) -> Self {
        Self(failure.to_string())
    }
}

/// An account and Region that is entered.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) place: Place,
    wire: Wire,
}

impl Site {
    pub(crate) fn new(place: Place, config: SdkConfig) -> Self {
        let region = place.region.to_string();
        Self { place, wire: Wire::new(config).in_region(&region) }
    }

    /// The same account in another Region.
    pub(crate) fn there(&self, place: Place) -> Self {
        let wire = self.wire.in_region(place.region.as_str());
        Self { place, wire }
    }

    /// For what an SDK crate speaks.
    pub(crate) const fn config(&self) -> &SdkConfig {
        self.wire.config()
    }

    /// AWS's answer; `None` when there is no such thing.
    pub(crate) async fn ask(&self, operation: &'static Operation, input: Value) -> Result<Option<Value>, Blind> {
        match self.wire(operation).call(operation, &input).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) => absent(failure),
        }
    }

    /// The same, where AWS tells another code for a service that is off.
    pub(crate) async fn ask_unless(
        &self,
        operation: &'static Operation,
        input: Value,
        off: &str,
    ) -> Result<Option<Value>, Blind> {
        match self.wire(operation).call(operation, &input).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.code() == Some(off) => Ok(None),
            Err(failure) => absent(failure),
        }
    }

    /// Every item of a list that comes in pages: below `list`, going on with `NextToken`.
    pub(crate) async fn all(
        &self,
        operation: &'static Operation,
        input: Value,
        list: &str,
    ) -> Result<Vec<Value>, Blind> {
        let (mut items, mut input) = (Vec::new(), input);
        loop {
            let Some(mut answer) = self.ask(operation, input.clone()).await? else { return Ok(items) };
            if let Value::Array(page) = answer[list].take() {
                items.extend(page);
            }
            match answer["NextToken"].take() {
                Value::String(token) if !token.is_empty() => input["NextToken"] = json!(token),
                _ => return Ok(items),
            }
        }
    }

    /// Organizations is one a partition, in one Region.
    fn wire(&self, operation: &'static Operation) -> Wire {
        if operation.service.name != ORGANIZATIONS.name {
            return self.wire.clone();
        }
        self.wire.in_region(match self.place.partition() {
            Partition::Aws => "us-east-1",
            Partition::UsGov => "us-gov-west-1",
            Partition::China => "cn-northwest-1",
        })
    }
}

/// A value that AWS may leave out, or write as a text: `true` is the JSON `true` and the text `true`.
pub(super) fn is_true(value: &Value) -> bool {
    value == true || value == "true"
}

/// A number, as JSON or as a text.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The items of what the XML protocols answer: a list, one item alone, or nothing.
pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// A value of a map of the XML protocols: `{ "entry": [{ "key": …, "value": … }] }`.
pub(super) fn entry<'a>(map: &'a Value, key: &str) -> &'a Value {
    items(&map["entry"]).iter().find(|entry| entry["key"] == key).map_or(&Value::Null, |entry| &entry["value"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_answers_is_read_whether_it_is_one_or_many() {
        let one = json!({ "entry": { "key": "Roles", "value": "12" } });
        assert_eq!(number(entry(&one, "Roles")), Some(12));
        let many = json!({ "entry": [{ "key": "Roles", "value": "12" }, { "key": "RolesQuota", "value": "1000" }] });
        assert_eq!(number(entry(&many, "RolesQuota")), Some(1000));
        assert_eq!(entry(&Value::Null, "Roles"), &Value::Null);
        assert!(items(&Value::Null).is_empty() && items(&json!("x")).len() == 1);
    }

    #[test]
    fn only_what_is_not_there_is_absent() {
        for (code, absent) in [("NoSuchEntity", true), ("AccessDenied", false), ("ThrottlingException", false)] {
            assert_eq!(is_absent(&AwsFailure::refused("GetRole", code, "")), absent, "{code}");
        }
        assert!(!is_absent(&AwsFailure::partial("GetRole", "no answer")));
    }
}
