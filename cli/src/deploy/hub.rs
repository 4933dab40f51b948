//! What the administrator account needs beside its stacks: the first settings, the catalogue, Security Hub's custom actions,
//! what CloudFormation leaves of its automation rules, and somebody who is told. What is there already, and as it should be, is left alone.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::item::{self, Item};
use redress_common::aws::state_table::{CatalogueItem, KEY, StateKey};
use redress_common::catalogue::Catalogue;
use redress_common::items::deployment::Deployment;
use redress_common::items::settings::{Settings as InForce, Switch};
use redress_common::names;
use redress_member::wire::Wire;

use super::automation_rules::{self, There};
use super::settings::Settings;
use crate::problem::Problem;

/// The administrator account's services.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    dynamodb: aws_sdk_dynamodb::Client,
    securityhub: aws_sdk_securityhub::Client,
    sns: aws_sdk_sns::Client,
    wire: Wire,
    settings: Settings,
}

impl Hub {
    pub(crate) fn new(config: &aws_types::SdkConfig, settings: &Settings) -> Self {
        Self {
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            securityhub: aws_sdk_securityhub::Client::new(config),
            sns: aws_sdk_sns::Client::new(config),
            wire: Wire::new(config.clone()),
            settings: settings.clone(),
        }
    }

    async fn item(&self, key: &StateKey) -> Result<Option<Item>, Problem> {
        let get = self.dynamodb.get_item().table_name(names::STATE_TABLE).consistent_read(true);
        match get.key(KEY, AttributeValue::S(key.to_string())).send().await {
            Ok(found) => Ok(found.item),
            Err(error) => {
                let failure = AwsFailure::of("dynamodb:GetItem", &error);
                match failure.code() {
                    Some("ResourceNotFoundException") => Ok(None),
                    _ => Err(Problem::aws(&format!("read item `{key}` of {}", names::STATE_TABLE), &failure)),
                }
            }
        }
    }

    async fn put(&self, key: &StateKey, mut item: Item, only_new: bool) -> Result<(), Problem> {
        item.insert(KEY.to_owned(), AttributeValue::S(key.to_string()));
        let put = self.dynamodb.put_item().table_name(names::STATE_TABLE).set_item(Some(item));
        let put = if only_new {
            put.condition_expression("attribute_not_exists(#key)").expression_attribute_names("#key", KEY)
        } else {
            put
        };
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = AwsFailure::of("dynamodb:PutItem", &error);
                // Somebody else was quicker, and that is as good.
                if only_new && failure.code() == Some("ConditionalCheckFailedException") {
                    return Ok(());
                }
                Err(Problem::aws(&format!("write item `{key}` of {}", names::STATE_TABLE), &failure))
            }
        }
    }

    /// Writes the first settings. What operators have set since is theirs.
    pub(crate) async fn settings(&self, by: &str, now: Timestamp) -> Result<bool, Problem> {
        if self.item(&StateKey::Settings).await?.is_some() {
            return Ok(false);
        }
        let first = InForce {
            version: 1,
            policy_set: self.settings.policy_set.0,
            switch: Switch::On,
            acting_since: Some(now),
            changed_by: by.to_owned(),
            changed_at: Some(now),
            change_reason: "redress deploy: the first settings".to_owned(),
            ..InForce::default()
        };
        let item = item::encode("settings", &first).map_err(|error| Problem::aws("write the settings", &error))?;
        self.put(&StateKey::Settings, item, true).await.map(|()| true)
    }

    /// Whether the catalogue is there, and whether it is this one.
    pub(crate) async fn catalogue(&self, wanted: &Catalogue) -> Result<(bool, bool), Problem> {
        let wanted = CatalogueItem::of(wanted).map_err(|error| Problem::aws("write the catalogue", &error))?;
        let found = self.item(&StateKey::Catalogue).await?;
        let hash = found.as_ref().and_then(|item| item.get("Sha256")).and_then(|value| value.as_s().ok());
        Ok((found.is_some(), hash == Some(&wanted.sha256)))
    }

    /// Writes the catalogue.
    pub(crate) async fn put_catalogue(&self, wanted: &Catalogue) -> Result<(), Problem> {
        let wanted = CatalogueItem::of(wanted).map_err(|error| Problem::aws("write the catalogue", &error))?;
        let item = item::encode("catalogue", &wanted).map_err(|error| Problem::aws("write the catalogue", &error))?;
        self.put(&StateKey::Catalogue, item, false).await
    }

    /// Which waves have passed.
    pub(crate) async fn deployment(&self) -> Result<Deployment, Problem> {
        let found = self.item(&StateKey::Deployment).await?;
        // What cannot be read is as good as lost: the waves are looked at once more.
        Ok(found.and_then(|item| item::decode("deployment", &item).ok()).unwrap_or_default())
    }

    pub(crate) async fn put_deployment(&self, deployment: &Deployment) -> Result<(), Problem> {
        let item =
            item::encode("deployment", deployment).map_err(|error| Problem::aws("write down the wave", &error))?;
        self.put(&StateKey::Deployment, item, false).await
    }

    fn action_arn(&self, id: &str) -> String {
        let (home, account) = (&self.settings.home_region, &self.settings.administrator);
        format!("arn:{}:securityhub:{home}:{account}:action/custom/{id}", Partition::of_region(home))
    }

    /// The custom actions that Security Hub does not have.
    pub(crate) async fn missing_actions(&self) -> Result<Vec<(&'static str, &'static str, &'static str)>, Problem> {
        let mut there = Vec::new();
        let mut pages = self.securityhub.describe_action_targets().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                Problem::aws("read Security Hub's custom actions", &AwsFailure::of("securityhub:DescribeActionTargets", &error))
                    .help("turn Security Hub on in the administrator account and home Region: `aws securityhub enable-security-hub`")
            })?;
            there.extend(page.action_targets().iter().filter_map(|one| one.action_target_arn()).map(str::to_owned));
        }
        Ok(names::ACTIONS.into_iter().filter(|(id, _, _)| !there.contains(&self.action_arn(id))).collect())
    }

    /// Makes the custom actions that are not there.
    pub(crate) async fn actions(&self) -> Result<bool, Problem> {
        let missing = self.missing_actions().await?;
        for (id, name, description) in &missing {
            let create =
                self.securityhub.create_action_target().id(*id).name(*name).description(*description).send().await;
            create.map_err(|error| {
                let failure = AwsFailure::of("securityhub:CreateActionTarget", &error);
                Problem::aws(&format!("make Security Hub's custom action {id}"), &failure)
            })?;
        }
        Ok(!missing.is_empty())
    }

    /// Deletes the custom actions.
    pub(crate) async fn delete_actions(&self) -> Result<bool, Problem> {
        let missing: Vec<&str> = self.missing_actions().await?.into_iter().map(|(id, _, _)| id).collect();
        let there: Vec<&str> = names::ACTIONS.iter().map(|(id, _, _)| *id).filter(|id| !missing.contains(id)).collect();
        for id in &there {
            let delete = self.securityhub.delete_action_target().action_target_arn(self.action_arn(id)).send().await;
            delete.map_err(|error| {
                let failure = AwsFailure::of("securityhub:DeleteActionTarget", &error);
                Problem::aws(&format!("delete Security Hub's custom action {id}"), &failure)
            })?;
        }
        Ok(!there.is_empty())
    }

    /// What there is of Security Hub's automation rules.
    pub(crate) async fn found_rules(&self) -> Result<There, Problem> {
        let found = automation_rules::there(&self.wire).await;
        found.map_err(|failure| Problem::aws("read Security Hub's automation rules", &failure))
    }

    /// Brings the automation rules to what the stack made, which is there. Whether something had to be done. What AWS refuses is
    /// said, and is no failure.
    pub(crate) async fn mend_rules(&self, progress: &dyn Fn(&str)) -> Result<bool, Problem> {
        let There::Rules(found) = self.found_rules().await? else { return Ok(false) };
        let need = automation_rules::need(&found.ours);
        for rule in &need.missing {
            let name = rule["RuleName"].as_str().unwrap_or_default();
            progress(&format!(
                "Security Hub does not show automation rule {name}, which the stack made: `redress deploy doctor` looks again"
            ));
        }
        match automation_rules::mend(&self.wire, &need).await {
            Ok(changed) => Ok(changed),
            Err(why) if automation_rules::is_none(&why) => {
                progress(&format!(
                    "Security Hub's automation rules are left as they are, which only mark findings: {why}"
                ));
                Ok(false)
            }
            Err(failure) => Err(Problem::aws("write Security Hub's automation rules", &failure)),
        }
    }

    /// Deletes the automation rules that no stack took along.
    pub(crate) async fn delete_rules(&self, progress: &dyn Fn(&str)) -> Result<bool, Problem> {
        match self.found_rules().await? {
            There::Rules(found) if found.ours.is_empty() => Ok(false),
            There::Rules(found) => {
                let deleted = automation_rules::delete(&self.wire, &found.ours).await;
                deleted.map_err(|failure| Problem::aws("delete Security Hub's automation rules", &failure))?;
                Ok(true)
            }
            There::Nothing(why) => {
                progress(&format!("Security Hub's automation rules: none that could be deleted: {why}"));
                Ok(false)
            }
        }
    }

    /// Whether the address of the settings is told already, confirmed or not.
    pub(crate) async fn is_told(&self) -> Result<bool, Problem> {
        let Some(address) = &self.settings.notify_email else { return Ok(true) };
        let mut pages = self.sns.list_subscriptions_by_topic().topic_arn(self.topic()).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    let failure = AwsFailure::of("sns:ListSubscriptionsByTopic", &error);
                    return match failure.code() {
                        Some("NotFound" | "NotFoundException") => Ok(false),
                        _ => Err(Problem::aws("read who is told", &failure)),
                    };
                }
            };
            if page.subscriptions().iter().any(|one| one.endpoint() == Some(address)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Subscribes the address of the settings.
    pub(crate) async fn tell(&self) -> Result<bool, Problem> {
        let Some(address) = &self.settings.notify_email else { return Ok(false) };
        if self.is_told().await? {
            return Ok(false);
        }
        let subscribe = self.sns.subscribe().topic_arn(self.topic()).protocol("email").endpoint(address).send().await;
        subscribe
            .map_err(|error| Problem::aws(&format!("subscribe {address}"), &AwsFailure::of("sns:Subscribe", &error)))?;
        Ok(true)
    }

    fn topic(&self) -> String {
        let (home, account) = (&self.settings.home_region, &self.settings.administrator);
        format!("arn:{}:sns:{home}:{account}:{}", Partition::of_region(home), names::NOTIFICATIONS_TOPIC)
    }
}
