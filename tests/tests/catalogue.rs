//! Every control that has a case in `lab/cases/`, end to end: bad → the dry run says the change → refused, throttled →
//! fixed and read back → nothing left to do → undone, field by field → a change by hand is not overwritten.
//!
//! One test a case, named after it; cases of a service family share a member account and wait for each other. What is
//! special to a control beyond that is in `controls.rs`. At the end the coverage is printed by framework.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Trial};
use redress_common::catalogue::Risk;
use redress_common::contract::Mode;
use redress_common::ids::ControlId;
use redress_common::names;
use redress_lab::case::{self, ByHand, Case, CaseError, Played, Refused, Undo};
use redress_lab::faults::{Action, Faults, Moment, Rule, RuleId};
use redress_runbooks::control::Body;
use redress_runbooks::write::CONTROLS;
use redress_runbooks::{Control, load_controls};
use redress_tests::ask::{Ended, Target};
use redress_tests::coverage;
use redress_tests::grants::{Grant, Used, unused};
use redress_tests::inbox::Notifications;
use redress_tests::world::{World, has_time, root, world_of};
use serde_json::Value;
use tokio::sync::Mutex;
use uuid::Uuid;

/// One case at a time in a family's account: what is changed there is then the case's doing.
type Turns = BTreeMap<String, Arc<Mutex<()>>>;

fn main() {
    let mut arguments = Arguments::from_args();
    // A case waits for the lab far more than it computes.
    arguments.test_threads = arguments.test_threads.or(Some(12));
    let cases = case::load(&root().join("lab/cases")).unwrap();
    let wanted: BTreeMap<String, Case> =
        cases.iter().filter(|(name, _)| is_wanted(name, &arguments)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut families: BTreeSet<String> = wanted.values().map(family).collect();
    families.insert(ASKING.to_owned());
    let turns: Turns = families.iter().map(|family| (family.clone(), Arc::default())).collect();
    let members: Arc<Vec<String>> = Arc::new(families.into_iter().collect());
    let played: BTreeSet<ControlId> = cases.values().map(|case| case.control.clone()).collect();
    let is_told_of: BTreeSet<String> = coverage::guidance(&root()).into_iter().map(|(control, _)| control).collect();
    let the_world = move || {
        let has = |control: &ControlId| played.contains(control) || is_told_of.contains(control.as_str());
        world_of(&members.iter().map(String::as_str).collect::<Vec<_>>(), has)
    };
    let controls = load_controls(&root().join(CONTROLS)).unwrap();
    // A family takes turns in its account: side by side run cases of different ones.
    let mut turn_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut order: Vec<(usize, &String, &Case)> = Vec::new();
    for (name, case) in &cases {
        let turn = turn_of.entry(family(case)).or_default();
        order.push((*turn, name, case));
        *turn += 1;
    }
    order.sort_by_key(|(turn, name, _)| (*turn, *name));
    let trials = order.into_iter().map(|(_, name, case)| {
        let (who, case, the_world) = (name.clone(), case.clone(), the_world.clone());
        let control = controls.iter().find(|control| control.id == case.control).cloned();
        let turn = turns.get(&family(&case)).cloned().unwrap_or_default();
        Trial::test(name.clone(), move || {
            let world = the_world();
            world.run(async {
                let _turn = turn.lock().await;
                keeps_its_promises(world, &who, &case, &control.expect("no such control")).await;
            });
            Ok(())
        })
    });
    let guidance = coverage::guidance(&root()).into_iter().map(|(control, arn)| {
        let the_world = the_world.clone();
        Trial::test(control.clone(), move || {
            let world = the_world();
            world.run(is_told(world, &control, &arn));
            Ok(())
        })
    });
    let accounted = {
        let cases = cases.clone();
        Trial::test("every_control_is_proven_or_says_why_it_is_not", move || {
            assert_eq!(coverage::unaccounted(&root(), &cases), [""; 0]);
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, trials.chain(guidance).chain([accounted]).collect());
    if wanted.len() == cases.len() && !arguments.list {
        println!("{}", coverage::table(&root(), &cases));
        let cut_short = CUT_SHORT.load(Ordering::Relaxed);
        println!("{cut_short} of {} cases were cut short: there was no time for their last steps", cases.len());
        let is_whole = !conclusion.has_failed() && cut_short == 0;
        tell_of_meetings(is_whole);
        if is_whole {
            let world = the_world();
            world.run(every_right_was_used(world));
        }
    }
    conclusion.exit();
}

/// How many cases left out what can be left out.
static CUT_SHORT: AtomicUsize = AtomicUsize::new(0);

fn tell_of_meetings(is_whole: bool) {
    let met = MET.lock().unwrap();
    let (with, without): (Vec<_>, Vec<_>) = met.iter().partition(|(_, met)| met.is_ok());
    println!("{} cases met somebody who was quicker; not these:", with.len());
    for (who, why) in without {
        println!("  {who}: {}", why.as_ref().err().map(ToString::to_string).unwrap_or_default());
    }
    assert!(!is_whole || with.len() >= MEETINGS, "only {} cases met somebody", with.len());
}

fn is_wanted(name: &str, arguments: &Arguments) -> bool {
    let fits = |filter: &String| if arguments.exact { name == filter } else { name.contains(filter.as_str()) };
    arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
}

/// Rights that AWS asks for and the lab does not: action, a part of the resource, and the reason.
const UNSEEN: [(&str, &str, &str); 21] = [
    ("cloudwatch:DeleteAlarms", ":alarm:TargetTracking-", OF_A_SERVICE),
    ("cloudwatch:PutMetricAlarm", ":alarm:TargetTracking-", OF_A_SERVICE),
    ("dynamodb:UpdateTable", ":table/", OF_A_SERVICE),
    ("iam:CreateServiceLinkedRole", "/dynamodb.application-autoscaling.", OF_A_SERVICE),
    ("iam:CreateServiceLinkedRole", "/guardduty.", OF_A_SERVICE),
    ("iam:CreateServiceLinkedRole", "/macie.", OF_A_SERVICE),
    ("lambda:InvokeFunction", ":function:SecretsManager", OF_A_SERVICE),
    ("route53:AssociateVPCWithHostedZone", "*", OF_A_SERVICE),
    ("macie2:UpdateMacieSession", "*", "a paused Macie is resumed by it; the emulator has no such call"),
    ("iam:PassRole", ":role/redress-cloudtrail-logs", PASSED),
    ("iam:PassRole", ":role/aws-service-role/config.", PASSED),
    ("iam:PassRole", ":role/Redress-Managed-Instance", PASSED),
    ("iam:PassRole", ":role/redress-sns-logs", PASSED),
    ("ec2:CreateTags", ":network-acl/", TAGGED),
    ("ec2:CreateTags", "::image/", TAGGED),
    ("ec2:CreateTags", "::snapshot/", TAGGED),
    ("ecs:TagResource", ":task-definition/", TAGGED),
    ("ssm:AddTagsToResource", ":parameter/CodeBuild/redress/", TAGGED),
    ("ec2:CreateImage", "::snapshot/", "AWS judges it by each resource that it is about; the lab by one of them"),
    ("ec2:DeregisterImage", "::image/", ABANDONED),
    ("ec2:DeleteSnapshot", "::snapshot/", ABANDONED),
];
const OF_A_SERVICE: &str = "what a service does in the caller's name, the emulators do not, or do unasked";
const PASSED: &str = "whether a service may be given this role, the emulator does not ask";
const TAGGED: &str = "what is made with tags asks for it, too; the lab asks for the making only";
const ABANDONED: &str = "an image that never becomes available is taken back: played on recorded shapes";

/// Nothing is granted to the runbooks that no case needed. That nothing is missing they have shown: the lab denies what is
/// not granted.
async fn every_right_was_used(world: &World) {
    let members: Vec<&str> = world.bed.organisation.members.iter().map(|member| member.id.as_str()).collect();
    let account = world.member(ASKING);
    // Each family was played in an account of its own, with the same rights in all of them, and a key of its own.
    let here = |text: &str| {
        let text = members.iter().fold(text.to_owned(), |text, member| text.replace(member, &account));
        let key = text.split_once(":key/").filter(|(_, id)| id.parse::<Uuid>().is_ok());
        key.map(|(before, _)| format!("{before}:key/its-own")).unwrap_or(text)
    };
    let used = world.checks(0, true).into_iter();
    let used: BTreeSet<Used> =
        used.map(|used| Used { account: here(&used.account), resource: here(&used.resource), ..used }).collect();
    let does = |role: &str| role.starts_with(names::REMEDIATE_ROLE) || role == names::DESTROY_ROLE;
    let granted = world.grants(&account, does).await;
    let granted: Vec<Grant> =
        granted.into_iter().map(|line| Grant { resource: here(&line.resource), ..line }).collect();
    let is_known = |line: &&Grant| {
        UNSEEN.iter().any(|(action, resource, _)| line.action == *action && line.resource.contains(resource))
    };
    let (known, unused): (Vec<&Grant>, Vec<&Grant>) = unused(&granted, &used).into_iter().partition(is_known);
    println!("{} rights that AWS asks for and the lab does not:", known.len());
    known.iter().for_each(|line| println!("  {line}"));
    println!(
        "{} of the {} rights of the runbooks' roles were used",
        granted.len() - known.len() - unused.len(),
        granted.len()
    );
    let unused: Vec<String> = unused.into_iter().map(ToString::to_string).collect();
    assert_eq!(unused, [""; 0], "granted, and used by no case");
}

/// The member account of those who ask for what only a person can do.
const ASKING: &str = "asking";
static TOLD: Notifications = Notifications::new();

/// A control that only a person can carry out: whoever asks is told the steps, and nothing is changed.
async fn is_told(world: &'static World, control: &str, arn: &str) {
    let account = world.member(ASKING);
    TOLD.subscribe(world).await;
    let mark = world.bed.lab.record().mark();
    let target = Target { arn: arn.replace("ACCOUNT", &account), account, control: control.to_owned() };
    let told = world.remediate(&target, Mode::Apply).await;
    assert_eq!((ends(&told).0, told.code()), ("Notified", "guidance"), "{}: {}", target.control, told.error());
    let steps = told.last()["Detail"]["Reason"].as_str().unwrap();
    assert!(steps.len() > 100, "{}: {steps}", target.control);
    let heard = TOLD.when(world, &target.arn, "Notified").await;
    let says = heard.iter().any(|(message, _)| message["RemediationId"] == *told.id && message["NextStep"] == steps);
    assert!(says, "{}: the notification says the steps: {heard:?}", target.control);
    assert_eq!(world.changes_since(&target.account, mark), [""; 0], "{}", target.control);
}

/// The member account of a case.
fn family(case: &Case) -> String {
    case.control.family().to_lowercase()
}

struct Subject {
    world: &'static World,
    played: Played,
    target: Target,
    /// Whether the change is one that people must approve.
    is_asked_about: bool,
}

impl Subject {
    async fn state(&self) -> Value {
        self.played.state().await.unwrap_or_else(|error| panic!("{error}"))
    }

    fn mark(&self) -> u64 {
        self.world.bed.lab.record().mark()
    }

    fn changes(&self, since: u64) -> Vec<String> {
        self.world.changes_since(&self.target.account, since)
    }

    async fn asks(&self, mode: Mode) -> Ended {
        self.of(&self.target, mode).await
    }

    async fn of(&self, target: &Target, mode: Mode) -> Ended {
        if self.is_asked_about && mode == Mode::Apply {
            self.world.remediate_approved(target).await
        } else {
            self.world.remediate(target, mode).await
        }
    }

    /// An apply while a changing call of the member goes wrong.
    async fn asks_while(&self, action: Action, operation: &str, times: u64) -> Ended {
        let faults = self.world.bed.lab.faults();
        let rule = Rule::new(action).on_operation(operation).in_account(&self.target.account).times(times);
        // A runbook tries again by itself, a function by its SDK: what is struck once goes through then.
        let rule = faults.add(if times == 1 { rule } else { rule.and_retries() });
        let _armed = Armed { faults, rule };
        let ended = self.asks(Mode::Apply).await;
        let has_struck = faults.fired().iter().any(|fired| fired.rule == rule);
        assert!(has_struck, "{operation} was not called: {:?} {}", ends(&ended), ended.error());
        ended
    }
}

/// A rule that the next case in the account is not to meet, whatever becomes of this one.
struct Armed<'a> {
    faults: &'a Faults,
    rule: RuleId,
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.faults.remove(self.rule);
    }
}

fn ends(ended: &Ended) -> (&str, &str) {
    (ended.last()["ExecutionStatus"].as_str().unwrap_or_default(), ended.outcome())
}

async fn keeps_its_promises(world: &'static World, who: &str, case: &Case, control: &Control) {
    let account = world.member(&family(case));
    let region = &world.bed.organisation.region;
    let played = Played::set_up(case, world.bed.lab.aws(), &account.parse().unwrap(), region).await;
    let played = played.unwrap_or_else(|error| panic!("{who}: {error}"));
    let target = Target { account, control: case.control.to_string(), arn: played.arn.to_string() };
    let is_asked_about = control.risk == Risk::Destructive;
    let subject = Subject { world, played, target, is_asked_about };
    let change = subject.played.change().unwrap();
    let operations: Vec<&str> = case.change.iter().filter_map(|step| Some(step.call.split_once(':')?.1)).collect();

    let before = subject.state().await;
    let after = subject.played.after(&before).unwrap();
    assert_ne!(before, after, "{who}: the case's state before is bad");

    let mark = subject.mark();
    let dry = subject.asks(Mode::DryRun).await;
    assert_eq!(ends(&dry), ("Notified", "Planned"), "{who}: dry run: {}", dry.error());
    let said = world.evidence(&subject.target.account, &dry).await;
    assert_eq!(serde_json::to_value(&said.before.change).unwrap(), change, "{who}: the dry run says the exact change");
    assert_eq!(subject.state().await, before, "{who}: a dry run changes nothing");
    assert_eq!(subject.changes(mark), [""; 0], "{who}: a dry run makes no changing call");

    let mark = subject.mark();
    let elsewhere = Target { account: world.member(ASKING), ..subject.target.clone() };
    let refused = world.remediate_elsewhere(&elsewhere).await;
    assert_eq!(ends(&refused).0, "Failed", "{who}: asked for in another account: {:#}", refused.last());
    if subject.played.arn.account().is_some() {
        assert_eq!(refused.code(), "account-mismatch", "{who}: {}", refused.error());
    }
    assert_eq!(subject.changes(mark), [""; 0], "{who}: another account's request changes nothing here");
    assert_eq!(world.changes_since(&elsewhere.account, mark), [""; 0], "{who}: nor there");

    let denied = Action::Fail { status: 403, code: "AccessDeniedException".to_owned() };
    let refused = subject.asks_while(denied, operations[0], u64::MAX).await;
    // A workflow that cannot make its copies ends before the change does.
    let copies = control.workflow.is_some_and(|workflow| workflow.snapshot);
    let failed = if copies { ("Failed", "") } else { ("Failed", "Failed") };
    assert_eq!(ends(&refused), failed, "{who}: access denied: {}", refused.error());
    assert_eq!(subject.state().await, before, "{who}: access denied changes nothing");

    let mark = subject.mark();
    let applied = subject.asks_while(Action::Throttle, operations[0], 1).await;
    assert_eq!(ends(&applied), ("Verified", "Verified"), "{who}: {}", applied.error());
    let was_asked = applied.states().contains(&"AwaitingApproval");
    assert_eq!(was_asked, is_asked_about, "{who}: people approve what is destructive: {:?}", applied.states());
    let mut made = subject.changes(mark);
    assert_eq!(made.remove(0), operations[0], "{who}: the call that was throttled");
    assert_eq!(made, operations, "{who}: the changing calls are those of the dry run");
    assert_eq!(subject.state().await, after, "{who}: what was bad is good, and its neighbours are as they were");
    let done = world.evidence(&subject.target.account, &applied).await;
    assert_eq!(done.before, said.before, "{who}: the dry run and the apply saw and planned the same");

    let mark = subject.mark();
    let again = subject.asks(Mode::Apply).await;
    assert_eq!(ends(&again), ("Verified", "AlreadyCompliant"), "{who}: defect 05: {}", again.error());
    assert_eq!(subject.changes(mark), [""; 0], "{who}: defect 05: what complies is not changed");

    let mark = subject.mark();
    let undone = world.undo(&subject.target, &applied.id).await;
    match &case.undo {
        Undo::Calls(operations) => {
            assert_eq!(ends(&undone), ("RolledBack", "Restored"), "{who}: {}", undone.error());
            assert_eq!(subject.changes(mark), *operations, "{who}: the undo's changing calls");
            assert_eq!(subject.state().await, before, "{who}: the undo puts back what was there, field by field");
            let back = world.evidence(&subject.target.account, &undone).await;
            assert_eq!(back.after.unwrap(), done.before.pre_image, "{who}: the undo's evidence ends in the pre-image");
        }
        Undo::Refused(Refused { none }) => {
            assert_eq!(ends(&undone).0, "Failed", "{who}: nothing can be put back");
            assert!(undone.error().contains(none.as_str()), "{who}: it says why: {}", undone.error());
            assert!(!control.undo.is_empty(), "{who}: the control file says so, too");
            assert!(case.by_hand.is_none(), "{who}: an undo that is always refused is not refused for drift");
            assert_eq!(subject.changes(mark), [""; 0], "{who}: an undo that is refused changes nothing");
            assert_eq!(subject.state().await, after, "{who}: an undo that is refused changes nothing");
        }
    }

    if !has_time() {
        CUT_SHORT.fetch_add(1, Ordering::Relaxed);
        // What only the steps that are left out here leave behind is not there.
        for step in &case.clean {
            drop(subject.played.step(step).await);
        }
        return;
    }
    if let Some(by_hand) = &case.by_hand {
        let fixed = subject.asks(Mode::Apply).await;
        assert_eq!(ends(&fixed), ("Verified", "Verified"), "{who}: {}", fixed.error());
        let (step, expected) = match by_hand {
            ByHand::Drift(step) => (step, ("Failed", "Drifted")),
            ByHand::Undo(step) => (step, ("RolledBack", "Restored")),
        };
        subject.played.step(step).await.unwrap_or_else(|error| panic!("{who}: by hand: {error}"));
        let drifted = subject.state().await;
        assert_ne!(drifted, after, "{who}: something was changed by hand");
        let mark = subject.mark();
        let undone = world.undo(&subject.target, &fixed.id).await;
        assert_eq!(ends(&undone), expected, "{who}: after a change by hand");
        assert_eq!(subject.changes(mark), [""; 0], "{who}: what somebody else changed is left alone");
        assert_eq!(subject.state().await, drifted, "{who}: what somebody else changed is left alone");
    }

    if let Some(gone) = subject.played.gone().unwrap() {
        let target = Target { arn: gone, ..subject.target.clone() };
        let mark = subject.mark();
        let missing = subject.of(&target, Mode::Apply).await;
        assert_eq!(missing.outcome(), "NotFound", "{who}: {}", missing.error());
        assert_eq!(subject.changes(mark), [""; 0], "{who}: what is not there is not changed");
    }
    clean(&subject.played, who).await;
    // What people approve is bound to its plan, and a workflow works from copies: `approvals` and `workflow_rds` see to both.
    // An account's own settings would stay as they are then, for the next case.
    if is_asked_about || control.workflow.is_some() || case.resource == "account" {
        return;
    }
    match Played::set_up(case, world.bed.lab.aws(), &subject.target.account.parse().unwrap(), region).await {
        Ok(again) => {
            let is_native = matches!(control.body, Body::Native(_));
            let target = Target { arn: again.arn.to_string(), ..subject.target.clone() };
            let met = meets_somebody(&Subject { played: again, target, ..subject }, who, is_native).await;
            MET.lock().unwrap().insert(who.to_owned(), met);
        }
        // There can be one of it only.
        Err(error) => drop(MET.lock().unwrap().insert(who.to_owned(), Err(error))),
    }
}

async fn clean(played: &Played, who: &str) {
    for step in &played.case.clean {
        played.step(step).await.unwrap_or_else(|error| panic!("{who}: clean: {error}"));
    }
}

/// Which cases met somebody, and why not.
static MET: std::sync::Mutex<BTreeMap<String, Result<(), CaseError>>> = std::sync::Mutex::new(BTreeMap::new());
/// So many cases meet somebody. Of the others there can be one only in an account, or their change is written in a way that
/// nobody can make by hand: with a reference to a secret, say.
const MEETINGS: usize = 40;

/// Somebody makes the very change by hand, after the pre-image was stored and before the fix: what was inspected is no more.
/// Either the remediation sees it and changes nothing, or it makes the same change once more and reads back that all is well.
async fn meets_somebody(subject: &Subject, who: &str, is_native: bool) -> Result<(), CaseError> {
    let (world, case) = (subject.world, &subject.played.case);
    let faults = world.bed.lab.faults();
    let stored = Rule::new(Action::Freeze(Moment::After)).on("s3", "PutObject").in_account(&subject.target.account);
    let armed = Armed { faults, rule: faults.add(stored) };
    let mark = subject.mark();
    let by_hand = async {
        faults.struck(armed.rule).await;
        let mut made = Ok(());
        for step in &case.change {
            made = made.and(subject.played.step(step).await);
        }
        faults.release(armed.rule);
        made
    };
    let (ended, made) = tokio::join!(subject.asks(Mode::Apply), by_hand);
    let (changes, how) = (subject.changes(mark), ends(&ended));
    for step in &case.clean {
        subject.played.step(step).await?;
    }
    made?;
    assert!(["Failed", "Verified"].contains(&how.0), "{who}: somebody was quicker: {how:?} {}", ended.error());
    if how.0 == "Failed" {
        assert!(!ended.error().is_empty(), "{who}: a failure says why: {:#}", ended.last());
        assert!(!is_native || changes.is_empty(), "{who}: somebody was quicker, and nothing is changed: {changes:?}");
    }
    let known = |operation: &String| case.change.iter().any(|step| step.call.ends_with(&format!(":{operation}")));
    assert!(changes.iter().all(known), "{who}: the same change and no other: {changes:?}");
    Ok(())
}
