//! One deployment: settings, release, who is where, and the doors to AWS. What the subcommands share.

use std::collections::BTreeMap;

use aws_types::SdkConfig;
use aws_types::region::Region as SdkRegion;
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::{AccountId, Region};

use super::accounts::{self, Organisation};
use super::artifacts::Bucket;
use super::automation_rules::{self, There, Wish};
use super::blueprint::{ADMINISTRATOR_STACK, Blueprint};
use super::hub::Hub;
use super::release::Release;
use super::remains::{self, Remain};
use super::sets::{Found, Sets};
use super::settings::Settings;
use super::stacks::{self, Stacks};
use crate::args::Global;
use crate::aws::Connection;
use crate::problem::Problem;

/// A deployment at hand.
pub(crate) struct Rollout {
    pub(crate) settings: Settings,
    pub(crate) release: Release,
    pub(crate) blueprint: Blueprint,
    pub(crate) rules: Rules,
    pub(crate) organisation: Organisation,
    /// Of the administrator account's home Region.
    pub(crate) config: SdkConfig,
    /// The caller's ARN.
    pub(crate) caller: String,
    pub(crate) stacks: Stacks,
    pub(crate) sets: Sets,
    pub(crate) hub: Hub,
}

/// Security Hub's automation rules.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Whether the administrator account's stack shall have them.
    pub(crate) wish: Wish,
    /// Whether it has them.
    has: bool,
    /// What there is to do about those that are there.
    pub(crate) need: automation_rules::Need,
}

impl Rules {
    /// Pure.
    pub(crate) fn new(there: &There, has: bool) -> Self {
        let need = match there {
            There::Rules(found) => automation_rules::need(&found.ours),
            There::Nothing(_) => automation_rules::Need::default(),
        };
        Self { wish: Wish::of(there, has), has, need }
    }

    /// Whether somebody deleted one that the stack made: CloudFormation believes that it is there.
    pub(crate) fn are_lost(&self) -> bool {
        self.has && self.wish == Wish::Have && !self.need.missing.is_empty()
    }
}

/// What is there.
pub(crate) struct Survey {
    /// The administrator account's.
    pub(crate) stack: Option<stacks::Found>,
    pub(crate) sets: BTreeMap<String, Option<Found>>,
    /// How many objects each bucket lacks; `None` when there is no bucket.
    pub(crate) missing: BTreeMap<String, Option<usize>>,
}

/// A connection to the home Region of the settings, as the administrator account.
pub(crate) async fn connect(settings: &Settings, global: &Global) -> Result<(SdkConfig, String), Problem> {
    let global = Global { region: Some(settings.home_region.clone()), ..global.clone() };
    let connection = Connection::new(&global).await?;
    let caller = aws_sdk_sts::Client::new(&connection.config).get_caller_identity().send().await;
    let caller =
        caller.map_err(|error| Problem::aws("find out who calls", &AwsFailure::of("sts:GetCallerIdentity", &error)))?;
    if caller.account() != Some(settings.administrator.as_str()) {
        return Err(Problem::refused(format!(
            "the credentials are of account {}, and the settings name {} as administrator",
            caller.account().unwrap_or("?"),
            settings.administrator
        ))
        .help("log in to the administrator account (--profile); for the lab: eval \"$(redress lab env --account <administrator>)\""));
    }
    let home = SdkRegion::new(settings.home_region.to_string());
    let config = connection.config.to_builder().region(home).build();
    Ok((config, caller.arn().unwrap_or_default().to_owned()))
}

impl Rollout {
    pub(crate) async fn new(settings: Settings, global: &Global) -> Result<Self, Problem> {
        let release = Release::read(&settings.release)?;
        let (config, caller) = connect(&settings, global).await?;
        let organisation = accounts::organisation(&config, &settings).await?;
        let (stacks, hub) = (Stacks::new(&config), Hub::new(&config, &settings));
        let has_rules = stacks.find(ADMINISTRATOR_STACK).await?.is_some_and(|stack| stack.has_rules);
        let rules = Rules::new(&hub.found_rules().await?, has_rules);
        let blueprint = Blueprint::new(&settings, &release, rules.wish == Wish::Have)?;
        Ok(Self {
            stacks,
            sets: Sets::new(&config, &settings, organisation.is_management),
            hub,
            settings,
            release,
            blueprint,
            rules,
            organisation,
            config,
            caller,
        })
    }

    pub(crate) fn bucket(&self, region: &Region) -> Bucket {
        Bucket::new(&self.config, &self.settings, region)
    }

    /// What the stack of one of the release's templates can leave in an account and Region.
    pub(crate) fn remains(&self, file: &str, account: &AccountId, region: &Region) -> Result<Vec<Remain>, Problem> {
        let mut found = Vec::new();
        for source in self.release.whole(file) {
            let named = remains::named(&source.template, account, region);
            found.extend(named.map_err(|error| Problem::aws(&format!("read templates/{file}"), &error))?);
        }
        Ok(found)
    }

    /// Looks at everything.
    pub(crate) async fn survey(&self) -> Result<Survey, Problem> {
        let stack = self.stacks.find(self.blueprint.stack.name).await?;
        let mut survey = Survey { stack, sets: BTreeMap::new(), missing: BTreeMap::new() };
        for region in self.settings.regions() {
            let bucket = self.bucket(region);
            let there = bucket.keys().await?;
            let lacks = |keys: std::collections::BTreeSet<String>| {
                let wanted = self.blueprint.uploads.iter().filter(|upload| upload.region == *region);
                wanted.filter(|upload| !keys.contains(&upload.key)).count()
            };
            survey.missing.insert(bucket.name.clone(), there.map(lacks));
        }
        for set in &self.blueprint.sets {
            survey.sets.insert(set.name.clone(), self.sets.find(&set.name).await?);
        }
        Ok(survey)
    }
}

#[cfg(test)]
mod tests {
    use redress_common::automation_rules::wanted;

    use super::*;

    #[test]
    fn rules_are_lost_only_where_the_stack_has_them_and_security_hub_does_not() {
        let there = |ours: Vec<serde_json::Value>| There::Rules(automation_rules::Found { all: ours.len(), ours });
        assert!(Rules::new(&there(wanted()[..1].to_vec()), true).are_lost());
        assert!(!Rules::new(&there(wanted().to_vec()), true).are_lost());
        assert!(!Rules::new(&there(Vec::new()), false).are_lost());
        for code in [automation_rules::DENIED, "InvalidAccessException"] {
            let nothing = There::Nothing(AwsFailure::refused("ListAutomationRules", code, "no"));
            assert!(!Rules::new(&nothing, true).are_lost(), "{code}");
        }
    }
}
