//! `redress notify test`: a marked message to one destination, by the way that every message takes. The ledger says who sent it.

use jiff::Timestamp;
use redress_common::aws::ledger_store::{self, StoreError};
use redress_common::aws::state_table::StateKey;
use redress_common::ids::{RemediationId, excerpt};
use redress_common::items::destination::TEST;
use redress_common::state::State;
use serde_json::{Value, json};

use super::Api;
use super::change::{Change, said};
use super::door::{Asked, Refused};
use super::ports::Desk;
use crate::report;

impl<D: Desk> Api<D> {
    /// Tells one destination that this is a test.
    pub(super) async fn try_out(
        &self,
        asked: &Asked,
        destination: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Value, Refused> {
        let reason = said("reason", reason)?;
        let chain = StateKey::Chain(self.me.account.clone());
        let read = self.read(&[StateKey::Destinations, chain]).await?;
        let list = read.destinations().map_err(|error| Refused::unavailable(&error))?.list;
        let Some(found) = list.iter().find(|entry| entry["Name"] == destination) else {
            let message =
                format!("there is no destination `{}`; `redress notify list` shows them", excerpt(destination));
            return Err(Refused::absent("no-such-destination", message));
        };
        let change = Change {
            also: Vec::new(),
            resource: format!("redress:destination/{destination}"),
            kind: "Redress::Destination",
            action: format!("Try out destination {destination}"),
            code: "notify-test",
            reason,
            before: String::new(),
            after: String::new(),
            answer: Value::Null,
        };
        let id = RemediationId::of_rejected(format!("operator:{}:{}", asked.id, now.as_nanosecond()).as_bytes());
        let subject = self.subject(asked, &change);
        let (mut message, mut attributes) = report::notification(id, &subject, State::Notified, now);
        TEST.clone_into(&mut message.status);
        "A test of where people are told; nothing has happened".clone_into(&mut message.finding);
        message.status.clone_into(&mut attributes.status);
        attributes.destination = Some(destination.to_owned());
        // Before the record, which says that it was sent.
        self.desk.publish(&message, &attributes).await.map_err(|error| Refused::unavailable(&error))?;
        let mut draft = self.draft(asked, id, &change, State::Notified, now);
        draft.notification_sent = true;
        let head = read.head(&self.me.account).map_err(|error| Refused::unavailable(&StoreError::from(error)))?;
        let written = ledger_store::append(&self.desk, &self.me.account, head, vec![draft], None).await;
        written.map_err(|error| Refused::unavailable(&error))?;
        Ok(json!({ "RemediationId": id, "Destination": destination, "Kind": found["Kind"] }))
    }
}
