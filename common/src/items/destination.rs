//! Item `destinations`: where people are told, beside the topic's own subscribers.
//!
//! Holds where a secret lies, never a secret. A list is read whole or not at all: what is wrong with it is said by entry and
//! field.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arn::Arn;
use crate::finding::SeverityLabel;
use crate::ids::{AccountId, ControlId, excerpt};
use crate::state::State;

/// No list is longer: one message is sent to all of them within a function's time.
pub const MOST: usize = 10;
/// The start of the names of the secrets that the notifier may read.
pub const SECRET_PREFIX: &str = "redress/notify/";
/// Names, channels and keys have at most so many characters.
const LONGEST: usize = 80;

/// The status of a message that only tries a destination out.
pub const TEST: &str = "Test";
/// An alarm of CloudWatch rings.
pub const ALARM: &str = "Alarm";
/// An alarm of CloudWatch rings no more.
pub const ALARM_ENDED: &str = "AlarmEnded";

/// What waits for a person: what tickets are for.
pub const NEEDS_A_PERSON: [State; 5] =
    [State::AwaitingApproval, State::Denied, State::Expired, State::Failed, State::Unverified];

/// What is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the products'")]
pub enum Kind {
    Slack,
    Teams,
    PagerDuty,
    ServiceNow,
    Jira,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Slack, Self::Teams, Self::PagerDuty, Self::ServiceNow, Self::Jira];

    /// As a list writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::PagerDuty => "pagerduty",
            Self::ServiceNow => "servicenow",
            Self::Jira => "jira",
        }
    }

    /// Whether it keeps something open from a problem to its end: an incident, or a ticket.
    #[must_use]
    pub const fn keeps_cases(self) -> bool {
        matches!(self, Self::PagerDuty | Self::ServiceNow | Self::Jira)
    }

    /// Hosts that it may be, and ends of hosts (with a dot in front).
    const fn hosts(self) -> &'static [&'static str] {
        match self {
            Self::Slack => &["hooks.slack.com", "slack.com"],
            Self::Teams => &[".logic.azure.com", ".powerplatform.com"],
            Self::PagerDuty => &["events.pagerduty.com", "events.eu.pagerduty.com"],
            Self::ServiceNow => &[".service-now.com"],
            Self::Jira => &[".atlassian.net"],
        }
    }

    /// The settings that it takes beside those that all take, and whether it must have them.
    const fn settings(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Slack => &[("Channel", false), ("Endpoint", false)],
            Self::Teams => &[],
            Self::PagerDuty => &[("Endpoint", false)],
            Self::ServiceNow => &[("Endpoint", true)],
            Self::Jira => &[("Endpoint", true), ("Project", true), ("IssueType", false)],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which hosts are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hosts {
    /// Also `http://127.0.0.1:<port>`, `[::1]` and `localhost`: a test's own servers, and nothing else.
    pub loopback: bool,
}

/// Why a URL is not one that is written to. Holds no more of it than the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no `https://host/path`.
    #[error("is no https URL")]
    NoUrl,
    /// It carries a name and a password, or another port.
    #[error("may name no user and no port but 443")]
    Authority,
    /// Its host is none of the product's.
    #[error("`{host}` is no host of {kind}; wanted is {}", wanted(*kind))]
    Host {
        /// The host.
        host: String,
        /// Whose it should be.
        kind: Kind,
    },
}

fn wanted(kind: Kind) -> String {
    let hosts =
        kind.hosts().iter().map(|host| if host.starts_with('.') { format!("*{host}") } else { (*host).to_owned() });
    hosts.collect::<Vec<_>>().join(" or ")
}

/// Checks that a URL is one of the product's: https, its host, its port, no user.
///
/// # Errors
/// When it is not.
pub fn check_url(kind: Kind, url: &str, hosts: Hosts) -> Result<(), UrlError> {
    let printable = url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let (scheme, rest) = url.split_once("://").filter(|_| printable).ok_or(UrlError::NoUrl)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(UrlError::NoUrl);
    }
    if authority.contains('@') {
        return Err(UrlError::Authority);
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host = host.to_ascii_lowercase();
    if hosts.loopback && ["127.0.0.1", "[::1]", "localhost"].contains(&host.as_str()) && scheme == "http" {
        return Ok(());
    }
    if scheme != "https" {
        return Err(UrlError::NoUrl);
    }
    if port.is_some_and(|port| port != "443") {
        return Err(UrlError::Authority);
    }
    let label = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let known = |known: &&&str| match known.strip_prefix('.') {
        Some(_) => host.strip_suffix(**known).is_some_and(|start| start.split('.').all(label)),
        None => host == **known,
    };
    match kind.hosts().iter().find(known) {
        Some(_) => Ok(()),
        None => Err(UrlError::Host { host: excerpt(&host), kind }),
    }
}

/// Which messages a destination gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Filter {
    /// Findings of this severity and worse; what a threat list names passes always.
    pub minimum_severity: SeverityLabel,
    /// Only these accounts; empty for all.
    pub accounts: BTreeSet<AccountId>,
    /// Only these controls; empty for all.
    pub controls: BTreeSet<ControlId>,
    /// Only these statuses; empty for all.
    pub statuses: BTreeSet<String>,
    /// Alarms of CloudWatch, too.
    pub alarms: bool,
}

impl Filter {
    /// What a kind gets when the list says nothing: a chat everything, a pager what is critical, a ticket what waits for a
    /// person.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        let statuses = match kind {
            Kind::Slack | Kind::Teams => BTreeSet::new(),
            Kind::PagerDuty => NEEDS_A_PERSON.iter().chain(&[State::Notified]).map(ToString::to_string).collect(),
            Kind::ServiceNow | Kind::Jira => NEEDS_A_PERSON.iter().map(ToString::to_string).collect(),
        };
        Self {
            minimum_severity: if kind == Kind::PagerDuty {
                SeverityLabel::Critical
            } else {
                SeverityLabel::Informational
            },
            accounts: BTreeSet::new(),
            controls: BTreeSet::new(),
            statuses,
            alarms: !kind.keeps_cases(),
        }
    }
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Destination {
    /// A short name, unique: `soc-slack`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The secret of AWS Secrets Manager that opens it.
    pub secret: Arn,
    /// Where it is, when the secret does not say: `https://example.atlassian.net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Slack: the channel's id. With it, the secret is a bot's token; without it, the URL of an incoming webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Jira: the project's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Jira: the type of issue; `Task` when none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue_type: Option<String>,
    /// What it gets.
    pub filter: Filter,
}

/// What is wrong with a list: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ListError {
    /// `entry 2 (soc-slack), field Filter.Accounts`, or the whole list.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

/// The entry that is read.
struct Entry<'a> {
    label: String,
    fields: &'a Map<String, Value>,
}

impl Entry<'_> {
    fn wrong(&self, field: &str, problem: impl fmt::Display) -> ListError {
        ListError { place: format!("{}, field {field}", self.label), problem: problem.to_string() }
    }

    fn only(&self, prefix: &str, known: &[&str]) -> Result<(), ListError> {
        match self.fields.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(other) => {
                let problem = format!("there is no such field; there are {}", known.join(", "));
                Err(self.wrong(&format!("{prefix}{}", excerpt(other)), problem))
            }
        }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, prefix: &str, name: &str) -> Result<Option<T>, ListError> {
        let value = self.fields.get(name).filter(|value| !value.is_null());
        let read = value.map(|value| serde_json::from_value(value.clone())).transpose();
        read.map_err(|error| self.wrong(&format!("{prefix}{name}"), error))
    }

    fn need<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ListError> {
        self.get("", name)?.ok_or_else(|| self.wrong(name, "it is missing"))
    }

    /// A text of a user's that goes into a request.
    fn text(&self, name: &str, good: fn(char) -> bool, wanted: &str) -> Result<Option<String>, ListError> {
        let Some(text) = self.get::<String>("", name)? else { return Ok(None) };
        if text.is_empty() || text.chars().count() > LONGEST || !text.chars().all(good) {
            return Err(self.wrong(name, format!("`{}` is not {wanted}", excerpt(&text))));
        }
        Ok(Some(text))
    }
}

impl Destination {
    fn read(entry: &Entry<'_>, hosts: Hosts) -> Result<Self, ListError> {
        let name = entry.text(
            "Name",
            |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
            "a name of lower-case letters, digits and hyphens",
        )?;
        let name = name
            .filter(|name| name.len() <= 40)
            .ok_or_else(|| entry.wrong("Name", "it is missing, or longer than 40 characters"))?;
        let kind: Kind = entry.need("Kind")?;
        let mut known = vec!["Name", "Kind", "Secret", "Filter"];
        known.extend(kind.settings().iter().map(|(name, _)| *name));
        entry.only("", &known)?;
        let secret: Arn = entry.need("Secret")?;
        let lies_right = secret.service() == "secretsmanager"
            && secret.resource().strip_prefix("secret:").is_some_and(|name| name.starts_with(SECRET_PREFIX));
        if !lies_right {
            let problem =
                format!("it is no ARN of a secret of AWS Secrets Manager whose name starts with `{SECRET_PREFIX}`");
            return Err(entry.wrong("Secret", problem));
        }
        let endpoint: Option<String> = entry.get("", "Endpoint")?;
        if let Some(endpoint) = &endpoint {
            check_url(kind, endpoint, hosts).map_err(|error| entry.wrong("Endpoint", error))?;
            let path = endpoint.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']));
            if path {
                return Err(entry.wrong("Endpoint", "it ends after the host: `https://host`"));
            }
        }
        let key = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let found = Self {
            name,
            kind,
            secret,
            endpoint,
            channel: entry.text("Channel", key, "a channel's id such as C0123456789")?,
            project: entry.text("Project", key, "a project's key such as SEC")?,
            issue_type: entry.text("IssueType", |c| !c.is_control(), "a type of issue such as Task")?,
            filter: filter(entry, kind)?,
        };
        for (name, is_needed) in kind.settings() {
            if *is_needed && !entry.fields.contains_key(*name) {
                return Err(entry.wrong(name, format!("a destination of kind {kind} needs it")));
            }
        }
        Ok(found)
    }
}

/// The fields of a filter are told apart from those of their entry.
const IN: &str = "Filter.";

fn filter(entry: &Entry<'_>, kind: Kind) -> Result<Filter, ListError> {
    let mut filter = Filter::of(kind);
    let Some(given) = entry.get::<Map<String, Value>>("", "Filter")? else { return Ok(filter) };
    let entry = Entry { label: entry.label.clone(), fields: &given };
    entry.only(IN, &["MinimumSeverity", "Accounts", "Controls", "Statuses", "Alarms"])?;
    if let Some(severity) = entry.get(IN, "MinimumSeverity")? {
        filter.minimum_severity = severity;
    }
    if let Some(accounts) = entry.get(IN, "Accounts")? {
        filter.accounts = accounts;
    }
    if let Some(controls) = entry.get(IN, "Controls")? {
        filter.controls = controls;
    }
    if let Some(alarms) = entry.get(IN, "Alarms")? {
        filter.alarms = alarms;
    }
    if let Some(statuses) = entry.get::<BTreeSet<String>>(IN, "Statuses")? {
        let unknown = |status: &&String| **status != "Success" && status.parse::<State>().is_err();
        if let Some(status) = statuses.iter().find(unknown) {
            let problem = format!(
                "`{}` is no status that people are told, such as Success, Failed or Unverified",
                excerpt(status)
            );
            return Err(entry.wrong("Filter.Statuses", problem));
        }
        filter.statuses = statuses;
    }
    Ok(filter)
}

/// Reads a list, as people write it or as the item holds it.
///
/// # Errors
/// When an entry is wrong: which one, and which field.
pub fn read_list(list: &[Value], hosts: Hosts) -> Result<Vec<Destination>, ListError> {
    let whole = |problem: String| ListError { place: "the list".to_owned(), problem };
    if list.len() > MOST {
        return Err(whole(format!("it has {} entries; {MOST} are allowed", list.len())));
    }
    let mut read: Vec<Destination> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let name = value["Name"].as_str().map(|name| format!(" ({})", excerpt(name))).unwrap_or_default();
        let label = format!("entry {}{name}", index + 1);
        let Some(fields) = value.as_object() else {
            return Err(ListError { place: label, problem: "it is no object with Name, Kind and Secret".to_owned() });
        };
        let entry = Entry { label, fields };
        let destination = Destination::read(&entry, hosts)?;
        if read.iter().any(|other| other.name == destination.name) {
            return Err(entry.wrong("Name", "another entry has the same name"));
        }
        read.push(destination);
    }
    Ok(read)
}

/// Item `destinations`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Destinations {
    /// Counts the changes; a change is written only over the version that was read.
    pub version: u64,
    /// The list, as it was written; [`read_list`] reads it.
    pub list: Vec<Value>,
    /// Who changed it last.
    pub changed_by: String,
    /// When.
    pub changed_at: Option<Timestamp>,
    /// Why.
    pub change_reason: String,
}

/// How far a message has come at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Somebody sends it, until then.
    Sending,
    /// It failed, and comes again.
    Waiting,
    /// It is there.
    Sent,
    /// It was refused for good, and lies in the dead-letter queue.
    Refused,
}

/// Item `delivery#…`: one message at one destination. It makes sure that a message which SQS brings twice is told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Delivery {
    /// Counts the changes.
    pub version: u64,
    /// How far it has come.
    pub progress: Progress,
    /// Until when nobody else may send it, Unix milliseconds.
    pub until: i64,
    /// When the table may forget it, Unix seconds.
    pub expires_at: i64,
}

/// Where an incident or a ticket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaseStatus {
    /// Somebody opens it, until then.
    Opening,
    /// It is open; what is told of the same problem is added to it.
    Open,
    /// The problem has ended; the next one opens another.
    Closed,
}

/// Item `case#…`: the incident or ticket of one problem at one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Case {
    /// Counts the changes.
    pub version: u64,
    /// Where it stands.
    pub status: CaseStatus,
    /// Its id there: `SEC-12`; empty while it is being opened.
    pub reference: String,
    /// Until when nobody else may open it, Unix milliseconds.
    pub until: i64,
    /// When the table may forget it, Unix seconds.
    pub expires_at: i64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:redress/notify/x-AbCdEf";

    fn read(entry: Value) -> Result<Destination, ListError> {
        read_list(&[entry], Hosts::default()).map(|mut list| list.remove(0))
    }

    fn error(entry: Value) -> String {
        read(entry).unwrap_err().to_string()
    }

    #[test]
    fn a_short_entry_gets_what_its_kind_usually_wants() {
        let pager = read(json!({ "Name": "pager", "Kind": "pagerduty", "Secret": SECRET })).unwrap();
        assert_eq!(pager.filter.minimum_severity, SeverityLabel::Critical);
        assert!(pager.filter.statuses.contains("Failed") && !pager.filter.statuses.contains("Success"));
        let chat = read(json!({ "Name": "chat", "Kind": "slack", "Secret": SECRET })).unwrap();
        assert!(chat.filter.statuses.is_empty() && chat.filter.alarms);
        let jira = json!({ "Name": "t", "Kind": "jira", "Secret": SECRET, "Endpoint": "https://a.atlassian.net", "Project": "SEC" });
        assert!(read(jira).unwrap().filter.statuses.contains("AwaitingApproval"));
    }

    #[test]
    fn what_is_wrong_is_said_by_entry_and_field() {
        let good = json!({ "Name": "chat", "Kind": "slack", "Secret": SECRET });
        let with = |name: &str, value: Value| {
            let mut entry = good.clone();
            entry[name] = value;
            entry
        };
        let told = [
            error(json!(7)),
            error(json!({ "Kind": "slack", "Secret": SECRET })),
            error(with("Name", json!("So Loud"))),
            error(with("Kind", json!("pigeon"))),
            error(with("Secret", json!("arn:aws:secretsmanager:eu-central-1:111122223333:secret:prod/db-AbCdEf"))),
            error(with("Webhook", json!("https://hooks.slack.com/services/T/B/x"))),
            error(with("Endpoint", json!("https://evil.example"))),
            error(with("Filter", json!({ "Severity": "HIGH" }))),
            error(with("Filter", json!({ "MinimumSeverity": "SEVERE" }))),
            error(with("Filter", json!({ "Accounts": ["12"] }))),
            error(with("Filter", json!({ "Statuses": ["Broken"] }))),
            error(json!({ "Name": "t", "Kind": "jira", "Secret": SECRET, "Endpoint": "https://a.atlassian.net" })),
            error(
                json!({ "Name": "t", "Kind": "servicenow", "Secret": SECRET, "Endpoint": "https://a.service-now.com/x" }),
            ),
            read_list(&[good.clone(), good.clone()], Hosts::default()).unwrap_err().to_string(),
            read_list(&vec![good; 11], Hosts::default()).unwrap_err().to_string(),
        ];
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn only_the_products_own_hosts_are_written_to() {
        let check = |kind, url| check_url(kind, url, Hosts::default());
        for (kind, url) in [
            (Kind::Slack, "https://hooks.slack.com/services/T/B/x"),
            (Kind::Teams, "https://prod-1.westeurope.logic.azure.com:443/workflows/a?sig=b"),
            (Kind::Teams, "https://default0.0a.environment.api.powerplatform.com:443/powerautomate/x?sig=b"),
            (Kind::PagerDuty, "https://events.eu.pagerduty.com"),
            (Kind::ServiceNow, "https://example.service-now.com"),
            (Kind::Jira, "https://example.atlassian.net"),
        ] {
            assert_eq!(check(kind, url), Ok(()), "{url}");
        }
        for url in [
            "http://hooks.slack.com/services/T/B/x",
            "https://hooks.slack.com@evil.example/",
            "https://hooks.slack.com:8443/",
            "https://hooks.slack.com.evil.example/",
            "https://evil.example/hooks.slack.com",
            "https://evil.example\\hooks.slack.com",
            "https://evil.example?hooks.slack.com",
            "https:///hooks.slack.com",
            "https://127.0.0.1/",
            "hooks.slack.com",
            "",
        ] {
            assert!(check(Kind::Slack, url).is_err(), "{url}");
        }
        for url in [
            "https://.service-now.com",
            "https://a..service-now.com",
            "https://evilservice-now.com",
            "https://a_b.service-now.com",
        ] {
            assert!(check(Kind::ServiceNow, url).is_err(), "{url}");
        }
    }

    #[test]
    fn loopback_loosens_for_this_machine_only() {
        let hosts = Hosts { loopback: true };
        assert_eq!(check_url(Kind::Slack, "http://127.0.0.1:8080/x", hosts), Ok(()));
        for url in [
            "http://127.0.0.2:80/",
            "http://10.0.0.1/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://169.254.169.254/",
        ] {
            assert!(check_url(Kind::Slack, url, hosts).is_err(), "{url}");
        }
    }

    #[test]
    fn a_refused_url_says_no_more_of_it_than_its_host() {
        let told = check_url(Kind::Slack, "https://evil.example/services/T0/B0/secret", Hosts::default()).unwrap_err();
        assert!(!told.to_string().contains("secret") && told.to_string().contains("evil.example"));
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_url_of_another_host(url in "(https?://)?[a-z.@:/\\\\?#]{0,30}(hooks\\.slack\\.com)?[a-z.@:/\\\\?#]{0,20}") {
            if check_url(Kind::Slack, &url, Hosts::default()).is_ok() {
                let rest = url.strip_prefix("https://").unwrap();
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-')).unwrap_or(rest.len());
                prop_assert!(["hooks.slack.com", "slack.com"].contains(&&rest[..end]));
                prop_assert!(matches!(rest[end..].chars().next(), None | Some('/' | '?' | '#' | ':')));
            }
        }
    }

    #[test]
    fn a_list_survives_the_table() {
        use crate::aws::state_table::{Snapshot, StateKey, encode};
        let list = vec![json!({ "Name": "chat", "Kind": "slack", "Secret": SECRET, "Filter": { "Alarms": false } })];
        let before = Destinations { version: 3, list, ..Destinations::default() };
        let item = encode(&StateKey::Destinations, &before).unwrap();
        let after = Snapshot::new(&[StateKey::Destinations], vec![item]).destinations().unwrap();
        assert_eq!(after, before);
    }
}
