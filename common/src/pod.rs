//! A pod of a cluster of EKS as a resource. Pure.
//!
//! AWS has no ARN for what is in a cluster, and what is contained is known by one: its claim, its ledger records, its undo. So
//! a pod has one of ours, made of its cluster's: `arn:…:eks:REGION:ACCOUNT:pod/CLUSTER/NAMESPACE/POD`. AWS is never given it.

use crate::arn::Arn;

/// How a pod is called as a type of resource; CloudFormation knows none.
pub const KIND: &str = "Kubernetes::Pod";
/// What stands before the names in the ARN.
pub const PREFIX: &str = "pod/";
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
        let names = arn.resource().strip_prefix(PREFIX).filter(|_| arn.service() == "eks")?;
        let mut names = names.split('/');
        let found = Self { cluster: names.next()?, namespace: names.next()?, pod: names.next()? };
        (names.next().is_none() && found.is_sound()).then_some(found)
    }

    /// Whether these are names that EKS and Kubernetes take: they go into paths.
    fn is_sound(&self) -> bool {
        let is_cluster = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let is_object = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let object = |name: &str| {
            !name.is_empty() && name.len() <= LONGEST && name.chars().all(is_object) && !name.starts_with('.')
        };
        !self.cluster.is_empty() && self.cluster.chars().all(is_cluster) && object(self.namespace) && object(self.pod)
    }

    /// The ARN of a pod of the cluster with this ARN; `None` when a name is none that Kubernetes takes.
    #[must_use]
    pub fn arn(cluster: &Arn, namespace: &str, pod: &str) -> Option<Arn> {
        let name = cluster.resource().strip_prefix("cluster/").filter(|_| cluster.service() == "eks")?;
        let begin = cluster.as_str().strip_suffix(cluster.resource())?;
        let arn: Arn = format!("{begin}{PREFIX}{name}/{namespace}/{pod}").parse().ok()?;
        PodName::of(&arn).is_some().then_some(arn)
    }

    /// The ARN of the cluster that a pod is in.
    #[must_use]
    pub fn cluster(pod: &Arn) -> Option<Arn> {
        let begin = pod.as_str().strip_suffix(pod.resource())?;
        format!("{begin}cluster/{}", PodName::of(pod)?.cluster).parse().ok()
    }
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
        assert_eq!(PodName::cluster(&pod), Some(cluster));
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

    proptest! {
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
