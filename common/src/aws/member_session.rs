//! Sessions in member accounts: the cross-account role, assumed with its ExternalId.
//!
//! The only way into a member account. A session is used only when AWS itself says that it is in the account
//! that was asked for; it is kept until five minutes before it ends.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_types::SdkConfig;

use super::failure::AwsFailure;
use crate::arn::{Arn, Partition};
use crate::external_id::ExternalIdPrefix;
use crate::ids::AccountId;
use crate::names;

/// A session is not used for its last five minutes.
const MARGIN: Duration = Duration::from_secs(300);

/// A member account could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// STS refuses.
    #[error(
        "role `{role}` cannot be assumed: {source}; check that the member stack is deployed in the account, that the role's trust policy names this function's role, and that the ExternalId is the same on both sides"
    )]
    Denied {
        /// The role.
        role: String,
        /// What STS says.
        source: AwsFailure,
    },
    /// STS does not answer, or answers otherwise.
    #[error("role `{role}` could not be assumed: {source}")]
    Failed {
        /// The role.
        role: String,
        /// What STS says.
        source: AwsFailure,
    },
    /// The session is in another account than asked for. Never used.
    #[error("a session in account {wanted} was asked for, and `{got}` was given; it was thrown away")]
    WrongAccount {
        /// The account asked for.
        wanted: AccountId,
        /// The session's ARN.
        got: String,
    },
    /// STS answered without credentials.
    #[error("role `{role}` was assumed, but STS returned no credentials")]
    NoCredentials {
        /// The role.
        role: String,
    },
}

impl SessionError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Failed { source, .. } => source.is_transient(),
            Self::Denied { .. } | Self::WrongAccount { .. } | Self::NoCredentials { .. } => false,
        }
    }
}

/// Sessions in member accounts, one an account.
#[derive(Debug)]
pub struct MemberSessions {
    sts: aws_sdk_sts::Client,
    external_ids: ExternalIdPrefix,
    session_name: String,
    open: Mutex<HashMap<AccountId, Session>>,
}

#[derive(Debug, Clone)]
struct Session {
    credentials: Credentials,
    until: SystemTime,
}

impl MemberSessions {
    /// Sessions that are opened with the base configuration's credentials, under one name: they are shared by
    /// remediations, so the name is the function's (`redress-orchestrator`).
    #[must_use]
    pub fn new(base: &SdkConfig, external_ids: ExternalIdPrefix, session_name: impl Into<String>) -> Self {
        let sts = aws_sdk_sts::Client::new(base);
        Self { sts, external_ids, session_name: session_name.into(), open: Mutex::default() }
    }

    /// The credentials of a session in an account.
    ///
    /// # Errors
    /// When the role cannot be assumed, or is not in that account.
    pub async fn credentials(&self, partition: Partition, account: &AccountId) -> Result<Credentials, SessionError> {
        match self.cached(account, SystemTime::now()) {
            Some(credentials) => Ok(credentials),
            None => self.assume(partition, account).await,
        }
    }

    fn cached(&self, account: &AccountId, now: SystemTime) -> Option<Credentials> {
        let open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        open.get(account).filter(|session| now + MARGIN < session.until).map(|session| session.credentials.clone())
    }

    async fn assume(&self, partition: Partition, account: &AccountId) -> Result<Credentials, SessionError> {
        let role = names::role_arn(partition, account, names::CROSS_ACCOUNT_ROLE);
        let answer = self
            .sts
            .assume_role()
            .role_arn(&role)
            .role_session_name(&self.session_name)
            .external_id(self.external_ids.of(account).reveal())
            .send()
            .await
            .map_err(|error| {
                let source = AwsFailure::of("sts:AssumeRole", &error);
                match source.code() {
                    Some("AccessDenied" | "AccessDeniedException") => {
                        SessionError::Denied { role: role.clone(), source }
                    }
                    _ => SessionError::Failed { role: role.clone(), source },
                }
            })?;
        let got = answer.assumed_role_user().map(|user| user.arn()).unwrap_or_default();
        check_account(account, got)?;
        let Some(given) = answer.credentials() else { return Err(SessionError::NoCredentials { role }) };
        let until = SystemTime::try_from(*given.expiration()).unwrap_or(SystemTime::UNIX_EPOCH);
        let credentials = Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            Some(until),
            "member-session",
        );
        let session = Session { credentials: credentials.clone(), until };
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(account.clone(), session);
        Ok(credentials)
    }
}

/// Account binding: the session is in the account that was asked for, or it is not used.
fn check_account(wanted: &AccountId, got: &str) -> Result<(), SessionError> {
    let account = got.parse::<Arn>().ok().and_then(|arn| arn.account().cloned());
    if account.as_ref() == Some(wanted) {
        Ok(())
    } else {
        Err(SessionError::WrongAccount { wanted: wanted.clone(), got: got.chars().take(200).collect() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};

    use super::super::config;
    use super::*;
    use crate::ids::Region;

    /// Notes where requests go and what their signature says, and refuses them.
    #[derive(Debug, Clone, Default)]
    struct Refusing(Arc<Mutex<Vec<(String, String)>>>);

    impl HttpConnector for Refusing {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let signed = request.headers().get("authorization").unwrap_or_default().to_owned();
            self.0.lock().unwrap().push((request.uri().to_owned(), signed));
            let body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
            HttpConnectorFuture::ready(Ok(HttpResponse::new(403_u16.try_into().unwrap(), body.into())))
        }
    }

    /// What the global endpoint gives is not valid in Regions that have to be turned on; what a Region's own gives is, everywhere.
    #[tokio::test]
    async fn sessions_are_asked_for_at_the_functions_own_region_and_never_at_the_global_endpoint() {
        let account: AccountId = "111122223333".parse().unwrap();
        for (region, suffix) in [
            ("us-east-1", "amazonaws.com"),
            ("eu-central-1", "amazonaws.com"),
            ("ap-east-1", "amazonaws.com"),
            ("eu-south-2", "amazonaws.com"),
            ("me-central-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("cn-northwest-1", "amazonaws.com.cn"),
        ] {
            let refusing = Refusing::default();
            let asked = refusing.0.clone();
            let client = http_client_fn(move |_, _| SharedHttpConnector::new(refusing.clone()));
            let credentials = Credentials::new("a", "b", None, None, "test");
            let base = config::builder(region.to_owned(), credentials).http_client(client).build();
            let sessions = MemberSessions::new(&base, "0123456789abcdef".parse().unwrap(), "redress-orchestrator");
            let partition = Partition::of_region(&region.parse::<Region>().unwrap());
            let refused = sessions.credentials(partition, &account).await.unwrap_err();
            assert!(matches!(refused, SessionError::Denied { .. }), "{region}: {refused}");
            let asked = asked.lock().unwrap();
            let [(uri, signed)] = asked.as_slice() else { panic!("{region}: {asked:?}") };
            assert_eq!(uri.trim_end_matches('/'), format!("https://sts.{region}.{suffix}"));
            assert!(signed.contains(&format!("/{region}/sts/aws4_request")), "{region}: {signed}");
        }
    }

    #[test]
    fn a_session_in_another_account_is_never_used() {
        let wanted: AccountId = "111122223333".parse().unwrap();
        assert!(check_account(&wanted, "arn:aws:sts::111122223333:assumed-role/R/redress-orchestrator").is_ok());
        for got in ["arn:aws:sts::444455556666:assumed-role/R/redress-orchestrator", "", "nonsense"] {
            assert!(matches!(check_account(&wanted, got), Err(SessionError::WrongAccount { .. })), "{got}");
        }
    }

    #[test]
    fn a_session_is_not_used_for_its_last_five_minutes() {
        let base = SdkConfig::builder()
            .behavior_version(aws_smithy_runtime_api::client::behavior_version::BehaviorVersion::latest())
            .build();
        let sessions = MemberSessions::new(&base, "0123456789abcdef".parse().unwrap(), "redress-orchestrator");
        let account: AccountId = "111122223333".parse().unwrap();
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let credentials = Credentials::new("a", "b", None, None, "test");
        sessions.open.lock().unwrap().insert(account.clone(), Session { credentials, until });
        assert!(sessions.cached(&account, until - MARGIN - Duration::from_secs(1)).is_some());
        assert!(sessions.cached(&account, until - MARGIN).is_none());
        assert!(sessions.cached(&"444455556666".parse().unwrap(), SystemTime::UNIX_EPOCH).is_none());
    }

    #[test]
    fn a_refusal_says_what_to_check() {
        let error = SessionError::Denied {
            role: "r".to_owned(),
            source: AwsFailure::partial("sts:AssumeRole", "not authorized"),
        };
        let text = error.to_string();
        assert!(text.contains("trust policy") && text.contains("ExternalId"), "{text}");
        assert!(!error.is_transient());
    }
}
