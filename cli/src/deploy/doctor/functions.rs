//! The functions, of the administrator account and of each Region of the members.

use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, GET_CONCURRENCY, GET_FUNCTION, LIST_MAPPINGS, Site, items, number};

static MISSING: Fault = Fault {
    code: "function-missing",
    severity: Severity::Error,
    about: "a function is not there",
    why: "in the administrator account nobody does its work; in a member account runbooks, or the look before a change, fail",
    todo: "update the stack that makes it in {account}, {region}, with its own template: redress-administrator, redress-member, or in a further Region redress-member-region",
};

static NOT_ACTIVE: Fault = Fault {
    code: "function-not-active",
    severity: Severity::Error,
    about: "a function is not active, or its last update failed",
    why: "AWS does not run it, or runs older code than was deployed",
    todo: "in {account}: `aws lambda get-function-configuration --function-name {thing} --region {region} --query '[State,StateReason,LastUpdateStatus,LastUpdateStatusReason]'` says why",
};

static STOPPED: Fault = Fault {
    code: "function-stopped",
    severity: Severity::Error,
    about: "a function has a reserved concurrency of 0",
    why: "it is never run: somebody pulled the emergency brake (docs/operate.md, \"Break glass\")",
    todo: "when the emergency is over, in {account}: `aws lambda delete-function-concurrency --function-name {thing} --region {region}`",
};

static DETACHED: Fault = Fault {
    code: "function-detached",
    severity: Severity::Error,
    about: "a function is not attached to its queue, or the mapping is disabled",
    why: "findings, or outcomes, lie in the queue until their four days are over",
    todo: "`aws lambda list-event-source-mappings --function-name {thing} --region {region}` shows the mapping; `aws lambda update-event-source-mapping --uuid <its UUID> --enabled --region {region}` enables it; where there is none, update stack redress-administrator",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Functions,
    at: Where::Everywhere,
    about: "the functions: there, active, not stopped by hand, and attached to their queues",
    faults: &[&MISSING, &NOT_ACTIVE, &STOPPED, &DETACHED],
    rights: &["lambda:GetFunctionConfiguration", "lambda:GetFunctionConcurrency", "lambda:ListEventSourceMappings"],
};

/// Of the administrator account, each with the queue that it reads.
const ADMINISTRATOR: [(&str, Option<&str>); 6] = [
    (names::ORCHESTRATOR_FUNCTION, Some(names::FINDINGS_QUEUE)),
    (names::COMPLETION_FUNCTION, Some(names::COMPLETIONS_QUEUE)),
    (names::WORKFLOW_FUNCTION, None),
    (names::API_FUNCTION, None),
    (names::RECONCILER_FUNCTION, None),
    (names::CHECKPOINT_FUNCTION, None),
];
/// Of each Region of a member.
const MEMBER: [(&str, Option<&str>); 4] = [
    (names::RECORDER_FUNCTION, None),
    (names::REMEDIATE_FUNCTION, None),
    (names::DESTROY_FUNCTION, None),
    (names::GUARD_FUNCTION, None),
];

/// A function, as Lambda tells it.
#[derive(Debug, Clone)]
struct Facts {
    state: String,
    last_update: String,
    reserved: Option<u64>,
    mappings: Vec<Value>,
}

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let wanted: &[_] = if site.place.is_administrator() { &ADMINISTRATOR } else { &MEMBER };
    let mut findings = Vec::new();
    for (function, queue) in wanted {
        let facts = ask(site, function, queue.is_some()).await?;
        findings.extend(judge(&site.place, function, *queue, facts.as_ref()));
    }
    Ok(findings)
}

async fn ask(site: &Site, function: &str, reads: bool) -> Result<Option<Facts>, Blind> {
    let named = || json!({ "FunctionName": function });
    let Some(described) = site.ask(&GET_FUNCTION, named()).await? else { return Ok(None) };
    let text = |name: &str| described[name].as_str().unwrap_or_default().to_owned();
    let concurrency = site.ask(&GET_CONCURRENCY, named()).await?.unwrap_or_default();
    let mappings = if reads { site.ask(&LIST_MAPPINGS, named()).await?.unwrap_or_default() } else { Value::Null };
    Ok(Some(Facts {
        state: text("State"),
        last_update: text("LastUpdateStatus"),
        reserved: number(&concurrency["ReservedConcurrentExecutions"]),
        mappings: items(&mappings["EventSourceMappings"]).to_vec(),
    }))
}

fn judge(place: &Place, function: &str, queue: Option<&str>, facts: Option<&Facts>) -> Vec<Finding> {
    let Some(facts) = facts else {
        return vec![place.finding(&MISSING, function, format!("there is no function {function}"))];
    };
    let mut findings = Vec::new();
    // A function that has not run for weeks is `Inactive`, and becomes active when it is called.
    let runs = ["Active", "Inactive", ""].contains(&facts.state.as_str());
    if !runs || facts.last_update == "Failed" {
        let what =
            format!("function {function} is {}, its last update {}", named(&facts.state), named(&facts.last_update));
        findings.push(place.finding(&NOT_ACTIVE, function, what));
    }
    if facts.reserved == Some(0) {
        findings.push(place.finding(
            &STOPPED,
            function,
            format!("function {function} has a reserved concurrency of 0"),
        ));
    }
    if let Some(queue) = queue {
        let reads = |mapping: &&Value| {
            let ends = |arn: &str| arn.rsplit(':').next() == Some(queue);
            mapping["EventSourceArn"].as_str().is_some_and(ends)
        };
        let enabled = |mapping: &Value| matches!(mapping["State"].as_str(), Some("Enabled" | "Enabling" | "Updating"));
        if !facts.mappings.iter().filter(reads).any(enabled) {
            let what = format!("function {function} does not read queue {queue}");
            findings.push(place.finding(&DETACHED, function, what));
        }
    }
    findings
}

fn named(state: &str) -> &str {
    if state.is_empty() { "of no state" } else { state }
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{administrator, codes};
    use super::*;

    fn good() -> Facts {
        let mapping = json!({ "EventSourceArn": "arn:aws:sqs:eu-central-1:1:redress-findings", "State": "Enabled" });
        Facts {
            state: "Active".to_owned(),
            last_update: "Successful".to_owned(),
            reserved: None,
            mappings: vec![mapping],
        }
    }

    #[test]
    fn a_function_is_active_not_stopped_and_reads_its_queue() {
        let (function, queue) = ADMINISTRATOR[0];
        let told = |facts: Facts| codes(&judge(&administrator(), function, queue, Some(&facts)));
        assert!(told(good()).is_empty());
        assert!(told(Facts { state: "Inactive".to_owned(), reserved: Some(10), ..good() }).is_empty());
        assert_eq!(told(Facts { state: "Failed".to_owned(), ..good() }), ["function-not-active"]);
        assert_eq!(told(Facts { last_update: "Failed".to_owned(), ..good() }), ["function-not-active"]);
        assert_eq!(told(Facts { reserved: Some(0), ..good() }), ["function-stopped"]);
        assert_eq!(told(Facts { mappings: Vec::new(), ..good() }), ["function-detached"]);
        let mut facts = good();
        facts.mappings[0]["State"] = json!("Disabled");
        assert_eq!(told(facts), ["function-detached"]);
        assert_eq!(codes(&judge(&administrator(), function, queue, None)), ["function-missing"]);
        assert_eq!(judge(&administrator(), names::GUARD_FUNCTION, None, Some(&good())), []);
    }
}
