//! Whatever comes in: a record, a notification, a dead letter with its reason; never a crash, never silence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use jiff::Timestamp;
use redress_common::ids::RemediationId;
use redress_common::names;
use redress_tests::inbox::Inbox;
use redress_tests::raw::{asff, config_event, security_hub_event};
use redress_tests::world::{World, world};
use serde_json::{Value, json};

static DEAD_LETTERS: Inbox = Inbox::new(names::FINDINGS_DLQ);

fn the_world() -> &'static World {
    world(&["messages", "twenty", "suppressed", "updates", "undelivered", "other"])
}

/// A message and the code with which it is refused.
async fn refused(world: &World, body: &str, part: &str, code: &str) -> Value {
    world.send_raw(body).await;
    let letters = DEAD_LETTERS.when(world, code, |letter| letter["Body"] == *body).await;
    let attribute =
        |name: &str| letters[0]["MessageAttributes"][name]["StringValue"].as_str().unwrap_or_default().to_owned();
    assert_eq!(attribute("Code"), code, "{}", attribute("Reason"));
    assert!(!attribute("Reason").is_empty());
    let id = RemediationId::of_rejected(format!("{body}{part}").as_bytes()).to_string();
    let is_it = |record: &Value| {
        record["Detail"]["Code"] == code && record["ExecutionStatus"] == "Failed" && record["RemediationId"] == *id
    };
    let records = world.ledger_when(&world.administrator(), code, is_it).await;
    let record = records.iter().rfind(|record| is_it(record)).unwrap().clone();
    assert_eq!(record["NotificationSent"], true, "{record:#}");
    assert!(!record["ErrorMessage"].as_str().unwrap().is_empty());
    record
}

fn no_function_failed(world: &World) {
    let failed: Vec<_> = world.bed.lab.record().invocations().into_iter().filter(|call| call.error.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(!world.bed.lab.logs("redress-orchestrator").iter().any(|line| line.contains("panicked")));
}

#[test]
fn what_cannot_be_read_is_recorded_told_and_kept_with_its_reason() {
    let world = the_world();
    world.run(async {
        let (account, region) = (world.member("messages"), world.region());
        let event = config_event(&account, region, "some-bucket", Timestamp::now());
        let changed = |path: &str, value: Value| {
            let mut event = event.clone();
            *event.pointer_mut(path).unwrap() = value;
            event.to_string()
        };
        let without = |field: &str| {
            let mut event = event.clone();
            event.as_object_mut().unwrap().remove(field);
            event.to_string()
        };
        let finding = |id: &str| {
            let finding = asff(&account, region, id, Timestamp::now());
            security_hub_event(&account, region, &[finding], None).to_string()
        };
        let hostile = "'; DROP TABLE RedressAuditLog; --\u{202e}${jndi:ldap://x}{{ssm:secret}}\u{0}$(reboot)";
        let large = changed("/detail/resourceId", json!("x".repeat(256 * 1024)));
        for (body, part, code) in [
            ("no json at all".to_owned(), "", "not-json"),
            ("[]".to_owned(), "", "missing-field"),
            ("{\"a\": ".repeat(5000), "", "not-json"),
            (large, "", "too-large"),
            (without("account"), "", "missing-field"),
            (without("detail"), "", "missing-field"),
            (changed("/account", json!("12345")), "", "bad-field"),
            (changed("/source", json!("aws.budgets")), "", "unknown-source"),
            (changed("/source", json!(hostile)), "", "bad-field"),
            (changed("/detail-type", json!("${jndi:ldap://x}{{ssm:secret}}$(reboot)")), "", "unknown-source"),
            (finding("arn:aws-moon:s3:::a-bucket"), "#0", "unknown-partition"),
            (finding(hostile), "#0", "?"),
            (finding("arn:aws-us-gov:s3:::a-bucket"), "#0", "partition-mismatch"),
        ] {
            if code == "?" {
                world.send_raw(&body).await;
                DEAD_LETTERS.when(world, "a hostile resource", |letter| letter["Body"] == *body).await;
                continue;
            }
            let record = refused(world, &body, part, code).await;
            assert!(record["ErrorMessage"].as_str().unwrap().len() < 1200, "{code}: text of the input is cut");
        }
        world.drained(names::FINDINGS_QUEUE).await;
        no_function_failed(world);
    });
}

#[test]
fn defect_10_a_finding_of_one_account_cannot_name_a_resource_of_another() {
    let world = the_world();
    world.run(async {
        let (account, other, region) = (world.member("messages"), world.member("other"), world.region().to_owned());
        let key = format!("arn:aws:kms:{region}:{other}:key/11111111-2222-4333-8444-555555555555");
        let mut finding = asff(&account, &region, &key, Timestamp::now());
        finding["Compliance"]["SecurityControlId"] = "KMS.4".into();
        finding["Resources"][0]["Type"] = "AwsKmsKey".into();
        let mark = world.bed.lab.record().mark();
        refused(
            world,
            &security_hub_event(&account, &region, std::slice::from_ref(&finding), None).to_string(),
            "#0",
            "account-mismatch",
        )
        .await;
        // Nor does an event of one account carry a finding of another, unless its sender is the administrator.
        finding["AwsAccountId"] = other.clone().into();
        refused(world, &security_hub_event(&account, &region, &[finding], None).to_string(), "#0", "account-mismatch")
            .await;
        assert!(world.changes_since(&other, mark).is_empty() && world.ledger(&other).await.is_empty());
    });
}

#[test]
fn one_bad_finding_of_twenty_does_not_stop_the_others() {
    let world = the_world();
    world.run(async {
        let (account, region, admin) = (world.member("twenty"), world.region(), world.administrator());
        let mut findings: Vec<Value> = (0..19)
            .map(|nth| asff(&account, region, &format!("arn:aws:s3:::bucket-of-nobody-{nth}"), Timestamp::now()))
            .collect();
        findings.insert(7, asff(&account, region, "arn:aws-moon:s3:::a-bucket", Timestamp::now()));
        let body = security_hub_event(&admin, region, &findings, Some(names::ACTION_DRY_RUN)).to_string();
        world.send_raw(&body).await;
        for nth in 0..19 {
            let resource = format!("arn:aws:s3:::bucket-of-nobody-{nth}");
            let ended = |record: &Value| {
                record["ResourceId"] == *resource
                    && matches!(record["ExecutionStatus"].as_str(), Some("Notified" | "Failed"))
            };
            world.ledger_when(&account, &format!("{resource} is handled"), ended).await;
        }
        let letters = DEAD_LETTERS.when(world, "the bad one is kept", |letter| letter["Body"] == *body).await;
        assert_eq!(letters[0]["MessageAttributes"]["Code"]["StringValue"], "unknown-partition");
        world.drained(names::FINDINGS_QUEUE).await;
        no_function_failed(world);
    });
}

#[test]
fn defect_14_suppressed_findings_are_left_alone() {
    let world = the_world();
    world.run(async {
        let (account, region) = (world.member("suppressed"), world.region());
        let broken = world.break_only("public-bucket", &account).await;
        let arn = broken.resource_arn.as_str();
        let mark = world.bed.lab.record().mark();
        let mut finding = asff(&account, region, arn, Timestamp::now());
        finding["Workflow"]["Status"] = "SUPPRESSED".into();
        world.send_raw(&security_hub_event(&account, region, &[finding.clone()], None).to_string()).await;
        world.comes_to(&account, arn, "Ignored").await;
        let action = security_hub_event(&world.administrator(), region, &[finding], Some(names::ACTION_REMEDIATE));
        world.send_raw(&action.to_string()).await;
        world.comes_to(&account, arn, "Notified").await;
        assert!(world.changes_since(&account, mark).is_empty());
    });
}

#[test]
fn defect_22_our_own_update_of_a_finding_starts_nothing() {
    let world = the_world();
    world.run(async {
        let account = world.member("updates");
        let broken = world.break_it("public-bucket", &account).await;
        let arn = broken.resource_arn.as_str();
        world.comes_to(&account, arn, "Verified").await;
        let asked = json!({ "Filters": { "ResourceId": [{ "Value": arn, "Comparison": "EQUALS" }] } });
        let finding = world.admin_call("securityhub", "GetFindings", asked).await["Findings"][0].clone();
        assert_eq!(finding["Compliance"]["SecurityControlId"], "S3.8", "{finding:#}");
        // What Security Hub makes of our updates, sent past the rule that would have kept them out.
        for status in ["RESOLVED", "NOTIFIED", "NEW"] {
            let now = Timestamp::now();
            let mut updated = finding.clone();
            updated["Workflow"]["Status"] = status.into();
            updated["UpdatedAt"] = now.to_string().into();
            updated["Note"] =
                json!({ "Text": "Redress Verified", "UpdatedBy": "redress", "UpdatedAt": now.to_string() });
            world.send_raw(&security_hub_event(&account, world.region(), &[updated], None).to_string()).await;
        }
        world.drained(names::FINDINGS_QUEUE).await;
        world.drained(names::COMPLETIONS_QUEUE).await;
        let records = world.ledger(&account).await;
        let states: Vec<_> = records.iter().filter_map(|record| record["ExecutionStatus"].as_str()).collect();
        assert_eq!(states.iter().filter(|state| **state == "Claimed").count(), 1, "{states:?}");
    });
}

#[test]
fn defect_21_no_rule_hears_of_the_evidence_bucket() {
    let world = the_world();
    world.run(async {
        let account = world.member("updates");
        let bucket = names::evidence_bucket(&account.parse().unwrap(), &world.bed.organisation.region);
        let notifications = world
            .call(&account, "s3", "GetBucketNotificationConfiguration", json!({ "Bucket": bucket }))
            .await
            .unwrap();
        let told: Vec<&String> = notifications
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| key.ends_with("Configurations") || *key == "EventBridgeConfiguration")
            .collect();
        assert!(told.is_empty(), "{notifications}");
        for (place, bus) in
            [(&account, "default"), (&world.administrator(), "default"), (&world.administrator(), names::HUB_BUS)]
        {
            let rules = world.call(place, "events", "ListRules", json!({ "EventBusName": bus })).await.unwrap();
            for rule in rules["Rules"].as_array().unwrap() {
                // A schedule has none.
                let Some(pattern) = rule["EventPattern"].as_str() else { continue };
                // Calls that CloudTrail tells of: those of Organizations, and no others.
                let (calls, organizations) = (pattern.matches("CloudTrail"), pattern.matches("aws.organizations"));
                assert!(!pattern.contains("aws.s3") && calls.count() == organizations.count(), "{pattern}");
            }
        }
    });
}

#[test]
fn an_event_that_cannot_be_delivered_is_kept_with_its_reason() {
    let world = the_world();
    world.run(async {
        let account = world.member("undelivered");
        let role = json!({ "RoleName": names::EVENT_FORWARDER_ROLE, "PolicyName": "forward" });
        world.call(&account, "iam", "DeleteRolePolicy", role).await.unwrap();
        let broken = world.break_it("public-bucket", &account).await;
        let name = broken.resource_arn.as_str().rsplit(':').next().unwrap().to_owned();
        let url = world
            .call(&account, "sqs", "GetQueueUrl", json!({ "QueueName": "redress-forward-dlq" }))
            .await
            .unwrap()["QueueUrl"]
            .clone();
        let letter = world
            .eventually("the event is in the member's dead-letter queue", async || {
                let asked = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"] });
                let answer = world.call(&account, "sqs", "ReceiveMessage", asked).await.ok()?;
                let letters = answer["Messages"].as_array()?.clone();
                letters.into_iter().find(|letter| letter["Body"].as_str().is_some_and(|body| body.contains(&name)))
            })
            .await;
        let attribute =
            |name: &str| letter["MessageAttributes"][name]["StringValue"].as_str().unwrap_or_default().to_owned();
        assert!(attribute("RULE_ARN").ends_with("/redress-forward-config"), "{letter:#}");
        assert!(attribute("ERROR_CODE").starts_with("AccessDenied"), "{letter:#}");
    });
}
