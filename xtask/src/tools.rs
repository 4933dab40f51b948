//! What the commands share: where things are, which tools must be there, the one build of everything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::phase::{Phases, cargo, succeed};

/// The oldest Python that the lab's emulators run on.
const PYTHON: (u32, u32) = (3, 10);

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A binary of the everyday profile.
pub(crate) fn built(name: &str) -> PathBuf {
    target_dir().join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// The lab's emulators are Python programs in a virtual environment that the lab makes.
pub(crate) fn python(phases: &Phases) -> Result<(), String> {
    let need = format!(
        "Python {}.{} or later with venv (on Debian and Ubuntu: apt-get install python3-venv)",
        PYTHON.0, PYTHON.1
    );
    phases.step("python3 and venv", || {
        let output = Command::new("python3")
            .args(["-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"])
            .output()
            .map_err(|error| format!("the lab needs {need}; cannot start python3: {error}"))?;
        if !output.status.success() {
            return Err(format!("the lab needs {need}; {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let numbers =
            version.split_once(' ').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        if numbers.is_some_and(|found: (u32, u32)| found >= PYTHON) {
            Ok(())
        } else {
            Err(format!("the lab needs {need}; python3 here is {}", version.replace(' ', ".")))
        }
    })
}

/// What of the workspace is built. Never a part of it: that would have other features, and build the same
/// dependencies again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Targets {
    /// What runs.
    Binaries,
    /// What runs, and what tests and measures it.
    All,
}

/// Builds the workspace, in the everyday profile.
pub(crate) fn build(phases: &Phases, targets: Targets) -> Result<(), String> {
    let mut build = match targets {
        Targets::Binaries => cargo(["build", "--workspace"]),
        Targets::All => linting(["build", "--workspace", "--all-targets"]),
    };
    if !phases.watched() {
        build.arg("--quiet");
    }
    phases.run("build (the first one takes 10 minutes or more)", build)
}

/// Cargo with clippy as the compiler of our own crates: what is built for the tests is linted by the way, where
/// `cargo clippy` checks every dependency once more, for 3 to 8 minutes.
pub(crate) fn linting<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = cargo(arguments);
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    command
}

/// The rules that only clippy enforces: no `unwrap` outside tests is one. What the build had to say, and cargo keeps, is
/// said again: one warning is one too many.
pub(crate) fn clippy(phases: &Phases) -> Result<(), String> {
    phases.step("clippy", || {
        let mut build = linting(["build", "--workspace", "--all-targets", "--quiet", "--message-format=json"]);
        let output = build.stderr(Stdio::inherit()).output().map_err(|error| format!("cannot start cargo: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let warnings: Vec<String> = said.lines().filter_map(warning).collect();
        warnings.iter().for_each(|warning| eprintln!("{warning}"));
        match warnings.len() {
            0 if output.status.success() => Ok(()),
            0 => Err(format!("cargo ended with {}", output.status)),
            found => Err(format!("{found} warnings; the rules are in `[workspace.lints]` of Cargo.toml")),
        }
    })
}

/// What the compiler or clippy complains of, in a line of cargo's.
fn warning(line: &str) -> Option<String> {
    let said: Value = serde_json::from_str(line).ok()?;
    let message = &said["message"];
    let complains =
        said["reason"] == "compiler-message" && matches!(message["level"].as_str(), Some("warning" | "error"));
    // "3 warnings emitted" is about those before it.
    (complains && !message["spans"].as_array()?.is_empty()).then(|| message["rendered"].as_str().map(str::to_owned))?
}

/// Writes what is generated from the control files.
pub(crate) fn generate(phases: &Phases) -> Result<(), String> {
    build(phases, Targets::Binaries)?;
    phases.step("generate", || succeed(Command::new(built("redress-runbooks")).arg("generate").current_dir(root())))
}

/// Fails when a generated file is not what the control files give.
pub(crate) fn generated_is_current(phases: &Phases) -> Result<(), String> {
    phases.step("generated files are current", || {
        succeed(Command::new(built("redress-runbooks")).args(["generate", "--check"]).current_dir(root()))
            .map_err(|error| format!("{error}; run `cargo xtask generate` and commit what it writes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_told_from_the_rest_of_what_cargo_says() {
        let said = |reason: &str, level: &str, spans: &str| {
            format!(r#"{{"reason":"{reason}","message":{{"level":"{level}","spans":{spans},"rendered":"unused"}}}}"#)
        };
        assert_eq!(warning(&said("compiler-message", "warning", "[{}]")).as_deref(), Some("unused"));
        assert_eq!(warning(&said("compiler-message", "warning", "[]")), None);
        assert_eq!(warning(&said("compiler-message", "note", "[{}]")), None);
        assert_eq!(warning(&said("compiler-artifact", "warning", "[{}]")), None);
        assert_eq!(warning("not JSON"), None);
    }
}
