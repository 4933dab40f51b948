//! The command line as types: names, help, examples. No command does anything here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use redress_common::arn::Arn;
use redress_common::ids::{AccountId, ControlId, Region, RemediationId};
use serde::Serialize;

use crate::deploy::doctor::CheckId;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: something did not work, or a check did not hold
  2  usage: the command line is not understood
  3  refused: AWS or policy said no; nothing was changed
  4  not found: there is no such remediation, control or lab
  5  no answer in time: it was asked for, and may still happen
  6  not known: nothing wrong was seen, and not everything could be looked at";

const START: &str = "\
Examples:
  redress lab demo                        see it all on this machine, without an AWS account
  redress lab up                          keep a lab organisation running
  redress audit list --since 24h          what was done lately
  redress why <RemediationId>             why a resource was touched
  redress undo <RemediationId> --wait     put it back";

/// Turns security findings into safe, proven, reversible fixes across the accounts of an AWS organisation.
#[derive(Debug, Parser)]
#[command(name = "redress", version, after_help = START, after_long_help = format!("{START}\n\n{EXIT_CODES}"))]
#[command(propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// One JSON document on standard output; errors as JSON on standard error.
    #[arg(long, global = true, conflicts_with = "plain", help_heading = "Output")]
    pub(crate) json: bool,
    /// No colour, and hashes in full; the default when standard output is not a terminal.
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) plain: bool,
    /// Another endpoint than AWS's, such as the lab's.
    #[arg(long, global = true, value_name = "URL", env = "AWS_ENDPOINT_URL", hide_env_values = true)]
    #[arg(help_heading = "Connection (to the administrator account)")]
    pub(crate) endpoint_url: Option<String>,
    /// The Region that Redress is deployed in; by default the one of your AWS configuration.
    #[arg(long, global = true, help_heading = "Connection (to the administrator account)")]
    pub(crate) region: Option<Region>,
    /// The api's URL, if not the one of function redress-api.
    #[arg(long, global = true, value_name = "URL", env = "REDRESS_API_URL", hide_env_values = true)]
    #[arg(help_heading = "Connection (to the administrator account)")]
    pub(crate) api_url: Option<String>,
    /// A profile of your AWS configuration.
    #[arg(long, global = true, env = "AWS_PROFILE", hide_env_values = true)]
    #[arg(help_heading = "Connection (to the administrator account)")]
    pub(crate) profile: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole organisation on this machine: try Redress without an AWS account.
    #[command(subcommand)]
    Lab(Lab),
    /// Game days: breaks something in the running lab on purpose, and says whether the way back is complete.
    #[command(subcommand)]
    Gameday(Gameday),
    /// Rolls Redress out over an organisation, upgrades it, and takes it away again.
    #[command(subcommand)]
    Deploy(Deploy),
    /// What was done, from the audit ledger.
    #[command(subcommand)]
    Audit(Audit),
    /// What the ledger says of a period: rates, times to fix, targets, and the evidence per framework.
    #[command(after_help = crate::report::options::EXAMPLES)]
    Report(Box<crate::report::options::Report>),
    /// Why a remediation happened, or did not: policy, trigger, who asked.
    #[command(
        after_help = "Example:\n  redress why 3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968\n  redress why <RemediationId> --json | jq .Policies"
    )]
    Why {
        /// The remediation.
        id: RemediationId,
    },
    /// Puts back what a remediation changed, unless the resource was changed since.
    #[command(
        after_help = "Examples:\n  redress undo <RemediationId> --reason \"breaks the public site\" --wait\n  redress undo <RemediationId> --dry-run"
    )]
    Undo(Undo),
    /// Asks for the remediation of one resource. Policy still decides.
    #[command(after_help = "Examples:
  redress remediate --control S3.8 --resource arn:aws:s3:::my-bucket --account 111122223333 --dry-run --wait
  redress remediate --control EC2.7 --account 111122223333 --resource-region eu-west-1 --wait

Without --resource, the account itself is the resource.")]
    Remediate(Remediate),
    /// Asks for the containment of a compromised resource. Policy still decides; `redress undo` gives it back.
    #[command(after_help = "Examples:
  redress contain arn:aws:ec2:eu-central-1:111122223333:instance/i-0abc --reason \"beacons to 198.51.100.7\" --wait
  redress contain arn:aws:s3:::my-bucket --account 111122223333 --reason \"INC-4711\" --dry-run --wait")]
    Contain(Contain),
    /// Incidents: what GuardDuty reported of a resource, what was done about it, and what an investigator takes along.
    #[command(subcommand)]
    Case(Case),
    /// What waits for a person's yes: the exact change, and the answer.
    #[command(subcommand)]
    Approvals(Approvals),
    /// What Redress can fix.
    #[command(subcommand)]
    Controls(Controls),
    /// What Redress may do: the policy set in force, the switches, the limits.
    #[command(subcommand)]
    Settings(Settings),
    /// Policy sets: which is in force, is one valid, what would one do.
    #[command(subcommand)]
    Policy(Policy),
    /// What nobody may touch, who answers for that, and until when.
    #[command(subcommand)]
    Exemption(Exemption),
    /// Breakers: what stopped itself because too much failed, or too much was done.
    #[command(subcommand)]
    Breaker(Breaker),
    /// Messages that could not be handled: what they are, and bringing them again.
    #[command(subcommand)]
    Dlq(Dlq),
    /// The old findings of a control, remediated at a pace that you choose.
    #[command(subcommand)]
    Campaign(Campaign),
    /// Where people are told: chats, pagers, tickets.
    #[command(subcommand)]
    Notify(Notify),
    /// Stops everything, or one account, unit or control: findings are told, nothing is started. In effect within seconds, and audited.
    #[command(after_help = "Examples:
  redress off --reason \"incident 4711\"
  redress off --account 111122223333 --reason \"they migrate today\"
  redress off --control S3.8 --reason \"breaks the public sites\"")]
    Off(Switching),
    /// Lets policy decide again, as `redress settings show` says.
    #[command(after_help = "Examples:
  redress on --reason \"incident 4711 is closed\"
  redress on --account 111122223333 --reason \"migrated\"

What failed while it was off is a backlog: it is told, not acted on. `redress campaign` paces it.")]
    On(Switching),
    /// Decides, records, notifies, answers dry runs and lets people undo, but changes nothing else.
    #[command(after_help = "Examples:
  redress observe --reason \"change freeze\"
  redress observe --ou ou-ab12-cd34ef56 --reason \"freeze of production\"")]
    Observe(Switching),
    /// A script that completes commands in your shell.
    #[command(after_help = "Examples:
  redress completion bash > ~/.local/share/bash-completion/completions/redress
  redress completion zsh > \"${fpath[1]}/_redress\"
  redress completion fish > ~/.config/fish/completions/redress.fish")]
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Deploy {
    /// Asks what is not given, and writes the settings file redress.toml.
    #[command(
        after_help = "Examples:\n  redress deploy init\n  redress deploy init --yes --organization o-abcdefghij --administrator 111122223333 --home-region us-east-1 --target-unit r-abcd --release redress-0.1.0"
    )]
    Init(Box<DeployInit>),
    /// What `apply` would do, where, and what it costs a month. Changes nothing.
    #[command(after_help = "Examples:
  redress deploy plan
  redress deploy plan --json | jq .Changes
  redress deploy plan --json | jq .Kept      what was set on the stacks by hand, and stays

A release for another processor than `architecture` names is refused.")]
    Plan(DeployPlace),
    /// Brings the release about: administrator account, pilot unit, everyone. Goes on where it stopped.
    #[command(after_help = "Example:
  redress deploy apply

A parameter that is no key of redress.toml keeps the value that the deployed stack or stack set has.
A release for another processor than `architecture` names is refused before anything is changed.")]
    Apply(DeployPlace),
    /// Every account and Region, and whether the release is there. Ends with 1 when something is not current.
    #[command(
        after_help = "Examples:\n  redress deploy status\n  redress deploy status --json | jq '.[] | select(.IsCurrent | not)'"
    )]
    Status(DeployPlace),
    /// The same as `apply` with another release, which the settings name then.
    #[command(after_help = "Example:
  redress deploy upgrade --release redress-0.2.0

A parameter that is no key of redress.toml keeps the value that the deployed stack or stack set has.
A release for another processor than `architecture` names is refused before anything is changed.")]
    Upgrade {
        /// The new release's folder.
        #[arg(long)]
        release: PathBuf,
        #[command(flatten)]
        place: DeployPlace,
    },
    /// Takes Redress from every account. Keeps the ledger, the evidence and the keys.
    #[command(
        after_help = "Examples:\n  redress deploy destroy\n  redress deploy destroy --confirm o-abcdefghij\n  redress deploy destroy --delete-evidence"
    )]
    Destroy(DeployDestroy),
    /// Finds what is missing or wrong in a deployment: where, why it matters, what to do. Changes nothing.
    #[command(after_help = "Examples:
  redress deploy doctor                                   every account of the organisation
  redress deploy doctor --account 111122223333 --json | jq '.Findings[].Code'
  redress deploy doctor --only roles --only forwarding
  redress deploy doctor --list

Ends with 0 when all is well, 1 when something is wrong, 6 when nothing wrong was seen but not everything could be looked at.
It needs rights to read in the administrator account, and a role to read with in each member account (docs/doctor.md).")]
    Doctor(Doctor),
}

/// Where the settings are.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeployPlace {
    /// The settings file; by default redress.toml in this folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DeployInit {
    #[command(flatten)]
    pub(crate) place: DeployPlace,
    /// Ask nothing.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Replace a file that is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// The organisation's id.
    #[arg(long)]
    pub(crate) organization: Option<String>,
    /// The administrator account.
    #[arg(long)]
    pub(crate) administrator: Option<AccountId>,
    /// Where the hub is, and every account's evidence.
    #[arg(long)]
    pub(crate) home_region: Option<Region>,
    /// Where accounts are watched as well; may be given again.
    #[arg(long)]
    pub(crate) further_region: Vec<Region>,
    /// A unit whose accounts get Redress; may be given again.
    #[arg(long)]
    pub(crate) target_unit: Vec<String>,
    /// The unit that goes first.
    #[arg(long)]
    pub(crate) pilot_unit: Option<String>,
    /// What the ExternalIds begin with; by default 32 random characters.
    #[arg(long, env = "REDRESS_EXTERNAL_ID", hide_env_values = true)]
    pub(crate) external_id_prefix: Option<String>,
    /// The release's folder.
    #[arg(long)]
    pub(crate) release: Option<PathBuf>,
    /// The functions' processor. By default that of the release, or arm64 where the release is not there yet.
    #[arg(long)]
    pub(crate) architecture: Option<Processor>,
    /// What may be done at first.
    #[arg(long)]
    pub(crate) policy_set: Option<PolicySet>,
    /// For how many days the functions' logs are kept.
    #[arg(long, default_value_t = 90)]
    pub(crate) log_retention_days: u16,
    /// Let the tables be deleted, for trials.
    #[arg(long)]
    pub(crate) no_deletion_protection: bool,
    /// Who is told by e-mail.
    #[arg(long)]
    pub(crate) notify_email: Option<String>,
    /// An aggregator of AWS Config in the administrator account.
    #[arg(long)]
    pub(crate) config_aggregator: Option<String>,
    /// A managed policy, by its name, that every account has and that every role is bound by.
    #[arg(long)]
    pub(crate) permissions_boundary: Option<String>,
    /// Self-managed stack sets: the ARN of the administration role.
    #[arg(long)]
    pub(crate) administration_role: Option<String>,
    /// Self-managed stack sets: the name of the role in each account.
    #[arg(long)]
    pub(crate) execution_role: Option<String>,
}

/// A Lambda function's processor.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Processor {
    /// The cheaper one.
    #[value(name = "arm64")]
    Arm64,
    /// Intel and AMD.
    #[value(name = "x86_64")]
    X86,
}

impl Processor {
    pub(crate) const fn architecture(self) -> crate::deploy::settings::Architecture {
        match self {
            Self::Arm64 => crate::deploy::settings::Architecture::Arm64,
            Self::X86 => crate::deploy::settings::Architecture::X86,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DeployDestroy {
    #[command(flatten)]
    pub(crate) place: DeployPlace,
    /// The organisation's id, instead of typing it when asked.
    #[arg(long, value_name = "ORGANIZATION")]
    pub(crate) confirm: Option<String>,
    /// Delete ledger, evidence, logs and dead letters, too: all that would be in the way of another deployment.
    #[arg(long)]
    pub(crate) delete_evidence: bool,
    /// `delete evidence of <organisation>`, instead of typing it when asked.
    #[arg(long, value_name = "SENTENCE", requires = "delete_evidence")]
    pub(crate) confirm_evidence: Option<String>,
    /// The role of each account with which its evidence is deleted.
    #[arg(long, default_value = "OrganizationAccountAccessRole", requires = "delete_evidence")]
    pub(crate) member_role: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Shows the main job: six bad resources in three accounts, six repairs, one undo. Stops what it started.
    #[command(after_help = "Examples:\n  redress lab demo\n  redress lab demo --json > demo.json")]
    Demo,
    /// Starts a lab organisation and keeps it running until Ctrl-C.
    #[command(
        after_help = "Examples:\n  redress lab up\n  redress lab up --members 5 --port 4570\n  redress lab up --empty"
    )]
    Up {
        /// How many member accounts.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
        members: u8,
        /// The port on 127.0.0.1 at which every AWS client finds the lab.
        #[arg(long, default_value_t = 4566)]
        port: u16,
        /// An organisation without Redress, to try `redress deploy` on.
        #[arg(long)]
        empty: bool,
    },
    /// Makes a resource bad and lets the lab's AWS Config notice.
    #[command(
        after_help = "Examples:\n  redress lab scenarios\n  redress lab break <scenario>\n  redress lab break <scenario> --account 222222222222"
    )]
    Break {
        /// Which one; `redress lab scenarios` lists them.
        scenario: String,
        /// The member account; by default the first one.
        #[arg(long)]
        account: Option<AccountId>,
    },
    /// Plays the cases of a control in a lab of its own: bad, dry run, fixed, read back, undone. Takes the control files as they are, generated or not.
    #[command(
        after_help = "Examples:\n  redress lab try Kinesis.1\n  redress lab try ssm-documents/controls/Kinesis.1.yaml"
    )]
    Try {
        /// A control, by its id or its file.
        control: String,
    },
    /// What `redress lab break` can break.
    #[command(after_help = "Example:\n  redress lab scenarios")]
    Scenarios,
    /// Stacks, broken resources, remediations, queues and dead letters of the running lab.
    #[command(after_help = "Example:\n  redress lab status --json | jq .Queues")]
    Status,
    /// Shell commands that point every AWS client at the running lab.
    #[command(after_help = "Examples:
  eval \"$(redress lab env)\"                            as the administrator's operator
  eval \"$(redress lab env --account 222222222222)\"     as the root of a member account")]
    Env {
        /// Be the root of this account instead of the operator of the administrator account.
        #[arg(long)]
        account: Option<AccountId>,
    },
    /// Every AWS call that the running lab has seen: who, what, on what, allowed or not.
    #[command(
        after_help = "Examples:\n  redress lab record --service ssm\n  redress lab record --principal Redress-Orchestrator --json"
    )]
    Record {
        /// Only calls of principals whose ARN contains this.
        #[arg(long)]
        principal: Option<String>,
        /// Only calls of this service: `ssm`, `s3`, `dynamodb`.
        #[arg(long)]
        service: Option<String>,
        /// Only calls that were denied.
        #[arg(long)]
        denied: bool,
    },
    /// Stops the running lab.
    #[command(after_help = "Example:\n  redress lab down")]
    Down,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Gameday {
    /// What can be played.
    #[command(after_help = "Examples:\n  redress gameday list\n  redress gameday list --json | jq -r '.[].Scenario'")]
    List,
    /// One scenario, for whoever leads the game: what is broken, what the players are told, when it is done.
    #[command(after_help = "Example:\n  redress gameday show wrong-fix")]
    Show {
        /// Which one; `redress gameday list` lists them.
        scenario: String,
    },
    /// Breaks it in the running lab, and says what the players are told and since when. Refused anywhere but in a lab on this machine.
    #[command(after_help = "Examples:
  redress gameday start silent-account
  redress gameday start contain-ec2 --account 444444444444
  redress gameday start wrong-fix --reveal               also says what was broken")]
    Start(GamedayStart),
    /// Whether the way back is complete: each point, and what to look at next. Ends with 1 while something is missing.
    #[command(
        after_help = "Examples:\n  redress gameday check silent-account\n  redress gameday check wrong-fix --json | jq '.Points[] | select(.Ok | not)'"
    )]
    Check {
        /// Which one; `redress gameday list` lists them.
        scenario: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GamedayStart {
    /// Which one; `redress gameday list` lists them.
    pub(crate) scenario: String,
    /// The member account; by default the scenario's own.
    #[arg(long)]
    pub(crate) account: Option<AccountId>,
    /// Also say what was broken.
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Break it once more, though it is not mended.
    #[arg(long)]
    pub(crate) again: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// All records of one remediation.
    #[command(
        after_help = "Examples:\n  redress audit show <RemediationId>\n  redress audit show <RemediationId> --evidence --json"
    )]
    Show {
        /// The remediation.
        id: RemediationId,
        /// Decrypts the evidence too: pre-image, change and post-image. Needs the role Redress-Evidence-Reader.
        #[arg(long)]
        evidence: bool,
        #[command(flatten)]
        reader: Reader,
    },
    /// Records, newest first.
    #[command(
        after_help = "Examples:\n  redress audit list --account 111122223333 --since 7d\n  redress audit list --resource arn:aws:s3:::my-bucket"
    )]
    List {
        /// Only records of this account.
        #[arg(long, conflicts_with = "resource")]
        account: Option<AccountId>,
        /// Only records of this resource, by its ARN.
        #[arg(long)]
        resource: Option<Arn>,
        /// Only records since then: `90m`, `24h`, `7d`, or a time such as `2026-03-01T00:00:00Z`.
        #[arg(long, default_value = "24h", value_parser = since)]
        since: Timestamp,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Writes a folder with which anybody checks an account's records without AWS: the chain, its checkpoints, the key.
    #[command(after_help = "Examples:
  redress audit export --account 111122223333 --to audit-2026-11
  redress audit export --account 111122223333 --to audit-2026-11 --since 90d
  redress audit verify --from audit-2026-11 --public-key checkpoints.pem

Of other accounts nothing is written. Give the auditor the public key another way than the folder (docs/audit.md).")]
    Export {
        /// The account.
        #[arg(long)]
        account: AccountId,
        /// The folder, which must be empty or not exist.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// Only checkpoints since then: `24h`, `90d`, or a time such as `2026-03-01T00:00:00Z`; by default those of the last 30 days
        /// for which there are records. The records are always all that there are.
        #[arg(long, value_parser = since)]
        since: Option<Timestamp>,
    },
    /// Whether the records of an account are as they were written, all that was done, and new: three verdicts.
    #[command(after_help = "Examples:
  redress audit verify --account 111122223333
  redress audit verify --account 111122223333 --public-key checkpoints.pem --cloudtrail AWSLogs/111122223333/CloudTrail
  redress audit verify --from audit-2026-11 --public-key checkpoints.pem     without AWS
  redress audit verify --from audit-2026-11 --public-key checkpoints.pem --now 2026-11-30T12:00:00Z --json | jq .Freshness

Ends with 0 when all that was checked holds, and with 1 when something does not. What is not checked says so (docs/audit.md).")]
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The account, in the ledger of the administrator account that you are connected to.
    #[arg(long, required_unless_present = "from")]
    pub(crate) account: Option<AccountId>,
    /// A folder that `redress audit export` wrote: AWS is not asked.
    #[arg(long, value_name = "FOLDER", conflicts_with = "account", requires = "public_key")]
    pub(crate) from: Option<PathBuf>,
    /// The key that checkpoints are signed with, as PEM, from somewhere that you trust; may be given again for an earlier one.
    /// With --account, KMS is asked for it when none is given.
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: Vec<PathBuf>,
    /// CloudTrail's log files of the account (`.json`, `.json.gz`), also in folders below: is there a change that the ledger does not know?
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cloudtrail: Option<PathBuf>,
    /// How old the newest checkpoint may be; there is one every 15 minutes.
    #[arg(long, value_name = "SPAN", default_value = "45m", value_parser = span)]
    pub(crate) max_age: SignedDuration,
    /// The time to compare with; by default the clock's.
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<Timestamp>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Case {
    /// Incidents, the one last heard of first.
    #[command(
        after_help = "Examples:\n  redress case list\n  redress case list --account 111122223333 --since 30d --json"
    )]
    List {
        /// Only incidents of this account. Without it the whole ledger is read.
        #[arg(long)]
        account: Option<AccountId>,
        /// Only what was heard since then: `24h`, `7d`, or a time such as `2026-03-01T00:00:00Z`.
        #[arg(long, default_value = "7d", value_parser = since)]
        since: Timestamp,
        /// Also the sample findings of GuardDuty's, with which people try the way.
        #[arg(long)]
        samples: bool,
    },
    /// What was reported and done, in order.
    #[command(after_help = "Example:\n  redress case show <CaseId>

What was taken of its resources is read by the role Redress-Evidence-Reader; without it the rest is shown.")]
    Show {
        /// The case; the id of any of its remediations does as well.
        id: RemediationId,
        #[command(flatten)]
        reader: Reader,
    },
    /// Says that an incident is over; what is reported of its resource afterwards is another one.
    #[command(
        after_help = "Example:\n  redress case close <CaseId> --reason \"rebuilt from a clean image\"\n\nNothing of the resource changes: `redress undo` gives back what was contained."
    )]
    Close {
        /// The case; the id of any of its remediations does as well.
        id: RemediationId,
        /// Why; goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Writes a folder: the case, its ledger records, its evidence in the clear, their SHA-256, and who took them.
    #[command(after_help = "Examples:
  redress case export <CaseId> --to case-4711
  redress case export <CaseId> --to case-4711 --without-evidence

The evidence is written in the clear, and needs the role Redress-Evidence-Reader: keep the folder as you would keep the account.")]
    Export {
        /// The case; the id of any of its remediations does as well.
        id: RemediationId,
        /// The folder, which must not exist.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// Leaves pre-images, changes and post-images out.
        #[arg(long)]
        without_evidence: bool,
        #[command(flatten)]
        reader: Reader,
    },
}

/// How the evidence is read.
#[derive(Debug, Clone, Args)]
pub(crate) struct Reader {
    /// The role in the member account that may read and decrypt evidence.
    #[arg(long, default_value = "Redress-Evidence-Reader")]
    pub(crate) reader_role: String,
    /// What the ExternalIds of your organisation begin with: the administrator stack's ExternalId. The account's id is put behind it.
    #[arg(long, env = "REDRESS_EXTERNAL_ID", hide_env_values = true)]
    pub(crate) external_id: Option<String>,
    /// The member's home Region, where its evidence bucket is; by default the connection's.
    #[arg(long)]
    pub(crate) home_region: Option<Region>,
}

#[derive(Debug, Args)]
pub(crate) struct Undo {
    /// The remediation to undo.
    pub(crate) id: RemediationId,
    /// Why; goes into the ledger.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// Only show what would be put back, from the evidence. Asks for nothing.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) reader: Reader,
}

#[derive(Debug, Args)]
pub(crate) struct Remediate {
    /// The control, by its Security Hub id; `Destroy.EC2Instance` and `Destroy.IAMUserKeys` end an incident, when another person approves.
    #[arg(long)]
    pub(crate) control: ControlId,
    /// The account that holds the resource.
    #[arg(long)]
    pub(crate) account: AccountId,
    /// The resource, by its ARN; left out, the account itself.
    #[arg(long)]
    pub(crate) resource: Option<Arn>,
    /// The resource's Region, when its ARN does not say; by default the connection's.
    #[arg(long)]
    pub(crate) resource_region: Option<Region>,
    /// Why; goes into the ledger.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// Only say what would be changed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Contain {
    /// The resource, by its ARN.
    pub(crate) resource: Arn,
    /// The account that holds it, when its ARN does not say, as a bucket's.
    #[arg(long)]
    pub(crate) account: Option<AccountId>,
    /// The resource's Region, when its ARN does not say; by default the connection's.
    #[arg(long)]
    pub(crate) resource_region: Option<Region>,
    /// Why; goes into the ledger.
    #[arg(long)]
    pub(crate) reason: String,
    /// Only say what would be changed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Whether to wait for the outcome.
#[derive(Debug, Clone, Args)]
pub(crate) struct Wait {
    /// Wait for the outcome, and exit by it.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How many seconds to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// What waits for an answer.
    #[command(after_help = "Examples:
  redress approvals list
  redress approvals list --all --json | jq '.[].Status'")]
    List {
        /// Also what was answered, has expired or is void.
        #[arg(long)]
        all: bool,
    },
    /// What would be done, where, why, what it would touch, and the exact change.
    #[command(after_help = "Example:\n  redress approvals show 3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968")]
    Show {
        /// The remediation.
        id: RemediationId,
        #[command(flatten)]
        reader: Reader,
    },
    /// Says yes: exactly the plan that was shown is applied, unless the resource was changed since.
    #[command(after_help = "Examples:
  redress approvals approve <RemediationId> --plan 9f86d081884c --reason \"agreed with the team\" --wait
  redress approvals approve <RemediationId> --reason \"agreed with the team\"")]
    Approve(Answering),
    /// Says no: nothing is changed, and rules leave the resource alone until a person asks.
    #[command(after_help = "Example:\n  redress approvals deny <RemediationId> --reason \"the site needs it\"")]
    Deny(Answering),
}

#[derive(Debug, Args)]
pub(crate) struct Answering {
    /// The remediation.
    pub(crate) id: RemediationId,
    /// The beginning of the hash of the plan that you saw: an answer to another one is refused.
    #[arg(long, value_name = "SHA256")]
    pub(crate) plan: Option<String>,
    /// Why; goes into the ledger.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Controls {
    /// All controls.
    #[command(after_help = "Example:\n  redress controls list")]
    List,
    /// One control: what reports it, what is changed, how much harm that may do.
    #[command(after_help = "Example:\n  redress controls show S3.8")]
    Show {
        /// The control, by its Security Hub id.
        control: ControlId,
    },
    /// The controls in whose id, title, action, Config rules, resource types or frameworks all of these words are.
    #[command(after_help = "Examples:\n  redress controls search rds backup\n  redress controls search \"CIS v3.0.0\"")]
    Search {
        /// Words, in any order and case.
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// What becomes of a finding that this control, Config rule or GuardDuty type reports.
    #[command(after_help = "Examples:
  redress controls explain S3.8
  redress controls explain securityhub-restricted-ssh-1a2b3c4d
  redress controls explain OrgConfigRule-required-tags-rhfpw3xy")]
    Explain {
        /// As the finding names it.
        check: String,
    },
    /// Whether control files (and the cases beside them) are what they should be: errors name line and field.
    #[command(after_help = "Example:\n  redress controls check ssm-documents/controls/S3.8.yaml")]
    Check {
        /// Control files.
        #[arg(required = true)]
        files: Vec<std::path::PathBuf>,
    },
    /// Writes the two files of a new control, to be filled in: the control, and its case for the lab.
    #[command(after_help = "Example:\n  redress controls new SQS.100 --root ~/redress")]
    New {
        /// Its id: `Family.Number`, or a name of your own after the point.
        control: ControlId,
        /// The repository.
        #[arg(long, default_value = ".")]
        root: std::path::PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// What is in force.
    #[command(after_help = "Example:\n  redress settings show")]
    Show,
    /// Changes what is in force; only what is given.
    #[command(after_help = "Examples:
  redress settings set --policy-set pilot --pilot-accounts 111122223333,444455556666 --reason \"CHG-1234\"
  redress settings set --time-zone Europe/Berlin --reason \"office hours are ours\"
  redress settings set --limit AccountPerHour=50 --limit InFlight=40 --reason \"start small\"")]
    Set(SettingsSet),
}

#[derive(Debug, Args)]
#[group(required = false, multiple = true)]
pub(crate) struct SettingsSet {
    /// The shipped policy set that decides; your own comes by `redress policy set`.
    #[arg(long)]
    pub(crate) policy_set: Option<PolicySet>,
    /// Where the set `pilot` may act, separated by commas; empty for nowhere.
    #[arg(long, value_name = "ACCOUNTS")]
    pub(crate) pilot_accounts: Option<String>,
    /// The IANA time zone of policies' local time; empty for UTC.
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// ARNs of SSM Change Calendars, separated by commas; empty for none.
    #[arg(long, value_name = "ARNS")]
    pub(crate) change_calendars: Option<String>,
    /// A limit: InFlight, AccountPerHour, OrganisationPerHour, ControlFailurePercent, ControlMinimum, CoolDownSeconds or
    /// ApprovalSeconds.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = limit)]
    pub(crate) limits: Vec<(String, u32)>,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

/// A limit's name and number.
fn limit(text: &str) -> Result<(String, u32), String> {
    let expected = || format!("`{text}` is no limit such as AccountPerHour=50");
    let (name, number) = text.split_once('=').ok_or_else(expected)?;
    Ok((name.to_owned(), number.parse().map_err(|_| expected())?))
}

/// A switch.
#[derive(Debug, Clone, Args)]
pub(crate) struct Switching {
    /// Only this account.
    #[arg(long, group = "scope")]
    pub(crate) account: Option<AccountId>,
    /// Only this organisational unit and all below it, by its id.
    #[arg(long, group = "scope")]
    pub(crate) ou: Option<String>,
    /// Only this control.
    #[arg(long, group = "scope")]
    pub(crate) control: Option<ControlId>,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Exemption {
    /// Exempts a resource, or a control in an account or unit, until a day that you name.
    #[command(after_help = "Examples:
  redress exemption add legacy-website --resource arn:aws:s3:::legacy --owner \"team web\" --until 2026-06-30T00:00:00Z \\
      --reason \"public on purpose until it moves\"
  redress exemption add sandbox --ou ou-ab12-cd34ef56 --control EC2.13 --owner \"platform\" --days 30 --reason \"CHG-77\"")]
    Add(Box<ExemptionAdd>),
    /// All exemptions, also those that ended lately.
    #[command(after_help = "Example:\n  redress exemption list --json | jq '.[].Id'")]
    List,
    /// Ends an exemption.
    #[command(after_help = "Example:\n  redress exemption remove legacy-website --reason \"it moved\"")]
    Remove {
        /// Its name.
        id: String,
        /// Why; goes into the ledger.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["control", "account", "ou", "resource"])))]
#[command(group(clap::ArgGroup::new("end").required(true).args(["until", "days"])))]
pub(crate) struct ExemptionAdd {
    /// Its name: lower-case letters, digits and hyphens. Policies' verdicts show it as `exemption.<name>`.
    pub(crate) id: String,
    /// Only this control.
    #[arg(long)]
    pub(crate) control: Option<ControlId>,
    /// Only this account.
    #[arg(long)]
    pub(crate) account: Option<AccountId>,
    /// Only this organisational unit and all below it, by its id.
    #[arg(long)]
    pub(crate) ou: Option<String>,
    /// Only this resource, by its ARN.
    #[arg(long)]
    pub(crate) resource: Option<Arn>,
    /// Who answers for it: a person or team.
    #[arg(long)]
    pub(crate) owner: String,
    /// Until when, such as `2026-06-30T00:00:00Z`; a year at most.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// For so many days.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=366))]
    pub(crate) days: Option<u16>,
    /// Why; goes into the ledger.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Breaker {
    /// Breakers that are open, and those that ever were.
    #[command(after_help = "Example:\n  redress breaker list")]
    List,
    /// Closes a breaker before its own probe does. What failed until now is forgiven.
    #[command(after_help = "Examples:
  redress breaker close control:S3.8 --reason \"the runbook is mended\"
  redress breaker close organisation --reason \"it was the scanner\"")]
    Close {
        /// `organisation`, `account:<id>` or `control:<id>`.
        scope: String,
        /// Why; goes into the ledger.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Notify {
    /// The destinations, and what each gets. Secrets are in AWS Secrets Manager; here is only where they lie.
    #[command(after_help = "Examples:\n  redress notify list\n  redress notify list --json > destinations.json")]
    List,
    /// Reads a list without setting it: what is wrong is said by entry and field.
    #[command(after_help = "Example:\n  redress notify check destinations.yaml")]
    Check {
        /// A list in YAML or JSON; docs/notifications.md says what is in it.
        file: PathBuf,
    },
    /// Sets the whole list.
    #[command(after_help = "Example:\n  redress notify set destinations.yaml --reason \"the team moved to Teams\"")]
    Set {
        /// A list in YAML or JSON; docs/notifications.md says what is in it.
        file: PathBuf,
        /// Why; goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Sends a marked test message to one destination, whatever it filters.
    #[command(after_help = "Example:\n  redress notify test soc-slack --reason \"set up today\"")]
    Test {
        /// The destination's name.
        destination: String,
        /// Why; goes into the ledger.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// Every message that waits in a dead-letter queue, and those that were parked.
    #[command(
        after_help = "Examples:\n  redress dlq list\n  redress dlq list --json | jq '.Messages[] | select(.Code == \"failed\")'"
    )]
    List,
    /// One message, whole.
    #[command(after_help = "Example:\n  redress dlq show 3f2b6c1e-8a57-4d0c-9f5e-1d2c3b4a5968")]
    Show {
        /// Its id, from `redress dlq list`.
        id: String,
    },
    /// Sends messages back to the queue that they came from. One that came back three times is parked.
    #[command(after_help = "Examples:
  redress dlq redrive --reason \"the role is mended\"
  redress dlq redrive 3f2b6c1e-8a57-4d0c-9f5e-1d2c3b4a5968 --reason \"the control is deployed now\"")]
    Redrive {
        /// Only this message, by its id from `redress dlq list`.
        id: Option<String>,
        /// Why; goes into the ledger.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only this member account; may be given more than once. By default all of the organisation, or else those that Redress has seen.
    #[arg(long = "account")]
    pub(crate) accounts: Vec<AccountId>,
    /// Only this check; may be given more than once.
    #[arg(long, value_name = "CHECK", value_enum, hide_possible_values = true)]
    pub(crate) only: Vec<CheckId>,
    /// Lists the checks, and looks at nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// Also expect Redress in this Region of each member account; may be given more than once. Regions that one account has are
    /// expected of all.
    #[arg(long = "member-region", value_name = "REGION")]
    pub(crate) member_regions: Vec<Region>,
    /// The role to read with in the member accounts.
    #[arg(long, value_name = "ROLE", default_value = "OrganizationAccountAccessRole")]
    pub(crate) member_role: String,
    /// The ExternalId that this role asks for, if it does.
    #[arg(long, value_name = "ID", env = "REDRESS_MEMBER_ROLE_EXTERNAL_ID", hide_env_values = true)]
    pub(crate) member_external_id: Option<String>,
    /// Reads every document's content and not only that of Redress-Control: some 150 calls more an account and Region.
    #[arg(long)]
    pub(crate) contents: bool,
    /// How many member accounts to look at side by side.
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) parallel: u8,
}

/// What the reconciler releases of a campaign in an hour (`PER_HOUR` of `admin/src/reconcile/waiting.rs`). The api
/// refuses more than this, and more than one account's hourly budget.
const MOST_PER_HOUR: i64 = 400;

#[derive(Debug, Subcommand)]
pub(crate) enum Campaign {
    /// Lists a control's open findings and what policy would do with them, and puts them aside. Changes no resource.
    #[command(after_help = "Examples:
  redress campaign plan close-buckets --control S3.8 --per-hour 20 --reason \"backlog of 2026\"
  redress campaign plan close-dev --control S3.8 --account 111122223333 --account 444455556666 --per-hour 5 --reason \"dev first\"")]
    Plan {
        /// Its name: lower-case letters, digits and hyphens.
        name: String,
        /// The control.
        #[arg(long)]
        control: ControlId,
        /// Only this account; may be given more than once.
        #[arg(long = "account")]
        accounts: Vec<AccountId>,
        /// At most so many findings an hour: no more than limit AccountPerHour (200 unless it was changed), and never
        /// more than 400.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=MOST_PER_HOUR))]
        per_hour: u32,
        /// Why; goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Releases findings at its pace, from now on. Policy decides on each.
    #[command(after_help = "Example:\n  redress campaign start close-buckets --reason \"CHG-1234 is approved\"")]
    Start(CampaignRun),
    /// Releases nothing until it is started again. What was released goes on.
    #[command(after_help = "Example:\n  redress campaign pause close-buckets --reason \"the web team asks\"")]
    Pause(CampaignRun),
    /// All campaigns.
    #[command(after_help = "Example:\n  redress campaign list")]
    List,
    /// One campaign: where it stands, and how long it will take.
    #[command(after_help = "Example:\n  redress campaign show close-buckets")]
    Show {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CampaignRun {
    /// Its name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Reason {
    /// Why; goes into the ledger.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// The policy set in force, with its version and hash.
    #[command(
        after_help = "Examples:\n  redress policy show\n  redress policy show --json | jq -r .Source > mine.cedar"
    )]
    Show,
    /// Says whether a policy set is valid and, where it is not, why. Reads nothing but the file.
    #[command(after_help = "Examples:\n  redress policy check mine.cedar\n  redress policy check --set standard")]
    Check {
        /// The file; `-` is standard input.
        #[arg(required_unless_present = "set", conflicts_with = "set")]
        file: Option<PathBuf>,
        /// A shipped set.
        #[arg(long)]
        set: Option<PolicySet>,
    },
    /// Brings a policy set of your own into force. It is checked here first, and again where it is stored.
    #[command(
        after_help = "Example:\n  redress policy diff --file mine.cedar && redress policy set mine.cedar --reason CHG-1234"
    )]
    Set {
        /// The file; `-` is standard input.
        file: PathBuf,
        #[command(flatten)]
        reason: Reason,
    },
    /// Goes back to an earlier policy set.
    #[command(
        after_help = "Examples:\n  redress policy rollback --reason \"notifies too much\"\n  redress policy rollback --to 3 --reason \"the last good one\""
    )]
    Rollback {
        /// A version of your own sets; left out, what was in force before.
        #[arg(long)]
        to: Option<u64>,
        #[command(flatten)]
        reason: Reason,
    },
    /// What a policy set says about a finding, and why. Changes nothing.
    #[command(after_help = POLICY_TEST)]
    Test(Box<PolicyTest>),
    /// Which of the last findings another policy set would treat otherwise than the one in force.
    #[command(after_help = "Examples:
  redress policy diff --file mine.cedar
  redress policy diff --set standard --since 24h --account 111122223333
  redress policy diff --file mine.cedar --last 500 --json | jq '.Changes[].Resource'")]
    Diff {
        #[command(flatten)]
        set: OtherSet,
        /// At most so many findings, the newest.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        last: u16,
        /// Only findings decided since then: `90m`, `24h`, `7d`, or a time such as `2026-03-01T00:00:00Z`.
        #[arg(long, default_value = "7d", value_parser = since)]
        since: Timestamp,
        /// Only findings of this account.
        #[arg(long)]
        account: Option<AccountId>,
    },
}

const POLICY_TEST: &str = "\
Examples:
  redress policy test finding.json --set standard --evidence nothing
  redress policy test event.json --file mine.cedar --at 2026-11-20T16:30:00Z --time-zone Europe/Berlin
  redress policy test finding.json                     by what is in force: set, exemptions, settings, account
  redress policy test --remediation <RemediationId> --file mine.cedar

FINDING is an EventBridge event of Security Hub, Config or GuardDuty, or an ASFF finding as `aws securityhub get-findings`
prints it. Without --set and --file, and with --remediation, the administrator account's tables are read; else nothing is.";

/// A policy set that may not be in force.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct OtherSet {
    /// A file with the policy set; `-` is standard input.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// A shipped set.
    #[arg(long)]
    pub(crate) set: Option<PolicySet>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyTest {
    /// The finding or event; `-` is standard input.
    #[arg(value_name = "FINDING", required_unless_present = "remediation", conflicts_with = "remediation")]
    pub(crate) finding: Option<PathBuf>,
    /// The finding of this remediation, with the facts as they were then.
    #[arg(long)]
    pub(crate) remediation: Option<RemediationId>,
    /// A shipped set instead of the one in force.
    #[arg(long, conflicts_with = "file")]
    pub(crate) set: Option<PolicySet>,
    /// A policy set from a file instead of the one in force.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) facts: Facts,
}

/// Facts to decide by, instead of those that are known.
#[derive(Debug, Args)]
pub(crate) struct Facts {
    /// The time of the decision; by default now, or that of the remediation.
    #[arg(long, value_name = "TIME", help_heading = "Facts")]
    pub(crate) at: Option<Timestamp>,
    /// The time zone of local times, such as `Europe/Berlin`.
    #[arg(long, value_name = "NAME", help_heading = "Facts")]
    pub(crate) time_zone: Option<String>,
    /// As if this person asked, by their ARN.
    #[arg(long, value_name = "ARN", conflicts_with = "campaign", help_heading = "Facts")]
    pub(crate) by: Option<String>,
    /// As if this campaign asked.
    #[arg(long, value_name = "NAME", help_heading = "Facts")]
    pub(crate) campaign: Option<String>,
    /// As if the account were one of the pilot accounts.
    #[arg(long, help_heading = "Facts")]
    pub(crate) pilot: bool,
    /// What Organizations says of the account: JSON with `Name`, `OuPath` (ids from the root down) and `Tags`.
    #[arg(long, value_name = "FILE", help_heading = "Facts")]
    pub(crate) account_facts: Option<PathBuf>,
    /// What the guard found out about the resource: JSON such as `{"Tags":{"env":"dev"},"DependentCount":3}`; or `nothing`:
    /// it looked and found nothing.
    #[arg(long, value_name = "FILE", help_heading = "Facts")]
    pub(crate) evidence: Option<PathBuf>,
    /// What the change calendars say.
    #[arg(long, help_heading = "Facts")]
    pub(crate) calendar: Option<CalendarIs>,
}

/// What the change calendars say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CalendarIs {
    /// There is none.
    None,
    /// All are open.
    Open,
    /// One is closed.
    Closed,
    /// It cannot be read.
    Unreadable,
}

/// The policy sets that are shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PolicySet {
    /// Tells people; changes nothing. The default.
    Observe,
    /// Acts on reversible controls of accounts that opted in.
    Pilot,
    /// Acts on reversible controls, asks before disruptive ones.
    Standard,
}

/// A time, or how long ago.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let expected =
        || format!("`{text}` is neither a time such as 2026-03-01T00:00:00Z nor a span such as 90m, 24h or 7d");
    let ago = duration(text).ok_or_else(expected)?;
    Timestamp::now().checked_sub(ago).map_err(|_| expected())
}

/// How long.
fn span(text: &str) -> Result<SignedDuration, String> {
    duration(text).ok_or_else(|| format!("`{text}` is no span such as 45m, 24h or 7d"))
}

fn duration(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().last()?;
    let number: i64 = text.get(..text.len() - unit.len_utf8())?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).filter(|span| *span >= 0).map(SignedDuration::from_secs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|sub| check(sub, &path));
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "`{path}` has no example in its help");
                assert!(help.contains("redress "), "the example of `{path}` is not a command");
            }
        }
        check(&Arguments::command(), "");
    }

    #[test]
    fn the_long_help_lists_the_exit_codes() {
        assert!(Arguments::command().render_long_help().to_string().contains("3  refused"));
    }

    #[test]
    fn a_campaign_is_not_planned_faster_than_the_api_ever_lets_it_be() {
        let plan = |per_hour: &str| {
            let asked =
                ["redress", "campaign", "plan", "a", "--control", "S3.8", "--reason", "r", "--per-hour", per_hour];
            Arguments::try_parse_from(asked).map(|_| ()).map_err(|error| error.exit_code())
        };
        assert_eq!((plan("1"), plan("400")), (Ok(()), Ok(())));
        assert_eq!((plan("0"), plan("401")), (Err(2), Err(2)));
    }

    #[test]
    fn json_and_plain_exclude_each_other() {
        assert!(Arguments::try_parse_from(["redress", "controls", "list", "--json", "--plain"]).is_err());
        assert!(Arguments::try_parse_from(["redress", "controls", "list", "--json"]).is_ok());
    }

    #[test]
    fn a_malformed_remediation_id_is_a_usage_error_that_says_what_is_expected() {
        let error = Arguments::try_parse_from(["redress", "why", "42"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("a RemediationId (a UUID)"), "{error}");
    }

    #[test]
    fn a_timeout_without_waiting_is_refused() {
        let id = "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968";
        assert!(Arguments::try_parse_from(["redress", "undo", id, "--timeout", "3"]).is_err());
        assert!(Arguments::try_parse_from(["redress", "undo", id, "--wait", "--timeout", "3"]).is_ok());
    }

    #[test]
    fn since_takes_a_time_or_a_span() {
        assert_eq!(since("2026-03-01T00:00:00Z").unwrap(), "2026-03-01T00:00:00Z".parse().unwrap());
        let day = Timestamp::now().as_second() - since("24h").unwrap().as_second();
        assert!((86_399..=86_401).contains(&day));
        for wrong in ["", "d", "7", "7x", "-7d", "99999999999999999d", "7é"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_audit_is_of_an_account_or_of_files_with_a_key_of_ones_own() {
        let parse = |more: &[&str]| Arguments::try_parse_from([&["redress", "audit", "verify"][..], more].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--account", "111122223333"]).is_ok());
        assert!(parse(&["--from", "folder"]).is_err(), "a folder vouches for itself");
        assert!(parse(&["--from", "folder", "--public-key", "key.pem", "--max-age", "2h"]).is_ok());
        assert!(parse(&["--from", "folder", "--public-key", "key.pem", "--account", "111122223333"]).is_err());
        assert!(parse(&["--account", "111122223333", "--max-age", "2026-03-01T00:00:00Z"]).is_err());
    }
}
