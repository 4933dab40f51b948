//! Deploys an organisation into the lab: the templates of `stacksets/` through CloudFormation, the runbooks, the
//! catalogue and settings, Security Hub and the Config rules. Every step is an AWS call of an account's
//! administrator, as a person's would be; what the emulator's CloudFormation leaves out is added by [`complete`].

mod complete;
mod units;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redress_common::aws::state_table::CatalogueItem;
use redress_common::ids::AccountId;
use redress_common::names;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::organisation::{Organisation, Plan, Source};
use crate::service::{Aws, AwsError, Credentials};
use crate::services::ssm::Ssm;
use crate::template::{Stack, TemplateError};

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
    #[error("stack {stack} in account {account} ended as {status}: {reasons}")]
    Stack {
        /// Which one.
        stack: String,
        /// Where.
        account: AccountId,
        /// `ROLLBACK_COMPLETE` and the like.
        status: String,
        /// What CloudFormation says of each failed resource.
        reasons: String,
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

/// Stacks are given this long; the emulator needs a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a stack.
const PAUSE: Duration = Duration::from_millis(25);

/// The architecture that the lab's functions run on: this machine's.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

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

/// Security Hub's custom actions: id, name in the console, description.
const ACTION_TARGETS: [(&str, &str, &str); 3] = [
    (names::ACTION_REMEDIATE, "Redress: fix", "Fix the chosen findings with Redress"),
    (names::ACTION_DRY_RUN, "Redress: dry run", "Show what Redress would change"),
    (names::ACTION_UNDO, "Redress: undo", "Put back what Redress changed last"),
];

/// The Config aggregator of the administrator account.
const AGGREGATOR: &str = "redress";
/// Config's role to see the organisation's accounts.
const AGGREGATOR_ROLE: &str = "ConfigAggregator";

/// Deploys the plan.
///
/// # Errors
/// When a call fails or a stack does not come up; what was created until then stays.
pub async fn organisation(aws: Arc<dyn Aws>, ssm: &Ssm, plan: &Plan) -> Result<Organisation, DeployError> {
    let started = Instant::now();
    let plan = Arc::new(plan.clone());
    let administrator = Deployer { aws: aws.clone(), plan: plan.clone(), account: plan.administrator.id.clone() };
    (plan.progress)("deploying the administrator account");
    let id = administrator.administrator().await?;

    let mut members = JoinSet::new();
    for member in &plan.members {
        (plan.progress)(&format!("deploying member account {} ({})", member.name, member.id));
        let deployer = Deployer { aws: aws.clone(), plan: plan.clone(), account: member.id.clone() };
        members.spawn(async move { deployer.member().await });
    }
    while let Some(deployed) = members.join_next().await {
        deployed??;
    }
    runbooks(ssm, &plan)?;
    (plan.progress)(&format!("organisation deployed in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(Organisation {
        id,
        administrator: plan.administrator.clone(),
        members: plan.members.clone(),
        region: plan.region.clone(),
        external_id: plan.external_id.clone(),
    })
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
        ssm.deploy_document(&members, plan.region.as_str(), name, &content)
            .map_err(|source| DeployError::Runbook { name: name.to_owned(), source })?;
    }
    Ok(())
}

/// Deploys one account, as its administrator.
struct Deployer {
    aws: Arc<dyn Aws>,
    plan: Arc<Plan>,
    account: AccountId,
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
        let answer = self.aws.call(&credentials, self.plan.region.as_str(), service, operation, parameters).await;
        answer.map_err(|source| DeployError::Call {
            operation: format!("{service}:{operation}"),
            account: account.clone(),
            source,
        })
    }

    /// The organisation's id, once the administrator account is complete.
    async fn administrator(&self) -> Result<String, DeployError> {
        let described = self.call("organizations", "DescribeOrganization", json!({})).await?;
        let id = described["Organization"]["Id"].as_str().unwrap_or_default().to_owned();

        self.units().await?;
        let bucket = self.artifacts("redress-administrator", &self.plan.administrator_stack).await?;
        let members: Vec<&str> = self.plan.members.iter().map(|member| member.id.as_str()).collect();
        let mut parameters = vec![
            ("OrganizationId", id.clone()),
            ("MemberAccountIds", members.join(",")),
            ("ExternalId", self.plan.external_id.clone()),
            ("ArtifactBucket", bucket),
            ("Architecture", ARCHITECTURE.to_owned()),
            ("DeletionProtection", "false".to_owned()),
            ("ConfigAggregator", AGGREGATOR.to_owned()),
        ];
        let more = self.plan.administrator_parameters.iter().map(|(name, value)| (name.as_str(), value.clone()));
        parameters.extend(more);
        self.stack("redress-administrator", &self.plan.administrator_stack, &parameters).await?;

        for item in [self.settings(), catalogue_item(&CatalogueItem::of(&self.plan.catalogue)?)] {
            self.call("dynamodb", "PutItem", json!({ "TableName": names::STATE_TABLE, "Item": item })).await?;
        }
        self.aggregator().await?;
        self.call("securityhub", "EnableSecurityHub", json!({})).await?;
        self.call("securityhub", "EnableOrganizationAdminAccount", json!({ "AdminAccountId": self.account })).await?;
        let details: Vec<Value> = members.iter().map(|id| json!({ "AccountId": id })).collect();
        self.call("securityhub", "CreateMembers", json!({ "AccountDetails": details })).await?;
        for (id, name, description) in ACTION_TARGETS {
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
        let bucket = self.artifacts("redress-member", &self.plan.member_stack).await?;
        let parameters = [
            ("AdministratorAccountId", self.plan.administrator.id.to_string()),
            ("ExternalId", self.plan.external_id.clone()),
            ("ArtifactBucket", bucket),
            ("Architecture", ARCHITECTURE.to_owned()),
        ];
        self.stack("redress-member", &self.plan.member_stack, &parameters).await?;
        let evidence = names::evidence_bucket(&self.account, &self.plan.region);
        self.stack("redress-member-roles", &self.plan.member_roles, &[("EvidenceBucket", evidence)]).await?;

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
        format!("redress-artifacts-{}-{}", self.account, self.plan.region)
    }

    /// The bucket with the packages of a template's functions. The lab runs the binaries that were built on this machine, so a
    /// package only has to be there.
    async fn artifacts(&self, stack: &str, source: &Source) -> Result<String, DeployError> {
        let bucket = self.artifact_bucket();
        let mut creation = json!({ "Bucket": bucket });
        if self.plan.region.as_str() != "us-east-1" {
            creation["CreateBucketConfiguration"] = json!({ "LocationConstraint": self.plan.region });
        }
        self.call("s3", "CreateBucket", creation).await?;
        let defaults = source.template.defaults().map(|(name, value)| (name.to_owned(), value)).collect();
        let defaults = Stack { parameters: defaults, ..Stack::default() };
        for (_, _, function) in source.template.resources().filter(|(_, kind, _)| *kind == "AWS::Lambda::Function") {
            let key = source.template.resolve(&function["Code"]["S3Key"], &defaults);
            let key = key.map_err(|source| DeployError::Template { stack: stack.to_owned(), source })?;
            let package = json!({ "Bucket": bucket, "Key": key, "Body": "the lab runs the binary of this machine" });
            self.call("s3", "PutObject", package).await?;
        }
        Ok(bucket)
    }

    /// Creates a stack, waits for it, and adds what the emulator left out.
    async fn stack(&self, name: &str, source: &Source, given: &[(&str, String)]) -> Result<(), DeployError> {
        let parameters: Vec<Value> =
            given.iter().map(|(key, value)| json!({ "ParameterKey": key, "ParameterValue": value })).collect();
        // A template may be longer than a request takes.
        let (bucket, key) = (self.artifact_bucket(), format!("{name}.yaml"));
        let url = format!("https://s3.{}.amazonaws.com/{bucket}/{key}", self.plan.region);
        self.call("s3", "PutObject", json!({ "Bucket": bucket, "Key": key, "Body": source.text })).await?;
        let creation = json!({
            "StackName": name, "TemplateURL": url, "Parameters": parameters, "Capabilities": ["CAPABILITY_NAMED_IAM"],
        });
        self.call("cloudformation", "CreateStack", creation).await?;
        let begun = Instant::now();
        loop {
            let described = self.call("cloudformation", "DescribeStacks", json!({ "StackName": name })).await?;
            match described["Stacks"][0]["StackStatus"].as_str().unwrap_or_default() {
                "CREATE_COMPLETE" => break,
                status if status.ends_with("_IN_PROGRESS") && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await
                }
                status => return Err(self.stack_failed(name, status).await),
            }
        }
        let stack = self.references(name, source, given).await?;
        for call in complete::calls(&source.template, &stack)
            .map_err(|source| DeployError::Template { stack: name.to_owned(), source })?
        {
            self.call(call.service, call.operation, call.parameters).await?;
        }
        Ok(())
    }

    async fn stack_failed(&self, name: &str, status: &str) -> DeployError {
        let events =
            self.call("cloudformation", "DescribeStackEvents", json!({ "StackName": name })).await.unwrap_or_default();
        let reasons = events["StackEvents"].as_array().into_iter().flatten().filter_map(|event| {
            let failed = event["ResourceStatus"].as_str().is_some_and(|status| status.ends_with("_FAILED"));
            let (id, reason) = (event["LogicalResourceId"].as_str()?, event["ResourceStatusReason"].as_str()?);
            failed.then(|| format!("{id}: {reason}"))
        });
        DeployError::Stack {
            stack: name.to_owned(),
            account: self.account.clone(),
            status: status.to_owned(),
            reasons: reasons.collect::<Vec<_>>().join("; "),
        }
    }

    /// What `Ref` and `GetAtt` give in a stack that was created.
    async fn references(&self, name: &str, source: &Source, given: &[(&str, String)]) -> Result<Stack, DeployError> {
        let region = &self.plan.region;
        let partition = redress_common::arn::Partition::of_region(region);
        let suffix =
            if partition == redress_common::arn::Partition::China { "amazonaws.com.cn" } else { "amazonaws.com" };
        let mut parameters: BTreeMap<String, String> =
            source.template.defaults().map(|(key, value)| (key.to_owned(), value)).collect();
        parameters.extend(given.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        parameters.extend(
            [
                ("AWS::AccountId", self.account.to_string()),
                ("AWS::Partition", partition.to_string()),
                ("AWS::Region", region.to_string()),
                ("AWS::URLSuffix", suffix.to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        let described = self.call("cloudformation", "DescribeStackResources", json!({ "StackName": name })).await?;
        let mut stack = Stack { parameters, ..Stack::default() };
        for resource in described["StackResources"].as_array().into_iter().flatten() {
            let text = |field: &str| resource[field].as_str().unwrap_or_default();
            let (logical, physical) = (text("LogicalResourceId").to_owned(), text("PhysicalResourceId").to_owned());
            let place = |service: &str, resource: &str| {
                format!("arn:{partition}:{service}:{region}:{}:{resource}", self.account)
            };
            let arn = match text("ResourceType") {
                "AWS::KMS::Key" => Some(place("kms", &format!("key/{physical}"))),
                "AWS::S3::Bucket" => Some(format!("arn:{partition}:s3:::{physical}")),
                "AWS::DynamoDB::Table" => Some(place("dynamodb", &format!("table/{physical}"))),
                _ => None,
            };
            if let Some(arn) = arn {
                stack.arns.insert(logical.clone(), arn);
            }
            stack.resources.insert(logical, physical);
        }
        Ok(stack)
    }

    fn settings(&self) -> Value {
        json!({ "Key": { "S": "settings" }, "PolicySet": { "S": self.plan.policy_set.as_str() }, "Switch": { "S": "on" } })
    }
}

fn catalogue_item(item: &CatalogueItem) -> Value {
    json!({ "Key": { "S": "catalogue" }, "Catalogue": { "S": item.catalogue }, "Sha256": { "S": item.sha256 } })
}

#[cfg(test)]
mod tests;
