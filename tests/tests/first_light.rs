//! The main job: a finding in one account, fixed from another, recorded by both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_lab::scenario;
use redress_tests::world::{World, world};
use serde_json::Value;

fn the_world() -> &'static World {
    world(&["s3-8", "ec2-7", "iam-7", "kms-4", "ec2-13", "tag-required"])
}

async fn comes_to(world: &World, account: &str, resource: &str, state: &str) -> Vec<Value> {
    let what = format!("{resource} comes to {state}");
    world
        .ledger_when(account, &what, |record| record["ResourceId"] == resource && record["ExecutionStatus"] == state)
        .await
}

fn bad_then_fixed(member: &str, name: &str) {
    let world = the_world();
    world.run(async {
        let account = world.member(member);
        let broken = world.break_it(name, &account).await;
        let records = comes_to(world, &account, broken.resource_arn.as_str(), "Verified").await;
        let states: Vec<&str> = records.iter().map(|record| record["ExecutionStatus"].as_str().unwrap()).collect();
        assert_eq!(states, ["Planned", "Claimed", "Applied", "Verified"], "{member}");
        let after = scenario::read_state(world.bed.lab.aws(), &broken).await.unwrap();
        println!("{after:#}");
    });
}

#[test]
fn s3_8_goes_from_bad_to_verified() {
    bad_then_fixed("s3-8", "public-bucket");
}

#[test]
fn ec2_7_goes_from_bad_to_verified() {
    bad_then_fixed("ec2-7", "ebs-encryption-off");
}

#[test]
fn iam_7_goes_from_bad_to_verified() {
    bad_then_fixed("iam-7", "weak-password-policy");
}

#[test]
fn kms_4_goes_from_bad_to_verified() {
    bad_then_fixed("kms-4", "key-rotation-off");
}

#[test]
fn ec2_13_goes_from_bad_to_verified() {
    bad_then_fixed("ec2-13", "open-ssh");
}

#[test]
fn tag_required_goes_from_bad_to_verified() {
    bad_then_fixed("tag-required", "missing-tags");
}
