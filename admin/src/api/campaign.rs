//! `redress campaign plan`: the open findings of a control are put aside, in order, to be released at a pace.
//!
//! Nothing is done to a resource here, and nothing is decided: a released finding goes the way of every other.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::aws::ledger_store::{Also, AppendError};
use redress_common::aws::state_table::{Expect, Limits, StateKey};
use redress_common::finding::{self, Finding, Inbound};
use redress_common::ids::{AccountId, RemediationId};
use redress_common::items::account::AccountFacts;
use redress_common::items::campaign::{Campaign, CampaignStatus};
use redress_common::items::exemption::Exemptions;
use redress_common::ledger::detail;
use redress_common::operate::Request;
use serde_json::{Value, json};

use super::Api;
use super::change::{Change, campaign_name, said};
use super::door::{Asked, Refused};
use super::ports::Desk;
use crate::intake::{self, Case};
use crate::policy::{Asked as Facts, Calendar, Policies, Question};
use crate::ports::Waiting;
use crate::reconcile::waiting;

/// No campaign has more findings; a second one takes the rest.
const LIMIT: usize = 1_000;
/// A finding that was not released by then is forgotten.
const KEPT_SECONDS: i64 = 90 * 24 * 60 * 60;

/// The highest pace: what the reconciler releases, and no account's breaker opens by.
fn most_per_hour(limits: &Limits) -> u32 {
    waiting::PER_HOUR.min(limits.account_per_hour)
}

impl<D: Desk> Api<D> {
    /// Lists the open findings of a control, says what policy would do with each, and puts them aside.
    pub(super) async fn plan_campaign(&self, asked: &Asked, now: Timestamp) -> Result<Value, Refused> {
        let Request::CampaignPlan { name, control, accounts, per_hour, reason } = &asked.request else {
            return Err(Refused::malformed("no-campaign", "this is no campaign"));
        };
        let name = campaign_name(name)?;
        let reason = said("reason", reason)?;
        if *per_hour == 0 {
            return Err(Refused::malformed("bad-pace", "a campaign releases at least one finding an hour"));
        }
        let unavailable = |error: &dyn std::error::Error| Refused::unavailable(error);
        let keys = [
            StateKey::Campaign(name.to_owned()),
            StateKey::Chain(self.me.account.clone()),
            StateKey::Catalogue,
            StateKey::Settings,
            StateKey::Policy,
            StateKey::Exemptions,
        ];
        let read = self.read(&keys).await?;
        let before = read.campaign(name).map_err(|error| unavailable(&error))?;
        if let Some(before) = before.as_ref().filter(|before| before.status != CampaignStatus::Done) {
            let message = format!("campaign `{name}` is {:?} already; choose another name", before.status);
            return Err(Refused::conflict("exists", message));
        }
        let catalogue = read.catalogue().map_err(|error| unavailable(&error))?;
        if !catalogue.0.contains_key(control) {
            return Err(Refused::absent("no-such-control", format!("there is no control {control}")));
        }
        let found = self.desk.failed_findings(control, accounts, LIMIT).await;
        let (found, more) = found.map_err(|error| unavailable(&error))?;
        let cases: Vec<(Finding, Case)> = found
            .iter()
            .filter_map(|asff| self.finding(asff))
            .filter_map(|finding| intake::case_of(&finding, &catalogue).ok().map(|case| (finding, case)))
            .collect();

        let settings = read.settings().map_err(|error| unavailable(&error))?;
        let most = most_per_hour(&settings.limits);
        if *per_hour > most {
            let message =
                format!("a campaign releases at most {most} findings an hour: they may all be of one account");
            return Err(Refused::malformed("bad-pace", message));
        }
        let own = read.policy().map_err(|error| unavailable(&error))?;
        let exemptions = read.exemptions().map_err(|error| unavailable(&error))?;
        let policies = Policies::in_force(settings.policy_set, own.as_ref());
        let policies = policies.map_err(|error| unavailable(&error))?;
        let facts = self.accounts(&cases).await?;
        let would = |case: &Case| {
            let asked = question(name, case, facts.get(&case.account), &settings, now);
            verdict(&policies, &asked, &exemptions)
        };
        let summary = summary(cases.iter().map(|(_, case)| (case, would(case))));

        let campaign = Campaign {
            version: before.as_ref().map_or(0, |before| before.version) + 1,
            name: name.to_owned(),
            status: CampaignStatus::Planned,
            control: control.clone(),
            accounts: accounts.clone(),
            per_hour: *per_hour,
            planned: u32::try_from(cases.len()).unwrap_or(u32::MAX),
            released: 0,
            released_at: 0,
            created_by: asked.by.to_string(),
            created_at: now,
            reason: reason.clone(),
            plan: RemediationId::of_rejected(format!("plan:{}:{}", asked.id, now.as_nanosecond()).as_bytes())
                .to_string(),
        };
        let place = campaign.place();
        let waiting: Vec<Waiting> =
            cases.iter().map(|(finding, case)| self.waiting(name, &place, finding, case, now)).collect();
        for (put, finding) in waiting.iter().enumerate() {
            if let Err(error) = self.desk.defer(finding).await {
                self.forget(&waiting[..=put]).await;
                return Err(unavailable(&error));
            }
        }
        let answer = json!({
            "Changed": true, "Campaign": campaign, "Summary": summary, "More": more, "Unfit": found.len() - cases.len(),
        });
        let expect = Expect::Version(before.map_or(0, |before| before.version));
        let item = Also::put(StateKey::Campaign(name.to_owned()), &campaign, expect);
        let change = Change {
            also: vec![item.map_err(|error| unavailable(&error))?],
            resource: format!("redress:campaign/{name}"),
            kind: "Redress::Campaign",
            action: format!("Plan campaign {name}"),
            code: "campaign-plan",
            reason,
            before: String::new(),
            after: format!("{} findings of {control}, {per_hour} an hour", cases.len()),
            answer,
        };
        match self.record(asked, &change, &read, now).await {
            Ok(id) => Ok(self.told(asked, id, change, now).await),
            Err(error) => {
                // A transaction whose answer was lost may have been made all the same.
                let there = self.read(&keys[..1]).await.map(|read| read.campaign(name));
                if matches!(&there, Ok(Ok(there)) if there.as_ref().is_none_or(|there| there.plan != campaign.plan)) {
                    self.forget(&waiting).await;
                }
                Err(match error {
                    AppendError::AlsoLost(_) => {
                        Refused::conflict("exists", format!("somebody planned campaign `{name}` meanwhile"))
                    }
                    error => Refused::unavailable(&error),
                })
            }
        }
    }

    /// Takes back what was put aside for a campaign that did not come about. Where that fails, too, nothing of it is ever
    /// released: its place is that of no campaign, and the table forgets it in time.
    async fn forget(&self, waiting: &[Waiting]) {
        for finding in waiting {
            if let Err(error) = self.desk.forget(finding).await {
                tracing::warn!(place = finding.place, %error, "a finding of a plan that failed stays in the backlog until it expires");
                return;
            }
        }
    }

    /// A finding of Security Hub's, read as its event would be. What an event of it would be ignored for is left out.
    fn finding(&self, asff: &Value) -> Option<Finding> {
        let event = json!({
            "version": "0", "id": asff["Id"], "source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported",
            "account": self.me.account, "region": self.me.home, "time": asff["UpdatedAt"], "resources": [],
            "detail": { "findings": [asff] },
        });
        match finding::parse(event.to_string().as_bytes()) {
            Ok(Inbound::Findings(findings)) => findings.into_iter().flatten().next(),
            _ => None,
        }
    }

    /// What is known of the accounts, as far as it is kept.
    async fn accounts(&self, cases: &[(Finding, Case)]) -> Result<BTreeMap<AccountId, AccountFacts>, Refused> {
        let accounts: std::collections::BTreeSet<&AccountId> = cases.iter().map(|(_, case)| &case.account).collect();
        let accounts: Vec<&AccountId> = accounts.into_iter().collect();
        let mut facts = BTreeMap::new();
        // DynamoDB reads no more at a time.
        for some in accounts.chunks(100) {
            let keys: Vec<StateKey> = some.iter().map(|account| StateKey::Account((*account).clone())).collect();
            let read = self.read(&keys).await?;
            for account in some {
                if let Ok(Some(known)) = read.account(account) {
                    facts.insert((*account).clone(), known);
                }
            }
        }
        Ok(facts)
    }

    fn waiting(&self, name: &str, place: &str, finding: &Finding, case: &Case, now: Timestamp) -> Waiting {
        Waiting {
            place: place.to_owned(),
            order: Waiting::order(false, case.severity.score, finding.event_time, case.id),
            body: finding::released(&self.me.account, &self.me.home, finding, Some(name), now),
            expires_at: now.as_second() + KEPT_SECONDS,
        }
    }
}

/// What policy will be asked when the finding is released, as far as it is known now: nobody asked the guard.
fn question(
    campaign: &str,
    case: &Case,
    facts: Option<&AccountFacts>,
    settings: &redress_common::items::settings::Settings,
    now: Timestamp,
) -> Facts {
    let asked = case.question(settings, now);
    Facts::from(&Question { campaign: Some(campaign), account_facts: facts, calendar: Calendar::None, ..asked })
}

fn verdict(policies: &Policies, asked: &Facts, exemptions: &Exemptions) -> &'static str {
    policies.ask_again(asked, exemptions).map_or("notify", |verdict| verdict.disposition.as_str())
}

/// Counts by what policy would do, by account and by severity.
fn summary<'a>(cases: impl Iterator<Item = (&'a Case, &'static str)>) -> Value {
    let mut counts: [BTreeMap<String, u32>; 3] = Default::default();
    for (case, disposition) in cases {
        let names = [disposition.to_owned(), case.account.to_string(), case.severity.label.as_str().to_owned()];
        for (counts, name) in counts.iter_mut().zip(names) {
            *counts.entry(name).or_default() += 1;
        }
    }
    let [disposition, account, severity] = counts;
    json!({ "Disposition": disposition, "AccountId": account, (detail::SEVERITY): severity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_campaign_is_faster_than_the_reconciler_or_an_accounts_budget() {
        let limits = |account_per_hour| Limits { account_per_hour, ..Limits::default() };
        assert_eq!(most_per_hour(&limits(200)), 200);
        assert_eq!(most_per_hour(&limits(5_000)), 400);
    }
}
