//! What is sent over HTTP, what comes back, and what an answer means. Nothing here opens a connection.

use std::fmt;

use redress_common::items::destination::{Destination, Hosts, Kind, UrlError, check_url};
use serde_json::Value;
use zeroize::Zeroizing;

use super::text;

/// A text that nobody may see: a URL with a token in it, a key, a header.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// This text, from now on hidden.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for who sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What opens a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A URL that is itself the key.
    Url(Secret),
    /// A token or key.
    Token(Secret),
    /// A name and a password.
    Login(Secret, Secret),
}

/// A secret of AWS Secrets Manager that does not hold what its destination needs. Says nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A field is missing.
    #[error("the secret holds no {0}; docs/notifications.md says what it should hold")]
    Lacks(&'static str),
    /// Its URL is none of the product's.
    #[error("the URL in the secret {0}")]
    Url(#[from] UrlError),
}

impl Access {
    /// What a secret gives a destination: a JSON object with the named fields, or the bare text where there is but one.
    ///
    /// # Errors
    /// When it does not hold what the destination needs.
    pub fn of(to: &Destination, secret: &Secret, hosts: Hosts) -> Result<Self, AccessError> {
        let text = secret.expose().trim();
        let fields = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
        let field = |name: &'static str| {
            let found = fields.as_ref().and_then(|fields| fields[name].as_str()).filter(|text| !text.is_empty());
            found.map(Secret::new).ok_or(AccessError::Lacks(name))
        };
        let only = |name: &'static str| match &fields {
            None if !text.is_empty() => Ok(Secret::new(text)),
            _ => field(name),
        };
        let sendable = |secret: Secret| {
            let good = secret.expose().bytes().all(|b| b.is_ascii_graphic());
            if good { Ok(secret) } else { Err(AccessError::Lacks("token of printable characters")) }
        };
        match to.kind {
            Kind::Slack if to.channel.is_some() => Ok(Self::Token(sendable(only("Token")?)?)),
            Kind::Slack | Kind::Teams => {
                let url = only("Url")?;
                check_url(to.kind, url.expose(), hosts)?;
                Ok(Self::Url(url))
            }
            Kind::PagerDuty => Ok(Self::Token(sendable(only("RoutingKey")?)?)),
            Kind::ServiceNow if fields.as_ref().is_some_and(|fields| fields["Token"].is_string()) => {
                Ok(Self::Token(sendable(field("Token")?)?))
            }
            Kind::ServiceNow => Ok(Self::Login(field("User")?, field("Password")?)),
            Kind::Jira => Ok(Self::Login(field("Email")?, field("ApiToken")?)),
        }
    }

    /// The header that says who asks.
    pub(super) fn authorization(&self) -> Option<Secret> {
        match self {
            Self::Url(_) => None,
            Self::Token(token) => Some(Secret::new(format!("Bearer {}", token.expose()))),
            Self::Login(user, password) => Some(Secret::new(text::basic(user.expose(), password.expose()))),
        }
    }

    /// A text without what is secret in it: a server may say again what it was sent.
    #[must_use]
    pub fn redacted(&self, text: &str) -> String {
        let secrets = match self {
            Self::Url(url) => {
                // The path and the query are the key, and each long part of them.
                let path =
                    url.expose().split_once("://").and_then(|(_, rest)| rest.find(['/', '?']).map(|at| &rest[at..]));
                let parts = path.unwrap_or_default().split(['/', '?', '&', '=']).filter(|part| part.len() >= 8);
                path.into_iter().chain(parts).collect::<Vec<_>>()
            }
            Self::Token(token) => vec![token.expose()],
            Self::Login(user, password) => vec![password.expose(), user.expose()],
        };
        let encoded = self.authorization();
        let encoded = encoded.as_ref().and_then(|header| header.expose().split_once(' ')).map(|(_, value)| value);
        let secrets = secrets.into_iter().chain(encoded).filter(|secret| secret.len() > 1);
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST` or `PATCH`.
    pub method: &'static str,
    /// Where to.
    pub url: Secret,
    /// Who asks.
    pub authorization: Option<Secret>,
    /// What is sent, as JSON. It may hold a key.
    pub body: Option<Value>,
}

/// Without the URL's path, the header and the body.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.host())
    }
}

impl HttpRequest {
    /// A request that sends something.
    pub(super) fn new(method: &'static str, url: Secret, body: Value) -> Self {
        Self { method, url, authorization: None, body: Some(body) }
    }

    pub(super) fn by(self, access: &Access) -> Self {
        Self { authorization: access.authorization(), ..self }
    }

    /// The host that it goes to.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.url.expose().split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// How many seconds to wait, when it says so.
    pub retry_after: Option<u32>,
    /// The start of its body.
    pub body: Vec<u8>,
}

/// Why a message did not reach its destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No connection, or no answer in time. Whether it arrived, nobody knows.
    #[error("no answer from {host}")]
    NoAnswer {
        /// Who did not answer.
        host: String,
    },
    /// Too much at a time.
    #[error("{host} asks for patience (HTTP {status})")]
    TooMany {
        /// Who.
        host: String,
        /// 429, or what says the same.
        status: u16,
        /// How many seconds, when it says so.
        after: Option<u32>,
    },
    /// Its own trouble.
    #[error("{host} has trouble of its own (HTTP {status}): {said}")]
    Trouble {
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It will never take it.
    #[error("{host} refused it (HTTP {status}): {said}")]
    Refused {
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It took it, and does not say what came of it.
    #[error("{host} opened something and does not say what")]
    NoReference {
        /// Who.
        host: String,
    },
    /// The secret is not there, not readable, or not what it should be.
    #[error("secret {name}: {problem}")]
    Secret {
        /// The secret's ARN.
        name: String,
        /// What is wrong.
        problem: String,
        /// Whether that may pass.
        passes: bool,
    },
    /// Somebody else is at it, or there was no time or table.
    #[error("{0}")]
    NotNow(String),
}

impl DeliveryError {
    /// A slug that stays the same between releases.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoAnswer { .. } => "no-answer",
            Self::TooMany { .. } => "too-many",
            Self::Trouble { .. } => "trouble",
            Self::Refused { .. } => "refused",
            Self::NoReference { .. } => "no-reference",
            Self::Secret { .. } => "secret",
            Self::NotNow(_) => "not-now",
        }
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub const fn passes(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::TooMany { .. } | Self::Trouble { .. } | Self::NotNow(_) => true,
            Self::Refused { .. } | Self::NoReference { .. } => false,
            Self::Secret { passes, .. } => *passes,
        }
    }

    /// How long the other side asks to be left alone, seconds.
    #[must_use]
    pub const fn asks_for(&self) -> Option<u32> {
        match self {
            Self::TooMany { after, .. } => *after,
            _ => None,
        }
    }
}

/// Slack's own words, in an answer of status 200, for what may pass.
const SLACK_LATER: [&str; 6] =
    ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"];

/// What an answer means.
///
/// # Errors
/// When the message is not there.
pub fn judge(kind: Kind, request: &HttpRequest, access: &Access, answer: &HttpAnswer) -> Result<(), DeliveryError> {
    let (host, status) = (request.host().to_owned(), answer.status);
    let said = || text::line(&access.redacted(&String::from_utf8_lossy(&answer.body)), 200);
    match status {
        200..=299 if kind == Kind::Slack && matches!(access, Access::Token(_)) => {
            let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match (told["ok"].as_bool(), told["error"].as_str()) {
                (Some(true), _) => Ok(()),
                (_, Some(error)) if SLACK_LATER.contains(&error) => {
                    Err(DeliveryError::TooMany { host, status, after: answer.retry_after })
                }
                _ => Err(DeliveryError::Refused { host, status, said: said() }),
            }
        }
        200..=299 => Ok(()),
        429 => Err(DeliveryError::TooMany { host, status, after: answer.retry_after }),
        503 if answer.retry_after.is_some() => Err(DeliveryError::TooMany { host, status, after: answer.retry_after }),
        408 | 425 | 500..=599 => Err(DeliveryError::Trouble { host, status, said: said() }),
        // A redirect is not followed: it would take the secret elsewhere.
        _ => Err(DeliveryError::Refused { host, status, said: said() }),
    }
}
