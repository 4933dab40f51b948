//! What the guard tells of a resource before it is touched: asked through the cross-account role, over the deployed policies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_tests::ask::Target;
use redress_tests::world::{World, world};
use serde_json::json;

fn the_world() -> &'static World {
    world(&["guarded", "neighbour"])
}

fn bucket(account: &str, name: &str) -> Target {
    Target { account: account.to_owned(), control: "S3.8".to_owned(), arn: format!("arn:aws:s3:::{name}") }
}

#[test]
fn the_guard_tells_tags_and_that_they_mark_the_resource_as_critical() {
    let world = the_world();
    world.run(async {
        let account = world.member("guarded");
        world.call(&account, "s3", "CreateBucket", json!({ "Bucket": "guarded-tags" })).await.unwrap();
        let plain = world.guarded(&bucket(&account, "guarded-tags"), &[]).await;
        assert_eq!(plain, Default::default());

        let tags = json!([{ "Key": "Criticality", "Value": "High" }, { "Key": "Managed-By", "Value": "terraform" }]);
        let tagging = json!({ "Bucket": "guarded-tags", "Tagging": { "TagSet": tags } });
        world.call(&account, "s3", "PutBucketTagging", tagging).await.unwrap();
        let told = world.guarded(&bucket(&account, "guarded-tags"), &[]).await;
        assert_eq!(told.critical.as_deref(), Some("Criticality=High"));
        assert_eq!(told.tags["Managed-By"], "terraform");
        assert!(!told.owned_by.unwrap().vouched);
        assert_eq!(told.unanswered, Vec::<String>::new());
    });
}

#[test]
fn defect_10_the_guard_looks_into_no_other_account() {
    let world = the_world();
    world.run(async {
        let (here, there) = (world.member("guarded"), world.member("neighbour"));
        let request = world.guard_request(&bucket(&there, "any"), &[]);
        let refused = world.ask_guard(&here, &request).await.unwrap_err();
        assert!(refused.message.contains("this function runs in account"), "{refused}");
        let theirs = Target { arn: format!("arn:aws:iam::{there}:role/x"), ..bucket(&here, "any") };
        let refused = world.ask_guard(&here, &world.guard_request(&theirs, &[])).await.unwrap_err();
        assert!(refused.message.contains("the resource is in account"), "{refused}");
    });
}
