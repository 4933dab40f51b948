//! `redress notify`: where people are told beside the topic. A list is read here as the api reads it; the api sets it.

use std::path::Path;

use redress_common::aws::state_table::{self, StateKey};
use redress_common::items::destination::{Destination, Destinations, Filter, Hosts, read_list};
use redress_common::names;
use redress_common::operate::Request;
use redress_common::time::seconds;
use serde_json::{Value, json};

use crate::api;
use crate::args::{Global, Notify};
use crate::aws::Connection;
use crate::output::{Answer, Style};
use crate::problem::Problem;

pub(crate) async fn run(command: Notify, global: &Global, style: Style) -> Result<Answer, Problem> {
    match command {
        Notify::List => list(&Connection::new(global).await?, style).await,
        Notify::Check { file } => {
            let (_, read) = given(&file)?;
            Answer::new(&read, render(&read, style))
        }
        Notify::Set { file, reason } => {
            let (list, read) = given(&file)?;
            let request = Request::Destinations { list, reason };
            let answer = api::call(&Connection::new(global).await?, &request).await?;
            let written = match answer["RemediationId"].as_str() {
                Some(id) => id.to_owned(),
                None => "nothing had to be changed".to_owned(),
            };
            Answer::new(&answer, render(&read, style) + &style.fields(&[("Ledger record", written)]))
        }
        Notify::Test { destination, reason } => {
            let request = Request::NotifyTest { destination: destination.clone(), reason };
            let answer = api::call(&Connection::new(global).await?, &request).await?;
            let id = answer["RemediationId"].as_str().unwrap_or_default();
            let text = format!(
                "a test message is on its way to {destination}; if it does not arrive within a minute, the log of {} says why\n\
                 ledger record: {id}\n",
                names::NOTIFIER_FUNCTION
            );
            Answer::new(&answer, text)
        }
    }
}

/// The list of a file, as it was written and as it is read.
fn given(file: &Path) -> Result<(Vec<Value>, Vec<Destination>), Problem> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| Problem::aws(&format!("read {name}"), &error))?;
    let list = parse(&text).map_err(|problem| Problem::failed(format!("{name}: {problem}")))?;
    let read = read_list(&list, Hosts::default()).map_err(|error| {
        Problem::failed(format!("{name}: {error}"))
            .help("docs/notifications.md says what each kind of destination takes")
    })?;
    Ok((list, read))
}

/// A list in YAML, of which JSON is a part; what `redress notify list --json` prints is one, too.
fn parse(text: &str) -> Result<Vec<Value>, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let list = value.get("List").cloned().unwrap_or(value);
    serde_json::from_value(list).map_err(|_| "it is no list of destinations".to_owned())
}

async fn list(connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let doing = "read the destinations";
    let client = aws_sdk_dynamodb::Client::new(&connection.config);
    let read = state_table::read(&client, names::STATE_TABLE, &[StateKey::Destinations]).await;
    let item: Destinations = read
        .map_err(|error| Problem::aws(doing, &error))?
        .destinations()
        .map_err(|error| Problem::aws(doing, &error))?;
    let read = read_list(&item.list, Hosts::default()).map_err(|error| {
        Problem::failed(format!("the list in force is not readable: {error}")).help("`redress notify set` sets another")
    })?;
    let changed = match &item.changed_at {
        Some(at) => format!("{} by {}: {}", seconds(*at), item.changed_by, item.change_reason),
        None => String::new(),
    };
    let text = render(&read, style) + &style.fields(&[("Changed", changed)]);
    Answer::new(&json!(item), text)
}

fn render(list: &[Destination], style: Style) -> String {
    if list.is_empty() {
        return "there is no destination; people are told by the topic alone\n".to_owned();
    }
    let rows = list.iter().map(|to| {
        let name: String = to.secret.resource().trim_start_matches("secret:").to_owned();
        [to.name.clone().into(), to.kind.as_str().into(), gets(&to.filter).into(), name.into()]
    });
    style.table(["Name", "Kind", "Gets", "Secret"], rows)
}

/// A filter in words.
fn gets(filter: &Filter) -> String {
    let joined = |values: Vec<String>| values.join(", ");
    let statuses = if filter.statuses.is_empty() {
        "every status".to_owned()
    } else {
        joined(filter.statuses.iter().cloned().collect())
    };
    let mut words = format!("{statuses}; {} and worse", filter.minimum_severity.as_str());
    if !filter.accounts.is_empty() {
        words += &format!("; accounts {}", joined(filter.accounts.iter().map(ToString::to_string).collect()));
    }
    if !filter.controls.is_empty() {
        words += &format!("; controls {}", joined(filter.controls.iter().map(ToString::to_string).collect()));
    }
    if filter.alarms {
        words += "; alarms";
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The list of docs/notifications.md.
    const EXAMPLE: &str = include_str!("../../docs/notifications.md");

    fn example() -> String {
        let start = EXAMPLE.find("```yaml\n").unwrap() + 8;
        let end = EXAMPLE[start..].find("```").unwrap();
        EXAMPLE[start..start + end].to_owned()
    }

    #[test]
    fn the_list_of_the_documentation_is_one() {
        let list = read_list(&parse(&example()).unwrap(), Hosts::default()).unwrap();
        insta::assert_snapshot!(render(&list, Style::PLAIN));
    }

    #[test]
    fn what_is_listed_can_be_set_again() {
        let list = parse(&example()).unwrap();
        let printed = json!(Destinations { version: 4, list: list.clone(), ..Destinations::default() }).to_string();
        assert_eq!(parse(&printed).unwrap(), list);
        assert!(parse("just words").is_err() && parse("a: [").is_err());
    }
}
