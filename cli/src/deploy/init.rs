//! `redress deploy init`: asks what is not given, and writes the settings file. Calls AWS for nothing, and looks into
//! the release, when it is there, for its processor alone.

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use rand::RngExt as _;
use redress_common::aws::state_table::PolicySetName;

use super::release;
use super::settings::{LockMode, Permissions, PolicySet, Settings, a_year, checkpoint_days};
use crate::args::DeployInit;
use crate::output::{Answer, Output};
use crate::problem::Problem;

pub(crate) fn run(given: DeployInit, file: &Path, output: Output) -> Result<Answer, Problem> {
    if file.exists() && !given.overwrite {
        return Err(Problem::refused(format!("`{}` is there already", file.display()))
            .help("change it in an editor, name another with --settings, or replace it with --overwrite"));
    }
    let ask = Asker { yes: given.yes };
    let list =
        |text: String| text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let many = |flag: &str, question: &str, given: Vec<String>| -> Result<Vec<String>, Problem> {
        if given.is_empty() { ask.text(flag, question, None, Some("")).map(list) } else { Ok(given) }
    };
    let organization = ask.text("--organization", "The organisation's id (o-…)", given.organization, None)?;
    let administrator = parsed(
        "--administrator",
        &ask.text("--administrator", "The administrator account", given.administrator.map(String::from), None)?,
    )?;
    let home_region = parsed(
        "--home-region",
        &ask.text("--home-region", "The home Region", given.home_region.map(String::from), None)?,
    )?;
    let further = many(
        "--further-region",
        "Further Regions, separated by commas (none)",
        given.further_region.into_iter().map(String::from).collect(),
    )?;
    let units = many(
        "--target-unit",
        "The units whose accounts get Redress, separated by commas (ou-… or r-…)",
        given.target_unit,
    )?;
    let pilot = ask.text("--pilot-unit", "The unit that goes first (none)", given.pilot_unit, Some(""))?;
    let release =
        ask.text("--release", "The release folder", given.release.map(|path| path.display().to_string()), None)?;
    // As the settings are read: beside the file, or a whole path.
    let found = release::architecture(&file.parent().unwrap_or(Path::new("")).join(&release));
    let architecture = given.architecture.map(crate::args::Processor::architecture).or(found).unwrap_or_default();
    let email = ask.text("--notify-email", "Who is told by e-mail (nobody)", given.notify_email, Some(""))?;
    let prefix = match given.external_id_prefix {
        Some(prefix) => prefix,
        None => rand::rng().random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let roles = given.administration_role.is_some() || given.execution_role.is_some();
    let settings = Settings {
        organization,
        administrator,
        home_region,
        further_regions: further.iter().map(|region| parsed("--further-region", region)).collect::<Result<_, _>>()?,
        target_units: units.iter().map(|unit| parsed("--target-unit", unit)).collect::<Result<_, _>>()?,
        pilot_unit: some(pilot).map(|unit| parsed("--pilot-unit", &unit)).transpose()?,
        external_id_prefix: prefix.parse().map_err(|error| Problem::aws("use --external-id-prefix", &error))?,
        release: release.into(),
        architecture,
        policy_set: PolicySet(given.policy_set.map_or(PolicySetName::Observe, crate::args::PolicySet::name)),
        log_retention_days: given.log_retention_days,
        incident_lock_days: a_year(),
        incident_lock_mode: LockMode::default(),
        memory_capture_document: None,
        checkpoint_lock_days: checkpoint_days(),
        checkpoint_lock_mode: LockMode::default(),
        deletion_protection: !given.no_deletion_protection,
        notify_email: some(email),
        config_aggregator: given.config_aggregator,
        permissions_boundary: given.permissions_boundary,
        permissions: if roles { Permissions::SelfManaged } else { Permissions::ServiceManaged },
        administration_role: given.administration_role,
        execution_role: given.execution_role,
    };
    let text = settings.render();
    // What cannot be read back is not written.
    Settings::parse(&text, file)?;
    save(file, &text)?;
    if let Some(found) = found.filter(|found| *found != architecture) {
        output.progress(&format!(
            "the release is for {}, and the settings say {}: `redress deploy apply` will refuse that",
            found.as_str(),
            architecture.as_str()
        ));
    }
    output.progress("the file holds a secret, external_id_prefix; it is readable by you alone");
    let told = serde_json::json!({ "Settings": file, "Administrator": settings.administrator });
    Answer::new(&told, format!("wrote {}\nnext: redress deploy plan\n", file.display()))
}

/// Writes a file that its owner alone may read.
pub(crate) fn save(file: &Path, text: &str) -> Result<(), Problem> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |error: std::io::Error| Problem::failed(format!("cannot write `{}`: {error}", file.display()));
    // A file that is there keeps its mode, so a new one takes its place.
    let fresh = file.with_extension("toml.new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&fresh).and_then(|mut open| open.write_all(text.as_bytes())).map_err(failed)?;
    std::fs::rename(&fresh, file).map_err(failed)
}

fn parsed<T>(flag: &str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Problem::failed(format!("{flag}: {error}")))
}

struct Asker {
    yes: bool,
}

impl Asker {
    /// A flag's value, or a person's answer; nothing typed is `otherwise`.
    fn text(
        &self,
        flag: &str,
        question: &str,
        given: Option<String>,
        otherwise: Option<&str>,
    ) -> Result<String, Problem> {
        match (given, otherwise) {
            (Some(given), _) => return Ok(given),
            (None, Some(otherwise)) if self.yes => return Ok(otherwise.to_owned()),
            (None, None) if self.yes => {
                return Err(Problem::failed(format!("{flag} is not given")).help("without --yes it is asked for"));
            }
            _ => {}
        }
        loop {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{question}: ").and_then(|()| stderr.flush());
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            if read.map_err(|error| Problem::aws("read the answer", &error))? == 0 {
                return Err(Problem::failed(format!("there is no answer to: {question}")).help(format!("give {flag}")));
            }
            match (line.trim(), otherwise) {
                ("", Some(otherwise)) => return Ok(otherwise.to_owned()),
                ("", None) => {}
                (typed, _) => return Ok(typed.to_owned()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command, Deploy};
    use crate::deploy::settings::Architecture;

    fn init(folder: &Path, more: &[&str]) -> Result<Answer, Problem> {
        let all = [
            "redress",
            "--plain",
            "deploy",
            "init",
            "--yes",
            "--organization",
            "o-abcdefghij",
            "--administrator",
            "111111111111",
            "--home-region",
            "us-east-1",
            "--target-unit",
            "r-abcd",
            "--release",
            "release",
        ];
        let arguments = Arguments::parse_from(all.iter().chain(more));
        let output = Output::new(&arguments.global);
        let Command::Deploy(Deploy::Init(given)) = arguments.command else { unreachable!() };
        run(*given, &folder.join("redress.toml"), output)
    }

    #[test]
    fn the_file_is_readable_by_its_owner_alone_and_never_overwritten_by_chance() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), &[]).unwrap();
        let file = folder.path().join("redress.toml");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let first = Settings::read(&file).unwrap();
        assert_eq!(first.release, folder.path().join("release"), "beside the file");
        assert_eq!(first.external_id_prefix.reveal().len(), 32);
        assert!(init(folder.path(), &[]).unwrap_err().plain().contains("is there already"));
        init(folder.path(), &["--overwrite"]).unwrap();
        assert_ne!(Settings::read(&file).unwrap().external_id_prefix, first.external_id_prefix);
    }

    #[test]
    fn the_processor_is_the_releases_unless_somebody_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let written = |more: &[&str]| {
            init(folder.path(), &[&["--overwrite"][..], more].concat()).unwrap();
            Settings::read(&folder.path().join("redress.toml")).unwrap().architecture
        };
        assert_eq!(written(&[]), Architecture::Arm64, "there is no release yet");
        std::fs::create_dir(folder.path().join("release")).unwrap();
        let list = r#"{ "version": "0.1.0", "architecture": "x86_64", "files": {} }"#;
        std::fs::write(folder.path().join("release/release.json"), list).unwrap();
        assert_eq!(written(&[]), Architecture::X86);
        assert_eq!(written(&["--architecture", "arm64"]), Architecture::Arm64);
    }

    #[test]
    fn what_is_wrong_is_told_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        for (more, said) in [
            (&["--pilot-unit", "pilot"][..], "--pilot-unit"),
            (&["--external-id-prefix", "too-short"], "external-id-prefix"),
            (&["--execution-role", "Deploys"], "permissions"),
        ] {
            let problem = init(folder.path(), more).unwrap_err().plain();
            assert!(problem.contains(said) && !problem.contains("too-short"), "{problem}");
        }
        assert!(!folder.path().join("redress.toml").exists());
    }
}
