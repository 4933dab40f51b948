//! The playbooks: what contains a compromised resource, and gives it back.
//!
//! A playbook is a [`crate::native::Native`] like any other; what differs is who calls it. The administrator account invokes
//! the function directly, since an attacker does not wait for a runbook. One file a playbook, with its control file in
//! `ssm-documents/playbooks/`. None of them destroys anything.

use crate::native::Declared;

pub(crate) mod deny;
mod ec2_evidence;
pub mod ec2_instance;
pub mod eks_cluster;
pub mod iam_role;
pub mod iam_user;
mod kubernetes;
pub mod lambda_function;
mod quarantine;
pub mod rds_instance;
pub mod rds_snapshot;
pub mod s3_bucket;
mod s3_evidence;

/// Every playbook.
pub const PLAYBOOKS: &[Declared] = &[
    ec2_instance::DECLARED,
    eks_cluster::DECLARED,
    iam_role::DECLARED,
    iam_user::DECLARED,
    lambda_function::DECLARED,
    rds_instance::DECLARED,
    rds_snapshot::DECLARED,
    s3_bucket::DECLARED,
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::PLAYBOOKS;

    /// What a file grants is what its playbook says that it calls: nothing is missing, and nothing is unused.
    #[test]
    fn each_file_grants_what_its_playbook_calls() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssm-documents/playbooks");
        let mut granted: BTreeMap<String, Vec<(String, BTreeSet<String>)>> = BTreeMap::new();
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let native = text.lines().find_map(|line| line.strip_prefix("native: ")).unwrap().to_owned();
            let calls = text.split_once("\ncalls:\n").unwrap().1.lines();
            let actions = calls.take_while(|line| line.starts_with(' ')).filter_map(|line| {
                let (action, _) = line.strip_prefix("  ")?.split_once(": ")?;
                action.contains(':').then(|| action.to_owned())
            });
            granted.entry(native).or_default().push((file.display().to_string(), actions.collect()));
        }
        for playbook in PLAYBOOKS {
            let declared: BTreeSet<String> =
                playbook.reads.iter().chain(playbook.changes).map(ToString::to_string).collect();
            for (file, actions) in granted.get(playbook.name).expect(playbook.name) {
                assert_eq!(*actions, declared, "{file}");
            }
        }
    }
}
