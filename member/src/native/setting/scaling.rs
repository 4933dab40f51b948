//! Auto Scaling groups, and the launch configurations that they launch instances by.

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static AUTOSCALING: Service = Service::of("autoscaling", Protocol::Query { version: "2011-01-01", item: ".member" });
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

static DESCRIBE_CONFIGURATIONS: Operation = AUTOSCALING.operation("DescribeLaunchConfigurations");
static CREATE_CONFIGURATION: Operation = AUTOSCALING.operation("CreateLaunchConfiguration");
static DELETE_CONFIGURATION: Operation = AUTOSCALING.operation("DeleteLaunchConfiguration");

/// What a launch configuration must say; it cannot be changed, so a copy that says it takes its place.
#[derive(Debug)]
struct Launch {
    /// What the copy's name ends in.
    suffix: &'static str,
    holds: fn(&Value) -> bool,
    /// Makes it hold.
    set: fn(&mut Value),
}

static TOKENS: Launch = Launch {
    suffix: "-redress-imdsv2",
    holds: |one| at(one, "/MetadataOptions/HttpTokens") == "required",
    set: |one| one["MetadataOptions"]["HttpTokens"] = json!("required"),
};
static NO_PUBLIC_ADDRESS: Launch = Launch {
    suffix: "-redress-private",
    holds: |one| one["AssociatePublicIpAddress"] != "true",
    set: |one| one["AssociatePublicIpAddress"] = json!("false"),
};

/// `<id>:launchConfigurationName/<name>`.
fn configuration(subject: &Subject) -> &str {
    subject.name.split_once("launchConfigurationName/").map_or(subject.name.as_str(), |(_, name)| name)
}

fn described(name: &str) -> Ask {
    Ask::of(&DESCRIBE_CONFIGURATIONS, json!({ "LaunchConfigurationNames": [name] }))
}

/// The configuration, the copy, and all groups: they are not listed by what they use.
fn launch_next(subject: &Subject, answers: &[Value], launch: &Launch) -> Option<Ask> {
    let copy = format!("{}{}", configuration(subject), launch.suffix);
    match answers {
        [] => Some(described(configuration(subject))),
        [_] => Some(described(&copy)),
        [_, _] => Some(Ask::of(&DESCRIBE_GROUPS, json!({}))),
        [.., page] => {
            let token = at(page, "/NextToken").as_str()?;
            Some(Ask::of(&DESCRIBE_GROUPS, json!({ "NextToken": token })))
        }
    }
}

/// As it is written. User data is left out: it may hold secrets, which nobody shall find in evidence or a plan.
fn kept(read: &Value) -> Value {
    match read {
        Value::Object(map) => {
            const OWN: [&str; 4] = ["CreatedTime", "LaunchConfigurationARN", "LaunchConfigurationName", "UserData"];
            let said = map.iter().filter(|(name, value)| !OWN.contains(&name.as_str()) && !value.is_null());
            said.map(|(name, value)| (name.clone(), kept(value))).collect()
        }
        Value::Array(list) => list.iter().map(kept).collect(),
        other => other.clone(),
    }
}

fn launch_state(subject: &Subject, answers: &[Value], launch: &Launch) -> Option<Value> {
    let [own, copy, pages @ ..] = answers else { return None };
    let own = own.pointer("/LaunchConfigurations/0")?;
    let copy = at(copy, "/LaunchConfigurations/0");
    let groups_of = |name: &str| -> Vec<&str> {
        let groups = pages.iter().flat_map(|page| at(page, "/AutoScalingGroups").as_array().into_iter().flatten());
        let mut names: Vec<&str> = groups
            .filter(|group| group["LaunchConfigurationName"] == name)
            .filter_map(|group| group["AutoScalingGroupName"].as_str())
            .collect();
        names.sort_unstable();
        names
    };
    Some(json!({
        "Configuration": kept(own),
        "HasUserData": !at(own, "/UserData").is_null(),
        "Copy": if copy.is_null() { Value::Null } else { kept(copy) },
        "Groups": groups_of(configuration(subject)),
        "GroupsOfCopy": groups_of(&format!("{}{}", configuration(subject), launch.suffix)),
    }))
}

fn groups(state: &Value, list: &str) -> Vec<String> {
    let names = state[list].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn moved(group: String, configuration: &str) -> (&'static Operation, Value) {
    (&UPDATE_GROUP, json!({ "AutoScalingGroupName": group, "LaunchConfigurationName": configuration }))
}

fn launch_fix(subject: &Subject, now: &Value, launch: &Launch) -> Planned {
    let users = groups(now, "Groups");
    if (launch.holds)(&now["Configuration"]) || users.is_empty() {
        return Ok(vec![]);
    }
    let name = format!("{}{}", configuration(subject), launch.suffix);
    if name.chars().count() > 255 {
        return Err(NativeError::Refused(
            "the launch configuration's name is too long for that of a copy; make one by hand",
        ));
    }
    let mut copy = now["Configuration"].clone();
    (launch.set)(&mut copy);
    let mut calls = vec![];
    if now["Copy"].is_null() {
        let mut input = copy;
        input["LaunchConfigurationName"] = json!(name);
        if now["HasUserData"] == true {
            input["UserData"] = json!("seen:/0/LaunchConfigurations/0/UserData");
        }
        calls.push((&CREATE_CONFIGURATION, input));
    } else if now["Copy"] != copy {
        return Err(NativeError::Refused(
            "there is a launch configuration with the name of the copy that is no copy; rename it, or move the groups by hand",
        ));
    }
    calls.extend(users.into_iter().map(|group| moved(group, &name)));
    Ok(calls)
}

fn launch_undo(subject: &Subject, now: &Value, before: &Value, launch: &Launch) -> Planned {
    let name = format!("{}{}", configuration(subject), launch.suffix);
    let mut users = groups(before, "Groups");
    users.retain(|group| !groups(now, "Groups").contains(group));
    let mut calls: Vec<_> = users.into_iter().map(|group| moved(group, configuration(subject))).collect();
    if before["Copy"].is_null() && !now["Copy"].is_null() {
        calls.push((&DELETE_CONFIGURATION, json!({ "LaunchConfigurationName": name })));
    }
    Ok(calls)
}

/// Groups launch instances that must use session tokens of the metadata service.
pub(super) static LAUNCH_TOKENS: Setting = Setting {
    name: "launch_tokens",
    missing: &[],
    changes: &[&CREATE_CONFIGURATION, &DELETE_CONFIGURATION, &UPDATE_GROUP],
    next: |subject, answers| launch_next(subject, answers, &TOKENS),
    state: |subject, answers| launch_state(subject, answers, &TOKENS),
    fix: |subject, now| launch_fix(subject, now, &TOKENS),
    undo: |subject, now, before| launch_undo(subject, now, before, &TOKENS),
};

/// Groups launch instances without public addresses.
pub(super) static LAUNCH_PUBLIC_ADDRESS: Setting = Setting {
    name: "launch_public_address",
    missing: &[],
    changes: &[&CREATE_CONFIGURATION, &DELETE_CONFIGURATION, &UPDATE_GROUP],
    next: |subject, answers| launch_next(subject, answers, &NO_PUBLIC_ADDRESS),
    state: |subject, answers| launch_state(subject, answers, &NO_PUBLIC_ADDRESS),
    fix: |subject, now| launch_fix(subject, now, &NO_PUBLIC_ADDRESS),
    undo: |subject, now, before| launch_undo(subject, now, before, &NO_PUBLIC_ADDRESS),
};
