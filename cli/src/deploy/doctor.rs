//! `redress deploy doctor`: looks at a deployment and says what is missing or wrong in it, where, why it matters and what to
//! do. Reads, and changes nothing.
//!
//! A kind of check is a file in `doctor/`: what it asks AWS ([`sight`]), and a pure judgement of the answers. This file enters
//! accounts, runs the checks side by side, and puts together what they found. A check that could not be made is told as
//! such ([`finding::Unseen`]), never as healthy.

mod aggregation;
mod alarms;
mod automation_rules;
mod bucket;
mod catalogue;
mod checkpoints;
mod config;
mod deployment;
mod documents;
mod finding;
mod forwarding;
mod functions;
mod hub;
mod key;
#[cfg(test)]
mod page;
mod queues;
mod quotas;
mod roles;
mod security_hub;
mod settings;
mod show;
mod sight;
mod statement;
mod tables;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_types::SdkConfig;
use redress_common::ids::{AccountId, Region};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::deployment::Deployment;
use self::finding::{Check, Unseen, Where};
pub(crate) use self::finding::{CheckId, Finding, Place, Severity};
use self::show::Report;
pub(crate) use self::sight::Blind;
use self::sight::{GET_CALLER, Site};
use crate::args::{Doctor, Global};
use crate::aws::Connection;
use crate::output::{Answer, Output};
use crate::problem::Problem;

/// Every kind of check, in the order in which it is listed.
static CHECKS: [&Check; 19] = [
    &functions::CHECK,
    &queues::CHECK,
    &tables::CHECK,
    &checkpoints::CHECK,
    &catalogue::CHECK,
    &settings::CHECK,
    &hub::CHECK,
    &topic::CHECK,
    &alarms::CHECK,
    &security_hub::CHECK,
    &automation_rules::CHECK,
    &aggregation::CHECK,
    &roles::CHECK,
    &key::CHECK,
    &bucket::CHECK,
    &config::CHECK,
    &documents::CHECK,
    &forwarding::CHECK,
    &quotas::CHECK,
];

/// `regions` are those that Redress has beside the home Region, for what looks at them together.
async fn look(check: CheckId, site: &Site, deployment: &Deployment, regions: &[Region]) -> Result<Vec<Finding>, Blind> {
    match check {
        CheckId::Functions => functions::look(site).await,
        CheckId::Queues => queues::look(site).await,
        CheckId::Tables => tables::look(site).await,
        CheckId::Checkpoints => checkpoints::look(site).await,
        CheckId::Catalogue => catalogue::look(site).await,
        CheckId::Settings => settings::look(site).await,
        CheckId::Hub => hub::look(site, deployment).await,
        CheckId::Topic => topic::look(site).await,
        CheckId::Alarms => alarms::look(site).await,
        CheckId::SecurityHub => security_hub::look(site).await,
        CheckId::AutomationRules => automation_rules::look(site).await,
        CheckId::Aggregation => aggregation::look(site, regions).await,
        CheckId::Roles => roles::look(site, deployment).await,
        CheckId::Key => key::look(site).await,
        CheckId::Bucket => bucket::look(site).await,
        CheckId::Config => config::look(site).await,
        CheckId::Documents => documents::look(site, deployment).await,
        CheckId::Forwarding => forwarding::look(site).await,
        CheckId::Quotas => quotas::look(site, deployment).await,
    }
}

/// Whether a check looks at the administrator account alone.
pub(crate) fn is_of_administrator(check: CheckId) -> bool {
    CHECKS.iter().any(|one| one.id == check && matches!(one.at, Where::Administrator | Where::Together))
}

/// What one check finds at a place, for whoever is in there already. `external_id` is what the ExternalIds begin with.
pub(crate) async fn look_at(
    check: CheckId,
    place: Place,
    config: SdkConfig,
    external_id: &str,
) -> Result<Vec<Finding>, Blind> {
    let deployment = Deployment {
        organisation: None,
        accounts: vec![place.account.clone()],
        external_id: Some(external_id.to_owned()),
        external_id_unseen: None,
        in_flight: None,
        contents: false,
    };
    look(check, &Site::new(place, config), &deployment, &[]).await
}

/// From so many accounts on, people are told how far it is.
const MANY: usize = 5;

pub(crate) async fn run(doctor: &Doctor, global: &Global, output: Output) -> Result<Answer, Problem> {
    if doctor.list {
        return show::list(output.style());
    }
    let connection = Connection::new(global).await?;
    let report = Round::new(doctor, connection, output).await?.walk().await;
    report.sorted().answer(output.style())
}

/// One walk through a deployment.
struct Round {
    connection: Connection,
    administrator: Site,
    deployment: Deployment,
    wanted: Vec<&'static Check>,
    given_regions: BTreeSet<Region>,
    member_role: String,
    member_external_id: Option<String>,
    /// Accounts at a time.
    places: Arc<Semaphore>,
    output: Output,
}

/// What one account gave.
#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    unseen: Vec<Unseen>,
    checks: usize,
}

impl Seen {
    fn add(&mut self, check: CheckId, place: &Place, looked: Result<Vec<Finding>, Blind>) {
        match looked {
            Ok(findings) => {
                self.checks += 1;
                self.findings.extend(findings);
            }
            Err(blind) => self.unseen.push(unseen(&[check], place, &blind)),
        }
    }
}

fn unseen(checks: &[CheckId], place: &Place, why: &Blind) -> Unseen {
    Unseen {
        checks: checks.to_vec(),
        account: place.account.clone(),
        region: place.region.clone(),
        reason: why.to_string(),
    }
}

/// A member account that was entered, in its home Region.
struct Entered {
    home: Site,
    /// Its further Regions.
    regions: Result<BTreeSet<Region>, Blind>,
}

impl Round {
    async fn new(doctor: &Doctor, connection: Connection, output: Output) -> Result<Self, Problem> {
        let home = connection.region.clone();
        // Who calls says which account administers.
        let nowhere = "000000000000".parse::<AccountId>().map_err(|error| Problem::aws("look", &error))?;
        let place = Place { account: nowhere.clone(), region: home.clone(), administrator: nowhere, home };
        let somewhere = Site::new(place.clone(), connection.config.clone());
        let caller =
            somewhere.ask(&GET_CALLER, json!({})).await.map_err(|blind| Problem::aws("find out who asks", &blind))?;
        let account = caller.unwrap_or_default()["Account"].as_str().unwrap_or_default().parse::<AccountId>();
        let account = account.map_err(|error| Problem::aws("find out who asks", &error))?;
        let place = Place { account: account.clone(), administrator: account, ..place };
        let administrator = Site::new(place, connection.config.clone());
        let deployment = deployment::read(&administrator, &doctor.accounts, doctor.contents)
            .await
            .map_err(|blind| Problem::aws("find out which accounts there are; name them with --account", &blind))?;
        let wanted = |check: &&&Check| doctor.only.is_empty() || doctor.only.contains(&check.id);
        Ok(Self {
            connection,
            administrator,
            deployment,
            wanted: CHECKS.iter().filter(wanted).copied().collect(),
            given_regions: doctor.member_regions.iter().cloned().collect(),
            member_role: doctor.member_role.clone(),
            member_external_id: doctor.member_external_id.clone(),
            places: Arc::new(Semaphore::new(usize::from(doctor.parallel))),
            output,
        })
    }

    /// The checks that look at such a place.
    fn checks(&self, at: &'static [Where]) -> impl Iterator<Item = CheckId> {
        self.wanted.iter().filter(|check| at.contains(&check.at)).map(|check| check.id)
    }

    async fn walk(self) -> Report {
        let round = Arc::new(self);
        // Nobody is entered for nothing.
        let is_wanted =
            round.checks(&[Where::Members, Where::Regions, Where::Everywhere, Where::Together]).next().is_some();
        let accounts = if is_wanted { round.deployment.accounts.clone() } else { Vec::new() };
        if accounts.len() >= MANY {
            round.output.progress(&format!("looking at {} member accounts", accounts.len()));
        }
        let administrator = round.clone().administrator();
        let members = round.clone().members(accounts);
        let (mut seen, (members, together)) = tokio::join!(administrator, members);
        if let Some(blind) = &round.deployment.external_id_unseen
            && round.wanted.iter().any(|check| check.id == CheckId::Roles)
        {
            let reason = format!("whether the ExternalIds are right: {blind}");
            seen.unseen.push(unseen(&[CheckId::Roles], &round.administrator.place, &Blind(reason)));
        }
        let mut report = Report { accounts: 1 + members.len(), ..Report::default() };
        for seen in [seen, together].into_iter().chain(members) {
            report.findings.extend(seen.findings);
            report.not_seen.extend(seen.unseen);
            report.checks += seen.checks;
        }
        report
    }

    async fn administrator(self: Arc<Self>) -> Seen {
        let mut seen = Seen::default();
        let checks: Vec<CheckId> = self.checks(&[Where::Administrator, Where::Everywhere]).collect();
        let site = self.administrator.clone();
        self.look(&mut seen, &site, checks, &Arc::default()).await;
        seen
    }

    /// Every member: first each is entered and asked for its Regions, for one that has fewer than others lacks them. Besides,
    /// what the administrator account is asked about all of these.
    async fn members(self: Arc<Self>, accounts: Vec<AccountId>) -> (Vec<Seen>, Seen) {
        let mut entering = JoinSet::new();
        for account in accounts {
            let round = self.clone();
            entering.spawn(async move {
                let _place = round.places.clone().acquire_owned().await;
                let entered = round.enter(&account).await;
                (account, entered)
            });
        }
        let entered = entering.join_all().await;
        let known = entered.iter().filter_map(|(_, entered)| entered.as_ref().ok()?.regions.as_ref().ok());
        let mut regions: BTreeSet<Region> = known.flatten().chain(&self.given_regions).cloned().collect();
        regions.remove(&self.connection.region);
        let regions: Arc<Vec<Region>> = Arc::new(regions.into_iter().collect());
        let mut together = Seen::default();
        let checks: Vec<CheckId> = self.checks(&[Where::Together]).collect();
        self.look(&mut together, &self.administrator, checks, &regions).await;

        let (mut looking, all, mut seen) = (JoinSet::new(), entered.len(), Vec::new());
        for (account, entered) in entered {
            let (round, regions) = (self.clone(), regions.clone());
            looking.spawn(async move {
                let _place = round.places.clone().acquire_owned().await;
                round.member(&account, entered, &regions).await
            });
        }
        while let Some(looked) = looking.join_next().await {
            seen.push(looked.unwrap_or_else(|error| {
                let checks: Vec<CheckId> = self.wanted.iter().map(|check| check.id).collect();
                let reason = Blind(format!("a member account was given up: {error}"));
                Seen { unseen: vec![unseen(&checks, &self.administrator.place, &reason)], ..Seen::default() }
            }));
            if all >= MANY && (seen.len().is_multiple_of(10) || seen.len() == all) {
                self.output.progress(&format!("{} of {all} member accounts looked at", seen.len()));
            }
        }
        (seen, together)
    }

    fn place(&self, account: &AccountId, region: &Region) -> Place {
        Place { account: account.clone(), region: region.clone(), ..self.administrator.place.clone() }
    }

    async fn enter(&self, account: &AccountId) -> Result<Entered, Blind> {
        let home = &self.connection.region;
        let config = if *account == self.administrator.place.account {
            self.connection.config.clone()
        } else {
            let external_id = self.member_external_id.as_deref();
            let entered = self.connection.in_member(account, home, &self.member_role, external_id).await;
            entered.map_err(|problem| Blind(format!("{problem}; another role: --member-role")))?
        };
        let home = Site::new(self.place(account, home), config);
        let regions = deployment::regions(&home).await;
        Ok(Entered { home, regions })
    }

    async fn member(
        self: &Arc<Self>,
        account: &AccountId,
        entered: Result<Entered, Blind>,
        regions: &Arc<Vec<Region>>,
    ) -> Seen {
        let mut seen = Seen::default();
        let at_home: Vec<CheckId> = self.checks(&[Where::Members, Where::Regions, Where::Everywhere]).collect();
        let there: Vec<CheckId> = self.checks(&[Where::Regions, Where::Everywhere]).collect();
        let Entered { home, regions: own } = match entered {
            Ok(entered) => entered,
            Err(blind) => {
                let place = self.place(account, &self.connection.region);
                seen.unseen.push(unseen(&at_home, &place, &blind));
                return seen;
            }
        };
        if let Err(blind) = &own {
            let reason = Blind(format!("which Regions the account has: {blind}"));
            seen.unseen.push(unseen(&there, &home.place, &reason));
        }
        self.look(&mut seen, &home, at_home, regions).await;
        for region in regions.iter() {
            let site = home.there(self.place(account, region));
            self.look(&mut seen, &site, there.clone(), regions).await;
        }
        seen.findings = finding::told_once(&home.place, regions, seen.findings);
        seen
    }

    /// Makes checks at a place, side by side. One that is cut off was not made.
    async fn look(self: &Arc<Self>, seen: &mut Seen, site: &Site, checks: Vec<CheckId>, regions: &Arc<Vec<Region>>) {
        let (mut looking, mut begun) = (JoinSet::new(), BTreeMap::new());
        for check in checks {
            let (round, site, regions) = (self.clone(), site.clone(), regions.clone());
            let task = looking.spawn(async move { look(check, &site, &round.deployment, &regions).await });
            begun.insert(task.id(), check);
        }
        while let Some(ended) = looking.join_next_with_id().await {
            let (id, looked) = match ended {
                Ok(looked) => looked,
                Err(error) => (error.id(), Err(Blind(format!("the check was cut off: {error}")))),
            };
            if let Some(check) = begun.remove(&id) {
                seen.add(check, &site.place, looked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_its_place_in_the_table_and_every_fault_a_code_of_its_own() {
        use clap::ValueEnum as _;

        let listed: Vec<CheckId> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(listed, CheckId::value_variants());
        let codes: Vec<&str> = CHECKS.iter().flat_map(|check| check.faults).map(|fault| fault.code).collect();
        let unique: BTreeSet<&str> = codes.iter().copied().collect();
        assert_eq!(unique.len(), codes.len());
    }
}
