//! A release folder of this repository as it stands, for the lab: the templates, the catalogue, and in place of each
//! function's package a small file, since the lab runs the binaries that were built on this machine.
//!
//! What ships is made by `cargo xtask package`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::deploy::ARCHITECTURE;
use crate::template::{Template, TemplateError};

/// The folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file.
    #[error("`{path}`: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A template of the repository.
    #[error("`{path}`: {source}")]
    Template {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: TemplateError,
    },
    /// The list of files.
    #[error("the list of files cannot be written: {0}")]
    List(#[from] serde_json::Error),
}

/// Writes the release `version` of the repository `root` into `folder`.
///
/// # Errors
/// When a file of the repository is missing, or the folder cannot be written.
pub fn write(root: &Path, folder: &Path, version: &str) -> Result<(), ReleaseError> {
    let mut files = BTreeMap::new();
    let stacks = root.join("stacksets");
    for below in ["", "administrator/", "member-documents/"] {
        for path in yaml_files(&stacks.join(below))? {
            let text = read(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let template =
                Template::parse(&text).map_err(|source| ReleaseError::Template { path: path.clone(), source })?;
            for (_, package) in template.defaults().filter(|(_, value)| value.ends_with(".zip")) {
                files.insert(
                    format!("functions/{package}"),
                    format!("the lab runs the binary of this machine; {version}"),
                );
            }
            files.insert(format!("templates/{below}{name}"), text);
        }
    }
    files.insert("catalogue.json".to_owned(), read(&root.join("ssm-documents").join("catalogue.json"))?);
    save(folder, version, &files)
}

/// Writes files as a release, with its lists.
///
/// # Errors
/// When the folder cannot be written.
pub fn save(folder: &Path, version: &str, files: &BTreeMap<String, String>) -> Result<(), ReleaseError> {
    let mut hashes = BTreeMap::new();
    for (path, content) in files {
        put(&folder.join(path), content)?;
        hashes.insert(path.clone(), hex::encode(Sha256::digest(content.as_bytes())));
    }
    let list = json!({ "version": version, "git": "lab", "architecture": ARCHITECTURE, "files": hashes });
    put(&folder.join("release.json"), &serde_json::to_string_pretty(&list)?)?;
    let sums: String = hashes.iter().map(|(path, hash)| format!("{hash}  {path}\n")).collect();
    put(&folder.join("SHA256SUMS"), &sums)
}

/// The templates of a folder; a name that begins with a dot is a linter's.
fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, ReleaseError> {
    let failed = |source| ReleaseError::File { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String, ReleaseError> {
    std::fs::read_to_string(path).map_err(|source| ReleaseError::File { path: path.to_owned(), source })
}

fn put(path: &Path, content: &str) -> Result<(), ReleaseError> {
    let failed = |source| ReleaseError::File { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)
}
