//! What was started, when, and what was broken: `.lab/gameday.json`, beside what a running lab says of itself. The commands
//! of one game day are processes of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use redress_common::ids::AccountId;
use redress_common::ledger::sha256_hex;
use redress_lab::scenario::Broken;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scenario::Resource;
use crate::problem::Problem;
use crate::running::{Running, root};

/// Something that was broken, or made for GuardDuty to report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Thing {
    #[serde(flatten)]
    pub(crate) broken: Broken,
    /// What it is, when it was made for GuardDuty to report.
    pub(crate) resource: Option<Resource>,
    /// Its state before Redress touched it.
    pub(crate) before: Value,
}

/// A scenario that was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Game {
    pub(crate) scenario: String,
    /// The member account.
    pub(crate) account: AccountId,
    pub(crate) started: Timestamp,
    /// When the way back was first seen complete.
    pub(crate) ended: Option<Timestamp>,
    pub(crate) things: Vec<Thing>,
}

impl Game {
    pub(crate) const fn is_underway(&self) -> bool {
        self.ended.is_none()
    }

    /// A text of the table, filled in.
    pub(crate) fn filled(&self, text: &str) -> String {
        let arn = self.things.first().map(|thing| thing.broken.resource_arn.as_str()).unwrap_or_default();
        let name = arn.rsplit([':', '/']).next().unwrap_or_default();
        text.replace("{account}", self.account.as_str()).replace("{arn}", arn).replace("{name}", name)
    }
}

/// The games of one lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Book {
    /// Which lab: the hash of its token.
    lab: String,
    games: BTreeMap<String, Game>,
}

fn file() -> PathBuf {
    root().join(".lab/gameday.json")
}

impl Book {
    /// What was started in this lab. What was started in one before it is over.
    pub(crate) fn open(lab: &Running) -> Result<Self, Problem> {
        let (file, lab) = (file(), sha256_hex(lab.token.as_bytes()));
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { lab, games: BTreeMap::new() });
            }
            Err(error) => return Err(Problem::aws(&format!("read {}", file.display()), &error)),
        };
        let book: Self = serde_json::from_str(&text).map_err(|error| {
            Problem::aws(&format!("read {}", file.display()), &error)
                .help("remove it, and start the scenario again: redress gameday list")
        })?;
        Ok(book.of(lab))
    }

    fn of(self, lab: String) -> Self {
        if self.lab == lab { self } else { Self { lab, games: BTreeMap::new() } }
    }

    pub(crate) fn game(&self, scenario: &str) -> Option<&Game> {
        self.games.get(scenario)
    }

    /// Writes a game down.
    pub(crate) fn keep(&mut self, game: Game) -> Result<(), Problem> {
        self.games.insert(game.scenario.clone(), game);
        let file = file();
        let failed = |error: &dyn std::error::Error| Problem::aws(&format!("write {}", file.display()), error);
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        std::fs::write(&file, text).map_err(|error| failed(&error))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture;

    /// A game about the bucket of [`fixture`], begun at its first event.
    pub(crate) fn game() -> Game {
        let broken = Broken {
            scenario: "public-bucket".to_owned(),
            control: "S3.8".parse().unwrap(),
            account: fixture::account(),
            region: "eu-central-1".parse().unwrap(),
            resource_arn: "arn:aws:s3:::my-bucket".parse().unwrap(),
        };
        Game {
            scenario: "wrong-fix".to_owned(),
            account: fixture::account(),
            started: "2026-03-01T09:00:00Z".parse().unwrap(),
            ended: None,
            things: vec![Thing { broken, resource: None, before: json!({ "PublicAccessBlock": null, "Tags": [] }) }],
        }
    }

    #[test]
    fn a_text_names_the_account_and_what_was_broken() {
        let text = game().filled("{name} of {account}: {arn}");
        assert_eq!(text, "my-bucket of 222222222222: arn:aws:s3:::my-bucket");
        let nothing = Game { things: Vec::new(), ..game() };
        assert_eq!(nothing.filled("{account} {name}"), "222222222222 ");
    }

    #[test]
    fn a_game_is_read_back_as_it_was_written() {
        let mut thing = game().things.remove(0);
        thing.resource = Some(Resource::Bucket);
        let game = Game { things: vec![thing], ended: Some(Timestamp::UNIX_EPOCH), ..game() };
        let text = serde_json::to_string(&game).unwrap();
        assert_eq!(serde_json::from_str::<Game>(&text).unwrap(), game);
    }

    #[test]
    fn the_games_of_a_lab_that_is_gone_are_over() {
        let games = [("wrong-fix".to_owned(), game())].into();
        let book = Book { lab: "one".to_owned(), games };
        assert!(book.clone().of("one".to_owned()).game("wrong-fix").is_some_and(Game::is_underway));
        assert!(book.of("another".to_owned()).game("wrong-fix").is_none());
    }
}
