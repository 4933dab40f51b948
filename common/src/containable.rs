//! What must never be contained, and what a person can do instead: pure, and the same in both accounts.
//!
//! The names are whole names, never beginnings of names: whoever may make a role could else give it one that nobody contains.

use crate::arn::Arn;
use crate::eks::EntryName;
use crate::names;

/// Every role that Redress's templates make, in either account.
const OWN_ROLES: &[&str] = &[
    "Redress-Contain-Compute",
    "Redress-Contain-Data",
    "Redress-Contain-EC2",
    "Redress-Contain-IAM",
    "Redress-Flow-Logs",
    "Redress-Managed-Instance",
    "Redress-Remediate-Analytics",
    "Redress-Remediate-Audit",
    "Redress-Remediate-Containers",
    "Redress-Remediate-Destroy",
    "Redress-Remediate-EC2",
    "Redress-Remediate-ELB",
    "Redress-Remediate-KMS",
    "Redress-Remediate-Lambda",
    "Redress-Remediate-Native",
    "Redress-Remediate-NoSQL",
    "Redress-Remediate-RDS",
    "Redress-Remediate-S3",
    "Redress-Remediate-SSM",
    "redress-cloudtrail-logs",
    "redress-sns-logs",
    names::API_ROLE,
    names::APPROVER_ROLE,
    names::AUDITOR_ROLE,
    names::CHECKPOINT_ROLE,
    names::COMPLETION_ROLE,
    names::CONTROL_ROLE,
    names::CROSS_ACCOUNT_ROLE,
    names::DESTROY_ROLE,
    names::EVENT_FORWARDER_ROLE,
    names::EVIDENCE_READER_ROLE,
    names::GUARD_ROLE,
    names::NOTIFIER_ROLE,
    names::OPERATOR_ROLE,
    names::ORCHESTRATOR_ROLE,
    names::RDS_MONITORING_ROLE,
    names::RECONCILER_ROLE,
    names::RECORDER_ROLE,
    names::REMEDIATE_ROLE,
    names::STATE_MACHINE_ROLE,
    names::WORKFLOW_ROLE,
];

/// Every function of Redress, in either account.
const OWN_FUNCTIONS: &[&str] = &[
    "redress-contain-compute",
    "redress-contain-data",
    "redress-contain-ec2",
    "redress-contain-iam",
    names::API_FUNCTION,
    names::CHECKPOINT_FUNCTION,
    names::COMPLETION_FUNCTION,
    names::DESTROY_FUNCTION,
    names::GUARD_FUNCTION,
    names::NOTIFIER_FUNCTION,
    names::ORCHESTRATOR_FUNCTION,
    names::RECONCILER_FUNCTION,
    names::RECORDER_FUNCTION,
    names::REMEDIATE_FUNCTION,
    names::WORKFLOW_FUNCTION,
];

/// Whether a role of this name, in a member account, is one with which Redress changes resources: that of a family's runbooks,
/// of the native controls, of what destroys, or of playbooks.
#[must_use]
pub fn changes_resources(role: &str) -> bool {
    let is_of = |family: &str| role.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    OWN_ROLES.contains(&role) && [names::REMEDIATE_ROLE, names::DESTROY_ROLE, "Redress-Contain"].into_iter().any(is_of)
}

/// Why the resource with this ARN is not contained, and what to do instead; `None` when nothing forbids it.
#[must_use]
pub fn refusal(arn: &Arn) -> Option<&'static str> {
    let name = arn.resource().rsplit(['/', ':']).next().unwrap_or_default();
    let is_one_of = |names: &[&str]| names.iter().any(|own| own.eq_ignore_ascii_case(name));
    match (arn.service(), arn.resource()) {
        ("iam", "root") => Some(
            "no policy of an account binds its root user, and another account or a service of AWS is no principal of it: \
             end the root user's sessions by changing its password, delete its access keys, and look at CloudTrail",
        ),
        ("sts", resource) if resource.starts_with("federated-user/") => Some(
            "GuardDuty does not tell which user opened this federated session: find the call of GetFederationToken in \
             CloudTrail, and contain the user who made it",
        ),
        ("iam", resource) if resource.starts_with("role/aws-service-role/") => Some(
            "a service-linked role belongs to its service, which alone can change it: contain what made the service act",
        ),
        ("iam", resource) if resource.starts_with("role/aws-reserved/") => Some(
            "AWS keeps this role for itself, and IAM lets nobody change it: for a role of IAM Identity Center, end the \
             user's sessions there and remove the assignment",
        ),
        ("iam", resource) if resource.starts_with("role/") && is_one_of(OWN_ROLES) => Some(
            "it is a role of Redress, which contains and undoes by its roles: `redress off` stops it, and a person has to \
             look at this",
        ),
        ("eks", _) if EntryName::of(arn).is_some_and(|entry| is_own(&entry, arn)) => Some(
            "it is the access of a role of Redress, without which no pod of the cluster could be contained or given back: \
             `redress off` stops it, and a person has to look at this",
        ),
        ("lambda", _) if is_one_of(OWN_FUNCTIONS) => Some(
            "it is a function of Redress, without which nothing could be undone: `redress off` stops it, and a person has \
             to look at this",
        ),
        _ => None,
    }
}

/// Whether an access entry is that of a role of Redress. A role of such a name in another account is none.
fn is_own(entry: &EntryName<'_>, arn: &Arn) -> bool {
    entry.kind == "role"
        && arn.account() == Some(&entry.account)
        && OWN_ROLES.iter().any(|own| own.eq_ignore_ascii_case(entry.name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn refused(arn: &str) -> bool {
        refusal(&arn.parse().unwrap()).is_some()
    }

    #[test]
    fn what_no_policy_can_hold_or_what_is_ours_is_refused() {
        for arn in [
            "arn:aws:iam::111122223333:root",
            "arn:aws-cn:sts::111122223333:federated-user/ann",
            "arn:aws:iam::111122223333:role/aws-service-role/guardduty.amazonaws.com/AWSServiceRoleForAmazonGuardDuty",
            "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Admin_0123456789abcdef",
            "arn:aws-us-gov:iam::111122223333:role/Redress-Remediate-Native",
            "arn:aws:iam::111122223333:role/SecurityRemediationCrossAccountRole",
            "arn:aws:iam::111122223333:role/redress-remediate-native",
            "arn:aws:iam::111122223333:role/Redress-Contain-IAM",
            "arn:aws:iam::111122223333:role/Redress-Destroy",
            "arn:aws:lambda:eu-central-1:111122223333:function:redress-contain-iam",
            "arn:aws:lambda:eu-central-1:111122223333:function:redress-destroy",
            "arn:aws:eks:eu-central-1:111122223333:access-entry/prod/role/111122223333/Redress-Contain-Compute",
        ] {
            assert!(refused(arn), "{arn}");
        }
    }

    #[test]
    fn defect_16_nobody_escapes_by_the_name_that_he_chooses() {
        for arn in [
            "arn:aws:iam::111122223333:role/Redress-Remediate-Mine",
            "arn:aws:iam::111122223333:role/Redress-",
            "arn:aws:iam::111122223333:role/x/AWSServiceRoleForMine",
            "arn:aws:iam::111122223333:role/service-role/aws-service-role",
            "arn:aws:iam::111122223333:user/Redress-Remediate",
            "arn:aws:lambda:eu-central-1:111122223333:function:redress-mine",
            "arn:aws:eks:eu-central-1:111122223333:cluster/root",
            "arn:aws:eks:eu-central-1:111122223333:access-entry/prod/role/444455556666/Redress-Contain-Compute",
            "arn:aws:eks:eu-central-1:111122223333:access-entry/prod/user/111122223333/Redress-Contain-Compute",
        ] {
            assert!(!refused(arn), "{arn}");
        }
    }

    #[test]
    fn the_roles_that_change_resources_are_known_by_their_whole_names() {
        for role in ["Redress-Remediate", "Redress-Remediate-S3", "Redress-Destroy", "Redress-Contain-EC2"] {
            assert!(changes_resources(role), "{role}");
        }
        for role in ["Redress-Recorder", "Redress-Control", "Redress-Remediate-Mine", "redress-remediate", "Admin", ""]
        {
            assert!(!changes_resources(role), "{role}");
        }
        assert!(names::CONTAIN.iter().all(|(family, _)| changes_resources(&names::contain_role(family))));
    }

    /// The templates are read as text: a role that one of them makes and that is missing above fails this.
    #[test]
    fn every_role_of_the_templates_is_known() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../stacksets");
        let mut seen = 0;
        let folders = [root.clone(), root.join("administrator")];
        let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        for file in files.map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            // A property of a role is indented by six; a parameter that hands a name on by more.
            for name in text.lines().filter_map(|line| line.strip_prefix("      RoleName: ")) {
                assert!(OWN_ROLES.contains(&name), "role {name} of {} is missing in OWN_ROLES", file.display());
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
    }
}
