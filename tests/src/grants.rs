//! Least privilege, proved both ways: which lines of the deployed roles' policies the recorded calls used.
//!
//! Conditions are left to the lab's policy engine, which judged every recorded call; here a line counts as used when an
//! allowed check matches its action and resource.

use std::collections::BTreeSet;
use std::fmt;

use redress_lab::service::AwsError;
use serde_json::{Value, json};

use crate::world::World;

/// One line of a policy: one action on one resource pattern, allowed to one role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The role's account.
    pub account: String,
    /// The role's name.
    pub role: String,
    /// The policy that holds the line.
    pub policy: String,
    /// `dynamodb:PutItem`.
    pub action: String,
    /// `arn:aws:s3:::bucket/*`.
    pub resource: String,
}

impl Grant {
    /// Whether a check is one that this line allows, as far as action and resource go.
    #[must_use]
    pub fn covers(&self, call: &Used) -> bool {
        call.role == self.role
            && call.account == self.account
            && matches(&self.action.to_lowercase(), &call.action.to_lowercase())
            && matches(&self.resource, &call.resource)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<36} {:<42} {}", self.role, self.action, self.resource)
    }
}

/// An authorisation check of a call by a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// The role's name.
    pub role: String,
    /// The role's account.
    pub account: String,
    /// `dynamodb:PutItem`.
    pub action: String,
    /// The resource that was checked.
    pub resource: String,
}

impl World {
    /// The checks of roles since a mark of the record, by their verdict.
    #[must_use]
    pub fn checks(&self, mark: u64, allowed: bool) -> Vec<Used> {
        let calls = self.bed.lab.record().calls_since(mark);
        let judged = calls.iter().flat_map(|call| call.checks.iter().map(move |check| (&call.principal, check)));
        judged
            .filter(|(_, check)| check.allowed == allowed)
            .filter_map(|(principal, check)| {
                let (account, role) = role_of(principal)?;
                Some(Used { role, account, action: check.action.clone(), resource: check.resource.clone() })
            })
            .collect()
    }

    /// Every allow line of an account's roles of these names.
    ///
    /// # Panics
    /// When they cannot be read, or one has a managed policy that is not ours.
    pub async fn grants(&self, account: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Grant> {
        let call = async |operation: &str, parameters: Value| {
            self.call(account, "iam", operation, parameters).await.unwrap_or_default()
        };
        let names = |answer: &Value, field: &str, inner: &str| -> Vec<String> {
            let name = |item: &Value| item.as_str().or_else(|| item[inner].as_str()).map(str::to_owned);
            answer[field].as_array().into_iter().flatten().filter_map(name).collect()
        };
        let mut found = Vec::new();
        for role in
            names(&call("ListRoles", json!({})).await, "Roles", "RoleName").iter().filter(|role| is_wanted(role))
        {
            let attached = call("ListAttachedRolePolicies", json!({ "RoleName": role })).await;
            let mut policies = names(&attached, "AttachedPolicies", "PolicyArn");
            let ours =
                [redress_common::names::NATIVE_POLICY, redress_common::names::DESTROY_POLICY, "Redress-Contain-"];
            let ours = ours.map(|start| format!("iam::{account}:policy/{start}"));
            let is_ours = |arn: &String| ours.iter().any(|start| arn.contains(start));
            assert!(policies.iter().all(is_ours), "{role}: nobody looks at {policies:?}");
            policies.extend(names(&call("ListRolePolicies", json!({ "RoleName": role })).await, "PolicyNames", ""));
            for policy in policies {
                let document = self.role_policy(account, role, &policy).await;
                found.extend(grants(account, role, &policy, &document));
            }
        }
        assert!(!found.is_empty(), "account {account} has no such role");
        found
    }

    /// A policy of a role: its own, by its name, or one that is attached, by its ARN.
    ///
    /// # Panics
    /// When there is none.
    #[expect(clippy::panic, reason = "without its policy there is no test")]
    pub async fn role_policy(&self, account: &str, role: &str, policy: &str) -> Value {
        let read = async {
            if !policy.starts_with("arn:") {
                let asked = json!({ "RoleName": role, "PolicyName": policy });
                return Ok(self.call(account, "iam", "GetRolePolicy", asked).await?["PolicyDocument"].take());
            }
            let known = self.call(account, "iam", "GetPolicy", json!({ "PolicyArn": policy })).await?;
            let asked = json!({ "PolicyArn": policy, "VersionId": known["Policy"]["DefaultVersionId"] });
            Ok::<_, AwsError>(
                self.call(account, "iam", "GetPolicyVersion", asked).await?["PolicyVersion"]["Document"].take(),
            )
        };
        match read.await {
            Ok(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
            Ok(document) => document,
            Err(error) => panic!("policy {policy} of {role}: {error}"),
        }
    }

    /// Writes a policy of the role that a line belongs to.
    ///
    /// # Panics
    /// When IAM does not take it.
    #[expect(clippy::panic, reason = "without its policy there is no test")]
    pub async fn put_role_policy(&self, line: &Grant, document: &Value) {
        if line.policy.starts_with("arn:") {
            return self.put_managed_policy(line, document).await;
        }
        let mut asked = json!({ "RoleName": line.role, "PolicyName": line.policy });
        // IAM keeps no empty policy.
        let operation = if document["Statement"] == json!([]) { "DeleteRolePolicy" } else { "PutRolePolicy" };
        if operation == "PutRolePolicy" {
            asked["PolicyDocument"] = document.to_string().into();
        }
        if let Err(error) = self.call(&line.account, "iam", operation, asked).await {
            panic!("policy {} of {}: {error}", line.policy, line.role);
        }
    }

    #[expect(clippy::panic, reason = "without its policy there is no test")]
    async fn put_managed_policy(&self, line: &Grant, document: &Value) {
        let mut document = document.clone();
        if document["Statement"] == json!([]) {
            // IAM keeps no empty policy.
            document["Statement"] = json!([{ "Effect": "Deny", "Action": "none:None", "Resource": "*" }]);
        }
        let write = async {
            let (account, arn) = (line.account.as_str(), json!(line.policy));
            let known = self.call(account, "iam", "GetPolicy", json!({ "PolicyArn": arn })).await?;
            let made = json!({ "PolicyArn": arn, "PolicyDocument": document.to_string(), "SetAsDefault": true });
            self.call(account, "iam", "CreatePolicyVersion", made).await?;
            // Of a policy there are five versions at most.
            let old = json!({ "PolicyArn": arn, "VersionId": known["Policy"]["DefaultVersionId"] });
            self.call(account, "iam", "DeletePolicyVersion", old).await
        };
        if let Err(error) = write.await {
            panic!("policy {} of {}: {error}", line.policy, line.role);
        }
    }
}

/// The allow lines of one policy document.
#[must_use]
pub fn grants(account: &str, role: &str, policy: &str, document: &Value) -> Vec<Grant> {
    let line = |statement: &Value| Grant {
        account: account.to_owned(),
        role: role.to_owned(),
        policy: policy.to_owned(),
        action: text(&statement["Action"]),
        resource: text(&statement["Resource"]),
    };
    single(document).iter().filter(|statement| statement["Effect"] == "Allow").map(line).collect()
}

/// The lines that nothing used.
#[must_use]
pub fn unused<'a>(grants: &'a [Grant], used: &BTreeSet<Used>) -> Vec<&'a Grant> {
    grants.iter().filter(|grant| !used.iter().any(|call| grant.covers(call))).collect()
}

/// The document without one of its lines; everything else is granted as before.
#[must_use]
pub fn without(document: &Value, line: &Grant) -> Value {
    let mut statements = single(document);
    statements.retain(|statement| {
        statement["Effect"] != "Allow"
            || text(&statement["Action"]) != line.action
            || text(&statement["Resource"]) != line.resource
    });
    let mut document = document.clone();
    document["Statement"] = Value::Array(statements);
    document
}

/// A document's statements, each with one action and one resource.
fn single(document: &Value) -> Vec<Value> {
    let mut singles = Vec::new();
    for statement in list(&document["Statement"]) {
        for action in list(&statement["Action"]) {
            for resource in list(&statement["Resource"]) {
                let mut one = statement.clone();
                one["Action"] = action.clone();
                one["Resource"] = resource;
                if let Some(one) = one.as_object_mut() {
                    one.remove("Sid");
                }
                singles.push(one);
            }
        }
    }
    singles
}

/// The role and account of an assumed-role ARN.
#[must_use]
pub fn role_of(principal: &str) -> Option<(String, String)> {
    let mut parts = principal.splitn(6, ':');
    let account = parts.nth(4)?;
    let role = parts.next()?.strip_prefix("assumed-role/")?.split('/').next()?;
    Some((account.to_owned(), role.to_owned()))
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// IAM's wildcards: `*` for any run of characters, `?` for one.
fn matches(pattern: &str, given: &str) -> bool {
    let (pattern, given): (Vec<char>, Vec<char>) = (pattern.chars().collect(), given.chars().collect());
    let (mut p, mut g, mut star) = (0, 0, None);
    while g < given.len() {
        if p < pattern.len() && (pattern[p] == '?' || pattern[p] == given[g]) && pattern[p] != '*' {
            p += 1;
            g += 1;
        } else if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, g));
            p += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            g = from + 1;
            star = Some((at, g));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy() -> Value {
        json!({"Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::b/*"},
            {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"},
            {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": ["arn:aws:kms:eu-west-1:1:key/a"]},
        ]})
    }

    fn used(action: &str, resource: &str) -> Used {
        Used { role: "r".into(), account: "1".into(), action: action.into(), resource: resource.into() }
    }

    #[test]
    fn a_line_that_no_call_matches_is_reported() {
        let lines = grants("1", "r", "p", &policy());
        assert_eq!(lines.len(), 3);
        let calls = BTreeSet::from([
            used("s3:GetObject", "arn:aws:s3:::b/key"),
            used("kms:Decrypt", "arn:aws:kms:eu-west-1:1:key/other"),
        ]);
        let unused: Vec<&str> = unused(&lines, &calls).iter().map(|grant| grant.action.as_str()).collect();
        assert_eq!(unused, ["s3:PutObject", "kms:Decrypt"]);
    }

    #[test]
    fn removing_a_line_leaves_every_other_one() {
        let all = grants("1", "r", "p", &policy());
        for (index, line) in all.iter().enumerate() {
            let mut expected = all.clone();
            expected.remove(index);
            let left = without(&policy(), line);
            assert_eq!(grants("1", "r", "p", &left), expected);
            assert!(left["Statement"].as_array().is_some_and(|all| all.iter().any(|one| one["Effect"] == "Deny")));
        }
    }

    #[test]
    fn wildcards_match_as_iam_says() {
        assert!(matches("arn:aws:s3:::b/*", "arn:aws:s3:::b/year=2026/x.json"));
        assert!(matches("a*c?e", "abbbcde"));
        assert!(!matches("arn:aws:s3:::b", "arn:aws:s3:::bb"));
        assert!(matches("*", ""));
    }

    #[test]
    fn the_role_is_read_from_a_session_arn() {
        assert_eq!(
            role_of("arn:aws:sts::111122223333:assumed-role/Redress-Control/x"),
            Some(("111122223333".into(), "Redress-Control".into()))
        );
        assert_eq!(role_of("arn:aws:iam::111122223333:root"), None);
    }
}
