//! Auto Scaling groups.

use serde_json::{Value, json};

use super::{Ask, Setting, Subject, at};
use crate::wire::{Operation, Protocol, Service};

static AUTOSCALING: Service = Service {
    name: "autoscaling",
    signing: "autoscaling",
    host: "autoscaling",
    protocol: Protocol::Query { version: "2011-01-01", item: ".member" },
};
static DESCRIBE_GROUPS: Operation = AUTOSCALING.operation("DescribeAutoScalingGroups");
static UPDATE_GROUP: Operation = AUTOSCALING.operation("UpdateAutoScalingGroup");

/// `<id>:autoScalingGroupName/<name>`.
fn name(subject: &Subject) -> &str {
    subject.name.split_once("autoScalingGroupName/").map_or(subject.name.as_str(), |(_, name)| name)
}

fn balanced(group: &Value) -> bool {
    let some = |list: &str| group[list].as_array().is_some_and(|items| !items.is_empty());
    some("LoadBalancerNames") || some("TargetGroupARNs") || some("TrafficSources")
}

fn checks_balancer(kinds: &str) -> bool {
    kinds.split(',').any(|kind| kind == "ELB")
}

fn updated(subject: &Subject, kind: &str, grace: i64) -> (&'static Operation, Value) {
    let input = json!({
        "AutoScalingGroupName": name(subject), "HealthCheckType": kind, "HealthCheckGracePeriod": grace });
    (&UPDATE_GROUP, input)
}

/// Groups behind a load balancer replace what the load balancer finds unhealthy. A group without one is left alone.
pub(super) static GROUP_HEALTH_CHECK: Setting = Setting {
    name: "group_health_check",
    missing: &[],
    changes: &[&UPDATE_GROUP],
    next: |subject, answers| Ask::once(answers, &DESCRIBE_GROUPS, json!({ "AutoScalingGroupNames": [name(subject)] })),
    state: |_, answers| {
        let group = answers.first()?.pointer("/AutoScalingGroups/0")?;
        Some(json!({
            "Balanced": balanced(group),
            "HealthCheckType": group["HealthCheckType"],
            "HealthCheckGracePeriod": at(group, "/HealthCheckGracePeriod"),
        }))
    },
    fix: |subject, now| {
        let kinds = now["HealthCheckType"].as_str().unwrap_or("EC2");
        if now["Balanced"] == false || checks_balancer(kinds) {
            return Ok(vec![]);
        }
        // EC2's own check always takes place; others that are there are kept.
        let others = kinds.split(',').filter(|kind| *kind != "EC2");
        let kinds = ["ELB"].into_iter().chain(others).collect::<Vec<_>>().join(",");
        let grace = super::number(&now["HealthCheckGracePeriod"]).unwrap_or_default();
        Ok(vec![updated(subject, &kinds, grace.max(subject.number("GracePeriod")?))])
    },
    undo: |subject, _, before| {
        let kinds = before["HealthCheckType"].as_str().unwrap_or("EC2");
        let grace = super::number(&before["HealthCheckGracePeriod"]).unwrap_or_default();
        Ok(vec![updated(subject, kinds, grace)])
    },
};
