//! How another process steers a running lab: break something, ask how it stands, stop it.
//!
//! Served beside the gateway on a port of its own, on loopback, and only for whoever has the token: a web page in
//! the same machine's browser must not break things. What is steered is behind [`Steered`]; this knows only HTTP.
//! What the lab does with its own [`Aws`], another process does by [`RemoteCall`] and [`RemoteEvent`].

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::service::{Aws, AwsError, Credentials};

/// The header that carries the token.
pub const TOKEN_HEADER: &str = "x-redress-lab-token";

/// What can be steered.
#[async_trait]
pub trait Steered: Send + Sync {
    /// What can be broken: a list.
    fn scenarios(&self) -> Value;

    /// Breaks it in this account (or one that the lab chooses) and lets the lab's Config notice. What was broken, or why it was not.
    async fn break_it(&self, scenario: &str, account: Option<&str>) -> Result<Value, String>;

    /// How everything stands.
    async fn status(&self) -> Value;

    /// The lab's AWS.
    fn aws(&self) -> Arc<dyn Aws>;
}

/// [`Aws::call`] by another process: the body of `/call`. The answer is a `Result` as serde writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteCall {
    /// Who calls.
    pub credentials: Credentials,
    /// Where.
    pub region: String,
    /// By botocore's name: `s3`.
    pub service: String,
    /// By botocore's name: `PutPublicAccessBlock`.
    pub operation: String,
    /// The API's parameters.
    pub parameters: Value,
}

/// [`Aws::emit`] by another process: the body of `/emit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteEvent {
    /// On whose default bus.
    pub account: String,
    /// Where.
    pub region: String,
    /// `aws.guardduty`.
    pub source: String,
    /// `GuardDuty Finding`.
    pub detail_type: String,
    /// The ARNs of what it is about.
    pub resources: Vec<String>,
    /// What it says.
    pub detail: Value,
}

/// The control endpoint of a running lab. It ends when this is dropped.
pub struct Control {
    /// Its URL.
    pub url: String,
    /// What a caller must send as [`TOKEN_HEADER`].
    pub token: String,
    stopped: Arc<Notify>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    steered: Arc<dyn Steered>,
    token: Arc<str>,
    stopped: Arc<Notify>,
}

impl Control {
    /// Serves on a free port.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn serve(steered: Arc<dyn Steered>) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let token = hex::encode(rand::rng().random::<[u8; 16]>());
        let stopped = Arc::new(Notify::new());
        let shared = Shared { steered, token: token.as_str().into(), stopped: stopped.clone() };
        let router = Router::new()
            .route("/scenarios", get(async |State(shared): State<Shared>| axum::Json(shared.steered.scenarios())))
            .route("/status", get(async |State(shared): State<Shared>| axum::Json(shared.steered.status().await)))
            .route("/break", post(break_it))
            .route("/call", post(call))
            .route("/emit", post(emit))
            .route("/stop", post(stop))
            .layer(from_fn_with_state(shared.clone(), authenticate))
            .with_state(shared);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the lab's control endpoint ended");
            }
        });
        Ok(Self { url, token, stopped, server })
    }

    /// Waits until somebody asks the lab to stop.
    pub async fn stopped(&self) {
        self.stopped.notified().await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn authenticate(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let given = request.headers().get(TOKEN_HEADER).and_then(|value| value.to_str().ok());
    if given == Some(&*shared.token) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, axum::Json(json!({ "error": "the token in .lab/lab.json is asked for" })))
            .into_response()
    }
}

#[derive(Deserialize)]
struct Break {
    scenario: String,
    account: Option<String>,
}

async fn break_it(State(shared): State<Shared>, axum::Json(asked): axum::Json<Break>) -> Response {
    match shared.steered.break_it(&asked.scenario, asked.account.as_deref()).await {
        Ok(broken) => axum::Json(broken).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, axum::Json(json!({ "error": error }))).into_response(),
    }
}

async fn call(
    State(shared): State<Shared>,
    axum::Json(asked): axum::Json<RemoteCall>,
) -> axum::Json<Result<Value, AwsError>> {
    let (aws, RemoteCall { credentials, region, service, operation, parameters }) = (shared.steered.aws(), asked);
    let answer = aws.call(&credentials, &region, &service, &operation, parameters).await;
    axum::Json(answer)
}

async fn emit(State(shared): State<Shared>, axum::Json(event): axum::Json<RemoteEvent>) -> axum::Json<Value> {
    let (aws, RemoteEvent { account, region, source, detail_type, resources, detail }) = (shared.steered.aws(), event);
    aws.emit(&account, &region, &source, &detail_type, resources, detail).await;
    axum::Json(json!({ "emitted": true }))
}

async fn stop(State(shared): State<Shared>) -> axum::Json<Value> {
    shared.stopped.notify_one();
    axum::Json(json!({ "stopping": true }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::services::fake::FakeAws;

    struct Fake(Arc<FakeAws>);

    impl Fake {
        fn new() -> Arc<Self> {
            let fake = FakeAws::new(|service, operation, _| match operation {
                "GetUser" => Ok(json!({ "User": { "UserName": "jo" } })),
                _ => Err(AwsError::new("NoSuchEntity", format!("{service}:{operation}"))),
            });
            Arc::new(Self(Arc::new(fake)))
        }
    }

    #[async_trait]
    impl Steered for Fake {
        fn scenarios(&self) -> Value {
            json!(["one"])
        }

        async fn break_it(&self, scenario: &str, account: Option<&str>) -> Result<Value, String> {
            if scenario == "one" { Ok(json!({ "Account": account })) } else { Err(format!("no scenario `{scenario}`")) }
        }

        async fn status(&self) -> Value {
            json!({})
        }

        fn aws(&self) -> Arc<dyn Aws> {
            self.0.clone()
        }
    }

    async fn ask(control: &Control, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}{path}", control.url);
        let request = match body {
            Some(body) => http.post(url).json(&body),
            None => http.get(url),
        };
        let answer = request.header(TOKEN_HEADER, token).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    #[tokio::test]
    async fn nothing_is_answered_without_the_token() {
        let control = Control::serve(Fake::new()).await.unwrap();
        for (path, body) in
            [("/scenarios", None), ("/status", None), ("/break", Some(json!({}))), ("/stop", Some(json!({})))]
        {
            assert_eq!(ask(&control, path, "wrong", body).await.0, 403, "{path}");
        }
        for path in ["/call", "/emit"] {
            assert_eq!(ask(&control, path, "wrong", Some(json!({}))).await.0, 403, "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_broken_is_said_and_what_cannot_be_too() {
        let control = Control::serve(Fake::new()).await.unwrap();
        let good =
            ask(&control, "/break", &control.token, Some(json!({ "scenario": "one", "account": "222222222222" })))
                .await;
        assert_eq!(good, (200, json!({ "Account": "222222222222" })));
        let bad = ask(&control, "/break", &control.token, Some(json!({ "scenario": "two" }))).await;
        assert_eq!(bad, (400, json!({ "error": "no scenario `two`" })));
    }

    #[tokio::test]
    async fn another_process_calls_and_emits_as_the_lab_does() {
        let fake = Fake::new();
        let control = Control::serve(fake.clone()).await.unwrap();
        let call = |operation: &str| RemoteCall {
            credentials: Credentials::root("222222222222"),
            region: "us-east-1".to_owned(),
            service: "iam".to_owned(),
            operation: operation.to_owned(),
            parameters: json!({ "UserName": "jo" }),
        };
        let good = ask(&control, "/call", &control.token, Some(json!(call("GetUser")))).await;
        assert_eq!(good, (200, json!({ "Ok": { "User": { "UserName": "jo" } } })));
        let (status, bad) = ask(&control, "/call", &control.token, Some(json!(call("GetRole")))).await;
        let bad: Result<Value, AwsError> = serde_json::from_value(bad).unwrap();
        assert_eq!((status, bad), (200, Err(AwsError::new("NoSuchEntity", "iam:GetRole"))));
        let asked = ("222222222222".to_owned(), "iam:GetUser".to_owned(), json!({ "UserName": "jo" }));
        assert_eq!(fake.0.calls().first(), Some(&asked));

        let event = RemoteEvent {
            account: "222222222222".to_owned(),
            region: "us-east-1".to_owned(),
            source: "aws.guardduty".to_owned(),
            detail_type: "GuardDuty Finding".to_owned(),
            resources: Vec::new(),
            detail: json!({ "type": "x" }),
        };
        assert_eq!(ask(&control, "/emit", &control.token, Some(json!(event))).await.0, 200);
        let told = fake.0.events();
        assert_eq!((&told[0]["source"], &told[0]["detail"]["type"]), (&json!("aws.guardduty"), &json!("x")));
    }

    #[tokio::test]
    async fn whoever_asks_to_stop_is_heard_even_before_anybody_waits() {
        let control = Control::serve(Fake::new()).await.unwrap();
        ask(&control, "/stop", &control.token, Some(json!({}))).await;
        control.stopped().await;
    }
}
