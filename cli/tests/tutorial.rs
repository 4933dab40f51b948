//! The tutorial of docs/controls.md, done as it says: begin, fill in, check. That such a control then works in the lab is what
//! the catalogue's tests play with every case, and `redress lab try` with one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The YAML blocks of the tutorial, each with the file that it begins with.
fn files(tutorial: &str) -> Vec<(String, String)> {
    let blocks = tutorial.split("```yaml\n# ").skip(1);
    let file = |block: &str| {
        let (body, _) = block.split_once("```").unwrap();
        let (name, content) = body.split_once('\n').unwrap();
        (name.to_owned(), content.to_owned())
    };
    blocks.map(file).collect()
}

fn redress(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_redress")).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn the_tutorial_gives_a_control_that_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for inner in ["ssm-documents/controls", "lab/cases"] {
        std::fs::create_dir_all(folder.path().join(inner)).unwrap();
    }
    let tutorial = std::fs::read_to_string(repository().join("docs/controls.md")).unwrap();
    let begun = redress(&["controls", "new", "Kinesis.100"], folder.path());
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));

    let files = files(&tutorial);
    assert_eq!(files.len(), 2, "the control and its case");
    for (name, content) in &files {
        let file = folder.path().join(name);
        assert!(file.is_file(), "`controls new` wrote {name}");
        std::fs::write(file, content).unwrap();
    }
    let checked = redress(&["controls", "check", "ssm-documents/controls/Kinesis.100.yaml"], folder.path());
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for part in ["Kinesis.100", "kinesis:IncreaseStreamRetentionPeriod", "kinesis:DecreaseStreamRetentionPeriod"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn every_command_of_the_tutorial_is_one() {
    let tutorial = std::fs::read_to_string(repository().join("docs/controls.md")).unwrap();
    let lines = tutorial.lines().filter_map(|line| line.strip_prefix("redress "));
    let commands: Vec<Vec<&str>> =
        lines.map(|line| line.split('#').next().unwrap().split_whitespace().collect()).collect();
    assert!(commands.len() >= 3);
    for command in commands {
        let verbs: Vec<&str> = command.iter().copied().take(2).chain(["--help"]).collect();
        assert!(redress(&verbs, &repository()).status.success(), "{command:?}");
    }
}
