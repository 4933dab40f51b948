//! `redress deploy apply` and `upgrade`: brings everything about, wave by wave. What is there already is left alone, so
//! that a deployment that stopped goes on where it stopped.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::ids::{AccountId, Region};
use redress_common::ledger::sha256_hex;
use serde::Serialize;

use super::accounts::{self, Wave};
use super::automation_rules::Wish;
use super::blueprint::{ADMINISTRATOR_STACK, Blueprint, Kind, Set};
use super::gate;
use super::release;
use super::remains::{self, Site};
use super::rollout::Rollout;
use super::sets::{Found, Need};
use crate::output::{Answer, Output};
use crate::problem::Problem;

/// What was done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Done {
    release: String,
    changed: Vec<String>,
    waves: BTreeMap<&'static str, &'static str>,
}

pub(crate) async fn run(rollout: &Rollout, output: Output) -> Result<Answer, Problem> {
    let progress = move |text: &str| output.progress(&format!("  {text}"));
    let mut done = Done { release: rollout.blueprint.release.clone(), ..Done::default() };
    rollout.release.suits(rollout.settings.architecture)?;
    output.progress(&format!("release {}: every file is what was released", rollout.blueprint.release));
    clear(rollout).await?;
    upload(rollout, &mut done, &progress).await?;
    if rollout.rules.are_lost() {
        progress(
            "an automation rule of Security Hub was deleted: the stack is made without them, and then with them again",
        );
        let without = Blueprint::new(&rollout.settings, &rollout.release, false)?.stack;
        rollout.stacks.apply(&without, &progress).await?;
    }
    let stack = &rollout.blueprint.stack;
    if rollout.stacks.apply(stack, &progress).await? {
        done.changed.push(format!("stack {}", stack.name));
    }
    let (is_there, is_current) = rollout.hub.catalogue(&rollout.release.catalogue).await?;
    if !is_there {
        rollout.hub.put_catalogue(&rollout.release.catalogue).await?;
        done.changed.push("the catalogue".to_owned());
    }
    for (name, changed) in [
        ("the first settings", rollout.hub.settings(&rollout.caller, Timestamp::now()).await?),
        ("Security Hub's custom actions", rollout.hub.actions().await?),
        ("Security Hub's automation rules", rules(rollout, &progress).await?),
        ("the e-mail subscription", rollout.hub.tell().await?),
        (
            "trusted access of StackSets",
            accounts::trust(&rollout.sets, &rollout.settings, rollout.organisation.is_management).await?,
        ),
    ] {
        if changed {
            progress(name);
            done.changed.push(name.to_owned());
        }
    }
    for wave in &rollout.organisation.waves {
        self::wave(rollout, wave, &mut done, output).await?;
    }
    // The controls of a new release come when their runbooks are everywhere.
    if is_there && !is_current {
        rollout.hub.put_catalogue(&rollout.release.catalogue).await?;
        done.changed.push("the catalogue".to_owned());
    }
    let mut deployment = rollout.hub.deployment().await?;
    if deployment.release != rollout.blueprint.release {
        deployment.release.clone_from(&rollout.blueprint.release);
        rollout.hub.put_deployment(&deployment).await?;
    }
    let text = if done.changed.is_empty() {
        format!("release {}: everything was there, nothing was changed\n", done.release)
    } else {
        format!(
            "release {} is deployed: {} changes\nhow it stands: redress deploy status\n",
            done.release,
            done.changed.len()
        )
    };
    Answer::new(&done, text)
}

/// What the stack leaves of the automation rules. That it does without them is said, and is no failure.
async fn rules(rollout: &Rollout, progress: &dyn Fn(&str)) -> Result<bool, Problem> {
    match &rollout.rules.wish {
        Wish::Have => rollout.hub.mend_rules(progress).await,
        Wish::LeaveOut(why) => {
            progress(&format!("Security Hub's automation rules are left out, which only mark findings: {why}"));
            Ok(false)
        }
    }
}

/// That nothing is in the way of the administrator account's stack, where there is none yet. What is in the way in another account
/// is told by its stack set.
async fn clear(rollout: &Rollout) -> Result<(), Problem> {
    if rollout.stacks.find(ADMINISTRATOR_STACK).await?.is_some() {
        return Ok(());
    }
    let (account, home) = (&rollout.settings.administrator, &rollout.settings.home_region);
    let (site, mut left) = (Site::new(&rollout.config, home), Vec::new());
    for one in rollout.remains(release::ADMINISTRATOR, account, home)? {
        if site.has(&one).await? {
            left.push(one.to_string());
        }
    }
    if left.is_empty() { Ok(()) } else { Err(remains::in_the_way(ADMINISTRATOR_STACK, &left)) }
}

/// Packages and templates, into each Region's bucket.
async fn upload(rollout: &Rollout, done: &mut Done, progress: &dyn Fn(&str)) -> Result<(), Problem> {
    for region in rollout.settings.regions() {
        let bucket = rollout.bucket(region);
        let there = match bucket.keys().await? {
            Some(keys) => keys,
            None => {
                progress(&format!("bucket {}: creating", bucket.name));
                bucket.create(&rollout.settings).await?;
                done.changed.push(format!("bucket {}", bucket.name));
                std::collections::BTreeSet::new()
            }
        };
        let wanted = rollout.blueprint.uploads.iter().filter(|upload| upload.region == *region);
        let missing: Vec<_> = wanted.filter(|upload| !there.contains(&upload.key)).collect();
        for upload in &missing {
            bucket.put(upload, &rollout.release).await?;
        }
        if !missing.is_empty() {
            progress(&format!("bucket {}: {} files uploaded", bucket.name, missing.len()));
            done.changed.push(format!("{} files in bucket {}", missing.len(), bucket.name));
        }
    }
    Ok(())
}

/// One wave: its sets, and then its gate.
async fn wave(rollout: &Rollout, wave: &Wave, done: &mut Done, output: Output) -> Result<(), Problem> {
    let progress = move |text: &str| output.progress(&format!("  {text}"));
    if wave.accounts.is_empty() {
        done.waves.insert(wave.name, "empty");
        return Ok(());
    }
    output.progress(&format!("wave {}: {} accounts", wave.name, wave.accounts.len()));
    let mut found: BTreeMap<&str, Option<Found>> = BTreeMap::new();
    for set in &rollout.blueprint.sets {
        rollout.sets.idle(&set.name).await?;
        found.insert(&set.name, rollout.sets.find(&set.name).await?);
    }
    let member = rollout.blueprint.sets.iter().find(|set| set.kind == Kind::Member);
    let members = member.and_then(|set| found.get(set.name.as_str())).and_then(Option::as_ref);
    let has_members =
        members.is_some_and(|found| found.instances.keys().any(|(account, _)| wave.accounts.contains(account)));
    for set in rollout.blueprint.order(has_members) {
        let there = found.get(set.name.as_str()).and_then(Option::as_ref);
        let need = Need::of(set, wave, there);
        if need.is_nothing() {
            continue;
        }
        apply(rollout, set, wave, &need, there, &progress).await?;
        done.changed.push(format!("stack set {} in wave {}", set.name, wave.name));
        let now = rollout.sets.find(&set.name).await?;
        let left = Need::of(set, wave, now.as_ref());
        if !left.is_nothing() {
            return Err(unfinished(set, wave, &left, now.as_ref()));
        }
    }
    pass(rollout, wave, done, &progress).await
}

/// What a wave needs of one set, of which there is what was `found`.
async fn apply(
    rollout: &Rollout,
    set: &Set,
    wave: &Wave,
    need: &Need,
    found: Option<&Found>,
    progress: &dyn Fn(&str),
) -> Result<(), Problem> {
    let version = &rollout.blueprint.version;
    let after = match &set.after {
        Some(name) => rollout.sets.find(name).await?.map(|found| found.arn),
        None => None,
    };
    if need.create {
        rollout.sets.create(set, version, after.as_deref()).await?;
    }
    if need.update || !need.outdated.is_empty() {
        progress(&format!("stack set {}: updating {} stacks", set.name, need.outdated.len()));
        let deployed = found.map(|found| found.parameters.clone()).unwrap_or_default();
        for one in set.kept(&deployed) {
            progress(&format!("kept: {one}"));
        }
        rollout.sets.update(set, version, after.as_deref(), wave, need.update, &deployed).await?;
    }
    if !need.missing.is_empty() {
        progress(&format!("stack set {}: creating {} stacks", set.name, need.missing.len()));
        rollout.sets.spread(set, wave).await?;
    }
    Ok(())
}

/// An operation that succeeded within its tolerance, and left something out.
fn unfinished(set: &Set, wave: &Wave, left: &Need, found: Option<&Found>) -> Problem {
    let reason = |pair: &(AccountId, Region)| {
        let reason = found.and_then(|found| found.instances.get(pair)).and_then(|one| one.reason.clone());
        format!("  {} {}: {}", pair.0, pair.1, reason.unwrap_or_else(|| "it is not there".to_owned()))
    };
    let lines: Vec<String> = left.outdated.iter().chain(&left.missing).take(10).map(reason).collect();
    let lines = lines.join("\n");
    Problem::failed(format!("stack set {} is not current everywhere in wave {}:\n{lines}", set.name, wave.name))
        .help(remains::hint(&lines))
}

/// The gate, when this wave has not passed it with what is deployed now.
async fn pass(
    rollout: &Rollout,
    wave: &Wave,
    done: &mut Done,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), Problem> {
    let accounts: Vec<&str> = wave.accounts.iter().map(AccountId::as_str).collect();
    let what = sha256_hex(format!("{} {}", rollout.blueprint.digest(), accounts.join(" ")).as_bytes());
    let mut deployment = rollout.hub.deployment().await?;
    if deployment.passed.get(wave.name) == Some(&what) {
        done.waves.insert(wave.name, "passed before");
        return Ok(());
    }
    let regions: Vec<&Region> = rollout.settings.regions().collect();
    let pairs = wave
        .accounts
        .iter()
        .flat_map(|account| regions.iter().map(|region| (account.clone(), (*region).clone())))
        .collect();
    gate::pass(&rollout.config, &rollout.settings, wave.name, pairs, progress).await?;
    deployment.passed.insert(wave.name.to_owned(), what);
    rollout.hub.put_deployment(&deployment).await?;
    done.waves.insert(wave.name, "passed");
    Ok(())
}
