//! A lab that another process keeps running: how it is found, and how it is talked to.
//!
//! `.lab/lab.json` is written by `redress lab up` and removed when it ends. Nothing uses it unasked: the commands
//! that work on AWS see the lab only through the environment that `redress lab env` prints.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use redress_common::ids::{AccountId, Region};
use redress_lab::control::{RemoteCall, RemoteEvent, TOKEN_HEADER};
use redress_lab::record::Call;
use redress_lab::service::{Aws, AwsError, Caller, Credentials};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::Problem;

/// What `.lab/lab.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Running {
    /// For `AWS_ENDPOINT_URL`.
    pub(crate) endpoint: String,
    /// Where the lab is steered.
    pub(crate) control: String,
    /// What steering it takes.
    pub(crate) token: String,
    /// Where Redress is deployed.
    pub(crate) region: Region,
    /// The administrator account.
    pub(crate) administrator: AccountId,
    /// The member accounts.
    pub(crate) members: Vec<AccountId>,
    /// What the members' trust policies ask for.
    pub(crate) external_id: String,
}

/// The repository: where the templates are, and `.lab`.
pub(crate) fn root() -> PathBuf {
    let is_root = |path: &Path| path.join("stacksets/administrator-stack.yaml").is_file();
    let here = std::env::current_dir().unwrap_or_default();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    here.ancestors().find(|path| is_root(path)).unwrap_or(built).to_owned()
}

fn file() -> PathBuf {
    root().join(".lab/lab.json")
}

impl Running {
    /// The lab that runs.
    pub(crate) fn find() -> Result<Self, Problem> {
        let file = file();
        let text = std::fs::read_to_string(&file).map_err(|_| {
            Problem::not_found("no lab is running").help("start one in another terminal: redress lab up")
        })?;
        serde_json::from_str(&text).map_err(|error| {
            Problem::aws(&format!("read {}", file.display()), &error)
                .help("remove it, and start the lab again: redress lab up")
        })
    }

    /// Says that this lab runs, until the guard is dropped.
    pub(crate) fn announce(&self) -> Result<Announced, Problem> {
        let file = file();
        let failed = |error: &dyn std::error::Error| Problem::aws(&format!("write {}", file.display()), error);
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        std::fs::write(&file, text).map_err(|error| failed(&error))?;
        Ok(Announced { file })
    }

    /// Every call that the lab has seen.
    pub(crate) async fn calls(&self) -> Result<Vec<Call>, Problem> {
        #[derive(Deserialize)]
        struct Record {
            calls: Vec<Call>,
        }
        let record: Record = self.answer(client()?.get(format!("{}/_lab/record", self.endpoint))).await?;
        Ok(record.calls)
    }

    /// What can be broken.
    pub(crate) async fn scenarios(&self) -> Result<Value, Problem> {
        self.answer(client()?.get(format!("{}/scenarios", self.control))).await
    }

    /// How everything stands.
    pub(crate) async fn status(&self) -> Result<Value, Problem> {
        self.answer(client()?.get(format!("{}/status", self.control))).await
    }

    /// Breaks something.
    pub(crate) async fn break_it(&self, scenario: &str, account: Option<&AccountId>) -> Result<Value, Problem> {
        let body = json!({ "scenario": scenario, "account": account });
        self.answer(client()?.post(format!("{}/break", self.control)).json(&body)).await
    }

    /// Stops it.
    pub(crate) async fn stop(&self) -> Result<Value, Problem> {
        self.answer(client()?.post(format!("{}/stop", self.control))).await
    }

    /// Puts an event of AWS's own on an account's default bus.
    pub(crate) async fn tell(&self, event: &RemoteEvent) -> Result<(), Problem> {
        let told: Result<Value, Problem> =
            self.answer(client()?.post(format!("{}/emit", self.control)).json(event)).await;
        told.map(drop)
    }

    async fn perform(&self, call: &RemoteCall) -> Result<Result<Value, AwsError>, Problem> {
        self.answer(client()?.post(format!("{}/call", self.control)).json(call)).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Problem> {
        let gone = |error: reqwest::Error| {
            Problem::not_found(format!("the lab of {} does not answer: {error}", file().display()))
                .help("it was ended without cleaning up; start it again: redress lab up")
        };
        let answer = request.header(TOKEN_HEADER, &self.token).send().await.map_err(gone)?;
        let good = answer.status().is_success();
        let body: Value = answer.json().await.map_err(gone)?;
        if !good {
            let said = body["error"].as_str().map_or_else(|| body.to_string(), str::to_owned);
            return Err(Problem::failed(format!("the lab says: {said}"))
                .help("`redress lab scenarios` lists what can be broken"));
        }
        serde_json::from_value(body).map_err(|error| Problem::aws("read what the lab says", &error))
    }
}

/// The lab's AWS, from outside its process.
#[async_trait]
impl Aws for Running {
    async fn session(&self, role_arn: &str, _: &str, service_principal: &str) -> Result<Credentials, AwsError> {
        Err(not_from_here(&format!("a session of {role_arn} for {service_principal}")))
    }

    async fn call(
        &self,
        credentials: &Credentials,
        region: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        let call = RemoteCall {
            credentials: credentials.clone(),
            region: region.to_owned(),
            service: service.to_owned(),
            operation: operation.to_owned(),
            parameters,
        };
        match self.perform(&call).await {
            Ok(answer) => answer,
            Err(problem) => {
                Err(AwsError { status: 503, code: "LabUnreachable".to_owned(), message: problem.to_string() })
            }
        }
    }

    async fn authorise(&self, _: &Caller, action: &str, _: &str, _: Value) -> Result<(), AwsError> {
        Err(not_from_here(&format!("the verdict on {action}")))
    }

    async fn emit(
        &self,
        account: &str,
        region: &str,
        source: &str,
        detail_type: &str,
        resources: Vec<String>,
        detail: Value,
    ) {
        let event = RemoteEvent {
            account: account.to_owned(),
            region: region.to_owned(),
            source: source.to_owned(),
            detail_type: detail_type.to_owned(),
            resources,
            detail,
        };
        if let Err(problem) = self.tell(&event).await {
            tracing::warn!("an event is lost: {}", problem.plain());
        }
    }
}

fn not_from_here(what: &str) -> AwsError {
    AwsError::new("LabNotImplemented", format!("{what} is given inside the lab's own process only"))
}

fn client() -> Result<reqwest::Client, Problem> {
    reqwest::Client::builder().no_proxy().build().map_err(|error| Problem::aws("talk to the lab", &error))
}

/// Removes `.lab/lab.json` when the lab ends.
pub(crate) struct Announced {
    file: PathBuf,
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Whoever finds it stale is told so.
        let _ = std::fs::remove_file(&self.file);
    }
}
