//! A release folder: what is in it, and that it is what its lists say. Reads files and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redress_common::catalogue::Catalogue;
use redress_common::ledger::sha256_hex;
use redress_lab::template::Template;
use serde::Deserialize;

use super::settings::Architecture;
use crate::problem::Problem;

/// `release.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Contents {
    pub(crate) version: String,
    /// The functions' processor.
    architecture: Option<Architecture>,
    /// The triple that the functions were built for.
    target: Option<String>,
    /// Each file's SHA-256, by its path in the folder.
    pub(crate) files: BTreeMap<String, String>,
}

impl Contents {
    fn architecture(&self) -> Option<Architecture> {
        // Releases were made that name their target alone.
        let of_target = || match self.target.as_deref()?.split('-').next()? {
            "aarch64" => Some(Architecture::Arm64),
            "x86_64" => Some(Architecture::X86),
            _ => None,
        };
        self.architecture.or_else(of_target)
    }
}

/// A release whose files are what its lists say.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) folder: PathBuf,
    pub(crate) version: String,
    /// Version and the beginning of the SHA-256 of the list of files: two releases never share one.
    pub(crate) id: String,
    /// The functions' processor, where the release says it.
    pub(crate) architecture: Option<Architecture>,
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) templates: BTreeMap<String, Source>,
    /// The runbooks' templates, by name.
    pub(crate) documents: BTreeMap<String, String>,
    pub(crate) catalogue: Catalogue,
}

/// A template, as text and read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) text: String,
    pub(crate) template: Template,
}

pub(crate) const ADMINISTRATOR: &str = "administrator-stack.yaml";
pub(crate) const MEMBER: &str = "member-stack.yaml";
pub(crate) const ROLES: &str = "member-roles.yaml";
pub(crate) const REGION: &str = "member-region.yaml";
/// The folder of what the administrator stack nests.
pub(crate) const NESTED: &str = "administrator";
const TEMPLATES: [&str; 10] = [
    ADMINISTRATOR,
    "administrator/data.yaml",
    "administrator/events.yaml",
    "administrator/workflow.yaml",
    "administrator/functions.yaml",
    "administrator/securityhub.yaml",
    "administrator/monitoring.yaml",
    MEMBER,
    ROLES,
    REGION,
];
const DOCUMENTS: &str = "templates/member-documents/";
/// What SHA256SUMS cannot list, and what need not be in `release.json`.
const LISTS: [&str; 2] = ["release.json", "SHA256SUMS"];

impl Release {
    /// Reads and verifies a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, Problem> {
        let list = text(folder, "release.json")?;
        let contents: Contents = serde_json::from_str(&list)
            .map_err(|error| bad(folder, &format!("release.json cannot be read: {error}")))?;
        verify(folder, &contents)?;
        let listed = |name: &str| match contents.files.contains_key(name) {
            true => text(folder, name),
            false => Err(bad(folder, &format!("release.json does not list {name}"))),
        };
        let mut templates = BTreeMap::new();
        for name in TEMPLATES {
            let text = listed(&format!("templates/{name}"))?;
            let template =
                Template::parse(&text).map_err(|error| bad(folder, &format!("templates/{name}: {error}")))?;
            templates.insert(name.to_owned(), Source { text, template });
        }
        let mut documents = BTreeMap::new();
        for path in contents.files.keys().filter(|path| path.starts_with(DOCUMENTS)) {
            documents.insert(path.trim_start_matches(DOCUMENTS).to_owned(), text(folder, path)?);
        }
        if documents.is_empty() {
            return Err(bad(folder, &format!("it has no {DOCUMENTS}")));
        }
        let catalogue = serde_json::from_str(&listed("catalogue.json")?)
            .map_err(|error| bad(folder, &format!("catalogue.json cannot be read: {error}")))?;
        let hash = sha256_hex(&serde_json::to_vec(&contents.files).unwrap_or_default());
        Ok(Self {
            folder: folder.to_owned(),
            id: format!("{}-{}", contents.version, hash.get(..12).unwrap_or_default()),
            architecture: contents.architecture(),
            version: contents.version,
            files: contents.files,
            templates,
            documents,
            catalogue,
        })
    }

    /// Refuses settings for another processor, on which no function of this release would start.
    pub(crate) fn suits(&self, architecture: Architecture) -> Result<(), Problem> {
        let (folder, wanted) = (self.folder.display(), architecture.as_str());
        match self.architecture {
            Some(own) if own == architecture => Ok(()),
            Some(own) => {
                let own = own.as_str();
                Err(Problem::refused(format!(
                    "the functions of `{folder}` are for {own}, and the settings say {wanted}: none would start"
                ))
                .help(format!(
                    "write `architecture = \"{own}\"` into the settings, or make a release for {wanted}: `cargo xtask \
                     package --target {}-unknown-linux-gnu`; nothing was changed",
                    architecture.machine()
                )))
            }
            None => Err(Problem::refused(format!(
                "`{folder}` does not say for which processor its functions are, and the settings say {wanted}"
            ))
            .help("make the release again: `cargo xtask package` writes it down; nothing was changed")),
        }
    }

    /// A template, and what it nests.
    pub(crate) fn whole<'a>(&'a self, file: &'a str) -> impl Iterator<Item = &'a Source> {
        let nests = move |name: &str| file == ADMINISTRATOR && name.starts_with(NESTED) && name != ADMINISTRATOR;
        self.templates.iter().filter(move |(name, _)| *name == file || nests(name)).map(|(_, source)| source)
    }

    /// The function packages: path in the folder.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str).filter(|path| path.starts_with("functions/"))
    }

    /// A file's bytes.
    pub(crate) fn bytes(&self, path: &str) -> Result<Vec<u8>, Problem> {
        bytes(&self.folder, path)
    }
}

/// The processor of the functions in a folder, when there is a release that says it. The files are not looked at.
pub(crate) fn architecture(folder: &Path) -> Option<Architecture> {
    let list = std::fs::read(folder.join("release.json")).ok()?;
    serde_json::from_slice::<Contents>(&list).ok()?.architecture()
}

/// That every file is what both lists say, and that there is no other.
fn verify(folder: &Path, contents: &Contents) -> Result<(), Problem> {
    let sums = text(folder, "SHA256SUMS")?;
    let mut told = BTreeMap::new();
    for line in sums.lines().filter(|line| !line.trim().is_empty()) {
        let (hash, path) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        told.insert(path.trim_start().trim_start_matches('*').trim_start_matches("./"), hash);
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found)?;
    for (path, expected) in contents
        .files
        .iter()
        .map(|(path, hash)| (path.as_str(), hash.as_str()))
        .chain(told.iter().map(|(path, hash)| (*path, *hash)))
    {
        if path.split('/').any(|part| part == "..") || path.starts_with('/') {
            return Err(bad(folder, &format!("{path} is not in it")));
        }
        if sha256_hex(&bytes(folder, path)?) != expected.to_ascii_lowercase() {
            return Err(bad(folder, &format!("{path} is not the file that was released: its SHA-256 differs")));
        }
    }
    if let Some(path) = contents.files.keys().find(|path| !told.contains_key(path.as_str())) {
        return Err(bad(folder, &format!("SHA256SUMS does not list {path}")));
    }
    let known = |path: &String| {
        LISTS.contains(&path.as_str()) || contents.files.contains_key(path) || told.contains_key(path.as_str())
    };
    match found.iter().find(|path| !known(path)) {
        Some(path) => Err(bad(folder, &format!("{path} is in no list"))),
        None => Ok(()),
    }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), Problem> {
    let failed = |error: std::io::Error| bad(root, &format!("{}: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            walk(root, &path, found)?;
        } else if let Ok(inside) = path.strip_prefix(root) {
            found.push(inside.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

fn bytes(folder: &Path, path: &str) -> Result<Vec<u8>, Problem> {
    std::fs::read(folder.join(path)).map_err(|error| bad(folder, &format!("{path}: {error}")))
}

fn text(folder: &Path, path: &str) -> Result<String, Problem> {
    String::from_utf8(bytes(folder, path)?).map_err(|_| bad(folder, &format!("{path} is no text")))
}

fn bad(folder: &Path, what: &str) -> Problem {
    Problem::failed(format!("`{}` is no whole release: {what}", folder.display()))
        .help("download or make it again (`cargo xtask package`); nothing was changed")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;

    /// The repository's own templates as a release, with small files for packages.
    pub(crate) fn release(version: &str) -> (tempfile::TempDir, Release) {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        redress_lab::release::write(root, folder.path(), version).unwrap();
        let release = Release::read(folder.path()).unwrap();
        (folder, release)
    }

    #[test]
    fn what_was_released_is_read_and_its_id_is_of_its_files() {
        let (folder, one) = release("0.1.0");
        assert_eq!(one.version, "0.1.0");
        assert!(one.packages().count() >= 8 && one.documents.len() > 10 && !one.catalogue.0.is_empty());
        assert_eq!(Release::read(folder.path()).unwrap().id, one.id);
        assert_ne!(release("0.1.1").1.id, one.id);
    }

    #[test]
    fn a_release_says_its_processor_in_so_many_words_or_by_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let said = |more: &str| {
            let text = format!(r#"{{ "version": "0.1.0", "files": {{}}{more} }}"#);
            std::fs::write(folder.path().join("release.json"), text).unwrap();
            architecture(folder.path())
        };
        assert_eq!(
            said(r#", "architecture": "arm64", "target": "aarch64-unknown-linux-gnu""#),
            Some(Architecture::Arm64)
        );
        assert_eq!(said(r#", "target": "aarch64-unknown-linux-gnu""#), Some(Architecture::Arm64));
        assert_eq!(said(r#", "target": "x86_64-unknown-linux-musl""#), Some(Architecture::X86));
        assert_eq!(said(r#", "target": "riscv64gc-unknown-linux-gnu""#), None);
        assert_eq!(said(""), None);
        assert_eq!(architecture(&folder.path().join("nothing")), None);
    }

    #[test]
    fn settings_for_another_processor_are_refused_with_what_to_do() {
        let (_folder, mut release) = release("0.1.0");
        let (machine, other) = match std::env::consts::ARCH {
            "aarch64" => (Architecture::Arm64, Architecture::X86),
            _ => (Architecture::X86, Architecture::Arm64),
        };
        assert_eq!(release.architecture, Some(machine), "the lab's functions are this machine's");
        release.suits(machine).unwrap();
        let refused = release.suits(other).unwrap_err();
        assert_eq!(refused.exit(), crate::problem::Exit::Refused);
        let said = refused.plain();
        assert!(said.contains(&format!("architecture = \"{}\"", machine.as_str())), "{said}");
        assert!(said.contains(&format!("--target {}-unknown-linux-gnu", other.machine())), "{said}");
        release.architecture = None;
        assert!(release.suits(machine).unwrap_err().plain().contains("does not say for which processor"));
    }

    #[test]
    fn a_changed_missing_or_added_file_is_refused_by_name() {
        let (folder, _) = release("0.1.0");
        let catalogue = folder.path().join("catalogue.json");
        let text = std::fs::read_to_string(&catalogue).unwrap();
        let said = || Release::read(folder.path()).unwrap_err().plain();
        std::fs::write(&catalogue, format!("{text} ")).unwrap();
        assert!(said().contains("catalogue.json is not the file that was released"), "{}", said());
        std::fs::remove_file(&catalogue).unwrap();
        assert!(said().contains("catalogue.json"), "{}", said());
        std::fs::write(&catalogue, text).unwrap();
        std::fs::write(folder.path().join("functions/extra.zip"), "x").unwrap();
        assert!(said().contains("functions/extra.zip is in no list"), "{}", said());
        std::fs::remove_file(folder.path().join("functions/extra.zip")).unwrap();
        let sums = folder.path().join("SHA256SUMS");
        let lines = std::fs::read_to_string(&sums).unwrap();
        std::fs::write(&sums, lines.replacen("catalogue.json", "../catalogue.json", 1)).unwrap();
        assert!(said().contains("is not in it"), "{}", said());
    }
}
