//! Automation rules: what changes a finding as it comes in, before anybody hears of it.
//!
//! Only the organisation's administrator has them, each in one Region, for findings of its own account and of its members.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::filter::Filters;
use super::{
    MAX_BATCH, SecurityHub, State, amend, invalid, list, not_administrator, now, page, partition, patch, with_token,
};
use crate::service::{AwsError, Request};

/// The most rules of an account.
const MOST_RULES: usize = 100;

/// What callers say of a rule.
const GIVEN: [&str; 7] = ["Actions", "Criteria", "Description", "IsTerminal", "RuleName", "RuleOrder", "RuleStatus"];

/// What `GetFindings` filters by, and no automation rule does.
const NO_CRITERIA: [&str; 3] = ["ProductFields", "Region", "SeverityNormalized"];

/// What a rule may update.
const UPDATED: [&str; 9] = [
    "Confidence",
    "Criticality",
    "Note",
    "RelatedFindings",
    "Severity",
    "Types",
    "UserDefinedFields",
    "VerificationState",
    "Workflow",
];

/// The rules of an account and Region, by ARN.
pub(super) type Rules = BTreeMap<String, Rule>;

/// A rule that Security Hub takes.
pub(super) struct Rule {
    /// As `BatchGetAutomationRules` tells it.
    told: Value,
    order: u64,
    enabled: bool,
    terminal: bool,
    criteria: Filters,
    update: Map<String, Value>,
}

impl Rule {
    fn new(arn: &str, by: &str, given: &Value) -> Result<Self, AwsError> {
        let now = now();
        let told = json!({
            "RuleArn": arn, "RuleStatus": "ENABLED", "IsTerminal": false,
            "CreatedAt": now, "UpdatedAt": now, "CreatedBy": by,
        });
        Self::of(told, given)
    }

    /// The same rule, with what is given.
    fn changed(&self, given: &Value) -> Result<Self, AwsError> {
        let mut told = self.told.clone();
        told["UpdatedAt"] = now().into();
        Self::of(told, given)
    }

    fn of(mut told: Value, given: &Value) -> Result<Self, AwsError> {
        for name in GIVEN {
            if !given[name].is_null() {
                told[name] = given[name].clone();
            }
        }
        for name in ["RuleName", "Description"] {
            if told[name].as_str().is_none_or(|text| text.trim().is_empty()) {
                return Err(invalid(format!("{name} is required")));
            }
        }
        let order = told["RuleOrder"].as_u64().filter(|order| (1..=1000).contains(order));
        let order = order.ok_or_else(|| invalid("RuleOrder is 1 to 1000".to_owned()))?;
        let enabled = match told["RuleStatus"].as_str() {
            Some("ENABLED") => true,
            Some("DISABLED") => false,
            _ => return Err(invalid("RuleStatus is ENABLED or DISABLED".to_owned())),
        };
        let terminal = told["IsTerminal"].as_bool();
        let terminal = terminal.ok_or_else(|| invalid("IsTerminal is true or false".to_owned()))?;
        let (criteria, update) = (criteria(&told["Criteria"])?, update(&told["Actions"])?);
        Ok(Self { told, order, enabled, terminal, criteria, update })
    }

    /// As `ListAutomationRules` tells it.
    fn metadata(&self) -> Value {
        let mut told = self.told.clone();
        if let Some(told) = told.as_object_mut() {
            told.retain(|name, _| name != "Actions" && name != "Criteria");
        }
        told
    }

    fn updated_at(&self) -> &str {
        self.told["UpdatedAt"].as_str().unwrap_or_default()
    }
}

fn criteria(given: &Value) -> Result<Filters, AwsError> {
    let names = || given.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    if names().next().is_none() {
        return Err(invalid("Criteria takes at least one criterion".to_owned()));
    }
    if let Some(name) = names().find(|name| NO_CRITERIA.contains(name)) {
        return Err(invalid(format!("{name} is no criterion of an automation rule")));
    }
    Filters::parse(given).map_err(invalid)
}

/// What the rule's one action updates.
fn update(actions: &Value) -> Result<Map<String, Value>, AwsError> {
    let [action] = actions.as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(invalid("Actions takes one action".to_owned()));
    };
    if action["Type"] != "FINDING_FIELDS_UPDATE" {
        return Err(invalid(format!("{} is no type of an action", action["Type"])));
    }
    let update = &action["FindingFieldsUpdate"];
    let mut names = update.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    if let Some(other) = names.find(|name| !UPDATED.contains(name)) {
        return Err(invalid(format!("an automation rule cannot update {other}")));
    }
    patch(update)
}

impl State {
    /// The rules of the administrator; nobody else has any.
    fn rules(&self, request: &Request) -> Result<&Rules, AwsError> {
        let (account, region) = (&request.caller.account, &request.region);
        let hub = self.hub(account, region)?;
        if self.administrator.as_ref() != Some(account) {
            return Err(not_administrator(account));
        }
        Ok(&hub.automation_rules)
    }

    fn rules_mut(&mut self, request: &Request) -> Result<&mut Rules, AwsError> {
        self.rules(request)?;
        Ok(&mut self.hub_mut(&request.caller.account, &request.region)?.automation_rules)
    }

    /// Applies the rules that the findings of an account are subject to: its administrator's, or its own. The last word is
    /// that of the rule with the highest order, and among equals of the one that was changed last.
    pub(super) fn automate(&self, account: &str, region: &str, finding: &mut Value) {
        let owner = self.administrator_of(account, region).unwrap_or_else(|| account.to_owned());
        let Some(hub) = self.hubs.get(&(owner, region.to_owned())) else { return };
        let mut rules: Vec<&Rule> = hub.automation_rules.values().filter(|rule| rule.enabled).collect();
        rules.sort_by(|one, other| (one.order, one.updated_at()).cmp(&(other.order, other.updated_at())));
        let at = Timestamp::now();
        for rule in rules {
            if !rule.criteria.match_finding(finding, at) {
                continue;
            }
            let mut update = rule.update.clone();
            if let Some(note) = update.get_mut("Note") {
                note["UpdatedAt"] = now().into();
            }
            amend(finding, &update);
            if rule.terminal {
                break;
            }
        }
    }
}

impl SecurityHub {
    pub(super) fn create_automation_rule(&self, request: &Request) -> Result<Value, AwsError> {
        let mut state = self.state();
        let rules = state.rules_mut(request)?;
        if rules.len() >= MOST_RULES {
            return Err(AwsError {
                status: 429,
                ..AwsError::new("LimitExceededException", format!("at most {MOST_RULES} automation rules"))
            });
        }
        let (account, region) = (&request.caller.account, &request.region);
        let id = Uuid::new_v4();
        let arn = format!("arn:{}:securityhub:{region}:{account}:automation-rule/{id}", partition(region));
        rules.insert(arn.clone(), Rule::new(&arn, &request.caller.arn, &request.body)?);
        Ok(json!({ "RuleArn": arn }))
    }

    pub(super) fn list_automation_rules(&self, request: &Request) -> Result<Value, AwsError> {
        let state = self.state();
        let shown: Vec<Value> = state.rules(request)?.values().map(Rule::metadata).collect();
        let size = request.query.get("MaxResults");
        let size = size.map(|text| text.parse::<u64>().map_or_else(|_| json!(text), |size| json!(size)));
        let asked = json!({ "NextToken": request.query.get("NextToken"), "MaxResults": size });
        let (page, next) = page(&shown, &asked, MAX_BATCH)?;
        Ok(with_token(json!({ "AutomationRulesMetadata": page }), next))
    }

    pub(super) fn get_automation_rules(&self, request: &Request) -> Result<Value, AwsError> {
        let arns = list(&request.body, "AutomationRulesArns")?;
        let state = self.state();
        let rules = state.rules(request)?;
        let (mut found, mut left) = (Vec::new(), Vec::new());
        for arn in arns.iter().filter_map(Value::as_str) {
            match rules.get(arn) {
                Some(rule) => found.push(rule.told.clone()),
                None => left.push(unprocessed(arn)),
            }
        }
        Ok(json!({ "Rules": found, "UnprocessedAutomationRules": left }))
    }

    pub(super) fn update_automation_rules(&self, request: &Request) -> Result<Value, AwsError> {
        let items = list(&request.body, "UpdateAutomationRulesRequestItems")?;
        let mut state = self.state();
        let rules = state.rules_mut(request)?;
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for item in items {
            let arn = item["RuleArn"].as_str().unwrap_or_default();
            match rules.get_mut(arn) {
                Some(rule) => {
                    *rule = rule.changed(item)?;
                    done.push(arn);
                }
                None => left.push(unprocessed(arn)),
            }
        }
        Ok(json!({ "ProcessedAutomationRules": done, "UnprocessedAutomationRules": left }))
    }

    pub(super) fn delete_automation_rules(&self, request: &Request) -> Result<Value, AwsError> {
        let arns = list(&request.body, "AutomationRulesArns")?;
        let mut state = self.state();
        let rules = state.rules_mut(request)?;
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for arn in arns.iter().filter_map(Value::as_str) {
            match rules.remove(arn) {
                Some(_) => done.push(arn),
                None => left.push(unprocessed(arn)),
            }
        }
        Ok(json!({ "ProcessedAutomationRules": done, "UnprocessedAutomationRules": left }))
    }
}

/// The rules that a request names.
pub(super) fn named(body: &Value) -> Vec<String> {
    let arns = body["AutomationRulesArns"].as_array().into_iter().flatten();
    let items = body["UpdateAutomationRulesRequestItems"].as_array().into_iter().flatten();
    let arns = arns.chain(items.map(|item| &item["RuleArn"]));
    arns.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn unprocessed(arn: &str) -> Value {
    json!({ "RuleArn": arn, "ErrorCode": 404, "ErrorMessage": "there is no such automation rule" })
}
