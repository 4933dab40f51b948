//! Deploys an organisation into the lab: the templates of `stacksets/` through CloudFormation, the runbooks, the
//! catalogue and settings, Security Hub and the Config rules. Every step is an AWS call of an account's
//! administrator, as a person's would be; what the emulator's CloudFormation leaves out is added by [`complete`].

mod units;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use redress_common::aws::state_table::CatalogueItem;
use redress_common::ids::{AccountId, Region};
use redress_common::names;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::organisation::{Organisation, Plan, Source};
use crate::service::{Aws, AwsError, Credentials};
use crate::services::ssm::Ssm;
use crate::stack::{Place, StackError, Wanted};
use crate::template::{Stack, Template, TemplateError};

/// An organisation could not be deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// An AWS call failed.
    #[error("{operation} in account {account}: {source}")]
    Call {
        /// `service:Operation`.
        operation: String,
        /// Where.
        account: AccountId,
        /// AWS's answer.
        source: AwsError,
    },
    /// A stack was not created.
    #[error("stack {stack} in account {account}: {source}")]
    Stack {
        /// Which one.
        stack: String,
        /// Where.
        account: AccountId,
        /// Why.
        source: Box<StackError>,
    },
    /// A template cannot be resolved.
    #[error("stack {stack}: {source}")]
    Template {
        /// Which one.
        stack: String,
        /// Why.
        source: TemplateError,
    },
    /// The catalogue cannot be written.
    #[error("the catalogue cannot be written as JSON: {0}")]
    Catalogue(#[from] serde_json::Error),
    /// A runbook is not what SSM takes.
    #[error("runbook {name}: {source}; run `cargo xtask generate`")]
    Runbook {
        /// Its name.
        name: String,
        /// SSM's answer.
        source: AwsError,
    },
    /// A member's deployment was cut off.
    #[error("the deployment of a member account was cut off: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The architecture that the lab's functions run on: this machine's.
pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// One of a member's Config rules.
struct ConfigRule {
    name: &'static str,
    /// The managed rule.
    identifier: &'static str,
    /// As JSON.
    parameters: Option<&'static str>,
    /// Only resources with this tag and value.
    scope: Option<(&'static str, &'static str)>,
}

const fn rule(name: &'static str, identifier: &'static str) -> ConfigRule {
    ConfigRule { name, identifier, parameters: None, scope: None }
}

/// Those with Security Hub's kind of name report to Security Hub too.
const CONFIG_RULES: &[ConfigRule] = &[
    rule("securityhub-s3-bucket-level-public-access-prohibited-5c2f0a91", "S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED"),
    rule("securityhub-ec2-ebs-encryption-by-default-0b7e31d4", "EC2_EBS_ENCRYPTION_BY_DEFAULT"),
    ConfigRule {
        parameters: Some(
            r#"{"RequireUppercaseCharacters":"true","RequireLowercaseCharacters":"true","RequireSymbols":"true","RequireNumbers":"true","MinimumPasswordLength":"8"}"#,
        ),
        ..rule("securityhub-iam-password-policy-9a41c6e0", "IAM_PASSWORD_POLICY")
    },
    rule("securityhub-cmk-backing-key-rotation-enabled-d83b12f7", "CMK_BACKING_KEY_ROTATION_ENABLED"),
    rule("securityhub-restricted-ssh-47e9a05c", "INCOMING_SSH_DISABLED"),
    ConfigRule {
        parameters: Some(r#"{"tag1Key":"Owner","tag2Key":"CostCenter"}"#),
        scope: Some(PRODUCTION),
        ..rule("required-tags", "REQUIRED_TAGS")
    },
];

/// Resources with this tag must carry the required ones.
pub(crate) const PRODUCTION: (&str, &str) = ("Environment", "production");

/// The name that a managed rule has in every member account.
pub(crate) fn config_rule_name(identifier: &str) -> Option<&'static str> {
    CONFIG_RULES.iter().find(|rule| rule.identifier == identifier).map(|rule| rule.name)
}

/// Where in the bucket of packages the administrator stack looks for what it nests: the default of its parameter.
const NESTED_TEMPLATES: &str = "templates/administrator";

/// The Config aggregator of the administrator account.
const AGGREGATOR: &str = "redress";
/// Config's role to see the organisation's accounts.
const AGGREGATOR_ROLE: &str = "ConfigAggregator";

/// Sets the organisation up as a customer has it, without Redress: units, accounts, Security Hub, Config and its rules.
///
/// # Errors
/// When a call fails; what was done until then stays.
pub async fn ground(aws: Arc<dyn Aws>, plan: &Plan) -> Result<Organisation, DeployError> {
    let plan = Arc::new(plan.clone());
    let deployer = |account: &AccountId, region: &Region| Deployer {
        aws: aws.clone(),
        plan: plan.clone(),
        account: account.clone(),
        region: region.clone(),
    };
    (plan.progress)("setting up the organisation");
    let administrator = deployer(&plan.administrator.id, &plan.region);
    let id = administrator.ground().await?;
    let mut members = JoinSet::new();
    for member in &plan.members {
        for region in std::iter::once(&plan.region).chain(&plan.further_regions) {
            let deployer = deployer(&member.id, region);
            members.spawn(async move { deployer.watch().await });
        }
    }
    while let Some(watched) = members.join_next().await {
        watched??;
    }
    Ok(of(&plan, id))
}

fn of(plan: &Plan, id: String) -> Organisation {
    Organisation {
        id,
        administrator: plan.administrator.clone(),
        members: plan.members.clone(),
        region: plan.region.clone(),
        external_ids: plan.external_ids.clone(),
    }
}

/// Deploys the plan.
///
/// # Errors
/// When a call fails or a stack does not come up; what was created until then stays.
pub async fn organisation(aws: Arc<dyn Aws>, ssm: &Ssm, plan: &Plan) -> Result<Organisation, DeployError> {
    let started = Instant::now();
    let plan = Arc::new(plan.clone());
    let deployer = |account: &AccountId| Deployer {
        aws: aws.clone(),
        plan: plan.clone(),
        account: account.clone(),
        region: plan.region.clone(),
    };
    let administrator = deployer(&plan.administrator.id);
    (plan.progress)("deploying the administrator account");
    let id = administrator.administrator().await?;

    let mut members = JoinSet::new();
    for member in &plan.members {
        (plan.progress)(&format!("deploying member account {} ({})", member.name, member.id));
        let deployer = deployer(&member.id);
        members.spawn(async move { deployer.member().await });
    }
    while let Some(deployed) = members.join_next().await {
        deployed??;
    }
    runbooks(ssm, &plan)?;
    (plan.progress)(&format!("organisation deployed in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(of(&plan, id))
}

/// The runbooks of all members. CloudFormation would create them; the emulator's refuses the type, so the lab's own SSM
/// takes them from the templates, all members at once: a call for each would take longer than all else.
fn runbooks(ssm: &Ssm, plan: &Plan) -> Result<(), DeployError> {
    let members: Vec<&str> = plan.members.iter().map(|member| member.id.as_str()).collect();
    let templates = plan.member_documents.iter().map(|source| &source.template);
    for (_, kind, properties) in templates.flat_map(|template| template.resources()) {
        if kind != "AWS::SSM::Document" {
            continue;
        }
        let name = properties["Name"].as_str().unwrap_or_default();
        let content = &properties["Content"];
        let content = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
        for region in std::iter::once(&plan.region).chain(&plan.further_regions) {
            ssm.deploy_document(&members, region.as_str(), name, &content)
                .map_err(|source| DeployError::Runbook { name: name.to_owned(), source })?;
        }
    }
    Ok(())
}

/// Deploys one account, as its administrator.
#[derive(Clone)]
struct Deployer {
    aws: Arc<dyn Aws>,
    plan: Arc<Plan>,
    account: AccountId,
    region: Region,
}

impl Deployer {
    async fn call(&self, service: &str, operation: &str, parameters: Value) -> Result<Value, DeployError> {
        self.call_as(&self.account, service, operation, parameters).await
    }

    async fn call_as(
        &self,
        account: &AccountId,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, DeployError> {
        let credentials = Credentials::root(account.as_str());
        let answer = self.aws.call(&credentials, self.region.as_str(), service, operation, parameters).await;
        answer.map_err(|source| DeployError::Call {
            operation: format!("{service}:{operation}"),
            account: account.clone(),
            source,
        })
    }

    /// What the organisation has without Redress. Its id.
    async fn ground(&self) -> Result<String, DeployError> {
        let described = self.call("organizations", "DescribeOrganization", json!({})).await?;
        let id = described["Organization"]["Id"].as_str().unwrap_or_default().to_owned();
        self.units().await?;
        self.aggregator().await?;
        self.call("securityhub", "EnableSecurityHub", json!({})).await?;
        self.call("securityhub", "EnableOrganizationAdminAccount", json!({ "AdminAccountId": self.account })).await?;
        let members = self.plan.members.iter().map(|member| json!({ "AccountId": member.id }));
        let details: Vec<Value> = members.collect();
        self.call("securityhub", "CreateMembers", json!({ "AccountDetails": details })).await?;
        Ok(id)
    }

    /// The organisation's id, once the administrator account is complete.
    async fn administrator(&self) -> Result<String, DeployError> {
        let id = self.ground().await?;
        let stack = &self.plan.administrator_stack;
        let bucket = self.artifacts("redress-administrator", stack, self.plan.administrator_nested.values()).await?;
        for (name, nested) in &self.plan.administrator_nested {
            let key = format!("{NESTED_TEMPLATES}/{name}");
            self.call("s3", "PutObject", json!({ "Bucket": bucket, "Key": key, "Body": nested.text })).await?;
        }
        let members: Vec<&str> = self.plan.members.iter().map(|member| member.id.as_str()).collect();
        let mut parameters = vec![
            ("OrganizationId", id.clone()),
            ("MemberAccountIds", members.join(",")),
            ("ExternalId", self.plan.external_ids.reveal().to_owned()),
            ("ArtifactBucket", bucket),
            ("Architecture", ARCHITECTURE.to_owned()),
            ("DeletionProtection", "false".to_owned()),
            ("ConfigAggregator", AGGREGATOR.to_owned()),
            ("AutomationRules", "Enabled".to_owned()),
        ];
        let more = self.plan.administrator_parameters.iter().map(|(name, value)| (name.as_str(), value.clone()));
        parameters.extend(more);
        self.stack("redress-administrator", stack, &parameters).await?;

        for item in [self.settings(), catalogue_item(&CatalogueItem::of(&self.plan.catalogue)?)] {
            self.call("dynamodb", "PutItem", json!({ "TableName": names::STATE_TABLE, "Item": item })).await?;
        }
        for (id, name, description) in names::ACTIONS {
            self.call(
                "securityhub",
                "CreateActionTarget",
                json!({ "Id": id, "Name": name, "Description": description }),
            )
            .await?;
        }
        Ok(id)
    }

    /// What the rules of all members find, to be asked for in one place.
    async fn aggregator(&self) -> Result<(), DeployError> {
        let document = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let trust = json!({ "Effect": "Allow", "Principal": { "Service": "config.amazonaws.com" }, "Action": "sts:AssumeRole" });
        let role = json!({ "RoleName": AGGREGATOR_ROLE, "AssumeRolePolicyDocument": document(trust) });
        let role = self.call("iam", "CreateRole", role).await?;
        let reads = json!({ "Effect": "Allow", "Action": "organizations:ListAccounts", "Resource": "*" });
        let policy = json!({ "RoleName": AGGREGATOR_ROLE, "PolicyName": "reads", "PolicyDocument": document(reads) });
        self.call("iam", "PutRolePolicy", policy).await?;
        let source = json!({ "RoleArn": role["Role"]["Arn"], "AllAwsRegions": true });
        let aggregator = json!({ "ConfigurationAggregatorName": AGGREGATOR, "OrganizationAggregationSource": source });
        self.call("config", "PutConfigurationAggregator", aggregator).await?;
        Ok(())
    }

    async fn member(&self) -> Result<(), DeployError> {
        let bucket = self.artifacts("redress-member", &self.plan.member_stack, []).await?;
        let parameters = [
            ("AdministratorAccountId", self.plan.administrator.id.to_string()),
            ("ExternalIdPrefix", self.plan.external_ids.reveal().to_owned()),
            ("ArtifactBucket", bucket),
            ("Architecture", ARCHITECTURE.to_owned()),
        ];
        self.stack("redress-member", &self.plan.member_stack, &parameters).await?;
        self.stack("redress-member-roles", &self.plan.member_roles, &[]).await?;

        self.watch().await?;
        for region in &self.plan.further_regions {
            self.further_region(region).await?;
        }
        Ok(())
    }

    /// What a member has beside its home Region: the functions and the way to the hub, and who finds something there.
    async fn further_region(&self, region: &Region) -> Result<(), DeployError> {
        let there = Self { region: region.clone(), ..self.clone() };
        there.artifacts("redress-member-region", &self.plan.member_region, []).await?;
        let parameters = [
            ("AdministratorAccountId", self.plan.administrator.id.to_string()),
            ("HomeRegion", self.plan.region.to_string()),
            ("ArtifactBucketPrefix", names::artifact_bucket_prefix(&self.account)),
            ("Architecture", ARCHITECTURE.to_owned()),
        ];
        there.stack("redress-member-region", &self.plan.member_region, &parameters).await?;
        there.watch().await
    }

    /// Security Hub and Config in this Region.
    async fn watch(&self) -> Result<(), DeployError> {
        self.call("securityhub", "EnableSecurityHub", json!({})).await?;
        self.good_order().await?;
        for ConfigRule { name, identifier, parameters, scope } in CONFIG_RULES {
            let mut rule =
                json!({ "ConfigRuleName": name, "Source": { "Owner": "AWS", "SourceIdentifier": identifier } });
            if let Some(parameters) = parameters {
                rule["InputParameters"] = (*parameters).into();
            }
            if let Some((key, value)) = scope {
                rule["Scope"] = json!({ "TagKey": key, "TagValue": value });
            }
            self.call("config", "PutConfigRule", json!({ "ConfigRule": rule })).await?;
        }
        // The state before anything is broken: what comes later is a transition.
        self.call("config", "StartConfigRulesEvaluation", json!({})).await?;
        Ok(())
    }

    /// Account-wide settings as they should be: what is broken later is broken by somebody.
    async fn good_order(&self) -> Result<(), DeployError> {
        self.call("ec2", "EnableEbsEncryptionByDefault", json!({})).await?;
        let policy = json!({
            "MinimumPasswordLength": 16, "RequireSymbols": true, "RequireNumbers": true, "RequireUppercaseCharacters": true,
            "RequireLowercaseCharacters": true, "AllowUsersToChangePassword": true, "MaxPasswordAge": 90, "PasswordReusePrevention": 24,
        });
        self.call("iam", "UpdateAccountPasswordPolicy", policy).await?;
        Ok(())
    }

    fn artifact_bucket(&self) -> String {
        names::artifact_bucket(&self.account, &self.region)
    }

    /// The bucket with the packages of the functions of a template and of what it nests. The lab runs the binaries that were
    /// built on this machine, so a package only has to be there.
    async fn artifacts<'s>(
        &self,
        stack: &str,
        source: &'s Source,
        nested: impl IntoIterator<Item = &'s Source>,
    ) -> Result<String, DeployError> {
        let bucket = self.artifact_bucket();
        let mut creation = json!({ "Bucket": bucket });
        if self.region.as_str() != "us-east-1" {
            creation["CreateBucketConfiguration"] = json!({ "LocationConstraint": self.region });
        }
        self.call("s3", "CreateBucket", creation).await?;
        let defaults = source.template.defaults().map(|(name, value)| (name.to_owned(), value)).collect();
        let defaults = Stack { parameters: defaults, ..Stack::default() };
        let templates = std::iter::once(source).chain(nested).map(|source| &source.template);
        let resources = templates.flat_map(Template::resources);
        for (_, _, function) in resources.filter(|(_, kind, _)| *kind == "AWS::Lambda::Function") {
            // A nested template's parameters are called as those of the one that nests it.
            let key = source.template.resolve(&function["Code"]["S3Key"], &defaults);
            let key = key.map_err(|source| DeployError::Template { stack: stack.to_owned(), source })?;
            let package = json!({ "Bucket": bucket, "Key": key, "Body": "the lab runs the binary of this machine" });
            self.call("s3", "PutObject", package).await?;
        }
        Ok(bucket)
    }

    /// Creates a stack, waits for it, and adds what the emulator left out.
    async fn stack(&self, name: &str, source: &Source, given: &[(&str, String)]) -> Result<(), DeployError> {
        // A template may be longer than a request takes.
        let (bucket, key) = (self.artifact_bucket(), format!("{name}.yaml"));
        let url = format!("https://s3.{}.amazonaws.com/{bucket}/{key}", self.region);
        self.call("s3", "PutObject", json!({ "Bucket": bucket, "Key": key, "Body": source.text })).await?;
        let wanted = Wanted {
            name: name.to_owned(),
            source: Arc::new(source.clone()),
            template_url: Some(url),
            parameters: given.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            capabilities: vec!["CAPABILITY_NAMED_IAM".to_owned()],
            tags: BTreeMap::new(),
        };
        let place = Place {
            aws: self.aws.as_ref(),
            credentials: Credentials::root(self.account.as_str()),
            account: self.account.as_str(),
            region: self.region.as_str(),
            documents: None,
        };
        let failed = |source| DeployError::Stack {
            stack: name.to_owned(),
            account: self.account.clone(),
            source: Box::new(source),
        };
        place.create(&wanted).await.map(|_| ()).map_err(failed)
    }

    fn settings(&self) -> Value {
        json!({ "Key": { "S": "settings" }, "PolicySet": { "S": self.plan.policy_set.as_str() }, "Switch": { "S": "on" } })
    }
}

fn catalogue_item(item: &CatalogueItem) -> Value {
    json!({ "Key": { "S": "catalogue" }, "Catalogue": { "S": item.catalogue }, "Sha256": { "S": item.sha256 } })
}

#[cfg(test)]
mod monitoring_tests;
#[cfg(test)]
mod tests;
