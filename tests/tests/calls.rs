//! Every AWS call of a remediation, as a snapshot: a new one is seen in review. And the budget of DESIGN §10.
//!
//! What AWS does itself as a role (a queue's poller, a log's writer) costs no call of ours and is left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use redress_common::contract::Mode;
use redress_common::names;
use redress_tests::ask::Target;
use redress_tests::grants::role_of;
use redress_tests::raw::{asff, config_event, security_hub_event};
use redress_tests::world::{World, world};

/// The most calls that the administrator account may make for a remediation that succeeds, sessions and all.
const BUDGET: u32 = 10;
/// The first remediation of an account in an hour is over the budget by the sessions that it opens: orchestrator and
/// completion are two functions with a role each. ARCHITECTURE.md says what each call is for.
const SESSIONS: u32 = 2;

type Counted = BTreeMap<(String, String), u32>;

/// The calls of Redress's roles since a mark, when everything is done.
async fn calls(world: &World, mark: u64) -> Counted {
    world.drained(names::FINDINGS_QUEUE).await;
    world.drained(names::COMPLETIONS_QUEUE).await;
    let mut counted = Counted::new();
    for call in world.bed.lab.record().calls_since(mark) {
        let Some((_, role)) = role_of(&call.principal) else { continue };
        let aws_itself = call.service == "logs"
            || matches!(call.operation.as_str(), "ReceiveMessage" | "DeleteMessage" | "GetQueueAttributes");
        if !aws_itself && role != names::OPERATOR_ROLE && role != names::EVIDENCE_READER_ROLE {
            *counted.entry((role, format!("{}:{}", call.service, call.operation))).or_default() += 1;
        }
    }
    counted
}

fn shown(counted: &Counted) -> String {
    let mut text = String::new();
    for ((role, operation), count) in counted {
        writeln!(text, "{role}: {operation} {count}").unwrap();
    }
    text
}

/// Made by the administrator account: by its functions, and as the role that they assume.
fn admin_side(counted: &Counted) -> u32 {
    let ours = [names::ORCHESTRATOR_ROLE, names::COMPLETION_ROLE, names::CROSS_ACCOUNT_ROLE];
    counted.iter().filter(|((role, _), _)| ours.contains(&role.as_str())).map(|(_, count)| count).sum()
}

fn sessions(counted: &Counted) -> u32 {
    counted.iter().filter(|((_, call), _)| call == "sts:AssumeRole").map(|(_, count)| count).sum()
}

async fn broken(world: &World, account: &str, scenario: &str) -> Target {
    let broken = world.break_only(scenario, account).await;
    Target { account: account.to_owned(), control: broken.control.to_string(), arn: broken.resource_arn.to_string() }
}

/// One test: what runs at the same time would be counted too.
#[test]
fn a_remediation_makes_these_calls_and_no_others() {
    let world = world(&["only"]);
    world.run(async {
        let (account, record) = (world.member("only"), world.bed.lab.record());

        // The first one in an account, by a finding of Security Hub's: sessions are opened.
        let target = broken(world, &account, "public-bucket").await;
        let finding = asff(&account, world.region(), &target.arn, Timestamp::now());
        let known = security_hub_event(&account, world.region(), &[finding], None).to_string();
        let mark = record.mark();
        world.send_raw(&known).await;
        world.comes_to(&account, &target.arn, "Verified").await;
        let first = calls(world, mark).await;
        insta::assert_snapshot!("s3_8_first_in_an_account", shown(&first));
        assert_eq!(sessions(&first), SESSIONS, "{}", shown(&first));
        assert!(admin_side(&first) <= BUDGET + SESSIONS, "{} calls:\n{}", admin_side(&first), shown(&first));

        // The same in an account whose sessions are open.
        let target = broken(world, &account, "public-bucket").await;
        let finding = asff(&account, world.region(), &target.arn, Timestamp::now());
        let mark = record.mark();
        world.send_raw(&security_hub_event(&account, world.region(), &[finding], None).to_string()).await;
        world.comes_to(&account, &target.arn, "Verified").await;
        let next = calls(world, mark).await;
        assert_eq!(sessions(&next), 0, "{}", shown(&next));
        assert!(admin_side(&next) <= BUDGET, "{} calls:\n{}", admin_side(&next), shown(&next));

        let target = broken(world, &account, "public-bucket").await;
        let name = target.arn.rsplit(':').next().unwrap();
        let message = config_event(&account, world.region(), name, Timestamp::now()).to_string();
        let mark = record.mark();
        world.send_raw(&message).await;
        let records = world.comes_to(&account, &target.arn, "Verified").await;
        let warm = calls(world, mark).await;
        insta::assert_snapshot!("s3_8_by_config", shown(&warm));
        assert!(admin_side(&warm) < BUDGET, "{}", shown(&warm));

        let mark = record.mark();
        world.undo(&target, &World::id_of(&records, "Verified")).await;
        insta::assert_snapshot!("s3_8_undo", shown(&calls(world, mark).await));

        let mark = record.mark();
        world.remediate(&target, Mode::DryRun).await;
        insta::assert_snapshot!("s3_8_dry_run", shown(&calls(world, mark).await));

        let target = broken(world, &account, "open-ssh").await;
        let mark = record.mark();
        world.remediate(&target, Mode::Apply).await;
        let native = calls(world, mark).await;
        insta::assert_snapshot!("ec2_13_native", shown(&native));
        assert!(admin_side(&native) < BUDGET, "{}", shown(&native));

        // Twenty times what was dealt with: a read each. Last, because they start more processes.
        let mark = record.mark();
        for _ in 0..20 {
            world.send_raw(&known).await;
        }
        insta::assert_snapshot!("twenty_duplicates", shown(&calls(world, mark).await));
    });
}
