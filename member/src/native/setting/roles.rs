//! Roles with which services of AWS write log events: made once an account, when one is first needed, and kept.
//!
//! Such a role can do nothing but write to the log groups that are named after it, and only its service can assume it. It
//! is no part of a resource's state, since others use it too.

use serde_json::{Value, json};

use super::super::policy_text::Policy;
use super::sdk::{CREATE_ROLE, GET_ROLE, GET_ROLE_POLICY, PUT_ROLE_POLICY};
use super::{Ask, Subject};
use crate::wire::Operation;

/// The name of its one policy.
const POLICY: &str = "logs";

/// A role of Redress's own for one service.
#[derive(Debug)]
pub(super) struct LogRole {
    pub(super) name: &'static str,
    /// What assumes it.
    pub(super) service: &'static str,
    /// What it may do.
    pub(super) actions: &'static [&'static str],
    /// With these log groups: what stands behind `log-group:`.
    pub(super) groups: &'static str,
}

/// SNS logs what became of messages.
pub(super) static TOPICS: LogRole = LogRole {
    name: "redress-sns-logs",
    service: "sns.amazonaws.com",
    actions: &[
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "logs:PutMetricFilter",
        "logs:PutRetentionPolicy",
    ],
    groups: "sns/*",
};

/// CloudTrail sends events to the log group of a trail.
pub(super) static TRAILS: LogRole = LogRole {
    name: "redress-cloudtrail-logs",
    service: "cloudtrail.amazonaws.com",
    actions: &["logs:CreateLogStream", "logs:PutLogEvents"],
    groups: "/redress/cloudtrail/*:log-stream:*",
};

impl LogRole {
    /// Its ARN.
    pub(super) fn arn(&self, subject: &Subject) -> String {
        format!("arn:{}:iam::{}:role/{}", subject.arn.partition(), subject.account(), self.name)
    }

    /// The reading call after those that were answered so far.
    pub(super) fn ask(&self, answers: &[Value]) -> Option<Ask> {
        let none = Some(("NoSuchEntity", ""));
        match answers {
            [] => {
                let input = json!({ "RoleName": self.name, "PolicyName": POLICY });
                Some(Ask { operation: &GET_ROLE_POLICY, input, none })
            }
            [Value::Null] => Some(Ask { operation: &GET_ROLE, input: json!({ "RoleName": self.name }), none }),
            _ => None,
        }
    }

    /// The calls that make what these answers lack.
    pub(super) fn make(&self, subject: &Subject, answers: &Value) -> Vec<(&'static Operation, Value)> {
        let mut calls = Vec::new();
        if !answers[0].is_null() {
            return calls;
        }
        if answers[1].is_null() {
            let trust =
                json!({ "Effect": "Allow", "Principal": { "Service": self.service }, "Action": "sts:AssumeRole" });
            let trust = Policy::of(&trust.to_string());
            calls.push((&CREATE_ROLE, json!({ "RoleName": self.name, "AssumeRolePolicyDocument": trust })));
        }
        let (partition, account) = (subject.arn.partition(), subject.account());
        let groups = format!("arn:{partition}:logs:*:{account}:log-group:{}", self.groups);
        let may = json!({ "Effect": "Allow", "Action": self.actions, "Resource": groups });
        let policy = Policy::of(&may.to_string());
        calls
            .push((&PUT_ROLE_POLICY, json!({ "RoleName": self.name, "PolicyName": POLICY, "PolicyDocument": policy })));
        calls
    }
}
