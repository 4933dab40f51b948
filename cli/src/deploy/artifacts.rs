//! The buckets with packages and templates: one a Region, since Lambda takes a package from its own Region only.
//!
//! What is there is never written again: each release has a folder of its own.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, PublicAccessBlockConfiguration,
    VersioningConfiguration,
};
use redress_common::arn::Partition;
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::Region;
use redress_common::names;
use serde_json::json;

use super::blueprint::{Origin, Upload};
use super::release::Release;
use super::settings::Settings;
use crate::problem::Problem;

/// The bucket of a Region.
pub(crate) struct Bucket {
    client: Client,
    pub(crate) name: String,
    region: Region,
}

fn failed(doing: &str, bucket: &str, failure: AwsFailure) -> Problem {
    Problem::aws(&format!("{doing} bucket {bucket}"), &failure)
}

impl Bucket {
    pub(crate) fn new(config: &aws_types::SdkConfig, settings: &Settings, region: &Region) -> Self {
        let name = names::artifact_bucket(&settings.administrator, region);
        Self { client: s3_client(config, region), name, region: region.clone() }
    }

    /// What is in it; `None` when there is no such bucket.
    pub(crate) async fn keys(&self) -> Result<Option<BTreeSet<String>>, Problem> {
        let mut keys = BTreeSet::new();
        let mut pages = self.client.list_objects_v2().bucket(&self.name).into_paginator().send();
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => keys.extend(page.contents().iter().filter_map(|object| object.key()).map(str::to_owned)),
                Err(error) => {
                    let failure = AwsFailure::of("s3:ListObjectsV2", &error);
                    if failure.code() == Some("NoSuchBucket") {
                        return Ok(None);
                    }
                    return Err(failed("read", &self.name, failure));
                }
            }
        }
        Ok(Some(keys))
    }

    /// Makes it: nothing in it is public, and the organisation's accounts read it.
    pub(crate) async fn create(&self, settings: &Settings) -> Result<(), Problem> {
        let mut creation = self.client.create_bucket().bucket(&self.name);
        if self.region.as_str() != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            creation = creation
                .create_bucket_configuration(CreateBucketConfiguration::builder().location_constraint(place).build());
        }
        creation
            .send()
            .await
            .map_err(|error| failed("create", &self.name, AwsFailure::of("s3:CreateBucket", &error)))?;
        self.set_up(settings).await
    }

    async fn set_up(&self, settings: &Settings) -> Result<(), Problem> {
        let closed = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true)
            .build();
        let closing =
            self.client.put_public_access_block().bucket(&self.name).public_access_block_configuration(closed);
        closing
            .send()
            .await
            .map_err(|error| failed("close", &self.name, AwsFailure::of("s3:PutPublicAccessBlock", &error)))?;
        let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let keeping = self.client.put_bucket_versioning().bucket(&self.name).versioning_configuration(versions);
        keeping
            .send()
            .await
            .map_err(|error| failed("version", &self.name, AwsFailure::of("s3:PutBucketVersioning", &error)))?;
        let policy = policy(Partition::of_region(&self.region), &self.name, &settings.organization);
        let letting = self.client.put_bucket_policy().bucket(&self.name).policy(policy);
        letting.send().await.map_err(|error| {
            failed("let the organisation read", &self.name, AwsFailure::of("s3:PutBucketPolicy", &error))
        })?;
        Ok(())
    }

    /// Puts something there.
    pub(crate) async fn put(&self, upload: &Upload, release: &Release) -> Result<(), Problem> {
        let bytes = match &upload.from {
            Origin::File(path) => release.bytes(path)?,
            Origin::Text(text) => text.clone().into_bytes(),
        };
        let putting = self.client.put_object().bucket(&self.name).key(&upload.key).body(bytes.into());
        putting.send().await.map_err(|error| {
            failed(&format!("put {} into", upload.key), &self.name, AwsFailure::of("s3:PutObject", &error))
        })?;
        Ok(())
    }
}

/// Who may read a bucket of artifacts: the organisation, over TLS.
fn policy(partition: Partition, bucket: &str, organization: &str) -> String {
    let (objects, all) = (format!("arn:{partition}:s3:::{bucket}/*"), format!("arn:{partition}:s3:::{bucket}"));
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OrganisationReads", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
                "Resource": objects, "Condition": { "StringEquals": { "aws:PrincipalOrgID": organization } },
            },
            {
                "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [all, objects],
                "Condition": { "Bool": { "aws:SecureTransport": "false" } },
            },
        ],
    })
    .to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn nobody_outside_of_the_organisation_is_allowed_anything() {
        let policy: Value = serde_json::from_str(&policy(Partition::China, "b", "o-abcdefghij")).unwrap();
        let allowed: Vec<&Value> =
            policy["Statement"].as_array().unwrap().iter().filter(|one| one["Effect"] == "Allow").collect();
        assert_eq!(allowed.len(), 1);
        assert_eq!(allowed[0]["Condition"]["StringEquals"]["aws:PrincipalOrgID"], "o-abcdefghij");
        assert_eq!(
            (&allowed[0]["Action"], &allowed[0]["Resource"]),
            (&json!("s3:GetObject"), &json!("arn:aws-cn:s3:::b/*"))
        );
    }
}
