//! Findings that wait: for a free slot in their account and Region, or for their turn in a campaign.
//!
//! Completion brings the next one back when a remediation ends; this is for when it did not. Campaigns have no other
//! motor. What is brought back is decided about anew, by the settings of now.

use std::collections::BTreeSet;

use jiff::Timestamp;
use redress_common::aws::ledger_store::{Also, AppendError, TransactError};
use redress_common::aws::open::Open;
use redress_common::aws::state_table::{Expect, Settings, Snapshot, StateKey, Switch};
use redress_common::finding::{Inbound, parse};
use redress_common::ids::{AccountId, RemediationId};
use redress_common::items::breaker::BreakerScope;
use redress_common::items::campaign::{Campaign, CampaignStatus};
use redress_common::items::flight::Flight;
use redress_common::ledger::detail;
use redress_common::state::State;

use super::ports::Watch;
use super::{Broken, Counts, Note, Reconciler};
use crate::ports::Waiting;
use crate::report;

/// Places and campaigns that one run looks at.
const PLACES: usize = 100;
/// Findings of one place or campaign that one run brings back.
const BROUGHT: u32 = 100;
/// So many times an hour there is a run, by the template's schedule.
const RUNS: u32 = 4;
/// No campaign's findings are released at a higher pace.
pub(crate) const PER_HOUR: u32 = RUNS * BROUGHT;

/// How many findings may be brought back to a place.
#[must_use]
pub fn free(flight: &Flight, settings: &Settings, now: Timestamp) -> usize {
    flight.free(settings.limits.in_flight, now.as_millisecond()).min(BROUGHT as usize)
}

/// Why a campaign's findings may not be released now.
///
/// # Errors
/// When a breaker is not readable: then nothing is released either.
pub fn stopped(
    campaign: &Campaign,
    settings: &Settings,
    snapshot: &Snapshot,
) -> Result<Option<String>, redress_common::aws::item::ItemError> {
    let of_control = settings.controls.get(&campaign.control).copied().unwrap_or_default();
    let switch = settings.switch.max(of_control);
    if switch != Switch::On {
        return Ok(Some(format!("the switch says {}", switch.as_str())));
    }
    for scope in breakers(campaign) {
        if snapshot.breaker(&scope)?.opened_at.is_some() {
            return Ok(Some(format!("the breaker of {scope} is open")));
        }
    }
    Ok(None)
}

/// The account of a finding that waits; `None` when it cannot be read: who gets it says why.
fn account_of(waiting: &Waiting) -> Option<AccountId> {
    match parse(waiting.body.as_bytes()) {
        Ok(Inbound::Released { finding, .. }) => Some(finding.account),
        _ => None,
    }
}

fn breakers(campaign: &Campaign) -> [BreakerScope; 2] {
    [BreakerScope::Organisation, BreakerScope::Control(campaign.control.clone())]
}

impl<W: Watch> Reconciler<W> {
    /// Brings back what waits for a slot that is free.
    pub(super) async fn backlog(&self, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        for (key, _) in self.outside.open(Open::Flight, 0, i64::MAX, PLACES).await? {
            let Some(key) = key else { continue };
            let done = self.backlog_of(&key, &mut counts, now).await;
            counts.or_failed("backlog", done);
        }
        Ok(counts)
    }

    async fn backlog_of(&self, key: &StateKey, counts: &mut Counts, now: Timestamp) -> Result<(), Broken> {
        let StateKey::Flight(account, region) = key else { return Ok(()) };
        let snapshot = self.outside.read(&[key.clone(), StateKey::Settings]).await?;
        let (flight, settings) = (snapshot.flight(account, region)?, snapshot.settings()?);
        let free = free(&flight, &settings, now);
        if free == 0 {
            return Ok(());
        }
        let waiting = self.outside.waiting(&key.to_string(), "", free).await?;
        for finding in &waiting {
            self.outside.bring_back(finding).await?;
            counts.done("brought-back");
        }
        if waiting.is_empty() && flight.waiting {
            // Nothing waits any more; what ended long ago is dropped with the mark.
            let next = flight.marked(false).landed(now.as_millisecond());
            match self.outside.put_if(key, &next, Expect::Version(flight.version)).await {
                Ok(()) | Err(TransactError::AlsoLost(_) | TransactError::ClaimLost) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Releases what is due of the campaigns that run.
    pub(super) async fn campaigns(&self, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        for (key, _) in self.outside.open(Open::Campaign, 0, i64::MAX, PLACES).await? {
            let Some(StateKey::Campaign(name)) = &key else { continue };
            match self.release(name, &mut counts, now).await {
                // An operator paused it meanwhile, or another run has it.
                Ok(()) | Err(Broken::Append(AppendError::AlsoLost(_))) => {}
                Err(error) => counts.failed("campaign", &error),
            }
        }
        Ok(counts)
    }

    /// The pace is written down before anything is released: a run that dies in between releases less, never more.
    async fn release(&self, name: &str, counts: &mut Counts, now: Timestamp) -> Result<(), Broken> {
        let key = StateKey::Campaign(name.to_owned());
        let Some(campaign) = self.outside.read(std::slice::from_ref(&key)).await?.campaign(name)? else {
            return Ok(());
        };
        let mut keys = vec![StateKey::Settings];
        keys.extend(breakers(&campaign).map(StateKey::Breaker));
        let snapshot = self.outside.read(&keys).await?;
        if let Some(why) = stopped(&campaign, &snapshot.settings()?, &snapshot)? {
            tracing::info!(campaign = name, why, "nothing is released");
            return Ok(());
        }
        let (wanted, _) = campaign.due(BROUGHT, now);
        let look = if wanted == 0 { 1 } else { BROUGHT as usize };
        let waiting = self.outside.waiting(&campaign.place(), "", look).await?;
        let open = if wanted == 0 { BTreeSet::new() } else { self.open_accounts(&waiting).await? };
        let may_go = |finding: &&Waiting| account_of(finding).is_none_or(|account| !open.contains(&account));
        let going: Vec<&Waiting> = waiting.iter().filter(may_go).take(wanted as usize).collect();
        let due = going.len();
        let (_, released_at) = campaign.due(u32::try_from(due).unwrap_or(0), now);
        let status = if waiting.is_empty() { CampaignStatus::Done } else { campaign.status };
        if due == 0 && status == campaign.status {
            return Ok(());
        }
        let released = campaign.released.saturating_add(u32::try_from(due).unwrap_or(0));
        let version = campaign.version + 1;
        let next = Campaign { version, status, released, released_at, ..campaign.clone() };
        let put = Also::put(key.clone(), &next, Expect::Version(campaign.version))?;
        let (code, reason) = match status {
            CampaignStatus::Done => ("campaign-done", format!("all {released} findings were released")),
            _ => ("campaign-released", format!("{due} findings, at {} an hour", campaign.per_hour)),
        };
        let title = format!("Campaign {name}: {reason}");
        let mut subject =
            self.subject(format!("redress:campaign/{name}"), "Redress::Campaign", title, "Release findings");
        subject.control = Some(campaign.control.clone());
        let id = RemediationId::of_rejected(format!("campaign:{name}:{version}").as_bytes());
        if status == CampaignStatus::Done {
            let note = Note { id, subject, state: State::Notified, code, reason, more: report::Detail::new() };
            if self.note(note, vec![put], now).await? {
                counts.done("campaign-done");
            }
            return Ok(());
        }
        let mut record = report::draft(&self.me, id, &subject, State::Applied, now);
        record.detail.extend(report::details([(detail::CODE, code.to_owned()), (detail::REASON, reason)]));
        self.append(&self.me.account, vec![record], None, vec![put]).await?;
        for finding in going {
            self.outside.bring_back(finding).await?;
            counts.done("released");
        }
        Ok(())
    }

    /// Of the accounts of these, those whose breaker is open: what was released to them would only be told, and gone.
    async fn open_accounts(&self, waiting: &[Waiting]) -> Result<BTreeSet<AccountId>, Broken> {
        let accounts: BTreeSet<AccountId> = waiting.iter().filter_map(account_of).collect();
        let scopes: Vec<BreakerScope> = accounts.iter().cloned().map(BreakerScope::Account).collect();
        if scopes.is_empty() {
            return Ok(BTreeSet::new());
        }
        let keys: Vec<StateKey> = scopes.iter().cloned().map(StateKey::Breaker).collect();
        let snapshot = self.outside.read(&keys).await?;
        let mut open = BTreeSet::new();
        for (account, scope) in accounts.into_iter().zip(&scopes) {
            if snapshot.breaker(scope)?.opened_at.is_some() {
                open.insert(account);
            }
        }
        Ok(open)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use redress_common::aws::state_table;
    use redress_common::items::breaker::Breaker;
    use serde_json::json;

    fn campaign() -> Campaign {
        let item = json!({
            "Version": 1, "Name": "old", "Status": "Running", "Control": "S3.8", "Accounts": [], "PerHour": 10, "Planned": 9,
            "Released": 0, "ReleasedAt": 0, "CreatedBy": "", "CreatedAt": "2026-01-01T00:00:00Z", "Reason": "",
        });
        serde_json::from_value(item).unwrap()
    }

    #[test]
    fn a_campaign_stands_still_while_its_switch_is_not_on_or_a_breaker_is_open() {
        let key = StateKey::Breaker(BreakerScope::Control("S3.8".parse().unwrap()));
        let open = Breaker { version: 1, opened_at: Some(1), ..Breaker::default() };
        let open = Snapshot::new(std::slice::from_ref(&key), vec![state_table::encode(&key, &open).unwrap()]);
        let (on, none) = (Settings::default(), Snapshot::default());
        assert_eq!(stopped(&campaign(), &on, &none).unwrap(), None);
        assert!(stopped(&campaign(), &on, &open).unwrap().unwrap().contains("control:S3.8"));
        for switch in [Switch::Observe, Switch::Off] {
            let everywhere = Settings { switch, ..Settings::default() };
            let here = Settings { controls: [("S3.8".parse().unwrap(), switch)].into(), ..Settings::default() };
            let elsewhere = Settings { controls: [("EC2.7".parse().unwrap(), switch)].into(), ..Settings::default() };
            assert!(stopped(&campaign(), &everywhere, &none).unwrap().is_some());
            assert!(stopped(&campaign(), &here, &none).unwrap().is_some());
            assert_eq!(stopped(&campaign(), &elsewhere, &none).unwrap(), None);
        }
    }

    #[test]
    fn runs_whose_time_is_over_take_no_slot() {
        let id = |name: &str| RemediationId::of_rejected(name.as_bytes());
        let now = Timestamp::from_millisecond(1_000).unwrap();
        let running = [(id("a"), 2_000), (id("b"), 900)].into();
        let flight = Flight { running, ..Flight::default() };
        let mut settings = Settings::default();
        settings.limits.in_flight = 3;
        assert_eq!(free(&flight, &settings, now), 2);
        settings.limits.in_flight = 1;
        assert_eq!(free(&flight, &settings, now), 0);
    }
}
