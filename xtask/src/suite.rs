//! The workspace's test binaries, run side by side: an end-to-end test waits for its lab far more than it computes.
//!
//! What cargo would do with them one after the other: each in its package's folder, its output kept together.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::tools::linting;

/// Begun first, the longest before the others: the last one should not run alone.
const LONG: [&str; 7] = ["catalogue", "rollout", "reconcile", "workflow", "controls", "approvals", "contain"];
/// Begun last: they play cases while there is time ([`UNTIL`]), and side by side.
const WALKS: [&str; 4] = ["least_privilege", "faults", "struck_reconciler", "races"];

/// A test binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Package and target: `redress-tests faults`.
    pub(crate) name: String,
    path: PathBuf,
    /// The package's folder.
    folder: PathBuf,
    /// After when its walks begin no case that can be left out; none plays all.
    until: Option<SystemTime>,
}

/// The variable that tells the end-to-end tests so, in Unix seconds.
const UNTIL: &str = "REDRESS_UNTIL";

/// A test binary that has run.
pub(crate) struct Ran {
    pub(crate) binary: Binary,
    pub(crate) took: Duration,
    /// Everything that it said.
    pub(crate) output: String,
    /// How it ended; why it could not be run.
    pub(crate) ended: Result<ExitStatus, String>,
}

/// Builds them: all that `cargo test` would run.
pub(crate) fn build(until: Option<SystemTime>) -> Result<Vec<Binary>, String> {
    let mut build = linting(["test", "--workspace", "--no-run", "--quiet", "--message-format=json-render-diagnostics"]);
    let output = build.stderr(Stdio::inherit()).output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the tests could not be built: cargo ended with {}", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut binaries: Vec<Binary> = said.lines().filter_map(binary).map(|one| Binary { until, ..one }).collect();
    binaries.sort_by_key(|binary| (binary.rank(), binary.name.clone()));
    Ok(binaries)
}

impl Binary {
    /// The lower, the earlier it is begun.
    fn rank(&self) -> usize {
        let target = self.name.split(' ').nth(1).unwrap_or_default();
        let among = |names: &[&str]| names.iter().position(|name| *name == target);
        // The lab has a `faults` of its own, which is short.
        let walk = among(&WALKS).filter(|_| self.name.starts_with("tests "));
        walk.map_or_else(|| among(&LONG).unwrap_or(LONG.len()), |walk| LONG.len() + 1 + walk)
    }
}

/// The test binary that a line of cargo's is about.
fn binary(line: &str) -> Option<Binary> {
    let said: Value = serde_json::from_str(line).ok()?;
    let is_test = said["reason"] == "compiler-artifact" && said["profile"]["test"] == true;
    let path = said["executable"].as_str().filter(|_| is_test)?;
    let folder = Path::new(said["manifest_path"].as_str()?).parent()?.to_owned();
    let package = folder.file_name()?.to_str()?;
    let name = format!("{package} {}", said["target"]["name"].as_str()?);
    Some(Binary { name, path: PathBuf::from(path), folder, until: None })
}

/// Runs them, so many at a time; each is handed over when it has ended.
pub(crate) fn run(binaries: Vec<Binary>, filter: Option<&str>, at_a_time: usize, mut ended: impl FnMut(Ran)) {
    let (queue, (tell, told)) = (Mutex::new(VecDeque::from(binaries)), mpsc::channel());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.max(1) {
            let (queue, tell) = (&queue, tell.clone());
            scope.spawn(move || {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(binary) = next else { return };
                    let filter: Vec<&str> = filter.into_iter().collect();
                    if tell.send(binary.run(&filter)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for ran in told {
            ended(ran);
        }
    });
}

impl Ran {
    /// The names of the tests that failed. They are said twice: as each ended, where what a function says may come between a
    /// name and its outcome, and in a list at the end.
    pub(crate) fn failed(&self) -> BTreeSet<String> {
        // A harness may fill names up to the length of the longest.
        let name = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix("... FAILED")?.trim_end().to_owned());
        let listed = self.output.rsplit_once("\nfailures:\n").map_or("", |(_, list)| list);
        let listed = listed.lines().map_while(|line| line.strip_prefix("    "));
        self.output.lines().filter_map(name).chain(listed.map(|name| name.trim().to_owned())).collect()
    }
}

impl Binary {
    /// Runs one of its tests, and nothing else.
    pub(crate) fn run_test(&self, name: &str) -> Ran {
        self.run(&["--exact", name])
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let begun = Instant::now();
        let log = self.path.with_extension("log");
        let ended = self.run_into(&log, arguments);
        let mut output = String::new();
        let read = File::open(&log).and_then(|mut file| {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            output = String::from_utf8_lossy(&bytes).into_owned();
            Ok(())
        });
        let ended = ended.and_then(|status| match read {
            Ok(()) => Ok(status),
            Err(error) => Err(format!("what {} said cannot be read: {error}", self.name)),
        });
        Ran { binary: self.clone(), took: begun.elapsed(), output, ended }
    }

    fn run_into(&self, log: &Path, arguments: &[&str]) -> Result<ExitStatus, String> {
        let failed = |error: std::io::Error| format!("{} cannot be run: {error}", self.name);
        let file = File::create(log).map_err(failed)?;
        let errors = file.try_clone().map_err(failed)?;
        let mut command = Command::new(&self.path);
        if let Some(until) = self.until.and_then(|until| until.duration_since(UNIX_EPOCH).ok()) {
            command.env(UNTIL, until.as_secs().to_string());
        }
        command.args(arguments).current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.stdin(Stdio::null()).stdout(file).stderr(errors).status().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_is_told_from_everything_else_that_cargo_makes() {
        let made = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","profile":{{"test":{test}}},
                    "target":{{"name":"faults"}},"executable":{executable}}}"#
            )
        };
        let found = binary(&made(true, r#""/r/target/debug/deps/faults-1""#));
        assert_eq!(
            found,
            Some(Binary {
                name: "tests faults".to_owned(),
                path: "/r/target/debug/deps/faults-1".into(),
                folder: "/r/tests".into(),
                until: None,
            })
        );
        assert_eq!(binary(&made(false, r#""/r/target/debug/redress""#)), None);
        assert_eq!(binary(&made(true, "null")), None);
        assert_eq!(binary("not JSON"), None);
    }

    #[test]
    fn what_takes_long_is_begun_first_and_what_fills_the_time_last() {
        let named =
            |name: &str| Binary { name: name.to_owned(), path: PathBuf::new(), folder: PathBuf::new(), until: None };
        let mut names =
            ["tests faults", "lab faults", "tests races", "tests rollout", "tests catalogue", "admin model"];
        names.sort_by_key(|name| named(name).rank());
        let order = ["tests catalogue", "tests rollout", "lab faults", "admin model", "tests faults", "tests races"];
        assert_eq!(names, order);
    }

    #[test]
    fn each_binary_is_run_once_with_its_output_and_its_end() {
        let folder = std::env::temp_dir().join(format!("redress-suite-{}", std::process::id()));
        let made = std::fs::create_dir_all(&folder);
        assert!(made.is_ok());
        let shell = |name: &str, path: &str| Binary {
            name: name.to_owned(),
            path: PathBuf::from(path),
            folder: folder.clone(),
            until: None,
        };
        // A copy in a folder of ours: the log lies beside it.
        let echo = folder.join("echo");
        assert!(std::fs::copy("/bin/echo", &echo).is_ok());
        let binaries = vec![shell("a echo", &echo.to_string_lossy()), shell("b none", "/no/such/binary")];
        let mut ran = Vec::new();
        run(binaries, Some("hello"), 2, |one| ran.push(one));
        ran.sort_by_key(|one| one.binary.name.clone());
        assert_eq!((ran.len(), ran[0].output.as_str()), (2, "hello\n"));
        assert!(ran[0].ended.as_ref().is_ok_and(ExitStatus::success));
        assert!(ran[1].ended.as_ref().is_err_and(|error| error.starts_with("b none cannot be run")));
        assert!(std::fs::remove_dir_all(folder).is_ok());
    }

    #[test]
    fn what_failed_is_known_by_name() {
        let binary =
            Binary { name: "tests faults".to_owned(), path: PathBuf::new(), folder: PathBuf::new(), until: None };
        let output = "test a::b ... ok\ntest c::d ... FAILED\nthread 'c::d' panicked\ntest e ... ignored\n\
            test S3.8    ... FAILED\ntest f ... a function says\nFAILED\n\nfailures:\n\n---- c::d stdout ----\n\n\
            failures:\n    c::d\n    f\n\ntest result: FAILED. 1 passed; 3 failed\n"
            .to_owned();
        let ran = Ran { binary, took: Duration::ZERO, output, ended: Err(String::new()) };
        assert_eq!(Vec::from_iter(ran.failed()), ["S3.8", "c::d", "f"]);
    }
}
