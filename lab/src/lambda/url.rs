//! Function URLs: an HTTP request as a function's event (payload format 2.0), and its answer as HTTP.
//!
//! The lab has no wildcard names, so a URL's place is in its path: `/_url/<account>/<region>/<function>/`. Who may
//! call is the gateway's to judge.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Invoked;

const PREFIX: &str = "/_url/";
/// Set by the front end, not by the caller.
const OF_THE_CONNECTION: [&str; 4] = ["connection", "expect", "transfer-encoding", "upgrade"];

/// A request to a function's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionUrl {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) function: String,
    /// What comes after the URL itself, from `/` on.
    pub(crate) path: String,
}

/// What a function is told of an HTTP request.
pub(crate) struct HttpRequest<'a> {
    pub(crate) method: &'a Method,
    /// Undecoded; empty for none.
    pub(crate) raw_query: &'a str,
    pub(crate) query: Map<String, Value>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    /// `requestContext.authorizer.iam`.
    pub(crate) caller: Value,
}

impl FunctionUrl {
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut fields = path.strip_prefix(PREFIX)?.splitn(4, '/');
        let mut next = || fields.next().filter(|field| !field.is_empty()).map(str::to_owned);
        let (account, region, function) = (next()?, next()?, next()?);
        let path = format!("/{}", next().unwrap_or_default());
        Some(Self { account, region, function, path })
    }

    /// The event.
    pub(crate) fn event(&self, request: HttpRequest<'_>) -> Value {
        let now = Timestamp::now();
        let domain = format!("{}-{}.lambda-url.{}.on.aws", self.function, self.account, self.region);
        let text = |name: HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok());
        let (body, encoded) = body(request.body, text(header::CONTENT_TYPE).unwrap_or_default());
        let mut event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": self.path, "rawQueryString": request.raw_query,
            "headers": headers(request.headers, &domain),
            "requestContext": {
                "accountId": self.account, "apiId": domain.split('.').next(), "domainName": domain,
                "domainPrefix": domain.split('.').next(), "requestId": uuid::Uuid::new_v4().to_string(),
                "routeKey": "$default", "stage": "$default",
                "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(), "timeEpoch": now.as_millisecond(),
                "authentication": null, "authorizer": { "iam": request.caller },
                "http": {
                    "method": request.method.as_str(), "path": self.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1",
                    "userAgent": text(header::USER_AGENT).unwrap_or_default(),
                },
            },
            "isBase64Encoded": encoded,
        });
        // AWS leaves out what there is not.
        if let Some(body) = body {
            event["body"] = body.into();
        }
        if !request.query.is_empty() {
            event["queryStringParameters"] = request.query.into();
        }
        event
    }
}

fn headers(given: &HeaderMap, domain: &str) -> Map<String, Value> {
    let mut headers = Map::new();
    for name in given.keys().filter(|name| !OF_THE_CONNECTION.contains(&name.as_str())) {
        let values: Vec<&str> = given.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        headers.insert(name.as_str().to_owned(), values.join(",").into());
    }
    let own = [
        ("host", domain),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
    ];
    headers.extend(own.map(|(name, value)| (name.to_owned(), value.into())));
    headers
}

/// A body of text as it is, any other as base64.
fn body(body: &Bytes, content_type: &str) -> (Option<String>, bool) {
    const TEXT: [&str; 3] = ["application/json", "application/javascript", "application/xml"];
    if body.is_empty() {
        return (None, false);
    }
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match std::str::from_utf8(body) {
        Ok(text) if kind.starts_with("text/") || TEXT.contains(&kind.as_str()) => (Some(text.to_owned()), false),
        _ => (Some(BASE64.encode(body)), true),
    }
}

/// What the caller gets: the answer that the function describes, or its value as JSON.
pub(crate) fn answer(invoked: &Invoked) -> (StatusCode, HeaderMap, Bytes) {
    let failed = || {
        let body = Bytes::from_static(br#"{"Message":"Internal Server Error"}"#);
        (StatusCode::BAD_GATEWAY, json_headers(), body)
    };
    if invoked.error.is_some() {
        return failed();
    }
    let Ok(value) = serde_json::from_slice::<Value>(&invoked.payload) else { return failed() };
    if value.get("statusCode").is_none() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return (StatusCode::OK, json_headers(), Bytes::from(text));
    }
    let status = value["statusCode"].as_u64().or_else(|| value["statusCode"].as_str()?.parse().ok());
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let body = match &value["body"] {
        Value::Null => Some(Vec::new()),
        Value::String(text) if value["isBase64Encoded"] == true => BASE64.decode(text).ok(),
        Value::String(text) => Some(text.clone().into_bytes()),
        _ => None,
    };
    let (Some(status), Some(body)) = (status, body) else { return failed() };
    let mut headers = json_headers();
    for (name, given) in value["headers"].as_object().into_iter().flatten() {
        let text = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&text)) {
            headers.insert(name, value);
        }
    }
    (status, headers, Bytes::from(body))
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answered(payload: &str, error: Option<&'static str>) -> (u16, String, String) {
        let invoked = Invoked { status: StatusCode::OK, error, payload: Bytes::from(payload.to_owned()) };
        let (status, headers, body) = answer(&invoked);
        let kind = headers[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (status.as_u16(), kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn the_place_of_a_function_is_read_from_its_url() {
        let parsed = FunctionUrl::parse("/_url/1/r/f/a/b").unwrap();
        assert_eq!((parsed.account.as_str(), parsed.function.as_str(), parsed.path.as_str()), ("1", "f", "/a/b"));
        assert_eq!(FunctionUrl::parse("/_url/1/r/f").unwrap().path, "/");
        assert!(FunctionUrl::parse("/_url/1/r/").is_none() && FunctionUrl::parse("/bucket/key").is_none());
    }

    #[test]
    fn an_answer_with_a_status_is_http_and_any_other_json_is_a_success() {
        let json = "application/json".to_owned();
        assert_eq!(
            answered(r#"{"statusCode":405,"headers":{"Content-Type":"text/plain"},"body":"no"}"#, None),
            (405, "text/plain".to_owned(), "no".to_owned())
        );
        assert_eq!(answered(r#"{"a":1}"#, None), (200, json.clone(), r#"{"a":1}"#.to_owned()));
        assert_eq!(answered(r#"{"statusCode":200,"body":"aGk=","isBase64Encoded":true}"#, None).2, "hi");
        assert_eq!(answered(r#"{"statusCode":200,"body":{}}"#, None).0, 502, "a body is text");
        assert_eq!(answered(r#"{"errorMessage":"secret"}"#, Some("Unhandled")).0, 502);
        assert!(!answered(r#"{"errorMessage":"secret"}"#, Some("Unhandled")).2.contains("secret"));
    }

    #[test]
    fn text_is_passed_on_as_text_and_the_rest_as_base64() {
        assert_eq!(body(&Bytes::from("{}"), "application/json; charset=utf-8"), (Some("{}".to_owned()), false));
        assert_eq!(body(&Bytes::from("{}"), "application/octet-stream"), (Some("e30=".to_owned()), true));
        assert_eq!(body(&Bytes::new(), "text/plain"), (None, false));
    }
}
