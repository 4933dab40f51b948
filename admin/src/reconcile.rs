//! The reconciler: on a schedule, what no event told, or what nobody heard.
//!
//! Everything else in Redress is driven by events, and events are lost. Each part here reads what is, works out what to do
//! about it in a pure function, and does that through the ways that are there already: a lost outcome is sent to the
//! completion function again, a finding that never came goes onto the findings queue. So nothing here decides about a
//! resource, everything done twice is a duplicate there, and a run that dies is made good by the next one.
//!
//! | part | calls of a run that finds nothing | for each thing that it finds |
//! |---|---|---|
//! | [`stuck`] | 2 `Query` | `BatchGetItem`; a place: `AssumeRole`, `DescribeAutomationExecutions`; a run: `GetAutomationExecution`; the repair |
//! | [`missed`] | 1 `GetFindings` per 20 controls, 1 `DescribeAggregateComplianceByConfigRules` | `BatchGetItem` per 90 claims, a failing rule: `GetAggregateComplianceDetailsByConfigRule`; `SendMessage` |
//! | [`letters`] | 2 `ReceiveMessage` | `BatchGetItem`, `TransactWriteItems`, `Publish`, `TransactWriteItems`, `SendMessage`, `DeleteMessage` |
//! | [`untold`] | 1 `Query` | `Query`, `Publish`, `BatchGetItem`, `TransactWriteItems`, `DeleteItem` |
//! | [`waiting`] | 2 `Query` | `BatchGetItem`, `Query`, then `SendMessage` and `DeleteItem` a finding |
//! | [`watch`] | 1 `BatchGetItem` | `Query`, `BatchGetItem`, `TransactWriteItems`, `Publish`, `TransactWriteItems` |
//! | [`accounts`] | 1 `Query` | Organizations' calls, `PutItem` |
//!
//! and `BatchGetItem` and, before each part and at the end, `PutItem` for how far it came. No part keeps another from being
//! done: a run that dies in one leaves its name, and the next run does that part last. Of two runs that meet, the one that
//! began first ends when it sees that: what it knows is older, and would be written over what the other found.
//!
//! # Who tells
//! Runs may meet: Lambda tries again, and a run may take longer than the schedule. So whoever will tell people takes the
//! claim first, for the length of a lease: of two runs, or of a run and a worker that was late, one tells. A claim of
//! somebody's work gets the state that it will end in and the fence after the one that was read; what has no claim (a dead
//! letter, an item changed by hand, the end of a campaign) gets a request item with its first record. When a run dies after
//! that, the lease ends, and the next one finds the claim: people are told then, for a second time if it died after it had
//! told them. That, and only that, is when they are; the other order would now and then tell nobody.

pub mod accounts;
pub mod letters;
pub mod missed;
pub mod ports;
pub mod stuck;
mod untold;
pub mod waiting;
pub mod watch;

use std::collections::BTreeMap;

use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::item::ItemError;
use redress_common::aws::ledger_store::{
    Also, AppendError, ClaimWrite, StoreError, TransactError, append, append_with,
};
use redress_common::aws::state_table::{CatalogueError, Claim, Condition, Expect, StateKey, Subject};
use redress_common::finding::SeverityLabel;
use redress_common::ids::{AccountId, RemediationId};
use redress_common::items::reconciler::Progress;
use redress_common::ledger::{RecordDraft, RemediationType, detail};
use redress_common::metrics;
use redress_common::state::State;
use serde::Deserialize;
use serde_json::json;

use crate::claim::{self, End};
use crate::decide::refusal;
use crate::ports::{Identity, StartError};
use crate::{report, tell};
use ports::Watch;

/// `BatchGetItem` takes 100 keys.
const KEYS: usize = 90;

/// A part could not be done, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// AWS does not answer.
    #[error(transparent)]
    Aws(#[from] AwsFailure),
    /// The tables do not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An item is not what it should be.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// Nothing could be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// An item could not be written.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// Without a catalogue nothing can be said of any finding.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A member account cannot be entered, or SSM does not answer there.
    #[error(transparent)]
    Member(#[from] StartError),
}

/// What a part did, by name, and how often it could not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// What was done.
    pub done: BTreeMap<&'static str, u32>,
    /// What was not.
    pub failed: u32,
}

impl Counts {
    fn done(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn failed(&mut self, what: &str, error: &dyn std::fmt::Display) {
        tracing::error!(what, %error, "not repaired");
        self.failed += 1;
    }

    fn or_failed<T, E: std::fmt::Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.failed(what, &error)).ok()
    }

    fn finished(self) -> Result<Self, Unfinished> {
        if self.failed == 0 { Ok(self) } else { Err(Unfinished { failed: self.failed }) }
    }

    fn and(mut self, other: Self) -> Self {
        for (what, count) in other.done {
            *self.done.entry(what).or_default() += count;
        }
        self.failed += other.failed;
        self
    }
}

/// A run that did not do all that it should. What it did stands.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of the reconciler's repairs or parts could not be done; the log says which")]
pub struct Unfinished {
    failed: u32,
}

/// An event that the function is invoked with: the schedule's, or one of AWS Organizations.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    source: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Stuck,
    Findings,
    Rules,
    Letters,
    Untold,
    Backlog,
    Campaigns,
    Watch,
    Accounts,
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Stuck,
        Self::Findings,
        Self::Rules,
        Self::Letters,
        Self::Untold,
        Self::Backlog,
        Self::Campaigns,
        Self::Watch,
        Self::Accounts,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Findings => "findings",
            Self::Rules => "rules",
            Self::Letters => "letters",
            Self::Untold => "untold",
            Self::Backlog => "backlog",
            Self::Campaigns => "campaigns",
            Self::Watch => "watch",
            Self::Accounts => "accounts",
        }
    }

    /// Every part, in their order; last the one in which the run before this one died.
    fn after(died_in: &str) -> [Self; 9] {
        let mut parts = Self::ALL;
        if let Some(died) = parts.iter().position(|part| part.name() == died_in) {
            parts[died..].rotate_left(1);
        }
        parts
    }
}

/// The reconciler.
#[derive(Debug)]
pub struct Reconciler<W> {
    outside: W,
    me: Identity,
}

impl<W: Watch> Reconciler<W> {
    /// One that acts through `outside`, as `me`.
    #[must_use]
    pub const fn new(outside: W, me: Identity) -> Self {
        Self { outside, me }
    }

    /// Deal with an invocation.
    ///
    /// # Errors
    /// When something could not be done: Lambda tries again, and at last tells of it.
    pub async fn invoked(&self, event: serde_json::Value, now: Timestamp) -> Result<(), Unfinished> {
        match serde_json::from_value::<Event>(event) {
            Ok(event) if event.source == "aws.organizations" => {
                let counts = self.changed_accounts(&event.detail, now).await;
                if counts.failed == 0 { Ok(()) } else { Err(Unfinished { failed: counts.failed }) }
            }
            _ => self.run(now).await.map(drop),
        }
    }

    /// Look at everything once.
    ///
    /// # Errors
    /// When something could not be done. Every part was tried.
    pub async fn run(&self, now: Timestamp) -> Result<Counts, Unfinished> {
        let mut all = Counts::default();
        // Whoever does not know how far it came looks at everything within the window again, and keeps what is stored.
        let known = all.or_failed("progress", self.progress().await);
        let keeps = known.is_some();
        let mut progress = Progress { run_at: now.as_millisecond(), ..known.unwrap_or_default() };
        for part in Part::after(&progress.begun) {
            if keeps {
                part.name().clone_into(&mut progress.begun);
                if !self.keep(&mut progress, &mut all).await {
                    tracing::info!(part = part.name(), "another run goes on from here");
                    return all.finished();
                }
            }
            let result = match part {
                Part::Stuck => self.stuck(&mut progress, now).await,
                Part::Findings => self.missed_findings(&mut progress, now).await,
                Part::Rules => self.missed_results(&mut progress, now).await,
                Part::Letters => self.letters(now).await,
                Part::Untold => self.untold(now).await,
                Part::Backlog => self.backlog(now).await,
                Part::Campaigns => self.campaigns(now).await,
                // Without what was there before, the present would pass for what was deployed.
                Part::Watch if !keeps => continue,
                Part::Watch => self.watch(&mut progress, now).await,
                Part::Accounts => self.accounts(now).await,
            };
            all = Self::part(part.name(), result, all, now);
        }
        if keeps {
            progress.begun.clear();
            self.keep(&mut progress, &mut all).await;
        }
        let done: u32 = all.done.values().sum();
        tracing::info!(done, failed = all.failed, repairs = %json!(all.done), "reconciled");
        report::metric(&report::count(&metrics::RECONCILER_RUNS, redress_common::names::RECONCILER_FUNCTION, now));
        all.finished()
    }

    /// Writes down how far this run came. Whether it is to go on: not when another one began since.
    async fn keep(&self, progress: &mut Progress, all: &mut Counts) -> bool {
        let read = Expect::Version(progress.version);
        progress.version += 1;
        match self.outside.put_if(&StateKey::Reconciler, progress, read).await {
            Ok(()) => true,
            // An answer that was lost: the SDK wrote it twice.
            Err(TransactError::AlsoLost(_)) => self.progress().await.is_ok_and(|stored| stored == *progress),
            Err(error) => {
                progress.version -= 1;
                all.failed("progress", &error);
                true
            }
        }
    }

    fn part(name: &'static str, result: Result<Counts, Broken>, mut all: Counts, now: Timestamp) -> Counts {
        let counts = match result {
            Ok(counts) => counts,
            Err(error) => {
                all.failed(name, &error);
                return all;
            }
        };
        for (what, count) in &counts.done {
            report::metric(&report::many(&metrics::REPAIRS, *count, what, now));
        }
        all.and(counts)
    }

    async fn progress(&self) -> Result<Progress, StoreError> {
        Ok(self.outside.read(&[StateKey::Reconciler]).await?.progress()?)
    }

    /// Reads claims, however many: of what was read, only they are kept.
    async fn read_claims(&self, keys: &[StateKey]) -> Result<Vec<Result<Option<Claim>, ItemError>>, StoreError> {
        let mut claims = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS) {
            let snapshot = self.outside.read(chunk).await?;
            claims.extend(chunk.iter().map(|key| snapshot.claim(key)));
        }
        Ok(claims)
    }

    /// Appends to an account's chain, wherever that ends now.
    async fn append(
        &self,
        account: &AccountId,
        records: Vec<RecordDraft>,
        claim: Option<ClaimWrite>,
        also: Vec<Also>,
    ) -> Result<(), Broken> {
        let chain = StateKey::Chain(account.clone());
        let head = self.outside.read(&[chain]).await?.head(account)?;
        append_with(&self.outside, account, head, records, claim, also).await?;
        Ok(())
    }

    /// Writes down, with other items, what happened, tells people, and writes down whether they were told: once for an
    /// id. Whether that was done here; else another run did it, or is at it.
    async fn note(&self, note: Note, also: Vec<Also>, now: Timestamp) -> Result<bool, Broken> {
        let Note { id, subject, state, code, reason, more } = note;
        let (key, account) = (StateKey::Request(id), subject.account.clone());
        let snapshot = self.outside.read(&[key.clone(), StateKey::Chain(account.clone())]).await?;
        let bid = *refusal(id, subject.clone(), code, String::new()).bid;
        let (None, Ok(granted)) = (snapshot.claim(&key)?, claim::grant(None, bid, self.me.times, now)) else {
            return Ok(false);
        };
        let record = |state| {
            let mut record = report::draft(&self.me, id, &subject, state, now);
            record.detail.extend(report::details([(detail::CODE, code.to_owned()), (detail::REASON, reason.clone())]));
            record.detail.extend(more.clone());
            record
        };
        let taken = ClaimWrite { key: key.clone(), condition: Condition::Absent, claim: granted.clone() };
        let head = snapshot.head(&account)?;
        let planned = vec![record(State::Planned)];
        let head = match append_with(&self.outside, &account, head, planned, Some(taken), also).await {
            Err(AppendError::ClaimLost | AppendError::AlsoLost(_)) => return Ok(false),
            written => written?,
        };
        let mut last = record(state);
        last.timestamp += 1;
        if state == State::Failed {
            last.error_message.clone_from(&reason);
        }
        last.notification_sent = tell::publish(&self.outside, id, &subject, state, now).await;
        let end = End { state, compliant: false, changed: false, undone: false };
        let condition = claim::condition(Some(&granted));
        let told = ClaimWrite { key, condition, claim: claim::finish(&granted, end, now) };
        append(&self.outside, &account, head, vec![last], Some(told)).await?;
        Ok(true)
    }

    /// About something of ours, in the administrator account.
    fn subject(&self, resource: String, kind: &str, title: String, action: &str) -> Subject {
        Subject {
            finding_id: "none".to_owned(),
            product_arn: None,
            title,
            severity: SeverityLabel::High,
            account: self.me.account.clone(),
            region: Some(self.me.home.clone()),
            control: None,
            resource_id: resource,
            resource_type: kind.to_owned(),
            action: action.to_owned(),
            remediation_type: RemediationType::Automatic,
            requested_by: "reconciler".to_owned(),
            reported: None,
            sample: false,
        }
    }
}

/// Something to write down and tell.
struct Note {
    id: RemediationId,
    subject: Subject,
    state: State,
    code: &'static str,
    reason: String,
    more: report::Detail,
}
