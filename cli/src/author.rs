//! Writing a control of one's own: the two files to begin with, and whether they are what they should be.
//!
//! Works on files alone: nothing here needs AWS, the lab or a deployed Redress.

use std::path::{Path, PathBuf};

use redress_common::ids::ControlId;
use redress_lab::case;
use redress_runbooks::compile_all;
use redress_runbooks::control::{self, Body};
use redress_runbooks::iam;
use serde::Serialize;

use crate::output::{Answer, Style};
use crate::problem::Problem;

/// What SSM takes at most, in bytes.
const MOST: usize = 64 * 1024;

/// One file that is what it should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sound {
    control: ControlId,
    file: PathBuf,
    /// Size of the runbook, in bytes; 0 for guidance, which has none.
    document_bytes: usize,
    iam_actions: Vec<String>,
    cases: Vec<String>,
}

/// Reads control files as the compiler does, and their cases as the lab does.
pub(crate) fn check(files: &[PathBuf], style: Style) -> Result<Answer, Problem> {
    let sound: Vec<Sound> = files.iter().map(|file| checked(file)).collect::<Result<_, _>>()?;
    let rows = sound.iter().map(|one| {
        let size = if one.document_bytes == 0 {
            "guidance".to_owned()
        } else {
            format!("{} of {} KB", one.document_bytes.div_ceil(1024), MOST / 1024)
        };
        let cases = if one.cases.is_empty() { "none yet".to_owned() } else { one.cases.join(", ") };
        [one.control.as_str().into(), size.into(), one.iam_actions.join(", ").into(), cases.into()]
    });
    let text = style.table(["Control", "Runbook", "IAM actions", "Cases"], rows);
    Answer::new(&sound, text)
}

fn checked(file: &Path) -> Result<Sound, Problem> {
    let text = read(file)?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let control = control::parse(&name, &text).map_err(|error| Problem::failed(error.to_string()))?;
    if name != format!("{}.yaml", control.id) {
        let problem = Problem::failed(format!("{name}: the file is not named after its control"));
        return Err(problem.help(format!("name it `{}.yaml`", control.id)));
    }
    let compiled =
        compile_all(std::slice::from_ref(&control)).map_err(|error| Problem::failed(format!("{name}: {error}")))?;
    let document = compiled.documents.get(&redress_common::names::control_document(&control.id));
    let document_bytes = document.map_or(0, |document| document.to_string().len());
    if document_bytes > MOST {
        let problem = Problem::failed(format!("{name}: its runbook has {document_bytes} bytes, and SSM takes {MOST}"));
        return Err(problem.help("make it `native`, or split it into two controls"));
    }
    let iam_actions = match control.body {
        Body::Guidance(_) => Vec::new(),
        Body::Api(_) | Body::Native(_) => iam::actions(&control).into_keys().collect(),
    };
    Ok(Sound {
        cases: cases(file, &control.id)?,
        control: control.id,
        file: file.to_owned(),
        document_bytes,
        iam_actions,
    })
}

/// The cases of a control file that lies in a repository: `lab/cases/<id>.yaml` and `<id>-<variant>.yaml`.
fn cases(file: &Path, control: &ControlId) -> Result<Vec<String>, Problem> {
    let root = std::path::absolute(file).ok().and_then(|file| file.ancestors().nth(3).map(Path::to_owned));
    let folder = root.unwrap_or_default().join("lab/cases");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".yaml") else { continue };
        if stem.strip_prefix(control.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            case::parse(stem, &read(&entry.path())?).map_err(|error| Problem::failed(error.to_string()))?;
            found.push(stem.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn read(file: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| {
        Problem::not_found(format!("cannot read `{}`: {error}", file.display()))
            .help("give the path of a control file, such as ssm-documents/controls/S3.8.yaml")
    })
}

const CONTROL: &str = include_str!("author/control.yaml");
const CASE: &str = include_str!("author/case.yaml");

/// Writes a control and its case, to be filled in. Nothing that is there is overwritten.
pub(crate) fn new(control: &ControlId, root: &Path) -> Result<Answer, Problem> {
    let folders = ["ssm-documents/controls", "lab/cases"].map(|folder| root.join(folder));
    if let Some(missing) = folders.iter().find(|folder| !folder.is_dir()) {
        let problem = Problem::not_found(format!("there is no folder `{}`", missing.display()));
        return Err(problem.help("run it in a clone of Redress, or name one with --root"));
    }
    let files = folders.map(|folder| folder.join(format!("{control}.yaml")));
    if let Some(there) = files.iter().find(|file| file.exists()) {
        let problem = Problem::failed(format!("`{}` is there already", there.display()));
        return Err(problem.help("choose another id, or edit that file"));
    }
    for (file, template) in files.iter().zip([CONTROL, CASE]) {
        let text = template.replace("Family.0", control.as_str());
        std::fs::write(file, text)
            .map_err(|error| Problem::failed(format!("cannot write `{}`: {error}", file.display())))?;
    }
    let [control_file, case_file] = files;
    let text = format!(
        "wrote {} and {}\nwhat follows:\n  redress controls check {}\n  cargo xtask generate\n  redress lab try {control}\n\
         docs/controls.md explains each field.\n",
        control_file.display(),
        case_file.display(),
        control_file.display()
    );
    Answer::new(&serde_json::json!({ "Control": control, "ControlFile": control_file, "CaseFile": case_file }), text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::problem::Exit;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    fn a_repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for inner in ["ssm-documents/controls", "lab/cases"] {
            std::fs::create_dir_all(folder.path().join(inner)).unwrap();
        }
        folder
    }

    #[test]
    fn what_new_writes_check_accepts_and_new_never_overwrites() {
        let folder = a_repository();
        let id: ControlId = "Kinesis.99".parse().unwrap();
        new(&id, folder.path()).unwrap();
        let file = folder.path().join("ssm-documents/controls/Kinesis.99.yaml");
        let answer = check(std::slice::from_ref(&file), Style::PLAIN).unwrap();
        assert!(answer.text().contains("Kinesis.99") && answer.text().contains("kinesis:"), "{}", answer.text());
        let again = new(&id, folder.path()).unwrap_err();
        assert!(again.to_string().contains("is there already"), "{again}");
    }

    #[test]
    fn a_wrong_file_is_answered_with_its_line_and_field() {
        let folder = a_repository();
        let text = std::fs::read_to_string(root().join("ssm-documents/controls/KMS.4.yaml")).unwrap();
        let file = folder.path().join("ssm-documents/controls/KMS.4.yaml");
        std::fs::write(&file, text.replace("KeyRotationEnabled: true", "KeyRotation: true")).unwrap();
        let problem = check(&[file], Style::PLAIN).unwrap_err();
        let text = problem.to_string();
        assert!(text.starts_with("KMS.4.yaml:") && text.contains("`compliant.KeyRotation` is not read"), "{text}");
    }

    #[test]
    fn every_control_of_the_repository_is_sound_with_its_cases() {
        let files: Vec<PathBuf> = std::fs::read_dir(root().join("ssm-documents/controls"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        check(&files, Style::PLAIN).unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_is_not_found() {
        assert_eq!(check(&["nowhere.yaml".into()], Style::PLAIN).unwrap_err().exit(), Exit::NotFound);
    }
}
