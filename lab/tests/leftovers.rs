//! However a lab ends, nothing that it started goes on.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redress_lab::{Lab, LabOptions};

const CHILD: &str = "REDRESS_LAB_TEST_CHILD";

async fn lab() -> Lab {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Lab::start(LabOptions::new(root)).await.unwrap()
}

/// How many processes were started from a lab's run directory.
fn processes(directory: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let command_line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
    all.map(command_line).filter(|line| String::from_utf8_lossy(line).contains(directory)).count()
}

fn assert_all_end(directory: &str) {
    let started = Instant::now();
    while processes(directory) > 0 {
        assert!(started.elapsed() < Duration::from_secs(5), "processes of {directory} go on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_lab_leaves_no_process_and_no_file() {
    let lab = lab().await;
    let directory = lab.directory().to_owned();
    assert_eq!(processes(directory.to_str().unwrap()), 2, "MiniStack and moto");
    lab.stop().await;
    assert_all_end(directory.to_str().unwrap());
    assert!(!directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_lab_leaves_no_process() {
    let lab = lab().await;
    let directory = lab.directory().to_owned();
    drop(lab);
    assert_all_end(directory.to_str().unwrap());
}

/// Runs itself as the process that is killed: nothing of the lab's own gets to run at its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_lab_leaves_no_process() {
    if std::env::var_os(CHILD).is_some() {
        let lab = lab().await;
        println!("lab in {}", lab.directory().display());
        tokio::time::sleep(Duration::from_secs(60)).await;
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_lab_leaves_no_process", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let directory = lines.find_map(|line| line.split_once("lab in ").map(|(_, directory)| directory.to_owned()));
    let directory = directory.expect("the child starts its lab");
    assert_eq!(processes(&directory), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_all_end(&directory);
}
