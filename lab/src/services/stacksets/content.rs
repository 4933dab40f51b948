//! What a stack set makes stacks of, as `CreateStackSet` and `UpdateStackSet` give it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::given::{Given, Parameter, invalid};
use super::set::{AutoDeployment, Content, Permissions};
use super::{Place, StackSets, partition};
use crate::organisation::Source;
use crate::service::{Aws, AwsError, Credentials};
use crate::template::Template;

/// A longer template does not go into a request for a stack.
const MOST_IN_A_REQUEST: usize = 51_200;
/// The account of CloudFormation itself, where it keeps the templates that are longer.
const CLOUDFORMATION: &str = "000000000000";
const ADMINISTRATION_ROLE: &str = "AWSCloudFormationStackSetAdministrationRole";
const EXECUTION_ROLE: &str = "AWSCloudFormationStackSetExecutionRole";

/// Types that a template may have with `CAPABILITY_IAM` only, each with the property that names it.
const IAM: [(&str, &str); 8] = [
    ("AWS::IAM::AccessKey", ""),
    ("AWS::IAM::Group", "GroupName"),
    ("AWS::IAM::InstanceProfile", "InstanceProfileName"),
    ("AWS::IAM::ManagedPolicy", "ManagedPolicyName"),
    ("AWS::IAM::Policy", ""),
    ("AWS::IAM::Role", "RoleName"),
    ("AWS::IAM::User", "UserName"),
    ("AWS::IAM::UserToGroupAddition", ""),
];

impl StackSets {
    /// What a request gives; what it leaves out is as it was `before`.
    pub(super) async fn content(
        &self,
        place: &Place<'_>,
        given: Given<'_>,
        before: Option<&Content>,
        id: &str,
        aws: &dyn Aws,
    ) -> Result<Content, AwsError> {
        let (source, template_url) = match before {
            Some(before) if given.flag("UsePreviousTemplate")? == Some(true) => {
                (before.source.clone(), before.template_url.clone())
            }
            _ => {
                let text = template(place, given, aws).await?;
                let template =
                    Template::parse(&text).map_err(|error| invalid(format!("Template format error: {error}")))?;
                let url = keep(place, id, &text, aws).await?;
                (Arc::new(Source { text, template }), url)
            }
        };
        let capabilities = given.list("Capabilities");
        check_capabilities(&source.template, &capabilities)?;
        let permissions = permissions(place, given, before, aws).await?;
        Ok(Content {
            description: given.text("Description").map(str::to_owned).or_else(|| before?.description.clone()),
            parameters: parameters(&source.template, given, before)?,
            source,
            template_url,
            capabilities,
            tags: given.tags().or_else(|| Some(before?.tags.clone())).unwrap_or_default(),
            auto: auto_deployment(given, before, permissions == Permissions::ServiceManaged)?,
            permissions,
            queues: match given.part("ManagedExecution") {
                Some(managed) => managed.flag("Active")? == Some(true),
                None => before.is_some_and(|before| before.queues),
            },
        })
    }
}

/// The text of the template.
async fn template(place: &Place<'_>, given: Given<'_>, aws: &dyn Aws) -> Result<String, AwsError> {
    match (given.text("TemplateBody"), given.text("TemplateURL")) {
        (Some(text), None) if text.len() > MOST_IN_A_REQUEST => {
            Err(invalid(format!("TemplateBody is longer than {MOST_IN_A_REQUEST} bytes; give a TemplateURL")))
        }
        (Some(text), None) => Ok(text.to_owned()),
        (None, Some(url)) => {
            let (bucket, key) = object(url).ok_or_else(|| invalid(format!("TemplateURL {url} names no S3 object")))?;
            let arn = format!("arn:{}:s3:::{bucket}/{key}", partition(place.region));
            aws.authorise(place.caller, "s3:GetObject", &arn, json!({})).await?;
            let root = Credentials::root(&place.caller.account);
            let found = aws.call(&root, place.region, "s3", "GetObject", json!({ "Bucket": bucket, "Key": key })).await;
            let found = found.map_err(|error| invalid(format!("TemplateURL {url}: {}", error.message)))?;
            Ok(found["Body"].as_str().unwrap_or_default().to_owned())
        }
        _ => Err(invalid("Either Template URL or Template Body must be specified.")),
    }
}

/// Bucket and key of an S3 URL, with the bucket in the path or in the host's name.
fn object(url: &str) -> Option<(&str, &str)> {
    let (host, path) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?.split_once('/')?;
    let (bucket, key) = match host.split_once(".s3") {
        Some((bucket, _)) => (bucket, path),
        None => path.split_once('/')?,
    };
    (!bucket.is_empty() && !key.is_empty()).then_some((bucket, key))
}

/// Keeps a long template where CloudFormation finds it for every account. Its URL.
async fn keep(place: &Place<'_>, id: &str, text: &str, aws: &dyn Aws) -> Result<Option<String>, AwsError> {
    if text.len() <= MOST_IN_A_REQUEST {
        return Ok(None);
    }
    let (root, bucket) = (Credentials::root(CLOUDFORMATION), "cloudformation-stack-set-templates");
    let key = format!("{}/{}", id.replace(':', "/"), hex::encode(Sha256::digest(text.as_bytes())));
    match aws.call(&root, "us-east-1", "s3", "CreateBucket", json!({ "Bucket": bucket })).await {
        Err(error) if error.code != "BucketAlreadyOwnedByYou" => return Err(error),
        _ => {}
    }
    let object = json!({ "Bucket": bucket, "Key": key, "Body": text });
    aws.call(&root, "us-east-1", "s3", "PutObject", object).await?;
    Ok(Some(format!("https://s3.{}.amazonaws.com/{bucket}/{key}", place.region)))
}

/// Refuses names that are no parameters of the template.
pub(super) fn check_known<'a>(template: &Template, names: impl Iterator<Item = &'a String>) -> Result<(), AwsError> {
    let unknown: Vec<&str> = names.map(String::as_str).filter(|name| !template.has_parameter(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(invalid(format!("Parameters: [{}] do not exist in the template", unknown.join(", "))))
}

fn parameters(
    template: &Template,
    given: Given<'_>,
    before: Option<&Content>,
) -> Result<BTreeMap<String, String>, AwsError> {
    let known = before.map(|before| before.parameters.clone()).unwrap_or_default();
    let parameters: BTreeMap<String, String> = match given.parameters("Parameters") {
        // Those that the template has no more are dropped with it.
        None => known.into_iter().filter(|(name, _)| template.has_parameter(name)).collect(),
        Some(given) => {
            check_known(template, given.keys())?;
            let value = |(name, parameter): (String, Parameter)| match parameter {
                Parameter::Value(value) => Some((name, value)),
                Parameter::Previous => known.get_key_value(&name).map(|(name, value)| (name.clone(), value.clone())),
            };
            given.into_iter().filter_map(value).collect()
        }
    };
    let defaults: Vec<&str> = template.defaults().map(|(name, _)| name).collect();
    let missing: Vec<&str> =
        template.parameters().filter(|name| !parameters.contains_key(*name) && !defaults.contains(name)).collect();
    if missing.is_empty() {
        return Ok(parameters);
    }
    Err(invalid(format!("Parameters: [{}] must have values", missing.join(", "))))
}

fn check_capabilities(template: &Template, given: &[String]) -> Result<(), AwsError> {
    let given = |wanted: &str| given.iter().any(|one| one == wanted);
    let mut needed = None;
    for (_, kind, properties) in template.resources() {
        let Some((_, name)) = IAM.iter().find(|(iam, _)| *iam == kind) else { continue };
        if properties.get(*name).is_some() {
            needed = Some("CAPABILITY_NAMED_IAM");
            break;
        }
        needed = Some("CAPABILITY_IAM");
    }
    match needed {
        None => Ok(()),
        Some("CAPABILITY_IAM") if given("CAPABILITY_IAM") => Ok(()),
        Some(_) if given("CAPABILITY_NAMED_IAM") => Ok(()),
        Some(needed) => {
            Err(AwsError::new("InsufficientCapabilitiesException", format!("Requires capabilities : [{needed}]")))
        }
    }
}

async fn permissions(
    place: &Place<'_>,
    given: Given<'_>,
    before: Option<&Content>,
    aws: &dyn Aws,
) -> Result<Permissions, AwsError> {
    let was_managed = before.is_some_and(|before| before.permissions == Permissions::ServiceManaged);
    let (role, execution) = (given.text("AdministrationRoleARN"), given.text("ExecutionRoleName"));
    let service_managed = match given.text("PermissionModel") {
        None => was_managed,
        Some("SERVICE_MANAGED") => true,
        Some("SELF_MANAGED") => false,
        Some(other) => return Err(invalid(format!("PermissionModel {other} is unknown"))),
    };
    if service_managed {
        if role.is_some() || execution.is_some() {
            return Err(invalid("Roles are for stack sets with SELF_MANAGED permissions"));
        }
        return Ok(Permissions::ServiceManaged);
    }
    if let Some(role) = role {
        let context = json!({ "iam:PassedToService": "cloudformation.amazonaws.com" });
        aws.authorise(place.caller, "iam:PassRole", role, context).await?;
    }
    let known = before.and_then(|before| match &before.permissions {
        Permissions::SelfManaged { administration_role, execution_role } => Some((administration_role, execution_role)),
        Permissions::ServiceManaged => None,
    });
    let default = || format!("arn:{}:iam::{}:role/{ADMINISTRATION_ROLE}", partition(place.region), place.owner);
    Ok(Permissions::SelfManaged {
        administration_role: role
            .map(str::to_owned)
            .or_else(|| known.map(|(role, _)| role.clone()))
            .unwrap_or_else(default),
        execution_role: execution.or_else(|| known.map(|(_, role)| role.as_str())).unwrap_or(EXECUTION_ROLE).to_owned(),
    })
}

fn auto_deployment(
    given: Given<'_>,
    before: Option<&Content>,
    service_managed: bool,
) -> Result<AutoDeployment, AwsError> {
    let Some(auto) = given.part("AutoDeployment") else {
        return Ok(before.map(|before| before.auto.clone()).unwrap_or_default());
    };
    if !service_managed {
        return Err(invalid("AutoDeployment is for stack sets with SERVICE_MANAGED permissions"));
    }
    let (enabled, retain) = (auto.flag("Enabled")? == Some(true), auto.flag("RetainStacksOnAccountRemoval")?);
    if enabled != retain.is_some() {
        return Err(invalid("RetainStacksOnAccountRemoval is given when AutoDeployment is enabled, and only then"));
    }
    Ok(AutoDeployment { enabled, retain: retain == Some(true), depends_on: auto.set("DependsOn") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;

    /// A service-managed stack set's content that deploys by itself.
    pub(in super::super) fn content(template: &str) -> Content {
        let source = Source { text: template.to_owned(), template: Template::parse(template).unwrap() };
        Content {
            description: None,
            source: Arc::new(source),
            template_url: None,
            parameters: BTreeMap::new(),
            capabilities: Vec::new(),
            tags: BTreeMap::new(),
            permissions: Permissions::ServiceManaged,
            auto: AutoDeployment { enabled: true, ..AutoDeployment::default() },
            queues: false,
        }
    }

    #[test]
    fn a_templates_url_has_its_bucket_in_the_path_or_in_the_host() {
        for url in [
            "https://s3.eu-west-1.amazonaws.com/bucket/a/b.yaml",
            "https://bucket.s3.eu-west-1.amazonaws.com/a/b.yaml",
            "https://bucket.s3.amazonaws.com/a/b.yaml",
        ] {
            assert_eq!(object(url), Some(("bucket", "a/b.yaml")), "{url}");
        }
        for wrong in ["bucket/a", "https://s3.amazonaws.com/", "https://bucket.s3.amazonaws.com/"] {
            assert_eq!(object(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parameters_are_the_templates_and_none_is_without_a_value() {
        let template = "{Parameters: {A: {Type: String}, B: {Type: String, Default: b}}, Resources: {}}";
        let mut before = content(template);
        before.parameters.insert("A".to_owned(), "old".to_owned());
        let read = |given: Value, before: Option<&Content>| {
            parameters(&Template::parse(template).unwrap(), Given(&given), before).map_err(|error| error.message)
        };
        let one =
            |name: &str, value: &str| json!({ "Parameters": [{ "ParameterKey": name, "ParameterValue": value }] });
        let previous = json!({ "Parameters": [{ "ParameterKey": "A", "UsePreviousValue": "true" }] });
        assert_eq!(read(one("A", "a"), None).unwrap()["A"], "a");
        assert_eq!(read(previous, Some(&before)).unwrap()["A"], "old");
        assert_eq!(read(json!({}), Some(&before)).unwrap()["A"], "old");
        assert!(read(one("B", "x"), None).unwrap_err().contains("[A] must have values"));
        assert!(read(one("C", "x"), None).unwrap_err().contains("[C] do not exist"));
    }

    #[test]
    fn a_template_with_named_roles_needs_the_greater_capability() {
        let template = |properties: &str| {
            let text = format!("Resources: {{R: {{Type: 'AWS::IAM::Role', Properties: {{{properties}}}}}}}");
            Template::parse(&text).unwrap()
        };
        let check = |properties: &str, given: &[&str]| {
            let given: Vec<String> = given.iter().map(ToString::to_string).collect();
            check_capabilities(&template(properties), &given).is_ok()
        };
        assert!(!check("Path: /", &[]) && check("Path: /", &["CAPABILITY_IAM"]));
        assert!(!check("RoleName: r", &["CAPABILITY_IAM"]) && check("RoleName: r", &["CAPABILITY_NAMED_IAM"]));
    }
}
