//! `cargo xtask test`: everything, in one build, ending with one line that counts.

use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use crate::phase::{Phases, cargo, seconds};
use crate::suite::{self, Binary};
use crate::tools::{self, Targets};
use crate::{package, templates};

/// What came out, summed over the test binaries; a check that fails counts as a failed test.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Count {
    /// Adds what a test binary says at its end: `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) -> bool {
        let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return false;
        };
        for part in numbers.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
        true
    }

    /// Something that is not a test: only its failure counts, and is told.
    fn check(&mut self, outcome: Result<(), String>) -> bool {
        if let Err(problem) = &outcome {
            self.failed += 1;
            eprintln!("xtask: {problem}");
        }
        outcome.is_ok()
    }

    fn line(&self) -> String {
        let skipped = if self.skipped == 0 { String::new() } else { format!(", {} skipped", self.skipped) };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

/// Until when the longest walks begin further cases: what they have not come to then, they leave out, and say how much. On a
/// slow machine all of them would take hours.
const TIME: Duration = Duration::from_secs(40 * 60);

/// Runs it all. The last line on standard output is the count, whatever happens.
pub(crate) fn run(phases: &Phases, filter: Option<&str>) -> Result<(), String> {
    let mut count = Count::default();
    let built = tools::python(phases).and_then(|()| tools::build(phases, Targets::All));
    if count.check(built) {
        if filter.is_none() {
            let formatted = phases.run("formatting", cargo(["fmt", "--all", "--check"]));
            count.check(formatted.map_err(|error| format!("{error}; run `cargo fmt --all`")));
            count.check(tools::generated_is_current(phases));
            count.check(templates::lint(phases));
            count.check(package::check_sbom(phases));
            count.check(tools::clippy(phases));
        }
        let before = count.failed;
        let until = filter.is_none().then(|| SystemTime::now() + TIME.saturating_sub(phases.elapsed()));
        let tested = phases.step("tests", || test(&mut count, filter, until));
        // A binary that crashed or did not compile has no count of its own.
        if count.failed == before {
            count.check(tested);
        }
    }
    eprintln!("  took {}", seconds(phases.elapsed()));
    println!("{}", count.line());
    if count.failed == 0 { Ok(()) } else { Err("not everything passed".to_owned()) }
}

/// The binaries side by side. What a binary said is shown when it has ended.
fn test(count: &mut Count, filter: Option<&str>, until: Option<SystemTime>) -> Result<(), String> {
    let binaries = suite::build(until)?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut wrong = Vec::new();
    let mut failed = Vec::new();
    suite::run(binaries, filter, cores, |ran| {
        println!("{}: {}", ran.binary.name, seconds(ran.took));
        let counted = show(count, &ran.output);
        failed.extend(ran.failed().into_iter().map(|name| (ran.binary.clone(), name)));
        match ran.ended {
            Ok(status) if counted && (status.success() || count.failed > 0) => {}
            Ok(status) => wrong.push(format!("{} ended with {status}", ran.binary.name)),
            Err(error) => wrong.push(error),
        }
    });
    let failed: Vec<_> = failed.into_iter().filter(|(binary, name)| !again(count, binary, name)).collect();
    // Once more where everybody looks first: at the end.
    for (binary, name) in failed {
        println!("failed: {} {name}", binary.name);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Runs a test that failed once more, with nothing beside it, and says so: a machine that is too busy for its leases of
/// seconds is no fault of the code. What fails then has failed. Whether it passed.
fn again(count: &mut Count, binary: &Binary, name: &str) -> bool {
    let ran = binary.run_test(name);
    let mut alone = Count::default();
    for line in ran.output.lines() {
        alone.add(line);
    }
    // A name that no test has fails none either.
    let passed = ran.ended.as_ref().is_ok_and(ExitStatus::success) && alone.passed == 1;
    println!(
        "{} {name}: failed beside other tests, {} by itself in {}",
        binary.name,
        if passed { "passed" } else { "and" },
        seconds(ran.took)
    );
    if passed {
        count.failed -= 1;
        count.passed += 1;
    } else {
        show(&mut Count::default(), &ran.output);
    }
    passed
}

/// Shows what is worth reading, and counts. Whether there was something to count.
fn show(count: &mut Count, output: &str) -> bool {
    let mut any = false;
    for line in output.lines() {
        let counted = count.add(line);
        if counted || worth_reading(line) {
            println!("{line}");
        }
        any |= counted;
    }
    any
}

/// A test that passed is not news; whatever else a test binary prints is.
fn worth_reading(line: &str) -> bool {
    let announces = line.starts_with("running ") && line.ends_with(['s', 't']) && line.contains(" test");
    let passed = line.starts_with("test ") && line.ends_with(" ... ok");
    !(line.trim().is_empty() || announces || passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        let mut count = Count::default();
        assert!(
            count.add("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s")
        );
        assert!(
            count.add(
                "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.00s"
            )
        );
        assert!(!count.add("test ledger::tests::a_chain ... ok"));
        assert_eq!(count, Count { passed: 7, failed: 3, skipped: 1 });
        assert_eq!(count.line(), "7 passed, 3 failed, 1 skipped");
    }

    #[test]
    fn a_check_counts_when_it_fails_only() {
        let mut count = Count::default();
        assert!(count.check(Ok(())));
        assert!(!count.check(Err("not formatted".to_owned())));
        assert_eq!(count.line(), "0 passed, 1 failed");
    }

    #[test]
    fn the_last_line_leaves_skipped_out_when_nothing_was_skipped() {
        assert_eq!(Count { passed: 1, failed: 0, skipped: 0 }.line(), "1 passed, 0 failed");
    }

    #[test]
    fn only_what_did_not_pass_is_shown() {
        assert!(!worth_reading("test arn::tests::every_partition ... ok"));
        assert!(!worth_reading("running 12 tests"));
        assert!(!worth_reading(""));
        assert!(worth_reading("test arn::tests::every_partition ... FAILED"));
        assert!(worth_reading("thread 'main' panicked at src/lib.rs:1"));
    }
}
