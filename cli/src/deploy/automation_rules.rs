//! Security Hub's automation rules of the administrator account: which there are, which there shall be
//! ([`redress_common::automation_rules`]), and the difference. Only rules that are called like ours are touched.
//!
//! AWS has them for the administrator of Security Hub alone. Where it has none, Redress does without: they mark findings, and
//! nothing is decided by them.

use redress_common::automation_rules::{NAMES, wanted};
use redress_common::aws::failure::AwsFailure;
use redress_member::wire::{Operation, Protocol, Service, Wire};
use serde_json::{Map, Value, json};

static SECURITY_HUB: Service =
    Service { name: "securityhub", signing: "securityhub", host: "securityhub", protocol: Protocol::RestCapital };
static LIST: Operation = SECURITY_HUB.at("ListAutomationRules", "GET", "/automationrules/list");
static LIST_MORE: Operation =
    SECURITY_HUB.at("ListAutomationRules", "GET", "/automationrules/list?NextToken={NextToken}");
static GET: Operation = SECURITY_HUB.at("BatchGetAutomationRules", "POST", "/automationrules/get");
static CREATE: Operation = SECURITY_HUB.at("CreateAutomationRule", "POST", "/automationrules/create");
static UPDATE: Operation = SECURITY_HUB.at("BatchUpdateAutomationRules", "PATCH", "/automationrules/update");
static DELETE: Operation = SECURITY_HUB.at("BatchDeleteAutomationRules", "POST", "/automationrules/delete");

/// The code with which AWS refuses whoever lacks the right.
pub(crate) const DENIED: &str = "AccessDeniedException";

/// Codes with which AWS says that the account is not the administrator of Security Hub, that Security Hub is off, or that it
/// does not know such a call.
const NONE_HERE: [&str; 3] =
    ["InvalidAccessException", "UnknownOperationException", "MissingAuthenticationTokenException"];

/// The code for more rules than AWS lets an account have; also for more calls than it takes, after some tries.
const TOO_MANY: &str = "LimitExceededException";

/// What AWS says of our rules.
#[derive(Debug)]
pub(crate) enum There {
    /// Those with our names.
    Rules(Vec<Value>),
    /// It has none for this account here, or does not let us look.
    Nothing(AwsFailure),
}

/// What has to be done about them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Need {
    /// Rules to make.
    pub(crate) create: Vec<Value>,
    /// Rules to write again, each with its ARN.
    pub(crate) update: Vec<Value>,
}

impl Need {
    pub(crate) fn is_nothing(&self) -> bool {
        self.create.is_empty() && self.update.is_empty()
    }
}

/// Pure: what has to be done where these rules are. Names are not unique at AWS: each that differs is written again.
pub(crate) fn need(found: &[Value]) -> Need {
    let mut need = Need::default();
    for rule in wanted() {
        let called: Vec<&Value> = found.iter().filter(|one| one["RuleName"] == rule["RuleName"]).collect();
        if called.is_empty() {
            need.create.push(rule);
            continue;
        }
        for other in called.into_iter().filter(|one| differs(one, &rule)) {
            let mut again = rule.clone();
            again["RuleArn"] = other["RuleArn"].clone();
            need.update.push(again);
        }
    }
    need
}

/// Whether a rule says something else than it should, be it in a field or by its place, or that it is disabled.
fn differs(found: &Value, wanted: &Value) -> bool {
    wanted.as_object().into_iter().flatten().any(|(name, value)| bare(&found[name.as_str()]) != bare(value))
}

/// Without what says nothing: what is not set may be left out, or be told as `null` or as an empty list.
fn bare(value: &Value) -> Value {
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    match value {
        Value::Object(map) => {
            let map = map.iter().map(|(name, value)| (name.clone(), bare(value)));
            map.filter(|(_, value)| says(value)).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(bare).collect(),
        other => other.clone(),
    }
}

/// Looks for our rules.
pub(crate) async fn there(wire: &Wire) -> Result<There, AwsFailure> {
    match read(wire).await {
        Ok(rules) => Ok(There::Rules(rules)),
        Err(failure) if is_none(&failure) => Ok(There::Nothing(failure)),
        Err(failure) => Err(failure),
    }
}

fn is_none(failure: &AwsFailure) -> bool {
    failure.code().is_some_and(|code| code == DENIED || NONE_HERE.contains(&code))
}

async fn read(wire: &Wire) -> Result<Vec<Value>, AwsFailure> {
    let mut arns = Vec::new();
    let mut page = wire.call(&LIST, &json!({})).await?;
    loop {
        let rules = page["AutomationRulesMetadata"].as_array().into_iter().flatten();
        let ours = rules.filter(|rule| rule["RuleName"].as_str().is_some_and(|name| NAMES.contains(&name)));
        arns.extend(ours.map(|rule| rule["RuleArn"].clone()));
        let Some(token) = page["NextToken"].as_str().filter(|token| !token.is_empty()) else { break };
        page = wire.call(&LIST_MORE, &json!({ "NextToken": token })).await?;
    }
    if arns.is_empty() {
        return Ok(Vec::new());
    }
    let mut answer = wire.call(&GET, &json!({ "AutomationRulesArns": arns })).await?;
    Ok(match answer["Rules"].take() {
        Value::Array(rules) => rules,
        _ => Vec::new(),
    })
}

/// Does what has to be done. AWS's reason, when it lets the account have no such rules, or no more of them.
pub(crate) async fn mend(wire: &Wire, need: &Need) -> Result<Option<AwsFailure>, AwsFailure> {
    for rule in &need.create {
        match wire.call(&CREATE, rule).await {
            Ok(_) => {}
            Err(failure) if is_none(&failure) || failure.code() == Some(TOO_MANY) => return Ok(Some(failure)),
            Err(failure) => return Err(failure),
        }
    }
    if need.update.is_empty() {
        return Ok(None);
    }
    match wire.call(&UPDATE, &json!({ "UpdateAutomationRulesRequestItems": need.update })).await {
        Ok(answer) => whole(UPDATE.name, &answer).map(|()| None),
        Err(failure) if is_none(&failure) => Ok(Some(failure)),
        Err(failure) => Err(failure),
    }
}

/// Deletes these rules.
pub(crate) async fn delete(wire: &Wire, rules: &[Value]) -> Result<(), AwsFailure> {
    let arns: Vec<&Value> = rules.iter().map(|rule| &rule["RuleArn"]).collect();
    let answer = wire.call(&DELETE, &json!({ "AutomationRulesArns": arns })).await?;
    whole(DELETE.name, &answer)
}

/// Whether a call for several rules was performed for each of them.
fn whole(operation: &'static str, answer: &Value) -> Result<(), AwsFailure> {
    match answer["UnprocessedAutomationRules"].as_array().and_then(|left| left.first()) {
        None => Ok(()),
        Some(left) => {
            let why = left["ErrorMessage"].as_str().unwrap_or("AWS gave no reason");
            Err(AwsFailure::partial(operation, format!("{}: {why}", left["RuleArn"].as_str().unwrap_or_default())))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The rules as Security Hub tells them.
    fn told() -> Vec<Value> {
        let told = wanted().map(|mut rule| {
            rule["RuleArn"] = json!(format!("arn:{}", rule["RuleName"].as_str().unwrap()));
            rule["CreatedBy"] = json!("somebody");
            rule["Criteria"]["ResourceType"] = json!([]);
            rule["Actions"][0]["FindingFieldsUpdate"]["Workflow"] = Value::Null;
            rule
        });
        told.into()
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_as_it_should_be_is_left_alone() {
        assert_eq!(need(&[]).create, wanted());
        assert!(need(&told()).is_nothing());
        let mut other = told();
        other.push(json!({ "RuleName": "somebody-elses", "RuleArn": "arn:other", "RuleStatus": "DISABLED" }));
        assert!(need(&other).is_nothing());
        let high = need(&told()[..1]);
        assert_eq!((high.create.as_slice(), high.update.len()), (&wanted()[1..], 0));
    }

    #[test]
    fn a_rule_that_says_something_else_is_written_again_whole() {
        let changes: [fn(&mut Value); 7] = [
            |rule| rule["RuleStatus"] = json!("DISABLED"),
            |rule| rule["RuleOrder"] = json!(1),
            |rule| rule["IsTerminal"] = json!(true),
            |rule| rule["Criteria"]["SeverityLabel"][0]["Value"] = json!("LOW"),
            |rule| rule["Criteria"]["ResourceType"] = json!([{ "Comparison": "EQUALS", "Value": "AwsS3Bucket" }]),
            |rule| rule["Actions"][0]["FindingFieldsUpdate"]["Workflow"] = json!({ "Status": "NOTIFIED" }),
            |rule| rule["Actions"][0]["FindingFieldsUpdate"]["Note"]["Text"] = json!("other"),
        ];
        for change in changes {
            let mut found = told();
            change(&mut found[1]);
            let mut again = wanted()[1].clone();
            again["RuleArn"] = json!("arn:redress-high");
            assert_eq!(need(&found), Need { create: Vec::new(), update: vec![again] }, "{}", found[1]);
        }
        // Names are not unique.
        let mut twice = told();
        twice.extend(told().into_iter().take(1));
        twice[2]["RuleStatus"] = json!("DISABLED");
        assert_eq!(need(&twice).update.len(), 1);
    }

    #[test]
    fn only_what_aws_does_not_have_or_forbids_is_left_out() {
        for (code, is) in [("InvalidAccessException", true), (DENIED, true), ("InternalException", false)] {
            assert_eq!(is_none(&AwsFailure::refused("ListAutomationRules", code, "")), is, "{code}");
        }
        assert!(!is_none(&AwsFailure::partial("ListAutomationRules", "no answer")));
    }

    #[test]
    fn what_aws_left_undone_is_told() {
        assert!(whole("BatchDeleteAutomationRules", &json!({ "ProcessedAutomationRules": ["a"] })).is_ok());
        let left = json!([{ "RuleArn": "a", "ErrorCode": 404, "ErrorMessage": "gone" }]);
        let left = json!({ "UnprocessedAutomationRules": left });
        assert!(whole("BatchDeleteAutomationRules", &left).unwrap_err().to_string().contains("a: gone"));
    }
}
