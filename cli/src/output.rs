//! How an answer reaches the terminal: as JSON for programs, plain for logs, with colour for people.
//!
//! Nothing here knows what is shown. A command gives an [`Answer`]: its data, and how a person reads it.

use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style as Ansi};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::args::Global;
use crate::problem::{Exit, Problem};

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A program: `--json`.
    Program,
    /// A log, a pipe, or `--plain`.
    Log,
    /// A person at a terminal.
    Person,
}

/// The meaning of a piece of text, from which its colour comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Headings.
    Strong,
    /// Done, holds.
    Good,
    /// Needs a person's eye.
    Warning,
    /// Failed, refused, broken.
    Bad,
    /// Secondary.
    Faint,
}

/// A table's cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    text: String,
    tone: Option<Tone>,
}

impl Text {
    /// A cell that means something.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Some(tone) }
    }

    fn cell(self) -> Cell {
        let cell = Cell::new(self.text);
        match self.tone {
            None => cell,
            Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
            Some(Tone::Good) => cell.fg(Color::Green),
            Some(Tone::Warning) => cell.fg(Color::Yellow),
            Some(Tone::Bad) => cell.fg(Color::Red),
            Some(Tone::Faint) => cell.add_attribute(Attribute::Dim),
        }
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: None }
    }
}

/// How text is made. Values of the snapshot tests are made with [`Style::PLAIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// For logs.
    pub(crate) const PLAIN: Self = Self { colour: false };

    /// `text` in the colour of `tone`.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let ansi = match tone {
            Tone::Strong => Ansi::new().bold(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Faint => Ansi::new().dimmed(),
        };
        format!("{ansi}{text}{ansi:#}")
    }

    /// A hash: whole where it may be compared by a program, short where only an eye looks.
    pub(crate) fn hash(self, hash: &str) -> &str {
        if self.colour { short(hash) } else { hash }
    }

    /// A table: aligned columns, never cut, no lines.
    pub(crate) fn table<const N: usize>(self, heads: [&str; N], rows: impl IntoIterator<Item = [Text; N]>) -> String {
        self.grid(&heads, rows.into_iter().map(Vec::from))
    }

    /// The same, when the columns are known at run time only.
    pub(crate) fn grid(self, heads: &[&str], rows: impl IntoIterator<Item = Vec<Text>>) -> String {
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.load_style(presets::NOTHING);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
        for row in rows {
            table.add_row(row.into_iter().map(Text::cell));
        }
        // The first column needs no margin; with colour, an escape sequence stands before it.
        let margin = usize::from(!self.colour);
        table.lines().map(|line| format!("{}\n", line.get(margin..).unwrap_or(&line).trim_end())).collect()
    }

    /// Names and values below each other; empty values are left out.
    pub(crate) fn fields(self, fields: &[(&str, String)]) -> String {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            let name = self.paint(Tone::Faint, &format!("{name:width$}"));
            text.push_str(&format!("  {name}  {value}\n"));
        }
        text
    }
}

/// The first twelve characters of a hash: enough to compare by eye.
pub(crate) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// What a command has to say.
#[derive(Debug)]
pub(crate) struct Answer {
    json: Value,
    text: String,
    exit: Exit,
}

impl Answer {
    /// The text that people get.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Data, and the text of it.
    pub(crate) fn new(data: &impl Serialize, text: String) -> Result<Self, Problem> {
        let json = serde_json::to_value(data).map_err(|error| Problem::aws("write the answer as JSON", &error))?;
        Ok(Self { json, text, exit: Exit::Done })
    }

    /// The same, ending with another exit code.
    pub(crate) const fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// For a command that has printed all it had to say.
    pub(crate) const fn silent(exit: Exit) -> Self {
        Self { json: Value::Null, text: String::new(), exit }
    }
}

/// The two streams, and who reads them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    reader: Reader,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let reader = match (global.json, global.plain) {
            (true, _) => Reader::Program,
            (_, true) => Reader::Log,
            _ if std::io::stdout().is_terminal() => Reader::Person,
            _ => Reader::Log,
        };
        Self { reader }
    }

    pub(crate) fn style(self) -> Style {
        let colour = self.reader == Reader::Person
            && anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        if colour { Style { colour } } else { Style::PLAIN }
    }

    /// Whether standard output is for one JSON document only.
    pub(crate) fn is_json(self) -> bool {
        self.reader == Reader::Program
    }

    /// What is going on; to standard error, so that standard output holds the answer only.
    pub(crate) fn progress(self, text: &str) {
        // A closed standard error is no reason to stop.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// A part of the answer, as soon as it is there. Nothing for programs: they get it whole.
    pub(crate) fn say(self, text: &str) {
        if !self.is_json() {
            print(text);
        }
    }

    /// The answer.
    pub(crate) fn answer(self, answer: &Answer) -> Exit {
        if self.is_json() && !answer.json.is_null() {
            print(&format!("{:#}\n", answer.json));
        } else if !self.is_json() && !answer.text.is_empty() {
            print(&answer.text);
            if !answer.text.ends_with('\n') {
                print("\n");
            }
        }
        answer.exit
    }

    /// What went wrong.
    pub(crate) fn problem(self, problem: &Problem) -> Exit {
        let text = match self.reader {
            Reader::Program => format!("{:#}", problem.json()),
            Reader::Person if std::io::stderr().is_terminal() => {
                let mut text = String::new();
                match miette::GraphicalReportHandler::new().render_report(&mut text, problem) {
                    Ok(()) => text.trim_end().to_owned(),
                    Err(_) => problem.plain(),
                }
            }
            Reader::Person | Reader::Log => problem.plain(),
        };
        self.progress(&text);
        problem.exit()
    }
}

/// To standard output. A reader that has gone away (`| head`) is not an error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_table_has_no_lines_no_colour_and_cuts_nothing() {
        let long =
            "arn:aws:s3:::a-bucket-with-quite-a-long-name-that-no-terminal-of-eighty-columns-would-show".to_owned();
        let table = Style::PLAIN.table(["State", "Resource"], [["Verified".into(), long.as_str().into()]]);
        assert!(table.contains(&long));
        assert!(table.is_ascii());
        assert_eq!(table.lines().count(), 2);
    }

    #[test]
    fn empty_fields_are_left_out() {
        let text = Style::PLAIN.fields(&[("State", "Failed".to_owned()), ("Error", String::new())]);
        assert_eq!(text, "  State  Failed\n");
    }
}
