//! The pace of the loops here: whose time they run on, and what they say after each turn.
//!
//! Invariant: a loop of this crate reads no clock but the one that it was given, and never sleeps in its own code: whoever drives it
//! waits as it says. So the same loops run on threads and the host's time, and all in one thread on the time of a simulation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use custos_domain::Timestamp;

/// What a loop says after one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to do at once.
    Again,
    /// Nothing to do for so long.
    Wait(Duration),
}

/// Who does what a loop lets others do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hands {
    /// Threads.
    #[default]
    Threads,
    /// The loop itself, in its own turns.
    Own,
}

/// A time that is not the host's.
pub trait Time: Send + Sync {
    /// A moment that never goes back.
    fn now(&self) -> Instant;
    /// The date, as this process believes.
    fn date(&self) -> Timestamp;
}

/// The clock of a loop.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<dyn Time>>);

impl Clock {
    /// The host's.
    pub const HOST: Self = Self(None);

    /// Another.
    #[must_use]
    pub fn of(time: Arc<dyn Time>) -> Self {
        Self(Some(time))
    }

    /// A moment that never goes back.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |time| time.now())
    }

    /// How long ago a moment was.
    #[must_use]
    pub fn since(&self, moment: Instant) -> Duration {
        self.now().saturating_duration_since(moment)
    }

    /// The date.
    #[must_use]
    pub fn date(&self) -> Timestamp {
        let Some(time) = &self.0 else {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            return Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        };
        time.date()
    }

    /// Lets so much time pass for a task.
    pub(crate) async fn sleep(&self, span: Duration) {
        match &self.0 {
            None => tokio::time::sleep(span).await,
            Some(_) => Passing { clock: self, until: self.now() + span }.await,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_none() { "the host's clock" } else { "another clock" })
    }
}

/// Ready once a moment has come; asked again at every turn of who drives it.
struct Passing<'a> {
    clock: &'a Clock,
    until: Instant,
}

impl Future for Passing<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.until {
            return Poll::Ready(());
        }
        // Nobody wakes on a time that is not the host's: it is looked at again at the next turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Turns a loop until `stop` is raised, waiting on the calling thread as it says. A long wait ends early when `stop` is raised.
pub(crate) fn turn_until<E>(stop: &AtomicBool, mut turn: impl FnMut() -> Result<Turn, E>) -> Result<(), E> {
    while !stop.load(Ordering::Acquire) {
        if let Turn::Wait(span) = turn()? {
            wait(stop, span);
        }
    }
    Ok(())
}

/// How often who waits looks at its orders.
const LOOK: Duration = Duration::from_millis(100);

/// Waits on the calling thread, and no longer than until `stop` is raised.
pub(crate) fn wait(stop: &AtomicBool, span: Duration) {
    let until = Instant::now() + span;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.load(Ordering::Acquire) {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}
