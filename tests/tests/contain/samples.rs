//! GuardDuty's own sample findings, of every type that a playbook names, go the whole way and change nothing.

use std::collections::BTreeMap;

use redress_common::arn::Arn;
use redress_common::catalogue::Catalogue;
use redress_common::finding::Check;
use redress_lab::services::guardduty::TYPES;
use redress_tests::world::root;

use super::*;

/// So many samples are asked for at once: what is waited for takes seconds, not minutes.
const AT_ONCE: usize = 20;

fn catalogue() -> Catalogue {
    let text = std::fs::read_to_string(root().join("ssm-documents/catalogue.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The finding types that playbooks name, as their files write them.
fn patterns(catalogue: &Catalogue) -> BTreeSet<String> {
    let playbooks = catalogue.0.values().filter(|entry| entry.direct.is_some());
    playbooks.flat_map(|entry| entry.guardduty_types.iter().cloned()).collect()
}

fn is_named(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == kind, |start| kind.starts_with(start))
}

#[test]
fn guardduty_has_a_sample_for_every_type_that_a_playbook_names() {
    for pattern in patterns(&catalogue()) {
        assert!(TYPES.iter().any(|kind| is_named(&pattern, kind.name)), "no type of GuardDuty's is {pattern}");
    }
}

/// The prompt that a guardrail stopped may be anybody's who may write to the application, and so would be its outage.
#[test]
fn the_caller_of_a_model_is_contained_for_what_it_did_and_not_for_what_it_was_told() {
    let catalogue = catalogue();
    for (principal, control) in [("user/alice", "Contain.IAMUser"), ("role/agent", "Contain.IAMRole")] {
        let arn: Arn = format!("arn:aws:iam::111122223333:{principal}").parse().unwrap();
        let answers = |kind: &str| {
            let (id, _) = catalogue.resolve_on(&Check::GuardDutyType(kind.to_owned()), &arn)?;
            Some(id.to_string())
        };
        for kind in ["Impact:IAMUser/AnomalousModelInvocation", "Impact:IAMUser/CostHarvesting"] {
            assert_eq!(answers(kind).as_deref(), Some(control), "{kind}");
        }
        assert_eq!(answers("Impact:IAMUser/PromptInjection.Direct"), None);
    }
}

#[test]
fn every_sample_goes_the_whole_way_marked_as_one_and_changes_nothing() {
    in_turn(async |world| {
        let account = world.member("sampled");
        let told = Notifications::new();
        told.subscribe(world).await;
        let guardduty =
            async |operation: &str, asked: Value| call(world, &account, "guardduty", operation, asked).await;
        let detector = guardduty("CreateDetector", json!({ "Enable": true })).await["DetectorId"].clone();
        let catalogue = catalogue();
        let named: Vec<&str> = TYPES
            .iter()
            .map(|kind| kind.name)
            .filter(|name| patterns(&catalogue).iter().any(|pattern| is_named(pattern, name)))
            .collect();
        assert!(named.len() > 100, "{}", named.len());
        let mark = world.bed.lab.record().mark();

        let mut ways: BTreeMap<String, usize> = BTreeMap::new();
        let mut known: BTreeSet<String> = BTreeSet::new();
        for some in named.chunks(AT_ONCE) {
            let since = Timestamp::now().as_millisecond() - 1000;
            guardduty("CreateSampleFindings", json!({ "DetectorId": detector, "FindingTypes": some })).await;
            let listed = guardduty("ListFindings", json!({ "DetectorId": detector })).await["FindingIds"].clone();
            let ids: Vec<String> = serde_json::from_value(listed).unwrap();
            let fresh: Vec<String> = ids.into_iter().filter(|id| !known.contains(id)).collect();
            assert_eq!(fresh.len(), some.len());
            let asked = json!({ "DetectorId": detector, "FindingIds": fresh });
            let findings = guardduty("GetFindings", asked).await["Findings"].clone();
            for finding in findings.as_array().unwrap() {
                let (id, kind) = (finding["Id"].as_str().unwrap(), finding["Type"].as_str().unwrap());
                let way = way_of(world, (&account, since), &catalogue, (id, kind)).await;
                *ways.entry(way).or_default() += 1;
            }
            known.extend(fresh);
        }
        println!("{} types: {ways:#?}", named.len());
        // Each of the playbooks that GuardDuty can call, and what none answers to: the account under a sequence.
        for way in [
            "Contain.EC2Instance",
            "Contain.EKSCluster",
            "Contain.EKSPrincipal",
            "Contain.IAMRole",
            "Contain.IAMUser",
            "Contain.LambdaFunction",
            "Contain.RDSInstance",
            "Contain.S3Bucket",
            "told",
        ] {
            assert!(ways.contains_key(way), "{way}: {ways:#?}");
        }

        quiet(world).await;
        assert_eq!(world.changes_since(&account, mark), [""; 0]);
        let instance = format!("arn:aws:ec2:{}:{account}:instance/i-99999999", world.region());
        // The parts of the sequence are samples, too.
        let records = world.ledger_about(&instance).await;
        let parts =
            records.iter().filter(|record| record["FindingId"].as_str().unwrap().ends_with(&format!("#{instance}")));
        assert!(parts.clone().count() >= 3 && parts.clone().all(|record| record["Detail"]["Sample"] == "true"));
        let messages = told.about(world, &instance).await;
        assert!(!messages.is_empty());
        for (message, attributes) in messages {
            assert_eq!((&message["Sample"], &attributes["Urgency"]["Value"]), (&json!(true), &json!("normal")));
            assert!(message["Finding"].as_str().unwrap().starts_with("[SAMPLE] "), "{message:#}");
            assert!(message["NextStep"].as_str().unwrap().starts_with("The way works."), "{message:#}");
        }

        // Nobody has an incident of it.
        let list = ["case", "list", "--account", &account, "--json"];
        let is_of_it =
            |case: &&Value| case["Resources"].as_array().unwrap().iter().any(|one| one["Resource"] == instance);
        let about = |cases: &Value| cases.as_array().unwrap().iter().filter(is_of_it).count();
        assert_eq!(about(&redress(world, &list).await), 0);
        let samples = redress(world, &[&list[..], &["--samples"]].concat()).await;
        assert_eq!(about(&samples), 1, "{samples:#}");
        let why = redress(world, &["why", records[0]["RemediationId"].as_str().unwrap(), "--json"]).await;
        assert_eq!(why["Sample"], true, "{why:#}");
        verified(world, &account).await;
    });
}

/// Where the sample of a type ends: its control, or `told` where no playbook answers to it.
async fn way_of(
    world: &World,
    (account, since): (&str, i64),
    catalogue: &Catalogue,
    (id, kind): (&str, &str),
) -> String {
    let ends = |record: &Value| record["FindingId"] == id && record["ExecutionStatus"] == "Notified";
    let what = format!("the sample of {kind} ends");
    let mut records = world.ledger_since_when(account, since, &what, ends).await;
    records.retain(|record| record["FindingId"] == id);
    let ended = Ended { id: World::id_of(&records, "Notified"), records };
    let (last, detail) = (ended.last(), &ended.last()["Detail"]);
    assert!(ended.records.iter().all(|record| record["Detail"]["Sample"] == "true"), "{kind}: {ended:#?}");
    assert_eq!(
        (ended.states().last(), &last["NotificationSent"]),
        (Some(&"Notified"), &json!(true)),
        "{kind}: {ended:#?}"
    );
    let arn: Arn = last["ResourceId"].as_str().unwrap().parse().unwrap();
    match catalogue.resolve_on(&Check::GuardDutyType(kind.to_owned()), &arn) {
        Some((control, _)) => {
            assert_eq!(ended.states(), ["Planned", "Claimed", "Notified"], "{kind}: {ended:#?}");
            assert_eq!((&detail["Control"], &detail["Mode"]), (&json!(control), &json!("DryRun")), "{kind}");
            assert_eq!((ended.outcome(), ended.error()), ("NotFound", ""), "{kind}: {ended:#?}");
            control.to_string()
        }
        None => {
            assert_eq!(ended.code(), "unknown-control", "{kind}: {ended:#?}");
            "told".to_owned()
        }
    }
}

#[test]
fn the_finding_that_a_sample_only_pretended_is_contained_when_it_is_real() {
    in_turn(async |world| {
        let account = world.member("sampled");
        let target = instance(world, &account, json!([])).await;
        let real = finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0);
        let mut sample = real.clone();
        sample["detail"]["service"]["additionalInfo"] = json!({ "value": "{\"sample\":true}", "type": "default" });
        let (before, mark) = (state(world, &target).await, world.bed.lab.record().mark());
        world.send_raw(&sample.to_string()).await;
        let tried = done(world, &target, "Notified").await;
        assert_eq!((tried.outcome(), tried.error()), ("Planned", ""));
        assert_eq!(state(world, &target).await, before);
        assert_eq!(world.changes_since(&account, mark), [""; 0]);

        // The very same, but for the mark: same id, same moment.
        world.send_raw(&real.to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.error(), "");
        assert!(is_isolated(&state(world, &target).await));
        // And a sample changes nothing of what is contained.
        let after = state(world, &target).await;
        world.send_raw(&updated(&sample).to_string()).await;
        quiet(world).await;
        assert_eq!(state(world, &target).await, after);
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
    });
}
