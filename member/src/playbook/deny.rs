//! The inline policy `redress-contain`, which takes everything from a user or a role until it is removed.
//!
//! Either from all its requests, or from those of sessions that were opened before a moment: what has no session, such as a
//! user's long-term key, is not met by the latter, for its requests have no `aws:TokenIssueTime`. A policy of that name with
//! any other content is somebody else's, and is neither overwritten nor removed.

use aws_sdk_iam::Client;
use jiff::{SignedDuration, Timestamp};
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::Call;
use serde_json::{Value, json};

use crate::native::iam_admin_policy::decoded;
use crate::native::{Declared, NativeError, Parameters, planned};

/// What the policy is called.
pub(super) const NAME: &str = "redress-contain";
/// Parameter: sessions that were opened before are revoked. RFC 3339; the administrator account says when.
pub(super) const ISSUED_BEFORE: &str = "IssuedBefore";
const SID: &str = "RedressContain";
const NOT_OURS: NativeError = NativeError::Refused(
    "there is an inline policy `redress-contain` that Redress did not write; look at it, remove it or give it another \
     name, and ask again",
);

/// Whose policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    User,
    Role,
}

impl Of {
    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Role => "Role",
        }
    }

    fn with(self, name: &str) -> Value {
        json!({ format!("{}Name", self.as_str()): name, "PolicyName": NAME })
    }
}

/// What is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deny {
    /// Everything.
    All,
    /// Everything, to sessions that were opened before.
    Sessions(Timestamp),
}

impl Deny {
    /// Of sessions: AWS counts whole seconds, so the one that has begun is meant whole.
    pub(super) fn sessions(before: Timestamp) -> Self {
        let second = Timestamp::from_second(before.as_second()).unwrap_or(before);
        let next = second.checked_add(SignedDuration::from_secs(1)).unwrap_or(second);
        Self::Sessions(if second < before { next } else { second })
    }

    /// The policy's text: always the same, byte for byte.
    pub(crate) fn text(self) -> String {
        let condition = match self {
            Self::All => String::new(),
            Self::Sessions(before) => {
                format!(r#","Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{before}"}}}}"#)
            }
        };
        let statement = format!(r#"{{"Sid":"{SID}","Effect":"Deny","Action":"*","Resource":"*"{condition}}}"#);
        format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
    }

    /// What a policy of ours denies; `None` when it is none of ours.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let given: Value = serde_json::from_str(text).ok()?;
        let before = given.pointer("/Statement/0/Condition/DateLessThan/aws:TokenIssueTime").and_then(Value::as_str);
        let deny = match before {
            Some(before) => Self::Sessions(before.parse().ok()?),
            None => Self::All,
        };
        (serde_json::from_str::<Value>(&deny.text()).ok()? == given).then_some(deny)
    }

    /// Whether who is denied this is denied all of the other, too.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Sessions(_), Self::All) => false,
            (Self::Sessions(this), Self::Sessions(other)) => this >= other,
        }
    }
}

/// Since when sessions count; `None` when the request does not say.
pub(super) fn issued_before(parameters: &Parameters) -> Result<Option<Timestamp>, NativeError> {
    let wrong = || NativeError::Parameter { name: ISSUED_BEFORE.to_owned(), expected: "a time in RFC 3339" };
    match parameters.get(ISSUED_BEFORE) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(given) => given.as_str().and_then(|text| text.parse().ok()).map(Some).ok_or_else(wrong),
    }
}

/// The policy's text, when there is one.
pub(crate) async fn read(client: &Client, of: Of, name: &str) -> Result<Option<String>, NativeError> {
    let found = match of {
        Of::User => {
            let answer = client.get_user_policy().user_name(name).policy_name(NAME).send().await;
            let answer = answer.map_err(|error| AwsFailure::of("GetUserPolicy", &error));
            answer.map(|answer| answer.policy_document)
        }
        Of::Role => {
            let answer = client.get_role_policy().role_name(name).policy_name(NAME).send().await;
            let answer = answer.map_err(|error| AwsFailure::of("GetRolePolicy", &error));
            answer.map(|answer| answer.policy_document)
        }
    };
    match found {
        Err(failure) if failure.code() == Some("NoSuchEntity") => Ok(None),
        found => Ok(Some(decoded(&found?))),
    }
}

/// The call that denies it, unless that or more is denied already.
pub(super) fn plan(
    declared: &Declared,
    of: Of,
    name: &str,
    now: Option<&str>,
    wanted: Deny,
) -> Result<Option<Call>, NativeError> {
    if let Some(text) = now {
        let found = Deny::of(text).ok_or(NOT_OURS)?;
        if found.covers(wanted) {
            return Ok(None);
        }
    }
    put(declared, of, name, &wanted.text()).map(Some)
}

/// The call that makes the policy again what it was before.
pub(super) fn plan_restore(
    declared: &Declared,
    of: Of,
    name: &str,
    now: Option<&str>,
    before: Option<&str>,
) -> Result<Option<Call>, NativeError> {
    if now == before {
        return Ok(None);
    }
    if now.is_some_and(|text| Deny::of(text).is_none()) {
        return Err(NOT_OURS);
    }
    match before {
        Some(text) => put(declared, of, name, text).map(Some),
        None => planned(declared, "iam", &format!("Delete{}Policy", of.as_str()), &of.with(name)).map(Some),
    }
}

fn put(declared: &Declared, of: Of, name: &str, text: &str) -> Result<Call, NativeError> {
    let mut with = of.with(name);
    with["PolicyDocument"] = text.into();
    planned(declared, "iam", &format!("Put{}Policy", of.as_str()), &with)
}

/// Makes a planned call, if it is one of these.
pub(super) async fn call(client: &Client, call: &Call) -> Option<Result<(), NativeError>> {
    let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
    let (user, role, policy, text) =
        (given("UserName"), given("RoleName"), given("PolicyName"), given("PolicyDocument"));
    let done = match call.operation.as_str() {
        "PutUserPolicy" => {
            let call = client.put_user_policy().user_name(user).policy_name(policy).policy_document(text);
            call.send().await.map(drop).map_err(|error| AwsFailure::of("PutUserPolicy", &error))
        }
        "DeleteUserPolicy" => {
            let call = client.delete_user_policy().user_name(user).policy_name(policy);
            call.send().await.map(drop).map_err(|error| AwsFailure::of("DeleteUserPolicy", &error))
        }
        "PutRolePolicy" => {
            let call = client.put_role_policy().role_name(role).policy_name(policy).policy_document(text);
            call.send().await.map(drop).map_err(|error| AwsFailure::of("PutRolePolicy", &error))
        }
        "DeleteRolePolicy" => {
            let call = client.delete_role_policy().role_name(role).policy_name(policy);
            call.send().await.map(drop).map_err(|error| AwsFailure::of("DeleteRolePolicy", &error))
        }
        _ => return None,
    };
    Some(done.map_err(NativeError::from))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_policies_are_as_iam_writes_them() {
        let all = r#"{"Version":"2012-10-17","Statement":[{"Sid":"RedressContain","Effect":"Deny","Action":"*","Resource":"*"}]}"#;
        assert_eq!(Deny::All.text(), all);
        let sessions = Deny::sessions(time("2026-11-29T10:00:00.470Z"));
        let condition = r#""Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-29T10:00:01Z"}}"#;
        assert!(sessions.text().contains(condition), "{}", sessions.text());
        assert_eq!(Deny::sessions(time("2026-11-29T10:00:00Z")).text().matches("10:00:00Z").count(), 1);
    }

    #[test]
    fn only_what_we_write_is_ours() {
        for theirs in [
            "",
            "{}",
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Sid":"RedressContain","Effect":"Allow","Action":"*","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Sid":"RedressContain","Effect":"Deny","Action":"*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Sid":"RedressContain","Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"never"}}}]}"#,
        ] {
            assert_eq!(Deny::of(theirs), None, "{theirs}");
        }
        // IAM may give it back with its members in another order.
        let reordered = r#"{ "Version": "2012-10-17", "Statement": [ { "Sid": "RedressContain", "Effect": "Deny", "Action": "*", "Resource": "*" } ] }"#;
        assert_eq!(Deny::of(reordered), Some(Deny::All));
    }

    #[test]
    fn the_time_of_the_request_is_one_or_none() {
        let given = |value: Value| issued_before(&[(ISSUED_BEFORE.to_owned(), value)].into());
        assert_eq!(issued_before(&Parameters::new()).unwrap(), None);
        assert_eq!(given(json!("")).unwrap(), None);
        assert_eq!(given(json!("2026-11-29T10:00:00Z")).unwrap(), Some(time("2026-11-29T10:00:00Z")));
        assert!(given(json!("yesterday")).is_err());
        assert!(given(json!(1)).is_err());
    }

    fn any_deny() -> impl Strategy<Value = Deny> {
        let sessions = (0_i64..4_000_000_000, 0_i32..1_000_000_000)
            .prop_map(|(second, nanos)| Deny::sessions(Timestamp::new(second, nanos).unwrap()));
        prop_oneof![Just(Deny::All), sessions]
    }

    proptest! {
        #[test]
        fn what_is_written_is_known_again(deny in any_deny()) {
            prop_assert_eq!(Deny::of(&deny.text()), Some(deny));
        }

        #[test]
        fn of_two_one_covers_the_other(one in any_deny(), other in any_deny()) {
            prop_assert!(one.covers(other) || other.covers(one));
            prop_assert!(one.covers(one));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = Deny::of(&text);
        }
    }
}
