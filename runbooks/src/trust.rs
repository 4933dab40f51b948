//! Who may assume which role, and who may pass which role on to which service: `docs/trust.md`, and what must never be in it.
//!
//! Read from the templates themselves, those that are written by hand and those that are generated.

use std::fmt::{self, Write as _};

use redress_common::names;
use serde_json::{Map, Value};

use crate::cloudformation;

/// The page, below the repository's root.
pub const PAGE: &str = "docs/trust.md";

/// Services that are not documented to name the account in whose name they assume a role.
const UNTOLD: [&str; 4] =
    ["cloudtrail.amazonaws.com", "ec2.${AWS::URLSuffix}", "lambda.amazonaws.com", "sns.amazonaws.com"];
/// Roles of people: the administrator account's own IAM says whose.
const PEOPLE: [&str; 3] = [names::OPERATOR_ROLE, names::APPROVER_ROLE, names::AUDITOR_ROLE];
/// The account that a role is in.
const OWN: &str = "${AWS::AccountId}";
const OWN_ACCOUNT: &str = "arn:${AWS::Partition}:iam::${AWS::AccountId}:root";
const ASSUME: &str = "sts:AssumeRole";
const PASS: &str = "iam:PassRole";
const PASSED_TO: &str = "iam:PassedToService";

/// A template cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is no template: {reason}")]
pub struct TemplateError {
    path: String,
    reason: String,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Powers {
    /// What the roles' trust policies allow.
    pub trusts: Vec<Trust>,
    /// The rights to pass roles on.
    pub passes: Vec<Pass>,
}

/// A statement of a role's trust policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The template's path.
    pub template: String,
    /// The role.
    pub role: String,
    /// Who may assume it.
    pub principals: Vec<Principal>,
    /// What exactly is allowed.
    pub actions: Vec<String>,
    /// If all of these hold.
    pub conditions: Vec<Condition>,
}

/// A statement that lets a role pass others on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The template's path.
    pub template: String,
    /// Who passes on.
    pub role: String,
    /// Which roles.
    pub resources: Vec<String>,
    /// If all of these hold.
    pub conditions: Vec<Condition>,
}

/// Somebody whom a trust policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A service of AWS.
    Service(String),
    /// An account, or somebody in one.
    Aws(String),
    /// Everybody, an identity provider, or everybody but somebody.
    Other(String),
}

/// A condition: operator, key and the values of which one must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `StringEquals`.
    pub operator: String,
    /// `aws:SourceAccount`.
    pub key: String,
    /// The values.
    pub values: Vec<String>,
}

impl Powers {
    /// What templates say: path and text of each.
    ///
    /// # Errors
    /// When one is no YAML.
    pub fn read<'a>(templates: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, TemplateError> {
        let mut powers = Self::default();
        // The runbooks' templates are long, and have nothing of IAM.
        for (path, text) in templates.into_iter().filter(|(_, text)| text.contains("AWS::IAM::")) {
            for resource in template(path, text)?["Resources"].as_object().into_iter().flat_map(Map::values) {
                powers.add(path, resource);
            }
        }
        Ok(powers)
    }

    fn add(&mut self, template: &str, resource: &Value) {
        let properties = &resource["Properties"];
        let roles = match resource["Type"].as_str() {
            Some("AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy") => texts(&properties["Roles"]),
            Some(kind) if kind.starts_with("AWS::IAM::") => texts(&properties["RoleName"]),
            _ => return,
        };
        // What is attached by its ARN later.
        let roles = if roles.is_empty() { texts(&properties["ManagedPolicyName"]) } else { roles };
        let role = roles.join(", ");
        for statement in allowing(&properties["AssumeRolePolicyDocument"]) {
            self.trusts.push(Trust {
                template: template.to_owned(),
                role: role.clone(),
                principals: principals(statement),
                actions: texts(&statement["Action"]),
                conditions: conditions(statement),
            });
        }
        let own = items(&properties["Policies"]).into_iter().map(|policy| &policy["PolicyDocument"]);
        let statements = own.chain([&properties["PolicyDocument"]]).flat_map(allowing);
        for statement in statements.filter(|statement| may_pass(statement)) {
            self.passes.push(Pass {
                template: template.to_owned(),
                role: role.clone(),
                resources: texts(&statement["Resource"]),
                conditions: conditions(statement),
            });
        }
    }

    /// Everything that lets in, or passes on, more than it should.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let trusts = self.trusts.iter().filter_map(|trust| Some((&trust.template, &trust.role, trust.fault()?)));
        let passes = self.passes.iter().filter_map(|pass| Some((&pass.template, &pass.role, pass.fault()?.to_owned())));
        trusts.chain(passes).map(|(template, role, fault)| format!("{template}, {role}: {fault}")).collect()
    }

    /// The page, in Markdown.
    #[must_use]
    pub fn page(&self) -> String {
        let (mut trusts, mut passes): (Vec<&Trust>, Vec<&Pass>) =
            (self.trusts.iter().collect(), self.passes.iter().collect());
        trusts.sort_by(|one, other| (&one.template, &one.role).cmp(&(&other.template, &other.role)));
        passes.sort_by(|one, other| (&one.template, &one.role).cmp(&(&other.template, &other.role)));
        let mut page = String::from(
            "<!-- Generated from stacksets/ by `cargo xtask generate`. Do not edit. -->\n\
             # Who may assume which role, and who may pass one on\n\n\
             What the templates say that are deployed; `stacksets/examples/` is not among them. `${…}` is what\n\
             CloudFormation puts in: `${AWS::AccountId}` is the account that the role is in. A test holds both tables to\n\
             what is said above them:\n\
             `generated.rs: nobody_comes_in_and_no_role_is_passed_on_but_as_the_page_says`.\n\n\
             ## Who may assume a role\n\
             A service, in the name of the role's own account; or named roles of the administrator account, with the\n\
             ExternalId of the role's account. People's roles are for whom the administrator account's own IAM lets\n\
             assume them.\n\n\
             | template | role | who may assume it | on condition |\n|---|---|---|---|\n",
        );
        for trust in trusts {
            let who = trust.principals.iter().map(ToString::to_string);
            row(&mut page, &trust.template, &trust.role, [cell(who), cell(told(&trust.conditions))]);
        }
        page.push_str(
            "\nThese services are not documented to name an account or a resource when they assume a role, so there is no\n\
             condition. Who gives one of them such a role needs `iam:PassRole` for it, which only the role's own account\n\
             can give:\n\n",
        );
        for service in UNTOLD {
            line(&mut page, &format!("- `{service}`"));
        }
        page.push_str(
            "\n## Who may pass a role on\n\
             Every right to `iam:PassRole`. Each is for named services.\n\n\
             | template | who | which roles | to which service |\n|---|---|---|---|\n",
        );
        for pass in passes {
            let (roles, services) = (pass.resources.iter().map(|role| code(role)), pass.services().map(code));
            row(&mut page, &pass.template, &pass.role, [cell(roles), cell(services)]);
        }
        page
    }
}

impl Trust {
    /// Who comes in that should not, if anybody does.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if self.actions != [ASSUME] {
            return Some(format!("it allows {}, and not {ASSUME} alone", self.actions.join(", ")));
        }
        if self.principals.is_empty() {
            return Some("it does not say who may assume it".to_owned());
        }
        let open = self.principals.iter().find(|principal| !self.is_bound(principal))?;
        Some(format!("{open} may assume it without what binds that to its own account"))
    }

    fn is_bound(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Service(service) => {
                UNTOLD.contains(&service.as_str())
                    || !service.contains('*')
                        && self.asks("StringEquals", "aws:SourceAccount")
                        && self.asks("ArnLike", "aws:SourceArn")
            }
            Principal::Aws(arn) if arn == OWN_ACCOUNT => PEOPLE.contains(&self.role.as_str()),
            Principal::Aws(arn) => {
                arn.contains(":role/") && !arn.contains('*') && self.asks("StringEquals", "sts:ExternalId")
            }
            Principal::Other(_) => false,
        }
    }

    /// Whether a condition binds this key to the role's own account.
    fn asks(&self, operator: &str, key: &str) -> bool {
        self.conditions.iter().any(|one| {
            one.operator == operator
                && one.key == key
                && !one.values.is_empty()
                && one.values.iter().all(|value| value.contains(OWN))
        })
    }
}

impl Pass {
    /// The services that it is limited to.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        let limits = self.conditions.iter().filter(|one| one.operator == "StringEquals" && one.key == PASSED_TO);
        limits.flat_map(|one| one.values.iter().map(String::as_str))
    }

    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if self.services().next().is_none() || self.services().any(|service| service.contains('*')) {
            return Some("it passes roles on to any service");
        }
        let named = |role: &String| role.contains(":role/") && role.contains(OWN);
        let is_named = !self.resources.is_empty() && self.resources.iter().all(named);
        (!is_named).then_some("it passes on roles that are not of its own account")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "service `{service}`"),
            Self::Aws(arn) => write!(f, "`{arn}`"),
            Self::Other(who) => write!(f, "`{who}`"),
        }
    }
}

fn told(conditions: &[Condition]) -> impl Iterator<Item = String> {
    conditions.iter().map(|one| format!("`{}` {} `{}`", one.key, one.operator, one.values.join("` or `")))
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn cell(lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { "–".to_owned() } else { lines.join("<br>") }
}

fn row(page: &mut String, template: &str, role: &str, [one, other]: [String; 2]) {
    let template = template.rsplit('/').next().unwrap_or(template);
    line(page, &format!("| {template} | `{role}` | {one} | {other} |"));
}

fn line(page: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}

/// The statements of a policy that allow something.
fn allowing(document: &Value) -> Vec<&Value> {
    items(&document["Statement"]).into_iter().filter(|statement| statement["Effect"] == "Allow").collect()
}

fn principals(statement: &Value) -> Vec<Principal> {
    if let Some(others) = statement.get("NotPrincipal") {
        return vec![Principal::Other(format!("everybody but {others}"))];
    }
    let Value::Object(kinds) = &statement["Principal"] else {
        return texts(&statement["Principal"]).into_iter().map(Principal::Other).collect();
    };
    let named = kinds.iter().flat_map(|(kind, who)| texts(who).into_iter().map(move |who| (kind.as_str(), who)));
    named
        .map(|(kind, who)| match kind {
            "Service" => Principal::Service(who),
            "AWS" => Principal::Aws(who),
            _ => Principal::Other(format!("{kind} {who}")),
        })
        .collect()
}

fn conditions(statement: &Value) -> Vec<Condition> {
    let mut found = Vec::new();
    for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
        for (key, values) in keys.as_object().into_iter().flatten() {
            found.push(Condition { operator: operator.clone(), key: key.clone(), values: texts(values) });
        }
    }
    found
}

/// Whether a statement's actions have `iam:PassRole` among them. When in doubt, they have.
fn may_pass(statement: &Value) -> bool {
    let pass = PASS.to_ascii_lowercase();
    let covers = |action: &String| {
        let action = action.to_ascii_lowercase();
        let start = action.split(['*', '?']).next().unwrap_or_default();
        action == pass || start.len() < action.len() && pass.starts_with(start)
    };
    statement.get("NotAction").is_some() || texts(&statement["Action"]).iter().any(covers)
}

/// What is one, or a list.
fn items(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
}

fn texts(value: &Value) -> Vec<String> {
    items(value).into_iter().map(text).collect()
}

/// A value as a person writes it: `!Ref x` is `${x}`.
fn text(value: &Value) -> String {
    let intrinsic = value.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    match (value, intrinsic.map(|(name, argument)| (name.as_str(), argument))) {
        (Value::String(plain), _) | (_, Some(("Fn::Sub", Value::String(plain)))) => plain.clone(),
        (_, Some(("Ref" | "Fn::GetAtt", Value::String(name)))) => format!("${{{name}}}"),
        _ => value.to_string(),
    }
}

/// A template as JSON ([`cloudformation`]); `path` is told when it cannot be read.
///
/// # Errors
/// When it is no YAML.
pub fn template(path: &str, text: &str) -> Result<Value, TemplateError> {
    cloudformation::read(text).map_err(|error| TemplateError { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn powers(role: &str, properties: &str) -> Powers {
        let text = format!(
            "Resources:\n  R:\n    Type: AWS::IAM::Role\n    Properties:\n      RoleName: {role}\n      {properties}\n"
        );
        Powers::read([("stacksets/t.yaml", text.as_str())]).unwrap()
    }

    fn trust(role: &str, statement: &str) -> Powers {
        powers(role, &format!("AssumeRolePolicyDocument: {{ Statement: [{{ Effect: Allow, {statement} }}] }}"))
    }

    fn pass(statement: &str) -> Powers {
        powers("R", &format!("Policies: [{{ PolicyDocument: {{ Statement: {{ Effect: Allow, {statement} }} }} }}]"))
    }

    const OURS: &str = "\"aws:SourceAccount\": !Ref \"AWS::AccountId\"";
    const OURS_TOO: &str = "\"aws:SourceArn\": !Sub \"arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:x/*\"";

    #[test]
    fn who_is_bound_to_the_roles_own_account_may_come_in() {
        let both = format!("Condition: {{ StringEquals: {{ {OURS} }}, ArnLike: {{ {OURS_TOO} }} }}");
        let external = "Condition: { StringEquals: { \"sts:ExternalId\": !Sub \"${P}-${AWS::AccountId}\" } }";
        for (role, principal, condition) in [
            ("R", "Service: ssm.amazonaws.com", both.as_str()),
            ("R", "Service: lambda.amazonaws.com", "Sid: Lambda"),
            ("R", "AWS: [!Sub 'arn:aws:iam::${A}:role/r']", external),
            (names::AUDITOR_ROLE, "AWS: !Sub 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root'", "Sid: People"),
        ] {
            let statement = format!("Action: 'sts:AssumeRole', Principal: {{ {principal} }}, {condition}");
            let powers = trust(role, &statement);
            assert_eq!((powers.trusts.len(), powers.faults()), (1, Vec::new()), "{statement}");
        }
    }

    #[test]
    fn whoever_else_is_let_in_is_a_fault() {
        let half = format!("Condition: {{ StringEquals: {{ {OURS} }} }}");
        let anybodys = "Condition: { StringEquals: { \"sts:ExternalId\": one-for-all } }";
        for statement in [
            "Action: 'sts:AssumeRole', Principal: '*'".to_owned(),
            "Action: 'sts:AssumeRole', Principal: { AWS: '*' }".to_owned(),
            "Action: 'sts:AssumeRole', NotPrincipal: { AWS: 'arn:x' }".to_owned(),
            "Action: 'sts:AssumeRole', Principal: { Federated: cognito-identity.amazonaws.com }".to_owned(),
            "Action: 'sts:AssumeRole'".to_owned(),
            "Action: 'sts:*', Principal: { Service: lambda.amazonaws.com }".to_owned(),
            "Action: 'sts:AssumeRole', Principal: { Service: ssm.amazonaws.com }".to_owned(),
            format!("Action: 'sts:AssumeRole', Principal: {{ Service: ssm.amazonaws.com }}, {half}"),
            "Action: 'sts:AssumeRole', Principal: { AWS: 'arn:aws:iam::111122223333:role/r' }".to_owned(),
            format!("Action: 'sts:AssumeRole', Principal: {{ AWS: 'arn:aws:iam::111122223333:role/r' }}, {anybodys}"),
            format!("Action: 'sts:AssumeRole', Principal: {{ AWS: !Sub '{OWN_ACCOUNT}' }}"),
        ] {
            assert_eq!(trust("R", &statement).faults().len(), 1, "{statement}");
        }
    }

    #[test]
    fn a_role_is_passed_on_to_a_service_that_is_named_and_seen_whatever_its_action_is_called() {
        let role = "Resource: !Sub 'arn:aws:iam::${AWS::AccountId}:role/x'";
        let to = "Condition: { StringEquals: { \"iam:PassedToService\": ssm.amazonaws.com } }";
        let well = pass(&format!("Action: ['iam:PassRole'], {role}, {to}"));
        assert_eq!((well.passes.len(), well.faults()), (1, Vec::new()));
        for statement in [
            format!("Action: 'iam:PassRole', {role}"),
            format!("Action: 'iam:passrole', {role}"),
            format!("Action: 'iam:Pass*', {role}"),
            format!("Action: ['s3:GetObject', '*'], {role}"),
            format!("NotAction: 's3:*', {role}"),
            format!("Action: 'iam:PassRole', Resource: '*', {to}"),
        ] {
            assert_eq!(pass(&statement).faults().len(), 1, "{statement}");
        }
        assert!(pass("Action: ['iam:GetRole', 's3:*'], Resource: '*'").passes.is_empty());
    }

    #[test]
    fn the_page_says_who_on_which_condition_and_to_which_service() {
        let ours = format!("Condition: {{ StringEquals: {{ {OURS} }} }}");
        let to = "Condition: { StringEquals: { \"iam:PassedToService\": ssm.amazonaws.com } }";
        let ssm = "Principal: { Service: ssm.amazonaws.com }";
        let mut powers = trust("R", &format!("Action: 'sts:AssumeRole', {ssm}, {ours}"));
        powers.passes = pass(&format!("Action: 'iam:PassRole', Resource: !GetAtt X.Arn, {to}")).passes;
        let page = powers.page();
        for row in [
            "| t.yaml | `R` | service `ssm.amazonaws.com` | `aws:SourceAccount` StringEquals `${AWS::AccountId}` |\n",
            "| t.yaml | `R` | `${X.Arn}` | `ssm.amazonaws.com` |\n",
        ] {
            assert!(page.contains(row), "{page}");
        }
    }
}
