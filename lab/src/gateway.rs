//! The one endpoint of every client: reads who calls what, has it judged, routes it, records it.
//!
//! It judges nothing itself and holds no service's state. What it forwards to the base emulator stays
//! byte for byte as it came, so that signatures verify.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cloud::{Cloud, FURTHER_CHECKS};
use crate::faults::{Hit, Moment, Seen, Step};
use crate::lambda::InvocationType;
use crate::lambda::url::{self, FunctionUrl};
use crate::record::{Call, Check, Fault, Verdict};
use crate::resources::{self, Actions, Family, Place, Server};
use crate::service::{Aws, AwsError, Caller, Request, Service};

mod query;

const LARGEST_BODY: usize = 64 << 20;
/// Said by one side of a connection to the other, not by the client to the service.
const HOP_BY_HOP: [&str; 6] = ["connection", "content-length", "expect", "keep-alive", "transfer-encoding", "upgrade"];
/// Between the gateway and the base emulator only.
const PRIVATE: [&str; 4] = ["x-lab", "x-lab-token", "x-lab-checks", "x-lab-allowed"];
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Services whose changes make cached rules, functions or policies stale.
const CACHED_FROM: [&str; 5] = ["cloudformation", "events", "lambda", "sns", "sqs"];

/// Where requests go.
pub(crate) struct Gateway {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) services: Vec<Arc<dyn Service>>,
    pub(crate) moto: String,
    pub(crate) actions: Actions,
    pub(crate) http: reqwest::Client,
}

/// A client's request, as far as routing needs to understand it.
struct Incoming {
    method: Method,
    path: String,
    raw_path_and_query: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
    scope: Scope,
}

/// The SigV4 credential scope; empty fields when the request is not signed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Scope {
    access_key_id: String,
    region: String,
    service: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What a request turned out to be, for the record.
#[derive(Default)]
struct Outcome {
    operation: Option<String>,
    checks: Vec<NotedCheck>,
    /// Known without a check where a fault struck.
    caller: Option<Caller>,
    fault: Option<Fault>,
}

#[derive(Debug, Deserialize)]
struct NotedCheck {
    principal: String,
    account: String,
    /// The API's name of the request, where the action has another one.
    operation: Option<String>,
    #[serde(flatten)]
    check: Check,
}

/// What the base emulator's CloudFormation does with a resource of a service that the lab answers itself.
#[derive(Debug, Deserialize)]
struct Provision {
    account: String,
    region: String,
    service: String,
    operation: String,
    parameters: Value,
}

/// The routes; everything that is not the lab's own is AWS's.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/_lab/health", axum::routing::get(|| async { axum::Json(json!({ "status": "ok" })) }))
        .route("/_lab/record", axum::routing::get(record))
        .route("/_lab/status", axum::routing::get(status))
        .route("/_lab/provision", axum::routing::post(provision))
        .fallback(aws)
        .with_state(gateway)
}

async fn record(State(gateway): State<Arc<Gateway>>) -> axum::Json<Value> {
    let record = &gateway.cloud.shared.record;
    axum::Json(json!({
        "calls": record.calls(), "invocations": record.invocations(), "deliveries": record.deliveries(),
    }))
}

async fn status(State(gateway): State<Arc<Gateway>>) -> axum::Json<Value> {
    let shared = &gateway.cloud.shared;
    let scopes: Vec<_> =
        shared.scopes().into_iter().map(|(account, region)| json!({ "account": account, "region": region })).collect();
    axum::Json(json!({
        "endpoint": shared.endpoint,
        "calls": shared.record.mark(),
        "scopes": scopes,
        "services": gateway.services.iter().map(|service| service.name()).collect::<Vec<_>>(),
        "functions": gateway.cloud.functions.names(),
    }))
}

/// For the base emulator alone, which waits for the answer and answers nobody meanwhile: nothing here may ask it. Nobody is
/// authorised, as for no other resource of a stack, and nothing is recorded.
async fn provision(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    axum::Json(asked): axum::Json<Provision>,
) -> (StatusCode, axum::Json<Value>) {
    let token = headers.get("x-lab-token").and_then(|value| value.to_str().ok());
    if token != Some(gateway.cloud.shared.authority.token()) {
        return (StatusCode::FORBIDDEN, axum::Json(json!({ "error": "this is the base emulator's way in" })));
    }
    let answer = gateway.provision(asked).await;
    (StatusCode::OK, axum::Json(answer.map_or_else(|error| json!({ "error": error }), |ok| json!({ "ok": ok }))))
}

async fn aws(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response<Body> {
    let arrived = (Timestamp::now(), Instant::now());
    let incoming = match Incoming::read(request).await {
        Ok(incoming) => incoming,
        Err(error) => {
            return error_answer(
                &AwsError { status: 413, code: "RequestEntityTooLarge".to_owned(), message: error },
                None,
            )
            .into_response();
        }
    };
    // A call that arrived is performed and noted, even if its caller is killed or gives up meanwhile.
    let served = tokio::spawn(async move { gateway.serve(&incoming, arrived).await });
    match served.await {
        Ok(Some(answer)) => answer.into_response(),
        Ok(None) | Err(_) => cut(),
    }
}

/// Ends the connection without a byte of an answer: unwinding takes the connection's own task with it, no more.
fn cut() -> ! {
    std::panic::resume_unwind(Box::new("the lab cut a connection"))
}

impl Gateway {
    /// The answer, unless a fault takes it.
    async fn serve(&self, incoming: &Incoming, arrived: (Timestamp, Instant)) -> Option<Answer> {
        let mut outcome = Outcome { operation: incoming.named_operation(), ..Outcome::default() };
        let fault = self.fault(incoming, &mut outcome).await;
        let before = match &fault {
            Some(hit) => hit.at(Moment::Before).await,
            None => Step::Go,
        };
        let performed = matches!(before, Step::Go);
        let answer = match before {
            Step::Go => Some(self.perform(incoming, &mut outcome).await),
            Step::Refuse(error) => Some(error_answer(&error, Some(incoming))),
            Step::Cut => None,
        };
        outcome.fault = fault.as_ref().map(|hit| Fault { rule: hit.rule, action: hit.action.clone(), performed });
        self.note(incoming, &outcome, answer.as_ref(), arrived);
        self.tell(incoming, &outcome, answer.as_ref());
        if let Some(hit) = fault.filter(|_| performed)
            && let Step::Cut = hit.at(Moment::After).await
        {
            return None;
        }
        answer
    }

    /// Tells the lab's own services of a call to another one that was performed.
    fn tell(&self, incoming: &Incoming, outcome: &Outcome, answer: Option<&Answer>) {
        if !answer.is_some_and(|answer| answer.status.is_success()) {
            return;
        }
        let Some(operation) = outcome.operation() else { return };
        let service = incoming.scope.service.as_str();
        for own in self.services.iter().filter(|own| own.minds(service, &operation)) {
            let account = outcome.checks.first().map_or("", |noted| &noted.account);
            own.happened(account, &operation, self.cloud.clone());
        }
    }

    async fn perform(&self, incoming: &Incoming, outcome: &mut Outcome) -> Answer {
        match self.route(incoming, outcome).await {
            Ok(answer) => {
                if outcome.operation.as_deref() == Some("AssumeRole") {
                    self.hand_down(incoming, &answer);
                }
                answer
            }
            Err(error) => error_answer(&error, Some(incoming)),
        }
    }

    /// The fault that strikes a request.
    async fn fault(&self, incoming: &Incoming, outcome: &mut Outcome) -> Option<Hit> {
        let (shared, scope) = (&self.cloud.shared, &incoming.scope);
        if !shared.faults.watches(&scope.service) {
            return None;
        }
        if outcome.operation.is_none() {
            outcome.operation = self.operation(incoming).await;
        }
        let caller = shared.authority.caller(&scope.access_key_id).await.ok()?;
        let hit = shared.faults.verdict(Seen {
            process: self.cloud.functions.environments.holder(&scope.access_key_id),
            principal: caller.arn.clone(),
            account: caller.account.clone(),
            service: scope.service.clone(),
            operation: outcome.operation.clone().unwrap_or_default(),
            text: incoming.text(),
            invocation: incoming.header("amz-sdk-invocation-id").to_owned(),
            attempt: incoming.attempt(),
        })?;
        outcome.caller = Some(caller);
        Some(hit)
    }

    /// The API name of a REST request, before anybody served it.
    async fn operation(&self, incoming: &Incoming) -> Option<String> {
        if incoming.invoked_function().is_some() {
            return Some("Invoke".to_owned());
        }
        if FunctionUrl::parse(&incoming.path).is_some() {
            return Some("InvokeFunctionUrl".to_owned());
        }
        let (authority, service) = (&self.cloud.shared.authority, &incoming.scope.service);
        if self.services.iter().any(|own| own.name() == service) {
            return authority.operation(service, incoming.method.as_str(), incoming.raw_path()).await.ok().flatten();
        }
        if let Some(family) = resources::family(service, &incoming.path) {
            return authority.request(family.models, incoming.for_botocore()).await.ok().map(|call| call.operation);
        }
        let mut judged = Outcome::default();
        self.judge(incoming, json!({ "judge_only": true }), &mut judged).await.ok()?;
        judged.operation()
    }

    /// A process that assumed a role holds its key from now on.
    fn hand_down(&self, incoming: &Incoming, answer: &Answer) {
        let environments = &self.cloud.functions.environments;
        let body = String::from_utf8_lossy(&answer.body);
        let key = body.split_once("<AccessKeyId>").and_then(|(_, rest)| rest.split('<').next());
        if let Some((process, key)) = environments.holder(&incoming.scope.access_key_id).zip(key) {
            environments.give(key, process);
        }
    }

    async fn route(&self, incoming: &Incoming, outcome: &mut Outcome) -> Result<Answer, AwsError> {
        if incoming.path.starts_with("/_lab") {
            return Err(AwsError {
                status: 404,
                code: "NotFound".to_owned(),
                message: "no such lab endpoint".to_owned(),
            });
        }
        if let Some(url) = FunctionUrl::parse(&incoming.path) {
            return self.function_url(incoming, &url, outcome).await;
        }
        match incoming.scope.service.as_str() {
            "events" if outcome.operation.as_deref() == Some("PutEvents") => self.put_events(incoming, outcome).await,
            "lambda" => match incoming.invoked_function() {
                Some(function) => self.invoke(incoming, &function, outcome).await,
                None => self.base(incoming, outcome).await,
            },
            service => {
                if outcome.operation.is_none() && self.services.iter().any(|own| own.name() == service) {
                    let authority = &self.cloud.shared.authority;
                    outcome.operation =
                        authority.operation(service, incoming.method.as_str(), incoming.raw_path()).await?;
                }
                let operation = outcome.operation.clone().unwrap_or_default();
                if let Some(own) = self.services.iter().find(|own| own.name() == service && own.answers(&operation)) {
                    return self.own(incoming, own, operation, outcome).await;
                }
                match resources::family(service, &incoming.path) {
                    Some(family) => self.resource(incoming, family, outcome).await,
                    None => self.base(incoming, outcome).await,
                }
            }
        }
    }

    /// A service that the lab answers itself.
    async fn own(
        &self,
        incoming: &Incoming,
        own: &Arc<dyn Service>,
        operation: String,
        outcome: &mut Outcome,
    ) -> Result<Answer, AwsError> {
        let caller = self.cloud.shared.authority.caller(&incoming.scope.access_key_id).await?;
        let action = format!("{}:{operation}", own.name());
        let request = incoming.for_service(caller, operation.clone());
        let mut resources = own.resources(&request);
        if resources.is_empty() {
            resources.push("*".to_owned());
        }
        let orders = json!({ "judge_only": true, "service": own.name(), "action": action, "resources": resources });
        if let Some(refused) = self.judge(incoming, orders, outcome).await? {
            return Ok(refused);
        }
        let aws: Arc<dyn Aws> = self.cloud.clone();
        let caller = request.caller.clone();
        let handling = async {
            let answer = own.handle(request, aws).await;
            (answer, FURTHER_CHECKS.with(RefCell::take))
        };
        let (answer, further) = FURTHER_CHECKS.scope(RefCell::default(), handling).await;
        outcome.checks.extend(further.into_iter().map(|check| NotedCheck {
            principal: caller.arn.clone(),
            account: caller.account.clone(),
            operation: None,
            check,
        }));
        Ok(incoming.answer(&operation, &answer?))
    }

    /// Has a service of the lab's own do what CloudFormation asks of it.
    async fn provision(&self, asked: Provision) -> Result<Value, AwsError> {
        let Provision { account, region, service, operation, parameters } = asked;
        let own = self.services.iter().find(|own| own.name() == service && own.answers(&operation));
        let own = own.ok_or_else(|| {
            AwsError::new("UnknownOperationException", format!("the lab itself does not answer {service}:{operation}"))
        })?;
        let request = Request {
            caller: Caller { arn: format!("arn:aws:iam::{account}:root"), account },
            region,
            service,
            operation,
            method: Method::POST.to_string(),
            path: "/".to_owned(),
            query: BTreeMap::new(),
            body: parameters,
        };
        own.handle(request, self.cloud.clone()).await
    }

    async fn put_events(&self, incoming: &Incoming, outcome: &mut Outcome) -> Result<Answer, AwsError> {
        let caller = self.cloud.shared.authority.caller(&incoming.scope.access_key_id).await?;
        if let Some(refused) = self.judge(incoming, json!({ "judge_only": true }), outcome).await? {
            return Ok(refused);
        }
        let answer = self.cloud.events.put(&caller, &incoming.scope.region, &incoming.json()).await?;
        Ok(json_answer(StatusCode::OK, &answer, incoming))
    }

    async fn invoke(&self, incoming: &Incoming, function: &str, outcome: &mut Outcome) -> Result<Answer, AwsError> {
        outcome.operation = Some("Invoke".to_owned());
        let shared = &self.cloud.shared;
        let caller = shared.authority.caller(&incoming.scope.access_key_id).await?;
        let arn = self.cloud.functions.arn(&caller.account, &incoming.scope.region, function).await?;
        let orders =
            json!({ "judge_only": true, "service": "lambda", "action": "lambda:InvokeFunction", "resources": [arn] });
        if let Some(refused) = self.judge(incoming, orders, outcome).await? {
            return Ok(refused);
        }
        let wanted = incoming.headers.get("x-amz-invocation-type").and_then(|value| value.to_str().ok());
        let kind = InvocationType::parse(wanted)?;
        let invoked = self.cloud.functions.invoke(&arn, kind, incoming.body.clone()).await?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-amz-executed-version", HeaderValue::from_static("$LATEST"));
        if let Some(kind) = invoked.error {
            headers.insert("x-amz-function-error", HeaderValue::from_static(kind));
        }
        Ok(Answer { status: invoked.status, headers, body: invoked.payload })
    }

    /// A function behind its URL. AWS asks of the caller that it may call the URL and invoke the function.
    async fn function_url(
        &self,
        incoming: &Incoming,
        url: &FunctionUrl,
        outcome: &mut Outcome,
    ) -> Result<Answer, AwsError> {
        outcome.operation = Some("InvokeFunctionUrl".to_owned());
        let refused = |status, code: &str, message: &str| {
            Err(AwsError { status, code: code.to_owned(), message: message.to_owned() })
        };
        let authority = &self.cloud.shared.authority;
        let asked = json!({ "FunctionName": url.function });
        let found = authority.look(&url.account, &url.region, "lambda", "GetFunctionUrlConfig", asked).await;
        let Ok(found) = found else {
            return refused(404, "ResourceNotFoundException", "there is no such function URL");
        };
        if found["AuthType"] != "AWS_IAM" {
            return refused(501, "NotImplemented", "the lab serves function URLs with AuthType AWS_IAM, no others");
        }
        match incoming.scope.service.as_str() {
            "lambda" => {}
            "" => return refused(403, "AccessDeniedException", "Forbidden"),
            _ => {
                let message = "Credential should be scoped to correct service: 'lambda'.";
                return refused(403, "InvalidSignatureException", message);
            }
        }
        let arn = found["FunctionArn"].as_str().unwrap_or_default();
        let mut checks = Vec::new();
        for (action, context) in [
            ("lambda:InvokeFunctionUrl", json!({ "lambda:FunctionUrlAuthType": "AWS_IAM" })),
            ("lambda:InvokeFunction", json!({ "lambda:InvokedViaFunctionUrl": "true" })),
        ] {
            let orders = json!({
                "judge_only": true, "service": "lambda", "action": action, "resources": [arn], "context": context });
            let verdict = self.judge(incoming, orders, outcome).await?;
            checks.append(&mut outcome.checks);
            if let Some(refused) = verdict {
                outcome.checks = checks;
                return Ok(refused);
            }
        }
        outcome.checks = checks;
        let (_, raw_query) = incoming.raw_path_and_query.split_once('?').unwrap_or_default();
        let event = url.event(url::HttpRequest {
            method: &incoming.method,
            raw_query,
            query: incoming.query.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            headers: &incoming.headers,
            body: &incoming.body,
            caller: authority.identity(&incoming.scope.access_key_id).await?,
        });
        let kind = InvocationType::RequestResponse;
        let invoked = self.cloud.functions.invoke(arn, kind, event.to_string().into()).await?;
        let (status, headers, body) = url::answer(&invoked);
        Ok(Answer { status, headers, body })
    }

    /// A resource service: judged by its real action and resources, performed by the emulator that holds its state.
    async fn resource(
        &self,
        incoming: &Incoming,
        family: &'static Family,
        outcome: &mut Outcome,
    ) -> Result<Answer, AwsError> {
        let authority = &self.cloud.shared.authority;
        let caller = authority.caller(&incoming.scope.access_key_id).await?;
        let call = authority.request(family.models, incoming.for_botocore()).await?;
        outcome.operation = Some(call.operation.clone());
        let place = Place {
            caller: &caller,
            region: &incoming.scope.region,
            method: incoming.method.as_str(),
            path: &incoming.path,
        };
        let wanted = self.actions.wanted(family, &call, &place)?;
        let (action, resources) = (wanted.action, wanted.resources);
        if family.server == Server::MiniStack {
            let orders = BASE64.encode(json!({ "action": action, "resources": resources }).to_string());
            let private = [("x-lab", orders.as_str()), ("x-lab-token", authority.token())];
            let mut answer = self.forward(incoming, authority.base(), &private).await?;
            outcome.note(&mut answer);
            return Ok(answer);
        }
        let service = family.models[0];
        let mut passed = Vec::new();
        if let Some((role, to)) = resources::passed(family, &call) {
            let context = json!({ "iam:passedtoservice": to });
            let orders = json!({
                "judge_only": true, "service": "iam", "action": "iam:PassRole", "resources": [role], "context": context });
            if let Some(refused) = self.judge(incoming, orders, outcome).await? {
                return Ok(refused);
            }
            passed = std::mem::take(&mut outcome.checks);
        }
        let orders = json!({ "judge_only": true, "service": service, "action": action, "resources": resources });
        if let Some(refused) = self.judge(incoming, orders, outcome).await? {
            return Ok(refused);
        }
        outcome.checks.extend(passed);
        let mut answer = self.forward(incoming, &self.moto, &[("x-moto-account-id", &caller.account)]).await?;
        let page =
            answer.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        if page && !answer.status.is_success() {
            // moto's page for a call that it lacks or stumbles over. Not 500: nobody shall try again.
            let message = format!("moto does not perform {service}:{} (its log, moto.log, says why)", call.operation);
            return Err(AwsError { status: 501, code: "LabNotImplemented".to_owned(), message });
        }
        let completes = |own: &&Arc<dyn Service>| own.name() == family.scope && own.completes(&call.operation);
        if answer.status.is_success()
            && let Some(own) = self.services.iter().find(completes)
            && let Ok(mut told) = serde_json::from_slice(&answer.body)
        {
            let mut request = incoming.for_service(caller, call.operation);
            request.body = json!(call.parameters);
            own.complete(request, &mut told, self.cloud.clone()).await?;
            answer.body = Bytes::from(told.to_string());
        }
        Ok(answer)
    }

    async fn base(&self, incoming: &Incoming, outcome: &mut Outcome) -> Result<Answer, AwsError> {
        let mut answer = self.forward(incoming, self.cloud.shared.authority.base(), &[]).await?;
        outcome.note(&mut answer);
        Ok(answer)
    }

    /// The base emulator's verdict on a request that is served elsewhere: its refusal, or `None` when it may go on.
    async fn judge(
        &self,
        incoming: &Incoming,
        orders: Value,
        outcome: &mut Outcome,
    ) -> Result<Option<Answer>, AwsError> {
        let authority = &self.cloud.shared.authority;
        let orders = BASE64.encode(orders.to_string());
        let mut answer =
            self.forward(incoming, authority.base(), &[("x-lab", &orders), ("x-lab-token", authority.token())]).await?;
        outcome.note(&mut answer);
        let allowed = answer.headers.remove("x-lab-allowed").is_some();
        Ok(if allowed { None } else { Some(answer) })
    }

    async fn forward(&self, incoming: &Incoming, to: &str, extra: &[(&str, &str)]) -> Result<Answer, AwsError> {
        let mut request = self.http.request(incoming.method.clone(), format!("{to}{}", incoming.raw_path_and_query));
        for (name, value) in &incoming.headers {
            if !HOP_BY_HOP.contains(&name.as_str()) && !PRIVATE.contains(&name.as_str()) {
                request = request.header(name, value);
            }
        }
        // An S3 client signs the length of nothing, too.
        if incoming.body.is_empty()
            && let Some(length) = incoming.headers.get(header::CONTENT_LENGTH)
        {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        // Policies ask for TLS. On AWS it is always there; here only a client that says otherwise is without.
        if !incoming.headers.contains_key(FORWARDED_PROTO) {
            request = request.header(FORWARDED_PROTO, "https");
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let answered = async {
            let response = request.body(incoming.body.clone()).send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok::<_, reqwest::Error>(Answer { status, headers, body: response.bytes().await? })
        };
        answered.await.map_err(|error| AwsError {
            status: 502,
            code: "ServiceUnavailable".to_owned(),
            message: format!("the lab's emulator did not answer: {error}"),
        })
    }

    fn note(
        &self,
        incoming: &Incoming,
        outcome: &Outcome,
        answer: Option<&Answer>,
        (at, started): (Timestamp, Instant),
    ) {
        let scope = &incoming.scope;
        let first = outcome.checks.first();
        let caller = first.map(|noted| (&noted.principal, &noted.account));
        let caller = caller.or(outcome.caller.as_ref().map(|caller| (&caller.arn, &caller.account)));
        let operation = outcome.operation().unwrap_or_else(|| format!("{} {}", incoming.method, incoming.path));
        let status = answer.map_or(0, |answer| answer.status.as_u16());
        let done = answer.filter(|_| (200..400).contains(&status));
        let refused =
            status == StatusCode::FORBIDDEN.as_u16() || outcome.checks.iter().any(|noted| !noted.check.allowed);
        if done.is_some()
            && CACHED_FROM.contains(&scope.service.as_str())
            && (scope.service == "cloudformation" || !only_reads(&operation))
        {
            self.cloud.shared.changed(first.map_or("", |noted| &noted.account), &scope.region);
        }
        // Pollers ask all the time: an empty answer would drown the record.
        let empty = |done: &Answer| !contains(&done.body, b"\"Messages\"") && !contains(&done.body, b"<Message>");
        if operation == "ReceiveMessage" && done.is_some_and(empty) {
            return;
        }
        self.cloud.shared.record.add_call(Call {
            seq: 0,
            at,
            principal: caller.map(|(arn, _)| arn.clone()).unwrap_or_default(),
            account: caller.map(|(_, account)| account.clone()).unwrap_or_default(),
            function: self.cloud.functions.environments.holder(&scope.access_key_id).map(|held| held.function.clone()),
            region: scope.region.clone(),
            service: scope.service.clone(),
            operation,
            checks: outcome.checks.iter().map(|noted| noted.check.clone()).collect(),
            verdict: if refused { Verdict::Deny } else { Verdict::Allow },
            status,
            error: answer.filter(|_| status >= 400).and_then(error_code),
            micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            fault: outcome.fault.clone(),
        });
    }
}

impl Outcome {
    fn note(&mut self, answer: &mut Answer) {
        let noted = answer.headers.remove("x-lab-checks");
        let decoded = noted.and_then(|value| BASE64.decode(value.as_bytes()).ok());
        self.checks = decoded.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    }

    /// What the request turned out to be, by itself or by the checks that were made.
    fn operation(&self) -> Option<String> {
        let checked = || {
            let noted = self.checks.first()?;
            let action = || noted.check.action.split_once(':').map(|(_, name)| name.to_owned());
            noted.operation.clone().or_else(action)
        };
        self.operation.clone().or_else(checked)
    }
}

impl Incoming {
    async fn read(request: HttpRequest) -> Result<Self, String> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, LARGEST_BODY).await.map_err(|error| error.to_string())?;
        let raw_path_and_query = parts.uri.path_and_query().map_or("/", |raw| raw.as_str()).to_owned();
        let query = form(parts.uri.query().unwrap_or_default());
        let scope = Scope::of(&parts.headers, &query);
        let path = decoded(parts.uri.path(), false);
        Ok(Self { method: parts.method, path, raw_path_and_query, query, headers: parts.headers, body, scope })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The path as it came: what stands for one part of it may hold a slash, which is escaped.
    fn raw_path(&self) -> &str {
        self.raw_path_and_query.split('?').next().unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The operation, where the request itself names it.
    fn named_operation(&self) -> Option<String> {
        if let Some((_, operation)) = self.header("x-amz-target").rsplit_once('.') {
            return Some(operation.to_owned());
        }
        if let Some(action) = self.query.get("Action") {
            return Some(action.clone());
        }
        if self.is_form() {
            return self.form().remove("Action");
        }
        None
    }

    /// Everything that the request says, as plain text.
    fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let body = if self.is_form() { decoded(&body, true) } else { body.into_owned() };
        format!("{}\n{body}", decoded(&self.raw_path_and_query, true))
    }

    fn form(&self) -> BTreeMap<String, String> {
        form(&String::from_utf8_lossy(&self.body))
    }

    fn is_form(&self) -> bool {
        self.header("content-type").starts_with("application/x-www-form-urlencoded")
    }

    /// What stands around an error's code in the XML protocols: EC2's, S3's and the query protocol.
    fn xml_around_errors(&self) -> Option<(&'static str, &'static str)> {
        match self.scope.service.as_str() {
            "ec2" => Some(("<Response><Errors><Error>", "</Error></Errors></Response>")),
            "s3" => Some(("<Error>", "</Error>")),
            "cloudfront" => Some(("<ErrorResponse><Error><Type>Sender</Type>", "</Error></ErrorResponse>")),
            _ if self.is_form() => Some(("<ErrorResponse><Error><Type>Sender</Type>", "</Error></ErrorResponse>")),
            _ => None,
        }
    }

    /// Which of an SDK's attempts at a call this is: `attempt=2; max=3`.
    fn attempt(&self) -> u32 {
        let said = self.header("amz-sdk-request").split(';').find_map(|part| part.trim().strip_prefix("attempt="));
        said.and_then(|number| number.parse().ok()).unwrap_or(1)
    }

    /// The name or ARN in the path of a Lambda `Invoke`.
    fn invoked_function(&self) -> Option<String> {
        let name = self.path.strip_prefix("/2015-03-31/functions/")?.strip_suffix("/invocations")?;
        (self.method == Method::POST).then(|| name.to_owned())
    }

    /// What botocore's models need to tell the operation and its parameters.
    fn for_botocore(&self) -> Value {
        json!({
            "method": self.method.as_str(),
            "path": self.raw_path_and_query,
            "target": self.header("x-amz-target"),
            "content_type": self.header("content-type"),
            "body": BASE64.encode(&self.body),
        })
    }

    fn for_service(&self, caller: Caller, operation: String) -> Request {
        Request {
            caller,
            region: self.scope.region.clone(),
            service: self.scope.service.clone(),
            operation,
            method: self.method.to_string(),
            path: self.path.clone(),
            query: self.query.clone(),
            body: if self.is_form() { query::parameters(&self.form()) } else { self.json() },
        }
    }

    /// What a service of the lab's own answers, in the protocol of the request.
    fn answer(&self, operation: &str, body: &Value) -> Answer {
        if !self.is_form() {
            return json_answer(StatusCode::OK, body, self);
        }
        let version = self.form().remove("Version").unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        headers.insert(HeaderName::from_static("x-amzn-requestid"), request_id());
        let text = query::answer(operation, &self.scope.service, &version, body);
        Answer { status: StatusCode::OK, headers, body: Bytes::from(text) }
    }
}

impl Scope {
    /// `AKID/20260101/eu-central-1/ssm/aws4_request`, from the header or a presigned query.
    fn of(headers: &HeaderMap, query: &BTreeMap<String, String>) -> Self {
        let authorization =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let from_header =
            authorization.split_once("Credential=").map(|(_, rest)| rest.split([',', ' ']).next().unwrap_or_default());
        let credential = from_header.or_else(|| query.get("X-Amz-Credential").map(String::as_str)).unwrap_or_default();
        let fields: Vec<&str> = credential.split('/').collect();
        match fields[..] {
            [key, _date, region, service, _end] => {
                Self { access_key_id: key.to_owned(), region: region.to_owned(), service: service.to_owned() }
            }
            _ => Self::default(),
        }
    }
}

impl Answer {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        for (name, value) in &self.headers {
            // The answer to a HEAD states a length of which it carries nothing.
            let length_of_nothing = name == header::CONTENT_LENGTH && self.body.is_empty();
            if (!HOP_BY_HOP.contains(&name.as_str()) || length_of_nothing) && !PRIVATE.contains(&name.as_str()) {
                response.headers_mut().append(name, value.clone());
            }
        }
        response
    }
}

fn json_answer(status: StatusCode, body: &Value, incoming: &Incoming) -> Answer {
    let asked = incoming.header("content-type");
    let content_type = if asked.starts_with("application/x-amz-json") { asked } else { "application/json" };
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/json")),
    );
    headers.insert(HeaderName::from_static("x-amzn-requestid"), request_id());
    Answer { status, headers, body: Bytes::from(body.to_string()) }
}

/// An error in the protocol of the request.
fn error_answer(error: &AwsError, incoming: Option<&Incoming>) -> Answer {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-amzn-requestid"), request_id());
    if let Some((open, close)) = incoming.and_then(Incoming::xml_around_errors) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        let (code, message) = (escaped(&error.code), escaped(&error.message));
        let body = format!("{open}<Code>{code}</Code><Message>{message}</Message>{close}");
        return Answer { status, headers, body: Bytes::from(body) };
    }
    let content_type = if incoming.is_some_and(|incoming| !incoming.header("x-amz-target").is_empty()) {
        "application/x-amz-json-1.1"
    } else {
        "application/json"
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(code) = HeaderValue::from_str(&error.code) {
        headers.insert(HeaderName::from_static("x-amzn-errortype"), code);
    }
    let body = json!({ "__type": error.code, "message": error.message, "Message": error.message });
    Answer { status, headers, body: Bytes::from(body.to_string()) }
}

fn request_id() -> HeaderValue {
    HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("lab"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The error code in an answer of any protocol.
fn error_code(answer: &Answer) -> Option<String> {
    let told = answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let code = told.or_else(|| {
        let text = String::from_utf8_lossy(&answer.body);
        if let Ok(body) = serde_json::from_str::<Value>(&text) {
            return body["__type"].as_str().or(body["code"].as_str()).map(str::to_owned);
        }
        let (_, rest) = text.split_once("<Code>")?;
        Some(rest.split_once("</Code>")?.0.to_owned())
    })?;
    let name = code.rsplit('#').next().unwrap_or(&code);
    Some(name.split(':').next().unwrap_or(name).to_owned())
}

fn only_reads(operation: &str) -> bool {
    const READS: [&str; 6] = ["BatchGet", "Get", "List", "Describe", "Receive", "Send"];
    READS.iter().any(|verb| operation.starts_with(verb))
        || matches!(operation, "DeleteMessage" | "Invoke" | "Publish" | "PutEvents" | "TestEventPattern")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// `application/x-www-form-urlencoded`; the first of a repeated name counts.
fn form(text: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.entry(decoded(name, true)).or_insert_with(|| decoded(value, true));
    }
    pairs
}

fn decoded(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let value = escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        at += if value.is_some() { 3 } else { 1 };
        plain.push(value.unwrap_or(if byte == b'+' && plus_is_space { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_is_read_from_the_header_and_from_a_presigned_query() {
        let expected =
            Scope { access_key_id: "ASIAX".to_owned(), region: "eu-central-1".to_owned(), service: "ssm".to_owned() };
        let mut headers = HeaderMap::new();
        let signed = "AWS4-HMAC-SHA256 Credential=ASIAX/20260101/eu-central-1/ssm/aws4_request, SignedHeaders=host, Signature=00";
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(signed));
        assert_eq!(Scope::of(&headers, &BTreeMap::new()), expected);
        let query = form("X-Amz-Credential=ASIAX%2F20260101%2Feu-central-1%2Fssm%2Faws4_request");
        assert_eq!(Scope::of(&HeaderMap::new(), &query), expected);
        assert_eq!(Scope::of(&HeaderMap::new(), &BTreeMap::new()), Scope::default());
    }

    #[test]
    fn an_error_code_is_found_in_every_protocol() {
        let answer = |body: &'static str| Answer {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: Bytes::from(body),
        };
        for body in [
            r#"{"__type":"com.amazonaws#Throttled"}"#,
            "<Error><Code>Throttled</Code></Error>",
            r#"{"__type":"Throttled:http://x"}"#,
        ] {
            assert_eq!(error_code(&answer(body)).as_deref(), Some("Throttled"), "{body}");
        }
    }

    #[test]
    fn percent_escapes_are_decoded_and_broken_ones_kept() {
        assert_eq!(decoded("a%3Ab%2", false), "a:b%2");
        assert_eq!(
            form("A=1+2&A=3&B").into_iter().collect::<Vec<_>>(),
            [("A".into(), "1 2".into()), ("B".into(), String::new())]
        );
    }
}
