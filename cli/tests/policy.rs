//! `redress policy check` and `test`, from files alone: no account, no network.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn finding(name: &str) -> String {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../common/tests/fixtures");
    fixtures.join(name).to_str().unwrap().to_owned()
}

/// A file of this test's own.
fn file(name: &str, text: &str) -> String {
    let folder = std::env::temp_dir().join(format!("redress-policy-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn redress(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redress"));
    command.args(["policy"]).args(arguments).env_clear().env("HOME", std::env::temp_dir());
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    running.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one answer of `policy test --json`.
fn tested(arguments: &[&str]) -> Value {
    let output = redress(&[&["test"], arguments, &["--json"]].concat(), "");
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    answers.as_array().unwrap().first().unwrap().clone()
}

const FREEZE: &str = r#"@id("tell") permit (principal, action == Redress::Action::"Notify", resource);
@id("act") permit (principal, action == Redress::Action::"Act", resource);
@id("freeze") forbid (principal, action == Redress::Action::"Act", resource)
when { context.local.weekday == "FRI" && context.local.hour >= 16 };
@id("ask-in-production") permit (principal, action == Redress::Action::"Approve", resource)
when { resource in Redress::OrganizationalUnit::"ou-prod" };
"#;

#[test]
fn the_shipped_sets_are_valid() {
    for set in ["observe", "pilot", "standard"] {
        let output = redress(&["check", "--set", set], "");
        assert_eq!(code(&output), 0);
        assert!(out(&output).contains("is valid"));
    }
}

#[test]
fn what_is_wrong_is_shown_with_file_line_and_column() {
    let bad = "@id(\"a\")\npermit (principal, action, resource)\nwhen { resource.color == 1 };\npermit (principal, action, resource);\n";
    let name = file("bad.cedar", bad);
    let output = redress(&["check", &name], "");
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains(&format!("{name}:3:8: attribute `color`")), "{}", out(&output));
    assert!(out(&output).contains(&format!("{name}:4:1: the policy has no `@id`")), "{}", out(&output));
    // The same before anything is sent anywhere.
    let output = redress(&["set", &name, "--reason", "CHG-1"], "");
    assert_eq!((code(&output), out(&output).contains(":3:8: ")), (1, true));
    let json: Value = serde_json::from_slice(&redress(&["check", "-", "--json"], bad).stdout).unwrap();
    assert_eq!((json["Valid"].as_bool(), json["Problems"][0]["Line"].as_u64()), (Some(false), Some(3)));
}

#[test]
fn a_set_that_is_not_given_or_given_twice_is_a_usage_error() {
    let asff = finding("asff-bucket.json");
    for wrong in [
        &["check"][..],
        &["check", "x.cedar", "--set", "observe"],
        &["test", &asff, "--set", "observe", "--file", "x.cedar"],
        &["test"],
        &["diff"],
    ] {
        assert_eq!(code(&redress(wrong, "")), 2, "{wrong:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = redress(&["check", "/no/such/file.cedar"], "");
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/file.cedar"));
}

#[test]
fn without_the_guards_answer_the_test_says_what_it_would_be() {
    let answer = tested(&[&finding("asff-bucket.json"), "--set", "standard"]);
    assert_eq!(answer["Verdict"]["Disposition"], "notify");
    assert_eq!(answer["Verdict"]["Missing"], serde_json::json!(["Ownership", "Critical"]));
    assert_eq!(answer["IfGuardFindsNothing"]["Disposition"], "act");
    let answer = tested(&[&finding("asff-bucket.json"), "--set", "standard", "--evidence", "nothing"]);
    assert_eq!(answer["Verdict"]["Policies"], serde_json::json!(["standard.act-on-reversible"]));
    assert_eq!(answer["PolicySetSha256"].as_str().unwrap().len(), 64);
}

#[test]
fn time_zone_account_and_evidence_are_what_the_command_line_says() {
    let set = file("freeze.cedar", FREEZE);
    let facts = file("facts.json", r#"{"Name":"shop","OuPath":["r-1","ou-prod","ou-web"]}"#);
    let asff = finding("asff-bucket.json");
    let disposition = |more: &[&str]| {
        let answer = tested(&[&[asff.as_str(), "--file", &set], more].concat());
        answer["Verdict"]["Disposition"].as_str().unwrap().to_owned()
    };
    let friday = ["--at", "2026-11-20T15:30:00Z", "--account-facts", &facts];
    assert_eq!(disposition(&friday), "act");
    assert_eq!(disposition(&[&friday[..], &["--time-zone", "Europe/Berlin"]].concat()), "approve");
    let other = file("other.json", r#"{"OuPath":["r-1","ou-test"]}"#);
    let elsewhere = ["--at", "2026-11-20T16:30:00Z", "--account-facts", &other];
    assert_eq!(disposition(&elsewhere), "notify");
    let output = redress(&["test", &asff, "--file", &set, "--time-zone", "Mars/Olympus"], "");
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Europe/Berlin"));
}

#[test]
fn events_and_findings_of_every_kind_are_understood() {
    for name in ["asff-bucket.json", "config-bucket.json", "action-remediate.json", "asff-account.json"] {
        let output = redress(&["test", &finding(name), "--set", "observe"], "");
        assert_eq!(code(&output), 0, "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let event: Value = serde_json::from_str(&std::fs::read_to_string(finding("asff-bucket.json")).unwrap()).unwrap();
    let one = event["detail"]["findings"][0].to_string();
    let several = serde_json::json!({ "Findings": event["detail"]["findings"] }).to_string();
    for input in [one, several] {
        let output = redress(&["test", "-", "--set", "observe"], &input);
        assert!(out(&output).starts_with("notify: S3.8 on "), "{output:?}");
    }
    for (input, says) in [("[]", "neither"), ("{}", "neither"), ("7", "neither"), ("nonsense", "as JSON")] {
        let output = redress(&["test", "-", "--set", "observe"], input);
        assert_eq!(code(&output), 1);
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{output:?}");
    }
}

#[test]
fn a_person_is_asked_about_what_a_rule_is_not() {
    let asff = finding("asff-bucket.json");
    let by = tested(&[&asff, "--set", "pilot", "--by", "arn:aws:iam::999999999999:user/jo"]);
    assert_eq!(by["Verdict"]["Disposition"], "act");
    let campaign = ["--set", "pilot", "--campaign", "old", "--pilot", "--evidence", "nothing"];
    let campaign = tested(&[&[asff.as_str()], &campaign[..]].concat());
    assert_eq!(
        (&campaign["Question"]["By"]["Schedule"], &campaign["Verdict"]["Disposition"]),
        (&"old".into(), &"act".into())
    );
}
