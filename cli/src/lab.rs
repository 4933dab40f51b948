//! `redress lab`: steering a running lab. Starting one is in [`crate::host`], showing it off in [`crate::demo`].

use redress_common::arn::Partition;
use redress_common::ids::AccountId;
use redress_common::names;
use redress_lab::record::{Call, Verdict};
use redress_lab::service::Credentials;
use serde::Serialize;
use serde_json::Value;

use crate::args::Lab;
use crate::output::{Answer, Output, Style, Text, Tone};
use crate::problem::Problem;
use crate::running::Running;
use crate::{attempt, demo, host};

pub(crate) async fn run(command: Lab, output: Output) -> Result<Answer, Problem> {
    let style = output.style();
    match command {
        Lab::Demo => demo::run(output).await,
        Lab::Try { control } => attempt::run(&control, output).await,
        Lab::Up { members, port, empty } => host::up(members, port, empty, output).await,
        Lab::Break { scenario, account } => {
            let broken = Running::find()?.break_it(&scenario, account.as_ref()).await?;
            let text = format!("{}what follows: redress lab status, redress audit list\n", fields(&broken, style));
            Answer::new(&broken, text)
        }
        Lab::Scenarios => {
            let scenarios = Running::find()?.scenarios().await?;
            let text = rows(&scenarios, style);
            Answer::new(&scenarios, text)
        }
        Lab::Status => {
            let status = Running::find()?.status().await?;
            let text = sections(&status, style);
            Answer::new(&status, text)
        }
        Lab::Env { account } => env(&Running::find()?, account.as_ref()).await,
        Lab::Record { principal, service, denied } => {
            let mut calls = Running::find()?.calls().await?;
            calls.retain(|call| {
                principal.as_ref().is_none_or(|wanted| call.principal.contains(wanted))
                    && service.as_ref().is_none_or(|wanted| call.service == *wanted)
                    && (!denied || call.verdict == Verdict::Deny)
            });
            Answer::new(&calls, record(&calls, style))
        }
        Lab::Down => {
            let stopping = Running::find()?.stop().await?;
            Answer::new(&stopping, "the lab stops\n".to_owned())
        }
    }
}

/// The environment of a client, as `eval` takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Environment<'a> {
    aws_endpoint_url: &'a str,
    aws_region: &'a str,
    aws_default_region: &'a str,
    aws_access_key_id: &'a str,
    aws_secret_access_key: &'a str,
    aws_session_token: Option<&'a str>,
    redress_external_id: &'a str,
    /// A profile would win over the keys.
    aws_profile: Option<&'a str>,
}

async fn env(lab: &Running, account: Option<&AccountId>) -> Result<Answer, Problem> {
    if let Some(account) = account
        && *account != lab.administrator
        && !lab.members.contains(account)
    {
        return Err(Problem::not_found(format!("the lab has no account `{account}`"))
            .help("`redress lab status` shows its accounts"));
    }
    let credentials = match account {
        Some(account) => Credentials::root(account.as_str()),
        None => operator(lab).await?,
    };
    let environment = Environment {
        aws_endpoint_url: &lab.endpoint,
        aws_region: lab.region.as_str(),
        aws_default_region: lab.region.as_str(),
        aws_access_key_id: &credentials.access_key_id,
        aws_secret_access_key: &credentials.secret_access_key,
        aws_session_token: credentials.session_token.as_deref(),
        redress_external_id: &lab.external_id,
        aws_profile: None,
    };
    let values = serde_json::to_value(&environment).map_err(|error| Problem::aws("write the environment", &error))?;
    Answer::new(&environment, shell(&values))
}

/// A session of the operator's role, as a person would have it from their login.
pub(crate) async fn operator(lab: &Running) -> Result<Credentials, Problem> {
    let partition = Partition::of_region(&lab.region);
    host::session(
        &lab.endpoint,
        &lab.region,
        &lab.administrator,
        &names::role_arn(partition, &lab.administrator, names::OPERATOR_ROLE),
    )
    .await
}

/// `export` of what is set, `unset` of what must not be.
fn shell(values: &Value) -> String {
    let lines = values.as_object().into_iter().flatten().map(|(name, value)| match value.as_str() {
        Some(text) => format!("export {name}='{}'\n", text.replace('\'', "'\\''")),
        None => format!("unset {name}\n"),
    });
    lines.collect()
}

fn record(calls: &[Call], style: Style) -> String {
    let rows = calls.iter().map(|call| {
        let denied = call.verdict == Verdict::Deny;
        let answer = match &call.error {
            Some(error) => {
                Text::toned(if denied { Tone::Bad } else { Tone::Warning }, format!("{} {error}", call.status))
            }
            None => Text::toned(Tone::Good, call.status.to_string()),
        };
        let checks = call.checks.iter().map(|check| check.resource.as_str()).collect::<Vec<_>>().join(" ");
        [
            format!("{:.3}", call.at).into(),
            call.account.as_str().into(),
            who(&call.principal).into(),
            format!("{}:{}", call.service, call.operation).into(),
            answer,
            format!("{}.{} ms", call.micros / 1000, call.micros % 1000 / 100).into(),
            checks.into(),
        ]
    });
    style.table(["Time", "Account", "Principal", "Call", "Answer", "Took", "Resources"], rows)
}

/// The readable end of a principal's ARN: `assumed-role/Redress-Control/…`.
fn who(principal: &str) -> &str {
    principal.splitn(6, ':').nth(5).unwrap_or(principal)
}

/// An object of simple values.
fn fields(value: &Value, style: Style) -> String {
    let fields: Vec<(&str, String)> =
        value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), plain(value))).collect();
    style.fields(&fields)
}

/// A list of objects, as a table whose columns are the first one's names.
fn rows(value: &Value, style: Style) -> String {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(names) = list.first().and_then(Value::as_object) else { return "  none\n".to_owned() };
    let names: Vec<&str> = names.keys().map(String::as_str).collect();
    let rows = list.iter().map(|row| names.iter().map(|name| Text::from(plain(&row[*name]))).collect());
    style.grid(&names, rows)
}

/// An object of lists and values: each list under its name.
fn sections(value: &Value, style: Style) -> String {
    let mut text = String::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Array(_) => text.push_str(&format!("{}\n{}\n", style.paint(Tone::Strong, name), rows(value, style))),
            Value::Object(_) => {
                text.push_str(&format!("{}\n{}\n", style.paint(Tone::Strong, name), fields(value, style)))
            }
            _ => text.push_str(&format!("{}  {}\n", style.paint(Tone::Strong, name), plain(value))),
        }
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use serde_json::json;

    #[test]
    fn the_environment_survives_a_shell_and_unsets_what_would_win_over_it() {
        let text =
            shell(&json!({ "AWS_REGION": "eu-central-1", "AWS_SECRET_ACCESS_KEY": "a'b $(c)", "AWS_PROFILE": null }));
        assert_eq!(
            text,
            "export AWS_REGION='eu-central-1'\nexport AWS_SECRET_ACCESS_KEY='a'\\''b $(c)'\nunset AWS_PROFILE\n"
        );
    }

    #[test]
    fn the_call_record_shows_who_called_what_on_what() {
        insta::assert_snapshot!(record(&fixture::calls(), Style::PLAIN));
    }

    #[test]
    fn a_status_is_told_in_sections() {
        let status = json!({
            "Endpoint": "http://127.0.0.1:4566",
            "Queues": [{ "Queue": "redress-findings", "Messages": 0 }, { "Queue": "redress-findings-dlq", "Messages": 2 }],
            "Broken": [],
            "Remediations": { "Verified": 5, "Failed": 1 },
        });
        insta::assert_snapshot!(sections(&status, Style::PLAIN));
    }
}
