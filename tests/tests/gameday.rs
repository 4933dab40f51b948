//! `redress gameday`: what it breaks is missing point by point, the product's own commands mend it, and then nothing is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use redress_common::names;
use redress_lab::control::{Control, Steered};
use redress_lab::service::Aws;
use redress_tests::world::{World, world_of};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Broken is `payments`; what is contained lies in `web`.
fn the_world() -> &'static World {
    world_of(&["payments", "web"], |control| control.as_str() == "S3.8")
}

/// The shared lab as `redress lab up` has it: with a control endpoint.
struct Steering(&'static World);

#[async_trait]
impl Steered for Steering {
    fn scenarios(&self) -> Value {
        json!([])
    }

    async fn break_it(&self, _scenario: &str, _account: Option<&str>) -> Result<Value, String> {
        Err("a game day breaks by itself".to_owned())
    }

    async fn status(&self) -> Value {
        json!({})
    }

    fn aws(&self) -> Arc<dyn Aws> {
        self.0.bed.lab.aws()
    }
}

/// A player's folder, in which `redress` finds the lab.
struct Seat {
    world: &'static World,
    folder: TempDir,
    _control: Control,
}

impl Seat {
    async fn take(world: &'static World) -> Self {
        let control = Control::serve(Arc::new(Steering(world))).await.unwrap();
        let (folder, organisation) = (tempfile::tempdir().unwrap(), &world.bed.organisation);
        let members: Vec<String> = organisation.members.iter().map(|member| member.id.to_string()).collect();
        let lab = json!({
            "Endpoint": world.bed.lab.endpoint(), "Control": control.url, "Token": control.token, "Region": world.region(),
            "Administrator": world.administrator(), "Members": members, "ExternalId": organisation.external_ids.reveal(),
        });
        let files = [("stacksets/administrator-stack.yaml", String::new()), (".lab/lab.json", lab.to_string())];
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { world, folder, _control: control }
    }

    /// The exit code, and what is said.
    async fn run(&self, arguments: &[&str]) -> (i32, Value) {
        let mut all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        all.push("--json".to_owned());
        let external_id = [("REDRESS_EXTERNAL_ID", self.world.bed.organisation.external_ids.reveal())];
        let output = self.world.redress_in(self.folder.path(), &all, &external_id).await;
        let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        let said = String::from_utf8_lossy(said).into_owned();
        // What is going on is told before an error.
        let json = said.find(['{', '[']).map_or("", |start| &said[start..]);
        let json = serde_json::from_str(json).unwrap_or_else(|error| panic!("redress {arguments:?}: {error}: {said}"));
        (output.status.code().unwrap(), json)
    }

    /// What is said, when all is well.
    async fn says(&self, arguments: &[&str]) -> Value {
        let (exit, said) = self.run(arguments).await;
        assert_eq!(exit, 0, "redress {arguments:?}: {said:#}");
        said
    }

    /// Whether each point is done, in order; the exit code says whether all are.
    async fn points(&self, scenario: &str) -> Vec<bool> {
        let (exit, said) = self.run(&["gameday", "check", scenario]).await;
        let points: Vec<bool> = said["Points"].as_array().unwrap().iter().map(|point| point["Ok"] == true).collect();
        let complete = points.iter().all(|ok| *ok);
        assert_eq!((exit, &said["Complete"]), (i32::from(!complete), &json!(complete)), "{said:#}");
        for point in said["Points"].as_array().unwrap().iter().filter(|point| point["Ok"] != true) {
            assert!(["Point", "Found", "Look"].iter().all(|name| point[*name] != ""), "{point:#}");
        }
        points
    }

    /// Looks until the points stand so.
    async fn comes_to(&self, scenario: &str, points: [bool; 3]) {
        let what = format!("{scenario} comes to {points:?}");
        self.world.eventually(&what, async || (self.points(scenario).await == points).then_some(())).await;
    }
}

#[test]
fn an_account_that_went_silent_is_mended_point_by_point() {
    let world = the_world();
    world.run(async {
        let (seat, account) = (Seat::take(world).await, world.member("payments"));
        let role = json!({ "RoleName": names::CROSS_ACCOUNT_ROLE });
        let role = world.call(&account, "iam", "GetRole", role).await.unwrap();
        let trust = &role["Role"]["AssumeRolePolicyDocument"];
        assert_eq!(seat.run(&["gameday", "check", "silent-account"]).await.0, 4, "it was not started");

        let told = seat.says(&["gameday", "start", "silent-account"]).await;
        assert!(told["Told"].as_str().unwrap().contains(&account), "{told:#}");
        let names: Vec<&String> = told.as_object().unwrap().keys().collect();
        assert_eq!(names, ["Scenario", "Told", "Started"], "the players are told no more");
        seat.comes_to("silent-account", [false, false, false]).await;
        let (exit, refused) = seat.run(&["gameday", "start", "silent-account"]).await;
        assert_eq!(exit, 3, "it is underway: {refused:#}");

        // As member-stack.yaml has it.
        let trust = trust.as_str().map_or_else(|| trust.to_string(), str::to_owned);
        let mended = json!({ "RoleName": names::CROSS_ACCOUNT_ROLE, "PolicyDocument": trust });
        world.call(&account, "iam", "UpdateAssumeRolePolicy", mended).await.unwrap();
        seat.comes_to("silent-account", [true, false, false]).await;
        seat.says(&["dlq", "redrive", "--reason", "game day"]).await;
        seat.comes_to("silent-account", [true, true, true]).await;
    });
}

/// Each playbook's, and whether Redress contains by itself.
const CONTAINED: [(&str, bool); 8] = [
    ("contain-ec2", true),
    ("contain-iam-user", false),
    ("contain-iam-role", true),
    ("contain-s3", false),
    ("contain-lambda", true),
    ("contain-rds", true),
    ("contain-eks", true),
    ("contain-eks-principal", true),
];

#[test]
fn what_was_contained_is_given_back_whole() {
    let world = the_world();
    world.run(async {
        let (seat, account) = (Seat::take(world).await, world.member("web"));
        for (scenario, by_itself) in CONTAINED {
            let told = seat.says(&["gameday", "start", scenario, "--reveal"]).await;
            let arn = told["Broken"]["Things"][0]["ResourceArn"].as_str().unwrap();
            assert_eq!(told["Broken"]["Account"], account, "{told:#}");
            seat.comes_to(scenario, [by_itself, false, !by_itself]).await;
            if !by_itself {
                seat.says(&["contain", arn, "--account", &account, "--reason", "game day", "--wait"]).await;
                seat.comes_to(scenario, [true, false, false]).await;
            }
            let cases = seat.says(&["case", "list", "--account", &account]).await;
            let is_of_it =
                |case: &&Value| case["Resources"].as_array().unwrap().iter().any(|one| one["Resource"] == arn);
            let case = cases.as_array().unwrap().iter().find(is_of_it).unwrap();
            assert_eq!(case["Standing"], "Contained", "{case:#}");
            let records = seat.says(&["audit", "list", "--resource", arn]).await;
            let verified = records.as_array().unwrap().iter().find(|record| record["ExecutionStatus"] == "Verified");
            let id = verified.unwrap()["RemediationId"].as_str().unwrap();
            seat.says(&["undo", id, "--reason", "game day", "--wait"]).await;
            seat.comes_to(scenario, [true, true, true]).await;
        }
    });
}

#[test]
fn a_game_day_is_played_in_the_lab_and_nowhere_else() {
    let world = the_world();
    world.run(async {
        let seat = Seat::take(world).await;
        let elsewhere = ["--endpoint-url", "http://192.0.2.1:4566"];
        let (exit, refused) = seat.run(&[&["gameday", "start", "wrong-fix"][..], &elsewhere].concat()).await;
        assert_eq!(exit, 3, "{refused:#}");
        assert!(refused["Help"].as_str().unwrap().contains("redress lab up"), "{refused:#}");
        std::fs::remove_file(seat.folder.path().join(".lab/lab.json")).unwrap();
        let (exit, refused) = seat.run(&["gameday", "start", "wrong-fix"]).await;
        assert_eq!(exit, 4, "{refused:#}");
        assert!(refused["Help"].as_str().unwrap().contains("redress lab up"), "{refused:#}");
    });
}
