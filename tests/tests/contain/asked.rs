//! Playbooks that nobody reports and a person asks for: each contains, and gives back what was there.

use super::*;

/// Containing by hand, then the undo.
async fn contained_and_given_back<S: PartialEq + std::fmt::Debug>(
    world: &World,
    target: &Target,
    state: impl AsyncFn() -> S,
    contained: &S,
) {
    let before = state().await;
    assert_ne!(before, *contained);
    let asked = world.remediate(target, Mode::Apply).await;
    assert_eq!((asked.outcome(), asked.error()), ("Verified", ""), "{}", target.arn);
    assert_eq!(state().await, *contained, "{}", target.arn);
    let again = world.remediate(target, Mode::Apply).await;
    assert_eq!(again.outcome(), "AlreadyCompliant", "contained twice is once");
    let undone = world.undo(target, &asked.id).await;
    assert_eq!((undone.outcome(), undone.error()), ("Restored", ""), "{}", target.arn);
    assert_eq!(state().await, before, "{}", target.arn);
}

#[test]
fn a_shared_snapshot_of_a_database_and_of_a_cluster_are_shared_with_nobody_until_they_are_given_back() {
    in_turn(async |world| {
        let account = world.member("database");
        let mark = world.bed.lab.record().mark();
        let rds = async |operation: &str, asked: Value| call(world, &account, "rds", operation, asked).await;
        let database = database(world, &account).await;
        let who = format!("final-{}", Uuid::new_v4().simple());
        let made = json!({ "DBInstanceIdentifier": name(&database), "DBSnapshotIdentifier": who });
        rds("CreateDBSnapshot", made).await;
        let cluster = json!({
            "DBClusterIdentifier": who, "Engine": "aurora-postgresql", "MasterUsername": "owner",
            "MasterUserPassword": "not-a-secret-1",
        });
        rds("CreateDBCluster", cluster).await;
        rds("CreateDBClusterSnapshot", json!({ "DBClusterIdentifier": who, "DBClusterSnapshotIdentifier": who })).await;
        for (of, arn) in [("DBSnapshot", "snapshot"), ("DBClusterSnapshot", "cluster-snapshot")] {
            let id = format!("{of}Identifier");
            let shared = json!({ &id: who, "AttributeName": "restore", "ValuesToAdd": ["all", "444455556666"] });
            rds(&format!("Modify{of}Attribute"), shared).await;
            let state = async || {
                let told = rds(&format!("Describe{of}Attributes"), json!({ &id: who })).await;
                let attributes = told[format!("{of}AttributesResult")][format!("{of}Attributes")].clone();
                let restore = attributes.as_array().unwrap().iter().filter(|one| one["AttributeName"] == "restore");
                let values = restore.flat_map(|one| one["AttributeValues"].as_array().cloned().unwrap_or_default());
                values.map(|value| value.as_str().unwrap().to_owned()).collect::<BTreeSet<String>>()
            };
            let target = Target {
                account: account.clone(),
                control: "Contain.RDSSnapshot".to_owned(),
                arn: format!("arn:aws:rds:{}:{account}:{arn}:{who}", world.region()),
            };
            contained_and_given_back(world, &target, state, &BTreeSet::new()).await;
        }
        let unused = unused_of(world, &account, &names::contain_role("Data"), mark).await;
        assert!(
            unused.iter().all(|line| !line.contains("SnapshotAttribute")),
            "granted and used by nothing: {unused:?}"
        );
    });
}

#[test]
fn a_role_that_may_do_nothing_gets_its_rights_back() {
    in_turn(async |world| {
        let account = world.member("people");
        let target = Target { control: "Contain.IAMRoleDenyAll".to_owned(), ..role(world, &account).await };
        let who = name(&target);
        let state = async || {
            let asked = json!({ "RoleName": who });
            let listed = call(world, &account, "iam", "ListRolePolicies", asked).await["PolicyNames"].clone();
            let mut documents = Vec::new();
            for policy in listed.as_array().into_iter().flatten() {
                let asked = json!({ "RoleName": who, "PolicyName": policy });
                let document = call(world, &account, "iam", "GetRolePolicy", asked).await["PolicyDocument"].clone();
                documents.push((policy.clone(), document["Statement"][0]["Condition"].clone()));
            }
            documents
        };
        // No condition: every session, also new ones.
        let denied = vec![(json!("redress-contain"), Value::Null)];
        contained_and_given_back(world, &target, state, &denied).await;
    });
}

#[test]
fn the_keys_of_a_user_are_inactive_until_they_are_given_back() {
    in_turn(async |world| {
        let account = world.member("people");
        let target = Target { control: "Contain.IAMUserKeys".to_owned(), ..user(world, &account).await };
        let named = json!({ "UserName": name(&target) });
        let iam = async |operation: &str| call(world, &account, "iam", operation, named.clone()).await;
        iam("CreateAccessKey").await;
        let state = async || {
            let keys = iam("ListAccessKeys").await["AccessKeyMetadata"].clone();
            let statuses: Vec<Value> = keys.as_array().unwrap().iter().map(|key| key["Status"].clone()).collect();
            (statuses, iam("ListUserPolicies").await["PolicyNames"].clone())
        };
        let keys = state().await.0.len();
        assert!(keys > 0);
        let contained = (vec![json!("Inactive"); keys], json!(["redress-contain"]));
        contained_and_given_back(world, &target, state, &contained).await;
    });
}
