//! The items of table `RedressState`: settings, catalogue, claims and chain heads.
//!
//! Encodings are pure functions; the one call here is a consistent `BatchGetItem`. What a claim may become is
//! decided by whoever asks for it; this module only makes sure that the claim is still the one that was read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use serde::{Deserialize, Serialize};

use super::failure::AwsFailure;
use super::item::{self, Item, ItemError};
use super::open;
use crate::arn::Arn;
use crate::catalogue::Catalogue;
use crate::contract::Mode;
use crate::finding::SeverityLabel;
use crate::ids::{AccountId, ClaimKey, ControlId, Fence, Generation, Region, RemediationId};
use crate::items::account::AccountFacts;
use crate::items::approval::{Approval, Task};
use crate::items::breaker::{Breaker, BreakerScope, Count};
use crate::items::campaign::Campaign;
use crate::items::checkpoint::Newest;
use crate::items::destination::{Case, Delivery, Destinations};
use crate::items::exemption::Exemptions;
use crate::items::flight::Flight;
use crate::items::policy::PolicyItem;
use crate::items::reconciler::Progress;
pub use crate::items::settings::{Limits, PolicySetName, Settings, Switch};
use crate::ledger::{Head, RemediationType, sha256_hex};
use crate::state::State;

/// The partition key of the table.
pub const KEY: &str = "Key";

/// Which item of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StateKey {
    /// What operators set: policy set, switch.
    Settings,
    /// Every control.
    Catalogue,
    /// Work on a resource for a control.
    Claim(ClaimKey),
    /// Work that stands in nobody's way and is only to be done once: a dry run, the record of a refused input.
    Request(RemediationId),
    /// The newest place of an account's chain.
    Chain(AccountId),
    /// The operators' own policy set that is in force.
    Policy,
    /// A policy set of the operators' own, by its version.
    PolicyVersion(u64),
    /// What nobody may touch.
    Exemptions,
    /// What Organizations says of an account.
    Account(AccountId),
    /// What runs in an account and Region.
    Flight(AccountId, Region),
    /// Whether the work of a scope is stopped.
    Breaker(BreakerScope),
    /// What a scope did in an hour ([`crate::items::breaker::hour`]).
    Count(BreakerScope, i64),
    /// A question to people.
    Approval(RemediationId),
    /// How a waiting workflow is told.
    Task(RemediationId),
    /// A campaign, by its name.
    Campaign(String),
    /// How far the reconciler has looked.
    Reconciler,
    /// Where people are told, beside the topic's own subscribers.
    Destinations,
    /// A message at a destination, by the destination's name and what the message is.
    Delivery(String, String),
    /// The incident or ticket of a problem, by the destination's name and what the problem is.
    Case(String, String),
    /// Which waves of `redress deploy` have come up whole.
    Deployment,
    /// The newest checkpoint of the ledger.
    Checkpoint,
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("settings"),
            Self::Catalogue => f.write_str("catalogue"),
            Self::Claim(key) => write!(f, "claim#{}", key.hex()),
            Self::Request(id) => write!(f, "request#{id}"),
            Self::Chain(account) => write!(f, "chain#{account}"),
            Self::Policy => f.write_str("policy"),
            Self::PolicyVersion(version) => write!(f, "policy#{version}"),
            Self::Exemptions => f.write_str("exemptions"),
            Self::Account(account) => write!(f, "account#{account}"),
            Self::Flight(account, region) => write!(f, "flight#{account}#{region}"),
            Self::Breaker(scope) => write!(f, "breaker#{scope}"),
            Self::Count(scope, hour) => write!(f, "count#{scope}#{hour}"),
            Self::Approval(id) => write!(f, "approval#{id}"),
            Self::Task(id) => write!(f, "task#{id}"),
            Self::Campaign(name) => write!(f, "campaign#{name}"),
            Self::Reconciler => f.write_str("reconciler"),
            Self::Destinations => f.write_str("destinations"),
            Self::Delivery(destination, message) => write!(f, "delivery#{destination}#{message}"),
            Self::Case(destination, problem) => write!(f, "case#{destination}#{problem}"),
            Self::Deployment => f.write_str("deployment"),
            Self::Checkpoint => f.write_str("checkpoint"),
        }
    }
}

impl StateKey {
    /// The key of an item that may be in the index of what is open ([`open`]); `None` for every other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('#')?;
        match kind {
            "claim" => Some(Self::Claim(rest.parse().ok()?)),
            "request" => Some(Self::Request(rest.parse().ok()?)),
            "flight" => {
                let (account, region) = rest.split_once('#')?;
                Some(Self::Flight(account.parse().ok()?, region.parse().ok()?))
            }
            "campaign" => Some(Self::Campaign(rest.to_owned())),
            "account" => Some(Self::Account(rest.parse().ok()?)),
            "chain" => Some(Self::Chain(rest.parse().ok()?)),
            _ => None,
        }
    }
}

/// Item `catalogue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CatalogueItem {
    /// The catalogue as JSON.
    pub catalogue: String,
    /// SHA-256 of that text, hexadecimal.
    pub sha256: String,
}

/// A catalogue that cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// There is none.
    #[error("the state table holds no item `catalogue`; deploy the controls (`cargo xtask` or the stack does it)")]
    Absent,
    /// The item is damaged.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// Text and hash differ.
    #[error("the catalogue's SHA-256 is not the one stored beside it; deploy the controls again")]
    Hash,
    /// The text is no catalogue.
    #[error("the catalogue is not readable: {0}; deploy the controls again")]
    Json(#[from] serde_json::Error),
}

impl CatalogueItem {
    /// The item that holds a catalogue.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn of(catalogue: &Catalogue) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_string(catalogue)?;
        Ok(Self { sha256: sha256_hex(text.as_bytes()), catalogue: text })
    }

    /// The catalogue, when its hash fits.
    ///
    /// # Errors
    /// When it does not, or is no catalogue.
    pub fn open(&self) -> Result<Catalogue, CatalogueError> {
        if sha256_hex(self.catalogue.as_bytes()) != self.sha256 {
            return Err(CatalogueError::Hash);
        }
        Ok(serde_json::from_str(&self.catalogue)?)
    }
}

/// Where a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimStatus {
    /// Somebody works on it, until the lease ends.
    Leased,
    /// The work ended.
    Done,
    /// The work could not be started; anybody may try again.
    Released,
    /// The finding is in the backlog; whoever brings it back may go on.
    Waiting,
}

/// What a remediation is about: everything that its end needs to know of its beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Subject {
    /// The finding.
    pub finding_id: String,
    /// Security Hub's product, when the finding is Security Hub's.
    pub product_arn: Option<Arn>,
    /// The finding's title.
    pub title: String,
    /// The finding's severity.
    pub severity: SeverityLabel,
    /// The account of the resource; the administrator account when the input named none that can be believed.
    pub account: AccountId,
    /// The Region in which the remediation runs.
    pub region: Option<Region>,
    /// The control.
    pub control: Option<ControlId>,
    /// The resource's ARN, or `unknown`.
    pub resource_id: String,
    /// The resource's CloudFormation type, or `unknown`.
    pub resource_type: String,
    /// What the control's remediation does.
    pub action: String,
    /// Person or rule.
    pub remediation_type: RemediationType,
    /// The kind of trigger, or the ARN of who asked.
    pub requested_by: String,
    /// What `GuardDuty` said besides, when it was the one that reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
    /// The finding is a sample of GuardDuty's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
}

impl Subject {
    /// Whether it is of an incident, as [`crate::ledger::Record::is_of_incident`] tells it of a record.
    #[must_use]
    pub fn is_of_incident(&self) -> bool {
        self.reported.is_some()
            || self
                .control
                .as_ref()
                .is_some_and(|control| matches!(control.family(), "Contain" | crate::names::DESTROY))
    }
}

/// What `GuardDuty` says of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Reported {
    /// What it calls what it found.
    pub finding_type: String,
    /// See [`crate::finding::Finding::actors`].
    #[serde(default)]
    pub actors: Vec<Arn>,
}

/// Item `claim#…` or `request#…`: who works on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Claim {
    /// The remediation that holds it, or held it last.
    pub remediation_id: RemediationId,
    /// The newest state of the world that is dealt with.
    pub generation: Generation,
    /// Counts the grants.
    pub fence: Fence,
    /// Where it stands.
    pub status: ClaimStatus,
    /// Where the remediation stands.
    pub state: State,
    /// Until when nobody else may take it, Unix milliseconds.
    pub lease_until: i64,
    /// When this remediation was first granted it, Unix milliseconds: gives the evidence key its day.
    pub claimed_at: i64,
    /// What the remediation does.
    pub mode: Mode,
    /// What it is about.
    pub subject: Subject,
    /// The remediation that this one undoes.
    pub undoes: Option<RemediationId>,
    /// The newest remediation of the resource that may have changed something and was not undone.
    pub undoable: Option<RemediationId>,
    /// A person undid the last remediation: rules may not act here until a person asks.
    #[serde(default)]
    pub held: bool,
    /// When remediations were started on it lately, Unix milliseconds.
    #[serde(default)]
    pub recent: Vec<i64>,
    /// The remediations that ended lately: none of them is started, or recorded, again.
    #[serde(default)]
    pub ended: Vec<RemediationId>,
    /// What people were told of it last, when nothing was started since: the same is not told again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// While people are asked: the newest state of the resource of which the backlog holds a finding. A note, to spare
    /// the same again; whoever takes the claim meanwhile may lose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<Generation>,
    /// When the table may forget the item, Unix seconds.
    pub expires_at: Option<i64>,
}

/// What people were told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Notice {
    /// Why nothing was started: the slug of the ledger's `Code`.
    pub code: String,
    /// When, Unix milliseconds.
    pub at: i64,
}

/// What must still hold of a claim's item when it is written.
///
/// Each change of a claim but that of its note [`Claim::later`] changes its fence or its status, so that the two together
/// are its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Absent,
    /// It is still the one that was read.
    Version(Fence, ClaimStatus),
}

impl Condition {
    /// That the claim is as it was read.
    #[must_use]
    pub fn unchanged(read: Option<&Claim>) -> Self {
        read.map_or(Self::Absent, |claim| Self::Version(claim.fence, claim.status))
    }

    /// Whether it holds: what DynamoDB evaluates, as a function.
    #[must_use]
    pub fn holds(self, stored: Option<&Claim>) -> bool {
        Self::unchanged(stored) == self
    }

    /// As a condition expression, with its names and values.
    #[must_use]
    pub fn expression(self) -> Expression {
        match self {
            Self::Absent => {
                Expression { text: "attribute_not_exists(#Key)", names: names(&["Key"]), values: HashMap::new() }
            }
            Self::Version(fence, status) => Expression {
                text: "#Fence = :fence AND #Status = :status",
                names: names(&["Fence", "Status"]),
                values: HashMap::from([
                    (":fence".to_owned(), AttributeValue::N(fence.to_string())),
                    (":status".to_owned(), AttributeValue::S(format!("{status:?}"))),
                ]),
            },
        }
    }
}

/// A DynamoDB condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// The expression.
    pub text: &'static str,
    /// Its attribute names.
    pub names: HashMap<String, String>,
    /// Its values.
    pub values: HashMap<String, AttributeValue>,
}

/// What must still hold of an item that counts its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// There is none.
    Absent,
    /// Its `Version` is the one that was read; 0 stands for "there is none, or a person wrote it and gave it none".
    Version(u64),
    /// It is a claim, and still the one that was read.
    Claim(Condition),
}

impl Expect {
    /// As a condition expression; `None` for [`Expect::Anything`].
    #[must_use]
    pub fn expression(self) -> Option<Expression> {
        match self {
            Self::Anything => None,
            Self::Absent => Some(Condition::Absent.expression()),
            Self::Version(0) => Some(Expression {
                text: "attribute_not_exists(#Version)",
                names: names(&["Version"]),
                values: HashMap::new(),
            }),
            Self::Claim(condition) => Some(condition.expression()),
            Self::Version(version) => Some(Expression {
                text: "#Version = :version",
                names: names(&["Version"]),
                values: HashMap::from([(":version".to_owned(), AttributeValue::N(version.to_string()))]),
            }),
        }
    }

    /// Whether it holds for what is stored: what DynamoDB evaluates, as a function.
    #[must_use]
    pub fn holds(self, stored: Option<&Item>) -> bool {
        let version = stored.and_then(|item| item.get("Version")?.as_n().ok()?.parse::<u64>().ok());
        match self {
            Self::Anything => true,
            Self::Absent => stored.is_none(),
            Self::Version(0) => version.is_none(),
            Self::Version(expected) => version == Some(expected),
            Self::Claim(condition) => match stored {
                None => condition.holds(None),
                Some(item) => item::decode::<Claim>("a claim", item).is_ok_and(|claim| condition.holds(Some(&claim))),
            },
        }
    }
}

/// That a chain still ends where it was read.
#[must_use]
pub fn head_condition(read: &Head) -> Expression {
    if read.seq == 0 {
        return Condition::Absent.expression();
    }
    Expression {
        text: "#Seq = :seq AND #Hash = :hash",
        names: names(&["Seq", "Hash"]),
        values: HashMap::from([
            (":seq".to_owned(), AttributeValue::N(read.seq.to_string())),
            (":hash".to_owned(), AttributeValue::S(read.hash.clone())),
        ]),
    }
}

fn names(attributes: &[&str]) -> HashMap<String, String> {
    attributes.iter().map(|name| (format!("#{name}"), (*name).to_owned())).collect()
}

/// An item of the table: a value under its key.
///
/// # Errors
/// When the value is no object.
pub fn encode<T: Serialize>(key: &StateKey, value: &T) -> Result<Item, ItemError> {
    let mut item = item::encode("a state item", value)?;
    item.insert(KEY.to_owned(), AttributeValue::S(key.to_string()));
    open::mark(key, &mut item);
    Ok(item)
}

/// What an item is, in short: the SHA-256 of its attributes. An item that cannot be read has the fingerprint `unreadable`:
/// nobody wrote it by our means.
#[must_use]
pub fn fingerprint(item: &Item) -> String {
    let own = item.iter().filter(|(name, _)| ![KEY, open::OPEN].contains(&name.as_str()));
    let own: Item = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    let text = item::decode::<serde_json::Value>("an item", &own).ok();
    let text = text.and_then(|value| serde_json_canonicalizer::to_vec(&value).ok());
    text.map_or_else(|| "unreadable".to_owned(), |text| sha256_hex(&text))
}

/// What was read of the table, all at one time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    asked: BTreeSet<String>,
    found: BTreeMap<String, Item>,
}

impl Snapshot {
    /// A snapshot of these items, of all that was asked for.
    #[must_use]
    pub fn new(asked: &[StateKey], items: Vec<Item>) -> Self {
        let found = items
            .into_iter()
            .filter_map(|item| {
                let key = item.get(KEY)?.as_s().ok()?.clone();
                Some((key, item))
            })
            .collect();
        Self { asked: asked.iter().map(ToString::to_string).collect(), found }
    }

    /// Whether this item was asked for, so that its absence means something.
    #[must_use]
    pub fn covers(&self, key: &StateKey) -> bool {
        self.asked.contains(&key.to_string())
    }

    /// The settings; the defaults when there is no such item.
    ///
    /// # Errors
    /// When they are not readable. The caller must then change nothing.
    pub fn settings(&self) -> Result<Settings, ItemError> {
        Ok(self.get("the settings", &StateKey::Settings)?.unwrap_or_default())
    }

    /// A claim.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn claim(&self, key: &StateKey) -> Result<Option<Claim>, ItemError> {
        self.get("a claim", key)
    }

    /// Where an account's chain ends.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn head(&self, account: &AccountId) -> Result<Head, ItemError> {
        Ok(self.get("a chain head", &StateKey::Chain(account.clone()))?.unwrap_or_default())
    }

    /// The catalogue.
    ///
    /// # Errors
    /// When there is none, or it cannot be trusted.
    pub fn catalogue(&self) -> Result<Catalogue, CatalogueError> {
        self.catalogue_item()?.open()
    }

    /// The catalogue's text and hash: who has opened the same before need not do so again.
    ///
    /// # Errors
    /// When there is none, or it is not readable.
    pub fn catalogue_item(&self) -> Result<CatalogueItem, CatalogueError> {
        self.get("the catalogue", &StateKey::Catalogue)?.ok_or(CatalogueError::Absent)
    }

    /// The operators' own policy set.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn policy(&self) -> Result<Option<PolicyItem>, ItemError> {
        self.get("the policy set", &StateKey::Policy)
    }

    /// A policy set of the operators' own that once was in force.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn policy_version(&self, version: u64) -> Result<Option<PolicyItem>, ItemError> {
        self.get("an old policy set", &StateKey::PolicyVersion(version))
    }

    /// The exemptions; none when there is no such item.
    ///
    /// # Errors
    /// When they are not readable. The caller must then change nothing.
    pub fn exemptions(&self) -> Result<Exemptions, ItemError> {
        Ok(self.get("the exemptions", &StateKey::Exemptions)?.unwrap_or_default())
    }

    /// What is known of an account.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn account(&self, account: &AccountId) -> Result<Option<AccountFacts>, ItemError> {
        self.get("the facts of an account", &StateKey::Account(account.clone()))
    }

    /// What runs in a place.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn flight(&self, account: &AccountId, region: &Region) -> Result<Flight, ItemError> {
        let key = StateKey::Flight(account.clone(), region.clone());
        Ok(self.get("what is in flight", &key)?.unwrap_or_default())
    }

    /// A breaker; closed when there is no such item.
    ///
    /// # Errors
    /// When it is not readable. The caller must then change nothing.
    pub fn breaker(&self, scope: &BreakerScope) -> Result<Breaker, ItemError> {
        Ok(self.get("a breaker", &StateKey::Breaker(scope.clone()))?.unwrap_or_default())
    }

    /// What a scope did in an hour.
    ///
    /// # Errors
    /// When it is not readable. The caller must then change nothing.
    pub fn count(&self, scope: &BreakerScope, hour: i64) -> Result<Count, ItemError> {
        Ok(self.get("a count", &StateKey::Count(scope.clone(), hour))?.unwrap_or_default())
    }

    /// A question to people.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn approval(&self, id: RemediationId) -> Result<Option<Approval>, ItemError> {
        self.get("an approval", &StateKey::Approval(id))
    }

    /// How a waiting workflow is told.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn task(&self, id: RemediationId) -> Result<Option<Task>, ItemError> {
        self.get("a workflow's task", &StateKey::Task(id))
    }

    /// A campaign.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn campaign(&self, name: &str) -> Result<Option<Campaign>, ItemError> {
        self.get("a campaign", &StateKey::Campaign(name.to_owned()))
    }

    /// How far the reconciler has looked.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn progress(&self) -> Result<Progress, ItemError> {
        Ok(self.get("the reconciler's progress", &StateKey::Reconciler)?.unwrap_or_default())
    }

    /// The newest checkpoint of the ledger.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn newest_checkpoint(&self) -> Result<Option<Newest>, ItemError> {
        self.get("the newest checkpoint", &StateKey::Checkpoint)
    }

    /// Where people are told; nowhere when there is no such item.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn destinations(&self) -> Result<Destinations, ItemError> {
        Ok(self.get("the destinations", &StateKey::Destinations)?.unwrap_or_default())
    }

    /// How far a message has come at a destination.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn delivery(&self, key: &StateKey) -> Result<Option<Delivery>, ItemError> {
        self.get("a delivery", key)
    }

    /// The incident or ticket of a problem.
    ///
    /// # Errors
    /// When it is not readable.
    pub fn case(&self, key: &StateKey) -> Result<Option<Case>, ItemError> {
        self.get("a case", key)
    }

    /// What an item is, in short ([`fingerprint`]); `None` when there is none.
    #[must_use]
    pub fn fingerprint(&self, key: &StateKey) -> Option<String> {
        self.found.get(&key.to_string()).map(fingerprint)
    }

    fn get<T: serde::de::DeserializeOwned>(&self, what: &'static str, key: &StateKey) -> Result<Option<T>, ItemError> {
        self.found.get(&key.to_string()).map(|item| item::decode(what, item)).transpose()
    }
}

/// How often unprocessed keys are asked for again within one read.
const ROUNDS: usize = 4;

/// Read items, consistently, in one `BatchGetItem` (more only when DynamoDB returns a part).
///
/// # Errors
/// When DynamoDB does not answer, or not wholly.
pub async fn read(client: &aws_sdk_dynamodb::Client, table: &str, keys: &[StateKey]) -> Result<Snapshot, AwsFailure> {
    const OPERATION: &str = "dynamodb:BatchGetItem";
    let unique: BTreeSet<String> = keys.iter().map(ToString::to_string).collect();
    let wanted: Vec<Item> =
        unique.into_iter().map(|key| Item::from([(KEY.to_owned(), AttributeValue::S(key))])).collect();
    let request = KeysAndAttributes::builder()
        .set_keys(Some(wanted))
        .consistent_read(true)
        .build()
        .map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
    let mut pending = HashMap::from([(table.to_owned(), request)]);
    let mut items = Vec::new();
    for _ in 0..ROUNDS {
        let answer = client
            .batch_get_item()
            .set_request_items(Some(pending))
            .send()
            .await
            .map_err(|error| AwsFailure::of(OPERATION, &error))?;
        items.extend(answer.responses.unwrap_or_default().remove(table).unwrap_or_default());
        pending = answer.unprocessed_keys.unwrap_or_default();
        if pending.is_empty() {
            return Ok(Snapshot::new(keys, items));
        }
    }
    Err(AwsFailure::partial(OPERATION, format!("table `{table}` is too busy to return every key")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn claim(fence: u64, status: ClaimStatus) -> Claim {
        Claim {
            remediation_id: RemediationId::of_rejected(b"x"),
            generation: Generation(7),
            fence: Fence(fence),
            status,
            state: State::Claimed,
            lease_until: 10,
            claimed_at: 5,
            mode: Mode::Apply,
            subject: Subject {
                finding_id: "f".to_owned(),
                product_arn: None,
                title: String::new(),
                severity: SeverityLabel::High,
                account: "111122223333".parse().unwrap(),
                region: Some("eu-central-1".parse().unwrap()),
                control: Some("S3.8".parse().unwrap()),
                resource_id: "arn:aws:s3:::b".to_owned(),
                resource_type: "AWS::S3::Bucket".to_owned(),
                action: "Block public access".to_owned(),
                remediation_type: RemediationType::Automatic,
                requested_by: "Config".to_owned(),
                reported: None,
                sample: false,
            },
            undoes: None,
            undoable: None,
            held: false,
            recent: vec![5],
            ended: vec![],
            notice: None,
            later: None,
            expires_at: None,
        }
    }

    #[test]
    fn a_claim_survives_the_table() {
        let key = StateKey::Request(RemediationId::of_rejected(b"x"));
        let before = claim(3, ClaimStatus::Leased);
        let item = encode(&key, &before).unwrap();
        assert_eq!(item[KEY], AttributeValue::S(key.to_string()));
        assert_eq!(item["Fence"], AttributeValue::N("3".to_owned()));
        assert_eq!(item["Status"], AttributeValue::S("Leased".to_owned()));
        assert!(!item.contains_key("ExpiresAt"), "a claim without expiry is never forgotten");
        let snapshot = Snapshot::new(std::slice::from_ref(&key), vec![item]);
        assert_eq!(snapshot.claim(&key).unwrap(), Some(before));
    }

    #[test]
    fn the_condition_as_a_function_says_what_the_expression_says() {
        let stored = claim(3, ClaimStatus::Leased);
        for (condition, absent, present) in [
            (Condition::Absent, true, false),
            (Condition::Version(Fence(3), ClaimStatus::Leased), false, true),
            (Condition::Version(Fence(2), ClaimStatus::Leased), false, false),
            (Condition::Version(Fence(3), ClaimStatus::Done), false, false),
        ] {
            assert_eq!(condition.holds(None), absent);
            assert_eq!(condition.holds(Some(&stored)), present);
        }
        let version = Condition::unchanged(Some(&stored)).expression();
        let item = encode(&StateKey::Settings, &stored).unwrap();
        for (name, placeholder) in [("Fence", ":fence"), ("Status", ":status")] {
            assert_eq!(item[name], version.values[placeholder], "the expression compares what the item holds");
            assert_eq!(version.names[&format!("#{name}")], name);
        }
    }

    #[test]
    fn absent_settings_are_the_careful_ones_and_damaged_settings_are_an_error() {
        let none = Snapshot::default().settings().unwrap();
        assert_eq!((none.policy_set, none.switch), (PolicySetName::Observe, Switch::On));
        for (name, value) in [("PolicySet", "everything"), ("Switch", "maybe"), ("PilotAccounts", "all")] {
            let item = Item::from([
                (KEY.to_owned(), AttributeValue::S("settings".to_owned())),
                (name.to_owned(), AttributeValue::S(value.to_owned())),
            ]);
            assert!(Snapshot::new(&[StateKey::Settings], vec![item]).settings().is_err(), "{name}");
        }
    }

    #[test]
    fn settings_written_by_hand_are_read() {
        let item = Item::from([
            (KEY.to_owned(), AttributeValue::S("settings".to_owned())),
            ("PolicySet".to_owned(), AttributeValue::S("pilot".to_owned())),
            ("PilotAccounts".to_owned(), AttributeValue::Ss(vec!["111122223333".to_owned()])),
        ]);
        let settings = Snapshot::new(&[StateKey::Settings], vec![item]).settings().unwrap();
        assert_eq!(settings.policy_set, PolicySetName::Pilot);
        assert!(settings.pilot_accounts.contains(&"111122223333".parse().unwrap()));
    }

    #[test]
    fn a_catalogue_that_was_tampered_with_is_refused() {
        let mut item = CatalogueItem::of(&Catalogue::default()).unwrap();
        assert!(item.open().is_ok());
        item.catalogue.push(' ');
        assert!(matches!(item.open(), Err(CatalogueError::Hash)));
        assert!(matches!(Snapshot::default().catalogue(), Err(CatalogueError::Absent)));
    }

    #[test]
    fn a_fingerprint_is_of_what_an_item_says_whatever_the_order_of_its_attributes() {
        let settings =
            Settings { accounts: [("111122223333".parse().unwrap(), Switch::Off)].into(), ..Settings::default() };
        let item = encode(&StateKey::Settings, &settings).unwrap();
        let one = fingerprint(&item);
        for _ in 0..20 {
            let again: Item = item.clone().into_iter().collect();
            assert_eq!(fingerprint(&again), one);
        }
        let other = encode(&StateKey::Settings, &Settings { version: 1, ..settings }).unwrap();
        assert_ne!(fingerprint(&other), one);
    }

    #[test]
    fn a_new_chain_starts_where_there_is_no_head() {
        assert_eq!(head_condition(&Head::default()), Condition::Absent.expression());
        let head = Head { seq: 4, hash: "ab".to_owned() };
        assert_eq!(head_condition(&head).values[":seq"], AttributeValue::N("4".to_owned()));
    }
}
