//! Two evaluators of IAM policies, written by different people, on one table of requests: the lab's, which judges every call of
//! every other test, and `@cloud-copilot/iam-simulate`, which knows nothing of it. Both get the policies that are deployed in the
//! lab, read back from it. Where they disagree, or both say what this table does not, the test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use redress_common::names;
use redress_lab::Supposed;
use redress_tests::world::{World, root, world};
use serde_json::{Value, json};

fn the_world() -> &'static World {
    world(&["one", "other"])
}

/// An account that is in no organisation of ours.
const STRANGER: &str = "123456789012";
/// A role that may do everything, as far as its own account can say so. One in every account.
const ALMIGHTY: &str = "Almighty";
/// The same, with a name like one of ours.
const ALIKE: &str = "Redress-Orchestrator-Too";

/// Whose account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Administrator,
    /// The member account that is asked about.
    Member,
    /// Another member account.
    Other,
    Stranger,
}

use Of::{Administrator, Member, Other, Stranger};

/// What has a policy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Own {
    /// Nothing.
    None,
    /// A role's trust policy.
    Trust(&'static str),
    EvidenceBucket,
    ThreatBucket,
    MemberKey,
    Ledger,
    Hub,
    Findings,
    Topic,
}

/// One request.
struct Case {
    what: &'static str,
    /// A service, or a role.
    who: Who,
    action: &'static str,
    /// In the account `of`; `{account}` and `{region}` are filled in.
    resource: String,
    of: Of,
    own: Own,
    context: Vec<(&'static str, String)>,
    allowed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Who {
    Service(&'static str),
    Role(Of, &'static str),
}

/// The accounts and Region of the lab, and what is deployed there, as it was read back.
struct Deployed<'a> {
    world: &'a World,
    trusts: BTreeMap<(String, &'static str), Value>,
    identities: BTreeMap<(String, String), (String, Vec<Value>)>,
}

fn account(world: &World, of: Of) -> String {
    match of {
        Administrator => world.administrator(),
        Member => world.member("one"),
        Other => world.member("other"),
        Stranger => STRANGER.to_owned(),
    }
}

/// A table of requests, written a line a request.
struct Table<'a> {
    world: &'a World,
    cases: Vec<Case>,
}

impl Table<'_> {
    fn add(
        &mut self,
        what: &'static str,
        who: Who,
        (action, of, resource, own): (&'static str, Of, &str, Own),
        context: &[(&'static str, &str)],
        allowed: bool,
    ) {
        let fill = |text: &str| {
            text.replace("{account}", &account(self.world, of))
                .replace("{member}", &account(self.world, Member))
                .replace("{administrator}", &account(self.world, Administrator))
                .replace("{region}", self.world.region())
                .replace("{external}", &self.world.external_id(&account(self.world, Member)))
                .replace("{organisation}", &self.world.bed.organisation.id)
        };
        let context = context.iter().map(|(key, value)| (*key, fill(value))).collect();
        self.cases.push(Case { what, who, action, resource: fill(resource), of, own, context, allowed });
    }
}

const ADMIN: fn(&'static str) -> Who = |role| Who::Role(Administrator, role);
const MEMBER: fn(&'static str) -> Who = |role| Who::Role(Member, role);
const EXTERNAL_ID: &[(&str, &str)] = &[("sts:ExternalId", "{external}")];

/// Who comes into a member account, and as what.
fn doors(table: &mut Table<'_>) {
    let door = ("sts:AssumeRole", Member, "arn:aws:iam::{account}:role/SecurityRemediationCrossAccountRole");
    let door = (door.0, door.1, door.2, Own::Trust(names::CROSS_ACCOUNT_ROLE));
    for role in [names::ORCHESTRATOR_ROLE, names::COMPLETION_ROLE, names::WORKFLOW_ROLE, names::RECONCILER_ROLE] {
        table.add("a function with the ExternalId", ADMIN(role), door, EXTERNAL_ID, true);
    }
    let orchestrator = ADMIN(names::ORCHESTRATOR_ROLE);
    table.add("without ExternalId", orchestrator, door, &[], false);
    table.add("with a wrong ExternalId", orchestrator, door, &[("sts:ExternalId", "of-another-deployment")], false);
    table.add("with a pattern for an ExternalId", orchestrator, door, &[("sts:ExternalId", "*")], false);
    table.add("another role of the administrator account", ADMIN(names::API_ROLE), door, EXTERNAL_ID, false);
    table.add("the operator", ADMIN(names::OPERATOR_ROLE), door, EXTERNAL_ID, false);
    table.add("an administrator of the administrator account", ADMIN(ALMIGHTY), door, EXTERNAL_ID, false);
    table.add("a role whose name starts like ours", ADMIN(ALIKE), door, EXTERNAL_ID, false);
    table.add("an administrator of the same member account", MEMBER(ALMIGHTY), door, EXTERNAL_ID, false);
    table.add("an administrator of another member", Who::Role(Other, ALMIGHTY), door, EXTERNAL_ID, false);
    table.add("another organisation", Who::Role(Stranger, ALMIGHTY), door, EXTERNAL_ID, false);
    table.add("a role of that name elsewhere", Who::Role(Stranger, names::ORCHESTRATOR_ROLE), door, EXTERNAL_ID, false);

    let reader = ("sts:AssumeRole", Member, "arn:aws:iam::{account}:role/Redress-Evidence-Reader");
    let reader = (reader.0, reader.1, reader.2, Own::Trust(names::EVIDENCE_READER_ROLE));
    table.add("the operator reads evidence", ADMIN(names::OPERATOR_ROLE), reader, EXTERNAL_ID, true);
    table.add("the operator without ExternalId", ADMIN(names::OPERATOR_ROLE), reader, &[], false);
    table.add("the orchestrator reads evidence", orchestrator, reader, EXTERNAL_ID, false);
    table.add("a member reads its evidence by that role", MEMBER(ALMIGHTY), reader, EXTERNAL_ID, false);

    let family = ("sts:AssumeRole", Member, "arn:aws:iam::{account}:role/Redress-Remediate-S3");
    let family = (family.0, family.1, family.2, Own::Trust("Redress-Remediate-S3"));
    table.add("a member assumes a runbook's role", MEMBER(ALMIGHTY), family, &[], false);
    table.add("the administrator account assumes it", orchestrator, family, EXTERNAL_ID, false);
}

/// Services, which assume the roles that are made for them, in their own account's name.
fn services(table: &mut Table<'_>) {
    let trusts = |role: &'static str| {
        let arn: &'static str = match role {
            names::CONTROL_ROLE => "arn:aws:iam::{account}:role/Redress-Control",
            names::EVENT_FORWARDER_ROLE => "arn:aws:iam::{account}:role/Redress-Event-Forwarder",
            names::STATE_MACHINE_ROLE => "arn:aws:iam::{account}:role/Redress-State-Machine",
            _ => "arn:aws:iam::{account}:role/Redress-Flow-Logs",
        };
        ("sts:AssumeRole", Member, arn, Own::Trust(role))
    };
    let ours = ("aws:SourceAccount", "{account}");
    let theirs = ("aws:SourceAccount", STRANGER);
    let run = ("aws:SourceArn", "arn:aws:ssm:{region}:{account}:automation-execution/1");
    let window = ("aws:SourceArn", "arn:aws:ssm:{region}:{account}:maintenancewindow/mw-1");
    let control = trusts(names::CONTROL_ROLE);
    table.add("SSM for a runbook of the account", Who::Service("ssm.amazonaws.com"), control, &[ours, run], true);
    table.add("SSM for another account", Who::Service("ssm.amazonaws.com"), control, &[theirs, run], false);
    table.add("SSM for something else", Who::Service("ssm.amazonaws.com"), control, &[ours, window], false);
    table.add("SSM in nobody's name", Who::Service("ssm.amazonaws.com"), control, &[], false);
    table.add("another service", Who::Service("lambda.amazonaws.com"), control, &[ours, run], false);

    let forwarder = trusts(names::EVENT_FORWARDER_ROLE);
    let rule = ("aws:SourceArn", "arn:aws:events:{region}:{account}:rule/redress-forward-config");
    let another = ("aws:SourceArn", "arn:aws:events:{region}:{account}:rule/of-somebody");
    table.add("EventBridge for our rule", Who::Service("events.amazonaws.com"), forwarder, &[ours, rule], true);
    table.add("EventBridge for another rule", Who::Service("events.amazonaws.com"), forwarder, &[ours, another], false);
    table.add(
        "EventBridge for another account",
        Who::Service("events.amazonaws.com"),
        forwarder,
        &[theirs, rule],
        false,
    );

    let (action, _, arn, own) = trusts(names::STATE_MACHINE_ROLE);
    let machine = (action, Administrator, arn, own);
    let source = ("aws:SourceArn", "arn:aws:states:{region}:{account}:stateMachine:Redress-Workflow");
    table.add("Step Functions", Who::Service("states.amazonaws.com"), machine, &[ours, source], true);
    table.add(
        "Step Functions for another account",
        Who::Service("states.amazonaws.com"),
        machine,
        &[theirs, source],
        false,
    );

    let logs = trusts("Redress-Flow-Logs");
    let flow = ("aws:SourceArn", "arn:aws:ec2:{region}:{account}:vpc-flow-log/fl-1");
    table.add("VPC flow logs", Who::Service("vpc-flow-logs.amazonaws.com"), logs, &[ours, flow], true);
    table.add(
        "VPC flow logs for another account",
        Who::Service("vpc-flow-logs.amazonaws.com"),
        logs,
        &[theirs, flow],
        false,
    );
}

/// Events and messages.
fn hub(table: &mut Table<'_>) {
    let bus = ("events:PutEvents", Administrator, "arn:aws:events:{region}:{account}:event-bus/redress-hub", Own::Hub);
    let by_rule = ("events:eventBusInvocation", "true");
    let by_call = ("events:eventBusInvocation", "false");
    table.add("a member forwards by its rule", MEMBER(names::EVENT_FORWARDER_ROLE), bus, &[by_rule], true);
    table.add("a member puts an event itself", MEMBER(ALMIGHTY), bus, &[by_call], false);
    table.add("the forwarder's role puts one itself", MEMBER(names::EVENT_FORWARDER_ROLE), bus, &[by_call], false);
    table.add("another organisation forwards", Who::Role(Stranger, ALMIGHTY), bus, &[by_rule], false);
    let organisation = ("aws:PrincipalOrgID", "o-someotherorg");
    table.add("another organisation, by its id", Who::Role(Stranger, ALMIGHTY), bus, &[by_rule, organisation], false);
    table.add("the api asks for a remediation", ADMIN(names::API_ROLE), bus, &[by_call], true);
    table.add("the operator puts an event past the api", ADMIN(names::OPERATOR_ROLE), bus, &[by_call], false);

    let queue = ("sqs:SendMessage", Administrator, "arn:aws:sqs:{region}:{account}:redress-findings", Own::Findings);
    let events = Who::Service("events.amazonaws.com");
    let rule = ("aws:SourceArn", "arn:aws:events:{region}:{account}:rule/redress-hub/redress-config");
    let another = ("aws:SourceArn", "arn:aws:events:{region}:{account}:rule/redress-hub/of-somebody");
    table.add("the hub's rule queues a finding", events, queue, &[rule], true);
    table.add("another rule queues a finding", events, queue, &[another], false);
    table.add("a member queues a finding", MEMBER(ALMIGHTY), queue, &[], false);

    let topic =
        ("sns:Publish", Administrator, "arn:aws:sns:{region}:{account}:SecurityRemediationNotifications", Own::Topic);
    let alarms = Who::Service("cloudwatch.amazonaws.com");
    let (ours, theirs) = (("aws:SourceAccount", "{account}"), ("aws:SourceAccount", STRANGER));
    let alarm = ("aws:SourceArn", "arn:aws:cloudwatch:{region}:{account}:alarm:redress-errors");
    table.add("an alarm of ours tells people", alarms, topic, &[ours, alarm], true);
    table.add("an alarm of another account", alarms, topic, &[theirs, alarm], false);
    table.add("the completion function tells people", ADMIN(names::COMPLETION_ROLE), topic, &[], true);
    table.add("the same over http", ADMIN(names::COMPLETION_ROLE), topic, &[("aws:SecureTransport", "false")], false);
    table.add("a member tells people", MEMBER(ALMIGHTY), topic, &[], false);
}

/// Evidence, its key, and the threat list.
fn evidence(table: &mut Table<'_>) {
    let bucket = "arn:aws:s3:::security-remediation-logs-{account}-{region}/year=2026/month=01/day=01/x.json";
    let put = ("s3:PutObject", Member, bucket, Own::EvidenceBucket);
    let get = ("s3:GetObject", Member, bucket, Own::EvidenceBucket);
    let recorder = MEMBER(names::RECORDER_ROLE);
    let kms = ("s3:x-amz-server-side-encryption", "aws:kms");
    let key = |id| ("s3:x-amz-server-side-encryption-aws-kms-key-id", id);
    let http = ("aws:SecureTransport", "false");
    table.add("evidence under the bucket's default", recorder, put, &[], true);
    table.add("evidence under the member's key", recorder, put, &[kms, key("{key}")], true);
    table.add("by the native function", MEMBER(names::REMEDIATE_ROLE), put, &[kms, key("{key}")], true);
    table.add("by the function that destroys", MEMBER(names::DESTROY_ROLE), put, &[kms, key("{key}")], true);
    let another = key("arn:aws:kms:{region}:{account}:key/00000000-0000-4000-8000-000000000000");
    table.add("evidence under another key", recorder, put, &[kms, another], false);
    table.add("evidence under S3's key", recorder, put, &[("s3:x-amz-server-side-encryption", "AES256")], false);
    table.add("evidence over http", recorder, put, &[http], false);
    let anew = ("aws:userid", "AROAMADEANEWMADEANEW1:somebody");
    table.add("a role made anew under the recorder's name", recorder, put, &[anew], false);
    table.add("an administrator of the account forges evidence", MEMBER(ALMIGHTY), put, &[], false);
    table.add("a runbook writes evidence itself", MEMBER("Redress-Remediate-S3"), put, &[], false);
    table.add("another account's recorder", Who::Role(Other, names::RECORDER_ROLE), put, &[], false);
    table.add("the administrator account writes evidence", ADMIN(names::ORCHESTRATOR_ROLE), put, &[], false);
    table.add("the reader reads", MEMBER(names::EVIDENCE_READER_ROLE), get, &[], true);
    table.add("the reader reads over http", MEMBER(names::EVIDENCE_READER_ROLE), get, &[http], false);
    table.add("the operator reads past the reader", ADMIN(names::OPERATOR_ROLE), get, &[], false);
    table.add("another account's administrator reads", Who::Role(Other, ALMIGHTY), get, &[], false);

    let key = |action| (action, Member, "{key}", Own::MemberKey);
    let schedule = key("kms:ScheduleKeyDeletion");
    table.add("the recorder encrypts", recorder, key("kms:GenerateDataKey"), &[], true);
    table.add("the reader decrypts", MEMBER(names::EVIDENCE_READER_ROLE), key("kms:Decrypt"), &[], true);
    table.add("another account decrypts", Who::Role(Other, ALMIGHTY), key("kms:Decrypt"), &[], false);
    table.add("the native function deletes the key", MEMBER(names::REMEDIATE_ROLE), schedule, &[], false);
    table.add("the account's administrator deletes it", MEMBER(ALMIGHTY), schedule, &[], true);
    let rotation = key("kms:PutKeyPolicy");
    table.add("a role like ours rewrites its policy", MEMBER(ALIKE), rotation, &[], false);

    let list = "arn:aws:s3:::redress-threat-intelligence-{account}-{region}/list.json";
    let list = ("s3:GetObject", Administrator, list, Own::ThreatBucket);
    table.add("a member's guard reads the threat list", MEMBER(names::GUARD_ROLE), list, &[], true);
    table.add("another role of the member", MEMBER(ALMIGHTY), list, &[], false);
    table.add("a guard of another organisation", Who::Role(Stranger, names::GUARD_ROLE), list, &[], false);
}

/// The ledger, the switches, and the functions.
fn ledger(table: &mut Table<'_>) {
    let ledger =
        |action| (action, Administrator, "arn:aws:dynamodb:{region}:{account}:table/RedressAuditLog", Own::Ledger);
    table.add("the orchestrator records", ADMIN(names::ORCHESTRATOR_ROLE), ledger("dynamodb:PutItem"), &[], true);
    for role in [names::ORCHESTRATOR_ROLE, names::COMPLETION_ROLE, names::API_ROLE, ALMIGHTY] {
        table.add("a record is changed", ADMIN(role), ledger("dynamodb:UpdateItem"), &[], false);
        table.add("a record is deleted", ADMIN(role), ledger("dynamodb:DeleteItem"), &[], false);
    }
    let operator = ADMIN(names::OPERATOR_ROLE);
    table.add("the operator reads", operator, ledger("dynamodb:Query"), &[], true);
    table.add("the operator records", operator, ledger("dynamodb:PutItem"), &[], false);
    table.add("a member reads the ledger", MEMBER(ALMIGHTY), ledger("dynamodb:Query"), &[], false);
    let state = |action| (action, Administrator, "arn:aws:dynamodb:{region}:{account}:table/RedressState", Own::None);
    table.add("the operator reads the settings", operator, state("dynamodb:BatchGetItem"), &[], true);
    table.add("the operator changes them past the api", operator, state("dynamodb:PutItem"), &[], false);

    let api = |action| (action, Administrator, "arn:aws:lambda:{region}:{account}:function:redress-api", Own::None);
    let by_url = ("lambda:InvokedViaFunctionUrl", "true");
    let signed = ("lambda:FunctionUrlAuthType", "AWS_IAM");
    table.add("the operator at the door", operator, api("lambda:InvokeFunctionUrl"), &[signed], true);
    table.add("the operator by the door", operator, api("lambda:InvokeFunction"), &[by_url], true);
    table.add("the operator past the door", operator, api("lambda:InvokeFunction"), &[], false);
    let cross = MEMBER(names::CROSS_ACCOUNT_ROLE);
    let function = |name| ("lambda:InvokeFunction", Member, name, Own::None);
    let guard = function("arn:aws:lambda:{region}:{account}:function:redress-guard");
    let remediate = function("arn:aws:lambda:{region}:{account}:function:redress-remediate");
    table.add("the administrator asks the guard", cross, guard, &[], true);
    table.add("the administrator starts the native function", cross, remediate, &[], false);
}

/// Runbooks, and the roles that they are given.
fn runbooks(table: &mut Table<'_>) {
    let cross = MEMBER(names::CROSS_ACCOUNT_ROLE);
    let start = |arn| ("ssm:StartAutomationExecution", Member, arn, Own::None);
    let control = start("arn:aws:ssm:{region}:{account}:automation-definition/Redress-Control:1");
    let another = start("arn:aws:ssm:{region}:{account}:automation-definition/AWS-DeleteSnapshot:1");
    let family = start("arn:aws:ssm:{region}:{account}:automation-definition/Redress-S3.8:1");
    table.add("the control runbook is started", cross, control, &[], true);
    table.add("another runbook is started", cross, another, &[], false);
    table.add("a control's runbook, past the control runbook", cross, family, &[], false);
    let change = ("s3:PutBucketPolicy", Member, "arn:aws:s3:::somebodys-bucket", Own::None);
    table.add("the administrator changes a resource itself", cross, change, &[], false);

    let pass = |role| ("iam:PassRole", Member, role, Own::None);
    let ssm = ("iam:PassedToService", "ssm.amazonaws.com");
    let lambda = ("iam:PassedToService", "lambda.amazonaws.com");
    let control = pass("arn:aws:iam::{account}:role/Redress-Control");
    let family = pass("arn:aws:iam::{account}:role/Redress-Remediate-S3");
    let alike = pass("arn:aws:iam::{account}:role/Redress-Remediate-Everything");
    let almighty = pass("arn:aws:iam::{account}:role/Almighty");
    table.add("Redress-Control is passed to SSM", cross, control, &[ssm], true);
    table.add("Redress-Control is passed to Lambda", cross, control, &[lambda], false);
    table.add("a runbook's role is passed past the control runbook", cross, family, &[ssm], false);
    table.add("another role is passed to SSM", cross, almighty, &[ssm], false);
    let runbook = MEMBER(names::CONTROL_ROLE);
    table.add("the control runbook passes a runbook's role", runbook, family, &[ssm], true);
    table.add("the same, to another service", runbook, family, &[lambda], false);
    table.add("a role whose name starts alike", runbook, alike, &[ssm], false);
    table.add("the control runbook passes another role", runbook, almighty, &[ssm], false);
    let native = MEMBER(names::REMEDIATE_ROLE);
    let logs = pass("arn:aws:iam::{account}:role/redress-sns-logs");
    let sns = ("iam:PassedToService", "sns.amazonaws.com");
    table.add("a control gives a topic its role", native, logs, &[sns], true);
    table.add("the same role to another service", native, logs, &[lambda], false);
    table.add("the native function passes another role to SNS", native, almighty, &[sns], false);
    table.add("the native function passes a role to Lambda", native, almighty, &[lambda], false);
}

impl Deployed<'_> {
    async fn read(&self, account: &str, service: &str, operation: &str, parameters: Value) -> Value {
        match self.world.call(account, service, operation, parameters).await {
            Ok(answer) => answer,
            Err(error) => panic!("{service}:{operation} in {account}: {error}"),
        }
    }

    /// A role's id, and its policies.
    async fn identity(&mut self, account: &str, role: &str) -> (String, Vec<Value>) {
        let place = (account.to_owned(), role.to_owned());
        if let Some(known) = self.identities.get(&place) {
            return known.clone();
        }
        let id = self.read(account, "iam", "GetRole", json!({ "RoleName": role })).await;
        let id = id["Role"]["RoleId"].as_str().unwrap().to_owned();
        let attached = self.read(account, "iam", "ListAttachedRolePolicies", json!({ "RoleName": role })).await;
        let inline = self.read(account, "iam", "ListRolePolicies", json!({ "RoleName": role })).await;
        let attached = attached["AttachedPolicies"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<Value> = attached.iter().map(|policy| policy["PolicyArn"].clone()).collect();
        names.extend(inline["PolicyNames"].as_array().cloned().unwrap_or_default());
        let mut policies = Vec::new();
        for name in names {
            policies.push(self.world.role_policy(account, role, name.as_str().unwrap()).await);
        }
        self.identities.insert(place, (id.clone(), policies.clone()));
        (id, policies)
    }

    /// The policy of the resource itself.
    async fn own(&mut self, account: &str, own: Own) -> Option<Value> {
        let region = self.world.region().to_owned();
        let arn = |service: &str, resource: &str| format!("arn:aws:{service}:{region}:{account}:{resource}");
        let policy = match own {
            Own::None => return None,
            Own::Trust(role) => {
                if let Some(known) = self.trusts.get(&(account.to_owned(), role)) {
                    return Some(known.clone());
                }
                let mut read = self.read(account, "iam", "GetRole", json!({ "RoleName": role })).await;
                let trust = parsed(&read["Role"]["AssumeRolePolicyDocument"].take());
                self.trusts.insert((account.to_owned(), role), trust.clone());
                trust
            }
            Own::EvidenceBucket => {
                self.bucket_policy(account, format!("security-remediation-logs-{account}-{region}")).await
            }
            Own::ThreatBucket => {
                self.bucket_policy(account, format!("redress-threat-intelligence-{account}-{region}")).await
            }
            Own::MemberKey => {
                let asked = json!({ "KeyId": self.key(account).await, "PolicyName": "default" });
                self.read(account, "kms", "GetKeyPolicy", asked).await["Policy"].take()
            }
            Own::Ledger => {
                let asked = json!({ "ResourceArn": arn("dynamodb", &format!("table/{}", names::AUDIT_TABLE)) });
                self.read(account, "dynamodb", "GetResourcePolicy", asked).await["Policy"].take()
            }
            Own::Hub => {
                self.read(account, "events", "DescribeEventBus", json!({ "Name": names::HUB_BUS })).await["Policy"]
                    .take()
            }
            Own::Findings => {
                let url = self.world.queue_url(names::FINDINGS_QUEUE).await;
                let asked = json!({ "QueueUrl": url, "AttributeNames": ["Policy"] });
                self.read(account, "sqs", "GetQueueAttributes", asked).await["Attributes"]["Policy"].take()
            }
            Own::Topic => {
                let asked = json!({ "TopicArn": arn("sns", names::NOTIFICATIONS_TOPIC) });
                self.read(account, "sns", "GetTopicAttributes", asked).await["Attributes"]["Policy"].take()
            }
        };
        let policy = parsed(&policy);
        assert!(
            policy["Statement"].as_array().is_some_and(|all| !all.is_empty()),
            "{own:?} of {account} has no policy: {policy}"
        );
        Some(policy)
    }

    async fn bucket_policy(&self, account: &str, bucket: String) -> Value {
        self.read(account, "s3", "GetBucketPolicy", json!({ "Bucket": bucket })).await["Policy"].take()
    }

    async fn key(&self, account: &str) -> String {
        let key = self.read(account, "kms", "DescribeKey", json!({ "KeyId": names::MEMBER_KEY_ALIAS })).await;
        key["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    /// What the lab says, and what the second evaluator is to be asked.
    async fn asked(&mut self, case: &Case) -> (bool, Value) {
        let owner = account(self.world, case.of);
        let key = self.key(&account(self.world, Member)).await;
        let fill = |text: &str| text.replace("{key}", &key);
        let resource = fill(&case.resource);
        let mut context: BTreeMap<String, String> =
            case.context.iter().map(|(name, value)| ((*name).to_owned(), fill(value))).collect();
        context.entry("aws:SecureTransport".to_owned()).or_insert_with(|| "true".to_owned());
        let policy = self.own(&owner, case.own).await;
        let (who, identity, mut more) = match case.who {
            Who::Service(name) => (name.to_owned(), Vec::new(), BTreeMap::new()),
            Who::Role(of, role) => {
                let of_who = account(self.world, of);
                let (id, policies) = self.identity(&of_who, role).await;
                context.entry("aws:userid".to_owned()).or_insert_with(|| format!("{id}:somebody"));
                let mut more = BTreeMap::from([
                    ("aws:PrincipalArn".to_owned(), format!("arn:aws:iam::{of_who}:role/{role}")),
                    ("aws:PrincipalAccount".to_owned(), of_who.clone()),
                ]);
                if of != Stranger {
                    more.insert("aws:PrincipalOrgID".to_owned(), self.world.bed.organisation.id.clone());
                }
                (format!("arn:aws:sts::{of_who}:assumed-role/{role}/somebody"), policies, more)
            }
        };
        // What the lab finds out itself is told to the second one.
        more.extend(context.clone());
        let second = json!({
            "who": who, "action": case.action, "resource": resource, "owner": owner,
            "context": more, "identity": identity, "policy": policy,
        });
        let supposed = Supposed {
            who,
            action: case.action.to_owned(),
            resource,
            owner,
            region: self.world.region().to_owned(),
            policy: policy.map(|policy| policy.to_string()),
            context,
        };
        (self.world.bed.lab.judge(&supposed).await.unwrap(), second)
    }
}

/// A policy, which some services tell as text.
fn parsed(policy: &Value) -> Value {
    policy.as_str().map_or_else(|| policy.clone(), |text| serde_json::from_str(text).unwrap())
}

/// Roles that may do all that their accounts can give: made once.
async fn almighty(world: &World) {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    MADE.get_or_init(|| make_almighty(world)).await;
}

async fn make_almighty(world: &World) {
    let all = everything();
    let roles = [
        (Administrator, ALMIGHTY),
        (Administrator, ALIKE),
        (Member, ALMIGHTY),
        (Member, ALIKE),
        (Other, ALMIGHTY),
        (Stranger, ALMIGHTY),
        (Stranger, names::ORCHESTRATOR_ROLE),
        (Stranger, names::GUARD_ROLE),
    ];
    for (of, role) in roles {
        let account = account(world, of);
        let root = json!({ "AWS": format!("arn:aws:iam::{account}:root") });
        let trust = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": root } ] });
        let made = json!({ "RoleName": role, "AssumeRolePolicyDocument": trust.to_string() });
        let granted = json!({ "RoleName": role, "PolicyName": "all", "PolicyDocument": all.to_string() });
        for (operation, asked) in [("CreateRole", made), ("PutRolePolicy", granted)] {
            world.call(&account, "iam", operation, asked).await.unwrap();
        }
    }
}

/// Everything else is tested without Node.js, so a machine that has none is told and not stopped. CI has it (`.ci/run`).
fn has_node() -> bool {
    let runs = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    let has = runs("node") && runs("npm");
    if !has {
        println!("left out: the second evaluator needs Node.js 20 or later with npm, and they are not here");
    }
    has
}

/// The folder of the second evaluator: its package installed as the lock file says, once.
fn installed() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let from = root().join("tests/second-opinion");
        let folder = root().join(".lab/second-opinion");
        std::fs::create_dir_all(&folder).unwrap();
        let lock = std::fs::read_to_string(from.join("package-lock.json")).unwrap();
        for file in ["package.json", "package-lock.json", "judge.mjs"] {
            std::fs::copy(from.join(file), folder.join(file)).unwrap();
        }
        let marker = folder.join("installed.json");
        if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == lock) {
            return folder;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
        let ended = npm.status().expect("this test needs npm, and Node.js 20 or later");
        assert!(
            ended.success(),
            "`npm ci` in {} ended with {ended}; does this machine reach a registry of npm?",
            folder.display()
        );
        std::fs::write(marker, lock).unwrap();
        folder
    })
}

/// What the second evaluator says of each.
fn second(requests: &[Value]) -> Vec<Value> {
    let mut node = Command::new("node");
    node.arg("judge.mjs").current_dir(installed()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut judge = node.spawn().expect("this test needs Node.js 20 or later");
    let mut input = judge.stdin.take().unwrap();
    input.write_all(json!(requests).to_string().as_bytes()).unwrap();
    drop(input);
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success(), "the second evaluator ended with {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn two_evaluators_agree_on_who_may_do_what() {
    if !has_node() {
        return;
    }
    let world = the_world();
    let mut table = Table { world, cases: Vec::new() };
    for part in [doors, services, hub, evidence, ledger, runbooks] {
        part(&mut table);
    }
    let cases = table.cases;
    let (lab, requests): (Vec<bool>, Vec<Value>) = world.run(async {
        almighty(world).await;
        let mut deployed = Deployed { world, trusts: BTreeMap::new(), identities: BTreeMap::new() };
        let mut asked = Vec::new();
        for case in &cases {
            asked.push(deployed.asked(case).await);
        }
        asked.into_iter().unzip()
    });
    let second = second(&requests);
    let say = |allowed: bool| if allowed { "allow" } else { "deny" };
    let (mut told, mut wrong) = (String::new(), Vec::new());
    for ((case, lab), second) in cases.iter().zip(&lab).zip(&second) {
        let who = match case.who {
            Who::Service(name) => name.to_owned(),
            Who::Role(of, role) => format!("{of:?}'s {role}"),
        };
        let verdict = second["allowed"].as_bool();
        let ignored = second["ignored"].as_array().is_some_and(|keys| !keys.is_empty());
        let right = *lab == case.allowed && verdict == Some(case.allowed) && !ignored;
        let told_second = verdict.map_or("error", say);
        let line = format!(
            "{:<52} {:<46} {:<28} {:<5} {told_second:<5} {}",
            case.what,
            who,
            case.action,
            say(*lab),
            if right { "" } else { "WRONG" }
        );
        writeln!(told, "{}", line.trim_end()).unwrap();
        if !right {
            wrong.push(format!(
                "{line}\n  expected {}, the second says {second}\n  asked {:?} on {}",
                say(case.allowed),
                case.context,
                case.resource
            ));
        }
    }
    let denied = cases.iter().filter(|case| !case.allowed).count();
    println!(
        "{:<52} {:<46} {:<28} lab   second\n{told}{} requests: {} allowed, {denied} denied",
        "request",
        "by",
        "action",
        cases.len(),
        cases.len() - denied
    );
    assert_eq!(lab.len(), second.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an administrator of a member account asks for within the guardrails of `stacksets/examples/`, and whether it goes.
const WITHIN: &[(&str, &str, &str, bool)] = &[
    (
        "opens Redress's door to others",
        "iam:UpdateAssumeRolePolicy",
        "arn:aws:iam::{member}:role/SecurityRemediationCrossAccountRole",
        false,
    ),
    ("gives a runbook's role more", "iam:PutRolePolicy", "arn:aws:iam::{member}:role/Redress-Remediate-S3", false),
    ("gives SNS's role more", "iam:AttachRolePolicy", "arn:aws:iam::{member}:role/redress-sns-logs", false),
    ("gives another role more", "iam:PutRolePolicy", "arn:aws:iam::{member}:role/somebodys", true),
    (
        "rewrites what the native function may",
        "iam:CreatePolicyVersion",
        "arn:aws:iam::{member}:policy/Redress-Native-1",
        false,
    ),
    ("rewrites a policy of its own", "iam:CreatePolicyVersion", "arn:aws:iam::{member}:policy/somebodys", true),
    ("becomes a runbook", "sts:AssumeRole", "arn:aws:iam::{member}:role/Redress-Remediate-S3", false),
    ("becomes another role", "sts:AssumeRole", "arn:aws:iam::{member}:role/somebodys", true),
    ("has SSM run as a runbook's role", "iam:PassRole", "arn:aws:iam::{member}:role/Redress-Remediate-S3", false),
    ("passes another role", "iam:PassRole", "arn:aws:iam::{member}:role/somebodys", true),
    (
        "calls the native function itself",
        "lambda:InvokeFunction",
        "arn:aws:lambda:eu-central-1:{member}:function:redress-remediate",
        false,
    ),
    (
        "puts other code into it",
        "lambda:UpdateFunctionCode",
        "arn:aws:lambda:eu-central-1:{member}:function:redress-remediate",
        false,
    ),
    (
        "calls another function",
        "lambda:InvokeFunction",
        "arn:aws:lambda:eu-central-1:{member}:function:somebodys",
        true,
    ),
    (
        "starts a control's runbook itself",
        "ssm:StartAutomationExecution",
        "arn:aws:ssm:eu-central-1:{member}:automation-definition/Redress-S3.8:1",
        false,
    ),
    (
        "starts another runbook",
        "ssm:StartAutomationExecution",
        "arn:aws:ssm:eu-central-1:{member}:automation-definition/Somebodys:1",
        true,
    ),
    ("changes a runbook", "ssm:UpdateDocument", "arn:aws:ssm:eu-central-1:{member}:document/Redress-S3.8", false),
    (
        "stops findings from being forwarded",
        "events:DisableRule",
        "arn:aws:events:eu-central-1:{member}:rule/redress-forward-config",
        false,
    ),
    ("stops another rule", "events:DisableRule", "arn:aws:events:eu-central-1:{member}:rule/somebodys", true),
    (
        "deletes evidence",
        "s3:DeleteObjectVersion",
        "arn:aws:s3:::security-remediation-logs-{member}-eu-central-1/year=2026/x.json",
        false,
    ),
    (
        "opens the evidence bucket",
        "s3:PutBucketPolicy",
        "arn:aws:s3:::security-remediation-logs-{member}-eu-central-1",
        false,
    ),
    ("deletes another object", "s3:DeleteObjectVersion", "arn:aws:s3:::somebodys/x.json", true),
    ("deletes the evidence's key", "kms:ScheduleKeyDeletion", "arn:aws:kms:eu-central-1:{member}:key/redress", false),
    ("deletes another key", "kms:ScheduleKeyDeletion", "arn:aws:kms:eu-central-1:{member}:key/somebodys", true),
    (
        "hides the key behind another alias",
        "kms:UpdateAlias",
        "arn:aws:kms:eu-central-1:{member}:alias/redress-member",
        false,
    ),
];

/// An allow of everything.
fn everything() -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] })
}

/// A request within guardrails for the second evaluator. Keys and roles have policies of their own, which let the account in.
fn within(world: &World, role: &str, (action, resource): (&str, &str)) -> Value {
    let member = account(world, Member);
    let resource = resource.replace("{member}", &member);
    let mut context = json!({
        "aws:PrincipalArn": format!("arn:aws:iam::{member}:role/{role}"), "aws:PrincipalAccount": member,
    });
    if action.starts_with("kms:") && resource.contains(":key/") {
        let alias = if resource.ends_with("/redress") { names::MEMBER_KEY_ALIAS } else { "alias/somebodys" };
        context["kms:ResourceAliases"] = json!([alias]);
    }
    let mut asked = json!({
        "who": format!("arn:aws:sts::{member}:assumed-role/{role}/somebody"), "action": action, "resource": resource,
        "owner": member, "context": context, "identity": [everything()],
    });
    if action.starts_with("sts:") || action.starts_with("kms:") {
        let root = json!({ "AWS": format!("arn:aws:iam::{member}:root") });
        let mut policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": action, "Principal": root }] });
        if action.starts_with("kms:") {
            policy["Statement"][0]["Resource"] = json!("*");
        }
        asked["policy"] = policy;
    }
    asked
}

/// The example's service control policy, as Organizations takes it.
fn guardrail() -> Value {
    let text = std::fs::read_to_string(root().join("stacksets/examples/scp.json")).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    // Organizations takes no longer one.
    assert!(policy.to_string().len() <= 5_120, "{} characters", policy.to_string().len());
    policy
}

#[track_caller]
fn assert_verdicts(cases: &[(String, bool)], verdicts: &[Value]) {
    assert_eq!(cases.len(), verdicts.len());
    let wrong = cases.iter().zip(verdicts).filter(|((_, allowed), verdict)| verdict["allowed"] != *allowed);
    let wrong: Vec<String> =
        wrong.map(|((what, allowed), said)| format!("{what}: not {allowed}, but {said}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_examples_service_control_policy_keeps_members_from_redress_and_redress_from_nothing() {
    if !has_node() {
        return;
    }
    let world = the_world();
    let (mut cases, mut requests) = (Vec::new(), Vec::new());
    for &(what, action, resource, allowed) in WITHIN {
        for (role, allowed) in [(ALMIGHTY, allowed), ("stacksets-exec-0123456789abcdef", true)] {
            // Not even a deployment runs what is Redress's, but it may.
            requests.push(within(world, role, (action, resource)));
            cases.push((format!("{role} {what}"), allowed));
        }
    }
    // Whatever Redress's own roles may in the member account, they still may.
    let mut table = Table { world, cases: Vec::new() };
    for part in [doors, services, hub, evidence, ledger, runbooks] {
        part(&mut table);
    }
    let ours = |who: Who| matches!(who, Who::Role(Member, role) if role != ALMIGHTY && role != ALIKE);
    let mut by_us = 0;
    world.run(async {
        almighty(world).await;
        let mut deployed = Deployed { world, trusts: BTreeMap::new(), identities: BTreeMap::new() };
        for case in table.cases.iter().filter(|case| case.allowed && ours(case.who)) {
            requests.push(deployed.asked(case).await.1);
            cases.push((format!("{:?} {}", case.who, case.what), true));
            by_us += 1;
        }
    });
    assert!(by_us > 10, "{by_us} requests of Redress's own");
    for request in &mut requests {
        request["guardrails"] = json!([everything(), guardrail()]);
    }
    assert_verdicts(&cases, &second(&requests));
}

#[test]
fn the_examples_permissions_boundary_keeps_its_people_from_redress() {
    if !has_node() {
        return;
    }
    let world = the_world();
    let member = account(world, Member);
    let text = std::fs::read_to_string(root().join("stacksets/examples/permissions-boundary.yaml")).unwrap();
    let template = redress_lab::template::Template::parse(&text).unwrap();
    let pseudo = [("AWS::Partition", "aws"), ("AWS::AccountId", member.as_str())];
    let parameters = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let stack = redress_lab::template::Stack { parameters, ..Default::default() };
    let (_, _, properties) = template.resources().next().unwrap();
    let boundary = template.resolve(&properties["PolicyDocument"], &stack).unwrap().unwrap();
    // IAM takes no longer managed policy.
    assert!(boundary.to_string().len() <= 6_144, "{} characters", boundary.to_string().len());

    let made_with = |policy: &str| [("iam:PermissionsBoundary", format!("arn:aws:iam::{member}:policy/{policy}"))];
    type Context = Vec<(&'static str, String)>;
    let further: Vec<(&str, &str, &str, Context, bool)> = vec![
        ("takes the boundary off", "iam:DeleteRolePermissionsBoundary", "role/somebodys", Vec::new(), false),
        ("changes the boundary", "iam:CreatePolicyVersion", "policy/Boundary-Without-Redress", Vec::new(), false),
        ("makes a role without it", "iam:CreateRole", "role/somebodys", Vec::new(), false),
        ("makes a role with another", "iam:CreateRole", "role/somebodys", made_with("Another").into(), false),
        (
            "makes a role with it",
            "iam:CreateRole",
            "role/somebodys",
            made_with("Boundary-Without-Redress").into(),
            true,
        ),
    ];
    let mut requests: Vec<Value> =
        WITHIN.iter().map(|&(_, action, resource, _)| within(world, "Bounded", (action, resource))).collect();
    let mut cases: Vec<(String, bool)> =
        WITHIN.iter().map(|(what, _, _, allowed)| ((*what).to_owned(), *allowed)).collect();
    for (what, action, resource, context, allowed) in further {
        let mut asked = within(world, "Bounded", (action, &format!("arn:aws:iam::{member}:{resource}")));
        for (key, value) in context {
            asked["context"][key] = value.into();
        }
        requests.push(asked);
        cases.push((what.to_owned(), allowed));
    }
    let lab: Vec<bool> = world.run(async {
        let policy = json!({ "PolicyName": "Boundary-Without-Redress", "PolicyDocument": boundary.to_string() });
        let made = world.call(&member, "iam", "CreatePolicy", policy).await.unwrap();
        let trust = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "AWS": format!("arn:aws:iam::{member}:root") } } ] });
        let role = json!({
            "RoleName": "Bounded", "AssumeRolePolicyDocument": trust.to_string(),
            "PermissionsBoundary": made["Policy"]["Arn"],
        });
        world.call(&member, "iam", "CreateRole", role).await.unwrap();
        let all = json!({ "RoleName": "Bounded", "PolicyName": "all", "PolicyDocument": everything().to_string() });
        world.call(&member, "iam", "PutRolePolicy", all).await.unwrap();
        let mut verdicts = Vec::new();
        for request in &requests {
            let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
            let one = |value: &Value| value.as_str().or(value[0].as_str()).unwrap_or_default().to_owned();
            let context = request["context"].as_object().unwrap().iter().map(|(key, value)| (key.clone(), one(value)));
            let supposed = Supposed {
                who: text("who"), action: text("action"), resource: text("resource"), owner: text("owner"),
                region: world.region().to_owned(), policy: request["policy"].as_object().map(|_| request["policy"].to_string()),
                context: context.collect(),
            };
            verdicts.push(world.bed.lab.judge(&supposed).await.unwrap());
        }
        verdicts
    });
    for request in &mut requests {
        request["boundary"] = boundary.clone();
    }
    assert_verdicts(&cases, &second(&requests));
    let lab: Vec<Value> = lab.into_iter().map(|allowed| json!({ "allowed": allowed, "by": "the lab" })).collect();
    assert_verdicts(&cases, &lab);
}
