//! What is in a cluster of EKS, as resources: a pod, and what an IAM principal may do there. Pure.
//!
//! What is contained is known by its ARN: its claim, its ledger records, its undo.
//!
//! - AWS has no ARN for a pod, so it has one of ours, made of its cluster's: `arn:…:eks:REGION:ACCOUNT:pod/CLUSTER/NAMESPACE/POD`.
//!   AWS is never given it.
//! - An access entry's ends in an id that EKS made up, and that no finding tells: ours is AWS's without it,
//!   `arn:…:eks:REGION:ACCOUNT:access-entry/CLUSTER/role/ACCOUNT/ROLE` (or `user`). A cluster has one entry a principal, and an
//!   account one role of a name, whatever its path.

use uuid::Uuid;

use crate::arn::{Arn, Partition};
use crate::ids::AccountId;

/// How a pod is called as a type of resource; CloudFormation knows none.
pub const POD: &str = "Kubernetes::Pod";
/// What stands before the names in a pod's ARN.
pub const POD_PREFIX: &str = "pod/";
/// `CloudFormation`'s name of an access entry.
pub const ACCESS_ENTRY: &str = "AWS::EKS::AccessEntry";
/// What stands before the names in an access entry's ARN.
pub const ENTRY_PREFIX: &str = "access-entry/";
/// Kubernetes takes names of so many characters.
const LONGEST: usize = 253;

/// The names of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName<'a> {
    /// The cluster's.
    pub cluster: &'a str,
    /// The namespace's.
    pub namespace: &'a str,
    /// Its own.
    pub pod: &'a str,
}

impl<'a> PodName<'a> {
    /// What an ARN of ours names; `None` for any other.
    #[must_use]
    pub fn of(arn: &'a Arn) -> Option<Self> {
        let mut names = names(arn, POD_PREFIX)?.split('/');
        let found = Self { cluster: names.next()?, namespace: names.next()?, pod: names.next()? };
        (names.next().is_none() && found.is_sound()).then_some(found)
    }

    /// Whether these are names that EKS and Kubernetes take: they go into paths.
    fn is_sound(&self) -> bool {
        let is_object = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let object = |name: &str| {
            !name.is_empty() && name.len() <= LONGEST && name.chars().all(is_object) && !name.starts_with('.')
        };
        is_cluster(self.cluster) && object(self.namespace) && object(self.pod)
    }

    /// The ARN of a pod of the cluster with this ARN; `None` when a name is none that Kubernetes takes.
    #[must_use]
    pub fn arn(cluster: &Arn, namespace: &str, pod: &str) -> Option<Arn> {
        let arn = within(cluster, POD_PREFIX, &format!("{namespace}/{pod}"))?;
        PodName::of(&arn).is_some().then_some(arn)
    }
}

/// What an access entry is about: a cluster, and a user or a role of IAM. The principal may be another account's; the entry is
/// the cluster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// `role` or `user`.
    pub kind: &'a str,
    /// The principal's account.
    pub account: AccountId,
    /// The principal's name, without its path.
    pub name: &'a str,
}

impl<'a> EntryName<'a> {
    /// What an access entry's ARN names, AWS's or ours; `None` for any other.
    #[must_use]
    pub fn of(arn: &'a Arn) -> Option<Self> {
        let mut names: Vec<&str> = names(arn, ENTRY_PREFIX)?.split('/').collect();
        // A cluster, a kind, an account, a path perhaps, and a name; then, in AWS's, the id.
        if names.len() > 4 && names.last().is_some_and(|last| last.parse::<Uuid>().is_ok()) {
            names.pop();
        }
        let [cluster, kind, account, .., name] = names[..] else { return None };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        let is_sound = is_cluster(cluster)
            && ["role", "user"].contains(&kind)
            && (1..=64).contains(&name.len())
            && name.chars().all(is_name);
        is_sound.then_some(Self { cluster, kind, account: account.parse().ok()?, name })
    }

    /// The ARN, ours, of the entry that a principal has in the cluster with this ARN, if it has one. The principal is a user, a
    /// role, or a session of a role; `None` for any other, and for a service-linked role.
    #[must_use]
    pub fn arn(cluster: &Arn, principal: &Arn) -> Option<Arn> {
        let (kind, rest) = principal.resource().split_once('/')?;
        let (kind, name) = match (principal.service(), kind) {
            ("iam", "role" | "user") => (kind, rest.rsplit('/').next()?),
            ("sts", "assumed-role") => ("role", rest.split('/').next()?),
            _ => return None,
        };
        let arn = within(cluster, ENTRY_PREFIX, &format!("{kind}/{}/{name}", principal.account()?))?;
        EntryName::of(&arn).is_some().then_some(arn)
    }

    /// The same ARN as ours, when it is an access entry's.
    #[must_use]
    pub fn canonical(arn: &Arn) -> Option<Arn> {
        let EntryName { cluster, kind, account, name } = EntryName::of(arn)?;
        let begin = arn.as_str().strip_suffix(arn.resource())?;
        format!("{begin}{ENTRY_PREFIX}{cluster}/{kind}/{account}/{name}").parse().ok()
    }

    /// The principal's ARN, if it has no path.
    #[must_use]
    pub fn principal(&self, partition: Partition) -> String {
        let Self { kind, account, name, .. } = self;
        format!("arn:{partition}:iam::{account}:{kind}/{name}")
    }

    /// Whether the entry is this principal's, whatever its path.
    #[must_use]
    pub fn is_of(&self, principal: &Arn) -> bool {
        let resource = principal.resource().split_once('/');
        let named = resource.map(|(kind, rest)| (kind, rest.rsplit('/').next().unwrap_or_default()));
        principal.service() == "iam"
            && principal.account() == Some(&self.account)
            && named == Some((self.kind, self.name))
    }
}

/// The ARN of the cluster that a pod or an access entry is in; `None` for any other.
#[must_use]
pub fn cluster_of(arn: &Arn) -> Option<Arn> {
    let cluster = PodName::of(arn).map(|pod| pod.cluster).or_else(|| EntryName::of(arn).map(|entry| entry.cluster))?;
    let begin = arn.as_str().strip_suffix(arn.resource())?;
    format!("{begin}cluster/{cluster}").parse().ok()
}

fn is_cluster(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// What stands after the prefix in an ARN of EKS.
fn names<'a>(arn: &'a Arn, prefix: &str) -> Option<&'a str> {
    arn.resource().strip_prefix(prefix).filter(|_| arn.service() == "eks")
}

/// An ARN of ours, of something in a cluster.
fn within(cluster: &Arn, prefix: &str, names: &str) -> Option<Arn> {
    let name = cluster.resource().strip_prefix("cluster/").filter(|_| cluster.service() == "eks")?;
    let begin = cluster.as_str().strip_suffix(cluster.resource())?;
    format!("{begin}{prefix}{name}/{names}").parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: &str = "arn:aws-cn:eks:cn-north-1:111122223333:cluster/prod";

    #[test]
    fn a_pod_and_its_cluster_are_found_from_each_other() {
        let cluster: Arn = CLUSTER.parse().unwrap();
        let pod = PodName::arn(&cluster, "shop", "web-5d9c.1").unwrap();
        assert_eq!(pod.as_str(), "arn:aws-cn:eks:cn-north-1:111122223333:pod/prod/shop/web-5d9c.1");
        let names = PodName { cluster: "prod", namespace: "shop", pod: "web-5d9c.1" };
        assert_eq!(PodName::of(&pod), Some(names));
        assert_eq!(cluster_of(&pod), Some(cluster));
    }

    #[test]
    fn what_is_no_name_makes_no_arn() {
        let cluster: Arn = CLUSTER.parse().unwrap();
        for (namespace, pod) in
            [("", "web"), ("shop", ""), ("shop", "../nodes"), ("a/b", "web"), ("shop", "WEB"), ("shop", "a b")]
        {
            assert_eq!(PodName::arn(&cluster, namespace, pod), None, "{namespace}/{pod}");
        }
        for other in [CLUSTER, "arn:aws:eks:eu-central-1:111122223333:pod/prod/web", "arn:aws:s3:::pod/a/b/c"] {
            assert_eq!(PodName::of(&other.parse().unwrap()), None, "{other}");
        }
    }

    const ENTRY: &str = "arn:aws-cn:eks:cn-north-1:111122223333:access-entry/prod/role/111122223333/deploy";

    #[test]
    fn an_access_entry_is_found_from_whoever_it_lets_in() {
        let cluster: Arn = CLUSTER.parse().unwrap();
        for principal in [
            "arn:aws-cn:iam::111122223333:role/deploy",
            "arn:aws-cn:iam::111122223333:role/team/x/deploy",
            "arn:aws-cn:sts::111122223333:assumed-role/deploy/i-0123456789abcdef0",
        ] {
            let entry = EntryName::arn(&cluster, &principal.parse().unwrap()).unwrap();
            assert_eq!(entry.as_str(), ENTRY, "{principal}");
            assert_eq!(cluster_of(&entry), Some(cluster.clone()));
        }
        let other = EntryName::arn(&cluster, &"arn:aws-cn:iam::444455556666:user/jo".parse().unwrap()).unwrap();
        assert!(other.as_str().ends_with(":111122223333:access-entry/prod/user/444455556666/jo"), "{other}");
        for nobody in [
            "arn:aws-cn:iam::111122223333:root",
            "arn:aws-cn:sts::111122223333:federated-user/jo",
            "arn:aws-cn:iam::111122223333:group/ops",
            CLUSTER,
        ] {
            assert_eq!(EntryName::arn(&cluster, &nobody.parse().unwrap()), None, "{nobody}");
        }
    }

    #[test]
    fn the_arn_that_eks_tells_is_the_same_entry() {
        let id = "1c2d3e4f-5a6b-4c7d-8e9f-0a1b2c3d4e5f";
        for told in
            [ENTRY.to_owned(), format!("{ENTRY}/{id}"), format!("{}team/deploy/{id}", ENTRY.trim_end_matches("deploy"))]
        {
            let told: Arn = told.parse().unwrap();
            assert_eq!(EntryName::canonical(&told).unwrap().as_str(), ENTRY, "{told}");
            let name = EntryName::of(&told).unwrap();
            assert_eq!(name.principal(Partition::China), "arn:aws-cn:iam::111122223333:role/deploy");
            for (principal, is_its) in [
                ("arn:aws-cn:iam::111122223333:role/team/deploy", true),
                ("arn:aws-cn:iam::111122223333:user/deploy", false),
                ("arn:aws-cn:iam::444455556666:role/deploy", false),
                ("arn:aws-cn:iam::111122223333:role/deploy2", false),
            ] {
                assert_eq!(name.is_of(&principal.parse().unwrap()), is_its, "{principal}");
            }
        }
        for none in ["role/111122223333", "role/x/deploy", "group/111122223333/ops", "role/111122223333/a b"] {
            let arn = format!("arn:aws-cn:eks:cn-north-1:111122223333:access-entry/prod/{none}").parse().unwrap();
            assert_eq!(
                (EntryName::of(&arn), EntryName::canonical(&arn), cluster_of(&arn)),
                (None, None, None),
                "{none}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_entry_is_its_principals_or_none(name in "\\PC{0,12}", path in "(/[a-z]{1,3}){0,2}") {
            let cluster: Arn = CLUSTER.parse().unwrap();
            let principal: Result<Arn, _> = format!("arn:aws-cn:iam::444455556666:role{path}/{name}").parse();
            if let Some(arn) = principal.as_ref().ok().and_then(|principal| EntryName::arn(&cluster, principal)) {
                let entry = EntryName::of(&arn).unwrap();
                prop_assert!(entry.is_of(&principal.unwrap()));
                prop_assert_eq!(EntryName::canonical(&arn), Some(arn.clone()));
            }
        }

        #[test]
        fn names_come_back_whole_or_not_at_all(namespace in "\\PC{0,12}", pod in "\\PC{0,12}") {
            let cluster: Arn = CLUSTER.parse().unwrap();
            if let Some(arn) = PodName::arn(&cluster, &namespace, &pod) {
                let expected = PodName { cluster: "prod", namespace: &namespace, pod: &pod };
                prop_assert_eq!(PodName::of(&arn), Some(expected));
            }
        }
    }
}
