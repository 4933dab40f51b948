//! What an operator's request makes of the state items: the new items, and what the ledger says of it.
//!
//! Pure: items as they were read and a request in, items to write out. Every bound that a request must keep is here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use redress_common::arn::Arn;
use redress_common::aws::item::ItemError;
use redress_common::aws::ledger_store::Also;
use redress_common::aws::state_table::{Expect, Settings, Snapshot, StateKey};
use redress_common::ids::{AccountId, ControlId, excerpt};
use redress_common::items::breaker::{Breaker, BreakerScope};
use redress_common::items::campaign::{Campaign, CampaignStatus};
use redress_common::items::destination::{Destinations, Hosts, read_list};
use redress_common::items::exemption::{Exemption, Exemptions};
use redress_common::items::policy::{MAX_SOURCE, PolicyItem};
use redress_common::items::settings::{Limits, PolicySetName, Switch};
use redress_common::ledger::sha256_hex;
use redress_common::operate::{Request, SwitchScope};
use redress_common::time::seconds_of;
use serde::Serialize;
use serde_json::{Value, json};

use super::door::Refused;
use crate::breaker;
use crate::policy::Policies;

/// An exemption that ended so many days ago is dropped at the next change.
const KEPT_DAYS: i64 = 30;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// No reason, owner or name is longer, in characters.
const MAX_TEXT: usize = 500;

/// A change to write, and what the ledger says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The items, each with what must still hold of it.
    pub also: Vec<Also>,
    /// What is changed: `redress:settings`.
    pub resource: String,
    /// Its type: `Redress::Settings`.
    pub kind: &'static str,
    /// What is done, in words.
    pub action: String,
    /// A slug that stays the same between releases.
    pub code: &'static str,
    /// Why, in the operator's words.
    pub reason: String,
    /// What it was.
    pub before: String,
    /// What it becomes.
    pub after: String,
    /// What the operator is answered.
    pub answer: Value,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It is as asked already; nothing is written.
    Same(Value),
    /// This is written.
    Change(Box<Change>),
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The caller.
    pub by: &'a Arn,
    /// The administrator account.
    pub administrator: &'a AccountId,
    /// Now.
    pub now: Timestamp,
}

/// The items that a change needs; none when the request is no change of items.
///
/// # Errors
/// When the request names something that cannot be.
pub fn keys(request: &Request) -> Result<Vec<StateKey>, Refused> {
    Ok(match request {
        Request::Switch { .. } | Request::Settings { .. } => vec![StateKey::Settings],
        Request::PolicySet { .. } => vec![StateKey::Settings, StateKey::Policy],
        Request::PolicyRollback { to, .. } => {
            let old = to.map(StateKey::PolicyVersion);
            [StateKey::Settings, StateKey::Policy].into_iter().chain(old).collect()
        }
        Request::ExemptionAdd { .. } | Request::ExemptionRemove { .. } => vec![StateKey::Exemptions],
        Request::BreakerClose { scope, .. } => vec![StateKey::Breaker(scope_of(scope)?)],
        Request::Destinations { .. } => vec![StateKey::Destinations],
        Request::CampaignRun { name, .. } | Request::CampaignPlan { name, .. } => {
            vec![StateKey::Campaign(campaign_name(name)?.to_owned())]
        }
        _ => Vec::new(),
    })
}

/// What a request makes of the items. `old` is the policy set that a rollback goes back to.
///
/// # Errors
/// When it is refused.
pub fn step(request: &Request, read: &Snapshot, old: Option<&PolicyItem>, asking: Asking<'_>) -> Result<Step, Refused> {
    match request {
        Request::Switch { to, scope, reason } => switch(*to, scope, reason, settings(read)?, asking),
        Request::Settings { .. } => set(request, settings(read)?, asking),
        Request::PolicySet { source, reason } => {
            let active = read.policy().map_err(|error| unreadable(&error))?;
            policy_set(source, reason, settings(read)?, active.as_ref(), asking)
        }
        Request::PolicyRollback { to, reason } => {
            let active = read.policy().map_err(|error| unreadable(&error))?;
            rollback(*to, reason, settings(read)?, active.as_ref(), old, asking)
        }
        Request::ExemptionAdd { .. } => exempt(request, read.exemptions().map_err(|error| unreadable(&error))?, asking),
        Request::ExemptionRemove { id, reason } => {
            end_exemption(id, reason, read.exemptions().map_err(|error| unreadable(&error))?)
        }
        Request::BreakerClose { scope, reason } => {
            let scope = scope_of(scope)?;
            let breaker = read.breaker(&scope).map_err(|error| unreadable(&error))?;
            close(&scope, reason, breaker, asking)
        }
        Request::Destinations { list, reason } => {
            destinations(list, reason, read.destinations().map_err(|error| unreadable(&error))?, asking)
        }
        Request::CampaignRun { name, run, reason } => {
            let found = read.campaign(campaign_name(name)?).map_err(|error| unreadable(&error))?;
            run_campaign(name, *run, reason, found, asking)
        }
        _ => Err(Refused::malformed("no-change", "this request changes no setting")),
    }
}

fn unreadable(error: &ItemError) -> Refused {
    let message = format!("{error}; an administrator must mend the item by hand: docs/operate.md, \"Break glass\"");
    Refused::conflict("unreadable", message)
}

fn settings(read: &Snapshot) -> Result<Settings, Refused> {
    read.settings().map_err(|error| unreadable(&error))
}

fn encode<T: Serialize>(key: StateKey, value: &T, expect: Expect) -> Result<Also, Refused> {
    Also::put(key, value, expect).map_err(|error| Refused::malformed("unwritable", error.to_string()))
}

/// A text of an operator's that must be there and short.
pub(super) fn said(what: &'static str, text: &str) -> Result<String, Refused> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Refused::malformed("no-reason", format!("the {what} is empty; it goes into the ledger")));
    }
    short(what, text)
}

/// The same, when it may be left out.
fn short(what: &'static str, text: &str) -> Result<String, Refused> {
    let text = crate::report::sanitised(text);
    if text.chars().count() > MAX_TEXT {
        return Err(Refused::malformed("too-long", format!("the {what} is longer than {MAX_TEXT} characters")));
    }
    Ok(text)
}

/// Lower-case letters, digits and hyphens.
fn named<'a>(what: &'static str, name: &'a str) -> Result<&'a str, Refused> {
    let good = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good {
        return Ok(name);
    }
    let message = format!(
        "`{}` is no name of {what}: 1 to 64 lower-case letters, digits and hyphens, a letter or digit first",
        excerpt(name)
    );
    Err(Refused::malformed("bad-name", message))
}

/// The name of a campaign.
///
/// # Errors
/// When it is none.
pub fn campaign_name(name: &str) -> Result<&str, Refused> {
    named("a campaign", name)
}

fn unit(ou: &str) -> Result<String, Refused> {
    let word = |part: &str| part.len() >= 4 && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let good = ou.strip_prefix("r-").is_some_and(word)
        || ou
            .strip_prefix("ou-")
            .and_then(|rest| rest.split_once('-'))
            .is_some_and(|(root, own)| word(root) && word(own));
    if good {
        return Ok(ou.to_owned());
    }
    let message = format!("`{}` is no id of an organisational unit such as `ou-ab12-cd34ef56`", excerpt(ou));
    Err(Refused::malformed("bad-ou", message))
}

/// A change of the settings. `acts` when something that was not done before may be done now.
fn settled(
    before: &Settings,
    after: Settings,
    acts: bool,
    words: (&'static str, String, String),
    (was, is): (String, String),
    asking: Asking<'_>,
) -> Result<Change, Refused> {
    let (code, action, reason) = words;
    let after = Settings {
        version: before.version + 1,
        // EventBridge tells times by the second: what failed in this one counts as new.
        acting_since: if acts { Timestamp::from_second(asking.now.as_second()).ok() } else { after.acting_since },
        changed_by: asking.by.to_string(),
        changed_at: Some(asking.now),
        change_reason: reason.clone(),
        ..after
    };
    // Settings that an older release, or a person, wrote have no version and count as absent to nobody else.
    let expect = Expect::Version(before.version);
    Ok(Change {
        also: vec![encode(StateKey::Settings, &after, expect)?],
        resource: "redress:settings".to_owned(),
        kind: "Redress::Settings",
        action,
        code,
        reason,
        before: was,
        after: is,
        answer: json!({ "Changed": true, "Settings": after }),
    })
}

fn switch(
    to: Switch,
    scope: &SwitchScope,
    reason: &str,
    before: Settings,
    asking: Asking<'_>,
) -> Result<Step, Refused> {
    let reason = short("reason", reason)?;
    let mut after = before.clone();
    let (where_, was) = match scope {
        SwitchScope { account: None, ou: None, control: None } => {
            ("everything".to_owned(), std::mem::replace(&mut after.switch, to))
        }
        SwitchScope { account: Some(account), ou: None, control: None } => {
            (format!("account {account}"), turn(&mut after.accounts, account.clone(), to))
        }
        SwitchScope { account: None, ou: Some(ou), control: None } => {
            (format!("organisational unit {ou}"), turn(&mut after.ous, unit(ou)?, to))
        }
        SwitchScope { account: None, ou: None, control: Some(control) } => {
            (format!("control {control}"), turn(&mut after.controls, control.clone(), to))
        }
        _ => {
            let message = "a switch is about an account, an organisational unit, a control, or everything: one of them";
            return Err(Refused::malformed("two-scopes", message));
        }
    };
    let acts = to == Switch::On && was != Switch::On;
    let words = ("switch", format!("Switch {}: {where_}", to.as_str()), reason);
    let change = settled(&before, after, acts, words, (was.as_str().to_owned(), to.as_str().to_owned()), asking)?;
    Ok(Step::Change(Box::new(change)))
}

/// Sets the switch of one scope; `on` is what holds without an entry.
fn turn<K: Ord>(switches: &mut BTreeMap<K, Switch>, key: K, to: Switch) -> Switch {
    let was = if to == Switch::On { switches.remove(&key) } else { switches.insert(key, to) };
    was.unwrap_or_default()
}

/// A limit's name, its bounds, and where it lies.
type Bound = (&'static str, std::ops::RangeInclusive<u32>, fn(&mut Limits) -> &mut u32);

const LIMITS: [Bound; 7] = [
    ("InFlight", 1..=245, |limits| &mut limits.in_flight),
    ("AccountPerHour", 1..=10_000, |limits| &mut limits.account_per_hour),
    ("OrganisationPerHour", 1..=100_000, |limits| &mut limits.organisation_per_hour),
    ("ControlFailurePercent", 1..=100, |limits| &mut limits.control_failure_percent),
    ("ControlMinimum", 1..=1_000, |limits| &mut limits.control_minimum),
    ("CoolDownSeconds", 60..=86_400, |limits| &mut limits.cool_down_seconds),
    ("ApprovalSeconds", 300..=604_800, |limits| &mut limits.approval_seconds),
];

fn limit(limits: &mut Limits, name: &str, value: u32) -> Result<(), Refused> {
    let Some((_, bounds, place)) = LIMITS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<&str> = LIMITS.iter().map(|(name, ..)| *name).collect();
        let message = format!("there is no limit `{}`; the limits are {}", excerpt(name), known.join(", "));
        return Err(Refused::malformed("bad-limit", message));
    };
    if !bounds.contains(&value) {
        let message = format!("{name} {value} is out of bounds: {} to {}", bounds.start(), bounds.end());
        return Err(Refused::malformed("bad-limit", message));
    }
    *place(limits) = value;
    Ok(())
}

/// How much a set does. The operators' own may do anything.
const fn reach(set: PolicySetName) -> u8 {
    match set {
        PolicySetName::Observe => 0,
        PolicySetName::Pilot => 1,
        PolicySetName::Standard => 2,
        PolicySetName::Custom => 3,
    }
}

fn set(request: &Request, before: Settings, asking: Asking<'_>) -> Result<Step, Refused> {
    let Request::Settings { policy_set, pilot_accounts, time_zone, change_calendars, limits, reason } = request else {
        return Err(Refused::malformed("no-change", "these are no settings"));
    };
    let reason = short("reason", reason)?;
    let mut after = before.clone();
    if let Some(set) = policy_set {
        if *set == PolicySetName::Custom {
            let message = "your own policies come into force by `redress policy set`, not by their name";
            return Err(Refused::malformed("custom", message));
        }
        after.policy_set = *set;
        after.shipped_before = *set;
    }
    if let Some(accounts) = pilot_accounts {
        after.pilot_accounts = accounts.iter().cloned().collect();
    }
    if let Some(zone) = time_zone {
        after.time_zone = if zone.is_empty() { None } else { Some(time_zone_of(zone)?) };
    }
    if let Some(calendars) = change_calendars {
        for calendar in calendars {
            is_calendar(calendar, asking.administrator)?;
        }
        after.change_calendars = calendars.clone();
    }
    for (name, value) in limits {
        limit(&mut after.limits, name, *value)?;
    }
    let (was, is) = difference(&before, &after);
    if was == is {
        return Ok(Step::Same(json!({ "Changed": false, "Settings": before })));
    }
    let more_pilots = after.policy_set == PolicySetName::Pilot
        && after.pilot_accounts.iter().any(|account| !before.pilot_accounts.contains(account));
    let acts = reach(after.policy_set) > reach(before.policy_set) || more_pilots;
    let words = ("settings", "Change the settings".to_owned(), reason);
    Ok(Step::Change(Box::new(settled(&before, after, acts, words, (was, is), asking)?)))
}

/// Only what differs, each side as one line.
fn difference(before: &Settings, after: &Settings) -> (String, String) {
    let parts = |settings: &Settings| match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (was, is) = (parts(before), parts(after));
    let changed: Vec<&String> =
        is.keys().filter(|name| was.get(*name) != is.get(*name) && *name != "ShippedBefore").collect();
    let line = |map: &serde_json::Map<String, Value>| {
        let chosen: serde_json::Map<String, Value> =
            changed.iter().map(|name| ((*name).clone(), map.get(*name).cloned().unwrap_or_default())).collect();
        crate::report::sanitised(&Value::Object(chosen).to_string())
    };
    (line(&was), line(&is))
}

fn time_zone_of(name: &str) -> Result<String, Refused> {
    match TimeZone::get(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => {
            let message = format!("`{}` is no IANA time zone such as `Europe/Berlin`", excerpt(name));
            Err(Refused::malformed("bad-time-zone", message))
        }
    }
}

fn is_calendar(calendar: &Arn, administrator: &AccountId) -> Result<(), Refused> {
    let good = calendar.service() == "ssm"
        && calendar.account() == Some(administrator)
        && calendar.resource().starts_with("document/");
    if good {
        return Ok(());
    }
    let message = format!(
        "`{}` is no change calendar of account {administrator}: the ARN of an SSM document of type ChangeCalendar",
        excerpt(calendar.as_str())
    );
    Err(Refused::malformed("bad-calendar", message))
}

fn policy_set(
    source: &str,
    reason: &str,
    before: Settings,
    active: Option<&PolicyItem>,
    asking: Asking<'_>,
) -> Result<Step, Refused> {
    let reason = said("reason", reason)?;
    if source.len() > MAX_SOURCE {
        return Err(Refused::malformed("too-large", format!("a policy set has at most {MAX_SOURCE} bytes")));
    }
    Policies::load(source).map_err(|error| Refused::malformed("invalid-policies", error.to_string()))?;
    enforce(source, ("policy-set", "Set the policy set".to_owned(), reason), before, active, asking)
}

/// The version that decided before the present one; `None` when that was a shipped set.
pub(super) fn version_before(settings: &Settings, active: Option<&PolicyItem>) -> Option<u64> {
    let active = active.filter(|_| settings.policy_set == PolicySetName::Custom)?;
    (active.version > settings.own_since.max(1)).then(|| active.version - 1)
}

fn rollback(
    to: Option<u64>,
    reason: &str,
    before: Settings,
    active: Option<&PolicyItem>,
    old: Option<&PolicyItem>,
    asking: Asking<'_>,
) -> Result<Step, Refused> {
    let reason = said("reason", reason)?;
    let Some(active) = active else {
        return Err(Refused::absent(
            "no-policy",
            "no policy set of your own was ever set: there is none to go back to",
        ));
    };
    if to.is_none() && before.policy_set != PolicySetName::Custom {
        let message = format!(
            "the shipped set `{}` is in force, not your own; say which version: 1 to {}",
            before.policy_set.as_str(),
            active.version
        );
        return Err(Refused::conflict("not-custom", message));
    }
    match (to, old) {
        (_, Some(old)) => {
            Policies::load(&old.source).map_err(|error| {
                let message = format!("version {} is no set of this release any more: {error}", old.version);
                Refused::conflict("invalid-policies", message)
            })?;
            let words = ("policy-rollback", format!("Roll the policy set back to version {}", old.version), reason);
            enforce(&old.source, words, before, Some(active), asking)
        }
        (Some(version), None) => {
            Err(Refused::absent("no-such-version", format!("there is no version {version} of the policy set")))
        }
        (None, None) => {
            let set = before.shipped_before;
            let words = ("policy-rollback", format!("Roll back to the shipped policy set {}", set.as_str()), reason);
            let after = Settings { policy_set: set, ..before.clone() };
            let (was, is) = (format!("version {} {}", active.version, active.sha256), set.as_str().to_owned());
            Ok(Step::Change(Box::new(settled(&before, after, true, words, (was, is), asking)?)))
        }
    }
}

/// Brings a validated set into force.
fn enforce(
    source: &str,
    words: (&'static str, String, String),
    before: Settings,
    active: Option<&PolicyItem>,
    asking: Asking<'_>,
) -> Result<Step, Refused> {
    let sha256 = sha256_hex(source.as_bytes());
    if before.policy_set == PolicySetName::Custom && active.is_some_and(|active| active.sha256 == sha256) {
        return Ok(Step::Same(json!({ "Changed": false, "Policy": summary(active) })));
    }
    let version = active.map_or(0, |active| active.version);
    let item = PolicyItem {
        version: version + 1,
        source: source.to_owned(),
        sha256: sha256.clone(),
        set_by: asking.by.to_string(),
        set_at: asking.now,
        reason: words.2.clone(),
    };
    let was = match (before.policy_set, active) {
        (PolicySetName::Custom, Some(active)) => format!("version {} {}", active.version, active.sha256),
        (set, _) => set.as_str().to_owned(),
    };
    let (shipped_before, own_since) = match before.policy_set {
        PolicySetName::Custom => (before.shipped_before, before.own_since),
        shipped => (shipped, item.version),
    };
    let after = Settings { policy_set: PolicySetName::Custom, shipped_before, own_since, ..before.clone() };
    let is = format!("version {} {sha256}", item.version);
    let mut change = settled(&before, after, true, words, (was, is), asking)?;
    change.also.push(encode(StateKey::Policy, &item, Expect::Version(version))?);
    change.also.push(encode(StateKey::PolicyVersion(item.version), &item, Expect::Absent)?);
    change.resource = "redress:policy".to_owned();
    change.kind = "Redress::Policy";
    change.answer["Policy"] = summary(Some(&item));
    Ok(Step::Change(Box::new(change)))
}

/// A policy set without its text.
fn summary(item: Option<&PolicyItem>) -> Value {
    let Some(item) = item else { return Value::Null };
    json!({ "Version": item.version, "Sha256": item.sha256, "SetBy": item.set_by, "SetAt": item.set_at, "Reason": item.reason })
}

fn exempt(request: &Request, before: Exemptions, asking: Asking<'_>) -> Result<Step, Refused> {
    let Request::ExemptionAdd { id, control, account, ou, resource, owner, reason, expires_at } = request else {
        return Err(Refused::malformed("no-change", "this is no exemption"));
    };
    named("an exemption", id)?;
    if control.is_none() && account.is_none() && ou.is_none() && resource.is_none() {
        let message = "an exemption from everything is `redress observe`; give a control, account, organisational unit or resource";
        return Err(Refused::malformed("no-scope", message));
    }
    let days = (expires_at.as_second() - asking.now.as_second()) / DAY_SECONDS;
    if *expires_at <= asking.now || days > Exemptions::MAX_DAYS {
        let message = format!(
            "an exemption ends in the future and within {} days; `{expires_at}` does not",
            Exemptions::MAX_DAYS
        );
        return Err(Refused::malformed("bad-expiry", message));
    }
    let exemption = Exemption {
        id: id.clone(),
        control: control.clone(),
        account: account.clone(),
        ou: ou.as_deref().map(unit).transpose()?,
        resource: resource.clone(),
        owner: said("owner", owner)?,
        reason: said("reason", reason)?,
        expires_at: *expires_at,
        created_by: asking.by.to_string(),
        created_at: asking.now,
    };
    let mut after = before.clone();
    after.exemptions.retain(|old| asking.now.as_second() - old.expires_at.as_second() < KEPT_DAYS * DAY_SECONDS);
    // One that ended may be given anew, under its name.
    after.exemptions.retain(|old| old.id != *id || old.expires_at > asking.now);
    if after.exemptions.iter().any(|old| old.id == *id) {
        let message = format!("there is an exemption `{id}` already; remove it first, or choose another name");
        return Err(Refused::conflict("exists", message));
    }
    if after.exemptions.len() >= Exemptions::MAX {
        let message = format!("there are {} exemptions; what needs more is a policy", Exemptions::MAX);
        return Err(Refused::conflict("full", message));
    }
    let text = serde_json::to_string(&exemption).unwrap_or_default();
    after.exemptions.push(exemption.clone());
    let words = ("exemption-add", format!("Exempt by {id}"), exemption.reason.clone());
    exempted(&before, after, id, words, (String::new(), text), json!(exemption))
}

fn end_exemption(id: &str, reason: &str, before: Exemptions) -> Result<Step, Refused> {
    let reason = said("reason", reason)?;
    let Some(gone) = before.exemptions.iter().find(|exemption| exemption.id == id) else {
        let message = format!("there is no exemption `{}`; `redress exemption list` shows all", excerpt(id));
        return Err(Refused::absent("no-such-exemption", message));
    };
    let mut after = before.clone();
    after.exemptions.retain(|exemption| exemption.id != id);
    let text = serde_json::to_string(gone).unwrap_or_default();
    let words = ("exemption-remove", format!("End exemption {id}"), reason);
    exempted(&before, after, id, words, (text, String::new()), json!(gone))
}

fn exempted(
    before: &Exemptions,
    after: Exemptions,
    id: &str,
    (code, action, reason): (&'static str, String, String),
    (was, is): (String, String),
    answer: Value,
) -> Result<Step, Refused> {
    let after = Exemptions { version: before.version + 1, ..after };
    Ok(Step::Change(Box::new(Change {
        also: vec![encode(StateKey::Exemptions, &after, Expect::Version(before.version))?],
        resource: format!("redress:exemption/{id}"),
        kind: "Redress::Exemption",
        action,
        code,
        reason,
        before: was,
        after: is,
        answer: json!({ "Changed": true, "Exemption": answer }),
    })))
}

/// A breaker's scope, as it is written.
///
/// # Errors
/// When it is none.
pub fn scope_of(text: &str) -> Result<BreakerScope, Refused> {
    let scope = match text.split_once(':') {
        None if text == "organisation" => Some(BreakerScope::Organisation),
        Some(("account", id)) => id.parse().ok().map(BreakerScope::Account),
        Some(("control", id)) => id.parse::<ControlId>().ok().map(BreakerScope::Control),
        _ => None,
    };
    scope.ok_or_else(|| {
        let message =
            format!("`{}` is no scope of a breaker: `organisation`, `account:<id>` or `control:<id>`", excerpt(text));
        Refused::malformed("bad-scope", message)
    })
}

fn close(scope: &BreakerScope, reason: &str, before: Breaker, asking: Asking<'_>) -> Result<Step, Refused> {
    let reason = said("reason", reason)?;
    let Some(opened) = before.opened_at else {
        return Err(Refused::absent("not-open", format!("the breaker of {scope} is not open")));
    };
    let also = breaker::close(scope, &before, asking.now.as_millisecond());
    let since = seconds_of(opened);
    Ok(Step::Change(Box::new(Change {
        also: also.map_err(|error| Refused::malformed("unwritable", error.to_string()))?,
        resource: format!("redress:breaker/{scope}"),
        kind: "Redress::Breaker",
        action: format!("Close the breaker of {scope}"),
        code: "breaker-close",
        reason,
        before: format!("open since {since}: {}", before.reason),
        after: "closed".to_owned(),
        answer: json!({ "Changed": true, "Scope": scope.to_string(), "OpenedAt": since, "Reason": before.reason }),
    })))
}

fn run_campaign(
    name: &str,
    run: bool,
    reason: &str,
    found: Option<Campaign>,
    asking: Asking<'_>,
) -> Result<Step, Refused> {
    let reason = short("reason", reason)?;
    let before = found.ok_or_else(|| {
        let message = format!("there is no campaign `{name}`; `redress campaign plan` makes one");
        Refused::absent("no-such-campaign", message)
    })?;
    let to = if run { CampaignStatus::Running } else { CampaignStatus::Paused };
    if before.status == to {
        return Ok(Step::Same(json!({ "Changed": false, "Campaign": before })));
    }
    if before.status == CampaignStatus::Done {
        return Err(Refused::conflict("done", format!("campaign `{name}` released all its findings")));
    }
    // From now on, so that a pause does not end in a burst.
    let released_at = if run { asking.now.as_millisecond() } else { before.released_at };
    let after =
        Campaign { version: before.version + 1, status: to, released_at, reason: reason.clone(), ..before.clone() };
    let verb = if run { "Start" } else { "Pause" };
    Ok(Step::Change(Box::new(Change {
        also: vec![encode(StateKey::Campaign(name.to_owned()), &after, Expect::Version(before.version))?],
        resource: format!("redress:campaign/{name}"),
        kind: "Redress::Campaign",
        action: format!("{verb} campaign {name}"),
        code: if run { "campaign-start" } else { "campaign-pause" },
        reason,
        before: format!("{:?}", before.status),
        after: format!("{to:?}"),
        answer: json!({ "Changed": true, "Campaign": after }),
    })))
}

/// A new list of destinations. The ledger tells their names; who may read the item sees the rest.
fn destinations(list: &[Value], reason: &str, before: Destinations, asking: Asking<'_>) -> Result<Step, Refused> {
    let reason = said("reason", reason)?;
    read_list(list, Hosts::default()).map_err(|error| Refused::malformed("bad-destination", error.to_string()))?;
    if before.list == list {
        return Ok(Step::Same(json!({ "Changed": false, "Destinations": before })));
    }
    let names = |list: &[Value]| {
        let named = list.iter().map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            format!("{} ({})", text("Name"), text("Kind"))
        });
        crate::report::sanitised(&named.collect::<Vec<_>>().join(", "))
    };
    let after = Destinations {
        version: before.version + 1,
        list: list.to_vec(),
        changed_by: asking.by.to_string(),
        changed_at: Some(asking.now),
        change_reason: reason.clone(),
    };
    Ok(Step::Change(Box::new(Change {
        also: vec![encode(StateKey::Destinations, &after, Expect::Version(before.version))?],
        resource: "redress:destinations".to_owned(),
        kind: "Redress::Destinations",
        action: "Change where people are told".to_owned(),
        code: "destinations",
        reason,
        before: names(&before.list),
        after: names(list),
        answer: json!({ "Changed": true, "Destinations": after }),
    })))
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
