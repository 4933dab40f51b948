//! `contain_iam_user`: a user may do nothing until it is let go.
//!
//! One inline policy denies everything. It meets the long-term keys (`AKIA…`), the console and every session that the user
//! opened with `GetSessionToken` or `GetFederationToken` (`ASIA…`), since their rights are never more than the user's: a
//! revocation of sessions by `aws:TokenIssueTime` would add nothing. It does not meet the sessions of roles that the user has
//! assumed: those are the roles' own, and each has its playbook. Keys are deactivated only where that is asked for; the login
//! profile stays, for nobody could put its password back.

use async_trait::async_trait;
use aws_sdk_iam::types::StatusType;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deny::{self, Deny, Of};
use crate::native::{Declared, Native, NativeError, boolean, planned, typed, untyped};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_iam_user",
    reads: &["iam:GetUser", "iam:GetUserPolicy", "iam:ListAccessKeys"],
    changes: &["iam:DeleteUserPolicy", "iam:PutUserPolicy", "iam:UpdateAccessKey"],
    make: |clients, request| Ok(Box::new(ContainUser::new(clients.iam.clone(), request)?)),
};

const ACTIVE: &str = "Active";
const INACTIVE: &str = "Inactive";

/// The playbook on one user.
#[derive(Debug)]
struct ContainUser {
    client: aws_sdk_iam::Client,
    user: String,
    keys: Keys,
}

/// The access keys that are deactivated, and looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keys {
    None,
    All,
    One(String),
}

impl Keys {
    /// Parameter `DeactivateKeys`, and `AccessKeyId` where only one is meant. The key of a session (`ASIA…`) cannot be
    /// deactivated and need not be: the user's policy meets it.
    fn of(request: &RemediateRequest) -> Result<Self, NativeError> {
        let wrong = |name: &str, expected| NativeError::Parameter { name: name.to_owned(), expected };
        let deactivate = request.parameters.get("DeactivateKeys").map_or(Some(false), boolean);
        let deactivate = deactivate.ok_or_else(|| wrong("DeactivateKeys", "true or false"))?;
        let key = request.parameters.get("AccessKeyId").map_or(Some(""), Value::as_str);
        let key = key.filter(|key| key.bytes().all(|b| b.is_ascii_alphanumeric()) && key.len() <= 128);
        let key = key.ok_or_else(|| wrong("AccessKeyId", "the id of an access key, or empty"))?;
        Ok(match (deactivate, key) {
            (false, _) => Self::None,
            (true, "") => Self::All,
            (true, key) if key.starts_with("ASIA") => Self::None,
            (true, key) => Self::One(key.to_owned()),
        })
    }

    fn has(&self, id: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::One(key) => key == id,
        }
    }
}

impl ContainUser {
    fn new(client: aws_sdk_iam::Client, request: &RemediateRequest) -> Result<Self, NativeError> {
        Ok(Self { client, user: request.job.resource_name.clone(), keys: Keys::of(request)? })
    }

    fn update(&self, key: &str, status: &str) -> Result<Call, NativeError> {
        let with = json!({ "UserName": self.user, "AccessKeyId": key, "Status": status });
        planned(&DECLARED, "iam", "UpdateAccessKey", &with)
    }

    async fn read_keys(&self) -> Result<Vec<Key>, NativeError> {
        if self.keys == Keys::None {
            return Ok(Vec::new());
        }
        let answer = self.client.list_access_keys().user_name(&self.user).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("ListAccessKeys", &error))?;
        let found = answer.access_key_metadata().iter().map(|key| Key {
            access_key_id: key.access_key_id().unwrap_or_default().to_owned(),
            status: key.status().map(StatusType::as_str).unwrap_or_default().to_owned(),
        });
        let mut keys: Vec<Key> = found.filter(|key| self.keys.has(&key.access_key_id)).collect();
        keys.sort();
        Ok(keys)
    }
}

#[async_trait]
impl Native for ContainUser {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let user = self.client.get_user().user_name(&self.user).send();
        let (answer, policy, keys) =
            tokio::join!(user, deny::read(&self.client, Of::User, &self.user), self.read_keys());
        match answer.map_err(|error| AwsFailure::of("GetUser", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
            answer => answer?,
        };
        let state = State { policy: policy?, keys: keys? };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let denied = deny::plan(&DECLARED, Of::User, &self.user, state.policy.as_deref(), Deny::All)?;
        let mut calls: Vec<Call> = denied.into_iter().collect();
        for key in state.keys.iter().filter(|key| key.status == ACTIVE) {
            calls.push(self.update(&key.access_key_id, INACTIVE)?);
        }
        Ok(Change(calls))
    }

    /// The keys first: while one of them cannot be had back, the user stays denied.
    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let is_turned = |key: &&Key| now.keys.iter().any(|other| key.turned(other));
        let keys = before.keys.iter().filter(is_turned);
        let mut calls: Vec<Call> =
            keys.map(|key| self.update(&key.access_key_id, &key.status)).collect::<Result<_, _>>()?;
        let (has, had) = (now.policy.as_deref(), before.policy.as_deref());
        calls.extend(deny::plan_restore(&DECLARED, Of::User, &self.user, has, had)?);
        Ok(Change(calls))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        if let Some(done) = deny::call(&self.client, call).await {
            return done;
        }
        if call.operation != "UpdateAccessKey" {
            return Err(NativeError::Form { what: "a call", native: DECLARED.name });
        }
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        let update = self.client.update_access_key().user_name(given("UserName"));
        let update = update.access_key_id(given("AccessKeyId")).status(given("Status").into());
        update.send().await.map_err(|error| AwsFailure::of("UpdateAccessKey", &error))?;
        Ok(())
    }

    /// Each call may be made again: it sets what it says.
    fn half_way(&self, now: &Image, before: &Image) -> bool {
        let read = |image: &Image| typed::<State>(&image.state, "the state", DECLARED.name);
        let (Ok(now), Ok(before)) = (read(now), read(before)) else { return false };
        let ours = now.policy == before.policy || now.policy.as_deref().is_some_and(|text| Deny::of(text).is_some());
        let same = now.keys.len() == before.keys.len()
            && now.keys.iter().zip(&before.keys).all(|(now, before)| now == before || before.turned(now));
        ours && same
    }
}

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    /// The text of policy `redress-contain`.
    policy: Option<String>,
    /// The keys that are meant; none where none are to be deactivated, so that what its owner does to them is no drift.
    keys: Vec<Key>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Key {
    access_key_id: String,
    status: String,
}

impl Key {
    fn turned(&self, other: &Self) -> bool {
        self.access_key_id == other.access_key_id && self.status != other.status
    }
}

#[cfg(test)]
#[path = "iam_user_tests.rs"]
mod tests;
