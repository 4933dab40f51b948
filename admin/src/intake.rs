//! From a finding to a case: which control, which resource, which claim, what is asked for. Or why it is no case.
//!
//! Pure. Nothing is decided here; what cannot be a case is refused with a reason that names what to mend.

use std::collections::BTreeSet;

use jiff::Timestamp;
use redress_common::arn::{Arn, Partition};
use redress_common::aws::state_table::{Reported, Settings, StateKey, Subject};
use redress_common::catalogue::{Catalogue, ControlEntry, Direct, Risk, Scope, Workflow};
use redress_common::contract::Mode;
use redress_common::finding::{Check, CustomAction, Finding, Severity, Trigger, WorkflowStatus};
use redress_common::ids::{AccountId, ClaimKey, ControlId, Generation, Region, RemediationId};
use redress_common::ledger::{Record, RemediationType, detail};
use redress_common::state::State;

use crate::policy::{Calendar, Question};
use crate::{breaker, policy};

/// Everything that the orchestrator needs to decide on one remediation and to start it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The remediation.
    pub id: RemediationId,
    /// The claim on account, Region, control and resource.
    pub key: ClaimKey,
    /// What is asked for.
    pub mode: Mode,
    /// What asked.
    pub trigger: Trigger,
    /// The state of the world that the finding speaks of.
    pub generation: Generation,
    /// Where the finding stands in Security Hub.
    pub workflow: WorkflowStatus,
    /// When the event was made.
    pub event_time: Timestamp,
    /// When the finding was first seen.
    pub first_seen: Timestamp,
    /// It was put aside, and brought back.
    pub released: bool,
    /// The campaign that brought it back.
    pub campaign: Option<String>,
    /// What its reporter calls it, such as a GuardDuty type; empty for an undo.
    pub finding_type: String,
    /// What the finding says of the other side, for a threat list.
    pub indicators: Vec<String>,
    /// What is kept of it until the end.
    pub subject: Subject,
    /// The account of the resource.
    pub account: AccountId,
    /// Where the remediation runs.
    pub region: Region,
    /// The control.
    pub control: ControlId,
    /// The resource.
    pub arn: Arn,
    /// Its name, captured by the control's pattern.
    pub name: String,
    /// The finding's severity.
    pub severity: Severity,
    /// The control's risk.
    pub risk: Risk,
    /// The control's frameworks.
    pub frameworks: BTreeSet<String>,
    /// What a person has to do, where the control is guidance only; empty otherwise.
    pub guidance: String,
    /// Set when its fix takes long, and so is made by the workflow, whether people are asked or not.
    pub long: Option<Workflow>,
    /// Set when it is a playbook.
    pub direct: Option<Direct>,
    /// For an undo: what is undone.
    pub source: Option<Source>,
    /// Why, in the words of who asked; empty when nobody gave a reason.
    pub reason: String,
}

impl Case {
    /// Whether the workflow makes it, also when nobody is asked: its control takes long.
    #[must_use]
    pub fn by_workflow(&self) -> bool {
        self.long.is_some() && self.mode == Mode::Apply
    }

    /// What policy is asked about it by these settings, when nothing was found out elsewhere.
    #[must_use]
    pub fn question<'q>(&'q self, settings: &'q Settings, now: Timestamp) -> Question<'q> {
        Question {
            trigger: &self.trigger,
            campaign: self.campaign.as_deref(),
            mode: self.mode,
            pilot: settings.pilot_accounts.contains(&self.account),
            account: &self.account,
            account_facts: None,
            region: &self.region,
            arn: self.arn.as_str(),
            kind: &self.subject.resource_type,
            control: &self.control,
            finding_type: &self.finding_type,
            severity: self.severity,
            risk: self.risk,
            frameworks: &self.frameworks,
            evidence: None,
            now,
            time_zone: settings.time_zone.as_deref(),
            first_seen: self.first_seen,
            calendar: if settings.change_calendars.is_empty() { Calendar::None } else { Calendar::Unreadable },
            breaker_open: false,
            sample: self.subject.sample,
        }
    }

    /// Where its claim lies, when it changes something or a rule asked.
    #[must_use]
    pub fn claim_key(&self) -> StateKey {
        StateKey::Claim(self.key.clone())
    }

    /// Where the one-time work of a person's request lies.
    #[must_use]
    pub fn request_key(&self) -> StateKey {
        StateKey::Request(self.id)
    }
}

/// The remediation that an undo puts back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// It.
    pub remediation: RemediationId,
    /// Where its evidence lies.
    pub evidence_key: String,
}

/// Why a finding is no case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCase {
    /// No control file speaks of this check.
    #[error("no control answers to `{check}`; add one to ssm-documents/controls or narrow the rule that sends it")]
    UnknownControl {
        /// The check, in its reporter's words.
        check: String,
    },
    /// The ARN fits no pattern of the control.
    #[error("resource `{arn}` fits no ARN pattern of control {control}")]
    WrongResource {
        /// The resource.
        arn: String,
        /// The control.
        control: ControlId,
    },
    /// Finding and ARN speak of different accounts.
    #[error("the finding is of account {finding}, its resource of account {arn}")]
    AccountMismatch {
        /// The finding's account.
        finding: AccountId,
        /// The ARN's.
        arn: AccountId,
    },
    /// Finding and ARN speak of different partitions.
    #[error("the finding's Region {region} is not of the partition of `{arn}`")]
    PartitionMismatch {
        /// The finding's Region.
        region: Region,
        /// The resource.
        arn: String,
    },
    /// The remediation cannot be undone.
    #[error(transparent)]
    NotUndoable(#[from] NotUndoable),
}

/// Why a remediation cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUndoable {
    /// The ledger does not know it.
    #[error("the ledger has no remediation {0}; see `redress audit`")]
    Unknown(RemediationId),
    /// Nothing that can be undone was done to the resource.
    #[error("nothing that Redress did to `{0}` is left to be undone")]
    Nothing(String),
    /// It is a dry run or an undo, or nothing was changed by it.
    #[error("remediation {0} changed nothing, so there is nothing to undo")]
    ChangedNothing(RemediationId),
    /// It was undone.
    #[error("remediation {0} was undone already")]
    AlreadyUndone(RemediationId),
    /// It never started, or has not ended.
    #[error("remediation {id} stands at {state}: only one that ended can be undone")]
    State {
        /// It.
        id: RemediationId,
        /// Where it stands.
        state: State,
    },
    /// Its record lacks what an undo needs.
    #[error("the ledger's record of remediation {id} has no readable `{what}`")]
    Record {
        /// It.
        id: RemediationId,
        /// What is missing.
        what: &'static str,
    },
    /// A dry run of an undo.
    #[error("a dry run of an undo is not offered yet; `redress audit show {0}` shows what would be put back")]
    DryRun(RemediationId),
}

impl NoCase {
    /// A slug that stays the same between releases.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownControl { .. } => "unknown-control",
            Self::WrongResource { .. } => "wrong-resource",
            Self::AccountMismatch { .. } => "account-mismatch",
            Self::PartitionMismatch { .. } => "partition-mismatch",
            Self::NotUndoable(_) => "not-undoable",
        }
    }
}

/// A request to undo a remediation.
#[derive(Debug, Clone)]
pub struct Undo {
    /// What to undo.
    pub remediation: RemediationId,
    /// Who asks, and how.
    pub trigger: Trigger,
    /// The request's own id: the same request is one undo.
    pub request: String,
    /// When it was asked.
    pub event_time: Timestamp,
    /// Why, in the asker's words.
    pub reason: String,
}

/// What a finding asks for. `Restore` means: undo the last remediation of the resource. A sample is never more than a dry
/// run, whoever asks: this is the one place that says so, and every case of a finding comes from here.
#[must_use]
pub const fn asked(finding: &Finding) -> Mode {
    if finding.sample {
        return Mode::DryRun;
    }
    match &finding.trigger {
        Trigger::CustomAction(CustomAction::DryRun) => Mode::DryRun,
        Trigger::CustomAction(CustomAction::Undo) => Mode::Restore,
        Trigger::Operator { mode, .. } => *mode,
        // An escalation is no case; where it were one, nothing would be changed.
        Trigger::CustomAction(CustomAction::Escalate) => Mode::DryRun,
        Trigger::CustomAction(CustomAction::Remediate | CustomAction::Contain)
        | Trigger::Config
        | Trigger::Import
        | Trigger::GuardDuty => Mode::Apply,
    }
}

/// The items that a finding will need as far as can be told without a catalogue: saves a read on a cold start.
#[must_use]
pub fn likely_keys(finding: &Finding, now: Timestamp) -> Vec<StateKey> {
    let Check::Control(control) = &finding.check else { return Vec::new() };
    [Scope::Regional, Scope::Global]
        .into_iter()
        .flat_map(|scope| {
            let key = ClaimKey::new(&finding.account, &region(finding, scope), control, &finding.resource.arn);
            let id = identity(finding, &key);
            keys(&finding.account, region(finding, scope), control, key, id, now)
        })
        .collect()
}

/// The items that a case needs.
#[must_use]
pub fn case_keys(case: &Case, now: Timestamp) -> Vec<StateKey> {
    keys(&case.account, case.region.clone(), &case.control, case.key.clone(), case.id, now)
}

fn keys(
    account: &AccountId,
    region: Region,
    control: &ControlId,
    key: ClaimKey,
    id: RemediationId,
    now: Timestamp,
) -> Vec<StateKey> {
    let mut keys = breaker::keys(account, control, now.as_millisecond());
    keys.extend([StateKey::Claim(key), StateKey::Request(id), StateKey::Flight(account.clone(), region)]);
    keys
}

/// The case of a finding.
///
/// # Errors
/// When it is none.
pub fn case_of(finding: &Finding, catalogue: &Catalogue) -> Result<Case, NoCase> {
    let (control, entry) = catalogue
        .resolve_on(&finding.check, &finding.resource.arn)
        .ok_or_else(|| NoCase::UnknownControl { check: check_name(&finding.check) })?;
    let arn = &finding.resource.arn;
    if let Some(owner) = arn.account().filter(|owner| **owner != finding.account) {
        return Err(NoCase::AccountMismatch { finding: finding.account.clone(), arn: owner.clone() });
    }
    if Partition::of_region(&finding.region) != arn.partition() {
        return Err(NoCase::PartitionMismatch { region: finding.region.clone(), arn: cut(arn.as_str()) });
    }
    let name = entry
        .arn_patterns
        .iter()
        .find_map(|pattern| arn.capture(pattern))
        .ok_or_else(|| NoCase::WrongResource { arn: cut(arn.as_str()), control: control.clone() })?;
    let region = region(finding, entry.scope);
    let key = ClaimKey::new(&finding.account, &region, control, arn);
    Ok(Case {
        id: identity(finding, &key),
        mode: asked(finding),
        trigger: finding.trigger.clone(),
        generation: finding.generation,
        workflow: finding.workflow,
        event_time: finding.event_time,
        first_seen: finding.first_seen,
        released: false,
        campaign: None,
        finding_type: check_name(&finding.check),
        indicators: finding.indicators.clone(),
        subject: Subject {
            region: Some(region.clone()),
            control: Some(control.clone()),
            action: entry.action.clone(),
            ..subject_of(finding)
        },
        account: finding.account.clone(),
        region,
        control: control.clone(),
        arn: arn.clone(),
        name: name.to_owned(),
        severity: finding.severity,
        risk: entry.risk,
        frameworks: entry.frameworks.keys().cloned().collect(),
        guidance: entry.guidance.join(" "),
        long: entry.workflow,
        direct: entry.direct.clone(),
        source: None,
        reason: match &finding.trigger {
            Trigger::Operator { reason, .. } => reason.clone(),
            _ => String::new(),
        },
        key,
    })
}

/// What is known of a finding before its control is.
#[must_use]
pub fn subject_of(finding: &Finding) -> Subject {
    Subject {
        finding_id: finding.id.clone(),
        product_arn: finding.product_arn.clone(),
        title: finding.title.clone(),
        severity: finding.severity.label,
        account: finding.account.clone(),
        region: Some(finding.region.clone()),
        control: None,
        resource_id: finding.resource.arn.as_str().to_owned(),
        resource_type: finding.resource.kind.clone(),
        action: String::new(),
        remediation_type: remediation_type(&finding.trigger),
        requested_by: requested_by(&finding.trigger),
        reported: match (&finding.trigger, &finding.check) {
            (Trigger::GuardDuty, Check::GuardDutyType(kind)) => {
                Some(Reported { finding_type: cut(kind), actors: finding.actors.clone() })
            }
            _ => None,
        },
        sample: finding.sample,
    }
}

/// The case of an undo, from the records of what it undoes.
///
/// # Errors
/// When there is nothing that can be undone.
pub fn case_of_undo(undo: &Undo, records: &[Record], catalogue: &Catalogue) -> Result<Case, NotUndoable> {
    let id = undo.remediation;
    let last = records.last().ok_or(NotUndoable::Unknown(id))?;
    let missing = |what| NotUndoable::Record { id, what };
    if records.iter().any(|record| record.draft.execution_status == State::RolledBack) {
        return Err(NotUndoable::AlreadyUndone(id));
    }
    let started = records.iter().rev().find(|record| record.draft.execution_status == State::Claimed);
    let state = last.draft.execution_status;
    let started = started.ok_or(NotUndoable::ChangedNothing(id))?;
    if started.detail(detail::MODE) != Some(Mode::Apply.as_str())
        || matches!(last.detail(detail::OUTCOME), Some("AlreadyCompliant" | "NotFound" | "Planned"))
    {
        return Err(NotUndoable::ChangedNothing(id));
    }
    if !state.is_undoable() {
        return Err(NotUndoable::State { id, state });
    }
    let text = |key: &'static str| started.detail(key).ok_or(missing(key));
    let control: ControlId = text(detail::CONTROL)?.parse().map_err(|_| missing(detail::CONTROL))?;
    let region: Region = text(detail::REGION)?.parse().map_err(|_| missing(detail::REGION))?;
    let arn: Arn = started.draft.resource_id.parse().map_err(|_| missing("ResourceId"))?;
    let label: SeverityText = text(detail::SEVERITY)?.parse().map_err(|()| missing(detail::SEVERITY))?;
    let account = started.draft.account_id.clone();
    let key = ClaimKey::new(&account, &region, &control, &arn);
    let entry: Option<&ControlEntry> = catalogue.0.get(&control);
    Ok(Case {
        id: RemediationId::of_request(&key, &undo.request),
        mode: Mode::Restore,
        trigger: undo.trigger.clone(),
        generation: Generation(0),
        workflow: WorkflowStatus::New,
        event_time: undo.event_time,
        first_seen: undo.event_time,
        released: false,
        campaign: None,
        finding_type: String::new(),
        indicators: Vec::new(),
        subject: Subject {
            finding_id: started.draft.finding_id.clone(),
            product_arn: started.detail(detail::PRODUCT_ARN).and_then(|arn| arn.parse().ok()),
            title: started.detail(detail::TITLE).unwrap_or_default().to_owned(),
            severity: label.0.label,
            account: account.clone(),
            region: Some(region.clone()),
            control: Some(control.clone()),
            resource_id: arn.as_str().to_owned(),
            resource_type: started.draft.resource_type.clone(),
            action: format!("Undo: {}", started.draft.remediation_action),
            remediation_type: RemediationType::Manual,
            requested_by: requested_by(&undo.trigger),
            reported: None,
            sample: false,
        },
        name: text(detail::RESOURCE_NAME)?.to_owned(),
        severity: label.0,
        // Without its control file nobody knows how much harm it may do.
        risk: entry.map_or(Risk::Destructive, |entry| entry.risk),
        frameworks: entry.map(|entry| entry.frameworks.keys().cloned().collect()).unwrap_or_default(),
        guidance: String::new(),
        // To put something back takes no copies.
        long: None,
        direct: entry.and_then(|entry| entry.direct.clone()),
        source: Some(Source { remediation: id, evidence_key: text(detail::EVIDENCE_KEY)?.to_owned() }),
        reason: undo.reason.clone(),
        account,
        region,
        control,
        arn,
        key,
    })
}

/// A severity as the ledger keeps it: its label.
struct SeverityText(Severity);

impl std::str::FromStr for SeverityText {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let label = serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| ())?;
        Ok(Self(Severity::of_label(label)))
    }
}

/// The id of the remediation that a finding asks for: a rule's by the generation, a person's by the request. A sample's by the
/// finding, too: samples of many types name one resource, at one moment, and so may a real finding.
fn identity(finding: &Finding, key: &ClaimKey) -> RemediationId {
    if finding.trigger.is_manual() {
        RemediationId::of_request(key, &request_of(finding))
    } else if finding.sample {
        // Security Hub calls it by its ARN.
        let id = finding.id.split_once("/finding/").map_or(finding.id.as_str(), |(_, id)| id);
        RemediationId::of_request(key, &format!("sample:{id}@{}", finding.generation))
    } else {
        RemediationId::of_finding(key, finding.generation)
    }
}

/// The request that a person made on a finding: the same event delivered twice is the same request.
#[must_use]
pub fn request_of(finding: &Finding) -> String {
    format!("{}:{}@{}", asked(finding).as_str(), finding.id, finding.event_time)
}

/// Where a finding's remediation is claimed and run.
fn region(finding: &Finding, scope: Scope) -> Region {
    let arn = &finding.resource.arn;
    match scope {
        Scope::Regional => arn.region().unwrap_or(&finding.region).clone(),
        Scope::Global => arn.partition().global_region().parse().unwrap_or_else(|_| finding.region.clone()),
    }
}

/// Whether a person or a rule asked.
#[must_use]
pub const fn remediation_type(trigger: &Trigger) -> RemediationType {
    if trigger.is_manual() { RemediationType::Manual } else { RemediationType::Automatic }
}

fn requested_by(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Operator { by, .. } => by.clone(),
        other => policy::kind(other).to_owned(),
    }
}

fn check_name(check: &Check) -> String {
    match check {
        Check::Control(id) => id.to_string(),
        Check::ConfigRule(name) | Check::GuardDutyType(name) => cut(name),
        Check::Containment => "containment".to_owned(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_finding_becomes_the_case_of_its_control() {
        let case = case_of(&fixture::finding(), &fixture::catalogue()).unwrap();
        assert_eq!((case.control.as_str(), case.name.as_str()), ("S3.8", "bucket-1"));
        assert_eq!(case.region.as_str(), "eu-central-1");
        assert_eq!(case.subject.action, "Block public access");
        assert_eq!(case.id, RemediationId::of_finding(&case.key, case.generation));
    }

    #[test]
    fn an_iam_finding_is_claimed_in_the_global_region_wherever_it_was_seen() {
        let catalogue = fixture::catalogue();
        let seen = |region: &str| {
            let finding = Finding {
                region: region.parse().unwrap(),
                check: Check::Control("IAM.7".parse().unwrap()),
                resource: fixture::resource("arn:aws:iam::111122223333:root", "AWS::::Account"),
                ..fixture::finding()
            };
            case_of(&finding, &catalogue).unwrap()
        };
        let (here, there) = (seen("eu-central-1"), seen("ap-south-1"));
        assert_eq!(here.region.as_str(), "us-east-1");
        assert_eq!(here.key, there.key);
    }

    #[test]
    fn the_likely_keys_hold_the_keys_of_the_case() {
        let catalogue = fixture::catalogue();
        for trigger in [Trigger::Import, Trigger::CustomAction(CustomAction::DryRun)] {
            let finding = Finding { trigger, ..fixture::finding() };
            let now = finding.event_time;
            let likely = likely_keys(&finding, now);
            for key in case_keys(&case_of(&finding, &catalogue).unwrap(), now) {
                assert!(likely.contains(&key), "{key}");
            }
        }
    }

    #[test]
    fn a_sample_is_a_dry_run_whoever_asks_and_shares_nothing_with_what_is_real() {
        let catalogue = fixture::catalogue();
        let by = || "arn:aws:sts::999999999999:assumed-role/Redress-Operator/jo".to_owned();
        let operator = |mode| Trigger::Operator { by: by(), mode, reason: String::new() };
        for trigger in [
            Trigger::Config,
            Trigger::Import,
            Trigger::GuardDuty,
            Trigger::CustomAction(CustomAction::Remediate),
            Trigger::CustomAction(CustomAction::DryRun),
            Trigger::CustomAction(CustomAction::Undo),
            Trigger::CustomAction(CustomAction::Contain),
            Trigger::CustomAction(CustomAction::Escalate),
            operator(Mode::Apply),
            operator(Mode::DryRun),
            operator(Mode::Restore),
        ] {
            let real = Finding { trigger, ..fixture::finding() };
            let sample = Finding { sample: true, ..real.clone() };
            let (case, real_case) = (case_of(&sample, &catalogue).unwrap(), case_of(&real, &catalogue).unwrap());
            assert_eq!((case.mode, case.subject.sample), (Mode::DryRun, true), "{:?}", real.trigger);
            assert!(!real_case.subject.sample);
            let other = Finding { id: "another".to_owned(), ..sample.clone() };
            assert_ne!(case_of(&other, &catalogue).unwrap().id, case.id, "samples of one moment are each their own");
            if !real.trigger.is_manual() {
                assert_ne!(case.id, real_case.id);
                let called =
                    |id: &str| case_of(&Finding { id: id.to_owned(), ..sample.clone() }, &catalogue).unwrap().id;
                let arn = "arn:aws:guardduty:eu-central-1:111122223333:detector/d/finding/f-9";
                assert_eq!(called("f-9"), called(arn), "by GuardDuty and by Security Hub it is told once");
            }
        }
    }

    #[test]
    fn defect_10_a_resource_of_another_account_is_refused() {
        let finding = Finding {
            check: Check::Control("IAM.7".parse().unwrap()),
            resource: fixture::resource("arn:aws:iam::444455556666:root", "AWS::::Account"),
            ..fixture::finding()
        };
        assert_eq!(case_of(&finding, &fixture::catalogue()).unwrap_err().code(), "account-mismatch");
    }

    #[test]
    fn what_is_no_case_says_why() {
        let catalogue = fixture::catalogue();
        let unknown = Finding { check: Check::ConfigRule("nobody-knows".to_owned()), ..fixture::finding() };
        assert_eq!(case_of(&unknown, &catalogue).unwrap_err().code(), "unknown-control");
        let queue = Finding {
            resource: fixture::resource("arn:aws:sqs:eu-central-1:111122223333:q", "AWS::SQS::Queue"),
            ..fixture::finding()
        };
        assert_eq!(case_of(&queue, &catalogue).unwrap_err().code(), "wrong-resource");
        let china = Finding { region: "cn-north-1".parse().unwrap(), ..fixture::finding() };
        assert_eq!(case_of(&china, &catalogue).unwrap_err().code(), "partition-mismatch");
    }

    #[test]
    fn the_same_custom_action_is_one_request_and_a_later_one_is_another() {
        let catalogue = fixture::catalogue();
        let first = Finding { trigger: Trigger::CustomAction(CustomAction::Remediate), ..fixture::finding() };
        let again = first.clone();
        let later = Finding { event_time: first.event_time + jiff::SignedDuration::from_secs(1), ..first.clone() };
        let id = |finding: &Finding| case_of(finding, &catalogue).unwrap().id;
        assert_eq!(id(&first), id(&again));
        assert_ne!(id(&first), id(&later));
        assert_ne!(id(&first), id(&fixture::finding()), "a person's request is not the rule's remediation");
    }
}
