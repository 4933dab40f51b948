//! The operators' door: what is changed through it holds at once, is in the ledger with who and why, and nothing
//! is changed past it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use jiff::{SignedDuration, Timestamp};
use redress_common::names;
use redress_lab::faults::{Action, Rule};
use redress_lab::service::Credentials;
use redress_tests::inbox::Notifications;
use redress_tests::raw::config_event;
use redress_tests::world::{World, world};
use serde_json::{Value, json};

static TOLD: Notifications = Notifications::new();

fn the_world() -> &'static World {
    world(&["global", "by-account", "by-control", "exempt", "custom", "asked", "campaign", "stream"])
}

/// The settings are one for all: tests that change them take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn switch(to: &str, scope: &Value) -> Value {
    json!({ "Operation": "Switch", "To": to, "Scope": scope, "Reason": format!("a test says {to}") })
}

/// So many findings come one after the other, half of them before the switch.
const STREAM: usize = 12;

/// The newest record that says why a resource was not touched.
async fn told(world: &World, account: &str, resource: &str) -> Value {
    world.comes_to(account, resource, "Notified").await.pop().unwrap()
}

/// The administrator's ledger of one change.
async fn records(world: &World, answer: &Value) -> Vec<Value> {
    let id = answer["RemediationId"].clone();
    let all = world.ledger(&world.administrator()).await;
    all.into_iter().filter(|record| record["RemediationId"] == id).collect()
}

#[test]
fn redress_off_holds_for_the_very_next_finding_and_the_ledger_says_who_and_why() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        TOLD.subscribe(world).await;
        let account = world.member("global");
        let answer = world.operate(switch("off", &json!({}))).await;
        let broken = world.break_it("public-bucket", &account).await;
        let record = told(world, &account, broken.resource_arn.as_str()).await;
        assert_eq!(record["Detail"]["Code"], "switched-off", "{record:#}");

        let written = records(world, &answer).await;
        let states: Vec<&Value> = written.iter().map(|record| &record["ExecutionStatus"]).collect();
        assert_eq!(states, ["Applied", "Notified"]);
        let detail = &written[0]["Detail"];
        let by = detail["RequestedBy"].as_str().unwrap();
        assert!(by.ends_with("assumed-role/Redress-Operator/somebody"), "{by}");
        assert_eq!(
            (&detail["Reason"], &detail["Before"], &detail["After"]),
            (&json!("a test says off"), &json!("on"), &json!("off"))
        );
        assert_eq!(
            (&written[0]["RemediationAction"], &written[1]["NotificationSent"]),
            (&json!("Switch off: everything"), &json!(true))
        );
        let heard = TOLD.when(world, "redress:settings", "Applied").await;
        assert!(heard.iter().any(|(message, _)| message["Action"] == "Switch off: everything"), "{heard:?}");

        world.operate(switch("on", &json!({}))).await;
        let broken = world.break_it("key-rotation-off", &account).await;
        world.comes_to(&account, broken.resource_arn.as_str(), "Verified").await;
    });
}

/// How long after `redress off` something may still be started.
const EFFECTIVE: SignedDuration = SignedDuration::from_secs(5);

#[test]
fn redress_off_stops_a_stream_of_findings_within_five_seconds() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        let account = world.member("stream");
        let mut buckets = Vec::new();
        for _ in 0..STREAM {
            buckets.push(world.break_only("public-bucket", &account).await.resource_arn.to_string());
        }
        let mark = world.bed.lab.record().mark();
        let tell = async |arn: &String| {
            let bucket = arn.rsplit(':').next().unwrap();
            let event = config_event(&account, world.region(), bucket, Timestamp::now());
            world.send_raw(&event.to_string()).await;
        };
        let (before, rest) = buckets.split_at(STREAM / 2);
        let sending = async {
            for arn in before {
                tell(arn).await;
            }
        };
        // In the middle of them: some are being decided.
        let switching = async {
            world.comes_to(&account, &before[0], "Claimed").await;
            world.operate(switch("off", &json!({}))).await;
            Timestamp::now()
        };
        let ((), off) = tokio::join!(sending, switching);
        for arn in rest {
            tell(arn).await;
        }
        for arn in rest {
            assert_eq!(told(world, &account, arn).await["Detail"]["Code"], "switched-off");
        }
        world.drained(names::FINDINGS_QUEUE).await;
        let starts: Vec<Timestamp> = world
            .bed
            .lab
            .record()
            .calls_since(mark)
            .iter()
            .filter(|call| call.function.as_deref() == Some(names::ORCHESTRATOR_FUNCTION) && call.account == account)
            .filter(|call| call.operation == "StartAutomationExecution")
            .map(|call| call.at)
            .collect();
        let last = *starts.iter().max().unwrap();
        println!("{} of {STREAM} were started, the last {} after the switch", starts.len(), last.duration_since(off));
        assert!((1..=STREAM / 2).contains(&starts.len()), "{starts:?}");
        assert!(last.duration_since(off) <= EFFECTIVE, "started at {last}, switched off at {off}");
        world.operate(switch("on", &json!({}))).await;
    });
}

#[test]
fn a_scoped_switch_stops_its_account_or_control_and_no_other() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        let (off, on) = (world.member("by-account"), world.member("by-control"));
        let scope = json!({ "Account": off });
        world.operate(switch("off", &scope)).await;
        let stopped = world.break_it("public-bucket", &off).await;
        assert_eq!(told(world, &off, stopped.resource_arn.as_str()).await["Detail"]["Code"], "switched-off");
        let free = world.break_it("public-bucket", &on).await;
        world.comes_to(&on, free.resource_arn.as_str(), "Verified").await;
        world.operate(switch("on", &scope)).await;

        let scope = json!({ "Control": "KMS.4" });
        world.operate(switch("observe", &scope)).await;
        let stopped = world.break_it("key-rotation-off", &on).await;
        let record = told(world, &on, stopped.resource_arn.as_str()).await;
        assert_eq!(record["Detail"]["Code"], "switched-to-observe", "{record:#}");
        let free = world.break_it("ebs-encryption-off", &on).await;
        world.comes_to(&on, free.resource_arn.as_str(), "Verified").await;
        world.operate(switch("on", &scope)).await;
    });
}

/// The ids of the organisation's units from one down to this, by name.
async fn units(world: &World, path: &[&str]) -> Vec<Value> {
    let roots = world.admin_call("organizations", "ListRoots", json!({})).await;
    let mut found = vec![roots["Roots"][0]["Id"].clone()];
    for name in path {
        let below = json!({ "ParentId": found.last() });
        let below = world.admin_call("organizations", "ListOrganizationalUnitsForParent", below).await;
        let units = below["OrganizationalUnits"].as_array().unwrap();
        found.push(units.iter().find(|unit| unit["Name"] == *name).unwrap()["Id"].clone());
    }
    found.split_off(1)
}

#[test]
fn defect_08_a_units_switch_stops_every_account_below_it_and_no_other() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        // The lab puts the first member below Production, the second below Development, both below Workloads.
        let [below, beside] = ["global", "by-account"].map(|name| world.member(name));
        let ids = units(world, &["Workloads", "Production"]).await;
        let own = json!({ "Ou": ids[1] });
        world.operate(switch("off", &own)).await;
        let stopped = world.break_it("public-bucket", &below).await;
        let record = told(world, &below, stopped.resource_arn.as_str()).await;
        assert_eq!(record["Detail"]["Code"], "switched-off", "{record:#}");
        let free = world.break_it("public-bucket", &beside).await;
        world.comes_to(&beside, free.resource_arn.as_str(), "Verified").await;
        world.operate(switch("on", &own)).await;

        let parent = json!({ "Ou": ids[0] });
        world.operate(switch("observe", &parent)).await;
        for account in [&below, &beside] {
            let stopped = world.break_it("key-rotation-off", account).await;
            let record = told(world, account, stopped.resource_arn.as_str()).await;
            assert_eq!(record["Detail"]["Code"], "switched-to-observe", "{record:#}");
        }
        world.operate(switch("on", &parent)).await;
        let free = world.break_it("key-rotation-off", &below).await;
        world.comes_to(&below, free.resource_arn.as_str(), "Verified").await;
    });
}

#[test]
fn defect_15_a_prefetched_link_and_whoever_is_not_an_operator_change_nothing() {
    let world = the_world();
    world.run(async {
        let operator = world.operator().await;
        let url = world.api_url(&operator).await;
        let lab = &world.bed.lab;
        let request = switch("off", &json!({ "Control": "S3.1" }));
        let unsigned = lab.fetch(None, "POST", &url, Some(&request)).await.unwrap();
        assert_eq!(unsigned.status, 403);
        let prefetch = lab.fetch(Some((&operator, "lambda", world.region())), "GET", &url, None).await.unwrap();
        assert_eq!(prefetch.status, 405, "{}", prefetch.body);
        let member = Credentials::root(&world.member("asked"));
        assert_eq!(world.asks_as(&member, &url, &request).await.0, 403);
        let junk = world.asks_as(&operator, &url, &json!({ "Operation": "FormatDisk" })).await;
        assert_eq!((junk.0, &junk.1["Code"]), (400, &json!("not-a-request")));
        let direct = json!({ "FunctionName": names::API_FUNCTION, "Payload": "{}" });
        let direct = lab.aws().call(&operator, world.region(), "lambda", "Invoke", direct).await;
        assert!(direct.unwrap_err().code.contains("AccessDenied"), "past the URL nobody says who calls");
        let settings = settings(world).await;
        assert!(settings["controls"].is_null() && settings["Controls"]["M"]["S3.1"].is_null(), "{settings}");
    });
}

async fn settings(world: &World) -> Value {
    let asked =
        json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "settings" } }, "ConsistentRead": true });
    world.admin_call("dynamodb", "GetItem", asked).await["Item"].clone()
}

#[test]
fn an_operator_cannot_write_the_tables_or_the_bus_past_the_api() {
    let world = the_world();
    world.run(async {
        let operator = world.operator().await;
        let state = |key: &str| json!({ "TableName": names::STATE_TABLE, "Item": { "Key": { "S": key } } });
        let update = json!({
            "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "settings" } }, "UpdateExpression": "SET #s = :s",
            "ExpressionAttributeNames": { "#s": "Switch" }, "ExpressionAttributeValues": { ":s": { "S": "on" } },
        });
        let entry = json!({
            "EventBusName": names::HUB_BUS, "Source": names::EVENT_SOURCE, "DetailType": names::REMEDIATE_DETAIL_TYPE, "Detail": "{}",
        });
        for (service, operation, asked) in [
            ("dynamodb", "PutItem", state("settings")),
            ("dynamodb", "PutItem", state("exemptions")),
            ("dynamodb", "UpdateItem", update),
            ("dynamodb", "Scan", json!({ "TableName": names::STATE_TABLE })),
            ("events", "PutEvents", json!({ "Entries": [entry] })),
        ] {
            let answer = world.bed.lab.aws().call(&operator, world.region(), service, operation, asked).await;
            let error = answer.expect_err(operation);
            assert!(error.code.contains("AccessDenied"), "{operation}: {error}");
        }
    });
}

#[test]
fn a_request_carries_its_true_caller_and_reason_into_the_ledger() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        let account = world.member("asked");
        let broken = world.break_only("public-bucket", &account).await;
        let request = json!({
            "Operation": "Remediate", "Control": "S3.8", "AccountId": account, "Region": world.region(),
            "ResourceArn": broken.resource_arn, "Mode": "DryRun", "RequestId": "r-asked", "Reason": "CHG-4711",
            "RequestedBy": "arn:aws:iam::111111111111:root",
        });
        world.operate(request).await;
        let is_end =
            |record: &Value| record["FindingId"] == "redress/r-asked" && record["ExecutionStatus"] == "Notified";
        let records = world.ledger_when(&account, "the dry run ends", is_end).await;
        let planned = records.iter().find(|record| record["ExecutionStatus"] == "Planned").unwrap();
        let by = planned["Detail"]["RequestedBy"].as_str().unwrap();
        assert!(by.ends_with("assumed-role/Redress-Operator/somebody"), "{by}");
        assert_eq!(planned["Detail"]["Reason"], "CHG-4711", "{planned:#}");
    });
}

/// A set that acts on nothing but KMS.4, so that what other tests of the binary see does not depend on it.
const OURS: &str = r#"
@id("ours.tell") permit (principal, action == Redress::Action::"Notify", resource);
@id("ours.keys") permit (principal, action == Redress::Action::"Act", resource) when { resource.control == "KMS.4" };
"#;

#[test]
fn a_policy_set_is_refused_or_decides_from_then_on_and_is_rolled_back() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        let account = world.member("custom");
        let set = |source: &str| json!({ "Operation": "PolicySet", "Source": source, "Reason": "a test" });
        let (status, refusal) = world.asks(&set("permit (principal, action, resource);")).await;
        assert_eq!((status, &refusal["Code"]), (400, &json!("invalid-policies")), "{refusal}");
        assert_eq!(settings(world).await["PolicySet"]["S"], "standard");

        let answer = world.operate(set(OURS)).await;
        assert_eq!(answer["Policy"]["Version"], 1, "{answer}");
        assert_eq!(world.operate(set(OURS)).await["Changed"], false);
        let key = world.break_it("key-rotation-off", &account).await;
        let verified = world.comes_to(&account, key.resource_arn.as_str(), "Verified").await;
        let planned = verified.iter().find(|record| record["ExecutionStatus"] == "Planned").unwrap();
        assert_eq!(planned["Detail"]["Policies"], "ours.keys");
        assert_eq!(planned["Detail"]["PolicySetSha256"], answer["Policy"]["Sha256"]);
        let bucket = world.break_it("public-bucket", &account).await;
        assert_eq!(told(world, &account, bucket.resource_arn.as_str()).await["Detail"]["Policies"], "ours.tell");

        let other = OURS.replace("ours.tell", "ours.tell-all");
        assert_eq!(world.operate(set(&other)).await["Policy"]["Version"], 2);
        let back = |to: Option<u64>| json!({ "Operation": "PolicyRollback", "To": to, "Reason": "a test" });
        let third = world.operate(back(None)).await;
        assert_eq!((&third["Policy"]["Version"], &third["Policy"]["Sha256"]), (&json!(3), &answer["Policy"]["Sha256"]));
        assert_eq!(world.asks(&back(Some(17))).await.0, 404);
        let standard = json!({ "Operation": "Settings", "PolicySet": "standard", "Reason": "a test is over" });
        world.operate(standard).await;
    });
}

#[test]
fn an_exemption_keeps_a_resource_from_rules_until_it_ends() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        let account = world.member("exempt");
        let bucket = world.break_only("public-bucket", &account).await;
        let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
        let add = json!({
            "Operation": "ExemptionAdd", "Id": "on-purpose", "Resource": bucket.resource_arn, "Owner": "team web",
            "Reason": "public on purpose", "ExpiresAt": ends,
        });
        let answer = world.operate(add.clone()).await;
        assert_eq!(records(world, &answer).await[0]["RemediationAction"], "Exempt by on-purpose");
        assert_eq!(world.asks(&add).await.0, 409, "its name is taken");
        let event = |at| redress_tests::raw::config_event(&account, world.region(), bucket.resource_arn.resource(), at);
        world.send_raw(&event(jiff::Timestamp::now()).to_string()).await;
        let record = told(world, &account, bucket.resource_arn.as_str()).await;
        assert!(record["Detail"]["Policies"].as_str().unwrap().contains("exemption.on-purpose"), "{record:#}");

        let remove = json!({ "Operation": "ExemptionRemove", "Id": "on-purpose", "Reason": "it moved" });
        world.operate(remove.clone()).await;
        assert_eq!(world.asks(&remove).await.0, 404);
        world.send_raw(&event(jiff::Timestamp::now()).to_string()).await;
        world.comes_to(&account, bucket.resource_arn.as_str(), "Verified").await;
    });
}

#[test]
fn an_exemption_ends_by_itself_when_its_time_is_over() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        let account = world.member("exempt");
        let bucket = world.break_only("public-bucket", &account).await;
        let resource = bucket.resource_arn.as_str();
        let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
        world
            .operate(json!({
                "Operation": "ExemptionAdd", "Id": "for-an-hour", "Resource": resource, "Owner": "team web",
                "Reason": "a demonstration", "ExpiresAt": ends,
            }))
            .await;
        let event = |at| redress_tests::raw::config_event(&account, world.region(), bucket.resource_arn.resource(), at);
        world.send_raw(&event(jiff::Timestamp::now()).to_string()).await;
        let record = told(world, &account, resource).await;
        assert!(record["Detail"]["Policies"].as_str().unwrap().contains("exemption.for-an-hour"), "{record:#}");

        // The hour passes: its end is now what the clock said a moment ago.
        let stored = world.state_value("exemptions").await.unwrap();
        let at = stored["Exemptions"].as_array().unwrap().iter().position(|one| one["Id"] == "for-an-hour").unwrap();
        let passed = json!({
            "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "exemptions" } },
            "UpdateExpression": format!("SET Exemptions[{at}].ExpiresAt = :now"),
            "ExpressionAttributeValues": { ":now": { "S": jiff::Timestamp::now() } },
        });
        world.admin_call("dynamodb", "UpdateItem", passed).await;
        world.send_raw(&event(jiff::Timestamp::now()).to_string()).await;
        let records = world.comes_to(&account, resource, "Verified").await;
        let fixed = &records.last().unwrap()["RemediationId"];
        let planned = |record: &&Value| record["RemediationId"] == *fixed && record["ExecutionStatus"] == "Planned";
        let policies = records.iter().find(planned).unwrap()["Detail"]["Policies"].as_str().unwrap();
        assert!(!policies.contains("for-an-hour"), "{policies}");
    });
}

#[test]
fn an_open_breaker_is_listed_and_closed_by_a_person_with_a_reason() {
    let world = the_world();
    world.run(async {
        let key = "breaker#control:Lambda.1";
        let item = json!({
            "Key": { "S": key }, "Version": { "N": "1" }, "OpenedAt": { "N": "1800000000000" }, "Reason": { "S": "60 % failed" },
        });
        world.admin_call("dynamodb", "PutItem", json!({ "TableName": names::STATE_TABLE, "Item": item })).await;
        let listed = world.operate(json!({ "Operation": "List", "What": "Breakers" })).await;
        let listed = listed["Items"].as_array().unwrap();
        assert!(listed.iter().any(|item| item["Key"] == key && item["Reason"] == "60 % failed"), "{listed:?}");
        let close = |reason: &str| json!({ "Operation": "BreakerClose", "Scope": "control:Lambda.1", "Reason": reason });
        assert_eq!(world.asks(&close("")).await.1["Code"], "no-reason");
        let answer = world.operate(close("mended")).await;
        assert_eq!(records(world, &answer).await[0]["Detail"]["After"], "closed");
        assert_eq!(world.asks(&close("again")).await.0, 404);
    });
}

/// The messages of the dead-letter queues that pass.
async fn letters(world: &World, holds: impl Fn(&Value) -> bool) -> Vec<Value> {
    let answer = world.operate(json!({ "Operation": "DlqList" })).await;
    answer["Messages"].as_array().unwrap().iter().filter(|message| holds(message)).cloned().collect()
}

#[test]
fn a_dead_letter_is_shown_redriven_three_times_and_then_parked_with_its_reason() {
    let world = the_world();
    world.run(async {
        let body = json!({ "hello": "operator" }).to_string();
        world.send_raw(&body).await;
        let mut identity = Value::Null;
        for redrives in 0..4_u64 {
            let letter = world
                .eventually("the refused message lies in the queue", async || {
                    letters(world, |message| message["Queue"] == names::FINDINGS_DLQ).await.into_iter().next()
                })
                .await;
            identity = letter["RemediationId"].clone();
            assert_eq!(letter["Redrives"], redrives, "{letter}");
            let shown = json!({ "Operation": "DlqList", "MessageId": letter["MessageId"] });
            assert_eq!(world.operate(shown).await["Messages"][0]["Body"]["hello"], "operator");
            let redrive = json!({ "Operation": "DlqRedrive", "MessageId": letter["MessageId"], "Reason": "try again" });
            let answer = world.operate(redrive).await;
            let one = &answer["Redriven"][0];
            let expected = if redrives < 3 { ("redriven", redrives + 1) } else { ("parked", 3) };
            assert_eq!(
                (one["Outcome"].as_str(), one["Redrives"].as_u64()),
                (Some(expected.0), Some(expected.1)),
                "{answer}"
            );
        }
        let parked = letters(world, |message| message["Queue"] == names::PARKED_QUEUE).await;
        assert_eq!((parked.len(), &parked[0]["RemediationId"], &parked[0]["Redrives"]), (1, &identity, &json!(3)));
        assert_ne!(parked[0]["Reason"], "");
        assert!(letters(world, |message| message["Queue"] != names::PARKED_QUEUE).await.is_empty());
        let story = world.ledger(&world.administrator()).await;
        let codes: Vec<&str> = story
            .iter()
            .filter(|record| record["RemediationId"] == identity && record["ResourceType"] == "Redress::Message")
            .map(|record| record["Detail"]["Code"].as_str().unwrap())
            .collect();
        assert_eq!(codes, ["redriven", "redriven", "redriven", "parked"]);
        let missing = json!({ "Operation": "DlqRedrive", "MessageId": "nobody", "Reason": "x" });
        assert_eq!(world.asks(&missing).await.0, 404);
    });
}

#[test]
fn a_campaign_lists_the_open_findings_of_a_control_and_changes_no_resource() {
    let world = the_world();
    world.run(async {
        let _turn = TURN.lock().await;
        let account = world.member("campaign");
        world.operate(switch("off", &json!({}))).await;
        for _ in 0..2 {
            let bucket = world.break_it("public-bucket", &account).await;
            told(world, &account, bucket.resource_arn.as_str()).await;
        }
        world.operate(switch("on", &json!({}))).await;
        let again = world.break_it("public-bucket", &account).await;
        world.comes_to(&account, again.resource_arn.as_str(), "Verified").await;

        let plan = json!({
            "Operation": "CampaignPlan", "Name": "close-buckets", "Control": "S3.8", "Accounts": [account], "PerHour": 20, "Reason": "backlog",
        });
        let put_aside = async || -> Vec<Value> {
            let all = world.admin_call("dynamodb", "Scan", json!({ "TableName": names::BACKLOG_TABLE })).await;
            let ours = |item: &&Value| item["Place"]["S"].as_str().unwrap().starts_with("campaign#close-buckets#");
            all["Items"].as_array().unwrap().iter().filter(ours).cloned().collect()
        };
        let second = Action::Fail { status: 400, code: "ValidationException".to_owned() };
        let second = Rule::new(second).by(names::API_FUNCTION).on("dynamodb", "PutItem").nth(2);
        let struck = world.bed.lab.faults().add(second);
        assert_eq!(world.asks(&plan).await.0, 503);
        world.bed.lab.faults().struck(struck).await;
        assert_eq!(put_aside().await, Vec::<Value>::new(), "what a plan put aside that failed");
        let answer = world.operate(plan.clone()).await;
        let planned = answer["Campaign"]["Planned"].as_u64().unwrap();
        let waiting = put_aside().await;
        assert_eq!(waiting.len() as u64, planned);
        for item in &waiting {
            let body: Value = serde_json::from_str(item["Body"]["S"].as_str().unwrap()).unwrap();
            assert_eq!((&body["detail-type"], &body["detail"]["Campaign"]), (&json!(names::CAMPAIGN_DETAIL_TYPE), &json!("close-buckets")));
        }
        assert_eq!(world.asks(&plan).await.0, 409, "its name is taken");
        let run = |on: bool| json!({ "Operation": "CampaignRun", "Name": "close-buckets", "Run": on, "Reason": "CHG-1" });
        assert_eq!(world.operate(run(true)).await["Campaign"]["Status"], "Running");
        assert_eq!(world.operate(run(false)).await["Campaign"]["Status"], "Paused");
        assert_eq!(records(world, &answer).await[0]["RemediationAction"], "Plan campaign close-buckets");
    });
}
