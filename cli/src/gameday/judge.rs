//! Whether a point of the way back is done: a pure judgement of what the lab's ledger, tables and resources say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::items::campaign::{Campaign, CampaignStatus};
use redress_common::items::exemption::Exemption;
use redress_common::items::settings::{PolicySetName, Settings, Switch};
use redress_common::ledger::{Record, RemediationType, detail};
use redress_common::state::State;
use serde::Serialize;
use serde_json::Value;

use super::book::{Game, Thing};
use super::scenario::{Holds, Point};
use crate::deploy::doctor::CheckId;

/// How long after the switch was turned off something may still be started, in milliseconds.
const EFFECTIVE_MS: i64 = 5_000;

/// What is known of a game. What no point of its scenario asks for is left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// When it was looked at.
    pub(crate) at: Timestamp,
    /// The ledger since the start, oldest first.
    pub(crate) records: Vec<Record>,
    /// What the doctor finds wrong by a check, or why it could not look.
    pub(crate) doctor: BTreeMap<CheckId, Result<Vec<Fault>, String>>,
    /// What was broken as it is now, in the order of [`Game::things`].
    pub(crate) states: Vec<Value>,
    pub(crate) exemptions: Vec<Exemption>,
    pub(crate) settings: Settings,
    pub(crate) campaigns: Vec<Campaign>,
    pub(crate) listeners: Vec<Listener>,
}

/// Something that the doctor finds wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) todo: String,
}

/// Somebody who is subscribed to the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) endpoint: String,
    /// How many messages lie there, when it is a queue.
    pub(crate) messages: Option<u64>,
}

/// How a point stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Verdict {
    pub(crate) point: &'static str,
    pub(crate) ok: bool,
    /// What there is instead; empty when it is done.
    pub(crate) found: String,
    /// What to look at next; empty when it is done.
    pub(crate) look: String,
}

/// What keeps a point from being done.
struct Lack {
    found: String,
    /// What to do, where that is known.
    todo: Option<String>,
}

impl Lack {
    fn of(found: impl Into<String>) -> Self {
        Self { found: found.into(), todo: None }
    }
}

/// How a point of a game stands.
pub(crate) fn judge(point: &Point, game: &Game, facts: &Facts) -> Verdict {
    let lack = match point.holds {
        Holds::Healthy(check) => unhealthy(check, facts),
        Holds::Ended(state) => not_ended(state, game, facts),
        Holds::Contained => not_contained(game, facts),
        Holds::AsItWas => changed(game, facts),
        Holds::Exempt => not_exempt(game, facts),
        Holds::Stopped => windows(facts).is_empty().then(|| Lack::of("nobody turned the switch off")),
        Holds::Quiet => not_quiet(facts),
        Holds::PutBack => {
            let is_back = |record: &Record| record.draft.execution_status == State::RolledBack;
            (!facts.records.iter().any(is_back)).then(|| Lack::of("no remediation was undone"))
        }
        Holds::Acts => not_acting(&facts.settings),
        Holds::Campaign => no_campaign(game, facts),
        Holds::Heard => not_heard(&facts.listeners),
    };
    let Some(Lack { found, todo }) = lack else {
        return Verdict { point: point.what, ok: true, found: String::new(), look: String::new() };
    };
    let mut look = game.filled(point.look);
    if let Some(todo) = todo {
        look = format!("{look}; {todo}");
    }
    Verdict { point: point.what, ok: false, found, look }
}

/// Whether all that was broken has come to what the players are told of.
///
/// # Errors
/// With the end that something came to instead.
pub(crate) fn has_come(wanted: State, game: &Game, records: &[Record]) -> Result<bool, State> {
    let mut all = true;
    for thing in &game.things {
        let mut own = records.iter().filter(|record| is_about(record, thing));
        if own.clone().any(|record| record.draft.execution_status == wanted) {
            continue;
        }
        match own.rfind(|record| is_end(record)) {
            Some(other) => return Err(other.draft.execution_status),
            None => all = false,
        }
    }
    Ok(all)
}

/// Whether a record is of work on a thing, and for what it was broken for.
fn is_about(record: &Record, thing: &Thing) -> bool {
    let (draft, broken) = (&record.draft, &thing.broken);
    draft.account_id == broken.account
        && draft.resource_id == broken.resource_arn.as_str()
        && record.detail(detail::CONTROL) == Some(broken.control.as_str())
}

/// Whether a record says how work ended. That people were told is no work.
fn is_end(record: &Record) -> bool {
    let state = record.draft.execution_status;
    state.is_terminal() && !matches!(state, State::Notified | State::Ignored)
}

fn unhealthy(check: CheckId, facts: &Facts) -> Option<Lack> {
    match facts.doctor.get(&check) {
        None => Some(Lack::of("the doctor was not asked")),
        Some(Err(why)) => Some(Lack::of(format!("the doctor could not look: {why}"))),
        Some(Ok(faults)) => {
            let whats: Vec<&str> = faults.iter().map(|fault| fault.what.as_str()).collect();
            faults.first().map(|first| Lack { found: whats.join("; "), todo: Some(first.todo.clone()) })
        }
    }
}

fn not_ended(wanted: State, game: &Game, facts: &Facts) -> Option<Lack> {
    let end = |thing: &Thing| facts.records.iter().rfind(|record| is_about(record, thing) && is_end(record));
    let lacks = |thing: &Thing| match end(thing).map(|record| &record.draft) {
        Some(last) if last.execution_status == wanted => None,
        Some(last) => {
            let (id, state) = (last.remediation_id, last.execution_status);
            Some(format!("remediation {id} of {} ended as {state}", thing.broken.resource_arn))
        }
        None => Some(format!("nothing was done about {}", thing.broken.resource_arn)),
    };
    game.things.iter().find_map(lacks).map(Lack::of)
}

fn not_contained(game: &Game, facts: &Facts) -> Option<Lack> {
    let is_contained = |thing: &Thing| {
        let mut own = facts.records.iter().filter(|record| is_about(record, thing));
        own.any(|record| record.draft.execution_status == State::Verified)
    };
    let open = game.things.iter().find(|thing| !is_contained(thing))?;
    Some(Lack::of(format!("{} was not contained", open.broken.resource_arn)))
}

fn changed(game: &Game, facts: &Facts) -> Option<Lack> {
    if game.things.len() != facts.states.len() {
        return Some(Lack::of("it was not looked at"));
    }
    let other = |(thing, now): (&Thing, &Value)| {
        let names = differing(&thing.before, now);
        (thing.before != *now).then(|| format!("of {} differs: {}", thing.broken.resource_arn, names.join(", ")))
    };
    game.things.iter().zip(&facts.states).find_map(other).map(Lack::of)
}

/// The parts of a state that are not what they were.
fn differing<'a>(before: &'a Value, now: &'a Value) -> Vec<&'a str> {
    let names = [before, now].into_iter().filter_map(Value::as_object).flat_map(|state| state.keys());
    let mut names: Vec<&str> = names.map(String::as_str).filter(|name| before[name] != now[name]).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn not_exempt(game: &Game, facts: &Facts) -> Option<Lack> {
    let is_covered = |thing: &Thing| facts.exemptions.iter().any(|exemption| covers(exemption, thing, facts.at));
    let bare = game.things.iter().find(|thing| !is_covered(thing))?;
    Some(Lack::of(format!("no exemption covers {}", bare.broken.resource_arn)))
}

/// Whether an exemption holds for a thing now. In which unit the account is, is not known here: one of a unit does not count.
fn covers(exemption: &Exemption, thing: &Thing, now: Timestamp) -> bool {
    let broken = &thing.broken;
    exemption.expires_at > now
        && exemption.ou.is_none()
        && exemption.control.as_ref().is_none_or(|control| *control == broken.control)
        && exemption.account.as_ref().is_none_or(|account| *account == broken.account)
        && exemption.resource.as_ref().is_none_or(|arn| *arn == broken.resource_arn)
}

/// From when to when everything was off, in Unix milliseconds, by the ledger's word. What is off still is so until now.
fn windows(facts: &Facts) -> Vec<(i64, i64)> {
    let is_switch = |record: &&Record| {
        let draft = &record.draft;
        // A change has two records, the second of which says that people were told.
        draft.execution_status == State::Applied
            && draft.resource_type == "Redress::Settings"
            && draft.remediation_action.starts_with("Switch ")
            && draft.remediation_action.ends_with(": everything")
    };
    let (mut windows, mut since) = (Vec::new(), None);
    for record in facts.records.iter().filter(is_switch) {
        let is_off = record.detail(detail::AFTER) == Some(Switch::Off.as_str());
        match (is_off, since) {
            (true, None) => since = Some(record.draft.timestamp),
            (false, Some(from)) => {
                windows.push((from, record.draft.timestamp));
                since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    windows.extend(since.map(|from| (from, facts.at.as_millisecond())));
    windows
}

/// Whether a record was written while everything was off, and so much later than that began.
fn is_within(windows: &[(i64, i64)], record: &Record, later: i64) -> bool {
    windows.iter().any(|(from, to)| (from + later..*to).contains(&record.draft.timestamp))
}

fn not_quiet(facts: &Facts) -> Option<Lack> {
    let windows = windows(facts);
    if windows.is_empty() {
        return Some(Lack::of("nobody turned the switch off"));
    }
    let is_start = |record: &&Record| {
        record.draft.execution_status == State::Claimed
            && record.draft.remediation_type == RemediationType::Automatic
            && is_within(&windows, record, EFFECTIVE_MS)
    };
    if let Some(Record { draft, .. }) = facts.records.iter().find(is_start) {
        return Some(Lack::of(format!("{} was started while it was off", draft.remediation_id)));
    }
    let is_told = |record: &Record| {
        record.draft.execution_status == State::Notified
            && record.detail(detail::CODE) == Some("switched-off")
            && is_within(&windows, record, 0)
    };
    (!facts.records.iter().any(is_told)).then(|| Lack::of("nothing failed while it was off"))
}

fn not_acting(settings: &Settings) -> Option<Lack> {
    let (switch, set) = (settings.switch.as_str(), settings.policy_set.as_str());
    let acts = settings.switch == Switch::On && settings.policy_set != PolicySetName::Observe;
    (!acts).then(|| Lack::of(format!("the switch stands at {switch}, the policy set is {set}")))
}

fn no_campaign(game: &Game, facts: &Facts) -> Option<Lack> {
    let mut own = facts.campaigns.iter().filter(|campaign| campaign.created_at >= game.started);
    let runs = |campaign: &Campaign| matches!(campaign.status, CampaignStatus::Running | CampaignStatus::Done);
    if own.clone().any(runs) {
        return None;
    }
    let lack = own.next().map(|campaign| format!("campaign {} is {:?}", campaign.name, campaign.status));
    Some(Lack::of(lack.unwrap_or_else(|| "there is no campaign since the start".to_owned())))
}

fn not_heard(listeners: &[Listener]) -> Option<Lack> {
    if listeners.iter().any(|listener| listener.messages.is_some_and(|messages| messages > 0)) {
        return None;
    }
    let endpoints: Vec<&str> = listeners.iter().map(|listener| listener.endpoint.as_str()).collect();
    Some(Lack::of(match endpoints.as_slice() {
        [] => "nobody is subscribed".to_owned(),
        some => format!("no message lies in {}", some.join(", ")),
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::book::tests::game;
    use super::*;
    use crate::fixture;

    fn point(holds: Holds) -> Point {
        Point { what: "it is so", holds, look: "redress audit list --resource {arn}" }
    }

    fn judged(holds: Holds, facts: &Facts) -> Verdict {
        judge(&point(holds), &game(), facts)
    }

    /// When, in milliseconds from the start, what, and with which details.
    type Row<'a> = (i64, State, &'a [(&'a str, &'a str)]);

    fn of_records(rows: &[Row<'_>]) -> Facts {
        let drafts = rows.iter().map(|(at, state, details)| fixture::draft(*at, *state, details)).collect();
        let at = "2026-03-01T10:00:00Z".parse().unwrap();
        Facts { records: fixture::sealed(drafts), at, ..Facts::default() }
    }

    #[test]
    fn what_is_missing_says_what_there_is_and_where_to_look() {
        let facts = Facts { records: fixture::failed(), ..Facts::default() };
        let verdict = judged(Holds::Ended(State::Verified), &facts);
        assert_eq!(verdict.found, format!("remediation {} of arn:aws:s3:::my-bucket ended as Failed", fixture::ID));
        assert_eq!(verdict.look, "redress audit list --resource arn:aws:s3:::my-bucket");
        assert!(!verdict.ok);
        let facts = Facts { records: fixture::verified(), ..Facts::default() };
        let verdict = judged(Holds::Ended(State::Verified), &facts);
        assert_eq!((verdict.ok, verdict.found.as_str(), verdict.look.as_str()), (true, "", ""));
        assert!(judged(Holds::Ended(State::Verified), &Facts::default()).found.starts_with("nothing was done about"));
    }

    #[test]
    fn the_last_end_counts_and_being_told_is_none() {
        let facts = of_records(&[
            (1, State::Verified, &[]),
            (2, State::RolledBack, &[]),
            (3, State::Notified, &[(detail::CODE, "held")]),
        ]);
        assert!(judged(Holds::Ended(State::RolledBack), &facts).ok);
        assert!(!judged(Holds::Ended(State::Verified), &facts).ok);
        assert!(judged(Holds::PutBack, &facts).ok);
        assert!(judged(Holds::Contained, &facts).ok);
        let told = of_records(&[(3, State::Notified, &[])]);
        assert!(!judged(Holds::Contained, &told).ok && !judged(Holds::PutBack, &told).ok);
    }

    #[test]
    fn what_another_control_did_to_the_resource_is_not_looked_at() {
        let facts = of_records(&[(1, State::Verified, &[(detail::CONTROL, "S3.1")])]);
        assert!(!judged(Holds::Ended(State::Verified), &facts).ok);
    }

    #[test]
    fn players_are_told_when_it_has_come_to_that_and_not_when_it_ended_otherwise() {
        let (game, failed) = (game(), fixture::failed());
        assert_eq!(has_come(State::Failed, &game, &failed), Ok(true));
        assert_eq!(has_come(State::Failed, &game, &failed[..1]), Ok(false), "it is planned");
        assert_eq!(has_come(State::Verified, &game, &failed), Err(State::Failed));
        assert_eq!(has_come(State::Failed, &game, &fixture::verified()), Err(State::Verified));
        assert_eq!(has_come(State::Failed, &game, &[]), Ok(false));
    }

    #[test]
    fn the_doctor_must_have_looked_and_found_nothing() {
        let with = |looked| Facts { doctor: [(CheckId::Key, looked)].into(), ..Facts::default() };
        assert!(judged(Holds::Healthy(CheckId::Key), &with(Ok(Vec::new()))).ok);
        let fault = Fault { what: "key k-1 is in state PendingDeletion".to_owned(), todo: "cancel it".to_owned() };
        let verdict = judged(Holds::Healthy(CheckId::Key), &with(Ok(vec![fault])));
        assert_eq!(verdict.found, "key k-1 is in state PendingDeletion");
        assert!(verdict.look.ends_with("; cancel it"), "{}", verdict.look);
        let blind = judged(Holds::Healthy(CheckId::Key), &with(Err("AccessDenied".to_owned())));
        assert_eq!(blind.found, "the doctor could not look: AccessDenied");
        assert!(!judged(Holds::Healthy(CheckId::Bucket), &with(Ok(Vec::new()))).ok);
    }

    #[test]
    fn a_resource_is_as_it_was_when_every_part_of_its_state_is() {
        let with = |state: Value| Facts { states: vec![state], ..Facts::default() };
        assert!(judged(Holds::AsItWas, &with(json!({ "Tags": [], "PublicAccessBlock": null }))).ok);
        let fixed = json!({ "Tags": [], "PublicAccessBlock": { "BlockPublicAcls": true }, "Versioning": "Enabled" });
        let verdict = judged(Holds::AsItWas, &with(fixed));
        assert_eq!(verdict.found, "of arn:aws:s3:::my-bucket differs: PublicAccessBlock, Versioning");
        assert!(!judged(Holds::AsItWas, &Facts::default()).ok, "what was not read is not as it was");
    }

    #[test]
    fn an_exemption_covers_what_it_names_until_it_ends() {
        let exemption = |change: fn(&mut Exemption)| {
            let mut exemption = Exemption {
                id: "web".to_owned(),
                control: None,
                account: None,
                ou: None,
                resource: Some("arn:aws:s3:::my-bucket".parse().unwrap()),
                owner: "team web".to_owned(),
                reason: "public on purpose".to_owned(),
                expires_at: "2026-06-01T00:00:00Z".parse().unwrap(),
                created_by: String::new(),
                created_at: Timestamp::UNIX_EPOCH,
            };
            change(&mut exemption);
            let at = "2026-03-01T10:00:00Z".parse().unwrap();
            judged(Holds::Exempt, &Facts { exemptions: vec![exemption], at, ..Facts::default() }).ok
        };
        assert!(exemption(|_| ()));
        assert!(exemption(|one| (one.resource, one.control) = (None, Some("S3.8".parse().unwrap()))));
        assert!(!exemption(|one| one.resource = Some("arn:aws:s3:::another".parse().unwrap())));
        assert!(!exemption(|one| one.control = Some("S3.1".parse().unwrap())));
        assert!(!exemption(|one| one.account = Some("333333333333".parse().unwrap())));
        assert!(!exemption(|one| one.expires_at = "2026-03-01T09:59:59Z".parse().unwrap()));
        assert!(!judged(Holds::Exempt, &Facts::default()).ok);
    }

    /// The facts of a switch that was turned off after a second and on after a minute, and of these.
    fn with_switch(more: &[Row<'_>]) -> Facts {
        let mut facts = of_records(more);
        for (at, to) in [(1_000, "off"), (60_000, "on")] {
            let mut draft = fixture::draft(at, State::Applied, &[(detail::AFTER, to)]);
            draft.resource_type = "Redress::Settings".to_owned();
            draft.remediation_action = format!("Switch {to}: everything");
            facts.records.extend(fixture::sealed(vec![draft]));
        }
        facts.records.sort_by_key(|record| record.draft.timestamp);
        facts
    }

    #[test]
    fn while_everything_is_off_findings_are_told_and_nothing_is_started() {
        const TOLD: Row<'static> = (30_000, State::Notified, &[(detail::CODE, "switched-off")]);
        assert!(!judged(Holds::Stopped, &of_records(&[])).ok);
        assert!(!judged(Holds::Quiet, &of_records(&[TOLD])).ok, "nothing was off");
        assert!(judged(Holds::Stopped, &with_switch(&[])).ok);
        let quiet = |more: &[Row<'_>]| judged(Holds::Quiet, &with_switch(more));
        assert_eq!(quiet(&[]).found, "nothing failed while it was off");
        assert!(quiet(&[(500, State::Claimed, &[]), TOLD]).ok);
        assert!(quiet(&[(3_000, State::Claimed, &[]), TOLD]).ok, "it was being decided");
        let started = quiet(&[(20_000, State::Claimed, &[]), TOLD]);
        assert_eq!(started.found, format!("{} was started while it was off", fixture::ID));
        assert!(!quiet(&[(70_000, State::Notified, TOLD.2)]).ok, "it was on again");
    }

    #[test]
    fn what_is_off_still_is_off_until_now() {
        let mut facts = with_switch(&[]);
        facts.records.pop();
        assert_eq!(windows(&facts), [(1_772_355_601_000, facts.at.as_millisecond())]);
    }

    #[test]
    fn rules_act_when_neither_switch_nor_policy_set_holds_them() {
        let acts = |switch, policy_set| {
            let settings = Settings { switch, policy_set, ..Settings::default() };
            judged(Holds::Acts, &Facts { settings, ..Facts::default() }).ok
        };
        assert!(acts(Switch::On, PolicySetName::Standard) && acts(Switch::On, PolicySetName::Custom));
        assert!(!acts(Switch::On, PolicySetName::Observe) && !acts(Switch::Off, PolicySetName::Standard));
    }

    #[test]
    fn a_campaign_counts_once_it_was_started_and_when_it_is_of_this_game() {
        let with = |status: &str, created: &str| {
            let campaign = json!({
                "Version": 1, "Name": "game-day", "Status": status, "Control": "EC2.13", "Accounts": [], "PerHour": 20,
                "Planned": 3, "Released": 0, "ReleasedAt": 0, "CreatedBy": "arn:aws:iam::999999999999:role/x",
                "CreatedAt": created, "Reason": "game day",
            });
            let campaigns = vec![serde_json::from_value(campaign).unwrap()];
            judged(Holds::Campaign, &Facts { campaigns, ..Facts::default() })
        };
        assert!(with("Running", "2026-03-01T09:30:00Z").ok && with("Done", "2026-03-01T09:30:00Z").ok);
        assert_eq!(with("Planned", "2026-03-01T09:30:00Z").found, "campaign game-day is Planned");
        assert_eq!(with("Running", "2026-02-01T09:30:00Z").found, "there is no campaign since the start");
    }

    #[test]
    fn somebody_has_heard_when_a_message_lies_there() {
        let heard = |listeners: &[(&str, Option<u64>)]| {
            let listener = |(endpoint, messages): &(&str, Option<u64>)| Listener {
                endpoint: (*endpoint).to_owned(),
                messages: *messages,
            };
            let listeners = listeners.iter().map(listener).collect();
            judged(Holds::Heard, &Facts { listeners, ..Facts::default() })
        };
        assert_eq!(heard(&[]).found, "nobody is subscribed");
        let empty = heard(&[("queue", Some(0)), ("jo@example.org", None)]);
        assert_eq!(empty.found, "no message lies in queue, jo@example.org");
        assert!(heard(&[("queue", Some(2))]).ok);
    }
}
