//! The names of what the templates in `stacksets/` create. Code and templates agree here; the
//! end-to-end tests fail when they do not.

use crate::arn::Partition;
use crate::ids::{AccountId, ControlId, Region, RemediationId};

/// Append-only audit table in the administrator account.
pub const AUDIT_TABLE: &str = "RedressAuditLog";
/// Claims, chain heads, settings and the catalogue, in the administrator account.
pub const STATE_TABLE: &str = "RedressState";
/// The event bus that every account forwards to.
pub const HUB_BUS: &str = "redress-hub";
/// The rules of [`HUB_BUS`].
pub const HUB_RULES: [&str; 8] = [
    "redress-config",
    "redress-securityhub-imported",
    "redress-securityhub-custom-action",
    "redress-securityhub-imported-v2",
    "redress-guardduty",
    "redress-requests",
    "redress-completions",
    "redress-organizations",
];
/// The rules of the administrator account's default bus.
pub const DEFAULT_BUS_RULES: [&str; 3] = ["redress-forward-findings", "redress-reconcile", CHECKPOINT_RULE];
/// What the orchestrator reads.
pub const FINDINGS_QUEUE: &str = "redress-findings";
/// Findings that could not be handled, each with its reason.
pub const FINDINGS_DLQ: &str = "redress-findings-dlq";
/// What the completion function reads.
pub const COMPLETIONS_QUEUE: &str = "redress-completions";
/// Outcomes that could not be handled.
pub const COMPLETIONS_DLQ: &str = "redress-completions-dlq";
/// The function that signs, on a schedule, where all chains of the ledger end.
pub const CHECKPOINT_FUNCTION: &str = "redress-checkpoint";
/// The role of [`CHECKPOINT_FUNCTION`], and the only one that may sign.
pub const CHECKPOINT_ROLE: &str = "Redress-Checkpoint";
/// The rule that runs [`CHECKPOINT_FUNCTION`].
pub const CHECKPOINT_RULE: &str = "redress-checkpoint";
/// Runs of [`CHECKPOINT_FUNCTION`] that failed.
pub const CHECKPOINT_DLQ: &str = "redress-checkpoint-dlq";
/// Where people hear of remediations.
pub const NOTIFICATIONS_TOPIC: &str = "SecurityRemediationNotifications";
/// The role that the administrator account assumes in a member account, with an ExternalId.
pub const CROSS_ACCOUNT_ROLE: &str = "SecurityRemediationCrossAccountRole";
/// The orchestrator function, in the administrator account.
pub const ORCHESTRATOR_FUNCTION: &str = "redress-orchestrator";
/// The completion function, in the administrator account.
pub const COMPLETION_FUNCTION: &str = "redress-completion";
/// The operators' door: the function behind the URL that the `redress` command speaks to, in the administrator account.
pub const API_FUNCTION: &str = "redress-api";
/// The function that the workflow's steps run, in the administrator account.
pub const WORKFLOW_FUNCTION: &str = "redress-workflow";
/// The function that looks, on a schedule, for what was missed or is stuck.
pub const RECONCILER_FUNCTION: &str = "redress-reconciler";
/// The role of [`API_FUNCTION`].
pub const API_ROLE: &str = "Redress-Api";
/// The role of [`WORKFLOW_FUNCTION`].
pub const WORKFLOW_ROLE: &str = "Redress-Workflow";
/// Runs of [`RECONCILER_FUNCTION`] and events for it that could not be dealt with.
pub const RECONCILER_DLQ: &str = "redress-reconciler-dlq";
/// The role of [`RECONCILER_FUNCTION`].
pub const RECONCILER_ROLE: &str = "Redress-Reconciler";
/// The function that tells people where they are beside the topic: chats, pagers, tickets.
pub const NOTIFIER_FUNCTION: &str = "redress-notifier";
/// The role of [`NOTIFIER_FUNCTION`].
pub const NOTIFIER_ROLE: &str = "Redress-Notifier";
/// What [`NOTIFIER_FUNCTION`] reads: every message of [`NOTIFICATIONS_TOPIC`].
pub const NOTIFICATIONS_QUEUE: &str = "redress-notifications";
/// Messages that a destination refused, each with the destination and the reason.
pub const NOTIFICATIONS_DLQ: &str = "redress-notifications-dlq";
/// The Step Functions state machine for what needs an approval, or takes long.
pub const WORKFLOW_STATE_MACHINE: &str = "Redress-Workflow";
/// The role of [`WORKFLOW_STATE_MACHINE`].
pub const STATE_MACHINE_ROLE: &str = "Redress-State-Machine";
/// Findings that wait: for a free place in their account and Region, or for their campaign.
pub const BACKLOG_TABLE: &str = "RedressBacklog";
/// Messages that were redriven too often, each with its reason.
pub const PARKED_QUEUE: &str = "redress-parked";
/// The member function that looks, before a change, at what the change would touch.
pub const GUARD_FUNCTION: &str = "redress-guard";
/// The role of [`GUARD_FUNCTION`].
pub const GUARD_ROLE: &str = "Redress-Guard";
/// The role with which RDS writes metrics of databases.
pub const RDS_MONITORING_ROLE: &str = "Redress-RdsMonitoring";
/// The role of [`ORCHESTRATOR_FUNCTION`].
pub const ORCHESTRATOR_ROLE: &str = "Redress-Orchestrator";
/// The role of [`COMPLETION_FUNCTION`].
pub const COMPLETION_ROLE: &str = "Redress-Completion";
/// The role, in the administrator account, that people use the `redress` command with.
pub const OPERATOR_ROLE: &str = "Redress-Operator";
/// The role, in the administrator account, of people who answer questions and change nothing else.
pub const APPROVER_ROLE: &str = "Redress-Approver";
/// The role, in the administrator account, of people who read everything and change nothing.
pub const AUDITOR_ROLE: &str = "Redress-Auditor";
/// The role, in a member account, with which people read evidence; asks for the ExternalId.
pub const EVIDENCE_READER_ROLE: &str = "Redress-Evidence-Reader";
/// The role with which EventBridge forwards to [`HUB_BUS`].
pub const EVENT_FORWARDER_ROLE: &str = "Redress-Event-Forwarder";
/// The role that the control runbook runs as.
pub const CONTROL_ROLE: &str = "Redress-Control";
/// The one control runbook.
pub const CONTROL_DOCUMENT: &str = "Redress-Control";
/// The member function that stores pre-images and outcomes.
pub const RECORDER_FUNCTION: &str = "redress-recorder";
/// The member function that runs the native controls.
pub const REMEDIATE_FUNCTION: &str = "redress-remediate";
/// The role of [`RECORDER_FUNCTION`].
pub const RECORDER_ROLE: &str = "Redress-Recorder";
/// The role of [`REMEDIATE_FUNCTION`].
pub const REMEDIATE_ROLE: &str = "Redress-Remediate";
/// The start of the managed policies of [`REMEDIATE_ROLE`] that say what the native controls may call; a number follows.
pub const NATIVE_POLICY: &str = "Redress-Native-";
/// The member function that runs the native controls that destroy, which [`destroys`] knows. It is [`REMEDIATE_FUNCTION`]'s
/// package with another name and another role.
pub const DESTROY_FUNCTION: &str = "redress-destroy";
/// The role of [`DESTROY_FUNCTION`].
pub const DESTROY_ROLE: &str = "Redress-Destroy";
/// The start of the managed policies of [`DESTROY_ROLE`] that say what the native controls that destroy may call; a number
/// follows.
pub const DESTROY_POLICY: &str = "Redress-Destroy-";
/// Alias of the administrator account's key.
pub const ADMINISTRATOR_KEY_ALIAS: &str = "alias/redress";
/// Alias of the member's key.
pub const MEMBER_KEY_ALIAS: &str = "alias/redress-member";
/// Alias of the key that signs checkpoints of the ledger, in the administrator account.
pub const CHECKPOINT_KEY_ALIAS: &str = "alias/redress-checkpoints";
/// The `source` of every event that Redress itself puts on a bus.
pub const EVENT_SOURCE: &str = "redress";
/// The `detail-type` with which the command line asks for an undo.
pub const UNDO_DETAIL_TYPE: &str = "Redress Undo Requested";
/// The `detail-type` with which the command line asks for a remediation or a dry run of a finding.
pub const REMEDIATE_DETAIL_TYPE: &str = "Redress Remediation Requested";
/// The `detail-type` of a finding that waited for a free place in its account and Region.
pub const WAITED_DETAIL_TYPE: &str = "Redress Finding Released";
/// The `detail-type` of a finding that a campaign releases.
pub const CAMPAIGN_DETAIL_TYPE: &str = "Redress Campaign Released";
/// The Security Hub custom action that asks to fix a finding. Its id; the ARN ends in it.
pub const ACTION_REMEDIATE: &str = "RedressRemediate";
/// The custom action that asks what fixing would change.
pub const ACTION_DRY_RUN: &str = "RedressDryRun";
/// The custom action that asks to put back what was changed.
pub const ACTION_UNDO: &str = "RedressUndo";
/// The custom action that asks to contain a resource.
pub const ACTION_CONTAIN: &str = "RedressContain";
/// The custom action that tells those on call of a finding at once.
pub const ACTION_ESCALATE: &str = "RedressEscalate";
/// The `detail-type` of how a playbook ended, on the completions queue. It comes from the function that invoked it.
pub const CONTAINED_DETAIL_TYPE: &str = "Redress Containment Ended";
/// The custom actions of Security Hub: id, name in the console, description.
pub const ACTIONS: [(&str, &str, &str); 5] = [
    (ACTION_REMEDIATE, "Redress: fix", "Fix the chosen findings with Redress"),
    (ACTION_DRY_RUN, "Redress: dry run", "Show what Redress would change"),
    (ACTION_UNDO, "Redress: undo", "Put back what Redress changed last"),
    (ACTION_CONTAIN, "Redress: contain", "Contain the resource of the chosen findings"),
    (ACTION_ESCALATE, "Redress: escalate", "Tell those on call at once; nothing is changed"),
];
/// Every session that Redress opens in a member account starts with this; the loop guard looks for it.
pub const SESSION_PREFIX: &str = "redress-";

/// The remediation runbook of a control.
#[must_use]
pub fn control_document(control: &ControlId) -> String {
    format!("Redress-{control}")
}

/// Service families of few controls that share an execution role and a template of runbooks: an account has at most 30
/// roles of Redress.
const SHARED: [(&str, &[&str]); 6] = [
    ("Analytics", &["Athena", "EMR", "ES", "Kinesis", "Redshift"]),
    ("Audit", &["Account", "CloudTrail", "CloudWatch", "Config", "GuardDuty", "Macie"]),
    ("Containers", &["ECR", "ECS", "EKS"]),
    ("Delivery", &["ACM", "APIGateway", "CloudFront"]),
    ("Deployment", &["AutoScaling", "CloudFormation", "CodeBuild", "ElasticBeanstalk"]),
    ("Messaging", &["SNS", "SQS", "StepFunctions"]),
];

/// Service families that share an execution role, though each has a template of runbooks: an account has at most 30 roles of
/// Redress. The controls of `Native` are all native: their runbooks invoke [`REMEDIATE_FUNCTION`] and may do nothing else, so
/// that one role for them all is no wider than one for each. Those of `NoSQL` are two small families.
const SHARED_ROLES: [(&str, &[&str]); 2] = [
    ("Native", &["Delivery", "Deployment", "IAM", "Messaging", "SecretsManager", "Tag"]),
    ("NoSQL", &["DynamoDB", "ElastiCache"]),
];

/// The family of the controls that destroy what incident response contained. Policy alone never has one done: a person asks,
/// and another one approves.
pub const DESTROY: &str = "Destroy";

/// Controls of other families that ask for the rights of [`DESTROY`]'s: to terminate an instance, or to delete a key.
const DESTROYING: [&str; 1] = ["EC2.4"];

/// Whether a control destroys: [`DESTROY_FUNCTION`] does it, and its runbook runs as the one role that may invoke that.
#[must_use]
pub fn destroys(control: &ControlId) -> bool {
    control.family() == DESTROY || DESTROYING.contains(&control.as_str())
}

/// The member's function that does a native control.
#[must_use]
pub fn native_function(control: &ControlId) -> &'static str {
    if destroys(control) { DESTROY_FUNCTION } else { REMEDIATE_FUNCTION }
}

/// The member's functions that run playbooks: what their names and their roles' names end in, and the resources of each. A
/// role has the rights of its resources' playbooks only.
pub const CONTAIN: [(&str, &[&str]); 4] = [
    ("Compute", &["AWS::EKS::", "AWS::Lambda::", "Kubernetes::"]),
    ("Data", &["AWS::RDS::", "AWS::S3::"]),
    ("EC2", &["AWS::EC2::"]),
    ("IAM", &["AWS::IAM::"]),
];

/// Which of [`CONTAIN`] a playbook of this resource type belongs to.
#[must_use]
pub fn contain_family(resource_type: &str) -> Option<&'static str> {
    let is_of = |(_, services): &&(&str, &[&str])| services.iter().any(|service| resource_type.starts_with(service));
    CONTAIN.iter().find(is_of).map(|(family, _)| *family)
}

/// The function that runs the playbooks of one of [`CONTAIN`].
#[must_use]
pub fn contain_function(family: &str) -> String {
    format!("redress-contain-{}", family.to_ascii_lowercase())
}

/// Its role.
#[must_use]
pub fn contain_role(family: &str) -> String {
    format!("Redress-Contain-{family}")
}

/// The service family of a control, as its template is named, and most often its role: `S3`.
#[must_use]
pub fn family(control: &ControlId) -> &str {
    let shared = SHARED.iter().find(|(_, families)| families.contains(&control.family()));
    shared.map_or_else(|| control.family(), |(name, _)| name)
}

/// The execution role of a control's service family, such as `Redress-Remediate-S3`; of whatever destroys, that of
/// [`DESTROY`].
#[must_use]
pub fn family_role(control: &ControlId) -> String {
    let family = if destroys(control) { DESTROY } else { family(control) };
    let shared = SHARED_ROLES.iter().find(|(_, families)| families.contains(&family));
    format!("Redress-Remediate-{}", shared.map_or(family, |(name, _)| *name))
}

/// A role ARN in an account.
#[must_use]
pub fn role_arn(partition: Partition, account: &AccountId, role: &str) -> String {
    format!("arn:{partition}:iam::{account}:role/{role}")
}

/// The member's evidence bucket. One an account, in its home region.
#[must_use]
pub fn evidence_bucket(account: &AccountId, home: &Region) -> String {
    format!("security-remediation-logs-{account}-{home}")
}

/// What the names of the buckets with the functions' packages begin with; a Region follows. They belong to the account that
/// deploys.
#[must_use]
pub fn artifact_bucket_prefix(administrator: &AccountId) -> String {
    format!("redress-artifacts-{administrator}")
}

/// The bucket with the functions' packages in a Region: Lambda takes them from the function's own Region only.
#[must_use]
pub fn artifact_bucket(administrator: &AccountId, region: &Region) -> String {
    format!("{}-{region}", artifact_bucket_prefix(administrator))
}

/// The bucket of the threat list, in the administrator account and the members' home region.
#[must_use]
pub fn threat_bucket(administrator: &AccountId, home: &Region) -> String {
    format!("redress-threat-intelligence-{administrator}-{home}")
}

/// The bucket of the ledger's checkpoints, in the administrator account and the hub's Region.
#[must_use]
pub fn checkpoint_bucket(administrator: &AccountId, region: &Region) -> String {
    format!("redress-checkpoints-{administrator}-{region}")
}

/// Where a remediation's evidence lies in that bucket; the day is the day of the claim (UTC).
#[must_use]
pub fn evidence_key(id: RemediationId, claimed: jiff::Timestamp) -> String {
    let day = claimed.to_zoned(jiff::tz::TimeZone::UTC);
    format!("year={:04}/month={:02}/day={:02}/remediation-{id}.json", day.year(), day.month(), day.day())
}

/// The name of the session that the orchestrator opens in a member account for a remediation.
#[must_use]
pub fn session_name(id: RemediationId) -> String {
    format!("{SESSION_PREFIX}{id}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn id() -> RemediationId {
        "5f0d0c1e-7c6e-5c53-9d35-7f3f6c1f6a43".parse().unwrap()
    }

    #[test]
    fn evidence_lies_under_the_day_of_its_claim_in_utc() {
        let claimed = "2026-03-01T23:30:00-05:00".parse().unwrap();
        assert_eq!(
            evidence_key(id(), claimed),
            "year=2026/month=03/day=02/remediation-5f0d0c1e-7c6e-5c53-9d35-7f3f6c1f6a43.json"
        );
    }

    #[test]
    fn names_keep_within_the_limits_of_their_services() {
        let session = session_name(id());
        assert!(session.starts_with(SESSION_PREFIX) && session.len() <= 64);
        let bucket = evidence_bucket(&"111122223333".parse().unwrap(), &"ap-southeast-3".parse().unwrap());
        assert_eq!(bucket, "security-remediation-logs-111122223333-ap-southeast-3");
        assert!(bucket.len() <= 63);
        let bucket = checkpoint_bucket(&"111122223333".parse().unwrap(), &"ap-southeast-3".parse().unwrap());
        assert_eq!(bucket, "redress-checkpoints-111122223333-ap-southeast-3");
    }

    #[test]
    fn a_control_names_its_document_and_its_family_its_role() {
        let control = "EC2.13".parse().unwrap();
        assert_eq!(control_document(&control), "Redress-EC2.13");
        assert_eq!(family_role(&control), "Redress-Remediate-EC2");
        for (control, family, role) in [
            ("IAM.7", "IAM", "Redress-Remediate-Native"),
            ("DynamoDB.2", "DynamoDB", "Redress-Remediate-NoSQL"),
            ("ElastiCache.2", "ElastiCache", "Redress-Remediate-NoSQL"),
        ] {
            let control = control.parse().unwrap();
            assert_eq!((super::family(&control), family_role(&control).as_str()), (family, role));
            assert_eq!(native_function(&control), REMEDIATE_FUNCTION);
        }
        let role = role_arn(Partition::UsGov, &"111122223333".parse().unwrap(), CROSS_ACCOUNT_ROLE);
        assert_eq!(role, "arn:aws-us-gov:iam::111122223333:role/SecurityRemediationCrossAccountRole");
    }

    #[test]
    fn what_destroys_has_a_function_and_a_runbooks_role_of_its_own_and_stays_in_the_template_of_its_family() {
        for (control, family) in
            [("Destroy.EC2Instance", "Destroy"), ("Destroy.IAMUserKeys", "Destroy"), ("EC2.4", "EC2")]
        {
            let control = control.parse().unwrap();
            assert_eq!((super::family(&control), native_function(&control)), (family, DESTROY_FUNCTION));
            assert_eq!(family_role(&control), "Redress-Remediate-Destroy");
        }
        for other in ["EC2.40", "EC2.3", "IAM.22", "SecretsManager.3"] {
            let other = other.parse().unwrap();
            assert!(!destroys(&other) && family_role(&other) != "Redress-Remediate-Destroy");
        }
    }
}
