//! `redress campaign`: the old findings of a control, at a pace that people choose.

use redress_common::aws::state_table::{self, StateKey};
use redress_common::items::campaign::{Campaign, CampaignStatus};
use redress_common::names;
use redress_common::operate::{Listing, Request};
use redress_common::time::seconds;
use serde_json::Value;

use crate::api;
use crate::args::{Campaign as Command, CampaignRun};
use crate::aws::Connection;
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::Problem;
use crate::settings;

pub(crate) async fn run(command: Command, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    match command {
        Command::Plan { name, control, accounts, per_hour, reason } => {
            let request = Request::CampaignPlan { name, control, accounts, per_hour, reason };
            let answer = api::call(connection, &request).await?;
            let text = planned(&answer, style)?;
            Answer::new(&answer, text)
        }
        Command::Start(run) => switch(run, true, connection, style).await,
        Command::Pause(run) => switch(run, false, connection, style).await,
        Command::List => {
            let mut all: Vec<Campaign> = settings::listed(Listing::Campaigns, connection).await?;
            all.sort_by_key(|campaign| std::cmp::Reverse(campaign.created_at));
            Answer::new(&all, list(&all, style))
        }
        Command::Show { name } => {
            let doing = "read the campaign";
            let client = aws_sdk_dynamodb::Client::new(&connection.config);
            let read = state_table::read(&client, names::STATE_TABLE, &[StateKey::Campaign(name.clone())]).await;
            let found = read.map_err(|error| Problem::aws(doing, &error))?.campaign(&name);
            let campaign = found.map_err(|error| Problem::aws(doing, &error))?.ok_or_else(|| {
                Problem::not_found(format!("there is no campaign `{name}`")).help("`redress campaign list` shows all")
            })?;
            Answer::new(&campaign, show(&campaign, style))
        }
    }
}

async fn switch(run: CampaignRun, on: bool, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let request = Request::CampaignRun { name: run.name, run: on, reason: run.reason.reason };
    let answer = api::call(connection, &request).await?;
    Answer::new(&answer, show(&read(&answer)?, style))
}

fn read(answer: &Value) -> Result<Campaign, Problem> {
    serde_json::from_value(answer["Campaign"].clone()).map_err(|error| Problem::aws("read the api's answer", &error))
}

fn planned(answer: &Value, style: Style) -> Result<String, Problem> {
    let campaign = read(answer)?;
    let counts = |name: &str| {
        let counts = answer["Summary"][name].as_object().into_iter().flatten();
        counts.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = show(&campaign, style);
    text.push_str(&style.fields(&[
        ("Policy would", counts("Disposition")),
        ("In accounts", counts("AccountId")),
        ("Severity", counts("Severity")),
    ]));
    if answer["More"] == true {
        text.push_str("Security Hub has more; plan a second campaign when this one is done\n");
    }
    if campaign.planned == 0 {
        text.push_str("Security Hub has no open finding of this control\n");
    } else {
        text.push_str(&format!("nothing is done yet: redress campaign start {}\n", campaign.name));
    }
    Ok(text)
}

fn tone(status: CampaignStatus) -> Tone {
    match status {
        CampaignStatus::Planned => Tone::Faint,
        CampaignStatus::Running | CampaignStatus::Done => Tone::Good,
        CampaignStatus::Paused => Tone::Warning,
    }
}

fn list(all: &[Campaign], style: Style) -> String {
    if all.is_empty() {
        return "there is no campaign\n".to_owned();
    }
    let rows = all.iter().map(|campaign| {
        [
            campaign.name.clone().into(),
            Text::toned(tone(campaign.status), format!("{:?}", campaign.status)),
            campaign.control.to_string().into(),
            format!("{} of {}", campaign.released, campaign.planned).into(),
            campaign.per_hour.to_string().into(),
            campaign.reason.clone().into(),
        ]
    });
    style.table(["Name", "Status", "Control", "Released", "An hour", "Why"], rows)
}

fn show(campaign: &Campaign, style: Style) -> String {
    let left = campaign.planned.saturating_sub(campaign.released);
    let hours = f64::from(left) / f64::from(campaign.per_hour.max(1));
    let accounts = campaign.accounts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    style.fields(&[
        ("Campaign", campaign.name.clone()),
        ("Status", style.paint(tone(campaign.status), &format!("{:?}", campaign.status))),
        ("Control", campaign.control.to_string()),
        ("Accounts", if accounts.is_empty() { "all".to_owned() } else { accounts }),
        ("Released", format!("{} of {}", campaign.released, campaign.planned)),
        ("Pace", format!("{} an hour; {hours:.1} hours left", campaign.per_hour)),
        ("Planned by", format!("{} at {}", campaign.created_by, seconds(campaign.created_at))),
        ("Why", campaign.reason.clone()),
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_says_what_policy_would_do_with_how_many() {
        let answer = json!({
            "Campaign": {
                "Version": 1, "Name": "close-buckets", "Status": "Planned", "Control": "S3.8", "Accounts": [], "PerHour": 20,
                "Planned": 30, "Released": 0, "ReleasedAt": 0, "CreatedBy": "arn:aws:iam::999999999999:role/x",
                "CreatedAt": "2026-03-01T12:00:00Z", "Reason": "backlog",
            },
            "Summary": { "Disposition": { "act": 25, "notify": 5 }, "AccountId": { "111122223333": 30 }, "Severity": { "HIGH": 30 } },
            "More": false,
        });
        insta::assert_snapshot!(planned(&answer, Style::PLAIN).unwrap());
    }
}
