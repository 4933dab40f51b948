#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::services::fake::{FakeAws, request};

const ADMINISTRATOR: &str = "111111111111";
const MEMBER: &str = "222222222222";
const STRANGER: &str = "333333333333";

struct Bed {
    hub: Arc<SecurityHub>,
    aws: Arc<FakeAws>,
}

impl Bed {
    /// An organisation of an administrator and a member; a third account has a hub of its own.
    async fn new() -> Self {
        let bed = Self { hub: Arc::default(), aws: Arc::new(FakeAws::silent()) };
        for account in [ADMINISTRATOR, MEMBER, STRANGER] {
            bed.ok(account, "EnableSecurityHub", json!({})).await;
        }
        bed.ok(ADMINISTRATOR, "EnableOrganizationAdminAccount", json!({ "AdminAccountId": ADMINISTRATOR })).await;
        bed.ok(ADMINISTRATOR, "CreateMembers", json!({ "AccountDetails": [{ "AccountId": MEMBER }] })).await;
        bed
    }

    async fn call(&self, account: &str, operation: &str, body: Value) -> Result<Value, AwsError> {
        self.hub.handle(request("securityhub", account, operation, body), self.aws.clone()).await
    }

    async fn ok(&self, account: &str, operation: &str, body: Value) -> Value {
        self.call(account, operation, body).await.unwrap()
    }

    async fn check(&self, passed: bool) {
        self.check_in("us-east-1", passed).await;
    }

    async fn check_in(&self, region: &str, passed: bool) {
        let check = ControlCheck {
            account: MEMBER,
            region,
            control: "S3.8",
            title: "S3 general purpose buckets should block public access",
            severity: "HIGH",
            rule: "securityhub-s3-bucket-level-public-access-prohibited-1a2b3c4d",
            resource_type: "AwsS3Bucket",
            resource_id: "arn:aws:s3:::b",
            passed,
            at: Timestamp::now(),
        };
        self.hub.control_checked(&check, &*self.aws).await;
    }

    /// A call in a Region, about what its path names.
    async fn call_in(
        &self,
        region: &str,
        account: &str,
        operation: &str,
        path: &str,
        body: Value,
    ) -> Result<Value, AwsError> {
        let request = request("securityhub", account, operation, body);
        let request = Request { region: region.to_owned(), path: path.to_owned(), ..request };
        self.hub.handle(request, self.aws.clone()).await
    }

    /// The hubs of the administrator and the member in a further Region.
    async fn further(&self, region: &str) {
        for account in [ADMINISTRATOR, MEMBER] {
            self.call_in(region, account, "EnableSecurityHub", "/", json!({})).await.unwrap();
        }
    }

    /// What an account is shown in a Region, as ids and workflow statuses.
    async fn shown(&self, region: &str, account: &str) -> Vec<(String, String)> {
        let answer = self.call_in(region, account, "GetFindings", "/", json!({})).await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let findings = answer["Findings"].as_array().unwrap().iter();
        findings.map(|finding| (text(&finding["Id"]), text(&finding["Workflow"]["Status"]))).collect()
    }

    async fn ids(&self, account: &str, filters: Value) -> Vec<String> {
        let answer = self.ok(account, "GetFindings", json!({ "Filters": filters })).await;
        answer["Findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["Id"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn finding(id: &str, label: &str, updated: &str) -> Value {
    json!({
        "SchemaVersion": "2018-10-08", "Id": id, "ProductArn": format!("arn:aws:securityhub:us-east-1:{MEMBER}:product/{MEMBER}/default"),
        "GeneratorId": "g", "AwsAccountId": MEMBER, "CreatedAt": "2026-01-01T00:00:00Z", "UpdatedAt": updated,
        "Title": format!("title of {id}"), "Description": "d", "Severity": { "Label": label }, "Types": ["Software and Configuration Checks"],
        "Resources": [{ "Type": "AwsS3Bucket", "Id": format!("arn:aws:s3:::{id}"), "Tags": { "Owner": id } }],
        "Compliance": { "Status": "FAILED", "SecurityControlId": "S3.8" },
    })
}

#[tokio::test]
async fn a_failed_control_is_told_to_the_member_and_to_the_administrator() {
    let bed = Bed::new().await;
    bed.check(false).await;
    let events = bed.aws.events();
    assert_eq!(
        events.iter().map(|event| event["account"].as_str().unwrap()).collect::<Vec<_>>(),
        [MEMBER, ADMINISTRATOR]
    );
    for event in &events {
        assert_eq!(event["source"], "aws.securityhub");
        assert_eq!(event["detail-type"], "Security Hub Findings - Imported");
        let finding = &event["detail"]["findings"][0];
        assert_eq!(finding["Compliance"]["Status"], "FAILED");
        assert_eq!(finding["Workflow"]["Status"], "NEW");
        assert_eq!(finding["AwsAccountId"], MEMBER);
    }
}

#[tokio::test]
async fn the_finding_that_the_lab_makes_is_one_that_redress_parses() {
    let bed = Bed::new().await;
    bed.check(false).await;
    let mut event = bed.aws.events().pop().unwrap();
    for (name, value) in [("version", "0"), ("id", "6f1c"), ("time", "2026-01-01T00:00:00Z")] {
        event[name] = value.into();
    }
    let parsed = redress_common::finding::parse(event.to_string().as_bytes()).unwrap();
    let redress_common::finding::Inbound::Findings(findings) = parsed else { panic!("{parsed:?}") };
    let finding = findings.into_iter().next().unwrap().unwrap();
    assert_eq!(finding.account.as_str(), MEMBER);
    assert_eq!(finding.resource.arn.as_str(), "arn:aws:s3:::b");
}

#[tokio::test]
async fn a_passed_control_resolves_its_finding_and_failing_again_opens_it() {
    let bed = Bed::new().await;
    for (passed, workflow) in [(false, "NEW"), (true, "RESOLVED"), (false, "NEW")] {
        bed.check(passed).await;
        assert_eq!(bed.aws.events()[0]["detail"]["findings"][0]["Workflow"]["Status"], workflow);
    }
    assert_eq!(bed.ids(MEMBER, json!({})).await.len(), 1);
}

#[tokio::test]
async fn a_suppressed_finding_stays_suppressed_when_it_fails_again() {
    let bed = Bed::new().await;
    bed.check(true).await;
    let stored = bed.ok(ADMINISTRATOR, "GetFindings", json!({})).await["Findings"][0].clone();
    let identifier = json!({ "Id": stored["Id"], "ProductArn": stored["ProductArn"] });
    bed.ok(
        ADMINISTRATOR,
        "BatchUpdateFindings",
        json!({ "FindingIdentifiers": [identifier], "Workflow": { "Status": "SUPPRESSED" } }),
    )
    .await;
    bed.aws.events();
    bed.check(false).await;
    assert_eq!(bed.aws.events()[0]["detail"]["findings"][0]["Workflow"]["Status"], "SUPPRESSED");
}

#[tokio::test]
async fn an_update_by_the_administrator_emits_the_finding_again_and_leaves_updated_at_alone() {
    let bed = Bed::new().await;
    bed.check(false).await;
    let before = bed.aws.events()[0]["detail"]["findings"][0].clone();
    let update = json!({
        "FindingIdentifiers": [
            { "Id": before["Id"], "ProductArn": before["ProductArn"] },
            { "Id": "nobody", "ProductArn": before["ProductArn"] },
        ],
        "Workflow": { "Status": "RESOLVED" },
        "Note": { "Text": "done", "UpdatedBy": "redress" },
        "UserDefinedFields": { "RemediationId": "x" },
    });
    let answer = bed.ok(ADMINISTRATOR, "BatchUpdateFindings", update).await;
    assert_eq!(answer["ProcessedFindings"].as_array().unwrap().len(), 1);
    assert_eq!(answer["UnprocessedFindings"][0]["FindingIdentifier"]["Id"], "nobody");
    let events = bed.aws.events();
    assert_eq!(events.len(), 2);
    let after = &events[0]["detail"]["findings"][0];
    assert_eq!(after["Workflow"]["Status"], "RESOLVED");
    assert_eq!(after["Note"]["UpdatedBy"], "redress");
    assert_eq!(after["UpdatedAt"], before["UpdatedAt"]);
}

#[tokio::test]
async fn nobody_sees_or_updates_the_findings_of_an_account_that_is_not_his() {
    let bed = Bed::new().await;
    bed.check(false).await;
    let finding = bed.aws.events()[0]["detail"]["findings"][0].clone();
    assert_eq!(bed.ids(STRANGER, json!({})).await.len(), 0);
    assert_eq!(bed.ids(ADMINISTRATOR, json!({})).await.len(), 1);
    let update = json!({
        "FindingIdentifiers": [{ "Id": finding["Id"], "ProductArn": finding["ProductArn"] }], "Workflow": { "Status": "RESOLVED" },
    });
    let answer = bed.ok(STRANGER, "BatchUpdateFindings", update).await;
    assert_eq!(answer["UnprocessedFindings"][0]["ErrorCode"], "FindingNotFound");
}

#[tokio::test]
async fn filters_are_alternatives_within_a_field_and_conditions_between_fields() {
    let bed = Bed::new().await;
    let given = json!([
        finding("a", "HIGH", "2026-01-03T00:00:00Z"),
        finding("b", "LOW", "2026-01-02T00:00:00Z"),
        finding("c", "HIGH", "2026-01-01T00:00:00Z"),
    ]);
    bed.ok(MEMBER, "BatchImportFindings", json!({ "Findings": given })).await;
    let cases = [
        (
            json!({ "Id": [{ "Comparison": "EQUALS", "Value": "a" }, { "Comparison": "EQUALS", "Value": "b" }] }),
            vec!["a", "b"],
        ),
        (
            json!({ "SeverityLabel": [{ "Comparison": "EQUALS", "Value": "HIGH" }], "Id": [{ "Comparison": "NOT_EQUALS", "Value": "a" }] }),
            vec!["c"],
        ),
        (json!({ "ResourceId": [{ "Comparison": "PREFIX", "Value": "arn:aws:s3:::b" }] }), vec!["b"]),
        (json!({ "Title": [{ "Comparison": "CONTAINS", "Value": "of c" }] }), vec!["c"]),
        (json!({ "ResourceTags": [{ "Key": "Owner", "Comparison": "EQUALS", "Value": "b" }] }), vec!["b"]),
        (json!({ "UpdatedAt": [{ "Start": "2026-01-02T00:00:00Z", "End": "2026-01-02T12:00:00Z" }] }), vec!["b"]),
        (json!({ "UpdatedAt": [{ "DateRange": { "Unit": "DAYS", "Value": 1 } }] }), vec![]),
        (
            json!({ "Id": [{ "Comparison": "NOT_EQUALS", "Value": "a" }, { "Comparison": "NOT_EQUALS", "Value": "b" }] }),
            vec!["c"],
        ),
    ];
    for (filters, expected) in cases {
        assert_eq!(bed.ids(MEMBER, filters.clone()).await, expected, "{filters}");
    }
    let eleven: serde_json::Map<String, Value> =
        filter::names().take(11).map(|name| (name.to_owned(), json!([]))).collect();
    for body in [
        json!({ "Filters": { "Nonsense": [] } }),
        json!({ "Filters": eleven }),
        json!({ "MaxResults": 0 }),
        json!({ "MaxResults": 101 }),
        json!({ "SortCriteria": [{ "Field": "Nonsense", "SortOrder": "asc" }] }),
        json!({ "SortCriteria": [{ "Field": "UpdatedAt", "SortOrder": "down" }] }),
    ] {
        assert_eq!(
            bed.call(MEMBER, "GetFindings", body.clone()).await.unwrap_err().code,
            "InvalidInputException",
            "{body}"
        );
    }
}

#[tokio::test]
async fn what_is_still_wrong_is_asked_for_as_a_reconciler_asks() {
    let bed = Bed::new().await;
    let mut given: Vec<Value> = ["a", "b", "c", "d", "e"]
        .iter()
        .zip(["LOW", "HIGH", "HIGH", "LOW", "HIGH"])
        .zip(1..)
        .map(|((id, label), day)| finding(id, label, &format!("2026-01-0{day}T00:00:00Z")))
        .collect();
    given[3]["Compliance"]["Status"] = "PASSED".into();
    given[4]["RecordState"] = "ARCHIVED".into();
    given[1]["ProductFields"] = json!({ "RelatedAWSResources:0/name": "securityhub-rule" });
    bed.ok(MEMBER, "BatchImportFindings", json!({ "Findings": given })).await;
    let is = |value: &str| json!([{ "Comparison": "EQUALS", "Value": value }]);
    let open = json!({
        "WorkflowStatus": [{ "Comparison": "EQUALS", "Value": "NEW" }, { "Comparison": "EQUALS", "Value": "NOTIFIED" }],
        "ComplianceStatus": is("FAILED"), "RecordState": is("ACTIVE"), "AwsAccountId": is(MEMBER),
        "ComplianceSecurityControlId": is("S3.8"),
        "UpdatedAt": [{ "Start": "2026-01-01T00:00:00Z", "End": "2026-01-31T00:00:00Z" }],
    });
    let sorted = json!({ "Filters": open, "SortCriteria": [
        { "Field": "SeverityLabel", "SortOrder": "desc" }, { "Field": "UpdatedAt", "SortOrder": "desc" }] });
    let ids = async |account: &str, body: &Value| -> Vec<String> {
        let found = bed.ok(account, "GetFindings", body.clone()).await;
        found["Findings"].as_array().unwrap().iter().map(|one| one["Id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(MEMBER, &sorted).await, ["a", "c", "b"], "by the first criterion, then by the next");
    let by_product = json!({ "Filters": { "ProductFields": [
        { "Key": "RelatedAWSResources:0/name", "Comparison": "EQUALS", "Value": "securityhub-rule" }] } });
    assert_eq!(ids(MEMBER, &by_product).await, ["b"]);
    let identifiers = json!([{ "Id": "a", "ProductArn": given[0]["ProductArn"] }]);
    let suppressed = json!({ "FindingIdentifiers": identifiers, "Workflow": { "Status": "SUPPRESSED" } });
    bed.ok(MEMBER, "BatchUpdateFindings", suppressed).await;
    assert_eq!(ids(ADMINISTRATOR, &sorted).await, ["c", "b"], "the administrator sees its members' findings");
}

#[tokio::test]
async fn findings_are_sorted_and_come_in_pages() {
    let bed = Bed::new().await;
    let given: Vec<Value> =
        (0..5).map(|n| finding(&n.to_string(), "LOW", &format!("2026-01-0{}T00:00:00Z", n + 1))).collect();
    bed.ok(MEMBER, "BatchImportFindings", json!({ "Findings": given })).await;
    let mut seen = Vec::new();
    let mut token = Value::Null;
    loop {
        let body = json!({ "MaxResults": 2, "NextToken": token, "SortCriteria": [{ "Field": "UpdatedAt", "SortOrder": "desc" }] });
        let answer = bed.ok(MEMBER, "GetFindings", body).await;
        seen.extend(
            answer["Findings"].as_array().unwrap().iter().map(|finding| finding["Id"].as_str().unwrap().to_owned()),
        );
        token = answer["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(seen, ["4", "3", "2", "1", "0"]);
}

#[tokio::test]
async fn an_import_keeps_what_customers_set_and_refuses_what_is_not_asff() {
    let bed = Bed::new().await;
    let one = finding("a", "HIGH", "2026-01-01T00:00:00Z");
    bed.ok(MEMBER, "BatchImportFindings", json!({ "Findings": [one] })).await;
    let update = json!({ "FindingIdentifiers": [{ "Id": "a", "ProductArn": one["ProductArn"] }], "Workflow": { "Status": "NOTIFIED" } });
    bed.ok(MEMBER, "BatchUpdateFindings", update).await;
    let again = finding("a", "LOW", "2026-02-01T00:00:00Z");
    let mut bad = finding("bad", "LOW", "2026-02-01T00:00:00Z");
    bad["Resources"] = json!([]);
    let mut foreign = finding("foreign", "LOW", "2026-02-01T00:00:00Z");
    foreign["AwsAccountId"] = STRANGER.into();
    let answer = bed.ok(MEMBER, "BatchImportFindings", json!({ "Findings": [again, bad, foreign] })).await;
    assert_eq!((&answer["SuccessCount"], &answer["FailedCount"]), (&json!(1), &json!(2)));
    let stored = bed.ok(MEMBER, "GetFindings", json!({})).await["Findings"][0].clone();
    assert_eq!(stored["Workflow"]["Status"], "NOTIFIED");
    assert_eq!(stored["Severity"]["Label"], "LOW");
}

/// A filter's value.
fn is(value: &str) -> Value {
    json!([{ "Comparison": "EQUALS", "Value": value }])
}

/// An automation rule for failed findings of high severity.
fn rule(name: &str, order: u64, update: &Value) -> Value {
    json!({
        "RuleName": name, "Description": "d", "RuleOrder": order,
        "Criteria": { "SeverityLabel": is("HIGH"), "ComplianceStatus": is("FAILED"), "WorkflowStatus": is("NEW") },
        "Actions": [{ "Type": "FINDING_FIELDS_UPDATE", "FindingFieldsUpdate": update }],
    })
}

#[tokio::test]
async fn automation_rules_change_a_finding_in_their_order_before_anybody_hears_of_it() {
    let bed = Bed::new().await;
    let make = async |name: &str, order: u64, status: &str| {
        let fields = json!({ (name): "was here", "Last": name });
        let update = json!({ "UserDefinedFields": fields, "Note": { "Text": name, "UpdatedBy": "a rule" } });
        let mut given = rule(name, order, &update);
        given["RuleStatus"] = status.into();
        bed.ok(ADMINISTRATOR, "CreateAutomationRule", given).await["RuleArn"].clone()
    };
    make("second", 20, "ENABLED").await;
    let first = make("first", 10, "ENABLED").await;
    make("never", 30, "DISABLED").await;

    bed.check(false).await;
    let events = bed.aws.events();
    assert_eq!(events.len(), 2, "one of the member, one of the administrator");
    for event in &events {
        let finding = &event["detail"]["findings"][0];
        let fields = json!({ "first": "was here", "second": "was here", "Last": "second" });
        assert_eq!(finding["UserDefinedFields"], fields);
        assert_eq!((&finding["Note"]["Text"], &finding["Workflow"]["Status"]), (&json!("second"), &json!("NEW")));
        assert!(finding["Note"]["UpdatedAt"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{finding:#}");
    }

    // The last rule that is applied, where a rule says that it is.
    let update = json!([{ "RuleArn": first, "IsTerminal": true }]);
    bed.ok(ADMINISTRATOR, "BatchUpdateAutomationRules", json!({ "UpdateAutomationRulesRequestItems": update })).await;
    let mut strangers = finding("c", "HIGH", "2026-01-01T00:00:00Z");
    strangers["AwsAccountId"] = STRANGER.into();
    let given = json!([finding("a", "HIGH", "2026-01-01T00:00:00Z"), finding("b", "LOW", "2026-01-01T00:00:00Z")]);
    bed.ok(MEMBER, "BatchImportFindings", json!({ "Findings": given })).await;
    bed.ok(STRANGER, "BatchImportFindings", json!({ "Findings": [strangers] })).await;
    let told: BTreeMap<String, Value> = bed
        .aws
        .events()
        .iter()
        .map(|event| &event["detail"]["findings"][0])
        .map(|finding| (finding["Id"].as_str().unwrap().to_owned(), finding["Note"]["Text"].clone()))
        .collect();
    let expected = [("a", json!("first")), ("b", Value::Null), ("c", Value::Null)];
    assert_eq!(told, BTreeMap::from(expected.map(|(id, text)| (id.to_owned(), text))));
}

#[tokio::test]
async fn a_finding_that_redress_marks_is_still_one_that_redress_parses() {
    let bed = Bed::new().await;
    for rule in redress_common::automation_rules::wanted() {
        bed.ok(ADMINISTRATOR, "CreateAutomationRule", rule).await;
    }
    bed.check(false).await;
    let mut event = bed.aws.events().pop().unwrap();
    for (name, value) in [("version", "0"), ("id", "6f1c"), ("time", "2026-01-01T00:00:00Z")] {
        event[name] = value.into();
    }
    let finding = &event["detail"]["findings"][0];
    assert_eq!(finding["UserDefinedFields"], json!({ (redress_common::automation_rules::PRIORITY): "high" }));
    assert_eq!(finding["Workflow"]["Status"], "NEW");
    let parsed = redress_common::finding::parse(event.to_string().as_bytes()).unwrap();
    let redress_common::finding::Inbound::Findings(findings) = parsed else { panic!("{parsed:?}") };
    assert!(matches!(findings.as_slice(), [Ok(_)]), "{findings:?}");
}

#[tokio::test]
async fn an_automation_rule_is_made_read_changed_and_deleted_by_the_administrator_alone() {
    let bed = Bed::new().await;
    let given = rule("r", 5, &json!({ "Severity": { "Label": "CRITICAL" } }));
    for account in [MEMBER, STRANGER] {
        for (operation, body) in [("CreateAutomationRule", given.clone()), ("ListAutomationRules", json!({}))] {
            let refused = bed.call(account, operation, body).await.unwrap_err();
            assert_eq!(refused.code, "InvalidAccessException", "{account} {operation}");
        }
    }
    let arn = bed.ok(ADMINISTRATOR, "CreateAutomationRule", given.clone()).await["RuleArn"].clone();
    let listed = bed.ok(ADMINISTRATOR, "ListAutomationRules", json!({})).await["AutomationRulesMetadata"].clone();
    assert_eq!((&listed[0]["RuleArn"], &listed[0]["RuleStatus"]), (&arn, &json!("ENABLED")));
    assert!(listed[0].get("Criteria").is_none() && listed[0].get("Actions").is_none(), "{listed:#}");

    let items = json!([{ "RuleArn": arn, "RuleStatus": "DISABLED" }, { "RuleArn": "arn:none", "RuleOrder": 1 }]);
    let changed = json!({ "UpdateAutomationRulesRequestItems": items });
    let answer = bed.ok(ADMINISTRATOR, "BatchUpdateAutomationRules", changed).await;
    assert_eq!(answer["ProcessedAutomationRules"], json!([arn]));
    assert_eq!(answer["UnprocessedAutomationRules"][0]["RuleArn"], "arn:none");

    let named = json!({ "AutomationRulesArns": [arn, "arn:none"] });
    let answer = bed.ok(ADMINISTRATOR, "BatchGetAutomationRules", named.clone()).await;
    let told = &answer["Rules"][0];
    assert_eq!((&told["RuleStatus"], &told["IsTerminal"]), (&json!("DISABLED"), &json!(false)));
    for name in ["RuleName", "RuleOrder", "Criteria", "Actions"] {
        assert_eq!(told[name], given[name], "{name}");
    }
    assert_eq!(answer["UnprocessedAutomationRules"][0]["RuleArn"], "arn:none");

    let answer = bed.ok(ADMINISTRATOR, "BatchDeleteAutomationRules", named).await;
    assert_eq!(answer["ProcessedAutomationRules"], json!([arn]));
    let listed = bed.ok(ADMINISTRATOR, "ListAutomationRules", json!({})).await;
    assert_eq!(listed["AutomationRulesMetadata"], json!([]));
}

#[tokio::test]
async fn an_automation_rule_that_security_hub_does_not_understand_is_refused() {
    let bed = Bed::new().await;
    let mistakes: [fn(&mut Value); 11] = [
        |rule| rule["Criteria"]["Nonsense"] = is("a"),
        |rule| rule["Criteria"]["ProductFields"] = json!([{ "Key": "a", "Comparison": "EQUALS", "Value": "b" }]),
        |rule| rule["Criteria"]["Title"] = json!([{ "Comparison": "IS", "Value": "b" }]),
        |rule| rule["Criteria"] = json!({}),
        |rule| rule["RuleOrder"] = json!(0),
        |rule| rule["RuleOrder"] = json!(1001),
        |rule| rule["RuleStatus"] = json!("ON"),
        |rule| rule["Description"] = json!(" "),
        |rule| rule["Actions"] = json!([]),
        |rule| rule["Actions"][0]["FindingFieldsUpdate"]["Title"] = json!("other"),
        // Recipes set it. There is no such status.
        |rule| rule["Actions"][0]["FindingFieldsUpdate"]["Workflow"] = json!({ "Status": "IN_PROGRESS" }),
    ];
    for mistake in mistakes {
        let mut given = rule("r", 5, &json!({ "Severity": { "Label": "CRITICAL" } }));
        mistake(&mut given);
        let refused = bed.call(ADMINISTRATOR, "CreateAutomationRule", given.clone()).await.unwrap_err();
        assert_eq!(refused.code, "InvalidInputException", "{given}");
    }
}

#[tokio::test]
async fn a_linked_regions_findings_are_told_and_shown_in_the_aggregation_region_too() {
    const THERE: &str = "eu-west-1";
    let bed = Bed::new().await;
    bed.further(THERE).await;
    bed.further("ap-south-1").await;
    bed.check_in(THERE, false).await;
    assert_eq!(bed.aws.events().len(), 2, "without an aggregator each Region is told of its own");
    assert!(bed.shown("us-east-1", ADMINISTRATOR).await.is_empty());

    let given = json!({ "RegionLinkingMode": "SPECIFIED_REGIONS", "Regions": [THERE] });
    bed.ok(ADMINISTRATOR, "CreateFindingAggregator", given).await;
    bed.check_in("ap-south-1", false).await;
    assert_eq!(bed.aws.events().len(), 2, "a Region that is not linked");
    bed.check_in(THERE, false).await;
    let events = bed.aws.events();
    let told: Vec<(&str, &str)> =
        events.iter().map(|event| (event["account"].as_str().unwrap(), event["region"].as_str().unwrap())).collect();
    assert_eq!(told, [(MEMBER, THERE), (ADMINISTRATOR, THERE), (ADMINISTRATOR, "us-east-1")]);
    let finding = &events[2]["detail"]["findings"][0];
    assert_eq!((&finding["Region"], finding), (&json!(THERE), &events[0]["detail"]["findings"][0]));
    assert_eq!(bed.shown("us-east-1", ADMINISTRATOR).await, bed.shown(THERE, ADMINISTRATOR).await);
    assert!(bed.shown("us-east-1", MEMBER).await.is_empty());
    assert_eq!(bed.shown("ap-south-1", ADMINISTRATOR).await.len(), 1);

    // An update in either Region is one in both, and both are told.
    let identifier = json!({ "Id": finding["Id"], "ProductArn": finding["ProductArn"] });
    for (region, status) in [("us-east-1", "RESOLVED"), (THERE, "SUPPRESSED")] {
        let update = json!({ "FindingIdentifiers": [identifier], "Workflow": { "Status": status } });
        let answer = bed.call_in(region, ADMINISTRATOR, "BatchUpdateFindings", "/", update).await.unwrap();
        assert_eq!(answer["ProcessedFindings"], json!([identifier]), "{answer:#}");
        assert_eq!(bed.aws.events().len(), 3);
        for place in ["us-east-1", THERE] {
            let shown = bed.shown(place, ADMINISTRATOR).await;
            assert_eq!(shown.iter().map(|(_, status)| status.as_str()).collect::<Vec<_>>(), [status], "{place}");
        }
    }
    let update = json!({ "FindingIdentifiers": [identifier], "Workflow": { "Status": "NEW" } });
    for (region, account) in [("us-east-1", MEMBER), ("ap-south-1", ADMINISTRATOR)] {
        let answer = bed.call_in(region, account, "BatchUpdateFindings", "/", update.clone()).await.unwrap();
        assert_eq!(answer["UnprocessedFindings"][0]["ErrorCode"], "FindingNotFound", "{region} {account}");
    }
}

#[tokio::test]
async fn a_finding_aggregator_is_made_read_changed_and_deleted_by_the_administrator_alone() {
    let bed = Bed::new().await;
    bed.further("eu-west-1").await;
    let all = json!({ "RegionLinkingMode": "ALL_REGIONS" });
    for account in [MEMBER, STRANGER] {
        let refused = bed.call(account, "CreateFindingAggregator", all.clone()).await.unwrap_err();
        assert_eq!(refused.code, "InvalidAccessException", "{account}");
    }
    for mistake in [
        json!({}),
        json!({ "RegionLinkingMode": "SOME_REGIONS" }),
        json!({ "RegionLinkingMode": "SPECIFIED_REGIONS" }),
        json!({ "RegionLinkingMode": "ALL_REGIONS", "Regions": ["eu-west-1"] }),
        json!({ "RegionLinkingMode": "SPECIFIED_REGIONS", "Regions": ["eu-west-1", "us-east-1"] }),
    ] {
        let refused = bed.call(ADMINISTRATOR, "CreateFindingAggregator", mistake.clone()).await.unwrap_err();
        assert_eq!(refused.code, "InvalidInputException", "{mistake}");
    }
    let path = "/findingAggregator/list";
    let listed =
        async || bed.call_in("eu-west-1", ADMINISTRATOR, "ListFindingAggregators", path, json!({})).await.unwrap();
    assert_eq!(listed().await, json!({ "FindingAggregators": [] }));

    let made = bed.ok(ADMINISTRATOR, "CreateFindingAggregator", all.clone()).await;
    assert_eq!(made["FindingAggregationRegion"], "us-east-1");
    assert_eq!((&made["RegionLinkingMode"], made.get("Regions")), (&json!("ALL_REGIONS"), None));
    let arn = made["FindingAggregatorArn"].as_str().unwrap();
    assert!(arn.starts_with(&format!("arn:aws:securityhub:us-east-1:{ADMINISTRATOR}:finding-aggregator/")), "{arn}");
    let again = bed.call(ADMINISTRATOR, "CreateFindingAggregator", all).await.unwrap_err();
    assert_eq!(again.code, "LimitExceededException");
    assert_eq!(listed().await, json!({ "FindingAggregators": [{ "FindingAggregatorArn": arn }] }));
    bed.check_in("eu-west-1", false).await;
    assert_eq!(bed.aws.events().len(), 3);

    let but = json!({
        "FindingAggregatorArn": arn, "RegionLinkingMode": "ALL_REGIONS_EXCEPT_SPECIFIED", "Regions": ["eu-west-1"],
    });
    let path = "/findingAggregator/update";
    let elsewhere = bed.call_in("eu-west-1", ADMINISTRATOR, "UpdateFindingAggregator", path, but.clone()).await;
    assert_eq!(elsewhere.unwrap_err().code, "InvalidInputException", "it is changed in its own Region");
    let changed = bed.call_in("us-east-1", ADMINISTRATOR, "UpdateFindingAggregator", path, but).await.unwrap();
    let get = format!("/findingAggregator/get/{arn}");
    let told = bed.call_in("eu-west-1", ADMINISTRATOR, "GetFindingAggregator", &get, json!({})).await.unwrap();
    assert_eq!((&told["Regions"], &told), (&json!(["eu-west-1"]), &changed));
    bed.check_in("eu-west-1", true).await;
    assert_eq!(bed.aws.events().len(), 2);

    let delete = format!("/findingAggregator/delete/{arn}");
    let gone = bed.call_in("us-east-1", ADMINISTRATOR, "DeleteFindingAggregator", &delete, json!({})).await.unwrap();
    assert_eq!(gone, json!({}));
    let refused = bed.call_in("us-east-1", ADMINISTRATOR, "GetFindingAggregator", &get, json!({})).await.unwrap_err();
    assert_eq!(refused.code, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_custom_action_carries_its_findings_and_no_more_than_twenty() {
    let bed = Bed::new().await;
    bed.check(false).await;
    let id = bed.ids(ADMINISTRATOR, json!({})).await.remove(0);
    let target = json!({ "Id": "RedressRemediate", "Name": "Redress: fix", "Description": "d" });
    let arn = bed.ok(ADMINISTRATOR, "CreateActionTarget", target).await["ActionTargetArn"].as_str().unwrap().to_owned();
    bed.aws.events();
    bed.hub
        .choose_action(&*bed.aws, ADMINISTRATOR, "us-east-1", "RedressRemediate", std::slice::from_ref(&id))
        .await
        .unwrap();
    let event = bed.aws.events().remove(0);
    assert_eq!(event["detail-type"], "Security Hub Findings - Custom Action");
    assert_eq!(event["resources"], json!([arn]));
    assert_eq!(event["detail"]["actionName"], "Redress: fix");
    assert_eq!(event["detail"]["findings"][0]["Id"], id.as_str());
    let many = vec![id.clone(); 21];
    assert!(bed.hub.choose_action(&*bed.aws, ADMINISTRATOR, "us-east-1", "RedressRemediate", &many).await.is_err());
    assert!(bed.hub.choose_action(&*bed.aws, ADMINISTRATOR, "us-east-1", "Nobody", &[id]).await.is_err());
}

#[tokio::test]
async fn an_account_without_security_hub_is_told_so() {
    let bed = Bed::new().await;
    let refused = bed.call("444444444444", "GetFindings", json!({})).await.unwrap_err();
    assert_eq!(refused.code, "InvalidAccessException");
}
