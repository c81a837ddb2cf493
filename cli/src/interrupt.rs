//! Fault injection: a process that was started with `--pause-at POINT` announces on standard output that it has reached the point, and
//! stands still there until it is killed; `POINT@N` is the N-th time that it comes there. A process that was started with `--supervised` is killed when its standard input ends.
//! Without the options nothing here does anything.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use custos_runtime::shard::Interrupt;
use nix::sys::signal::{Signal, raise};

static PAUSE: OnceLock<Pause> = OnceLock::new();

/// What a paused process prints before the point's name.
pub const REACHED: &str = "reached ";

/// Where a process stands still, and how often it still passes there before.
struct Pause {
    point: String,
    passes: AtomicU32,
}

impl Pause {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (point, time) = match text.split_once('@') {
            Some((point, time)) => (point, time.parse::<u32>()?),
            None => (text, 1),
        };
        let passes = time.checked_sub(1).ok_or_else(|| anyhow::anyhow!("`{text}`: the first time is 1"))?;
        Ok(Self { point: point.to_owned(), passes: AtomicU32::new(passes) })
    }

    /// Whether whoever comes to `point` now stands still there. Once somebody does, everybody who comes there does.
    fn holds(&self, point: &str) -> bool {
        self.point == point
            && self.passes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |passes| passes.checked_sub(1)).is_err()
    }
}

/// Arms the pause. Only the first call counts.
///
/// # Errors
/// `text` is neither `POINT` nor `POINT@N`.
pub fn arm(text: &str) -> anyhow::Result<()> {
    // A second call changes nothing, which is what is promised.
    drop(PAUSE.set(Pause::parse(text)?));
    Ok(())
}

/// What a shard calls at its points; nothing when no pause is armed.
#[must_use]
pub fn armed() -> Option<Interrupt> {
    PAUSE.get().map(|_| -> Interrupt { Arc::new(pass) })
}

/// Passes `point`, or stands still there for ever.
pub fn pass(point: &str) {
    if PAUSE.get().is_some_and(|pause| pause.holds(point)) {
        let mut out = std::io::stdout();
        // If nobody reads, nobody waits for the pause; it still stands.
        let _ = writeln!(out, "{REACHED}{point}").and_then(|()| out.flush());
        loop {
            std::thread::park();
        }
    }
}

/// From now on this process is killed, as by a loss of power, when its standard input ends: a process that stands still at a point
/// gives nothing up in order, and whoever was to kill it may be gone.
pub fn end_with_input() {
    std::thread::spawn(|| {
        let mut input = std::io::stdin();
        while matches!(input.read(&mut [0; 64]), Ok(1..)) {}
        // The signal cannot be refused, so nothing comes after it.
        let _ = raise(Signal::SIGKILL);
    });
}

#[cfg(test)]
mod tests {
    use super::Pause;

    #[test]
    fn a_pause_stands_at_the_time_that_it_names_and_at_every_later_one() {
        let pause = Pause::parse("settle@3").unwrap();
        let came = ["settle", "pay", "settle", "settle", "settle"].map(|point| pause.holds(point));
        assert_eq!(came, [false, false, false, true, true]);
        assert!(Pause::parse("open-transaction:settle").unwrap().holds("open-transaction:settle"));
        assert!(Pause::parse("settle@0").is_err() && Pause::parse("settle@often").is_err());
    }
}
