//! What is known of accounts, kept young: their units and tags decide what may be done in them.
//!
//! The orchestrator reads them anew when they are a day old; this reads those that are half as old, so that it seldom has
//! to, and at once those of which AWS Organizations says that something changed.

use jiff::{SignedDuration, Timestamp};
use redress_common::aws::open::Open;
use redress_common::aws::state_table::StateKey;
use redress_common::ids::AccountId;
use serde_json::Value;

use super::ports::Watch;
use super::{Broken, Counts, Reconciler};

/// Older facts are read anew.
const AGE: SignedDuration = SignedDuration::from_hours(12);
/// Accounts that one run reads: each takes Organizations some calls, and it is slow.
const ACCOUNTS: usize = 25;

/// The account of which a CloudTrail event of AWS Organizations says that its place or its tags changed.
#[must_use]
pub fn changed(detail: &Value) -> Option<AccountId> {
    let given = &detail["requestParameters"];
    let id = match detail["eventName"].as_str()? {
        "MoveAccount" => &given["accountId"],
        "TagResource" | "UntagResource" => &given["resourceId"],
        _ => return None,
    };
    // A unit or a policy may be tagged, too.
    id.as_str()?.parse().ok()
}

impl<W: Watch> Reconciler<W> {
    /// Reads the oldest facts anew.
    pub(super) async fn accounts(&self, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        let old = now.checked_sub(AGE).unwrap_or(now).as_millisecond();
        for (key, _) in self.outside.open(Open::Account, 0, old, ACCOUNTS).await? {
            let Some(StateKey::Account(account)) = key else { continue };
            self.refresh(&account, &mut counts, now).await;
        }
        Ok(counts)
    }

    /// Reads what Organizations says that changed.
    pub(super) async fn changed_accounts(&self, detail: &Value, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        if let Some(account) = changed(detail) {
            self.refresh(&account, &mut counts, now).await;
        }
        counts
    }

    async fn refresh(&self, account: &AccountId, counts: &mut Counts, now: Timestamp) {
        let read = async { self.outside.keep_account(&self.outside.account(account, now).await?).await };
        match read.await {
            Ok(()) => counts.done("account"),
            Err(error) => counts.failed("account", &error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_an_event_of_organizations_the_account_is_read() {
        let account = Some("111122223333".parse().unwrap());
        for (name, parameters, expected) in [
            ("MoveAccount", json!({ "accountId": "111122223333", "sourceParentId": "ou-a" }), account.clone()),
            ("TagResource", json!({ "resourceId": "111122223333", "tags": [] }), account.clone()),
            ("UntagResource", json!({ "resourceId": "111122223333" }), account),
            ("TagResource", json!({ "resourceId": "ou-ab12-cd34ef56" }), None),
            ("CreateAccount", json!({ "accountName": "x" }), None),
            ("MoveAccount", json!(null), None),
        ] {
            let detail = json!({ "eventName": name, "requestParameters": parameters });
            assert_eq!(changed(&detail), expected, "{name}");
        }
    }
}
