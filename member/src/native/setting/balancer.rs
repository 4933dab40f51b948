//! Load balancers: where they log, and what they do with plain HTTP.

use serde_json::{Value, json};

use super::super::NativeError;
use super::super::log_bucket::{BALANCER_PREFIX, LogBucket};
use super::{Ask, BESIDE, Setting, Subject, at, sdk};
use crate::wire::{Operation, Protocol, Service};

static ELB: Service = Service {
    name: "elb",
    signing: "elasticloadbalancing",
    host: "elasticloadbalancing",
    protocol: Protocol::Query { version: "2012-06-01", item: ".member" },
};
static ELBV2: Service = Service {
    name: "elbv2",
    signing: "elasticloadbalancing",
    host: "elasticloadbalancing",
    protocol: Protocol::Query { version: "2015-12-01", item: ".member" },
};
/// Elastic Load Balancing writes a file for a test, and says this when the bucket's policy does not let it in.
const NOT_LET_IN: &[&str] = &["InvalidConfigurationRequest"];
static CLASSIC_ATTRIBUTES: Operation = ELB.operation("DescribeLoadBalancerAttributes");
static MODIFY_CLASSIC: Operation = Operation { awaits: NOT_LET_IN, ..ELB.operation("ModifyLoadBalancerAttributes") };
static ATTRIBUTES: Operation = ELBV2.operation("DescribeLoadBalancerAttributes");
static MODIFY: Operation = Operation { awaits: NOT_LET_IN, ..ELBV2.operation("ModifyLoadBalancerAttributes") };
static LISTENERS: Operation = ELBV2.operation("DescribeListeners");
static MODIFY_LISTENER: Operation = ELBV2.operation("ModifyListener");

/// The API of 2012 has classic load balancers, known by their names alone.
fn is_classic(subject: &Subject) -> bool {
    subject.arn.resource().matches('/').count() == 1
}

fn log_bucket(subject: &Subject) -> LogBucket {
    let partition = subject.arn.partition().to_string();
    LogBucket::access_logs(&subject.account(), subject.region.as_str(), &partition)
}

/// Requests are logged, to the bucket that access to buckets is logged to. One that logs, wherever to, is left alone.
pub(super) static ACCESS_LOGS: Setting = Setting {
    name: "load_balancer_logs",
    missing: &["LoadBalancerNotFound"],
    changes: &[&sdk::CREATE_BUCKET, &sdk::PUT_BUCKET_POLICY, &MODIFY, &MODIFY_CLASSIC],
    next: |subject, answers| match answers {
        [] if is_classic(subject) => Some(Ask::of(&CLASSIC_ATTRIBUTES, json!({ "LoadBalancerName": subject.name }))),
        [] => Some(Ask::of(&ATTRIBUTES, json!({ "LoadBalancerArn": subject.arn.to_string() }))),
        [attributes] if !is_on(&logs(subject, attributes)) => {
            Some(sdk::ask_for(&log_bucket(subject), &subject.account()))
        }
        _ => None,
    },
    state: |subject, answers| {
        let logs = logs(subject, answers.first()?);
        let found = answers.get(1).cloned().unwrap_or_default();
        Some(json!({ "AccessLogs": logs, BESIDE: { "Bucket": found } }))
    },
    fix: |subject, now| {
        if is_on(&now["AccessLogs"]) {
            return Ok(vec![]);
        }
        if !is_classic(subject) && !subject.arn.resource().starts_with("loadbalancer/app/") {
            return Err(NativeError::Refused(
                "only an Application or a Classic Load Balancer logs its requests to the bucket; suppress the finding",
            ));
        }
        let bucket = log_bucket(subject);
        let mut calls = sdk::ready(&bucket, at(now, "/Beside/Bucket"), &bucket.for_balancers())?;
        let mut logs = json!({ "Enabled": "true", "S3BucketName": bucket.name, "S3BucketPrefix": BALANCER_PREFIX });
        if is_classic(subject) {
            logs["EmitInterval"] = json!("60");
        }
        calls.push(logged(subject, &logs));
        Ok(calls)
    },
    undo: |subject, _, before| Ok(vec![logged(subject, &before["AccessLogs"])]),
};

fn is_on(logs: &Value) -> bool {
    logs["Enabled"] == "true"
}

/// What an answer says of access logs, in the words of the older API. Where they are off, our own bucket is what an undo
/// of ours left behind: AWS takes no empty name.
fn logs(subject: &Subject, answer: &Value) -> Value {
    let mut logs = json!({ "Enabled": "false" });
    if is_classic(subject) {
        for (name, value) in at(answer, "/LoadBalancerAttributes/AccessLog").as_object().into_iter().flatten() {
            logs[name] = value.clone();
        }
    } else {
        let attributes = at(answer, "/Attributes").as_array();
        for attribute in attributes.into_iter().flatten() {
            let name = NAMES.iter().find(|(_, key)| attribute["Key"] == *key);
            if let Some((name, _)) = name {
                logs[*name] = attribute["Value"].clone();
            }
        }
    }
    let bucket = logs["S3BucketName"].as_str().unwrap_or_default();
    if !is_on(&logs) && (bucket.is_empty() || bucket == log_bucket(subject).name) {
        return json!({ "Enabled": "false" });
    }
    if let Some(map) = logs.as_object_mut() {
        map.retain(|_, value| value.as_str().is_some_and(|text| !text.is_empty()));
    }
    logs
}

const NAMES: [(&str, &str); 3] = [
    ("Enabled", "access_logs.s3.enabled"),
    ("S3BucketName", "access_logs.s3.bucket"),
    ("S3BucketPrefix", "access_logs.s3.prefix"),
];

fn logged(subject: &Subject, logs: &Value) -> (&'static Operation, Value) {
    if is_classic(subject) {
        let input = json!({ "LoadBalancerName": subject.name, "LoadBalancerAttributes": { "AccessLog": logs } });
        return (&MODIFY_CLASSIC, input);
    }
    // A prefix that was ours is taken away.
    let value = |name: &str| match (&logs[name], name, &logs["S3BucketName"]) {
        (Value::Null, "S3BucketPrefix", Value::String(_)) => json!(""),
        (value, ..) => value.clone(),
    };
    let attributes: Vec<Value> = NAMES
        .iter()
        .map(|(name, key)| json!({ "Key": key, "Value": value(name) }))
        .filter(|attribute| !attribute["Value"].is_null())
        .collect();
    (&MODIFY, json!({ "LoadBalancerArn": subject.arn.to_string(), "Attributes": attributes }))
}

/// Plain HTTP is sent on to HTTPS, where HTTPS is served. Only what a listener does by default is replaced: its rules,
/// and every other listener, stay.
pub(super) static LISTENER_REDIRECT: Setting = Setting {
    name: "listener_redirect",
    missing: &["LoadBalancerNotFound"],
    changes: &[&MODIFY_LISTENER],
    next: |subject, answers| {
        let mut input = json!({ "LoadBalancerArn": subject.arn.to_string() });
        if let Some(last) = answers.last() {
            input["Marker"] = json!(last["NextMarker"].as_str()?);
        }
        Some(Ask::of(&LISTENERS, input))
    },
    state: |_, answers| {
        let all: Vec<&Value> =
            answers.iter().flat_map(|answer| at(answer, "/Listeners").as_array().into_iter().flatten()).collect();
        let of = |protocol: &'static str| all.iter().filter(move |listener| listener["Protocol"] == protocol);
        let mut secure: Vec<u64> = of("HTTPS").filter_map(|listener| listener["Port"].as_str()?.parse().ok()).collect();
        secure.sort_unstable();
        let mut plain: Vec<Value> = of("HTTP")
            .map(|listener| {
                let actions = without_nothing(&listener["DefaultActions"]);
                json!({ "ListenerArn": listener["ListenerArn"], "Port": listener["Port"], "DefaultActions": actions })
            })
            .collect();
        plain.sort_by_key(|listener| listener["ListenerArn"].to_string());
        Some(json!({ "HttpsPorts": secure, "HttpListeners": plain }))
    },
    fix: |_, now| {
        let open: Vec<&Value> = listeners(now).filter(|listener| !redirects(listener)).collect();
        if open.is_empty() {
            return Ok(vec![]);
        }
        let ports: Vec<u64> =
            at(now, "/HttpsPorts").as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        let Some(port) = ports.iter().find(|port| **port == 443).or(ports.first()) else {
            return Err(NativeError::Refused(
                "the load balancer serves no HTTPS, so there is nothing to redirect to; nothing was changed. 1. Get a \
                 certificate for its names from AWS Certificate Manager. 2. Add an HTTPS listener with it, and let port \
                 443 in by the security group. 3. When it serves, remediate again",
            ));
        };
        let redirect = json!([{ "Type": "redirect", "RedirectConfig": {
            "Protocol": "HTTPS", "Port": port.to_string(), "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}",
            "StatusCode": "HTTP_301" } }]);
        Ok(open.into_iter().map(|listener| does(listener, &redirect)).collect())
    },
    undo: |_, now, before| {
        let changed = |listener: &&Value| !listeners(now).any(|there| there == *listener);
        Ok(listeners(before).filter(changed).map(|listener| does(listener, &listener["DefaultActions"])).collect())
    },
};

fn listeners(state: &Value) -> impl Iterator<Item = &Value> {
    at(state, "/HttpListeners").as_array().into_iter().flatten()
}

/// Whether every request that no rule takes is sent on to HTTPS.
fn redirects(listener: &Value) -> bool {
    let actions = listener["DefaultActions"].as_array();
    actions.is_some_and(|actions| {
        actions.iter().any(|one| one["Type"] == "redirect" && at(one, "/RedirectConfig/Protocol") == "HTTPS")
    })
}

fn does(listener: &Value, actions: &Value) -> (&'static Operation, Value) {
    (&MODIFY_LISTENER, json!({ "ListenerArn": listener["ListenerArn"], "DefaultActions": actions }))
}

/// Without what is empty: a form has no way to say it.
fn without_nothing(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_nothing).collect(),
        Value::Object(map) => {
            let full = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(full.map(|(name, value)| (name.clone(), without_nothing(value))).collect())
        }
        other => other.clone(),
    }
}
