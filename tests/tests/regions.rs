//! A second Region: what is found there is repaired there, by the orchestrator of the home Region.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_common::names;
use redress_lab::bed::Bed;
use redress_lab::organisation::Plan;
use redress_lab::record::Call;
use redress_lab::scenario;
use redress_tests::world::{World, options, root};
use serde_json::json;

const THERE: &str = "eu-west-1";

#[test]
fn what_is_found_in_a_second_region_is_repaired_there() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = options(&["payments"]);
    let mut plan = Plan::of(&root(), &["payments"], options.progress.clone()).unwrap();
    plan.further_regions = vec![THERE.parse().unwrap()];
    let bed = runtime.block_on(Bed::start_planned(options, plan)).unwrap();
    let world = World::of(runtime, bed);
    world.run(async {
        let (lab, account) = (&world.bed.lab, world.bed.organisation.members[0].id.clone());
        for (control, name) in [("EC2.13", "open-ssh"), ("EC2.7", "ebs-encryption-off")] {
            let broken = scenario::run(name, lab.aws(), &account, &THERE.parse().unwrap()).await.unwrap();
            let resource = broken.resource_arn.as_str();
            let what = format!("{control} is repaired in {THERE}");
            let records = world
                .ledger_when(account.as_str(), &what, |record| {
                    record["ResourceId"] == resource && record["ExecutionStatus"] == "Verified"
                })
                .await;
            let planned = records.iter().find(|record| record["ResourceId"] == resource).unwrap();
            let detail = planned["Detail"].to_string();
            assert!(detail.contains(THERE) && !detail.contains("PermanentRedirect"), "{planned:#}");
        }
        let calls = lab.record().calls();
        for effect in ["RevokeSecurityGroupIngress", "EnableEbsEncryptionByDefault"] {
            let ours = |call: &&Call| call.operation == effect && call.principal.contains(":assumed-role/");
            let made = calls.iter().filter(ours);
            let made: Vec<(&str, u16)> = made.map(|call| (call.region.as_str(), call.status)).collect();
            assert_eq!(made, [(THERE, 200)], "{effect}");
        }
        let runs = calls
            .iter()
            .filter(|call| call.operation == "StartAutomationExecution" && call.account == account.as_str());
        let regions: Vec<&str> = runs.map(|call| call.region.as_str()).collect();
        assert!(!regions.is_empty() && regions.iter().all(|region| *region == THERE), "{regions:?}");
        // Each function asks the STS of the Region that it runs in. At which host is seen in `member_session.rs`: the lab's is one.
        let asked = calls.iter().filter(|call| call.operation == "AssumeRole" && call.function.is_some());
        let asked: Vec<(&Option<String>, &str)> = asked.map(|call| (&call.function, call.region.as_str())).collect();
        assert!(!asked.is_empty() && asked.iter().all(|(_, region)| *region == world.region()), "{asked:?}");
        // The evidence is at home, and nothing was refused on the way.
        let bucket = names::evidence_bucket(&account, &world.bed.organisation.region);
        let kept = world.call(account.as_str(), "s3", "ListObjectsV2", json!({ "Bucket": bucket })).await.unwrap();
        assert_eq!(kept["KeyCount"], 2, "{kept:#}");
        let refused: Vec<_> = calls
            .iter()
            .filter(|call| call.error.as_deref().is_some_and(|code| code.starts_with("AccessDenied")))
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
    });
}
