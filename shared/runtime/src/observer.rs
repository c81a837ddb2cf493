//! Looks at the shards of a host from beside them: how far each lags behind its inbox, and what its gauges show.
//!
//! Invariant: it has a thread of its own, because asking the log where an inbox ends may take as long as the log is away, and a host
//! that waits for that would lose its membership.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custos_journal::Journal;
use custos_messages::{Machine, ShardName, Topic};

use crate::metrics::Metrics;
use crate::ops::Desk;
use crate::shard::chain;

/// How often the shards are looked at.
const EVERY: Duration = Duration::from_secs(5);
/// How often the order to stop is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The looking thread; ends when dropped.
pub(crate) struct Observer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Begins to look at the shards of `machine` that `desk` shows.
    pub(crate) fn start(journal: Arc<dyn Journal>, machine: Machine, desk: Desk, metrics: Metrics) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name(format!("observer {}", machine.name())).spawn(move || {
            let (mut last, mut shown) = (None::<Instant>, Vec::new());
            while !seen.load(Ordering::Acquire) {
                if last.is_none_or(|last| last.elapsed() >= EVERY) {
                    shown = look(&*journal, machine, &desk, &metrics, &shown);
                    last = Some(Instant::now());
                }
                std::thread::sleep(LOOK);
            }
            shown.into_iter().for_each(|shard| metrics.shard(shard).left());
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks at shards panicked");
        }
    }
}

/// Looks once; `before` are the shards that were there the last time, the answer those that are there now.
fn look(journal: &dyn Journal, machine: Machine, desk: &Desk, metrics: &Metrics, before: &[ShardName]) -> Vec<ShardName> {
    let shown = desk.shown(machine);
    for (shard, progress) in &shown {
        if let Some(place) = progress.standing().place {
            match journal.bounds(Topic::Inbox(machine), shard.partition) {
                Ok((_, end)) => progress.lags(end.saturating_sub(place.next)),
                Err(error) => tracing::debug!(%shard, error = %chain(&error), "the end of an inbox is not known"),
            }
        }
        metrics.shard(*shard).stands(&progress.standing());
    }
    let now: Vec<ShardName> = shown.into_iter().map(|(shard, _)| shard).collect();
    // What a gauge showed last would be taken for what is now.
    before.iter().filter(|shard| !now.contains(shard)).for_each(|shard| metrics.shard(*shard).left());
    now
}
