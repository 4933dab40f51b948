//! What a control file may say, and how it is told what it may not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use redress_runbooks::control::{Control, ControlError, parse};
use redress_runbooks::{compile_all, iam, load_controls};

fn text(id: &str) -> String {
    std::fs::read_to_string(support::root().join(format!("ssm-documents/controls/{id}.yaml"))).unwrap()
}

/// The error of a committed control with `from` replaced by `to`.
fn refused(id: &str, from: &str, to: &str) -> String {
    let text = text(id);
    assert!(text.contains(from), "{from}");
    parse(&format!("{id}.yaml"), &text.replacen(from, to, 1)).expect_err("it was accepted").to_string()
}

fn line_of(id: &str, words: &str) -> usize {
    text(id).lines().position(|line| line.contains(words)).unwrap() + 1
}

#[test]
fn an_unknown_field_is_refused_with_its_line() {
    let error = refused("S3.8", "risk: reversible", "risks: reversible");
    assert!(error.starts_with(&format!("S3.8.yaml:{}:", line_of("S3.8", "risk:"))), "{error}");
    assert!(error.contains("risks"), "{error}");
    let error = refused("S3.8", "missing: NoSuchBucket", "gone: NoSuchBucket");
    assert!(error.contains("gone") && error.starts_with("S3.8.yaml:"), "{error}");
}

#[test]
fn a_wrong_value_is_refused_with_its_line() {
    let error = refused("S3.8", "risk: reversible", "risk: harmless");
    assert!(error.contains("harmless") && error.starts_with("S3.8.yaml:"), "{error}");
    let error = refused("S3.8", "id: S3.8", "id: buckets");
    assert!(error.contains("a control id such as"), "{error}");
}

#[test]
fn a_placeholder_that_nothing_fills_is_refused_with_the_ones_that_are() {
    let error = refused("S3.8", "PublicAccessBlockConfiguration: $before", "PublicAccessBlockConfiguration: $then");
    let line = line_of("S3.8", "PublicAccessBlockConfiguration: $before");
    assert!(
        error.starts_with(&format!("S3.8.yaml:{line}: `restore.present.with.PublicAccessBlockConfiguration`")),
        "{error}"
    );
    assert!(error.contains("`$then`, which nothing fills here; use `$before`"), "{error}");
    assert!(refused("S3.8", "Bucket: $name, ", "Bucket: $before, ").contains("which nothing fills here"));
}

#[test]
fn fields_of_the_pre_image_are_refused_where_it_may_be_absent() {
    let error = refused(
        "S3.8",
        "PublicAccessBlockConfiguration: $before",
        "PublicAccessBlockConfiguration: $before.Configuration",
    );
    assert!(error.contains("where the setting is never absent"), "{error}");
}

#[test]
fn ssm_references_are_refused_in_control_files() {
    let error =
        refused("S3.8", "BlockPublicAcls: true\n        Ignore", "BlockPublicAcls: \"{{ Mode }}\"\n        Ignore");
    assert!(error.contains("the compiler writes SSM's"), "{error}");
    assert!(refused("S3.8", "action: Block", "action: \"{{ Mode }}\" #").contains("`action`"));
}

#[test]
fn what_is_compared_must_be_read_and_of_its_type() {
    assert!(
        refused("EC2.7", "compliant:\n  EbsEncryptionByDefault: true", "compliant:\n  Other: true")
            .contains("`compliant.Other` is not read")
    );
    assert!(
        refused(
            "EC2.7",
            "compliant:\n  EbsEncryptionByDefault: true",
            "compliant:\n  EbsEncryptionByDefault: yes please"
        )
        .contains("which is no Boolean")
    );
}

#[test]
fn absent_needs_a_restore_and_the_other_way_round() {
    assert!(refused("S3.8", "  absent: NoSuchPublicAccessBlockConfiguration\n", "").contains("go together"));
    assert!(refused("EC2.7", "  read:", "  absent: NoSuchThing\n  read:").contains("go together"));
}

#[test]
fn native_and_api_shapes_do_not_mix() {
    assert!(refused("EC2.7", "inspect:", "native: ebs\ninspect:").contains("does not go with `native`"));
    assert!(refused("EC2.13", "native: ec2_open_port\n", "").contains("`inspect` is missing"));
    assert!(refused("EC2.13", "ec2:DescribeSecurityGroups", "\"ec2:*\"").contains("without wildcards"));
    assert!(
        refused("EC2.13", "\"arn:*:ec2:*:*:security-group/*\"", "\"arn:aws:ec2:*:*:security-group/*\"")
            .contains("start with `arn:*:`")
    );
}

#[test]
fn a_condition_is_of_an_action_that_is_granted_and_says_something() {
    let error = refused("SSM.1", "  iam:PassRole: { iam:PassedToService", "  iam:Pass: { iam:PassedToService");
    assert!(error.contains("is not among the calls"), "{error}");
    for bad in ["\"*\"", "\"\"", "\"${AWS::Partition}\""] {
        let error = refused("SSM.1", "ec2.amazonaws.com }", &format!("{bad} }}"));
        assert!(error.contains("`only.iam:PassRole` has no condition"), "{bad}: {error}");
    }
    let error = refused("S3.8", "inspect:", "only: { s3:PutBucketPublicAccessBlock: { aws:a: b } }\ninspect:");
    assert!(error.contains("goes with `native` only"), "{error}");
}

/// The playbook that captures memory, whose document's name is `default`, with `from` replaced by `to`.
fn playbook(default: &str, from: &str, to: &str) -> Result<Control, ControlError> {
    let file = "Contain.EC2Instance.yaml";
    let text = std::fs::read_to_string(support::root().join(format!("ssm-documents/playbooks/{file}"))).unwrap();
    let named = text.replacen("default: \"\"", &format!("default: \"{default}\""), 1);
    assert!(named.contains(from) && (default.is_empty() || named != text), "{from}");
    parse(file, &named.replacen(from, to, 1))
}

#[test]
fn what_is_for_a_parameter_is_granted_where_it_is_given_and_on_what_it_names() {
    let granted = |default: &str| {
        let actions = iam::actions(&playbook(default, "given:", "given:").unwrap());
        ["ssm:GetCommandInvocation", "ssm:SendCommand"].map(|action| actions.get(action).cloned().unwrap_or_default())
    };
    assert_eq!(granted(""), [BTreeSet::new(), BTreeSet::new()]);
    let document = "arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:document/Memory-Linux".to_owned();
    let instances = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:instance/*".to_owned();
    assert_eq!(granted("Memory-Linux"), [BTreeSet::from(["*".to_owned()]), BTreeSet::from([instances, document])]);
}

#[test]
fn what_is_for_a_parameter_is_among_the_calls_and_its_value_fits_an_arn() {
    let wrong = |default: &str, from: &str, to: &str| playbook(default, from, to).unwrap_err().to_string();
    let error = wrong("", "  ssm:SendCommand: MemoryCaptureDocument", "  ssm:SendCommands: MemoryCaptureDocument");
    assert!(error.contains("`given.ssm:SendCommands` is not among the calls"), "{error}");
    let error = wrong("", "  ssm:SendCommand: MemoryCaptureDocument", "  ssm:SendCommand: Document");
    assert!(error.contains("is for `Document`, which is no parameter"), "{error}");
    let error = wrong("", "  ssm:SendCommand: MemoryCaptureDocument", "  ssm:SendCommand: MemoryCaptureSeconds");
    assert!(error.contains("is for `MemoryCaptureSeconds`, which is no parameter that is a plain word"), "{error}");
    let error = wrong("*", "given:", "given:");
    assert!(error.contains("is for `MemoryCaptureDocument`, which is no parameter that is a plain word"), "{error}");
    let error = refused("S3.8", "inspect:", "given: { s3:PutBucketPublicAccessBlock: Bucket }\ninspect:");
    assert!(error.contains("`given` goes with `native` only"), "{error}");
}

#[test]
fn parameters_stay_in_their_bounds() {
    let error = refused("EC2.13", "default: [22]", "default: [0]");
    assert!(error.contains("`parameters.Ports`") && error.contains("outside its own bounds"), "{error}");
    assert!(refused("EC2.13", "default: [22]", "default: { a: 1 }").contains("`parameters.Ports`"));
}

#[test]
fn an_arn_pattern_that_captures_nothing_is_refused() {
    for pattern in ["arn:*:s3:::bucket", "s3:::{}", "arn:*:s3:::{}{}", "arn:*:S3:::{}", "arn:*:s3:::a b{}"] {
        let error = refused("S3.8", "arn:*:s3:::{}", pattern);
        assert!(error.contains("captures nothing from an ARN"), "{pattern}: {error}");
    }
}

#[test]
fn a_file_is_named_after_its_control_and_a_config_rule_belongs_to_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("S3.9.yaml"), text("S3.8")).unwrap();
    assert!(load_controls(dir.path()).unwrap_err().to_string().contains("name the file `S3.8.yaml`"));
    std::fs::rename(dir.path().join("S3.9.yaml"), dir.path().join("S3.8.yaml")).unwrap();
    std::fs::write(dir.path().join("S3.9.yaml"), text("S3.8").replacen("id: S3.8", "id: S3.9", 1)).unwrap();
    let error = load_controls(dir.path()).unwrap_err().to_string();
    assert!(error.contains("which S3.8.yaml claims too"), "{error}");
}

#[test]
fn every_control_file_states_its_parts_in_the_agreed_order() {
    let order = [
        "id:",
        "title:",
        "sources:",
        "frameworks:",
        "risk:",
        "scope:",
        "action:",
        "note:",
        "undo:",
        "example:",
        "resource:",
        "parameters:",
        "native:",
        "guidance:",
        "inspect:",
        "compliant:",
        "apply:",
        "restore:",
        "calls:",
    ];
    for control in support::controls() {
        let text = text(control.id.as_str());
        let places: Vec<usize> =
            text.lines().filter_map(|line| order.iter().position(|part| line.starts_with(part))).collect();
        assert!(places.is_sorted(), "{}: {places:?}", control.id);
    }
}

#[test]
fn stale_and_left_over_files_are_named_with_the_command_that_mends_them() {
    use redress_runbooks::write;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join(write::CONTROLS)).unwrap();
    std::fs::write(dir.path().join(write::CONTROLS).join("S3.8.yaml"), text("S3.8")).unwrap();
    assert!(write::check(dir.path()).is_err());
    assert!(!write::generate(dir.path()).unwrap().is_empty());
    write::check(dir.path()).unwrap();
    assert!(write::generate(dir.path()).unwrap().is_empty());
    std::fs::write(dir.path().join("ssm-documents/documents/Redress-Old.json"), "{}").unwrap();
    std::fs::write(dir.path().join("docs/catalogue.md"), "old").unwrap();
    let error = write::check(dir.path()).unwrap_err().to_string();
    for words in ["docs/catalogue.md", "ssm-documents/documents/Redress-Old.json", "cargo xtask generate"] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(write::generate(dir.path()).unwrap().len(), 2);
}

/// `name: value` pairs, as a YAML flow mapping.
fn flow(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// Parameters of a call; with `doubtful`, some values are of the kind that nothing fills.
fn with(doubtful: bool) -> impl Strategy<Value = String> {
    let mut values =
        vec!["$name", "$arn", "$account", "$region", "$Limit", "plain", "3", "true", "[1, $name]", "{ A: $arn }"];
    if doubtful {
        values.extend(["$before", "$before.Enabled", "$nothing", "\"{{ Mode }}\""]);
    }
    let pair = ("[A-Z][A-Za-z]{2,12}", prop::sample::select(values).prop_map(str::to_owned));
    prop::collection::btree_map(pair.0, pair.1, 0..4).prop_map(|pairs| flow(&pairs.into_iter().collect::<Vec<_>>()))
}

/// An API-shaped control file. Unless `doubtful`, it is one that must be accepted.
fn control_file(doubtful: bool) -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec![("Boolean", "true"), ("Integer", "7"), ("String", "\"on\"")]);
    let reads = prop::collection::btree_map("Read[A-Z][A-Za-z0-9]{1,8}", kind, 1..6);
    let arn = prop::sample::select(vec![
        "arn:*:s3:::{}",
        "arn:*:kms:*:*:key/{}",
        "arn:*:iam::*:user/{path}",
        "arn:*:rds:*:*:db:{}",
    ]);
    let calls = |most| prop::collection::vec(with(doubtful), 1..most);
    let shape = (any::<bool>(), any::<bool>(), any::<bool>());
    (reads, prop::collection::btree_set(arn, 1..3), with(doubtful), calls(4), calls(4), shape, "[ -~]{0,59}[a-z]")
        .prop_map(|(reads, arns, inspected, applied, restored, (absent, missing, whole), title)| {
            let title = title.replace("{{", "").replace("}}", "");
            let arns: Vec<String> = arns.iter().map(|arn| format!("\"{arn}\"")).collect();
            let list = |calls: &[String], indent: &str| -> String {
                calls.iter().map(|with| format!("{indent}- {{ call: test:ChangeThing, with: {with} }}\n")).collect()
            };
            let mut file = format!(
                "id: Test.1\ntitle: {}\nsources: {{ securityHub: [Test.1] }}\nrisk: reversible\nscope: regional\n\
                 action: Test it\nexample: One.\nresource: {{ types: [AWS::Test::Thing], arns: [{}] }}\n\
                 parameters: {{ Limit: {{ description: A limit, default: 3 }} }}\n\
                 inspect:\n  call: test:GetThing\n  with: {inspected}\n",
                serde_json::to_string(&title).unwrap(),
                arns.join(", ")
            );
            if absent {
                file.push_str("  absent: NoSuchSetting\n");
            }
            if missing {
                file.push_str("  missing: NoSuchThing\n");
            }
            file.push_str("  read:\n    Whole: { at: $.Thing, type: StringMap }\n");
            for (name, (kind, _)) in &reads {
                file.push_str(&format!("    {name}: {{ at: $.Thing.{name}, type: {kind} }}\n"));
            }
            let state: Vec<(String, String)> = reads.keys().map(|name| (name.clone(), format!("${name}"))).collect();
            file.push_str(&format!("  state: {}\n", if whole { "$Whole".to_owned() } else { flow(&state) }));
            let compliant: Vec<(String, String)> =
                reads.iter().map(|(name, (_, value))| (name.clone(), (*value).to_owned())).collect();
            file.push_str(&format!("compliant: {}\napply:\n{}", flow(&compliant), list(&applied, "  ")));
            file.push_str(&format!("restore:\n  present:\n{}", list(&restored, "    ")));
            if absent {
                file.push_str(&format!("  absent:\n{}", list(&applied, "    ")));
            }
            file
        })
}

proptest! {
    #[test]
    fn every_sound_control_file_is_accepted_and_compiles_to_documents_that_lint(file in control_file(false)) {
        let control = parse("Test.1.yaml", &file).unwrap_or_else(|error| panic!("{error}\n{file}"));
        compile_all(&[control]).unwrap_or_else(|error| panic!("{error}\n{file}"));
    }

    #[test]
    fn a_control_file_is_refused_or_compiles_to_documents_that_lint(file in control_file(true)) {
        if let Ok(control) = parse("Test.1.yaml", &file) {
            compile_all(&[control]).unwrap_or_else(|error| panic!("{error}\n{file}"));
        }
    }

    #[test]
    fn any_text_is_refused_or_compiles(text in "[ -~\n]{0,200}", id in prop::sample::select(vec!["S3.8", "EC2.13"]), at in 0..2000_usize) {
        let mut file = self::text(id);
        let at = (0..=at.min(file.len())).rev().find(|at| file.is_char_boundary(*at)).unwrap_or(0);
        file.insert_str(at, &text);
        if let Ok(control) = parse("x.yaml", &file) {
            compile_all(&[control]).unwrap_or_else(|error| panic!("{error}\n{file}"));
        }
    }
}

#[test]
fn what_cannot_be_put_back_is_said_of_destructive_natives_and_on_their_page() {
    let undo = "undo: Nobody can bring it back.\nexample:";
    assert!(refused("S3.8", "example:", undo).contains("not `destructive`"));
    assert!(
        refused("S3.8", "risk: reversible", "undo: Nobody.\nrisk: destructive").contains("goes with `native` only")
    );
    let control = parse("EC2.3.yaml", &text("EC2.3").replacen("example:", undo, 1)).unwrap();
    let page = compile_all(&[control]).unwrap().catalogue_page;
    assert!(
        page.contains("- **Undo**: Nobody can bring it back.\n") && page.contains("cannot wholly be undone"),
        "{page}"
    );
}

#[test]
fn a_workflow_is_said_whole_and_copies_say_what_ssm_waits_for() {
    assert!(refused("EC2.3", "  rollBack: true\n", "").contains("rollBack"));
    assert!(refused("EC2.3", "rollBack: true", "rollback: true").contains("rollback"));
    assert!(refused("EC2.3", "snapshot: true", "snapshot: maybe").starts_with("EC2.3.yaml:"));
    assert!(refused("EC2.3", "snapshot: true", "snapshot: false").contains("and `copies` go together"));
    let copies = text("EC2.3").split_once("copies:").map(|(_, copies)| format!("copies:{copies}")).unwrap();
    assert!(refused("EC2.3", &copies, "").contains("and `copies` go together"));
    assert!(refused("EC2.7", "inspect:", &format!("{copies}inspect:")).contains("goes with `native` only"));
    assert!(refused("EC2.3", "[$made]", "[snap-1]").contains("does not say what to wait for"));
    assert!(refused("EC2.3", "[$made]", "[$name]").contains("use `$made`"));
    assert!(refused("EC2.3", "at: $.Snapshots[0].State", "at: Snapshots").contains("does not say what to wait for"));
    let page =
        compile_all(&load_controls(&support::root().join("ssm-documents/controls")).unwrap()).unwrap().catalogue_page;
    assert!(page.contains("- **Workflow**: always by `Redress-Workflow`: a safety copy is made"), "{page}");
}
