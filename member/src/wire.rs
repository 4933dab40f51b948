//! Services of AWS that need no SDK crate of their own here: the SDK's own runtime signs, retries and gives up, and what
//! goes over the wire is the JSON that a setting reads and writes.
//!
//! An SDK crate brings types for hundreds of operations into the function; a setting needs two or three. Where AWS
//! answers with XML, it is read as JSON ([`xml`]). Knows no setting ([`crate::native::setting`] does).

use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::invocation_id::InvocationIdInterceptor;
use aws_runtime::request_info::RequestInfoInterceptor;
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_smithy_runtime::client::orchestrator::operation::Operation as Orchestrated;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::SigningName;
use aws_types::region::{Region, SigningRegion};
use redress_common::aws::failure::AwsFailure;
use serde_json::{Map, Value, json};

pub(crate) mod xml;

/// A service, and how it is spoken to.
#[derive(Debug)]
pub struct Service {
    /// Its SDK name, as planned calls write it.
    pub name: &'static str,
    /// What its requests are signed for.
    pub signing: &'static str,
    /// The first part of its host name.
    pub host: &'static str,
    /// Its protocol.
    pub protocol: Protocol,
}

/// How operations are named and written.
#[derive(Debug)]
pub enum Protocol {
    /// `POST /`, the operation in a header.
    Json {
        /// What stands before the operation's name.
        target: &'static str,
        /// Of the protocol: `1.0` or `1.1`.
        version: &'static str,
    },
    /// A method and a path for each operation. Members are sent with a small first letter.
    Rest,
    /// The same, with members as they are called.
    RestCapital,
    /// A method and a path, an XML document in and out. It is kept as text, for a document that is put back must not lose
    /// what nobody here has read. Member `Document` is the body, `IfMatch` the header, and an answer is `Document` and `ETag`.
    Document,
    /// `POST /` with a form, answered with XML: all values are texts, and what is empty is `null`.
    Query {
        /// Of the API.
        version: &'static str,
        /// What stands between a list's name and an item's number.
        item: &'static str,
    },
    /// Its SDK crate speaks it, and is here anyway: [`Wire`] does not.
    Sdk,
}

/// One operation of a service.
#[derive(Debug)]
pub struct Operation {
    /// Whose it is.
    pub service: &'static Service,
    /// Its name.
    pub name: &'static str,
    /// For the protocols with paths: method, and path with a `{Member}` for each that goes into it.
    pub http: (&'static str, &'static str),
    /// The member that tells a call that is made again from another one.
    pub token: Option<&'static str>,
    /// The error codes of a thing that was just made and is not seen yet: the call is made again a little later.
    pub awaits: &'static [&'static str],
    /// For what AWS answers before it is done: how it tells that it is.
    pub until: Option<Until>,
}

/// How AWS tells what became of something that an operation began.
#[derive(Debug)]
pub struct Until {
    /// The reading call.
    pub ask: &'static Operation,
    /// Its parameters, of the first call's parameters and answer.
    pub input: fn(&Value, &Value) -> Value,
    /// What stands in its answer, where, while AWS is at it and when it is done; anything else is a failure.
    pub state: &'static str,
    /// See `state`.
    pub at_it: &'static [&'static str],
    /// See `state`.
    pub done: &'static str,
    /// Where it says why it failed.
    pub errors: &'static str,
}

impl Service {
    /// A service that has one name for everything.
    #[must_use]
    pub const fn of(name: &'static str, protocol: Protocol) -> Self {
        Self { name, signing: name, host: name, protocol }
    }

    /// An operation of a JSON service.
    #[must_use]
    pub const fn operation(&'static self, name: &'static str) -> Operation {
        Operation { service: self, name, http: ("POST", "/"), token: None, until: None, awaits: &[] }
    }

    /// An operation of a REST service.
    #[must_use]
    pub const fn at(&'static self, name: &'static str, method: &'static str, path: &'static str) -> Operation {
        Operation { service: self, name, http: (method, path), token: None, until: None, awaits: &[] }
    }
}

/// A request as it is sent, but for its host and signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Operation {
    fn written(&self, input: &Value) -> Written {
        let (method, path) = self.http;
        match self.service.protocol {
            Protocol::Json { target, version } => Written {
                method,
                path: path.to_owned(),
                headers: vec![
                    ("content-type", format!("application/x-amz-json-{version}")),
                    ("x-amz-target", format!("{target}.{}", self.name)),
                ],
                body: input.to_string(),
            },
            Protocol::Query { version, item } => {
                let mut form = vec![format!("Action={}", self.name), format!("Version={version}")];
                flatten("", input, item, &mut form);
                Written {
                    method,
                    path: path.to_owned(),
                    headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
                    body: form.join("&"),
                }
            }
            Protocol::Document => {
                let text = |name: &str| input[name].as_str().map(str::to_owned);
                let filled = input.as_object().into_iter().flatten().fold(path.to_owned(), |path, (name, value)| {
                    let hole = format!("{{{name}}}");
                    path.replace(&hole, &listed(&path, &hole, value))
                });
                let body = text("Document").unwrap_or_default();
                let kind = (!body.is_empty()).then(|| ("content-type", "application/xml".to_owned()));
                let tag = text("IfMatch").map(|tag| ("if-match", tag));
                Written { method, path: filled, headers: kind.into_iter().chain(tag).collect(), body }
            }
            Protocol::Rest | Protocol::RestCapital | Protocol::Sdk => {
                let capital = matches!(self.service.protocol, Protocol::RestCapital);
                let mut filled = path.to_owned();
                let mut body = Map::new();
                for (name, value) in input.as_object().into_iter().flatten() {
                    let hole = format!("{{{name}}}");
                    if filled.contains(&hole) {
                        filled = filled.replace(&hole, &listed(&filled, &hole, value));
                    } else {
                        body.insert(if capital { name.clone() } else { small(name) }, value.clone());
                    }
                }
                let sends = method != "GET" && method != "DELETE";
                Written {
                    method,
                    path: filled,
                    headers: sends.then(|| ("content-type", "application/json".to_owned())).into_iter().collect(),
                    body: if sends { Value::Object(body).to_string() } else { String::new() },
                }
            }
        }
    }
}

/// The fields of a form: `A.B` for a member of a structure, `A.1` or `A.member.1` for an item of a list.
fn flatten(name: &str, value: &Value, item: &str, form: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (member, value) in map {
                let name = if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                flatten(&name, value, item, form);
            }
        }
        // How a list is emptied; EC2's lists cannot be said to be empty.
        Value::Array(items) if items.is_empty() && !item.is_empty() => form.push(format!("{name}=")),
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&format!("{name}{item}.{}", index + 1), value, item, form);
            }
        }
        other => form.push(format!("{name}={}", encoded(&text(other)))),
    }
}

/// What goes into a path or query for a member: `x?name=a&name=b` for a list in a query.
fn listed(path: &str, hole: &str, value: &Value) -> String {
    let Value::Array(items) = value else { return encoded(&text(value)) };
    let before = path.split(hole).next().unwrap_or_default();
    let name = before.rsplit(['?', '&']).next().unwrap_or_default();
    items.iter().map(|item| encoded(&text(item))).collect::<Vec<_>>().join(&format!("&{name}"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// With a small first letter.
fn small(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

/// For one part of a path.
pub(crate) fn encoded(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// A client of every service.
#[derive(Debug, Clone)]
pub struct Wire {
    config: SdkConfig,
}

impl Wire {
    /// Of the function's own Region.
    #[must_use]
    pub const fn new(config: SdkConfig) -> Self {
        Self { config }
    }

    /// The same of another Region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        Self::new(self.config.to_builder().region(Region::new(region.to_owned())).build())
    }

    /// What a client is made from.
    #[must_use]
    pub const fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Calls an operation.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn call(&self, operation: &'static Operation, input: &Value) -> Result<Value, AwsFailure> {
        let region = self.config.region().map_or("us-east-1", Region::as_ref).to_owned();
        let region = home(operation.service, &region).map_or(region, |(_, home)| home.to_owned());
        let documents = matches!(operation.service.protocol, Protocol::Document);
        let calling = Orchestrated::builder()
            .service_name(operation.service.name)
            .operation_name(operation.name)
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint(operation.service, &region))
            .standard_retry(&self.config.retry_config().cloned().unwrap_or_else(RetryConfig::standard))
            .timeout_config(self.config.timeout_config().cloned().unwrap_or_else(TimeoutConfig::disabled))
            .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::new())
            .interceptor(InvocationIdInterceptor::new())
            .interceptor(RequestInfoInterceptor::new())
            .runtime_plugin(self.signed(operation.service, region))
            .serializer(request)
            .deserializer(if documents { document } else { answer })
            .build();
        let called = calling.invoke(operation.written(input)).await;
        called.map_err(|error| AwsFailure::of(operation.name, &error))
    }

    fn endpoint(&self, service: &Service, region: &str) -> String {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let own = || match home(service, region) {
            Some((host, _)) => format!("https://{host}.{suffix}"),
            None => format!("https://{}.{region}.{suffix}", service.host),
        };
        self.config.endpoint_url().map_or_else(own, str::to_owned)
    }

    /// What the SDK's generated clients set up: who signs, for which service and Region, over which connections.
    fn signed(&self, service: &Service, region: String) -> StaticRuntimePlugin {
        let mut layer = Layer::new("wire");
        layer.store_put(AuthSchemeOptionResolverParams::new(()));
        layer.store_put(SigV4OperationSigningConfig::default());
        layer.store_put(SigningName::from_static(service.signing));
        layer.store_put(SigningRegion::from(Region::new(region)));
        let chosen = StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]);
        let mut components = RuntimeComponentsBuilder::new("wire")
            .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
            .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(chosen)))
            .with_http_client(self.config.http_client())
            .with_sleep_impl(self.config.sleep_impl())
            .with_time_source(self.config.time_source())
            .with_identity_cache(self.config.identity_cache());
        if let Some(credentials) = self.config.credentials_provider() {
            components.set_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(credentials));
        }
        StaticRuntimePlugin::new().with_config(layer.freeze()).with_runtime_components(components)
    }
}

/// The host and the signing Region of a service that there is once a partition.
fn home(service: &Service, region: &str) -> Option<(&'static str, &'static str)> {
    let china = region.starts_with("cn-");
    match service.name {
        "cloudfront" if china => Some(("cloudfront.cn-northwest-1", "cn-northwest-1")),
        "cloudfront" => Some(("cloudfront", "us-east-1")),
        "iam" if china => Some(("iam.cn-north-1", "cn-north-1")),
        "iam" if region.starts_with("us-gov-") => Some(("iam.us-gov", "us-gov-west-1")),
        "iam" => Some(("iam", "us-east-1")),
        _ => None,
    }
}

fn request(written: Written) -> Result<HttpRequest, BoxError> {
    let mut request = HttpRequest::new(SdkBody::from(written.body));
    request.set_method(written.method)?;
    request.set_uri(written.path)?;
    for (name, value) in written.headers {
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// The answer of a service that speaks in documents.
fn document(response: &HttpResponse) -> Result<Value, OrchestratorError<ErrorMetadata>> {
    if !response.status().is_success() {
        return answer(response);
    }
    let body = response.body().bytes().unwrap_or_default();
    let text = std::str::from_utf8(body).map_err(OrchestratorError::other)?;
    Ok(json!({ "Document": text, "ETag": response.headers().get("etag") }))
}

fn answer(response: &HttpResponse) -> Result<Value, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    let parsed = if body.is_empty() {
        Ok(Value::Null)
    } else if body.starts_with(b"<") {
        xml::read(&String::from_utf8_lossy(body)).map_err(OrchestratorError::other)
    } else {
        serde_json::from_slice(body).map_err(OrchestratorError::other)
    };
    if response.status().is_success() {
        return parsed;
    }
    let parsed = parsed.unwrap_or_default();
    // EC2 answers with a list of errors, the others with one.
    let error = ["/Errors/Error", "/Error", ""].iter().find_map(|at| parsed.pointer(at)).unwrap_or(&Value::Null);
    let text = |names: &[&str]| names.iter().find_map(|name| error[*name].as_str()).map(str::to_owned);
    let header = response.headers().get("x-amzn-errortype").map(str::to_owned);
    let mut metadata = ErrorMetadata::builder();
    if let Some(code) = header.or_else(|| text(&["__type", "code", "Code"])) {
        // `com.amazonaws.ecr#RepositoryNotFoundException:http://…`
        let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
        metadata = metadata.code(code);
    }
    if let Some(message) = text(&["message", "Message"]) {
        metadata = metadata.message(message);
    }
    Err(OrchestratorError::operation(metadata.build()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::FakeAws;

    static ECR: Service = Service {
        name: "ecr",
        signing: "ecr",
        host: "api.ecr",
        protocol: Protocol::Json { target: "AmazonEC2ContainerRegistry_V20150921", version: "1.1" },
    };
    static DESCRIBE: Operation = ECR.operation("DescribeRepositories");
    static API: Service = Service::of("apigateway", Protocol::Rest);
    static UPDATE: Operation = API.at("UpdateStage", "PATCH", "/restapis/{RestApiId}/stages/{StageName}");

    #[tokio::test]
    async fn a_request_is_signed_for_its_service_and_its_answer_is_json() {
        let aws = FakeAws::default();
        aws.answer("DescribeRepositories", 200, r#"{"repositories":[]}"#);
        let answer = Wire::new(aws.config()).call(&DESCRIBE, &json!({ "repositoryNames": ["web"] })).await.unwrap();
        assert_eq!(answer, json!({ "repositories": [] }));
        let seen = aws.seen().remove(0);
        assert_eq!(seen.name, "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories");
        assert_eq!(seen.body, br#"{"repositoryNames":["web"]}"#);
        assert!(seen.headers["authorization"].contains("/eu-central-1/ecr/aws4_request"), "{:?}", seen.headers);
        assert!(seen.headers.contains_key("amz-sdk-invocation-id"));
    }

    #[tokio::test]
    async fn a_refusal_tells_its_code_and_message() {
        let aws = FakeAws::default();
        let body = r#"{"__type":"com.amazonaws.ecr#RepositoryNotFoundException","message":"there is none"}"#;
        aws.answer("DescribeRepositories", 400, body);
        let failure = Wire::new(aws.config()).call(&DESCRIBE, &json!({})).await.unwrap_err();
        assert_eq!(failure.code(), Some("RepositoryNotFoundException"));
        assert_eq!(failure.to_string(), "`DescribeRepositories` failed: RepositoryNotFoundException: there is none");
    }

    #[tokio::test]
    async fn a_throttled_call_is_made_again() {
        let aws = FakeAws::default();
        aws.answer("DescribeRepositories", 400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#);
        aws.answer("DescribeRepositories", 200, r#"{"repositories":[]}"#);
        let config = aws.config().into_builder().retry_config(RetryConfig::standard().with_max_attempts(2)).build();
        assert!(Wire::new(config).call(&DESCRIBE, &json!({})).await.is_ok());
        assert_eq!(aws.seen().len(), 2);
    }

    #[test]
    fn a_rest_request_has_its_names_in_the_path_and_the_rest_in_the_body() {
        let written = UPDATE.written(&json!({ "RestApiId": "a1", "StageName": "p/q", "PatchOperations": [] }));
        assert_eq!(written.path, "/restapis/a1/stages/p%2Fq");
        assert_eq!(written.body, r#"{"patchOperations":[]}"#);
        assert_eq!(API.at("GetStage", "GET", "/x").written(&json!({})).body, "");
        let untag = API.at("Untag", "DELETE", "/tags/{Arn}?tagKeys={TagKeys}");
        let written = untag.written(&json!({ "Arn": "a:b", "TagKeys": ["x y", "z"] }));
        assert_eq!(written.path, "/tags/a%3Ab?tagKeys=x%20y&tagKeys=z");
        let put = CONTACTS.at("PutAlternateContact", "POST", "/putAlternateContact");
        assert_eq!(put.written(&json!({ "Name": "Ann" })).body, r#"{"Name":"Ann"}"#);
    }

    static CONTACTS: Service = Service::of("account", Protocol::RestCapital);

    static EC2: Service = Service::of("ec2", Protocol::Query { version: "2016-11-15", item: "" });
    static DESCRIBE_SUBNETS: Operation = EC2.operation("DescribeSubnets");

    #[tokio::test]
    async fn a_service_that_answers_with_xml_is_asked_with_a_form() {
        let aws = FakeAws::default();
        aws.answer("DescribeSubnets", 200, "<DescribeSubnetsResponse><subnetSet><item><subnetId>s</subnetId></item></subnetSet></DescribeSubnetsResponse>");
        let input = json!({ "SubnetId": ["s-1", "s-2"], "Filter": [{ "Name": "a b" }] });
        let answer = Wire::new(aws.config()).call(&DESCRIBE_SUBNETS, &input).await.unwrap();
        assert_eq!(answer, json!({ "subnetSet": [{ "subnetId": "s" }] }));
        let body = String::from_utf8(aws.seen().remove(0).body).unwrap();
        assert_eq!(body, "Action=DescribeSubnets&Version=2016-11-15&SubnetId.1=s-1&SubnetId.2=s-2&Filter.1.Name=a%20b");

        let error = "<Response><Errors><Error><Code>InvalidSubnetID.NotFound</Code><Message>none</Message></Error></Errors></Response>";
        aws.answer("DescribeSubnets", 400, error);
        let failure = Wire::new(aws.config()).call(&DESCRIBE_SUBNETS, &input).await.unwrap_err();
        assert_eq!(failure.code(), Some("InvalidSubnetID.NotFound"));
    }

    static CLOUDFRONT: Service = Service::of("cloudfront", Protocol::Document);
    static GET_CONFIG: Operation =
        CLOUDFRONT.at("GetDistributionConfig", "GET", "/2020-05-31/distribution/{Id}/config");
    static PUT_CONFIG: Operation = CLOUDFRONT.at("UpdateDistribution", "PUT", "/2020-05-31/distribution/{Id}/config");

    #[tokio::test]
    async fn a_document_comes_and_goes_as_it_is() {
        let text = "<?xml version=\"1.0\"?>\n<DistributionConfig xmlns=\"x\"><Comment>a &amp; b</Comment><Aliases/></DistributionConfig>";
        let aws = FakeAws::default();
        aws.answer("GET", 200, text);
        let wire = Wire::new(aws.config());
        let answer = wire.call(&GET_CONFIG, &json!({ "Id": "E1" })).await.unwrap();
        assert_eq!(answer, json!({ "Document": text, "ETag": null }));
        let seen = aws.seen().remove(0);
        assert!(seen.headers["authorization"].contains("/us-east-1/cloudfront/aws4_request"), "{:?}", seen.headers);
        assert!(seen.body.is_empty() && !seen.headers.contains_key("content-type"));

        let written = PUT_CONFIG.written(&json!({ "Id": "E1", "IfMatch": "E2", "Document": text }));
        assert_eq!((written.path.as_str(), written.body.as_str()), ("/2020-05-31/distribution/E1/config", text));
        assert!(written.headers.contains(&("if-match", "E2".to_owned())));

        aws.answer("GET", 404, "<ErrorResponse><Error><Code>NoSuchDistribution</Code></Error></ErrorResponse>");
        let failure = wire.call(&GET_CONFIG, &json!({ "Id": "E1" })).await.unwrap_err();
        assert_eq!(failure.code(), Some("NoSuchDistribution"));
    }

    #[test]
    fn only_a_list_that_can_be_empty_is_said_to_be() {
        let mut form = Vec::new();
        flatten("", &json!({ "A": [], "B": ["x"] }), ".member", &mut form);
        assert_eq!(form, ["A=", "B.member.1=x"]);
        form.clear();
        flatten("", &json!({ "A": [], "B": ["x"] }), "", &mut form);
        assert_eq!(form, ["B.1=x"]);
    }

    #[test]
    fn hosts_are_those_of_the_partition() {
        let wire = Wire::new(SdkConfig::builder().build());
        assert_eq!(wire.endpoint(&CLOUDFRONT, "eu-central-1"), "https://cloudfront.amazonaws.com");
        assert_eq!(wire.endpoint(&CLOUDFRONT, "cn-north-1"), "https://cloudfront.cn-northwest-1.amazonaws.com.cn");
        assert_eq!(wire.endpoint(&ECR, "eu-central-1"), "https://api.ecr.eu-central-1.amazonaws.com");
        assert_eq!(wire.endpoint(&ECR, "cn-north-1"), "https://api.ecr.cn-north-1.amazonaws.com.cn");
    }
}
