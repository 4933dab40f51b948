#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::testing::FakeAws;

/// IAM.11 to IAM.17, each with the one setting that it is about.
fn seven() -> Vec<BTreeMap<String, Value>> {
    [
        ("RequireUppercaseCharacters", json!(true)),
        ("RequireLowercaseCharacters", json!(true)),
        ("RequireSymbols", json!(true)),
        ("RequireNumbers", json!(true)),
        ("MinimumPasswordLength", json!(14)),
        ("PasswordReusePrevention", json!(24)),
        ("MaxPasswordAge", json!(90)),
    ]
    .map(|(name, value)| BTreeMap::from([(name.to_owned(), value)]))
    .to_vec()
}

fn native(parameters: &BTreeMap<String, Value>) -> PasswordPolicy {
    PasswordPolicy::new(aws_sdk_iam::Client::new(&FakeAws::default().config()), parameters).unwrap()
}

/// What the account has after the calls. IAM forgets every setting that an update does not send.
fn after(now: &Image, change: &Change) -> Image {
    change.0.iter().fold(now.clone(), |_, call| match call.operation.as_str() {
        "UpdateAccountPasswordPolicy" => Image { present: true, state: call.parameters.clone() },
        "DeleteAccountPasswordPolicy" => judge::absent(),
        other => panic!("{other}"),
    })
}

fn applied(parameters: &BTreeMap<String, Value>, now: &Image) -> Image {
    after(now, &native(parameters).plan(now).unwrap())
}

fn image(policy: &Policy) -> Image {
    Image { present: true, state: serde_json::to_value(policy).unwrap() }
}

fn policy(image: &Image) -> Policy {
    Policy::of(image).unwrap().unwrap()
}

#[test]
fn defect_12_seven_fixes_in_sequence_leave_all_seven_settings() {
    let end = seven().iter().fold(judge::absent(), |now, fix| applied(fix, &now));
    let expected = Policy {
        minimum_password_length: 14,
        require_symbols: true,
        require_numbers: true,
        require_uppercase_characters: true,
        require_lowercase_characters: true,
        max_password_age: Some(90),
        password_reuse_prevention: Some(24),
        ..Policy::AWS_DEFAULT
    };
    assert_eq!(policy(&end), expected);
    assert!(seven().iter().all(|fix| native(fix).compliant(&end)));
}

#[test]
fn the_first_policy_of_an_account_is_not_weaker_than_having_none() {
    let end = policy(&applied(&seven()[0], &judge::absent()));
    assert_eq!(end, Policy { require_uppercase_characters: true, ..Policy::AWS_DEFAULT });
    assert_eq!(end.minimum_password_length, 8);
    // Without a policy AWS asks for three of the four kinds of characters.
    let kinds =
        [end.require_symbols, end.require_numbers, end.require_uppercase_characters, end.require_lowercase_characters];
    assert!(kinds.iter().filter(|asked| **asked).count() >= 3, "{end:?}");
}

#[test]
fn undoing_the_first_policy_deletes_it() {
    let now = applied(&seven()[4], &judge::absent());
    let change = native(&seven()[4]).plan_restore(&now, &judge::absent()).unwrap();
    assert_eq!(change.0[0].operation, "DeleteAccountPasswordPolicy");
    assert_eq!(after(&now, &change), judge::absent());
}

#[test]
fn passwords_that_never_expire_are_weaker_than_any_age() {
    let (never, soon) = (Policy::AWS_DEFAULT, Policy { max_password_age: Some(30), ..Policy::AWS_DEFAULT });
    let required = Required { max_age: Some(90), ..Required::default() };
    assert_eq!(required.merged_with(&never).max_password_age, Some(90));
    assert_eq!(required.merged_with(&soon).max_password_age, Some(30));
}

#[test]
fn an_expiry_that_would_lock_users_out_is_refused() {
    let (fix, hard) = (&seven()[6], Policy { hard_expiry: true, ..Policy::AWS_DEFAULT });
    for age in [None, Some(365)] {
        let now = image(&Policy { max_password_age: age, ..hard.clone() });
        let error = native(fix).plan(&now).unwrap_err();
        assert!(error.to_string().contains("HardExpiry"), "{error}");
        assert!(!native(fix).compliant(&now));
        assert!(native(&seven()[0]).plan(&now).is_ok(), "other settings lock nobody out");
    }
    assert!(native(fix).compliant(&image(&Policy { max_password_age: Some(60), ..hard })));
}

#[test]
fn parameters_out_of_iams_bounds_or_unknown_are_refused() {
    let parse = |name: &str, value: Value| Required::parse(&[(name.to_owned(), value)].into());
    assert_eq!(parse("MaxPasswordAge", json!("90")).unwrap().max_age, Some(90));
    assert!(parse("RequireSymbols", json!("true")).unwrap().symbols);
    for (name, value) in [
        ("MinimumPasswordLength", json!(5)),
        ("MinimumPasswordLength", json!(129)),
        ("MaxPasswordAge", json!(0)),
        ("PasswordReusePrevention", json!(25)),
        ("RequireSymbols", json!(1)),
        ("RequireSymbols", json!(false)),
        ("HardExpiry", json!(true)),
    ] {
        assert!(parse(name, value.clone()).is_err(), "{name} {value}");
    }
    assert!(Required::parse(&BTreeMap::new()).is_err());
}

#[tokio::test]
async fn the_answer_of_iam_becomes_an_image_and_no_policy_is_an_absent_one() {
    let aws = FakeAws::default();
    let native = PasswordPolicy::new(aws_sdk_iam::Client::new(&aws.config()), &seven()[0]).unwrap();
    aws.answer(
        "GetAccountPasswordPolicy",
        404,
        "<ErrorResponse><Error><Type>Sender</Type><Code>NoSuchEntity</Code></Error></ErrorResponse>",
    );
    assert_eq!(native.inspect().await.unwrap(), Some(judge::absent()));
    aws.answer(
        "GetAccountPasswordPolicy",
        403,
        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code></Error></ErrorResponse>",
    );
    assert!(native.inspect().await.is_err(), "what cannot be read is not absent");
    aws.answer(
        "GetAccountPasswordPolicy",
        200,
        "<GetAccountPasswordPolicyResponse><GetAccountPasswordPolicyResult>\
        <PasswordPolicy><MinimumPasswordLength>10</MinimumPasswordLength><RequireSymbols>true</RequireSymbols>\
        <AllowUsersToChangePassword>true</AllowUsersToChangePassword><ExpirePasswords>false</ExpirePasswords>\
        </PasswordPolicy></GetAccountPasswordPolicyResult></GetAccountPasswordPolicyResponse>",
    );
    let image = native.inspect().await.unwrap().unwrap();
    let expected = Policy {
        minimum_password_length: 10,
        require_symbols: true,
        require_numbers: false,
        require_uppercase_characters: false,
        require_lowercase_characters: false,
        allow_users_to_change_password: true,
        ..Policy::AWS_DEFAULT
    };
    assert_eq!(policy(&image), expected);
}

#[tokio::test]
async fn every_setting_is_sent_with_every_update() {
    let aws = FakeAws::default();
    let native = PasswordPolicy::new(aws_sdk_iam::Client::new(&aws.config()), &seven()[0]).unwrap();
    aws.answer("UpdateAccountPasswordPolicy", 200, "<UpdateAccountPasswordPolicyResponse/>");
    let now = image(&Policy {
        require_numbers: false,
        require_uppercase_characters: false,
        require_lowercase_characters: false,
        max_password_age: Some(60),
        password_reuse_prevention: Some(5),
        hard_expiry: true,
        ..Policy::AWS_DEFAULT
    });
    native.call(&native.plan(&now).unwrap().0[0]).await.unwrap();
    let sent = String::from_utf8(aws.seen()[0].body.clone()).unwrap();
    for setting in [
        "MinimumPasswordLength=8",
        "RequireSymbols=false",
        "RequireNumbers=false",
        "RequireUppercaseCharacters=true",
        "RequireLowercaseCharacters=false",
        "AllowUsersToChangePassword=false",
        "MaxPasswordAge=60",
        "PasswordReusePrevention=5",
        "HardExpiry=true",
    ] {
        assert!(sent.contains(setting), "{setting} is not in {sent}");
    }
}

prop_compose! {
    fn any_policy()(
        minimum_password_length in 6..=128,
        flags: [bool; 6],
        max_password_age in prop::option::of(1..=1095),
        password_reuse_prevention in prop::option::of(1..=24),
    ) -> Policy {
        let [require_symbols, require_numbers, require_uppercase_characters, require_lowercase_characters,
            allow_users_to_change_password, hard_expiry] = flags;
        // With it, a shorter age is refused: a test of its own.
        let hard_expiry = hard_expiry && max_password_age.is_some_and(|days| days <= 90);
        Policy {
            minimum_password_length, require_symbols, require_numbers, require_uppercase_characters,
            require_lowercase_characters, allow_users_to_change_password, max_password_age,
            password_reuse_prevention, hard_expiry,
        }
    }
}

/// No setting of `one` is weaker than that of `other`, and what is no matter of strictness is the same.
fn at_least(one: &Policy, other: &Policy) -> bool {
    let age = |policy: &Policy| policy.max_password_age.unwrap_or(i32::MAX);
    one.minimum_password_length >= other.minimum_password_length
        && one.require_symbols >= other.require_symbols
        && one.require_numbers >= other.require_numbers
        && one.require_uppercase_characters >= other.require_uppercase_characters
        && one.require_lowercase_characters >= other.require_lowercase_characters
        && age(one) <= age(other)
        && one.password_reuse_prevention >= other.password_reuse_prevention
        && one.allow_users_to_change_password == other.allow_users_to_change_password
        && one.hard_expiry == other.hard_expiry
}

proptest! {
    #[test]
    fn defect_12_in_any_order_the_end_is_the_same_and_nothing_is_weakened(
        start in prop::option::of(any_policy()),
        order in Just(seven()).prop_shuffle(),
    ) {
        let start = start.as_ref().map_or_else(judge::absent, image);
        let end = order.iter().fold(start.clone(), |now, fix| applied(fix, &now));
        let in_order = seven().iter().fold(start.clone(), |now, fix| applied(fix, &now));
        prop_assert_eq!(&end, &in_order);
        prop_assert!(seven().iter().all(|fix| native(fix).compliant(&end)));
        let before = Policy::of(&start).unwrap().unwrap_or(Policy::AWS_DEFAULT);
        prop_assert!(at_least(&policy(&end), &before));
    }

    #[test]
    fn the_undo_gives_back_the_policy(start in prop::option::of(any_policy()), fix in 0..7_usize) {
        let start = start.as_ref().map_or_else(judge::absent, image);
        let fix = &seven()[fix];
        let now = applied(fix, &start);
        let change = native(fix).plan_restore(&now, &start).unwrap();
        prop_assert_eq!(change.0.is_empty(), now == start);
        prop_assert_eq!(after(&now, &change), start);
    }
}
