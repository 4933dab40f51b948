//! Whom a GuardDuty finding names besides its resource: the principal whose credentials were used, the instance that they
//! came from, and that instance's profile. They tie the findings of one incident together.
//!
//! Nothing is done to them because of it. Total and bounded: what is not understood, or is of another account, is passed
//! over, never an error. A key's id is not kept: its principal's ARN says more, and goes on when the key is gone.

use super::Resource;
use super::json::Node;
use crate::arn::{Arn, Partition};
use crate::ids::{AccountId, Region};

/// A finding carries no more.
const MAX_COUNT: usize = 8;
/// No ARN of a role or user is longer, in bytes: a path of 512 and a name of 64.
const MAX_LENGTH: usize = 700;

/// The actors of a finding about this resource, each once, in the order of the event.
pub(super) fn collect(detail: &Node<'_>, about: &Arn, account: &AccountId, region: &Region) -> Vec<Arn> {
    let resource = detail.get("resource");
    let sequence = detail.find(&["service", "detection", "sequence"]);
    let listed = |key| {
        let list = sequence.as_ref().and_then(|sequence| sequence.get(key));
        list.and_then(|list| list.items().ok()).unwrap_or_default()
    };
    let users = listed("actors").into_iter().filter_map(|actor| actor.get("user"));
    let users = users.filter_map(|user| principal(&user, ["type", "name"], account, region));
    let data = listed("resources").into_iter().filter_map(|resource| resource.get("data"));
    let data: Vec<Node<'_>> = data.collect();
    let keys = resource.iter().filter_map(|resource| resource.get("accessKeyDetails"));
    let keys: Vec<Node<'_>> = keys.chain(data.iter().filter_map(|data| data.get("accessKey"))).collect();
    let principals = keys.iter().filter_map(|key| principal(key, ["userType", "userName"], account, region));
    let sessions = keys.iter().filter_map(|key| session(key, account, region));
    let callers = resource.iter().filter_map(|resource| {
        let path = ["kubernetesDetails", "kubernetesUserDetails", "username"];
        behind(resource.find(&path)?.arn().ok()?)
    });
    let instances = resource.iter().filter_map(|resource| resource.get("instanceDetails"));
    let instances: Vec<Node<'_>> = instances.chain(data.iter().filter_map(|data| data.get("ec2Instance"))).collect();
    let ids = instances.iter().filter_map(|instance| {
        Resource::of_id("AWS::EC2::Instance", &instance.get("instanceId")?, account, region).ok().map(|it| it.arn)
    });
    let profiles = instances.iter().filter_map(|instance| instance.find(&["iamInstanceProfile", "arn"])?.arn().ok());
    within(principals.chain(callers).chain(users).chain(sessions).chain(ids).chain(profiles), about, account, region)
}

/// Those of a list that may be kept.
pub(super) fn within(
    list: impl IntoIterator<Item = Arn>,
    about: &Arn,
    account: &AccountId,
    region: &Region,
) -> Vec<Arn> {
    let mut found: Vec<Arn> = Vec::new();
    for arn in list {
        if found.len() < MAX_COUNT && arn != *about && !found.contains(&arn) && is_one(&arn, account, region) {
            found.push(arn);
        }
    }
    found
}

/// The role, user or federated session that is called so. An account or a service is no actor: it would tie together what has
/// nothing else in common.
fn principal(node: &Node<'_>, [kind, name]: [&str; 2], account: &AccountId, region: &Region) -> Option<Arn> {
    let kind = node.get_text(kind).ok().flatten()?;
    if !["IAMUser", "AssumedRole", "Role", "FederatedUser"].contains(&kind) {
        return None;
    }
    Resource::of_principal(kind, || node.need(name), account, region).ok().map(|principal| principal.arn)
}

/// The user or role whom the audit log of a cluster calls by this ARN: a session's is its role's.
fn behind(arn: Arn) -> Option<Arn> {
    match (arn.service(), arn.resource().split_once('/')?) {
        ("iam", _) => Some(arn),
        ("sts", ("assumed-role", session)) => {
            let role = session.split('/').next()?;
            format!("arn:{}:iam::{}:role/{role}", arn.partition(), arn.account()?).parse().ok()
        }
        _ => None,
    }
}

/// The instance whose session it is: EC2 calls the sessions of an instance's role by the instance. Whoever may assume the role
/// may call one so, too; that ties two findings together which name the same role, and does nothing else.
fn session(key: &Node<'_>, account: &AccountId, region: &Region) -> Option<Arn> {
    let (_, name) = key.get("principalId").and_then(|id| id.value().as_str()).and_then(|id| id.split_once(':'))?;
    let id = name.strip_prefix("i-")?;
    let is_id = (8..=17).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let arn = format!("arn:{}:ec2:{region}:{account}:instance/{name}", Partition::of_region(region));
    is_id.then(|| arn.parse().ok()).flatten()
}

/// Whether it is something of this account that acts, and fits into a list that spaces divide.
fn is_one(arn: &Arn, account: &AccountId, region: &Region) -> bool {
    let acts = ["iam", "sts", "ec2"].contains(&arn.service());
    let is_here = arn.account() == Some(account) && arn.region().is_none_or(|own| own == region);
    let is_plain = arn.as_str().len() <= MAX_LENGTH && arn.as_str().bytes().all(|byte| byte.is_ascii_graphic());
    acts && is_here && is_plain && arn.partition() == Partition::of_region(region)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ACCOUNT: &str = "111122223333";

    fn of(detail: &Value) -> Vec<String> {
        let about = "arn:aws:s3:::leaks".parse().unwrap();
        let (account, region) = (ACCOUNT.parse().unwrap(), "eu-central-1".parse().unwrap());
        collect(&Node::root(detail), &about, &account, &region).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_finding_about_a_bucket_names_the_role_and_the_instance_that_it_came_from() {
        let detail = json!({ "resource": {
            "resourceType": "S3Bucket",
            "accessKeyDetails": {
                "accessKeyId": "ASIAEXAMPLEEXAMPLE00", "principalId": "AROAEXAMPLE:i-0123456789abcdef0",
                "userType": "AssumedRole", "userName": "web",
            },
            "instanceDetails": {
                "instanceId": "i-0123456789abcdef0",
                "iamInstanceProfile": { "arn": "arn:aws:iam::111122223333:instance-profile/web", "id": "AIPAEXAMPLE" },
            },
        } });
        assert_eq!(
            of(&detail),
            [
                "arn:aws:iam::111122223333:role/web",
                "arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0",
                "arn:aws:iam::111122223333:instance-profile/web"
            ]
        );
    }

    #[test]
    fn who_called_the_api_of_a_cluster_is_an_actor() {
        for (username, wanted) in [
            ("arn:aws:sts::111122223333:assumed-role/deploy/jo", vec!["arn:aws:iam::111122223333:role/deploy"]),
            ("arn:aws:iam::111122223333:user/jo", vec!["arn:aws:iam::111122223333:user/jo"]),
            ("arn:aws:iam::444455556666:user/jo", vec![]),
            ("arn:aws:ec2:eu-central-1:111122223333:instance/i-0abc", vec![]),
            ("system:anonymous", vec![]),
        ] {
            let user = json!({ "kubernetesUserDetails": { "username": username } });
            assert_eq!(of(&json!({ "resource": { "kubernetesDetails": user } })), wanted, "{username}");
        }
    }

    #[test]
    fn an_attack_sequence_names_its_actors_and_the_principals_of_its_resources() {
        let detail = json!({ "service": { "detection": { "sequence": {
            "actors": [
                { "id": "1", "user": { "type": "IAMUser", "name": "jo", "uid": "AIDAEXAMPLE", "credentialUid": "AKIAEXAMPLE" } },
                { "id": "2", "user": { "type": "Root", "name": "root" } },
            ],
            "resources": [
                { "data": { "accessKey": { "userType": "AssumedRole", "userName": "web", "principalId": "AROAEXAMPLE:i-0abc" } } },
                { "data": { "ec2Instance": { "iamInstanceProfile": { "arn": "arn:aws:iam::111122223333:instance-profile/web" } } } },
            ],
        } } } });
        assert_eq!(
            of(&detail),
            [
                "arn:aws:iam::111122223333:role/web",
                "arn:aws:iam::111122223333:user/jo",
                "arn:aws:iam::111122223333:instance-profile/web"
            ]
        );
    }

    #[test]
    fn what_is_foreign_hostile_or_no_actor_is_passed_over() {
        for resource in [
            json!({ "accessKeyDetails": { "userType": "AWSAccount", "userName": "x" } }),
            json!({ "accessKeyDetails": { "userType": "IAMUser", "userName": "a b\nc" } }),
            json!({ "accessKeyDetails": { "userType": "IAMUser", "userName": "arn:aws:s3:::leaks" } }),
            json!({ "accessKeyDetails": { "userType": "IAMUser", "userName": "a".repeat(800) } }),
            json!({ "instanceDetails": { "iamInstanceProfile": { "arn": "arn:aws:iam::444455556666:instance-profile/web" } } }),
            json!({ "accessKeyDetails": { "principalId": "AROAEXAMPLE:i-../../root" } }),
            json!({ "instanceDetails": 7, "accessKeyDetails": [] }),
            json!("i-0abc"),
        ] {
            assert_eq!(of(&json!({ "resource": resource })), Vec::<String>::new(), "{resource}");
        }
        let actors: Vec<Value> =
            (0..100).map(|n| json!({ "user": { "type": "IAMUser", "name": format!("u{n}") } })).collect();
        let detail = json!({ "service": { "detection": { "sequence": { "actors": actors } } } });
        assert_eq!(of(&detail).len(), MAX_COUNT);
    }

    proptest! {
        #[test]
        fn whatever_is_told_the_actors_are_few_short_and_of_the_account(
            kind in "IAMUser|AssumedRole|FederatedUser|Root|.{0,9}", name in any::<String>(), id in "(AROA:)?i-[0-9a-f]{0,20}|.{0,30}",
            profile in "arn:aws:iam::(111122223333|444455556666):instance-profile/.{0,9}",
        ) {
            let detail = json!({ "resource": {
                "accessKeyDetails": { "userType": kind, "userName": name, "principalId": id },
                "instanceDetails": { "instanceId": id, "iamInstanceProfile": { "arn": profile } },
            } });
            let found = of(&detail);
            prop_assert!(found.len() <= MAX_COUNT);
            for arn in found {
                prop_assert!(arn.len() <= MAX_LENGTH && !arn.contains(' ') && arn.contains(":111122223333:"), "{}", arn);
            }
        }
    }
}
