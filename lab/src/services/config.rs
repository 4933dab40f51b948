//! AWS Config: rules, evaluations that really read the resources, compliance, and the events of transitions.
//!
//! One rule store an account and Region. Only the managed rules in [`rules`] evaluate themselves; any other rule
//! takes what `PutEvaluations` says, its name being the `ResultToken`. There is no recorder and no schedule:
//! `StartConfigRulesEvaluation` evaluates at once and answers when the events are out.

mod aggregator;
mod rules;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::ids::Region;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use aggregator::Aggregators;

use super::securityhub::{ControlCheck, SecurityHub};
use crate::service::{Aws, AwsError, Request, Service};

const OPERATIONS: &[&str] = &[
    "DeleteConfigRule",
    "DescribeComplianceByConfigRule",
    "DescribeConfigRuleEvaluationStatus",
    "DescribeConfigRules",
    "GetComplianceDetailsByConfigRule",
    "PutConfigRule",
    "PutEvaluations",
    "StartConfigRulesEvaluation",
];

/// How Security Hub's own rules begin.
const LINKED: &str = "securityhub-";
/// Config's word for a resource that is gone or out of scope.
const NOT_APPLICABLE: &str = "NOT_APPLICABLE";

/// The service. What its rules with Security Hub's names find, it reports to `hub`.
pub struct Config {
    hub: Arc<SecurityHub>,
    places: Mutex<BTreeMap<(String, String), BTreeMap<String, Rule>>>,
    aggregators: Mutex<Aggregators>,
}

/// A rule and what it found.
#[derive(Clone)]
struct Rule {
    /// As `PutConfigRule` gave it, completed.
    definition: Value,
    results: BTreeMap<Subject, Evaluation>,
    evaluated: Option<Timestamp>,
    error: Option<AwsError>,
}

/// What is evaluated: type and id, as Config calls it.
type Subject = (String, String);

/// One verdict on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Evaluation {
    compliance: String,
    annotation: Option<String>,
    /// When what was evaluated was so.
    ordered: Timestamp,
    invoked: Timestamp,
    recorded: Timestamp,
}

/// A verdict that differs from the last one.
struct Transition {
    subject: Subject,
    old: Option<Evaluation>,
    new: Evaluation,
}

/// Who asks, and where: what every answer depends on.
struct Place<'a> {
    account: &'a str,
    region: &'a str,
}

impl Config {
    /// A Config without rules.
    #[must_use]
    pub fn new(hub: Arc<SecurityHub>) -> Self {
        Self { hub, places: Mutex::default(), aggregators: Mutex::default() }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<(String, String), BTreeMap<String, Rule>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aggregators(&self) -> MutexGuard<'_, Aggregators> {
        self.aggregators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with an account's rules.
    fn with_rules<T>(&self, place: &Place<'_>, work: impl FnOnce(&mut BTreeMap<String, Rule>) -> T) -> T {
        work(self.places().entry((place.account.to_owned(), place.region.to_owned())).or_default())
    }

    /// The rules of these names; all of them when none is named.
    fn named(&self, place: &Place<'_>, names: &Value) -> Result<Vec<(String, Rule)>, AwsError> {
        let names: Vec<&str> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        self.with_rules(place, |rules| {
            if let Some(missing) = names.iter().find(|name| !rules.contains_key(**name)) {
                return Err(no_such_rule(missing));
            }
            Ok(rules
                .iter()
                .filter(|(name, _)| names.is_empty() || names.contains(&name.as_str()))
                .map(|(name, rule)| (name.clone(), rule.clone()))
                .collect())
        })
    }

    fn put_rule(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let mut definition = body["ConfigRule"].clone();
        let name = text(&definition, "ConfigRuleName")?;
        let (owner, identifier) = (
            text(&definition["Source"], "Owner")?,
            text(&definition["Source"], "SourceIdentifier").unwrap_or_default(),
        );
        if owner == "AWS" && !rules::is_known(&identifier) {
            return Err(AwsError::new(
                "InvalidParameterValueException",
                format!(
                    "the lab's Config does not evaluate the managed rule {identifier}; see lab/src/services/config/rules.rs"
                ),
            ));
        }
        if let Some(parameters) = definition["InputParameters"].as_str().filter(|text| !text.is_empty()) {
            serde_json::from_str::<Value>(parameters)
                .map_err(|_| AwsError::new("InvalidParameterValueException", "InputParameters is not JSON"))?;
        }
        let id = rule_id(place, &name);
        definition["ConfigRuleId"] = id.clone().into();
        definition["ConfigRuleArn"] = rule_arn(place, &id).into();
        definition["ConfigRuleState"] = "ACTIVE".into();
        self.with_rules(place, |rules| match rules.get_mut(&name) {
            Some(rule) => rule.definition = definition,
            None => {
                rules.insert(name, Rule { definition, results: BTreeMap::new(), evaluated: None, error: None });
            }
        });
        Ok(json!({}))
    }

    fn delete_rule(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let name = text(body, "ConfigRuleName")?;
        self.with_rules(place, |rules| rules.remove(&name)).map(|_| json!({})).ok_or_else(|| no_such_rule(&name))
    }

    fn details(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let name = text(body, "ConfigRuleName")?;
        let wanted: Vec<&str> =
            body["ComplianceTypes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let rules = self.named(place, &json!([name]))?;
        let results = rules
            .iter()
            .flat_map(|(name, rule)| rule.results.iter().map(move |(subject, evaluation)| (name, subject, evaluation)));
        let shown: Vec<Value> = results
            .filter(|(.., evaluation)| wanted.is_empty() || wanted.contains(&evaluation.compliance.as_str()))
            .map(|(name, subject, evaluation)| evaluation_result(name, subject, evaluation, Times::Epoch))
            .collect();
        Ok(json!({ "EvaluationResults": shown }))
    }

    fn compliance(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let rules = self.named(place, &body["ConfigRuleNames"])?;
        let wanted: Vec<&str> =
            body["ComplianceTypes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let shown: Vec<Value> = rules
            .iter()
            .map(|(name, rule)| json!({ "ConfigRuleName": name, "Compliance": compliance_of(rule) }))
            .filter(|one| wanted.is_empty() || wanted.iter().any(|kind| one["Compliance"]["ComplianceType"] == **kind))
            .collect();
        Ok(json!({ "ComplianceByConfigRules": shown }))
    }

    fn status(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let rules = self.named(place, &body["ConfigRuleNames"])?;
        let shown: Vec<Value> = rules
            .iter()
            .map(|(name, rule)| {
                let mut status = json!({
                    "ConfigRuleName": name, "ConfigRuleArn": rule.definition["ConfigRuleArn"],
                    "ConfigRuleId": rule.definition["ConfigRuleId"], "FirstEvaluationStarted": rule.evaluated.is_some(),
                });
                if let Some(at) = rule.evaluated {
                    let when =
                        if rule.error.is_none() { "LastSuccessfulEvaluationTime" } else { "LastFailedEvaluationTime" };
                    status[when] = epoch(at);
                }
                if let Some(error) = &rule.error {
                    status["LastErrorCode"] = error.code.clone().into();
                    status["LastErrorMessage"] = error.message.clone().into();
                }
                status
            })
            .collect();
        Ok(json!({ "ConfigRulesEvaluationStatus": shown }))
    }

    /// Evaluates the managed rules of these names against the live resources.
    async fn start_evaluation(&self, place: &Place<'_>, body: &Value, aws: &dyn Aws) -> Result<Value, AwsError> {
        for (name, rule) in self.named(place, &body["ConfigRuleNames"])? {
            let identifier = rule.definition["Source"]["SourceIdentifier"].as_str().unwrap_or_default().to_owned();
            if rule.definition["Source"]["Owner"] != "AWS" {
                continue;
            }
            let parameters =
                rule.definition["InputParameters"].as_str().and_then(|text| serde_json::from_str(text).ok());
            let invoked = Timestamp::now();
            let reader = rules::Reader {
                aws,
                account: place.account,
                region: place.region,
                partition: partition(place.region),
                parameters: parameters.unwrap_or_default(),
                scope: rule.definition["Scope"].clone(),
            };
            let found = match rules::evaluate(&identifier, &reader).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, rule = name, account = place.account, "a config rule could not be evaluated");
                    self.with_rules(place, |rules| {
                        if let Some(rule) = rules.get_mut(&name) {
                            (rule.evaluated, rule.error) = (Some(invoked), Some(error));
                        }
                    });
                    continue;
                }
            };
            let recorded = now();
            let verdicts = found.iter().map(|one| {
                let compliance = if one.compliant { "COMPLIANT" } else { "NON_COMPLIANT" };
                let evaluation = Evaluation {
                    compliance: compliance.to_owned(),
                    annotation: one.annotation.clone(),
                    ordered: recorded,
                    invoked,
                    recorded,
                };
                ((one.kind.to_owned(), one.id.clone()), evaluation)
            });
            let transitions = self.record(place, &name, verdicts.collect(), true);
            self.tell(place, &name, &rule, &transitions, aws).await;
            for transition in &transitions {
                let subject =
                    found.iter().find(|one| one.kind == transition.subject.0 && one.id == transition.subject.1);
                if let (Some(subject), Some(control)) =
                    (subject, rules::control(&identifier).filter(|_| name.starts_with(LINKED)))
                {
                    let check = ControlCheck {
                        account: place.account,
                        region: place.region,
                        control: control.id,
                        title: control.title,
                        severity: control.severity,
                        rule: &name,
                        resource_type: subject.asff_type,
                        resource_id: &subject.asff_id,
                        passed: subject.compliant,
                        at: transition.new.recorded,
                    };
                    self.hub.control_checked(&check, aws).await;
                }
            }
        }
        Ok(json!({}))
    }

    /// Takes the verdicts of somebody else: a custom rule.
    async fn put_evaluations(&self, place: &Place<'_>, body: &Value, aws: &dyn Aws) -> Result<Value, AwsError> {
        let name = text(body, "ResultToken")?;
        let (_, rule) = self.named(place, &json!([name]))?.swap_remove(0);
        let recorded = now();
        let mut verdicts = BTreeMap::new();
        for one in body["Evaluations"].as_array().into_iter().flatten() {
            let compliance = text(one, "ComplianceType")?;
            if !["COMPLIANT", "NON_COMPLIANT", NOT_APPLICABLE].contains(&compliance.as_str()) {
                return Err(AwsError::new(
                    "InvalidParameterValueException",
                    format!("ComplianceType {compliance} is not allowed"),
                ));
            }
            let evaluation = Evaluation {
                compliance,
                annotation: one["Annotation"].as_str().map(str::to_owned),
                ordered: recorded,
                invoked: recorded,
                recorded,
            };
            verdicts.insert((text(one, "ComplianceResourceType")?, text(one, "ComplianceResourceId")?), evaluation);
        }
        if body["TestMode"] != true {
            let transitions = self.record(place, &name, verdicts, false);
            self.tell(place, &name, &rule, &transitions, aws).await;
        }
        Ok(json!({ "FailedEvaluations": [] }))
    }

    /// Keeps the verdicts and says which ones are new. When they are `complete`, resources that are not among
    /// them are gone.
    fn record(
        &self,
        place: &Place<'_>,
        name: &str,
        verdicts: BTreeMap<Subject, Evaluation>,
        complete: bool,
    ) -> Vec<Transition> {
        self.with_rules(place, |rules| {
            let Some(rule) = rules.get_mut(name) else { return Vec::new() };
            let recorded = now();
            (rule.evaluated, rule.error) = (Some(recorded), None);
            let mut transitions = Vec::new();
            if complete {
                let gone: Vec<Subject> =
                    rule.results.keys().filter(|subject| !verdicts.contains_key(*subject)).cloned().collect();
                for subject in gone {
                    let old = rule.results.remove(&subject);
                    let new = Evaluation {
                        compliance: NOT_APPLICABLE.to_owned(),
                        annotation: None,
                        ordered: recorded,
                        invoked: recorded,
                        recorded,
                    };
                    transitions.push(Transition { subject, old, new });
                }
            }
            for (subject, new) in verdicts {
                let old = rule.results.get(&subject).cloned();
                if old.as_ref().is_some_and(|old| old.compliance == new.compliance) {
                    continue;
                }
                rule.results.insert(subject.clone(), new.clone());
                transitions.push(Transition { subject, old, new });
            }
            transitions
        })
    }

    /// One `Config Rules Compliance Change` event a transition.
    async fn tell(&self, place: &Place<'_>, name: &str, rule: &Rule, transitions: &[Transition], aws: &dyn Aws) {
        for Transition { subject, old, new } in transitions {
            let mut detail = json!({
                "resourceId": subject.1,
                "resourceType": subject.0,
                "awsRegion": place.region,
                "awsAccountId": place.account,
                "configRuleName": name,
                "configRuleARN": rule.definition["ConfigRuleArn"],
                "recordVersion": "1.0",
                "messageType": "ComplianceChangeNotification",
                "notificationCreationTime": iso(new.recorded),
                "newEvaluationResult": evaluation_result(name, subject, new, Times::Event),
            });
            if let Some(old) = old {
                detail["oldEvaluationResult"] = evaluation_result(name, subject, old, Times::Event);
            }
            aws.emit(place.account, place.region, "aws.config", "Config Rules Compliance Change", Vec::new(), detail)
                .await;
        }
    }
}

#[async_trait]
impl Service for Config {
    fn name(&self) -> &'static str {
        "config"
    }

    fn answers(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation) || aggregator::OPERATIONS.contains(&operation)
    }

    fn resources(&self, request: &Request) -> Vec<String> {
        let place = Place { account: &request.caller.account, region: &request.region };
        let one =
            request.body["ConfigRuleName"].as_str().or_else(|| request.body["ConfigRule"]["ConfigRuleName"].as_str());
        let many = request.body["ConfigRuleNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        match request.operation.as_str() {
            // No resource-level permissions in AWS.
            "PutEvaluations" | "DescribeConfigurationAggregators" => Vec::new(),
            of_aggregator if aggregator::OPERATIONS.contains(&of_aggregator) => {
                let name = request.body["ConfigurationAggregatorName"].as_str();
                name.map(|name| aggregator::arn(&place, name)).into_iter().collect()
            }
            _ => one.into_iter().chain(many).map(|name| rule_arn(&place, &rule_id(&place, name))).collect(),
        }
    }

    async fn handle(&self, request: Request, aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        let place = Place { account: &request.caller.account, region: &request.region };
        let body = &request.body;
        match request.operation.as_str() {
            "DeleteConfigurationAggregator" => self.delete_aggregator(&place, body),
            "DescribeAggregateComplianceByConfigRules" => self.aggregate_compliance(&place, body),
            "DescribeConfigurationAggregators" => self.describe_aggregators(&place, body),
            "GetAggregateComplianceDetailsByConfigRule" => self.aggregate_details(&place, body),
            "PutConfigurationAggregator" => self.put_aggregator(&place, body, &*aws).await,
            "DeleteConfigRule" => self.delete_rule(&place, body),
            "DescribeComplianceByConfigRule" => self.compliance(&place, body),
            "DescribeConfigRuleEvaluationStatus" => self.status(&place, body),
            "DescribeConfigRules" => {
                let rules = self.named(&place, &body["ConfigRuleNames"])?;
                Ok(json!({ "ConfigRules": rules.into_iter().map(|(_, rule)| rule.definition).collect::<Vec<_>>() }))
            }
            "GetComplianceDetailsByConfigRule" => self.details(&place, body),
            "PutConfigRule" => self.put_rule(&place, body),
            "PutEvaluations" => self.put_evaluations(&place, body, &*aws).await,
            "StartConfigRulesEvaluation" => self.start_evaluation(&place, body, &*aws).await,
            other => Err(AwsError::new("UnknownOperationException", format!("the lab's Config has no {other}"))),
        }
    }
}

/// A rule's verdict on all that it looked at.
fn compliance_of(rule: &Rule) -> Value {
    let failed = rule.results.values().filter(|one| one.compliance == "NON_COMPLIANT").count();
    match (failed, rule.results.len()) {
        (0, 0) => json!({ "ComplianceType": "INSUFFICIENT_DATA" }),
        (0, _) => json!({ "ComplianceType": "COMPLIANT" }),
        _ => json!({ "ComplianceType": "NON_COMPLIANT",
            "ComplianceContributorCount": { "CappedCount": failed.min(25), "CapExceeded": failed > 25 } }),
    }
}

/// How times are written: by the API in seconds, in events as text.
#[derive(Clone, Copy)]
enum Times {
    Epoch,
    Event,
}

/// An `EvaluationResult`: the API writes its names in PascalCase, events in camelCase.
fn evaluation_result(rule: &str, subject: &Subject, evaluation: &Evaluation, times: Times) -> Value {
    let (kind, id) = subject;
    match times {
        Times::Epoch => json!({
            "EvaluationResultIdentifier": {
                "EvaluationResultQualifier": { "ConfigRuleName": rule, "ResourceType": kind, "ResourceId": id, "EvaluationMode": "DETECTIVE" },
                "OrderingTimestamp": epoch(evaluation.ordered),
            },
            "ComplianceType": evaluation.compliance,
            "ResultRecordedTime": epoch(evaluation.recorded),
            "ConfigRuleInvokedTime": epoch(evaluation.invoked),
            "Annotation": evaluation.annotation.as_deref().unwrap_or_default(),
        }),
        Times::Event => {
            let mut result = json!({
                "evaluationResultIdentifier": {
                    "evaluationResultQualifier": { "configRuleName": rule, "resourceType": kind, "resourceId": id, "evaluationMode": "DETECTIVE" },
                    "orderingTimestamp": iso(evaluation.ordered),
                },
                "complianceType": evaluation.compliance,
                "resultRecordedTime": iso(evaluation.recorded),
                "configRuleInvokedTime": iso(evaluation.invoked),
            });
            if let Some(annotation) = &evaluation.annotation {
                result["annotation"] = annotation.clone().into();
            }
            result
        }
    }
}

/// A rule's id: made from its name, so that the gateway can ask for a rule's ARN before it exists.
fn rule_id(place: &Place<'_>, name: &str) -> String {
    let hash = hex::encode(Sha256::digest(format!("{}/{}/{name}", place.account, place.region)));
    format!("config-rule-{}", &hash[..6])
}

fn rule_arn(place: &Place<'_>, id: &str) -> String {
    format!("arn:{}:config:{}:{}:config-rule/{id}", partition(place.region), place.region, place.account)
}

fn partition(region: &str) -> Partition {
    region.parse::<Region>().map_or(Partition::Aws, |region| Partition::of_region(&region))
}

/// Now, in the milliseconds that events carry.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn iso(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit an f64 exactly")]
fn epoch(at: Timestamp) -> Value {
    json!(at.as_millisecond() as f64 / 1000.0)
}

fn text(body: &Value, name: &str) -> Result<String, AwsError> {
    let missing = || AwsError::new("InvalidParameterValueException", format!("{name} is required"));
    body[name].as_str().map(str::to_owned).ok_or_else(missing)
}

fn no_such_rule(name: &str) -> AwsError {
    AwsError::new("NoSuchConfigRuleException", format!("The ConfigRule '{name}' provided in the request is invalid."))
}

#[cfg(test)]
mod tests;
