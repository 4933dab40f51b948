//! What AWS Organizations says of an account: its place in the tree, its tags.

use std::collections::BTreeMap;

use aws_sdk_organizations::Client;
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::AccountId;
use redress_common::items::account::AccountFacts;

/// Organizations allows five levels of units under the root.
const DEEPEST: usize = 8;

/// Reads an account: name, every unit from the root down, tags.
pub(super) async fn account(client: &Client, id: &AccountId, now: Timestamp) -> Result<AccountFacts, AwsFailure> {
    let described = client.describe_account().account_id(id.as_str()).send().await;
    let described = described.map_err(|error| AwsFailure::of("organizations:DescribeAccount", &error))?;
    let name = described.account().and_then(|account| account.name()).unwrap_or_default().to_owned();
    Ok(AccountFacts {
        account: id.clone(),
        name,
        ou_path: path(client, id.as_str()).await?,
        tags: tags(client, id.as_str()).await?,
        read_at: now.as_millisecond(),
    })
}

async fn path(client: &Client, account: &str) -> Result<Vec<String>, AwsFailure> {
    const OPERATION: &str = "organizations:ListParents";
    let mut path = Vec::new();
    let mut child = account.to_owned();
    while path.len() < DEEPEST {
        let answer = client.list_parents().child_id(&child).send().await;
        let answer = answer.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let Some(parent) = answer.parents().first().and_then(|parent| parent.id()) else {
            return Err(AwsFailure::partial(OPERATION, format!("`{child}` has no parent and is no root")));
        };
        path.insert(0, parent.to_owned());
        if parent.starts_with("r-") {
            return Ok(path);
        }
        child = parent.to_owned();
    }
    Err(AwsFailure::partial(OPERATION, format!("no root above account `{account}` within {DEEPEST} levels")))
}

async fn tags(client: &Client, account: &str) -> Result<BTreeMap<String, String>, AwsFailure> {
    const OPERATION: &str = "organizations:ListTagsForResource";
    let mut tags = BTreeMap::new();
    let mut pages = client.list_tags_for_resource().resource_id(account).into_paginator().items().send();
    while let Some(tag) = pages.next().await {
        let tag = tag.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        tags.insert(tag.key().to_owned(), tag.value().to_owned());
    }
    Ok(tags)
}
