//! The worker: one process that runs every part, started, paused at a point, killed and started again.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt::REACHED;
use crate::serve::SERVING;

/// A running worker. Dropping it kills it.
pub struct Worker {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

const START: Duration = Duration::from_secs(60);

impl Worker {
    /// Starts every part with the configuration at `config`, and waits until all serve.
    ///
    /// # Errors
    /// The process cannot be started, or ends before it serves.
    pub fn start(config: &Path, pause_at: Option<&str>) -> anyhow::Result<Self> {
        let log = config.with_file_name("worker.log");
        let errors = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "all", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        if let Some(point) = pause_at {
            command.args(["--pause-at", point]);
        }
        let mut child = command.spawn().context("the worker cannot be started")?;
        let out = child.stdout.take().context("the worker has no output")?;
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let mut worker = Self { child, lines, log };
        worker.wait_line(SERVING, START)?;
        Ok(worker)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the worker stands still at the point that it was started with; `false` if it does not within `most`.
    ///
    /// # Errors
    /// It ended.
    pub fn wait_paused(&mut self, most: Duration) -> anyhow::Result<bool> {
        match self.wait_line(REACHED, most) {
            Ok(()) => Ok(true),
            Err(_) if self.child.try_wait()?.is_none() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn wait_line(&mut self, prefix: &str, most: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + most;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(prefix) => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the worker said nothing for {} s: see {}", most.as_secs(), self.log.display())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("the worker ended ({status}): see {}", self.log.display());
                }
            }
        }
    }

    /// SIGKILL, as a machine that loses its power. Gives the wait status.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// SIGTERM, and waits until it has given up everything in order.
    ///
    /// # Errors
    /// It does not end in order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the worker ended with {}: see {}", tell(status), self.log.display()) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
