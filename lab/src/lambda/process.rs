//! The process of one execution environment, and whose access keys are whose.
//!
//! A process ends by itself, is killed, or goes with its [`Keeper`]. It knows nothing of invocations.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// A process, for whoever wants to know of its end or to bring it about.
#[derive(Debug)]
pub(crate) struct Process {
    /// The function whose code it runs.
    pub(crate) function: String,
    pub(crate) pid: Option<u32>,
    kill: Arc<Notify>,
    ended: watch::Receiver<Option<String>>,
}

/// Holds a process; dropping this kills it.
pub(super) struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Process {
    /// Watches over a child that was started with `kill_on_drop`.
    pub(super) fn of(function: &str, mut child: Child) -> (Arc<Self>, Keeper) {
        let (ends, ended) = watch::channel(None);
        let kill = Arc::new(Notify::new());
        let process = Self { function: function.to_owned(), pid: child.id(), kill: kill.clone(), ended };
        let watching = tokio::spawn(async move {
            let end = tokio::select! {
                end = child.wait() => end,
                () = kill.notified() => match child.kill().await {
                    Ok(()) => child.wait().await,
                    Err(error) => Err(error),
                },
            };
            let told = end.map_or_else(|error| error.to_string(), |status| format!("Runtime exited with {status}"));
            ends.send_replace(Some(told));
        });
        (Arc::new(process), Keeper(watching.abort_handle()))
    }

    pub(super) fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// How it ended, once it has.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| "the lab let it go".to_owned())
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&self) {
        self.kill.notify_one();
        self.ended().await;
    }

    /// Stops it where it is, as Lambda does with an environment, until [`Process::thaw`].
    pub(crate) async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on.
    pub(crate) async fn thaw(&self) {
        self.signal("CONT").await;
    }

    /// By the shell, whose `kill` every POSIX system has: the standard library sends SIGKILL only.
    async fn signal(&self, name: &str) {
        let Some(pid) = self.pid.filter(|_| self.is_running()) else { return };
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid.to_string()])
            .stdin(Stdio::null())
            .status()
            .await;
        if !sent.as_ref().is_ok_and(std::process::ExitStatus::success) {
            tracing::warn!(pid, name, ?sent, "a function's process did not get its signal");
        }
    }
}

/// Which process holds which access key: its own, and those that it got by assuming roles.
#[derive(Debug, Default)]
pub(crate) struct Environments {
    by_key: Mutex<HashMap<String, Arc<Process>>>,
}

impl Environments {
    pub(crate) fn holder(&self, access_key_id: &str) -> Option<Arc<Process>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).get(access_key_id).cloned()
    }

    pub(crate) fn give(&self, access_key_id: &str, process: Arc<Process>) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).insert(access_key_id.to_owned(), process);
    }
}
