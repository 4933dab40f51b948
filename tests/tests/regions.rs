//! A second Region: what is found there is repaired there, by the orchestrator of the home Region. That Region is Security
//! Hub's aggregation Region, too, and so tells of each failure besides the member's Config.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_common::names;
use redress_lab::bed::Bed;
use redress_lab::organisation::Plan;
use redress_lab::record::Call;
use redress_lab::scenario;
use redress_lab::service::Credentials;
use redress_tests::world::{World, options, root};
use serde_json::{Value, json};

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
        let admin = world.bed.organisation.administrator.id.to_string();
        let call = async |account: &str, region: &str, service: &str, operation: &str, parameters: Value| {
            lab.aws().call(&Credentials::root(account), region, service, operation, parameters).await.unwrap()
        };
        let hub = async |region: &str, operation: &str, parameters: Value| {
            call(admin.as_str(), region, "securityhub", operation, parameters).await
        };
        hub(THERE, "EnableSecurityHub", json!({})).await;
        let linked = json!({ "RegionLinkingMode": "SPECIFIED_REGIONS", "Regions": [THERE] });
        let aggregator = hub(world.region(), "CreateFindingAggregator", linked).await;
        let named = json!({ "FindingAggregatorArn": aggregator["FindingAggregatorArn"] });
        assert_eq!(hub(THERE, "GetFindingAggregator", named).await["Regions"], json!([THERE]));
        for (control, name, both) in [("EC2.13", "open-ssh", true), ("EC2.7", "ebs-encryption-off", false)] {
            if !both {
                // Only the aggregation Region tells of it.
                let rule = json!({ "Name": "redress-forward-config" });
                call(account.as_str(), THERE, "events", "DisableRule", rule).await;
            }
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
            if both {
                // Security Hub sees for itself. Otherwise the finding is Security Hub's own, and Redress resolves it.
                scenario::notice(lab.aws(), &broken).await.unwrap();
            }
            let is = |value: &str| json!([{ "Comparison": "EQUALS", "Value": value }]);
            let asked = json!({ "Filters": {
                "AwsAccountId": is(account.as_str()), "Region": is(THERE), "ComplianceSecurityControlId": is(control),
            } });
            for region in [THERE, world.region()] {
                let what = format!("the findings of {control} in {THERE} are resolved in {region}");
                world
                    .eventually(&what, async || {
                        let found = hub(region, "GetFindings", asked.clone()).await;
                        let findings = found["Findings"].as_array()?;
                        let resolved = findings.iter().all(|finding| finding["Workflow"]["Status"] == "RESOLVED");
                        (resolved && !findings.is_empty()).then_some(())
                    })
                    .await;
            }
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
        // Both ways came to the orchestrator's queue, and findings are updated where they were heard of.
        let deliveries = lab.record().deliveries();
        for (rule, least) in [("/redress-config", 1), ("/redress-securityhub-imported", 2)] {
            let came = deliveries.iter().filter(|sent| sent.rule_arn.ends_with(rule) && sent.error.is_none()).count();
            assert!(came >= least, "{rule}: {came} of {least}");
        }
        let updates = calls.iter().filter(|call| call.operation == "BatchUpdateFindings");
        let updates: Vec<(&str, u16)> = updates.map(|call| (call.region.as_str(), call.status)).collect();
        assert!(!updates.is_empty() && updates.iter().all(|made| *made == (world.region(), 200)), "{updates:?}");
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
