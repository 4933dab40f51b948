//! The EventBridge envelope: tells the reporters apart, and bounds what they may send. Knows no reporter's fields.

use jiff::Timestamp;
use serde_json::Value;

use super::json::Node;
use super::{Finding, asff, config, guardduty, ocsf, own};
use crate::arn::{ArnError, Partition};
use crate::contract::Mode;
use crate::ids::{AccountId, Region, RemediationId, excerpt};
use crate::names;

/// The largest message that is read, in bytes: EventBridge's own limit for an event.
pub const MAX_BODY: usize = 256 * 1024;
/// The most findings that are read of one event.
pub const MAX_FINDINGS: usize = 100;
/// The most findings that Security Hub lets a person choose for a custom action.
pub const MAX_CUSTOM_ACTION_FINDINGS: usize = 20;

/// What an event turned out to be.
#[derive(Debug)]
pub enum Inbound {
    /// Findings, each parsed or refused on its own: one bad finding does not lose its neighbours.
    Findings(Vec<Result<Finding, ParseError>>),
    /// Somebody asks to undo a remediation.
    Undo {
        /// The remediation to undo.
        remediation: RemediationId,
        /// The asking principal.
        by: String,
        /// The event's id: the same request delivered twice is one undo.
        request: String,
        /// Why, in the asker's words.
        reason: String,
        /// `Restore`, or `DryRun` to see what would be put back.
        mode: Mode,
    },
    /// A finding of a rule's that was put aside comes back.
    Released {
        /// It, as it was.
        finding: Box<Finding>,
        /// The campaign that it waited for; `None` when it waited for a free place in its account and Region.
        campaign: Option<String>,
    },
    /// Well formed, and nothing to act on (a COMPLIANT evaluation, a PASSED check, our own update).
    Nothing {
        /// Why.
        reason: String,
    },
}

impl Inbound {
    pub(super) fn nothing(reason: impl Into<String>) -> Self {
        Self::Nothing { reason: reason.into() }
    }
}

/// Why an input is refused. Text of the input is cut to 80 characters.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// The message is larger than any event.
    #[error("a message of {size} bytes is larger than the {max} of an event")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The largest that is read.
        max: usize,
    },
    /// The message is not JSON.
    #[error("the message is not json: {reason}")]
    NotJson {
        /// Where and why.
        reason: String,
    },
    /// A field that must be there is not.
    #[error("field `{path}` is missing")]
    Missing {
        /// Its path, such as `detail.findings[0].Id`.
        path: String,
    },
    /// A field is there, and wrong.
    #[error("field `{path}`: {reason}")]
    BadField {
        /// Its path.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A field is not an ARN that Redress accepts.
    #[error("field `{path}`: {source}")]
    Arn {
        /// Its path.
        path: String,
        /// What is wrong.
        source: ArnError,
    },
    /// Nobody taught Redress events of this kind.
    #[error("no reporter sends `{detail_type}` from source `{origin}`; narrow the rule that let it in")]
    UnknownSource {
        /// The event's `source`.
        origin: String,
        /// The event's `detail-type`.
        detail_type: String,
    },
    /// The event holds more findings than its kind may.
    #[error("an event with {count} findings is over the limit of {max}")]
    TooManyFindings {
        /// How many.
        count: usize,
        /// The most that are read.
        max: usize,
    },
    /// Two places that must name the same account do not.
    #[error("{place} names account {found}, not {expected}")]
    AccountMismatch {
        /// Which place.
        place: &'static str,
        /// The account there.
        found: AccountId,
        /// The account that it must be.
        expected: AccountId,
    },
    /// The resource's ARN names a Region that is not the finding's.
    #[error("the resource's arn names region {found}, not {expected}")]
    RegionMismatch {
        /// The ARN's.
        found: Region,
        /// The finding's.
        expected: Region,
    },
    /// The resource's ARN names a partition that is not that of the finding's Region.
    #[error("the resource's arn names partition {found}, not {expected}")]
    PartitionMismatch {
        /// The ARN's.
        found: Partition,
        /// That of the Region.
        expected: Partition,
    },
    /// The resource cannot be called by an ARN.
    #[error("no arn for `{kind}` `{id}`: {reason}")]
    UnsupportedResource {
        /// Its type.
        kind: String,
        /// Its id.
        id: String,
        /// Why.
        reason: &'static str,
    },
}

impl ParseError {
    /// A slug that stays the same between releases: an attribute of the dead letter and of the ledger record.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::NotJson { .. } => "not-json",
            Self::Missing { .. } => "missing-field",
            Self::BadField { .. } => "bad-field",
            Self::Arn { source: ArnError::UnknownPartition { .. }, .. } => "unknown-partition",
            Self::Arn { .. } => "bad-arn",
            Self::UnknownSource { .. } => "unknown-source",
            Self::TooManyFindings { .. } => "too-many-findings",
            Self::AccountMismatch { .. } => "account-mismatch",
            Self::RegionMismatch { .. } => "region-mismatch",
            Self::PartitionMismatch { .. } => "partition-mismatch",
            Self::UnsupportedResource { .. } => "unsupported-resource",
        }
    }
}

/// Parse the body of one queue message: an EventBridge event.
///
/// # Errors
/// When the envelope itself cannot be understood.
pub fn parse(body: &[u8]) -> Result<Inbound, ParseError> {
    if body.len() > MAX_BODY {
        return Err(ParseError::TooLarge { size: body.len(), max: MAX_BODY });
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| ParseError::NotJson { reason: excerpt(&error.to_string()) })?;
    let root = Node::root(&value);
    let (source, detail_type) = (root.need_text("source")?, root.need_text("detail-type")?);
    let read: fn(&Event<'_>) -> Result<Inbound, ParseError> = match (source, detail_type) {
        ("aws.config", "Config Rules Compliance Change") => config::read,
        ("aws.securityhub", "Security Hub Findings - Imported") => asff::imported,
        ("aws.securityhub", "Security Hub Findings - Custom Action") => asff::custom_action,
        ("aws.securityhub", "Findings Imported V2") => ocsf::imported,
        ("aws.guardduty", "GuardDuty Finding") => guardduty::read,
        (names::EVENT_SOURCE, names::UNDO_DETAIL_TYPE) => own::undo,
        (names::EVENT_SOURCE, names::REMEDIATE_DETAIL_TYPE) => own::remediate,
        (names::EVENT_SOURCE, names::WAITED_DETAIL_TYPE) => own::waited,
        (names::EVENT_SOURCE, names::CAMPAIGN_DETAIL_TYPE) => own::of_campaign,
        (names::EVENT_SOURCE, other) if other.starts_with("Redress ") => {
            return Ok(Inbound::nothing(format!("`{}` is for others", excerpt(other))));
        }
        _ => {
            return Err(ParseError::UnknownSource { origin: excerpt(source), detail_type: excerpt(detail_type) });
        }
    };
    read(&Event::read(root)?)
}

/// The envelope's fields.
pub(super) struct Event<'a> {
    root: Node<'a>,
    pub(super) id: &'a str,
    /// The account that sent it: the one thing that EventBridge vouches for.
    pub(super) account: AccountId,
    pub(super) region: Region,
    pub(super) time: Timestamp,
    pub(super) detail: Node<'a>,
}

/// One finding of an event that may hold several.
pub(super) enum Read {
    Finding(Box<Finding>),
    /// Nothing to act on, and why.
    Skip(String),
}

impl Read {
    pub(super) fn found(finding: Finding) -> Self {
        Self::Finding(Box::new(finding))
    }
}

impl<'a> Event<'a> {
    fn read(root: Node<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            id: root.need_text("id")?,
            account: root.need("account")?.parse()?,
            region: root.need("region")?.parse()?,
            time: root.need("time")?.time()?,
            detail: root.need("detail")?,
            root,
        })
    }

    pub(super) fn need(&self, key: &str) -> Result<Node<'a>, ParseError> {
        self.root.need(key)
    }

    /// A time that the event speaks of: nothing was seen after it was told.
    pub(super) fn not_after(&self, time: Timestamp) -> Timestamp {
        time.min(self.time)
    }

    /// Read `detail.findings`, each on its own. When all are skipped, the event is [`Inbound::Nothing`].
    pub(super) fn findings(
        &self,
        max: usize,
        read: impl Fn(&Node<'a>) -> Result<Read, ParseError>,
    ) -> Result<Inbound, ParseError> {
        let list = self.detail.need("findings")?;
        let nodes = list.items()?;
        if nodes.len() > max {
            return Err(ParseError::TooManyFindings { count: nodes.len(), max });
        }
        let mut results = Vec::with_capacity(nodes.len());
        let mut skipped = None;
        for node in &nodes {
            match read(node) {
                Ok(Read::Finding(finding)) => results.push(Ok(*finding)),
                Ok(Read::Skip(reason)) => skipped = skipped.or(Some(reason)),
                Err(error) => results.push(Err(error)),
            }
        }
        match (results.is_empty(), skipped) {
            (false, _) => Ok(Inbound::Findings(results)),
            (true, Some(reason)) => Ok(Inbound::Nothing { reason }),
            (true, None) => Err(list.bad("is empty")),
        }
    }
}
