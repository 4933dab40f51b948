//! What functions call something on: a symbolic name, the services whose actions are for it, and how a template says it.

/// Something that is called.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in the files of calls.
    pub name: &'static str,
    /// The service whose actions are for it, as IAM calls it; `None` for any.
    pub service: Option<&'static str>,
    /// Its ARN.
    pub arn: Expression,
}

/// How a template says an ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expression {
    /// `!Ref` of a parameter.
    Parameter(&'static str),
    /// `!GetAtt ….Arn` of a resource.
    Resource(&'static str),
    /// `!Sub`.
    Text(&'static str),
    /// `*`.
    Everything,
}

/// What IAM cannot limit to a resource. Who calls something on it says why.
pub const EVERYTHING: &str = "everything";

const fn target(name: &'static str, service: &'static str, arn: Expression) -> Target {
    Target { name, service: Some(service), arn }
}

use Expression::{Everything, Parameter, Resource, Text};

/// Every one, of both accounts. Which of them a template has is looked up there.
const TARGETS: &[Target] = &[
    Target { name: EVERYTHING, service: None, arn: Everything },
    // The administrator account's.
    target("audit-table", "dynamodb", Parameter("AuditTableArn")),
    target("audit-table-account-index", "dynamodb", Text("${AuditTableArn}/index/AccountId-Timestamp-index")),
    target("audit-table-resource-index", "dynamodb", Text("${AuditTableArn}/index/ResourceId-Timestamp-index")),
    target("backlog-table", "dynamodb", Parameter("BacklogTableArn")),
    target("state-table", "dynamodb", Parameter("StateTableArn")),
    target("state-table-open-index", "dynamodb", Text("${StateTableArn}/index/Open-LeaseUntil-index")),
    target("findings-queue", "sqs", Parameter("FindingsArn")),
    target("findings-dead-letters", "sqs", Parameter("FindingsDeadLettersArn")),
    target("completions-queue", "sqs", Parameter("CompletionsArn")),
    target("completions-dead-letters", "sqs", Parameter("CompletionsDeadLettersArn")),
    target("notifications-queue", "sqs", Parameter("NotificationsQueueArn")),
    target("notifications-dead-letters", "sqs", Parameter("NotificationsDeadLettersArn")),
    target("reconciler-dead-letters", "sqs", Resource("ReconcilerDeadLetters")),
    target("checkpoint-dead-letters", "sqs", Resource("CheckpointDeadLetters")),
    target("checkpoint-key", "kms", Parameter("CheckpointKeyArn")),
    target("checkpoint-bucket", "s3", Parameter("CheckpointBucketArn")),
    target("checkpoints", "s3", Text("${CheckpointBucketArn}/checkpoints/*")),
    target("parked-queue", "sqs", Parameter("ParkedArn")),
    target("topic", "sns", Parameter("NotificationsTopicArn")),
    target("hub-bus", "events", Parameter("HubBusArn")),
    target("workflow", "states", Parameter("WorkflowMachineArn")),
    // The state machine needs the role of its function, which therefore cannot refer to it.
    target(
        "workflow-by-name",
        "states",
        Text("arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:Redress-Workflow"),
    ),
    target(
        "notify-secrets",
        "secretsmanager",
        Text("arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:redress/notify/*"),
    ),
    target(
        "security-hub",
        "securityhub",
        Text("arn:${AWS::Partition}:securityhub:${AWS::Region}:${AWS::AccountId}:hub/default"),
    ),
    target(
        "security-hub-of-every-region",
        "securityhub",
        Text("arn:${AWS::Partition}:securityhub:*:${AWS::AccountId}:hub/default"),
    ),
    target("change-calendars", "ssm", Text("arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:document/*")),
    target(
        "config-aggregators",
        "config",
        Text("arn:${AWS::Partition}:config:${AWS::Region}:${AWS::AccountId}:config-aggregator/*"),
    ),
    target("cross-account-roles", "sts", Text("arn:${AWS::Partition}:iam::*:role/SecurityRemediationCrossAccountRole")),
    // A member account's.
    target(
        "evidence",
        "s3",
        Text("arn:${AWS::Partition}:s3:::security-remediation-logs-${AWS::AccountId}-${AWS::Region}/*"),
    ),
    target(
        "evidence-bucket",
        "s3",
        Text("arn:${AWS::Partition}:s3:::security-remediation-logs-${AWS::AccountId}-${AWS::Region}"),
    ),
    target(
        "incidents",
        "s3",
        Text("arn:${AWS::Partition}:s3:::security-remediation-logs-${AWS::AccountId}-${AWS::Region}/incidents/*"),
    ),
    target("evidence-key", "kms", Resource("Key")),
    target(
        "threat-list",
        "s3",
        Text("arn:${AWS::Partition}:s3:::redress-threat-intelligence-${AdministratorAccountId}-${AWS::Region}"),
    ),
    target(
        "threat-list-objects",
        "s3",
        Text("arn:${AWS::Partition}:s3:::redress-threat-intelligence-${AdministratorAccountId}-${AWS::Region}/list.*"),
    ),
    target("buckets", "s3", Text("arn:${AWS::Partition}:s3:::*")),
    target("databases", "rds", Text("arn:${AWS::Partition}:rds:*:${AWS::AccountId}:db:*")),
    target("functions", "lambda", Text("arn:${AWS::Partition}:lambda:*:${AWS::AccountId}:function:*")),
    // Systems Manager sends them commands.
    target("instances", "ssm", Text("arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:instance/*")),
    target("keys", "kms", Text("arn:${AWS::Partition}:kms:*:${AWS::AccountId}:key/*")),
    target(
        "memory-capture-document",
        "ssm",
        Text("arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:document/${MemoryCaptureDocument}"),
    ),
    target("stacks", "cloudformation", Text("arn:${AWS::Partition}:cloudformation:*:${AWS::AccountId}:stack/*")),
    target("policies", "iam", Text("arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/*")),
    target("roles", "iam", Text("arn:${AWS::Partition}:iam::${AWS::AccountId}:role/*")),
    target("users", "iam", Text("arn:${AWS::Partition}:iam::${AWS::AccountId}:user/*")),
    target("redress-roles", "iam", Text("arn:${AWS::Partition}:iam::${AWS::AccountId}:role/Redress-*")),
    target(
        "cross-account-role",
        "iam",
        Text("arn:${AWS::Partition}:iam::${AWS::AccountId}:role/SecurityRemediationCrossAccountRole"),
    ),
];

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// All names, in order.
pub fn known() -> Vec<&'static str> {
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    names
}

impl Expression {
    /// As a template writes it.
    #[must_use]
    pub fn written(self) -> String {
        match self {
            Parameter(name) => format!("!Ref {name}"),
            Resource(name) => format!("!GetAtt {name}.Arn"),
            Text(text) => format!("!Sub \"{text}\""),
            Everything => "\"*\"".to_owned(),
        }
    }

    /// The parameters and resources of the template that it speaks of; pseudo parameters are everywhere.
    #[must_use]
    pub fn speaks_of(self) -> Vec<&'static str> {
        match self {
            Parameter(name) | Resource(name) => vec![name],
            Text(text) => {
                let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
                names.filter(|name| !name.starts_with("AWS::")).collect()
            }
            Everything => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_has_a_name_of_its_own_and_says_something_of_its_own() {
        let names: BTreeSet<&str> = known().into_iter().collect();
        let said: BTreeSet<String> = TARGETS.iter().map(|target| target.arn.written()).collect();
        assert_eq!((names.len(), said.len()), (TARGETS.len(), TARGETS.len()));
    }

    #[test]
    fn an_arn_names_its_service_and_no_partition() {
        for target in TARGETS {
            let Text(text) = target.arn else { continue };
            let Some(rest) = text.strip_prefix("arn:") else { continue };
            let parts: Vec<&str> = rest.splitn(3, ':').collect();
            let service = match (target.name, target.service) {
                // Roles are assumed by STS.
                (_, Some("sts")) => Some("iam"),
                ("instances", Some("ssm")) => Some("ec2"),
                (_, service) => service,
            };
            assert_eq!(parts.first(), Some(&"${AWS"), "{}", target.name);
            assert!(
                rest.starts_with(&format!("${{AWS::Partition}}:{}:", service.unwrap_or_default())),
                "{}",
                target.name
            );
        }
    }

    #[test]
    fn what_a_template_must_have_for_it_is_known() {
        let of = |name| find(name).map(|target| target.arn.speaks_of());
        assert_eq!(of("evidence-key"), Some(vec!["Key"]));
        assert_eq!(of("state-table-open-index"), Some(vec!["StateTableArn"]));
        assert_eq!(of("threat-list"), Some(vec!["AdministratorAccountId"]));
        assert_eq!(of("memory-capture-document"), Some(vec!["MemoryCaptureDocument"]));
        assert_eq!(of("evidence"), Some(Vec::new()));
    }
}
