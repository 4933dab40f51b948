//! The orchestrator: one queue message in, and a remediation started, people told, or nothing to do.
//!
//! Calls per finding, in this order (the budget of a successful remediation is these and the completion's):
//!
//! | path | calls |
//! |---|---|
//! | start | `BatchGetItem`, `TransactWriteItems` (Planned, Claimed, claim, chain head), `AssumeRole` (kept per account), `StartAutomationExecution` |
//! | duplicate | `BatchGetItem` |
//! | only told | `BatchGetItem`, `TransactWriteItems` (Planned), `Publish`, `TransactWriteItems` (Notified) |
//! | ignored | `BatchGetItem`, `TransactWriteItems` |
//! | refused input | as only told, and `SendMessage` to the dead-letter queue |
//! | undo | `Query` (what is to be undone), then as start |
//! | start that fails | as start, then `Publish`, `TransactWriteItems`, and `SendMessage` unless it is to be tried again |
//!
//! A Config finding on a cold start costs a second `BatchGetItem`: its control is not known before the catalogue is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use redress_common::aws::ledger_store::{AppendError, ClaimWrite, StoreError, append};
use redress_common::aws::state_table::{CatalogueError, Claim, Snapshot, StateKey, Subject};
use redress_common::catalogue::Catalogue;
use redress_common::contract::{Mode, parameter};
use redress_common::finding::{Finding, Inbound, ParseError, SeverityLabel, Trigger, parse};
use redress_common::ids::{AccountId, RemediationId};
use redress_common::ledger::{Head, RecordDraft, detail};
use redress_common::names;
use redress_common::state::State;

use crate::claim;
use crate::decide::{Basis, Known, Plan, Tell, decide, refusal};
use crate::intake::{self, Case, NoCase, NotUndoable, Undo};
use crate::policy::Policies;
use crate::ports::{Identity, Outside, Place, Start, StartError};
use crate::{report, tell};

/// A catalogue older than this is read again, with whatever else is read.
const CATALOGUE_MS: i64 = 60_000;
/// How often a case is decided anew because somebody else changed its claim, or an item that many share, meanwhile.
const ROUNDS: u64 = 16;

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
    /// What cannot be handled could not be kept either.
    #[error(transparent)]
    DeadLetter(#[from] redress_common::aws::failure::AwsFailure),
    /// Another remediation of the resource is under way, and this finding is newer.
    #[error("remediation {0} of the same resource is under way")]
    InProgress(RemediationId),
}

impl Retry {
    /// Whether another worker was quicker: what was read does not hold any more, and the case is decided anew.
    const fn is_overtaken(&self) -> bool {
        matches!(self, Self::Append(AppendError::ClaimLost | AppendError::AlsoLost(_)))
    }
}

/// Workers that met do not meet again at once.
async fn pause(round: u64) {
    let jitter = rand::random_range(0..=8 * round);
    tokio::time::sleep(std::time::Duration::from_millis(jitter)).await;
}

/// The orchestrator.
#[derive(Debug)]
pub struct Orchestrator<O> {
    outside: O,
    me: Identity,
    catalogue: Mutex<Option<(Arc<Catalogue>, Timestamp)>>,
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
    Undo(&'a Undo),
}

impl<O: Outside> Orchestrator<O> {
    /// One that acts through `outside`, as `me`.
    #[must_use]
    pub fn new(outside: O, me: Identity) -> Self {
        Self { outside, me, catalogue: Mutex::new(None) }
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
            Ok(Inbound::Released { finding, campaign: _ }) => match self.sent_by_us(body) {
                Ok(()) => self.work(body, &Origin::Finding(&finding), now).await,
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
        for round in 1.. {
            match self.once(body, origin, now).await {
                Err(error) if error.is_overtaken() && round < ROUNDS => pause(round).await,
                done => return done,
            }
        }
        Ok(())
    }

    async fn once(&self, body: &str, origin: &Origin<'_>, now: Timestamp) -> Result<(), Retry> {
        let (case, snapshot) = match origin {
            Origin::Finding(finding) => match self.case_of_finding(finding, now).await? {
                (Ok(case), snapshot) if case.mode == Mode::Restore => {
                    return self.undo_last(body, finding, &case, &snapshot, now).await;
                }
                (Ok(case), snapshot) => (case, snapshot),
                (Err(error), _) => return self.no_case(body, finding, &error, now).await,
            },
            Origin::Undo(undo) => {
                let records = self.outside.records(undo.remediation).await?;
                let (catalogue, _) = self.read(&[StateKey::Settings], now).await?;
                match intake::case_of_undo(undo, &records, &catalogue) {
                    Ok(case) => {
                        let mut keys = vec![StateKey::Settings, StateKey::Chain(case.account.clone())];
                        keys.extend(intake::case_keys(&case));
                        (case, self.outside.read(&keys).await?)
                    }
                    Err(error) => return self.refuse_undo(body, undo, &error, now).await,
                }
            }
        };
        let held = snapshot.claim(&case.claim_key()).map_err(StoreError::from)?;
        let request = snapshot.claim(&case.request_key()).map_err(StoreError::from)?;
        let known = Known {
            settings: snapshot.settings().map_err(|error| error.to_string()),
            claim: held.as_ref(),
            request: request.as_ref(),
            times: self.me.times,
            policies: Policies::shipped,
        };
        let head = snapshot.head(&case.account).map_err(StoreError::from)?;
        match decide(&case, &known, now) {
            Plan::Duplicate => {
                tracing::info!(remediation = %case.id, "duplicate");
                Ok(())
            }
            Plan::Later(other) => Err(Retry::InProgress(other)),
            Plan::Tell(tell) => {
                let existing = if tell.key == case.claim_key() { held } else { request };
                self.tell(tell, existing.as_ref(), head, None, Some(case.event_time), now).await
            }
            Plan::Start { key, bid, basis } => {
                let existing = if key == case.claim_key() { held } else { request };
                let Ok(granted) = claim::grant(existing.as_ref(), *bid, self.me.times, now) else { return Ok(()) };
                let write = ClaimWrite { key, condition: claim::condition(existing.as_ref()), claim: granted };
                self.start(body, &case, write, &basis, head, now).await
            }
        }
    }

    /// The case of a finding, and what was read for it.
    async fn case_of_finding(
        &self,
        finding: &Finding,
        now: Timestamp,
    ) -> Result<(Result<Case, NoCase>, Snapshot), Retry> {
        let mut keys = vec![StateKey::Settings, StateKey::Chain(finding.account.clone())];
        let fixed = keys.clone();
        match self.cached().and_then(|catalogue| intake::case_of(finding, &catalogue).ok()) {
            Some(case) => keys.extend(intake::case_keys(&case)),
            None => keys.extend(intake::likely_keys(finding)),
        }
        let (catalogue, snapshot) = self.read(&keys, now).await?;
        let case = intake::case_of(finding, &catalogue);
        let wanted = case.as_ref().map(intake::case_keys).unwrap_or_default();
        if wanted.iter().all(|key| snapshot.covers(key)) {
            return Ok((case, snapshot));
        }
        let keys: Vec<StateKey> = fixed.into_iter().chain(wanted).collect();
        Ok((case, self.outside.read(&keys).await?))
    }

    /// Read items, and the catalogue with them when the one at hand is old.
    async fn read(&self, keys: &[StateKey], now: Timestamp) -> Result<(Arc<Catalogue>, Snapshot), Retry> {
        let at_hand = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh = at_hand.filter(|(_, read)| (now.as_millisecond() - read.as_millisecond()).abs() < CATALOGUE_MS);
        if let Some((catalogue, _)) = fresh {
            return Ok((catalogue, self.outside.read(keys).await?));
        }
        let mut keys = keys.to_vec();
        keys.push(StateKey::Catalogue);
        let snapshot = self.outside.read(&keys).await?;
        let catalogue = Arc::new(snapshot.catalogue()?);
        *self.catalogue.lock().unwrap_or_else(PoisonError::into_inner) = Some((catalogue.clone(), now));
        Ok((catalogue, snapshot))
    }

    fn cached(&self) -> Option<Arc<Catalogue>> {
        let at_hand = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        at_hand.as_ref().map(|(catalogue, _)| catalogue.clone())
    }

    /// A person chose "undo" on a finding: undo the last remediation of its resource.
    async fn undo_last(
        &self,
        body: &str,
        finding: &Finding,
        case: &Case,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let held = snapshot.claim(&case.claim_key()).map_err(StoreError::from)?;
        let Some(remediation) = held.and_then(|claim| claim.undoable) else {
            let error = NotUndoable::Nothing(case.subject.resource_id.clone());
            return self.refuse(body, case.id, case.subject.clone(), "not-undoable", error.to_string(), now).await;
        };
        let undo = Undo {
            remediation,
            trigger: finding.trigger.clone(),
            request: intake::request_of(finding),
            event_time: finding.event_time,
            reason: String::new(),
        };
        Box::pin(self.once(body, &Origin::Undo(&undo), now)).await
    }

    /// Claim, write down, start.
    async fn start(
        &self,
        body: &str,
        case: &Case,
        write: ClaimWrite,
        basis: &Basis,
        head: Head,
        now: Timestamp,
    ) -> Result<(), Retry> {
        let granted = write.claim.clone();
        let start = start_of(&self.me, case, &granted);
        let key = write.key.clone();
        let records = self.planned_and_claimed(case, &granted, &start, basis, now);
        let head = append(&self.outside, &case.account, head, records, Some(write)).await?;
        let place =
            Place { partition: case.arn.partition(), account: case.account.clone(), region: case.region.clone() };
        let Err(error) = self.outside.start(&place, &start).await else { return Ok(()) };

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
        let released = append(&self.outside, &case.account, head, vec![record], Some(back)).await;
        match released {
            // The lease ended and a successor has it: the failure is the successor's to tell of.
            Ok(_) | Err(AppendError::ClaimLost) => {}
            Err(other) => return Err(other.into()),
        }
        if error.transient {
            return Err(error.into());
        }
        tracing::error!(remediation = %case.id, error = %error, "the runbook could not be started");
        self.outside.dead_letter(body, code, &report::sanitised(&error.message)).await?;
        Ok(())
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
        ]));
        let mut claimed = report::draft(&self.me, case.id, &case.subject, State::Claimed, now);
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
        let Tell { key, bid, state, code, reason, basis } = what;
        let Ok(granted) = claim::grant(existing, *bid, self.me.times, now) else { return Ok(()) };
        let (id, subject, account) = (granted.remediation_id, granted.subject.clone(), granted.subject.account.clone());
        let end = claim::End { state, compliant: false, changed: false, undone: false };
        let finished = claim::finish(&granted, end, now);
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
        tracing::info!(remediation = %id, %state, code, "not started");
        if state == State::Ignored {
            let write = ClaimWrite { key, condition: taken, claim: finished };
            append(&self.outside, &account, head, vec![record(state)], Some(write)).await?;
            report::metric(&report::count("Decisions", "Code", code, now));
            return Ok(());
        }
        // The claim is taken before anybody is told, so that a storm of the same event is one message.
        let write = ClaimWrite { key: key.clone(), condition: taken, claim: granted.clone() };
        let head = append(&self.outside, &account, head, vec![record(State::Planned)], Some(write)).await?;
        if let Some(body) = body {
            self.outside.dead_letter(body, code, &report::sanitised(&reason)).await?;
        }
        let mut last = record(state);
        last.timestamp += 1;
        if state == State::Failed {
            last.error_message = report::sanitised(&reason);
        }
        last.notification_sent = tell::publish(&self.outside, id, &subject, state, now).await;
        let write = ClaimWrite { key, condition: claim::condition(Some(&granted)), claim: finished };
        append(&self.outside, &account, head, vec![last], Some(write)).await?;
        report::metric(&report::count("Decisions", "Code", code, now));
        Ok(())
    }

    /// A finding that is no case.
    ///
    /// A check that no control answers to, sent by a rule, is the ordinary run of Security Hub's other hundreds of
    /// controls: a record and a message for each would bury the rest. It is counted, by check; the record is
    /// Security Hub's own. When a person asks for it, they get an answer.
    async fn no_case(&self, body: &str, finding: &Finding, error: &NoCase, now: Timestamp) -> Result<(), Retry> {
        if let (NoCase::UnknownControl { check }, false) = (error, finding.trigger.is_manual()) {
            report::metric(&report::count("UnknownChecks", "Check", check, now));
            return Ok(());
        }
        let mut subject = intake::subject_of(finding);
        if matches!(error, NoCase::AccountMismatch { .. }) {
            // Neither of the two accounts can be believed: it is written on our own chain.
            subject.account = self.me.account.clone();
        }
        let id = RemediationId::of_rejected(
            format!("{}@{}:{}", finding.id, finding.generation, finding.event_time).as_bytes(),
        );
        self.refuse(body, id, subject, error.code(), error.to_string(), now).await
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
        let id = RemediationId::of_rejected(format!("undo:{}:{}", undo.remediation, undo.request).as_bytes());
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
        let id = RemediationId::of_rejected(format!("{body}{part}").as_bytes());
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
        for round in 1.. {
            let key = StateKey::Request(id);
            let snapshot = self.outside.read(&[key.clone(), StateKey::Chain(subject.account.clone())]).await?;
            let existing = snapshot.claim(&key).map_err(StoreError::from)?;
            let head = snapshot.head(&subject.account).map_err(StoreError::from)?;
            let tell = refusal(id, subject.clone(), code, reason.clone());
            match self.tell(tell, existing.as_ref(), head, Some(body), None, now).await {
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
        }
    }
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
    Start { id: case.id, parameters: parameters.into_iter().filter(|(_, value)| !value.is_empty()).collect() }
}
