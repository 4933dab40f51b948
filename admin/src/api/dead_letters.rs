//! `redress dlq`: looking at the dead letters, and bringing them again. What becomes of each is in [`super::letters`].

use jiff::Timestamp;
use redress_common::aws::ledger_store::{self, Also, StoreError};
use redress_common::aws::state_table::StateKey;
use redress_common::ids::RemediationId;
use redress_common::ledger::detail;
use redress_common::state::State;
use serde_json::{Value, json};

use super::Api;
use super::change::{Change, said};
use super::door::{Asked, Refused};
use super::letters::{self, LISTED, REDRIVEN, REDRIVEN_FROM};
use super::ports::{Desk, Letter};
use crate::{orchestrate, report, tell};

/// So many messages of a queue are looked at.
const LIMIT: usize = 100;
/// While it is looked at, nobody else sees a message; seconds.
const GLANCE: i32 = 10;
/// While it is redriven.
const HOLD: i32 = 90;

impl<D: Desk> Api<D> {
    /// The messages of the dead-letter queues; they stay there.
    pub(super) async fn look(&self, message: Option<&str>) -> Result<Value, Refused> {
        let (mut seen, mut more) = (Vec::new(), false);
        for queue in LISTED {
            let letters = self.desk.take(queue, LIMIT, GLANCE).await.map_err(|error| Refused::unavailable(&error))?;
            more |= letters.len() == LIMIT;
            for letter in &letters {
                self.desk.leave(letter).await.map_err(|error| Refused::unavailable(&error))?;
            }
            for letter in letters.iter().filter(|letter| message.is_none_or(|id| letter.id == id)) {
                // Whatever the message's own attributes say: the count that parks it is the ledger's.
                let records = self.desk.records(letters::identity(&letter.body)).await;
                let redrives = letters::redrives(&records.map_err(|error| Refused::unavailable(&error))?);
                seen.push(letters::seen(letter, redrives, message.is_some()));
            }
        }
        match message {
            Some(id) if seen.is_empty() => Err(unknown(id)),
            _ => Ok(json!({ "Messages": seen, "More": more })),
        }
    }

    /// Sends messages back to where they came from, each with its record; those that came back too often are parked.
    pub(super) async fn redrive(
        &self,
        asked: &Asked,
        message: Option<&str>,
        reason: &str,
        now: Timestamp,
    ) -> Result<Value, Refused> {
        let reason = said("reason", reason)?;
        let mut done = Vec::new();
        let mut failed = None;
        for queue in REDRIVEN_FROM {
            let letters = self.desk.take(queue, LIMIT, HOLD).await.map_err(|error| Refused::unavailable(&error))?;
            for letter in &letters {
                if failed.is_some() || message.is_some_and(|id| letter.id != id) {
                    self.leave(letter).await;
                    continue;
                }
                match self.bring(asked, letter, &reason, now).await {
                    Ok(outcome) => done.push(outcome),
                    Err(refused) => {
                        self.leave(letter).await;
                        failed = Some(refused);
                    }
                }
            }
        }
        match (failed, message) {
            (Some(refused), _) => {
                let message = format!("{}; {} messages were redriven before", refused.message, done.len());
                Err(Refused { message, ..refused })
            }
            (None, Some(id)) if done.is_empty() => Err(unknown(id)),
            (None, _) => Ok(json!({ "Redriven": done })),
        }
    }

    /// One message: first the record, then the message itself. Who dies in between has counted one too many.
    async fn bring(&self, asked: &Asked, letter: &Letter, reason: &str, now: Timestamp) -> Result<Value, Refused> {
        let id = letters::identity(&letter.body);
        let records = self.desk.records(id).await.map_err(|error| Refused::unavailable(&error))?;
        let way = letters::way(letter, letters::redrives(&records));
        let (code, why) = letters::why(letter);
        let about = letters::about(&letter.body);
        let redriven = way.code == REDRIVEN;
        let change = Change {
            // What was refused once is refused once only: forgotten, it is looked at anew.
            also: if redriven { forgotten(&letter.body) } else { Vec::new() },
            resource: if about.resource.is_empty() { "unknown".to_owned() } else { about.resource.clone() },
            kind: "Redress::Message",
            action: if redriven { "Redrive a dead letter" } else { "Park a dead letter" }.to_owned(),
            code: way.code,
            reason: reason.to_owned(),
            before: format!("{} in {}: {code}: {why}", letter.id, letter.queue.name()),
            after: format!("in {}", way.to.name()),
            answer: json!({
                "MessageId": letter.id, "RemediationId": id, "Outcome": way.code, "To": way.to.name(),
                "Control": about.control, "Resource": about.resource,
                "Redrives": letters::redrives(&records) + usize::from(redriven),
            }),
        };
        self.write(asked, id, &change, if redriven { State::Received } else { State::Failed }, now).await?;
        let sent = self.desk.send(way.to, &letter.body, &way.attributes).await;
        sent.map_err(|error| Refused::unavailable(&error))?;
        self.desk.discard(letter).await.map_err(|error| Refused::unavailable(&error))?;
        Ok(change.answer)
    }

    async fn write(
        &self,
        asked: &Asked,
        id: RemediationId,
        change: &Change,
        state: State,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let mut draft = self.draft(asked, id, change, state, now);
        if state == State::Failed {
            let (message, attributes) = report::notification(id, &self.subject(asked, change), state, now);
            draft.notification_sent = tell::send(&self.desk, id, message, attributes, now).await.is_ok();
            draft.error_message = change.before.clone();
        }
        draft.detail.insert(detail::CODE.to_owned(), change.code.to_owned());
        let written = async {
            let chain = StateKey::Chain(self.me.account.clone());
            let head = self.desk.read(&[chain]).await?.head(&self.me.account).map_err(StoreError::from)?;
            let also = change.also.clone();
            ledger_store::append_with(&self.desk, &self.me.account, head, vec![draft], None, also).await
        };
        written.await.map(drop).map_err(|error| Refused::unavailable(&error))
    }

    /// Who is not let go is seen again when the time is over.
    async fn leave(&self, letter: &Letter) {
        if let Err(error) = self.desk.leave(letter).await {
            tracing::warn!(message = letter.id, %error, "a message is seen again only when its time is over");
        }
    }
}

fn forgotten(body: &str) -> Vec<Also> {
    orchestrate::refusals(body).into_iter().map(|id| Also::Delete { key: StateKey::Request(id) }).collect()
}

fn unknown(id: &str) -> Refused {
    let message = format!(
        "no message `{}` was found in the dead-letter queues; `redress dlq list` shows what is there",
        redress_common::ids::excerpt(id)
    );
    Refused::absent("no-such-message", message)
}
