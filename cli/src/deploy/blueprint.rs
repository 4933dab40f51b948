//! What shall be there: the stack of the administrator account and the stack sets of the others, of settings and a
//! release. Pure.

use std::collections::BTreeMap;

use redress_common::arn::Partition;
use redress_common::ids::Region;
use redress_common::ledger::sha256_hex;
use redress_common::names;
use serde_json::json;

use super::documents;
use super::kept::{self, Declared, Kept};
use super::release::{self, Release, Source};
use super::settings::Settings;
use crate::problem::Problem;

/// The administrator account's stack.
pub(crate) const ADMINISTRATOR_STACK: &str = "redress-administrator";
/// The tag and the word that a content's digest stands behind.
pub(crate) const CONTENT: &str = "redress:content";

/// The administrator stack's parameter for Security Hub's automation rules, as CloudFormation tells it of a stack that has them.
pub(crate) const RULES: (Option<&str>, Option<&str>) = (Some("AutomationRules"), Some("Enabled"));

/// A stack of the administrator account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// What the settings say.
    pub(crate) parameters: BTreeMap<String, String>,
    /// All parameters that the template has.
    pub(crate) declared: BTreeMap<String, Declared>,
    /// Of everything above.
    pub(crate) digest: String,
}

impl Stack {
    /// The parameters that keep the values that they have where it is `deployed`.
    pub(crate) fn keeps(&self, deployed: &BTreeMap<String, String>) -> Vec<&str> {
        kept::names(&self.declared, &self.parameters, deployed)
    }

    /// Those of them that are not at their defaults.
    pub(crate) fn kept(&self, deployed: &BTreeMap<String, String>) -> Vec<Kept> {
        kept::told(&format!("stack {}", self.name), &self.declared, &self.parameters, deployed)
    }
}

/// A stack set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) url: String,
    /// What the settings say.
    pub(crate) parameters: BTreeMap<String, String>,
    /// All parameters that the template has.
    pub(crate) declared: BTreeMap<String, Declared>,
    pub(crate) regions: Vec<Region>,
    /// Which stack set is deployed before this one, where an account joins.
    pub(crate) after: Option<String>,
    pub(crate) digest: String,
}

impl Set {
    /// The parameters that keep the values that they have where it is `deployed`.
    pub(crate) fn keeps(&self, deployed: &BTreeMap<String, String>) -> Vec<&str> {
        kept::names(&self.declared, &self.parameters, deployed)
    }

    /// Those of them that are not at their defaults.
    pub(crate) fn kept(&self, deployed: &BTreeMap<String, String>) -> Vec<Kept> {
        kept::told(&format!("stack set {}", self.name), &self.declared, &self.parameters, deployed)
    }
}

/// What a stack set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Documents,
    Member,
    Roles,
    Region,
}

/// Something to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) region: Region,
    pub(crate) key: String,
    pub(crate) from: Origin,
}

/// Where an upload's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file of the release.
    File(String),
    /// Made of it.
    Text(String),
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blueprint {
    pub(crate) version: String,
    pub(crate) release: String,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) stack: Stack,
    /// In the order in which an account gets them.
    pub(crate) sets: Vec<Set>,
}

impl Blueprint {
    /// Of settings and a release. `rules` says whether the account gets Security Hub's automation rules.
    pub(crate) fn new(settings: &Settings, release: &Release, rules: bool) -> Result<Self, Problem> {
        let home = &settings.home_region;
        let place = Place { settings, release, rules };
        let mut uploads: Vec<Upload> = settings
            .regions()
            .flat_map(|region| release.packages().map(move |path| (region, path)))
            .map(|(region, path)| Upload {
                region: region.clone(),
                key: place.key(path),
                from: Origin::File(path.to_owned()),
            })
            .collect();
        let template = |name: &str| {
            let path = format!("templates/{name}");
            Upload { region: home.clone(), key: place.key(&path), from: Origin::File(path) }
        };
        uploads.extend(release.templates.keys().map(|name| template(name)));

        let texts = documents::templates(&release.documents).map_err(|error| {
            Problem::aws("put the runbooks into templates", &error)
                .help("run `cargo xtask generate` and make the release again")
        })?;
        let all: Vec<Region> = settings.regions().cloned().collect();
        let mut sets: Vec<Set> = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let name = format!("redress-documents-{}", index + 1);
            let key = place.key(&format!("templates/{name}.json"));
            let url = place.url(&key);
            let digest = digest(&text, &BTreeMap::new());
            uploads.push(Upload { region: home.clone(), key, from: Origin::Text(text) });
            let after = sets.last().map(|set| set.name.clone());
            sets.push(Set {
                name,
                kind: Kind::Documents,
                url,
                parameters: BTreeMap::new(),
                declared: BTreeMap::new(),
                regions: all.clone(),
                after,
                digest,
            });
        }
        for (name, kind, file) in [
            ("redress-member", Kind::Member, release::MEMBER),
            ("redress-member-roles", Kind::Roles, release::ROLES),
            ("redress-member-region", Kind::Region, release::REGION),
        ] {
            let regions = if kind == Kind::Region { settings.further_regions.clone() } else { vec![home.clone()] };
            if regions.is_empty() {
                continue;
            }
            let Content { url, parameters, declared, digest } = place.template(file)?;
            let after = sets.last().map(|set| set.name.clone());
            sets.push(Set { name: name.to_owned(), kind, url, parameters, declared, regions, after, digest });
        }
        let Content { url, parameters, declared, digest } = place.template(release::ADMINISTRATOR)?;
        let stack = Stack { name: ADMINISTRATOR_STACK, url, parameters, declared, digest };
        Ok(Self { version: release.version.clone(), release: release.id.clone(), uploads, stack, sets })
    }

    /// Of everything: what a gate was passed with.
    pub(crate) fn digest(&self) -> String {
        let sets = self.sets.iter().map(|set| set.digest.as_str());
        let all: Vec<&str> = std::iter::once(self.stack.digest.as_str()).chain(sets).collect();
        sha256_hex(all.join("\n").as_bytes())
    }

    /// The stack sets in the order in which a wave gets them. Where accounts have Redress already, the roles go first:
    /// a new runbook may need a right that the old one did not. The functions come after the runbooks.
    pub(crate) fn order(&self, has_members: bool) -> Vec<&Set> {
        let mut sets: Vec<&Set> = self.sets.iter().collect();
        if has_members {
            sets.sort_by_key(|set| set.kind != Kind::Roles);
        }
        sets
    }
}

/// What a stack or stack set is made of.
struct Content {
    url: String,
    parameters: BTreeMap<String, String>,
    declared: BTreeMap<String, Declared>,
    digest: String,
}

struct Place<'a> {
    settings: &'a Settings,
    release: &'a Release,
    rules: bool,
}

impl Place<'_> {
    /// Where a file of this release lies: under its id, so that old and new stay side by side.
    fn key(&self, path: &str) -> String {
        format!("releases/{}/{path}", self.release.id)
    }

    fn url(&self, key: &str) -> String {
        let (settings, home) = (self.settings, &self.settings.home_region);
        let suffix = if Partition::of_region(home) == Partition::China { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://s3.{home}.{suffix}/{}/{key}", names::artifact_bucket(&settings.administrator, home))
    }

    /// A template of the release, with what the settings say of its parameters.
    fn template(&self, file: &str) -> Result<Content, Problem> {
        let source = self.release.templates.get(file);
        let source = source.ok_or_else(|| Problem::failed(format!("the release has no templates/{file}")))?;
        let parameters = self.parameters(file, source)?;
        let digest = digest(&source.text, &parameters);
        let url = self.url(&self.key(&format!("templates/{file}")));
        Ok(Content { url, parameters, declared: kept::declared(&source.template), digest })
    }

    /// What the settings say of each parameter that a template has; a package's is where it lies.
    fn parameters(&self, file: &str, source: &Source) -> Result<BTreeMap<String, String>, Problem> {
        let (settings, home) = (self.settings, &self.settings.home_region);
        let administrator = &settings.administrator;
        let known = [
            ("AdministratorAccountId", administrator.to_string()),
            ("Architecture", settings.architecture.as_str().to_owned()),
            ("ArtifactBucket", names::artifact_bucket(administrator, home)),
            ("ArtifactBucketPrefix", names::artifact_bucket_prefix(administrator)),
            ("AutomationRules", if self.rules { "Enabled" } else { "Disabled" }.to_owned()),
            ("CheckpointLockDays", settings.checkpoint_lock_days.to_string()),
            ("CheckpointLockMode", settings.checkpoint_lock_mode.parameter().to_owned()),
            ("ConfigAggregator", settings.config_aggregator.clone().unwrap_or_default()),
            ("DeletionProtection", settings.deletion_protection.to_string()),
            ("ExternalId", settings.external_id_prefix.reveal().to_owned()),
            ("ExternalIdPrefix", settings.external_id_prefix.reveal().to_owned()),
            ("HomeRegion", home.to_string()),
            ("IncidentLockDays", settings.incident_lock_days.to_string()),
            ("IncidentLockMode", settings.incident_lock_mode.parameter().to_owned()),
            ("LogRetentionDays", settings.log_retention_days.to_string()),
            (
                "MemoryCaptureDocument",
                settings.memory_capture_document.as_ref().map(ToString::to_string).unwrap_or_default(),
            ),
            ("NestedTemplates", self.key(&format!("templates/{}", release::NESTED))),
            ("OrganizationId", settings.organization.clone()),
            ("PermissionsBoundary", settings.permissions_boundary.clone().unwrap_or_default()),
        ];
        let template = &source.template;
        let mut given: BTreeMap<String, String> = known
            .into_iter()
            .filter(|(name, _)| template.has_parameter(name))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        for (name, package) in template.defaults().filter(|(_, default)| default.ends_with(".zip")) {
            let path = format!("functions/{package}");
            if !self.release.files.contains_key(&path) {
                return Err(Problem::failed(format!("templates/{file} needs {path}, which the release does not have"))
                    .help("make the release again: `cargo xtask package`"));
            }
            given.insert(name.to_owned(), self.key(&path));
        }
        let defaults: Vec<&str> = template.defaults().map(|(name, _)| name).collect();
        let missing = template.parameters().find(|name| !defaults.contains(name) && !given.contains_key(*name));
        match missing {
            Some(name) => {
                Err(Problem::failed(format!("templates/{file} asks for {name}, which this command does not know"))
                    .help("use the `redress` command of the same release"))
            }
            None => Ok(given),
        }
    }
}

fn digest(text: &str, parameters: &BTreeMap<String, String>) -> String {
    let all = json!([sha256_hex(text.as_bytes()), parameters]).to_string();
    sha256_hex(all.as_bytes()).get(..16).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;
    use crate::deploy::release::tests::release;
    use crate::deploy::settings::tests::settings;

    fn blueprint(settings: &Settings, version: &str) -> Blueprint {
        let (_folder, release) = release(version);
        Blueprint::new(settings, &release, true).unwrap()
    }

    #[test]
    fn every_template_gets_what_it_asks_for_and_no_account_a_parameter_of_its_own() {
        let blueprint = blueprint(&settings(), "0.1.0");
        let names: Vec<&str> = blueprint.sets.iter().map(|set| set.name.as_str()).collect();
        assert_eq!(names[..2], ["redress-documents-1", "redress-documents-2"]);
        assert_eq!(names[4..], ["redress-member", "redress-member-roles", "redress-member-region"]);
        for bound in [&blueprint.stack.parameters, &blueprint.sets[4].parameters, &blueprint.sets[5].parameters] {
            assert_eq!(bound["PermissionsBoundary"], "Boundary");
        }
        assert_eq!(blueprint.stack.parameters["CheckpointLockDays"], "400");
        assert_eq!(blueprint.stack.parameters["CheckpointLockMode"], "GOVERNANCE");
        let region = &blueprint.sets[6];
        assert_eq!(region.parameters["ArtifactBucketPrefix"], "redress-artifacts-111111111111");
        assert_eq!(region.parameters["HomeRegion"], "us-east-1");
        assert_eq!(region.regions, ["eu-west-1".parse::<Region>().unwrap()]);
        let member = &blueprint.sets[4];
        for keeps in [member, region] {
            assert_eq!(keeps.parameters["IncidentLockDays"], "365");
            assert_eq!(keeps.parameters["IncidentLockMode"], "GOVERNANCE");
            assert_eq!(keeps.parameters["MemoryCaptureDocument"], "Redress-Memory-Linux");
        }
        assert_eq!(member.parameters["ExternalIdPrefix"], "0123456789abcdef");
        assert!(member.parameters["RecorderKey"].ends_with("/functions/redress-recorder.zip"));
        assert!(blueprint.uploads.iter().any(|upload| upload.key == member.parameters["RecorderKey"]));
        assert!(blueprint.uploads.iter().any(|upload| member.url.ends_with(&upload.key)));
    }

    #[test]
    fn what_the_settings_say_nothing_of_keeps_what_it_has_and_what_they_say_does_not() {
        let blueprint = blueprint(&settings(), "0.1.0");
        // As CloudFormation shows a stack: all parameters, and secrets hidden.
        let deployed = |declared: &BTreeMap<String, Declared>, name: &str, value: &str| {
            let all = declared
                .iter()
                .map(|(name, one)| (name.clone(), one.default.clone().unwrap_or_else(|| "****".to_owned())));
            let mut all: BTreeMap<String, String> = all.collect();
            all.insert(name.to_owned(), value.to_owned());
            all
        };
        let stack = &blueprint.stack;
        let now = deployed(&stack.declared, "OperatorsApprove", "false");
        let keeps = stack.keeps(&now);
        for kept in ["NotificationDestinations", "OperatorsApprove", "RetentionDays", "Tracing"] {
            assert!(keeps.contains(&kept), "{kept}");
        }
        // Also those whose keys are commented out: the file says that there is none.
        for ours in ["Architecture", "ConfigAggregator", "ExternalId", "LogRetentionDays", "OrchestratorKey"] {
            assert!(!keeps.contains(&ours), "{ours}");
        }
        let told: Vec<Kept> = stack.kept(&now);
        assert_eq!(told.iter().map(|one| one.parameter.as_str()).collect::<Vec<_>>(), ["OperatorsApprove"]);
        let member = &blueprint.sets[4];
        let now = deployed(&member.declared, "ObjectLockDays", "30");
        assert!(member.keeps(&now).contains(&"ObjectLockDays") && !member.keeps(&now).contains(&"IncidentLockDays"));
        assert_eq!(member.kept(&now)[0].value.as_deref(), Some("30"));
        assert!(member.keeps(&BTreeMap::new()).is_empty(), "what is new takes its default");
    }

    #[test]
    fn the_administrator_stack_is_told_where_what_it_nests_lies() {
        let blueprint = blueprint(&settings(), "0.1.0");
        let folder = &blueprint.stack.parameters["NestedTemplates"];
        for name in ["data", "events", "workflow", "functions", "securityhub", "monitoring"] {
            let key = format!("{folder}/{name}.yaml");
            assert!(blueprint.uploads.iter().any(|upload| upload.key == key), "{key}");
        }
    }

    #[test]
    fn with_and_without_automation_rules_it_is_another_stack_and_else_the_same() {
        let (_folder, release) = release("0.1.0");
        let [with, without] = [true, false].map(|rules| Blueprint::new(&settings(), &release, rules).unwrap());
        assert_eq!(with.stack.parameters["AutomationRules"], RULES.1.unwrap());
        assert_eq!(without.stack.parameters["AutomationRules"], "Disabled");
        assert_ne!(with.stack.digest, without.stack.digest);
        assert_eq!(with.sets, without.sets);
    }

    #[test]
    fn without_further_regions_there_is_no_set_for_them() {
        let home = Settings { further_regions: Vec::new(), ..settings() };
        assert!(blueprint(&home, "0.1.0").sets.iter().all(|set| set.kind != Kind::Region));
    }

    #[test]
    fn a_release_changes_what_it_brings_and_nothing_else() {
        let (one, other) = (blueprint(&settings(), "0.1.0"), blueprint(&settings(), "0.1.1"));
        let changed: Vec<&str> = one
            .sets
            .iter()
            .zip(&other.sets)
            .filter(|(one, other)| one.digest != other.digest)
            .map(|(one, _)| one.name.as_str())
            .collect();
        assert_eq!(changed, ["redress-member", "redress-member-region"], "those with functions");
        assert_eq!(one, blueprint(&settings(), "0.1.0"));
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn the_roles_go_first_only_where_there_are_members() {
        let blueprint = blueprint(&settings(), "0.1.0");
        let kinds = |has: bool| blueprint.order(has).iter().map(|set| set.kind).collect::<Vec<_>>();
        assert_eq!(kinds(true)[0], Kind::Roles);
        assert_eq!(kinds(false)[6], Kind::Region);
        assert!(kinds(true)[1..].is_sorted());
    }

    #[test]
    fn urls_are_those_of_the_partition() {
        let china = Settings { home_region: "cn-north-1".parse().unwrap(), further_regions: Vec::new(), ..settings() };
        let url = blueprint(&china, "1").stack.url;
        assert!(url.starts_with("https://s3.cn-north-1.amazonaws.com.cn/redress-artifacts-"), "{url}");
    }
}
