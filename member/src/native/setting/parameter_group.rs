//! Parameter groups of databases: one parameter, in a group that serves the resource of the finding alone.
//!
//! A group may serve several databases, and a default group serves all that have none of their own and cannot be
//! changed: both are refused with what to do instead. Who else uses a group is found by listing all resources of the
//! kind, for AWS cannot be asked that.

use serde_json::{Value, json};

use super::rds::RDS;
use super::redshift::REDSHIFT;
use super::{Ask, Planned, Setting, Subject, items};
use crate::native::NativeError;
use crate::wire::Operation;

/// A kind of resource with parameter groups, and the parameter that is looked at. Lists are named with their items.
struct Kind {
    list: &'static Operation,
    resources: (&'static str, &'static str),
    id: &'static str,
    groups: (&'static str, &'static str),
    group: &'static str,
    read: &'static Operation,
    modify: &'static Operation,
    reset: &'static Operation,
    parameter: &'static str,
    wanted: &'static str,
    /// What else of the resource decides.
    facts: &'static [&'static str],
    /// Whether a change says when it is applied.
    applies: bool,
    /// What people call it.
    what: &'static str,
}

static DESCRIBE_INSTANCES: Operation = RDS.operation("DescribeDBInstances");
static DESCRIBE_PARAMETERS: Operation = RDS.operation("DescribeDBParameters");
static MODIFY_GROUP: Operation = RDS.operation("ModifyDBParameterGroup");
static RESET_GROUP: Operation = RDS.operation("ResetDBParameterGroup");

static POSTGRES: Kind = Kind {
    list: &DESCRIBE_INSTANCES,
    resources: ("DBInstances", "DBInstance"),
    id: "DBInstanceIdentifier",
    groups: ("DBParameterGroups", "DBParameterGroup"),
    group: "DBParameterGroupName",
    read: &DESCRIBE_PARAMETERS,
    modify: &MODIFY_GROUP,
    reset: &RESET_GROUP,
    parameter: "rds.force_ssl",
    wanted: "1",
    facts: &["DBClusterIdentifier", "Engine"],
    applies: true,
    what: "database",
};

static DESCRIBE_CLUSTERS: Operation = REDSHIFT.operation("DescribeClusters");
static DESCRIBE_CLUSTER_PARAMETERS: Operation = REDSHIFT.operation("DescribeClusterParameters");
static MODIFY_CLUSTER_GROUP: Operation = REDSHIFT.operation("ModifyClusterParameterGroup");
static RESET_CLUSTER_GROUP: Operation = REDSHIFT.operation("ResetClusterParameterGroup");

static WAREHOUSE: Kind = Kind {
    list: &DESCRIBE_CLUSTERS,
    resources: ("Clusters", "Cluster"),
    id: "ClusterIdentifier",
    groups: ("ClusterParameterGroups", "ClusterParameterGroup"),
    group: "ParameterGroupName",
    read: &DESCRIBE_CLUSTER_PARAMETERS,
    modify: &MODIFY_CLUSTER_GROUP,
    reset: &RESET_CLUSTER_GROUP,
    parameter: "require_ssl",
    wanted: "true",
    facts: &[],
    applies: false,
    what: "cluster",
};

impl Kind {
    fn groups_of<'a>(&self, resource: &'a Value) -> impl Iterator<Item = &'a str> {
        let group = self.group;
        items(resource, self.groups.0, self.groups.1).filter_map(move |one| one[group].as_str())
    }

    fn listed<'a>(&self, answers: &'a [Value]) -> impl Iterator<Item = &'a Value> {
        let (list, item) = self.resources;
        answers.iter().flat_map(move |page| items(page, list, item))
    }

    fn found<'a>(&self, subject: &Subject, answers: &'a [Value]) -> Option<&'a Value> {
        let name = subject.name.as_str();
        self.listed(answers).find(|resource| resource[self.id] == name)
    }

    fn parameter<'a>(&self, answers: &'a [Value]) -> Option<&'a Value> {
        let mut all = answers.iter().flat_map(|page| items(page, "Parameters", "Parameter"));
        all.find(|parameter| parameter["ParameterName"] == self.parameter)
    }

    /// Page by page: all resources, then the parameters of the group until the one is found.
    fn next(&self, subject: &Subject, answers: &[Value]) -> Option<Ask> {
        let last = answers.last();
        let marker = last.and_then(|page| page["Marker"].as_str()).filter(|marker| !marker.is_empty());
        let is_listed = last.is_some_and(|page| marker.is_none() || page.get("Parameters").is_some());
        let (operation, mut input) = if is_listed {
            let begun = answers.iter().any(|page| page.get("Parameters").is_some());
            if begun && (marker.is_none() || self.parameter(answers).is_some()) {
                return None;
            }
            let group = self.groups_of(self.found(subject, answers)?).next()?;
            (self.read, json!({ self.group: group }))
        } else {
            (self.list, json!({}))
        };
        if let Some(marker) = marker {
            input["Marker"] = json!(marker);
        }
        Some(Ask::of(operation, input))
    }

    fn state(&self, subject: &Subject, answers: &[Value]) -> Option<Value> {
        let resource = self.found(subject, answers)?;
        let group = self.groups_of(resource).next()?;
        let uses_it = |other: &&Value| self.groups_of(other).any(|used| used == group);
        let others = self.listed(answers).filter(uses_it).filter_map(|other| other[self.id].as_str());
        let mut others: Vec<&str> = others.filter(|id| *id != subject.name).collect();
        others.sort_unstable();
        let parameter = self.parameter(answers).unwrap_or(&Value::Null);
        let mut state = json!({ "ParameterGroup": group, "UsedBy": others });
        for field in ["ParameterValue", "Source", "ApplyType"] {
            state[field] = parameter[field].clone();
        }
        for fact in self.facts {
            state[*fact] = resource[*fact].clone();
        }
        Some(state)
    }

    /// The parameter as it is written. What is static takes effect with the next reboot.
    fn written(&self, state: &Value, value: Option<&str>) -> Value {
        let mut parameter = json!({ "ParameterName": self.parameter });
        if let Some(value) = value {
            parameter["ParameterValue"] = json!(value);
        }
        if self.applies {
            let at_once = state["ApplyType"] == "dynamic";
            parameter["ApplyMethod"] = json!(if at_once { "immediate" } else { "pending-reboot" });
        }
        json!({ "Parameter": [parameter] })
    }

    fn fix(&self, now: &Value) -> Planned {
        if now["ParameterValue"] == self.wanted {
            return Ok(vec![]);
        }
        let group = now["ParameterGroup"].as_str().unwrap_or_default();
        let Self { what, parameter, wanted, .. } = self;
        // No name that people give may have a full stop.
        if group.starts_with("default.") {
            return Err(NativeError::NotNow(format!(
                "the {what} uses a default parameter group, which nobody can change; make a group of its family with {parameter} \
                 at {wanted}, give it to the {what}, and reboot the {what} when that disturbs nobody"
            )));
        }
        if now["UsedBy"].as_array().is_some_and(|others| !others.is_empty()) {
            return Err(NativeError::NotNow(format!(
                "other {what}s use the parameter group, too, and would refuse clients without TLS; give the {what} a group of \
                 its own, or set {parameter} by hand when all of them may"
            )));
        }
        Ok(vec![(self.modify, json!({ self.group: group, "Parameters": self.written(now, Some(self.wanted)) }))])
    }

    /// What somebody had set is set again; what was the engine's own value goes back to being that.
    fn undo(&self, before: &Value) -> Planned {
        let own = before["ParameterValue"].as_str().filter(|_| before["Source"] == "user");
        let mut input = json!({ self.group: before["ParameterGroup"], "Parameters": self.written(before, own) });
        if own.is_some() {
            return Ok(vec![(self.modify, input)]);
        }
        input["ResetAllParameters"] = json!(false);
        Ok(vec![(self.reset, input)])
    }
}

/// `PostgreSQL` refuses clients without TLS.
pub(super) static POSTGRES_TLS: Setting = Setting {
    name: "rds_postgres_tls",
    missing: &[],
    changes: &[&MODIFY_GROUP, &RESET_GROUP],
    next: |subject, answers| POSTGRES.next(subject, answers),
    state: |subject, answers| POSTGRES.state(subject, answers),
    fix: |_, now| {
        if now["Engine"] != "postgres" || now["DBClusterIdentifier"].is_string() {
            return Err(NativeError::Refused(
                "this is no PostgreSQL database of its own, so its parameter group does not decide; suppress the finding",
            ));
        }
        POSTGRES.fix(now)
    },
    undo: |_, _, before| POSTGRES.undo(before),
};

/// A cluster of Redshift refuses clients without TLS.
pub(super) static REDSHIFT_TLS: Setting = Setting {
    name: "redshift_tls",
    missing: &[],
    changes: &[&MODIFY_CLUSTER_GROUP, &RESET_CLUSTER_GROUP],
    next: |subject, answers| WAREHOUSE.next(subject, answers),
    state: |subject, answers| WAREHOUSE.state(subject, answers),
    fix: |_, now| WAREHOUSE.fix(now),
    undo: |_, _, before| WAREHOUSE.undo(before),
};
