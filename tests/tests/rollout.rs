//! From nothing to working, back, and again: `redress deploy` over an organisation of accounts and two Regions, through the lab's
//! CloudFormation StackSets, by the command that people run.
//!
//! `REDRESS_ROLLOUT_ACCOUNTS` says how many member accounts (3), `REDRESS_ROLLOUT_REMEDIATIONS` how many remediations are
//! under way while it is upgraded (50).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use redress_common::ids::Region;
use redress_common::{automation_rules, names};
use redress_lab::bed::Bed;
use redress_lab::organisation::Plan;
use redress_lab::record::Call;
use redress_lab::release;
use redress_lab::scenario;
use redress_lab::service::Credentials;
use redress_tests::world::{World, binaries, has_time, options, root};
use serde_json::{Value, json};

const ADMINISTRATOR: &str = "111111111111";
const HOME: &str = "us-east-1";
const THERE: &str = "eu-west-1";

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// An organisation, a folder with a settings file and releases, and the command.
struct Site {
    world: World,
    folder: tempfile::TempDir,
    begun: Instant,
}

impl Site {
    fn new(accounts: usize) -> Self {
        let begun = Instant::now();
        let names: Vec<String> = (1..=accounts).map(|index| format!("member-{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let options = options(&names);
        let mut plan = Plan::of(&root(), &names, options.progress.clone()).unwrap();
        plan.further_regions = vec![THERE.parse().unwrap()];
        let bed = runtime.block_on(Bed::start_empty(options, plan)).unwrap();
        let site = Self { world: World::of(runtime, bed), folder: tempfile::tempdir().unwrap(), begun };
        site.say("the organisation is there, without Redress");
        site
    }

    fn say(&self, what: &str) {
        println!("{:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(binaries().join("redress"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("AWS_ENDPOINT_URL", self.world.bed.lab.endpoint())
            .env("AWS_REGION", HOME)
            .env("AWS_ACCESS_KEY_ID", ADMINISTRATOR)
            .env("AWS_SECRET_ACCESS_KEY", "lab")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .env_remove("REDRESS_EXTERNAL_ID");
        command
    }

    /// Runs the command to its end.
    async fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        println!("redress {}: {}\n{told}", arguments.join(" "), output.status);
        output
    }

    /// The same; it has to succeed. What it told, as JSON.
    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["--json"][..], arguments].concat()).await;
        assert!(output.status.success(), "{arguments:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The units of the lab's organisation, by name.
    async fn units(&self) -> BTreeMap<String, String> {
        let roots = self.world.call(ADMINISTRATOR, "organizations", "ListRoots", json!({})).await.unwrap();
        let mut waiting = vec![roots["Roots"][0]["Id"].as_str().unwrap().to_owned()];
        let mut units = BTreeMap::new();
        while let Some(parent) = waiting.pop() {
            let asked = json!({ "ParentId": parent });
            let listed = self
                .world
                .call(ADMINISTRATOR, "organizations", "ListOrganizationalUnitsForParent", asked)
                .await
                .unwrap();
            for unit in listed["OrganizationalUnits"].as_array().unwrap() {
                let (name, id) = (unit["Name"].as_str().unwrap(), unit["Id"].as_str().unwrap());
                units.insert(name.to_owned(), id.to_owned());
                waiting.push(id.to_owned());
            }
        }
        units
    }

    /// What somebody other than the lab's functions has changed since a mark.
    fn changes_since(&self, mark: usize) -> Vec<String> {
        let reads = ["Describe", "List", "Get", "Head", "BatchGet", "Query", "Scan", "AssumeRole"];
        let calls = self.world.bed.lab.record().calls();
        // What functions say is written when the lab comes to it.
        let changes = calls.iter().skip(mark).filter(|call| {
            call.function.is_none()
                && call.service != "logs"
                && !reads.iter().any(|start| call.operation.starts_with(start))
        });
        changes.map(|call| format!("{} {}:{}", call.principal, call.service, call.operation)).collect()
    }

    /// Security Hub's automation rules, in their order.
    async fn automation_rules(&self) -> Vec<Value> {
        let listed = self.world.call(ADMINISTRATOR, "securityhub", "ListAutomationRules", json!({})).await.unwrap();
        let mut rules = listed["AutomationRulesMetadata"].as_array().unwrap().clone();
        rules.sort_by_key(|rule| rule["RuleOrder"].as_u64());
        rules
    }

    /// The automation rules of Redress are there, of the stack and enabled, and no others.
    async fn has_its_rules(&self) {
        let rules = self.automation_rules().await;
        let names: Vec<&str> = rules.iter().map(|rule| rule["RuleName"].as_str().unwrap()).collect();
        assert_eq!(names, automation_rules::NAMES);
        assert!(rules.iter().all(|rule| rule["RuleStatus"] == "ENABLED"), "{rules:#?}");
        for rule in &rules {
            let asked = json!({ "PhysicalResourceId": rule["RuleArn"] });
            let of = self.world.call(ADMINISTRATOR, "cloudformation", "DescribeStackResources", asked).await.unwrap();
            let resources = of["StackResources"].as_array().unwrap();
            let of_stack = |one: &&Value| one["PhysicalResourceId"] == rule["RuleArn"];
            let kind = resources.iter().find(of_stack).map(|one| &one["ResourceType"]);
            assert_eq!(kind, Some(&json!("AWS::SecurityHub::AutomationRule")), "{of:#}");
        }
    }

    /// Both rules, beside the stack's, as an earlier release made them.
    async fn rules_of_an_earlier_release(&self) {
        for mut rule in automation_rules::wanted() {
            rule["Description"] = json!("Marks findings that Redress decides about; made by redress deploy");
            self.world.call(ADMINISTRATOR, "securityhub", "CreateAutomationRule", rule).await.unwrap();
        }
    }

    /// Somebody deletes an automation rule of the stack by hand.
    async fn delete_a_rule(&self) {
        let delete = json!({ "AutomationRulesArns": [self.automation_rules().await[0]["RuleArn"]] });
        self.world.call(ADMINISTRATOR, "securityhub", "BatchDeleteAutomationRules", delete).await.unwrap();
    }

    /// Somebody turns an automation rule off by hand.
    async fn disable_a_rule(&self) {
        let arn = self.automation_rules().await[0]["RuleArn"].clone();
        let items = json!([{ "RuleArn": arn, "RuleStatus": "DISABLED" }]);
        let items = json!({ "UpdateAutomationRulesRequestItems": items });
        self.world.call(ADMINISTRATOR, "securityhub", "BatchUpdateAutomationRules", items).await.unwrap();
    }

    /// How many findings of an account say that Redress decides about them, by priority.
    async fn marked(&self, account: &str, priority: &str) -> usize {
        let is = |value: &str| json!([{ "Comparison": "EQUALS", "Value": value }]);
        let field = json!([{ "Key": automation_rules::PRIORITY, "Comparison": "EQUALS", "Value": priority }]);
        let asked = json!({ "Filters": { "AwsAccountId": is(account), "UserDefinedFields": field } });
        let found = self.world.call(ADMINISTRATOR, "securityhub", "GetFindings", asked).await.unwrap();
        found["Findings"].as_array().unwrap().len()
    }

    fn mark(&self) -> usize {
        self.world.bed.lab.record().calls().len()
    }

    /// Makes a role that may do everything.
    async fn role(&self, account: &str, name: &str, trusted: Value) {
        let document = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let trust = document(json!({ "Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole" }));
        let all = document(json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }));
        for (operation, parameters) in [
            ("CreateRole", json!({ "RoleName": name, "AssumeRolePolicyDocument": trust })),
            ("PutRolePolicy", json!({ "RoleName": name, "PolicyName": "all", "PolicyDocument": all })),
        ] {
            self.world.call(account, "iam", operation, parameters).await.unwrap();
        }
    }

    fn members(&self) -> Vec<String> {
        self.world.bed.organisation.members.iter().map(|member| member.id.to_string()).collect()
    }

    /// Breaks something in an account and Region. Its ARN.
    async fn break_it(&self, what: &str, account: &str, region: &str) -> String {
        let region: Region = region.parse().unwrap();
        let lab = &self.world.bed.lab;
        scenario::run(what, lab.aws(), &account.parse().unwrap(), &region).await.unwrap().resource_arn.to_string()
    }

    /// Waits until each of these resources of an account was repaired.
    async fn repaired(&self, account: &str, resources: &BTreeSet<String>) {
        let left = || async {
            let records = self.world.ledger(account).await;
            let done: BTreeSet<&str> = records
                .iter()
                .filter(|record| record["ExecutionStatus"] == "Verified")
                .filter_map(|record| record["ResourceId"].as_str())
                .collect();
            resources.iter().filter(|resource| !done.contains(resource.as_str())).cloned().collect::<Vec<_>>()
        };
        self.world
            .eventually(&format!("{} resources of {account} are repaired", resources.len()), async || {
                left().await.is_empty().then_some(())
            })
            .await;
    }
}

/// A release of the repository's templates; `next` changes a runbook, a function's package and a template.
fn write_release(folder: &Path, version: &str, next: bool) {
    release::write(&root(), folder, version).unwrap();
    if !next {
        return;
    }
    let mut files = BTreeMap::new();
    let list: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("release.json")).unwrap()).unwrap();
    for path in list["files"].as_object().unwrap().keys() {
        let text = std::fs::read_to_string(folder.join(path)).unwrap();
        let text = match path.as_str() {
            "templates/member-stack.yaml" => {
                text.replacen("Stores pre-images", "Stores, since the upgrade, pre-images", 1)
            }
            path if path.starts_with("templates/member-documents/") => {
                text.replace("Generated from", "Upgraded, generated from")
            }
            _ => text,
        };
        files.insert(path.clone(), text);
    }
    release::save(folder, version, &files).unwrap();
}

#[test]
fn an_empty_organisation_is_deployed_upgraded_under_load_and_left_with_its_evidence_alone() {
    let site = Site::new(number("REDRESS_ROLLOUT_ACCOUNTS", 3));
    let world = &site.world;
    world.run(async {
        let members = site.members();
        write_release(&site.path("one"), "0.1.0", false);
        write_release(&site.path("two"), "0.2.0", true);
        init(&site).await;
        a_release_for_another_processor_is_refused(&site).await;

        let mark = site.mark();
        let planned = site.json(&["deploy", "plan"]).await;
        assert_eq!(site.changes_since(mark), Vec::<String>::new(), "a plan changes nothing");
        assert_eq!(planned["Waves"][0]["Accounts"], json!([members[1]]), "the pilot");
        assert!(
            planned["Changes"].as_array().unwrap().iter().any(|change| change["Name"] == "stack redress-administrator")
        );
        let rules = |change: &Value| change["Name"] == "Security Hub's automation rules";
        assert!(planned["Changes"].as_array().unwrap().iter().any(rules));
        let before = site.run(&["deploy", "status"]).await;
        assert_eq!(before.status.code(), Some(1), "nothing is current yet");
        site.say("planned");

        let applied = site.json(&["deploy", "apply"]).await;
        assert_eq!(applied["Waves"], json!({ "everyone": "passed", "pilot": "passed" }));
        site.has_its_rules().await;
        site.say("applied");
        site.json(&["deploy", "status"]).await;

        // It works: at home in one account, in the other Region in another one.
        for (account, region) in [(&members[0], HOME), (&members[1], THERE)] {
            let resource = site.break_it("open-ssh", account, region).await;
            site.repaired(account, &BTreeSet::from([resource])).await;
        }
        assert!(site.marked(&members[0], "high").await > 0, "the open port is of high severity");
        site.say("one repaired in each of two accounts and Regions");

        let mark = site.mark();
        let again = site.json(&["deploy", "apply"]).await;
        assert_eq!(site.changes_since(mark), Vec::<String>::new(), "a second apply changes nothing");
        assert_eq!(again["Changed"], json!([]));
        site.say("applied again");

        rules_come_back(&site).await;
        set_by_hand(&site).await;
        site.disable_a_rule().await;
        upgrade(&site, &members).await;
        what_was_set_by_hand_is_kept(&site, &members).await;
        site.has_its_rules().await;
        destroy(&site, &members).await;
        clear(&site, &members).await;
        if has_time() {
            once_more(&site, &members).await;
        }
    });
}

/// What CloudFormation does not know of: a rule of its stack that somebody deleted, and rules that an earlier release made.
async fn rules_come_back(site: &Site) {
    let plans = async || {
        let planned = site.json(&["deploy", "plan"]).await;
        let changes = planned["Changes"].as_array().unwrap().clone();
        changes.iter().map(|change| format!("{} {}", change["What"], change["Name"])).collect::<Vec<_>>()
    };
    site.rules_of_an_earlier_release().await;
    assert_eq!(plans().await, [r#""Change" "Security Hub's automation rules""#]);
    let applied = site.json(&["deploy", "apply"]).await;
    assert_eq!(applied["Changed"], json!(["Security Hub's automation rules"]));
    site.has_its_rules().await;
    site.delete_a_rule().await;
    assert_eq!(plans().await, [r#""Create" "Security Hub's automation rules""#]);
    let applied = site.json(&["deploy", "apply"]).await;
    assert_eq!(applied["Changed"], json!(["stack redress-administrator"]));
    site.has_its_rules().await;
    site.say("the automation rules are the stack's again");
}

async fn init(site: &Site) {
    let units = site.units().await;
    let organisation = site.world.bed.organisation.id.clone();
    let arguments = [
        "deploy",
        "init",
        "--yes",
        "--organization",
        &organisation,
        "--administrator",
        ADMINISTRATOR,
        "--home-region",
        HOME,
        "--further-region",
        THERE,
        "--target-unit",
        &units["Workloads"],
        "--pilot-unit",
        &units["Development"],
        "--policy-set",
        "standard",
        "--no-deletion-protection",
        "--release",
        "one",
    ];
    assert!(site.run(&arguments).await.status.success());
}

/// The release is for this machine's processor. Settings that name the other one would leave every function dead.
async fn a_release_for_another_processor_is_refused(site: &Site) {
    let settings = std::fs::read_to_string(site.path("redress.toml")).unwrap();
    let line = |processor: &str| format!("architecture = \"{processor}\"\n");
    let processors = ["arm64", "x86_64"];
    let own = processors.into_iter().find(|one| settings.contains(&line(one))).unwrap();
    let other = processors.into_iter().find(|one| *one != own).unwrap();
    std::fs::write(site.path("other.toml"), settings.replace(&line(own), &line(other))).unwrap();
    for command in ["plan", "apply"] {
        let mark = site.mark();
        let refused = site.run(&["deploy", command, "--settings", "other.toml"]).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!((refused.status.code(), site.changes_since(mark)), (Some(3), Vec::new()), "{said}");
        assert!(said.contains(own) && said.contains(other), "{said}");
    }
}

const GOLD: &str = "Tier=gold";

/// Somebody sets parameters that are no keys of the settings: of the administrator account's stack, and of a stack set.
async fn set_by_hand(site: &Site) {
    let world = &site.world;
    let call = async |operation: &str, parameters: &Value| {
        world.call(ADMINISTRATOR, "cloudformation", operation, parameters.clone()).await.unwrap()
    };
    // As the console sends them: one has a value, the others keep theirs.
    let with = |deployed: &Value, name: &str, value: &str| -> Value {
        let others = deployed.as_array().unwrap().iter().map(|one| &one["ParameterKey"]).filter(|key| **key != name);
        let others = others.map(|key| json!({ "ParameterKey": key, "UsePreviousValue": true }));
        others.chain([json!({ "ParameterKey": name, "ParameterValue": value })]).collect()
    };
    let update = |named: &Value, parameters: Value| {
        let mut update = named.clone();
        update["UsePreviousTemplate"] = json!(true);
        update["Parameters"] = parameters;
        update["Capabilities"] = json!(["CAPABILITY_NAMED_IAM"]);
        update
    };

    let stack = json!({ "StackName": "redress-administrator" });
    let found = call("DescribeStacks", &stack).await;
    let parameters = with(&found["Stacks"][0]["Parameters"], "OperatorsApprove", "false");
    call("UpdateStack", &update(&stack, parameters)).await;
    world
        .eventually("the stack is updated by hand", async || {
            let found = call("DescribeStacks", &stack).await;
            (found["Stacks"][0]["StackStatus"] == "UPDATE_COMPLETE").then_some(())
        })
        .await;

    let set = json!({ "StackSetName": "redress-member" });
    let found = call("DescribeStackSet", &set).await;
    let parameters = with(&found["StackSet"]["Parameters"], "CriticalTags", GOLD);
    let begun = call("UpdateStackSet", &update(&set, parameters)).await;
    let operation = json!({ "StackSetName": "redress-member", "OperationId": begun["OperationId"] });
    world
        .eventually("the stack set is updated by hand", async || {
            let found = call("DescribeStackSetOperation", &operation).await;
            (found["StackSetOperation"]["Status"] == "SUCCEEDED").then_some(())
        })
        .await;

    let planned = site.json(&["deploy", "plan"]).await;
    assert_eq!(planned["Changes"], json!([]), "it is not the settings' business");
    let kept = planned["Kept"].as_array().unwrap().iter();
    let kept: Vec<[&Value; 3]> = kept.map(|one| ["Name", "Parameter", "Value"].map(|field| &one[field])).collect();
    assert_eq!(
        kept,
        [
            ["stack redress-administrator", "OperatorsApprove", "false"],
            ["stack set redress-member", "CriticalTags", GOLD]
        ]
    );
    site.say("parameters are set by hand");
}

/// In every wave, also in the one that gets the template and the parameters that the set has already.
async fn what_was_set_by_hand_is_kept(site: &Site, members: &[String]) {
    let values = async |account: &str, name: &str| -> Vec<Value> {
        let found = site.world.call(account, "cloudformation", "DescribeStacks", json!({})).await.unwrap();
        let stacks = found["Stacks"].as_array().unwrap().iter();
        let parameters = stacks.filter_map(|stack| stack["Parameters"].as_array()).flatten();
        let values = parameters.filter(|one| one["ParameterKey"] == name).map(|one| one["ParameterValue"].clone());
        values.collect()
    };
    let told = values(ADMINISTRATOR, "OperatorsApprove").await;
    assert_eq!(told, ["false", "false"], "the stack, and the one that it nests");
    for account in members {
        assert_eq!(values(account.as_str(), "CriticalTags").await, [GOLD], "{account}");
    }
}

/// An upgrade in the middle of remediations.
async fn upgrade(site: &Site, members: &[String]) {
    let world = &site.world;
    let all = number("REDRESS_ROLLOUT_REMEDIATIONS", 50);
    let mut broken: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    let mut upgrade = site.command(&["--json", "deploy", "upgrade", "--release", "two"]);
    let begun = site.mark();
    let mut upgrading = tokio::spawn(async move { upgrade.output().await.unwrap() });
    for index in 0..all {
        let account = &members[index % members.len()];
        let region = if index % 5 == 4 { THERE } else { HOME };
        let resource = site.break_it("open-ssh", account, region).await;
        broken.entry(account).or_default().insert(resource);
    }
    site.say(&format!("{all} broken; the upgrade has ended: {}", upgrading.is_finished()));
    let ended = (&mut upgrading).await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    println!("{}", String::from_utf8_lossy(&ended.stderr));
    site.say("upgraded");
    for (account, resources) in &broken {
        site.repaired(account, resources).await;
    }
    assert_eq!(broken.values().map(BTreeSet::len).sum::<usize>(), all);
    site.say("and none is lost");

    // It was in the middle: some runbooks were started before the last stack was updated, some after it.
    let calls: Vec<Call> = world.bed.lab.record().calls().into_iter().skip(begun).collect();
    let at = |wanted: &dyn Fn(&&Call) -> bool| calls.iter().position(|call| wanted(&call));
    let started = |call: &&Call| call.operation == "StartAutomationExecution" && call.function.is_some();
    let first = at(&started).expect("a runbook was started");
    let updated = calls.iter().rposition(|call| call.operation == "UpdateStack").expect("a stack was updated");
    assert!(first < updated, "the first runbook was started at {first}, the last stack updated at {updated}");
    let asked = json!({ "Name": "Redress-EC2.13" });
    for region in [HOME, THERE] {
        let root = Credentials::root(&members[0]);
        let document = world.bed.lab.aws().call(&root, region, "ssm", "GetDocument", asked.clone()).await.unwrap();
        assert_eq!(document["DocumentVersion"], "2", "{region}");
    }
    let settings = std::fs::read_to_string(site.path("redress.toml")).unwrap();
    assert!(settings.contains("/two\""), "{settings}");
    let stands = site.json(&["deploy", "status"]).await;
    assert!(
        stands.as_array().unwrap().iter().all(|row| {
            // The release did not change the roles' template, so their stacks are still those of the one before.
            let version = if row["Name"] == "redress-member-roles" { "0.1.0" } else { "0.2.0" };
            row["IsCurrent"] == true && row["Version"] == version
        }),
        "{stands:#}"
    );
}

async fn destroy(site: &Site, members: &[String]) {
    let world = &site.world;
    let organisation = world.bed.organisation.id.clone();
    let mark = site.mark();
    let wrong = site.run(&["deploy", "destroy", "--confirm", "yes"]).await;
    assert_eq!((wrong.status.code(), site.changes_since(mark)), (Some(3), Vec::new()), "not without the id");
    site.json(&["deploy", "destroy", "--confirm", &organisation]).await;
    assert_eq!(site.automation_rules().await, Vec::<Value>::new());
    site.say("destroyed");
    for account in members.iter().map(String::as_str).chain([ADMINISTRATOR]) {
        for region in [HOME, THERE] {
            let root = Credentials::root(account);
            let call = async |service: &str, operation: &str, parameters: Value| {
                world.bed.lab.aws().call(&root, region, service, operation, parameters).await
            };
            let stacks = call("cloudformation", "DescribeStacks", json!({})).await.unwrap();
            assert_eq!(stacks["Stacks"].as_array().map_or(0, Vec::len), 0, "{account} {region}: {stacks:#}");
            let functions = call("lambda", "ListFunctions", json!({})).await.unwrap();
            assert_eq!(functions["Functions"], json!([]), "{account} {region}");
            assert!(call("ssm", "GetDocument", json!({ "Name": names::CONTROL_DOCUMENT })).await.is_err());
        }
    }
    for account in members {
        let bucket = names::evidence_bucket(&account.parse().unwrap(), &HOME.parse().unwrap());
        let kept = world.call(account, "s3", "ListObjectsV2", json!({ "Bucket": bucket })).await.unwrap();
        assert!(kept["KeyCount"].as_u64().unwrap() > 0, "{account}: the evidence is kept");
        let roles = world.call(account, "iam", "ListRoles", json!({})).await.unwrap();
        let ours = roles["Roles"].as_array().unwrap().iter().filter_map(|role| role["RoleName"].as_str());
        let ours: Vec<&str> =
            ours.filter(|name| name.starts_with("Redress-") || *name == names::CROSS_ACCOUNT_ROLE).collect();
        assert_eq!(ours, Vec::<&str>::new(), "{account}");
    }
    let tables = world.call(ADMINISTRATOR, "dynamodb", "ListTables", json!({})).await.unwrap();
    assert_eq!(tables["TableNames"], json!([names::AUDIT_TABLE]));
    let records = world.ledger(&members[0]).await;
    assert!(records.iter().any(|record| record["ExecutionStatus"] == "Verified"), "the ledger is kept");
}

/// What was kept is in the way of another deployment: it is named, and nothing is changed. Then it is deleted, too.
async fn clear(site: &Site, members: &[String]) {
    let world = &site.world;
    let organisation = world.bed.organisation.id.clone();
    let mark = site.mark();
    let refused = site.run(&["deploy", "apply"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), site.changes_since(mark)), (Some(3), Vec::new()), "{said}");
    for name in [names::AUDIT_TABLE, names::PARKED_QUEUE, "/aws/lambda/redress-api"] {
        assert!(said.contains(name), "{said}");
    }
    let asked = ["deploy", "destroy", "--confirm", &organisation, "--delete-evidence", "--confirm-evidence"];
    let mark = site.mark();
    let wrong = site.run(&[&asked[..], &["delete evidence"]].concat()).await;
    assert_eq!((wrong.status.code(), site.changes_since(mark)), (Some(3), Vec::new()), "not without the sentence");

    for account in members {
        let trusted = json!({ "AWS": format!("arn:aws:iam::{ADMINISTRATOR}:root") });
        site.role(account, "OrganizationAccountAccessRole", trusted).await;
    }
    let sentence = format!("delete evidence of {organisation}");
    site.json(&[&asked[..], &[sentence.as_str()]].concat()).await;
    site.say("cleared");
    for account in members.iter().map(String::as_str).chain([ADMINISTRATOR]) {
        for region in [HOME, THERE] {
            let root = Credentials::root(account);
            let call = async |service: &str, operation: &str, parameters: Value| {
                world.bed.lab.aws().call(&root, region, service, operation, parameters).await.unwrap()
            };
            let groups = json!({ "logGroupNamePrefix": "/aws/lambda/redress-" });
            let groups = call("logs", "DescribeLogGroups", groups).await;
            assert_eq!(groups["logGroups"].as_array().map_or(0, Vec::len), 0, "{account} {region}: {groups:#}");
            let queues = call("sqs", "ListQueues", json!({ "QueueNamePrefix": "redress-" })).await;
            assert_eq!(queues["QueueUrls"].as_array().map_or(0, Vec::len), 0, "{account} {region}: {queues:#}");
        }
        let buckets = world.call(account, "s3", "ListBuckets", json!({})).await.unwrap();
        let ours = ["security-remediation-logs-", "redress-"];
        let found = buckets["Buckets"].as_array().into_iter().flatten().filter_map(|one| one["Name"].as_str());
        let kept: Vec<&str> = found.filter(|name| ours.iter().any(|start| name.starts_with(start))).collect();
        assert_eq!(kept, Vec::<&str>::new(), "{account}");
    }
    let tables = world.call(ADMINISTRATOR, "dynamodb", "ListTables", json!({})).await.unwrap();
    assert_eq!(tables["TableNames"], json!([]));
}

/// Where nothing is left Redress comes again: to one account and Region, this time by the roles of self-managed stack sets.
async fn once_more(site: &Site, members: &[String]) {
    let (units, organisation) = (site.units().await, site.world.bed.organisation.id.clone());
    site.role(ADMINISTRATOR, "Sets", json!({ "Service": "cloudformation.amazonaws.com" })).await;
    let sets = format!("arn:aws:iam::{ADMINISTRATOR}:role/Sets");
    for account in members {
        site.role(account, "Deploys", json!({ "AWS": sets })).await;
    }
    let arguments = [
        "deploy",
        "init",
        "--yes",
        "--overwrite",
        "--organization",
        &organisation,
        "--administrator",
        ADMINISTRATOR,
        "--home-region",
        HOME,
        "--target-unit",
        &units["Development"],
        "--policy-set",
        "standard",
        "--no-deletion-protection",
        "--release",
        "two",
        "--administration-role",
        &sets,
        "--execution-role",
        "Deploys",
    ];
    assert!(site.run(&arguments).await.status.success());
    let applied = site.json(&["deploy", "apply"]).await;
    assert_eq!(applied["Waves"], json!({ "everyone": "passed" }));
    site.say("applied once more");
    let resource = site.break_it("open-ssh", &members[1], HOME).await;
    site.repaired(&members[1], &BTreeSet::from([resource])).await;
    site.say("and one repaired");
}
