//! The connection to the administrator account: AWS's default credential chain, and what the flags override.

use aws_config::BehaviorVersion;
use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
use aws_types::SdkConfig;
use redress_common::arn::Partition;
use redress_common::aws::config::http_client;
use redress_common::aws::failure::AwsFailure;
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
    /// Where the api is, when that is given.
    pub(crate) api_url: Option<String>,
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
        Ok(Self { config, region, api_url: global.api_url.clone() })
    }

    /// The partition of the Region.
    pub(crate) fn partition(&self) -> Partition {
        Partition::of_region(&self.region)
    }

    /// Who asks, by ARN.
    pub(crate) async fn caller(&self) -> Result<String, Problem> {
        let answer = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await;
        let answer = answer
            .map_err(|error| Problem::aws("find out who asks", &AwsFailure::of("sts:GetCallerIdentity", &error)))?;
        Ok(answer.arn().unwrap_or_default().to_owned())
    }

    /// The same connection as a role in a member account, in that Region.
    pub(crate) async fn in_member(
        &self,
        account: &AccountId,
        region: &Region,
        role: &str,
        external_id: Option<&str>,
    ) -> Result<SdkConfig, Problem> {
        let arn = names::role_arn(self.partition(), account, role);
        let session = format!("{}cli", names::SESSION_PREFIX);
        let credentials = assume(&self.config, &arn, &session, external_id).await?;
        let builder = self.config.to_builder().region(aws_types::region::Region::new(region.to_string()));
        Ok(builder.credentials_provider(SharedCredentialsProvider::new(credentials)).build())
    }
}

/// A session of a role.
pub(crate) async fn assume(
    config: &SdkConfig,
    role_arn: &str,
    session: &str,
    external_id: Option<&str>,
) -> Result<Credentials, Problem> {
    let answer = aws_sdk_sts::Client::new(config)
        .assume_role()
        .role_arn(role_arn)
        .role_session_name(session)
        .set_external_id(external_id.map(str::to_owned))
        .send()
        .await
        .map_err(|error| {
            let problem = Problem::aws(&format!("assume {role_arn}"), &AwsFailure::of("sts:AssumeRole", &error));
            match external_id {
                Some(_) => problem.help("does the role trust you, and is the ExternalId right?"),
                None => problem.help(
                    "does the role trust you? It may ask for an ExternalId: --external-id or REDRESS_EXTERNAL_ID",
                ),
            }
        })?;
    let given = answer
        .credentials()
        .ok_or_else(|| Problem::failed(format!("cannot assume {role_arn}: no credentials came back")))?;
    let token = Some(given.session_token().to_owned());
    Ok(Credentials::new(given.access_key_id(), given.secret_access_key(), token, None, "assumed role"))
}
