//! `redress audit export`: an account's chain and its checkpoints as a folder, and the folder read again.
//!
//! Nothing of another account is written: of each checkpoint the statement, the signature, and this account's head with
//! its proof. The folder is checked without AWS, so nothing in it is trusted when it is read.

use std::path::Path;

use jiff::Timestamp;
use redress_common::checkpoint::Extract;
use redress_common::ids::AccountId;
use redress_common::ledger::{Head, Record};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bucket::{self, Found};
use super::key::pem;
use super::verify::{self, Material, Seen};
use crate::aws::Connection;
use crate::output::{Answer, Output, Style};
use crate::problem::Problem;

const RECORDS: &str = "records.jsonl";
const HEAD: &str = "head.json";
const CHECKPOINTS: &str = "checkpoints.jsonl";
const PUBLIC_KEY: &str = "public-key.pem";
const README: &str = "README.txt";
const TO_READ: &str = "\
Check it: redress audit verify --from THIS-FOLDER --public-key KEY.pem (add --cloudtrail FOLDER for completeness); no AWS account is needed.
Take KEY.pem from somewhere that you trust: public-key.pem is here for convenience, and whoever could change this folder could change it, too.
";

/// Where the chain ended when it was exported.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct End {
    account_id: AccountId,
    #[serde(flatten)]
    head: Head,
    /// When the chain was read.
    taken: Timestamp,
}

/// What was exported.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    folder: String,
    account_id: AccountId,
    records: usize,
    checkpoints: usize,
    /// Why there are no checkpoints, or no key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

pub(super) async fn run(
    account: &AccountId,
    to: &Path,
    since: Option<Timestamp>,
    connection: &Connection,
    output: Output,
) -> Result<Answer, Problem> {
    // Before anything is read: that may take minutes.
    prepare(to)?;
    output.progress(&format!("reading the chain of account {account} and its checkpoints …"));
    let material = verify::connected(account, since, connection, output).await?;
    let key = match &material.checkpoints {
        Err(why) => Err(why.clone()),
        Ok(_) => bucket::public_key(connection).await?,
    };
    let exported = write(to, &material, key)?;
    let text = exported.render(output.style());
    Answer::new(&exported, text)
}

/// Makes the folder, which may be there when it is empty. Nobody else on this machine reads it.
fn prepare(folder: &Path) -> Result<(), Problem> {
    let failed = |error: &dyn std::error::Error| Problem::aws(&format!("write into {}", folder.display()), error);
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| failed(&error))?;
    match std::fs::read_dir(folder).map_err(|error| failed(&error))?.next() {
        None => Ok(()),
        Some(_) => Err(Problem::failed(format!("{} is not empty", folder.display()))
            .help("name a new folder: what lies in it would be taken for a part of the export")),
    }
}

fn write(folder: &Path, material: &Material, key: Result<Vec<u8>, String>) -> Result<Exported, Problem> {
    let seen = material.checkpoints.iter().flat_map(|found| &found.seen);
    let mut checkpoints: Vec<&Extract> = seen.map(|one| &one.extract).collect();
    checkpoints.sort_by_key(|extract| (extract.statement.number, extract.statement.at));
    let strange = material.checkpoints.iter().flat_map(|found| &found.strange).cloned();
    let mut missing: Vec<String> = strange.collect();
    let end = End { account_id: material.account.clone(), head: material.head.clone(), taken: material.taken };
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| Problem::aws(&format!("write {}", path.display()), &error))
    };
    put(RECORDS, lines(&material.records)?)?;
    put(HEAD, lines(&[end])?)?;
    put(CHECKPOINTS, lines(&checkpoints)?)?;
    match key {
        Ok(der) => put(PUBLIC_KEY, pem(&der))?,
        Err(why) => missing.push(why),
    }
    put(README, TO_READ.to_owned())?;
    Ok(Exported {
        folder: folder.display().to_string(),
        account_id: material.account.clone(),
        records: material.records.len(),
        checkpoints: checkpoints.len(),
        missing,
    })
}

/// Values as JSON, one a line.
fn lines<T: Serialize>(values: &[T]) -> Result<String, Problem> {
    let line = |value: &T| serde_json::to_string(value).map(|line| format!("{line}\n"));
    let lines: Result<String, serde_json::Error> = values.iter().map(line).collect();
    lines.map_err(|error| Problem::aws("write the export as JSON", &error))
}

/// What a folder says. Whether any of it is true is for [`verify`] to say.
pub(super) fn read(folder: &Path) -> Result<Material, Problem> {
    let ends: Vec<End> = values(&folder.join(HEAD))?;
    let Some(End { account_id: account, head, taken }) = ends.into_iter().next() else {
        return Err(Problem::failed(format!("{} is empty", folder.join(HEAD).display())));
    };
    let records: Vec<Record> = values(&folder.join(RECORDS))?;
    if let Some(foreign) = records.iter().find(|record| record.origin != account) {
        return Err(Problem::failed(format!("{RECORDS} is of account {}, {HEAD} of {account}", foreign.origin)));
    }
    let extracts: Vec<Extract> = values(&folder.join(CHECKPOINTS))?;
    let seen = extracts.into_iter().map(Seen::exported).collect();
    Ok(Material { account, records, head, taken, checkpoints: Ok(Found { seen, strange: Vec::new() }) })
}

/// The values of a file, one a line.
fn values<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Problem> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Problem::aws(&format!("read {shown}"), &error).help("is that a folder that `redress audit export` wrote?")
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let value = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Problem::aws(&format!("read line {} of {shown}", at + 1), &error))
    };
    lines.map(value).collect()
}

impl Exported {
    fn render(&self, style: Style) -> String {
        let mut text = style.fields(&[
            ("Account", self.account_id.to_string()),
            ("Records", self.records.to_string()),
            ("Checkpoints", self.checkpoints.to_string()),
            ("Folder", self.folder.clone()),
            ("Missing", self.missing.join("; ")),
        ]);
        let folder = &self.folder;
        text.push_str(&format!(
            "check it with: redress audit verify --from {folder} --public-key KEY.pem\n\
             with KEY.pem from somewhere that the checker trusts, not from this folder\n"
        ));
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use redress_common::checkpoint::Checkpoint;

    use super::*;
    use crate::audit::verify::tests::material;
    use crate::fixture;

    fn checkpoints() -> Vec<Checkpoint> {
        fixture::checkpoints(&fixture::verified(), &[2, 3])
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let material = material(&fixture::verified(), &checkpoints());
        let exported = write(folder.path(), &material, Ok(vec![1, 2, 3])).unwrap();
        assert_eq!((exported.records, exported.checkpoints, &exported.missing[..]), (3, 2, &[][..]));
        let read = read(folder.path()).unwrap();
        assert_eq!((&read.account, &read.records, &read.head), (&material.account, &material.records, &material.head));
        assert_eq!(read.taken, material.taken);
        let extracts = |material: &Material| -> Vec<Extract> {
            material.checkpoints.as_ref().unwrap().seen.iter().map(|seen| seen.extract.clone()).collect()
        };
        assert_eq!(extracts(&read), extracts(&material));
        let mut names: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [README, CHECKPOINTS, HEAD, PUBLIC_KEY, RECORDS]);
        assert_eq!(TO_READ.lines().count(), 2);
    }

    #[test]
    fn nothing_of_another_account_is_written() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &material(&fixture::verified(), &checkpoints()), Ok(vec![1])).unwrap();
        for entry in folder.path().read_dir().unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains("333333333333"), "{text}");
        }
        // The whole checkpoint does name it.
        assert!(serde_json::to_string(&checkpoints()).unwrap().contains("333333333333"));
    }

    #[test]
    fn a_folder_that_is_not_empty_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        prepare(&below).unwrap();
        prepare(&below).unwrap();
        std::fs::write(below.join("x"), "").unwrap();
        assert!(prepare(&below).unwrap_err().plain().contains("is not empty"));
    }

    #[test]
    fn an_older_installation_is_exported_without_checkpoints_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut material = material(&fixture::verified(), &[]);
        material.checkpoints = Err("no checkpoints: update the administrator stack".to_owned());
        let key = Err("no checkpoints: update the administrator stack".to_owned());
        let exported = write(folder.path(), &material, key).unwrap();
        assert!(exported.render(Style::PLAIN).contains("Missing      no checkpoints: update the administrator stack"));
        assert!(!folder.path().join(PUBLIC_KEY).exists());
        assert!(read(folder.path()).unwrap().checkpoints.unwrap().seen.is_empty());
    }

    #[test]
    fn a_folder_that_is_none_or_mixes_accounts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().plain().contains("redress audit export"));
        let mut other = material(&fixture::verified(), &[]);
        other.account = "333333333333".parse().unwrap();
        write(folder.path(), &other, Ok(vec![1])).unwrap();
        assert!(read(folder.path()).unwrap_err().plain().contains("is of account 222222222222"));
        std::fs::write(folder.path().join(RECORDS), "{}\n").unwrap();
        assert!(read(folder.path()).unwrap_err().plain().contains("line 1 of"));
    }
}
