//! `cargo xtask package`: the Lambda functions as they ship, each a zip with one file `bootstrap` in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::phase::{Phases, cargo, succeed};
use crate::tools;

/// By the names that Cargo gives them.
const FUNCTIONS: [&str; 8] =
    ["orchestrator", "completion", "api", "workflow", "reconciler", "recorder", "remediate", "guard"];

/// DESIGN §10.
const LIMIT: u64 = 6_000_000;

/// Zip knows no time before this; a fixed one makes the same binary the same zip.
const TIMESTAMP: Duration = Duration::from_secs(315_619_200);

/// Builds, zips and reports.
pub(crate) fn run(phases: &Phases, target: Option<&str>) -> Result<(), String> {
    // These two packages and no others, so that a function carries no feature that only the lab asks for.
    let mut build = cargo(["build", "--profile", "lambda", "--bins", "-p", "redress-admin", "-p", "redress-member"]);
    if let Some(target) = target {
        build.args(["--target", target]);
    }
    phases.run("build for Lambda (fat LTO: 5 minutes, the first time 15 or more)", build)?;
    let profile = target.map_or_else(tools::target_dir, |target| tools::target_dir().join(target)).join("lambda");
    let out = tools::target_dir().join("package");
    let mut too_big = Vec::new();
    println!("{:<24} {:>12} {:>12} {:>12}", "function", "binary", "zip", "budget");
    for function in FUNCTIONS {
        let (binary, zip) = zip(&profile.join(function), &out, function)
            .map_err(|error| format!("cannot package `{function}` into {}: {error}", out.display()))?;
        let verdict = if zip > LIMIT { "over" } else { "ok" };
        let (binary, told) = (megabytes(binary), megabytes(zip));
        println!("{:<24} {binary:>12} {told:>12} {:>12} {verdict}", format!("redress-{function}"), megabytes(LIMIT));
        if zip > LIMIT {
            too_big.push(function);
        }
    }
    println!("in {}", out.display());
    if too_big.is_empty() { Ok(()) } else { Err(format!("over {}: {}", megabytes(LIMIT), too_big.join(", "))) }
}

/// Sizes of the binary and of its zip.
fn zip(binary: &Path, out: &Path, function: &str) -> Result<(u64, u64), String> {
    let text = |error: std::io::Error| error.to_string();
    let folder = out.join(function);
    fs::create_dir_all(&folder).map_err(text)?;
    let bootstrap = folder.join("bootstrap");
    fs::copy(binary, &bootstrap).map_err(|error| format!("{}: {error}", binary.display()))?;
    let file = fs::File::options().write(true).open(&bootstrap).map_err(text)?;
    file.set_modified(SystemTime::UNIX_EPOCH + TIMESTAMP).map_err(text)?;
    let archive = out.join(format!("redress-{function}.zip"));
    // Python is there already, for the lab; it keeps the file's mode, which Lambda needs.
    let mut python = Command::new("python3");
    python.args(["-m", "zipfile", "-c"]).arg(&archive).arg("bootstrap").current_dir(&folder).stdout(Stdio::null());
    // Zip's times are local ones.
    python.env("TZ", "UTC");
    succeed(&mut python)?;
    let size = |path: &Path| fs::metadata(path).map(|data| data.len()).map_err(text);
    Ok((size(&bootstrap)?, size(&archive)?))
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_same_binary_gives_the_same_zip_of_an_executable_bootstrap() {
        let folder = std::env::temp_dir().join(format!("redress-package-{}", std::process::id()));
        let (first, second) = (folder.join("a"), folder.join("b"));
        // Any executable will do.
        let binary = std::env::current_exe().unwrap();
        for out in [&first, &second] {
            let (whole, zipped) = zip(&binary, out, "recorder").unwrap();
            assert!(0 < zipped && zipped < whole);
        }
        let read = |out: &Path| fs::read(out.join("redress-recorder.zip")).unwrap();
        assert_eq!(read(&first), read(&second));
        let lists = "import sys, zipfile; print([(i.filename, i.external_attr >> 16 & 0o111) for i in zipfile.ZipFile(sys.argv[1]).infolist()])";
        let listed =
            Command::new("python3").args(["-c", lists]).arg(first.join("redress-recorder.zip")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "[('bootstrap', 73)]");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn sizes_are_told_in_megabytes() {
        assert_eq!(megabytes(5_240_000), "5.2 MB");
        assert_eq!(megabytes(LIMIT), "6.0 MB");
    }
}
