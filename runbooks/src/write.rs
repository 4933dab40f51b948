//! The generated files on disk: written by `generate`, compared by `check`. Files of documents that are no longer
//! made are removed, and count as stale.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::compile::{CompileError, Generated, compile_all};
use crate::control::{Control, ControlError, load_controls, load_playbooks};
use crate::digest::digest;
use crate::functions::{self, FunctionError};
use crate::monitoring;
use crate::security_hub;
use crate::trust::{self, Powers};

/// The control files, below the repository's root.
pub const CONTROLS: &str = "ssm-documents/controls";
/// The playbooks' files.
pub const PLAYBOOKS: &str = "ssm-documents/playbooks";
const DOCUMENTS: &str = "ssm-documents/documents";
/// What each document says, as a hash: `redress deploy doctor` compares by it.
const DIGESTS: &str = "ssm-documents/digests.json";
const TEMPLATES: &str = "stacksets/member-documents";
/// Where the templates are: written by hand, generated, and by hand but for the policies of their functions.
const STACKSETS: [&str; 2] = ["stacksets", "stacksets/administrator"];

/// Why generating or checking failed.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A control file is wrong.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The compiler is.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A file of what a function calls is wrong, or the template that has its policy.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// A value could not be written as JSON.
    #[error("cannot write `{path}` as JSON: {source}")]
    Json {
        /// Which file.
        path: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A template cannot be read.
    #[error(transparent)]
    Template(#[from] trust::TemplateError),
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unread {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The disk said no.
    #[error("cannot write `{}`: {source}", path.display())]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Committed files are not what the controls give.
    #[error("not what the control files and tables give: {}; run `cargo xtask generate` and commit what it writes", .0.join(", "))]
    Stale(Vec<String>),
}

/// Every generated file below the repository's root: path → content.
///
/// # Errors
/// When a value cannot be written as JSON or YAML.
pub fn files(generated: &Generated) -> Result<BTreeMap<String, String>, GenerateError> {
    let json = |path: String, text: Result<String, serde_json::Error>| match text {
        Ok(text) => Ok((path, text + "\n")),
        Err(source) => Err(GenerateError::Json { path, source }),
    };
    let mut files: BTreeMap<String, String> = generated
        .documents
        .iter()
        .map(|(name, document)| json(format!("{DOCUMENTS}/{name}.json"), serde_json::to_string_pretty(document)))
        .collect::<Result<_, _>>()?;
    let (path, text) =
        json("ssm-documents/catalogue.json".to_owned(), serde_json::to_string_pretty(&generated.catalogue))?;
    files.insert(path, text);
    let digests: Result<BTreeMap<&String, String>, _> =
        generated.documents.iter().map(|(name, document)| Ok((name, digest(document)?))).collect();
    let (path, text) = json(DIGESTS.to_owned(), digests.and_then(|digests| serde_json::to_string_pretty(&digests)))?;
    files.insert(path, text);
    files.insert("stacksets/member-roles.yaml".to_owned(), generated.roles_template.clone());
    for (family, template) in &generated.documents_templates {
        files.insert(format!("{TEMPLATES}/{family}.yaml"), template.clone());
    }
    files.insert("docs/catalogue.md".to_owned(), generated.catalogue_page.clone());
    files.insert(monitoring::TEMPLATE.to_owned(), monitoring::template()?);
    files.insert(security_hub::TEMPLATE.to_owned(), security_hub::template()?);
    Ok(files)
}

/// Compile what is below `root`.
fn compile(root: &Path) -> Result<BTreeMap<String, String>, GenerateError> {
    let mut files = files(&compile_all(&load_all(root)?)?)?;
    files.extend(functions(root)?);
    let page = powers(root, &files)?.page();
    files.insert(trust::PAGE.to_owned(), page);
    Ok(files)
}

/// The templates with the policies of the functions that are in them: path → text.
///
/// # Errors
/// When a file of what a function calls is wrong or has no place, or a template cannot be read.
pub fn functions(root: &Path) -> Result<BTreeMap<String, String>, GenerateError> {
    let all = functions::load(root)?;
    let (mut templates, mut placed) = (BTreeMap::new(), BTreeSet::new());
    for path in functions::template::TEMPLATES {
        let full = root.join(path);
        if !full.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&full).map_err(|source| GenerateError::Unread { path: full, source })?;
        let (text, files) = functions::template::written(path, &text, &all)?;
        templates.insert(path.to_owned(), text);
        placed.extend(files);
    }
    match all.iter().find(|function| !placed.contains(&function.file)) {
        None => Ok(templates),
        Some(function) => Err(functions::template::homeless(function).into()),
    }
}

/// What the templates say of roles: those of the repository that are written by hand, and those that are generated.
///
/// # Errors
/// When one cannot be read.
pub fn powers(root: &Path, generated: &BTreeMap<String, String>) -> Result<Powers, GenerateError> {
    let is_in_part = |path: &str| functions::template::TEMPLATES.contains(&path);
    let mut by_hand = BTreeMap::new();
    let entries = |folder: &'static str| {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries.map(move |entry| (folder, entry))
    };
    for (folder, entry) in STACKSETS.into_iter().flat_map(entries) {
        let (full, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let path = format!("{folder}/{name}");
        let is_template = full.extension().is_some_and(|ending| ending == "yaml") && !name.starts_with('.');
        match generated.get(&path) {
            Some(text) if is_in_part(&path) => {
                by_hand.insert(path, text.clone());
            }
            None if is_template => {
                let text =
                    std::fs::read_to_string(&full).map_err(|source| GenerateError::Unread { path: full, source })?;
                by_hand.insert(path, text);
            }
            _ => {}
        }
    }
    let generated = generated.iter().filter(|(path, _)| path.starts_with(STACKSETS[0]) && !is_in_part(path));
    let all = by_hand.iter().chain(generated).map(|(path, text)| (path.as_str(), text.as_str()));
    Powers::read(all).map_err(GenerateError::from)
}

/// Every control and playbook below the repository's root.
///
/// # Errors
/// When a file is wrong.
pub fn load_all(root: &Path) -> Result<Vec<Control>, ControlError> {
    let mut all = load_controls(&root.join(CONTROLS))?;
    let playbooks = root.join(PLAYBOOKS);
    if playbooks.is_dir() {
        all.extend(load_playbooks(&playbooks)?);
    }
    Ok(all)
}

/// Documents and their templates on disk that are not among `files`.
fn leftovers(root: &Path, files: &BTreeMap<String, String>) -> Vec<String> {
    let in_folder = |folder: &'static str| {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries.map(move |entry| format!("{folder}/{}", entry.file_name().to_string_lossy()))
    };
    let mut found: Vec<String> =
        [DOCUMENTS, TEMPLATES].into_iter().flat_map(in_folder).filter(|path| !files.contains_key(path)).collect();
    found.sort();
    found
}

/// Write every generated file below `root`; the paths that changed.
///
/// # Errors
/// When a control does not compile or a file cannot be written.
pub fn generate(root: &Path) -> Result<Vec<String>, GenerateError> {
    let files = compile(root)?;
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |source| GenerateError::Disk { path, source }
    };
    let mut changed = Vec::new();
    for (path, text) in &files {
        let full = root.join(path);
        if std::fs::read_to_string(&full).is_ok_and(|old| old == *text) {
            continue;
        }
        if let Some(parent) = full.parent() {
            std::fs::create_dir_all(parent).map_err(disk(parent))?;
        }
        std::fs::write(&full, text).map_err(disk(&full))?;
        changed.push(path.clone());
    }
    for path in leftovers(root, &files) {
        let full = root.join(&path);
        std::fs::remove_file(&full).map_err(disk(&full))?;
        changed.push(path);
    }
    Ok(changed)
}

/// Compare the files below `root` with what the controls give.
///
/// # Errors
/// [`GenerateError::Stale`] names every file that differs, is missing or is left over.
pub fn check(root: &Path) -> Result<(), GenerateError> {
    let files = compile(root)?;
    let mut stale: Vec<String> = files
        .iter()
        .filter(|(path, text)| !std::fs::read_to_string(root.join(path)).is_ok_and(|old| old == **text))
        .map(|(path, _)| path.clone())
        .collect();
    stale.extend(leftovers(root, &files));
    if stale.is_empty() { Ok(()) } else { Err(GenerateError::Stale(stale)) }
}
