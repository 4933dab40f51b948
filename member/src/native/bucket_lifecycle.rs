//! The lifecycle of a bucket's objects. S3 takes and gives all of its rules at once, so each one is carried over whole: a
//! rule with anything in it that is not known here is a reason to leave the bucket alone.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::Call;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xmlparser::{Token, Tokenizer};

use super::{NativeError, typed, untyped};

const NATIVE: &str = "bucket_settings";
/// What our rule is called, unless another is.
const OWN: &str = "redress";

/// The rules of a bucket, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Lifecycle {
    rules: Vec<Rule>,
    /// Below which size objects are not moved, unless a rule says it. It goes back to its default where it is not sent.
    transition_default_minimum_object_size: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Rule {
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    status: String,
    /// The older form of a filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<Expiration>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transitions: Vec<Transition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    noncurrent_version_transitions: Vec<NoncurrentTransition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noncurrent_version_expiration: Option<NoncurrentExpiration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abort_incomplete_multipart_upload: Option<Abort>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_size_greater_than: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_size_less_than: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    and: Option<And>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct And {
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_size_greater_than: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_size_less_than: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Tag {
    key: String,
    value: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Expiration {
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_object_delete_marker: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Transition {
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_class: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct NoncurrentTransition {
    #[serde(skip_serializing_if = "Option::is_none")]
    noncurrent_days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newer_noncurrent_versions: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_class: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct NoncurrentExpiration {
    #[serde(skip_serializing_if = "Option::is_none")]
    noncurrent_days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newer_noncurrent_versions: Option<i32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Abort {
    #[serde(skip_serializing_if = "Option::is_none")]
    days_after_initiation: Option<i32>,
}

impl Lifecycle {
    /// Whether a rule is in force.
    pub(super) fn is_in_force(&self) -> bool {
        self.rules.iter().any(|rule| rule.status == "Enabled")
    }

    /// With one more rule, behind the others: it throws away the parts of uploads that nobody completes.
    pub(super) fn with_a_rule(&self, days: i32) -> Self {
        let is_taken = |name: &String| self.rules.iter().any(|rule| rule.id.as_ref() == Some(name));
        let names = (2..).map(|number| format!("{OWN}-{number}"));
        let id = std::iter::once(OWN.to_owned()).chain(names).find(|name| !is_taken(name));
        let mut grown = self.clone();
        grown.rules.push(Rule {
            id,
            status: "Enabled".to_owned(),
            filter: Some(Filter { prefix: Some(String::new()), ..Filter::default() }),
            abort_incomplete_multipart_upload: Some(Abort { days_after_initiation: Some(days) }),
            ..Rule::default()
        });
        grown
    }

    /// The call that makes it the bucket's.
    pub(super) fn put(&self, bucket: &str, account: &str) -> Result<(&'static str, Value), NativeError> {
        let mut input = json!({ "Bucket": bucket, "ExpectedBucketOwner": account });
        if self.rules.is_empty() {
            return Ok(("DeleteBucketLifecycle", input));
        }
        if let Some(size) = &self.transition_default_minimum_object_size {
            input["TransitionDefaultMinimumObjectSize"] = json!(size);
        }
        input["LifecycleConfiguration"] = json!({ "Rules": untyped(&self.rules, "a call", NATIVE)? });
        Ok(("PutBucketLifecycleConfiguration", input))
    }
}

/// Reads them; none where there are none.
pub(super) async fn read(s3: &aws_sdk_s3::Client, bucket: &str, account: &str) -> Result<Lifecycle, NativeError> {
    let text = Text::default();
    let call = s3.get_bucket_lifecycle_configuration().bucket(bucket).expected_bucket_owner(account);
    let answer = call.customize().interceptor(text.clone()).send().await;
    let answer = match answer.map_err(|error| AwsFailure::of("GetBucketLifecycleConfiguration", &error)) {
        Err(failure) if failure.code() == Some("NoSuchLifecycleConfiguration") => return Ok(Lifecycle::default()),
        answer => answer?,
    };
    text.is_known()?;
    let size = answer.transition_default_minimum_object_size();
    Ok(Lifecycle {
        rules: answer.rules().iter().map(Rule::of).collect::<Result<_, _>>()?,
        transition_default_minimum_object_size: size.map(|size| size.as_str().to_owned()),
    })
}

/// Makes a planned call.
pub(super) async fn call(s3: &aws_sdk_s3::Client, call: &Call) -> Result<(), NativeError> {
    let given = |name: &str| call.parameters[name].as_str().unwrap_or_default();
    let (bucket, owner) = (given("Bucket"), given("ExpectedBucketOwner"));
    if call.operation == "DeleteBucketLifecycle" {
        let call = s3.delete_bucket_lifecycle().bucket(bucket).expected_bucket_owner(owner);
        call.send().await.map_err(|error| AwsFailure::of("DeleteBucketLifecycle", &error))?;
        return Ok(());
    }
    let rules: Vec<Rule> = typed(&call.parameters["LifecycleConfiguration"]["Rules"], "a call", NATIVE)?;
    let rules = rules.into_iter().map(Rule::sent).collect::<Result<Vec<_>, _>>()?;
    let configuration = types::BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
    let configuration = configuration.map_err(|_| FORM)?;
    let size = call.parameters["TransitionDefaultMinimumObjectSize"].as_str();
    let put = s3.put_bucket_lifecycle_configuration().bucket(bucket).expected_bucket_owner(owner);
    let put = put.set_transition_default_minimum_object_size(size.map(Into::into));
    let put = put.lifecycle_configuration(configuration).send().await;
    put.map_err(|error| AwsFailure::of("PutBucketLifecycleConfiguration", &error))?;
    Ok(())
}

const FORM: NativeError = NativeError::Form { what: "a call", native: NATIVE };

fn date_of(date: &DateTime) -> Result<String, NativeError> {
    date.fmt(DateTimeFormat::DateTime).map_err(|_| NativeError::Form { what: "the state", native: NATIVE })
}

fn date(text: Option<&String>) -> Result<Option<DateTime>, NativeError> {
    text.map(|text| DateTime::from_str(text, DateTimeFormat::DateTime)).transpose().map_err(|_| FORM)
}

impl Rule {
    #[allow(deprecated, reason = "rules with the older form of a filter are there, and stay")]
    fn of(rule: &types::LifecycleRule) -> Result<Self, NativeError> {
        let tag = |tag: &types::Tag| Tag { key: tag.key.clone(), value: tag.value.clone() };
        let class = |class: &types::TransitionStorageClass| class.as_str().to_owned();
        let transition = |one: &types::Transition| {
            let date = one.date.as_ref().map(date_of).transpose()?;
            Ok(Transition { date, days: one.days, storage_class: one.storage_class.as_ref().map(class) })
        };
        let expiration = |one: &types::LifecycleExpiration| {
            let date = one.date.as_ref().map(date_of).transpose()?;
            let expired_object_delete_marker = one.expired_object_delete_marker;
            Ok::<_, NativeError>(Expiration { date, days: one.days, expired_object_delete_marker })
        };
        Ok(Self {
            id: rule.id.clone(),
            status: rule.status.as_str().to_owned(),
            prefix: rule.prefix.clone(),
            filter: rule.filter.as_ref().map(|filter| Filter {
                prefix: filter.prefix.clone(),
                tag: filter.tag.as_ref().map(tag),
                object_size_greater_than: filter.object_size_greater_than,
                object_size_less_than: filter.object_size_less_than,
                and: filter.and.as_ref().map(|and| And {
                    prefix: and.prefix.clone(),
                    tags: and.tags().iter().map(tag).collect(),
                    object_size_greater_than: and.object_size_greater_than,
                    object_size_less_than: and.object_size_less_than,
                }),
            }),
            expiration: rule.expiration.as_ref().map(expiration).transpose()?,
            transitions: rule.transitions().iter().map(transition).collect::<Result<_, NativeError>>()?,
            noncurrent_version_transitions: rule
                .noncurrent_version_transitions()
                .iter()
                .map(|one| NoncurrentTransition {
                    noncurrent_days: one.noncurrent_days,
                    newer_noncurrent_versions: one.newer_noncurrent_versions,
                    storage_class: one.storage_class.as_ref().map(class),
                })
                .collect(),
            noncurrent_version_expiration: rule.noncurrent_version_expiration.as_ref().map(|one| {
                NoncurrentExpiration {
                    noncurrent_days: one.noncurrent_days,
                    newer_noncurrent_versions: one.newer_noncurrent_versions,
                }
            }),
            abort_incomplete_multipart_upload: rule
                .abort_incomplete_multipart_upload
                .as_ref()
                .map(|one| Abort { days_after_initiation: one.days_after_initiation }),
        })
    }

    #[allow(deprecated, reason = "rules with the older form of a filter are there, and stay")]
    fn sent(self) -> Result<types::LifecycleRule, NativeError> {
        let tag = |tag: Tag| types::Tag::builder().key(tag.key).value(tag.value).build().map_err(|_| FORM);
        let class = |class: Option<String>| class.map(|class| types::TransitionStorageClass::from(class.as_str()));
        let mut rule = types::LifecycleRule::builder()
            .set_id(self.id)
            .status(types::ExpirationStatus::from(self.status.as_str()))
            .set_prefix(self.prefix);
        if let Some(filter) = self.filter {
            let and = filter.and.map(|and| {
                let tags = and.tags.into_iter().map(tag).collect::<Result<Vec<_>, _>>()?;
                let tags = Some(tags).filter(|tags| !tags.is_empty());
                let built = types::LifecycleRuleAndOperator::builder().set_prefix(and.prefix).set_tags(tags);
                let built = built.set_object_size_greater_than(and.object_size_greater_than);
                Ok::<_, NativeError>(built.set_object_size_less_than(and.object_size_less_than).build())
            });
            let built = types::LifecycleRuleFilter::builder()
                .set_prefix(filter.prefix)
                .set_tag(filter.tag.map(tag).transpose()?)
                .set_object_size_greater_than(filter.object_size_greater_than)
                .set_object_size_less_than(filter.object_size_less_than)
                .set_and(and.transpose()?);
            rule = rule.filter(built.build());
        }
        if let Some(one) = self.expiration {
            let built = types::LifecycleExpiration::builder().set_date(date(one.date.as_ref())?).set_days(one.days);
            rule = rule.expiration(built.set_expired_object_delete_marker(one.expired_object_delete_marker).build());
        }
        for one in self.transitions {
            let built = types::Transition::builder().set_date(date(one.date.as_ref())?).set_days(one.days);
            rule = rule.transitions(built.set_storage_class(class(one.storage_class)).build());
        }
        for one in self.noncurrent_version_transitions {
            let built = types::NoncurrentVersionTransition::builder()
                .set_noncurrent_days(one.noncurrent_days)
                .set_newer_noncurrent_versions(one.newer_noncurrent_versions)
                .set_storage_class(class(one.storage_class));
            rule = rule.noncurrent_version_transitions(built.build());
        }
        if let Some(one) = self.noncurrent_version_expiration {
            let built = types::NoncurrentVersionExpiration::builder()
                .set_noncurrent_days(one.noncurrent_days)
                .set_newer_noncurrent_versions(one.newer_noncurrent_versions);
            rule = rule.noncurrent_version_expiration(built.build());
        }
        if let Some(one) = self.abort_incomplete_multipart_upload {
            let built = types::AbortIncompleteMultipartUpload::builder();
            let built = built.set_days_after_initiation(one.days_after_initiation).build();
            rule = rule.abort_incomplete_multipart_upload(built);
        }
        rule.build().map_err(|_| FORM)
    }
}

/// The elements of an answer that are carried over. The SDK drops what it does not know without a word.
const KNOWN: [&str; 25] = [
    "AbortIncompleteMultipartUpload",
    "And",
    "Date",
    "Days",
    "DaysAfterInitiation",
    "Expiration",
    "ExpiredObjectDeleteMarker",
    "Filter",
    "ID",
    "Key",
    "LifecycleConfiguration",
    "NewerNoncurrentVersions",
    "NoncurrentDays",
    "NoncurrentVersionExpiration",
    "NoncurrentVersionTransition",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
    "Prefix",
    "Rule",
    "Status",
    "StorageClass",
    "Tag",
    "TransitionDefaultMinimumObjectSize",
    "Transition",
    "Value",
];

/// An answer, word for word.
#[derive(Debug, Clone, Default)]
struct Text(Arc<Mutex<String>>);

impl Text {
    fn is_known(&self) -> Result<(), NativeError> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |token: Result<Token<'_>, _>| match token {
            Ok(Token::ElementStart { local, .. }) => KNOWN.contains(&local.as_str()),
            token => token.is_ok(),
        };
        if Tokenizer::from(text.as_str()).all(known) {
            return Ok(());
        }
        Err(NativeError::Refused(
            "the bucket's lifecycle has something in it that Redress does not know and would lose; nothing was changed. \
             Add a rule by hand",
        ))
    }
}

impl Intercept for Text {
    fn name(&self) -> &'static str {
        "the text of an answer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(body).into_owned();
        Ok(())
    }
}

#[cfg(test)]
#[path = "bucket_lifecycle_tests.rs"]
mod tests;
