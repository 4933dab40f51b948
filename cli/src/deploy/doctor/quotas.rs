//! AWS's quotas that Redress runs into first (docs/quotas.md): how much of each an account uses.

use serde_json::json;

use super::deployment::Deployment;
use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{
    Blind, GET_ACCOUNT_SUMMARY, GET_LAMBDA_LIMITS, GET_SETTING, LIST_DOCUMENTS, LIST_EXECUTIONS, Site, entry, number,
};

static AUTOMATIONS: Fault = Fault {
    code: "automations-near-quota",
    severity: Severity::Warning,
    about: "nearly as many automations run as Systems Manager allows at a time",
    why: "further remediations wait, and end as Failed when the child of one waits for 15 minutes",
    todo: "turn adaptive concurrency on in {account}: `aws ssm update-service-setting --setting-id arn:{partition}:ssm:{region}:{account}:servicesetting/ssm/automation/enable-adaptive-concurrency --setting-value True --region {region}`, or ask for a higher quota; docs/quotas.md, \"Children\"",
};

static IN_FLIGHT: Fault = Fault {
    code: "in-flight-beyond-quota",
    severity: Severity::Error,
    about: "limit InFlight lets more remediations run than Systems Manager has places for",
    why: "each is two automations: parents alone fill the places, their children wait for 15 minutes, and all of them fail",
    todo: "`redress settings set --limit InFlight=45 --reason \"…\"`, or turn adaptive concurrency on in each member account and Region (docs/quotas.md, \"Children\")",
};

static DOCUMENTS: Fault = Fault {
    code: "documents-near-quota",
    severity: Severity::Warning,
    about: "the Region has nearly as many documents as Systems Manager allows",
    why: "the next release's documents cannot be made; the stack of their service family rolls back",
    todo: "ask for a higher quota of Systems Manager documents in {account}, {region} (console Service Quotas), or leave families of member-documents/ out",
};

static ROLES: Fault = Fault {
    code: "roles-near-quota",
    severity: Severity::Warning,
    about: "the account has nearly as many roles as IAM allows",
    why: "the stack of the next release cannot make its roles and rolls back",
    todo: "ask for a higher quota of IAM roles in {account} (console Service Quotas)",
};

static CONCURRENCY: Fault = Fault {
    code: "lambda-concurrency-low",
    severity: Severity::Warning,
    about: "few functions may run at a time in the account and Region",
    why: "a refused guard or recorder means that nothing is changed, and that people are told of a failure",
    todo: "ask for a higher quota of concurrent executions of Lambda in {account}, {region} (console Service Quotas); new accounts have 10",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Quotas,
    at: Where::Everywhere,
    about: "AWS's quotas that bind Redress first: automations at a time, documents, roles, concurrent functions",
    faults: &[&AUTOMATIONS, &IN_FLIGHT, &DOCUMENTS, &ROLES, &CONCURRENCY],
    rights: &[
        "iam:GetAccountSummary",
        "lambda:GetAccountSettings",
        "ssm:DescribeAutomationExecutions",
        "ssm:GetServiceSetting",
        "ssm:ListDocuments",
    ],
};

/// So much of a quota, in per cent, is near it.
const NEAR: u64 = 80;
/// Automations at a time.
const PLACES: u64 = 100;
/// The same, with adaptive concurrency.
const ADAPTIVE_PLACES: u64 = 500;
/// Documents of an account and Region.
const MOST_DOCUMENTS: u64 = 500;
/// So many functions at a time are needed: 45 remediations, their guards, and the account's own.
const LEAST_CONCURRENCY: u64 = 100;
/// The setting that tells whether concurrency is adaptive.
const ADAPTIVE: &str = "/ssm/automation/enable-adaptive-concurrency";

/// What an account and Region uses.
#[derive(Debug, Clone, Default)]
struct Facts {
    automations: u64,
    /// Whether there are [`ADAPTIVE_PLACES`]; asked for only where it matters.
    adaptive: bool,
    in_flight: Option<u64>,
    documents: u64,
    /// Roles, and how many there may be.
    roles: Option<(u64, u64)>,
    /// Functions that may run at a time and are nobody's.
    unreserved: Option<u64>,
}

pub(super) async fn look(site: &Site, deployment: &Deployment) -> Result<Vec<Finding>, Blind> {
    let mut facts = Facts::default();
    if site.place.is_home() {
        let summary = site.ask(&GET_ACCOUNT_SUMMARY, json!({})).await?.unwrap_or_default();
        let of = |key: &str| number(entry(&summary["SummaryMap"], key));
        facts.roles = of("Roles").zip(of("RolesQuota"));
    }
    let limits = site.ask(&GET_LAMBDA_LIMITS, json!({})).await?.unwrap_or_default();
    facts.unreserved = number(&limits["AccountLimit"]["UnreservedConcurrentExecutions"]);
    if !site.place.is_administrator() {
        let running = json!([{ "Key": "ExecutionStatus", "Values": ["InProgress"] }]);
        let running = site
            .all(&LIST_EXECUTIONS, json!({ "Filters": running, "MaxResults": 50 }), "AutomationExecutionMetadataList")
            .await?;
        facts.automations = running.len() as u64;
        let own = json!([{ "Key": "Owner", "Values": ["Self"] }]);
        let documents =
            site.all(&LIST_DOCUMENTS, json!({ "Filters": own, "MaxResults": 50 }), "DocumentIdentifiers").await?;
        facts.documents = documents.len() as u64;
        facts.in_flight = deployment.in_flight;
        if is_near(facts.automations, PLACES) || facts.in_flight.is_some_and(|most| most * 2 > PLACES) {
            let setting = site.ask(&GET_SETTING, json!({ "SettingId": ADAPTIVE })).await?.unwrap_or_default();
            let value = setting["ServiceSetting"]["SettingValue"].as_str().unwrap_or_default();
            facts.adaptive = value.eq_ignore_ascii_case("true");
        }
    }
    Ok(judge(&site.place, &facts))
}

const fn is_near(used: u64, quota: u64) -> bool {
    used * 100 >= quota * NEAR
}

fn judge(place: &Place, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let places = if facts.adaptive { ADAPTIVE_PLACES } else { PLACES };
    if is_near(facts.automations, places) {
        let what = format!("{} automations run, of {places}", facts.automations);
        findings.push(place.finding(&AUTOMATIONS, "", what));
    }
    if let Some(most) = facts.in_flight.filter(|most| most * 2 > places) {
        let what = format!("limit InFlight={most} means {} automations, and there are {places} places", most * 2);
        findings.push(place.finding(&IN_FLIGHT, "", what));
    }
    if is_near(facts.documents, MOST_DOCUMENTS) {
        let what = format!("{} documents, of {MOST_DOCUMENTS} unless AWS raised it for you", facts.documents);
        findings.push(place.finding(&DOCUMENTS, "", what));
    }
    if let Some((roles, quota)) = facts.roles.filter(|(roles, quota)| *quota > 0 && is_near(*roles, *quota)) {
        findings.push(place.finding(&ROLES, "", format!("{roles} roles, of {quota}")));
    }
    if let Some(unreserved) = facts.unreserved.filter(|unreserved| *unreserved < LEAST_CONCURRENCY) {
        let what = format!("{unreserved} functions may run at a time that are not reserved for others");
        findings.push(place.finding(&CONCURRENCY, "", what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{codes, member};
    use super::*;

    #[test]
    fn a_quota_is_told_before_it_is_reached() {
        let told = |facts: &Facts| codes(&judge(&member(), facts));
        let good = Facts {
            automations: 79,
            documents: 150,
            in_flight: Some(45),
            roles: Some((799, 1000)),
            unreserved: Some(900),
            adaptive: false,
        };
        assert!(told(&good).is_empty());
        assert_eq!(told(&Facts { automations: 80, ..good.clone() }), ["automations-near-quota"]);
        assert!(told(&Facts { automations: 80, adaptive: true, ..good.clone() }).is_empty());
        assert_eq!(told(&Facts { in_flight: Some(51), ..good.clone() }), ["in-flight-beyond-quota"]);
        assert!(told(&Facts { in_flight: Some(200), adaptive: true, ..good.clone() }).is_empty());
        assert_eq!(told(&Facts { documents: 400, ..good.clone() }), ["documents-near-quota"]);
        assert_eq!(told(&Facts { roles: Some((800, 1000)), ..good.clone() }), ["roles-near-quota"]);
        assert_eq!(told(&Facts { unreserved: Some(10), ..good }), ["lambda-concurrency-low"]);
        assert!(told(&Facts::default()).is_empty());
    }

    #[test]
    fn the_summary_of_an_account_is_read_as_iam_writes_it() {
        let summary = json!({ "SummaryMap": { "entry": [
            { "key": "Roles", "value": "37" }, { "key": "RolesQuota", "value": "1000" } ] } });
        assert_eq!(number(entry(&summary["SummaryMap"], "RolesQuota")), Some(1000));
    }
}
