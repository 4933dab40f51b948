#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{FakeAws, job};

const BUCKET: &str = "arn:aws:s3:::bucket";

fn native(aws: &FakeAws) -> RequiredTags {
    let client = aws_sdk_resourcegroupstagging::Client::new(&aws.config());
    let parameters = BTreeMap::from([
        ("Keys".to_owned(), json!(["CostCenter", "Owner"])),
        ("Value".to_owned(), json!("unassigned")),
    ]);
    RequiredTags::new(client, &job(BUCKET), &parameters).unwrap()
}

fn image(tags: Value) -> Image {
    Image { present: true, state: json!({ "Tags": tags }) }
}

#[test]
fn only_missing_keys_are_added_and_no_value_is_changed() {
    let native = native(&FakeAws::default());
    let change = native.plan(&image(json!({ "Owner": "" }))).unwrap();
    assert_eq!(
        serde_json::to_value(change).unwrap(),
        json!([{
            "Service": "resourcegroupstaggingapi",
            "Operation": "TagResources",
            "Parameters": { "ResourceARNList": [BUCKET], "Tags": { "CostCenter": "unassigned" } },
        }])
    );
    assert!(native.compliant(&image(json!({ "Owner": "x", "CostCenter": "" }))));
}

#[test]
fn the_undo_takes_away_only_what_was_added() {
    let native = native(&FakeAws::default());
    let (before, now) = (json!({ "Owner": "ann" }), json!({ "Owner": "ann", "CostCenter": "unassigned" }));
    let change = native.plan_restore(&image(now), &image(before)).unwrap();
    assert_eq!(
        serde_json::to_value(change).unwrap(),
        json!([{
            "Service": "resourcegroupstaggingapi",
            "Operation": "UntagResources",
            "Parameters": { "ResourceARNList": [BUCKET], "TagKeys": ["CostCenter"] },
        }])
    );
}

#[test]
fn keys_and_value_are_held_to_awss_bounds() {
    let parse =
        |keys: Value, value: Value| Required::parse(&[("Keys".to_owned(), keys), ("Value".to_owned(), value)].into());
    assert!(parse(json!(["Owner"]), json!("")).is_ok());
    for (keys, value) in [
        (json!([]), json!("x")),
        (json!("Owner"), json!("x")),
        (json!([""]), json!("x")),
        (json!(["AWS:owner"]), json!("x")),
        (json!(["k".repeat(129)]), json!("x")),
        (json!([1]), json!("x")),
        (json!(["Owner"]), json!("v".repeat(257))),
        (json!(["Owner"]), json!(null)),
    ] {
        assert!(parse(keys.clone(), value.clone()).is_err(), "{keys} {value}");
    }
}

#[tokio::test]
async fn other_tags_are_neither_stored_nor_taken_for_drift() {
    let aws = FakeAws::default();
    let answer = json!({ "ResourceTagMappingList": [
        { "ResourceARN": BUCKET, "Tags": [{ "Key": "Owner", "Value": "ann" }, { "Key": "Secret", "Value": "s" }] },
        { "ResourceARN": "arn:aws:s3:::other", "Tags": [{ "Key": "CostCenter", "Value": "1" }] },
    ] });
    aws.answer("GetResources", 200, &answer.to_string());
    assert_eq!(native(&aws).inspect().await.unwrap(), Some(image(json!({ "Owner": "ann" }))));
    aws.answer("GetResources", 200, r#"{"ResourceTagMappingList":[]}"#);
    assert_eq!(native(&aws).inspect().await.unwrap(), Some(image(json!({}))));
}

#[tokio::test]
async fn defect_06_a_resource_that_could_not_be_tagged_is_a_failure_although_the_call_succeeds() {
    let aws = FakeAws::default();
    let change = native(&aws).plan(&image(json!({}))).unwrap();
    let failed = json!({ "FailedResourcesMap": { BUCKET: {
        "StatusCode": 403, "ErrorCode": "InvalidParameterException", "ErrorMessage": "no s3:PutBucketTagging" } } });
    aws.answer("TagResources", 200, &failed.to_string());
    let error = native(&aws).call(&change.0[0]).await.unwrap_err();
    assert!(error.to_string().contains("no s3:PutBucketTagging"), "{error}");
    aws.answer("TagResources", 200, r#"{"FailedResourcesMap":{}}"#);
    native(&aws).call(&change.0[0]).await.unwrap();
}

proptest! {
    #[test]
    fn applied_and_undone_the_tags_are_what_they_were(owner: Option<String>, center: Option<String>) {
        let native = native(&FakeAws::default());
        let before: Tags = [("Owner", owner), ("CostCenter", center)]
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect();
        let mut now = before.clone();
        let made = |tags: &mut Tags, change: Change| for call in change.0 {
            match call.operation.as_str() {
                "TagResources" => tags.extend(serde_json::from_value::<Tags>(call.parameters["Tags"].clone()).unwrap()),
                _ => for key in call.parameters["TagKeys"].as_array().unwrap() {
                    assert!(tags.remove(key.as_str().unwrap()).is_some());
                }
            }
        };
        made(&mut now, native.plan(&image(json!(before))).unwrap());
        prop_assert!(native.compliant(&image(json!(now))));
        prop_assert!(before.iter().all(|(key, value)| now.get(key) == Some(value)));
        let undo = native.plan_restore(&image(json!(now)), &image(json!(before))).unwrap();
        made(&mut now, undo);
        prop_assert_eq!(now, before);
    }
}
