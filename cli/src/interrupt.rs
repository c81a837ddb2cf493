//! Fault injection: a process that was started with `--pause-at POINT` announces on standard output that it has reached the point, and
//! stands still there until it is killed. A process that was started with `--supervised` is killed when its standard input ends.
//! Without the options nothing here does anything.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use custos_runtime::shard::Interrupt;
use nix::sys::signal::{Signal, raise};

static POINT: OnceLock<String> = OnceLock::new();

/// What a paused process prints before the point's name.
pub const REACHED: &str = "reached ";

/// Arms the pause. Only the first call counts.
pub fn arm(point: String) {
    // A second call changes nothing, which is what is promised.
    drop(POINT.set(point));
}

/// What a shard calls at its points; nothing when no pause is armed.
#[must_use]
pub fn armed() -> Option<Interrupt> {
    POINT.get().map(|_| -> Interrupt { Arc::new(pass) })
}

/// Passes `point`, or stands still there for ever.
pub fn pass(point: &str) {
    if POINT.get().is_some_and(|armed| armed == point) {
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
