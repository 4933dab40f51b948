//! What a cluster holds, by the paths of its API, and what Kubernetes answers to a request that is allowed. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::rbac::Wanted;

/// A kind of object that is held here: its group (empty for the core one), its name in paths, and whether it is in a namespace.
struct Kind {
    group: &'static str,
    plural: &'static str,
    name: &'static str,
    namespaced: bool,
}

const RBAC: &str = "rbac.authorization.k8s.io";
static KINDS: [Kind; 8] = [
    Kind { group: "", plural: "namespaces", name: "Namespace", namespaced: false },
    Kind { group: "", plural: "nodes", name: "Node", namespaced: false },
    Kind { group: "", plural: "pods", name: "Pod", namespaced: true },
    Kind { group: "networking.k8s.io", plural: "networkpolicies", name: "NetworkPolicy", namespaced: true },
    Kind { group: RBAC, plural: "clusterrolebindings", name: "ClusterRoleBinding", namespaced: false },
    Kind { group: RBAC, plural: "clusterroles", name: "ClusterRole", namespaced: false },
    Kind { group: RBAC, plural: "rolebindings", name: "RoleBinding", namespaced: true },
    Kind { group: RBAC, plural: "roles", name: "Role", namespaced: true },
];
/// The one kind of patch that is made here.
const MERGE: &str = "application/merge-patch+json";
const LONGEST_NAME: usize = 253;

impl Kind {
    fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }

    /// The path of all of them.
    fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/v1", self.group) };
        match namespace {
            Some(namespace) if self.namespaced => format!("{root}/namespaces/{namespace}/{}", self.plural),
            _ => format!("{root}/{}", self.plural),
        }
    }
}

/// What a request is about.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    kind: &'static Kind,
    verb: &'static str,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Of a method and a path; `None` when the lab serves nothing there.
    pub(super) fn of(method: &str, path: &'a str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = match (parts.next()?, parts.next()?) {
            ("api", "v1") => "",
            ("apis", group) if parts.next()? == "v1" => group,
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, plural, name) = match rest.as_slice() {
            ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
            ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
            [plural] => (None, *plural, None),
            [plural, name] => (None, *plural, Some(*name)),
            _ => return None,
        };
        let is_it =
            |kind: &&Kind| kind.group == group && kind.plural == plural && kind.namespaced == namespace.is_some();
        let kind = KINDS.iter().find(is_it)?;
        let verb = match (method, name.is_some()) {
            ("GET", true) => "get",
            ("GET", false) => "list",
            ("POST", false) => "create",
            ("PATCH", true) => "patch",
            ("DELETE", true) => "delete",
            _ => return None,
        };
        Some(Self { kind, verb, namespace, name })
    }

    pub(super) const fn wanted(&self) -> Wanted<'a> {
        Wanted {
            verb: self.verb,
            group: self.kind.group,
            resource: self.kind.plural,
            namespace: self.namespace,
            name: self.name,
        }
    }

    /// `pods "web-1"`, as messages say it.
    fn says(&self) -> String {
        let group = if self.kind.group.is_empty() { String::new() } else { format!(".{}", self.kind.group) };
        format!("{}{group} \"{}\"", self.kind.plural, self.name.unwrap_or_default())
    }

    /// The refusal of somebody who may not do it.
    pub(super) fn forbidden(&self, user: &str) -> Answer {
        let place = match self.namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        let Wanted { verb, group, resource, .. } = self.wanted();
        let message = format!(
            "{} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}",
            self.says()
        );
        status(403, "Forbidden", &message)
    }
}

/// HTTP status, and an object.
pub(super) type Answer = (u16, Value);

/// Kubernetes' way to say that something failed.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code,
    });
    (code, status)
}

/// The objects of a cluster.
#[derive(Debug, Default)]
pub(super) struct Objects {
    by_path: BTreeMap<String, Value>,
    changes: u64,
}

impl Objects {
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.by_path.get(path)
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<Value> {
        self.by_path.remove(path)
    }

    /// All of a kind, in a namespace or where no namespace is.
    pub(super) fn of<'a>(&'a self, kind: &'a str, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Value> {
        let is_here = move |object: &&Value| {
            object["kind"] == kind && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
        };
        self.by_path.values().filter(is_here)
    }

    /// Makes an object, or puts it in the place of what has its name.
    pub(super) fn apply(&mut self, mut object: Value) -> Result<(), String> {
        let is_it = |kind: &&Kind| object["kind"] == kind.name && object["apiVersion"] == kind.api_version();
        let kind = KINDS.iter().find(is_it).ok_or("the lab holds no objects of this kind and version")?;
        let name = object["metadata"]["name"].as_str().filter(|name| is_name(name)).ok_or("it has no sound name")?;
        let namespace = object["metadata"]["namespace"].as_str().filter(|_| kind.namespaced);
        if kind.namespaced && namespace.is_none() {
            return Err(format!("{name} names no namespace"));
        }
        let path = format!("{}/{name}", kind.path(namespace));
        let uid = self.by_path.get(&path).map_or_else(|| json!(Uuid::new_v4()), |now| now["metadata"]["uid"].clone());
        if !kind.namespaced
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("namespace");
        }
        self.put(path, object, uid);
        Ok(())
    }

    fn put(&mut self, path: String, mut object: Value, uid: Value) -> Value {
        self.changes += 1;
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.changes.to_string());
        self.by_path.insert(path, object.clone());
        object
    }

    /// The answer to somebody who may ask it.
    pub(super) fn answer(&mut self, asked: &Asked<'_>, query: &str, kind_of_body: &str, body: &[u8]) -> Answer {
        let folder = asked.kind.path(asked.namespace);
        let path = format!("{folder}/{}", asked.name.unwrap_or_default());
        let missing = || status(404, "NotFound", &format!("{} not found", asked.says()));
        match asked.verb {
            "get" => self.by_path.get(&path).map_or_else(missing, |object| (200, object.clone())),
            "list" => self.listed(asked, query),
            "delete" => match self.by_path.remove(&path) {
                Some(gone) => {
                    let details =
                        json!({ "name": asked.name, "kind": asked.kind.plural, "uid": gone["metadata"]["uid"] });
                    (
                        200,
                        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details }),
                    )
                }
                None => missing(),
            },
            "patch" => {
                if kind_of_body != MERGE {
                    return status(415, "UnsupportedMediaType", "the lab makes merge patches, no others");
                }
                let Some(now) = self.by_path.get(&path) else { return missing() };
                let Ok(patch) = serde_json::from_slice::<Value>(body) else { return unreadable() };
                let version = &patch["metadata"]["resourceVersion"];
                if !version.is_null() && *version != now["metadata"]["resourceVersion"] {
                    return status(409, "Conflict", &format!("{} was modified meanwhile", asked.says()));
                }
                let (mut patched, uid) = (now.clone(), now["metadata"]["uid"].clone());
                merge(&mut patched, patch);
                // What changes nothing makes no new version.
                if patched == *now { (200, patched) } else { (200, self.put(path, patched, uid)) }
            }
            _ => self.created(asked, &folder, body),
        }
    }

    fn created(&mut self, asked: &Asked<'_>, folder: &str, body: &[u8]) -> Answer {
        let Ok(object) = serde_json::from_slice::<Value>(body) else { return unreadable() };
        let kind = asked.kind;
        if object["kind"] != kind.name || object["apiVersion"] != kind.api_version() {
            let message = format!("the object is not a {} of version {}", kind.name, kind.api_version());
            return status(400, "BadRequest", &message);
        }
        let Some(name) = object["metadata"]["name"].as_str().filter(|name| is_name(name)) else {
            let message =
                format!("{} is invalid: metadata.name: a lowercase RFC 1123 subdomain is required", kind.name);
            return status(422, "Invalid", &message);
        };
        if object["metadata"]["namespace"].as_str().is_some_and(|given| Some(given) != asked.namespace) {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return status(400, "BadRequest", message);
        }
        if let Some(namespace) = asked.namespace
            && !self.by_path.contains_key(&format!("/api/v1/namespaces/{namespace}"))
        {
            return status(404, "NotFound", &format!("namespaces \"{namespace}\" not found"));
        }
        let path = format!("{folder}/{name}");
        if self.by_path.contains_key(&path) {
            let named = Asked { name: Some(name), ..*asked };
            return status(409, "AlreadyExists", &format!("{} already exists", named.says()));
        }
        let mut object = object.clone();
        if let Some(namespace) = asked.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        (201, self.put(path, object, json!(Uuid::new_v4())))
    }

    fn listed(&self, asked: &Asked<'_>, query: &str) -> Answer {
        let selector = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")).unwrap_or_default();
        let selector = selector.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
        let wanted: Vec<(&str, &str)> = selector
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, value.trim_start_matches('=')))
            .collect();
        let fits = |object: &&Value| wanted.iter().all(|(name, value)| object["metadata"]["labels"][*name] == *value);
        let items: Vec<&Value> = self.of(asked.kind.name, asked.namespace).filter(fits).collect();
        let list = json!({
            "kind": format!("{}List", asked.kind.name), "apiVersion": asked.kind.api_version(),
            "metadata": { "resourceVersion": self.changes.to_string() }, "items": items,
        });
        (200, list)
    }
}

fn unreadable() -> Answer {
    status(400, "BadRequest", "the body of the request is no JSON")
}

/// Whether it is a name as Kubernetes takes them.
fn is_name(name: &str) -> bool {
    let sound = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b':')
    };
    name.len() <= LONGEST_NAME && name.split('.').all(sound)
}

/// A merge patch, RFC 7386.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        match target.as_object_mut() {
            Some(object) if value.is_null() => drop(object.remove(&name)),
            Some(object) => merge(object.entry(name).or_insert(Value::Null), value),
            None => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
    const NODE: &str = "/api/v1/nodes/node-1";

    fn objects() -> Objects {
        let mut objects = Objects::default();
        for object in [
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }),
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" }, "spec": { "providerID": "x" } }),
        ] {
            objects.apply(object).unwrap();
        }
        objects
    }

    fn ask(objects: &mut Objects, method: &str, path: &str, body: &Value) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let kind = if method == "PATCH" { MERGE } else { "application/json" };
        objects.answer(&Asked::of(method, path).unwrap(), query, kind, body.to_string().as_bytes())
    }

    fn policy(name: &str) -> Value {
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name, "labels": { "app.kubernetes.io/managed-by": "redress" } },
            "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } })
    }

    #[test]
    fn a_node_is_cordoned_and_is_again_what_it_was_but_for_its_version() {
        let mut objects = objects();
        let before = ask(&mut objects, "GET", NODE, &Value::Null).1;
        let (code, cordoned) = ask(&mut objects, "PATCH", NODE, &json!({ "spec": { "unschedulable": true } }));
        assert_eq!((code, &cordoned["spec"]["unschedulable"]), (200, &json!(true)));
        assert_ne!(cordoned["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
        let twice = ask(&mut objects, "PATCH", NODE, &json!({ "spec": { "unschedulable": true } })).1;
        assert_eq!(twice, cordoned, "what changes nothing makes no version");
        let after = ask(&mut objects, "PATCH", NODE, &json!({ "spec": { "unschedulable": null } })).1;
        assert_eq!((&after["spec"], &after["metadata"]["uid"]), (&before["spec"], &before["metadata"]["uid"]));
        let old = json!({ "metadata": { "resourceVersion": before["metadata"]["resourceVersion"] } });
        assert_eq!(ask(&mut objects, "PATCH", NODE, &old).1["reason"], "Conflict");
    }

    #[test]
    fn a_policy_is_made_once_found_by_its_labels_and_deleted_once() {
        let mut objects = objects();
        assert_eq!(ask(&mut objects, "POST", POLICIES, &policy("a")).0, 201);
        assert_eq!(ask(&mut objects, "POST", POLICIES, &policy("a")).1["reason"], "AlreadyExists");
        let found = |objects: &mut Objects, label: &str| {
            let path = format!("{POLICIES}?labelSelector=app.kubernetes.io%2Fmanaged-by%3D{label}");
            ask(objects, "GET", &path, &Value::Null).1["items"].as_array().unwrap().len()
        };
        assert_eq!((found(&mut objects, "redress"), found(&mut objects, "helm")), (1, 0));
        let one = format!("{POLICIES}/a");
        assert_eq!(ask(&mut objects, "DELETE", &one, &Value::Null).1["status"], "Success");
        let gone = ask(&mut objects, "DELETE", &one, &Value::Null);
        assert_eq!((gone.0, &gone.1["kind"], &gone.1["reason"]), (404, &json!("Status"), &json!("NotFound")));
    }

    #[test]
    fn what_kubernetes_does_not_take_is_refused_as_it_refuses() {
        let mut objects = objects();
        for (path, body, reason) in [
            (POLICIES, policy("A b"), "Invalid"),
            (POLICIES, json!({ "kind": "Pod" }), "BadRequest"),
            ("/apis/networking.k8s.io/v1/namespaces/bank/networkpolicies", policy("a"), "NotFound"),
        ] {
            assert_eq!(ask(&mut objects, "POST", path, &body).1["reason"], reason, "{path}");
        }
        for path in ["/api/v1/secrets", "/api/v1/namespaces/shop/nodes", "/apis/networking.k8s.io/v2/x", "/", ""] {
            assert!(Asked::of("GET", path).is_none(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_something_or_nothing(method in "GET|PUT|PATCH|POST|DELETE", path in "(/[a-z1./]{0,12}){0,7}") {
            if let Some(asked) = Asked::of(&method, &path) {
                let _ = Objects::default().answer(&asked, "", MERGE, b"{");
            }
        }

        #[test]
        fn a_patch_with_what_is_there_changes_nothing(number in 0..9_u8, text in "[a-z]{0,4}") {
            let object = json!({ "a": { "b": number, "c": [text] }, "d": text });
            let mut patched = object.clone();
            merge(&mut patched, object.clone());
            prop_assert_eq!(patched, object);
        }
    }
}
