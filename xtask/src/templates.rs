//! The linter of the CloudFormation templates: cfn-lint, hash-pinned, in a virtual environment of its own. It also checks
//! the definition of the state machine against the Amazon States Language.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::phase::{Phases, succeed};
use crate::tools::{python, root};

const REQUIREMENTS: &str = include_str!("../requirements-lint.txt");

/// Fails when a template is not what CloudFormation and Step Functions take.
pub(crate) fn lint(phases: &Phases) -> Result<(), String> {
    let linter = installed(phases)?;
    phases.step("templates", || {
        let mut templates: Vec<PathBuf> = Vec::new();
        for folder in ["stacksets", "stacksets/member-documents"].map(|folder| root().join(folder)) {
            let found = fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
            templates.extend(found.flatten().map(|entry| entry.path()));
        }
        templates.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
        templates.sort();
        succeed(Command::new(&linter).args(&templates).current_dir(root()))
    })
}

/// The linter, installed first when it is not there, or another one is.
fn installed(phases: &Phases) -> Result<PathBuf, String> {
    let folder = root().join(".lab").join("venv-cfn-lint");
    let linter = folder.join("bin").join("cfn-lint");
    let marker = folder.join("installed.txt");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(linter);
    }
    python(phases)?;
    phases.step("install the linter of the templates (once, half a minute)", || {
        let failed = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| failed("remove", error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| failed("make", error))?;
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let file = folder.join("requirements.txt");
        fs::write(&file, REQUIREMENTS).map_err(|error| failed("write into", error))?;
        let mut pip = Command::new(folder.join("bin").join("python"));
        pip.args("-m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r".split(' '));
        let pip = succeed(pip.arg(&file));
        pip.map_err(|error| {
            format!("{error}; check that this machine reaches PyPI, or set PIP_INDEX_URL to a mirror")
        })?;
        fs::write(&marker, REQUIREMENTS).map_err(|error| failed("write into", error))
    })?;
    Ok(linter)
}
