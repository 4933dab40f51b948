//! What cannot be undone: asked for by one, agreed to by another, and only after a last snapshot.
//!
//! EC2 is moto's: its snapshots are complete at once. That SSM waits is seen in the call; how long it would wait is not.

use std::collections::BTreeMap;

use redress_common::contract::snapshot_id;
use redress_common::state::State;

use super::*;

/// A request that waits for somebody else's yes.
struct Question<'a> {
    world: &'a World,
    target: Target,
    id: String,
    plan: String,
}

impl<'a> Question<'a> {
    /// Asks as `jo`, and waits until people are asked.
    async fn by_jo(world: &'a World, contained: &Target, control: &str) -> Self {
        let (target, id) = asked_by_jo(world, contained, control).await;
        let is_asked = |record: &Value| {
            record["RemediationId"] == *id
                && record["ExecutionStatus"] == "AwaitingApproval"
                && record["NotificationSent"] == true
        };
        let records = world.ledger_when(&target.account, "people are asked", is_asked).await;
        let record = records.iter().rev().find(|record| is_asked(record)).unwrap();
        let plan = record["Detail"]["PlanSha256"].as_str().unwrap().to_owned();
        Self { world, plan, id, target }
    }

    /// An answer; what the door says of it.
    async fn answered_by(&self, who: &str, yes: bool) -> (u16, Value) {
        let answer = json!({
            "Operation": "Answer", "RemediationId": self.id, "Approve": yes, "PlanSha256": self.plan,
            "Reason": "looked at it",
        });
        let by = self.world.operator_called(who).await;
        let url = self.world.api_url(&by).await;
        self.world.asks_as(&by, &url, &answer).await
    }

    async fn comes_to(&self, status: &str) -> Ended {
        ended(self.world, &self.target, &self.id, status).await
    }
}

/// Asks as `jo`: of what, and the remediation that it became.
async fn asked_by_jo(world: &World, contained: &Target, control: &str) -> (Target, String) {
    let request = Uuid::new_v4().to_string();
    let ask = json!({
        "Operation": "Remediate", "Control": control, "AccountId": contained.account, "Region": world.region(),
        "ResourceArn": contained.arn, "Mode": "Apply", "Reason": "INC-4711 is over", "RequestId": request,
    });
    let jo = world.operator_called("jo").await;
    let url = world.api_url(&jo).await;
    let (status, said) = world.asks_as(&jo, &url, &ask).await;
    assert_eq!(status, 200, "{said}");
    let is_its = |record: &Value| record["FindingId"].as_str().is_some_and(|finding| finding.contains(&request));
    let records = world.ledger_when(&contained.account, "it is decided", is_its).await;
    let id = records.iter().find(|record| is_its(record)).unwrap()["RemediationId"].as_str().unwrap().to_owned();
    (Target { control: control.to_owned(), ..contained.clone() }, id)
}

/// The records of a remediation that has ended so.
async fn ended(world: &World, target: &Target, id: &str, status: &str) -> Ended {
    let is_end = |record: &Value| {
        let state = record["ExecutionStatus"].as_str().unwrap_or_default();
        record["RemediationId"] == *id && state.parse::<State>().is_ok_and(State::is_terminal)
    };
    let records = world.ledger_when(&target.account, &format!("{id} ends"), is_end).await;
    let records: Vec<Value> = records.into_iter().filter(|record| record["RemediationId"] == *id).collect();
    let last = records.last().unwrap();
    assert_eq!(last["ExecutionStatus"], status, "{last:#}");
    Ended { records, id: id.to_owned() }
}

/// A contained instance of two volumes: what it is called by, and its volumes.
async fn contained(world: &World, account: &str) -> (Target, Vec<String>) {
    let target = instance(world, account, json!([])).await;
    let ec2 = async |operation: &str, asked: Value| call(world, account, "ec2", operation, asked).await;
    let id = json!({ "InstanceIds": [name(&target)] });
    let told = ec2("DescribeInstances", id.clone()).await["Reservations"][0]["Instances"][0].clone();
    let asked = json!({ "AvailabilityZone": told["Placement"]["AvailabilityZone"], "Size": 20, "VolumeType": "gp3" });
    let second = ec2("CreateVolume", asked).await["VolumeId"].clone();
    ec2("AttachVolume", json!({ "VolumeId": second, "InstanceId": name(&target), "Device": "/dev/sdf" })).await;
    let told = ec2("DescribeInstances", id).await["Reservations"][0]["Instances"][0].clone();
    let disks = told["BlockDeviceMappings"].as_array().unwrap().iter();
    let volumes: Vec<String> = disks.map(|disk| disk["Ebs"]["VolumeId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(volumes.len(), 2, "{told:#}");
    let done = world.remediate(&target, Mode::Apply).await;
    assert_eq!((done.outcome(), done.error()), ("Verified", ""));
    assert!(is_isolated(&state(world, &target).await));
    (target, volumes)
}

/// The last snapshots of an instance: volume and state of each, by id.
async fn last_snapshots(world: &World, target: &Target) -> BTreeMap<String, (String, String)> {
    let own = json!([{ "Name": "tag:redress:instance", "Values": [name(target)] }]);
    let found = call(world, &target.account, "ec2", "DescribeSnapshots", json!({ "Filters": own })).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |one: &Value| (text(&one["SnapshotId"]), (text(&one["VolumeId"]), text(&one["State"])));
    found["Snapshots"].as_array().into_iter().flatten().map(one).collect()
}

async fn standing(world: &World, remediation: &str) -> Value {
    redress(world, &["case", "show", remediation, "--json"]).await["Case"]["Standing"].clone()
}

/// The operations that destroy, since a mark.
fn destroyed_since(world: &World, account: &str, mark: u64) -> Vec<String> {
    let changes = world.changes_since(account, mark).into_iter();
    changes.filter(|operation| ["TerminateInstances", "DeleteAccessKey"].contains(&operation.as_str())).collect()
}

#[test]
fn a_contained_instance_is_terminated_by_two_people_after_its_last_snapshots() {
    in_turn(async |world| {
        let account = world.member("destroyed");
        let (instance, volumes) = contained(world, &account).await;
        let before = state(world, &instance).await;
        let mark = world.bed.lab.record().mark();

        let question = Question::by_jo(world, &instance, "Destroy.EC2Instance").await;
        assert_eq!(standing(world, &question.id).await, "Asked");
        let (status, refused) = question.answered_by("jo", true).await;
        assert_eq!((status, &refused["Code"]), (403, &json!("four-eyes")), "{refused}");
        assert_eq!(state(world, &instance).await, before);
        assert_eq!(world.changes_since(&account, mark), [""; 0], "a question changes nothing");

        assert_eq!(question.answered_by("anna", true).await.0, 200);
        let done = question.comes_to("Verified").await;
        assert_eq!((done.outcome(), done.error()), ("Verified", ""));
        let told = call(world, &account, "ec2", "DescribeInstances", json!({ "InstanceIds": [name(&instance)] })).await;
        let gone = told["Reservations"][0]["Instances"][0]["State"]["Name"].clone();
        assert!(["shutting-down", "terminated"].contains(&gone.as_str().unwrap()), "{gone}");
        let taken = last_snapshots(world, &instance).await;
        let of: BTreeSet<&String> = taken.values().map(|(volume, _)| volume).collect();
        assert_eq!(of, volumes.iter().collect(), "one of every volume");
        assert!(taken.values().all(|(_, state)| state == "completed"), "{taken:?}");
        let changes = world.changes_since(&account, mark);
        assert_eq!(changes, ["CreateSnapshots", "ModifyInstanceAttribute", "TerminateInstances"]);

        // By the one role that may, whose every right for it is used.
        assert!(
            calls_of(world, names::REMEDIATE_ROLE, mark).is_empty(),
            "the function of all other controls has no part"
        );
        let unused = unused_of(world, &account, names::DESTROY_ROLE, mark).await;
        // The first is for members of Auto Scaling groups; AWS judges the others by each resource that they name, the lab by
        // one of them.
        let others = ["autoscaling:DescribeAutoScalingInstances", "ec2:CreateSnapshots", "ec2:CreateTags", "iam:"];
        assert!(
            unused.iter().all(|line| others.iter().any(|other| line.starts_with(other))),
            "granted and used by nothing: {unused:?}"
        );

        // The ledger tells who asked, who agreed to which plan, the snapshots before the end, and the end.
        let records = world.ledger(&account).await;
        let yes = done.records.iter().find(|record| record["Detail"]["Code"] == "approved").unwrap();
        assert!(yes["Detail"]["AnsweredBy"].as_str().unwrap().ends_with("/anna"), "{yes:#}");
        assert!(done.records[0]["Detail"]["RequestedBy"].as_str().unwrap().ends_with("/jo"));
        let key = redress_common::ids::ClaimKey::new(
            &account.parse().unwrap(),
            &world.region().parse().unwrap(),
            &question.target.control.parse().unwrap(),
            &instance.arn.parse().unwrap(),
        );
        let copier = snapshot_id(&key, question.id.parse().unwrap()).to_string();
        let is_made = |record: &&Value| record["RemediationId"] == *copier && record["ExecutionStatus"] == "Applied";
        let made = records.iter().find(is_made).unwrap();
        assert_eq!(made["Detail"]["Made"], taken.keys().cloned().collect::<Vec<_>>().join("/"));
        let claimed = done.records.iter().rfind(|record| record["ExecutionStatus"] == "Claimed").unwrap();
        assert!(made["Timestamp"].as_i64() < claimed["Timestamp"].as_i64(), "before the change");
        verified(world, &account).await;
        let evidence = world.evidence(&account, &done).await;
        assert_eq!(evidence.before.pre_image.state["InstanceId"], name(&instance));
        assert_eq!(standing(world, &question.id).await, "Destroyed");

        // Nothing brings it back, and the refusal says so.
        let undone = world.undo(&question.target, &question.id).await;
        assert_eq!(undone.states().last(), Some(&"Failed"));
        assert!(undone.error().contains("cannot be had back"), "{}", undone.error());
        assert_eq!(standing(world, &question.id).await, "Destroyed");
        assert_eq!(last_snapshots(world, &instance).await, taken, "evidence stays");
        let refused = world.denied().into_iter().filter(|call| call.account == account);
        assert_eq!(refused.map(|call| format!("{call:?}")).collect::<Vec<_>>(), [""; 0]);
    });
}

#[test]
fn what_is_denied_or_not_contained_is_not_destroyed() {
    in_turn(async |world| {
        let account = world.member("destroyed");
        let (denied, _) = contained(world, &account).await;
        let free = instance(world, &account, json!([])).await;
        let before = (state(world, &denied).await, state(world, &free).await);
        let mark = world.bed.lab.record().mark();

        let question = Question::by_jo(world, &denied, "Destroy.EC2Instance").await;
        assert_eq!(question.answered_by("anna", false).await.0, 200);
        question.comes_to("Denied").await;
        assert_eq!(standing(world, &question.id).await, "Contained");

        let (target, id) = asked_by_jo(world, &free, "Destroy.EC2Instance").await;
        let refused = ended(world, &target, &id, "Failed").await;
        assert!(refused.error().contains("not contained by Redress"), "{}", refused.error());
        assert_eq!((state(world, &denied).await, state(world, &free).await), before);
        assert_eq!(world.changes_since(&account, mark), [""; 0]);
    });
}

#[test]
fn snapshots_that_fail_leave_the_instance_contained() {
    in_turn(async |world| {
        let account = world.member("destroyed");
        let (instance, _) = contained(world, &account).await;
        let before = state(world, &instance).await;
        let mark = world.bed.lab.record().mark();
        let failed = Action::Fail { status: 400, code: "SnapshotLimitExceeded".to_owned() };
        let rule = Rule::new(failed).on_operation("CreateSnapshots").in_account(&account).by(names::DESTROY_ROLE);
        let rule = world.bed.lab.faults().add(rule.always().and_retries());
        let question = Question::by_jo(world, &instance, "Destroy.EC2Instance").await;
        assert_eq!(question.answered_by("anna", true).await.0, 200);
        let ended = question.comes_to("Failed").await;
        world.bed.lab.faults().remove(rule);
        assert!(ended.error().contains("CreateSnapshots"), "{}", ended.error());
        assert_eq!(state(world, &instance).await, before);
        assert_eq!(destroyed_since(world, &account, mark), [""; 0]);
        assert_eq!(standing(world, &question.id).await, "Contained");
    });
}

#[test]
fn the_keys_of_a_contained_user_are_deleted_by_two_people_when_they_are_inactive() {
    in_turn(async |world| {
        let account = world.member("destroyed");
        let who = format!("intruder-{}", Uuid::new_v4().simple());
        let iam = async |operation: &str, asked: Value| call(world, &account, "iam", operation, asked).await;
        iam("CreateUser", json!({ "UserName": who })).await;
        let made = iam("CreateAccessKey", json!({ "UserName": who })).await["AccessKey"].clone();
        let (key, secret) = (made["AccessKeyId"].as_str().unwrap(), made["SecretAccessKey"].as_str().unwrap());
        let user = |control: &str| Target {
            account: account.clone(),
            control: control.to_owned(),
            arn: format!("arn:aws:iam::{account}:user/{who}"),
        };
        let keys = async || iam("ListAccessKeys", json!({ "UserName": who })).await["AccessKeyMetadata"].clone();
        let mark = world.bed.lab.record().mark();
        let refused = async |why: &str| {
            let (target, id) = asked_by_jo(world, &user("Destroy.IAMUserKeys"), "Destroy.IAMUserKeys").await;
            let refused = ended(world, &target, &id, "Failed").await;
            assert!(refused.error().contains(why), "{}", refused.error());
        };

        refused("not contained by Redress").await;
        let contained = world.remediate(&user("Contain.IAMUser"), Mode::Apply).await;
        assert_eq!((contained.outcome(), contained.error()), ("Verified", ""));
        refused("is active").await;
        let inactive = world.remediate(&user("Contain.IAMUserKeys"), Mode::Apply).await;
        assert_eq!((inactive.outcome(), inactive.error()), ("Verified", ""));
        assert_eq!(keys().await[0]["Status"], "Inactive");
        assert_eq!(destroyed_since(world, &account, mark), [""; 0]);

        let question = Question::by_jo(world, &user("Destroy.IAMUserKeys"), "Destroy.IAMUserKeys").await;
        let (status, told) = question.answered_by("jo", true).await;
        assert_eq!((status, &told["Code"]), (403, &json!("four-eyes")), "{told}");
        assert_eq!(question.answered_by("anna", true).await.0, 200);
        let done = question.comes_to("Verified").await;
        assert_eq!((done.outcome(), done.error()), ("Verified", ""));
        assert_eq!(keys().await, json!([]));
        assert_eq!(destroyed_since(world, &account, mark), ["DeleteAccessKey"]);
        assert_eq!(standing(world, &question.id).await, "Destroyed");
        let evidence = world.evidence(&account, &done).await.before;
        let (kept, text) = (&evidence.pre_image.state["Keys"][0], json!(evidence).to_string());
        assert_eq!((&kept["AccessKeyId"], &kept["Status"]), (&json!(key), &json!("Inactive")));
        assert!(!text.contains(secret), "no secret is in it");

        assert!(
            calls_of(world, names::REMEDIATE_ROLE, mark).is_empty(),
            "the function of all other controls has no part"
        );
        let unused = unused_of(world, &account, names::DESTROY_ROLE, mark).await;
        let unused: Vec<&String> = unused.iter().filter(|line| line.starts_with("iam:")).collect();
        assert!(unused.is_empty(), "granted and used by nothing: {unused:?}");

        let undone = world.undo(&question.target, &question.id).await;
        assert_eq!(undone.states().last(), Some(&"Failed"));
        assert!(undone.error().contains("cannot be had back"), "{}", undone.error());
        let policies = iam("ListUserPolicies", json!({ "UserName": who })).await["PolicyNames"].clone();
        assert_eq!(policies, json!(["redress-contain"]), "the user stays contained");
    });
}
