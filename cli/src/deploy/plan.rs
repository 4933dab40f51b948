//! `redress deploy plan`: what `apply` would do, where, and what it costs a month. Changes nothing.

use serde::Serialize;

use super::accounts::Wave;
use super::automation_rules::Wish;
use super::blueprint::Blueprint;
use super::cost::{self, Line};
use super::rollout::{Rollout, Rules, Survey};
use super::sets::Need;
use super::stacks;
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::Problem;

/// One thing that would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Change {
    pub(crate) what: What,
    pub(crate) name: String,
    /// In which account and Region, or in how many.
    pub(crate) place: String,
    pub(crate) wave: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum What {
    Create,
    Change,
    Replace,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Planned<'a> {
    version: &'a str,
    release: &'a str,
    waves: &'a [Wave],
    changes: &'a [Change],
    cost: &'a [Line],
    dollars_a_month: f64,
}

pub(crate) async fn run(rollout: &Rollout, style: Style) -> Result<Answer, Problem> {
    let survey = rollout.survey().await?;
    let mut changes = changes(&rollout.blueprint, &rollout.organisation.waves, &survey);
    rollout.release.suits(rollout.settings.architecture)?;
    let home = format!("{} {}", rollout.settings.administrator, rollout.settings.home_region);
    if changes.is_empty() || survey.stack.is_some() {
        for (name, what) in beside(rollout).await? {
            if let Some(what) = what {
                changes.push(Change { what, name: name.to_owned(), place: home.clone(), wave: None });
            }
        }
    }
    if let Some(what) = rules(&rollout.rules) {
        changes.push(Change {
            what,
            name: "Security Hub's automation rules".to_owned(),
            place: home.clone(),
            wave: None,
        });
    }
    let accounts = rollout.organisation.waves.iter().map(|wave| wave.accounts.len() as u64).sum();
    let lines = cost::lines(accounts, rollout.settings.regions().count() as u64);
    let planned = Planned {
        version: &rollout.blueprint.version,
        release: &rollout.blueprint.release,
        waves: &rollout.organisation.waves,
        changes: &changes,
        cost: &lines,
        dollars_a_month: cost::monthly(&lines),
    };
    Answer::new(&planned, render(&planned, &home, style))
}

/// What is beside the stacks, and what would be done about it.
async fn beside(rollout: &Rollout) -> Result<[(&'static str, Option<What>); 3], Problem> {
    let (_, is_current) = rollout.hub.catalogue(&rollout.release.catalogue).await?;
    let unless = |is_done: bool| (!is_done).then_some(What::Create);
    Ok([
        ("the catalogue", unless(is_current)),
        ("Security Hub's custom actions", unless(rollout.hub.missing_actions().await?.is_empty())),
        ("the e-mail subscription", unless(rollout.hub.is_told().await?)),
    ])
}

/// Pure: what would be done about Security Hub's automation rules, by the stack or after it.
fn rules(rules: &Rules) -> Option<What> {
    let need = &rules.need;
    match rules.wish {
        Wish::LeaveOut(_) => None,
        Wish::Have if !need.missing.is_empty() => Some(What::Create),
        Wish::Have if !need.update.is_empty() || !need.replaced.is_empty() => Some(What::Change),
        Wish::Have => None,
    }
}

/// Pure: what would be done about buckets, stacks and sets.
pub(crate) fn changes(blueprint: &Blueprint, waves: &[Wave], survey: &Survey) -> Vec<Change> {
    let mut changes = Vec::new();
    for (bucket, missing) in &survey.missing {
        let objects = |count: usize| format!("{count} objects");
        match missing {
            None => changes.push(Change {
                what: What::Create,
                name: format!("bucket {bucket}"),
                place: "with the release".to_owned(),
                wave: None,
            }),
            Some(0) => {}
            Some(count) => changes.push(Change {
                what: What::Change,
                name: format!("bucket {bucket}"),
                place: objects(*count),
                wave: None,
            }),
        }
    }
    let what = match stacks::need(&blueprint.stack, survey.stack.as_ref()) {
        stacks::Need::Nothing => None,
        stacks::Need::Create => Some(What::Create),
        stacks::Need::Replace => Some(What::Replace),
        stacks::Need::Update | stacks::Need::Await => Some(What::Change),
    };
    changes.extend(what.map(|what| Change {
        what,
        name: format!("stack {}", blueprint.stack.name),
        place: "administrator account".to_owned(),
        wave: None,
    }));
    for wave in waves {
        for set in &blueprint.sets {
            let found = survey.sets.get(&set.name).and_then(Option::as_ref);
            let need = Need::of(set, wave, found);
            for (what, pairs) in [(What::Create, &need.missing), (What::Change, &need.outdated)] {
                if !pairs.is_empty() {
                    let accounts: std::collections::BTreeSet<_> = pairs.iter().map(|(account, _)| account).collect();
                    let place = format!("{} stacks in {} accounts", pairs.len(), accounts.len());
                    changes.push(Change {
                        what,
                        name: format!("stack set {}", set.name),
                        place,
                        wave: Some(wave.name),
                    });
                }
            }
        }
    }
    changes
}

fn render(planned: &Planned<'_>, home: &str, style: Style) -> String {
    let mut text = style.fields(&[
        ("Release", planned.release.to_owned()),
        ("Administrator", home.to_owned()),
        (
            "Waves",
            planned
                .waves
                .iter()
                .map(|wave| format!("{}: {} accounts", wave.name, wave.accounts.len()))
                .collect::<Vec<_>>()
                .join(", "),
        ),
    ]);
    text.push('\n');
    if planned.changes.is_empty() {
        text.push_str("nothing would be done: everything is there\n");
    } else {
        let rows = planned.changes.iter().map(|change| {
            let tone = if change.what == What::Create { Tone::Good } else { Tone::Warning };
            let what = Text::toned(tone, format!("{:?}", change.what).to_lowercase());
            [what, change.name.as_str().into(), change.place.as_str().into(), change.wave.unwrap_or_default().into()]
        });
        text.push_str(&style.table(["What", "Name", "Where", "Wave"], rows));
    }
    text.push('\n');
    let rows = planned.cost.iter().map(|line| {
        [line.what.into(), line.each.into(), line.count.to_string().into(), format!("${:.2}", line.sum()).into()]
    });
    text.push_str(&style.table(["A month", "Of each", "Count", "Sum"], rows));
    text.push_str(&format!(
        "\n${:.2} a month while nothing happens; what a remediation costs: docs/cost.md\n",
        planned.dollars_a_month
    ));
    text
}
