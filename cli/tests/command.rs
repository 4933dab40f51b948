//! What a script sees of `redress`: exit codes, and the two streams.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// The command in an empty folder without an AWS configuration.
fn redress(arguments: &[&str]) -> Output {
    let home = std::env::temp_dir().join("redress-command-test");
    std::fs::create_dir_all(&home).unwrap();
    Command::new(env!("CARGO_BIN_EXE_redress"))
        .args(arguments)
        .current_dir(&home)
        .env_clear()
        .env("HOME", &home)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const ID: &str = "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968";
/// Nothing listens on port 1.
const NOBODY: [&str; 4] = ["--endpoint-url", "http://127.0.0.1:1", "--region", "eu-central-1"];

#[test]
fn what_is_not_understood_ends_with_2() {
    for wrong in [&["frobnicate"][..], &["why"], &["why", "42"], &["undo", ID, "--timeout", "5"], &[]] {
        assert_eq!(code(&redress(wrong)), 2, "{wrong:?}");
    }
}

#[test]
fn what_is_done_ends_with_0_and_says_nothing_on_standard_error() {
    for right in
        [&["--help"][..], &["--version"], &["controls", "list"], &["completion", "zsh"], &["lab", "up", "--help"]]
    {
        let output = redress(right);
        assert_eq!(code(&output), 0, "{right:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{right:?}");
    }
}

#[test]
fn an_unknown_control_ends_with_4() {
    assert_eq!(code(&redress(&["controls", "show", "No.1"])), 4);
}

#[test]
fn aws_commands_without_a_region_say_what_to_do() {
    let output = redress(&["why", ID]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("help: give --region"), "{}", text(&output.stderr));
}

#[test]
fn a_lab_that_runs_is_never_used_unasked() {
    // The same binary, in the repository: even beside `.lab/lab.json`, AWS's own configuration is what counts.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_redress"))
        .args(["why", ID])
        .current_dir(root)
        .env_clear()
        .env("HOME", std::env::temp_dir())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("no Region is chosen"), "{}", text(&output.stderr));
}

#[test]
fn a_game_day_is_played_in_a_lab_on_this_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_redress"))
            .args(["gameday", "start", "silent-account"])
            .current_dir(&folder)
            .env_clear()
            .output()
            .unwrap()
    };
    // A repository's root: nothing outside of it is taken for a lab.
    std::fs::create_dir_all(folder.path().join("stacksets")).unwrap();
    std::fs::write(folder.path().join("stacksets/administrator-stack.yaml"), "").unwrap();
    let output = start();
    assert_eq!(code(&output), 4, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("redress lab up"), "{}", text(&output.stderr));

    let lab = r#"{ "Endpoint": "https://sts.amazonaws.com", "Control": "http://127.0.0.1:1", "Token": "t", "Region": "us-east-1",
        "Administrator": "111111111111", "Members": ["222222222222"], "ExternalId": "0123456789abcdef" }"#;
    std::fs::create_dir_all(folder.path().join(".lab")).unwrap();
    std::fs::write(folder.path().join(".lab/lab.json"), lab).unwrap();
    let output = start();
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("redress lab up"), "{}", text(&output.stderr));
}

#[test]
fn errors_are_json_for_programs() {
    let output = redress(&["controls", "show", "No.1", "--json"]);
    assert!(output.stdout.is_empty());
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["ExitCode"], 4);
    assert_eq!(error["Help"], "`redress controls list` shows all");
}

#[test]
fn answers_are_one_json_document_for_programs() {
    let output = redress(&["controls", "show", "S3.8", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["Control"], "S3.8");
}

#[test]
fn an_endpoint_that_does_not_answer_is_a_failure_that_names_the_call() {
    let output = Command::new(env!("CARGO_BIN_EXE_redress"))
        .args(NOBODY)
        .args(["audit", "show", ID])
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .output()
        .unwrap();
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("dynamodb:Query"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("help:"), "{}", text(&output.stderr));
}
