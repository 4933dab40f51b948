//! `redress-lab`: a whole organisation on one machine, for tests, demos and trying things out.
//!
//! A gateway on loopback is the one endpoint of every client. Behind it stand pinned emulators; in front
//! of them the lab answers what they lack ([`services`]). Nothing here is shipped to AWS.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt;

mod authority;
pub mod bed;
pub mod case;
mod cloud;
pub mod control;
pub mod deploy;
mod emulator;
pub mod events;
pub mod faults;
mod gateway;
mod lambda;
pub mod organisation;
pub mod record;
pub mod release;
mod resources;
pub mod scenario;
pub mod service;
pub mod services;
mod shared;
pub mod stack;
pub mod template;
mod venv;

pub use authority::Supposed;
use cloud::Cloud;
use emulator::Emulator;
use faults::{Deliveries, Faults};
use record::Record;
use service::{Aws, Service};
use shared::Shared;

/// Told what the lab is busy with, when that may take long.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What a lab is made of.
#[derive(Clone)]
pub struct LabOptions {
    /// The repository: virtual environments and logs go to `.lab` in it.
    pub root: PathBuf,
    /// The gateway's port; 0 for any free one.
    pub port: u16,
    /// The binary of each Lambda function, by the function's name.
    pub functions: BTreeMap<String, PathBuf>,
    /// The services that the lab answers itself.
    pub services: Vec<Arc<dyn Service>>,
    /// Told of slow steps.
    pub progress: Progress,
}

impl LabOptions {
    /// A silent lab on any port, without functions or services of its own.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            port: 0,
            functions: BTreeMap::new(),
            services: Vec::new(),
            progress: Arc::new(|_| ()),
        }
    }
}

/// Why a lab did not start.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file or directory of the lab.
    #[error("`{path}` cannot be used: {source}; check that the clone is writable and the disk not full")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No suitable interpreter.
    #[error("the lab's emulators need python 3.10 or later, but {found}; install it (`python3`), then try again")]
    NoPython {
        /// What there is instead.
        found: String,
    },
    /// A virtual environment could not be made.
    #[error("could not {what}; {advice}\n{output}")]
    Venv {
        /// The step.
        what: &'static str,
        /// What to do.
        advice: &'static str,
        /// The end of its output.
        output: String,
    },
    /// An emulator did not come up.
    #[error("the emulator {name} did not start; its log is `{log}`:\n{tail}")]
    Emulator {
        /// Which one.
        name: &'static str,
        /// Its log.
        log: PathBuf,
        /// The log's end.
        tail: String,
    },
    /// The gateway's port.
    #[error("port {port} on 127.0.0.1 cannot be opened: {source}; choose another one")]
    Port {
        /// Which one.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

impl LabError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

/// The answer to [`Lab::fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// HTTP status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// A running lab. Dropping it stops everything that it started; [`Lab::stop`] also waits for that.
pub struct Lab {
    cloud: Arc<Cloud>,
    emulators: Vec<Emulator>,
    tasks: tokio::task::JoinSet<()>,
    run: PathBuf,
}

impl Lab {
    /// Starts the emulators and the gateway.
    pub async fn start(options: LabOptions) -> Result<Self, LabError> {
        let home = options.root.join(".lab");
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", options.port)).await;
        let port = options.port;
        let (listener, port) = listener
            .and_then(|bound| bound.local_addr().map(|address| (bound, address.port())))
            .map_err(|source| LabError::Port { port, source })?;
        remove_leftovers(&home);
        let run = home.join(format!("run-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&run).map_err(|source| LabError::file(&run, source))?;

        let token = hex::encode(rand::rng().random::<[u8; 16]>());
        let (ministack, moto) = tokio::try_join!(
            Emulator::ministack(&home, &run, port, &token, &options.progress),
            Emulator::moto(&home, &run, &options.progress),
        )?;
        let http = http_client();
        let authority = authority::Authority::new(http.clone(), ministack.url.clone(), token);
        let shared = Arc::new(Shared::new(format!("http://127.0.0.1:{port}"), authority));
        let functions = Arc::new(lambda::Functions::new(shared.clone(), options.functions));
        let events = Arc::new(events::Events::new(shared.clone(), functions.clone()));
        let cloud = Arc::new(Cloud { shared, functions: functions.clone(), events });
        let gateway = gateway::Gateway {
            cloud: cloud.clone(),
            services: options.services,
            moto: moto.url.clone(),
            actions: resources::Actions::of_environment(&venv::directory(&home, &venv::MOTO))?,
            http,
        };

        let mut tasks = tokio::task::JoinSet::new();
        let router = gateway::router(Arc::new(gateway));
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the lab's gateway ended");
            }
        });
        let writers = functions.clone();
        tasks.spawn(async move { writers.write_logs().await });
        tasks.spawn(async move { lambda::event_source::poll(functions).await });
        Ok(Self { cloud, emulators: vec![ministack, moto], tasks, run })
    }

    /// The endpoint for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.cloud.shared.endpoint
    }

    /// What AWS itself can do in this lab.
    #[must_use]
    pub fn aws(&self) -> Arc<dyn Aws> {
        self.cloud.clone()
    }

    /// One HTTP request to a URL, such as a function's: signed for `service` with these credentials, unsigned
    /// without. A body is sent as JSON.
    ///
    /// # Errors
    /// When there is no answer; an HTTP error is an answer.
    pub async fn fetch(
        &self,
        credentials: Option<(&service::Credentials, &str, &str)>,
        method: &str,
        url: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Fetched, service::AwsError> {
        let mut request = serde_json::json!({ "method": method, "url": url, "body": body });
        if let Some((credentials, service, region)) = credentials {
            request["credentials"] = serde_json::json!(credentials);
            request["service"] = service.into();
            request["region"] = region.into();
        }
        let answer = self.cloud.shared.authority.fetch(request).await?;
        let body = answer["body"].as_str().unwrap_or_default().to_owned();
        let status = answer["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or_default();
        Ok(Fetched { status, body })
    }

    /// Whether a request that nobody makes would be allowed.
    ///
    /// # Errors
    /// When the base emulator does not answer.
    pub async fn judge(&self, supposed: &Supposed) -> Result<bool, service::AwsError> {
        self.cloud.shared.authority.judge(supposed).await
    }

    /// Everything that happened.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.cloud.shared.record
    }

    /// What goes wrong with calls on purpose.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.cloud.shared.faults
    }

    /// How messages and events are delivered otherwise than once and in order.
    #[must_use]
    pub fn deliveries(&self) -> &Deliveries {
        &self.cloud.shared.deliveries
    }

    /// What a function wrote to its log, line by line, oldest first.
    #[must_use]
    pub fn logs(&self, function: &str) -> Vec<String> {
        self.cloud.functions.logs(function)
    }

    /// Where the emulators' logs are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.run
    }

    /// Ends every function's idle processes: the next invocation of each is a cold start.
    pub fn cool_down(&self) {
        self.cloud.functions.stop();
    }

    /// Rules, functions or mappings were changed in a way that the gateway could not see.
    pub fn refresh(&self, account: &str, region: &str) {
        self.cloud.shared.changed(account, region);
    }

    /// Fires a scheduled rule of an account's default bus now. Its targets have accepted the event, whose id this is.
    ///
    /// # Errors
    /// When there is no such rule, or it has no schedule or is disabled.
    pub async fn fire_schedule(&self, account: &str, rule: &str) -> Result<String, service::AwsError> {
        self.cloud.events.fire(account, rule).await
    }

    /// From now on scheduled rules fire by the clock, as on AWS. Without this they wait for [`Lab::fire_schedule`]:
    /// a test wants no surprises.
    pub fn run_schedules(&mut self) {
        self.tasks.spawn(self.cloud.events.clone().run_schedules());
    }

    /// Stops the gateway, the functions and the emulators, and waits until they have ended.
    pub async fn stop(mut self) {
        self.cloud.shared.faults.clear();
        self.tasks.shutdown().await;
        self.cloud.functions.stop();
        for emulator in &mut self.emulators {
            emulator.stop().await;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.run) {
            tracing::debug!(%error, "the lab's run directory stays");
        }
    }
}

/// Removes the run directories of labs that were killed.
fn remove_leftovers(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("run-")?.split('-').next());
        let ended = pid.is_some_and(|pid| Path::new("/proc/self").exists() && !Path::new("/proc").join(pid).exists());
        if ended && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::debug!(%error, "a run directory stays");
        }
    }
}

fn http_client() -> reqwest::Client {
    let built = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    built.unwrap_or_default()
}
