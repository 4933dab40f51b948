//! Approvals over the lab: Step Functions runs the deployed state machine, its function and the runbooks; people answer
//! by the operators' URL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::process::Output;

use redress_common::contract::plan_sha256;
use redress_common::names;
use redress_lab::faults::{Action, Rule};
use redress_lab::scenario::{self, Broken};
use redress_lab::service::Credentials;
use redress_tests::ask::Target;
use redress_tests::grants::{Grant, Used, unused};
use redress_tests::world::{World, world};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Asks before everything; for keys, another person than who asked.
const POLICIES: &str = r#"
@id("team.notify") permit (principal, action == Redress::Action::"Notify", resource);
@id("team.ask") @approvers("1") permit (principal, action == Redress::Action::"Approve", resource)
when { context.mode == "Apply" && resource.control != "KMS.4" };
@id("team.ask-another") @approvers("1") @four_eyes("true")
permit (principal, action == Redress::Action::"Approve", resource)
when { context.mode == "Apply" && resource.control == "KMS.4" };
@id("team.undo") permit (principal is Redress::Analyst, action == Redress::Action::"Act", resource)
when { context.mode != "Apply" };
@id("team.answer") permit (principal is Redress::Analyst, action == Redress::Action::"Answer", resource);
"#;

async fn the_world() -> &'static World {
    static READY: OnceCell<()> = OnceCell::const_new();
    let world = all();
    let ready = READY.get_or_init(async || {
        let set = json!({ "Operation": "PolicySet", "Source": POLICIES, "Reason": "a test" });
        world.operate(set).await;
        // Nothing that the lab breaks from now on is old.
    });
    ready.await;
    world
}

fn all() -> &'static World {
    world(&["approve", "native", "deny", "expire", "drift", "eyes", "twice", "fails"])
}

/// A question, as it stands in the table.
struct Question {
    id: String,
    plan: String,
    broken: Broken,
    account: String,
}

/// Breaks something, and waits until people are asked about it.
async fn asked(world: &World, member: &str, scenario: &str) -> Question {
    let account = world.member(member);
    let broken = world.break_it(scenario, &account).await;
    question(world, account, broken).await
}

async fn question(world: &World, account: String, broken: Broken) -> Question {
    let resource = broken.resource_arn.as_str();
    let is_told = |record: &Value| {
        record["ResourceId"] == resource
            && record["ExecutionStatus"] == "AwaitingApproval"
            && record["NotificationSent"] == true
    };
    let records = world.ledger_when(&account, "people are asked", is_told).await;
    let record = records.iter().rev().find(|record| is_told(record)).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Question { id: text(&record["RemediationId"]), plan: text(&record["Detail"]["PlanSha256"]), broken, account }
}

impl Question {
    fn answer(&self, approve: bool) -> Value {
        json!({
            "Operation": "Answer", "RemediationId": self.id, "Approve": approve, "PlanSha256": self.plan,
            "Reason": "looked at it",
        })
    }

    async fn comes_to(&self, world: &World, status: &str) -> Value {
        let is_it = |record: &Value| record["RemediationId"] == self.id.as_str() && record["ExecutionStatus"] == status;
        let records = world.ledger_when(&self.account, &format!("{} comes to {status}", self.id), is_it).await;
        records.into_iter().rev().find(is_it).unwrap()
    }

    async fn state(&self, world: &World) -> Value {
        scenario::read_state(world.bed.lab.aws(), &self.broken).await.unwrap()
    }

    async fn item(&self, world: &World) -> Value {
        let key = format!("approval#{}", self.id);
        let get = json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": key } }, "ConsistentRead": true });
        world.admin_call("dynamodb", "GetItem", get).await["Item"].clone()
    }

    /// How the execution of the state machine ended.
    async fn execution(&self, world: &World) -> String {
        let (region, admin) = (world.region(), world.administrator());
        let arn = format!("arn:aws:states:{region}:{admin}:execution:{}:{}", names::WORKFLOW_STATE_MACHINE, self.id);
        let ended = world.eventually("the workflow ends", async || {
            let described =
                world.admin_call("stepfunctions", "DescribeExecution", json!({ "executionArn": arn })).await;
            described["status"].as_str().filter(|status| *status != "RUNNING").map(str::to_owned)
        });
        ended.await
    }

    /// The modes of the runbooks that were started for the resource.
    fn modes(&self, world: &World) -> Vec<String> {
        let of_this = |parameters: &std::collections::BTreeMap<String, Vec<String>>| {
            parameters.get("ResourceArn").is_some_and(|arn| arn[0] == self.broken.resource_arn.as_str())
        };
        let executions = world.bed.ssm.executions();
        let control = executions.iter().filter(|execution| execution.document == names::CONTROL_DOCUMENT);
        control
            .filter(|execution| execution.parameters["RemediationId"].len() == 1 && of_this(&execution.parameters))
            .map(|execution| execution.parameters["Mode"][0].clone())
            .collect()
    }

    async fn nothing_was_changed(&self, world: &World, before: &Value) {
        self.only_planned(world, 1, before).await;
    }

    /// Nothing was run but so many plans, and the resource is as it was.
    async fn only_planned(&self, world: &World, plans: usize, before: &Value) {
        assert_eq!(self.modes(world), vec!["DryRun"; plans]);
        assert_eq!(self.state(world).await, *before);
    }
}

async fn answers_as(world: &World, name: &str, question: &Question, approve: bool) -> (u16, Value) {
    let who = world.operator_called(name).await;
    let url = world.api_url(&who).await;
    world.asks_as(&who, &url, &question.answer(approve)).await
}

async fn approved_plan_is_applied(member: &str, scenario: &str) {
    let world = the_world().await;
    let question = asked(world, member, scenario).await;
    let before = question.state(world).await;
    assert_eq!(question.modes(world), ["DryRun"]);

    world.operate(question.answer(true)).await;
    let last = question.comes_to(world, "Verified").await;
    assert_eq!(question.modes(world), ["DryRun", "Apply"]);
    assert_ne!(question.state(world).await, before);
    let detail = |name: &str| last["Detail"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(plan_sha256(&detail("PreImageSha256"), &detail("ChangeSha256")), question.plan, "what was done");
    assert_eq!(question.execution(world).await, "SUCCEEDED");
    let records = world.ledger(&question.account).await;
    let of_this = records.iter().filter(|record| record["RemediationId"] == question.id.as_str());
    let yes = of_this.clone().find(|record| record["Detail"]["Code"] == "approved").unwrap();
    assert!(yes["Detail"]["AnsweredBy"].as_str().unwrap().ends_with("Redress-Operator/somebody"));
    let states: Vec<&str> = of_this.map(|record| record["ExecutionStatus"].as_str().unwrap()).collect();
    assert_eq!(states.last(), Some(&"Verified"), "{states:?}");
    assert!(world.denied().iter().all(|call| !call.principal.contains("Workflow")), "{:?}", world.denied());
}

#[test]
fn an_api_shaped_plan_that_was_approved_is_exactly_what_is_applied_and_verified() {
    all().run(approved_plan_is_applied("approve", "public-bucket"));
}

#[test]
fn a_native_plan_that_was_approved_is_exactly_what_is_applied_and_verified() {
    all().run(approved_plan_is_applied("native", "open-ssh"));
}

#[test]
fn what_is_denied_is_not_done_and_the_resource_is_left_alone() {
    all().run(async {
        let world = the_world().await;
        let question = asked(world, "deny", "public-bucket").await;
        let before = question.state(world).await;
        world.operate(question.answer(false)).await;
        let last = question.comes_to(world, "Denied").await;
        assert_eq!((&last["NotificationSent"], &last["Detail"]["Reason"]), (&json!(true), &json!("looked at it")));
        assert_eq!(question.execution(world).await, "SUCCEEDED");
        question.nothing_was_changed(world, &before).await;
    });
}

#[test]
fn defect_15_when_the_wait_ends_nothing_is_done() {
    all().run(async {
        let world = the_world().await;
        // Shorter than an operator may set it.
        let (account, key) = (world.member("expire"), json!({ "Key": { "S": "settings" } }));
        let get = json!({ "TableName": names::STATE_TABLE, "Key": key, "ConsistentRead": true });
        let mut settings = world.admin_call("dynamodb", "GetItem", get).await["Item"].clone();
        let limits = settings["Limits"].clone();
        assert!(limits["M"]["ApprovalSeconds"]["N"].is_string(), "{settings}");
        settings["Limits"]["M"]["ApprovalSeconds"]["N"] = "6".into();
        let put = |item: &Value| json!({ "TableName": names::STATE_TABLE, "Item": item });
        world.admin_call("dynamodb", "PutItem", put(&settings)).await;
        let broken = world.break_it("key-rotation-off", &account).await;
        let question = question(world, account, broken).await;
        settings["Limits"] = limits;
        world.admin_call("dynamodb", "PutItem", put(&settings)).await;
        let before = question.state(world).await;
        // Security Hub says the same meanwhile.
        let (account, arn) = (question.account.clone(), question.broken.resource_arn.clone());
        let target = Target { account: account.clone(), control: "KMS.4".to_owned(), arn: arn.to_string() };
        let finding = world.found_failed(&target).await;

        question.comes_to(world, "Expired").await;
        let anew = |record: &Value| {
            record["ResourceId"] == arn.as_str()
                && record["RemediationId"] != question.id.as_str()
                && record["ExecutionStatus"] == "AwaitingApproval"
                && record["NotificationSent"] == true
        };
        let records = world.ledger_when(&account, "what is still wrong is asked about anew", anew).await;
        assert_eq!(question.execution(world).await, "SUCCEEDED");
        let (status, refused) = answers_as(world, "anna", &question, true).await;
        assert_eq!((status, &refused["Code"]), (409, &json!("expired")), "{refused}");
        question.only_planned(world, 2, &before).await;

        // It is suppressed before the yes to the new question.
        let record = records.iter().rev().find(|record| anew(record)).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (id, plan) = (text(&record["RemediationId"]), text(&record["Detail"]["PlanSha256"]));
        let filters = json!({ "Filters": { "Id": [{ "Value": finding, "Comparison": "EQUALS" }] } });
        let found = world.admin_call("securityhub", "GetFindings", filters).await["Findings"][0].clone();
        let suppress = json!({
            "FindingIdentifiers": [{ "Id": finding, "ProductArn": found["ProductArn"] }],
            "Workflow": { "Status": "SUPPRESSED" },
        });
        world.admin_call("securityhub", "BatchUpdateFindings", suppress).await;
        let question = Question { id, plan, broken: question.broken, account };
        assert_eq!(answers_as(world, "anna", &question, true).await.0, 200);
        let last = question.comes_to(world, "Failed").await;
        assert_eq!(last["Detail"]["Code"], "decision-void", "{last:#}");
        question.only_planned(world, 2, &before).await;
    });
}

#[test]
fn what_drifted_between_plan_and_answer_voids_the_approval() {
    all().run(async {
        let world = the_world().await;
        let question = asked(world, "drift", "public-bucket").await;
        let bucket = question.broken.resource_arn.as_str().rsplit(':').next().unwrap();
        let half = json!({ "Bucket": bucket, "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": true, "IgnorePublicAcls": false, "BlockPublicPolicy": true, "RestrictPublicBuckets": false,
        }});
        world.call(&question.account, "s3", "PutPublicAccessBlock", half).await.unwrap();
        let drifted = question.state(world).await;

        world.operate(question.answer(true)).await;
        let last = question.comes_to(world, "Failed").await;
        assert_eq!(question.execution(world).await, "SUCCEEDED");
        assert_eq!(last["Detail"]["Outcome"].as_str().unwrap_or("Drifted"), "Drifted", "{last:#}");
        assert_eq!(question.state(world).await, drifted, "nothing was changed");
        assert_eq!(question.item(world).await["Status"]["S"], "Void");
    });
}

#[test]
fn who_asked_does_not_approve_it_where_policy_wants_four_eyes() {
    all().run(async {
        let world = the_world().await;
        let account = world.member("eyes");
        let broken = world.break_it("key-rotation-off", &account).await;
        let question = question(world, account, broken).await;
        // A rule asked: anybody may answer. A person who asks may not.
        assert_eq!(question.item(world).await["FourEyes"]["BOOL"], true);
        world.operate(question.answer(false)).await;
        let request = "four-eyes";
        let ask = json!({
            "Operation": "Remediate", "Control": "KMS.4", "AccountId": question.account, "Region": world.region(),
            "ResourceArn": question.broken.resource_arn.as_str(), "Mode": "Apply", "Reason": "a test asks", "RequestId": request,
        });
        let jo = world.operator_called("jo").await;
        let url = world.api_url(&jo).await;
        assert_eq!(world.asks_as(&jo, &url, &ask).await.0, 200);
        let is_told = |record: &Value| {
            record["FindingId"].as_str().is_some_and(|finding| finding.contains(request))
                && record["ExecutionStatus"] == "AwaitingApproval"
                && record["NotificationSent"] == true
        };
        let records = world.ledger_when(&question.account, "people are asked", is_told).await;
        let record = records.iter().find(|record| is_told(record)).unwrap();
        let id = record["RemediationId"].as_str().unwrap().to_owned();
        let mine = Question { id, ..question };
        let (status, refused) = answers_as(world, "jo", &mine, true).await;
        assert_eq!((status, &refused["Code"]), (403, &json!("four-eyes")), "{refused}");
        assert_eq!(answers_as(world, "anna", &mine, true).await.0, 200);
        mine.comes_to(world, "Verified").await;
    });
}

/// Somebody with a session of one of the roles, at the `redress` command.
struct Person<'a> {
    world: &'a World,
    by: Credentials,
}

impl<'a> Person<'a> {
    async fn of(world: &'a World, role: &str) -> Self {
        Self { world, by: world.person("pat", role).await }
    }

    async fn runs(&self, arguments: &[&str]) -> Output {
        let all: Vec<String> = ["--json"].iter().chain(arguments).map(ToString::to_string).collect();
        let prefix = self.world.bed.organisation.external_ids.reveal();
        self.world.redress_as(&self.by, &all, &[("REDRESS_EXTERNAL_ID", prefix)]).await
    }

    async fn gets(&self, arguments: &[&str]) -> Value {
        let output = self.runs(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `another-duty` is the door's refusal, `AccessDenied` is IAM's.
    async fn is_refused(&self, arguments: &[&str], code: &str) {
        let output = self.runs(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains(code), "{arguments:?}: {said}");
    }
}

#[test]
fn each_role_of_people_does_its_own_duty_by_the_command_and_no_other() {
    all().run(async {
        let world = the_world().await;
        let (mark, admin) = (world.bed.lab.record().mark(), world.administrator());
        let question = asked(world, "eyes", "public-bucket").await;
        let before = question.state(world).await;
        let (id, account) = (question.id.as_str(), question.account.as_str());
        let resource = question.broken.resource_arn.as_str();
        let auditor = Person::of(world, names::AUDITOR_ROLE).await;
        let approver = Person::of(world, names::APPROVER_ROLE).await;
        let names_it = |list: &Value| list.as_array().unwrap().iter().any(|one| one["RemediationId"] == id);

        for person in [&auditor, &approver] {
            assert!(names_it(&person.gets(&["approvals", "list"]).await));
            assert_eq!(person.gets(&["approvals", "show", id]).await["PlanIsThis"], true);
            assert_eq!(person.gets(&["why", id]).await["RemediationId"], id);
        }
        let of_all = &[] as &[&str];
        for of in [of_all, &["--account", account], &["--resource", resource]] {
            let list = [&["audit", "list", "--limit", "1000"][..], of].concat();
            assert!(names_it(&auditor.gets(&list).await), "{list:?}");
        }
        auditor.gets(&["audit", "verify", "--account", account]).await;
        auditor.gets(&["breaker", "list"]).await;
        for of in [of_all, &["--account", account], &["--resource", resource]] {
            approver.is_refused(&[&["audit", "list"][..], of].concat(), "AccessDenied").await;
        }
        for what in [["breaker", "list"], ["campaign", "list"], ["dlq", "list"]] {
            approver.is_refused(&what, "another-duty").await;
        }

        let changes = [
            &["off"][..],
            &["remediate", "--control", "S3.8", "--account", account, "--resource", resource],
            &["breaker", "close", "control:S3.8"],
        ];
        let answers = [&["approvals", "approve", id][..], &["approvals", "deny", id]];
        let reason = &["--reason", "a test"][..];
        for what in changes {
            approver.is_refused(&[what, reason].concat(), "another-duty").await;
        }
        for what in changes.into_iter().chain(answers) {
            auditor.is_refused(&[what, reason].concat(), "another-duty").await;
        }
        question.nothing_was_changed(world, &before).await;

        let approve = ["approvals", "approve", id, "--plan", &question.plan[..12], "--reason", "looked at it"];
        assert_eq!(approver.gets(&approve).await["Status"], "Approved");
        question.comes_to(world, "Verified").await;
        let records = world.ledger(account).await;
        let is_yes = |record: &&Value| record["RemediationId"] == id && record["Detail"]["Code"] == "approved";
        let by = records.iter().find(is_yes).unwrap()["Detail"]["AnsweredBy"].as_str().unwrap();
        assert!(by.ends_with("Redress-Approver/pat"), "{by}");
        for person in [&auditor, &approver] {
            person.is_refused(&[&["undo", id][..], reason].concat(), "another-duty").await;
        }
        assert_eq!(question.modes(world), ["DryRun", "Apply"]);
        assert_eq!(auditor.gets(&["settings", "show"]).await["Switch"], "on");
        let people = [names::APPROVER_ROLE, names::AUDITOR_ROLE];
        let chain = world.ledger(&admin).await;
        let is_theirs = |record: &&Value| {
            let by = record["Detail"]["RequestedBy"].as_str().unwrap_or_default();
            people.iter().any(|role| by.ends_with(&format!("{role}/pat")))
        };
        assert_eq!(chain.iter().find(is_theirs), None, "what was refused left no change");

        let mut lines = world.grants(&admin, |role| people.contains(&role)).await;
        // Checkpoints and their key: `checkpoints` has some.
        lines.retain(|line| !["s3:", "kms:"].iter().any(|service| line.action.starts_with(service)));
        let used: BTreeSet<Used> = world.checks(mark, true).into_iter().collect();
        assert_eq!(unused(&lines, &used), Vec::<&Grant>::new(), "granted, and used by nothing");
    });
}

#[test]
fn answers_that_come_too_early_twice_or_otherwise_do_what_the_first_did() {
    all().run(async {
        let world = the_world().await;
        let unknown = json!({
            "Operation": "Answer", "RemediationId": "7b1c0f2e-9d3a-5c41-8f60-0123456789ab", "Approve": true,
            "PlanSha256": "a".repeat(64), "Reason": "too fast",
        });
        let (status, refused) = world.asks(&unknown).await;
        assert_eq!((status, &refused["Code"]), (404, &json!("not-found")));

        let question = asked(world, "twice", "public-bucket").await;
        let other = json!({ "PlanSha256": "a".repeat(64) });
        let mut wrong = question.answer(true);
        wrong["PlanSha256"] = other["PlanSha256"].clone();
        let (status, refused) = world.asks(&wrong).await;
        assert_eq!((status, &refused["Code"]), (409, &json!("plan-changed")));
        let first = world.operate(question.answer(true)).await;
        let again = world.operate(question.answer(true)).await;
        assert_eq!(first, again);
        let (status, refused) = answers_as(world, "anna", &question, false).await;
        assert_eq!((status, &refused["Code"]), (409, &json!("answered")), "{refused}");
        question.comes_to(world, "Verified").await;
        world.operate(question.answer(true)).await;
        assert_eq!(question.execution(world).await, "SUCCEEDED");
        assert_eq!(question.modes(world), ["DryRun", "Apply"]);
    });
}

#[test]
fn defect_15_when_the_plan_cannot_be_made_nothing_is_done_and_people_are_told() {
    all().run(async {
        let world = the_world().await;
        let account = world.member("fails");
        let denied = Action::Fail { status: 400, code: "AccessDeniedException".to_owned() };
        let faults = world.bed.lab.faults();
        let rule = faults
            .add(Rule::new(denied).on("ssm", "StartAutomationExecution").by("redress-workflow").in_account(&account));
        let broken = world.break_it("public-bucket", &account).await;
        let resource = broken.resource_arn.as_str().to_owned();
        // The plan, which is a remediation of its own, fails first. A later finding of the same bucket tries again, and is
        // another one.
        let is_it = |record: &Value| record["ResourceId"] == *resource && record["Detail"]["Code"] == "workflow-failed";
        let records = world.ledger_when(&account, "the workflow fails", is_it).await;
        let id = records.iter().find(|record| is_it(record)).unwrap()["RemediationId"].as_str().unwrap().to_owned();
        let question = Question { id, plan: String::new(), broken, account };
        let last = question.comes_to(world, "Failed").await;
        assert_eq!((&last["Detail"]["Code"], &last["NotificationSent"]), (&json!("workflow-failed"), &json!(true)));
        assert_eq!(question.execution(world).await, "FAILED");
        assert_eq!(question.modes(world), [""; 0]);
        faults.remove(rule);
    });
}
