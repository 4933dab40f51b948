//! `iam_user_credentials`: a user has no access key older, and no password or access key unused longer, than it may.
//!
//! Keys are deactivated, never deleted: the undo activates them again. A console password that nobody uses is deleted
//! with its login profile, and nobody can bring it back; an undo of that is refused. When a credential was last used is
//! no part of the state: other credentials of the user are used meanwhile, and that is no drift.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use aws_sdk_iam::types::StatusType;
use jiff::{SignedDuration, Timestamp};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Job};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Declared, Native, NativeError, Parameters, number, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "iam_user_credentials",
    reads: &["iam:GetAccessKeyLastUsed", "iam:GetLoginProfile", "iam:GetUser", "iam:ListAccessKeys"],
    changes: &["iam:DeleteLoginProfile", "iam:UpdateAccessKey"],
    make: |clients, request| {
        let (job, parameters) = (&request.job, &request.parameters);
        Ok(Box::new(UserCredentials::new(clients.iam.clone(), job, parameters, Timestamp::now())?))
    },
};

const ACTIVE: &str = "Active";
const INACTIVE: &str = "Inactive";

/// The function on one user.
#[derive(Debug)]
struct UserCredentials {
    client: aws_sdk_iam::Client,
    user: String,
    limit: Limit,
    /// Whatever is older.
    before: Timestamp,
    /// What has not been used since, as the last look found it: key ids, and the password.
    unused: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// How old a key may be.
    Age,
    /// How long a key or a password may go unused.
    Unused,
}

const PASSWORD: &str = "password";

impl UserCredentials {
    /// Parameter `MaxKeyAge` or `MaxUnused`: days.
    fn new(
        client: aws_sdk_iam::Client,
        job: &Job,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Self, NativeError> {
        const DAYS: &str = "a number of days from 1 to 365";
        let given = [("MaxKeyAge", Limit::Age), ("MaxUnused", Limit::Unused)];
        let mut given = given.into_iter().filter_map(|(name, limit)| Some((name, limit, parameters.get(name)?)));
        let wrong = |name: &str| NativeError::Parameter { name: name.to_owned(), expected: DAYS };
        let (Some((name, limit, days)), None) = (given.next(), given.next()) else {
            return Err(wrong("MaxKeyAge` or `MaxUnused"));
        };
        let days = number(days).filter(|days| (1..=365).contains(days)).ok_or_else(|| wrong(name))?;
        let before = now.checked_sub(SignedDuration::from_hours(24 * days)).map_err(|_| wrong(name))?;
        Ok(Self { client, user: job.resource_name.clone(), limit, before, unused: Mutex::default() })
    }

    fn is_unused(&self, credential: &str) -> bool {
        self.unused.lock().is_ok_and(|unused| unused.contains(credential))
    }

    fn is_old(&self, date: &str) -> bool {
        date.parse::<Timestamp>().is_ok_and(|date| date < self.before)
    }

    /// Whether neither a use nor the making of a credential is recent.
    fn is_idle(&self, made: &str, used: Option<&aws_sdk_iam::primitives::DateTime>) -> bool {
        self.is_old(made) && used.is_none_or(|used| self.is_old(&timestamp(used)))
    }

    fn update(&self, key: &str, status: &str) -> Result<Call, NativeError> {
        let with = json!({ "UserName": self.user, "AccessKeyId": key, "Status": status });
        planned(&DECLARED, "iam", "UpdateAccessKey", &with)
    }

    async fn keys(&self) -> Result<Vec<Key>, NativeError> {
        let answer = self.client.list_access_keys().user_name(&self.user).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("ListAccessKeys", &error))?;
        let mut keys: Vec<Key> = answer
            .access_key_metadata()
            .iter()
            .map(|key| Key {
                access_key_id: key.access_key_id().unwrap_or_default().to_owned(),
                status: key.status().map(StatusType::as_str).unwrap_or_default().to_owned(),
                create_date: key.create_date().map(timestamp).unwrap_or_default(),
            })
            .collect();
        keys.sort();
        Ok(keys)
    }

    async fn password(&self) -> Result<Option<String>, NativeError> {
        let answer = self.client.get_login_profile().user_name(&self.user).send().await;
        match answer.map_err(|error| AwsFailure::of("GetLoginProfile", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => Ok(None),
            answer => Ok(answer?.login_profile().map(|profile| timestamp(profile.create_date()))),
        }
    }

    async fn last_used(&self, key: &str) -> Result<Option<aws_sdk_iam::primitives::DateTime>, NativeError> {
        let answer = self.client.get_access_key_last_used().access_key_id(key).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("GetAccessKeyLastUsed", &error))?;
        Ok(answer.access_key_last_used().and_then(|used| used.last_used_date()).copied())
    }
}

fn timestamp(date: &aws_sdk_iam::primitives::DateTime) -> String {
    Timestamp::from_second(date.secs()).map(|date| date.to_string()).unwrap_or_default()
}

#[async_trait]
impl Native for UserCredentials {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.get_user().user_name(&self.user).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("GetUser", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(None),
            answer => answer?,
        };
        let keys = self.keys().await?;
        let mut password = None;
        let mut unused = BTreeSet::new();
        if self.limit == Limit::Unused {
            password = self.password().await?;
            let used = answer.user().and_then(|user| user.password_last_used());
            if password.as_deref().is_some_and(|made| self.is_idle(made, used)) {
                unused.insert(PASSWORD.to_owned());
            }
            for key in keys.iter().filter(|key| key.status == ACTIVE) {
                let used = self.last_used(&key.access_key_id).await?;
                if self.is_idle(&key.create_date, used.as_ref()) {
                    unused.insert(key.access_key_id.clone());
                }
            }
        }
        if let Ok(mut last) = self.unused.lock() {
            *last = unused;
        }
        let state = State { user_name: self.user.clone(), keys, password };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let mut calls = Vec::new();
        for key in state.keys.iter().filter(|key| key.status == ACTIVE) {
            let bad = match self.limit {
                Limit::Age => self.is_old(&key.create_date),
                Limit::Unused => self.is_unused(&key.access_key_id),
            };
            if bad {
                calls.push(self.update(&key.access_key_id, INACTIVE)?);
            }
        }
        if state.password.is_some() && self.is_unused(PASSWORD) {
            calls.push(planned(&DECLARED, "iam", "DeleteLoginProfile", &json!({ "UserName": self.user }))?);
        }
        Ok(Change(calls))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        if before.password != now.password {
            return Err(NativeError::Refused(
                "a console password was deleted, and nobody can bring it back: give the user a new one, and activate \
                 the access keys that are needed, by hand",
            ));
        }
        let changed = before.keys.iter().filter(|key| now.keys.iter().any(|other| key.turned(other)));
        changed.map(|key| self.update(&key.access_key_id, &key.status)).collect::<Result<_, _>>().map(Change)
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
        match call.operation.as_str() {
            "UpdateAccessKey" => {
                let call = self.client.update_access_key().user_name(given("UserName"));
                let call = call.access_key_id(given("AccessKeyId")).status(given("Status").into());
                call.send().await.map_err(|error| AwsFailure::of("UpdateAccessKey", &error))?;
                Ok(())
            }
            "DeleteLoginProfile" => {
                let call = self.client.delete_login_profile().user_name(given("UserName"));
                call.send().await.map_err(|error| AwsFailure::of("DeleteLoginProfile", &error))?;
                Ok(())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    user_name: String,
    keys: Vec<Key>,
    /// When the console password was set; only where the control is about passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Key {
    access_key_id: String,
    status: String,
    create_date: String,
}

impl Key {
    fn turned(&self, other: &Self) -> bool {
        self.access_key_id == other.access_key_id && self.status != other.status
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{FakeAws, job};

    const USER: &str = "arn:aws:iam::111122223333:user/team/alice";

    fn native(aws: &FakeAws, parameters: Value) -> Result<UserCredentials, NativeError> {
        let client = aws_sdk_iam::Client::new(&aws.config());
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        UserCredentials::new(client, &job(USER), &serde_json::from_value(parameters).unwrap(), now)
    }

    /// IAM's answers, recorded: a user with an old, used key, an old idle one and a young one.
    fn recorded(password_last_used: &str) -> FakeAws {
        let aws = FakeAws::default();
        aws.answer("GetUser", 200, &format!(
            "<GetUserResponse><GetUserResult><User><Path>/team/</Path><UserName>alice</UserName><UserId>AIDA1</UserId>\
             <Arn>{USER}</Arn><CreateDate>2020-01-01T00:00:00Z</CreateDate>{password_last_used}</User></GetUserResult></GetUserResponse>"));
        let key = |id: &str, status: &str, date: &str| {
            format!(
                "<member><UserName>alice</UserName><AccessKeyId>{id}</AccessKeyId><Status>{status}</Status><CreateDate>{date}</CreateDate></member>"
            )
        };
        aws.answer(
            "ListAccessKeys",
            200,
            &format!(
                "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata>{}{}{}</AccessKeyMetadata>\
             <IsTruncated>false</IsTruncated></ListAccessKeysResult></ListAccessKeysResponse>",
                key("AKIA2USED", "Active", "2026-01-01T00:00:00Z"),
                key("AKIA1IDLE", "Active", "2026-01-01T00:00:00Z"),
                key("AKIA3YOUNG", "Active", "2026-11-01T00:00:00Z")
            ),
        );
        aws.answer("GetLoginProfile", 200,
            "<GetLoginProfileResponse><GetLoginProfileResult><LoginProfile><UserName>alice</UserName>\
             <CreateDate>2026-02-01T00:00:00Z</CreateDate></LoginProfile></GetLoginProfileResult></GetLoginProfileResponse>");
        // In the order of the sorted keys.
        for used in ["", "<LastUsedDate>2026-11-19T00:00:00Z</LastUsedDate>", ""] {
            aws.answer("GetAccessKeyLastUsed", 200, &format!(
                "<GetAccessKeyLastUsedResponse><GetAccessKeyLastUsedResult><UserName>alice</UserName><AccessKeyLastUsed>{used}\
                 <ServiceName>N/A</ServiceName><Region>N/A</Region></AccessKeyLastUsed></GetAccessKeyLastUsedResult></GetAccessKeyLastUsedResponse>"));
        }
        aws
    }

    fn said(change: &Change) -> Vec<String> {
        change.0.iter().map(|call| format!("{} {}", call.operation, call.parameters["AccessKeyId"])).collect()
    }

    #[tokio::test]
    async fn keys_older_than_allowed_are_deactivated_used_or_not() {
        let native = native(&recorded(""), json!({ "MaxKeyAge": 90 })).unwrap();
        let image = native.inspect().await.unwrap().unwrap();
        let change = native.plan(&image).unwrap();
        assert_eq!(said(&change), ["UpdateAccessKey \"AKIA1IDLE\"", "UpdateAccessKey \"AKIA2USED\""]);
        assert!(!image.state.to_string().contains("Password"));
    }

    #[tokio::test]
    async fn what_nobody_used_goes_and_what_is_used_or_young_stays() {
        let native = native(&recorded(""), json!({ "MaxUnused": 45 })).unwrap();
        let before = native.inspect().await.unwrap().unwrap();
        let change = native.plan(&before).unwrap();
        assert_eq!(said(&change), ["UpdateAccessKey \"AKIA1IDLE\"", "DeleteLoginProfile null"]);
        let mut after = before.clone();
        after.state["Password"] = Value::Null;
        let refused = native.plan_restore(&after, &before);
        assert!(matches!(refused, Err(NativeError::Refused(_))), "a deleted password is not brought back");
    }

    #[tokio::test]
    async fn a_password_that_is_used_stays_and_keys_come_back() {
        let used = recorded("<PasswordLastUsed>2026-11-18T08:00:00Z</PasswordLastUsed>");
        let native = native(&used, json!({ "MaxUnused": 90 })).unwrap();
        let before = native.inspect().await.unwrap().unwrap();
        assert_eq!(said(&native.plan(&before).unwrap()), ["UpdateAccessKey \"AKIA1IDLE\""]);
        let mut after = before.clone();
        after.state["Keys"][0]["Status"] = INACTIVE.into();
        let undo = native.plan_restore(&after, &before).unwrap();
        assert_eq!(undo.0[0].parameters["Status"], ACTIVE);
        assert_eq!(undo.0.len(), 1);
    }

    #[test]
    fn exactly_one_limit_in_bounds_is_asked_for() {
        let aws = FakeAws::default();
        for wrong in [
            json!({}),
            json!({ "MaxKeyAge": 0 }),
            json!({ "MaxUnused": 366 }),
            json!({ "MaxKeyAge": 1, "MaxUnused": 1 }),
        ] {
            assert!(native(&aws, wrong.clone()).is_err(), "{wrong}");
        }
    }
}
