//! Item `campaign#<name>`: the old findings of a control, remediated at a pace that people chose.
//!
//! The findings themselves wait in the backlog table, under a place of the plan that put them there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::aws::state_table::StateKey;
use crate::ids::{AccountId, ControlId};

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CampaignStatus {
    /// Planned; nothing is done.
    Planned,
    /// Findings are released at its pace.
    Running,
    /// Nothing is released until it is started again.
    Paused,
    /// Every finding was released.
    Done,
}

/// Item `campaign#<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Campaign {
    /// Counts the changes; a change is written only over the version that was read.
    pub version: u64,
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// Where it stands.
    pub status: CampaignStatus,
    /// The control.
    pub control: ControlId,
    /// Only these accounts; empty for all.
    pub accounts: Vec<AccountId>,
    /// At most so many findings an hour.
    pub per_hour: u32,
    /// How many findings it has.
    pub planned: u32,
    /// How many were released.
    pub released: u32,
    /// When findings were released last, Unix milliseconds.
    pub released_at: i64,
    /// Who planned it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Why it stands where it stands.
    pub reason: String,
    /// The plan that it came of: another one of the same name has findings of its own.
    #[serde(default)]
    pub plan: String,
}

impl Campaign {
    /// Where its findings wait, in the backlog table.
    #[must_use]
    pub fn place(&self) -> String {
        let key = StateKey::Campaign(self.name.clone());
        if self.plan.is_empty() { key.to_string() } else { format!("{key}#{}", self.plan) }
    }

    /// How many findings are due by its pace, at most so many, and until when they count as released, Unix milliseconds. No
    /// more than an hour's at once: after a stop of a day nothing comes in a burst.
    #[must_use]
    pub fn due(&self, most: u32, now: Timestamp) -> (u32, i64) {
        const HOUR_MS: i64 = 3_600_000;
        let per_hour = i64::from(self.per_hour);
        if self.status != CampaignStatus::Running || per_hour == 0 {
            return (0, self.released_at);
        }
        let from = self.released_at.max(now.as_millisecond() - HOUR_MS);
        let due = ((now.as_millisecond() - from).max(0) * per_hour / HOUR_MS).min(i64::from(most));
        // What is left of the time goes to the next one.
        (u32::try_from(due).unwrap_or(0), from + due * HOUR_MS / per_hour)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn campaign(per_hour: u32) -> Campaign {
        Campaign {
            version: 1,
            name: "old".to_owned(),
            status: CampaignStatus::Running,
            control: "S3.8".parse().unwrap(),
            accounts: Vec::new(),
            per_hour,
            planned: 9,
            released: 0,
            released_at: 0,
            created_by: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
            reason: String::new(),
            plan: String::new(),
        }
    }

    fn minutes(minutes: i64) -> Timestamp {
        Timestamp::from_millisecond(minutes * 60_000).unwrap()
    }

    #[test]
    fn what_was_not_released_of_what_was_due_stays_due() {
        let all = campaign(400);
        assert_eq!(all.due(1000, minutes(30)).0, 200);
        let (due, released_at) = all.due(80, minutes(30));
        let rest = Campaign { released_at, ..campaign(400) };
        assert_eq!((due, rest.due(1000, minutes(30)).0), (80, 120));
    }

    #[test]
    fn findings_are_due_at_the_pace_and_no_time_is_lost_between_runs() {
        for per_hour in [1, 3, 7, 40, 1000] {
            let (mut campaign, mut released) = (campaign(per_hour), 0);
            for run in 1..=16 {
                let (due, at) = campaign.due(u32::MAX, minutes(run * 15));
                (released, campaign.released_at) = (released + due, at);
            }
            let wanted = 4 * per_hour;
            assert!(wanted - 1 <= released && released <= wanted, "{per_hour} an hour: {released} in four hours");
        }
    }

    #[test]
    fn after_a_long_stop_no_more_than_an_hours_findings_come_at_once() {
        assert_eq!(campaign(40).due(u32::MAX, minutes(60 * 24)).0, 40);
    }

    #[test]
    fn a_campaign_that_does_not_run_releases_nothing() {
        for status in [CampaignStatus::Planned, CampaignStatus::Paused, CampaignStatus::Done] {
            assert_eq!(Campaign { status, ..campaign(40) }.due(u32::MAX, minutes(60)).0, 0);
        }
        assert_eq!(campaign(0).due(u32::MAX, minutes(60)).0, 0);
    }
}
