//! What operators ask of `redress-api`, the function behind their URL, and what it answers.
//!
//! Who asks is never in here: AWS authenticates the caller, and the function takes it from the request's context.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arn::Arn;
use crate::contract::Mode;
use crate::ids::{AccountId, ControlId, Region, RemediationId};
use crate::items::settings::{PolicySetName, Switch};

/// What a switch is about; nothing given means everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwitchScope {
    /// One account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// An organisational unit and all below it, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ou: Option<String>,
    /// One control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlId>,
}

/// So many other resources one request closes the case of: what is written for them is one transaction.
pub const MAX_CASE_OTHERS: usize = 49;

/// A request: the body of the POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Operation", rename_all_fields = "PascalCase")]
pub enum Request {
    /// `redress off|observe|on`.
    Switch {
        /// What may be done from now on.
        to: Switch,
        /// Where.
        #[serde(default)]
        scope: SwitchScope,
        /// Why.
        reason: String,
    },
    /// `redress settings set`: only what is given changes.
    Settings {
        /// The shipped policy set to decide by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy_set: Option<PolicySetName>,
        /// Where the set `pilot` may act.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pilot_accounts: Option<Vec<AccountId>>,
        /// The IANA time zone of policies' local time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_zone: Option<String>,
        /// SSM Change Calendars.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change_calendars: Option<Vec<Arn>>,
        /// Limits, by name as in [`crate::items::settings::Limits`].
        #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
        limits: std::collections::BTreeMap<String, u32>,
        /// Why.
        reason: String,
    },
    /// `redress policy set`: a set of the operators' own, in force from now on.
    PolicySet {
        /// The Cedar text.
        source: String,
        /// Why.
        reason: String,
    },
    /// `redress policy rollback`.
    PolicyRollback {
        /// To which version; the one before the present one when none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
        /// Why.
        reason: String,
    },
    /// `redress exemption add`.
    ExemptionAdd {
        /// Its name.
        id: String,
        /// Only this control.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        control: Option<ControlId>,
        /// Only this account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// Only this organisational unit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ou: Option<String>,
        /// Only this resource.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<Arn>,
        /// Who answers for it.
        owner: String,
        /// Why.
        reason: String,
        /// When it ends.
        expires_at: Timestamp,
    },
    /// `redress exemption remove`.
    ExemptionRemove {
        /// Its name.
        id: String,
        /// Why.
        reason: String,
    },
    /// `redress approvals approve|deny`.
    Answer {
        /// What was asked.
        remediation_id: RemediationId,
        /// Yes or no.
        approve: bool,
        /// The hash of the plan that was shown: an answer to another plan does not count.
        plan_sha256: String,
        /// Why.
        reason: String,
    },
    /// `redress breaker close`.
    BreakerClose {
        /// `organisation`, `account:<id>` or `control:<id>`.
        scope: String,
        /// Why.
        reason: String,
    },
    /// `redress remediate`.
    Remediate {
        /// The control.
        control: ControlId,
        /// The account of the resource.
        account_id: AccountId,
        /// Its Region.
        region: Region,
        /// The resource.
        resource_arn: Arn,
        /// `DryRun` or `Apply`.
        mode: Mode,
        /// The asker's own id of the request.
        request_id: String,
        /// Why.
        reason: String,
    },
    /// `redress undo`.
    Undo {
        /// What to undo.
        remediation_id: RemediationId,
        /// The asker's own id of the request.
        request_id: String,
        /// Why.
        reason: String,
    },
    /// `redress dlq list|show`: the messages of the dead-letter queues, looked at and left there.
    DlqList {
        /// One message, with its body; all, without their bodies, when none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
    },
    /// `redress dlq redrive`.
    DlqRedrive {
        /// One message, by its id; all when none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
        /// Why.
        reason: String,
    },
    /// `redress campaign plan`: lists the old findings of a control and puts them aside; nothing is done to them.
    CampaignPlan {
        /// Its name.
        name: String,
        /// The control.
        control: ControlId,
        /// Only these accounts; empty for all.
        #[serde(default)]
        accounts: Vec<AccountId>,
        /// At most so many findings an hour.
        per_hour: u32,
        /// Why.
        reason: String,
    },
    /// `redress case close`: the incident that a remediation belongs to is over.
    CaseClose {
        /// The case, or any of its remediations: it closes what is known of that one's resource.
        remediation_id: RemediationId,
        /// One remediation of each other resource of the case, all of the same account.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<RemediationId>,
        /// Why.
        reason: String,
    },
    /// `redress breaker list`, `redress campaign list`, `redress approvals list`.
    List {
        /// What is listed.
        what: Listing,
    },
    /// `redress notify set`: the whole list of [`crate::items::destination`].
    Destinations {
        /// The destinations.
        list: Vec<serde_json::Value>,
        /// Why.
        reason: String,
    },
    /// `redress notify test`: a marked message to one destination.
    NotifyTest {
        /// Its name.
        destination: String,
        /// Why.
        reason: String,
    },
    /// `redress campaign start|pause`.
    CampaignRun {
        /// Its name.
        name: String,
        /// Started, or paused.
        run: bool,
        /// Why.
        reason: String,
    },
}

/// What is kept one item a thing, and listed by the api: an operator may read items by their keys, not search the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listing {
    /// Breakers that were ever opened.
    Breakers,
    /// Campaigns.
    Campaigns,
    /// Questions to people that the table still remembers.
    Approvals,
}

/// The answer when it was refused. The HTTP status says the rest: 400 what cannot be understood, 403 who may not, 404 what
/// there is not, 409 what changed meanwhile or is too late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Refusal {
    /// A slug that stays the same between releases.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}
