//! What comes through the function URL, and what goes back: HTTP in Lambda's payload format 2.0.
//!
//! Pure and total: any event gives a request with its caller, or a refusal. Who calls is what AWS authenticated,
//! never what the body says.

use base64::Engine as _;
use redress_common::arn::Arn;
use redress_common::ids::{AccountId, excerpt};
use redress_common::operate::{Refusal, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// No body is longer, in bytes: a policy set and room around it.
pub const MAX_BODY: usize = 300 * 1024;

/// A request, and who makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The caller, as AWS authenticated it.
    pub by: Arn,
    /// The HTTP request's own id: the same for one invocation, another for every other.
    pub id: String,
    /// What is asked for.
    pub request: Request,
}

/// Why a request is not granted: HTTP's status, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// A slug that stays the same between releases.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refused {
    /// What cannot be understood, or is out of bounds.
    pub fn malformed(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into() }
    }

    /// Who may not.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 403, code, message: message.into() }
    }

    /// What there is not.
    pub fn absent(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 404, code, message: message.into() }
    }

    /// What changed meanwhile, is too late, or cannot be in the present state.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 409, code, message: message.into() }
    }

    /// What AWS did not do.
    pub fn unavailable(error: &dyn std::error::Error) -> Self {
        Self { status: 503, code: "unavailable", message: format!("{error}; nothing was changed unless it says so") }
    }
}

/// The parts of Lambda's event that count.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    request_context: Context,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    #[serde(default)]
    request_id: String,
    http: Http,
    #[serde(default)]
    authorizer: Option<Authorizer>,
}

#[derive(Debug, Deserialize)]
struct Http {
    method: String,
}

#[derive(Debug, Deserialize)]
struct Authorizer {
    #[serde(default)]
    iam: Option<Iam>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Iam {
    user_arn: String,
    account_id: String,
}

/// What is asked for and by whom.
///
/// # Errors
/// When it is no POST, nobody of the administrator account made it, or the body is no request.
pub fn parse(event: Value, administrator: &AccountId) -> Result<Asked, Refused> {
    let event: Event = serde_json::from_value(event)
        .map_err(|error| Refused::malformed("not-http", format!("this is no request to a function URL: {error}")))?;
    let context = event.request_context;
    if context.http.method != "POST" {
        let message = format!("`{}` is not offered here; every request is a POST", excerpt(&context.http.method));
        return Err(Refused { status: 405, code: "method", message });
    }
    let by = caller(context.authorizer, administrator)?;
    let body = body(event.body.unwrap_or_default(), event.is_base64_encoded)?;
    let request = serde_json::from_slice(&body).map_err(|error| {
        Refused::malformed("not-a-request", format!("the body is no request of this release: {error}"))
    })?;
    Ok(Asked { by, id: context.request_id, request })
}

fn caller(authorizer: Option<Authorizer>, administrator: &AccountId) -> Result<Arn, Refused> {
    let iam = authorizer.and_then(|authorizer| authorizer.iam);
    let iam = iam.ok_or_else(|| Refused::forbidden("no-caller", "nobody was authenticated; sign the request"))?;
    let by: Arn = iam.user_arn.parse().map_err(|error| {
        Refused::forbidden("no-caller", format!("the caller `{}` is nobody: {error}", excerpt(&iam.user_arn)))
    })?;
    if by.account() != Some(administrator) || iam.account_id != administrator.as_str() {
        let message = format!("`{}` is not of the administrator account {administrator}", excerpt(by.as_str()));
        return Err(Refused::forbidden("foreign-caller", message));
    }
    Ok(by)
}

fn body(text: String, encoded: bool) -> Result<Vec<u8>, Refused> {
    let too_large = || Refused::malformed("too-large", format!("the body is longer than {MAX_BODY} bytes"));
    // Base64 makes four bytes of three.
    if text.len() > MAX_BODY / 3 * 4 + 4 {
        return Err(too_large());
    }
    let bytes = if encoded {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text);
        decoded.map_err(|error| Refused::malformed("not-base64", format!("the body is not base64: {error}")))?
    } else {
        text.into_bytes()
    };
    if bytes.len() > MAX_BODY { Err(too_large()) } else { Ok(bytes) }
}

/// The HTTP answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAnswer {
    /// The status.
    pub status_code: u16,
    /// The headers.
    pub headers: Value,
    /// JSON.
    pub body: String,
}

impl HttpAnswer {
    /// The answer that says how it went.
    #[must_use]
    pub fn of(result: &Result<Value, Refused>) -> Self {
        let (status_code, body) = match result {
            Ok(value) => (200, value.to_string()),
            Err(refused) => {
                let refusal = Refusal { code: refused.code.to_owned(), message: refused.message.clone() };
                (refused.status, serde_json::to_string(&refusal).unwrap_or_default())
            }
        };
        let headers = serde_json::json!({ "content-type": "application/json", "cache-control": "no-store" });
        Self { status_code, headers, body }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const ADMIN: &str = "999999999999";

    fn event(method: &str, arn: &str, body: &str) -> Value {
        json!({
            "version": "2.0", "rawPath": "/", "body": body, "isBase64Encoded": false,
            "requestContext": {
                "requestId": "r-1", "http": { "method": method, "path": "/" },
                "authorizer": { "iam": { "userArn": arn, "accountId": ADMIN } },
            },
        })
    }

    fn refused(event: Value) -> (u16, &'static str) {
        let refused = parse(event, &ADMIN.parse().unwrap()).unwrap_err();
        (refused.status, refused.code)
    }

    const JO: &str = "arn:aws:sts::999999999999:assumed-role/Redress-Operator/jo";
    const LIST: &str = r#"{"Operation":"DlqList"}"#;

    #[test]
    fn the_caller_is_who_aws_authenticated_whatever_the_body_says() {
        let body = r#"{"Operation":"Switch","To":"off","Reason":"","RequestedBy":"arn:aws:iam::999999999999:root"}"#;
        let asked = parse(event("POST", JO, body), &ADMIN.parse().unwrap()).unwrap();
        assert_eq!((asked.by.as_str(), asked.id.as_str()), (JO, "r-1"));
    }

    #[test]
    fn a_body_may_be_base64() {
        let mut event = event("POST", JO, &base64::engine::general_purpose::STANDARD.encode(LIST));
        event["isBase64Encoded"] = true.into();
        assert_eq!(parse(event, &ADMIN.parse().unwrap()).unwrap().request, Request::DlqList { message_id: None });
    }

    #[test]
    fn defect_15_whoever_follows_a_link_changes_nothing() {
        for method in ["GET", "HEAD", "PUT", "OPTIONS", "post"] {
            assert_eq!(refused(event(method, JO, LIST)), (405, "method"), "{method}");
        }
    }

    #[test]
    fn nobody_and_strangers_are_refused() {
        let mut anonymous = event("POST", JO, LIST);
        anonymous["requestContext"]["authorizer"] = Value::Null;
        assert_eq!(refused(anonymous), (403, "no-caller"));
        let stranger = "arn:aws:sts::111122223333:assumed-role/Redress-Operator/jo";
        assert_eq!(refused(event("POST", stranger, LIST)), (403, "foreign-caller"));
        assert_eq!(refused(event("POST", "jo", LIST)), (403, "no-caller"));
        let mut borrowed = event("POST", JO, LIST);
        borrowed["requestContext"]["authorizer"]["iam"]["accountId"] = "111122223333".into();
        assert_eq!(refused(borrowed), (403, "foreign-caller"));
    }

    #[test]
    fn what_is_too_long_or_no_request_is_malformed() {
        assert_eq!(refused(event("POST", JO, &"x".repeat(MAX_BODY + 1))), (400, "too-large"));
        assert_eq!(refused(event("POST", JO, r#"{"Operation":"FormatDisk"}"#)), (400, "not-a-request"));
        assert_eq!(refused(json!({})), (400, "not-http"));
    }

    #[test]
    fn a_refusal_is_json_with_its_status() {
        let answer = HttpAnswer::of(&Err(Refused::absent("no-such-exemption", "there is none")));
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!((&json["statusCode"], &json["headers"]["content-type"]), (&json!(404), &json!("application/json")));
        let refusal: Refusal = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(refusal.code, "no-such-exemption");
    }

    proptest! {
        #[test]
        fn any_body_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), encoded in any::<bool>()) {
            let mut event = event("POST", JO, &String::from_utf8_lossy(&bytes));
            event["isBase64Encoded"] = encoded.into();
            let _ = parse(event, &ADMIN.parse().unwrap());
        }

        #[test]
        fn any_event_is_answered(text in r#"[\{\}\[\]":,a-zA-Z0-9]{0,80}"#, arn in ".{0,60}", method in ".{0,10}") {
            let event = serde_json::from_str(&text).unwrap_or_else(|_| event(&method, &arn, &text));
            let _ = parse(event, &ADMIN.parse().unwrap());
        }
    }
}
