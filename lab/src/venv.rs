//! Python virtual environments for the emulators: hash-pinned, made once, shared by every lab of a clone.
//!
//! Nothing is installed that the requirements files do not name with a hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use crate::{LabError, Progress};

const OLDEST: (u32, u32) = (3, 10);
const CANDIDATES: [&str; 6] = ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python"];

/// One emulator's environment.
pub(crate) struct Requirements {
    /// Part of the directory's name: `moto`.
    pub(crate) name: &'static str,
    /// The text of the requirements file.
    pub(crate) text: &'static str,
}

pub(crate) const MINISTACK: Requirements =
    Requirements { name: "ministack", text: include_str!("../python/requirements-ministack.txt") };
pub(crate) const MOTO: Requirements =
    Requirements { name: "moto", text: include_str!("../python/requirements-moto.txt") };

/// Where an environment is.
pub(crate) fn directory(home: &Path, wanted: &Requirements) -> PathBuf {
    let digest = hex::encode(Sha256::digest(wanted.text));
    home.join(format!("venv-{}-{}", wanted.name, &digest[..12]))
}

/// The interpreter of the environment under `home` (`.lab`), made first when it is not there.
pub(crate) fn python(home: &Path, wanted: &Requirements, progress: &Progress) -> Result<PathBuf, LabError> {
    let directory = directory(home, wanted);
    let python = directory.join("bin/python");
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    fs::create_dir_all(home).map_err(|source| LabError::file(home, source))?;
    // Two tests may start at once: one makes it, the others wait here.
    let lock_path = home.join(format!("venv-{}.lock", wanted.name));
    let lock = fs::File::create(&lock_path).map_err(|source| LabError::file(&lock_path, source))?;
    lock.lock().map_err(|source| LabError::file(&lock_path, source))?;
    if complete.exists() {
        return Ok(python);
    }
    progress(&format!("installing {} into {} (once, about a minute)", wanted.name, directory.display()));
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(|source| LabError::file(&directory, source))?;
    }
    let base = interpreter()?;
    run(Command::new(&base).args(["-m", "venv"]).arg(&directory), |output| LabError::Venv {
        what: "make a virtual environment",
        advice: "on Debian and Ubuntu install the package `python3-venv`, then try again",
        output,
    })?;
    let file = directory.join("requirements.txt");
    fs::write(&file, wanted.text).map_err(|source| LabError::file(&file, source))?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--require-hashes",
        "--requirement",
    ])
    .arg(&file);
    run(&mut pip, |output| LabError::Venv {
        what: "install the pinned emulator packages",
        advice: "check that this machine reaches PyPI (or set PIP_INDEX_URL to a mirror), then try again",
        output,
    })?;
    fs::write(&complete, "").map_err(|source| LabError::file(&complete, source))?;
    Ok(python)
}

fn interpreter() -> Result<PathBuf, LabError> {
    let mut found = Vec::new();
    for candidate in CANDIDATES {
        let asked = Command::new(candidate).args(["-c", "import sys; print(*sys.version_info[:2])"]).output();
        let Some(version) = asked.ok().as_ref().and_then(version_of) else { continue };
        if version >= OLDEST {
            return Ok(PathBuf::from(candidate));
        }
        found.push(format!("{candidate} is {}.{}", version.0, version.1));
    }
    Err(LabError::NoPython { found: if found.is_empty() { "none was found".to_owned() } else { found.join(", ") } })
}

fn version_of(asked: &Output) -> Option<(u32, u32)> {
    let text = String::from_utf8_lossy(&asked.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn run(command: &mut Command, failed: impl Fn(String) -> LabError) -> Result<(), LabError> {
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    let lines: Vec<&str> = told.trim().lines().collect();
    Err(failed(lines[lines.len().saturating_sub(15)..].join("\n")))
}
