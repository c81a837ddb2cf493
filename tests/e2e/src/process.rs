//! A process of the product: started, waited for, told to stop, killed; its output goes to files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::wait::{LONG, until};

/// How long a process may take to give up what it holds.
const DRAIN: Duration = Duration::from_secs(30);

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// Standard output, if it ended well.
    ///
    /// # Errors
    /// It did not; with what it said.
    pub fn success(self) -> anyhow::Result<String> {
        match self.code {
            Some(0) => Ok(self.out),
            code => bail!("exit code {code:?}\n{}{}", self.out, self.err),
        }
    }
}

impl Process {
    /// Starts `program` with `arguments` in `folder`. Its output goes to `<name>.out` and `<name>.err` there, added to what a
    /// former process of the name has said.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(name: &str, folder: &Path, program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let out = folder.join(format!("{name}.out"));
        let err = folder.join(format!("{name}.err"));
        // What it says is read from the beginning of this process, so an old file makes way.
        let file = |path: &Path| -> anyhow::Result<File> {
            if path.exists() {
                std::fs::rename(path, fresh(path))?;
            }
            Ok(File::create(path)?)
        };
        let (to_out, to_err) = (file(&out)?, file(&err)?);
        let child = command(folder, program, arguments)
            .stdout(to_out)
            .stderr(to_err)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        Ok(Self { name: name.to_owned(), child, out, err })
    }

    /// Waits until it has printed a line that begins with `words`, and gives the line.
    ///
    /// # Errors
    /// It ended before, or says no such thing in time.
    pub async fn says(&mut self, words: &str) -> anyhow::Result<String> {
        let what = format!("{} says `{words}`", self.name);
        for _ in 0..2 {
            let (out, child) = (&self.out, &mut self.child);
            let said = || std::fs::read_to_string(out).ok()?.lines().find(|line| line.starts_with(words)).map(str::to_owned);
            let mut ended = None;
            let line = until(&what, LONG, || {
                let line = said();
                ended = child.try_wait().ok().flatten();
                let over = ended.is_some();
                async move { if line.is_some() || over { Ok(Some(line)) } else { Ok(None) } }
            })
            .await
            .with_context(|| self.last_words())?;
            // It may have said it just before it ended.
            match (line.or_else(&said), ended) {
                (Some(line), _) => return Ok(line),
                (None, Some(status)) => bail!("{} ended: {status}\n{}", self.name, self.last_words()),
                (None, None) => {}
            }
        }
        bail!("{what}: it ended\n{}", self.last_words())
    }

    /// The line that begins with `words`, if it has printed one.
    #[must_use]
    pub fn said(&self, words: &str) -> Option<String> {
        std::fs::read_to_string(&self.out).ok()?.lines().find(|line| line.starts_with(words)).map(str::to_owned)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the kernel calls it; none once it has ended and was waited for.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has said on standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// The last of what it has said on standard error.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = self.errors();
        let lines: Vec<&str> = said.lines().rev().take(12).collect();
        lines.into_iter().rev().map(|line| format!("    {line}\n")).collect()
    }

    /// How it ended, if it has ended by itself.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// It does not stop in time.
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        if let Some(pid) = self.pid()? {
            kill(pid, Signal::SIGTERM)?;
        }
        match tokio::time::timeout(DRAIN, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("{} does not stop within {DRAIN:?}\n{}", self.name, self.last_words()),
        }
    }

    /// Stops the whole process where it stands, as a machine that hangs does; [`Self::thaw`] lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on as if nothing had been.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid()?.with_context(|| format!("{} has ended\n{}", self.name, self.last_words()))?;
        Ok(kill(pid, signal)?)
    }

    /// Ends it as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.child.start_kill()?;
        Ok(self.child.wait().await?)
    }

    fn pid(&self) -> anyhow::Result<Option<Pid>> {
        self.child.id().map(|id| Ok(Pid::from_raw(i32::try_from(id)?))).transpose()
    }
}

/// No command takes longer, an audit of everything included: what hangs is killed.
const COMMAND_WITHIN: Duration = Duration::from_secs(600);

/// Runs a command to its end.
///
/// # Errors
/// It does not start, or does not end in time.
pub(crate) async fn run(folder: &Path, program: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
    let ended = command(folder, program, arguments).kill_on_drop(true).output();
    let in_time = tokio::time::timeout(COMMAND_WITHIN, ended).await;
    let ended = in_time.with_context(|| format!("custos {arguments:?} does not end within {COMMAND_WITHIN:?}"))?;
    let output = ended.with_context(|| format!("{} does not start", program.display()))?;
    Ok(Finished {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// With an environment of its own: a variable that the product does not know would be an error.
fn command(folder: &Path, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    for name in ["PATH", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A free name for what a former process has said.
fn fresh(path: &Path) -> PathBuf {
    let name = |n: u32| path.with_extension(format!("{n}.{}", path.extension().unwrap_or_default().to_string_lossy()));
    (1..).map(name).find(|candidate| !candidate.exists()).unwrap_or_else(|| name(0))
}
