//! Facts that may be unknown, which policies speak of them, and what is left of a policy without them.
//!
//! Cedar takes a tag that is not there for "no", and an account without parents for one outside of every
//! organisational unit: a `forbid` on either would fail open. So a policy that speaks of a fact that is not known is
//! replaced by its *remains*: the same policy without the conditions that need the fact. It applies wherever the
//! policy itself might.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::question::{Asked, Calendar, time_zone};

/// What may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// The account's name and organisational units.
    AccountPlace,
    /// The account's tags.
    AccountTags,
    /// The resource's tags.
    ResourceTags,
    /// What manages the resource.
    Ownership,
    /// What uses the resource.
    Dependents,
    /// Whether the resource is critical.
    Critical,
    /// Whether a threat list names the resource.
    Threat,
    /// When the resource was used last.
    LastUsed,
    /// Whether anybody outside can reach the resource.
    Exposure,
    /// What the change calendars say.
    Calendar,
    /// The local time.
    LocalTime,
}

impl Fact {
    /// Those that Organizations knows.
    pub const OF_ACCOUNT: [Self; 2] = [Self::AccountPlace, Self::AccountTags];
    /// Those that the guard finds out.
    pub const OF_GUARD: [Self; 7] = [
        Self::ResourceTags,
        Self::Ownership,
        Self::Dependents,
        Self::Critical,
        Self::Threat,
        Self::LastUsed,
        Self::Exposure,
    ];

    /// What it is, in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountPlace => "the account's organisational units",
            Self::AccountTags => "the account's tags",
            Self::ResourceTags => "the resource's tags",
            Self::Ownership => "what manages the resource",
            Self::Dependents => "what uses the resource",
            Self::Critical => "whether the resource is critical",
            Self::Threat => "whether a threat list names the resource",
            Self::LastUsed => "when the resource was used last",
            Self::Exposure => "whether anybody outside can reach the resource",
            Self::Calendar => "the change calendar",
            Self::LocalTime => "the local time",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The facts that a question does not bring.
pub(super) fn missing(asked: &Asked) -> BTreeSet<Fact> {
    let mut missing = BTreeSet::new();
    if asked.account_facts.is_none() {
        missing.extend(Fact::OF_ACCOUNT);
    }
    match &asked.evidence {
        None => missing.extend(Fact::OF_GUARD),
        Some(evidence) => {
            missing.extend(evidence.unanswered.iter().flat_map(|question| unanswered(question)));
            if evidence.last_used.as_ref().is_some_and(|time| time.parse::<Timestamp>().is_err()) {
                missing.insert(Fact::LastUsed);
            }
            // Of most types nobody looks; an attribute that is not there must not read as "no".
            if evidence.exposure.is_none() {
                missing.insert(Fact::Exposure);
            }
        }
    }
    if asked.calendar == Calendar::Unreadable {
        missing.insert(Fact::Calendar);
    }
    if asked.time_zone.as_deref().is_some_and(|name| time_zone(name).is_err()) {
        missing.insert(Fact::LocalTime);
    }
    missing
}

/// The facts that the guard's unanswered question is about, by what stands before its colon. All of them when that is not
/// known here: no answer is not "no".
fn unanswered(question: &str) -> BTreeSet<Fact> {
    let what = question.split(':').next().unwrap_or_default();
    let words = [
        // Terraform and what is critical are known by their tags.
        ("tags", &[Fact::ResourceTags, Fact::Ownership, Fact::Critical][..]),
        ("last use", &[Fact::LastUsed]),
        ("owner", &[Fact::Ownership]),
        ("threats", &[Fact::Threat]),
        ("exposure", &[Fact::Exposure]),
        // That a stack owns it is known then; only not in which one to make the change.
        ("whether the stack is nested", &[]),
        // The others hold.
        ("lines of the threat list", &[]),
    ];
    let said: Vec<&[Fact]> = words.iter().filter(|(word, _)| what.contains(word)).map(|(_, facts)| *facts).collect();
    let users = USERS.iter().any(|word| what.contains(word)).then_some(&[Fact::Dependents][..]);
    if said.is_empty() && users.is_none() {
        return Fact::OF_GUARD.into();
    }
    said.into_iter().chain(users).flatten().copied().collect()
}

/// What the guard's questions about dependents are called.
const USERS: [&str; 15] = [
    "dependents",
    "website",
    "public access",
    "bucket policy",
    "replication",
    "network interfaces",
    "groups that refer to it",
    "instances",
    "images",
    "aliases",
    "grants",
    "instance profiles",
    "access keys",
    "attachments",
    "users",
];

/// The facts that a policy speaks of, from its JSON form.
pub(super) fn spoken_of(policy: &Value) -> BTreeSet<Fact> {
    let mut facts = BTreeSet::new();
    collect(policy.get("resource").unwrap_or(&Value::Null), &mut facts);
    collect(policy.get("conditions").unwrap_or(&Value::Null), &mut facts);
    facts
}

fn collect(value: &Value, facts: &mut BTreeSet<Fact>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, facts)),
        Value::Object(fields) => {
            for (key, field) in fields {
                match key.as_str() {
                    "hasTag" | "getTag" => facts.extend(tags_of(&field["left"])),
                    // `has` may name a path, `inAccount.name`.
                    "." | "has" => {
                        let path = field["attr"].as_array().map_or(std::slice::from_ref(&field["attr"]), Vec::as_slice);
                        facts.extend(path.iter().filter_map(Value::as_str).filter_map(of_attribute));
                    }
                    // Nothing but a literal has this type.
                    "type" if field == "Redress::OrganizationalUnit" => drop(facts.insert(Fact::AccountPlace)),
                    _ => {}
                }
                collect(field, facts);
            }
        }
        _ => {}
    }
}

fn tags_of(receiver: &Value) -> &'static [Fact] {
    if *receiver == json!({ "Var": "resource" }) {
        &[Fact::ResourceTags]
    } else if receiver["."]["attr"] == "inAccount" {
        &[Fact::AccountTags]
    } else {
        &[Fact::ResourceTags, Fact::AccountTags]
    }
}

/// By the attribute's name alone: what else has that name is taken for the fact, which is the safe side.
fn of_attribute(name: &str) -> Option<Fact> {
    Some(match name {
        "name" => Fact::AccountPlace,
        "owned" | "owner" | "ownerVouched" => Fact::Ownership,
        "dependents" => Fact::Dependents,
        "critical" => Fact::Critical,
        "threat" => Fact::Threat,
        "lastUsedDays" => Fact::LastUsed,
        "exposed" => Fact::Exposure,
        "changeCalendar" => Fact::Calendar,
        "local" => Fact::LocalTime,
        _ => return None,
    })
}

/// What is left of a policy when these facts are not known.
pub(super) fn remains(mut policy: Value, missing: &BTreeSet<Fact>) -> Value {
    let unknown = |part: &Value| {
        let mut facts = BTreeSet::new();
        collect(part, &mut facts);
        !facts.is_disjoint(missing)
    };
    if unknown(&policy["resource"]) {
        policy["resource"] = json!({ "op": "All" });
    }
    let conditions = policy["conditions"].take();
    let mut left = Vec::new();
    for condition in conditions.as_array().into_iter().flatten() {
        // `when { a && b }` is `when { a } when { b }`, and `unless { a || b }` is `unless { a } unless { b }`.
        let operator = if condition["kind"] == "when" { "&&" } else { "||" };
        let mut parts = Vec::new();
        split(&condition["body"], operator, &mut parts);
        let known = parts.into_iter().filter(|part| !unknown(part));
        left.extend(known.map(|body| json!({ "kind": condition["kind"], "body": body })));
    }
    policy["conditions"] = Value::Array(left);
    policy
}

fn split<'a>(body: &'a Value, operator: &str, parts: &mut Vec<&'a Value>) {
    match body.get(operator) {
        Some(both) => {
            split(&both["left"], operator, parts);
            split(&both["right"], operator, parts);
        }
        None => parts.push(body),
    }
}
