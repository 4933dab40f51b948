//! One failed check on one resource, whatever told us, as one [`Finding`].
//!
//! Each reporter's wire format is known by one submodule and by nothing else. Parsing is pure, total
//! (any bytes give a value or a typed error, never a panic) and bounded in size.

mod actors;
mod asff;
mod config;
mod envelope;
mod guardduty;
mod indicators;
mod json;
mod ocsf;
mod own;
mod resource;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arn::Arn;
use crate::ids::{AccountId, ControlId, Generation, Region};

pub use envelope::{Inbound, MAX_BODY, MAX_CUSTOM_ACTION_FINDINGS, MAX_FINDINGS, ParseError, parse};
pub use own::released;

/// A finding, normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The reporter's own id of the finding; for Config, one made of rule and resource.
    pub id: String,
    /// Security Hub's product, needed to update the finding there. `None` when Security Hub did not tell us.
    pub product_arn: Option<Arn>,
    /// The state of the world it speaks of.
    pub generation: Generation,
    /// The failed check, in its reporter's words. [`crate::catalogue::Catalogue::resolve`] gives the control.
    pub check: Check,
    /// The account that holds the resource.
    pub account: AccountId,
    /// The Region that holds the resource.
    pub region: Region,
    /// The resource.
    pub resource: Resource,
    /// How bad it is.
    pub severity: Severity,
    /// The reporter's title.
    pub title: String,
    /// Where the finding stands in Security Hub; `New` for reporters without workflow.
    pub workflow: WorkflowStatus,
    /// What brought it here.
    pub trigger: Trigger,
    /// When the event that brought it was made.
    pub event_time: Timestamp,
    /// When the reporter first saw it; when that is not told, when the event was made. What says nothing counts as old.
    #[serde(default)]
    pub first_seen: Timestamp,
    /// What it says of the other side, for a threat list: addresses, domains, file hashes.
    #[serde(default)]
    pub indicators: Vec<String>,
    /// Whom it names besides the resource, of the same account: a role, a user, an instance and its profile. Only `GuardDuty` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Arn>,
    /// GuardDuty made it up, so that people can try the way: nothing is changed for its sake, ever.
    #[serde(default)]
    pub sample: bool,
}

impl Finding {
    /// No title is longer, in characters: ASFF's own limit.
    pub const MAX_TITLE: usize = 256;
}

/// The failed check, in the words of its reporter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Check {
    /// A Security Hub control id, of a consolidated finding or translated from a standard's own.
    Control(ControlId),
    /// The name of an AWS Config rule, such as `securityhub-s3-bucket-…-1a2b3c4d` or `required-tags`.
    ConfigRule(String),
    /// A GuardDuty finding type, such as `Recon:EC2/PortProbeUnprotectedPort`.
    GuardDutyType(String),
    /// None: a person asks to contain the resource, whatever was found.
    Containment,
}

/// The resource of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its ARN; an account is its root's ARN ([`Arn::account_root`]).
    pub arn: Arn,
    /// Its type as CloudFormation names it, such as `AWS::S3::Bucket`; `AWS::::Account` for an account.
    pub kind: String,
    /// Its name or id: the last part of the ARN.
    pub name: String,
}

/// Severity as a number from 0 to 100 (Security Hub's `Normalized`) and its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Severity {
    /// 0 to 100.
    pub score: u8,
    /// The label that goes with it.
    pub label: SeverityLabel,
}

impl Severity {
    /// The severity of a label, with the score that Security Hub gives it.
    #[must_use]
    pub const fn of_label(label: SeverityLabel) -> Self {
        let score = match label {
            SeverityLabel::Informational => 0,
            SeverityLabel::Low => 1,
            SeverityLabel::Medium => 40,
            SeverityLabel::High => 70,
            SeverityLabel::Critical => 90,
        };
        Self { score, label }
    }

    /// The severity of a score, with the label that Security Hub gives it.
    #[must_use]
    pub const fn of_score(score: u8) -> Self {
        let label = match score {
            0 => SeverityLabel::Informational,
            1..40 => SeverityLabel::Low,
            40..70 => SeverityLabel::Medium,
            70..90 => SeverityLabel::High,
            90.. => SeverityLabel::Critical,
        };
        Self { score, label }
    }

    /// The severity of a score that is ten times GuardDuty's, whose low findings begin at 1.0.
    #[must_use]
    pub const fn of_guardduty(score: u8) -> Self {
        match score {
            0..10 => Self { score, label: SeverityLabel::Informational },
            _ => Self::of_score(score),
        }
    }
}

/// Security Hub's severity labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are AWS's")]
pub enum SeverityLabel {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl SeverityLabel {
    /// Every label, from the mildest.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The label as ASFF writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "INFORMATIONAL",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Security Hub's workflow status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are AWS's")]
pub enum WorkflowStatus {
    New,
    Notified,
    Resolved,
    Suppressed,
}

/// What brought a finding here. Everything but `Config`, `Import` and `GuardDuty` is a person asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// AWS Config saw a resource become NON_COMPLIANT.
    Config,
    /// Security Hub imported or updated a finding.
    Import,
    /// GuardDuty reported a finding.
    GuardDuty,
    /// Somebody chose a Security Hub custom action on it.
    CustomAction(CustomAction),
    /// Somebody asked with the `redress` command.
    Operator {
        /// The ARN of the asking principal, as EventBridge or STS vouches for it.
        by: String,
        /// What was asked for.
        mode: crate::contract::Mode,
        /// Why, in the asker's words; empty when they did not say.
        #[serde(default)]
        reason: String,
    },
}

impl Trigger {
    /// Whether a person asked, rather than a rule.
    #[must_use]
    pub const fn is_manual(&self) -> bool {
        matches!(self, Self::CustomAction(_) | Self::Operator { .. })
    }
}

/// The Security Hub custom actions that Redress creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CustomAction {
    /// `RedressRemediate`: fix it.
    Remediate,
    /// `RedressDryRun`: say what would be changed.
    DryRun,
    /// `RedressUndo`: put back what the last remediation of this resource changed.
    Undo,
    /// `RedressContain`: contain the resource.
    Contain,
    /// `RedressEscalate`: tell those on call at once. Policy is not asked, and nothing is changed.
    Escalate,
}
