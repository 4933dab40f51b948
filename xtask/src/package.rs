//! `cargo xtask package`: a release as one folder, `target/release-<version>/`. Here is the order of it; what a release
//! holds is in [`release`], a function's zip in [`archive`], the bill of materials in [`sbom`] and [`crates`].

mod archive;
mod crates;
mod release;
mod sbom;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::phase::{Phases, cargo, output, succeed};
use crate::{templates, tools};
use release::Release;

/// What ships: the binaries of these, and no others.
const PACKAGES: [&str; 2] = ["redress-admin", "redress-member"];

/// What is asked for.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Asked {
    /// Another target than this machine's, such as `aarch64-unknown-linux-gnu` (needs a linker for it). `redress
    /// deploy` takes the release only where `architecture` of its settings names the same processor.
    #[arg(long)]
    target: Option<String>,
    /// Takes the functions' binaries from this folder, and builds nothing.
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
}

/// Builds, puts the release together, and says how big each function is.
pub(crate) fn run(phases: &Phases, asked: &Asked) -> Result<(), String> {
    let functions = functions()?;
    // Before the build, which takes half an hour.
    release::architecture(&target(asked)?)?;
    let binaries = match &asked.binaries {
        Some(folder) => folder.clone(),
        None => build(phases, asked.target.as_deref())?,
    };
    let out = tools::target_dir().join(format!("release-{}", env!("CARGO_PKG_VERSION")));
    phases.step("release folder", || {
        let release = Release {
            root: &tools::root(),
            binaries: &binaries,
            functions: &functions,
            crates: &crates::shipped(PACKAGES, &target(asked)?)?,
            version: env!("CARGO_PKG_VERSION"),
            git: git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]),
            target: target(asked)?,
            rust: rustc("release: ")?,
            epoch: epoch()?,
        };
        report(&release.write(&out)?)
    })?;
    println!("in {}; check it there with `sha256sum --check SHA256SUMS`", out.display());
    Ok(())
}

/// Fails when the bill of materials is not what CycloneDX 1.6 says, by the validator that checkov brings along.
pub(crate) fn check_sbom(phases: &Phases) -> Result<(), String> {
    const CHECK: &str = "import sys; from cyclonedx.schema import SchemaVersion as V; \
        from cyclonedx.validation.json import JsonStrictValidator as J; sys.exit(J(V.V1_6).validate_str(sys.stdin.read()))";
    let python = templates::checkov_python(phases)?;
    phases.step("bill of materials", || {
        let zips = functions()?.into_iter().map(|(function, package)| (function, (package, "0".repeat(64)))).collect();
        let target = rustc("host: ")?;
        let crates = crates::shipped(PACKAGES, &target)?;
        let bill = sbom::bill(env!("CARGO_PKG_VERSION"), &rustc("release: ")?, 0, &zips, &crates)?;
        let folder = tools::target_dir().join("sbom");
        fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let file = folder.join("sbom.cdx.json");
        fs::write(&file, bill).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let input = fs::File::open(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        succeed(Command::new(&python).args(["-c", CHECK]).stdin(input))
    })
}

/// The functions and the package of each: the binaries that cargo knows in them.
fn functions() -> Result<BTreeMap<String, String>, String> {
    let said = output(&mut cargo(["metadata", "--no-deps", "--locked", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&said).map_err(|error| format!("cargo's metadata cannot be read: {error}"))?;
    let mut found = BTreeMap::new();
    for package in PACKAGES {
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let targets = packages.filter(|one| one["name"] == package).filter_map(|one| one["targets"].as_array());
        let binaries = targets.flatten().filter(|one| one["kind"][0] == "bin");
        found.extend(binaries.filter_map(|one| Some((one["name"].as_str()?.to_owned(), package.to_owned()))));
    }
    Ok(found)
}

/// Where the binaries are, built as they ship.
fn build(phases: &Phases, target: Option<&str>) -> Result<PathBuf, String> {
    // These packages and no others, so that a function carries no feature that only the lab asks for.
    let mut build = cargo(["build", "--locked", "--profile", "lambda", "--bins"]);
    for package in PACKAGES {
        build.args(["-p", package]);
    }
    if let Some(target) = target {
        build.args(["--target", target]);
    }
    build.args(["--config", &format!("build.rustflags={}", nowhere())]);
    phases.run("build for Lambda (fat LTO: half an hour or more on two cores)", build)?;
    Ok(target.map_or_else(tools::target_dir, |target| tools::target_dir().join(target)).join("lambda"))
}

/// Flags with which a binary does not tell, and does not depend on, where it was built. A list in TOML.
fn nowhere() -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let places = [(home, "/cargo"), (Some(tools::root()), "/redress")];
    let flags =
        places.into_iter().filter_map(|(from, to)| Some(format!("--remap-path-prefix={}={to}", from?.display())));
    Value::from(flags.collect::<Vec<_>>()).to_string()
}

/// The target's triple.
fn target(asked: &Asked) -> Result<String, String> {
    asked.target.clone().map_or_else(|| rustc("host: "), Ok)
}

/// A line of what the compiler says of itself.
fn rustc(line: &str) -> Result<String, String> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let said = output(Command::new(compiler).arg("-vV"))?;
    let found = said.lines().find_map(|said| said.strip_prefix(line));
    found.map(str::to_owned).ok_or_else(|| format!("`rustc -vV` says nothing of `{line}`"))
}

/// What git says; nothing where there is no repository.
fn git(arguments: &[&str]) -> Option<String> {
    output(Command::new("git").args(arguments).current_dir(tools::root())).ok().map(|said| said.trim().to_owned())
}

/// The release's time, in seconds: `SOURCE_DATE_EPOCH`, or the commit's. Never the clock's.
fn epoch() -> Result<i64, String> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let given = given.or_else(|| git(&["log", "-1", "--format=%ct"]));
    let given = given.ok_or("set SOURCE_DATE_EPOCH: this is no git repository, so it has no commit's time")?;
    given.parse().map_err(|_| format!("`{given}` is no time in seconds; look at SOURCE_DATE_EPOCH"))
}

/// Prints the sizes; fails when a zip is over its budget.
fn report(sizes: &[(String, u64, u64)]) -> Result<(), String> {
    println!("{:<24} {:>12} {:>12} {:>12}", "function", "binary", "zip", "budget");
    let mut too_big = Vec::new();
    for (function, binary, zip) in sizes {
        let verdict = if *zip > archive::LIMIT { "over" } else { "ok" };
        let (binary, told, limit) = (megabytes(*binary), megabytes(*zip), megabytes(archive::LIMIT));
        println!("{function:<24} {binary:>12} {told:>12} {limit:>12} {verdict}");
        if *zip > archive::LIMIT {
            too_big.push(function.as_str());
        }
    }
    if too_big.is_empty() { Ok(()) } else { Err(format!("over {}: {}", megabytes(archive::LIMIT), too_big.join(", "))) }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_function_of_the_templates_is_packaged_and_no_other() {
        let packaged: BTreeSet<String> =
            functions().unwrap().keys().map(|name| format!("redress-{name}.zip")).collect();
        let mut named = BTreeSet::new();
        for template in templates::templates("stacksets").unwrap() {
            let text = fs::read_to_string(tools::root().join(template)).unwrap();
            let defaults = text.lines().filter_map(|line| line.trim().strip_prefix("Default: "));
            named.extend(defaults.filter(|default| default.ends_with(".zip")).map(str::to_owned));
        }
        assert_eq!(packaged, named);
    }

    #[test]
    fn what_is_over_its_budget_fails_and_is_named() {
        let small = ("redress-a".to_owned(), 9_000_000, archive::LIMIT);
        let big = ("redress-b".to_owned(), 9_000_000, archive::LIMIT + 1);
        assert_eq!(report(std::slice::from_ref(&small)), Ok(()));
        assert_eq!(report(&[small, big]), Err("over 6.0 MB: redress-b".to_owned()));
    }

    #[test]
    fn sizes_are_told_in_megabytes() {
        assert_eq!(megabytes(5_240_000), "5.2 MB");
        assert_eq!(megabytes(archive::LIMIT), "6.0 MB");
    }
}
