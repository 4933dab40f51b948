//! What a release is: the functions, the templates, the catalogue, and what lets somebody check that it is whole. Nothing in
//! it depends on when, where or by whom it was put together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::archive;
use super::crates::{Crate, Id};
use super::sbom::{self, Zips};
use crate::templates::templates_of;

/// What it is made of.
pub(super) struct Release<'a> {
    /// The repository.
    pub(super) root: &'a Path,
    /// The folder of the functions' binaries.
    pub(super) binaries: &'a Path,
    /// The functions, each with its package.
    pub(super) functions: &'a BTreeMap<String, String>,
    /// What is in them.
    pub(super) crates: &'a BTreeMap<Id, Crate>,
    pub(super) version: &'a str,
    /// The commit, with `-dirty` when there is more than that; nothing when it was not made from a repository.
    pub(super) git: Option<String>,
    /// The triple that the functions are built for.
    pub(super) target: String,
    /// The compiler's version.
    pub(super) rust: String,
    /// Its time, in seconds.
    pub(super) epoch: i64,
}

impl Release<'_> {
    /// Writes it, over what is there. For each function its name and the sizes of binary and zip.
    pub(super) fn write(&self, out: &Path) -> Result<Vec<(String, u64, u64)>, String> {
        let failed = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", out.display());
        if out.exists() {
            fs::remove_dir_all(out).map_err(|error| failed("remove", error))?;
        }
        for folder in ["functions", "templates/administrator", "templates/member-documents"] {
            fs::create_dir_all(out.join(folder)).map_err(|error| failed("make folders in", error))?;
        }
        let mut files = Files { out, sums: BTreeMap::new() };
        let mut sizes = Vec::new();
        let mut zips = Zips::new();
        for (function, package) in self.functions {
            let path = format!("functions/redress-{function}.zip");
            let (binary, zip) = archive::zip(&self.binaries.join(function), &out.join(&path))?;
            zips.insert(function.clone(), (package.clone(), files.sum(&path)?));
            sizes.push((format!("redress-{function}"), binary, zip));
        }
        for below in ["", "/administrator", "/member-documents"] {
            let (from, to) = (format!("stacksets{below}"), format!("templates{below}"));
            for template in templates_of(&self.root.join(&from))? {
                let name = template.file_name().unwrap_or_default().to_string_lossy();
                files.copy(&template, &format!("{to}/{name}"))?;
            }
        }
        files.copy(&self.root.join("ssm-documents/catalogue.json"), "catalogue.json")?;
        files.write("sbom.cdx.json", &sbom::bill(self.version, &self.rust, self.epoch, &zips, self.crates)?)?;
        let about = json!({
            "version": self.version, "git": self.git, "target": self.target,
            "architecture": architecture(&self.target)?, "files": files.sums,
        });
        files.write("release.json", &format!("{about:#}\n"))?;
        let sums: String = files.sums.iter().map(|(path, sum)| format!("{sum}  {path}\n")).collect();
        fs::write(out.join("SHA256SUMS"), sums).map_err(|error| failed("write into", error))?;
        Ok(sizes)
    }
}

/// What Lambda calls the processor of a target: `redress deploy` compares it with its settings.
pub(super) fn architecture(target: &str) -> Result<&'static str, String> {
    match target.split('-').next() {
        Some("aarch64") => Ok("arm64"),
        Some("x86_64") => Ok("x86_64"),
        _ => Err(format!("Lambda has no processor for {target}; it has aarch64 (arm64) and x86_64")),
    }
}

/// The files of a release, and what each hashes to.
struct Files<'a> {
    out: &'a Path,
    sums: BTreeMap<String, String>,
}

impl Files<'_> {
    fn copy(&mut self, from: &Path, path: &str) -> Result<(), String> {
        let text = fs::read_to_string(from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
        self.write(path, &text)
    }

    fn write(&mut self, path: &str, text: &str) -> Result<(), String> {
        let file = self.out.join(path);
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        self.sum(path).map(|_| ())
    }

    /// The hash of a file that is there.
    fn sum(&mut self, path: &str) -> Result<String, String> {
        let file = self.out.join(path);
        let bytes = fs::read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let sum = hex::encode(Sha256::digest(&bytes));
        self.sums.insert(path.to_owned(), sum.clone());
        Ok(sum)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tools;
    use serde_json::Value;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    /// A folder that is there for one test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("redress-{name}-{}", std::process::id()));
            fs::create_dir_all(folder.join("binaries")).unwrap();
            fs::write(folder.join("binaries/recorder"), b"not really a function").unwrap();
            fs::write(folder.join("binaries/api"), [7_u8; 100_000]).unwrap();
            Self(folder)
        }

        fn release(&self, name: &str) -> PathBuf {
            let functions = [("api", "redress-admin"), ("recorder", "redress-member")];
            let functions = functions.map(|(function, package)| (function.to_owned(), package.to_owned())).into();
            let crates = BTreeMap::from([(("redress-admin".to_owned(), "0.1.0".to_owned()), Crate::default())]);
            let out = self.0.join(name);
            let release = Release {
                root: &tools::root(),
                binaries: &self.0.join("binaries"),
                functions: &functions,
                crates: &crates,
                version: "0.1.0",
                git: Some("abc".to_owned()),
                target: "aarch64-unknown-linux-gnu".to_owned(),
                rust: "1.95.0".to_owned(),
                epoch: 1_767_225_600,
            };
            release.write(&out).unwrap();
            out
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Every file below a folder, with its bytes.
    fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(one) = folders.pop() {
            for entry in fs::read_dir(one).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn the_same_input_is_the_same_release_byte_by_byte() {
        let folder = Folder::new("release-same");
        let first = everything(&folder.release("first"));
        // What is about a file and not in it has no say.
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000_000);
        let binary = fs::File::options().write(true).open(folder.0.join("binaries/api")).unwrap();
        binary.set_modified(later).unwrap();
        assert!(first == everything(&folder.release("second")));
    }

    #[test]
    fn it_holds_what_is_deployed_and_anybody_can_check_that_it_is_whole() {
        let folder = Folder::new("release-whole");
        let out = folder.release("release");
        let files = everything(&out);
        for there in [
            "functions/redress-api.zip",
            "functions/redress-recorder.zip",
            "templates/administrator-stack.yaml",
            "templates/administrator/functions.yaml",
            "templates/member-stack.yaml",
            "templates/member-region.yaml",
            "templates/member-roles.yaml",
            "templates/member-documents/S3.yaml",
            "catalogue.json",
            "sbom.cdx.json",
        ] {
            assert!(files.contains_key(Path::new(there)), "{there}");
        }
        assert!(!files.keys().any(|path| path.to_string_lossy().contains("/.")), "hidden files are ours");
        let about: Value = serde_json::from_slice(&files[Path::new("release.json")]).unwrap();
        assert_eq!((&about["version"], &about["git"]), (&json!("0.1.0"), &json!("abc")));
        assert_eq!((&about["target"], &about["architecture"]), (&json!("aarch64-unknown-linux-gnu"), &json!("arm64")));
        let listed = about["files"].as_object().unwrap();
        // All but itself and the sums, which list it too.
        assert_eq!(listed.len() + 2, files.len());
        for (path, sum) in listed {
            assert_eq!(*sum, hex::encode(Sha256::digest(&files[Path::new(path)])), "{path}");
        }
        let check = || {
            let mut sums = Command::new("sha256sum");
            sums.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&out);
            sums.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        assert!(check());
        fs::write(out.join("templates/member-stack.yaml"), "another").unwrap();
        assert!(!check(), "a template that was changed is found");
    }

    #[test]
    fn a_target_has_the_name_that_lambda_gives_its_processor_or_none() {
        assert_eq!(architecture("aarch64-unknown-linux-gnu"), Ok("arm64"));
        assert_eq!(architecture("x86_64-unknown-linux-musl"), Ok("x86_64"));
        assert!(architecture("riscv64gc-unknown-linux-gnu").unwrap_err().contains("riscv64gc"));
    }

    #[test]
    fn what_an_older_release_left_behind_goes() {
        let folder = Folder::new("release-older");
        let out = folder.release("release");
        fs::write(out.join("functions/redress-gone.zip"), "x").unwrap();
        folder.release("release");
        assert!(!out.join("functions/redress-gone.zip").exists());
    }
}
