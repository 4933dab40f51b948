//! `redress deploy destroy`: takes Redress from every account and from the administrator account, and keeps what proves
//! what it did: the ledger, the members' evidence, and the keys that both are read with.
//!
//! With `--delete-evidence`, and the organisation's id typed out, that goes too.

use std::io::{BufRead as _, Write as _};

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::AccountId;
use redress_common::names;
use serde::Serialize;

use super::blueprint::ADMINISTRATOR_STACK;
use super::rollout::Rollout;
use crate::args::DeployDestroy;
use crate::aws::assume;
use crate::output::{Answer, Output};
use crate::problem::Problem;

/// Tables that prove nothing.
const WORKING_TABLES: [&str; 2] = [names::STATE_TABLE, names::BACKLOG_TABLE];

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Done {
    deleted: Vec<String>,
    kept: Vec<String>,
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
            &format!("Ledger, evidence and keys are deleted and cannot be brought back. Type `{typed}` to go on: "),
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
    for table in WORKING_TABLES {
        if rollout.hub.delete_table(table).await? {
            done.deleted.push(format!("table {table}"));
        }
    }
    for region in rollout.settings.regions() {
        let bucket = rollout.bucket(region);
        if bucket.keys().await?.is_some() {
            bucket.delete().await?;
            done.deleted.push(format!("bucket {}", bucket.name));
        }
    }
    let home = &rollout.settings.home_region;
    if given.delete_evidence {
        if rollout.hub.delete_table(names::AUDIT_TABLE).await? {
            done.deleted.push(format!("table {}", names::AUDIT_TABLE));
        }
        for account in &accounts {
            let bucket = names::evidence_bucket(account, home);
            progress(&format!("bucket {bucket}: deleting"));
            evidence(rollout, account, &bucket, &given.member_role).await?;
            done.deleted.push(format!("bucket {bucket}"));
        }
        done.kept.push("KMS keys: CloudFormation kept them; schedule their deletion yourself when nothing is sealed under them any more".to_owned());
    } else {
        done.kept.push(format!("table {}, with its key", names::AUDIT_TABLE));
        done.kept.extend(
            accounts.iter().map(|account| format!("bucket {}, with its key", names::evidence_bucket(account, home))),
        );
    }
    done.kept.push(
        "log groups and dead-letter queues of every account: they hold what was told and not delivered".to_owned(),
    );
    let text = format!("deleted: {}\nkept:\n  {}\n", done.deleted.len(), done.kept.join("\n  "));
    Answer::new(&done, text)
}

/// Empties and deletes a member's evidence bucket, by a role of that account.
async fn evidence(rollout: &Rollout, account: &AccountId, bucket: &str, role: &str) -> Result<(), Problem> {
    let home = &rollout.settings.home_region;
    let partition = redress_common::arn::Partition::of_region(home);
    let arn = names::role_arn(partition, account, role);
    let credentials = assume(&rollout.config, &arn, "redress-destroy", None).await?;
    let provider = aws_sdk_sts::config::SharedCredentialsProvider::new(credentials);
    let config = rollout.config.to_builder().credentials_provider(provider).build();
    let client = s3_client(&config, home);
    let failed = |failure: AwsFailure| Problem::aws(&format!("delete bucket {bucket}"), &failure);
    loop {
        let listed = match client.list_object_versions().bucket(bucket).send().await {
            Ok(listed) => listed,
            Err(error) => {
                let failure = AwsFailure::of("s3:ListObjectVersions", &error);
                return if failure.code() == Some("NoSuchBucket") { Ok(()) } else { Err(failed(failure)) };
            }
        };
        let versions = listed.versions().iter().map(|one| (one.key(), one.version_id()));
        let markers = listed.delete_markers().iter().map(|one| (one.key(), one.version_id()));
        let all: Vec<ObjectIdentifier> = versions
            .chain(markers)
            .filter_map(|(key, version)| {
                ObjectIdentifier::builder().key(key?).set_version_id(version.map(str::to_owned)).build().ok()
            })
            .collect();
        if all.is_empty() {
            break;
        }
        let delete = Delete::builder().set_objects(Some(all)).quiet(true).build();
        let delete = delete.map_err(|error| Problem::aws("empty a bucket", &error))?;
        let deleted = client.delete_objects().bucket(bucket).delete(delete).send().await;
        let deleted = deleted.map_err(|error| failed(AwsFailure::of("s3:DeleteObjects", &error)))?;
        if let Some(kept) = deleted.errors().first() {
            let why = kept.message().unwrap_or_default();
            return Err(Problem::refused(format!("evidence in bucket {bucket} cannot be deleted: {why}"))
                .help("an Object Lock ends by itself (ObjectLockDays of the member stack); nobody can end it sooner"));
        }
    }
    let deleted = client.delete_bucket().bucket(bucket).send().await;
    deleted.map_err(|error| failed(AwsFailure::of("s3:DeleteBucket", &error)))?;
    Ok(())
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
}
