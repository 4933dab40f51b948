//! `contain_ec2_instance`: nothing reaches the instance any more, and it reaches nothing.
//!
//! Its network interfaces get one security group without a rule. A security group cuts no connection that it tracks, so each
//! interface is first put into a group that allows everything both ways, under which connections are not tracked; what is
//! not tracked ends with its rule. Isolation comes first and alone decides whether the instance is contained: snapshots are begun
//! beside it and hold nothing up ([`super::ec2_evidence`]). What follows protects the instance and takes evidence of it; where that
//! fails, it is told and the rest is done. Nothing is ever
//! terminated, stopped or deleted, and the instance keeps its volumes, addresses and profile.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use aws_sdk_ec2::types::{
    self, AttributeBooleanValue, Filter, HttpTokensState, InstanceAttributeName, InstanceMetadataEndpointState,
    IpPermission, IpRange, Ipv6Range, SecurityGroup,
};
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest};
use redress_common::custody::Item;
use redress_common::ids::RemediationId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::ec2_evidence::{Acquisition, TAKEN, Taken};
use crate::native::ec2_instance::described;
use crate::native::{Clients, Declared, Native, NativeError, parameter, planned, typed, untyped};
use crate::wire::{Operation, Protocol, Service, Wire};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_ec2_instance",
    reads: &[
        "autoscaling:DescribeAutoScalingInstances",
        "ec2:DescribeInstanceAttribute",
        "ec2:DescribeInstances",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSnapshots",
        "iam:GetInstanceProfile",
        "iam:GetRolePolicy",
        "ssm:GetCommandInvocation",
    ],
    changes: &[
        "autoscaling:EnterStandby",
        "autoscaling:ExitStandby",
        "ec2:AuthorizeSecurityGroupEgress",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateSecurityGroup",
        "ec2:CreateSnapshots",
        "ec2:CreateTags",
        "ec2:DeleteTags",
        "ec2:ModifyInstanceAttribute",
        "ec2:ModifyInstanceMetadataOptions",
        "ec2:ModifyNetworkInterfaceAttribute",
        "ec2:RevokeSecurityGroupEgress",
        "ec2:RevokeSecurityGroupIngress",
        "iam:DeleteRolePolicy",
        "iam:PutRolePolicy",
        "ssm:SendCommand",
    ],
    make: |clients, request| Ok(Box::new(Instance::new(clients, request)?)),
};

/// The group of each VPC that lets nothing through.
pub(crate) const QUARANTINE: &str = "redress-quarantine";
/// The group of each VPC that lets everything through, for the moment in which an interface is in it.
const UNTRACK: &str = "redress-untrack";
/// Tag of a contained instance, and of what was taken of it: the remediation.
pub(crate) const CONTAINED: &str = "redress:contained";
/// AWS's tag of instances that an Auto Scaling group keeps.
pub(crate) const GROUP: &str = "aws:autoscaling:groupName";
/// Stands in a planned policy for the time of the call.
const NOW: &str = "now";
/// Stands in a planned tag for the remediation: a plan has another id than what carries it out.
const THIS: &str = "this remediation";

static AUTOSCALING: Service = Service {
    name: "autoscaling",
    signing: "autoscaling",
    host: "autoscaling",
    protocol: Protocol::Query { version: "2011-01-01", item: ".member" },
};
pub(crate) static DESCRIBE_SCALED: Operation = AUTOSCALING.operation("DescribeAutoScalingInstances");
static ENTER_STANDBY: Operation = AUTOSCALING.operation("EnterStandby");
static EXIT_STANDBY: Operation = AUTOSCALING.operation("ExitStandby");

/// Whose sessions of the instance's role end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sessions {
    /// Those of this instance, wherever they are used, and those that it gets from now on.
    Instance,
    /// All that were begun before now, of every instance with this role.
    Role,
    /// None.
    Keep,
}

/// The playbook on one instance.
#[derive(Debug)]
pub struct Instance {
    ec2: aws_sdk_ec2::Client,
    iam: aws_sdk_iam::Client,
    wire: Wire,
    id: String,
    arn: String,
    remediation: RemediationId,
    mode: Mode,
    sessions: Sessions,
    acquisition: Acquisition,
    /// Our groups that were found or made, by VPC and name.
    groups: Mutex<BTreeMap<(String, String), SecurityGroup>>,
}

impl Instance {
    /// Parameters `RevokeSessions` (`Instance`, `Role` or `None`), and those of [`Acquisition::new`].
    ///
    /// # Errors
    /// When one is not what it may be.
    pub fn new(clients: &Clients, request: &RemediateRequest) -> Result<Self, NativeError> {
        const SESSIONS: &str = "`Instance`, `Role` or `None`";
        let RemediateRequest { job, parameters, .. } = request;
        let sessions = match parameter(parameters, "RevokeSessions", SESSIONS)?.as_str() {
            Some("Instance") => Sessions::Instance,
            Some("Role") => Sessions::Role,
            Some("None") => Sessions::Keep,
            _ => {
                return Err(NativeError::Parameter { name: "RevokeSessions".to_owned(), expected: SESSIONS });
            }
        };
        Ok(Self {
            ec2: clients.ec2.clone(),
            iam: clients.iam.clone(),
            wire: clients.wire.clone(),
            id: job.resource_name.clone(),
            arn: job.resource_arn.to_string(),
            remediation: job.remediation_id,
            mode: job.mode,
            sessions,
            acquisition: Acquisition::new(clients, request)?,
            groups: Mutex::default(),
        })
    }

    async fn is_protected(&self) -> Result<bool, NativeError> {
        let asked = self.ec2.describe_instance_attribute().instance_id(&self.id);
        let answer = asked.attribute(InstanceAttributeName::DisableApiTermination).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeInstanceAttribute", &error))?;
        Ok(answer.disable_api_termination().and_then(|value| value.value()) == Some(true))
    }

    /// The role of the instance's profile, and the policy of ours on it.
    async fn role(&self, instance: &types::Instance) -> Result<Option<Role>, NativeError> {
        let profile = instance.iam_instance_profile().and_then(|profile| profile.arn());
        let Some(profile) = profile.and_then(|arn| arn.rsplit('/').next()) else { return Ok(None) };
        if self.sessions == Sessions::Keep {
            return Ok(None);
        }
        let answer = self.iam.get_instance_profile().instance_profile_name(profile).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("GetInstanceProfile", &error)) {
            // A profile that was deleted has no sessions to end.
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
            answer => answer?,
        };
        let roles = answer.instance_profile().map(|profile| profile.roles()).unwrap_or_default();
        let Some(name) = roles.first().map(|role| role.role_name().to_owned()) else { return Ok(None) };
        let answer = self.iam.get_role_policy().role_name(&name).policy_name(self.policy()).send().await;
        let deny = match answer.map_err(|error| AwsFailure::of("GetRolePolicy", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => None,
            answer => Some(answer?.policy_document),
        };
        Ok(Some(Role { name, deny }))
    }

    async fn scaling(&self, instance: &types::Instance) -> Result<Option<Scaling>, NativeError> {
        if !instance.tags().iter().any(|tag| tag.key() == Some(GROUP)) {
            return Ok(None);
        }
        let answer = self.wire.call(&DESCRIBE_SCALED, &json!({ "InstanceIds": [self.id] })).await?;
        let Some(scaled) = answer.pointer("/AutoScalingInstances/0") else { return Ok(None) };
        let text = |name: &str| scaled[name].as_str().unwrap_or_default().to_owned();
        let standby = matches!(text("LifecycleState").as_str(), "EnteringStandby" | "Standby");
        Ok(Some(Scaling { group: text("AutoScalingGroupName"), standby }))
    }

    /// Whether the quarantine groups that the interfaces are in have no rule.
    async fn is_sealed(&self, state: &State) -> Result<bool, NativeError> {
        if !state.is_quarantined() {
            return Ok(false);
        }
        let ids: BTreeSet<String> = state.interfaces.values().flat_map(|one| one.groups.keys().cloned()).collect();
        let answer = self.ec2.describe_security_groups().set_group_ids(Some(ids.into_iter().collect())).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error))?;
        let has_rules =
            |group: &SecurityGroup| !group.ip_permissions().is_empty() || !group.ip_permissions_egress().is_empty();
        Ok(!answer.security_groups().iter().any(has_rules))
    }

    /// What our policy on the role is called.
    fn policy(&self) -> String {
        format!("redress-contained-{}", self.id)
    }

    /// What ends sessions of the role.
    fn denial(&self) -> String {
        let condition = match self.sessions {
            Sessions::Role => json!({ "DateLessThan": { "aws:TokenIssueTime": NOW } }),
            Sessions::Instance | Sessions::Keep => json!({ "ArnEquals": { "ec2:SourceInstanceARN": self.arn } }),
        };
        let statement = json!({
            "Sid": "RedressContained", "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition,
        });
        json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
    }

    fn planned(&self, service: &str, operation: &str, with: &Value) -> Result<Call, NativeError> {
        planned(&DECLARED, service, operation, with)
    }

    /// Snapshots of all volumes, before or after isolation.
    fn snapshots(&self, taken: Taken) -> Result<Call, NativeError> {
        let with = json!({ "InstanceSpecification": { "InstanceId": self.id }, "Tags": { TAKEN: taken.as_str() } });
        self.planned("ec2", "CreateSnapshots", &with)
    }

    /// The calls that isolate the instance, then those that protect it and take evidence.
    fn isolate(&self, state: &State) -> Result<Vec<Call>, NativeError> {
        let vpcs: BTreeSet<&str> = state.interfaces.values().map(|one| one.vpc_id.as_str()).collect();
        let into = |group: &str| {
            let moved = |(id, one): (&String, &Interface)| {
                let with = json!({ "NetworkInterfaceId": id, "Groups": [format!("{}/{group}", one.vpc_id)] });
                self.planned("ec2", "ModifyNetworkInterfaceAttribute", &with)
            };
            state.interfaces.iter().map(moved).collect::<Result<Vec<Call>, NativeError>>()
        };
        let on_group = |operation: &str, name: &str| {
            let of = |vpc: &&str| self.planned("ec2", operation, &json!({ "GroupName": name, "VpcId": vpc }));
            vpcs.iter().map(of).collect::<Result<Vec<Call>, NativeError>>()
        };
        // Both begin what isolation does not wait for, or not for long.
        let mut calls = vec![self.snapshots(Taken::Before)?];
        if let Some(command) = self.acquisition.command() {
            calls.push(self.planned("ssm", "SendCommand", &command)?);
        }
        calls.extend(on_group("CreateSecurityGroup", QUARANTINE)?);
        calls.extend(on_group("CreateSecurityGroup", UNTRACK)?);
        calls.extend(into(UNTRACK)?);
        calls.extend(into(QUARANTINE)?);
        calls.extend(on_group("RevokeSecurityGroupIngress", UNTRACK)?);
        let this = json!({ "InstanceId": self.id });
        let with = |more: &Value| merged(&this, more);
        if let Some(role) = state.role.as_ref().filter(|role| role.deny.is_none()) {
            let put = json!({
                "RoleName": role.name, "PolicyName": self.policy(), "PolicyDocument": self.denial(),
            });
            calls.push(self.planned("iam", "PutRolePolicy", &put)?);
        }
        if !state.termination_protection {
            calls.push(self.planned(
                "ec2",
                "ModifyInstanceAttribute",
                &with(&json!({ "DisableApiTermination": true })),
            )?);
        }
        if let Some(scaling) = state.scaling.as_ref().filter(|scaling| !scaling.standby) {
            let standby = json!({
                "AutoScalingGroupName": scaling.group, "InstanceIds": [self.id], "ShouldDecrementDesiredCapacity": false,
            });
            calls.push(self.planned("autoscaling", "EnterStandby", &standby)?);
        }
        if state.metadata.http_tokens != "required" || state.metadata.http_put_response_hop_limit != 1 {
            let strict = json!({ "HttpTokens": "required", "HttpPutResponseHopLimit": 1 });
            calls.push(self.planned(
                "ec2",
                "ModifyInstanceMetadataOptions",
                &with(&merged(&json!(state.metadata), &strict)),
            )?);
        }
        let tag = json!({ "Resources": [self.id], "Tags": { CONTAINED: THIS } });
        calls.push(self.planned("ec2", "CreateTags", &tag)?);
        // Last: EC2 may have it wait.
        calls.push(self.snapshots(Taken::After)?);
        Ok(calls)
    }

    /// The calls that give back what was there: the network last but for what needs it.
    fn give_back(&self, now: &State, before: &State) -> Result<Vec<Call>, NativeError> {
        let this = json!({ "InstanceId": self.id });
        let mut calls = Vec::new();
        if let (Some(role), Some(was)) = (&now.role, &before.role)
            && role.name == was.name
            && role.deny.is_some()
            && was.deny.is_none()
        {
            let on = json!({ "RoleName": role.name, "PolicyName": self.policy() });
            calls.push(self.planned("iam", "DeleteRolePolicy", &on)?);
        }
        if now.metadata != before.metadata {
            let with = merged(&this, &json!(before.metadata));
            calls.push(self.planned("ec2", "ModifyInstanceMetadataOptions", &with)?);
        }
        if now.termination_protection != before.termination_protection {
            let with = merged(&this, &json!({ "DisableApiTermination": before.termination_protection }));
            calls.push(self.planned("ec2", "ModifyInstanceAttribute", &with)?);
        }
        for (id, was) in &before.interfaces {
            if now.interfaces.get(id).is_some_and(|one| one.groups != was.groups) {
                let groups: Vec<&String> = was.groups.keys().collect();
                let with = json!({ "NetworkInterfaceId": id, "Groups": groups });
                calls.push(self.planned("ec2", "ModifyNetworkInterfaceAttribute", &with)?);
            }
        }
        if let (Some(scaling), Some(was)) = (&now.scaling, &before.scaling)
            && scaling.standby
            && !was.standby
        {
            let with = json!({ "AutoScalingGroupName": scaling.group, "InstanceIds": [self.id] });
            calls.push(self.planned("autoscaling", "ExitStandby", &with)?);
        }
        if now.contained_by != before.contained_by {
            let with = json!({ "Resources": [self.id], "Tags": { CONTAINED: before.contained_by } });
            let operation = if before.contained_by.is_some() { "CreateTags" } else { "DeleteTags" };
            calls.push(self.planned("ec2", operation, &with)?);
        }
        Ok(calls)
    }

    /// One of our groups, found or made, with the rules that it must have.
    async fn ensure(&self, vpc: &str, name: &str) -> Result<(), NativeError> {
        let key = (vpc.to_owned(), name.to_owned());
        let mut groups = self.groups.lock().await;
        if !groups.keys().any(|(known, _)| known == vpc) {
            for group in self.find(vpc).await? {
                groups.insert((vpc.to_owned(), group.group_name().unwrap_or_default().to_owned()), group);
            }
        }
        if !groups.contains_key(&key) {
            let made = self.ec2.create_security_group().vpc_id(vpc).group_name(name);
            let made = made.description("Redress, containment. Its rules are Redress's own; do not change them");
            match made.send().await.map_err(|error| AwsFailure::of("CreateSecurityGroup", &error)) {
                // Another containment in this VPC was quicker.
                Err(failure) if failure.code() != Some("InvalidGroup.Duplicate") => return Err(failure.into()),
                _ => {}
            }
            for group in self.find(vpc).await? {
                groups.insert((vpc.to_owned(), group.group_name().unwrap_or_default().to_owned()), group);
            }
        }
        let Some(group) = groups.get(&key) else {
            return Err(NativeError::NotNow(format!("security group {name} of {vpc} is not seen yet")));
        };
        if name == QUARANTINE { self.close(group).await } else { self.open(group).await }
    }

    async fn find(&self, vpc: &str) -> Result<Vec<SecurityGroup>, NativeError> {
        let filter = |name: &str, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            Filter::builder().name(name).set_values(Some(values)).build()
        };
        let filters = vec![filter("vpc-id", &[vpc]), filter("group-name", &[QUARANTINE, UNTRACK])];
        let answer = self.ec2.describe_security_groups().set_filters(Some(filters)).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeSecurityGroups", &error))?;
        Ok(answer.security_groups.unwrap_or_default())
    }

    /// Removes every rule: a new group has one that lets everything out, and somebody may have added others.
    async fn close(&self, group: &SecurityGroup) -> Result<(), NativeError> {
        let (id, both) = (group.group_id(), (group.ip_permissions(), group.ip_permissions_egress()));
        if !both.0.is_empty() {
            let revoked = self.ec2.revoke_security_group_ingress().set_group_id(id.map(str::to_owned));
            let revoked = revoked.set_ip_permissions(Some(both.0.to_vec())).send().await;
            revoked.map_err(|error| AwsFailure::of("RevokeSecurityGroupIngress", &error))?;
        }
        if !both.1.is_empty() {
            let revoked = self.ec2.revoke_security_group_egress().set_group_id(id.map(str::to_owned));
            let revoked = revoked.set_ip_permissions(Some(both.1.to_vec())).send().await;
            revoked.map_err(|error| AwsFailure::of("RevokeSecurityGroupEgress", &error))?;
        }
        Ok(())
    }

    /// Lets everything through, both ways.
    async fn open(&self, group: &SecurityGroup) -> Result<(), NativeError> {
        let id = group.group_id().map(str::to_owned);
        let passed = |failure: AwsFailure| match failure.code() {
            Some("InvalidPermission.Duplicate") => Ok(()),
            _ => Err(NativeError::from(failure)),
        };
        for rule in lacking(group.ip_permissions_egress()) {
            let allowed = self.ec2.authorize_security_group_egress().set_group_id(id.clone()).ip_permissions(rule);
            let failed = allowed.send().await.map_err(|error| AwsFailure::of("AuthorizeSecurityGroupEgress", &error));
            failed.map(drop).or_else(passed)?;
        }
        let rules = lacking(group.ip_permissions());
        if rules.is_empty() {
            return Ok(());
        }
        let allowed = self.ec2.authorize_security_group_ingress().set_group_id(id).set_ip_permissions(Some(rules));
        let failed = allowed.send().await.map_err(|error| AwsFailure::of("AuthorizeSecurityGroupIngress", &error));
        failed.map(drop).or_else(passed)
    }

    /// Takes everything that is let in out of the group for the moment.
    async fn shut(&self, vpc: &str) -> Result<(), NativeError> {
        let known = self.groups.lock().await.get(&(vpc.to_owned(), UNTRACK.to_owned())).cloned();
        let group = match known {
            // An earlier run opened it, and was cut off.
            None => self.find(vpc).await?.into_iter().find(|group| group.group_name() == Some(UNTRACK)),
            known => known,
        };
        let Some(group) = group else { return Ok(()) };
        let revoked = self
            .ec2
            .revoke_security_group_ingress()
            .set_group_id(group.group_id)
            .set_ip_permissions(Some(everything()));
        match revoked.send().await.map_err(|error| AwsFailure::of("RevokeSecurityGroupIngress", &error)) {
            Err(failure) if failure.code() != Some("InvalidPermission.NotFound") => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// The id of a group that is called by it, or by VPC and name.
    async fn group_id(&self, called: &str) -> Result<String, NativeError> {
        let Some((vpc, name)) = called.split_once('/') else { return Ok(called.to_owned()) };
        let groups = self.groups.lock().await;
        let group = groups.get(&(vpc.to_owned(), name.to_owned())).and_then(|group| group.group_id.clone());
        group.ok_or_else(|| NativeError::NotNow(format!("security group {name} of {vpc} could not be made")))
    }

    async fn interface_moves(&self, call: &Call) -> Result<(), NativeError> {
        let mut ids = Vec::new();
        for called in texts(&call.parameters["Groups"]) {
            ids.push(self.group_id(called).await?);
        }
        let asked = self.ec2.modify_network_interface_attribute();
        let asked = asked.network_interface_id(text(call, "NetworkInterfaceId")?).set_groups(Some(ids)).send().await;
        asked.map_err(|error| AwsFailure::of("ModifyNetworkInterfaceAttribute", &error).into()).map(drop)
    }

    async fn protects(&self, call: &Call) -> Result<(), NativeError> {
        let value = call.parameters["DisableApiTermination"].as_bool().ok_or(FORM)?;
        let value = AttributeBooleanValue::builder().value(value).build();
        let asked = self.ec2.modify_instance_attribute().instance_id(&self.id).disable_api_termination(value);
        let asked = asked.send().await;
        asked.map(drop).map_err(|error| AwsFailure::of("ModifyInstanceAttribute", &error).into())
    }

    async fn metadata(&self, call: &Call) -> Result<(), NativeError> {
        let limit = call.parameters["HttpPutResponseHopLimit"].as_i64().and_then(|limit| i32::try_from(limit).ok());
        let asked = self.ec2.modify_instance_metadata_options().instance_id(&self.id);
        let asked = asked.http_tokens(HttpTokensState::from(text(call, "HttpTokens")?));
        let asked = asked.http_endpoint(InstanceMetadataEndpointState::from(text(call, "HttpEndpoint")?));
        let asked = asked.http_put_response_hop_limit(limit.ok_or(FORM)?).send().await;
        asked.map(drop).map_err(|error| AwsFailure::of("ModifyInstanceMetadataOptions", &error).into())
    }

    async fn tags(&self, call: &Call) -> Result<(), NativeError> {
        let value = call.parameters["Tags"][CONTAINED].as_str();
        let value = value.map(|value| if value == THIS { self.remediation.to_string() } else { value.to_owned() });
        let tag = types::Tag::builder().key(CONTAINED).set_value(value).build();
        if call.operation == "DeleteTags" {
            let gone = self.ec2.delete_tags().resources(&self.id).tags(tag).send().await;
            return gone.map(drop).map_err(|error| AwsFailure::of("DeleteTags", &error).into());
        }
        let made = self.ec2.create_tags().resources(&self.id).tags(tag).send().await;
        made.map(drop).map_err(|error| AwsFailure::of("CreateTags", &error).into())
    }

    async fn on_role(&self, call: &Call) -> Result<(), NativeError> {
        let (role, policy) = (text(call, "RoleName")?, text(call, "PolicyName")?);
        if call.operation == "DeleteRolePolicy" {
            let gone = self.iam.delete_role_policy().role_name(role).policy_name(policy).send().await;
            return match gone.map_err(|error| AwsFailure::of("DeleteRolePolicy", &error)) {
                Err(failure) if failure.code() != Some("NoSuchEntity") => Err(failure.into()),
                _ => Ok(()),
            };
        }
        let now = json!(Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()).to_string();
        let document = text(call, "PolicyDocument")?.replace(&json!(NOW).to_string(), &now);
        let put = self.iam.put_role_policy().role_name(role).policy_name(policy).policy_document(document).send().await;
        put.map(drop).map_err(|error| AwsFailure::of("PutRolePolicy", &error).into())
    }
}

#[async_trait]
impl Native for Instance {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(instance) = described(&self.ec2, &self.id).await? else { return Ok(None) };
        let mut state = State::of(&instance);
        let (protected, role, scaling, sealed) = tokio::try_join!(
            self.is_protected(),
            self.role(&instance),
            self.scaling(&instance),
            self.is_sealed(&state),
        )?;
        (state.termination_protection, state.role, state.scaling, state.is_sealed) = (protected, role, scaling, sealed);
        Ok(Some(state.image()?))
    }

    /// Its interfaces and metadata options: what else is in the image is no more than protected, and hardly ever changes.
    async fn look_again(&self, found: &Image) -> Result<Option<Image>, NativeError> {
        let Some(instance) = described(&self.ec2, &self.id).await? else { return Ok(None) };
        let found: State = typed(&found.state, "the state", DECLARED.name)?;
        let now = State::of(&instance);
        let now = State { interfaces: now.interfaces, metadata: now.metadata, contained_by: now.contained_by, ..found };
        Ok(Some(now.image()?))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        if state.interfaces.is_empty() {
            return Err(NativeError::Refused("the instance has no network interface, so there is nothing to isolate"));
        }
        if state.is_quarantined() && state.is_sealed {
            return Ok(Change::default());
        }
        self.isolate(&state).map(Change)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        self.give_back(&now, &before).map(Change)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            "CreateSecurityGroup" => self.ensure(text(call, "VpcId")?, text(call, "GroupName")?).await,
            "ModifyNetworkInterfaceAttribute" => self.interface_moves(call).await,
            "RevokeSecurityGroupIngress" => self.shut(text(call, "VpcId")?).await,
            "ModifyInstanceAttribute" => self.protects(call).await,
            "ModifyInstanceMetadataOptions" => self.metadata(call).await,
            "CreateSnapshots" if call.parameters["Tags"][TAKEN] == Taken::Before.as_str() => {
                self.acquisition.begin();
                Ok(())
            }
            "CreateSnapshots" => self.acquisition.finish().await,
            "SendCommand" => self.acquisition.capture(&call.parameters).await,
            "CreateTags" | "DeleteTags" => self.tags(call).await,
            "PutRolePolicy" | "DeleteRolePolicy" => self.on_role(call).await,
            "EnterStandby" => {
                self.wire.call(&ENTER_STANDBY, &call.parameters).await.map(drop).map_err(NativeError::from)
            }
            "ExitStandby" => self.wire.call(&EXIT_STANDBY, &call.parameters).await.map(drop).map_err(NativeError::from),
            _ => Err(FORM),
        }
    }

    fn resumes(&self) {
        self.acquisition.resumes();
    }

    async fn acquired(&self) -> Vec<Item> {
        self.acquisition.items().await
    }

    /// All but the isolation itself; of an undo, nothing.
    fn may_fail(&self, call: &Call) -> bool {
        let isolates = match call.operation.as_str() {
            "CreateSecurityGroup" => call.parameters["GroupName"] == QUARANTINE,
            "ModifyNetworkInterfaceAttribute" => {
                texts(&call.parameters["Groups"]).any(|group| group.ends_with(QUARANTINE))
            }
            _ => false,
        };
        self.mode == Mode::Apply && !isolates
    }

    /// What protects it, what is evidence, and the open group; not what would move an interface once more.
    fn is_left(&self, call: &Call, now: &Image) -> bool {
        let Ok(now) = typed::<State>(&now.state, "the state", DECLARED.name) else { return false };
        let is_left = match call.operation.as_str() {
            "PutRolePolicy" => now.role.is_some_and(|role| role.deny.is_none()),
            "EnterStandby" => now.scaling.is_some_and(|scaling| !scaling.standby),
            "CreateSnapshots" => call.parameters["Tags"][TAKEN] == Taken::After.as_str(),
            "CreateTags"
            | "ModifyInstanceAttribute"
            | "ModifyInstanceMetadataOptions"
            | "RevokeSecurityGroupIngress" => true,
            _ => false,
        };
        self.mode == Mode::Apply && is_left
    }

    /// Each interface is in its own groups still, or in one of ours.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let state = |image: &Image| typed::<State>(&image.state, "the state", DECLARED.name);
        let (Ok(now), Ok(before)) = (state(now), state(before)) else { return false };
        let is_ours = |one: &Interface| {
            one.groups.len() == 1 && one.groups.values().all(|name| name == QUARANTINE || name == UNTRACK)
        };
        self.mode == Mode::Apply
            && now.interfaces.len() == before.interfaces.len()
            && before
                .interfaces
                .iter()
                .all(|(id, was)| now.interfaces.get(id).is_some_and(|one| one.groups == was.groups || is_ours(one)))
    }
}

const FORM: NativeError = NativeError::Form { what: "a call", native: DECLARED.name };

fn text<'a>(call: &'a Call, name: &str) -> Result<&'a str, NativeError> {
    call.parameters[name].as_str().ok_or(FORM)
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The members of both; the second wins.
fn merged(one: &Value, other: &Value) -> Value {
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    Value::Object(members(one).into_iter().chain(members(other)).collect())
}

/// Rules for all traffic of both families.
fn everything() -> Vec<IpPermission> {
    let all = || IpPermission::builder().ip_protocol("-1");
    let four = IpRange::builder().cidr_ip("0.0.0.0/0").build();
    let six = Ipv6Range::builder().cidr_ipv6("::/0").build();
    vec![all().ip_ranges(four).build(), all().ipv6_ranges(six).build()]
}

/// Those of [`everything`] that are not there.
fn lacking(rules: &[IpPermission]) -> Vec<IpPermission> {
    let all: Vec<&IpPermission> = rules.iter().filter(|rule| rule.ip_protocol() == Some("-1")).collect();
    let four = all.iter().any(|rule| rule.ip_ranges().iter().any(|range| range.cidr_ip() == Some("0.0.0.0/0")));
    let six = all.iter().any(|rule| rule.ipv6_ranges().iter().any(|range| range.cidr_ipv6() == Some("::/0")));
    let is_lacking = |rule: &IpPermission| if rule.ip_ranges().is_empty() { !six } else { !four };
    everything().into_iter().filter(is_lacking).collect()
}

// --------------------------------------------------------------------------------------------- the state

/// What containment changes of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    /// By id.
    interfaces: BTreeMap<String, Interface>,
    /// The quarantine groups that it is in have no rule.
    is_sealed: bool,
    termination_protection: bool,
    metadata: Metadata,
    /// The role of its profile.
    role: Option<Role>,
    /// The Auto Scaling group that keeps it.
    scaling: Option<Scaling>,
    /// Our tag.
    contained_by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Interface {
    vpc_id: String,
    /// Names, by id.
    groups: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Metadata {
    http_tokens: String,
    http_put_response_hop_limit: i32,
    http_endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Role {
    name: String,
    /// The document of our policy.
    deny: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Scaling {
    group: String,
    standby: bool,
}

impl State {
    /// What the description of an instance says of it.
    fn of(instance: &types::Instance) -> Self {
        let of = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let interfaces = instance.network_interfaces().iter().map(|one| {
            let groups = one.groups().iter().map(|group| (of(group.group_id()), of(group.group_name())));
            let vpc_id = of(one.vpc_id().or(instance.vpc_id()));
            (of(one.network_interface_id()), Interface { vpc_id, groups: groups.collect() })
        });
        let options = instance.metadata_options();
        let tag = instance.tags().iter().find(|tag| tag.key() == Some(CONTAINED));
        Self {
            interfaces: interfaces.collect(),
            is_sealed: false,
            termination_protection: false,
            metadata: Metadata {
                http_tokens: options
                    .and_then(|one| one.http_tokens())
                    .map_or("optional", |one| one.as_str())
                    .to_owned(),
                http_put_response_hop_limit: options.and_then(|one| one.http_put_response_hop_limit()).unwrap_or(1),
                http_endpoint: options
                    .and_then(|one| one.http_endpoint())
                    .map_or("enabled", |one| one.as_str())
                    .to_owned(),
            },
            role: None,
            scaling: None,
            contained_by: tag.and_then(|tag| tag.value()).map(str::to_owned),
        }
    }

    /// Whether each interface is in the quarantine group of its VPC, and in no other.
    fn is_quarantined(&self) -> bool {
        let is_in = |one: &Interface| one.groups.len() == 1 && one.groups.values().all(|name| name == QUARANTINE);
        !self.interfaces.is_empty() && self.interfaces.values().all(is_in)
    }

    fn image(&self) -> Result<Image, NativeError> {
        Ok(Image { present: true, state: untyped(self, "the state", DECLARED.name)? })
    }
}

#[cfg(test)]
#[path = "ec2_instance_tests.rs"]
mod tests;
