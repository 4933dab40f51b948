//! Messages that SNS did not take when they were due.

use jiff::Timestamp;
use redress_common::ids::AccountId;
use redress_common::ledger::{Record, RecordDraft, detail};
use redress_common::notification::status_of;

use super::ports::Watch;
use super::{Broken, Counts, Reconciler};
use crate::ports::Waiting;
use crate::untold::{PLACE, Untold};

/// Messages that one run sends.
const MESSAGES: usize = 100;
const SENT_LATE: &str = "sent-late";

/// The record that people were told after all: the newest again, with now as its time. `None` when there is none, or one
/// says that people were told of this: whoever came after the worker that could not tell them did.
fn told<'a>(records: &'a [Record], untold: &Untold, now: Timestamp) -> Option<(&'a AccountId, RecordDraft)> {
    let newest = records.iter().max_by_key(|record| record.draft.timestamp)?;
    let was_told = |record: &Record| {
        record.draft.notification_sent && status_of(record.draft.execution_status) == untold.message.status
    };
    if records.iter().any(was_told) {
        return None;
    }
    let mut draft = newest.draft.clone();
    draft.timestamp = now.as_millisecond().max(draft.timestamp + 1);
    draft.notification_sent = true;
    draft.detail.insert(detail::CODE.to_owned(), SENT_LATE.to_owned());
    Some((&newest.origin, draft))
}

impl<W: Watch> Reconciler<W> {
    /// Tells people what they could not be told.
    pub(super) async fn untold(&self, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        for waiting in self.outside.waiting(PLACE, "", MESSAGES).await? {
            match Untold::read(&waiting) {
                Ok(untold) => self.tell_late(&waiting, &untold, &mut counts, now).await?,
                Err(error) => counts.failed("a message that could not be sent is not readable", &error),
            }
        }
        Ok(counts)
    }

    /// A run that dies after it told people tells them again: that is better than that nobody does.
    async fn tell_late(
        &self,
        waiting: &Waiting,
        untold: &Untold,
        counts: &mut Counts,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let records = self.outside.records(untold.remediation_id).await?;
        if let Some((chain, record)) = told(&records, untold, now) {
            self.outside.publish(&untold.message, &untold.attributes).await?;
            self.append(chain, vec![record], None, Vec::new()).await?;
            counts.done(SENT_LATE);
        }
        Ok(self.outside.forget(waiting).await?)
    }
}
