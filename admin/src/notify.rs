//! `redress-notifier`: what the topic says, told in chats, to pagers and in tickets.
//!
//! Reads the queue that subscribes to the topic, and the list of destinations ([`redress_common::items::destination`]). What
//! is sent to whom is [`plan`], and what it looks like there is a file a product: pure functions. Sending, and making sure
//! that what SQS brings twice is told once, is [`run`]; [`aws`] is the real world. Nothing here decides about a resource or
//! writes to the ledger, and a secret is in no message, log or error.

pub mod aws;
pub mod http;
mod jira;
mod links;
mod pagerduty;
pub mod run;
mod servicenow;
mod slack;
mod teams;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::finding::SeverityLabel;
use redress_common::ids::{ClaimKey, Region, RemediationId};
use redress_common::items::destination::{ALARM, ALARM_ENDED, Case, CaseStatus, Destination, Filter, Kind, TEST};
use redress_common::notification::{Notification, Triage};
use serde::Deserialize;

use http::{Access, HttpRequest};

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A remediation.
    Remediation,
    /// An alarm of CloudWatch, which tells through the same topic.
    Alarm,
    /// Nothing: somebody tries a destination out.
    Test,
}

/// One message, whoever said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it is about.
    pub about: About,
    /// Whose status it is: a RemediationId, or an alarm's change.
    pub id: String,
    /// What belongs together: one resource and control, or one alarm.
    pub problem: String,
    /// The status.
    pub status: String,
    /// The finding's severity.
    pub severity: SeverityLabel,
    /// A threat list names the resource, or the other side; or a person escalated the finding.
    pub urgent: bool,
    /// The account.
    pub account: String,
    /// The Region, when there is one.
    pub region: Option<Region>,
    /// The control, when there is one.
    pub control: Option<String>,
    /// The resource.
    pub resource: String,
    /// What is wrong.
    pub title: String,
    /// What was, or would be, done.
    pub action: String,
    /// When.
    pub at: String,
    /// What people should do.
    pub next_step: Option<String>,
    /// Of an incident, what is known besides.
    pub triage: Option<Triage>,
    /// What asked for it.
    pub trigger: Option<String>,
    /// The one destination that it is for.
    pub only: Option<String>,
    /// It is about a sample finding: nothing happened.
    pub sample: bool,
}

/// A message that says nothing we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message is neither Redress's nor an alarm's")]
pub struct Unreadable;

/// What CloudWatch tells of an alarm.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AlarmChange {
    alarm_name: String,
    alarm_arn: Option<String>,
    alarm_description: Option<String>,
    #[serde(rename = "AWSAccountId")]
    account: String,
    new_state_value: String,
    new_state_reason: Option<String>,
    state_change_time: String,
}

impl Told {
    /// Reads a message of the queue, with the topic's attributes.
    ///
    /// # Errors
    /// When it is none that we know.
    pub fn read(body: &str, attributes: &BTreeMap<String, String>) -> Result<Self, Unreadable> {
        if let Ok(message) = serde_json::from_str::<Notification>(body) {
            return Ok(Self::of_notification(message, attributes));
        }
        let alarm = serde_json::from_str::<AlarmChange>(body).map_err(|_| Unreadable)?;
        Ok(Self::of_alarm(alarm, attributes.get("Destination").cloned()))
    }

    fn of_notification(message: Notification, attributes: &BTreeMap<String, String>) -> Self {
        let attribute = |name: &str| attributes.get(name).filter(|value| !value.is_empty()).cloned();
        let about = if message.status == TEST { About::Test } else { About::Remediation };
        let region: Option<Region> = attribute("Region").and_then(|region| region.parse().ok());
        let control = attribute("Control").filter(|control| control != "unknown");
        let problem = claim_key(&message, region.as_ref(), control.as_deref());
        let severity = attribute("Severity").and_then(|label| serde_json::from_value(label.into()).ok());
        Self {
            about,
            problem: problem.map_or_else(|| message.remediation_id.clone(), |key| key.hex()),
            id: message.remediation_id,
            status: message.status,
            // What does not say how bad it is, is told.
            severity: severity.unwrap_or(SeverityLabel::Critical),
            urgent: attribute("Urgency").is_some_and(|urgency| urgency == "high"),
            account: message.account,
            region,
            control,
            resource: message.resource,
            title: message.finding,
            action: message.action,
            at: message.executed_at,
            next_step: message.next_step,
            triage: message.triage,
            trigger: attribute("Trigger"),
            only: attribute("Destination"),
            sample: message.sample,
        }
    }

    fn of_alarm(alarm: AlarmChange, only: Option<String>) -> Self {
        let rings = alarm.new_state_value == "ALARM";
        let arn = alarm.alarm_arn.unwrap_or_default();
        Self {
            about: About::Alarm,
            id: format!("alarm:{}:{}", alarm.alarm_name, alarm.state_change_time),
            problem: format!("alarm:{}", alarm.alarm_name),
            status: if rings { ALARM } else { ALARM_ENDED }.to_owned(),
            severity: SeverityLabel::High,
            urgent: false,
            account: alarm.account,
            region: arn.split(':').nth(3).and_then(|region| region.parse().ok()),
            control: None,
            resource: if arn.is_empty() { alarm.alarm_name.clone() } else { arn },
            title: alarm.alarm_name,
            action: alarm.alarm_description.unwrap_or_default(),
            at: alarm.state_change_time,
            next_step: alarm.new_state_reason,
            triage: None,
            trigger: None,
            only,
            sample: false,
        }
    }

    /// Whether the problem has ended with it.
    #[must_use]
    pub fn ends(&self) -> bool {
        ["Success", "RolledBack", ALARM_ENDED].contains(&self.status.as_str())
    }

    /// The `redress` command that says more.
    fn why(&self) -> Option<String> {
        let is_remediation = self.about == About::Remediation && self.id.parse::<RemediationId>().is_ok();
        is_remediation.then(|| format!("redress why {}", self.id))
    }

    /// The message in one line.
    fn headline(&self, most: usize) -> String {
        let what = match (self.about, &self.control) {
            (About::Test, _) => "Redress: this is a test".to_owned(),
            (About::Alarm, _) => format!("Redress: {}: {}", self.status, self.title),
            (_, Some(control)) => format!("Redress: {}: {control} in {}: {}", self.status, self.account, self.title),
            (_, None) => format!("Redress: {}: {}", self.status, self.title),
        };
        text::line(&what, most)
    }

    /// What is said of it, by name; each value is one bounded line.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let region = self.region.as_ref().map(ToString::to_string).unwrap_or_default();
        let severity = if self.about == About::Remediation { self.severity.as_str() } else { "" };
        let severity = if self.urgent { format!("{severity}, urgent") } else { severity.to_owned() };
        let remediation = if self.about == About::Remediation { self.id.as_str() } else { "" };
        let facts = [
            ("Status", self.status.as_str(), 40),
            ("Severity", &severity, 60),
            ("Control", self.control.as_deref().unwrap_or_default(), 40),
            ("Account", &self.account, 20),
            ("Region", &region, 40),
            ("Resource", &self.resource, 600),
            ("Action", &self.action, 400),
            ("When", &self.at, 40),
            ("Asked by", self.trigger.as_deref().unwrap_or_default(), 40),
            ("Remediation", remediation, 60),
            ("Case", self.triage.as_ref().map(|known| known.case_id.as_str()).unwrap_or_default(), 60),
            ("In the last 24 hours", &self.triage.as_ref().map(related).unwrap_or_default(), 500),
            ("Owner", self.triage.as_ref().and_then(|known| known.owner.as_deref()).unwrap_or_default(), 200),
            (
                "On the threat list",
                &self.triage.as_ref().map(|known| known.threats.join(", ")).unwrap_or_default(),
                300,
            ),
            ("Reachable from outside", &self.triage.as_ref().map(exposed).unwrap_or_default(), 300),
        ];
        let facts = facts.into_iter().map(|(name, value, most)| (name, text::line(value, most)));
        facts.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// What people should do, as one bounded line.
    fn advice(&self) -> Option<String> {
        self.next_step.as_deref().map(|step| text::line(step, 800)).filter(|step| !step.is_empty())
    }
}

/// What else was found, in a sentence.
fn related(known: &Triage) -> String {
    let more = known.unread.as_ref().map(|unread| format!("; {unread}")).unwrap_or_default();
    if known.related == 0 {
        return format!("no other finding of the resource or its principal{more}");
    }
    let findings =
        if known.related == 1 { "1 other finding".to_owned() } else { format!("{} other findings", known.related) };
    let stands = if known.uncontained.is_empty() {
        "what they are about is contained".to_owned()
    } else {
        format!("not contained: {}", known.uncontained.join(", "))
    };
    format!("{findings} of the resource or its principal ({}); {stands}{more}", known.types.join(", "))
}

/// Who can reach it, in a sentence; nothing where nobody looked.
fn exposed(known: &Triage) -> String {
    match known.exposure.as_deref() {
        None => String::new(),
        Some([]) => "nothing found that lets anybody in".to_owned(),
        Some(ways) => ways.join("; "),
    }
}

/// The key of the claim that a remediation had: the same for all that is done about one resource and control.
fn claim_key(message: &Notification, region: Option<&Region>, control: Option<&str>) -> Option<ClaimKey> {
    let (account, resource) = (message.account.parse().ok()?, message.resource.parse().ok()?);
    Some(ClaimKey::new(&account, region?, &control?.parse().ok()?, &resource))
}

/// Whether a destination wants a message.
#[must_use]
pub fn wants(filter: &Filter, told: &Told) -> bool {
    let named = |account: &str| filter.accounts.iter().any(|wanted| wanted.as_str() == account);
    match told.about {
        About::Test => true,
        About::Alarm => filter.alarms,
        About::Remediation => {
            (told.urgent || told.severity >= filter.minimum_severity)
                && (filter.accounts.is_empty() || named(&told.account))
                && (filter.statuses.is_empty() || filter.statuses.contains(&told.status))
                && (filter.controls.is_empty()
                    || filter.controls.iter().any(|wanted| told.control.as_deref() == Some(wanted.as_str())))
        }
    }
}

/// What is done about a message at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: it is not wanted there.
    Nothing,
    /// Wait: somebody is opening the case.
    Wait,
    /// Send it.
    Send(Step),
}

/// A thing to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A message in a chat.
    Say,
    /// Open a case.
    Open,
    /// Add to this open case.
    Add(String),
    /// Say in this open case that the problem has ended.
    End(String),
}

/// What is done about a message at a destination that has this case of the problem.
#[must_use]
pub fn plan(to: &Destination, told: &Told, case: Option<&Case>, now: Timestamp) -> Plan {
    let wanted = wants(&to.filter, told);
    if !to.kind.keeps_cases() {
        return if wanted { Plan::Send(Step::Say) } else { Plan::Nothing };
    }
    if told.sample {
        // Nobody is woken, and nothing is opened that somebody would have to close.
        return Plan::Nothing;
    }
    match case {
        Some(case) if case.status == CaseStatus::Open && told.ends() => Plan::Send(Step::End(case.reference.clone())),
        // A pager is told again of what it should ring for, and of nothing else.
        Some(case) if case.status == CaseStatus::Open && (wanted || to.kind != Kind::PagerDuty) => {
            Plan::Send(Step::Add(case.reference.clone()))
        }
        Some(case) if case.status == CaseStatus::Opening && case.until > now.as_millisecond() => Plan::Wait,
        Some(case) if case.status == CaseStatus::Open => Plan::Nothing,
        _ if wanted && !told.ends() => Plan::Send(Step::Open),
        _ => Plan::Nothing,
    }
}

/// The request for a step, as the product wants it.
#[must_use]
pub fn request(to: &Destination, access: &Access, told: &Told, step: &Step, home: &Region) -> HttpRequest {
    match (to.kind, step) {
        (Kind::Slack, _) => slack::message(to, access, told, home),
        (Kind::Teams, _) => teams::message(access, told, home),
        (Kind::PagerDuty, _) => pagerduty::event(to, access, told, step, home),
        (Kind::ServiceNow, Step::Add(id) | Step::End(id)) => servicenow::note(to, access, told, id, home),
        (Kind::ServiceNow, _) => servicenow::incident(to, access, told, home),
        (Kind::Jira, Step::Add(key) | Step::End(key)) => jira::comment(to, access, told, key, home),
        (Kind::Jira, _) => jira::issue(to, access, told, home),
    }
}

/// The request that looks whether a ticket is open already, for a destination that does not see to that itself.
#[must_use]
pub fn search(to: &Destination, access: &Access, told: &Told) -> Option<HttpRequest> {
    match to.kind {
        Kind::ServiceNow => Some(servicenow::search(to, access, told)),
        Kind::Jira => Some(jira::search(to, access, told)),
        Kind::Slack | Kind::Teams | Kind::PagerDuty => None,
    }
}

/// The id of the case in an answer: of what was opened, or of what a search found.
#[must_use]
pub fn reference(kind: Kind, told: &Told, answer: &[u8]) -> Option<String> {
    match kind {
        Kind::PagerDuty => Some(told.problem.clone()),
        Kind::ServiceNow => servicenow::reference(answer),
        Kind::Jira => jira::reference(answer),
        Kind::Slack | Kind::Teams => None,
    }
}
