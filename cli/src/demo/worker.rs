//! The worker: one process that runs every part, started, paused at a point, killed and started again.
//!
//! Invariant: no worker outlives the demonstration. It is killed when dropped, and ends by itself when its standard input does, which
//! is so even when the demonstration is killed.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::interrupt::REACHED;
use crate::serve::SERVING;

/// A running worker.
pub struct Worker {
    child: Child,
    id: u32,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

/// How long a worker may take until every part serves.
const START: Duration = Duration::from_secs(60);
/// How long a worker may take to give up everything in order.
const DRAIN: Duration = Duration::from_secs(30);

impl Worker {
    /// Starts every part with the configuration at `config`, and waits until all serve.
    ///
    /// # Errors
    /// The process cannot be started, or ends before it serves.
    pub async fn start(config: &Path, pause_at: Option<&str>) -> anyhow::Result<Self> {
        let log = config.with_file_name("worker.log");
        let errors = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "all", "--supervised", "--config"]).arg(config);
        if let Some(point) = pause_at {
            command.args(["--pause-at", point]);
        }
        // A group of its own: Ctrl-C reaches the demonstration alone, which then stops the worker in order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true).process_group(0);
        let mut child = command.spawn().context("the worker cannot be started")?;
        let out = child.stdout.take().context("the worker has no output")?;
        let id = child.id().context("the worker has no process")?;
        let mut worker = Self { child, id, lines: BufReader::new(out).lines(), log };
        worker.wait_line(SERVING, START).await?;
        Ok(worker)
    }

    /// Its process id.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the worker stands still at the point that it was started with; `false` if it does not within `most`.
    ///
    /// # Errors
    /// It ended.
    pub async fn wait_paused(&mut self, most: Duration) -> anyhow::Result<bool> {
        match self.wait_line(REACHED, most).await {
            Ok(()) => Ok(true),
            Err(_) if self.child.try_wait()?.is_none() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn wait_line(&mut self, prefix: &str, most: Duration) -> anyhow::Result<()> {
        let lines = &mut self.lines;
        let said = timeout(most, async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with(prefix) {
                    return std::io::Result::Ok(true);
                }
            }
            Ok(false)
        });
        match said.await.map(|said| said.unwrap_or(false)) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let status = self.child.wait().await?;
                bail!("the worker ended ({}): see {}", tell(status), self.log.display())
            }
            Err(_) => bail!("the worker said nothing for {} s: see {}", most.as_secs(), self.log.display()),
        }
    }

    /// SIGKILL, as a machine that loses its power. Gives the wait status.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.child.start_kill()?;
        Ok(self.child.wait().await?)
    }

    /// SIGTERM, and waits until it has given up everything in order.
    ///
    /// # Errors
    /// It does not end in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.id)?), Signal::SIGTERM)?;
        // What waits for the end of its standard input must not take it for the end of the demonstration.
        let _input = self.child.stdin.take();
        let log = self.log.display().to_string();
        let late = |_| anyhow!("the worker did not end within {} s: see {log}", DRAIN.as_secs());
        let status = timeout(DRAIN, self.child.wait()).await.map_err(late)??;
        if status.success() { Ok(()) } else { bail!("the worker ended with {}: see {}", tell(status), self.log.display()) }
    }
}

/// A wait status in words.
pub fn tell(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "unknown".to_owned(),
    }
}
