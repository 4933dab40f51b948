//! Aggregators: what the rules of a whole organisation found, asked of one account.
//!
//! An aggregator reads Config's own stores; it evaluates nothing. It knows the organisation's accounts as of
//! its last `PutConfigurationAggregator`, which asks for them as its role.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Config, Place, Rule, Times, compliance_of, evaluation_result, partition, text};
use crate::service::{Aws, AwsError};

/// The operations on aggregators.
pub(super) const OPERATIONS: [&str; 5] = [
    "DeleteConfigurationAggregator",
    "DescribeAggregateComplianceByConfigRules",
    "DescribeConfigurationAggregators",
    "GetAggregateComplianceDetailsByConfigRule",
    "PutConfigurationAggregator",
];
const DEFAULT_LIMIT: u64 = 50;

/// Aggregators by the account and Region that they are in, and their name.
pub(super) type Aggregators = BTreeMap<(String, String, String), Aggregator>;

/// One aggregator.
#[derive(Clone)]
pub(super) struct Aggregator {
    definition: Value,
    accounts: Vec<String>,
}

impl Aggregator {
    fn reads(&self, account: &str, region: &str) -> bool {
        let source = &self.definition["OrganizationAggregationSource"];
        let region_named = source["AwsRegions"].as_array().into_iter().flatten().any(|named| *named == region);
        self.accounts.iter().any(|member| member == account) && (source["AllAwsRegions"] == true || region_named)
    }
}

/// The ARN of an aggregator: its id is made from its name, so that it can be asked for before it exists.
pub(super) fn arn(place: &Place<'_>, name: &str) -> String {
    let id = super::rule_id(place, &format!("aggregator/{name}")).replace("config-rule-", "config-aggregator-");
    format!("arn:{}:config:{}:{}:config-aggregator/{id}", partition(place.region), place.region, place.account)
}

impl Config {
    pub(super) async fn put_aggregator(
        &self,
        place: &Place<'_>,
        body: &Value,
        aws: &dyn Aws,
    ) -> Result<Value, AwsError> {
        let name = text(body, "ConfigurationAggregatorName")?;
        let source = &body["OrganizationAggregationSource"];
        if !source.is_object() {
            let message = "the lab aggregates organisations: give an OrganizationAggregationSource";
            return Err(AwsError::new("InvalidParameterValueException", message));
        }
        let role = text(source, "RoleArn")?;
        let session = aws.session(&role, "aggregator", "config.amazonaws.com").await;
        let session = session.map_err(|error| AwsError::new("InvalidRoleException", error.message))?;
        let mut accounts = Vec::new();
        let mut page = json!({});
        loop {
            let listed = aws.call(&session, place.region, "organizations", "ListAccounts", page.clone()).await;
            let listed = listed.map_err(|error| AwsError::new("OrganizationAccessDeniedException", error.message))?;
            accounts.extend(listed["Accounts"].as_array().into_iter().flatten().filter_map(id));
            match listed["NextToken"].as_str() {
                Some(token) => page["NextToken"] = token.into(),
                None => break,
            }
        }
        let definition = json!({
            "ConfigurationAggregatorName": name, "ConfigurationAggregatorArn": arn(place, &name),
            "OrganizationAggregationSource": source,
        });
        let aggregator = Aggregator { definition: definition.clone(), accounts };
        self.aggregators().insert(key(place, &name), aggregator);
        Ok(json!({ "ConfigurationAggregator": definition }))
    }

    pub(super) fn delete_aggregator(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let name = text(body, "ConfigurationAggregatorName")?;
        self.aggregators().remove(&key(place, &name)).map(|_| json!({})).ok_or_else(unknown)
    }

    pub(super) fn describe_aggregators(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let names: Vec<&str> =
            body["ConfigurationAggregatorNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let aggregators = self.aggregators();
        if names.iter().any(|name| !aggregators.contains_key(&key(place, name))) {
            return Err(unknown());
        }
        let found = aggregators.iter().filter(|((account, region, name), _)| {
            account == place.account && region == place.region && (names.is_empty() || names.contains(&name.as_str()))
        });
        page(body, "ConfigurationAggregators", found.map(|(_, one)| one.definition.clone()).collect(), 100)
    }

    /// Each rule of each account, with its verdict.
    pub(super) fn aggregate_compliance(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let filters = &body["Filters"];
        let fits = |name: &str, actual: &Value| filters[name].is_null() || filters[name] == *actual;
        let found = self.aggregated(place, body, |account, region, rules| {
            let each = |(name, rule): (&String, &Rule)| {
                json!({ "ConfigRuleName": name, "Compliance": compliance_of(rule), "AccountId": account, "AwsRegion": region })
            };
            rules.iter().map(each).collect()
        })?;
        let kept = found.into_iter().filter(|one| {
            fits("ConfigRuleName", &one["ConfigRuleName"])
                && fits("AccountId", &one["AccountId"])
                && fits("AwsRegion", &one["AwsRegion"])
                && fits("ComplianceType", &one["Compliance"]["ComplianceType"])
        });
        page(body, "AggregateComplianceByConfigRules", kept.collect(), 1000)
    }

    /// What one rule of one account found.
    pub(super) fn aggregate_details(&self, place: &Place<'_>, body: &Value) -> Result<Value, AwsError> {
        let (name, wanted) = (text(body, "ConfigRuleName")?, &body["ComplianceType"]);
        let (account, region) = (text(body, "AccountId")?, text(body, "AwsRegion")?);
        let found = self.aggregated(place, body, |owner, at, rules| {
            if owner != account || at != region {
                return Vec::new();
            }
            let results = rules.get(&name).into_iter().flat_map(|rule| &rule.results);
            results
                .filter(|(_, evaluation)| wanted.is_null() || *wanted == evaluation.compliance)
                .map(|(subject, evaluation)| {
                    let mut result = evaluation_result(&name, subject, evaluation, Times::Epoch);
                    result["AccountId"] = owner.into();
                    result["AwsRegion"] = at.into();
                    result
                })
                .collect()
        })?;
        page(body, "AggregateEvaluationResults", found, 100)
    }

    /// What `look` sees in every place that the request's aggregator reads.
    fn aggregated(
        &self,
        place: &Place<'_>,
        body: &Value,
        look: impl Fn(&str, &str, &BTreeMap<String, Rule>) -> Vec<Value>,
    ) -> Result<Vec<Value>, AwsError> {
        let name = text(body, "ConfigurationAggregatorName")?;
        let aggregator = self.aggregators().get(&key(place, &name)).cloned().ok_or_else(unknown)?;
        let places = self.places();
        let read = places.iter().filter(|((account, region), _)| aggregator.reads(account, region));
        Ok(read.flat_map(|((account, region), rules)| look(account, region, rules)).collect())
    }
}

fn id(account: &Value) -> Option<String> {
    account["Id"].as_str().map(str::to_owned)
}

fn key(place: &Place<'_>, name: &str) -> (String, String, String) {
    (place.account.to_owned(), place.region.to_owned(), name.to_owned())
}

fn unknown() -> AwsError {
    AwsError::new("NoSuchConfigurationAggregatorException", "The configuration aggregator does not exist.")
}

/// One page; the token is the position that follows it.
fn page(body: &Value, field: &str, all: Vec<Value>, most: u64) -> Result<Value, AwsError> {
    let limit = match body["Limit"].as_u64().unwrap_or(0) {
        0 => DEFAULT_LIMIT,
        limit if limit <= most => limit,
        _ => return Err(AwsError::new("InvalidLimitException", format!("Limit is at most {most}"))),
    };
    let from = match body["NextToken"].as_str() {
        None | Some("") => 0,
        Some(token) => {
            token.parse().map_err(|_| AwsError::new("InvalidNextTokenException", "The token is not valid."))?
        }
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let next = (all.len() > from + limit).then(|| (from + limit).to_string());
    let mut answer = json!({ field: all.into_iter().skip(from).take(limit).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    Ok(answer)
}
