//! Mines at intervals on a thread of its own, so that a chain in process needs no runtime.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

#[derive(Debug, Default)]
struct Pace {
    every: Option<Duration>,
    changes: u64,
    closed: bool,
}

/// When blocks are mined without being asked for.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    pace: Mutex<Pace>,
    changed: Condvar,
}

impl Pacer {
    /// Starts the thread. `tick` mines one block and says whether there is still a chain.
    pub(crate) fn start(self: &Arc<Self>, tick: impl Fn() -> bool + Send + 'static) -> io::Result<()> {
        let pacer = Arc::clone(self);
        thread::Builder::new().name("devchain-miner".to_owned()).spawn(move || while pacer.wait() && tick() {})?;
        Ok(())
    }

    /// Some(zero): a block for every accepted transaction. Some(interval): a block at every interval. None: only when asked.
    pub(crate) fn set(&self, every: Option<Duration>) {
        let mut pace = self.lock();
        pace.every = every;
        pace.changes = pace.changes.wrapping_add(1);
        self.changed.notify_all();
    }

    pub(crate) fn is_instant(&self) -> bool {
        self.lock().every == Some(Duration::ZERO)
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    // Waits until a block is due: true; or until the pacer is closed: false.
    fn wait(&self) -> bool {
        let mut pace = self.lock();
        loop {
            if pace.closed {
                return false;
            }
            let changes = pace.changes;
            pace = match pace.every.filter(|every| !every.is_zero()) {
                None => self.changed.wait(pace).unwrap_or_else(PoisonError::into_inner),
                Some(every) => {
                    let woken = |pace: &mut Pace| !pace.closed && pace.changes == changes;
                    let waited = self.changed.wait_timeout_while(pace, every, woken);
                    let (pace, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() {
                        return !pace.closed;
                    }
                    pace
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
