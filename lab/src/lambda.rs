//! Lambda: the project's own binaries, run as child processes over the real runtime API.
//!
//! Functions are defined in the base emulator; here they run, with their role's session and their declared
//! environment and nothing else. A process serves one invocation at a time and is kept warm.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use crate::record::Invocation;
use crate::service::{AwsError, Credentials};
use crate::shared::{Arn, Shared};

mod asynchronous;
pub(crate) mod event_source;
mod log_group;
pub(crate) mod process;
mod runtime_api;
pub(crate) mod url;

use log_group::{LogGroup, Stream};
use process::{Environments, Keeper, Process};
use runtime_api::{Outcome, RuntimeApi, Work};

const PRINCIPAL: &str = "lambda.amazonaws.com";
const LOG_LINES: usize = 10_000;
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// How the caller wants to invoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvocationType {
    /// Wait for the answer.
    RequestResponse,
    /// Accept and try up to three times.
    Event,
    /// Only check that the call is allowed.
    DryRun,
}

impl InvocationType {
    pub(crate) fn parse(header: Option<&str>) -> Result<Self, AwsError> {
        match header {
            None | Some("RequestResponse") => Ok(Self::RequestResponse),
            Some("Event") => Ok(Self::Event),
            Some("DryRun") => Ok(Self::DryRun),
            Some(other) => {
                Err(AwsError::new("InvalidParameterValueException", format!("invalid invocation type: {other}")))
            }
        }
    }
}

/// What an invocation answers.
pub(crate) struct Invoked {
    pub(crate) status: StatusCode,
    /// `X-Amz-Function-Error`.
    pub(crate) error: Option<&'static str>,
    pub(crate) payload: Bytes,
}

/// The functions of every account.
pub(crate) struct Functions {
    shared: Arc<Shared>,
    /// Who calls AWS with which key.
    pub(crate) environments: Environments,
    binaries: BTreeMap<String, PathBuf>,
    known: Mutex<HashMap<String, Known>>,
    warm: Mutex<HashMap<String, Vec<Instance>>>,
    logs: Mutex<HashMap<String, Arc<Mutex<VecDeque<String>>>>>,
    log_group: LogGroup,
}

/// A function's configuration, as of a generation.
#[derive(Clone)]
struct Known {
    read: Instant,
    generation: u64,
    configuration: Arc<Configuration>,
}

/// What a process is started from; a change of it means a new process.
#[derive(Debug, Clone, PartialEq)]
struct Configuration {
    arn: String,
    name: String,
    account: String,
    region: String,
    role: String,
    memory: u64,
    timeout: Duration,
    environment: BTreeMap<String, String>,
}

/// One process.
struct Instance {
    configuration: Arc<Configuration>,
    process: Arc<Process>,
    api: RuntimeApi,
    init: Option<Duration>,
    _keeper: Keeper,
}

impl Functions {
    pub(crate) fn new(shared: Arc<Shared>, binaries: BTreeMap<String, PathBuf>) -> Self {
        Self {
            shared,
            environments: Environments::default(),
            binaries,
            known: Mutex::default(),
            warm: Mutex::default(),
            logs: Mutex::default(),
            log_group: LogGroup::default(),
        }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.binaries.keys().map(String::as_str).collect()
    }

    /// The ARN of a function given by name, partial ARN or ARN.
    pub(crate) async fn arn(&self, account: &str, region: &str, function: &str) -> Result<String, AwsError> {
        if Arn::parse(function).is_some() {
            return Ok(unqualified(function).to_owned());
        }
        let found = self
            .shared
            .authority
            .look(account, region, "lambda", "GetFunctionConfiguration", json!({ "FunctionName": function }))
            .await?;
        Ok(found["FunctionArn"].as_str().map(unqualified).unwrap_or_default().to_owned())
    }

    /// Invokes a function by its ARN; the caller has been authorised.
    pub(crate) async fn invoke(
        self: &Arc<Self>,
        arn: &str,
        kind: InvocationType,
        payload: Bytes,
    ) -> Result<Invoked, AwsError> {
        let configuration = self.configuration(arn).await?;
        match kind {
            InvocationType::DryRun => {
                Ok(Invoked { status: StatusCode::NO_CONTENT, error: None, payload: Bytes::new() })
            }
            InvocationType::RequestResponse => self.run(configuration, payload).await,
            InvocationType::Event => {
                let functions = self.clone();
                tokio::spawn(async move { functions.run_event(configuration, payload).await });
                Ok(Invoked { status: StatusCode::ACCEPTED, error: None, payload: Bytes::new() })
            }
        }
    }

    /// What a function wrote, oldest first.
    pub(crate) fn logs(&self, function: &str) -> Vec<String> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.get(function)
            .map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Writes what the functions say to their log groups, until it is dropped.
    pub(crate) async fn write_logs(&self) {
        self.log_group.write(&self.shared).await;
    }

    /// Ends every idle process.
    pub(crate) fn stop(&self) {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn run(&self, configuration: Arc<Configuration>, payload: Bytes) -> Result<Invoked, AwsError> {
        let at = Timestamp::now();
        let (mut instance, cold) = match self.idle(&configuration) {
            Some(instance) => (instance, false),
            None => (self.start(configuration.clone()).await?, true),
        };
        let cpu_before = if cold { Some(0) } else { cpu_micros(instance.process.pid) };
        let request_id = uuid::Uuid::new_v4().to_string();
        let started = Instant::now();
        let outcome = instance.work(&request_id, payload).await;
        let took = started.elapsed();
        let (reusable, error, payload) = match outcome {
            Outcome::Answer(payload) => (true, None, payload),
            Outcome::Error(payload) => (true, Some("Unhandled"), payload),
            Outcome::Ended(reason) => {
                let told = json!({ "errorType": "Runtime.ExitError", "errorMessage": format!("RequestId: {request_id} Error: {reason}") });
                (false, Some("Unhandled"), Bytes::from(told.to_string()))
            }
            Outcome::TimedOut => {
                let seconds = configuration.timeout.as_secs_f64();
                let told = json!({ "errorType": "Sandbox.Timedout", "errorMessage": format!("RequestId: {request_id} Error: Task timed out after {seconds:.2} seconds") });
                (false, Some("Unhandled"), Bytes::from(told.to_string()))
            }
        };
        let pid = instance.process.pid;
        self.shared.record.add_invocation(Invocation {
            at,
            account: configuration.account.clone(),
            function: configuration.name.clone(),
            request_id,
            init_micros: if cold { instance.init.map(micros) } else { None },
            micros: micros(took),
            cpu_micros: cpu_micros(pid).zip(cpu_before).map(|(after, before)| after.saturating_sub(before)),
            max_rss_kib: max_rss_kib(pid),
            error: error.map(str::to_owned),
        });
        if reusable {
            let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
            warm.entry(configuration.arn.clone()).or_default().push(instance);
        }
        Ok(Invoked { status: StatusCode::OK, error, payload })
    }

    fn idle(&self, configuration: &Arc<Configuration>) -> Option<Instance> {
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = warm.get_mut(&configuration.arn)?;
        while let Some(instance) = pool.pop() {
            if instance.process.is_running() && instance.configuration == *configuration {
                return Some(instance);
            }
        }
        None
    }

    async fn start(&self, configuration: Arc<Configuration>) -> Result<Instance, AwsError> {
        let Some(binary) = self.binaries.get(&configuration.name) else {
            let message = format!(
                "the lab was given no binary for the function {}; name it in LabOptions::functions",
                configuration.name
            );
            return Err(AwsError { status: 502, code: "InvalidRuntimeException".to_owned(), message });
        };
        // One for the process and one for Lambda itself, which writes the log: a key tells who calls.
        let session = self.session(&configuration).await?;
        let stream = Stream::new(&configuration.name, &configuration.region, self.session(&configuration).await?);
        let api = RuntimeApi::start().await.map_err(|error| broken(&configuration, &error))?;
        let mut command = Command::new(binary);
        command
            .env_clear()
            .envs(&configuration.environment)
            .env("AWS_ACCESS_KEY_ID", &session.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", session.secret_access_key)
            .env("AWS_SESSION_TOKEN", session.session_token.unwrap_or_default())
            .env("AWS_REGION", &configuration.region)
            .env("AWS_DEFAULT_REGION", &configuration.region)
            .env("AWS_ENDPOINT_URL", &self.shared.endpoint)
            .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
            .env("AWS_LAMBDA_FUNCTION_NAME", &configuration.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", configuration.memory.to_string())
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", &stream.group)
            .env("AWS_LAMBDA_LOG_STREAM_NAME", &stream.name)
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .env("_HANDLER", "bootstrap")
            .env("LANG", "en_US.UTF-8")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin")
            .env("TZ", ":UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| broken(&configuration, &error))?;
        let log = self.log(&configuration.name);
        if let Some(out) = child.stdout.take() {
            keep(out, log.clone(), stream.lines.clone());
        }
        if let Some(err) = child.stderr.take() {
            keep(err, log, stream.lines.clone());
        }
        self.log_group.follow(stream);
        let (process, keeper) = Process::of(&configuration.name, child);
        self.environments.give(&session.access_key_id, process.clone());
        let mut instance = Instance { configuration, process, api, init: None, _keeper: keeper };
        // A process that does not come up is told by its first invocation, as Lambda does.
        instance.init =
            instance.api.ready(&instance.process, INIT_LIMIT).await.map(|ready| ready.duration_since(started));
        Ok(instance)
    }

    async fn session(&self, configuration: &Configuration) -> Result<Credentials, AwsError> {
        let session = self.shared.authority.session(&configuration.role, &configuration.name, PRINCIPAL, None).await;
        session.map_err(|error| AwsError {
            status: 403,
            code: "AccessDeniedException".to_owned(),
            message: format!("The role defined for the function cannot be assumed by Lambda. ({})", error.message),
        })
    }

    fn log(&self, function: &str) -> Arc<Mutex<VecDeque<String>>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(function.to_owned()).or_default().clone()
    }

    async fn configuration(&self, arn: &str) -> Result<Arc<Configuration>, AwsError> {
        let generation = self.shared.generation();
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(arn) {
                // CloudFormation works on after its call returned: nothing is believed for long.
                if known.generation == generation && known.read.elapsed() < Duration::from_secs(5) {
                    return Ok(known.configuration.clone());
                }
            }
        }
        let fields = Arn::parse(arn)
            .ok_or_else(|| AwsError::new("InvalidParameterValueException", format!("not a function ARN: {arn}")))?;
        let parameters = json!({ "FunctionName": arn });
        let found = self
            .shared
            .authority
            .look(fields.account, fields.region, "lambda", "GetFunctionConfiguration", parameters)
            .await?;
        let configuration = Arc::new(Configuration::of(&found, &fields, arn));
        let known = Known { read: Instant::now(), generation, configuration: configuration.clone() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(arn.to_owned(), known);
        Ok(configuration)
    }
}

impl Configuration {
    fn of(found: &Value, arn: &Arn<'_>, text: &str) -> Self {
        let variables = found["Environment"]["Variables"].as_object();
        let environment = variables
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        Self {
            arn: text.to_owned(),
            name: found["FunctionName"].as_str().unwrap_or_default().to_owned(),
            account: arn.account.to_owned(),
            region: arn.region.to_owned(),
            role: found["Role"].as_str().unwrap_or_default().to_owned(),
            memory: found["MemorySize"].as_u64().unwrap_or(128),
            timeout: Duration::from_secs(found["Timeout"].as_u64().unwrap_or(3)),
            environment: environment.collect(),
        }
    }
}

impl Instance {
    async fn work(&mut self, request_id: &str, payload: Bytes) -> Outcome {
        let deadline = Timestamp::now().as_millisecond()
            + i64::try_from(self.configuration.timeout.as_millis()).unwrap_or(i64::MAX);
        let work = Work { request_id: request_id.to_owned(), arn: self.configuration.arn.clone(), deadline, payload };
        let outcome = self.api.hand_over(work, &self.process, self.configuration.timeout).await;
        if matches!(outcome, Outcome::TimedOut) {
            self.process.kill().await;
        }
        outcome
    }
}

fn broken(configuration: &Configuration, error: &std::io::Error) -> AwsError {
    let message = format!("the function {} could not be started: {error}", configuration.name);
    AwsError { status: 502, code: "InvalidRuntimeException".to_owned(), message }
}

/// A function ARN without version or alias.
fn unqualified(arn: &str) -> &str {
    match arn.match_indices(':').nth(6) {
        Some((end, _)) => &arn[..end],
        None => arn,
    }
}

/// Keeps what a process writes for [`Functions::logs`], and for its log group.
fn keep(from: impl AsyncRead + Unpin + Send + 'static, log: Arc<Mutex<VecDeque<String>>>, group: log_group::Lines) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            group.push(&line);
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The largest resident set of a process so far. Linux only.
fn max_rss_kib(pid: Option<u32>) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The CPU time of a process's threads so far. Linux only.
fn cpu_micros(pid: Option<u32>) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid?)).ok()?;
    let of_thread = |entry: std::io::Result<std::fs::DirEntry>| {
        let times = std::fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
        times.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(threads.filter_map(of_thread).sum::<u64>() / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualifier_is_cut_from_a_function_arn() {
        let plain = "arn:aws:lambda:eu-central-1:111122223333:function:redress-recorder";
        assert_eq!(unqualified(plain), plain);
        assert_eq!(unqualified(&format!("{plain}:live")), plain);
    }
}
