//! What the commands share: where things are, which tools must be there, the one build of everything.

use std::path::{Path, PathBuf};
use std::process::Command;

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
    let mut build = cargo(["build", "--workspace"]);
    if targets == Targets::All {
        build.arg("--all-targets");
    }
    if !phases.watched() {
        build.arg("--quiet");
    }
    phases.run("build (the first one takes 10 minutes or more)", build)
}

/// The rules that only clippy enforces: no `unwrap` outside tests is one. It checks every dependency once more, three
/// minutes the first time.
pub(crate) fn clippy(phases: &Phases) -> Result<(), String> {
    phases.run("clippy", cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
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
