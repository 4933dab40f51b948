//! The key of the evidence, in a member account.

use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, DESCRIBE_KEY, GET_KEY_POLICY, GET_KEY_ROTATION, Site, is_true};
use super::statement::{allows, principals, speaks_of, statements};

static MISSING: Fault = Fault {
    code: "key-missing",
    severity: Severity::Error,
    about: "there is no key alias/redress-member",
    why: "without it no pre-image is stored, and without a pre-image nothing is changed",
    todo: "update stack redress-member of {account} in {home} with its own template; a key that is only without its alias: `aws kms create-alias --alias-name alias/redress-member --target-key-id <key> --region {home}`",
};

static PENDING: Fault = Fault {
    code: "key-pending-deletion",
    severity: Severity::Error,
    about: "the key of the evidence is about to be deleted",
    why: "nothing can be remediated, and once it is deleted no evidence of the account can ever be read",
    todo: "at once, in {account}: `aws kms cancel-key-deletion --key-id {thing} --region {home}`, then `aws kms enable-key --key-id {thing} --region {home}`; CloudTrail says who asked for ScheduleKeyDeletion",
};

static DISABLED: Fault = Fault {
    code: "key-disabled",
    severity: Severity::Error,
    about: "the key of the evidence is disabled",
    why: "no pre-image can be stored, so nothing is changed; evidence cannot be read",
    todo: "in {account}: `aws kms enable-key --key-id {thing} --region {home}`",
};

static CLOSED: Fault = Fault {
    code: "key-policy-closed",
    severity: Severity::Error,
    about: "the key's policy does not let the recorder, redress-remediate and redress-destroy use it",
    why: "no pre-image can be stored, so nothing is changed",
    todo: "update stack redress-member of {account} in {home} with its own template, or put the statement back that lets the account's root use the key: `aws kms put-key-policy --key-id {thing} --policy-name default --policy file://policy.json --region {home}`",
};

static NOT_ROTATED: Fault = Fault {
    code: "key-not-rotated",
    severity: Severity::Warning,
    about: "the key is not rotated",
    why: "AWS's own control KMS.4 asks for it, and the template turns it on: somebody turned it off",
    todo: "in {account}: `aws kms enable-key-rotation --key-id {thing} --region {home}`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Key,
    at: Where::Members,
    about: "the key of the evidence: there, enabled, rotated, and open to the functions that store evidence",
    faults: &[&MISSING, &PENDING, &DISABLED, &CLOSED, &NOT_ROTATED],
    rights: &["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus"],
};

/// Who stores evidence.
const USERS: [&str; 3] = [names::RECORDER_ROLE, names::REMEDIATE_ROLE, names::DESTROY_ROLE];
/// With what.
const USES: [&str; 2] = ["kms:GenerateDataKey", "kms:Decrypt"];

/// A key, as KMS tells it.
struct Facts {
    id: String,
    state: String,
    rotated: bool,
    policy: Value,
}

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let Some(described) = site.ask(&DESCRIBE_KEY, json!({ "KeyId": names::MEMBER_KEY_ALIAS })).await? else {
        return Ok(judge(&site.place, None));
    };
    let text = |name: &str| described["KeyMetadata"][name].as_str().unwrap_or_default().to_owned();
    let (id, state) = (text("KeyId"), text("KeyState"));
    let policy = site.ask(&GET_KEY_POLICY, json!({ "KeyId": id, "PolicyName": "default" })).await?;
    // KMS tells it of a key that can be used only.
    let rotated = match state.as_str() {
        "Enabled" => site.ask(&GET_KEY_ROTATION, json!({ "KeyId": id })).await?,
        _ => Some(json!({ "KeyRotationEnabled": true })),
    };
    Ok(judge(
        &site.place,
        Some(&Facts {
            id,
            state,
            rotated: rotated.is_some_and(|rotated| is_true(&rotated["KeyRotationEnabled"])),
            policy: policy.unwrap_or_default()["Policy"].take(),
        }),
    ))
}

fn judge(place: &Place, key: Option<&Facts>) -> Vec<Finding> {
    let Some(key) = key else {
        return vec![place.finding(&MISSING, "", format!("there is no key {}", names::MEMBER_KEY_ALIAS))];
    };
    let mut findings = Vec::new();
    let fault = match key.state.as_str() {
        "Enabled" => None,
        "PendingDeletion" => Some(&PENDING),
        _ => Some(&DISABLED),
    };
    if let Some(fault) = fault {
        findings.push(place.finding(fault, &key.id, format!("key {} is in state {}", key.id, key.state)));
    }
    let shut: Vec<&str> = USERS.into_iter().filter(|role| !may_use(place, &key.policy, role)).collect();
    if !shut.is_empty() {
        let what = format!("the policy of key {} does not let {} use it", key.id, shut.join(" and "));
        findings.push(place.finding(&CLOSED, &key.id, what));
    }
    if !key.rotated {
        findings.push(place.finding(&NOT_ROTATED, &key.id, format!("key {} is not rotated", key.id)));
    }
    findings
}

/// Whether the policy lets a role of the account use the key: itself, or the account's root, which hands it to IAM. A
/// condition on either is not Redress's, and may or may not hold: it counts as closed.
fn may_use(place: &Place, policy: &Value, role: &str) -> bool {
    let own = names::role_arn(place.partition(), &place.account, role);
    let root = format!("arn:{}:iam::{}:root", place.partition(), place.account);
    let speaks = |statement: &Value, action: &str| {
        let meant = |one: &str| one == own || one == root || one == place.account.as_str() || one == "*";
        speaks_of(statement, action)
            && principals(statement).into_iter().any(meant)
            && statement["Condition"].as_object().is_none_or(serde_json::Map::is_empty)
    };
    let statements = statements(policy);
    USES.iter().all(|action| {
        statements.iter().any(|one| allows(one) && speaks(one, action))
            && !statements.iter().any(|one| one["Effect"] == "Deny" && speaks(one, action))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{codes, member};
    use super::*;

    fn policy(principal: &Value, action: &str) -> Value {
        let statement =
            json!({ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": action, "Resource": "*" });
        json!(json!({ "Statement": [statement] }).to_string())
    }

    fn key(state: &str, policy: Value) -> Facts {
        Facts { id: "k-1".to_owned(), state: state.to_owned(), rotated: true, policy }
    }

    #[test]
    fn a_key_is_there_enabled_and_open_to_the_functions() {
        let root = || policy(&json!("arn:aws:iam::222222222222:root"), "kms:*");
        let roles = json!([
            "arn:aws:iam::222222222222:role/Redress-Recorder",
            "arn:aws:iam::222222222222:role/Redress-Remediate",
            "arn:aws:iam::222222222222:role/Redress-Destroy"
        ]);
        let but_one = json!(roles.as_array().map(|all| all.iter().take(2).collect::<Vec<_>>()));
        let place = member();
        for good in [root(), policy(&roles, "kms:*")] {
            assert_eq!(judge(&place, Some(&key("Enabled", good))), []);
        }
        let told = |facts: &Facts| codes(&judge(&place, Some(facts)));
        assert_eq!(told(&key("PendingDeletion", root())), ["key-pending-deletion"]);
        assert_eq!(told(&key("Disabled", root())), ["key-disabled"]);
        assert_eq!(
            told(&key("Enabled", policy(&json!("arn:aws:iam::222222222222:role/Admin"), "kms:*"))),
            ["key-policy-closed"]
        );
        assert_eq!(told(&key("Enabled", policy(&roles, "kms:Decrypt"))), ["key-policy-closed"]);
        assert_eq!(
            told(&key("Enabled", policy(&but_one, "kms:*"))),
            ["key-policy-closed"],
            "nothing for redress-destroy"
        );
        assert_eq!(told(&Facts { rotated: false, ..key("Enabled", root()) }), ["key-not-rotated"]);
        assert_eq!(codes(&judge(&place, None)), ["key-missing"]);
    }
}
