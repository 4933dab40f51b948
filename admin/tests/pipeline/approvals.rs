//! Approvals, from the question to the end of what was asked about, through the deployed state machine.

use std::collections::{BTreeMap, BTreeSet};

use redress_admin::approval::{self, Answer, NotCounted, asking_id, person, plan_id, roll_back_id};
use redress_admin::claim::{self, Bid, Purpose, Times};
use redress_admin::policy::{Asked, Calendar, Question};
use redress_admin::ports::{Asking, Start, WorkflowInput};
use redress_admin::report;
use redress_common::aws::ledger_store::append;
use redress_common::aws::state_table::{Claim, Limits, Subject};
use redress_common::catalogue::Risk;
use redress_common::contract::{plan_sha256, snapshot_id};
use redress_common::finding::{SeverityLabel, Trigger, WorkflowStatus};
use redress_common::ids::Generation;
use redress_common::items::approval::{Approval, ApprovalStatus, Task};
use redress_common::items::breaker::{Breaker, BreakerScope};
use redress_common::items::exemption::{Exemption, Exemptions};
use redress_common::items::policy::PolicyItem;
use redress_common::ledger::{Head, RemediationType};

use super::machine::Execution;
use super::*;

const ANNA: &str = "arn:aws:sts::999988887777:assumed-role/Redress-Operator/anna";
const JO: &str = "arn:aws:sts::999988887777:assumed-role/Redress-Operator/jo";
const MINUTE: i64 = 60;

fn id() -> RemediationId {
    RemediationId::of_request(&bucket_key(), "asked by jo")
}

fn the_plan() -> String {
    plan_sha256(&"a".repeat(64), &"b".repeat(64))
}

fn subject() -> Subject {
    Subject {
        finding_id: "finding-1".to_owned(),
        product_arn: None,
        title: "S3 buckets should block public access".to_owned(),
        severity: SeverityLabel::High,
        account: "111122223333".parse().unwrap(),
        region: Some("eu-central-1".parse().unwrap()),
        control: Some("S3.8".parse().unwrap()),
        resource_id: "arn:aws:s3:::payroll-exports".to_owned(),
        resource_type: "AWS::S3::Bucket".to_owned(),
        action: "Block public access".to_owned(),
        remediation_type: RemediationType::Manual,
        requested_by: JO.to_owned(),
        reported: None,
        sample: false,
    }
}

fn input(asking: Option<Asking>, roll_back: bool) -> WorkflowInput {
    let parameters = BTreeMap::from(
        [
            (parameter::REMEDIATION_ID, id().to_string()),
            (parameter::CONTROL, "S3.8".to_owned()),
            (parameter::RESOURCE_ARN, "arn:aws:s3:::payroll-exports".to_owned()),
            (parameter::RESOURCE_NAME, "payroll-exports".to_owned()),
            (parameter::MODE, "Apply".to_owned()),
            (parameter::FENCE, "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    WorkflowInput {
        remediation_id: id(),
        account: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        approval: asking,
        roll_back,
        snapshot: false,
        snapshot_seconds: 7200,
        run_seconds: 1200,
        direct: None,
        parameters,
    }
}

fn asking(needed: u32, four_eyes: bool) -> Option<Asking> {
    Some(Asking { needed, four_eyes, policies: vec!["team.ask".to_owned()], seconds: 3600 })
}

/// What the orchestrator wrote when it decided: with what policy was asked.
async fn decided(world: &World) {
    let (account, region) = ("111122223333".parse().unwrap(), "eu-central-1".parse().unwrap());
    let trigger = Trigger::Operator { by: JO.to_owned(), mode: Mode::Apply, reason: String::new() };
    let asked = Asked::from(&Question {
        trigger: &trigger,
        campaign: None,
        mode: Mode::Apply,
        pilot: false,
        account: &account,
        account_facts: None,
        region: &region,
        arn: "arn:aws:s3:::payroll-exports",
        kind: "AWS::S3::Bucket",
        control: &"S3.8".parse().unwrap(),
        finding_type: "S3.8",
        severity: redress_common::finding::Severity { score: 70, label: SeverityLabel::High },
        risk: Risk::Reversible,
        frameworks: &BTreeSet::new(),
        evidence: None,
        now: now(),
        time_zone: None,
        first_seen: now(),
        calendar: Calendar::None,
        breaker_open: false,
        sample: false,
    });
    let mut record = report::draft(&identity(), id(), &subject(), State::Planned, now());
    record.timestamp -= 10;
    record.detail.insert(detail::QUESTION.to_owned(), asked.text().unwrap());
    append(&world, &account, Head::default(), vec![record], None).await.unwrap();
}

/// A workflow whose claim the orchestrator has just taken.
struct Case {
    world: World,
    execution: Execution,
}

impl Case {
    async fn new(input: &WorkflowInput) -> Self {
        let world = World::new(&standard());
        let bid = Bid {
            id: id(),
            generation: Generation(1),
            manual: true,
            mode: Mode::Apply,
            subject: subject(),
            undoes: None,
            purpose: Purpose::Ask,
            released: false,
            keep_seconds: None,
        };
        world.put(&claim_key(), &claim::grant(None, bid, Times::default(), now()).unwrap());
        decided(&world).await;
        Self { world, execution: Execution::new(serde_json::to_value(input).unwrap()) }
    }

    async fn asked() -> Self {
        Self::new(&input(asking(1, false), false)).await
    }

    async fn goes(&mut self, seconds: i64) -> Option<String> {
        self.execution.run(&self.world, later(seconds)).await
    }

    /// The runbook that was started last ends.
    async fn ends(&self, outcome: Outcome, seconds: i64) -> Start {
        let event = self.world.end(Some(outcome));
        complete(&self.world, &event, later(seconds)).await;
        self.world.started().last().unwrap().1.clone()
    }

    /// To the question.
    async fn planned(&mut self) {
        assert_eq!(self.goes(0).await, None);
        let start = self.ends(Outcome::Planned, 5).await;
        assert_eq!(mode(&start), Some(Mode::DryRun));
        assert_eq!(self.goes(6).await, None);
        assert_eq!(self.approval().status, ApprovalStatus::Pending);
    }

    fn approval(&self) -> Approval {
        self.world.approval(id()).unwrap()
    }

    fn claim(&self) -> Claim {
        self.world.claim(&claim_key()).unwrap()
    }

    async fn answer_at(&self, who: &str, approve: bool, seconds: i64) -> Result<Approval, NotCounted> {
        self.answers(who, approve, &the_plan(), seconds).await
    }

    async fn answers(&self, who: &str, approve: bool, plan: &str, seconds: i64) -> Result<Approval, NotCounted> {
        let answer = Answer { remediation: id(), approve, plan_sha256: plan, reason: "looked at it" };
        let caller = who.parse().unwrap();
        approval::answer(&&self.world, &identity(), &caller, &answer, |_, _| Ok(()), later(seconds)).await
    }

    /// After what the orchestrator wrote.
    fn states(&self) -> Vec<State> {
        let of_this = |record: &&redress_common::ledger::Record| record.draft.remediation_id == id();
        self.world.records().iter().filter(of_this).skip(1).map(|record| record.draft.execution_status).collect()
    }

    /// Nothing but the dry run was started.
    fn nothing_was_changed(&self) {
        for (_, start) in self.world.started() {
            assert_eq!(mode(&start), Some(Mode::DryRun));
        }
        self.world.verify();
    }

    fn code(&self) -> String {
        let records = self.world.records();
        let last = records.iter().rev().find(|record| record.draft.remediation_id == id()).unwrap();
        last.detail(detail::CODE).unwrap_or_default().to_owned()
    }
}

fn code<T>(result: Result<T, NotCounted>) -> &'static str {
    result.err().unwrap().code()
}

#[tokio::test]
async fn what_is_approved_is_exactly_what_is_applied_and_verified() {
    let mut case = Case::asked().await;
    case.planned().await;
    let question = case.approval();
    assert_eq!((question.plan_sha256.as_str(), question.plan_id), (the_plan().as_str(), plan_id(&bucket_key(), id())));
    assert_eq!(case.claim().state, State::AwaitingApproval);
    let told = case.world.told();
    let asked = told.last().unwrap();
    assert_eq!(asked.status, "AwaitingApproval");
    assert!(asked.action.contains(&format!("redress approvals show {}", id())), "{}", asked.action);
    assert!(!serde_json::to_string(asked).unwrap().contains(&the_plan()), "the plan is not for everybody");

    let answered = case.answer_at(ANNA, true, MINUTE).await.unwrap();
    assert_eq!(answered.status, ApprovalStatus::Approved);
    assert_eq!(case.goes(62).await, None);
    let applied = case.ends(Outcome::Verified, 70).await;
    assert_eq!((mode(&applied), applied.id), (Some(Mode::Apply), id()));
    assert_eq!(sent(&applied, parameter::PLAN_SHA256), the_plan());
    assert_eq!(case.goes(71).await.as_deref(), Some("Succeed"));
    assert_eq!(
        case.states(),
        [
            State::Planned,
            State::AwaitingApproval,
            State::AwaitingApproval,
            State::Claimed,
            State::Applied,
            State::Verified
        ]
    );
    let claim = case.claim();
    assert_eq!((claim.status, claim.undoable), (ClaimStatus::Done, Some(id())));
    let approved = case.world.records().into_iter().find(|record| record.detail(detail::ANSWERED_BY).is_some());
    assert_eq!(approved.unwrap().detail(detail::ANSWERED_BY), Some(ANNA));
    case.world.verify();
}

#[tokio::test]
async fn an_undo_of_what_was_approved_finds_all_it_needs() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, MINUTE).await.unwrap();
    case.goes(62).await;
    case.ends(Outcome::Verified, 70).await;
    take(&case.world, &undo_of(id(), "u-1"), later(100)).await.unwrap();
    let undo = case.world.started().last().unwrap().1.clone();
    assert_eq!(mode(&undo), Some(Mode::Restore));
    let records = case.world.records();
    let claimed = records
        .iter()
        .find(|record| record.draft.remediation_id == id() && record.draft.execution_status == State::Claimed);
    let evidence = claimed.unwrap().detail(detail::EVIDENCE_KEY).unwrap();
    assert_eq!(sent(&undo, parameter::SOURCE_EVIDENCE_KEY), evidence);
}

#[tokio::test]
async fn what_one_person_denies_is_not_done_and_stays_so() {
    let mut case = Case::new(&input(asking(2, false), false)).await;
    case.planned().await;
    assert_eq!(case.answer_at(ANNA, true, 60).await.unwrap().status, ApprovalStatus::Pending);
    assert_eq!(case.answer_at(JO, false, 61).await.unwrap().status, ApprovalStatus::Denied);
    assert_eq!(case.goes(62).await.as_deref(), Some("Succeed"));
    case.nothing_was_changed();
    let claim = case.claim();
    assert_eq!((claim.state, claim.held), (State::Denied, true));
    assert_eq!(case.states().last(), Some(&State::Denied));
    assert_eq!(case.world.told().last().unwrap().status, "Denied");
}

#[tokio::test]
async fn defect_15_when_the_wait_ends_the_answer_is_no() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.execution.time_ends();
    assert_eq!(case.goes(3606).await.as_deref(), Some("Succeed"));
    case.nothing_was_changed();
    assert_eq!((case.approval().status, case.claim().state), (ApprovalStatus::Expired, State::Expired));
    assert_eq!(code(case.answer_at(ANNA, true, 3607).await), "expired");
    assert_eq!(case.goes(3608).await.as_deref(), Some("Succeed"));
    case.nothing_was_changed();
}

#[tokio::test]
async fn what_came_while_people_were_asked_is_asked_about_anew_when_nothing_was_changed() {
    // How the question ends, and whether what came meanwhile comes back.
    for (end, comes) in [("expires", 2), ("fails", 2), ("drifts", 2), ("denied", 0), ("verified", 0)] {
        let mut case = Case::asked().await;
        case.planned().await;
        for nth in [20, 30] {
            let update = super::generation(IMPORT, &later(nth).to_string());
            take(&case.world, &update, later(nth)).await.unwrap();
        }
        assert_eq!(case.world.in_backlog().len(), 2, "{end}");
        match end {
            "expires" => case.execution.time_ends(),
            "denied" => drop(case.answer_at(ANNA, false, MINUTE).await.unwrap()),
            _ => drop(case.answer_at(ANNA, true, MINUTE).await.unwrap()),
        }
        if end == "fails" {
            case.world.put(&StateKey::Exemptions, &exemption());
        }
        case.goes(3606).await;
        if matches!(end, "drifts" | "verified") {
            case.ends(if end == "drifts" { Outcome::Drifted } else { Outcome::Verified }, 3700).await;
            case.goes(3701).await;
        }
        let back = case.world.take_brought_back();
        assert_eq!(back.len(), comes, "{end}");
        if end == "expires" {
            case.world.critical("tier=0");
            for body in back {
                take(&case.world, &body, later(3800)).await.unwrap();
            }
            assert_eq!(case.world.workflows().len(), 1, "once, about the newest");
            assert_eq!(case.claim().state, State::AwaitingApproval);
        }
        case.world.verify();
    }
}

#[tokio::test]
async fn what_comes_just_when_a_question_ends_is_not_lost() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.execution.time_ends();
    case.goes(3606).await;
    case.world.critical("tier=0");
    take(&case.world, &super::generation(IMPORT, &later(20).to_string()), later(3607)).await.unwrap();
    assert_eq!((case.world.in_backlog().len(), case.world.workflows().len()), (0, 1));
}

#[tokio::test]
async fn an_answer_after_the_time_counts_no_more_also_while_the_workflow_still_waits() {
    let mut case = Case::asked().await;
    case.planned().await;
    let until = Timestamp::from_millisecond(case.approval().expires_at_ms).unwrap();
    assert!(until < later(3606), "there is time to tell the workflow");
    assert_eq!(code(case.answer_at(ANNA, true, (until - now()).get_seconds()).await), "expired");
    case.nothing_was_changed();
}

#[tokio::test]
async fn a_denial_that_comes_second_is_told_to_nobody() {
    let mut case = Case::asked().await;
    case.planned().await;
    let asked = case.approval();
    let yes = Approval { version: asked.version + 1, status: ApprovalStatus::Approved, ..asked };
    case.world.meanwhile("TransactWriteItems", &StateKey::Approval(id()), &yes);
    assert_eq!(code(case.answer_at(ANNA, false, MINUTE).await), "answered");
    assert!(case.world.told().iter().all(|message| message.status != "Denied"));
    assert!(!case.states().contains(&State::Denied));
}

#[tokio::test]
async fn a_denial_is_told_once_and_by_who_gives_it_again_when_its_worker_died() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.world.fail_next("SendTaskSuccess");
    for _ in 0..3 {
        let _ = case.answer_at(ANNA, false, MINUTE).await;
    }
    let told = case.world.told();
    assert_eq!(told.iter().filter(|message| message.status == "Denied").count(), 1);
    let denied = |record: &&redress_common::ledger::Record| record.draft.execution_status == State::Denied;
    assert!(case.world.records().iter().rfind(denied).unwrap().draft.notification_sent);
    case.world.verify();
}

#[tokio::test]
async fn a_yes_in_the_moment_when_the_time_is_up_wins_and_nobody_hears_of_an_expiry() {
    let mut case = Case::asked().await;
    case.planned().await;
    let asked = case.approval();
    let yes = Approval { version: asked.version + 1, status: ApprovalStatus::Approved, ..asked };
    case.world.meanwhile("TransactWriteItems", &StateKey::Approval(id()), &yes);
    case.execution.time_ends();
    assert_eq!(case.goes(3606).await, None);
    assert!(case.world.told().iter().all(|message| message.status != "Expired"));
    let (_, start) = case.world.started().last().unwrap().clone();
    assert_eq!(mode(&start), Some(Mode::Apply));
}

#[tokio::test]
async fn who_meets_another_writer_at_an_end_tells_it_once() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, MINUTE).await.unwrap();
    case.world.put(&StateKey::Exemptions, &exemption());
    let flight = case.world.flight().with(id(), later(4000).as_millisecond(), now().as_millisecond());
    let key = StateKey::Flight("111122223333".parse().unwrap(), "eu-central-1".parse().unwrap());
    case.world.put(&key, &flight);
    case.world.meanwhile("Publish", &key, &flight.marked(true));
    assert_eq!(case.goes(62).await.as_deref(), Some("Fail"));
    assert_eq!((case.claim().status, case.claim().state), (ClaimStatus::Done, State::Failed));
    assert!(case.world.flight().waiting && case.world.flight().running.is_empty(), "the other's write stands");
    let told = case.world.told();
    assert_eq!(told.iter().filter(|message| message.status == "Failed").count(), 1);
    case.world.verify();
}

#[tokio::test]
async fn a_change_that_was_refused_is_not_looked_for_and_its_reason_stands() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, MINUTE).await.unwrap();
    case.world.put(&StateKey::Exemptions, &exemption());
    case.world.calls();
    assert_eq!(case.goes(62).await.as_deref(), Some("Fail"));
    let calls = case.world.calls();
    assert!(!calls.contains(&"DescribeAutomationExecutions"), "{calls:?}");
    let last = case.world.records().last().unwrap().draft.clone();
    assert!(last.error_message.contains("exemption `legacy` holds"), "{}", last.error_message);
}

#[tokio::test]
async fn what_a_search_came_to_does_not_hide_why_there_was_one() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, MINUTE).await.unwrap();
    case.world.fail_start(false);
    for _ in 0..10 {
        case.world.fail_next("DescribeAutomationExecutions");
    }
    assert_eq!(case.goes(62).await.as_deref(), Some("Fail"));
    let last = case.world.records().last().unwrap().draft.clone();
    assert!(last.error_message.contains("not now"), "{}", last.error_message);
}

#[tokio::test]
async fn an_open_breaker_stops_also_what_a_rule_asked_for_and_people_approved() {
    for (kind, starts) in [(RemediationType::Automatic, 1), (RemediationType::Manual, 2)] {
        let mut case = Case::asked().await;
        case.world.change_claims(|_| true, |claim| claim.subject.remediation_type = kind);
        case.planned().await;
        case.answer_at(ANNA, true, MINUTE).await.unwrap();
        let scope = BreakerScope::Control("S3.8".parse().unwrap());
        let open = Breaker { version: 1, opened_at: Some(1), probe_at: i64::MAX, ..Breaker::default() };
        case.world.put(&StateKey::Breaker(scope), &open);
        case.goes(62).await;
        assert_eq!(case.world.started().len(), starts, "{kind:?}");
    }
}

#[tokio::test]
async fn what_a_rule_asked_for_counts_when_it_is_applied_and_once() {
    let mut case = Case::asked().await;
    case.world.change_claims(|_| true, |claim| claim.subject.remediation_type = RemediationType::Automatic);
    case.planned().await;
    let account = BreakerScope::Account("111122223333".parse().unwrap());
    let starts = |case: &Case| case.world.count(&account, now().as_second() / 3600).starts;
    assert_eq!(starts(&case), 0);
    case.answer_at(ANNA, true, MINUTE).await.unwrap();
    case.world.fail_start(true);
    case.goes(62).await;
    case.goes(63).await;
    assert_eq!((starts(&case), case.world.started().len()), (1, 2));
}

#[tokio::test]
async fn defect_15_when_asking_fails_nothing_is_done() {
    // Nobody can be told.
    let mut case = Case::asked().await;
    case.goes(0).await;
    case.ends(Outcome::Planned, 5).await;
    case.world.fail_publish();
    assert_eq!(case.goes(6).await.as_deref(), Some("Fail"));
    case.nothing_was_changed();
    assert_eq!((case.claim().state, case.claim().status), (State::Failed, ClaimStatus::Done));
    assert_eq!((case.approval().status, case.code().as_str()), (ApprovalStatus::Void, "workflow-failed"));
    assert_eq!(code(case.answer_at(ANNA, true, 7).await), "void");

    // The dry run fails, or says nothing of what it would do.
    for outcome in [Outcome::Failed, Outcome::Unverified, Outcome::Drifted] {
        let mut case = Case::asked().await;
        case.goes(0).await;
        case.ends(outcome, 5).await;
        assert_eq!(case.goes(6).await.as_deref(), Some("Fail"), "{outcome:?}");
        case.nothing_was_changed();
        assert_eq!(case.states(), [State::Failed], "{outcome:?}");
    }

    // The dry run cannot be started.
    let mut case = Case::asked().await;
    case.world.fail_start(false);
    assert_eq!(case.goes(0).await.as_deref(), Some("Fail"));
    case.nothing_was_changed();
    assert_eq!(case.states(), [State::Failed]);
}

#[tokio::test]
async fn defect_15_an_answer_that_comes_too_fast_is_not_lost() {
    let mut case = Case::asked().await;
    // Before the question is there: the person is told so, and asks again.
    assert_eq!(code(case.answer_at(ANNA, true, 0).await), "not-found");
    case.planned().await;
    // The moment it is there, before the machine has seen the step end: the token is stored with the question.
    let asked = StateKey::Task(asking_id(&bucket_key(), id()));
    assert!(case.world.has(&asked));
    case.answer_at(ANNA, true, 6).await.unwrap();
    assert_eq!(case.goes(7).await, None);
    assert_eq!(mode(&case.world.started().last().unwrap().1), Some(Mode::Apply));
}

#[tokio::test]
async fn the_same_answer_twice_is_one_and_another_one_comes_too_late() {
    let mut case = Case::asked().await;
    case.planned().await;
    let first = case.answer_at(ANNA, true, 60).await.unwrap();
    let again = case.answer_at(ANNA, true, 61).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(code(case.answer_at(ANNA, false, 62).await), "answered");
    assert_eq!(code(case.answer_at(JO, false, 62).await), "answered");
    assert_eq!(case.goes(63).await, None);
    // Once more, while the change is made: the runbook's end is not what was answered.
    case.answer_at(ANNA, true, 64).await.unwrap();
    assert_eq!(case.goes(65).await, None);
    case.ends(Outcome::Verified, 70).await;
    assert_eq!(case.goes(71).await.as_deref(), Some("Succeed"));
    case.answer_at(ANNA, true, 5000).await.unwrap();
    assert_eq!(case.world.started().len(), 2);
}

#[tokio::test]
async fn an_answer_to_another_plan_than_the_one_asked_about_does_not_count() {
    let mut case = Case::asked().await;
    case.planned().await;
    let other = plan_sha256(&"a".repeat(64), &"c".repeat(64));
    assert_eq!(code(case.answers(ANNA, true, &other, 60).await), "plan-changed");
    assert_eq!(code(case.answers(ANNA, false, "", 60).await), "plan-changed");
    assert_eq!(case.approval().votes, []);
}

#[tokio::test]
async fn four_eyes_are_those_of_two_people() {
    let mut case = Case::new(&input(asking(1, true), false)).await;
    case.planned().await;
    assert_eq!(code(case.answer_at(JO, true, 60).await), "four-eyes");
    // The same person by another role is the same person.
    let other_role = JO.replace("Redress-Operator", "Administrator");
    assert_eq!(code(case.answer_at(&other_role, true, 60).await), "four-eyes");
    assert_eq!(person(JO), person("arn:aws:iam::999988887777:user/staff/jo"));
    assert_eq!(case.answer_at(ANNA, true, 61).await.unwrap().status, ApprovalStatus::Approved);

    // Two of two: nobody counts twice.
    let mut case = Case::new(&input(asking(2, true), false)).await;
    case.planned().await;
    for role in ["Redress-Operator", "Administrator"] {
        let anna = ANNA.replace("Redress-Operator", role);
        assert_eq!(case.answer_at(&anna, true, 60).await.unwrap().votes.len(), 1);
    }
    assert_eq!(case.approval().status, ApprovalStatus::Pending);
}

#[tokio::test]
async fn policy_has_the_last_word_on_a_yes_and_none_on_a_no() {
    let mut case = Case::asked().await;
    case.planned().await;
    let plan = the_plan();
    let yes = Answer { remediation: id(), approve: true, plan_sha256: &plan, reason: "because" };
    let no = Answer { approve: false, ..yes.clone() };
    let caller = ANNA.parse().unwrap();
    let forbids = |_: &Approval, _: &redress_common::aws::state_table::Snapshot| Err("not your team".to_owned());
    let refused = approval::answer(&&case.world, &identity(), &caller, &yes, forbids, later(60)).await;
    assert_eq!(code(refused), "not-permitted");
    let denied = approval::answer(&&case.world, &identity(), &caller, &no, forbids, later(60)).await.unwrap();
    assert_eq!(denied.status, ApprovalStatus::Denied);
}

#[tokio::test]
async fn a_resource_that_drifted_since_voids_what_was_approved() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, 60).await.unwrap();
    case.goes(61).await;
    case.ends(Outcome::Drifted, 65).await;
    assert_eq!(case.goes(66).await.as_deref(), Some("Succeed"));
    assert_eq!(case.approval().status, ApprovalStatus::Void);
    assert_eq!((case.states().last(), case.code().as_str()), (Some(&State::Failed), "plan-void"));
    assert_eq!(case.claim().undoable, None, "nothing was changed");
    case.world.verify();
}

#[tokio::test]
async fn what_needs_nothing_any_more_is_not_asked_about() {
    for (outcome, state) in [(Outcome::AlreadyCompliant, State::Verified), (Outcome::NotFound, State::Failed)] {
        let mut case = Case::asked().await;
        case.goes(0).await;
        case.ends(outcome, 5).await;
        assert_eq!(case.goes(6).await.as_deref(), Some("Succeed"));
        assert_eq!((case.world.approval(id()), case.states()), (None, vec![state]));
        assert_eq!(case.claim().status, ClaimStatus::Done);
        case.nothing_was_changed();
    }
}

#[tokio::test]
async fn the_switch_holds_also_for_what_was_approved_before() {
    for switch in [Switch::Off, Switch::Observe] {
        let mut case = Case::asked().await;
        case.planned().await;
        case.answer_at(ANNA, true, 60).await.unwrap();
        case.world.put(&StateKey::Settings, &Settings { switch, ..standard() });
        assert_eq!(case.goes(61).await.as_deref(), Some("Fail"));
        case.nothing_was_changed();
        let records = case.world.records();
        assert!(records.last().unwrap().draft.error_message.contains("switch"), "{:?}", records.last());
        assert_eq!(case.claim().status, ClaimStatus::Done);
    }
}

#[tokio::test]
async fn an_approval_that_is_not_in_the_table_is_none_whatever_the_workflow_was_told() {
    let mut case = Case::asked().await;
    case.planned().await;
    let asked = StateKey::Task(asking_id(&bucket_key(), id()));
    let task: Task = case.world.task(&asked);
    case.world.tell(&task, &serde_json::json!({ "Status": "Approved" }));
    assert_eq!(case.goes(60).await.as_deref(), Some("Fail"));
    case.nothing_was_changed();
}

#[tokio::test]
async fn a_yes_in_time_counts_though_its_news_was_lost() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.world.fail_next("SendTaskSuccess");
    assert_eq!(code(case.answer_at(ANNA, true, 60).await), "not-sent");
    assert_eq!(case.approval().status, ApprovalStatus::Approved);
    case.execution.time_ends();
    assert_eq!(case.goes(3606).await, None);
    assert_eq!(mode(&case.world.started().last().unwrap().1), Some(Mode::Apply));

    // Or it is given again.
    let mut case = Case::asked().await;
    case.planned().await;
    case.world.fail_next("SendTaskSuccess");
    assert_eq!(code(case.answer_at(ANNA, true, 60).await), "not-sent");
    case.answer_at(ANNA, true, 61).await.unwrap();
    assert_eq!(case.goes(62).await, None);
    assert_eq!(case.world.started().len(), 2);
}

#[tokio::test]
async fn a_step_that_is_done_again_starts_nothing_twice_and_only_the_last_worker_is_told() {
    for failing in 1..4 {
        let mut case = Case::asked().await;
        for _ in 0..failing {
            case.world.fail_start(true);
        }
        assert_eq!(case.goes(0).await, None);
        assert_eq!(case.world.started().len(), 1);
        case.ends(Outcome::Planned, 5).await;
        assert_eq!(case.goes(6).await, None, "the last token was answered");
        assert_eq!(case.approval().status, ApprovalStatus::Pending);
        case.world.verify();
    }
}

#[tokio::test]
async fn a_worker_that_dies_after_the_start_is_succeeded_by_one_that_knows_the_end() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, 60).await.unwrap();
    case.goes(61).await;
    case.ends(Outcome::Verified, 65).await;
    // The first worker's answer was lost: the machine runs the step again, with another token.
    let request = serde_json::json!({
        "Step": "Run", "What": "Apply", "Token": "another",
        "Given": {
            "RemediationId": id(), "Account": "111122223333", "Region": "eu-central-1", "RunSeconds": 1200, "RollBack": false,
            "Approval": asking(1, false), "Parameters": input(None, false).parameters,
            "Plan": { "State": "Notified", "Outcome": "Planned", "PreImageSha256": "a".repeat(64), "ChangeSha256": "b".repeat(64) },
        },
    });
    let request = serde_json::from_value(request).unwrap();
    redress_admin::workflow::Workflow::new(&case.world, identity()).step(&request, later(66)).await.unwrap();
    assert_eq!(case.world.answered("another").unwrap()["State"], "Verified");
    assert_eq!(case.world.started().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_verified_is_put_back_where_the_workflow_says_so() {
    for roll_back in [true, false] {
        let mut case = Case::new(&input(None, roll_back)).await;
        case.goes(0).await;
        case.ends(Outcome::Planned, 5).await;
        assert_eq!(case.goes(6).await, None);
        case.ends(Outcome::Unverified, 10).await;
        let ended = case.goes(11).await;
        let last = case.world.started().last().unwrap().1.clone();
        if !roll_back {
            assert_eq!((ended.as_deref(), mode(&last)), (Some("Succeed"), Some(Mode::Apply)));
            continue;
        }
        assert_eq!((ended, mode(&last), last.id), (None, Some(Mode::Restore), roll_back_id(&bucket_key(), id())));
        let applied = case.world.started()[1].1.clone();
        assert_eq!(sent(&last, parameter::SOURCE_EVIDENCE_KEY), sent(&applied, parameter::EVIDENCE_KEY));
        case.ends(Outcome::Restored, 15).await;
        assert_eq!(case.goes(16).await.as_deref(), Some("Succeed"));
        assert_eq!(case.states().last(), Some(&State::RolledBack));
        case.world.verify();
    }
}

#[tokio::test]
async fn a_runbook_that_does_not_end_in_time_is_stopped_and_what_it_did_is_put_back() {
    let mut case = Case::new(&input(None, true)).await;
    case.goes(0).await;
    case.ends(Outcome::Planned, 5).await;
    case.goes(6).await;
    let start = case.world.started().last().unwrap().1.clone();
    case.world.runs(&start);
    case.execution.time_ends();
    assert_eq!(case.goes(1300).await, None);
    assert_eq!(case.world.stopped(), [id().to_string()]);
    assert_eq!(mode(&case.world.started().last().unwrap().1), Some(Mode::Restore));
    assert_eq!(case.states(), [State::Claimed, State::Failed]);
    case.ends(Outcome::Restored, 1310).await;
    assert_eq!(case.goes(1311).await.as_deref(), Some("Succeed"));
    case.world.verify();
}

#[tokio::test]
async fn a_runbook_whose_end_nobody_heard_of_is_found() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, 60).await.unwrap();
    case.goes(61).await;
    case.world.end(Some(Outcome::Verified));
    case.execution.time_ends();
    assert_eq!(case.goes(1300).await.as_deref(), Some("Succeed"));
    assert_eq!((case.states().last(), case.world.stopped().len()), (Some(&State::Verified), 0));
    case.world.verify();
}

#[tokio::test]
async fn a_runbook_that_was_never_started_is_a_failure_that_changed_nothing() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, 60).await.unwrap();
    case.world.fail_start(false);
    assert_eq!(case.goes(61).await.as_deref(), Some("Fail"));
    case.nothing_was_changed();
    assert_eq!((case.claim().state, case.claim().undoable), (State::Failed, None));
    assert_eq!((case.code().as_str(), case.approval().status), ("workflow-failed", ApprovalStatus::Void));
    let error = case.world.records().last().unwrap().draft.error_message.clone();
    assert!(error.contains("not now"), "why SSM refused: {error}");
}

#[tokio::test]
async fn a_claim_that_another_remediation_has_by_now_is_left_alone() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, 60).await.unwrap();
    let other = Claim { remediation_id: RemediationId::of_rejected(b"other"), ..case.claim() };
    case.world.put(&claim_key(), &other);
    assert_eq!(case.goes(61).await.as_deref(), Some("Fail"));
    case.nothing_was_changed();
    assert_eq!(case.claim(), other);
}

// ------------------------------------------------------------------------------------------- the whole decision, again

fn exemption() -> Exemptions {
    let one = Exemption {
        id: "legacy".to_owned(),
        control: Some("S3.8".parse().unwrap()),
        account: None,
        ou: None,
        resource: None,
        owner: "the payroll team".to_owned(),
        reason: "moves in May".to_owned(),
        expires_at: later(100_000),
        created_by: ANNA.to_owned(),
        created_at: now(),
    };
    Exemptions { version: 1, exemptions: vec![one] }
}

#[tokio::test]
async fn an_exemption_or_another_policy_since_the_question_voids_what_was_approved() {
    for exempt in [true, false] {
        let mut case = Case::asked().await;
        case.planned().await;
        case.answer_at(ANNA, true, 60).await.unwrap();
        if exempt {
            case.world.put(&StateKey::Exemptions, &exemption());
        } else {
            let set = PolicySetName::Observe;
            case.world.put(&StateKey::Settings, &Settings { policy_set: set, ..standard() });
        }
        assert_eq!(case.goes(61).await.as_deref(), Some("Fail"));
        case.nothing_was_changed();
        let last = case.world.records().last().unwrap().draft.clone();
        assert_eq!((last.execution_status, case.code().as_str()), (State::Failed, "decision-void"));
        let why = if exempt { "exemption `legacy` holds" } else { "policy says `notify` now" };
        assert!(last.error_message.contains(why), "{}", last.error_message);
        assert!(last.notification_sent);
        assert_eq!((case.approval().status, case.claim().status), (ApprovalStatus::Void, ClaimStatus::Done));
    }
}

#[tokio::test]
async fn defect_14_a_finding_that_was_suppressed_since_the_question_voids_what_was_approved() {
    for status in [WorkflowStatus::Suppressed, WorkflowStatus::Resolved, WorkflowStatus::Notified] {
        let mut case = Case::asked().await;
        case.world.change_claims(
            |_| true,
            |claim| {
                claim.subject.product_arn =
                    Some("arn:aws:securityhub:eu-central-1::product/aws/securityhub".parse().unwrap());
            },
        );
        case.planned().await;
        case.answer_at(ANNA, true, MINUTE).await.unwrap();
        case.world.put_findings(status);
        let ended = case.goes(62).await;
        if status == WorkflowStatus::Notified {
            assert_eq!((ended, case.world.started().len()), (None, 2), "only who suppresses or resolves says no");
            continue;
        }
        assert_eq!(ended.as_deref(), Some("Fail"));
        case.nothing_was_changed();
        assert_eq!((case.approval().status, case.code().as_str()), (ApprovalStatus::Void, "decision-void"));
    }
}

#[tokio::test]
async fn policy_that_asks_for_more_people_since_is_not_satisfied_with_those_who_answered() {
    let source = |more: &str| {
        let ask = format!("@id(\"ask\") @approvers(\"{more}\")");
        format!("{ask} permit (principal, action == Redress::Action::\"Approve\", resource);")
    };
    for (people, ends) in [("1", None), ("2", Some("Fail"))] {
        let mut case = Case::asked().await;
        case.planned().await;
        case.answer_at(ANNA, true, 60).await.unwrap();
        let source = source(people);
        case.world.put(&StateKey::Settings, &Settings { policy_set: PolicySetName::Custom, ..standard() });
        let item = PolicyItem {
            version: 1,
            sha256: redress_common::ledger::sha256_hex(source.as_bytes()),
            source,
            set_by: ANNA.to_owned(),
            set_at: now(),
            reason: String::new(),
        };
        case.world.put(&StateKey::Policy, &item);
        assert_eq!(case.goes(61).await.as_deref(), ends, "{people}");
        assert_eq!(case.world.started().len(), if ends.is_none() { 2 } else { 1 });
    }
}

#[tokio::test]
async fn without_a_record_of_the_decision_nothing_is_changed() {
    let mut case = Case::asked().await;
    case.planned().await;
    case.answer_at(ANNA, true, 60).await.unwrap();
    case.world.forget(detail::QUESTION);
    assert_eq!(case.goes(61).await.as_deref(), Some("Fail"));
    assert_eq!((case.world.started().len(), case.code().as_str()), (1, "decision-void"));
}

// ------------------------------------------------------------------------------------------- copies

fn with_copies() -> WorkflowInput {
    WorkflowInput { snapshot: true, ..input(None, true) }
}

#[tokio::test]
async fn copies_are_made_and_complete_before_anything_is_changed() {
    let mut case = Case::new(&with_copies()).await;
    case.goes(0).await;
    case.ends(Outcome::Planned, 5).await;
    assert_eq!(case.goes(6).await, None);
    let copying = case.world.started().last().unwrap().1.clone();
    assert_eq!((mode(&copying), copying.id), (Some(Mode::Snapshot), snapshot_id(&bucket_key(), id())));
    assert_eq!(sent(&copying, parameter::PLAN_SHA256), the_plan(), "of this plan and no other");
    // It takes hours; the resource is kept free so long.
    let times = Times::default();
    let until = case.claim().lease_until + times.run_ms - times.lease_ms;
    assert!(until > later(7200).as_millisecond());
    assert_eq!(case.claim().state, State::AwaitingApproval, "nothing is changed yet");
    case.ends(Outcome::Snapshotted, 5000).await;
    assert_eq!(case.goes(5001).await, None);
    let applying = case.world.started().last().unwrap().1.clone();
    assert_eq!((mode(&applying), applying.id), (Some(Mode::Apply), id()));
    case.ends(Outcome::Verified, 5010).await;
    assert_eq!(case.goes(5011).await.as_deref(), Some("Succeed"));
    let told: Vec<String> = case.world.told().into_iter().map(|message| message.status).collect();
    assert_eq!(told, ["Success"], "of plan and copies nobody is told");
    case.world.verify();
}

#[tokio::test]
async fn without_its_copies_nothing_is_changed_and_people_are_told_why() {
    for outcome in [Some(Outcome::Failed), Some(Outcome::Drifted), Some(Outcome::AlreadyCompliant), None] {
        let mut case = Case::new(&with_copies()).await;
        case.goes(0).await;
        case.ends(Outcome::Planned, 5).await;
        case.goes(6).await;
        let event = case.world.end(outcome);
        complete(&case.world, &event, later(10)).await;
        assert_eq!(case.goes(11).await.as_deref(), Some("Fail"), "{outcome:?}");
        assert_eq!(case.world.started().len(), 2, "{outcome:?}: no Apply, and nothing to put back");
        let last = case.world.records().last().unwrap().draft.clone();
        assert_eq!((last.remediation_id, last.execution_status), (id(), State::Failed));
        assert!(last.error_message.contains("no safety copy could be made"), "{}", last.error_message);
        let told: Vec<String> = case.world.told().into_iter().map(|message| message.status).collect();
        assert_eq!((told, case.claim().undoable), (vec!["Failed".to_owned()], None));
        assert!(case.world.flight().running.is_empty());
        case.world.verify();
    }
}

#[tokio::test]
async fn a_plan_ends_as_one_in_the_ledger_and_is_told_by_nobody() {
    let mut case = Case::asked().await;
    case.planned().await;
    let plan = plan_id(&bucket_key(), id());
    let records = case.world.records();
    let last = records.iter().rev().find(|record| record.draft.remediation_id == plan).unwrap();
    assert_eq!((last.draft.execution_status, last.draft.notification_sent), (State::Planned, false));
    let told: Vec<String> = case.world.told().into_iter().map(|message| message.status).collect();
    assert_eq!(told, ["AwaitingApproval"]);
}

// ------------------------------------------------------------------------------------------- places

#[tokio::test]
async fn each_runbook_of_a_workflow_takes_one_place_and_gives_it_back() {
    let mut case = Case::new(&with_copies()).await;
    let bid = case.world.flight().with(id(), later(1200).as_millisecond(), now().as_millisecond());
    let key = StateKey::Flight("111122223333".parse().unwrap(), "eu-central-1".parse().unwrap());
    case.world.put(&key, &bid);
    let runs = |case: &Case| case.world.flight().running.keys().copied().collect::<Vec<_>>();
    case.goes(0).await;
    assert_eq!(runs(&case), [plan_id(&bucket_key(), id())], "in the place of the start's own");
    for (outcome, at) in [(Outcome::Planned, 5), (Outcome::Snapshotted, 10), (Outcome::Unverified, 15)] {
        case.ends(outcome, at).await;
        assert_eq!(runs(&case), []);
        case.goes(at + 1).await;
        assert_eq!(runs(&case), [case.world.started().last().unwrap().1.id]);
    }
    case.ends(Outcome::Restored, 20).await;
    assert_eq!((case.goes(21).await.as_deref(), runs(&case)), (Some("Succeed"), vec![]));
    case.world.verify();
}

#[tokio::test]
async fn a_rules_workflow_waits_for_a_place_and_a_persons_does_not() {
    for (kind, starts) in [(RemediationType::Automatic, 0), (RemediationType::Manual, 1)] {
        let mut case = Case::asked().await;
        let mut claim = case.claim();
        claim.subject.remediation_type = kind;
        case.world.put(&claim_key(), &claim);
        let full = Settings { limits: Limits { in_flight: 0, ..standard().limits }, ..standard() };
        case.world.put(&StateKey::Settings, &full);
        case.goes(0).await;
        assert_eq!(case.world.started().len(), starts, "{kind:?}");
        if starts == 0 {
            let last = case.world.records().last().unwrap().draft.clone();
            assert!(last.error_message.contains("which is the limit"), "{}", last.error_message);
            assert_eq!((last.execution_status, case.claim().status), (State::Failed, ClaimStatus::Done));
        }
    }
}

// ------------------------------------------------------------------------------------------- undos, and what takes long

#[tokio::test]
async fn an_undo_that_policy_wants_approved_is_asked_about_and_puts_back_that_very_evidence() {
    let world = World::new(&standard());
    take(&world, IMPORT, now()).await.unwrap();
    let event = world.end(Some(Outcome::Verified));
    complete(&world, &event, later(3)).await;
    let fixed = world.started().last().unwrap().1.clone();
    let source = r#"@id("undo.ask") permit (principal, action == Redress::Action::"Approve", resource)
        when { context.mode == "Restore" };"#;
    world.put(&StateKey::Settings, &Settings { policy_set: PolicySetName::Custom, ..standard() });
    let item = PolicyItem {
        version: 1,
        source: source.to_owned(),
        sha256: redress_common::ledger::sha256_hex(source.as_bytes()),
        set_by: ANNA.to_owned(),
        set_at: now(),
        reason: String::new(),
    };
    world.put(&StateKey::Policy, &item);
    take(&world, &undo_of(fixed.id, "u-1"), later(100)).await.unwrap();
    let asked = world.workflows().pop().unwrap();
    let evidence = sent(&fixed, parameter::EVIDENCE_KEY);
    assert_eq!(asked.parameters[parameter::SOURCE_EVIDENCE_KEY], evidence);
    assert!(asked.approval.is_some() && !asked.roll_back && !asked.snapshot);

    let mut execution = Execution::new(serde_json::to_value(&asked).unwrap());
    execution.run(&world, later(101)).await;
    let plan = world.started().last().unwrap().1.clone();
    assert_eq!((mode(&plan), sent(&plan, parameter::SOURCE_EVIDENCE_KEY)), (Some(Mode::DryRun), evidence.clone()));
    let event = world.end(Some(Outcome::Planned));
    complete(&world, &event, later(105)).await;
    execution.run(&world, later(106)).await;
    assert_eq!(world.started().len(), 2, "nothing without a yes");
    let answer =
        Answer { remediation: asked.remediation_id, approve: true, plan_sha256: &the_plan(), reason: "looked at it" };
    let caller = ANNA.parse().unwrap();
    approval::answer(&&world, &identity(), &caller, &answer, |_, _| Ok(()), later(160)).await.unwrap();
    execution.run(&world, later(161)).await;
    let undo = world.started().last().unwrap().1.clone();
    assert_eq!((mode(&undo), undo.id), (Some(Mode::Restore), asked.remediation_id));
    assert_eq!(sent(&undo, parameter::SOURCE_EVIDENCE_KEY), evidence);
    assert_eq!(sent(&undo, parameter::PLAN_SHA256), the_plan());
    let event = world.end(Some(Outcome::Restored));
    complete(&world, &event, later(170)).await;
    assert_eq!(execution.run(&world, later(171)).await.as_deref(), Some("Succeed"));
    let last = |id| {
        let records = world.records();
        records.iter().rev().find(|record| record.draft.remediation_id == id).unwrap().draft.execution_status
    };
    assert_eq!((last(asked.remediation_id), last(fixed.id)), (State::RolledBack, State::RolledBack));
    assert!(world.claim(&claim_key()).unwrap().held, "no rule does it again");
    world.verify();
}

#[tokio::test]
async fn who_denies_an_undo_does_not_keep_rules_from_the_resource() {
    let mut case = Case::asked().await;
    case.planned().await;
    let undo = Claim { mode: Mode::Restore, ..case.claim() };
    case.world.put(&claim_key(), &undo);
    case.answer_at(ANNA, false, 60).await.unwrap();
    assert_eq!((case.claim().state, case.claim().held), (State::Denied, false));
}

#[tokio::test]
async fn a_control_that_takes_long_goes_through_the_workflow_also_when_nobody_is_asked() {
    let source = r#"@id("own.act") permit (principal, action == Redress::Action::"Act", resource);"#;
    let world = World::new(&Settings { policy_set: PolicySetName::Custom, ..Settings::default() });
    let item = PolicyItem {
        version: 1,
        source: source.to_owned(),
        sha256: redress_common::ledger::sha256_hex(source.as_bytes()),
        set_by: ANNA.to_owned(),
        set_at: now(),
        reason: String::new(),
    };
    world.put(&StateKey::Policy, &item);
    let volume = IMPORT
        .replace("arn:aws:s3:::payroll-exports", "arn:aws:ec2:eu-central-1:111122223333:volume/vol-1")
        .replace("AwsS3Bucket", "AwsEc2Volume")
        .replace("S3.8", "EC2.3");
    take(&world, &volume, now()).await.unwrap();
    assert!(world.started().is_empty());
    let input = world.workflows().pop().unwrap();
    assert!(input.approval.is_none() && input.snapshot && input.roll_back);
    assert_eq!(world.states(), [State::Planned, State::Planned]);
    assert!(world.flight().running.contains_key(&input.remediation_id));
    let mut execution = Execution::new(serde_json::to_value(&input).unwrap());
    for (nth, outcome) in [Outcome::Planned, Outcome::Snapshotted, Outcome::Verified].into_iter().enumerate() {
        let at = 10 * i64::try_from(nth).unwrap();
        assert_eq!(execution.run(&world, later(at + 1)).await, None);
        let event = world.end(Some(outcome));
        complete(&world, &event, later(at + 5)).await;
    }
    assert_eq!(execution.run(&world, later(40)).await.as_deref(), Some("Succeed"));
    let modes: Vec<Option<Mode>> = world.started().iter().map(|(_, start)| mode(start)).collect();
    assert_eq!(modes, [Some(Mode::DryRun), Some(Mode::Snapshot), Some(Mode::Apply)]);
    assert!(world.flight().running.is_empty());
    world.verify();
}
