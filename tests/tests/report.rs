//! What `redress report` says of a ledger that the real functions wrote: exactly what was done, and that the chains hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_common::contract::Mode;
use redress_common::names;
use redress_tests::ask::Target;
use redress_tests::world::{World, world};
use serde_json::{Value, json};

fn the_world() -> &'static World {
    world(&["reported"])
}

async fn broken(world: &World, account: &str, scenario: &str) -> Target {
    let broken = world.break_only(scenario, account).await;
    Target { account: account.to_owned(), control: broken.control.to_string(), arn: broken.resource_arn.to_string() }
}

/// The role that changes resources may not close a port any more.
async fn forbid_closing_ports(world: &World, account: &str) {
    let mut lines = world.grants(account, |role| role == names::REMEDIATE_ROLE).await;
    lines.retain(|line| line.action == "ec2:RevokeSecurityGroupIngress");
    lines.dedup_by_key(|line| line.policy.clone());
    for line in lines {
        let whole = world.role_policy(account, &line.role, &line.policy).await;
        let text = whole.to_string().replace("ec2:RevokeSecurityGroupIngress", "ec2:DescribeSecurityGroups");
        world.put_role_policy(&line, &serde_json::from_str(&text).unwrap()).await;
    }
}

async fn report(world: &World, arguments: &[&str]) -> Value {
    let all: Vec<String> = ["report", "--json"].iter().chain(arguments).map(ToString::to_string).collect();
    let output = world.redress(&all, &[]).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_fix_a_failure_and_an_undo_are_reported_as_what_they_are() {
    let world = the_world();
    world.run(async {
        let account = world.member("reported");
        let kept = broken(world, &account, "public-bucket").await;
        let fixed = world.remediate(&kept, Mode::Apply).await;
        assert_eq!(fixed.last()["ExecutionStatus"], "Verified", "{}", fixed.error());
        let other = broken(world, &account, "public-bucket").await;
        let undone = world.remediate(&other, Mode::Apply).await;
        world.undo(&other, &undone.id).await;
        let open = broken(world, &account, "open-ssh").await;
        forbid_closing_ports(world, &account).await;
        let failed = world.remediate(&open, Mode::Apply).await;
        assert_eq!(failed.outcome(), "Failed", "{}", failed.error());

        let one_account = ["--account", account.as_str()];
        for limits in [&[] as &[&str], &one_account] {
            let report = report(world, limits).await;
            assert_eq!(report["Verification"]["Verdict"], "Verified", "{limits:?}: {:#}", report["Verification"]);
            let (figures, all) = (&report["Figures"], &report["Figures"]["All"]);
            assert_eq!(all["Attempts"], 3, "{limits:?}: {figures:#}");
            assert_eq!((&all["Ends"]["Fixed"], &all["Ends"]["Failed"]), (&json!(2), &json!(1)));
            let rate = |part: u64, of: u64, value: f64| json!({ "Part": part, "Of": of, "Value": value });
            assert_eq!(all["Success"], rate(2, 3, 0.6667));
            assert_eq!(all["Failure"], rate(1, 3, 0.3333));
            assert_eq!(all["Undo"], rate(1, 3, 0.3333));
            assert_eq!(all["Repeat"], rate(0, 2, 0.0));
            assert_eq!(all["Backlog"], rate(1, 3, 0.3333), "what was undone is a person's decision");
            assert_eq!(all["SinceEvent"]["Count"], 2);
            assert_eq!(figures["Undos"]["PutBack"], 1);
            assert_eq!(figures["Saved"]["Runs"], 4, "three fixes and an undo");
            let items = report["Evidence"]["Controls"]["S3.8"]["Items"].as_array().unwrap();
            let shows = |what: &str, id: &str| {
                items
                    .iter()
                    .any(|item| item["Shows"] == what && item["RemediationId"] == id && item["EvidenceKey"] != "")
            };
            assert!(
                shows("Fixed", &fixed.id) && shows("Undone", &undone.id) && shows("Declined", &undone.id),
                "{items:#?}"
            );
            assert_eq!(report["Evidence"]["Controls"][&open.control]["Open"], 1);
        }

        let folder = tempfile::tempdir().unwrap();
        let (page, tables) = (folder.path().join("report.html"), folder.path().join("tables"));
        let arguments = ["report", "--html", page.to_str().unwrap(), "--csv", tables.to_str().unwrap()];
        let output = world.redress(&arguments.map(str::to_owned), &[]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.contains("Records verified: yes."));
        for id in [&fixed.id, &undone.id, &failed.id] {
            assert!(page.contains(id), "{id}");
        }
        let evidence = std::fs::read_to_string(tables.join("evidence.csv")).unwrap();
        assert!(evidence.contains(&fixed.id) && evidence.contains("security-remediation-logs-"));
    });
}
