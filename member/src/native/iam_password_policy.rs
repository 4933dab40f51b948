//! `iam_password_policy`: the account's password policy is at least as strict as the control asks for.
//!
//! `UpdateAccountPasswordPolicy` replaces the whole policy, so every setting that is not sent goes back to its
//! default. What is sent is therefore always the whole: setting by setting the stricter of what is there and what
//! is asked for. IAM.7 and IAM.11 to IAM.17 are this one function with different parameters; in any order they
//! end in the same policy. No setting is ever weakened.

use async_trait::async_trait;
use aws_sdk_iam::types;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Declared, Native, NativeError, Parameters, boolean, number, planned, typed, untyped};
use crate::judge;

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "iam_password_policy",
    reads: &["iam:GetAccountPasswordPolicy"],
    changes: &["iam:UpdateAccountPasswordPolicy", "iam:DeleteAccountPasswordPolicy"],
    make: |clients, request| Ok(Box::new(PasswordPolicy::new(clients.iam.clone(), &request.parameters)?)),
};

/// The function on the account that it runs in.
#[derive(Debug)]
pub struct PasswordPolicy {
    client: aws_sdk_iam::Client,
    required: Required,
}

impl PasswordPolicy {
    /// Parameters: the settings that are asked for, by their names in the IAM API.
    ///
    /// # Errors
    /// When one is unknown or out of IAM's bounds, or there is none.
    pub fn new(client: aws_sdk_iam::Client, parameters: &Parameters) -> Result<Self, NativeError> {
        Ok(Self { client, required: Required::parse(parameters)? })
    }
}

#[async_trait]
impl Native for PasswordPolicy {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.get_account_password_policy().send().await;
        match answer.map_err(|error| AwsFailure::of("GetAccountPasswordPolicy", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => Ok(Some(judge::absent())),
            answer => match answer?.password_policy() {
                Some(policy) => {
                    let state = untyped(&Policy::from(policy), "the state", DECLARED.name)?;
                    Ok(Some(Image { present: true, state }))
                }
                None => Ok(Some(judge::absent())),
            },
        }
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let present = Policy::of(now)?;
        let merged = self.required.merged_with(present.as_ref().unwrap_or(&Policy::AWS_DEFAULT));
        if present.as_ref() == Some(&merged) {
            return Ok(Change::default());
        }
        // An expiry holds at once. With HardExpiry, nobody whose password is older could set a new one.
        if merged.hard_expiry && present.is_some_and(|present| present.max_password_age != merged.max_password_age) {
            return Err(NativeError::Refused(
                "the policy has HardExpiry, with which a shorter MaxPasswordAge would lock out every user whose \
                 password is older; turn HardExpiry off or set MaxPasswordAge by hand",
            ));
        }
        Ok(Change(vec![planned(&DECLARED, "iam", "UpdateAccountPasswordPolicy", &merged)?]))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let (now, before) = (Policy::of(now)?, Policy::of(before)?);
        let call = match &before {
            _ if now == before => return Ok(Change::default()),
            Some(policy) => planned(&DECLARED, "iam", "UpdateAccountPasswordPolicy", policy)?,
            None => planned(&DECLARED, "iam", "DeleteAccountPasswordPolicy", &json!({}))?,
        };
        Ok(Change(vec![call]))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            "UpdateAccountPasswordPolicy" => {
                let policy: Policy = typed(&call.parameters, "a call", DECLARED.name)?;
                self.client
                    .update_account_password_policy()
                    .minimum_password_length(policy.minimum_password_length)
                    .require_symbols(policy.require_symbols)
                    .require_numbers(policy.require_numbers)
                    .require_uppercase_characters(policy.require_uppercase_characters)
                    .require_lowercase_characters(policy.require_lowercase_characters)
                    .allow_users_to_change_password(policy.allow_users_to_change_password)
                    .set_max_password_age(policy.max_password_age)
                    .set_password_reuse_prevention(policy.password_reuse_prevention)
                    .hard_expiry(policy.hard_expiry)
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("UpdateAccountPasswordPolicy", &error))?;
                Ok(())
            }
            "DeleteAccountPasswordPolicy" => {
                self.client
                    .delete_account_password_policy()
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("DeleteAccountPasswordPolicy", &error))?;
                Ok(())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

/// A whole password policy, as `UpdateAccountPasswordPolicy` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Policy {
    minimum_password_length: i32,
    require_symbols: bool,
    require_numbers: bool,
    require_uppercase_characters: bool,
    require_lowercase_characters: bool,
    allow_users_to_change_password: bool,
    /// Days; `None`: passwords do not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_password_age: Option<i32>,
    /// Passwords; `None`: reuse is not prevented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_reuse_prevention: Option<i32>,
    hard_expiry: bool,
}

impl Policy {
    /// What holds in an account without a policy, as far as a policy can say it. `UpdateAccountPasswordPolicy`
    /// would itself start from a minimum of 6, which is weaker than the 8 that AWS applies without a policy. AWS then
    /// asks for three of the four kinds of characters, whichever; a policy can only name them, so it names three.
    const AWS_DEFAULT: Self = Self {
        minimum_password_length: 8,
        require_symbols: false,
        require_numbers: true,
        require_uppercase_characters: true,
        require_lowercase_characters: true,
        allow_users_to_change_password: false,
        max_password_age: None,
        password_reuse_prevention: None,
        hard_expiry: false,
    };

    fn of(image: &Image) -> Result<Option<Self>, NativeError> {
        if !image.present {
            return Ok(None);
        }
        typed(&image.state, "the state", DECLARED.name).map(Some)
    }
}

impl From<&types::PasswordPolicy> for Policy {
    fn from(policy: &types::PasswordPolicy) -> Self {
        let counted = |number: Option<i32>| number.filter(|number| *number > 0);
        Self {
            minimum_password_length: policy.minimum_password_length().unwrap_or(6),
            require_symbols: policy.require_symbols(),
            require_numbers: policy.require_numbers(),
            require_uppercase_characters: policy.require_uppercase_characters(),
            require_lowercase_characters: policy.require_lowercase_characters(),
            allow_users_to_change_password: policy.allow_users_to_change_password(),
            max_password_age: counted(policy.max_password_age()),
            password_reuse_prevention: counted(policy.password_reuse_prevention()),
            hard_expiry: policy.hard_expiry().unwrap_or(false),
        }
    }
}

/// What a control asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Required {
    symbols: bool,
    numbers: bool,
    uppercase: bool,
    lowercase: bool,
    minimum_length: Option<i32>,
    max_age: Option<i32>,
    reuse_prevention: Option<i32>,
}

impl Required {
    fn parse(parameters: &Parameters) -> Result<Self, NativeError> {
        let mut required = Self::default();
        for (name, value) in parameters {
            let wrong = |expected| NativeError::Parameter { name: name.clone(), expected };
            let flag = || boolean(value).ok_or_else(|| wrong("true or false"));
            let count = |least: i64, most: i64, expected| {
                let within = number(value).filter(|number| (least..=most).contains(number));
                within.and_then(|number| i32::try_from(number).ok()).ok_or_else(|| wrong(expected))
            };
            match name.as_str() {
                "RequireSymbols" => required.symbols = flag()?,
                "RequireNumbers" => required.numbers = flag()?,
                "RequireUppercaseCharacters" => required.uppercase = flag()?,
                "RequireLowercaseCharacters" => required.lowercase = flag()?,
                "MinimumPasswordLength" => required.minimum_length = Some(count(6, 128, "a number from 6 to 128")?),
                "MaxPasswordAge" => required.max_age = Some(count(1, 1095, "a number of days from 1 to 1095")?),
                "PasswordReusePrevention" => {
                    required.reuse_prevention = Some(count(1, 24, "a number of passwords from 1 to 24")?);
                }
                _ => return Err(wrong("a setting of the password policy; it is none")),
            }
        }
        if required == Self::default() {
            let expected = "asked for by at least one parameter";
            return Err(NativeError::Parameter { name: "a setting".to_owned(), expected });
        }
        Ok(required)
    }

    /// Setting by setting the stricter of the two; what is not asked for stays.
    fn merged_with(&self, present: &Policy) -> Policy {
        let least = |one: Option<i32>, other: Option<i32>| one.into_iter().chain(other).min();
        Policy {
            minimum_password_length: present.minimum_password_length.max(self.minimum_length.unwrap_or(0)),
            require_symbols: present.require_symbols || self.symbols,
            require_numbers: present.require_numbers || self.numbers,
            require_uppercase_characters: present.require_uppercase_characters || self.uppercase,
            require_lowercase_characters: present.require_lowercase_characters || self.lowercase,
            max_password_age: least(present.max_password_age, self.max_age),
            password_reuse_prevention: present.password_reuse_prevention.max(self.reuse_prevention),
            ..present.clone()
        }
    }
}

#[cfg(test)]
#[path = "iam_password_policy_tests.rs"]
mod tests;
