//! The way of events from a member's Region to the hub: rules, their targets, and what could not be sent.

use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::queues::{self, depth};
use super::sight::{Blind, GET_ROLE, LIST_RULES, LIST_TARGETS, Site, items};

static MISSING: Fault = Fault {
    code: "forward-rule-missing",
    severity: Severity::Error,
    about: "a rule that forwards events to the hub is not there",
    why: "findings of the Region, or how runbooks ended, are never heard of",
    todo: "update stack redress-member (at home) or redress-member-region of {account} in {region} with its own template",
};

static DISABLED: Fault = Fault {
    code: "forward-rule-disabled",
    severity: Severity::Error,
    about: "a rule that forwards events to the hub is disabled",
    why: "findings of the Region, or how runbooks ended, are never heard of",
    todo: "in {account}: `aws events enable-rule --name {thing} --region {region}`",
};

static ELSEWHERE: Fault = Fault {
    code: "forward-elsewhere",
    severity: Severity::Error,
    about: "a forwarding rule's target is not the administrator's hub",
    why: "events go nowhere, or to somebody else",
    todo: "update the stack that made the rule with AdministratorAccountId={administrator} and, in a further Region, HomeRegion={home}",
};

static NO_ROLE: Fault = Fault {
    code: "forwarder-role-missing",
    severity: Severity::Error,
    about: "the role that EventBridge forwards with is not there",
    why: "no event of the account reaches the hub",
    todo: "update stack redress-member of {account} in {home} with its own template",
};

static UNDELIVERED: Fault = Fault {
    code: "forward-undelivered",
    severity: Severity::Warning,
    about: "events that could not be forwarded wait in redress-forward-dlq",
    why: "the way to the hub was broken; what it held up, the reconciler finds within a day where a finding is still open",
    todo: "in {account}: `aws sqs receive-message --queue-url {thing} --message-attribute-names All --region {region}` shows AWS's reason (ERROR_CODE); when it is mended, `aws sqs purge-queue --queue-url {thing} --region {region}`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Forwarding,
    at: Where::Regions,
    about: "the rules that forward findings and outcomes: there, enabled, to the hub, with their role and an empty dead-letter queue",
    faults: &[&MISSING, &DISABLED, &ELSEWHERE, &NO_ROLE, &UNDELIVERED],
    rights: &[
        "events:ListRules",
        "events:ListTargetsByRule",
        "iam:GetRole",
        "sqs:GetQueueUrl",
        "sqs:GetQueueAttributes",
    ],
};

const RULES: [&str; 3] = ["redress-forward-config", "redress-forward-guardduty", "redress-forward-outcomes"];
const DEAD_LETTERS: &str = "redress-forward-dlq";

/// What a Region has of the way.
#[derive(Debug, Clone)]
struct Facts {
    /// Rules by name, with their targets.
    rules: Vec<(Value, Vec<Value>)>,
    has_role: bool,
    /// The dead-letter queue's URL and how much is in it.
    undelivered: Option<(String, u64)>,
}

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let found = site.all(&LIST_RULES, json!({ "NamePrefix": "redress-forward" }), "Rules").await?;
    let mut rules = Vec::new();
    for rule in found {
        let targets = site.ask(&LIST_TARGETS, json!({ "Rule": rule["Name"] })).await?.unwrap_or_default();
        rules.push((rule, items(&targets["Targets"]).to_vec()));
    }
    let role = site.ask(&GET_ROLE, json!({ "RoleName": names::EVENT_FORWARDER_ROLE })).await?;
    let queue = queues::ask(site, DEAD_LETTERS).await?;
    let undelivered = queue.map(|(url, attributes)| (url, depth(&attributes)));
    Ok(judge(&site.place, &Facts { rules, has_role: role.is_some(), undelivered }))
}

fn judge(place: &Place, facts: &Facts) -> Vec<Finding> {
    let hub =
        format!("arn:{}:events:{}:{}:event-bus/{}", place.partition(), place.home, place.administrator, names::HUB_BUS);
    let mut findings = Vec::new();
    for name in RULES {
        let Some((rule, targets)) = facts.rules.iter().find(|(rule, _)| rule["Name"] == name) else {
            findings.push(place.finding(&MISSING, name, format!("there is no rule {name}")));
            continue;
        };
        if rule["State"] != "ENABLED" {
            findings.push(place.finding(&DISABLED, name, format!("rule {name} is disabled")));
        }
        if !targets.iter().any(|target| target["Arn"] == hub.as_str()) {
            findings.push(place.finding(&ELSEWHERE, name, format!("rule {name} does not forward to {hub}")));
        }
    }
    if !facts.has_role && place.is_home() {
        let role = names::EVENT_FORWARDER_ROLE;
        findings.push(place.finding(&NO_ROLE, role, format!("role {role} is not there")));
    }
    if let Some((url, waiting)) = facts.undelivered.as_ref().filter(|(_, waiting)| *waiting > 0) {
        findings.push(place.finding(&UNDELIVERED, url, format!("{waiting} in {DEAD_LETTERS}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{codes, member};
    use super::*;

    fn good() -> Facts {
        let target = json!({ "Id": "hub", "Arn": "arn:aws:events:eu-central-1:111111111111:event-bus/redress-hub" });
        let rule = |name: &str| (json!({ "Name": name, "State": "ENABLED" }), vec![target.clone()]);
        Facts { rules: RULES.into_iter().map(rule).collect(), has_role: true, undelivered: Some(("url".to_owned(), 0)) }
    }

    #[test]
    fn every_rule_forwards_to_the_hub() {
        let told = |facts: &Facts| codes(&judge(&member(), facts));
        assert!(told(&good()).is_empty());
        let mut facts = good();
        facts.rules.remove(1);
        assert_eq!(told(&facts), ["forward-rule-missing"]);
        let mut facts = good();
        facts.rules[0].0["State"] = json!("DISABLED");
        assert_eq!(told(&facts), ["forward-rule-disabled"]);
        let mut facts = good();
        facts.rules[2].1[0]["Arn"] = json!("arn:aws:events:eu-central-1:333333333333:event-bus/redress-hub");
        assert_eq!(told(&facts), ["forward-elsewhere"]);
        assert_eq!(told(&Facts { has_role: false, ..good() }), ["forwarder-role-missing"]);
        assert_eq!(told(&Facts { undelivered: Some(("url".to_owned(), 3)), ..good() }), ["forward-undelivered"]);
    }
}
