//! What is asked of IAM.

use aws_sdk_iam::Client;
use aws_sdk_iam::primitives::{DateTime, DateTimeFormat};
use aws_sdk_iam::types::Tag;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::GuardEvidence;

use super::{Answer, tagged};

/// A role's tags, and when it was used last.
pub(super) async fn role(client: Client, name: String) -> Answer {
    let answer = client.get_role().role_name(name).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetRole", &error))?;
    let Some(role) = answer.role() else { return Ok(GuardEvidence::default()) };
    let last_used = role.role_last_used().and_then(|used| used.last_used_date()).and_then(time);
    Ok(GuardEvidence { last_used, ..tags(role.tags()) })
}

/// A user's tags, and when the password was used last.
pub(super) async fn user(client: Client, name: String) -> Answer {
    let answer = client.get_user().user_name(name).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetUser", &error))?;
    let Some(user) = answer.user() else { return Ok(GuardEvidence::default()) };
    Ok(GuardEvidence { last_used: user.password_last_used().and_then(time), ..tags(user.tags()) })
}

/// A policy's tags.
pub(super) async fn policy(client: Client, arn: String) -> Answer {
    let answer = client.get_policy().policy_arn(arn).send().await;
    let answer = answer.map_err(|error| AwsFailure::of("GetPolicy", &error))?;
    Ok(tags(answer.policy().map(|policy| policy.tags()).unwrap_or_default()))
}

fn tags(tags: &[Tag]) -> GuardEvidence {
    tagged(tags.iter().map(|tag| (tag.key(), tag.value())))
}

fn time(at: &DateTime) -> Option<String> {
    at.fmt(DateTimeFormat::DateTime).ok()
}
