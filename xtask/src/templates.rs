//! The linters of the CloudFormation templates, hash-pinned, in virtual environments: cfn-lint, which also checks the
//! definition of the state machine against the Amazon States Language, CloudFormation Guard, and checkov.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::phase::{Phases, succeed};
use crate::tools::{python, root};

/// A linter of PyPI.
struct Linter {
    name: &'static str,
    /// Everything that it needs, pinned.
    requirements: &'static str,
    /// How long it takes to install.
    patience: &'static str,
}

const CFN_LINT: Linter =
    Linter { name: "cfn-lint", requirements: include_str!("../requirements-lint.txt"), patience: "half a minute" };
const CHECKOV: Linter = Linter {
    name: "checkov",
    requirements: include_str!("../requirements-checkov.txt"),
    patience: "one to two minutes",
};

/// What checkov leaves out, and why.
const EXCEPTIONS: &str = "stacksets/.checkov.yaml";

/// What every template promises, for CloudFormation Guard.
const RULES: &str = "stacksets/rules.guard";
/// Asks it.
const GUARD: &str = include_str!("guard.py");

/// Fails when a template is not what CloudFormation and Step Functions take, or not as safe as it should be.
pub(crate) fn lint(phases: &Phases) -> Result<(), String> {
    let linter = CFN_LINT.installed(phases)?;
    phases.step("templates", || {
        let folders = ["stacksets", "stacksets/administrator", "stacksets/examples", "stacksets/member-documents"];
        let templates = folders.into_iter().map(templates).collect::<Result<Vec<_>, _>>()?.concat();
        succeed(Command::new(&linter).args(&templates).current_dir(root()))
    })?;
    let with_guard = linter.with_file_name("python");
    let asks = |program: &str| {
        let mut python = Command::new(&with_guard);
        python.args(["-c", program]).current_dir(root());
        python
    };
    let is_there = asks("import cfn_guard_rs").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if is_there {
        phases.step("cfn-guard", || {
            let templates = [templates("stacksets")?, templates("stacksets/administrator")?].concat();
            succeed(asks(GUARD).arg(RULES).args(templates))
        })?;
    } else {
        eprintln!("  cfn-guard: left out, there is no build of it for this version of Python");
    }
    let checkov = CHECKOV.installed(phases)?;
    // The runbooks' templates hold SSM documents only, of which it knows nothing.
    phases.step("checkov", || {
        let mut check = Command::new(&checkov);
        check.args(["--config-file", EXCEPTIONS]);
        let folders = ["stacksets", "stacksets/administrator", "stacksets/examples"];
        for template in folders.into_iter().map(templates).collect::<Result<Vec<_>, _>>()?.concat() {
            check.arg("--file").arg(template);
        }
        succeed(check.current_dir(root()))
    })
}

/// The Python of checkov, which has what reads bills of materials too.
pub(crate) fn checkov_python(phases: &Phases) -> Result<PathBuf, String> {
    CHECKOV.installed(phases).map(|linter| linter.with_file_name("python"))
}

/// The templates in a folder of the repository.
pub(crate) fn templates(folder: &str) -> Result<Vec<PathBuf>, String> {
    templates_of(&root().join(folder))
}

/// The templates in a folder.
pub(crate) fn templates_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let is_template = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|ending| ending == "yaml")
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_template).collect();
    found.sort();
    Ok(found)
}

impl Linter {
    /// The linter, installed first when it is not there, or another one is.
    fn installed(&self, phases: &Phases) -> Result<PathBuf, String> {
        let folder = root().join(".lab").join(format!("venv-{}", self.name));
        let linter = folder.join("bin").join(self.name);
        let marker = folder.join("installed.txt");
        if fs::read_to_string(&marker).is_ok_and(|installed| installed == self.requirements) {
            return Ok(linter);
        }
        python(phases)?;
        phases.step(&format!("install {} (once, {})", self.name, self.patience), || {
            let failed = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", folder.display());
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(|error| failed("remove", error))?;
            }
            fs::create_dir_all(&folder).map_err(|error| failed("make", error))?;
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
            let file = folder.join("requirements.txt");
            fs::write(&file, self.requirements).map_err(|error| failed("write into", error))?;
            let mut pip = Command::new(folder.join("bin").join("python"));
            let how = "-m pip install --quiet --disable-pip-version-check --no-input --no-compile --no-deps --require-hashes -r";
            let pip = succeed(pip.args(how.split(' ')).arg(&file));
            pip.map_err(|error| {
                format!("{error}; check that this machine reaches PyPI, or set PIP_INDEX_URL to a mirror")
            })?;
            fs::write(&marker, self.requirements).map_err(|error| failed("write into", error))
        })?;
        Ok(linter)
    }
}
