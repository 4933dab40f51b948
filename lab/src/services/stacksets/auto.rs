//! Automatic deployment: accounts that come below a stack set's units get its stacks, those that leave lose them.
//!
//! Only an account whose place changed is touched. What was never deployed, or was deleted on purpose, stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::given::invalid;
use super::organisation::{self, Paths, is_below};
use super::preferences::Preferences;
use super::run::Job;
use super::set::{Action, StackSet, Stage, Target};
use super::{Beginning, Place, StackSets, enqueue, new_instance};
use crate::service::{Aws, AwsError};

/// An account, where it was and where it is.
#[derive(Debug, PartialEq, Eq)]
struct Move<'a> {
    account: &'a str,
    from: Option<&'a str>,
    to: Option<&'a str>,
}

impl StackSets {
    /// `ActivateOrganizationsAccess`.
    pub(super) async fn activate(&self, place: &Place<'_>, aws: &dyn Aws) -> Result<Value, AwsError> {
        if organisation::management(aws, &place.owner, place.region).await? != place.owner {
            return Err(invalid(
                "You must be the management account of an organization to activate organizations access",
            ));
        }
        let paths = organisation::paths(aws, &place.owner, place.region).await?;
        self.organisations.lock().await.insert(place.owner.clone(), paths);
        Ok(json!({}))
    }

    /// Looks where the accounts are now, and deploys to and removes from those that moved.
    pub(super) async fn follow(self, aws: Arc<dyn Aws>) {
        // Held throughout: of two moves the first is followed first.
        let mut organisations = self.organisations.lock().await;
        for (management, before) in organisations.iter_mut() {
            let now = match organisation::paths(aws.as_ref(), management, "us-east-1").await {
                Ok(now) => now,
                Err(error) => {
                    tracing::warn!(%error, management, "an organisation cannot be read; its moves are not followed");
                    continue;
                }
            };
            let moves = moves(before, &now);
            if !moves.is_empty() {
                self.deploy(management, &moves, &aws);
            }
            *before = now;
        }
    }

    fn deploy(&self, management: &str, moves: &[Move<'_>], aws: &Arc<dyn Aws>) {
        let mut jobs: Vec<(Job, Vec<watch::Receiver<Option<Stage>>>)> = Vec::new();
        {
            let mut sets = self.sets();
            let mut waiting: Vec<&mut StackSet> = sets
                .iter_mut()
                .filter(|set| set.owner == management && !set.deleted && set.is_service_managed())
                .filter(|set| set.content.auto.enabled)
                .collect();
            // A stack set comes after those that it depends on; who is in a circle comes last, in any order.
            let mut begun: BTreeMap<String, Vec<watch::Receiver<Option<Stage>>>> = BTreeMap::new();
            while !waiting.is_empty() {
                let unmet: BTreeSet<String> = waiting.iter().map(|set| set.arn.clone()).collect();
                let free = waiting.iter().position(|set| set.content.auto.depends_on.is_disjoint(&unmet));
                let set = waiting.remove(free.unwrap_or(0));
                let after = set.content.auto.depends_on.iter().filter_map(|arn| begun.get(arn)).flatten().cloned();
                let after: Vec<_> = after.collect();
                for beginning in [leave(set, moves), join(set, moves)].into_iter().flatten() {
                    let job = enqueue(set, beginning);
                    if let Some(operation) = set.operation(&job.operation) {
                        begun.entry(set.arn.clone()).or_default().push(operation.done.subscribe());
                    }
                    jobs.push((job, after.clone()));
                }
            }
        }
        for (job, after) in jobs {
            tokio::spawn(self.clone().run(job, after, aws.clone()));
        }
    }
}

fn moves<'a>(before: &'a Paths, now: &'a Paths) -> Vec<Move<'a>> {
    let all: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let moved = all.into_iter().filter_map(|account| {
        let (from, to) = (before.get(account).map(String::as_str), now.get(account).map(String::as_str));
        (from != to).then_some(Move { account, from, to })
    });
    moved.collect()
}

/// The units of a stack set that an account is below, with their Regions.
fn units<'a>(set: &'a StackSet, path: Option<&str>) -> BTreeMap<&'a str, &'a BTreeSet<String>> {
    let below = set.units.iter().filter(|(unit, _)| path.is_some_and(|path| is_below(path, unit)));
    below.map(|(unit, regions)| (unit.as_str(), regions)).collect()
}

/// The instances of accounts that left, to be deleted or let go.
fn leave(set: &StackSet, moves: &[Move<'_>]) -> Option<Beginning> {
    let mut targets = BTreeMap::new();
    for one in moves {
        let (was, is) = (units(set, one.from), units(set, one.to));
        let gone = was.values().flat_map(|regions| regions.iter());
        for region in gone.filter(|region| !is.values().any(|regions| regions.contains(*region))) {
            let target: Target = (one.account.to_owned(), region.clone());
            if let Some(instance) = set.instances.get(&target) {
                targets.insert(target, instance.unit.clone());
            }
        }
    }
    beginning(Action::Delete { retain: set.content.auto.retain }, targets)
}

/// New instances for accounts that came.
fn join(set: &mut StackSet, moves: &[Move<'_>]) -> Option<Beginning> {
    let mut targets = BTreeMap::new();
    for one in moves {
        let was = units(set, one.from);
        let news = units(set, one.to).into_iter().filter(|(unit, _)| !was.contains_key(unit));
        for (unit, regions) in news {
            for region in regions {
                targets.insert((one.account.to_owned(), region.clone()), Some(unit.to_owned()));
            }
        }
    }
    targets.retain(|target, unit| match set.instances.get_mut(target) {
        // From one of its units to another: the stack stays.
        Some(instance) => {
            instance.unit.clone_from(unit);
            false
        }
        None => {
            let instance = super::set::Instance { unit: unit.clone(), ..new_instance(&set.name) };
            set.instances.insert(target.clone(), instance);
            true
        }
    });
    beginning(Action::Create, targets)
}

fn beginning(action: Action, targets: BTreeMap<Target, Option<String>>) -> Option<Beginning> {
    let regions: BTreeSet<String> = targets.keys().map(|(_, region)| region.clone()).collect();
    (!targets.is_empty()).then(|| Beginning {
        action,
        id: None,
        request: Value::Null,
        preferences: Preferences::default(),
        deployment_targets: None,
        regions: regions.into_iter().collect(),
        targets,
        patient: true,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::content::tests::content;
    use super::*;

    /// A stack set for these units, in two Regions.
    fn set(units: &[&str]) -> StackSet {
        let regions = || BTreeSet::from(["eu-west-1".to_owned(), "us-east-1".to_owned()]);
        StackSet {
            owner: "111".to_owned(),
            region: "us-east-1".to_owned(),
            name: "s".to_owned(),
            id: "s:1".to_owned(),
            arn: "arn".to_owned(),
            token: None,
            deleted: false,
            content: content("Resources: {}"),
            instances: BTreeMap::new(),
            operations: Vec::new(),
            units: units.iter().map(|unit| ((*unit).to_owned(), regions())).collect(),
            turn: Arc::default(),
        }
    }

    fn paths(paths: &[(&str, &str)]) -> Paths {
        paths.iter().map(|(account, path)| ((*account).to_owned(), (*path).to_owned())).collect()
    }

    #[test]
    fn only_accounts_whose_place_changed_have_moved() {
        let before = paths(&[("1", "o/r/1/"), ("2", "o/r/ou-a/2/"), ("3", "o/r/3/")]);
        let now = paths(&[("1", "o/r/1/"), ("2", "o/r/2/"), ("4", "o/r/4/")]);
        let moved: Vec<_> = moves(&before, &now).iter().map(|one| (one.account.to_owned(), one.to.is_some())).collect();
        assert_eq!(moved, [("2".to_owned(), true), ("3".to_owned(), false), ("4".to_owned(), true)]);
    }

    #[test]
    fn who_comes_below_a_unit_gets_every_region_of_it_and_who_leaves_loses_what_it_has() {
        let mut set = set(&["ou-a"]);
        let (outside, inside) = (paths(&[("2", "o/r/2/")]), paths(&[("2", "o/r/ou-a/ou-b/2/")]));
        let came = join(&mut set, &moves(&outside, &inside)).unwrap();
        assert_eq!(came.targets.len(), 2);
        assert_eq!(set.instances.len(), 2);
        assert!(leave(&set, &moves(&outside, &inside)).is_none());

        set.instances.remove(&("2".to_owned(), "eu-west-1".to_owned()));
        let went = leave(&set, &moves(&inside, &outside)).unwrap();
        assert_eq!(went.targets.into_keys().collect::<Vec<_>>(), [("2".to_owned(), "us-east-1".to_owned())]);
        let removed = Paths::new();
        assert!(leave(&set, &moves(&inside, &removed)).is_some(), "an account that left the organisation");
    }

    #[test]
    fn from_one_of_its_units_to_another_a_stack_stays() {
        let mut set = set(&["ou-a", "ou-b"]);
        let (none, a, b) = (Paths::new(), paths(&[("2", "o/r/ou-a/2/")]), paths(&[("2", "o/r/ou-b/2/")]));
        join(&mut set, &moves(&none, &a)).unwrap();
        assert!(leave(&set, &moves(&a, &b)).is_none() && join(&mut set, &moves(&a, &b)).is_none());
        assert!(set.instances.values().all(|one| one.unit.as_deref() == Some("ou-b")));
    }
}
