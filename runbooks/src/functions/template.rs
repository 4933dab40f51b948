//! The policies of the functions' roles, in place: each stands in its role between two comments of the template, and is
//! written from the function's file of calls. The rest of the template stays as it is, byte for byte.
//!
//! Pure. Where a policy belongs is not declared a second time: function, role and log group are found in the template.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::targets::Target;
use super::{Calls, Effect, Function, FunctionError, LOGS, TRACES, invalid};
use crate::trust;

/// The templates with functions that have roles of their own, below the repository's root.
pub const TEMPLATES: [&str; 3] =
    ["stacksets/administrator/functions.yaml", "stacksets/administrator/workflow.yaml", "stacksets/member-stack.yaml"];

/// How the comment before a policy starts, and how it ends; in between is the file of calls.
const START: &str = "# Generated from ";
const CHANGE: &str = "; change that and run `cargo xtask generate`";
/// The comment after it.
const END: &str = "# End of what is generated";

/// The template's condition under which functions are traced.
const TRACED: &str = "Traced";

/// Words that are no texts to some readers of YAML, in any case.
const NO_TEXTS: [&str; 9] = ["false", "n", "no", "null", "off", "on", "true", "y", "yes"];

/// A part of a template.
enum Part<'a> {
    /// What is written by hand, whole lines.
    Kept(&'a str),
    /// What is generated.
    Generated(Place<'a>),
}

/// Where something is generated.
struct Place<'a> {
    /// The file of calls, as the comment names it.
    file: &'a str,
    /// The line of the comment, from 1.
    line: u64,
    /// How far it is indented.
    indent: usize,
    /// The resource that it stands in.
    inside: &'a str,
}

/// The parts of a template. What stands between the comments is left out: it is written anew.
fn parts<'a>(path: &str, text: &'a str) -> Result<Vec<Part<'a>>, FunctionError> {
    let mut parts = Vec::new();
    let mut open: Option<Place<'a>> = None;
    let mut inside = "";
    for (line, whole) in (1..).zip(text.split_inclusive('\n')) {
        let bare = whole.trim();
        if let Some(place) = open.take() {
            let start = place.line;
            if bare == END {
                parts.push(Part::Generated(place));
            } else if bare.starts_with(START) {
                let problem = format!("what is generated here begins before what began in line {start} has ended");
                return Err(invalid(path, line, problem, format!("write `{END}` where it ends")));
            } else {
                open = Some(place);
            }
            continue;
        }
        if bare == END {
            return Err(invalid(path, line, "nothing that is generated ends here", "take the comment away"));
        }
        if let Some(rest) = bare.strip_prefix(START) {
            let Some(file) = rest.strip_suffix(CHANGE) else {
                let problem = "the comment does not say what is generated";
                return Err(invalid(path, line, problem, format!("write `{START}‹file›{CHANGE}`")));
            };
            let indent = whole.len() - whole.trim_start().len();
            open = Some(Place { file, line, indent, inside });
            continue;
        }
        let key = whole.strip_prefix("  ").and_then(|rest| rest.trim_end().strip_suffix(':'));
        let is_id = |key: &&str| !key.is_empty() && key.chars().all(|one| one.is_ascii_alphanumeric());
        inside = key.filter(is_id).unwrap_or(inside);
        parts.push(Part::Kept(whole));
    }
    match open {
        None => Ok(parts),
        Some(place) => {
            let problem = "what is generated here does not end";
            Err(invalid(path, place.line, problem, format!("write `{END}` where it ends")))
        }
    }
}

/// A template without what is generated.
///
/// # Errors
/// When the comments do not fit each other.
pub fn by_hand(path: &str, text: &str) -> Result<String, FunctionError> {
    let kept = |part| match part {
        Part::Kept(lines) => Some(lines),
        Part::Generated(_) => None,
    };
    Ok(parts(path, text)?.into_iter().filter_map(kept).collect())
}

/// The template `text` of `path` with the policies of `functions`; and the files of those that it has.
///
/// # Errors
/// When a function of the template has no file or no place, a place is not in the function's role, the role has a policy
/// beside it, or a file speaks of something that the template does not have.
pub fn written(path: &str, text: &str, functions: &[Function]) -> Result<(String, BTreeSet<String>), FunctionError> {
    let template = Template { path, value: trust::template(path, &by_hand(path, text)?)? };
    let (mut out, mut done) = (String::with_capacity(text.len()), BTreeSet::new());
    for part in parts(path, text)? {
        let place = match part {
            Part::Kept(lines) => {
                out.push_str(lines);
                continue;
            }
            Part::Generated(place) => place,
        };
        let Some(function) = functions.iter().find(|function| function.file == place.file) else {
            let problem = format!("there is no `{}`", place.file);
            return Err(invalid(path, place.line, problem, "name the file that says what the role's function calls"));
        };
        if !done.insert(function.file.clone()) {
            let problem = format!("the policy from `{}` is here a second time", place.file);
            return Err(invalid(path, place.line, problem, "take one of them away"));
        }
        let role = template.role(function, &place)?;
        let policy = policy(function, &role);
        let comments = [format!("{START}{}{CHANGE}", function.file), END.to_owned()];
        let [start, end] = &comments;
        for line in [start].into_iter().chain(&policy).chain([end]) {
            out.push_str(&" ".repeat(place.indent));
            out.push_str(line);
            out.push('\n');
        }
    }
    for name in template.functions() {
        if !functions.iter().any(|function| function.name == name && done.contains(&function.file)) {
            let problem = format!("function `{name}` has a role whose policy is not generated");
            let remedy =
                format!("say in a file what it calls, and write `{START}‹file›{CHANGE}` and `{END}` into the role");
            return Err(invalid(path, 0, problem, remedy));
        }
    }
    Ok((out, done))
}

/// A function whose policy is in no template.
#[must_use]
pub fn homeless(function: &Function) -> FunctionError {
    let remedy = format!("write `{START}{}{CHANGE}` and `{END}` into the function's role", function.file);
    invalid(&function.file, 0, format!("no template has the policy of `{}`", function.name), remedy)
}

/// What a policy needs to know of its template.
struct Role {
    /// The log group's logical id.
    logs: String,
    /// Whether the function can be traced.
    traced: bool,
}

struct Template<'a> {
    path: &'a str,
    value: Value,
}

impl Template<'_> {
    fn resources(&self, kind: &'static str) -> impl Iterator<Item = (&String, &Value)> {
        let all = self.value["Resources"].as_object().into_iter().flat_map(Map::iter);
        all.filter(move |(_, one)| one["Type"] == kind).map(|(id, one)| (id, &one["Properties"]))
    }

    fn functions(&self) -> impl Iterator<Item = &str> {
        self.resources("AWS::Lambda::Function").filter_map(|(_, one)| one["FunctionName"].as_str())
    }

    fn has(&self, section: &str, name: &str) -> bool {
        self.value[section].get(name).is_some()
    }

    /// The function's role, which must be where the policy stands.
    fn role(&self, function: &Function, place: &Place<'_>) -> Result<Role, FunctionError> {
        let name = &function.name;
        let wrong = |problem: String, remedy: &str| Err(invalid(self.path, place.line, problem, remedy));
        let found = self.resources("AWS::Lambda::Function").find(|(_, one)| one["FunctionName"] == **name);
        let Some((_, properties)) = found else {
            return wrong(format!("there is no function `{name}`"), "add it, or take its policy away");
        };
        let role = properties["Role"]["Fn::GetAtt"].as_str().and_then(|name| name.strip_suffix(".Arn"));
        if role != Some(place.inside) {
            let problem = format!("`{}` is not the role of function `{name}`", place.inside);
            return wrong(problem, "move the two comments into the role that the function names");
        }
        let own = self.resources("AWS::IAM::Role").find(|(id, _)| *id == place.inside);
        let beside = |(_, role): (_, &Value)| role.get("Policies").is_some() || role.get("ManagedPolicyArns").is_some();
        if own.is_none_or(beside) {
            let problem = format!("`{}` is no role, or has policies that are not generated", place.inside);
            return wrong(problem, &format!("move what they allow to `{}`", function.file));
        }
        let group = format!("/aws/lambda/{name}");
        let Some((logs, _)) = self.resources("AWS::Logs::LogGroup").find(|(_, one)| one["LogGroupName"] == *group)
        else {
            return wrong(format!("there is no log group `{group}`"), "add it beside the function");
        };
        for calls in &function.calls {
            self.knows(function, calls)?;
        }
        let traced = properties.get("TracingConfig").is_some();
        if traced && !self.has("Conditions", TRACED) {
            return wrong(format!("`{name}` can be traced, and there is no condition `{TRACED}`"), "add it");
        }
        Ok(Role { logs: logs.clone(), traced })
    }

    /// Whether the template has what a statement speaks of.
    fn knows(&self, function: &Function, calls: &Calls) -> Result<(), FunctionError> {
        let wrong = |problem: String, remedy: String| {
            let problem = format!("statement `{}` {problem}", calls.sid);
            Err(invalid(&function.file, calls.line, problem, remedy))
        };
        for target in &calls.targets {
            let missing = |name: &&str| !self.has("Parameters", name) && !self.has("Resources", name);
            if let Some(name) = target.arn.speaks_of().into_iter().find(missing) {
                let problem = format!("is for `{}`, and {} has no `{name}`", target.name, self.path);
                return wrong(problem, "name something of that template, or give it the parameter".to_owned());
            }
        }
        match calls.when.as_ref().filter(|when| !self.has("Conditions", when)) {
            None => Ok(()),
            Some(when) => {
                let conditions = self.value["Conditions"].as_object().into_iter().flat_map(Map::keys);
                let known: Vec<&str> = conditions.map(String::as_str).collect();
                let problem = format!("is there when `{when}`, which is no condition of {}", self.path);
                wrong(problem, format!("it has {}", known.join(", ")))
            }
        }
    }
}

/// The lines of a role's `Policies`.
fn policy(function: &Function, role: &Role) -> Vec<String> {
    let (allowed, denied): (Vec<&Calls>, Vec<&Calls>) =
        function.calls.iter().partition(|calls| calls.effect == Effect::Allow);
    let mut lines = vec![
        "Policies:".to_owned(),
        format!("  - PolicyName: {}", plain(&function.policy)),
        "    PolicyDocument:".to_owned(),
        "      Version: \"2012-10-17\"".to_owned(),
        "      Statement:".to_owned(),
    ];
    let mut all: Vec<Vec<String>> = allowed.into_iter().map(declared).collect();
    let own = Statement {
        sid: LOGS,
        effect: Effect::Allow,
        actions: &["logs:CreateLogStream", "logs:PutLogEvents"],
        resources: vec![format!("!GetAtt {}.Arn", role.logs)],
    };
    all.push(item(None, None, own.lines()));
    if role.traced {
        let traces = Statement {
            sid: TRACES,
            effect: Effect::Allow,
            actions: &["xray:PutTelemetryRecords", "xray:PutTraceSegments"],
            resources: vec!["\"*\"".to_owned()],
        };
        all.push(item(Some("X-Ray has no resources to name."), Some(TRACED), traces.lines()));
    }
    all.extend(denied.into_iter().map(declared));
    lines.extend(all.into_iter().flatten().map(|line| format!("        {line}")));
    lines
}

/// A statement that a file declares.
fn declared(calls: &Calls) -> Vec<String> {
    let actions: Vec<&str> = calls.actions.iter().map(String::as_str).collect();
    let written = |target: &&'static Target| target.arn.written();
    let statement = Statement {
        sid: &calls.sid,
        effect: calls.effect,
        actions: &actions,
        resources: calls.targets.iter().map(written).collect(),
    };
    let mut lines = statement.lines();
    if !calls.only.is_empty() {
        lines.push("Condition:".to_owned());
    }
    for (operator, keys) in &calls.only {
        lines.push(format!("  {operator}:"));
        for (key, values) in keys {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            lines.push(format!("    {key}: [{}]", values.join(", ")));
        }
    }
    item(calls.why.as_deref(), calls.when.as_deref(), lines)
}

/// A word, between quotes where YAML would take it for something else.
fn plain(word: &str) -> String {
    let is_other = word.starts_with(|first: char| !first.is_ascii_alphabetic())
        || NO_TEXTS.iter().any(|known| known.eq_ignore_ascii_case(word));
    if is_other { quoted(word) } else { word.to_owned() }
}

/// A text as YAML writes it between quotes, which is as JSON does.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

struct Statement<'a> {
    sid: &'a str,
    effect: Effect,
    actions: &'a [&'a str],
    resources: Vec<String>,
}

impl Statement<'_> {
    fn lines(&self) -> Vec<String> {
        let effect = match self.effect {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        };
        let mut lines = vec![format!("Sid: {}", plain(self.sid)), format!("Effect: {effect}"), "Action:".to_owned()];
        lines.extend(self.actions.iter().map(|action| format!("  - {action}")));
        match self.resources.as_slice() {
            [one] => lines.push(format!("Resource: {one}")),
            all => {
                lines.push("Resource:".to_owned());
                lines.extend(all.iter().map(|one| format!("  - {one}")));
            }
        }
        lines
    }
}

/// An item of the list of statements: its reason before it, and only when a condition of the template holds.
fn item(why: Option<&str>, when: Option<&str>, lines: Vec<String>) -> Vec<String> {
    let listed = |lines: Vec<String>| {
        (0..).zip(lines).map(|(nth, line)| format!("{}{line}", if nth == 0 { "- " } else { "  " }))
    };
    let comment = why.map(|why| format!("# {why}"));
    let lines: Vec<String> = match when {
        None => listed(lines).collect(),
        Some(when) => {
            let choice = ["- !If".to_owned(), format!("  - {when}")].into_iter();
            let whether = listed(lines).map(|line| format!("  {line}"));
            choice.chain(whether).chain(["  - !Ref AWS::NoValue".to_owned()]).collect()
        }
    };
    comment.into_iter().chain(lines).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Conditions, parse, targets};
    use super::*;

    const PATH: &str = "stacksets/t.yaml";

    fn function(calls: &str) -> Function {
        let text = format!("function: redress-door\npolicy: open\ncalls:\n{calls}");
        parse("admin/calls/door.yaml", &text).unwrap()
    }

    /// A template with one function, and in its role what is given.
    fn template(tracing: &str, inside: &str) -> String {
        format!(
            "Parameters:\n  StateTableArn: {{Type: String}}\nConditions:\n  HasIt: !Equals [a, b]\n  Traced: !Equals [a, b]\nResources:\n  \
             Log:\n    Type: AWS::Logs::LogGroup\n    Properties:\n      LogGroupName: /aws/lambda/redress-door\n  Door:\n    \
             Type: AWS::Lambda::Function\n    Properties:\n      FunctionName: redress-door\n      Role: !GetAtt DoorRole.Arn\n{tracing}  \
             DoorRole:\n    Type: AWS::IAM::Role\n    Properties:\n      RoleName: Door\n{inside}\n  # Kept.\n  Other:\n    \
             Type: AWS::SNS::Topic\n"
        )
    }

    const TRACING: &str = "      TracingConfig: {Mode: Active}\n";

    fn marked(between: &str) -> String {
        format!("      {START}admin/calls/door.yaml{CHANGE}\n{between}      {END}\n")
    }

    fn generated(text: &str, function: Function) -> String {
        written(PATH, text, &[function]).unwrap().0
    }

    fn refused(text: &str, function: Function) -> String {
        written(PATH, text, &[function]).unwrap_err().to_string()
    }

    const STATE: &str = "  - {sid: State, target: state-table, actions: [dynamodb:PutItem, dynamodb:Query]}\n";

    #[test]
    fn a_policy_is_written_into_its_place_and_nothing_else_is_touched() {
        let calls = format!(
            "{STATE}  - {{sid: Some, why: \"For a reason: this.\", target: state-table, actions: [dynamodb:Scan], when: HasIt, only: \
             {{ForAllValues:StringLike: {{dynamodb:LeadingKeys: [\"a#*\", b]}}}}}}\n  - {{sid: Never, target: [state-table, \
             audit-table], actions: [dynamodb:DeleteItem], effect: Deny}}\n"
        );
        let text = template(TRACING, &marked("      Policies: [by, hand]\n"))
            .replace("  StateTableArn", "  AuditTableArn: {Type: String}\n  StateTableArn");
        let out = generated(&text, function(&calls));
        let policy = r#"      # Generated from admin/calls/door.yaml; change that and run `cargo xtask generate`
      Policies:
        - PolicyName: open
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - Sid: State
                Effect: Allow
                Action:
                  - dynamodb:PutItem
                  - dynamodb:Query
                Resource: !Ref StateTableArn
              # For a reason: this.
              - !If
                - HasIt
                - Sid: Some
                  Effect: Allow
                  Action:
                    - dynamodb:Scan
                  Resource: !Ref StateTableArn
                  Condition:
                    ForAllValues:StringLike:
                      dynamodb:LeadingKeys: ["a#*", "b"]
                - !Ref AWS::NoValue
              - Sid: Logs
                Effect: Allow
                Action:
                  - logs:CreateLogStream
                  - logs:PutLogEvents
                Resource: !GetAtt Log.Arn
              # X-Ray has no resources to name.
              - !If
                - Traced
                - Sid: Traces
                  Effect: Allow
                  Action:
                    - xray:PutTelemetryRecords
                    - xray:PutTraceSegments
                  Resource: "*"
                - !Ref AWS::NoValue
              - Sid: Never
                Effect: Deny
                Action:
                  - dynamodb:DeleteItem
                Resource:
                  - !Ref StateTableArn
                  - !Ref AuditTableArn
      # End of what is generated
"#;
        let (before, rest) = text.split_once(&format!("      {START}")).unwrap();
        let (_, after) = rest.split_once(&format!("{END}\n")).unwrap();
        assert_eq!(out, format!("{before}{policy}{after}"));
        assert_eq!(generated(&out, function(&calls)), out);
    }

    #[test]
    fn what_is_broken_by_hand_between_the_comments_is_written_anew() {
        let whole = generated(&template("", &marked("")), function(STATE));
        assert!(!whole.contains("xray"), "it has no tracing");
        for broken in ["      - : [\n", "      Policies: []\n      Policies: []\n", "", "  Elsewhere:\n"] {
            assert_eq!(generated(&template("", &marked(broken)), function(STATE)), whole, "{broken}");
        }
    }

    #[test]
    fn a_function_without_a_generated_policy_is_refused() {
        for inside in ["", "      Policies: [by, hand]\n"] {
            assert!(
                refused(&template("", inside), function(STATE)).contains("function `redress-door` has a role whose")
            );
        }
        assert!(
            written(PATH, &template("", &marked("")), &[])
                .unwrap_err()
                .to_string()
                .contains("no `admin/calls/door.yaml`")
        );
    }

    #[test]
    fn a_policy_beside_the_generated_one_is_refused() {
        for beside in ["      Policies: []\n", "      ManagedPolicyArns: [a]\n"] {
            let text = template("", &format!("{beside}{}", marked("")));
            assert!(refused(&text, function(STATE)).contains("policies that are not generated"), "{beside}");
        }
    }

    #[test]
    fn comments_that_do_not_fit_each_other_are_refused_by_line() {
        let (start, end) = (format!("      {START}admin/calls/door.yaml{CHANGE}\n"), format!("      {END}\n"));
        for (inside, why) in [
            (start.clone(), "does not end"),
            (end.clone(), "nothing that is generated ends here"),
            (format!("{start}{start}{end}"), "has ended"),
            (format!("{start}{end}{start}{end}"), "a second time"),
            (format!("      {START}admin/calls/door.yaml\n{end}"), "does not say what is generated"),
        ] {
            let said = refused(&template("", &inside), function(STATE));
            assert!(said.starts_with("stacksets/t.yaml:2") && said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_policy_in_another_role_is_refused() {
        let text = template("", &marked("")).replace("  DoorRole:\n", "  GateRole:\n");
        assert!(refused(&text, function(STATE)).contains("`GateRole` is not the role of function `redress-door`"));
    }

    #[test]
    fn what_the_template_does_not_have_is_refused_by_the_line_that_speaks_of_it() {
        for (statement, why) in [
            ("  - {sid: A, target: topic, actions: [sns:Publish]}\n", "no `NotificationsTopicArn`"),
            ("  - {sid: A, target: evidence-key, actions: [kms:Decrypt]}\n", "no `Key`"),
            ("  - {sid: A, target: threat-list, actions: [s3:ListBucket]}\n", "no `AdministratorAccountId`"),
            ("  - {sid: A, target: evidence, actions: [s3:GetObject], when: HasThat}\n", "it has HasIt, Traced"),
        ] {
            let said = refused(&template("", &marked("")), function(statement));
            assert!(said.starts_with("admin/calls/door.yaml:4: statement `A`") && said.contains(why), "{said}");
        }
        let text = template(TRACING, &marked("")).replace("  Traced: !Equals [a, b]\n", "");
        assert!(refused(&text, function(STATE)).contains("no condition `Traced`"));
    }

    /// Statements as a file could have them; the line numbers do not matter.
    fn calls() -> impl Strategy<Value = Vec<Calls>> {
        let target = prop::sample::select(vec!["state-table", "evidence", "everything", "buckets"]);
        let text = "[ -~]{1,20}";
        let only = prop::collection::btree_map(
            prop::sample::select(vec!["StringLike".to_owned(), "ForAllValues:StringEquals".to_owned()]),
            prop::collection::btree_map("[a-z]{1,5}:[A-Za-z/]{1,9}", prop::collection::vec(text, 1..3), 1..3),
            0..3,
        );
        let one = (
            ("[A-Za-z][A-Za-z0-9]{0,9}", prop::option::of("[a-zA-Z][ -~]{0,30}"), target),
            (prop::collection::vec("[a-z]{2,5}:[A-Z][A-Za-z]{1,9}", 1..4), only),
            (prop::option::of(Just("HasIt".to_owned())), any::<bool>()),
        );
        let one = one.prop_map(|((sid, why, target), (actions, only), (when, denies))| Calls {
            sid,
            why,
            targets: targets::find(target).into_iter().collect(),
            actions,
            only,
            when,
            effect: if denies { Effect::Deny } else { Effect::Allow },
            line: 0,
        });
        prop::collection::vec(one, 0..5)
    }

    /// A statement as CloudFormation reads it.
    fn read(calls: &Calls) -> Value {
        let resource: Vec<Value> =
            calls.targets.iter().map(|target| serde_json::json!({ "target": target.arn.written() })).collect();
        serde_json::json!({
            "Sid": calls.sid, "Effect": format!("{:?}", calls.effect), "Action": calls.actions, "Resource": resource,
            "Condition": (!calls.only.is_empty()).then_some(&calls.only), "When": calls.when,
        })
    }

    /// The same, of a template.
    fn said(statement: &Value) -> Value {
        let (when, statement) = match statement.get("Fn::If") {
            Some(choice) => (choice[0].clone(), &choice[1]),
            None => (Value::Null, statement),
        };
        let resource = match &statement["Resource"] {
            Value::String(all) => format!("\"{all}\""),
            one if one["Ref"].is_string() => format!("!Ref {}", one["Ref"].as_str().unwrap()),
            one => format!("!Sub {}", one["Fn::Sub"]),
        };
        serde_json::json!({
            "Sid": statement["Sid"], "Effect": statement["Effect"], "Action": statement["Action"],
            "Resource": [{ "target": resource }], "Condition": statement["Condition"], "When": when,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_meant_and_written_again_is_the_same(calls in calls()) {
            let mut function = function(STATE);
            function.calls = calls;
            let (out, done) = written(PATH, &template("", &marked("")), std::slice::from_ref(&function)).unwrap();
            prop_assert_eq!(done.len(), 1);
            let value = trust::template(PATH, &out).unwrap();
            let policies = &value["Resources"]["DoorRole"]["Properties"]["Policies"];
            let statements = policies[0]["PolicyDocument"]["Statement"].as_array().unwrap();
            let read_back: Vec<Value> = statements.iter().filter(|one| one["Sid"] != LOGS || one["Resource"].get("Fn::GetAtt").is_none()).map(said).collect();
            let (allowed, denied): (Vec<&Calls>, Vec<&Calls>) =
                function.calls.iter().partition(|calls| calls.effect == Effect::Allow);
            let meant: Vec<Value> = allowed.into_iter().chain(denied).map(read).collect();
            prop_assert_eq!(read_back, meant);
            prop_assert_eq!(written(PATH, &out, &[function]).unwrap().0, out);
        }

        #[test]
        fn no_text_between_or_around_the_comments_is_lost(texts in prop::collection::vec("[ a-zA-Z:#]{0,12}\n?", 0..12)) {
            let text: String = texts.concat();
            if let Ok(kept) = by_hand(PATH, &text) {
                prop_assert_eq!(kept, text);
            }
        }

        #[test]
        fn any_text_is_a_file_of_calls_or_an_error_that_names_it(text in "\\PC{0,200}") {
            if let Err(error) = parse("admin/calls/door.yaml", &text) {
                prop_assert!(error.to_string().starts_with("admin/calls/door.yaml:"));
            }
        }
    }

    #[test]
    fn a_condition_without_keys_is_no_condition() {
        let mut function = function(STATE);
        function.calls[0].only = Conditions::new();
        assert!(!generated(&template("", &marked("")), function).contains("Condition:"));
    }
}
