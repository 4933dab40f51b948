//! The CloudFormation templates that are generated: the runbooks' roles, and the runbooks.

use std::collections::BTreeMap;

use redress_common::names;
use serde_json::{Map, Value, json};

use crate::compile::CompileError;
use crate::control::Control;
use crate::iam;

const HEAD: &str = "# Generated from ssm-documents/controls/ by `cargo xtask generate`. Do not edit.\n";

/// `stacksets/member-roles.yaml`.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn roles(controls: &[Control]) -> Result<String, CompileError> {
    let mut resources = Map::new();
    let families = iam::family_statements(controls);
    resources.insert(
        "RedressControl".to_owned(),
        role(names::CONTROL_ROLE, "Redress - the control runbook", iam::control_statements(families.keys())),
    );
    for (name, statements) in families {
        let description =
            format!("Redress - the runbooks of the {} controls", name.rsplit('-').next().unwrap_or_default());
        resources.insert(name.replace('-', ""), role(&name, &description, statements));
    }
    resources.extend(attached(
        "NativeControls",
        names::NATIVE_POLICY,
        "Redress, what the native controls may call",
        names::REMEDIATE_ROLE,
        iam::native_statements(controls),
    ));
    resources.extend(attached(
        "DestroyingControls",
        names::DESTROY_POLICY,
        "Redress, what the native controls that destroy may call",
        names::DESTROY_ROLE,
        iam::destroy_statements(controls),
    ));
    for (family, statements) in iam::contain_statements(controls) {
        let role = names::contain_role(family);
        let description = format!("Redress, what the playbooks of {family} may call");
        resources.extend(attached(&format!("Contain{family}"), &format!("{role}-"), &description, &role, statements));
    }
    let template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Redress, member account: the runbooks' roles, and what the native controls may call. Needs member-stack.yaml.",
        "Parameters": { BOUNDARY: {
            "Type": "String",
            "Description": "Name of a managed policy of the account that bounds every role that is made here. Empty for none.",
            "Default": "",
            "AllowedPattern": "^$|^[A-Za-z0-9+=,.@_/-]{1,512}$",
        } },
        "Conditions": { "HasBoundary": { "Fn::Not": [{ "Fn::Equals": [{ "Ref": BOUNDARY }, ""] }] } },
        "Resources": resources,
    });
    Ok(format!("{HEAD}{}", yaml("member-roles.yaml", &template)?))
}

/// The managed policies with these statements, by the ids of their resources: a number follows on id and name.
fn attached(id: &str, name: &str, description: &str, role: &str, statements: Vec<Value>) -> Map<String, Value> {
    let policies = (1..).zip(parts(statements)).map(|(nth, statements)| {
        let resource = json!({
            "Type": "AWS::IAM::ManagedPolicy",
            "Metadata": { "checkov": { "skip": [{ "id": "CKV_AWS_111", "comment": UNBOUND }] } },
            "Properties": {
                "ManagedPolicyName": format!("{name}{nth}"),
                "Description": description,
                "Roles": [role],
                "PolicyDocument": policy(statements),
            },
        });
        (format!("{id}{nth}"), resource)
    });
    policies.collect()
}

/// Why some writes of the native controls name no resource.
const UNBOUND: &str = "AWS restricts these actions to no resource";

/// IAM takes no longer managed policy, white space aside. What a role has of its own may be 10,240 characters in all, which
/// is less than the native controls need.
const LARGEST_POLICY: usize = 6_144;

/// Statements in as few policies as they go into.
fn parts(statements: Vec<Value>) -> Vec<Vec<Value>> {
    let length = |statements: &[Value]| policy(statements.to_vec()).to_string().len();
    let mut parts: Vec<Vec<Value>> = Vec::new();
    for statement in statements {
        match parts.last_mut() {
            Some(part) if length(part) + length(std::slice::from_ref(&statement)) <= LARGEST_POLICY => {
                part.push(statement);
            }
            _ => parts.push(vec![statement]),
        }
    }
    parts
}

/// The template of the control runbook.
const CONTROL: &str = "Control";

/// `stacksets/member-documents/`: the runbooks of each service family, and the control runbook. Several templates,
/// because one of all runbooks is longer than CloudFormation takes; by family, so that a new control moves no runbook
/// from one stack to another.
///
/// # Errors
/// When one cannot be written as YAML.
pub fn documents(
    controls: &[Control],
    documents: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, String>, CompileError> {
    let families: BTreeMap<String, &str> =
        controls.iter().map(|control| (names::control_document(&control.id), names::family(&control.id))).collect();
    let mut resources: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (name, content) in documents {
        let resource = json!({
            "Type": "AWS::SSM::Document",
            "Properties": {
                "Name": name,
                "DocumentType": "Automation",
                "DocumentFormat": "JSON",
                "UpdateMethod": "NewVersion",
                "Content": content,
            },
        });
        let family = families.get(name).copied().unwrap_or(CONTROL);
        let logical = name.chars().filter(char::is_ascii_alphanumeric).collect();
        resources.entry(family).or_default().insert(logical, resource);
    }
    let template = |(family, resources): (&str, Map<String, Value>)| {
        let what = if family == CONTROL {
            "the control runbook".to_owned()
        } else {
            format!("the runbooks of the {family} controls")
        };
        let template = json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": format!("Redress, member account: {what}."),
            "Resources": resources,
        });
        Ok((family.to_owned(), format!("{HEAD}{}", yaml("member-documents", &template)?)))
    };
    resources.into_iter().map(template).collect()
}

/// The parameter with the name of a permissions boundary, as `member-stack.yaml` has it.
const BOUNDARY: &str = "PermissionsBoundary";

/// In whose name SSM assumes a runbook's role.
const EXECUTIONS: &str = "arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:automation-execution/*";

fn role(name: &str, description: &str, statements: Vec<Value>) -> Value {
    let boundary = format!("arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:policy/${{{BOUNDARY}}}");
    json!({
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": name,
            "Description": description,
            "PermissionsBoundary": { "Fn::If": ["HasBoundary", { "Fn::Sub": boundary }, { "Ref": "AWS::NoValue" }] },
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [{
                    "Effect": "Allow",
                    "Principal": { "Service": "ssm.amazonaws.com" },
                    "Action": "sts:AssumeRole",
                    "Condition": {
                        "StringEquals": { "aws:SourceAccount": { "Ref": "AWS::AccountId" } },
                        "ArnLike": { "aws:SourceArn": { "Fn::Sub": EXECUTIONS } },
                    },
                }],
            },
            "Policies": [{ "PolicyName": "runbook", "PolicyDocument": policy(statements) }],
        },
    })
}

fn policy(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// A template as YAML.
pub(crate) fn yaml(template: &'static str, value: &Value) -> Result<String, CompileError> {
    serde_saphyr::to_string(value).map_err(|source| CompileError::Yaml { template, source })
}
