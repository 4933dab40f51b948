//! The orchestrator: one queue message in, and a remediation started, people told, or nothing to do.
//!
//! Calls per finding, in this order (the budget of a successful remediation is these and the completion's):
//!
//! | path | calls |
//! |---|---|
//! | start | `BatchGetItem`, `Invoke` of the member's guard, `TransactWriteItems` (Planned, Claimed, claim, chain head, flight, counts), `AssumeRole` (kept per account), `StartAutomationExecution` |
//! | playbook | the same, with `Invoke` of the member's function for the last, which waits for its end, and `SendMessage` of that to the completion |
//! | approval, or a control that takes long | the same, with `StartExecution` of the workflow for the last |
//! | duplicate | `BatchGetItem` |
//! | the same again | `BatchGetItem`: people were told so within a day |
//! | undecided | as only told, and `SendMessage` to the dead-letter queue: what a rule's decision needs cannot be had |
//! | escalated | as only told, with the `BatchGetItem` of its own items alone |
//! | only told | `BatchGetItem`, `TransactWriteItems` (Planned), `Publish`, `TransactWriteItems` (Notified); of an incident one or two `Query` before `Publish` ([`crate::triage`]) |
//! | ignored | `BatchGetItem`, `TransactWriteItems` |
//! | put aside | `BatchGetItem`, `PutItem` into the backlog, `TransactWriteItems` (Planned, claim, chain head, flight) |
//! | newer than what is under way | `BatchGetItem`, `PutItem` into the backlog, `PutItem` (flight); the same again: `BatchGetItem` |
//! | newer than what people are asked about | `BatchGetItem`, `PutItem` into the backlog, `PutItem` (claim); the same again: `BatchGetItem` |
//! | refused input | as only told, and `SendMessage` to the dead-letter queue |
//! | undo | `Query` (what is to be undone), then as start, without the guard |
//! | start that fails | as start, then `Publish`, `BatchGetItem`, `TransactWriteItems`, and `SendMessage` unless it is to be tried again |
//! | brought back, and needs no place | as what it is, then, when a place is free, `Query`, `SendMessage`, `DeleteItem` of the next |
//! | breaker opens | `BatchGetItem`, `TransactWriteItems`, `Publish`, `TransactWriteItems`, then as only told |
//!
//! `Organizations` is asked once a day for an account, and only where a policy, an exemption or a switch speaks of units
//! or account tags; the change calendars once a minute, where a policy speaks of them. The guard is asked for rules before
//! anything is changed or asked for, for people when the control is not reversible, and where policy speaks of its
//! evidence. A Config finding on a cold start costs a second `BatchGetItem`: its control is not known before the catalogue
//! is; so does the first finding after the operators' own policy set came into force.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use redress_common::aws::ledger_store::{
    Also, AppendError, ClaimWrite, StoreError, TransactError, append, append_with,
};
use redress_common::aws::state_table::{
    CatalogueError, CatalogueItem, Claim, ClaimStatus, Expect, Notice, PolicySetName, Settings, Snapshot, StateKey,
    Subject,
};
use redress_common::catalogue::Catalogue;
use redress_common::contract::{Mode, parameter};
use redress_common::finding::{CustomAction, Finding, Inbound, ParseError, SeverityLabel, Trigger, parse, released};
use redress_common::ids::{AccountId, Generation, RemediationId};
use redress_common::items::flight::Flight;
use redress_common::ledger::{Head, RecordDraft, code, detail};
use redress_common::metrics;
use redress_common::names;
use redress_common::state::State;

use crate::context::{self, Context, kept_account, place, shared};
use crate::decide::{Basis, Facts, Known, Lookup, Plan, REQUEST_SECONDS, Shared, Tell, Until, decide, refusal};
use crate::intake::{self, Case, NoCase, NotUndoable, Undo};
use crate::ports::{Asking, Identity, Outside, Start, StartError, Waiting, WorkflowInput};
use crate::{backlog, claim};
use crate::{report, tell, triage};

/// A catalogue older than this is read again, with whatever else is read.
const CATALOGUE_MS: i64 = 60_000;
/// How often a case is decided anew because somebody else changed its claim, or an item that many share, meanwhile.
const ROUNDS: u64 = 16;

/// What those on call are asked for by an escalation.
const ESCALATED: &str =
    "Look at this now: a person escalated the finding. `redress case list` has what is known of its resource.";

/// The message could not be dealt with now; the queue must bring it again.
#[derive(Debug, thiserror::Error)]
pub enum Retry {
    /// The tables do not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain is too busy, or the claim changed hands too often.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Without a catalogue nothing can be said of any finding.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// SSM or STS said "not now".
    #[error(transparent)]
    Start(#[from] StartError),
    /// People are being told of an older finding of the resource.
    #[error("people are being told of remediation {0} of the same resource")]
    Telling(RemediationId),
    /// What cannot be handled now, or ever, could not be kept.
    #[error(transparent)]
    Keep(#[from] redress_common::aws::failure::AwsFailure),
}

impl Retry {
    /// Whether another worker was quicker: what was read does not hold any more, and the case is decided anew.
    const fn is_overtaken(&self) -> bool {
        matches!(self, Self::Append(AppendError::ClaimLost | AppendError::AlsoLost(_)))
    }
}

/// Workers that met do not meet again at once.
pub(crate) async fn pause(round: u64) {
    let jitter = rand::random_range(0..=8 * round);
    tokio::time::sleep(std::time::Duration::from_millis(jitter)).await;
}

/// The orchestrator.
#[derive(Debug)]
pub struct Orchestrator<O> {
    outside: O,
    me: Identity,
    catalogue: Mutex<Option<Kept>>,
    context: Context,
    /// The set in force was the operators' own when the settings were read last: it is read with the rest.
    own_set: AtomicBool,
}

/// The catalogue as it was read last.
#[derive(Debug)]
struct Kept {
    catalogue: Arc<Catalogue>,
    /// What it was opened from.
    item: CatalogueItem,
    read: Timestamp,
}

/// The account that an event came from: the one thing that EventBridge vouches for.
#[derive(serde::Deserialize)]
struct Sender {
    account: AccountId,
}

fn sender(body: &str) -> Result<AccountId, ParseError> {
    let Ok(Sender { account }) = serde_json::from_str(body) else {
        return Err(ParseError::Missing { path: "account".to_owned() });
    };
    Ok(account)
}

/// Where a case comes from, so that it can be made again when the claim changed hands.
enum Origin<'a> {
    Finding(&'a Finding),
    Released(&'a Finding, Option<&'a str>),
    Undo(&'a Undo),
}

/// Whether a case is dealt with, or has to be decided once more.
enum Round {
    Done,
    Again,
}

/// A case, and what was read for it.
struct Read<'a> {
    case: &'a Case,
    held: Option<&'a Claim>,
    request: Option<&'a Claim>,
    head: Head,
    shared: Option<&'a Shared>,
}

/// What was granted and decided, on the way to a start.
struct Going<'a> {
    case: &'a Case,
    write: ClaimWrite,
    basis: Basis,
    head: Head,
    also: Vec<Also>,
    /// How people are asked before; `None` when they are not.
    asking: Option<Asking>,
    /// The end of the remediation that had the claim, when it never began.
    superseded: Option<RecordDraft>,
}

impl<O: Outside> Orchestrator<O> {
    /// One that acts through `outside`, as `me`.
    #[must_use]
    pub fn new(outside: O, me: Identity) -> Self {
        Self { outside, me, catalogue: Mutex::new(None), context: Context::default(), own_set: AtomicBool::new(false) }
    }

    /// Deal with the body of one queue message.
    ///
    /// # Errors
    /// When the message must be brought again. Everything permanent is dealt with here.
    pub async fn message(&self, body: &str, now: Timestamp) -> Result<(), Retry> {
        match parse(body.as_bytes()) {
            Err(error) => self.refuse_input(body, "", error.code(), error.to_string(), now).await,
            Ok(Inbound::Nothing { reason }) => {
                tracing::debug!(reason, "nothing to act on");
                Ok(())
            }
            Ok(Inbound::Undo { remediation, by, request, reason, mode }) => {
                let trigger = Trigger::Operator { by, mode, reason: reason.clone() };
                let undo = Undo { remediation, trigger, request, event_time: now, reason };
                if let Err(error) = self.sent_by_us(body) {
                    return self.refuse_input(body, "", error.code(), error.to_string(), now).await;
                }
                if mode == Mode::DryRun {
                    return self.refuse_undo(body, &undo, &NotUndoable::DryRun(remediation), now).await;
                }
                self.work(body, &Origin::Undo(&undo), now).await
            }
            Ok(Inbound::Released { finding, campaign }) => match self.sent_by_us(body) {
                Ok(()) => self.work(body, &Origin::Released(&finding, campaign.as_deref()), now).await,
                Err(error) => self.refuse_input(body, "", error.code(), error.to_string(), now).await,
            },
            Ok(Inbound::Findings(findings)) => {
                // Each on its own: one that must come again does not keep the others from being done now, and
                // those that are done are duplicates then.
                let mut outcome = Ok(());
                for (index, finding) in findings.iter().enumerate() {
                    let bound = finding.as_ref().map_err(Clone::clone).and_then(|finding| self.bind(finding, body));
                    let done = match bound {
                        Ok(finding) => self.work(body, &Origin::Finding(finding), now).await,
                        Err(error) => {
                            self.refuse_input(body, &format!("#{index}"), error.code(), error.to_string(), now).await
                        }
                    };
                    outcome = outcome.and(done);
                }
                outcome
            }
        }
    }

    /// Only the administrator speaks of other accounts' findings, and only its people ask by the command: nobody gets a
    /// resource changed that is not theirs, or by a request that policy takes for a person's.
    fn bind<'a>(&self, finding: &'a Finding, body: &str) -> Result<&'a Finding, ParseError> {
        let account = sender(body)?;
        if matches!(finding.trigger, Trigger::Operator { .. } | Trigger::CustomAction(_)) {
            return self.sent_by_us(body).map(|()| finding);
        }
        if account == finding.account || account == self.me.account {
            return Ok(finding);
        }
        Err(ParseError::AccountMismatch { place: "the finding", found: finding.account.clone(), expected: account })
    }

    /// The bus's rules say the same; a rule that somebody widens must not be a way in.
    fn sent_by_us(&self, body: &str) -> Result<(), ParseError> {
        let found = sender(body)?;
        if found == self.me.account {
            return Ok(());
        }
        Err(ParseError::AccountMismatch { place: "the request's event", found, expected: self.me.account.clone() })
    }

    /// Decide and carry out, again when another worker was quicker.
    async fn work(&self, body: &str, origin: &Origin<'_>, now: Timestamp) -> Result<(), Retry> {
        // What was found out elsewhere is not asked for again when another worker was quicker.
        let mut facts = Facts::default();
        for round in 1.. {
            match self.once(body, origin, &mut facts, now).await {
                Ok(Round::Again) if round < ROUNDS => {}
                Err(error) if error.is_overtaken() && round < ROUNDS => pause(round).await,
                done => return done.map(drop),
            }
        }
        Ok(())
    }

    async fn once(&self, body: &str, origin: &Origin<'_>, facts: &mut Facts, now: Timestamp) -> Result<Round, Retry> {
        let done = |()| Round::Done;
        let (case, snapshot) = match origin {
            Origin::Finding(finding) if finding.trigger == Trigger::CustomAction(CustomAction::Escalate) => {
                return self.escalate(finding, now).await.map(done);
            }
            Origin::Finding(finding) | Origin::Released(finding, _) => {
                match self.case_of_finding(finding, now).await? {
                    (Ok(case), snapshot) if case.mode == Mode::Restore => {
                        return self.undo_last(body, finding, &case, &snapshot, now).await;
                    }
                    (Ok(case), snapshot) => (came(case, origin), snapshot),
                    (Err(error), _) => {
                        self.no_case(body, finding, &error, now).await?;
                        return self.next_of(origin, finding, now).await.map(done);
                    }
                }
            }
            Origin::Undo(undo) => {
                let records = self.outside.records(undo.remediation).await?;
                let (catalogue, _) = self.read(vec![StateKey::Settings], now).await?;
                match intake::case_of_undo(undo, &records, &catalogue) {
                    Ok(case) => {
                        let mut keys = always(&case.account);
                        keys.extend(intake::case_keys(&case, now));
                        let (_, snapshot) = self.read(keys, now).await?;
                        (case, snapshot)
                    }
                    Err(error) => return self.refuse_undo(body, undo, &error, now).await.map(done),
                }
            }
        };
        let held = snapshot.claim(&case.claim_key()).map_err(StoreError::from)?;
        let request = snapshot.claim(&case.request_key()).map_err(StoreError::from)?;
        let head = snapshot.head(&case.account).map_err(StoreError::from)?;
        let shared = shared(&snapshot, &case, now);
        let settings = shared.as_ref().map(|shared| shared.settings.clone()).unwrap_or_default();
        let in_force = context::policies(settings.policy_set, &snapshot);
        if facts.account == Lookup::Unasked {
            facts.account = kept_account(&snapshot, &case, now);
        }
        let plan = loop {
            let known = Known {
                shared: shared.as_ref().map_err(Clone::clone),
                claim: held.as_ref(),
                request: request.as_ref(),
                times: self.me.times,
                policies: in_force.as_deref().map_err(Clone::clone),
                facts,
            };
            match decide(&case, &known, now) {
                Plan::Need(need) => {
                    let calendars = &settings.change_calendars;
                    self.context.find_out(&self.outside, need, &case, calendars, facts, now).await?;
                }
                plan => break plan,
            }
        };
        // What is brought back takes the place that it waited for, or leaves it to the next.
        let leaves = matches!(
            plan,
            Plan::Duplicate
                | Plan::Repeated(_)
                | Plan::Tell(_)
                | Plan::Ask { .. }
                | Plan::Wait { until: Until::Answer { .. }, .. }
        );
        let read =
            Read { case: &case, held: held.as_ref(), request: request.as_ref(), head, shared: shared.as_ref().ok() };
        let round = self.carry_out(body, origin, plan, read, now).await?;
        if let (Origin::Released(..), true, Ok(shared)) = (origin, leaves, &shared) {
            let flight = StateKey::Flight(case.account.clone(), case.region.clone());
            self.next(&flight, &shared.flight, &settings, "", now).await?;
        }
        Ok(round)
    }

    /// Do what the plan says.
    async fn carry_out(
        &self,
        body: &str,
        origin: &Origin<'_>,
        plan: Plan,
        read: Read<'_>,
        now: Timestamp,
    ) -> Result<Round, Retry> {
        let done = |()| Round::Done;
        let Read { case, held, request, head, shared } = read;
        let existing = |key: &StateKey| if *key == case.claim_key() { held } else { request };
        let going = |key: StateKey, bid, basis, also, asking| {
            let before = existing(&key);
            let granted = claim::grant(before, bid, self.me.times, now).ok()?;
            let write = ClaimWrite { condition: claim::condition(before), key, claim: granted };
            let superseded = self.superseded(before, case.id, now);
            Some(Going { case, write, basis, head: head.clone(), also, asking, superseded })
        };
        let going = match plan {
            Plan::Duplicate | Plan::Need(_) => {
                tracing::info!(remediation = %case.id, "duplicate");
                return Ok(Round::Done);
            }
            Plan::Later(other) => return Err(Retry::Telling(other)),
            Plan::Repeated(code) => {
                tracing::info!(remediation = %case.id, code, "told before");
                report::metric(&report::count(&metrics::REPEATED, code, now));
                return Ok(Round::Done);
            }
            Plan::Open(opening) => {
                tell::opened(&self.outside, &self.me, &opening, now).await?;
                return Ok(Round::Again);
            }
            Plan::Wait { until, urgent } => {
                let Some(shared) = shared else { return Ok(Round::Done) };
                let order = Waiting::order(urgent, case.severity.score, case.event_time, case.id);
                return match until {
                    Until::Answer { key, claim, generation } => {
                        self.wait_for_answer(origin, case, &key, &claim, generation, now).await.map(done)
                    }
                    Until::End { of, generation } => {
                        self.wait_for_end(origin, case, shared, order, (of, generation), now).await.map(done)
                    }
                    Until::Place { key, bid, reason } => match going(key, *bid, Basis::default(), Vec::new(), None) {
                        Some(going) => self.wait(origin, going, shared, order, &reason, now).await.map(done),
                        None => Ok(Round::Done),
                    },
                };
            }
            Plan::Tell(tell) => {
                let existing = existing(&tell.key);
                let body = tell.undecided.then_some(body);
                return self.tell(tell, existing, head, body, Some(case.event_time), now).await.map(done);
            }
            Plan::Start { key, bid, basis, also } => going(key, *bid, basis, also, None),
            Plan::Ask { key, bid, basis, asking, also } => going(key, *bid, basis, also, Some(asking)),
        };
        match going {
            Some(going) => self.start(body, going, now).await.map(done),
            None => Ok(Round::Done),
        }
    }

    /// Put a finding into the backlog of its account and Region, and write that down. The end of what runs there brings it
    /// back; so the mark on what is in flight is written over the version that was read, or all is decided anew.
    async fn wait(
        &self,
        origin: &Origin<'_>,
        going: Going<'_>,
        shared: &Shared,
        order: String,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let Going { case, write, head, superseded, .. } = going;
        let flight = self.defer(origin, case, order, now).await?;
        let mut planned = report::draft(&self.me, case.id, &case.subject, State::Planned, now);
        planned.detail.extend(report::details([
            (detail::CODE, "waiting".to_owned()),
            (detail::REASON, reason.to_owned()),
            (detail::GENERATION, case.generation.to_string()),
        ]));
        let read = Expect::Version(shared.flight.version);
        let marked = Also::put(flight, &shared.flight.marked(true), read).map_err(StoreError::from)?;
        let records = superseded.into_iter().chain([planned]).collect();
        append_with(&self.outside, &case.account, head, records, Some(write), vec![marked]).await?;
        report::metric(&report::count(&metrics::DECISIONS, "waiting", now));
        Ok(())
    }

    /// The same, for a finding whose resource is being worked on, which may be all that it asks for: it has no record of
    /// its own before it comes back and is more than that. What is in flight says that it waits, so that its next
    /// deliveries cost one read.
    async fn wait_for_end(
        &self,
        origin: &Origin<'_>,
        case: &Case,
        shared: &Shared,
        order: String,
        (running, generation): (RemediationId, Generation),
        now: Timestamp,
    ) -> Result<(), Retry> {
        let flight = self.defer(origin, case, order.clone(), now).await?;
        let marked = shared.flight.followed(running, generation);
        match self.outside.put_if(&flight, &marked, Expect::Version(shared.flight.version)).await {
            Ok(()) => {}
            Err(TransactError::Store(error)) => return Err(error.into()),
            Err(_) => return Err(AppendError::AlsoLost(flight).into()),
        }
        // It was brought back for a place that it cannot use yet.
        let back = matches!(origin, Origin::Released(..));
        if back { self.next(&flight, &marked, &shared.settings, &order, now).await } else { Ok(()) }
    }

    /// The same, for a finding whose resource people are asked about: it is put aside before the claim is noted, which
    /// fails when the question ended meanwhile. So whoever ends it finds what waits.
    async fn wait_for_answer(
        &self,
        origin: &Origin<'_>,
        case: &Case,
        key: &StateKey,
        claim: &Claim,
        generation: Generation,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let place = backlog::after(claim.remediation_id);
        self.put_aside(origin, case, place, backlog::newest(generation), now).await?;
        let noted = Claim { later: claim.later.max(Some(generation)), ..claim.clone() };
        match self.outside.put_if(key, &noted, Expect::Claim(claim::condition(Some(claim)))).await {
            Ok(()) => Ok(()),
            Err(TransactError::Store(error)) => Err(error.into()),
            Err(_) => Err(AppendError::ClaimLost.into()),
        }
    }

    /// Put a finding aside. The item that says what runs where it belongs.
    async fn defer(&self, origin: &Origin<'_>, case: &Case, order: String, now: Timestamp) -> Result<StateKey, Retry> {
        let flight = StateKey::Flight(case.account.clone(), case.region.clone());
        self.put_aside(origin, case, flight.to_string(), order, now).await?;
        Ok(flight)
    }

    async fn put_aside(
        &self,
        origin: &Origin<'_>,
        case: &Case,
        place: String,
        order: String,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let (Origin::Finding(finding) | Origin::Released(finding, _)) = origin else { return Ok(()) };
        let body = released(&self.me.account, &self.me.home, finding, case.campaign.as_deref(), now);
        let expires_at = now.as_second() + REQUEST_SECONDS;
        Ok(self.outside.defer(&Waiting { place, order, body, expires_at }).await?)
    }

    /// The same, for what is no case any more.
    async fn next_of(&self, origin: &Origin<'_>, finding: &Finding, now: Timestamp) -> Result<(), Retry> {
        if !matches!(origin, Origin::Released(..)) {
            return Ok(());
        }
        let key = StateKey::Flight(finding.account.clone(), finding.region.clone());
        let snapshot = self.outside.read(&[key.clone(), StateKey::Settings]).await?;
        let flight = snapshot.flight(&finding.account, &finding.region).map_err(StoreError::from)?;
        let settings = snapshot.settings().map_err(StoreError::from)?;
        self.next(&key, &flight, &settings, "", now).await
    }

    /// A place stays free: the next that waits for it comes.
    async fn next(
        &self,
        key: &StateKey,
        flight: &Flight,
        settings: &Settings,
        after: &str,
        now: Timestamp,
    ) -> Result<(), Retry> {
        if !flight.waiting {
            return Ok(());
        }
        backlog::bring_back(&self.outside, (key, flight), settings.limits.in_flight, (after, 1), now).await
    }

    /// The case of a finding, and what was read for it.
    async fn case_of_finding(
        &self,
        finding: &Finding,
        now: Timestamp,
    ) -> Result<(Result<Case, NoCase>, Snapshot), Retry> {
        let mut keys = always(&finding.account);
        match self.cached().and_then(|catalogue| intake::case_of(finding, &catalogue).ok()) {
            Some(case) => keys.extend(intake::case_keys(&case, now)),
            None => keys.extend(intake::likely_keys(finding, now)),
        }
        let (catalogue, snapshot) = self.read(keys, now).await?;
        let case = intake::case_of(finding, &catalogue);
        let wanted = case.as_ref().map(|case| intake::case_keys(case, now)).unwrap_or_default();
        if wanted.iter().all(|key| snapshot.covers(key)) {
            return Ok((case, snapshot));
        }
        let keys = always(&finding.account).into_iter().chain(wanted).collect();
        Ok((case, self.read(keys, now).await?.1))
    }

    /// Read items; with them the catalogue when the one at hand is old, and the operators' own policy set when it is in
    /// force.
    async fn read(&self, mut keys: Vec<StateKey>, now: Timestamp) -> Result<(Arc<Catalogue>, Snapshot), Retry> {
        let fresh = {
            let kept = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
            let age = |kept: &Kept| (now.as_millisecond() - kept.read.as_millisecond()).abs();
            kept.as_ref().filter(|kept| age(kept) < CATALOGUE_MS).map(|kept| kept.catalogue.clone())
        };
        if fresh.is_none() {
            keys.push(StateKey::Catalogue);
        }
        if self.own_set.load(Ordering::Relaxed) {
            keys.push(StateKey::Policy);
        }
        let mut snapshot = self.outside.read(&keys).await?;
        let own = snapshot.settings().is_ok_and(|settings| settings.policy_set == PolicySetName::Custom);
        self.own_set.store(own, Ordering::Relaxed);
        if own && !snapshot.covers(&StateKey::Policy) {
            keys.push(StateKey::Policy);
            snapshot = self.outside.read(&keys).await?;
        }
        if let Some(catalogue) = fresh {
            return Ok((catalogue, snapshot));
        }
        let item = snapshot.catalogue_item()?;
        let mut kept = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        let catalogue = match kept.as_ref().filter(|kept| kept.item == item) {
            // To the byte what was hashed and parsed before: those are the better part of such an event's work.
            Some(kept) => kept.catalogue.clone(),
            None => Arc::new(item.open()?),
        };
        *kept = Some(Kept { catalogue: catalogue.clone(), item, read: now });
        drop(kept);
        Ok((catalogue, snapshot))
    }

    fn cached(&self) -> Option<Arc<Catalogue>> {
        let at_hand = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        at_hand.as_ref().map(|kept| kept.catalogue.clone())
    }

    /// A person chose "undo" on a finding: undo the last remediation of its resource.
    async fn undo_last(
        &self,
        body: &str,
        finding: &Finding,
        case: &Case,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Round, Retry> {
        let held = snapshot.claim(&case.claim_key()).map_err(StoreError::from)?;
        let Some(remediation) = held.and_then(|claim| claim.undoable) else {
            let error = NotUndoable::Nothing(case.subject.resource_id.clone());
            let refused =
                self.refuse(body, case.id, case.subject.clone(), "not-undoable", error.to_string(), now).await;
            return refused.map(|()| Round::Done);
        };
        let undo = Undo {
            remediation,
            trigger: finding.trigger.clone(),
            request: intake::request_of(finding),
            event_time: finding.event_time,
            reason: String::new(),
        };
        Box::pin(self.once(body, &Origin::Undo(&undo), &mut Facts::default(), now)).await
    }

    /// Claim, write down, start: the control runbook, or the workflow that asks people first.
    async fn start(&self, body: &str, going: Going<'_>, now: Timestamp) -> Result<(), Retry> {
        let Going { case, write, basis, head, also, asking, superseded } = going;
        let (key, granted) = (write.key.clone(), write.claim.clone());
        let start = start_of(&self.me, case, &granted);
        let asks = asking.is_some();
        let by_workflow = asks || case.by_workflow();
        let mut records = self.planned_and_claimed(case, &granted, &start, &basis, now);
        if let (Some(begun), true) = (records.last_mut(), by_workflow && !asks) {
            // Nobody is asked, and nothing is applied yet: the workflow writes down when it is.
            begun.execution_status = State::Planned;
            begun.detail.insert(detail::CODE.to_owned(), "workflow-started".to_owned());
        }
        let records = superseded.into_iter().chain(records).collect();
        append_with(&self.outside, &case.account, head, records, Some(write), also).await?;
        let started = if by_workflow {
            self.outside.start_workflow(&workflow_of(case, start, asking, self.me.times)).await
        } else {
            self.outside.start(&place(case), &start).await
        };
        let Err(error) = started else { return Ok(()) };

        // Somebody may have started it all the same. The claim stands, so that nobody else touches the resource meanwhile;
        // the message comes again after the lease, and SSM answers its start with the first one.
        if error.transient && !by_workflow && (error.unanswered || claim::was_taken_over(&granted, self.me.times)) {
            return Err(error.into());
        }

        // Nothing was started: give the claim back, or the finding would be "in progress" for ever.
        let state = if error.transient { State::Planned } else { State::Failed };
        let code = if error.transient { "start-later" } else { "start-failed" };
        let back =
            ClaimWrite { key, condition: claim::condition(Some(&granted)), claim: claim::release(&granted, state) };
        let mut record = report::draft(&self.me, case.id, &case.subject, state, now);
        record.timestamp += 2;
        record.error_message = report::sanitised(&error.message);
        record.detail.extend(report::details([
            (detail::CODE, code.to_owned()),
            (detail::FENCE, granted.fence.to_string()),
            (detail::MODE, case.mode.as_str().to_owned()),
        ]));
        if !error.transient {
            record.notification_sent = tell::publish(&self.outside, case.id, &case.subject, state, now).await;
        }
        let (flight, settings) = self.give_back(case, back, &record, now).await?;
        if error.transient {
            return Err(error.into());
        }
        tracing::error!(remediation = %case.id, error = %error, "the runbook could not be started");
        if case.subject.sample {
            // Nothing is left undone that somebody would have to bring again.
            return Ok(());
        }
        self.outside.dead_letter(body, code, &report::sanitised(&error.message)).await?;
        if asks {
            backlog::bring_after(&self.outside, case.id).await?;
        }
        let key = StateKey::Flight(case.account.clone(), case.region.clone());
        if let Err(error) = self.next(&key, &flight, &settings, "", now).await {
            // Not worth a second start; the reconciler looks at what waits, too.
            tracing::warn!(%error, "the next was not brought back");
        }
        Ok(())
    }

    /// Give back the claim, and the place in flight with it: what is in flight then, and the settings.
    async fn give_back(
        &self,
        case: &Case,
        back: ClaimWrite,
        record: &RecordDraft,
        now: Timestamp,
    ) -> Result<(Flight, Settings), Retry> {
        let key = StateKey::Flight(case.account.clone(), case.region.clone());
        let keys = [key.clone(), StateKey::Chain(case.account.clone()), StateKey::Settings];
        for round in 1.. {
            let snapshot = self.outside.read(&keys).await?;
            let head = snapshot.head(&case.account).map_err(StoreError::from)?;
            let mut flight = snapshot.flight(&case.account, &case.region).map_err(StoreError::from)?;
            let mut also = Vec::new();
            if flight.running.contains_key(&case.id) {
                let read = Expect::Version(flight.version);
                flight = flight.without(case.id, now.as_millisecond());
                also.push(Also::put(key.clone(), &flight, read).map_err(StoreError::from)?);
            }
            match append_with(&self.outside, &case.account, head, vec![record.clone()], Some(back.clone()), also).await
            {
                // The lease ended and a successor has it: the failure is the successor's to tell of.
                Ok(_) | Err(AppendError::ClaimLost) => return Ok((flight, snapshot.settings().unwrap_or_default())),
                Err(AppendError::AlsoLost(_)) if round < ROUNDS => pause(round).await,
                Err(other) => return Err(other.into()),
            }
        }
        Ok(Default::default())
    }

    /// The last record of a remediation whose claim another one takes before it began: it waited, or its worker died.
    fn superseded(&self, before: Option<&Claim>, by: RemediationId, now: Timestamp) -> Option<RecordDraft> {
        let open = |claim: &&Claim| claim.status != ClaimStatus::Done && claim.state == State::Planned;
        let claim = before.filter(open).filter(|claim| claim.remediation_id != by)?;
        let mut record = report::draft(&self.me, claim.remediation_id, &claim.subject, State::Ignored, now);
        record.detail.extend(report::details([
            (detail::CODE, "superseded".to_owned()),
            (detail::REASON, "a newer finding of the resource came before anything was done".to_owned()),
            (detail::SUPERSEDED_BY, by.to_string()),
        ]));
        Some(record)
    }

    fn planned_and_claimed(
        &self,
        case: &Case,
        granted: &Claim,
        start: &Start,
        basis: &Basis,
        now: Timestamp,
    ) -> Vec<RecordDraft> {
        let mut planned = report::draft(&self.me, case.id, &case.subject, State::Planned, now);
        planned.detail.extend(report::basis_details(basis, &case.subject, Some(case.event_time)));
        planned.detail.extend(report::details([
            (detail::MODE, case.mode.as_str().to_owned()),
            (detail::GENERATION, case.generation.to_string()),
            (detail::REASON, report::sanitised(&case.reason)),
            (detail::CAMPAIGN, case.campaign.clone().unwrap_or_default()),
        ]));
        let mut claimed = report::draft(&self.me, case.id, &case.subject, granted.state, now);
        claimed.timestamp += 1;
        let sent = |name| start.parameters.get(name).cloned().unwrap_or_default();
        claimed.detail.extend(report::details([
            (detail::MODE, case.mode.as_str().to_owned()),
            (detail::FENCE, granted.fence.to_string()),
            (detail::RESOURCE_NAME, case.name.clone()),
            (detail::TITLE, case.subject.title.clone()),
            (detail::PRODUCT_ARN, case.subject.product_arn.as_ref().map(ToString::to_string).unwrap_or_default()),
            (detail::EVIDENCE_BUCKET, sent(parameter::EVIDENCE_BUCKET)),
            (detail::EVIDENCE_KEY, sent(parameter::EVIDENCE_KEY)),
            (detail::SOURCE_EVIDENCE_KEY, sent(parameter::SOURCE_EVIDENCE_KEY)),
            (detail::UNDOES, granted.undoes.map(|id| id.to_string()).unwrap_or_default()),
        ]));
        vec![planned, claimed]
    }

    /// Write down, tell, write down that people were told. With a body, the input goes to the dead-letter queue.
    async fn tell(
        &self,
        what: Tell,
        existing: Option<&Claim>,
        head: Head,
        body: Option<&str>,
        event_time: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let Tell { key, bid, state, code, reason, basis, undecided } = what;
        let Ok(mut granted) = claim::grant(existing, *bid, self.me.times, now) else { return Ok(()) };
        granted.notice = Some(Notice { code: code.to_owned(), at: now.as_millisecond() });
        let (id, subject, account) = (granted.remediation_id, granted.subject.clone(), granted.subject.account.clone());
        let end = claim::End { state, compliant: false, changed: false, undone: false };
        let finished = if undecided {
            // When what stood in the way is mended, the message may be sent again.
            Claim { status: ClaimStatus::Released, state, ..granted.clone() }
        } else {
            claim::finish(&granted, end, now)
        };
        let record = |state| {
            let mut record = report::draft(&self.me, id, &subject, state, now);
            record.detail.extend(report::basis_details(&basis, &subject, event_time));
            record.detail.extend(report::details([
                (detail::CODE, code.to_owned()),
                (detail::REASON, report::sanitised(&reason)),
                (detail::GENERATION, granted.generation.to_string()),
            ]));
            record
        };
        let taken = claim::condition(existing);
        let superseded = self.superseded(existing, id, now);
        tracing::info!(remediation = %id, %state, code, "not started");
        if state == State::Ignored {
            let write = ClaimWrite { key, condition: taken, claim: finished };
            let records = superseded.into_iter().chain([record(state)]).collect();
            append(&self.outside, &account, head, records, Some(write)).await?;
            report::metric(&report::count(&metrics::DECISIONS, code, now));
            return Ok(());
        }
        // The claim is taken before anybody is told, so that a storm of the same event is one message.
        let write = ClaimWrite { key: key.clone(), condition: taken, claim: granted.clone() };
        let records = superseded.into_iter().chain([record(State::Planned)]).collect();
        let head = append(&self.outside, &account, head, records, Some(write)).await?;
        if let Some(body) = body {
            self.outside.dead_letter(body, code, &report::sanitised(&reason)).await?;
        }
        let mut last = record(state);
        last.timestamp += 1;
        if state == State::Failed {
            last.error_message = report::sanitised(&reason);
        }
        // These say what a person has to do, and where.
        let next_step = matches!(code, "guidance" | "owned" | code::ESCALATED).then(|| report::sanitised(&reason));
        let triage = if subject.is_of_incident() || code == code::ESCALATED {
            Some(triage::look(&self.outside, id, &subject, state, &basis.impact, now).await)
        } else {
            None
        };
        let kept = triage.as_ref().map(triage::kept).unwrap_or_default();
        last.detail.extend(report::details([(detail::TRIAGE, kept)]));
        let said = tell::Said { next_step, urgent: basis.urgent, triage };
        last.notification_sent = tell::publish_as(&self.outside, id, &subject, state, said, now).await;
        let write = ClaimWrite { key, condition: claim::condition(Some(&granted)), claim: finished };
        append(&self.outside, &account, head, vec![last], Some(write)).await?;
        report::metric(&report::count(&metrics::DECISIONS, code, now));
        Ok(())
    }

    /// A finding that is no case.
    ///
    /// A check that no control answers to, sent by a rule, is the ordinary run of Security Hub's other hundreds of
    /// controls: a record and a message for each would bury the rest. It is counted, by check; the record is
    /// Security Hub's own. When a person asks for it, they get an answer.
    ///
    /// Of a sample, too: somebody is trying the way, and there is none for it.
    async fn no_case(&self, body: &str, finding: &Finding, error: &NoCase, now: Timestamp) -> Result<(), Retry> {
        if finding.sample && !matches!(error, NoCase::AccountMismatch { .. }) {
            let (id, subject) = (rejected_finding(finding), intake::subject_of(finding));
            let tell = || Tell {
                state: State::Notified,
                ..refusal(id, subject.clone(), error.code(), format!("{error}; nothing is done about a sample"))
            };
            return self.tell_once(id, &finding.account, tell, None, Some(finding.event_time), now).await;
        }
        if let (NoCase::UnknownControl { check }, false) = (error, finding.trigger.is_manual()) {
            report::metric(&report::count(&metrics::UNKNOWN_CHECKS, check, now));
            return Ok(());
        }
        let mut subject = intake::subject_of(finding);
        if matches!(error, NoCase::AccountMismatch { .. }) {
            // Neither of the two accounts can be believed: it is written on our own chain.
            subject.account = self.me.account.clone();
        }
        self.refuse(body, rejected_finding(finding), subject, error.code(), error.to_string(), now).await
    }

    /// An undo that cannot be done.
    async fn refuse_undo(&self, body: &str, undo: &Undo, error: &NotUndoable, now: Timestamp) -> Result<(), Retry> {
        let records = match error {
            NotUndoable::Unknown(_) => Vec::new(),
            _ => self.outside.records(undo.remediation).await?,
        };
        let mut subject = self.unknown(format!("Undo of {}", undo.remediation), &undo.trigger);
        if let Some(record) = records.last() {
            let known = &record.draft;
            subject.account = known.account_id.clone();
            subject.resource_id.clone_from(&known.resource_id);
            subject.resource_type.clone_from(&known.resource_type);
            subject.finding_id.clone_from(&known.finding_id);
        }
        let id = rejected_undo(undo.remediation, &undo.request);
        self.refuse(body, id, subject, "not-undoable", error.to_string(), now).await
    }

    /// An input that could not be read.
    async fn refuse_input(
        &self,
        body: &str,
        part: &str,
        code: &'static str,
        reason: String,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let id = rejected_input(body, part);
        let subject = self.unknown("Input that could not be read".to_owned(), &Trigger::Import);
        self.refuse(body, id, subject, code, reason, now).await
    }

    /// Write a refused input down, tell people, and keep it in the dead-letter queue: once.
    async fn refuse(
        &self,
        body: &str,
        id: RemediationId,
        subject: Subject,
        code: &'static str,
        reason: String,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let account = subject.account.clone();
        let tell = || refusal(id, subject.clone(), code, reason.clone());
        self.tell_once(id, &account, tell, Some(body), None, now).await
    }

    /// A person wants those on call to look at a finding. Neither policy nor a switch is asked: nothing is changed.
    async fn escalate(&self, finding: &Finding, now: Timestamp) -> Result<(), Retry> {
        // Each press of the button is told once, however often its event comes.
        let pressed = format!("escalate:{}@{}:{}", finding.id, finding.generation, finding.event_time);
        let id = RemediationId::of_rejected(pressed.as_bytes());
        let subject = Subject { action: "Escalate".to_owned(), ..intake::subject_of(finding) };
        let tell = || Tell {
            state: State::Notified,
            basis: Basis { urgent: true, ..Basis::default() },
            ..refusal(id, subject.clone(), code::ESCALATED, ESCALATED.to_owned())
        };
        self.tell_once(id, &finding.account, tell, None, Some(finding.event_time), now).await
    }

    /// Tells people of what no resource is claimed for: once.
    async fn tell_once(
        &self,
        id: RemediationId,
        account: &AccountId,
        tell: impl Fn() -> Tell,
        body: Option<&str>,
        event_time: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Retry> {
        for round in 1.. {
            let key = StateKey::Request(id);
            let snapshot = self.outside.read(&[key.clone(), StateKey::Chain(account.clone())]).await?;
            let existing = snapshot.claim(&key).map_err(StoreError::from)?;
            let head = snapshot.head(account).map_err(StoreError::from)?;
            match self.tell(tell(), existing.as_ref(), head, body, event_time, now).await {
                Err(error) if error.is_overtaken() && round < ROUNDS => pause(round).await,
                done => return done,
            }
        }
        Ok(())
    }

    fn unknown(&self, title: String, trigger: &Trigger) -> Subject {
        Subject {
            finding_id: "unknown".to_owned(),
            product_arn: None,
            title,
            severity: SeverityLabel::Informational,
            account: self.me.account.clone(),
            region: None,
            control: None,
            resource_id: "unknown".to_owned(),
            resource_type: "unknown".to_owned(),
            action: "None".to_owned(),
            remediation_type: intake::remediation_type(trigger),
            requested_by: match trigger {
                Trigger::Operator { by, .. } => by.clone(),
                other => crate::policy::kind(other).to_owned(),
            },
            reported: None,
            sample: false,
        }
    }
}

/// The items that every case needs.
fn always(account: &AccountId) -> Vec<StateKey> {
    vec![StateKey::Settings, StateKey::Exemptions, StateKey::Chain(account.clone()), StateKey::Account(account.clone())]
}

/// A case with what its origin says of how it came.
fn came(case: Case, origin: &Origin<'_>) -> Case {
    match origin {
        Origin::Released(_, campaign) => Case { released: true, campaign: campaign.map(str::to_owned), ..case },
        Origin::Finding(_) | Origin::Undo(_) => case,
    }
}

/// SSM waits for six hours until a copy is complete, and its run for a quarter of an hour more.
const SNAPSHOT_SECONDS: u32 = 7 * 60 * 60;

/// What the workflow is started with: the one that asks people, or makes what takes long.
fn workflow_of(case: &Case, start: Start, asking: Option<Asking>, times: claim::Times) -> WorkflowInput {
    let long = case.long.filter(|_| case.by_workflow()).unwrap_or_default();
    WorkflowInput {
        remediation_id: case.id,
        account: case.account.clone(),
        region: case.region.clone(),
        approval: asking,
        roll_back: long.roll_back,
        snapshot: long.snapshot,
        snapshot_seconds: SNAPSHOT_SECONDS,
        run_seconds: u32::try_from(times.run_ms / 1000).unwrap_or(u32::MAX),
        direct: start.direct,
        parameters: start.parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn rejected_input(body: &str, part: &str) -> RemediationId {
    RemediationId::of_rejected(format!("{body}{part}").as_bytes())
}

fn rejected_finding(finding: &Finding) -> RemediationId {
    let name = format!("{}@{}:{}", finding.id, finding.generation, finding.event_time);
    RemediationId::of_rejected(name.as_bytes())
}

fn rejected_undo(remediation: RemediationId, request: &str) -> RemediationId {
    RemediationId::of_rejected(format!("undo:{remediation}:{request}").as_bytes())
}

/// The ids under which a message, or a part of it, is refused once: whoever brings it again on purpose forgets these.
#[must_use]
pub fn refusals(body: &str) -> Vec<RemediationId> {
    let whole = rejected_input(body, "");
    let more = match parse(body.as_bytes()) {
        Ok(Inbound::Findings(findings)) => {
            let parts = (0..findings.len()).map(|index| rejected_input(body, &format!("#{index}")));
            parts.chain(findings.iter().flatten().map(rejected_finding)).collect()
        }
        Ok(Inbound::Released { finding, .. }) => vec![rejected_finding(&finding)],
        Ok(Inbound::Undo { remediation, request, .. }) => vec![rejected_undo(remediation, &request)],
        Ok(Inbound::Nothing { .. }) | Err(_) => Vec::new(),
    };
    std::iter::once(whole).chain(more).collect()
}

/// What the control runbook is started with.
#[must_use]
pub fn start_of(me: &Identity, case: &Case, granted: &Claim) -> Start {
    let partition = case.arn.partition();
    let claimed = Timestamp::from_millisecond(granted.claimed_at).unwrap_or_default();
    let role = |name: &str| names::role_arn(partition, &case.account, name);
    let source = case.source.as_ref().map(|source| source.evidence_key.clone()).unwrap_or_default();
    let parameters = BTreeMap::from([
        (parameter::AUTOMATION_ASSUME_ROLE, role(names::CONTROL_ROLE)),
        (parameter::REMEDIATION_ASSUME_ROLE, role(&names::family_role(&case.control))),
        (parameter::REMEDIATION_ID, case.id.to_string()),
        (parameter::CONTROL, case.control.to_string()),
        (parameter::RESOURCE_ARN, case.arn.to_string()),
        (parameter::RESOURCE_NAME, case.name.clone()),
        (parameter::MODE, case.mode.as_str().to_owned()),
        (parameter::FENCE, granted.fence.to_string()),
        (parameter::EVIDENCE_KEY, names::evidence_key(case.id, claimed)),
        (parameter::SOURCE_EVIDENCE_KEY, source),
        (parameter::EVIDENCE_BUCKET, names::evidence_bucket(&case.account, &me.home)),
    ]);
    // SSM refuses empty values; an absent parameter has the document's default, which says that there is none.
    let parameters = parameters.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Start { id: case.id, parameters, direct: case.direct.clone() }
}
