//! What policy is asked: as the pipeline has it, and as the ledger keeps it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use redress_common::catalogue::Risk;
use redress_common::contract::{GuardEvidence, Mode};
use redress_common::finding::{Severity, Trigger};
use redress_common::ids::{AccountId, ControlId, Region};
use redress_common::items::account::AccountFacts;
use serde::{Deserialize, Serialize};

use super::PolicyError;

/// What the SSM Change Calendars say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Calendar {
    /// There is none.
    #[default]
    None,
    /// All are open.
    Open,
    /// One is closed.
    Closed,
    /// There is one, and it cannot be read: the answer to policies that speak of it is not known.
    Unreadable,
}

/// What policy is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What asked.
    pub trigger: &'a Trigger,
    /// The campaign that released the finding: then it is a schedule that asks, not the trigger's rule.
    pub campaign: Option<&'a str>,
    /// What it asks for.
    pub mode: Mode,
    /// The account is one of the pilot accounts.
    pub pilot: bool,
    /// The account of the resource.
    pub account: &'a AccountId,
    /// What Organizations says of it; `None` when that is not known.
    pub account_facts: Option<&'a AccountFacts>,
    /// The Region in which the remediation would run.
    pub region: &'a Region,
    /// The resource's ARN.
    pub arn: &'a str,
    /// The resource's type.
    pub kind: &'a str,
    /// The control.
    pub control: &'a ControlId,
    /// What the finding's reporter calls it; empty for an undo.
    pub finding_type: &'a str,
    /// The finding's severity.
    pub severity: Severity,
    /// The control's risk.
    pub risk: Risk,
    /// The frameworks that the control belongs to.
    pub frameworks: &'a BTreeSet<String>,
    /// What the guard found out; `None` when it was not asked, or did not answer.
    pub evidence: Option<&'a GuardEvidence>,
    /// The time of the decision.
    pub now: Timestamp,
    /// The settings' time zone; `None` is UTC.
    pub time_zone: Option<&'a str>,
    /// When the finding was first seen.
    pub first_seen: Timestamp,
    /// What the change calendars say.
    pub calendar: Calendar,
    /// A breaker of the account, the control or the organisation is open.
    pub breaker_open: bool,
    /// The finding is a sample of GuardDuty's.
    pub sample: bool,
}

/// Who or what asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asker {
    /// A rule: `Config`, `Import`, `GuardDuty`.
    Rule(String),
    /// A person: their ARN, or `CustomAction` when Security Hub does not say who.
    Analyst(String),
    /// A campaign.
    Schedule(String),
}

impl Asker {
    /// The entity type.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Rule(_) => "Rule",
            Self::Analyst(_) => "Analyst",
            Self::Schedule(_) => "Schedule",
        }
    }

    /// The entity's id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Rule(id) | Self::Analyst(id) | Self::Schedule(id) => id,
        }
    }
}

/// Everything that policy was asked: detail `Question` of the record `Planned`, so that the same can be asked of another set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Asked {
    /// Who or what asks.
    pub by: Asker,
    /// The trigger's kind: `Config`, `Import`, `GuardDuty`, `CustomAction`, `Operator`.
    pub trigger: String,
    /// What for.
    pub mode: Mode,
    /// The account is one of the pilot accounts.
    #[serde(default)]
    pub pilot: bool,
    /// The account of the resource.
    pub account: AccountId,
    /// What Organizations says of it, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_facts: Option<AccountFacts>,
    /// The Region in which the remediation would run.
    pub region: Region,
    /// The resource's ARN.
    pub resource: String,
    /// The resource's type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The control.
    pub control: ControlId,
    /// What the finding's reporter calls it, such as a GuardDuty type; empty for an undo.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub finding_type: String,
    /// The finding's severity.
    pub severity: Severity,
    /// The control's risk.
    pub risk: Risk,
    /// The frameworks that the control belongs to.
    #[serde(default)]
    pub frameworks: BTreeSet<String>,
    /// What the guard found out, when it was asked; the dependents only by their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<GuardEvidence>,
    /// The time of the decision.
    pub now: Timestamp,
    /// The settings' time zone; absent is UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// When the finding was first seen.
    pub first_seen: Timestamp,
    /// What the change calendars say.
    #[serde(default)]
    pub calendar: Calendar,
    /// A breaker was open.
    #[serde(default)]
    pub breaker_open: bool,
    /// The finding is a sample of GuardDuty's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
}

impl Asked {
    /// The ledger keeps no longer question, in bytes; fifty tags of the greatest length fit.
    pub const MAX_TEXT: usize = 64 * 1024;

    /// As the ledger keeps it; `None` when it is too long, which no finding of AWS makes it.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok().filter(|text| text.len() <= Self::MAX_TEXT)
    }

    /// From the ledger.
    ///
    /// # Errors
    /// When it is of a release that asked something else.
    pub fn of_text(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl From<&Question<'_>> for Asked {
    fn from(question: &Question<'_>) -> Self {
        let by = match (question.campaign, question.trigger) {
            (_, Trigger::Operator { by, .. }) => Asker::Analyst(by.clone()),
            (_, trigger) if trigger.is_manual() => Asker::Analyst(kind(trigger).to_owned()),
            (Some(campaign), _) => Asker::Schedule(campaign.to_owned()),
            (None, trigger) => Asker::Rule(kind(trigger).to_owned()),
        };
        Self {
            by,
            trigger: kind(question.trigger).to_owned(),
            mode: question.mode,
            pilot: question.pilot,
            account: question.account.clone(),
            // Facts about another account are none about this one.
            account_facts: question.account_facts.filter(|facts| facts.account == *question.account).cloned(),
            region: question.region.clone(),
            resource: question.arn.to_owned(),
            kind: question.kind.to_owned(),
            control: question.control.clone(),
            finding_type: question.finding_type.to_owned(),
            severity: question.severity,
            risk: question.risk,
            frameworks: question.frameworks.clone(),
            evidence: question.evidence.map(|evidence| GuardEvidence { dependents: vec![], ..evidence.clone() }),
            now: question.now,
            time_zone: question.time_zone.map(str::to_owned),
            first_seen: question.first_seen,
            calendar: question.calendar,
            breaker_open: question.breaker_open,
            sample: question.sample,
        }
    }
}

/// The kind of a trigger, as policies and the ledger name it.
#[must_use]
pub const fn kind(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Config => "Config",
        Trigger::Import => "Import",
        Trigger::GuardDuty => "GuardDuty",
        Trigger::CustomAction(_) => "CustomAction",
        Trigger::Operator { .. } => "Operator",
    }
}

/// The time zone of that IANA name.
///
/// # Errors
/// When there is none.
pub fn time_zone(name: &str) -> Result<TimeZone, PolicyError> {
    TimeZone::get(name).map_err(|_| PolicyError::TimeZone(name.to_owned()))
}
