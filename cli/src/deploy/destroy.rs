//! `redress deploy destroy`: takes Redress from every account and from the administrator account, and keeps what proves
//! what it did: the ledger, its checkpoints, the members' evidence, and the keys that these are read and checked with.
//!
//! With `--delete-evidence`, and a whole sentence typed out, that goes too, and with it the logs and dead letters: all that would
//! be in the way of another deployment.

use std::io::{BufRead as _, Write as _};

use aws_types::SdkConfig;
use redress_common::arn::Partition;
use redress_common::ids::AccountId;
use redress_common::names;
use serde::Serialize;

use super::blueprint::ADMINISTRATOR_STACK;
use super::release;
use super::remains::{Fate, Kind, Locks, Remain, Site};
use super::rollout::Rollout;
use crate::args::DeployDestroy;
use crate::aws::assume;
use crate::output::{Answer, Output};
use crate::problem::Problem;

/// Tables that prove nothing.
const WORKING_TABLES: [&str; 2] = [names::STATE_TABLE, names::BACKLOG_TABLE];
/// What an emptied bucket holds that cannot be deleted.
const MEANWHILE: &str = "what was put there meanwhile";

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Done {
    deleted: Vec<String>,
    kept: Vec<String>,
}

impl Done {
    /// Notes what became of something. `full` says what a bucket holds that is kept.
    fn note(&mut self, what: String, fate: Fate, full: &str) {
        match fate {
            Fate::Deleted => self.deleted.push(what),
            Fate::Full => self.kept.push(format!("{what}: it holds {full}")),
            Fate::Absent => {}
        }
    }
}

pub(crate) async fn run(rollout: &Rollout, given: &DeployDestroy, output: Output) -> Result<Answer, Problem> {
    let organization = &rollout.settings.organization;
    confirm(
        given.confirm.as_deref(),
        organization,
        &format!("Redress is taken from every account of {organization}. Type the organisation's id to go on: "),
    )?;
    if given.delete_evidence {
        let typed = format!("delete evidence of {organization}");
        confirm(
            given.confirm_evidence.as_deref(),
            &typed,
            &format!(
                "Ledger, evidence, logs and dead letters are deleted and cannot be brought back. Type `{typed}` to go on: "
            ),
        )?;
    }
    let progress = |text: &str| output.progress(&format!("  {text}"));
    let mut done = Done::default();
    let accounts: Vec<AccountId> =
        rollout.organisation.waves.iter().flat_map(|wave| wave.accounts.iter().cloned()).collect();
    for set in rollout.blueprint.sets.iter().rev() {
        progress(&format!("stack set {}: deleting", set.name));
        if rollout.sets.delete(&set.name).await? {
            done.deleted.push(format!("stack set {}", set.name));
        }
    }
    let has_hub = rollout.stacks.find(ADMINISTRATOR_STACK).await?.is_some();
    progress(&format!("stack {ADMINISTRATOR_STACK}: deleting"));
    if rollout.stacks.delete(ADMINISTRATOR_STACK).await? {
        done.deleted.push(format!("stack {ADMINISTRATOR_STACK}"));
    }
    if rollout.hub.delete_rules(&progress).await? {
        done.deleted.push("Security Hub's automation rules".to_owned());
    }
    if has_hub && rollout.hub.delete_actions().await? {
        done.deleted.push("Security Hub's custom actions".to_owned());
    }
    let home = &rollout.settings.home_region;
    let administrator = Site::new(&rollout.config, home);
    for table in WORKING_TABLES.map(Remain::table) {
        if administrator.delete(&table).await? == Fate::Deleted {
            done.deleted.push(table.to_string());
        }
    }
    for region in rollout.settings.regions() {
        let (site, bucket) = (Site::new(&rollout.config, region), Remain::bucket(&rollout.bucket(region).name));
        site.empty(&bucket.name, Locks::Heed).await?;
        let fate = site.delete(&bucket).await?;
        done.note(bucket.to_string(), fate, MEANWHILE);
    }
    let checkpoints = names::checkpoint_bucket(&rollout.settings.administrator, home);
    if given.delete_evidence {
        let remains = rollout.remains(release::ADMINISTRATOR, &rollout.settings.administrator, home)?;
        for one in remains.into_iter().filter(|one| one.name != checkpoints) {
            let fate = administrator.delete(&one).await?;
            done.note(one.to_string(), fate, "a list of your own");
        }
        for account in &accounts {
            progress(&format!("account {account}: deleting evidence, logs and dead letters"));
            evidence(rollout, account, &given.member_role, &mut done).await?;
        }
        // Last: a lock that nobody can end should keep nothing else.
        administrator.empty(&checkpoints, Locks::End).await?;
        let checkpoints = Remain::bucket(&checkpoints);
        let fate = administrator.delete(&checkpoints).await?;
        done.note(checkpoints.to_string(), fate, MEANWHILE);
        done.kept.push("KMS keys: CloudFormation kept them; schedule their deletion yourself when nothing is sealed under them any more".to_owned());
    } else {
        done.kept.push(format!("table {}, with its key", names::AUDIT_TABLE));
        done.kept.push(format!("bucket {checkpoints}, with the key that signed what is in it"));
        done.kept.extend(
            accounts.iter().map(|account| format!("bucket {}, with its key", names::evidence_bucket(account, home))),
        );
        done.kept.push(
            "log groups and dead-letter queues of every account: they hold what was told and not delivered".to_owned(),
        );
    }
    let text = format!("deleted: {}\nkept:\n  {}\n", done.deleted.len(), done.kept.join("\n  "));
    Answer::new(&done, text)
}

/// Deletes what the stacks of an account left in its Regions, by a role of that account.
async fn evidence(rollout: &Rollout, account: &AccountId, role: &str, done: &mut Done) -> Result<(), Problem> {
    let home = &rollout.settings.home_region;
    let config = enter(rollout, account, role).await?;
    for region in rollout.settings.regions() {
        let site = Site::new(&config, region);
        let file = if region == home { release::MEMBER } else { release::REGION };
        for one in rollout.remains(file, account, region)? {
            if one.kind == Kind::Bucket {
                // A sentence was typed: who may end locks in governance mode means it.
                site.empty(&one.name, Locks::End).await?;
            }
            let fate = site.delete(&one).await?;
            done.note(format!("{one} of {account} in {region}"), fate, MEANWHILE);
        }
    }
    Ok(())
}

/// A configuration with a session of a role in an account.
async fn enter(rollout: &Rollout, account: &AccountId, role: &str) -> Result<SdkConfig, Problem> {
    let arn = names::role_arn(Partition::of_region(&rollout.settings.home_region), account, role);
    let credentials = assume(&rollout.config, &arn, "redress-destroy", None).await?;
    let provider = aws_sdk_sts::config::SharedCredentialsProvider::new(credentials);
    Ok(rollout.config.to_builder().credentials_provider(provider).build())
}

/// That a person means it: what has to be typed was typed, here or as a flag.
fn confirm(given: Option<&str>, expected: &str, question: &str) -> Result<(), Problem> {
    let typed = match given {
        Some(given) => given.to_owned(),
        None => {
            let mut stderr = std::io::stderr().lock();
            let _ = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map_err(|error| Problem::aws("read the answer", &error))?;
            line.trim().to_owned()
        }
    };
    if typed == expected {
        return Ok(());
    }
    Err(Problem::refused(format!("`{expected}` was not typed; nothing was changed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_without_the_whole_sentence() {
        assert!(confirm(Some("o-abcdefghij"), "o-abcdefghij", "").is_ok());
        for wrong in ["", "yes", "o-abcdefghi", "O-ABCDEFGHIJ"] {
            assert!(confirm(Some(wrong), "o-abcdefghij", "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_became_of_each_thing_is_told_and_what_was_not_there_is_not() {
        let mut done = Done::default();
        for fate in [Fate::Deleted, Fate::Full, Fate::Absent] {
            done.note(format!("{fate:?}"), fate, "more");
        }
        assert_eq!((done.deleted, done.kept), (vec!["Deleted".to_owned()], vec!["Full: it holds more".to_owned()]));
    }
}
