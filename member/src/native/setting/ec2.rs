//! Snapshots that everybody may restore, and launch templates.

use serde_json::{Map, Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

pub(in crate::native) static EC2: Service = Service::of("ec2", Protocol::Query { version: "2016-11-15", item: "" });
static DESCRIBE_SNAPSHOTS: Operation = EC2.operation("DescribeSnapshots");
static MODIFY_SNAPSHOT: Operation = EC2.operation("ModifySnapshotAttribute");

/// The snapshot that the finding names; none when it is about the account.
fn snapshot(subject: &Subject) -> Option<&str> {
    subject.arn.resource().strip_prefix("snapshot/")
}

fn snapshots(answer: &Value) -> impl Iterator<Item = &str> {
    at(answer, "/snapshotSet").as_array().into_iter().flatten().filter_map(|snapshot| snapshot["snapshotId"].as_str())
}

fn shared(id: &str, how: &str) -> (&'static Operation, Value) {
    let input = json!({
        "SnapshotId": id, "Attribute": "createVolumePermission", "OperationType": how, "UserGroup": ["all"] });
    (&MODIFY_SNAPSHOT, input)
}

fn public(state: &Value) -> Vec<&str> {
    state["Public"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// No snapshot can be restored by everybody. Accounts that one is shared with by name keep it. When the finding names a
/// snapshot only that one is changed, when it names the account all public ones are.
pub(super) static PUBLIC_SNAPSHOTS: Setting = Setting {
    name: "ec2_public_snapshots",
    missing: &["InvalidSnapshot.NotFound"],
    changes: &[&MODIFY_SNAPSHOT],
    next: |subject, answers| {
        let mut input = json!({ "Owner": ["self"], "RestorableBy": ["all"] });
        match (snapshot(subject), answers) {
            // Told that there is no such snapshot, not that it is not public.
            (Some(id), []) => Some(Ask::of(&DESCRIBE_SNAPSHOTS, json!({ "SnapshotId": [id] }))),
            (Some(id), [_]) => {
                input["SnapshotId"] = json!([id]);
                Some(Ask::of(&DESCRIBE_SNAPSHOTS, input))
            }
            (Some(_), _) => None,
            (None, []) => Some(Ask::of(&DESCRIBE_SNAPSHOTS, input)),
            (None, [.., last]) => {
                input["NextToken"] = at(last, "/nextToken").as_str()?.into();
                Some(Ask::of(&DESCRIBE_SNAPSHOTS, input))
            }
        }
    },
    state: |subject, answers| {
        let pages = if snapshot(subject).is_some() { answers.get(1..)? } else { answers };
        let mut ids: Vec<&str> = pages.iter().flat_map(snapshots).collect();
        ids.retain(|id| snapshot(subject).is_none_or(|one| one == *id));
        ids.sort_unstable();
        Some(json!({ "Public": ids }))
    },
    fix: |_, now| Ok(public(now).into_iter().map(|id| shared(id, "remove")).collect()),
    undo: |_, now, before| {
        let now = public(now);
        Ok(public(before).into_iter().filter(|id| !now.contains(id)).map(|id| shared(id, "add")).collect())
    },
};

static GET_SNAPSHOT_SHARING: Operation = EC2.operation("GetSnapshotBlockPublicAccessState");
static ENABLE_BLOCK: Operation = EC2.operation("EnableSnapshotBlockPublicAccess");
static DISABLE_BLOCK: Operation = EC2.operation("DisableSnapshotBlockPublicAccess");
const BLOCKED: &str = "block-all-sharing";

/// Snapshots of the Region cannot be shared with everybody.
pub(super) static SNAPSHOT_SHARING: Setting = Setting {
    name: "ec2_snapshot_sharing",
    missing: &[],
    changes: &[&ENABLE_BLOCK, &DISABLE_BLOCK],
    next: |_, answers| Ask::once(answers, &GET_SNAPSHOT_SHARING, json!({})),
    state: |_, answers| Some(json!({ "State": answers.first()?["state"] })),
    fix: |_, now| Ok(if now["State"] == BLOCKED { vec![] } else { vec![(&ENABLE_BLOCK, json!({ "State": BLOCKED }))] }),
    undo: |_, _, before| {
        Ok(match before["State"].as_str() {
            Some(state) if state != "unblocked" => vec![(&ENABLE_BLOCK, json!({ "State": state }))],
            _ => vec![(&DISABLE_BLOCK, json!({}))],
        })
    },
};

static DESCRIBE_VERSIONS: Operation = EC2.operation("DescribeLaunchTemplateVersions");
static CREATE_VERSION: Operation = EC2.operation("CreateLaunchTemplateVersion");
static MODIFY_TEMPLATE: Operation = EC2.operation("ModifyLaunchTemplate");

fn default_version(subject: &Subject, answers: &[Value]) -> Option<Ask> {
    let input = json!({ "LaunchTemplateId": subject.name, "LaunchTemplateVersion": ["$Default"] });
    Ask::once(answers, &DESCRIBE_VERSIONS, input)
}

/// The default version: its number, and a part of what it launches.
fn version(answers: &[Value], part: &str) -> Option<Value> {
    let version = answers.first()?.pointer("/launchTemplateVersionSet/0")?;
    Some(json!({ "Version": version["versionNumber"], "Data": at(version, &format!("/launchTemplateData/{part}")) }))
}

/// A new version that differs from the default one in this, and becomes the default.
fn new_default(subject: &Subject, now: &Value, data: &Value) -> Vec<(&'static Operation, Value)> {
    let create = json!({
        "LaunchTemplateId": subject.name, "SourceVersion": now["Version"], "LaunchTemplateData": data });
    vec![(&CREATE_VERSION, create), set_default(subject, &json!("answer:/launchTemplateVersion/versionNumber"))]
}

fn set_default(subject: &Subject, version: &Value) -> (&'static Operation, Value) {
    (&MODIFY_TEMPLATE, json!({ "LaunchTemplateId": subject.name, "SetDefaultVersion": version }))
}

/// The version that was made stays: EC2 never gives its number again, and somebody may use it by now.
fn former_default(subject: &Subject, _: &Value, before: &Value) -> Planned {
    Ok(vec![set_default(subject, &before["Version"])])
}

/// Instances that are launched must use session tokens of the metadata service. Its other options are kept.
pub(super) static TEMPLATE_TOKENS: Setting = Setting {
    name: "ec2_template_tokens",
    missing: &["InvalidLaunchTemplateId.NotFound"],
    changes: &[&CREATE_VERSION, &MODIFY_TEMPLATE],
    next: default_version,
    state: |_, answers| version(answers, "metadataOptions"),
    fix: |subject, now| {
        if at(now, "/Data/httpTokens") == "required" {
            return Ok(vec![]);
        }
        let options = at(now, "/Data").as_object().into_iter().flatten().filter(|(name, _)| *name != "state");
        let mut options: Map<String, Value> = options.map(|(name, value)| (capital(name), value.clone())).collect();
        options.insert("HttpTokens".to_owned(), json!("required"));
        Ok(new_default(subject, now, &json!({ "MetadataOptions": options })))
    },
    undo: former_default,
};

/// Interfaces of instances that are launched get no public address. All else of them is kept.
pub(super) static TEMPLATE_PUBLIC_ADDRESS: Setting = Setting {
    name: "ec2_template_public_address",
    missing: &["InvalidLaunchTemplateId.NotFound"],
    changes: &[&CREATE_VERSION, &MODIFY_TEMPLATE],
    next: default_version,
    state: |_, answers| version(answers, "networkInterfaceSet"),
    fix: |subject, now| {
        let interfaces = at(now, "/Data").as_array().map(Vec::as_slice).unwrap_or_default();
        if !interfaces.iter().any(|interface| interface["associatePublicIpAddress"] == "true") {
            return Ok(vec![]);
        }
        let interfaces: Vec<Value> = interfaces.iter().map(interface).collect::<Result<_, _>>()?;
        Ok(new_default(subject, now, &json!({ "NetworkInterface": interfaces })))
    },
    undo: former_default,
};

/// Members of an interface that are read and written by the same name.
const PLAIN: [&str; 15] = [
    "associateCarrierIpAddress",
    "deleteOnTermination",
    "description",
    "deviceIndex",
    "interfaceType",
    "ipv4PrefixCount",
    "ipv6AddressCount",
    "ipv6PrefixCount",
    "networkCardIndex",
    "networkInterfaceId",
    "primaryIpv6",
    "privateIpAddress",
    "secondaryPrivateIpAddressCount",
    "subnetId",
    "enaQueueCount",
];

/// An interface as it is written, without a public address. A new version takes interfaces as a whole.
fn interface(read: &Value) -> Result<Value, NativeError> {
    let mut written = Map::new();
    for (name, value) in read.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let (name, value) = match name.as_str() {
            "associatePublicIpAddress" => ("AssociatePublicIpAddress".to_owned(), json!("false")),
            "groupSet" => ("SecurityGroupId".to_owned(), value.clone()),
            "ipv6AddressesSet" => ("Ipv6Addresses".to_owned(), capitals(value)),
            "privateIpAddressesSet" => ("PrivateIpAddresses".to_owned(), capitals(value)),
            "ipv4PrefixSet" => ("Ipv4Prefix".to_owned(), capitals(value)),
            "ipv6PrefixSet" => ("Ipv6Prefix".to_owned(), capitals(value)),
            plain if PLAIN.contains(&plain) => (capital(plain), value.clone()),
            _ => {
                return Err(NativeError::Refused(
                    "an interface of the template has an option that Redress does not know how to keep",
                ));
            }
        };
        written.insert(name, value);
    }
    Ok(Value::Object(written))
}

/// EC2 reads with a small first letter and is written to with a capital one.
fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn capitals(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(capitals).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| (capital(name), capitals(value))).collect(),
        other => other.clone(),
    }
}
