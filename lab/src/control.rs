//! How another process steers a running lab: break something, ask how it stands, stop it.
//!
//! Served beside the gateway on a port of its own, on loopback, and only for whoever has the token: a web page in
//! the same machine's browser must not break things. What is steered is behind [`Steered`]; this knows only HTTP.

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
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

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

async fn stop(State(shared): State<Shared>) -> axum::Json<Value> {
    shared.stopped.notify_one();
    axum::Json(json!({ "stopping": true }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Fake;

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
        let control = Control::serve(Arc::new(Fake)).await.unwrap();
        for (path, body) in
            [("/scenarios", None), ("/status", None), ("/break", Some(json!({}))), ("/stop", Some(json!({})))]
        {
            assert_eq!(ask(&control, path, "wrong", body).await.0, 403, "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_broken_is_said_and_what_cannot_be_too() {
        let control = Control::serve(Arc::new(Fake)).await.unwrap();
        let good =
            ask(&control, "/break", &control.token, Some(json!({ "scenario": "one", "account": "222222222222" })))
                .await;
        assert_eq!(good, (200, json!({ "Account": "222222222222" })));
        let bad = ask(&control, "/break", &control.token, Some(json!({ "scenario": "two" }))).await;
        assert_eq!(bad, (400, json!({ "error": "no scenario `two`" })));
    }

    #[tokio::test]
    async fn whoever_asks_to_stop_is_heard_even_before_anybody_waits() {
        let control = Control::serve(Arc::new(Fake)).await.unwrap();
        ask(&control, "/stop", &control.token, Some(json!({}))).await;
        control.stopped().await;
    }
}
