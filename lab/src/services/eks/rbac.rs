//! Kubernetes' RBAC: whether the roles that are bound to somebody allow what they ask. Pure.

use serde_json::Value;

use super::access::User;
use super::objects::Objects;

/// What somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    pub(super) verb: &'static str,
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

/// Whether a binding of the cluster, or of the namespace, gives the user a role that allows it.
pub(super) fn allows(objects: &Objects, user: &User, wanted: &Wanted<'_>) -> bool {
    let everywhere = objects.of("ClusterRoleBinding", None);
    let here = wanted.namespace.map(|namespace| objects.of("RoleBinding", Some(namespace)));
    let mut bindings = everywhere.chain(here.into_iter().flatten());
    bindings.any(|binding| {
        items(&binding["subjects"]).any(|subject| is_of(subject, user))
            && role(objects, binding).is_some_and(|role| items(&role["rules"]).any(|rule| covers(rule, wanted)))
    })
}

fn is_of(subject: &Value, user: &User) -> bool {
    match (subject["kind"].as_str(), subject["name"].as_str()) {
        (Some("Group"), Some(name)) => user.groups.iter().any(|group| group == name),
        (Some("User"), Some(name)) => user.name == name,
        _ => false,
    }
}

/// The role that a binding refers to; a `Role` is one of the binding's namespace.
fn role<'a>(objects: &'a Objects, binding: &'a Value) -> Option<&'a Value> {
    let reference = &binding["roleRef"];
    let namespace = (reference["kind"] == "Role").then(|| binding["metadata"]["namespace"].as_str()).flatten();
    let kind = if reference["kind"] == "Role" { "Role" } else { "ClusterRole" };
    objects.of(kind, namespace).find(|role| role["metadata"]["name"] == reference["name"])
}

fn covers(rule: &Value, wanted: &Wanted<'_>) -> bool {
    let lists = |field: &str, text: &str| items(&rule[field]).any(|one| one == text || one == "*");
    let names = items(&rule["resourceNames"]).collect::<Vec<_>>();
    lists("apiGroups", wanted.group)
        && lists("resources", wanted.resource)
        && lists("verbs", wanted.verb)
        && (names.is_empty() || wanted.name.is_some_and(|name| names.iter().any(|one| *one == name)))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::access::Access;
    use super::*;
    use crate::service::Caller;

    const ROLE: &str = "arn:aws:iam::111122223333:role/deploy";

    fn user(groups: &[&str]) -> User {
        let mut access = Access::default();
        access.begin(&json!({ "authenticationMode": "API" }));
        access.create("prod", "", &json!({ "principalArn": ROLE, "kubernetesGroups": groups }), 1).unwrap();
        let arn = "arn:aws:sts::111122223333:assumed-role/deploy/jo".to_owned();
        access.user(&Caller { account: "111122223333".to_owned(), arn }).unwrap()
    }

    fn objects() -> Objects {
        let mut objects = Objects::default();
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
        objects.apply(namespace).unwrap();
        let role = |kind: &str, name: &str, rules: Value| {
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "rules": rules,
                "metadata": { "name": name, "namespace": "shop" } })
        };
        let bound = |kind: &str, to: &str, group: &str| {
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"),
                "metadata": { "name": group, "namespace": "shop" }, "roleRef": { "kind": to, "name": group },
                "subjects": [{ "kind": "Group", "name": group }] })
        };
        let nodes =
            json!([{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"], "resourceNames": ["node-1"] }]);
        let pods = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["*"] }]);
        for object in [
            role("ClusterRole", "nodes", nodes),
            bound("ClusterRole", "ClusterRole", "nodes"),
            role("Role", "pods", pods),
            bound("Role", "Role", "pods"),
        ] {
            objects.apply(object).unwrap();
        }
        objects
    }

    #[test]
    fn a_role_allows_what_it_lists_to_whom_it_is_bound_and_where() {
        let objects = objects();
        let ask = |groups: &[&str], verb, resource, namespace, name| {
            allows(&objects, &user(groups), &Wanted { verb, group: "", resource, namespace, name })
        };
        assert!(ask(&["nodes"], "get", "nodes", None, Some("node-1")));
        assert!(ask(&["pods"], "delete", "pods", Some("shop"), Some("web")));
        for (groups, verb, resource, namespace, name) in [
            (["nodes"], "get", "nodes", None, Some("node-2")),
            (["nodes"], "get", "nodes", None, None),
            (["nodes"], "patch", "nodes", None, Some("node-1")),
            (["nodes"], "get", "pods", Some("shop"), Some("web")),
            (["pods"], "get", "pods", Some("bank"), Some("web")),
            (["pods"], "get", "pods", None, None),
            (["other"], "get", "nodes", None, Some("node-1")),
        ] {
            assert!(!ask(&groups, verb, resource, namespace, name), "{groups:?} {verb} {resource} {name:?}");
        }
    }

    #[test]
    fn what_redress_ships_allows_no_more_than_it_says() {
        let mut objects = Objects::default();
        for document in include_str!("../../../../ssm-documents/playbooks/kubernetes/eks-rbac.yaml").split("\n---") {
            objects.apply(serde_saphyr::from_str(document).unwrap()).unwrap();
        }
        let redress = user(&["redress-contain"]);
        let mut allowed = Vec::new();
        for (group, resource, namespace) in [
            ("", "nodes", None),
            ("", "pods", Some("shop")),
            ("networking.k8s.io", "networkpolicies", Some("shop")),
            ("rbac.authorization.k8s.io", "clusterroles", None),
        ] {
            for verb in ["get", "list", "create", "update", "patch", "delete"] {
                let wanted = Wanted { verb, group, resource, namespace, name: Some("x") };
                if allows(&objects, &redress, &wanted) {
                    allowed.push(format!("{verb} {resource}"));
                }
            }
        }
        let expected = [
            "get nodes",
            "patch nodes",
            "get pods",
            "get networkpolicies",
            "create networkpolicies",
            "delete networkpolicies",
        ];
        assert_eq!(allowed, expected);
    }
}
