//! What can be played: one table. A row says what is broken, what the players are told, and when the way back is complete.
//!
//! Data, and no more: what a break does in the lab is in [`super::stage`], whether a point holds in [`super::judge`].

use redress_common::names;
use redress_common::state::State;
use redress_lab::scenario;
use serde::{Deserialize, Serialize};

use crate::deploy::doctor::CheckId;

/// A game day.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What the players start from. `{account}`, `{arn}` and `{name}` are filled in: where it is played, and what was broken
    /// there first.
    pub(crate) told: &'static str,
    /// In which member account, counted from the first; a lab of fewer goes round.
    pub(crate) member: usize,
    /// What is broken, in this order.
    pub(crate) breaks: &'static [Break],
    /// Where the ledger must stand before what the players are told is so.
    pub(crate) until: Option<State>,
    /// When the way back is complete.
    pub(crate) done: &'static [Point],
    /// The commands that it takes.
    pub(crate) teaches: &'static str,
    /// Where it is written about.
    pub(crate) docs: &'static str,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Break {
    /// The role that the administrator enters by trusts another account.
    Trust,
    /// As `redress lab break` does.
    Lab(&'static str),
    /// The key of the evidence is to be deleted.
    Key,
    /// The bucket of the evidence keeps no versions.
    Versions,
    /// Nobody hears the topic.
    Subscriptions,
    /// A resource is made, and GuardDuty reports it.
    Report {
        resource: Resource,
        /// GuardDuty's type.
        kind: &'static str,
        /// From 7 on, Redress contains it by itself.
        severity: f64,
    },
}

impl Break {
    /// In words, for whoever is not a player.
    pub(crate) fn says(self) -> String {
        match self {
            Self::Trust => format!(
                "the trust policy of {} lets in another account, and asks for no ExternalId",
                names::CROSS_ACCOUNT_ROLE
            ),
            Self::Lab(name) => {
                let known = scenario::list().iter().find(|scenario| scenario.name == name);
                format!("redress lab break {name}: {}", known.map_or("", |scenario| scenario.title))
            }
            Self::Key => format!("the key {} is scheduled for deletion", names::MEMBER_KEY_ALIAS),
            Self::Versions => "the bucket of the evidence keeps no versions any more".to_owned(),
            Self::Subscriptions => format!("nobody is subscribed to the topic {} any more", names::NOTIFICATIONS_TOPIC),
            Self::Report { resource, kind, severity } => {
                format!("an {} is made, and GuardDuty reports {kind} of it, severity {severity:.1}", resource.words())
            }
        }
    }
}

/// What can be made for GuardDuty to report, and a playbook to contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Resource {
    Instance,
    Bucket,
    User,
    Role,
    Function,
    Database,
    Cluster,
    Access,
}

impl Resource {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Instance => "EC2 instance",
            Self::Bucket => "S3 bucket",
            Self::User => "IAM user",
            Self::Role => "IAM role",
            Self::Function => "AWS Lambda function",
            Self::Database => "RDS instance",
            Self::Cluster => "EKS cluster",
            Self::Access => "access entry of an EKS cluster",
        }
    }

    /// The playbook.
    pub(crate) const fn control(self) -> &'static str {
        match self {
            Self::Instance => "Contain.EC2Instance",
            Self::Bucket => "Contain.S3Bucket",
            Self::User => "Contain.IAMUser",
            Self::Role => "Contain.IAMRole",
            Self::Function => "Contain.LambdaFunction",
            Self::Database => "Contain.RDSInstance",
            Self::Cluster => "Contain.EKSCluster",
            Self::Access => "Contain.EKSPrincipal",
        }
    }
}

/// A part of the way back.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) what: &'static str,
    pub(crate) holds: Holds,
    /// What to look at while it does not hold; filled in as [`Scenario::told`].
    pub(crate) look: &'static str,
}

/// What must be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The doctor finds nothing wrong by this check.
    Healthy(CheckId),
    /// What was done last about what was broken ended so.
    Ended(State),
    /// What was broken was contained at some time.
    Contained,
    /// What was broken is as it was before Redress touched it.
    AsItWas,
    /// An exemption covers what was broken.
    Exempt,
    /// Everything was switched off.
    Stopped,
    /// While it was off findings were told, and no rule started anything.
    Quiet,
    /// Anything was put back.
    PutBack,
    /// Rules may act.
    Acts,
    /// A campaign was started.
    Campaign,
    /// Somebody hears the topic, and has heard something.
    Heard,
}

/// The way back of what was contained, and need not have been.
const GIVEN_BACK: &[Point] = &[
    Point {
        what: "the resource was contained",
        holds: Holds::Contained,
        look: "redress case list --account {account}; redress contain {arn} --account {account} --reason \"game day\" --wait",
    },
    Point {
        what: "it was given back",
        holds: Holds::Ended(State::RolledBack),
        look: "redress audit list --resource {arn}; redress undo <RemediationId> --reason \"game day\" --wait",
    },
    Point {
        what: "it is as it was before",
        holds: Holds::AsItWas,
        look: "redress audit show <RemediationId> --evidence has what was there before",
    },
];

const CONTAINED: &str = "docs/gameday.md#6-a-resource-is-contained";
const BY_ITSELF: &str = "case, why, undo";
const BY_HAND: &str = "case, contain, undo";

/// Every scenario.
pub(crate) static SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "silent-account",
        title: "An account goes silent",
        told: "A bucket of account {account} is public since some minutes, and Redress did nothing.",
        member: 0,
        breaks: &[Break::Trust, Break::Lab("public-bucket")],
        until: Some(State::Failed),
        done: &[
            Point {
                what: "the doctor finds nothing wrong with the account's roles",
                holds: Holds::Healthy(CheckId::Roles),
                look: "redress deploy doctor --only roles --account {account}",
            },
            Point {
                what: "no message waits in a dead-letter queue",
                holds: Holds::Healthy(CheckId::Queues),
                look: "redress dlq list; when the account can be entered: redress dlq redrive --reason \"game day\"",
            },
            Point {
                what: "what was found in it meanwhile is Verified",
                holds: Holds::Ended(State::Verified),
                look: "redress audit list --account {account}",
            },
        ],
        teaches: "dlq, deploy doctor, dlq redrive",
        docs: "docs/gameday.md#1-an-account-goes-silent",
    },
    Scenario {
        name: "wrong-fix",
        title: "A fix was wrong",
        told: "\"Our web site is down: every request to bucket {name} of account {account} is refused. It is public on purpose.\"",
        member: 1,
        breaks: &[Break::Lab("public-bucket")],
        until: Some(State::Verified),
        done: &[
            Point {
                what: "an exemption covers the bucket",
                holds: Holds::Exempt,
                look: "redress exemption list; redress exemption add web-site --resource {arn} --owner web-team --days 7 --reason \"game day\"",
            },
            Point {
                what: "the fix is undone",
                holds: Holds::Ended(State::RolledBack),
                look: "redress audit list --resource {arn}; redress undo <RemediationId> --reason \"game day\" --wait",
            },
            Point {
                what: "the bucket is as it was",
                holds: Holds::AsItWas,
                look: "redress audit show <RemediationId> --evidence has what was there before",
            },
        ],
        teaches: "why, audit show --evidence, undo, exemption",
        docs: "docs/gameday.md#2-a-fix-was-wrong",
    },
    Scenario {
        name: "stop-everything",
        title: "Everything must stop, now",
        told: "\"Stop everything, we do not know what it does.\"",
        member: 0,
        breaks: &[
            Break::Lab("public-bucket"),
            Break::Lab("open-ssh"),
            Break::Lab("key-rotation-off"),
            Break::Lab("ebs-encryption-off"),
            Break::Lab("weak-password-policy"),
        ],
        until: None,
        done: &[
            Point { what: "everything was stopped", holds: Holds::Stopped, look: "redress off --reason \"game day\"" },
            Point {
                what: "what failed while it was off was told, and no rule started anything",
                holds: Holds::Quiet,
                look: "while it is off: redress lab break open-ssh, then redress audit list --since 10m",
            },
            Point {
                what: "one remediation is put back",
                holds: Holds::PutBack,
                look: "redress audit list --since 1h, and docs/troubleshooting.md, way back 2: an undo is refused while it is off, and goes through while it is on `observe`",
            },
            Point {
                what: "a campaign brings the backlog in",
                holds: Holds::Campaign,
                look: "redress campaign plan game-day --control EC2.13 --per-hour 20 --reason \"game day\", then redress campaign start",
            },
            Point {
                what: "rules act again",
                holds: Holds::Acts,
                look: "redress settings show; redress settings set --policy-set standard --reason \"game day\", redress on --reason \"game day\"",
            },
        ],
        teaches: "off, settings, policy, campaign",
        docs: "docs/gameday.md#3-everything-must-stop-now",
    },
    Scenario {
        name: "lost-evidence",
        title: "The evidence is about to be lost",
        told: "Nothing at all.",
        member: 2,
        breaks: &[Break::Key, Break::Versions, Break::Lab("public-bucket")],
        until: Some(State::Failed),
        done: &[
            Point {
                what: "the doctor finds nothing wrong with the key of the evidence",
                holds: Holds::Healthy(CheckId::Key),
                look: "redress deploy doctor --only key",
            },
            Point {
                what: "the doctor finds nothing wrong with the bucket of the evidence",
                holds: Holds::Healthy(CheckId::Bucket),
                look: "redress deploy doctor --only bucket",
            },
            Point {
                what: "what failed meanwhile is Verified",
                holds: Holds::Ended(State::Verified),
                look: "redress audit list --account {account}; redress remediate --control S3.8 --resource {arn} --account {account} --wait",
            },
        ],
        teaches: "deploy doctor, remediate",
        docs: "docs/gameday.md#4-the-evidence-is-about-to-be-lost",
    },
    Scenario {
        name: "nobody-hears",
        title: "Nobody hears of it",
        told: "\"Have you remediated anything this week? We heard nothing.\"",
        member: 0,
        breaks: &[Break::Subscriptions, Break::Lab("open-ssh")],
        until: Some(State::Verified),
        done: &[
            Point {
                what: "the doctor finds nothing wrong with the topic",
                holds: Holds::Healthy(CheckId::Topic),
                look: "redress deploy doctor --only topic",
            },
            Point {
                what: "something was heard",
                holds: Holds::Heard,
                look: "redress lab break open-ssh, and then the queue that is subscribed: does its policy let sns.amazonaws.com send?",
            },
        ],
        teaches: "deploy doctor --only topic, audit show",
        docs: "docs/gameday.md#5-nobody-hears-of-it",
    },
    Scenario {
        name: "contain-ec2",
        title: "An instance is cut off",
        told: "\"Instance {name} of account {account} answers nobody since a minute. What it talks to is our own penetration test.\"",
        member: 1,
        breaks: &[Break::Report { resource: Resource::Instance, kind: "Backdoor:EC2/C&CActivity.B", severity: 8.0 }],
        until: Some(State::Verified),
        done: GIVEN_BACK,
        teaches: BY_ITSELF,
        docs: CONTAINED,
    },
    Scenario {
        name: "contain-iam-user",
        title: "A user's keys are in other hands",
        told: "GuardDuty reports that somebody uses the keys of user {name} of account {account} through Tor; nothing was done about it. When the keys are new, the user shall work again.",
        member: 1,
        breaks: &[Break::Report {
            resource: Resource::User,
            kind: "UnauthorizedAccess:IAMUser/TorIPCaller",
            severity: 5.0,
        }],
        until: Some(State::Notified),
        done: GIVEN_BACK,
        teaches: BY_HAND,
        docs: CONTAINED,
    },
    Scenario {
        name: "contain-iam-role",
        title: "A role's sessions are worth nothing",
        told: "\"Whatever runs as role {name} of account {account} gets AccessDenied since a minute. The session from Tor is a developer's own.\"",
        member: 1,
        breaks: &[Break::Report {
            resource: Resource::Role,
            kind: "UnauthorizedAccess:IAMUser/TorIPCaller",
            severity: 8.0,
        }],
        until: Some(State::Verified),
        done: GIVEN_BACK,
        teaches: BY_ITSELF,
        docs: CONTAINED,
    },
    Scenario {
        name: "contain-s3",
        title: "A bucket is open to everybody",
        told: "GuardDuty reports that everybody may read bucket {name} of account {account}; nothing was done about it. It shall be open again when its owners have looked.",
        member: 1,
        breaks: &[Break::Report {
            resource: Resource::Bucket,
            kind: "Policy:S3/BucketAnonymousAccessGranted",
            severity: 5.0,
        }],
        until: Some(State::Notified),
        done: GIVEN_BACK,
        teaches: BY_HAND,
        docs: CONTAINED,
    },
    Scenario {
        name: "contain-lambda",
        title: "A function is not invoked any more",
        told: "\"Every invocation of function {name} of account {account} is throttled since a minute. The address that it talks to is our new supplier's.\"",
        member: 1,
        breaks: &[Break::Report { resource: Resource::Function, kind: "Backdoor:Lambda/C&CActivity.B", severity: 8.0 }],
        until: Some(State::Verified),
        done: GIVEN_BACK,
        teaches: BY_ITSELF,
        docs: CONTAINED,
    },
    Scenario {
        name: "contain-rds",
        title: "Nobody reaches a database",
        told: "\"Database {name} of account {account} refuses everybody since a minute. The login was our new administrator's.\"",
        member: 1,
        breaks: &[Break::Report {
            resource: Resource::Database,
            kind: "CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin",
            severity: 8.0,
        }],
        until: Some(State::Verified),
        done: GIVEN_BACK,
        teaches: BY_ITSELF,
        docs: CONTAINED,
    },
    Scenario {
        name: "contain-eks",
        title: "Nobody reaches a cluster's API",
        told: "\"kubectl reaches cluster {name} of account {account} from nowhere but its VPC since a minute. The anonymous calls are a health check's.\"",
        member: 1,
        breaks: &[Break::Report {
            resource: Resource::Cluster,
            kind: "CredentialAccess:Kubernetes/SuccessfulAnonymousAccess",
            severity: 8.0,
        }],
        until: Some(State::Verified),
        done: GIVEN_BACK,
        teaches: BY_ITSELF,
        docs: CONTAINED,
    },
    Scenario {
        name: "contain-eks-principal",
        title: "A role may do nothing in a cluster",
        told: "\"Deployments with role {name} of account {account} are forbidden everything in its cluster since a minute. The calls from Tor are a developer's own.\"",
        member: 1,
        breaks: &[Break::Report {
            resource: Resource::Access,
            kind: "CredentialAccess:Kubernetes/TorIPCaller",
            severity: 8.0,
        }],
        until: Some(State::Verified),
        done: GIVEN_BACK,
        teaches: BY_ITSELF,
        docs: CONTAINED,
    },
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use redress_common::finding::Check;

    use super::*;
    use crate::controls;

    /// The anchors of a page, as GitHub makes them of its headings.
    fn anchors(page: &str) -> BTreeSet<String> {
        let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
        let is_kept = |c: &char| c.is_alphanumeric() || " -".contains(*c);
        headings.map(|text| text.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
    }

    #[test]
    fn each_scenario_has_a_name_of_its_own_and_its_place_in_the_documents() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let page = std::fs::read_to_string(root.join("docs/gameday.md")).unwrap();
        let (anchors, mut names) = (anchors(&page), BTreeSet::new());
        for scenario in SCENARIOS {
            assert!(names.insert(scenario.name), "{} is there twice", scenario.name);
            let (file, anchor) = scenario.docs.split_once('#').unwrap();
            assert_eq!(file, "docs/gameday.md", "{}", scenario.name);
            assert!(anchors.contains(anchor), "{}: {anchor} is none of {anchors:?}", scenario.name);
            assert!(page.contains(&format!("`{}`", scenario.name)), "the page does not name {}", scenario.name);
        }
    }

    #[test]
    fn what_a_scenario_breaks_the_lab_can_break() {
        for scenario in SCENARIOS {
            assert!(!scenario.breaks.is_empty() && !scenario.done.is_empty(), "{}", scenario.name);
            for step in scenario.breaks {
                assert!(!step.says().ends_with(": "), "{}: {}", scenario.name, step.says());
            }
        }
    }

    #[test]
    fn what_is_judged_of_the_thing_that_was_broken_has_one() {
        let is_of_it = |holds| matches!(holds, Holds::Ended(_) | Holds::Contained | Holds::AsItWas | Holds::Exempt);
        for scenario in SCENARIOS {
            let has_one = scenario.breaks.iter().any(|step| matches!(step, Break::Lab(_) | Break::Report { .. }));
            let asks = scenario.until.is_some() || scenario.done.iter().any(|point| is_of_it(point.holds));
            assert!(has_one || !asks, "{}", scenario.name);
        }
    }

    #[test]
    fn what_guardduty_reports_is_what_the_playbook_of_the_resource_contains() {
        let catalogue = controls::catalogue().unwrap();
        let arn = |resource: Resource| match resource {
            Resource::Instance => "arn:aws:ec2:us-east-1:222222222222:instance/i-0abc",
            Resource::Bucket => "arn:aws:s3:::press-kit",
            Resource::User => "arn:aws:iam::222222222222:user/deploy",
            Resource::Role => "arn:aws:iam::222222222222:role/batch",
            Resource::Function => "arn:aws:lambda:us-east-1:222222222222:function:resize",
            Resource::Database => "arn:aws:rds:us-east-1:222222222222:db:orders",
            Resource::Cluster => "arn:aws:eks:us-east-1:222222222222:cluster/prod",
            Resource::Access => "arn:aws:eks:us-east-1:222222222222:access-entry/prod/role/222222222222/deploy",
        };
        let mut contained = BTreeSet::new();
        for scenario in SCENARIOS {
            for step in scenario.breaks {
                let Break::Report { resource, kind, severity } = *step else { continue };
                let arn = arn(resource).parse().unwrap();
                let (control, _) = catalogue.resolve_on(&Check::GuardDutyType(kind.to_owned()), &arn).unwrap();
                assert_eq!(control.as_str(), resource.control(), "{}", scenario.name);
                let (by_hand, _) = catalogue.resolve_on(&Check::Containment, &arn).unwrap();
                assert_eq!(by_hand, control, "`redress contain` does the same");
                let expected = if severity < 7.0 { State::Notified } else { State::Verified };
                assert_eq!(scenario.until, Some(expected), "{}", scenario.name);
                contained.insert(resource.control());
            }
        }
        assert_eq!(contained.len(), 8, "one for each playbook that the lab can hold: {contained:?}");
    }
}
