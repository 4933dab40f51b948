//! What is asked of IAM.

use aws_sdk_iam::Client;
use aws_sdk_iam::primitives::{DateTime, DateTimeFormat};
use aws_sdk_iam::types::{SummaryKeyType, Tag};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::GuardEvidence;

use super::{Answer, add, pages, tagged, used_by};

/// A role's tags, and when it was used last.
pub(super) async fn role(client: Client, name: String) -> Answer {
    let answer = client.get_role().role_name(name).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetRole", &error))?;
    let Some(role) = answer.role() else { return Ok(GuardEvidence::default()) };
    let last_used = role.role_last_used().and_then(|used| used.last_used_date()).and_then(time);
    Ok(GuardEvidence { last_used, ..tags(role.tags()) })
}

/// The instance profiles that hand a role to instances.
pub(super) async fn profiles(client: Client, role: String) -> Answer {
    let asked = client.list_instance_profiles_for_role().role_name(role).into_paginator().send();
    let mut found = Vec::new();
    let whole = pages("ListInstanceProfilesForRole", asked, |page| {
        found.extend(page.instance_profiles().iter().map(|one| one.instance_profile_name().to_owned()));
    });
    let whole = whole.await?;
    Ok(used_by("AWS::IAM::InstanceProfile", found, whole))
}

/// A user's tags, and when the password was used last.
pub(super) async fn user(client: Client, name: String) -> Answer {
    let answer = client.get_user().user_name(name).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetUser", &error))?;
    let Some(user) = answer.user() else { return Ok(GuardEvidence::default()) };
    Ok(GuardEvidence { last_used: user.password_last_used().and_then(time), ..tags(user.tags()) })
}

/// A user's access keys, and when they were used last. IAM allows two.
pub(super) async fn keys(client: Client, user: String) -> Answer {
    let answer = client.list_access_keys().user_name(user).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("ListAccessKeys", &error))?;
    let keys: Vec<String> =
        answer.access_key_metadata().iter().filter_map(|key| key.access_key_id()).map(str::to_owned).collect();
    let mut last_used = None;
    for key in &keys {
        let answer = client.get_access_key_last_used().access_key_id(key).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("GetAccessKeyLastUsed", &error))?;
        let used = answer.access_key_last_used().and_then(|used| used.last_used_date()).and_then(time);
        last_used = last_used.max(used);
    }
    Ok(GuardEvidence { last_used, ..used_by("AWS::IAM::AccessKey", keys, true) })
}

/// A policy's tags.
pub(super) async fn policy(client: Client, arn: String) -> Answer {
    let answer = client.get_policy().policy_arn(arn).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetPolicy", &error))?;
    Ok(tags(answer.policy().map(|policy| policy.tags()).unwrap_or_default()))
}

/// Those that a policy is attached to.
pub(super) async fn attachments(client: Client, policy: String) -> Answer {
    let asked = client.list_entities_for_policy().policy_arn(policy).into_paginator().send();
    let (mut users, mut groups, mut roles) = (Vec::new(), Vec::new(), Vec::new());
    let whole = pages("ListEntitiesForPolicy", asked, |page| {
        users.extend(page.policy_users().iter().filter_map(|one| one.user_name()).map(str::to_owned));
        groups.extend(page.policy_groups().iter().filter_map(|one| one.group_name()).map(str::to_owned));
        roles.extend(page.policy_roles().iter().filter_map(|one| one.role_name()).map(str::to_owned));
    });
    let whole = whole.await?;
    let mut evidence = used_by("AWS::IAM::User", users, whole);
    add(&mut evidence, used_by("AWS::IAM::Group", groups, true));
    add(&mut evidence, used_by("AWS::IAM::Role", roles, true));
    Ok(evidence)
}

/// How many people an account-wide rule for passwords is for: at most the users. They are not listed.
pub(super) async fn users(client: Client) -> Answer {
    let answer = client.get_account_summary().send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetAccountSummary", &error))?;
    let users = answer.summary_map().and_then(|all| all.get(&SummaryKeyType::Users)).copied().unwrap_or_default();
    Ok(GuardEvidence { dependent_count: u32::try_from(users).unwrap_or_default(), ..GuardEvidence::default() })
}

fn tags(tags: &[Tag]) -> GuardEvidence {
    tagged(tags.iter().map(|tag| (tag.key(), tag.value())))
}

fn time(at: &DateTime) -> Option<String> {
    at.fmt(DateTimeFormat::DateTime).ok()
}
