//! Security Hub: on in each Region of the members and at home, and the custom actions of the administrator account.

use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, DESCRIBE_ACTIONS, DESCRIBE_HUB, Site};

static OFF: Fault = Fault {
    code: "security-hub-off",
    severity: Severity::Error,
    about: "Security Hub is off",
    why: "its findings of the Region never come, and outcomes cannot be written into them",
    todo: "in {account}: `aws securityhub enable-security-hub --region {region}`, or by the organisation's central configuration",
};

static NO_ACTION: Fault = Fault {
    code: "custom-action-missing",
    severity: Severity::Warning,
    about: "a custom action of Redress is missing",
    why: "nobody can ask for it in Security Hub's console",
    todo: "in {account}: `aws securityhub create-action-target --id {thing} --name {thing} --description \"Redress\" --region {region}`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::SecurityHub,
    at: Where::Everywhere,
    about: "Security Hub: on; in the administrator account with Redress's custom actions",
    faults: &[&OFF, &NO_ACTION],
    rights: &["securityhub:DescribeHub", "securityhub:DescribeActionTargets"],
};

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    // This is the code for an account that has not turned it on, too.
    let hub = site.ask_unless(&DESCRIBE_HUB, json!({}), "InvalidAccessException").await?;
    let actions = match (&hub, site.place.is_administrator()) {
        (Some(_), true) => Some(site.all(&DESCRIBE_ACTIONS, json!({}), "ActionTargets").await?),
        _ => None,
    };
    Ok(judge(&site.place, hub.is_some(), actions.as_deref()))
}

fn judge(place: &Place, on: bool, actions: Option<&[Value]>) -> Vec<Finding> {
    if !on {
        return vec![place.finding(&OFF, "", "Security Hub is off here")];
    }
    let Some(actions) = actions else { return Vec::new() };
    let has = |id: &str| {
        let ends = format!("/{id}");
        actions.iter().any(|one| one["ActionTargetArn"].as_str().is_some_and(|arn| arn.ends_with(&ends)))
    };
    let missing = names::ACTIONS.into_iter().map(|(id, _, _)| id).filter(|id| !has(id));
    missing.map(|id| place.finding(&NO_ACTION, id, format!("Security Hub has no custom action {id}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{administrator, codes, member};
    use super::*;

    #[test]
    fn it_is_on_and_the_administrator_has_its_actions() {
        let action =
            |id: &str| json!({ "ActionTargetArn": format!("arn:aws:securityhub:eu-central-1:1:action/custom/{id}") });
        let all: Vec<Value> = names::ACTIONS.into_iter().map(|(id, _, _)| action(id)).collect();
        assert_eq!(judge(&administrator(), true, Some(&all)), []);
        assert_eq!(judge(&member(), true, None), []);
        let found = judge(&administrator(), true, Some(&all[1..]));
        assert_eq!(codes(&found), ["custom-action-missing"]);
        assert!(found[0].todo.contains("--id RedressRemediate "), "{}", found[0].todo);
        assert_eq!(codes(&judge(&member(), false, None)), ["security-hub-off"]);
    }
}
