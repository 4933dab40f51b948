//! What a look at a deployment finds: a fault, where, and what to do about it.
//!
//! Pure. A secret never gets in here: an ExternalId is told to be right or wrong, never shown.

use clap::ValueEnum;
use redress_common::arn::Partition;
use redress_common::ids::{AccountId, Region};
use serde::Serialize;

/// A kind of check, by the name that `--only` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    Functions,
    Queues,
    Tables,
    Checkpoints,
    Catalogue,
    Settings,
    Hub,
    Topic,
    Alarms,
    SecurityHub,
    AutomationRules,
    Aggregation,
    Roles,
    Key,
    Bucket,
    Config,
    Documents,
    Forwarding,
    Quotas,
}

impl CheckId {
    /// As `--only` takes it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Where a check looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// The administrator account, in the home Region.
    Administrator,
    /// The administrator account, in the home Region, once the Regions of all accounts are known.
    Together,
    /// Each member account, in the home Region.
    Members,
    /// Each member account, in each of its Regions.
    Regions,
    /// The administrator account in the home Region, and each Region of each member account.
    Everywhere,
}

impl Where {
    /// In words.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Together => "administrator, with every Region of the members",
            Self::Members => "members",
            Self::Regions => "members, each Region",
            Self::Everywhere => "administrator; members, each Region",
        }
    }
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something does not work, or is open to others.
    Error,
    /// It works, and will not for long, or not when it is needed.
    Warning,
    /// Meant so, perhaps.
    Note,
}

impl Severity {
    /// As JSON says it.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A kind of check: a row of `redress deploy doctor --list`.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) id: CheckId,
    pub(crate) at: Where,
    /// What it looks at.
    pub(crate) about: &'static str,
    /// What it can find.
    pub(crate) faults: &'static [&'static Fault],
    /// What its caller must be allowed to do.
    pub(crate) rights: &'static [&'static str],
}

/// Something that can be wrong: a row of docs/doctor.md.
#[derive(Debug)]
pub(crate) struct Fault {
    /// A slug that stays the same between releases.
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// What is wrong.
    pub(crate) about: &'static str,
    /// What comes of it.
    pub(crate) why: &'static str,
    /// What to do, with `{account}`, `{region}`, `{home}`, `{administrator}`, `{partition}` and `{thing}` to be filled in.
    pub(crate) todo: &'static str,
}

/// An account and Region, and what the deployment calls home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) administrator: AccountId,
    pub(crate) home: Region,
}

impl Place {
    pub(crate) fn partition(&self) -> Partition {
        Partition::of_region(&self.home)
    }

    pub(crate) fn is_home(&self) -> bool {
        self.region == self.home
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.account == self.administrator
    }

    /// That a fault is here. `thing` is what a command would name.
    pub(crate) fn finding(&self, fault: &'static Fault, thing: &str, what: impl Into<String>) -> Finding {
        let todo = fault
            .todo
            .replace("{account}", self.account.as_str())
            .replace("{region}", self.region.as_str())
            .replace("{home}", self.home.as_str())
            .replace("{administrator}", self.administrator.as_str())
            .replace("{partition}", self.partition().as_str())
            .replace("{thing}", thing);
        Finding {
            code: fault.code,
            severity: fault.severity,
            account: self.account.clone(),
            region: self.region.clone(),
            what: what.into(),
            why: fault.why,
            todo,
        }
    }
}

/// A fault that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Finding {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) what: String,
    pub(crate) why: &'static str,
    #[serde(rename = "Do")]
    pub(crate) todo: String,
}

/// A check that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Unseen {
    pub(crate) checks: Vec<CheckId>,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) reason: String,
}

/// Nothing of Redress is in an account.
pub(crate) static ACCOUNT_EMPTY: Fault = Fault {
    code: "account-not-deployed",
    severity: Severity::Error,
    about: "nothing of Redress is in the account",
    why: "its findings are heard of by nobody, or told and not acted on",
    todo: "deploy the member templates into {account} (docs/deploy.md), or name the accounts that you mean with --account",
};

/// Nothing of Redress is in a Region of an account that has it elsewhere.
pub(crate) static REGION_EMPTY: Fault = Fault {
    code: "region-not-deployed",
    severity: Severity::Error,
    about: "nothing of Redress is in the Region, which other accounts have, or you named",
    why: "what fails there is not forwarded, and nothing could repair it",
    todo: "deploy member-region.yaml and member-documents/ into {account} in {region} (docs/deploy.md)",
};

/// What is missing when all is.
const WITHOUT_ACCOUNT: [&str; 3] = ["role-missing", "key-missing", "bucket-missing"];
const WITHOUT_REGION: [&str; 3] = ["documents-missing", "forward-rule-missing", "function-missing"];
/// What else says no more than that there is nothing.
const NO_NEWS: [&str; 1] = ["forwarder-role-missing"];

/// The findings of one account, where many that mean "nothing is there" are told as one. What AWS's own services lack there
/// is told all the same.
pub(crate) fn told_once(home: &Place, regions: &[Region], findings: Vec<Finding>) -> Vec<Finding> {
    let has = |codes: &[&str], region: &Region| {
        codes.iter().all(|code| findings.iter().any(|found| found.code == *code && found.region == *region))
    };
    let is_empty = has(&WITHOUT_ACCOUNT, &home.region);
    let empty: Vec<&Region> =
        regions.iter().filter(|region| **region != home.region && has(&WITHOUT_REGION, region)).collect();
    let instead: Vec<Finding> = if is_empty {
        vec![home.finding(&ACCOUNT_EMPTY, "", format!("nothing of Redress is in account {}", home.account))]
    } else {
        let places = empty.iter().map(|region| Place { region: (**region).clone(), ..home.clone() });
        places
            .map(|place| {
                let what = format!("nothing of Redress is in {} of account {}", place.region, place.account);
                place.finding(&REGION_EMPTY, "", what)
            })
            .collect()
    };
    let is_news = |found: &&Finding| {
        let says = |codes: &[&str]| codes.contains(&found.code);
        let of_nothing = says(&WITHOUT_ACCOUNT) || says(&WITHOUT_REGION) || says(&NO_NEWS);
        !(of_nothing && (is_empty || empty.contains(&&found.region)))
    };
    findings.iter().filter(is_news).cloned().chain(instead).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    pub(crate) const ADMINISTRATOR: &str = "111111111111";
    pub(crate) const MEMBER: &str = "222222222222";

    /// A member's home Region.
    pub(crate) fn member() -> Place {
        Place {
            account: MEMBER.parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            administrator: ADMINISTRATOR.parse().unwrap(),
            home: "eu-central-1".parse().unwrap(),
        }
    }

    /// The administrator account.
    pub(crate) fn administrator() -> Place {
        Place { account: ADMINISTRATOR.parse().unwrap(), ..member() }
    }

    pub(crate) fn codes(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|found| found.code).collect()
    }

    static FAULT: Fault = Fault {
        code: "a",
        severity: Severity::Error,
        about: "",
        why: "",
        todo: "aws x --name {thing} --region {region} # {account} {administrator} {home} {partition}",
    };

    #[test]
    fn what_to_do_names_account_region_and_thing() {
        let found = member().finding(&FAULT, "rule", "it is off");
        assert_eq!(found.todo, "aws x --name rule --region eu-central-1 # 222222222222 111111111111 eu-central-1 aws");
    }

    fn named(code: &'static str, region: &str) -> Finding {
        Finding { code, region: region.parse().unwrap(), ..member().finding(&FAULT, "", "") }
    }

    #[test]
    fn an_account_or_region_without_anything_is_told_once() {
        let further: Region = "eu-west-1".parse().unwrap();
        let regions = [member().region, further];
        let some = vec![named("role-missing", "eu-central-1"), named("key-missing", "eu-central-1")];
        assert_eq!(told_once(&member(), &regions, some.clone()), some);
        let mut all = some;
        all.extend(["bucket-missing", "function-missing", "config-off"].map(|code| named(code, "eu-central-1")));
        all.push(named("documents-missing", "eu-west-1"));
        assert_eq!(codes(&told_once(&member(), &regions, all)), ["config-off", "account-not-deployed"]);

        let mut there: Vec<Finding> = WITHOUT_REGION.iter().map(|code| named(code, "eu-west-1")).collect();
        there.extend([named("config-off", "eu-west-1"), named("function-missing", "eu-central-1")]);
        let told = ["config-off", "function-missing", "region-not-deployed"];
        assert_eq!(codes(&told_once(&member(), &regions, there)), told);
    }
}
