//! `redress deploy status`: every account and Region, each stack set's stack there, and whether it is this release's.

use std::collections::BTreeSet;

use redress_common::ids::{AccountId, Region};
use serde::Serialize;

use super::accounts::Wave;
use super::blueprint::Blueprint;
use super::rollout::{Rollout, Survey};
use super::stacks;
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::{Exit, Problem};

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Row {
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) name: String,
    pub(crate) state: String,
    /// Of the stack set, or nothing when that is another's.
    pub(crate) version: String,
    pub(crate) is_current: bool,
    pub(crate) reason: Option<String>,
}

pub(crate) async fn run(rollout: &Rollout, style: Style) -> Result<Answer, Problem> {
    let survey = rollout.survey().await?;
    let settings = &rollout.settings;
    let rows = rows(
        &rollout.blueprint,
        &rollout.organisation.waves,
        &survey,
        (&settings.administrator, &settings.home_region),
    );
    let wrong = rows.iter().filter(|row| !row.is_current).count();
    let mut text = render(&rows, style);
    text.push_str(&match wrong {
        0 => format!("\nall {} stacks are current: release {}\n", rows.len(), rollout.blueprint.release),
        _ => format!(
            "\n{wrong} of {} stacks are not current: `redress deploy apply` brings release {} there\n",
            rows.len(),
            rollout.blueprint.release
        ),
    });
    Ok(Answer::new(&rows, text)?.exit(if wrong == 0 { Exit::Done } else { Exit::Failed }))
}

/// Pure: every stack that should be there, and what there is.
pub(crate) fn rows(
    blueprint: &Blueprint,
    waves: &[Wave],
    survey: &Survey,
    (administrator, home): (&AccountId, &Region),
) -> Vec<Row> {
    let found = survey.stack.as_ref();
    let is_current = stacks::need(&blueprint.stack, found) == stacks::Need::Nothing;
    let mut rows = vec![Row {
        account: administrator.clone(),
        region: home.clone(),
        name: blueprint.stack.name.to_owned(),
        state: found.map_or_else(|| "MISSING".to_owned(), |found| found.status.clone()),
        version: if is_current { blueprint.version.clone() } else { String::new() },
        is_current,
        reason: None,
    }];
    let accounts: BTreeSet<&AccountId> = waves.iter().flat_map(|wave| &wave.accounts).collect();
    for account in accounts {
        for set in &blueprint.sets {
            let found = survey.sets.get(&set.name).and_then(Option::as_ref);
            let of_this = found.is_some_and(|found| found.digest == set.digest);
            for region in &set.regions {
                let instance = found.and_then(|found| found.instances.get(&(account.clone(), region.clone())));
                let (state, is_current) = match instance {
                    None => ("MISSING".to_owned(), false),
                    Some(one) if one.is_current() && !of_this => ("OTHER RELEASE".to_owned(), false),
                    Some(one) => (one.status.clone(), one.is_current()),
                };
                rows.push(Row {
                    account: account.clone(),
                    region: region.clone(),
                    name: set.name.clone(),
                    state,
                    version: found.map_or_else(String::new, |found| found.version.clone()),
                    is_current,
                    reason: instance.filter(|_| !is_current).and_then(|one| one.reason.clone()),
                });
            }
        }
    }
    rows
}

fn render(rows: &[Row], style: Style) -> String {
    let told = rows.iter().map(|row| {
        let tone = if row.is_current { Tone::Good } else { Tone::Bad };
        [
            row.account.as_str().into(),
            row.region.as_str().into(),
            row.name.as_str().into(),
            Text::toned(tone, row.state.as_str()),
            row.version.as_str().into(),
            row.reason.as_deref().unwrap_or_default().into(),
        ]
    });
    style.table(["Account", "Region", "Stack", "State", "Version", "Reason"], told)
}
