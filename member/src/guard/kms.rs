//! What is asked of KMS.

use aws_sdk_kms::Client;
use redress_common::aws::failure::AwsFailure;

use super::{Answer, pages, tagged, used_by};

/// A key's tags.
pub(super) async fn tags(client: Client, id: String) -> Answer {
    let answer = client.list_resource_tags().key_id(id).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("ListResourceTags", &error))?;
    Ok(tagged(answer.tags().iter().map(|tag| (tag.tag_key(), tag.tag_value()))))
}

/// The names that a key goes by.
pub(super) async fn aliases(client: Client, id: String) -> Answer {
    let mut found = Vec::new();
    let whole = pages("ListAliases", client.list_aliases().key_id(id).into_paginator().send(), |page| {
        found.extend(page.aliases().iter().filter_map(|one| one.alias_name()).map(str::to_owned));
    });
    let whole = whole.await?;
    Ok(used_by("AWS::KMS::Alias", found, whole))
}

/// Those that a key was granted to: mostly AWS services on behalf of what is encrypted under it.
pub(super) async fn grants(client: Client, id: String) -> Answer {
    let mut found = Vec::new();
    let whole = pages("ListGrants", client.list_grants().key_id(id).into_paginator().send(), |page| {
        let grants = page.grants().iter().filter_map(|one| Some((one.grant_id()?, one.grantee_principal())));
        found.extend(grants.map(|(id, grantee)| format!("grant {id} to {}", grantee.unwrap_or("a service"))));
    });
    let whole = whole.await?;
    Ok(used_by("AWS::KMS::Grant", found, whole))
}
