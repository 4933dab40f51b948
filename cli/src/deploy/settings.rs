//! `redress.toml`: what is deployed where, as one file that people read, change and keep.
//!
//! Parsed strictly: an unknown key, or a value that cannot be right, is an error that names line and key, and never
//! the value, for one of them is a secret.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use redress_common::aws::state_table::PolicySetName;
use redress_common::command_document::CommandDocument;
use redress_common::external_id::ExternalIdPrefix;
use redress_common::ids::{AccountId, Region};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::problem::Problem;

/// The file's name when none is given.
pub(crate) const FILE: &str = "redress.toml";
/// What CloudWatch Logs takes, as the templates do.
pub(crate) const RETENTION: [u16; 8] = [30, 60, 90, 180, 365, 731, 1827, 2557];

/// What is deployed where.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) organization: String,
    pub(crate) administrator: AccountId,
    pub(crate) home_region: Region,
    #[serde(default)]
    pub(crate) further_regions: Vec<Region>,
    pub(crate) target_units: Vec<UnitId>,
    pub(crate) pilot_unit: Option<UnitId>,
    #[serde(deserialize_with = "prefix")]
    pub(crate) external_id_prefix: ExternalIdPrefix,
    pub(crate) release: PathBuf,
    #[serde(default)]
    pub(crate) architecture: Architecture,
    #[serde(default, deserialize_with = "policy_set")]
    pub(crate) policy_set: PolicySet,
    #[serde(default = "ninety", deserialize_with = "retention")]
    pub(crate) log_retention_days: u16,
    /// For how many days what is taken of incidents is locked.
    #[serde(default = "a_year", deserialize_with = "lock_days")]
    pub(crate) incident_lock_days: u16,
    #[serde(default)]
    pub(crate) incident_lock_mode: LockMode,
    /// What captures the memory of instances, in every account and Region.
    #[serde(default, deserialize_with = "command_document")]
    pub(crate) memory_capture_document: Option<CommandDocument>,
    /// For how many days checkpoints of the ledger are locked.
    #[serde(default = "checkpoint_days", deserialize_with = "lock_days")]
    pub(crate) checkpoint_lock_days: u16,
    #[serde(default)]
    pub(crate) checkpoint_lock_mode: LockMode,
    #[serde(default = "protected")]
    pub(crate) deletion_protection: bool,
    pub(crate) notify_email: Option<String>,
    pub(crate) config_aggregator: Option<String>,
    /// A managed policy that is in every account.
    pub(crate) permissions_boundary: Option<String>,
    #[serde(default)]
    pub(crate) permissions: Permissions,
    /// For self-managed stack sets.
    pub(crate) administration_role: Option<String>,
    /// The same.
    pub(crate) execution_role: Option<String>,
}

/// A unit of the organisation, or its root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct UnitId(String);

impl UnitId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UnitId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = |part: &str, least: usize| {
            (least..=32).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let parts: Vec<&str> = text.split('-').collect();
        match parts.as_slice() {
            ["ou", root, unit] if word(root, 4) && word(unit, 8) => Ok(Self(text.to_owned())),
            ["r", root] if word(root, 4) => Ok(Self(text.to_owned())),
            _ => Err("a unit is `ou-…` or `r-…`, as Organizations shows it".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for UnitId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The functions' processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Architecture {
    #[default]
    #[serde(rename = "arm64")]
    Arm64,
    #[serde(rename = "x86_64")]
    X86,
}

impl Architecture {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86 => "x86_64",
        }
    }

    /// As the triples of compilers have it.
    pub(crate) const fn machine(self) -> &'static str {
        match self {
            Self::Arm64 => "aarch64",
            Self::X86 => "x86_64",
        }
    }
}

/// Who lets CloudFormation into the accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Permissions {
    /// The organisation. Accounts that come later get everything by themselves.
    #[default]
    ServiceManaged,
    /// Two roles that people made.
    SelfManaged,
}

impl Permissions {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceManaged => "service-managed",
            Self::SelfManaged => "self-managed",
        }
    }
}

/// Who may end a lock: of what is taken of incidents, or of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LockMode {
    /// Whoever may bypass it, as `redress deploy destroy --delete-evidence` does.
    #[default]
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }

    /// As the templates' parameter has it.
    pub(crate) const fn parameter(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// The policy set that the first deployment puts into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicySet(pub(crate) PolicySetName);

impl Default for PolicySet {
    fn default() -> Self {
        Self(PolicySetName::Observe)
    }
}

fn policy_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PolicySet, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = [PolicySetName::Observe, PolicySetName::Pilot, PolicySetName::Standard];
    let found = known.into_iter().find(|set| set.as_str() == text);
    found.map(PolicySet).ok_or_else(|| de::Error::custom("policy_set is `observe`, `pilot` or `standard`"))
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ExternalIdPrefix, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn retention<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let days = u16::deserialize(deserializer)?;
    if RETENTION.contains(&days) {
        Ok(days)
    } else {
        Err(de::Error::custom(format!("log_retention_days is one of {RETENTION:?}")))
    }
}

fn lock_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let days = u16::deserialize(deserializer)?;
    if (1..=3650).contains(&days) { Ok(days) } else { Err(de::Error::custom("a lock is for 1 to 3650 days")) }
}

fn command_document<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CommandDocument>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

/// For how many days what is taken of incidents is locked, where nobody says.
pub(crate) const fn a_year() -> u16 {
    365
}

/// For how many days checkpoints are locked, where nobody says.
pub(crate) const fn checkpoint_days() -> u16 {
    400
}

const fn ninety() -> u16 {
    90
}

const fn protected() -> bool {
    true
}

impl Settings {
    /// Reads the file. A release folder that is not absolute is beside it.
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problem::failed(format!("cannot read `{}`: {error}", path.display()))
                .help("`redress deploy init` writes it; another place: --settings <file>")
        })?;
        let mut settings = Self::parse(&text, path)?;
        if settings.release.is_relative() {
            settings.release = path.parent().unwrap_or(Path::new(".")).join(&settings.release);
        }
        Ok(settings)
    }

    /// The settings of a text; `path` is for messages.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Problem> {
        let wrong = |line: usize, message: &str| {
            Problem::failed(format!("`{}`, line {line}: {message}", path.display()))
                .help("docs/deploy.md says what each key means; `redress deploy init` writes a new file")
        };
        let settings: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
            let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
            wrong(line, &format!("{key}{}", error.message()))
        })?;
        let line_of = |key: &str| {
            let is_it = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
            text.lines().position(is_it).map_or(1, |at| at + 1)
        };
        match settings.contradiction() {
            Some((key, message)) => Err(wrong(line_of(key), &format!("{key}: {message}"))),
            None => Ok(settings),
        }
    }

    /// A key that contradicts another one.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        let id = self.organization.strip_prefix("o-").unwrap_or_default();
        if !(10..=32).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Some(("organization", "an organisation's id is `o-` and 10 to 32 letters and digits".to_owned()));
        }
        if self.target_units.is_empty() {
            return Some(("target_units", "name at least one unit; the root is `r-…`".to_owned()));
        }
        let mut regions: Vec<&Region> = self.regions().collect();
        regions.sort();
        if let Some(twice) = regions.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(("further_regions", format!("{} is named twice, or is the home Region", twice[0])));
        }
        let partition = redress_common::arn::Partition::of_region(&self.home_region);
        if let Some(other) =
            regions.iter().find(|region| redress_common::arn::Partition::of_region(region) != partition)
        {
            return Some(("further_regions", format!("{other} is not in partition {partition}")));
        }
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&b);
        if self.permissions_boundary.as_ref().is_some_and(|name| name.is_empty() || !name.bytes().all(letter)) {
            return Some(("permissions_boundary", "the name of a policy, with its path but not its ARN".to_owned()));
        }
        let roles = self.administration_role.is_some() || self.execution_role.is_some();
        match self.permissions {
            Permissions::ServiceManaged if roles => {
                Some(("permissions", "administration_role and execution_role are for self-managed".to_owned()))
            }
            Permissions::SelfManaged if self.administration_role.is_none() || self.execution_role.is_none() => Some((
                "permissions",
                "self-managed needs administration_role (an ARN) and execution_role (a name)".to_owned(),
            )),
            _ => None,
        }
    }

    /// The home Region, then the others.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &Region> {
        std::iter::once(&self.home_region).chain(&self.further_regions)
    }

    /// The file, with what each key means.
    pub(crate) fn render(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let list =
            |items: Vec<String>| format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "));
        let maybe = |key: &str, value: Option<&str>, example: &str| match value {
            Some(value) => format!("{key} = {}\n", quoted(value)),
            None => format!("# {key} = {}\n", quoted(example)),
        };
        let mut text = format!(
            "# What `redress deploy` deploys, and where. Keep this file safe: external_id_prefix is a secret.\n\n\
             # The AWS organisation. Its accounts may send findings to the hub and read the release's packages.\n\
             organization = {}\n\n\
             # The account that decides: run `redress deploy` with its credentials. The organisation's management account,\n\
             # or a delegated administrator of CloudFormation StackSets (docs/deploy.md).\n\
             administrator = {}\n\n\
             # Where the hub is, and every account's key and evidence. It cannot be changed later.\n\
             home_region = {}\n\n\
             # Where accounts are watched and repaired as well.\n\
             further_regions = {}\n\n\
             # The units whose accounts get Redress, those that join later too. The management account never does.\n\
             target_units = {}\n\n\
             # The unit that goes first. When it does not come up whole, nothing is done in the others.\n{}\n",
            quoted(&self.organization),
            quoted(self.administrator.as_str()),
            quoted(self.home_region.as_str()),
            list(self.further_regions.iter().map(ToString::to_string).collect()),
            list(self.target_units.iter().map(ToString::to_string).collect()),
            maybe("pilot_unit", self.pilot_unit.as_ref().map(UnitId::as_str), "ou-abcd-12345678"),
        );
        text.push_str(&format!(
            "# What the ExternalId of every account begins with; the account's id follows. Treat it as a password.\n\
             external_id_prefix = {}\n\n\
             # The release: a folder made by `cargo xtask package`, beside this file or with its whole path.\n\
             release = {}\n\n\
             # The functions' processor: arm64 (cheaper) or x86_64, as the release was made: another is refused.\n\
             architecture = {}\n\n\
             # What may be done at first: observe (people are told), pilot or standard. `redress settings set` changes it later.\n\
             policy_set = {}\n\n\
             # For how many days the functions' logs are kept: {RETENTION:?}.\n\
             log_retention_days = {}\n\n\
             # For how many days what is taken of an incident can be neither changed nor deleted (1 to 3650), and who can end that\n\
             # sooner: governance (whoever may bypass it, as `destroy --delete-evidence` does) or compliance (nobody).\n\
             incident_lock_days = {}\n\
             incident_lock_mode = {}\n\n\
             # An SSM Command document, by its name, that every account has in each of these Regions: it captures the memory of a\n\
             # compromised instance before that is isolated. It and no other may be sent.\n{}\n\
             # The same of the checkpoints that prove the ledger: no fewer days than its records are kept.\n\
             checkpoint_lock_days = {}\n\
             checkpoint_lock_mode = {}\n\n\
             # Whether the tables refuse to be deleted.\n\
             deletion_protection = {}\n\n\
             # Who is told by e-mail. They have to confirm the subscription.\n{}\n\
             # An aggregator of AWS Config in the administrator account, where the reconciler looks for results whose events never came.\n{}\n\
             # A managed policy, by its name, that every account has and that every role is bound by.\n{}\n\
             # service-managed: the organisation lets CloudFormation in. self-managed: two roles that you have made do\n\
             # (the only way in China), and accounts that join later need another `redress deploy apply`.\n\
             permissions = {}\n{}{}",
            quoted(self.external_id_prefix.reveal()),
            quoted(&self.release.display().to_string()),
            quoted(self.architecture.as_str()),
            quoted(self.policy_set.0.as_str()),
            self.log_retention_days,
            self.incident_lock_days,
            quoted(self.incident_lock_mode.as_str()),
            maybe(
                "memory_capture_document",
                self.memory_capture_document.as_ref().map(CommandDocument::as_str),
                "Redress-Memory-Linux",
            ),
            self.checkpoint_lock_days,
            quoted(self.checkpoint_lock_mode.as_str()),
            self.deletion_protection,
            maybe("notify_email", self.notify_email.as_deref(), "security@example.com"),
            maybe("config_aggregator", self.config_aggregator.as_deref(), "redress"),
            maybe("permissions_boundary", self.permissions_boundary.as_deref(), "Boundary"),
            quoted(self.permissions.as_str()),
            maybe("administration_role", self.administration_role.as_deref(), "arn:…:role/AWSCloudFormationStackSetAdministrationRole"),
            maybe("execution_role", self.execution_role.as_deref(), "AWSCloudFormationStackSetExecutionRole"),
        ));
        text
    }
}

/// A text of settings with another release; everything else stays as people wrote it.
pub(crate) fn with_release(text: &str, release: &Path) -> String {
    let line = format!("release = {}", toml::Value::String(release.display().to_string()));
    let is_release = |given: &str| given.split_once('=').is_some_and(|(key, _)| key.trim() == "release");
    let mut out: String =
        text.lines().map(|given| if is_release(given) { format!("{line}\n") } else { format!("{given}\n") }).collect();
    if !text.lines().any(is_release) {
        out.push_str(&format!("{line}\n"));
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn settings() -> Settings {
        Settings {
            organization: "o-abcdefghij".to_owned(),
            administrator: "111111111111".parse().unwrap(),
            home_region: "us-east-1".parse().unwrap(),
            further_regions: vec!["eu-west-1".parse().unwrap()],
            target_units: vec!["ou-abcd-11111111".parse().unwrap()],
            pilot_unit: Some("ou-abcd-22222222".parse().unwrap()),
            external_id_prefix: "0123456789abcdef".parse().unwrap(),
            release: PathBuf::from("/releases/redress-0.1.0"),
            architecture: Architecture::Arm64,
            policy_set: PolicySet::default(),
            log_retention_days: 90,
            incident_lock_days: 365,
            incident_lock_mode: LockMode::Governance,
            memory_capture_document: Some("Redress-Memory-Linux".parse().unwrap()),
            checkpoint_lock_days: 400,
            checkpoint_lock_mode: LockMode::Governance,
            deletion_protection: true,
            notify_email: Some("security@example.com".to_owned()),
            config_aggregator: None,
            permissions_boundary: Some("Boundary".to_owned()),
            permissions: Permissions::ServiceManaged,
            administration_role: None,
            execution_role: None,
        }
    }

    fn wrong(from: &str, to: &str) -> String {
        let text = settings().render();
        assert!(text.contains(from), "{from}");
        Settings::parse(&text.replace(from, to), Path::new("redress.toml")).unwrap_err().plain()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let given = settings();
        assert_eq!(Settings::parse(&given.render(), Path::new("x")).unwrap(), given);
        let own = Settings {
            permissions: Permissions::SelfManaged,
            administration_role: Some("arn:aws:iam::111111111111:role/Sets".to_owned()),
            execution_role: Some("Deploys".to_owned()),
            pilot_unit: None,
            memory_capture_document: None,
            ..given
        };
        assert_eq!(Settings::parse(&own.render(), Path::new("x")).unwrap(), own);
    }

    #[test]
    fn the_file_explains_every_key() {
        for part in settings().render().split("\n\n") {
            assert!(part.starts_with("# "), "{part}");
        }
    }

    #[test]
    fn an_unknown_key_or_a_wrong_value_is_told_with_its_line_and_its_key() {
        let said = wrong("architecture = \"arm64\"", "architectur = \"arm64\"");
        assert!(said.contains("line 29") && said.contains("architectur"), "{said}");
        for (from, to, key) in [
            ("\"arm64\"", "\"mips\"", "architecture"),
            ("\"observe\"", "\"everything\"", "policy_set"),
            ("log_retention_days = 90", "log_retention_days = 91", "log_retention_days"),
            ("incident_lock_days = 365", "incident_lock_days = 0", "incident_lock_days"),
            ("incident_lock_mode = \"governance\"", "incident_lock_mode = \"none\"", "incident_lock_mode"),
            ("checkpoint_lock_mode = \"governance\"", "checkpoint_lock_mode = 7", "checkpoint_lock_mode"),
            ("\"Redress-Memory-Linux\"", "\"AWS-RunShellScript\"", "memory_capture_document"),
            ("\"Redress-Memory-Linux\"", "\"\"", "memory_capture_document"),
            ("checkpoint_lock_days = 400", "checkpoint_lock_days = 3651", "checkpoint_lock_days"),
            ("\"eu-west-1\"", "\"us-east-1\"", "further_regions"),
            ("\"eu-west-1\"", "\"cn-north-1\"", "further_regions"),
            ("\"ou-abcd-11111111\"", "\"workloads\"", "target_units"),
            ("permissions = \"service-managed\"", "permissions = \"self-managed\"", "permissions"),
            ("\"o-abcdefghij\"", "\"abc\"", "organization"),
            ("\"Boundary\"", "\"arn:aws:iam::111111111111:policy/Boundary\"", "permissions_boundary"),
        ] {
            let said = wrong(from, to);
            assert!(said.contains("line ") && said.contains(key), "{key}: {said}");
        }
    }

    #[test]
    fn the_secret_is_in_no_message() {
        for secret in ["short-secret", "a secret with spaces in it"] {
            assert!(!wrong("0123456789abcdef", secret).contains(secret));
        }
        let said = wrong("external_id_prefix =", "external_id_prefx =");
        assert!(!said.contains("0123456789abcdef"), "{said}");
        assert!(!format!("{:?}", settings()).contains("0123456789abcdef"));
    }

    #[test]
    fn another_release_leaves_the_rest_of_the_file_alone() {
        let text = settings().render();
        let changed = with_release(&text, Path::new("next"));
        assert_eq!(Settings::parse(&changed, Path::new("x")).unwrap().release, Path::new("next"));
        assert_eq!(with_release(&changed, Path::new("/releases/redress-0.1.0")), text);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_fall_over(text in "\\PC{0,200}") {
            let _ = Settings::parse(&text, Path::new("x"));
        }
    }
}
