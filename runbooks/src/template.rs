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
    resources.insert(
        "RedressControl".to_owned(),
        role(names::CONTROL_ROLE, "Redress - the control runbook", iam::control_statements()),
    );
    for (name, statements) in iam::family_statements(controls) {
        let description =
            format!("Redress - the runbooks of the {} controls", name.rsplit('-').next().unwrap_or_default());
        resources.insert(name.replace('-', ""), role(&name, &description, statements));
    }
    let native = iam::native_statements(controls);
    if !native.is_empty() {
        resources.insert(
            "NativeControls".to_owned(),
            json!({
                "Type": "AWS::IAM::Policy",
                "Properties": {
                    "PolicyName": "native-controls",
                    "Roles": [names::REMEDIATE_ROLE],
                    "PolicyDocument": policy(native),
                },
            }),
        );
    }
    let template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Redress, member account: the runbooks' roles, and what the native controls may call. Needs member-stack.yaml.",
        "Parameters": {
            "EvidenceBucket": {
                "Type": "String",
                "Description": "Output EvidenceBucketName of member-stack.yaml.",
                "AllowedPattern": "^security-remediation-logs-[0-9]{12}-[a-z0-9-]+$",
            },
        },
        "Resources": resources,
    });
    yaml("member-roles.yaml", &template)
}

/// `stacksets/member-documents.yaml`.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn documents(documents: &BTreeMap<String, Value>) -> Result<String, CompileError> {
    let resources: Map<String, Value> = documents
        .iter()
        .map(|(name, content)| {
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
            (name.chars().filter(char::is_ascii_alphanumeric).collect(), resource)
        })
        .collect();
    let template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Redress, member account: the control runbook and the remediation runbooks.",
        "Resources": resources,
    });
    yaml("member-documents.yaml", &template)
}

fn role(name: &str, description: &str, statements: Vec<Value>) -> Value {
    json!({
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": name,
            "Description": description,
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [{
                    "Effect": "Allow",
                    "Principal": { "Service": "ssm.amazonaws.com" },
                    "Action": "sts:AssumeRole",
                    "Condition": { "StringEquals": { "aws:SourceAccount": { "Ref": "AWS::AccountId" } } },
                }],
            },
            "Policies": [{ "PolicyName": "runbook", "PolicyDocument": policy(statements) }],
        },
    })
}

fn policy(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn yaml(template: &'static str, value: &Value) -> Result<String, CompileError> {
    let text = serde_saphyr::to_string(value).map_err(|source| CompileError::Yaml { template, source })?;
    Ok(format!("{HEAD}{text}"))
}
