//! `redress deploy plan`: what `apply` would do, where, and what it costs a month. Changes nothing.

use serde::Serialize;

use super::accounts::Wave;
use super::automation_rules::Wish;
use super::blueprint::Blueprint;
use super::cost::{self, Line};
use super::kept::Kept;
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
    kept: &'a [Kept],
    cost: &'a [Line],
    dollars_a_month: f64,
}

pub(crate) async fn run(rollout: &Rollout, style: Style) -> Result<Answer, Problem> {
    rollout.release.suits(rollout.settings.architecture)?;
    let survey = rollout.survey().await?;
    let mut changes = changes(&rollout.blueprint, &rollout.organisation.waves, &survey);
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
    let kept = kept(&rollout.blueprint, &survey);
    let lines = cost::lines(accounts, rollout.settings.regions().count() as u64);
    let planned = Planned {
        version: &rollout.blueprint.version,
        release: &rollout.blueprint.release,
        waves: &rollout.organisation.waves,
        changes: &changes,
        kept: &kept,
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

/// Pure: what keeps a value that is not its template's default, though the settings say nothing of it.
pub(crate) fn kept(blueprint: &Blueprint, survey: &Survey) -> Vec<Kept> {
    let stack = &blueprint.stack;
    // One that is made again has nothing of the one before.
    let found = survey.stack.as_ref().filter(|found| stacks::need(stack, Some(*found)) != stacks::Need::Replace);
    let mut kept = found.map(|found| stack.kept(&found.parameters)).unwrap_or_default();
    for set in &blueprint.sets {
        let found = survey.sets.get(&set.name).and_then(Option::as_ref);
        kept.extend(found.map(|found| set.kept(&found.parameters)).unwrap_or_default());
    }
    kept
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
    for kept in planned.kept {
        text.push_str(&format!("kept: {kept}\n"));
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::deploy::release::tests::release;
    use crate::deploy::sets;
    use crate::deploy::settings::tests::settings;

    #[test]
    fn what_was_set_by_hand_is_told_where_an_update_keeps_it_and_not_where_it_is_made_again() {
        let (_folder, release) = release("0.1.0");
        let blueprint = Blueprint::new(&settings(), &release, true).unwrap();
        let values = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let survey = |status: &str| Survey {
            stack: Some(stacks::Found {
                id: "id".to_owned(),
                status: status.to_owned(),
                digest: None,
                has_rules: true,
                parameters: values("OperatorsApprove", "false"),
            }),
            sets: BTreeMap::from([
                (
                    "redress-member".to_owned(),
                    Some(sets::Found { parameters: values("ObjectLockDays", "30"), ..sets::Found::default() }),
                ),
                ("redress-member-region".to_owned(), None),
            ]),
            missing: BTreeMap::new(),
        };
        let told = |status: &str| kept(&blueprint, &survey(status)).iter().map(ToString::to_string).collect::<Vec<_>>();
        let stack = "OperatorsApprove=false, set outside redress.toml on stack redress-administrator; true by default";
        let set = "ObjectLockDays=30, set outside redress.toml on stack set redress-member; 0 by default";
        assert_eq!(told("UPDATE_COMPLETE"), [stack, set]);
        assert_eq!(told("ROLLBACK_COMPLETE"), [set]);

        let kept = kept(&blueprint, &survey("UPDATE_COMPLETE"));
        let planned = Planned {
            version: "0.1.0",
            release: "0.1.0-abc",
            waves: &[],
            changes: &[],
            kept: &kept,
            cost: &[],
            dollars_a_month: 0.0,
        };
        let text = render(&planned, "111111111111 us-east-1", Style::PLAIN);
        assert!(text.contains(&format!("\nkept: {stack}\nkept: {set}\n")), "{text}");
        let json = serde_json::to_value(&planned).unwrap();
        let first = serde_json::json!({ "Name": "stack redress-administrator", "Parameter": "OperatorsApprove",
            "Value": "false", "Default": "true" });
        assert_eq!(json["Kept"][0], first);
    }
}
