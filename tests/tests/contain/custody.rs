//! What is kept of an incident: where it lies, who took it, and that nobody changes it.

use std::collections::BTreeMap;

use redress_common::custody::{self, CUSTODY, Custody, ItemKind, OBJECTS};
use redress_common::ids::RemediationId;
use redress_common::ledger::sha256_hex;
use redress_lab::service::AwsError;
use redress_lab::template::{Stack, Template};
use redress_tests::incident::lone_instance;
use redress_tests::world::root;

use super::*;

fn evidence_bucket(world: &World, account: &str) -> String {
    names::evidence_bucket(&account.parse().unwrap(), &world.bed.organisation.region)
}

fn key(id: &str, name: &str) -> String {
    custody::key(id.parse::<RemediationId>().unwrap(), name)
}

async fn s3(world: &World, account: &str, operation: &str, key: &str, more: Value) -> Result<Value, AwsError> {
    let mut asked = json!({ "Bucket": evidence_bucket(world, account), "Key": key });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.call(account, "s3", operation, asked).await
}

async fn body(world: &World, account: &str, key: &str, more: Value) -> Vec<u8> {
    let got = s3(world, account, "GetObject", key, more).await.unwrap_or_else(|error| panic!("{key}: {error}"));
    got["Body"].as_str().unwrap().as_bytes().to_vec()
}

/// The custody document of a remediation, whose hashes are those of what lies there.
async fn custody_of(world: &World, account: &str, id: &str) -> Custody {
    let custody: Custody = serde_json::from_slice(&body(world, account, &key(id, CUSTODY), json!({})).await).unwrap();
    let of = &custody.evidence;
    let evidence = body(world, account, &of.key, json!({ "VersionId": of.version_id })).await;
    assert_eq!((sha256_hex(&evidence), of.bucket.clone()), (of.sha256.clone(), evidence_bucket(world, account)));
    for item in custody.items.iter().filter(|item| item.kind == ItemKind::ObjectListing) {
        let listing = body(world, account, &item.id, json!({ "VersionId": item.version_id })).await;
        assert_eq!(sha256_hex(&listing), item.sha256);
    }
    custody
}

/// Under lock for a year, and the account's administrator cannot delete it in passing.
async fn is_locked(world: &World, account: &str, key: &str) {
    let held = s3(world, account, "GetObjectRetention", key, json!({})).await.unwrap()["Retention"].clone();
    assert_eq!(held["Mode"], "GOVERNANCE", "{held}");
    let until: Timestamp = held["RetainUntilDate"].as_str().unwrap().parse().unwrap();
    let days = (until.as_second() - Timestamp::now().as_second()) / 86_400;
    assert!((363..=365).contains(&days), "{until}");
    let version = s3(world, account, "GetObject", key, json!({})).await.unwrap()["VersionId"].clone();
    let gone = s3(world, account, "DeleteObject", key, json!({ "VersionId": version })).await;
    assert!(gone.is_err(), "{key} was deleted");
    body(world, account, key, json!({})).await;
}

/// As `MemoryCaptureDocument` of the member stack does: the function is told the document's name, and its role gets the
/// template's own statements for it.
async fn captures_memory(world: &World, account: &str, document: &str) {
    let text = std::fs::read_to_string(root().join("stacksets/member-stack.yaml")).unwrap();
    let template = Template::parse(&text).unwrap();
    let role = template.resources().find(|(id, _, _)| *id == "ContainEC2Role").unwrap().2;
    let partition = world.bed.organisation.region.to_string();
    let parameters = [
        ("AWS::AccountId", account),
        ("AWS::Region", partition.as_str()),
        ("AWS::Partition", "aws"),
        ("MemoryCaptureDocument", document),
    ];
    let stack = Stack {
        parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Stack::default()
    };
    let statements = role["Policies"].as_array().unwrap().iter();
    let statements = statements.filter_map(|policy| policy["PolicyDocument"]["Statement"].as_array()).flatten();
    let of_it: Vec<Value> = statements
        .filter(|one| one["Fn::If"][0] == "CapturesMemory")
        .map(|one| template.resolve(&one["Fn::If"][1], &stack).unwrap().unwrap())
        .collect();
    assert_eq!(of_it.len(), 2, "{of_it:#?}");
    let policy = json!({ "Version": "2012-10-17", "Statement": of_it }).to_string();
    let role = names::contain_role("EC2");
    let granted = json!({ "RoleName": role, "PolicyName": "memory", "PolicyDocument": policy });
    call(world, account, "iam", "PutRolePolicy", granted).await;
    let function = names::contain_function("EC2");
    let now = call(world, account, "lambda", "GetFunctionConfiguration", json!({ "FunctionName": function })).await;
    let mut variables = now["Environment"]["Variables"].clone();
    assert_eq!(variables["MEMORY_CAPTURE_DOCUMENT"], "", "{now:#}");
    variables["MEMORY_CAPTURE_DOCUMENT"] = json!(document);
    let told = json!({ "FunctionName": function, "Environment": { "Variables": variables } });
    call(world, account, "lambda", "UpdateFunctionConfiguration", told).await;
}

#[test]
fn memory_is_captured_before_isolation_where_a_document_is_named() {
    in_turn(async |world| {
        const DOCUMENT: &str = "Memory-Linux";
        let account = world.member("remembered");
        let step = json!({ "action": "aws:runShellScript", "name": "capture", "inputs": { "runCommand": ["avml /evidence"] } });
        let content = json!({ "schemaVersion": "2.2", "mainSteps": [step] }).to_string();
        let document =
            json!({ "Name": DOCUMENT, "DocumentType": "Command", "DocumentFormat": "JSON", "Content": content });
        captures_memory(world, &account, DOCUMENT).await;

        // The document is not there: that is told, and the instance is isolated all the same.
        let early = lone_instance(world, &account, json!([])).await;
        world.send_raw(&finding(world, &early, "Backdoor:EC2/C&CActivity.B", 8.0).to_string()).await;
        let failed = done(world, &early, "Verified").await;
        assert!(failed.error().contains("InvalidDocument"), "{}", failed.error());
        assert!(is_isolated(&state(world, &early).await));

        call(world, &account, "ssm", "CreateDocument", document).await;
        let target = lone_instance(world, &account, json!([])).await;
        let mark = world.bed.lab.record().mark();
        world.send_raw(&finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0).to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.error(), "");
        assert!(is_isolated(&state(world, &target).await));
        let calls = calls_of(world, &names::contain_role("EC2"), mark);
        let at = |operation: &str| {
            calls.iter().position(|call| call.operation == operation).unwrap_or_else(|| panic!("{operation}"))
        };
        assert!(at("SendCommand") < at("ModifyNetworkInterfaceAttribute"), "the agent is cut off after it");
        assert!(at("GetCommandInvocation") < at("ModifyNetworkInterfaceAttribute"), "its end is waited for");
        quiet(world).await;
        let custody = custody_of(world, &account, &contained.id).await;
        let memory: Vec<&str> = custody
            .items
            .iter()
            .filter(|item| item.kind == ItemKind::MemoryCapture)
            .map(|item| item.detail.as_str())
            .collect();
        assert_eq!(memory, ["Memory-Linux: Success"]);
        assert!(world.denied().iter().all(|call| !call.principal.contains("Redress-Contain")), "{:#?}", world.denied());
        for one in [&early, &target] {
            let undone = world.undo(one, &World::id_of(&world.ledger_about(&one.arn).await, "Claimed")).await;
            assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        }
        verified(world, &account).await;
    });
}

#[test]
fn what_was_taken_of_an_instance_is_kept_with_its_custody() {
    in_turn(async |world| {
        let account = world.member("custody");
        let target = instance(world, &account, json!([])).await;
        world.send_raw(&finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0).to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.error(), "");
        quiet(world).await;

        let custody = custody_of(world, &account, &contained.id).await;
        assert_eq!((custody.resource_arn.to_string(), custody.mode), (target.arn.clone(), Mode::Apply));
        assert_eq!((custody.account_id.as_str(), custody.outcome), (account.as_str(), Outcome::Verified));
        assert!(custody.executed_by.contains(":function:redress-contain-ec2"), "{}", custody.executed_by);
        assert!(custody.began <= custody.ended);
        let own = json!({ "Filters": [{ "Name": "tag:redress:contained", "Values": [contained.id] }] });
        let found = call(world, &account, "ec2", "DescribeSnapshots", own).await["Snapshots"].clone();
        let taken: BTreeMap<String, String> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let tags = one["Tags"].as_array().unwrap();
                let when = tags.iter().find(|tag| tag["Key"] == "redress:taken").unwrap();
                (one["SnapshotId"].as_str().unwrap().to_owned(), when["Value"].as_str().unwrap().to_owned())
            })
            .collect();
        let named: BTreeMap<String, String> = custody
            .items
            .iter()
            .map(|item| {
                assert_eq!(item.kind, ItemKind::EbsSnapshot);
                let when = item.detail.split_once(", ").unwrap().1.split(' ').next().unwrap();
                (item.id.clone(), when.to_owned())
            })
            .collect();
        assert_eq!(named, taken);
        let when: Vec<&str> = taken.values().map(String::as_str).collect();
        assert!(when.contains(&"before") && when.contains(&"after"), "{taken:?}");
        is_locked(world, &account, &key(&contained.id, CUSTODY)).await;

        let show = ["case", "show", contained.id.as_str(), "--json"];
        let shown = redress(world, &show).await;
        let held = shown["Custody"].as_array().unwrap();
        assert_eq!((held.len(), &shown["CustodyUnread"], &held[0]["Altered"]), (1, &Value::Null, &json!([])));
        assert_eq!(serde_json::from_value::<Custody>(held[0]["Document"].clone()).unwrap(), custody);
        let lock = s3(world, &account, "GetObjectRetention", &key(&contained.id, CUSTODY), json!({})).await.unwrap();
        let until: Timestamp = lock["Retention"]["RetainUntilDate"].as_str().unwrap().parse().unwrap();
        let told: Timestamp = held[0]["LockedUntil"][CUSTODY].as_str().unwrap().parse().unwrap();
        assert_eq!(told.as_second(), until.as_second());
        // Who may not read it is shown the case all the same.
        let denied = world.redress(&show.map(str::to_owned), &[]).await;
        assert!(denied.status.success(), "{}", String::from_utf8_lossy(&denied.stderr));
        let denied: Value = serde_json::from_slice(&denied.stdout).unwrap();
        assert_eq!((&denied["Case"], &denied["Custody"]), (&shown["Case"], &Value::Null));
        assert!(denied["CustodyUnread"].as_str().unwrap().starts_with("not readable as you; "), "{denied:#}");

        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
        let given_back = custody_of(world, &account, &undone.id).await;
        assert_eq!((given_back.outcome, given_back.items.len()), (Outcome::Restored, 0));
    });
}

#[test]
fn what_a_bucket_held_is_listed_sealed_and_exported_with_the_case() {
    in_turn(async |world| {
        let account = world.member("custody");
        let bucket = format!("leaks-{}", Uuid::new_v4().simple());
        let own = async |operation: &str, more: Value| {
            let mut asked = json!({ "Bucket": bucket });
            asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.call(&account, "s3", operation, asked).await
        };
        own("CreateBucket", json!({})).await.unwrap();
        own("PutObject", json!({ "Key": "merger.pdf", "Body": "secret" })).await.unwrap();
        drop(own("DeletePublicAccessBlock", json!({})).await);
        let target = Target {
            account: account.clone(),
            control: "Contain.S3Bucket".to_owned(),
            arn: format!("arn:aws:s3:::{bucket}"),
        };
        world.send_raw(&finding(world, &target, "Policy:S3/BucketAnonymousAccessGranted", 8.0).to_string()).await;
        let contained = done(world, &target, "Verified").await;
        assert_eq!(contained.error(), "");
        quiet(world).await;
        let custody = custody_of(world, &account, &contained.id).await;
        assert_eq!(custody.items.len(), 1, "{:?}", custody.items);
        assert_eq!(
            (custody.items[0].kind, &custody.items[0].id),
            (ItemKind::ObjectListing, &key(&contained.id, OBJECTS))
        );
        let listing = body(world, &account, &key(&contained.id, OBJECTS), json!({})).await;
        assert!(!String::from_utf8_lossy(&listing).contains("merger"), "names of objects may be secret");
        is_locked(world, &account, &key(&contained.id, OBJECTS)).await;

        let shown = redress(world, &["case", "show", &contained.id, "--json"]).await;
        let held = &shown["Custody"][0];
        assert_eq!((&held["Altered"], held["LockedUntil"].as_object().unwrap().len()), (&json!([]), 2), "{held:#}");

        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("case");
        let to = folder.to_str().unwrap();
        let taken = redress(world, &["case", "export", &contained.id, "--to", to, "--json"]).await;
        let file = |name: &str| std::fs::read(folder.join(format!("{name}-{}-{OBJECTS}", contained.id))).unwrap();
        assert_eq!(sha256_hex(&file("incident")), custody.items[0].sha256, "byte for byte");
        let opened: Value = serde_json::from_slice(&file("opened")).unwrap();
        assert_eq!((&opened["Versions"][0]["Key"], &opened["Truncated"]), (&json!("merger.pdf"), &json!(false)));
        let exported = std::fs::read(folder.join(format!("incident-{}-{CUSTODY}", contained.id))).unwrap();
        assert_eq!(serde_json::from_slice::<Custody>(&exported).unwrap(), custody);
        let told = taken["Files"].as_array().unwrap().iter();
        assert!(told.clone().any(|file| file["Sha256"] == json!(sha256_hex(&exported))), "{taken:#}");
    });
}

#[test]
fn what_cannot_be_taken_or_kept_is_told_and_the_resource_is_contained() {
    in_turn(async |world| {
        let account = world.member("custody");
        let target = instance(world, &account, json!([])).await;
        let refuse = |operation: &str, containing: &str, code: &str| {
            let refused = Action::Fail { status: 403, code: code.to_owned() };
            let rule = Rule::new(refused).on_operation(operation).in_account(&account).by("Redress-Contain-EC2");
            rule.containing(containing).always().and_retries()
        };
        let faults = world.bed.lab.faults();
        let rules = [
            faults.add(refuse("CreateSnapshots", "", "UnauthorizedOperation")),
            faults.add(refuse("PutObject", CUSTODY, "AccessDenied")),
        ];
        world.send_raw(&finding(world, &target, "Backdoor:EC2/C&CActivity.B", 8.0).to_string()).await;
        let contained = done(world, &target, "Verified").await;
        for rule in rules {
            faults.remove(rule);
        }
        assert!(is_isolated(&state(world, &target).await));
        let told = contained.error();
        assert!(told.contains("CreateSnapshots") && told.contains("the custody document is missing"), "{told}");
        assert!(s3(world, &account, "GetObject", &key(&contained.id, CUSTODY), json!({})).await.is_err());
        let undone = world.undo(&target, &contained.id).await;
        assert_eq!((undone.outcome(), undone.error()), ("Restored", ""));
    });
}
