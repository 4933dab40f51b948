//! `destroy_iam_user_keys`: the access keys of a user whom Redress contained are deleted.
//!
//! Nobody has a key back. So it is done to a contained user only, to keys that are inactive already, and by a plan that people
//! approved. What is kept of a key is what IAM tells of it: id, status, when it was made, when and where it was used last.
//! Nobody but its owner ever had its secret.

use async_trait::async_trait;
use aws_sdk_iam::primitives::DateTime;
use aws_sdk_iam::types::StatusType;
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Mode, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Declared, Native, NativeError, parameter, planned, typed, untyped};
use crate::playbook::deny::{self, Deny, Of};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "destroy_iam_user_keys",
    reads: &["iam:GetAccessKeyLastUsed", "iam:GetUser", "iam:GetUserPolicy", "iam:ListAccessKeys"],
    changes: &["iam:DeleteAccessKey"],
    make: |clients, request| Ok(Box::new(DestroyKeys::new(clients.iam.clone(), request)?)),
};

const INACTIVE: &str = "Inactive";
const NOT_APPROVED: NativeError = NativeError::Refused(
    "nothing is destroyed but by a plan that people approved, and this run has none; ask with `redress remediate`, and have \
     another person approve it",
);
const NOT_CONTAINED: NativeError = NativeError::Refused(
    "the user is not contained by Redress: it must have the inline policy `redress-contain` that denies it everything; \
     contain it first (`redress contain`), then ask again",
);
const STILL_ACTIVE: NativeError = NativeError::Refused(
    "a key that would be deleted is active; have it deactivated first (control `Contain.IAMUserKeys`), see whom that \
     stops, then ask again",
);
const GONE: NativeError = NativeError::Refused(
    "an access key that was deleted cannot be had back: AWS keeps nothing of it, and nobody but its owner had its secret; \
     make the user a new one where it still needs one. The evidence has what was known of the key",
);

/// The function on one user.
#[derive(Debug)]
struct DestroyKeys {
    client: aws_sdk_iam::Client,
    user: String,
    /// The one key that is meant; none for all.
    key: Option<String>,
    /// It changes something, and no approved plan came with it.
    is_unapproved: bool,
}

impl DestroyKeys {
    /// Parameter `AccessKeyId`: the one key that is meant; empty for all.
    fn new(client: aws_sdk_iam::Client, request: &RemediateRequest) -> Result<Self, NativeError> {
        const KEY: &str = "the id of a long-term access key, or empty";
        let job = &request.job;
        let key = parameter(&request.parameters, "AccessKeyId", KEY)?.as_str();
        let is_id =
            |key: &&str| key.len() <= 128 && key.bytes().all(|b| b.is_ascii_alphanumeric()) && !key.starts_with("ASIA");
        let wrong = || NativeError::Parameter { name: "AccessKeyId".to_owned(), expected: KEY };
        let key = key.filter(is_id).ok_or_else(wrong)?;
        Ok(Self {
            client,
            user: job.resource_name.clone(),
            key: (!key.is_empty()).then(|| key.to_owned()),
            is_unapproved: matches!(job.mode, Mode::Apply | Mode::Snapshot) && job.plan_sha256.is_empty(),
        })
    }

    async fn keys(&self) -> Result<Vec<Key>, NativeError> {
        let answer = self.client.list_access_keys().user_name(&self.user).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("ListAccessKeys", &error))?;
        let mut keys = Vec::new();
        for found in answer.access_key_metadata() {
            let id = found.access_key_id().unwrap_or_default();
            if self.key.as_ref().is_some_and(|key| key != id) {
                continue;
            }
            keys.push(Key {
                access_key_id: id.to_owned(),
                status: found.status().map(StatusType::as_str).unwrap_or_default().to_owned(),
                create_date: found.create_date().map(time).unwrap_or_default(),
                last_used: self.last_used(id).await?,
            });
        }
        keys.sort();
        Ok(keys)
    }

    async fn last_used(&self, key: &str) -> Result<Option<LastUsed>, NativeError> {
        let answer = self.client.get_access_key_last_used().access_key_id(key).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("GetAccessKeyLastUsed", &error))?;
        let used = answer.access_key_last_used();
        // Of a key that was never used there is no date, and `N/A` for the rest.
        Ok(used.and_then(|used| {
            let date = time(used.last_used_date()?);
            Some(LastUsed { date, service: used.service_name().to_owned(), region: used.region().to_owned() })
        }))
    }
}

fn time(date: &DateTime) -> String {
    Timestamp::from_second(date.secs()).map(|date| date.to_string()).unwrap_or_default()
}

#[async_trait]
impl Native for DestroyKeys {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.get_user().user_name(&self.user).send().await;
        match answer.map_err(|error| AwsFailure::of("GetUser", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
            answer => answer?,
        };
        let policy = deny::read(&self.client, Of::User, &self.user).await?;
        let is_contained = policy.as_deref().and_then(Deny::of) == Some(Deny::All);
        let state = State { user_name: self.user.clone(), is_contained, keys: self.keys().await? };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let calls = destroy(&state)?;
        if self.is_unapproved && !calls.is_empty() {
            return Err(NOT_APPROVED);
        }
        Ok(Change(calls))
    }

    fn plan_restore(&self, _: &Image, _: &Image) -> Result<Change, NativeError> {
        Err(GONE)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        if call.operation != "DeleteAccessKey" {
            return Err(NativeError::Form { what: "a call", native: DECLARED.name });
        }
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        let delete = self.client.delete_access_key().user_name(given("UserName")).access_key_id(given("AccessKeyId"));
        match delete.send().await.map_err(|error| AwsFailure::of("DeleteAccessKey", &error)) {
            // An earlier try of this remediation, or somebody else, has deleted it.
            Err(failure) if failure.code() == Some("NoSuchEntity") => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }

    /// Some of the keys are deleted, and nothing else is different.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let read = |image: &Image| typed::<State>(&image.state, "the state", DECLARED.name);
        let (Ok(now), Ok(before)) = (read(now), read(before)) else { return false };
        now.is_contained && before.is_contained && now.keys.iter().all(|key| before.keys.contains(key))
    }
}

// ------------------------------------------------------------------------------------------- the decision

/// The image's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    user_name: String,
    /// The user has policy `redress-contain`, and it is ours and denies everything.
    is_contained: bool,
    keys: Vec<Key>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Key {
    access_key_id: String,
    status: String,
    create_date: String,
    /// None of a key that was never used.
    last_used: Option<LastUsed>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct LastUsed {
    date: String,
    service: String,
    region: String,
}

/// The calls that delete the keys; none where there is none.
fn destroy(state: &State) -> Result<Vec<Call>, NativeError> {
    if state.keys.is_empty() {
        return Ok(Vec::new());
    }
    if !state.is_contained {
        return Err(NOT_CONTAINED);
    }
    if state.keys.iter().any(|key| key.status != INACTIVE) {
        return Err(STILL_ACTIVE);
    }
    let delete = |key: &Key| -> Result<Call, NativeError> {
        let with: Value = json!({ "UserName": state.user_name, "AccessKeyId": key.access_key_id });
        planned(&DECLARED, "iam", "DeleteAccessKey", &with)
    };
    state.keys.iter().map(delete).collect()
}

#[cfg(test)]
#[path = "destroy_iam_user_keys_tests.rs"]
mod tests;
