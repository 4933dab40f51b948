//! Sends each message to each destination once: SQS brings a message at least once, and a destination may fail while its
//! neighbours do not.
//!
//! A message is noted for a destination before it is sent (item `delivery#…`, with a lease longer than the function lives) and
//! marked as sent after it. Who dies in between sends it again; a ticket is looked for first then. What may pass comes again,
//! ever later; what is refused for good lies in the dead-letter queue at once, with the destination and the reason.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{StoreError, TransactError};
use redress_common::aws::state_table::{Expect, Snapshot, StateKey};
use redress_common::ids::Region;
use redress_common::items::destination::{Case, CaseStatus, Delivery, Destination, Hosts, Kind, Progress, read_list};
use serde::Serialize;

use super::http::{Access, DeliveryError, HttpAnswer, HttpRequest, Secret, judge};
use super::{About, Plan, Step, Told, plan, reference, request, search};
use crate::report;

/// A worker is dead after this; the function lives shorter, and the queue hides a message longer.
const LEASE_MS: i64 = 120_000;
/// A message that failed so often at a destination is given up.
const MOST_TRIES: u32 = 8;
/// The first message that failed comes again after so many seconds, each later one after three times as many.
const FIRST_PAUSE: u32 = 5;
const LONGEST_PAUSE: u32 = 900;
/// Longer than that nobody is waited for, whatever they ask.
const LONGEST_PATIENCE: u32 = 3600;
/// A destination is not begun with when less is left of the function's time.
const ROOM_MS: i64 = 15_000;
/// The list of destinations is read again after so long.
const LIST_MS: i64 = 30_000;
/// A secret is read again after so long.
const SECRET_MS: i64 = 300_000;
/// What was sent is remembered longer than any queue keeps a message.
const DELIVERY_SECONDS: i64 = 30 * 24 * 60 * 60;
/// A case that nothing was heard of for so long is nobody's.
const CASE_SECONDS: i64 = 180 * 24 * 60 * 60;

/// A message of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Incoming {
    /// Its body.
    pub body: String,
    /// Its attributes, as the topic gave them.
    pub attributes: BTreeMap<String, String>,
    /// How often it came, this time included.
    pub receives: u32,
}

impl Incoming {
    fn of(record: &SqsMessage) -> Self {
        let attributes = record.message_attributes.iter();
        let attributes = attributes.filter_map(|(name, value)| Some((name.clone(), value.string_value.clone()?)));
        let receives = record.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
        Self {
            body: record.body.clone().unwrap_or_default(),
            attributes: attributes.collect(),
            receives: receives.unwrap_or(1),
        }
    }
}

/// The world outside.
pub trait Post: Sync {
    /// Read items.
    fn read(&self, keys: &[StateKey]) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;

    /// Write an item over what was read.
    fn put_if<T: Serialize + Sync>(
        &self,
        key: &StateKey,
        value: &T,
        expect: Expect,
    ) -> impl Future<Output = Result<(), TransactError>> + Send;

    /// A secret's text.
    fn secret(&self, arn: &str) -> impl Future<Output = Result<Secret, AwsFailure>> + Send;

    /// Send a request. No redirect is followed.
    fn send(&self, request: &HttpRequest) -> impl Future<Output = Result<HttpAnswer, DeliveryError>> + Send;

    /// Hide a message of the queue for so many seconds.
    fn hide(&self, receipt: &str, seconds: u32) -> impl Future<Output = Result<(), AwsFailure>> + Send;

    /// Keep a message that cannot be delivered.
    fn dead_letter(
        &self,
        body: &str,
        attributes: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), AwsFailure>> + Send;
}

/// A list of destinations, and when it was read, Unix milliseconds.
type Listed = (i64, Vec<Destination>);

/// The function.
#[derive(Debug)]
pub struct Notifier<P> {
    post: P,
    /// Our own name.
    function: String,
    home: Region,
    hosts: Hosts,
    list: Mutex<Option<Listed>>,
    secrets: Mutex<HashMap<String, (i64, Secret)>>,
}

/// What is known of a message at one destination.
struct Work<'a> {
    to: &'a Destination,
    told: &'a Told,
    message: &'a Incoming,
    delivery: (StateKey, Option<Delivery>),
    case: (StateKey, Option<Case>),
    now: Timestamp,
}

impl<P: Post> Notifier<P> {
    /// The function, in this world.
    pub fn new(post: P, function: String, home: Region, hosts: Hosts) -> Self {
        Self { post, function, home, hosts, list: Mutex::default(), secrets: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) const fn post(&self) -> &P {
        &self.post
    }

    /// Handles a batch of the queue, until the function's deadline, Unix milliseconds. The answer names what comes again.
    pub async fn batch(&self, event: SqsEvent, deadline_ms: i64, clock: fn() -> Timestamp) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        for record in event.records {
            let now = clock();
            let message = Incoming::of(&record);
            let Some(seconds) = self.message(&message, deadline_ms - now.as_millisecond(), now).await else { continue };
            if let Err(error) = self.post.hide(record.receipt_handle.as_deref().unwrap_or_default(), seconds).await {
                tracing::warn!(%error, "the message comes again when the queue likes");
            }
            response.add_failure(record.message_id.unwrap_or_default());
        }
        response
    }

    /// Handles a message, with so many milliseconds left. `Some` says in how many seconds it must come again.
    pub async fn message(&self, message: &Incoming, left_ms: i64, now: Timestamp) -> Option<u32> {
        let Ok(told) = Told::read(&message.body, &message.attributes) else {
            return self.give_up(message, "unreadable", "the message is neither Redress's nor an alarm's", None).await;
        };
        let list = match self.list(now).await {
            Ok(list) => list,
            Err(error) => {
                tracing::error!(%error, "nobody can be told: the destinations are not readable");
                return Some(pause(message.receives, None));
            }
        };
        let meant: Vec<&Destination> =
            list.iter().filter(|to| told.only.as_ref().is_none_or(|only| *only == to.name)).collect();
        if let (Some(only), []) = (&told.only, meant.as_slice()) {
            return self
                .give_up(message, "no-such-destination", "the list does not have it any more", Some(only))
                .await;
        }
        self.tell(&meant, &told, message, left_ms, now).await
    }

    async fn tell(
        &self,
        meant: &[&Destination],
        told: &Told,
        message: &Incoming,
        left_ms: i64,
        now: Timestamp,
    ) -> Option<u32> {
        let keys = |to: &Destination| {
            let delivery = StateKey::Delivery(to.name.clone(), format!("{}#{}", told.id, told.status));
            (delivery, StateKey::Case(to.name.clone(), told.problem.clone()))
        };
        let all: Vec<StateKey> = meant.iter().flat_map(|to| <[StateKey; 2]>::from(keys(to))).collect();
        if all.is_empty() {
            return None;
        }
        let read = match self.post.read(&all).await {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "the state table cannot be read");
                return Some(pause(message.receives, None));
            }
        };
        let begun = std::time::Instant::now();
        let mut again: Option<u32> = None;
        for to in meant {
            let spent = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
            let seconds = if left_ms.saturating_sub(spent) < ROOM_MS {
                Some(FIRST_PAUSE)
            } else {
                let (delivery, case) = keys(to);
                match (read.delivery(&delivery), read.case(&case)) {
                    (Ok(known), Ok(open)) => {
                        let (delivery, case) = ((delivery, known), (case, open));
                        self.deliver(Work { to, told, message, delivery, case, now }).await
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        tracing::error!(destination = to.name, %error, "an item is not readable");
                        Some(pause(message.receives, None))
                    }
                }
            };
            again = again.max(seconds);
        }
        again
    }

    /// The destinations; kept for a short while.
    async fn list(&self, now: Timestamp) -> Result<Vec<Destination>, DeliveryError> {
        let kept = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, list)) = kept.filter(|(at, _)| now.as_millisecond() - at < LIST_MS) {
            return Ok(list);
        }
        let failed = |error: &dyn std::error::Error| DeliveryError::NotNow(error.to_string());
        let read = self.post.read(&[StateKey::Destinations]).await.map_err(|error| failed(&error))?;
        let item = read.destinations().map_err(|error| failed(&error))?;
        let list = read_list(&item.list, self.hosts).map_err(|error| failed(&error))?;
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = Some((now.as_millisecond(), list.clone()));
        Ok(list)
    }

    /// One message, one destination.
    async fn deliver(&self, work: Work<'_>) -> Option<u32> {
        let redriven = work.told.only.is_some() && work.message.attributes.contains_key("Code");
        match &work.delivery.1 {
            Some(known) if known.progress == Progress::Sent => return None,
            Some(known) if known.progress == Progress::Refused && !redriven => return None,
            Some(known) if known.progress == Progress::Sending && known.until > work.now.as_millisecond() => {
                return Some(FIRST_PAUSE);
            }
            _ => {}
        }
        let step = match plan(work.to, work.told, work.case.1.as_ref(), work.now) {
            Plan::Nothing => return None,
            Plan::Wait => return Some(FIRST_PAUSE),
            Plan::Send(step) => step,
        };
        let version = match self.begin(&work, &step).await {
            Ok(version) => version,
            Err(error) => {
                tracing::info!(destination = work.to.name, %error, "another worker has it, or the table has not");
                return Some(FIRST_PAUSE);
            }
        };
        let sent = self.send(&work, &step).await;
        let is_there = sent.is_ok();
        report::metric(&report::delivered(&self.function, &work.to.name, is_there, work.now));
        match sent {
            Ok(()) => {
                tracing::info!(destination = work.to.name, of = work.told.id, status = work.told.status, "told");
                self.end(&work, version, Progress::Sent).await;
                None
            }
            Err(error) => {
                if step == Step::Open {
                    self.leave_case(&work).await;
                }
                self.failed(&work, version, &error).await
            }
        }
    }

    /// Lets others open the case at once, who look first whether it is open.
    async fn leave_case(&self, work: &Work<'_>) {
        let version = work.case.1.as_ref().map_or(0, |case| case.version) + 2;
        let left = Case { until: 0, ..work.case(version, CaseStatus::Opening, String::new()) };
        if let Err(error) = self.post.put_if(&work.case.0, &left, Expect::Version(version - 1)).await {
            tracing::warn!(destination = work.to.name, %error, "a case is being opened until its lease ends");
        }
    }

    /// Notes that the message is being sent, and that the case is being opened. The delivery's version then.
    async fn begin(&self, work: &Work<'_>, step: &Step) -> Result<u64, TransactError> {
        let read = work.delivery.1.as_ref().map_or(0, |delivery| delivery.version);
        let version = read + 1;
        self.post.put_if(&work.delivery.0, &work.delivery(version, Progress::Sending), Expect::Version(read)).await?;
        if *step == Step::Open {
            let read = work.case.1.as_ref().map_or(0, |case| case.version);
            let opening = work.case(read + 1, CaseStatus::Opening, String::new());
            if let Err(error) = self.post.put_if(&work.case.0, &opening, Expect::Version(read)).await {
                self.end(work, version, Progress::Waiting).await;
                return Err(error);
            }
        }
        Ok(version)
    }

    async fn end(&self, work: &Work<'_>, version: u64, progress: Progress) {
        let item = work.delivery(version + 1, progress);
        if let Err(error) = self.post.put_if(&work.delivery.0, &item, Expect::Version(version)).await {
            tracing::error!(destination = work.to.name, %error, "it is not noted how far the message came; it may be sent again");
        }
    }

    /// What becomes of a message that is not there.
    async fn failed(&self, work: &Work<'_>, version: u64, error: &DeliveryError) -> Option<u32> {
        let gives_up = !error.passes() || work.message.receives >= MOST_TRIES;
        tracing::warn!(destination = work.to.name, of = work.told.id, code = error.code(), %error, gives_up, "not told");
        if !gives_up {
            self.end(work, version, Progress::Waiting).await;
            return Some(pause(work.message.receives, error.asks_for()));
        }
        let kept = self.give_up(work.message, error.code(), &error.to_string(), Some(&work.to.name)).await;
        let progress = if kept.is_none() { Progress::Refused } else { Progress::Waiting };
        self.end(work, version, progress).await;
        kept
    }

    /// Keeps a message that cannot be delivered, with the reason.
    async fn give_up(&self, message: &Incoming, code: &str, reason: &str, destination: Option<&str>) -> Option<u32> {
        let mut attributes = message.attributes.clone();
        let more = [("Code", code), ("Reason", reason), ("Destination", destination.unwrap_or_default())];
        attributes.extend(more.into_iter().map(|(name, value)| (name.to_owned(), report::sanitised(value))));
        attributes.retain(|_, value| !value.is_empty());
        match self.post.dead_letter(&message.body, &attributes).await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, "a message could not be put into the dead-letter queue; it comes again");
                Some(pause(message.receives, None))
            }
        }
    }

    async fn send(&self, work: &Work<'_>, step: &Step) -> Result<(), DeliveryError> {
        let (access, is_fresh) = self.access(work.to, false, work.now).await?;
        match self.send_with(work, step, &access).await {
            // The secret may have been rotated since it was read.
            Err(DeliveryError::Refused { status: 401 | 403 | 404 | 410, .. }) if !is_fresh => {
                let (access, _) = self.access(work.to, true, work.now).await?;
                self.send_with(work, step, &access).await
            }
            sent => sent,
        }
    }

    async fn send_with(&self, work: &Work<'_>, step: &Step, access: &Access) -> Result<(), DeliveryError> {
        let (to, told) = (work.to, work.told);
        if *step != Step::Open {
            let sent = self.exchange(to, access, &request(to, access, told, step, &self.home)).await;
            return match (&sent, step) {
                (Ok(_), Step::End(case)) => self.keep_case(work, CaseStatus::Closed, case.clone()).await,
                (Ok(_), Step::Add(case)) => self.keep_case(work, CaseStatus::Open, case.clone()).await,
                // Somebody deleted it: what is still to be told opens another.
                (Err(DeliveryError::Refused { status: 404, .. }), Step::Add(case) | Step::End(case)) => {
                    self.keep_case(work, CaseStatus::Closed, case.clone()).await?;
                    Err(DeliveryError::NotNow(format!("{case} is not there any more")))
                }
                _ => sent.map(drop),
            };
        }
        let found = match search(to, access, told).filter(|_| work.was_begun()) {
            Some(search) => reference(to.kind, told, &self.exchange(to, access, &search).await?.body),
            None => None,
        };
        let reference = match found {
            Some(found) => found,
            None => {
                let asked = request(to, access, told, step, &self.home);
                let answer = self.exchange(to, access, &asked).await?;
                let host = || asked.host().to_owned();
                reference(to.kind, told, &answer.body).ok_or_else(|| DeliveryError::NoReference { host: host() })?
            }
        };
        // A test that rang has been heard.
        if told.about == About::Test {
            if to.kind == Kind::PagerDuty {
                let end = request(to, access, told, &Step::End(reference.clone()), &self.home);
                self.exchange(to, access, &end).await?;
            }
            return self.keep_case(work, CaseStatus::Closed, reference).await;
        }
        self.keep_case(work, CaseStatus::Open, reference).await
    }

    /// One request and what its answer means.
    async fn exchange(
        &self,
        to: &Destination,
        access: &Access,
        asked: &HttpRequest,
    ) -> Result<HttpAnswer, DeliveryError> {
        let answer = self.post.send(asked).await?;
        judge(to.kind, asked, access, &answer).map(|()| answer)
    }

    /// Writes how the case stands. This worker holds its delivery: nobody else changes it but for another message of the same
    /// problem, which adds to what is open and changes nothing of it.
    async fn keep_case(&self, work: &Work<'_>, status: CaseStatus, reference: String) -> Result<(), DeliveryError> {
        let known = work.case.1.as_ref();
        let version = known.map_or(0, |case| case.version) + 2;
        let written = self.post.put_if(&work.case.0, &work.case(version, status, reference), Expect::Anything).await;
        written.map_err(|error| DeliveryError::NotNow(error.to_string()))
    }

    /// What opens the destination, and whether it was read anew.
    async fn access(&self, to: &Destination, anew: bool, now: Timestamp) -> Result<(Access, bool), DeliveryError> {
        let name = to.secret.as_str();
        let wrong = |problem: String, passes| DeliveryError::Secret { name: name.to_owned(), problem, passes };
        let kept = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let kept = kept.filter(|(at, _)| !anew && now.as_millisecond() - at < SECRET_MS);
        let (secret, is_fresh) = match kept {
            Some((_, secret)) => (secret, false),
            None => {
                let read = self.post.secret(name).await;
                (read.map_err(|error| wrong(error.to_string(), error.is_transient()))?, true)
            }
        };
        let access = Access::of(to, &secret, self.hosts).map_err(|error| wrong(error.to_string(), false))?;
        if is_fresh {
            let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.insert(name.to_owned(), (now.as_millisecond(), secret));
        }
        Ok((access, is_fresh))
    }
}

impl Work<'_> {
    fn delivery(&self, version: u64, progress: Progress) -> Delivery {
        let expires_at = self.now.as_second() + DELIVERY_SECONDS;
        Delivery { version, progress, until: self.now.as_millisecond() + LEASE_MS, expires_at }
    }

    fn case(&self, version: u64, status: CaseStatus, reference: String) -> Case {
        let expires_at = self.now.as_second() + CASE_SECONDS;
        Case { version, status, reference, until: self.now.as_millisecond() + LEASE_MS, expires_at }
    }

    /// Whether somebody began with it before: a ticket may be open that nobody noted.
    fn was_begun(&self) -> bool {
        self.delivery.1.is_some() || self.case.1.as_ref().is_some_and(|case| case.status == CaseStatus::Opening)
    }
}

/// In how many seconds a message that came so often comes again.
fn pause(receives: u32, asked: Option<u32>) -> u32 {
    let grown = FIRST_PAUSE.saturating_mul(3_u32.saturating_pow(receives.saturating_sub(1))).min(LONGEST_PAUSE);
    asked.map_or(grown, |asked| asked.min(LONGEST_PATIENCE).max(grown))
}
