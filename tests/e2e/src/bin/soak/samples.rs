//! What the kernel says of each process, every few seconds: memory, file handles, threads.
//!
//! Invariant: a process that ends while it is sampled is an error, never a shorter series.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_secs(5);

/// A process at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// Memory that is no file's, resident, in KiB.
    pub anonymous_kib: u64,
    /// All resident memory, in KiB: pages of mapped files, which the kernel takes back at will, included.
    pub resident_kib: u64,
    /// Open file handles.
    pub handles: u64,
    /// Threads.
    pub threads: u64,
}

/// The samples of every process, by its name.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<String, Vec<Sample>>);

/// Sampling that goes on.
pub struct Sampling {
    end: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<Samples>>,
}

impl Samples {
    /// Begins to look at these processes.
    pub fn begin(processes: Vec<(String, u32)>, begun: Instant) -> Sampling {
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut samples = Self::default();
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = &mut ended => return Ok(samples),
                }
                for (name, pid) in &processes {
                    let sample = Sample::of(*pid, begun.elapsed()).with_context(|| format!("{name} has ended"))?;
                    samples.0.entry(name.clone()).or_default().push(sample);
                }
            }
        });
        Sampling { end, task }
    }

    /// Looks at these processes once.
    ///
    /// # Errors
    /// A process has ended.
    pub fn once(processes: Vec<(String, u32)>) -> anyhow::Result<Self> {
        let look = |(name, pid)| Ok((name, vec![Sample::of(pid, Duration::ZERO)?]));
        Ok(Self(processes.into_iter().map(look).collect::<anyhow::Result<_>>()?))
    }

    /// Each process with its samples, in order.
    pub fn processes(&self) -> impl Iterator<Item = (&str, &[Sample])> {
        self.0.iter().map(|(name, samples)| (name.as_str(), samples.as_slice()))
    }

    /// All of it as a table.
    pub fn csv(&self) -> String {
        let mut text = String::from("process,seconds,anonymous_kib,resident_kib,handles,threads\n");
        for (name, samples) in &self.0 {
            for Sample { at, anonymous_kib, resident_kib, handles, threads } in samples {
                // Writing into a text does not fail.
                let _ = writeln!(text, "{name},{},{anonymous_kib},{resident_kib},{handles},{threads}", at.as_secs());
            }
        }
        text
    }
}

impl Sampling {
    /// Ends it: what was seen.
    ///
    /// # Errors
    /// A process has ended meanwhile.
    pub async fn end(self) -> anyhow::Result<Samples> {
        // Whoever failed listens no more, and says so below.
        let _ = self.end.send(());
        self.task.await?
    }
}

impl Sample {
    fn of(pid: u32, at: Duration) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let figure = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {name}"))?;
            Ok(figure.parse()?)
        };
        let handles = u64::try_from(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())?;
        let (anonymous_kib, resident_kib) = (field("RssAnon")?, field("VmRSS")?);
        Ok(Self { at, anonymous_kib, resident_kib, handles, threads: field("Threads")? })
    }
}

#[cfg(test)]
impl Samples {
    /// Samples that nobody took.
    pub fn of(series: impl IntoIterator<Item = (String, Vec<Sample>)>) -> Self {
        Self(series.into_iter().collect())
    }
}
