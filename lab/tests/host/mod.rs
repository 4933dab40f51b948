//! A lab with the echo function, and one account's root in it: what several test binaries share.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redress_lab::record::Call;
use redress_lab::service::{AwsError, Credentials};
use redress_lab::{Lab, LabOptions};
use serde_json::{Value, json};

pub const REGION: &str = "eu-central-1";

/// A lab in which these functions are the echo function.
pub async fn lab(functions: &[&str]) -> Lab {
    let mut options = LabOptions::new(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    for name in functions {
        options.functions.insert((*name).to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_echo-function")));
    }
    Lab::start(options).await.unwrap()
}

/// One account's root.
#[derive(Clone, Copy)]
pub struct Root<'a> {
    pub lab: &'a Lab,
    pub account: &'static str,
}

impl Root<'_> {
    pub async fn call(&self, service: &str, operation: &str, parameters: Value) -> Value {
        let answer = self.try_call(service, operation, parameters).await;
        answer.unwrap_or_else(|error| panic!("{service}:{operation}: {error}"))
    }

    pub async fn try_call(&self, service: &str, operation: &str, parameters: Value) -> Result<Value, AwsError> {
        self.lab.aws().call(&Credentials::root(self.account), REGION, service, operation, parameters).await
    }

    /// Creates a stack, waits for it and answers its outputs by key.
    pub async fn stack(&self, name: &str, template: Value) -> Value {
        let creation = json!({
            "StackName": name, "TemplateBody": template.to_string(), "Capabilities": ["CAPABILITY_NAMED_IAM"] });
        self.call("cloudformation", "CreateStack", creation).await;
        let started = Instant::now();
        loop {
            let described = self.call("cloudformation", "DescribeStacks", json!({ "StackName": name })).await;
            let stack = &described["Stacks"][0];
            match stack["StackStatus"].as_str().unwrap() {
                "CREATE_COMPLETE" => {
                    let outputs = stack["Outputs"].as_array().into_iter().flatten();
                    return outputs
                        .map(|one| (one["OutputKey"].as_str().unwrap().to_owned(), one["OutputValue"].clone()))
                        .collect();
                }
                "CREATE_IN_PROGRESS" if started.elapsed() < Duration::from_secs(20) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                status => {
                    let events = self.call("cloudformation", "DescribeStackEvents", json!({ "StackName": name })).await;
                    panic!("{status}: {events:#}");
                }
            }
        }
    }

    /// A session of a role of this account for a service.
    pub async fn session(&self, role: &str, service: &str) -> Credentials {
        let arn = format!("arn:aws:iam::{}:role/{role}", self.account);
        self.lab.aws().session(&arn, "test", service).await.unwrap()
    }
}

/// A role's properties in a template: who may assume it, and what it may do where.
pub fn role(name: &str, service: &str, allowed: &[(&str, &str)]) -> Value {
    let statements: Vec<Value> = allowed
        .iter()
        .map(|(action, resource)| json!({ "Effect": "Allow", "Action": action, "Resource": { "Fn::Sub": resource } }))
        .collect();
    let mut properties = json!({
        "RoleName": name,
        "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole" }] },
    });
    if !statements.is_empty() {
        properties["Policies"] =
            json!([{ "PolicyName": "p", "PolicyDocument": { "Version": "2012-10-17", "Statement": statements } }]);
    }
    json!({ "Type": "AWS::IAM::Role", "Properties": properties })
}

/// A function that runs as the template's role `role`.
pub fn function(name: &str, role: &str) -> Value {
    json!({ "Type": "AWS::Lambda::Function", "Properties": {
        "FunctionName": name, "Runtime": "provided.al2023", "Handler": "bootstrap", "Timeout": 10,
        "Role": { "Fn::GetAtt": [role, "Arn"] }, "Code": { "ZipFile": "the lab runs its own" },
    } })
}

pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(15), "never: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

pub fn last_call(lab: &Lab, operation: &str) -> Call {
    let calls = lab.record().calls();
    calls.into_iter().rfind(|call| call.operation == operation).unwrap_or_else(|| panic!("no {operation} recorded"))
}
