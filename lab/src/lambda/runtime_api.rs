//! The Lambda runtime API (2018-06-01), one server for one process.
//!
//! It hands over one piece of work at a time. It knows HTTP and nothing of functions, roles or AWS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::AbortHandle;

use super::process::Process;

/// One invocation as the process is told of it.
pub(super) struct Work {
    pub(super) request_id: String,
    pub(super) arn: String,
    /// Unix milliseconds.
    pub(super) deadline: i64,
    pub(super) payload: Bytes,
}

/// How an invocation ended.
pub(super) enum Outcome {
    /// The function answered.
    Answer(Bytes),
    /// The function reported an error, or its initialisation did.
    Error(Bytes),
    /// The process ended; why.
    Ended(String),
    /// The process took too long.
    TimedOut,
}

/// The server's side that the lab holds; dropping it stops the server.
pub(super) struct RuntimeApi {
    address: SocketAddr,
    work: mpsc::Sender<Work>,
    reports: mpsc::Receiver<Report>,
    ready: watch::Receiver<Option<Instant>>,
    server: AbortHandle,
}

enum Report {
    Answer(String, Bytes),
    Error(String, Bytes),
    InitError(Bytes),
}

struct Server {
    work: Mutex<mpsc::Receiver<Work>>,
    reports: mpsc::Sender<Report>,
    ready: watch::Sender<Option<Instant>>,
}

impl RuntimeApi {
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (work, work_out) = mpsc::channel(1);
        let (reports_in, reports) = mpsc::channel(4);
        let (ready_in, ready) = watch::channel(None);
        let server = Server { work: Mutex::new(work_out), reports: reports_in, ready: ready_in };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answer))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .with_state(Arc::new(server));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, work, reports, ready, server: serving.abort_handle() })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// When the process first asked for work; `None` when it ended or took longer than `limit`.
    pub(super) async fn ready(&mut self, process: &Process, limit: Duration) -> Option<Instant> {
        tokio::select! {
            ready = self.ready.wait_for(Option::is_some) => ready.ok().and_then(|at| *at),
            _ = process.ended() => None,
            () = tokio::time::sleep(limit) => None,
        }
    }

    /// Gives the process one piece of work and waits for how it ends.
    pub(super) async fn hand_over(&mut self, work: Work, process: &Process, limit: Duration) -> Outcome {
        let request_id = work.request_id.clone();
        if self.work.try_send(work).is_err() {
            return Outcome::Ended("the runtime did not take the event".to_owned());
        }
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                report = self.reports.recv() => match report {
                    Some(Report::Answer(id, payload)) if id == request_id => return Outcome::Answer(payload),
                    Some(Report::Error(id, payload)) if id == request_id => return Outcome::Error(payload),
                    Some(Report::InitError(payload)) => return Outcome::Error(payload),
                    Some(_) => {}
                    None => return Outcome::Ended("the runtime API stopped".to_owned()),
                },
                reason = process.ended() => {
                    // A report may have come in just before the end.
                    return match self.reports.try_recv() {
                        Ok(Report::InitError(payload) | Report::Error(_, payload)) => Outcome::Error(payload),
                        _ => Outcome::Ended(reason),
                    };
                }
                () = &mut deadline => return Outcome::TimedOut,
            }
        }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(server): State<Arc<Server>>) -> Response {
    server.ready.send_if_modified(|ready| ready.is_none().then(|| *ready = Some(Instant::now())).is_some());
    let Some(work) = server.work.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let trace = format!("Root=1-{:08x}-{};Sampled=0", work.deadline / 1000, &work.request_id.replace('-', "")[..24]);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", work.request_id.clone()),
        ("lambda-runtime-deadline-ms", work.deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", work.arn.clone()),
        ("lambda-runtime-trace-id", trace),
        ("content-type", "application/json".to_owned()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    (headers, work.payload).into_response()
}

async fn answer(State(server): State<Arc<Server>>, Path(id): Path<String>, payload: Bytes) -> StatusCode {
    server.report(Report::Answer(id, payload)).await
}

async fn error(State(server): State<Arc<Server>>, Path(id): Path<String>, payload: Bytes) -> StatusCode {
    server.report(Report::Error(id, payload)).await
}

async fn init_error(State(server): State<Arc<Server>>, payload: Bytes) -> StatusCode {
    server.report(Report::InitError(payload)).await
}

impl Server {
    async fn report(&self, report: Report) -> StatusCode {
        match self.reports.send(report).await {
            Ok(()) => StatusCode::ACCEPTED,
            Err(_) => StatusCode::GONE,
        }
    }
}
