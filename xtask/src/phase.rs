//! Long work in named phases: what is being done, how long it took, and its exit code as an error.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// The clock of one run of `cargo xtask`.
pub(crate) struct Phases {
    since: Instant,
    /// Somebody looks on: cargo may draw its progress bar.
    watched: bool,
}

impl Phases {
    pub(crate) fn start() -> Self {
        Self { since: Instant::now(), watched: std::io::stderr().is_terminal() && std::env::var_os("CI").is_none() }
    }

    /// Whether a person looks on, rather than a log file.
    pub(crate) const fn watched(&self) -> bool {
        self.watched
    }

    /// How long this run has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Runs a program as a phase; its output is the caller's.
    pub(crate) fn run(&self, name: &str, mut command: Command) -> Result<(), String> {
        self.step(name, || succeed(&mut command))
    }

    /// Does something as a phase: says that it begins, and how it ended.
    pub(crate) fn step<T>(&self, name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let begun = Instant::now();
        eprintln!("  {name} …");
        let done = work();
        let how = if done.is_ok() { "done" } else { "FAILED" };
        eprintln!("  {name}: {how} in {} ({} in all)", seconds(begun.elapsed()), seconds(self.since.elapsed()));
        done
    }
}

/// The same cargo that runs us.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")));
    command.args(arguments).current_dir(crate::tools::root());
    command
}

/// Runs a program to its end; anything but success is an error that names it.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot start {}: {error}", name_of(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", line_of(command))) }
}

/// Runs a program to its end; what it said. Anything but success is an error that names it.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot start {}: {error}", name_of(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` ended with {}: {}", line_of(command), output.status, said.trim()))
}

fn name_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line_of(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// `0.4 s`, `12 s` or `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f32()),
        whole @ 10..60 => format!("{whole} s"),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_person_would_say_them() {
        assert_eq!(seconds(Duration::from_millis(440)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(12)), "12 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }

    #[test]
    fn a_program_that_fails_is_named_with_its_arguments() {
        let error = succeed(cargo(["no-such-command-of-cargo"]).stderr(std::process::Stdio::null())).err();
        assert!(error.is_some_and(|text| text.contains("no-such-command-of-cargo")));
    }
}
