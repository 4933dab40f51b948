//! The sparse index of table `RedressState`: what is not at its end, by kind, what has waited longest first.
//!
//! An item is in it exactly while somebody may have to look after it: [`mark`] decides that from the item itself, whoever
//! writes it. Heads of chains are in it for good: checkpoints are of them all. The index gives keys only and may lag;
//! whoever acts reads the item again.

use aws_sdk_dynamodb::types::AttributeValue;

use super::failure::AwsFailure;
use super::item::Item;
use super::state_table::{KEY, StateKey};

/// The index, by [`OPEN`] and [`SINCE`].
pub const INDEX: &str = "Open-LeaseUntil-index";
/// Its partition key: [`Open`].
pub const OPEN: &str = "Open";
/// Its sort key: since when, or from when on, somebody has to look; Unix milliseconds.
pub const SINCE: &str = "LeaseUntil";

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Open {
    /// A claim that somebody works on; by the end of its lease.
    Work,
    /// A claim about which people are asked; by the end of its lease.
    Approval,
    /// A place for which findings wait.
    Flight,
    /// A campaign that runs; by its last release.
    Campaign,
    /// What is known of an account; by when it was read.
    Account,
    /// Where the chain of an account ends: at no time and always, so that its writes touch the index once.
    Chain,
}

impl Open {
    /// Each of them.
    pub const ALL: [Self; 6] = [Self::Work, Self::Approval, Self::Flight, Self::Campaign, Self::Account, Self::Chain];

    /// As the index writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Approval => "approval",
            Self::Flight => "flight",
            Self::Campaign => "campaign",
            Self::Account => "account",
            Self::Chain => "chain",
        }
    }

    /// Whether an item is open, and since when.
    fn of(key: &StateKey, item: &Item) -> Option<(Self, i64)> {
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str);
        let number = |name: &str| item.get(name).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or_default();
        match key {
            StateKey::Claim(_) | StateKey::Request(_) if text("Status") == Some("Leased") => {
                let asked = text("State") == Some("AwaitingApproval");
                Some((if asked { Self::Approval } else { Self::Work }, number(SINCE)))
            }
            StateKey::Flight(..) if item.get("Waiting") == Some(&AttributeValue::Bool(true)) => Some((Self::Flight, 0)),
            StateKey::Campaign(_) if text("Status") == Some("Running") => Some((Self::Campaign, number("ReleasedAt"))),
            StateKey::Account(_) => Some((Self::Account, number("ReadAt"))),
            StateKey::Chain(_) => Some((Self::Chain, 0)),
            _ => None,
        }
    }
}

/// Puts an item into the index, when it belongs there.
pub(super) fn mark(key: &StateKey, item: &mut Item) {
    if let Some((open, since)) = Open::of(key, item) {
        item.insert(OPEN.to_owned(), AttributeValue::S(open.as_str().to_owned()));
        item.insert(SINCE.to_owned(), AttributeValue::N(since.to_string()));
    }
}

/// What is open since `from_ms` or later and before `before_ms`, the oldest first, at most `limit`: its key, and since when.
/// What has a key that is none of ours has none.
///
/// # Errors
/// When DynamoDB does not answer.
pub async fn query(
    client: &aws_sdk_dynamodb::Client,
    table: &str,
    open: Open,
    from_ms: i64,
    before_ms: i64,
    limit: usize,
) -> Result<Vec<(Option<StateKey>, i64)>, AwsFailure> {
    let answer = client
        .query()
        .table_name(table)
        .index_name(INDEX)
        .key_condition_expression("#open = :open AND #since BETWEEN :from AND :until")
        .expression_attribute_names("#open", OPEN)
        .expression_attribute_names("#since", SINCE)
        .expression_attribute_values(":open", AttributeValue::S(open.as_str().to_owned()))
        .expression_attribute_values(":from", AttributeValue::N(from_ms.to_string()))
        .expression_attribute_values(":until", AttributeValue::N(before_ms.saturating_sub(1).to_string()))
        .set_limit(i32::try_from(limit).ok())
        .send()
        .await
        .map_err(|error| AwsFailure::of("dynamodb:Query", &error))?;
    let keys = answer.items.unwrap_or_default();
    let of = |item: &Item| {
        let since = item.get(SINCE)?.as_n().ok()?.parse().ok()?;
        Some((StateKey::parse(item.get(KEY)?.as_s().ok()?), since))
    };
    Ok(keys.iter().filter_map(of).collect())
}

/// Everything of a kind, whose key is one of ours, however much it is.
///
/// # Errors
/// When DynamoDB does not answer.
pub async fn every(client: &aws_sdk_dynamodb::Client, table: &str, open: Open) -> Result<Vec<StateKey>, AwsFailure> {
    let mut pages = client
        .query()
        .table_name(table)
        .index_name(INDEX)
        .key_condition_expression("#open = :open")
        .expression_attribute_names("#open", OPEN)
        .expression_attribute_values(":open", AttributeValue::S(open.as_str().to_owned()))
        .into_paginator()
        .items()
        .send();
    let mut keys = Vec::new();
    while let Some(item) = pages.next().await {
        let item = item.map_err(|error| AwsFailure::of("dynamodb:Query", &error))?;
        keys.extend(item.get(KEY).and_then(|key| key.as_s().ok()).and_then(|key| StateKey::parse(key)));
    }
    Ok(keys)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::items::campaign::CampaignStatus;
    use crate::items::flight::Flight;
    use serde_json::json;

    fn item(key: &StateKey, value: &serde_json::Value) -> (Option<String>, Option<String>) {
        let item = super::super::state_table::encode(key, value).unwrap();
        let text = |name: &str| item.get(name).and_then(|v| v.as_s().or_else(|_| v.as_n()).ok()).cloned();
        (text(OPEN), text(SINCE))
    }

    #[test]
    fn an_item_is_in_the_index_exactly_while_somebody_may_have_to_look() {
        let claim = StateKey::Request(crate::ids::RemediationId::of_rejected(b"x"));
        let flight = StateKey::Flight("111122223333".parse().unwrap(), "eu-west-1".parse().unwrap());
        let campaign = StateKey::Campaign("c".to_owned());
        let account = StateKey::Account("111122223333".parse().unwrap());
        let chain = StateKey::Chain("111122223333".parse().unwrap());
        for (key, value, expected) in [
            (&claim, json!({"Status": "Leased", "State": "Claimed", "LeaseUntil": 7}), Some(("work", "7"))),
            (
                &claim,
                json!({"Status": "Leased", "State": "AwaitingApproval", "LeaseUntil": 7}),
                Some(("approval", "7")),
            ),
            (&claim, json!({"Status": "Done", "State": "Verified", "LeaseUntil": 7}), None),
            (&claim, json!({"Status": "Released", "State": "Planned", "LeaseUntil": 7}), None),
            (&flight, serde_json::to_value(Flight::default().marked(true)).unwrap(), Some(("flight", "0"))),
            (&flight, serde_json::to_value(Flight::default()).unwrap(), None),
            (&campaign, json!({"Status": CampaignStatus::Running, "ReleasedAt": 3}), Some(("campaign", "3"))),
            (&campaign, json!({"Status": CampaignStatus::Paused, "ReleasedAt": 3}), None),
            (&account, json!({"ReadAt": 9}), Some(("account", "9"))),
            (&chain, json!({"Seq": 1, "Hash": "ab"}), Some(("chain", "0"))),
            (&chain, json!({"Seq": 2, "Hash": "cd"}), Some(("chain", "0"))),
            (&StateKey::Settings, json!({"Status": "Leased"}), None),
        ] {
            let (open, since) = item(key, &value);
            assert_eq!(open.as_deref(), expected.map(|(open, _)| open), "{key}");
            if let Some((_, at)) = expected {
                assert_eq!(since.as_deref(), Some(at), "{key}");
            }
        }
    }

    #[test]
    fn a_key_of_the_index_is_read_as_it_is_written() {
        let arn = "arn:aws:s3:::b".parse().unwrap();
        let (account, region): (crate::ids::AccountId, crate::ids::Region) =
            ("111122223333".parse().unwrap(), "eu-west-1".parse().unwrap());
        for key in [
            StateKey::Claim(crate::ids::ClaimKey::new(&account, &region, &"S3.8".parse().unwrap(), &arn)),
            StateKey::Request(crate::ids::RemediationId::of_rejected(b"x")),
            StateKey::Flight(account.clone(), region),
            StateKey::Campaign("old-buckets".to_owned()),
            StateKey::Account(account.clone()),
            StateKey::Chain(account),
        ] {
            assert_eq!(StateKey::parse(&key.to_string()), Some(key));
        }
        for other in ["settings", "claim#xyz", "flight#111122223333", "account#1", "", "chain#1", "checkpoint"] {
            assert_eq!(StateKey::parse(other), None, "{other}");
        }
    }
}
