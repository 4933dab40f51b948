//! The administrator account's way into a member account, and the evidence reader's: roles, whom they trust, and the
//! ExternalId. The ExternalId is compared and never shown.

use redress_common::ids::AccountId;
use redress_common::names;
use serde_json::{Value, json};

use super::deployment::{Deployment, expected_external_id};
use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, GET_ROLE, Site};
use super::statement::{allows, condition, principals, speaks_of, statements};

static MISSING: Fault = Fault {
    code: "role-missing",
    severity: Severity::Error,
    about: "a role that another account enters by is not there",
    why: "without SecurityRemediationCrossAccountRole nothing is looked at or started in the account; without Redress-Evidence-Reader nobody reads evidence",
    todo: "update stack redress-member of {account} in {home} with its own template, or create it (docs/deploy.md): `aws cloudformation detect-stack-drift --stack-name redress-member --region {home}` shows what it lost",
};

static OPEN: Fault = Fault {
    code: "trust-open",
    severity: Severity::Error,
    about: "a role trusts everybody, or a whole account",
    why: "whoever is meant by it and learns the ExternalId may start remediations, or read evidence",
    todo: "write the trust policy again from member-stack.yaml: update stack redress-member of {account}. Then look in its CloudTrail who assumed {thing}",
};

static FOREIGN: Fault = Fault {
    code: "trust-foreign",
    severity: Severity::Error,
    about: "a role trusts somebody who is not of this administrator account's functions",
    why: "a stranger may enter; and where the right ones are missing, Redress may not",
    todo: "update stack redress-member of {account} with AdministratorAccountId={administrator}",
};

static CLOSED: Fault = Fault {
    code: "trust-closed",
    severity: Severity::Error,
    about: "a role does not trust all that must enter by it",
    why: "findings of the account are told as `guard-unreadable`, or their outcome is never heard of",
    todo: "update stack redress-member of {account} with AdministratorAccountId={administrator}. An id such as AROA… in the trust policy is a role that was deleted and made anew: the same update mends it",
};

static NO_EXTERNAL_ID: Fault = Fault {
    code: "external-id-missing",
    severity: Severity::Error,
    about: "a role's trust policy asks for no ExternalId",
    why: "whoever may make one of the trusted roles act for them enters the account (confused deputy)",
    todo: "update stack redress-member of {account} with the ExternalId of the administrator stack",
};

static OTHER_EXTERNAL_ID: Fault = Fault {
    code: "external-id-other",
    severity: Severity::Error,
    about: "a role's trust policy asks for another ExternalId than the functions send",
    why: "every attempt to enter is refused; nothing is done in the account, and AWS does not say why",
    todo: "update stack redress-member of {account} with the ExternalId of the administrator stack; which of the two is right only you know",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Roles,
    at: Where::Members,
    about: "the cross-account role and the evidence reader's: there, trusting exactly the administrator's roles, with the right ExternalId",
    faults: &[&MISSING, &OPEN, &FOREIGN, &CLOSED, &NO_EXTERNAL_ID, &OTHER_EXTERNAL_ID],
    rights: &["iam:GetRole"],
};

/// Each role, and which of the administrator's may assume it.
const ROLES: [(&str, &[&str]); 2] = [
    (
        names::CROSS_ACCOUNT_ROLE,
        &[names::ORCHESTRATOR_ROLE, names::COMPLETION_ROLE, names::WORKFLOW_ROLE, names::RECONCILER_ROLE],
    ),
    (names::EVIDENCE_READER_ROLE, &[names::OPERATOR_ROLE, names::APPROVER_ROLE, names::AUDITOR_ROLE]),
];

pub(super) async fn look(site: &Site, deployment: &Deployment) -> Result<Vec<Finding>, Blind> {
    let mut findings = Vec::new();
    for (role, trusted) in ROLES {
        let answer = site.ask(&GET_ROLE, json!({ "RoleName": role })).await?;
        let trust = answer.map(|answer| answer["Role"]["AssumeRolePolicyDocument"].clone());
        let expected = deployment.external_id.as_deref().map(|set| expected_external_id(set, &site.place.account));
        findings.extend(judge(&site.place, role, trusted, trust.as_ref(), expected.as_deref()));
    }
    Ok(findings)
}

/// What is wrong with a role, by its trust policy; `None` when there is no such role. `external_id` is `None` when it is
/// not known: then it is only asked that there is one.
fn judge(
    place: &Place,
    role: &str,
    trusted: &[&str],
    trust: Option<&Value>,
    external_id: Option<&str>,
) -> Vec<Finding> {
    let Some(trust) = trust else {
        return vec![place.finding(&MISSING, role, format!("role {role} is not there"))];
    };
    let statements = statements(trust);
    let assuming = |statement: &&Value| speaks_of(statement, "sts:AssumeRole");
    let allowing: Vec<&Value> = statements.iter().filter(assuming).filter(|one| allows(one)).collect();
    let named: Vec<&str> = allowing.iter().flat_map(|statement| principals(statement)).collect();
    let expected: Vec<String> =
        trusted.iter().map(|name| names::role_arn(place.partition(), &place.administrator, name)).collect();

    let mut findings = Vec::new();
    let everybody: Vec<&str> = named.iter().copied().filter(|one| is_whole_account(one)).collect();
    let stale = named.iter().any(|one| one.starts_with("AROA"));
    let foreign: Vec<&str> = named
        .iter()
        .copied()
        .filter(|one| !is_whole_account(one) && !one.starts_with("AROA") && !expected.iter().any(|own| own == one))
        .collect();
    let missing: Vec<&str> = trusted
        .iter()
        .zip(&expected)
        .filter(|(_, arn)| !named.contains(&arn.as_str()))
        .map(|(name, _)| *name)
        .collect();
    if !everybody.is_empty() {
        let what = format!("the trust policy of {role} lets in {}", everybody.join(", "));
        findings.push(place.finding(&OPEN, role, what));
    } else if !foreign.is_empty() {
        let lacks = if missing.is_empty() { String::new() } else { format!(", and not {}", missing.join(", ")) };
        let what = format!("the trust policy of {role} lets in {}{lacks}", foreign.join(", "));
        findings.push(place.finding(&FOREIGN, role, what));
    } else if !missing.is_empty() {
        let why = if stale { "; it has the id of a role that is gone" } else { "" };
        let what = format!("the trust policy of {role} does not let in {}{why}", missing.join(", "));
        findings.push(place.finding(&CLOSED, role, what));
    } else if statements.iter().filter(assuming).any(|one| one["Effect"] == "Deny") {
        let what = format!("a Deny statement in the trust policy of {role} may keep everybody out");
        findings.push(place.finding(&CLOSED, role, what));
    }

    let asked: Vec<Option<Vec<&str>>> =
        allowing.iter().map(|one| condition(one, "StringEquals", "sts:ExternalId")).collect();
    if !allowing.is_empty() && asked.iter().any(|values| values.as_ref().is_none_or(Vec::is_empty)) {
        let what = format!("the trust policy of {role} asks for no ExternalId");
        findings.push(place.finding(&NO_EXTERNAL_ID, role, what));
    } else if let Some(right) = external_id
        && asked.iter().flatten().any(|values| values.iter().any(|value| *value != right))
    {
        let what =
            format!("the trust policy of {role} asks for another ExternalId than the administrator's functions send");
        findings.push(place.finding(&OTHER_EXTERNAL_ID, role, what));
    }
    findings
}

/// Whether a principal is everybody, or an account as a whole.
fn is_whole_account(principal: &str) -> bool {
    principal == "*" || principal.ends_with(":root") || principal.parse::<AccountId>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{codes, member};
    use super::*;

    const RIGHT: &str = "an-external-id-of-our-own";

    fn trust(principals: &Value, condition: &Value) -> Value {
        let statement = json!({
            "Effect": "Allow", "Principal": { "AWS": principals }, "Action": "sts:AssumeRole", "Condition": condition });
        json!(json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string())
    }

    fn own(names: &[&str]) -> Value {
        names.iter().map(|name| format!("arn:aws:iam::111111111111:role/{name}")).collect()
    }

    fn judged(trust: Option<&Value>) -> Vec<Finding> {
        let (role, trusted) = ROLES[0];
        judge(&member(), role, trusted, trust, Some(RIGHT))
    }

    #[test]
    fn exactly_the_functions_with_the_right_external_id_is_what_is_meant() {
        let asks = json!({ "StringEquals": { "sts:ExternalId": RIGHT } });
        let all = own(ROLES[0].1);
        assert_eq!(judged(Some(&trust(&all, &asks))), []);
        for (principals, condition, expected) in [
            (own(&ROLES[0].1[..3]), asks.clone(), vec!["trust-closed"]),
            (json!("*"), asks.clone(), vec!["trust-open"]),
            (json!("arn:aws:iam::111111111111:root"), asks.clone(), vec!["trust-open"]),
            (json!("333333333333"), asks.clone(), vec!["trust-open"]),
            (json!("arn:aws:iam::333333333333:role/Redress-Orchestrator"), asks.clone(), vec!["trust-foreign"]),
            (json!(["AROA4EXAMPLE", "AROA5EXAMPLE"]), asks.clone(), vec!["trust-closed"]),
            (all.clone(), Value::Null, vec!["external-id-missing"]),
            (all.clone(), json!({ "StringLike": { "sts:ExternalId": "*" } }), vec!["external-id-missing"]),
            (all.clone(), json!({ "StringEquals": { "sts:ExternalId": [RIGHT, "x"] } }), vec!["external-id-other"]),
            (all.clone(), json!({ "StringEquals": { "sts:ExternalId": "x" } }), vec!["external-id-other"]),
            (json!("*"), Value::Null, vec!["trust-open", "external-id-missing"]),
        ] {
            let found = judged(Some(&trust(&principals, &condition)));
            assert_eq!(codes(&found), expected, "{principals} {condition}");
        }
        assert_eq!(codes(&judged(None)), ["role-missing"]);
    }

    #[test]
    fn an_external_id_that_nobody_told_is_only_looked_for() {
        let (role, trusted) = ROLES[0];
        let asks = json!({ "StringEquals": { "sts:ExternalId": "whatever" } });
        assert_eq!(judge(&member(), role, trusted, Some(&trust(&own(trusted), &asks)), None), []);
    }

    #[test]
    fn no_finding_shows_an_external_id() {
        let asks = json!({ "StringEquals": { "sts:ExternalId": "theirs" } });
        let found = format!("{:?}", judged(Some(&trust(&own(ROLES[0].1), &asks))));
        assert!(!found.contains("theirs") && !found.contains(RIGHT), "{found}");
    }
}
