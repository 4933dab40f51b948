//! Least privilege, proved both ways against the deployed policies: nothing that the flows need is missing, nothing
//! that is granted is unused, and without any one line of any role's policy something visibly fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use redress_common::contract::Mode;
use redress_common::finding::{Inbound, parse, released};
use redress_common::ids::RemediationId;
use redress_common::names;
use redress_lab::faults::{Action, Rule};
use redress_tests::again::Met;
use redress_tests::ask::Target;
use redress_tests::grants::{Grant, Used, unused, without};
use redress_tests::guarded;
use redress_tests::powers::Power;
use redress_tests::raw::{config_event, guardduty_event};
use redress_tests::world::{World, is_due, played, world_of};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Accounts in which lines are taken away, at the same time.
const WORKERS: [&str; 4] = ["worker-1", "worker-2", "worker-3", "worker-4"];
/// Accounts that no function has a session of.
const FRESH: [(&str, &str); 3] =
    [(names::ORCHESTRATOR_ROLE, "fresh-1"), (names::COMPLETION_ROLE, "fresh-2"), (names::WORKFLOW_ROLE, "fresh-3")];
/// An account with old findings, for campaigns.
const OLD: &str = "old";
/// What marks a resource as critical, so that people are asked before it is changed.
const CRITICAL: (&str, &str) = ("Criticality", "critical");

/// The controls that are played here. What the others need is proved by `catalogue`, which plays them all.
const PLAYED: [&str; 6] = ["EC2.13", "EC2.7", "IAM.7", "KMS.4", "S3.8", "Tag.Required"];

fn the_world() -> &'static World {
    let members = ["flows", WORKERS[0], WORKERS[1], WORKERS[2], WORKERS[3], FRESH[0].1, FRESH[1].1, FRESH[2].1, OLD];
    world_of(&members, |control| PLAYED.contains(&control.as_str()))
}

/// Something that uses Redress, from its smallest use to its largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exercise {
    /// A message that cannot be read.
    Refused,
    /// A person asks for this control, on what this scenario breaks.
    Asked(&'static str, Mode),
    /// Security Hub reports it.
    Found(&'static str),
    /// AWS Config reports it.
    Noticed(&'static str),
    /// A person asks for a fix, and then for its undo.
    Undone(&'static str),
    /// The same on an account that has no password policy at all.
    UndoneFromNothing,
    /// A resource that is not there any more.
    Gone(&'static str, &'static str),
    /// A guardrail of the account's owner forbids this role this action.
    Forbidden(&'static str, &'static str, &'static str),
    /// The orchestrator's question to a member's guard, about a resource of this kind.
    Guarded(&'static str),
    /// Its outcome comes again, over a table changed by hand.
    Again(&'static str, Met),
    /// GuardDuty reports it, and it is contained.
    Contained(&'static str),
    /// GuardDuty reports it as less than grave, and people are told.
    Reported(&'static str),
    /// AWS Config reports what is critical, people are asked, and one says yes.
    Approved(&'static str),
    /// Security Hub reports it, while a setting wants something found out first.
    Settled(&'static str, Setting),
    /// Security Hub reports it, and no place is free.
    Deferred(&'static str),
    /// What was brought back for a free place needs none, so the next comes.
    Freed(&'static str),
    /// Security Hub reports it, and SNS does not take what is said of its end.
    Untold(&'static str),
    /// What an operator does at the door.
    Operated(Power),
    /// The `redress` command, about a remediation that was done.
    Command(&'static [&'static str]),
}

/// A setting by which more must be known before anything is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    /// A unit's switch: where the account is.
    Units,
    /// A change calendar: whether it is open.
    Calendars,
}

use Exercise::{
    Again, Approved, Asked, Command as Run, Contained, Deferred, Forbidden, Found, Freed, Gone, Guarded, Noticed,
    Operated, Refused, Reported, Settled, Undone, UndoneFromNothing, Untold,
};

const EXERCISES: &[Exercise] = &[
    Refused,
    Asked("public-bucket", Mode::DryRun),
    Asked("public-bucket", Mode::Apply),
    Asked("missing-tags", Mode::Apply),
    Asked("open-ssh", Mode::Apply),
    Asked("key-rotation-off", Mode::Apply),
    Asked("ebs-encryption-off", Mode::Apply),
    Asked("weak-password-policy", Mode::Apply),
    Found("public-bucket"),
    Noticed("public-bucket"),
    Gone("KMS.4", "arn:aws:kms:us-east-1:{account}:key/00000000-0000-4000-8000-000000000000"),
    Gone("S3.8", "arn:aws:s3:::redress-no-such-bucket"),
    Forbidden("ebs-encryption-off", "Redress-Remediate-EC2", "ec2:EnableEbsEncryptionByDefault"),
    Undone("public-bucket"),
    Undone("missing-tags"),
    Undone("open-ssh"),
    Undone("key-rotation-off"),
    Undone("ebs-encryption-off"),
    Undone("weak-password-policy"),
    UndoneFromNothing,
    Again("missing-tags", Met::Waiting),
    Again("missing-tags", Met::Successor),
    Guarded("account"),
    Guarded("bucket"),
    Guarded("group"),
    Guarded("image"),
    Guarded("key"),
    Guarded("other"),
    Guarded("policy"),
    Guarded("public"),
    Guarded("role"),
    Guarded("snapshot"),
    Guarded("stack"),
    Guarded("user"),
    Guarded("volume"),
    Settled("public-bucket", Setting::Units),
    Settled("public-bucket", Setting::Calendars),
    Deferred("public-bucket"),
    Freed("public-bucket"),
    Untold("public-bucket"),
    Approved("public-bucket"),
    Contained("public-bucket"),
    Reported("public-bucket"),
    Operated(Power::Exempt),
    Operated(Power::Close),
    Operated(Power::Look),
    Operated(Power::Redrive),
    Operated(Power::Park),
    Operated(Power::Plan),
    Operated(Power::FailToPlan),
    Run(&["breaker", "list"]),
    Run(&["settings", "show"]),
    Run(&["audit", "show", "{id}"]),
    Run(&["audit", "list"]),
    Run(&["audit", "list", "--account", "{account}"]),
    Run(&["audit", "list", "--resource", "{resource}"]),
    Run(&["audit", "verify", "--account", "{account}"]),
    Run(&["why", "{id}"]),
    Run(&["on", "--reason", "a test"]),
    Run(&["audit", "show", "{id}", "--evidence"]),
    Run(&["remediate", "--control", "S3.8", "--account", "{account}", "--resource", "{resource}", "--dry-run"]),
];

/// Lines whose use is proved elsewhere: role and the start of the action (`` is every action), or the end of the resource.
const ELSEWHERE: &[(&str, &str)] = &[
    // People's: `approvals` does with them what they are for, and uses every line.
    (names::APPROVER_ROLE, ""),
    (names::AUDITOR_ROLE, ""),
    // `checkpoints` has some, and uses every line that is for them.
    (names::CHECKPOINT_ROLE, ""),
    (names::OPERATOR_ROLE, "s3:"),
    (names::OPERATOR_ROLE, "kms:"),
    // What is kept of incidents: `contain` shows and exports a case.
    (names::EVIDENCE_READER_ROLE, "s3:ListBucket"),
    (names::EVIDENCE_READER_ROLE, "s3:GetObjectRetention"),
    // Who can reach a database or a function: `guard` asks that of each.
    (names::GUARD_ROLE, "rds:DescribeDBInstances"),
    (names::GUARD_ROLE, "lambda:"),
    // RDS alone assumes it; the lab has no agents on databases.
    (names::RDS_MONITORING_ROLE, ""),
    // `reconcile` uses every line of it, and takes away each that all runs use: it has leases of seconds.
    (names::RECONCILER_ROLE, ""),
    // The reconciler's searches and its watchdog's stop, there too.
    (names::CROSS_ACCOUNT_ROLE, "ssm:DescribeAutomationExecutions"),
    (names::CROSS_ACCOUNT_ROLE, "ssm:StopAutomationExecution"),
    // For what a worker that died had begun, and for ends that nobody heard of: `faults` kills workers there.
    (names::WORKFLOW_ROLE, "sqs:SendMessage"),
    // What came while people were asked comes back: `approvals` lets a question expire.
    (names::WORKFLOW_ROLE, names::BACKLOG_TABLE),
    // It is read again when it comes back, and after its approval: there, too.
    (names::ORCHESTRATOR_ROLE, "securityhub:"),
    (names::WORKFLOW_ROLE, "securityhub:"),
    (names::WORKFLOW_ROLE, "states:SendTaskSuccess"),
    // Asked before Apply, only where policy speaks of calendars; the orchestrator's same line is taken away here.
    (names::WORKFLOW_ROLE, "ssm:GetCalendarState"),
];

fn is_elsewhere(line: &Grant) -> bool {
    let is_it = |what: &str| line.action.starts_with(what) || line.resource.ends_with(what);
    ELSEWHERE.iter().any(|(role, what)| line.role == *role && is_it(what))
}

/// What an exercise did, or tried: whose records say how it ended.
struct Subject {
    account: String,
    resource: String,
    /// Only for what has one that is known before.
    id: Option<String>,
    since: i64,
    /// Of the command.
    exit: Option<i32>,
}

/// A remediation that was done, for the commands.
#[derive(Clone)]
struct Done {
    id: String,
    target: Target,
}

async fn broken(world: &World, scenario: &str, account: &str) -> Target {
    let broken = world.break_only(scenario, account).await;
    Target { account: account.to_owned(), control: broken.control.to_string(), arn: broken.resource_arn.to_string() }
}

async fn run_command(world: &World, arguments: &[&str], done: &Done) -> i32 {
    let fill = |text: &&str| {
        text.replace("{id}", &done.id)
            .replace("{account}", &done.target.account)
            .replace("{resource}", &done.target.arn)
    };
    let filled: Vec<String> = arguments.iter().map(fill).collect();
    let external_id = world.bed.organisation.external_ids.reveal();
    let output = world.redress(&filled, &[("AWS_MAX_ATTEMPTS", "1"), ("REDRESS_EXTERNAL_ID", external_id)]).await;
    if !output.status.success() {
        println!("redress {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.code().unwrap_or(-1)
}

impl Exercise {
    /// Starts it. An undo's first half is awaited: what is left out is only asked for by the second.
    async fn start(self, world: &World, account: &str, done: &Done) -> Subject {
        let since = jiff::Timestamp::now().as_millisecond();
        let subject = |resource: &str| Subject {
            account: account.to_owned(),
            resource: resource.to_owned(),
            id: None,
            since,
            exit: None,
        };
        match self {
            Refused => {
                let body = format!("no event {}", uuid::Uuid::new_v4());
                world.send_raw(&body).await;
                let id = RemediationId::of_rejected(body.as_bytes()).to_string();
                Subject { account: world.administrator(), id: Some(id), ..subject("unknown") }
            }
            Asked(scenario, mode) => {
                let target = broken(world, scenario, account).await;
                world.ask(account, &target.control, &target.arn, mode.as_str()).await;
                subject(&target.arn)
            }
            Found(scenario) => {
                let target = broken(world, scenario, account).await;
                world.found_failed(&target).await;
                subject(&target.arn)
            }
            Noticed(scenario) => subject(world.break_it(scenario, account).await.resource_arn.as_str()),
            Undone(scenario) => {
                let target = broken(world, scenario, account).await;
                Self::undo(world, &target).await;
                subject(&target.arn)
            }
            UndoneFromNothing => {
                let target = broken(world, "weak-password-policy", account).await;
                world.call(account, "iam", "DeleteAccountPasswordPolicy", json!({})).await.unwrap();
                Self::undo(world, &target).await;
                subject(&target.arn)
            }
            Forbidden(scenario, role, action) => {
                let target = broken(world, scenario, account).await;
                guardrail(world, account, role, Some(action)).await;
                world.ask(account, &target.control, &target.arn, "Apply").await;
                let subject = subject(&target.arn);
                let is_end = |status: &str| matches!(status, "Verified" | "Failed");
                world.eventually("what is forbidden ends", async || subject.end(world, is_end).await).await;
                guardrail(world, account, role, None).await;
                subject
            }
            Gone(control, resource) => {
                let resource = resource.replace("{account}", account);
                world.ask(account, control, &resource, "Apply").await;
                subject(&resource)
            }
            Guarded(kind) => {
                let target = world.guardable(kind, account).await;
                let told = world.ask_guard(account, &world.guard_request(&target, &["192.0.2.1"])).await;
                let told = told.ok().and_then(|told| serde_json::from_value(told).ok());
                let whole = told.is_some_and(|told| guarded::refused(&told).is_empty());
                Subject { exit: Some(i32::from(!whole)), ..subject(&target.arn) }
            }
            Again(scenario, met) => {
                let target = broken(world, scenario, account).await;
                let fixed = world.remediate(&target, Mode::Apply).await;
                let since = jiff::Timestamp::now().as_millisecond();
                world.comes_again(&target, &fixed, met).await;
                Subject { since, ..subject(&target.arn) }
            }
            Approved(scenario) => {
                let target = broken(world, scenario, account).await;
                let bucket = target.arn.rsplit(':').next().unwrap().to_owned();
                let tags = json!({ "TagSet": [{ "Key": CRITICAL.0, "Value": CRITICAL.1 }] });
                let tag = json!({ "Bucket": bucket, "Tagging": tags });
                world.call(account, "s3", "PutBucketTagging", tag).await.unwrap();
                let event = config_event(account, world.region(), &bucket, jiff::Timestamp::now());
                world.send_raw(&event.to_string()).await;
                let subject = subject(&target.arn);
                let (account, resource) = (account.to_owned(), target.arn);
                std::thread::spawn(move || the_world().run(says_yes(account, resource, since)));
                subject
            }
            Contained(scenario) | Reported(scenario) => {
                let target = broken(world, scenario, account).await;
                let severity = if matches!(self, Contained(_)) { 8.0 } else { 5.0 };
                let kind = ("Policy:S3/BucketAnonymousAccessGranted", severity);
                let event = guardduty_event(account, world.region(), &target.arn, kind, jiff::Timestamp::now());
                world.send_raw(&event.to_string()).await;
                subject(&target.arn)
            }
            Settled(scenario, setting) => {
                let (name, value) = match setting {
                    Setting::Units => ("Ous", json!({ "M": { "ou-none-00000000": { "S": "off" } } })),
                    Setting::Calendars => ("ChangeCalendars", json!({ "L": [{ "S": calendar(world).await }] })),
                };
                world.forget_account(account).await;
                let before = world.set_setting(name, value).await;
                let target = broken(world, scenario, account).await;
                world.found_failed(&target).await;
                let subject = subject(&target.arn);
                let is_end = |status: &str| matches!(status, "Verified" | "Failed" | "Notified");
                world.eventually("what is settled ends", async || subject.end(world, is_end).await).await;
                world.set_setting(name, before).await;
                subject
            }
            Deferred(scenario) => {
                let target = broken(world, scenario, account).await;
                let (mark, place) = (world.bed.lab.record().mark(), world.no_place(account).await);
                world.found_failed(&target).await;
                let waits =
                    settles(world, names::ORCHESTRATOR_ROLE, mark, async || !world.turns(&place).await.is_empty())
                        .await;
                world.free_places(&place).await;
                Subject { exit: Some(i32::from(!waits)), ..subject(&target.arn) }
            }
            Freed(scenario) => {
                let target = broken(world, scenario, account).await;
                world.remediate(&target, Mode::Apply).await;
                let bucket = target.arn.rsplit(':').next().unwrap();
                let before = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
                let event = config_event(account, world.region(), bucket, before).to_string();
                let Ok(Inbound::Findings(findings)) = parse(event.as_bytes()) else { panic!("{event}") };
                let finding = findings.into_iter().next().unwrap().unwrap();
                let (admin, region) = (world.administrator().parse().unwrap(), world.region().parse().unwrap());
                let (mark, place) = (world.bed.lab.record().mark(), world.somebody_waits(account).await);
                world.send_raw(&released(&admin, &region, &finding, None, jiff::Timestamp::now())).await;
                let goes =
                    settles(world, names::ORCHESTRATOR_ROLE, mark, async || world.turns(&place).await.is_empty()).await;
                world.free_places(&place).await;
                Subject { exit: Some(i32::from(!goes)), ..subject(&target.arn) }
            }
            Untold(scenario) => {
                let refuse = Action::Fail { status: 400, code: "InternalError".to_owned() };
                let rule = Rule::new(refuse).by(names::COMPLETION_FUNCTION).on("sns", "Publish").always().and_retries();
                let (rule, mark) = (world.bed.lab.faults().add(rule), world.bed.lab.record().mark());
                let target = broken(world, scenario, account).await;
                world.found_failed(&target).await;
                let kept = async || {
                    let waiting = world.waiting("untold").await;
                    waiting.iter().any(|item| item["Body"]["S"].as_str().is_some_and(|body| body.contains(&target.arn)))
                };
                let waits = settles(world, names::COMPLETION_ROLE, mark, kept).await;
                world.bed.lab.faults().remove(rule);
                // What the completion still does would meet the next exercise.
                let subject = subject(&target.arn);
                world
                    .eventually("its end is recorded", async || subject.end(world, |end| end == "Verified").await)
                    .await;
                Subject { exit: Some(i32::from(!waits)), ..subject }
            }
            Operated(power) => {
                let done = world.does(power, &world.member(OLD)).await;
                Subject { exit: Some(i32::from(!done)), ..subject("") }
            }
            Run(arguments) => {
                let exit = run_command(world, arguments, done).await;
                Subject { exit: Some(exit), ..subject(&done.target.arn) }
            }
        }
    }

    async fn undo(world: &World, target: &Target) {
        let fixed = world.remediate(target, Mode::Apply).await;
        assert_eq!(fixed.last()["ExecutionStatus"], "Verified", "{target:?} {:?}", fixed.error());
        world.ask_undo(&fixed.id).await;
    }

    /// Where it ends when nothing is missing.
    const fn ends(self) -> &'static str {
        match self {
            Refused | Gone(..) | Forbidden(..) => "Failed",
            Asked(_, Mode::DryRun) | Reported(_) => "Notified",
            Undone(_) | UndoneFromNothing => "RolledBack",
            _ => "Verified",
        }
    }

    /// Whether a record is the end that this comes to when nothing is missing.
    fn is_well(self, record: &Value) -> bool {
        let outcome = match self {
            Gone(..) => Some("NotFound"),
            Forbidden(..) => Some("Failed"),
            _ => None,
        };
        record["ExecutionStatus"] == self.ends() && outcome.is_none_or(|outcome| record["Detail"]["Outcome"] == outcome)
    }
}

/// Whether it comes to hold, before a role is refused something.
async fn settles(world: &World, role: &str, mark: u64, holds: impl AsyncFn() -> bool) -> bool {
    let refused = |call: &Used| call.role == role;
    let look = async || match holds().await {
        true => Some(true),
        false => world.checks(mark, false).iter().any(refused).then_some(false),
    };
    world.eventually("it comes to hold, or something is refused", look).await
}

/// Approves what is asked about a resource, as soon as people are told.
async fn says_yes(account: String, resource: String, since: i64) {
    let world = the_world();
    let told = |record: &Value| {
        record["ResourceId"] == *resource
            && record["ExecutionStatus"] == "AwaitingApproval"
            && record["NotificationSent"] == true
            && record["Timestamp"].as_i64() >= Some(since)
    };
    let records = world.ledger_when(&account, "people are asked", told).await;
    let record = records.iter().rev().find(|record| told(record)).unwrap();
    let answer = json!({
        "Operation": "Answer", "RemediationId": record["RemediationId"], "Approve": true,
        "PlanSha256": record["Detail"]["PlanSha256"], "Reason": "a test",
    });
    let heard = async || (world.asks(&answer).await.0 == 200).then_some(());
    world.eventually("the answer is taken", heard).await;
}

/// A change calendar that is open.
async fn calendar(world: &World) -> String {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let make = async || {
        let content = "BEGIN:VCALENDAR\nVERSION:2.0\nX-CALENDAR-TYPE:DEFAULT_OPEN\nEND:VCALENDAR\n";
        let made = json!({
            "Name": "Freeze", "Content": content, "DocumentType": "ChangeCalendar", "DocumentFormat": "TEXT",
        });
        world.admin_call("ssm", "CreateDocument", made).await;
    };
    MADE.get_or_init(make).await;
    format!("arn:aws:ssm:{}:{}:document/Freeze", world.region(), world.administrator())
}

/// A deny that no line of ours makes up for, or the end of it.
async fn guardrail(world: &World, account: &str, role: &str, forbidden: Option<&str>) {
    let mut asked = json!({ "RoleName": role, "PolicyName": "guardrail" });
    let Some(action) = forbidden else {
        world.call(account, "iam", "DeleteRolePolicy", asked).await.unwrap();
        return;
    };
    let deny = json!({ "Effect": "Deny", "Action": action, "Resource": "*" });
    asked["PolicyDocument"] = json!({ "Version": "2012-10-17", "Statement": [deny] }).to_string().into();
    world.call(account, "iam", "PutRolePolicy", asked).await.unwrap();
}

impl Subject {
    /// The last record of an end of it, if there is one yet.
    async fn end(&self, world: &World, wanted: impl Fn(&str) -> bool) -> Option<Value> {
        let records = world.ledger_since(&self.account, self.since).await;
        let is_it = |record: &&Value| match &self.id {
            Some(id) => record["RemediationId"] == **id,
            None => record["ResourceId"] == *self.resource,
        };
        let status = |record: &Value| record["ExecutionStatus"].as_str().is_some_and(&wanted);
        records.iter().rev().filter(is_it).find(|record| status(record)).cloned()
    }
}

/// Roles of the member's stack that are given to resources: nothing of Redress has them.
const OF_RESOURCES: [&str; 2] = ["Redress-Flow-Logs", "Redress-Managed-Instance"];

/// Every allow line of every role of Redress in an account.
async fn lines(world: &World, account: &str) -> Vec<Grant> {
    let is_ours = |role: &str| {
        // Playbooks, what destroys, and what their roles may do: `contain`, and of EC2.4 `catalogue`.
        let is_elsewhere = role.starts_with("Redress-Contain-") || role == names::DESTROY_ROLE;
        let is_played = role.starts_with("Redress-") && !is_elsewhere;
        (is_played && !OF_RESOURCES.contains(&role)) || role == names::CROSS_ACCOUNT_ROLE
    };
    let mut found = world.grants(account, is_ours).await;
    found.retain(|line| !is_elsewhere(line));
    found
}

/// What rules' roles did: EventBridge hops from bus to bus with them. `denied` by the role's policy, or delivered.
fn hops(world: &World, from: usize, denied: bool) -> Vec<Used> {
    let deliveries = world.bed.lab.record().deliveries().into_iter().skip(from);
    let hops = deliveries.filter(|sent| sent.target_arn.contains(":event-bus/"));
    let said = |error: &Option<String>| match error {
        Some(error) => {
            denied
                && error.contains(names::EVENT_FORWARDER_ROLE)
                && error.contains("not authorized to perform: events:PutEvents")
        }
        None => !denied,
    };
    hops.filter(|sent| said(&sent.error))
        .map(|sent| Used {
            role: names::EVENT_FORWARDER_ROLE.to_owned(),
            account: sent.rule_arn.split(':').nth(4).unwrap_or_default().to_owned(),
            action: "events:PutEvents".to_owned(),
            resource: sent.target_arn,
        })
        .collect()
}

/// What is seen when a line is missing, beyond the refusal itself.
enum Seen {
    /// The remediation ends, and not well.
    Ends,
    /// It ends as it should, and its record says what could not be done.
    Says(fn(&Value) -> bool),
    /// Its message comes again, later: nobody could write down how it ended.
    Parks,
    /// Its message waits in this queue.
    Waits(&'static str),
    /// Its message stays in flight in this queue.
    Stays(&'static str),
    /// Its event is in a dead-letter queue.
    Undelivered,
    /// The command says that it was refused.
    Exits,
    /// Nothing else: what the function wrote is lost.
    Nothing,
}

fn seen(line: &Grant) -> Seen {
    let queue = if line.role == names::ORCHESTRATOR_ROLE { names::FINDINGS_QUEUE } else { names::COMPLETIONS_QUEUE };
    let backlog = line.resource.contains(names::BACKLOG_TABLE);
    match (line.role.as_str(), line.action.as_str()) {
        (names::API_ROLE, "states:SendTaskSuccess") => Seen::Parks,
        (names::API_ROLE, action) if !action.starts_with("logs:") => Seen::Exits,
        (names::ORCHESTRATOR_ROLE, _) if backlog => Seen::Exits,
        (names::ORCHESTRATOR_ROLE, "sqs:SendMessage") if line.resource.ends_with(names::FINDINGS_QUEUE) => Seen::Exits,
        // The resource is contained, but its end is not told: the message comes again after the lease.
        (names::ORCHESTRATOR_ROLE, "sqs:SendMessage") if line.resource.ends_with(names::COMPLETIONS_QUEUE) => {
            Seen::Stays(queue)
        }
        (names::WORKFLOW_ROLE | names::STATE_MACHINE_ROLE, action) if !action.starts_with("logs:") => Seen::Parks,
        (names::OPERATOR_ROLE | names::EVIDENCE_READER_ROLE, _) => Seen::Exits,
        (names::EVENT_FORWARDER_ROLE, _) => Seen::Undelivered,
        (_, "sqs:ReceiveMessage" | "sqs:GetQueueAttributes") => Seen::Waits(queue),
        (_, "sqs:DeleteMessage") => Seen::Stays(queue),
        (_, "logs:CreateLogStream" | "logs:PutLogEvents") => Seen::Nothing,
        (names::CROSS_ACCOUNT_ROLE, "lambda:InvokeFunction") if line.resource.contains("redress-contain-") => {
            Seen::Ends
        }
        (names::GUARD_ROLE, _) | (names::CROSS_ACCOUNT_ROLE, "lambda:InvokeFunction") => Seen::Exits,
        (_, "sns:Publish") => Seen::Says(|record| record["NotificationSent"] == false),
        (_, "securityhub:BatchUpdateFindings") => Seen::Says(|record| {
            record["Detail"]["FindingUpdate"].as_str().is_some_and(|update| update.starts_with("failed"))
        }),
        (names::ORCHESTRATOR_ROLE, "sts:AssumeRole") => Seen::Ends,
        // The outcome is recorded; what waits for it is brought back when its message comes again.
        (names::COMPLETION_ROLE, "sqs:SendMessage") => Seen::Stays(queue),
        (names::COMPLETION_ROLE, "dynamodb:Query" | "dynamodb:DeleteItem") if backlog => Seen::Stays(queue),
        (names::COMPLETION_ROLE, "dynamodb:PutItem") if backlog => Seen::Exits,
        // People are told all the same, and that it could not be looked at.
        (names::ORCHESTRATOR_ROLE | names::COMPLETION_ROLE, "dynamodb:Query") if line.resource.contains("/index/") => {
            Seen::Says(|record| record["Detail"]["Triage"].as_str().is_some_and(|told| told.contains("Unread")))
        }
        (names::ORCHESTRATOR_ROLE | names::COMPLETION_ROLE, _) => Seen::Parks,
        (names::CROSS_ACCOUNT_ROLE, "ssm:GetAutomationExecution") => Seen::Parks,
        // The nested runbook runs all the same, and what its evidence says is believed; the steps say what failed.
        (names::CONTROL_ROLE, "ssm:GetAutomationExecution") => Seen::Says(|record| {
            record["ExecutionStatus"] == "Failed"
                || record["Detail"]["Steps"].as_str().is_some_and(|steps| steps.contains("\"Failed\""))
        }),
        _ => Seen::Ends,
    }
}

/// Takes a line away, does what uses it, sees that it fails and is not hidden, and puts the line back.
async fn fails_without(world: &World, line: &Grant, exercise: Exercise, account: &str, done: &Done) {
    let whole = world.role_policy(&line.account, &line.role, &line.policy).await;
    world.put_role_policy(line, &without(&whole, line)).await;
    let (mark, delivered) = (world.bed.lab.record().mark(), world.bed.lab.record().deliveries().len());
    let seen = seen(line);
    let refused = async || {
        let all = world.checks(mark, false).into_iter().chain(hops(world, delivered, true));
        all.into_iter().any(|call| line.covers(&call)).then_some(())
    };
    let what = format!("without `{line}` {exercise:?} is refused");
    if matches!(seen, Seen::Waits(_)) {
        // What was asked before the line went may still be answered.
        world.eventually(&what, refused).await;
    }
    let subject = exercise.start(world, account, done).await;
    world.eventually(&what, refused).await;
    let ended = async |holds: &dyn Fn(&Value) -> bool| {
        let what = format!("without `{line}` {exercise:?} comes to an end that says so");
        let is_end = |status: &str| matches!(status, "Verified" | "Failed" | "Unverified" | "RolledBack" | "Notified");
        let record = world.eventually(&what, async || subject.end(world, is_end).await).await;
        assert!(holds(&record), "{what}: {record:#}");
    };
    match seen {
        Seen::Ends => ended(&|record| !exercise.is_well(record)).await,
        Seen::Says(says) => ended(&says).await,
        Seen::Parks => {
            assert!(subject.end(world, |status| status == exercise.ends()).await.is_none(), "{what}: and yet it ended")
        }
        Seen::Waits(queue) => {
            let what = format!("without `{line}` a message waits in {queue}");
            world.eventually(&what, async || (world.depth(queue).await.0 > 0).then_some(())).await;
        }
        Seen::Stays(queue) => assert!(world.depth(queue).await.1 > 0, "{what}: and yet its message went"),
        Seen::Undelivered => {
            let buried =
                || world.bed.lab.record().deliveries().into_iter().skip(delivered).any(|sent| sent.dead_lettered);
            world.eventually(&what, async || buried().then_some(())).await;
        }
        Seen::Exits => assert_ne!(subject.exit, Some(0), "{what}: and yet the command said nothing"),
        Seen::Nothing => {}
    }
    world.put_role_policy(line, &whole).await;
}

/// What each exercise used, when nothing is missing.
async fn everything_works(world: &World, account: &str) -> (Vec<BTreeSet<Used>>, Done) {
    let record = world.bed.lab.record();
    let target = broken(world, "public-bucket", account).await;
    let fixed = world.remediate(&target, Mode::Apply).await;
    let done = Done { id: fixed.id, target };
    world.put_threats("ip,198.51.100.7,a test,\n").await;
    world.old_findings(&world.member(OLD)).await;
    let mut used = Vec::new();
    for exercise in EXERCISES {
        let (mark, delivered) = (record.mark(), record.deliveries().len());
        let started = std::time::Instant::now();
        let subject = exercise.start(world, account, &done).await;
        match subject.exit {
            Some(exit) => assert_eq!(exit, 0, "{exercise:?}"),
            None => {
                let what = format!("{exercise:?} ends as {}", exercise.ends());
                let end = world
                    .eventually(&what, async || subject.end(world, |status| status == exercise.ends()).await)
                    .await;
                assert!(exercise.is_well(&end), "{what}: {end:#}");
            }
        }
        world.drained(names::FINDINGS_QUEUE).await;
        world.drained(names::COMPLETIONS_QUEUE).await;
        println!("{:>6.1} s for {exercise:?}", started.elapsed().as_secs_f64());
        used.push(world.checks(mark, true).into_iter().chain(hops(world, delivered, false)).collect());
    }
    (used, done)
}

#[test]
fn every_line_of_every_policy_is_needed_and_nothing_else_is() {
    let world = the_world();
    world.run(async {
        let flows = world.member("flows");
        let (used_by, done) = everything_works(world, &flows).await;

        let mut denied: BTreeSet<Used> = world.checks(0, false).into_iter().collect();
        let guarded = |role: &str, action: &str| {
            EXERCISES.iter().any(|one| matches!(one, Forbidden(_, r, a) if *r == role && *a == action))
        };
        denied.retain(|call| !guarded(&call.role, &call.action));
        assert!(denied.is_empty(), "refused although nothing is missing: {denied:#?}");

        // The lab writes logs from time to time: the last ones count too.
        let mut all: Vec<Grant> = lines(world, &world.administrator()).await;
        all.extend(lines(world, &flows).await);
        let used: BTreeSet<Used> = world.checks(0, true).into_iter().chain(hops(world, 0, false)).collect();
        for line in &all {
            let calls = world.checks(0, true).iter().filter(|call| line.covers(call)).count();
            println!("{calls:>5} {line}");
        }
        let unused = unused(&all, &used);
        assert!(
            unused.is_empty(),
            "granted, and used by nothing:\n{}",
            unused.iter().map(|line| format!("{line}\n")).collect::<String>()
        );

        // Each with the smallest exercise that uses it.
        let smallest = |line: &Grant| {
            // Logs are written later than what they tell of.
            if line.role == names::GUARD_ROLE && line.action.starts_with("logs:") {
                return Guarded("account");
            }
            if line.action.starts_with("logs:") && line.role == names::API_ROLE {
                return Operated(Power::Exempt);
            }
            if line.action.starts_with("logs:") && line.role == names::WORKFLOW_ROLE {
                return Approved("public-bucket");
            }
            if line.action.starts_with("logs:") {
                return Asked(
                    if line.role == names::REMEDIATE_ROLE { "missing-tags" } else { "public-bucket" },
                    Mode::Apply,
                );
            }
            // What only shows something goes on without the api; what changes something does not.
            if line.role == names::OPERATOR_ROLE && line.action.starts_with("lambda:") {
                return Run(&["on", "--reason", "a test"]);
            }
            // People's roles are used by the command; that the tests ask as the operator does not count.
            let people = matches!(line.role.as_str(), names::OPERATOR_ROLE | names::EVIDENCE_READER_ROLE);
            let guard = line.role == names::GUARD_ROLE
                || line.role == names::CROSS_ACCOUNT_ROLE && line.resource.contains(names::GUARD_FUNCTION);
            let api = line.role == names::API_ROLE && !line.action.starts_with("states:");
            let asks = matches!(line.role.as_str(), names::WORKFLOW_ROLE | names::STATE_MACHINE_ROLE)
                || line.action.starts_with("states:");
            let fits = |exercise: Exercise, command: bool| match exercise {
                Run(_) => people || command,
                Guarded(_) => guard,
                Operated(_) => api,
                Approved(_) => asks,
                _ => !people && !guard && !api && !asks,
            };
            let first = |command: bool| {
                let uses = |nth: &usize| used_by[*nth].iter().any(|call| line.covers(call));
                (0..EXERCISES.len()).filter(|nth| fits(EXERCISES[*nth], command)).find(uses)
            };
            let by = first(false).or_else(|| first(api));
            // What only the very first call of a process needs, any first call does.
            let any = match () {
                () if guard => Guarded("bucket"),
                () if asks => Approved("public-bucket"),
                () => Asked("public-bucket", Mode::DryRun),
            };
            // Sessions are kept: whichever exercise happened to open one, the first call in an account needs it.
            let opens = line.action == "sts:AssumeRole" && FRESH.iter().any(|(role, _)| line.role == *role);
            by.filter(|_| !opens).map_or(any, |by| EXERCISES[by])
        };
        let admin = world.administrator();
        let started = std::time::Instant::now();
        let (organisation, member): (Vec<&Grant>, Vec<&Grant>) = all.iter().partition(|line| line.account == admin);
        let taken = AtomicUsize::new(0);
        for (_, line) in organisation.iter().enumerate().filter(|(nth, _)| is_due(*nth)) {
            taken.fetch_add(1, Ordering::Relaxed);
            let fresh = FRESH.iter().find(|(role, _)| line.action == "sts:AssumeRole" && line.role == *role);
            let account = fresh.map_or(flows.clone(), |(_, name)| world.member(name));
            println!("{:>6.1} s without {line}", started.elapsed().as_secs_f64());
            new_processes(world, line).await;
            fails_without(world, line, smallest(line), &account, &done).await;
        }
        let todo: Vec<(usize, Exercise)> = member.iter().map(|line| smallest(line)).enumerate().collect();
        let todo = Mutex::new(todo);
        let work = async |name: &str| {
            let account = world.member(name);
            // The same stacks, so the same lines; but keys have ids of their own.
            let theirs = lines(world, &account).await;
            assert_eq!(theirs.len(), member.len());
            while let Some((nth, exercise)) = { todo.lock().await.pop() } {
                if !is_due(nth) {
                    continue;
                }
                taken.fetch_add(1, Ordering::Relaxed);
                let there = theirs[nth].clone();
                assert_eq!((&there.role, &there.action), (&member[nth].role, &member[nth].action));
                println!("{:>6.1} s without {there}", started.elapsed().as_secs_f64());
                new_processes(world, &there).await;
                // Evidence is read where it was left.
                let mut done = done.clone();
                if there.role == names::EVIDENCE_READER_ROLE {
                    done.target = broken(world, "public-bucket", &account).await;
                    done.id = world.remediate(&done.target, Mode::Apply).await.id;
                }
                fails_without(world, &there, exercise, &account, &done).await;
            }
        };
        tokio::join!(work(WORKERS[0]), work(WORKERS[1]), work(WORKERS[2]), work(WORKERS[3]));
        played("least_privilege", taken.into_inner(), all.len());
    });
}

/// Log streams are created by new processes only; and what was found out elsewhere is kept by those that asked.
async fn new_processes(world: &World, line: &Grant) {
    let kept = ["logs:CreateLogStream", "ssm:GetCalendarState"].contains(&line.action.as_str())
        || line.action.starts_with("organizations:")
        || line.resource.contains(":::redress-threat-intelligence-");
    if !kept {
        return;
    }
    let function = match line.role.as_str() {
        names::ORCHESTRATOR_ROLE => names::ORCHESTRATOR_FUNCTION,
        names::COMPLETION_ROLE => names::COMPLETION_FUNCTION,
        names::RECORDER_ROLE => names::RECORDER_FUNCTION,
        names::GUARD_ROLE => names::GUARD_FUNCTION,
        names::API_ROLE => names::API_FUNCTION,
        names::WORKFLOW_ROLE => names::WORKFLOW_FUNCTION,
        _ => names::REMEDIATE_FUNCTION,
    };
    // The same size again would be no change, and no new process.
    static SIZE: AtomicU64 = AtomicU64::new(320);
    let asked = json!({ "FunctionName": function, "MemorySize": SIZE.fetch_add(1, Ordering::Relaxed) });
    world.call(&line.account, "lambda", "UpdateFunctionConfiguration", asked).await.unwrap();
}
