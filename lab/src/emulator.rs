//! The emulators as child processes on loopback.
//!
//! A child never outlives the lab: it is killed on drop, and ends by itself when its standard input ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{LabError, Progress, venv};

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running emulator.
pub(crate) struct Emulator {
    /// `http://127.0.0.1:<port>`.
    pub(crate) url: String,
    child: Child,
}

impl Emulator {
    /// MiniStack, which presents itself to clients as the gateway on `gateway_port`.
    pub(crate) async fn ministack(
        home: &Path,
        run: &Path,
        gateway_port: u16,
        token: &str,
        progress: &Progress,
    ) -> Result<Self, LabError> {
        write(run, "amend.py", include_str!("../python/amend.py"))?;
        write(run, "organisation.py", include_str!("../python/organisation.py"))?;
        write(run, "states.py", include_str!("../python/states.py"))?;
        let script = write(run, "base.py", include_str!("../python/base.py"))?;
        let port = free_port()?;
        let mut command = Command::new(prepared(home, &venv::MINISTACK, progress).await?);
        command
            .arg(&script)
            .env("AUTH", "true")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", gateway_port.to_string())
            .env("LAB_BASE_PORT", port.to_string())
            .env("LAB_TOKEN", token)
            .env("LOG_LEVEL", "WARNING")
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0");
        Self::start("ministack", command, port, run).await
    }

    /// moto, for the resource services; any account by the header `x-moto-account-id`.
    pub(crate) async fn moto(home: &Path, run: &Path, progress: &Progress) -> Result<Self, LabError> {
        let script = write(run, "moto_child.py", include_str!("../python/moto_child.py"))?;
        let port = free_port()?;
        let mut command = Command::new(prepared(home, &venv::MOTO, progress).await?);
        command.arg(&script).args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        Self::start("moto", command, port, run).await
    }

    async fn start(name: &'static str, mut command: Command, port: u16, run: &Path) -> Result<Self, LabError> {
        let log_path = run.join(format!("{name}.log"));
        let log = fs::File::create(&log_path).map_err(|source| LabError::file(&log_path, source))?;
        let errors = log.try_clone().map_err(|source| LabError::file(&log_path, source))?;
        let child = command
            .current_dir(run)
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| LabError::file(Path::new(name), source))?;
        let mut emulator = Self { url: format!("http://127.0.0.1:{port}"), child };
        emulator.wait_until_it_listens(name, port, &log_path).await?;
        Ok(emulator)
    }

    async fn wait_until_it_listens(&mut self, name: &'static str, port: u16, log: &Path) -> Result<(), LabError> {
        let started = Instant::now();
        loop {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(());
            }
            let exited = self.child.try_wait().ok().flatten();
            if exited.is_some() || started.elapsed() > START_LIMIT {
                return Err(LabError::Emulator { name, log: log.to_owned(), tail: tail(log) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the process and waits for it.
    pub(crate) async fn stop(&mut self) {
        if self.child.kill().await.is_err() {
            tracing::debug!("an emulator had ended before it was stopped");
        }
    }
}

async fn prepared(home: &Path, wanted: &'static venv::Requirements, progress: &Progress) -> Result<PathBuf, LabError> {
    let (home, progress) = (home.to_owned(), progress.clone());
    match tokio::task::spawn_blocking(move || venv::python(&home, wanted, &progress)).await {
        Ok(python) => python,
        Err(error) => {
            Err(LabError::Venv { what: "prepare the emulators", advice: "try again", output: error.to_string() })
        }
    }
}

fn write(run: &Path, name: &str, text: &str) -> Result<PathBuf, LabError> {
    let path = run.join(name);
    fs::write(&path, text).map_err(|source| LabError::file(&path, source))?;
    Ok(path)
}

fn free_port() -> Result<u16, LabError> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0));
    listener
        .and_then(|bound| bound.local_addr())
        .map(|address| address.port())
        .map_err(|source| LabError::Port { port: 0, source })
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
