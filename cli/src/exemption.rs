//! `redress exemption`: what nobody may touch, who answers for that, why, and until when.

use jiff::{SignedDuration, Timestamp};
use redress_common::aws::state_table::{self, StateKey};
use redress_common::items::exemption::Exemption;
use redress_common::names;
use redress_common::operate::Request;
use redress_common::time::seconds;

use crate::api;
use crate::args::{Exemption as Command, ExemptionAdd};
use crate::aws::Connection;
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::Problem;

pub(crate) async fn run(command: Command, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    match command {
        Command::Add(add) => {
            let id = add.id.clone();
            let answer = api::call(connection, &asked(*add, Timestamp::now())?).await?;
            let until = answer["Exemption"]["ExpiresAt"].as_str().unwrap_or_default();
            let until = until.parse().map_or_else(|_| until.to_owned(), seconds);
            let text = format!("exemption.{id} holds until {until}\nledger record: {}\n", record(&answer));
            Answer::new(&answer, text)
        }
        Command::Remove { id, reason } => {
            let answer = api::call(connection, &Request::ExemptionRemove { id: id.clone(), reason }).await?;
            Answer::new(&answer, format!("exemption.{id} has ended\nledger record: {}\n", record(&answer)))
        }
        Command::List => list(connection, style).await,
    }
}

fn record(answer: &serde_json::Value) -> &str {
    answer["RemediationId"].as_str().unwrap_or_default()
}

fn asked(add: ExemptionAdd, now: Timestamp) -> Result<Request, Problem> {
    let days = SignedDuration::from_hours(24 * i64::from(add.days.unwrap_or_default()));
    let expires_at = match add.until {
        Some(until) => until,
        None => now.checked_add(days).map_err(|error| Problem::aws("add the days", &error))?,
    };
    Ok(Request::ExemptionAdd {
        id: add.id,
        control: add.control,
        account: add.account,
        ou: add.ou,
        resource: add.resource,
        owner: add.owner,
        reason: add.reason,
        expires_at,
    })
}

async fn list(connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let doing = "read the exemptions";
    let client = aws_sdk_dynamodb::Client::new(&connection.config);
    let snapshot = state_table::read(&client, names::STATE_TABLE, &[StateKey::Exemptions]).await;
    let read = snapshot.map_err(|error| Problem::aws(doing, &error))?.exemptions();
    let mut all = read.map_err(|error| Problem::aws(doing, &error))?.exemptions;
    all.sort_by_key(|exemption| exemption.expires_at);
    Answer::new(&all, render(&all, Timestamp::now(), style))
}

fn render(all: &[Exemption], now: Timestamp, style: Style) -> String {
    if all.is_empty() {
        return "nothing is exempt\n".to_owned();
    }
    let rows = all.iter().map(|exemption| {
        let until = seconds(exemption.expires_at);
        let until =
            if exemption.expires_at > now { until.into() } else { Text::toned(Tone::Faint, format!("ended {until}")) };
        [
            exemption.id.clone().into(),
            scope(exemption).into(),
            until,
            exemption.owner.clone().into(),
            exemption.reason.clone().into(),
        ]
    });
    style.table(["Id", "Exempt", "Until", "Owner", "Why"], rows)
}

fn scope(exemption: &Exemption) -> String {
    let parts = [
        exemption.control.as_ref().map(ToString::to_string),
        exemption.resource.as_ref().map(|arn| format!("on {arn}")),
        exemption.account.as_ref().map(|account| format!("in account {account}")),
        exemption.ou.as_ref().map(|ou| format!("in unit {ou}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_is_exempt_until_when_and_who_answers_for_it() {
        let exemption = |id: &str, until: &str| Exemption {
            id: id.to_owned(),
            control: Some("S3.8".parse().unwrap()),
            account: None,
            ou: Some("ou-ab12-cd34ef56".to_owned()),
            resource: None,
            owner: "team web".to_owned(),
            reason: "public on purpose".to_owned(),
            expires_at: until.parse().unwrap(),
            created_by: "arn:aws:iam::999999999999:role/x".to_owned(),
            created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        let all = [exemption("old", "2026-02-01T00:00:00Z"), exemption("web", "2026-06-01T00:00:00Z")];
        insta::assert_snapshot!(render(&all, "2026-03-01T00:00:00Z".parse().unwrap(), Style::PLAIN));
    }
}
