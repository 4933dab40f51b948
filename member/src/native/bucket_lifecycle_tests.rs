//! Rules are carried over whole, whatever they say.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::testing::FakeAws;

const ACCOUNT: &str = "111122223333";

/// A configuration with all that S3 knows, in S3's own words.
const FULL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Rule><ID>old form</ID><Prefix>logs/</Prefix><Status>Disabled</Status><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule>
<Rule><ID>one tag</ID><Filter><Tag><Key>team</Key><Value>a&amp;b</Value></Tag></Filter><Status>Disabled</Status>
<Transition><Days>30</Days><StorageClass>GLACIER_IR</StorageClass></Transition><Transition><Days>90</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>
<Expiration><Days>365</Days></Expiration></Rule>
<Rule><ID>and</ID><Filter><And><Prefix>p/</Prefix><Tag><Key>x</Key><Value>1</Value></Tag><Tag><Key>y</Key><Value>2</Value></Tag>
<ObjectSizeGreaterThan>10</ObjectSizeGreaterThan><ObjectSizeLessThan>99</ObjectSizeLessThan></And></Filter><Status>Disabled</Status>
<NoncurrentVersionTransition><NoncurrentDays>30</NoncurrentDays><NewerNoncurrentVersions>5</NewerNoncurrentVersions><StorageClass>STANDARD_IA</StorageClass></NoncurrentVersionTransition>
<NoncurrentVersionExpiration><NoncurrentDays>90</NoncurrentDays><NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration>
<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>
<AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>
</LifecycleConfiguration>"#;

async fn found(body: &str) -> Result<Lifecycle, NativeError> {
    let aws = FakeAws::default();
    aws.answer("GET", 200, body);
    read(&super::super::s3(&aws.config()), "photos", ACCOUNT).await
}

#[tokio::test]
async fn every_word_of_a_rule_goes_back_to_s3() {
    let before = found(FULL).await.unwrap();
    assert_eq!((before.rules.len(), before.is_in_force()), (3, false));
    let grown = before.with_a_rule(7);
    assert_eq!(grown.rules[..3], before.rules);
    let (operation, parameters) = grown.put("photos", ACCOUNT).unwrap();
    let aws = FakeAws::default();
    aws.answer("PUT", 200, "");
    let planned = Call { service: "s3".to_owned(), operation: operation.to_owned(), parameters };
    call(&super::super::s3(&aws.config()), &planned).await.unwrap();
    let sent = String::from_utf8(aws.seen().remove(0).body).unwrap();
    // What S3 would answer next time, but for the order of elements.
    assert_eq!(found(&sent).await.unwrap(), grown);
    let texts = ["a&amp;b", "DEEP_ARCHIVE", "2030-01-01T00:00:00Z", "<Prefix>logs/</Prefix>"];
    assert!(texts.iter().all(|text| sent.contains(text)), "{sent}");
}

#[tokio::test]
async fn a_rule_that_says_something_new_is_left_alone() {
    let new = FULL.replacen("<Days>365</Days>", "<Days>365</Days><Weekday>Monday</Weekday>", 1);
    assert!(matches!(found(&new).await, Err(NativeError::Refused(_))));
    assert!(found("<LifecycleConfiguration/>").await.unwrap().rules.is_empty());
}

#[tokio::test]
async fn a_bucket_without_rules_gets_one_and_its_undo_deletes_it() {
    let aws = FakeAws::default();
    aws.answer("GET", 404, "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>");
    let none = read(&super::super::s3(&aws.config()), "photos", ACCOUNT).await.unwrap();
    assert_eq!(none, Lifecycle::default());
    let rule = json!({ "ID": "redress", "Status": "Enabled", "Filter": { "Prefix": "" },
        "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 7 } });
    let (operation, input) = none.with_a_rule(7).put("photos", ACCOUNT).unwrap();
    assert_eq!(
        (operation, &input["LifecycleConfiguration"]["Rules"]),
        ("PutBucketLifecycleConfiguration", &json!([rule]))
    );
    assert_eq!(none.put("photos", ACCOUNT).unwrap().0, "DeleteBucketLifecycle");
}

#[test]
fn the_size_below_which_nothing_is_moved_is_sent_along() {
    let size = Some("varies_by_storage_class".to_owned());
    let now = Lifecycle { rules: vec![Rule::default()], transition_default_minimum_object_size: size };
    let (_, input) = now.with_a_rule(7).put("photos", ACCOUNT).unwrap();
    assert_eq!(input["TransitionDefaultMinimumObjectSize"], "varies_by_storage_class");
}

proptest! {
    /// Whatever rules there are, ours comes behind them under a name of its own, and they are as they were.
    #[test]
    fn rules_are_only_added_to(names in prop::collection::vec("[a-c]|redress|redress-[23]", 0..6), days in 1..1000) {
        let rule = |name: &String| Rule { id: Some(name.clone()), status: "Disabled".to_owned(), ..Rule::default() };
        let before = Lifecycle { rules: names.iter().map(rule).collect(), ..Lifecycle::default() };
        let grown = before.with_a_rule(days);
        let (own, others) = grown.rules.split_last().unwrap();
        prop_assert_eq!(others, before.rules.as_slice());
        prop_assert!(grown.is_in_force());
        prop_assert!(!names.contains(own.id.as_ref().unwrap()));
        let (_, input) = grown.put("photos", ACCOUNT).unwrap();
        let back: Vec<Rule> = typed(&input["LifecycleConfiguration"]["Rules"], "a call", NATIVE).unwrap();
        prop_assert_eq!(back, grown.rules);
    }
}
