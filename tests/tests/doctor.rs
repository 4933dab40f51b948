//! `redress deploy doctor`: in a healthy organisation it finds nothing; each fault that is planted it names, and no other;
//! once that is mended it finds nothing again. Where it cannot look it says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use redress_common::{automation_rules, names};
use redress_lab::bed::Bed;
use redress_lab::organisation::Plan;
use redress_lab::service::Credentials;
use redress_tests::world::{World, binaries, options, root};
use serde_json::{Value, json};

/// The role that the doctor enters the member with.
const READER: &str = "OrganizationAccountAccessRole";
/// Who hears the topic.
const LISTENER: &str = "somebody-who-listens";
/// A Region that Redress is not in.
const ELSEWHERE: &str = "eu-west-1";

/// One AWS call of an account's administrator.
struct Step(String, &'static str, &'static str, Value);

/// A fault: what makes it, and what makes it good.
struct Fault {
    check: &'static str,
    code: &'static str,
    account: String,
    plant: Vec<Step>,
    mend: Vec<Step>,
}

/// What the command said.
struct Said {
    exit: i32,
    report: Value,
    text: String,
}

impl Said {
    /// Each finding, but for notes, as code and account.
    fn found(&self) -> BTreeSet<(String, String)> {
        let text = |found: &Value, name: &str| found[name].as_str().unwrap().to_owned();
        let findings = self.report["Findings"].as_array().unwrap().iter();
        findings.filter(|one| one["Severity"] != "note").map(|one| (text(one, "Code"), text(one, "Account"))).collect()
    }
}

struct Clinic {
    world: World,
    administrator: String,
    member: String,
}

impl Clinic {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let options = options(&["payments"]);
        let mut plan = Plan::of(&root(), &["payments"], options.progress.clone()).unwrap();
        plan.administrator_parameters.insert("DeletionProtection".to_owned(), "true".to_owned());
        let bed = runtime.block_on(Bed::start_planned(options, plan)).unwrap();
        let world = World::of(runtime, bed);
        let (administrator, member) = (world.administrator(), world.member("payments"));
        Self { world, administrator, member }
    }

    async fn call(&self, account: &str, service: &str, operation: &str, parameters: Value) -> Value {
        let answer = self.world.call(account, service, operation, parameters).await;
        answer.unwrap_or_else(|error| panic!("{service}:{operation} in {account}: {error}"))
    }

    async fn play(&self, steps: &[Step]) {
        for Step(account, service, operation, parameters) in steps {
            self.call(account, service, operation, parameters.clone()).await;
        }
    }

    /// What the lab leaves out, and every deployment has: AWS Config itself, somebody who hears, and a role to look with.
    async fn move_in(&self) {
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "AWS": format!("arn:aws:iam::{}:root", self.administrator) }, "Action": "sts:AssumeRole" }] });
        let everything =
            json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
        let role = json!({ "RoleName": READER, "AssumeRolePolicyDocument": trust.to_string() });
        self.call(&self.member, "iam", "CreateRole", role).await;
        let policy = json!({ "RoleName": READER, "PolicyName": "all", "PolicyDocument": everything.to_string() });
        self.call(&self.member, "iam", "PutRolePolicy", policy).await;
        self.play(&self.recorder()).await;
        self.call(&self.administrator, "sqs", "CreateQueue", json!({ "QueueName": LISTENER })).await;
        self.play(&[self.subscription()]).await;
        // The lab's schedules fire when they are asked to.
        self.world.bed.lab.fire_schedule(&self.administrator, names::CHECKPOINT_RULE).await.unwrap();
        let signed = async || self.world.state_value("checkpoint").await;
        self.world.eventually("the first checkpoint is made", signed).await;
    }

    fn recorder(&self) -> Vec<Step> {
        let role =
            format!("arn:aws:iam::{}:role/aws-service-role/config.amazonaws.com/AWSServiceRoleForConfig", self.member);
        let recorder = json!({ "ConfigurationRecorder": {
            "name": "default", "roleARN": role, "recordingGroup": { "allSupported": true } } });
        vec![
            self.here("config", "PutConfigurationRecorder", recorder),
            self.channel(),
            self.here("config", "StartConfigurationRecorder", json!({ "ConfigurationRecorderName": "default" })),
        ]
    }

    fn channel(&self) -> Step {
        let bucket = names::evidence_bucket(&self.member.parse().unwrap(), &self.world.bed.organisation.region);
        let channel = json!({ "DeliveryChannel": { "name": "default", "s3BucketName": bucket } });
        self.here("config", "PutDeliveryChannel", channel)
    }

    fn subscription(&self) -> Step {
        let queue = format!("arn:aws:sqs:{}:{}:{LISTENER}", self.world.region(), self.administrator);
        let topic = self.world.bed.organisation.topic_arn();
        self.at_the_top("sns", "Subscribe", json!({ "TopicArn": topic, "Protocol": "sqs", "Endpoint": queue }))
    }

    fn here(&self, service: &'static str, operation: &'static str, parameters: Value) -> Step {
        Step(self.member.clone(), service, operation, parameters)
    }

    fn at_the_top(&self, service: &'static str, operation: &'static str, parameters: Value) -> Step {
        Step(self.administrator.clone(), service, operation, parameters)
    }

    /// The command, as the root of the administrator account.
    async fn doctor(&self, arguments: &[&str]) -> Said {
        let begun = std::time::Instant::now();
        let mut command = Command::new(binaries().join("redress"));
        command
            .args(["deploy", "doctor"])
            .args(arguments)
            .arg("--json")
            .env_clear()
            .env("AWS_ENDPOINT_URL", self.world.bed.lab.endpoint())
            .env("AWS_REGION", self.world.region())
            .env("AWS_ACCESS_KEY_ID", &self.administrator)
            .env("AWS_SECRET_ACCESS_KEY", "lab");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        println!("redress deploy doctor {}: {:?}", arguments.join(" "), begun.elapsed());
        let text = String::from_utf8(output.stdout).unwrap();
        let report = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("no JSON: {text}{}", String::from_utf8_lossy(&output.stderr)));
        Said { exit: output.status.code().unwrap(), report, text }
    }

    /// In the member account it needs the rights that its own list has, and reading its Regions.
    async fn asked_no_more_than_it_says(&self) {
        let listed = self.doctor(&["--list"]).await.report;
        let rights = listed.as_array().unwrap().iter().flat_map(|check| check["Rights"].as_array().unwrap());
        let mut rights: BTreeSet<&str> = rights.filter_map(Value::as_str).collect();
        rights.insert("iam:ListRolePolicies");
        let calls = self.world.bed.lab.record().calls();
        let as_reader = calls.iter().filter(|call| call.principal.contains(READER) && call.account == self.member);
        let asked: BTreeSet<&str> =
            as_reader.flat_map(|call| &call.checks).map(|check| check.action.as_str()).collect();
        let more: Vec<&&str> = asked.difference(&rights).collect();
        assert!(more.is_empty() && asked.len() > 15, "not among its rights: {more:?}; asked: {asked:?}");
    }

    async fn is_healthy(&self, after: &str) {
        let said = self.doctor(&[]).await;
        assert!(said.found().is_empty() && said.exit == 0, "{after}: {:#}", said.report);
    }

    /// Security Hub's aggregation ends in another Region, then at home and without a Region that Redress should be in.
    async fn aggregation(&self) {
        let elsewhere = async |operation: &str, parameters: Value| {
            let root = Credentials::root(&self.administrator);
            let answer = self.world.bed.lab.aws().call(&root, ELSEWHERE, "securityhub", operation, parameters).await;
            answer.unwrap_or_else(|error| panic!("{operation}: {error}"))
        };
        let here = async |operation: &str, parameters: Value| {
            self.call(&self.administrator, "securityhub", operation, parameters).await
        };
        let told = async |code: Option<&str>, arguments: &[&str]| {
            let said = self.doctor(&[&["--only", "aggregation"][..], arguments].concat()).await;
            let expected: BTreeSet<(String, String)> =
                code.into_iter().map(|code| (code.to_owned(), self.administrator.clone())).collect();
            assert_eq!((said.found(), said.exit), (expected, i32::from(code.is_some())), "{:#}", said.report);
        };
        let expected = ["--member-region", ELSEWHERE];
        told(None, &expected).await;

        elsewhere("EnableSecurityHub", json!({})).await;
        let made = elsewhere("CreateFindingAggregator", json!({ "RegionLinkingMode": "ALL_REGIONS" })).await;
        told(Some("aggregation-elsewhere"), &[]).await;
        let named = json!({ "FindingAggregatorArn": made["FindingAggregatorArn"] });
        elsewhere("DeleteFindingAggregator", named).await;

        let linked = |region: &str| json!({ "RegionLinkingMode": "SPECIFIED_REGIONS", "Regions": [region] });
        let made = here("CreateFindingAggregator", linked("eu-north-1")).await;
        told(None, &[]).await;
        told(Some("aggregation-without-region"), &expected).await;
        let mut change = linked(ELSEWHERE);
        change["FindingAggregatorArn"] = made["FindingAggregatorArn"].clone();
        here("UpdateFindingAggregator", change).await;
        told(None, &expected).await;
    }

    #[allow(clippy::too_many_lines, reason = "a table")]
    async fn faults(&self) -> Vec<Fault> {
        let (member, administrator) = (self.member.as_str(), self.administrator.as_str());
        let mut faults = Vec::new();
        let mut fault = |check, code, account: &str, plant: Vec<Step>, mend: Vec<Step>| {
            faults.push(Fault { check, code, account: account.to_owned(), plant, mend });
        };

        // The way in.
        let role = names::CROSS_ACCOUNT_ROLE;
        let found = self.call(member, "iam", "GetRole", json!({ "RoleName": role })).await;
        let trust = document(&found["Role"]["AssumeRolePolicyDocument"]);
        let inline = json!({ "RoleName": role, "PolicyName": "remediate" });
        let found = self.call(member, "iam", "GetRolePolicy", inline.clone()).await;
        let rights = document(&found["PolicyDocument"]);
        let trusting = |trust: &Value| {
            vec![self.here(
                "iam",
                "UpdateAssumeRolePolicy",
                json!({ "RoleName": role, "PolicyDocument": trust.to_string() }),
            )]
        };
        let create = json!({ "RoleName": role, "AssumeRolePolicyDocument": trust.to_string() });
        let mut policy = inline.clone();
        policy["PolicyDocument"] = json!(rights.to_string());
        fault(
            "roles",
            "role-missing",
            member,
            vec![
                self.here("iam", "DeleteRolePolicy", inline),
                self.here("iam", "DeleteRole", json!({ "RoleName": role })),
            ],
            vec![self.here("iam", "CreateRole", create), self.here("iam", "PutRolePolicy", policy)],
        );
        let with = |change: fn(&mut Value)| {
            let mut other = trust.clone();
            change(&mut other["Statement"][0]);
            trusting(&other)
        };
        fault("roles", "trust-open", member, with(|one| one["Principal"] = json!("*")), trusting(&trust));
        let foreign = |one: &mut Value| {
            one["Principal"] = json!({ "AWS": "arn:aws:iam::999999999999:role/Redress-Orchestrator" });
        };
        fault("roles", "trust-foreign", member, with(foreign), trusting(&trust));
        let closed = |one: &mut Value| {
            one["Principal"]["AWS"].as_array_mut().unwrap().pop();
        };
        fault("roles", "trust-closed", member, with(closed), trusting(&trust));
        let unasked = |one: &mut Value| {
            one.as_object_mut().unwrap().remove("Condition");
        };
        fault("roles", "external-id-missing", member, with(unasked), trusting(&trust));
        let other =
            |one: &mut Value| one["Condition"]["StringEquals"]["sts:ExternalId"] = json!("somebody-elses-external-id");
        fault("roles", "external-id-other", member, with(other), trusting(&trust));

        // Checkpoints.
        let signs = names::CHECKPOINT_KEY_ALIAS;
        let found = self.call(administrator, "kms", "DescribeKey", json!({ "KeyId": signs })).await;
        let id = found["KeyMetadata"]["KeyId"].clone();
        let of_key = |operation: &'static str| vec![self.at_the_top("kms", operation, json!({ "KeyId": id }))];
        fault("checkpoints", "checkpoint-key-unusable", administrator, of_key("DisableKey"), of_key("EnableKey"));
        let without = vec![self.at_the_top("kms", "DeleteAlias", json!({ "AliasName": signs }))];
        let with = json!({ "AliasName": signs, "TargetKeyId": id });
        let with = vec![self.at_the_top("kms", "CreateAlias", with)];
        fault("checkpoints", "checkpoint-key-missing", administrator, without, with);

        // Evidence.
        let alias = names::MEMBER_KEY_ALIAS;
        let found = self.call(member, "kms", "DescribeKey", json!({ "KeyId": alias })).await;
        let key = json!({ "KeyId": found["KeyMetadata"]["KeyId"] });
        let id = found["KeyMetadata"]["KeyId"].clone();
        let on_key = |operation: &'static str| self.here("kms", operation, key.clone());
        fault("key", "key-disabled", member, vec![on_key("DisableKey")], vec![on_key("EnableKey")]);
        fault(
            "key",
            "key-pending-deletion",
            member,
            vec![on_key("ScheduleKeyDeletion")],
            vec![on_key("CancelKeyDeletion"), on_key("EnableKey")],
        );
        fault(
            "key",
            "key-missing",
            member,
            vec![self.here("kms", "DeleteAlias", json!({ "AliasName": alias }))],
            vec![self.here("kms", "CreateAlias", json!({ "AliasName": alias, "TargetKeyId": id }))],
        );
        let found = self.call(member, "kms", "GetKeyPolicy", json!({ "KeyId": id, "PolicyName": "default" })).await;
        let policy = found["Policy"].as_str().unwrap().to_owned();
        let put_policy = |policy: &str| {
            vec![self.here("kms", "PutKeyPolicy", json!({ "KeyId": id, "PolicyName": "default", "Policy": policy }))]
        };
        // Whoever administers it may; nobody may use it.
        let mut shut: Value = serde_json::from_str(&policy).unwrap();
        shut["Statement"][0]["Action"] = json!(["kms:Describe*", "kms:Get*", "kms:Put*"]);
        fault("key", "key-policy-closed", member, put_policy(&shut.to_string()), put_policy(&policy));

        let bucket = names::evidence_bucket(&member.parse().unwrap(), &self.world.bed.organisation.region);
        let in_bucket = json!({ "Bucket": bucket });
        let versions = |status: &str| {
            let status = json!({ "Bucket": bucket, "VersioningConfiguration": { "Status": status } });
            vec![self.here("s3", "PutBucketVersioning", status)]
        };
        fault("bucket", "bucket-unversioned", member, versions("Suspended"), versions("Enabled"));
        let block = |on: bool| {
            let block = json!({ "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": on });
            let block = json!({ "Bucket": bucket, "PublicAccessBlockConfiguration": block });
            vec![self.here("s3", "PutPublicAccessBlock", block)]
        };
        fault("bucket", "bucket-public-access", member, block(false), block(true));
        let found = self.call(member, "s3", "GetBucketPolicy", in_bucket.clone()).await;
        let policy = json!({ "Bucket": bucket, "Policy": found["Policy"] });
        fault(
            "bucket",
            "bucket-without-tls",
            member,
            vec![self.here("s3", "DeleteBucketPolicy", in_bucket)],
            vec![self.here("s3", "PutBucketPolicy", policy)],
        );

        // AWS Config, Security Hub, documents, the way to the hub.
        let recorder = json!({ "ConfigurationRecorderName": "default" });
        let on_recorder = |operation: &'static str| self.here("config", operation, recorder.clone());
        fault(
            "config",
            "config-off",
            member,
            vec![on_recorder("StopConfigurationRecorder")],
            vec![on_recorder("StartConfigurationRecorder")],
        );
        fault(
            "config",
            "config-missing",
            member,
            vec![on_recorder("StopConfigurationRecorder"), on_recorder("DeleteConfigurationRecorder")],
            self.recorder(),
        );
        let stop = || on_recorder("StopConfigurationRecorder");
        let delete = self.here("config", "DeleteDeliveryChannel", json!({ "DeliveryChannelName": "default" }));
        fault(
            "config",
            "config-without-delivery",
            member,
            vec![stop(), delete],
            vec![self.channel(), on_recorder("StartConfigurationRecorder")],
        );
        let action =
            format!("arn:aws:securityhub:{}:{administrator}:action/custom/{}", self.world.region(), names::ACTION_UNDO);
        fault(
            "security-hub",
            "custom-action-missing",
            administrator,
            vec![self.at_the_top("securityhub", "DeleteActionTarget", json!({ "ActionTargetArn": action }))],
            vec![self.at_the_top(
                "securityhub",
                "CreateActionTarget",
                json!({ "Id": names::ACTION_UNDO, "Name": "Redress: undo", "Description": "Put back" }),
            )],
        );
        let found = self.call(administrator, "securityhub", "ListAutomationRules", json!({})).await;
        let mut rules = found["AutomationRulesMetadata"].as_array().unwrap().iter();
        let arn = rules.find(|rule| rule["RuleName"] == automation_rules::NAMES[0]).unwrap()["RuleArn"].clone();
        let writing = |name: &str, value: &Value| {
            let items = json!([{ "RuleArn": arn, (name): value }]);
            let items = json!({ "UpdateAutomationRulesRequestItems": items });
            vec![self.at_the_top("securityhub", "BatchUpdateAutomationRules", items)]
        };
        let status = |status: &str| writing("RuleStatus", &json!(status));
        let check = "automation-rules";
        fault(check, "automation-rule-disabled", administrator, status("DISABLED"), status("ENABLED"));
        let [rule, _] = automation_rules::wanted();
        let criteria = |criteria: &Value| writing("Criteria", criteria);
        let mut others = rule["Criteria"].clone();
        others["SeverityLabel"][0]["Value"] = json!("LOW");
        fault(check, "automation-rule-other", administrator, criteria(&others), criteria(&rule["Criteria"]));
        // The last of its kind: made again it has another ARN.
        let delete = json!({ "AutomationRulesArns": [arn] });
        fault(
            check,
            "automation-rule-missing",
            administrator,
            vec![self.at_the_top("securityhub", "BatchDeleteAutomationRules", delete)],
            vec![self.at_the_top("securityhub", "CreateAutomationRule", rule)],
        );
        let named = |name: &str| json!({ "Name": name });
        let found = self.call(member, "ssm", "GetDocument", named("Redress-S3.8")).await;
        let document = json!({ "Name": "Redress-S3.8", "Content": found["Content"], "DocumentType": "Automation", "DocumentFormat": "JSON" });
        fault(
            "documents",
            "documents-missing",
            member,
            vec![self.here("ssm", "DeleteDocument", named("Redress-S3.8"))],
            vec![self.here("ssm", "CreateDocument", document)],
        );
        let control = names::CONTROL_DOCUMENT;
        let found = self.call(member, "ssm", "GetDocument", named(control)).await;
        let other = found["Content"].as_str().unwrap().replacen("description", "description ", 1);
        let other = other.replacen("description ", "description", 1).replacen("Redress", "Other", 1);
        let version = |number: &str| {
            self.here("ssm", "UpdateDocumentDefaultVersion", json!({ "Name": control, "DocumentVersion": number }))
        };
        let update =
            json!({ "Name": control, "Content": other, "DocumentVersion": "$LATEST", "DocumentFormat": "JSON" });
        fault(
            "documents",
            "document-other",
            member,
            vec![self.here("ssm", "UpdateDocument", update), version("2")],
            vec![version("1")],
        );
        let rule = |operation: &'static str, name: &str| self.here("events", operation, named(name));
        fault(
            "forwarding",
            "forward-rule-disabled",
            member,
            vec![rule("DisableRule", "redress-forward-config")],
            vec![rule("EnableRule", "redress-forward-config")],
        );
        let targets = |to: &str| {
            let arn = format!("arn:aws:events:{}:{to}:event-bus/{}", self.world.region(), names::HUB_BUS);
            let forwarder = format!("arn:aws:iam::{member}:role/{}", names::EVENT_FORWARDER_ROLE);
            let target = json!({ "Id": "hub", "Arn": arn, "RoleArn": forwarder });
            vec![self.here("events", "PutTargets", json!({ "Rule": "redress-forward-guardduty", "Targets": [target] }))]
        };
        fault("forwarding", "forward-elsewhere", member, targets("999999999999"), targets(administrator));

        // The hub.
        let found = self.call(administrator, "events", "DescribeEventBus", named(names::HUB_BUS)).await;
        let policy: Value = serde_json::from_str(found["Policy"].as_str().unwrap()).unwrap();
        let letting = |policy: &Value| {
            vec![self.at_the_top(
                "events",
                "PutPermission",
                json!({ "EventBusName": names::HUB_BUS, "Policy": policy.to_string() }),
            )]
        };
        let mut nobody = policy.clone();
        for statement in nobody["Statement"].as_array_mut().unwrap() {
            statement["Principal"] = json!({ "AWS": "arn:aws:iam::999999999999:root" });
        }
        fault("hub", "hub-closed", administrator, letting(&nobody), letting(&policy));
        let mut everybody = policy.clone();
        everybody["Statement"][0]["Condition"].as_object_mut().unwrap().remove("StringEquals");
        fault("hub", "hub-open", administrator, letting(&everybody), letting(&policy));
        let on_hub = |operation: &'static str| {
            self.at_the_top(
                "events",
                operation,
                json!({ "Name": "redress-completions", "EventBusName": names::HUB_BUS }),
            )
        };
        fault("hub", "hub-rule-disabled", administrator, vec![on_hub("DisableRule")], vec![on_hub("EnableRule")]);

        // Quotas: what an account has left, and what settings ask of it.
        let recorder = json!({ "FunctionName": names::RECORDER_FUNCTION });
        let mut reserved = recorder.clone();
        reserved["ReservedConcurrentExecutions"] = json!(950);
        fault(
            "quotas",
            "lambda-concurrency-low",
            member,
            vec![self.here("lambda", "PutFunctionConcurrency", reserved)],
            vec![self.here("lambda", "DeleteFunctionConcurrency", recorder)],
        );
        let found = self
            .call(
                administrator,
                "dynamodb",
                "GetItem",
                json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "settings" } } }),
            )
            .await;
        let settings = found["Item"].clone();
        let put = |item: &Value| {
            vec![self.at_the_top("dynamodb", "PutItem", json!({ "TableName": names::STATE_TABLE, "Item": item }))]
        };
        let set = |name: &str, value: Value| {
            let mut other = settings.clone();
            other[name] = value;
            put(&other)
        };
        let limits = json!({ "M": { "InFlight": { "N": "60" } } });
        fault("settings", "in-flight-beyond-quota", member, set("Limits", limits), put(&settings));
        fault("settings", "policy-invalid", administrator, set("PolicySet", json!({ "S": "custom" })), put(&settings));
        fault("settings", "switched-off", administrator, set("Switch", json!({ "S": "off" })), put(&settings));
        fault("settings", "settings-damaged", administrator, set("Switch", json!({ "S": "perhaps" })), put(&settings));

        // The administrator's side.
        let orchestrator = json!({ "FunctionName": names::ORCHESTRATOR_FUNCTION });
        let mut stopped = orchestrator.clone();
        stopped["ReservedConcurrentExecutions"] = json!(0);
        fault(
            "functions",
            "function-stopped",
            administrator,
            vec![self.at_the_top("lambda", "PutFunctionConcurrency", stopped)],
            vec![self.at_the_top("lambda", "DeleteFunctionConcurrency", orchestrator.clone())],
        );
        let found = self.call(administrator, "lambda", "ListEventSourceMappings", orchestrator).await;
        let mapping = |on: bool| {
            let uuid = &found["EventSourceMappings"][0]["UUID"];
            vec![self.at_the_top("lambda", "UpdateEventSourceMapping", json!({ "UUID": uuid, "Enabled": on }))]
        };
        fault("functions", "function-detached", administrator, mapping(false), mapping(true));
        let url = |queue: &str| {
            let asked = json!({ "QueueName": queue });
            async move { self.call(administrator, "sqs", "GetQueueUrl", asked).await["QueueUrl"].clone() }
        };
        let (queue, dead_letters) = (url(names::FINDINGS_QUEUE).await, url(names::COMPLETIONS_DLQ).await);
        fault(
            "queues",
            "dlq-not-empty",
            administrator,
            vec![self.at_the_top("sqs", "SendMessage", json!({ "QueueUrl": dead_letters, "MessageBody": "{}" }))],
            vec![self.at_the_top("sqs", "PurgeQueue", json!({ "QueueUrl": dead_letters }))],
        );
        let redrive = |to: &str| {
            let to = format!("arn:aws:sqs:{}:{administrator}:{to}", self.world.region());
            let policy = json!({ "deadLetterTargetArn": to, "maxReceiveCount": 5 }).to_string();
            let set = json!({ "QueueUrl": queue, "Attributes": { "RedrivePolicy": policy } });
            vec![self.at_the_top("sqs", "SetQueueAttributes", set)]
        };
        fault("queues", "queue-without-dlq", administrator, redrive(names::PARKED_QUEUE), redrive(names::FINDINGS_DLQ));
        let recovery = |on: bool| {
            let on = json!({ "PointInTimeRecoveryEnabled": on });
            let on = json!({ "TableName": names::AUDIT_TABLE, "PointInTimeRecoverySpecification": on });
            vec![self.at_the_top("dynamodb", "UpdateContinuousBackups", on)]
        };
        fault("tables", "table-without-recovery", administrator, recovery(false), recovery(true));
        let protection = |on: bool| {
            let on = json!({ "TableName": names::STATE_TABLE, "DeletionProtectionEnabled": on });
            vec![self.at_the_top("dynamodb", "UpdateTable", on)]
        };
        fault("tables", "table-deletable", administrator, protection(false), protection(true));
        let item = json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "catalogue" } } });
        let found = self.call(administrator, "dynamodb", "GetItem", item.clone()).await;
        let catalogue = found["Item"].clone();
        let mut damaged = catalogue.clone();
        damaged["Sha256"] = json!({ "S": "0" });
        fault(
            "catalogue",
            "catalogue-missing",
            administrator,
            vec![self.at_the_top("dynamodb", "DeleteItem", item)],
            put(&catalogue),
        );
        fault("catalogue", "catalogue-damaged", administrator, put(&damaged), put(&catalogue));
        let subscribed = self
            .call(
                administrator,
                "sns",
                "ListSubscriptionsByTopic",
                json!({ "TopicArn": self.world.bed.organisation.topic_arn() }),
            )
            .await;
        let subscription = json!({ "SubscriptionArn": subscribed["Subscriptions"][0]["SubscriptionArn"] });
        fault(
            "topic",
            "topic-unheard",
            administrator,
            vec![self.at_the_top("sns", "Unsubscribe", subscription)],
            vec![self.subscription()],
        );
        let state = |state: &str| {
            let state = json!({ "AlarmName": "redress-findings-dlq", "StateValue": state, "StateReason": "a test" });
            vec![self.at_the_top("cloudwatch", "SetAlarmState", state)]
        };
        fault("alarms", "alarm-rings", administrator, state("ALARM"), state("OK"));
        faults
    }
}

/// A policy document, which the lab tells as text or as JSON.
fn document(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |text| serde_json::from_str(text).unwrap())
}

/// One fault of each kind of check at a time: they must not hide each other.
fn rounds(faults: Vec<Fault>) -> Vec<Vec<Fault>> {
    let (mut rounds, mut before): (Vec<Vec<Fault>>, BTreeMap<&str, usize>) = (Vec::new(), BTreeMap::new());
    for fault in faults {
        let number = before.entry(fault.check).or_default();
        if rounds.len() <= *number {
            rounds.push(Vec::new());
        }
        rounds[*number].push(fault);
        *number += 1;
    }
    rounds
}

#[test]
fn each_planted_fault_is_named_and_nothing_else_is() {
    let clinic = Clinic::open();
    clinic.world.run(async {
        clinic.move_in().await;
        clinic.is_healthy("as deployed").await;
        clinic.asked_no_more_than_it_says().await;
        let whole = clinic.doctor(&["--contents", "--only", "documents"]).await;
        assert!(whole.exit == 0, "{:#}", whole.report);

        let external_id = clinic.world.bed.organisation.external_ids.reveal().to_owned();
        let (mut codes, mut number) = (BTreeSet::new(), 0);
        for round in rounds(clinic.faults().await) {
            number += 1;
            for fault in &round {
                clinic.play(&fault.plant).await;
            }
            let said = clinic.doctor(&[]).await;
            let planted: BTreeSet<(String, String)> =
                round.iter().map(|fault| (fault.code.to_owned(), fault.account.clone())).collect();
            assert_eq!(said.found(), planted, "round {number}: {:#}", said.report);
            assert_eq!((said.exit, &said.report["NotSeen"]), (1, &json!([])), "{:#}", said.report);
            assert!(!said.text.contains(&external_id) && !said.text.contains("somebody-elses-external-id"));
            for finding in said.report["Findings"].as_array().unwrap() {
                let says = |name: &str| finding[name].as_str().is_some_and(|text| !text.is_empty());
                assert!(["What", "Why", "Do", "Region"].iter().all(|name| says(name)), "{finding:#}");
            }
            codes.extend(round.iter().map(|fault| fault.code));
            // That it is mended the next round tells, in which it is not named any more.
            for fault in &round {
                clinic.play(&fault.mend).await;
            }
        }
        clinic.is_healthy("mended").await;
        println!("{} faults planted, named and mended in {number} rounds: {codes:?}", codes.len());

        // A Region in which nothing is.
        let said = clinic.doctor(&["--member-region", ELSEWHERE]).await;
        let there: BTreeSet<(String, String)> = ["region-not-deployed", "config-missing", "security-hub-off"]
            .map(|code| (code.to_owned(), clinic.member.clone()))
            .into();
        assert_eq!((said.found(), said.exit), (there, 1), "{:#}", said.report);

        clinic.aggregation().await;

        // Where it cannot look, it does not say that all is well.
        let said = clinic.doctor(&["--member-role", "NobodyHasThisRole"]).await;
        assert_eq!((said.found().len(), said.exit), (0, 6), "{:#}", said.report);
        assert_eq!(said.report["NotSeen"][0]["Account"], clinic.member.as_str(), "{:#}", said.report);
        assert_eq!(said.report["Healthy"], false);
        let said = clinic.doctor(&["--member-role", "NobodyHasThisRole", "--only", "hub"]).await;
        assert_eq!((said.exit, &said.report["Checks"]), (0, &json!(1)), "{:#}", said.report);
    });
}
