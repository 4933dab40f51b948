//! The hub: the bus that every account forwards to, whom it lets in, and the rules on it.

use redress_common::ids::AccountId;
use redress_common::names;
use serde_json::{Value, json};

use super::deployment::Deployment;
use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, DESCRIBE_BUS, LIST_RULES, Site};
use super::statement::{allows, condition, principals, speaks_of, statements};

static MISSING: Fault = Fault {
    code: "hub-missing",
    severity: Severity::Error,
    about: "the bus redress-hub is not there",
    why: "no finding of any account, and no outcome, is heard of",
    todo: "update stack redress-administrator with its own template",
};

static CLOSED: Fault = Fault {
    code: "hub-closed",
    severity: Severity::Error,
    about: "the hub's policy does not let an account in",
    why: "what it forwards ends in its own redress-forward-dlq; nothing of it is heard of",
    todo: "update stack redress-administrator with OrganizationId=<id of the organisation>, or with {thing} among its MemberAccountIds",
};

static OPEN: Fault = Fault {
    code: "hub-open",
    severity: Severity::Error,
    about: "the hub's policy lets in everybody, or by PutEvents",
    why: "whoever may put events there makes findings and outcomes up",
    todo: "write the policy again from administrator/events.yaml: update stack redress-administrator, then `aws events describe-event-bus --name redress-hub --region {home}`",
};

static RULE_MISSING: Fault = Fault {
    code: "hub-rule-missing",
    severity: Severity::Error,
    about: "a rule of the hub, or of the administrator's default bus, is not there",
    why: "what it passes on (findings of one source, outcomes, requests of people, the schedules of the reconciler and of checkpoints) gets to nobody",
    todo: "update stack redress-administrator with its own template",
};

static RULE_DISABLED: Fault = Fault {
    code: "hub-rule-disabled",
    severity: Severity::Error,
    about: "a rule of the hub, or of the administrator's default bus, is disabled",
    why: "what it passes on gets to nobody. To stop Redress there is `redress off`, which tells people and loses nothing",
    todo: "`aws events enable-rule --name {thing} --region {home}`; on the hub with `--event-bus-name redress-hub`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Hub,
    at: Where::Administrator,
    about: "the bus redress-hub: there, open to each account's forwarding and to nobody else, its rules there and enabled",
    faults: &[&MISSING, &CLOSED, &OPEN, &RULE_MISSING, &RULE_DISABLED],
    rights: &["events:DescribeEventBus", "events:ListRules"],
};

pub(super) async fn look(site: &Site, deployment: &Deployment) -> Result<Vec<Finding>, Blind> {
    let Some(bus) = site.ask(&DESCRIBE_BUS, json!({ "Name": names::HUB_BUS })).await? else {
        return Ok(vec![site.place.finding(&MISSING, "", format!("there is no bus {}", names::HUB_BUS))]);
    };
    let mut findings =
        judge_policy(&site.place, &bus["Policy"], deployment.organisation.as_deref(), &deployment.accounts);
    for (bus, wanted) in [(names::HUB_BUS, &names::HUB_RULES[..]), ("default", &names::DEFAULT_BUS_RULES)] {
        let asked = json!({ "EventBusName": bus, "NamePrefix": "redress-" });
        let rules = site.all(&LIST_RULES, asked, "Rules").await?;
        findings.extend(judge_rules(&site.place, bus, wanted, &rules));
    }
    Ok(findings)
}

fn judge_policy(place: &Place, policy: &Value, organisation: Option<&str>, accounts: &[AccountId]) -> Vec<Finding> {
    let statements = statements(policy);
    let putting: Vec<&Value> =
        statements.iter().filter(|one| allows(one) && speaks_of(one, "events:PutEvents")).collect();
    let mut findings = Vec::new();
    let organisations =
        |one: &Value| condition(one, "StringEquals", "aws:PrincipalOrgID").is_some_and(|ids| !ids.is_empty());
    let forwards = |one: &Value| condition(one, "Bool", "events:eventBusInvocation").is_some_and(|is| is == ["true"]);
    let everybody = |one: &Value| principals(one).contains(&"*") && !organisations(one);
    if putting.iter().any(|one| everybody(one) || !forwards(one)) {
        let what = format!("the policy of {} lets in more than the forwarding of known accounts", names::HUB_BUS);
        findings.push(place.finding(&OPEN, "", what));
    }
    let in_organisation = |one: &Value| {
        principals(one).contains(&"*")
            && condition(one, "StringEquals", "aws:PrincipalOrgID")
                // Of an organisation that cannot be asked for, it is believed to be this one.
                .is_none_or(|ids| organisation.is_none_or(|own| ids.contains(&own)))
    };
    let lets_in = |account: &AccountId| {
        let root = format!(":iam::{account}:root");
        let named = |one: &&str| *one == account.as_str() || one.ends_with(&root);
        putting.iter().any(|one| in_organisation(one) || principals(one).iter().any(named))
    };
    let shut = accounts.iter().filter(|account| !lets_in(account));
    findings.extend(shut.map(|account| {
        let what = format!("the policy of {} does not let account {account} in", names::HUB_BUS);
        place.finding(&CLOSED, account.as_str(), what)
    }));
    findings
}

fn judge_rules(place: &Place, bus: &str, wanted: &[&str], rules: &[Value]) -> Vec<Finding> {
    let verdict = |name: &&str| match rules.iter().find(|rule| rule["Name"] == *name) {
        None => Some(place.finding(&RULE_MISSING, name, format!("bus {bus} has no rule {name}"))),
        Some(rule) if rule["State"] != "ENABLED" => {
            Some(place.finding(&RULE_DISABLED, name, format!("rule {name} of bus {bus} is disabled")))
        }
        Some(_) => None,
    };
    wanted.iter().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::finding::tests::{administrator, codes};
    use super::*;

    fn statement(principal: &Value, organisation: Option<&str>, forwards: bool) -> Value {
        let mut one = json!({ "Effect": "Allow", "Principal": principal, "Action": "events:PutEvents" });
        if let Some(id) = organisation {
            one["Condition"]["StringEquals"] = json!({ "aws:PrincipalOrgID": id });
        }
        if forwards {
            one["Condition"]["Bool"] = json!({ "events:eventBusInvocation": "true" });
        }
        one
    }

    #[test]
    fn the_hub_is_open_to_the_organisation_or_to_named_accounts_and_to_nobody_else() {
        let accounts: Vec<AccountId> = ["222222222222", "333333333333"].map(|id| id.parse().unwrap()).to_vec();
        let told = |statements: &[Value], organisation: Option<&str>| {
            let policy = json!(json!({ "Statement": statements }).to_string());
            codes(&judge_policy(&administrator(), &policy, organisation, &accounts))
        };
        let (all, own) = (json!("*"), Some("o-aaaaaaaaaa"));
        assert!(told(&[statement(&all, own, true)], own).is_empty());
        assert!(told(&[statement(&all, own, true)], None).is_empty());
        assert_eq!(told(&[statement(&all, Some("o-other00000"), true)], own), ["hub-closed", "hub-closed"]);
        assert_eq!(told(&[statement(&all, None, true)], own), ["hub-open"]);
        assert_eq!(told(&[statement(&all, own, false)], own), ["hub-open"]);
        let one = json!({ "AWS": ["arn:aws:iam::222222222222:root"] });
        assert_eq!(told(&[statement(&one, None, true)], own), ["hub-closed"]);
        let both = json!({ "AWS": ["222222222222", "arn:aws:iam::333333333333:root"] });
        assert!(told(&[statement(&both, None, true)], own).is_empty());
        assert_eq!(told(&[], own), ["hub-closed", "hub-closed"]);
    }

    #[test]
    fn every_rule_is_there_and_enabled() {
        let place = administrator();
        let mut rules: Vec<Value> =
            names::HUB_RULES.iter().map(|name| json!({ "Name": name, "State": "ENABLED" })).collect();
        assert_eq!(judge_rules(&place, "redress-hub", &names::HUB_RULES, &rules), []);
        rules[0]["State"] = json!("DISABLED");
        rules.remove(3);
        let found = judge_rules(&place, "redress-hub", &names::HUB_RULES, &rules);
        assert_eq!(codes(&found), ["hub-rule-disabled", "hub-rule-missing"]);
    }
}
