//! Capacity of `DynamoDB` tables, which grows and shrinks with demand.

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static DYNAMODB: Service = Service::of("dynamodb", Protocol::Json { target: "DynamoDB_20120810", version: "1.0" });
static DESCRIBE_TABLE: Operation = DYNAMODB.operation("DescribeTable");

static SCALING: Service =
    Service::of("application-autoscaling", Protocol::Json { target: "AnyScaleFrontendService", version: "1.1" });
static DESCRIBE_TARGETS: Operation = SCALING.operation("DescribeScalableTargets");
static DESCRIBE_POLICIES: Operation = SCALING.operation("DescribeScalingPolicies");
static REGISTER: Operation = SCALING.operation("RegisterScalableTarget");
static DEREGISTER: Operation = SCALING.operation("DeregisterScalableTarget");
static PUT_POLICY: Operation = SCALING.operation("PutScalingPolicy");
static DELETE_POLICY: Operation = SCALING.operation("DeleteScalingPolicy");

/// The scaling policies that are made here. Their names need differ within one capacity only.
const POLICY: &str = "Redress-DynamoDB.1";
const TRACKS: &str = "TargetTrackingScaling";

/// A table or one of its indexes: both have a read and a write capacity.
struct Part<'a> {
    id: String,
    kind: &'static str,
    described: &'a Value,
}

fn parts<'a>(subject: &Subject, table: &'a Value) -> Vec<Part<'a>> {
    let name = &subject.name;
    let whole = Part { id: format!("table/{name}"), kind: "table", described: table };
    let mut indexes: Vec<Part<'a>> = at(table, "/GlobalSecondaryIndexes")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|index| Some((index["IndexName"].as_str()?, index)))
        .map(|(index, described)| Part { id: format!("table/{name}/index/{index}"), kind: "index", described })
        .collect();
    indexes.sort_by(|one, other| one.id.cmp(&other.id));
    [whole].into_iter().chain(indexes).collect()
}

fn is_on_demand(table: &Value) -> bool {
    at(table, "/BillingModeSummary/BillingMode") == "PAY_PER_REQUEST"
}

fn table(answers: &[Value]) -> Option<&Value> {
    answers.first()?.get("Table")
}

/// The table, then the targets of all its parts, then the policies of each part; page by page.
fn next(subject: &Subject, answers: &[Value]) -> Option<Ask> {
    if answers.is_empty() {
        return Some(Ask::of(&DESCRIBE_TABLE, json!({ "TableName": subject.name })));
    }
    let table = table(answers).filter(|table| !is_on_demand(table))?;
    let parts = parts(subject, table);
    let last = answers.last()?;
    let token = last["NextToken"].as_str();
    let is_of = |page: &Value, list: &str| page.get(list).is_some();
    let asked = answers.iter().any(|page| is_of(page, "ScalableTargets"));
    let (operation, mut input) = if !asked || (token.is_some() && is_of(last, "ScalableTargets")) {
        let ids: Vec<&str> = parts.iter().map(|part| part.id.as_str()).collect();
        (&DESCRIBE_TARGETS, json!({ "ServiceNamespace": "dynamodb", "ResourceIds": ids }))
    } else {
        let is_whole = |page: &&Value| is_of(page, "ScalingPolicies") && page["NextToken"].as_str().is_none();
        let part = parts.get(answers.iter().filter(is_whole).count())?;
        (&DESCRIBE_POLICIES, json!({ "ServiceNamespace": "dynamodb", "ResourceId": part.id }))
    };
    if let Some(token) = token {
        input["NextToken"] = json!(token);
    }
    Some(Ask::of(operation, input))
}

fn state(subject: &Subject, answers: &[Value]) -> Option<Value> {
    let table = table(answers)?;
    if is_on_demand(table) {
        return Some(json!({ "OnDemand": true }));
    }
    let mut capacities = Vec::new();
    for part in parts(subject, table) {
        for way in ["Read", "Write"] {
            let dimension = format!("dynamodb:{}:{way}CapacityUnits", part.kind);
            let is_it =
                |one: &&Value| one["ResourceId"] == part.id.as_str() && one["ScalableDimension"] == dimension.as_str();
            let all = |list: &'static str| {
                answers.iter().flat_map(move |page| at(page, &format!("/{list}")).as_array().into_iter().flatten())
            };
            let target = all("ScalableTargets").find(is_it);
            let target =
                target.map(|one| json!({ "MinCapacity": one["MinCapacity"], "MaxCapacity": one["MaxCapacity"] }));
            let tracking = all("ScalingPolicies").filter(is_it).filter(|one| one["PolicyType"] == TRACKS);
            let mut policies: Vec<&str> = tracking.filter_map(|one| one["PolicyName"].as_str()).collect();
            policies.sort_unstable();
            let units = part.described.pointer(&format!("/ProvisionedThroughput/{way}CapacityUnits"));
            let units = units.and_then(Value::as_i64).unwrap_or_default();
            let most = subject.number(&format!("{way}Maximum")).unwrap_or(i64::MAX);
            capacities.push(json!({
                "ResourceId": part.id,
                "ScalableDimension": dimension,
                "Target": target,
                "Policies": policies,
                "IsAboveMaximum": units > most,
            }));
        }
    }
    Some(json!({ "OnDemand": false, "Capacities": capacities }))
}

fn capacities(state: &Value) -> impl Iterator<Item = &Value> {
    state["Capacities"].as_array().into_iter().flatten()
}

/// What names a capacity in every call.
fn named(capacity: &Value) -> Value {
    json!({
        "ServiceNamespace": "dynamodb",
        "ResourceId": capacity["ResourceId"],
        "ScalableDimension": capacity["ScalableDimension"],
    })
}

fn with(mut input: Value, more: &[(&str, Value)]) -> Value {
    for (name, value) in more {
        input[*name] = value.clone();
    }
    input
}

fn scaled(subject: &Subject, now: &Value) -> Planned {
    let mut calls: Vec<(&'static Operation, Value)> = Vec::new();
    for capacity in capacities(now) {
        let dimension = capacity["ScalableDimension"].as_str().unwrap_or_default();
        let way = if dimension.ends_with("ReadCapacityUnits") { "Read" } else { "Write" };
        if capacity["Target"].is_null() {
            if capacity["IsAboveMaximum"] == true {
                return Err(NativeError::Refused(
                    "the table has more capacity than the control's maximum, to which it would be brought down; raise the \
                     maximum, or register the table by hand",
                ));
            }
            let least = subject.number(&format!("{way}Minimum"))?;
            let most = subject.number(&format!("{way}Maximum"))?;
            let bounds = [("MinCapacity", json!(least)), ("MaxCapacity", json!(most))];
            calls.push((&REGISTER, with(named(capacity), &bounds)));
        }
        if capacity["Policies"].as_array().is_none_or(Vec::is_empty) {
            let tracking = json!({
                "TargetValue": subject.number(&format!("{way}Utilization"))?,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": format!("DynamoDB{way}CapacityUtilization"),
                },
            });
            let policy = [
                ("PolicyName", json!(POLICY)),
                ("PolicyType", json!(TRACKS)),
                ("TargetTrackingScalingPolicyConfiguration", tracking),
            ];
            calls.push((&PUT_POLICY, with(named(capacity), &policy)));
        }
    }
    Ok(calls)
}

/// Takes away what was made. With a target go its policies.
fn unscaled(now: &Value, before: &Value) -> Vec<(&'static Operation, Value)> {
    let mut calls: Vec<(&'static Operation, Value)> = Vec::new();
    for capacity in capacities(now) {
        let is_it = |one: &&Value| ["ResourceId", "ScalableDimension"].iter().all(|name| one[name] == capacity[name]);
        let Some(was) = capacities(before).find(is_it) else { continue };
        if was["Target"].is_null() {
            calls.extend((!capacity["Target"].is_null()).then(|| (&DEREGISTER, named(capacity))));
            continue;
        }
        let had = was["Policies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let made = capacity["Policies"].as_array().into_iter().flatten().filter(|policy| !had.contains(policy));
        calls.extend(made.map(|policy| (&DELETE_POLICY, with(named(capacity), &[("PolicyName", policy.clone())]))));
    }
    calls
}

/// A table and its indexes scale. What scales already, within whatever bounds, is left alone; so is a table that is paid by
/// request.
pub(super) static TABLE_SCALING: Setting = Setting {
    name: "table_scaling",
    missing: &["ResourceNotFoundException"],
    changes: &[&REGISTER, &DEREGISTER, &PUT_POLICY, &DELETE_POLICY],
    next,
    state,
    fix: scaled,
    undo: |_, now, before| Ok(unscaled(now, before)),
};
