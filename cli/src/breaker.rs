//! `redress breaker`: what stopped itself, and closing it by hand.

use redress_common::items::breaker::Breaker;
use redress_common::operate::{Listing, Request};
use redress_common::time::seconds_of;
use serde::{Deserialize, Serialize};

use crate::api;
use crate::args::Breaker as Command;
use crate::aws::Connection;
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::Problem;
use crate::settings;

/// A breaker and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// `organisation`, `account:<id>`, `control:<id>`; the item's key has `breaker#` before it.
    #[serde(rename(serialize = "Scope", deserialize = "Key"))]
    pub(crate) scope: String,
    #[serde(flatten)]
    pub(crate) breaker: Breaker,
}

impl Listed {
    pub(crate) const fn is_open(&self) -> bool {
        self.breaker.opened_at.is_some()
    }
}

/// All breakers, the open ones first.
pub(crate) async fn all(connection: &Connection) -> Result<Vec<Listed>, Problem> {
    let mut all: Vec<Listed> = settings::listed(Listing::Breakers, connection).await?;
    for listed in &mut all {
        listed.scope = listed.scope.trim_start_matches("breaker#").to_owned();
    }
    all.sort_by_key(|listed| (!listed.is_open(), listed.scope.clone()));
    Ok(all)
}

pub(crate) async fn run(command: Command, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    match command {
        Command::List => {
            let all = all(connection).await?;
            Answer::new(&all, render(&all, style))
        }
        Command::Close { scope, reason } => {
            let answer = api::call(connection, &Request::BreakerClose { scope: scope.clone(), reason }).await?;
            let text = format!(
                "the breaker of {scope} is closed; it was open since {}: {}\nledger record: {}\n",
                answer["OpenedAt"].as_str().unwrap_or_default(),
                answer["Reason"].as_str().unwrap_or_default(),
                answer["RemediationId"].as_str().unwrap_or_default()
            );
            Answer::new(&answer, text)
        }
    }
}

fn render(all: &[Listed], style: Style) -> String {
    if all.is_empty() {
        return "no breaker ever opened\n".to_owned();
    }
    let rows = all.iter().map(|Listed { scope, breaker }| {
        let (state, since, probe) = match (breaker.opened_at, &breaker.probe) {
            (None, _) => (Text::toned(Tone::Good, "closed"), String::new(), String::new()),
            (Some(at), None) => (Text::toned(Tone::Bad, "open"), seconds_of(at), seconds_of(breaker.probe_at)),
            (Some(at), Some(probe)) => (Text::toned(Tone::Warning, "probing"), seconds_of(at), probe.to_string()),
        };
        [scope.clone().into(), state, since.into(), probe.into(), breaker.reason.clone().into()]
    });
    style.table(["Scope", "State", "Since", "Probe", "Why"], rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn breakers_are_read_of_their_items() {
        let listed: Listed = serde_json::from_value(
            json!({ "Key": "breaker#control:S3.8", "Version": 2, "OpenedAt": 5, "Reason": "60 %" }),
        )
        .unwrap();
        assert!(listed.is_open());
        assert!(render(&[listed], Style::PLAIN).contains("open"));
    }
}
