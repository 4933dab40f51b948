//! What operators decide, when nobody can say who decided it: items that somebody wrote past `redress-api`.
//!
//! The api writes an item and the record of who changed it in one transaction, and the record says what the item is then
//! ([`redress_common::aws::state_table::fingerprint`]). An item that is otherwise was written by hand. Once for each such
//! state there is a record, and people are told; nothing is put back: whoever may write the table may have to.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use redress_common::aws::ledger_store::Also;
use redress_common::aws::state_table::{StateKey, fingerprint};
use redress_common::ids::RemediationId;
use redress_common::items::reconciler::Progress;
use redress_common::ledger::{Record, detail};
use redress_common::names;
use redress_common::state::State;

use super::ports::Watch;
use super::{Broken, Counts, Note, Reconciler};
use crate::report;

/// What is watched.
const WATCHED: [StateKey; 4] = [StateKey::Settings, StateKey::Policy, StateKey::Exemptions, StateKey::Destinations];
/// Records of the administrator account that are looked through for one run's changes.
const RECORDS: usize = 2_000;
/// Clocks differ, and a run takes its time.
const OVERLAP: SignedDuration = SignedDuration::from_hours(1);
/// The index of the records lags a little behind the items.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// How a record says what an item became.
#[must_use]
pub fn item_line(key: &str, fingerprint: &str) -> String {
    format!("{key}:{fingerprint}")
}

/// What the watched ones of these items become: what the api's record says of its change.
#[must_use]
pub fn items(also: &[Also]) -> String {
    let lines = also.iter().filter_map(|also| match also {
        Also::Put { key, item, .. } if WATCHED.contains(key) => Some(item_line(&key.to_string(), &fingerprint(item))),
        _ => None,
    });
    lines.collect::<Vec<_>>().join(",")
}

/// Whether a record of the api's says that the item became this.
#[must_use]
pub fn says(record: &Record, key: &str, fingerprint: &str) -> bool {
    let line = item_line(key, fingerprint);
    let of_api = record.draft.executor_arn.rsplit(':').next() == Some(names::API_FUNCTION);
    of_api && record.draft.detail.get(detail::ITEMS).is_some_and(|items| items.split(',').any(|item| item == line))
}

impl<W: Watch> Reconciler<W> {
    /// Tells of items that were changed by hand.
    pub(super) async fn watch(&self, progress: &mut Progress, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        let present = self.outside.read(&WATCHED).await?;
        // What lies there when Redress looks for the first time was put there by whoever deployed it.
        let first = progress.watched_at == 0;
        for key in WATCHED {
            let name = key.to_string();
            let found = present.fingerprint(&key).unwrap_or_else(|| "none".to_owned());
            let before = progress.known.get(&name).map_or("none", String::as_str);
            if first || found == before {
                progress.known.insert(name, found);
                continue;
            }
            match self.is_recorded(&name, &found, progress.watched_at).await? {
                Some(true) => {}
                Some(false) => {
                    if self.changed_by_hand(&name, &found, progress.watched_at, now).await? {
                        counts.done("changed-by-hand");
                    }
                }
                // Too many records: nothing can be said.
                None => {
                    counts.failed("watch", &format!("too many records to find who changed item `{name}`"));
                    continue;
                }
            }
            progress.known.insert(name, found);
        }
        progress.watched_at = now.as_millisecond();
        Ok(counts)
    }

    async fn is_recorded(&self, key: &str, found: &str, since_ms: i64) -> Result<Option<bool>, Broken> {
        let since = since_ms.saturating_sub(i64::try_from(OVERLAP.as_millis()).unwrap_or(0));
        for look in 1..=LOOKS {
            let records = self.outside.records_since(&self.me.account, since, RECORDS).await?;
            if records.items.iter().any(|record| says(record, key, found)) {
                return Ok(Some(true));
            }
            if !records.whole {
                return Ok(None);
            }
            if look < LOOKS {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(Some(false))
    }

    async fn changed_by_hand(&self, key: &str, found: &str, since_ms: i64, now: Timestamp) -> Result<bool, Broken> {
        let reason = format!(
            "item `{key}` of the state table is not what redress-api wrote; CloudTrail says who did. `redress settings show` and `redress policy show` say what holds now"
        );
        tracing::error!(key, "changed by hand");
        let title = format!("Redress: item {key} was changed by hand");
        let note = Note {
            // Another run that looked last when this one did sees the same change.
            id: RemediationId::of_rejected(format!("changed-by-hand:{key}:{found}:{since_ms}").as_bytes()),
            subject: self.subject(format!("redress:{key}"), "Redress::Settings", title, "Change by hand"),
            state: State::Notified,
            code: "changed-by-hand",
            reason,
            more: report::details([(detail::ITEMS, item_line(key, found))]),
        };
        self.note(note, Vec::new(), now).await
    }
}
