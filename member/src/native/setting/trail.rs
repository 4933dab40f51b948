//! Trails of `CloudTrail`.

use serde_json::{Value, json};

use super::super::NativeError;
use super::super::log_bucket::LogBucket;
use super::super::policy_text::{Policy, allows, texts};
use super::super::resource_policy::fits;
use super::logging::{CREATE_LOG_GROUP, DESCRIBE_LOG_GROUPS, PUT_RETENTION, group, log_group_arn};
use super::{Ask, BESIDE, Planned, Setting, Subject, at, sdk};
use crate::wire::{Operation, Protocol, Service};

static CLOUDTRAIL: Service = Service::of(
    "cloudtrail",
    Protocol::Json { target: "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101", version: "1.1" },
);
static GET_TRAIL: Operation = CLOUDTRAIL.operation("GetTrail");
/// The log group may be new.
static UPDATE_TRAIL: Operation =
    Operation { awaits: &["InvalidCloudWatchLogsLogGroupArnException"], ..CLOUDTRAIL.operation("UpdateTrail") };
static DESCRIBE_TRAILS: Operation = CLOUDTRAIL.operation("DescribeTrails");
static STATUS: Operation = CLOUDTRAIL.operation("GetTrailStatus");
static SELECTORS: Operation = CLOUDTRAIL.operation("GetEventSelectors");
/// The bucket's policy may be new.
static CREATE_TRAIL: Operation =
    Operation { awaits: &["InsufficientS3BucketPolicyException"], ..CLOUDTRAIL.operation("CreateTrail") };
static START: Operation = CLOUDTRAIL.operation("StartLogging");
static STOP: Operation = CLOUDTRAIL.operation("StopLogging");
static DELETE_TRAIL: Operation = CLOUDTRAIL.operation("DeleteTrail");

static KMS: Service = Service::of("kms", Protocol::Json { target: "TrentService", version: "1.1" });
pub(super) static DESCRIBE_KEY: Operation = KMS.operation("DescribeKey");
static KEY_POLICY: Operation = KMS.operation("GetKeyPolicy");

/// Log files are encrypted with a key of the account. A trail that has one keeps it.
pub(super) static TRAIL_ENCRYPTION: Setting = Setting {
    name: "trail_encryption",
    missing: &["TrailNotFoundException"],
    changes: &[&UPDATE_TRAIL],
    next: |subject, answers| Ask::once(answers, &GET_TRAIL, json!({ "Name": subject.arn.to_string() })),
    state: |_, answers| Some(json!({ "KmsKeyId": answers.first()?.pointer("/Trail")?["KmsKeyId"] })),
    fix: |subject, now| {
        if now["KmsKeyId"].as_str().is_some_and(|key| !key.is_empty()) {
            return Ok(vec![]);
        }
        let key = subject.text("KmsKeyId")?;
        Ok(vec![(&UPDATE_TRAIL, json!({ "Name": subject.arn.to_string(), "KmsKeyId": key }))])
    },
    // An empty key takes the encryption away.
    undo: |subject, _, before| {
        let key = before["KmsKeyId"].as_str().unwrap_or_default();
        Ok(vec![(&UPDATE_TRAIL, json!({ "Name": subject.arn.to_string(), "KmsKeyId": key }))])
    },
};

/// A trail sends its events to CloudWatch Logs. One that does, wherever to, is left alone. The log group stays when it is
/// undone: what was logged is not thrown away.
pub(super) static TRAIL_LOG_GROUP: Setting = Setting {
    name: "trail_log_group",
    missing: &["TrailNotFoundException"],
    changes: &[&CREATE_LOG_GROUP, &PUT_RETENTION, &UPDATE_TRAIL],
    next: |subject, answers| match answers {
        [] => Some(Ask::of(&GET_TRAIL, json!({ "Name": subject.arn.to_string() }))),
        [trail] if !is_set(&trail["Trail"][LOG_GROUP]) => {
            Some(Ask::of(&DESCRIBE_LOG_GROUPS, json!({ "logGroupNamePrefix": trail_group(subject) })))
        }
        _ => None,
    },
    state: |subject, answers| {
        let trail = answers.first()?.pointer("/Trail")?;
        let groups = answers.get(1).unwrap_or(&Value::Null);
        let there = group(groups, &trail_group(subject)).is_some();
        Some(json!({
            LOG_GROUP: trail[LOG_GROUP],
            ROLE: trail[ROLE],
            BESIDE: { "HomeRegion": trail["HomeRegion"], "LogGroup": there },
        }))
    },
    fix: trail_log_group,
    // Empty ones take the log group away.
    undo: |subject, _, before| {
        let text = |name: &str| before[name].as_str().unwrap_or_default();
        let input = json!({ "Name": subject.arn.to_string(), LOG_GROUP: text(LOG_GROUP), ROLE: text(ROLE) });
        Ok(vec![(&UPDATE_TRAIL, input)])
    },
};

const LOG_GROUP: &str = "CloudWatchLogsLogGroupArn";
const ROLE: &str = "CloudWatchLogsRoleArn";

fn is_set(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn trail_group(subject: &Subject) -> String {
    format!("/redress/cloudtrail/{}", subject.name)
}

fn trail_log_group(subject: &Subject, now: &Value) -> Planned {
    if is_set(&now[LOG_GROUP]) {
        return Ok(vec![]);
    }
    if let Some(home) = at(now, "/Beside/HomeRegion").as_str().filter(|home| *home != subject.region.as_str()) {
        return Err(NativeError::NotNow(format!(
            "the trail is at home in {home} and can be changed only there; nothing was changed. Remediate its finding of \
             {home}"
        )));
    }
    let group = trail_group(subject);
    let mut calls = Vec::new();
    if at(now, "/Beside/LogGroup") != &json!(true) {
        let days = subject.number("RetentionInDays")?;
        calls.push((&CREATE_LOG_GROUP, json!({ "logGroupName": group })));
        calls.push((&PUT_RETENTION, json!({ "logGroupName": group, "retentionInDays": days })));
    }
    let input = json!({
        "Name": subject.arn.to_string(),
        LOG_GROUP: log_group_arn(subject, &group),
        ROLE: subject.role()?,
    });
    calls.push((&UPDATE_TRAIL, input));
    Ok(calls)
}

/// The trail that is made.
const OWN: &str = "redress-management-events";

/// The account's management events are logged, of all Regions or (`AnyTrail`) by some trail. Where the organisation's trail
/// or another of all Regions does it, nothing is made. One that only stands still is started.
pub(super) static ACCOUNT_TRAIL: Setting = Setting {
    name: "account_trail",
    missing: &[],
    changes: &[&sdk::CREATE_BUCKET, &sdk::PUT_BUCKET_POLICY, &CREATE_TRAIL, &START, &STOP, &DELETE_TRAIL],
    next: |subject, answers| {
        let Some((list, rest)) = answers.split_first() else {
            return Some(Ask::of(&DESCRIBE_TRAILS, json!({ "includeShadowTrails": true })));
        };
        let trails = trails(list);
        let gone = Some(("TrailNotFoundException", ""));
        if let Some(trail) = trails.get(rest.len()) {
            return Some(Ask { operation: &STATUS, input: json!({ "Name": trail["TrailARN"] }), none: gone });
        }
        let choosing = choosing(&trails);
        if let Some(trail) = choosing.get(rest.len() - trails.len()) {
            return Some(Ask { operation: &SELECTORS, input: json!({ "TrailName": trail["TrailARN"] }), none: gone });
        }
        if is_covered(subject, &seen(list, rest)) {
            return None;
        }
        match &rest[trails.len() + choosing.len()..] {
            [] => Some(sdk::ask_for(&bucket(subject), &subject.account())),
            [_] => {
                let input = json!({ "KeyId": subject.text("KmsKeyId").unwrap_or_default() });
                Some(Ask { operation: &DESCRIBE_KEY, input, none: Some(("NotFoundException", "")) })
            }
            [_, key] => {
                let id = at(key, "/KeyMetadata/KeyId").as_str()?;
                Some(Ask::of(&KEY_POLICY, json!({ "KeyId": id, "PolicyName": "default" })))
            }
            _ => None,
        }
    },
    state: |_, answers| {
        let (list, rest) = answers.split_first()?;
        let trails = trails(list);
        let beside = rest.get(trails.len() + choosing(&trails).len()..).unwrap_or_default();
        let part = |at: usize| beside.get(at).cloned().unwrap_or_default();
        Some(json!({
            "Trails": seen(list, rest),
            BESIDE: { "Bucket": part(0), "Key": part(1)["KeyMetadata"], "KeyPolicy": part(2)["Policy"] },
        }))
    },
    fix: account_trail,
    undo: |subject, now, before| {
        let all = |state: &Value| at(state, "/Trails").as_array().cloned().unwrap_or_default();
        let (before, own) = (all(before), own_arn(subject));
        let mut calls = Vec::new();
        let mut left = Vec::new();
        for mut trail in all(now) {
            let was = before.iter().find(|one| one["TrailARN"] == trail["TrailARN"]);
            let name = json!({ "Name": trail["TrailARN"] });
            if was.is_none() && trail["TrailARN"] == json!(own) {
                calls.extend([(&STOP, name.clone()), (&DELETE_TRAIL, name)]);
                continue;
            }
            if trail["IsLogging"] == true && was.is_some_and(|was| was["IsLogging"] == false) {
                calls.push((&STOP, name));
                trail["IsLogging"] = json!(false);
            }
            left.push(trail);
        }
        if left == before { Ok(calls) } else { Err(CHANGED) }
    },
};

const CHANGED: NativeError = NativeError::Refused(
    "another trail than the one that Redress made or started is not as it was; nothing was changed. Compare the trails \
     with the pre-image, and stop or delete by hand what should go",
);

/// Sorted by ARN.
fn trails(list: &Value) -> Vec<&Value> {
    let mut trails: Vec<&Value> = at(list, "/trailList").as_array().into_iter().flatten().collect();
    trails.sort_by_key(|trail| trail["TrailARN"].to_string());
    trails
}

/// Those that log some events only, or more.
fn choosing<'a>(trails: &[&'a Value]) -> Vec<&'a Value> {
    trails.iter().copied().filter(|trail| trail["HasCustomEventSelectors"] == true).collect()
}

/// What matters of each trail.
fn seen(list: &Value, rest: &[Value]) -> Value {
    let trails = trails(list);
    let choosing = choosing(&trails);
    let one = |(nth, trail): (usize, &&Value)| {
        let chosen = choosing.iter().position(|one| one == trail).and_then(|at| rest.get(trails.len() + at));
        json!({
            "TrailARN": trail["TrailARN"],
            "HomeRegion": trail["HomeRegion"],
            "IsMultiRegionTrail": trail["IsMultiRegionTrail"] == true,
            "IsOrganizationTrail": trail["IsOrganizationTrail"] == true,
            "IsLogging": rest.get(nth).is_some_and(|status| status["IsLogging"] == true),
            "LogsAllManagementEvents": chosen.is_none_or(logs_all_management_events),
        })
    };
    trails.iter().enumerate().map(one).collect()
}

/// Whether selectors let every management event through, read or write. An organisation may keep them to itself.
fn logs_all_management_events(answer: &Value) -> bool {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let whole = list("EventSelectors").iter().any(|one| {
        one["IncludeManagementEvents"] != false
            && one["ReadWriteType"].as_str().is_none_or(|kind| kind == "All")
            && one["ExcludeManagementEventSources"].as_array().is_none_or(Vec::is_empty)
    });
    let advanced = list("AdvancedEventSelectors").iter().any(|one| {
        let fields = one["FieldSelectors"].as_array().map(Vec::as_slice);
        matches!(fields, Some([only]) if only["Field"] == "eventCategory" && only["Equals"] == json!(["Management"]))
    });
    answer.is_null() || whole || advanced
}

fn is_covered(subject: &Subject, trails: &Value) -> bool {
    let any = subject.text("Coverage").is_ok_and(|coverage| coverage == "AnyTrail");
    let covers = |trail: &Value| {
        trail["IsLogging"] == true
            && (any || (trail["IsMultiRegionTrail"] == true && trail["LogsAllManagementEvents"] == true))
    };
    trails.as_array().into_iter().flatten().any(covers)
}

fn bucket(subject: &Subject) -> LogBucket {
    let partition = subject.arn.partition().to_string();
    LogBucket::trail(&subject.account(), subject.region.as_str(), &partition)
}

fn own_arn(subject: &Subject) -> String {
    let (partition, account) = (subject.arn.partition(), subject.account());
    format!("arn:{partition}:cloudtrail:{}:{account}:trail/{OWN}", subject.region)
}

fn account_trail(subject: &Subject, now: &Value) -> Planned {
    if is_covered(subject, &now["Trails"]) {
        return Ok(vec![]);
    }
    let own = own_arn(subject);
    for trail in at(now, "/Trails").as_array().into_iter().flatten() {
        let arn = trail["TrailARN"].as_str().unwrap_or_default();
        let home = trail["HomeRegion"].as_str().unwrap_or_default();
        let stands = trail["IsMultiRegionTrail"] == true
            && trail["LogsAllManagementEvents"] == true
            && trail["IsLogging"] == false;
        if stands && arn.split(':').nth(4) != Some(subject.account().as_str()) {
            return Err(NativeError::NotNow(format!(
                "the organisation's trail `{arn}` covers this account, and stands still; no second one is made. Find out \
                 why, and start it in its own account"
            )));
        }
        if stands && home != subject.region.as_str() {
            return Err(NativeError::NotNow(format!(
                "trail `{arn}` is of all Regions, and stands still; no second one is made. Find out why, and start it in \
                 {home}"
            )));
        }
        if stands {
            return Ok(vec![(&START, json!({ "Name": arn }))]);
        }
        if arn.rsplit('/').next() == Some(OWN) {
            return Err(NativeError::NotNow(format!(
                "there is a trail `{OWN}` already, and it does not log all management events of all Regions; it is not \
                 written over. Repair or remove it, then remediate again"
            )));
        }
    }
    let bucket = bucket(subject);
    let mut calls = sdk::ready(&bucket, at(now, "/Beside/Bucket"), &bucket.for_trail(&own))?;
    let mut create = json!({
        "Name": OWN,
        "S3BucketName": bucket.name,
        "IsMultiRegionTrail": true,
        "IncludeGlobalServiceEvents": true,
        "EnableLogFileValidation": true,
    });
    if let Some(key) = usable_key(at(now, "/Beside"), &own) {
        create["KmsKeyId"] = json!(key);
    }
    calls.extend([(&CREATE_TRAIL, create), (&START, json!({ "Name": own }))]);
    Ok(calls)
}

/// The key, when it is there and lets CloudTrail encrypt for this trail: with another, no trail could be made.
fn usable_key<'a>(beside: &'a Value, trail: &str) -> Option<&'a str> {
    let key = at(beside, "/Key");
    if key["KeyState"].as_str().is_some_and(|state| state != "Enabled") {
        return None;
    }
    let policy = Policy::parse(at(beside, "/KeyPolicy").as_str()?).ok()?;
    let lets_in = |one: &Value| {
        let conditions = one["Condition"].as_object().into_iter().flatten();
        let sources = conditions.map(|(_, keys)| texts(&keys["aws:SourceArn"])).filter(|sources| !sources.is_empty());
        allows(one)
            && texts(&one["Principal"]["Service"]).contains(&"cloudtrail.amazonaws.com")
            && texts(&one["Action"]).iter().any(|action| fits(action, "kms:GenerateDataKey"))
            && sources.into_iter().all(|sources| sources.iter().any(|source| fits(source, trail)))
    };
    if policy.statements().any(|one| lets_in(&one)) { key["Arn"].as_str() } else { None }
}
