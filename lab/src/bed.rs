//! A lab with an organisation deployed in it: what the demo, the `redress lab` command and the tests start.
//!
//! Only puts the parts together. What they are is in [`crate::Lab`], [`crate::deploy`] and [`crate::services`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redress_common::names;

use crate::deploy::{self, DeployError};
use crate::organisation::{Organisation, Plan, PlanError};
use crate::services::config::Config;
use crate::services::eks::Eks;
use crate::services::guardduty::GuardDuty;
use crate::services::securityhub::SecurityHub;
use crate::services::ssm::{Options, Ssm};
use crate::services::stacksets::StackSets;
use crate::{Lab, LabError, LabOptions, Progress};

/// Each function and the binary that is its code.
const FUNCTIONS: [(&str, &str); 15] = [
    (names::ORCHESTRATOR_FUNCTION, "orchestrator"),
    (names::COMPLETION_FUNCTION, "completion"),
    (names::API_FUNCTION, "api"),
    (names::WORKFLOW_FUNCTION, "workflow"),
    (names::RECONCILER_FUNCTION, "reconciler"),
    (names::NOTIFIER_FUNCTION, "notifier"),
    (names::CHECKPOINT_FUNCTION, "checkpoint"),
    (names::RECORDER_FUNCTION, "recorder"),
    (names::REMEDIATE_FUNCTION, "remediate"),
    (names::DESTROY_FUNCTION, "remediate"),
    (names::GUARD_FUNCTION, "guard"),
    ("redress-contain-compute", "contain"),
    ("redress-contain-data", "contain"),
    ("redress-contain-ec2", "contain"),
    ("redress-contain-iam", "contain"),
];

/// A running organisation.
pub struct Bed {
    /// The machine that it runs on.
    pub lab: Lab,
    /// Who is in it.
    pub organisation: Organisation,
    /// Its Security Hub.
    pub security_hub: Arc<SecurityHub>,
    /// Its Automation.
    pub ssm: Arc<Ssm>,
    /// Its clusters of EKS.
    pub eks: Arc<Eks>,
}

/// What to start.
#[derive(Clone)]
pub struct BedOptions {
    /// The repository.
    pub root: PathBuf,
    /// The directory of the functions' binaries, such as `target/debug`.
    pub binaries: PathBuf,
    /// The gateway's port; 0 for any free one.
    pub port: u16,
    /// The member accounts' names.
    pub members: Vec<String>,
    /// Told of slow steps.
    pub progress: Progress,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum BedError {
    /// A function was not built.
    #[error("the function binary `{0}` is missing; build it: cargo build --workspace")]
    NotBuilt(PathBuf),
    /// The machine.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The templates.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The deployment.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

impl Bed {
    /// Starts a lab and deploys the organisation of the repository's templates in it.
    ///
    /// # Errors
    /// When a binary is missing, an emulator does not start, or a stack does not come up.
    pub async fn start(options: BedOptions) -> Result<Self, BedError> {
        let members: Vec<&str> = options.members.iter().map(String::as_str).collect();
        let plan = Plan::of(&options.root, &members, options.progress.clone())?;
        Self::start_planned(options, plan).await
    }

    /// The same, with a plan that was changed: another policy set, a template with a line less.
    ///
    /// # Errors
    /// As [`Bed::start`].
    pub async fn start_planned(options: BedOptions, plan: Plan) -> Result<Self, BedError> {
        Self::start_with(options, plan, true).await
    }

    /// The organisation as a customer has it, without Redress: for `redress deploy`.
    ///
    /// # Errors
    /// As [`Bed::start`].
    pub async fn start_empty(options: BedOptions, plan: Plan) -> Result<Self, BedError> {
        Self::start_with(options, plan, false).await
    }

    async fn start_with(options: BedOptions, plan: Plan, deployed: bool) -> Result<Self, BedError> {
        let security_hub = Arc::new(SecurityHub::default());
        let ssm = Arc::new(Ssm::new(Options::default()));
        let eks = Arc::new(Eks::default());
        let lab = Lab::start(LabOptions {
            root: options.root.clone(),
            port: options.port,
            functions: functions(&options.binaries)?,
            services: vec![
                ssm.clone(),
                security_hub.clone(),
                Arc::new(Config::new(security_hub.clone())),
                eks.clone(),
                Arc::new(GuardDuty::default()),
                Arc::new(if deployed { StackSets::new(&ssm) } else { StackSets::new(&ssm).completing() }),
            ],
            progress: options.progress,
        })
        .await?;
        let ready = match deployed {
            true => deploy::organisation(lab.aws(), &ssm, &plan).await,
            false => deploy::ground(lab.aws(), &plan).await,
        };
        match ready {
            Ok(organisation) => Ok(Self { lab, organisation, security_hub, ssm, eks }),
            Err(error) => {
                lab.stop().await;
                Err(error.into())
            }
        }
    }
}

fn functions(binaries: &Path) -> Result<BTreeMap<String, PathBuf>, BedError> {
    let found = FUNCTIONS.iter().map(|(function, binary)| {
        let path = binaries.join(binary);
        if path.is_file() { Ok(((*function).to_owned(), path)) } else { Err(BedError::NotBuilt(path)) }
    });
    found.collect()
}
