//! An organisation to deploy, and one that is deployed: who is in it, and where things are.
//!
//! Account ids are chosen here, since a demo and its reader need ids that they recognise: the members are invited
//! into the organisation, not created by it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;
use redress_common::arn::Partition;
use redress_common::aws::state_table::PolicySetName;
use redress_common::catalogue::Catalogue;
use redress_common::external_id::{ExternalId, ExternalIdPrefix, InvalidPrefix};
use redress_common::ids::{AccountId, InvalidId, Region};
use redress_common::names;
use redress_runbooks::{CompileError, Control, compile_all};

use crate::Progress;
use crate::template::{Template, TemplateError};

/// An account and what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: String,
}

/// A template, as text and as a value.
#[derive(Debug, Clone)]
pub struct Source {
    /// The text that CloudFormation gets.
    pub text: String,
    /// The same, read.
    pub template: Template,
}

/// What to deploy.
#[derive(Clone)]
pub struct Plan {
    /// The administrator account.
    pub administrator: Account,
    /// The member accounts, in order.
    pub members: Vec<Account>,
    /// The home Region of all of them. IAM's controls run in the partition's global Region, so keep it to that
    /// one unless they are not used.
    pub region: Region,
    /// Where the members are watched and repaired as well. Each costs as much time to deploy as a member.
    pub further_regions: Vec<Region>,
    /// What the members' roles ask for, before the account's id.
    pub external_ids: ExternalIdPrefix,
    /// The policy set that decides.
    pub policy_set: PolicySetName,
    /// Parameters of the administrator stack beyond those that every deployment gives: other than its defaults.
    pub administrator_parameters: BTreeMap<String, String>,
    /// `stacksets/administrator-stack.yaml`.
    pub administrator_stack: Source,
    /// What it nests, `stacksets/administrator/`, by the files' names.
    pub administrator_nested: BTreeMap<String, Source>,
    /// `stacksets/member-stack.yaml`.
    pub member_stack: Source,
    /// `stacksets/member-region.yaml`.
    pub member_region: Source,
    /// `stacksets/member-roles.yaml`.
    pub member_roles: Source,
    /// `stacksets/member-documents/`, in the order of their names.
    pub member_documents: Vec<Source>,
    /// The controls.
    pub catalogue: Catalogue,
    /// Told what is being done.
    pub progress: Progress,
}

/// A plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file of the repository cannot be read.
    #[error("`{path}` cannot be read: {source}; run `cargo xtask generate` in a whole clone")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A template is none.
    #[error("`{path}`: {source}")]
    Template {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: TemplateError,
    },
    /// The catalogue is none.
    #[error("`{path}` is not a catalogue: {source}; run `cargo xtask generate`")]
    Catalogue {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The controls do not compile.
    #[error(transparent)]
    Controls(#[from] CompileError),
    /// Too many members for the ids that the lab gives out.
    #[error("a lab has 1 to {MOST_MEMBERS} member accounts, not {0}")]
    Members(usize),
    /// An id that the lab made up is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// Neither is the ExternalIds' prefix.
    #[error(transparent)]
    ExternalId(#[from] InvalidPrefix),
}

/// Member accounts get the ids 222222222222 to 999999999999, then 200000000000 and on.
const MOST_MEMBERS: usize = 200;

impl Plan {
    /// An organisation of the templates and controls of a repository: the administrator 111111111111 and members
    /// of these names, in us-east-1, with the policy set `standard` and a random ExternalId.
    ///
    /// # Errors
    /// When a file is missing or not what it should be.
    pub fn of(root: &Path, members: &[&str], progress: Progress) -> Result<Self, PlanError> {
        if members.is_empty() || members.len() > MOST_MEMBERS {
            return Err(PlanError::Members(members.len()));
        }
        let account = |(index, name): (usize, &&str)| {
            Ok::<_, PlanError>(Account { id: member_id(index)?, name: (*name).to_owned() })
        };
        let stack = |name: &str| source(&root.join("stacksets").join(name));
        let catalogue = root.join("ssm-documents").join("catalogue.json");
        Ok(Self {
            administrator: Account { id: "111111111111".parse()?, name: "administrator".to_owned() },
            members: members.iter().enumerate().map(account).collect::<Result<_, _>>()?,
            region: "us-east-1".parse()?,
            further_regions: Vec::new(),
            external_ids: hex::encode(rand::rng().random::<[u8; 16]>()).parse()?,
            policy_set: PolicySetName::Standard,
            administrator_parameters: BTreeMap::new(),
            administrator_stack: stack("administrator-stack.yaml")?,
            administrator_nested: named_sources(&root.join("stacksets").join("administrator"))?,
            member_stack: stack("member-stack.yaml")?,
            member_region: stack("member-region.yaml")?,
            member_roles: stack("member-roles.yaml")?,
            member_documents: named_sources(&root.join("stacksets").join("member-documents"))?.into_values().collect(),
            catalogue: serde_json::from_str(&read(&catalogue)?)
                .map_err(|source| PlanError::Catalogue { path: catalogue, source })?,
            progress,
        })
    }
}

impl Plan {
    /// The same, with what the control files give now, generated or not: for a control that is being written.
    ///
    /// # Errors
    /// When a control file is wrong.
    pub fn with_controls(mut self, controls: &[Control]) -> Result<Self, PlanError> {
        let compiled = compile_all(controls)?;
        let read = |name: &str, text: &String| {
            let template = Template::parse(text);
            let template = template.map_err(|source| PlanError::Template { path: PathBuf::from(name), source })?;
            Ok::<_, PlanError>(Source { text: text.clone(), template })
        };
        self.member_roles = read("member-roles.yaml", &compiled.roles_template)?;
        self.member_documents =
            compiled.documents_templates.iter().map(|(name, text)| read(name, text)).collect::<Result<_, _>>()?;
        self.catalogue = compiled.catalogue;
        Ok(self)
    }
}

fn member_id(index: usize) -> Result<AccountId, InvalidId> {
    match index {
        0..8 => (index + 2).to_string().repeat(12).parse(),
        _ => (200_000_000_000 + index).to_string().parse(),
    }
}

fn source(path: &Path) -> Result<Source, PlanError> {
    let text = read(path)?;
    let template = Template::parse(&text).map_err(|source| PlanError::Template { path: path.to_owned(), source })?;
    Ok(Source { text, template })
}

/// Every template of a folder, by name.
fn named_sources(folder: &Path) -> Result<BTreeMap<String, Source>, PlanError> {
    let failed = |source| PlanError::File { path: folder.to_owned(), source };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        found.insert(entry.file_name().to_string_lossy().into_owned(), source(&entry.path())?);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String, PlanError> {
    std::fs::read_to_string(path).map_err(|source| PlanError::File { path: path.to_owned(), source })
}

/// A deployed organisation.
#[derive(Debug, Clone)]
pub struct Organisation {
    /// Its id: `o-…`.
    pub id: String,
    /// The administrator account.
    pub administrator: Account,
    /// The member accounts.
    pub members: Vec<Account>,
    /// The Region of all of them.
    pub region: Region,
    /// What the members' roles ask for, before the account's id. Whoever runs the `redress` command needs it to read evidence.
    pub external_ids: ExternalIdPrefix,
}

impl Organisation {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition::of_region(&self.region)
    }

    /// The bus that everything is forwarded to.
    #[must_use]
    pub fn hub_bus_arn(&self) -> String {
        format!(
            "arn:{}:events:{}:{}:event-bus/{}",
            self.partition(),
            self.region,
            self.administrator.id,
            names::HUB_BUS
        )
    }

    /// The role that people use the `redress` command with.
    #[must_use]
    pub fn operator_role_arn(&self) -> String {
        names::role_arn(self.partition(), &self.administrator.id, names::OPERATOR_ROLE)
    }

    /// The topic that people are told by.
    #[must_use]
    pub fn topic_arn(&self) -> String {
        format!("arn:{}:sns:{}:{}:{}", self.partition(), self.region, self.administrator.id, names::NOTIFICATIONS_TOPIC)
    }

    /// What the roles of an account ask for.
    #[must_use]
    pub fn external_id(&self, account: &AccountId) -> ExternalId {
        self.external_ids.of(account)
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Account> {
        self.members.iter().find(|member| member.name == name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_are_recognisable_and_never_the_administrators() {
        let ids: std::collections::BTreeSet<String> =
            (0..MOST_MEMBERS).map(|index| member_id(index).unwrap().to_string()).collect();
        assert_eq!(ids.len(), MOST_MEMBERS);
        assert!(ids.contains("222222222222") && !ids.contains("111111111111"));
    }

    #[test]
    fn the_repository_holds_a_whole_plan() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let plan = Plan::of(root, &["payments", "web"], std::sync::Arc::new(|_| ())).unwrap();
        assert!(!plan.catalogue.0.is_empty());
        assert_eq!(plan.members[1].name, "web");
        assert!(Plan::of(root, &[], std::sync::Arc::new(|_| ())).is_err());
    }
}
