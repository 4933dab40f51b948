//! Security Hub's automation rules of the administrator account: whether its stack shall have them, which there are, and the
//! difference from [`redress_common::automation_rules`]. Only rules that are called like ours are touched.
//!
//! They are resources of the stack, in `administrator/securityhub.yaml`. What CloudFormation does not do is done here by calls:
//! it leaves a rule alone that somebody edited by hand, and those that an earlier release made. No rule is made here.
//!
//! AWS has them for the administrator of Security Hub alone. Where it has none, Redress does without: they mark findings, and
//! nothing is decided by them.

use redress_common::automation_rules::{NAMES, wanted, was_made_by_call};
use redress_common::aws::failure::AwsFailure;
use redress_member::wire::{Operation, Protocol, Service, Wire};
use serde_json::{Map, Value, json};

static SECURITY_HUB: Service = Service::of("securityhub", Protocol::RestCapital);
static LIST: Operation = SECURITY_HUB.at("ListAutomationRules", "GET", "/automationrules/list");
static LIST_MORE: Operation =
    SECURITY_HUB.at("ListAutomationRules", "GET", "/automationrules/list?NextToken={NextToken}");
static GET: Operation = SECURITY_HUB.at("BatchGetAutomationRules", "POST", "/automationrules/get");
static UPDATE: Operation = SECURITY_HUB.at("BatchUpdateAutomationRules", "PATCH", "/automationrules/update");
static DELETE: Operation = SECURITY_HUB.at("BatchDeleteAutomationRules", "POST", "/automationrules/delete");

/// The code with which AWS refuses whoever lacks the right.
pub(crate) const DENIED: &str = "AccessDeniedException";

/// Codes with which AWS says that the account is not the administrator of Security Hub, that Security Hub is off, or that it
/// does not know such a call.
const NONE_HERE: [&str; 3] =
    ["InvalidAccessException", "UnknownOperationException", "MissingAuthenticationTokenException"];

/// The most rules that AWS lets an account have in a Region.
const MOST: usize = 100;

/// What AWS says of our rules.
#[derive(Debug)]
pub(crate) enum There {
    /// It has rules for this account.
    Rules(Found),
    /// It has none for this account here, or does not let us look.
    Nothing(AwsFailure),
}

/// The rules of an account.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Those with our names.
    pub(crate) ours: Vec<Value>,
    /// How many there are in all.
    pub(crate) all: usize,
}

/// Whether the stack shall have the rules.
#[derive(Debug, PartialEq)]
pub(crate) enum Wish {
    Have,
    /// It does without, for this reason.
    LeaveOut(String),
}

impl Wish {
    /// Pure. `has` says whether the stack has them already.
    pub(crate) fn of(there: &There, has: bool) -> Self {
        match there {
            There::Rules(found) if !has && found.all + NAMES.len() > MOST => {
                Self::LeaveOut(format!("there are {} rules, and AWS lets an account have {MOST}", found.all))
            }
            There::Rules(_) => Self::Have,
            // Whoever may not look cannot tell that they have to go.
            There::Nothing(why) if has && why.code() == Some(DENIED) => Self::Have,
            There::Nothing(why) => Self::LeaveOut(why.to_string()),
        }
    }
}

/// What has to be done about them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Need {
    /// Rules that are not there. CloudFormation makes one again that somebody deleted when its stack is made again.
    pub(crate) missing: Vec<Value>,
    /// Rules to write again, each with its ARN.
    pub(crate) update: Vec<Value>,
    /// Rules that an earlier release made, and that go when the stack has its own.
    pub(crate) replaced: Vec<Value>,
}

/// Pure: what has to be done where these rules are. Names are not unique at AWS: each that differs is written again.
pub(crate) fn need(found: &[Value]) -> Need {
    let (replaced, found): (Vec<&Value>, Vec<&Value>) = found.iter().partition(|rule| was_made_by_call(rule));
    let mut need = Need { replaced: replaced.into_iter().cloned().collect(), ..Need::default() };
    for rule in wanted() {
        let called: Vec<&&Value> = found.iter().filter(|one| one["RuleName"] == rule["RuleName"]).collect();
        if called.is_empty() {
            need.missing.push(rule);
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

/// Whether AWS has no rules for this account, or does not let it do this.
pub(crate) fn is_none(failure: &AwsFailure) -> bool {
    failure.code().is_some_and(|code| code == DENIED || NONE_HERE.contains(&code))
}

async fn read(wire: &Wire) -> Result<Found, AwsFailure> {
    let (mut arns, mut all) = (Vec::new(), 0);
    let mut page = wire.call(&LIST, &json!({})).await?;
    loop {
        let rules = page["AutomationRulesMetadata"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = rules.iter().filter(|rule| rule["RuleName"].as_str().is_some_and(|name| NAMES.contains(&name)));
        arns.extend(ours.map(|rule| rule["RuleArn"].clone()));
        all += rules.len();
        let Some(token) = page["NextToken"].as_str().filter(|token| !token.is_empty()) else { break };
        page = wire.call(&LIST_MORE, &json!({ "NextToken": token })).await?;
    }
    if arns.is_empty() {
        return Ok(Found { ours: Vec::new(), all });
    }
    let mut answer = wire.call(&GET, &json!({ "AutomationRulesArns": arns })).await?;
    let ours = match answer["Rules"].take() {
        Value::Array(rules) => rules,
        _ => Vec::new(),
    };
    Ok(Found { ours, all })
}

/// Writes again what differs, and deletes what the stack's own rules replace. Whether there was something to do.
pub(crate) async fn mend(wire: &Wire, need: &Need) -> Result<bool, AwsFailure> {
    if !need.update.is_empty() {
        let answer = wire.call(&UPDATE, &json!({ "UpdateAutomationRulesRequestItems": need.update })).await?;
        whole(UPDATE.name, &answer)?;
    }
    if !need.replaced.is_empty() {
        delete(wire, &need.replaced).await?;
    }
    Ok(!need.update.is_empty() || !need.replaced.is_empty())
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
    fn the_stack_has_them_where_aws_has_any_for_the_account_and_room_for_them() {
        let rules = |all| There::Rules(Found { ours: Vec::new(), all });
        let nothing = |code| There::Nothing(AwsFailure::refused("ListAutomationRules", code, "no"));
        for (there, has, wish) in [
            (rules(0), false, true),
            (rules(98), false, true),
            (rules(99), false, false),
            (rules(100), true, true),
            (nothing("InvalidAccessException"), false, false),
            (nothing("InvalidAccessException"), true, false),
            (nothing(DENIED), false, false),
            (nothing(DENIED), true, true),
        ] {
            assert_eq!(Wish::of(&there, has) == Wish::Have, wish, "{there:?}, {has}");
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        assert_eq!(need(&[]).missing, wanted());
        assert_eq!(need(&told()), Need::default());
        let mut other = told();
        other.push(json!({ "RuleName": "somebody-elses", "RuleArn": "arn:other", "RuleStatus": "DISABLED" }));
        assert_eq!(need(&other), Need::default());
        let high = need(&told()[..1]);
        assert_eq!((high.missing.as_slice(), high.update.len()), (&wanted()[1..], 0));
    }

    #[test]
    fn what_an_earlier_release_made_is_no_rule_of_the_stack() {
        let mut before = told();
        for rule in &mut before {
            rule["RuleArn"] = json!(format!("{}-before", rule["RuleArn"].as_str().unwrap()));
            rule["Description"] = json!("Marks findings that Redress decides about; made by redress deploy");
        }
        let missing = Need { missing: wanted().into(), replaced: before.clone(), ..Need::default() };
        assert_eq!(need(&before), missing);
        let both: Vec<Value> = before.iter().cloned().chain(told()).collect();
        assert_eq!(need(&both), Need { replaced: before, ..Need::default() });
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
            assert_eq!(need(&found), Need { update: vec![again], ..Need::default() }, "{}", found[1]);
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
