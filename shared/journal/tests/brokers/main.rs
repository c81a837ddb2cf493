//! Brokers that come and go, compact and forget, while a shard counts on them: nothing acknowledged is lost, nothing is counted twice.

#![expect(clippy::print_stdout, reason = "how long a takeover took is what a reader of the test's output wants")]
#![expect(clippy::unwrap_used, reason = "a test ends where something fails that cannot")]

mod cleaner;
mod cluster;
#[path = "../counting/mod.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod counting;
mod forgetting;
mod leaderless;
mod moves;
mod shard;

/// Whether a longer run is wanted.
fn long() -> bool {
    std::env::var("CUSTOS_TEST_LONG").is_ok_and(|value| value == "1")
}
