//! `required_tags`: a resource carries the required tag keys.
//!
//! Only missing keys are added; the value of a tag that is there is never changed. The image holds the required
//! keys only, so that somebody's other tags are neither stored nor taken for drift.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_sdk_resourcegroupstagging::types::FailureInfo;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Job};
use serde::{Deserialize, Serialize};

use super::{Declared, Native, NativeError, Parameters, parameter, planned, typed, untyped};

/// What this function is called, and calls. `TagResources` and `UntagResources` also need the tagging action of
/// the service whose resource it is.
pub const DECLARED: Declared = Declared {
    name: "required_tags",
    reads: &["tag:GetResources"],
    changes: &["tag:TagResources", "tag:UntagResources"],
    make: |clients, request| {
        Ok(Box::new(RequiredTags::new(clients.tagging.clone(), &request.job, &request.parameters)?))
    },
};

/// The function on one resource.
#[derive(Debug)]
pub struct RequiredTags {
    client: aws_sdk_resourcegroupstagging::Client,
    arn: String,
    required: Required,
}

impl RequiredTags {
    /// Parameters `Keys`, the required tag keys, and `Value`, which a missing one gets.
    ///
    /// # Errors
    /// When they are missing or not what AWS takes as tags.
    pub fn new(
        client: aws_sdk_resourcegroupstagging::Client,
        job: &Job,
        parameters: &Parameters,
    ) -> Result<Self, NativeError> {
        Ok(Self { client, arn: job.resource_arn.to_string(), required: Required::parse(parameters)? })
    }

    fn tag(&self, tags: Tags) -> Result<Option<Call>, NativeError> {
        if tags.is_empty() {
            return Ok(None);
        }
        let parameters = TagResources { resource_arn_list: vec![self.arn.clone()], tags };
        planned(&DECLARED, "resourcegroupstaggingapi", "TagResources", &parameters).map(Some)
    }

    fn untag(&self, tag_keys: Vec<String>) -> Result<Option<Call>, NativeError> {
        if tag_keys.is_empty() {
            return Ok(None);
        }
        let parameters = UntagResources { resource_arn_list: vec![self.arn.clone()], tag_keys };
        planned(&DECLARED, "resourcegroupstaggingapi", "UntagResources", &parameters).map(Some)
    }
}

#[async_trait]
impl Native for RequiredTags {
    /// The tagging API does not list a resource that never had a tag, so "no such resource" cannot be told from
    /// "no tags"; tagging what is not there fails.
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self
            .client
            .get_resources()
            .resource_arn_list(&self.arn)
            .send()
            .await
            .map_err(|error| AwsFailure::of("GetResources", &error))?;
        let tags = answer
            .resource_tag_mapping_list()
            .iter()
            .filter(|mapping| mapping.resource_arn() == Some(&self.arn))
            .flat_map(|mapping| mapping.tags())
            .map(|tag| (tag.key(), tag.value()));
        let state = State { tags: self.required.select(tags) };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let missing = self.required.missing(&tags(now)?);
        Ok(Change(self.tag(missing)?.into_iter().collect()))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let (now, before) = (tags(now)?, tags(before)?);
        let added = now.keys().filter(|key| !before.contains_key(*key)).cloned().collect();
        let lost = before.into_iter().filter(|(key, value)| now.get(key) != Some(value)).collect();
        Ok(Change(self.untag(added)?.into_iter().chain(self.tag(lost)?).collect()))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        match call.operation.as_str() {
            "TagResources" => {
                let given: TagResources = typed(&call.parameters, "a call", DECLARED.name)?;
                let answer = self
                    .client
                    .tag_resources()
                    .set_resource_arn_list(Some(given.resource_arn_list))
                    .set_tags(Some(given.tags.into_iter().collect()))
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("TagResources", &error))?;
                whole("TagResources", answer.failed_resources_map())
            }
            "UntagResources" => {
                let given: UntagResources = typed(&call.parameters, "a call", DECLARED.name)?;
                let answer = self
                    .client
                    .untag_resources()
                    .set_resource_arn_list(Some(given.resource_arn_list))
                    .set_tag_keys(Some(given.tag_keys))
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("UntagResources", &error))?;
                whole("UntagResources", answer.failed_resources_map())
            }
            _ => Err(NativeError::Form { what: "a call", native: DECLARED.name }),
        }
    }
}

/// The tagging API answers with success also when it could not tag a resource; the reason is in a map.
fn whole(operation: &'static str, failed: Option<&HashMap<String, FailureInfo>>) -> Result<(), NativeError> {
    match failed.and_then(|failed| failed.values().next()) {
        None => Ok(()),
        Some(failure) => {
            let code = failure.error_code().map_or("unknown error", |code| code.as_str());
            let message = failure.error_message().unwrap_or("AWS gave no message");
            Err(AwsFailure::partial(operation, format!("{code}: {message}")).into())
        }
    }
}

fn tags(image: &Image) -> Result<Tags, NativeError> {
    typed::<State>(&image.state, "the state", DECLARED.name).map(|state| state.tags)
}

type Tags = BTreeMap<String, String>;

/// The image's state: those of the required tags that are there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    tags: Tags,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TagResources {
    #[serde(rename = "ResourceARNList")]
    resource_arn_list: Vec<String>,
    #[serde(rename = "Tags")]
    tags: Tags,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UntagResources {
    #[serde(rename = "ResourceARNList")]
    resource_arn_list: Vec<String>,
    #[serde(rename = "TagKeys")]
    tag_keys: Vec<String>,
}

/// What the control asks for: keys, and the value that each gets when it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Required(Tags);

impl Required {
    fn parse(parameters: &Parameters) -> Result<Self, NativeError> {
        const KEYS: &str = "a list of 1 to 50 tag keys of 1 to 128 characters that do not start with `aws:`";
        const VALUE: &str = "a tag value of at most 256 characters";
        let wrong = |name: &str, expected| NativeError::Parameter { name: name.to_owned(), expected };
        let value = parameter(parameters, "Value", VALUE)?
            .as_str()
            .filter(|value| value.chars().count() <= 256)
            .ok_or_else(|| wrong("Value", VALUE))?;
        let is_key =
            |key: &str| (1..=128).contains(&key.chars().count()) && !key.to_ascii_lowercase().starts_with("aws:");
        let keys = parameter(parameters, "Keys", KEYS)?.as_array().filter(|keys| (1..=50).contains(&keys.len()));
        keys.ok_or_else(|| wrong("Keys", KEYS))?
            .iter()
            .map(|key| match key.as_str() {
                Some(key) if is_key(key) => Ok((key.to_owned(), value.to_owned())),
                _ => Err(wrong("Keys", KEYS)),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn select<'a>(&self, tags: impl Iterator<Item = (&'a str, &'a str)>) -> Tags {
        tags.filter(|(key, _)| self.0.contains_key(*key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn missing(&self, present: &Tags) -> Tags {
        let missing = self.0.iter().filter(|(key, _)| !present.contains_key(*key));
        missing.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
#[path = "required_tags_tests.rs"]
mod tests;
