//! The crates that are in the shipped binaries: as cargo resolves them for these packages and this target, without what
//! only builds or tests them, and without procedural macros, which the compiler runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::phase::{cargo, output};
use crate::tools;

/// A crate by its name and version.
pub(super) type Id = (String, String);

/// One crate.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Crate {
    /// As its author wrote it.
    pub(super) licence: String,
    /// SHA-256 of the package, where `Cargo.lock` has it: of what comes from a registry.
    pub(super) sha256: Option<String>,
    /// What it calls.
    pub(super) needs: BTreeSet<Id>,
}

/// The crates of these packages' binaries, the packages included.
pub(super) fn shipped<const N: usize>(packages: [&str; N], target: &str) -> Result<BTreeMap<Id, Crate>, String> {
    let mut tree = cargo(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "depth"]);
    tree.args(["--format", "|{p}|{l}|", "--target", target]);
    for package in packages {
        tree.args(["-p", package]);
    }
    let lock = tools::root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).map_err(|error| format!("cannot read {}: {error}", lock.display()))?;
    read(&output(&mut tree)?, &lock)
}

/// Reads what `cargo tree` says: a crate a line, with its depth; and the checksums of a lock file.
fn read(tree: &str, lock: &str) -> Result<BTreeMap<Id, Crate>, String> {
    let checksums = checksums(lock);
    let mut found: BTreeMap<Id, Crate> = BTreeMap::new();
    let mut path: Vec<Id> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let not_understood = || format!("`cargo tree` says `{line}`, which is not understood");
        let mut parts = line.split('|');
        let depth = parts.next().and_then(|depth| depth.parse::<usize>().ok()).ok_or_else(not_understood)?;
        let (name, rest) = parts.next().and_then(|package| package.split_once(" v")).ok_or_else(not_understood)?;
        let version = rest.split(' ').next().unwrap_or(rest);
        let licence = parts.next().ok_or_else(not_understood)?;
        let id: Id = (name.to_owned(), version.to_owned());
        path.truncate(depth);
        if let Some(above) = path.last().and_then(|above| found.get_mut(above)) {
            above.needs.insert(id.clone());
        }
        found.entry(id.clone()).or_insert_with(|| Crate {
            licence: expression(licence),
            sha256: checksums.get(&id).cloned(),
            needs: BTreeSet::new(),
        });
        path.push(id);
    }
    Ok(found)
}

/// A licence as SPDX writes it: some authors still write `MIT/Apache-2.0`.
fn expression(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let value = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            value.and_then(|value| value.strip_suffix('"')).map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(checksum)) = (field("name"), field("version"), field("checksum")) {
            found.insert((name, version), checksum);
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"0.1.0\"\ndependencies = [\n \"b\",\n]\n\n\
        [[package]]\nname = \"b\"\nversion = \"1.2.3\"\nsource = \"registry+https://x\"\nchecksum = \"beef\"\n";

    fn id(name: &str, version: &str) -> Id {
        (name.to_owned(), version.to_owned())
    }

    #[test]
    fn a_tree_is_read_with_who_needs_whom() {
        let tree = "0|a v0.1.0 (/x/a)|Apache-2.0|\n1|b v1.2.3|MIT/Apache-2.0|\n2|c v2.0.0|||\n1|c v2.0.0||| (*)\n\n0|d v0.1.0 (/x/d)|Apache-2.0|\n1|b v1.2.3|MIT/Apache-2.0| (*)\n";
        let found = read(tree, LOCK).unwrap();
        assert_eq!(found.keys().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(found[&id("a", "0.1.0")].needs, BTreeSet::from([id("b", "1.2.3"), id("c", "2.0.0")]));
        assert_eq!(found[&id("b", "1.2.3")].needs, BTreeSet::from([id("c", "2.0.0")]));
        assert_eq!(found[&id("d", "0.1.0")].needs, BTreeSet::from([id("b", "1.2.3")]));
        assert_eq!(found[&id("b", "1.2.3")].licence, "MIT OR Apache-2.0");
        assert_eq!(found[&id("b", "1.2.3")].sha256.as_deref(), Some("beef"));
        assert_eq!(found[&id("a", "0.1.0")].sha256, None);
        assert!(read("a line\n", LOCK).is_err());
    }

    #[test]
    fn the_functions_hold_the_sdk_and_neither_the_lab_nor_what_only_builds() {
        let found = shipped(["redress-admin", "redress-member"], "aarch64-unknown-linux-gnu").unwrap();
        let names: BTreeSet<&str> = found.keys().map(|(name, _)| name.as_str()).collect();
        for there in
            ["redress-admin", "redress-common", "redress-member", "aws-sdk-ssm", "cedar-policy", "lambda_runtime"]
        {
            assert!(names.contains(there), "{there}");
        }
        for not_there in ["redress-lab", "axum", "insta", "proptest", "serde_derive", "cc", "clap"] {
            assert!(!names.contains(not_there), "{not_there}");
        }
        let bought = found.iter().filter(|((name, _), _)| !name.starts_with("redress-"));
        for ((name, _), one) in bought {
            assert!(one.sha256.as_ref().is_some_and(|sum| sum.len() == 64), "{name} has no checksum");
            assert!(!one.licence.is_empty(), "{name} has no licence");
        }
    }
}
