//! Every developer command, in Rust: `cargo xtask <command>`.
//!
//! It starts other programs and reads what they say. It links nothing of the project, so that it builds in
//! seconds and still runs when the project does not compile.

mod package;
mod phase;
mod suite;
mod templates;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::phase::{Phases, cargo};
use crate::tools::Targets;

/// Developer commands of Redress.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds everything and shows the main job: an organisation, six bad resources, six repairs, one undo.
    Demo {
        /// One JSON document on standard output instead of text.
        #[arg(long)]
        json: bool,
        /// Passed on to `redress lab demo`.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Builds and tests everything, the end-to-end tests over the lab included.
    Test {
        /// Only tests whose name contains this; then the checks of formatting and generated files are left out.
        filter: Option<String>,
    },
    /// What `.ci/run` calls: the same as `test`.
    Ci,
    /// Writes the SSM documents, IAM policies and catalogue from the control files.
    Generate,
    /// Formatting, templates, clippy without warnings, generated files current: `test` without the tests.
    Lint,
    /// Builds the Lambda functions as they ship, says how big each is, and puts a release together.
    Package(package::Asked),
    /// Measures the figures of docs/figures.md, in the lab: run `package` first, so that what ships is measured.
    Bench {
        /// One JSON document on standard output instead of a table.
        #[arg(long)]
        json: bool,
        /// Passed on: `--rounds N` (cold starts), `--deliveries N` (of one event). `REDRESS_BENCH_RUNS=N` is for containment.
        #[arg(last = true)]
        rest: Vec<String>,
    },
}

fn main() -> ExitCode {
    let phases = Phases::start();
    let done = match Arguments::parse().command {
        Command::Demo { json, rest } => demo(&phases, json, rest),
        Command::Test { filter } => test::run(&phases, filter.as_deref()),
        Command::Ci => test::run(&phases, None),
        Command::Generate => tools::generate(&phases),
        Command::Lint => lint(&phases),
        Command::Package(asked) => package::run(&phases, &asked),
        Command::Bench { json, rest } => bench(&phases, json, rest),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(phases: &Phases, json: bool, rest: Vec<String>) -> Result<(), String> {
    tools::python(phases)?;
    tools::build(phases, Targets::Binaries)?;
    let mut demo = std::process::Command::new(tools::built("redress"));
    demo.args(["lab", "demo"]);
    if json {
        demo.arg("--json");
    }
    demo.args(rest);
    let status =
        demo.status().map_err(|error| format!("cannot start {}: {error}", tools::built("redress").display()))?;
    // The demo has said itself what failed.
    status.success().then_some(()).ok_or_else(|| format!("the demo ended with {status}"))
}

fn lint(phases: &Phases) -> Result<(), String> {
    phases.run("formatting", cargo(["fmt", "--all", "--check"]))?;
    templates::lint(phases)?;
    package::check_sbom(phases)?;
    tools::build(phases, Targets::All)?;
    tools::clippy(phases)?;
    tools::generated_is_current(phases)
}

/// What a duplicate is worked out with is optimised for the storm. The rest, of which the SDK is most, is not built anew.
const COMPUTES: [&str; 5] = ["redress-common", "redress-admin", "redress-tests", "serde_json", "jiff"];

fn bench(phases: &Phases, json: bool, rest: Vec<String>) -> Result<(), String> {
    tools::python(phases)?;
    let mut storm = cargo(["bench", "--quiet", "--workspace", "--bench", "storm", "--profile", "dev"]);
    for package in COMPUTES {
        storm.args(["--config", &format!("profile.dev.package.{package}.opt-level=3")]);
    }
    // The functions write their metrics there.
    storm.stdout(std::process::Stdio::null());
    phases.run("storm", storm)?;
    // Its table comes first; as JSON it is a part of the figures.
    let mut containment = cargo(["bench", "--quiet", "--workspace", "--bench", "containment", "--profile", "dev"]);
    if json {
        containment.stdout(std::process::Stdio::null());
    }
    phases.run("containment", containment)?;
    // What is measured are the functions, which `package` builds; the lab around them is the everyday build.
    let mut bench = cargo(["bench", "--quiet", "--workspace", "--bench", "figures", "--profile", "dev", "--"]);
    if json {
        bench.arg("--json");
    }
    bench.args(rest);
    phases.run("figures", bench)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
