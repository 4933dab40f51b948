//! What instances may do in the name of their profile.

use serde_json::{Value, json};

use super::{Ask, EC2, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static DESCRIBE_INSTANCES: Operation = EC2.operation("DescribeInstances");
static DESCRIBE_ASSOCIATIONS: Operation = EC2.operation("DescribeIamInstanceProfileAssociations");
static ASSOCIATE: Operation = EC2.operation("AssociateIamInstanceProfile");
static DISASSOCIATE: Operation = EC2.operation("DisassociateIamInstanceProfile");

static IAM: Service = Service::of("iam", Protocol::Query { version: "2010-05-08", item: ".member" });
static GET_PROFILE: Operation = IAM.operation("GetInstanceProfile");
static LIST_ATTACHED: Operation = IAM.operation("ListAttachedRolePolicies");
static ATTACH: Operation = IAM.operation("AttachRolePolicy");
static DETACH: Operation = IAM.operation("DetachRolePolicy");

/// The managed policy that lets an instance register with Systems Manager.
const POLICY: &str = "AmazonSSMManagedInstanceCore";

fn policy(subject: &Subject) -> String {
    format!("arn:{}:iam::aws:policy/{POLICY}", subject.arn.partition())
}

/// A role and the policy, for IAM.
fn of_role(subject: &Subject, role: &Value) -> Value {
    json!({ "RoleName": role, "PolicyArn": policy(subject) })
}

/// The association that is, or is about to be.
fn association(answer: &Value) -> &Value {
    let all = at(answer, "/iamInstanceProfileAssociationSet").as_array().into_iter().flatten();
    let mut there = all.filter(|one| one["state"].as_str().is_some_and(|state| state.starts_with("associat")));
    there.next().unwrap_or(&Value::Null)
}

fn profile_name(association: &Value) -> Option<&str> {
    at(association, "/iamInstanceProfile/arn").as_str()?.rsplit('/').next()
}

/// Instances may register with Systems Manager: by a policy of the role that they have, or, where they have no profile, by the
/// profile of the member's stack. A profile is never replaced.
pub(super) static INSTANCE_MANAGEMENT: Setting = Setting {
    name: "instance_management",
    missing: &["InvalidInstanceID.NotFound"],
    changes: &[&ASSOCIATE, &ATTACH, &DETACH, &DISASSOCIATE],
    next: |subject, answers| match answers {
        [] => Some(Ask::of(&DESCRIBE_INSTANCES, json!({ "InstanceId": [subject.name] }))),
        [_] => {
            let of_it = json!([{ "Name": "instance-id", "Value": [subject.name] }]);
            Some(Ask::of(&DESCRIBE_ASSOCIATIONS, json!({ "Filter": of_it })))
        }
        [_, associations] => {
            let name = profile_name(association(associations))?;
            Some(Ask::of(&GET_PROFILE, json!({ "InstanceProfileName": name })))
        }
        [_, _, profile, pages @ ..] => {
            let mut input = json!({ "RoleName": at(profile, "/InstanceProfile/Roles/0/RoleName").as_str()? });
            if let Some(page) = pages.last() {
                input["Marker"] = at(page, "/Marker").as_str()?.into();
            }
            Some(Ask::of(&LIST_ATTACHED, input))
        }
    },
    state: |subject, answers| {
        let [instances, associations, rest @ ..] = answers else { return None };
        let instance = at(instances, "/reservationSet/0/instancesSet/0");
        let running = at(instance, "/instanceState/name");
        if instance.is_null() || running == "terminated" {
            return None;
        }
        let association = association(associations);
        let pages = rest.get(1..).unwrap_or_default();
        let mut held = pages.iter().flat_map(|page| at(page, "/AttachedPolicies").as_array().into_iter().flatten());
        Some(json!({
            "Profile": at(association, "/iamInstanceProfile/arn"),
            // Only what was made can be taken away, and only by its id.
            "AssociationId": association["associationId"],
            "Role": rest.first().map_or(&Value::Null, |profile| at(profile, "/InstanceProfile/Roles/0/RoleName")),
            "HasPolicy": held.any(|one| one["PolicyArn"] == policy(subject)),
        }))
    },
    fix: |subject, now| {
        if now["HasPolicy"] == true {
            return Ok(vec![]);
        }
        if now["Profile"].is_null() {
            let input = json!({
                "InstanceId": subject.name, "IamInstanceProfile": { "Name": subject.text("InstanceProfileName")? } });
            return Ok(vec![(&ASSOCIATE, input)]);
        }
        if now["Role"].is_null() {
            return Err(NativeError::Refused(
                "the instance's profile has no role; give it one with AmazonSSMManagedInstanceCore",
            ));
        }
        Ok(vec![(&ATTACH, of_role(subject, &now["Role"]))])
    },
    undo: |subject, now, before| -> Planned {
        if before["Profile"].is_null() && !now["AssociationId"].is_null() {
            return Ok(vec![(&DISASSOCIATE, json!({ "AssociationId": now["AssociationId"] }))]);
        }
        let attached = now["HasPolicy"] == true && before["HasPolicy"] == false;
        Ok(attached.then(|| (&DETACH, of_role(subject, &now["Role"]))).into_iter().collect())
    },
};
