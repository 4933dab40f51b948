//! Every template as CloudFormation would resolve it, in each partition: no ARN, service or Region of another one is left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use redress_common::arn::Partition;
use serde_json::Value;

use super::{Stack, Template, TemplateError};

/// Partition, Region and URL suffix. The first Region is the one of the partition's global services.
const PLACES: [(Partition, &str, &str); 6] = [
    (Partition::Aws, "us-east-1", "amazonaws.com"),
    (Partition::Aws, "eu-south-2", "amazonaws.com"),
    (Partition::UsGov, "us-gov-west-1", "amazonaws.com"),
    (Partition::UsGov, "us-gov-east-1", "amazonaws.com"),
    (Partition::China, "cn-north-1", "amazonaws.com.cn"),
    (Partition::China, "cn-northwest-1", "amazonaws.com.cn"),
];

const ACCOUNT: &str = "111122223333";

/// Services whose principal is the same in every partition.
const EVERYWHERE: [&str; 10] = [
    "cloudformation.amazonaws.com",
    "cloudtrail.amazonaws.com",
    "cloudwatch.amazonaws.com",
    "events.amazonaws.com",
    "lambda.amazonaws.com",
    "monitoring.rds.amazonaws.com",
    "sns.amazonaws.com",
    "ssm.amazonaws.com",
    "states.amazonaws.com",
    "vpc-flow-logs.amazonaws.com",
];

/// The templates, by their names.
fn templates() -> BTreeMap<String, Template> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stacksets");
    let files = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
    };
    let all =
        ["", "administrator", "member-documents", "examples"].into_iter().flat_map(|below| files(folder.join(below)));
    let all = all.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed = Template::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_name().unwrap().to_string_lossy().into_owned(), parsed)
    };
    all.map(read).collect()
}

/// A resource with everything in it resolved. What the stack would have made has a name of this test's.
fn resolved(template: &Template, value: &Value, stack: &mut Stack, partition: Partition) -> Value {
    loop {
        match template.resolve(value, stack) {
            Ok(resolved) => return resolved.unwrap_or_default(),
            Err(TemplateError::Unknown(name)) if !stack.resources.contains_key(&name) => {
                let id = name.trim_end_matches(".Arn");
                stack.arns.insert(id.to_owned(), format!("arn:{partition}:made:up:{ACCOUNT}:{id}"));
                if name.contains('.') && id == name {
                    stack.arns.insert(name.clone(), id.to_owned());
                }
                stack.resources.insert(name.clone(), id.to_owned());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn stack(template: &Template, (partition, region, suffix): (Partition, &str, &str)) -> Stack {
    let pseudo = [
        ("AWS::AccountId", ACCOUNT),
        ("AWS::Partition", partition.as_str()),
        ("AWS::Region", region),
        ("AWS::URLSuffix", suffix),
        ("AWS::StackName", "redress"),
        ("AdministratorAccountId", "999988887777"),
        ("MemberAccountIds", "111122223333,444455556666"),
        ("OrganizationId", "o-abcdefghij"),
        ("ConfigAggregator", "redress"),
        ("HomeRegion", region),
    ];
    let defaults = template.defaults().map(|(name, value)| (name.to_owned(), value));
    let mut parameters: BTreeMap<String, String> = defaults.collect();
    parameters.extend(pseudo.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for name in template.parameters() {
        parameters.entry(name.to_owned()).or_insert_with(|| format!("given-{name}"));
    }
    Stack { parameters, ..Stack::default() }
}

/// Every text in a value, keys included.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            found.push(key);
            texts(item, found);
        }),
        _ => {}
    }
}

/// The services that a value names as principals, or hands roles to.
fn services<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| services(item, found)),
        Value::Object(map) => map.iter().for_each(|(key, item)| match (key.as_str(), item) {
            ("Service", named) => texts_of(named, found),
            // Of a permission of a function.
            ("Principal", Value::String(name)) if name != "*" => {
                found.insert(name);
            }
            _ => services(item, found),
        }),
        _ => {}
    }
}

fn texts_of<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    let mut all = Vec::new();
    texts(value, &mut all);
    found.extend(all);
}

/// What stands where an ARN has its partition.
fn partitions(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("arn:").filter_map(move |(at, _)| {
        let starts = !text[..at].ends_with(|before: char| before.is_ascii_alphanumeric());
        starts.then(|| text[at + 4..].split(':').next().unwrap_or_default())
    })
}

#[test]
fn every_arn_is_of_the_partition_that_it_is_deployed_to() {
    let mut seen = 0;
    for (name, template) in templates() {
        for place in PLACES {
            let mut stack = stack(&template, place);
            for (id, _, properties) in template.resources() {
                let resolved = resolved(&template, properties, &mut stack, place.0);
                let mut found = Vec::new();
                texts(&resolved, &mut found);
                for text in found {
                    for partition in partitions(text) {
                        let of_any = [
                            // Patterns of parameters and of runbooks' inputs; what SSM fills in.
                            "(aws|aws-us-gov|aws-cn)",
                            "((aws|aws-us-gov|aws-cn)",
                            "[a-z-]+",
                            "{{ global",
                            "{{global",
                        ];
                        assert!(
                            partition == place.0.as_str() || of_any.contains(&partition),
                            "{name}, {id}, in {}: `{partition}` in {text}",
                            place.1
                        );
                        seen += 1;
                    }
                }
            }
        }
    }
    assert!(seen > 1_000, "{seen} ARNs looked at");
}

#[test]
fn every_service_has_its_name_of_the_partition() {
    for (name, template) in templates() {
        for place in PLACES {
            let (_, region, suffix) = place;
            let mut stack = stack(&template, place);
            let of_place = [format!("ec2.{suffix}"), format!("logs.{region}.{suffix}")];
            for (id, kind, properties) in template.resources() {
                // Runbooks name services in what they call, not as principals.
                if kind == "AWS::SSM::Document" {
                    continue;
                }
                let resolved = resolved(&template, properties, &mut stack, place.0);
                let mut found = BTreeSet::new();
                services(&resolved, &mut found);
                for service in found {
                    let is_known = EVERYWHERE.contains(&service) || of_place.iter().any(|one| one == service);
                    assert!(is_known, "{name}, {id}, in {region}: `{service}`; is it called so in every partition?");
                }
            }
        }
    }
}

#[test]
fn no_template_names_a_region() {
    let regions = PLACES.map(|(_, region, _)| region);
    for (name, template) in templates() {
        for (id, _, properties) in template.resources() {
            let mut found = Vec::new();
            texts(properties, &mut found);
            for text in found {
                let named = regions.iter().find(|region| text.contains(**region));
                assert_eq!(named, None, "{name}, {id}: {text}");
            }
        }
    }
}

#[test]
fn a_partition_of_another_kind_is_found() {
    let found = |text: &'static str| partitions(text).collect::<Vec<_>>();
    assert_eq!(found("arn:aws:s3:::b and arn:aws-cn:s3:::b"), ["aws", "aws-cn"]);
    assert_eq!(found("warn:nothing"), Vec::<&str>::new());
}
