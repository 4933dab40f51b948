//! What the functions call: as declared, as their roles are allowed, and as their code does it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "other tests use the rest of it")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redress_runbooks::functions::{self, Effect, Function, template};
use redress_runbooks::{iam, trust, write};
use serde_json::Value;
use support::root;

/// What may be written by hand in the templates that have functions: who has it, and why.
const BY_HAND: [(&str, &str); 21] = [
    ("StateMachineRole", "the state machine's: it invokes the one function"),
    ("OperatorRole", "people's"),
    ("ApproverRole", "people's"),
    ("AuditorRole", "people's"),
    ("EvidenceReaderRole", "people's"),
    ("CrossAccountRole", "what four functions may do in a member account, who have no role of their own there"),
    ("ForwarderRole", "EventBridge's"),
    ("FlowLogsRole", "given to a resource of the account's owner"),
    ("TopicLogsRole", "given to a resource of the account's owner"),
    ("TrailLogsRole", "given to a resource of the account's owner"),
    ("RdsMonitoringRole", "given to a resource of the account's owner"),
    ("ManagedInstanceRole", "given to a resource of the account's owner"),
    ("BuildParametersPolicy", "given to a resource of the account's owner"),
    ("ReconcilerDeadLettersPolicy", "a queue's: it lets EventBridge write"),
    ("CheckpointDeadLettersPolicy", "a queue's: it lets EventBridge write"),
    ("ForwardDeadLettersPolicy", "a queue's: it lets EventBridge write"),
    ("EvidenceBucketPolicy", "a bucket's: it denies"),
    ("Key", "a key's"),
    ("ReconcileScheduleMayInvoke", "a function's: it lets EventBridge invoke"),
    ("CheckpointScheduleMayInvoke", "a function's: it lets EventBridge invoke"),
    ("HubOrganizationsMayInvoke", "a function's: it lets EventBridge invoke"),
];

/// Of a further Region: the roles are those of the home Region, which cannot name this Region's log groups.
const FURTHER: &str = "stacksets/member-region.yaml";

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn declared() -> Vec<Function> {
    functions::load(&root()).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether some `Action` is in there, or a policy that has some.
fn grants(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(grants),
        Value::Object(members) => members.iter().any(|(name, value)| {
            let is_power = matches!(name.as_str(), "Action" | "NotAction" | "ManagedPolicyArns");
            // Who may assume a role is no power of the role.
            name != "AssumeRolePolicyDocument" && (is_power || grants(value))
        }),
        _ => false,
    }
}

/// The resources of a template that have power that is not generated.
fn powerful(path: &str) -> BTreeSet<String> {
    let kept = template::by_hand(path, &text(path)).unwrap();
    let value = trust::template(path, &kept).unwrap();
    let resources = value["Resources"].as_object().unwrap().iter();
    let has = |(_, one): &(&String, &Value)| grants(&one["Properties"]);
    resources.filter(has).map(|(id, _)| id.clone()).collect()
}

#[test]
fn no_function_has_a_policy_that_is_written_by_hand() {
    let found: BTreeSet<String> = template::TEMPLATES.iter().flat_map(|path| powerful(path)).collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, BY_HAND.iter().map(|(id, _)| *id).collect(), "generated, or with a reason in `BY_HAND`");
    // Only their logs, and the rest of it is nobody's.
    let further = powerful(FURTHER);
    let value = trust::template(FURTHER, &text(FURTHER)).unwrap();
    for (id, resource) in value["Resources"].as_object().unwrap() {
        if resource["Type"] != "AWS::IAM::Policy" {
            assert!(!resource["Type"].as_str().unwrap().starts_with("AWS::IAM::"), "{id}");
            continue;
        }
        assert!(further.contains(id));
        for statement in resource["Properties"]["PolicyDocument"]["Statement"].as_array().unwrap() {
            assert_eq!(statement["Action"], serde_json::json!(["logs:CreateLogStream", "logs:PutLogEvents"]), "{id}");
        }
    }
}

#[test]
fn every_function_is_declared_once() {
    let names: Vec<String> = declared().into_iter().map(|function| function.name).collect();
    let mut deployed = Vec::new();
    for path in template::TEMPLATES {
        let value = trust::template(path, &text(path)).unwrap();
        let all = value["Resources"].as_object().unwrap().values();
        deployed.extend(
            all.filter_map(|one| one["Properties"]["FunctionName"].as_str())
                .filter(|name| name.starts_with("redress-"))
                .map(str::to_owned),
        );
    }
    let (mut declared, mut found) = (names, deployed);
    declared.sort();
    found.sort();
    assert_eq!(declared, found);
}

/// What is generated, in a folder of its own.
fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let control = format!("{}/S3.8.yaml", write::CONTROLS);
    let files = declared().into_iter().map(|function| function.file).chain([control]);
    for path in files.chain(template::TEMPLATES.map(str::to_owned)) {
        let to = dir.path().join(&path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, text(&path)).unwrap();
    }
    dir
}

#[test]
fn a_change_by_hand_between_the_comments_is_stale_and_written_away() {
    let dir = copied();
    write::generate(dir.path()).unwrap();
    write::check(dir.path()).unwrap();
    let path = dir.path().join("stacksets/member-stack.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    assert_eq!(good, text("stacksets/member-stack.yaml"));
    for (from, to) in [
        ("                  - kms:GenerateDataKey\n", "                  - kms:*\n"),
        ("      # End of what is generated\n", "        - PolicyName: more\n      # End of what is generated\n"),
        ("                  - tag:GetResources\n", ""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        std::fs::write(&path, bad).unwrap();
        let said = write::check(dir.path()).unwrap_err().to_string();
        assert!(said.contains("stacksets/member-stack.yaml"), "{said}");
        assert_eq!(write::generate(dir.path()).unwrap(), ["stacksets/member-stack.yaml"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), good);
    }
}

#[test]
fn a_declared_call_is_what_its_function_may_do_and_no_more() {
    let dir = copied();
    let file = dir.path().join("member/calls/recorder.yaml");
    let with = std::fs::read_to_string(&file).unwrap().replace("s3:PutObject", "s3:PutObject, s3:DeleteObject");
    std::fs::write(&file, with).unwrap();
    let texts = write::functions(dir.path()).unwrap();
    let policy = |text: &str| {
        let value = trust::template("t", text).unwrap();
        value["Resources"]["RecorderRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].clone()
    };
    let (was, is) = (policy(&text("stacksets/member-stack.yaml")), policy(&texts["stacksets/member-stack.yaml"]));
    assert_eq!(is[0]["Action"], serde_json::json!(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]));
    assert_eq!((&is[1], &is[2]), (&was[1], &was[2]));
}

#[test]
fn a_file_of_a_function_that_is_nowhere_is_refused() {
    let dir = copied();
    let file = text("member/calls/recorder.yaml").replace("redress-recorder", "redress-spy");
    std::fs::write(dir.path().join("member/calls/spy.yaml"), file).unwrap();
    let said = write::functions(dir.path()).unwrap_err().to_string();
    assert!(said.contains("no template has the policy of `redress-spy`"), "{said}");
}

// --- What is declared, and what the code does ------------------------------------------------------------------------

/// Where a crate's calls are: its own code, and what both sides share.
fn code(folder: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for folder in [folder, "common/src/aws"] {
        add(&root().join(folder), folder, &mut files);
    }
    assert!(files.len() > 10, "{folder}");
    files
}

fn add(dir: &Path, name: &str, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{name}/{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            add(&path, &name, files);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let whole = std::fs::read_to_string(&path).unwrap();
            let whole = whole.split("\nmod tests {").next().unwrap_or_default();
            let lines = whole.lines().filter(|line| !line.trim_start().starts_with("//"));
            files.insert(name, lines.map(|line| format!("{line}\n")).collect());
        }
    }
}

/// Calls of the SDK whose IAM action has another name.
const RENAMED: [(&str, &[&str]); 14] = [
    ("DeleteBucketLifecycle", &["PutLifecycleConfiguration"]),
    ("DeletePublicAccessBlock", &["PutBucketPublicAccessBlock"]),
    ("GetBucketLifecycleConfiguration", &["GetLifecycleConfiguration"]),
    ("GetBucketNotificationConfiguration", &["GetBucketNotification"]),
    ("GetBucketReplication", &["GetReplicationConfiguration"]),
    ("GetPublicAccessBlock", &["GetBucketPublicAccessBlock"]),
    ("HeadBucket", &["ListBucket"]),
    ("Invoke", &["InvokeFunction"]),
    ("ListObjectVersions", &["ListBucketVersions"]),
    ("ListObjectsV2", &["ListBucket"]),
    ("PutBucketLifecycleConfiguration", &["PutLifecycleConfiguration"]),
    ("PutBucketNotificationConfiguration", &["PutBucketNotification"]),
    ("PutPublicAccessBlock", &["PutBucketPublicAccessBlock"]),
    ("TransactWriteItems", &["DeleteItem", "PutItem", "UpdateItem"]),
];

/// Calls over the wire whose IAM action has another name: API Gateway's policies speak of HTTP's methods.
const METHODS: [(&str, &str); 2] = [("GetStage", "GET"), ("UpdateStage", "PATCH")];

/// Declared calls that AWS makes in a function's name, or asks for beside another.
const MADE_BY_AWS: [(&str, &str); 3] = [
    ("sqs:GetQueueAttributes", "Lambda, of the queue that starts a function"),
    ("s3:PutObjectRetention", "S3, of a PutObject that carries a lock"),
    ("s3:ListBucket", "S3, before it says of an object that it is not there"),
];

/// Calls whose operation is not where they are sent: a function makes them ready.
const MADE_READY: [(&str, &str); 1] = [("common/src/aws/evidence.rs", "PutObject")];

/// Zero-argument methods that are no operations.
const NO_OPERATIONS: [&str; 4] = ["customize", "into_paginator", "items", "send"];

/// `put_item` is `PutItem`.
fn operation(method: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    method.split('_').map(word).collect()
}

/// Where the expression starts that ends before `end`.
fn start(text: &str, end: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (end, 0);
    while at > 0 {
        let one = bytes[at - 1];
        match one {
            b')' | b']' | b'}' => depth += 1,
            b'(' | b'[' | b'{' if depth == 0 => return at,
            b'(' | b'[' | b'{' => depth -= 1,
            _ if depth > 0 => {}
            _ if one.is_ascii_whitespace() => {
                // A line break inside a chain.
                let after = text[at..end].trim_start();
                if !after.is_empty() && !after.starts_with('.') {
                    return at;
                }
            }
            _ if one.is_ascii_alphanumeric() || b"_.?:&".contains(&one) => {}
            _ => return at,
        }
        at -= 1;
    }
    0
}

/// An expression without what stands in its brackets, and without space.
fn outline(expression: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0);
    for one in expression.chars() {
        match one {
            '(' | '[' | '{' => {
                depth += 1;
                if depth == 1 {
                    out.push(one);
                }
            }
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    out.push(one);
                }
            }
            _ if depth > 0 => {
                if !out.ends_with('~') {
                    out.push('~');
                }
            }
            _ if one.is_whitespace() => {}
            _ => out.push(one),
        }
    }
    out
}

/// The last method without arguments that may be an operation.
fn method(outline: &str) -> Option<&str> {
    let name = |before: &'_ str| before.rfind('.').map(|at| at + 1);
    let pieces: Vec<&str> = outline.split("()").collect();
    let called = pieces.split_last()?.1.iter().filter_map(|before| name(before).map(|at| &before[at..]));
    let is_word = |name: &&str| !name.is_empty() && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_');
    called.filter(is_word).rfind(|name| !NO_OPERATIONS.contains(name))
}

/// The operation of a request that is sent at `at`; a variable is followed to where it is made.
fn sent(text: &str, at: usize) -> Option<String> {
    let mut from = start(text, at);
    let mut shape = outline(&text[from..at]);
    for _ in 0..8 {
        // What is made of itself in an `if` was there before.
        let chosen = shape.starts_with("if") && shape.contains("else{");
        if let Some(name) = method(&shape).filter(|_| !chosen) {
            return Some(operation(name));
        }
        let is_part = |one: &char| one.is_ascii_alphanumeric() || *one == '_';
        let root: String = shape.trim_start_matches('&').chars().take_while(is_part).collect();
        let root = if chosen { variable(text, from)? } else { root };
        let made = [format!("let {root} ="), format!("let mut {root} =")];
        let found = made.iter().filter_map(|line| text[..from].rfind(line).map(|at| (at, at + line.len()))).max()?;
        let end = found.1 + text[found.1..].find(';')?;
        (from, shape) = (found.0, outline(&text[found.1..end]));
    }
    None
}

/// The variable of the `let` that stands at `at`.
fn variable(text: &str, at: usize) -> Option<String> {
    let rest = text[at..].strip_prefix("let ")?;
    rest.trim_start_matches("mut ").split_whitespace().next().map(str::to_owned)
}

/// Every operation that the code sends by the SDK: its name, and where.
fn sends(files: &BTreeMap<String, String>) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (file, text) in files {
        for (at, _) in text.match_indices(".send()") {
            let ready = MADE_READY.iter().find(|(of, _)| of == file).map(|(_, name)| (*name).to_owned());
            let name = sent(text, at).or(ready);
            let line = text[..at].matches('\n').count();
            found.insert((name.unwrap_or_else(|| panic!("{file}: what is sent in code line {line}?")), file.clone()));
        }
    }
    found
}

/// The operations that the code makes over the wire, without an SDK crate.
fn wired(files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in files.values() {
        for (at, before) in text.match_indices(".operation(").chain(text.match_indices(".at(")) {
            let Some(rest) = text[at + before.len()..].trim_start().strip_prefix('"') else { continue };
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            // Of a path, the method follows; `.at` is many things' name.
            let next = rest[name.len()..].trim_start_matches('"').trim_start_matches(',').trim_start();
            let is_operation = before == ".operation(" || next.starts_with('"');
            if is_operation && name.starts_with(|first: char| first.is_ascii_uppercase()) {
                found.insert(name);
            }
        }
    }
    found
}

/// The operations that some declaration of a crate's functions allows; of members, also their controls' and playbooks'.
fn allowed(folder: &str) -> BTreeSet<String> {
    let mine = declared().into_iter().filter(|function| function.file.starts_with(folder));
    let calls = mine.flat_map(|function| function.calls).filter(|calls| calls.effect == Effect::Allow);
    let mut actions: BTreeSet<String> = calls.flat_map(|calls| calls.actions).collect();
    if folder.starts_with("member") {
        actions.extend(write::load_all(&root()).unwrap().iter().flat_map(|control| iam::actions(control).into_keys()));
    }
    actions
}

/// What the administrator account's functions may do in a member account.
fn in_members() -> BTreeSet<String> {
    let value = trust::template("t", &text("stacksets/member-stack.yaml")).unwrap();
    let policy = &value["Resources"]["CrossAccountRole"]["Properties"]["Policies"][0]["PolicyDocument"];
    let statements = policy["Statement"].as_array().unwrap().iter();
    let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

fn operations(actions: BTreeSet<String>) -> BTreeSet<String> {
    actions.into_iter().map(|action| action.split_once(':').unwrap().1.to_owned()).collect()
}

#[test]
fn what_is_declared_is_called_somewhere_in_the_functions_code() {
    for crate_name in ["admin", "member"] {
        let files = code(&format!("{crate_name}/src"));
        let sent = sends(&files).into_iter().map(|(name, _)| name).chain(wired(&files));
        let known = |name: &String| RENAMED.iter().find(|(renamed, _)| renamed == name).map(|(_, actions)| *actions);
        let made: BTreeSet<String> = sent
            .flat_map(|name| {
                known(&name)
                    .map_or_else(|| vec![name.clone()], |actions| actions.iter().map(|one| (*one).to_owned()).collect())
            })
            .collect();
        for function in declared().into_iter().filter(|function| function.file.starts_with(crate_name)) {
            for calls in function.calls.iter().filter(|calls| calls.effect == Effect::Allow) {
                for action in calls.actions.iter().filter(|action| MADE_BY_AWS.iter().all(|(made, _)| made != action)) {
                    let operation = action.split_once(':').unwrap().1;
                    assert!(made.contains(operation), "{}:{}: no code makes `{action}`", function.file, calls.line);
                }
            }
        }
    }
}

#[test]
fn what_the_functions_code_calls_is_declared() {
    let shared = operations(allowed("admin").into_iter().chain(allowed("member")).collect());
    for folder in ["admin", "member"] {
        let files = code(&format!("{folder}/src"));
        let mut may = operations(allowed(folder));
        if folder == "admin" {
            may.extend(operations(in_members()));
        }
        let sent = sends(&files);
        assert!(sent.len() > 20, "{sent:?}");
        for (name, file) in sent {
            let known = RENAMED.iter().find(|(renamed, _)| *renamed == name);
            let actions = known.map_or_else(|| vec![name.as_str()], |(_, actions)| actions.to_vec());
            // What both share is called by one of them.
            let may = if file.starts_with("common/") { &shared } else { &may };
            assert!(actions.iter().all(|action| may.contains(*action)), "{file}: nothing declares {actions:?}");
        }
        for name in wired(&files) {
            let action =
                METHODS.iter().find(|(operation, _)| *operation == name).map_or(name.as_str(), |(_, method)| *method);
            assert!(may.contains(action), "{folder}: nothing declares `{name}`, which goes over the wire");
        }
    }
}

#[test]
fn a_request_is_found_wherever_it_is_made() {
    let of = |text: &str| sent(text, text.find(".send()").unwrap());
    for text in [
        "let x = self.client.put_item().table_name(t).send().await;",
        "let put = client\n    .put_item()\n    .set_limit(i32::try_from(limit).ok());\nlet put = put.item(x);\nput.send().await",
        "let q = c.put_item();\nlet q = if after.is_empty() { q } else { q.key(after.get()) };\nq.send()",
        "f(client.put_item().customize().config_override(within.clone()).send())",
        "let mut pages = client.put_item().into_paginator().items().send();",
    ] {
        assert_eq!(of(text).as_deref(), Some("PutItem"), "{text}");
    }
    assert_eq!(of("self.put(evidence)?.if_match(etag).send()"), None);
}
