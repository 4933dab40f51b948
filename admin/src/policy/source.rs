//! The text of a policy set, and what is wrong with it and where.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use redress_common::aws::state_table::PolicySetName;

/// The schema that every policy is validated against.
pub const SCHEMA: &str = include_str!("../../policies/redress.cedarschema");

/// The source of a shipped set; none of the operators' own.
#[must_use]
pub const fn source(name: PolicySetName) -> Option<&'static str> {
    match name {
        PolicySetName::Observe => Some(include_str!("../../policies/observe.cedar")),
        PolicySetName::Pilot => Some(include_str!("../../policies/pilot.cedar")),
        PolicySetName::Standard => Some(include_str!("../../policies/standard.cedar")),
        PolicySetName::Custom => None,
    }
}

/// Something wrong with the text of a policy set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SourceProblem {
    /// The line, from 1; 0 when it is about the whole.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl SourceProblem {
    /// One at that byte of the text.
    pub(super) fn at(source: &str, offset: usize, message: impl Into<String>, help: &str) -> Self {
        let (line, column) = position(source, offset);
        let help = Some(help.to_owned()).filter(|help| !help.is_empty());
        Self { line, column, message: message.into(), help }
    }

    pub(super) const fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    /// One about the whole.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, message: message.into(), help: None }
    }

    /// What Cedar says, with all that belongs to it.
    pub(super) fn of_cedar(source: &str, error: DetailedError) -> Vec<Self> {
        let (line, column) = error.source_locations.first().map_or((0, 0), |label| position(source, label.loc.start));
        let labels = error.source_locations.iter().filter_map(|label| label.label.clone());
        let help: Vec<String> = labels.chain(error.help).collect();
        // The policy is known by its place; Cedar's own name of it is its number.
        let message = error.message.split_once("`, ").filter(|(name, _)| name.starts_with("for policy `"));
        let message = message.map_or(error.message.as_str(), |(_, says)| says).to_owned();
        let help = (!help.is_empty()).then(|| help.join("; "));
        let first = Self { line, column, message, help };
        let mut all = vec![first];
        for related in error.related {
            all.extend(Self::of_cedar(source, related));
        }
        all
    }
}

fn position(source: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Where each policy of a text that parses begins, in its order.
pub(super) fn starts(source: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut open = false;
    let mut rest = source.char_indices().peekable();
    while let Some((at, char)) = rest.next() {
        match char {
            '/' if rest.next_if(|(_, next)| *next == '/').is_some() => {
                while rest.next_if(|(_, next)| *next != '\n').is_some() {}
            }
            _ if char.is_whitespace() => {}
            ';' => open = false,
            _ => {
                if !open {
                    starts.push(at);
                    open = true;
                }
                if char == '"' {
                    while let Some((_, next)) = rest.next() {
                        match next {
                            '\\' => drop(rest.next()),
                            '"' => break,
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    starts
}
