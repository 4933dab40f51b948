//! What is generated of the committed controls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use redress_common::arn::Arn;
use redress_common::contract::{Job, RecorderRequest, RemediateRequest, output, parameter};
use redress_common::finding::Check;
use redress_common::ids::ControlId;
use redress_common::names;
use redress_runbooks::control::{Body, Control};
use redress_runbooks::{Generated, compile_all, lint, write};
use serde_json::{Value, json};
use support::{controls, root};

/// Once for all tests: compiling the catalogue takes seconds.
fn generated() -> &'static Generated {
    static GENERATED: LazyLock<Generated> = LazyLock::new(|| compile_all(&write::load_all(&root()).unwrap()).unwrap());
    &GENERATED
}

fn document(name: &str) -> Value {
    generated().documents[name].clone()
}

#[test]
fn the_committed_files_are_current() {
    write::check(&root()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_document_lints_and_fits_the_size_that_ssm_takes() {
    for (name, document) in &generated().documents {
        assert_eq!(lint(document), Ok(()), "{name}");
        let size = serde_json::to_string_pretty(&document).unwrap().len();
        assert!(size < lint::MAX_BYTES, "{name} has {size} bytes");
    }
}

#[test]
fn an_api_shaped_control_with_an_absent_state_compiles_as_reviewed() {
    insta::assert_json_snapshot!(document("Redress-S3.8"));
}

#[test]
fn a_native_control_compiles_as_reviewed() {
    insta::assert_json_snapshot!(document("Redress-EC2.13"));
}

#[test]
fn the_control_runbook_is_as_reviewed() {
    insta::assert_json_snapshot!(document("Redress-Control"));
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let (one, two) = (write::files(generated()).unwrap(), write::files(generated()).unwrap());
    assert_eq!(one, two);
}

#[test]
fn no_document_runs_a_script_or_names_a_partition() {
    for (path, text) in write::files(generated()).unwrap() {
        assert!(!text.contains("aws:executeScript"), "{path}");
        assert!(!text.contains("arn:aws:"), "{path}");
    }
}

#[test]
fn every_control_is_in_the_catalogue_and_found_by_what_reports_it() {
    let catalogue = &generated().catalogue;
    for control in controls() {
        let (id, _) = catalogue.resolve(&Check::Control(control.id.clone())).unwrap();
        assert_eq!(*id, control.id);
        for rule in &control.sources.config {
            for name in [rule.clone(), rule.to_uppercase().replace('-', "_"), format!("securityhub-{rule}-abc12345")] {
                let (id, _) = catalogue.resolve(&Check::ConfigRule(name.clone())).unwrap();
                assert_eq!(*id, control.id, "{name}");
            }
        }
        let sources = &control.sources;
        let is_reported =
            [&sources.config, &sources.security_hub, &sources.guardduty].iter().any(|names| !names.is_empty());
        // What destroys is asked for by people only.
        assert_eq!(is_reported, id.family() != names::DESTROY, "{id}");
    }
}

#[test]
fn the_committed_catalogue_is_what_the_orchestrator_reads() {
    let text = std::fs::read_to_string(root().join("ssm-documents/catalogue.json")).unwrap();
    let read: redress_common::catalogue::Catalogue = serde_json::from_str(&text).unwrap();
    assert_eq!(read, generated().catalogue);
}

#[test]
fn every_control_captures_a_name_in_every_partition() {
    let samples = [
        ("S3.8", "s3:::my.bucket-1", "my.bucket-1"),
        ("Tag.Required", "s3:::my.bucket-1", "my.bucket-1"),
        (
            "KMS.4",
            "kms:R:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
        ),
        ("EC2.13", "ec2:R:111122223333:security-group/sg-0abc", "sg-0abc"),
        ("EC2.7", "iam::111122223333:root", "root"),
        ("IAM.7", "iam::111122223333:root", "root"),
    ];
    let catalogue = &generated().catalogue;
    for (partition, region) in [("aws", "eu-central-1"), ("aws-us-gov", "us-gov-west-1"), ("aws-cn", "cn-north-1")] {
        for (id, rest, name) in samples {
            let arn: Arn = format!("arn:{partition}:{}", rest.replace('R', region)).parse().unwrap();
            let entry = &catalogue.0[&id.parse::<ControlId>().unwrap()];
            assert_eq!(entry.arn_patterns.iter().find_map(|pattern| arn.capture(pattern)), Some(name));
        }
    }
}

#[test]
fn defect_12_one_config_rule_starts_one_password_policy_fix() {
    let catalogue = &generated().catalogue;
    let reported: Vec<&ControlId> = catalogue
        .0
        .iter()
        .filter(|(_, entry)| entry.config_rules.iter().any(|rule| rule == "iam-password-policy"))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(reported, [&"IAM.7".parse::<ControlId>().unwrap()]);
}

#[test]
fn defect_03_the_control_runbook_goes_on_only_with_an_active_document() {
    let control = document("Redress-Control");
    let step = &control["mainSteps"][0];
    assert_eq!(step["action"], "aws:assertAwsResourceProperty");
    assert_eq!(step["inputs"]["DesiredValues"], json!(["Active"]));
    assert_eq!(step["onFailure"], "Abort");
}

#[test]
fn defect_05_a_resource_that_complies_already_is_an_outcome_and_no_error() {
    for control in controls() {
        let Body::Api(_) = control.body else { continue };
        let document = document(&format!("Redress-{}", control.id));
        let step = step(&document, "RecordCompliance");
        assert_eq!(step["inputs"]["InputPayload"]["Outcome"], "AlreadyCompliant");
        assert_eq!(step["isEnd"], true);
    }
}

#[test]
fn an_undo_that_does_not_show_at_once_is_read_again_before_it_counts() {
    for control in controls() {
        let Body::Api(_) = control.body else { continue };
        let document = document(&format!("Redress-{}", control.id));
        assert_eq!(step(&document, "RecordRestored")["inputs"]["InputPayload"]["Patient"], true);
        let judge = step(&document, "JudgeRestored");
        assert_eq!((&judge["isEnd"], targets(judge)), (&json!(true), vec!["PauseRestored".to_owned()]));
        let late = step(&document, "RecordRestoredLate");
        assert!(late["inputs"]["InputPayload"].get("Patient").is_none(), "the second look counts");
    }
}

#[test]
fn what_could_not_be_read_is_not_recorded_as_absent() {
    for control in controls() {
        let Body::Api(_) = control.body else { continue };
        let document = document(&format!("Redress-{}", control.id));
        for name in ["RecordUnread", "RecordUnrestored", "RecordFailureUnread"] {
            assert_eq!(step(&document, name)["inputs"]["InputPayload"]["Unread"], true, "{name}");
        }
    }
}

#[test]
fn every_mode_defaults_to_a_dry_run() {
    for (name, document) in &generated().documents {
        assert_eq!(document["parameters"]["Mode"]["default"], "DryRun", "{name}");
    }
}

#[test]
fn no_parameter_lets_a_character_in_that_could_leave_its_string() {
    for (name, document) in &generated().documents {
        for (parameter, declared) in document["parameters"].as_object().unwrap() {
            let Some(pattern) = declared["allowedPattern"].as_str() else { continue };
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{name} {parameter}");
            // A dot is only ever escaped or inside a class; so nothing matches "anything".
            let bare = pattern.replace("\\.", "").replace("._:/@+=,~-", "");
            assert!(!bare.contains('.'), "{name} {parameter}: {pattern}");
            for hostile in ['"', '\'', '`', ' ', '<', '&', ';', '%'] {
                assert!(!pattern.contains(hostile), "{name} {parameter}: {pattern}");
            }
            assert!(
                !pattern.contains("[^") && !pattern.contains("\\s") && !pattern.contains("\\S"),
                "{name} {parameter}"
            );
        }
    }
}

#[test]
fn the_control_runbook_takes_and_gives_what_the_contract_says() {
    let control = document("Redress-Control");
    let mut taken: Vec<&str> = control["parameters"].as_object().unwrap().keys().map(String::as_str).collect();
    taken.sort_unstable();
    let mut agreed = vec![
        parameter::AUTOMATION_ASSUME_ROLE,
        parameter::REMEDIATION_ASSUME_ROLE,
        parameter::REMEDIATION_ID,
        parameter::CONTROL,
        parameter::RESOURCE_ARN,
        parameter::RESOURCE_NAME,
        parameter::MODE,
        parameter::FENCE,
        parameter::EVIDENCE_KEY,
        parameter::SOURCE_EVIDENCE_KEY,
        parameter::PLAN_SHA256,
        parameter::EVIDENCE_BUCKET,
    ];
    agreed.sort_unstable();
    assert_eq!(taken, agreed);
    assert_eq!(
        control["outputs"],
        json!([
            output::OUTCOME,
            output::VERSION_ID,
            output::PRE_IMAGE,
            output::CHANGE,
            output::POST_IMAGE,
            output::FENCE,
            output::MADE,
            output::ERROR,
        ])
    );
}

#[test]
fn only_a_control_that_makes_copies_has_the_mode_for_it_and_gives_up_what_it_made_when_one_fails() {
    let is_done = |control: &Control| !matches!(control.body, Body::Guidance(_));
    for control in controls().into_iter().filter(is_done) {
        let document = document(&format!("Redress-{}", control.id));
        let modes = document["parameters"]["Mode"]["allowedValues"].as_array().unwrap();
        let copies = control.workflow.is_some_and(|workflow| workflow.snapshot);
        assert_eq!(modes.contains(&json!("Snapshot")), copies, "{}", control.id);
        if !copies {
            continue;
        }
        let steps = document["mainSteps"].as_array().unwrap();
        assert_eq!(steps[0]["inputs"]["Choices"][0]["StringEquals"], "Snapshot");
        assert_eq!(steps[0]["inputs"]["Default"], "Remediate", "everything else is done as ever");
        assert_eq!(steps[1]["isEnd"], true);
        let making = steps.iter().skip(2).filter(|step| step["action"] != "aws:branch");
        for step in making.filter(|step| step["name"] != "DiscardCopies") {
            assert_eq!(
                (&step["onFailure"], &step["isCritical"]),
                (&json!("step:DiscardCopies"), &json!(true)),
                "{step}"
            );
        }
        let waits: Vec<&Value> =
            steps.iter().filter(|step| step["action"] == "aws:waitForAwsResourceProperty").collect();
        let seconds: u64 = waits.iter().map(|step| step["timeoutSeconds"].as_u64().unwrap()).sum();
        let control = self::document("Redress-Control");
        let runs = |name: &str| {
            let steps = control["mainSteps"].as_array().unwrap();
            steps.iter().find(|step| step["name"] == name).unwrap()["timeoutSeconds"].as_u64().unwrap()
        };
        assert!(seconds < runs("InvokeSnapshotRunbook"), "the run outlives what it waits for");
        assert!(runs("InvokeRemediationRunbook") < 1200, "and nothing else may take so long");
    }
}

/// What SSM would put into a payload, for the shapes to be checked against the contract's types.
fn filled(value: &Value) -> Value {
    let sample = |name: &str| match name {
        "RemediationId" => json!("7b1c0f2e-9d3a-5c41-8f60-0123456789ab"),
        "Control" => json!("S3.8"),
        "ResourceArn" => json!("arn:aws-cn:s3:::bucket"),
        "Mode" => json!("Apply"),
        "global:ACCOUNT_ID" => json!("111122223333"),
        "global:REGION" => json!("cn-north-1"),
        "variable:Present" => json!(true),
        name if name.ends_with(".Decision") => json!("Drifted"),
        name if name.ends_with("State") || name.ends_with("Configuration") => json!({}),
        _ => json!("text"),
    };
    match value {
        Value::String(text) => match text.strip_prefix("{{ ").and_then(|rest| rest.strip_suffix(" }}")) {
            Some(name) => sample(name),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(filled).collect(),
        Value::Object(map) => map.iter().map(|(name, item)| (name.clone(), filled(item))).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_payload_is_a_request_of_the_contract() {
    let mut seen = 0;
    for (name, document) in &generated().documents {
        for step in document["mainSteps"].as_array().unwrap() {
            let inputs = &step["inputs"];
            let payload = filled(&inputs["InputPayload"]);
            match inputs["FunctionName"].as_str() {
                Some("redress-recorder") => {
                    let parsed = serde_json::from_value::<RecorderRequest>(payload.clone());
                    assert!(parsed.is_ok(), "{name} {}: {parsed:?} {payload}", step["name"]);
                }
                Some("redress-remediate" | "redress-destroy") => {
                    let parsed = serde_json::from_value::<RemediateRequest>(payload.clone());
                    assert!(parsed.is_ok(), "{name} {}: {parsed:?} {payload}", step["name"]);
                }
                _ => continue,
            }
            let job: Job = serde_json::from_value(payload).unwrap();
            assert_eq!(job.resource_name, "text");
            seen += 1;
        }
    }
    assert!(seen > 30);
}

#[test]
fn nothing_is_changed_before_the_pre_image_is_stored() {
    let controls = controls();
    for control in &controls {
        let Body::Api(api) = &control.body else { continue };
        let document = document(&format!("Redress-{}", control.id));
        let changing: Vec<&str> = api
            .apply
            .iter()
            .chain(&api.restore.present)
            .chain(&api.restore.absent)
            .map(|call| call.operation.as_str())
            .collect();
        // Take the recorder's `Prepare` and `Load` out of the graph: no changing call may be reachable then.
        let mut open = vec!["CheckResourceStatus".to_owned()];
        let mut seen: Vec<String> = Vec::new();
        while let Some(name) = open.pop() {
            if seen.contains(&name) {
                continue;
            }
            let step = step(&document, &name);
            seen.push(name.clone());
            let verb = step["inputs"]["InputPayload"]["Verb"].as_str();
            if matches!(verb, Some("Prepare" | "Load")) {
                continue;
            }
            let operation = step["inputs"]["Api"].as_str().unwrap_or_default();
            assert!(!changing.contains(&operation), "{} {name} changes without a pre-image", control.id);
            open.extend(targets(step));
        }
    }
}

/// The actions that a policy allows.
fn allowed(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[test]
fn roles_are_granted_exactly_what_their_controls_call_and_what_the_steps_need() {
    let template: Value = serde_saphyr::from_str(&generated().roles_template).unwrap();
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for control in controls() {
        let own: BTreeSet<String> = redress_runbooks::iam::actions(&control).into_keys().collect();
        if let Body::Guidance(_) = control.body {
            continue;
        }
        let role = redress_common::names::family_role(&control.id).replace('-', "");
        let family = expected.entry(role).or_default();
        family.insert("lambda:InvokeFunction".to_owned());
        match &control.body {
            Body::Api(_) => {
                family.extend(own);
                family.insert("ssm:DescribeAutomationStepExecutions".to_owned());
            }
            Body::Native(native) => {
                // What SSM waits for, SSM asks for.
                let waits = native.copies.iter().map(|copy| format!("{}:{}", copy.call.service, copy.call.operation));
                family.extend(waits);
                let function = if names::destroys(&control.id) { names::DESTROY_ROLE } else { "NativeControls" };
                expected.entry(function.to_owned()).or_default().extend(own);
            }
            Body::Guidance(_) => {}
        }
    }
    for playbook in write::load_all(&root()).unwrap().into_iter().filter(|control| control.direct) {
        let family = redress_common::names::contain_family(&playbook.resource.types[0]).unwrap();
        let own = redress_runbooks::iam::actions(&playbook).into_keys();
        expected.entry(redress_common::names::contain_role(family)).or_default().extend(own);
    }
    let mut granted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let properties = &resource["Properties"];
        let (name, policy) = match properties.get("PolicyDocument") {
            Some(policy) if properties["Roles"][0] == redress_common::names::REMEDIATE_ROLE => {
                ("NativeControls", policy)
            }
            Some(policy) => (properties["Roles"][0].as_str().unwrap(), policy),
            None => (name.as_str(), &properties["Policies"][0]["PolicyDocument"]),
        };
        granted.entry(name.to_owned()).or_default().extend(allowed(policy));
    }
    assert!(granted.remove("RedressControl").is_some());
    assert_eq!(granted, expected);
    assert!(granted.values().flatten().all(|action| !action.contains('*')));
}

#[test]
fn the_role_of_several_families_may_do_no_more_than_each_ones_own_would() {
    let template: Value = serde_saphyr::from_str(&generated().roles_template).unwrap();
    let role = &template["Resources"]["RedressRemediateNative"]["Properties"]["Policies"][0]["PolicyDocument"];
    assert_eq!(allowed(role), BTreeSet::from(["lambda:InvokeFunction".to_owned()]));
}

#[test]
fn a_playbook_has_no_runbook_and_says_who_runs_it() {
    let (catalogue, documents) = (&generated().catalogue, &generated().documents);
    let playbooks: Vec<_> = catalogue.0.iter().filter(|(_, entry)| entry.direct.is_some()).collect();
    assert!(playbooks.len() >= 2);
    for (id, entry) in playbooks {
        assert!(!documents.contains_key(&format!("Redress-{id}")), "{id}");
        let direct = entry.direct.as_ref().unwrap();
        let functions =
            redress_common::names::CONTAIN.map(|(family, _)| redress_common::names::contain_function(family));
        assert!(functions.contains(&direct.function) && id.family() == "Contain", "{id}");
        let member = std::fs::read_to_string(root().join("stacksets/member-stack.yaml")).unwrap();
        assert!(member.contains(&format!("FunctionName: {}\n", direct.function)), "{id}");
    }
}

#[test]
fn every_policy_is_one_that_iam_takes() {
    let template: Value = serde_saphyr::from_str(&generated().roles_template).unwrap();
    let mut attached = 0;
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let properties = &resource["Properties"];
        let (policy, limit) = match properties.get("PolicyDocument") {
            Some(policy) => (policy, 6_144),
            None => (&properties["Policies"][0]["PolicyDocument"], 10_240),
        };
        let is_native = properties["Roles"][0] == redress_common::names::REMEDIATE_ROLE;
        attached += usize::from(limit == 6_144 && is_native);
        let length = policy.to_string().len();
        assert!(length <= limit, "{name}: {length} characters");
    }
    assert!((1..=10).contains(&attached), "a role has ten managed policies at most: {attached}");
}

#[test]
fn what_hands_power_on_is_granted_under_a_condition() {
    let template: Value = serde_saphyr::from_str(&generated().roles_template).unwrap();
    let natives =
        template["Resources"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("NativeControls"));
    let native: Vec<Value> = natives
        .flat_map(|(_, one)| one["Properties"]["PolicyDocument"]["Statement"].as_array().unwrap().clone())
        .collect();
    let of = |action: &str| -> Vec<Value> {
        let statements = native.iter();
        let has = |one: &&Value| one["Action"].as_array().unwrap().iter().any(|known| known == action);
        statements.filter(has).map(|one| json!([one["Resource"], one["Condition"]])).collect()
    };
    let role =
        |name: &str| json!({ "Fn::Sub": format!("arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/{name}") });
    let passed = of("iam:PassRole");
    let flow_logs = json!({ "StringEquals": { "iam:PassedToService": "vpc-flow-logs.amazonaws.com" } });
    assert!(passed.contains(&json!([[role("Redress-Flow-Logs")], flow_logs])), "{passed:?}");
    let to = |one: &Value| one[1]["StringEquals"]["iam:PassedToService"].clone();
    assert!(passed.iter().all(|one| to(one).is_string() || to(one)["Fn::Sub"].is_string()), "{passed:?}");
    // To no role may any policy be attached, and none may be written; one role may be made, which can do what is known.
    for one in of("iam:AttachRolePolicy") {
        assert!(one[1]["ArnEquals"]["iam:PolicyARN"]["Fn::Sub"].is_string(), "{one}");
    }
    for write in ["iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:DeleteRolePermissionsBoundary"] {
        assert_eq!(of(write), Vec::<Value>::new(), "{write}");
    }
    let bound = json!({ "StringEquals": { "iam:PermissionsBoundary": { "Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/AWSSupportAccess" } } });
    assert_eq!(of("iam:CreateRole"), [json!([[role("aws_incident_support_role")], bound])]);
}

#[test]
fn the_roles_of_runbooks_trust_ssm_for_this_account_only() {
    let template: Value = serde_saphyr::from_str(&generated().roles_template).unwrap();
    for (name, resource) in template["Resources"].as_object().unwrap() {
        if resource["Type"] == "AWS::IAM::Role" {
            let statement = &resource["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
            assert_eq!(statement["Principal"], json!({ "Service": "ssm.amazonaws.com" }), "{name}");
            let account = &statement["Condition"]["StringEquals"]["aws:SourceAccount"];
            assert_eq!(*account, json!({ "Ref": "AWS::AccountId" }), "{name}");
            let execution = &statement["Condition"]["ArnLike"]["aws:SourceArn"];
            let executions = "arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:automation-execution/*";
            assert_eq!(*execution, json!({ "Fn::Sub": executions }), "{name}");
        }
    }
}

#[test]
fn nobody_comes_in_and_no_role_is_passed_on_but_as_the_page_says() {
    let files = write::files(generated()).unwrap();
    let powers = write::powers(&root(), &files).unwrap();
    assert_eq!(powers.faults(), Vec::<String>::new());
    // None is overlooked: so many there are in the templates.
    let stacksets = root().join("stacksets");
    let names = [
        "administrator/events.yaml",
        "administrator/functions.yaml",
        "administrator/workflow.yaml",
        "member-stack.yaml",
        "member-region.yaml",
        "member-roles.yaml",
    ];
    let texts = names.map(|name| std::fs::read_to_string(stacksets.join(name)).unwrap());
    let count = |line: &str| texts.iter().map(|text| text.matches(line).count()).sum::<usize>();
    assert_eq!(powers.trusts.len(), count("Type: AWS::IAM::Role\n"));
    assert_eq!(powers.passes.len(), count("- iam:PassRole\n"));
    let page = powers.page();
    assert!(powers.trusts.iter().all(|trust| page.contains(&format!("| `{}` |", trust.role))), "{page}");
}

#[test]
fn the_documents_templates_carry_every_document_once_and_unchanged() {
    let generated = generated();
    let mut carried = Vec::new();
    for text in generated.documents_templates.values() {
        let template: Value = serde_saphyr::from_str(text).unwrap();
        for resource in template["Resources"].as_object().unwrap().values() {
            let properties = &resource["Properties"];
            let name = properties["Name"].as_str().unwrap().to_owned();
            assert_eq!(properties["Content"], generated.documents[&name]);
            carried.push(name);
        }
    }
    carried.sort();
    assert_eq!(carried, generated.documents.keys().cloned().collect::<Vec<_>>());
}

#[test]
fn cloudformation_takes_every_template() {
    let generated = generated();
    let all = generated.documents_templates.iter().map(|(name, text)| (name.as_str(), text));
    for (name, text) in all.chain([("member-roles", &generated.roles_template)]) {
        assert!(text.len() <= 1_000_000, "{name}: {} bytes, CloudFormation takes 1 MB: split the family", text.len());
    }
}

fn step<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["mainSteps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap()
}

fn targets(step: &Value) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |value: &Value| found.extend(value.as_str().map(str::to_owned));
    add(&step["nextStep"]);
    add(&step["inputs"]["Default"]);
    for choice in step["inputs"]["Choices"].as_array().into_iter().flatten() {
        add(&choice["NextStep"]);
    }
    found.extend(step["onFailure"].as_str().and_then(|text| text.strip_prefix("step:")).map(str::to_owned));
    found
}

/// How often a type of resource stands in the templates of a member account, each of them.
fn in_member_templates(kind: &str) -> [usize; 4] {
    let stacksets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stacksets");
    let templates = ["member-stack.yaml", "member-roles.yaml", "member-region.yaml", "member-documents/Control.yaml"];
    let line = format!("Type: {kind}\n");
    templates.map(|name| std::fs::read_to_string(stacksets.join(name)).unwrap().matches(&line).count())
}

#[test]
fn defect_24_an_account_has_one_key() {
    assert_eq!(in_member_templates("AWS::KMS::Key"), [1, 0, 0, 0]);
}

#[test]
fn an_account_has_thirty_roles_at_most() {
    let roles = in_member_templates("AWS::IAM::Role");
    assert!(roles.iter().all(|count| *count < 30) && roles[0] > 0 && roles[1] > 0, "{roles:?}");
    let all: usize = roles.iter().sum();
    assert!(all <= 30, "{all} roles, DESIGN §10 allows 30: let a small family share one (names::SHARED)");
}

#[test]
fn a_copy_that_only_some_resources_need_is_chosen_by_the_arn() {
    let document = document("Redress-RDS.4");
    let step = |name: &str| {
        let steps = document["mainSteps"].as_array().unwrap();
        steps.iter().find(|step| step["name"] == name).unwrap()["inputs"].clone()
    };
    assert_eq!(step("ChooseMode")["Choices"][0]["NextStep"], "ChooseCopy1");
    for (choose, kind, make, other) in [
        ("ChooseCopy1", ":snapshot:", "MakeCopy1", "ChooseCopy2"),
        ("ChooseCopy2", ":cluster-snapshot:", "MakeCopy2", "RecordCopies"),
    ] {
        let choice = json!([{ "Variable": "{{ ResourceArn }}", "Contains": kind, "NextStep": make }]);
        assert_eq!((&step(choose)["Choices"], &step(choose)["Default"]), (&choice, &json!(other)));
    }
}

#[test]
fn a_role_is_passed_to_named_services_only() {
    let template: Value = serde_saphyr::from_str(&generated().roles_template).unwrap();
    let mut passed = 0;
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let properties = &resource["Properties"];
        let policy = properties.get("PolicyDocument").unwrap_or(&properties["Policies"][0]["PolicyDocument"]);
        for statement in policy["Statement"].as_array().unwrap() {
            if statement["Action"].as_array().unwrap().contains(&json!("iam:PassRole")) {
                let to = &statement["Condition"]["StringEquals"]["iam:PassedToService"];
                assert!(to.is_string() || to["Fn::Sub"].is_string(), "{name}: {statement}");
                assert_eq!(statement["Action"].as_array().unwrap().len(), 1, "{name}: {statement}");
                passed += 1;
            }
        }
    }
    assert!(passed >= 2, "by the control runbook, and by the native function");
}
