//! What takes long, over the lab: copies, the change, the read-back and what is put back, by the deployed state machine;
//! what hangs is stopped; what was decided is looked at again; undos that people are asked about.
//!
//! EC2 is moto's: its copies are complete at once, and it takes no note of `Encrypted` of a copied snapshot (of a volume it
//! does). That SSM waits is seen in the call; how long it would wait is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::OnceLock;

use redress_common::contract::snapshot_id;
use redress_common::ids::{ClaimKey, RemediationId};
use redress_common::names;
use redress_lab::faults::{Action, Moment, Rule};
use redress_tests::grants::{Grant, Used, role_of, unused};
use redress_tests::inbox::Notifications;
use redress_tests::world::{World, root};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Acts on volumes, asks about buckets and about every undo of either.
const POLICIES: &str = r#"
@id("team.notify") permit (principal, action == Redress::Action::"Notify", resource);
@id("team.volumes") permit (principal, action == Redress::Action::"Act", resource)
when { context.mode == "Apply" && resource.control == "EC2.3" };
@id("team.buckets") @approvers("1") permit (principal, action == Redress::Action::"Approve", resource)
when { context.mode == "Apply" && resource.control == "S3.8" };
@id("team.undos") @approvers("1") permit (principal, action == Redress::Action::"Approve", resource)
when { context.mode == "Restore" };
@id("team.answer") permit (principal is Redress::Analyst, action == Redress::Action::"Answer", resource);
"#;

static TOLD: Notifications = Notifications::new();

async fn the_world() -> &'static World {
    static READY: OnceCell<()> = OnceCell::const_new();
    let world = all();
    let ready = READY.get_or_init(async || {
        TOLD.subscribe(world).await;
        world.operate(json!({ "Operation": "PolicySet", "Source": POLICIES, "Reason": "a test" })).await;
    });
    ready.await;
    world
}

fn all() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    let members = ["whole", "unverified", "refused", "running", "hangs", "exempt", "lines"];
    WORLD.get_or_init(|| World::with_defaults(&members, &[("LeaseSeconds", "10"), ("RunSeconds", "20")]))
}

/// A data volume of an instance.
struct Disk<'a> {
    world: &'a World,
    account: String,
    instance: String,
    volume: String,
    arn: String,
}

impl<'a> Disk<'a> {
    /// Unencrypted, on an instance that was stopped.
    async fn new(world: &'a World, member: &str) -> Self {
        let account = world.member(member);
        let ec2 = async |operation: &str, asked: Value| world.call(&account, "ec2", operation, asked).await.unwrap();
        let images = ec2("DescribeImages", json!({ "Owners": ["amazon"] })).await;
        let image = images["Images"][0]["ImageId"].as_str().unwrap();
        let ran = ec2("RunInstances", json!({ "ImageId": image, "MinCount": 1, "MaxCount": 1 })).await;
        let instance = ran["Instances"][0]["InstanceId"].as_str().unwrap().to_owned();
        let zone = ran["Instances"][0]["Placement"]["AvailabilityZone"].clone();
        ec2("StopInstances", json!({ "InstanceIds": [instance] })).await;
        let tags = json!([{ "ResourceType": "volume", "Tags": [{ "Key": "Name", "Value": "ledger" }] }]);
        let asked = json!({
            "AvailabilityZone": zone, "Size": 20, "VolumeType": "gp3", "Iops": 4000, "Throughput": 250, "TagSpecifications": tags,
        });
        let volume = ec2("CreateVolume", asked).await["VolumeId"].as_str().unwrap().to_owned();
        ec2("AttachVolume", json!({ "VolumeId": volume, "InstanceId": instance, "Device": "/dev/sdf" })).await;
        let arn = format!("arn:aws:ec2:{}:{account}:volume/{volume}", world.region());
        Self { world, instance, volume, arn, account }
    }

    async fn ec2(&self, operation: &str, asked: Value) -> Value {
        self.world.call(&self.account, "ec2", operation, asked).await.unwrap()
    }

    /// What the instance uses, and what the volume itself is.
    async fn state(&self) -> Value {
        let attached = json!([{ "Name": "attachment.instance-id", "Values": [self.instance] }]);
        let used = self.ec2("DescribeVolumes", json!({ "Filters": attached })).await;
        let brief = |volume: &Value| {
            let fields =
                ["VolumeId", "Encrypted", "Size", "VolumeType", "Iops", "Throughput", "AvailabilityZone", "Tags"];
            let mut brief: serde_json::Map<String, Value> =
                fields.into_iter().map(|field| (field.to_owned(), volume[field].clone())).collect();
            let devices = volume["Attachments"].as_array().into_iter().flatten().map(|at| at["Device"].clone());
            brief.insert("Devices".to_owned(), devices.collect());
            Value::Object(brief)
        };
        let mut used: Vec<Value> = used["Volumes"].as_array().into_iter().flatten().map(brief).collect();
        used.sort_by_key(ToString::to_string);
        let own = self.ec2("DescribeVolumes", json!({ "VolumeIds": [self.volume] })).await;
        json!({ "Used": used, "Own": brief(&own["Volumes"][0]) })
    }

    /// The data volume that the instance uses now.
    async fn used(&self) -> Value {
        let state = self.state().await;
        let data = |volume: &&Value| volume["Devices"] == json!(["/dev/sdf"]);
        state["Used"].as_array().unwrap().iter().find(data).cloned().unwrap_or_default()
    }

    /// The volumes that were made for it, and the snapshots.
    async fn made(&self) -> (Vec<Value>, Vec<Value>) {
        let of_it = json!([{ "Name": "tag:redress:volume", "Values": [self.volume] }]);
        let volumes = self.ec2("DescribeVolumes", json!({ "Filters": of_it })).await;
        let snapshots = self.ec2("DescribeSnapshots", json!({ "Filters": of_it })).await;
        let list = |answer: &Value, name: &str| answer[name].as_array().cloned().unwrap_or_default();
        (list(&volumes, "Volumes"), list(&snapshots, "Snapshots"))
    }

    /// Asks for the fix; its remediation.
    async fn asks(&self) -> Case<'_> {
        let request = Uuid::new_v4().to_string();
        let asked = json!({
            "Operation": "Remediate", "Control": "EC2.3", "AccountId": self.account, "Region": self.world.region(),
            "ResourceArn": self.arn, "Mode": "Apply", "Reason": "a test asks", "RequestId": request,
        });
        self.world.operate(asked).await;
        let is_it = |record: &Value| record["FindingId"].as_str().is_some_and(|finding| finding.contains(&request));
        let records = self.world.ledger_when(&self.account, "it is decided", is_it).await;
        let id = records.iter().find(|record| is_it(record)).unwrap()["RemediationId"].as_str().unwrap().to_owned();
        Case { world: self.world, account: self.account.clone(), arn: self.arn.clone(), id }
    }
}

/// A remediation.
struct Case<'a> {
    world: &'a World,
    account: String,
    arn: String,
    id: String,
}

impl Case<'_> {
    async fn comes_to(&self, status: &str) -> Value {
        let is_it = |record: &Value| record["RemediationId"] == self.id.as_str() && record["ExecutionStatus"] == status;
        let records = self.world.ledger_when(&self.account, &format!("{} comes to {status}", self.id), is_it).await;
        records.into_iter().rev().find(is_it).unwrap()
    }

    async fn states(&self) -> Vec<String> {
        let records = self.world.ledger(&self.account).await;
        let of_this = records.iter().filter(|record| record["RemediationId"] == self.id.as_str());
        of_this.map(|record| record["ExecutionStatus"].as_str().unwrap().to_owned()).collect()
    }

    /// The plan that people are asked about.
    async fn plan(&self) -> String {
        let asked = |record: &Value| {
            record["RemediationId"] == self.id.as_str()
                && record["ExecutionStatus"] == "AwaitingApproval"
                && record["NotificationSent"] == true
        };
        let records = self.world.ledger_when(&self.account, "people are asked", asked).await;
        let record = records.iter().find(|record| asked(record)).unwrap();
        record["Detail"]["PlanSha256"].as_str().unwrap().to_owned()
    }

    async fn is_approved(&self) {
        let answer = json!({
            "Operation": "Answer", "RemediationId": self.id, "Approve": true, "PlanSha256": self.plan().await,
            "Reason": "looked at it",
        });
        self.world.operate(answer).await;
    }

    /// What people were told of it.
    async fn told(&self) -> Vec<String> {
        let all = TOLD.about(self.world, &self.arn).await;
        let of_this = all.into_iter().filter(|(message, _)| message["RemediationId"] == self.id.as_str());
        of_this.map(|(message, _)| message["Status"].as_str().unwrap().to_owned()).collect()
    }

    /// How the state machine's execution ended.
    async fn execution(&self) -> String {
        let (region, admin) = (self.world.region(), self.world.administrator());
        let arn = format!("arn:aws:states:{region}:{admin}:execution:{}:{}", names::WORKFLOW_STATE_MACHINE, self.id);
        let ended = self.world.eventually("the workflow ends", async || {
            let asked = json!({ "executionArn": arn });
            let described = self.world.admin_call("stepfunctions", "DescribeExecution", asked).await;
            described["status"].as_str().filter(|status| *status != "RUNNING").map(str::to_owned)
        });
        ended.await
    }

    fn nothing_in_flight(&self) -> String {
        format!("flight#{}#{}", self.account, self.world.region())
    }
}

/// The modes of the control runbook's runs about a resource, in order.
fn modes(world: &World, arn: &str) -> Vec<String> {
    let executions = world.bed.ssm.executions();
    let of_it = executions.iter().filter(|one| {
        one.document == names::CONTROL_DOCUMENT
            && one.parameters.get("ResourceArn").is_some_and(|given| given[0] == arn)
    });
    of_it.map(|one| one.parameters["Mode"][0].clone()).collect()
}

async fn undo(world: &World, account: &str, id: &str, key: &ClaimKey) -> String {
    let request = Uuid::new_v4().to_string();
    let asked = json!({ "Operation": "Undo", "RemediationId": id, "Reason": "a test asks", "RequestId": request });
    world.operate(asked).await;
    let undo = RemediationId::of_request(key, &request).to_string();
    let is_it = |record: &Value| record["RemediationId"] == undo.as_str();
    world.ledger_when(account, "the undo is decided", is_it).await;
    undo
}

fn claim_key(world: &World, disk: &Disk<'_>) -> ClaimKey {
    let (account, region) = (disk.account.parse().unwrap(), world.region().parse().unwrap());
    ClaimKey::new(&account, &region, &"EC2.3".parse().unwrap(), &disk.arn.parse().unwrap())
}

#[test]
fn ec2_3_is_copied_replaced_and_verified_and_its_undo_is_asked_about_and_swaps_back() {
    all().run(async {
        let world = the_world().await;
        let disk = Disk::new(world, "whole").await;
        let before = disk.state().await;
        let case = disk.asks().await;
        let last = case.comes_to("Verified").await;
        assert_eq!((&last["NotificationSent"], case.execution().await.as_str()), (&json!(true), "SUCCEEDED"));
        assert_eq!(modes(world, &disk.arn), ["DryRun", "Snapshot", "Apply"]);
        assert_eq!(case.states().await, ["Planned", "Planned", "Claimed", "Applied", "Verified"]);
        assert_eq!(case.told().await, ["Success"], "and of nothing before");

        let (volumes, snapshots) = disk.made().await;
        let used = disk.used().await;
        assert_eq!((volumes.len(), &used["VolumeId"]), (1, &volumes[0]["VolumeId"]));
        let field = |name: &str| used[name].clone();
        let wanted = [json!(true), json!(20), json!("gp3"), json!(4000), json!(250)];
        assert_eq!(["Encrypted", "Size", "VolumeType", "Iops", "Throughput"].map(field), wanted);
        assert_eq!(used["AvailabilityZone"], before["Own"]["AvailabilityZone"]);
        assert!(used["Tags"].as_array().unwrap().contains(&json!({ "Key": "Name", "Value": "ledger" })));
        assert_eq!(disk.state().await["Own"]["Devices"], json!([]), "the old one is kept, and used by nobody");
        assert_eq!(snapshots.len(), 1, "the copy; what only led to it is gone");

        let copier = snapshot_id(&claim_key(world, &disk), case.id.parse().unwrap());
        let copying = Case { world, account: disk.account.clone(), arn: disk.arn.clone(), id: copier.to_string() };
        let made = copying.comes_to("Applied").await;
        assert_eq!(
            (&made["Detail"]["Made"], &made["Detail"]["Mode"]),
            (&snapshots[0]["SnapshotId"], &json!("Snapshot"))
        );
        assert_eq!(copying.told().await, [""; 0]);
        let applied = case.comes_to("Claimed").await;
        assert!(made["Timestamp"].as_i64() < applied["Timestamp"].as_i64(), "before the change");
        assert_eq!(world.state_value(&case.nothing_in_flight()).await.unwrap()["Running"], json!({}));

        let id = undo(world, &disk.account, &case.id, &claim_key(world, &disk)).await;
        let undoing = Case { world, account: disk.account.clone(), arn: disk.arn.clone(), id };
        undoing.is_approved().await;
        undoing.comes_to("RolledBack").await;
        assert_eq!(undoing.execution().await, "SUCCEEDED");
        case.comes_to("RolledBack").await;
        assert_eq!(modes(world, &disk.arn), ["DryRun", "Snapshot", "Apply", "DryRun", "Restore"]);
        assert_eq!(disk.state().await, before, "field by field");
        let refused = world.denied().into_iter().filter(|call| call.account == disk.account);
        assert_eq!(refused.map(|call| format!("{call:?}")).collect::<Vec<_>>(), [""; 0]);
    });
}

/// What only EC2.3 and the workflow's looking again need; `least_privilege` does not run these.
#[test]
fn every_line_that_volumes_need_is_used_and_none_is_missing() {
    all().run(async {
        let world = the_world().await;
        let disk = Disk::new(world, "lines").await;
        // One that fails half way removes what it made; then one that goes through.
        let denied = Action::Fail { status: 400, code: "InvalidParameterValue".to_owned() };
        let rule = Rule::new(denied).on("ec2", "AttachVolume").by("redress-remediate").in_account(&disk.account);
        world.bed.lab.faults().add(rule);
        disk.asks().await.comes_to("RolledBack").await;
        disk.asks().await.comes_to("Verified").await;
        let controls = redress_runbooks::load_controls(&root().join("ssm-documents/controls")).unwrap();
        let control = controls.iter().find(|control| control.id.as_str() == "EC2.3").unwrap();
        let of_control = redress_runbooks::iam::actions(control);
        let roles = [names::REMEDIATE_ROLE, "Redress-Remediate-EC2"];
        let mut lines = world.grants(&disk.account, |role| roles.contains(&role)).await;
        let waits = |line: &Grant| line.role == names::REMEDIATE_ROLE || line.action == "ec2:DescribeSnapshots";
        // Other controls are granted the same actions on what they need.
        let is_its = |line: &Grant| {
            let resource = line.resource.replace("arn:aws:", "arn:${AWS::Partition}:");
            let resource = resource.replace(&disk.account, "${AWS::AccountId}");
            of_control.get(&line.action).is_some_and(|resources| resources.contains(&resource))
        };
        lines.retain(|line| is_its(line) && waits(line));
        assert!(lines.len() >= of_control.len(), "{lines:?}");
        // AWS asks for it where something is made with its tags; the lab's moto does not.
        lines.retain(|line| line.action != "ec2:CreateTags");
        let calls = world.bed.lab.record().calls();
        let judged = calls.iter().flat_map(|call| call.checks.iter().map(move |check| (&call.principal, check)));
        let used: BTreeSet<Used> = judged
            .filter(|(_, check)| check.allowed)
            .filter_map(|(principal, check)| {
                let (account, role) = role_of(principal)?;
                Some(Used { role, account, action: check.action.clone(), resource: check.resource.clone() })
            })
            .collect();
        let left: String = unused(&lines, &used).iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(left, "", "granted, and used by nothing");
    });
}

#[test]
fn what_does_not_read_back_is_put_back_and_people_are_told_both() {
    all().run(async {
        let world = the_world().await;
        let disk = Disk::new(world, "unverified").await;
        let before = disk.state().await;
        // Before it is looked at again, somebody makes the new volume another one.
        let faults = world.bed.lab.faults();
        let freeze = Rule::new(Action::Freeze(Moment::After)).on("ec2", "AttachVolume").by("redress-remediate");
        let freeze = faults.add(freeze.in_account(&disk.account));
        let case = disk.asks().await;
        let new = world
            .eventually("the new volume is attached", async || {
                let used = disk.used().await;
                (used["VolumeId"].is_string() && used["VolumeId"] != disk.volume.as_str()).then_some(used)
            })
            .await;
        disk.ec2("ModifyVolume", json!({ "VolumeId": new["VolumeId"], "VolumeType": "gp2" })).await;
        faults.release(freeze);
        faults.remove(freeze);

        case.comes_to("Unverified").await;
        case.comes_to("RolledBack").await;
        assert_eq!(case.execution().await, "SUCCEEDED");
        assert_eq!(modes(world, &disk.arn), ["DryRun", "Snapshot", "Apply", "Restore"]);
        assert_eq!(disk.state().await, before);
        assert_eq!(
            case.states().await,
            ["Planned", "Planned", "Claimed", "Applied", "Unverified", "RolledBack"],
            "what was done, what it came to, and what became of it"
        );
        let told = TOLD.when(world, &disk.arn, "RolledBack").await;
        let back = told.iter().find(|(message, _)| message["Status"] == "RolledBack").unwrap();
        assert_ne!(back.0["RemediationId"], case.id.as_str(), "putting it back is a remediation of its own");
        assert_eq!(case.told().await, ["Unverified"]);
    });
}

#[test]
fn a_change_that_fails_half_way_is_put_back_and_what_it_made_is_removed() {
    all().run(async {
        let world = the_world().await;
        let disk = Disk::new(world, "refused").await;
        let before = disk.state().await;
        let denied = Action::Fail { status: 400, code: "InvalidParameterValue".to_owned() };
        let rule = Rule::new(denied).on("ec2", "AttachVolume").by("redress-remediate").in_account(&disk.account);
        let rule = world.bed.lab.faults().add(rule);
        let case = disk.asks().await;
        let failed = case.comes_to("Failed").await;
        case.comes_to("RolledBack").await;
        world.bed.lab.faults().remove(rule);
        assert!(failed["ErrorMessage"].as_str().unwrap().contains("the remediation failed"), "{failed:#}");
        assert_eq!(modes(world, &disk.arn), ["DryRun", "Snapshot", "Apply", "Restore"]);
        assert_eq!(disk.state().await, before);
        let (volumes, snapshots) = disk.made().await;
        assert_eq!((volumes.len(), snapshots.len()), (0, 1), "the new volume is gone, the safety copy stays");
        TOLD.when(world, &disk.arn, "Failed").await;
        TOLD.when(world, &disk.arn, "RolledBack").await;
    });
}

#[test]
fn on_a_running_instance_it_is_refused_with_the_exact_reason() {
    all().run(async {
        let world = the_world().await;
        let disk = Disk::new(world, "running").await;
        disk.ec2("StartInstances", json!({ "InstanceIds": [disk.instance] })).await;
        let before = disk.state().await;
        let case = disk.asks().await;
        case.comes_to("Failed").await;
        assert_eq!((case.execution().await.as_str(), modes(world, &disk.arn)), ("FAILED", vec!["DryRun".to_owned()]));
        let (volumes, snapshots) = disk.made().await;
        assert_eq!((disk.state().await, volumes.len(), snapshots.len()), (before, 0, 0));
        assert_eq!(case.told().await, ["Failed"]);
    });
}

#[test]
fn the_watchdog_stops_what_hangs_and_its_end_is_in_the_ledger() {
    all().run(async {
        let world = the_world().await;
        let account = world.member("hangs");
        let hang = Rule::new(Action::Freeze(Moment::Before)).on("s3", "PutObject").in_account(&account);
        let hang = world.bed.lab.faults().add(hang);
        let broken = world.break_it("public-bucket", &account).await;
        let arn = broken.resource_arn.as_str().to_owned();
        let is_failed =
            |record: &Value| record["Detail"]["Code"] == "workflow-failed" && record["ExecutionStatus"] == "Failed";
        let records = world.ledger_when(&account, "the workflow gives up", is_failed).await;
        let failed = records.iter().find(|record| is_failed(record)).unwrap();
        let stopped = |record: &&Value| {
            record["Detail"]["PlanFor"].is_null()
                && record["ExecutionStatus"] == "Failed"
                && record["RemediationId"] != failed["RemediationId"]
        };
        let end = records.iter().find(stopped).unwrap();
        assert!(end["ErrorMessage"].as_str().unwrap().contains("the runbook ended as Cancelled"), "{end:#}");
        assert!(end["Detail"]["ExecutionId"].is_string(), "the end of the run itself");
        assert_eq!((modes(world, &arn), &failed["NotificationSent"]), (vec!["DryRun".to_owned()], &json!(true)));
        let stops = world.bed.lab.record().calls().into_iter().filter(|call| {
            call.operation == "StopAutomationExecution" && call.principal.contains(names::CROSS_ACCOUNT_ROLE)
        });
        assert_eq!(stops.count(), 1, "through the role in the member account");
        world.bed.lab.faults().release(hang);
    });
}

#[test]
fn an_exemption_since_the_question_voids_the_approval() {
    all().run(async {
        let world = the_world().await;
        let account = world.member("exempt");
        let broken = world.break_it("public-bucket", &account).await;
        let arn = broken.resource_arn.as_str().to_owned();
        let asks = |record: &Value| record["ResourceId"] == arn.as_str() && record["ExecutionStatus"] == "AwaitingApproval";
        let records = world.ledger_when(&account, "people are asked", asks).await;
        let id = records.iter().find(|record| asks(record)).unwrap()["RemediationId"].as_str().unwrap().to_owned();
        let case = Case { world, account: account.clone(), arn: arn.clone(), id };
        case.plan().await;
        // Between the yes and the change: before that, nobody's yes would count.
        let freeze = Rule::new(Action::Freeze(Moment::Before)).on("dynamodb", "BatchGetItem").by("redress-workflow");
        let freeze = world.bed.lab.faults().add(freeze.containing(&case.id));
        case.is_approved().await;
        let exempt = json!({
            "Operation": "ExemptionAdd", "Id": "legacy-site", "Account": account, "Owner": "the web team", "Reason": "a test",
            "ExpiresAt": (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string(),
        });
        world.operate(exempt).await;
        world.bed.lab.faults().release(freeze);
        world.bed.lab.faults().remove(freeze);
        let last = case.comes_to("Failed").await;
        assert_eq!(last["Detail"]["Code"], "decision-void", "{last:#}");
        assert!(last["ErrorMessage"].as_str().unwrap().contains("exemption `legacy-site` holds"), "{last:#}");
        assert_eq!((case.execution().await.as_str(), modes(world, &arn)), ("FAILED", vec!["DryRun".to_owned()]));
    });
}
