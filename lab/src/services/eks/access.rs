//! The access entries of one cluster, and what each lets its principal do. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::rbac::Wanted;
use crate::service::Caller;

/// The access policies that the lab knows, by the ends of their ARNs.
const EVERYTHING: &str = "AmazonEKSClusterAdminPolicy";
const READS: &str = "AmazonEKSViewPolicy";

/// Why a request about access is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AccessError {
    #[error(
        "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation."
    )]
    ByConfigMap,
    #[error("The specified access entry resource is already in use on this cluster: {0}")]
    Exists(String),
    #[error("The specified principalArn could not be found: {0}")]
    Missing(String),
    #[error("access policy {policy} is not associated with {principal}")]
    NotAssociated { principal: String, policy: String },
    #[error("access policies can be associated with access entries of type STANDARD only")]
    NotStandard,
    #[error("{0}")]
    Parameter(&'static str),
}

/// Who has access to a cluster.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Whether the cluster looks at entries at all, or at its `ConfigMap` only.
    by_entries: bool,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// What EKS tells of it.
    told: Value,
    /// EKS's description of each association, by the policy's ARN.
    policies: BTreeMap<String, Value>,
}

/// Somebody whom an entry lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    /// The end of each policy's ARN, and the namespaces that it is for; none are all.
    policies: Vec<(String, Vec<String>)>,
}

impl User {
    /// Whether an access policy allows it. Most of AWS's allow nothing here: the lab knows two of them.
    pub(super) fn is_allowed(&self, wanted: &Wanted<'_>) -> bool {
        self.policies.iter().any(|(policy, namespaces)| {
            let here =
                namespaces.is_empty() || wanted.namespace.is_some_and(|one| namespaces.iter().any(|of| of == one));
            here && match policy.as_str() {
                EVERYTHING => true,
                READS => {
                    matches!(wanted.verb, "get" | "list") && ["pods", "networkpolicies"].contains(&wanted.resource)
                }
                _ => false,
            }
        })
    }
}

impl Access {
    /// Of a new cluster, whose creator gave this configuration. Who made it is let in by no entry here: it is the account's
    /// root, who has [`super::Cluster::apply`].
    pub(super) fn begin(&mut self, config: &Value) {
        self.by_entries = ["API", "API_AND_CONFIG_MAP"].iter().any(|mode| config["authenticationMode"] == *mode);
    }

    pub(super) const fn mode(&self) -> &'static str {
        if self.by_entries { "API" } else { "CONFIG_MAP" }
    }

    fn entry(&mut self, principal: &str) -> Result<&mut Entry, AccessError> {
        if !self.by_entries {
            return Err(AccessError::ByConfigMap);
        }
        self.entries.get_mut(principal).ok_or_else(|| AccessError::Missing(principal.to_owned()))
    }

    /// `cluster_arn` is what the entry's ARN is made of.
    pub(super) fn create(
        &mut self,
        cluster: &str,
        cluster_arn: &str,
        asked: &Value,
        now: i64,
    ) -> Result<Value, AccessError> {
        if !self.by_entries {
            return Err(AccessError::ByConfigMap);
        }
        let principal = asked["principalArn"].as_str().ok_or(AccessError::Parameter("principalArn is required"))?;
        if self.entries.contains_key(principal) {
            return Err(AccessError::Exists(principal.to_owned()));
        }
        let begin = cluster_arn.split(":cluster/").next().unwrap_or_default();
        let of = resource(cluster, principal);
        let of = of.trim_end_matches('*');
        let told = json!({
            "clusterName": cluster, "principalArn": principal, "kubernetesGroups": groups(asked)?,
            "accessEntryArn": format!("{begin}:{of}{}", Uuid::new_v4()), "createdAt": now, "modifiedAt": now,
            "tags": if asked["tags"].is_object() { asked["tags"].clone() } else { json!({}) },
            "username": asked["username"].as_str().map_or_else(|| username(principal), str::to_owned),
            "type": asked["type"].as_str().unwrap_or("STANDARD"),
        });
        self.entries.insert(principal.to_owned(), Entry { told: told.clone(), policies: BTreeMap::new() });
        Ok(json!({ "accessEntry": told }))
    }

    pub(super) fn describe(&mut self, principal: &str) -> Result<Value, AccessError> {
        Ok(json!({ "accessEntry": self.entry(principal)?.told }))
    }

    pub(super) fn update(&mut self, principal: &str, asked: &Value, now: i64) -> Result<Value, AccessError> {
        let entry = self.entry(principal)?;
        if !asked["kubernetesGroups"].is_null() {
            entry.told["kubernetesGroups"] = groups(asked)?;
        }
        if let Some(name) = asked["username"].as_str() {
            entry.told["username"] = json!(name);
        }
        entry.told["modifiedAt"] = json!(now);
        Ok(json!({ "accessEntry": entry.told }))
    }

    pub(super) fn delete(&mut self, principal: &str) -> Result<Value, AccessError> {
        self.entry(principal)?;
        self.entries.remove(principal);
        Ok(json!({}))
    }

    pub(super) fn list(&self) -> Value {
        json!({ "accessEntries": self.entries.keys().collect::<Vec<_>>() })
    }

    pub(super) fn associate(&mut self, principal: &str, asked: &Value, now: i64) -> Result<Value, AccessError> {
        let entry = self.entry(principal)?;
        if entry.told["type"] != "STANDARD" {
            return Err(AccessError::NotStandard);
        }
        let policy = asked["policyArn"].as_str().ok_or(AccessError::Parameter("policyArn is required"))?;
        let scope = &asked["accessScope"];
        let namespaces = scope["namespaces"].as_array().cloned().unwrap_or_default();
        let is_sound = match scope["type"].as_str() {
            Some("cluster") => namespaces.is_empty(),
            Some("namespace") => !namespaces.is_empty(),
            _ => false,
        };
        if !is_sound {
            return Err(AccessError::Parameter("accessScope must be cluster, or namespace with namespaces"));
        }
        let since = entry.policies.get(policy).map_or(json!(now), |before| before["associatedAt"].clone());
        let told = json!({
            "policyArn": policy, "accessScope": { "type": scope["type"], "namespaces": namespaces },
            "associatedAt": since, "modifiedAt": now,
        });
        entry.policies.insert(policy.to_owned(), told.clone());
        let cluster = &entry.told["clusterName"];
        Ok(json!({ "clusterName": cluster, "principalArn": principal, "associatedAccessPolicy": told }))
    }

    pub(super) fn disassociate(&mut self, principal: &str, policy: &str) -> Result<Value, AccessError> {
        match self.entry(principal)?.policies.remove(policy) {
            Some(_) => Ok(json!({})),
            None => Err(AccessError::NotAssociated { principal: principal.to_owned(), policy: policy.to_owned() }),
        }
    }

    pub(super) fn policies(&mut self, principal: &str) -> Result<Value, AccessError> {
        let entry = self.entry(principal)?;
        let policies: Vec<&Value> = entry.policies.values().collect();
        let cluster = &entry.told["clusterName"];
        Ok(json!({ "clusterName": cluster, "principalArn": principal, "associatedAccessPolicies": policies }))
    }

    /// Whom a caller of AWS is in the cluster; `None` when no entry lets them in.
    pub(super) fn user(&self, caller: &Caller) -> Option<User> {
        let (principal, entry) = self.entries.iter().find(|(principal, _)| is_of(principal, &caller.arn))?;
        let session = caller.arn.rsplit('/').next().unwrap_or_default();
        let name = entry.told["username"].as_str().unwrap_or(principal);
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut groups = texts(&entry.told["kubernetesGroups"]);
        groups.push("system:authenticated".to_owned());
        let policies = entry.policies.iter().map(|(arn, told)| {
            let name = arn.rsplit('/').next().unwrap_or_default().to_owned();
            (name, texts(&told["accessScope"]["namespaces"]))
        });
        Some(User { name: name.replace("{{SessionName}}", session), groups, policies: policies.collect() })
    }
}

/// What stands in an entry's ARN, but for the id that EKS gives it.
pub(super) fn resource(cluster: &str, principal: &str) -> String {
    let fields: Vec<&str> = principal.splitn(6, ':').collect();
    let (account, of) = (fields.get(4).copied().unwrap_or_default(), fields.get(5).copied().unwrap_or_default());
    let (kind, name) = (of.split('/').next().unwrap_or_default(), of.rsplit('/').next().unwrap_or_default());
    format!("access-entry/{cluster}/{kind}/{account}/{name}/*")
}

fn groups(asked: &Value) -> Result<Value, AccessError> {
    let groups = asked["kubernetesGroups"].as_array().cloned().unwrap_or_default();
    if groups.iter().any(|group| group.as_str().is_none_or(|name| name.starts_with("system:"))) {
        return Err(AccessError::Parameter("The kubernetes group name is invalid, it cannot start with system:"));
    }
    Ok(json!(groups))
}

/// What EKS calls a principal in the cluster, unless it is told.
fn username(principal: &str) -> String {
    match principal.split_once(":role/") {
        Some((begin, path)) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            format!("{}:assumed-role/{name}/{{{{SessionName}}}}", begin.replacen(":iam:", ":sts:", 1))
        }
        None => principal.to_owned(),
    }
}

/// Whether a caller is a principal: itself, or in a session of the role.
fn is_of(principal: &str, caller: &str) -> bool {
    let pattern = username(principal);
    match pattern.strip_suffix("{{SessionName}}") {
        Some(role) => caller.starts_with(role),
        None => caller == principal,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/team/deploy";
    const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/deploy/jo";

    fn access() -> Access {
        let mut access = Access::default();
        access.begin(&json!({ "authenticationMode": "API" }));
        let asked = json!({ "principalArn": ROLE, "kubernetesGroups": ["team"] });
        access.create("prod", "arn:aws:eks:eu-central-1:111122223333:cluster/prod", &asked, 1).unwrap();
        access
    }

    fn user(access: &Access, arn: &str) -> Option<User> {
        access.user(&Caller { account: "111122223333".to_owned(), arn: arn.to_owned() })
    }

    fn wanted(verb: &'static str, resource: &'static str, namespace: Option<&'static str>) -> Wanted<'static> {
        Wanted { verb, group: "", resource, namespace, name: None }
    }

    #[test]
    fn an_entry_is_of_the_sessions_of_its_role_and_of_nobody_else() {
        let access = access();
        let found = user(&access, SESSION).unwrap();
        assert_eq!(found.name, SESSION);
        assert_eq!(found.groups, ["team", "system:authenticated"]);
        for other in [
            "arn:aws:sts::111122223333:assumed-role/deploy-2/jo",
            "arn:aws:sts::999999999999:assumed-role/deploy/jo",
            "arn:aws:iam::111122223333:user/deploy",
        ] {
            assert_eq!(user(&access, other), None, "{other}");
        }
    }

    #[test]
    fn policies_count_in_their_namespaces_and_no_longer_than_they_are_associated() {
        let mut access = access();
        let policy = format!("arn:aws:eks::aws:cluster-access-policy/{READS}");
        let scope = json!({ "type": "namespace", "namespaces": ["shop"] });
        access.associate(ROLE, &json!({ "policyArn": policy, "accessScope": scope }), 2).unwrap();
        let found = user(&access, SESSION).unwrap();
        assert!(found.is_allowed(&wanted("get", "pods", Some("shop"))));
        for (verb, resource, namespace) in
            [("get", "pods", Some("bank")), ("get", "nodes", None), ("delete", "networkpolicies", Some("shop"))]
        {
            assert!(!found.is_allowed(&wanted(verb, resource, namespace)), "{verb} {resource}");
        }
        access.disassociate(ROLE, &policy).unwrap();
        assert!(!user(&access, SESSION).unwrap().is_allowed(&wanted("get", "pods", Some("shop"))));
        assert!(matches!(access.disassociate(ROLE, &policy), Err(AccessError::NotAssociated { .. })));
    }

    #[test]
    fn what_eks_refuses_is_refused() {
        let mut access = access();
        let system = json!({ "kubernetesGroups": ["system:masters"] });
        assert!(matches!(access.update(ROLE, &system, 2), Err(AccessError::Parameter(_))));
        let mut old = Access::default();
        old.begin(&json!({}));
        assert_eq!(old.describe(ROLE), Err(AccessError::ByConfigMap));
        assert_eq!(access.describe("arn:x"), Err(AccessError::Missing("arn:x".to_owned())));
        let twice = json!({ "principalArn": ROLE });
        assert!(matches!(access.create("prod", "", &twice, 2), Err(AccessError::Exists(_))));
    }
}
