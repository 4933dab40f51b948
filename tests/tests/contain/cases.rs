//! One incident over several resources is one case: told, shown, exported and closed as one.

use super::*;

/// What people were told of a resource that is contained.
async fn triage(world: &World, told: &Notifications, target: &Target) -> Value {
    let messages = told.when(world, &target.arn, "Success").await;
    messages.iter().find(|(message, _)| message["Status"] == "Success").unwrap().0["Triage"].clone()
}

/// A bucket that anybody may read.
async fn public_bucket(world: &World, account: &str) -> Target {
    let bucket = format!("leaks-{}", Uuid::new_v4().simple());
    call(world, account, "s3", "CreateBucket", json!({ "Bucket": bucket })).await;
    drop(world.call(account, "s3", "DeletePublicAccessBlock", json!({ "Bucket": bucket })).await);
    let read = json!({ "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{bucket}/*") });
    let policy = json!({ "Version": "2012-10-17", "Statement": [read] }).to_string();
    call(world, account, "s3", "PutBucketPolicy", json!({ "Bucket": bucket, "Policy": policy })).await;
    Target {
        account: account.to_owned(),
        control: "Contain.S3Bucket".to_owned(),
        arn: format!("arn:aws:s3:::{bucket}"),
    }
}

#[test]
fn a_sequence_of_attacks_and_what_its_actor_did_before_are_one_case() {
    in_turn(async |world| {
        let account = world.member("cases");
        let told = Notifications::new();
        told.subscribe(world).await;
        let machine = instance(world, &account, json!([{ "Key": "Owner", "Value": "web team" }])).await;
        let bucket = public_bucket(world, &account).await;
        let before = state(world, &machine).await;
        let role_name = before["Groups"].as_object().unwrap().values().next().unwrap()[0].clone();
        let role = Target {
            account: account.clone(),
            control: "Contain.IAMRole".to_owned(),
            arn: format!("arn:aws:iam::{account}:role/{}", role_name.as_str().unwrap()),
        };

        // First the instance's role is seen where it should not be.
        let event = of_principal(world, &role, "Recon:IAMUser/TorIPCaller", "AssumedRole");
        world.send_raw(&event.to_string()).await;
        let first = done(world, &role, "Verified").await;
        let alone = triage(world, &told, &role).await;
        assert_eq!((&alone["CaseId"], &alone["Related"]), (&json!(first.id), &json!(0)), "{alone:#}");

        // Then GuardDuty sees the whole of it.
        let mut event = finding(world, &machine, "AttackSequence:S3/CompromisedData", 8.0);
        event["detail"]["resource"] = json!({ "resourceType": "AttackSequence" });
        event["detail"]["service"]["detection"] = json!({ "sequence": {
            "uid": "s-1", "description": "d", "signals": [],
            "actors": [{ "id": "a-1", "user": { "name": role_name, "type": "AssumedRole", "uid": "AROAEXAMPLE", "credentialUid": "ASIAEXAMPLE" } }],
            "resources": [
                { "uid": machine.arn, "resourceType": "EC2_INSTANCE" }, { "uid": bucket.arn, "resourceType": "S3_BUCKET" },
            ],
        } });
        world.send_raw(&event.to_string()).await;
        let mut ids = vec![first.id.clone()];
        for target in [&machine, &bucket] {
            let contained = done(world, target, "Verified").await;
            assert_eq!(contained.error(), "");
            let known = triage(world, &told, target).await;
            let related = (&known["CaseId"], &known["Related"], &known["Types"], &known["Uncontained"]);
            let types = json!(["Recon:IAMUser/TorIPCaller"]);
            assert_eq!(related, (&json!(first.id), &json!(1), &types, &json!([])), "{known:#}");
            assert!(known["Exposure"].is_array(), "{known:#}");
            if target.arn == machine.arn {
                assert_eq!(known["Owner"], "web team", "{known:#}");
            }
            if target.arn == bucket.arn {
                assert_eq!(known["Exposure"].as_array().unwrap().len(), 1, "{known:#}");
            }
            let kept = contained.last()["Detail"]["Triage"].as_str().unwrap().to_owned();
            assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), known, "what they were told is in the ledger");
            ids.push(contained.id);
        }
        quiet(world).await;

        let cases = redress(world, &["case", "list", "--account", &account, "--json"]).await;
        assert_eq!(cases.as_array().unwrap().len(), 1, "{cases:#}");
        let case = &cases[0];
        assert_eq!((&case["CaseId"], &case["Standing"]), (&json!(first.id), &json!("Contained")), "{case:#}");
        let resources: BTreeSet<&str> =
            case["Resources"].as_array().unwrap().iter().map(|one| one["Resource"].as_str().unwrap()).collect();
        assert_eq!(resources, BTreeSet::from([role.arn.as_str(), &machine.arn, &bucket.arn]));
        for id in &ids {
            let shown = redress(world, &["case", "show", id, "--json"]).await;
            assert_eq!(shown["Case"]["CaseId"], case["CaseId"], "whichever of its remediations one names");
        }
        let why = redress(world, &["why", &ids[2], "--json"]).await;
        assert_eq!(why["Exposure"].as_array().map(Vec::len), Some(1), "{why:#}");

        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("case");
        let taken = redress(world, &["case", "export", &ids[1], "--to", to.to_str().unwrap(), "--json"]).await;
        // Of each its evidence and its custody document; of the bucket what it held, too, as it lies there and opened.
        assert_eq!(taken["Files"].as_array().unwrap().len(), 2 + 2 * ids.len() + 2, "{taken:#}");

        let closed = redress(world, &["case", "close", &ids[2], "--reason", "rebuilt", "--json"]).await;
        assert_eq!(closed["Closed"].as_array().unwrap().len(), 3, "{closed:#}");
        let shown = redress(world, &["case", "show", &first.id, "--json"]).await;
        assert_eq!((&shown["Case"]["Standing"], &shown["Case"]["CaseId"]), (&json!("Closed"), &case["CaseId"]));
        let standings: Vec<&Value> =
            shown["Case"]["Resources"].as_array().unwrap().iter().map(|one| &one["Standing"]).collect();
        assert_eq!(standings, [&json!("Closed"); 3]);
        assert!(is_isolated(&state(world, &machine).await), "the instance stays contained");
    });
}
