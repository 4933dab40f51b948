//! Every control, end to end: what a dry run says is what an apply does, an undo puts back what was there before, and
//! nothing else is touched at any time.
//!
//! One table; a row is a control, what is bad, and the exact calls that mend it and put it back. One member account a
//! row, because some controls are of the whole account.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use redress_common::contract::Mode;
use redress_common::names;
use redress_lab::scenario::{self, Broken};
use redress_tests::ask::{Ended, Target};
use redress_tests::world::{World, world};
use serde_json::{Value, json};

/// A call; `$arn`, `$name` and `$account` in its parameters stand for the resource's.
type Step = (&'static str, &'static str, Value);

/// What somebody's change by hand, after the fix, means to an undo.
enum ByHand {
    /// The undo is refused.
    Drift(Step),
    /// It is the undo: nothing is left to be put back.
    Undo(Step),
}

struct Row {
    /// The member account's name.
    member: &'static str,
    control: &'static str,
    /// What makes the resource, and how its state is read.
    scenario: &'static str,
    /// What makes it bad, beyond the scenario.
    bad: Option<Step>,
    /// The change, exactly.
    change: Vec<Step>,
    /// The operations of the undo.
    undo: &'static [&'static str],
    /// From the state before to the state after.
    fix: Box<dyn Fn(&mut Value)>,
    by_hand: ByHand,
}

fn blocked(all: [bool; 4]) -> Value {
    let [acls, ignore, policy, restrict] = all;
    json!({ "BlockPublicAcls": acls, "IgnorePublicAcls": ignore, "BlockPublicPolicy": policy, "RestrictPublicBuckets": restrict })
}

fn block(all: [bool; 4]) -> Value {
    json!({ "Bucket": "$name", "ExpectedBucketOwner": "$account", "PublicAccessBlockConfiguration": blocked(all) })
}

fn bucket(member: &'static str, bad: Option<[bool; 4]>, undo: &'static [&'static str]) -> Row {
    Row {
        member,
        control: "S3.8",
        scenario: "public-bucket",
        bad: bad.map(|bad| ("s3", "PutPublicAccessBlock", block(bad))),
        change: vec![("s3", "PutPublicAccessBlock", block([true; 4]))],
        undo,
        fix: Box::new(|state| state["PublicAccessBlock"] = blocked([true; 4])),
        by_hand: ByHand::Drift(("s3", "PutPublicAccessBlock", block([true, true, true, false]))),
    }
}

/// A password policy that every control is content with, but for these settings.
fn policy(except: Value) -> Value {
    let mut policy = json!({
        "MinimumPasswordLength": 14, "RequireSymbols": true, "RequireNumbers": true, "RequireUppercaseCharacters": true,
        "RequireLowercaseCharacters": true, "AllowUsersToChangePassword": true, "MaxPasswordAge": 90,
        "PasswordReusePrevention": 24, "HardExpiry": false,
    });
    overlay(&mut policy, &except);
    policy
}

/// `null` takes a setting away.
fn overlay(value: &mut Value, with: &Value) {
    let map = value.as_object_mut().unwrap();
    for (name, setting) in with.as_object().unwrap() {
        match setting {
            Value::Null => drop(map.remove(name)),
            setting => drop(map.insert(name.clone(), setting.clone())),
        }
    }
}

/// What `GetAccountPasswordPolicy` answers for a policy.
fn as_read(policy: &Value) -> Value {
    let mut read = policy.clone();
    read["ExpirePasswords"] = policy["MaxPasswordAge"].is_number().into();
    read
}

/// `bad` are settings of the policy there is, `good` what the control makes of them; no `bad`: there is no policy.
fn passwords(member: &'static str, control: &'static str, bad: Option<Value>, good: Value) -> Row {
    let update = |policy: &Value| ("iam", "UpdateAccountPasswordPolicy", policy.clone());
    let bad = bad.map(policy);
    let good = policy(good);
    let mut other = good.clone();
    overlay(&mut other, &json!({ "MaxPasswordAge": 17 }));
    Row {
        member,
        control,
        scenario: "weak-password-policy",
        undo: if bad.is_some() { &["UpdateAccountPasswordPolicy"] } else { &["DeleteAccountPasswordPolicy"] },
        bad: Some(bad.as_ref().map_or(("iam", "DeleteAccountPasswordPolicy", json!({})), update)),
        change: vec![update(&good)],
        by_hand: ByHand::Drift(update(&other)),
        fix: Box::new(move |state| state["PasswordPolicy"] = as_read(&good)),
    }
}

fn ingress(cidr: &str, why: &str) -> Value {
    json!({ "CidrIp": cidr, "Description": why })
}

fn rows() -> Vec<Row> {
    let tags = json!({ "CostCenter": "unassigned", "Owner": "unassigned" });
    vec![
        bucket("s3-8", None, &["DeletePublicAccessBlock"]),
        bucket("s3-8-of-two", Some([true, false, true, false]), &["PutPublicAccessBlock"]),
        Row {
            member: "ec2-7",
            control: "EC2.7",
            scenario: "ebs-encryption-off",
            bad: None,
            change: vec![("ec2", "EnableEbsEncryptionByDefault", json!({}))],
            undo: &["DisableEbsEncryptionByDefault"],
            fix: Box::new(|state| state["EbsEncryptionByDefault"] = true.into()),
            by_hand: ByHand::Undo(("ec2", "DisableEbsEncryptionByDefault", json!({}))),
        },
        Row {
            member: "kms-4",
            control: "KMS.4",
            scenario: "key-rotation-off",
            bad: None,
            change: vec![("kms", "EnableKeyRotation", json!({ "KeyId": "$arn" }))],
            undo: &["DisableKeyRotation"],
            fix: Box::new(|state| state["KeyRotationEnabled"] = true.into()),
            by_hand: ByHand::Undo(("kms", "DisableKeyRotation", json!({ "KeyId": "$name" }))),
        },
        Row {
            member: "ec2-13",
            control: "EC2.13",
            scenario: "open-ssh",
            bad: None,
            change: vec![(
                "ec2",
                "RevokeSecurityGroupIngress",
                json!({ "GroupId": "$name", "IpPermissions": [{
                    "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
                    "IpRanges": [{ "CidrIp": "0.0.0.0/0" }], "Ipv6Ranges": [{ "CidrIpv6": "::/0" }],
                }] }),
            )],
            undo: &["AuthorizeSecurityGroupIngress"],
            fix: Box::new(|state| {
                let ssh =
                    state["Ingress"].as_array_mut().unwrap().iter_mut().find(|rule| rule["FromPort"] == 22).unwrap();
                ssh["IpRanges"] = json!([ingress("10.20.0.0/16", "office VPN")]);
                ssh["Ipv6Ranges"] = json!([]);
            }),
            by_hand: ByHand::Drift((
                "ec2",
                "AuthorizeSecurityGroupIngress",
                json!({ "GroupId": "$name", "IpPermissions": [{
                    "IpProtocol": "tcp", "FromPort": 8443, "ToPort": 8443, "IpRanges": [ingress("10.1.0.0/16", "by hand")],
                }] }),
            )),
        },
        passwords(
            "iam-7",
            "IAM.7",
            Some(
                json!({ "MinimumPasswordLength": 6, "RequireSymbols": false, "RequireUppercaseCharacters": false, "MaxPasswordAge": 60 }),
            ),
            json!({ "MinimumPasswordLength": 8, "MaxPasswordAge": 60 }),
        ),
        passwords(
            "iam-7-of-none",
            "IAM.7",
            None,
            json!({ "MinimumPasswordLength": 8, "AllowUsersToChangePassword": false, "MaxPasswordAge": null, "PasswordReusePrevention": null }),
        ),
        passwords("iam-11", "IAM.11", Some(json!({ "RequireUppercaseCharacters": false })), json!({})),
        passwords("iam-12", "IAM.12", Some(json!({ "RequireLowercaseCharacters": false })), json!({})),
        passwords("iam-13", "IAM.13", Some(json!({ "RequireSymbols": false })), json!({})),
        passwords("iam-14", "IAM.14", Some(json!({ "RequireNumbers": false })), json!({})),
        passwords("iam-15", "IAM.15", Some(json!({ "MinimumPasswordLength": 8 })), json!({})),
        passwords("iam-16", "IAM.16", Some(json!({ "PasswordReusePrevention": null })), json!({})),
        passwords("iam-17", "IAM.17", Some(json!({ "MaxPasswordAge": 365 })), json!({})),
        Row {
            member: "tag-required",
            control: "Tag.Required",
            scenario: "missing-tags",
            bad: None,
            change: vec![(
                "resourcegroupstaggingapi",
                "TagResources",
                json!({ "ResourceARNList": ["$arn"], "Tags": tags }),
            )],
            undo: &["UntagResources"],
            fix: Box::new(|state| {
                let tags = state["Tags"].as_array_mut().unwrap();
                tags.extend(["CostCenter", "Owner"].map(|key| json!({ "Key": key, "Value": "unassigned" })));
                tags.sort_by_key(ToString::to_string);
            }),
            by_hand: ByHand::Drift((
                "resourcegroupstaggingapi",
                "TagResources",
                json!({ "ResourceARNList": ["$arn"], "Tags": { "Owner": "payments" } }),
            )),
        },
    ]
}

/// Members that no row has: each is a test's own.
const OTHERS: [&str; 4] = ["gone", "seven-passwords", "port-ranges", "half-allowed"];

fn the_world() -> &'static World {
    let members: Vec<&str> = rows().iter().map(|row| row.member).chain(OTHERS).collect();
    world(&members)
}

/// A bad resource, and all that can be seen of it.
struct Subject {
    world: &'static World,
    broken: Broken,
    target: Target,
}

impl Subject {
    async fn new(world: &'static World, member: &str, scenario: &str, control: &str) -> Self {
        let account = world.member(member);
        let aws = world.bed.lab.aws();
        let broken =
            scenario::break_only(scenario, aws, &account.parse().unwrap(), &world.bed.organisation.region).await;
        let broken = broken.unwrap();
        let target = Target { account, control: control.to_owned(), arn: broken.resource_arn.to_string() };
        Self { world, broken, target }
    }

    fn name(&self) -> &str {
        self.target.arn.rsplit([':', '/']).next().unwrap()
    }

    fn parameters(&self, template: &Value) -> Value {
        let filled = template.to_string().replace("$arn", &self.target.arn).replace("$name", self.name());
        serde_json::from_str(&filled.replace("$account", &self.target.account)).unwrap()
    }

    /// A call by the account's own people.
    async fn by_hand(&self, (service, operation, parameters): &Step) {
        let done = self.world.call(&self.target.account, service, operation, self.parameters(parameters)).await;
        done.unwrap_or_else(|error| panic!("{service}:{operation}: {error}"));
    }

    async fn state(&self) -> Value {
        scenario::read_state(self.world.bed.lab.aws(), &self.broken).await.unwrap()
    }

    fn mark(&self) -> u64 {
        self.world.bed.lab.record().mark()
    }

    /// The changes that roles made in the account since a mark.
    fn changes(&self, since: u64) -> Vec<String> {
        self.world.changes_since(&self.target.account, since)
    }

    async fn asks(&self, mode: Mode) -> Ended {
        self.world.remediate(&self.target, mode).await
    }
}

/// The calls of an image's change, as the table writes them.
fn calls(change: &redress_common::contract::Change) -> Value {
    serde_json::to_value(change).unwrap()
}

/// What one row promises, from bad to good and back, and again.
async fn keeps_its_promises(world: &'static World, row: &Row) {
    let who = row.member;
    let subject = Subject::new(world, row.member, row.scenario, row.control).await;
    if let Some(bad) = &row.bad {
        subject.by_hand(bad).await;
    }
    let before = subject.state().await;
    let mut after = before.clone();
    (row.fix)(&mut after);
    assert_ne!(before, after, "{who}: the table's state before is bad");
    let change: Vec<Value> = row
        .change
        .iter()
        .map(|(service, operation, parameters)| {
            json!({ "Service": service, "Operation": operation, "Parameters": subject.parameters(parameters) })
        })
        .collect();
    let operations: Vec<&str> = row.change.iter().map(|(_, operation, _)| *operation).collect();

    let mark = subject.mark();
    let dry = subject.asks(Mode::DryRun).await;
    assert_eq!((dry.states(), dry.outcome()), (vec!["Planned", "Claimed", "Notified"], "Planned"), "{who}: dry run");
    let said = world.evidence(&subject.target.account, &dry).await;
    assert_eq!(calls(&said.before.change), json!(change), "{who}: the dry run says the exact change");
    assert_eq!(subject.state().await, before, "{who}: a dry run changes nothing");
    assert_eq!(subject.changes(mark), [""; 0], "{who}: a dry run makes no changing call");

    let mark = subject.mark();
    let applied = subject.asks(Mode::Apply).await;
    assert_eq!(applied.states(), ["Planned", "Claimed", "Applied", "Verified"], "{who}: {}", applied.error());
    assert_eq!(applied.outcome(), "Verified", "{who}");
    assert_eq!(subject.changes(mark), operations, "{who}: the changing calls are those of the dry run");
    assert_eq!(subject.state().await, after, "{who}: what was bad is good, and its neighbours are as they were");
    let done = world.evidence(&subject.target.account, &applied).await;
    assert_eq!(done.before, said.before, "{who}: the dry run and the apply saw and planned the same");
    let good = done.after.unwrap();
    assert_ne!(good, done.before.pre_image, "{who}: the evidence holds the state after");

    let mark = subject.mark();
    let again = subject.asks(Mode::Apply).await;
    assert_eq!(
        (again.states(), again.outcome()),
        (vec!["Planned", "Claimed", "Verified"], "AlreadyCompliant"),
        "{who}: defect 05"
    );
    assert_eq!(subject.changes(mark), [""; 0], "{who}: defect 05: what complies is not changed");

    let mark = subject.mark();
    let undone = world.undo(&subject.target, &applied.id).await;
    assert_eq!(
        (undone.last()["ExecutionStatus"].as_str(), undone.outcome()),
        (Some("RolledBack"), "Restored"),
        "{who}: {}",
        undone.error()
    );
    assert_eq!(subject.changes(mark), row.undo, "{who}: the undo's changing calls");
    assert_eq!(subject.state().await, before, "{who}: the undo puts back what was there before, field by field");
    let original = world.ledger(&subject.target.account).await;
    let original = original.iter().rfind(|record| record["RemediationId"] == *applied.id).unwrap();
    assert_eq!(original["ExecutionStatus"], "RolledBack", "{who}: the undone remediation says so");
    assert_eq!(original["Detail"]["UndoneBy"], *undone.id, "{who}");
    let back = world.evidence(&subject.target.account, &undone).await;
    assert_eq!(back.after.unwrap(), done.before.pre_image, "{who}: the undo's evidence ends in the pre-image");

    let mark = subject.mark();
    let rules = |record: &Value| record["RemediationType"] == "Automatic" && record["RemediationId"] != *undone.id;
    // Config alone reports the tags: there is no finding to choose an action on.
    let (finding, fixed) = if row.control == "Tag.Required" {
        scenario::notice(world.bed.lab.aws(), &subject.broken).await.unwrap();
        let held = world.ended(&subject.target.account, &format!("{who}: the finding after the undo"), rules).await;
        assert_eq!((held.states(), held.code()), (vec!["Planned", "Notified"], "held"), "{who}");
        assert_eq!(subject.changes(mark), [""; 0], "{who}: a rule does not act on what a person undid");
        (None, subject.asks(Mode::Apply).await)
    } else {
        let finding = world.found_failed(&subject.target).await;
        let held = world.ended(&subject.target.account, &format!("{who}: the finding after the undo"), rules).await;
        assert_eq!((held.states(), held.code()), (vec!["Planned", "Notified"], "held"), "{who}");
        let dry = world.choose(&subject.target, names::ACTION_DRY_RUN, &finding).await;
        assert_eq!((dry.last()["ExecutionStatus"].as_str(), dry.outcome()), (Some("Notified"), "Planned"), "{who}");
        assert_eq!(
            world.evidence(&subject.target.account, &dry).await.before,
            said.before,
            "{who}: a custom action says the same"
        );
        assert_eq!(subject.changes(mark), [""; 0], "{who}: a rule does not act on what a person undid");
        let fixed = world.choose(&subject.target, names::ACTION_REMEDIATE, &finding).await;
        (Some(finding), fixed)
    };
    assert_eq!(fixed.states().last(), Some(&"Verified"), "{who}: a person's request acts again: {}", fixed.error());
    assert_eq!(subject.changes(mark), operations, "{who}: a person's request acts again");
    assert_eq!(subject.state().await, after, "{who}");

    let (step, expected) = match &row.by_hand {
        ByHand::Drift(step) => (step, (Some("Failed"), "Drifted")),
        ByHand::Undo(step) => (step, (Some("RolledBack"), "Restored")),
    };
    subject.by_hand(step).await;
    let drifted = subject.state().await;
    assert_ne!(drifted, after, "{who}: something was changed by hand");
    let mark = subject.mark();
    let refused = match &finding {
        Some(finding) => world.choose(&subject.target, names::ACTION_UNDO, finding).await,
        None => world.undo(&subject.target, &fixed.id).await,
    };
    assert_eq!((refused.last()["ExecutionStatus"].as_str(), refused.outcome()), expected, "{who}: {}", refused.error());
    assert_eq!(subject.changes(mark), [""; 0], "{who}: nothing is put over what somebody else did");
    assert_eq!(subject.state().await, drifted, "{who}");
}

macro_rules! each_control {
    ($($name:ident: $member:literal,)*) => {
        $(#[test]
        fn $name() {
            let world = the_world();
            let row = rows().into_iter().find(|row| row.member == $member).unwrap();
            world.run(keeps_its_promises(world, &row));
        })*

        #[test]
        fn no_row_of_the_table_is_left_out() {
            let tested = [$($member),*];
            let rows: Vec<&str> = rows().iter().map(|row| row.member).collect();
            assert_eq!(rows, tested);
            let controls: std::collections::BTreeSet<&str> = self::rows().iter().map(|row| row.control).collect();
            let counted = redress_tests::coverage::BY_CONTROLS.into_iter().collect();
            assert_eq!(controls, counted, "what is counted as proven here is");
        }
    };
}

each_control! {
    s3_8_blocks_public_access_where_nothing_blocks_it_and_takes_the_block_away_again: "s3-8",
    s3_8_completes_a_block_of_two_settings_and_puts_the_two_back: "s3-8-of-two",
    ec2_7_turns_default_encryption_on_and_off_again: "ec2-7",
    kms_4_turns_key_rotation_on_and_off_again: "kms-4",
    ec2_13_closes_port_22_to_the_internet_and_opens_it_again: "ec2-13",
    iam_7_strengthens_a_password_policy_and_gives_the_old_one_back: "iam-7",
    iam_7_makes_a_password_policy_where_there_is_none_and_deletes_it_again: "iam-7-of-none",
    iam_11_asks_for_an_uppercase_letter_and_gives_the_old_policy_back: "iam-11",
    iam_12_asks_for_a_lowercase_letter_and_gives_the_old_policy_back: "iam-12",
    iam_13_asks_for_a_symbol_and_gives_the_old_policy_back: "iam-13",
    iam_14_asks_for_a_number_and_gives_the_old_policy_back: "iam-14",
    iam_15_asks_for_fourteen_characters_and_gives_the_old_policy_back: "iam-15",
    iam_16_prevents_reuse_and_gives_the_old_policy_back: "iam-16",
    iam_17_expires_passwords_and_gives_the_old_policy_back: "iam-17",
    tag_required_adds_the_missing_tags_and_removes_them_again: "tag-required",
}

#[test]
fn a_resource_that_is_gone_is_told_of_and_nothing_is_changed() {
    let world = the_world();
    world.run(async {
        let account = world.member("gone");
        let table = [
            ("S3.8", "arn:aws:s3:::nobodys-bucket-7f3a".to_owned(), "NotFound"),
            ("KMS.4", format!("arn:aws:kms:us-east-1:{account}:key/5f0d0c1e-7c6e-4c53-9d35-7f3f6c1f6a43"), "NotFound"),
            ("EC2.13", format!("arn:aws:ec2:us-east-1:{account}:security-group/sg-0123456789abcdef0"), "NotFound"),
            // The tagging API does not say whether there is no resource or no tag on it: to tag it fails.
            ("Tag.Required", "arn:aws:s3:::nobodys-bucket-7f3a".to_owned(), "Failed"),
        ];
        let mark = world.bed.lab.record().mark();
        for (control, arn, outcome) in table {
            let target = Target { account: account.clone(), control: control.to_owned(), arn };
            let dry = world.remediate(&target, Mode::DryRun).await;
            assert_eq!(dry.states().last(), Some(&"Notified"), "{control}: {}", dry.error());
            let applied = world.remediate(&target, Mode::Apply).await;
            assert_eq!(
                (applied.states(), applied.outcome()),
                (vec!["Planned", "Claimed", "Failed"], outcome),
                "{control}: {}",
                applied.error()
            );
            assert_ne!(applied.error(), "", "{control}: it says why");
            if outcome == "NotFound" {
                assert_eq!(dry.outcome(), "NotFound", "{control}: the dry run says so, too");
            }
        }
        assert_eq!(world.changes_since(&account, mark), ["TagResources"], "nothing else was tried");
    });
}

/// An ingress rule that the internet may use, or a private network.
fn permission(protocol: &str, ports: Option<(u16, u16)>, sources: &[&str]) -> Value {
    let (v6, v4): (Vec<&str>, Vec<&str>) = sources.iter().partition(|source| source.contains(':'));
    let mut permission = json!({
        "IpProtocol": protocol,
        "IpRanges": v4.iter().map(|cidr| ingress(cidr, "as agreed")).collect::<Vec<_>>(),
        "Ipv6Ranges": v6.iter().map(|cidr| json!({ "CidrIpv6": cidr, "Description": "as agreed" })).collect::<Vec<_>>(),
    });
    if let Some((from, to)) = ports {
        permission["FromPort"] = from.into();
        permission["ToPort"] = to.into();
    }
    permission
}

/// Each single rule of a group: protocol, ports, source, description.
fn single_rules(state: &Value) -> Vec<String> {
    let mut rules = Vec::new();
    for rule in state["Ingress"].as_array().unwrap() {
        for (list, cidr) in [("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")] {
            for source in rule[list].as_array().into_iter().flatten() {
                let ports = format!("{}-{}", rule["FromPort"], rule["ToPort"]);
                let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
                rules.push(format!(
                    "{} {ports} {} {}",
                    text(&rule["IpProtocol"]),
                    text(&source[cidr]),
                    text(&source["Description"])
                ));
            }
        }
    }
    rules.sort();
    rules
}

/// A security group with these rules and no others.
async fn group(world: &'static World, member: &str, permissions: Value) -> Subject {
    let subject = Subject::new(world, member, "open-ssh", "EC2.13").await;
    let there = world
        .call(&subject.target.account, "ec2", "DescribeSecurityGroups", json!({ "GroupIds": [subject.name()] }))
        .await
        .unwrap();
    let there = there["SecurityGroups"][0]["IpPermissions"].clone();
    subject
        .by_hand(&("ec2", "RevokeSecurityGroupIngress", json!({ "GroupId": "$name", "IpPermissions": there })))
        .await;
    subject
        .by_hand(&("ec2", "AuthorizeSecurityGroupIngress", json!({ "GroupId": "$name", "IpPermissions": permissions })))
        .await;
    subject
}

#[test]
fn defect_13_closing_port_22_leaves_private_networks_and_the_rest_of_a_range_open() {
    let world = the_world();
    world.run(async {
        let table = [
            (
                "a private network beside the internet",
                json!([permission("tcp", Some((22, 22)), &["0.0.0.0/0", "10.20.0.0/16", "192.168.7.0/24"])]),
                vec!["tcp 22-22 10.20.0.0/16 as agreed", "tcp 22-22 192.168.7.0/24 as agreed"],
            ),
            (
                "a range",
                json!([permission("tcp", Some((20, 25)), &["0.0.0.0/0", "::/0", "10.0.0.0/8"])]),
                vec![
                    "tcp 20-21 0.0.0.0/0 as agreed",
                    "tcp 20-21 ::/0 as agreed",
                    "tcp 20-25 10.0.0.0/8 as agreed",
                    "tcp 23-25 0.0.0.0/0 as agreed",
                    "tcp 23-25 ::/0 as agreed",
                ],
            ),
            (
                "every port",
                json!([
                    permission("tcp", Some((0, 65535)), &["0.0.0.0/0"]),
                    permission("udp", Some((0, 65535)), &["0.0.0.0/0"])
                ]),
                vec![
                    "tcp 0-21 0.0.0.0/0 as agreed",
                    "tcp 23-65535 0.0.0.0/0 as agreed",
                    "udp 0-65535 0.0.0.0/0 as agreed",
                ],
            ),
            (
                "a part that is open already",
                json!([
                    permission("tcp", Some((22, 25)), &["0.0.0.0/0"]),
                    permission("tcp", Some((23, 25)), &["0.0.0.0/0"])
                ]),
                vec!["tcp 23-25 0.0.0.0/0 as agreed"],
            ),
        ];
        for (what, permissions, expected) in table {
            let subject = group(world, "port-ranges", permissions).await;
            let before = subject.state().await;
            let dry = subject.asks(Mode::DryRun).await;
            let said = world.evidence(&subject.target.account, &dry).await;
            let mark = subject.mark();
            let applied = subject.asks(Mode::Apply).await;
            assert_eq!(applied.states().last(), Some(&"Verified"), "{what}: {}", applied.error());
            assert_eq!(subject.changes(mark), said.operations(), "{what}: as the dry run said");
            assert_eq!(single_rules(&subject.state().await), expected, "{what}");
            let undone = world.undo(&subject.target, &applied.id).await;
            assert_eq!(undone.states().last(), Some(&"RolledBack"), "{what}: {}", undone.error());
            assert_eq!(subject.state().await, before, "{what}: the undo puts the rules back");
        }
    });
}

#[test]
fn defect_06_a_change_that_is_made_in_part_is_a_failure_and_can_be_undone() {
    let world = the_world();
    world.run(async {
        let subject = group(world, "half-allowed", json!([permission("tcp", Some((20, 25)), &["0.0.0.0/0"])])).await;
        let before = subject.state().await;
        let account = subject.target.account.clone();
        let mut lines = world.grants(&account, |role| role == names::REMEDIATE_ROLE).await;
        lines.retain(|line| line.action == "ec2:RevokeSecurityGroupIngress");
        lines.dedup_by_key(|line| line.policy.clone());
        let mut taken = Vec::new();
        for line in lines {
            let whole = world.role_policy(&account, &line.role, &line.policy).await;
            let text = whole.to_string().replace("ec2:RevokeSecurityGroupIngress", "ec2:DescribeSecurityGroups");
            world.put_role_policy(&line, &serde_json::from_str(&text).unwrap()).await;
            taken.push((line, whole));
        }
        assert_eq!(taken.len(), 1, "one policy lets the function revoke");

        let mark = subject.mark();
        let applied = subject.asks(Mode::Apply).await;
        assert_eq!(applied.states(), ["Planned", "Claimed", "Failed"], "{}", applied.error());
        assert_eq!(applied.outcome(), "Failed");
        assert_eq!(subject.changes(mark), ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"]);
        let refused = world.denied().into_iter().filter(|call| call.seq >= mark && call.account == account);
        let refused: Vec<String> = refused.map(|call| call.operation).collect();
        assert_eq!(refused, ["RevokeSecurityGroupIngress"], "only what was taken away is refused");
        assert_eq!(
            single_rules(&subject.state().await).len(),
            3,
            "the rules of the rest were added, the open one stays"
        );
        let evidence = world.evidence(&account, &applied).await;
        assert_eq!(evidence.outcome, Some(redress_common::contract::Outcome::Failed));

        for (line, whole) in &taken {
            world.put_role_policy(line, whole).await;
        }
        let undone = world.undo(&subject.target, &applied.id).await;
        assert_eq!(undone.states().last(), Some(&"RolledBack"), "{}", undone.error());
        assert_eq!(subject.state().await, before, "what was done in part is undone");
    });
}

#[test]
fn defect_12_seven_password_fixes_in_sequence_leave_all_seven_settings() {
    let world = the_world();
    world.run(async {
        let mut subject = Subject::new(world, "seven-passwords", "weak-password-policy", "IAM.11").await;
        let weakest = json!({ "MinimumPasswordLength": 6, "AllowUsersToChangePassword": true, "HardExpiry": false });
        subject.by_hand(&("iam", "UpdateAccountPasswordPolicy", weakest)).await;
        let mut remediations = vec![(String::new(), subject.state().await)];
        for control in ["IAM.11", "IAM.12", "IAM.13", "IAM.14", "IAM.15", "IAM.16", "IAM.17"] {
            control.clone_into(&mut subject.target.control);
            let mark = subject.mark();
            let applied = subject.asks(Mode::Apply).await;
            assert_eq!(applied.outcome(), "Verified", "{control}: {}", applied.error());
            assert_eq!(subject.changes(mark), ["UpdateAccountPasswordPolicy"], "{control}");
            remediations.push((applied.id, subject.state().await));
        }
        let (last, end) = remediations.last().unwrap();
        assert_eq!(end["PasswordPolicy"], as_read(&policy(json!({}))), "all seven settings, and what was there before");
        let undone = world.undo(&subject.target, last).await;
        assert_eq!(undone.states().last(), Some(&"RolledBack"), "{}", undone.error());
        assert_eq!(subject.state().await, remediations[6].1, "the undo of the last leaves the six");

        "IAM.11".clone_into(&mut subject.target.control);
        let refused = world.undo(&subject.target, &remediations[1].0).await;
        assert_eq!(refused.outcome(), "Drifted", "the undo of the first would take five with it: {}", refused.error());
        assert_eq!(subject.state().await, remediations[6].1);
    });
}
