//! Findings that wait for a place in their account and Region: the next comes back when one is free.
//!
//! A place is free when a remediation ends, when its start fails, and when what was brought back for it needs none: it was
//! dealt with meanwhile, or is not acted on by the settings of now. Whoever sees that brings back the next. What finds its
//! resource still under work goes back to its turn, and the next *after* it comes, so that the round through a backlog
//! ends. Bringing back too many is harmless: what finds no place waits again, in the same turn.
//!
//! What comes while people are asked about its resource waits for the end of that question, in a place of its own
//! ([`after`]): it would find its resource taken for as long as people may take. Whoever ends a question without a fix
//! brings it back.

use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{StoreError, TransactError};
use redress_common::aws::state_table::{Expect, StateKey};
use redress_common::ids::{Generation, RemediationId};
use redress_common::items::flight::Flight;

use crate::ports::Outside;

/// More updates of one finding than come in the week that a question may stand.
const AT_ONCE: usize = 1000;

/// Brings back the first that wait for a free place and whose turn is after `after` (empty: of all), at most `most`.
///
/// # Errors
/// When AWS does not answer. What was brought back before that stays so.
pub(crate) async fn bring_back<O: Outside, E: From<AwsFailure> + From<StoreError>>(
    outside: &O,
    (key, flight): (&StateKey, &Flight),
    in_flight: u32,
    (after, most): (&str, usize),
    now: Timestamp,
) -> Result<(), E> {
    let free = flight.free(in_flight, now.as_millisecond()).min(most);
    if free == 0 {
        return Ok(());
    }
    let waiting = outside.waiting(&key.to_string(), after, free).await?;
    for finding in &waiting {
        outside.bring_back(finding).await?;
    }
    if waiting.len() == free || !after.is_empty() || !flight.waiting {
        return Ok(());
    }
    // Whoever lets a finding wait puts it aside before the mark: what came since then changed the item.
    match outside.put_if(key, &flight.marked(false), Expect::Version(flight.version)).await {
        Err(TransactError::Store(error)) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Where findings wait that came while people were asked about their resource: for the end of that remediation.
pub(crate) fn after(id: RemediationId) -> String {
    format!("after#{id}")
}

/// Their turn: the newest last.
pub(crate) fn newest(generation: Generation) -> String {
    format!("{:015}", generation.0.max(0))
}

/// Brings back what came while people were asked, when that came to no change: the newest first, so that the older ones
/// find that it says all that they do. May be done twice.
///
/// # Errors
/// When AWS does not answer. What was brought back before that stays so.
pub(crate) async fn bring_after<O: Outside>(outside: &O, id: RemediationId) -> Result<(), AwsFailure> {
    for finding in outside.waiting(&after(id), "", AT_ONCE).await?.iter().rev() {
        outside.bring_back(finding).await?;
    }
    Ok(())
}
