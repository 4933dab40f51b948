//! The connection to the administrator account: AWS's default credential chain, and what the flags override.

use aws_config::BehaviorVersion;
use aws_types::SdkConfig;
use redress_common::arn::{Arn, Partition};
use redress_common::aws::config::http_client;
use redress_common::ids::{AccountId, Region};
use redress_common::names;

use crate::args::Global;
use crate::problem::Problem;

/// Who is connected, and where to.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// For clients of the administrator account.
    pub(crate) config: SdkConfig,
    /// Where Redress is deployed.
    pub(crate) region: Region,
}

impl Connection {
    /// Opens nothing yet: finds out Region and credentials' source.
    pub(crate) async fn new(global: &Global) -> Result<Self, Problem> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client());
        if let Some(endpoint) = &global.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(region) = &global.region {
            loader = loader.region(aws_types::region::Region::new(region.to_string()));
        }
        if let Some(profile) = &global.profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        let region = config
            .region()
            .ok_or_else(|| {
                Problem::failed("no Region is chosen")
                    .help("give --region, set AWS_REGION, or put `region` into the profile; for the lab: eval \"$(redress lab env)\"")
            })?
            .as_ref()
            .parse()
            .map_err(|error| Problem::aws("use the Region of the AWS configuration", &error))?;
        Ok(Self { config, region })
    }

    /// The partition of the Region.
    pub(crate) fn partition(&self) -> Partition {
        Partition::of_region(&self.region)
    }

    /// The caller's ARN, as STS vouches for it.
    pub(crate) async fn identity(&self) -> Result<Arn, Problem> {
        let doing = "ask AWS STS who is calling";
        let answer = aws_sdk_sts::Client::new(&self.config)
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| Problem::aws(doing, &error))?;
        answer.arn().unwrap_or_default().parse().map_err(|error| Problem::aws(doing, &error))
    }

    /// The same connection as a role in a member account, in that Region. The role is assumed at the first call.
    pub(crate) async fn in_member(
        &self,
        account: &AccountId,
        region: &Region,
        role: &str,
        external_id: Option<&str>,
    ) -> SdkConfig {
        let mut provider =
            aws_config::sts::AssumeRoleProvider::builder(names::role_arn(self.partition(), account, role))
                .session_name(format!("{}cli", names::SESSION_PREFIX))
                .configure(&self.config);
        if let Some(id) = external_id {
            provider = provider.external_id(id);
        }
        let provider = provider.build().await;
        self.config
            .to_builder()
            .region(aws_types::region::Region::new(region.to_string()))
            .credentials_provider(aws_sdk_sts::config::SharedCredentialsProvider::new(provider))
            .build()
    }
}
