//! CloudFormation templates as values, resolved for one stack; [`cloudformation`] reads them.
//!
//! The emulator's CloudFormation creates the stacks; this is for what it leaves out ([`crate::deploy`]). It
//! knows the functions that `stacksets/` uses and no others.

use std::collections::BTreeMap;

use redress_runbooks::cloudformation;
use serde_json::{Map, Value};

/// A template could not be read or resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not YAML, or not a template.
    #[error("the template cannot be read: {0}")]
    Unreadable(String),
    /// Something that it refers to is not there.
    #[error("the template refers to `{0}`, which is neither a parameter nor a resource of the stack")]
    Unknown(String),
    /// An intrinsic function is not used as CloudFormation expects.
    #[error("`{0}` in the template is not understood by the lab; use a function that `lab/src/template.rs` knows")]
    Unsupported(String),
}

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Value);

/// What a stack's references come to.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// Parameters by name, defaults included; also `AWS::AccountId` and the other pseudo parameters.
    pub parameters: BTreeMap<String, String>,
    /// Physical ids, by logical id: what `Ref` gives.
    pub resources: BTreeMap<String, String>,
    /// ARNs, by logical id: what `GetAtt …Arn` gives. Other attributes by `id.Attribute`.
    pub arns: BTreeMap<String, String>,
}

impl Template {
    /// Reads a template in YAML.
    ///
    /// # Errors
    /// When it is not YAML, or has no resources.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        let template = cloudformation::read(yaml).map_err(|error| TemplateError::Unreadable(error.to_string()))?;
        match template.get("Resources") {
            Some(Value::Object(_)) => Ok(Self(template)),
            _ => Err(TemplateError::Unreadable("it has no `Resources`".to_owned())),
        }
    }

    /// Every resource: logical id, type and properties, intrinsic functions in their long form.
    pub fn resources(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let resources = self.0["Resources"].as_object();
        resources
            .into_iter()
            .flatten()
            .map(|(id, resource)| (id.as_str(), resource["Type"].as_str().unwrap_or_default(), &resource["Properties"]))
    }

    /// The defaults of the parameters that have one.
    pub fn defaults(&self) -> impl Iterator<Item = (&str, String)> {
        let parameters = self.0["Parameters"].as_object();
        parameters.into_iter().flatten().filter_map(|(name, parameter)| match &parameter["Default"] {
            Value::Null => None,
            default => Some((name.as_str(), scalar(default))),
        })
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0["Parameters"].as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Whether the template has this parameter.
    #[must_use]
    pub fn has_parameter(&self, name: &str) -> bool {
        self.0["Parameters"].get(name).is_some()
    }

    /// Whether CloudFormation shows the value of this parameter to nobody (`NoEcho`).
    #[must_use]
    pub fn hides(&self, name: &str) -> bool {
        scalar(&self.0["Parameters"][name]["NoEcho"]) == "true"
    }

    /// A value of this template with every intrinsic function resolved. `None` is `AWS::NoValue`.
    ///
    /// # Errors
    /// When it refers to what the stack does not have.
    pub fn resolve(&self, value: &Value, stack: &Stack) -> Result<Option<Value>, TemplateError> {
        match value {
            Value::Array(items) => {
                let items = items.iter().filter_map(|item| self.resolve(item, stack).transpose());
                Ok(Some(Value::Array(items.collect::<Result<_, _>>()?)))
            }
            Value::Object(map) => match (map.len(), map.iter().next()) {
                (1, Some((name, argument))) if name == "Ref" || name.starts_with("Fn::") => {
                    self.call(name, argument, stack)
                }
                _ => {
                    let mut resolved = Map::new();
                    for (key, item) in map {
                        if let Some(item) = self.resolve(item, stack)? {
                            resolved.insert(key.clone(), item);
                        }
                    }
                    Ok(Some(Value::Object(resolved)))
                }
            },
            plain => Ok(Some(plain.clone())),
        }
    }

    fn call(&self, function: &str, argument: &Value, stack: &Stack) -> Result<Option<Value>, TemplateError> {
        let unsupported = || TemplateError::Unsupported(format!("{function} {argument}"));
        match (function, argument) {
            ("Ref", Value::String(name)) if name == "AWS::NoValue" => Ok(None),
            ("Ref", Value::String(name)) => lookup(name, stack).map(|found| Some(Value::String(found))),
            ("Fn::GetAtt", Value::String(path)) => attribute(path, stack).map(|found| Some(Value::String(found))),
            ("Fn::Sub", Value::String(text)) => substitute(text, stack).map(|found| Some(Value::String(found))),
            ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(condition), yes, no] => {
                    let branch = if self.holds(&self.0["Conditions"][condition], stack)? { yes } else { no };
                    self.resolve(branch, stack)
                }
                _ => Err(unsupported()),
            },
            ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(separator), items] => match self.resolve(items, stack)? {
                    Some(Value::Array(items)) => {
                        let items: Vec<String> = items.iter().map(scalar).collect();
                        Ok(Some(items.join(separator).into()))
                    }
                    _ => Err(unsupported()),
                },
                _ => Err(unsupported()),
            },
            ("Fn::Split", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(separator), text] => match self.resolve(text, stack)? {
                    Some(Value::String(text)) => Ok(Some(text.split(separator.as_str()).map(Value::from).collect())),
                    _ => Err(unsupported()),
                },
                _ => Err(unsupported()),
            },
            _ => Err(unsupported()),
        }
    }

    fn holds(&self, condition: &Value, stack: &Stack) -> Result<bool, TemplateError> {
        let parts = |name: &str| condition.get(name).and_then(Value::as_array);
        if let Some([left, right]) = parts("Fn::Equals").map(Vec::as_slice) {
            let (left, right) = (self.resolve(left, stack)?, self.resolve(right, stack)?);
            return Ok(left.as_ref().map(scalar) == right.as_ref().map(scalar));
        }
        if let Some([inner]) = parts("Fn::Not").map(Vec::as_slice) {
            return self.holds(inner, stack).map(|held| !held);
        }
        Err(TemplateError::Unsupported(condition.to_string()))
    }
}

/// `Ref`: a parameter's value or a resource's physical id.
fn lookup(name: &str, stack: &Stack) -> Result<String, TemplateError> {
    let found = stack.parameters.get(name).or_else(|| stack.resources.get(name));
    found.cloned().ok_or_else(|| TemplateError::Unknown(name.to_owned()))
}

/// `GetAtt`.
fn attribute(path: &str, stack: &Stack) -> Result<String, TemplateError> {
    let found = path.strip_suffix(".Arn").and_then(|id| stack.arns.get(id)).or_else(|| stack.arns.get(path));
    found.cloned().ok_or_else(|| TemplateError::Unknown(path.to_owned()))
}

/// `Sub`: every `${…}` of a text.
fn substitute(text: &str, stack: &Stack) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').ok_or_else(|| TemplateError::Unsupported(text.to_owned()))?;
        out.push_str(before);
        out.push_str(&if name.ends_with(".Arn") { attribute(name, stack)? } else { lookup(name, stack)? });
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// A scalar as CloudFormation compares and passes it: as text.
fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod partitions;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod shipped;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use redress_common::names;
    use serde_json::json;

    use super::*;

    use super::shipped::{ADMINISTRATOR, MEMBER, REGION, administrator};

    fn named(template: &Template, kind: &str, property: &str) -> Vec<String> {
        let mut found: Vec<String> = template
            .resources()
            .filter(|(_, given, _)| *given == kind)
            .map(|(_, _, properties)| properties[property].as_str().unwrap_or_default().to_owned())
            .collect();
        found.sort();
        found
    }

    fn sorted(names: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn the_administrator_stack_creates_what_the_code_calls_by_name() {
        let template = administrator();
        assert_eq!(
            named(&template, "AWS::DynamoDB::Table", "TableName"),
            sorted(&[names::AUDIT_TABLE, names::BACKLOG_TABLE, names::STATE_TABLE])
        );
        assert_eq!(named(&template, "AWS::Events::EventBus", "Name"), [names::HUB_BUS]);
        assert_eq!(
            named(&template, "AWS::Events::Rule", "Name"),
            sorted(&[&names::HUB_RULES[..], &names::DEFAULT_BUS_RULES].concat())
        );
        assert_eq!(named(&template, "AWS::SNS::Topic", "TopicName"), [names::NOTIFICATIONS_TOPIC]);
        assert_eq!(
            named(&template, "AWS::KMS::Alias", "AliasName"),
            [names::ADMINISTRATOR_KEY_ALIAS, names::CHECKPOINT_KEY_ALIAS]
        );
        let rules = named(&template, "AWS::Events::Rule", "Name");
        assert!(rules.iter().any(|rule| rule == names::CHECKPOINT_RULE), "{rules:?}");
        assert_eq!(
            named(&template, "AWS::SQS::Queue", "QueueName"),
            sorted(&[
                names::FINDINGS_QUEUE,
                names::FINDINGS_DLQ,
                names::COMPLETIONS_QUEUE,
                names::COMPLETIONS_DLQ,
                names::PARKED_QUEUE,
                names::RECONCILER_DLQ,
                names::CHECKPOINT_DLQ,
                names::NOTIFICATIONS_QUEUE,
                names::NOTIFICATIONS_DLQ,
            ])
        );
        assert_eq!(
            named(&template, "AWS::Lambda::Function", "FunctionName"),
            sorted(&[
                names::ORCHESTRATOR_FUNCTION,
                names::COMPLETION_FUNCTION,
                names::API_FUNCTION,
                names::WORKFLOW_FUNCTION,
                names::RECONCILER_FUNCTION,
                names::NOTIFIER_FUNCTION,
                names::CHECKPOINT_FUNCTION,
            ])
        );
        assert_eq!(
            named(&template, "AWS::IAM::Role", "RoleName"),
            sorted(&[
                names::ORCHESTRATOR_ROLE,
                names::COMPLETION_ROLE,
                names::API_ROLE,
                names::WORKFLOW_ROLE,
                names::STATE_MACHINE_ROLE,
                names::RECONCILER_ROLE,
                names::NOTIFIER_ROLE,
                names::CHECKPOINT_ROLE,
                names::OPERATOR_ROLE,
                names::APPROVER_ROLE,
                names::AUDITOR_ROLE,
                names::EVENT_FORWARDER_ROLE
            ])
        );
    }

    #[test]
    fn checkpoints_are_locked_written_by_one_role_and_deleted_by_none() {
        let template = administrator();
        let place = [("AWS::AccountId", "111111111111"), ("AWS::Region", "eu-central-1"), ("AWS::Partition", "aws")];
        let parameters = place.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let stack = Stack { parameters, ..Stack::default() };
        let of = |kind: &'static str, part: &str| {
            let mut all = template.resources().filter(|(id, given, _)| *given == kind && id.ends_with(part));
            all.next().unwrap().2
        };
        let bucket = of("AWS::S3::Bucket", "CheckpointBucket");
        assert_eq!(
            template.resolve(&bucket["BucketName"], &stack).unwrap().unwrap(),
            names::checkpoint_bucket(&"111111111111".parse().unwrap(), &"eu-central-1".parse().unwrap())
        );
        let lock = &bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"];
        let days = json!({ "Ref": "CheckpointLockDays" });
        assert_eq!((&bucket["ObjectLockEnabled"], &lock["Days"]), (&json!(true), &days));
        let rules = bucket["LifecycleConfiguration"]["Rules"].as_array().unwrap().iter();
        let expiring: Vec<&Value> = rules.filter_map(|rule| rule.get("ExpirationInDays")).collect();
        assert_eq!(expiring, [&days], "not before the lock ends");
        let signer = json!(names::role_arn(
            redress_common::arn::Partition::Aws,
            &"111111111111".parse().unwrap(),
            names::CHECKPOINT_ROLE
        ));
        let key = of("AWS::KMS::Key", "CheckpointKey");
        let policy = of("AWS::S3::BucketPolicy", "CheckpointBucketPolicy");
        for (statements, sid, action) in [
            (&key["KeyPolicy"]["Statement"], "OneSigner", "kms:Sign"),
            (&policy["PolicyDocument"]["Statement"], "OneWriter", "s3:PutObject"),
        ] {
            let one = statements.as_array().unwrap().iter().find(|one| one["Sid"] == sid).unwrap();
            let but = &one["Condition"]["ArnNotEquals"]["aws:PrincipalArn"];
            assert_eq!((&one["Effect"], &one["Action"]), (&json!("Deny"), &json!(action)));
            assert_eq!(template.resolve(but, &stack).unwrap().unwrap(), signer);
        }
        // Whoever signs cannot write the ledger, and whoever writes it cannot sign.
        for (id, _, role) in template.resources().filter(|(_, kind, _)| *kind == "AWS::IAM::Role") {
            let may = role["Policies"].to_string();
            let signs = may.contains("kms:Sign");
            assert_eq!(signs, role["RoleName"] == names::CHECKPOINT_ROLE, "{id}");
            assert!(!signs || !may.contains("AuditTable"), "{id} signs and has to do with the ledger");
        }
    }

    #[test]
    fn the_member_stack_creates_what_the_code_calls_by_name() {
        let template = Template::parse(MEMBER).unwrap();
        assert_eq!(named(&template, "AWS::KMS::Alias", "AliasName"), [names::MEMBER_KEY_ALIAS]);
        assert_eq!(
            named(&template, "AWS::Lambda::Function", "FunctionName"),
            sorted(&[
                names::DESTROY_FUNCTION,
                names::GUARD_FUNCTION,
                names::RECORDER_FUNCTION,
                names::REMEDIATE_FUNCTION,
                &names::contain_function("Compute"),
                &names::contain_function("Data"),
                &names::contain_function("EC2"),
                &names::contain_function("IAM"),
            ])
        );
        assert_eq!(
            named(&template, "AWS::IAM::Role", "RoleName"),
            sorted(&[
                names::CROSS_ACCOUNT_ROLE,
                names::DESTROY_ROLE,
                names::EVIDENCE_READER_ROLE,
                names::GUARD_ROLE,
                names::RDS_MONITORING_ROLE,
                names::RECORDER_ROLE,
                names::REMEDIATE_ROLE,
                names::EVENT_FORWARDER_ROLE,
                &names::contain_role("Compute"),
                &names::contain_role("Data"),
                &names::contain_role("EC2"),
                &names::contain_role("IAM"),
                // Given to resources: the control files name these.
                "Redress-Flow-Logs",
                "Redress-Managed-Instance",
                "redress-cloudtrail-logs",
                "redress-sns-logs"
            ])
        );
        let stack = Stack {
            parameters: BTreeMap::from([
                ("AWS::AccountId".to_owned(), "222222222222".to_owned()),
                ("AWS::Region".to_owned(), "eu-central-1".to_owned()),
            ]),
            ..Stack::default()
        };
        let (_, _, bucket) = template.resources().find(|(_, kind, _)| *kind == "AWS::S3::Bucket").unwrap();
        assert!(bucket.get("NotificationConfiguration").is_none(), "PEERS defect 21: it notifies nobody");
        assert_eq!(bucket["ObjectLockEnabled"], true, "objects of incidents bring their own lock");
        // A rule without a prefix would expire what is locked for longer.
        let rules = bucket["LifecycleConfiguration"]["Rules"].as_array().unwrap().iter();
        for rule in rules.filter(|rule| rule.get("ExpirationInDays").is_some()) {
            let until = if rule["Prefix"] == "incidents/" { json!({ "Ref": "IncidentLockDays" }) } else { json!(365) };
            assert!(rule["Prefix"].is_string() && rule["ExpirationInDays"] == until, "{rule}");
        }
        assert_eq!(
            template.resolve(&bucket["BucketName"], &stack).unwrap().unwrap(),
            names::evidence_bucket(&"222222222222".parse().unwrap(), &"eu-central-1".parse().unwrap())
        );
    }

    #[test]
    fn the_hub_hears_the_requests_and_custom_actions_that_the_code_names() {
        let patterns: String = administrator()
            .resources()
            .filter(|(_, kind, _)| *kind == "AWS::Events::Rule")
            .map(|(_, _, rule)| rule["EventPattern"].to_string())
            .collect();
        for name in [
            names::UNDO_DETAIL_TYPE,
            names::REMEDIATE_DETAIL_TYPE,
            names::ACTION_REMEDIATE,
            names::ACTION_DRY_RUN,
            names::ACTION_UNDO,
            names::ACTION_CONTAIN,
            names::ACTION_ESCALATE,
            names::CONTROL_DOCUMENT,
        ] {
            assert!(patterns.contains(name), "no rule of the hub mentions {name}");
        }
    }

    #[test]
    fn the_hub_lets_in_the_organisation_or_the_named_accounts_and_only_by_rule() {
        let template = administrator();
        let (_, _, bus) = template.resources().find(|(_, kind, _)| *kind == "AWS::Events::EventBus").unwrap();
        let policy = |organisation: &str, members: &str| {
            let given = [("OrganizationId", organisation), ("MemberAccountIds", members), ("AWS::Partition", "aws-cn")];
            let place = [("AWS::Region", "cn-north-1"), ("AWS::AccountId", "111111111111")];
            let parameters =
                given.into_iter().chain(place).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            template.resolve(&bus["Policy"], &Stack { parameters, ..Stack::default() }).unwrap().unwrap()["Statement"]
                .clone()
        };
        let both = policy("o-abcdefghij", "222222222222,333333333333");
        assert_eq!(both[0]["Condition"]["StringEquals"]["aws:PrincipalOrgID"], "o-abcdefghij");
        assert_eq!(both[1]["Principal"]["AWS"], json!(["222222222222", "333333333333"]));
        assert!(
            both.as_array().unwrap().iter().all(|one| one["Condition"]["Bool"]["events:eventBusInvocation"] == "true")
        );
        assert_eq!(both[0]["Resource"], "arn:aws-cn:events:cn-north-1:111111111111:event-bus/redress-hub");
        assert_eq!(policy("o-abcdefghij", "").as_array().unwrap().len(), 1);
        assert_eq!(policy("", "222222222222")[0]["Sid"], "AccountsForward");
    }

    #[test]
    fn a_further_region_has_the_members_functions_and_forwards_the_same_events() {
        let (home, further) = (Template::parse(MEMBER).unwrap(), Template::parse(REGION).unwrap());
        for (kind, property) in [("AWS::Lambda::Function", "FunctionName"), ("AWS::Events::Rule", "Name")] {
            assert_eq!(named(&home, kind, property), named(&further, kind, property));
        }
        let patterns = |template: &Template| -> Vec<Value> {
            let rules = template.resources().filter(|(_, kind, _)| *kind == "AWS::Events::Rule");
            rules.map(|(_, _, rule)| rule["EventPattern"].clone()).collect()
        };
        assert_eq!(patterns(&home), patterns(&further));
        assert_eq!(named(&further, "AWS::IAM::Role", "RoleName"), Vec::<String>::new(), "roles are there once");
    }

    #[test]
    fn no_template_names_a_partition() {
        for template in ADMINISTRATOR.into_iter().chain([MEMBER, REGION]) {
            assert!(!template.contains("arn:aws"), "write arn:${{AWS::Partition}}");
        }
    }

    #[test]
    fn what_holds_data_survives_its_stack() {
        let (member, region) = (Template::parse(MEMBER).unwrap(), Template::parse(REGION).unwrap());
        for (name, template) in [("administrator", administrator()), ("member", member), ("region", region)] {
            for (id, kind, _) in template.resources() {
                if ["AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::S3::Bucket", "AWS::Logs::LogGroup"].contains(&kind) {
                    let resource = &template.0["Resources"][id];
                    // What a creation that failed had made holds nothing, and would be in the way of the next one.
                    assert_eq!(resource["DeletionPolicy"], "RetainExceptOnCreate", "{name}: {id}");
                    assert_eq!(resource["UpdateReplacePolicy"], "Retain", "{name}: {id}");
                }
            }
        }
    }

    #[test]
    fn what_the_administrator_stack_nests_is_given_all_that_it_asks_for_and_gives_what_is_asked_of_it() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../stacksets/administrator");
        let root = Template::parse(ADMINISTRATOR[0]).unwrap();
        let nested: BTreeMap<&str, Template> = root
            .resources()
            .map(|(id, _, properties)| {
                let url = properties["TemplateURL"]["Fn::Sub"].as_str().unwrap();
                let text = std::fs::read_to_string(folder.join(url.rsplit_once('/').unwrap().1)).unwrap();
                (id, Template::parse(&text).unwrap())
            })
            .collect();
        assert_eq!(nested.len(), ADMINISTRATOR.len() - 1);
        for (id, _, properties) in root.resources() {
            let given = properties["Parameters"].as_object().cloned().unwrap_or_default();
            let mut names: Vec<&str> = given.keys().map(String::as_str).collect();
            let mut asked: Vec<&str> = nested[id].parameters().collect();
            names.sort_unstable();
            asked.sort_unstable();
            assert_eq!(names, asked, "{id}");
            for path in given.values().filter_map(|value| value["Fn::GetAtt"].as_str()) {
                let (from, output) = path.split_once(".Outputs.").unwrap();
                assert!(nested[from].0["Outputs"][output].is_object(), "{id}: {path}");
            }
        }
    }

    #[test]
    fn a_permissions_boundary_bounds_every_role() {
        let roles = include_str!("../../stacksets/member-roles.yaml");
        let boundary = json!({ "Fn::If": [
            "HasBoundary",
            { "Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/${PermissionsBoundary}" },
            { "Ref": "AWS::NoValue" },
        ] });
        for text in ADMINISTRATOR.into_iter().chain([MEMBER, REGION, roles]) {
            for (id, _, role) in Template::parse(text).unwrap().resources().filter(|one| one.1 == "AWS::IAM::Role") {
                assert_eq!(role["PermissionsBoundary"], boundary, "{id}");
            }
        }
    }

    #[test]
    fn every_target_of_a_rule_has_a_dead_letter_queue() {
        for text in ADMINISTRATOR.into_iter().chain([MEMBER, REGION]) {
            for (id, kind, properties) in Template::parse(text).unwrap().resources() {
                if kind == "AWS::Events::Rule" {
                    let targets = properties["Targets"].as_array().unwrap();
                    assert!(targets.iter().all(|target| target["DeadLetterConfig"]["Arn"].is_object()), "{id}");
                }
            }
        }
    }

    #[test]
    fn intrinsic_functions_resolve_and_no_value_leaves_nothing_behind() {
        let template = Template::parse(
            "Conditions: {Given: !Not [!Equals [!Ref A, '']]}\n\
             Resources: {R: {Type: T, Properties: {Sub: !Sub '${A}/${R.Arn}', If: !If [Given, 1, !Ref AWS::NoValue], \
             List: [!Ref AWS::NoValue, !GetAtt R.Arn], Split: !Split [',', !Ref A]}}}",
        )
        .unwrap();
        let stack = |a: &str| Stack {
            parameters: BTreeMap::from([("A".to_owned(), a.to_owned())]),
            resources: BTreeMap::new(),
            arns: BTreeMap::from([("R".to_owned(), "arn:r".to_owned())]),
        };
        let (_, _, properties) = template.resources().next().unwrap();
        assert_eq!(
            template.resolve(properties, &stack("x,y")).unwrap().unwrap(),
            json!({"Sub": "x,y/arn:r", "If": 1, "List": ["arn:r"], "Split": ["x", "y"]})
        );
        assert_eq!(
            template.resolve(properties, &stack("")).unwrap().unwrap(),
            json!({"Sub": "/arn:r", "List": ["arn:r"], "Split": [""]})
        );
        assert_eq!(
            template.resolve(&json!({"Ref": "Nobody"}), &stack("")),
            Err(TemplateError::Unknown("Nobody".to_owned()))
        );
    }
}
