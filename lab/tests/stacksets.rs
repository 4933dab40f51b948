//! StackSets as any client of AWS sees them: stacks in several accounts and Regions, and what stops them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redress_lab::faults::{Action, Rule};
use redress_lab::record::Verdict;
use redress_lab::service::{AwsError, Credentials};
use redress_lab::services::ssm::Ssm;
use redress_lab::services::stacksets::StackSets;
use redress_lab::{Lab, LabOptions};
use serde_json::{Value, json};

const MANAGEMENT: &str = "111111111111";
const MEMBERS: [&str; 3] = ["222222222222", "333333333333", "444444444444"];
const REGION: &str = "eu-central-1";
const OTHER_REGION: &str = "eu-west-1";
const PRINCIPAL: &str = "member.org.stacksets.cloudformation.amazonaws.com";

/// A queue and a runbook. The queue's time-out says which version of the template made it.
fn template(seconds: u32) -> String {
    format!(
        "Parameters:
  Name: {{Type: String, AllowedPattern: '[a-z-]+'}}
  Kept: {{Type: Number, Default: 60}}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties: {{QueueName: !Ref Name, VisibilityTimeout: {seconds}, MessageRetentionPeriod: !Ref Kept}}
  Runbook:
    Type: AWS::SSM::Document
    Properties:
      Name: Waits
      DocumentType: Automation
      UpdateMethod: NewVersion
      Content:
        schemaVersion: '0.3'
        mainSteps:
          - {{name: Wait, action: 'aws:sleep', inputs: {{Duration: PT{seconds}S}}}}
"
    )
}

/// A bucket that stays when its stack goes, and then a bus, which may be there already.
const KEPT: &str = "Parameters:
  Name: {Type: String}
Resources:
  Kept:
    Type: AWS::S3::Bucket
    DeletionPolicy: RetainExceptOnCreate
    UpdateReplacePolicy: Retain
    Properties: {BucketName: !Sub 'kept-${AWS::AccountId}'}
  Bus:
    Type: AWS::Events::EventBus
    DependsOn: Kept
    Properties: {Name: !Ref Name}
";

struct Bed {
    lab: Lab,
    root: String,
    inner: String,
    outer: String,
}

impl Bed {
    /// An organisation of three members: one in a unit, one in a unit below it, one in none.
    async fn new() -> Self {
        let mut options = LabOptions::new(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        let ssm = Ssm::default();
        options.services = vec![Arc::new(ssm.clone()), Arc::new(StackSets::new(&ssm))];
        let lab = Lab::start(options).await.unwrap();
        let mut bed = Self { lab, root: String::new(), inner: String::new(), outer: String::new() };
        let roots = bed.organizations("ListRoots", json!({})).await;
        bed.root = roots["Roots"][0]["Id"].as_str().unwrap().to_owned();
        bed.outer = bed.unit(&bed.root, "Outer").await;
        bed.inner = bed.unit(&bed.outer, "Inner").await;
        for (member, unit) in
            [(MEMBERS[0], Some(bed.outer.clone())), (MEMBERS[1], Some(bed.inner.clone())), (MEMBERS[2], None)]
        {
            bed.join(member).await;
            if let Some(unit) = unit {
                bed.move_account(member, &bed.root, &unit).await;
            }
        }
        bed
    }

    async fn call(&self, account: &str, service: &str, operation: &str, parameters: Value) -> Result<Value, AwsError> {
        self.lab.aws().call(&Credentials::root(account), REGION, service, operation, parameters).await
    }

    async fn organizations(&self, operation: &str, parameters: Value) -> Value {
        let answer = self.call(MANAGEMENT, "organizations", operation, parameters).await;
        answer.unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    async fn unit(&self, parent: &str, name: &str) -> String {
        let made = self.organizations("CreateOrganizationalUnit", json!({ "ParentId": parent, "Name": name })).await;
        made["OrganizationalUnit"]["Id"].as_str().unwrap().to_owned()
    }

    async fn join(&self, account: &str) {
        let invitation = json!({ "Target": { "Id": account, "Type": "ACCOUNT" } });
        let invited = self.organizations("InviteAccountToOrganization", invitation).await;
        let handshake = json!({ "HandshakeId": invited["Handshake"]["Id"] });
        self.call(account, "organizations", "AcceptHandshake", handshake).await.unwrap();
    }

    async fn move_account(&self, account: &str, from: &str, to: &str) {
        let there = json!({ "AccountId": account, "SourceParentId": from, "DestinationParentId": to });
        self.organizations("MoveAccount", there).await;
    }

    /// StackSets, as the management account.
    async fn sets(&self, operation: &str, parameters: Value) -> Value {
        let answer = self.try_sets(operation, parameters).await;
        answer.unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    async fn try_sets(&self, operation: &str, parameters: Value) -> Result<Value, AwsError> {
        self.call(MANAGEMENT, "cloudformation", operation, parameters).await
    }

    /// An operation's status once it has ended, and its results: account, Region, status and reason.
    async fn ended(&self, operation: &Value) -> (String, Vec<[String; 4]>) {
        let asked = json!({ "StackSetName": "s", "OperationId": operation["OperationId"] });
        let begun = Instant::now();
        loop {
            let told = self.sets("DescribeStackSetOperation", asked.clone()).await;
            let told = &told["StackSetOperation"];
            if told["EndTimestamp"].is_string() {
                let results = self.sets("ListStackSetOperationResults", asked).await;
                let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
                let results = results["Summaries"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| ["Account", "Region", "Status", "StatusReason"].map(|field| text(one, field)));
                return (text(told, "Status"), results.collect());
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the operation does not end: {told:#}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Account, Region and status of each instance.
    async fn instances(&self) -> Vec<[String; 3]> {
        let listed = self.sets("ListStackInstances", json!({ "StackSetName": "s" })).await;
        let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
        let listed = listed["Summaries"].as_array().unwrap().iter();
        listed.map(|one| ["Account", "Region", "Status"].map(|field| text(one, field))).collect()
    }

    async fn instances_are(&self, expected: &[[&str; 3]]) {
        let begun = Instant::now();
        while self.instances().await != expected {
            let now = self.instances().await;
            assert!(begun.elapsed() < Duration::from_secs(20), "{now:?}\nis not\n{expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The attributes of a member's queue that the template sets, if it is there.
    async fn queue(&self, account: &str, region: &str, name: &str) -> Option<(String, String)> {
        let call = async |operation: &str, parameters: Value| {
            self.lab.aws().call(&Credentials::root(account), region, "sqs", operation, parameters).await
        };
        let url = call("GetQueueUrl", json!({ "QueueName": name })).await.ok()?["QueueUrl"].clone();
        let asked = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
        let found = call("GetQueueAttributes", asked).await.unwrap();
        let text = |field: &str| found["Attributes"][field].as_str().unwrap_or_default().to_owned();
        Some((text("VisibilityTimeout"), text("MessageRetentionPeriod")))
    }

    async fn runbook(&self, account: &str, region: &str) -> Option<Value> {
        let asked = json!({ "Name": "Waits" });
        self.lab.aws().call(&Credentials::root(account), region, "ssm", "GetDocument", asked).await.ok()
    }

    async fn role(&self, account: &str, name: &str, trusted: Value, actions: &[&str]) {
        let document = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let trust = document(json!({ "Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole" }));
        let role = json!({ "RoleName": name, "AssumeRolePolicyDocument": trust });
        self.call(account, "iam", "CreateRole", role).await.unwrap();
        let policy = document(json!({ "Effect": "Allow", "Action": actions, "Resource": "*" }));
        let policy = json!({ "RoleName": name, "PolicyName": "p", "PolicyDocument": policy });
        self.call(account, "iam", "PutRolePolicy", policy).await.unwrap();
    }

    /// The roles of self-managed permissions, with other names than the usual ones.
    async fn roles(&self, accounts: &[&str]) {
        self.role(MANAGEMENT, "Sets", json!({ "Service": "cloudformation.amazonaws.com" }), &["sts:AssumeRole"]).await;
        for account in accounts {
            let trusted = json!({ "AWS": format!("arn:aws:iam::{MANAGEMENT}:role/Sets") });
            self.role(account, "Deploys", trusted, &["cloudformation:*", "ssm:*"]).await;
        }
    }
}

fn named(name: &str) -> Value {
    json!([{ "ParameterKey": "Name", "ParameterValue": name }])
}

fn self_managed() -> Value {
    json!({ "StackSetName": "s", "TemplateBody": template(10), "Parameters": named("q"),
        "AdministrationRoleARN": format!("arn:aws:iam::{MANAGEMENT}:role/Sets"), "ExecutionRoleName": "Deploys" })
}

fn service_managed() -> Value {
    json!({ "StackSetName": "s", "TemplateBody": template(10), "Parameters": named("q"), "PermissionModel": "SERVICE_MANAGED",
        "AutoDeployment": { "Enabled": true, "RetainStacksOnAccountRemoval": false } })
}

fn in_accounts(accounts: &[&str], regions: &[&str]) -> Value {
    json!({ "StackSetName": "s", "Accounts": accounts, "Regions": regions })
}

fn in_units(units: &[&str], regions: &[&str]) -> Value {
    json!({ "StackSetName": "s", "DeploymentTargets": { "OrganizationalUnitIds": units }, "Regions": regions })
}

fn with(mut parameters: Value, more: Value) -> Value {
    parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    parameters
}

#[tokio::test(flavor = "multi_thread")]
async fn stacks_come_are_updated_and_go_in_every_account_and_region() {
    let bed = Bed::new().await;
    let accounts = [MANAGEMENT, MEMBERS[0], MEMBERS[1], MEMBERS[2]];
    bed.roles(&accounts).await;
    let made = bed.sets("CreateStackSet", with(self_managed(), json!({ "ClientRequestToken": "t" }))).await;
    let again = bed.sets("CreateStackSet", with(self_managed(), json!({ "ClientRequestToken": "t" }))).await;
    assert_eq!(made, again, "the same request twice is one stack set");
    let taken = bed.try_sets("CreateStackSet", self_managed()).await.unwrap_err();
    assert_eq!((taken.code.as_str(), taken.status), ("NameAlreadyExistsException", 409));

    let regions = [REGION, OTHER_REGION];
    let creation = with(
        in_accounts(&accounts, &regions),
        json!({ "OperationId": "first",
        "OperationPreferences": { "MaxConcurrentCount": 4, "FailureToleranceCount": 3, "RegionConcurrencyType": "PARALLEL" } }),
    );
    let first = bed.sets("CreateStackInstances", creation.clone()).await;
    assert_eq!(first["OperationId"], "first");
    assert_eq!(bed.sets("CreateStackInstances", creation).await, first, "the same operation twice is one");
    let (status, results) = bed.ended(&first).await;
    assert_eq!(status, "SUCCEEDED", "{results:#?}");
    assert_eq!(results.len(), 8);
    for account in accounts {
        for region in regions {
            assert_eq!(
                bed.queue(account, region, "q").await,
                Some(("10".to_owned(), "60".to_owned())),
                "{account} {region}"
            );
            assert_eq!(bed.runbook(account, region).await.unwrap()["DocumentVersion"], "1");
        }
    }
    let other = with(in_accounts(&accounts, &regions), json!({ "OperationId": "first" }));
    let reused = bed.try_sets("DeleteStackInstances", with(other, json!({ "RetainStacks": false }))).await.unwrap_err();
    assert_eq!(reused.code, "OperationIdAlreadyExistsException");

    let described =
        json!({ "StackSetName": "s", "StackInstanceAccount": MEMBERS[0], "StackInstanceRegion": OTHER_REGION });
    let instance = bed.sets("DescribeStackInstance", described.clone()).await["StackInstance"].clone();
    assert_eq!(instance["StackInstanceStatus"]["DetailedStatus"], "SUCCEEDED");
    let stack = instance["StackId"].as_str().unwrap();
    assert!(stack.contains(&format!(":{OTHER_REGION}:{}:stack/StackSet-s-", MEMBERS[0])), "{stack}");
    let (root, asked) = (Credentials::root(MEMBERS[0]), json!({ "StackName": stack }));
    let found = bed.lab.aws().call(&root, OTHER_REGION, "cloudformation", "DescribeStacks", asked).await.unwrap();
    assert_eq!(found["Stacks"][0]["StackStatus"], "CREATE_COMPLETE");

    // One account's own value, until it is taken back.
    let own = json!({ "ParameterOverrides": [{ "ParameterKey": "Kept", "ParameterValue": "120" }] });
    let own = bed.sets("UpdateStackInstances", with(in_accounts(&[MEMBERS[0]], &[OTHER_REGION]), own)).await;
    assert_eq!(bed.ended(&own).await.0, "SUCCEEDED");
    assert_eq!(bed.queue(MEMBERS[0], OTHER_REGION, "q").await.unwrap().1, "120");
    let update = json!({ "StackSetName": "s", "TemplateBody": template(20) });
    let update = bed.sets("UpdateStackSet", update).await;
    let (status, results) = bed.ended(&update).await;
    assert_eq!((status.as_str(), results.len()), ("SUCCEEDED", 8), "{results:#?}");
    assert_eq!(bed.queue(MEMBERS[0], OTHER_REGION, "q").await, Some(("20".to_owned(), "120".to_owned())));
    assert_eq!(bed.queue(MEMBERS[1], REGION, "q").await, Some(("20".to_owned(), "60".to_owned())));
    let runbook = bed.runbook(MEMBERS[1], REGION).await.unwrap();
    assert!(runbook["DocumentVersion"] == "2" && runbook["Content"].as_str().unwrap().contains("PT20S"), "{runbook}");
    let instance = bed.sets("DescribeStackInstance", described).await["StackInstance"].clone();
    assert_eq!(instance["ParameterOverrides"][0]["ParameterValue"], "120");

    let full = bed.try_sets("DeleteStackSet", json!({ "StackSetName": "s" })).await.unwrap_err();
    assert_eq!(full.code, "StackSetNotEmptyException");
    let kept = with(in_accounts(&[MEMBERS[2]], &regions), json!({ "RetainStacks": true }));
    assert_eq!(bed.ended(&bed.sets("DeleteStackInstances", kept).await).await.0, "SUCCEEDED");
    let rest = with(in_accounts(&accounts, &regions), json!({ "RetainStacks": false }));
    assert_eq!(bed.ended(&bed.sets("DeleteStackInstances", rest).await).await.0, "SUCCEEDED");
    assert!(bed.queue(MEMBERS[2], REGION, "q").await.is_some(), "a retained stack stays");
    for account in [MANAGEMENT, MEMBERS[0], MEMBERS[1]] {
        assert_eq!(bed.queue(account, OTHER_REGION, "q").await, None);
        assert!(bed.runbook(account, OTHER_REGION).await.is_none());
    }
    bed.sets("DeleteStackSet", json!({ "StackSetName": "s" })).await;
    let gone = bed.try_sets("DescribeStackSet", json!({ "StackSetName": "s" })).await.unwrap_err();
    assert_eq!((gone.code.as_str(), gone.status), ("StackSetNotFoundException", 404));
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_ends_where_more_accounts_fail_than_may() {
    let bed = Bed::new().await;
    bed.roles(&[MEMBERS[0], MEMBERS[2]]).await;
    bed.sets("CreateStackSet", self_managed()).await;
    let strict = bed.sets("CreateStackInstances", in_accounts(&MEMBERS, &[REGION, OTHER_REGION])).await;
    let (status, results) = bed.ended(&strict).await;
    let role = "Account 333333333333 should have 'Deploys' role with trust relationship to Role 'Sets'.";
    let cancelled = "Cancelled since failure tolerance has exceeded";
    assert_eq!(status, "FAILED");
    assert_eq!(
        results,
        [
            [MEMBERS[0], REGION, "SUCCEEDED", ""],
            [MEMBERS[0], OTHER_REGION, "CANCELLED", cancelled],
            [MEMBERS[1], REGION, "FAILED", role],
            [MEMBERS[1], OTHER_REGION, "CANCELLED", cancelled],
            [MEMBERS[2], REGION, "CANCELLED", cancelled],
            [MEMBERS[2], OTHER_REGION, "CANCELLED", cancelled],
        ]
    );
    let statuses: Vec<_> = bed.instances().await.into_iter().map(|one| one[2].clone()).collect();
    assert_eq!(statuses, ["CURRENT", "OUTDATED", "OUTDATED", "OUTDATED", "OUTDATED", "OUTDATED"]);

    let tolerant = json!({ "OperationPreferences": { "FailureToleranceCount": 1, "MaxConcurrentCount": 2, "RegionOrder": [OTHER_REGION] } });
    let tolerant =
        bed.sets("CreateStackInstances", with(in_accounts(&MEMBERS, &[REGION, OTHER_REGION]), tolerant)).await;
    let (status, results) = bed.ended(&tolerant).await;
    let failed: Vec<_> =
        results.iter().filter(|one| one[2] != "SUCCEEDED").map(|one| (one[0].as_str(), one[2].as_str())).collect();
    assert_eq!((status.as_str(), failed), ("SUCCEEDED", vec![(MEMBERS[1], "FAILED"), (MEMBERS[1], "FAILED")]));
    let calls = bed.lab.record().calls();
    let made = calls.iter().filter(|call| call.operation == "CreateStack").map(|call| call.region.as_str());
    assert_eq!(made.collect::<Vec<_>>(), [REGION, OTHER_REGION, OTHER_REGION, REGION], "the preferred Region first");

    // A role that may not do it is a failure of the stack, in AWS's own words.
    let trusted = json!({ "AWS": format!("arn:aws:iam::{MANAGEMENT}:role/Sets") });
    bed.role(MEMBERS[1], "Deploys", trusted, &["cloudformation:Describe*"]).await;
    let powerless = bed.sets("CreateStackInstances", in_accounts(&[MEMBERS[1]], &[REGION])).await;
    let (status, results) = bed.ended(&powerless).await;
    assert_eq!(status, "FAILED");
    assert!(
        results[0][3].contains("AccessDenied") && results[0][3].contains("cloudformation:CreateStack"),
        "{results:?}"
    );

    // What cannot be deleted is inoperable, and another try may delete it.
    bed.call(MEMBERS[0], "iam", "DeleteRolePolicy", json!({ "RoleName": "Deploys", "PolicyName": "p" })).await.unwrap();
    let deletion = with(in_accounts(&[MEMBERS[0]], &[REGION]), json!({ "RetainStacks": false }));
    assert_eq!(bed.ended(&bed.sets("DeleteStackInstances", deletion).await).await.0, "FAILED");
    assert_eq!(bed.instances().await[0], [MEMBERS[0], REGION, "INOPERABLE"]);
    let retained = with(in_accounts(&[MEMBERS[0]], &[REGION]), json!({ "RetainStacks": true }));
    assert_eq!(bed.ended(&bed.sets("DeleteStackInstances", retained).await).await.0, "SUCCEEDED");
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stack_keeps_is_in_the_way_of_the_next_one_but_for_what_came_to_nothing() {
    let bed = Bed::new().await;
    let account = MEMBERS[0];
    bed.roles(&[account]).await;
    bed.sets("CreateStackSet", with(self_managed(), json!({ "TemplateBody": KEPT }))).await;
    let bucket = json!({ "Bucket": format!("kept-{account}") });
    let is_kept = async || bed.call(account, "s3", "ListObjectsV2", bucket.clone()).await.is_ok();
    let create = async || {
        let begun = bed.sets("CreateStackInstances", in_accounts(&[account], &[REGION])).await;
        bed.ended(&begun).await
    };

    let bus = json!({ "Name": "q" });
    bed.call(account, "events", "CreateEventBus", bus.clone()).await.unwrap();
    let (status, results) = create().await;
    assert!(status == "FAILED" && results[0][3].contains("already exists"), "{status}: {results:?}");
    assert!(!is_kept().await, "a stack that never was leaves nothing");

    bed.call(account, "events", "DeleteEventBus", bus).await.unwrap();
    let (status, results) = create().await;
    assert_eq!(status, "SUCCEEDED", "{results:?}");
    let deletion = with(in_accounts(&[account], &[REGION]), json!({ "RetainStacks": false }));
    assert_eq!(bed.ended(&bed.sets("DeleteStackInstances", deletion).await).await.0, "SUCCEEDED");
    assert!(is_kept().await);
    assert_eq!(create().await.0, "FAILED", "its name is taken");
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_set_does_one_thing_at_a_time_and_can_be_stopped() {
    let bed = Bed::new().await;
    bed.roles(&MEMBERS).await;
    bed.sets("CreateStackSet", self_managed()).await;
    let rule = bed.lab.faults().add(
        Rule::new(Action::Delay(Duration::from_millis(1500)))
            .on("cloudformation", "CreateStack")
            .in_account(MEMBERS[0]),
    );
    let running = bed.sets("CreateStackInstances", in_accounts(&MEMBERS, &[REGION])).await;
    bed.lab.faults().struck(rule).await;
    let asked = json!({ "StackSetName": "s", "OperationId": running["OperationId"] });
    assert_eq!(bed.sets("DescribeStackSetOperation", asked.clone()).await["StackSetOperation"]["Status"], "RUNNING");
    for (operation, parameters) in [
        ("CreateStackInstances", in_accounts(&MEMBERS, &[OTHER_REGION])),
        ("UpdateStackSet", json!({ "StackSetName": "s", "TemplateBody": template(20) })),
        ("DeleteStackSet", json!({ "StackSetName": "s" })),
    ] {
        let busy = bed.try_sets(operation, parameters).await.unwrap_err();
        assert_eq!((busy.code.as_str(), busy.status), ("OperationInProgressException", 409), "{operation}");
    }
    assert_eq!(bed.instances().await.len(), 3, "what was refused left nothing behind");
    bed.sets("StopStackSetOperation", asked.clone()).await;
    let (status, results) = bed.ended(&running).await;
    let statuses: Vec<&str> = results.iter().map(|one| one[2].as_str()).collect();
    assert_eq!((status.as_str(), statuses), ("STOPPED", vec!["SUCCEEDED", "CANCELLED", "CANCELLED"]));
    let ended = bed.try_sets("StopStackSetOperation", asked).await.unwrap_err();
    assert_eq!(ended.code, "InvalidOperationException");
    let listed = bed.sets("ListStackSetOperations", json!({ "StackSetName": "s" })).await;
    assert_eq!(listed["Summaries"].as_array().unwrap().len(), 1);

    // With managed execution the second waits.
    let managed = json!({ "StackSetName": "s", "UsePreviousTemplate": true, "ManagedExecution": { "Active": true } });
    let first = bed.sets("UpdateStackSet", managed).await;
    let second = bed.sets("CreateStackInstances", in_accounts(&MEMBERS, &[OTHER_REGION])).await;
    for operation in [first, second] {
        let (status, results) = bed.ended(&operation).await;
        assert_eq!(status, "SUCCEEDED", "{results:?}");
    }
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_join_a_unit_get_the_stack_and_those_that_leave_lose_it() {
    let bed = Bed::new().await;
    let off = bed.try_sets("CreateStackSet", service_managed()).await.unwrap_err();
    assert!(off.message.contains("enable organizations access"), "{off}");
    bed.sets("ActivateOrganizationsAccess", json!({})).await;
    bed.sets("CreateStackSet", service_managed()).await;
    let accounts = bed.try_sets("CreateStackInstances", in_accounts(&MEMBERS, &[REGION])).await.unwrap_err();
    assert!(accounts.message.contains("OrganizationalUnit"), "{accounts}");
    let unknown = bed.try_sets("CreateStackInstances", in_units(&["ou-abcd-12345678"], &[REGION])).await.unwrap_err();
    assert_eq!(unknown.code, "ValidationError");
    let created = bed.sets("CreateStackInstances", in_units(&[&bed.outer], &[REGION])).await;
    assert_eq!(bed.ended(&created).await.0, "SUCCEEDED");
    bed.instances_are(&[[MEMBERS[0], REGION, "CURRENT"], [MEMBERS[1], REGION, "CURRENT"]]).await;
    let listed = bed.sets("ListStackInstances", json!({ "StackSetName": "s" })).await;
    assert_eq!(listed["Summaries"][1]["OrganizationalUnitId"], bed.outer.as_str(), "the unit that was named");

    // From one unit below to another: nothing happens. From outside: it comes.
    bed.move_account(MEMBERS[1], &bed.inner, &bed.outer).await;
    bed.move_account(MEMBERS[2], &bed.root, &bed.inner).await;
    let all = MEMBERS.map(|member| [member, REGION, "CURRENT"]);
    bed.instances_are(&all).await;
    assert!(bed.queue(MEMBERS[2], REGION, "q").await.is_some());
    let stacks = async |account: &str| {
        let listed = bed.call(account, "cloudformation", "DescribeStacks", json!({})).await.unwrap();
        listed["Stacks"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(stacks(MEMBERS[1]).await, 1);

    bed.join("555555555555").await;
    bed.move_account("555555555555", &bed.root, &bed.outer).await;
    bed.move_account(MEMBERS[0], &bed.outer, &bed.root).await;
    bed.organizations("RemoveAccountFromOrganization", json!({ "AccountId": MEMBERS[1] })).await;
    bed.instances_are(&[[MEMBERS[2], REGION, "CURRENT"], ["555555555555", REGION, "CURRENT"]]).await;
    assert_eq!(bed.queue(MEMBERS[0], REGION, "q").await, None);
    assert_eq!(stacks(MEMBERS[1]).await, 0);

    // Retained from now on; and without automatic deployment nobody is followed.
    let update = json!({ "StackSetName": "s", "UsePreviousTemplate": true,
        "AutoDeployment": { "Enabled": true, "RetainStacksOnAccountRemoval": true } });
    assert_eq!(bed.ended(&bed.sets("UpdateStackSet", update).await).await.0, "SUCCEEDED");
    bed.move_account(MEMBERS[2], &bed.inner, &bed.root).await;
    bed.instances_are(&[["555555555555", REGION, "CURRENT"]]).await;
    assert!(bed.queue(MEMBERS[2], REGION, "q").await.is_some());
    let off = json!({ "StackSetName": "s", "UsePreviousTemplate": true, "AutoDeployment": { "Enabled": false } });
    assert_eq!(bed.ended(&bed.sets("UpdateStackSet", off).await).await.0, "SUCCEEDED");
    bed.move_account(MEMBERS[0], &bed.root, &bed.outer).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bed.instances().await, [["555555555555", REGION, "CURRENT"]]);
    let deletion = with(in_units(&[&bed.outer], &[REGION]), json!({ "RetainStacks": false }));
    assert_eq!(bed.ended(&bed.sets("DeleteStackInstances", deletion).await).await.0, "SUCCEEDED");
    bed.sets("DeleteStackSet", json!({ "StackSetName": "s" })).await;
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_makes_stack_sets() {
    let bed = Bed::new().await;
    bed.sets("ActivateOrganizationsAccess", json!({})).await;
    let member = MEMBERS[0];
    let mine = bed.call(member, "cloudformation", "CreateStackSet", service_managed()).await.unwrap_err();
    assert!(mine.message.contains("management account or delegated admin"), "{mine}");
    let delegated = |parameters: Value| with(parameters, json!({ "CallAs": "DELEGATED_ADMIN" }));
    let early = bed.call(member, "cloudformation", "CreateStackSet", delegated(service_managed())).await.unwrap_err();
    assert!(early.message.contains("not a delegated administrator"), "{early}");
    let registration = json!({ "AccountId": member, "ServicePrincipal": PRINCIPAL });
    bed.organizations("RegisterDelegatedAdministrator", registration).await;
    bed.call(member, "cloudformation", "CreateStackSet", delegated(service_managed())).await.unwrap();
    let units = delegated(in_units(&[&bed.outer], &[REGION]));
    let created = bed.call(member, "cloudformation", "CreateStackInstances", units).await.unwrap();
    assert_eq!(bed.ended(&created).await.0, "SUCCEEDED", "it is the management account's stack set");
    let other = bed.call(MEMBERS[1], "cloudformation", "DescribeStackSet", json!({ "StackSetName": "s" })).await;
    assert_eq!(other.unwrap_err().code, "StackSetNotFoundException");

    // A role with some of the permissions.
    let trusted = json!({ "AWS": MANAGEMENT });
    let allowed = ["cloudformation:CreateStackSet", "cloudformation:DescribeStackSet"];
    bed.role(MANAGEMENT, "Some", trusted, &allowed).await;
    let role = format!("arn:aws:iam::{MANAGEMENT}:role/Some");
    let assumed = json!({ "RoleArn": role, "RoleSessionName": "some" });
    let assumed = bed.call(MANAGEMENT, "sts", "AssumeRole", assumed).await.unwrap();
    let text = |field: &str| assumed["Credentials"][field].as_str().unwrap().to_owned();
    let some = Credentials {
        access_key_id: text("AccessKeyId"),
        secret_access_key: text("SecretAccessKey"),
        session_token: Some(text("SessionToken")),
    };
    let call = async |operation: &str, parameters: Value| {
        bed.lab.aws().call(&some, REGION, "cloudformation", operation, parameters).await
    };
    call("DescribeStackSet", json!({ "StackSetName": "s" })).await.unwrap();
    let refused = call("DeleteStackSet", json!({ "StackSetName": "s" })).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status), ("AccessDenied", 403));
    let calls = bed.lab.record().calls();
    let denied = calls.iter().find(|call| call.operation == "DeleteStackSet" && call.verdict == Verdict::Deny).unwrap();
    assert!(denied.checks[0].resource.contains(":stackset/s:"), "{}", denied.checks[0].resource);
    let another = with(self_managed(), json!({ "StackSetName": "another" }));
    let passed = call("CreateStackSet", another.clone()).await.unwrap_err();
    assert!(passed.message.contains("iam:PassRole"), "{passed}");
    bed.sets("CreateStackSet", another).await;
    let untrusting = with(in_accounts(&MEMBERS, &[REGION]), json!({ "StackSetName": "another" }));
    let untrusting = bed.try_sets("CreateStackInstances", untrusting).await.unwrap_err();
    assert!(untrusting.message.contains("'Sets' role with trust relationship to CloudFormation"), "{untrusting}");
    bed.lab.stop().await;
}
