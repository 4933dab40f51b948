//! AWS Security Hub: findings with real filters, updates, custom actions, automation rules, and the events that they make.
//!
//! One hub an account and Region. The organisation's administrator sees and updates its members' findings, and
//! gets their events too, as the delegated administrator does in AWS; with a finding aggregator those of linked
//! Regions in the aggregation Region besides. Standards and insights are not here.

mod aggregator;
mod automation;
mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::ids::Region;
use serde_json::{Map, Value, json};

use crate::service::{Aws, AwsError, Request, Service};
use aggregator::Aggregator;
use automation::Rules;
use filter::Filters;

const OPERATIONS: &[&str] = &[
    "BatchDeleteAutomationRules",
    "BatchGetAutomationRules",
    "BatchImportFindings",
    "BatchUpdateAutomationRules",
    "BatchUpdateFindings",
    "CreateActionTarget",
    "CreateAutomationRule",
    "CreateFindingAggregator",
    "CreateMembers",
    "DeleteActionTarget",
    "DeleteFindingAggregator",
    "DescribeActionTargets",
    "DescribeHub",
    "EnableOrganizationAdminAccount",
    "EnableSecurityHub",
    "GetFindingAggregator",
    "GetFindings",
    "ListAutomationRules",
    "ListFindingAggregators",
    "ListMembers",
    "UpdateFindingAggregator",
];

/// The most findings of one import or update call, and of one custom action.
const MAX_BATCH: usize = 100;
const MAX_CUSTOM_ACTION: usize = 20;

/// An account and a Region.
type Place = (String, String);

/// The service. Clones of an [`Arc`] of it share their findings: AWS Config reports to it.
#[derive(Default)]
pub struct SecurityHub {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    administrator: Option<String>,
    members: BTreeSet<String>,
    aggregator: Option<Aggregator>,
    hubs: BTreeMap<Place, Hub>,
    /// By Region, product and id: what names a finding for its owner and its administrator alike.
    findings: BTreeMap<(String, String, String), Value>,
}

struct Hub {
    subscribed_at: String,
    /// By ARN.
    action_targets: BTreeMap<String, ActionTarget>,
    automation_rules: Rules,
}

#[derive(Clone)]
struct ActionTarget {
    name: String,
    description: String,
}

/// A control's verdict on a resource, as AWS Config hands it over.
#[derive(Debug, Clone)]
pub struct ControlCheck<'a> {
    /// Whose resource it is.
    pub account: &'a str,
    /// Where.
    pub region: &'a str,
    /// `S3.8`.
    pub control: &'a str,
    /// The control's title.
    pub title: &'a str,
    /// `LOW` to `CRITICAL`.
    pub severity: &'a str,
    /// The Config rule that found out.
    pub rule: &'a str,
    /// ASFF's type of the resource: `AwsS3Bucket`.
    pub resource_type: &'a str,
    /// Its ARN, or `AWS::::Account:<id>`.
    pub resource_id: &'a str,
    /// Whether it passed.
    pub passed: bool,
    /// When it was evaluated.
    pub at: Timestamp,
}

/// A finding to tell of: whose, and what it is now.
struct Changed {
    account: String,
    region: String,
    finding: Value,
}

impl SecurityHub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A control passed or failed: makes or updates its finding and tells the owner and the administrator.
    /// Nothing happens where Security Hub is not enabled.
    pub async fn control_checked(&self, check: &ControlCheck<'_>, aws: &dyn Aws) {
        let changed = {
            let mut state = self.state();
            if !state.hubs.contains_key(&(check.account.to_owned(), check.region.to_owned())) {
                return;
            }
            let fresh = control_finding(check);
            state.store(check.region, fresh)
        };
        self.tell(vec![changed], aws).await;
    }

    /// Chooses a custom action on findings, as somebody does in the console of `account`.
    ///
    /// # Errors
    /// When there is no such action or finding, or there are more than 20 findings.
    pub async fn choose_action(
        &self,
        aws: &dyn Aws,
        account: &str,
        region: &str,
        action_id: &str,
        finding_ids: &[String],
    ) -> Result<(), AwsError> {
        if finding_ids.is_empty() || finding_ids.len() > MAX_CUSTOM_ACTION {
            return Err(invalid(format!(
                "a custom action takes 1 to {MAX_CUSTOM_ACTION} findings, not {}",
                finding_ids.len()
            )));
        }
        let arn = action_arn(account, region, action_id);
        let (target, findings) = {
            let state = self.state();
            let target = state
                .hub(account, region)?
                .action_targets
                .get(&arn)
                .cloned()
                .ok_or_else(|| not_found("ActionTarget", &arn))?;
            let visible = state.visible(account, region);
            let find = |id: &String| {
                let found = visible.iter().find(|finding| finding["Id"] == **id);
                found.map(|finding| (*finding).clone()).ok_or_else(|| not_found("finding", id))
            };
            (target, finding_ids.iter().map(find).collect::<Result<Vec<_>, _>>()?)
        };
        let detail =
            json!({ "actionName": target.name, "actionDescription": target.description, "findings": findings });
        aws.emit(account, region, "aws.securityhub", "Security Hub Findings - Custom Action", vec![arn], detail).await;
        Ok(())
    }

    /// One `Imported` event a finding, in its own account, in its administrator's, and in the aggregation Region.
    async fn tell(&self, changed: Vec<Changed>, aws: &dyn Aws) {
        for Changed { account, region, finding } in changed {
            let listeners = self.state().listeners(&account, &region);
            let product = finding["ProductArn"].as_str().unwrap_or_default();
            let resources = vec![format!("{product}/{}", finding["Id"].as_str().unwrap_or_default())];
            for (listener, place) in listeners {
                let detail = json!({ "findings": [finding] });
                aws.emit(
                    &listener,
                    &place,
                    "aws.securityhub",
                    "Security Hub Findings - Imported",
                    resources.clone(),
                    detail,
                )
                .await;
            }
        }
    }

    fn import(&self, request: &Request) -> Result<(Value, Vec<Changed>), AwsError> {
        let given = list(&request.body, "Findings")?;
        let mut state = self.state();
        state.hub(&request.caller.account, &request.region)?;
        let (mut failed, mut changed) = (Vec::new(), Vec::new());
        for finding in given {
            match importable(finding, &request.caller.account, &request.region) {
                Ok(()) => changed.push(state.store(&request.region, finding.clone())),
                Err(message) => failed.push(json!({
                    "Id": finding["Id"].as_str().unwrap_or_default(), "ErrorCode": "InvalidInput", "ErrorMessage": message,
                })),
            }
        }
        let answer = json!({ "SuccessCount": changed.len(), "FailedCount": failed.len(), "FailedFindings": failed });
        Ok((answer, changed))
    }

    fn update(&self, request: &Request) -> Result<(Value, Vec<Changed>), AwsError> {
        let identifiers = list(&request.body, "FindingIdentifiers")?;
        let patch = patch(&request.body)?;
        let mut state = self.state();
        state.hub(&request.caller.account, &request.region)?;
        let (mut processed, mut unprocessed, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for identifier in identifiers {
            let text = |name: &str| identifier[name].as_str().unwrap_or_default().to_owned();
            // A product is of one Region, and so are its findings.
            let product = text("ProductArn");
            let place = product.split(':').nth(3).unwrap_or_default().to_owned();
            let key = (place.clone(), product, text("Id"));
            let (viewer, region) = (&request.caller.account, &request.region);
            let allowed = state
                .findings
                .get(&key)
                .is_some_and(|finding| state.shows(viewer, region, &place) && state.sees(viewer, &place, finding));
            match state.findings.get_mut(&key) {
                Some(finding) if allowed => {
                    amend(finding, &patch);
                    finding["ProcessedAt"] = now().into();
                    let account = finding["AwsAccountId"].as_str().unwrap_or_default().to_owned();
                    changed.push(Changed { account, region: place, finding: finding.clone() });
                    processed.push(identifier.clone());
                }
                _ => unprocessed.push(json!({
                    "FindingIdentifier": identifier, "ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found",
                })),
            }
        }
        Ok((json!({ "ProcessedFindings": processed, "UnprocessedFindings": unprocessed }), changed))
    }

    fn find(&self, request: &Request) -> Result<Value, AwsError> {
        let filters = Filters::parse(&request.body["Filters"]).map_err(invalid)?;
        let state = self.state();
        state.hub(&request.caller.account, &request.region)?;
        let now = Timestamp::now();
        let mut found = state.visible(&request.caller.account, &request.region);
        found.retain(|finding| filters.match_finding(finding, now));
        filter::sort(&mut found, &request.body["SortCriteria"]).map_err(invalid)?;
        let (page, next) = page(&found, &request.body, MAX_BATCH)?;
        Ok(with_token(json!({ "Findings": page }), next))
    }

    fn describe_action_targets(&self, request: &Request) -> Result<Value, AwsError> {
        let state = self.state();
        let targets = &state.hub(&request.caller.account, &request.region)?.action_targets;
        let wanted: Vec<&str> =
            request.body["ActionTargetArns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if let Some(missing) = wanted.iter().find(|arn| !targets.contains_key(**arn)) {
            return Err(not_found("ActionTarget", missing));
        }
        let shown: Vec<Value> = targets
            .iter()
            .filter(|(arn, _)| wanted.is_empty() || wanted.contains(&arn.as_str()))
            .map(|(arn, target)| json!({ "ActionTargetArn": arn, "Name": target.name, "Description": target.description }))
            .collect();
        let (page, next) = page(&shown, &request.body, MAX_BATCH)?;
        Ok(with_token(json!({ "ActionTargets": page }), next))
    }

    fn create_action_target(&self, request: &Request) -> Result<Value, AwsError> {
        let (account, region) = (&request.caller.account, &request.region);
        let id = text(&request.body, "Id")?;
        if id.is_empty() || id.len() > 20 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid("an action target's Id is 1 to 20 letters and digits".to_owned()));
        }
        let target =
            ActionTarget { name: text(&request.body, "Name")?, description: text(&request.body, "Description")? };
        if target.name.len() > 20 {
            return Err(invalid("an action target's Name is at most 20 characters long".to_owned()));
        }
        let arn = action_arn(account, region, &id);
        let mut state = self.state();
        let targets = &mut state.hub_mut(account, region)?.action_targets;
        if targets.contains_key(&arn) {
            return Err(AwsError {
                status: 409,
                ..AwsError::new("ResourceConflictException", format!("ActionTarget {id} already exists"))
            });
        }
        targets.insert(arn.clone(), target);
        Ok(json!({ "ActionTargetArn": arn }))
    }

    fn delete_action_target(&self, request: &Request) -> Result<Value, AwsError> {
        let arn = request.path.strip_prefix("/actionTargets/").unwrap_or_default().to_owned();
        let mut state = self.state();
        let targets = &mut state.hub_mut(&request.caller.account, &request.region)?.action_targets;
        targets.remove(&arn).ok_or_else(|| not_found("ActionTarget", &arn))?;
        Ok(json!({ "ActionTargetArn": arn }))
    }

    fn enable(&self, request: &Request) -> Result<Value, AwsError> {
        let place = (request.caller.account.clone(), request.region.clone());
        let mut state = self.state();
        if state.hubs.contains_key(&place) {
            let conflict = AwsError::new("ResourceConflictException", "Account is already subscribed to Security Hub");
            return Err(AwsError { status: 409, ..conflict });
        }
        let hub = Hub { subscribed_at: now(), action_targets: BTreeMap::new(), automation_rules: BTreeMap::new() };
        state.hubs.insert(place, hub);
        Ok(json!({}))
    }

    fn describe(&self, request: &Request) -> Result<Value, AwsError> {
        let state = self.state();
        let hub = state.hub(&request.caller.account, &request.region)?;
        Ok(json!({
            "HubArn": hub_arn(&request.caller.account, &request.region), "SubscribedAt": hub.subscribed_at,
            "AutoEnableControls": true, "ControlFindingGenerator": "SECURITY_CONTROL",
        }))
    }

    fn create_members(&self, request: &Request) -> Result<Value, AwsError> {
        let details = list(&request.body, "AccountDetails")?;
        let mut state = self.state();
        state.hub(&request.caller.account, &request.region)?;
        if state.administrator.as_ref() != Some(&request.caller.account) {
            return Err(AwsError {
                status: 403,
                ..AwsError::new(
                    "AccessDeniedException",
                    "the account is not the organization's Security Hub administrator",
                )
            });
        }
        state.members.extend(details.iter().filter_map(|detail| detail["AccountId"].as_str()).map(str::to_owned));
        Ok(json!({ "UnprocessedAccounts": [] }))
    }
}

impl State {
    fn hub(&self, account: &str, region: &str) -> Result<&Hub, AwsError> {
        self.hubs.get(&(account.to_owned(), region.to_owned())).ok_or_else(|| not_subscribed(account))
    }

    fn hub_mut(&mut self, account: &str, region: &str) -> Result<&mut Hub, AwsError> {
        self.hubs.get_mut(&(account.to_owned(), region.to_owned())).ok_or_else(|| not_subscribed(account))
    }

    /// Who else hears of an account's findings.
    fn administrator_of(&self, account: &str, region: &str) -> Option<String> {
        let administrator = self.administrator.clone().filter(|administrator| administrator != account)?;
        let enabled = self.hubs.contains_key(&(administrator.clone(), region.to_owned()));
        (enabled && self.members.contains(account)).then_some(administrator)
    }

    fn sees(&self, viewer: &str, region: &str, finding: &Value) -> bool {
        let owner = finding["AwsAccountId"].as_str().unwrap_or_default();
        owner == viewer || self.administrator_of(owner, region).as_deref() == Some(viewer)
    }

    fn visible(&self, viewer: &str, region: &str) -> Vec<&Value> {
        let here = self.findings.iter().filter(|((place, ..), _)| self.shows(viewer, region, place));
        here.filter(|((place, ..), finding)| self.sees(viewer, place, finding)).map(|(_, finding)| finding).collect()
    }

    /// Stores what a provider says. What customers set (workflow, note, own fields) stays, but for the workflow of
    /// a finding that fails again or passes. Then automation rules have their say.
    fn store(&mut self, region: &str, mut fresh: Value) -> Changed {
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let key = (region.to_owned(), text(&fresh, "ProductArn"), text(&fresh, "Id"));
        let account = text(&fresh, "AwsAccountId");
        let default = |finding: &mut Value, name: &str, value: Value| {
            if finding[name].is_null() {
                finding[name] = value;
            }
        };
        let before = self.findings.get(&key);
        if let Some(before) = before {
            for name in [
                "Workflow",
                "Note",
                "UserDefinedFields",
                "VerificationState",
                "Confidence",
                "Criticality",
                "RelatedFindings",
            ] {
                if !before[name].is_null() {
                    fresh[name] = before[name].clone();
                }
            }
            fresh["CreatedAt"] = before["CreatedAt"].clone();
        }
        default(&mut fresh, "RecordState", "ACTIVE".into());
        default(&mut fresh, "Workflow", json!({ "Status": "NEW" }));
        default(&mut fresh, "WorkflowState", "NEW".into());
        default(&mut fresh, "Region", region.into());
        let reset = before.and_then(|before| workflow_after(before, &fresh));
        if let Some(status) = reset.or_else(|| (before.is_none() && passed(&fresh)).then_some("RESOLVED")) {
            fresh["Workflow"] = json!({ "Status": status });
        }
        fresh["ProcessedAt"] = now().into();
        self.automate(&account, region, &mut fresh);
        self.findings.insert(key, fresh.clone());
        Changed { account, region: region.to_owned(), finding: fresh }
    }
}

fn passed(finding: &Value) -> bool {
    finding["Compliance"]["Status"] == "PASSED"
}

/// Security Hub resolves a finding whose check passes, and opens it anew when it fails again or comes back
/// from the archive.
fn workflow_after(before: &Value, fresh: &Value) -> Option<&'static str> {
    let suppressed = before["Workflow"]["Status"] == "SUPPRESSED";
    let came_back = before["RecordState"] == "ARCHIVED" && fresh["RecordState"] == "ACTIVE";
    match (passed(before), passed(fresh)) {
        _ if suppressed => None,
        (false, true) => Some("RESOLVED"),
        (true, false) => Some("NEW"),
        _ if came_back => Some("NEW"),
        _ => None,
    }
}

#[async_trait]
impl Service for SecurityHub {
    fn name(&self) -> &'static str {
        "securityhub"
    }

    fn answers(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn resources(&self, request: &Request) -> Vec<String> {
        let (account, region) = (&request.caller.account, &request.region);
        match request.operation.as_str() {
            "BatchDeleteAutomationRules" | "BatchGetAutomationRules" | "BatchUpdateAutomationRules" => {
                automation::named(&request.body)
            }
            "BatchImportFindings" => {
                let mut products: Vec<String> = request.body["Findings"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|finding| finding["ProductArn"].as_str())
                    .map(str::to_owned)
                    .collect();
                products.dedup();
                products
            }
            "DeleteActionTarget" => vec![request.path.strip_prefix("/actionTargets/").unwrap_or_default().to_owned()],
            "DeleteFindingAggregator" | "GetFindingAggregator" | "UpdateFindingAggregator" => {
                vec![aggregator::named(request).to_owned()]
            }
            "CreateAutomationRule"
            | "CreateFindingAggregator"
            | "EnableOrganizationAdminAccount"
            | "ListAutomationRules"
            | "ListFindingAggregators" => Vec::new(),
            _ => vec![hub_arn(account, region)],
        }
    }

    async fn handle(&self, request: Request, aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        match request.operation.as_str() {
            "BatchDeleteAutomationRules" => self.delete_automation_rules(&request),
            "BatchGetAutomationRules" => self.get_automation_rules(&request),
            "BatchImportFindings" => {
                let (answer, changed) = self.import(&request)?;
                self.tell(changed, &*aws).await;
                Ok(answer)
            }
            "BatchUpdateAutomationRules" => self.update_automation_rules(&request),
            "BatchUpdateFindings" => {
                let (answer, changed) = self.update(&request)?;
                self.tell(changed, &*aws).await;
                Ok(answer)
            }
            "CreateActionTarget" => self.create_action_target(&request),
            "CreateAutomationRule" => self.create_automation_rule(&request),
            "CreateFindingAggregator" => self.create_finding_aggregator(&request),
            "CreateMembers" => self.create_members(&request),
            "DeleteActionTarget" => self.delete_action_target(&request),
            "DeleteFindingAggregator" => self.delete_finding_aggregator(&request),
            "DescribeActionTargets" => self.describe_action_targets(&request),
            "DescribeHub" => self.describe(&request),
            "EnableOrganizationAdminAccount" => {
                self.state().administrator = Some(text(&request.body, "AdminAccountId")?);
                Ok(json!({}))
            }
            "EnableSecurityHub" => self.enable(&request),
            "GetFindingAggregator" => self.get_finding_aggregator(&request),
            "GetFindings" => self.find(&request),
            "ListAutomationRules" => self.list_automation_rules(&request),
            "ListFindingAggregators" => self.list_finding_aggregators(&request),
            "ListMembers" => {
                let state = self.state();
                let administrator = state.administrator.clone();
                let members = state
                    .members
                    .iter()
                    .map(|id| json!({ "AccountId": id, "MemberStatus": "Enabled", "AdministratorId": administrator }));
                Ok(json!({ "Members": members.collect::<Vec<_>>() }))
            }
            "UpdateFindingAggregator" => self.update_finding_aggregator(&request),
            other => Err(AwsError::new("UnknownOperationException", format!("the lab's Security Hub has no {other}"))),
        }
    }
}

/// What a customer may set, out of a `BatchUpdateFindings` request.
fn patch(body: &Value) -> Result<Map<String, Value>, AwsError> {
    let mut patch = Map::new();
    if let Some(note) = body["Note"].as_object() {
        let part = |name: &str| {
            note.get(name).cloned().filter(Value::is_string).ok_or_else(|| invalid(format!("Note.{name} is required")))
        };
        patch.insert(
            "Note".to_owned(),
            json!({ "Text": part("Text")?, "UpdatedBy": part("UpdatedBy")?, "UpdatedAt": now() }),
        );
    }
    if let Some(status) = body["Workflow"]["Status"].as_str() {
        if !["NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"].contains(&status) {
            return Err(invalid(format!("Workflow.Status `{status}` is none of NEW, NOTIFIED, RESOLVED, SUPPRESSED")));
        }
        patch.insert("Workflow".to_owned(), json!({ "Status": status }));
    }
    for name in
        ["Severity", "UserDefinedFields", "VerificationState", "Confidence", "Criticality", "Types", "RelatedFindings"]
    {
        if !body[name].is_null() {
            patch.insert(name.to_owned(), body[name].clone());
        }
    }
    if patch.is_empty() {
        return Err(invalid("the request updates nothing".to_owned()));
    }
    Ok(patch)
}

/// Writes what a customer sets, or a rule of theirs, into a finding.
fn amend(finding: &mut Value, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match (finding.get_mut(name).and_then(Value::as_object_mut), value) {
            (Some(present), Value::Object(update)) if name != "Note" => present.extend(update.clone()),
            _ => finding[name] = value.clone(),
        }
    }
}

/// ASFF's required fields, and whether the caller may speak for the product.
fn importable(finding: &Value, account: &str, region: &str) -> Result<(), String> {
    for name in [
        "SchemaVersion",
        "Id",
        "ProductArn",
        "GeneratorId",
        "AwsAccountId",
        "CreatedAt",
        "UpdatedAt",
        "Title",
        "Description",
    ] {
        if finding[name].as_str().is_none_or(str::is_empty) {
            return Err(format!("{name} is required"));
        }
    }
    for name in ["CreatedAt", "UpdatedAt"] {
        if finding[name].as_str().is_none_or(|time| time.parse::<Timestamp>().is_err()) {
            return Err(format!("{name} is not a timestamp of RFC 3339"));
        }
    }
    if finding["SchemaVersion"] != "2018-10-08" {
        return Err("SchemaVersion must be 2018-10-08".to_owned());
    }
    if finding["AwsAccountId"] != account {
        return Err("AwsAccountId is not the account that imports".to_owned());
    }
    if finding["Severity"].get("Label").is_none() && finding["Severity"].get("Normalized").is_none() {
        return Err("Severity needs a Label or Normalized".to_owned());
    }
    let resources = finding["Resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    if resources.is_empty()
        || resources.len() > 32
        || resources.iter().any(|one| !one["Type"].is_string() || !one["Id"].is_string())
    {
        return Err("Resources needs 1 to 32 entries, each with Type and Id".to_owned());
    }
    let product = finding["ProductArn"].as_str().unwrap_or_default();
    if !product.starts_with(&format!("arn:{}:securityhub:{region}:", partition(region)))
        || !product.contains(":product/")
    {
        return Err("ProductArn is not a product of this Region".to_owned());
    }
    Ok(())
}

/// The finding of a control, as Security Hub writes it with consolidated control findings.
fn control_finding(check: &ControlCheck<'_>) -> Value {
    let ControlCheck { account, region, control, title, severity, rule, resource_type, resource_id, .. } = check;
    let partition = partition(region);
    let name = format!("{account}/{region}/{control}/{resource_id}");
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes());
    let id = format!("arn:{partition}:securityhub:{region}:{account}:security-control/{control}/finding/{id}");
    let normalized = match *severity {
        "CRITICAL" => 90,
        "HIGH" => 70,
        "MEDIUM" => 40,
        "LOW" => 1,
        _ => 0,
    };
    let severity = if check.passed {
        json!({ "Label": "INFORMATIONAL", "Normalized": 0, "Original": "INFORMATIONAL" })
    } else {
        json!({ "Label": severity, "Normalized": normalized, "Original": severity })
    };
    let types = json!(["Software and Configuration Checks/Industry and Regulatory Standards"]);
    json!({
        "SchemaVersion": "2018-10-08",
        "Id": id,
        "ProductArn": format!("arn:{partition}:securityhub:{region}::product/aws/securityhub"),
        "ProductName": "Security Hub",
        "CompanyName": "AWS",
        "Region": region,
        "GeneratorId": format!("security-control/{control}"),
        "AwsAccountId": account,
        "Types": types,
        "FirstObservedAt": time(check.at),
        "LastObservedAt": time(check.at),
        "CreatedAt": time(check.at),
        "UpdatedAt": time(check.at),
        "Severity": severity,
        "Title": title,
        "Description": title,
        "Remediation": { "Recommendation": {
            "Text": "For information on how to correct this issue, consult the AWS Security Hub controls documentation.",
            "Url": format!("https://docs.aws.amazon.com/console/securityhub/{control}/remediation"),
        } },
        "ProductFields": {
            "RelatedAWSResources:0/name": rule,
            "RelatedAWSResources:0/type": "AWS::Config::ConfigRule",
            "aws/securityhub/ProductName": "Security Hub",
            "aws/securityhub/CompanyName": "AWS",
            "aws/securityhub/FindingId": format!("arn:{partition}:securityhub:{region}::product/aws/securityhub/{id}"),
            "Resources:0/Id": resource_id,
        },
        "Resources": [{ "Type": resource_type, "Id": resource_id, "Partition": partition.as_str(), "Region": region }],
        "Compliance": {
            "Status": if check.passed { "PASSED" } else { "FAILED" },
            "SecurityControlId": control,
            "AssociatedStandards": [{ "StandardsId": "standards/aws-foundational-security-best-practices/v/1.0.0" }],
        },
        "WorkflowState": "NEW",
        "RecordState": "ACTIVE",
        "FindingProviderFields": { "Severity": { "Label": severity["Label"], "Original": severity["Original"] }, "Types": types },
    })
}

fn partition(region: &str) -> Partition {
    region.parse::<Region>().map_or(Partition::Aws, |region| Partition::of_region(&region))
}

fn hub_arn(account: &str, region: &str) -> String {
    format!("arn:{}:securityhub:{region}:{account}:hub/default", partition(region))
}

fn action_arn(account: &str, region: &str, id: &str) -> String {
    format!("arn:{}:securityhub:{region}:{account}:action/custom/{id}", partition(region))
}

fn list<'a>(body: &'a Value, name: &str) -> Result<&'a Vec<Value>, AwsError> {
    match body[name].as_array() {
        Some(items) if !items.is_empty() && items.len() <= MAX_BATCH => Ok(items),
        _ => Err(invalid(format!("{name} must have 1 to {MAX_BATCH} entries"))),
    }
}

fn text(body: &Value, name: &str) -> Result<String, AwsError> {
    body[name].as_str().map(str::to_owned).ok_or_else(|| invalid(format!("{name} is required")))
}

/// One page of a list, and the token of the next: the number of what was shown.
fn page<T: Clone>(all: &[T], body: &Value, most: usize) -> Result<(Vec<T>, Option<String>), AwsError> {
    let start = match body["NextToken"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => token.parse().map_err(|_| invalid("NextToken is not one of ours".to_owned()))?,
        None => 0,
    };
    let size = match &body["MaxResults"] {
        Value::Null => most,
        given => {
            let size =
                given.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=most).contains(size));
            size.ok_or_else(|| invalid(format!("MaxResults is 1 to {most}")))?
        }
    };
    let shown: Vec<T> = all.iter().skip(start).take(size).cloned().collect();
    let end = start + shown.len();
    Ok((shown, (end < all.len()).then(|| end.to_string())))
}

fn with_token(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    answer
}

/// Milliseconds, as Security Hub writes times.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn now() -> String {
    time(Timestamp::now())
}

fn invalid(message: String) -> AwsError {
    AwsError::new("InvalidInputException", message)
}

fn not_found(kind: &str, id: &str) -> AwsError {
    AwsError { status: 404, ..AwsError::new("ResourceNotFoundException", format!("{kind} {id} not found")) }
}

fn not_subscribed(account: &str) -> AwsError {
    AwsError {
        status: 401,
        ..AwsError::new("InvalidAccessException", format!("Account {account} is not subscribed to AWS Security Hub"))
    }
}

fn not_administrator(account: &str) -> AwsError {
    AwsError {
        status: 401,
        ..AwsError::new("InvalidAccessException", format!("Account {account} is not the administrator of Security Hub"))
    }
}

#[cfg(test)]
mod tests;
