//! Exemptions as Cedar `forbid` policies.
//!
//! They are built as JSON values: an owner or a reason is in no policy at all, and an ARN or a name is one string in it,
//! whatever characters it has.

use cedar_policy::{Policy, PolicyId};
use redress_common::items::exemption::{Exemption, Exemptions};
use serde_json::{Value, json};

use super::PolicyError;
use super::question::Asked;

/// What ids of these policies begin with. No other policy may have such an id.
pub(super) const PREFIX: &str = "exemption.";

/// No id of a policy or exemption is longer, in bytes.
const MAX_ID: usize = 128;

/// Whether a policy or an exemption may have this id: the ledger lists them separated by commas.
pub(super) fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(allowed)
}

/// The exemptions that can be about what is asked. The others' policies would not apply; they are left out because there
/// may be hundreds.
///
/// An organisational unit is for Cedar to judge, and the time too.
pub(super) fn about<'a>(asked: &Asked, exemptions: &'a Exemptions) -> Result<Vec<&'a Exemption>, PolicyError> {
    let all = &exemptions.exemptions;
    if let Some(wrong) = all.iter().find(|exemption| !is_id(&exemption.id)) {
        let why = "its name may have letters, digits, dots, hyphens and underscores, and no more".to_owned();
        return Err(PolicyError::Exemption { id: wrong.id.clone(), why });
    }
    let about = all.iter().filter(|exemption| {
        exemption.control.as_ref().is_none_or(|control| *control == asked.control)
            && exemption.account.as_ref().is_none_or(|account| *account == asked.account)
            && exemption.resource.as_ref().is_none_or(|arn| arn.as_str() == asked.resource)
    });
    Ok(about.collect())
}

/// The policy of an exemption: no change, by whoever, until it ends. Undo and dry run stay possible.
pub(super) fn forbid(exemption: &Exemption) -> Result<(Policy, Value), PolicyError> {
    let wrong = |why: String| PolicyError::Exemption { id: exemption.id.clone(), why };
    let mut conditions = vec![
        json!({ "==": { "left": context("mode"), "right": { "Value": "Apply" } } }),
        json!({ "<": { "left": context("now"), "right": { "Value": exemption.expires_at.as_millisecond() } } }),
    ];
    if let Some(control) = &exemption.control {
        let own = json!({ ".": { "left": { "Var": "resource" }, "attr": "control" } });
        conditions.push(json!({ "==": { "left": own, "right": { "Value": control.as_str() } } }));
    }
    let account = exemption.account.as_ref().map(|account| entity("Account", account.as_str()));
    let unit = exemption.ou.as_ref().map(|unit| entity("OrganizationalUnit", unit));
    for above in account.into_iter().chain(unit) {
        conditions
            .push(json!({ "in": { "left": { "Var": "resource" }, "right": { "Value": { "__entity": above } } } }));
    }
    let resource = exemption.resource.as_ref().map_or_else(
        || json!({ "op": "All" }),
        |arn| json!({ "op": "==", "entity": entity("Resource", arn.as_str()) }),
    );
    let actions = ["Act", "Approve", "Answer"].map(|action| entity("Action", action));
    let conditions: Vec<Value> = conditions.into_iter().map(|body| json!({ "kind": "when", "body": body })).collect();
    let policy = json!({
        "effect": "forbid",
        "principal": { "op": "All" },
        "action": { "op": "in", "entities": actions },
        "resource": resource,
        "conditions": conditions,
    });
    let id = PolicyId::new(format!("{PREFIX}{}", exemption.id));
    let made = Policy::from_json(Some(id), policy.clone()).map_err(|error| wrong(error.to_string()))?;
    Ok((made, policy))
}

fn entity(kind: &str, id: &str) -> Value {
    json!({ "type": format!("Redress::{kind}"), "id": id })
}

fn context(attribute: &str) -> Value {
    json!({ ".": { "left": { "Var": "context" }, "attr": attribute } })
}
