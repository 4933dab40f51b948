//! `redress gameday`: breaks something in a running lab on purpose, and says whether the way back is complete.
//!
//! What can be played is a table ([`scenario`]), whether a point is done a pure judgement ([`judge`]). Nothing here
//! mends anything: that is for the players, with the other commands.

mod arena;
mod book;
mod finding;
mod judge;
mod scenario;
mod stage;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use redress_common::ids::AccountId;
use redress_common::time::seconds;
use serde::Serialize;
use serde_json::{Value, json};

use self::arena::Arena;
use self::book::{Book, Game, Thing};
use self::judge::Verdict;
use self::scenario::{SCENARIOS, Scenario};
use crate::args::{Gameday, GamedayStart, Global};
use crate::output::{Answer, Output, Style, Text, Tone};
use crate::problem::{Exit, Problem};
use crate::timeline::span;

/// How long Redress may take until what the players are told is so.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(250);

const FOLLOW: &str = "what Redress does about it: redress lab status, redress audit list --since 10m";
const IN_THE_WAY: &str = "\
what was done before may be in the way: a session of the account, kept for up to an hour, an exemption, a switch. Play \
it in another account (--again --account <id>), or in a new lab (redress lab down, redress lab up)";

pub(crate) async fn run(command: Gameday, global: &Global, output: Output) -> Result<Answer, Problem> {
    let style = output.style();
    match command {
        Gameday::List => list(style),
        Gameday::Show { scenario } => show(find(&scenario)?, style),
        Gameday::Start(asked) => start(find(&asked.scenario)?, asked, &Arena::enter(global).await?, output).await,
        Gameday::Check { scenario } => check(find(&scenario)?, &Arena::enter(global).await?, style).await,
    }
}

fn find(name: &str) -> Result<&'static Scenario, Problem> {
    SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        Problem::not_found(format!("there is no game day `{name}`")).help("`redress gameday list` shows all")
    })
}

fn list(style: Style) -> Result<Answer, Problem> {
    let row = |scenario: &Scenario| {
        let Scenario { name, title, teaches, docs, .. } = scenario;
        json!({ "Scenario": name, "Title": title, "Teaches": teaches, "Docs": docs })
    };
    let data: Vec<Value> = SCENARIOS.iter().map(row).collect();
    let rows = SCENARIOS.iter().map(|one| [one.name.into(), one.title.into(), one.teaches.into()]);
    Answer::new(&data, style.table(["Scenario", "Title", "Teaches"], rows))
}

fn show(scenario: &Scenario, style: Style) -> Result<Answer, Problem> {
    let breaks: Vec<String> = scenario.breaks.iter().map(|step| step.says()).collect();
    let done: Vec<&str> = scenario.done.iter().map(|point| point.what).collect();
    let data = json!({
        "Scenario": scenario.name, "Title": scenario.title, "Told": scenario.told, "Breaks": breaks, "DoneWhen": done,
        "Teaches": scenario.teaches, "Docs": scenario.docs,
    });
    let text = style.fields(&[
        ("Title", scenario.title.to_owned()),
        ("Is broken", breaks.join("\n             ")),
        ("Is told", scenario.told.to_owned()),
        ("Done when", done.join("\n             ")),
        ("Teaches", scenario.teaches.to_owned()),
        ("More", scenario.docs.to_owned()),
    ]);
    Answer::new(&data, text)
}

/// What the players get to know; and what was broken, for whoever asks for that.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Begun<'a> {
    scenario: &'static str,
    told: String,
    started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<Broken<'a>>,
}

/// What was broken.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Broken<'a> {
    account: &'a AccountId,
    steps: Vec<String>,
    things: &'a [Thing],
}

async fn start(
    scenario: &'static Scenario,
    asked: GamedayStart,
    arena: &Arena,
    output: Output,
) -> Result<Answer, Problem> {
    let (name, mut book) = (scenario.name, Book::open(&arena.lab)?);
    if let Some(game) = book.game(name).filter(|game| game.is_underway() && !asked.again) {
        let problem = Problem::refused(format!("`{name}` is underway since {}", seconds(game.started)));
        return Err(problem.help(format!("how far it is: redress gameday check {name}; --again breaks it once more")));
    }
    let (account, started) = (arena.member(scenario, asked.account)?, Timestamp::now());
    let mut game = Game { scenario: name.to_owned(), account, started, ended: None, things: Vec::new() };
    for step in scenario.breaks {
        game.things.extend(stage::play(*step, &game.account, arena).await?);
    }
    book.keep(game.clone())?;
    settled(scenario, &game, arena, output).await?;

    let steps: Vec<String> = scenario.breaks.iter().map(|step| step.says()).collect();
    let broken = asked.reveal.then_some(Broken { account: &game.account, steps, things: &game.things });
    let begun = Begun { scenario: name, told: game.filled(scenario.told), started, broken };
    let text = begun.render(output.style());
    Answer::new(&begun, text)
}

/// Waits until Redress has made of it what the players are told of.
async fn settled(scenario: &Scenario, game: &Game, arena: &Arena, output: Output) -> Result<(), Problem> {
    let Some(wanted) = scenario.until else { return Ok(()) };
    output.progress("it is broken; waiting for what Redress makes of it …");
    let begun = Instant::now();
    loop {
        match judge::has_come(wanted, game, &arena.records(game).await?) {
            Ok(true) => return Ok(()),
            Ok(false) if begun.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            Ok(false) => {
                let waited = PATIENCE.as_secs();
                let problem = Problem::timed_out(format!("it is broken, and has not come to {wanted} in {waited} s"));
                return Err(problem.help(FOLLOW));
            }
            Err(other) => {
                let problem = Problem::failed(format!("it is broken, and ended as {other} instead of {wanted}"));
                return Err(problem.help(IN_THE_WAY));
            }
        }
    }
}

impl Begun<'_> {
    fn render(&self, style: Style) -> String {
        let mut text = format!("{}\nstarted at {}\n", self.told, seconds(self.started));
        if let Some(broken) = &self.broken {
            text.push_str(&format!("{} in account {}\n", style.paint(Tone::Strong, "What was broken"), broken.account));
            broken.steps.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
            broken.things.iter().for_each(|thing| text.push_str(&format!("  {}\n", thing.broken.resource_arn)));
        }
        text
    }
}

/// How far the way back is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    scenario: &'static str,
    started: Timestamp,
    complete: bool,
    /// From the start until it was first seen complete, or until now.
    milliseconds: i64,
    points: Vec<Verdict>,
}

async fn check(scenario: &'static Scenario, arena: &Arena, style: Style) -> Result<Answer, Problem> {
    let mut book = Book::open(&arena.lab)?;
    let mut game = book.game(scenario.name).cloned().ok_or_else(|| {
        Problem::not_found(format!("`{}` was not started in this lab", scenario.name))
            .help(format!("redress gameday start {}", scenario.name))
    })?;
    let facts = arena.facts(scenario, &game).await?;
    let points: Vec<Verdict> = scenario.done.iter().map(|point| judge::judge(point, &game, &facts)).collect();
    let complete = points.iter().all(|point| point.ok);
    if complete && game.is_underway() {
        game.ended = Some(facts.at);
        book.keep(game.clone())?;
    }
    let until = game.ended.filter(|_| complete).unwrap_or(facts.at);
    let checked = Checked {
        scenario: scenario.name,
        started: game.started,
        complete,
        milliseconds: until.as_millisecond() - game.started.as_millisecond(),
        points,
    };
    let exit = if complete { Exit::Done } else { Exit::Failed };
    Ok(Answer::new(&checked, checked.render(style))?.exit(exit))
}

impl Checked {
    fn render(&self, style: Style) -> String {
        let rows = self.points.iter().map(|point| {
            let state = if point.ok { Text::toned(Tone::Good, "ok") } else { Text::toned(Tone::Bad, "missing") };
            [state, point.point.into(), point.found.as_str().into(), point.look.as_str().into()]
        });
        let mut text = style.table(["State", "Done when", "Found", "Look at next"], rows);
        let missing = self.points.iter().filter(|point| !point.ok).count();
        let took = span(self.milliseconds);
        text.push_str(&match missing {
            0 => format!("complete, {took} after it was broken\n"),
            _ => format!("{missing} of {} missing, {took} after it was broken\n", self.points.len()),
        });
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::book::tests::game;
    use super::*;

    #[test]
    fn the_players_are_told_nothing_but_what_they_are_told_and_since_when() {
        let game = game();
        let (told, started) = ("it is down".to_owned(), game.started);
        let begun = |broken| Begun { scenario: "wrong-fix", told: told.clone(), started, broken };
        assert_eq!(begun(None).render(Style::PLAIN), "it is down\nstarted at 2026-03-01T09:00:00Z\n");
        let data = serde_json::to_value(begun(None)).unwrap();
        assert_eq!(data, json!({ "Scenario": "wrong-fix", "Told": "it is down", "Started": "2026-03-01T09:00:00Z" }));

        let broken = Broken { account: &game.account, steps: vec!["a step".to_owned()], things: &game.things };
        let revealed = begun(Some(broken)).render(Style::PLAIN);
        assert!(revealed.ends_with("in account 222222222222\n  a step\n  arn:aws:s3:::my-bucket\n"), "{revealed}");
    }

    #[test]
    fn each_point_is_a_line_with_what_to_look_at_next() {
        let verdict = |point, ok, found: &str, look: &str| {
            let (found, look) = (found.to_owned(), look.to_owned());
            Verdict { point, ok, found, look }
        };
        let checked = |points| Checked {
            scenario: "wrong-fix",
            started: game().started,
            complete: false,
            milliseconds: 185_000,
            points,
        };
        let done = verdict("the bucket is as it was", true, "", "");
        let open = verdict("the fix is undone", false, "it ended as Verified", "redress undo");
        let text = checked(vec![done.clone(), open]).render(Style::PLAIN);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        assert_eq!(lines[1], "ok the bucket is as it was");
        assert_eq!(lines[2], "missing the fix is undone it ended as Verified redress undo");
        assert!(text.ends_with("1 of 2 missing, 3 min 5 s after it was broken\n"), "{text}");
        assert!(checked(vec![done]).render(Style::PLAIN).ends_with("complete, 3 min 5 s after it was broken\n"));
    }

    #[test]
    fn what_can_be_played_is_listed_and_shown_and_nothing_else_is() {
        let listed = list(Style::PLAIN).unwrap();
        for scenario in SCENARIOS {
            assert!(listed.text().contains(scenario.name), "{}", scenario.name);
            let shown = show(find(scenario.name).unwrap(), Style::PLAIN).unwrap();
            assert!(scenario.done.iter().all(|point| shown.text().contains(point.what)), "{}", shown.text());
        }
        assert_eq!(find("everything").unwrap_err().exit(), Exit::NotFound);
    }
}
